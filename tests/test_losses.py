"""Penalties for training: known answers, what leaves them alone, and their gradients."""

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from skfisher.geometry import affine_part, penalties  # noqa: E402
from skfisher.losses import (  # noqa: E402
    encoder_curvature_loss,
    geometry_preserving_loss,
    isometry_loss,
    kl_to_standard_normal,
    tangential_distortion_loss,
    unit_directions,
)

DIRECTED = (isometry_loss, encoder_curvature_loss)


@pytest.fixture
def draws():
    return torch.Generator().manual_seed(0)


def normal(*shape, draws):
    return torch.randn(shape, generator=draws, dtype=torch.float64)


def rotation(n, draws):
    return torch.linalg.qr(normal(n, n, draws=draws))[0]


def even_directions(n):
    """Unit vectors of the plane, whose averages of sines to the fourth are exact."""
    angles = torch.arange(n, dtype=torch.float64) * math.pi / n
    return torch.stack([angles.cos(), angles.sin()], dim=1)


def rolled(x, radius=2.0):
    angle, height = x[:, 0] / radius, x[:, 1]
    return torch.stack([radius * angle.cos(), radius * angle.sin(), height], dim=1)


def network(draws, n=3, d=2):
    layers = torch.nn.Sequential(torch.nn.Linear(n, 8), torch.nn.SiLU(), torch.nn.Linear(8, d))
    layers = layers.double()
    with torch.no_grad():
        for p in layers.parameters():
            p.copy_(normal(*p.shape, draws=draws))
    return layers


def numerical(loss, parameter, step=1e-6):
    """Derivatives of a loss by every entry of a parameter, by central differences."""
    found = torch.zeros_like(parameter)
    with torch.no_grad():
        for i in np.ndindex(*parameter.shape):
            kept = parameter[i].item()
            parameter[i] = kept + step
            above = loss()
            parameter[i] = kept - step
            found[i] = (above - loss()) / (2 * step)
            parameter[i] = kept
    return found


# distances


def test_a_rigid_map_has_no_geometry_loss(draws):
    x = normal(12, 5, draws=draws)
    z = x @ rotation(5, draws) + 3
    assert geometry_preserving_loss(x, z).item() < 1e-24


def test_the_geometry_loss_is_its_formula_over_all_pairs(draws):
    x, z = normal(7, 2, 3, draws=draws), normal(7, 4, draws=draws)
    terms = []
    for i in range(7):
        for j in range(i):
            a, b = ((t[i] - t[j]).square().sum().item() for t in (x, z))
            terms.append((math.log(1 + b) - math.log(1 + a)) ** 2)
    assert math.isclose(geometry_preserving_loss(x, z).item(), np.mean(terms), rel_tol=1e-12)


def test_given_distances_stand_in_for_the_euclidean_ones(draws):
    x, z = normal(7, 3, draws=draws), normal(7, 2, draws=draws)
    ours = geometry_preserving_loss(x, z)
    theirs = geometry_preserving_loss(None, z, distances=torch.cdist(x, x))
    torch.testing.assert_close(ours, theirs)
    # an arc is rigid to the segment that it is unrolled to, along itself
    angle = torch.linspace(0, 3, 9, dtype=torch.float64)[:, None]
    along = (angle - angle.T).abs()
    assert geometry_preserving_loss(None, angle, distances=along).item() < 1e-24
    arc = torch.cat([angle.cos(), angle.sin()], dim=1)
    assert geometry_preserving_loss(arc, angle).item() > 0.01


def test_rows_that_coincide_have_finite_gradients():
    x = torch.tensor([[0.0], [1.0], [1.0]], dtype=torch.float64)
    z = torch.zeros(3, 2, dtype=torch.float64, requires_grad=True)
    geometry_preserving_loss(x, z).backward()
    assert torch.equal(z.grad, torch.zeros_like(z))
    z = torch.tensor([[0.0], [0.5], [0.5]], dtype=torch.float64, requires_grad=True)
    geometry_preserving_loss(x, z).backward()
    assert torch.isfinite(z.grad).all()
    assert z.grad[0] > 0  # further apart lowers the loss


def test_the_geometry_losss_gradient_is_its_derivative(draws):
    x = normal(5, 3, draws=draws)
    z = normal(5, 2, draws=draws).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: geometry_preserving_loss(x, z), z)
    assert torch.autograd.gradgradcheck(lambda z: geometry_preserving_loss(x, z), z)


