"""The array libraries that the tests run over, made from the table of what is supported."""

import importlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from skfisher._backend.support import CAPABILITIES, SUPPORT, why_not_here

__all__ = ["LIBRARIES", "Library", "supporting"]


@dataclass(frozen=True)
class Library:
    """An array library with a device, hostile ones among them; call it to make an array."""

    name: str
    xp: Any
    device: Any = None
    writeable: bool = True

    def __call__(self, values: Any, dtype: str = "float64") -> Any:
        values = np.array(values, dtype=None if dtype == "bfloat16" else dtype)
        if self.xp is np:
            values.flags.writeable = self.writeable
            return values
        where = {} if self.device is None else {"device": self.device}
        return self.xp.asarray(values, dtype=getattr(self.xp, dtype), **where)

    def owns(self, array: Any, dtype: str = "float64") -> bool:
        """Whether `array` is of this library, device and dtype."""
        return type(array) is type(self([0.0], dtype)) and (
            array.dtype == getattr(self.xp, dtype)
            and (self.device is None or array.device == self.device)
        )

    def __repr__(self) -> str:
        return self.name


def _library(name: str) -> Library:
    """The library of a row of the table, on its device."""
    if name == "numpy":
        return Library(name, np)
    if name.startswith("strict"):
        import array_api_strict

        device = "device1" if name == "strict-device1" else "CPU_DEVICE"
        return Library(name, array_api_strict, array_api_strict.Device(device))
    if name.startswith("torch"):
        import torch

        return Library(name, torch, torch.device("cuda:0" if name == "torch-cuda" else "cpu"))
    if name == "jax":
        import jax

        jax.config.update("jax_enable_x64", True)
        return Library(name, importlib.import_module("jax.numpy"))
    return Library(name, importlib.import_module(name))


LIBRARIES = {
    support.name: _library(support.name) for support in SUPPORT if not why_not_here(support)
}
_READ_ONLY = Library("numpy-read-only", np, writeable=False)


def supporting(capability: str, *, without: tuple[str, ...] = ()) -> list[Any]:
    """Parameters of a test: libraries with a capability, and one skipped for all that are not here.

    NumPy comes a second time, read-only. JAX is marked slow: it compiles for every new shape.
    """
    assert capability in CAPABILITIES
    wanted = [s for s in SUPPORT if s.capabilities[capability] and s.name not in without]
    here = [LIBRARIES[s.name] for s in wanted if s.name in LIBRARIES]
    if any(library.name == "numpy" for library in here) and _READ_ONLY.name not in without:
        here.insert(1, _READ_ONLY)
    slow = {"jax": [pytest.mark.slow]}
    found = [pytest.param(x, id=x.name, marks=slow.get(x.name, [])) for x in here]
    reasons = [f"{s.name}: {why_not_here(s)}" for s in wanted if s.name not in LIBRARIES]
    if reasons:
        skip = pytest.mark.skip(reason="; ".join(reasons))
        found.append(pytest.param(None, id="not-here", marks=skip))
    return found
