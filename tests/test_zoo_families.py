"""Encoders of the zoo: every family learns, resumes, and comes back from its file."""

from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.decomposition import PCA

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

# ruff: noqa: E402 - torch is an extra, and the zoo is built on it
from safetensors.torch import load_file

from benchmarks.zoo import families
from benchmarks.zoo.checkpoints import write_weights
from benchmarks.zoo.config import ENCODERS, EncoderConfig
from benchmarks.zoo.data import to_float
from benchmarks.zoo.networks import Convolutional

CONFIGS = [
    EncoderConfig("plain", "plain", (6,)),
    EncoderConfig("places", "plain", (2, 8, 8)),
    EncoderConfig("vae", "vae", (2, 4, 4), {"kl": 0.005}),
    EncoderConfig("geometry", "geometry", (6,)),
    EncoderConfig("noisy-input", "denoising", (6,), {"input_noise": 0.3}),
    EncoderConfig("noisy-latent", "denoising", (2, 4, 4), {"latent_noise": 0.5}),
    EncoderConfig("equivariant", "equivariant", (2, 4, 4), {"equivariance": 0.5}),
    EncoderConfig("aligned", "aligned", (6,), {"alignment": 0.1}),
    EncoderConfig("spectral", "spectral", (2, 8, 8), {"scale_equivariance": 0.25}),
]
PLAIN, GEOMETRY = CONFIGS[0], CONFIGS[3]
every_config = pytest.mark.parametrize("config", CONFIGS, ids=lambda c: c.name)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def images():
    """Blobs of four numbers each: where, how wide, how bright."""
    rng = np.random.default_rng(0)
    where = rng.uniform(8, 24, (128, 2, 1, 1))
    wide, bright = rng.uniform(2, 6, (128, 1, 1)), rng.uniform(100, 255, (128, 1, 1))
    grid = np.arange(32)
    squares = (grid[:, None] - where[:, 0]) ** 2 + (grid - where[:, 1]) ** 2
    return SimpleNamespace(train=(bright * np.exp(-squares / wide**2)).astype(np.uint8)[:, None])


def features_of(images):
    flat = images.train.reshape(len(images.train), -1).astype(np.float64)
    return flat @ np.random.default_rng(1).normal(size=(flat.shape[1], 5))


def trained(config, images, **options):
    options = {"steps": 6, "batch": 8} | options
    features = features_of(images) if config.family == "aligned" else None
    return families.train(config, images, features=features, **options)


def weights_of(model):
    return {k: v.clone() for k, v in model.state_dict().items()}


def assert_same(first, second):
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


def error_of(model, images):
    x = to_float(images.train)
    with torch.no_grad():
        return float((model(x) - x).square().mean())


@every_config
def test_every_family_beats_the_mean_image(config, images):
    model, facts = trained(config, images, steps=30, batch=12)
    x = to_float(images.train)
    assert error_of(model, images) < 0.9 * float((x - x.mean(0)).square().mean())
    assert not model.training
    assert facts["steps"] == 30 * (1 + (config.family == "geometry"))
    assert facts["seconds"] > 0
    assert all(np.isfinite(value) for value in facts["losses"].values())
    named = {"kl": "kl", "equivariance": "equivariance", "alignment": "alignment"}
    named |= {"scale_equivariance": "scale_equivariance"}
    assert {named[o] for o in config.options if o in named} <= facts["losses"].keys()


@every_config
def test_encoding_is_deterministic_and_sees_one_row_at_a_time(config, images):
    model, _ = trained(config, images, steps=2)
    z = families.encode_all(model, images.train, batch=50)
    assert z.shape == (128, *config.shape)
    assert z.dtype == np.float32
    np.testing.assert_allclose(families.encode_all(model, images.train[3:4]), z[3:4], atol=1e-5)
    with torch.no_grad():
        assert model.decode(torch.from_numpy(z)).shape == images.train.shape


