import math
import pickle

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skfisher._backend.arrays import to_numpy
from skfisher.noise import (
    EDM,
    CosineVP,
    DiscreteVE,
    DiscreteVP,
    FlowMatching,
    LinearVP,
    VarianceExploding,
    check_noise_levels,
    default_noise_levels,
    prediction_from_score,
    rms_scale,
    score_from_prediction,
    window_weights,
)

DDPM = DiscreteVP(np.cumprod(1 - np.linspace(1e-4, 0.02, 1000)))
NCSN = DiscreteVE(np.geomspace(50.0, 0.01, 232))  # counts from the noisy end
TABLES = (DDPM, NCSN, DiscreteVE([0.01, 0.2, 1.0, 30.0]))
PATHS = [
    VarianceExploding(),
    LinearVP(),
    LinearVP(beta_min=8.0, beta_max=8.0),
    CosineVP(),
    CosineVP(offset=0.0),
    *TABLES,
    EDM(),
    EDM(sigma_data=3.0),
    FlowMatching(),
    FlowMatching(data_at=1),
    FlowMatching(time_scale=1000.0),
    FlowMatching(data_at=1, shift=3.0, time_scale=1000.0),
]
by_path = pytest.mark.parametrize("path", PATHS, ids=lambda path: repr(path))
KINDS = ["score", "epsilon", "x0", "denoiser", "v", "velocity", "velocity_to_data"]
by_kind = pytest.mark.parametrize("kind", KINDS)


def signal_and_noise(path, u):
    """Coefficients (a, b) of x = a x0 + b eps at time u, from each path's definition."""
    match path:
        case DiscreteVE(sigmas):
            return mp.mpf(1), mp.mpf(sigmas[int(u)])
        case VarianceExploding():
            return mp.mpf(1), u
        case LinearVP(low, high):
            a = mp.exp(-mp.quad(lambda r: low + r * (high - low), [0, u]) / 2)
        case CosineVP(offset):
            s = mp.mpf(offset)
            a = mp.cos((u + s) / (1 + s) * mp.pi / 2) / mp.cos(s / (1 + s) * mp.pi / 2)
        case EDM(sigma_data):
            a = 1 / mp.sqrt(mp.exp(8 * u) + mp.mpf(sigma_data) ** 2)
            return a, a * mp.exp(4 * u)
        case FlowMatching(data_at, shift, time_scale):
            w = 1 - u / time_scale if data_at else u / time_scale
            w = shift * w / (1 + (shift - 1) * w)
            return 1 - w, w
    return a, mp.sqrt(1 - a**2)


def times(path, count=25):
    clean, noisy = (-1.0, 1.0) if isinstance(path, EDM) else path.time_range
    noisy = min(noisy, 100.0) if clean == 0.0 else noisy
    return [clean + (noisy - clean) * (k + 0.5) / count for k in range(count)]


@by_path
@given(log_sigma=st.floats(-7, 6))
def test_time_inverts_sigma(path, log_sigma):
    low, high = path.sigma_range
    sigma = min(max(math.exp(log_sigma), low), high)
    time = path.time(sigma)
    # rounding of the time itself moves sigma by its slope: no inverse can do better
    rounding = abs(path.dsigma_dtime(time)) * 4 * math.ulp(time)
    assert path.sigma(time) == pytest.approx(sigma, rel=1e-12, abs=rounding)


@by_path
def test_sigma_inverts_time(path):
    for time in times(path):
        assert path.time(path.sigma(time)) == pytest.approx(time, rel=1e-12)


@by_path
def test_from_ve_inverts_to_ve(path, library, rng):
    x = rng.normal(size=(5, 3))
    for time in times(path, 5):
        y, sigma = path.to_ve(library(x), time)
        back, time_back = path.from_ve(y, sigma)
        assert library.owns(y)
        assert library.owns(back)
        assert time_back == pytest.approx(time, rel=1e-12)
        np.testing.assert_allclose(to_numpy(back), x, rtol=1e-14)


