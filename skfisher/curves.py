"""The information curve of one sample space along the noise, and its closed form for Gaussians."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from scipy.interpolate import CubicSpline

from skfisher._backend.arrays import Array, like, namespace, to_numpy
from skfisher.forms import FORMS, Combination, combine, lower_bound, stderr_of, value_of

__all__ = [
    "InformationCurve",
    "UpperBound",
    "Validity",
    "assemble_curve",
    "gaussian_curve",
    "information_weights",
    "mean_complexity",
    "select_levels",
    "viv_of_gaussian",
    "viv_weights",
]


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
    stein_residual: Array
    stein_residual_stderr: Array
    consistency_residual: Array
    consistency_residual_stderr: Array
    effective_sample_size: Array
    score_models: tuple[str, ...]
    forms: tuple[str, ...]
    n_products: int

    def __repr__(self) -> str:
        xp = namespace(self.noise_levels)
        return (
            f"InformationCurve({self.noise_levels.shape[0]} levels, n_features={self.n_features}, "
            f"n_samples={self.n_samples}, valid={int(xp.sum(xp.astype(self.valid, xp.int64)))})"
        )


def mean_complexity(curve: InformationCurve) -> tuple[float, float]:
    """Mean of t^2 R / n over the curve's finite levels, and its standard error."""
    xp = namespace(curve.complexity_penalty)
    finite = xp.isfinite(curve.complexity_penalty)
    share = xp.astype(finite, curve.complexity_penalty.dtype)
    if not bool(xp.any(finite)):
        return math.nan, math.nan
    share = share / (xp.sum(share) * curve.n_features)
    variance = float(share @ curve.complexity_penalty_covariance @ share)
    return float(value_of(share, curve.complexity_penalty)), math.sqrt(max(variance, 0.0))


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
    pair = xp.zeros((levels, 2), dtype=J.dtype)
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
        complexity_penalty_covariance=xp.zeros((levels, levels), dtype=J.dtype),
        fisher_information_bounds=xp.stack([J, J], axis=1),
        fisher_information_bounds_stderr=pair,
        mutual_information=info,
        mutual_information_stderr=zero,
        mutual_information_bounds=xp.stack([info, info], axis=1),
        viv=viv,
        viv_stderr=0.0,
        viv_bounds=(viv, viv),
        viv_gaussian=viv,
        valid=xp.ones((levels,), dtype=xp.bool),
        reasons=("",) * levels,
        noise_prediction_score=t * J / n,
        noise_prediction_score_stderr=zero,
        stein_residual=zero,
        stein_residual_stderr=zero,
        consistency_residual=zero,
        consistency_residual_stderr=zero,
        effective_sample_size=xp.full((levels,), math.inf, dtype=J.dtype),
        score_models=("gaussian",) * levels,
        forms=("closed form",) * levels,
        n_products=0,
    )


def viv_of_gaussian(eigenvalues: Array) -> float:
    """(pi/2) mean sqrt(lambda): the VIV per dimension of a Gaussian with these eigenvalues."""
    xp = namespace(eigenvalues)
    return float(math.pi / 2 * xp.mean(xp.sqrt(xp.clip(eigenvalues, 0.0))))


def select_levels(curve: InformationCurve, index: list[int]) -> InformationCurve:
    """The curve at some of its noise levels, in the order of `index`.

    Integrals over the noise (mutual information, VIV) keep the value they have on the whole grid.
    """
    xp = namespace(curve.noise_levels)
    levels = curve.noise_levels.shape[0]
    rows = xp.asarray(index)
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
        return xp.zeros((1, 1), dtype=noise_levels.dtype)
    u = 2 * xp.log(noise_levels)
    integral = CubicSpline(to_numpy(u), to_numpy(xp.eye(levels))).antiderivative()
    primitive = integral(to_numpy(u))
    return like((primitive[-1:] - primitive) / 2, noise_levels)


