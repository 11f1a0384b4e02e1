"""The kernel score against 400-digit arithmetic, a naive twin, and models built otherwise."""

import statistics
import time
from concurrent.futures import ThreadPoolExecutor

import mpmath as mp
import numpy as np
import pytest
from sklearn.base import clone
from threadpoolctl import threadpool_info, threadpool_limits

from skfisher.scores import ExactScoreModel, KernelScore
from skfisher.scores import kernel as kernel_module


def cloud(rng, n_points, n, condition=1.0):
    """Points whose covariance has the condition given, turned at random, of RMS scale 1."""
    Q, _ = np.linalg.qr(rng.standard_normal((n, n)))
    spread = np.logspace(0, -0.5 * np.log10(condition), n)
    X = rng.standard_normal((n_points, n)) * spread @ Q.T
    return X / np.sqrt(X.var(axis=0).mean())


def exact_values(X, weights, y, sigma, v, clean):
    """Every quantity at one query, by definition, in 400 digits."""
    with mp.workdps(400):
        X = [[mp.mpf(float(c)) for c in x] for x in X]
        y, v, clean = ([mp.mpf(float(c)) for c in a] for a in (y, v, clean))
        t, n = mp.mpf(float(sigma)) ** 2, len(y)
        p = [
            mp.mpf(float(w)) * mp.exp(-sum((a - b) ** 2 for a, b in zip(x, y, strict=True)) / 2 / t)
            for w, x in zip(weights, X, strict=True)
        ]
        total = mp.fsum(p)
        p = [a / total for a in p]
        D = [mp.fsum(w * x[k] for w, x in zip(p, X, strict=True)) for k in range(n)]
        e = [[c - d for c, d in zip(x, D, strict=True)] for x in X]
        J = [
            [mp.fsum(w * x[a] * x[b] for w, x in zip(p, e, strict=True)) / t for b in range(n)]
            for a in range(n)
        ]
        H = [[(J[a][b] - (a == b)) / t for b in range(n)] for a in range(n)]
        r = [c - d for c, d in zip(clean, D, strict=True)]
        return {
            "score": [(d - c) / t for c, d in zip(y, D, strict=True)],
            "product": [mp.fsum(h * c for h, c in zip(row, v, strict=True)) for row in H],
            "hessian_trace": [mp.fsum(H[k][k] for k in range(n))],
            "hessian_squared_norm": [mp.fsum(h**2 for row in H for h in row)],
            "denoiser_trace": [mp.fsum(J[k][k] for k in range(n))],
            "denoiser_squared_norm": [mp.fsum(j**2 for row in J for j in row)],
            "residual_form": [mp.fsum(r[a] * J[a][b] * r[b] for a in range(n) for b in range(n))],
            "effective_sample_size": [1 / mp.fsum(w**2 for w in p)],
        }


def relative_error(found, exact):
    with mp.workdps(400):
        norm = mp.sqrt(mp.fsum(c**2 for c in exact))
        if norm < mp.mpf(10) ** -280:  # underflows in double precision
            return float(np.max(np.abs(found)))
        pairs = zip(np.atleast_1d(found), exact, strict=True)
        return float(mp.sqrt(mp.fsum((mp.mpf(float(a)) - b) ** 2 for a, b in pairs)) / norm)


