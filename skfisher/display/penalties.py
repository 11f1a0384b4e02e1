"""The four penalties: their account along the noise, and their values over the data."""

from __future__ import annotations

import math
import textwrap
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from skfisher._backend.arrays import to_numpy
from skfisher.account import RateAccount
from skfisher.display.drawing import (
    COLOURS,
    Display,
    edges_of,
    grey_levels,
    legend_below,
    why_and_dimension,
    with_error,
)
from skfisher.geometry import Penalties

__all__ = ["PenaltyDisplay"]

_TERMS = (
    ("data curvature", "data", COLOURS[2]),
    ("tangential distortion", "tangential", COLOURS[0]),
    ("encoder curvature", "encoder", COLOURS[1]),
)
_PANELS = (
    ("mmse_rate", r"MMSE rate   $\partial_t\,\mathrm{mmse}\,/\,k$"),
    ("effective_dimension", r"effective dimension   $d_\mathrm{eff}\,/\,k$"),
    ("complexity_penalty", r"complexity penalty   $t^2R\,/\,k$"),
)
_WORDS = (
    ("dimensional_compression", "black", "share of the data's own directions that are lost"),
    ("tangential_distortion", COLOURS[0], "mean squared log of the stretch over its mean"),
    ("encoder_curvature", COLOURS[1], "mean squared bending by the encoder, in 1/z²"),
    ("data_curvature", COLOURS[2], "mean squared bending of the data itself, in 1/x²"),
)
_WIDTH = 50  # characters of a line of the words
_LEFT = 0.04  # where they start in their panel


@dataclass(eq=False)
class PenaltyDisplay(Display):
    """The account of three quantities along the noise, and the four penalties over the data.

    Bars are stacked from flat data to the latent: what raises a quantity above zero, what lowers it
    below. Make it by `from_report` or `from_audit`.

    Parameters
    ----------
    penalties : Penalties
    title : str
    unit : str
        What the noise level is measured in, for the axis.

    Attributes
    ----------
    figure_ : matplotlib Figure
    axes_ : list of matplotlib Axes
        The MMSE rate, d_eff and t^2 R, each over k, and the penalties in words; the words alone
        where no account was made.

    Examples
    --------
    >>> import numpy as np
    >>> from skfisher import LatentGeometryAuditor
    >>> X = np.random.default_rng(0).normal(size=(200, 2))
    >>> audit = LatentGeometryAuditor(lambda x: x * [1.0, 3.0], score_model="gaussian").fit(X)
    >>> PenaltyDisplay.from_audit(audit).to_png()[1:4]
    b'PNG'
    """

    penalties: Penalties
    title: str = ""
    unit: str = "units of X"

    @classmethod
    def from_report(
        cls, report: Any, *, title: str = "", unit: str = "units of X"
    ) -> PenaltyDisplay:
        """Display of the penalties of an `AuditReport`."""
        return cls(report.penalties, title, unit)

    @classmethod
    def from_audit(cls, audit: Any, *, title: str = "", unit: str = "units of X") -> PenaltyDisplay:
        """Display of the penalties of a fitted auditor.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            The auditor has not been fitted.
        """
        from sklearn.utils.validation import check_is_fitted

        check_is_fitted(audit)
        return cls.from_report(audit.report_, title=title, unit=unit)

    def _n_panels(self) -> int:
        return 1 if self.penalties.along_noise is None else 4

    def _size(self) -> tuple[float, float]:
        return (4.6, 5.4) if self._n_panels() == 1 else (12.2, 6.4)

    def _subplots(self, figure: Any) -> Any:
        if self._n_panels() == 1:
            return [figure.subplots()]
        grid = figure.add_gridspec(2, 3, width_ratios=[1, 1, 1.15], height_ratios=[1.5, 1])
        top = figure.add_subplot(grid[0, :2])
        small = [figure.add_subplot(grid[1, i]) for i in range(2)]
        return [top, *small, figure.add_subplot(grid[:, 2])]

    def _draw(self, axes: list[Any]) -> None:
        account = self.penalties.along_noise
        if account is not None:
            for ax, (quantity, title) in zip(axes, _PANELS, strict=False):
                _draw_account(ax, account, quantity, self.penalties.intrinsic_dimension)
                ax.set_title(title, loc="left")
                ax.set_xlabel(f"noise level $\\sigma$ ({self.unit})")
            legend_below(self.figure_, axes[:3], ncols=4)
        self._say(axes[-1])

    def _say(self, ax: Any) -> None:
        """The four in words."""
        ax.set_axis_off()
        found = self.penalties
        height, dimension = 0.96, ""
        ax.text(_LEFT, 1.0, "the four penalties over the data", transform=ax.transAxes, size=9.5)
        for name, colour, meaning in _WORDS:
            value = float(getattr(found, name))
            words = with_error(value, float(getattr(found, f"{name}_stderr")))
            why, how = why_and_dimension(found.reasons.get(name, ""))
            dimension = dimension or how
            free = getattr(found, f"{name}_scale_free", math.nan)
            small = [meaning]
            if value and math.isfinite(free):
                small.append(f"times the space's own variance: {free:.3g}")
            small.extend(textwrap.wrap(why, _WIDTH)[:4])
            label = name.replace("_", " ")
            spot = {"transform": ax.transAxes, "va": "top"}
            known = not math.isnan(value)
            ax.text(_LEFT, height, label, color=colour, weight="bold", size=9.5, **spot)
            ax.text(1, height, words, ha="right", color="black" if known else "0.45", **spot)
            ax.text(
                _LEFT,
                height - 0.045,
                "\n".join(small),
                size=7.5,
                color="0.35",
                linespacing=1.3,
                **spot,
            )
            height -= 0.09 + 0.034 * len(small)
        k = textwrap.wrap(dimension or f"k = {found.intrinsic_dimension}", _WIDTH)
        size = f"D = {found.data_dimension}, d = {found.latent_dimension}"
        ax.text(
            _LEFT, height, "\n".join([size, *k]), size=7.5, color="0.35", linespacing=1.3,
            transform=ax.transAxes, va="top",
        )  # fmt: skip


