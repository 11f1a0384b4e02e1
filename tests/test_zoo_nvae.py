"""The hierarchical autoencoder: its pieces against closed forms, its latent, and its training."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("safetensors", reason="safetensors is not installed")

from benchmarks.zoo import nvae  # noqa: E402
from benchmarks.zoo.config import EncoderConfig, encoder_named  # noqa: E402
from benchmarks.zoo.nvae import (  # noqa: E402
    NVAE,
    SpectralPenalty,
    balance,
    residual_normal_kl,
    soft_clamp,
    train_nvae,
)

SMALL = EncoderConfig("small", "nvae", (2, 4, 4), {"kl": 0.01, "groups": 2})
NAMES = ("nvae-6x4x4", "nvae-two-scales")


def blobs(n=64, channels=1, seed=0):
    """Bright discs in random places on a dark ground."""
    rng = np.random.default_rng(seed)
    places = rng.uniform(8, 24, (n, 2, 1, 1))
    grid = np.arange(32)
    away = (grid[:, None] - places[:, 0]) ** 2 + (grid - places[:, 1]) ** 2
    discs = 255 * np.exp(-away / 40)
    return SimpleNamespace(train=np.repeat(discs[:, None], channels, 1).astype(np.uint8))


def as_float(images):
    return torch.from_numpy(images.train).float() / 127.5 - 1


def made(config=SMALL, channels=1, seed=0):
    torch.manual_seed(seed)
    return NVAE(config, channels)


def same(a, b):
    ours, theirs = a.state_dict(), b.state_dict()
    return all(torch.equal(value, theirs[name]) for name, value in ours.items())


# -- the pieces ----------------------------------------------------------------------------------


def test_the_divergence_of_a_residual_normal_is_that_of_two_normals():
    m, s, m0, s0 = torch.randn(4, 7, 2, 4, 4, dtype=torch.float64)
    wanted = torch.distributions.kl_divergence(
        torch.distributions.Normal(m, s.exp()), torch.distributions.Normal(m0, s0.exp())
    )
    torch.testing.assert_close(residual_normal_kl(m, s, m0, s0), wanted.sum((1, 2, 3)))


def test_the_soft_clamp_is_the_identity_at_zero_and_stays_within_five():
    x = torch.tensor([-1e6, -1e-3, 0.0, 1e-3, 5.0, 1e6], dtype=torch.float64)
    wanted = torch.tensor([-5, -1e-3, 0, 1e-3, 5 * math.tanh(1), 5], dtype=torch.float64)
    torch.testing.assert_close(soft_clamp(x), wanted, atol=1e-10, rtol=0)


def test_balanced_weights_have_mean_one_and_follow_the_divergence_per_entry():
    weights = balance(torch.tensor([32.0, 64.0]), torch.tensor([32.0, 64.0]))
    torch.testing.assert_close(weights, torch.ones(2))
    weights = balance(torch.tensor([30.0, 20.0]), torch.tensor([10.0, 20.0]))
    torch.testing.assert_close(weights, torch.tensor([1.5, 0.5]), atol=1e-5, rtol=0)


def test_the_spectral_penalty_is_the_sum_of_the_largest_singular_values():
    model = made()
    penalty = SpectralPenalty(model, torch.Generator().manual_seed(0))
    wanted = sum(torch.linalg.matrix_norm(W.flatten(1), 2) for W in penalty.weights)
    assert len(penalty.weights) == sum("weight" in name for name, _ in model.named_parameters())
    torch.testing.assert_close(penalty(200), wanted, rtol=1e-3, atol=0)


def test_the_spectral_penalty_of_a_matrix_has_its_leading_directions_for_a_gradient():
    layer = torch.nn.Conv2d(3, 5, 1)
    SpectralPenalty(layer, torch.Generator().manual_seed(0))(200).backward()
    U, _, V = torch.linalg.svd(layer.weight.detach().flatten(1))
    torch.testing.assert_close(
        layer.weight.grad.flatten(1), torch.outer(U[:, 0], V[0]), atol=1e-4, rtol=0
    )


def test_the_learning_rate_rises_from_a_share_to_its_largest_and_ends_at_zero():
    rates = [nvae._one_cycle(share) for share in np.linspace(0, 1, 201)]
    assert rates[0] == pytest.approx(1 / 25)
    assert max(rates) == pytest.approx(1)
    assert rates[-1] == pytest.approx(0)
    top = int(np.argmax(rates))
    assert (np.diff(rates[: top + 1]) > 0).all()
    assert (np.diff(rates[top:]) < 0).all()


# -- the latent ----------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", NAMES)
def test_a_latent_has_the_shape_of_its_configuration_and_decodes_to_an_image(name, channels):
    config = encoder_named(name)
    model, x = made(config, channels), torch.randn(3, channels, 32, 32)
    z = model.encode(x)
    assert z.shape == (3, *config.shape)
    assert model.decode(z).shape == x.shape


@pytest.mark.parametrize("name", NAMES)
def test_decoding_the_means_is_the_forward_pass_without_noise(name):
    model, x = made(encoder_named(name)), torch.randn(3, 1, 32, 32)
    output, z, divergences = model(x)
    torch.testing.assert_close(model.decode(z), output)
    torch.testing.assert_close(model.encode(x), z)
    assert divergences.shape == (3, len(model.group_shapes))
    assert (divergences >= 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_rows_do_not_see_each_other(name):
    model, x = made(encoder_named(name)), torch.randn(3, 1, 32, 32)
    alone = torch.cat([model.encode(row[None]) for row in x])
    torch.testing.assert_close(model.encode(x), alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_groups_lie_one_after_the_other_in_the_latent(name):
    model, x = made(encoder_named(name)), torch.randn(2, 1, 32, 32)
    z = model.encode(x)
    h, features = model._start(2), model._features(x)
    seen = []
    for group in model.groups:
        h = model._at_size(h, group.shape[1])
        seen.append(group.parameters_of(h, features[group.shape[1]])[0])
        h = group(h, seen[-1])
    torch.testing.assert_close(torch.cat([part.flatten(1) for part in seen], 1), z.flatten(1))


@pytest.mark.parametrize("name", NAMES)
def test_every_entry_of_the_latent_reaches_the_image(name):
    model = made(encoder_named(name))
    z = torch.zeros(1, *model.shape, requires_grad=True)
    model.decode(z).square().sum().backward()
    assert (z.grad != 0).all()


def test_a_lower_group_sees_the_means_of_those_above_it():
    model, x = made(), torch.randn(2, 1, 32, 32)
    before = model.encode(x)
    with torch.no_grad():
        model.groups[0].posterior.bias += 0.5  # moves the first group's mean alone
    after = model.encode(x)
    assert (before[:, 0] - after[:, 0]).abs().min() > 0.1
    assert (before[:, 1] - after[:, 1]).abs().max() > 1e-5


def test_a_posterior_without_residual_is_the_prior_and_costs_nothing():
    model, x = made(), torch.randn(2, 1, 32, 32)
    for group in model.groups:
        torch.nn.init.zeros_(group.posterior.weight)
    z, divergences = model(x)[1:]
    assert torch.equal(divergences, torch.zeros(2, 2))
    assert torch.equal(z[:, 0], torch.zeros(2, 4, 4))
    assert z[:, 1].abs().max() > 0


def test_samples_have_the_posterior_of_the_means_above_them():
    model = made()
    x = torch.randn(1, 1, 32, 32).expand(2000, -1, -1, -1)
    g = torch.Generator().manual_seed(1)
    with torch.no_grad():
        z = model(x, torch.randn(2000, 32, generator=g))[1][:, 0].flatten(1)
        mean, log_sd = model.groups[0].parameters_of(model._start(1), model._features(x[:1])[4])[:2]
    sd = log_sd.exp().flatten()
    scores = (z.mean(0) - mean.flatten()) / (sd / math.sqrt(2000))
    assert scores.abs().max() < 4.5
    assert ((z.std(0) / sd - 1) * math.sqrt(4000)).abs().max() < 4.5


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((5, 4, 4), {"groups": 2}, "for 2 groups on one scale: pass .C, 4, 4. with C a multiple"),
        ((6, 8, 8), {"groups": 3}, "for 3 groups on one scale"),
        ((96,), {"groups": 3}, "for 3 groups on one scale"),
        ((95,), {"groups": 2, "scales": 2}, "for 2 groups on 2 scales: pass scales 1 or 2"),
        ((96,), {"groups": 2, "scales": 3}, "on 3 scales: pass scales 1 or 2"),
    ],
)
def test_shapes_that_groups_cannot_fill_are_refused(shape, options, message):
    with pytest.raises(ValueError, match=message):
        NVAE(EncoderConfig("odd", "nvae", shape, options), 1)


# -- training ------------------------------------------------------------------------------------


def test_training_lowers_the_error_of_reconstruction_and_uses_every_group():
    images = blobs()
    model, facts = train_nvae(SMALL, images, steps=40, batch=16)
    x = as_float(images)
    error = float((model.decode(model.encode(x)) - x).square().mean())
    assert error < 0.5 * float((x - x.mean(0)).square().mean())
    assert facts["steps"] == 40
    assert facts["seconds"] > 0
    losses = facts["losses"]
    assert losses["kl"] == pytest.approx(losses["kl_group_1"] + losses["kl_group_2"])
    assert min(losses["kl_group_1"], losses["kl_group_2"]) > 0.5
    assert not model.training


def test_the_same_seed_gives_the_same_weights_and_another_seed_others():
    first, second, other = (
        train_nvae(SMALL, blobs(), seed=seed, steps=3, batch=8)[0] for seed in (0, 0, 1)
    )
    assert same(first, second)
    assert not same(first, other)


def test_training_leaves_the_global_generator_alone():
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    train_nvae(SMALL, blobs(), steps=1, batch=8)
    assert torch.equal(torch.rand(3), wanted)


def test_an_interrupted_training_goes_on_to_the_same_result(tmp_path, monkeypatch):
    monkeypatch.setattr(nvae, "_EVERY", 4)
    images, path = blobs(), tmp_path / "folder" / "run.safetensors"
    whole, facts = train_nvae(SMALL, images, steps=12, batch=8)

    def stop(step, losses):
        if step == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_nvae(SMALL, images, steps=12, batch=8, checkpoint=path, progress=stop)
    seen = []
    parts, again = train_nvae(
        SMALL, images, steps=12, batch=8, checkpoint=path,
        progress=lambda step, losses: seen.append(step),
    )  # fmt: skip
    assert seen == [12]
    assert same(whole, parts)
    assert again["losses"] == facts["losses"]
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_images_are_only_read():
    images = blobs()
    images.train.flags.writeable = False
    assert train_nvae(SMALL, images, steps=1, batch=8)[1]["steps"] == 1


def test_a_training_that_had_ended_is_read(tmp_path, monkeypatch):
    path = tmp_path / "run.safetensors"
    first, facts = train_nvae(SMALL, blobs(), steps=2, batch=8, checkpoint=path)
    monkeypatch.setattr(nvae._Run, "_step", lambda self: pytest.fail("a step was taken"))
    again, read = train_nvae(SMALL, blobs(), steps=2, batch=8, checkpoint=path)
    assert same(first, again)
    assert read == facts


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"steps": 3}, {"batch": 4}, {"images": 1}], ids=str
)
def test_a_checkpoint_of_another_run_is_refused(tmp_path, change):
    path = tmp_path / "run.safetensors"
    options = {"steps": 2, "batch": 8, "checkpoint": path}
    train_nvae(SMALL, blobs(), **options)
    (name,) = change
    images = blobs(seed=change.get("images", 0))
    change = {key: value for key, value in change.items() if key != "images"}
    with pytest.raises(ValueError, match=f"another run, which differs in {name}: delete it, or"):
        train_nvae(SMALL, images, **(options | change))


def test_the_weight_of_the_divergence_must_be_named():
    config = EncoderConfig("none", "nvae", (2, 4, 4), {"groups": 2})
    with pytest.raises(ValueError, match=r"options of 'none' are .*: name `kl`"):
        train_nvae(config, blobs())


@pytest.mark.parametrize("train", [np.zeros((4, 1, 28, 28), np.uint8), np.zeros((4, 1, 32, 32))])
def test_images_that_are_not_bytes_of_32_pixels_are_refused(train):
    with pytest.raises(ValueError, match=r"images.train is .*: pass uint8 \(N, C, 32, 32\)"):
        train_nvae(SMALL, SimpleNamespace(train=train))
