"""One value per encoder, from whatever holds it, matched by label where there are labels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from skfisher._backend.correlations import as_column, as_labels

__all__ = [
    "Column",
    "aligned",
    "common_labels",
    "family_labels",
    "logarithm",
    "read_candidates",
    "read_column",
]


class Column(NamedTuple):
    """Values of the encoders and, where given, their names."""

    values: Any
    labels: list[Any] | None


def read_candidates(scores: Any) -> dict[str, Column]:
    """Candidates by name, from a data frame, a mapping of columns, or one column."""
    if hasattr(scores, "columns") and hasattr(scores, "iloc"):
        columns = {str(name): scores[name] for name in scores.columns}
    elif isinstance(scores, Mapping) and any(_is_column(v) for v in scores.values()):
        columns = {str(name): values for name, values in scores.items()}
    else:
        columns = {"score": scores}
    return {name: read_column(values, f"scores[{name!r}]") for name, values in columns.items()}


def _is_column(value: Any) -> bool:
    return (
        hasattr(value, "__len__") and not isinstance(value, str) and getattr(value, "ndim", 1) > 0
    )


def read_column(values: Any, name: str) -> Column:
    """A column of numbers with its labels, where it has them."""
    labels = None
    if isinstance(values, Mapping):
        labels, values = list(values), list(values.values())
    elif hasattr(values, "to_numpy") and hasattr(values, "index"):
        labels, values = as_labels(values.index), values.to_numpy()
    try:
        return Column(as_column(values), labels)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{name} cannot be read as numbers ({error}): pass one per encoder."
        ) from error


def common_labels(columns: Sequence[Column]) -> list[Any] | None:
    """The labels of the first labelled column, in its order; None where none has any."""
    labelled = [column.labels for column in columns if column.labels is not None]
    if not labelled:
        return None
    first = labelled[0]
    repeated = [label for label in first if first.count(label) > 1]
    if repeated:
        raise ValueError(f"the encoder {repeated[0]!r} occurs more than once: name each once.")
    return first


def _order(labels: list[Any], own: list[Any], name: str) -> list[int]:
    if len(own) != len(labels) or set(own) != set(labels):
        odd = sorted(map(repr, set(own) ^ set(labels)))
        shown = ", ".join(odd[:3]) or "one of them twice"
        raise ValueError(
            f"{name} names other encoders than the rest ({shown}): use the same names."
        )
    return [own.index(label) for label in labels]


def aligned(column: Column, labels: list[Any] | None, n: int, name: str) -> Any:
    """The values of a column in the order of `labels`."""
    values = column.values
    if labels is not None and column.labels is not None:
        values = values[_order(labels, column.labels, name)]
    if len(values) != n:
        raise ValueError(f"{name} has {len(values)} values for {n} encoders: pass one per encoder.")
    return values


def family_labels(families: Any, labels: list[Any] | None, n: int) -> list[Any]:
    """The families of the encoders in the order of `labels`."""
    own = None
    if isinstance(families, Mapping):
        own, families = list(families), list(families.values())
    elif hasattr(families, "to_numpy") and hasattr(families, "index"):
        own, families = as_labels(families.index), families.to_numpy()
    found = as_labels(families)
    if labels is not None and own is not None:
        found = [found[k] for k in _order(labels, own, "families")]
    if len(found) != n:
        raise ValueError(
            f"families has {len(found)} labels for {n} encoders: pass one per encoder."
        )
    return found


def logarithm(values: Any) -> Any:
    """Natural logarithms; NaN where the value is not finite."""
    given = values.tolist()
    bad = [v for v in given if math.isfinite(v) and v <= 0]
    if bad:
        raise ValueError(
            f"reconstruction holds {bad[0]}: it enters by its logarithm, so pass errors above "
            f"zero, such as the mean squared error."
        )
    return as_column([math.log(v) if math.isfinite(v) else math.nan for v in given])
