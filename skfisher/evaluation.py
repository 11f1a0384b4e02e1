"""The forms of a sample under score models that may see its rows, and the curve they make."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from skfisher._backend.arrays import (
    Array,
    index_like,
    like,
    namespace,
    row_chunks,
    take_rows,
    to_numpy,
)
from skfisher._backend.draws import normal, permutation
from skfisher._backend.posterior import map_chunks, n_workers
from skfisher._backend.rows import inverse_index, inverse_order, recode, sorted_index
from skfisher.assembly import UpperBound, assemble_curve, contributions_of_rows
from skfisher.curves import InformationCurve, Validity, select_levels
from skfisher.forms import FORMS, Asymmetry, FormRows, asymmetry, form_rows, lower_bound
from skfisher.samples import Sample, independent_rows
from skfisher.scores.fitting import covariance_eigenvalues
from skfisher.scores.kernel import KernelScore
from skfisher.scores.network import TrainingLog
from skfisher.traces import pooled, pooled_means

__all__ = [
    "CurveFit",
    "Evaluation",
    "Level",
    "Noise",
    "curve_of_models",
    "curve_of_moments",
    "forms_of_batch",
    "rows_under",
]

MAX_BRACKET_ROWS = 5000
MAX_BRACKET_PAIRS = 25_000_000
MAX_BRACKET_TERMS = 1_600_000_000
"""Rows on which the upper bound is measured, pairs of them with all rows, and pairs times n."""
LEAST_BRACKET_ROWS = 200
SIZED_ROWS = 1000
"""Rows on which the posterior's effective sample size is measured."""
CHUNK_BUDGET = 2**30
"""Bytes of temporaries for one evaluation of the forms under a model without closed form."""
NOISE_BUDGET = 2**30
"""Bytes of noise that are kept from one use to the next."""
LEAST_SKEW_ROWS, SKEW_SHARE = 8, 32
"""The asymmetry of a Jacobian is measured on one row in so many, and on so many at least."""
_NOISE, _PROBES, _BRACKET, _SKEW = 1, 3, 4, 5  # what a stream of draws is for


@dataclass(frozen=True, eq=False)
class CurveFit:
    """A curve with the score models that stand behind it.

    Attributes
    ----------
    curve : InformationCurve
    models : tuple of score models
        Per noise level, the winner refitted on all rows; a learned one as the first fold has it.
    one_step : bool
        Whether they were fitted to data (their first-order error is then corrected for).
    learning : tuple of TrainingLog
        Of each network that was trained.
    row_penalties : array of shape (N, T) or None
        What each row of the sample brings to t^2 R: their mean is the curve's complexity penalty.
        None where R was not asked for.
    row_effective_dimensions : array of shape (N, T) or None
        The same of d_eff.
    """

    curve: InformationCurve
    models: tuple[Any, ...]
    one_step: bool
    learning: tuple[TrainingLog, ...] = ()
    row_penalties: Array | None = None
    row_effective_dimensions: Array | None = None

    def at(self, levels: Sequence[int]) -> CurveFit:
        """The fit at some of its noise levels; see `skfisher.curves.select_levels`."""
        rows = [self.row_penalties, self.row_effective_dimensions]
        index = index_like(list(levels), self.curve.noise_levels)
        penalties, dimensions = (
            None if r is None else namespace(r).take(r, index, axis=1) for r in rows
        )
        return replace(
            self,
            curve=select_levels(self.curve, list(levels)),
            models=tuple(self.models[k] for k in levels),
            row_penalties=penalties,
            row_effective_dimensions=dimensions,
        )


