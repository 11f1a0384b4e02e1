"""Denoised latents after a decoder: closed forms, invariances, errors that mean what they say."""

import math

import numpy as np
import pytest
from exact_curves import plane_curve
from numpy.testing import assert_allclose, assert_array_equal

from skfisher import decoding
from skfisher._backend.arrays import to_numpy
from skfisher.decoders import linear_decoder
from skfisher.decoding import decoded_error, denoise_held_out
from skfisher.scores.closed import GaussianMixtureScore, GaussianScore

LEVELS = np.asarray([0.1, 0.5, 1.0, 3.0])
COVARIANCE = np.diag([4.0, 1.0, 0.25])
LAW = (
    np.asarray([0.5, 0.3, 0.2]),
    np.asarray([[-2.0, 0.0], [2.0, 0.5], [0.0, 2.0]]),
    np.asarray([np.diag([0.1, 0.3]), np.diag([0.2, 0.1]), np.eye(2) * 0.05]),
)


def gaussian_rows(N, seed=0):
    return np.random.default_rng(seed).normal(size=(N, 3)) @ np.sqrt(COVARIANCE)


def z_of(found, quantity, exact):
    return (getattr(found, quantity) - exact) / getattr(found, f"{quantity}_stderr")


# -- known answers --------------------------------------------------------------------------------


def test_a_gaussian_through_a_linear_decoder_has_the_closed_form(rng):
    A = rng.normal(size=(3, 5))
    model = GaussianScore(np.zeros(3), COVARIANCE)
    found = decoded_error(
        gaussian_rows(6000), A, score_model=model, noise_levels=LEVELS, bracket=False
    )
    t = LEVELS[:, None] ** 2
    left = t * np.diag(COVARIANCE) / (np.diag(COVARIANCE) + t)  # spectrum of t S (S + tI)^-1
    share = np.sum(A**2, axis=1)
    total = np.sum(share * np.diag(COVARIANCE))
    assert np.all(np.abs(z_of(found, "decoded_error", left @ share / total)) < 4)
    assert np.all(np.abs(z_of(found, "linear_error", left @ share / total)) < 4)
    amplification = found.scale**2 * np.sum(share) / total
    assert np.all(np.abs(z_of(found, "sensitivity", amplification)) < 4)
    assert np.all(found.nonlinearity < 0.003)  # the fit of D_lin alone


def test_a_gaussian_model_has_no_nonlinearity():
    found = decoded_error(gaussian_rows(500), np.eye(3), score_model="gaussian")
    assert_allclose(found.nonlinearity, 0.0, atol=1e-20)
    assert_allclose(found.decoded_error, found.linear_error, rtol=1e-12)


def test_through_a_rotation_it_is_the_mmse_over_the_variance(rng):
    model = GaussianMixtureScore(*LAW)
    turn = np.linalg.qr(rng.normal(size=(4, 2)))[0].T  # (2, 4), orthonormal rows
    found = decoded_error(
        model.sample(9000, 1),
        turn,
        score_model=model,
        noise_levels=LEVELS,
        max_points=3000,
        bracket=False,
    )
    weights, means, covariances = LAW
    variance = weights @ (np.trace(covariances, axis1=1, axis2=2) + np.sum(means**2, axis=1))
    variance -= np.sum((weights @ means) ** 2)
    exact = plane_curve(LAW, LEVELS).mmse / variance
    assert np.all(np.abs(z_of(found, "decoded_error", exact)) < 4)


def test_the_nonlinearity_of_two_modes_is_that_of_quadrature():
    model = GaussianMixtureScore([0.5, 0.5], [[-1.0], [1.0]], np.full((2, 1, 1), 0.04))
    found = decoded_error(
        model.sample(9000, 2),
        np.eye(1),
        score_model=model,
        noise_levels=[0.5],
        max_points=3000,
        bracket=False,
    )
    y = np.linspace(-5, 5, 4001)[:, None]
    t = 0.25
    mass = np.exp(model.log_density(y, 0.5)) * (y[1, 0] - y[0, 0])
    linear = 1.04 / (1.04 + t) * y
    exact = mass @ ((y + t * model(y, 0.5) - linear) ** 2)[:, 0] / 1.04
    assert abs(z_of(found, "nonlinearity", exact)[0]) < 4
    # what the affine denoiser leaves is what is left at all, and the gap between the two
    assert_allclose(found.linear_error, found.decoded_error + found.nonlinearity, rtol=0.1)


