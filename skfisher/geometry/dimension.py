"""Intrinsic dimension of data, from local spectra and from the plateau of d_eff."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from skfisher._backend.arrays import Array, like, namespace, take_rows
from skfisher._backend.draws import normal, permutation, seed_of
from skfisher._backend.neighbourhoods import local_shares, log_ratios, nearest_rows
from skfisher._backend.rows import distinct_rows
from skfisher._backend.validation import as_sample
from skfisher.geometry.affine import hull_of
from skfisher.geometry.anchors import (
    ANCHORS,
    check_positive,
    neighbourhood_sizes,
)

__all__ = [
    "IntrinsicDimension",
    "PlateauDimension",
    "intrinsic_dimension",
    "plateau_dimension",
]

_REFERENCE, _JITTER = 522, 523  # streams of the draws
_FEWEST = 36  # distinct rows that may tell a dimension
_AXES = 64  # leading principal axes in which tangents are sought to tell dimensions and sizes
_N_REFERENCES = 2
# A gap counts where the data are thinner than all three, see `intrinsic_dimension`.
_MOST_THICKNESS, _THINNER_THAN_GAUSSIAN, _THINNER_THAN_JITTER, _LOG_GAP = 0.25, 1.7, 1.5, 1.2
_CANDIDATES = 4  # gaps, largest first, that are tried against jitter
_FLAT = 0.15  # largest relative slope of d_eff on a plateau
_HULL_RTOL = 1e-8


@dataclass(frozen=True, eq=False)
class IntrinsicDimension:
    """How many directions the data have locally.

    Attributes
    ----------
    k : int
        The dimension of the tangent spaces; that of the affine hull where `fills_hull`.
    fills_hull : bool
        Whether no smaller dimension was found, so that the hull is every tangent space.
    hull : int
        Dimension of the affine hull.
    n_neighbors : int
        The neighbourhood size at which the gap is widest; the smallest where there is none.
    radius : float
        Mean distance to the last of these neighbours, in units of X.
    thickness : float
        Share of a neighbourhood's variance outside its k leading directions, at that size.
    methods : mapping of str to float
        Raw values: "local PCA" (the k of the widest gap, NaN where there is none), "maximum
        likelihood" (Levina and Bickel, its inverse averaged as by MacKay and Ghahramani, at
        `n_neighbors`), "two nearest neighbours" (Facco et al., which noise biases up), and the last
        two "of a Gaussian" of the same covariance and size.
    sizes : tuple of int
        Neighbourhood sizes that were looked at.
    log_gaps : array of shape (len(sizes), q)
        log(lambda_j / lambda_(j+1)) of the mean local spectrum, less that of the Gaussian: the
        entry [:, j - 1] for j = 1..q.
    agreement : bool
        Whether the maximum likelihood agrees: within a quarter of k where k < hull, within 15 % of
        the Gaussian's value where the data fill their hull.
    reason : str
    """

    k: int
    fills_hull: bool
    hull: int
    n_neighbors: int
    radius: float
    thickness: float
    methods: Mapping[str, float]
    sizes: tuple[int, ...]
    log_gaps: Array
    agreement: bool
    reason: str


@dataclass(frozen=True)
class PlateauDimension:
    """The dimension that a plateau of d_eff along the noise shows.

    Attributes
    ----------
    dimension, stderr : float
        d_eff there; NaN without a plateau.
    noise_level : float
        sigma of the plateau.
    slope : float
        d log d_eff / d log t there, in [-1, 0].
    reason : str
    """

    dimension: float
    stderr: float
    noise_level: float
    slope: float
    reason: str


def intrinsic_dimension(
    X: Any, *, max_anchors: int = 150, random_state: Any = 0
) -> IntrinsicDimension:
    """Dimension of the data's tangent spaces, or of their hull where they fill it.

    Parameters
    ----------
    X : array of shape (N, D)
    max_anchors : int
        Rows around which neighbourhoods are looked at.
    random_state : None, int, RandomState or Generator

    Returns
    -------
    IntrinsicDimension

    Raises
    ------
    ValueError
        X of equal rows, or `max_anchors` not positive.

    Notes
    -----
    In a ball of radius r the k tangential eigenvalues of the covariance grow like r^2, those of
    curvature like r^4, and noise stays. So there is a size at which lambda_k / lambda_(k+1) is
    largest. The same happens, less, in any sample of an anisotropic or clustered density; a gap
    counts therefore only beside two references of the same N: Gaussian samples of the same
    covariance (a parametric bootstrap), and the data jittered by their own pooled covariance at a
    quarter of the size, which keeps clusters and blurs surfaces. It must be e^1.2 times the
    Gaussian's, with a share of variance left outside at most 0.25, 1.7 times less than the
    Gaussian's and 1.5 times less than the jittered data's, and wider than the squared spread
    (lambda_1 / lambda_k)^2 of the tangential eigenvalues: without noise a twisted curve has a gap
    after its plane of curvature too, r^4 above r^6. Otherwise the data are taken to fill their
    hull: no smaller dimension can be *seen* at this N, which is no proof that there is none. A flat
    surface with noise is a Gaussian-like density in its hull and fills it.

    References: Levina and Bickel, NIPS 2004, with the average of MacKay and Ghahramani (2005);
    Facco, d'Errico, Rodriguez, Laio, Scientific Reports 2017; Little, Maggioni, Rosasco, ACHA 2017,
    for multiscale principal components.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> ball = rng.normal(size=(500, 3))
    >>> sphere = ball / np.linalg.norm(ball, axis=1, keepdims=True)
    >>> intrinsic_dimension(sphere).k, intrinsic_dimension(ball).k
    (2, 3)
    """
    X = as_sample(X)
    check_positive(max_anchors=max_anchors)
    seed = seed_of(random_state)
    points, hull = _principal(take_rows(X, distinct_rows(X)[0]))
    N = points.shape[0]
    if hull == 1 or max(hull + 1, _FEWEST) >= N:
        # a line, or too few rows for neighbourhoods
        why = "a hull of one dimension has no smaller one"
        if hull > 1:
            why = f"{N} distinct rows in a hull of dimension {hull} are too few to see less"
        return IntrinsicDimension(
            hull, True, hull, 0, math.nan, 0.0, {}, (), 0.0 * points[:0, :], hull == 1, why
        )
    xp = namespace(points)
    queries = permutation(seed, (ANCHORS,), N)[:max_anchors]
    sizes = neighbourhood_sizes(N)
    near, rows = nearest_rows(points, queries, sizes[-1])
    shares, _ = local_shares(points, queries, rows, sizes, _AXES)
    spread = xp.sqrt(xp.mean(points**2, axis=0))
    reference, distances = 0.0 * shares, []
    n_references = _N_REFERENCES if hull <= 2 * _AXES else 1
    for replicate in range(n_references):
        draws = normal(seed, (_REFERENCE, replicate), slice(0, N), hull, points) * spread[None, :]
        far, others = nearest_rows(draws, queries, sizes[-1])
        reference = reference + local_shares(draws, queries, others, sizes, _AXES)[0]
        distances.append(far)
    reference = reference / n_references
    gaps, found = [], []
    for i, m in enumerate(sizes):
        most = min(hull - 1, (m - 1) // 2, shares.shape[1] - 1)
        gaps.append([0.0] * (shares.shape[1] - 1))
        outside, blurred = 1.0, 1.0
        for k in range(1, most + 1):
            outside, blurred = outside - shares[i, k - 1], blurred - reference[i, k - 1]
            gap = _log_ratio(shares[i, k - 1], shares[i, k])
            gaps[i][k - 1] = gap - _log_ratio(reference[i, k - 1], reference[i, k])
            thin = outside <= min(_MOST_THICKNESS, blurred / _THINNER_THAN_GAUSSIAN)
            if thin and gap > 2.0 * _log_ratio(shares[i, 0], shares[i, k - 1]):
                found.append((gaps[i][k - 1], k, i, outside))
    found = sorted((f for f in found if f[0] >= _LOG_GAP), reverse=True)[:_CANDIDATES]
    best = None
    for _, k, i, outside in found:
        jittered = _jittered(points, queries, rows, max(6, sizes[i] // 4), seed)
        others = nearest_rows(jittered, queries, sizes[i])[1]
        share = local_shares(jittered, queries, others, [sizes[i]], _AXES)[0]
        if 1.0 - float(share[0, :k].sum()) >= _THINNER_THAN_JITTER * outside:
            best = (k, i, outside)
            break
    k, i, outside = best or (hull, 0, 0.0)
    m = sizes[i]
    likelihood = _likelihood(near[:, :m])
    expected = sum(_likelihood(far[:, :m]) for far in distances) / n_references
    methods = {
        "local PCA": float(k) if best else math.nan,
        "maximum likelihood": likelihood,
        "maximum likelihood of a Gaussian": expected,
        "two nearest neighbours": _two_nearest(near),
        "two nearest neighbours of a Gaussian": sum(map(_two_nearest, distances)) / n_references,
    }
    if best:
        agreement = abs(likelihood / k - 1.0) <= 0.25
        reason = f"local spectra fall after {k} directions, most at {m} neighbours"
    else:
        agreement = abs(likelihood / expected - 1.0) <= 0.15
        reason = "no gap in the local spectra that a Gaussian or the jittered data have not"
    if not agreement:
        reason += f"; the distances to {m} neighbours say {likelihood:.1f}" + (
            "" if best else f", those of a Gaussian {expected:.1f}"
        )
    return IntrinsicDimension(
        k=k,
        fills_hull=best is None,
        hull=hull,
        n_neighbors=m,
        radius=float(near[:, m - 1].mean()),
        thickness=float(outside),
        methods=methods,
        sizes=tuple(sizes),
        log_gaps=like(gaps, points),
        agreement=agreement,
        reason=reason,
    )


def plateau_dimension(curve: Any) -> PlateauDimension:
    """The dimension that the effective dimension keeps over a range of noise levels.

    Parameters
    ----------
    curve : InformationCurve

    Returns
    -------
    PlateauDimension
        Of the plateau at the largest noise, among valid levels: the data's coarsest structure of a
        constant dimension. NaN where no level is flat.

    Notes
    -----
    mmse = t d_eff and dmmse/dt = rate give d log d_eff / d log t = rate / d_eff - 1 exactly, so a
    plateau is a level where the two dimensions agree: within 15 %, and better than its neighbours.
    """
    levels = [float(s) for s in curve.noise_levels]
    d_eff = [float(v) for v in curve.effective_dimension]
    errors = [float(v) for v in curve.effective_dimension_stderr]
    rates = [float(r) for r in curve.mmse_rate]
    slopes = [r / d - 1.0 if d else math.nan for r, d in zip(rates, d_eff, strict=True)]
    usable = [bool(v) and abs(s) <= _FLAT for v, s in zip(curve.valid, slopes, strict=True)]
    for i in range(len(levels) - 1, -1, -1):
        beside = [abs(slopes[j]) for j in (i - 1, i + 1) if 0 <= j < len(levels)]
        if usable[i] and all(abs(slopes[i]) <= slope for slope in beside):
            reason = f"d_eff is flattest at sigma = {levels[i]:.3g}"
            return PlateauDimension(d_eff[i], errors[i], levels[i], slopes[i], reason)
    return PlateauDimension(
        math.nan, math.nan, math.nan, math.nan, "no valid level at which d_eff is flat to 15 %"
    )


def _principal(X: Array) -> tuple[Array, int]:
    """Centred rows in the hull's coordinates, by decreasing variance, and the hull's dimension."""
    _, U, S, _ = hull_of(X, _HULL_RTOL)
    if S.shape[0] == 0:
        raise ValueError(
            f"X has {X.shape[0]} rows but a single distinct one: pass at least two different rows."
        )
    return U * S[None, :], int(S.shape[0])


def _jittered(points: Array, queries: Any, rows: Any, n_neighbors: int, seed: int) -> Array:
    """The data plus normal draws of the pooled covariance of the tighter 3/4 of neighbourhoods.

    The widest may reach from one small cluster to the next, which would blur all clusters.
    """
    xp = namespace(points)
    some = rows[:_AXES, :n_neighbors]
    flat = take_rows(points, some.reshape(-1))
    local = xp.reshape(flat, (*some.shape, points.shape[1]))
    local = xp.concat([take_rows(points, queries[:_AXES])[:, None, :], local], axis=1)
    local = local - xp.mean(local, axis=1, keepdims=True)
    order = xp.argsort(xp.sum(local**2, axis=(1, 2)))
    local = xp.take(local, order[: max(1, 3 * some.shape[0] // 4)], axis=0)
    local = xp.reshape(local, (-1, points.shape[1])) / math.sqrt(local.shape[0] * n_neighbors)
    draws = normal(seed, (_JITTER,), slice(0, points.shape[0]), local.shape[0], points)
    return points + xp.matmul(draws, local)


def _log_ratio(a: Any, b: Any) -> float:
    """Logarithm of a / b of two shares, those below rounding taken as rounding."""
    return math.log(max(float(a), 1e-14) / max(float(b), 1e-14))


def _likelihood(distances: Any) -> float:
    # E of (m - 1) / sum log(r_m / r_j) is biased by (m - 1) / (m - 2); its inverse is averaged
    m = distances.shape[1]
    return float((m - 2) / (m - 1) / log_ratios(distances).mean())


def _two_nearest(distances: Any) -> float:
    """Maximum likelihood of the Pareto law of r_2 / r_1 over the anchors, unbiased."""
    ratios = log_ratios(distances[:, :2])
    return float((len(ratios) - 1) / len(ratios) / ratios.mean())
