"""Warnings of the package."""

from __future__ import annotations

__all__ = ["UnreliableEstimateWarning"]


class UnreliableEstimateWarning(UserWarning):
    """A number was computed where its own checks say that it may not be believed."""