@by_path
def test_y_is_clean_point_plus_sigma_noise(path, rng):
    x0, eps = rng.normal(size=(2, 4, 3))
    for time in times(path, 5):
        time = float(round(time)) if path in TABLES else time
        if path is DDPM:
            variance = path.alphas_cumprod[round(time)]
            a, b = math.sqrt(variance), math.sqrt(1 - variance)
        else:
            a, b = map(float, signal_and_noise(path, mp.mpf(time)))
        y, sigma = path.to_ve(a * x0 + b * eps, time)
        assert sigma == pytest.approx(b / a, rel=1e-12)
        np.testing.assert_allclose(y, x0 + sigma * eps, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("path", [p for p in PATHS if p not in TABLES], ids=repr)
def test_sigma_and_its_derivative_equal_their_definition(path):
    def ratio(u):
        a, b = signal_and_noise(path, u)
        return b / a

    clean, noisy = path.time_range
    tiny = abs(min(noisy, 1.0) - clean) * 1e-6
    near_ends = [clean + tiny, clean - tiny, noisy + tiny, noisy - tiny]
    inside = [u for u in near_ends if 0 < u < max(clean, noisy) and math.isfinite(u)]
    with mp.workdps(40):
        for time in times(path, 7) + inside:
            u = mp.mpf(time)
            assert path.sigma(time) == pytest.approx(float(ratio(u)), rel=1e-12)
            derivative = mp.diff(ratio, u, h=mp.mpf(10) ** -15)
            assert path.dsigma_dtime(time) == pytest.approx(float(derivative), rel=1e-11)


@pytest.mark.parametrize("table", [DDPM, NCSN], ids=repr)
def test_derivative_of_a_table_equals_finite_differences(table):
    for time in times(table, 40):
        difference = (table.sigma(time + 1e-5) - table.sigma(time - 1e-5)) / 2e-5
        assert table.dsigma_dtime(time) == pytest.approx(difference, rel=1e-6)


def test_a_table_is_met_at_its_steps_and_monotone_between():
    steps = [DDPM.sigma(k) for k in range(1000)]
    table = np.asarray(DDPM.alphas_cumprod)
    np.testing.assert_allclose(steps, np.sqrt((1 - table) / table), rtol=1e-12)
    assert [DDPM.time(s) for s in steps] == pytest.approx(list(range(1000)), rel=1e-12, abs=1e-12)
    assert np.all(np.diff([DDPM.sigma(u) for u in np.linspace(0, 999, 5000)]) > 0)


def test_a_table_turned_round_tells_the_time_from_the_other_end():
    there, back = DiscreteVE(np.geomspace(0.01, 50.0, 232)), NCSN
    assert there.time_range == back.time_range[::-1] == (0.0, 231.0)
    for sigma in (0.01, 0.0123, 1.0, 49.0):
        assert back.time(sigma) == pytest.approx(231 - there.time(sigma), rel=1e-10)
        assert back.dsigma_dtime(back.time(sigma)) < 0 < there.dsigma_dtime(there.time(sigma))


@pytest.mark.parametrize("sigma", [0.01, 0.5, 2.0, 50.0])
def test_a_preconditioned_network_of_gaussian_data_is_zero(sigma):
    # of data of variance sigma_data^2 the best denoiser is c_skip y, and the network's task is done
    path, y = EDM(sigma_data=2.0), np.array([[1.0, -3.0]])
    denoised = path.denoiser(0 * y, y, sigma)
    np.testing.assert_allclose(denoised, y * 4 / (4 + sigma**2), rtol=1e-14)


@pytest.mark.parametrize("sigma", [0.01, 0.5, 2.0, 50.0])
def test_what_a_preconditioned_network_is_trained_for_has_unit_variance(sigma):
    # x0 and eps of standard deviations sigma_data and 1; F is linear in them by its definition
    path = EDM(sigma_data=2.0)
    skip = path.denoiser(0.0, 1.0, sigma)
    out = path.denoiser(1.0, 0.0, sigma)
    of_x0, of_eps = (1 - skip) / out, -skip * sigma / out
    assert math.hypot(2.0 * of_x0, of_eps) == pytest.approx(1.0, rel=1e-12)
    assert path.signal(sigma) * math.hypot(2.0, sigma) == pytest.approx(1.0, rel=1e-12)


def test_the_fine_table_of_a_linear_schedule_equals_its_continuous_path():
    n = 1000
    rates = 0.1 + (np.arange(n) + 0.5) / n * 19.9
    table = DiscreteVP(np.exp(-np.cumsum(rates / n)))
    for time in (0.1, 0.5555, 0.9):
        assert table.sigma(time * n - 1) == pytest.approx(LinearVP().sigma(time), rel=1e-7)


@by_path
def test_paths_are_values(path):
    path.sigma(times(path, 3)[1])
    assert pickle.loads(pickle.dumps(path)) == path


def test_both_directions_of_a_flow_are_mirror_images():
    for u in (0.1, 0.5, 0.8):
        assert FlowMatching().sigma(u) == pytest.approx(FlowMatching(1).sigma(1 - u), rel=1e-14)
        slope, mirrored = FlowMatching().dsigma_dtime(u), FlowMatching(1).dsigma_dtime(1 - u)
        assert slope == pytest.approx(-mirrored, rel=1e-14)


# ---- predictions: X ~ N(mean, S), x = a x0 + b eps, so E[x0 | x] and E[eps | x] are linear in x

S = np.array([[2.0, 0.6, 0.0], [0.6, 1.0, -0.3], [0.0, -0.3, 0.5]])
MEAN = np.array([1.0, -2.0, 0.5])


def gaussian_prediction(kind, x, a, b):
    """Score of x and posterior means given x, by linear regression on the joint Gaussian."""
    precision = np.linalg.inv(a**2 * S + b**2 * np.eye(3))
    whitened = (x - a * MEAN) @ precision
    x0, eps = MEAN + a * whitened @ S, b * whitened
    return {
        "score": -a * whitened,  # of y = x / a
        "epsilon": eps,
        "x0": x0,
        "denoiser": x0,
        "v": a * eps - b * x0,
        "velocity": eps - x0,
        "velocity_to_data": x0 - eps,
    }[kind]


def gaussian_score(y, sigma):
    return -np.linalg.solve(S + sigma**2 * np.eye(3), (y - MEAN).T).T


HOME = {
    "v": [LinearVP(), CosineVP(), DDPM],
    "velocity": [FlowMatching()],
    "velocity_to_data": [FlowMatching(data_at=1)],
}


@by_kind
@pytest.mark.parametrize("sigma", [0.02, 0.3, 1.0, 20.0])
def test_predictions_of_a_gaussian_give_its_score(kind, sigma, rng):
    for path in HOME.get(kind, PATHS):
        a = path.signal(sigma)
        x = a * (MEAN + rng.normal(size=(6, 3)) * (1 + sigma))
        y, back = path.to_ve(x, path.time(sigma))
        assert back == pytest.approx(sigma, rel=1e-10)
        s = score_from_prediction(gaussian_prediction(kind, x, a, sigma * a), y, sigma, kind)
        # s = (x0 - y) / t: the rounding of y is divided by t
        np.testing.assert_allclose(s, gaussian_score(y, sigma), rtol=1e-9, atol=1e-14 / sigma**2)


@by_kind
@given(log_sigma=st.floats(-5, 5), scale=st.sampled_from([1e-6, 1.0, 1e6]))
def test_prediction_inverts_score(kind, log_sigma, scale):
    sigma = math.exp(log_sigma) * scale
    y, s = np.array([[1.0, -0.5]]) * scale, np.array([[0.3, 2.0]]) / scale
    back = score_from_prediction(prediction_from_score(s, y, sigma, kind), y, sigma, kind)
    # rounding of the prediction, over the weight of s in it
    at_s, at_zero = (prediction_from_score(w, y, sigma, kind) for w in (s, 0 * s))
    rounding = 1e-15 * np.max(np.abs(at_zero)) / np.max(np.abs(at_s - at_zero)) * np.max(np.abs(s))
    np.testing.assert_allclose(back, s, rtol=1e-12, atol=10 * rounding)


@by_kind
def test_the_same_map_takes_jacobian_products_to_hessian_products(kind, rng):
    sigma, y, v = 0.7, rng.normal(size=(4, 3)), rng.normal(size=(4, 3))

    def network(points):
        return prediction_from_score(gaussian_score(points, sigma), points, sigma, kind)

    product = (network(y + v) - network(y - v)) / 2  # exact, the network is affine
    expected = -np.linalg.solve(S + sigma**2 * np.eye(3), v.T).T
    hv = score_from_prediction(product, v, sigma, kind)
    np.testing.assert_allclose(hv, expected, rtol=1e-12, atol=1e-12)


@by_path
def test_score_of_a_path_obeys_the_chain_rule(path, rng):
    time = times(path, 3)[1]
    sigma = path.sigma(time)
    a = path.signal(sigma)
    x = rng.normal(size=(4, 3))
    covariance = a**2 * (S + sigma**2 * np.eye(3))
    s_path = -np.linalg.solve(covariance, (x - a * MEAN).T).T
    y, _ = path.to_ve(x, time)
    np.testing.assert_allclose(path.score_to_ve(s_path, sigma), gaussian_score(y, sigma))
    np.testing.assert_allclose(path.score_from_ve(gaussian_score(y, sigma), sigma), s_path)


# ---- scale and grids


def test_scale_is_the_root_of_the_mean_variance(library, rng):
    X = rng.normal(size=(50, 4)) * [1.0, 2.0, 0.0, 3.0] + 5.0
    assert rms_scale(library(X)) == pytest.approx(math.sqrt(X.var(axis=0).mean()), rel=1e-13)


@given(st.integers(0, 2**32 - 1), st.integers(-8, 8), st.floats(-1e6, 1e6))
def test_scale_follows_the_unit_and_ignores_the_origin(seed, exponent, offset):
    X = np.random.default_rng(seed).integers(-1000, 1000, size=(30, 3)) / 64.0
    unit = 2.0**exponent
    shift = round(offset * 64) / 64.0  # a binary fraction, so that X + shift is exact
    assert rms_scale(unit * (X + shift)) == pytest.approx(unit * rms_scale(X), rel=1e-13)


@pytest.mark.parametrize("unit", [1e-200, 1e-6, 1e6, 1e200])
def test_scale_neither_overflows_nor_underflows(unit, rng):
    X = rng.normal(size=(30, 3))
    assert rms_scale(unit * X) == pytest.approx(unit * rms_scale(X), rel=1e-12)


def test_scale_of_single_precision_sums_in_double(rng):
    X = (rng.normal(size=(200_000, 2)) + 100).astype(np.float32)
    assert rms_scale(X) == pytest.approx(rms_scale(X.astype(np.float64)), rel=1e-6)


def test_scale_does_not_depend_on_chunks(rng, monkeypatch):
    X, w = rng.normal(size=(101, 3)), rng.uniform(size=101)
    whole = rms_scale(X, w)
    row_chunks = rms_scale.__globals__["row_chunks"]
    monkeypatch.setitem(rms_scale.__globals__, "row_chunks", lambda n, b: row_chunks(n, b, 7 * b))
    assert rms_scale(X, w) == pytest.approx(whole, rel=1e-13)


def test_integer_weights_equal_repetition(library, rng):
    X, counts = rng.normal(size=(20, 3)), rng.integers(0, 4, size=20)
    repeated = rms_scale(library(np.repeat(X, counts, axis=0)))
    assert rms_scale(library(X), counts) == pytest.approx(repeated, rel=1e-13)


def test_rows_without_weight_do_not_count():
    X = [[0.0], [1e300], [1.0]]
    assert rms_scale(X, [1.0, 0.0, 1.0]) == 0.5


@pytest.mark.parametrize(
    ("X", "sample_weight"),
    [([[0.1, 1e6 + 0.1]] * 7, None), ([[3.0]], None), ([[1.0], [2.0]], [1.0, 0.0])],
)
def test_one_distinct_sample_has_no_scale(X, sample_weight):
    with pytest.raises(ValueError, match=r"X holds one distinct sample in its \d+ rows"):
        rms_scale(X, sample_weight)


def test_default_levels_are_geometric_and_follow_the_scale(library, rng):
    X = rng.normal(size=(40, 3))
    levels = default_noise_levels(library(X))
    assert library.owns(levels)
    values = to_numpy(levels)
    assert values.shape == (21,)
    assert values[[0, -1]] / rms_scale(X) == pytest.approx([0.05, 5.0], rel=1e-13)
    np.testing.assert_allclose(values[1:] / values[:-1], 100 ** (1 / 20), rtol=1e-13)
    doubled = default_noise_levels(library(2 * X))
    np.testing.assert_allclose(to_numpy(doubled), 2 * values, rtol=1e-14)


def test_default_levels_take_a_given_scale_and_weights(rng):
    X, w = rng.normal(size=(40, 3)), rng.uniform(size=40)
    np.testing.assert_allclose(default_noise_levels(X, scale=2.0)[[0, -1]], [0.1, 10.0])
    weighted = default_noise_levels(X, sample_weight=w)
    np.testing.assert_allclose(weighted, default_noise_levels(X, scale=rms_scale(X, w)))


def test_default_levels_keep_single_precision():
    assert default_noise_levels(np.eye(3, dtype=np.float32)).dtype == np.float32


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_levels": 1}, "n_levels is 1: .* at least 2 levels"),
        ({"low": 0.0}, r"low is 0\.0 and high is 5\.0: pass 0 < low < high"),
        ({"low": 5.0}, r"low is 5\.0 and high is 5\.0"),
        ({"high": math.inf}, "high is inf"),
        ({"scale": -1.0}, r"scale is -1\.0: a noise level is a finite positive"),
    ],
)
def test_default_levels_refuse_a_grid_without_extent(arguments, message):
    with pytest.raises(ValueError, match=message):
        default_noise_levels(np.eye(3), **arguments)


