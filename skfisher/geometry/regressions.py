"""Polynomial least squares around anchors, all anchors at once, and the choice of their size."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from skfisher._backend.arrays import Array, index_like, namespace, to_numpy
from skfisher._backend.draws import signs
from skfisher.geometry.anchors import Neighbourhoods

__all__ = [
    "TRIALS",
    "Fitted",
    "bending_of",
    "least_squares",
    "monomials_of",
    "quadratic_forms",
    "size_and_order",
]

TRIALS = 24
"""Anchors on which size and degree are chosen."""

_TRIAL, _TRIAL_DRAWS = 528, 4  # stream, and number, of the draws that tell errors there


@dataclass(frozen=True, eq=False)
class Fitted:
    """Least squares for each anchor: coefficients (A, p, q) of t^a / a!, and how they err."""

    coefficients: Array
    inverse: Array
    scaled: Array
    n_axes: int

    def draws(self, n_draws: int, seed: int, stream: int, part: slice) -> Array:
        """Coefficients up to degree two of residuals with random signs: (b, A, p, q)."""
        xp = namespace(self.scaled)
        m = self.scaled.shape[1]
        k = self.n_axes
        inverse = self.inverse[:, : 1 + k + k * (k + 1) // 2, :]
        found = []
        for b in range(n_draws):
            flip = signs(seed, (stream, b), part, m, self.scaled)
            found.append(xp.matmul(inverse * flip[:, None, :], self.scaled))
        return xp.stack(found)


def least_squares(t: Array, Y: Array, monomials: Sequence[tuple[int, ...]]) -> Fitted:
    """Regression of Y (A, m, q) on monomials of t (A, m, k)."""
    xp = namespace(t)
    length = xp.sqrt(xp.max(xp.sum(t**2, axis=2), axis=1))
    length = xp.where(length > 0, length, 1.0 + 0.0 * length)
    unit = t / length[:, None, None]
    columns, weights = [], []
    for powers in monomials:
        column, weight = 1.0 + 0.0 * unit[:, :, 0], 1.0 + 0.0 * length
        for axis in powers:
            column, weight = column * unit[:, :, axis], weight / length
        columns.append(column)
        counts = [math.factorial(powers.count(axis)) for axis in set(powers)]
        weights.append(weight * math.prod(counts))
    Q, R = xp.linalg.qr(xp.stack(columns, axis=2))
    inverse = xp.matmul(xp.linalg.pinv(R), xp.matrix_transpose(Q))
    leverage = xp.sum(Q**2, axis=2)
    residual = Y - xp.matmul(Q, xp.matmul(xp.matrix_transpose(Q), Y))
    spare = xp.where(leverage < 1.0 - 1e-9, 1.0 - leverage, 1.0 + 0.0 * leverage)
    inverse = inverse * xp.stack(weights, axis=1)[:, :, None]
    return Fitted(xp.matmul(inverse, Y), inverse, residual / xp.sqrt(spare)[:, :, None], t.shape[2])


def monomials_of(k: int, degree: int) -> list[tuple[int, ...]]:
    """Exponents as tuples of axes, by degree: (), (0,), (1,), (0, 0), (0, 1), ..."""
    return [
        axes
        for n in range(degree + 1)
        for axes in itertools.combinations_with_replacement(range(k), n)
    ]


def quadratic_forms(coefficients: Array, k: int) -> Array:
    """The quadratic coefficients (A, p, q) as forms (A, q, k, k): second derivatives."""
    xp = namespace(coefficients)
    place = {}
    for i, axes in enumerate(itertools.combinations_with_replacement(range(k), 2)):
        place[axes] = place[axes[::-1]] = 1 + k + i
    order = index_like([place[a, b] for a in range(k) for b in range(k)], coefficients)
    taken = xp.matrix_transpose(xp.take(coefficients, order, axis=1))
    return xp.reshape(taken, (taken.shape[0], taken.shape[1], k, k))


def size_and_order(
    near: Neighbourhoods,
    k: int,
    read: Callable[[int], tuple[Array, Array]],
    n_neighbors: int | None,
    order: int | None,
    *,
    graph: bool,
) -> tuple[int, int, float]:
    """Neighbourhood size and degree with the least squared error of the mean bending, and its bias.

    Its variance is that of fits to N / m neighbourhoods. Its bias, for degrees 2 and 3, is taken to
    be the share curvature x radius^2 (0.54 of it on a sphere, 1.2 on a cylinder), or what degree 4
    finds otherwise in the same rows where that is more; for degree 4, 0.65 times the square of that
    share (on a sphere -0.19 (r / R)^4 after 0.54 (r / R)^2). `graph`: the data over their tangents,
    where curvature has the unit of t; otherwise latents over them.
    """
    # beyond a third of the rows no neighbourhood is local
    available = min(near.rows.shape[1], max((k + 1) * (k + 2), near.n_distinct // 3))
    if n_neighbors is not None:
        sizes = [min(n_neighbors, near.rows.shape[1])]
    else:
        sizes = _grid((k + 1) * (k + 2), available)
    degrees = (2, 3, 4) if order is None else (order,)
    best: tuple[float, int, int, float] = (math.inf, sizes[0], degrees[0], math.nan)
    for m in sizes:
        fits = {}
        for degree in degrees:
            p = math.comb(k + degree, k)
            if m >= max(1.5 * p, p + 4):
                fits[degree] = _trial(near, k, read, m, degree, graph)
        n_independent = min(float(near.rows.shape[0]), near.n_distinct / m)
        for degree, (bending, variance, bent) in fits.items():
            whole = abs(float(bending.mean()))
            share = bent * whole
            if len(fits) > 1:
                other = fits[4 if 4 in fits and degree < 4 else min(fits)][0]
                share = max(share, _beyond_error(other - bending))
            if degree == 4:
                share = 0.65 * share * min(1.0, share / max(whole, 1e-300))
            best = min(best, (variance / n_independent + share**2, m, degree, share))
    return best[1], best[2], best[3]


def _trial(
    near: Neighbourhoods,
    k: int,
    read: Callable[[int], tuple[Array, Array]],
    m: int,
    degree: int,
    graph: bool,
) -> tuple[Any, float, float]:
    """Bending at some anchors without its bias (NumPy), its mean variance, curvature x radius^2."""
    part = slice(0, min(TRIALS, near.rows.shape[0]))
    t, Y = read(m)
    xp = namespace(t)
    fit = least_squares(t, Y, monomials_of(k, degree))
    form = quadratic_forms(fit.coefficients, k)
    draws = fit.draws(_TRIAL_DRAWS, 0, _TRIAL, part)
    noise = [quadratic_forms(draws[b, ...], k) for b in range(_TRIAL_DRAWS)]
    bending = bending_of(form) - sum(bending_of(e) for e in noise) / _TRIAL_DRAWS
    variance = 0.0
    for e in noise:
        step = (bending_of(form + e) - bending_of(form - e)) / 2.0
        variance += float(xp.mean(step**2 + bending_of(e) ** 2)) / _TRIAL_DRAWS
    extent = float(xp.mean(xp.sum(t**2, axis=2))) * (k + 2) / k
    if not graph:
        # lengths of Z are |B| times those of X
        extent /= max(
            float(xp.mean(xp.sum(fit.coefficients[:, 1 : k + 1, :] ** 2, axis=(1, 2)))) / k, 1e-300
        )
    return to_numpy(bending), variance, extent * abs(float(xp.mean(bending)))


def _beyond_error(step: Any) -> float:
    """Magnitude of a mean difference over anchors, beyond its own standard error."""
    error = step.var() / max(len(step) - 1, 1)
    return math.sqrt(max(float(step.mean()) ** 2 - float(error), 0.0))


def _grid(least: int, most: int) -> list[int]:
    sizes, m = [], float(least)
    while round(m) <= most:
        sizes.append(round(m))
        m *= 1.5
    return sizes


def bending_of(form: Array) -> Array:
    """Mean of |form(u, u)|^2 over unit u, for forms (..., q, k, k): (|tr|^2 + 2 |form|^2) / k(k+2).

    Isserlis' theorem for u = g / |g|, g normal.
    """
    xp = namespace(form)
    k = form.shape[-1]
    trace = sum(form[..., a, a] for a in range(k))
    total = xp.sum(trace**2, axis=-1) + 2.0 * xp.sum(form**2, axis=(-3, -2, -1))
    return total / (k * (k + 2))
