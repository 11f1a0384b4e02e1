"""Score models: closed forms, learned scores, given networks, and the contract of them all."""

from skfisher.scores.adapters import AdaptedScore, from_denoiser, from_module
from skfisher.scores.closed import GaussianMixtureScore, GaussianScore
from skfisher.scores.contract import ExactScoreModel, LocalMoments, ScoreModel
from skfisher.scores.diffusers import from_diffusers
from skfisher.scores.kernel import KernelScore
from skfisher.scores.network import NetworkRecipe, NetworkScore

__all__ = [
    "AdaptedScore",
    "ExactScoreModel",
    "GaussianMixtureScore",
    "GaussianScore",
    "KernelScore",
    "LocalMoments",
    "NetworkRecipe",
    "NetworkScore",
    "ScoreModel",
    "from_denoiser",
    "from_diffusers",
    "from_module",
]
