"""Published latent numbers: closed forms, invariances, errors that hold, and refusals."""

import math

import numpy as np
import pytest
import scipy.fft
import scipy.special

from skfisher.encoders import TorchEncoder
from skfisher.rivals import (
    RIVALS,
    TRANSFORMS,
    affine_equivariance,
    correlation_decay_slope,
    gaussian_viv,
    gmm_likelihood,
    hypersphere_uniformity,
    interpolation_distance,
    kronecker_factors,
    kronecker_viv,
    local_distant_similarity,
    mle_dimension,
    neighbour_consistency,
    rival_metrics,
    spectral_energy_concentration,
    two_nn_dimension,
    uniformity,
)

SHAPE = (4, 3, 3)
CHANNEL = np.diag([4.0, 2.0, 1.0, 0.1]) + 0.05
SPATIAL = np.exp(-np.abs(np.arange(9)[:, None] - np.arange(9)[None, :]) / 3) * 0.7
KRONECKER = np.kron(CHANNEL, SPATIAL)


def rotation(rng, d):
    return np.linalg.qr(rng.standard_normal((d, d)))[0]


def normal(rng, n, cov):
    return rng.standard_normal((n, len(cov))) @ np.linalg.cholesky(cov).T


def viv_of(cov):
    return math.pi / 2 * np.sqrt(np.linalg.eigvalsh(cov)).mean()


def standardized(cov, how):
    if how == "none":
        return cov
    if how == "rms":
        return cov / np.diag(cov).mean()
    scale = np.sqrt(np.diag(cov).reshape(4, 9).mean(axis=1)).repeat(9)
    return cov / scale[:, None] / scale[None, :]


def z_of_mean(values, truth):
    values = np.asarray(values)
    return (values.mean() - truth) / (values.std(ddof=1) / math.sqrt(len(values)))


# -- velocity irreducible variance ---------------------------------------------------------------


def test_gaussian_viv_of_a_sample_with_given_moments_is_the_closed_form(rng):
    raw = rng.standard_normal((200, 3))
    raw = raw - raw.mean(axis=0)
    white = raw @ np.linalg.inv(np.linalg.cholesky(np.cov(raw.T))).T
    Z = white * [1.0, 2.0, 5.0] + 7
    plain = gaussian_viv(Z, standardize="none", correct_bias=False)
    assert plain.value == pytest.approx(math.pi / 2 * 8 / 3)
    scaled = gaussian_viv(Z, correct_bias=False)
    assert scaled.value == pytest.approx(math.pi / 2 * 8 / 3 / math.sqrt(10))
    channel = gaussian_viv(Z, standardize="channel", correct_bias=False)
    assert channel.value == pytest.approx(math.pi / 2 * math.sqrt(200 / 199))
    assert scaled.settings["standardize"] == "rms"


@pytest.mark.parametrize("how", ["none", "rms", "channel"])
@pytest.mark.parametrize("viv", [gaussian_viv, kronecker_viv])
def test_viv_and_its_error_are_right_for_a_gaussian(viv, how):
    rng = np.random.default_rng(5)
    truth = viv_of(standardized(KRONECKER, how))
    found = [
        viv(normal(rng, 400, KRONECKER) + 1, latent_shape=SHAPE, standardize=how) for _ in range(50)
    ]
    values = np.asarray([m.value for m in found])
    errors = np.asarray([m.stderr for m in found])
    assert abs(z_of_mean(values, truth)) < 4
    # the spread of 50 values is known to 10 %
    assert 0.7 < values.std(ddof=1) / errors.mean() < 1.35


def test_the_bias_of_sample_eigenvalues_is_what_is_subtracted():
    rng = np.random.default_rng(6)
    found = [gaussian_viv(rng.standard_normal((100, 20)), standardize="none") for _ in range(60)]
    plug_in = [m.value + m.settings["bias"] for m in found]
    assert abs(z_of_mean(plug_in, math.pi / 2)) > 8
    # what is left is of second order in d / N
    assert abs(np.mean([m.value for m in found]) / (math.pi / 2) - 1) < 0.01
    assert np.mean([m.settings["bias"] for m in found]) == pytest.approx(
        -math.pi / 2 * 20 / 800, rel=0.1
    )


