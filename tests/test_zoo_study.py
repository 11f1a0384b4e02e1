"""Statistics of the study on rows whose truth is known, and the page that is made of them."""

import json
import math

import numpy as np
import pytest
from scipy import stats
from zoo_rows import DECLARED, FEW, study_rows

from benchmarks.zoo import study
from benchmarks.zoo.choice import choose, halves, left_out_choices, normal_scores, spearman
from benchmarks.zoo.config import ENCODERS, encoder_named
from benchmarks.zoo.correlates import orient_undeclared, records_of_setting, within_families
from benchmarks.zoo.declared import LEVELS, Declared, declared_numbers, level_of, rival_numbers
from benchmarks.zoo.study import (
    agreement,
    as_records,
    choice_name,
    failures,
    left_out_name,
    reliability,
    summarise,
    table_of,
)
from benchmarks.zoo.table import (
    Quality,
    Setting,
    fingerprint,
    missing_runs,
    read_table,
)
from skfisher.rivals import RIVALS

SMALL = Setting("fashion", "mlp", "flow", "small")
PLAN = (100, 0)


def table(**options):
    return read_table(study_rows(more=False, **options), DECLARED)


def changed(rows, kind, change, **where):
    """The rows with `change` made to those of a kind that match."""
    return rows | {
        kind: [
            row | change(row) if all(row[k] == v for k, v in where.items()) else row
            for row in rows[kind]
        ]
    }


@pytest.fixture(scope="module")
def rows():
    return study_rows(encoders=FEW, more=False)


@pytest.fixture(scope="module")
def summary(rows):
    return summarise(rows, declared=DECLARED, n_resamples=100)


def means(summary, subset="all"):
    return {m["number"]: m for m in as_records(summary["means"]) if m["subset"] == subset}


# quality and what it can carry


def test_quality_is_the_mean_log_distance_with_the_pooled_error():
    found = table(encoders=FEW).quality[SMALL]
    values = np.array([list(q.values.values()) for q in found.values()])
    pooled = math.sqrt(values.var(axis=1, ddof=1).mean())
    for quality, of_seeds in zip(found.values(), values, strict=True):
        assert quality.mean == pytest.approx(of_seeds.mean())
        assert quality.stderr == pytest.approx(pooled / math.sqrt(3))


def test_two_seeds_step_up_by_spearman_and_brown(rng):
    values = rng.standard_normal((30, 1)) + rng.standard_normal((30, 2))
    r = stats.spearmanr(*values.T)[0]
    assert reliability(qualities(values)).split_half == pytest.approx(2 * r / (1 + r))


@pytest.mark.parametrize("n_seeds", [2, 3, 4])
def test_reliability_is_the_squared_correlation_with_the_truth(rng, n_seeds):
    truth = rng.standard_normal((600, 1))
    found = reliability(qualities(truth + 0.7 * rng.standard_normal((600, n_seeds))))
    expected = 1 / (1 + 0.49 / n_seeds)
    stderr = (found.high - found.low) / (2 * 1.96)
    assert abs(found.intraclass - expected) < 4 * stderr
    # ranks of normal pairs correlate by 6 / pi asin(r / 2), at most 0.02 less
    assert found.split_half == pytest.approx(expected, abs=0.06)
    assert found.ceiling == pytest.approx(math.sqrt(found.split_half))
    single = found.split_half / (n_seeds - (n_seeds - 1) * found.split_half)
    for seeds, enough in ((found.seeds_needed, True), (found.seeds_needed - 1, False)):
        assert (seeds * single / (1 + (seeds - 1) * single) >= 0.95) == enough


def qualities(values):
    return {
        str(k): Quality(float(row.mean()), 0.1, dict(enumerate(map(float, row))))
        for k, row in enumerate(values)
    }


def test_one_seed_says_nothing_about_reliability(rng):
    found = reliability(qualities(rng.standard_normal((20, 1))))
    assert math.isnan(found.split_half)
    assert found.seeds_needed is None


# exclusions


def test_an_encoder_worse_than_the_mean_image_is_left_out_of_its_data_set(rows):
    bad = changed(
        rows, "encoder", lambda r: {"reconstruction": 0.4}, encoder="ae32", dataset="fashion"
    )
    found = read_table(bad, DECLARED)
    assert "above the mean image's 0.3" in found.excluded["fashion"]["ae32"]
    assert "ae32" not in found.quality[SMALL]
    assert "ae32" not in found.numbers["fashion"]["truth"]
    assert "ae32" in found.quality[SMALL._replace(dataset="photographs")]


