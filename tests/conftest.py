"""Array libraries as fixtures, and one deterministic Hypothesis profile."""

import os

# Before SciPy is first imported; unset, scikit-learn skips its array API checks and SciPy returns
# NumPy arrays for tensors.
os.environ.setdefault("SCIPY_ARRAY_API", "1")

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from libraries import Library, supporting

settings.register_profile(
    "default", deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("ci", settings.get_profile("default"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")


@pytest.fixture(params=supporting("functions"))
def library(request: pytest.FixtureRequest) -> Library:
    """Every array library that functions take, NumPy read-only among them."""
    return request.param


@pytest.fixture(params=supporting("estimators", without=("strict",)))
def home(request: pytest.FixtureRequest) -> Library:
    """Every array library that estimators take, the strict one on its second device only."""
    return request.param


@pytest.fixture
def rng() -> np.random.Generator:
    """A generator with a fixed seed."""
    return np.random.default_rng(20260402)