def test_flip_flop_recovers_the_factors_of_a_kronecker_covariance(rng):
    Z = normal(rng, 20_000, KRONECKER)
    found = kronecker_factors(Z, latent_shape=SHAPE)
    assert found.converged
    assert np.trace(found.channel) == pytest.approx(4.0)
    channel = CHANNEL * 4 / np.trace(CHANNEL)
    assert np.abs(found.channel - channel).max() < 0.02
    assert np.abs(found.spatial - SPATIAL * np.trace(CHANNEL) / 4).max() < 0.04
    total = np.trace(np.cov(Z.T))
    assert np.trace(found.channel) * np.trace(found.spatial) == pytest.approx(total)


def test_kronecker_viv_equals_gaussian_viv_where_the_covariance_is_a_product(rng):
    # second moments that are a product exactly: all signs of the axes of one whitened basis
    axes = np.concatenate([np.eye(36), -np.eye(36)]) @ np.linalg.cholesky(KRONECKER).T
    options = {"latent_shape": SHAPE, "standardize": "none", "correct_bias": False}
    full, product = gaussian_viv(axes, **options), kronecker_viv(axes, **options)
    assert product.value == pytest.approx(full.value, rel=1e-8)


def test_a_covariance_that_is_no_product_sets_the_two_apart(rng):
    bent = KRONECKER + 2 * np.diag(np.arange(36) % 5 == 0)
    Z = normal(rng, 5000, bent)
    full = gaussian_viv(Z, latent_shape=SHAPE)
    product = kronecker_viv(Z, latent_shape=SHAPE, standardize="rms")
    assert abs(full.value - product.value) > 5 * math.hypot(full.stderr, product.stderr)


@pytest.mark.parametrize("viv", [gaussian_viv, kronecker_viv])
def test_within_classes_the_gap_between_them_does_not_count(viv):
    rng = np.random.default_rng(8)
    y = np.arange(3000) % 3
    Z = normal(rng, 3000, KRONECKER) + 10 * y[:, None]
    options = {"latent_shape": SHAPE, "standardize": "none"}
    inside, all_together = viv(Z, y=y, **options), viv(Z, **options)
    assert abs(inside.value - viv_of(KRONECKER)) < 4 * inside.stderr
    assert all_together.value > inside.value + 10 * inside.stderr
    assert inside.settings["classes"] == 3


def test_gaussian_viv_sees_neither_rotation_nor_translation_nor_scale(rng):
    Z = normal(rng, 300, KRONECKER)
    turned = 3 * Z @ rotation(rng, 36) - 5
    one, two = gaussian_viv(Z), gaussian_viv(turned)
    assert two.value == pytest.approx(one.value)
    assert two.stderr == pytest.approx(one.stderr)
    raw = gaussian_viv(turned, standardize="none").value
    assert raw == pytest.approx(3 * gaussian_viv(Z, standardize="none").value)


def test_a_dead_channel_lowers_viv_and_breaks_nothing(rng):
    Z = rng.standard_normal((200, 4, 3, 3))
    dead = np.concatenate([Z[:, :3], np.full((200, 1, 3, 3), 2.0)], axis=1)
    for viv in (gaussian_viv, kronecker_viv):
        whole, part = viv(Z, standardize="none"), viv(dead, standardize="none")
        assert part.value == pytest.approx(0.75 * whole.value, rel=0.02)
        assert math.isfinite(part.stderr)
    assert kronecker_viv(dead).settings["constant_channels"] == 1


def test_rows_that_do_not_outnumber_dimensions_give_no_gaussian_viv(rng):
    few = gaussian_viv(rng.standard_normal((30, 36)))
    assert math.isnan(few.value)
    assert few.reason == "30 rows do not determine a covariance of 36 dimensions"
    assert math.isfinite(kronecker_viv(rng.standard_normal((30, *SHAPE))).value)
    assert (
        "needed for factors of 2 and 64" in kronecker_viv(rng.standard_normal((12, 2, 8, 8))).reason
    )


# -- spectrum and positions ----------------------------------------------------------------------


def test_sec_is_the_share_of_scipy_s_dct(rng):
    Z = rng.standard_normal((50, 3, 4, 5)) + 1
    energy = (scipy.fft.dctn(Z, axes=(2, 3), norm="ortho") ** 2).mean(axis=(0, 1))
    beyond = np.add.outer(np.arange(4), np.arange(5)) > 0.25 * 7
    found = spectral_energy_concentration(Z, threshold=0.25, standardize="none")
    assert found.value == pytest.approx(energy[beyond].sum() / energy.sum())


