"""Affine encoders are recognised, with exact constants; all others get inner estimates."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.random_projection import GaussianRandomProjection

from skfisher.geometry import affine_part, bi_lipschitz, hull_dimension, penalties, scale

SEEDS = st.integers(0, 2**32 - 1)


def rotation(rng, n):
    return np.linalg.qr(rng.normal(size=(n, n)))[0]


def correlated(rng, n_samples=120, n_features=6):
    return rng.normal(size=(n_samples, n_features)) @ rng.normal(
        size=(n_features, n_features)
    ) + rng.normal(size=n_features)


ENCODERS = {
    "pca": lambda: PCA(3),
    "whitening": lambda: PCA(whiten=True),
    "pipeline": lambda: make_pipeline(StandardScaler(), PCA(4)),
    "projection": lambda: GaussianRandomProjection(4, random_state=0),
    "embedding": lambda: GaussianRandomProjection(9, random_state=0),
}


@pytest.mark.filterwarnings("ignore:The number of components is higher")
@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("alone", [False, True], ids=["encoder", "pairs"])
def test_affine_encoders_are_recognised_and_their_map_reproduces_them(name, alone, rng):
    X = correlated(rng)
    encoder = ENCODERS[name]().fit(X)
    Z = encoder.transform(X)
    fit = affine_part(None if alone else encoder.transform, X, Z if alone else None)
    assert fit.verdict == "affine"
    assert fit.map.exact
    fresh = correlated(rng)
    np.testing.assert_allclose(fit.map(fresh), encoder.transform(fresh), rtol=1e-9, atol=1e-9)
    A = encoder.transform(np.eye(6)) - encoder.transform(np.zeros((1, 6)))
    expected = np.zeros(6)
    expected[: min(A.shape)] = np.linalg.svd(A, compute_uv=False)
    np.testing.assert_allclose(fit.map.singular_values, expected, rtol=1e-9, atol=1e-12)
    assert fit.map.rank == np.linalg.matrix_rank(A)


@pytest.mark.parametrize(
    "encode",
    [
        np.tanh,
        lambda x: np.maximum(x, 0.0),
        lambda x: x + 1e-3 * np.sin(x),
        lambda x: x / np.linalg.norm(x, axis=1, keepdims=True),
        lambda x: np.concatenate([x, 1e-6 * x[:, :1] ** 2], axis=1),
    ],
    ids=["tanh", "relu", "near-linear", "normalised", "one small curved column"],
)
def test_non_linear_encoders_are_not_affine(encode, rng):
    X = correlated(rng)
    assert affine_part(encode, X).verdict == "not affine"
    assert affine_part(None, X, encode(X)).verdict == "not affine"
    assert affine_part(encode, X).map is None


def test_relu_that_is_linear_on_the_sample_is_not_affine_off_it(rng):
    X = rng.uniform(1, 2, size=(50, 3))
    assert affine_part(None, X, np.maximum(X, 0.0)).verdict == "affine"
    assert affine_part(lambda x: np.maximum(x, 0.0), X).verdict == "not affine"


def test_encoder_that_refuses_extrapolated_points_is_not_affine(rng):
    def positive_only(x):
        if np.any(x < 0):
            raise ValueError("Negative values in data")
        return 2 * x

    fit = affine_part(positive_only, rng.uniform(size=(50, 3)))
    assert fit.verdict == "not affine"
    assert "Negative values" in fit.reason


def test_random_encoder_is_not_affine(rng):
    fit = affine_part(lambda x: x * rng.binomial(1, 0.5, size=x.shape), correlated(rng))
    assert fit.verdict == "not affine"


@pytest.mark.parametrize("n_samples", [3, 7, 8])
def test_pairs_alone_decide_only_with_more_rows_than_the_hull_needs(n_samples, rng):
    X = rng.normal(size=(n_samples, 6))
    curved = affine_part(None, X, np.tanh(X))
    assert curved.verdict == ("not affine" if n_samples > 7 else "unknown")
    assert ("rows or the encoder itself" in curved.reason) == (n_samples <= 7)
    straight = affine_part(lambda x: 2 * x, X)
    assert straight.verdict == "affine"
    assert straight.map.exact == (n_samples >= 7)
    np.testing.assert_allclose([straight.map.m, straight.map.L], 2.0)


def test_singular_values_are_those_on_the_affine_hull(rng):
    flat = rng.normal(size=(40, 2)) @ rng.normal(size=(2, 5)) + 3.0
    assert hull_dimension(flat) == 2
    plane = np.linalg.svd(flat - flat.mean(axis=0))[2][:2].T
    A = rng.normal(size=(5, 3))
    found = affine_part(lambda x: x @ A, flat).map
    assert found.rank_data == 2
    expected = np.linalg.svd(plane.T @ A, compute_uv=False)
    np.testing.assert_allclose(found.singular_values, expected, rtol=1e-9)


def test_constant_features_and_constant_latents(rng):
    X = np.concatenate([rng.normal(size=(30, 2)), np.full((30, 3), 7.3)], axis=1)
    assert hull_dimension(X) == 2
    lost = affine_part(lambda x: 0 * x + 2.0, X).map
    assert (lost.m, lost.L, lost.rank) == (0.0, 0.0, 0)
    assert math.isnan(scale(linear=lost).c)
    found = penalties(X, 0 * X + 2.0, linear=lost)
    assert found.dimensional_compression == 1.0
    assert math.isnan(found.tangential_distortion)
    assert found.reasons["tangential_distortion"] == "every direction is lost"


def test_single_precision_affine_encoders_are_recognised(rng):
    X = correlated(rng).astype(np.float32)
    A = rng.normal(size=(6, 4)).astype(np.float32)
    assert affine_part(lambda x: x @ A, X).verdict == "affine"
    assert affine_part(lambda x: (x @ A).astype(np.float32), X.astype(np.float64)).map.rank == 4
    assert affine_part(lambda x: x + np.float32(1e-3) * np.sin(x), X).verdict == "not affine"


def test_distortion_of_one_two_four_is_1_28(rng):
    X = rng.normal(size=(60, 3))
    Z = X * [1.0, 2.0, 4.0] @ rotation(rng, 3)
    linear = affine_part(None, X, Z).map
    found = penalties(X, Z, linear=linear)
    assert found.tangential_distortion == pytest.approx(2 * math.log(4) ** 2 / 3, abs=1e-9)
    assert round(found.tangential_distortion, 2) == 1.28
    assert scale(linear=linear).c == pytest.approx(2.0)
    assert (found.dimensional_compression, found.encoder_curvature) == (0.0, 0.0)
    assert math.isnan(found.data_curvature)
    assert "local quadratic fits" in found.reasons["data_curvature"]


@given(seed=SEEDS, c=st.floats(1e-3, 1e3))
def test_scaled_rigid_maps_have_no_penalty(seed, c):
    rng = np.random.default_rng(seed)
    X = correlated(rng, 40, 4)
    A = c * rotation(rng, 6)[:4]
    linear = affine_part(lambda x: x @ A - 1.0, X).map
    found = penalties(X, X @ A - 1.0, linear=linear)
    assert found.dimensional_compression == 0.0
    assert found.encoder_curvature == 0.0
    assert found.tangential_distortion < 1e-16
    np.testing.assert_allclose([linear.m, linear.L, scale(linear=linear).c], c, rtol=1e-8)


@given(seed=SEEDS, c=st.floats(1e-3, 1e3))
def test_penalties_are_invariant_under_rotation_translation_and_scale(seed, c):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(40, 4))
    A = np.diag([1.0, 2.0, 0.5, 3.0])[:, :3]
    Z = X @ A
    moved_X, moved_Z = X @ rotation(rng, 4) + 1.0, c * Z @ rotation(rng, 3) - 2.0
    first, second = (
        penalties(x, z, linear=affine_part(None, x, z).map) for x, z in ((X, Z), (moved_X, moved_Z))
    )
    assert first.dimensional_compression == second.dimensional_compression == 0.25
    assert second.tangential_distortion == pytest.approx(first.tangential_distortion, abs=1e-8)


def test_compression_is_the_share_of_lost_directions(rng):
    X = correlated(rng)
    for d in range(1, 7):
        encode = PCA(d).fit(X).transform
        linear = affine_part(encode, X).map
        found = penalties(X, encode(X), linear=linear)
        assert found.dimensional_compression == pytest.approx(1 - d / 6)
        assert (linear.m == 0.0) == (d < 6)
        assert (found.data_dimension, found.latent_dimension) == (6, d)


def test_compression_of_non_linear_encoders_is_what_dimensions_force(rng):
    X = correlated(rng)
    found = penalties(X, np.tanh(X[:, :2]))
    assert found.dimensional_compression == pytest.approx(4 / 6)
    assert "lower bound" in found.reasons["dimensional_compression"]
    assert math.isnan(found.tangential_distortion)
    assert "derivatives" in found.reasons["tangential_distortion"]
    assert math.isnan(found.encoder_curvature)


def test_compression_of_curved_data_is_not_overstated_when_its_dimension_is_given(rng):
    angle, height = rng.uniform(0, 3, size=(2, 200))
    roll = np.stack([np.cos(angle), np.sin(angle), height], axis=1)
    sheet = np.stack([angle, height], axis=1)
    assert penalties(roll, sheet, intrinsic_dimension=2).dimensional_compression == 0.0
    flat = affine_part(lambda x: x[:, 1:], roll).map
    assert penalties(roll, roll[:, 1:], linear=flat).dimensional_compression == pytest.approx(1 / 3)
    given = penalties(roll, roll[:, 1:], linear=flat, intrinsic_dimension=2)
    assert given.dimensional_compression == 0.0
    assert math.isnan(given.tangential_distortion)


def test_account_along_noise_is_kept(rng):
    X, account = correlated(rng), object()
    assert penalties(X, X, along_noise=account).along_noise is account


@given(seed=SEEDS)
def test_pair_ratios_of_affine_maps_lie_between_the_singular_values(seed):
    rng = np.random.default_rng(seed)
    X = correlated(rng, 60, 4)
    Z = X @ rng.normal(size=(4, 5))
    linear = affine_part(None, X, Z).map
    sampled, exact = bi_lipschitz(X, Z), bi_lipschitz(X, Z, linear=linear)
    assert not sampled.exact
    assert exact.exact
    assert sampled.kind == "inner estimate from pairs: not refuted"
    assert exact.kind == "exact on the affine hull"
    slack = 1e-9 * linear.L
    assert linear.m - slack <= sampled.m <= sampled.L <= linear.L + slack
    assert (exact.m, exact.L) == (linear.m, linear.L)
    for quantiles in (sampled.near_quantiles, sampled.latent_near_quantiles, sampled.far_quantiles):
        assert np.all(np.diff(quantiles) >= 0)
        assert sampled.m <= quantiles[0]
        assert quantiles[-1] <= sampled.L


def test_all_pairs_are_compared_where_they_fit_and_the_extreme_pairs_are_named(rng):
    X = correlated(rng, 30)
    Z = np.tanh(X[:, :2])
    found = bi_lipschitz(X, Z)
    i, j = np.triu_indices(30, 1)
    ratios = np.linalg.norm(Z[i] - Z[j], axis=1) / np.linalg.norm(X[i] - X[j], axis=1)
    assert found.n_pairs == 435
    np.testing.assert_allclose([found.m, found.L], [ratios.min(), ratios.max()])
    assert found.smallest_pair == (i[ratios.argmin()], j[ratios.argmin()])
    assert found.largest_pair == (i[ratios.argmax()], j[ratios.argmax()])
    np.testing.assert_allclose(found.far_quantiles, np.quantile(ratios, found.quantile_levels))


def test_pairs_depend_on_the_seed_alone(rng):
    X = correlated(rng, 400)
    first, again, other = (
        bi_lipschitz(X, np.tanh(X), n_pairs=500, random_state=seed) for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(first.near_pairs, again.near_pairs)
    np.testing.assert_array_equal(first.far_quantiles, again.far_quantiles)
    assert not np.array_equal(first.far_quantiles, other.far_quantiles)
    assert first.n_pairs <= 1500


def test_unrolled_circle_stretches_chords_and_not_tangents():
    angle = np.linspace(0.004, 2 * np.pi - 0.004, 600)
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    found = bi_lipschitz(circle, angle[:, None], n_pairs=3000)
    np.testing.assert_allclose(found.near_quantiles[4], 1.0, atol=1e-4)
    assert found.m == pytest.approx(1.0, abs=1e-4)
    # neighbours in X across the gap: arc over chord
    assert pytest.approx((2 * np.pi - 0.008) / (2 * np.sin(0.004)), rel=1e-9) == found.L
    assert found.largest_pair == (0, 599)
    assert found.far_quantiles[-1] > np.pi / 2


def test_folded_latents_have_m_zero():
    x = np.arange(-20.0, 21.0)[:, None]
    found = bi_lipschitz(x, np.abs(x))
    assert found.m == 0.0
    assert found.n_folded == 20
    assert found.kind == "folded: different points have one latent"
    assert sum(x[list(found.smallest_pair), 0]) == 0.0


def test_equal_rows_with_different_latents_are_no_function(rng):
    X = np.repeat(correlated(rng, 20), 2, axis=0)
    assert bi_lipschitz(X, X).n_conflicts == 0
    assert np.isfinite(bi_lipschitz(X, X).L)
    Z = X.copy()
    Z[7] += 1.0
    found = bi_lipschitz(X, Z)
    assert (found.L, found.n_conflicts, found.largest_pair) == (math.inf, 1, (6, 7))
    assert "no function" in found.kind
    assert not found.exact


def test_scale_from_near_pairs_is_right_for_conformal_maps_within_its_error(rng):
    # z -> z^2 on an annulus: G = 4 |z|^2 times the identity, E log 4 r^2 in closed form
    z_scores = []
    for _ in range(40):
        r, angle = np.sqrt(rng.uniform(1, 4, size=1000)), rng.uniform(0, 1.5, size=1000)
        point = r * np.exp(1j * angle)
        X, Z = (np.stack([w.real, w.imag], axis=1) for w in (point, point**2))
        found = scale(bi_lipschitz(X, Z, n_pairs=5000))
        truth = math.log(4) + (4 * math.log(4) - 3) / 3
        z_scores.append((found.log_squared - truth) / found.log_squared_stderr)
        assert not found.exact
    assert abs(np.mean(z_scores)) < 4 / math.sqrt(40)
    assert 0.5 < np.std(z_scores) < 1.6


def test_scale_from_near_pairs_is_exact_for_scaled_rigid_maps(rng):
    X = correlated(rng)
    found = scale(bi_lipschitz(X, 3.0 * X @ rotation(rng, 6)))
    assert found.c == pytest.approx(3.0, rel=1e-12)
    folded = scale(bi_lipschitz(X, 0 * X))
    assert math.isnan(folded.c)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_every_library_gives_the_same_constants(library, dtype, rng):
    X = correlated(rng, 40, 3)
    A = np.diag([1.0, 2.0, 4.0])
    x, a = library(X, dtype), library(A, dtype)
    fit = affine_part(lambda rows: rows @ a, x)
    assert fit.verdict == "affine"
    assert library.owns(fit.map.matrix, dtype)
    assert library.owns(fit.map(x), dtype)
    tolerance = 1e-10 if dtype == "float64" else 1e-4
    assert fit.map.m == pytest.approx(1.0, rel=tolerance)
    assert pytest.approx(4.0, rel=tolerance) == fit.map.L
    found, expected = bi_lipschitz(x, x @ a), bi_lipschitz(X, X @ A)
    assert library.owns(found.near_ratios, dtype)
    assert found.m == pytest.approx(expected.m, rel=tolerance)
    assert scale(found).c == pytest.approx(scale(expected).c, rel=tolerance)
    assert penalties(x, x @ a, linear=fit.map).tangential_distortion == pytest.approx(
        1.2811918, abs=1e-3
    )


def test_bad_input_is_refused_with_a_cure(rng):
    X = correlated(rng, 20)
    with pytest.raises(ValueError, match="encode and Z are both None: pass an encoder"):
        affine_part(None, X)
    with pytest.raises(ValueError, match="Z has 19 rows but X has 20: the encoder must return"):
        affine_part(lambda x: x[:-1], X)
    with pytest.raises(ValueError, match="single distinct one: no direction to measure"):
        affine_part(np.tanh, np.ones((5, 2)))
    with pytest.raises(ValueError, match="X has 5 rows but 1 distinct: pass at least two"):
        bi_lipschitz(np.ones((5, 2)), np.ones((5, 2)))
    nearly = 1.0 + np.asarray([[0.0], [1e-15]])
    with pytest.raises(ValueError, match="2 distinct rows, equal to rounding: centre X"):
        bi_lipschitz(nearly, nearly)
    with pytest.raises(ValueError, match="single distinct one: pass at least two"):
        penalties(np.ones((5, 2)), np.ones((5, 2)))
    with pytest.raises(ValueError, match="intrinsic_dimension is 7, but the affine hull of X has"):
        penalties(X, X, intrinsic_dimension=7)
    with pytest.raises(ValueError, match="lipschitz and linear are both None: pass one"):
        scale()
