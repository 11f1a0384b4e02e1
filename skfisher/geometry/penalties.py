"""The four penalties of an encoder as geometry, averaged over the data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from skfisher._backend.arrays import namespace
from skfisher._backend.validation import as_sample
from skfisher.geometry.affine import LinearMap, as_latent, hull_dimension, log_squared_scale

__all__ = ["Penalties", "penalties"]


@dataclass(frozen=True, eq=False)
class Penalties:
    """The four penalties as geometry, without unit except the curvatures (1/x^2).

    Attributes
    ----------
    dimensional_compression : float
        Share of the data's own directions that are lost, 1 - rank / k.
    tangential_distortion : float
        E |log(G / c^2)|_F^2 / rank over the retained values, G the pull-back metric.
    encoder_curvature, data_curvature : float
        Mean squared acceleration of images of geodesics, mean squared second fundamental form.
    data_dimension, latent_dimension, intrinsic_dimension : int
        D, d and k.
    reasons : mapping of str to str
        For each of the four: how it was found and under which condition, or why it is NaN.
    along_noise : object or None
        The account of the Fisher information rate along the noise, where one was made.
    """

    dimensional_compression: float
    tangential_distortion: float
    encoder_curvature: float
    data_curvature: float
    data_dimension: int
    latent_dimension: int
    intrinsic_dimension: int
    reasons: Mapping[str, str]
    along_noise: Any = None


def penalties(
    X: Any,
    Z: Any,
    *,
    linear: LinearMap | None = None,
    intrinsic_dimension: int | None = None,
    along_noise: Any = None,
) -> Penalties:
    """Dimensional compression, tangential distortion, encoder curvature and data curvature.

    Parameters
    ----------
    X, Z : arrays of shape (N, D), (N, d)
    linear : LinearMap, optional
        From `affine_part`; makes the three encoder terms exact for data that fill their hull.
    intrinsic_dimension : int, optional
        k, the dimension of the data's tangent spaces, where it is known. Default the dimension of
        their affine hull.
    along_noise : object, optional
        An account along the noise, kept beside the four.

    Returns
    -------
    Penalties
        NaN, with the reason, where only derivatives or local fits would tell.

    Raises
    ------
    ValueError
        Z without one row per row of X; X of equal rows; `intrinsic_dimension` out of 1..hull.

    Notes
    -----
    Definitions: the theory page of the documentation, after Gu et al., arXiv 2604.02751. For
    affine f on data that fill their hull: 1 - rank / k and
    (1 / rank) sum (log(sigma_i^2 / c^2))^2. Curved data of smaller dimension than their hull may
    lose fewer of their directions than this says.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.random.default_rng(0).normal(size=(60, 3))
    >>> Z = X * np.asarray([1.0, 2.0, 4.0])
    >>> found = penalties(X, Z, linear=affine_part(None, X, Z).map)
    >>> round(found.tangential_distortion, 2), found.dimensional_compression
    (1.28, 0.0)
    """
    X = as_sample(X)
    Z = as_latent(X, Z)
    hull = linear.rank_data if linear is not None else hull_dimension(X)
    if hull == 0:
        raise ValueError(
            f"X has {X.shape[0]} rows but a single distinct one: pass at least two different rows."
        )
    k = hull if intrinsic_dimension is None else int(intrinsic_dimension)
    if not 1 <= k <= hull:
        raise ValueError(
            f"intrinsic_dimension is {k}, but the affine hull of X has dimension {hull}: pass a "
            f"value from 1 to {hull}, or None."
        )
    fills = "for data that fill their affine hull"
    if linear is not None and not linear.exact:
        fills += ", of which this sample spans a part"
    reasons = {"data_curvature": "not measured: needs local quadratic fits of the data"}
    if linear is not None and k == hull:
        xp = namespace(linear.singular_values)
        compression = 1.0 - linear.rank / k
        reasons["dimensional_compression"] = f"exact for an affine encoder, {fills}"
        if linear.rank:
            retained = linear.singular_values[: linear.rank]
            spread = 2.0 * xp.log(retained) - log_squared_scale(linear)
            distortion = float(xp.mean(spread**2))
            reasons["tangential_distortion"] = f"exact for an affine encoder, {fills}"
        else:
            distortion = math.nan
            reasons["tangential_distortion"] = "every direction is lost"
    else:
        rank = linear.rank if linear is not None else hull_dimension(Z)
        compression = max(0.0, 1.0 - rank / k)
        condition = fills if k == hull else f"for data of dimension {k}"
        reasons["dimensional_compression"] = (
            f"lower bound {condition}: what the {rank} dimensions of the latent's hull force"
        )
        distortion = math.nan
        reasons["tangential_distortion"] = (
            "not measured: needs the encoder's derivatives along the data's tangents"
        )
    curvature = math.nan
    reasons["encoder_curvature"] = "not measured: needs the encoder's second derivatives"
    if linear is not None and k == hull:
        curvature = 0.0
        reasons["encoder_curvature"] = f"exact for an affine encoder, {fills}"
    return Penalties(
        dimensional_compression=compression,
        tangential_distortion=distortion,
        encoder_curvature=curvature,
        data_curvature=math.nan,
        data_dimension=int(X.shape[1]),
        latent_dimension=int(Z.shape[1]),
        intrinsic_dimension=k,
        reasons=reasons,
        along_noise=along_noise,
    )
