"""Scores told apart by resampling the rows that they share."""

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import ndtr

from skfisher._backend.draws import resampled_sums
from skfisher.ranking import rank_scores, row_influence

RESAMPLES = 2000


def columns(N=400, seed=0, shift=(0.0, 0.1, 0.3), shared=0.9):
    """Contributions of several encoders on the same rows, which share most of their error."""
    rng = np.random.default_rng(seed)
    common = rng.normal(size=N)
    own = rng.normal(size=(len(shift), N))
    return [
        math.sqrt(shared) * common + math.sqrt(1 - shared) * o - s
        for o, s in zip(own, shift, strict=True)
    ]


def ranked(rows, **options):
    w = options.get("weights") or [None] * len(rows)
    return rank_scores(
        [np.average(r, weights=v) for r, v in zip(rows, w, strict=True)], rows, **options
    )


# -- what a resample is ---------------------------------------------------------------------------


def test_resampled_sums_have_the_moments_of_a_bootstrap():
    values = np.random.default_rng(0).normal(size=(150, 3)) ** 2
    values -= values.mean(axis=0)
    n = 20_000
    sums = resampled_sums(0, (1,), values, n)
    exact = values.T @ values  # covariance of N draws with replacement of centred rows
    z = sums.mean(axis=0) / np.sqrt(np.diag(exact) / n)
    assert np.all(np.abs(z) < 4)
    error = np.sqrt((exact**2 + np.outer(np.diag(exact), np.diag(exact))) / n)
    assert np.all(np.abs(np.cov(sums.T) - exact) < 5 * error)


def test_resamples_do_not_depend_on_how_they_are_cut(monkeypatch):
    from skfisher._backend import draws

    values = np.random.default_rng(0).normal(size=(40, 2))
    whole = resampled_sums(3, (1, 0), values, 60)
    monkeypatch.setattr(draws, "row_chunks", lambda n, *_: [slice(k, k + 1) for k in range(n)])
    assert_allclose(resampled_sums(3, (1, 0), values, 60), whole, rtol=1e-12)


def test_sums_of_ones_count_every_resample_whole():
    assert_array_equal(resampled_sums(0, (2,), np.ones((30, 1)), 100), np.full((100, 1), 30.0))


# -- differences ----------------------------------------------------------------------------------


def test_the_paired_error_is_that_of_the_rows_differences():
    rows = columns()
    found = ranked(rows)
    for i in range(3):
        for j in range(3):
            exact = np.std(rows[i] - rows[j]) / math.sqrt(len(rows[0]))
            assert found.difference_stderr[i, j] == pytest.approx(exact, rel=1e-9, abs=1e-15)
    alone = math.sqrt(2) * np.std(rows[0]) / math.sqrt(len(rows[0]))
    assert found.difference_stderr[0, 1] < 0.5 * alone


def test_the_unpaired_error_is_the_root_of_both_squares():
    rows = columns()
    found = ranked(rows, samples=[0, 1, 2])
    own = [np.std(r) / math.sqrt(len(r)) for r in rows]
    assert found.difference_stderr[0, 1] == pytest.approx(math.hypot(own[0], own[1]))


@pytest.mark.parametrize("paired", [True, False])
def test_win_probabilities_are_those_of_normal_differences(paired):
    rows = columns(shift=(0.0, 0.02, 0.06))
    found = ranked(rows, n_resamples=20_000, samples=None if paired else range(3))
    for i, j in ((0, 1), (0, 2), (1, 2)):
        z = (rows[i].mean() - rows[j].mean()) / found.difference_stderr[i, j]
        p = 0.5 * math.erfc(-z / math.sqrt(2))
        # of the count, and of the skewness that the means of 400 rows have left
        error = math.sqrt(p * (1 - p) / 20_000) + 0.005
        assert abs(found.win_probability[i, j] - p) < 4 * error