def test_constant_planes_have_no_high_frequency_and_checkerboards_little_else(rng):
    board = (-1.0) ** np.add.outer(np.arange(8), np.arange(8))
    level = rng.standard_normal((40, 2, 1, 1))
    flat = spectral_energy_concentration(level * np.ones((8, 8)), standardize="none")
    assert flat.value == pytest.approx(0.0, abs=1e-20)
    # the board is c(u) c(v) with c_u = cos(pi (i + 1/2) u / 8) summed over alternating signs
    row = scipy.fft.dct((-1.0) ** np.arange(8), norm="ortho") ** 2 / 8
    beyond = np.add.outer(np.arange(8), np.arange(8)) > 7
    truth = np.outer(row, row)[beyond].sum()
    rough = spectral_energy_concentration(level * board, standardize="none")
    assert rough.value == pytest.approx(truth)
    assert truth > 0.9


def test_sec_of_white_latents_is_the_share_of_frequencies():
    rng = np.random.default_rng(3)
    found = [
        spectral_energy_concentration(rng.standard_normal((60, 2, 4, 4)), standardize="none")
        for _ in range(40)
    ]
    z = [(m.value - 6 / 16) / m.stderr for m in found]
    assert abs(np.mean(z)) * math.sqrt(40) < 4
    assert 0.7 < np.std(z) < 1.35


def arc(n, length, step):
    """Tokens on a circle: cosine similarity cos(step * distance) in every row."""
    phase = np.random.default_rng(0).uniform(0, 6, (n, 1)) + step * np.arange(length)
    return np.stack([np.cos(phase), np.sin(phase)], axis=1)  # (n, 2, length)


def test_self_similarity_of_tokens_on_a_circle_is_the_cosine_of_their_distance():
    Z = arc(20, 9, 0.2)
    near = sum((9 - t) * math.cos(0.2 * t) for t in (1, 2)) / (8 + 7)
    far = sum((9 - t) * math.cos(0.2 * t) for t in range(4, 9)) / (5 + 4 + 3 + 2 + 1)
    lds = local_distant_similarity(Z, standardize="none")
    assert lds.value == pytest.approx(near - far)
    assert lds.stderr == pytest.approx(0.0, abs=1e-12)
    t = np.arange(1, 5)
    cds = correlation_decay_slope(Z, standardize="none")
    assert cds.value == pytest.approx(-np.polyfit(t / 8, np.cos(0.2 * t), 1)[0])


def test_distances_on_a_grid_are_manhattan(rng):
    Z = rng.standard_normal((15, 5, 3, 4))
    cells = Z.reshape(15, 5, 12)
    unit = cells / np.linalg.norm(cells, axis=1, keepdims=True)
    similar = np.einsum("nct,ncs->nts", unit, unit).mean(axis=0)
    place = np.stack(np.unravel_index(np.arange(12), (3, 4)), axis=1)
    distance = np.abs(place[:, None] - place[None]).sum(axis=2)
    near = (distance > 0) & (distance <= 1.25)
    far = distance >= 2.5
    lds = local_distant_similarity(Z, standardize="none")
    assert lds.value == pytest.approx(similar[near].mean() - similar[far].mean())
    steps = np.asarray([1.0, 2.0])
    means = [similar[distance == t].mean() for t in (1, 2)]
    cds = correlation_decay_slope(Z, standardize="none")
    assert cds.value == pytest.approx(-np.polyfit(steps / 5, means, 1)[0])


def test_equal_positions_and_unrelated_ones_have_no_structure(rng):
    equal = np.broadcast_to(rng.standard_normal((30, 6, 1, 1)), (30, 6, 4, 4))
    unrelated = rng.standard_normal((300, 6, 4, 4))
    for number in (local_distant_similarity, correlation_decay_slope):
        assert number(equal).value == pytest.approx(0.0, abs=1e-12)
        found = number(unrelated)
        assert abs(found.value) < 4 * found.stderr


