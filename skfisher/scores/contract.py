"""What a score model is: the protocols every score model meets and the values they return."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from skfisher._backend.arrays import Array

__all__ = ["ExactScoreModel", "LocalMoments", "ScoreModel"]


@dataclass(frozen=True, eq=False)
class LocalMoments:
    """First and second moments of the posterior of X at each noisy point.

    With t = sigma^2, s the score and H its Jacobian, the denoiser y + t s has the Jacobian
    I + tH = Cov(X | Y = y) / t. Traces and norms are given for H and for I + tH alike, each
    computed without cancelling the other's identity part.

    Attributes
    ----------
    score : array of shape (m, n)
        s, in 1/units of X.
    hessian_trace, hessian_squared_norm : array of shape (m,)
        tr H and |H|_F^2.
    denoiser_trace, denoiser_squared_norm : array of shape (m,)
        tr(I + tH) and |I + tH|_F^2, without unit.
    residual_form : array of shape (m,) or None
        r^T (I + tH) r for r = clean - (y + t s), where the clean points were given.
    effective_sample_size : array of shape (m,) or None
        1 / sum w^2 of the posterior weights, for models that rest on reference points.
    """

    score: Array
    hessian_trace: Array
    hessian_squared_norm: Array
    denoiser_trace: Array
    denoiser_squared_norm: Array
    residual_form: Array | None = None
    effective_sample_size: Array | None = None


@runtime_checkable
class ScoreModel(Protocol):
    """Score of X + sigma eps and its Jacobian products, for every noise level."""

    def __call__(self, y: Array, sigma: float) -> Array:
        """Score at each row of `y`, shape (m, n)."""
        ...

    def jvp(self, y: Array, sigma: float, v: Array) -> tuple[Array, Array]:
        """Score and the Jacobian products H v, each of shape (m, n)."""
        ...


@runtime_checkable
class ExactScoreModel(ScoreModel, Protocol):
    """A score model that also knows traces and norms of its Jacobian exactly."""

    n_features: int
    name: str

    def divergence(self, y: Array, sigma: float) -> tuple[Array, Array]:
        """Score (m, n) and its divergence tr H (m,)."""
        ...

    def moments(self, y: Array, sigma: float, clean: Any = None) -> LocalMoments:
        """Score, traces and norms at each row of `y`."""
        ...
