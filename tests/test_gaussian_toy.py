"""The toy experiment: Gaussian data through linear encoders, by three routes that must agree."""

import numpy as np
import pytest

from benchmarks.gaussian_toy import (
    LEVELS,
    compression_share,
    exact_sandwiches,
    full_rank_law,
    subspace_law,
    toy_encoders,
)
from skfisher import LatentGeometryAuditor
from skfisher.bounds import isometry_identity
from skfisher.crossfit import cross_fitted_curve
from skfisher.samples import make_sample
from skfisher.testing import assert_close, mixture_1d_oracle

LAWS = {"subspace": subspace_law(), "full rank": full_rank_law()}
ENCODERS = [
    pytest.param(encoder, id=f"{law}-{encoder.name}")
    for law in LAWS
    for encoder in toy_encoders(LAWS[law])
]
ON_SUBSPACE = [param for param in ENCODERS if param.id.startswith("subspace")]
FORMS = ("fisher_information", "fisher_information_rate", "mmse", "mmse_rate")


def named(name, law="subspace"):
    return next(e for e in toy_encoders(LAWS[law]) if e.name == name)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_closed_forms_equal_quadrature_along_the_latents_axes(encoder):
    levels = encoder.scale * LEVELS
    # the rounding of a lost direction's variance, in the noise's unit, is no variance
    variances = np.linalg.eigvalsh(encoder.covariance).clip(0.0)
    axes = [mixture_1d_oracle([1.0], [0.0], [variance], levels) for variance in variances]
    for name in (*FORMS, "effective_dimension"):
        total = np.sum([getattr(axis, name) for axis in axes], axis=0)
        assert_close(getattr(encoder.curve(), name), total, rtol=1e-7, err_msg=name)


@pytest.mark.parametrize("encoder", ON_SUBSPACE)
def test_closed_forms_equal_averages_over_draws(encoder):
    """Moments of score and posterior at 20,000 noisy latents, none taken from the closed form."""
    size, sigma = 20_000, encoder.scale * LEVELS[2]
    rng = np.random.default_rng(11)
    Z = encoder(encoder.law.sample(size, 12))
    Y = Z + sigma * rng.standard_normal(Z.shape)
    gain = encoder.covariance @ np.linalg.inv(
        encoder.covariance + sigma**2 * np.eye(encoder.n_features)
    )
    posterior = Y @ gain.T
    score = (posterior - Y) / sigma**2
    curve = encoder.curve(LEVELS[2:3])
    draws = {
        "fisher_information": np.sum(score**2, axis=1),
        "mmse": np.sum((Z - posterior) ** 2, axis=1),
    }
    for name, values in draws.items():
        error = values.std() / np.sqrt(size)
        assert abs(values.mean() - getattr(curve, name)[0]) < 4 * error, name


def test_the_rates_are_derivatives_of_what_they_are_the_rates_of():
    for encoder in toy_encoders(LAWS["subspace"]):
        h = 1e-4
        below, middle, above = (encoder.curve(LEVELS * np.sqrt(1 + s)) for s in (-h, 0.0, h))
        dt = 2 * h * middle.noise_levels**2
        slope = (above.mmse - below.mmse) / dt
        np.testing.assert_allclose(slope, middle.mmse_rate, rtol=1e-5, atol=1e-8)
        slope = (above.fisher_information - below.fisher_information) / dt
        np.testing.assert_allclose(-slope, middle.fisher_information_rate, rtol=1e-5)


@pytest.mark.parametrize("encoder", ON_SUBSPACE)
def test_estimates_from_rows_meet_the_closed_forms_within_their_errors(encoder):
    truth = encoder.curve()
    sample = make_sample(encoder(encoder.law.sample(4000, 21)))
    curve = cross_fitted_curve(sample, truth.noise_levels, "gaussian", bracket=False).curve
    for name in FORMS:
        z = (getattr(curve, name) - getattr(truth, name)) / getattr(curve, f"{name}_stderr")
        assert np.max(np.abs(z)) < 4, name


@pytest.mark.parametrize("encoder", ENCODERS)
def test_every_sandwich_is_proved_and_holds(encoder):
    found = exact_sandwiches(encoder, np.geomspace(0.01, 50, 25))
    assert len(found) == (7 if encoder.rank == encoder.law.rank else 5)
    for name, sandwich in found.items():
        assert sandwich.status == "proved", name
        assert np.all(sandwich.holds), name