def test_a_line_wound_on_a_circle_has_the_closed_form():
    s = 0.8
    model = GaussianScore(np.zeros(1), np.asarray([[s**2]]))
    Z = np.random.default_rng(3).normal(size=(6000, 1)) * s

    def wind(z):
        return np.concatenate([np.cos(z), np.sin(z)], axis=1)

    found = decoded_error(Z, wind, score_model=model, noise_levels=LEVELS, bracket=False)
    t, total = LEVELS**2, 1 - math.exp(-(s**2))
    left = t * s**2 / (s**2 + t)
    assert np.all(np.abs(z_of(found, "decoded_error", 2 * (1 - np.exp(-left / 2)) / total)) < 4)
    moved = 2 * (1 - np.exp(-t / 2)) / total * found.scale**2 / t
    assert np.all(np.abs(z_of(found, "sensitivity", moved)) < 4)


def test_a_small_direction_counts_by_what_the_decoder_makes_of_it():
    Z = gaussian_rows(900)
    plain = decoded_error(Z, np.eye(3), score_model="gaussian")
    whitened = decoded_error(Z, np.diag(1 / np.sqrt(np.diag(COVARIANCE))), score_model="gaussian")
    assert np.all(whitened.linear_error[2:8] > 1.3 * plain.linear_error[2:8])


# -- invariances ----------------------------------------------------------------------------------


def test_no_number_depends_on_the_unit_of_the_latent():
    Z = GaussianMixtureScore(*LAW).sample(500, 0)
    one = decoded_error(Z, lambda z: np.tanh(z), score_model="mixture")
    other = decoded_error(Z * 1000, lambda z: np.tanh(z / 1000), score_model="mixture")
    for quantity in decoding.QUANTITIES:
        assert_allclose(getattr(one, quantity), getattr(other, quantity), rtol=1e-6, atol=1e-12)
        assert_allclose(one.mean(quantity, "flow"), other.mean(quantity, "flow"), rtol=1e-6)
    assert one.score_models == other.score_models


def test_no_number_depends_on_a_similarity_of_the_decoded_rows(rng):
    Z = GaussianMixtureScore(*LAW).sample(600, 0)
    turn = np.linalg.qr(rng.normal(size=(2, 2)))[0]
    fitted = denoise_held_out(Z, score_model="gaussian")
    one, other = fitted.through(np.tanh), fitted.through(lambda z: 5 + 3 * np.tanh(z) @ turn)
    for quantity in decoding.QUANTITIES:
        assert_allclose(getattr(one, quantity), getattr(other, quantity), rtol=1e-9, atol=1e-14)
    assert_allclose(other.total_variance, 9 * one.total_variance)


def test_batches_change_nothing(monkeypatch):
    fitted = denoise_held_out(gaussian_rows(300), score_model="gaussian")
    whole = fitted.through(np.tanh)
    monkeypatch.setattr(decoding, "BATCH", 7)
    parts = fitted.through(np.tanh)
    assert_allclose(parts.decoded_error, whole.decoded_error, rtol=1e-10)
    assert_allclose(parts.sensitivity_covariance, whole.sensitivity_covariance, rtol=1e-9)


def test_some_levels_have_the_numbers_that_they_have_among_all():
    fitted = denoise_held_out(gaussian_rows(300), score_model="gaussian")
    whole, some = fitted.through(np.tanh), fitted.through(np.tanh, levels=[2, 5])
    assert_allclose(some.decoded_error, whole.decoded_error[[2, 5]])
    assert_allclose(some.noise_levels, whole.noise_levels[[2, 5]])
    assert some.reasons == (whole.reasons[2], whole.reasons[5])


# -- errors, windows, validity --------------------------------------------------------------------


