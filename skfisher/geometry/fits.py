"""Local polynomial fits: the data over their tangents, and an encoder over the data.

At an anchor x with tangent basis U, rows x_i near it have tangent coordinates t_i = U^T (x_i - x)
and log-map coordinates v_i = t_i + <II(t, t), II(t, .)> / 6 + O(|t|^4), the geodesic's initial
velocity. The data are the graph x + U t + II(t, t) / 2 + O(|t|^3), so the quadratic coefficients of
the normal components over t are II; and along a geodesic f(exp(v)) = f(x) + B v + a(v, v) / 2 +
O(|v|^3), so those of the latents over v are B = Df U and the acceleration a = D^2 f + Df II.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from skfisher._backend.arrays import Array, like, namespace, row_chunks, take_rows
from skfisher._backend.draws import normal, seed_of
from skfisher._backend.validation import as_sample
from skfisher.geometry.affine import as_latent
from skfisher.geometry.anchors import Neighbourhoods, neighbourhoods
from skfisher.geometry.regressions import (
    TRIALS,
    bending_of,
    least_squares,
    monomials_of,
    quadratic_forms,
    size_and_order,
)

__all__ = [
    "EncoderFit",
    "LocalFit",
    "fit_encoder",
    "fit_second_form",
    "log_coordinates",
    "mean_bend",
]

_WILD, _WILD_ENCODER, _SKETCH = 525, 526, 527  # streams of the draws
_SKETCHED = 64  # dimensions of the random projection in which sizes are tried
_LARGEST = 800  # neighbours
_TURNS = 2  # corrections of the tangents
_BEND = 1.0  # curvature x radius above which a neighbourhood is no graph over its tangent plane


@dataclass(frozen=True, eq=False)
class LocalFit:
    """The data as graphs over their tangent spaces at some anchors.

    Attributes
    ----------
    anchors : integer array of shape (A,)
    basis : array of shape (A, D, k)
        Orthonormal tangent bases, corrected by the linear part of the fit.
    second_form : array of shape (A, D, k, k)
        II in that basis, symmetric in the last two and normal to it, in 1/x; NaN where not
        measurable.
    second_form_stderr : array of shape (A,)
        Square root of the summed variance of all entries.
    basis_noise : array of shape (b, A, D, k)
    second_form_noise : array of shape (b, A, D, k, k)
        Draws of the fit's own error (wild bootstrap).
    offset : array of shape (A, D)
        From each anchor to the surface, along the normals.
    normal_noise : float
        Root mean squared distance of rows from the fitted surfaces, in units of X.
    n_neighbors, order : int
        Rows in each fit, and the degree of its polynomials.
    radius : float
        Mean distance to the last of these rows, in units of X.
    n_independent : float
        Anchors with neighbourhoods of their own: min(A, N / n_neighbors), at least 1.
    bending_bias : float
        What the series' next term may put on the mean of |II(u, u)|^2, as estimated when size and
        degree were chosen.
    measurable : bool
    reason : str
    """

    anchors: Array
    basis: Array
    second_form: Array
    second_form_stderr: Array
    basis_noise: Array
    second_form_noise: Array
    offset: Array
    normal_noise: float
    n_neighbors: int
    order: int
    radius: float
    n_independent: float
    bending_bias: float
    measurable: bool
    reason: str


@dataclass(frozen=True, eq=False)
class EncoderFit:
    """First and second derivative of an encoder along the data, from pairs alone.

    Attributes
    ----------
    anchors : integer array of shape (A,)
    pushforward : array of shape (A, d, k)
        B = Df U.
    acceleration : array of shape (A, d, k, k)
        a(e_p, e_q) = D^2 f[e_p, e_q] + Df II(e_p, e_q), symmetric in the last two.
    pushforward_noise : array of shape (b, A, d, k)
    acceleration_noise : array of shape (b, A, d, k, k)
        Draws of the fit's own error (wild bootstrap).
    pushforward_stderr, acceleration_stderr : array of shape (A,)
        Square roots of the summed variances of all entries.
    n_neighbors, order : int
    radius : float
    n_independent : float
    bending_bias : float
        As for `LocalFit`, of the mean of |a(u, u)|^2.
    measurable : bool
    reason : str
    """

    anchors: Array
    pushforward: Array
    acceleration: Array
    pushforward_noise: Array
    acceleration_noise: Array
    pushforward_stderr: Array
    acceleration_stderr: Array
    n_neighbors: int
    order: int
    radius: float
    n_independent: float
    bending_bias: float
    measurable: bool
    reason: str


def log_coordinates(t: Array, second_form: Array | None = None) -> Array:
    """Log-map coordinates of rows near some anchors.

    Parameters
    ----------
    t : array of shape (A, m, k)
        Tangent coordinates U^T (x_i - x).
    second_form : array of shape (A, D, k, k), optional
        None for flat data.

    Returns
    -------
    array of shape (A, m, k)
        t + <II(t, t), II(t, .)> / 6, right to third order: t = v - <II(v, v), II(v, .)> / 6 from
        the tangential part of a geodesic's third derivative.

    Examples
    --------
    >>> import numpy as np
    >>> t, form = np.asarray([[[np.sin(0.2)]]]), np.asarray([[[[0.0]], [[-1.0]]]])
    >>> abs(float(log_coordinates(t, form)[0, 0, 0]) - 0.2) < 1e-4
    True
    """
    if second_form is None:
        return t
    xp = namespace(t)
    A, D, k, _ = second_form.shape
    flat = xp.reshape(second_form, (A, D, k * k))
    gram = xp.matmul(xp.matrix_transpose(flat), flat)
    pairs = xp.reshape(t[:, :, :, None] * t[:, :, None, :], (A, t.shape[1], k * k))
    bent = xp.reshape(xp.matmul(pairs, gram), (A, t.shape[1], k, k))
    return t + xp.sum(bent * t[:, :, :, None], axis=2) / 6.0


def fit_second_form(
    X: Any,
    basis: Any,
    anchors: Any,
    *,
    n_neighbors: int | None = None,
    order: int | None = None,
    n_draws: int = 8,
    random_state: Any = 0,
) -> LocalFit:
    """Tangents and second fundamental form from local polynomial fits.

    Parameters
    ----------
    X : array of shape (N, D)
    basis : array of shape (A, D, k)
        First tangent bases, as from `tangent_spaces`.
    anchors : integer vector of length A
    n_neighbors, order : int, optional
        Rows of each fit, and its degree: 2, 3 or 4. Default the pair, one for all anchors, with the
        least estimated squared error of the mean of |II(u, u)|^2: variance, plus bias as told by
        the difference between degrees.
    n_draws : int
        b, wild bootstrap draws of the error.
    random_state : None, int, RandomState or Generator

    Returns
    -------
    LocalFit
        NaN in `second_form`, with the reason, where X has not twice as many rows as a quadratic
        has coefficients, or the neighbourhoods bend by more than a radian.

    Notes
    -----
    Least squares of the normal components on monomials of degree 0 to `order`; the linear part
    turns the basis, twice. Residuals are scaled by (1 - leverage)^(-1/2) (HC2), so that the draws
    have the variance of the coefficients where noise is even. Estimates of |II|^2 are biased up by
    that variance: `skfisher.geometry.pointwise` takes it off.
    """
    X = as_sample(X)
    xp = namespace(X)
    basis = like(basis, X)
    A, D, k = basis.shape
    seed = seed_of(random_state)
    near = neighbourhoods(X, anchors, _LARGEST if n_neighbors is None else n_neighbors)
    refusal = _too_few(near, k)
    if refusal:
        return _no_fit(near, basis, n_draws, refusal)

    # inner products are all that the choice of a size needs: a random projection keeps them
    sketch = normal(seed, (_SKETCH,), slice(0, D), _SKETCHED, X) / math.sqrt(_SKETCHED)
    seen = X if D <= 2 * _SKETCHED else xp.matmul(X, sketch)
    part = slice(0, min(TRIALS, A))
    U = basis[part, :, :]
    trial_t = _tangential(X, near, part, U)
    trial_basis = xp.matrix_transpose(
        U if D <= 2 * _SKETCHED else xp.matmul(xp.matrix_transpose(sketch), U)
    )

    def normals(m: int) -> tuple[Array, Array]:
        t = trial_t[:, :m, :]
        return t, _steps(seen, near, near.rows[part, :m], part) - xp.matmul(t, trial_basis)

    m, degree, bias = size_and_order(near, k, normals, n_neighbors, order, graph=True)
    monomials = monomials_of(k, degree)
    if near.rows.shape[1] < m:
        return _no_fit(near, basis, n_draws, f"{near.rows.shape[1]} neighbours for fits of {m}")
    bases, forms, offsets, turns, bends, noise = [], [], [], [], [], 0.0
    for part in row_chunks(A, 40 * m * D):
        rows = near.rows[part, :m]
        steps = _steps(X, near, rows, part)
        U = basis[part, :, :]
        for _ in range(_TURNS):
            t = xp.matmul(steps, U)
            fit = least_squares(t, steps - xp.matmul(t, xp.matrix_transpose(U)), monomials)
            U = _polar(U + xp.matrix_transpose(fit.coefficients[:, 1 : k + 1, :]))
        t = xp.matmul(steps, U)
        fit = least_squares(t, steps - xp.matmul(t, xp.matrix_transpose(U)), monomials)
        bases.append(U)
        forms.append(_across(quadratic_forms(fit.coefficients, k), U))
        offsets.append(fit.coefficients[:, 0, :])
        draws = fit.draws(n_draws, seed, _WILD, part)
        turns.append(xp.matrix_transpose(draws[:, :, 1 : k + 1, :]))
        bends.append(
            xp.stack([_across(quadratic_forms(draws[b, ...], k), U) for b in range(n_draws)])
        )
        noise += float(xp.sum(fit.scaled**2))
    join: Callable[..., Array] = xp.concat
    second = join(forms, axis=0)
    second_noise = join(bends, axis=1)
    radius = float(near.distances[:, m - 1].mean())
    # a share that the next term may hide counts as bent
    bend = math.hypot(mean_bend(second, second_noise), math.sqrt(max(bias, 0.0))) * radius
    measurable = bend <= _BEND
    reason = f"local fits of degree {degree} to {m} neighbours"
    if not measurable:
        reason = (
            f"neighbourhoods of {m} rows reach {radius:.3g} and bend by {bend:.2g} radians there: "
            f"too wide for local fits; more rows are needed"
        )
        second = second + math.nan
    return LocalFit(
        anchors=near.anchors,
        basis=join(bases, axis=0) if measurable else basis,
        second_form=second,
        second_form_stderr=_spread(second_noise),
        basis_noise=join(turns, axis=1),
        second_form_noise=second_noise,
        offset=join(offsets, axis=0),
        normal_noise=math.sqrt(noise / (A * m)),
        n_neighbors=m,
        order=degree,
        radius=radius,
        n_independent=max(1.0, min(float(A), near.n_distinct / m)),
        bending_bias=bias,
        measurable=measurable,
        reason=reason,
    )


def fit_encoder(
    X: Any,
    Z: Any,
    anchors: Any,
    basis: Any,
    second_form: Any = None,
    *,
    n_neighbors: int | None = None,
    order: int | None = None,
    n_draws: int = 8,
    random_state: Any = 0,
) -> EncoderFit:
    """Pushforward and acceleration of an encoder from pairs (x, z) alone.

    Parameters
    ----------
    X, Z : arrays of shape (N, D), (N, d)
    anchors : integer vector of length A
    basis : array of shape (A, D, k)
    second_form : array of shape (A, D, k, k), optional
        Turns tangent into log-map coordinates; without it, or where it is NaN, the cubic terms of
        the fit take that difference.
    n_neighbors, order, n_draws, random_state
        As for `fit_second_form`.

    Returns
    -------
    EncoderFit
        What the encoder does between rows: kinks finer than their distance are smoothed away.
    """
    X = as_sample(X)
    Z = as_latent(X, Z)
    xp = namespace(X)
    basis, Z = like(basis, X), like(Z, X)
    A, k = basis.shape[0], basis.shape[2]
    seed = seed_of(random_state)
    near = neighbourhoods(X, anchors, _LARGEST if n_neighbors is None else n_neighbors)
    curved = second_form is not None and bool(xp.all(xp.isfinite(second_form)))
    refusal = _too_few(near, k)

    def pairs(m: int, part: slice) -> tuple[Array, Array]:
        form = second_form[part, :, :, :] if curved else None
        t = _tangential(X, near, part, basis[part, :, :])[:, :m, :]
        return log_coordinates(t, form), _steps(Z, near, near.rows[part, :m], part)

    if refusal:
        none = 0.0 * basis[:, 0, 0] + math.nan
        return _no_encoder(near, none, Z.shape[1], k, n_draws, refusal)
    m, degree, bias = size_and_order(
        near,
        k,
        lambda m: pairs(m, slice(0, min(TRIALS, A))),
        n_neighbors,
        order,
        graph=False,
    )
    m = min(m, near.rows.shape[1])
    monomials = monomials_of(k, degree)
    first, second, turns, bends = [], [], [], []
    for part in row_chunks(A, 8 * near.n_distinct * k + 40 * m * Z.shape[1]):
        fit = least_squares(*pairs(m, part), monomials)
        draws = fit.draws(n_draws, seed, _WILD_ENCODER, part)
        first.append(xp.matrix_transpose(fit.coefficients[:, 1 : k + 1, :]))
        turns.append(xp.matrix_transpose(draws[:, :, 1 : k + 1, :]))
        second.append(quadratic_forms(fit.coefficients, k))
        bends.append(xp.stack([quadratic_forms(draws[b, ...], k) for b in range(n_draws)]))
    join: Callable[..., Array] = xp.concat
    turned = join(turns, axis=1)
    form_noise = join(bends, axis=1)
    return EncoderFit(
        anchors=near.anchors,
        pushforward=join(first, axis=0),
        acceleration=join(second, axis=0),
        pushforward_noise=turned,
        acceleration_noise=form_noise,
        pushforward_stderr=_spread(turned),
        acceleration_stderr=_spread(form_noise),
        n_neighbors=m,
        order=degree,
        radius=float(near.distances[:, m - 1].mean()),
        n_independent=max(1.0, min(float(A), near.n_distinct / m)),
        bending_bias=bias,
        measurable=True,
        reason=f"local fits of degree {degree} to {m} pairs",
    )


def _across(form: Array, U: Array) -> Array:
    """The part of a form (A, D, k, k) normal to U."""
    xp = namespace(form)
    A, D, k, _ = form.shape
    flat = xp.reshape(form, (A, D, k * k))
    flat = flat - xp.matmul(U, xp.matmul(xp.matrix_transpose(U), flat))
    return xp.reshape(flat, (A, D, k, k))


def _polar(T: Array) -> Array:
    """The orthonormal basis nearest to the columns of T."""
    xp = namespace(T)
    left, _, right = xp.linalg.svd(T, full_matrices=False)
    return xp.matmul(left, right)


def _steps(X: Array, near: Neighbourhoods, rows: Any, part: slice) -> Array:
    """Neighbours less their anchors: (A, m, n)."""
    xp = namespace(X)
    around = xp.reshape(take_rows(X, rows.reshape(-1)), (*rows.shape, X.shape[1]))
    return around - xp.take(X, near.anchors[part], axis=0)[:, None, :]


def _tangential(X: Array, near: Neighbourhoods, part: slice, U: Array) -> Array:
    """Tangent coordinates of all neighbours: (A, M, k), without gathering them in D dimensions."""
    xp = namespace(X)
    found = []
    for i in range(U.shape[0]):
        along = xp.matmul(X, U[i, :, :])
        own = xp.take(along, near.anchors[part][i : i + 1], axis=0)
        found.append(take_rows(along, near.rows[part][i]) - own)
    return xp.stack(found)


def _too_few(near: Neighbourhoods, k: int) -> str:
    needed = (k + 1) * (k + 2)
    if near.rows.shape[1] >= needed:
        return ""
    return (
        f"a quadratic fit over {k} directions needs {needed} neighbours, and there are "
        f"{near.rows.shape[1]}"
    )


def _spread(draws: Array) -> Array:
    """Root of the summed variance of all entries, per anchor: draws (b, A, ...) to (A,)."""
    xp = namespace(draws)
    b, A = draws.shape[:2]
    return xp.sqrt(xp.sum(xp.mean(xp.reshape(draws, (b, A, -1)) ** 2, axis=0), axis=1))


def mean_bend(form: Array, noise: Array) -> float:
    """Root of the mean squared bending of a form, that of its noise taken off."""
    xp = namespace(form)
    return math.sqrt(max(float(xp.mean(bending_of(form)) - xp.mean(bending_of(noise))), 0.0))


def _no_fit(near: Neighbourhoods, basis: Array, n_draws: int, reason: str) -> LocalFit:
    xp = namespace(basis)
    A, D, k = basis.shape
    none = 0.0 * basis[:, 0, 0] + math.nan
    form = xp.broadcast_to(none[:, None, None, None], (A, D, k, k))
    draws = xp.broadcast_to(none[None, :, None, None], (n_draws, A, D, k))
    return LocalFit(
        anchors=near.anchors,
        basis=basis,
        second_form=form,
        second_form_stderr=none,
        basis_noise=draws,
        second_form_noise=xp.broadcast_to(form[None, ...], (n_draws, A, D, k, k)),
        offset=xp.broadcast_to(none[:, None], (A, D)),
        normal_noise=math.nan,
        n_neighbors=0,
        order=0,
        radius=math.nan,
        n_independent=1.0,
        bending_bias=math.nan,
        measurable=False,
        reason=reason,
    )


def _no_encoder(
    near: Neighbourhoods, none: Array, d: int, k: int, n_draws: int, reason: str
) -> EncoderFit:
    """`none` is NaN of shape (A,)."""
    xp = namespace(none)
    A = none.shape[0]
    form = xp.broadcast_to(none[:, None, None, None], (A, d, k, k))
    return EncoderFit(
        anchors=near.anchors,
        pushforward=form[:, :, :, 0],
        acceleration=form,
        pushforward_noise=xp.broadcast_to(form[None, :, :, :, 0], (n_draws, A, d, k)),
        acceleration_noise=xp.broadcast_to(form[None, ...], (n_draws, A, d, k, k)),
        pushforward_stderr=none,
        acceleration_stderr=none,
        n_neighbors=0,
        order=0,
        radius=math.nan,
        n_independent=1.0,
        bending_bias=math.nan,
        measurable=False,
        reason=reason,
    )
