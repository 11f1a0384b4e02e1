"""Channels of image-shaped latents: shapes, statistics, factors of configurations, the guard."""

import warnings
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from skfisher._backend.arrays import to_numpy
from skfisher.channels import (
    ChannelLimits,
    channel_report,
    check_latent_shape,
    flatten_latents,
    latent_normalization,
    normalize_latents,
    per_feature,
    warn_if_unnormalized,
)
from skfisher.exceptions import UnnormalizedLatentsWarning


@pytest.fixture
def Z(rng):
    scale = np.asarray([1.0, 5.0, 0.2])[:, None, None]
    return rng.normal(size=(300, 3, 4, 2)) * scale + np.asarray([0.0, -3.0, 0.5])[:, None, None]


# -- shapes --------------------------------------------------------------------------------------


def test_columns_of_a_channel_stand_side_by_side(library):
    values = np.arange(24.0).reshape(2, 3, 2, 2)
    rows, shape = flatten_latents(library(values))
    assert library.owns(rows)
    assert shape == (3, 2, 2)
    per = per_feature(library([0.0, 1.0, 2.0]), shape)
    assert library.owns(per)
    assert_array_equal(to_numpy(per), [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2])
    assert_array_equal(to_numpy(rows)[0, 4:8], values[0, 1].ravel())


def test_rows_are_kept_and_have_no_shape_of_their_own(Z):
    rows, shape = flatten_latents(Z.reshape(300, -1))
    assert shape is None
    assert rows.shape == (300, 24)
    nested, shape = flatten_latents([[[1, 2], [3, 4]], [[5, 6], [7, 8]]])
    assert shape == (2, 2)
    assert nested.dtype == np.float64


def test_a_latent_that_is_not_finite_is_refused_by_its_row(Z):
    Z[17, 1, 0, 0] = np.nan
    with pytest.raises(ValueError, match=r"Z contains NaN or infinity in 1 of 300 rows.*row 17"):
        flatten_latents(Z, name="Z")


@pytest.mark.parametrize("shape", [(4, 0), (1.5, 2), "CHW", 12, (-3, -4)])
def test_a_shape_that_is_none_is_refused(shape):
    with pytest.raises(ValueError, match="pass positive integers, channels first"):
        check_latent_shape(shape, 12)


def test_a_shape_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"\(4, 2, 2\), which is 16 numbers.*12 features"):
        check_latent_shape((4, 2, 2), 12)
    assert check_latent_shape(None, 12) == (12,)
    assert check_latent_shape(np.asarray([3, 4]), 12) == (3, 4)


# -- the report ----------------------------------------------------------------------------------


def test_the_report_is_that_of_the_flattened_channels(Z, library):
    report = channel_report(library(Z))
    assert library.owns(report.mean)
    assert library.owns(report.scale)
    assert_allclose(to_numpy(report.mean), Z.mean(axis=(0, 2, 3)))
    assert_allclose(to_numpy(report.std), Z.std(axis=(0, 2, 3)))
    assert_array_equal(to_numpy(report.minimum), Z.min(axis=(0, 2, 3)))
    assert_array_equal(to_numpy(report.maximum), Z.max(axis=(0, 2, 3)))
    assert_allclose(report.overall_std, Z.std())
    assert_allclose(report.rms, np.sqrt((Z**2).mean()))
    assert_allclose(report.scaling_factor, 1 / Z.std())


def test_two_dimensions_with_a_shape_are_the_image(Z):
    flat = channel_report(Z.reshape(300, -1), (3, 4, 2))
    image = channel_report(Z)
    assert_array_equal(flat.std, image.std)
    assert flat.latent_shape == image.latent_shape
    assert channel_report(Z.reshape(300, -1)).latent_shape == (24,)


def test_standard_errors_are_those_of_many_samples():
    # positions of one sample move together: counting them as independent would be 3 times too small
    rng = np.random.default_rng(5)
    found = [
        channel_report(
            rng.normal(size=(60, 1, 1, 1)) * 2 + 0.3 * rng.normal(size=(60, 1, 4, 4)) + 1.0
        )
        for _ in range(400)
    ]
    for name in ("mean", "std"):
        values = np.asarray([float(getattr(report, name)[0]) for report in found])
        stated = np.asarray([float(getattr(report, f"{name}_stderr")[0]) for report in found])
        # a standard deviation of 400 values is known to 1 / sqrt(800)
        assert abs(values.std() / stated.mean() - 1) < 4 / np.sqrt(800)


def test_shift_and_scale_normalise(Z):
    report = channel_report(Z)
    assert not report.normalized
    again = channel_report(normalize_latents(Z, report.shift, report.scale))
    assert again.normalized
    assert again.balanced
    assert_allclose(again.mean, 0, atol=1e-12)
    assert_allclose(again.std, 1)


def test_one_scale_for_all_channels_is_balanced_but_not_normalized(rng):
    report = channel_report(rng.normal(size=(200, 4, 3, 3)) * 6)
    assert report.balanced
    assert not report.normalized
    assert "standard deviation of channels 0, 1, 2, 3 above 2" in report.text


def test_every_verdict_has_its_reason(Z):
    report = channel_report(Z)
    assert not report.balanced
    assert "mean of channel 1 beyond 0.5 (channel 1: -3" in report.text
    assert "standard deviation of channel 2 below 0.5" in report.text
    assert "standard deviation of channel 1 above 2" in report.text
    assert "times apart (channel 2: 0.2" in report.text
    assert report.text.splitlines()[1].startswith("channel 0: mean")
    assert repr(report).startswith("ChannelReport(3 channels, n_samples=300")


