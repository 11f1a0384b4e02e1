"""The information curve of a sample: fitted on some rows, chosen on others, evaluated on the rest.

Rows are dealt into folds (whole groups at a time). For each fold, candidates are fitted without it
and without the next fold, the next fold chooses among them at every noise level by the
noise-prediction score, and the winner, refitted without the fold alone, is evaluated on it. So no
row is scored by a model that saw it or that was chosen with it, and the lower bound on J holds in
expectation.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

from skfisher._backend.arrays import Array, like, take_rows, to_numpy
from skfisher._backend.draws import permutation
from skfisher._backend.posterior import map_chunks, n_workers
from skfisher._backend.rows import deal_folds, is_in, majority, sorted_index
from skfisher.candidates import LeaveOneOut, best_of, candidate_names, fit_candidate
from skfisher.curves import InformationCurve, Validity
from skfisher.evaluation import CurveFit, Evaluation, Noise
from skfisher.exceptions import MissingTorchWarning
from skfisher.learned import SIGNIFICANT, LearnedScores, learn_scores
from skfisher.samples import Sample
from skfisher.scores.kernel import KernelScore
from skfisher.scores.network import NetworkRecipe, TrainingLog

__all__ = ["FAMILIES", "cross_fitted_curve"]

FAMILIES = ("auto", "gaussian", "mixture", "kernel", "network")
"""Names of score models that are fitted to a sample."""
N_FOLDS = 5
NETWORK_ROWS = 2000
"""Fewest rows from which "auto" learns a score."""
MAX_CHOICE_ROWS = 1000
_FOLDS = 2  # what a stream of draws is for


def cross_fitted_curve(
    sample: Sample,
    noise_levels: Array,
    score_model: Any = "auto",
    *,
    n_probes: int = 1,
    seed: int = 0,
    with_rate: bool = True,
    bracket: bool = True,
    validity: Validity | None = None,
    latent_shape: tuple[int, ...] | None = None,
    learn: bool = True,
    verbose: bool = False,
) -> CurveFit:
    """Information curve from a sample alone, by cross-fitted score models.

    Parameters
    ----------
    sample : Sample
    noise_levels : array of shape (T,)
    score_model : {"auto", "gaussian", "mixture", "kernel", "network"} or NetworkRecipe
        Which candidates compete at each level; the kernel sees all rows but the one it is asked
        about (and its group). "auto" adds a network, trained beside the closed forms, where these
        leave the bracket of J open, torch is installed and there are `NETWORK_ROWS` rows; it takes
        such a level if its gain is significant. "network" and a recipe use it wherever it gains.
    n_probes, seed, with_rate, bracket, validity
        See `curve_of_models`.
    latent_shape : tuple of int, optional
        (C, H, W) of a row, for the network.
    learn : bool
        Whether "auto" may add a network.
    verbose : bool
        Print a line of progress at each step of the work.

    Returns
    -------
    CurveFit

    Raises
    ------
    ImportError
        A network is asked for and torch is not installed.
    """
    X, weights = sample.X, sample.weights
    n_rows, n = X.shape
    levels = [float(sigma) for sigma in noise_levels]
    limits = validity or Validity()
    say = _printed if verbose else None
    recipe = _recipe_of(score_model)
    family = "auto" if recipe is not None else score_model
    n_units = n_rows if sample.groups is None else int(sample.groups.max()) + 1
    order = permutation(seed, (_FOLDS,), n_units)
    folds = deal_folds(order, sample.groups, min(N_FOLDS, n_units))
    noise = Noise(X, len(levels), seed)
    names = candidate_names(family, n_rows * (N_FOLDS - 2) // N_FOLDS, n, few=n_units < 2 * N_FOLDS)
    everything = permutation(seed, (_FOLDS, 1), n_rows)

    def rows(index: Any) -> tuple[Array, Array | None]:
        return take_rows(X, index), None if weights is None else take_rows(weights, index)

    def fit_fold(f: int) -> tuple[list[str], dict[str, Any], dict[str, Any]]:
        """Winners per level, what was tried to find them, and the winners without the fold."""
        rest = everything[~is_in(everything, folds[f])]
        tried: dict[str, Any] = {}
        choice = [names[0]] * len(levels)
        if len(names) > 1:
            # in random order: of a long fold only the first rows judge, and X may be sorted
            judge = everything[is_in(everything, folds[(f + 1) % len(folds)])]
            teach = rest[~is_in(rest, judge)]
            judge = judge[:MAX_CHOICE_ROWS]
            choice, tried = best_of(
                names, *rows(teach), *rows(judge), noise.first_of(judge), levels, seed
            )
        winners = sorted(set(choice) - {"kernel"})
        fitted = {
            name: fit_candidate(name, *rows(rest), seed, start=tried.get(name)) for name in winners
        }
        if say is not None:
            say(f"fold {f + 1} of {len(folds)}: {', '.join(sorted(set(choice)))}")
        return choice, tried, fitted

    found = map_chunks(fit_fold, range(len(folds)), n_workers(X))
    choices = [choice for choice, _, _ in found]
    kernel = KernelScore(X, weights, sample.groups)
    parts_at: list[list[tuple[Any, Any]]] = []
    for k in range(len(levels)):
        by_kernel = [i for f, fold in enumerate(folds) if choices[f][k] == "kernel" for i in fold]
        parts = [
            (fold, found[f][2][choices[f][k]])
            for f, fold in enumerate(folds)
            if choices[f][k] != "kernel"
        ]
        if by_kernel:
            index = sorted_index(by_kernel)
            parts.append((index, LeaveOneOut(kernel, index)))
        parts_at.append(parts)
    winners = [majority([choice[k] for choice in choices]) for k in range(len(levels))]
    evaluation = Evaluation(
        sample, noise_levels, noise, n_probes, seed, with_rate, kernel if bracket else None, say
    )
    # where a network may take their place, the closed forms are first asked for J alone
    may_learn = recipe is not None or (family == "auto" and learn and n_rows >= NETWORK_ROWS)
    evaluated = evaluation.levels(parts_at, with_rate=not may_learn)
    curve = evaluation.curve(evaluated, winners, limits, one_step=True, with_rate=not may_learn)
    spent = curve.n_products
    gains = [(0.0, 0.0)] * len(levels)
    learned_at: dict[int, Any] = {}
    learning: tuple[TrainingLog, ...] = ()
    wanted, needed = [True] * len(levels), 0.0
    if may_learn and recipe is None:
        wanted, needed = _open(curve, limits), SIGNIFICANT
        recipe = NetworkRecipe() if any(wanted) and _torch_is_there() else None
    if recipe is not None:
        trained = {
            f: _learn(
                sample, noise, levels, recipe, order, folds, f, found[f], seed,
                latent_shape=latent_shape, give_up=needed > 0, say=say,
            )
            for f in range(len(folds) if recipe.cross_fit else 1)
        }  # fmt: skip
        learning = tuple(learned.log for learned in trained.values())
        better = [learned.better(needed) for learned in trained.values()]
        # where it is better in most of the folds that it was trained for
        taken = [
            k
            for k in range(len(levels))
            if wanted[k] and 2 * sum(b[k] for b in better) > len(better)
        ]
        for k in taken:
            parts_at[k] = [(folds[f], learned.models[k]) for f, learned in trained.items()]
            learned_at[k], winners[k] = trained[0].models[k], "network"
        replaced = evaluation.levels([parts_at[k] for k in taken], taken)
        for k, level in zip(taken, replaced, strict=True):
            gains[k] = evaluation.gain(level, evaluated[k])
            evaluated[k] = level
    if may_learn:
        stay = [k for k in range(len(levels)) if k not in learned_at]
        for k, level in zip(
            stay, evaluation.levels([parts_at[k] for k in stay], stay), strict=True
        ):
            evaluated[k] = level
        curve = evaluation.curve(evaluated, winners, limits, one_step=True)
        curve = replace(
            curve,
            n_products=curve.n_products + spent,
            learned_gain=like([gain for gain, _ in gains], noise_levels),
            learned_gain_stderr=like([error for _, error in gains], noise_levels),
        )

    def fit_all(name: str) -> Any:
        start = next(fitted[name] for _, _, fitted in found if name in fitted)
        return fit_candidate(name, X, weights, seed, start=start)

    left = sorted(set(winners) - {"kernel", "network"})
    final = dict(zip(left, map_chunks(fit_all, left, n_workers(X)), strict=True))
    final["kernel"] = kernel
    models = [learned_at[k] if k in learned_at else final[winners[k]] for k in range(len(levels))]
    brought = evaluation.row_contributions(evaluated, one_step=True) if with_rate else ()
    return CurveFit(curve, tuple(models), True, learning, *brought)


def _learn(
    sample: Sample,
    noise: Noise,
    levels: list[float],
    recipe: NetworkRecipe,
    order: Any,
    folds: Sequence[Any],
    f: int,
    found: tuple[list[str], dict[str, Any], dict[str, Any]],
    seed: int,
    *,
    latent_shape: tuple[int, ...] | None,
    give_up: bool,
    say: Any,
) -> LearnedScores:
    """A network for one fold: trained without it and without the judges, a part of the next fold.

    The judges come from the fold that the closed forms were chosen on, so that these can be fitted
    again from where they were, without a look at the judges.
    """
    X, weights = sample.X, sample.weights
    choice, tried, _ = found
    parts = len(folds) * max(1, round(1 / (len(folds) * recipe.held_out)))
    judge = deal_folds(order, sample.groups, parts)[(f + 1) % len(folds)]
    rest = sorted_index(range(X.shape[0]))
    teach = rest[~is_in(rest, folds[f]) & ~is_in(rest, judge)]

    def rows(index: Any) -> tuple[Array, Array | None]:
        return take_rows(X, index), None if weights is None else take_rows(weights, index)

    names = sorted({"gaussian", *choice})
    fits = map_chunks(
        lambda name: fit_candidate(name, *rows(teach), seed, start=tried.get(name)),
        names,
        n_workers(X),
    )
    closed = dict(zip(names, fits, strict=True))
    learned = learn_scores(
        *rows(teach),
        *rows(judge),
        closed,
        noise.first_of(judge),
        levels,
        recipe,
        latent_shape=latent_shape,
        seed=seed,
        give_up=give_up,
        report=say,
    )
    if say is not None:
        say(f"network: {learned.log.stopped} after {learned.log.n_steps} steps")
    return learned


def _recipe_of(score_model: Any) -> NetworkRecipe | None:
    if isinstance(score_model, NetworkRecipe):
        return score_model
    return NetworkRecipe() if score_model == "network" else None


def _open(curve: InformationCurve, limits: Validity) -> list[bool]:
    """Levels at which the bracket is too wide."""
    bounds, J = to_numpy(curve.fisher_information_bounds), to_numpy(curve.fisher_information)
    return [bool(wide) for wide in bounds[:, 1] - bounds[:, 0] > limits.bracket_width * J]


_TORCH_MISSED = False


def _torch_is_there() -> bool:
    """Whether torch is installed; a note, once, if it would have been used and is not."""
    global _TORCH_MISSED
    if find_spec("torch") is not None:
        return True
    if not _TORCH_MISSED:
        _TORCH_MISSED = True
        warnings.warn(
            "score_model='auto' leaves out the learned score, because torch is not installed: "
            'pip install "skfisher[torch]", or name another score_model.',
            MissingTorchWarning,
            stacklevel=2,
        )
    return False


def _printed(line: str) -> None:
    print(line, flush=True)
