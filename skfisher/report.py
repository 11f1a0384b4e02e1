"""An audit as a page of plain text: numbers with their errors, in words a newcomer can read."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

from skfisher.criteria import CRITERIA
from skfisher.curves import InformationCurve
from skfisher.diagnosis import SERIOUS, Finding
from skfisher.display.drawing import why_and_dimension, with_error
from skfisher.estimators import AuditReport

__all__ = ["audit_text"]

_LEAST_WIDTH = 48
_COLUMN = 25  # of the names
_MOST_REASONS = 4  # that are listed for one curve
_NAMES = {
    "fisher_information": "Fisher information",
    "mmse": "MMSE",
    "fisher_information_rate": "Fisher information rate",
    "mmse_rate": "MMSE rate",
    "mutual_information": "mutual information",
}

_PENALTIES = (
    ("dimensional_compression", "", "share of the data's own directions that are lost"),
    ("tangential_distortion", "", "mean squared log of the stretch over its mean"),
    ("encoder_curvature", "1/z^2", "mean squared bending that the encoder adds to straight lines"),
    ("data_curvature", "1/x^2", "mean squared bending of the data itself"),
)


def audit_text(report: AuditReport, width: int = 88) -> str:
    """Write an audit as one page for a terminal.

    Parameters
    ----------
    report : AuditReport
    width : int
        Most characters in a line, at least 48.

    Returns
    -------
    str
        What was audited, the score, the diagnosis with advice, the constants, the penalties, where
        the MMSE rate is kept, the sandwiches, and which noise levels may be believed. Every number
        stands in the report; errors are one standard error.

    Raises
    ------
    ValueError
        `width` below 48.

    Examples
    --------
    >>> import numpy as np
    >>> from skfisher import LatentGeometryAuditor
    >>> X = np.random.default_rng(0).normal(size=(200, 2))
    >>> audit = LatentGeometryAuditor(lambda x: x * [1.0, 9.0], score_model="gaussian").fit(X)
    >>> print(audit_text(audit.report_).splitlines()[0])
    Audit of a latent space: 2 features to 2 latent dimensions
    """
    if int(width) < _LEAST_WIDTH:
        raise ValueError(f"width is {width}: pass {_LEAST_WIDTH} or more characters.")
    page = _Page(int(width))
    _heading(page, report)
    _diagnosis(page, report)
    _constants(page, report)
    _penalties(page, report)
    _preservation(page, report)
    _sandwiches(page, report)
    _validity(page, report)
    return "\n".join(page.lines)


class _Page:
    """Lines of at most so many characters."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.lines: list[str] = []

    def title(self, words: str) -> None:
        self.lines += ["", words, "-" * len(words)]

    def say(self, words: str, indent: int = 0, hang: int = 0) -> None:
        self.lines += textwrap.wrap(
            words,
            self.width,
            initial_indent=" " * indent,
            subsequent_indent=" " * (indent + hang),
        )

    def pair(self, name: str, words: str) -> None:
        """A name in a column of its own, and what belongs to it."""
        self.say(f"{name:<{_COLUMN}}{words}", hang=_COLUMN)


def _heading(page: _Page, report: AuditReport) -> None:
    found = report.penalties
    page.say(
        f"Audit of a latent space: {found.data_dimension} features to {found.latent_dimension} "
        f"latent dimensions"
    )
    rows = f"all {report.n_samples} rows"
    if report.n_rows < report.n_samples:
        rows = f"{report.n_rows} of {report.n_samples} rows, drawn at random,"
    scaled = "; every channel brought to unit variance first" if report.standardized else ""
    page.say(f"{rows} with seed {report.random_state}, on {report.device}{scaled}")
    page.say(f"encoder: {report.linear}", hang=2)
    page.lines.append("")
    meaning = CRITERIA[report.criterion].meaning
    page.pair("diffusability", with_error(report.diffusability, report.diffusability_stderr))
    page.say(
        f"{meaning[0].upper()}{meaning[1:]}; higher is better. It is blind to lost information: "
        f"read it beside a reconstruction error.",
        indent=2,
    )


def _diagnosis(page: _Page, report: AuditReport) -> None:
    page.title("Diagnosis")
    found = report.diagnosis
    if not found.serious:
        page.say("Nothing serious was found.")
    for place, finding in enumerate(found.serious, start=1):
        page.say(f"{place}. {finding.name}, weight {finding.weight:.2f}: {finding.evidence}", 0, 3)
        for words in _where(finding):
            page.say(words, 3)
        page.say(f"What to do: {finding.advice}", 3, 2)
    slight = [f for f in found.findings if not f.serious]
    if slight:
        listed = ", ".join(f"{f.name} {f.weight:.2f}" for f in slight)
        page.say(f"Not serious, by weight: {listed}.", hang=2)
    for words in found.unknown:
        page.say(f"Not weighed: {words}", hang=2)
    page.say(
        f"A weight is what a finding may change of the MMSE rate per dimension at noise "
        f"{found.reference_noise:.3g} (units of X); it is serious from {SERIOUS:g}, where it is "
        f"also beyond its error.",
    )


def _where(finding: Finding) -> list[str]:
    words = []
    if finding.noise_range is not None:
        low, high = finding.noise_range
        span = f"{low:.3g}" if low == high else f"{low:.3g} to {high:.3g}"
        words.append(f"Acts most at noise {span} (units of X).")
    if finding.samples:
        words.append(f"Shows most in rows {_listed(finding.samples)}.")
    if finding.channels:
        words.append(f"Shows most in channels {_listed(finding.channels)}.")
    return words


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(str(number) for number in numbers)


