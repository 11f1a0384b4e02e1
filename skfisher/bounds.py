"""Inequalities between the curves of data and latent, each with hypotheses, slack and verdict.

A latent at noise t is compared with the data at t / m^2 and t / L^2, where m and L are the
bi-Lipschitz constants of the encoder. Every quantity is put together from d_eff = n - tJ and the
MMSE rate, which are free of the dimension n of the space they are measured in: with k the dimension
of the *data's* affine hull, in both spaces,

    J'(t) = J - (n - k)/t = (k - d_eff)/t,    R'(t) = R - (n - k)/t^2 = (rate - 2 d_eff + k)/t^2,

so nothing cancels against (n - k)/t. Substituting, each side of the tight form is the data's own
d_eff and rate written at the latent's t, and the wide form is the tight one with its two sides
exchanged and stretched by L^2 / m^2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from skfisher._backend.arrays import Array, like, namespace
from skfisher.curves import InformationCurve

__all__ = [
    "Sandwich",
    "fisher_sandwich",
    "information_sandwich",
    "isometry_identity",
    "sandwich_levels",
]

QUANTITIES = ("fisher_information", "fisher_information_rate", "mmse", "mmse_rate")
_RISING = ("mmse", "mmse_rate")
"""Quantities that rise with the posterior covariance, where J' and R' fall."""

_ROUNDING = 1e-9
"""Share of both sides' units by which an inequality may fail in floating point."""


@dataclass(frozen=True, eq=False)
class Sandwich:
    """lower <= value <= upper at every noise level of the latent, and what it rests on.

    Attributes
    ----------
    quantity : str
        "fisher_information" (J' = J - (n - k)/t, 1/z^2), "fisher_information_rate" (R', 1/z^4),
        "mmse" (z^2), "mmse_rate" (no unit) or "mutual_information" (nats).
    kind : str
        "wide", "tight", "isometry" or "information".
    status : str
        "proved" where every hypothesis of a theorem is met, otherwise "diagnostic".
    noise_levels : array of shape (T,)
        sigma in the latent.
    lower, value, upper : array of shape (T,)
        Value of the latent between two values from the data. -inf or inf where nothing is claimed.
    lower_stderr, value_stderr, upper_stderr : array of shape (T,)
    slack_lower, slack_upper : array of shape (T,)
        (value - lower) / |value| and (upper - value) / |value|; negative where violated.
    verdict : tuple of str
        Per level: "holds" (beyond error), "violated" (beyond error), "within error", or "unknown"
        (a curve that is not valid there, or no side that claims anything).
    holds : bool array of shape (T,)
        Where the verdict is "holds" or "within error": not refuted.
    hypotheses : tuple of str
        Each with ": met" or ": not established".
    """

    quantity: str
    kind: str
    status: str
    noise_levels: Array
    lower: Array
    value: Array
    upper: Array
    lower_stderr: Array
    value_stderr: Array
    upper_stderr: Array
    slack_lower: Array
    slack_upper: Array
    verdict: tuple[str, ...]
    holds: Array
    hypotheses: tuple[str, ...]

    def __repr__(self) -> str:
        counts = {word: self.verdict.count(word) for word in dict.fromkeys(self.verdict)}
        tally = ", ".join(f"{word} {count}" for word, count in counts.items())
        return f"Sandwich({self.quantity}, {self.kind}, {self.status}: {tally})"


@dataclass(frozen=True, eq=False)
class _Reading:
    """One quantity of one curve: value, standard error, ends that its bracket allows, validity.

    `unit` is the size of the terms that the value is the difference of, and so of its rounding.
    """

    value: Array
    stderr: Array
    low: Array
    high: Array
    unit: Array
    valid: Array

    def times(self, factor: float) -> _Reading:
        return _Reading(
            factor * self.value,
            factor * self.stderr,
            factor * self.low,
            factor * self.high,
            factor * self.unit,
            self.valid,
        )


def sandwich_levels(noise_levels: Array, m: float, L: float) -> tuple[Array | None, Array]:
    """Noise levels of the data that a sandwich needs beside those of the latent.

    Parameters
    ----------
    noise_levels : array of shape (T,)
        sigma in the latent, in units of Z.
    m, L : float
        Bi-Lipschitz constants of the encoder, 0 <= m <= L, L positive and finite.

    Returns
    -------
    over_m : array of shape (T,) or None
        sigma / m, in units of X; None for m = 0, where no finite noise belongs to that side.
    over_L : array of shape (T,)
        sigma / L.

    Raises
    ------
    ValueError
        Constants out of range.

    Examples
    --------
    >>> import numpy as np
    >>> sandwich_levels(np.asarray([1.0, 2.0]), 0.5, 2.0)
    (array([2., 4.]), array([0.5, 1. ]))
    """
    _check_constants(m, L)
    return (noise_levels / m if m > 0 else None), noise_levels / L


