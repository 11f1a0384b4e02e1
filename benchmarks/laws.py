"""Laws with known information curves, for the benchmarks: random mixtures and noisy manifolds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from skfisher.evaluation import curve_of_models
from skfisher.samples import make_sample
from skfisher.scores import GaussianMixtureScore, KernelScore
from skfisher.testing import circle_oracle, sphere_oracle


@dataclass(frozen=True)
class Law:
    """A sampler and the truth about it.

    Attributes
    ----------
    name : str
    n_features : int
    sample : callable
        (n_samples, rng) -> array of shape (n_samples, n_features).
    truth : callable
        noise levels -> (J, R), arrays of shape (T,).
    """

    name: str
    n_features: int
    sample: Callable[[int, np.random.Generator], np.ndarray]
    truth: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


def mixture(n: int, n_components: int, seed: int) -> Law:
    """Full-rank mixture: standard normal means, axes' variances log-uniform over e^-2 to e."""
    rng = np.random.default_rng(seed)
    means = rng.standard_normal((n_components, n)) * np.sqrt(2)
    covariances = []
    for _ in range(n_components):
        Q, _ = np.linalg.qr(rng.standard_normal((n, n)))
        covariances.append((Q * np.exp(rng.uniform(-2, 1, n))) @ Q.T)
    weights = rng.dirichlet(np.full(n_components, 3.0))
    model = GaussianMixtureScore(weights, means, np.asarray(covariances))

    def truth(levels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        size = 100_000 if n <= 16 else 20_000
        big = make_sample(model.sample(size, random_state=seed + 1))
        return _exact(model, big, levels)

    return Law(
        f"mixture-{n}d-{n_components}-{seed}",
        n,
        lambda size, rng: model.sample(size, random_state=int(rng.integers(2**31))),
        truth,
    )


def _exact(model, sample, levels):
    curve = curve_of_models(
        sample,
        levels,
        [model] * len(levels),
        names=["exact"] * len(levels),
        one_step=False,
        bracket=False,
    ).curve
    return curve.fisher_information, curve.fisher_information_rate


def _with_noise(name, n, noise, points, oracle, extra_dimensions=0):
    """Points of a manifold plus isotropic noise: its J at t is the manifold's at t + noise^2."""

    def sample(size, rng):
        clean = points(size, rng)
        clean = np.concatenate([clean, np.zeros((size, extra_dimensions))], axis=1)
        return clean + noise * rng.standard_normal(clean.shape)

    def truth(levels):
        t = levels**2 + noise**2
        J, R = oracle(np.sqrt(t))
        return J + extra_dimensions / t, R + extra_dimensions / t**2

    return Law(
        f"{name}-{n + extra_dimensions}d-noise{noise:g}", n + extra_dimensions, sample, truth
    )


def circle(noise: float, extra_dimensions: int = 0) -> Law:
    def points(size, rng):
        angle = rng.uniform(0, 2 * np.pi, size)
        return np.stack([np.cos(angle), np.sin(angle)], axis=1)

    def oracle(levels):
        found = circle_oracle(1.0, levels)
        return np.asarray(found.fisher_information), np.asarray(found.fisher_information_rate)

    return _with_noise("circle", 2, noise, points, oracle, extra_dimensions)


def sphere(noise: float) -> Law:
    def points(size, rng):
        x = rng.standard_normal((size, 3))
        return x / np.linalg.norm(x, axis=1, keepdims=True)

    def oracle(levels):
        found = sphere_oracle(1.0, levels)
        return np.asarray(found.fisher_information), np.asarray(found.fisher_information_rate)

    return _with_noise("sphere", 3, noise, points, oracle)


def _spiral(u):
    angle = 1.5 * np.pi * (1 + 2 * u)
    return np.stack([angle * np.cos(angle), angle * np.sin(angle)], axis=1) / 8.0


def roll(noise: float) -> Law:
    """Swiss roll: a spiral times an interval; the truth is the sum of the two, on dense grids."""

    def points(size, rng):
        height = rng.uniform(0, 21, size)[:, None] / 8.0
        return np.concatenate([_spiral(rng.uniform(size=size)), height], axis=1)

    def oracle(levels):
        J, R = np.zeros(len(levels)), np.zeros(len(levels))
        grid = (np.arange(6000) + 0.5) / 6000
        for support in (_spiral(grid), grid[:, None] * 21 / 8.0):
            model = KernelScore(support)
            more = _exact(model, make_sample(support), levels)
            J, R = J + more[0], R + more[1]
        return J, R

    return _with_noise("roll", 3, noise, points, oracle)


LAWS = [
    *(mixture(n, k, seed) for n, k in ((2, 3), (2, 5), (4, 4), (8, 5), (16, 4)) for seed in (1, 2)),
    *(mixture(n, k, 1) for n, k in ((32, 4), (32, 8), (64, 4))),
    circle(0.1),
    circle(0.2, extra_dimensions=6),
    sphere(0.1),
    roll(0.1),
]
