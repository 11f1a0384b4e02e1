"""Laws that the fitted estimators keep: units, groups, order, marks and truth."""

import math
from dataclasses import fields

import numpy as np
import pytest
from sklearn.decomposition import PCA
from strategies import rotation

from skfisher import (
    FIRateEstimator,
    FisherInformationEstimator,
    GaussianMixtureScore,
    GaussianScore,
    KernelScore,
    LatentGeometryAuditor,
    UnreliableEstimateWarning,
)
from skfisher.curves import gaussian_curve
from skfisher.scores.closed import mixture as mixture_module
from skfisher.testing import mixture_1d_oracle

LEVELS = np.asarray([0.3, 1.0, 3.0])
FAMILIES = ("gaussian", "mixture", "kernel", "auto")

by_family = pytest.mark.parametrize("score_model", FAMILIES)
unreliable = pytest.mark.filterwarnings("ignore::skfisher.exceptions.UnreliableEstimateWarning")

# powers of the unit of X
UNITS = {
    "noise_levels": 1,
    "fisher_information": -2,
    "fisher_information_rate": -4,
    "fisher_information_bounds": -2,
    "mmse": 2,
    "viv": 1,
    "viv_bounds": 1,
    "viv_gaussian": 1,
}
TEXTS = ("score_models", "reasons", "forms", "linearizations")


