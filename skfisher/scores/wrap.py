"""A user's callable as a score model: shapes checked, products by differences where none come."""

from __future__ import annotations

from typing import Any

from skfisher._backend.arrays import Array, namespace
from skfisher._backend.linearize import central_jvp, central_step

__all__ = ["as_score_model"]


def as_score_model(model: Any, n_features: int) -> Any:
    """`model` itself if it is an exact score model of this dimension, else wrapped.

    Parameters
    ----------
    model : callable
        Called as ``model(y, sigma)``; with a `jvp` it is used, otherwise products are taken by
        central differences.
    n_features : int

    Raises
    ------
    ValueError
        The model was built for another number of features.
    """
    expected = getattr(model, "n_features", n_features)
    if expected != n_features:
        raise ValueError(
            f"score_model was built for {expected} features but X has {n_features}: pass X in the "
            f"space that the model was trained in."
        )
    if hasattr(model, "moments") and hasattr(model, "divergence"):
        return model
    return _Checked(model)


class _Checked:
    """Score model around a callable whose answers are not known to have the right shape."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.name: str = getattr(model, "name", "") or type(model).__name__

    def __sklearn_clone__(self) -> _Checked:
        return self

    def __call__(self, y: Array, sigma: float) -> Array:
        return self._checked(self.model(y, sigma), y, sigma)

    def jvp(self, y: Array, sigma: float, v: Array) -> tuple[Array, Array]:
        if hasattr(self.model, "jvp"):
            s, hv = self.model.jvp(y, sigma, v)
            return self._checked(s, y, sigma), self._checked(hv, y, sigma)
        # the score varies over distances of order sigma
        return central_jvp(lambda points: self(points, sigma), y, v, sigma * central_step(y))

    def _checked(self, values: Any, y: Array, sigma: float) -> Array:
        shape = tuple(getattr(values, "shape", ()))
        if shape != tuple(y.shape):
            raise ValueError(
                f"score_model returned shape {shape or type(values).__name__} for y of shape "
                f"{tuple(y.shape)} at sigma {sigma:.6g}: a score has one row per row of y and one "
                f"column per feature."
            )
        if namespace(y).isdtype(values.dtype, "complex floating"):
            raise ValueError(
                f"score_model returned complex numbers ({values.dtype}) at sigma {sigma:.6g}: a "
                f"score is real, pass its real part if the other is rounding."
            )
        return values
