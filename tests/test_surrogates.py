"""Generation without a generator: closed forms, invariances, and what it must tell apart."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from skfisher.scores.closed import GaussianScore
from skfisher.surrogates import Surrogate, fit_surrogate, surrogate_distance


def modes(n, seed=0, gap=8.0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 2)) + gap * rng.integers(2, size=(n, 1))


def test_a_gaussian_surrogate_of_two_modes_has_the_closed_form():
    # the feature x^2 of x = +-m: mean m^2, variance 0; of the Gaussian: mean m^2, variance 2 m^4
    m, z = 1.3, []
    for seed in range(20):
        Z = m * np.random.default_rng(seed).choice([-1.0, 1.0], size=(600, 1))
        Z = Z + 1e-3 * np.random.default_rng(seed + 100).normal(size=(600, 1))
        model = Surrogate("gaussian", GaussianScore([0.0], [[m**2]]), 600)
        found = surrogate_distance(
            Z, np.eye(1), features=np.square, surrogate=model, resolution=0.0, random_state=seed
        )
        z.append((found.value - 2 * m**4) / found.stderr)
    assert abs(np.mean(z)) < 1.0
    assert 0.6 < np.std(z, ddof=1) < 1.5


def test_the_mixture_learns_what_the_gaussian_does_not():
    Z = modes(800)
    assert fit_surrogate(Z).name == "mixture-2"
    one, other = (
        surrogate_distance(Z, np.eye(2), features=lambda x: np.abs(x - 4.0), surrogate=family)
        for family in ("gaussian", "mixture")
    )
    assert one.value > other.value + 5 * np.hypot(one.stderr, other.stderr)
    assert other.n_fitted == other.n_rows == other.n_generated == 800


def test_an_error_counts_by_what_the_decoder_makes_of_it():
    rng = np.random.default_rng(3)
    Z = rng.normal(size=(1500, 2)) * [1.0, 0.05]
    Z[:, 1] = np.abs(Z[:, 1])  # the small direction alone is not Gaussian
    seen = [
        surrogate_distance(
            Z, np.diag([1.0, gain]), features=lambda x: x[:, 1:] ** 3, surrogate="gaussian"
        ).value
        for gain in (1.0, 20.0)
    ]
    assert seen[1] == pytest.approx(20.0**6 * seen[0], rel=1e-9)


def test_the_unit_of_the_latent_and_a_turn_change_nothing(rng):
    Z = modes(500)
    turn = 3.0 * np.linalg.qr(rng.normal(size=(2, 2)))[0]
    one = surrogate_distance(Z, np.eye(2), surrogate="gaussian", features=np.abs)
    other = surrogate_distance(Z @ turn, np.linalg.inv(turn), surrogate="gaussian", features=np.abs)
    assert abs(one.value - other.value) < 3 * np.hypot(one.stderr, other.stderr)


def test_without_features_it_is_a_share_of_the_decoded_variance(rng):
    Z, A = modes(400), rng.normal(size=(2, 30))
    one, other = (surrogate_distance(Z, factor * A, surrogate="gaussian") for factor in (1.0, 7.0))
    assert other.value == pytest.approx(one.value, rel=1e-8)
    assert not one.of_features
    assert one.n_columns == 30
    assert 0 < one.value < 0.02


def test_the_resolution_is_a_noise_in_units_of_the_scale():
    rng = np.random.default_rng(5)
    z = []
    for seed in range(20):
        Z = rng.normal(size=(500, 2)) * [3.0, 0.01]
        unit = np.sqrt(np.mean(np.var(Z, axis=0)))
        found = surrogate_distance(
            Z, np.eye(2), features=lambda x: x[:, 1:], surrogate="gaussian", resolution=0.1,
            random_state=seed,
        )  # fmt: skip
        spread = np.hypot(0.1 * unit, Z[:, 1].std())
        z.append((found.value - (spread - Z[:, 1].std()) ** 2) / found.stderr)
    assert abs(np.mean(z)) < 1.0
    assert 0.5 < np.std(z, ddof=1) < 1.6


def test_rows_say_what_they_bring(rng):
    Z = modes(300)
    w = rng.integers(0, 3, 300).astype(float)
    found = surrogate_distance(Z, np.eye(2), features=np.abs, sample_weight=w)
    assert found.row_values.shape == (300,)
    assert np.average(found.row_values, weights=w) == pytest.approx(found.value, rel=1e-10)
    repeated = surrogate_distance(Z.repeat(w.astype(int), axis=0), np.eye(2), features=np.abs)
    assert repeated.value == pytest.approx(found.value, rel=1e-10)


def test_rows_of_one_group_enter_the_error_as_one():
    Z = modes(400)
    groups = np.arange(400) // 4
    alike = Z.repeat(4, axis=0) + 1e-9 * np.random.default_rng(0).normal(size=(1600, 2))
    options = {"features": np.abs, "surrogate": "gaussian", "n_generated": 400}
    one = surrogate_distance(Z, np.eye(2), **options)
    fourfold = surrogate_distance(alike, np.eye(2), groups=np.arange(1600) // 4, **options)
    assert fourfold.stderr == pytest.approx(one.stderr, rel=0.01)
    single = surrogate_distance(Z, np.eye(2), groups=np.arange(400), **options)
    assert single.stderr == pytest.approx(one.stderr, rel=1e-9)
    mixed = surrogate_distance(Z, np.eye(2), groups=groups, **options)
    assert mixed.value == one.value
    assert mixed.stderr == pytest.approx(one.stderr, rel=0.3)


def test_a_decoder_may_return_images_and_features_take_them_as_they_are():
    Z = modes(60)

    def decode(z):
        return np.tile(z[:, :, None, None], (1, 1, 4, 4))

    def features(images):
        assert images.shape[1:] == (2, 4, 4)
        return images.mean(axis=(2, 3))

    found = surrogate_distance(Z, decode, features=features, surrogate="gaussian")
    flat = surrogate_distance(Z, np.eye(2), features=lambda x: x, surrogate="gaussian")
    assert found.value == pytest.approx(flat.value, rel=1e-9)


def test_torch_latents_are_decoded_as_torch():
    torch = pytest.importorskip("torch")
    Z = modes(120)
    seen = []

    def features(x):
        seen.append((type(x), x.dtype))
        return torch.abs(x)

    factor = torch.nn.Parameter(torch.tensor(2.0))  # gradients are nobody's business here
    found = surrogate_distance(torch.as_tensor(Z).float(), lambda z: factor * z, features=features)
    plain = surrogate_distance(Z, lambda z: 2 * z, features=np.abs)
    assert set(seen) == {(torch.Tensor, torch.float32)}
    assert isinstance(found.row_values, torch.Tensor)
    assert found.value == pytest.approx(plain.value, rel=1e-3)


def test_it_repeats_and_says_what_it_is():
    Z = modes(100)
    one, other = (surrogate_distance(Z, np.eye(2), random_state=4) for _ in range(2))
    assert_allclose(one.row_values, other.row_values, rtol=0, atol=0)
    assert "surrogate='mixture-" in repr(one)
    assert surrogate_distance(Z, np.eye(2), n_generated=37).n_generated == 37


def test_a_distance_of_more_columns_than_rows_is_marked():
    Z = modes(40)

    def wide(x):
        return np.concatenate([x + k for k in range(25)], axis=1)

    few = surrogate_distance(Z, np.eye(2), features=wide, surrogate="gaussian")
    assert few.reason == "40 rows do not determine a covariance of 50 columns"
    assert not surrogate_distance(Z, np.eye(2), features=np.abs).reason


def test_few_rows_for_their_dimension_have_a_gaussian():
    found = fit_surrogate(np.random.default_rng(0).normal(size=(30, 40)))
    assert found.name == "gaussian"
    assert found.model.sample(3, 0).shape == (3, 40)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"surrogate": "flow"}, ValueError, "family is 'flow': it is one of mixture, gaussian"),
        ({"resolution": -0.1}, ValueError, "resolution is -0.1: pass a share"),
        ({"features": 3}, TypeError, "features is a int, which cannot be called"),
        ({"features": lambda x: x[:5]}, ValueError, r"features returns shape \(5, 2\) for 50"),
        ({"features": lambda x: x * np.nan}, ValueError, "features' output"),
        ({"decode": 3}, TypeError, "decode is a int without decode"),
        ({"decode": lambda z: 0 * z + 1}, ValueError, "decode maps all 50 rows to one point"),
        ({"Z": np.ones((50, 2))}, ValueError, "one distinct sample"),
        ({"Z": np.repeat(np.eye(4), 10, axis=0)}, ValueError, "Z holds 4 distinct rows"),
    ],
)
def test_bad_input_is_named(change, error, message):
    given = {"Z": modes(50), "decode": np.eye(2)} | change
    with pytest.raises(error, match=message):
        surrogate_distance(given.pop("Z"), given.pop("decode"), **given)
