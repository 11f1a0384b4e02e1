"""Adaptive quadrature of several integrands over one line, vectorised over panels."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from skfisher._backend.arrays import Array

__all__ = ["integrate"]

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(20)
_MAX_ROUNDS = 60


def integrate(
    integrands: Callable[[Array], Array], breaks: Sequence[float], rtol: float = 1e-12
) -> list[float]:
    """Integrals of non-negative functions from the first to the last break.

    Parameters
    ----------
    integrands : callable
        Maps nodes of shape (N,) to values of shape (q, N).
    breaks : sequence of float
        Where panels begin and end: at the scales and centres of the functions.
    rtol : float
        A panel is halved until its 20-point Gauss-Legendre rule and those of its two halves agree
        to this share of every integral.

    Returns
    -------
    list of float, of length q

    Raises
    ------
    RuntimeError
        The rule does not settle in 60 halvings.

    Examples
    --------
    >>> import numpy as np
    >>> [round(value, 12) for value in integrate(lambda x: np.stack([x, x**2]), [0.0, 1.0])]
    [0.5, 0.333333333333]
    """
    edges = np.unique(np.asarray(breaks, dtype=np.float64))
    left, right = edges[:-1], edges[1:]
    coarse = _rule(integrands, left, right)
    settled = np.zeros(coarse.shape[0])
    for _ in range(_MAX_ROUNDS):
        middle = (left + right) / 2
        halves = np.stack([_rule(integrands, left, middle), _rule(integrands, middle, right)])
        fine = halves.sum(axis=0)
        total = settled + fine.sum(axis=1)
        open_ = np.any(np.abs(fine - coarse) > rtol * total[:, None], axis=0)
        settled = settled + fine[:, ~open_].sum(axis=1)
        if not open_.any():
            return [float(value) for value in settled]
        left, middle, right = left[open_], middle[open_], right[open_]
        left, right = np.concatenate([left, middle]), np.concatenate([middle, right])
        coarse = np.concatenate([halves[0][:, open_], halves[1][:, open_]], axis=1)
    raise RuntimeError(
        f"the quadrature did not settle to {rtol:g} in {_MAX_ROUNDS} halvings near {left[0]:g}: "
        f"pass breaks at the narrowest scale of the integrand."
    )


def _rule(integrands: Callable[[Array], Array], left: Array, right: Array) -> Array:
    half = (right - left) / 2
    nodes = ((left + right) / 2)[:, None] + half[:, None] * _NODES
    values = np.asarray(integrands(nodes.reshape(-1))).reshape(-1, *nodes.shape)
    return (values @ _WEIGHTS) * half
