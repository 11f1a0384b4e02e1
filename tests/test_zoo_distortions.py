"""Distortions on purpose: what each does to the latent, and that decoding undoes it."""

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from benchmarks.zoo.config import ENCODERS, EncoderConfig  # noqa: E402
from benchmarks.zoo.distortions import Distorted, distorted  # noqa: E402

N = 12  # entries of the base's latent
SIZE = 8  # pixels a side; the maps do not ask


class Base(torch.nn.Module):
    """Pixels -> N entries of unequal variance and mean, and the pseudo-inverse back."""

    def __init__(self, shape=(N,), seed=0):
        super().__init__()
        self.shape = shape
        g = torch.Generator().manual_seed(seed)
        rows = torch.linalg.qr(torch.randn(SIZE**2, N, generator=g))[0].T
        scales = torch.linspace(1.5, 0.5, N)[torch.randperm(N, generator=g)]
        self.register_buffer("matrix", scales[:, None] * rows)
        self.register_buffer("back", rows.T / scales)

    def encode(self, x):
        return (x.flatten(1) @ self.matrix.T + 3.0).reshape(-1, *self.shape)

    def decode(self, z):
        return ((z.flatten(1) - 3.0) @ self.back.T).reshape(-1, 1, SIZE, SIZE)


def images(n=500, seed=1):
    levels = np.random.default_rng(seed).integers(0, 256, (n, 1, SIZE, SIZE))
    return torch.from_numpy(levels).float() / 127.5 - 1


def make(options, shape=(N,), base=None, x=None):
    base = Base() if base is None else base
    x = images() if x is None else x
    return distorted(EncoderConfig("some", "distortion", shape, options), base, base.encode(x))


def standardised(base, x):
    w = base.encode(x).flatten(1).double()
    w = w - w.mean(0)
    return w / w.square().mean().sqrt()


def jacobians(model, x):
    """Of T with respect to the standardised latent: the base's own factor divided out."""
    return torch.func.vmap(torch.func.jacrev(lambda w: model.map(w[None], w[None])[0]))(
        standardised(model.base, x).float()
    )


EXACT = [
    {"condition": 64.0},
    {"amplitude": 2.0, "frequency": 4.0},
    {"amplitude": 0.5, "frequency": 1.0},
]


@pytest.mark.parametrize("options", EXACT)
def test_decoding_undoes_a_map_that_keeps_all(options):
    model, x = make(options), images(50, seed=2)
    torch.testing.assert_close(model(x), Base().decode(Base().encode(x)), atol=2e-4, rtol=0)


@pytest.mark.parametrize("condition", [1.0, 4.0, 64.0])
def test_a_stretch_has_geometric_singular_values_from_one_to_the_inverse_condition(condition):
    values = torch.linalg.svdvals(make({"condition": condition}).map.matrix.double())
    wanted = torch.logspace(0, -math.log10(condition), N, dtype=torch.float64)
    torch.testing.assert_close(values, wanted, atol=1e-6, rtol=1e-5)


def test_a_stretch_by_one_is_a_rotation_of_the_standardised_latent():
    model, x = make({"condition": 1.0}), images()
    distances = torch.cdist(model.encode(x).double(), model.encode(x).double())
    w = standardised(Base(), x)
    torch.testing.assert_close(distances, torch.cdist(w, w), atol=2e-3, rtol=0)


def test_stretches_differ_by_their_condition_alone():
    mild, strong = make({"condition": 4.0}).map, make({"condition": 16.0}).map
    # A_c = Q2 S_c Q1, hence A_4 A_4^T and A_16 A_16^T have the same eigenvectors: S_16 = S_4^2
    square = mild.matrix.double() @ mild.matrix.double().T
    torch.testing.assert_close(
        strong.matrix.double() @ strong.matrix.double().T, square @ square, atol=1e-6, rtol=0
    )


@pytest.mark.parametrize(("amplitude", "frequency"), [(0.5, 1.0), (2.0, 4.0)])
def test_a_warp_preserves_volume(amplitude, frequency):
    model = make({"amplitude": amplitude, "frequency": frequency})
    torch.testing.assert_close(
        torch.linalg.det(jacobians(model, images(40)).double()).abs(),
        torch.ones(40, dtype=torch.float64),
        atol=1e-4,
        rtol=0,
    )


