"""Correlations of every number with generation: per setting, and averaged over settings."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import rankdata

from benchmarks.zoo.choice import MIN_COVERAGE, halves
from benchmarks.zoo.declared import Declared, oriented
from benchmarks.zoo.table import Setting, Table
from skfisher._backend.correlations import (
    correlations,
    group_codes,
    interval,
    leave_out,
    resample_counts,
)
from skfisher.prediction import compare_predictors, predictiveness

__all__ = [
    "SUBSETS",
    "means_over_settings",
    "members_of",
    "orient_undeclared",
    "records_of_setting",
    "spearman_of",
    "within_families",
]

SUBSETS = ("all", "undistorted", "judging")
MIN_MEMBERS = 3
"""A family of fewer encoders says nothing about the order within families."""

MIN_PAIRED = 8
CONFIDENCE = 0.95
BASELINE = "dimension"
"""The candidate that costs nothing: beside it every other is judged."""
FEW = 200
"""Resamples where the jackknife makes the interval of the ranks."""

Plan = tuple[int, int]
"""Resamples and seed."""


def members_of(table: Table, setting: Setting, subset: str) -> list[str]:
    """Encoders of a setting: all, those that are not distortions, or the judging half."""
    members, judged = table.encoders[setting.dataset], halves()[1]
    tests = {
        "all": lambda e: True,
        "undistorted": lambda e: not e.distorts,
        "judging": lambda e: e.family in judged,
    }
    return [name for name in table.quality[setting] if tests[subset](members[name])]


def spearman_of(x: Any, y: Any) -> float:
    """Spearman's rho over the pairs that are finite; NaN where a column is constant."""
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    there = np.isfinite(x) & np.isfinite(y)
    if there.sum() < 2:
        return math.nan
    return float(correlations(x[there], y[there], np.ones((1, there.sum())))["spearman"][0])


def within_families(values: np.ndarray, families: Sequence[str]) -> np.ndarray:
    """Centred ranks within the family, divided by its size plus 1.

    NaN for values that are not finite, and for families with fewer than three finite ones.
    """
    found = np.full(len(values), math.nan)
    for family in set(families):
        rows = np.flatnonzero((np.array(families) == family) & np.isfinite(values))
        if len(rows) >= MIN_MEMBERS:
            found[rows] = rankdata(values[rows]) / (len(rows) + 1) - 0.5
    return found


def orient_undeclared(table: Table) -> Table:
    """Give rivals without a published direction the one that suits them, in hindsight."""
    declared = dict(table.declared)
    for name, number in declared.items():
        if number.higher_is_better is None and number.kind == "rival":
            found = [_plain_spearman(table, s, number) for s in table.main_settings]
            found = [r for r in found if math.isfinite(r)]
            if found:
                meaning = "; ".join(filter(None, [number.meaning, "direction in hindsight"]))
                better = bool(np.mean(found) > 0)
                declared[name] = number._replace(higher_is_better=better, meaning=meaning)
    return replace(table, declared=declared)


def _plain_spearman(table: Table, setting: Setting, number: Declared) -> float:
    names = members_of(table, setting, "all")
    return spearman_of(table.column(setting.dataset, number.name, names), _quality(table, setting))


def _quality(table: Table, setting: Setting, names: Sequence[str] | None = None) -> np.ndarray:
    """Minus log Frechet distance: larger is better."""
    found = table.quality[setting]
    return -np.array([found[name].mean for name in (found if names is None else names)])


