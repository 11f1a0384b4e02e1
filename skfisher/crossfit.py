"""The information curve of a sample: fitted on some rows, chosen on others, evaluated on the rest.

Rows are dealt into folds (whole groups at a time). For each fold, candidates are fitted without it
and without the next fold, the next fold chooses among them at every noise level by the
noise-prediction score, and the winner, refitted without the fold alone, is evaluated on it. So no
row is scored by a model that saw it or that was chosen with it, and the lower bound on J holds in
expectation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from skfisher._backend.arrays import Array, like, namespace, to_numpy
from skfisher._backend.draws import normal, permutation
from skfisher._backend.rows import (
    deal_folds,
    distinct_rows,
    inverse_order,
    is_in,
    linked_groups,
    majority,
    recode,
    sorted_index,
    sum_by_code,
)
from skfisher.assembly import UpperBound, assemble_curve
from skfisher.curves import InformationCurve, Validity
from skfisher.forms import FORMS, form_rows, lower_bound, noise_prediction_scores
from skfisher.scores.fitting import fit_gaussian, fit_mixture, mixture_sizes, sample_moments
from skfisher.scores.kernel import KernelScore
from skfisher.traces import pooled_means

__all__ = [
    "CurveFit",
    "Sample",
    "cross_fitted_curve",
    "curve_of_models",
    "curve_of_moments",
    "forms_of_batch",
    "make_sample",
]

N_FOLDS = 5
MAX_CHOICE_ROWS = 1000
MAX_BRACKET_ROWS = 5000
_NOISE, _FOLDS, _PROBES, _BRACKET = 1, 2, 3, 4  # what a stream of draws is for


@dataclass(frozen=True, eq=False)
class Sample:
    """Distinct rows of a sample with their weights and groups.

    Equal rows are merged and their weights added: a repeated row is no independent evidence, and a
    score model must not be tested on a point that it has seen under another index. Groups that
    share a row become one. Rows of weight zero are dropped. Integer weights thus equal repetition
    exactly.

    Attributes
    ----------
    X : array of shape (N, n)
    weights : array of shape (N,) or None
        None where all are equal.
    groups : int array of shape (N,) or None
    """

    X: Array
    weights: Array | None
    groups: Any


@dataclass(frozen=True, eq=False)
class CurveFit:
    """A curve with the score models that stand behind it.

    Attributes
    ----------
    curve : InformationCurve
    models : tuple of score models
        Per noise level, the winner refitted on all rows.
    one_step : bool
        Whether they were fitted to data (their first-order error is then corrected for).
    """

    curve: InformationCurve
    models: tuple[Any, ...]
    one_step: bool


def make_sample(X: Array, sample_weight: Any = None, groups: Any = None) -> Sample:
    """Merge equal rows of `X`, drop rows without weight.

    Raises
    ------
    ValueError
        All rows with weight are equal, or in one group.
    """
    first, place = distinct_rows(X)
    n_rows = X.shape[0]
    if len(first) == n_rows and sample_weight is None:
        return Sample(X, None, groups)
    raw = to_numpy(X[:, 0]) * 0 + 1 if sample_weight is None else sample_weight
    total = sum_by_code(raw, place, len(first))
    kept = total > 0
    if kept.sum() < 2:
        raise ValueError(
            f"X holds one distinct sample of positive weight in {n_rows} rows, so it has no scale: "
            f"pass at least two different rows."
        )
    first, total = first[kept], total[kept]
    xp = namespace(X)
    rows = xp.take(X, xp.asarray(first), axis=0)
    equal = bool((total == total[0]).all())
    codes = None if groups is None else recode(linked_groups(groups, place)[first])
    if codes is not None and codes.max() == 0:
        raise ValueError(
            "groups leave one independent group once rows of weight zero are dropped and groups "
            "that share a row are joined: pass at least two, or groups=None."
        )
    return Sample(rows, None if equal else like(total, X), codes)


# -- candidates --------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _LeaveOneOut:
    """The kernel score as each row sees it: without the row itself and without its group.

    Queries come as blocks of `len(index)` rows in the order of `index`.
    """

    kernel: KernelScore
    index: Any

    @property
    def exact_norm_limit(self) -> int:
        return self.kernel.exact_norm_limit

    def _exclude(self, y: Array) -> Any:
        xp = namespace(y)
        own = xp.asarray(self.index)
        return xp.concat([own] * (y.shape[0] // len(self.index)), axis=0)

    def __call__(self, y: Array, sigma: float) -> Array:
        return self.kernel(y, sigma, exclude=self._exclude(y))

    def jvp(self, y: Array, sigma: float, v: Array) -> tuple[Array, Array]:
        return self.kernel.jvp(y, sigma, v, exclude=self._exclude(y))

    def divergence(self, y: Array, sigma: float) -> tuple[Array, Array]:
        return self.kernel.divergence(y, sigma, exclude=self._exclude(y))

    def moments(self, y: Array, sigma: float, clean: Any = None) -> Any:
        return self.kernel.moments(y, sigma, clean=clean, exclude=self._exclude(y))


def _candidate_names(
    score_model: str, n_units: int, n_rows: int, n_features: int
) -> tuple[str, ...]:
    """Candidates of a family, in the order in which they are tried.

    `n_units` independent rows or groups leave too little to fit, to choose and to evaluate on when
    they are fewer than twice the folds; then the smallest candidate stands alone.
    """
    mixtures = tuple(f"mixture-{k}" for k in mixture_sizes(n_rows, n_features))
    few = n_units < 2 * N_FOLDS
    if score_model == "mixture":
        return mixtures if mixtures and not few else ("mixture-1",)
    if score_model == "auto":
        return ("gaussian",) if few else ("gaussian", *mixtures, "kernel")
    return (score_model,)


def _fit(name: str, sample: Sample, index: Any, seed: int, start: Any = None) -> Any:
    xp = namespace(sample.X)
    X, weights = sample.X, sample.weights
    if index is not None:
        X = xp.take(X, xp.asarray(index), axis=0)
        weights = None if weights is None else xp.take(weights, xp.asarray(index), axis=0)
    if name == "gaussian":
        return fit_gaussian(X, weights)
    if name == "kernel":
        return KernelScore(X, weights)
    size = int(name.removeprefix("mixture-"))
    return fit_mixture(X, size, weights, seed=seed, start=start)


def _noise(X: Array, n_levels: int, seed: int, start: int = 0) -> list[Array]:
    """Standard normal draws for every level and row, each of shape (N, p, n).

    In few dimensions a second draw takes a fifth off the errors of J and R at middle noise; in more
    than eight the average over dimensions has done that already.
    """
    xp = namespace(X)
    n_rows, n = X.shape
    p = 2 if n <= 8 else 1
    rows = slice(start, start + n_rows)
    return [
        xp.reshape(normal(seed, (_NOISE, k), rows, p * n, X), (n_rows, p, n))
        for k in range(n_levels)
    ]


def _choose(
    names: Sequence[str],
    sample: Sample,
    teach: Any,
    judge: Any,
    noise: Sequence[Array],
    levels: Array,
    seed: int,
) -> tuple[list[str], dict[str, Any]]:
    """Candidates fitted on the rows `teach`, and per level the best of them on the rows `judge`.

    They are compared by the noise-prediction score t L / n, taken from the better of its forms as
    the lower bound L is. Mixtures come in growing size, and a size that wins at no level ends them.
    """
    xp = namespace(sample.X)
    rows = xp.asarray(judge[:MAX_CHOICE_ROWS])
    x = xp.take(sample.X, rows, axis=0)
    weights = None if sample.weights is None else xp.take(sample.weights, rows, axis=0)
    best = [(-math.inf, "")] * len(noise)
    fitted: dict[str, Any] = {}
    enough = False
    for name in names:
        if enough and name.startswith("mixture"):
            continue
        model = fitted[name] = _fit(name, sample, teach, seed)
        values = [
            form_rows(
                model,
                x,
                xp.take(eps, rows, axis=0)[:, :1, :],
                float(levels[k]),
                one_step=False,
                with_rate=False,
            ).values
            for k, eps in enumerate(noise)
        ]
        means, cov = pooled_means(xp.concat(values, axis=1), weights=weights)
        scores = noise_prediction_scores(means, cov, len(noise))
        best = [max(pair) for pair in zip(best, ((s, name) for s in scores), strict=True)]
        enough = name.startswith("mixture") and all(name != winner for _, winner in best)
    return [name for _, name in best], fitted


def cross_fitted_curve(
    sample: Sample,
    noise_levels: Array,
    score_model: str = "auto",
    *,
    n_probes: int = 1,
    seed: int = 0,
    with_rate: bool = True,
    bracket: bool = True,
    validity: Validity | None = None,
) -> CurveFit:
    """Information curve from a sample alone, by cross-fitted closed-form score models.

    Parameters
    ----------
    sample : Sample
    noise_levels : array of shape (T,)
    score_model : {"auto", "gaussian", "mixture", "kernel"}
        Which candidates compete at each level; the kernel sees all rows but the one it is asked
        about (and its group).
    n_probes, seed, with_rate, bracket, validity
        See `curve_of_models`.

    Returns
    -------
    CurveFit
    """
    X = sample.X
    n_rows, n = X.shape
    n_units = n_rows if sample.groups is None else int(sample.groups.max()) + 1
    order = permutation(seed, (_FOLDS,), n_units)
    folds = deal_folds(order, sample.groups, min(N_FOLDS, n_units))
    noise = _noise(X, len(noise_levels), seed)
    names = _candidate_names(score_model, n_units, n_rows * (N_FOLDS - 2) // N_FOLDS, n)
    everything = permutation(seed, (_FOLDS, 1), n_rows)

    choices: list[list[str]] = []
    models: list[dict[str, Any]] = []
    for f, fold in enumerate(folds):
        rest = everything[~is_in(everything, fold)]
        fitted: dict[str, Any] = {}
        choice = [names[0]] * len(noise_levels)
        if len(names) > 1:
            # in random order: of a long fold only the first rows judge, and X may be sorted
            judge = everything[is_in(everything, folds[(f + 1) % len(folds)])]
            teach = rest[~is_in(rest, judge)]
            choice, fitted = _choose(names, sample, teach, judge, noise, noise_levels, seed)
        choices.append(choice)
        models.append(
            {
                name: _fit(name, sample, rest, seed, start=fitted.get(name))
                for name in sorted(set(choice) - {"kernel"})
            }
        )

    kernel = KernelScore(X, sample.weights, sample.groups)
    parts_at: list[list[tuple[Any, Any]]] = []
    for k in range(len(noise_levels)):
        by_kernel = [i for f, fold in enumerate(folds) if choices[f][k] == "kernel" for i in fold]
        parts = [
            (fold, models[f][choices[f][k]])
            for f, fold in enumerate(folds)
            if choices[f][k] != "kernel"
        ]
        if by_kernel:
            index = sorted_index(by_kernel)
            parts.append((index, _LeaveOneOut(kernel, index)))
        parts_at.append(parts)
    winners = tuple(majority([choice[k] for choice in choices]) for k in range(len(noise_levels)))
    final: dict[str, Any] = {"kernel": kernel}
    for name in sorted(set(winners) - {"kernel"}):
        start = next(m[name] for m in models if name in m)
        final[name] = _fit(name, sample, None, seed, start=start)
    curve = _curve(
        sample,
        noise_levels,
        noise,
        parts_at,
        names=winners,
        one_step=True,
        n_probes=n_probes,
        seed=seed,
        with_rate=with_rate,
        validity=validity or Validity(),
        bracket=kernel if bracket else None,
    )
    return CurveFit(curve, tuple(final[name] for name in winners), one_step=True)


def curve_of_models(
    sample: Sample,
    noise_levels: Array,
    models: Sequence[Any],
    *,
    names: Sequence[str],
    one_step: bool,
    n_probes: int = 1,
    seed: int = 0,
    with_rate: bool = True,
    bracket: bool = True,
    validity: Validity | None = None,
) -> CurveFit:
    """Information curve of a sample under given score models, one for each noise level.

    Parameters
    ----------
    sample : Sample
        Rows that no model has seen.
    noise_levels : array of shape (T,)
    models : sequence of T score models
    names : sequence of T str
    one_step : bool
        False takes the models as exact (least variance, first-order error if they are not); True
        takes them as fitted and corrects to first order (see `skfisher.forms`).
    n_probes : int
        Probes per row where traces are not exact.
    seed : int
    with_rate : bool
        False skips R and what follows from it (NaN in the curve).
    bracket : bool
        Whether the upper bound of the smoothed empirical law, quadratic in the rows, is wanted.
    validity : Validity or None
        Limits of a valid level.
    """
    X = sample.X
    everything = sorted_index(range(X.shape[0]))
    curve = _curve(
        sample,
        noise_levels,
        _noise(X, len(models), seed),
        [[(everything, model)] for model in models],
        names=tuple(names),
        one_step=one_step,
        n_probes=n_probes,
        seed=seed,
        with_rate=with_rate,
        validity=validity or Validity(),
        bracket=KernelScore(X, sample.weights, sample.groups) if bracket else None,
    )
    return CurveFit(curve, tuple(models), one_step)


def forms_of_batch(
    X: Array,
    noise_levels: Array,
    model: Any,
    *,
    start: int,
    n_probes: int,
    seed: int,
    with_rate: bool,
) -> tuple[Array, int]:
    """Forms of a batch of rows at all levels, shape (N, T * 8), and the products spent.

    `start` is the number of rows before this batch, which fixes its draws.
    """
    xp = namespace(X)
    values, products = [], 0
    for k, eps in enumerate(_noise(X, noise_levels.shape[0], seed, start)):
        forms = form_rows(
            model,
            X,
            eps,
            float(noise_levels[k]),
            n_probes=n_probes,
            seed=seed,
            stream=(_PROBES, k),
            start=start,
            one_step=False,
            with_rate=with_rate,
        )
        values.append(forms.values)
        products += forms.n_products
    return xp.concat(values, axis=1), products


def curve_of_moments(
    means: Array,
    cov: Array,
    n_rows: float,
    noise_levels: Array,
    model: Any,
    *,
    n_samples: int,
    eigenvalues: Array,
    with_rate: bool,
    n_products: int,
    validity: Validity | None = None,
) -> CurveFit:
    """Curve under a model taken as exact, from the merged moments of `forms_of_batch`."""
    levels = noise_levels.shape[0]
    curve = assemble_curve(
        means,
        cov,
        n_rows,
        noise_levels,
        n_features=eigenvalues.shape[0],
        n_samples=n_samples,
        eigenvalues=eigenvalues,
        one_step=False,
        with_rate=with_rate,
        upper_bounds=None,
        score_models=(model.name,) * levels,
        n_products=n_products,
        validity=validity or Validity(),
    )
    return CurveFit(curve, (model,) * levels, one_step=False)


# -- assembly ----------------------------------------------------------------------------------


def _curve(
    sample: Sample,
    noise_levels: Array,
    noise: Sequence[Array],
    parts_at: Sequence[Sequence[tuple[Any, Any]]],
    *,
    names: Sequence[str],
    one_step: bool,
    n_probes: int,
    seed: int,
    with_rate: bool,
    validity: Validity,
    bracket: KernelScore | None,
) -> InformationCurve:
    """Forms of all rows under the models that may see them, then the curve."""
    X, weights, groups = sample.X, sample.weights, sample.groups
    xp = namespace(X)
    n_rows, n = X.shape
    columns, bounds, products = [], [], 0
    for k, parts in enumerate(parts_at):
        sigma = float(noise_levels[k])
        pieces = []
        for index, model in parts:
            rows = xp.asarray(index)
            forms = form_rows(
                model,
                xp.take(X, rows, axis=0),
                xp.take(noise[k], rows, axis=0),
                sigma,
                n_probes=n_probes,
                seed=seed,
                stream=(_PROBES, k),
                one_step=one_step,
                with_rate=with_rate,
            )
            products += forms.n_products
            pieces.append(forms.values)
        place = inverse_order([index for index, _ in parts])
        columns.append(xp.take(xp.concat(pieces, axis=0), xp.asarray(place), axis=0))
        if bracket is not None:
            bounds.append(_upper_bound(bracket, sample, noise[k], sigma, seed, k))
    values = xp.concat(columns, axis=1)
    if not bool(xp.any(xp.isfinite(values[:, :: len(FORMS)]))):
        raise ValueError(
            "score_model returned NaN or infinity at every noise level: check that it takes (y, "
            "sigma) with sigma the standard deviation of the noise in units of X."
        )
    means, cov = pooled_means(values, weights=weights, groups=groups)
    return assemble_curve(
        means,
        cov,
        _independent_rows(sample),
        noise_levels,
        n_features=n,
        n_samples=n_rows,
        eigenvalues=xp.linalg.eigvalsh(sample_moments(X, weights)[1]),
        one_step=one_step,
        with_rate=with_rate,
        upper_bounds=bounds or None,
        score_models=names,
        n_products=products,
        validity=validity,
    )


def _independent_rows(sample: Sample) -> float:
    """Number of groups, or the effective number of weighted rows."""
    xp = namespace(sample.X)
    if sample.groups is not None:
        return float(sample.groups.max()) + 1
    if sample.weights is None:
        return float(sample.X.shape[0])
    return float(xp.sum(sample.weights)) ** 2 / float(xp.sum(sample.weights**2))


def _upper_bound(
    kernel: KernelScore, sample: Sample, noise: Array, sigma: float, seed: int, level: int
) -> UpperBound:
    """Upper bound on tJ: the FI of the smoothed empirical law, all points in it.

    Under that law the kernel score is exact, so the implicit and the denoising form are unbiased
    for it; and as the implicit row is the influence of a centre on the functional J (to first
    order), its scatter is the sampling error of the bound as well.
    """
    X = sample.X
    xp = namespace(X)
    index = permutation(seed, (_BRACKET, level), X.shape[0])[:MAX_BRACKET_ROWS]
    rows = xp.asarray(index)
    x, eps = xp.take(X, rows, axis=0), xp.take(noise, rows, axis=0)
    forms = form_rows(kernel, x, eps, sigma, one_step=False, with_rate=False)
    means, cov = pooled_means(
        forms.values,
        weights=None if sample.weights is None else xp.take(sample.weights, rows, axis=0),
        groups=None if sample.groups is None else recode(sample.groups[index]),
    )
    value, error, _ = lower_bound(means, cov, _independent_rows(sample))
    y = x[:MAX_CHOICE_ROWS, :] + sigma * eps[:MAX_CHOICE_ROWS, 0, :]
    ess = xp.sort(kernel.moments(y, sigma, exact_norm=False).effective_sample_size)
    return UpperBound(value, error, float(ess[ess.shape[0] // 2]))