def viv_weights(noise_levels: Array) -> Array:
    """Weights that turn d_eff / n on the grid into the part of the VIV that the grid covers.

    With t = sigma^2 the VIV 1/2 int (1 - tJ/n) t^(-1/2) dt is int_0^inf d_eff(sigma)/n d sigma.

    Returns
    -------
    array of shape (T,)
    """
    xp = namespace(noise_levels)
    levels = int(noise_levels.shape[0])
    if levels == 1:
        return xp.zeros((1,), dtype=noise_levels.dtype)
    u = to_numpy(xp.log(noise_levels))
    # d sigma = sigma d log sigma: the spline in log sigma suits a geometric grid
    basis = to_numpy(xp.eye(levels)) * to_numpy(noise_levels)[:, None]
    return like(CubicSpline(u, basis).integrate(u[0], u[-1]), noise_levels)


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


@dataclass(frozen=True)
class UpperBound:
    """Upper bound on J at one level, times t; its standard error, and the posterior's size."""

    value: float
    stderr: float
    effective_sample_size: float


def assemble_curve(
    means: Array,
    cov: Array,
    n_rows: float,
    noise_levels: Array,
    *,
    n_features: int,
    n_samples: int,
    eigenvalues: Array,
    one_step: bool,
    with_rate: bool,
    upper_bounds: Sequence[UpperBound] | None,
    score_models: Sequence[str],
    n_products: int,
    validity: Validity,
) -> InformationCurve:
    """Every quantity of the curve from the means of the forms at all levels and their covariance.

    Each quantity is a linear function of the means, so one covariance carries the errors of all,
    the integrals over the noise included.

    Parameters
    ----------
    means, cov : array of shape (T * 8,), (T * 8, T * 8)
        Means of the forms of `skfisher.forms.FORMS`, level by level, and their covariance.
    n_rows : float
        Effective number of independent rows behind them.
    noise_levels : array of shape (T,)
    n_features, n_samples : int
    eigenvalues : array of shape (n,)
        Of the covariance of X, for the tails that no grid covers.
    one_step, with_rate : bool
        See `skfisher.forms.combine`.
    upper_bounds : sequence of T UpperBound, or None
    score_models : sequence of T str
    n_products : int
    validity : Validity
    """
    xp = namespace(means)
    n, q = n_features, len(FORMS)
    levels = [float(sigma) for sigma in noise_levels]
    table: dict[str, list[Any]] = {}
    reasons, texts, d_eff_of, rho_of = [], [], [], []
    for k, sigma in enumerate(levels):
        block = slice(k * q, (k + 1) * q)
        mu, sigma_mu = means[block], cov[block, block]
        mixed = combine(mu, sigma_mu, n, n_rows, one_step=one_step, with_rate=with_rate)
        bound = None if upper_bounds is None else upper_bounds[k]
        record = _record(mu, sigma_mu, n, n_rows, sigma**2, mixed, with_rate, bound)
        for name, value in record.items():
            table.setdefault(name, []).append(value)
        reasons.append(_why_invalid(record, n_rows, with_rate, bound is not None, validity))
        texts.append(mixed.text)
        d_eff_of.append(-mixed.j)
        rho_of.append(mixed.rho)
    # a form that was not computed is NaN and has the coefficient 0; a level that failed stays NaN
    finite_cov = xp.where(xp.isfinite(cov), cov, xp.zeros_like(cov))
    grid = _block_diagonal(d_eff_of)
    d_eff = like([n + float(value_of(grid[k, :], means)) for k in range(len(levels))], means)
    rho_grid = _block_diagonal(rho_of)
    return InformationCurve(
        noise_levels=noise_levels,
        n_features=n,
        n_samples=n_samples,
        valid=xp.asarray([not reason for reason in reasons]),
        reasons=tuple(reasons),
        score_models=tuple(score_models),
        forms=tuple(texts),
        n_products=n_products,
        **{name: like(values, noise_levels) for name, values in table.items()},
        complexity_penalty_covariance=rho_grid @ finite_cov @ rho_grid.T,
        **_integrals(d_eff, grid @ finite_cov @ grid.T, noise_levels, n, eigenvalues),
    )


def _block_diagonal(rows: Sequence[Array]) -> Array:
    """Matrix (T, T q) whose row k holds the k-th of T vectors of length q in its own block."""
    xp = namespace(rows[0])
    zero = xp.zeros_like(rows[0])
    return xp.stack(
        [
            xp.concat([row if i == k else zero for i in range(len(rows))])
            for k, row in enumerate(rows)
        ]
    )


