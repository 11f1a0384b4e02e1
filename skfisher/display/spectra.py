"""Singular values of an encoder along the data's tangents, and its stretch by distance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from skfisher._backend.arrays import Array, like, namespace, take_rows, to_numpy
from skfisher._backend.validation import as_sample
from skfisher.display.drawing import COLOURS, Display, decades, finite, log_axis, say_nothing
from skfisher.geometry import BiLipschitz, DistanceProfile, distance_profile
from skfisher.geometry.affine import RETAINED
from skfisher.geometry.distances import quantiles_of

__all__ = ["SpectrumDisplay"]

_BANDS = ((0, 6, 0.14), (1, 5, 0.22), (2, 4, 0.34))
_LEVELS = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
_NAMES = ("all", "5 to 95 %", "25 to 75 %")
_FEW = 12  # singular values that are drawn one by one


@dataclass(eq=False)
class SpectrumDisplay(Display):
    """Singular values of Df on the data's tangents by index, and ratios of distances.

    Make it by `from_report` or `from_audit`. Beside the spectrum stands the profile of the ratios
    |z - z'| / |x - x'| by distance where rows were given, otherwise their quantiles over near and
    far pairs.

    Parameters
    ----------
    bi_lipschitz : BiLipschitz
    c : float
        Scale of the encoder, in z/x.
    intrinsic_dimension : int
        k: of r singular values fewer, k - r directions are lost everywhere.
    singular_values : array of shape (A, r) or None
        Decreasing, in z/x; one row for an affine map.
    profile : DistanceProfile or None
    title : str

    Attributes
    ----------
    figure_ : matplotlib Figure
    axes_ : array of two matplotlib Axes

    Examples
    --------
    >>> import numpy as np
    >>> from skfisher import LatentGeometryAuditor
    >>> X = np.random.default_rng(0).normal(size=(200, 2))
    >>> audit = LatentGeometryAuditor(lambda x: x * [1.0, 3.0], score_model="gaussian").fit(X)
    >>> SpectrumDisplay.from_audit(audit, X).to_png()[1:4]
    b'PNG'
    """

    bi_lipschitz: BiLipschitz
    c: float
    intrinsic_dimension: int
    singular_values: Array | None = field(default=None, repr=False)
    profile: DistanceProfile | None = None
    title: str = ""

    @classmethod
    def from_report(
        cls, report: Any, X: Any = None, Z: Any = None, *, title: str = ""
    ) -> SpectrumDisplay:
        """Display of an `AuditReport`.

        Parameters
        ----------
        report : AuditReport
        X, Z : arrays of shape (N, D), (N, d), default=None
            Rows of the data and their latents, for the profile by distance and for the spectrum of
            an affine encoder, which the report does not keep.
        title : str

        Raises
        ------
        ValueError
            One of X and Z without the other; rows that `distance_profile` refuses.
        """
        if (X is None) != (Z is None):
            raise ValueError(
                f"only {'Z' if X is None else 'X'} was given: pass rows and their latents, or "
                f"neither."
            )
        penalties, lipschitz = report.penalties, report.bi_lipschitz
        point, c = penalties.pointwise, float(report.scale.c)
        values = None if point is None else point.singular_values
        if values is None and report.linear_map is not None:
            values = report.linear_map.singular_values[None, :]
        profile = None
        if X is not None:
            X = as_sample(X)
            if math.isfinite(c) and c > 0:
                profile = distance_profile(X, Z, c=c, random_state=report.random_state)
        return cls(lipschitz, c, penalties.intrinsic_dimension, values, profile, title)

    @classmethod
    def from_audit(cls, audit: Any, X: Any = None, *, title: str = "") -> SpectrumDisplay:
        """Display of a fitted auditor.

        Parameters
        ----------
        audit : LatentGeometryAuditor
        X : array of shape (n_samples, D), default=None
            The rows that it was fitted on; those that it audited are encoded anew.
        title : str

        Raises
        ------
        sklearn.exceptions.NotFittedError
            The auditor has not been fitted.
        ValueError
            Another number of rows than it was fitted on.
        """
        from sklearn.utils.validation import check_is_fitted

        check_is_fitted(audit)
        report = audit.report_
        if X is None:
            return cls.from_report(report, title=title)
        X = as_sample(X)
        if X.shape[0] != report.n_samples:
            raise ValueError(
                f"X has {X.shape[0]} rows, but the audit was fitted on {report.n_samples}: pass "
                f"the same rows."
            )
        X = take_rows(X, to_numpy(report.rows))
        return cls.from_report(report, X, audit._encode(X, X), title=title)

    def _n_panels(self) -> int:
        return 2

    def _size(self) -> tuple[float, float]:
        return (10.4, 4.6)

    def _subplots(self, figure: Any) -> Any:
        return figure.subplots(1, 2)

    def _draw(self, axes: list[Any]) -> None:
        self._draw_spectrum(axes[0])
        if self.profile is None:
            self._draw_pairs(axes[1])
        else:
            self._draw_profile(axes[1], self.profile)

    def _draw_spectrum(self, ax: Any) -> None:
        values = self.singular_values
        title = "singular values of $Df$ on the data's tangents"
        ax.set_title(title, loc="left")
        if values is None:
            say_nothing(
                ax, "singular values are not known: the encoder's derivatives were not "
                "measured, or the encoder is affine and no rows were given",
            )  # fmt: skip
            return
        xp = namespace(values)
        s, k = values, self.intrinsic_dimension
        least = RETAINED * float(xp.max(xp.where(xp.isfinite(s), s, xp.zeros_like(s))))
        n_anchors, r = s.shape
        columns, lost = [], []
        for i in range(r):
            here = [v for v in finite(to_numpy(s[:, i]))]
            kept = [v for v in here if v > least]
            lost.append((len(here) - len(kept)) / max(len(here), 1))
            columns.append(_quantiles(kept, s))
        lost += [1.0] * (k - r)
        index = list(range(1, r + 1))
        blue, orange = COLOURS[:2]
        if n_anchors > 1:
            _draw_bands(ax, index, columns, blue, apart=r <= _FEW)
        label = f"median of {n_anchors} points" if n_anchors > 1 else "the affine map"
        ax.plot(index, [q[3] for q in columns], color=blue, marker="o", ms=4, lw=1.4, label=label)
        self._mark_constants(ax, ax.axhline)
        known = finite([v for q in columns for v in q] + [self.c])
        if known:
            log_axis(ax, decades([v for v in known if v > 0]), axis="y")
            low, high = min(known), max(known)
            room = max(high / low, 1.2) ** 0.12
            ax.set_ylim(low / room ** (2.2 if any(lost) else 1), high * room)
        gone = [i for i, share in enumerate(lost, start=1) if share > 0]
        counted = max(k, r) <= _FEW
        if gone:
            frame = ax.get_xaxis_transform()
            ax.plot(
                gone, [0.05] * len(gone), "x", color=orange, ms=7, mew=2, transform=frame,
                label="lost (share of points)" if counted else "lost at some points or all",
            )  # fmt: skip
            if counted:
                for i in gone:
                    ax.annotate(
                        f"{lost[i - 1]:.0%}", (i, 0.05), (0, 6), xycoords=frame, size=8,
                        ha="center", textcoords="offset points", color=orange,
                    )  # fmt: skip
        n = max(k, r)
        ax.set_xlim(0.5, n + 0.5)
        if n <= 20:
            ax.set_xticks(range(1, n + 1))
        ax.set_xlabel(f"index ($k$ = {k})")
        ax.set_ylabel("stretch (z/x)")
        _legend(ax)

    def _draw_profile(self, ax: Any, profile: DistanceProfile) -> None:
        edges = [float(e) for e in profile.edges]
        middle = [math.sqrt(a * b) for a, b in pairwise(edges)]
        rows = [[float(v) for v in row] for row in to_numpy(profile.quantiles)]
        green = COLOURS[2]
        _draw_bands(ax, middle, rows, green)
        ax.plot(
            middle, [row[3] for row in rows], color=green, marker="o", ms=4, lw=1.4, label="median"
        )
        ax.axhline(1.0, color="black", lw=1.1, ls="--", label="an isometry up to $c$")
        log_axis(ax, decades(edges))
        known = [v for row in rows for v in row if math.isfinite(v) and v > 0] or [1.0]
        log_axis(ax, decades(known), axis="y")
        low, high = min(*known, 0.9), max(*known, 1.1)
        ax.set_ylim(low / 1.15, high * 1.15)
        whose = "|x - x'|" if profile.by == "data" else "|z - z'| / c"
        ax.set_xlabel(f"distance ${whose}$ (units of X)")
        ax.set_ylabel("ratio $|z - z'| \\,/\\, c\\,|x - x'|$")
        folded = f"\n{profile.n_folded} pairs have one latent" if profile.n_folded else ""
        ax.set_title(f"stretch of pairs by distance{folded}", loc="left")
        _legend(ax)

    def _draw_pairs(self, ax: Any) -> None:
        found = self.bi_lipschitz
        kinds = (
            ("neighbours\nin X", found.near_quantiles),
            ("neighbours\nin Z", found.latent_near_quantiles),
            ("random\npairs", found.far_quantiles),
        )
        green = COLOURS[2]
        positive: list[float] = []
        for row, (_, quantiles) in enumerate(kinds):
            q = [float(v) for v in to_numpy(quantiles)]
            known = [v for v in finite(q) if v > 0]
            positive += known
            if not known:
                continue
            floor = min(known)
            for (low, high), width, name in zip(
                ((0, 8), (2, 6), (3, 5)), (1.5, 5, 10), _NAMES, strict=True
            ):
                if math.isfinite(q[high]) and q[high] > 0:
                    ax.plot(
                        [max(q[low], floor), q[high]], [row, row], color=green, lw=width,
                        alpha=0.55, solid_capstyle="butt", label=name if row == 0 else None,
                    )  # fmt: skip
            if q[4] > 0:
                ax.plot(
                    [q[4]], [row], "o", color="black", ms=4, label="median" if row == 0 else None
                )
        self._mark_constants(ax, ax.axvline)
        ax.set_yticks(range(3), [name for name, _ in kinds])
        ax.set_ylim(2.6, -0.6)
        if positive:
            log_axis(ax, decades(positive))
        folded = f"\n{found.n_folded} pairs have one latent" if found.n_folded else ""
        ax.set_title(f"stretch of {found.n_pairs} pairs{folded}", loc="left")
        ax.set_xlabel("ratio $|z - z'| \\,/\\, |x - x'|$ (z/x)")
        _legend(ax)

    def _mark_constants(self, ax: Any, line: Any) -> None:
        """The scale and the two constants."""
        found = self.bi_lipschitz
        if math.isfinite(self.c) and self.c > 0:
            line(self.c, color="black", lw=1.1, ls="--", label=f"scale $c$ = {self.c:.3g}")
        for name, value in (("m", found.m), ("L", found.L)):
            if math.isfinite(value) and value > 0:
                about = "=" if found.exact else r"\approx"
                line(value, color="0.5", lw=1, ls=":", label=f"${name} {about}$ {value:.3g}")
            else:
                ax.plot([], [], " ", label=f"${name}$ = {'0' if value == 0 else 'infinite'}")


def _quantiles(kept: list[float], ref: Array) -> list[float]:
    """The seven of the positive values of one index; NaN where there is none."""
    if not kept:
        return [math.nan] * len(_LEVELS)
    return [float(v) for v in quantiles_of(like(kept, ref), _LEVELS)]


def _draw_bands(
    ax: Any, at: Sequence[float], rows: list[list[float]], colour: str, *, apart: bool = False
) -> None:
    """Nested bands of seven quantiles each, or bars where the places are few."""
    for (low, high, alpha), width, name in zip(_BANDS, (3, 8, 14), _NAMES, strict=True):
        ends = [row[low] for row in rows], [row[high] for row in rows]
        if apart:
            ax.vlines(at, *ends, color=colour, alpha=0.35, lw=width, label=name)
        else:
            ax.fill_between(at, *ends, color=colour, alpha=alpha, lw=0, label=name)


def _legend(ax: Any) -> None:
    """Below the panel, where it covers nothing."""
    ax.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=4)