def naive_values(X, weights, y, sigma, v=None, clean=None, hidden=None):
    """The naive twin: differences to every point and one n x n matrix per query."""
    n, t = X.shape[1], sigma**2
    out = {}
    for i, query in enumerate(y):
        logits = np.log(weights) - np.sum((query - X) ** 2, axis=1) / 2 / t
        if hidden is not None:
            logits = np.where(hidden[i], -np.inf, logits)
        p = np.exp(logits - logits.max())
        p /= p.sum()
        D = p @ X
        J = (X - D).T @ (p[:, None] * (X - D)) / t
        H = (J - np.eye(n)) / t
        row = {
            "score": (D - query) / t,
            "hessian_trace": np.trace(H),
            "hessian_squared_norm": np.sum(H**2),
            "denoiser_trace": np.trace(J),
            "denoiser_squared_norm": np.sum(J**2),
            "effective_sample_size": 1 / np.sum(p**2),
        }
        if v is not None:
            row["product"] = H @ v[i]
        if clean is not None:
            row["residual_form"] = (clean[i] - D) @ J @ (clean[i] - D)
        for key, value in row.items():
            out.setdefault(key, []).append(value)
    return {key: np.asarray(value) for key, value in out.items()}


def all_values(model, y, sigma, v=None, clean=None, exclude=None):
    moments = vars(model.moments(y, sigma, clean=clean, exclude=exclude))
    out = {key: value for key, value in moments.items() if value is not None}
    if v is not None:
        out["product"] = model.jvp(y, sigma, v, exclude=exclude)[1]
    return out


def assert_same(found, expected, rtol):
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        scale = np.linalg.norm(value, axis=-1, keepdims=True) if value.ndim == 2 else np.abs(value)
        error = np.max(np.abs(np.asarray(found[key]) - value) / np.where(scale > 0, scale, 1.0))
        assert error <= rtol, (key, error)


@pytest.mark.parametrize("noise", [1e-3, 1e-2, 0.1, 1.0, 100.0])
@pytest.mark.parametrize("offset", [0.0, 1e3])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("condition", [1.0, 1e8])
def test_every_quantity_equals_400_digit_arithmetic(condition, scale, offset, noise):
    rng = np.random.default_rng([int(condition), int(1e6 * scale), int(offset), int(1e3 * noise)])
    n = 4
    X = scale * (cloud(rng, 12, n, condition) + offset)
    weights = rng.uniform(0.5, 3.0, 12)
    sigma = noise * scale
    clean = X[[0, 1, 2, 3, 4]]
    y = clean + sigma * rng.standard_normal((5, n))
    y[3] = (X[3] + X[4]) / 2 + 0.3 * min(sigma, scale)  # between two points
    y[4] += 30 * (scale + sigma)  # far out
    v = rng.standard_normal(y.shape)
    model = KernelScore(X, weights)
    found = all_values(model, y, sigma, v, clean)
    np.testing.assert_allclose(model(y, sigma), found["score"], rtol=1e-9)
    np.testing.assert_allclose(model.divergence(y, sigma)[1], found["hessian_trace"], rtol=1e-9)
    for i in range(5):
        for key, exact in exact_values(X, weights, y[i], sigma, v[i], clean[i]).items():
            assert relative_error(found[key][i], exact) <= 1e-8, (i, key)


@pytest.mark.parametrize("noise", [0.01, 0.1, 0.5, 1.0, 10.0])
@pytest.mark.parametrize("n", [1, 2, 7, 40])
def test_every_quantity_equals_the_naive_twin(n, noise, rng):
    X = cloud(rng, 200, n, 100.0)
    weights = rng.uniform(0.1, 1.0, 200)
    y = X[:20] + noise * rng.standard_normal((20, n))
    v = rng.standard_normal(y.shape)
    clean = X[20:40]  # the twin would lose the digits of a smaller clean - D
    found = all_values(KernelScore(X, weights), y, noise, v, clean)
    assert_same(found, naive_values(X, weights, y, noise, v, clean), 1e-9)


@pytest.mark.parametrize("noise", [0.01, 0.3, 2.0])
def test_excluding_a_point_equals_a_model_without_it(noise, rng):
    X, y = cloud(rng, 30, 3), cloud(rng, 30, 3)
    weights = rng.uniform(0.1, 1.0, 30)
    y = X + noise * y
    exclude = np.where(np.arange(30) % 3 == 2, -1, np.arange(30))
    found = all_values(KernelScore(X, weights), y, noise, y, X, exclude)
    for i, row in enumerate(exclude):
        keep = np.arange(30) != row
        one = slice(i, i + 1)
        without = all_values(KernelScore(X[keep], weights[keep]), y[one], noise, y[one], X[one])
        assert_same({key: value[one] for key, value in found.items()}, without, 1e-10)


