"""What the estimators share: validated input, the fitted curve, and the scores on new rows."""

from __future__ import annotations

import numbers
import warnings
from dataclasses import fields, replace
from typing import Any

from sklearn.utils.validation import check_is_fitted, validate_data

from skfisher._backend.arrays import Array, like, namespace
from skfisher._backend.draws import seed_of
from skfisher._backend.validation import as_groups, as_row_weights, as_sample
from skfisher.crossfit import CurveFit, Sample, cross_fitted_curve, curve_of_models, make_sample
from skfisher.curves import InformationCurve
from skfisher.exceptions import UnreliableEstimateWarning
from skfisher.noise import check_noise_levels, default_noise_levels
from skfisher.scores.wrap import as_score_model

__all__ = [
    "cast_curve",
    "check_n_probes",
    "check_score_model_name",
    "fit_curve",
    "given_model",
    "read_sample",
    "score_curve",
    "warn_if_unreliable",
    "working_copy",
]

SCORE_MODELS = ("auto", "gaussian", "mixture", "kernel")


def read_sample(estimator: Any, X: Any, *, reset: bool, min_samples: int = 2) -> Array:
    """`X` validated against the estimator's features; in float64 where it came in float32."""
    if not reset:
        check_is_fitted(estimator)
    checked = as_sample(X, min_samples=min_samples)
    validate_data(estimator, X, reset=reset, skip_check_array=True)
    return checked


def working_copy(X: Array) -> Array:
    """`X` in float64, in which everything is computed whatever the dtype of the answer."""
    xp = namespace(X)
    return X if X.dtype == xp.float64 else xp.astype(X, xp.float64)


def check_n_probes(n_probes: Any) -> int:
    """Number of probes per row."""
    if not isinstance(n_probes, numbers.Integral) or n_probes < 1:
        raise ValueError(f"n_probes is {n_probes!r}: pass the number of probes per row, 1 or more.")
    return int(n_probes)


def given_model(score_model: Any) -> bool:
    """Whether `score_model` is a model and not the name of a family to fit."""
    return not isinstance(score_model, str)


def check_score_model_name(score_model: Any) -> None:
    """Refuse anything but a known name or something callable."""
    if isinstance(score_model, str):
        if score_model not in SCORE_MODELS:
            raise ValueError(
                f"score_model is {score_model!r}: choose one of {', '.join(SCORE_MODELS)}, or pass "
                f"a score model called as model(y, sigma)."
            )
    elif isinstance(score_model, type):
        raise TypeError(
            f"score_model is the class {score_model.__name__}: pass an instance, "
            f"{score_model.__name__}(...), or one of {', '.join(SCORE_MODELS)}."
        )
    elif not callable(score_model):
        raise TypeError(
            f"score_model is a {type(score_model).__name__}, which cannot be called: pass one of "
            f"{', '.join(SCORE_MODELS)}, or a score model called as model(y, sigma)."
        )


def fit_curve(
    X: Array,
    *,
    score_model: Any,
    noise_levels: Any,
    n_probes: Any,
    random_state: Any,
    sample_weight: Any,
    groups: Any,
    with_rate: bool,
) -> tuple[CurveFit, Sample, int]:
    """Check the parameters and compute the curve of a sample; also the merged sample and seed."""
    check_score_model_name(score_model)
    n_probes = check_n_probes(n_probes)
    seed = seed_of(random_state)
    n_rows = X.shape[0]
    sample = make_sample(X, as_row_weights(sample_weight, n_rows), as_groups(groups, n_rows))
    if noise_levels is None:
        levels = default_noise_levels(sample.X, sample_weight=sample.weights)
    else:
        levels = check_noise_levels(noise_levels, X)
    if given_model(score_model):
        model = as_score_model(score_model, X.shape[1])
        fit = curve_of_models(
            sample,
            levels,
            [model] * levels.shape[0],
            names=[model.name] * levels.shape[0],
            one_step=False,
            n_probes=n_probes,
            seed=seed,
            with_rate=with_rate,
        )
    else:
        fit = cross_fitted_curve(
            sample, levels, score_model, n_probes=n_probes, seed=seed, with_rate=with_rate
        )
    return fit, sample, seed


def score_curve(estimator: Any, X: Any, sample_weight: Any, *, with_rate: bool) -> InformationCurve:
    """Curve of new rows under the fitted models, at the fitted levels, without upper bounds."""
    rows = working_copy(read_sample(estimator, X, reset=False))
    fit: CurveFit = estimator._fit
    sample = make_sample(rows, as_row_weights(sample_weight, rows.shape[0]))
    return curve_of_models(
        sample,
        like(fit.curve.noise_levels, rows),
        fit.models,
        names=fit.curve.score_models,
        one_step=fit.one_step,
        n_probes=estimator.n_probes,
        seed=estimator._seed,
        with_rate=with_rate,
        bracket=False,
    ).curve


def warn_if_unreliable(curve: InformationCurve, what: str) -> None:
    """Warn when more than half of the levels are not valid."""
    levels = len(curve.reasons)
    invalid = sum(1 for reason in curve.reasons if reason)
    if 2 * invalid > levels:
        common = max(set(curve.reasons) - {""}, key=curve.reasons.count)
        warnings.warn(
            f"{what} rests on {levels} noise levels of which {invalid} are not valid (most often: "
            f"{common}). Use more rows, or higher noise levels; see valid_ and curve_.reasons.",
            UnreliableEstimateWarning,
            stacklevel=3,
        )


def cast_curve(curve: InformationCurve, reference: Array) -> InformationCurve:
    """The curve with its arrays in the dtype of `reference`."""
    xp = namespace(curve.noise_levels)
    if curve.noise_levels.dtype == reference.dtype:
        return curve
    cast = {
        field.name: xp.astype(value, reference.dtype)
        for field in fields(curve)
        if hasattr(value := getattr(curve, field.name), "dtype") and value.dtype != xp.bool
    }
    return replace(curve, **cast)