@pytest.mark.parametrize("change", [{"reconstruction": math.nan}, {"facts": {"loss": math.inf}}])
def test_a_diverged_training_is_left_out(rows, change):
    bad = changed(rows, "encoder", lambda r: change, encoder="ae32")
    assert read_table(bad, DECLARED).excluded["photographs"] == {"ae32": "its training diverged"}


def test_a_run_that_is_not_finite_is_missing_and_listed(rows):
    bad = changed(
        rows,
        "generator",
        lambda r: {"frechet_reconstructed": math.nan},
        encoder="ae32",
        dataset="fashion",
        budget="small",
        seed=1,
    )
    found = read_table(bad, DECLARED)
    assert found.lost == ["ae32 on fashion, mlp flow, small, seed 1: Frechet distance nan"]
    assert sorted(found.quality[SMALL]["ae32"].values) == [0, 2]


def test_a_run_that_is_there_twice_is_refused(rows):
    twice = rows | {"generator": [*rows["generator"], rows["generator"][0]]}
    with pytest.raises(ValueError, match=r"rows hold pca16 on fashion, .* twice for seed 0"):
        read_table(twice, DECLARED)


# correlations


def test_what_predicts_is_found_and_what_does_not_is_not(summary):
    found = means(summary)
    assert found["truth"]["spearman"] > 0.95
    assert found["truth"]["low"] > 0.9
    assert found["truth"]["over_best_rival_low"] > 0.0
    assert found["chance"]["low"] < 0 < found["chance"]["high"]
    assert found["truth"]["within"] > 0.8
    assert found["truth"]["partial"] > 0.9


def test_every_number_stands_beside_the_count_of_dimensions(summary):
    found = means(summary)
    gap = found["truth"]["spearman"] - abs(found["dimension"]["spearman"])
    assert found["truth"]["over_dimension"] == pytest.approx(gap, abs=2e-4)
    assert 0 < found["truth"]["over_dimension_low"] < gap < found["truth"]["over_dimension_high"]
    assert found["dimension"]["over_dimension"] is None


def test_a_number_announced_the_wrong_way_round_is_negative(summary):
    found = means(summary)
    assert found["wrong_way"]["spearman"] < -0.95
    assert found["wrong_way"]["over_best_rival"] < -1.0


def test_a_rival_without_direction_gets_the_one_that_suits_it():
    found = orient_undeclared(table(encoders=FEW))
    assert found.declared["two_nn_dimension"].higher_is_better is True
    assert "hindsight" in found.declared["two_nn_dimension"].meaning
    assert found.declared["unannounced"].higher_is_better is None


def test_ranks_do_not_see_a_monotone_change_of_a_number(rows):
    def bend(row):
        numbers = {
            name: found | {"value": math.exp(found["value"])}
            for name, found in row["numbers"].items()
        }
        return {"numbers": numbers}

    one, two = (
        records_of_setting(read_table(r, DECLARED), SMALL, "all", PLAN)
        for r in (rows, changed(rows, "candidates", bend))
    )
    for a, b in zip(one, two, strict=True):
        assert a["spearman"] == b["spearman"]
        assert a["low"] == pytest.approx(b["low"], nan_ok=True)


def test_within_families_a_difference_between_families_does_not_count(rng):
    families = ["a"] * 4 + ["b"] * 5 + ["c"] * 2
    values = rng.standard_normal(11)
    moved = values + np.array([{"a": 0, "b": 10, "c": 20}[f] for f in families])
    one, two = within_families(values, families), within_families(moved, families)
    np.testing.assert_array_equal(one, two)
    assert np.isnan(one[9:]).all()
    assert np.nansum(one) == pytest.approx(0)


