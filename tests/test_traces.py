"""Laws of traces, squared norms and the means that are made of them."""

from __future__ import annotations

from itertools import pairwise

import array_api_strict
import numpy as np
import pytest

from skfisher._backend.arrays import to_numpy
from skfisher._backend.draws import normal
from skfisher.traces import (
    RunningMoments,
    mean_of_traces,
    pooled,
    pooled_means,
    row_traces,
)

KINDS = ("rademacher", "gaussian")


def products_of(A):
    """Row i of the probes times A_i, for A of shape (m, n, n)."""
    return lambda V: (A @ V[:, :, None])[:, :, 0]


def random_matrices(m, n, seed=0, scale=1.0):
    """Non-symmetric, each its own."""
    return scale * np.random.default_rng(seed).standard_normal((m, n, n))


def true_traces(A):
    return np.trace(A, axis1=1, axis2=2), np.sum(A * A, axis=(1, 2))


# --- probes ---------------------------------------------------------------------------------------


def test_exact_kind_equals_trace_and_squared_norm():
    A = random_matrices(7, 5)
    trace, squared_norm = true_traces(A)
    found = row_traces(products_of(A), np.full((7, 5), np.nan), kind="exact")
    np.testing.assert_allclose(found.trace, trace, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(found.squared_norm, squared_norm, rtol=1e-12)
    assert found.n_products == 35
    assert found.forms == ("exact", "exact")
    assert np.all(found.trace_variance == 0)
    assert np.all(found.squared_norm_variance == 0)


@pytest.mark.parametrize(("n_probes", "kind"), [(4, "rademacher"), (5, "exact"), (9, "exact")])
def test_auto_is_exact_where_that_costs_no_more(n_probes, kind):
    A = random_matrices(3, 5)
    auto = row_traces(products_of(A), np.zeros((3, 5)), n_probes=n_probes, kind="auto")
    named = row_traces(products_of(A), np.zeros((3, 5)), n_probes=n_probes, kind=kind)
    assert auto.kind == kind
    assert auto.n_products == 3 * min(n_probes, 5)
    np.testing.assert_array_equal(auto.squared_norm, named.squared_norm)


@pytest.mark.parametrize("n_probes", [1, 3])
def test_trace_and_squared_norm_share_one_product_per_probe(n_probes):
    A, seen = random_matrices(4, 6), []

    def product(V):
        seen.append(V)
        return products_of(A)(V)

    found = row_traces(product, np.zeros((4, 6)), n_probes=n_probes)
    assert len(seen) == n_probes
    assert found.n_products == 4 * n_probes
    V = np.stack(seen)
    AV = np.einsum("mij,pmj->pmi", A, V)
    np.testing.assert_allclose(found.trace, np.mean(np.sum(V * AV, axis=2), axis=0))
    np.testing.assert_allclose(found.squared_norm, np.mean(np.sum(AV * AV, axis=2), axis=0))


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("n_probes", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_probes_are_unbiased(kind, n_probes, known):
    A = random_matrices(20_000, 4, seed=1)
    trace, squared_norm = true_traces(A)
    found = row_traces(
        products_of(A),
        np.zeros((20_000, 4)),
        n_probes=n_probes,
        kind=kind,
        seed=2,
        known_trace=trace if known else None,
    )
    errors = [found.squared_norm - squared_norm] + ([] if known else [found.trace - trace])
    for error in errors:
        value, stderr = pooled(error)
        assert abs(value) < 4 * stderr
        assert 0 < stderr < 0.5


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_reported_probe_variance_is_the_variance_of_the_row_over_probes(kind, known):
    A = np.repeat(random_matrices(1, 5, seed=3), 20_000, axis=0)
    trace = true_traces(A)[0] if known else None
    found = row_traces(
        products_of(A), np.zeros((20_000, 5)), n_probes=4, kind=kind, known_trace=trace
    )
    pairs = [(found.squared_norm, found.squared_norm_variance)]
    if known:
        np.testing.assert_array_equal(found.trace, trace)
        assert np.all(found.trace_variance == 0)
    else:
        pairs.append((found.trace, found.trace_variance))
    for values, variances in pairs:
        spread = (values - np.mean(values)) ** 2
        value, stderr = pooled(spread - variances)
        assert abs(value) < 4 * stderr
        assert stderr < 0.03 * np.mean(variances)


def test_one_rademacher_probe_has_the_variance_of_its_off_diagonal_terms():
    A = np.repeat(random_matrices(1, 5, seed=4), 20_000, axis=0)
    found = row_traces(products_of(A), np.zeros((20_000, 5)), seed=5)
    S, G = A[0] + A[0].T, A[0].T @ A[0]
    for values, variance in [
        (found.trace, 0.5 * (np.sum(S**2) - np.sum(np.diag(S) ** 2))),
        (found.squared_norm, 2.0 * (np.sum(G**2) - np.sum(np.diag(G) ** 2))),
    ]:
        value, stderr = pooled((values - np.mean(values)) ** 2)
        assert abs(value - variance) < 4 * stderr


def test_one_probe_alone_reports_no_variance():
    found = row_traces(products_of(random_matrices(2, 3)), np.zeros((2, 3)))
    assert found.trace_variance is None
    assert found.squared_norm_variance is None


@pytest.mark.parametrize("kind", KINDS)
def test_every_probe_of_a_scaled_identity_is_exact(kind):
    found = row_traces(lambda V: -0.3 * V, np.zeros((50, 8)), kind=kind)
    np.testing.assert_allclose(found.trace, -2.4, rtol=1e-14)
    np.testing.assert_allclose(found.squared_norm, 0.72, rtol=1e-14)


def test_normal_directions_of_fixed_length_vary_less_than_normal_draws():
    m, n = 20_000, 6
    A = np.repeat(random_matrices(1, n, seed=6), m, axis=0)
    found = row_traces(products_of(A), np.zeros((m, n)), kind="gaussian", seed=7)
    G = normal(7, (0,), slice(0, m), n, np.zeros(1))
    AG = products_of(A)(G)
    for scaled, plain in [
        (found.trace, np.sum(G * AG, axis=1)),
        (found.squared_norm, np.sum(AG * AG, axis=1)),
    ]:
        np.testing.assert_allclose(
            scaled * np.sum(G * G, axis=1) / n, plain, rtol=1e-12, atol=1e-13
        )
        gain, stderr = pooled((plain - np.mean(plain)) ** 2 - (scaled - np.mean(scaled)) ** 2)
        assert gain > 4 * stderr


# --- control variate ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_known_trace_lowers_the_variance_near_a_scaled_identity(kind):
    m, n = 20_000, 16
    E = random_matrices(1, n, seed=8, scale=0.05)
    A = np.repeat(0.7 * np.eye(n) + 0.5 * (E + E.transpose(0, 2, 1)), m, axis=0)
    trace, squared_norm = true_traces(A)
    ref = np.zeros((m, n))
    plain = row_traces(products_of(A), ref, kind=kind, seed=9)
    centred = row_traces(products_of(A), ref, kind=kind, seed=9, known_trace=trace)
    assert centred.forms == ("known", "centred")
    for found in (plain, centred):
        value, stderr = pooled(found.squared_norm)
        assert abs(value - squared_norm[0]) < 4 * stderr
    # off-diagonal parts 2 c E + E^2 against E^2: a factor of (|E|_2 / 2c)^2 or so
    assert np.var(centred.squared_norm) < 0.03 * np.var(plain.squared_norm)


@pytest.mark.parametrize("kind", KINDS)
def test_trace_from_the_same_probe_is_an_identity_and_gains_nothing(kind):
    A = random_matrices(40, 6, seed=10)
    ref = np.zeros((40, 6))
    plain = row_traces(products_of(A), ref, kind=kind, seed=11)
    same = row_traces(products_of(A), ref, kind=kind, seed=11, known_trace=plain.trace)
    np.testing.assert_allclose(same.squared_norm, plain.squared_norm, rtol=1e-12)


def test_centred_form_keeps_digits_that_the_expanded_square_loses():
    m, n = 4, 8
    E = random_matrices(m, n, seed=12, scale=1e-7)
    A = np.eye(n) + E
    trace, squared_norm = true_traces(A)
    found = row_traces(products_of(A), np.zeros((m, n)), known_trace=trace)
    np.testing.assert_allclose(found.squared_norm, squared_norm, rtol=1e-12)


# --- reproducibility, libraries -------------------------------------------------------------------


@pytest.mark.parametrize("kind", [*KINDS, "exact"])
def test_chunks_equal_the_whole(kind):
    A, cuts = random_matrices(11, 5), [0, 1, 4, 11]
    known = true_traces(A)[0]
    options = {"n_probes": 2, "kind": kind, "seed": 13, "stream": (1, 2)}
    whole = row_traces(products_of(A), np.zeros((11, 5)), known_trace=known, **options)
    parts = [
        row_traces(
            products_of(A[a:b]), np.zeros((b - a, 5)), start=a, known_trace=known[a:b], **options
        )
        for a, b in pairwise(cuts)
    ]
    for name in ("trace", "squared_norm", "trace_variance", "squared_norm_variance"):
        joined = np.concatenate([getattr(part, name) for part in parts])
        np.testing.assert_allclose(joined, getattr(whole, name), rtol=1e-12, atol=1e-15)
    assert sum(part.n_products for part in parts) == whole.n_products
    a, b = mean_of_traces(whole), mean_of_traces(*parts)
    np.testing.assert_allclose(a.value, b.value, rtol=1e-12)
    np.testing.assert_allclose(a.covariance, b.covariance, rtol=1e-10)
    assert a.n_products == b.n_products


def test_seed_stream_and_probe_each_change_the_draw():
    A = random_matrices(6, 5)

    def norms(**options):
        return row_traces(products_of(A), np.zeros((6, 5)), **options).squared_norm

    base = norms(seed=1, stream=(2,))
    np.testing.assert_array_equal(base, norms(seed=1, stream=(2,)))
    second = 2 * norms(seed=1, stream=(2,), n_probes=2) - base
    for other in (norms(seed=2, stream=(2,)), norms(seed=1, stream=(3,)), second):
        assert not np.array_equal(base, other)


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("kind", [*KINDS, "exact"])
@pytest.mark.parametrize("flavour", ["float32", "strict", "strict-device1"])
def test_library_device_and_dtype_follow_the_reference(flavour, kind, known):
    A = random_matrices(6, 4, seed=14)
    known_trace = true_traces(A)[0] if known else None
    options = {"kind": kind, "n_probes": 2, "seed": 15}
    truth = row_traces(products_of(A), np.zeros((6, 4)), known_trace=known_trace, **options)
    if flavour == "float32":
        xp, ref, B = np, np.zeros((6, 4), dtype=np.float32), A.astype(np.float32)
    else:
        device = array_api_strict.Device("device1" if "device1" in flavour else "CPU_DEVICE")
        xp = array_api_strict
        ref, B = (xp.asarray(a, device=device) for a in (np.zeros((6, 4)), A))
        known_trace = None if known_trace is None else xp.asarray(known_trace, device=device)

    def product(V):
        return xp.matmul(B, V[:, :, None])[:, :, 0]

    found = row_traces(product, ref, known_trace=known_trace, **options)
    mean = mean_of_traces(found, weights=np.arange(1.0, 7.0), groups=[0, 0, 1, 1, 2, 2])
    expected = mean_of_traces(truth, weights=np.arange(1.0, 7.0), groups=[0, 0, 1, 1, 2, 2])
    rtol = 1e-4 if flavour == "float32" else 1e-12
    pairs = [
        (found.trace, truth.trace),
        (found.squared_norm, truth.squared_norm),
        (found.squared_norm_variance, truth.squared_norm_variance),
        (mean.value, expected.value),
        (mean.stderr, expected.stderr),
    ]
    for value, reference in pairs:
        assert value.dtype == ref.dtype
        assert value.device == ref.device
        np.testing.assert_allclose(to_numpy(value), reference, rtol=rtol, atol=rtol)


# --- means over rows ------------------------------------------------------------------------------


def test_unweighted_means_and_covariance_are_the_textbook_ones():
    rows = np.random.default_rng(16).standard_normal((30, 3)) @ np.triu(np.ones((3, 3)))
    means, covariance = pooled_means(rows)
    np.testing.assert_allclose(means, rows.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(covariance, np.cov(rows.T) / 30, rtol=1e-12)


def test_weighted_covariance_is_the_linearised_one_times_its_factor():
    rng = np.random.default_rng(17)
    rows, w = rng.standard_normal((12, 2)), rng.exponential(size=12)
    p = w / w.sum()
    z = p[:, None] * (rows - p @ rows)
    share_left = np.sum(p**2 * (1 - 2 * p + np.sum(p**2))) / np.sum(p**2)
    means, covariance = pooled_means(rows, weights=w)
    np.testing.assert_allclose(means, p @ rows, rtol=1e-12)
    np.testing.assert_allclose(covariance, z.T @ z / share_left, rtol=1e-12)


def test_grouped_covariance_is_that_of_the_sums_over_groups():
    rng = np.random.default_rng(18)
    rows, labels = rng.standard_normal((24, 2)), np.repeat(["b", "d", "a", "c"], 6)
    order = rng.permutation(24)
    deviations = rows - rows.mean(axis=0)
    sums = np.stack([deviations[labels == g].sum(axis=0) for g in "abcd"])
    means, covariance = pooled_means(rows[order], groups=labels[order])
    np.testing.assert_allclose(means, rows.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(covariance, 4 / 3 * sums.T @ sums / 24**2, rtol=1e-12)


def test_groups_of_one_row_change_nothing():
    rng = np.random.default_rng(19)
    rows, w = rng.standard_normal((15, 3)), rng.exponential(size=15)
    for a, b in zip(pooled_means(rows, w), pooled_means(rows, w, rng.permutation(15)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


def test_rows_and_groups_of_weight_zero_change_nothing():
    rng = np.random.default_rng(20)
    rows, w, g = rng.standard_normal((15, 2)), rng.exponential(size=15), np.repeat(range(5), 3)
    far = np.concatenate([rows, np.full((3, 2), 1e6)])
    without = np.concatenate([w, np.zeros(3)])
    for a, b in (
        (pooled_means(rows, w), pooled_means(far, without)),
        (pooled_means(rows, w, g), pooled_means(far, without, np.append(g, [9, 9, 9]))),
    ):
        np.testing.assert_allclose(a[0], b[0], rtol=1e-12)
        np.testing.assert_allclose(a[1], b[1], rtol=1e-12)


@pytest.mark.parametrize("unit", [1e-200, 0.3, 1e200])
def test_unit_of_the_weights_is_of_no_consequence(unit):
    rng = np.random.default_rng(21)
    values, w = rng.standard_normal(20), rng.exponential(size=20)
    np.testing.assert_allclose(pooled(values, unit * w), pooled(values, w), rtol=1e-12)


def test_scalar_mean_is_the_special_case_of_one_column():
    rng = np.random.default_rng(22)
    rows, w, g = rng.standard_normal((20, 2)), rng.exponential(size=20), np.repeat(range(5), 4)
    means, covariance = pooled_means(rows, w, g)
    value, stderr = pooled(rows[:, 1], w, g)
    assert isinstance(value, float)
    assert isinstance(stderr, float)
    np.testing.assert_allclose((value, stderr**2), (means[1], covariance[1, 1]), rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_one_row_with_all_the_weight_has_no_standard_error(dtype):
    assert np.isnan(pooled(np.asarray([0.3], dtype=dtype))[1])
    value, stderr = pooled(np.asarray([0.1, 0.7], dtype=dtype), weights=[0.0, 0.3])
    assert value == dtype(0.7)
    assert np.isnan(stderr)
    alone = RunningMoments.of(np.asarray([[0.7]], dtype=dtype), [0.3])
    assert np.isnan(alone.covariance_of_mean[0, 0])


def test_missing_rows_are_passed_on_as_missing():
    value, stderr = pooled(np.array([1.0, np.nan, 2.0]))
    assert np.isnan(value)
    assert np.isnan(stderr)


def test_integer_rows_are_computed_as_floats():
    assert pooled(np.array([1, 2, 4]), weights=[0.5, 0.25, 0.25])[0] == 2.0


# --- coverage -------------------------------------------------------------------------------------


def coverage(intervals, truth):
    values, stderrs = np.array(intervals).T
    return np.mean(np.abs(values - truth) < 1.96 * stderrs)


def test_interval_covers_data_and_probe_variance():
    replications, m, n = 1000, 200, 4
    rng = np.random.default_rng(23)
    A = np.eye(n) + 0.3 * rng.standard_normal((replications * m, n, n))
    found = row_traces(products_of(A), np.zeros((replications * m, n)), seed=24)
    truth = n + 0.09 * n * n
    values = found.squared_norm.reshape(replications, m)
    assert 0.93 <= coverage([pooled(row) for row in values], truth) <= 0.97


def test_interval_covers_with_importance_weights():
    rng = np.random.default_rng(25)
    x = rng.standard_normal((1000, 300))
    w = np.exp(0.5 * x)  # tilts N(0, 1) to N(1/2, 1)
    assert 0.93 <= coverage([pooled(*row) for row in zip(x, w, strict=True)], 0.5) <= 0.97


@pytest.mark.parametrize("weighted", [False, True])
def test_interval_covers_with_groups_where_rows_alone_do_not(weighted):
    rng = np.random.default_rng(26)
    groups = np.repeat(np.arange(80), rng.integers(2, 9, size=80))
    x = rng.standard_normal((1000, 80))[:, groups] + rng.standard_normal((1000, groups.size))
    w = rng.uniform(0.5, 1.5, size=groups.size) if weighted else None
    assert 0.93 <= coverage([pooled(row, w, groups) for row in x], 0.0) <= 0.97
    assert coverage([pooled(row, w) for row in x], 0.0) < 0.85


# --- running moments ------------------------------------------------------------------------------


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("ratio", [0.0, 1e8])
def test_batches_equal_one_shot_whatever_the_mean(ratio, weighted):
    rng = np.random.default_rng(27)
    rows = ratio + rng.standard_normal((4000, 3))
    w = rng.exponential(size=4000) if weighted else np.ones(4000)
    means, covariance = pooled_means(rows, w)
    cuts = [1, 3, 100, 101, 2500]
    moments = None
    for x, v in zip(np.split(rows, cuts), np.split(w, cuts), strict=True):
        moments = RunningMoments.of(x, v) if moments is None else moments.update(x, v)
    np.testing.assert_allclose(moments.mean, means, rtol=4e-12, atol=1e-14)
    np.testing.assert_allclose(moments.covariance_of_mean, covariance, rtol=4e-12, atol=1e-17)

    p = w / w.sum()
    exact = rows - ratio  # without rounding, by Sterbenz
    z = p[:, None] * (exact - p @ exact)
    factor = 1 / (1 + np.sum(p**2) - 2 * np.sum(p**3) / np.sum(p**2))
    np.testing.assert_allclose(covariance, factor * z.T @ z, rtol=4e-12, atol=1e-17)
    if ratio:
        naive = rows.T @ rows - np.outer(rows.sum(axis=0), rows.sum(axis=0)) / 4000
        assert np.max(np.abs(naive / 4000 - np.cov(rows.T))) > 0.1


def test_merging_is_symmetric_and_associative():
    rng = np.random.default_rng(28)
    a, b, c = (
        RunningMoments.of(s + rng.standard_normal((9, 2)), rng.exponential(size=9))
        for s in (0.0, 5.0, 1e3)
    )
    whole = a.merge(b).merge(c)
    for other in (a.merge(b.merge(c)), c.merge(a).merge(b)):
        np.testing.assert_allclose(other.mean, whole.mean, rtol=1e-12)
        np.testing.assert_allclose(other.covariance_of_mean, whole.covariance_of_mean, rtol=1e-11)


@pytest.mark.parametrize("device", ["CPU_DEVICE", "device1"])
def test_running_moments_follow_the_library_of_their_rows(device):
    rng = np.random.default_rng(29)
    rows, w = rng.standard_normal((12, 2)), rng.exponential(size=12)
    strict = array_api_strict.asarray(rows, device=array_api_strict.Device(device))
    moments = RunningMoments.of(strict[:5, :], w[:5]).update(strict[5:, :], w[5:])
    means, covariance = pooled_means(rows, w)
    assert moments.mean.device == moments.covariance_of_mean.device == strict.device
    np.testing.assert_allclose(to_numpy(moments.mean), means, rtol=1e-12)
    np.testing.assert_allclose(to_numpy(moments.covariance_of_mean), covariance, rtol=1e-12)


# --- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_probes", [0, -2, 1.5])
def test_too_few_probes_are_refused(n_probes):
    with pytest.raises(ValueError, match=rf"n_probes is {n_probes}.*at least 1"):
        row_traces(lambda V: V, np.zeros((2, 3)), n_probes=n_probes)


def test_unknown_kind_is_refused():
    with pytest.raises(ValueError, match=r"kind is 'sobol'.*'rademacher'"):
        row_traces(lambda V: V, np.zeros((2, 3)), kind="sobol")


@pytest.mark.parametrize("kind", ["rademacher", "exact"])
@pytest.mark.parametrize(
    ("product", "seen"),
    [(lambda V: V[:, :2], r"shape \(2, 2\)"), (lambda V: V.tolist(), "a list")],
)
def test_product_of_the_wrong_shape_is_refused(product, seen, kind):
    with pytest.raises(ValueError, match=rf"product returned {seen} for probes of shape \(2, 3\)"):
        row_traces(product, np.zeros((2, 3)), kind=kind)


def test_reference_that_is_no_matrix_is_refused():
    with pytest.raises(ValueError, match=r"ref has shape \(3,\)"):
        row_traces(lambda V: V, np.zeros(3))


def test_known_trace_of_the_wrong_length_is_refused():
    with pytest.raises(ValueError, match=r"known_trace has shape \(3,\) but there are 2 rows"):
        row_traces(lambda V: V, np.zeros((2, 3)), known_trace=np.zeros(3))


@pytest.mark.parametrize("shape", [(0, 2), (3,)])
def test_rows_that_are_empty_or_no_matrix_are_refused(shape):
    with pytest.raises(ValueError, match=r"rows has shape .*at least one row"):
        pooled_means(np.zeros(shape))


def test_values_of_several_columns_are_refused():
    with pytest.raises(ValueError, match=r"values has shape \(3, 2\).*pooled_means"):
        pooled(np.zeros((3, 2)))


def test_no_chunk_is_refused():
    with pytest.raises(ValueError, match="traces is empty"):
        mean_of_traces()


def test_weights_and_groups_of_the_wrong_length_are_refused():
    with pytest.raises(ValueError, match=r"weight has shape \(2,\)"):
        pooled(np.zeros(3), weights=[1.0, 2.0])
    with pytest.raises(ValueError, match=r"groups has shape \(2,\)"):
        pooled(np.zeros(3), groups=[0, 1])
