"""Rows as tables: which encoders were run, what the generators reached, which numbers they have."""

from __future__ import annotations

import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from benchmarks.zoo.config import (
    BUDGETS,
    DATASETS,
    ENCODERS,
    EPSILON_RUNS,
    SPATIAL_RUNS,
)
from benchmarks.zoo.declared import FROM_ENCODER_ROWS, Declared, declared_numbers
from benchmarks.zoo.rows import KINDS

__all__ = [
    "MEASURES",
    "Encoder",
    "Quality",
    "Setting",
    "Table",
    "fingerprint",
    "missing_runs",
    "read_table",
]

Rows = Mapping[str, Iterable[Mapping[str, Any]]] | Iterable[Mapping[str, Any]]

SEEDS, SPATIAL_SEEDS = 3, 2
MEASURES = {
    "frechet_reconstructed_extrapolated": False,
    "frechet_real": False,
    "precision": True,
    "recall": True,
    "precision_reconstructed": True,
    "recall_reconstructed": True,
}
"""What generator rows hold beside the primary quality, and whether higher is better."""


class Setting(NamedTuple):
    """On what and by what generator the encoders were judged."""

    dataset: str
    generator: str
    objective: str
    budget: str

    @property
    def main(self) -> bool:
        """Whether the choice is made on it: the MLP flow."""
        return (self.generator, self.objective) == ("mlp", "flow")

    def __str__(self) -> str:
        return f"{self.dataset}, {self.generator} {self.objective}, {self.budget}"


class Encoder(NamedTuple):
    """What is known of an encoder on a data set; NaN where its row is missing."""

    name: str
    family: str
    dimension: int
    distorts: bool
    reconstruction: float = math.nan
    reconstruction_frechet: float = math.nan


class Quality(NamedTuple):
    """Log Frechet distances of the seeds, their mean, and its standard error.

    The error rests on the spread over seeds pooled over the encoders of the setting.
    """

    mean: float
    stderr: float
    values: dict[int, float]


@dataclass(frozen=True, eq=False)
class Table:
    """Everything that the statistics need.

    Attributes
    ----------
    encoders : mapping of data set to mapping of name to Encoder
        In the order of the configuration.
    quality, real : mapping of Setting to mapping of encoder to Quality
        Generated against reconstructed, and against real images; excluded encoders left out.
    measures : mapping of Setting to mapping of measure to mapping of encoder to float
        Means over seeds of `MEASURES`.
    numbers, stderrs, seconds : mapping of data set to mapping of number to mapping of encoder
    declared : mapping of str to Declared
    excluded : mapping of data set to mapping of encoder to reason
    lost : list of str
        Runs whose result is not finite.
    floors : mapping of data set to list of floor rows
    """

    encoders: dict[str, dict[str, Encoder]]
    quality: dict[Setting, dict[str, Quality]]
    real: dict[Setting, dict[str, Quality]]
    measures: dict[Setting, dict[str, dict[str, float]]]
    numbers: dict[str, dict[str, dict[str, float]]]
    stderrs: dict[str, dict[str, dict[str, float]]]
    seconds: dict[str, dict[str, dict[str, float]]]
    declared: dict[str, Declared]
    excluded: dict[str, dict[str, str]]
    lost: list[str]
    floors: dict[str, list[Mapping[str, Any]]]

    @property
    def settings(self) -> list[Setting]:
        """Settings with any generator, the MLP flow first."""
        return list(self.quality)

    @property
    def main_settings(self) -> list[Setting]:
        """Those of the MLP flow."""
        return [s for s in self.quality if s.main]

    def column(self, dataset: str, number: str, names: Iterable[str]) -> np.ndarray:
        """Values of the encoders named, NaN where there is none."""
        found = self.numbers.get(dataset, {}).get(number, {})
        return np.array([found.get(name, math.nan) for name in names], dtype=float)

    def floor(self, dataset: str) -> tuple[float, float]:
        """Finite-sample Frechet distance, and its spread; NaN where it was not measured.

        Of as many images as are generated to all others where the row has it ("rest"), as a
        generator is judged; else of two sets of one size.
        """
        for row in self.floors.get(dataset, [])[:1]:
            names = ("rest", "rest_spread") if "rest" in row else ("mean", "spread")
            return tuple(_number(row.get(name)) for name in names)
        return math.nan, math.nan

    def family(self, name: str) -> str:
        """The family of an encoder."""
        return next(found[name].family for found in self.encoders.values() if name in found)


def _by_kind(rows: Rows) -> dict[str, list[Mapping[str, Any]]]:
    if isinstance(rows, Mapping):
        return defaultdict(list, {kind: list(found) for kind, found in rows.items()})
    found: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        found[row["kind"]].append(row)
    return found