def _draw_account(ax: Any, account: RateAccount, quantity: str, k: int) -> None:
    terms = getattr(account, quantity)
    levels = [float(sigma) for sigma in account.noise_levels]
    values = [[float(v) / k for v in to_numpy(getattr(terms, field))] for _, field, _ in _TERMS]
    errors = [
        [float(e) / k for e in to_numpy(getattr(terms, f"{field}_stderr"))]
        for _, field, _ in _TERMS
    ]
    known = [all(math.isfinite(v) for v in level) for level in zip(*values, strict=True)]
    valid = [bool(v) for v in account.valid]
    grey_levels(
        ax,
        levels,
        [there and not fine for there, fine in zip(known, valid, strict=True)],
        [not there for there in known],
    )
    shown = [i for i, there in enumerate(known) if there]
    edges = _bar_edges(levels)
    up, down = [0.0] * len(levels), [0.0] * len(levels)
    for place, ((name, _, colour), value, error) in enumerate(
        zip(_TERMS, values, errors, strict=True)
    ):
        tips = []
        for i in shown:
            side = up if value[i] >= 0 else down
            low, high = edges[i]
            ax.bar(
                low, value[i], high - low, bottom=side[i], align="edge", color=colour, lw=0,
                alpha=1.0 if valid[i] else 0.4,
            )  # fmt: skip
            side[i] += value[i]
            tips.append(side[i])
        ax.plot([], [], "s", color=colour, ms=7, label=name)
        # beside each other, since the ends of two terms may lie on each other
        share = (place + 1) / (len(_TERMS) + 1)
        at = [edges[i][0] ** (1 - share) * edges[i][1] ** share for i in shown]
        ax.errorbar(
            at, tips, yerr=[2 * error[i] for i in shown], fmt="none", ecolor="0.15", elinewidth=0.8,
            label="± 2 standard errors" if place == 0 else None,
        )  # fmt: skip
    total = [sum(value[i] for value in values) for i in shown]
    ax.plot(
        [levels[i] for i in shown], total, color="black", marker="D", ms=3.5, mfc="white", lw=0.9,
        label="their sum: latent less flat data",
    )  # fmt: skip
    ax.axhline(0, color="black", lw=0.7)
    ends = [*up, *down] + [
        side[i] + sign * 2 * max(error[i] for error in errors)
        for side, sign in ((up, 1), (down, -1))
        for i in shown
        if valid[i]
    ]
    # errors of levels that are not valid may leave the panel
    low, high = min(*ends, -1e-3), max(*ends, 1e-3)
    ax.set_ylim(low - 0.06 * (high - low), high + 0.06 * (high - low))


def _bar_edges(levels: list[float]) -> list[tuple[float, float]]:
    """Ends of one bar per level, with some room between them on a log axis."""
    edges = edges_of(levels)
    room = 0.08
    return [
        (low ** (1 - room) * high**room, low**room * high ** (1 - room))
        for low, high in pairwise(edges)
    ]
