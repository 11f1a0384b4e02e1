"""Numbers of the latents alone, and of their classes.

Curves are measured on rows that are held out, under score models fitted to the other rows
(Gaussian, mixtures, kernel; the best at each noise level on rows of their own).
"""

from __future__ import annotations

import math

import numpy as np

from benchmarks.zoo.measures.case import Case, Numbers, means
from skfisher.conditional import class_conditional_curve
from skfisher.curves import gaussian_curve, viv_of_gaussian
from skfisher.noise import default_noise_levels, window_weights

__all__ = ["curves", "labelled", "nonlinearities", "sliced", "spectrum"]

DIRECTIONS = 256  # of the sliced distance


def spectrum(case: Case) -> Numbers:
    lam, axes = np.linalg.eigh(case.covariance)
    lam = np.clip(lam, 0.0, None)
    share = lam / lam.sum()
    live = share[share > 0]
    along = case.Z @ axes[:, lam > 1e-10 * lam[-1]]
    along = (along - along.mean(axis=0)) / along.std(axis=0)
    fourth = along**4
    low = max(float(np.quantile(lam, 0.01)), 1e-12 * float(lam[-1]))
    return {
        "log_condition": (math.log(lam[-1] / low), None),
        "participation": (1 / float(np.sum(share**2)) / case.d, None),
        "entropy_rank": (math.exp(-float(np.sum(live * np.log(live)))) / case.d, None),
        "dead_share": (float(np.mean(lam < 0.01 * lam.mean())), None),
        "kurtosis": (
            float(fourth.mean()) - 3,
            float(fourth.mean(axis=1).std()) / math.sqrt(len(fourth)),
        ),
        "dimension": (case.d, None),
        "log_dimension": (math.log(case.d), None),
    }


def curves(case: Case) -> Numbers:
    curve, d = case.curve, case.d
    levels = np.asarray(curve.noise_levels)
    gauss = gaussian_curve(case.covariance, levels)
    floor = np.clip(d - curve.effective_dimension, 0, d) ** 2 / d
    penalty = np.maximum(curve.complexity_penalty, floor) / d
    score, error = curve.noise_prediction_score, curve.noise_prediction_score_stderr
    out: Numbers = {}
    for over in ("log", "flow"):
        w = window_weights(levels, 1.0, over)
        variance = float(w @ curve.complexity_penalty_covariance @ w) / d**2
        out[f"fir_{over}"] = (float(w @ penalty), math.sqrt(max(variance, 0.0)))
    out |= means("rate", levels, curve.mmse_rate / d, curve.mmse_rate_stderr / d)
    excess = (curve.mmse_rate - gauss.mmse_rate) / d
    out |= means("rate_excess", levels, excess, curve.mmse_rate_stderr / d)
    out |= means("noise_prediction", levels, score, error)
    out |= means("noise_excess", levels, score - gauss.noise_prediction_score, error)
    share = curve.effective_dimension / d
    out |= means("d_eff", levels, share, curve.effective_dimension_stderr / d)
    out["d_eff_spread"] = (_fall_spread(levels, share), None)
    viv = curve.viv
    gaussian = viv_of_gaussian(np.linalg.eigvalsh(case.covariance))
    out["viv"] = (viv, curve.viv_stderr)
    out["viv_sum"] = (viv * d, curve.viv_stderr * d)
    out["viv_gap"] = (gaussian - viv, curve.viv_stderr)
    return out


def _fall_spread(levels: np.ndarray, share: np.ndarray) -> float:
    """Standard deviation of log sigma, weighted by how much of d_eff is lost there."""
    lost = np.clip(-np.diff(share), 0.0, None)
    middle = (np.log(levels[1:]) + np.log(levels[:-1])) / 2
    weight = lost / lost.sum()
    return float(np.sqrt(weight @ (middle - weight @ middle) ** 2))


def nonlinearities(case: Case) -> Numbers:
    """rate - |I + t E H|^2, with t E H = sigma E[s eps^T] (Stein) from two halves of the rows."""
    fitted, d = case.denoising, case.d
    n = len(fitted.rows) // 2 * 2
    rate = np.asarray(case.curve.mmse_rate)
    values = []
    for k, sigma in enumerate(map(float, fitted.noise_levels)):
        noisy, denoised, _ = fitted.at(k, slice(0, n))
        eps = (noisy - fitted.rows[:n]) / sigma
        moved = (denoised - noisy) / sigma  # sigma s
        halves = [
            np.eye(d) + moved[half].T @ eps[half] * (2 / n)
            for half in (slice(0, n, 2), slice(1, n, 2))
        ]
        first, second = ((A + A.T) / 2 for A in halves)
        values.append((rate[k] - float(np.sum(first * second))) / d)
    errors = np.asarray(case.curve.mmse_rate_stderr) / d
    return means("nonlinearity", fitted.noise_levels, np.asarray(values), errors)


def sliced(case: Case) -> Numbers:
    """Root of the mean over directions of the squared distance of quantiles, in units of the RMS;
    the error is that of the directions.
    """
    held = case.denoising.rows
    made = np.asarray(case.mixture.sample(len(held), case.seed))
    turns = np.random.default_rng(case.seed).normal(size=(case.d, DIRECTIONS))
    turns /= np.linalg.norm(turns, axis=0)
    gap = np.sort(held @ turns, axis=0) - np.sort(made @ turns, axis=0)
    by_turn = np.mean(gap**2, axis=0)
    value = math.sqrt(float(by_turn.mean()))
    error = float(by_turn.std()) / math.sqrt(DIRECTIONS)
    return {"sliced_distance": (value, error / (2 * value))}


def labelled(case: Case) -> Numbers:
    if case.labels is None:
        raise ValueError("not given: labels")
    n = min(len(case.Z), 6000 if case.d <= 64 else 3000)
    levels = default_noise_levels(case.Z, 11)
    few = 4 * case.d  # a mixture of classes this small would not be told from its Gaussian
    family = "mixture" if n / len(np.unique(case.labels)) > few else "gaussian"
    found = class_conditional_curve(
        case.Z[:n], case.labels[:n], score_model=family, noise_levels=levels,
        random_state=case.seed, with_rate=False, bracket=False, unconditional=False,
    ).curve  # fmt: skip
    error = found.viv_stderr
    gap = case.curve.viv - found.viv
    return {
        "viv_class": (found.viv, error),
        "viv_class_gap": (gap, math.hypot(error, case.curve.viv_stderr)),
    }
