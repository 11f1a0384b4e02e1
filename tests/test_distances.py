"""Distortion by distance, constants from pairs and tangents, the scale, and folds."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skfisher._backend.pairs import ranked_pairs
from skfisher.geometry import affine_part, bi_lipschitz, scale
from skfisher.geometry.folds import fold_share
from skfisher.geometry.profiles import distance_profile

SEEDS = st.integers(0, 2**32 - 1)


def rotation(rng, n):
    return np.linalg.qr(rng.normal(size=(n, n)))[0]


def derivative(encode, X, basis, step=1e-6):
    """Central differences of the encoder along each tangent."""
    columns = [
        (encode(X + step * basis[:, :, i]) - encode(X - step * basis[:, :, i])) / (2 * step)
        for i in range(basis.shape[2])
    ]
    return np.stack(columns, axis=2)


# -- distortion by distance ----------------------------------------------------------------------


@given(seed=SEEDS, c=st.floats(1e-3, 1e3), by=st.sampled_from(["data", "latent"]))
def test_scaled_rigid_maps_have_ratio_one_at_every_distance(seed, c, by):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(150, 3))
    found = distance_profile(X, c * X @ rotation(rng, 3) + 1.0, c=c, by=by, n_pairs=600)
    full = found.counts > 0
    np.testing.assert_allclose(found.quantiles[full], 1.0, rtol=1e-9)
    np.testing.assert_allclose(found.log_ratio[full], 0.0, atol=1e-9)
    assert found.n_folded == 0
    assert np.all(np.diff(found.edges) > 0)


def test_pairs_cover_every_scale_from_neighbours_to_the_diameter(rng):
    X = rng.uniform(size=(3000, 2))
    found = distance_profile(X, X, n_bins=8, n_pairs=4000)
    assert found.edges[0] < 0.01
    assert found.edges[-1] > 1.0
    assert np.all(found.counts[2:] > 50)
    assert np.sum(found.counts) <= 4500


def test_all_pairs_are_taken_where_they_fit(rng):
    X = rng.normal(size=(40, 3))
    Z = np.tanh(X[:, :2])
    found = distance_profile(X, Z, c=0.5, n_bins=5, n_pairs=780, n_worst=3)
    i, j = np.triu_indices(40, 1)
    dx, dz = (np.linalg.norm(rows[i] - rows[j], axis=1) for rows in (X, Z))
    ratio = dz / dx / 0.5
    assert np.sum(found.counts) == 780
    np.testing.assert_allclose(found.edges, np.geomspace(dx.min(), dx.max(), 6))
    place = np.clip(np.searchsorted(found.edges, dx, side="right") - 1, 0, 4)
    for b in range(5):
        inside = ratio[place == b]
        assert found.counts[b] == len(inside)
        np.testing.assert_allclose(found.quantiles[b], np.quantile(inside, found.quantile_levels))
        assert found.log_ratio[b] == pytest.approx(np.mean(np.log(inside)))
    order = np.argsort(ratio)
    np.testing.assert_allclose(found.squeezed_ratios, ratio[order[:3]])
    np.testing.assert_allclose(found.stretched_ratios, ratio[order[-3:][::-1]])
    worst = [[i[p], j[p]] for p in order[-3:][::-1]]
    np.testing.assert_array_equal(found.stretched_pairs, worst)


def test_curvature_of_the_encoder_shows_at_large_distances_only():
    angle = np.linspace(0, np.pi, 1500)
    rolled = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    found = distance_profile(angle[:, None], rolled, n_pairs=4000)
    assert found.log_ratio[0] == pytest.approx(0.0, abs=1e-5)
    assert np.all(np.diff(found.log_ratio) < 1e-6)
    assert found.quantiles[-1, 0] == pytest.approx(2 / np.pi, abs=0.02)


def test_folds_show_by_latent_distance():
    x = np.linspace(-1, 1.2, 701)[:, None]
    folded = distance_profile(x, np.abs(x), by="latent", n_pairs=4000)
    straight = distance_profile(x, x, by="latent", n_pairs=4000)
    assert folded.quantiles[0, 0] < 0.01
    assert straight.quantiles[0, 0] == pytest.approx(1.0)
    i, j = folded.squeezed_pairs[0]
    assert x[i, 0] * x[j, 0] < 0
    # equal latents are no distance to bin by, but they are counted
    rounded = np.round(np.abs(x), 2)
    assert distance_profile(x, rounded, by="data", n_pairs=300_000).n_folded > 600


def test_standard_errors_of_the_profile_are_honest(rng):
    # random factors per row: pairs that share a row are dependent
    z_scores = []
    for _ in range(60):
        X = rng.normal(size=(300, 4))
        Z = X * np.exp(0.3 * rng.normal(size=(300, 1)))
        found = distance_profile(X, Z, n_bins=1, n_pairs=1000, random_state=1)
        z_scores.append((found.log_ratio[0], found.log_ratio_stderr[0]))
    means, errors = np.asarray(z_scores).T
    spread = means.std(ddof=1)
    assert 0.5 < np.sqrt(np.mean(errors**2)) / spread < 2.0


def test_bins_with_few_rows_have_no_error(rng):
    X = np.concatenate([rng.normal(size=(200, 2)), [[1e4, 0.0]]])
    found = distance_profile(X, 2 * X, n_bins=6, n_pairs=30_000)
    assert found.counts[-2] == 0
    assert np.all(np.isnan(found.quantiles[-2]))
    assert np.isnan(found.log_ratio[-2])
    few = distance_profile(X[:6], X[:6], n_bins=2)
    assert np.all(np.isnan(few.log_ratio_stderr))


def test_ranked_pairs_are_the_neighbours_of_those_ranks(rng):
    X = rng.normal(size=(200, 3))
    pairs = ranked_pairs(0, X, 900)
    distance = np.linalg.norm(X[:, None] - X, axis=2)
    rank = np.argsort(np.argsort(distance, axis=1), axis=1)
    wanted = {1, 2, 4, 8, 16, 32, 64, 128, 199}
    assert all({rank[i, j], rank[j, i]} & wanted for i, j in pairs)
    assert len(pairs) > 500
    np.testing.assert_array_equal(pairs, ranked_pairs(0, X + 1e5, 900))


# -- constants and scale from tangents -----------------------------------------------------------


def test_constants_combine_pairs_and_tangents(rng):
    X = rng.normal(size=(50, 2))
    Z = np.tanh(X)
    pairs = bi_lipschitz(X, Z)
    assert np.all(np.isnan(pairs.tangent_constants))
    assert pairs.pair_constants == (pairs.m, pairs.L)
    both = bi_lipschitz(X, Z, singular_values=np.asarray([[2.0, 0.5], [1.0, 1e-4]]))
    assert both.tangent_constants == (1e-4, 2.0)
    assert (both.m, both.L) == (1e-4, 2.0)
    assert both.pair_constants == pairs.pair_constants
    assert "pairs and tangents: not refuted" in both.kind
    assert not both.exact
    inside = bi_lipschitz(X, Z, singular_values=np.full((3, 2), 0.6))
    assert (inside.m, inside.L) == (pairs.m, pairs.L)


def test_lost_directions_have_m_zero(rng):
    X = rng.normal(size=(50, 2))
    for lost in (0.0, 1e-9):
        found = bi_lipschitz(X, X, singular_values=np.asarray([[1.0, lost], [1.0, 1.0]]))
        assert found.m == 0.0
        assert found.kind == "a direction of the data's tangent space is lost: m = 0"


def test_directions_beyond_the_latents_dimension_are_lost(rng):
    X = rng.normal(size=(50, 3))
    values = np.ones((4, 2))
    assert bi_lipschitz(X, X[:, :2], singular_values=values, intrinsic_dimension=3).m == 0.0
    assert bi_lipschitz(X, X[:, :2], singular_values=values, intrinsic_dimension=2).m > 0.0


def test_constants_of_affine_maps_stay_exact(rng):
    X = rng.normal(size=(50, 2))
    linear = affine_part(None, X, 2 * X).map
    found = bi_lipschitz(X, 2 * X, linear=linear, singular_values=np.full((3, 2), 9.0))
    assert (found.exact, round(found.m, 9), round(found.L, 9)) == (True, 2.0, 2.0)


def test_scale_from_tangents_is_the_mean_log_of_the_retained_values(rng):
    values = np.exp(rng.normal(size=(40, 3)))
    found = scale(singular_values=values)
    assert found.log_squared == pytest.approx(2 * np.mean(np.log(values)))
    assert found.c == pytest.approx(np.exp(np.mean(np.log(values))))
    assert not found.exact
    per_anchor = 2 * np.mean(np.log(values), axis=1)
    assert found.log_squared_stderr == pytest.approx(per_anchor.std(ddof=1) / np.sqrt(40))
    assert scale(singular_values=np.asarray([[4.0, 2.0], [1.0, 0.0]])).c == pytest.approx(8**0.25)
    lost = np.concatenate([values, np.full((40, 1), 1e-9)], axis=1)
    assert scale(singular_values=lost).log_squared == pytest.approx(found.log_squared)
    assert scale(singular_values=np.full((5, 2), 3.0)).log_squared_stderr < 1e-15
    assert math.isnan(scale(singular_values=np.zeros((5, 2))).c)
    assert math.isnan(scale(singular_values=np.ones((1, 2))).log_squared_stderr)


def test_standard_error_of_the_scale_is_honest_where_ranks_vary(rng):
    z_scores = []
    for _ in range(300):
        values = np.exp(0.5 * rng.normal(size=(60, 2)))
        values[:, 1] *= np.where(rng.uniform(size=60) < 0.3, 1e-9, 1.0)
        found = scale(singular_values=values)
        z_scores.append(found.log_squared / found.log_squared_stderr)
    assert abs(np.mean(z_scores)) < 4 / np.sqrt(300)
    assert 0.85 < np.std(z_scores) < 1.15


# -- folds ---------------------------------------------------------------------------------------

ENCODERS = {
    "identity": lambda x, rng: x,
    "rotation and scales": lambda x, rng: (
        x @ rotation(rng, x.shape[1]) * 10.0 ** rng.uniform(-2, 2, size=x.shape[1])
    ),
    "projection": lambda x, rng: x @ rotation(rng, x.shape[1])[:, : (x.shape[1] + 1) // 2],
    "saturation": lambda x, rng: np.tanh(x @ rotation(rng, x.shape[1])),
    "reflection": lambda x, rng: x * np.where(np.arange(x.shape[1]) == 0, -1.0, 1.0),
    "shear": lambda x, rng: np.concatenate(
        [x[:, :1], x[:, 1:] + 0.3 * np.sin(40 * x[:, :1])], axis=1
    ),
    "wide shear": lambda x, rng: np.concatenate(
        [x[:, :1], x[:, 1:] + np.sin(9 * x[:, :1])], axis=1
    ),
    "embedding": lambda x, rng: np.concatenate([x, np.sin(x), np.cos(x)], axis=1),
    "dead channel": lambda x, rng: np.concatenate([x[:, 1:], 0 * x[:, :1]], axis=1),
}


def fold_of(encode, X, n_anchors=250):
    anchors = np.arange(n_anchors)
    basis = np.tile(np.eye(X.shape[1]), (n_anchors, 1, 1))
    B = derivative(encode, X[:n_anchors], basis)
    return fold_share(X, encode(X), basis, B, anchors=anchors)


@pytest.mark.parametrize("k", [2, 4, 8, 16])
@pytest.mark.parametrize("name", ENCODERS)
def test_injective_and_projecting_encoders_are_no_folds(name, k):
    X = np.random.default_rng(k).normal(size=(2000, k))
    found = fold_of(lambda x: ENCODERS[name](x, np.random.default_rng(7)), X)
    assert found.share < 0.01
    assert found.n_pairs > 100
    assert found.pairs.shape[0] <= 0.01 * found.n_pairs
    assert found.reason == ""


@pytest.mark.parametrize("k", [2, 4, 8, 16])
@pytest.mark.parametrize("smooth", [0.0, 0.1])
def test_fold_share_rises_with_the_share_of_the_data_that_is_folded(k, smooth):
    X = np.random.default_rng(k).normal(size=(2000, k))
    Q = rotation(np.random.default_rng(k + 1), k)
    shares = []
    for p in (0.0, 0.05, 0.15, 0.3, 0.5):
        a = np.quantile(X[:, 0], p) if p else -9.0

        def encode(x, a=a):
            first = np.sqrt((x[:, :1] - a) ** 2 + smooth**2)
            return np.concatenate([first, x[:, 1:]], axis=1) @ Q

        found = fold_of(encode, X)
        shares.append(found.share)
        assert found.wrapped_share == 0.0
        for i, j in found.pairs:
            assert (X[i, 0] - a) * (X[j, 0] - a) < 0
    assert shares[0] == 0.0
    assert np.all(np.diff(shares) > 0)
    assert shares[-1] == pytest.approx(0.5, abs=0.06)
    assert shares[-1] - 0.5 < 4 * found.stderr


def test_wraps_keep_orientation_and_are_seen_where_latents_are_dense(rng):
    X = rng.normal(size=(2000, 2))

    def cut(shift):
        return lambda x: np.concatenate([x[:, :1] - shift * (x[:, :1] > 0.5), x[:, 1:]], axis=1)

    shares = []
    for shift in (0.0, 2.0, 3.0):
        found = fold_of(cut(shift), X)
        assert found.reversed_share == 0.0
        shares.append(found.wrapped_share)
    assert shares[0] == 0.0
    assert min(shares[1:]) > 0.05
    assert all(np.linalg.norm(X[i] - X[j]) > 1.0 for i, j in found.pairs)


def test_folds_of_curved_data_are_told_from_its_own_turning(rng):
    angle, height = rng.uniform(0.1, 6.1, size=1500), rng.uniform(-1, 1, size=1500)
    X = np.stack([np.cos(angle), np.sin(angle), height], axis=1)
    zero, one = np.zeros(1500), np.ones(1500)
    around = np.stack([-np.sin(angle), np.cos(angle), zero], axis=1)
    up = np.stack([zero, zero, one], axis=1)
    # bases with random signs, as local principal components have them
    signs = rng.choice([-1.0, 1.0], size=(2, 1500))
    basis = np.stack([around * signs[0][:, None], up * signs[1][:, None]], axis=2)
    unrolled = np.stack([angle, height], axis=1)
    B = np.stack([np.stack([signs[0], zero], axis=1), np.stack([zero, signs[1]], axis=1)], axis=2)
    assert fold_share(X, unrolled, basis, B).share == 0.0
    folded = np.stack([np.abs(angle - 3.1), height], axis=1)
    B_folded = B * np.stack([np.sign(angle - 3.1), one], axis=1)[:, :, None]
    found = fold_share(X, folded, basis, B_folded)
    # half a turn from the crease the tangents point away from each other and are not compared
    assert found.n_skipped > 0
    assert found.share > 0.1
    assert fold_share(X, X, basis, basis).share == 0.0


def test_anchors_and_pairs_are_rows_of_the_data(rng):
    X = rng.normal(size=(600, 2))
    anchors = np.sort(rng.permutation(600)[:150])
    basis = np.tile(np.eye(2), (150, 1, 1))

    def encode(x):
        return np.concatenate([np.abs(x[:, :1]), x[:, 1:]], axis=1)

    found = fold_share(
        X, encode(X), basis, derivative(encode, X[anchors], basis), anchors=list(anchors)
    )
    assert set(found.pairs.reshape(-1)) <= set(anchors)
    assert np.all(X[found.pairs[:, 0], 0] * X[found.pairs[:, 1], 0] < 0)
    distance = np.linalg.norm(encode(X)[found.pairs[:, 0]] - encode(X)[found.pairs[:, 1]], axis=1)
    assert np.all(np.diff(distance) >= 0)
    assert found.anchor_shares.shape == (150,)
    assert np.nanmean(found.anchor_shares) == pytest.approx(found.share, abs=0.05)
    assert "n_pairs" in repr(found)


def half_cylinder(rng, n_rows=1200):
    """Rows, their angle and height, and tangents and derivatives of a latent of these two."""
    angle, height = rng.uniform(0, np.pi, n_rows), rng.uniform(0, 2, n_rows)
    X = np.stack([np.cos(angle), np.sin(angle), height], axis=1)
    zero, one = 0 * angle, 1 + 0 * angle
    around = np.stack([-np.sin(angle), np.cos(angle), zero], axis=1)
    basis = np.stack([around, np.stack([zero, zero, one], axis=1)], axis=2)
    return X, angle, height, basis


@pytest.mark.parametrize(("frequency", "height"), [(3, 1.0), (6, 0.25), (20, 0.25)])
def test_a_wave_into_a_further_dimension_is_no_fold(frequency, height, rng):
    # it turns the image over, and brings far rows near where the rest is ill-conditioned
    X, s, h, basis = half_cylinder(rng)
    A = np.asarray([[1.0, 0.9], [0.9, 1.0]])
    wave = height * np.sin(frequency * s)
    Z = np.concatenate([np.stack([s, h], axis=1) @ A, wave[:, None]], axis=1)
    slope = np.stack([frequency * height * np.cos(frequency * s), 0 * s], axis=1)
    derivative = np.concatenate([np.tile(A, (len(s), 1, 1)), slope[:, None, :]], axis=1)
    assert fold_share(X, Z, basis, derivative).share < 0.01


def test_folds_in_a_latent_with_more_dimensions_than_the_data_are_found(rng):
    X, s, h, basis = half_cylinder(rng)
    shares = []
    for p in (0.0, 0.1, 0.3, 0.5):
        sign = np.sign(s - p * np.pi)
        Z = np.stack([np.abs(s - p * np.pi), h, 0.3 * h**2], axis=1)
        rows = [np.stack(row, axis=1) for row in ((sign, 0 * s), (0 * s, 1 + 0 * s))]
        derivative = np.stack([*rows, np.stack([0 * s, 0.6 * h], axis=1)], axis=1)
        shares.append(fold_share(X, Z, basis, derivative).share)
    assert shares[0] == 0
    assert shares == sorted(shares)
    assert shares[-1] > 0.4


def test_standard_error_of_the_fold_share_is_honest(rng):
    found = []
    for _ in range(40):
        X = rng.normal(size=(150, 3))
        result = fold_of(
            lambda x: np.concatenate([np.abs(x[:, :1] - 0.5), x[:, 1:]], axis=1), X, 150
        )
        found.append((result.share, result.stderr))
    shares, errors = np.asarray(found).T
    assert 0.6 < np.sqrt(np.mean(errors**2)) / shares.std(ddof=1) < 1.7


def test_folds_that_cannot_be_judged_are_nan_with_a_reason(rng):
    X = rng.normal(size=(100, 3))
    basis = np.tile(np.eye(3), (100, 1, 1))
    lost = fold_share(X, 0 * X, basis, 0 * basis)
    assert math.isnan(lost.share)
    assert lost.reason == "every direction is lost: there is no latent to fold"
    # tangent lines that point everywhere: no two can be compared
    lines = rng.normal(size=(100, 3, 1))
    lines /= np.linalg.norm(lines, axis=1, keepdims=True)
    few = fold_share(X[:8], X[:8, :1], lines[:8], lines[:8, :1])
    assert math.isnan(few.stderr)
    assert "fewer than 20: give more anchors" in few.reason
    assert np.all(np.isnan(few.anchor_shares))
    single = fold_share(X, X, basis[:1], basis[:1], anchors=[3])
    assert single.reason == "a single anchor has no neighbour"


# -- libraries and refusals ----------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_every_library_gives_the_same_answers(library, dtype, rng):
    X = rng.normal(size=(60, 2))
    Z = np.concatenate([np.abs(X[:, :1]), X[:, 1:]], axis=1)
    basis = np.tile(np.eye(2), (60, 1, 1))
    B = basis.copy()
    B[:, 0, 0] = np.sign(X[:, 0])
    tolerance = {"rtol": 1e-9 if dtype == "float64" else 1e-4}

    def host(x):
        return np.asarray([float(v) for v in x])

    expected, found = (
        fold_share(*(make(a) for a in (X, Z, basis, B)))
        for make in (np.asarray, lambda a: library(a, dtype))
    )
    assert found.share == pytest.approx(expected.share, abs=1e-6)
    assert found.stderr == pytest.approx(expected.stderr, rel=1e-3)
    assert library.owns(found.anchor_shares, dtype)
    assert library.owns(found.pairs, "int64")
    expected, found = (
        distance_profile(make(X), make(Z), n_bins=3, n_pairs=300)
        for make in (np.asarray, lambda a: library(a, dtype))
    )
    for name in ("edges", "counts", "log_ratio", "log_ratio_stderr", "stretched_ratios"):
        assert library.owns(getattr(found, name), dtype)
        np.testing.assert_allclose(host(getattr(found, name)), getattr(expected, name), **tolerance)
    assert library.owns(found.stretched_pairs, "int64")
    values = library(np.asarray([[2.0, 1.0], [1.0, 0.5]]), dtype)
    assert scale(singular_values=values).c == pytest.approx(1.0, rel=1e-6)
    constants = bi_lipschitz(library(X, dtype), library(Z, dtype), singular_values=values)
    assert constants.tangent_constants == (0.5, 2.0)


def test_bad_input_is_refused_with_a_cure(rng):
    X = rng.normal(size=(20, 2))
    with pytest.raises(ValueError, match=r"c is 0.0: the scale of an encoder is finite and pos"):
        distance_profile(X, X, c=0.0)
    with pytest.raises(ValueError, match="by is 'both': pass 'data' or 'latent'"):
        distance_profile(X, X, by="both")
    with pytest.raises(ValueError, match="n_bins is 0: pass 1 or more"):
        distance_profile(X, X, n_bins=0)
    with pytest.raises(ValueError, match="n_worst is 0: pass 1 or more"):
        distance_profile(X, X, n_worst=0)
    with pytest.raises(ValueError, match="X has 20 rows but 1 distinct: pass at least two"):
        distance_profile(0 * X, X)
    with pytest.raises(ValueError, match="Z has 20 rows but 1 distinct: pass at least two"):
        distance_profile(X, 0 * X, by="latent")
    nearly = 1.0 + np.asarray([[0.0], [1e-15]])
    with pytest.raises(ValueError, match="2 distinct rows, equal to rounding: centre X"):
        distance_profile(nearly, nearly)
    with pytest.raises(ValueError, match="Z is constant to rounding: there is no latent dist"):
        distance_profile(np.asarray([[0.0], [1.0]]), nearly, by="latent")
    for wrong in (np.ones(3), np.ones((0, 2)), np.asarray([[np.nan]]), np.asarray([[-1.0]])):
        with pytest.raises(ValueError, match=r"singular_values has shape .* leave out the anch"):
            bi_lipschitz(X, X, singular_values=wrong)
        with pytest.raises(ValueError, match=r"singular_values has shape .* leave out the anch"):
            scale(singular_values=wrong)
    basis = np.tile(np.eye(2), (20, 1, 1))
    with pytest.raises(ValueError, match=r"basis has shape \(20, 2, 2\) and pushforward \(19, 2"):
        fold_share(X, X, basis, basis[:19])
    with pytest.raises(ValueError, match=r"anchors run from 0 to 20, but X has 20 rows: pass"):
        fold_share(X, X, basis[:2], basis[:2], anchors=[0, 20])