def test_checked_levels_follow_the_reference(library):
    levels = check_noise_levels([0.1, 1], library([[0.0]], "float32"))
    assert library.owns(levels, "float32")
    np.testing.assert_allclose(to_numpy(levels), [0.1, 1.0], rtol=1e-7)
    own = check_noise_levels(library([0.1, 1.0]))
    assert isinstance(own, np.ndarray)
    assert own.tolist() == [0.1, 1.0]


@pytest.mark.parametrize(
    ("levels", "message"),
    [
        ([], "noise_levels is empty: pass at least one"),
        (0.5, r"noise_levels has shape \(\): .* as \[sigma\]"),
        ([[0.1, 0.2]], r"noise_levels has shape \(1, 2\): pass a one-dimensional"),
        ([0.1, math.nan], r"noise_levels\[1\] is nan: .* finite positive"),
        ([0.1, math.inf], r"noise_levels\[1\] is inf: .* finite positive"),
        ([0.0, 1.0], r"noise_levels\[0\] is 0\.0: .* finite positive"),
        ([-0.1, 1.0], r"noise_levels\[0\] is -0\.1: .* finite positive"),
        ([0.1, 0.3, 0.2], r"noise_levels\[2\] is 0\.2 after 0\.3: .* sorted"),
        ([0.1, 0.1], r"noise_levels\[1\] is 0\.1 after 0\.1: .* without repetition"),
    ],
)
def test_levels_that_are_no_grid_are_refused(levels, message):
    with pytest.raises(ValueError, match=message):
        check_noise_levels(levels)


