"""What works with which array library on which device: the table behind skip marks and docs."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["CAPABILITIES", "SUPPORT", "Support", "why_not_here"]

CAPABILITIES: Mapping[str, str] = {
    "functions": "exact scores, bounds, geometry and noise conventions on its arrays",
    "estimators": "`fit` and `score` of the three estimators, results in library and device of X",
    "float32": "float32 in, float32 out, computed in float64",
    "half": "float16 or bfloat16 in, float32 out, computed in float64",
    "moved": "NumPy input computed there with `device=...`, results in NumPy",
    "network": "`score_model='network'`, which trains in torch",
}
"""What a library may be capable of, in the order of the table."""


@dataclass(frozen=True)
class Support:
    """One array library on one device.

    Attributes
    ----------
    name : str
        Short name; also the name of the library's tests.
    library, device : str
        As a reader knows them.
    requires : str or None
        Module to be installed.
    capabilities : mapping of str to bool
        One entry for each of `CAPABILITIES`.
    tested : str
        Where tests run: "always", "where installed" or "where present".
    note : str
        What to know, what is refused, and why.
    """

    name: str
    library: str
    device: str
    requires: str | None
    capabilities: Mapping[str, bool]
    tested: str
    note: str = ""


def _all_but(*missing: str) -> dict[str, bool]:
    return {name: name not in missing for name in CAPABILITIES}


SUPPORT = (
    Support("numpy", "NumPy", "CPU", None, _all_but("moved"), "always",
            "Lists, frames and read-only arrays too. The kernel score uses all threads of BLAS."),
    Support("torch", "PyTorch", "CPU", "torch", _all_but(), "where installed",
            "Gradient history is left behind; quantized tensors become floats. Sparse, complex and "
            "meta tensors are refused."),
    Support("torch-cuda", "PyTorch", "CUDA", "torch", _all_but(), "where present",
            "Mixtures are fitted, and equal rows found, on the host. Not yet run on a device by "
            "us."),
    Support("strict", "array-api-strict", "CPU", "array_api_strict", _all_but("half", "moved"),
            "where installed", "The standard and nothing more; has no half precision."),
    Support("strict-device1", "array-api-strict", "device1", "array_api_strict",
            _all_but("half", "moved"), "where installed",
            "The stand-in for a GPU: refuses every operation between devices."),
    Support("jax", "JAX", "CPU, GPU", "jax", _all_but("moved"), "where installed",
            "Needs jax_enable_x64, and is refused without. Every new shape is compiled, so a first "
            "fit takes seconds."),
    Support("cupy", "CuPy", "CUDA", "cupy", _all_but("moved"), "where present",
            "Written to the standard, and not yet run on a device by us."),
)  # fmt: skip
"""The table, one row for each library and device."""


def why_not_here(support: Support) -> str:
    """Why this library or device cannot be used in this process; empty where it can.

    Examples
    --------
    >>> why_not_here(SUPPORT[0])
    ''
    """
    if support.requires is None:
        return ""
    if not importlib.util.find_spec(support.requires):
        return f"{support.requires} is not installed"
    if support.name == "torch-cuda":
        import torch

        return "" if torch.cuda.is_available() else "torch sees no CUDA device"
    if support.name == "cupy":
        return _no_cupy_device()
    return ""


def _no_cupy_device() -> str:
    cupy: Any = importlib.import_module("cupy")
    try:
        return "" if cupy.cuda.runtime.getDeviceCount() else "CuPy sees no CUDA device"
    except cupy.cuda.runtime.CUDARuntimeError as error:
        return f"CuPy sees no CUDA device ({error})"