def test_a_correlation_that_hangs_on_one_family_names_it():
    strong = table(encoders=FEW, family_effect=0.0)
    # a number that only tells the distortions, all made worse, from the others
    for name in strong.quality[SMALL]:
        distorts = encoder_named(name).distorts
        quality = strong.quality[SMALL][name]
        strong.quality[SMALL][name] = quality._replace(mean=quality.mean + 20.0 * distorts)
        strong.numbers["fashion"]["chance"][name] -= 20.0 * distorts
    (record,) = (
        r for r in records_of_setting(strong, SMALL, "all", PLAN) if r["number"] == "chance"
    )
    assert record["hangs_on"] == "distortion"
    assert record["without_family_low"] < record["spearman"] - 0.2


# the choice


def test_halves_are_dealt_in_alphabetical_order_and_distortions_only_judge():
    choosing, judging = halves()
    assert choosing == ("aligned", "equivariant", "nvae", "plain", "vae")
    assert judging == ("denoising", "geometry", "pca", "spectral", "distortion")
    assert {*choosing, *judging} == {c.family for c in ENCODERS}


def test_the_choice_adds_the_two_parts_of_the_truth():
    found = choose(table(), "latents")
    assert set(found.terms) == {"first_half", "second_half"}
    assert found.path[1].score > found.path[0].score + 0.02
    assert choose(table(), "features").terms == ("truth",)


def test_the_choice_never_sees_the_judging_half():
    rows = study_rows(more=False, seed=3)
    judged = halves()[1]

    def spoil(row):
        return {"frechet_reconstructed": 1 / row["frechet_reconstructed"]}

    spoilt = rows | {
        "generator": [r | spoil(r) if r["family"] in judged else r for r in rows["generator"]]
    }
    one, two = (choose(read_table(r, DECLARED), "latents") for r in (rows, spoilt))
    assert one == two


def test_what_was_made_after_the_first_results_is_judged_and_not_chosen():
    found = table()
    assert found.column("fashion", "hindsight", ["ae16", "ae32"]).shape == (2,)
    steps = [step for level in LEVELS for step in choose(found, level).singles]
    assert steps
    assert not any("hindsight" in step.terms for step in steps)


def test_what_a_user_lacks_is_not_chosen():
    found = table(encoders=FEW)
    for level in LEVELS:
        allowed = LEVELS[: LEVELS.index(level) + 1]
        for step in choose(found, level).singles:
            assert found.declared[step.terms[0]].needs in allowed


def test_rivals_and_numbers_without_direction_are_not_chosen():
    names = {step.terms[0] for step in choose(table(), "features").singles}
    assert names == {"truth", "first_half", "second_half", "wrong_way", "chance", "dimension"}


def test_a_candidate_without_values_on_one_data_set_is_not_chosen(rows):
    def drop(row):
        return {"numbers": {n: v for n, v in row["numbers"].items() if n != "truth"}}

    found = read_table(changed(rows, "candidates", drop, dataset="photographs"), DECLARED)
    assert "truth" not in {step.terms[0] for step in choose(found, "features").singles}


def test_a_left_out_family_does_not_choose_for_itself():
    one = table(encoders=FEW)
    two = table(encoders=FEW)
    for setting in two.quality:
        for name, quality in two.quality[setting].items():
            if two.family(name) == "pca":
                two.quality[setting][name] = quality._replace(mean=-quality.mean)
    first, second = (left_out_choices(t, "latents") for t in (one, two))
    assert first["pca"] == second["pca"]
    assert all(family not in choice.families for family, choice in first.items())


def test_a_level_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="needs is 'luck': it is one of latents, encoder"):
        choose(table(encoders=FEW[:4]), "luck")
    with pytest.raises(ValueError, match="needs names 'luck'"):
        level_of(("latents", "luck"))


def test_levels_are_those_of_the_most_that_is_needed():
    assert level_of(()) == "latents"
    assert level_of(("labels", "latents")) == "encoder"
    assert level_of("encoder, decoder") == "decoder"
    assert level_of(("decoder", "features")) == "features"


def test_normal_scores_keep_ranks_and_put_what_is_missing_in_the_middle(rng):
    values = rng.standard_normal(9)
    values[4] = np.nan
    found = normal_scores(values)
    there = np.isfinite(values)
    assert stats.spearmanr(found[there], values[there])[0] == pytest.approx(1)
    assert found[4] == 0.0
    assert found.sum() == pytest.approx(0)


