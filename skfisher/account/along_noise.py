"""The account at every noise level: posteriors of four channels and what they differ by."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from skfisher._backend.arrays import (
    MEMORY_BUDGET,
    Array,
    index_like,
    like,
    namespace,
    row_chunks,
    to_numpy,
)
from skfisher._backend.draws import seed_of
from skfisher._backend.moments import SharedRows, covariance_traces, posteriors
from skfisher.account.channels import channels_at
from skfisher.account.inputs import Case, make_case
from skfisher.account.results import CHANNELS, ROUNDING, AccountLimits, AccountTerms, RateAccount
from skfisher.noise import check_noise_levels

__all__ = ["fisher_rate_account"]

_ALONE = 1.1  # rows under the posteriors below which nothing is measured
_TRIANGLE = 32  # dimension above which the rows' Gram matrix is shared
_CANCELLATION = 1e4  # |m|^2 / t up to which a posterior is centred at the mean of all rows


def fisher_rate_account(
    X: Any,
    Z: Any,
    *,
    anchors: Any,
    basis: Array,
    pushforward: Array,
    second_form: Array | None = None,
    scale: float,
    noise_levels: Any,
    sample_weight: Any = None,
    n_draws: int = 2,
    random_state: Any = 0,
    limits: AccountLimits | None = None,
    memory_budget: int = MEMORY_BUDGET,
) -> RateAccount:
    r"""Split the way from the data's t^2 R to the latent's by its causes, at every noise level.

    Parameters
    ----------
    X, Z : arrays of shape (N, D), (N, d)
        Data and latent; rows that are equal in both count as one heavier row.
    anchors : integer array of shape (A,)
        At least two rows of X, the points at which the account is made.
    basis : array of shape (A, D, k)
        Orthonormal tangent bases U of the data at the anchors.
    pushforward : array of shape (A, d, k)
        B = Df U, in z/x.
    second_form : array of shape (A, D, k, k), optional
        Second fundamental form of the data, in 1/x. None means flat data: then channel 0 is the
        projection on the tangent plane.
    scale : float
        c, in z/x.
    noise_levels : array-like of shape (T,)
        sigma of the data, increasing, in units of X.
    sample_weight : array-like of shape (N,), optional
        Mass of each row in the posteriors, and of each anchor in the means.
    n_draws : int
        Noise draws per anchor, in antithetic pairs.
    random_state : None, int, RandomState or Generator
    limits : AccountLimits, optional
    memory_budget : int
        Bytes of temporary arrays.

    Returns
    -------
    RateAccount
        In the library and on the device of X, in float64. Biased towards smaller d_eff and rate
        where posteriors rest on few rows (see Notes), which `valid` excludes.

    Raises
    ------
    ValueError
        Shapes that do not belong together, NaN, a basis that is not orthonormal, fewer than two
        anchors or rows, anchors out of range, or a scale, level or number of draws that is not
        positive.

    Notes
    -----
    A model, not a theorem: the split is exact as arithmetic, its reading as causes is a
    definition (the theory page of the documentation, after Gu et al., arXiv 2604.02751).

    Flat data: with p = U^T (x_i - x_j) and kappa = |II(p, p)| / |p|^2, v_i points along p and has
    the length (2 / kappa) asin(kappa |x_i - x_j| / 2), exact on circles and spheres, and to fourth
    order in the length on every submanifold.

    Noise: eps in channel 1, U^T eps in channel 0, which lies in the tangent plane. In channels 2
    and 3 Q U^T eps, Q the polar factor of B, and off the range of Q first the image of eps under
    the isometry that best carries the rows' offsets from the tangent plane to their latents'
    offsets from range(B) (Procrustes over rows weighted by |x_i - x_j|^-4), then fresh noise. So a
    scaled rigid map of flat or curved data makes tangential and encoder terms zero to rounding.
    (Where both spaces have more than 128 dimensions, the 128 nearest rows decide that isometry.)

    Cost: A T n_draws posteriors over N rows in four channels. Up to 32 dimensions covariances are
    formed, N n^2 / 2 multiply-adds each; beyond, |C|_F^2 comes from the Gram matrix of the rows
    that carry weight, or of all rows, N (N + 4 n).

    Few rows: against exact Gaussians the empirical posterior lowers d_eff by 1.4 / ESS to 2.1 / ESS
    of itself, ESS the median number of rows under it: 5 % at most from the limit of 50 on. The rate
    is off by less in 1 to 4 dimensions; in 8 it is 10 % too high at an ESS of 47, 4 % at 180. The
    channels share most of it: above the limit the terms were off by less than 1 % of k
    (isotropic to 16-fold stretched, 1 to 8 dimensions, 300 to 2000 rows).

    Examples
    --------
    >>> import numpy as np
    >>> from skfisher.account import dominant
    >>> X = np.random.default_rng(0).normal(size=(1000, 2))
    >>> A = np.diag([0.5, 2.0])
    >>> anchors = np.arange(200)
    >>> account = fisher_rate_account(
    ...     X, X @ A, anchors=anchors, basis=np.tile(np.eye(2), (200, 1, 1)),
    ...     pushforward=np.tile(A, (200, 1, 1)), scale=1.0, noise_levels=[0.5, 1.0])
    >>> dominant(account)
    ('tangential distortion', 'tangential distortion')
    >>> float(abs(account.mmse_rate.encoder).max()) < 1e-9
    True
    """
    case = make_case(X, Z, anchors, basis, pushforward, second_form, scale, sample_weight)
    sigma = check_noise_levels(noise_levels)
    if n_draws != int(n_draws) or n_draws < 1:
        raise ValueError(f"n_draws is {n_draws}: pass a whole number of noise draws, 1 or more.")
    limits = AccountLimits() if limits is None else limits
    xp = namespace(case.X)
    measured = _measure(case, sigma, int(n_draws), seed_of(random_state), memory_budget)
    d_eff, rate, ess, off_chart = measured
    T = len(sigma)
    middle = [
        min(_median(xp.reshape(ess[:, level, :, channel], (-1,))) for channel in range(4))
        for level in range(T)
    ]
    off = [float(x) for x in case.average(off_chart)[0]]
    n_rows = case.X.shape[0]
    reasons = tuple(_why_not(middle[i], off[i], n_rows, limits) for i in range(T))
    lost = like([math.nan if m < _ALONE else 0.0 for m in middle], case.X)[None, :, None]
    d_eff, rate = d_eff + lost, rate + lost
    D, d = case.n_features
    dimensions = like([D, D, d, d], case.X)
    return RateAccount(
        noise_levels=like(sigma, case.X),
        scale=case.scale,
        effective_dimension=_terms(d_eff, 0.0, case),
        mmse_rate=_terms(rate, 0.0, case),
        complexity_penalty=_terms(rate - 2.0 * d_eff + dimensions, float(d - D), case),
        effective_sample_size=like(middle, case.X),
        valid=xp.asarray([not reason for reason in reasons], device=case.X.device),
        reasons=reasons,
        anchors=index_like(case.rows, case.X),
        n_draws=int(n_draws),
        limits=limits,
    )


def _measure(
    case: Case, sigma: Any, n_draws: int, seed: int, memory_budget: int
) -> tuple[Array, Array, Array, Array]:
    """d_eff, rate (A, T, 4), rows under the posteriors (A, T, n_draws, 4), share off chart (A, T).

    The last two are of the posteriors; the first two averaged over draws.
    """
    xp = namespace(case.X)
    A, T, N = len(case.rows), len(sigma), case.X.shape[0]
    shared = [
        SharedRows(points, memory_budget) if points.shape[1] > _TRIANGLE else None
        for points in (case.X, case.Z)
    ]
    tallies = [_Tally() for _ in CHANNELS]
    off_chart = []
    for a in range(A):
        channels, beyond = channels_at(case, a, n_draws, seed)
        for part in row_chunks(T, 64.0 * n_draws * N, memory_budget):
            levels = like(sigma[part], case.X)
            for index, (points, noise) in enumerate(channels):
                if points is None:  # the data are flat here: the same law, the same numbers
                    tallies[index].pieces.append(tallies[index - 1].pieces[-1])
                    tallies[index].ess.append(tallies[index - 1].ess[-1])
                    continue
                at = levels * case.scale if index >= 2 else levels
                squares = xp.sum(points**2, axis=1)
                linear = xp.matmul(noise, xp.matrix_transpose(points))
                P = posteriors(linear, squares, case.log_weights, at)
                pool = shared[index // 2] if index % 2 else None
                tallies[index].add(P, points, at, pool, int(case.places[a]), memory_budget)
                if index == 0:
                    share = xp.mean(xp.sum(P * beyond[None, None, :], axis=2), axis=1)
                    off_chart.append(share)
    pooled = [None if pool is None else pool.traces() for pool in shared]
    t = like(sigma, case.X)[None, :, None] ** 2
    found = []
    for index, tally in enumerate(tallies):
        trace, squared = tally.stitched(pooled[index // 2] if index % 2 else None, case.X)
        trace = xp.reshape(trace, (A, T, n_draws))
        squared = xp.reshape(squared, (A, T, n_draws))
        at = t * case.scale**2 if index >= 2 else t
        ess = xp.reshape(xp.concat(tally.ess), (A, T, n_draws))
        found.append((xp.mean(trace / at, axis=2), xp.mean(squared / at**2, axis=2), ess))
    d_eff, rate, ess = (xp.stack([f[i] for f in found], axis=-1) for i in range(3))
    return d_eff, rate, ess, xp.reshape(xp.concat(off_chart), (A, T))


@dataclass
class _Tally:
    """What a channel gathers: traces as they come, or the number of those that a pool owes it."""

    pieces: list[tuple[Array, Array] | int] = field(default_factory=list)
    ess: list[Array] = field(default_factory=list)

    def add(
        self,
        P: Array,
        points: Array,
        sigma: Array,
        pool: SharedRows | None,
        place: int,
        memory_budget: int,
    ) -> None:
        """Traces of the posteriors P (T', n, N), all at once, level by level or in the pool."""
        xp = namespace(points)
        n_levels, n_draws, N = P.shape
        self.ess.append(xp.reshape(1.0 / xp.sum(P**2, axis=2), (-1,)))
        start = 0
        if pool is not None:
            size = points.shape[1]
            heavy = to_numpy(xp.count_nonzero(xp.any(P > 0.0, axis=1), axis=1))
            cancelling = to_numpy(pool.squares[place] / sigma**2) > _CANCELLATION
            own = (heavy**2 * size < n_draws * N * (N + 4 * size)) | cancelling
            start = max((level + 1 for level in range(n_levels) if own[level]), default=0)
            for level in range(start):
                self.pieces.append(covariance_traces(points, P[level, :, :], memory_budget))
            if start == n_levels:
                return
        rest = xp.reshape(P[start:, :, :], (-1, N))
        if pool is None:
            self.pieces.append(covariance_traces(points, rest, memory_budget))
        else:
            pool.add(rest)
            self.pieces.append(int(rest.shape[0]))

    def stitched(self, pooled: tuple[Array, Array] | None, reference: Array) -> list[Array]:
        """Traces and squared norms of all posteriors, in order."""
        xp = namespace(reference)
        done, start = [], 0
        for piece in self.pieces:
            if isinstance(piece, int):
                assert pooled is not None
                done.append(tuple(values[start : start + piece] for values in pooled))
                start += piece
            else:
                done.append(piece)
        return [xp.concat([pair[i] for pair in done]) for i in range(2)]


def _terms(values: Array, dimension: float, case: Case) -> AccountTerms:
    """The split of one quantity from its channels (A, T, 4)."""
    xp = namespace(values)
    shift = dimension / 2.0  # d - D is between the pairs of channels, not within them
    g0, g1, g2, g3 = (values[:, :, i] for i in range(4))
    data, tangential = g1 - g0, (g2 - shift) - (g0 + shift)
    encoder = (g3 - g2) - data
    per_sample = xp.stack([data, tangential, encoder], axis=-1)
    channels, channels_stderr = case.average(values)
    mean, stderr = case.average(per_sample)
    size = xp.where(xp.abs(mean) > ROUNDING, xp.abs(mean), 0.0 * mean)
    total = xp.sum(size, axis=1, keepdims=True)
    share = xp.where(total > 0.0, size / xp.where(total > 0.0, total, 1.0), math.nan)
    return AccountTerms(
        channels=channels,
        channels_stderr=channels_stderr,
        dimension=dimension,
        data=mean[:, 0],
        data_stderr=stderr[:, 0],
        tangential=mean[:, 1],
        tangential_stderr=stderr[:, 1],
        encoder=mean[:, 2],
        encoder_stderr=stderr[:, 2],
        share=share,
        per_sample=per_sample,
    )


def _why_not(ess: float, off_chart: float, n_rows: int, limits: AccountLimits) -> str:
    """Why a level may not be believed; empty where it may."""
    if ess < _ALONE:
        return f"every posterior rests on one of the {n_rows} distinct rows: more rows are needed"
    if ess < limits.effective_sample_size:
        return (
            f"posteriors rest on {ess:.2g} rows (median), fewer than "
            f"{limits.effective_sample_size:g}: more rows or more noise are needed"
        )
    if off_chart > limits.off_chart:
        return (
            f"{off_chart:.0%} of the flat data's posterior lies beyond the chart that the "
            f"curvature at the anchors allows: the noise is larger than the data's shape"
        )
    return ""


def _median(values: Array) -> float:
    xp = namespace(values)
    ordered, n = xp.sort(values), values.shape[0]
    return (float(ordered[(n - 1) // 2]) + float(ordered[n // 2])) / 2.0
