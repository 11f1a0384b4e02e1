"""The four penalties of an encoder as geometry, averaged over the data."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from skfisher._backend.arrays import Array, like, namespace
from skfisher._backend.draws import seed_of
from skfisher._backend.validation import as_sample
from skfisher.geometry.affine import LinearMap, as_latent, hull_dimension, log_squared_scale
from skfisher.geometry.anchored import Anchored, measure
from skfisher.geometry.dimension import IntrinsicDimension
from skfisher.geometry.dimension import intrinsic_dimension as estimate_dimension
from skfisher.geometry.pointwise import PointwiseGeometry, lost_directions_of

__all__ = ["Penalties", "penalties"]


@dataclass(frozen=True, eq=False)
class Penalties:
    """The four penalties as geometry, without unit except the curvatures.

    Attributes
    ----------
    dimensional_compression : float
        Share of the data's own directions that are lost, 1 - rank / k.
    tangential_distortion : float
        E |log(G / c^2)|_F^2 / rank over the retained values, G the pull-back metric.
    encoder_curvature, data_curvature : float
        Mean squared acceleration of images of geodesics (1/z^2), mean squared second fundamental
        form (1/x^2). Averaging over the data's directions mixes some distortion into the first.
    data_dimension, latent_dimension, intrinsic_dimension : int
        D, d and k.
    reasons : mapping of str to str
        For each of the four: how it was found and under which condition, or why it is NaN.
    along_noise : object or None
        The account of the Fisher information rate along the noise, where one was made.
    dimensional_compression_stderr, tangential_distortion_stderr : float
    encoder_curvature_stderr, data_curvature_stderr : float
        Standard errors over anchors, with those of fits and derivatives; 0 where exact.
    encoder_curvature_inside, encoder_curvature_outside : float
        Parts inside the tangent image (change of the metric along the way) and outside it (bending
        of the latent); they add up to `encoder_curvature`.
    encoder_curvature_scale_free, data_curvature_scale_free : float
        Times the trace of the covariance of Z and of X.
    curvature_change, curvature_change_stderr : float
        What the encoder adds to the data's bending, in 1/x^2: c^2 times the encoder curvature less
        the data curvature. The encoder curvature is that of the image, so that a rigid map of
        curved data keeps the data's; this is 0 for it, and negative where an encoder unrolls.
    reach : float
        Upper estimate of the data's reach, in units of X; infinite for flat data.
    lost_directions : array of shape (q, D) or None
        Orthonormal directions of data space that the encoder loses at most anchors, by the variance
        they carry, at most 32.
    anchors : integer array of shape (A,) or None
        Rows at which the rest was measured; None for closed forms.
    pointwise : PointwiseGeometry or None
        The values at each anchor.
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
    dimensional_compression_stderr: float = math.nan
    tangential_distortion_stderr: float = math.nan
    encoder_curvature_stderr: float = math.nan
    data_curvature_stderr: float = math.nan
    encoder_curvature_inside: float = math.nan
    encoder_curvature_outside: float = math.nan
    encoder_curvature_scale_free: float = math.nan
    data_curvature_scale_free: float = math.nan
    curvature_change: float = math.nan
    curvature_change_stderr: float = math.nan
    reach: float = math.nan
    lost_directions: Array | None = None
    anchors: Array | None = None
    pointwise: PointwiseGeometry | None = None

    @property
    def curvature_injection(self) -> float:
        """`encoder_curvature`, by the name of the paper's first version."""
        return self.encoder_curvature