def test_spearman_of_columns_is_that_of_scipy(rng):
    columns, quality = np.round(rng.standard_normal((12, 3)), 1), rng.standard_normal(12)
    expected = [stats.spearmanr(c, quality)[0] for c in columns.T]
    np.testing.assert_allclose(spearman(columns, quality), expected)
    assert np.isnan(spearman(np.ones((12, 1)), quality)).all()


# the whole


def test_the_summary_is_json_and_the_same_twice():
    rows = study_rows(encoders=FEW[:8], datasets=("fashion",), budgets=("small",), more=False)
    one, two = (summarise(rows, declared=DECLARED, n_resamples=100) for _ in range(2))
    assert json.dumps(one, allow_nan=False) == json.dumps(two, allow_nan=False)
    assert one["rows"] == fingerprint(rows)


def test_the_table_of_a_summary_holds_its_choices(rows, summary):
    found = table_of(rows, summary)
    assert found.declared[choice_name("latents")].kind == "choice"
    (record,) = (
        r
        for r in records_of_setting(found, SMALL, "all", PLAN)
        if r["number"] == left_out_name("latents")
    )
    (expected,) = (
        r
        for r in as_records(summary["correlations"])
        if (r["number"], r["setting"], r["subset"]) == (left_out_name("latents"), str(SMALL), "all")
    )
    assert record["spearman"] == pytest.approx(expected["spearman"], rel=1e-3)


def test_criteria_are_reached_by_the_truth(summary):
    of_truth = [c for c in summary["criteria"] if (c["needs"], c["subset"]) == ("features", "all")]
    assert len(of_truth) == 5
    assert all(c["reached"] for c in of_truth)


def test_the_same_is_asked_of_what_the_library_takes(rows, summary, monkeypatch):
    assert {c["needs"] for c in summary["criteria"]} <= {*LEVELS}  # these rows lack it
    found = table_of(rows, summary)
    records = [
        {key: math.nan if value is None else value for key, value in record.items()}
        for record in as_records(summary["correlations"])
    ]
    for number, reached in (("truth", {True}), ("chance", {False})):
        monkeypatch.setattr(study, "LIBRARY", number)
        asked = [c for c in study.criteria(found, records) if c["needs"] == "library"]
        assert len(asked) == 8
        assert {c["reached"] for c in asked} == reached
        assert "family left out" not in " ".join(c["asked"] for c in asked)


def test_failures_name_the_encoder_that_came_out_worse_than_promised():
    found = table(encoders=FEW, own_noise=0.0, seed_noise=0.01)
    best = min(found.quality[SMALL], key=lambda n: found.quality[SMALL][n].mean)
    for members in found.quality.values():
        members[best] = members[best]._replace(mean=20.0)
    for dataset in found.numbers:
        found.numbers[dataset]["left"] = {
            n: -v for n, v in found.numbers[dataset]["unannounced"].items()
        }
    found.declared["left"] = Declared("left", "candidate", True, "latents", "")
    worst = failures(found, "left")["encoders"][0]
    assert worst["encoder"] == best
    assert worst["residual"] > 0.9


def test_failures_say_what_they_go_with():
    # a number that promises much of few dimensions errs as they are few, and by no other property
    found = failures(table(encoders=FEW), "dimension")
    rho = {row["number"]: row["spearman"] for row in found["goes_with"]}
    assert rho["dimension"] < -0.5
    assert abs(rho["reconstruction"]) < 0.4
    assert math.isnan(rho["kurtosis"])  # which these rows lack


@pytest.mark.parametrize(
    "options",
    [
        {"datasets": ("photographs",), "budgets": ("large",)},
        {"seeds": 1, "budgets": ("small",)},
        {"encoders": FEW[:3]},
        None,
    ],
    ids=["one data set", "one seed", "three encoders", "no rows"],
)
def test_parts_of_a_study_are_summarised_and_what_is_missing_said(options, tmp_path):
    rows = {} if options is None else study_rows(**{"encoders": FEW, "more": False} | options)
    found = summarise(rows, declared=DECLARED, n_resamples=100)
    json.dumps(found, allow_nan=False)
    assert found["missing"]
    assert {c["reached"] for c in found["criteria"]} <= {None}


