"""The information curve of one sample space along the noise, and its closed form for Gaussians."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Any

from scipy.interpolate import CubicSpline

from skfisher._backend.arrays import Array, cast_like, index_like, like, namespace, to_numpy
from skfisher.forms import value_of

__all__ = [
    "InformationCurve",
    "Validity",
    "curve_like",
    "gaussian_curve",
    "information_weights",
    "mean_complexity",
    "select_levels",
    "viv_of_gaussian",
    "viv_weights",
]


@dataclass(frozen=True)
class Validity:
    """When a level may be believed; limits are shares of the quantity they belong to.

    Attributes
    ----------
    bracket_width : float
        Largest (upper - lower) / J.
    stderr : float
        Largest relative standard error of J, R and the MMSE.
    rate_stderr : float
        Largest relative standard error of the MMSE rate.
    stein : float
        Largest |E|s|^2 + E tr H| / J.
    consistency : float
        Largest |R by E|H|^2 - R by -dJ/dt| / R.
    effective_sample_size : float
        Smallest median number of points on which the empirical posterior rests.
    independent_rows : float
        Fewest independent rows (groups, where given): fewer do not tell their own error.
    n_errors : float
        A residual counts only by what it exceeds this many of its standard errors.
    """

    bracket_width: float = 0.10
    stderr: float = 0.03
    rate_stderr: float = 0.05
    stein: float = 0.05
    consistency: float = 0.08
    effective_sample_size: float = 5.0
    independent_rows: float = 20.0
    n_errors: float = 2.0


@dataclass(frozen=True, eq=False)
class InformationCurve:
    """Information quantities at every noise level, with errors, brackets and validity.

    Every array has one entry per noise level, in increasing order of noise; ``*_stderr`` are
    standard errors. Units are powers of the unit of X.

    Attributes
    ----------
    noise_levels : array of shape (T,)
        sigma, in units of X; t = sigma^2.
    n_features, n_samples : int
        Dimension n of the space; rows that entered (0 for a closed form).
    fisher_information, fisher_information_rate : array of shape (T,)
        J (1/x^2) and R = -dJ/dt (1/x^4).
    mmse, mmse_rate, effective_dimension : array of shape (T,)
        n t - t^2 J (x^2), its derivative n - 2tJ + t^2 R and d_eff = n - tJ (no unit).
    noise_gain, complexity_penalty : array of shape (T,)
        The two parts of the MMSE rate: n - 2tJ and t^2 R.
    complexity_penalty_covariance : array of shape (T, T)
        Covariance of the errors of t^2 R between levels, which share their rows.
    fisher_information_bounds, fisher_information_bounds_stderr : array of shape (T, 2)
        Lower bound (held-out score matching) and upper bound (smoothed empirical law) on J.
    mutual_information, mutual_information_stderr : array of shape (T,)
        I(X; Y) in nats.
    mutual_information_bounds : array of shape (T, 2)
        I with its tail beyond the last level closed from below and from above. The error of the
        spline between the levels, negligible on the default grid, is not in it.
    viv, viv_stderr : float
        Velocity irreducible variance per dimension, in units of X.
    viv_bounds : tuple of float
        VIV with both tails closed from below and from above; as for I, without the spline's error.
    viv_gaussian : float
        VIV of the Gaussian of the same covariance, an upper bound at equal covariance.
    valid : bool array of shape (T,)
        Where the numbers may be believed.
    reasons : tuple of str
        Per level, why it is not valid; empty where it is.
    noise_prediction_score, noise_prediction_score_stderr : array of shape (T,)
        1 - E|eps - eps_theta|^2 / n on held-out rows.
    learned_gain, learned_gain_stderr : array of shape (T,)
        What a learned score adds to the noise-prediction score of the best closed form, on the
        held-out rows of both; zero where a closed form was used.
    stein_residual, consistency_residual : array of shape (T,)
        (E|s|^2 + E tr H) / J and (R by score matching - R by -dJ/dt) / R, as shares.
    stein_residual_stderr, consistency_residual_stderr : array of shape (T,)
    effective_sample_size : array of shape (T,)
        Median over rows of the posterior's effective sample size under the empirical law.
    score_models : tuple of str
        Per level, the score model that was used.
    forms : tuple of str
        Per level, how J was put together from its unbiased forms.
    n_products : int
        Jacobian-vector products spent (exact traces count as n_features products each).
    asymmetry, asymmetry_stderr : array of shape (T,)
        Share of the antisymmetric part in |H|_F^2 of a model that is not a closed form: the
        Jacobian of a score has none. NaN where transposed products are not to be had.
    linearizations : tuple of str
        Per level, how Jacobian products were taken ("forward", "reverse", "differences", ...);
        "closed form" where none were needed.
    """

    noise_levels: Array
    n_features: int
    n_samples: int
    fisher_information: Array
    fisher_information_stderr: Array
    fisher_information_rate: Array
    fisher_information_rate_stderr: Array
    mmse: Array
    mmse_stderr: Array
    mmse_rate: Array
    mmse_rate_stderr: Array
    effective_dimension: Array
    effective_dimension_stderr: Array
    noise_gain: Array
    noise_gain_stderr: Array
    complexity_penalty: Array
    complexity_penalty_stderr: Array
    complexity_penalty_covariance: Array
    fisher_information_bounds: Array
    fisher_information_bounds_stderr: Array
    mutual_information: Array
    mutual_information_stderr: Array
    mutual_information_bounds: Array
    viv: float
    viv_stderr: float
    viv_bounds: tuple[float, float]
    viv_gaussian: float
    valid: Array
    reasons: tuple[str, ...]
    noise_prediction_score: Array
    noise_prediction_score_stderr: Array
    learned_gain: Array
    learned_gain_stderr: Array
    stein_residual: Array
    stein_residual_stderr: Array
    consistency_residual: Array
    consistency_residual_stderr: Array
    effective_sample_size: Array
    score_models: tuple[str, ...]
    forms: tuple[str, ...]
    n_products: int
    asymmetry: Array
    asymmetry_stderr: Array
    linearizations: tuple[str, ...]

    def __repr__(self) -> str:
        xp = namespace(self.noise_levels)
        return (
            f"InformationCurve({self.noise_levels.shape[0]} levels, n_features={self.n_features}, "
            f"n_samples={self.n_samples}, valid={int(xp.sum(xp.astype(self.valid, xp.int64)))})"
        )


def mean_complexity(curve: InformationCurve) -> tuple[float, float]:
    """Mean of t^2 R / n over the curve's finite levels, and its standard error.

    No law has R below J^2 / n, so t^2 R enters as (tJ)^2 / n where its estimate is less, with tJ
    kept within [0, n]: a model that extrapolates badly to new rows at small noise may bring the
    estimate far below zero, and would otherwise win every ranking. The error is that without floor.
    """
    xp = namespace(curve.complexity_penalty)
    n = curve.n_features
    finite = xp.isfinite(curve.complexity_penalty)
    share = xp.astype(finite, curve.complexity_penalty.dtype)
    if not bool(xp.any(finite)):
        return math.nan, math.nan
    share = share / (xp.sum(share) * n)
    floor = xp.clip(n - curve.effective_dimension, 0.0, float(n)) ** 2 / n
    penalty = xp.where(curve.complexity_penalty > floor, curve.complexity_penalty, floor)
    variance = float(share @ curve.complexity_penalty_covariance @ share)
    return float(value_of(share, penalty)), math.sqrt(max(variance, 0.0))


def gaussian_curve(covariance: Array, noise_levels: Array) -> InformationCurve:
    """Information curve of a Gaussian, in closed form.

    Parameters
    ----------
    covariance : array of shape (n, n)
        Covariance of X, of any rank.
    noise_levels : array of shape (T,)
        sigma, positive and increasing, in units of X.

    Returns
    -------
    InformationCurve
        Standard errors are zero, every level is valid, both ends of each bracket coincide.

    Notes
    -----
    With eigenvalues lambda: J = sum 1/(lambda + t), R = sum 1/(lambda + t)^2,
    mmse = sum t lambda/(lambda + t), rate = sum (lambda/(lambda + t))^2,
    I = 1/2 sum log(1 + lambda/t) and VIV = (pi/2) mean sqrt(lambda). Textbook identities; the
    framework is that of Gu et al., arXiv 2604.02751.

    Examples
    --------
    >>> import numpy as np
    >>> curve = gaussian_curve(np.diag([3.0, 1.0]), np.asarray([1.0]))
    >>> curve.fisher_information
    array([0.75])
    >>> curve.mmse_rate
    array([0.8125])
    """
    xp = namespace(covariance, noise_levels)
    lam = xp.linalg.eigvalsh(covariance)
    lam = xp.where(lam > 0, lam, xp.zeros_like(lam))
    n = int(lam.shape[0])
    levels = int(noise_levels.shape[0])
    t = noise_levels[:, None] ** 2
    total = lam[None, :] + t
    J = xp.sum(1 / total, axis=1)
    R = xp.sum(1 / total**2, axis=1)
    shrink = lam[None, :] / total
    d_eff = xp.sum(shrink, axis=1)
    rate = xp.sum(shrink**2, axis=1)
    info = 0.5 * xp.sum(xp.log1p(lam[None, :] / t), axis=1)
    viv = float(math.pi / 2 * xp.mean(xp.sqrt(lam)))
    t = noise_levels**2
    zero = xp.zeros_like(J)
    pair = xp.stack([zero, zero], axis=1)
    return InformationCurve(
        noise_levels=noise_levels,
        n_features=n,
        n_samples=0,
        fisher_information=J,
        fisher_information_stderr=zero,
        fisher_information_rate=R,
        fisher_information_rate_stderr=zero,
        mmse=t * d_eff,
        mmse_stderr=zero,
        mmse_rate=rate,
        mmse_rate_stderr=zero,
        effective_dimension=d_eff,
        effective_dimension_stderr=zero,
        noise_gain=xp.sum((lam[None, :] - t[:, None]) / total, axis=1),
        noise_gain_stderr=zero,
        complexity_penalty=t**2 * R,
        complexity_penalty_stderr=zero,
        complexity_penalty_covariance=zero[:, None] * zero[None, :],
        fisher_information_bounds=xp.stack([J, J], axis=1),
        fisher_information_bounds_stderr=pair,
        mutual_information=info,
        mutual_information_stderr=zero,
        mutual_information_bounds=xp.stack([info, info], axis=1),
        viv=viv,
        viv_stderr=0.0,
        viv_bounds=(viv, viv),
        viv_gaussian=viv,
        valid=xp.ones_like(J, dtype=xp.bool),
        reasons=("",) * levels,
        noise_prediction_score=t * J / n,
        noise_prediction_score_stderr=zero,
        learned_gain=zero,
        learned_gain_stderr=zero,
        stein_residual=zero,
        stein_residual_stderr=zero,
        consistency_residual=zero,
        consistency_residual_stderr=zero,
        effective_sample_size=xp.full_like(J, math.inf),
        score_models=("gaussian",) * levels,
        forms=("closed form",) * levels,
        n_products=0,
        asymmetry=zero,
        asymmetry_stderr=zero,
        linearizations=("closed form",) * levels,
    )


def viv_of_gaussian(eigenvalues: Array) -> float:
    """(pi/2) mean sqrt(lambda): the VIV per dimension of a Gaussian with these eigenvalues."""
    xp = namespace(eigenvalues)
    return float(math.pi / 2 * xp.mean(xp.sqrt(xp.clip(eigenvalues, 0.0))))


def curve_like(curve: InformationCurve, reference: Array) -> InformationCurve:
    """The curve with its arrays in the library and dtype and on the device of `reference`."""
    arrays = {
        field.name: cast_like(value, reference)
        for field in fields(curve)
        if hasattr(value := getattr(curve, field.name), "dtype")
    }
    return replace(curve, **arrays)


def select_levels(curve: InformationCurve, index: list[int]) -> InformationCurve:
    """The curve at some of its noise levels, in the order of `index`.

    Integrals over the noise (mutual information, VIV) keep the value they have on the whole grid.
    """
    xp = namespace(curve.noise_levels)
    levels = curve.noise_levels.shape[0]
    rows = index_like(index, curve.noise_levels)
    square = xp.take(xp.take(curve.complexity_penalty_covariance, rows, axis=0), rows, axis=1)
    changed: dict[str, Any] = {}
    for field in fields(curve):
        value = getattr(curve, field.name)
        if isinstance(value, tuple) and len(value) == levels and field.name != "viv_bounds":
            changed[field.name] = tuple(value[i] for i in index)
        elif hasattr(value, "shape") and value.shape and value.shape[0] == levels:
            changed[field.name] = xp.take(value, rows, axis=0)
    return replace(curve, **(changed | {"complexity_penalty_covariance": square}))


def information_weights(noise_levels: Array) -> Array:
    """Weights that turn d_eff on the grid into the mutual information between t and the last level.

    I(t) = 1/2 int_t^inf d_eff(u) d log u, for d_eff = n - uJ; a cubic spline in log u through the
    grid is integrated exactly, which is linear in the values.

    Returns
    -------
    array of shape (T, T)
        Row k holds the weights of the integral from level k to the last level.

    Examples
    --------
    >>> import numpy as np
    >>> weights = information_weights(np.geomspace(0.1, 10.0, 41))
    >>> exact = 0.5 * np.log1p(1 / 0.01) - 0.5 * np.log1p(1 / 100.0)
    >>> bool(abs(weights[0] @ (1 / (1 + np.geomspace(0.1, 10.0, 41) ** 2)) - exact) < 1e-5)
    True
    """
    xp = namespace(noise_levels)
    levels = int(noise_levels.shape[0])
    if levels == 1:
        return xp.zeros_like(noise_levels)[:, None]
    u = 2 * xp.log(noise_levels)
    integral = CubicSpline(to_numpy(u), to_numpy(xp.eye(levels))).antiderivative()
    primitive = integral(to_numpy(u))
    return like((primitive[-1:] - primitive) / 2, noise_levels)


def viv_weights(noise_levels: Array, n_features: int, *, ends: bool = True) -> Array:
    """Weights that turn d_eff on the grid into the VIV per dimension.

    With t = sigma^2 the VIV 1/2 int (1 - tJ/n) t^(-1/2) dt is int_0^inf d_eff(sigma)/n d sigma.

    Parameters
    ----------
    noise_levels : array of shape (T,)
    n_features : int
    ends : bool
        Whether d_eff is continued below the first level by its value there, and the half of
        mmse(last) / sigma^2 beyond the last one is added; False is what the grid covers.

    Returns
    -------
    array of shape (T,)
    """
    xp = namespace(noise_levels)
    levels = int(noise_levels.shape[0])
    inside = xp.zeros_like(noise_levels)
    if levels > 1:
        u = to_numpy(xp.log(noise_levels))
        # d sigma = sigma d log sigma: the spline in log sigma suits a geometric grid
        basis = to_numpy(xp.eye(levels)) * to_numpy(noise_levels)[:, None]
        inside = like(CubicSpline(u, basis).integrate(u[0], u[-1]), noise_levels)
    if ends:
        beyond = [0.0] * levels
        beyond[0] += 1.0
        beyond[-1] += 0.5
        inside = inside + like(beyond, noise_levels) * noise_levels
    return inside / n_features
