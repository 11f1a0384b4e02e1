"""The sandwiches themselves: which side of the data's curve bounds which of the latent's."""

from __future__ import annotations

import math
from collections.abc import Mapping

from skfisher._backend.arrays import Array, namespace
from skfisher.bounds.verdicts import Hypothesis, Reading, Sandwich, information, judge, reading
from skfisher.curves import InformationCurve

__all__ = [
    "QUANTITIES",
    "fisher_sandwich",
    "information_sandwich",
    "isometry_identity",
    "sandwich_levels",
]

QUANTITIES = ("fisher_information", "fisher_information_rate", "mmse", "mmse_rate")
_RISING = ("mmse", "mmse_rate")
"""Quantities that rise with the posterior covariance, where J' and R' fall."""

_STATEMENTS = {
    "exact_constants": "m and L hold for all pairs of the support",
    "linear": "the encoder is affine on the data",
    "gaussian": "the data is Gaussian",
    "rigid": "the encoder scales the distance of all pairs by c",
}


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
    evidence: Mapping[str, str] | None = None,
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
    evidence : mapping of str to str, optional
        For any of these three names, how it was found; otherwise it stands on the caller's word.
    n_stderr : float
        Standard errors of the difference that count as beyond error. The errors of the two curves
        are added as if independent; common samples make that conservative. Where a curve brackets
        J, the verdict allows every J between the ends of the bracket as well.

    Returns
    -------
    Sandwich
        Its status is "diagnostic" for every non-linear encoder that is not a scaled rigid map:
        there the pointwise sandwich is no theorem, and smooth maps of a Gaussian break both forms.

    Raises
    ------
    ValueError
        Constants, rank, quantity, kind or evidence out of range; curves at other noise levels than
        needed.

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
    value = reading(latent, quantity, rank, t)
    at_L: Reading | None = reading(data_over_L, quantity, rank, t)
    at_m = None if data_over_m is None else reading(data_over_m, quantity, rank, t)
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
    asked = ("exact_constants", "linear") + (("gaussian",) if kind == "tight" else ())
    facts = {"exact_constants": exact_constants, "linear": linear, "gaussian": gaussian}
    checks = _checks({name: facts[name] for name in asked}, evidence, (*facts,))
    if kind == "wide":
        statement = "the encoder loses no direction (m > 0)"
        checks.append(Hypothesis(statement, m > 0, f"m = {m:.6g}"))
    theorem = all(check.met for check in checks)
    if rigid:
        statement = "the encoder is a scaled rigid map (m = L)"
        checks.append(Hypothesis(statement, True, f"m = {m:.9g} and L = {L:.9g} agree to 1e-8"))
    if rigid:
        words = "scaled rigid maps of any data"
    elif kind == "wide":
        words = "affine injective encoders of any data"
    else:
        words = "affine encoders of Gaussian data"
    proved = theorem or rigid
    return judge(
        quantity,
        kind,
        "proved" if proved else "diagnostic",
        latent.noise_levels,
        lower,
        value,
        upper,
        tuple(checks),
        f"proved for {words}" if proved else f"a theorem for {words} only",
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
    evidence: Mapping[str, str] | None = None,
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
    evidence, n_stderr
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
    return judge(
        "mutual_information",
        "information",
        "proved" if exact_constants else "diagnostic",
        latent.noise_levels,
        None if data_over_m is None else information(data_over_m),
        information(latent),
        information(data_over_L),
        tuple(_checks({"exact_constants": exact_constants}, evidence)),
        "proved for every encoder of any data with constants for all pairs",
        n_stderr,
    )


def isometry_identity(
    latent: InformationCurve,
    data: InformationCurve,
    *,
    c: float,
    quantity: str = "mmse_rate",
    rigid: bool = False,
    evidence: Mapping[str, str] | None = None,
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
    evidence, n_stderr
        As in `fisher_sandwich`, with the name "rigid".

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
    expected = reading(data, quantity, d, t)
    return judge(
        quantity,
        "isometry",
        "proved" if rigid else "diagnostic",
        latent.noise_levels,
        expected,
        reading(latent, quantity, d, t),
        expected,
        tuple(_checks({"rigid": rigid}, evidence)),
        "proved for scaled rigid maps of any data",
        n_stderr,
    )


def _checks(
    facts: Mapping[str, bool], evidence: Mapping[str, str] | None, known: tuple[str, ...] = ()
) -> list[Hypothesis]:
    """The hypotheses with how each was found; `known` may be told of without being asked for."""
    evidence = evidence or {}
    for name in evidence:
        _check_choice("evidence", name, known or (*facts,))
    word = {True: "on the caller's word", False: "nothing was said of it"}
    return [
        Hypothesis(_STATEMENTS[name], bool(met), evidence.get(name, word[bool(met)]))
        for name, met in facts.items()
    ]


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
