"""The page of evidence on rows whose truth is known: what it says, shows and misses."""

import json
from pathlib import Path

import pytest
from zoo_rows import DECLARED, FEW, study_rows

from benchmarks.zoo.declared import declared_numbers
from benchmarks.zoo.study import summarise
from skfisher.criteria import CRITERIA


@pytest.fixture(scope="module")
def rows():
    return study_rows(encoders=FEW, more=False)


@pytest.fixture(scope="module")
def summary(rows):
    return summarise(rows, declared=DECLARED, n_resamples=100)


def write(folder, rows, summary):
    folder.mkdir()
    for kind, found in rows.items():
        (folder / f"{kind}.json").write_text(json.dumps({"rows": found}))
    if summary is not None:
        (folder / "summary.json").write_text(json.dumps(summary))
    return folder


@pytest.fixture
def page(monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "docs"))
    import evidence

    return evidence


def test_the_page_draws_every_picture_and_takes_figures_from_the_rows(
    page, rows, summary, tmp_path
):
    page.write_all(tmp_path / "made", write(tmp_path / "rows", rows, summary))
    made = {path.name for path in (tmp_path / "made").iterdir()}
    assert {f"evidence-{name}.png" for name in page.FIGURES} <= made
    answer = (tmp_path / "made" / "evidence-answer.inc").read_text()
    assert f"{page.means_of(summary)['truth']['spearman']:.2f}" in answer
    lines = (tmp_path / "made" / "evidence.csv").read_text().splitlines()
    assert len(lines) == 1 + len(summary["correlations"]["rows"])


TAKEN = {"surrogate, with features": "hindsight", "viv": "truth", "complexity": "chance"}


def test_the_page_shows_what_the_library_takes(page, summary):
    assert set(page.SHIPPED.values()) <= declared_numbers().keys()
    assert {name.split(",")[0] for name in page.SHIPPED} == CRITERIA.keys()
    means = page.means_of(summary)
    made = page.shipped(summary, {"viv": "hindsight"})
    assert "``hindsight`` (after the fact)" in made
    assert page.r(means["hindsight"]["spearman"]) in made
    made = page.shipped(summary, TAKEN)
    assert f"of {page.r(means['chance']['spearman'])}" in made
    in_settings = made.partition("``hindsight`` in every setting")[2]
    assert in_settings.count("without distortions") == 4
    assert "**Before the count of dimensions**" in page.answer(summary, TAKEN)


def test_the_page_says_what_the_library_reaches_of_what_was_asked(page, summary):
    assert "The plan did not choose it" not in page.answer(summary, TAKEN)
    asked = [c | {"needs": "library"} for c in summary["criteria"] if c["needs"] == "features"]

    def answer(more):
        return page.answer(summary | {"criteria": summary["criteria"] + more}, TAKEN)

    found = answer(asked)
    assert f"Spearman {page.r(asked[0]['worst'])} and " in found
    assert "The plan did not choose it" in found
    assert "not reached" not in found
    assert answer([c | {"reached": False} for c in asked]).count(", not reached)") == 5
    # the hypotheses are of the choices
    assert found.partition("The hypo")[2] == page.answer(summary).partition("The hypo")[2]


def test_the_page_without_rows_says_what_is_missing(page, tmp_path):
    page.write_all(tmp_path / "made", tmp_path / "nothing")
    notice = (tmp_path / "made" / "evidence-notice.inc").read_text()
    assert "The evidence is incomplete" in notice
    assert "photographs, encoders: 47 of 47 missing" in notice
    assert "Not known yet" in (tmp_path / "made" / "evidence-answer.inc").read_text()


def test_the_page_says_that_a_summary_is_of_other_rows(page, rows, summary):
    assert "rows: the one at hand" not in page.notice(rows, summary)
    fewer = rows | {"generator": rows["generator"][:-1]}
    assert "a summary of these rows: the one at hand is of others" in page.notice(fewer, summary)
