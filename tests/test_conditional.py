"""Curves of labelled data: averages over classes, their errors, and what the label tells."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from skfisher import FIRateEstimator, FisherInformationEstimator
from skfisher._backend.arrays import to_numpy
from skfisher.channels import normalize_latents
from skfisher.conditional import (
    MIN_CLASS_ROWS,
    class_conditional_curve,
    curve_of_classes,
    pool_curves,
)
from skfisher.curves import gaussian_curve
from skfisher.scores import GaussianMixtureScore, GaussianScore
from skfisher.testing import mixture_1d_oracle

LEVELS = np.asarray([0.3, 0.6, 1.2, 2.4])
P, MEANS, VARIANCES = (0.3, 0.7), (-1.5, 1.5), (0.25, 0.6)
SCORES = {c: GaussianScore(np.asarray([MEANS[c]]), np.asarray([[VARIANCES[c]]])) for c in range(2)}


def labelled(N, seed=0):
    rng = np.random.default_rng(seed)
    y = (rng.random(N) > P[0]).astype(int)
    return rng.standard_normal((N, 1)) * np.sqrt(VARIANCES)[y, None] + np.take(MEANS, y)[:, None], y


def of_classes(function, levels=LEVELS):
    """Average over the classes of a function of (variance, t)."""
    t = np.asarray(levels)[:, None] ** 2
    return function(np.asarray(VARIANCES), t) @ np.asarray(P)


def label_information(sigma):
    """I(c; Y) of the one-dimensional mixture, on a fine grid."""
    y = np.linspace(-12, 12, 20001) * (1 + sigma)
    scale = np.sqrt(np.asarray(VARIANCES) + sigma**2)
    log = -0.5 * ((y[:, None] - MEANS) / scale) ** 2 - np.log(scale * np.sqrt(2 * np.pi))
    density = np.exp(log)
    total = density @ np.asarray(P)
    some = (density > 0).all(axis=1)
    told = density[some] * np.log(density[some] / total[some, None])
    return np.trapezoid(told @ np.asarray(P), y[some])


# -- the laws themselves -------------------------------------------------------------------------


@given(
    st.floats(0.05, 0.95),
    st.floats(0.0, 4.0),
    st.tuples(st.floats(0.01, 3.0), st.floats(0.01, 3.0)),
    st.floats(0.05, 5.0),
)
def test_knowing_the_label_never_lowers_fisher_information(p, gap, variances, sigma):
    shares = (p, 1 - p)
    oracle = mixture_1d_oracle(shares, [0.0, gap], variances, [sigma])
    conditional = sum(q / (v + sigma**2) for q, v in zip(shares, variances, strict=True))
    assert oracle.fisher_information[0] <= conditional * (1 + 1e-9)


def test_half_the_integral_of_the_gap_is_the_information_about_the_label():
    sigma = np.geomspace(0.5, 200, 4001)
    oracle = mixture_1d_oracle(P, MEANS, VARIANCES, sigma)
    gap = of_classes(lambda v, t: 1 / (v + t), sigma) - oracle.fisher_information
    assert_allclose(0.5 * np.trapezoid(gap, sigma**2), label_information(0.5), rtol=2e-4)


# -- estimates -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def found():
    X, y = labelled(3000, seed=3)
    return class_conditional_curve(X, y, score_model="auto", noise_levels=LEVELS)


def z_scores(curve, name, expected):
    return (getattr(curve, name) - expected) / getattr(curve, f"{name}_stderr")


@pytest.mark.parametrize("score_model", [SCORES, "gaussian"], ids=["given", "fitted"])
def test_gaussian_classes_have_their_closed_form(score_model):
    X, y = labelled(4000, seed=1)
    curve = class_conditional_curve(
        X, y, score_model=score_model, noise_levels=LEVELS, unconditional=False
    ).curve
    t = LEVELS**2
    J = of_classes(lambda v, t: 1 / (v + t))
    R = of_classes(lambda v, t: 1 / (v + t) ** 2)
    for name, exact in [
        ("fisher_information", J),
        ("fisher_information_rate", R),
        ("mmse", t - t**2 * J),
        ("mmse_rate", 1 - 2 * t * J + t**2 * R),
        ("effective_dimension", 1 - t * J),
        ("noise_gain", 1 - 2 * t * J),
        ("complexity_penalty", t**2 * R),
    ]:
        assert np.all(np.abs(z_scores(curve, name, exact)) < 4), name
    viv = np.pi / 2 * np.dot(P, np.sqrt(VARIANCES))
    assert_allclose(curve.viv_gaussian, viv, rtol=0.05)
    assert curve.valid[1:].all()


def test_the_average_is_that_of_the_classes(found):
    shares = found.shares
    curve = found.curve
    for name in (
        "fisher_information",
        "fisher_information_rate",
        "mmse_rate",
        "mutual_information",
        "fisher_information_bounds",
        "mutual_information_bounds",
        "noise_prediction_score",
    ):
        parts = np.stack([getattr(part, name) for part in found.class_curves])
        assert_allclose(getattr(curve, name), np.tensordot(shares, parts, 1), rtol=1e-12)
    assert_allclose(
        curve.viv, sum(p * c.viv for p, c in zip(shares, found.class_curves, strict=True))
    )
    assert curve.n_samples == 3000
    assert found[1] is found.class_curves[1]


def test_identities_between_quantities_survive_the_average(found):
    c, t = found.curve, LEVELS**2
    assert_allclose(c.mmse, t - t**2 * c.fisher_information)
    assert_allclose(c.mmse_rate, c.noise_gain + c.complexity_penalty)
    assert_allclose(c.effective_dimension, 1 - t * c.fisher_information)
    diagonal = np.sqrt(np.diag(c.complexity_penalty_covariance))
    assert_allclose(diagonal, c.complexity_penalty_stderr, rtol=0.01)


def test_the_label_tells_what_quadrature_says(found):
    exact = np.asarray([label_information(sigma) for sigma in LEVELS])
    slack = np.diff(found.label_information_bounds, axis=1)[:, 0]
    error = np.abs(found.label_information - exact)
    assert np.all(error < 4 * found.label_information_stderr + slack)
    assert_allclose(found.label_information[:2], exact[:2], rtol=0.15)
    assert np.all(found.fisher_information_gap > -2 * found.fisher_information_gap_stderr)
    p = found.shares
    assert_allclose(found.label_entropy, -np.sum(p * np.log(p)))
    assert np.all(found.label_information_bounds >= 0)
    assert np.all(found.label_information_bounds <= found.label_entropy)


def test_one_class_is_the_plain_curve_of_its_own_noise():
    X, _ = labelled(400)
    alone = class_conditional_curve(
        X, np.zeros(400), score_model="gaussian", noise_levels=LEVELS, unconditional=False
    )
    for name in ("fisher_information", "fisher_information_stderr", "mmse_rate_stderr"):
        assert_allclose(getattr(alone.curve, name), getattr(alone.class_curves[0], name))
    assert alone.label_entropy == 0.0
    assert np.all(np.isnan(alone.label_information))
    assert alone.unconditional is None


def test_stated_errors_are_those_of_many_samples():
    # classes of different J, so that the sampling of their shares is a good part of the error
    two = GaussianMixtureScore([0.5, 0.5], [[-1.0], [1.0]], [[[0.05]], [[0.05]]])
    spread = {"a": two, "b": GaussianScore([0.0], [[2.0]])}
    values, errors = [], []
    for seed in range(150):
        rng = np.random.default_rng(seed)
        y = np.where(rng.random(200) < 0.4, "a", "b")
        noise = rng.standard_normal((200, 1))
        sides = rng.choice([-1.0, 1.0], (200, 1))
        X = np.where((y == "a")[:, None], sides + noise * 0.05**0.5, noise * 2**0.5)
        curve = class_conditional_curve(
            X,
            y,
            score_model=spread,
            noise_levels=[0.5],
            random_state=seed,
            bracket=False,
            unconditional=False,
        ).curve
        values.append([curve.fisher_information[0], curve.complexity_penalty[0]])
        errors.append(
            [curve.fisher_information_stderr[0], curve.complexity_penalty_covariance[0, 0] ** 0.5]
        )
    ratio = np.std(values, axis=0) / np.mean(errors, axis=0)
    assert np.all(np.abs(ratio - 1) < 4 / math.sqrt(2 * 150))
    inner = mixture_1d_oracle([0.5, 0.5], [-1.0, 1.0], [0.05, 0.05], [0.5])
    exact = 0.4 * inner.fisher_information[0] + 0.6 / 2.25
    z = (np.mean(values, axis=0)[0] - exact) / (np.mean(errors, axis=0)[0] / math.sqrt(150))
    assert abs(z) < 4


def test_classes_draw_their_own_noise():
    X, _ = labelled(100)
    twice = class_conditional_curve(
        np.concatenate([X, X]),
        np.repeat([0, 1], 100),
        score_model="gaussian",
        noise_levels=LEVELS,
        unconditional=False,
    )
    one, other = twice.class_curves
    assert not np.any(one.fisher_information == other.fisher_information)


def test_integer_weights_are_repetition():
    X, y = labelled(120)
    weights = np.random.default_rng(2).integers(0, 4, 120)
    settings = {"score_model": "gaussian", "noise_levels": LEVELS, "unconditional": False}
    weighted = class_conditional_curve(X, y, sample_weight=weights, **settings)
    repeated = class_conditional_curve(X.repeat(weights, axis=0), y.repeat(weights), **settings)
    assert_allclose(weighted.shares, repeated.shares)
    assert_allclose(weighted.shares_covariance, repeated.shares_covariance)
    for name in ("fisher_information", "fisher_information_stderr", "viv"):
        assert_allclose(getattr(weighted.curve, name), getattr(repeated.curve, name), rtol=1e-9)


def test_a_class_without_weight_is_no_class():
    X, y = labelled(120)
    found = class_conditional_curve(
        X, y, score_model="gaussian", noise_levels=LEVELS, sample_weight=(y == 1).astype(float)
    )
    assert found.classes == (1,)
    assert_allclose(found.shares, [1.0])


def test_groups_within_a_class_are_what_the_shares_count():
    X, y = labelled(400)
    order = np.argsort(y, kind="stable")
    X, y = X[order], y[order]
    count = int((y == 0).sum())
    groups = np.concatenate([np.arange(count) // 4, 1000 + np.arange(400 - count) // 4])
    settings = {"score_model": "gaussian", "noise_levels": LEVELS, "unconditional": False}
    plain = class_conditional_curve(X, y, **settings)
    grouped = class_conditional_curve(X, y, groups=groups, **settings)
    ratio = grouped.shares_covariance[0, 0] / plain.shares_covariance[0, 0]
    assert_allclose(ratio, 4, rtol=0.1)


def test_groups_across_classes_widen_the_errors_within_them():
    X, y = labelled(400)
    settings = {"score_model": "gaussian", "noise_levels": LEVELS, "unconditional": False}
    plain = class_conditional_curve(X, y, **settings).curve
    across = class_conditional_curve(X, y, groups=np.arange(400) // 8, **settings).curve
    ratio = across.fisher_information_stderr / plain.fisher_information_stderr
    assert np.all(ratio > 1.1)
    assert np.all(ratio < 2.0)


def test_invalid_levels_name_their_classes():
    X, y = labelled(80)
    found = class_conditional_curve(X, y, score_model="gaussian", noise_levels=LEVELS)
    assert found.class_valid.shape == (4, 2)
    assert not found.curve.valid[0]
    assert "not valid by themselves: classes 0, 1)" in found.curve.reasons[0]


def test_errors_of_classes_average_out_and_bounds_do_not():
    t = LEVELS
    parts = [gaussian_curve(np.eye(1) * v, t) for v in VARIANCES]
    pooled = pool_curves(parts, np.asarray(P), np.zeros((2, 2)), labels=(0, 1), n_units=1e4)
    assert pooled.valid.all()
    bad = [
        type(parts[0])(**{**vars(parts[0]), "fisher_information_bounds": bounds})
        for bounds in [parts[0].fisher_information_bounds * [0.5, 1.5]]
    ]
    broken = pool_curves([*bad, parts[1]], np.asarray(P), np.zeros((2, 2)), n_units=1e4)
    assert not broken.valid.any()
    assert "bracket wider" in broken.reasons[0]


def test_curves_on_different_grids_are_not_averaged():
    one, other = gaussian_curve(np.eye(1), LEVELS), gaussian_curve(np.eye(1), LEVELS * 2)
    with pytest.raises(ValueError, match="curves have different noise levels"):
        pool_curves([one, other], np.asarray(P), np.zeros((2, 2)))


# -- new rows ------------------------------------------------------------------------------------


def test_new_rows_are_measured_under_the_fitted_models(found):
    X, y = labelled(2000, seed=11)
    curve = curve_of_classes(found, X, y)
    J = of_classes(lambda v, t: 1 / (v + t))
    assert np.all(np.abs(z_scores(curve, "fisher_information", J)) < 4)
    assert np.all(np.isnan(curve.fisher_information_bounds[:, 1]))
    assert_array_equal(curve.noise_levels, LEVELS)


def test_an_unknown_class_is_refused(found):
    X, y = labelled(100)
    with pytest.raises(ValueError, match="class 2, which was not fitted: the classes are 0, 1"):
        curve_of_classes(found, X, y + 1)


def test_a_single_row_of_a_class_is_refused(found):
    X, y = labelled(100)
    rows = [*np.flatnonzero(y == 0)[:20], np.flatnonzero(y == 1)[0]]
    with pytest.raises(ValueError, match=r"class 1 has 1 distinct rows .* but needs 2"):
        curve_of_classes(found, X[rows], y[rows])


def test_rows_of_another_space_are_refused(found):
    X, y = labelled(100)
    with pytest.raises(ValueError, match="X has 2 features, but the classes were fitted on 1"):
        curve_of_classes(found, np.hstack([X, X]), y)


# -- input and refusals --------------------------------------------------------------------------


def test_everything_follows_x(library):
    X, y = labelled(200)
    for dtype in ("float64", "float32"):
        found = class_conditional_curve(
            library(X, dtype), y, score_model="gaussian", noise_levels=LEVELS
        )
        for array in (
            found.shares,
            found.curve.fisher_information,
            found.label_information_bounds,
            found[0].mmse,
            found.unconditional.mmse,
        ):
            assert library.owns(array, dtype)
    reference = class_conditional_curve(X, y, score_model="gaussian", noise_levels=LEVELS)
    assert_allclose(to_numpy(found.curve.mmse), reference.curve.mmse, rtol=1e-4)


def test_image_shaped_latents_are_their_rows():
    rng = np.random.default_rng(0)
    Z, y = rng.normal(size=(100, 2, 1, 2)), np.arange(100) % 2
    settings = {"score_model": "gaussian", "noise_levels": [1.0], "unconditional": False}
    image = class_conditional_curve(Z, y, **settings)
    rows = class_conditional_curve(Z.reshape(100, -1), y, latent_shape=(2, 1, 2), **settings)
    assert_array_equal(image.curve.mmse, rows.curve.mmse)
    with pytest.raises(ValueError, match="latent_shape is"):
        class_conditional_curve(Z.reshape(100, -1), y, latent_shape=(3, 1, 2), **settings)


def test_labels_may_be_text_and_keep_their_type():
    X, y = labelled(200)
    names = np.asarray(["cat", "dog"])[y]
    found = class_conditional_curve(
        X, names.tolist(), score_model="gaussian", noise_levels=LEVELS, unconditional=False
    )
    assert found.classes == ("cat", "dog")
    assert found["dog"].n_samples == int(y.sum())
    with pytest.raises(KeyError, match="no class 'cow' among 'cat', 'dog'"):
        found["cow"]
    assert "2 classes" in repr(found)


def test_a_rare_class_is_refused_by_its_name_and_count():
    X, y = labelled(200)
    y[:3] = 7
    with pytest.raises(
        ValueError, match=f"class 7 has 3 distinct rows .* but needs {MIN_CLASS_ROWS}"
    ):
        class_conditional_curve(X, y, score_model="gaussian")
    X[y == 1] = 1.0
    with pytest.raises(ValueError, match="class 1 has 1 distinct rows"):
        class_conditional_curve(X[y != 7], y[y != 7], score_model=SCORES)


def test_few_groups_of_a_class_are_refused():
    X, y = labelled(200)
    groups = np.where(y == 0, np.arange(200), 1000 + np.arange(200) % 3)
    with pytest.raises(ValueError, match="class 1 has 3 independent groups"):
        class_conditional_curve(X, y, score_model="gaussian", groups=groups)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (None, "y is None"),
        (np.zeros(3), r"y has shape \(3,\), but X has 200 rows"),
        (np.where(np.arange(200) < 5, np.nan, 1.0), "y holds NaN"),
        (np.asarray([None, *range(199)], dtype=object), "y holds NaN"),
        (np.asarray(["a", *range(199)], dtype=object), "y holds labels of several types"),
    ],
)
def test_labels_that_are_none_are_refused(y, message):
    with pytest.raises(ValueError, match=message):
        class_conditional_curve(labelled(200)[0], y)


@pytest.mark.parametrize("score_model", [SCORES[0], GaussianScore, None, lambda y, sigma: -y])
def test_one_score_for_every_class_is_refused(score_model):
    X, y = labelled(100)
    with pytest.raises(TypeError, match="every class has its own: pass a mapping"):
        class_conditional_curve(X, y, score_model=score_model)


def test_an_unknown_family_is_refused():
    X, y = labelled(100)
    with pytest.raises(ValueError, match="score_model is 'best': choose one of auto"):
        class_conditional_curve(X, y, score_model="best")


def test_a_class_without_a_model_is_refused():
    X, y = labelled(100)
    with pytest.raises(ValueError, match="no model for class 1: it has models for 0"):
        class_conditional_curve(X, y, score_model={0: SCORES[0]})


def test_no_probes_are_refused():
    X, y = labelled(100)
    with pytest.raises(ValueError, match="n_probes is 0"):
        class_conditional_curve(X, y, n_probes=0)


def test_scaling_the_latents_scales_the_curve():
    X, y = labelled(300)
    settings = {"score_model": "gaussian", "unconditional": False}
    one = class_conditional_curve(X, y, **settings)
    other = class_conditional_curve(normalize_latents(X, 1.0, 4.0), y, **settings)
    assert_allclose(other.curve.fisher_information * 16, one.curve.fisher_information, rtol=1e-8)
    assert_allclose(other.curve.viv, 4 * one.curve.viv, rtol=1e-8)


# -- the estimators' face ------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::skfisher.exceptions.UnreliableEstimateWarning")
@pytest.mark.parametrize("Estimator", [FisherInformationEstimator, FIRateEstimator])
def test_a_class_conditional_estimator_is_the_pooled_curve_and_scores_by_label(Estimator):
    X, y = two_blobs()
    levels = [0.5, 1.0, 2.0]
    est = Estimator("gaussian", levels, class_conditional=True).fit(X, y)
    found = class_conditional_curve(X, y, score_model="gaussian", noise_levels=levels)
    np.testing.assert_array_equal(est.fisher_information_, found.curve.fisher_information)
    assert est.conditional_.classes == found.classes
    assert all("per class" in name for name in est.score_model_)
    plain = Estimator("gaussian", levels).fit(X, y)
    assert (est.fisher_information_ > plain.fisher_information_).all()
    fresh, labels = two_blobs(seed=1)
    assert est.score(fresh, labels) != plain.score(fresh, labels)
    # a row scored under the other class's law is scored badly
    if Estimator is FisherInformationEstimator:
        assert est.score(fresh, labels) > est.score(fresh, 1 - labels)


def test_a_class_conditional_estimator_needs_labels_and_all_rows_at_once():
    X, _ = two_blobs()
    est = FIRateEstimator(GaussianScore([0.0], [[1.0]]), [1.0], class_conditional=True)
    with pytest.raises(ValueError, match="y"):
        FIRateEstimator("gaussian", [1.0], class_conditional=True).fit(X)
    assert not hasattr(est, "partial_fit")


def two_blobs(N=600, seed=0):
    rng = np.random.default_rng(seed)
    y = np.arange(N) % 2
    return rng.standard_normal((N, 2)) + np.outer(y, [5.0, 0.0]), y