def test_wins_and_losses_make_one():
    win = ranked([*columns(), columns()[0]]).win_probability
    assert_allclose(win + win.T, 1.0, rtol=1e-12)
    assert_array_equal(np.diag(win), 0.5)


def test_scores_of_one_sample_need_each_other_s_rows_only_by_agreement():
    rows = columns()
    by_length = rank_scores([0.0, 0.0], [rows[0], rows[1][:300]])
    own = [np.std(r) / math.sqrt(len(r)) for r in (rows[0], rows[1][:300])]
    assert by_length.difference_stderr[0, 1] == pytest.approx(math.hypot(*own))


def test_given_errors_scale_the_resamples():
    rows = columns()
    plain = ranked(rows)
    own = [np.std(r) / math.sqrt(len(r)) for r in rows]
    found = ranked(rows, stderrs=[2.0 * e for e in own])
    assert_allclose(found.difference_stderr, 2 * plain.difference_stderr, atol=1e-15)
    assert np.all(np.abs(found.win_probability - 0.5) <= np.abs(plain.win_probability - 0.5))
    for unknown in (math.nan, math.inf, 0.0):
        same = ranked(rows, stderrs=[unknown] * 3)
        assert_array_equal(same.win_probability, plain.win_probability)


# -- ranks ----------------------------------------------------------------------------------------


def test_equal_scores_share_ranks_and_intervals():
    rows = columns()
    found = ranked([rows[0], rows[0], rows[2]])
    assert found.ranks[0] == found.ranks[1] == 1
    assert found.rank_intervals[0] == found.rank_intervals[1] == (1, 2)
    assert found.win_probability[0, 1] == 0.5
    assert found.difference_stderr[0, 1] == 0
    assert not found.separated(0, 1)
    assert not found.separated(1, 0)
    # summed in another order, the same score is the same
    turned = rank_scores([rows[0].mean()] * 2, [rows[0], rows[0] * (1 + 1e-16) + 1e-16])
    assert turned.ranks == (1, 1)


def test_a_rank_counts_those_that_are_better_beyond_doubt():
    found = ranked(columns(shift=(0.5, 0.0, 0.001, 0.5)))
    assert found.ranks == (3, 1, 1, 3)
    assert [i in found.order[:2] for i in range(4)] == [False, True, True, False]
    for i in range(4):
        better = sum(found.separated(j, i) for j in range(4) if j != i)
        assert found.ranks[i] == 1 + better


@pytest.mark.parametrize("order", [(2, 0, 1), (1, 0, 2), (2, 1, 0)])
def test_permuted_encoders_have_permuted_results(order):
    rows = columns(shift=(0.0, 0.02, 0.06))
    found, moved = ranked(rows), ranked([rows[i] for i in order])
    assert moved.ranks == tuple(found.ranks[i] for i in order)
    assert moved.rank_intervals == tuple(found.rank_intervals[i] for i in order)
    assert_array_equal(moved.win_probability, found.win_probability[np.ix_(order, order)])
    assert_allclose(
        moved.difference_stderr, found.difference_stderr[np.ix_(order, order)], atol=1e-16
    )
    assert [order[i] for i in moved.order] == list(found.order)


def test_a_shift_or_a_unit_of_all_scores_changes_no_rank():
    rows = columns(shift=(0.0, 0.02, 0.06))
    found, moved = ranked(rows), ranked([7.0 + 1e-3 * r for r in rows])
    assert moved.ranks == found.ranks
    assert moved.rank_intervals == found.rank_intervals
    assert_array_equal(moved.win_probability, found.win_probability)


@pytest.mark.parametrize("bad", [math.nan, -math.inf])
def test_scores_that_are_not_finite_come_last(bad):
    rows = columns()
    found = rank_scores([rows[0].mean(), bad, rows[2].mean()], [rows[0], rows[1], rows[2]])
    assert found.order[-1] == 1
    assert found.ranks[1] == 3
    assert found.rank_intervals[1] == (3, 3)
    assert found.win_probability[1, 0] == 0
    unknown = rank_scores([bad, 1.0], [np.full(400, math.nan), rows[0]])
    assert unknown.order == (1, 0)
    assert unknown.ranks == (2, 1)