class Noise(Sequence[Array]):
    """Standard normal draws for every level and row, each of shape (N, p, n).

    In few dimensions a second draw takes a fifth off the errors of J and R at middle noise; in more
    than eight the average over dimensions has done that already. Large ones are drawn again each
    time, and come out the same.
    """

    def __init__(self, X: Array, n_levels: int, seed: int, start: int = 0) -> None:
        n_rows, n = X.shape
        self._reference, self._seed, self._n_levels = X[:1, :], seed, n_levels
        self._rows = slice(start, start + n_rows)
        self._shape = (n_rows, 2 if n <= 8 else 1, n)
        self._keep = math.prod(self._shape) * n_levels * 8 <= NOISE_BUDGET
        self._kept: dict[int, Array] = {}

    def __len__(self) -> int:
        return self._n_levels

    def __getitem__(self, level: Any) -> Any:
        if not 0 <= level < self._n_levels:
            raise IndexError(level)
        if level not in self._kept:
            X, (n_rows, p, n) = self._reference, self._shape
            draws = normal(self._seed, (_NOISE, level), self._rows, p * n, X)
            eps = namespace(X).reshape(draws, (n_rows, p, n))
            if not self._keep:
                return eps
            self._kept[level] = eps
        return self._kept[level]

    def first_of(self, index: Any) -> list[Array]:
        """The first draw of some rows at every level, each of shape (len(index), n)."""
        if self._keep:
            return [take_rows(eps, index)[:, 0, :] for eps in self]
        X, (_, p, n) = self._reference, self._shape
        start, xp = self._rows.start, namespace(X)
        return [
            xp.concat(
                [
                    normal(self._seed, (_NOISE, level), slice(start + i, start + i + 1), p * n, X)
                    for i in index.tolist()
                ],
                axis=0,
            )[:, :n]
            for level in range(self._n_levels)
        ]


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
    evaluation = Evaluation(
        sample,
        noise_levels,
        Noise(X, len(models), seed),
        n_probes,
        seed,
        with_rate,
        KernelScore(X, sample.weights, sample.groups) if bracket else None,
        None,
    )
    evaluated = evaluation.levels([[(everything, model)] for model in models], one_step=one_step)
    curve = evaluation.curve(
        evaluated, names, validity or Validity(), one_step=one_step, models=models
    )
    brought = evaluation.row_contributions(evaluated, one_step=one_step) if with_rate else ()
    return CurveFit(curve, tuple(models), one_step, (), *brought)


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
    for k, eps in enumerate(Noise(X, noise_levels.shape[0], seed, start)):
        forms = rows_under(
            model,
            X,
            eps,
            float(noise_levels[k]),
            n_probes=n_probes,
            seed=seed,
            stream=(_PROBES, k, 0),
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
    unknown = None if hasattr(model, "divergence") else Asymmetry(math.nan, math.nan, 0)
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
        linearity=[(unknown, _mode_of(model))] * levels,
    )
    return CurveFit(curve, (model,) * levels, one_step=False)


