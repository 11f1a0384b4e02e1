"""The page of evidence: tables and pictures from the rows in benchmarks/results/zoo.

Written at build time to docs/generated/evidence*; the page says what is missing where rows are.
"""

import csv
import io
import json
from pathlib import Path

from findings import (
    SHIPPED,
    answer,
    field,
    means_of,
    needs,
    over,
    plain,
    r,
    reasoning,
    settings_of,
    span,
    terms_of,
)
from render import escape, table, words

from benchmarks.zoo.choice import halves
from benchmarks.zoo.declared import LEVELS
from benchmarks.zoo.figures import FIGURES, LEVEL_WORDS, best_level, png
from benchmarks.zoo.profile_figures import draw_profiles
from benchmarks.zoo.rows import read_rows
from benchmarks.zoo.study import as_records, choice_name, left_out_name, table_of
from benchmarks.zoo.table import fingerprint, missing_runs

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "zoo"
PIECES = (
    "notice",
    "answer",
    "choices",
    "shipped",
    "numbers",
    "settings",
    "failures",
    "reliability",
    "profiles",
    "rows",
)
BEST = 12
CAPTIONS = {
    "quality": "Frechet distance of generated to reconstructed images, mean over seeds with two "
    "standard errors, by encoder; smaller is better.",
    "correlations": "Spearman with generation, averaged over data sets and budgets of the MLP "
    "flow, with 95 % intervals over encoders. Each number has the sign that was announced: a "
    "negative correlation ranks encoders the wrong way round.",
    "scatter": "The best single candidate of every level of need, and the best rival, against the "
    "Frechet distance at the larger budget.",
    "settings": "Spearman in every setting, over all its encoders.",
    "left-out": "Ranks promised by the choice that was made without the encoder's family, against "
    "ranks reached; the five largest differences are named.",
    "families": "Promised minus reached rank, as a share of the encoders, averaged over the "
    "settings of the MLP flow; the bar is the family's mean. Right: generated worse than promised.",
}


