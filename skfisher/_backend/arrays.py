"""Namespace, device and dtype of an array, and rows in chunks within a memory budget."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

import array_api_compat.numpy as numpy_namespace
import numpy as np
from array_api_compat import (
    array_namespace,
    device,
    is_array_api_obj,
    is_numpy_array,
    is_torch_array,
    to_device,
)

__all__ = [
    "MEMORY_BUDGET",
    "Array",
    "cast_like",
    "index_like",
    "is_numpy",
    "like",
    "namespace",
    "row_chunks",
    "take_rows",
    "to_numpy",
]

Array: TypeAlias = Any
"""An array of any library that follows the array API standard."""

MEMORY_BUDGET = 256 * 2**20
"""Bytes that one call may hold in temporary arrays unless told otherwise."""


def namespace(*arrays: Array) -> Any:
    """Array API namespace shared by `arrays`."""
    if all(type(x) is np.ndarray for x in arrays):
        return numpy_namespace  # what array_namespace finds too, at a tenth of its time
    return array_namespace(*arrays)


def is_numpy(x: Any) -> bool:
    """Whether `x` is a NumPy array."""
    return bool(is_numpy_array(x))


def to_numpy(x: Any) -> Any:
    """`x` as a NumPy array on the host, without gradient history; a view where possible."""
    if is_numpy_array(x):
        return x
    if is_torch_array(x):
        return x.detach().cpu().numpy()
    if is_array_api_obj(x):
        try:
            return np.from_dlpack(x)
        except (BufferError, RuntimeError, TypeError, ValueError):
            return np.from_dlpack(to_device(x, "cpu"))
    return np.asarray(x)


def like(values: Any, reference: Array) -> Array:
    """`values` in the library, dtype and device of `reference`."""
    xp, host = namespace(reference), to_numpy(values)
    if is_torch_array(reference) and not host.flags.writeable:
        host = host.copy()  # torch warns of memory that it may not write to
    return xp.asarray(host, dtype=reference.dtype, device=device(reference))


def cast_like(x: Array, reference: Array) -> Array:
    """`x` in the library and on the device of `reference`, floating point in its dtype too."""
    own = namespace(x)
    if type(x) is type(reference) and x.dtype == reference.dtype and device(x) == device(reference):
        return x
    if own.isdtype(x.dtype, "bool"):
        flags = index_like(own.astype(x, own.int64), reference)
        return flags != 0
    return like(x, reference) if own.isdtype(x.dtype, "real floating") else index_like(x, reference)


def index_like(values: Any, reference: Array) -> Array:
    """Integer `values` as an index array in the library and on the device of `reference`."""
    xp = namespace(reference)
    host = np.array(to_numpy(values), dtype=np.int64)
    return xp.asarray(host, device=device(reference))


def take_rows(X: Array, rows: Any) -> Array:
    """The rows of `X` at integer positions, given as NumPy vector or list, in that order."""
    return namespace(X).take(X, index_like(rows, X), axis=0)


def row_chunks(
    n_rows: int, bytes_per_row: float, memory_budget: int = MEMORY_BUDGET
) -> Iterator[slice]:
    """Consecutive slices over `n_rows` rows, each within `memory_budget` bytes of temporaries."""
    size = max(1, int(memory_budget // max(bytes_per_row, 1.0)))
    for start in range(0, n_rows, size):
        yield slice(start, min(start + size, n_rows))