def two_modes(N=200, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((N, 2)) * [1, 2] + rng.integers(0, 2, (N, 1)) * [4, 0]


def assert_same_up_to_unit(curve, other, a, rtol):
    """`other` is the curve of a X."""
    for field in fields(curve):
        value, moved = getattr(curve, field.name), getattr(other, field.name)
        if field.name in TEXTS:
            assert moved == value, field.name
            continue
        factor = a ** UNITS.get(field.name.removesuffix("_stderr"), 0)
        np.testing.assert_allclose(
            np.asarray(moved, float) / factor,
            np.asarray(value, float),
            rtol=rtol,
            # numbers without a unit may be differences of larger ones
            atol=rtol if factor == 1 else 0.0,
            err_msg=field.name,
        )


# -- invariance ----------------------------------------------------------------------------------


@by_family
@pytest.mark.parametrize("a", [1e-6, 0.03, 1e6])
def test_units_of_x_change_the_curve_by_their_powers_alone(score_model, a):
    X = two_modes()
    curve = FIRateEstimator(score_model, LEVELS).fit(X).curve_
    scaled = FIRateEstimator(score_model, a * LEVELS).fit(a * X).curve_
    assert_same_up_to_unit(curve, scaled, a, 1e-7)


@unreliable
@pytest.mark.parametrize("a", [1e-6, 1e6])
def test_default_levels_and_scores_have_no_unit(a):
    X, fresh = two_modes(100), two_modes(100, seed=1)
    for Estimator in (FisherInformationEstimator, FIRateEstimator):
        fitted, scaled = Estimator("gaussian").fit(X), Estimator("gaussian").fit(a * X)
        np.testing.assert_allclose(scaled.noise_levels_, a * fitted.noise_levels_, rtol=1e-12)
        assert scaled.score(a * fresh) == pytest.approx(fitted.score(fresh), rel=1e-9)


@unreliable
@pytest.mark.parametrize("a", [1e-6, 1e6])
def test_audits_have_no_unit(a):
    X = two_modes(100)
    audit = LatentGeometryAuditor(PCA(1), score_model="gaussian", noise_levels=LEVELS).fit(X)
    scaled = LatentGeometryAuditor(PCA(1), score_model="gaussian", noise_levels=a * LEVELS)
    scaled.fit(a * X)
    assert scaled.diffusability_ == pytest.approx(audit.diffusability_, rel=1e-9)
    assert scaled.bi_lipschitz_ == pytest.approx(audit.bi_lipschitz_, rel=1e-7)
    assert_same_up_to_unit(audit.latent_curve_, scaled.latent_curve_, a, 1e-7)
    assert_same_up_to_unit(audit.data_curve_, scaled.data_curve_, a, 1e-7)


@unreliable
def test_the_scale_of_the_latent_does_not_move_its_diffusability():
    X = two_modes(100)

    def audit(c):
        levels = {"score_model": "gaussian", "noise_levels": LEVELS}
        return LatentGeometryAuditor(lambda X: c * X, **levels).fit(X)

    one, hundred = audit(1.0), audit(100.0)
    assert hundred.scale_ == pytest.approx(100.0)
    assert hundred.diffusability_ == pytest.approx(one.diffusability_, rel=1e-9)
    assert_same_up_to_unit(one.matched_curve_, hundred.matched_curve_, 100.0, 1e-7)


@by_family
def test_translation_changes_nothing(score_model):
    X = two_modes()
    curve = FIRateEstimator(score_model, LEVELS).fit(X).curve_
    far = FIRateEstimator(score_model, LEVELS).fit(X + 1e3 * X.std()).curve_
    assert_same_up_to_unit(curve, far, 1.0, 1e-7)


@by_family
def test_rotation_changes_nothing_beyond_the_error(score_model):
    X = two_modes(400)
    curve = FIRateEstimator(score_model, LEVELS).fit(X).curve_
    turned = (
        FIRateEstimator(score_model, LEVELS).fit(X @ rotation(np.random.default_rng(1), 2)).curve_
    )
    for name in ("fisher_information", "fisher_information_rate", "mmse", "mmse_rate"):
        a, b = getattr(curve, name), getattr(turned, name)
        error = np.hypot(getattr(curve, f"{name}_stderr"), getattr(turned, f"{name}_stderr"))
        assert np.all(np.abs(a - b) < 4 * error), name


@by_family
def test_chunks_change_nothing_but_rounding(score_model, monkeypatch):
    X = two_modes()
    whole = FIRateEstimator(score_model, LEVELS).fit(X).curve_
    monkeypatch.setattr(mixture_module, "_CHUNK_BUDGET", 2**14)
    monkeypatch.setitem(KernelScore.__init__.__kwdefaults__, "memory_budget", 2**16)
    assert_same_up_to_unit(whole, FIRateEstimator(score_model, LEVELS).fit(X).curve_, 1.0, 1e-8)


def test_order_of_the_rows_changes_nothing_beyond_the_error():
    X = two_modes(400)
    curve = FIRateEstimator("gaussian", LEVELS).fit(X).curve_
    back = FIRateEstimator("gaussian", LEVELS).fit(X[::-1]).curve_
    error = np.hypot(curve.fisher_information_stderr, back.fisher_information_stderr)
    assert np.all(np.abs(curve.fisher_information - back.fisher_information) < 4 * error)


# -- arithmetic ----------------------------------------------------------------------------------


@by_family
@pytest.mark.parametrize("n", [1, 3])
def test_rate_is_gain_plus_penalty_to_rounding(score_model, n):
    X = np.random.default_rng(0).standard_normal((150, n))
    est = FIRateEstimator(score_model).fit(X)
    t = est.noise_levels_**2
    J, R = est.fisher_information_, est.fisher_information_rate_
    np.testing.assert_allclose(
        est.mmse_rate_, est.noise_gain_ + est.complexity_penalty_, atol=1e-12
    )
    np.testing.assert_allclose(est.noise_gain_, n - 2 * t * J, atol=1e-12)
    np.testing.assert_allclose(est.complexity_penalty_, t**2 * R, rtol=1e-12)
    np.testing.assert_allclose(est.mmse_, n * t - t**2 * J, rtol=1e-12)
    np.testing.assert_allclose(est.effective_dimension_, n - t * J, rtol=1e-12)
    variance = est.curve_.complexity_penalty_stderr**2
    shown = np.diag(est.curve_.complexity_penalty_covariance)
    # the errors beside the values count the two fitted multiples as degrees of freedom
    np.testing.assert_allclose(shown, variance * (1 - 2 / 150), rtol=1e-9)


def test_the_information_estimator_is_the_rate_estimator_without_the_rate():
    X = two_modes()
    J = FisherInformationEstimator("auto", LEVELS).fit(X)
    both = FIRateEstimator("auto", LEVELS).fit(X)
    for name in ("fisher_information_", "fisher_information_bounds_"):
        np.testing.assert_allclose(getattr(J, name), getattr(both, name), rtol=1e-13)
    assert J.score_model_ == both.score_model_
    assert not hasattr(J, "mmse_rate_")
    assert np.all(np.isnan(J.curve_.fisher_information_rate))


def test_scores_are_the_means_that_they_claim_to_be():
    X, model = two_modes(300), GaussianScore([2.0, 0.0], np.diag([5.0, 4.0]))
    # under a given model the fitted curve is that of the rows, whoever fitted it
    J = FisherInformationEstimator(model, LEVELS).fit(X)
    assert J.score(X) == pytest.approx(J.curve_.noise_prediction_score.mean(), rel=1e-12)
    R = FIRateEstimator(model, LEVELS).fit(X)
    with pytest.warns(UnreliableEstimateWarning, match=r"FIRateEstimator.score rests on 3 noise"):
        assert R.score(X) == pytest.approx(-R.complexity_penalty_.mean() / 2, rel=1e-12)


# -- groups --------------------------------------------------------------------------------------


@by_family
def test_dependent_rows_have_larger_errors_when_their_groups_are_told(score_model):
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(60), 5)
    X = two_modes(60)[groups] + 0.05 * rng.standard_normal((300, 2))
    alone = FIRateEstimator(score_model, LEVELS).fit(X)
    told = FIRateEstimator(score_model, LEVELS).fit(X, groups=groups)
    ratio = (
        told.fisher_information_bounds_stderr_[:, 1] / alone.fisher_information_bounds_stderr_[:, 1]
    )
    assert np.all(ratio > 1.2)
    if score_model == "gaussian":  # others overfit the twins of a row that they are not told of
        assert np.all(told.fisher_information_stderr_ > 1.2 * alone.fisher_information_stderr_)
    # a fold that holds a row's twins takes it for well explained
    assert told.curve_.noise_prediction_score[0] <= alone.curve_.noise_prediction_score[0] + 0.02


