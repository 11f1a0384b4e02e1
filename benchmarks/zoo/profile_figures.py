"""The curves of data and latents in three panels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from benchmarks.zoo.profiles import as_array, in_dimensions, one_data_set
from skfisher.display.drawing import COLOURS, MARKERS, decades, legend_below, log_axis

__all__ = ["draw_profiles"]


def draw_profiles(
    rows: Sequence[Mapping[str, Any]], *, per_dimension: bool = False, title: str = ""
) -> Figure:
    """Three panels along the noise: FI, FIR and the MMSE rate, data black, encoders coloured.

    By default in the forms that count directions, n - t J, n - t^2 R and the rate itself, in which
    an isometry lies on the data; with `per_dimension` as t J / n, t^2 R / n and rate / n, which
    say more of each space and less of the pair. Levels that are not valid are hollow.
    """
    data, encoders = one_data_set(rows)
    figure = Figure(figsize=(11.0, 4.1), layout="constrained")
    axes = list(figure.subplots(1, 3, sharex=True))
    names = ("fi_gap", "fir_gap", "rate_gap")
    if per_dimension:
        titles = (
            "Fisher information   $t\\,J\\,/\\,n$",
            "its rate   $t^2R\\,/\\,n$",
            r"MMSE rate   $\partial_t\,\mathrm{mmse}\,/\,n$",
        )
    else:
        titles = (
            "Fisher information   $n-t\\,J$",
            "its rate   $n-t^2R$",
            r"MMSE rate   $\partial_t\,\mathrm{mmse}$",
        )
    looks = [("black", "o", 2.0)]
    colours = COLOURS[:-1]
    looks += [
        (colours[i % len(colours)], MARKERS[1 + i % (len(MARKERS) - 1)], 1.3)
        for i in range(len(encoders))
    ]
    shown: list[list[float]] = [[], [], []]
    for row, (colour, marker, width) in zip([data, *encoders], looks, strict=True):
        sigma = np.asarray(row["noise_levels"])
        valid = np.asarray(row["valid"])
        label = f"{row['encoder']} ({row['n_features']})"
        for ax, name, seen in zip(axes, names, shown, strict=True):
            if per_dimension:
                own = name.removesuffix("_gap")
                value, error = as_array(row[own]), as_array(row[f"{own}_stderr"])
            else:
                value, error = in_dimensions(row)[name]
            seen += [float(v) for v in value if math.isfinite(v)]
            ax.plot(sigma, value, color=colour, lw=width, alpha=0.75, zorder=2)
            ax.errorbar(sigma, value, 2 * error, ls="none", color=colour, elinewidth=1.0, zorder=3)
            for here, face, words in ((valid, colour, label), (~valid, "white", None)):
                ax.plot(
                    sigma[here], value[here], ls="none", marker=marker, ms=4.5, color=colour,
                    mfc=face, label=words, zorder=4,
                )  # fmt: skip
    for ax, words, seen in zip(axes, titles, shown, strict=True):
        ax.set_title(words, loc="left", fontsize=10)
        ax.spines[["top", "right"]].set_visible(False)
        log_axis(ax, decades=decades(data["noise_levels"]))
        ax.set_xlabel(r"$\sigma$ of the data  (latents at $c\,\sigma$)")
        if per_dimension:
            ax.axhline(0, color="0.8", lw=0.8, zorder=0)
            low, high = min(0.0, *seen), max(1.0, *seen)
            ax.set_ylim(low - 0.04 * (high - low), high + 0.06 * (high - low))
        elif seen and min(seen) > 0:
            log_axis(ax, decades=decades(seen), axis="y")
        elif seen:
            # n - t^2 R is below zero where the noise merges modes
            ax.set_yscale("symlog", linthresh=max(1e-2 * max(seen), 1e-6))
    ax = axes[0]
    ax.plot([], [], ls="none", marker="o", mfc="white", color="0.4", label="not valid")
    legend_below(figure, axes, ncols=min(6, len(rows) + 1))
    if title or data["dataset"]:
        figure.suptitle(title or data["dataset"])
    return figure