def _record(
    mu: Array,
    cov: Array,
    n: int,
    n_rows: float,
    t: float,
    mixed: Combination,
    with_rate: bool,
    bound: UpperBound | None,
) -> dict[str, Any]:
    """The numbers of one level under the names of `InformationCurve`."""

    def mean(coefficients: Array) -> tuple[float, float]:
        return float(value_of(coefficients, mu)), inflate * stderr_of(coefficients, cov)

    def share(coefficients: Array, of: float) -> tuple[float, float]:
        value, error = mean(coefficients)
        return (value / abs(of), error / abs(of)) if of else (math.nan, math.nan)

    # one degree of freedom for each fitted multiple
    inflate = math.sqrt(n_rows / max(n_rows - 3, 1.0))
    eye = namespace(mu).eye(len(FORMS), dtype=mu.dtype)
    e = {name: eye[i, :] for i, name in enumerate(FORMS)}
    j, j_error = mean(mixed.j)
    rho, rho_error, rate, rate_error = (math.nan,) * 4
    if with_rate:
        rho, rho_error = mean(mixed.rho)
        rho += mixed.rho_constant
        rate, rate_error = n - 2 * j + rho, mean(mixed.rho - 2 * mixed.j)[1]
    low, low_error, _ = lower_bound(mu, cov, n_rows)
    high, high_error, ess = (math.nan,) * 3
    if bound is not None:
        high, high_error, ess = bound.value, bound.stderr, bound.effective_sample_size
    stein, stein_error = share(e["norm"] - e["trace"], j)
    gap, gap_error = share(e["plug-in rho"] - e["path"], rho) if with_rate else (math.nan,) * 2
    quality, quality_error = mean(e["denoising"])
    return {
        "fisher_information": j / t,
        "fisher_information_stderr": j_error / t,
        "fisher_information_rate": rho / t**2,
        "fisher_information_rate_stderr": rho_error / t**2,
        "mmse": t * (n - j),
        "mmse_stderr": t * j_error,
        "mmse_rate": rate,
        "mmse_rate_stderr": rate_error,
        "effective_dimension": n - j,
        "effective_dimension_stderr": j_error,
        "noise_gain": n - 2 * j,
        "noise_gain_stderr": 2 * j_error,
        "complexity_penalty": rho,
        "complexity_penalty_stderr": rho_error,
        "fisher_information_bounds": [low / t, high / t],
        "fisher_information_bounds_stderr": [low_error / t, high_error / t],
        "noise_prediction_score": quality / n,
        "noise_prediction_score_stderr": quality_error / n,
        "stein_residual": stein,
        "stein_residual_stderr": stein_error,
        "consistency_residual": gap,
        "consistency_residual_stderr": gap_error,
        "effective_sample_size": ess,
    }


def _why_invalid(
    record: dict[str, Any], n_rows: float, with_rate: bool, bracketed: bool, limits: Validity
) -> str:
    """Why a level may not be believed, in a few words; empty where it may."""
    J, J_error = record["fisher_information"], record["fisher_information_stderr"]
    low, high = record["fisher_information_bounds"]
    low_error, high_error = record["fisher_information_bounds_stderr"]
    checked = {"J": ("fisher_information", limits.stderr), "MMSE": ("mmse", limits.stderr)}
    if with_rate:
        checked["R"] = ("fisher_information_rate", limits.stderr)
        checked["the MMSE rate"] = ("mmse_rate", limits.rate_stderr)
    if not all(
        math.isfinite(record[name]) and math.isfinite(record[f"{name}_stderr"])
        for name, _ in checked.values()
    ):
        return "the score is not finite"
    found = []
    if n_rows < limits.independent_rows:
        found.append(f"fewer than {limits.independent_rows:g} independent rows or groups")
    for name, (key, limit) in checked.items():
        if record[f"{key}_stderr"] > limit * record[key]:
            found.append(f"standard error of {name} above {limit:.0%}")
    if bracketed:
        if high - low > limits.bracket_width * J:
            found.append(f"bracket wider than {limits.bracket_width:.0%} of J")
        if low - high > limits.n_errors * math.hypot(low_error, high_error):
            found.append("lower bound above upper bound")
        if J - high > limits.n_errors * math.hypot(J_error, high_error):
            found.append("J above its upper bound")
        if low - J > limits.n_errors * math.hypot(J_error, low_error):
            found.append("J below its lower bound")
        if record["effective_sample_size"] < limits.effective_sample_size:
            found.append(f"posterior rests on fewer than {limits.effective_sample_size:g} points")
    residuals = {"Stein": limits.stein} | ({"consistency": limits.consistency} if with_rate else {})
    for name, limit in residuals.items():
        value = abs(record[f"{name.lower()}_residual"])
        error = record[f"{name.lower()}_residual_stderr"]
        if not value - limits.n_errors * error <= limit:
            found.append(f"{name} residual above {limit:.0%}")
    return "; ".join(found)


