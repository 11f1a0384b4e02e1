"""Laws of intrinsic dimension, tangent spaces and local fits."""

import math

import numpy as np
import pytest
from surfaces import cylinder, embedded, sphere, torus

from skfisher.curves import gaussian_curve
from skfisher.geometry import (
    fit_encoder,
    fit_second_form,
    intrinsic_dimension,
    plateau_dimension,
    reach_estimate,
    score_tangents,
    tangent_spaces,
)
from skfisher.geometry.fits import log_coordinates
from skfisher.geometry.regressions import bending_of
from skfisher.geometry.tangents import projector_dimension
from skfisher.scores.closed import GaussianMixtureScore, GaussianScore

SURFACES = {"sphere": sphere, "cylinder": cylinder, "torus": torus}


def sine_of_angle(U, V):
    """Largest sine between the planes of two bases."""
    across = V - U @ np.swapaxes(U, -1, -2) @ V
    return np.linalg.svd(across, compute_uv=False)[..., 0]


# -- intrinsic dimension ---------------------------------------------------------------------------


@pytest.mark.parametrize("noise", [0.0, 0.01])
@pytest.mark.parametrize("n_samples", [500, 5000])
@pytest.mark.parametrize("name", SURFACES)
def test_surfaces_in_twenty_dimensions_have_dimension_two(name, n_samples, noise, rng):
    X, _ = embedded(rng, SURFACES[name](rng, n_samples), noise)
    found = intrinsic_dimension(X)
    assert (found.k, found.fills_hull) == (2, False)
    assert found.agreement
    assert found.methods["local PCA"] == 2.0
    assert abs(found.methods["maximum likelihood"] - 2.0) < 0.5
    assert found.thickness < 0.1


def test_surfaces_survive_one_percent_of_their_whole_scale(rng):
    for shape in SURFACES.values():
        X, _ = embedded(rng, shape(rng, 5000), 0.01 * math.sqrt(20))
        assert intrinsic_dimension(X).k == 2
        # where the distances to two neighbours are all noise
        assert intrinsic_dimension(X).methods["two nearest neighbours"] > 4


def test_curves_have_dimension_one(rng):
    t = rng.uniform(0, 3 * np.pi, 800)
    helix = np.stack([np.cos(t), np.sin(t), 0.3 * t], axis=1)
    assert intrinsic_dimension(helix).k == 1
    assert intrinsic_dimension(np.stack([t, 0.5 * np.sin(2 * t)], axis=1)).k == 1


def mixture(rng, n_samples, n, n_components, apart, condition):
    means = apart * rng.normal(size=(n_components, n))
    spread = np.geomspace(1.0, 1.0 / condition, n)
    turns = [np.linalg.qr(rng.normal(size=(n, n)))[0] * spread for _ in range(n_components)]
    label = rng.integers(n_components, size=n_samples)
    draws = rng.normal(size=(n_samples, n))
    return means[label] + np.stack([turns[c] @ z for c, z in zip(label, draws, strict=True)])


@pytest.mark.parametrize("n_samples", [200, 1500])
@pytest.mark.parametrize("n", [1, 2, 3, 6, 16, 64])
def test_densities_fill_their_hull(n, n_samples, rng):
    samples = {
        "gaussian": rng.normal(size=(n_samples, n)),
        "anisotropic": rng.normal(size=(n_samples, n)) * np.geomspace(1, 0.01, n),
        "uniform": rng.uniform(size=(n_samples, n)),
        "heavy tails": rng.standard_t(3, size=(n_samples, n)),
        "three modes": mixture(rng, n_samples, n, 3, 3.0, 1.0),
        "four thin modes": mixture(rng, n_samples, n, 4, 3.0, 3.0),
        "many modes": mixture(rng, n_samples, n, 10, 3.0, 2.0),
    }
    wrong = {name: k for name, X in samples.items() if (k := intrinsic_dimension(X).k) != n}
    assert not wrong


