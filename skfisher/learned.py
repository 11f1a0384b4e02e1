"""Where a learned score sees more than the closed forms, and by which share to trust it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from skfisher._backend.arrays import Array, namespace
from skfisher.scores.network import NetworkRecipe, TrainingLog, fit_network
from skfisher.scores.stacked import StackedScore
from skfisher.traces import pooled

__all__ = ["LearnedScores", "learn_scores"]

SIGNIFICANT = 2.0
"""Standard errors by which a network must beat the best closed form to take its place in "auto"."""


@dataclass(frozen=True, eq=False)
class LearnedScores:
    """Learned score models and what they gain, per noise level.

    Attributes
    ----------
    models : tuple of StackedScore
    closed : tuple of str
        The best closed form at each level, on which the model rests.
    gain, gain_stderr : tuple of float
        What the model adds to the noise-prediction score of that closed form, on rows that neither
        was fitted to (but which the share was chosen on), and its standard error over these rows.
    log : TrainingLog
    """

    models: tuple[StackedScore, ...]
    closed: tuple[str, ...]
    gain: tuple[float, ...]
    gain_stderr: tuple[float, ...]
    log: TrainingLog

    def better(self, needed: float = SIGNIFICANT) -> list[bool]:
        """Levels at which the gain exceeds so many of its standard errors."""
        return [
            gain > needed * error for gain, error in zip(self.gain, self.gain_stderr, strict=True)
        ]


def learn_scores(
    X: Array,
    weights: Array | None,
    judges: Array,
    judge_weights: Array | None,
    closed: Mapping[str, Any],
    noise: Sequence[Array],
    noise_levels: Sequence[float],
    recipe: NetworkRecipe,
    *,
    latent_shape: tuple[int, ...] | None = None,
    seed: int = 0,
    give_up: bool = False,
    report: Callable[[str], None] | None = None,
) -> LearnedScores:
    """Train a network beside closed forms and stack the two at every noise level.

    Parameters
    ----------
    X, judges : array of shape (N, n), (M, n)
        Rows to train on, and rows that decide when to stop and how to stack.
    weights, judge_weights : array of shape (N,), (M,), or None
    closed : mapping of str to score model
        Closed forms that saw none of the judges.
    noise : sequence of T arrays of shape (M, n)
        Standard normal draws for the judges.
    noise_levels : sequence of T float
    recipe : NetworkRecipe
    latent_shape, seed, report
        As for `skfisher.scores.network.fit_network`.
    give_up : bool
        Stop training when at a quarter of the steps it beats the closed forms nowhere.
    """
    bases = _best_closed(judges, judge_weights, closed, noise, noise_levels)

    def stacked(network: Any, levels: Sequence[int]) -> list[tuple[StackedScore, float, float]]:
        return [
            _stack(
                closed[bases[k][0]],
                bases[k][1],
                network,
                judges,
                judge_weights,
                noise[k],
                noise_levels[k],
            )
            for k in levels
        ]

    def promising(network: Any) -> bool:
        some = range(0, len(noise_levels), 3)
        return any(gain > SIGNIFICANT * error for _, gain, error in stacked(network, some))

    network = fit_network(
        X,
        judges,
        (noise_levels[0], noise_levels[-1]),
        recipe,
        weights=weights,
        latent_shape=latent_shape,
        seed=seed,
        promising=promising if give_up else None,
        report=report,
    )
    found = stacked(network, range(len(noise_levels)))
    return LearnedScores(
        models=tuple(model for model, _, _ in found),
        closed=tuple(name for name, _ in bases),
        gain=tuple(gain for _, gain, _ in found),
        gain_stderr=tuple(error for _, _, error in found),
        log=network.log,
    )


def _residuals(model: Any, x: Array, eps: Array, sigma: float) -> tuple[Array, Array]:
    """What is left of the noise, eps + sigma s, at x + sigma eps, for both signs of eps."""
    return (
        eps + sigma * model(x + sigma * eps, sigma),
        sigma * model(x - sigma * eps, sigma) - eps,
    )


def _mean_square(pair: tuple[Array, Array]) -> Array:
    """Per row, |.|^2 / n averaged over the two signs."""
    xp = namespace(*pair)
    return xp.mean(pair[0] ** 2 + pair[1] ** 2, axis=1) / 2


def _best_closed(
    x: Array,
    weights: Array | None,
    closed: Mapping[str, Any],
    noise: Sequence[Array],
    noise_levels: Sequence[float],
) -> list[tuple[str, tuple[Array, Array]]]:
    """Per level, the closed form that predicts the noise best, and its residuals."""
    found = []
    for eps, sigma in zip(noise, noise_levels, strict=True):
        residuals = {name: _residuals(model, x, eps, sigma) for name, model in closed.items()}
        losses = {name: pooled(_mean_square(pair), weights)[0] for name, pair in residuals.items()}
        name = min(losses, key=lambda each: (losses[each], each))
        found.append((name, residuals[name]))
    return found


def _stack(
    closed: Any,
    residuals: tuple[Array, Array],
    network: Any,
    x: Array,
    weights: Array | None,
    eps: Array,
    sigma: float,
) -> tuple[StackedScore, float, float]:
    """The stacked model, its gain over the closed form and the gain's standard error.

    With their residuals a and b, |a + g (b - a)|^2 is least at g = <a, a - b> / |a - b|^2.
    """
    xp = namespace(x)
    other = _residuals(network, x, eps, sigma)
    steps = tuple(b - a for a, b in zip(residuals, other, strict=True))
    along = sum(xp.sum(a * d, axis=1) for a, d in zip(residuals, steps, strict=True))
    length = sum(xp.sum(d * d, axis=1) for d in steps)
    denominator = pooled(length, weights)[0]
    share = -pooled(along, weights)[0] / denominator if denominator > 0 else 0.0
    share = min(max(share, 0.0), 1.0) if math.isfinite(share) else 0.0
    mixed = tuple(a + share * d for a, d in zip(residuals, steps, strict=True))
    gain, error = pooled(_mean_square(residuals) - _mean_square((mixed[0], mixed[1])), weights)
    return StackedScore(closed, network, share), gain, error
