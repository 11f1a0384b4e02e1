"""Limits on distortion and curvature within which the rate is kept, and the gap they allow."""

from __future__ import annotations

import math
from dataclasses import dataclass

from skfisher._backend.arrays import Array, like

__all__ = [
    "Geometry",
    "check_dimension",
    "check_scale",
    "check_tolerance",
    "curvature_gap",
    "largest_curvature",
    "largest_distortion",
]

_DISTORTION = 4 / 27
_STRETCH = 8 / 27
"""Largest change of (lambda / (lambda + t))^2 per unit of log lambda: 2 p^2 (1 - p) at p = 2/3."""

_SECOND_ORDER = 6.0
"""Of the gap by curvature, in units of its first order times t / reach^2: circles and cylinders
reach 5.8 of it below `_REGIME`, ellipses less, as their reach is that of the sharpest turn."""

_REGIME = 0.1
"""Largest t / reach^2 at which the first order in t says anything."""


def curvature_gap(
    noise_levels: Array,
    *,
    intrinsic_dimension: int,
    data_curvature: float,
    latent_curvature: float,
    c: float = 1.0,
) -> Array:
    """Gap (rate_Z(c^2 t) - rate_X(t)) / k that curvature makes, to first order in t.

    Parameters
    ----------
    noise_levels : array of shape (T,)
        sigma in the data.
    intrinsic_dimension : int
        k.
    data_curvature, latent_curvature : float
        E |II(u,u)|^2 over the data and over unit tangents u, of the data (1/x^2) and of its image
        in the latent (1/z^2).
    c : float
        Scale of the encoder, in z/x.

    Returns
    -------
    array of shape (T,)
        Without unit. For local isometries up to the scale c, smooth densities and noise far below
        the radius of curvature: t (k + 2)/3 (c^2 kappa_Z - kappa_X).

    Notes
    -----
    Derived in the documentation of `skfisher.preservation`; exact to first order for circles,
    cylinders and products of them. After the account of curvature of Gu et al., arXiv 2604.02751.

    Examples
    --------
    >>> import numpy as np
    >>> curvature_gap(np.asarray([0.1]), intrinsic_dimension=2,  # a cylinder of radius 1, unrolled
    ...               data_curvature=3 / 8, latent_curvature=0.0).round(6)
    array([-0.005])
    """
    k = check_dimension(intrinsic_dimension)
    check_scale(c)
    return noise_levels**2 * ((k + 2) / 3 * (c**2 * latent_curvature - data_curvature))


def largest_distortion(epsilon: float, *, lost_share: float = 0.0) -> float:
    """Largest tangential distortion that keeps the gap within a tolerance.

    Parameters
    ----------
    epsilon : float
        Tolerance on |rate_Z(c^2 t) - rate_X(t)| / k, positive.
    lost_share : float
        1 - r/k, the share of the data's directions that the latent loses.

    Returns
    -------
    float
        (27 (epsilon - lost) / (4 (1 - lost)))^2 at every noise level; NaN where the lost directions
        alone may exceed the tolerance. Proved for affine maps of Gaussians, a model for others.

    Raises
    ------
    ValueError
        Tolerance or share out of range.

    Notes
    -----
    Derived in the documentation of `skfisher.preservation`. Sufficient and, as epsilon -> 0,
    necessary for every covariance at once; a given covariance may bear more.

    Examples
    --------
    >>> round(largest_distortion(0.05), 4)
    0.1139
    """
    check_tolerance(epsilon)
    if not 0 <= lost_share < 1:
        raise ValueError(
            f"lost_share is {lost_share}: pass the share 1 - rank / k, from 0 below 1."
        )
    room = epsilon - lost_share
    return (room / ((1 - lost_share) * _DISTORTION)) ** 2 if room >= 0 else math.nan


def largest_curvature(
    epsilon: float,
    noise_levels: Array,
    *,
    intrinsic_dimension: int,
    reach: float = math.nan,
) -> Array:
    """Largest difference of curvatures |c^2 kappa_Z - kappa_X| that keeps the gap within epsilon.

    Parameters
    ----------
    epsilon : float
        Tolerance on |rate_Z(c^2 t) - rate_X(t)| / k, positive.
    noise_levels : array of shape (T,)
        sigma in the data.
    intrinsic_dimension : int
        k.
    reach : float
        Of the data, in x; NaN where it is not known.

    Returns
    -------
    array of shape (T,)
        In 1/x^2, where one of the two is flat. A model: first order in t with room for the second.
        NaN for a reach below sqrt(10) sigma; without a reach, curvature is taken to be even, and
        what is returned is never more than the model was calibrated for.

    Raises
    ------
    ValueError
        Tolerance or dimension out of range.

    Examples
    --------
    >>> import numpy as np
    >>> largest_curvature(0.05, np.asarray([0.1, 0.2]), intrinsic_dimension=1).round(2)
    array([4.03, 1.01])
    """
    check_tolerance(epsilon)
    k = check_dimension(intrinsic_dimension)
    return like(
        [_curvature_limit(epsilon, float(s) ** 2, k, reach) for s in noise_levels], noise_levels
    )


