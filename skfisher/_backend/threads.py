"""Threads of the linear algebra library, and warnings where several threads may raise them."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any

from threadpoolctl import ThreadpoolController

__all__ = ["blas_libraries", "single_blas_thread", "without_warnings"]

_LOCK = threading.Lock()
_OPEN: dict[type[Warning], tuple[int, ExitStack]] = {}


@cache
def blas_libraries() -> Any:
    """The BLAS libraries of this process; finding them takes milliseconds, so it is done once."""
    return ThreadpoolController().select(user_api="blas")


def single_blas_thread() -> Any:
    """Context in which products and solves run on one thread each."""
    return blas_libraries().limit(limits=1)


@contextmanager
def without_warnings(category: type[Warning]) -> Iterator[None]:
    """Context without warnings of a category, in any number of threads at once.

    The filters of `warnings` belong to the process: the first to enter sets them, the last to
    leave restores them.
    """
    with _LOCK:
        entered, stack = _OPEN.get(category, (0, ExitStack()))
        if not entered:
            stack.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore", category)
        _OPEN[category] = (entered + 1, stack)
    try:
        yield
    finally:
        with _LOCK:
            entered, stack = _OPEN.pop(category)
            if entered > 1:
                _OPEN[category] = (entered - 1, stack)
            else:
                stack.close()