@pytest.mark.parametrize("levels", [["small"], [0.1 + 1j], None, [True]], ids=str)
def test_levels_that_are_no_numbers_are_refused(levels):
    with pytest.raises(TypeError, match=r"noise_levels is .*: pass real numbers, or None"):
        check_noise_levels(levels)


def test_levels_that_coincide_in_single_precision_are_refused():
    with pytest.raises(ValueError, match=r"noise_levels\[1\] is 1\.0 after 1\.0"):
        check_noise_levels([1.0, 1.0 + 1e-12], np.zeros(1, dtype=np.float32))


@pytest.mark.parametrize(
    ("path", "time"),
    [
        (VarianceExploding(), 0.0),
        (VarianceExploding(), math.inf),
        (LinearVP(), 1.001),
        (LinearVP(), math.nan),
        (CosineVP(), 1.0),
        (DDPM, 999.5),
        (FlowMatching(), 1.0),
        (FlowMatching(data_at=1), 0.0),
        (FlowMatching(data_at=1), 1.0),
    ],
)
def test_times_off_the_path_are_refused(path, time):
    with pytest.raises(ValueError, match=rf"time is {time}: {type(path).__name__} runs from time"):
        path.to_ve(np.zeros((1, 1)), time)


@pytest.mark.parametrize("sigma", [1e-4, 1e4])
def test_sigmas_off_the_path_are_refused(sigma):
    message = r"sigma is .*: DiscreteVP covers sigma from 0\.01.* to 157.*clip the noise levels"
    with pytest.raises(ValueError, match=message):
        DDPM.from_ve(np.zeros((1, 1)), sigma)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LinearVP(beta_min=0.0), r"beta_min is 0\.0 and beta_max is 20\.0"),
        (lambda: LinearVP(beta_max=0.01), "pass 0 < beta_min <= beta_max"),
        (lambda: CosineVP(offset=-1.0), r"offset is -1\.0: pass a small number"),
        (lambda: FlowMatching(data_at=2), "data_at is 2: pass 0 where time 0 is clean"),
        (lambda: FlowMatching(shift=0.0), r"shift is 0\.0: pass a finite positive"),
        (lambda: FlowMatching(time_scale=math.inf), "time_scale is inf: pass a finite positive"),
        (lambda: EDM(sigma_data=0.0), r"sigma_data is 0\.0: .* finite positive"),
        (lambda: DiscreteVE([1.0]), r"sigmas has shape \(1,\): .* at least two"),
        (lambda: DiscreteVE([1.0, -2.0]), r"sigmas\[1\] is -2\.0: .* finite positive"),
        (lambda: DiscreteVE([1.0, 2.0, 1.5]), r"sigmas\[2\] is 1\.5 after 2\.0: .* one way"),
        (lambda: DiscreteVE([1.0, 1.0]), r"sigmas\[1\] is 1\.0 after 1\.0: .* repetition"),
        (lambda: DiscreteVP([0.5]), r"alphas_cumprod has shape \(1,\): .* at least two"),
        (lambda: DiscreteVP([0.5, 0.5]), r"alphas_cumprod\[1\] is 0\.5: .* decrease strictly"),
        (lambda: DiscreteVP([0.5, 0.0]), r"alphas_cumprod\[1\] is 0\.0: .* without signal"),
        (lambda: DiscreteVP([1.0, 0.5]), r"alphas_cumprod\[0\] is 1\.0: .* without noise"),
    ],
)
def test_paths_without_a_clock_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_unknown_predictions_are_refused():
    with pytest.raises(ValueError, match="kind is 'eps': pass one of 'score', 'epsilon', 'x0'"):
        score_from_prediction(np.zeros((1, 1)), np.zeros((1, 1)), 1.0, "eps")


@pytest.mark.parametrize("sigma", [0.0, -1.0, math.nan])
def test_predictions_need_a_noise_level(sigma):
    with pytest.raises(ValueError, match=r"sigma is .*: a noise level is a finite positive"):
        prediction_from_score(np.zeros((1, 1)), np.zeros((1, 1)), sigma, "v")


@pytest.mark.parametrize("over", ["log", "flow"])
def test_window_weights_are_those_of_the_trapezoidal_mean(over):
    levels = np.asarray([0.1, 0.3, 0.4, 2.0, 7.0])
    place = np.log(levels) if over == "log" else levels / (1.7 + levels)
    weights = window_weights(levels, 1.7, over)
    values = np.random.default_rng(0).normal(size=5)
    expected = np.trapezoid(values, place) / (place[-1] - place[0])
    assert weights @ values == pytest.approx(expected, rel=1e-12)
    assert window_weights(levels[:1], 1.7, over) == [1.0]


def test_an_unknown_window_is_refused():
    with pytest.raises(ValueError, match="over is 'time': it is 'log'"):
        window_weights(np.asarray([1.0, 2.0]), 1.0, "time")