def fisher_sandwich(
    latent: InformationCurve,
    data_over_m: InformationCurve | None,
    data_over_L: InformationCurve,
    *,
    m: float,
    L: float,
    rank: int,
    quantity: str = "fisher_information",
    kind: str = "wide",
    linear: bool = False,
    gaussian: bool = False,
    exact_constants: bool = False,
    n_stderr: float = 3.0,
) -> Sandwich:
    """Bounds on a latent's Fisher information, its rate, its MMSE or its MMSE rate from the data.

    Parameters
    ----------
    latent : InformationCurve
        Of Z, at sigma.
    data_over_m, data_over_L : InformationCurve
        Of X, at sigma / m and sigma / L (`sandwich_levels`); `data_over_m` is None for m = 0.
    m, L : float
        Bi-Lipschitz constants of the encoder, in z/x.
    rank : int
        k, the dimension of the data's affine hull, used in both spaces (also where the encoder
        loses directions: those count as d_eff 0).
    quantity : {"fisher_information", "fisher_information_rate", "mmse", "mmse_rate"}
    kind : {"wide", "tight"}
        "wide", for J and MMSE: proved for affine encoders of any data. "tight", for all four:
        proved for affine encoders of Gaussian data and for scaled rigid maps of any data, and
        false for mixtures in general.
    linear, gaussian, exact_constants : bool
        Which hypotheses are met: the encoder is affine on the data; X is Gaussian; m and L hold
        for all pairs of the support. They decide the status only.
    n_stderr : float
        Standard errors of the difference that count as beyond error. The errors of the two curves
        are added as if independent; common samples make that conservative. Where a curve brackets
        J, the verdict allows every J between the ends of the bracket as well.

    Returns
    -------
    Sandwich
        Its status is "diagnostic" for every non-linear encoder that is not a scaled rigid map:
        there the pointwise sandwich is no theorem.

    Raises
    ------
    ValueError
        Constants, rank, quantity or kind out of range; curves at other noise levels than needed.

    Notes
    -----
    Wide: L^-2 J'_X(t/m^2) <= J'_Z(t) <= m^-2 J'_X(t/L^2) and
    m^2 mmse_X(t/L^2) <= mmse_Z(t) <= L^2 mmse_X(t/m^2). Tight: L^-2 J'_X(t/L^2) <= J'_Z(t)
    <= m^-2 J'_X(t/m^2), m^2 mmse_X(t/m^2) <= mmse_Z(t) <= L^2 mmse_X(t/L^2) (one statement: d_eff
    between those of the data), rate_X(t/m^2) <= rate_Z(t) <= rate_X(t/L^2), and L^-4 R'_X(t/L^2)
    <= R'_Z(t) <= m^-4 R'_X(t/m^2). See the theory page of the documentation; after Gu et al.,
    arXiv 2604.02751. For m = 0 the tight form keeps the side with L, and the wide form claims
    nothing.

    Examples
    --------
    >>> import numpy as np
    >>> from skfisher.curves import gaussian_curve
    >>> sigma = np.asarray([0.5, 1.0])
    >>> A = np.diag([1.0, 2.0])
    >>> latent = gaussian_curve(A @ np.diag([3.0, 1.0]) @ A.T, sigma)
    >>> data = [gaussian_curve(np.diag([3.0, 1.0]), s) for s in sandwich_levels(sigma, 1.0, 2.0)]
    >>> fisher_sandwich(latent, *data, m=1.0, L=2.0, rank=2, kind="tight",
    ...                 linear=True, gaussian=True, exact_constants=True)
    Sandwich(fisher_information, tight, proved: holds 2)
    """
    _check_constants(m, L)
    _check_choice("quantity", quantity, QUANTITIES)
    _check_choice("kind", kind, ("wide", "tight"))
    if kind == "wide" and quantity in ("fisher_information_rate", "mmse_rate"):
        raise ValueError(
            f"quantity is {quantity!r}, for which no wide form is known: pass kind='tight', or "
            f"quantity='fisher_information' or 'mmse'."
        )
    rank = int(rank)
    if not 1 <= rank <= data_over_L.n_features:
        raise ValueError(
            f"rank is {rank}, but the data has {data_over_L.n_features} features: pass the "
            f"dimension of its affine hull."
        )
    data_over_m = _check_levels(latent, data_over_m, data_over_L, m, L)
    t = latent.noise_levels**2
    value = _reading(latent, quantity, rank, t)
    at_L: _Reading | None = _reading(data_over_L, quantity, rank, t)
    at_m = None if data_over_m is None else _reading(data_over_m, quantity, rank, t)
    lower, upper = (at_m, at_L) if quantity in _RISING else (at_L, at_m)
    if kind == "wide":
        lower, upper = upper, lower
        if at_m is None:
            lower = upper = None
        else:
            stretch = (L / m) ** 2
            lower = None if lower is None else lower.times(1 / stretch)
            upper = None if upper is None else upper.times(stretch)
    rigid = exact_constants and math.isclose(m, L, rel_tol=1e-8)
    hypotheses = [
        _hypothesis("m and L hold for all pairs of the support", exact_constants),
        _hypothesis("the encoder is affine on the data", linear),
    ]
    if kind == "wide":
        hypotheses.append(_hypothesis("the encoder loses no direction (m > 0)", m > 0))
        theorem = linear and m > 0
    else:
        hypotheses.append(_hypothesis("the data is Gaussian", gaussian))
        theorem = linear and gaussian
    if rigid:
        hypotheses.append(_hypothesis("the encoder is a scaled rigid map (m = L)", True))
    return _judge(
        quantity,
        kind,
        "proved" if exact_constants and (theorem or rigid) else "diagnostic",
        latent.noise_levels,
        lower,
        value,
        upper,
        tuple(hypotheses),
        n_stderr,
    )


