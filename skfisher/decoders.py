"""Decoders: whatever a user calls one as a function of rows, and the linear one of pairs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from array_api_compat import is_array_api_obj

from skfisher._backend.arrays import Array, cast_like, like, namespace, to_numpy
from skfisher._backend.validation import as_sample
from skfisher.channels import flatten_latents
from skfisher.noise import rms_scale

__all__ = ["as_decoder", "decode_function", "linear_decoder"]


def decode_function(decoder: Any, *, name: str = "decoder") -> Callable[[Any], Any]:
    """`decode`, `inverse_transform` or the decoder itself, whichever comes first.

    Raises
    ------
    TypeError
        A decoder that cannot be called; the message calls it `name`.

    Examples
    --------
    >>> decode_function(abs)(-3)
    3
    """
    for method in ("decode", "inverse_transform"):
        if hasattr(decoder, method):
            found: Callable[[Any], Any] = getattr(decoder, method)
            return found
    if not callable(decoder):
        raise TypeError(
            f"{name} is a {type(decoder).__name__} without decode or inverse_transform, which "
            f"cannot be called: pass a decoder, or a function of latents."
        )
    function: Callable[[Any], Any] = decoder
    return function


def as_decoder(
    decode: Any, work: Array, reference: Array, *, flat: bool = True
) -> Callable[[Array], Any]:
    """A decoder as a function of rows in float64.

    Parameters
    ----------
    decode : callable, object with `decode` or `inverse_transform`, or array of shape (d, D)
        As in `decoded_error`.
    work : array of shape (N, d)
        In whose library, dtype and device rows come and decoded rows are given.
    reference : array
        In whose library, dtype and device the decoder is given them.
    flat : bool
        False gives what the decoder returns as it stands.

    Raises
    ------
    TypeError
        A decoder that cannot be called.
    ValueError
        A matrix of another number of rows; from the function, other than one finite row each.
    """
    xp, n = namespace(work), work.shape[1]
    if is_array_api_obj(decode) or isinstance(decode, (list, tuple)):
        A = like(as_sample(decode, name="decode"), work)
        if A.shape[0] != n:
            raise ValueError(
                f"decode has shape {tuple(A.shape)} but Z has {n} columns: pass a matrix of shape "
                f"({n}, D), or a function."
            )
        return lambda rows: xp.matmul(rows, A)
    function = decode_function(decode, name="decode")

    def decoded(rows: Array) -> Array:
        found = function(cast_like(rows, reference))
        if not flat:
            return found
        values, _ = flatten_latents(found, name="decode's output")
        if values.shape[0] != rows.shape[0]:
            raise ValueError(
                f"decode returns {values.shape[0]} rows for {rows.shape[0]} latents: it must "
                f"return one row of data for each."
            )
        if type(values) is not type(work):
            return like(values, work)
        return cast_like(namespace(values).astype(values, xp.float64), work)

    return decoded


def linear_decoder(Z: Any, X: Any, *, alphas: Any = None) -> Array:
    """Least-squares decoder of pairs (z, x), by ridge regression.

    Parameters
    ----------
    Z : array-like of shape (N, d)
    X : array-like of shape (N, D)
        What the rows of Z encode.
    alphas : array-like, default=None
        Ridges to choose from by leave-one-out validation, as shares of the trace of Z^T Z over d;
        None is nine of them from 1e-8 to 1.

    Returns
    -------
    array of shape (d, D)
        A, with x near mean(x) + (z - mean(z)) A; in the library, dtype and device of Z.

    Raises
    ------
    ValueError
        Z and X of different length, fewer than 3 rows, or Z that does not vary.

    Examples
    --------
    >>> import numpy as np
    >>> Z = np.random.default_rng(0).normal(size=(100, 2))
    >>> linear_decoder(Z, Z @ np.asarray([[1.0, 0.0, 2.0], [0.0, 3.0, 0.0]]) + 5.0).round(3)
    array([[1., 0., 2.],
           [0., 3., 0.]])
    """
    from sklearn.linear_model import RidgeCV

    latents = as_sample(Z, name="Z", min_samples=3)
    data = as_sample(X, name="X", min_samples=3)
    if latents.shape[0] != data.shape[0]:
        raise ValueError(
            f"Z has {latents.shape[0]} rows but X has {data.shape[0]}: pass the pairs (z, x) in "
            f"one order."
        )
    unit = rms_scale(latents) ** 2 * latents.shape[0]
    shares = [10.0**k for k in range(-8, 1)] if alphas is None else list(map(float, alphas))
    model = RidgeCV(alphas=[unit * share for share in shares])
    fit = model.fit(to_numpy(latents).astype("float64"), to_numpy(data))
    return like(fit.coef_.T, latents)