def test_groups_of_one_row_are_no_groups():
    X = two_modes()
    alone = FIRateEstimator("gaussian", LEVELS).fit(X).curve_
    told = FIRateEstimator("gaussian", LEVELS).fit(X, groups=np.arange(200)).curve_
    assert_same_up_to_unit(alone, told, 1.0, 1e-9)


# -- truth ---------------------------------------------------------------------------------------


def assert_within(curve, truth, z=4.0, share=0.0):
    for name in ("fisher_information", "fisher_information_rate", "mmse", "mmse_rate"):
        value, error = getattr(curve, name), getattr(curve, f"{name}_stderr")
        exact = getattr(truth, name)
        assert np.all(error > 0), name
        assert np.all(np.abs(value - exact) < z * error + share * exact), name


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_a_fitted_gaussian_finds_the_curve_of_gaussian_data(scale):
    S = scale**2 * np.diag([1.0, 4.0, 0.25])
    X = np.random.default_rng(1).standard_normal((800, 3)) * np.sqrt(np.diag(S))
    levels = scale * np.geomspace(0.1, 5, 6)
    est = FIRateEstimator("gaussian", levels).fit(X)
    assert_within(est.curve_, gaussian_curve(S, levels))
    truth = gaussian_curve(S, levels)
    low, high = est.curve_.mutual_information_bounds.T
    slack = 4 * est.curve_.mutual_information_stderr
    # both tails share the sample's covariance, which has its own error
    assert np.all(low - slack < truth.mutual_information)
    assert np.all(truth.mutual_information < high + slack + 0.05)
    assert est.curve_.viv_bounds[0] - 4 * est.curve_.viv_stderr < truth.viv
    assert truth.viv < est.curve_.viv_bounds[1] + 4 * est.curve_.viv_stderr


def test_auto_finds_two_modes_where_it_says_that_it_may_be_believed():
    law = [0.4, 0.6], [-2.0, 2.0], [0.16, 0.36]
    rng = np.random.default_rng(2)
    k = rng.random(1000) < 0.6
    X = np.where(k, 2 + 0.6 * rng.standard_normal(1000), -2 + 0.4 * rng.standard_normal(1000))
    levels = np.geomspace(0.15, 10, 5)
    est = FIRateEstimator(noise_levels=levels).fit(X[:, None])
    truth = mixture_1d_oracle(*law, levels)
    assert_within(est.curve_, truth, share=0.02)
    believed = est.valid_
    assert np.any(believed)
    for name, limit in (("fisher_information", 0.06), ("mmse_rate", 0.16)):
        error = np.abs(getattr(est.curve_, name) / getattr(truth, name) - 1)
        assert np.all(error[believed] < limit), name


