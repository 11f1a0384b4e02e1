"""Averages over unit tangents, exact for whole forms.

With B = L diag(s) R^T and p = s^2, for any form q and u uniform on the unit sphere
E q(u)^2 / |B u|^4 = sum_ij (q_ii q_jj + 2 q_ij^2) W_ij in the frame R, where
W_ij = int_0^inf tau prod_l (1 + 2 tau p_l)^(-1/2) / ((1 + 2 tau p_i) (1 + 2 tau p_j)) dtau
(write |B u|^-4 as int tau exp(-tau |B u|^2) dtau and u as a normal vector: the quotient has degree
zero; then Isserlis' theorem). The trapezoidal rule in log tau converges geometrically.
"""

from __future__ import annotations

import math
from typing import Any

from skfisher._backend.arrays import Array, like, namespace
from skfisher._backend.draws import normal, seed_of

__all__ = [
    "curvature_averages",
    "form_from_directions",
    "polarisation_directions",
    "random_tangents",
    "square_weights",
]

_DIRECTIONS = 529  # stream of the draws
_STEP = 0.35  # of the rule in log tau: its error is about exp(-2 pi^2 / step)


def polarisation_directions(k: int, ref: Array) -> Array:
    """Coefficients of the k (k + 1) / 2 directions whose second derivatives give a whole form.

    e_1 .. e_k, then e_p + e_q for p < q: shape (k (k + 1) / 2, k).
    """
    rows = [[float(i == p) for i in range(k)] for p in range(k)]
    rows += [[float(i in (p, q)) for i in range(k)] for p in range(k) for q in range(p + 1, k)]
    return like(rows, ref)


def form_from_directions(second: Array, k: int) -> Array:
    """A form (A, d, k, k) from its values (A, k (k + 1) / 2, d) on `polarisation_directions`."""
    xp = namespace(second)
    entry = {(p, p): second[:, p, :] for p in range(k)}
    place = k
    for p in range(k):
        for q in range(p + 1, k):
            mixed = (second[:, place, :] - second[:, p, :] - second[:, q, :]) / 2.0
            entry[p, q] = entry[q, p] = mixed
            place += 1
    rows = [xp.stack([entry[p, q] for q in range(k)], axis=2) for p in range(k)]
    return xp.stack(rows, axis=2)


def random_tangents(
    A: int, n_directions: int, k: int, ref: Array, *, random_state: Any = 0
) -> Array:
    """Seeded unit vectors, uniform up to sign, orthogonal in groups of at most k: (A, p, k)."""
    xp = namespace(ref)
    seed = seed_of(random_state)
    found, left, group = [], n_directions, 0
    while left > 0:
        size = min(left, k)
        draws = normal(seed, (_DIRECTIONS, group), slice(0, A), k * size, ref)
        frame = xp.linalg.qr(xp.reshape(draws, (A, k, size)))[0]
        found.append(xp.matrix_transpose(frame))
        left, group = left - size, group + 1
    return xp.concat(found, axis=1)


def square_weights(squares: Array, retained: Array) -> Array:
    """W_ij of the module's introduction: (A, k, k), zero where i or j is not retained.

    Parameters
    ----------
    squares : array of shape (A, k)
        p, the eigenvalues of G, decreasing.
    retained : bool array of shape (A, k)
        Which of them span the directions that are averaged over.

    Examples
    --------
    >>> import numpy as np
    >>> p = np.ones((1, 3))
    >>> bool(np.allclose(square_weights(p, p > 0), 1 / (3 * 5)))
    True
    """
    xp = namespace(squares)
    flags = xp.astype(retained, squares.dtype)
    top = xp.max(squares * flags, axis=1, keepdims=True)
    top = xp.where(top > 0, top, 1.0 + 0.0 * top)
    p = xp.where(retained, squares / top, 0.0 * squares)
    least = float(xp.min(xp.where(retained & (p > 0), p, 1.0 + 0.0 * p)))
    fewest = max(1.0, float(xp.min(xp.sum(flags, axis=1))))
    # the integrand in log tau falls as tau^2 below and as tau^(-rank / 2) above 1 / min p
    s, last = -20.0, 74.0 / fewest - math.log(least)
    total = 0.0 * (p[:, :, None] + p[:, None, :])
    while s <= last:
        tau = math.exp(s)
        damped = 1.0 / (1.0 + 2.0 * tau * p)
        # pairs of large factors: no product of many leaves the range of floats
        volume = xp.exp(0.5 * xp.sum(flags * xp.log(damped), axis=1) + 2.0 * s)
        damped = damped * flags
        total = total + volume[:, None, None] * damped[:, :, None] * damped[:, None, :]
        s += _STEP
    return _STEP * total / top[:, :, None] ** 2


def curvature_averages(
    B: Array, acceleration: Array, retained: Array
) -> tuple[Array, Array, Array]:
    """E |a(u)|^2 / |B u|^4 over unit u, and its parts inside and outside range(B): (A,) each.

    Parameters
    ----------
    B : array of shape (A, d, k)
    acceleration : array of shape (A, d, k, k)
    retained : bool array of shape (A, min(d, k))
        Singular values whose right vectors span the directions u.

    Examples
    --------
    A plane rolled on a cylinder of radius 2: 3 / (8 r^2), all outside.

    >>> import numpy as np
    >>> B = np.asarray([[[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]]])
    >>> a = np.zeros((1, 3, 2, 2))
    >>> a[0, 1, 0, 0] = -1 / 2
    >>> total, inside, outside = curvature_averages(B, a, np.ones((1, 2), dtype=bool))
    >>> [round(float(v[0]), 12) for v in (total, inside, outside)]
    [0.09375, 0.0, 0.09375]
    """
    xp = namespace(B)
    L, s, Rt = xp.linalg.svd(B, full_matrices=False)
    weights = square_weights(s**2, retained)
    turned = xp.matmul(Rt[:, None, :, :], acceleration)
    turned = xp.matmul(turned, xp.matrix_transpose(Rt)[:, None, :, :])
    A, d, r, _ = turned.shape
    kept = L * xp.astype(retained, L.dtype)[:, None, :]
    image = xp.matmul(xp.matrix_transpose(kept), xp.reshape(turned, (A, d, r * r)))
    within = xp.reshape(xp.matmul(kept, image), (A, d, r, r))
    inside = _weighted_square(within, weights)
    outside = _weighted_square(turned - within, weights)
    return inside + outside, inside, outside


def _weighted_square(form: Array, weights: Array) -> Array:
    """Sum over components of sum_ij (q_ii q_jj + 2 q_ij^2) W_ij: (A,)."""
    xp = namespace(form)
    r = form.shape[-1]
    diagonal = xp.stack([form[:, :, i, i] for i in range(r)], axis=2)
    pairs = diagonal[:, :, :, None] * diagonal[:, :, None, :] + 2.0 * form**2
    return xp.sum(xp.sum(pairs, axis=1) * weights, axis=(1, 2))