def test_the_geometry_loss_refuses_what_has_no_pairs_or_does_not_match():
    z = torch.zeros(3, 2)
    with pytest.raises(ValueError, match=r"z has 1 row\(s\), and a distance needs two"):
        geometry_preserving_loss(z[:1], z[:1])
    with pytest.raises(ValueError, match="x has 4 rows and z has 3: pass the latents of x"):
        geometry_preserving_loss(torch.zeros(4, 2), z)
    with pytest.raises(ValueError, match=r"distances has shape \(2, 2\), and z has 3 rows"):
        geometry_preserving_loss(None, z, distances=torch.zeros(2, 2))
    with pytest.raises(ValueError, match="x and distances: both given"):
        geometry_preserving_loss(z, z, distances=torch.zeros(3, 3))
    with pytest.raises(ValueError, match="x and distances: neither given"):
        geometry_preserving_loss(None, z)


# stretches


@pytest.mark.parametrize("scale", [1.0, 0.01, 30.0])
def test_a_scaled_rigid_map_has_no_distortion(scale, draws):
    x, Q = normal(20, 4, draws=draws), rotation(6, draws)[:4]
    u = unit_directions(x, generator=draws)

    def rigid(x):
        return scale * (x @ Q) + 1

    assert abs(isometry_loss(rigid, x, u).item()) < 1e-12
    assert tangential_distortion_loss(rigid, x).item() < 1e-24
    assert encoder_curvature_loss(rigid, x, u).item() < 1e-24


def test_the_distortion_of_a_linear_map_is_the_audits(draws):
    x, A = normal(30, 3, draws=draws), normal(3, 5, draws=draws)
    theirs = penalties(x.numpy(), (x @ A).numpy(), linear=affine_part(None, x, x @ A).map)
    ours = tangential_distortion_loss(lambda x: x @ A, x)
    assert math.isclose(ours.item(), float(theirs.tangential_distortion), rel_tol=1e-9)


def test_the_relative_variance_of_stretches_has_its_expectation(draws):
    stretch = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)
    x = torch.zeros(40_000, 3, dtype=torch.float64)
    u = unit_directions(x, generator=draws)
    found = isometry_loss(lambda x: x * stretch, x, u).item()
    squares = (u * stretch).square().sum(1)
    m = squares.mean()
    # of a ratio of means, by the delta method
    terms = squares.square() / m**2 - 2 * squares.square().mean() / m**3 * squares
    stderr = float(terms.std() / math.sqrt(len(u)))
    assert abs(found - 12 / 35) < 4 * stderr


def test_distortion_sees_one_scale_for_all_rows():
    x = torch.tensor([[0.0], [1.0]], dtype=torch.float64)

    def uneven(x):  # stretched by 1 at 0 and by e at 1
        return torch.expm1(x)

    # log G is 0 and 2, so the mean square about its mean is 1
    assert math.isclose(tangential_distortion_loss(uneven, x).item(), 1.0, rel_tol=1e-12)


def test_only_the_given_tangents_count(draws):
    x = normal(6, 3, draws=draws)
    Q = rotation(3, draws)
    tangents = Q[:, :2].T.expand(6, 2, 3)
    stretch = Q @ torch.diag(torch.tensor([2.0, 2.0, 50.0], dtype=torch.float64)) @ Q.T

    def linear(x):
        return x @ stretch

    assert tangential_distortion_loss(linear, x, tangents).item() < 1e-24
    assert tangential_distortion_loss(linear, x).item() > 1
    u = unit_directions(x, tangents=tangents, generator=draws)
    assert abs(isometry_loss(linear, x, u).item()) < 1e-12


def test_a_lost_direction_is_left_out_of_the_distortion(draws):
    x = normal(5, 3, draws=draws)
    weight = torch.diag(torch.tensor([1.0, math.e, 0.0], dtype=torch.float64)).requires_grad_()
    found = tangential_distortion_loss(lambda x: x @ weight, x)
    assert math.isclose(found.item(), 1.0, rel_tol=1e-12)
    found.backward()
    assert torch.isfinite(weight.grad).all()