def fingerprint(rows: Rows) -> str:
    """Of the rows that the statistics use, to tell whether a summary is theirs."""
    kinds = _by_kind(rows)
    used = {kind: kinds[kind] for kind in KINDS if kind != "profile"}
    return hashlib.sha256(json.dumps(used, sort_keys=True).encode()).hexdigest()[:16]


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def read_table(rows: Rows, declared: Mapping[str, Declared] | None = None) -> Table:
    """Rows of all kinds as tables, after the exclusions of the protocol.

    Parameters
    ----------
    rows : mapping of kind to rows, or rows
    declared : mapping of str to Declared, optional
        None is `declared_numbers()`. Numbers that it lacks are kept as candidates without a
        direction, which cannot be chosen.

    Raises
    ------
    ValueError
        If two rows are of the same run.
    """
    kinds = _by_kind(rows)
    declared = dict(declared_numbers() if declared is None else declared)
    encoders = _encoders(kinds)
    excluded = _exclusions(kinds["encoder"])
    lost: list[str] = []
    quality = _qualities(kinds["generator"], "frechet_reconstructed", excluded, lost)
    real = _qualities(kinds["generator"], "frechet_real", excluded, [])
    numbers, stderrs, seconds = (_nested() for _ in range(3))
    for row in [*kinds["candidates"], *kinds["late"], *kinds["shipped"]]:
        if row["encoder"] in excluded.get(row["dataset"], {}):
            continue
        for kind, part in (("candidate", "numbers"), ("rival", "rivals")):
            for name, found in row.get(part, {}).items():
                declared.setdefault(name, Declared(name, kind, None, "features"))
                place = (row["dataset"], name, row["encoder"])
                for table, key in ((numbers, "value"), (stderrs, "stderr"), (seconds, "seconds")):
                    _put(table, place, _number(found.get(key)))
    for dataset, members in encoders.items():
        for name, encoder in members.items():
            for number in FROM_ENCODER_ROWS:
                if number in declared and name not in excluded.get(dataset, {}):
                    _put(numbers, (dataset, number, name), float(getattr(encoder, number)))
    floors: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in kinds["floor"]:
        floors[row["dataset"]].append(row)
    return Table(
        encoders,
        quality,
        real,
        _measures(kinds["generator"], quality),
        numbers,
        stderrs,
        seconds,
        declared,
        excluded,
        lost,
        dict(floors),
    )


def _nested() -> Any:
    return defaultdict(lambda: defaultdict(dict))


def _put(table: Any, place: tuple[str, str, str], value: float) -> None:
    dataset, number, encoder = place
    table[dataset][number][encoder] = value


def _encoders(kinds: Mapping[str, list[Mapping[str, Any]]]) -> dict[str, dict[str, Encoder]]:
    found: dict[str, dict[str, Encoder]] = defaultdict(dict)
    # a generator's row tells enough of an encoder whose own row is missing
    for kind in ("candidates", "generator", "encoder"):
        for row in kinds[kind]:
            found[row["dataset"]][row["encoder"]] = Encoder(
                row["encoder"],
                row["family"],
                int(row["dimension"]),
                bool(row["distorts"]),
                _number(row.get("reconstruction")),
                _number(row.get("reconstruction_frechet")),
            )
    order = {config.name: k for k, config in enumerate(ENCODERS)}
    return {
        dataset: dict(sorted(members.items(), key=lambda item: order.get(item[0], len(order))))
        for dataset, members in sorted(found.items(), key=lambda item: _place(item[0], DATASETS))
    }


def _place(name: str, order: Iterable[str]) -> tuple[int, str]:
    known = list(order)
    return (known.index(name) if name in known else len(known), name)


