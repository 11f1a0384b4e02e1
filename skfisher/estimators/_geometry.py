"""The geometry of an encoder on the rows that are audited, put together in one record."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from skfisher._backend.arrays import Array, index_like, namespace
from skfisher.account import fisher_rate_account
from skfisher.channels import ChannelReport, channel_report
from skfisher.curves import InformationCurve
from skfisher.diagnosis import Diagnosis, diagnose, is_folded
from skfisher.geometry import (
    AffineFit,
    BiLipschitz,
    DistanceProfile,
    FoldReport,
    IntrinsicDimension,
    LinearMap,
    Penalties,
    Scale,
    bi_lipschitz,
    distance_profile,
    fold_share,
    penalties,
    scale,
    tangent_spaces,
)
from skfisher.geometry import intrinsic_dimension as estimate_dimension
from skfisher.geometry.anchors import choose_anchors
from skfisher.preservation import Preservation, preserves_fisher_rate

__all__ = ["EncoderGeometry", "diagnosis_of", "encoder_geometry", "preservation_of"]

ACCOUNT_ANCHORS = 64
"""Points at which the account of an affine encoder is made; for others, those of the penalties."""


@dataclass(frozen=True, eq=False)
class EncoderGeometry:
    """What an encoder does to the rows: constants, scale, penalties, folds, channels."""

    fit: AffineFit
    penalties: Penalties
    data_dimension: IntrinsicDimension
    latent_dimension: IntrinsicDimension
    bi_lipschitz: BiLipschitz
    scale: Scale
    distances: DistanceProfile | None
    folds: FoldReport | None
    channels: ChannelReport


def encoder_geometry(
    X: Array,
    Z: Array,
    *,
    encode: Any,
    container: Callable[[Array], Any] | None,
    latent_spread: Array | None,
    fit: AffineFit,
    intrinsic_dimension: int | str,
    sample_weight: Any,
    noise_levels: Array,
    latent_shape: tuple[int, ...] | None,
    random_state: int,
) -> EncoderGeometry:
    """Measure everything about an encoder that is not a curve.

    Parameters
    ----------
    X, Z : arrays of shape (N, D), (N, d)
    encode : encoder or None
        What derivatives are taken of; None takes them from the pairs.
    container : callable or None
        The kind of table that the encoder is given.
    latent_spread : array of shape (d,) or None
        By which its columns were divided to give Z.
    fit : AffineFit
    intrinsic_dimension : int or "auto"
    sample_weight : vector of length N or None
    noise_levels : array of shape (T,)
        Of the account, in units of X.
    latent_shape : tuple of int or None
    random_state : int
    """
    linear = fit.map
    of_data = estimate_dimension(X, random_state=random_state)
    same = encode is None and latent_spread is None
    of_latent = of_data if same else estimate_dimension(Z, random_state=random_state)
    found = penalties(
        X,
        Z,
        encode=encode,
        container=container,
        latent_spread=latent_spread,
        linear=linear,
        pointwise=True,
        intrinsic_dimension=of_data if intrinsic_dimension == "auto" else intrinsic_dimension,
        random_state=random_state,
    )
    point = found.pointwise
    values = None if point is None else point.singular_values
    lipschitz = bi_lipschitz(
        X,
        Z,
        linear=linear,
        singular_values=values,
        intrinsic_dimension=found.intrinsic_dimension,
        random_state=random_state,
    )
    stretch = scale(lipschitz, linear=linear, singular_values=values)
    distances = None
    if math.isfinite(stretch.c) and stretch.c > 0:
        distances = distance_profile(X, Z, c=stretch.c, random_state=random_state)
    frames = _frames(X, found, linear, random_state)
    folds = None
    if frames is not None:
        # an affine map folds no flat data, but may fold curved ones
        if linear is None or found.intrinsic_dimension < linear.rank_data:
            folds = fold_share(
                X,
                Z,
                frames.basis,
                frames.pushforward,
                anchors=frames.anchors,
                random_state=random_state,
            )
        # a constant that is proved to be positive outweighs a diagnostic
        injective = lipschitz.exact and lipschitz.m > 0
        if folds is not None and is_folded(folds) and not injective:
            kind = "folded: neighbours in the latent lie on different sheets, so that m = 0"
            lipschitz = replace(lipschitz, m=0.0, exact=False, kind=kind)
        if _is_rigid(linear, found):
            zero = "0 at every noise level: a scaled rigid map of data that fill their hull"
            found = replace(found, reasons={**found.reasons, "along_noise": zero})
        elif math.isfinite(stretch.c):
            account = fisher_rate_account(
                X,
                Z,
                anchors=frames.anchors,
                basis=frames.basis,
                pushforward=frames.pushforward,
                second_form=frames.second_form,
                scale=stretch.c,
                noise_levels=noise_levels,
                sample_weight=sample_weight,
                random_state=random_state,
            )
            found = replace(found, along_noise=account)
    return EncoderGeometry(
        fit=fit,
        penalties=found,
        data_dimension=of_data,
        latent_dimension=of_latent,
        bi_lipschitz=lipschitz,
        scale=stretch,
        distances=distances,
        folds=folds,
        channels=channel_report(Z, latent_shape),
    )


def _is_rigid(linear: LinearMap | None, found: Penalties) -> bool:
    """Whether the encoder scales all distances alike, on data without curvature."""
    flat = linear is not None and found.intrinsic_dimension == linear.rank_data
    return flat and linear is not None and math.isclose(linear.m, linear.L, rel_tol=1e-8)


@dataclass(frozen=True, eq=False)
class _Frames:
    """Tangent bases, derivatives along them and second forms at some anchors."""

    anchors: Array
    basis: Array
    pushforward: Array
    second_form: Array | None


def _frames(
    X: Array, found: Penalties, linear: LinearMap | None, random_state: int
) -> _Frames | None:
    """What the account and the folds need; None where the derivatives are not known."""
    xp, point = namespace(X), found.pointwise
    if point is not None:
        basis = point.basis
        if basis is None:  # the hull's
            basis = tangent_spaces(X, found.intrinsic_dimension, anchors=point.anchors).basis
        return _Frames(point.anchors, basis, point.pushforward, point.second_form)
    if linear is None or found.intrinsic_dimension != linear.rank_data:
        return None
    at = choose_anchors(X, ACCOUNT_ANCHORS, random_state)
    return _Frames(
        index_like(at, X),
        xp.broadcast_to(linear.basis[None, :, :], (len(at), *linear.basis.shape)),
        xp.broadcast_to(linear.matrix[None, :, :], (len(at), *linear.matrix.shape)),
        None,
    )


def preservation_of(
    geometry: EncoderGeometry, data: InformationCurve, matched: InformationCurve
) -> Preservation | None:
    """Whether the latent keeps the data's MMSE rate, per noise level; None without a scale."""
    found, lipschitz, linear = geometry.penalties, geometry.bi_lipschitz, geometry.fit.map
    c, k = geometry.scale.c, found.intrinsic_dimension
    if not (math.isfinite(c) and c > 0):
        return None
    rank = k - round(k * found.dimensional_compression)
    outside = (found.encoder_curvature_outside, found.encoder_curvature_stderr)
    if found.pointwise is not None:
        outside = found.pointwise.means["encoder_curvature_outside"]
    return preserves_fisher_rate(
        data.noise_levels,
        intrinsic_dimension=k,
        c=c,
        rank=rank,
        tangential_distortion=found.tangential_distortion,
        tangential_distortion_stderr=found.tangential_distortion_stderr,
        data_curvature=found.data_curvature,
        data_curvature_stderr=found.data_curvature_stderr,
        latent_curvature=outside[0],
        latent_curvature_stderr=outside[1],
        reach=found.reach,
        m=lipschitz.m,
        L=lipschitz.L,
        exact_constants=lipschitz.exact,
        affine=linear is not None,
        data=data,
        latent=matched,
    )


def diagnosis_of(
    X: Array,
    Z: Array,
    geometry: EncoderGeometry,
    rows: Any,
    data: InformationCurve,
    matched: InformationCurve,
) -> Diagnosis:
    """What is wrong with the latent, from its geometry and the curves at matched noise."""
    point, linear = geometry.penalties.pointwise, geometry.fit.map
    pushforward, anchors = None, None
    if point is not None:
        pushforward, anchors = point.pushforward, point.anchors
    elif linear is not None:
        pushforward = linear.matrix[None, :, :]
    return diagnose(
        X,
        Z,
        penalties=geometry.penalties,
        channels=geometry.channels,
        scale=geometry.scale.c,
        pushforward=pushforward,
        anchors=anchors,
        folds=geometry.folds,
        rows=rows,
        data=data,
        matched=matched,
    )