def test_centring_takes_a_common_direction_out_of_similarity(rng):
    Z = arc(20, 9, 0.2) + 50.0
    raw = local_distant_similarity(Z, standardize="none")
    centred = local_distant_similarity(Z, standardize="none", center=True)
    assert raw.value < 0.01 < centred.value


def test_structure_does_not_see_a_rotation_of_the_channels(rng):
    Z = rng.standard_normal((40, 4, 3, 3)).cumsum(axis=2)
    turned = np.einsum("nchw,ce->nehw", Z, rotation(rng, 4))
    for number in (
        spectral_energy_concentration,
        local_distant_similarity,
        correlation_decay_slope,
    ):
        one, two = (number(x, standardize="rms") for x in (Z, turned))
        assert two.value == pytest.approx(one.value)


def test_a_grid_without_distances_is_nan_with_a_reason(rng):
    single = rng.standard_normal((20, 4, 1, 1))
    assert "one position" in spectral_energy_concentration(single).reason
    assert "too small" in local_distant_similarity(single).reason
    assert "too small" in correlation_decay_slope(single).reason


# -- density -------------------------------------------------------------------------------------


@pytest.mark.parametrize("statistic", ["gini", "density_cv"])
def test_unevenness_of_a_gaussian_plane_is_the_closed_form(statistic):
    rng = np.random.default_rng(4)
    found = [
        uniformity(rng.standard_normal((1500, 2)), statistic=statistic, standardize="none")
        for _ in range(12)
    ]
    a = 1 / (1 + 1500 ** (-1 / 3))
    truth = {"gini": a / (a + 2), "density_cv": a / math.sqrt(1 + 2 * a)}[statistic]
    # the own kernel of a point flattens by about 1 / (2 pi h^2 N p): 2 % here
    assert np.mean([m.value for m in found]) == pytest.approx(truth, rel=0.03)
    spread = np.std([m.value for m in found], ddof=1)
    assert 0.5 < spread / np.mean([m.stderr for m in found]) < 1.8


def test_a_flat_density_is_more_uniform_than_clusters(rng):
    flat = rng.uniform(size=(800, 2))
    heaped = 0.1 * rng.standard_normal((800, 2)) ** 3 + rng.integers(0, 2, (800, 1))
    for statistic in ("gini", "density_cv", "normalized_entropy"):
        one, two = (uniformity(x, statistic=statistic) for x in (flat, heaped))
        gap = (one.value - two.value) * (1 if one.higher_is_better else -1)
        assert gap > 4 * math.hypot(one.stderr, two.stderr)


def test_uniformity_by_tsne_is_another_projection_of_the_same_number(rng):
    found = uniformity(rng.standard_normal((150, 5)), projection="tsne")
    assert found.settings["projection"] == "tsne"
    assert 0.0 < found.value < 1.0
    assert found.stderr > 0


def test_latents_on_a_line_span_no_plane(rng):
    line = rng.standard_normal((50, 1)) * np.ones(3)
    assert "lie on a line" in uniformity(line).reason


def test_potential_of_pairs_on_the_circle_is_a_bessel_function():
    # E exp(-2 t (1 - cos a)) over a uniform angle is exp(-2t) I_0(2t)
    rng = np.random.default_rng(9)
    truth = math.log(scipy.special.ive(0, 4.0))
    z = []
    for _ in range(40):
        found = hypersphere_uniformity(rng.standard_normal((400, 2)) * 3, standardize="none")
        z.append((found.value - truth) / found.stderr)
    assert abs(np.mean(z)) < 1.5  # degenerate at uniformity: the error is an upper bound there
    heaped = hypersphere_uniformity(rng.standard_normal((400, 2)) + 3, standardize="none")
    assert heaped.value > truth + 10 * heaped.stderr


def test_error_of_the_potential_holds_away_from_uniformity():
    rng = np.random.default_rng(10)
    found = [
        hypersphere_uniformity(rng.standard_normal((300, 3)) + 0.5, standardize="none")
        for _ in range(50)
    ]
    spread = np.std([m.value for m in found], ddof=1)
    assert 0.7 < spread / np.mean([m.stderr for m in found]) < 1.35


def test_likelihood_of_a_gaussian_is_its_entropy():
    rng = np.random.default_rng(11)
    found = gmm_likelihood(rng.standard_normal((4000, 3)), standardize="none")
    entropy = 0.5 * math.log(2 * math.pi * math.e)
    assert abs(found.value + entropy) < 4 * found.stderr + 0.005
    assert found.settings["n_modes"] == 1