@pytest.mark.parametrize("noise", [0.01, 0.3, 2.0])
def test_excluding_a_point_of_a_group_equals_a_model_without_the_group(noise, rng):
    X = cloud(rng, 40, 2)
    groups = rng.permutation(np.arange(40) % 9)
    weights = np.where(np.arange(40) % 7 == 0, 0.0, 1.0)
    y = X + noise * rng.standard_normal(X.shape)
    model = KernelScore(X, weights, groups=[f"patch {g}" for g in groups])
    found = all_values(model, y, noise, y, X, np.arange(40))
    for i in range(40):
        keep = (groups != groups[i]) & (weights > 0)
        one = slice(i, i + 1)
        without = all_values(KernelScore(X[keep]), y[one], noise, y[one], X[one])
        assert_same({key: value[one] for key, value in found.items()}, without, 1e-10)


# Logits round absolutely: weights of exp(-100) and traces that nearly vanish lose a digit.
CONDITIONED = [(0.01, 1e-11), (0.3, 1e-11), (1.0, 1e-12), (3.0, 1e-12)]


@pytest.mark.parametrize(("noise", "rtol"), CONDITIONED)
def test_chunks_of_rows_change_nothing(noise, rtol, rng):
    X = cloud(rng, 150, 3)
    y = X + noise * rng.standard_normal(X.shape)
    whole = all_values(KernelScore(X), y, noise, y, X, np.arange(150))
    for memory_budget in (1, 4 * 7 * 150 * 8, 10**5):
        model = KernelScore(X, memory_budget=memory_budget)
        assert_same(all_values(model, y, noise, y, X, np.arange(150)), whole, rtol)


def test_threads_change_nothing_and_leave_blas_as_it_was(rng):
    X = cloud(rng, 300, 4)
    y = X + 0.5 * rng.standard_normal(X.shape)
    model = KernelScore(X, memory_budget=10**5)
    with threadpool_limits(1, user_api="blas"):
        alone = model.moments(y, 0.5).hessian_squared_norm
    with threadpool_limits(2, user_api="blas"):
        with ThreadPoolExecutor(4) as pool:
            calls = [pool.submit(model.moments, y, 0.5) for _ in range(8)]
        for call in calls:
            np.testing.assert_allclose(call.result().hessian_squared_norm, alone, rtol=1e-11)
        threads = {i["num_threads"] for i in threadpool_info() if i["user_api"] == "blas"}
        assert max(threads) == 2


@pytest.mark.parametrize("noise", [0.05, 0.3, 1.0, 30.0])
@pytest.mark.parametrize("n", [1, 3, 40])
def test_matrix_products_and_differences_agree(n, noise, rng, monkeypatch):
    X = cloud(rng, 120, n)
    y = X + noise * rng.standard_normal(X.shape)
    v = rng.standard_normal(X.shape)
    exclude = np.arange(120) - 1
    model = KernelScore(X)
    monkeypatch.setattr(kernel_module, "_TOLERANCE", {64: 1.0})
    monkeypatch.setattr(kernel_module, "_GATHER_COST", np.inf)
    products = all_values(model, y, noise, v, exclude=exclude)
    assert not model.truncation_error(y, noise).any()
    monkeypatch.setattr(kernel_module, "_TOLERANCE", {64: 0.0})
    assert_same(all_values(model, y, noise, v, exclude=exclude), products, 1e-9)


