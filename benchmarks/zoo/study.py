"""The statistics of the protocol, from rows to a summary."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from scipy import stats

from benchmarks import _record
from benchmarks.zoo.agreement import Agreement, agreement
from benchmarks.zoo.choice import (
    MIN_COVERAGE,
    Choice,
    choose,
    combined,
    halves,
    left_out_choices,
    left_out_values,
)
from benchmarks.zoo.correlates import (
    CONFIDENCE,
    SUBSETS,
    Plan,
    means_over_settings,
    members_of,
    orient_undeclared,
    records_of_setting,
    spearman_of,
)
from benchmarks.zoo.declared import LEVELS, Declared, oriented
from benchmarks.zoo.reliability import Reliability, reliability
from benchmarks.zoo.table import (
    MEASURES,
    Setting,
    Table,
    fingerprint,
    missing_runs,
    read_table,
)
from skfisher.prediction import predictiveness

__all__ = [
    "LIBRARY",
    "Agreement",
    "Reliability",
    "agreement",
    "as_records",
    "between_settings",
    "choice_name",
    "criteria",
    "failures",
    "left_out_name",
    "other_measures",
    "reliability",
    "summarise",
    "table_of",
]

N_RESAMPLES = 1000
PROPERTIES = ("dimension", "log_condition", "kurtosis", "nonlinearity_log", "reconstruction")
"""Of the latents, with which the failures of a number are correlated."""
LIBRARY = "surrogate_shipped"
"""What the library measures by default."""


def summarise(
    rows: Any,
    *,
    declared: Mapping[str, Declared] | None = None,
    n_resamples: int = N_RESAMPLES,
    random_state: int = 0,
) -> dict[str, Any]:
    """All statistics of the protocol, ready for JSON.

    Parameters
    ----------
    rows : mapping of kind to rows
    declared : mapping of str to Declared, optional
        None is the table of candidates and the rivals.
    n_resamples : int
        Of encoders and of families.
    random_state : int

    Returns
    -------
    dict
        `missing` lists what the protocol announces and the rows lack; NaN is None.
    """
    table = orient_undeclared(read_table(rows, declared))
    choices = {level: choose(table, level) for level in LEVELS}
    swapped = {level: choose(table, level, families=halves()[1][:-1]) for level in LEVELS}
    without = {
        level: left_out_choices(table, level) for level, choice in choices.items() if choice.terms
    }
    for level, found in without.items():
        terms = {family: choice.terms for family, choice in found.items()}
        _add_choice(table, level, choices[level].terms, terms)
    reliabilities = {s: reliability(q, random_state) for s, q in table.quality.items()}
    plan = (n_resamples, random_state)
    records = [
        record
        for setting in table.settings
        for subset in (("all", "undistorted") if setting.main else ("all",))
        for record in records_of_setting(table, setting, subset, plan)
    ]
    means = [
        record for subset in SUBSETS for record in means_over_settings(table, subset, records, plan)
    ]
    content = {
        "environment": _record.environment(),
        "rows": fingerprint(rows),
        "missing": missing_runs(rows),
        "lost": table.lost,
        "excluded": table.excluded,
        "halves": dict(zip(("choosing", "judging"), halves(), strict=True)),
        "settings": [_setting_record(table, s, reliabilities[s]) for s in table.settings],
        "between_settings": between_settings(table, plan),
        "other_measures": other_measures(table),
        "numbers": {name: _number_record(table, d) for name, d in table.declared.items()},
        "choices": {
            level: _choice_record(choice, swapped[level], without.get(level, {}))
            for level, choice in choices.items()
        },
        "best": _best_of_levels(table, means),
        "criteria": criteria(table, records),
        "failures": {
            level: failures(table, left_out_name(level))
            for level, choice in choices.items()
            if choice.terms
        }
        | ({"library": failures(table, LIBRARY)} if _measured(table, LIBRARY) else {}),
        "means": as_columns(means),
        "correlations": as_columns(records),
    }
    return _plain(content)


def as_columns(records: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Records as one list of keys and one list of values each: a third of the size."""
    keys = list(dict.fromkeys(key for record in records for key in record))
    return {"columns": keys, "rows": [[r.get(key, math.nan) for key in keys] for r in records]}


