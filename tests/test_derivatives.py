"""Derivatives of encoders: known answers, the naive twin beside them, and the laws of calculus."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.decomposition import NMF, PCA
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from skfisher._backend.arrays import to_numpy
from skfisher.geometry.affine import affine_part
from skfisher.geometry.derivatives import directional_derivatives, pushforward
from skfisher.geometry.images import nondeterminism
from skfisher.geometry.spectra import singular_values

COVERED = 2.0  # times the estimate that the true error of differences may be


def wave(xp, X):
    """A map of R^3 to R^4 that bends everywhere."""
    a, b, c = X[:, 0], X[:, 1], X[:, 2]
    return xp.stack([xp.sin(2.0 * a) * b, xp.exp(0.5 * c), a * b * c, xp.tanh(a - b)], axis=1)


def wave_jacobian(X):
    a, b, c = X.T
    none, bell = np.zeros_like(a), 1.0 / np.cosh(a - b) ** 2
    rows = [
        [2.0 * np.cos(2.0 * a) * b, np.sin(2.0 * a), none],
        [none, none, 0.5 * np.exp(0.5 * c)],
        [b * c, a * c, a * b],
        [bell, -bell, none],
    ]
    return np.stack([np.stack(row, axis=1) for row in rows], axis=1)


def wave_second(X, V):
    """D^2 f[v, v] by hand."""
    a, b, c = (X[:, None, i] for i in range(3))
    u, v, w = (V[:, :, i] for i in range(3))
    bend = -2.0 * np.tanh(a - b) / np.cosh(a - b) ** 2
    columns = [
        -4.0 * np.sin(2.0 * a) * b * u**2 + 4.0 * np.cos(2.0 * a) * u * v,
        0.25 * np.exp(0.5 * c) * w**2,
        2.0 * (a * v * w + b * u * w + c * u * v),
        bend * (u - v) ** 2,
    ]
    return np.stack(columns, axis=2)


@pytest.fixture
def X(rng):
    return rng.normal(size=(40, 3))


@pytest.fixture
def V(rng):
    return rng.normal(size=(40, 2, 3))


def numpy_wave(X):
    return wave(np, X)


@pytest.fixture
def torch():
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    return torch


@pytest.fixture
def wrap(torch):
    from skfisher.encoders import TorchEncoder

    return TorchEncoder


@pytest.fixture
def network(torch):
    return torch.nn.Sequential(
        torch.nn.Linear(3, 16), torch.nn.GELU(), torch.nn.Linear(16, 4)
    ).double()


def relu_network(torch, d=4):
    return torch.nn.Sequential(torch.nn.Linear(3, 24), torch.nn.ReLU(), torch.nn.Linear(24, d))


# -- known answers -------------------------------------------------------------------------------


def test_torch_and_its_numpy_twin_know_the_answer(torch, wrap, X, V):
    first = np.einsum("adi,api->apd", wave_jacobian(X), V)
    second = wave_second(X, V)
    exact = directional_derivatives(wrap(lambda x: wave(torch, x)), X, V)
    assert exact.method == "nested forward mode"
    assert_allclose(exact.first, first, rtol=1e-12, atol=1e-13)
    assert_allclose(exact.second, second, rtol=1e-12, atol=1e-13)
    near = directional_derivatives(numpy_wave, X, V)
    assert near.method == "differences, Richardson"
    assert_allclose(near.first, first, atol=1e-8 * abs(first).max(), rtol=0)
    assert_allclose(near.second, second, atol=1e-5 * abs(second).max(), rtol=0)
    assert_allclose(near.value, exact.value, rtol=1e-12, atol=1e-14)
    assert not exact.kinks
    assert not near.kinks


def test_products_equal_the_full_jacobian_and_hessian(torch, wrap, network, X, V):
    x, v = torch.tensor(X), torch.tensor(V)
    jacobian = torch.vmap(torch.func.jacrev(network))(x).detach()
    hessian = torch.vmap(torch.func.hessian(network))(x).detach()
    found = directional_derivatives(wrap(network), X, V)
    assert_allclose(found.first, torch.einsum("adi,api->apd", jacobian, v), atol=1e-13)
    assert_allclose(found.second, torch.einsum("adij,api,apj->apd", hessian, v, v), atol=1e-12)
    U = np.swapaxes(V, 1, 2)
    assert_allclose(pushforward(wrap(network), X, U), np.matmul(jacobian.numpy(), U), atol=1e-13)


@pytest.mark.parametrize("width", [1.0, 0.3, 0.1, 0.03])
def test_the_estimated_error_of_differences_covers_the_true_one(rng, width):
    X, V = rng.normal(size=(60, 2)), rng.normal(size=(60, 3, 2))

    def encode(X):
        return np.stack([np.sin(X[:, 0] / width), np.cos(X[:, 0] / width + X[:, 1])], axis=1)

    a, u = X[:, None, 0] / width, V[:, :, 0] / width
    b, w = a + X[:, None, 1], u + V[:, :, 1]
    first = np.stack([np.cos(a) * u, -np.sin(b) * w], axis=2)
    second = np.stack([-np.sin(a) * u**2, -np.cos(b) * w**2], axis=2)
    found = directional_derivatives(encode, X, V)
    assert np.all(abs(found.first - first).max(axis=(1, 2)) <= COVERED * found.first_error)
    assert np.all(abs(found.second - second).max(axis=(1, 2)) <= COVERED * found.second_error)
    assert found.first_error.max() < 1e-4 * abs(first).max()
    assert found.second_error.max() < 1e-2 * abs(second).max()
    assert not found.kinks


@pytest.mark.parametrize("told", [True, False])
def test_an_encoder_that_rounds_to_float32_gets_longer_steps(X, V, told):
    def encode(X):
        Z = wave(np, X.astype(np.float32))
        return Z if told else Z.astype(np.float64)

    first = np.einsum("adi,api->apd", wave_jacobian(X), V)
    second = wave_second(X, V)
    found = directional_derivatives(encode, X, V)
    assert_allclose(found.first, first, atol=2e-5 * abs(first).max(), rtol=0)
    assert_allclose(found.second, second, atol=2e-4 * abs(second).max(), rtol=0)
    assert np.all(abs(found.first - first).max(axis=(1, 2)) <= COVERED * found.first_error)
    assert np.all(abs(found.second - second).max(axis=(1, 2)) <= COVERED * found.second_error)
    assert found.second_error.min() > 1e-7
    assert not found.kinks


def test_noise_below_the_dtype_is_seen_in_the_error(rng, X, V):
    encode = lambda X: np.sin(X) + 1e-6 * rng.normal(size=X.shape)  # noqa: E731
    found = directional_derivatives(encode, X, V)
    first = np.cos(X)[:, None, :] * V
    assert found.first_error.mean() > 1e-7
    off = abs(found.first - first).max(axis=(1, 2))
    assert np.mean(off <= COVERED * found.first_error) > 0.95
    assert not found.kinks


def test_steps_that_fall_on_whole_periods_do_not_deceive():
    # sin(2 pi 4 x) is zero at every dyadic share of the scale 1
    found = directional_derivatives(
        lambda X: np.sin(8.0 * np.pi * X), np.zeros((1, 1)), np.ones((1, 1, 1)), scale=1.0
    )
    assert_allclose(found.first, 8.0 * np.pi, rtol=1e-8)


def test_affine_encoders_bend_exactly_nowhere(rng, X, V):
    A = rng.normal(size=(3, 5))
    linear = affine_part(lambda X: X @ A + 7.0, X).map
    for encode in (linear, lambda X: X @ A + 7.0, None):
        found = directional_derivatives(encode, X, V)
        assert_allclose(found.first, V if encode is None else V @ A, atol=1e-11)
        assert_array_equal(found.second, np.zeros_like(found.first))
        assert not found.kinks
    assert directional_derivatives(linear, X, V).method == "closed form"
    straight = directional_derivatives(lambda X: X @ A + 7.0, X, V)
    assert straight.method == "differences, exact on straight lines"
    assert 0.0 < straight.second_error.max() < 1e-9


# -- laws ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("exact", [True, False])
def test_first_is_linear_and_second_quadratic_in_the_direction(request, X, V, exact):
    encode = numpy_wave
    if exact:
        torch, wrap = (request.getfixturevalue(name) for name in ("torch", "wrap"))
        encode = wrap(lambda x: wave(torch, x))
    u, v = V[:, :1, :], V[:, 1:, :]
    found = directional_derivatives(
        encode, X, np.concatenate([u, v, u + v, u - v, -3.0 * u, 0.0 * u], axis=1)
    )
    first, second = np.moveaxis(found.first, 1, 0), np.moveaxis(found.second, 1, 0)
    assert_allclose(first[2], first[0] + first[1], atol=1e-8)
    assert_allclose(first[4], -3.0 * first[0], atol=1e-8)
    assert_allclose(second[2] + second[3], 2.0 * (second[0] + second[1]), atol=1e-6)
    assert_allclose(second[4], 9.0 * second[0], atol=1e-6)
    assert_array_equal(first[5], np.zeros_like(first[5]))
    assert_array_equal(second[5], np.zeros_like(second[5]))


def test_a_pipeline_obeys_the_chain_rule(torch, wrap, network, X, V):
    chain = make_pipeline(
        StandardScaler(),
        FunctionTransformer(np.sinh),
        FrozenEstimator(wrap(network)),
        PCA(2),
        "passthrough",
        FunctionTransformer(np.tanh),
    ).fit(X)
    found = directional_derivatives(chain, X, V)
    whole = directional_derivatives(lambda X: chain.transform(X), X, V)
    assert found.method == "differences, Richardson -> nested forward mode -> " + (
        "differences, Richardson"
    )
    assert_allclose(found.value, chain.transform(X), atol=1e-13)
    assert_allclose(found.first, whole.first, atol=1e-9)
    assert_allclose(found.second, whole.second, atol=1e-6)
    assert np.all(abs(found.first - whole.first).max(axis=(1, 2)) <= 1e-12 + found.first_error)
    once = directional_derivatives(chain, X, V, order=1)
    assert once.second is None
    assert_allclose(once.first, found.first, atol=1e-12)


def test_a_pipeline_of_exact_steps_is_exact(torch, wrap, X, V):
    linear = affine_part(lambda X: X @ np.diag([1.0, 2.0, 3.0]), X).map
    chain = make_pipeline(FunctionTransformer(linear).fit(X), wrap(torch.sin), wrap(torch.exp))
    chain.steps[0] = ("linear", linear)
    chain.steps = [("linear", linear), *chain.steps[1:]]
    found = directional_derivatives(_Chain(chain.steps), X, V)
    assert found.method == "closed form -> nested forward mode -> nested forward mode"
    S = np.asarray([1.0, 2.0, 3.0])
    y, v = (X * S)[:, None, :], V * S
    assert_allclose(found.first, np.exp(np.sin(y)) * np.cos(y) * v, atol=1e-12)
    assert_allclose(
        found.second, np.exp(np.sin(y)) * (np.cos(y) ** 2 - np.sin(y)) * v**2, atol=1e-12
    )


class _Chain:
    """Steps that scikit-learn would not clone."""

    def __init__(self, steps):
        self.steps = steps

    def transform(self, X):
        raise NotImplementedError


def test_a_row_is_differentiated_alike_in_any_company(X, V):
    whole = directional_derivatives(numpy_wave, X, V, scale=1.0)
    part = directional_derivatives(numpy_wave, X[7:9], V[7:9], scale=1.0)
    assert_allclose(whole.second[7:9], part.second, rtol=1e-10, atol=1e-12)


def test_every_library_and_dtype(library, X, V):
    def encode(X):
        xp = library.xp
        return xp.stack([xp.sin(X[:, 0]) * X[:, 1], xp.exp(X[:, 2])], axis=1)

    expected = directional_derivatives(
        lambda X: np.stack([np.sin(X[:, 0]) * X[:, 1], np.exp(X[:, 2])], axis=1), X, V
    )
    for dtype in ("float64", "float32"):
        found = directional_derivatives(encode, library(X, dtype), library(V, dtype))
        assert library.owns(found.first)
        assert library.owns(found.second)
        atol = 1e-8 if dtype == "float64" else 1e-4
        assert_allclose(to_numpy(found.first), expected.first, atol=atol)
        assert_allclose(to_numpy(found.second), expected.second, atol=100 * atol)


# -- torch modules ---------------------------------------------------------------------------------


def test_the_module_stays_as_it_was(torch, wrap, X, V):
    network = torch.nn.Sequential(
        torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Dropout(0.5), torch.nn.Tanh()
    ).double()
    network[0].bias.requires_grad_(False)
    network[1].eval()
    before = {name: t.clone() for name, t in network.state_dict().items()}
    flags = [(p.training, [q.requires_grad for q in p.parameters()]) for p in network.modules()]
    state = torch.random.get_rng_state()
    encoder = wrap(network)
    directional_derivatives(encoder, X, V)
    encoder.pullback(X, np.ones((40, 1, 4)))
    assert flags == [
        (p.training, [q.requires_grad for q in p.parameters()]) for p in network.modules()
    ]
    assert all(parameter.grad is None for parameter in network.parameters())
    assert torch.equal(state, torch.random.get_rng_state())
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_inference_mode_does_not_stop_derivatives(torch, wrap, network, X, V):
    expected = directional_derivatives(wrap(network), X, V)
    with torch.inference_mode():
        found = directional_derivatives(wrap(network), X, V)
    assert_array_equal(found.second, expected.second)


@pytest.mark.parametrize(
    "mode",
    [
        "nested forward mode",
        "nested forward mode, plain kernels",
        "nested reverse mode",
        "nested reverse mode, plain kernels",
        "forward mode, second by differences of the first",
        "reverse mode, second by differences of the first",
    ],
)
def test_every_mode_gives_the_same_derivatives(torch, wrap, network, X, V, mode):
    expected = wrap(network).jet(X, V)
    found = wrap(network).jet(X, V, mode=mode)
    assert found.mode == mode
    assert_allclose(found.first, expected.first, atol=1e-13)
    assert_allclose(found.second, expected.second, atol=1e-9)
    once = wrap(network).jet(X, V, order=1, mode=mode)
    assert once.second is None
    assert_allclose(once.first, expected.first, atol=1e-13)


def test_attention_goes_by_the_kernel_that_has_forward_mode(torch, wrap, rng):
    class Attention(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.project = torch.nn.Linear(4, 12)

        def forward(self, x):
            q, k, v = self.project(x.reshape(-1, 1, 5, 4)).chunk(3, dim=-1)
            return torch.nn.functional.scaled_dot_product_attention(q, k, v).flatten(1)

    X, V = rng.normal(size=(6, 20)), rng.normal(size=(6, 2, 20))
    encoder = wrap(Attention().double())
    found = directional_derivatives(encoder, X, V)
    assert found.method.startswith("nested forward mode")
    near = directional_derivatives(encoder.transform, X, V)
    assert_allclose(found.first, near.first, atol=1e-9)
    assert_allclose(found.second, near.second, atol=1e-7)


@pytest.mark.parametrize("name", ["silu", "mish", "glu"])
@pytest.mark.parametrize("inplace", [False, True])
def test_activations_without_second_forward_derivative_are_written_out(
    torch, wrap, rng, name, inplace
):
    X, V = rng.normal(size=(5, 4)), rng.normal(size=(5, 2, 4))
    given = {"inplace": True} if inplace and name != "glu" else {}
    encoder = wrap(lambda x: getattr(torch.nn.functional, name)(1.0 * x, **given))
    found = directional_derivatives(encoder, X, V)
    assert found.method.startswith("nested forward mode, plain kernels (not: nested forward mode")
    near = directional_derivatives(encoder.transform, X, V)
    assert_allclose(found.first, near.first, atol=1e-10)
    assert_allclose(found.second, near.second, atol=1e-8)


def test_a_function_without_forward_mode_goes_backward_and_says_so(torch, wrap, X, V):
    class Sine(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return torch.sin(x)

        @staticmethod
        def backward(ctx, grad):
            (x,) = ctx.saved_tensors
            return grad * torch.cos(x)

    found = directional_derivatives(wrap(Sine.apply), X, V)
    assert found.method.startswith("nested reverse mode (not: nested forward mode: ")
    assert_allclose(found.first, np.cos(X)[:, None] * V, atol=1e-13)
    assert_allclose(found.second, -np.sin(X)[:, None] * V**2, atol=1e-12)


def test_what_torch_cannot_differentiate_goes_by_differences_and_says_so(torch, wrap, X, V):
    def half_cut(x):
        return torch.tanh(x) + torch.sin(2.0 * x).detach()

    found = directional_derivatives(wrap(half_cut), X, V)
    assert found.method.startswith("differences, Richardson; exact derivatives failed: ")
    assert "as if part of it were cut" in found.method
    y = X[:, None]
    assert_allclose(found.first, (1 / np.cosh(y) ** 2 + 2 * np.cos(2 * y)) * V, atol=1e-9)
    with pytest.raises(NotImplementedError, match="cut"):
        wrap(half_cut).jet(X, V)


def test_image_encoders_and_scaled_latents(torch, wrap, rng):
    diffusers = pytest.importorskip("diffusers")
    module = diffusers.AutoencoderKL(
        in_channels=1,
        out_channels=1,
        down_block_types=("DownEncoderBlock2D", "DownEncoderBlock2D"),
        up_block_types=("UpDecoderBlock2D", "UpDecoderBlock2D"),
        block_out_channels=(4, 4),
        norm_num_groups=2,
        latent_channels=2,
        sample_size=8,
        scaling_factor=0.5,
    ).double()
    encoder = wrap(module, posterior="mean", input_shape=(1, 8, 8), scaled=True)
    X, V = rng.normal(size=(4, 64)), rng.normal(size=(4, 2, 64))
    found = directional_derivatives(encoder, X, V)
    assert found.method.startswith("nested forward mode")
    assert_allclose(found.value, encoder.transform(X), atol=1e-12)
    near = directional_derivatives(encoder.transform, X, V)
    assert_allclose(found.first, near.first, atol=1e-7 * abs(near.first).max())
    assert_allclose(found.second, near.second, atol=1e-5 * abs(near.second).max())
    W = rng.normal(size=(4, 1, encoder.transform(X).shape[1]))
    assert_allclose(
        np.sum(encoder.pullback(X, W) * V[:, :1], axis=2),
        np.sum(W * found.first[:, :1], axis=2),
        rtol=1e-10,
    )


# -- kinks -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_bending_in_kinks_is_found(torch, wrap, X, V, seed):
    torch.manual_seed(seed)
    network = relu_network(torch)
    found = directional_derivatives(wrap(network), X, V)
    assert found.kinks
    assert "kinks" in found.method
    assert_array_equal(found.second, np.zeros_like(found.second))
    assert directional_derivatives(wrap(network).transform, X, V).kinks
    mixed = torch.nn.Sequential(network, torch.nn.Tanh())
    assert directional_derivatives(wrap(mixed), X, V).kinks
    assert directional_derivatives(wrap(mixed).transform, X[:3], V[:3]).kinks


@pytest.mark.parametrize(
    "encode",
    [abs, lambda X: np.round(3.0 * X), lambda X: np.sin(4e2 * X), lambda X: np.sin(3e3 * X)],
)
def test_functions_that_differences_do_not_resolve_are_marked(X, V, encode):
    found = directional_derivatives(encode, X, V)
    assert found.kinks
    assert "do not settle" in found.method
    assert not directional_derivatives(encode, X, V, order=1).kinks


@pytest.mark.parametrize("activation", ["Tanh", "SiLU", "GELU", "Softplus"])
def test_smooth_networks_have_no_kinks(torch, wrap, X, V, activation):
    network = torch.nn.Sequential(
        torch.nn.Linear(3, 24), getattr(torch.nn, activation)(), torch.nn.Linear(24, 4)
    )
    encoder = wrap(network)  # float32
    assert not directional_derivatives(encoder, X, V).kinks
    assert not directional_derivatives(encoder.transform, X, V).kinks
    assert not directional_derivatives(wrap(torch.nn.Linear(3, 2)), X, V).kinks


# -- singular values -------------------------------------------------------------------------------


@pytest.mark.parametrize("d", [2, 6])
def test_fewer_latents_than_tangents_go_backward_to_the_same_pushforward(torch, wrap, rng, d):
    network = torch.nn.Sequential(torch.nn.Linear(8, d), torch.nn.Tanh()).double()
    X, U = rng.normal(size=(7, 8)), np.linalg.qr(rng.normal(size=(7, 8, 4)))[0]
    B = pushforward(wrap(network), X, U)
    assert B.shape == (7, d, 4)
    assert_allclose(B, pushforward(wrap(network).transform, X, U), atol=1e-9)
    found = singular_values(wrap(network), X, U)
    assert_allclose(found.values, np.linalg.svd(B, compute_uv=False), atol=1e-12)
    assert_allclose(found.smallest, found.values[:, -1])


def test_krylov_values_lie_within_their_errors(torch, wrap, rng):
    network = torch.nn.Sequential(torch.nn.Linear(200, 180), torch.nn.Tanh()).double()
    encoder = wrap(network)
    X, U = 0.1 * rng.normal(size=(2, 200)), np.linalg.qr(rng.normal(size=(2, 200, 150)))[0]
    full = np.linalg.svd(pushforward(encoder, X, U), compute_uv=False)
    loose = singular_values(encoder, X, U, n=3, tol=1e-2)
    assert loose.method == "block Krylov"
    assert loose.errors.max() > 0.0
    assert np.all(np.isnan(loose.smallest))
    gap = abs(loose.values[:, :, None] - full[:, None, :]).min(axis=2)
    assert np.all(gap <= loose.errors + 1e-12)
    tight = singular_values(encoder, X, U, n=3)
    assert_allclose(tight.values, full[:, :3], atol=1e-6)
    assert tight.errors.max() <= 1e-6 * full.max()
    most = singular_values(encoder, X, U, n=149)
    assert_allclose(most.values, full[:, :149], atol=1e-9)
    assert_allclose(most.smallest, full[:, -1], atol=1e-9)


def test_an_affine_map_of_many_columns_needs_no_matrix(rng):
    A = rng.normal(size=(160, 140)) / 12.0
    X = rng.normal(size=(400, 160))
    linear = affine_part(lambda X: X @ A, X).map
    U = np.broadcast_to(np.eye(160), (2, 160, 160))
    found = singular_values(linear, X[:2], U)
    assert found.method == "block Krylov"
    assert_allclose(found.values[0], np.linalg.svd(A, compute_uv=False)[:16], atol=1e-6)


# -- latents that are no function of the row -------------------------------------------------------


def test_a_function_of_the_row_passes(torch, wrap, network, X):
    for encode in (None, np.tanh, PCA(2).fit(X), wrap(network), make_pipeline(PCA(2)).fit(X)):
        assert nondeterminism(encode, X) == ""
    assert nondeterminism(wrap(network.float()), X) == ""


def test_noise_dropout_and_batch_statistics_are_named(torch, wrap, rng, X):
    def dropped(X):
        return torch.nn.functional.dropout(torch.tensor(X), 0.2).numpy()

    assert "dropout" in nondeterminism(dropped, X)
    assert "noise" in nondeterminism(lambda X: X + 1e-3 * rng.normal(size=X.shape), X)
    norm = torch.nn.BatchNorm1d(3).double()

    def normed(X):
        with torch.no_grad():
            return norm(torch.tensor(X)).numpy()

    assert "batch normalisation" in nondeterminism(normed, X)
    assert nondeterminism(wrap(norm), X) == ""

    class Drawn(torch.nn.Module):
        def forward(self, x):
            return torch.distributions.Normal(x, 0.1 * torch.ones_like(x))

    assert "noise by position" in nondeterminism(wrap(Drawn(), posterior="sample"), X)


# -- refusals --------------------------------------------------------------------------------------


def test_encoders_that_refuse_points_off_the_data_say_what_else_can_be_done(X, V):
    nmf = NMF(2, init="random", random_state=0, max_iter=2000).fit(abs(X))
    with pytest.raises(ValueError, match=r"refuses points beside the rows of X .*local fits"):
        directional_derivatives(nmf, np.where(X > 0, X, 0.0), V)


def test_shorter_steps_are_tried_where_long_ones_leave_the_domain(rng):
    def root(X):
        if np.any(X < 0):
            raise ValueError("negative")
        return np.sqrt(X)

    X = rng.uniform(0.3, 1.0, size=(20, 1))
    found = directional_derivatives(root, X, np.ones((20, 1, 1)), scale=2.0)
    assert "short steps" in found.method
    assert_allclose(found.first[:, 0], 0.5 / np.sqrt(X), rtol=1e-8)
    logarithm = directional_derivatives(np.log, X, np.ones((20, 1, 1)), scale=2.0)
    assert_allclose(logarithm.second[:, 0], -1.0 / X**2, rtol=1e-5)


def test_where_no_step_is_defined_the_derivative_is_marked(rng):
    def island(X):
        return np.where(np.round(X) == X, X, np.nan)

    found = directional_derivatives(island, np.ones((2, 1)), np.ones((2, 1, 1)), scale=1.0)
    assert np.all(np.isnan(found.first))
    assert np.all(np.isinf(found.first_error))


def test_refusals_name_argument_value_and_cure(torch, wrap, network, X, V):
    with pytest.raises(ValueError, match="order is 3"):
        directional_derivatives(np.sin, X, V, order=3)
    with pytest.raises(ValueError, match="order is 0"):
        wrap(network).jet(X, V, order=0)
    with pytest.raises(ValueError, match=r"V has shape \(40, 3\)"):
        directional_derivatives(np.sin, X, V[:, 0])
    with pytest.raises(ValueError, match=r"V has shape \(40, 0, 3\)"):
        wrap(network).jet(X, V[:, :0])
    with pytest.raises(ValueError, match=r"U has shape \(40, 2, 3\)"):
        pushforward(np.sin, X, V)
    with pytest.raises(ValueError, match="scale has shape"):
        directional_derivatives(np.sin, X, V, scale=0.0)
    with pytest.raises(ValueError, match="n is 0"):
        singular_values(np.sin, X, np.swapaxes(V, 1, 2), n=0)
    with pytest.raises(TypeError, match=r"bare Sequential: wrap it"):
        directional_derivatives(network, X, V)
    with pytest.raises(TypeError, match="int without transform"):
        directional_derivatives(3, X, V)
    with pytest.raises(ValueError, match=r"returned shape \(40,\)"):
        directional_derivatives(lambda X: X[:, 0], X, V)
    with pytest.raises(ValueError, match="posterior is 'sample'"):
        directional_derivatives(wrap(network, posterior="sample"), X, V)
    with pytest.raises(ValueError, match="two different latents"):
        directional_derivatives(wrap(lambda x: x + torch.randn_like(x)), X, V)
    with pytest.raises(ValueError, match=r"samples of shape \(1, 3\)"):
        wrap(network).jet(X[:, None, :], V)
    with pytest.raises(NotImplementedError, match="reverse mode"):
        wrap(lambda x: torch.tanh(x).detach()).pullback(X, np.ones((40, 1, 3)))
