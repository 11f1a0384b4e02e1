"""Hypothesis strategies for exact score models, noise levels and rigid maps."""

from typing import Any

import numpy as np
from hypothesis import strategies as st

from skfisher.scores.closed import GaussianMixtureScore, GaussianScore

__all__ = [
    "covariance",
    "exact_models",
    "gaussians",
    "mixtures",
    "noise_ratios",
    "rms_scale",
    "rotation",
    "scales",
    "seeds",
]


def seeds() -> st.SearchStrategy[int]:
    """Seeds of NumPy generators; what they draw is generic, so nothing is lost by not shrinking."""
    return st.integers(0, 2**31 - 1)


def noise_ratios(low: float = 0.05, high: float = 5.0) -> st.SearchStrategy[float]:
    """Noise levels in units of the data's RMS scale, log-uniform, both ends included."""
    return st.floats(np.log(low), np.log(high)).map(lambda x: float(np.clip(np.exp(x), low, high)))


def scales(low: float = 1e-6, high: float = 1e6) -> st.SearchStrategy[float]:
    """Units of X, log-uniform."""
    return st.floats(np.log(low), np.log(high)).map(lambda x: float(np.exp(x)))


def rotation(rng: np.random.Generator, n: int) -> Any:
    """An orthogonal matrix with the Haar law."""
    Q, R = np.linalg.qr(rng.standard_normal((n, n)))
    return Q * np.sign(np.diag(R))


def covariance(rng: np.random.Generator, n: int, condition: float, rank: int | None = None) -> Any:
    """A rotated covariance with the largest eigenvalue 1 and `rank` positive ones."""
    lam = np.zeros(n)
    rank = n if rank is None else rank
    lam[:rank] = condition ** -np.linspace(0.0, 1.0, rank) if rank > 1 else 1.0
    Q = rotation(rng, n)
    S = (Q * lam) @ Q.T
    return (S + S.T) / 2


def rms_scale(model: GaussianScore | GaussianMixtureScore) -> float:
    """Root mean variance per coordinate of the model's X, as float."""
    if isinstance(model, GaussianScore):
        return float(np.sqrt(np.mean(np.diag(model.covariance))))
    centred = model.means - model.weights @ model.means
    within = np.einsum("k,kii->", model.weights, model.covariances)
    return float(np.sqrt((within + model.weights @ np.sum(centred**2, 1)) / model.n_features))


@st.composite
def gaussians(
    draw: st.DrawFn, max_features: int = 4, max_condition: float = 1e4, min_rank: int = 1
) -> GaussianScore:
    """Gaussians of any rank from `min_rank`, any mean, RMS scale about 1."""
    n = draw(st.integers(1, max_features))
    rank = draw(st.integers(min(min_rank, n), n))
    condition = draw(noise_ratios(1.0, max_condition))
    rng = np.random.default_rng(draw(seeds()))
    return GaussianScore(rng.standard_normal(n), covariance(rng, n, condition, rank))


@st.composite
def mixtures(
    draw: st.DrawFn,
    max_features: int = 4,
    max_components: int = 4,
    max_condition: float = 1e4,
    min_width: float = 0.05,
) -> GaussianMixtureScore:
    """Mixtures of full-rank components of width `min_width` to 1, apart by 0 to 6, any weights."""
    n = draw(st.integers(1, max_features))
    K = draw(st.integers(1, max_components))
    condition = draw(noise_ratios(1.0, max_condition))
    apart = draw(st.floats(0.0, 6.0))
    rng = np.random.default_rng(draw(seeds()))
    widths = min_width ** rng.uniform(size=K)
    return GaussianMixtureScore(
        rng.dirichlet(np.full(K, 2.0)),
        apart * rng.standard_normal((K, n)) / np.sqrt(n),
        np.stack([w**2 * covariance(rng, n, condition) for w in widths]),
    )


def exact_models(max_features: int = 4) -> st.SearchStrategy[Any]:
    """Gaussians and mixtures."""
    return st.one_of(gaussians(max_features), mixtures(max_features))
