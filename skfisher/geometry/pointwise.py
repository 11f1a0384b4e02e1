"""The four penalties at each anchor, from derivatives along the data's tangents.

U: orthonormal tangent basis (k columns), B = Df U, G = B^T B, II the data's second fundamental
form, a = D^2 f + Df II the acceleration form, u uniform on unit tangents, c the scale that all
points share.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from skfisher._backend.arrays import Array, namespace
from skfisher.geometry.affine import RETAINED
from skfisher.geometry.averages import curvature_averages
from skfisher.geometry.regressions import bending_of

__all__ = [
    "PointwiseGeometry",
    "bending_average",
    "lost_directions_of",
    "pointwise_geometry",
]

_MOST_LOST = 32  # directions that are listed


_Steps = tuple[tuple[Array, Array], ...]
_Found = tuple[tuple[Array, ...], tuple[Array, ...]]
"""Values per anchor of several functionals, and their variances from the fits."""


@dataclass(frozen=True, eq=False)
class PointwiseGeometry:
    """The penalties at each anchor, and their means.

    Arrays have one entry per anchor; noise of the fits has been taken off, so entries may be
    negative. NaN where not measured.

    Attributes
    ----------
    anchors : integer array of shape (A,)
        Row numbers.
    rank : array of shape (A,)
        Singular values of B above 1e-6 of the largest of all anchors, and above twice their error.
    singular_values : array of shape (A, min(d, k))
        Decreasing, in z/x.
    log_squared_scale : float
        log c^2, the mean over anchors of tr log G / rank over the retained values.
    dimensional_compression, tangential_distortion : array of shape (A,)
    encoder_curvature, encoder_curvature_inside, encoder_curvature_outside : array of shape (A,)
        In 1/z^2: E |a(u)|^2 / |B u|^4 over unit u among the retained directions; of a(u) the part
        inside range(B), and the rest.
    data_curvature : array of shape (A,)
        In 1/x^2: E |II(u, u)|^2.
    curvature_change : array of shape (A,)
        In 1/x^2: c^2 times the encoder curvature less the data curvature, what the encoder adds to
        the bending of the data: 0 for scaled rigid maps of any data, negative where it unrolls.
    means : mapping of str to tuple of float
        Mean over anchors and standard error, by the names above.
    basis : array of shape (A, D, k) or None
        U; None where it is the affine hull's.
    pushforward : array of shape (A, d, k)
        B.
    second_form : array of shape (A, D, k, k) or None
        II; None for flat data.
    """

    anchors: Array
    rank: Array
    singular_values: Array
    log_squared_scale: float
    dimensional_compression: Array
    tangential_distortion: Array
    encoder_curvature: Array
    encoder_curvature_inside: Array
    encoder_curvature_outside: Array
    data_curvature: Array
    curvature_change: Array
    means: Mapping[str, tuple[float, float]]
    basis: Array | None
    pushforward: Array
    second_form: Array | None


def pointwise_geometry(
    B: Array,
    *,
    anchors: Array,
    acceleration: Array | None = None,
    directions: Array | None = None,
    second: Array | None = None,
    second_form: Array | None = None,
    basis: Array | None = None,
    pushforward_noise: Array | None = None,
    acceleration_noise: Array | None = None,
    second_form_noise: Array | None = None,
    basis_noise: Array | None = None,
    pushforward_error: Array | None = None,
    acceleration_error: Array | None = None,
    n_independent: float | None = None,
    data_bias: float = 0.0,
    encoder_bias: float = 0.0,
    flat: bool = False,
) -> PointwiseGeometry:
    """Penalties at each anchor from B, the acceleration and II.

    Parameters
    ----------
    B : array of shape (A, d, k)
    anchors : integer array of shape (A,)
    acceleration : array of shape (A, d, k, k), optional
    directions, second : arrays of shape (A, p, k) and (A, p, d), optional
        In place of `acceleration`: unit tangents, uniform among the retained, and a(u) there.
    second_form : array of shape (A, D, k, k), optional
    basis : array of shape (A, D, k), optional
        Kept in the result.
    pushforward_noise, acceleration_noise, second_form_noise : arrays of shape (b, A, ...), optional
        Draws of the errors of B, a and II, drawn together. What they add to the averages is taken
        off: the mean of (F(+noise) + F(-noise)) / 2 - F, exact for the quadratic ones.
    basis_noise : array of shape (b, A, D, k), optional
        Draws of the error of U, normal to it, that went with those of B and a: U + noise is no
        longer orthonormal, and B and a are turned back to what an orthonormal basis would see.
    pushforward_error, acceleration_error : arrays of shape (A,), optional
        Largest absolute error of an entry from taking derivatives.
    n_independent : float, optional
        Anchors whose fits share no rows; default A.
    data_bias, encoder_bias : float
        What the fits' truncation may put on the means of |II(u, u)|^2 and |a(u, u)|^2; enters the
        errors.
    flat : bool
        The data have no second fundamental form: `data_curvature` is 0.

    Returns
    -------
    PointwiseGeometry

    Notes
    -----
    Standard errors: spread over anchors / A, of which the part that comes from the fits is divided
    by the independent neighbourhoods only, plus the truncation and derivative errors. The anchors
    are random rows of one sample: its own randomness enters through them alone.
    """
    xp = namespace(B)
    A, d, k = B.shape
    s = xp.linalg.svdvals(B)
    floor = RETAINED * float(xp.max(s)) + 0.0 * s[:, 0]
    if pushforward_error is not None:
        floor = floor + 2.0 * pushforward_error * math.sqrt(d)
    if pushforward_noise is not None:
        size = xp.sqrt(xp.mean(xp.linalg.svdvals(pushforward_noise)[:, :, 0] ** 2, axis=0))
        floor = xp.where(2.0 * size > floor, 2.0 * size, floor)
    retained = s > floor[:, None]
    rank = xp.sum(xp.astype(retained, B.dtype), axis=1)
    alive = rank > 0
    count = xp.where(alive, rank, 1.0 + 0.0 * rank)
    nan = 0.0 * rank + math.nan

    def logs(B: Array) -> Array:
        values = xp.linalg.svdvals(B)
        values = xp.where(retained, values, 1.0 + 0.0 * values)
        tiny = 1e-300 + 0.0 * values
        return 2.0 * xp.log(xp.where(values > tiny, values, tiny))

    own = xp.sum(logs(B), axis=1) / count
    n_alive = float(xp.sum(xp.astype(alive, B.dtype)))
    log_scale = math.nan
    if n_alive > 0:
        log_scale = float(xp.sum(xp.where(alive, own, 0.0 * own))) / n_alive

    def distortion(B: Array) -> tuple[Array, ...]:
        off = xp.where(retained, logs(B) - log_scale, 0.0 * s)
        return (xp.where(alive, xp.sum(off**2, axis=1) / count, nan),)

    n_free = float(A) if n_independent is None else min(float(A), max(1.0, n_independent))
    means: dict[str, tuple[float, float]] = {}
    arrays: dict[str, Array] = {}

    def record(names: list[str], found: _Found, error: float = 0.0) -> None:
        for name, value, variance in zip(names, *found, strict=True):
            arrays[name] = value
            means[name] = _mean(value, variance, n_free, error)

    lost = 1.0 - rank / k
    record(["dimensional_compression"], ((lost,), (0.0 * lost,)))
    shrink = _shrinkage(basis_noise)
    noise_B = [
        _both_ways(B, e[0][0], shrink, b) for b, e in enumerate(_noise_of(pushforward_noise))
    ]
    record(["tangential_distortion"], _debiased(distortion, (B,), [(e,) for e in noise_B]))

    names = ["encoder_curvature", "encoder_curvature_inside", "encoder_curvature_outside"]
    error = 0.0
    if math.isfinite(encoder_bias) and math.isfinite(log_scale):
        error = encoder_bias / math.exp(2.0 * log_scale)
    if acceleration is not None:

        def bends(B: Array, a: Array) -> tuple[Array, ...]:
            found = curvature_averages(B, a, retained)
            return tuple(xp.where(alive, value, nan) for value in found)

        noise: list[_Steps] = []
        if acceleration_noise is not None:
            of_a = [
                _both_forms(acceleration, e[0][0], shrink, b)
                for b, e in enumerate(_noise_of(acceleration_noise))
            ]
            of_B = noise_B or [(0.0 * B, 0.0 * B)] * len(of_a)
            noise = list(zip(of_B, of_a, strict=True))
        curves = _debiased(bends, (B, acceleration), noise)
    elif directions is not None and second is not None:
        curves = _along(B, directions, second, retained, alive)
    else:
        curves = ((nan, nan, nan), (nan, nan, nan))
    if acceleration_error is not None and math.isfinite(log_scale):
        off = acceleration_error * math.sqrt(d) / math.exp(log_scale)
        whole = xp.where(curves[0][0] > 0, curves[0][0], 0.0 * rank)
        error = math.hypot(error, float(xp.mean(2.0 * xp.sqrt(whole) * off + off**2)))
    record(names, curves, error)

    if second_form is not None:
        steps = [
            _both_forms(second_form, e[0][0], shrink, b)
            for b, e in enumerate(_noise_of(second_form_noise))
        ]
        own_curve = _debiased(
            lambda form: (bending_of(form),), (second_form,), [(e,) for e in steps]
        )
        record(["data_curvature"], own_curve, data_bias if math.isfinite(data_bias) else 0.0)
    else:
        value = 0.0 * rank if flat else nan
        record(["data_curvature"], ((value,), (0.0 * rank,)))
    change = nan
    if math.isfinite(log_scale):
        change = math.exp(log_scale) * arrays["encoder_curvature"] - arrays["data_curvature"]
    # the two share the fits' errors: their difference tells its own
    record(["curvature_change"], ((change,), (0.0 * change + _variance(change),)))
    return PointwiseGeometry(
        anchors=anchors,
        rank=rank,
        singular_values=s,
        log_squared_scale=log_scale,
        means=means,
        basis=basis,
        pushforward=B,
        second_form=second_form,
        **arrays,
    )


def bending_average(
    second_form: Array, noise: Array, n_independent: float, bias: float
) -> tuple[float, float]:
    """Mean of |II(u, u)|^2 over anchors and unit tangents, noise taken off, and its error."""
    found = _debiased(lambda form: (bending_of(form),), (second_form,), _noise_of(noise))
    return _mean(found[0][0], found[1][0], n_independent, bias if math.isfinite(bias) else 0.0)


def lost_directions_of(
    basis: Array, B: Array, retained_rank: Array, X: Array
) -> tuple[Array | None, Array | None]:
    """Directions of data space that are lost at most anchors, by the variance they carry.

    Parameters
    ----------
    basis : array of shape (A, D, k), or (1, D, k) where one serves all
    B : array of shape (A, d, k)
    retained_rank : array of shape (A,)
        How many singular values of B count at each anchor.
    X : array of shape (N, D)

    Returns
    -------
    directions : array of shape (q, D) or None
        Orthonormal, at most 32; None where nothing is lost.
    shares : array of shape (q,) or None
        Of the variance of X.
    """
    xp = namespace(basis)
    A, D, k = B.shape[0], basis.shape[1], basis.shape[2]
    flat = basis.shape[0] == 1
    if float(xp.min(retained_rank)) >= k:
        return None, None
    _, _, Rt = xp.linalg.svd(B, full_matrices=False)
    index = xp.cumulative_sum(1.0 + 0.0 * Rt[:, :, 0], axis=1)
    kept = Rt * xp.astype(index < retained_rank[:, None] + 0.5, B.dtype)[:, :, None]
    outer = _mean_outer(basis)
    parts = [
        xp.matmul(basis[0 if flat else i, :, :], xp.matrix_transpose(kept[i, :, :]))[None, :, :]
        for i in range(A)
    ]
    outer = outer - _mean_outer(xp.concat(parts, axis=0))
    values, vectors = xp.linalg.eigh(outer)
    q = int(xp.sum(xp.astype(values > 0.5, xp.int64)))
    if q == 0:
        return None, None
    span = vectors[:, D - q :]
    centred = X - xp.mean(X, axis=0)[None, :]
    coordinates = xp.matmul(centred, span)
    carried, turn = xp.linalg.eigh(xp.matmul(xp.matrix_transpose(coordinates), coordinates))
    whole = float(xp.sum(centred**2))
    order = xp.matrix_transpose(xp.matmul(span, xp.flip(turn, axis=1)))
    listed = min(_MOST_LOST, q)
    return order[:listed, :], xp.flip(carried)[:listed] / whole


def _mean_outer(vectors: Array) -> Array:
    """Mean over the first axis of V V^T, for (A, D, q): (D, D)."""
    xp = namespace(vectors)
    A, D, q = vectors.shape
    wide = xp.reshape(xp.permute_dims(vectors, (1, 0, 2)), (D, A * q))
    return xp.matmul(wide, xp.matrix_transpose(wide)) / A


def _along(B: Array, u: Array, a: Array, retained: Array, alive: Array) -> _Found:
    """Means over sampled directions u (A, p, k) with a(u) (A, p, d), and their variances."""
    xp = namespace(B)
    L = xp.linalg.svd(B, full_matrices=False)[0] * xp.astype(retained, B.dtype)[:, None, :]
    speed = xp.sum(xp.matmul(u, xp.matrix_transpose(B)) ** 2, axis=2)
    within = xp.matmul(a, L)
    total = xp.sum(a**2, axis=2) / speed**2
    inside = xp.sum(within**2, axis=2) / speed**2
    values, variances = [], []
    for part in (total, inside, total - inside):
        mean = xp.mean(part, axis=1)
        values.append(xp.where(alive, mean, mean + math.nan))
        variances.append(0.0 * mean)  # fresh directions at each anchor: in the spread over anchors
    return tuple(values), tuple(variances)


def _debiased(
    functional: Callable[..., tuple[Array, ...]],
    at: tuple[Array, ...],
    noise: list[_Steps],
) -> _Found:
    """Functionals less what noise of the arguments adds, and the variance it gives them.

    Each entry of `noise` has a step up and a step down for every argument.
    """
    plain = functional(*at)
    if not noise:
        return plain, tuple(0.0 * value for value in plain)
    bias, variance = [0.0 * v for v in plain], [0.0 * v for v in plain]
    for step in noise:
        above = functional(*(x + e[0] for x, e in zip(at, step, strict=True)))
        below = functional(*(x - e[1] for x, e in zip(at, step, strict=True)))
        for i, value in enumerate(plain):
            bent = (above[i] + below[i]) / 2.0 - value
            bias[i] = bias[i] + bent / len(noise)
            variance[i] = variance[i] + (((above[i] - below[i]) / 2.0) ** 2 + bent**2) / len(noise)
    return tuple(v - b for v, b in zip(plain, bias, strict=True)), tuple(variance)


def _mean(value: Array, variance: Array, n_free: float, error: float) -> tuple[float, float]:
    known = [(float(v), float(e)) for v, e in zip(value, variance, strict=True) if not _nan(v)]
    if not known:
        return math.nan, math.nan
    A = len(known)
    mean = math.fsum(v for v, _ in known) / A
    if A < 2:
        return mean, math.nan
    spread = math.fsum((v - mean) ** 2 for v, _ in known) / (A - 1)
    own = math.fsum(e for _, e in known) / A
    squared = max(spread - own, 0.0) / A + own / min(float(A), n_free) + error**2
    return mean, math.sqrt(squared)


def _variance(value: Array) -> float:
    known = [float(v) for v in value if not _nan(v)]
    if len(known) < 2:
        return math.nan
    mean = math.fsum(known) / len(known)
    return math.fsum((v - mean) ** 2 for v in known) / (len(known) - 1)


def _nan(value: Any) -> bool:
    return math.isnan(float(value))


def _noise_of(draws: Array | None) -> list[_Steps]:
    if draws is None:
        return []
    return [((draws[b, ...], draws[b, ...]),) for b in range(draws.shape[0])]


def _shrinkage(basis_noise: Array | None) -> Array | None:
    """(I + E^T E)^(-1/2), which makes U + E orthonormal, for E normal to U: (b, A, k, k)."""
    if basis_noise is None:
        return None
    xp = namespace(basis_noise)
    values, vectors = xp.linalg.eigh(xp.matmul(xp.matrix_transpose(basis_noise), basis_noise))
    scaled = vectors / xp.sqrt(1.0 + values)[..., None, :]
    return xp.matmul(scaled, xp.matrix_transpose(vectors))


def _both_ways(B: Array, step: Array, shrink: Array | None, b: int) -> tuple[Array, Array]:
    """Steps of B up and down, brought back to an orthonormal basis."""
    if shrink is None:
        return step, step
    xp = namespace(B)
    N = shrink[b, ...]
    return xp.matmul(B + step, N) - B, B - xp.matmul(B - step, N)


def _both_forms(a: Array, step: Array, shrink: Array | None, b: int) -> tuple[Array, Array]:
    """Steps of a form up and down, brought back to an orthonormal basis."""
    if shrink is None:
        return step, step
    xp = namespace(a)
    N = shrink[b, ...][:, None, :, :]
    up, down = (xp.matmul(N, xp.matmul(form, N)) for form in (a + step, a - step))
    return up - a, a - down
