"""The information curve as a function: the estimators' numbers, of rows and of images."""

import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from skfisher.conditional import class_conditional_curve
from skfisher.estimators import FIRateEstimator
from skfisher.exceptions import UnnormalizedLatentsWarning
from skfisher.functional import information_curve
from skfisher.scores import GaussianScore

FAST = {"score_model": "gaussian", "noise_levels": [0.5, 1.0]}


@pytest.fixture
def Z(rng):
    return rng.normal(size=(200, 2, 2, 2))


def test_it_is_the_curve_of_the_estimator(Z):
    rows = Z.reshape(200, -1)
    curve = information_curve(rows, **FAST)
    fitted = FIRateEstimator(**FAST).fit(rows).curve_
    assert_array_equal(curve.mmse_rate, fitted.mmse_rate)
    assert_array_equal(information_curve(Z, **FAST).mmse_rate, fitted.mmse_rate)


def test_everything_follows_x(library, Z):
    curve = information_curve(library(Z, "float32"), **FAST)
    assert library.owns(curve.fisher_information, "float32")
    conditional = information_curve(
        library(Z), y=np.arange(200) % 2, class_conditional=True, **FAST
    )
    assert library.owns(conditional.fisher_information)


def test_class_conditional_is_the_average_over_classes(Z):
    y = np.arange(200) % 2
    curve = information_curve(Z, y=y, class_conditional=True, **FAST)
    assert_array_equal(curve.mmse, class_conditional_curve(Z, y, **FAST).curve.mmse)


def test_standardizing_is_per_channel(Z):
    factors = np.asarray([1.0, 10.0])[:, None, None]
    curve = information_curve(Z * factors + 3, standardize=True, **FAST)
    again = information_curve(
        (Z * factors).reshape(200, -1), latent_shape=(2, 2, 2), standardize=True, **FAST
    )
    assert_allclose(curve.mmse, again.mmse, rtol=1e-8)
    assert_allclose(curve.mmse, information_curve(Z, **FAST).mmse, rtol=0.05)


def test_the_factors_of_a_configuration_are_applied(Z):
    raw = Z * 4 + 2
    config = {"scaling_factor": 0.25, "shift_factor": 2.0}
    curve = information_curve(raw, config=config, **FAST)
    assert_allclose(curve.mmse, information_curve(Z, **FAST).mmse, rtol=1e-8)


def test_a_common_scale_needs_no_word_and_unlike_channels_do(Z):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        information_curve(Z * 9, score_model="gaussian", noise_levels=[5.0])
        information_curve(Z.reshape(200, -1) * np.geomspace(1, 99, 8), **FAST)
    Z[:, 0] *= 9
    with pytest.warns(UnnormalizedLatentsWarning, match="not balanced") as caught:
        information_curve(Z, **FAST)
    assert caught[0].filename == __file__


def test_a_given_model_expects_what_it_was_trained_on(Z):
    model = GaussianScore(np.zeros(8), np.eye(8))
    with pytest.warns(UnnormalizedLatentsWarning, match="not normalized"):
        information_curve(Z * 9, score_model=model, noise_levels=[1.0])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"class_conditional": True}, "class_conditional is True but y is None"),
        ({"y": np.zeros(200)}, "y was passed but class_conditional is False"),
        ({"standardize": True, "config": {}}, "choose the statistics of the sample or"),
        ({"latent_shape": (3, 2, 2)}, "latent_shape is"),
        ({"config": {}}, "has none of scaling_factor"),
    ],
)
def test_contradictions_are_refused(Z, settings, message):
    with pytest.raises(ValueError, match=message):
        information_curve(Z.reshape(200, -1), **settings)