@pytest.mark.parametrize(("noise", "rtol"), CONDITIONED)
def test_integer_weights_equal_repetition(noise, rtol, rng):
    X = cloud(rng, 25, 3)
    times = rng.integers(0, 4, 25)
    y = X + noise * rng.standard_normal(X.shape)
    repeated = all_values(KernelScore(np.repeat(X, times, axis=0)), y, noise, y, X)
    ess = repeated.pop("effective_sample_size")  # counts points, not their weights
    weighted = all_values(KernelScore(X, times), y, noise, y, X)
    assert np.all(weighted.pop("effective_sample_size") <= ess * (1 + 1e-12))
    assert_same(weighted, repeated, rtol)
    scaled = all_values(KernelScore(X, 1e-300 * times), y, noise, y, X)
    scaled.pop("effective_sample_size")
    assert_same(scaled, weighted, rtol)


@pytest.mark.parametrize("truncation", [None, 1e-6, 1e-2])
def test_dropped_weight_is_within_the_stated_bound(truncation, rng, monkeypatch):
    monkeypatch.setattr(kernel_module, "_TOLERANCE", {64: 0.0})
    X = cloud(rng, 400, 2)
    y = X[:50] + 0.1 * rng.standard_normal((50, 2))
    model = KernelScore(X, truncation=truncation)
    bound = model.truncation_error(y, 0.1)
    assert np.all(bound <= (2.3e-16 if truncation is None else truncation))
    assert bound.max() > 0
    full = naive_values(X, np.ones(400), y, 0.1)["score"]
    # the dropped points pull by at most their distance, which is below 10 here
    assert np.all(np.abs(model(y, 0.1) - full) <= 10 * bound[:, None] / 0.01 + 1e-9)
    if truncation == 1e-2:
        assert np.max(np.abs(model(y, 0.1) - full)) > 1e-7


def test_nothing_is_dropped_without_need(rng):
    X = cloud(rng, 50, 2)
    assert not KernelScore(X).truncation_error(X, 1.0).any()


@pytest.mark.parametrize("distance", [1e3, 1e6, 1e9])
def test_far_queries_see_the_nearest_point(distance, rng):
    X = cloud(rng, 60, 3)
    direction = np.asarray([[1.0, -2.0, 2.0]]) / 3
    y = distance * direction
    nearest = X[[np.argmax(X @ direction[0])]]
    np.testing.assert_allclose(KernelScore(X)(y, 0.01), (nearest - y) / 1e-4, rtol=1e-12)
    moments = KernelScore(X).moments(y, 0.01, clean=nearest)
    np.testing.assert_allclose(moments.hessian_trace, -3e4, rtol=1e-12)
    np.testing.assert_allclose(moments.hessian_squared_norm, 3e8, rtol=1e-12)
    np.testing.assert_allclose(moments.effective_sample_size, 1.0, rtol=1e-12)


def test_hessian_of_a_dense_grid_keeps_its_digits():
    # 40 points per sigma: H is that of the uniform law on [0, 4] plus noise, small inside
    X = np.linspace(0.0, 4.0, 1601)[:, None]
    y = np.asarray([[0.35], [0.4]])
    found = all_values(KernelScore(X), y, 0.1)
    exact = [exact_values(X, np.ones(1601), row, 0.1, row, row) for row in y]
    for key in ("hessian_trace", "hessian_squared_norm"):
        assert np.all(found[key] * 0.1**4 < 0.05)
        for i in range(2):
            assert relative_error(found[key][i], exact[i][key]) <= 1e-8


@pytest.mark.parametrize("noise", [0.02, 0.3, 2.0])
def test_every_library_gives_numpys_numbers(library, noise, rng):
    X = cloud(rng, 40, 3)
    y = X + noise * rng.standard_normal(X.shape)
    weights = rng.uniform(0.5, 1.0, 40)
    groups = np.arange(40) // 2
    reference = all_values(KernelScore(X, weights, groups), y, noise, y, X, np.arange(40))
    model = KernelScore(library(X), library(weights), groups)
    found = all_values(model, library(y), noise, library(y), library(X), np.arange(40))
    for key, value in found.items():
        assert library.owns(value), key
    assert_same({key: np.asarray(_host(value)) for key, value in found.items()}, reference, 1e-10)
    assert library.owns(model(library(y, "float32"), noise), "float32")


