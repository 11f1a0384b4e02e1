"""What the estimators share: checked input, where it is computed, its curve, scores on new rows."""

from __future__ import annotations

import numbers
import warnings
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

from sklearn.utils.validation import check_is_fitted, validate_data

from skfisher._backend.arrays import Array, cast_like, like, namespace
from skfisher._backend.devices import moved_to, refuse_other_device
from skfisher._backend.draws import seed_of
from skfisher._backend.validation import as_groups, as_row_weights, as_sample
from skfisher.channels import check_latent_shape
from skfisher.conditional import curve_of_classes
from skfisher.crossfit import FAMILIES, cross_fitted_curve
from skfisher.curves import InformationCurve
from skfisher.evaluation import CurveFit, curve_of_models
from skfisher.exceptions import UnreliableEstimateWarning
from skfisher.noise import check_noise_levels, default_noise_levels
from skfisher.samples import Sample, make_sample
from skfisher.scores.wrap import as_score_model

__all__ = [
    "check_n_probes",
    "check_score_model_name",
    "computing_copy",
    "fit_curve",
    "follow",
    "given_model",
    "read_sample",
    "refuse_elsewhere",
    "score_curve",
    "warn_if_unreliable",
    "warn_of_surrogate",
    "working_copy",
]


def read_sample(estimator: Any, X: Any, *, reset: bool, min_samples: int = 2) -> Array:
    """`X` validated against the features that the estimator knows."""
    if not reset:
        check_is_fitted(estimator)
    checked = as_sample(X, min_samples=min_samples)
    validate_data(estimator, X, reset=reset, skip_check_array=True)
    return checked


def working_copy(X: Array) -> Array:
    """`X` in float64, in which everything is computed whatever the dtype of the answer.

    Raises
    ------
    ValueError
        The library has no float64, as JAX unless told otherwise.
    """
    xp = namespace(X)
    if X.dtype == xp.float64:
        return X
    if "float64" not in xp.__array_namespace_info__().dtypes(kind="real floating"):
        raise ValueError(
            f"X is a {type(X).__module__.split('.')[0]} array of dtype {X.dtype} in a process "
            f"without float64, in which everything is computed: call "
            f"jax.config.update('jax_enable_x64', True) first, or pass X as NumPy array."
        )
    return xp.astype(X, xp.float64)


def computing_copy(X: Array, device: Any) -> Array:
    """`X` in float64 on the device where it is to be computed with."""
    return working_copy(moved_to(device, X))


def refuse_elsewhere(X: Array, **arguments: Any) -> None:
    """Refuse arrays among the named `arguments` that lie on another device than X."""
    for name, values in arguments.items():
        refuse_other_device(values, name, X)


def check_n_probes(n_probes: Any) -> int:
    """Number of probes per row."""
    if not isinstance(n_probes, numbers.Integral) or n_probes < 1:
        raise ValueError(f"n_probes is {n_probes!r}: pass the number of probes per row, 1 or more.")
    return int(n_probes)


def given_model(score_model: Any) -> bool:
    """Whether `score_model` is a model, and not a family to fit by its name or recipe."""
    return not isinstance(score_model, str) and not _is_recipe(score_model)


def _is_recipe(score_model: Any) -> bool:
    """Whether it says how a network is to be fitted."""
    return not isinstance(score_model, type) and bool(getattr(score_model, "fits_a_sample", False))


def check_score_model_name(score_model: Any) -> None:
    """Refuse anything but a known name or something callable."""
    if isinstance(score_model, str):
        if score_model not in FAMILIES:
            raise ValueError(
                f"score_model is {score_model!r}: choose one of {', '.join(FAMILIES)}, or pass "
                f"a score model called as model(y, sigma)."
            )
    elif isinstance(score_model, type):
        raise TypeError(
            f"score_model is the class {score_model.__name__}: pass an instance, "
            f"{score_model.__name__}(...), or one of {', '.join(FAMILIES)}."
        )
    elif not callable(score_model) and not _is_recipe(score_model):
        raise TypeError(
            f"score_model is a {type(score_model).__name__}, which cannot be called: pass one of "
            f"{', '.join(FAMILIES)}, or a score model called as model(y, sigma)."
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
    latent_shape: Any = None,
    learn: bool = True,
    verbose: bool = False,
) -> tuple[CurveFit, Sample, int]:
    """Check the parameters and compute the curve of a sample; also the merged sample and seed."""
    check_score_model_name(score_model)
    shape = None if latent_shape is None else check_latent_shape(latent_shape, X.shape[1])
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
            sample,
            levels,
            score_model,
            n_probes=n_probes,
            seed=seed,
            with_rate=with_rate,
            latent_shape=shape,
            learn=learn,
            verbose=bool(verbose),
        )
    return fit, sample, seed


def score_curve(
    estimator: Any, X: Any, y: Any, sample_weight: Any, *, with_rate: bool
) -> InformationCurve:
    """Curve of new rows under the fitted models, at the fitted levels, without upper bounds."""
    checked = read_sample(estimator, X, reset=False)
    refuse_elsewhere(checked, sample_weight=sample_weight)
    rows = computing_copy(checked, estimator.device)
    if estimator.class_conditional:
        return curve_of_classes(
            estimator._classes,
            rows,
            y,
            sample_weight=sample_weight,
            n_probes=estimator.n_probes,
            random_state=estimator._seed,
            with_rate=with_rate,
        )
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


def warn_of_surrogate(distance: Any, what: str) -> None:
    """Warn of a surrogate's distance that may not be believed."""
    if distance is not None and distance.reason:
        warnings.warn(
            f"{what} by the criterion 'surrogate': {distance.reason}. Use more rows (max_points "
            f"bounds them), or fewer features.",
            UnreliableEstimateWarning,
            stacklevel=3,
        )


def follow(result: Any, reference: Array) -> Any:
    """A result whose arrays, however deep, are in library, dtype and device of `reference`."""
    if hasattr(result, "dtype"):
        return cast_like(result, reference)
    if isinstance(result, Mapping):
        return {name: follow(value, reference) for name, value in result.items()}
    if type(result) is tuple:
        return tuple(follow(value, reference) for value in result)
    if is_dataclass(result) and not isinstance(result, type):
        values = {f.name: follow(getattr(result, f.name), reference) for f in fields(result)}
        return replace(result, **values)
    return result
