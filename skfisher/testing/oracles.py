"""Information quantities of known laws by quadrature of their exact densities."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from scipy.special import ive

from skfisher._backend.arrays import Array, like, namespace, to_numpy
from skfisher._backend.quadrature import integrate
from skfisher._backend.validation import as_sigma

__all__ = ["Oracle", "circle_oracle", "mixture_1d_oracle", "sphere_oracle"]


@dataclass(frozen=True, eq=False)
class Oracle:
    """Information quantities of a known law at every noise level, without error.

    Attributes
    ----------
    noise_levels : array of shape (T,)
        sigma, in units of X.
    n_features : int
        Dimension n.
    fisher_information, fisher_information_rate : array of shape (T,)
        J (1/x^2) and R (1/x^4).
    mmse, mmse_rate, effective_dimension : array of shape (T,)
        E tr C (x^2), E|C|_F^2 / t^2 and E tr C / t (no unit), C the posterior covariance.
    """

    noise_levels: Array
    n_features: int
    fisher_information: Array
    fisher_information_rate: Array
    mmse: Array
    mmse_rate: Array
    effective_dimension: Array


def mixture_1d_oracle(
    weights: Sequence[float],
    means: Sequence[float],
    variances: Sequence[float],
    noise_levels: Sequence[float],
) -> Oracle:
    """Exact information quantities of a one-dimensional Gaussian mixture.

    Parameters
    ----------
    weights, means, variances : sequence of float
        Of K components; weights sum to 1, variances may be zero.
    noise_levels : sequence of float
        sigma, positive, in units of X.

    Returns
    -------
    Oracle
        To 1e-10 relative; each quantity by its own integral of non-negative terms, so that a small
        mmse is not the rest of a large J.

    Raises
    ------
    ValueError
        Lengths that differ, negative weights or variances, weights that do not sum to 1, or noise
        levels that are not positive.

    Notes
    -----
    J = E s^2, R = E (s')^2, with the component scores' spread under the responsibilities; textbook
    identities; the framework is that of Gu et al., arXiv 2604.02751.

    Examples
    --------
    >>> oracle = mixture_1d_oracle([0.5, 0.5], [-2.5, 2.5], [0.0, 0.0], [1.0])
    >>> round(float(oracle.fisher_information_rate[0]), 3)
    1.178
    """
    w, mu, var = ([float(x) for x in values] for values in (weights, means, variances))
    if not len(w) == len(mu) == len(var):
        raise ValueError(
            f"weights, means and variances have {len(w)}, {len(mu)} and {len(var)} entries: pass "
            f"one each per component."
        )
    if min(w) < 0 or abs(sum(w) - 1) > 1e-9 or min(var) < 0:
        raise ValueError(
            f"weights are {w} and variances {var}: both must not be negative, and the weights must "
            f"sum to 1."
        )
    components = [(a, b, c) for a, b, c in zip(w, mu, var, strict=True) if a > 0]

    def row(sigma: float) -> list[float]:
        t = sigma**2
        parts = [(math.log(a), b, c, c + t) for a, b, c in components]

        def integrands(x: Array) -> Array:
            xp = namespace(x)
            columns = [like([p[i] for p in parts], x)[:, None] for i in range(4)]
            log_weight, centre, variance, total = columns
            s = -(x - centre) / total
            logs = log_weight - 0.5 * ((x - centre) ** 2 / total + xp.log(2 * math.pi * total))
            top = xp.max(logs, axis=0)
            p = xp.exp(logs - top)
            mass = xp.sum(p, axis=0)
            p, density = p / mass, mass * xp.exp(top)
            score = xp.sum(p * s, axis=0)
            between = xp.sum(p * (s - score) ** 2, axis=0)
            H = between - xp.sum(p / total, axis=0)
            D = xp.sum(p * variance / total, axis=0) + t * between
            return density * xp.stack([score**2, H**2, D, D**2])

        J, R, d_eff, rate = integrate(integrands, _mixture_breaks(parts))
        return [J, R, t * d_eff, rate, d_eff]

    return _oracle(1, noise_levels, row)


def _mixture_breaks(parts: list[tuple[float, float, float, float]]) -> list[float]:
    """Panels at multiples of every component's width, and where two components weigh the same."""
    breaks = [b + k * math.sqrt(total) for _, b, _, total in parts for k in range(-14, 15, 2)]
    low, high = min(breaks), max(breaks)
    for i, (log_a, b, _, v) in enumerate(parts):
        for log_c, d, _, u in parts[:i]:
            # log a - (x - b)^2/2v - log(v)/2 = log c - (x - d)^2/2u - log(u)/2
            p, q = 1 / u - 1 / v, b / v - d / u
            r = 2 * (log_a - log_c) - b**2 / v + d**2 / u + math.log(u / v)
            inside = q**2 - p * r
            if inside < 0:
                continue
            far = -(q + math.copysign(math.sqrt(inside), q))
            roots = [r / far if far else math.nan, far / p if p else math.nan]
            breaks += [x for x in roots if low < x < high]
    return breaks


def circle_oracle(radius: float, noise_levels: Sequence[float]) -> Oracle:
    """Exact information quantities of the uniform law on a circle in the plane.

    Parameters
    ----------
    radius : float
        r, in units of X.
    noise_levels : sequence of float
        sigma, in units of X; exact to 1e-10 relative from 1e-3 r up.

    Returns
    -------
    Oracle

    Notes
    -----
    At distance rho from the centre the posterior of the angle is von Mises with x = rho r / t;
    with A = I_1(x) / I_0(x) the posterior mean is r A, and the posterior covariance r^2 A' along
    the radius and r^2 A / x across it. J = 1/t - 1/(2 r^2) + O(t) and R = 1/t^2 + 5/(4 r^4) + O(t)
    as t -> 0. Textbook identities; the framework is that of Gu et al., arXiv 2604.02751.

    Examples
    --------
    >>> oracle = circle_oracle(1.0, [0.01])
    >>> round(float(oracle.effective_dimension[0]), 3)
    1.0
    """
    return _shell_oracle(radius, noise_levels, 2, _von_mises)


def sphere_oracle(radius: float, noise_levels: Sequence[float]) -> Oracle:
    """Exact information quantities of the uniform law on a 2-sphere in three dimensions.

    Parameters
    ----------
    radius : float
        r, in units of X.
    noise_levels : sequence of float
        sigma, in units of X; exact to 1e-10 relative from 1e-3 r up.

    Returns
    -------
    Oracle

    Notes
    -----
    As for `circle_oracle`, with the density exp(-(rho^2 + r^2)/2t) sinh(x)/x up to a constant,
    A = coth x - 1/x, and two directions across the radius. Textbook identities; the framework is
    that of Gu et al., arXiv 2604.02751.

    Examples
    --------
    >>> oracle = sphere_oracle(1.0, [0.01])
    >>> round(float(oracle.effective_dimension[0]), 3)
    2.0
    """
    return _shell_oracle(radius, noise_levels, 3, _langevin)


def _shell_oracle(
    radius: float,
    noise_levels: Sequence[float],
    n: int,
    law: Callable[[Array], tuple[Array, Array, Array, Array]],
) -> Oracle:
    """Sphere of dimension n - 1: radial integrals in units of the radius, z = (rho - 1)/tau."""
    radius = as_sigma(radius, name="radius")

    def row(sigma: float) -> list[float]:
        tau = sigma / radius
        t = tau**2

        def integrands(z: Array) -> Array:
            xp = namespace(z)
            rho = 1 + tau * z
            density, B, V, across = law(rho / t)
            # the density of rho: n = 2 is Rice's law; z**2 carries the exponential
            density = density * (rho / tau) ** (n - 1) * xp.exp(-0.5 * z**2)
            score = -(tau * z + B) / t
            D = [V / t] + [across / t] * (n - 1)
            H = [(V / t - 1) / t] + [score / rho] * (n - 1)
            values = [score**2, _squares(H), sum(D), _squares(D)]
            return density * xp.stack(values)

        start = max(-14.0, -1 / tau)
        breaks = [start] + [z for z in map(float, range(-13, 15)) if z > start]
        J, R, d_eff, rate = integrate(integrands, breaks)
        return [J / radius**2, R / radius**4, sigma**2 * d_eff, rate, d_eff]

    return _oracle(n, noise_levels, row)


def _squares(values: list[Array]) -> Array:
    return sum(value**2 for value in values)


# With x = rho r / t, each law gives: the angular factor of the density of rho, scaled by exp(-x);
# B = 1 - A, A the mean cosine of the posterior; V = A', the variance of the cosine; and A / x,
# the variance along each direction across.


def _langevin(x: Array) -> tuple[Array, Array, Array, Array]:
    xp = namespace(x)
    # below 1/2 the terms of coth x - 1/x cancel: Bernoulli numbers, radius of convergence pi
    small = xp.where(x < 0.5, x, 0.5)
    A = V = xp.zeros_like(x)
    for k, c in enumerate(_LANGEVIN):
        A = A + c * small ** (2 * k)
        V = V + (2 * k + 1) * c * small ** (2 * k)
    large = xp.where(x < 0.5, 0.5, x)
    B = 1 / large - 2 * xp.exp(-2 * large) / -xp.expm1(-2 * large)
    csch = 2 * xp.exp(-large) / -xp.expm1(-2 * large)
    density = math.sqrt(2 / math.pi) * -xp.expm1(-2 * x) / (2 * x)
    return (
        density,
        xp.where(x < 0.5, 1 - small * A, B),
        xp.where(x < 0.5, V, 1 / large**2 - csch**2),
        xp.where(x < 0.5, A, (1 - B) / large),
    )


def _von_mises(x: Array) -> tuple[Array, Array, Array, Array]:
    xp = namespace(x)
    # above 50 the terms of 1 - A/x - A^2 cancel: B = sum b_k / x^k from Hankel's expansions of
    # the Bessel functions, and V = -B'
    u = 1 / xp.where(x > 50, x, 50.0)
    B = V = xp.zeros_like(x)
    for k, b in enumerate(_VON_MISES):
        B = B + b * u**k
        V = V + k * b * u ** (k + 1)
    near = xp.where(x > 50, 50.0, x)
    A = ive(1, near) / ive(0, near)
    return (
        ive(0, x),
        xp.where(x > 50, B, 1 - A),
        xp.where(x > 50, V, 1 - A / near - A**2),
        xp.where(x > 50, (1 - B) * u, A / near),
    )


def _langevin_series() -> list[float]:
    """Coefficients c_k of coth x - 1/x = sum c_k x^(2k+1).

    Compare powers of x in (coth x - 1/x) sinh x = cosh x - sinh(x)/x.
    """
    c: list[float] = []
    for k in range(16):
        right = 1 / math.factorial(2 * k + 2) - 1 / math.factorial(2 * k + 3)
        c.append(right - sum(c[j] / math.factorial(2 * (k - j) + 1) for j in range(k)))
    return c


def _von_mises_series() -> list[float]:
    """Coefficients b_k of 1 - I_1/I_0 in 1/x: Hankel's series of the two, divided."""
    series = []
    for order in (0, 1):
        c = [1.0]
        for k in range(1, 16):
            c.append(-c[-1] * (4 * order**2 - (2 * k - 1) ** 2) / (8 * k))
        series.append(c)
    below, above = series[0], [a - b for a, b in zip(*series, strict=True)]
    b: list[float] = []
    for k in range(16):
        b.append(above[k] - sum(b[j] * below[k - j] for j in range(k)))
    return b


_LANGEVIN = _langevin_series()
_VON_MISES = _von_mises_series()


def _oracle(n: int, noise_levels: Sequence[float], row: Callable[[float], list[float]]) -> Oracle:
    levels = [as_sigma(sigma, name="noise_levels") for sigma in noise_levels]
    J, R, mmse, rate, d_eff = zip(*(row(sigma) for sigma in levels), strict=True)
    columns = [to_numpy(list(column)) for column in (levels, J, R, mmse, rate, d_eff)]
    return Oracle(columns[0], n, *columns[1:])