def test_a_warp_without_amplitude_is_a_rotation():
    J = jacobians(make({"amplitude": 0.0, "frequency": 3.0}), images(5)).double()
    eye = torch.eye(N, dtype=torch.float64).expand(5, -1, -1)
    torch.testing.assert_close(J @ J.mT, eye, atol=1e-5, rtol=0)


@pytest.mark.parametrize("frequency", [1.0, 4.0])
def test_the_slopes_of_a_warp_are_bounded_by_its_amplitude_alone(frequency):
    a = 2.0
    # either step is I + a shear of norm at most a, whose largest singular value solves s - 1/s = a
    bound = ((a + math.sqrt(a**2 + 4)) / 2) ** 2
    largest = torch.linalg.svdvals(jacobians(make({"amplitude": a, "frequency": frequency}),
                                             images(200)))[:, 0]  # fmt: skip
    assert 0.6 * bound < largest.max() <= bound * (1 + 1e-5)


def test_a_warp_moves_both_halves_by_up_to_amplitude_over_frequency():
    model, x = make({"amplitude": 2.0, "frequency": 4.0}), images()
    straight = standardised(Base(), x) @ model.map.rotation.T.double()
    moved = (model.encode(x).double() - straight).abs()
    assert moved.max() <= 0.5 + 1e-4
    assert (moved.max(0).values > 0.45).all()


def test_dead_entries_are_independent_standard_normal_numbers():
    n, k = 4000, 6
    x = images(n)
    base = Base()
    z = make({"dead": k}, (N + k,), base, x).encode(x).double()
    live, dead = z[:, :N], z[:, N:]
    torch.testing.assert_close(live, standardised(base, x), atol=1e-4, rtol=0)
    assert (dead.mean(0).abs() < 4.5 / math.sqrt(n)).all()
    assert ((dead.square().mean(0) - 1).abs() < 4.5 * math.sqrt(2 / n)).all()
    assert ((dead**4).mean(0) - 3).abs().max() < 4.5 * math.sqrt(96 / n)
    R = torch.corrcoef(z.T)[N:].clone()
    R[:, N:] -= torch.eye(k)
    assert R.abs().max() < 4.5 / math.sqrt(n)


