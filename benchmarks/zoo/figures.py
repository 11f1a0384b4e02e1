"""Pictures of the study, from its summary and its rows."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from benchmarks.zoo.config import ENCODERS
from benchmarks.zoo.correlates import members_of
from benchmarks.zoo.declared import LEVELS
from benchmarks.zoo.study import as_records, left_out_name
from benchmarks.zoo.table import Setting, Table
from skfisher.display.drawing import COLOURS

__all__ = [
    "FIGURES",
    "correlations_picture",
    "families_picture",
    "left_out_picture",
    "png",
    "quality_picture",
    "scatter_picture",
    "settings_picture",
]

# one for each family that is no distortion: the display's colours and two more
FAMILY_COLOURS = (*COLOURS, "#882255", "#999933")
MARKERS = "osD^vP<X*"
MARKER_SIZES = {"*": 9.0, "X": 7.0, "P": 7.0, "D": 5.2}
DISTORTED = {"color": "0.6", "marker": ">"}
KIND_COLOURS = {
    "choice": "#000000",
    "left out": "#CC79A7",
    "candidate": "#0072B2",
    "rival": "#D55E00",
}
KIND_WORDS = {
    "choice": "the choice",
    "left out": "the choice without the family",
    "candidate": "candidate",
    "rival": "rival",
}
LEVEL_WORDS = {
    "latents": "latents only",
    "encoder": "data and encoder",
    "decoder": "decoder",
    "features": "feature network",
}
N_CANDIDATES, N_RIVALS = 16, 12


def png(figure: Figure) -> bytes:
    """The picture as a PNG file, the same bytes for the same picture."""
    beside = io.BytesIO()
    figure.savefig(beside, format="png", dpi=130, metadata={"Software": None})
    return beside.getvalue()


def _families(table: Table) -> list[str]:
    known = {c.family for c in ENCODERS}
    found = {e.family for members in table.encoders.values() for e in members.values()}
    return sorted(known | found)


def _look(family: str, families: Sequence[str]) -> dict[str, Any]:
    """Colour and marker of a family, and the size at which markers look alike."""
    if family == "distortion":
        return DISTORTED | {"ms": 6.0}
    k = [f for f in families if f != "distortion"].index(family)
    marker = MARKERS[k % len(MARKERS)]
    size = MARKER_SIZES.get(marker, 6.0)
    return {"color": FAMILY_COLOURS[k % len(FAMILY_COLOURS)], "marker": marker, "ms": size}


def _family_legend(figure: Figure, table: Table) -> None:
    families = _families(table)
    there = {e.family for members in table.encoders.values() for e in members.values()}
    handles = [
        Line2D([], [], ls="", mew=0, label=family, **_look(family, families))
        for family in families
        if family in there
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=5, frameon=False, fontsize=9)


def _largest_budgets(table: Table) -> dict[str, Setting]:
    """The last main setting of each data set."""
    return {s.dataset: s for s in table.main_settings}


def _tidy(ax: Any) -> None:
    ax.spines[["top", "right"]].set_visible(False)


def quality_picture(table: Table, summary: Mapping[str, Any]) -> Figure | None:
    """Frechet distance of every encoder by family, at each budget."""
    by_dataset: dict[str, list[Setting]] = {}
    for setting in table.main_settings:
        by_dataset.setdefault(setting.dataset, []).append(setting)
    if not by_dataset:
        return None
    order = [
        e
        for e in {e.name: e for m in table.encoders.values() for e in m.values()}.values()
        if any(e.name in table.quality[s] for s in table.main_settings)
    ]
    families = _families(table)
    order.sort(key=lambda e: (e.distorts, families.index(e.family)))
    places, place, last = {}, 0.0, None
    for encoder in order:
        place += 1.0 if encoder.family == last else 1.6
        places[encoder.name], last = place, encoder.family
    size = (4.2 * len(by_dataset) + 1.6, 0.19 * place + 1.4)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(1, len(by_dataset), sharey=True, squeeze=False)[0]
    shift = {"small": -0.16, "large": 0.16}
    for ax, (dataset, settings) in zip(axes, by_dataset.items(), strict=True):
        for setting in settings:
            hollow = setting.budget == "small"
            for name, quality in table.quality[setting].items():
                look = _look(table.family(name), families)
                error = 1.96 * quality.stderr if math.isfinite(quality.stderr) else 0.0
                y = places[name] + shift.get(setting.budget, 0.0)
                ends = np.exp([quality.mean - error, quality.mean + error])
                ax.plot(ends, [y, y], color=look["color"], lw=1, zorder=2)
                face = "white" if hollow else look["color"]
                look["ms"] *= 0.75
                ax.plot(math.exp(quality.mean), y, mfc=face, mew=1, zorder=3, **look)
        floor = table.floor(dataset)[0]
        if math.isfinite(floor):
            ax.axvline(floor, color="0.4", ls=(0, (4, 3)), lw=1)
            ax.annotate(
                "floor", (floor, 0.4), (3, 0), textcoords="offset points", color="0.4",
                fontsize=8, va="top", rotation=90,
            )  # fmt: skip
        ax.set(xscale="log", title=dataset)
        ax.set_xlabel("Frechet distance; hollow: small budget", fontsize=9)
        ax.grid(axis="x", color="0.92", lw=0.8)
        _tidy(ax)
    axes[0].set(ylim=(place + 1, 0.2))
    axes[0].set_yticks(list(places.values()), list(places), fontsize=7.5)
    for tick, encoder in zip(axes[0].get_yticklabels(), order, strict=True):
        tick.set_color(_look(encoder.family, families)["color"])
    _family_legend(figure, table)
    return figure


def scatter_picture(table: Table, summary: Mapping[str, Any]) -> Figure | None:
    """The best single candidate that needs just a level, and the best rival, against quality."""
    settings = _largest_budgets(table)
    rows = [(LEVEL_WORDS.get(key, "best rival"), name) for key, name in summary["best"].items()]
    rows = [(title, name) for title, name in rows if name]
    if not rows or not settings:
        return None
    families = _families(table)
    figure = Figure(figsize=(4.4 * len(settings), 2.9 * len(rows) + 0.8), layout="constrained")
    axes = figure.subplots(len(rows), len(settings), squeeze=False)
    known = {(r["number"], r["setting"]): r["spearman"] for r in as_records(summary["correlations"])
             if r["subset"] == "all"}  # fmt: skip
    for line, (title, name) in zip(axes, rows, strict=True):
        for ax, setting in zip(line, settings.values(), strict=True):
            names = members_of(table, setting, "all")
            x = table.column(setting.dataset, name, names)
            for value, encoder in zip(x, names, strict=True):
                quality = table.quality[setting][encoder]
                look = _look(table.family(encoder), families)
                error = 1.96 * quality.stderr if math.isfinite(quality.stderr) else 0.0
                ends = np.exp([quality.mean - error, quality.mean + error])
                ax.plot([value, value], ends, color=look["color"], lw=0.8, alpha=0.6)
                ax.plot(value, math.exp(quality.mean), alpha=0.9, mew=0, **look)
            there = x[np.isfinite(x)]
            if len(there) and there.min() > 0 and there.max() > 20 * there.min():
                ax.set_xscale("log")
            ax.set_yscale("log")
            rho = known.get((name, str(setting)))
            ax.set_title(setting.dataset, loc="left", fontsize=9)
            if rho is not None:
                ax.set_title(f"Spearman {rho:+.2f}", loc="right", fontsize=9)
            ax.set_xlabel(f"{name}  ({title})", fontsize=9)
            ax.tick_params(labelsize=8)
            _tidy(ax)
    budget = next(iter(settings.values())).budget
    figure.supylabel(f"Frechet distance, generated to reconstructed, {budget} budget", fontsize=9)
    _family_legend(figure, table)
    return figure


def _shown_numbers(summary: Mapping[str, Any]) -> list[str]:
    """Choices, the best candidates and the best rivals, by mean Spearman over all encoders."""
    means = [r for r in as_records(summary["means"]) if r["subset"] == "all"]
    means = [r for r in means if r["spearman"] is not None]
    kinds = {name: number["kind"] for name, number in summary["numbers"].items()}
    counts = {"candidate": N_CANDIDATES, "rival": N_RIVALS}
    shown = []
    for record in means:
        kind = kinds[record["number"]]
        if counts.get(kind, 1) > 0:
            shown.append(record["number"])
            counts[kind] = counts.get(kind, 9) - 1
    return shown


def _label(name: str, summary: Mapping[str, Any]) -> str:
    number = summary["numbers"][name]
    if number["kind"] in ("choice", "left out"):
        return f"{KIND_WORDS[number['kind']]}: {LEVEL_WORDS[number['needs']]}"
    return f"{name} (after the fact)" if number["late"] else name


def correlations_picture(table: Table, summary: Mapping[str, Any]) -> Figure | None:
    """Mean Spearman with its interval, over all encoders and without the distortions."""
    names = _shown_numbers(summary)
    if not names:
        return None
    records = {(r["number"], r["subset"]): r for r in as_records(summary["means"])}
    figure = Figure(figsize=(8.6, 0.27 * len(names) + 1.5), layout="constrained")
    ax = figure.subplots()
    for y, name in enumerate(names):
        colour = KIND_COLOURS[summary["numbers"][name]["kind"]]
        for subset, shift in (("all", -0.14), ("undistorted", 0.18)):
            r = records.get((name, subset))
            if r is None or r["spearman"] is None:
                continue
            low, high = r["low"], r["high"]
            if low is not None and high is not None:
                ax.plot([low, high], [y + shift] * 2, color=colour, lw=1.4 if shift < 0 else 0.8)
            face = colour if subset == "all" else "white"
            ax.plot(r["spearman"], y + shift, "o", ms=5, color=colour, mfc=face, mew=1)
    ceilings = [
        s["reliability"]["ceiling"] for s in summary["settings"]
        if s["main"] and s["reliability"]["ceiling"] is not None
    ]  # fmt: skip
    if ceilings:
        ax.axvline(min(ceilings), color="0.3", ls=(0, (4, 3)), lw=1)
        ax.annotate(
            "ceiling", (min(ceilings), 1.0), (-3, 2), xycoords=("data", "axes fraction"),
            textcoords="offset points", ha="right", fontsize=8, color="0.3",
        )  # fmt: skip
    ax.axvline(0, color="0.8", lw=1, zorder=0)
    ax.set_yticks(range(len(names)), [_label(name, summary) for name in names], fontsize=8)
    ax.set(ylim=(len(names) - 0.4, -0.6), xlim=(None, 1.02))
    ax.set_xlabel("Spearman with generation, mean over data sets and budgets", fontsize=9)
    ax.grid(axis="x", color="0.93", lw=0.8)
    _tidy(ax)
    there = {summary["numbers"][name]["kind"] for name in names}
    handles = [
        Line2D([], [], color=colour, marker="o", ls="", label=KIND_WORDS[kind])
        for kind, colour in KIND_COLOURS.items()
        if kind in there
    ]
    handles += [
        Line2D([], [], color="0.4", marker="o", ls="-", label="all encoders"),
        Line2D([], [], color="0.4", marker="o", ls="-", lw=0.8, mfc="white",
               label="without distortions"),
    ]  # fmt: skip
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    return figure


def settings_picture(table: Table, summary: Mapping[str, Any]) -> Figure | None:
    """Spearman of the numbers in every setting."""
    names = _shown_numbers(summary)
    settings = [s["setting"] for s in summary["settings"]]
    if not names:
        return None
    known = {(r["number"], r["setting"]): r["spearman"]
             for r in as_records(summary["correlations"]) if r["subset"] == "all"}  # fmt: skip
    values = np.array(
        [[v if (v := known.get((n, s))) is not None else math.nan for s in settings] for n in names]
    )
    size = (3.4 + 0.62 * len(settings), 0.27 * len(names) + 2.2)
    figure = Figure(figsize=size, layout="constrained")
    ax = figure.subplots()
    image = ax.imshow(
        values, cmap="RdBu", norm=TwoSlopeNorm(0, -1, 1), aspect="auto", interpolation="nearest"
    )
    for i, j in np.ndindex(values.shape):
        text = (
            f"{values[i, j]:.2f}".replace("0.", ".").replace("-", "\N{MINUS SIGN}")
            if math.isfinite(values[i, j])
            else "n/a"
        )
        colour = "white" if abs(values[i, j]) > 0.65 else "0.15"
        ax.text(j, i, text, ha="center", va="center", fontsize=7.5, color=colour)
    ax.set_yticks(range(len(names)), [_label(name, summary) for name in names], fontsize=8)
    labels = [
        f"{s['dataset']}\n{s['generator']} {s['objective']}, {s['budget']}, n = {s['encoders']}"
        for s in summary["settings"]
    ]
    ax.set_xticks(range(len(settings)), labels, fontsize=7.5, rotation=90)
    ax.xaxis.tick_top()
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    figure.colorbar(image, ax=ax, shrink=0.5, label="Spearman").outline.set_visible(False)
    return figure


def best_level(summary: Mapping[str, Any]) -> str | None:
    """The level whose choice does best on the families that it did not see."""
    means = {r["number"]: r["spearman"] for r in as_records(summary["means"])
             if r["subset"] == "all"}  # fmt: skip
    found = {level: means.get(left_out_name(level)) for level in LEVELS}
    found = {level: value for level, value in found.items() if value is not None}
    return max(found, key=found.__getitem__, default=None)


def left_out_picture(table: Table, summary: Mapping[str, Any]) -> Figure | None:
    """Promised against reached ranks; every encoder by a choice that did not see its family."""
    level, settings = best_level(summary), _largest_budgets(table)
    if level is None or not settings:
        return None
    families = _families(table)
    figure = Figure(figsize=(4.6 * len(settings), 5.4), layout="constrained")
    axes = figure.subplots(1, len(settings), squeeze=False)[0]
    for ax, setting in zip(axes, settings.values(), strict=True):
        names = members_of(table, setting, "all")
        x = table.column(setting.dataset, left_out_name(level), names)
        names = [n for n, v in zip(names, x, strict=True) if math.isfinite(v)]
        promised = _ranks(-x[np.isfinite(x)])
        reached = _ranks(np.array([table.quality[setting][n].mean for n in names]))
        ax.plot([0, len(names) + 1], [0, len(names) + 1], color="0.85", lw=1, zorder=0)
        for name, a, b in zip(names, promised, reached, strict=True):
            ax.plot(a, b, mew=0, alpha=0.9, **_look(table.family(name), families))
        far = np.argsort(-np.abs(promised - reached))[:5]
        for k in far:
            # away from the diagonal, where the others are
            above = reached[k] > promised[k]
            ax.annotate(
                names[k], (promised[k], reached[k]), (-5, 3) if above else (5, -3),
                textcoords="offset points", ha="right" if above else "left",
                va="bottom" if above else "top", fontsize=7.5, color="0.3",
            )  # fmt: skip
        ax.set(
            title=f"{setting.dataset}, {setting.budget} budget", aspect="equal",
            xlabel="rank promised (1: best)", ylabel="rank reached",
            xlim=(0, len(names) + 1), ylim=(0, len(names) + 1),
        )  # fmt: skip
        _tidy(ax)
    _family_legend(figure, table)
    return figure


def _ranks(values: np.ndarray) -> np.ndarray:
    return np.argsort(np.argsort(values, kind="stable"), kind="stable") + 1.0


def families_picture(table: Table, summary: Mapping[str, Any]) -> Figure | None:
    """Per family, how far the promised ranks are from those reached."""
    level = best_level(summary)
    if level is None or level not in summary["failures"]:
        return None
    rows = summary["failures"][level]["encoders"]
    families = [f for f in _families(table) if any(r["family"] == f for r in rows)]
    figure = Figure(figsize=(8.0, 0.36 * len(families) + 1.3), layout="constrained")
    ax = figure.subplots()
    for y, family in enumerate(families):
        values = [r["residual"] for r in rows if r["family"] == family]
        look = _look(family, _families(table))
        ax.plot(values, [y] * len(values), ls="", alpha=0.75, mew=0, **look)
        ax.plot([np.mean(values)] * 2, [y - 0.32, y + 0.32], color=look["color"], lw=2)
    ax.axvline(0, color="0.7", lw=1, zorder=0)
    ax.set_yticks(range(len(families)), families)
    ax.set(ylim=(len(families) - 0.4, -0.6))
    ax.set_xlabel("rank residual, share of the encoders; right: generated worse than promised")
    _tidy(ax)
    return figure


FIGURES: dict[str, Callable[[Table, Mapping[str, Any]], Figure | None]] = {
    "quality": quality_picture,
    "correlations": correlations_picture,
    "scatter": scatter_picture,
    "settings": settings_picture,
    "left-out": left_out_picture,
    "families": families_picture,
}
"""What the page shows, by name."""
