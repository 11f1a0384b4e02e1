"""All rivals whose inputs are at hand."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

from skfisher._backend.arrays import to_numpy
from skfisher._backend.draws import seed_of
from skfisher.rivals.decoding import affine_equivariance, interpolation_distance
from skfisher.rivals.density import gmm_likelihood, hypersphere_uniformity, uniformity
from skfisher.rivals.metric import Metric, read_latents
from skfisher.rivals.neighbours import mle_dimension, neighbour_consistency, two_nn_dimension
from skfisher.rivals.structure import (
    correlation_decay_slope,
    local_distant_similarity,
    spectral_energy_concentration,
)
from skfisher.rivals.variance import gaussian_viv, kronecker_viv

__all__ = ["RIVALS", "rival_metrics"]


class _Rival(NamedTuple):
    compute: Callable[[dict[str, Any]], Metric]
    needs: tuple[str, ...]
    by_default: bool = True


def _latent(function: Callable[..., Metric], *, seeded: bool = True, **fixed: Any) -> Any:
    """A rival of Z alone."""

    def compute(given: dict[str, Any]) -> Metric:
        seed = {"random_state": given["random_state"]} if seeded else {}
        return function(given["Z"], latent_shape=given["latent_shape"], **fixed, **seed)

    return compute


def _labelled(function: Callable[..., Metric], **fixed: Any) -> Any:
    def compute(given: dict[str, Any]) -> Metric:
        return function(given["Z"], y=given["y"], latent_shape=given["latent_shape"], **fixed)

    return compute


def _equivariance(given: dict[str, Any]) -> Metric:
    transform = "rotate90" if given["transform"] is None else given["transform"]
    return affine_equivariance(
        given["images"], given["encoder"], transform=transform, latent_shape=given["latent_shape"]
    )


def _interpolation(given: dict[str, Any]) -> Metric:
    data = given["images"] if given["X"] is None else given["X"]
    return interpolation_distance(
        given["Z"],
        given["decoder"],
        given["features"],
        data,
        latent_shape=given["latent_shape"],
        random_state=given["random_state"],
    )


_viv = partial(_latent, gaussian_viv, seeded=False)
_sec = partial(_latent, spectral_energy_concentration, seeded=False)

RIVALS: dict[str, _Rival] = {
    "gaussian_viv": _Rival(_viv(standardize="rms"), ()),
    "gaussian_viv_channel": _Rival(_viv(standardize="channel"), ()),
    "gaussian_viv_raw": _Rival(_viv(standardize="none"), ()),
    "gaussian_viv_by_class": _Rival(_labelled(gaussian_viv), ("y",)),
    "kronecker_viv": _Rival(_latent(kronecker_viv, seeded=False), ("positions",)),
    "kronecker_viv_by_class": _Rival(_labelled(kronecker_viv), ("positions", "y")),
    "sec_0.25": _Rival(_sec(threshold=0.25), ("positions",)),
    "sec_0.5": _Rival(_sec(threshold=0.5), ("positions",)),
    "lds": _Rival(_latent(local_distant_similarity), ("positions",)),
    "cds": _Rival(_latent(correlation_decay_slope), ("positions",)),
    "uniformity_gini": _Rival(_latent(uniformity, statistic="gini"), ()),
    "uniformity_cv": _Rival(_latent(uniformity, statistic="density_cv"), ()),
    "uniformity_entropy": _Rival(_latent(uniformity, statistic="normalized_entropy"), ()),
    "uniformity_tsne": _Rival(
        _latent(uniformity, statistic="normalized_entropy", projection="tsne"), (), False
    ),
    "hypersphere_uniformity": _Rival(_latent(hypersphere_uniformity), ()),
    "two_nn_dimension": _Rival(_latent(two_nn_dimension), ()),
    "mle_dimension": _Rival(_latent(mle_dimension), ()),
    "gmm_likelihood": _Rival(_latent(gmm_likelihood), ()),
    "neighbour_consistency": _Rival(_labelled(neighbour_consistency), ("y",)),
    "equivariance": _Rival(_equivariance, ("images", "encoder")),
    "interpolation_distance": _Rival(_interpolation, ("decoder", "features", "X or images")),
}
"""What `rival_metrics` computes, by name."""


def rival_metrics(
    Z: Any,
    *,
    latent_shape: Any = None,
    X: Any = None,
    y: Any = None,
    encoder: Any = None,
    decoder: Any = None,
    images: Any = None,
    transform: Any = None,
    features: Any = None,
    include: Iterable[str] | None = None,
    random_state: Any = 0,
) -> dict[str, Metric]:
    """Every published number about latents whose inputs are given.

    Parameters
    ----------
    Z : array-like of shape (N, d), (N, C, L) or (N, C, H, W)
    latent_shape : tuple of int, optional
        (C, H, W) or (C, L) where Z is flat; for the numbers that need positions.
    X : array-like with N rows, optional
        What Z encodes; for the interpolation distance, where `images` does not give it.
    y : labels of shape (N,), optional
    encoder, decoder : optional
        As in `affine_equivariance` and `interpolation_distance`.
    images : array of shape (M, C, H, W), optional
    transform : optional
        As in `affine_equivariance`; None is a quarter turn.
    features : callable, optional
        As in `interpolation_distance`.
    include : iterable of str, optional
        Names in `RIVALS`; None is all but "uniformity_tsne", which takes most of a minute.
    random_state : int, RandomState, Generator or None

    Returns
    -------
    dict of str to Metric
        In the order of `RIVALS`, whose names they bear. Where an input is missing the value is NaN
        and the reason names it.

    Raises
    ------
    ValueError
        An unknown name, or what the metrics refuse.

    Examples
    --------
    >>> import numpy as np
    >>> Z = np.random.default_rng(0).standard_normal((500, 4))
    >>> found = rival_metrics(Z, include=["gaussian_viv", "sec_0.5"])
    >>> found["sec_0.5"].reason
    'not given: positions (latent_shape)'
    """
    names = [name for name, rival in RIVALS.items() if rival.by_default]
    if include is not None:
        asked = [include] if isinstance(include, str) else list(include)
        unknown = [name for name in asked if name not in RIVALS]
        if unknown:
            raise ValueError(f"include names {unknown[0]!r}: there are {', '.join(RIVALS)}.")
        names = [name for name in RIVALS if name in asked]
    given = {
        "Z": Z,
        "latent_shape": latent_shape,
        "X": X,
        "y": None if y is None else to_numpy(y),
        "encoder": encoder,
        "decoder": decoder,
        "images": images,
        "transform": transform,
        "features": features,
        "random_state": seed_of(random_state),
    }
    latents = read_latents(Z, latent_shape)
    there = {name for name, value in given.items() if value is not None}
    if latents.shape is not None and len(latents.shape) in (2, 3):
        there.add("positions")
    if X is not None or images is not None:
        there.add("X or images")
    out = {}
    for name in names:
        rival = RIVALS[name]
        lacking = [need for need in rival.needs if need not in there]
        if lacking:
            shown = ["positions (latent_shape)" if k == "positions" else k for k in lacking]
            reason = f"not given: {', '.join(shown)}"
            n_rows = latents.rows.shape[0]
            out[name] = Metric(name, math.nan, math.nan, None, n_rows, "", {}, reason)
        else:
            out[name] = replace(rival.compute(given), name=name)
    return out