def as_records(columns: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What `as_columns` was given, with None for what was missing."""
    return [dict(zip(columns["columns"], row, strict=True)) for row in columns["rows"]]


def between_settings(table: Table, plan: Plan) -> list[dict[str, Any]]:
    """Spearman of the qualities of every two settings over the encoders that both have."""
    n_resamples, seed = plan
    found = []
    for one, two in combinations(table.settings, 2):
        first, second = table.quality[one], table.quality[two]
        names = [name for name in first if name in second]
        if len(names) >= 4:
            rho = predictiveness(
                {"first": [first[n].mean for n in names]},
                [second[n].mean for n in names],
                n_resamples=n_resamples,
                random_state=seed,
                confidence=CONFIDENCE,
            )["first"].spearman
            row = {"first": str(one), "second": str(two), "n": len(names)}
            found.append(row | {"spearman": rho.value, "low": rho.low, "high": rho.high})
    return found


def other_measures(table: Table) -> list[dict[str, Any]]:
    """Spearman of the other measures with the primary quality, and of the choices with them."""
    found = []
    for setting in table.main_settings:
        for measure, values in table.measures[setting].items():
            sign = 1.0 if MEASURES[measure] else -1.0
            y = [sign * value for value in values.values()]
            primary = [-table.quality[setting][name].mean for name in values]
            row = {"setting": str(setting), "measure": measure, "n": len(values)}
            row["quality"] = spearman_of(y, primary)
            for level in LEVELS:
                x = table.column(setting.dataset, choice_name(level), values)
                row[level] = spearman_of(x, y)
            found.append(row)
    return found


def choice_name(level: str) -> str:
    """The name under which the choice of a level stands among the numbers."""
    return f"choice ({level})"


def left_out_name(level: str) -> str:
    """The same for the values of choices that did not see the encoder's family."""
    return f"left out ({level})"


def table_of(rows: Any, summary: Mapping[str, Any]) -> Table:
    """The rows as a table with the numbers, directions and choices of a summary."""
    declared = {
        name: Declared(name, n["kind"], n["higher_is_better"], n["needs"], n["meaning"], n["late"])
        for name, n in summary["numbers"].items()
        if n["kind"] in ("candidate", "rival")
    }
    table = read_table(rows, declared)
    for level, choice in summary["choices"].items():
        if choice["terms"]:
            _add_choice(table, level, choice["terms"], choice["without_family"])
    return table


def _add_choice(
    table: Table, level: str, terms: Sequence[str], without: Mapping[str, Sequence[str]]
) -> None:
    """The choice and the left-out values as two more numbers."""
    values = left_out_values(table, without)
    name, other = choice_name(level), left_out_name(level)
    meaning = "chosen on the choosing half of the families"
    table.declared[name] = Declared(name, "choice", True, level, meaning)
    meaning = "each family by what was chosen on the others"
    table.declared[other] = Declared(other, "left out", True, level, meaning)
    for dataset, members in table.encoders.items():
        names = [n for n in members if n not in table.excluded.get(dataset, {})]
        sums = combined(table, terms, dataset, names)
        table.numbers[dataset][name] = dict(zip(names, map(float, sums), strict=True))
        table.numbers[dataset][other] = values.get(dataset, {})


def criteria(table: Table, records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What the protocol asks of a choice, level by level, with the figure in the worst setting.

    The last is of what the library measures, which no protocol chose: the same is asked of it, but
    for the family left out. `reached` is None while a main setting, or the figure in one, is
    missing.
    """
    settings = [str(s) for s in table.main_settings]
    judged = {level: choice_name(level) for level in LEVELS} | {"library": LIBRARY}
    known = {record["number"] for record in records}
    found = []
    for needs, name in judged.items():
        if name not in known:
            continue
        asked = [
            ("Spearman", name, "spearman", 0.85),
            ("lower end of its interval", name, "low", 0.6),
            ("lower end, bootstrap percentile", name, "percentile_low", 0.6),
            ("Spearman minus that of every rival", name, "over_every_rival", 0.0),
        ]
        if needs in LEVELS:
            left_out = left_out_name(needs)
            asked.append(("Spearman, family left out of the choice", left_out, "spearman", 0.75))
        for subset in ("all", "undistorted"):
            for title, number, key, bound in asked:
                figure = _worst(records, settings, number, subset, key)
                complete = len(settings) == 4 and math.isfinite(figure)
                reached = figure > bound if key != "spearman" else figure >= bound
                found.append(
                    {
                        "needs": needs,
                        "subset": subset,
                        "asked": title,
                        "bound": bound,
                        "worst": figure,
                        "reached": bool(reached) if complete else None,
                    }
                )
    return found


def _worst(
    records: Sequence[Mapping[str, Any]],
    settings: Sequence[str],
    number: str,
    subset: str,
    key: str,
) -> float:
    """The least figure over the settings; NaN where one of them lacks it."""
    of = {
        r["setting"]: r.get(key, math.nan)
        for r in records
        if r["number"] == number and r["subset"] == subset
    }
    values = [of.get(setting, math.nan) for setting in settings]
    return min(values) if values and all(map(math.isfinite, values)) else math.nan


def failures(table: Table, number: str) -> dict[str, list[dict[str, Any]]]:
    """Where a number misleads: rank promised minus rank reached, as a share of the encoders.

    Averaged over the settings of the MLP flow. Positive: generation came out worse than promised.
    `goes_with` is Spearman of these residuals with properties of the latents.
    """
    residuals: dict[str, list[float]] = {}
    together: dict[str, list[float]] = {}
    for setting in table.main_settings:
        names = members_of(table, setting, "all")
        x = table.column(setting.dataset, number, names)
        x = oriented(x, table.declared[number])
        y = -np.array([table.quality[setting][name].mean for name in names])
        there = np.isfinite(x)
        gap = stats.rankdata(x[there]) - stats.rankdata(y[there])
        kept = [name for name, k in zip(names, there, strict=True) if k]
        for name, value in zip(kept, gap / max(len(kept), 1), strict=True):
            residuals.setdefault(name, []).append(float(value))
        for other in PROPERTIES:
            rho = spearman_of(table.column(setting.dataset, other, kept), gap)
            together.setdefault(other, []).append(rho)
    mean = {name: float(np.mean(found)) for name, found in residuals.items()}
    families: dict[str, list[float]] = {}
    for name, value in mean.items():
        families.setdefault(table.family(name), []).append(value)
    encoders = [
        {"encoder": name, "family": table.family(name), "residual": value, "by_setting": all_of}
        for (name, value), all_of in zip(mean.items(), residuals.values(), strict=True)
    ]
    return {
        "encoders": sorted(encoders, key=lambda row: -abs(row["residual"])),
        "families": [
            {
                "family": family,
                "n": len(found),
                "residual": float(np.mean(found)),
                "size": float(np.mean(np.abs(found))),
            }
            for family, found in sorted(families.items())
        ],
        "goes_with": [
            {"number": other, "spearman": float(np.mean(rhos)), "by_setting": rhos}
            for other, rhos in together.items()
        ],
    }


def _measured(table: Table, number: str) -> bool:
    return any(found.get(number) for found in table.numbers.values())


def _best_of_levels(table: Table, means: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The best single candidate that needs just this level, and the best rival.

    Of those that most encoders have in every setting of the MLP flow.
    """
    over_all = [r for r in means if r["subset"] == "all" and math.isfinite(r["spearman"])]
    most = MIN_COVERAGE * max((r["n"] for r in over_all), default=0)
    settings = len(table.main_settings)
    over_all = [r for r in over_all if r["n"] >= most and r["settings"] == settings]

    def best(test: Any) -> str | None:
        found = [r for r in over_all if test(table.declared[r["number"]])]
        return max(found, key=lambda r: r["spearman"])["number"] if found else None

    def of_level(level: str) -> str | None:
        return best(lambda d: d.kind == "candidate" and d.needs == level)

    found = {level: of_level(level) for level in LEVELS}
    return found | {"rival": best(lambda d: d.kind == "rival")}


def _setting_record(table: Table, setting: Setting, found: Reliability) -> dict[str, Any]:
    floor, spread = table.floor(setting.dataset)
    distances = [math.exp(q.mean) for q in table.quality[setting].values()]
    return {
        "setting": str(setting),
        **setting._asdict(),
        "main": setting.main,
        "encoders": len(distances),
        "undistorted": len(members_of(table, setting, "undistorted")),
        "reliability": found._asdict(),
        "floor": floor,
        "floor_spread": spread,
        "frechet_smallest": min(distances),
        "frechet_median": float(np.median(distances)),
        "frechet_largest": max(distances),
        "below_twice_the_floor": sum(d < 2 * floor for d in distances),
    }


def _number_record(table: Table, declared: Declared) -> dict[str, Any]:
    def flat(part: Any) -> list[float]:
        found = (part.get(d, {}).get(declared.name, {}).values() for d in table.encoders)
        return [v for values in found for v in values if math.isfinite(v)]

    errors = []
    for dataset in table.encoders:
        values = table.numbers.get(dataset, {}).get(declared.name, {})
        stderrs = table.stderrs.get(dataset, {}).get(declared.name, {})
        there = [v for v in values.values() if math.isfinite(v)]
        spread = float(np.std(there)) if len(there) > 1 else 0.0
        known = [e for e in stderrs.values() if math.isfinite(e)]
        if known and spread > 0:
            errors.append(float(np.median(known)) / spread)
    seconds = flat(table.seconds)
    return {
        "kind": declared.kind,
        "needs": declared.needs,
        "higher_is_better": declared.higher_is_better,
        "meaning": declared.meaning,
        "late": declared.late,
        "encoders": len(flat(table.numbers)),
        "error_share": float(np.mean(errors)) if errors else math.nan,
        "seconds": float(np.median(seconds)) if seconds else math.nan,
    }


def _choice_record(
    choice: Choice, swapped: Choice, without: Mapping[str, Choice]
) -> dict[str, Any]:
    def steps(found: Sequence[Any]) -> list[dict[str, Any]]:
        return [{"terms": list(s.terms), "spearman": s.score} for s in found]

    return {
        "terms": list(choice.terms),
        "spearman": choice.score,
        "families": list(choice.families),
        "candidates": choice.n_candidates,
        "path": steps(choice.path),
        "singles": steps(choice.singles),
        "on_the_other_half": {"terms": list(swapped.terms), "spearman": swapped.score},
        "without_family": {family: list(found.terms) for family, found in without.items()},
    }


def _plain(content: Any) -> Any:
    """Python values for JSON: tuples as lists, numbers to 4 digits, NaN as None."""
    if isinstance(content, Mapping):
        return {str(key): _plain(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_plain(value) for value in content]
    if isinstance(content, float | np.floating):
        value = float(content)
        return float(f"{value:.4g}") if math.isfinite(value) else None
    return content
