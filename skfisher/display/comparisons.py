"""Ranked scores of several encoders, what they lose, and their curves."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import Any

from skfisher._backend.arrays import to_numpy
from skfisher.compare import EncoderComparison
from skfisher.criteria import CRITERIA
from skfisher.display.drawing import COLOURS, MARKERS, Display, finite, log_axis, runs

__all__ = ["ComparisonDisplay"]

_NUMBERED = 20  # encoders up to which win probabilities are written out
_FAR = 10  # times the median score: one so far out leaves the others no room


@dataclass(eq=False)
class ComparisonDisplay(Display):
    """Ranked scores of several encoders beside their reconstruction errors, and their curves.

    Parameters
    ----------
    comparison : EncoderComparison
    title : str
    matrix : bool
        Whether to draw the win probabilities as well: worth their room where encoders are close.

    Attributes
    ----------
    figure_ : matplotlib Figure
    axes_ : array of three matplotlib Axes, four with `matrix`
        Scores with ranks, reconstruction errors, win probabilities, and t^2 R / d against sigma
        over the latent's RMS scale.

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
    matrix: bool = False

    @classmethod
    def from_comparison(
        cls, comparison: EncoderComparison, *, title: str = "", matrix: bool = False
    ) -> ComparisonDisplay:
        """Display of a comparison, with the matrix of win probabilities on request."""
        return cls(comparison, title, matrix)

    def _n_panels(self) -> int:
        return 3 + self.matrix

    def _size(self) -> tuple[float, float]:
        n = len(self.comparison.records)
        height = max(4.2, 1.6 + 0.36 * n)
        return (12.4 + (max(2.4, 0.25 * n) if self.matrix else 0.0), height)

    def _subplots(self, figure: Any) -> Any:
        ratios = [1.7, 0.9, 2.4]
        if self.matrix:
            ratios.insert(2, max(1.1, 0.11 * len(self.comparison.records)))
        return figure.subplots(1, 3 + self.matrix, width_ratios=ratios)

    def _draw(self, axes: list[Any]) -> None:
        self._draw_scores(axes[0])
        self._draw_errors(axes[1])
        if self.matrix:
            self._draw_wins(axes[2])
        self._draw_curves(axes[-1])

    def _look(self, k: int) -> dict[str, Any]:
        return {
            "color": COLOURS[k % len(COLOURS)],
            "marker": MARKERS[(k + k // len(COLOURS)) % len(MARKERS)],
        }

    def _rows(self, ax: Any, names: bool) -> None:
        records = self.comparison.records
        ax.set_yticks(range(len(records)), [r.name for r in records] if names else [])
        ax.set_ylim(len(records) - 0.5, -0.5)
        ax.grid(axis="x", color="0.9", lw=0.8)
        ax.set_axisbelow(True)

    def _draw_scores(self, ax: Any) -> None:
        linear = self._make_room(ax)  # before anything is drawn, for the margins
        for k, record in enumerate(self.comparison.records):
            ax.errorbar(
                record.diffusability, k, xerr=2 * record.stderr, capsize=3, ms=6, **self._look(k)
            )
        for run in self.comparison.not_separated():
            places = [k for k, r in enumerate(self.comparison.records) if r.name in run]
            ax.axhspan(places[0] - 0.38, places[-1] + 0.38, color="0.93", lw=0, zorder=0)
        ax.annotate(
            "rank", (1.02, 1.0), (0, 3), xycoords="axes fraction", textcoords="offset points",
            color="0.3",
        )  # fmt: skip
        for k, record in enumerate(self.comparison.records):
            low, high = record.rank_interval
            words = f"{low}" if low == high else f"{low}\N{EN DASH}{high}"
            ax.annotate(
                words, (1.02, k), xycoords=ax.get_yaxis_transform(), va="center", color="0.3"
            )
        self._rows(ax, names=True)
        together = bool(self.comparison.not_separated())
        ax.set_title(
            "diffusability, ± 2 standard errors" + ("\nshaded: not separated" if together else ""),
            loc="left",
        )
        label = CRITERIA[self.comparison.criterion].label
        how = f"; logarithmic below \N{MINUS SIGN}{linear:g}" if linear else ""
        ax.set_xlabel(f"{label}\n(higher is better{how})")

    def _make_room(self, ax: Any) -> float:
        """A logarithmic scale where one score is far below the others; where it begins, or 0."""
        sizes = [abs(v) for v in finite(r.diffusability for r in self.comparison.records)]
        middle = statistics.median(sizes) if sizes else 0.0
        if middle <= 0 or max(sizes) <= _FAR * middle:
            return 0.0
        linear = 10.0 ** math.floor(math.log10(middle))
        ax.set_xscale("symlog", linthresh=linear)
        ax.xaxis.set_major_formatter("{x:g}")
        return linear

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

    def _draw_wins(self, ax: Any) -> None:
        wins = [[float(v) for v in row] for row in to_numpy(self.comparison.win_probability)]
        n = len(wins)
        for i, row in enumerate(wins):
            row[i] = math.nan  # against itself
        ax.imshow(wins, vmin=0, vmax=1, cmap="PuOr_r", aspect="auto", alpha=0.6)
        for i, row in enumerate(wins):
            for j, value in enumerate(row):
                if math.isfinite(value) and n <= _NUMBERED:
                    ax.text(
                        j, i, f"{100 * value:.0f}", ha="center", va="center", color="black",
                        size=7.5 if n <= 12 else 6,
                    )  # fmt: skip
        self._rows(ax, names=False)
        ax.grid(False)
        places = range(0, n, 1 if n <= 12 else 2)
        ax.set_xticks(places, [str(j + 1) for j in places])
        ax.tick_params(length=0)
        ax.set_title("row scores above column\n(% of resamples)", loc="left")
        ax.set_xlabel("place, from the top")

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
            for start, stop in runs(valid):
                ax.plot(relative[start:stop], value[start:stop], lw=1.8, ms=4, **look)
            ax.plot([], [], lw=1.8, ms=4, label=record.name, **look)
        ax.plot([], [], color="0.4", lw=1, ls=(0, (3, 2)), label="not valid")
        log_axis(ax, decades=2)
        ax.set_ylim(bottom=0)
        ax.grid(color="0.93", lw=0.8)
        ax.set_axisbelow(True)
        scored = self.comparison.criterion == "complexity"
        role = "whose mean is minus the score" if scored else "which the score does not rest on"
        ax.set_title(f"complexity penalty $t^2R/d$, {role}\nbands: ± 2 standard errors", loc="left")
        ax.set_xlabel(r"noise level $\sigma$ / RMS scale of the latent")
        ax.legend(loc="best", fontsize=8, ncols=2)
