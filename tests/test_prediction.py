"""Correlations over encoders: known values, intervals that cover, and what they refuse."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from skfisher._backend.correlations import correlations, resample_counts
from skfisher.prediction import compare_predictors, predictiveness

METHODS = ("pearson", "spearman", "kendall")


def pair(rng, n, rho):
    x = rng.standard_normal(n)
    return x, rho * x + math.sqrt(1 - rho**2) * rng.standard_normal(n)


@pytest.mark.parametrize("ties", [False, True])
def test_values_are_those_of_scipy(rng, ties):
    x, y = pair(rng, 20, 0.6)
    if ties:
        x, y = np.round(x), np.round(y)
    found = predictiveness(x, y, n_resamples=100)["score"]
    assert found.pearson.value == pytest.approx(stats.pearsonr(x, y)[0], abs=1e-12)
    assert found.spearman.value == pytest.approx(stats.spearmanr(x, y)[0], abs=1e-12)
    assert found.kendall.value == pytest.approx(stats.kendalltau(x, y)[0], abs=1e-12)


def test_weights_are_repetitions(rng):
    x, y = (np.round(v, 1) for v in pair(rng, 12, 0.5))
    counts = resample_counts(np.arange(12), 5, 0)
    found = correlations(x, y, counts)
    for row, count in enumerate(counts):
        a, b = np.repeat(x, count), np.repeat(y, count)
        assert found["pearson"][row] == pytest.approx(stats.pearsonr(a, b)[0])
        assert found["spearman"][row] == pytest.approx(stats.spearmanr(a, b)[0])
        assert found["kendall"][row] == pytest.approx(stats.kendalltau(a, b)[0])


def test_rank_correlations_do_not_see_a_monotone_change_of_either_side(rng):
    x, y = pair(rng, 15, 0.5)
    one = predictiveness(x, y)["score"]
    two = predictiveness(np.exp(x), y**3)["score"]
    for method in ("spearman", "kendall"):
        assert repr(getattr(one, method)) == repr(getattr(two, method))


def test_quality_that_is_better_lower_turns_every_sign(rng):
    x, y = pair(rng, 15, 0.5)
    up = predictiveness(x, y)["score"]
    down = predictiveness(x, y, higher_is_better=False)["score"]
    for method in METHODS:
        one, two = getattr(up, method), getattr(down, method)
        assert (one.value, one.low, one.high) == pytest.approx((-two.value, -two.high, -two.low))


def test_order_of_encoders_does_not_change_a_value(rng):
    x, y = pair(rng, 15, 0.5)
    order = rng.permutation(15)
    one, two = predictiveness(x, y)["score"], predictiveness(x[order], y[order])["score"]
    assert one.pearson.value == pytest.approx(two.pearson.value)
    assert one.kendall.value == pytest.approx(two.kendall.value)
    assert one.influence[int(order[3])]["pearson"] == pytest.approx(two.influence[3]["pearson"])


@pytest.mark.parametrize("rho", [0.0, 0.8])
@pytest.mark.parametrize("n", [12, 40])
def test_intervals_cover_a_gaussian_copula(rho, n):
    # 300 samples: at 95 % the share has a standard error of 1.26 %; rank intervals may cover more
    rng = np.random.default_rng(n)
    truth = {
        "pearson": rho,
        "spearman": 6 / math.pi * math.asin(rho / 2),
        "kendall": 2 / math.pi * math.asin(rho),
    }
    hits = dict.fromkeys(METHODS, 0)
    for seed in range(300):
        x, y = pair(rng, n, rho)
        found = predictiveness(x, y, n_resamples=200, random_state=seed)["score"]
        for method in METHODS:
            one = getattr(found, method)
            hits[method] += one.low <= truth[method] <= one.high
    for method in METHODS:
        z = (hits[method] / 300 - 0.95) / math.sqrt(0.95 * 0.05 / 300)
        assert z > -3.0, (method, hits[method])
    assert (hits["pearson"] / 300 - 0.95) / math.sqrt(0.95 * 0.05 / 300) < 3.0


def test_intervals_over_families_cover_what_intervals_over_encoders_do_not():
    # score and quality share a part per family: 12 families of 4, correlation 0 by construction
    rng = np.random.default_rng(1)
    families = np.repeat(np.arange(12), 4)
    covered = {True: 0, False: 0}
    for seed in range(200):
        x, y = (rng.standard_normal(12)[families] + 0.3 * rng.standard_normal(48) for _ in range(2))
        for together in covered:
            found = predictiveness(
                x, y, families=families if together else None, n_resamples=100, random_state=seed
            )["score"].pearson
            covered[together] += found.low <= 0 <= found.high
    assert covered[True] / 200 > 0.95 - 3 * math.sqrt(0.95 * 0.05 / 200)
    assert covered[False] / 200 < 0.8


def test_ifid_against_gfid_of_fourteen_published_autoencoders():
    # the table of arXiv 2603.05630: iFID, and gFID of SiT-XL without guidance
    ifid = [59.91, 67.41, 30.58, 37.13, 47.51, 41.06, 19.57]
    ifid += [37.14, 26.91, 14.06, 17.51, 8.14, 36.70, 7.68]
    gfid = [25.91, 34.06, 23.62, 26.38, 20.81, 25.65, 8.57]
    gfid += [15.4, 15.88, 6.27, 11.97, 4.65, 12.95, 4.25]
    found = predictiveness({"ifid": ifid}, gfid, higher_is_better=False)["ifid"]
    assert found.spearman.value == pytest.approx(-0.88, abs=0.005)
    assert found.spearman.percentile == pytest.approx((-0.99, -0.59), abs=0.02)
    assert found.spearman.low <= -0.95
    assert -0.7 < found.spearman.high < -0.4


def test_leaving_a_family_out_gives_the_correlation_of_the_rest(rng):
    x, y = pair(rng, 20, 0.5)
    families = np.asarray(list("abcde"))[np.arange(20) % 5]
    found = predictiveness(x, y, families=families)["score"]
    rest = families != "c"
    assert list(found.leave_one_family_out) == list("abcde")
    left = found.leave_one_family_out["c"]
    assert left["pearson"] == pytest.approx(stats.pearsonr(x[rest], y[rest])[0])
    assert left["spearman"] == pytest.approx(stats.spearmanr(x[rest], y[rest])[0])


def test_influence_points_at_the_outlier(rng):
    x, y = pair(rng, 20, 0.0)
    x[7], y[7] = 15.0, 15.0
    found = predictiveness({"viv": x}, y)["viv"]
    assert found.most_influential == 7
    keep = np.arange(20) != 7
    change = found.pearson.value - stats.pearsonr(x[keep], y[keep])[0]
    assert found.influence[7]["pearson"] == pytest.approx(change)


def test_partial_correlation_is_that_of_residuals(rng):
    n = 30
    dimension, error = rng.integers(4, 64, n).astype(float), np.exp(rng.standard_normal(n))
    x = dimension / 10 + rng.standard_normal(n)
    y = -dimension / 10 + np.log(error) + rng.standard_normal(n) + 0.5 * x
    found = predictiveness(x, y, dimension=dimension, reconstruction=error)["score"]

    def residual_correlation(x, y, *given):
        design = np.stack([np.ones(n), *given], axis=1)
        a, b = (v - design @ np.linalg.lstsq(design, v, rcond=None)[0] for v in (x, y))
        return stats.pearsonr(a, b)[0]

    assert found.partial_pearson.value == pytest.approx(
        residual_correlation(x, y, dimension, np.log(error))
    )
    ranks = [stats.rankdata(v) for v in (x, y, dimension, error)]
    assert found.partial_spearman.value == pytest.approx(residual_correlation(*ranks))


def test_a_predictor_that_only_knows_the_dimension_has_no_partial_correlation_left(rng):
    dimension = np.arange(20.0)
    found = predictiveness(2 * dimension, dimension + rng.standard_normal(20), dimension=dimension)
    assert found["score"].pearson.value > 0.9
    assert math.isnan(found["score"].partial_pearson.value)
    assert "determine it" in found["score"].partial_pearson.reason


def test_labelled_columns_are_matched_by_label(rng):
    x, y = pair(rng, 10, 0.7)
    names = [f"e{k}" for k in range(10)]
    plain = predictiveness(x, y)["score"].pearson
    order = rng.permutation(10)
    shuffled = pd.Series(y[order], index=[names[k] for k in order])
    frame = pd.DataFrame({"viv": x, "sec": -x}, index=names)
    families = {names[k]: k % 5 for k in order.tolist()}
    for scores in (frame, {"viv": dict(zip(names, x, strict=True)), "sec": frame["sec"]}):
        found = predictiveness(scores, shuffled, families=families)
        assert found["viv"].pearson.value == pytest.approx(plain.value)
        assert found["sec"].pearson.value == pytest.approx(-plain.value)
        assert set(found["viv"].influence) == set(names)
    single = predictiveness(dict(zip(names, x, strict=True)), shuffled)
    assert single["score"].pearson.value == pytest.approx(plain.value)


def test_encoders_without_a_value_are_dropped(rng):
    x, y = pair(rng, 12, 0.5)
    holed = np.where(np.arange(12) == 3, np.nan, x)
    found = predictiveness({"all": x, "holed": holed}, y)
    keep = np.arange(12) != 3
    assert (found["all"].n, found["holed"].n) == (12, 11)
    assert found["holed"].pearson.value == pytest.approx(stats.pearsonr(x[keep], y[keep])[0])


def test_too_few_encoders_and_constant_columns_are_nan_with_a_reason():
    few = predictiveness([1.0, 2.0, 3.0], [1.0, 3.0, 2.0])["score"]
    assert math.isnan(few.pearson.value)
    assert few.kendall.reason == "3 encoders, 4 needed"
    flat = predictiveness({"flat": np.ones(8)}, np.arange(8.0))
    assert math.isnan(flat["flat"].spearman.value)
    assert "the same for all encoders" in flat["flat"].spearman.reason
    assert "the same for all encoders" in repr(flat)


def test_fewer_than_four_families_leave_a_value_without_an_interval(rng):
    x, y = pair(rng, 12, 0.5)
    found = predictiveness(x, y, families=np.arange(12) % 3)["score"].pearson
    assert math.isfinite(found.value)
    assert math.isnan(found.low)
    assert found.reason == "no interval: 3 independent families, 4 needed"


def test_the_table_shows_every_candidate_and_its_interval(rng):
    x, y = pair(rng, 12, 0.5)
    found = predictiveness({"viv": x, "a longer name": y}, y, dimension=np.arange(12) % 5)
    lines = repr(found).splitlines()
    assert lines[1].split()[:4] == ["candidate", "n", "pearson", "spearman"]
    assert lines[3].startswith("a longer name   12  +1.00 [")
    assert lines[-1] == "partial: given dimension"
    assert max(map(len, lines[1:])) <= 140


def test_a_perfect_predictor_has_an_interval_that_ends_at_one():
    found = predictiveness(np.arange(10.0), np.arange(10.0))["score"].spearman
    assert found.value == pytest.approx(1.0)
    assert found.high == pytest.approx(1.0)
    assert 0.8 < found.low < 1.0


def test_the_better_predictor_wins_and_the_difference_turns_with_the_order(rng):
    quality = rng.standard_normal(40)
    good = -quality + 0.3 * rng.standard_normal(40)
    poor = quality + 2.0 * rng.standard_normal(40)
    ahead = compare_predictors(good, poor, quality, names=("good", "poor"))
    behind = compare_predictors(poor, good, quality)
    assert ahead.pearson.low > 0
    assert ahead.win_probability["kendall"] > 0.99
    assert behind.spearman.value == pytest.approx(-ahead.spearman.value)
    assert "good minus poor" in repr(ahead)


def test_the_interval_of_a_difference_covers_zero_for_equal_predictors():
    rng = np.random.default_rng(3)
    hits = 0
    for seed in range(200):
        quality = rng.standard_normal(25)
        one, two = (quality + rng.standard_normal(25) for _ in range(2))
        found = compare_predictors(one, two, quality, n_resamples=100, random_state=seed).pearson
        hits += found.low <= 0 <= found.high
    assert abs(hits / 200 - 0.95) / math.sqrt(0.95 * 0.05 / 200) < 3


def test_comparison_without_a_value_says_why():
    few = compare_predictors([1.0, 2, 3], [2.0, 1, 3], [1.0, 2, 3])
    assert "4 needed" in few.pearson.reason
    flat = compare_predictors(np.ones(6), np.arange(6.0), np.arange(6.0))
    assert flat.pearson.reason == "a column is constant"
    assert math.isnan(flat.win_probability["pearson"])


X, Y = np.arange(6.0), np.arange(6.0) ** 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scores": X[:5]}, "scores\\['score'\\] has 5 values for 6 encoders"),
        ({"scores": {"viv": np.ones((6, 2))}}, "viv'\\] cannot be read as numbers .*shape"),
        ({"quality": ["a"] * 6}, "quality cannot be read as numbers"),
        ({"families": [1, 2]}, "families has 2 labels for 6 encoders"),
        ({"dimension": [1.0]}, "dimension has 1 values for 6 encoders"),
        ({"reconstruction": -X}, "reconstruction holds -?0.0: it enters by its logarithm"),
        ({"confidence": 1.0}, "confidence is 1.0"),
        ({"n_resamples": 10}, "n_resamples is 10"),
        (
            {"scores": dict(zip("abcdef", X, strict=True)), "quality": {"a": 1.0, "z": 2.0}},
            "other encoders than the rest",
        ),
        ({"scores": pd.Series(X, index=list("aabcde"))}, "'a' occurs more than once"),
    ],
)
def test_refusals_name_the_argument_and_the_value(change, message):
    arguments = {"scores": X, "quality": Y, **change}
    with pytest.raises(ValueError, match=message):
        predictiveness(arguments.pop("scores"), arguments.pop("quality"), **arguments)


def test_an_unknown_candidate_is_refused_with_the_known_ones():
    with pytest.raises(KeyError, match="no candidate 'sec': there are viv"):
        predictiveness({"viv": X}, Y)["sec"]