def test_images_are_rows_as_well(draws):
    x = normal(3, 1, 4, 4, draws=draws)
    convolution = torch.nn.Conv2d(1, 2, 2, stride=2).double()
    flat = torch.stack(
        [convolution(e).flatten() for e in torch.eye(16).double().reshape(16, 1, 1, 4, 4)]
    )
    s = torch.linalg.svdvals(flat - convolution(torch.zeros_like(x[:1])).flatten())
    kept = 2 * torch.log(s[s > 1e-6 * s[0]])
    found = tangential_distortion_loss(convolution, x)
    assert math.isclose(found.item(), kept.var(correction=0).item(), rel_tol=1e-9)
    u = unit_directions(x, generator=draws)
    assert encoder_curvature_loss(convolution, x, u).item() < 1e-20


# curvature


def test_a_rolled_plane_has_the_curvature_of_its_cylinder():
    u = even_directions(8)
    found = encoder_curvature_loss(rolled, torch.ones_like(u), u)
    assert math.isclose(found.item(), 3 / 32, rel_tol=1e-12)


def test_a_cylinder_unrolled_along_its_geodesics_has_no_encoder_curvature():
    angle = torch.linspace(0, 1, 8, dtype=torch.float64)
    x = torch.stack([2 * angle.cos(), 2 * angle.sin(), angle], dim=1)
    around = torch.stack([-angle.sin(), angle.cos(), 0 * angle], dim=1)
    up = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64).expand(8, 3)
    a, b = even_directions(8).T[:, :, None]
    u = a * around + b * up
    inward = -x * torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64) / 4 * a**2

    def unroll(x):
        # any extension off the cylinder will do: this one stretches with the radius
        radius = x[:, :2].square().sum(1)
        return torch.stack([radius / 2 * torch.atan2(x[:, 1], x[:, 0]), x[:, 2]], dim=1)

    assert encoder_curvature_loss(unroll, x, u, inward).item() < 1e-24
    assert encoder_curvature_loss(unroll, x, u).item() > 0.01


def test_a_wave_has_its_curvature():
    a, w = 0.3, 2.0
    x = torch.linspace(0.1, 3, 50, dtype=torch.float64)[:, None]

    def wave(x):
        return torch.cat([x, a * torch.sin(w * x)], dim=1)

    G = 1 + (a * w * torch.cos(w * x)) ** 2
    expected = ((a * w**2 * torch.sin(w * x)) ** 2 / G**2).mean()
    found = encoder_curvature_loss(wave, x, torch.ones_like(x))
    assert math.isclose(found.item(), expected.item(), rel_tol=1e-12)


def test_curvature_has_the_unit_of_one_over_latent_squared(draws):
    module = network(draws)
    x = normal(6, 3, draws=draws)
    u = unit_directions(x, generator=draws)
    once = encoder_curvature_loss(module, x, u)
    thrice = encoder_curvature_loss(lambda x: 3 * module(x), x, u)
    assert math.isclose(thrice.item(), once.item() / 9, rel_tol=1e-12)


# gradients to the parameters of a module


@pytest.mark.parametrize("loss", ["isometry", "distortion", "curvature"])
def test_gradients_reach_the_parameters(loss, draws):
    module = network(draws)
    x = normal(6, 3, draws=draws)
    u = unit_directions(x, generator=draws)
    value = {
        "isometry": lambda: isometry_loss(module, x, u),
        "distortion": lambda: tangential_distortion_loss(module, x),
        "curvature": lambda: encoder_curvature_loss(module, x, u),
    }[loss]
    value().backward()
    for name in ("0.weight", "2.weight"):
        parameter = module.get_parameter(name)
        expected = numerical(value, parameter.data)
        torch.testing.assert_close(parameter.grad, expected, rtol=1e-4, atol=1e-6)


def test_training_by_a_penalty_lowers_it(draws):
    module = network(draws, n=2, d=3)
    x = normal(32, 2, draws=draws)
    optimiser = torch.optim.Adam(module.parameters(), lr=0.02)
    before = tangential_distortion_loss(module, x).item()
    for _ in range(60):
        optimiser.zero_grad()
        tangential_distortion_loss(module, x).backward()
        optimiser.step()
    assert tangential_distortion_loss(module, x).item() < 0.3 * before