def test_one_score_is_first():
    found = ranked(columns()[:1])
    assert (found.order, found.ranks, found.rank_intervals) == ((0,), (1,), ((1, 1),))


def test_the_seed_decides_and_nothing_else():
    rows = columns(shift=(0.0, 0.02, 0.06))
    one, two, other = ranked(rows), ranked(rows), ranked(rows, random_state=1)
    assert_array_equal(one.win_probability, two.win_probability)
    assert np.any(one.win_probability != other.win_probability)
    assert_array_equal(one.difference_stderr, other.difference_stderr)


def test_wider_confidence_ranks_fewer_apart():
    rows = columns(shift=(0.0, 0.03, 0.06), N=300)
    wide = ranked(rows, confidence=0.999)
    narrow = ranked(rows, confidence=0.5)
    for low, high in zip(narrow.rank_intervals, wide.rank_intervals, strict=True):
        assert high[0] <= low[0] <= low[1] <= high[1]
    assert sum(wide.ranks) <= sum(narrow.ranks)


# -- weights --------------------------------------------------------------------------------------


def test_weights_are_repetitions_up_to_what_a_row_is_worth():
    rows = columns(N=200)
    counts = np.random.default_rng(1).integers(0, 4, 200)
    weighted = ranked(rows, weights=[counts.astype(float)] * 3)
    repeated = [np.repeat(r, counts) for r in rows]
    # a row of weight two is one draw: with the errors told, the two agree
    own = [float(weighted_error(r, counts)) for r in rows]
    told = ranked(repeated, stderrs=own)
    for i, j in ((0, 1), (0, 2), (1, 2)):
        gap = np.average(rows[i] - rows[j], weights=counts)
        error = weighted_error(rows[i] - rows[j], counts)
        assert weighted.difference_stderr[i, j] == pytest.approx(error)
        assert told.difference_stderr[i, j] == pytest.approx(error, rel=0.1)
        p = 0.5 * math.erfc(-gap / error / math.sqrt(2))
        assert weighted.win_probability[i, j] == pytest.approx(p, abs=0.06)
    assert told.order == weighted.order


def weighted_error(row, w):
    return np.sqrt(np.sum((w * (row - np.average(row, weights=w))) ** 2)) / np.sum(w)


def test_units_of_weights_are_of_no_consequence():
    rows, w = columns(), np.linspace(0.1, 2, 400)
    one, other = ranked(rows, weights=[w] * 3), ranked(rows, weights=[8 * w] * 3)
    assert_array_equal(one.win_probability, other.win_probability)
    equal = ranked(rows, weights=[np.full(400, 0.25)] * 3)
    assert_allclose(equal.win_probability, ranked(rows).win_probability, atol=1e-3)


# -- influence ------------------------------------------------------------------------------------


@pytest.mark.parametrize("weighted", [False, True])
def test_influence_is_what_leaving_a_row_out_does(library, weighted):
    rng = np.random.default_rng(0)
    row = rng.normal(size=30)
    w = rng.uniform(0.1, 3, 30) if weighted else np.ones(30)
    found = row_influence(library(row), library(w) if weighted else None)
    assert library.owns(found)
    mean = np.average(row, weights=w)
    for i in range(30):
        rest = np.arange(30) != i
        left = np.average(row[rest], weights=w[rest]) - mean
        assert float(found[i]) == pytest.approx(left, abs=1e-13)


def test_a_row_of_no_weight_or_of_all_weight_has_no_influence():
    row = np.asarray([1.0, 2.0, 5.0])
    assert row_influence(row, np.asarray([1.0, 0.0, 1.0]))[1] == 0
    assert_array_equal(row_influence(row, np.asarray([0.0, 2.0, 0.0])), np.zeros(3))


