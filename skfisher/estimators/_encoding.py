"""From whatever a user calls an encoder to a function of rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sklearn.base import clone

from skfisher._backend.arrays import Array, namespace, to_numpy
from skfisher._backend.validation import as_sample

__all__ = ["Container", "channel_scales", "encode_rows", "fitted_encoder", "row_function", "varies"]


@dataclass(frozen=True)
class Container:
    """The kind of table that the encoder was fitted on: rows are given to it in the same.

    Attributes
    ----------
    kind : type or None
        A data frame's class; None for arrays, which are passed on as they are.
    columns : object
    """

    kind: Any = None
    columns: Any = None

    @classmethod
    def of(cls, X: Any) -> Container:
        """The container of `X`."""
        return cls(type(X), X.columns) if hasattr(X, "iloc") and hasattr(X, "columns") else cls()

    def __call__(self, rows: Array) -> Any:
        return rows if self.kind is None else self.kind(to_numpy(rows), columns=self.columns)


def fitted_encoder(encoder: Any, X: Any, y: Any) -> Any:
    """The encoder to audit: transformers are cloned and fitted on X, all else is used as it is.

    Raises
    ------
    TypeError
        Neither `transform` nor `encode` nor callable.
    """
    if encoder is None:
        return None
    if isinstance(encoder, type):
        raise TypeError(
            f"encoder is the class {encoder.__name__}: pass an instance, {encoder.__name__}(...)."
        )
    if hasattr(encoder, "transform") and hasattr(encoder, "fit") and hasattr(encoder, "get_params"):
        return clone(encoder).fit(X, y)
    row_function(encoder)
    return encoder


def row_function(encoder: Any) -> Callable[[Any], Any]:
    """`transform`, `encode` or the encoder itself, whichever comes first."""
    if encoder is None:
        return _identity
    for name in ("transform", "encode", "__call__"):
        if hasattr(encoder, name):
            return encoder if name == "__call__" else getattr(encoder, name)
    raise TypeError(
        f"encoder is a {type(encoder).__name__} without transform, encode or __call__: pass a "
        f"scikit-learn transformer, a function of the rows of X, or None for cached latents."
    )


def _identity(X: Any) -> Any:
    return X


def encode_rows(encoder: Any, X: Array, container: Container) -> Array:
    """Latent of each row of X, checked.

    Raises
    ------
    ValueError
        Not one finite row of numbers per row of X.
    """
    Z = row_function(encoder)(container(X))
    Z = to_numpy(Z) if hasattr(Z, "iloc") else Z
    shape = getattr(Z, "shape", None)
    if shape is None and not isinstance(Z, (list, tuple)):
        raise ValueError(
            f"encoder returned a {type(Z).__name__} for X of shape {tuple(X.shape)}: it must map "
            f"(n_samples, n_features) to (n_samples, n_latent)."
        )
    if shape is not None and len(shape) != 2:
        raise ValueError(
            f"encoder returned shape {tuple(shape)} for X of shape {tuple(X.shape)}: it must map "
            f"(n_samples, n_features) to (n_samples, n_latent); flatten images with "
            f"Z.reshape(len(Z), -1)."
        )
    Z = as_sample(Z, name="the encoder's output")
    if Z.shape[0] != X.shape[0]:
        raise ValueError(
            f"encoder returned {Z.shape[0]} rows for {X.shape[0]} rows of X: it must return one "
            f"latent per row, in their order."
        )
    return Z


def channel_scales(Z: Array) -> tuple[Array, Array]:
    """Mean and standard deviation of each latent channel; 1 where a channel is constant."""
    xp = namespace(Z)
    std = xp.std(Z, axis=0)
    tiny = xp.finfo(Z.dtype).eps * xp.max(xp.abs(Z), axis=0)
    return xp.mean(Z, axis=0), xp.where(std > tiny, std, xp.ones_like(std))


def varies(Z: Array) -> bool:
    """Whether any two rows differ."""
    xp = namespace(Z)
    return not bool(xp.all(Z[1:, :] == Z[0, :]))