def test_errors_are_those_of_repetition():
    model = GaussianScore(np.zeros(3), COVARIANCE)
    z = []
    for seed in range(60):
        found = decoded_error(
            gaussian_rows(600, seed), np.eye(3), score_model=model, noise_levels=[1.0],
            random_state=seed, bracket=False,
        )  # fmt: skip
        lam = np.diag(COVARIANCE)
        z.append(float(z_of(found, "decoded_error", np.sum(lam / (lam + 1)) / np.sum(lam))[0]))
    assert abs(np.mean(z)) < 4 / math.sqrt(60)
    assert 0.7 < np.std(z) < 1.35


def test_the_error_of_a_window_counts_the_rows_that_its_levels_share():
    found = decoded_error(gaussian_rows(900), np.eye(3), score_model="gaussian")
    value, error = found.mean("sensitivity")
    assert found.sensitivity.min() < value < found.sensitivity.max()
    independent = np.linalg.norm(found.sensitivity_stderr) / len(found.noise_levels)
    assert error > independent


def test_windows_are_uniform_in_what_they_say():
    found = decoded_error(gaussian_rows(200), np.eye(3), score_model="gaussian")
    sigma, s = np.asarray(found.noise_levels), found.scale
    for over, place in (("log", np.log(sigma)), ("flow", sigma / (s + sigma))):
        exact = np.trapezoid(found.decoded_error, place) / (place[-1] - place[0])
        assert_allclose(found.mean("decoded_error", over)[0], exact)
    one = decoded_error(gaussian_rows(200), np.eye(3), score_model="gaussian", noise_levels=[1.0])
    assert_allclose(one.mean(over="flow")[0], one.decoded_error[0])


def test_a_kernel_does_not_know_the_rows_that_it_is_asked_about():
    Z = np.random.default_rng(0).normal(size=(60, 6))
    found = decoded_error(Z, np.eye(6), score_model="kernel", noise_levels=[0.01])
    assert found.decoded_error[0] > 0.1
    assert not found.valid[0]
    assert found.reasons[0]


def test_a_level_is_valid_where_the_score_is_known():
    Z = np.random.default_rng(0).normal(size=(6000, 1))
    found = decoded_error(Z, np.eye(1), score_model="gaussian", noise_levels=[0.5, 1.0])
    assert found.valid.all()
    assert found.n_samples == 2000
    assert found.n_fitted == 4000
    assert repr(found) == "DecodedError(2 levels, n_samples=2000, valid=2)"


def test_a_mixture_is_chosen_where_it_denoises_better():
    Z = GaussianMixtureScore(*LAW).sample(2000, 0)
    found = decoded_error(Z, np.eye(2), noise_levels=[0.4])
    assert found.score_models[0].startswith("mixture")
    assert found.decoded_error[0] < found.linear_error[0]


def test_equal_rows_are_not_held_out_of_themselves():
    Z = np.repeat(np.random.default_rng(0).normal(size=(40, 5)), 3, axis=0)
    found = decoded_error(Z, np.eye(5), score_model="kernel", noise_levels=[0.01])
    assert found.n_samples + found.n_fitted == 40
    assert found.decoded_error[0] > 0.1


# -- libraries ------------------------------------------------------------------------------------


def test_results_follow_the_latents(library):
    Z = library(gaussian_rows(90))
    seen = []

    def decode(z):
        seen.append(library.owns(z))
        return library.xp.tanh(z)

    found = decoded_error(Z, decode, score_model="gaussian", noise_levels=[0.5, 1.0])
    assert all(seen)
    exact = decoded_error(gaussian_rows(90), np.tanh, score_model="gaussian", noise_levels=[0.5, 1])
    for quantity in decoding.QUANTITIES:
        assert library.owns(getattr(found, quantity))
        assert library.owns(getattr(found, f"{quantity}_covariance"))
        assert_allclose(
            to_numpy(getattr(found, quantity)), getattr(exact, quantity), rtol=1e-9,
            atol=1e-15,
        )  # fmt: skip
    assert_allclose(found.mean(), exact.mean(), rtol=1e-9)
    assert library.owns(linear_decoder(Z, Z))


def test_a_decoder_gets_the_dtype_of_the_latents_and_may_return_another():
    seen = []

    def decode(z):
        seen.append(z.dtype)
        return np.float16(np.tanh(z)).reshape(len(z), 3, 1, 1)

    found = decoded_error(gaussian_rows(90).astype("float32"), decode, score_model="gaussian")
    assert set(seen) == {np.dtype("float32")}
    assert found.decoded_error.dtype == np.float32