def _host(array):
    return np.asarray([float(c) for c in array] if array.ndim == 1 else _rows(array))


def _rows(array):
    m, n = array.shape
    return [[float(array[i, j]) for j in range(n)] for i in range(m)]


@pytest.mark.parametrize("offset", [0.0, 100.0])
@pytest.mark.parametrize("noise", [0.02, 0.3, 2.0])
def test_single_precision_follows_double_precision(noise, offset, rng):
    X = (cloud(rng, 300, 8) + offset).astype(np.float32)
    y = (X[:60] + noise * rng.standard_normal((60, 8))).astype(np.float32)
    model = KernelScore(X)
    single = all_values(model, y, noise, y, exclude=np.arange(60))
    wide = y.astype(np.float64)
    double = all_values(model, wide, noise, wide, exclude=np.arange(60))
    assert all(value.dtype == np.float32 for value in single.values())
    for key in ("score", "product", "hessian_trace", "hessian_squared_norm"):
        assert_same({key: single[key]}, {key: double[key]}, 5e-4)


def test_norms_can_be_skipped(rng):
    X = cloud(rng, 30, 3)
    full = vars(KernelScore(X).moments(X, 0.5, X))
    fast = vars(KernelScore(X).moments(X, 0.5, X, exact_norm=False))
    for key in ("hessian_squared_norm", "denoiser_squared_norm"):
        assert np.isnan(fast.pop(key)).all()
        full.pop(key)
    assert_same(fast, full, 1e-10)


def test_one_point_is_a_gaussian_without_width():
    y = np.asarray([[1.0, 2.0], [3.0, 4.0]])
    moments = KernelScore([[1.0, 1.0]]).moments(y, 0.5, y)
    np.testing.assert_allclose(moments.score, (np.ones((2, 2)) - y) / 0.25)
    np.testing.assert_allclose(moments.hessian_squared_norm, 2 / 0.5**4)
    for zero in (moments.denoiser_trace, moments.denoiser_squared_norm, moments.residual_form):
        assert not zero.any()


@pytest.mark.parametrize("noise", [1e-3, 1.0])
def test_nan_stays_in_its_row(noise, rng):
    X = cloud(rng, 30, 3)
    y = X + noise * rng.standard_normal(X.shape)
    expected = all_values(KernelScore(X), y, noise, y)
    y[4, 1] = np.nan
    found = all_values(KernelScore(X), y, noise, y)
    others = np.arange(30) != 4
    for key, value in found.items():
        assert np.isnan(value[4]).all(), key
        np.testing.assert_allclose(value[others], expected[key][others], rtol=1e-9)


@pytest.mark.parametrize("noise", [1e-3, 1.0])
def test_no_queries_give_no_rows(noise):
    moments = KernelScore([[0.0, 1.0], [1.0, 1.0]]).moments(np.zeros((0, 2)), noise)
    assert moments.score.shape == (0, 2)
    assert moments.hessian_squared_norm.shape == (0,)


def test_model_meets_the_contract_and_clones_to_itself():
    model = KernelScore([[0.0, 1.0], [1.0, 1.0]])
    assert isinstance(model, ExactScoreModel)
    assert clone(model, safe=False) is model
    assert (model.name, model.n_features, model.n_points) == ("kernel", 2, 2)
    assert repr(model) == "KernelScore(2 points, 2 features)"


