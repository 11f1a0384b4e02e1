"""Score models that compete for a noise level: closed forms fitted to rows, and who wins."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from skfisher._backend.arrays import Array, index_like, namespace, to_numpy
from skfisher.evaluation import rows_under
from skfisher.forms import noise_prediction_scores
from skfisher.scores.fitting import fit_gaussian, fit_mixture, mixture_sizes
from skfisher.scores.kernel import KernelScore
from skfisher.traces import pooled_means

__all__ = ["LeaveOneOut", "best_of", "candidate_names", "fit_candidate"]

MAX_ITER, MAX_REFIT_ITER = 50, 15
"""Iterations of a mixture, and of one that starts from the fit to most of its rows."""
SCREEN_ROWS = 250
"""Rows on which the kernel, dearest of the candidates, is tried before it may compete."""


@dataclass(frozen=True, eq=False)
class LeaveOneOut:
    """The kernel score as each row sees it: without the row itself and without its group.

    Queries come as blocks of `len(index)` rows in the order of `index`.
    """

    kernel: KernelScore
    index: Any

    @property
    def exact_norm_limit(self) -> int:
        """As of the kernel."""
        return self.kernel.exact_norm_limit

    def of_rows(self, rows: slice) -> LeaveOneOut:
        """The same for some of the rows."""
        return LeaveOneOut(self.kernel, self.index[rows])

    def _exclude(self, y: Array) -> Any:
        xp = namespace(y)
        own = index_like(self.index, y)
        return xp.concat([own] * (y.shape[0] // len(self.index)), axis=0)

    def __call__(self, y: Array, sigma: float) -> Array:
        """Score of each row under all others."""
        return self.kernel(y, sigma, exclude=self._exclude(y))

    def jvp(self, y: Array, sigma: float, v: Array) -> tuple[Array, Array]:
        """Score and Jacobian products."""
        return self.kernel.jvp(y, sigma, v, exclude=self._exclude(y))

    def divergence(self, y: Array, sigma: float) -> tuple[Array, Array]:
        """Score and divergence."""
        return self.kernel.divergence(y, sigma, exclude=self._exclude(y))

    def moments(self, y: Array, sigma: float, clean: Any = None) -> Any:
        """Posterior moments."""
        return self.kernel.moments(y, sigma, clean=clean, exclude=self._exclude(y))


def candidate_names(
    score_model: str, n_rows: int, n_features: int, *, few: bool
) -> tuple[str, ...]:
    """Closed forms of a family for so many rows to fit, in the order in which they are tried.

    `few` independent rows or groups leave too little to fit, to choose and to evaluate on; then the
    smallest candidate stands alone.
    """
    mixtures = tuple(f"mixture-{k}" for k in mixture_sizes(n_rows, n_features))
    if score_model == "mixture":
        return mixtures if mixtures and not few else ("mixture-1",)
    if score_model in ("auto", "network"):
        return ("gaussian",) if few else ("gaussian", *mixtures, "kernel")
    return (score_model,)


def fit_candidate(name: str, X: Array, weights: Array | None, seed: int, start: Any = None) -> Any:
    """The candidate of this name fitted to rows; mixtures may start from another one."""
    if name == "kernel":
        return KernelScore(X, weights)
    size = 1 if name == "gaussian" else int(name.removeprefix("mixture-"))
    if name == "gaussian" or (size == 1 and X.shape[0] <= X.shape[1]):
        return fit_gaussian(X, weights)
    max_iter = MAX_ITER if start is None else MAX_REFIT_ITER
    return fit_mixture(X, size, weights, seed=seed, start=start, max_iter=max_iter)


def best_of(
    names: Sequence[str],
    X: Array,
    weights: Array | None,
    judges: Array,
    judge_weights: Array | None,
    noise: Sequence[Array],
    noise_levels: Sequence[float],
    seed: int,
) -> tuple[list[str], dict[str, Any]]:
    """Candidates fitted on X, and per level the best of them on the judges.

    They are compared by the noise-prediction score t L / n, taken from the better of its forms as
    the lower bound L is. Mixtures come in growing size, and a size that wins at no level ends them;
    the kernel competes if it comes within two standard errors on the first judges.

    Parameters
    ----------
    names : sequence of str
    X, judges : array of shape (N, n), (M, n)
    weights, judge_weights : array of shape (N,), (M,), or None
    noise : sequence of T arrays of shape (M, n)
        Standard normal draws for the judges.
    noise_levels : sequence of T float
    seed : int

    Returns
    -------
    winners : list of T str
    fitted : dict of str to score model
        Those that were tried.
    """
    best = [(-math.inf, "")] * len(noise)
    fitted: dict[str, Any] = {}
    enough = False
    few = slice(0, SCREEN_ROWS)
    for name in names:
        if enough and name.startswith("mixture"):
            continue
        model = fitted[name] = fit_candidate(name, X, weights, seed)
        if name == "kernel" and len(names) > 1 and judges.shape[0] > SCREEN_ROWS:
            screened = _scores(
                model,
                judges[few, :],
                None if judge_weights is None else judge_weights[few],
                [eps[few, :] for eps in noise],
                noise_levels,
            )
            if all(
                s + 2 * error < top for (s, error), (top, _) in zip(screened, best, strict=True)
            ):
                continue
        scores = _scores(model, judges, judge_weights, noise, noise_levels)
        best = [max(pair) for pair in zip(best, ((s, name) for s, _ in scores), strict=True)]
        enough = name.startswith("mixture") and all(name != winner for _, winner in best)
    return [name for _, name in best], fitted


def _scores(
    model: Any,
    X: Array,
    weights: Array | None,
    noise: Sequence[Array],
    noise_levels: Sequence[float],
) -> list[tuple[float, float]]:
    """Lower bound on tJ at each level, and its standard error."""
    xp = namespace(X)
    values = [
        rows_under(model, X, eps[:, None, :], sigma, one_step=False, with_rate=False).values
        for eps, sigma in zip(noise, noise_levels, strict=True)
    ]
    means, cov = map(to_numpy, pooled_means(xp.concat(values, axis=1), weights=weights))
    return noise_prediction_scores(means, cov, len(noise))