def test_a_flat_surface_with_noise_is_a_density_in_its_hull(rng):
    plane, _ = embedded(rng, rng.normal(size=(1000, 2)), 0.01)
    found = intrinsic_dimension(plane)
    assert (found.k, found.fills_hull) == (20, True)
    assert intrinsic_dimension(embedded(rng, rng.normal(size=(1000, 2)))[0]).k == 2


def test_too_few_rows_are_said_to_be(rng):
    found = intrinsic_dimension(rng.normal(size=(20, 50)))
    assert (found.k, found.fills_hull, found.agreement) == (19, True, False)
    assert "too few to see less" in found.reason
    assert intrinsic_dimension(rng.normal(size=(20, 1))).agreement


def test_duplicates_and_constant_columns_change_nothing(rng):
    X, _ = embedded(rng, sphere(rng, 400), 0.01, n_features=6)
    plain = intrinsic_dimension(X)
    again = intrinsic_dimension(np.concatenate([X, X[:300], X[:50]]))
    assert (again.k, again.log_gaps.tolist()) == (plain.k, plain.log_gaps.tolist())
    padded = intrinsic_dimension(np.concatenate([X, np.full((400, 2), 3.0)], axis=1))
    assert (padded.k, padded.hull) == (2, 6)


def test_the_estimate_is_invariant_and_seeded(rng):
    X, _ = embedded(rng, torus(rng, 800), 0.01, n_features=5)
    turn = np.linalg.qr(rng.normal(size=(5, 5)))[0]
    found, moved = intrinsic_dimension(X), intrinsic_dimension(1e3 * X @ turn + 7.0)
    assert moved.k == found.k
    np.testing.assert_allclose(moved.log_gaps[:, 1], found.log_gaps[:, 1], atol=0.2)
    assert moved.radius == pytest.approx(1e3 * found.radius, rel=1e-6)
    np.testing.assert_array_equal(intrinsic_dimension(X).log_gaps, found.log_gaps)


@pytest.mark.filterwarnings("ignore")
def test_scikit_dimension_agrees(rng):
    import skdim  # slow to import, and wanted here alone

    for shape in SURFACES.values():
        X, _ = embedded(rng, shape(rng, 1000), n_features=5)
        found = intrinsic_dimension(X)
        assert round(skdim.id.MLE(K=20).fit(X).dimension_) == found.k
        assert round(skdim.id.TwoNN().fit(X).dimension_) == found.k
        own = found.methods["two nearest neighbours"]
        assert own == pytest.approx(skdim.id.TwoNN().fit(X).dimension_, abs=0.6)


# -- cross-checks along the noise ------------------------------------------------------------------


def test_a_plateau_of_the_effective_dimension_tells_thin_directions():
    model = GaussianScore(np.zeros(5), np.diag([1.0, 1.0, 1e-6, 1e-6, 1e-6]))
    curve = gaussian_curve(model.covariance, np.geomspace(1e-5, 10.0, 60))
    found = plateau_dimension(curve)
    assert found.dimension == pytest.approx(2.0, abs=0.05)
    assert 1e-3 < found.noise_level < 1.0
    short = plateau_dimension(gaussian_curve(model.covariance, np.geomspace(0.5, 10.0, 10)))
    assert math.isnan(short.dimension)
    assert "no valid level" in short.reason


def test_the_projector_of_a_score_spans_the_tangents(rng):
    angle = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    ring = np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=1)
    model = GaussianMixtureScore(
        np.full(60, 1 / 60), ring, np.broadcast_to(1e-8 * np.eye(3), (60, 3, 3))
    )
    found = score_tangents(model, ring, 0.08)
    assert found.k == 1
    assert abs(found.trace - 1.0) < 4 * found.trace_stderr + 0.02
    at = angle[found.anchors]
    along = np.stack([-np.sin(at), np.cos(at), 0 * at], axis=1)[:, :, None]
    assert np.median(sine_of_angle(along, found.basis)) < 0.15
    assert projector_dimension(model, ring, 0.08) == 1
    assert found.n_products == 3 * 60


# -- tangent spaces and fits -----------------------------------------------------------------------


