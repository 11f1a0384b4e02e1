"""Pictures of curves and comparisons: a display keeps the numbers and draws later."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from skfisher._backend.arrays import to_numpy
from skfisher.compare import EncoderComparison
from skfisher.curves import InformationCurve

__all__ = ["ComparisonDisplay", "InformationCurveDisplay"]

# Okabe and Ito's colours, apart for the colour-blind; the yellow, too light for a line, is left out
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = "osD^vPX"
_GREY = "0.88"
_STYLE = {"font.size": 9, "axes.titlesize": 9.5, "legend.frameon": False}


def _matplotlib() -> Any:
    try:
        import matplotlib
    except ImportError as error:
        raise ImportError(
            'matplotlib is not installed, which draws the pictures: pip install "skfisher[plot]"'
        ) from error
    return matplotlib


def _figure(size: tuple[float, float]) -> Any:
    """A figure outside of pyplot: no window, no state that is shared with others."""
    _matplotlib()
    from matplotlib.figure import Figure

    return Figure(figsize=size, layout="constrained")


def _png(figure: Any, dpi: int) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


@dataclass(eq=False)
class InformationCurveDisplay:
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
    figure_: Any = field(default=None, init=False, repr=False)
    axes_: Any = field(default=None, init=False, repr=False)

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

    def plot(self, axes: Any = None) -> InformationCurveDisplay:
        """Draw the panels.

        Parameters
        ----------
        axes : sequence of matplotlib Axes, default=None
            As many as panels, or None for a new pyplot figure.

        Returns
        -------
        self

        Raises
        ------
        ImportError
            matplotlib is not installed.
        ValueError
            Another number of axes than of panels.
        """
        panels = self._panels()
        with _matplotlib().rc_context(_STYLE):
            if axes is None:
                from matplotlib import pyplot

                figure = pyplot.figure(figsize=self._size(), layout="constrained")
                axes = figure.subplots(len(panels) // 2, 2, sharex=True)
            flat = list(getattr(axes, "flat", axes))
            if len(flat) != len(panels):
                raise ValueError(
                    f"axes holds {len(flat)} axes for {len(panels)} panels: pass one for each, or "
                    f"None for a new figure."
                )
            for ax, panel in zip(flat, panels, strict=True):
                ax.spines[["top", "right"]].set_visible(False)
                _draw_panel(ax, self.curve, **panel)
            for ax in flat[-2:]:
                ax.set_xlabel(f"noise level $\\sigma$ ({self.unit})")
            handles: dict[str, Any] = {}
            for ax in flat:
                for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
                    handles.setdefault(label, handle)
            self.figure_, self.axes_ = flat[0].figure, axes
            self.figure_.legend(
                handles.values(), handles.keys(), loc="outside lower center", ncols=3
            )
            if self.title:
                self.figure_.suptitle(self.title)
        return self

    def _size(self) -> tuple[float, float]:
        return (8.6, 3.1 * (len(self._panels()) // 2) + 0.6)

    def to_png(self, dpi: int = 150) -> bytes:
        """The picture as the bytes of a PNG file, drawn outside of pyplot."""
        figure = _figure(self._size())
        self.plot(figure.subplots(len(self._panels()) // 2, 2, sharex=True))
        return _png(figure, dpi)


def _log_axis(ax: Any, decades: float) -> None:
    """A logarithmic axis with plain numbers at 1, 2 and 5, at 1 alone where there are many."""
    from matplotlib.ticker import LogLocator, StrMethodFormatter

    ax.set_xscale("log")
    subs = (1, 2, 5) if decades < 3 else (1,)
    ax.xaxis.set_major_locator(LogLocator(subs=subs, numticks=20))
    ax.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    ax.minorticks_off()


def _edges(levels: Sequence[float]) -> list[float]:
    """Borders between levels on a log axis, the outer ones half a step beyond."""
    if len(levels) == 1:
        return [levels[0] / 1.3, levels[0] * 1.3]
    inner = [math.sqrt(a * b) for a, b in pairwise(levels)]
    return [levels[0] ** 2 / inner[0], *inner, levels[-1] ** 2 / inner[-1]]


def _runs(mask: Sequence[bool]) -> list[tuple[int, int]]:
    """First index and one past the last of every run of True."""
    marks = [False, *(bool(m) for m in mask), False]
    starts = [k for k in range(len(mask)) if marks[k + 1] and not marks[k]]
    stops = [k + 1 for k in range(len(mask)) if marks[k + 1] and not marks[k + 2]]
    return list(zip(starts, stops, strict=True))


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
    edges = _edges(levels)
    missing = [not math.isfinite(v) for v in value]
    suspect = [bool(r) and not m for r, m in zip(curve.reasons, missing, strict=True)]
    for mask, look, label in (
        (suspect, {"color": _GREY}, "not valid"),
        (missing, {"facecolor": "none", "edgecolor": "0.6", "hatch": "////"}, "no number"),
    ):
        for start, stop in _runs(mask):
            ax.axvspan(edges[start], edges[stop], lw=0, zorder=0, label=label, **look)
    blue, orange = _COLOURS[:2]
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
    _log_axis(ax, decades=math.log10(edges[-1] / edges[0]))
    ax.set_xlim(edges[0], edges[-1])
    finite = [float(v) for v in value if math.isfinite(v)] or [1.0]
    low, high = min(0.0, *finite), max(finite)
    ax.set_ylim(low - 0.04 * (high - low), high + 0.08 * (high - low))
    ax.set_title(title, loc="left")


@dataclass(eq=False)
class ComparisonDisplay:
    """Ranked scores of several encoders beside their reconstruction errors, and their curves.

    Parameters
    ----------
    comparison : EncoderComparison
    title : str

    Attributes
    ----------
    figure_ : matplotlib Figure
    axes_ : array of three matplotlib Axes
        Scores, reconstruction errors, t^2 R / d against sigma over the latent's RMS scale.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.decomposition import PCA
    >>> from skfisher import compare_encoders
    >>> X = np.random.default_rng(0).normal(size=(200, 3)) * [2.0, 1.0, 0.5]
    >>> found = compare_encoders([PCA(1), PCA(2)], X, score_model="gaussian")
    >>> ComparisonDisplay.from_comparison(found).to_png()[1:4]
    b'PNG'
    """

    comparison: EncoderComparison
    title: str = ""
    figure_: Any = field(default=None, init=False, repr=False)
    axes_: Any = field(default=None, init=False, repr=False)

    @classmethod
    def from_comparison(
        cls, comparison: EncoderComparison, *, title: str = ""
    ) -> ComparisonDisplay:
        """Display of a comparison."""
        return cls(comparison, title)

    def plot(self, axes: Any = None) -> ComparisonDisplay:
        """Draw the three panels.

        Parameters
        ----------
        axes : sequence of three matplotlib Axes, default=None
            None makes a new pyplot figure.

        Returns
        -------
        self

        Raises
        ------
        ImportError
            matplotlib is not installed.
        ValueError
            Other than three axes.
        """
        with _matplotlib().rc_context(_STYLE):
            if axes is None:
                from matplotlib import pyplot

                axes = self._subplots(pyplot.figure(figsize=self._size(), layout="constrained"))
            flat = list(getattr(axes, "flat", axes))
            if len(flat) != 3:
                raise ValueError(
                    f"axes holds {len(flat)} axes for 3 panels: pass one for each, or None for a "
                    f"new figure."
                )
            self.figure_, self.axes_ = flat[0].figure, axes
            for ax in flat:
                ax.spines[["top", "right"]].set_visible(False)
            self._draw_scores(flat[0])
            self._draw_errors(flat[1])
            self._draw_curves(flat[2])
            if self.title:
                self.figure_.suptitle(self.title)
        return self

    def to_png(self, dpi: int = 150) -> bytes:
        """The picture as the bytes of a PNG file, drawn outside of pyplot."""
        figure = _figure(self._size())
        self.plot(self._subplots(figure))
        return _png(figure, dpi)

    def _size(self) -> tuple[float, float]:
        return (12.0, max(4.2, 1.6 + 0.36 * len(self.comparison.records)))

    def _subplots(self, figure: Any) -> Any:
        return figure.subplots(1, 3, width_ratios=[1.5, 0.9, 2.4])

    def _look(self, k: int) -> dict[str, Any]:
        return {
            "color": _COLOURS[k % len(_COLOURS)],
            "marker": _MARKERS[(k + k // len(_COLOURS)) % len(_MARKERS)],
        }

    def _rows(self, ax: Any, names: bool) -> None:
        records = self.comparison.records
        ax.set_yticks(range(len(records)), [r.name for r in records] if names else [])
        ax.set_ylim(len(records) - 0.5, -0.5)
        ax.grid(axis="x", color="0.9", lw=0.8)
        ax.set_axisbelow(True)

    def _draw_scores(self, ax: Any) -> None:
        for k, record in enumerate(self.comparison.records):
            ax.errorbar(
                record.diffusability, k, xerr=2 * record.stderr, capsize=3, ms=6, **self._look(k)
            )
        for run in self.comparison.not_separated():
            places = [k for k, r in enumerate(self.comparison.records) if r.name in run]
            ax.axhspan(places[0] - 0.38, places[-1] + 0.38, color="0.93", lw=0, zorder=0)
        self._rows(ax, names=True)
        together = bool(self.comparison.not_separated())
        ax.set_title(
            "diffusability, ± 2 standard errors" + ("\nshaded: not separated" if together else ""),
            loc="left",
        )
        ax.set_xlabel("$-$ mean of $t^2R/d$   (higher is better)")

    def _draw_errors(self, ax: Any) -> None:
        for k, record in enumerate(self.comparison.records):
            value, look = record.reconstruction_error, self._look(k)
            if math.isfinite(value):
                ax.barh(k, 100 * value, height=0.5, color=look["color"], alpha=0.75)
            else:
                ax.annotate(
                    "unknown", (0, k), (3, 0), textcoords="offset points", va="center", color="0.4"
                )
        self._rows(ax, names=False)
        ax.set_xlim(left=0)
        ax.set_title("what is lost", loc="left")
        ax.set_xlabel("reconstruction error\n(% of variance)")

    def _draw_curves(self, ax: Any) -> None:
        for k, record in enumerate(self.comparison.records):
            curve = record.report.latent_curve
            look, d = self._look(k), curve.n_features
            relative = to_numpy(curve.noise_levels) / record.latent_scale
            value = to_numpy(curve.complexity_penalty) / d
            error = 2 * to_numpy(curve.complexity_penalty_stderr) / d
            ax.fill_between(
                relative, value - error, value + error, color=look["color"], alpha=0.15, lw=0
            )
            valid = [not reason for reason in curve.reasons]
            ax.plot(relative, value, color=look["color"], lw=1, ls=(0, (3, 2)), alpha=0.55)
            for start, stop in _runs(valid):
                ax.plot(relative[start:stop], value[start:stop], lw=1.8, ms=4, **look)
            ax.plot([], [], lw=1.8, ms=4, label=record.name, **look)
        ax.plot([], [], color="0.4", lw=1, ls=(0, (3, 2)), label="not valid")
        _log_axis(ax, decades=2)
        ax.set_ylim(bottom=0)
        ax.grid(color="0.93", lw=0.8)
        ax.set_axisbelow(True)
        ax.set_title(
            "complexity penalty $t^2R/d$, whose mean is minus the score\n"
            "bands: ± 2 standard errors",
            loc="left",
        )
        ax.set_xlabel(r"noise level $\sigma$ / RMS scale of the latent")
        ax.legend(loc="best", fontsize=8, ncols=2)