def information_sandwich(
    latent: InformationCurve,
    data_over_m: InformationCurve | None,
    data_over_L: InformationCurve,
    *,
    m: float,
    L: float,
    exact_constants: bool = False,
    n_stderr: float = 3.0,
) -> Sandwich:
    """Bounds on a latent's mutual information: I_X(t/m^2) <= I_Z(t) <= I_X(t/L^2).

    Parameters
    ----------
    latent : InformationCurve
        Of Z, at sigma.
    data_over_m, data_over_L : InformationCurve
        Of X, at sigma / m and sigma / L (`sandwich_levels`); `data_over_m` is None for m = 0.
    m, L : float
        Bi-Lipschitz constants of the encoder, in z/x.
    exact_constants : bool
        Whether m and L hold for all pairs of the support, chords included. Singular values on
        tangents and ratios of sampled pairs do not.
    n_stderr : float
        As in `fisher_sandwich`.

    Returns
    -------
    Sandwich
        Proved for every encoder and every X where the constants are exact.

    Raises
    ------
    ValueError
        Constants out of range; curves at other noise levels than needed.

    Notes
    -----
    The Kneser-Poulsen property of Gaussian noise: Aishwarya and Li, arXiv 2409.03664. Without m
    (m = 0) the right side remains.

    Examples
    --------
    >>> import numpy as np
    >>> from skfisher.curves import gaussian_curve
    >>> sigma = np.asarray([1.0])
    >>> latent = gaussian_curve(np.diag([1.0, 4.0]), sigma)
    >>> data = [gaussian_curve(np.eye(2), s) for s in sandwich_levels(sigma, 1.0, 2.0)]
    >>> information_sandwich(latent, *data, m=1.0, L=2.0, exact_constants=True)
    Sandwich(mutual_information, information, proved: holds 1)
    """
    _check_constants(m, L)
    data_over_m = _check_levels(latent, data_over_m, data_over_L, m, L)
    return _judge(
        "mutual_information",
        "information",
        "proved" if exact_constants else "diagnostic",
        latent.noise_levels,
        None if data_over_m is None else _information(data_over_m),
        _information(latent),
        _information(data_over_L),
        (_hypothesis("m and L hold for all pairs of the support", exact_constants),),
        n_stderr,
    )


