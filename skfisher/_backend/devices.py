"""Where numbers are computed: X moved to a torch device, or left where it lies."""

from __future__ import annotations

import importlib.util
from typing import Any

from array_api_compat import device, is_array_api_obj, is_numpy_array, is_torch_array

from skfisher._backend.arrays import Array, is_numpy
from skfisher._backend.tensors import to_tensor

__all__ = ["moved_to", "place_of", "refuse_other_device"]


def place_of(x: Array) -> str:
    """Name of the device that `x` lies on; "cpu" for everything in the host's memory."""
    if is_numpy_array(x):
        return "cpu"
    where = device(x)
    if is_torch_array(x):
        return str(where)
    name = str(getattr(where, "_device", where))  # array-api-strict keeps its own name there
    on_host = name == "CPU_DEVICE" or getattr(where, "platform", "") == "cpu"  # JAX has platforms
    return "cpu" if on_host else name


def refuse_other_device(values: Any, name: str, reference: Array, *also: Array) -> None:
    """Refuse an array that lies neither on the device of X nor on that of another reference.

    Lists and NumPy arrays may come with an X on any device: they are copied to it.

    Raises
    ------
    ValueError
        The array lies on another device than X.
    """
    if not is_array_api_obj(values) or is_numpy_array(values):
        return
    where = place_of(values)
    if all(where != place_of(x) for x in (reference, *also)):
        raise ValueError(
            f"{name} is on {where} but X is on {place_of(reference)}: move it to the device of X, "
            f"or pass it as NumPy array, which may come with X on any device."
        )


def moved_to(requested: Any, X: Array) -> Array:
    """`X` where it is to be computed with.

    Parameters
    ----------
    requested : None, "auto", str or torch.device
        None leaves X where it lies; "auto" moves NumPy arrays to CUDA where torch sees a device;
        anything else is a torch device that NumPy arrays are moved to.
    X : array

    Returns
    -------
    array
        X itself, or a tensor on the device.

    Raises
    ------
    ImportError
        A device is asked for and torch is not installed.
    TypeError
        Neither None nor a string nor a torch device.
    ValueError
        No torch device, one that is not there, or X that is no NumPy array and lies elsewhere.
    """
    if requested is None:
        return X
    if not isinstance(requested, str) and type(requested).__module__ != "torch":
        raise TypeError(
            f"device is {requested!r}: pass None, 'auto', or a torch device such as 'cpu' or "
            f"'cuda:1'."
        )
    if not importlib.util.find_spec("torch"):
        if requested == "auto":
            return X
        raise ImportError(
            f'device is {requested!r}, which needs torch: pip install "skfisher[torch]", or pass '
            f"device=None to compute where X lies."
        )
    import torch

    if requested == "auto":
        return to_tensor(X, "cuda") if is_numpy(X) and torch.cuda.is_available() else X
    try:
        wanted = torch.device(requested)
    except RuntimeError as error:
        raise ValueError(
            f"device is {requested!r}, which torch does not know: pass 'cpu', 'cuda', 'cuda:1' or "
            f"the like, 'auto', or device=None to compute where X lies."
        ) from error
    target = _usable(wanted, requested)
    if is_numpy(X):
        return to_tensor(X, target)
    if is_torch_array(X) and X.device == target:
        return X
    raise ValueError(
        f"device is {requested!r} but X is a {type(X).__module__.split('.')[0]} array on "
        f"{place_of(X)}: only NumPy input is moved; move X there yourself, or pass device=None to "
        f"compute where it lies."
    )


def _usable(wanted: Any, requested: Any) -> Any:
    """The device with its index, once it is known to hold numbers in double precision."""
    import torch

    reason = "it holds no numbers"
    if wanted.type != "meta":
        try:
            return torch.zeros(1, dtype=torch.float64, device=wanted).device
        # torch tells by several exceptions that it was built without a device or finds none
        except (AssertionError, NotImplementedError, RuntimeError, TypeError) as error:
            reason = str(error).strip().splitlines()[0]
    raise ValueError(
        f"device is {requested!r}, which cannot be used here ({reason}; CUDA devices that torch "
        f"sees: {torch.cuda.device_count()}): pass device=None to compute where X lies."
    )
