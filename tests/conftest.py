"""Array libraries, read-only NumPy among them, and one deterministic Hypothesis profile."""

import os

# Before SciPy is first imported; unset, scikit-learn skips its array API checks and SciPy returns
# NumPy arrays for tensors.
os.environ.setdefault("SCIPY_ARRAY_API", "1")

import importlib.util
from dataclasses import dataclass
from typing import Any

import array_api_strict
import numpy as np
import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "default", deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("ci", settings.get_profile("default"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")


@dataclass(frozen=True)
class Library:
    """An array library with a device, hostile ones among them; call it to make an array."""

    name: str
    xp: Any
    device: Any = None
    writeable: bool = True

    def __call__(self, values: Any, dtype: str = "float64") -> Any:
        values = np.array(values, dtype=dtype)
        if self.xp is np:
            values.flags.writeable = self.writeable
            return values
        return self.xp.asarray(values, dtype=getattr(self.xp, dtype), device=self.device)

    def owns(self, array: Any, dtype: str = "float64") -> bool:
        """Whether `array` is of this library, device and dtype."""
        return type(array) is type(self([0.0], dtype)) and (
            array.dtype == getattr(self.xp, dtype)
            and (self.device is None or array.device == self.device)
        )

    def __repr__(self) -> str:
        return self.name


LIBRARIES = [
    Library("numpy", np),
    Library("numpy-read-only", np, writeable=False),
    Library("strict", array_api_strict, array_api_strict.Device("CPU_DEVICE")),
    Library("strict-device1", array_api_strict, array_api_strict.Device("device1")),
]
if importlib.util.find_spec("torch"):
    import torch

    LIBRARIES.append(Library("torch", torch, torch.device("cpu")))


@pytest.fixture(params=LIBRARIES, ids=repr)
def library(request: pytest.FixtureRequest) -> Library:
    """Every array library: NumPy, NumPy read-only, strict on two devices, torch if installed."""
    return request.param


@pytest.fixture
def rng() -> np.random.Generator:
    """A generator with a fixed seed."""
    return np.random.default_rng(20260402)