def test_as_many_modes_are_found_as_were_planted():
    rng = np.random.default_rng(12)
    Z = rng.standard_normal((3000, 3)) + 12 * np.eye(4)[rng.integers(0, 4, 3000)][:, :3]
    found = gmm_likelihood(Z)
    assert found.settings["n_modes"] == 4
    by_size = found.settings["log_likelihood"]
    assert by_size[1] < by_size[2] < by_size[4]


def test_few_rows_leave_out_large_mixtures(rng):
    found = gmm_likelihood(rng.standard_normal((100, 5)))
    assert list(found.settings["log_likelihood"]) == [1, 2, 4]
    none = gmm_likelihood(rng.standard_normal((30, 20)))
    assert none.reason == "30 rows do not determine 1 covariances of 20 dimensions"
    wide = gmm_likelihood(rng.standard_normal((300, 60)), max_dimensions=8)
    assert wide.settings["dimensions"] == 8


# -- neighbours ----------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [two_nn_dimension, mle_dimension])
def test_dimension_of_a_flat_square_in_ten_dimensions(number):
    # the border takes from the number: 2,000 points in the square, bias below half an error
    rng = np.random.default_rng(13)
    basis = rotation(rng, 10)[:, :2]
    options = {} if number is two_nn_dimension else {"n_neighbors": 5}
    found = [number(rng.uniform(size=(2000, 2)) @ basis.T, **options) for _ in range(30)]
    z = np.asarray([(m.value - 2) / m.stderr for m in found])
    assert abs(z.mean()) < 1.0
    assert 0.65 < z.std(ddof=1) < 1.45


def test_dimension_sees_neither_rotation_nor_scale_nor_the_order_of_rows(rng):
    Z = rng.standard_normal((300, 4))
    other = 5 * Z[rng.permutation(300)] @ rotation(rng, 4) + 2
    for number in (two_nn_dimension, mle_dimension):
        one, two = number(Z), number(other)
        assert two.value == pytest.approx(one.value)
        assert two.stderr == pytest.approx(one.stderr)


def test_repeated_rows_are_dropped_and_counted(rng):
    Z = rng.standard_normal((200, 3))
    doubled = np.concatenate([Z, Z[:150]])
    for number in (two_nn_dimension, mle_dimension, gaussian_viv):
        one, two = number(Z), number(doubled)
        assert (two.value, two.stderr) == pytest.approx((one.value, one.stderr))
        assert two.settings["duplicates_dropped"] == 150
        assert two.n_rows == 200


def test_labels_without_relation_agree_by_chance():
    rng = np.random.default_rng(14)
    z = []
    for _ in range(30):
        y = rng.integers(0, 4, 400)
        found = neighbour_consistency(rng.standard_normal((400, 5)), y)
        z.append((found.value - found.settings["chance"]) / found.stderr)
    assert abs(np.mean(z)) * math.sqrt(30) < 4
    assert 0.6 < np.std(z, ddof=1) < 1.5


def test_separated_classes_agree_and_a_permutation_of_rows_does_not_matter(rng):
    y = np.arange(200) % 2
    Z = rng.standard_normal((200, 3)) + 30 * y[:, None]
    order = rng.permutation(200)
    for metric in ("euclidean", "cosine"):
        assert neighbour_consistency(Z, y, metric=metric).value > 0.98
    one = neighbour_consistency(Z[:, :2], y * 0 + (np.arange(200) % 3 == 0))
    two = neighbour_consistency(Z[order, :2], (np.arange(200) % 3 == 0)[order])
    assert two.value == pytest.approx(one.value)


def test_positions_are_pooled_before_neighbours_are_sought(rng):
    y = np.arange(120) % 2
    Z = 10 * rng.standard_normal((120, 2, 4, 4))
    Z = Z - Z.mean(axis=(2, 3), keepdims=True) + (2 * y - 1)[:, None, None, None]
    pooled = neighbour_consistency(Z, y, metric="euclidean")
    whole = neighbour_consistency(Z, y, metric="euclidean", pool=False)
    assert pooled.value == pytest.approx(1.0)
    assert whole.value < 0.8