def _constants(page: _Page, report: AuditReport) -> None:
    page.title("Constants")
    c, found = report.scale, report.bi_lipschitz
    value = "not known" if math.isnan(c.c) else f"{c.c:.4g}"
    page.pair("scale c (z/x)", f"{value}; {c.kind}")
    relation = "is" if found.exact else "is about"
    page.pair("least stretch m", f"{relation} {found.m:.4g}")
    page.pair("most stretch L", f"{relation} {found.L:.4g}")
    page.pair("", found.kind)
    near, far = found.near_quantiles, found.far_quantiles
    page.pair(
        "median of pairs",
        f"{float(near[4]):.4g} for neighbours, {float(far[4]):.4g} for random pairs "
        f"({found.n_pairs} pairs in all)",
    )
    if found.n_folded:
        page.pair("pairs with one latent", f"{found.n_folded}")
    if found.n_conflicts:
        page.pair("conflicts", f"{found.n_conflicts} equal rows have different latents")
    if report.folds is not None:
        words = with_error(report.folds.share, report.folds.stderr)
        reason = f": {report.folds.reason}" if math.isnan(report.folds.share) else ""
        page.pair("share folded", words + reason)
    if math.isfinite(report.penalties.reach):
        page.pair("reach of the data", f"at most about {report.penalties.reach:.3g}")


def _penalties(page: _Page, report: AuditReport) -> None:
    page.title("The four penalties")
    found, dimension = report.penalties, ""
    for name, unit, meaning in _PENALTIES:
        value = float(getattr(found, name))
        words = with_error(value, float(getattr(found, f"{name}_stderr")))
        free = float(getattr(found, f"{name}_scale_free", math.nan))
        why, how = why_and_dimension(found.reasons.get(name, ""))
        dimension = dimension or how
        known = not math.isnan(value)
        if known and unit:
            words += f" (in {unit})"
        if known and value and math.isfinite(free):
            words += f"; times the space's own variance {free:.3g}"
        page.pair(name.replace("_", " "), words)
        page.say(f"{meaning}; {why}" if why else meaning, 2, 0)
    page.say(f"Intrinsic dimension {dimension or f'k = {found.intrinsic_dimension}'}.", hang=2)


def _preservation(page: _Page, report: AuditReport) -> None:
    found = report.preservation
    page.title("Is the MMSE rate of the data kept?")
    if found is None:
        page.say("Not asked: the encoder has no scale c at which data and latent are compared.")
        return
    page.say(
        f"Asked per noise level of the data (units of X), to {found.epsilon:g} per dimension; "
        f"k = {found.intrinsic_dimension}, of which the latent keeps {found.rank}."
    )
    keys = list(zip(found.answers, found.status, strict=True))
    for (answer, status), places in _spans(keys):
        last = places[-1]
        alike = len({found.reasons[i] for i in places}) == 1
        where = "" if alike else f"at {float(found.noise_levels[last]):.3g} "
        page.pair(
            f"  {_noise(found.noise_levels, places)}",
            f"{answer} ({status}); {where}{found.reasons[last]}",
        )


def _sandwiches(page: _Page, report: AuditReport) -> None:
    page.title("Bounds on the latent from the data")
    if not report.sandwiches:
        page.say("None: L is infinite, or no pair of rows stays apart.")
    for name, sandwich in report.sandwiches.items():
        counts = {word: sandwich.verdict.count(word) for word in dict.fromkeys(sandwich.verdict)}
        tally = ", ".join(f"{word} at {count}" for word, count in counts.items())
        page.say(
            f"{_NAMES.get(name, name)} ({sandwich.kind}, {sandwich.status}): {tally} of "
            f"{len(sandwich.verdict)} levels",
            hang=2,
        )


def _validity(page: _Page, report: AuditReport) -> None:
    page.title("Which noise levels may be believed")
    _curve(page, "latent", "units of the latent", report.latent_curve)
    _curve(page, "data", "units of X", report.data_curve)
    _curve(page, "latent at c times the data's noise", "units of the latent", report.matched_curve)
    account = report.penalties.along_noise
    if account is None:
        page.say("account along the noise: none was made")
    else:
        _levels(page, "account", "units of X", account.noise_levels, account.reasons)


def _curve(page: _Page, name: str, unit: str, curve: InformationCurve) -> None:
    _levels(page, f"curve of the {name}", unit, curve.noise_levels, curve.reasons)


def _levels(page: _Page, name: str, unit: str, levels: Any, reasons: Sequence[str]) -> None:
    valid = [_noise(levels, places) for reason, places in _spans(reasons) if not reason]
    n_valid = sum(not reason for reason in reasons)
    where = f", at noise {' and '.join(valid)} ({unit})" if valid else ""
    page.say(f"{name}: {n_valid} of {len(reasons)} levels valid{where}", hang=2)
    # reasons that differ in their numbers only are said once, as at the largest level
    found = {
        re.sub(r"[\d.]+", "#", part): part for reason in reasons if reason for part in
        reason.split("; ")
    }  # fmt: skip
    listed = list(found.values())
    more = "; and more" if len(listed) > _MOST_REASONS else ""
    if listed:
        page.say(f"elsewhere: {'; '.join(listed[:_MOST_REASONS])}{more}", 2, 2)


def _spans(keys: Sequence[Any]) -> list[tuple[Any, list[int]]]:
    """Runs of equal keys, each with its places."""
    return [(key, list(group)) for key, group in groupby(range(len(keys)), keys.__getitem__)]


def _noise(levels: Any, places: Sequence[int]) -> str:
    low, high = float(levels[places[0]]), float(levels[places[-1]])
    return f"{low:.3g}" if low == high else f"{low:.3g} to {high:.3g}"
