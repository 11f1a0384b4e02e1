"""Numbers that need the encoder or the decoder: equivariance, and interpolation of neighbours."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from array_api_compat import is_array_api_obj

from skfisher._backend.arrays import Array, like, namespace, take_rows, to_numpy
from skfisher._backend.nearest import nearest
from skfisher.channels import flatten_latents
from skfisher.decoders import decode_function
from skfisher.encoders import TorchEncoder, is_torch_encoder
from skfisher.frechet import frechet_distance
from skfisher.rivals.metric import MIN_ROWS, Metric, missing, read_latents, row_mean, subsample

__all__ = ["TRANSFORMS", "affine_equivariance", "interpolation_distance"]


def _rotate(x: Array) -> Array:
    xp = namespace(x)
    return xp.flip(xp.permute_dims(x, (0, 1, 3, 2)), axis=2)


def _half_turn(x: Array) -> Array:
    return namespace(x).flip(x, axis=(2, 3))


def _mirror(x: Array) -> Array:
    return namespace(x).flip(x, axis=3)


def _upset(x: Array) -> Array:
    return namespace(x).flip(x, axis=2)


def _halve(x: Array) -> Array:
    xp = namespace(x)
    rows, channels, height, width = x.shape
    if height % 2 or width % 2:
        raise ValueError(f"'halve' averages 2 x 2 blocks, and the grid is {height} x {width}.")
    cells = xp.reshape(x, (rows, channels, height // 2, 2, width // 2, 2))
    return xp.mean(cells, axis=(3, 5))


TRANSFORMS: dict[str, Callable[[Array], Array]] = {
    "rotate90": _rotate,
    "rotate180": _half_turn,
    "flip_horizontal": _mirror,
    "flip_vertical": _upset,
    "halve": _halve,
}
"""Transforms of (N, C, H, W) by name: quarter and half turn, mirrors, mean over 2 x 2 blocks."""


def affine_equivariance(
    images: Any,
    encoder: Any,
    *,
    transform: Any = "rotate90",
    image_shape: Any = None,
    latent_shape: Any = None,
) -> Metric:
    """How far encoding a transformed image is from transforming the encoded one.

    Parameters
    ----------
    images : array of shape (N, C, H, W), or (N, D) with `image_shape`
    encoder : object with `transform` or `encode`, callable, or torch module
        Used as it stands, given what `images` is.
    transform : str, callable, or pair of callables
        A name in `TRANSFORMS`, a function of (N, C, H, W) for images and latents alike, or one for
        each.
    image_shape : tuple of int, optional
        (C, H, W) of flat images.
    latent_shape : tuple of int, optional
        (C, H, W) of flat latents, before the transform.

    Returns
    -------
    Metric
        0 for an equivariant encoder, about 2 for unrelated latents; lower is better.

    Raises
    ------
    ValueError
        An unknown name, images or latents without positions, two results of different shape.

    Notes
    -----
    E|f(T x) - T f(x)|^2 / E|T f(x) - E T f(x)|^2, which neither shift nor scale of the latents
    changes (after EQ-VAE, arXiv 2502.09509, which reports reconstructions of transformed latents;
    arXiv 2606.03578 compares latents, in turns and scalings). The error is that of a ratio of means
    over images.

    Examples
    --------
    >>> import numpy as np
    >>> images = np.random.default_rng(0).standard_normal((20, 3, 8, 8))
    >>> affine_equivariance(images, np.tanh, transform="flip_horizontal").value
    0.0
    """
    on_images, on_latents, label = _transforms(transform)
    pictures = _pictures(images, image_shape)
    encode = _function(encoder)
    flat = getattr(images, "ndim", 4) == 2
    turned = on_images(pictures)
    before = _cells(encode(images), latent_shape)
    there = _cells(encode(_flattened(turned) if flat else turned), None, before.shape[1:], label)
    here = on_latents(before)
    if tuple(here.shape) != tuple(there.shape):
        if math.prod(here.shape) != math.prod(there.shape):
            raise ValueError(
                f"encoding the images after {label} gives shape {tuple(there.shape)}, and {label} "
                f"of the latents {tuple(here.shape)}: the encoder does not keep the grid."
            )
        there = namespace(there).reshape(there, here.shape)
    xp = namespace(here)
    n_rows = int(here.shape[0])
    settings = {"transform": label, "latent_shape": tuple(int(k) for k in before.shape[1:])}
    metric = Metric(
        f"equivariance_{label}", math.nan, math.nan, False, n_rows, "arXiv 2502.09509", settings
    )
    if n_rows < MIN_ROWS:
        return missing(metric, f"{n_rows} images, and at least {MIN_ROWS} are needed")
    spread = xp.sum((here - xp.mean(here, axis=0, keepdims=True)) ** 2, axis=(1, 2, 3))
    gap = xp.sum((there - here) ** 2, axis=(1, 2, 3))
    scale = float(xp.mean(spread))
    if scale <= 1e-24 * float(xp.mean(xp.sum(here**2, axis=(1, 2, 3)))):
        return missing(metric, "the latents are constant")
    value = float(xp.mean(gap)) / scale
    _, stderr = row_mean((gap - value * spread) / scale)
    return Metric(metric.name, value, stderr, False, n_rows, metric.reference, settings)


def _transforms(transform: Any) -> tuple[Any, Any, str]:
    if isinstance(transform, str):
        if transform not in TRANSFORMS:
            known = ", ".join(map(repr, TRANSFORMS))
            raise ValueError(f"transform is {transform!r}: it is one of {known}, or a function.")
        return TRANSFORMS[transform], TRANSFORMS[transform], transform
    if isinstance(transform, (tuple, list)) and len(transform) == 2:
        return transform[0], transform[1], getattr(transform[0], "__name__", "transform")
    if not callable(transform):
        raise ValueError(f"transform is {transform!r}: pass a name, a function, or a pair of them.")
    return transform, transform, getattr(transform, "__name__", "transform")


def _function(encoder: Any) -> Callable[[Any], Any]:
    if is_torch_encoder(encoder):
        encoder = TorchEncoder(encoder)
    for method in ("transform", "encode"):
        if hasattr(encoder, method):
            found: Callable[[Any], Any] = getattr(encoder, method)
            return found
    if not callable(encoder):
        raise TypeError(
            f"encoder is a {type(encoder).__name__} without transform or encode: pass an encoder, "
            f"or a function."
        )
    return encoder


def _pictures(images: Any, image_shape: Any) -> Array:
    values = images if is_array_api_obj(images) else to_numpy(images)
    if values.ndim == 2 and image_shape is not None:
        shape = tuple(image_shape)
        if len(shape) != 3 or math.prod(shape) != values.shape[1]:
            raise ValueError(
                f"image_shape is {image_shape!r} for images of {values.shape[1]} numbers: pass the "
                f"(C, H, W) of one row."
            )
        return namespace(values).reshape(values, (values.shape[0], *shape))
    if values.ndim != 4:
        raise ValueError(
            f"images has shape {tuple(values.shape)}: pass (N, C, H, W), or image_shape beside "
            f"flat rows."
        )
    return values


def _flattened(x: Array) -> Array:
    return namespace(x).reshape(x, (x.shape[0], -1))


def _cells(
    Z: Any, latent_shape: Any, fallback: tuple[int, ...] | None = None, label: str = ""
) -> Array:
    """Latents as (N, C, H, W) in double precision."""
    rows, own = flatten_latents(Z, name="the encoder's output")
    shape = own if latent_shape is None else tuple(latent_shape)
    if shape is None and fallback is not None and math.prod(fallback) == rows.shape[1]:
        shape = tuple(int(k) for k in fallback)
    if shape is None or len(shape) != 3 or math.prod(shape) != rows.shape[1]:
        after = f" after {label}" if label else ""
        raise ValueError(
            f"the encoder's output{after} has shape {(rows.shape[0], *(own or rows.shape[1:]))}: "
            f"equivariance needs (N, C, H, W), or the latent_shape (C, H, W) of flat rows."
        )
    xp = namespace(rows)
    return xp.reshape(xp.astype(rows, xp.float64), (rows.shape[0], *shape))


def interpolation_distance(
    Z: Any,
    decoder: Any,
    features: Callable[[Any], Any],
    data: Any,
    *,
    latent_shape: Any = None,
    weight: float = 0.5,
    path: str = "linear",
    max_points: int = 10_000,
    random_state: Any = 0,
) -> Metric:
    """Frechet distance of data and decoded interpolations between neighbouring latents (iFID).

    Parameters
    ----------
    Z : array-like of shape (N, d) or (N, C, ...)
    decoder : object with `decode` or `inverse_transform`, or callable
        Given latents of the shape of Z.
    features : callable
        From decoded samples, and from `data`, to (N, q); the paper's are those of Inception.
    data : array-like with N rows
        What Z encodes.
    latent_shape : tuple of int, optional
        The decoder is given latents of this shape where Z is flat.
    weight : float
        Of the neighbour.
    path : {"linear", "spherical"}
        Linear between Euclidean neighbours, or on the great circle between cosine neighbours.
    max_points : int
    random_state : int, RandomState, Generator or None

    Returns
    -------
    Metric
        Lower is better. NaN where rows do not outnumber features.

    Raises
    ------
    ValueError
        An unknown path, data of another length, features that are not a matrix.

    Notes
    -----
    iFID (arXiv 2603.05630). Deviations: the neighbour is the nearest other row, not a random one of
    the ten nearest in another split. Estimated covariances make the distance of two equal
    distributions positive, of order q / N: compare encoders with the same features and rows only.
    The error is that of the influence function over rows, which are counted as independent.
    """
    if path not in ("linear", "spherical"):
        raise ValueError(f"path is {path!r}: it is 'linear' or 'spherical'.")
    latents = read_latents(Z, latent_shape)
    source = data if is_array_api_obj(data) else to_numpy(data)
    if source.shape[0] != latents.n_given:
        raise ValueError(
            f"data has {source.shape[0]} rows but Z has {latents.n_given}: pass what Z encodes."
        )
    latents = subsample(latents, max_points, random_state)
    n_rows = latents.rows.shape[0]
    settings = {**latents.settings, "weight": weight, "path": path}
    metric = Metric(
        "interpolation_distance", math.nan, math.nan, False, n_rows, "arXiv 2603.05630", settings
    )
    if latents.reason:
        return missing(metric, latents.reason)
    rows = latents.rows
    _, index = nearest(rows, 1, "euclidean" if path == "linear" else "cosine")
    other = take_rows(rows, index[:, 0])
    mixed = _between(rows, other, weight, path)
    flat, _ = flatten_latents(Z)
    xp = namespace(flat)
    shaped = xp.reshape(like(mixed, flat), (n_rows, *(latents.shape or (flat.shape[1],))))
    decoded = decode_function(decoder)(shaped)
    found = _feature_rows(features(decoded), "decoded samples", n_rows)
    target = _feature_rows(features(take_rows(source, latents.index)), "data", n_rows)
    settings["n_features"] = int(found.shape[1])
    if found.shape[1] != target.shape[1]:
        raise ValueError(
            f"features gives {found.shape[1]} numbers per decoded sample and {target.shape[1]} per "
            f"row of data: it must give as many for both."
        )
    if n_rows <= found.shape[1]:
        return missing(
            metric, f"{n_rows} rows do not determine a covariance of {found.shape[1]} features"
        )
    value, stderr = frechet_distance(found, like(target, found))
    return Metric(metric.name, value, stderr, False, n_rows, metric.reference, settings)


def _between(a: Array, b: Array, weight: float, path: str) -> Array:
    xp = namespace(a)
    straight = (1 - weight) * a + weight * b
    if path == "linear":
        return straight
    lengths = [xp.sqrt(xp.sum(x**2, axis=1, keepdims=True)) for x in (a, b)]
    cosine = xp.sum(a * b, axis=1, keepdims=True) / (lengths[0] * lengths[1])
    angle = xp.acos(xp.clip(cosine, -1.0, 1.0))
    sine = xp.sin(angle)
    flat = sine < 1e-6
    safe = xp.where(flat, xp.ones_like(sine), sine)
    arc = xp.sin((1 - weight) * angle) / safe * a + xp.sin(weight * angle) / safe * b
    return xp.where(flat, straight, arc)


def _feature_rows(values: Any, of: str, n_rows: int) -> Array:
    found = values if is_array_api_obj(values) else to_numpy(values)
    if found.ndim != 2 or found.shape[0] != n_rows:
        raise ValueError(
            f"features gives shape {tuple(found.shape)} for {n_rows} {of}: it must give (N, q)."
        )
    rows, _ = flatten_latents(found, name=f"features of the {of}")
    return namespace(rows).astype(rows, namespace(rows).float64)