# -- encoder and decoder -------------------------------------------------------------------------


@pytest.mark.parametrize("transform", ["rotate90", "rotate180", "flip_horizontal", "flip_vertical"])
def test_a_pointwise_map_is_equivariant(rng, transform):
    images = rng.standard_normal((20, 3, 4, 6))
    found = affine_equivariance(images, lambda x: np.tanh(x[:, :2]), transform=transform)
    assert found.value == 0.0
    assert found.settings["latent_shape"] == (2, 4, 6)


def test_transforms_are_numpy_s(rng):
    x = rng.standard_normal((2, 3, 4, 6))
    assert np.array_equal(TRANSFORMS["rotate90"](x), np.rot90(x, axes=(2, 3)))
    assert np.array_equal(TRANSFORMS["rotate180"](x), np.rot90(x, 2, axes=(2, 3)))
    assert np.array_equal(TRANSFORMS["flip_horizontal"](x), x[..., ::-1])
    assert np.array_equal(TRANSFORMS["flip_vertical"](x), x[:, :, ::-1])
    assert TRANSFORMS["halve"](x)[1, 2, 0, 1] == pytest.approx(x[1, 2, :2, 2:4].mean())


def test_a_linear_pointwise_map_commutes_with_halving_and_a_curved_one_does_not(rng):
    images = rng.standard_normal((20, 1, 8, 8))
    assert affine_equivariance(images, lambda x: 3 * x + 1, transform="halve").value < 1e-25
    assert affine_equivariance(images, np.square, transform="halve").value > 0.1


def test_a_map_that_weighs_positions_breaks_equivariance_by_a_known_share():
    # latents w x with w = 1 on the left, -1 on the right half: mirrored, every sign is wrong
    images = np.random.default_rng(15).standard_normal((400, 1, 2, 2))
    weights = np.asarray([1.0, -1.0])
    found = affine_equivariance(images, lambda x: x * weights, transform="flip_horizontal")
    other = affine_equivariance(images, lambda x: 7 * x * weights + 3, transform="flip_horizontal")
    assert found.value == pytest.approx(4.0, rel=0.01)
    # neither scale nor shift of the latents changes it
    assert (other.value, other.stderr) == pytest.approx((found.value, found.stderr))


def test_flat_images_and_latents_carry_their_shapes_beside_them(rng):
    images = rng.standard_normal((20, 48))
    found = affine_equivariance(
        images, np.tanh, transform="rotate90", image_shape=(3, 4, 4), latent_shape=(3, 4, 4)
    )
    assert found.value == 0.0


def test_a_torch_encoder_is_used_as_it_stands(rng):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    module = torch.nn.Conv2d(1, 2, 2, stride=2).double()
    images = rng.standard_normal((20, 1, 8, 8))
    one = affine_equivariance(images, TorchEncoder(module))
    two = affine_equivariance(images, module)
    assert one.value == pytest.approx(two.value)
    assert 0.1 < one.value < 4
    with torch.no_grad():
        module.weight[:] = 1.0
    assert affine_equivariance(images, module).value < 1e-20


def test_interpolation_distance_is_zero_where_features_are_identical(rng):
    Z = rng.standard_normal((60, 4))
    found = interpolation_distance(Z, lambda z: z, lambda x: x[:, :2], Z, weight=0.0)
    assert found.value == pytest.approx(0.0, abs=1e-12)
    assert found.stderr == pytest.approx(0.0, abs=1e-12)


def test_interpolation_leaves_a_curved_manifold_and_not_a_flat_one(rng):
    angle = rng.uniform(0, 2 * math.pi, 300)
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)[::6]
    flat = rng.uniform(size=(50, 2))
    bent, straight = (
        interpolation_distance(x, lambda z: z, lambda v: (v**2).sum(axis=1)[:, None], x)
        for x in (circle, flat)
    )
    assert bent.value > 1e-6
    on_arc = interpolation_distance(
        circle, lambda z: z, lambda v: (v**2).sum(axis=1)[:, None], circle, path="spherical"
    )
    assert on_arc.value == pytest.approx(0.0, abs=1e-12)
    assert straight.settings["n_features"] == 1


