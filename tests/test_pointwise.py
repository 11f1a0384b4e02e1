"""Known answers and laws of the pointwise penalties."""

import math

import mpmath
import numpy as np
import pytest
from scipy.integrate import quad
from sklearn.decomposition import NMF
from surfaces import cylinder, embedded, sphere, torus

from skfisher.encoders import TorchEncoder
from skfisher.geometry import affine_part, penalties, pointwise_geometry
from skfisher.geometry.averages import (
    curvature_averages,
    form_from_directions,
    polarisation_directions,
    random_tangents,
    square_weights,
)


def rotation(rng, n):
    return np.linalg.qr(rng.normal(size=(n, n)))[0]


def kept(B):
    return np.ones((B.shape[0], min(B.shape[1:])), dtype=bool)


def measured(B, acceleration=None, **rest):
    return pointwise_geometry(B, anchors=np.arange(len(B)), acceleration=acceleration, **rest)


def values(found):
    return {name: value for name, (value, _) in found.means.items()}


# -- averages over tangents ------------------------------------------------------------------------


def test_weights_in_the_plane_are_those_of_the_closed_form():
    for s1, s2 in ((1.0, 1.0), (2.0, 0.5), (3.0, 1e-3), (1.0, 1e-5)):
        W = square_weights(np.asarray([[s1**2, s2**2]]), np.ones((1, 2), dtype=bool))[0]
        # E c^4 / D^2 and so on, from E c^2 / D = 1 / (s1 (s1 + s2)) by derivatives
        expected = [
            (2 * s1 + s2) / (2 * s1**3 * (s1 + s2) ** 2),
            1 / (2 * s1 * s2 * (s1 + s2) ** 2),
            (s1 + 2 * s2) / (2 * s2**3 * (s1 + s2) ** 2),
        ]
        np.testing.assert_allclose([3 * W[0, 0], W[0, 1], 3 * W[1, 1]], expected, rtol=1e-12)


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_averages_agree_with_random_tangents_within_their_error(k, rng):
    B = rng.normal(size=(1, 6, k)) * np.geomspace(1, 0.3, k)
    form = rng.normal(size=(1, 6, k, k))
    form = form + np.swapaxes(form, 2, 3)
    exact = curvature_averages(B, form, kept(B))
    u = random_tangents(1, 20000, k, B)
    a = np.einsum("nap,ndpq,naq->nad", u, form, u)
    speed = np.sum((u @ np.swapaxes(B, 1, 2)) ** 2, axis=2)
    along = a @ np.linalg.svd(B, full_matrices=False)[0]
    for value, part in zip(exact, (a, along), strict=False):
        ratio = np.sum(part**2, axis=2)[0] / speed[0] ** 2
        # groups of k orthogonal directions are independent
        groups = ratio[: 20000 // k * k].reshape(-1, k).mean(axis=1)
        error = groups.std() / math.sqrt(len(groups))
        assert abs(ratio.mean() - value[0]) < 4 * error + 1e-9
    assert exact[0] == pytest.approx(exact[1] + exact[2])


def test_polarisation_restores_a_form_from_its_squares(rng):
    form = rng.normal(size=(4, 3, 5, 5))
    form = form + np.swapaxes(form, 2, 3)
    u = polarisation_directions(5, form)
    squares = np.einsum("pa,ndab,pb->npd", u, form, u)
    np.testing.assert_allclose(form_from_directions(squares, 5), form, atol=1e-12)


# -- known answers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("c", [1e-3, 1.0, 1e3])
def test_scaled_rigid_maps_of_curved_data_keep_its_bending_and_add_none(c, rng):
    X = sphere(rng, 600)
    A = c * rotation(rng, 5)[:3]
    linear = affine_part(None, X, X @ A).map
    for how in ({"linear": linear}, {"encode": lambda x: x @ A}, {}):
        found = penalties(X, X @ A, intrinsic_dimension=2, max_anchors=8, pointwise=True, **how)
        assert found.dimensional_compression == 0.0
        assert abs(found.tangential_distortion) < (1e-3 if not how else 1e-12)
        tolerance = 0.05 if not how else 1e-6
        assert found.encoder_curvature * c**2 == pytest.approx(found.data_curvature, rel=tolerance)
        # the part inside is what the fit's own error makes of a bending that is all outside
        assert abs(found.encoder_curvature_inside) * c**2 < max(tolerance, 1e-4)
        assert abs(found.curvature_change) < tolerance


@pytest.mark.parametrize("c", [1.0, 0.01])
def test_scaled_rigid_maps_of_flat_data_have_no_term_at_all(c, rng):
    X = rng.normal(size=(200, 2)) @ rotation(rng, 4)[:2]
    A = c * rotation(rng, 6)[:4]
    found = penalties(X, X @ A, encode=lambda x: x @ A)
    assert found.dimensional_compression == 0.0
    assert found.tangential_distortion < 1e-18
    assert found.encoder_curvature_scale_free < 1e-8
    assert (found.data_curvature, found.reach) == (0.0, math.inf)


def test_distortion_of_one_two_four_is_1_28(rng):
    X = rng.normal(size=(100, 3))
    found = penalties(X, X * [1.0, 2.0, 4.0], encode=lambda x: x * [1.0, 2.0, 4.0])
    assert found.tangential_distortion == pytest.approx(2 * math.log(4) ** 2 / 3, abs=1e-9)
    assert found.encoder_curvature < 1e-9


def rolled(x, radius=1.5):
    return np.stack(
        [radius * np.cos(x[:, 0] / radius), radius * np.sin(x[:, 0] / radius), x[:, 1]], axis=1
    )


def test_rolling_a_plane_bends_but_does_not_stretch(rng):
    X = rng.uniform(0, 3, size=(300, 2))
    found = penalties(X, rolled(X), encode=rolled)
    expected = 3 / (8 * 1.5**2)
    assert found.tangential_distortion < 1e-12
    assert found.encoder_curvature == pytest.approx(expected, rel=1e-6)
    assert found.encoder_curvature_outside == pytest.approx(expected, rel=1e-6)
    assert abs(found.encoder_curvature_inside) < 1e-9
    assert found.curvature_injection == found.encoder_curvature
    total = np.sum(np.var(rolled(X), axis=0))
    assert found.encoder_curvature_scale_free == pytest.approx(expected * total, rel=1e-6)
    assert found.anchors.shape == (128,)
    assert found.pointwise.encoder_curvature.shape == (128,)
    # from pairs alone
    pairs = penalties(X, rolled(X), pointwise=True)
    assert pairs.encoder_curvature == pytest.approx(expected, rel=1e-3)
    assert pairs.tangential_distortion == pytest.approx(0.0, abs=1e-3)
    assert "pairs" in pairs.reasons["encoder_curvature"]


def test_torch_encoders_give_exact_answers(rng):
    torch = pytest.importorskip("torch")

    class Roll(torch.nn.Module):
        def forward(self, x):
            return torch.stack(
                [1.5 * torch.cos(x[:, 0] / 1.5), 1.5 * torch.sin(x[:, 0] / 1.5), 2.0 * x[:, 1]],
                dim=1,
            )

    X = rng.uniform(0, 3, size=(100, 2))
    encoder = TorchEncoder(Roll())
    found = penalties(X, encoder.transform(X), encode=encoder, max_anchors=20)
    # singular values 1 and 2: curvature E c^4 / (c^2 + 4 s^2)^2 / r^2, J_2 of the closed form
    expected = (2 * 1 + 2) / (2 * (1 + 2) ** 2) / 1.5**2
    assert found.encoder_curvature == pytest.approx(expected, rel=1e-6)
    assert found.tangential_distortion == pytest.approx(math.log(2) ** 2, rel=1e-6)
    halved = penalties(
        X,
        encoder.transform(X) / [1.0, 1.0, 2.0],
        encode=encoder,
        latent_spread=[1.0, 1.0, 2.0],
        max_anchors=20,
    )
    assert halved.tangential_distortion < 1e-12
    assert halved.encoder_curvature == pytest.approx(3 / (8 * 1.5**2), rel=1e-6)


def unrolled(x, extension=0.0):
    angle = np.arctan2(x[:, 1], x[:, 0])
    off = x[:, 0] ** 2 + x[:, 1] ** 2 - 1.0
    return np.stack([angle + extension * off, x[:, 2] - extension * off * x[:, 0]], axis=1)


def test_unrolling_a_cylinder_does_not_bend_whatever_the_extension(rng):
    X = cylinder(rng, 2000, height=2.0, arc=3.0)
    Z = unrolled(X)
    for extension in (0.0, 0.5):
        found = penalties(X, Z, encode=lambda x, e=extension: unrolled(x, e), intrinsic_dimension=2)
        assert abs(found.tangential_distortion) < 1e-3
        assert abs(found.encoder_curvature) < 1e-3
        assert found.curvature_change == pytest.approx(-3 / 8, rel=1e-2)
        assert found.data_curvature == pytest.approx(3 / 8, rel=1e-3)
        assert found.reach == pytest.approx(1.0, rel=1e-2)


def cylinder_jets(angle, extension):
    """Exact B, D^2 f and II of `unrolled` on the cylinder, its derivative along the normal."""
    zero, one = 0 * angle, 1 + 0 * angle
    c, s = np.cos(angle), np.sin(angle)
    e1 = np.stack([-s, c, zero], axis=1)
    normal = np.stack([c, s, zero], axis=1)
    U = np.stack([e1, np.stack([zero, zero, one], axis=1)], axis=2)
    form = np.zeros((len(angle), 3, 2, 2))
    form[:, :, 0, 0] = -normal
    B = np.broadcast_to(np.eye(2), (len(angle), 2, 2))
    # along e1 the angle is arctan, without second derivative, and off = h^2
    second = np.zeros((len(angle), 2, 2, 2))
    second[:, 0, 0, 0] = 2 * extension
    second[:, 1, 0, 0] = -2 * extension * c
    across = np.stack([2 * extension * one, -2 * extension * c], axis=1)
    return U, B, second, form, across


@pytest.mark.parametrize("extension", [0.0, 0.5, -3.0])
def test_acceleration_depends_on_the_encoder_through_its_values_on_the_data(extension):
    angle = np.linspace(0.2, 2.8, 9)
    _, B, second, form, across = cylinder_jets(angle, extension)
    # Df II(u, u) = -Df n
    acceleration = second.copy()
    acceleration[:, :, 0, 0] = second[:, :, 0, 0] - across
    found = measured(B, acceleration, second_form=form)
    assert values(found)["encoder_curvature"] < 1e-12
    assert values(found)["data_curvature"] == pytest.approx(3 / 8)
    assert values(found)["tangential_distortion"] < 1e-12


def ridge(a, w, n=4000):
    """B and acceleration of x -> (x, a sin(w x)) at the mid-points of one period."""
    phase = 2 * np.pi * (np.arange(n) + 0.5) / n
    B = np.stack([1 + 0 * phase, a * w * np.cos(phase)], axis=1)[:, :, None]
    second = np.stack([0 * phase, -a * w**2 * np.sin(phase)], axis=1)[:, :, None, None]
    return B, second, phase


@pytest.mark.parametrize(("a", "w"), [(0.1, 5.0), (0.5, 3.0), (1.0, 1.0)])
def test_sine_ridge_has_the_curvature_and_distortion_of_its_formulas(a, w):
    B, second, phase = ridge(a, w)
    found = measured(B, second)
    G = 1 + a**2 * w**2 * np.cos(phase) ** 2
    curvature = a**2 * w**4 * np.sin(phase) ** 2 / G**2
    np.testing.assert_allclose(found.encoder_curvature, curvature, rtol=1e-9)
    np.testing.assert_allclose(found.encoder_curvature_outside, curvature / G, rtol=1e-9)
    root = math.sqrt(1 + a**2 * w**2)
    q = (root - 1) / (root + 1)
    assert found.log_squared_scale == pytest.approx(2 * math.log((1 + root) / 2), abs=1e-9)
    expected = 2 * float(mpmath.polylog(2, q**2))
    assert values(found)["tangential_distortion"] == pytest.approx(expected, abs=1e-6)


def test_sine_ridge_is_found_by_differences(rng):
    X = rng.uniform(0, 2 * np.pi / 3, size=(4000, 1))

    def encode(x):
        return np.concatenate([x, 0.5 * np.sin(3.0 * x)], axis=1)

    found = penalties(X, encode(X), encode=encode, max_anchors=1000)
    exact = measured(*ridge(0.5, 3.0)[:2])
    for name in ("tangential_distortion", "encoder_curvature"):
        error = getattr(found, f"{name}_stderr")
        assert abs(getattr(found, name) - values(exact)[name]) < 4 * error
    where = 3.0 * X[found.anchors, 0]
    G = 1 + 2.25 * np.cos(where) ** 2
    np.testing.assert_allclose(
        found.pointwise.encoder_curvature,
        0.25 * 81 * np.sin(where) ** 2 / G**2,
        rtol=1e-3,
        atol=1e-6,
    )


def torus_chart(R, r, n):
    """Exact B and D^2 f of (a, b) -> torus, at n angles b."""
    b = 2 * np.pi * (np.arange(n) + 0.5) / n
    zero = 0 * b
    wide = R + r * np.cos(b)
    # at a = 0, whose image is turned by the others
    B = np.stack([[zero, -r * np.sin(b)], [wide, zero], [zero, r * np.cos(b)]]).transpose(2, 0, 1)
    second = np.zeros((n, 3, 2, 2))
    second[:, 0, 0, 0] = -wide
    second[:, 1, 0, 1] = second[:, 1, 1, 0] = -r * np.sin(b)
    second[:, 0, 1, 1] = -r * np.cos(b)
    second[:, 2, 1, 1] = -r * np.sin(b)
    return B, second, b


def test_torus_chart_has_the_penalties_of_quadrature():
    R, r = 2.0, 0.7
    B, second, _ = torus_chart(R, r, 400)
    found = measured(B, second)
    root = math.sqrt(R**2 - r**2)
    # E log (R + r cos b) = log ((R + root) / 2)
    log_scale = math.log(r * (R + root) / 2)
    assert found.log_squared_scale == pytest.approx(log_scale, abs=1e-9)

    def distortion(b):
        logs = 2 * np.log([R + r * math.cos(b), r])
        return np.mean((logs - log_scale) ** 2) / (2 * math.pi)

    def curvature(b, part):
        def along(t):
            wide, c, s = R + r * math.cos(b), math.cos(t), math.sin(t)
            e = np.asarray([math.cos(b), 0.0, math.sin(b)])  # outer normal
            inner = np.asarray([-math.sin(b), 0.0, math.cos(b)])
            a = np.asarray([-wide * c**2, -2 * r * math.sin(b) * c * s, 0.0]) - r * s**2 * e
            speed = (wide * c) ** 2 + (r * s) ** 2
            inside = (a @ inner) ** 2 + a[1] ** 2
            return (inside if part else (a @ e) ** 2) / speed**2 / (2 * math.pi)

        return quad(along, 0, 2 * math.pi, epsabs=1e-11)[0] / (2 * math.pi)

    expected = quad(distortion, 0, 2 * math.pi)[0]
    assert values(found)["tangential_distortion"] == pytest.approx(expected, abs=1e-9)
    for part, name in enumerate(("encoder_curvature_outside", "encoder_curvature_inside")):
        expected = quad(curvature, 0, 2 * math.pi, args=(part,), epsabs=1e-9)[0]
        assert values(found)[name] == pytest.approx(expected, rel=1e-8)


def test_any_chart_of_a_sphere_bends_outwards_by_one_over_its_radius(rng):
    # all normal curvatures are 1 / r, whatever the tangent's image
    def encode(x):
        return 2.0 * np.stack(
            [np.cos(x[:, 0]) * np.cos(x[:, 1]), np.sin(x[:, 0]) * np.cos(x[:, 1]), np.sin(x[:, 1])],
            axis=1,
        )

    X = rng.uniform(-1, 1, size=(200, 2))
    found = penalties(X, encode(X), encode=encode)
    assert found.encoder_curvature_outside == pytest.approx(1 / 4, rel=1e-6)
    assert found.encoder_curvature_inside > 0.01


# -- from noisy samples ----------------------------------------------------------------------------

CURVATURES = {
    "sphere": (sphere, 1.0),
    "cylinder": (cylinder, 3 / 8),
    # E |II(u, u)|^2 = (3 k1^2 + 3 k2^2 + 2 k1 k2) / 8, E k1 k2 = 0, integrated over the area
    "torus": (torus, 3 / (8 * 0.7**2) * 2.0 / math.sqrt(2.0**2 - 0.7**2)),
}


@pytest.mark.parametrize("name", CURVATURES)
def test_data_curvature_from_five_thousand_noisy_rows_is_right_to_ten_percent(name, rng):
    shape, truth = CURVATURES[name]
    X, _ = embedded(rng, shape(rng, 5000), 0.01)
    found = penalties(X, X, intrinsic_dimension="auto", pointwise=True)
    assert found.intrinsic_dimension == 2
    assert found.data_curvature == pytest.approx(truth, rel=0.1)
    assert abs(found.data_curvature - truth) < 4 * found.data_curvature_stderr
    total = np.sum(np.var(X, axis=0))
    assert found.data_curvature_scale_free == pytest.approx(found.data_curvature * total)
    assert "k = 2: local spectra fall after 2 directions" in found.reasons["data_curvature"]


@pytest.mark.parametrize("from_pairs", [False, True])
def test_known_answers_survive_noise_to_ten_percent(from_pairs, rng):
    points = cylinder(rng, 5000, height=2.0, arc=3.0)
    X, turn = embedded(rng, points, 0.01)

    def unroll(x):
        return unrolled(x @ turn.T)

    def ridged(x):
        flat = unroll(x)
        return np.concatenate([flat, 0.5 * np.sin(flat[:, :1])], axis=1)

    def look(encode):
        how = {"pointwise": True} if from_pairs else {"encode": encode}
        return penalties(X, encode(X), intrinsic_dimension=2, **how)

    found = look(unroll)
    assert abs(found.tangential_distortion) < 1e-3
    assert abs(found.encoder_curvature) < 0.01 * found.data_curvature
    assert found.data_curvature == pytest.approx(3 / 8, rel=0.1)
    bent = look(ridged)
    angle = np.arctan2(points[found.anchors, 1], points[found.anchors, 0])
    B, second = np.zeros((128, 3, 2)), np.zeros((128, 3, 2, 2))
    B[:, 0, 0] = B[:, 1, 1] = 1.0
    B[:, 2, 0], second[:, 2, 0, 0] = 0.5 * np.cos(angle), -0.5 * np.sin(angle)
    exact = values(measured(B, second))
    for name in ("encoder_curvature", "encoder_curvature_outside", "tangential_distortion"):
        assert getattr(bent, name) == pytest.approx(exact[name], rel=0.1)


def test_stated_errors_grow_with_noise_and_cover_the_truth():
    scores, errors = [], {0.01: [], 0.06: []}
    for seed in range(8):
        rng = np.random.default_rng(seed)
        points = sphere(rng, 1200)
        for noise, kept_errors in errors.items():
            X, _ = embedded(rng, points, noise, n_features=6)
            found = penalties(
                X, X, intrinsic_dimension=2, pointwise=True, random_state=seed, max_anchors=64
            )
            scores.append((found.data_curvature - 1.0) / found.data_curvature_stderr)
            kept_errors.append(found.data_curvature_stderr)
    assert np.mean(errors[0.06]) > 2 * np.mean(errors[0.01])
    assert np.max(np.abs(scores)) < 4
    assert np.mean(np.abs(scores)) < 2


# -- laws ------------------------------------------------------------------------------------------


def warp(x):
    return np.stack([x[:, 0] + 0.2 * x[:, 1] ** 2, x[:, 1], np.sin(x[:, 2] * x[:, 0])], axis=1)


@pytest.mark.parametrize("from_pairs", [False, True])
def test_penalties_are_invariant_under_rotation_translation_and_scale(from_pairs, rng):
    X = sphere(rng, 600)
    Q, P, c, e = rotation(rng, 3), rotation(rng, 3), 30.0, 0.02

    def moved(y):
        return e * warp((y - 5.0) @ Q.T / c) @ P + 1.0

    found, again = (
        penalties(
            x,
            encode(x),
            intrinsic_dimension=2,
            max_anchors=20,
            **({"pointwise": True} if from_pairs else {"encode": encode}),
        )
        for x, encode in ((X, warp), (c * X @ Q + 5.0, moved))
    )
    for name in (
        "dimensional_compression",
        "tangential_distortion",
        "encoder_curvature_scale_free",
        "data_curvature_scale_free",
    ):
        assert getattr(again, name) == pytest.approx(getattr(found, name), rel=1e-5, abs=1e-9)
    assert again.reach == pytest.approx(c * found.reach, rel=1e-6)
    assert again.encoder_curvature == pytest.approx(found.encoder_curvature / e**2, rel=1e-5)


def test_bending_and_stretching_more_costs_more(rng):
    X = rng.uniform(-1, 1, size=(200, 2))
    bent = [
        penalties(X, rolled(X, r), encode=lambda x, r=r: rolled(x, r)).encoder_curvature
        for r in (8.0, 4.0, 2.0, 1.0)
    ]
    assert np.all(np.diff(bent) > 0)

    def stretched(x, a):
        return x * [1.0, a] + 0.01 * x**2

    spread = [
        penalties(X, stretched(X, a), encode=lambda x, a=a: stretched(x, a)).tangential_distortion
        for a in (1.0, 1.5, 3.0, 9.0)
    ]
    assert np.all(np.diff(spread) > 0)


def test_lost_directions_are_named_by_the_variance_they_carry(rng):
    X = rng.normal(size=(400, 4)) * [1.0, 5.0, 2.0, 0.5]
    turn = rotation(rng, 4)

    def encode(x):
        back = x @ turn.T
        return np.stack([np.sinh(back[:, 0] / 4), back[:, 3]], axis=1)

    data = X @ turn
    found = penalties(data, encode(data), encode=encode)
    assert found.dimensional_compression == 0.5
    np.testing.assert_allclose(
        np.abs(found.lost_directions @ turn.T)[:, [1, 2]], np.eye(2), atol=0.1
    )
    affine = affine_part(lambda x: x @ turn.T[:, [0, 3]], data).map
    exact = penalties(data, data @ turn.T[:, [0, 3]], linear=affine)
    np.testing.assert_allclose(exact.lost_directions @ turn.T[:, [0, 3]], 0.0, atol=1e-9)
    np.testing.assert_allclose(np.abs(exact.lost_directions @ turn.T[:, 1]), [1, 0], atol=0.1)
    assert penalties(data, data, linear=affine_part(None, data, data).map).lost_directions is None


def test_curvature_counts_the_retained_directions_alone(rng):
    X = rng.normal(size=(100, 3))

    def encode(x):
        return np.stack([np.cos(x[:, 0]), np.sin(x[:, 0])], axis=1)

    found = penalties(X, encode(X), encode=encode)
    assert found.dimensional_compression == pytest.approx(2 / 3)
    assert found.encoder_curvature == pytest.approx(1.0, rel=1e-6)
    assert found.tangential_distortion < 1e-12


def test_many_dimensions_take_random_tangents_with_their_error(rng):
    X = rng.normal(size=(100, 12))
    found = penalties(X, np.sin(X / 3), encode=lambda x: np.sin(x / 3), max_anchors=100)
    assert "random tangents" in found.reasons["encoder_curvature"]
    x = X[found.anchors]
    B = np.einsum("nd,de->nde", np.cos(x / 3) / 3, np.eye(12))
    second = np.einsum("nd,de,df->ndef", -np.sin(x / 3) / 9, np.eye(12), np.eye(12))
    exact = measured(B, second)
    assert abs(found.encoder_curvature - values(exact)["encoder_curvature"]) < (
        4 * found.encoder_curvature_stderr
    )
    assert found.tangential_distortion == pytest.approx(values(exact)["tangential_distortion"])


def test_kinks_are_seen_through_by_fits_to_pairs(rng):
    knots = np.linspace(-0.1, 3.1, 200)

    def polygon(x):
        bend = [np.interp(x[:, 0], knots, 1.5 * w(knots / 1.5)) for w in (np.cos, np.sin)]
        return np.stack([*bend, x[:, 1]], axis=1)

    X = rng.uniform(0, 3, size=(2000, 2))
    found = penalties(X, polygon(X), encode=polygon)
    # straight between its corners, and yet a cylinder
    assert "pairs" in found.reasons["encoder_curvature"]
    assert "derivatives of the encoder" in found.reasons["tangential_distortion"]
    assert found.encoder_curvature == pytest.approx(3 / (8 * 1.5**2), rel=0.02)
    assert found.tangential_distortion == pytest.approx(0.0, abs=1e-3)


def test_encoders_without_derivatives_are_measured_from_pairs(rng):
    X = np.abs(rng.normal(size=(400, 3))) + 0.1
    encoder = NMF(2, random_state=0, max_iter=2000, tol=1e-6).fit(X)
    found = penalties(X, encoder.transform(X), encode=encoder, pointwise=True)
    assert 0.0 <= found.dimensional_compression <= 1.0
    assert math.isfinite(found.tangential_distortion)


def test_what_cannot_be_measured_is_said(rng):
    X = rng.normal(size=(40, 10))
    found = penalties(X, np.tanh(X), pointwise=True)
    assert math.isnan(found.encoder_curvature)
    assert (
        "a quadratic fit over 10 directions needs 132 neighbours"
        in (found.reasons["tangential_distortion"])
    )
    assert found.pointwise is None
    few = penalties(
        sphere(rng, 11), np.tanh(sphere(rng, 11)), encode=np.tanh, intrinsic_dimension=2
    )
    assert math.isnan(few.data_curvature)
    assert math.isnan(few.encoder_curvature)
    assert math.isfinite(few.tangential_distortion)
    assert "not measured" in few.reasons["encoder_curvature"]
    with pytest.raises(ValueError, match="intrinsic_dimension is 'two': pass a number, 'auto'"):
        penalties(X, X, intrinsic_dimension="two")


def test_duplicated_rows_change_nothing(rng):
    X = sphere(rng, 300)
    twice = np.concatenate([X, X])
    found = penalties(X, warp(X), intrinsic_dimension=2, pointwise=True)
    again = penalties(twice, warp(twice), intrinsic_dimension=2, pointwise=True)
    assert again.data_curvature == pytest.approx(found.data_curvature, rel=1e-9)
    assert again.encoder_curvature == pytest.approx(found.encoder_curvature, rel=1e-9)


def test_closed_forms_fill_the_new_fields(rng):
    X = rng.normal(size=(50, 3))
    found = penalties(X, X * [1.0, 2.0, 4.0], linear=affine_part(lambda x: x * [1, 2, 4], X).map)
    assert found.tangential_distortion_stderr == found.encoder_curvature_inside == 0.0
    assert (found.anchors, found.pointwise, found.lost_directions) == (None, None, None)


def test_every_library_gives_the_same_penalties(library, rng):
    X = sphere(rng, 200)
    Z = warp(X)
    found = penalties(library(X), library(Z), intrinsic_dimension=2, pointwise=True, max_anchors=6)
    expected = penalties(X, Z, intrinsic_dimension=2, pointwise=True, max_anchors=6)
    for name in ("tangential_distortion", "encoder_curvature", "data_curvature", "reach"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), rel=1e-6)
    assert library.owns(found.pointwise.encoder_curvature)