def isometry_identity(
    latent: InformationCurve,
    data: InformationCurve,
    *,
    c: float,
    quantity: str = "mmse_rate",
    rigid: bool = False,
    n_stderr: float = 3.0,
) -> Sandwich:
    """Compare a latent at c^2 t with what an isometry up to the scale c makes of the data at t.

    Parameters
    ----------
    latent, data : InformationCurve
        Of Z at c sigma and of X at sigma.
    c : float
        Scale of the encoder, in z/x.
    quantity : {"fisher_information", "fisher_information_rate", "mmse", "mmse_rate"}
        J and R are those of the latent in its own d dimensions, with the term of dimensional
        compression: c^2 J_Z(c^2 t) = J_X(t) + (d - D)/t, c^4 R_Z(c^2 t) = R_X(t) + (d - D)/t^2.
        MMSE and its rate carry no such term: mmse_Z(c^2 t) = c^2 mmse_X(t), equal rates.
    rigid : bool
        Whether |f(x) - f(x')| = c |x - x'| is established for all pairs of the support. A local
        isometry is not enough.
    n_stderr : float
        As in `fisher_sandwich`.

    Returns
    -------
    Sandwich
        With lower = upper, the value that an isometry gives. "violated" at a level says that the
        encoder is none.

    Raises
    ------
    ValueError
        Scale or quantity out of range; curves at other noise levels than needed.

    Notes
    -----
    Proved for all data on the theory page of the documentation.

    Examples
    --------
    >>> import numpy as np
    >>> from skfisher.curves import gaussian_curve
    >>> sigma = np.asarray([0.5, 1.0])
    >>> flat = np.diag([3.0, 1.0, 0.0])  # a plane in space, and its own two coordinates times 2
    >>> data, latent = gaussian_curve(flat, sigma), gaussian_curve(4 * flat[:2, :2], 2 * sigma)
    >>> isometry_identity(latent, data, c=2.0, quantity="fisher_information", rigid=True)
    Sandwich(fisher_information, isometry, proved: holds 2)
    """
    c = float(c)
    if not (math.isfinite(c) and c > 0):
        raise ValueError(f"c is {c}: the scale of an encoder is finite and positive.")
    _check_choice("quantity", quantity, QUANTITIES)
    _check_same("data", data, latent.noise_levels / c, f"sigma / c with c = {c:g}")
    t, d = latent.noise_levels**2, latent.n_features
    expected = _reading(data, quantity, d, t)
    return _judge(
        quantity,
        "isometry",
        "proved" if rigid else "diagnostic",
        latent.noise_levels,
        expected,
        _reading(latent, quantity, d, t),
        expected,
        (_hypothesis("the encoder scales the distance of all pairs by c", rigid),),
        n_stderr,
    )


def _reading(curve: InformationCurve, quantity: str, k: int, t: Array) -> _Reading:
    """One quantity from the curve's d_eff and rate, written at the latent's noise t.

    With t_c the curve's own noise, L^-2 J'(t_c) at t_c = t/L^2 is (k - d_eff)/t, m^2 mmse(t/m^2)
    is t d_eff, and R' likewise: the constants are gone.
    """
    own_t = curve.noise_levels**2
    d_eff, rate, valid = curve.effective_dimension, curve.mmse_rate, curve.valid
    if quantity == "mmse_rate":
        return _Reading(rate, curve.mmse_rate_stderr, rate, rate, rate, valid)
    if quantity == "fisher_information_rate":
        value = (rate - 2 * d_eff + k) / t**2
        stderr = (own_t / t) ** 2 * curve.fisher_information_rate_stderr
        return _Reading(value, stderr, value, value, k / t**2, valid)
    J, ends = curve.fisher_information, curve.fisher_information_bounds
    down, up = _shift(J, ends[:, 0], -1), _shift(J, ends[:, 1], 1)
    if quantity == "fisher_information":
        value, factor, unit = (k - d_eff) / t, own_t / t, k / t
        stderr = curve.effective_dimension_stderr / t
    else:
        value, factor, unit = t * d_eff, own_t * t, t * d_eff
        stderr = curve.effective_dimension_stderr * t
        down, up = up, down
    return _Reading(value, stderr, value - factor * down, value + factor * up, unit, valid)


def _information(curve: InformationCurve) -> _Reading:
    value, ends = curve.mutual_information, curve.mutual_information_bounds
    low, high = value - _shift(value, ends[:, 0], -1), value + _shift(value, ends[:, 1], 1)
    return _Reading(value, curve.mutual_information_stderr, low, high, value, curve.valid)


def _shift(value: Array, end: Array, sign: int) -> Array:
    """How far an end of a bracket lies beyond the value; 0 where it lies inside or is NaN."""
    xp = namespace(value)
    beyond = sign * (end - value)
    return xp.where(beyond > 0, beyond, xp.zeros_like(value))