def test_dead_entries_of_neighbouring_images_are_independent():
    n = 2000
    x = images(1).repeat(n, 1, 1, 1)
    # all n images differ from the first in one grey level of one or two pixels
    for row in range(n):
        x[row].flatten()[row % SIZE**2] += 2 / 255 * (row // SIZE**2 + 1)
    model = make({"dead": 4}, (N + 4,))
    dead = model.encode(x)[:, N:].double()
    assert len(dead.unique(dim=0)) == n
    assert (dead.mean(0).abs() < 4.5 / math.sqrt(n)).all()
    assert (torch.corrcoef(dead.T) - torch.eye(4)).abs().max() < 4.5 / math.sqrt(n)


def test_dead_entries_are_a_function_of_the_image_whatever_its_batch():
    model, x = make({"dead": 5}, (N + 5,)), images(20)
    one_by_one = torch.cat([model.encode(row[None]) for row in x])
    assert torch.equal(model.encode(x)[:, N:], one_by_one[:, N:])
    assert torch.equal(model.encode(x + 0.3 / 127.5)[:, N:], one_by_one[:, N:])


# torch's forward mode compiles a few derivatives when it is first used
@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
def test_dead_entries_are_ignored_by_decode_and_have_no_derivative():
    model, x = make({"dead": 5}, (N + 5,)), images(10)
    z = model.encode(x)
    other = torch.cat([z[:, :N], torch.randn(10, 5)], 1)
    assert torch.equal(model.decode(z), model.decode(other))
    v = torch.ones_like(x)
    tangent = torch.func.jvp(model.encode, (x,), (v,))[1]
    assert torch.equal(tangent[:, N:], torch.zeros(10, 5))
    assert tangent[:, :N].abs().min() > 0


def test_dropping_leaves_out_the_entries_of_smallest_variance_and_decodes_their_means():
    x, base = images(), Base()
    model = make({"drop": 4}, (N - 4,), base, x)
    Z = base.encode(x)
    kept = torch.sort(torch.argsort(Z.var(0), descending=True)[: N - 4]).values
    z = model.encode(x)
    torch.testing.assert_close(z.double(), standardised(base, x)[:, kept], atol=1e-4, rtol=0)
    filled = Z.mean(0).repeat(len(Z), 1)
    filled[:, kept] = Z[:, kept]
    torch.testing.assert_close(model.decode(z), base.decode(filled), atol=1e-4, rtol=0)


@pytest.mark.parametrize("options", [{"condition": 4.0}, {"amplitude": 1.0, "frequency": 2.0}])
def test_a_latent_with_places_is_distorted_as_a_vector(options):
    spatial = Base(shape=(3, 2, 2))
    model, x = make(options, base=spatial), images(20)
    assert model.encode(x).shape == (20, N)
    torch.testing.assert_close(model.encode(x), make(options).encode(x))
    flat = distorted(EncoderConfig("flat", "distortion", (N,), options), spatial,
                     spatial.encode(images()).flatten(1))  # fmt: skip
    assert torch.equal(flat.encode(x), model.encode(x))
    torch.testing.assert_close(model(x), spatial.decode(spatial.encode(x)), atol=2e-4, rtol=0)


@pytest.mark.parametrize(
    ("options", "shape"),
    [({"condition": 4.0}, (N,)), ({"drop": 3}, (N - 3,)), ({"dead": 3}, (N + 3,))],
)
def test_the_state_of_a_distorted_encoder_is_all_that_it_needs(options, shape):
    config = EncoderConfig("some", "distortion", shape, options)
    model, x = make(options, shape), images(5)
    again = Distorted(config, Base(seed=9))
    again.load_state_dict(model.state_dict())
    assert torch.equal(again.encode(x), model.encode(x))
    assert torch.equal(again(x), model(x))


def test_every_distortion_of_the_zoo_has_the_shape_that_its_configuration_says():
    class Wide(torch.nn.Module):
        shape = (32,)

    ours = [config for config in ENCODERS if config.distorts]
    assert ours
    for config in ours:
        assert Distorted(config, Wide()).shape == config.shape


@pytest.mark.parametrize(
    ("options", "shape", "message"),
    [
        ({}, (N,), "options of 'some' are {}: pass condition"),
        ({"amplitude": 1.0}, (N,), "pass condition, or amplitude and frequency"),
        ({"condition": 4.0, "dead": 2}, (N + 2,), "pass condition"),
        ({"condition": 0.5}, (N,), "condition is 0.5: pass a number of at least 1"),
        ({"amplitude": -1.0, "frequency": 1.0}, (N,), "amplitude is -1.0: pass"),
        ({"amplitude": 1.0, "frequency": 0.0}, (N,), "frequency is 0.0: pass"),
        ({"dead": 1.5}, (N,), "dead is 1.5: pass a whole number from 1"),
        ({"drop": N}, (0,), f"drop is {N}: pass a whole number from 1 to {N - 1}"),
        ({"dead": 2}, (N,), r"shape of 'some' is \(12,\): its options make \(12,\) into \(14,\)"),
    ],
)
def test_what_is_no_distortion_is_refused(options, shape, message):
    with pytest.raises(ValueError, match=message):
        make(options, shape)


def test_a_warp_of_an_odd_number_of_entries_is_refused():
    class Odd(torch.nn.Module):
        shape = (5,)

    config = EncoderConfig("odd", "distortion", (5,), {"amplitude": 1.0, "frequency": 1.0})
    with pytest.raises(ValueError, match="the base has 5 entries: a warp needs an even number"):
        Distorted(config, Odd())


@pytest.mark.parametrize(
    ("latents", "message"),
    [
        (np.zeros((5, 3)), r"latents_of_base has shape \(5, 3\): pass \(N, 12\)"),
        (np.zeros((1, N)), "with N at least 2"),
        (np.ones((5, N)), "root mean square 0.0 about its mean: pass finite latents that differ"),
        (np.full((5, N), np.nan), "root mean square nan"),
    ],
)
def test_latents_that_give_no_scale_are_refused(latents, message):
    config = EncoderConfig("some", "distortion", (N,), {"condition": 2.0})
    with pytest.raises(ValueError, match=message):
        distorted(config, Base(), latents)