@pytest.mark.parametrize("name", ["isometry", "expansion"])
@pytest.mark.parametrize("law", LAWS)
def test_sandwiches_of_a_scaled_isometry_have_no_room(name, law):
    encoder = named(name, law)
    assert encoder.constants == pytest.approx((encoder.scale, encoder.scale))
    for sandwich in exact_sandwiches(encoder).values():
        assert_close(sandwich.lower, sandwich.upper, rtol=1e-9)
    for quantity in FORMS:
        identity = isometry_identity(
            encoder.curve(), encoder.law.curve(), c=encoder.scale, quantity=quantity, rigid=True
        )
        assert "violated" not in identity.verdict
        assert_close(identity.value, identity.lower, rtol=1e-9)


def test_sandwiches_widen_with_the_condition_number():
    widths = []
    for condition in (2, 8, 32):
        sandwich = exact_sandwiches(named(f"stretch {condition}"))["mmse, tight"]
        widths.append(sandwich.upper / sandwich.lower)
    assert np.all(np.diff(widths, axis=0) > 0)


def test_distortion_is_the_spread_of_the_log_singular_values():
    for condition in (2, 8, 32):
        encoder = named(f"stretch {condition}")
        assert encoder.scale == pytest.approx(1.0)
        # four factors, geometric: log s^2 = log(condition) times 1, 1/3, -1/3, -1
        assert encoder.tangential_distortion == pytest.approx(np.log(condition) ** 2 * 5 / 9)
        assert encoder.dimensional_compression == 0.0
    assert named("isometry").tangential_distortion == pytest.approx(0.0, abs=1e-20)
    assert named("drop to 2").dimensional_compression == 0.5


@pytest.mark.parametrize("encoder", ENCODERS)
def test_the_change_of_fi_and_fir_is_bookkeeping_and_the_rest(encoder):
    data, latent, c, t = encoder.law.curve(), encoder.curve(), encoder.scale, LEVELS**2
    split = compression_share(encoder)
    change = t * (c**2 * latent.fisher_information - data.fisher_information)
    np.testing.assert_allclose(change, split["d - D"] + split["rest of FI"], atol=1e-9)
    change = t**2 * (c**4 * latent.fisher_information_rate - data.fisher_information_rate)
    np.testing.assert_allclose(change, split["d - D"] + split["rest of FIR"], atol=1e-9)


def test_where_no_direction_is_lost_dimensions_make_the_whole_change_of_fir_at_small_noise():
    for encoder in toy_encoders(LAWS["subspace"]):
        share = compression_share(encoder, np.asarray([1e-3]))["share of FIR"][0]
        assert share > 0.999 or encoder.rank < encoder.law.rank
    lost = compression_share(named("drop to 2"), np.asarray([1e-3]))
    # each of the lost directions gives one back: it is without variance now
    assert lost["rest of FIR"][0] == pytest.approx(2.0, abs=1e-3)


def test_distortion_moves_the_mmse_rate_and_an_isometry_does_not():
    data = LAWS["subspace"].curve().mmse_rate
    gaps = {
        e.name: np.max(np.abs(e.curve().mmse_rate - data)) for e in toy_encoders(LAWS["subspace"])
    }
    assert gaps["isometry"] < 1e-9
    assert gaps["expansion"] < 1e-9
    assert 0 < gaps["stretch 2"] < gaps["stretch 8"] < gaps["stretch 32"]


@pytest.mark.parametrize("name", ["isometry", "drop to 2", "stretch 32", "expansion", "random"])
def test_an_audit_finds_the_encoders_constants(name):
    encoder = named(name)
    X = encoder.law.sample(200, 5)
    audit = LatentGeometryAuditor(
        encoder, score_model="gaussian", noise_levels=[1.0, 3.0], max_points=200
    ).fit(X)
    assert audit.bi_lipschitz_ == pytest.approx(encoder.constants, abs=1e-9)
    assert audit.scale_ == pytest.approx(encoder.scale)
    penalties = audit.penalties_
    assert penalties.tangential_distortion == pytest.approx(encoder.tangential_distortion, abs=1e-9)
    assert penalties.dimensional_compression == encoder.dimensional_compression
    assert penalties.encoder_curvature == 0.0
    assert "violated" not in [w for s in audit.sandwiches_.values() for w in s.verdict]
