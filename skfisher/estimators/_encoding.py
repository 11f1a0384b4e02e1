"""From whatever a user calls an encoder to a function of rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sklearn.base import clone

from skfisher._backend.arrays import Array, namespace, to_numpy
from skfisher._backend.validation import as_sample
from skfisher.channels import channel_report, per_feature
from skfisher.decoders import decode_function
from skfisher.encoders import TorchEncoder, is_torch_encoder
from skfisher.geometry.images import parts_of

__all__ = [
    "Container",
    "channel_scales",
    "decoding_of",
    "draws_its_latents",
    "encode_rows",
    "encoder_of_means",
    "feature_function",
    "fitted_encoder",
    "latent_shape_of",
    "row_function",
    "tolerance_of",
    "varies",
]


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

    A torch module, or a method of one, is wrapped in a `TorchEncoder`, which is never copied.

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
    if is_torch_encoder(encoder):
        encoder = TorchEncoder(encoder)
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


def decoding_of(
    decoder: Any, encoder: Any, latent_shape: tuple[int, ...] | None
) -> Callable[[Array], Any]:
    """Function of rows of latents: of the decoder given, or else of the encoder's own.

    Raises
    ------
    TypeError
        A decoder that cannot be called.
    ValueError
        No decoder, and an encoder without one.
    """
    given = encoder if decoder is None else decoder
    if is_torch_encoder(given):
        given = TorchEncoder(given)
    if isinstance(given, TorchEncoder) and decoder is not None and latent_shape is not None:
        # it was not asked to encode, and knows no shape of a latent
        torch_decoder, shape = given, (-1, *latent_shape)
        return lambda rows: torch_decoder.inverse_transform(namespace(rows).reshape(rows, shape))
    if decoder is None and not any(hasattr(given, m) for m in ("decode", "inverse_transform")):
        what = "cached latents" if encoder is None else f"a {type(encoder).__name__}"
        raise ValueError(
            f"criterion='surrogate' compares decoded latents, and {what} cannot decode: pass "
            f"decoder=, a function from latents to data."
        )
    return decode_function(given)


def feature_function(features: Any, encoder: Any) -> Any:
    """Features as a function; a torch module takes rows of X as the encoder's module does."""
    if not is_torch_encoder(features):
        return features
    shape = getattr(encoder, "input_shape", None)
    return TorchEncoder(features, input_shape=shape)


def draws_its_latents(encoder: Any) -> bool:
    """Whether a step samples from its posterior, on request and from a seed."""
    return any(getattr(step, "posterior", None) == "sample" for step in parts_of(encoder))


def encoder_of_means(encoder: Any) -> Any:
    """The encoder with its posterior's mean in the place of samples; itself where it draws none."""
    if isinstance(encoder, TorchEncoder) and encoder.posterior == "sample":
        return TorchEncoder(**(encoder.get_params(deep=False) | {"posterior": "mean"}))
    return encoder


def latent_shape_of(encoder: Any) -> tuple[int, ...] | None:
    """(C, H, W) of one latent, where the encoder has told it at its last call."""
    last = encoder
    while hasattr(last, "steps"):  # a pipeline ends in its last step
        last = last.steps[-1][1]
    return getattr(last, "latent_shape_", None)


def tolerance_of(encoder: Any) -> float | None:
    """Share within which an encoder's latents are the same, where it rounds more than they tell.

    To be given to `skfisher.geometry.affine_part`. None where the dtype of the latents tells, or
    where so little is left that a test would pass whatever the encoder does.
    """
    steps = [step for _, step in getattr(encoder, "steps", [])] or [encoder]
    rounding = max(float(getattr(step, "rounding_", 0.0)) for step in steps)
    return max(1e-8, 100 * rounding) if 0 < rounding < 1e-5 else None


def channel_scales(Z: Array, latent_shape: tuple[int, ...] | None = None) -> tuple[Array, Array]:
    """Mean and standard deviation of each column's channel; 1 where a channel is constant.

    Parameters
    ----------
    Z : array of shape (n_samples, n_features)
    latent_shape : tuple of int, optional
        (C, H, W) of one row: the H W columns of a channel share its two numbers. Without it every
        column is a channel.

    Returns
    -------
    mean, std : array of shape (n_features,)
    """
    report = channel_report(Z, latent_shape)
    xp = namespace(report.std)
    std = xp.where(report.std > 0, report.std, xp.ones_like(report.std))
    return per_feature(report.mean, report.latent_shape), per_feature(std, report.latent_shape)


def varies(Z: Array) -> bool:
    """Whether any two rows differ."""
    xp = namespace(Z)
    return not bool(xp.all(Z[1:, :] == Z[0, :]))