def test_a_decoder_in_torch_serves_latents_in_numpy():
    torch = pytest.importorskip("torch")
    module = torch.nn.Linear(3, 4).requires_grad_(True)
    found = decoded_error(
        gaussian_rows(90),
        lambda z: module(torch.as_tensor(z, dtype=torch.float32)),
        score_model="gaussian",
    )
    same = decoded_error(
        gaussian_rows(90),
        module.weight.detach().numpy().T.astype("float64"),
        score_model="gaussian",
    )
    assert_allclose(found.decoded_error, same.decoded_error, rtol=1e-4)


@pytest.mark.parametrize("name", ["decode", "inverse_transform"])
def test_an_object_decodes_by_its_method(name):
    box = type("Box", (), {name: staticmethod(np.tanh)})()
    fitted = denoise_held_out(gaussian_rows(90), score_model="gaussian")
    assert_array_equal(fitted.through(box).decoded_error, fitted.through(np.tanh).decoded_error)


# -- the linear decoder ---------------------------------------------------------------------------


def test_a_linear_decoder_is_found_again(rng):
    Z, A = rng.normal(size=(200, 4)), rng.normal(size=(4, 7))
    assert_allclose(linear_decoder(Z + 3.0, Z @ A - 1.0), A, rtol=1e-5, atol=1e-6)


def test_the_ridge_is_chosen_by_validation(rng):
    Z = rng.normal(size=(40, 30))
    X = Z[:, :1] + 3 * rng.normal(size=(40, 1))
    exact = np.eye(30)[:, :1]
    chosen = linear_decoder(Z, X)
    free = linear_decoder(Z, X, alphas=[1e-8])
    assert np.linalg.norm(chosen - exact) < 0.7 * np.linalg.norm(free - exact)


def test_a_linear_decoder_scales_as_its_latents():
    Z = gaussian_rows(60)
    X = Z @ np.ones((3, 2)) + np.random.default_rng(1).normal(size=(60, 2))
    assert_allclose(linear_decoder(Z * 50, X) * 50, linear_decoder(Z, X), rtol=1e-8)


# -- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"Z": np.zeros((5, 2))}, "5 sample"),
        ({"Z": np.eye(8).repeat(3, axis=0)}, "8 distinct rows: pass at least 12"),
        ({"score_model": "network"}, "score_model is 'network': choose one of auto, gaussian"),
        ({"max_points": 1}, "max_points is 1: pass the most rows"),
        ({"decode": np.eye(4)}, r"decode has shape \(4, 4\) but Z has 3 columns"),
        ({"decode": lambda z: z[:3]}, "decode returns 3 rows for 30 latents"),
        ({"decode": lambda z: z * np.nan}, "decode's output contains NaN"),
        ({"decode": lambda z: z * 0 + 1}, "decode maps all 30 rows to one point"),
    ],
)
def test_what_cannot_be_measured_is_refused(arguments, message):
    given = {"Z": gaussian_rows(90), "decode": np.tanh, "score_model": "gaussian"} | arguments
    with pytest.raises(ValueError, match=message):
        decoded_error(given.pop("Z"), given.pop("decode"), **given)


def test_what_cannot_be_called_is_refused():
    with pytest.raises(TypeError, match="decode is a int without decode"):
        decoded_error(gaussian_rows(90), 3, score_model="gaussian")
    with pytest.raises(TypeError, match="score_model is a int, which cannot be called"):
        decoded_error(gaussian_rows(90), np.tanh, score_model=3)


def test_unknown_means_are_refused():
    found = decoded_error(gaussian_rows(90), np.tanh, score_model="gaussian")
    with pytest.raises(ValueError, match="quantity is 'mmse': it is one of 'decoded_error'"):
        found.mean("mmse")
    with pytest.raises(ValueError, match="over is 'time': it is 'log'"):
        found.mean(over="time")


def test_pairs_of_different_length_are_refused():
    with pytest.raises(ValueError, match="Z has 90 rows but X has 80"):
        linear_decoder(gaussian_rows(90), np.zeros((80, 2)))
