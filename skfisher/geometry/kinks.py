"""Does the second derivative explain how the first one changes along a line."""

from __future__ import annotations

import math
from typing import Any

from skfisher._backend.arrays import Array, namespace

__all__ = ["has_kinks"]

_LINES = 24
_STEPS = (1 / 4, 1 / 16, 1 / 64)  # of the scale
_SHARE = 0.1  # of the change of the first derivative that the second must explain
_RESOLVED = 2.0  # share above which quadrature itself has failed
# Gauss-Legendre on [-1, 1] with five nodes
_OUTER, _INNER = 0.2369268850561891, 0.4786286704993665
_NODES = (-0.906179845938664, -0.5384693101056831, 0.0, 0.5384693101056831, 0.906179845938664)
_WEIGHTS = (_OUTER, _INNER, 128 / 225, _INNER, _OUTER)


def has_kinks(step: Any, found: Any, X: Array, V: Array, scale: Array) -> tuple[bool, int]:
    """Whether the integral of D^2 f[v, v] misses the change of Df v, over lines at some rows.

    Parameters
    ----------
    step : object
        With `jet`, as `skfisher.encoders.TorchEncoder`.
    found : Jet
        What it gave at X along V.
    X, V, scale : array of shape (A, D), (A, p, D), (A,)

    Returns
    -------
    bool
        More than a tenth of the change is missed over lines of 1/16 of the scale to either side.
        Kinks are spread over the lines, so they are missed as a share of about one at any length;
        what quadrature misses of a smooth function is nothing, or many times the change where the
        lines hold several periods, and then shorter lines tell.
    int
        Products taken.
    """
    xp = namespace(X)
    A, p, _ = V.shape
    count = min(_LINES, A * p)
    picks = [(i * A * p) // count for i in range(count)]
    x = xp.stack([X[i // p, :] for i in picks])
    v = xp.stack([V[i // p, i % p, :] for i in picks])
    length = xp.linalg.vector_norm(v, axis=1, keepdims=True)
    v = v / xp.where(length > 0, length, xp.ones_like(length))
    steps = xp.stack([scale[i // p] for i in picks])[:, None]
    nodes = (-1.0, 1.0, *_NODES)
    points = [x + (t * share) * steps * v for share in _STEPS for t in nodes]
    along = xp.concat([v] * len(points))[:, None, :]
    jet = step.jet(xp.concat(points), along, order=2, mode=found.mode)
    first, second = jet.first[:, 0, :], jet.second[:, 0, :]
    shares = []
    for i, share in enumerate(_STEPS):
        starts = [(i * len(nodes) + j) * count for j in range(len(nodes))]
        part = [slice(start, start + count) for start in starts]
        change = first[part[1], :] - first[part[0], :]
        explained = xp.zeros_like(change)
        for weight, rows in zip(_WEIGHTS, part[2:], strict=True):
            explained = explained + weight * second[rows, :]
        missed = float(xp.linalg.vector_norm(change - explained * (share * steps)))
        total = float(xp.linalg.vector_norm(change))
        size = float(xp.max(xp.abs(first[part[0], :])))
        seen = total > 1e3 * jet.rounding * size * math.sqrt(count)
        shares.append(missed / total if seen else 0.0)
    coarse, middle, fine = shares
    share = middle if max(coarse, middle) < _RESOLVED else fine
    return share > _SHARE, len(nodes) * count * len(_STEPS)
