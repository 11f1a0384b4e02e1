"""Threads of the linear algebra library."""

from __future__ import annotations

from functools import cache
from typing import Any

from threadpoolctl import ThreadpoolController

__all__ = ["single_blas_thread"]


@cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()  # finding the libraries takes milliseconds


def single_blas_thread() -> Any:
    """Context in which products and solves run on one thread each."""
    return _controller().limit(limits=1, user_api="blas")
