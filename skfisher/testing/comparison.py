"""Strict comparison of arrays."""

from __future__ import annotations

import math

from skfisher._backend.arrays import Array, namespace, to_numpy

__all__ = ["assert_close"]


def assert_close(
    actual: Array, desired: Array, *, rtol: float, atol: float = 0.0, err_msg: str = ""
) -> None:
    """Assert that two arrays agree in library, dtype, device, shape and, closely, in value.

    Parameters
    ----------
    actual, desired : array
        Of any array API library.
    rtol, atol : float
        Every |actual - desired| must be at most atol + rtol |desired|. NaN agrees with NaN, an
        infinity with itself.
    err_msg : str
        Put before the message.

    Raises
    ------
    AssertionError
        Naming what differs: for values, how many, and the worst entry.

    Examples
    --------
    >>> import numpy as np
    >>> assert_close(np.asarray([1.0, 2.0]), np.asarray([1.0, 2.0 + 1e-12]), rtol=1e-10)
    >>> assert_close(np.ones(2, np.float32), np.ones(2), rtol=1.0)
    Traceback (most recent call last):
    ...
    AssertionError: dtype: float32 is not float64
    """
    prefix = f"{err_msg}: " if err_msg else ""
    kinds = {
        "library": [namespace(a).__name__ for a in (actual, desired)],
        "dtype": [a.dtype for a in (actual, desired)],
        "device": [getattr(a, "device", "cpu") for a in (actual, desired)],
        "shape": [tuple(a.shape) for a in (actual, desired)],
    }
    for kind, (a, b) in kinds.items():
        if a != b:
            raise AssertionError(f"{prefix}{kind}: {a} is not {b}")
    a, b = to_numpy(actual), to_numpy(desired)
    xp = namespace(a)
    a, b = xp.astype(a, xp.float64), xp.astype(b, xp.float64)
    same = (a == b) | (xp.isnan(a) & xp.isnan(b))
    # where both are equal, infinite ones too, nothing is subtracted
    error = xp.abs(xp.where(same, 0.0, a) - xp.where(same, 0.0, b))
    limit = atol + rtol * xp.abs(xp.where(xp.isfinite(b), b, 0.0))
    wrong = ~same & ~(error <= limit)
    count = int(xp.count_nonzero(wrong))
    if count:
        excess = xp.where(wrong, xp.where(xp.isnan(error), math.inf, error - limit), -math.inf)
        flat = int(xp.argmax(xp.reshape(excess, (-1,))))
        index: list[int] = []
        rest = flat
        for size in reversed(a.shape):
            rest, i = divmod(rest, size)
            index.insert(0, i)
        x, y = float(xp.reshape(a, (-1,))[flat]), float(xp.reshape(b, (-1,))[flat])
        raise AssertionError(
            f"{prefix}{count} of {max(math.prod(a.shape), 1)} values differ by more than "
            f"rtol={rtol:g}, atol={atol:g}; the worst at {tuple(index)}: {x!r} is not {y!r} "
            f"(difference {abs(x - y):.3g})"
        )
