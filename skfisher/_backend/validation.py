"""Arrays from a user: converted once, or refused with the argument, the value and the cure."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from array_api_compat import is_array_api_obj, is_numpy_array, is_torch_array
from scipy import sparse
from sklearn.utils import check_array

from skfisher._backend.arrays import Array, namespace, to_numpy

__all__ = ["as_groups", "as_row_weights", "as_sample", "as_sigma"]


def as_sample(X: Any, *, name: str = "X", min_samples: int = 1) -> Array:
    """`X` as a finite real floating-point matrix of its own library.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        Anything scikit-learn takes as dense input, or an array of any array API library. Gradient
        history is left behind.
    name : str
        How messages call the argument.
    min_samples : int
        The fewest rows accepted.

    Returns
    -------
    array of shape (n_samples, n_features)
        float64 for integers, booleans and quantized tensors, float32 for less than single
        precision, otherwise X's dtype.

    Raises
    ------
    TypeError
        Sparse or complex input, or objects that are not numbers.
    ValueError
        Not two-dimensional, empty, fewer than `min_samples` rows, NaN or infinity, text, complex
        numbers, or a tensor without numbers (on the device "meta").
    """
    if sparse.issparse(X):
        raise TypeError(
            f"{name} is a sparse {type(X).__name__} of shape {X.shape}, which is not supported: "
            f"densify it with {name}.toarray(), or reduce it with TruncatedSVD."
        )
    if is_torch_array(X):
        X = _from_tensor(X, name)
    elif is_numpy_array(X) or not is_array_api_obj(X):
        X = _from_array_like(X, name)
    xp = namespace(X)
    if xp.isdtype(X.dtype, "complex floating"):
        raise ValueError(
            f"Complex data not supported: {name} has dtype {X.dtype}. Stack its real and "
            f"imaginary parts as columns."
        )
    if X.ndim == 4:
        rows, *shape = (int(size) for size in X.shape)
        raise ValueError(
            f"Expected 2D array, got 4D array instead: {name} has shape {(rows, *shape)}. Reshape "
            f"your data to (n_samples, n_features) with {name}.reshape({rows}, -1), and where a "
            f"parameter latent_shape is offered pass latent_shape={tuple(shape)} beside it."
        )
    if X.ndim != 2:
        raise ValueError(
            f"Expected 2D array, got {X.ndim}D array instead: {name} has shape {tuple(X.shape)}. "
            f"Reshape your data to (n_samples, n_features), for images with "
            f"{name}.reshape(len({name}), -1)."
        )
    rows, columns = X.shape
    if columns == 0:
        raise ValueError(
            f"{name} has 0 feature(s) (shape=({rows}, 0)) while a minimum of 1 is required."
        )
    if rows < min_samples:
        raise ValueError(
            f"{name} has {rows} sample(s) (shape=({rows}, {columns})) while a minimum of "
            f"{min_samples} is required: pass more rows."
        )
    if not xp.isdtype(X.dtype, "real floating"):
        X = xp.astype(X, xp.float64)
    elif xp.finfo(X.dtype).bits < 32:
        X = xp.astype(X, xp.float32)
    finite = xp.all(xp.isfinite(X), axis=1)
    if not bool(xp.all(finite)):
        bad = np.flatnonzero(~to_numpy(finite))
        raise ValueError(
            f"{name} contains NaN or infinity in {bad.size} of {rows} rows, the first of them row "
            f"{int(bad[0])}: drop these rows or impute them before."
        )
    return X


def _from_tensor(X: Any, name: str) -> Any:
    """A plain dense tensor without history."""
    X = X.detach()
    if X.is_quantized:
        return X.dequantize()
    if str(X.layout) != "torch.strided":
        raise TypeError(
            f"{name} is a sparse tensor ({X.layout}) of shape {tuple(X.shape)}, which is not "
            f"supported: densify it with {name}.to_dense()."
        )
    if X.is_meta:
        raise ValueError(
            f"{name} is on the device 'meta', which holds no numbers: load it to a device first."
        )
    return X


def _from_array_like(X: Any, name: str) -> Any:
    try:
        return check_array(
            X,
            dtype="numeric",
            ensure_2d=False,
            allow_nd=True,
            ensure_all_finite=False,
            ensure_min_samples=0,
            ensure_min_features=0,
            input_name=name,
        )
    except (TypeError, ValueError) as error:
        if "Complex data not supported" in str(error):
            return np.asarray(X)  # refused by the caller, with the argument and the cure
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(
            f"{name} cannot be read as numbers ({error}): pass numeric columns only, for instance "
            f"through an OrdinalEncoder or OneHotEncoder."
        ) from error


def as_row_weights(sample_weight: Any, n_rows: int) -> Any:
    """`sample_weight` as a NumPy vector of length `n_rows`; None stays None.

    Raises
    ------
    ValueError
        Wrong length, NaN, infinity, a negative weight, or no positive weight.
    """
    if sample_weight is None:
        return None
    try:
        weights = np.asarray(to_numpy(sample_weight), dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"sample_weight cannot be read as numbers ({error}): pass one weight per row of X."
        ) from error
    if weights.ndim == 0:
        weights = np.full(n_rows, float(weights))
    if weights.shape != (n_rows,):
        raise ValueError(
            f"sample_weight has shape {weights.shape} but X has {n_rows} rows: pass one weight per "
            f"row (sample_weight.shape == ({n_rows},))."
        )
    if not np.all(np.isfinite(weights)) or np.any(weights < 0) or not np.any(weights > 0):
        raise ValueError(
            f"sample_weight ranges from {weights.min()} to {weights.max()}: weights must be "
            f"finite, not negative, and not all zero."
        )
    return weights


def as_groups(groups: Any, n_rows: int) -> Any:
    """`groups` as integer codes 0..G-1 of length `n_rows`; None stays None.

    Raises
    ------
    ValueError
        Wrong length, or a single group, which leaves nothing to compare it with.
    """
    if groups is None:
        return None
    labels = np.asarray(to_numpy(groups))
    if labels.shape != (n_rows,):
        raise ValueError(
            f"groups has shape {labels.shape} but X has {n_rows} rows: pass one label per row."
        )
    names, codes = np.unique(labels, return_inverse=True)
    if len(names) < 2:
        raise ValueError(
            f"groups holds the single label {names[0]!r}: independent groups are what the "
            f"standard errors count, so pass at least two, or groups=None."
        )
    return codes


def as_sigma(sigma: Any, *, name: str = "sigma") -> float:
    """A noise level as a Python float.

    Raises
    ------
    ValueError
        Not a finite positive number, or so large or small that its fourth power is none.
    """
    value = float(sigma)
    if not (math.isfinite(value) and value > 0.0):
        raise ValueError(
            f"{name} is {value}: a noise level is a finite positive standard deviation in the "
            f"units of X."
        )
    if not 1e-70 < value < 1e70:
        raise ValueError(
            f"{name} is {value}, whose fourth power leaves the range of floating point: rescale X "
            f"and the noise level together."
        )
    return value
