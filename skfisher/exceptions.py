"""Warnings of the package."""

from __future__ import annotations

__all__ = ["MissingTorchWarning", "UnnormalizedLatentsWarning", "UnreliableEstimateWarning"]


class UnreliableEstimateWarning(UserWarning):
    """A number was computed where its own checks say that it may not be believed."""


class MissingTorchWarning(UserWarning):
    """A learned score would have been tried, and torch is not installed."""


class UnnormalizedLatentsWarning(UserWarning):
    """Latents whose channels are far from mean 0 and variance 1, where a model expects them so."""
