"""What an encoder is made of and what it makes of rows, as float64 latents with their rounding."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from skfisher._backend.arrays import Array, like, namespace, take_rows, to_numpy
from skfisher._backend.validation import as_sample

__all__ = [
    "as_bases",
    "as_double",
    "cast_double",
    "function_of",
    "given_scale",
    "image_of",
    "nondeterminism",
    "only_part",
    "own_scale",
    "parts_of",
]


def nondeterminism(encode: Any, X: Any, *, container: Callable[[Array], Any] | None = None) -> str:
    """Why the latent of a row is not a function of the row, or "" where it is one.

    A few rows are encoded twice, and once more in another order and company: noise and dropout show
    in the first, batch normalisation left in training in the second.

    Parameters
    ----------
    encode : object, function or None
        As in `directional_derivatives`.
    X : array of shape (N, D)
        The first 16 rows are used.
    container : callable, optional

    Returns
    -------
    str

    Examples
    --------
    >>> import numpy as np
    >>> X = np.random.default_rng(0).normal(size=(20, 3))
    >>> nondeterminism(np.tanh, X)
    ''
    >>> nondeterminism(lambda x: x - x.mean(axis=0), X)[:40]
    'the latent of a row changes with the row'
    """
    X = as_sample(X)
    xp = namespace(X)
    rows = X[: min(16, X.shape[0]), :]
    if encode is None:
        return ""
    call = function_of(encode)
    one, eps = image_of(call, rows, X, container)
    two, _ = image_of(call, rows, X, container)
    rounding = max([eps, *(float(getattr(s, "rounding_", 0.0)) for s in parts_of(encode))])
    share = max(1e-9, min(1e3 * rounding, max(1e-2, 10.0 * rounding)))
    size = xp.max(xp.abs(one), axis=0)
    allowed = share * size + 100.0 * rounding * xp.max(size)
    off = xp.abs(one - two)
    if bool(xp.any(off > allowed)):
        return (
            f"two calls give one row different latents (by {_relative(off, size):.2g} of the "
            f"largest entry): noise, or dropout that was left on. Put the encoder in eval mode, "
            f"or take the mean of its posterior"
        )
    if rows.shape[0] > 1:
        half = max(1, rows.shape[0] // 2)
        order = list(range(half - 1, -1, -1))
        other, _ = image_of(call, take_rows(rows, order), X, container)
        off = xp.abs(take_rows(other, order) - one[:half, :])
        if bool(xp.any(off > allowed)):
            return (
                f"the latent of a row changes with the rows beside it (by "
                f"{_relative(off, size):.2g} of the largest entry): batch normalisation in "
                f"training mode, or statistics of the batch, or noise by position. Put the "
                f"encoder in eval mode"
            )
    return ""


def _relative(off: Array, size: Array) -> float:
    xp = namespace(off)
    return float(xp.max(off)) / max(float(xp.max(size)), 1e-300)


def parts_of(encode: Any) -> list[Any]:
    """The steps of a pipeline, of pipelines in it and of frozen ones; none for the identity."""
    from sklearn.frozen import FrozenEstimator

    if encode is None or (isinstance(encode, str) and encode == "passthrough"):
        return []
    if isinstance(encode, FrozenEstimator):
        return parts_of(encode.estimator)
    if hasattr(encode, "steps") and hasattr(encode, "transform"):
        return [part for _, step in encode.steps for part in parts_of(step)]
    return [encode]


def only_part(encode: Any) -> Any:
    """The one step of an encoder that has no other, else None."""
    parts = parts_of(encode)
    return parts[0] if len(parts) == 1 else None


def function_of(encode: Any) -> Callable[[Any], Any]:
    """`transform`, `encode` or the encoder itself, whichever comes first.

    Raises
    ------
    TypeError
        None of them; a bare torch module, which takes tensors of its own dtype and device.
    """
    if any(base.__module__.startswith("torch.nn.") for base in type(encode).__mro__) and not (
        hasattr(encode, "transform")
    ):
        raise TypeError(
            f"encode is a bare {type(encode).__name__}: wrap it, "
            f"skfisher.encoders.TorchEncoder({type(encode).__name__}(...))."
        )
    for name in ("transform", "encode"):
        if hasattr(encode, name):
            return getattr(encode, name)
    if callable(encode):
        return encode
    raise TypeError(
        f"encode is a {type(encode).__name__} without transform, encode or __call__: pass a "
        f"scikit-learn transformer or a function of rows."
    )


def image_of(
    call: Callable[[Any], Any],
    points: Array,
    ref: Array,
    container: Callable[[Array], Any] | None = None,
    *,
    finite: bool = True,
) -> tuple[Array, float]:
    """Latents in float64 in the library of `ref`, and the rounding of what they come in."""
    with warnings.catch_warnings():  # what an encoder says of points off the data is no news
        warnings.simplefilter("ignore")
        Z = call(points if container is None else container(points))
    Z = to_numpy(Z) if hasattr(Z, "iloc") or not hasattr(Z, "shape") else Z
    if Z.ndim != 2 or Z.shape[0] != points.shape[0]:
        raise ValueError(
            f"encoder returned shape {tuple(Z.shape)} for X of shape {tuple(points.shape)}: it "
            f"must map (n_samples, n_features) to (n_samples, n_latent)."
        )
    if finite:
        Z = as_sample(Z, name="the encoder's output")
    xp = namespace(Z)
    if not xp.isdtype(Z.dtype, "real floating"):
        Z = xp.astype(Z, xp.float64)
    eps = float(xp.finfo(Z.dtype).eps)
    small = Z.shape[0] and float(xp.max(xp.abs(Z))) < float(xp.finfo(xp.float32).max)
    if xp.finfo(Z.dtype).bits == 64 and small:
        short = xp.astype(xp.astype(Z, xp.float32), Z.dtype)
        same = xp.sum(xp.astype(short == Z, xp.int64))
        if int(same) == Z.shape[0] * Z.shape[1] and bool(xp.any(xp.round(Z) != Z)):
            eps = float(xp.finfo(xp.float32).eps)  # computed in float32 and widened
    return cast_double(Z, ref), eps


def cast_double(Z: Array, ref: Array) -> Array:
    """Z in float64 in the library and on the device of `ref`."""
    return as_double(Z) if type(Z) is type(ref) else like(Z, ref)


def as_double(X: Any) -> Array:
    """`X` in float64, where its library has that."""
    if not hasattr(X, "shape") or not hasattr(X, "dtype"):
        X = to_numpy(X)
    xp = namespace(X)
    if X.dtype == xp.float64:
        return X
    held = "float64" in xp.__array_namespace_info__().dtypes(kind="real floating")
    return xp.astype(X, xp.float64) if held else X


def as_bases(U: Any, X: Array) -> Array:
    """`U` as (A, D, k) in the library of X, checked."""
    U = cast_double(U, X)
    if U.ndim != 3 or U.shape[:2] != X.shape or U.shape[2] == 0:
        raise ValueError(
            f"U has shape {tuple(U.shape)} for X of shape {tuple(X.shape)}: pass (n_rows, "
            f"n_features, k), one basis per row."
        )
    return U


def given_scale(scale: Any, X: Array) -> Array:
    """A user's length, or one per row, as (A,) in the library of X, checked."""
    xp = namespace(X)
    scale = like(to_numpy(scale), X)
    if scale.ndim == 0:
        scale = xp.broadcast_to(scale, (X.shape[0],))
    if scale.shape != (X.shape[0],) or not bool(xp.all(xp.isfinite(scale) & (scale > 0))):
        raise ValueError(
            f"scale has shape {tuple(scale.shape)} and smallest value "
            f"{float(xp.min(scale)):.3g}: pass a positive length, or one per row of X."
        )
    return scale


def own_scale(X: Array) -> Array:
    """RMS scale of the rows, or their RMS where all are equal, once per row."""
    xp = namespace(X)
    spread = float(xp.sqrt(xp.mean((X - xp.mean(X, axis=0)[None, :]) ** 2)))
    size = float(xp.sqrt(xp.mean(X**2)))
    # equal rows leave rounding
    spread = spread if spread > 1e-12 * size else size
    return xp.full_like(X[:, 0], spread or 1.0)
