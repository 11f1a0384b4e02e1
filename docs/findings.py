"""The findings of the study in words, and how its figures are written."""

from collections import Counter

from render import escape

from benchmarks.zoo.declared import LEVELS
from benchmarks.zoo.figures import best_level
from benchmarks.zoo.study import LIBRARY, as_records, choice_name, left_out_name

SHIPPED = {
    "surrogate, with features": LIBRARY,
    "surrogate, without": "surrogate_shipped_pixels",
    "viv": "viv_sum",
    "complexity": "fir_log",
}
"""What the library's criteria are called among the numbers of the study."""


def answer(summary, taken=SHIPPED):
    """What was found, in a few lines, and the four hypotheses."""
    means, judged = means_of(summary), means_of(summary, "judging")
    others = means_of(summary, "undistorted")
    main = [s for s in summary["settings"] if s["main"]]
    level = best_level(summary)
    if level is None or not main:
        return "No candidate can be judged yet.\n\n"
    datasets = list(dict.fromkeys(s["dataset"] for s in main))
    chosen, left = means[choice_name(level)], means[left_out_name(level)]
    without = Counter(
        " + ".join(terms) for terms in summary["choices"][level]["without_family"].values() if terms
    )
    picked = ", ".join(
        f"{terms_of(name.split(' + '))} for {count}" for name, count in without.most_common()
    )
    start = (
        f"Over {chosen['n']} encoders on {' and '.join(datasets)}, {len(main)} settings of the MLP "
        f"flow; Spearman with generation, mean over the settings."
    )
    ceilings = [s["reliability"]["ceiling"] for s in main]
    if all(c is not None for c in ceilings):
        start += f" No correlation can be above {min(ceilings):.3f}, the seeds' own ceiling."
    lines = library_found(summary, taken)
    lines += [
        f"**Families that a choice did not see**: choices among the announced numbers made without "
        f"one family ({picked}, with {needs(level)}) order the families left out with "
        f"{r(left['spearman'])}{span(left)}.",
        f"**One half of the families** chooses {terms_of(summary['choices'][level]['terms'])}: "
        f"{r(chosen['spearman'])}{span(chosen)} over all encoders, "
        f"{r(field(others, choice_name(level)))} without the distortions, "
        f"{r(field(judged, choice_name(level)))} on the judging half.",
    ]
    found = "".join(f"- {line}\n" for line in lines)
    return f"{start}\n\n{found}\nThe hypotheses, for the choice of one half:\n\n" + hypotheses(
        summary, means
    )


def library_found(summary, taken):
    """What the library takes with features: its figures, and those of what it has to beat."""
    means, others = means_of(summary), means_of(summary, "undistorted")
    name = taken.get("surrogate, with features")
    if name not in means:
        return []
    own, other = means[name], others.get(name, {})
    made = ", made after the first results" if summary["numbers"][name]["late"] else ""
    lines = [
        f"**What the library takes** with features, ``{name}``{made}: {r(own['spearman'])}"
        f"{span(own)} (by family:{span(own, 'family_low', 'family_high') or ' n/a'}), "
        f"{r(other.get('spearman'))}{span(other)} without the distortions, {r(own['worst'])} in "
        "the worst setting.",
        *library_asked(summary, name),
    ]
    rival = own.get("rival")
    if rival:
        lines.append(
            f"**Before the strongest rival**, in either direction, ``{rival}`` with "
            f"{r(means[rival]['spearman'])}{span(means[rival])}: by {over(own, 'over_best_rival')}."
        )
    if "over_dimension" in own and "over_dimension" in other:
        lines.append(
            f"**Before the count of dimensions**, which needs no measurement and has "
            f"{r(field(means, 'dimension'))}, without the distortions "
            f"{r(field(others, 'dimension'))}: by {over(own, 'over_dimension')}, and by "
            f"{over(other, 'over_dimension')}."
        )
    return lines


def library_asked(summary, name):
    """What the library takes beside what was asked of a choice; nothing while that is open."""
    asked = [c for c in summary["criteria"] if c["needs"] == "library"]
    if not asked or any(c["reached"] is None for c in asked):
        return []
    parts = []
    for title in dict.fromkeys(c["asked"] for c in asked):
        both = [c for c in asked if c["asked"] == title]  # over all encoders, and no distortions
        missed = "" if all(c["reached"] for c in both) else ", not reached"
        figures = " and ".join(r(c["worst"]) for c in both)
        parts.append(f"{title} {figures} (asked: {both[0]['bound']:g}{missed})")
    main = {s["setting"] for s in summary["settings"] if s["main"]}
    cases = [c for c in settings_of(summary, name) if c["setting"] in main]
    sure = sum((c.get("over_best_rival_low") or -1) > 0 for c in cases)
    return [
        f"**What was asked of a choice**, and what it has in the worst setting, over all encoders "
        f"and without the distortions: {'; '.join(parts)}. The interval of its margin over a "
        f"setting's strongest rival lies above 0 in {sure} of {len(cases)} cases. The plan did not "
        "choose it."
    ]