def _integrals(
    d: Array, cov: Array, noise_levels: Array, n: int, eigenvalues: Array
) -> dict[str, Any]:
    """Mutual information and VIV from d_eff on the grid, with their tails closed on both sides.

    Beyond the last level T the MMSE is at least its value there and at most the Gaussian's, so
    d_eff(T)/2 <= I(T) <= 1/2 sum log(1 + lambda/T); below the first, J is at least its value there
    and d_eff at least 0. The values reported take the middle of the upper tail, and below the first
    level d_eff as it is there. Levels without a finite number are left out of the grid.

    Parameters
    ----------
    d, cov : array of shape (T,), (T, T)
        d_eff at each level and the covariance of its errors.
    """
    xp = namespace(d)
    every = [k for k in range(d.shape[0]) if math.isfinite(float(d[k]))]
    if not every:
        nowhere = xp.full(d.shape, math.nan, dtype=d.dtype)
        return {
            "mutual_information": nowhere,
            "mutual_information_stderr": nowhere,
            "mutual_information_bounds": xp.stack([nowhere, nowhere], axis=1),
            "viv": math.nan,
            "viv_stderr": math.nan,
            "viv_bounds": (math.nan, math.nan),
            "viv_gaussian": viv_of_gaussian(eigenvalues),
        }
    index = xp.asarray(every)
    levels = xp.take(noise_levels, index, axis=0)
    first, last = float(levels[0]), float(levels[-1])
    d = xp.take(d, index, axis=0)
    cov = xp.take(xp.take(cov, index, axis=0), index, axis=1)
    lam = xp.clip(eigenvalues, 0.0)
    at_first, at_last = xp.zeros_like(d), xp.zeros_like(d)
    at_first[0], at_last[-1] = 1.0, 1.0

    W = information_weights(levels)
    tail = 0.5 * float(xp.sum(xp.log1p(lam / last**2)))
    middle = W + at_last[None, :] / 4
    information = {
        "mutual_information": middle @ d + tail / 2,
        "mutual_information_stderr": xp.sqrt(
            xp.clip(xp.linalg.diagonal(middle @ cov @ middle.T), 0.0)
        ),
        "mutual_information_bounds": xp.stack([(W + at_last / 2) @ d, W @ d + tail], axis=1),
    }
    whole = [every.index(k) if k in every else -1 for k in range(noise_levels.shape[0])]
    information = {
        name: xp.stack(
            [values[k] if k >= 0 else xp.full_like(values[0], math.nan) for k in whole], axis=0
        )
        for name, values in information.items()
    }

    inside = viv_weights(levels) / n
    root = xp.sqrt(lam)
    # of a Gaussian: integral of lambda / (lambda + sigma^2) beyond the last level
    tail = float(xp.sum(root * (math.pi / 2 - xp.atan(last / xp.where(root > 0, root, 1.0))))) / n
    below = at_first * first / n
    beyond = at_last * last / n  # integral of mmse(last) / (n sigma^2)
    w = inside + below + beyond / 2
    return information | {
        "viv": float(w @ d) + tail / 2,
        "viv_stderr": math.sqrt(max(float(w @ cov @ w), 0.0)),
        # d_eff(u) <= n - u J(first) integrates to first - first^3 J / (3 n) = first (2 + d/n) / 3
        "viv_bounds": (
            float((inside + beyond) @ d),
            float((inside + at_first * first / (3 * n)) @ d) + 2 * first / 3 + tail,
        ),
        "viv_gaussian": viv_of_gaussian(lam),
    }
