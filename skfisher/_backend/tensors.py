"""Between arrays of any library and torch tensors."""

from __future__ import annotations

from typing import Any

from array_api_compat import is_torch_array

from skfisher._backend.arrays import Array, like, to_numpy

__all__ = ["from_tensor", "to_tensor"]


def to_tensor(x: Array, device: Any = None, dtype: Any = None) -> Any:
    """`x` as a torch tensor without gradient history, on a device and in a dtype.

    Host arrays are copied where torch may not write to their memory.
    """
    import torch

    if is_torch_array(x):
        return x.detach().to(device=device, dtype=dtype)
    host = to_numpy(x)
    tensor = torch.from_numpy(host if host.flags.writeable else host.copy())
    return tensor.to(device=device, dtype=dtype)


def from_tensor(tensor: Any, reference: Array) -> Array:
    """`tensor` in the library, dtype and device of `reference`."""
    tensor = tensor.detach()
    if is_torch_array(reference):
        return tensor.to(device=reference.device, dtype=reference.dtype)
    half = tensor.is_floating_point() and tensor.element_size() < 4  # NumPy has no bfloat16
    return like(to_numpy(tensor.float() if half else tensor), reference)
