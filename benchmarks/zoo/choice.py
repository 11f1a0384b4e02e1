"""The choice of the protocol: made on one half of the families, judged on the others."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy.special import ndtri
from scipy.stats import rankdata

from benchmarks.zoo.config import ENCODERS
from benchmarks.zoo.declared import LEVELS, oriented
from benchmarks.zoo.table import Setting, Table, read_table

__all__ = [
    "GAIN",
    "MAX_TERMS",
    "MIN_COVERAGE",
    "Choice",
    "Step",
    "choose",
    "combined",
    "halves",
    "left_out_choices",
    "left_out_values",
    "normal_scores",
    "spearman",
]

MAX_TERMS = 3
GAIN = 0.02
"""What a further term has to add to the mean Spearman on the choosing half."""

MIN_ENCODERS = 4
MIN_COVERAGE = 0.9
"""Share of the encoders for which a candidate must have a value in every setting."""


class Step(NamedTuple):
    """One step of the search: the terms, and their mean Spearman on the choosing half."""

    terms: tuple[str, ...]
    score: float


@dataclass(frozen=True)
class Choice:
    """What was chosen.

    Attributes
    ----------
    needs : str
        The level of `LEVELS` within which candidates were sought.
    terms : tuple of str
        Names; each enters with the weight +-1 of its declared direction. Empty where no candidate
        could be judged.
    score : float
        Mean Spearman on the families it was chosen on.
    families : tuple of str
        Those it was chosen on.
    path : tuple of Step
    singles : tuple of Step
        The ten best single candidates there.
    n_candidates : int
        That could be judged.
    """

    needs: str
    terms: tuple[str, ...]
    score: float
    families: tuple[str, ...]
    path: tuple[Step, ...]
    singles: tuple[Step, ...]
    n_candidates: int

    def __str__(self) -> str:
        return " + ".join(self.terms) if self.terms else "nothing"


def halves(families: Iterable[str] | None = None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The choosing and the judging half: alphabetical order, dealt alternately.

    Families of distortions are judged on only. None is the families of the configuration.
    """
    if families is None:
        families = {c.family for c in ENCODERS if not c.distorts}
    ordered = sorted(set(families) - {"distortion"})
    return tuple(ordered[0::2]), (*ordered[1::2], "distortion")


def normal_scores(values: Any) -> np.ndarray:
    """Normal quantiles of the ranks, at (rank - 1/2) / n; a missing value is put in the middle."""
    values = np.asarray(values, dtype=float)
    scores, there = np.zeros(len(values)), np.isfinite(values)
    if there.any():
        scores[there] = ndtri((rankdata(values[there]) - 0.5) / there.sum())
    return scores


def spearman(columns: np.ndarray, quality: np.ndarray) -> np.ndarray:
    """Spearman's rho of every column with the quality; NaN for a constant column."""
    x, y = rankdata(columns, axis=0), rankdata(quality)
    x, y = x - x.mean(axis=0), y - y.mean()
    scale = np.sqrt(np.sum(x**2, axis=0) * np.sum(y**2))
    return np.where(scale > 1e-9, y @ x / np.where(scale > 1e-9, scale, 1.0), math.nan)


def combined(table: Table, terms: Sequence[str], dataset: str, names: Sequence[str]) -> np.ndarray:
    """Sum of the rank-normalised, oriented columns over the encoders named.

    NaN where the encoder lacks every term.
    """
    columns = [oriented(table.column(dataset, t, names), table.declared[t]) for t in terms]
    total = np.sum([normal_scores(column) for column in columns], axis=0)
    return np.where(np.all(~np.isfinite(columns), axis=0), math.nan, total)


