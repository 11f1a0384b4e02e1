"""A user's callable as a score model: shapes checked, products taken where none are offered."""

from __future__ import annotations

import sys
from typing import Any

from array_api_compat import is_torch_array

from skfisher._backend.arrays import Array, namespace
from skfisher._backend.devices import refuse_other_device
from skfisher._backend.differences import central_jvp, central_step
from skfisher._backend.linearize import Linearization, TensorFunction

__all__ = ["as_score_model"]


def as_score_model(model: Any, n_features: int) -> Any:
    """`model` itself if it is an exact score model of this dimension, else wrapped.

    Parameters
    ----------
    model : callable
        Called as ``model(y, sigma)``. With a `jvp` it is used. Otherwise products are taken by
        torch where `y` is a tensor and torch can differentiate the callable, and by central
        differences elsewhere.
    n_features : int

    Raises
    ------
    TypeError
        A torch module that does not say what it predicts.
    ValueError
        The model was built for another number of features.
    """
    if not hasattr(model, "jvp") and _is_module(model):
        raise TypeError(
            f"score_model is the module {type(model).__name__}, which does not say what it "
            f"predicts from what: wrap it by skfisher.scores.adapters.from_module(module, "
            f"prediction=..., path=...)."
        )
    expected = getattr(model, "n_features", n_features)
    if expected != n_features:
        raise ValueError(
            f"score_model was built for {expected} features but X has {n_features}: pass X in the "
            f"space that the model was trained in."
        )
    if hasattr(model, "moments") and hasattr(model, "divergence"):
        return model
    return _Checked(model)


def _is_module(model: Any) -> bool:
    torch = sys.modules.get("torch")  # no module exists where torch was not imported
    return torch is not None and isinstance(model, torch.nn.Module)


class _Checked:
    """Score model around a callable whose answers are not known to have the right shape."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.name: str = getattr(model, "name", "") or type(model).__name__
        self._tensor_function = TensorFunction(self._answer)

    def __sklearn_clone__(self) -> _Checked:
        return self

    @property
    def precision(self) -> float | None:
        """Machine epsilon of the numbers the model computes with; None if it is that of y."""
        return getattr(self.model, "precision", None)

    @property
    def linearization(self) -> Linearization | None:
        """How products are taken, where torch takes them."""
        if hasattr(self.model, "jvp"):
            return getattr(self.model, "linearization", None)
        return self._tensor_function.linearization

    @property
    def both(self) -> Any:
        """The model's own product and transposed product, if it has them."""
        return self.model.both

    def __call__(self, y: Array, sigma: float) -> Array:
        if self._in_torch(y):
            return self._tensor_function.value(y, sigma)
        return self._answer(y, sigma)

    def jvp(self, y: Array, sigma: float, v: Array) -> tuple[Array, Array]:
        if hasattr(self.model, "jvp"):
            s, hv = self.model.jvp(y, sigma, v)
            return self._checked(s, y, sigma), self._checked(hv, y, sigma)
        if self._in_torch(y):
            return self._tensor_function.jvp(y, sigma, v)
        # the score varies over distances of order sigma
        return central_jvp(lambda points: self(points, sigma), y, v, sigma * central_step(y))

    def _in_torch(self, y: Array) -> bool:
        return bool(is_torch_array(y)) and not hasattr(self.model, "jvp")

    def _answer(self, y: Array, sigma: float) -> Array:
        return self._checked(self.model(y, sigma), y, sigma)

    def _checked(self, values: Any, y: Array, sigma: float) -> Array:
        shape = tuple(getattr(values, "shape", ()))
        if shape != tuple(y.shape):
            raise ValueError(
                f"score_model returned shape {shape or type(values).__name__} for y of shape "
                f"{tuple(y.shape)} at sigma {sigma:.6g}: a score has one row per row of y and one "
                f"column per feature."
            )
        refuse_other_device(values, "the score model's output", y)
        if namespace(y).isdtype(values.dtype, "complex floating"):
            raise ValueError(
                f"score_model returned complex numbers ({values.dtype}) at sigma {sigma:.6g}: a "
                f"score is real, pass its real part if the other is rounding."
            )
        return values