def test_the_decoder_is_given_latents_of_their_shape(rng):
    seen = []

    class Decoder:
        def decode(self, z):
            seen.append(z.shape)
            return z

    Z = rng.standard_normal((40, 2, 3, 3))
    interpolation_distance(Z, Decoder(), lambda x: x.reshape(len(x), -1)[:, :3], Z)
    flat = Z.reshape(40, -1)
    interpolation_distance(flat, Decoder(), lambda x: x.reshape(len(x), -1)[:, :3], flat)
    assert seen == [(40, 2, 3, 3), (40, 18)]


# -- all together --------------------------------------------------------------------------------


def test_every_rival_is_computed_or_says_what_it_lacks(rng):
    Z = rng.standard_normal((120, 6))
    found = rival_metrics(Z)
    assert set(found) == {name for name, rival in RIVALS.items() if rival.by_default}
    assert found["lds"].reason == "not given: positions (latent_shape)"
    assert found["neighbour_consistency"].reason == "not given: y"
    assert found["equivariance"].reason == "not given: images, encoder"
    assert found["interpolation_distance"].reason == "not given: decoder, features, X or images"
    for metric in found.values():
        if not metric.reason:
            assert math.isfinite(metric.value), metric
            assert metric.stderr > 0, metric
            assert metric.reference
            assert metric.settings["standardize"] in ("none", "rms", "channel")