def test_derivatives_pass_group_norm_and_attention(draws):
    attention = torch.nn.functional.scaled_dot_product_attention

    class Module(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = torch.nn.GroupNorm(2, 4)

        def forward(self, x):
            h = self.norm(x)
            return attention(h, h, h)

    module = Module().double()
    x = normal(3, 4, 4, draws=draws)
    u = unit_directions(x, generator=draws)
    step = 1e-4
    first = (module(x + step * u) - module(x - step * u)) / (2 * step)
    second = (module(x + step * u) - 2 * module(x) + module(x - step * u)) / step**2
    speed = first.flatten(1).square().sum(1)
    expected = (second.flatten(1).square().sum(1) / speed**2).mean()
    torch.testing.assert_close(
        encoder_curvature_loss(module, x, u), expected, rtol=1e-4, atol=0, check_dtype=False
    )


# posteriors


def test_the_divergence_is_that_of_torchs_distributions(draws):
    from torch.distributions import Normal, kl_divergence

    mean, log_variance = normal(5, 2, 3, draws=draws), normal(5, 2, 3, draws=draws)
    posterior = Normal(mean, torch.exp(log_variance / 2))
    zero = torch.zeros_like(mean)
    expected = kl_divergence(posterior, Normal(zero, zero + 1)).flatten(1).sum(1).mean()
    torch.testing.assert_close(kl_to_standard_normal(mean, log_variance), expected)
    assert kl_to_standard_normal(zero, zero).item() == 0


def test_the_divergence_keeps_its_digits_near_the_prior():
    tiny = torch.full((1, 1), 1e-4)
    assert math.isclose(kl_to_standard_normal(0 * tiny, tiny).item(), 2.5e-9, rel_tol=0.05)


def test_shapes_of_posteriors_have_to_agree():
    with pytest.raises(ValueError, match=r"mean has shape \(2, 3\) and log_variance \(2, 4\)"):
        kl_to_standard_normal(torch.zeros(2, 3), torch.zeros(2, 4))


# directions


def test_directions_are_uniform_on_the_unit_sphere_of_the_tangents(draws):
    n, k = 20_000, 3
    x = torch.zeros(n, 5, dtype=torch.float64)
    tangents = rotation(5, draws)[:, :k].T
    u = unit_directions(x, tangents=tangents.expand(n, k, 5), generator=draws)
    torch.testing.assert_close(u.norm(dim=1), torch.ones(n, dtype=torch.float64))
    inside = u @ tangents.T
    torch.testing.assert_close(inside @ tangents, u)
    # E u_i u_j = delta / k, and the variance of u_i^2 on the sphere is 2 (k - 1) / (k^2 (k + 2))
    spread = math.sqrt(2 * (k - 1) / (k**2 * (k + 2)) / n)
    assert ((inside.square().mean(0) - 1 / k).abs() < 4 * spread).all()


def test_directions_follow_their_generator():
    x = torch.zeros(3, 2, 2)
    first, second = (unit_directions(x, generator=torch.Generator().manual_seed(s)) for s in (1, 1))
    assert torch.equal(first, second)
    assert first.dtype == x.dtype


@pytest.mark.parametrize("loss", DIRECTED)
def test_directions_of_another_shape_are_refused(loss):
    x = torch.zeros(3, 2)
    with pytest.raises(ValueError, match=r"directions has shape \(3, 1\) and x \(3, 2\): pass one"):
        loss(lambda x: x, x, torch.zeros(3, 1))


def test_accelerations_of_another_shape_are_refused():
    x = torch.ones(3, 2)
    with pytest.raises(ValueError, match=r"accelerations has shape \(2, 2\) and x \(3, 2\)"):
        encoder_curvature_loss(lambda x: x, x, x, torch.zeros(2, 2))


def test_tangents_that_do_not_fit_are_refused():
    x = torch.zeros(3, 2)
    with pytest.raises(
        ValueError, match=r"tangents has shape \(3, 2\) and x \(3, 2\): pass \(N, k"
    ):
        unit_directions(x, tangents=x)
    with pytest.raises(ValueError, match=r"not orthonormal \(their inner products are off by 3\)"):
        tangential_distortion_loss(lambda x: x, x, 2 * torch.eye(2).expand(3, 2, 2))


def test_a_constant_has_no_distortion_to_lower():
    with pytest.raises(ValueError, match="function has no derivative along any tangent"):
        tangential_distortion_loss(lambda x: 0 * x, torch.zeros(3, 2))
