"""What is wrong with a latent, by weight, and where on the noise axis it acts."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import Any

from skfisher.diagnosis import SERIOUS, Diagnosis
from skfisher.display.drawing import COLOURS, Display, decades, log_axis, say_nothing

__all__ = ["DiagnosisDisplay"]

_WIDTH = 92  # characters of a line of evidence
_UNKNOWN = 180  # and of what could not be measured, which stands under both panels


@dataclass(eq=False)
class DiagnosisDisplay(Display):
    """Findings by weight with their evidence, and the noise levels at which they act.

    Serious findings are in colour. Make it by `from_report` or `from_audit`.

    Parameters
    ----------
    diagnosis : Diagnosis
    title : str
    unit : str
        What the noise level is measured in, for the axis.

    Attributes
    ----------
    figure_ : matplotlib Figure
    axes_ : array of two matplotlib Axes
        Weights; noise ranges.

    Examples
    --------
    >>> import numpy as np
    >>> from skfisher import LatentGeometryAuditor
    >>> X = np.random.default_rng(0).normal(size=(200, 2))
    >>> audit = LatentGeometryAuditor(lambda x: x * [1.0, 9.0], score_model="gaussian").fit(X)
    >>> DiagnosisDisplay.from_audit(audit).to_png()[1:4]
    b'PNG'
    """

    diagnosis: Diagnosis
    title: str = ""
    unit: str = "units of X"

    @classmethod
    def from_report(
        cls, report: Any, *, title: str = "", unit: str = "units of X"
    ) -> DiagnosisDisplay:
        """Display of the diagnosis of an `AuditReport`."""
        return cls(report.diagnosis, title, unit)

    @classmethod
    def from_audit(
        cls, audit: Any, *, title: str = "", unit: str = "units of X"
    ) -> DiagnosisDisplay:
        """Display of the diagnosis of a fitted auditor.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            The auditor has not been fitted.
        """
        from sklearn.utils.validation import check_is_fitted

        check_is_fitted(audit)
        return cls.from_report(audit.report_, title=title, unit=unit)

    def _n_panels(self) -> int:
        return 2

    def _lines(self) -> list[str]:
        """What could not be measured, in lines."""
        return [
            line
            for text in self.diagnosis.unknown
            for line in textwrap.wrap(f"not weighed: {text}", _UNKNOWN, subsequent_indent="    ")
        ]

    def _size(self) -> tuple[float, float]:
        rows = max(len(self.diagnosis.findings), 2)
        return (10.6, 1.5 + 0.58 * rows + 0.17 * len(self._lines()))

    def _subplots(self, figure: Any) -> Any:
        return figure.subplots(1, 2, sharey=True, width_ratios=[2.2, 1])

    def _draw(self, axes: list[Any]) -> None:
        left, right = axes
        findings = self.diagnosis.findings
        if findings:
            self._draw_weights(left)
            self._draw_ranges(right)
        else:
            say_nothing(left, "nothing could be weighed")
            say_nothing(right, "")
        if self._lines():
            self.figure_.supxlabel(
                "\n".join(self._lines()), x=0.01, ha="left", size=7.5, color="0.35"
            )

    def _draw_weights(self, ax: Any) -> None:
        findings = self.diagnosis.findings
        for row, finding in enumerate(findings):
            colour = COLOURS[1] if finding.serious else "0.62"
            ax.barh(row + 0.17, finding.weight, height=0.3, color=colour)
            ax.annotate(
                f"{finding.weight:.2f}" if finding.weight >= 0.005 else "0",
                (finding.weight, row + 0.17), (4, 0), textcoords="offset points", va="center",
                weight="bold" if finding.serious else "normal",
            )  # fmt: skip
            ax.annotate(
                textwrap.shorten(finding.evidence, _WIDTH, placeholder=" ..."),
                (0, row - 0.02), (3, 0), textcoords="offset points", va="bottom", size=8,
                color="0.15" if finding.serious else "0.45",
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
            )  # fmt: skip
        ax.axvline(SERIOUS, color="0.3", lw=0.9, ls=":", zorder=0.5)
        most = max(*(finding.weight for finding in findings), 2.5 * SERIOUS)
        ax.set_xlim(0, 1.12 * most)
        ax.set_ylim(len(findings) - 0.4, -0.5)
        ax.set_yticks(range(len(findings)), [finding.name for finding in findings])
        for tick, finding in zip(ax.get_yticklabels(), findings, strict=True):
            tick.set_fontweight("bold" if finding.serious else "normal")
        ax.tick_params(axis="y", length=0)
        ax.set_title("findings, the serious ones in colour", loc="left")
        ax.set_xlabel(
            f"weight: what it may change of the MMSE rate / $k$  (serious from {SERIOUS:g})"
        )

    def _draw_ranges(self, ax: Any) -> None:
        reference = self.diagnosis.reference_noise
        shown = [reference]
        for row, finding in enumerate(self.diagnosis.findings):
            if finding.noise_range is None:
                continue
            low, high = finding.noise_range
            shown += [low, high]
            colour = COLOURS[1] if finding.serious else "0.62"
            ax.plot(
                [low, high], [row, row], color=colour, lw=6 if high > low else 0, marker="o", ms=6,
                solid_capstyle="round",
            )  # fmt: skip
        if reference > 0:
            ax.axvline(reference, color="0.3", lw=0.9, ls=":")
            ax.annotate(
                "weighed here", (reference, 0.01), (3, 0), xycoords=ax.get_xaxis_transform(),
                textcoords="offset points", size=8, color="0.3",
            )  # fmt: skip
        positive = [value for value in shown if value > 0]
        if positive:
            low, high = min(positive), max(positive)
            ax.set_xlim(low / 1.6, high * 1.6)
            log_axis(ax, decades([low / 1.6, high * 1.6]))
        ax.tick_params(axis="y", length=0, labelleft=False)
        ax.set_title("noise at which it acts most", loc="left")
        ax.set_xlabel(f"noise level $\\sigma$ ({self.unit})")