def test_with_all_inputs_every_rival_has_a_value(rng):
    images = rng.standard_normal((200, 1, 8, 8))

    def encode(x):
        return x.reshape(len(x), 1, x.shape[2] // 2, 2, x.shape[3] // 2, 2)[:, :, :, 0, :, 1]

    found = rival_metrics(
        encode(images),
        y=np.arange(200) % 2,
        encoder=encode,
        decoder=lambda z: z,
        images=images,
        features=lambda x: x.reshape(len(x), -1)[:, :4],
        transform="rotate180",
        include=[name for name in RIVALS if name != "uniformity_tsne"],
    )
    assert not [m for m in found.values() if m.reason]
    assert found["equivariance"].settings["transform"] == "rotate180"
    assert all(metric.name == name for name, metric in found.items())


NUMBERS = ["gaussian_viv", "kronecker_viv", "sec_0.5", "lds", "cds", "two_nn_dimension"]


def test_every_library_gives_the_numbers_of_numpy(library, rng):
    Z = rng.standard_normal((60, *SHAPE)).cumsum(axis=2)
    names = [*NUMBERS, "uniformity_gini", "hypersphere_uniformity", "neighbour_consistency"]
    y = np.arange(60) % 3
    expected = rival_metrics(Z, y=y, include=names)
    found = rival_metrics(library(Z), y=y, include=names)
    for name in names:
        assert found[name].value == pytest.approx(expected[name].value, rel=1e-9), name
        assert found[name].stderr == pytest.approx(expected[name].stderr, rel=1e-7), name
    images = library(rng.standard_normal((12, 2, 4, 4)))
    assert affine_equivariance(images, lambda x: 2 * x).value == 0.0


def test_order_of_rows_does_not_matter(rng):
    Z = rng.standard_normal((80, *SHAPE))
    order = rng.permutation(80)
    one, two = (rival_metrics(x, include=NUMBERS) for x in (Z, Z[order]))
    for name in NUMBERS:
        assert two[name].value == pytest.approx(one[name].value), name


def test_constant_latents_and_few_rows_give_nan_with_a_reason(rng):
    names = [name for name, rival in RIVALS.items() if set(rival.needs) <= {"positions"}]
    constant = rival_metrics(
        np.ones((50, *SHAPE)) + np.arange(50)[:, None, None, None] * 0, include=names
    )
    few = rival_metrics(rng.standard_normal((5, *SHAPE)), include=names)
    for found in (constant, few):
        for metric in found.values():
            assert math.isnan(metric.value)
            assert "distinct rows, and at least 10 are needed" in metric.reason
    nearly = rival_metrics(1e9 + 1e-6 * rng.standard_normal((50, *SHAPE)), include=names)
    assert {m.reason for m in nearly.values()} == {"the latents are constant"}


def test_a_metric_shows_its_error_or_its_reason(rng):
    assert repr(gaussian_viv(rng.standard_normal((50, 2)))).startswith("Metric(gaussian_viv: 1.")
    assert "+-" in repr(gaussian_viv(rng.standard_normal((50, 2))))
    assert repr(gaussian_viv(rng.standard_normal((9, 2)))).startswith("Metric(gaussian_viv: nan, 9")


PLAIN = np.random.default_rng(0).standard_normal((20, 18))
IMAGES = PLAIN[:, :16].reshape(20, 1, 4, 4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: gaussian_viv(PLAIN, standardize="unit"), "standardize is 'unit': it is one of"),
        (lambda: gaussian_viv(PLAIN, latent_shape=(4, 4)), "latent_shape is \\(4, 4\\)"),
        (lambda: gaussian_viv(PLAIN, y=[0, 1]), "y has shape \\(2,\\) but Z has 20 rows"),
        (lambda: gaussian_viv(PLAIN, y=np.ones(20)), "y holds the single label"),
        (lambda: kronecker_viv(PLAIN), "kronecker_viv needs positions.* shape is None"),
        (lambda: kronecker_factors(PLAIN[:5], latent_shape=(2, 9)), "does not determine the fact"),
        (lambda: spectral_energy_concentration(IMAGES, threshold=1.0), "threshold is 1.0"),
        (lambda: local_distant_similarity(IMAGES, near=0.6), "near is 0.6 and far 0.5"),
        (lambda: correlation_decay_slope(IMAGES, far=0.0), "far is 0.0"),
        (lambda: uniformity(PLAIN, statistic="std"), "statistic is 'std'"),
        (lambda: uniformity(PLAIN, projection="umap"), "projection is 'umap'"),
        (lambda: hypersphere_uniformity(PLAIN, t=0.0), "t is 0.0"),
        (lambda: gmm_likelihood(PLAIN, n_components=(4, 2)), "n_components is \\(4, 2\\)"),
        (lambda: gmm_likelihood(PLAIN, n_folds=1), "n_folds is 1"),
        (lambda: mle_dimension(PLAIN, n_neighbors=2), "n_neighbors is 2"),
        (lambda: neighbour_consistency(PLAIN, np.arange(20) % 2, metric="l1"), "metric is 'l1'"),
        (lambda: affine_equivariance(IMAGES, np.tanh, transform="shear"), "transform is 'shear'"),
        (lambda: affine_equivariance(IMAGES, np.tanh, transform=3), "transform is 3"),
        (lambda: affine_equivariance(PLAIN, np.tanh), "images has shape \\(20, 18\\)"),
        (
            lambda: affine_equivariance(PLAIN, np.tanh, image_shape=(1, 4, 4)),
            "image_shape is \\(1, 4, 4\\) for images of 18 numbers",
        ),
        (
            lambda: affine_equivariance(IMAGES, lambda x: x.reshape(20, -1)),
            "output has shape \\(20, 16\\)",
        ),
        (
            lambda: affine_equivariance(IMAGES[:, :, :3], np.tanh, transform="halve"),
            "the grid is 3 x 4",
        ),
        (
            lambda: affine_equivariance(IMAGES, lambda x: x[:, :, :2], transform="halve"),
            "does not keep the grid",
        ),
        (
            lambda: interpolation_distance(PLAIN, np.abs, np.abs, PLAIN[:4]),
            "data has 4 rows but Z has 20",
        ),
        (lambda: interpolation_distance(PLAIN, np.abs, np.abs, PLAIN, path="arc"), "path is 'arc'"),
        (
            lambda: interpolation_distance(PLAIN, np.abs, lambda x: x[0], PLAIN),
            "features gives shape \\(18,\\) for 20 decoded samples",
        ),
        (lambda: rival_metrics(PLAIN, include=["fid"]), "include names 'fid'"),
    ],
)
def test_refusals_name_the_argument_and_the_value(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_what_cannot_be_called_is_refused():
    with pytest.raises(TypeError, match="encoder is a int without transform or encode"):
        affine_equivariance(IMAGES, 3)
    with pytest.raises(TypeError, match="decoder is a int without decode"):
        interpolation_distance(PLAIN, 3, np.abs, PLAIN)


def test_too_few_rows_for_the_features_is_a_reason():
    found = interpolation_distance(PLAIN, np.abs, lambda x: np.tile(x, 2), PLAIN)
    assert found.reason == "20 rows do not determine a covariance of 36 features"