def penalties(
    X: Any,
    Z: Any,
    *,
    encode: Any = None,
    linear: LinearMap | None = None,
    intrinsic_dimension: int | str | IntrinsicDimension | None = None,
    pointwise: bool | None = None,
    latent_spread: Any = None,
    container: Callable[[Array], Any] | None = None,
    max_anchors: int = 128,
    random_state: Any = 0,
    along_noise: Any = None,
) -> Penalties:
    """Dimensional compression, tangential distortion, encoder curvature and data curvature.

    Parameters
    ----------
    X, Z : arrays of shape (N, D), (N, d)
    encode : object or function, optional
        The encoder, for its derivatives: see `directional_derivatives`. Without it, or where they
        are not to be had, local fits to the pairs (x, z) take their place.
    linear : LinearMap, optional
        From `affine_part`; makes the three encoder terms exact for data that fill their hull.
    intrinsic_dimension : int, "auto", IntrinsicDimension or None
        k, the dimension of the data's tangent spaces, or an estimate of it; "auto" makes one. None
        is the dimension of their affine hull.
    pointwise : bool, optional
        Whether to measure at anchors what no closed form tells. None: where `encode` is given.
    latent_spread : array of shape (d,), optional
        By which the encoder's columns were divided to give Z.
    container : callable, optional
        What the encoder is given rows in.
    max_anchors : int
        Rows, drawn at random, at which derivatives and fits are taken.
    random_state : None, int, RandomState or Generator
    along_noise : object, optional
        An account along the noise, kept beside the four.

    Returns
    -------
    Penalties
        NaN, with the reason, where only derivatives or local fits would tell.

    Raises
    ------
    ValueError
        Z without one row per row of X; X of equal rows; `intrinsic_dimension` that is no whole
        number or out of 1..hull.

    Notes
    -----
    Definitions: the theory page of the documentation, after Gu et al., arXiv 2604.02751. For
    affine f on data that fill their hull: 1 - rank / k and
    (1 / rank) sum (log(sigma_i^2 / c^2))^2. Curved data of smaller dimension than their hull may
    lose fewer of their directions than this says.

    Examples
    --------
    >>> import numpy as np
    >>> from skfisher.geometry import affine_part
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
    xp = namespace(X)
    seed = seed_of(random_state)
    how = ""
    if isinstance(intrinsic_dimension, str):
        if intrinsic_dimension != "auto":
            raise ValueError(
                f"intrinsic_dimension is {intrinsic_dimension!r}: pass a number, 'auto' or None."
            )
        intrinsic_dimension = estimate_dimension(X, random_state=seed)
    if isinstance(intrinsic_dimension, IntrinsicDimension):
        how = f" (k = {intrinsic_dimension.k}: {intrinsic_dimension.reason})"
        intrinsic_dimension = min(intrinsic_dimension.k, hull)
    k = hull if intrinsic_dimension is None else intrinsic_dimension
    if not isinstance(k, numbers.Integral) or isinstance(k, bool):
        raise ValueError(f"intrinsic_dimension is {k!r}: pass a whole number, 'auto' or None.")
    k = int(k)
    if not 1 <= k <= hull:
        raise ValueError(
            f"intrinsic_dimension is {k}, but the affine hull of X has dimension {hull}: pass a "
            f"value from 1 to {hull}, or None."
        )
    found = _closed_form(X, Z, linear, k, hull, along_noise)
    if how and k == hull:
        flat = {"data_curvature": "0: data that fill their affine hull are flat"}
        found = replace(
            found,
            data_curvature=0.0,
            data_curvature_stderr=0.0,
            data_curvature_scale_free=0.0,
            reach=math.inf,
            reasons={**found.reasons, **flat},
        )
    measured = encode is not None if pointwise is None else pointwise
    if measured and not (linear is not None and k == hull):
        wide, latent = xp.astype(X, xp.float64), like(Z, xp.astype(X, xp.float64))
        there = measure(
            wide,
            latent,
            k,
            encode=encode,
            linear=linear,
            latent_spread=latent_spread,
            container=container,
            max_anchors=max_anchors,
            seed=seed,
        )
        found = _with_measured(found, wide, latent, there)
    if how:
        reasons = {name: reason + how for name, reason in found.reasons.items()}
        found = replace(found, reasons=reasons)
    return found


def _closed_form(
    X: Array, Z: Array, linear: LinearMap | None, k: int, hull: int, along_noise: Any
) -> Penalties:
    """What the hulls and an affine map tell, exactly or as a bound."""
    fills = "for data that fill their affine hull"
    if linear is not None and not linear.exact:
        fills += ", of which this sample spans a part"
    reasons = {"data_curvature": "not measured: needs local quadratic fits of the data"}
    exact = linear is not None and k == hull
    distortion, lost = math.nan, None
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
            reasons["tangential_distortion"] = "every direction is lost"
        if linear.rank < k:
            rank = like([float(linear.rank)], linear.matrix)
            lost, _ = lost_directions_of(
                linear.basis[None, :, :], linear.matrix[None, :, :], rank, like(X, linear.basis)
            )
    else:
        rank = linear.rank if linear is not None else hull_dimension(Z)
        compression = max(0.0, 1.0 - rank / k)
        condition = fills if k == hull else f"for data of dimension {k}"
        reasons["dimensional_compression"] = (
            f"lower bound {condition}: what the {rank} dimensions of the latent's hull force"
        )
        reasons["tangential_distortion"] = (
            "not measured: needs the encoder's derivatives along the data's tangents"
        )
    curvature = math.nan
    reasons["encoder_curvature"] = "not measured: needs the encoder's second derivatives"
    if exact:
        curvature = 0.0
        reasons["encoder_curvature"] = f"exact for an affine encoder, {fills}"
    zero = 0.0 if exact else math.nan
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
        dimensional_compression_stderr=zero,
        tangential_distortion_stderr=zero if distortion == distortion else math.nan,
        encoder_curvature_stderr=zero,
        encoder_curvature_inside=zero,
        encoder_curvature_outside=zero,
        encoder_curvature_scale_free=zero,
        curvature_change=zero,
        curvature_change_stderr=zero,
        lost_directions=lost,
    )


def _with_measured(found: Penalties, X: Array, Z: Array, there: Anchored) -> Penalties:
    """The penalties with what was measured at anchors in place of what hulls tell."""
    xp = namespace(X)
    means, reasons = there.means, {**found.reasons, **there.reasons}
    compression = means.get("dimensional_compression")
    variance_X, variance_Z = (float(xp.sum(xp.var(w, axis=0))) for w in (X, Z))
    unknown = (math.nan, math.nan)
    distortion = means.get("tangential_distortion", unknown)
    curvature = means.get("encoder_curvature", unknown)
    own = means.get("data_curvature", unknown)
    return replace(
        found,
        dimensional_compression=found.dimensional_compression
        if compression is None
        else compression[0],
        tangential_distortion=distortion[0],
        encoder_curvature=curvature[0],
        data_curvature=own[0],
        reasons=reasons,
        dimensional_compression_stderr=math.nan if compression is None else compression[1],
        tangential_distortion_stderr=distortion[1],
        encoder_curvature_stderr=curvature[1],
        data_curvature_stderr=own[1],
        encoder_curvature_inside=means.get("encoder_curvature_inside", unknown)[0],
        encoder_curvature_outside=means.get("encoder_curvature_outside", unknown)[0],
        encoder_curvature_scale_free=curvature[0] * variance_Z,
        data_curvature_scale_free=own[0] * variance_X,
        curvature_change=means.get("curvature_change", unknown)[0],
        curvature_change_stderr=means.get("curvature_change", unknown)[1],
        reach=there.reach,
        lost_directions=there.lost_directions,
        anchors=there.anchors,
        pointwise=there.geometry,
    )
