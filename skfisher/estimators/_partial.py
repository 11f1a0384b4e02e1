"""Curves from batches: the moments of the forms, merged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from skfisher._backend.arrays import Array, like, namespace
from skfisher._backend.draws import seed_of
from skfisher._backend.validation import as_row_weights
from skfisher.estimators._common import check_n_probes
from skfisher.evaluation import CurveFit, curve_of_moments, forms_of_batch
from skfisher.noise import check_noise_levels
from skfisher.scores.wrap import as_score_model
from skfisher.traces import RunningMoments

__all__ = ["PartialFit", "partially_fitted"]


@dataclass(frozen=True, eq=False)
class PartialFit:
    """What the batches so far leave behind.

    Attributes
    ----------
    forms : RunningMoments
        Of the forms at all levels.
    data : RunningMoments
        Of the rows times the root of their weight's share, for the covariance of X.
    n_rows : int
        Rows so far: the next batch draws its noise from there on.
    n_products : int
    seed : int
    """

    forms: RunningMoments
    data: RunningMoments
    n_rows: int
    n_products: int
    seed: int


def partially_fitted(
    estimator: Any, X: Array, sample_weight: Any, so_far: PartialFit | None, with_rate: bool
) -> tuple[CurveFit, PartialFit, int]:
    """Curve of all batches so far and this one, what to keep for the next, and the seed."""
    xp = namespace(X)
    n_rows, n = X.shape
    n_probes = check_n_probes(estimator.n_probes)
    seed = seed_of(estimator.random_state) if so_far is None else so_far.seed
    levels = check_noise_levels(estimator.noise_levels, X)
    model = as_score_model(estimator.score_model, n)
    start = 0 if so_far is None else so_far.n_rows
    values, products = forms_of_batch(
        X, levels, model, start=start, n_probes=n_probes, seed=seed, with_rate=with_rate
    )
    weights = as_row_weights(sample_weight, n_rows)
    # the scatter of RunningMoments is weighted by the square of its weights
    roots = None if weights is None else weights**0.5
    forms, data = RunningMoments.of(values, weights), RunningMoments.of(X, roots)
    if so_far is not None:
        forms, data = so_far.forms.merge(forms), so_far.data.merge(data)
        products += so_far.n_products
    covariance = data.scatter / data.weight_sums[1]
    kept = PartialFit(forms, data, start + n_rows, products, seed)
    total, squares, _ = forms.weight_sums
    curve = curve_of_moments(
        forms.mean,
        forms.covariance_of_mean,
        total**2 / squares,
        like(levels, X),
        model,
        n_samples=kept.n_rows,
        eigenvalues=xp.linalg.eigvalsh(covariance),
        with_rate=with_rate,
        n_products=products,
    )
    return curve, kept, seed