def _exclusions(rows: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for row in rows:
        error, mean = _number(row.get("reconstruction")), _number(row.get("mean_image_error"))
        reason = ""
        if not math.isfinite(error) or not all(map(math.isfinite, _losses(row.get("facts", {})))):
            reason = "its training diverged"
        elif error > mean:
            reason = f"reconstruction error {error:.3g} above the mean image's {mean:.3g}"
        if reason:
            found[row["dataset"]][row["encoder"]] = reason
    return dict(found)


def _losses(facts: Any, name: str = "") -> list[float]:
    """Numbers of the facts of a training whose name says that they are losses."""
    if isinstance(facts, Mapping):
        return [v for key, inner in facts.items() for v in _losses(inner, f"{name} {key}")]
    return [float(facts)] if isinstance(facts, float) and "loss" in name else []


def _qualities(
    rows: Iterable[Mapping[str, Any]],
    key: str,
    excluded: Mapping[str, Mapping[str, str]],
    lost: list[str],
) -> dict[Setting, dict[str, Quality]]:
    runs: dict[Setting, dict[str, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    for row in rows:
        setting = Setting(row["dataset"], row["generator"], row["objective"], row["budget"])
        name, seed, value = row["encoder"], int(row["seed"]), _number(row.get(key))
        if name in excluded.get(setting.dataset, {}):
            continue
        if seed in runs[setting][name]:
            raise ValueError(f"rows hold {name} on {setting} twice for seed {seed}: keep one.")
        if math.isfinite(value) and value > 0:
            runs[setting][name][seed] = math.log(value)
        else:
            lost.append(f"{name} on {setting}, seed {seed}: Frechet distance {value}")
    order = {config.name: k for k, config in enumerate(ENCODERS)}
    generators, budgets = ("mlp", "dit", "unet"), tuple(BUDGETS)

    def rank(setting: Setting) -> Any:
        return (
            not setting.main,
            _place(setting.dataset, DATASETS),
            _place(setting.generator, generators),
            setting.objective,
            _place(setting.budget, budgets),
        )

    found = {}
    for setting in sorted(runs, key=rank):
        members = {name: seeds for name, seeds in runs[setting].items() if seeds}
        spread = _pooled_spread(list(members.values()))
        found[setting] = {
            name: Quality(
                float(np.mean(list(members[name].values()))),
                spread / math.sqrt(len(members[name])),
                dict(sorted(members[name].items())),
            )
            for name in sorted(members, key=lambda name: (order.get(name, len(order)), name))
        }
    return {setting: members for setting, members in found.items() if members}


def _measures(
    rows: Iterable[Mapping[str, Any]], quality: Mapping[Setting, Mapping[str, Quality]]
) -> dict[Setting, dict[str, dict[str, float]]]:
    values: Any = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for row in rows:
        setting = Setting(row["dataset"], row["generator"], row["objective"], row["budget"])
        if row["encoder"] in quality.get(setting, {}):
            for measure in MEASURES:
                if math.isfinite(value := _number(row.get(measure))):
                    values[setting][measure][row["encoder"]].append(value)
    return {
        setting: {
            measure: {name: float(np.mean(v)) for name, v in of.items()}
            for measure, of in values[setting].items()
        }
        for setting in quality
    }


def _pooled_spread(seeds: list[dict[int, float]]) -> float:
    """Standard deviation over seeds, pooled over encoders; NaN with one seed each."""
    values = [np.array(list(found.values())) for found in seeds]
    freedom = sum(len(v) - 1 for v in values)
    squares = sum(float(np.sum((v - v.mean()) ** 2)) for v in values)
    return math.sqrt(squares / freedom) if freedom else math.nan


def missing_runs(rows: Rows) -> list[str]:
    """What the protocol announces and the rows lack, in words."""
    kinds = _by_kind(rows)
    names = [config.name for config in ENCODERS]
    have = {(r["kind"], r["dataset"], r.get("encoder")) for found in kinds.values() for r in found}
    runs: dict[tuple[str, str, str, str], dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for row in kinds["generator"]:
        place = (row["dataset"], row["generator"], row["objective"], row["budget"])
        runs[place][row["encoder"]] += 1
    found = []

    def lacking(title: str, absent: list[str], of: int) -> None:
        if absent:
            few = ", ".join(absent[:6]) + (", ..." if len(absent) > 6 else "")
            found.append(f"{title}: {len(absent)} of {of} missing ({few})")

    for dataset in DATASETS:
        for kind, title in (
            ("encoder", "encoders"),
            ("candidates", "numbers of encoders"),
            ("late", "late numbers of encoders"),
            ("shipped", "numbers of the library"),
        ):
            absent = [name for name in names if (kind, dataset, name) not in have]
            lacking(f"{dataset}, {title}", absent, len(names))
        if ("floor", dataset, None) not in have:
            found.append(f"{dataset}, finite-sample floor: missing")
        plan = [("mlp", "flow", budget, names, SEEDS) for budget in BUDGETS]
        if dataset == "fashion":
            plan.append(("mlp", "epsilon", "small", list(EPSILON_RUNS), SEEDS))
        if dataset == "photographs":
            plan += [
                (kind, "flow", "large", list(SPATIAL_RUNS), SPATIAL_SEEDS)
                for kind in ("dit", "unet")
            ]
        for generator, objective, budget, expected, seeds in plan:
            done = runs[dataset, generator, objective, budget]
            absent = [name for name in expected if done[name] < seeds]
            title = f"{dataset}, {generator} {objective}, {budget}, {seeds} seeds"
            lacking(title, absent, len(expected))
    return found