def _columns(table: Table, dataset: str, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Every number that two of the encoders have, larger announced as better."""
    found = {
        name: oriented(table.column(dataset, name, names), declared)
        for name, declared in table.declared.items()
    }
    return {name: column for name, column in found.items() if np.isfinite(column).sum() >= 2}


def records_of_setting(
    table: Table, setting: Setting, subset: str, plan: Plan
) -> list[dict[str, Any]]:
    """One record per number on the encoders of a setting; a wrong-way correlation is negative."""
    names = members_of(table, setting, subset)
    columns = _columns(table, setting.dataset, names)
    if not columns:
        return []
    members = [table.encoders[setting.dataset][name] for name in names]
    families, y = [m.family for m in members], _quality(table, setting, names)
    n_resamples, seed = plan
    options = {"n_resamples": min(FEW, n_resamples), "random_state": seed, "confidence": CONFIDENCE}
    by_encoder = predictiveness(columns, y, **options | {"n_resamples": n_resamples})
    given = predictiveness(
        columns,
        y,
        dimension=[float(m.dimension) for m in members],
        reconstruction=[m.reconstruction for m in members],
        **options | {"n_resamples": 100},
    )
    by_family = predictiveness(columns, y, families=families, **options)
    inside = predictiveness(
        {name: within_families(column, families) for name, column in columns.items()},
        within_families(y, families),
        families=families,
        **options,
    )
    real = np.array([-table.real[setting][n].mean if n in table.real[setting] else math.nan
                     for n in names])  # fmt: skip
    found = []
    for name in columns:
        one, two, within = by_encoder[name], by_family[name], inside[name].pearson
        partial = given[name].partial_spearman
        left = {f: r["spearman"] for f, r in two.leave_one_family_out.items()}
        left = {f: r for f, r in left.items() if math.isfinite(r)}
        lowest = min(left, key=left.__getitem__, default=None)
        found.append(
            {
                "number": name,
                "setting": str(setting),
                "subset": subset,
                "n": one.n,
                "spearman": one.spearman.value,
                "low": one.spearman.low,
                "high": one.spearman.high,
                "percentile_low": one.spearman.percentile[0],
                "percentile_high": one.spearman.percentile[1],
                "family_low": two.spearman.low,
                "family_high": two.spearman.high,
                "partial": partial.value,
                "partial_low": partial.low,
                "partial_high": partial.high,
                "within": within.value,
                "within_low": within.low,
                "within_high": within.high,
                "without_family_low": left[lowest] if left else math.nan,
                "without_family_high": max(left.values(), default=math.nan),
                "hangs_on": lowest,
                "real": spearman_of(columns[name], real),
            }
        )
    return _beside_rivals(table, columns, y, found, options)


def _beside_rivals(
    table: Table,
    columns: Mapping[str, np.ndarray],
    y: np.ndarray,
    records: list[dict[str, Any]],
    options: Mapping[str, Any],
) -> list[dict[str, Any]]:
    """Each record with its comparison to the rivals, each on the encoders that both have.

    A rival counts by its strength in either direction, and the strongest of those that nearly all
    encoders have is picked on these encoders: both in hindsight, in favour of the rivals.
    """
    n = len(y)
    strength = {r["number"]: r["spearman"] for r in records if r["n"] >= MIN_COVERAGE * n}
    best = _strongest(table, strength)
    rivals = [name for name in columns if table.declared[name].kind == "rival"]
    for record in records:
        name = record["number"]
        record |= {"rival": best, "over_best_rival": math.nan}
        if table.declared[name].kind == "rival":
            continue
        gaps = {other: _gap(columns[name], columns[other], y) for other in rivals}
        gaps = {other: gap for other, gap in gaps.items() if math.isfinite(gap)}
        closest = min(gaps, key=gaps.__getitem__, default=None)
        record["closest_rival"] = closest
        record["over_every_rival"] = gaps[closest] if closest is not None else math.nan
        if best is None or best not in gaps:
            continue
        record["over_best_rival"] = gaps[best]
        if record["spearman"] > 0:
            pair = columns[name], columns[best]
            found = compare_predictors(*pair, y, names=(name, best), **options)
            record["over_best_rival_low"] = found.spearman.low
            record["over_best_rival_high"] = found.spearman.high
            record["wins"] = found.win_probability["spearman"]
    return records


def _gap(column: np.ndarray, rival: np.ndarray, y: np.ndarray) -> float:
    """Spearman minus the size of the rival's, on the encoders that have both.

    NaN on fewer than `MIN_PAIRED` encoders, of which some rival will always be strong by chance.
    """
    there = np.isfinite(column) & np.isfinite(rival)
    if there.sum() < MIN_PAIRED:
        return math.nan
    return spearman_of(column[there], y[there]) - abs(spearman_of(rival[there], y[there]))


def _strongest(table: Table, strength: Mapping[str, float]) -> str | None:
    found = {
        name: abs(value)
        for name, value in strength.items()
        if table.declared[name].kind == "rival" and math.isfinite(value)
    }
    return max(found, key=found.__getitem__, default=None)


class _Part(NamedTuple):
    """A number in one setting: values, quality, and places among the encoders of all settings."""

    x: np.ndarray
    y: np.ndarray
    rows: np.ndarray


class _Mean(NamedTuple):
    value: float
    left: np.ndarray
    boot: np.ndarray


def means_over_settings(
    table: Table, subset: str, records: Sequence[Mapping[str, Any]], plan: Plan
) -> list[dict[str, Any]]:
    """Spearman averaged over the settings of the MLP flow.

    An encoder that is resampled or left out is so in every setting at once; likewise a family.
    """
    members = {s: members_of(table, s, subset) for s in table.main_settings}
    names = list(dict.fromkeys(n for found in members.values() for n in found))
    if not names:
        return []
    place = {name: k for k, name in enumerate(names)}
    parts: dict[str, dict[Setting, _Part]] = {}
    for setting, found in members.items():
        y, rows = _quality(table, setting, found), np.array([place[n] for n in found], dtype=int)
        for name, x in _columns(table, setting.dataset, found).items():
            there = np.isfinite(x)
            part = _Part(x[there], y[there], rows[there])
            parts.setdefault(name, {})[setting] = part
    codes = {
        "encoder": group_codes(names)[1],
        "family": group_codes([table.family(name) for name in names])[1],
    }
    n_resamples, seed = plan
    counts = {"encoder": n_resamples, "family": min(FEW, n_resamples)}
    weights = {
        unit: (leave_out(code), resample_counts(code, counts[unit], seed))
        for unit, code in codes.items()
    }
    found = {
        unit: {name: _mean(list(of.values()), *weights[unit]) for name, of in parts.items()}
        for unit in codes
    }
    # what a data set or many encoders lack is compared setting by setting
    sizes = {setting: len(of) for setting, of in members.items()}
    complete = {
        name: mean.value
        for name, mean in found["encoder"].items()
        if all(
            setting in parts[name] and len(parts[name][setting].x) >= MIN_COVERAGE * size
            for setting, size in sizes.items()
        )
    }
    rival = _strongest(table, complete)
    by_number: dict[str, list[Mapping[str, Any]]] = {}
    for record in records:
        if record["subset"] == subset and record["setting"] in set(map(str, members)):
            by_number.setdefault(record["number"], []).append(record)
    result = []
    for name, mean in found["encoder"].items():
        of_family = found["family"][name]
        own = interval(mean.value, mean.boot, mean.left, CONFIDENCE, ranks=True)
        whole = interval(of_family.value, of_family.boot, of_family.left, CONFIDENCE, ranks=True)
        each = {str(s): spearman_of(p.x, p.y) for s, p in parts[name].items()}
        record = {
            "number": name,
            "subset": subset,
            "settings": len(parts[name]),
            "n": len({k for p in parts[name].values() for k in p.rows.tolist()}),
            "spearman": mean.value,
            "low": own.low,
            "high": own.high,
            "percentile_low": own.percentile_low,
            "percentile_high": own.percentile_high,
            "family_low": whole.low,
            "family_high": whole.high,
            "worst": min(each.values()),
            "worst_setting": min(each, key=each.__getitem__),
            "rival": rival,
        }
        for key in ("within", "partial", "real"):
            values = [r[key] for r in by_number.get(name, []) if math.isfinite(r[key])]
            record[key] = float(np.mean(values)) if values else math.nan
        lowest = [r for r in by_number.get(name, []) if math.isfinite(r["without_family_low"])]
        if lowest:
            least = min(lowest, key=lambda r: r["without_family_low"])
            record["without_family_low"] = least["without_family_low"]
            record["without_family_high"] = max(r["without_family_high"] for r in lowest)
            record["hangs_on"] = least["hangs_on"]
        for key, other in (("over_best_rival", rival), ("over_dimension", BASELINE)):
            if other in complete and name in complete and name != other:
                record |= _over(mean, found["encoder"][other], key)
        result.append(record)
    return sorted(result, key=lambda r: -r["spearman"] if math.isfinite(r["spearman"]) else 2.0)


def _over(mean: _Mean, other: _Mean, key: str) -> dict[str, float]:
    """How far a mean is above the other's size, with the interval of the difference."""
    sign = math.copysign(1.0, other.value)
    gap = interval(
        mean.value - abs(other.value),
        mean.boot - sign * other.boot,
        mean.left - sign * other.left,
        CONFIDENCE,
        ranks=True,
        bounded=False,
    )
    return {key: mean.value - abs(other.value), f"{key}_low": gap.low, f"{key}_high": gap.high}


def _mean(parts: Sequence[_Part], left: np.ndarray, boot: np.ndarray) -> _Mean:
    def over(weights: np.ndarray) -> np.ndarray:
        # a resample may hold none of the encoders of a setting
        with np.errstate(invalid="ignore", divide="ignore"):
            found = [correlations(p.x, p.y, weights[:, p.rows])["spearman"] for p in parts]
        return np.mean(found, axis=0)

    return _Mean(float(over(np.ones_like(left[:1]))[0]), over(left), over(boot))