@dataclass(frozen=True, eq=False)
class Level:
    """What one noise level gave: its forms for each row, who was asked, and the upper bound."""

    values: Array
    index: Any
    n_products: int
    bound: UpperBound | None
    linearity: tuple[Asymmetry | None, str]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The forms of a sample under models that may see its rows, and the curve they make."""

    sample: Sample
    noise_levels: Array
    noise: Noise
    n_probes: int
    seed: int
    with_rate: bool
    bracket: KernelScore | None
    say: Any
    bounds: dict[int, UpperBound] = field(default_factory=dict)
    """Upper bounds by level, which do not depend on the models."""

    def levels(
        self,
        parts_at: Sequence[Sequence[tuple[Any, Any]]],
        places: Sequence[int] | None = None,
        *,
        one_step: bool = True,
        with_rate: bool = True,
    ) -> list[Level]:
        """Forms at each level (or at some `places`) from parts (rows, model); of J alone or all."""
        places = range(len(parts_at)) if places is None else places
        pairs = list(zip(places, parts_at, strict=True))
        exact = all(hasattr(model, "divergence") for _, parts in pairs for _, model in parts)

        def evaluate(pair: tuple[int, Sequence[tuple[Any, Any]]]) -> Level:
            level = self._level(*pair, one_step, with_rate and self.with_rate)
            if self.say is not None:
                self.say(f"noise level {pair[0] + 1} of {len(self.noise)}")
            return level

        # networks take threads of their own, and dual numbers belong to one thread
        return map_chunks(evaluate, pairs, n_workers(self.sample.X) if exact else 1)

    def _level(
        self, k: int, parts: Sequence[tuple[Any, Any]], one_step: bool, with_rate: bool
    ) -> Level:
        X = self.sample.X
        xp = namespace(X)
        sigma = float(self.noise_levels[k])
        noise = self.noise[k]
        pieces, products = [], 0
        for part, (index, model) in enumerate(parts):
            forms = rows_under(
                model,
                take_rows(X, index),
                take_rows(noise, index),
                sigma,
                n_probes=self.n_probes,
                seed=self.seed,
                stream=(_PROBES, k, part),  # rows of two parts must not share their probes
                one_step=one_step,
                with_rate=with_rate,
            )
            products += forms.n_products
            pieces.append(forms.values)
        rows, model = parts[0]
        skew = None
        if not hasattr(model, "divergence"):
            some = rows[: max(LEAST_SKEW_ROWS, len(rows) // SKEW_SHARE)]
            x, eps = take_rows(X, some), take_rows(noise, some)
            skew = asymmetry(model, x, eps, sigma, seed=self.seed, stream=(_SKEW, k))
            products += 2 * skew.n_rows
        index = [i for rows, _ in parts for i in rows]
        place = inverse_order([rows for rows, _ in parts])
        bound = None
        if self.bracket is not None:
            if k not in self.bounds:
                args = (self.bracket, self.sample, noise, sigma, self.seed, k)
                self.bounds[k] = _upper_bound(*args)
            bound = self.bounds[k]
        return Level(
            take_rows(xp.concat(pieces, axis=0), place),
            sorted_index(index),
            products,
            bound,
            (skew, _mode_of(model)),
        )

    def gain(self, learned: Level, closed: Level) -> tuple[float, float]:
        """What one level's model adds to the noise-prediction score of another's, and its error.

        On the rows that both were asked about, with the noise that both saw.
        """
        X, weights, groups = self.sample.X, self.sample.weights, self.sample.groups
        of_closed = take_rows(closed.values, learned.index)
        column = FORMS.index("denoising")
        more = (learned.values[:, column] - of_closed[:, column]) / X.shape[1]
        return pooled(
            more,
            None if weights is None else take_rows(weights, learned.index),
            None if groups is None else recode(groups[learned.index]),
        )

    def curve(
        self,
        evaluated: Sequence[Level],
        names: Sequence[str],
        validity: Validity,
        *,
        one_step: bool,
        with_rate: bool = True,
        models: Sequence[Any] = (),
    ) -> InformationCurve:
        """The curve of levels that were evaluated, on all rows or on some of them."""
        X, weights, groups = self.sample.X, self.sample.weights, self.sample.groups
        xp = namespace(X)
        n_rows, n = X.shape
        values = self._values(evaluated)
        if not bool(xp.any(xp.isfinite(values[:, :: len(FORMS)]))):
            raise ValueError(
                "score_model returned NaN or infinity at every noise level: check that it takes "
                "(y, sigma) with sigma the standard deviation of the noise in units of X."
                + _range_of(models)
            )
        means, cov = pooled_means(values, weights=weights, groups=groups)
        bounds = [level.bound for level in evaluated if level.bound is not None]
        return assemble_curve(
            means,
            cov,
            self._independent(evaluated),
            self.noise_levels,
            n_features=n,
            n_samples=n_rows,
            eigenvalues=covariance_eigenvalues(X, weights),
            one_step=one_step,
            with_rate=with_rate and self.with_rate,
            upper_bounds=bounds or None,
            score_models=tuple(names),
            n_products=sum(level.n_products for level in evaluated),
            validity=validity,
            linearity=[level.linearity for level in evaluated],
        )

    def row_contributions(
        self, evaluated: Sequence[Level], *, one_step: bool
    ) -> tuple[Array, Array]:
        """What each row brings to t^2 R and to d_eff at every level, each of shape (N, T)."""
        values = self._values(evaluated)
        weights, groups = self.sample.weights, self.sample.groups
        return contributions_of_rows(
            values,
            *pooled_means(values, weights=weights, groups=groups),
            self._independent(evaluated),
            n_features=self.sample.X.shape[1],
            one_step=one_step,
        )

    def _values(self, evaluated: Sequence[Level]) -> Array:
        values = [_on_all_rows(level, self.sample) for level in evaluated]
        return namespace(self.sample.X).concat(values, axis=1)

    def _independent(self, evaluated: Sequence[Level]) -> list[float]:
        return [independent_rows(self.sample, level.index) for level in evaluated]


def rows_under(
    model: Any, x: Array, eps: Array, sigma: float, *, start: int = 0, **options: Any
) -> FormRows:
    """`skfisher.forms.form_rows`, over as many rows at a time as fit the memory.

    Under a Gaussian in the axes of its covariance, on which no form depends.
    """
    n_rows, p, n = eps.shape
    # two signs for each draw, and about a dozen arrays of their size
    chunks = list(row_chunks(n_rows, 2 * p * n * 8 * 12, CHUNK_BUDGET)) or [slice(0, 0)]
    parts = []
    for rows in chunks:
        asked, points, noise = model, x[rows, :], eps[rows, :, :]
        if len(chunks) > 1 and hasattr(model, "of_rows"):
            asked = model.of_rows(rows)
        if hasattr(model, "in_own_axes"):
            asked, points, noise = model.in_own_axes(points, noise)
        part = form_rows(asked, points, noise, sigma, start=start + rows.start, **options)
        parts.append(_in_dimension(part, n, points.shape[1]))
    values = namespace(x).concat([part.values for part in parts], axis=0)
    return FormRows(values, sum(part.n_products for part in parts))


def _in_dimension(forms: FormRows, n: int, columns: int) -> FormRows:
    """Forms of n features that were computed on fewer columns or more.

    The denoising form n - |eps + sigma s|^2 is the one in which n stands by itself.
    """
    if columns == n:
        return forms
    shift = [float(n - columns) if name == "denoising" else 0.0 for name in FORMS]
    return FormRows(forms.values + like(shift, forms.values), forms.n_products // columns * n)


def _range_of(models: Sequence[Any]) -> str:
    """The noise levels that a model says it knows, for a message."""
    for model in models:
        known = getattr(getattr(model, "model", model), "sigma_range", None)
        if known is not None:
            return (
                f" It knows sigma from {known[0]:.4g} to {known[1]:.4g}: keep noise_levels there."
            )
    return ""


def _mode_of(model: Any) -> str:
    """How a model's Jacobian products are taken."""
    if hasattr(model, "divergence"):
        return "closed form"
    record = getattr(model, "linearization", None)
    if record is not None:
        return str(record.mode)
    return "own" if hasattr(getattr(model, "model", model), "jvp") else "differences"