def test_a_limit_is_missed_only_beyond_the_errors(rng):
    few = rng.normal(size=(6, 1, 1, 1)) + 0.55
    report = channel_report(few, limits=ChannelLimits(mean=abs(few.mean()) * 0.9))
    assert report.normalized
    strict = channel_report(few, limits=ChannelLimits(mean=abs(few.mean()) * 0.9, n_errors=0.0))
    assert not strict.normalized


def test_a_constant_channel_is_dead_and_keeps_its_unit(Z):
    Z[:, 1] = 0.1 + 0.2
    report = channel_report(Z)
    assert report.dead == (1,)
    assert report.std[1] == 0
    assert report.scale[1] == 1
    assert "channel 1 dead" in report.text
    assert not report.balanced


def test_a_large_offset_costs_no_digits(rng):
    Z = rng.normal(size=(100, 2, 3))
    assert_allclose(channel_report(Z + 1e7).std, channel_report(Z).std, rtol=1e-6)


def test_many_channels_are_not_all_listed(rng):
    text = channel_report(rng.normal(size=(50, 20)) * 9).text
    assert "and 12 more channels" in text
    assert "and 12 more above 2" in text


def test_an_image_has_its_own_shape(Z):
    with pytest.raises(ValueError, match=r"latent_shape is \(24,\), but Z has samples of shape"):
        channel_report(Z, (24,))


# -- factors -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "shift", "scale"),
    [
        ({"scaling_factor": 0.18215}, 0.0, 0.18215),
        ({"scaling_factor": 0.3611, "shift_factor": 0.1159}, 0.1159, 0.3611),
        ({"scaling_factor": 1.0, "shift_factor": None, "latents_mean": None}, 0.0, 1.0),
        (
            {"latents_mean": [1.0, -1.0], "latents_std": [2.0, 4.0], "scaling_factor": 0.5},
            (1.0, -1.0),
            (0.25, 0.125),
        ),
        ({"latents_mean": np.asarray([1.0, 2.0])}, (1.0, 2.0), 1.0),
    ],
)
def test_a_configuration_gives_the_factors_of_its_pipeline(config, shift, scale):
    assert latent_normalization(config) == (shift, scale)
    assert latent_normalization(SimpleNamespace(**config)) == (shift, scale)
    assert latent_normalization(SimpleNamespace(config=config)) == (shift, scale)


def test_a_model_may_hold_its_statistics_itself():
    model = SimpleNamespace(config={"scaling_factor": 2.0}, latents_std=np.asarray([4.0, 8.0]))
    assert latent_normalization(model) == (0.0, (0.5, 0.25))


def test_a_configuration_without_factors_is_refused():
    with pytest.raises(ValueError, match="dict has none of scaling_factor, shift_factor"):
        latent_normalization({"sample_size": 32})


def test_two_shifts_are_refused():
    with pytest.raises(ValueError, match="which of the two a pipeline subtracts"):
        latent_normalization({"shift_factor": 0.1, "latents_mean": [1.0]})


@pytest.mark.parametrize("config", [{"scaling_factor": 0.0}, {"latents_std": [1.0, -2.0]}])
def test_a_scale_that_is_not_positive_is_refused(config):
    with pytest.raises(ValueError, match="must be positive"):
        latent_normalization(config)


def test_normalising_follows_the_library_and_the_shape(Z, library):
    image = normalize_latents(library(Z), (0.0, -3.0, 0.5), (1.0, 0.2, 5.0))
    flat = normalize_latents(
        library(Z.reshape(300, -1)), [0.0, -3.0, 0.5], [1.0, 0.2, 5.0], (3, 4, 2)
    )
    assert library.owns(image)
    assert_array_equal(to_numpy(image).reshape(300, -1), to_numpy(flat))
    assert_allclose(to_numpy(normalize_latents(library(Z), 1.0, 2.0)), (Z - 1) * 2)


def test_factors_of_another_number_of_channels_are_refused(Z):
    with pytest.raises(ValueError, match="shift has 2 entries, but the latents have 3 channels"):
        normalize_latents(Z, [1.0, 2.0], 1.0)
    with pytest.raises(ValueError, match="pass positive factors"):
        normalize_latents(Z, 0.0, -1.0)


# -- the guard -----------------------------------------------------------------------------------


def test_normalised_latents_pass_without_a_word(rng):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert warn_if_unnormalized(rng.normal(size=(100, 4, 4, 4))).normalized


def test_the_guard_names_the_factors_of_the_sample(Z):
    with pytest.warns(UnnormalizedLatentsWarning, match="not normalized.*shift.*and scale"):
        warn_if_unnormalized(Z)


def test_the_guard_names_the_factors_of_the_configuration(Z):
    config = {"scaling_factor": 0.25}
    with pytest.warns(UnnormalizedLatentsWarning, match=r"the shift is 0 and the scale 0\.25"):
        warn_if_unnormalized(Z, config=config)


def test_a_common_scale_is_nothing_to_what_is_scale_free(rng):
    Z = rng.normal(size=(100, 4, 4, 4)) * 9 + 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not warn_if_unnormalized(Z, scale_free=True).normalized
    Z[:, 0] *= 9
    with pytest.warns(UnnormalizedLatentsWarning, match="not balanced.*times apart"):
        warn_if_unnormalized(Z, scale_free=True)