# -- coverage -------------------------------------------------------------------------------------

TRIALS = 400


def simulated(shift, trials=TRIALS, N=120, seed=0):
    for trial in range(trials):
        rows = columns(N, seed=seed + trial, shift=shift)
        yield ranked(rows, n_resamples=400, random_state=trial)


def z_of_count(count, p, n=TRIALS):
    return (count - n * p) / math.sqrt(n * p * (1 - p))


def test_equal_encoders_are_told_apart_as_rarely_as_promised():
    told = sum(found.separated(0, 1) or found.separated(1, 0) for found in simulated((0.0, 0.0)))
    assert abs(z_of_count(told, 0.05)) < 4


def test_intervals_hold_the_true_rank_as_often_as_promised():
    held = np.zeros(3)
    for found in simulated((0.0, 0.06, 0.12)):
        for i, (low, high) in enumerate(found.rank_intervals):
            held[i] += low <= i + 1 <= high
    assert np.all([z_of_count(count, 0.95) > -4 for count in held])


def test_the_better_one_is_told_apart_as_often_as_its_difference_allows():
    shift, N = 0.12, 120
    error = math.sqrt(0.2 / N)  # of the difference of what is not shared
    power = 0.5 * math.erfc((1.96 - shift / error) / math.sqrt(2))
    told = wrong = 0
    for found in simulated((0.0, shift), N=N, seed=10_000):
        told += found.separated(0, 1)
        wrong += found.ranks[0] > found.ranks[1]
    assert abs(z_of_count(told, power)) < 4
    assert wrong <= TRIALS * 0.001 + 1


# -- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_resamples": 0}, r"n_resamples is 0: pass a whole number, 40 or more"),
        ({"n_resamples": 39}, r"n_resamples is 39: .* 40 or more, without which .* 0.95 is not"),
        ({"n_resamples": 150, "confidence": 0.99}, r"n_resamples is 150: .* 200 or more"),
        ({"n_resamples": 99.5}, r"n_resamples is 99.5: pass a whole number"),
        ({"confidence": 0.0}, r"confidence is 0.0: pass a number between 0 and 1"),
        ({"confidence": 1.0}, r"confidence is 1.0: pass a number between 0 and 1"),
        ({"confidence": math.nan}, r"confidence is nan: pass a number between 0 and 1"),
    ],
)
def test_resamples_that_resolve_nothing_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ranked(columns(), **options)


def test_rows_that_say_nothing_of_a_finite_score_are_refused():
    row = columns()[0]
    with pytest.raises(ValueError, match=r"contributions\[1\] holds NaN or infinity, .* levels"):
        rank_scores([0.0, 0.0], [row, np.where(row > 1, math.nan, row)])
    with pytest.raises(ValueError, match="scores is empty: pass at least one"):
        rank_scores([], [])
    with pytest.raises(ValueError, match="zip"):
        rank_scores([0.0, 0.0], [row, row], weights=[None])


def test_an_error_that_is_not_shared_keeps_scores_from_being_told_apart():
    rows = np.random.default_rng(4).normal(size=400)
    error = rows.std() / 20
    shared = rank_scores([0.3, 0.0], [rows, rows], stderrs=[error] * 2)
    assert shared.difference_stderr[0, 1] == pytest.approx(0.0, abs=1e-12)
    own = rank_scores(
        [0.3, 0.0], [rows, rows], stderrs=[math.hypot(error, 0.2)] * 2, own_stderrs=[0.2] * 2
    )
    assert own.difference_stderr[0, 1] == pytest.approx(0.2 * math.sqrt(2), rel=1e-9)
    assert own.difference_stderr[0, 0] == 0.0
    exact = ndtr(0.3 / (0.2 * math.sqrt(2)))
    assert own.win_probability[0, 1] == pytest.approx(exact, abs=4 * math.sqrt(0.25 / 2000))
    assert shared.separated(0, 1)
    assert not own.separated(0, 1)
