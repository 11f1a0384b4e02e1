"""What the pages take from elsewhere at build time: benchmark results, limits, support, picture.

Everything is written to docs/generated/*.inc and included from the pages.
"""

import dataclasses
import json
from itertools import pairwise
from pathlib import Path

from skfisher import crossfit, learned
from skfisher._backend.support import CAPABILITIES, SUPPORT
from skfisher.channels import ChannelLimits
from skfisher.conditional import MIN_CLASS_ROWS
from skfisher.curves import Validity
from skfisher.scores.network import NetworkRecipe

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"

INTRODUCTIONS = {
    "samples": (
        "From samples alone",
        "Curves of random mixtures and noisy manifolds with ``score_model='auto'``, against the "
        "truth: shares of the valid levels that keep each promise, and valid levels of 21 for each "
        "law.",
    ),
    "audit": (
        "An audit and a ranking",
        "An audit of 10,000 rows of 784 features through a torch encoder with 16 outputs, and a "
        "ranking of two sets of 10,000 x 32 latents, with default settings; each in a process of "
        "its own, the seconds of its parts within.",
    ),
    "latents": (
        "Learned scores on real latents",
        "What a learned score sees beyond the closed forms, on rows held out of everything: "
        "latents of two tokenizers, standardised per channel, and scikit-learn's digits. Scores "
        "are noise-prediction scores at noise of variance t in units of the data's.",
    ),
    "linearize": (
        "Cost of J and R of a given network",
        "Time for J and R against a bare loop of the same Jacobian products, and how many fewer "
        "products are needed than with 3,500 probes at every point, at equal standard error.",
    ),
    "coverage": (
        "Coverage of the intervals",
        "Share of replications in which the truth lies within 1.96 and within 4 of the reported "
        "standard errors, per noise level.",
    ),
    "gaussian_toy": (
        "Gaussian data through linear encoders",
        "Where every quantity has a closed form: estimates at six noise levels against it, in "
        "standard errors z and relative errors at valid levels; the part of the change of J and R "
        "that is the number of dimensions, ``t (c² J_Z - J_X) = d - D + ...``; and the sandwiches, "
        "exact on all sides, from a tenth of the smallest to ten times the largest level. The "
        "family ``gaussian`` is the right one, so its z tell whether the errors are true; the "
        "others may carry a bias beside them, which the relative errors show. The curves are drawn "
        "in :ref:`sphx_glr_auto_examples_plot_gaussian_toy.py`.",
    ),
    "dimension": (
        "Effective dimension of manifolds",
        "Estimates on noise-free manifolds against their dimension or against quadrature.",
    ),
    "kernel": (
        "The kernel score",
        "Pointwise errors against multi-precision arithmetic, times against the two bare matrix "
        "products of the same shapes, peak memory.",
    ),
}
ORDER = tuple(INTRODUCTIONS)
READING_ORDER = (
    "plot_information_curve.py",
    "plot_circle_effective_dimension.py",
    "plot_gaussian_toy.py",
    "plot_own_score_model.py",
    "plot_given_network.py",
    "plot_class_conditional.py",
    "plot_audit_encoder.py",
    "plot_diagnose_encoder.py",
    "plot_torch_encoder.py",
    "plot_pipeline_and_search.py",
)
# rows of single fits, from which the summary beside them is made
LEFT_OUT = {"cases", "environment"}


class ReadingOrder:
    """Sort key of the gallery: from one curve to a search."""

    def __init__(self, folder):
        self.folder = folder

    def __call__(self, name):
        return (READING_ORDER.index(name) if name in READING_ORDER else len(READING_ORDER), name)


def write_all(folder):
    folder.mkdir(parents=True, exist_ok=True)
    pieces = {
        "benchmarks": benchmarks(),
        "validity": limits_of(Validity),
        "channels": limits_of(ChannelLimits),
        "constants": constants(),
        "support": support(),
        "picture": picture(),
    }
    for name, text in pieces.items():
        path = folder / f"{name}.inc"
        # an unchanged file keeps its time, so that nothing is rebuilt for it
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def picture():
    """The picture of the README, where there is one."""
    if not (ROOT / "docs" / "demo.png").exists():
        return ""
    return (
        ".. image:: /demo.png\n"
        "   :alt: Ranked encoders of scikit-learn's digits, what they lose, and their curves\n\n"
    )


def limits_of(cls):
    """Limits and what they bound, from the class that holds them."""
    lines = cls.__doc__.splitlines()
    meaning = {
        name: following.strip()
        for line, following in pairwise(lines)
        if " : " in line
        for name in line.strip().split(" : ")[0].split(", ")
    }
    rows = [
        [f"``{field.name}``", shown(field.default), escape(meaning[field.name])]
        for field in dataclasses.fields(cls)
    ]
    return table(["limit", "default", "what it bounds"], rows)