def settings_of(summary, name):
    """Records of a number, one for each setting and subset of the encoders."""
    return [c for c in as_records(summary["correlations"]) if c["number"] == name]


def hypotheses(summary, means):
    """H1 to H4 of the protocol with their figures."""
    lines = []
    for mark, subset, who in (
        ("H1", "all", "all encoders"),
        ("H2", "undistorted", "those that are no distortions"),
    ):
        by_level = {}
        for c in summary["criteria"]:
            if c["subset"] == subset and c["needs"] in LEVELS:
                by_level.setdefault(c["needs"], []).append(c)
        held = [k for k, cs in by_level.items() if all(c["reached"] for c in cs)]
        unknown = [k for k, cs in by_level.items() if any(c["reached"] is None for c in cs)]
        level = held[0] if held else best_level(summary)
        if held:
            verdict = f"holds for what needs {needs(held[0])}"
        else:
            verdict = "is open" if level in unknown else "does not hold"
        failed = [
            f"{c['asked']} {r(c['worst'], 3)} (asked: {c['bound']:g})"
            for c in by_level.get(level, [])
            if not c["reached"]
        ]
        detail = f"; with {needs(level)}, in the worst setting: {', '.join(failed)}"
        lines.append(f"- **{mark}**, over {who}: {verdict}{detail if failed else ''}.")
    parts = [
        f"{r(field(means, left_out_name(level)))} with {needs(level)}"
        for level in LEVELS
        if left_out_name(level) in means
    ]
    viv = means.get("gaussian_viv")
    lines.append(
        "- **H3**, that the latents alone do not suffice across families: with the family left out "
        f"of the choice, Spearman is {', '.join(parts) or 'n/a'}"
        + (
            f"; the Gaussian VIV has {r(viv['spearman'])} over all encoders and "
            f"{r(viv['within'])} within families"
            if viv
            else ""
        )
        + "."
    )
    main = {s["setting"] for s in summary["settings"] if s["main"]}
    where = {s["setting"]: s["dataset"] for s in summary["settings"]}
    across = [
        b
        for b in summary["between_settings"]
        if where[b["first"]] == where[b["second"]] and (b["first"] in main) != (b["second"] in main)
    ]
    if across:
        low, *_, high = sorted(across, key=lambda b: b["spearman"])
        lines.append(
            "- **H4**, that objective and architecture do not matter: the ranks of the MLP flow "
            f"and of the other generators on one data set correlate by {r(low['spearman'])}"
            f"{span(low)} ({escape(low['first'])}, against {escape(low['second'])}, {low['n']} "
            f"encoders) to {r(high['spearman'])}{span(high)}."
        )
    else:
        lines.append("- **H4**, that objective and architecture do not matter: not known yet.")
    return "\n".join(lines) + "\n\n"


def reasoning(means, taken=SHIPPED):
    """Why "auto" is what it is, in one line."""
    with_features, viv, complexity = (
        means.get(taken.get(name)) for name in ("surrogate, with features", "viv", "complexity")
    )
    if None in (with_features, viv, complexity):
        return ""
    return (
        f'``criterion="auto"`` is "surrogate" with features, of Spearman '
        f"{r(with_features['spearman'])}{span(with_features)} with generation over all encoders, "
        f"{over(with_features, 'over_best_rival')} above the strongest rival; without features it "
        f'is "viv", of {r(viv["spearman"])}{span(viv)}, before "complexity", of '
        f"{r(complexity['spearman'])}{span(complexity)}.\n\n"
    )


def needs(level):
    return {
        "latents": "the latents only",
        "encoder": "the data and the encoder",
        "decoder": "the decoder",
        "features": "the decoder and a feature network",
    }[level]


def means_of(summary, subset="all"):
    return {m["number"]: m for m in as_records(summary["means"]) if m["subset"] == subset}


def field(records, name, key="spearman"):
    return records[name][key] if name in records else None


def terms_of(names):
    return " + ".join(f"``{name}``" for name in names) if names else "nothing"


def r(value, digits=2):
    """A correlation, with a minus sign where it is negative."""
    if value is None:
        return "n/a"
    return f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "\N{MINUS SIGN}")


def span(record, low="low", high="high"):
    if record.get(low) is None or record.get(high) is None:
        return ""
    # the ends stay on one line
    return f" [{r(record[low])},\N{NO-BREAK SPACE}{r(record[high])}]"


def over(record, key):
    return r(record.get(key)) + span(record, f"{key}_low", f"{key}_high")


def plain(value, digits=2):
    return "n/a" if value is None else f"{value:.{digits}g}"
