"""What a sandwich is made of: readings of curves, hypotheses, and the verdict on an inequality."""

from __future__ import annotations

import math
from dataclasses import dataclass

from skfisher._backend.arrays import Array, like, namespace
from skfisher.curves import InformationCurve

__all__ = ["Hypothesis", "Reading", "Sandwich", "information", "judge", "reading"]

_ROUNDING = 1e-9
"""Share of both sides' units by which an inequality may fail in floating point."""


@dataclass(frozen=True)
class Hypothesis:
    """One thing that a theorem asks for.

    Attributes
    ----------
    statement : str
    met : bool
        Whether it is established.
    evidence : str
        How that was found: by a test on the data, by arithmetic, or on the caller's word.
    """

    statement: str
    met: bool
    evidence: str

    def __str__(self) -> str:
        return f"{self.statement}: {'met' if self.met else 'not established'}"


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
    checks : tuple of Hypothesis
        What the theorem asks for, which of it is met, and how that was found.
    theorem : str
        The theorem that proves the inequality, or why there is none to prove it here.
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
    checks: tuple[Hypothesis, ...]
    theorem: str

    @property
    def hypotheses(self) -> tuple[str, ...]:
        """The checks in words, each with ": met" or ": not established"."""
        return tuple(str(check) for check in self.checks)

    @property
    def least_slack(self) -> float:
        """Smallest slack of both sides over the levels with a verdict; NaN where there is none."""
        slacks = [
            float(side[i])
            for side in (self.slack_lower, self.slack_upper)
            for i, word in enumerate(self.verdict)
            if word != "unknown" and math.isfinite(float(side[i]))
        ]
        return min(slacks, default=math.nan)

    def __repr__(self) -> str:
        counts = {word: self.verdict.count(word) for word in dict.fromkeys(self.verdict)}
        tally = ", ".join(f"{word} {count}" for word, count in counts.items())
        return f"Sandwich({self.quantity}, {self.kind}, {self.status}: {tally})"


@dataclass(frozen=True, eq=False)
class Reading:
    """One quantity of one curve, as one side of an inequality.

    Attributes
    ----------
    value, stderr : array of shape (T,)
    low, high : array of shape (T,)
        Ends that the curve's bracket allows.
    unit : array of shape (T,)
        Size of the terms that the value is the difference of, and so of its rounding.
    valid : bool array of shape (T,)
    """

    value: Array
    stderr: Array
    low: Array
    high: Array
    unit: Array
    valid: Array

    def times(self, factor: float) -> Reading:
        """The same quantity in another unit."""
        return Reading(
            factor * self.value,
            factor * self.stderr,
            factor * self.low,
            factor * self.high,
            factor * self.unit,
            self.valid,
        )


def reading(curve: InformationCurve, quantity: str, k: int, t: Array) -> Reading:
    """One quantity from the curve's d_eff and rate, written at the latent's noise t.

    With t_c the curve's own noise, L^-2 J'(t_c) at t_c = t/L^2 is (k - d_eff)/t, m^2 mmse(t/m^2)
    is t d_eff, and R' likewise: the constants are gone.
    """
    own_t = curve.noise_levels**2
    d_eff, rate, valid = curve.effective_dimension, curve.mmse_rate, curve.valid
    if quantity == "mmse_rate":
        return Reading(rate, curve.mmse_rate_stderr, rate, rate, rate, valid)
    if quantity == "fisher_information_rate":
        value = (rate - 2 * d_eff + k) / t**2
        stderr = (own_t / t) ** 2 * curve.fisher_information_rate_stderr
        return Reading(value, stderr, value, value, k / t**2, valid)
    J, ends = curve.fisher_information, curve.fisher_information_bounds
    down, up = _shift(J, ends[:, 0], -1), _shift(J, ends[:, 1], 1)
    if quantity == "fisher_information":
        value, factor, unit = (k - d_eff) / t, own_t / t, k / t
        stderr = curve.effective_dimension_stderr / t
    else:
        value, factor, unit = t * d_eff, own_t * t, t * d_eff
        stderr = curve.effective_dimension_stderr * t
        down, up = up, down
    return Reading(value, stderr, value - factor * down, value + factor * up, unit, valid)


def information(curve: InformationCurve) -> Reading:
    """Mutual information of a curve, with its standard error and the ends of its bracket."""
    value, ends = curve.mutual_information, curve.mutual_information_bounds
    low, high = value - _shift(value, ends[:, 0], -1), value + _shift(value, ends[:, 1], 1)
    return Reading(value, curve.mutual_information_stderr, low, high, value, curve.valid)


def _shift(value: Array, end: Array, sign: int) -> Array:
    """How far an end of a bracket lies beyond the value; 0 where it lies inside or is NaN."""
    xp = namespace(value)
    beyond = sign * (end - value)
    return xp.where(beyond > 0, beyond, xp.zeros_like(value))


def judge(
    quantity: str,
    kind: str,
    status: str,
    noise_levels: Array,
    lower: Reading | None,
    value: Reading,
    upper: Reading | None,
    checks: tuple[Hypothesis, ...],
    theorem: str,
    n_stderr: float,
) -> Sandwich:
    """Verdict per level on lower <= value <= upper; a side that is None claims nothing."""
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
        checks=checks,
        theorem=theorem,
    )


def _side(low: Reading, high: Reading, n_stderr: float) -> list[str]:
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