def constants():
    """Settings of the code that the pages name, as substitutions."""
    recipe = NetworkRecipe()
    found = {
        "network rows": f"{crossfit.NETWORK_ROWS:,}",
        "folds": crossfit.N_FOLDS,
        "learned errors": f"{learned.SIGNIFICANT:g}",
        "held out": f"{recipe.held_out:.0%}",
        "class rows": MIN_CLASS_ROWS,
    }
    return "".join(f".. |{name}| replace:: {value}\n" for name, value in found.items())


def support():
    """Array libraries by what they are capable of, and what the capabilities are."""
    rows = [
        [
            row.library,
            row.device,
            *("yes" if row.capabilities[name] else "no" for name in CAPABILITIES),
            row.tested,
            row.note,
        ]
        for row in SUPPORT
    ]
    meanings = [f"- **{name}**: {text.replace('`', '``')}." for name, text in CAPABILITIES.items()]
    head = ["library", "device", *CAPABILITIES, "tested", "note"]
    return "\n".join([table(head, rows), *meanings, ""])


def benchmarks():
    """A section for every JSON file in benchmarks/results."""
    files = {path.stem: path for path in RESULTS.glob("*.json")}
    names = [name for name in ORDER if name in files] + sorted(set(files) - set(ORDER))
    if not names:
        return "No results are stored in ``benchmarks/results``.\n"
    return "\n".join(section(name, json.loads(files[name].read_text("utf-8"))) for name in names)


def section(name, result):
    title, introduction = INTRODUCTIONS.get(name, (words(name).capitalize(), ""))
    parts = [title, "-" * len(title), "", introduction, ""]
    for key, value in result.items():
        if key not in LEFT_OUT:
            parts += block(key, value)
    parts += [f"*{conditions(result)}*", ""]
    return "\n".join(parts)


def block(key, value):
    """A table of a list of records or of a dictionary, under its name."""
    head = [] if key in ("rows", "summary") else [f".. rubric:: {words(key).capitalize()}", ""]
    if is_nested(value):
        value = [{"case": name} | inner for name, inner in value.items()]
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return [*head, records(value)]
    flat = flatten(value) if isinstance(value, dict) else {words(key): value}
    return [*head, table(["", "value"], [[escape(k), shown(v)] for k, v in flat.items()])]


def is_nested(value):
    """Whether it is a dictionary of records, of which one holds records in turn."""
    inner = list(value.values()) if isinstance(value, dict) else []
    return all(isinstance(record, dict) for record in inner) and any(
        isinstance(part, dict) for record in inner for part in record.values()
    )


def records(rows):
    """A table of records; dictionaries and lists in a record become lines of their own."""
    lines = []
    for row in rows:
        plain = {k: v for k, v in row.items() if not isinstance(v, dict)}
        nested = {k: v for k, v in row.items() if isinstance(v, dict)}
        for line in [plain | {"quantity": words(k)} | v for k, v in nested.items()] or [plain]:
            lines += side_by_side(line)
    columns = list(dict.fromkeys(key for line in lines for key in line))
    return table(
        [words(column) for column in columns],
        [[shown(line.get(column, "")) for column in columns] for line in lines],
    )


def side_by_side(line):
    """A line for each place of the lists in it, where they are of one length."""
    lists = {k: v for k, v in line.items() if isinstance(v, list)}
    if len({len(v) for v in lists.values()}) != 1:
        return [line]
    (length,) = {len(v) for v in lists.values()}
    return [line | {k: v[i] for k, v in lists.items()} for i in range(length)]


def flatten(value, prefix=""):
    found = {}
    for key, inner in value.items():
        name = f"{prefix}{words(key)}"
        found |= flatten(inner, f"{name}: ") if isinstance(inner, dict) else {name: inner}
    return found


def conditions(result):
    """When and with what it was measured."""
    of = result.get("environment", {})
    keys = ("date", "skfisher", "python", "numpy", "scipy", "scikit-learn", "torch", "machine")
    found = [f"{key} {of[key]}" for key in keys if key in of]
    counts = {"processors": ("processors", "cpus"), "threads": ("threads",)}
    for label, names in counts.items():
        found += [f"{label} {of[name]}" for name in names if name in of]
    if not found:
        return "Measured under conditions that the file does not state."
    return escape("Measured with: " + ", ".join(found) + ".")


def words(key):
    return str(key).replace("_", " ")


def escape(text):
    return "".join(f"\\{c}" if c in "\\*`|_" else c for c in str(text))


def shown(value):
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return ", ".join(shown(v) for v in value)
    return escape(words(value)) if isinstance(value, str) else str(value)


def table(header, rows):
    """A list-table: cells of any length, no columns to align."""
    lines = [".. list-table::", "   :header-rows: 1", ""]
    for row in [[escape(h) for h in header], *rows]:
        lines += [f"   {'* -' if i == 0 else '  -'} {cell}".rstrip() for i, cell in enumerate(row)]
    return "\n".join([*lines, "", ""])
