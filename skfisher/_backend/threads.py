"""Threads of the linear algebra library."""

from __future__ import annotations

from functools import cache
from typing import Any

from threadpoolctl import ThreadpoolController

__all__ = ["blas_libraries", "single_blas_thread"]


@cache
def blas_libraries() -> Any:
    """The BLAS libraries of this process; finding them takes milliseconds, so it is done once."""
    return ThreadpoolController().select(user_api="blas")


def single_blas_thread() -> Any:
    """Context in which products and solves run on one thread each."""
    return blas_libraries().limit(limits=1)