def _on_all_rows(level: Level, sample: Sample) -> Array:
    """Forms of some rows as a column block over all rows, of the same means and covariance.

    A row that was not asked holds the mean, and the others' distances from it grow by the inverse
    of their share of the weight; what the mean of the block varies by, and with other levels, is
    then what the mean over the asked rows does.
    """
    values, X = level.values, sample.X
    if len(level.index) == X.shape[0]:
        return values
    xp = namespace(X)
    rows = index_like(level.index, X)
    w = xp.ones_like(X[:, 0]) if sample.weights is None else sample.weights
    asked = xp.take(w, rows, axis=0)
    mean = xp.matmul(asked / xp.sum(asked), values)
    stretched = (values - mean) * (xp.sum(w) / xp.sum(asked))
    padding = xp.zeros_like(values[:1, :])
    place = inverse_index(level.index, X.shape[0])
    return mean + take_rows(xp.concat([stretched, padding], axis=0), place)


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
    n_rows, n = X.shape
    few = min(MAX_BRACKET_ROWS, MAX_BRACKET_PAIRS // n_rows, MAX_BRACKET_TERMS // (n_rows * n))
    index = permutation(seed, (_BRACKET, level), n_rows)[: max(few, LEAST_BRACKET_ROWS)]
    rows = index_like(index, X)
    x, eps = xp.take(X, rows, axis=0), xp.take(noise, rows, axis=0)
    forms = rows_under(kernel, x, eps, sigma, one_step=False, with_rate=False)
    means, cov = pooled_means(
        forms.values,
        weights=None if sample.weights is None else xp.take(sample.weights, rows, axis=0),
        groups=None if sample.groups is None else recode(sample.groups[index]),
    )
    value, error, _ = lower_bound(to_numpy(means), to_numpy(cov), independent_rows(sample))
    few = min(SIZED_ROWS, x.shape[0])
    y = x[:few, :] + sigma * eps[:few, 0, :]
    ess = xp.sort(kernel.moments(y, sigma, exact_norm=False).effective_sample_size)
    return UpperBound(value, error, float(ess[ess.shape[0] // 2]))
