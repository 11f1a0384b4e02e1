"""Curves along the noise, in their dimensionless forms."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from skfisher._backend.arrays import to_numpy
from skfisher.curves import InformationCurve
from skfisher.display.drawing import COLOURS, Display, finite, grey_levels, legend_below

__all__ = ["InformationCurveDisplay"]


@dataclass(eq=False)
class InformationCurveDisplay(Display):
    """The curves of one sample along the noise, in their dimensionless forms.

    Make it by `from_curve` or `from_estimator`; `plot` draws it, `to_png` needs no display.

    Parameters
    ----------
    curve : InformationCurve
    title : str
    unit : str
        What the noise level is measured in, for the axis.

    Attributes
    ----------
    figure_ : matplotlib Figure
    axes_ : array of matplotlib Axes
        One per panel: t J / n with its bracket, t^2 R / n, MMSE rate / n and d_eff; only the first
        and the last where the curve has no rate.

    Examples
    --------
    >>> import numpy as np
    >>> from skfisher import gaussian_curve
    >>> curve = gaussian_curve(np.diag([3.0, 1.0]), np.geomspace(0.1, 10.0, 11))
    >>> InformationCurveDisplay.from_curve(curve, title="a Gaussian").to_png()[1:4]
    b'PNG'
    """

    curve: InformationCurve
    title: str = ""
    unit: str = "units of X"

    @classmethod
    def from_curve(
        cls, curve: InformationCurve, *, title: str = "", unit: str = "units of X"
    ) -> InformationCurveDisplay:
        """Display of a curve."""
        return cls(curve, title, unit)

    @classmethod
    def from_estimator(
        cls, estimator: Any, *, title: str | None = None, unit: str = "units of X"
    ) -> InformationCurveDisplay:
        """Display of a fitted estimator's `curve_`, or of an auditor's `latent_curve_`.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            The estimator has not been fitted.
        """
        from sklearn.utils.validation import check_is_fitted

        check_is_fitted(estimator)
        curve = getattr(estimator, "curve_", None)
        if curve is None:
            curve, unit = estimator.latent_curve_, "units of the latent"
        return cls(curve, type(estimator).__name__ if title is None else title, unit)

    def _panels(self) -> list[dict[str, Any]]:
        c = self.curve
        n = c.n_features
        t = to_numpy(c.noise_levels) ** 2
        bracket, bracket_error = (
            to_numpy(a) * t[:, None] / n
            for a in (c.fisher_information_bounds, c.fisher_information_bounds_stderr)
        )
        panels = [
            {
                "title": "Fisher information   $t\\,J\\,/\\,n$",
                "value": to_numpy(c.fisher_information) * t / n,
                "stderr": to_numpy(c.fisher_information_stderr) * t / n,
                "bracket": (bracket[:, 0], bracket[:, 1]),
                "bracket_stderr": (bracket_error[:, 0], bracket_error[:, 1]),
            },
            {
                "title": "complexity penalty   $t^2R\\,/\\,n$",
                "value": to_numpy(c.complexity_penalty) / n,
                "stderr": to_numpy(c.complexity_penalty_stderr) / n,
            },
            {
                "title": r"MMSE rate   $\partial_t\,\mathrm{mmse}\,/\,n$",
                "value": to_numpy(c.mmse_rate) / n,
                "stderr": to_numpy(c.mmse_rate_stderr) / n,
            },
            {
                "title": f"effective dimension   $n-t\\,J$   ($n$ = {n})",
                "value": to_numpy(c.effective_dimension),
                "stderr": to_numpy(c.effective_dimension_stderr),
            },
        ]
        with_rate = any(math.isfinite(v) for v in panels[1]["value"])
        return panels if with_rate else [panels[0], panels[3]]

    def _n_panels(self) -> int:
        return len(self._panels())

    def _size(self) -> tuple[float, float]:
        return (8.6, 3.1 * (self._n_panels() // 2) + 0.6)

    def _subplots(self, figure: Any) -> Any:
        return figure.subplots(self._n_panels() // 2, 2, sharex=True)

    def _draw(self, axes: list[Any]) -> None:
        for ax, panel in zip(axes, self._panels(), strict=True):
            _draw_panel(ax, self.curve, **panel)
        for ax in axes[-2:]:
            ax.set_xlabel(f"noise level $\\sigma$ ({self.unit})")
        legend_below(self.figure_, axes, ncols=3)


def _draw_panel(
    ax: Any,
    curve: InformationCurve,
    *,
    title: str,
    value: Any,
    stderr: Any,
    bracket: Any = None,
    bracket_stderr: Any = None,
) -> None:
    levels = [float(sigma) for sigma in curve.noise_levels]
    missing = [not math.isfinite(v) for v in value]
    suspect = [bool(r) and not m for r, m in zip(curve.reasons, missing, strict=True)]
    grey_levels(ax, levels, suspect, missing)
    blue, orange = COLOURS[:2]
    if bracket is not None and any(math.isfinite(v) for v in bracket[1]):
        low, high = bracket
        low_error, high_error = bracket_stderr
        label = "bracket of J, ± 2 standard errors"
        ax.fill_between(levels, low, high, color=orange, alpha=0.22, lw=0, label=label)
        for edge, error, sign in ((low, low_error, -2), (high, high_error, 2)):
            ax.plot(levels, edge, color=orange, lw=0.9)
            outer = edge + sign * error
            ax.fill_between(levels, edge, outer, color=orange, alpha=0.1, lw=0)
    label = "± 2 standard errors"
    ax.fill_between(
        levels, value - 2 * stderr, value + 2 * stderr, color=blue, alpha=0.3, lw=0, label=label
    )
    ax.plot(levels, value, color=blue, marker="o", ms=3, lw=1.4, label="estimate")
    known = finite(value) or [1.0]
    low, high = min(0.0, *known), max(known)
    ax.set_ylim(low - 0.04 * (high - low), high + 0.08 * (high - low))
    ax.set_title(title, loc="left")
