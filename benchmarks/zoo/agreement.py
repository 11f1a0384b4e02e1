"""Whether a study that was run again, perhaps in part, reaches the committed figures."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from benchmarks.zoo.correlates import spearman_of
from benchmarks.zoo.table import Table, read_table

__all__ = ["Agreement", "agreement"]


@dataclass(frozen=True)
class Agreement:
    """Whether a study that was run again reaches the committed figures.

    Attributes
    ----------
    rows : tuple of dict
        Per setting and encoder: `found` and `committed` log Frechet distance, and the ends of the
        prediction interval.
    numbers : tuple of dict
        Per data set, encoder and number that was measured on it with an error: the same, the
        interval being that of the committed number.
    rank_correlation : mapping of str to float
        Spearman of the two, per setting.
    confidence : float
    """

    rows: tuple[dict[str, Any], ...]
    numbers: tuple[dict[str, Any], ...]
    rank_correlation: Mapping[str, float]
    confidence: float

    @property
    def inside(self) -> int:
        """Figures inside their interval."""
        return sum(row["inside"] for row in self.rows)

    @property
    def agrees(self) -> bool:
        """Whether no fewer distances are inside than chance leaves in 99 of 100 studies, and all
        numbers but a hundredth, which are measured on the same images.
        """
        needed = stats.binom.ppf(0.01, len(self.rows), self.confidence)
        outside = sum(not row["inside"] for row in self.numbers)
        return bool(self.rows) and self.inside >= needed and outside <= len(self.numbers) / 100

    def __repr__(self) -> str:
        lines = [
            f"{self.inside} of {len(self.rows)} log Frechet distances inside their "
            f"{100 * self.confidence:g} % prediction interval: "
            + ("agrees" if self.agrees else "does not agree")
        ]
        outside = [row for row in self.numbers if not row["inside"]]
        lines.append(
            f"{len(self.numbers) - len(outside)} of {len(self.numbers)} numbers of encoders inside "
            f"their {100 * self.confidence:g} % interval"
        )
        lines += [
            f"! {row['encoder']:<18} {row['number']} {row['found']:.4g} in "
            f"[{row['low']:.4g}, {row['high']:.4g}]  {row['dataset']}"
            for row in outside
        ]
        lines += [f"{s}: rank correlation {r:.2f}" for s, r in self.rank_correlation.items()]
        for row in self.rows:
            mark = " " if row["inside"] else "!"
            lines.append(
                f"{mark} {row['encoder']:<18} {row['found']:+.3f} in "
                f"[{row['low']:+.3f}, {row['high']:+.3f}]  {row['setting']}"
            )
        return "\n".join(lines)


def agreement(reduced_rows: Any, committed_rows: Any, confidence: float = 0.95) -> Agreement:
    """Compare the encoders and settings of a reduced study with the committed rows.

    The mean of k seeds is expected within m +- t s sqrt(1/n + 1/k) of the committed mean m of n
    seeds, with s the spread over seeds pooled over the encoders of the setting and t the quantile
    of its degrees of freedom.

    Raises
    ------
    ValueError
        If no setting and encoder is in both, or the committed rows hold one seed each.
    """
    reduced, committed = (read_table(rows, {}) for rows in (reduced_rows, committed_rows))
    rows, ranks = [], {}
    for setting, found in reduced.quality.items():
        known = committed.quality.get(setting, {})
        names = [name for name in found if name in known]
        freedom = sum(len(q.values) - 1 for q in known.values())
        if not names or not freedom:
            continue
        quantile = float(stats.t.ppf(0.5 + confidence / 2, freedom))
        pairs = []
        for name in names:
            before, now = known[name], found[name]
            n, k = len(before.values), len(now.values)
            half = quantile * before.stderr * math.sqrt(n) * math.sqrt(1 / n + 1 / k)
            pairs.append((now.mean, before.mean))
            rows.append(
                {
                    "setting": str(setting),
                    "encoder": name,
                    "found": now.mean,
                    "committed": before.mean,
                    "low": before.mean - half,
                    "high": before.mean + half,
                    "inside": abs(now.mean - before.mean) <= half,
                }
            )
        ranks[str(setting)] = spearman_of(*np.array(pairs).T)
    if not rows:
        raise ValueError(
            "reduced_rows and committed_rows have no encoder and setting in common with at least "
            "two committed seeds: run `python -m benchmarks.zoo collect` first."
        )
    return Agreement(tuple(rows), _numbers(reduced, committed, confidence), ranks, confidence)


def _numbers(reduced: Table, committed: Table, confidence: float) -> tuple[dict[str, Any], ...]:
    quantile = float(stats.norm.ppf(0.5 + confidence / 2))
    rows = []
    for dataset, numbers in reduced.numbers.items():
        for number, values in numbers.items():
            known = committed.numbers.get(dataset, {}).get(number, {})
            errors = committed.stderrs.get(dataset, {}).get(number, {})
            for name, value in values.items():
                before, error = known.get(name, math.nan), errors.get(name, math.nan)
                if math.isfinite(before) and math.isfinite(error):
                    half = quantile * error + 1e-9 * abs(before)  # rounding, where it is exact
                    rows.append(
                        {
                            "dataset": dataset,
                            "encoder": name,
                            "number": number,
                            "found": value,
                            "committed": before,
                            "low": before - half,
                            "high": before + half,
                            "inside": abs(value - before) <= half,
                        }
                    )
    return tuple(rows)