def test_what_the_protocol_announces_is_missed():
    found = missing_runs({})
    assert any(line.startswith("fashion, encoders: 47 of 47") for line in found)
    assert any(line.startswith("photographs, dit flow, large, 2 seeds: 12 of 12") for line in found)
    assert missing_runs(study_rows()) == []
    without = study_rows()
    without["generator"] = [
        r for r in without["generator"] if (r["encoder"], r["seed"]) != ("pca16", 2)
    ]
    assert missing_runs(without)[0] == (
        "fashion, mlp flow, small, 3 seeds: 1 of 47 missing (pca16)"
    )


# the reduced study


def test_a_study_with_other_seeds_agrees_and_a_worse_one_does_not():
    committed = study_rows(encoders=FEW, seed_noise=0.2, more=False)
    rng = np.random.default_rng(1)

    def again(row, shift=0.0):
        mean = np.mean(
            [
                math.log(r["frechet_reconstructed"])
                for r in committed["generator"]
                if (r["dataset"], r["encoder"], r["budget"])
                == (row["dataset"], row["encoder"], row["budget"])
            ]
        )
        value = math.exp(mean + shift + 0.2 * rng.standard_normal())
        return {"frechet_reconstructed": value}

    small = {"generator": [r for r in committed["generator"] if r["budget"] == "small"]}
    found = agreement(changed(small, "generator", again), committed)
    assert found.agrees
    assert min(found.rank_correlation.values()) > 0.9
    worse = agreement(changed(small, "generator", lambda r: again(r, 1.0)), committed)
    assert not worse.agrees
    assert "does not agree" in repr(worse)


def test_a_reduced_study_is_asked_for_its_numbers_too():
    rows = study_rows(encoders=FEW, datasets=("fashion",), budgets=("small",), more=False)
    found = agreement(rows, rows)
    assert found.agrees
    assert len(found.numbers) == len(FEW) * 10  # seven candidates, two rivals, one late
    assert all(row["inside"] for row in found.numbers)

    def moved(row):
        entry = row["numbers"]["truth"]
        return {"numbers": row["numbers"] | {"truth": entry | {"value": entry["value"] + 1.0}}}

    other = agreement(changed(rows, "candidates", moved), rows)
    assert not other.agrees
    assert {row["number"] for row in other.numbers if not row["inside"]} == {"truth"}
    assert "! ae16" in repr(other)


def test_prediction_intervals_cover():
    rng = np.random.default_rng(7)
    inside = total = 0
    for seed in range(20):
        committed = study_rows(
            encoders=FEW, datasets=("fashion",), budgets=("small",), own_noise=0.0, more=False,
            seed=seed, seed_noise=0.2,
        )  # fmt: skip
        # with own_noise 0 the log distance is 1 + the parts' sum, which "unannounced" holds
        level = {
            r["encoder"]: r["numbers"]["unannounced"]["value"] for r in committed["candidates"]
        }

        def fresh(row, level=level):
            value = 1.0 + level[row["encoder"]] + 0.2 * rng.standard_normal()
            return {"frechet_reconstructed": math.exp(value)}

        found = agreement(changed(committed, "generator", fresh), committed)
        inside, total = inside + found.inside, total + len(found.rows)
    assert abs(inside / total - 0.95) < 4 * math.sqrt(0.95 * 0.05 / total)


def test_studies_with_nothing_in_common_are_refused(rows):
    with pytest.raises(ValueError, match="no encoder and setting in common"):
        agreement({}, rows)


def test_other_measures_turn_with_the_primary_one(summary):
    found = {m["measure"]: m for m in summary["other_measures"]}
    assert set(found) == {"frechet_real", "precision"}
    assert all(m["quality"] > 0.95 for m in found.values())
    assert all(m["features"] > 0.9 for m in found.values())


# what is announced


def test_every_candidate_has_a_direction_and_a_level():
    pytest.importorskip("torch")
    found = declared_numbers()
    candidates = [d for d in found.values() if d.kind == "candidate"]
    assert {d.needs for d in candidates} == set(LEVELS)
    assert all(isinstance(d.higher_is_better, bool) for d in candidates)
    assert all(found[name].kind == "rival" for name in RIVALS)


def test_rivals_point_as_in_the_library(rng):
    from skfisher import rival_metrics

    found = rival_metrics(rng.standard_normal((40, 2, 4, 4)))
    declared = rival_numbers()
    for name, metric in found.items():
        if name in declared and metric.higher_is_better is not None:
            assert declared[name].higher_is_better == metric.higher_is_better
        assert name in declared