def test_the_hull_is_every_tangent_space_of_data_that_fill_it(rng):
    X = rng.normal(size=(100, 2)) @ rng.normal(size=(2, 5))
    found = tangent_spaces(X, 2, anchors=[3, 7])
    assert found.exact
    plane = np.linalg.svd(X - X.mean(axis=0))[2][:2].T
    assert np.max(sine_of_angle(plane, found.basis)) < 1e-12
    np.testing.assert_array_equal(found.anchors, [3, 7])


@pytest.mark.parametrize("noise", [0.0, 0.01])
def test_fits_correct_the_planes_of_local_components(noise, rng):
    points = sphere(rng, 3000)
    X, turn = embedded(rng, points, noise)
    first = tangent_spaces(X, 2)
    fit = fit_second_form(X, first.basis, first.anchors)
    normal = points[first.anchors] @ turn
    tilt = [np.linalg.norm(normal[:, None, :] @ U, axis=(1, 2)) for U in (first.basis, fit.basis)]
    assert np.median(tilt[1]) < 0.7 * np.median(tilt[0])
    assert np.median(tilt[1]) < 0.02
    np.testing.assert_allclose(
        np.swapaxes(fit.basis, 1, 2) @ fit.basis,
        np.broadcast_to(np.eye(2), (128, 2, 2)),
        atol=1e-12,
    )
    # II(u, u) = -x on the unit sphere
    mean = -np.mean(np.sum(fit.second_form[:, :, 0, 0] * normal, axis=1))
    assert mean == pytest.approx(1.0, abs=0.03)
    inside = np.swapaxes(fit.basis, 1, 2) @ fit.second_form.reshape(128, 20, 4)
    assert np.max(np.abs(inside)) < 1e-9


def test_noise_draws_have_the_size_of_the_errors(rng):
    points = sphere(rng, 2000)
    X, _ = embedded(rng, points, 0.02)
    first = tangent_spaces(X, 2)
    fit = fit_second_form(X, first.basis, first.anchors, n_neighbors=60, order=4)
    raw, noise = bending_of(fit.second_form).mean(), bending_of(fit.second_form_noise).mean()
    assert raw - 1.0 == pytest.approx(noise, rel=0.25)
    assert fit.normal_noise == pytest.approx(0.02 * math.sqrt(18 / 20), rel=0.05)


def test_log_coordinates_are_geodesic_lengths_to_third_order():
    for size in (0.2, 0.1):
        s = size * np.asarray([0.6, 0.8])
        length = np.linalg.norm(s)
        step = np.concatenate([np.sin(length) * s / length, [np.cos(length) - 1.0]])
        basis = np.eye(3)[None, :, :2]
        form = np.zeros((1, 3, 2, 2))
        form[0, 2] = -np.eye(2)
        v = log_coordinates((step @ basis[0])[None, None, :], form)[0, 0]
        assert np.linalg.norm(v - s) < 0.1 * size**5
        assert np.linalg.norm(step @ basis[0] - s) > 0.1 * size**3


def test_second_forms_are_not_measured_where_they_cannot_be(rng):
    few = sphere(rng, 11)
    fit = fit_second_form(few, tangent_spaces(few, 2).basis, np.arange(11))
    assert not fit.measurable
    assert "a quadratic fit over 2 directions needs 12 neighbours" in fit.reason
    assert np.all(np.isnan(fit.second_form))
    assert math.isnan(reach_estimate(few, fit).value)
    crumpled = rng.normal(size=(60, 3))
    crumpled[:, 2] = np.sin(9 * crumpled[:, 0])
    first = tangent_spaces(crumpled, 2, max_anchors=20)
    wide = fit_second_form(crumpled, first.basis, first.anchors, n_neighbors=40)
    assert not wide.measurable
    assert "radians there: too wide for local fits" in wide.reason
    pairs = fit_encoder(few, few, np.arange(11), np.broadcast_to(np.eye(3)[:, :2], (11, 3, 2)))
    assert not pairs.measurable


