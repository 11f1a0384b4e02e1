"""Score models: closed forms, their fits to a sample, and the contract that any model meets."""

from skfisher.scores.closed import GaussianMixtureScore, GaussianScore
from skfisher.scores.contract import ExactScoreModel, LocalMoments, ScoreModel
from skfisher.scores.kernel import KernelScore

__all__ = [
    "ExactScoreModel",
    "GaussianMixtureScore",
    "GaussianScore",
    "KernelScore",
    "LocalMoments",
    "ScoreModel",
]