def test_probes_find_what_exact_traces_find():
    # a bare callable has no exact traces, and is linearised by differences
    X = np.random.default_rng(3).standard_normal((1500, 3))
    levels = np.asarray([0.5, 2.0])
    bare = FIRateEstimator(lambda y, sigma: -y / (1 + sigma**2), levels, n_probes=2).fit(X)
    assert_within(bare.curve_, gaussian_curve(np.eye(3), levels), share=1e-8)
    assert bare.score_model_ == ("function",) * 2


# -- order and marks -----------------------------------------------------------------------------


@by_family
def test_bounds_are_in_order_within_their_errors(score_model):
    est = FisherInformationEstimator(score_model, np.geomspace(0.1, 10, 6)).fit(two_modes(300))
    low, high = est.fisher_information_bounds_.T
    low_error, high_error = est.fisher_information_bounds_stderr_.T
    assert np.all(low - high < 4 * np.hypot(low_error, high_error))
    assert np.all(
        est.fisher_information_ > low - 4 * np.hypot(low_error, est.fisher_information_stderr_)
    )
    most = 2 / est.noise_levels_**2
    assert np.all(high < most + 4 * high_error)
    assert np.all(low < most + 4 * low_error)
    assert np.all(est.curve_.noise_prediction_score < 1)


def test_kernels_are_not_believed_at_tiny_noise():
    est = FIRateEstimator("kernel", [0.001, 0.01, 0.03]).fit(two_modes(300))
    assert not np.any(est.valid_)
    assert "posterior rests on fewer than 5 points" in est.curve_.reasons[0]
    assert est.curve_.effective_sample_size[0] == pytest.approx(1.0)


def test_a_gaussian_score_of_two_far_modes_is_not_believed():
    rng = np.random.default_rng(4)
    X = rng.choice([-1.0, 1.0], (1000, 1)) + 0.1 * rng.standard_normal((1000, 1))
    wrong = GaussianScore(X.mean(axis=0), np.cov(X.T).reshape(1, 1))
    levels = [0.1, 0.3]
    given = FIRateEstimator(wrong, levels).fit(X)
    truth = mixture_1d_oracle([0.5, 0.5], [-1, 1], [0.01, 0.01], levels)
    # Stein's identity does not see it, the bracket does
    assert np.all(given.fisher_information_ < 0.5 * truth.fisher_information)
    assert abs(given.curve_.stein_residual[0]) < 0.05
    assert not np.any(given.valid_)
    right = GaussianMixtureScore([0.5, 0.5], [[-1.0], [1.0]], np.full((2, 1, 1), 0.01))
    assert FIRateEstimator(right, levels).fit(X).valid_[0]


@by_family
@pytest.mark.parametrize("N", [2, 3, 5, 15])
def test_a_handful_of_rows_is_measured_and_marked(score_model, N):
    X = np.random.default_rng(5).standard_normal((N, 2))
    est = FIRateEstimator(score_model, LEVELS).fit(X)
    assert not np.any(est.valid_)
    assert np.all(np.isfinite(est.fisher_information_))


@by_family
def test_two_distinct_rows_among_many_are_measured_and_marked(score_model):
    X = np.repeat([[0.0, 0.0], [1.0, 1.0]], 30, axis=0)
    assert not np.any(FIRateEstimator(score_model, LEVELS).fit(X).valid_)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("N", [7, 60])
def test_few_groups_are_not_believed(N, seed):
    X = np.random.default_rng(0).standard_normal((N, 2))
    est = FIRateEstimator("gaussian", random_state=seed).fit(X, groups=np.arange(N) % 2)
    assert not np.any(est.valid_)


@by_family
def test_noise_below_every_spacing_is_measured_and_marked(score_model):
    est = FIRateEstimator(score_model, [1e-7, 1e-4]).fit(two_modes(60))
    assert not np.any(est.valid_)
    assert np.all(np.isfinite(est.fisher_information_))


def test_levels_are_valid_exactly_where_no_reason_speaks_against_them():
    X = np.random.default_rng(5).standard_normal((1000, 2))
    model = GaussianScore(np.zeros(2), np.eye(2))
    curve = FIRateEstimator(model, np.geomspace(0.05, 5, 6)).fit(X).curve_
    assert list(curve.valid) == [not reason for reason in curve.reasons]
    assert 0 < curve.valid.sum() < len(curve.valid)