def choose(rows: Any, needs: str = LEVELS[-1], *, families: Iterable[str] | None = None) -> Choice:
    """Choose a candidate or a sum of at most three by the rule of the protocol.

    Parameters
    ----------
    rows : Table or rows
    needs : str
        What a user has: candidates of this level and of those before it are sought.
    families : iterable of str, optional
        To choose on; None is the choosing half.

    Returns
    -------
    Choice

    Raises
    ------
    ValueError
        If `needs` is no level.
    """
    if needs not in LEVELS:
        raise ValueError(f"needs is {needs!r}: it is one of {', '.join(LEVELS)}.")
    table = rows if isinstance(rows, Table) else read_table(rows)
    chosen_on = tuple(sorted(halves()[0] if families is None else set(families)))
    allowed = LEVELS[: LEVELS.index(needs) + 1]
    names = sorted(
        d.name
        for d in table.declared.values()
        if d.kind == "candidate"
        and d.needs in allowed
        and d.higher_is_better is not None
        and not d.late
    )
    parts = [
        part
        for s in table.main_settings
        if (part := _columns(table, s, names, chosen_on)) is not None
    ]
    usable = [k for k in range(len(names)) if parts and all(p.usable[k] for p in parts)]
    names = [names[k] for k in usable]
    if not names:
        return Choice(needs, (), math.nan, chosen_on, (), (), 0)
    parts = [p._replace(columns=p.columns[:, usable]) for p in parts]

    def scores(current: tuple[int, ...]) -> np.ndarray:
        """Mean Spearman of the current terms with each candidate added."""
        found = [
            spearman(p.columns[:, list(current)].sum(axis=1)[:, None] + p.columns, p.quality)
            for p in parts
        ]
        return np.mean(found, axis=0)

    def best(values: np.ndarray, without: tuple[int, ...] = ()) -> int:
        values = np.where(np.isfinite(values), values, -np.inf)
        values[list(without)] = -np.inf
        return int(np.argmax(values))

    alone = scores(())
    terms = (best(alone),)
    path = [Step((names[terms[0]],), float(alone[terms[0]]))]
    while len(terms) < min(MAX_TERMS, len(names)):
        values = scores(terms)
        added = best(values, terms)
        if not values[added] >= path[-1].score + GAIN:
            break
        terms = (*terms, added)
        path.append(Step(tuple(names[k] for k in terms), float(values[added])))
    order = np.argsort(np.where(np.isfinite(alone), -alone, np.inf), kind="stable")[:10]
    singles = tuple(Step((names[k],), float(alone[k])) for k in order)
    last = path[-1]
    return Choice(needs, last.terms, last.score, chosen_on, tuple(path), singles, len(names))


class _Columns(NamedTuple):
    columns: np.ndarray  # (encoders, candidates), normal scores, oriented
    quality: np.ndarray  # larger is better
    usable: np.ndarray


def _columns(
    table: Table, setting: Setting, candidates: Sequence[str], families: Sequence[str]
) -> _Columns | None:
    members = table.encoders[setting.dataset]
    names = [name for name in table.quality[setting] if members[name].family in families]
    if len(names) < MIN_ENCODERS or not candidates:
        return None
    raw = [oriented(table.column(setting.dataset, c, names), table.declared[c]) for c in candidates]
    usable = np.array([np.isfinite(column).mean() >= MIN_COVERAGE for column in raw])
    quality = -np.array([table.quality[setting][name].mean for name in names])
    return _Columns(np.stack([normal_scores(c) for c in raw], axis=1), quality, usable)


def left_out_choices(table: Table, needs: str) -> dict[str, Choice]:
    """For every family, the choice on the other families that are no distortions."""
    families = {e.family for members in table.encoders.values() for e in members.values()}
    return {
        family: choose(table, needs, families=families - {family, "distortion"})
        for family in sorted(families)
    }


def left_out_values(
    table: Table, terms: Mapping[str, Sequence[str]]
) -> dict[str, dict[str, float]]:
    """Values of the encoders by the terms that were chosen without their family.

    A sum of terms is rank-normalised among all encoders of the data set, so that the values of
    different choices can be pooled.

    Returns
    -------
    mapping of data set to mapping of encoder to float
    """
    found: dict[str, dict[str, float]] = {}
    for dataset, members in table.encoders.items():
        names = [name for name in members if name not in table.excluded.get(dataset, {})]
        columns = {
            tuple(chosen): normal_scores(combined(table, chosen, dataset, names))
            for chosen in terms.values()
            if chosen
        }
        found[dataset] = {
            name: float(columns[tuple(chosen)][k])
            for k, name in enumerate(names)
            if (chosen := terms.get(members[name].family))
        }
    return found
