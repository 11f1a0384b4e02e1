"""From the means of the forms at all levels to the curve: errors, marks, integrals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from skfisher._backend.arrays import Array, like, namespace, to_numpy
from skfisher.curves import (
    InformationCurve,
    Validity,
    curve_like,
    information_weights,
    viv_of_gaussian,
    viv_weights,
)
from skfisher.forms import FORMS, Asymmetry, Combination, combine, lower_bound, stderr_of, value_of

__all__ = ["UpperBound", "assemble_curve", "contributions_of_rows", "why_invalid"]


@dataclass(frozen=True)
class UpperBound:
    """Upper bound on J at one level, times t; its standard error, and the posterior's size."""

    value: float
    stderr: float
    effective_sample_size: float


def assemble_curve(
    means: Array,
    cov: Array,
    n_rows: float | Sequence[float],
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
    linearity: Sequence[tuple[Asymmetry | None, str]] | None = None,
) -> InformationCurve:
    """Every quantity of the curve from the means of the forms at all levels and their covariance.

    Each quantity is a linear function of the means, so one covariance carries the errors of all,
    the integrals over the noise included.

    Parameters
    ----------
    means, cov : array of shape (T * 8,), (T * 8, T * 8)
        Means of the forms of `skfisher.forms.FORMS`, level by level, and their covariance.
    n_rows : float or sequence of T float
        Effective number of independent rows behind them, at each level where it differs.
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
    linearity : sequence of T (Asymmetry or None, str), optional
        How symmetric the models' Jacobians are, and how their products were taken; closed forms
        unless given.
    """
    # a few numbers for each level, asked for one by one: on the host, whatever computed them
    reference, noise_levels = noise_levels, to_numpy(noise_levels)
    means, cov, eigenvalues = to_numpy(means), to_numpy(cov), to_numpy(eigenvalues)
    xp = namespace(means)
    n, q = n_features, len(FORMS)
    levels = [float(sigma) for sigma in noise_levels]
    table: dict[str, list[Any]] = {}
    reasons, texts, d_eff_of, rho_of = [], [], [], []
    linear = [(None, "closed form")] * len(levels) if linearity is None else linearity
    rows_at = list(n_rows) if isinstance(n_rows, Sequence) else [n_rows] * len(levels)
    for k, sigma in enumerate(levels):
        rows = rows_at[k]
        block = slice(k * q, (k + 1) * q)
        mu, sigma_mu = means[block], cov[block, block]
        mixed = combine(mu, sigma_mu, n, rows, one_step=one_step, with_rate=with_rate)
        bound = None if upper_bounds is None else upper_bounds[k]
        record = _record(mu, sigma_mu, n, rows, sigma**2, mixed, with_rate, bound)
        skew = linear[k][0]
        record["asymmetry"] = 0.0 if skew is None else skew.share
        record["asymmetry_stderr"] = 0.0 if skew is None else skew.stderr
        for name, value in record.items():
            table.setdefault(name, []).append(value)
        reasons.append(why_invalid(record, n, rows, with_rate, bound is not None, validity))
        texts.append(mixed.text)
        d_eff_of.append(-mixed.j)
        rho_of.append(mixed.rho)
    # a form that was not computed is NaN and has the coefficient 0; a level that failed stays NaN
    finite_cov = xp.where(xp.isfinite(cov), cov, xp.zeros_like(cov))
    grid = _block_diagonal(d_eff_of)
    d_eff = like([n + float(value_of(grid[k, :], means)) for k in range(len(levels))], means)
    rho_grid = _block_diagonal(rho_of)
    curve = InformationCurve(
        noise_levels=noise_levels,
        n_features=n,
        n_samples=n_samples,
        valid=xp.asarray([not reason for reason in reasons]),
        reasons=tuple(reasons),
        score_models=tuple(score_models),
        forms=tuple(texts),
        n_products=n_products,
        linearizations=tuple(text for _, text in linear),
        **{name: like(values, noise_levels) for name, values in table.items()},
        complexity_penalty_covariance=rho_grid @ finite_cov @ rho_grid.T,
        **_integrals(d_eff, grid @ finite_cov @ grid.T, noise_levels, n, eigenvalues),
    )
    return curve_like(curve, reference)


def contributions_of_rows(
    values: Array,
    means: Array,
    cov: Array,
    n_rows: Sequence[float],
    *,
    n_features: int,
    one_step: bool,
) -> tuple[Array, Array]:
    """What each row brings to t^2 R and to d_eff at each level: their means are the curve's.

    Parameters
    ----------
    values : array of shape (N, T * 8)
        Forms of each row, level by level.
    means, cov, n_rows
        As in `assemble_curve`.
    n_features : int
    one_step : bool

    Returns
    -------
    penalties, effective_dimensions : array of shape (N, T)
        NaN at levels that failed. The coefficients that combine the forms are those of all rows.
    """
    q, means, cov = len(FORMS), to_numpy(means), to_numpy(cov)
    xp = namespace(values)

    def mixture_of(forms: Array, coefficients: Array) -> Array:
        used = like(coefficients, forms)
        return xp.matmul(xp.where(used[None, :] != 0, forms, xp.zeros_like(forms)), used)

    penalties, dimensions = [], []
    for k, rows in enumerate(n_rows):
        block = slice(k * q, (k + 1) * q)
        mixed = combine(means[block], cov[block, block], n_features, rows, one_step=one_step)
        penalties.append(mixture_of(values[:, block], mixed.rho) + mixed.rho_constant)
        dimensions.append(n_features - mixture_of(values[:, block], mixed.j))
    return xp.stack(penalties, axis=1), xp.stack(dimensions, axis=1)


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
    inflate = math.sqrt(n_rows / max(n_rows - mixed.n_multiples, 1.0))
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
        "learned_gain": 0.0,
        "learned_gain_stderr": 0.0,
        "stein_residual": stein,
        "stein_residual_stderr": stein_error,
        "consistency_residual": gap,
        "consistency_residual_stderr": gap_error,
        "effective_sample_size": ess,
    }


def why_invalid(
    record: dict[str, Any],
    n: int,
    n_rows: float,
    with_rate: bool,
    bracketed: bool,
    limits: Validity,
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
    d_eff = record["effective_dimension"]
    allowed = limits.n_errors * record["effective_dimension_stderr"]
    if not -allowed <= d_eff <= n + allowed:
        found.append("effective dimension outside [0, n]")
    residuals = {"Stein": limits.stein}
    if not math.isnan(record["consistency_residual"]):  # a path form was computed
        residuals["consistency"] = limits.consistency
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
    place = xp.arange(d.shape[0])
    at_first = xp.astype(place == 0, d.dtype)
    at_last = xp.astype(place == d.shape[0] - 1, d.dtype)

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

    inside = viv_weights(levels, n, ends=False)
    root = xp.sqrt(lam)
    # of a Gaussian: integral of lambda / (lambda + sigma^2) beyond the last level
    tail = float(xp.sum(root * (math.pi / 2 - xp.atan(last / xp.where(root > 0, root, 1.0))))) / n
    beyond = at_last * last / n  # integral of mmse(last) / (n sigma^2)
    w = viv_weights(levels, n)
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
