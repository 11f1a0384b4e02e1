"""Sandwiches: a latent's quantity between two values from the data, with the verdict per level."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from skfisher._backend.arrays import to_numpy
from skfisher.bounds import Sandwich
from skfisher.display.drawing import (
    COLOURS,
    Display,
    decades,
    edges_of,
    finite,
    legend_below,
    log_axis,
    say_nothing,
)

__all__ = ["SandwichDisplay"]

_FORMS = {
    "fisher_information": ("Fisher information   $t\\,J'$", 2),
    "mmse": (r"MMSE   $\mathrm{mmse}\,/\,t$", -2),
    "fisher_information_rate": ("Fisher information rate   $t^2R'$", 4),
    "mmse_rate": (r"MMSE rate   $\partial_t\,\mathrm{mmse}$", 0),
    "mutual_information": ("mutual information   (nats)", 0),
}
"""Title, and the power of sigma that takes the unit away."""

_VERDICTS: dict[str, dict[str, Any]] = {
    "holds": {"color": COLOURS[2], "marker": "o"},
    "within error": {"color": COLOURS[0], "marker": "s", "mfc": "white"},
    "violated": {"color": COLOURS[1], "marker": "X", "ms": 8},
    "unknown": {"color": "0.55", "marker": "d", "ms": 4},
}


@dataclass(eq=False)
class SandwichDisplay(Display):
    """Lower bound, value and upper bound of each sandwich along the noise of the latent.

    Make it by `from_report` or `from_audit`, or from any `Sandwich` objects by name.

    Parameters
    ----------
    sandwiches : mapping of str to Sandwich
    title : str
    unit : str
        What the noise level is measured in, for the axis.

    Attributes
    ----------
    figure_ : matplotlib Figure
    axes_ : list of matplotlib Axes
        One per sandwich, in its dimensionless form.

    Examples
    --------
    >>> import numpy as np
    >>> from skfisher import LatentGeometryAuditor
    >>> X = np.random.default_rng(0).normal(size=(200, 2))
    >>> audit = LatentGeometryAuditor(lambda x: x * [1.0, 3.0], score_model="gaussian").fit(X)
    >>> SandwichDisplay.from_audit(audit).to_png()[1:4]
    b'PNG'
    """

    sandwiches: Mapping[str, Sandwich] = field(repr=False)
    title: str = ""
    unit: str = "units of the latent"

    def __post_init__(self) -> None:
        if not self.sandwiches:
            raise ValueError(
                "there is no sandwich to draw: an audit makes none where L is infinite or every "
                "pair of rows has one latent."
            )

    @classmethod
    def from_report(cls, report: Any, *, title: str = "") -> SandwichDisplay:
        """Display of the sandwiches of an `AuditReport`.

        Raises
        ------
        ValueError
            The report has none.
        """
        return cls(report.sandwiches, title)

    @classmethod
    def from_audit(cls, audit: Any, *, title: str = "") -> SandwichDisplay:
        """Display of the sandwiches of a fitted auditor.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            The auditor has not been fitted.
        ValueError
            It has none.
        """
        from sklearn.utils.validation import check_is_fitted

        check_is_fitted(audit)
        return cls.from_report(audit.report_, title=title)

    def _n_panels(self) -> int:
        return len(self.sandwiches)

    def _shape(self) -> tuple[int, int]:
        n = self._n_panels()
        return math.ceil(n / 3), min(n, 3)

    def _size(self) -> tuple[float, float]:
        rows, columns = self._shape()
        return (max(3.9 * columns, 5.0), 3.1 * rows + 0.7)

    def _subplots(self, figure: Any) -> Any:
        rows, columns = self._shape()
        grid = figure.add_gridspec(rows, columns)
        return [
            figure.add_subplot(grid[i // columns, i % columns]) for i in range(self._n_panels())
        ]

    def _draw(self, axes: list[Any]) -> None:
        for ax, (name, sandwich) in zip(axes, self.sandwiches.items(), strict=True):
            _draw_sandwich(ax, name, sandwich)
            ax.set_xlabel(f"noise level $\\sigma$ ({self.unit})")
        legend_below(self.figure_, axes, ncols=3)


def _draw_sandwich(ax: Any, name: str, sandwich: Sandwich) -> None:
    title, power = _FORMS.get(sandwich.quantity, (name.replace("_", " "), 0))
    ax.set_title(f"{title}\n{sandwich.kind}, {sandwich.status}", loc="left")
    levels = [float(sigma) for sigma in sandwich.noise_levels]
    form = [sigma**power for sigma in levels]

    def scaled(values: Any) -> list[float]:
        return [float(v) * f for v, f in zip(to_numpy(values), form, strict=True)]

    lower, value, upper = (scaled(getattr(sandwich, s)) for s in ("lower", "value", "upper"))
    errors = {s: scaled(getattr(sandwich, f"{s}_stderr")) for s in ("lower", "value", "upper")}
    if not finite([*lower, *value, *upper]):
        say_nothing(ax, "neither side nor value is known at any level")
        return
    both = [
        math.isfinite(a) and math.isfinite(b) and a <= b for a, b in zip(lower, upper, strict=True)
    ]
    ax.fill_between(levels, lower, upper, where=both, color=COLOURS[5], alpha=0.25, lw=0)
    silent = []
    for side, edge, style in (("upper", upper, "--"), ("lower", lower, ":")):
        claimed = [v if math.isfinite(v) else math.nan for v in edge]
        if not finite(edge):
            silent.append(side)
            continue
        ax.errorbar(
            levels, claimed, yerr=[2 * e for e in errors[side]], color="0.25", ls=style, lw=1.2,
            capsize=2, elinewidth=0.8, label=f"{side} bound, ± 2 standard errors",
        )  # fmt: skip
    ax.plot(levels, value, color="0.6", lw=1.0, zorder=2)
    for word, look in _VERDICTS.items():
        here = [i for i, said in enumerate(sandwich.verdict) if said == word]
        # drawn where there is none too, so that the legend names all four
        ax.errorbar(
            [levels[i] for i in here], [value[i] for i in here],
            yerr=[2 * errors["value"][i] for i in here], ls="none", capsize=2, zorder=3,
            label=f"latent: {word}", **({"ms": 5.5} | look),
        )  # fmt: skip
    if silent:
        text = "no bound is claimed" if len(silent) == 2 else f"no {silent[0]} bound is claimed"
        ax.text(0.98, 0.97, text, transform=ax.transAxes, ha="right", va="top", color="0.4", size=8)
    edges = edges_of(levels)
    log_axis(ax, decades=decades(edges))
    ax.set_xlim(edges[0], edges[-1])
    _fit_height(ax, value, [*finite(lower), *finite(upper)])


def _fit_height(ax: Any, value: list[float], bounds: list[float]) -> None:
    """Limits that show the latent's value where the bounds are far away."""
    known = finite(value) or bounds
    reach = 3.0 * max(abs(v) for v in known)
    ends = [*known, *bounds, 0.0]
    low, high = max(min(ends), -reach), min(max(ends), reach)
    ax.set_ylim(low - 0.07 * (high - low), high + 0.12 * (high - low))
    far = max((abs(v) for v in bounds), default=0.0)
    if far > reach:
        ax.text(
            0.98, 0.97, f"bounds reach {far:.3g}", transform=ax.transAxes, ha="right", va="top",
            color="0.4", size=8,
        )  # fmt: skip