def write_all(folder, results=RESULTS):
    """Write every piece of the page; what is not known yet is said so."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = read_rows(results)
    summary = read_summary(results)
    known = summary is not None and bool(rows["generator"])
    pieces = {"notice": notice(rows, summary)}
    if rows["profile"]:
        pieces["profiles"] = profiles(folder, rows["profile"])
    if known:
        found = table_of(rows, summary)
        drawn = {
            name: picture(folder, name, draw(found, summary)) for name, draw in FIGURES.items()
        }
        pieces |= {
            "answer": answer(summary) + drawn["correlations"],
            "choices": choices(summary) + drawn["left-out"],
            "shipped": shipped(summary),
            "numbers": numbers(summary) + drawn["scatter"],
            "settings": drawn["settings"] + between(summary) + measures(summary),
            "failures": drawn["families"] + failures(summary),
            "reliability": drawn["quality"] + reliability(summary),
            "rows": row_files(results),
        }
        put(folder / "evidence.csv", as_csv(summary).encode())
    for name in PIECES:
        text = pieces.get(name, "*Not known yet.*\n\n")
        put(folder / f"evidence-{name}.inc", text.encode())


def put(path, content):
    # an unchanged file keeps its time, so that nothing is rebuilt for it
    if not path.exists() or path.read_bytes() != content:
        path.write_bytes(content)


def read_summary(results):
    path = results / "summary.json"
    return json.loads(path.read_text("utf-8")) if path.exists() else None


def picture(folder, name, figure):
    if figure is None:
        return ""
    put(folder / f"evidence-{name}.png", png(figure))
    caption = CAPTIONS[name]
    return f".. figure:: /generated/evidence-{name}.png\n   :alt: {caption}\n\n   {caption}\n\n"


def notice(rows, summary):
    """What the protocol announces and the rows lack; nothing where all is there."""
    lines = [escape(line) for line in missing_runs(rows)]
    if summary is None:
        lines.append("the summary: ``python -m benchmarks.zoo collect`` writes it")
    elif summary["rows"] != fingerprint(rows):
        lines.append(
            "a summary of these rows: the one at hand is of others, and "
            "``python -m benchmarks.zoo collect`` writes it anew"
        )
    lines += [f"a finite result of {escape(line)}" for line in (summary or {}).get("lost", [])]
    text = ""
    if lines:
        text = ".. admonition:: The evidence is incomplete\n   :class: warning\n\n"
        text += "   What follows rests on the runs that are done. Missing are:\n\n"
        text += "".join(f"   - {line}.\n" for line in lines) + "\n"
    excluded = [
        f"{name} on {dataset} ({reason})"
        for dataset, found in (summary or {}).get("excluded", {}).items()
        for name, reason in found.items()
    ]
    if excluded:
        text += f"Left out by the rules of the protocol: {escape('; '.join(excluded))}.\n\n"
    return text


def choices(summary):
    """The choice of every level, and what was asked of it."""
    means, judged = means_of(summary), means_of(summary, "judging")
    others = means_of(summary, "undistorted")
    rows = []
    for level, choice in summary["choices"].items():
        own, left = choice_name(level), left_out_name(level)
        rows.append(
            [
                LEVEL_WORDS[level],
                terms_of(choice["terms"]),
                r(choice["spearman"]),
                r(field(judged, own)) + span(judged.get(own, {})),
                r(field(means, left)) + span(means.get(left, {})),
                r(field(others, left)),
                terms_of(choice["on_the_other_half"]["terms"]),
            ]
        )
    head = [
        "at hand",
        "chosen",
        "choosing half",
        "judging half",
        "family left out",
        "the same, without distortions",
        "chosen on the other half",
    ]
    criteria = [
        [
            LEVEL_WORDS.get(c["needs"], "what the library takes (not chosen)"),
            "all" if c["subset"] == "all" else "without distortions",
            c["asked"],
            f"{c['bound']:g}",
            r(c["worst"]),
            {True: "yes", False: "no", None: "open"}[c["reached"]],
        ]
        for c in summary["criteria"]
    ]
    choosing, judging = halves()
    text = (
        f"Chosen on the families {', '.join(choosing)}; judged on {', '.join(judging)}. Means of "
        "Spearman over data sets and budgets of the MLP flow.\n\n" + table(head, rows)
    )
    asked = table(
        ["at hand", "encoders", "asked", "at least", "worst setting", "reached"], criteria
    )
    return text + folded("What was asked of the choices, and what they reach", asked)


NUMBER_HEAD = [
    "number",
    "Spearman",
    "by family",
    "no distortions",
    "within families",
    "without one family",
    "partial",
    "vs real",
    "minus best rival",
    "worst setting",
]


def shipped(summary, taken=SHIPPED):
    """The criteria of the library, whatever they reached; `taken` says what stands for which."""
    means, others = means_of(summary), means_of(summary, "undistorted")
    rows = [
        [
            criterion,
            *number_row(summary, means[name], others),
            over(means[name], "over_dimension"),
            over(others.get(name, {}), "over_dimension"),
        ]
        for criterion, name in taken.items()
        if name in means
    ]
    head = ["criterion", *NUMBER_HEAD, "minus dimension", "the same, no distortions"]
    if not rows:
        return "*Not known yet.*\n\n"
    parts = reasoning(means, taken) + table(head, rows)
    return parts + setting_by_setting(summary, taken.get("surrogate, with features"))


def setting_by_setting(summary, name):
    """A number in every setting, beside the rival that is strongest there in either direction."""
    rows = [
        [
            escape(c["setting"]),
            "all" if c["subset"] == "all" else "without distortions",
            str(c["n"]),
            r(c["spearman"]) + span(c),
            f"``{c['rival']}``" if c.get("rival") else "n/a",
            over(c, "over_best_rival"),
        ]
        for c in settings_of(summary, name)
    ]
    if not rows:
        return ""
    head = ["setting", "encoders", "number of them", "Spearman", "strongest rival", "minus rival"]
    text = (
        f"``{name}`` in every setting, beside the rival that is strongest there, either way round:"
    )
    return f"{text}\n\n{table(head, rows)}"


def number_row(summary, mean, others):
    name = mean["number"]
    settings = sum(s["main"] for s in summary["settings"])
    encoders = max(m["n"] for m in means_of(summary).values())
    marks = ["after the fact"] if summary["numbers"][name]["late"] else []
    marks += [f"{mean['n']} encoders"] if mean["n"] < encoders else []
    marks += [f"{mean['settings']} of {settings} settings"] if mean["settings"] < settings else []
    return [
        f"``{name}``" + (f" ({', '.join(marks)})" if marks else ""),
        r(mean["spearman"]) + span(mean),
        span(mean, "family_low", "family_high").strip() or "n/a",
        r(field(others, name)),
        r(mean["within"]),
        span(mean, "without_family_low", "without_family_high").strip() or "n/a",
        r(mean["partial"]),
        r(mean["real"]),
        over(mean, "over_best_rival"),
        r(mean["worst"]),
    ]


def numbers(summary):
    """The best candidates of every level of need, the rivals, and a file of all."""
    means, others = means_of(summary), means_of(summary, "undistorted")
    parts = [
        "Means over data sets and budgets of the MLP flow, with 95 % intervals, resampling "
        "encoders; *by family*: resampling families. *Within families*: correlation of the ranks "
        "inside families of three encoders and more. *Without one family*: least and largest, over "
        "families and settings. *Partial*: given dimension and log reconstruction error. *Vs "
        "real*: with the distance of generated to real images. *Minus best rival*: against the "
        "strongest rival in either direction that nearly all encoders have.\n\n"
    ]
    for level in LEVELS:
        found = [m for m in means.values() if is_candidate(summary, m, level)][:BEST]
        if found:
            parts.append(f".. rubric:: Candidates that need {needs(level)}\n\n")
            parts.append(table_of_literals([number_row(summary, m, others) for m in found]))
    rivals = [m for m in means.values() if summary["numbers"][m["number"]]["kind"] == "rival"]
    if rivals:
        parts.append(".. rubric:: Rivals\n\n")
        parts.append(table_of_literals([number_row(summary, m, others) for m in rivals]))
    definitions = [
        [
            f"``{name}``",
            n["kind"],
            LEVEL_WORDS[n["needs"]],
            direction(n),
            escape(n["meaning"]),
            plain(n["seconds"]),
            plain(n["error_share"]),
        ]
        for name, n in summary["numbers"].items()
    ]
    head = ["number", "kind", "needs", "better", "meaning", "seconds", "error"]
    parts.append(
        "Seconds of one core per encoder, and the number's own standard error as a share of its "
        "spread over encoders, stand in the list of definitions.\n\n"
    )
    parts.append(folded("What the numbers are", table(head, definitions)))
    parts.append(
        "All numbers in all settings: :download:`evidence.csv </generated/evidence.csv>`.\n\n"
    )
    return "".join(parts)


def is_candidate(summary, mean, level):
    number = summary["numbers"][mean["number"]]
    return number["kind"] == "candidate" and number["needs"] == level


def direction(number):
    return {True: "higher", False: "lower", None: "not said"}[number["higher_is_better"]]


def table_of_literals(rows):
    return table(NUMBER_HEAD, rows)


def profiles(folder, rows):
    """Curves of the data and of some encoders, and what the paper says of them."""
    parts = []
    for row in rows:
        name = f"profiles-{row['dataset']}"
        put(folder / f"evidence-{name}.png", png(draw_profiles(row["profiles"])))
        caption = f"Directions left along the noise, {row['dataset']}; an isometry lies on the data"
        verdict = row["verdict"]
        lines = [
            [
                escape(s["statement"]),
                s["answer"],
                f"{plain(s['difference'])} \N{PLUS-MINUS SIGN} {plain(s['stderr'])}",
            ]
            for s in (*verdict["statements"], *verdict["at_best_scale"])
        ]
        parts += [
            f".. figure:: /generated/evidence-{name}.png\n   :alt: {caption}\n\n",
            f"   {caption}.\n\n",
            f"On {row['dataset']}, at {len(verdict['levels'])} levels that are valid in all "
            f"spaces: **{verdict['answer']}**"
            + (f" ({verdict['why']})" if "why" in verdict else "")
            + ".\n\n",
        ]
        if lines:
            parts.append(table(["statement", "answer", "difference of the mean gaps"], lines))
    return "".join(parts)


def folded(title, text):
    """A part that opens on a click."""
    start = f".. raw:: html\n\n   <details><summary>{title}</summary>\n\n"
    return start + text + ".. raw:: html\n\n   </details>\n\n"


def between(summary):
    """How the settings rank the encoders, among each other."""
    rows = [
        [escape(b["first"]), escape(b["second"]), str(b["n"]), r(b["spearman"]) + span(b)]
        for b in summary["between_settings"]
    ]
    if not rows:
        return ""
    head = ["setting", "setting", "encoders", "Spearman"]
    return folded("How far the settings agree on the encoders", table(head, rows))


def measures(summary):
    """Other measures of generation beside the primary one."""
    rows = [
        [
            escape(m["setting"]),
            escape(words(m["measure"])),
            str(m["n"]),
            r(m["quality"]),
            *(r(m[level]) for level in LEVELS),
        ]
        for m in summary["other_measures"]
    ]
    if not rows:
        return ""
    head = ["setting", "measure", "encoders", "with the primary quality"]
    head += [f"the choice: {LEVEL_WORDS[level]}" for level in LEVELS]
    return folded("Other measures of generation, and the choices against them", table(head, rows))


def failures(summary):
    """Largest rank residuals by name, what they go with, and means by family."""
    level = best_level(summary)
    if level not in summary["failures"]:
        return ""
    found, library = summary["failures"][level], summary["failures"].get("library")
    own = {e["encoder"]: e for e in (library or found)["encoders"]}
    rows = [
        [
            f"``{e['encoder']}``",
            e["family"],
            r(e["residual"]),
            " ".join(map(r, e["by_setting"])),
            *(
                [
                    r(own[e["encoder"]]["residual"]),
                    " ".join(map(r, own[e["encoder"]]["by_setting"])),
                ]
                if library and e["encoder"] in own
                else ["n/a", "n/a"]
            ),
        ]
        for e in found["encoders"][:BEST]
    ]
    families = [
        [f["family"], str(f["n"]), r(f["residual"]), plain(f["size"])] for f in found["families"]
    ]
    of_library = {g["number"]: g["spearman"] for g in (library or {}).get("goes_with", ())}
    causes = [
        [
            f"``{g['number']}``",
            escape(summary["numbers"].get(g["number"], {}).get("meaning", "")),
            r(g["spearman"]),
            r(of_library.get(g["number"])),
        ]
        for g in found["goes_with"]
    ]
    text = (
        f"The choice that needs {needs(level)}, made without the encoder's family, and what the "
        "library takes. Residual: promised minus reached rank, as a share of the encoders; "
        "positive means generated worse than promised.\n\n"
    )
    head = ["encoder", "family", "residual", "by setting", "the library's number", "by setting"]
    text += table(head, rows)
    text += "What the residuals go with: Spearman over encoders, averaged over settings.\n\n"
    text += table(["property", "meaning", "the choice", "the library's number"], causes)
    return text + table(["family", "encoders", "mean residual", "mean size"], families)


def reliability(summary):
    """How far the ranks of the encoders can be believed."""
    rows = []
    for s in summary["settings"]:
        of = s["reliability"]
        interval = ""
        if of["low"] is not None:
            interval = f" [{of['low']:.2f}, {of['high']:.2f}]"
        rows.append(
            [
                escape(s["setting"]),
                str(s["encoders"]),
                str(of["n_seeds"]),
                plain(of["split_half"], 3),
                plain(of["intraclass"], 3) + interval,
                plain(of["ceiling"], 3),
                words(of["seeds_needed"]) if of["seeds_needed"] else "n/a",
                plain(s["floor"], 3),
                f"{plain(s['frechet_smallest'], 3)}, {plain(s['frechet_median'], 3)}, "
                f"{plain(s['frechet_largest'], 3)}",
                str(s["below_twice_the_floor"]),
            ]
        )
    head = [
        "setting",
        "encoders",
        "seeds",
        "split-half",
        "intraclass",
        "ceiling",
        "seeds for 0.95",
        "floor",
        "Frechet: least, median, largest",
        "below twice the floor",
    ]
    return table(head, rows)


def row_files(results):
    """Links to the files of rows that there are."""
    names = [p.name for p in sorted(results.glob("*.json"))]
    # paths from the page, which need not lie in the documentation's folder
    links = [f":download:`{n} <../benchmarks/results/zoo/{n}>`" for n in names]
    return f"The rows: {', '.join(links)}.\n\n" if results == RESULTS and links else ""


def as_csv(summary):
    """Every number in every setting, one line each."""
    records = as_records(summary["correlations"])
    keys = ["kind", "needs", "higher_is_better", *summary["correlations"]["columns"]]
    text = io.StringIO()
    writer = csv.DictWriter(text, keys, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(summary["numbers"][record["number"]] | record for record in records)
    return text.getvalue()