@dataclass(frozen=True)
class Geometry:
    """What is known of the encoder, each number as an interval that its error leaves."""

    k: int
    rank: int
    c: float
    distortion: float
    m: float
    L: float
    data_curvature: tuple[float, float]
    latent_curvature: tuple[float, float]
    reach: float
    rigid: bool
    flat: bool

    def gap(self, t: float, data_rate: float) -> tuple[float, float, str]:
        """Least and largest gap at noise t, and what is missing where they say nothing."""
        if self.rigid:
            return 0.0, 0.0, ""
        low, high = self._stretch()
        lost = 1.0 - self.rank / self.k
        bent_low, bent_high, why = self._bend(t)
        low, high = low - lost + bent_low, high + bent_high
        if self.flat and not math.isnan(data_rate):
            # the rate of a Gaussian lies between 0 and its rank
            low, high = max(low, -data_rate / self.k), min(high, (self.rank - data_rate) / self.k)
        if not why and math.isinf(high - low):
            why = "the tangential distortion is not known, nor both constants m and L"
        return low, high, why

    def _stretch(self) -> tuple[float, float]:
        """Least and largest gap that unequal singular values can make."""
        below = above = math.inf
        if not math.isnan(self.distortion):
            below = above = self.rank / self.k * _DISTORTION * math.sqrt(self.distortion)
        if self.rank == self.k and self.m > 0:
            below = min(below, _STRETCH * max(0.0, 2 * math.log(self.c / self.m)))
        if math.isfinite(self.L):
            above = min(above, _STRETCH * max(0.0, 2 * math.log(self.L / self.c)))
        return -below, above

    def _bend(self, t: float) -> tuple[float, float, str]:
        """Least and largest gap that curvature makes at noise t, and why it cannot be said."""
        if self.flat:
            return 0.0, 0.0, ""
        x_low, x_high = self.data_curvature
        z_low, z_high = (self.c**2 * kappa for kappa in self.latent_curvature)
        if math.isnan(x_high + z_high):
            return math.nan, math.nan, "the curvature of the data or of the latent is not known"
        factor = t * (self.k + 2) / 3
        size = factor * (x_high + z_high)
        # the reach is the data's; the latent's bending is taken to be even
        order = max(_order(t, size, self.k, self.reach), self.k * factor * z_high)
        if order > _REGIME:
            why = (
                f"sigma is {math.sqrt(order):.2g} of the radius of curvature, and beyond "
                f"{math.sqrt(_REGIME):.2g} the first order in t is no guide"
            )
            return math.nan, math.nan, why
        band = _SECOND_ORDER * size * order
        return factor * (z_low - x_high) - band, factor * (z_high - x_low) + band, ""


def _order(t: float, size: float, k: int, reach: float) -> float:
    """The noise in units of reach^2; without a reach, curvature is even, and along one line."""
    return k * size if math.isnan(reach) else t / reach**2


def _curvature_limit(epsilon: float, t: float, k: int, reach: float) -> float:
    """Largest curvature whose first order y, with its second, is within epsilon at noise t."""
    if math.isnan(reach):
        # y + _SECOND_ORDER k y^2 = epsilon
        a = _SECOND_ORDER * k
        y = min((math.sqrt(1 + 4 * a * epsilon) - 1) / (2 * a), _REGIME / k)
    else:
        order = t / reach**2
        y = epsilon / (1 + _SECOND_ORDER * order) if order <= _REGIME else math.nan
    return 3 * y / ((k + 2) * t)


def check_tolerance(epsilon: float) -> None:
    """Refuse a tolerance that is not positive."""
    if not (math.isfinite(epsilon) and epsilon > 0):
        raise ValueError(
            f"epsilon is {epsilon}: pass a positive tolerance on the gap of the rates per "
            f"dimension, such as 0.05."
        )


def check_scale(c: float) -> float:
    """The scale as a float; refused where it is not positive."""
    c = float(c)
    if not (math.isfinite(c) and c > 0):
        raise ValueError(f"c is {c}: the scale of an encoder is finite and positive.")
    return c


def check_dimension(k: int) -> int:
    """The dimension as an int; refused below 1."""
    if int(k) < 1:
        raise ValueError(f"intrinsic_dimension is {k}: pass 1 or more.")
    return int(k)
