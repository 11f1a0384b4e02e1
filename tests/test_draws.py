from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from skfisher._backend.arrays import to_numpy
from skfisher._backend.draws import (
    integers,
    normal,
    permutation,
    seed_of,
    signs,
    systematic_counts,
    uniform,
)

REF = np.zeros(1)
draws = pytest.mark.parametrize("draw", [normal, signs, uniform])


@draws
@given(
    seed=st.integers(0, 2**31 - 1),
    n_columns=st.integers(1, 9),
    cuts=st.lists(st.integers(0, 40), max_size=4),
)
def test_chunks_change_no_draw(draw, seed, n_columns, cuts):
    whole = draw(seed, (1, 2), slice(0, 40), n_columns, REF)
    edges = [0, *sorted(cuts), 40]
    parts = [
        draw(seed, (1, 2), slice(start, stop), n_columns, REF) for start, stop in pairwise(edges)
    ]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


@draws
def test_the_library_changes_no_draw(draw, library):
    for dtype, rtol in (("float64", 0.0), ("float32", 1e-6)):
        out = draw(3, (0,), slice(5, 25), 3, library([0.0], dtype))
        assert library.owns(out, dtype)
        np.testing.assert_allclose(to_numpy(out), draw(3, (0,), slice(5, 25), 3, REF), rtol=rtol)


@draws
def test_streams_and_seeds_are_uncorrelated(draw):
    n = 4000
    columns = [
        draw(seed, stream, slice(0, n), 2, REF)
        for seed, stream in [(0, (0,)), (1, (0,)), (0, (1,)), (0, (0, 0)), (0, (0, 1))]
    ]
    correlation = np.corrcoef(np.concatenate(columns, axis=1), rowvar=False)
    off_diagonal = correlation[np.triu_indices(10, 1)]
    # 45 correlations of standard error 1 / sqrt(n); at 4.5 of them, 3e-4 in all
    assert np.max(np.abs(off_diagonal)) < 4.5 / np.sqrt(n)


def test_normal_draws_are_standard_normal():
    z = normal(0, (4,), slice(0, 20_000), 5, REF)
    assert stats.kstest(z.ravel(), "norm").pvalue > 1e-3
    # consecutive rows and columns are independent
    assert abs(np.mean(z[1:] * z[:-1])) < 4.5 / np.sqrt(z.size)
    assert abs(np.mean(z[:, 1:] * z[:, :-1])) < 4.5 / np.sqrt(z.size)


def test_uniform_draws_are_uniform_inside_the_interval():
    u = uniform(0, (4,), slice(0, 20_000), 5, REF)
    assert stats.kstest(u.ravel(), "uniform").pvalue > 1e-3
    assert u.min() > 0
    assert u.max() < 1


def test_signs_are_fair():
    s = signs(0, (4,), slice(0, 20_000), 5, REF)
    assert set(np.unique(s)) == {-1.0, 1.0}
    assert abs(np.mean(s)) < 4.5 / np.sqrt(s.size)


@draws
def test_no_rows_no_draws(draw):
    assert draw(0, (0,), slice(7, 7), 3, REF).shape == (0, 3)


@pytest.mark.parametrize("high", [1, 7, 1000])
def test_integers_are_uniform_and_chunks_change_none(high):
    whole = integers(0, (1,), slice(0, 5000), 4, high)
    parts = [integers(0, (1,), slice(k, k + 1000), 4, high) for k in range(0, 5000, 1000)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    counts = np.bincount(whole.ravel(), minlength=high)
    assert counts.size == high
    if high > 1:
        assert stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize("size", [0, 1, 2, 1000])
def test_a_permutation_holds_every_index_once(size):
    order = permutation(0, (1,), size)
    np.testing.assert_array_equal(np.sort(order), np.arange(size))


def test_permutations_are_uniform():
    orders = [tuple(permutation(seed, (0,), 3)) for seed in range(3000)]
    counts = np.unique(orders, axis=0, return_counts=True)[1]
    assert counts.size == 6
    assert stats.chisquare(counts).pvalue > 1e-3


def test_integer_weights_are_their_own_counts():
    weights = np.array([0.0, 3.0, 1.0, 2.0])
    np.testing.assert_array_equal(systematic_counts(weights, 0), weights)


@given(st.integers(0, 2**32 - 1))
def test_counts_are_rounded_expectations_and_sum_to_the_rows(seed):
    weights = np.random.default_rng(seed).exponential(size=40)
    counts = systematic_counts(weights, seed)
    expected = 40 * weights / weights.sum()
    assert counts.sum() == 40
    assert np.all(np.abs(counts - expected) < 1)


def test_counts_are_unbiased():
    weights = np.array([0.5, 1.25, 0.1, 2.0, 0.75])
    expected = 5 * weights / weights.sum()
    counts = np.array([systematic_counts(weights, seed) for seed in range(2000)])
    stderr = counts.std(axis=0, ddof=1) / np.sqrt(2000)
    assert np.max(np.abs(counts.mean(axis=0) - expected) / stderr) < 4.5


def test_an_integer_is_its_own_seed():
    assert seed_of(7) == 7
    assert seed_of(np.int64(7)) == 7


@pytest.mark.parametrize("make", [np.random.RandomState, np.random.default_rng])
def test_a_generator_advances_and_repeats(make):
    one, other = make(5), make(5)
    first, second = seed_of(one), seed_of(one)
    assert first != second
    assert (first, second) == (seed_of(other), seed_of(other))


def test_no_seed_draws_anew_from_the_global_state():
    assert seed_of(None) != seed_of(None)


@pytest.mark.parametrize("random_state", [-1, "zero"])
def test_what_cannot_seed_is_refused(random_state):
    with pytest.raises(ValueError, match=r"[Ss]eed"):
        seed_of(random_state)
