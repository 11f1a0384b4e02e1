"""What all displays share: figures outside of pyplot, colours, noise axes, numbers in words."""

from __future__ import annotations

import io
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, Self

__all__ = [
    "COLOURS",
    "GREY",
    "MARKERS",
    "Display",
    "decades",
    "edges_of",
    "finite",
    "grey_levels",
    "legend_below",
    "log_axis",
    "runs",
    "say_nothing",
    "why_and_dimension",
    "with_error",
]

# Okabe and Ito's colours, apart for the colour-blind; the yellow, too light for a line, is left out
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "osD^vPX"
GREY = "0.88"
_NOTHING = 1e-20  # below which a number is the rounding of zero
_ROUNDING = 1e-9  # share of a number below which its error is rounding
_STYLE = {"font.size": 9, "axes.titlesize": 9.5, "legend.frameon": False}


def _matplotlib() -> Any:
    try:
        import matplotlib
    except ImportError as error:
        raise ImportError(
            'matplotlib is not installed, which draws the pictures: pip install "skfisher[plot]"'
        ) from error
    return matplotlib


class Display(ABC):
    """What keeps numbers and draws them later, into given axes, a pyplot figure or a PNG file.

    A display has a `title`, says how large its figure is and how it is divided, and draws one panel
    into each of its axes.

    Attributes
    ----------
    figure_ : matplotlib Figure
    axes_ : array of matplotlib Axes
        One per panel.
    """

    title: str
    figure_: Any = None
    axes_: Any = None

    @abstractmethod
    def _size(self) -> tuple[float, float]:
        """Width and height of the figure in inches."""

    @abstractmethod
    def _n_panels(self) -> int:
        """Number of axes that are drawn into."""

    @abstractmethod
    def _subplots(self, figure: Any) -> Any:
        """The axes of a figure."""

    @abstractmethod
    def _draw(self, axes: list[Any]) -> None:
        """Draw one panel into each of the axes."""

    def plot(self, axes: Any = None) -> Self:
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
        with _matplotlib().rc_context(_STYLE):
            if axes is None:
                from matplotlib import pyplot

                axes = self._subplots(pyplot.figure(figsize=self._size(), layout="constrained"))
            flat = list(getattr(axes, "flat", axes))
            if len(flat) != self._n_panels():
                raise ValueError(
                    f"axes holds {len(flat)} axes for {self._n_panels()} panels: pass one for "
                    f"each, or None for a new figure."
                )
            self.figure_, self.axes_ = flat[0].figure, axes
            for ax in flat:
                ax.spines[["top", "right"]].set_visible(False)
            self._draw(flat)
            if self.title:
                self.figure_.suptitle(self.title)
        return self

    def to_png(self, dpi: int = 150) -> bytes:
        """The picture as the bytes of a PNG file, drawn outside of pyplot."""
        _matplotlib()
        from matplotlib.figure import Figure

        figure = Figure(figsize=self._size(), layout="constrained")
        self.plot(self._subplots(figure))
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=dpi)
        return buffer.getvalue()


def log_axis(ax: Any, decades: float, axis: str = "x") -> None:
    """A logarithmic axis with plain numbers at 1, 2 and 5, at 1 alone where there are many."""
    from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

    ax.set(**{f"{axis}scale": "log"})
    line = getattr(ax, f"{axis}axis")
    subs = (1, 2, 5) if decades < 3 else (1,)
    line.set_major_locator(LogLocator(subs=subs, numticks=20 if decades < 8 else 6))
    line.set_major_formatter(StrMethodFormatter("{x:g}"))
    line.set_minor_locator(NullLocator())


def decades(values: Iterable[float]) -> float:
    """Decades between the smallest and the largest of some positive numbers."""
    known = [float(v) for v in values if math.isfinite(v) and v > 0]
    return math.log10(max(known) / min(known)) if known else 0.0


def edges_of(levels: Sequence[float]) -> list[float]:
    """Borders between levels on a log axis, the outer ones half a step beyond."""
    if len(levels) == 1:
        return [levels[0] / 1.3, levels[0] * 1.3]
    inner = [math.sqrt(a * b) for a, b in pairwise(levels)]
    return [levels[0] ** 2 / inner[0], *inner, levels[-1] ** 2 / inner[-1]]


def runs(mask: Iterable[Any]) -> list[tuple[int, int]]:
    """First index and one past the last of every run of True."""
    marks = [False, *(bool(m) for m in mask), False]
    places = range(len(marks) - 2)
    starts = [k for k in places if marks[k + 1] and not marks[k]]
    stops = [k + 1 for k in places if marks[k + 1] and not marks[k + 2]]
    return list(zip(starts, stops, strict=True))


def grey_levels(
    ax: Any, levels: Sequence[float], suspect: Sequence[bool], missing: Sequence[bool]
) -> None:
    """Noise axis with the levels that are not valid greyed, and those without a number hatched."""
    edges = edges_of(levels)
    for mask, look, label in (
        (suspect, {"color": GREY}, "not valid"),
        (missing, {"facecolor": "none", "edgecolor": "0.6", "hatch": "////"}, "no number"),
    ):
        for start, stop in runs(mask):
            ax.axvspan(edges[start], edges[stop], lw=0, zorder=0, label=label, **look)
    log_axis(ax, decades=math.log10(edges[-1] / edges[0]))
    ax.set_xlim(edges[0], edges[-1])


def legend_below(figure: Any, axes: Iterable[Any], ncols: int) -> None:
    """One legend below all panels, with every label once."""
    handles: dict[str, Any] = {}
    for ax in axes:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    if handles:
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=ncols)


def say_nothing(ax: Any, why: str) -> None:
    """A panel without numbers that says why."""
    import textwrap

    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[:].set_visible(False)
    ax.text(
        0.5, 0.5, textwrap.fill(why, 44), transform=ax.transAxes, ha="center", va="center",
        color="0.4",
    )  # fmt: skip


def finite(values: Iterable[Any]) -> list[float]:
    """The finite ones among some numbers."""
    return [float(v) for v in values if math.isfinite(v)]


def with_error(value: float, stderr: float = math.nan) -> str:
    """A number with its standard error in words: "0.31 ± 0.02", "2 ± 0", "not measured".

    The error has two digits, and the value as many places.

    Examples
    --------
    >>> with_error(0.31234, 0.0212), with_error(2.0, 0.0), with_error(float("nan"))
    ('0.312 ± 0.021', '2 ± 0', 'not measured')
    >>> with_error(1234.5, 77.0), with_error(0.5)
    ('1234 ± 77', '0.5 (error unknown)')
    """
    value, stderr = float(value), float(stderr)
    if math.isnan(value):
        return "not measured"
    if math.isinf(value):
        return "infinite" if value > 0 else "minus infinite"
    if math.isnan(stderr):
        return f"{value:.3g} (error unknown)"
    if abs(value) + 2 * stderr < _NOTHING:
        return "0 ± 0"
    if stderr <= _ROUNDING * abs(value):
        return f"{value:.3g} ± 0"
    if not 1e-4 <= stderr < 1e6:
        return f"{value:.3g} ± {stderr:.2g}"
    places = max(0, 1 - math.floor(math.log10(stderr)))
    return f"{value:.{places}f} ± {stderr:.{places}f}"


def why_and_dimension(reason: str) -> tuple[str, str]:
    """What a reason of `Penalties` says of its number, and what all say of the dimension k."""
    why, mark, dimension = reason.partition(" (k = ")
    return why, f"k = {dimension.removesuffix(')')}" if mark else ""