def test_pairs_alone_tell_pushforward_and_acceleration(rng):
    t = rng.uniform(-1, 1, size=(2000, 2))
    Z = np.stack([t[:, 0] + t[:, 0] ** 2, np.sin(t[:, 1]), t[:, 0] * t[:, 1]], axis=1)
    inner = np.flatnonzero(np.max(np.abs(t), axis=1) < 0.8)[:40]
    basis = np.broadcast_to(np.eye(2), (40, 2, 2))
    fit = fit_encoder(t, Z, inner, basis)
    x, y = t[inner].T
    zero, one = 0 * x, 1 + 0 * x
    B = np.stack([[1 + 2 * x, zero], [zero, np.cos(y)], [y, x]]).transpose(2, 0, 1)
    np.testing.assert_allclose(fit.pushforward, B, atol=1e-4)
    np.testing.assert_allclose(fit.acceleration[:, 0, 0, 0], 2 * one, atol=1e-2)
    np.testing.assert_allclose(fit.acceleration[:, 1, 1, 1], -np.sin(y), atol=1e-2)
    np.testing.assert_allclose(fit.acceleration[:, 2, 0, 1], one, atol=1e-2)


def test_reach_is_the_radius_or_the_bottleneck(rng):
    X, _ = embedded(rng, cylinder(rng, 3000), n_features=3)
    first = tangent_spaces(X, 2)
    assert reach_estimate(X, fit_second_form(X, first.basis, first.anchors)).value == pytest.approx(
        1.0, rel=0.01
    )
    # two sheets 0.5 apart: a bottleneck that no curvature shows
    t = rng.uniform(0, 3, size=(3000, 2))
    sheets = np.stack([t[:, 0], t[:, 1], 0.5 * rng.integers(0, 2, 3000) + 1e-3 * t[:, 0] ** 2], 1)
    first = tangent_spaces(sheets, 2)
    fit = fit_second_form(sheets, first.basis, first.anchors, n_neighbors=20, order=2)
    found = reach_estimate(sheets, fit)
    assert found.value == pytest.approx(0.25, rel=0.02)
    assert abs(sheets[found.pair[0], 2] - sheets[found.pair[1], 2]) > 0.4


def test_every_library_gives_the_same_dimension_and_planes(library, rng):
    X, _ = embedded(rng, sphere(rng, 300), 0.01, n_features=4)
    x = library(X)
    assert intrinsic_dimension(x).k == intrinsic_dimension(X).k == 2
    found, expected = tangent_spaces(x, 2, max_anchors=9), tangent_spaces(X, 2, max_anchors=9)
    assert library.owns(found.basis)
    fit = fit_second_form(x, found.basis, found.anchors)
    same = fit_second_form(X, expected.basis, expected.anchors)
    assert library.owns(fit.second_form)
    assert (fit.n_neighbors, fit.order) == (same.n_neighbors, same.order)
    np.testing.assert_allclose(
        float(fit.second_form_stderr[4]), same.second_form_stderr[4], rtol=1e-6
    )
    assert reach_estimate(x, fit).value == pytest.approx(reach_estimate(X, same).value, rel=1e-6)
    pairs = fit_encoder(x, x, fit.anchors, fit.basis, fit.second_form)
    assert library.owns(pairs.acceleration)


def test_bad_input_is_refused_with_a_cure(rng):
    X = rng.normal(size=(30, 3))
    with pytest.raises(ValueError, match="single distinct one: pass at least two different"):
        intrinsic_dimension(np.ones((5, 2)))
    with pytest.raises(ValueError, match="max_anchors is 0: pass 1 or more"):
        intrinsic_dimension(X, max_anchors=0)
    with pytest.raises(ValueError, match="k is 4, but the affine hull of X has dimension 3"):
        tangent_spaces(X, 4)
    with pytest.raises(ValueError, match="n_neighbors is 2 for tangent spaces of dimension 2"):
        tangent_spaces(X, 2, n_neighbors=2)
    with pytest.raises(ValueError, match="NaN or infinity in 1 of 30 rows"):
        intrinsic_dimension(np.where(np.arange(30)[:, None] == 4, np.nan, X))