def test_scores_that_rest_on_invalid_levels_warn():
    X = np.random.default_rng(6).standard_normal((30, 2))
    est = FIRateEstimator("gaussian", LEVELS).fit(X)
    message = r"FIRateEstimator\.score rests on 3 noise levels of which 3 are not valid .*Use more"
    with pytest.warns(UnreliableEstimateWarning, match=message):
        est.score(X)
    audit = LatentGeometryAuditor(score_model="gaussian", noise_levels=LEVELS).fit(X)
    with pytest.warns(UnreliableEstimateWarning, match=r"LatentGeometryAuditor\.score rests on 21"):
        audit.score(X)


# -- the audit -----------------------------------------------------------------------------------


@unreliable
def test_a_scaled_rotation_leaves_nothing_to_report():
    X = two_modes(400)
    Q = 3.0 * rotation(np.random.default_rng(7), 2)
    audit = LatentGeometryAuditor(lambda X: X @ Q, score_model="gaussian", noise_levels=LEVELS)
    audit.fit(X)
    assert audit.scale_ == pytest.approx(3.0)
    assert audit.bi_lipschitz_ == pytest.approx((3.0, 3.0))
    assert audit.penalties_.dimensional_compression == pytest.approx(0.0, abs=1e-12)
    assert audit.penalties_.tangential_distortion == pytest.approx(0.0, abs=1e-9)
    data, latent = audit.data_curve_, audit.matched_curve_
    error = np.hypot(data.mmse_rate_stderr, latent.mmse_rate_stderr)
    assert np.all(np.abs(data.mmse_rate - latent.mmse_rate) < 4 * error)
    assert audit.sandwich_ is not None


@unreliable
def test_points_beyond_the_limit_are_left_out_of_the_audit_and_counted():
    X = two_modes(300)
    audit = LatentGeometryAuditor(
        PCA(2), score_model="gaussian", noise_levels=LEVELS, max_points=100
    ).fit(X)
    assert audit.report_.n_samples == 300
    assert audit.report_.n_rows == 100
    assert audit.latent_curve_.n_samples == 100
    # the encoder has seen them all
    np.testing.assert_allclose(audit.encoder_.mean_, X.mean(axis=0))
    groups, w = np.repeat(np.arange(60), 5), np.linspace(1, 2, 300)
    assert audit.fit(X, sample_weight=w, groups=groups).latent_curve_.n_samples == 100


@unreliable
def test_standardized_latents_are_those_of_the_scaled_channels():
    X = two_modes(150)
    levels = {"score_model": "gaussian", "noise_levels": LEVELS}
    told = LatentGeometryAuditor(standardize=True, **levels).fit(X)
    by_hand = LatentGeometryAuditor(lambda X: (X - mean) / std, **levels)
    mean, std = X.mean(axis=0), X.std(axis=0)
    by_hand.fit(X)
    assert told.diffusability_ == pytest.approx(by_hand.diffusability_, rel=1e-9)
    assert told.report_.standardized
    fresh = two_modes(100, seed=8)
    # the scales are those of the rows fitted on
    assert told.score(fresh) == pytest.approx(by_hand.score(fresh), rel=1e-9)


@unreliable
def test_complexity_is_minus_the_mean_penalty_and_score_repeats_it_under_a_given_model():
    X = np.random.default_rng(9).standard_normal((300, 2))
    model = GaussianScore(np.zeros(2), np.eye(2))
    settings = {"score_model": model, "noise_levels": LEVELS, "criterion": "complexity"}
    audit = LatentGeometryAuditor(**settings).fit(X)
    curve = audit.latent_curve_
    assert audit.diffusability_ == pytest.approx(-curve.complexity_penalty.mean() / 2)
    scale = math.sqrt(X.var(axis=0).mean())
    np.testing.assert_allclose(curve.noise_levels, scale * np.geomspace(0.05, 5, 21), rtol=1e-9)
    truth = gaussian_curve(np.eye(2), curve.noise_levels).complexity_penalty.mean() / 2
    # the trace of an exact Gaussian score is the same at every point
    assert audit.diffusability_ == pytest.approx(-truth, rel=1e-6)
    assert audit.report_.diffusability_stderr == pytest.approx(0.0, abs=1e-6)
    np.testing.assert_array_equal(audit.valid_, curve.valid)