def _judge(
    quantity: str,
    kind: str,
    status: str,
    noise_levels: Array,
    lower: _Reading | None,
    value: _Reading,
    upper: _Reading | None,
    hypotheses: tuple[str, ...],
    n_stderr: float,
) -> Sandwich:
    sides = [
        _side(low, high, n_stderr)
        for low, high in ((lower, value), (value, upper))
        if low is not None and high is not None
    ]
    words = ("violated", "unknown", "within error", "holds")
    verdict = tuple(
        min((side[i] for side in sides), key=words.index, default="unknown")
        for i in range(noise_levels.shape[0])
    )
    xp = namespace(noise_levels)
    zero, free = xp.zeros_like(value.value), xp.full_like(value.value, math.inf)
    below, above = -free if lower is None else lower.value, free if upper is None else upper.value
    size = xp.abs(value.value)
    size = xp.where(size > 0, size, xp.full_like(size, math.nan))
    holds = like([float(word in ("holds", "within error")) for word in verdict], value.value) > 0
    return Sandwich(
        quantity=quantity,
        kind=kind,
        status=status,
        noise_levels=noise_levels,
        lower=below,
        value=value.value,
        upper=above,
        lower_stderr=zero if lower is None else lower.stderr,
        value_stderr=value.stderr,
        upper_stderr=zero if upper is None else upper.stderr,
        slack_lower=(value.value - below) / size,
        slack_upper=(above - value.value) / size,
        verdict=verdict,
        holds=holds,
        hypotheses=hypotheses,
    )


def _side(low: _Reading, high: _Reading, n_stderr: float) -> list[str]:
    """Verdict on low <= high per level, by the worst and the best that the brackets allow."""
    xp = namespace(low.value)
    stderr = xp.sqrt(low.stderr**2 + high.stderr**2)
    share = max(_ROUNDING, 100 * float(xp.finfo(stderr.dtype).eps))
    rounding = share * (xp.abs(low.unit) + xp.abs(high.unit))
    worst = high.low - low.high - n_stderr * stderr + rounding
    best = high.high - low.low + n_stderr * stderr + rounding
    words = []
    for i in range(stderr.shape[0]):
        if not (bool(low.valid[i]) and bool(high.valid[i])):
            words.append("unknown")
        elif float(best[i]) < 0:
            words.append("violated")
        elif float(worst[i]) >= 0:
            words.append("holds")
        else:
            words.append("within error" if float(best[i]) >= 0 else "unknown")
    return words


def _hypothesis(statement: str, met: bool) -> str:
    return f"{statement}: {'met' if met else 'not established'}"


def _check_constants(m: float, L: float) -> None:
    if not (math.isfinite(L) and L > 0 and 0 <= m <= L):
        raise ValueError(
            f"m is {m} and L is {L}: bi-Lipschitz constants satisfy 0 <= m <= L with L positive "
            f"and finite (L is 0 for a constant latent, infinite where Z is no function of X)."
        )


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} is {value!r}: pass one of {', '.join(map(repr, choices))}.")


def _check_levels(
    latent: InformationCurve,
    data_over_m: InformationCurve | None,
    data_over_L: InformationCurve,
    m: float,
    L: float,
) -> InformationCurve | None:
    """The data's curve at sigma / m, or None for m = 0, where none is needed."""
    over_m, over_L = sandwich_levels(latent.noise_levels, m, L)
    _check_same("data_over_L", data_over_L, over_L, f"sigma / L with L = {L:g}")
    if over_m is None:
        return None
    if data_over_m is None:
        raise ValueError(
            f"data_over_m is None, but m = {m:g} is positive: pass the data's curve at the first "
            f"levels of sandwich_levels(latent.noise_levels, m, L)."
        )
    _check_same("data_over_m", data_over_m, over_m, f"sigma / m with m = {m:g}")
    return data_over_m


def _check_same(name: str, curve: InformationCurve, levels: Array, rule: str) -> None:
    xp = namespace(levels)
    found = curve.noise_levels
    rtol = max(1e-9, 100 * float(xp.finfo(levels.dtype).eps))
    if found.shape != levels.shape or bool(xp.any(xp.abs(found - levels) > rtol * levels)):
        raise ValueError(
            f"{name} has {found.shape[0]} noise levels from {float(found[0]):g} to "
            f"{float(found[-1]):g}, but {rule} runs over {levels.shape[0]} levels from "
            f"{float(levels[0]):g} to {float(levels[-1]):g}: compute the curve at these levels."
        )