POINTS = [[0.0, 1.0], [1.0, 1.0], [2.0, 0.0]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"points": np.zeros((0, 2))}, r"points has 0 sample\(s\)"),
        ({"points": [[0.0, np.nan]]}, "points contains NaN or infinity in 1 of 1 rows"),
        ({"points": [1.0, 2.0]}, "points has shape"),
        ({"points": POINTS, "weights": [1.0, 2.0]}, r"weights has shape \(2,\).*one weight per"),
        ({"points": POINTS, "weights": [1.0, -1.0, 1.0]}, "weights ranges from -1.0 to 1.0"),
        ({"points": POINTS, "weights": [0.0, 0.0, 0.0]}, "not all zero"),
        ({"points": POINTS, "weights": [0.0, np.inf, 0.0]}, "must be finite"),
        ({"points": POINTS, "groups": [0, 1]}, r"groups has shape \(2,\)"),
        ({"points": POINTS, "groups": [0, 0, 0]}, "single label"),
        ({"points": POINTS, "truncation": 1.0}, r"truncation is 1.0.*\[0, 1\)"),
    ],
)
def test_bad_models_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        KernelScore(**arguments)


@pytest.mark.parametrize(
    ("y", "sigma", "exclude", "message"),
    [
        (np.zeros((4, 3)), 1.0, None, r"y has shape \(4, 3\), the model was built for 2 features"),
        (np.zeros(2), 1.0, None, r"y has shape \(2,\), the model was built for 2 features"),
        (np.zeros((4, 2)), 0.0, None, "sigma is 0.0"),
        (np.zeros((4, 2)), 1.0, [0, 1], r"exclude has shape \(2,\).*y has 4 rows"),
        (np.zeros((2, 2)), 1.0, [0.0, 1.0], "exclude has shape .*float64"),
        (np.zeros((2, 2)), 1.0, [0, 3], r"exclude ranges from 0 to 3.*0 to 2, or -1"),
        (np.zeros((2, 2)), 1.0, [0, -2], "exclude ranges from -2 to 0"),
    ],
)
def test_bad_queries_are_refused(y, sigma, exclude, message):
    with pytest.raises(ValueError, match=message):
        KernelScore(POINTS)(y, sigma, exclude)


@pytest.mark.parametrize(
    "model",
    [
        KernelScore([[0.0, 1.0]]),
        KernelScore(POINTS, weights=[2.0, 0.0, 0.0]),
        KernelScore(POINTS, weights=[2.0, 1.0, 0.0], groups=[0, 0, 1]),
    ],
    ids=["one point", "one weight", "one group"],
)
def test_excluding_everything_is_refused(model):
    with pytest.raises(ValueError, match="exclude leaves some query no point to see"):
        model(np.zeros((2, 2)), 1.0, [-1, 0])


def test_directions_and_clean_points_of_another_shape_are_refused():
    model, y = KernelScore(POINTS), np.zeros((4, 2))
    with pytest.raises(ValueError, match=r"v has shape \(3, 2\) but y has shape \(4, 2\)"):
        model.jvp(y, 1.0, np.zeros((3, 2)))
    with pytest.raises(ValueError, match=r"clean has shape \(4, 1\)"):
        model.moments(y, 1.0, clean=np.zeros((4, 1)))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_call_takes_little_more_than_its_two_matrix_products(dtype, rng):
    X = rng.standard_normal((5000, 64)).astype(dtype)
    y = X + rng.standard_normal(X.shape).astype(dtype)
    weights, model = rng.random((5000, 5000)).astype(dtype), KernelScore(X)

    def seconds(run):
        time.sleep(0.1)  # the last product's BLAS threads spin for some 30 ms, on our cores
        start = time.perf_counter()
        run()
        return time.perf_counter() - start

    rounds = [
        (
            seconds(lambda: (y @ X.T, weights @ X)),
            seconds(lambda: model(y, 1.0)),
            seconds(lambda: model.jvp(y, 1.0, X)),
        )
        for _ in range(15)
    ]
    bare, call, product = (statistics.median(times) for times in zip(*rounds, strict=True))
    assert call <= 1.7 * bare
    assert product <= 4 * bare