@pytest.mark.parametrize(
    ("config", "stop"),
    [
        (CONFIGS[0], 3),
        (CONFIGS[2], 4),
        (GEOMETRY, 3),
        (GEOMETRY, 6),
        (GEOMETRY, 9),
        (CONFIGS[7], 5),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_an_interrupted_run_ends_where_an_uninterrupted_one_does(
    config, stop, images, tmp_path, monkeypatch
):
    monkeypatch.setattr(families, "EVERY", 2)
    monkeypatch.setattr(families, "REPORTED", 1)
    whole, facts = trained(config, images)
    path = tmp_path / "run" / "checkpoint.safetensors"

    def interrupt(step, losses):
        if step == stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(config, images, checkpoint=path, progress=interrupt)
    assert path.exists()
    resumed, again = trained(config, images, checkpoint=path)
    assert_same(weights_of(whole), weights_of(resumed))
    assert again["losses"] == facts["losses"]
    assert again["steps"] == facts["steps"]
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    # what is finished is not trained again
    _, third = trained(config, images, checkpoint=path)
    assert third == again


def test_a_checkpoint_of_another_run_is_refused(images, tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    trained(PLAIN, images, checkpoint=path)
    with pytest.raises(ValueError, match=r"another run, which differs in seed: delete it, or"):
        trained(PLAIN, images, checkpoint=path, seed=1)


def test_the_seed_decides_and_torchs_own_state_does_not(images):
    torch.manual_seed(1)
    first, _ = trained(PLAIN, images)
    torch.manual_seed(2)
    second, _ = trained(PLAIN, images)
    other, _ = trained(PLAIN, images, seed=1)
    assert_same(weights_of(first), weights_of(second))
    assert not torch.equal(first.head.layer.weight, other.head.layer.weight)


@pytest.mark.parametrize(
    "config",
    [
        *CONFIGS,
        EncoderConfig("pca", "pca", (6,)),
        EncoderConfig("white", "pca", (6,), {"whiten": 1}),
    ],
    ids=lambda c: c.name,
)
def test_an_encoder_comes_back_from_its_file(config, images, tmp_path):
    model, _ = trained(config, images, steps=2)
    path = tmp_path / "folder" / "encoder.safetensors"
    write_weights(model, path)
    back = families.load(config, path, channels=1)
    assert_same(weights_of(model), weights_of(back))
    assert not back.training
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_weights_of_another_configuration_are_refused(images, tmp_path):
    model, _ = trained(PLAIN, images, steps=2)
    path = tmp_path / "encoder.safetensors"
    write_weights(model, path)
    with pytest.raises(ValueError, match=r"does not hold an encoder 'vae' of images with 1 chan"):
        families.load(CONFIGS[2], path, channels=1)


def test_colour_images_are_encoded_as_well(images):
    colour = SimpleNamespace(train=np.repeat(images.train, 3, axis=1))
    model, _ = trained(PLAIN, colour, steps=2)
    assert families.encode_all(model, colour.train).shape == (128, 6)
    assert model(to_float(colour.train[:2])).shape == (2, 3, 32, 32)


def test_the_linear_encoder_is_that_of_scikit_learn(images):
    model, facts = trained(EncoderConfig("pca", "pca", (6,)), images)
    flat = images.train.reshape(128, -1) / 127.5 - 1
    pca = PCA(6).fit(flat)
    z = families.encode_all(model, images.train)
    theirs = pca.transform(flat)
    signs = np.sign((z * theirs).sum(0))
    np.testing.assert_allclose(z * signs, theirs, atol=1e-3)
    with torch.no_grad():
        x = model.decode(torch.from_numpy(z)).numpy()
        again = model.encode(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(x.reshape(128, -1), pca.inverse_transform(theirs), atol=1e-3)
    np.testing.assert_allclose(again, z, atol=1e-4)  # encode is a left inverse of decode
    assert facts["steps"] == 0


def test_whitened_latents_have_unit_variances_and_the_same_reconstruction(images):
    plain, _ = trained(EncoderConfig("pca", "pca", (6,)), images)
    white, _ = trained(EncoderConfig("white", "pca", (6,), {"whiten": 1.0}), images)
    z = families.encode_all(white, images.train)
    np.testing.assert_allclose(np.cov(z.T), np.eye(6), atol=1e-3)
    x = to_float(images.train)
    torch.testing.assert_close(white(x), plain(x), atol=1e-4, rtol=0)


def test_geometry_latents_are_centred_and_scaled_by_one_number(images):
    model, _ = trained(GEOMETRY, images)
    z = families.encode_all(model, images.train)
    assert np.abs(z.mean(0)).max() < 1e-5
    assert abs(np.sqrt(np.mean(z**2)) - 1) < 1e-5
    assert np.ptp(z.std(0)) > 0.01


def test_the_geometry_encoder_stays_as_it_is_while_the_decoder_learns(images, tmp_path):
    path = tmp_path / "checkpoint.safetensors"

    def stop(step, losses):
        if step == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(GEOMETRY, images, checkpoint=path, progress=stop)
    halfway = load_file(path)
    model, _ = trained(GEOMETRY, images, checkpoint=path)
    for part, moved in (("down", False), ("head", False), ("up", True), ("tail", True)):
        after = getattr(model, part).state_dict()
        same = all(torch.equal(v, halfway[f"weights.model.{part}.{k}"]) for k, v in after.items())
        assert same is not moved, part


def test_the_geometry_encoder_keeps_distances_better_than_it_began(images):
    def drift(model):
        x, z = (t.reshape(128, -1) for t in (images.train / 127.5 - 1, latents(model)))
        d, e = (((t[:64] - t[64:]) ** 2).sum(1) for t in (x, z))
        return np.std(np.log(e / d))

    def latents(model):
        return families.encode_all(model, images.train).astype(np.float64)

    short, _ = trained(GEOMETRY, images, steps=1)
    long, _ = trained(GEOMETRY, images, steps=30, batch=12)
    assert drift(long) < 0.7 * drift(short)


def test_latents_without_a_prior_keep_their_scale(images):
    model, _ = trained(PLAIN, images, steps=20, batch=8)
    z = families.encode_all(model, images.train)
    assert 0.5 < np.sqrt(np.mean((z - z.mean(0)) ** 2)) < 2


def test_a_larger_kl_weight_leaves_less_divergence(images):
    weak, strong = (
        trained(
            EncoderConfig("vae", "vae", (6,), {"kl": w}),
            images,
            steps=20,
            batch=12,
            learning_rate=1e-2,
        )[1]
        for w in (0.001, 1.0)
    )
    assert strong["losses"]["kl"] / 1.0 < 0.7 * weak["losses"]["kl"] / 0.001


def test_latents_of_fewer_places_are_decoded_to_smaller_images():
    for shape in ((2, 4, 4), (2, 8, 8)):
        model = Convolutional(1, shape)
        half = torch.zeros(3, 2, shape[1] // 2, shape[2] // 2)
        assert model.decode(half).shape == (3, 1, 16, 16)


def test_the_symmetries_of_the_square_are_eight():
    x = torch.arange(9.0).reshape(1, 1, 3, 3)
    assert len({tuple(families._symmetry(x, i).flatten().tolist()) for i in range(8)}) == 8
    assert torch.equal(families._symmetry(x, 0), x)


def test_every_trained_configuration_of_the_zoo_can_be_built():
    for config in ENCODERS:
        if config.family not in ("nvae", "distortion"):
            model = families.build(config, channels=3)
            assert model.shape == config.shape


def test_other_families_and_shapes_are_refused():
    with pytest.raises(ValueError, match=r"family is 'nvae', of encoder 'x': this module trains"):
        families.build(EncoderConfig("x", "nvae", (6, 4, 4)), channels=1)
    with pytest.raises(ValueError, match=r"shape is \(2, 5, 5\): latents of these networks are"):
        Convolutional(1, (2, 5, 5))
    with pytest.raises(ValueError, match="no posterior: build it with stochastic=True"):
        Convolutional(1, (2,)).moments(torch.zeros(1, 1, 32, 32))


def test_an_aligned_encoder_asks_for_its_features(images):
    config = CONFIGS[7]
    with pytest.raises(ValueError, match=r"features is None, and encoder 'aligned' is aligned"):
        families.train(config, images, steps=1)
    with pytest.raises(ValueError, match=r"features is 3 rows.*its 128 training images: pass"):
        families.train(config, images, steps=1, features=np.zeros((3, 5)))
