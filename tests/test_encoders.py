"""Torch modules as encoders: left as they were, never copied, one answer whatever the batch."""

import copy
import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from skfisher._backend.arrays import to_numpy
from skfisher.channels import channel_report
from skfisher.compare import compare_encoders
from skfisher.encoders import TorchEncoder, is_torch_encoder
from skfisher.estimators import LatentGeometryAuditor
from skfisher.estimators._encoding import (
    channel_scales,
    fitted_encoder,
    latent_shape_of,
    tolerance_of,
)
from skfisher.exceptions import UnnormalizedLatentsWarning
from skfisher.geometry import affine_part

torch = pytest.importorskip("torch")
nn = torch.nn

IMAGES = (1, 8, 8)

few_rows = pytest.mark.filterwarnings("ignore::skfisher.exceptions.UnreliableEstimateWarning")


@pytest.fixture
def X(rng):
    return rng.normal(size=(50, 64))


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 2, 2, stride=2), nn.BatchNorm2d(2), nn.Dropout(0.5), nn.Tanh()
    )


class Variational(nn.Module):
    """Encoders of the plain sort, by what they return."""

    def __init__(self, returns):
        super().__init__()
        torch.manual_seed(1)
        self.mean = nn.Linear(64, 3)
        self.spread = nn.Linear(64, 3)
        self.returns = returns

    def forward(self, x):
        mean, log_variance = self.mean(x), self.spread(x)
        std = torch.exp(log_variance / 2)
        normal = torch.distributions.Normal(mean, std)
        return {
            "pair": lambda: (mean, log_variance),
            "drawn": lambda: mean + std * torch.randn_like(std),
            "first": lambda: (mean, None),
            "normal": lambda: normal,
            "independent": lambda: torch.distributions.Independent(normal, 1),
            "gumbel": lambda: torch.distributions.Gumbel(mean, std),
            "mapping": lambda: {"z": mean, "n": 3},
            "none": lambda: None,
            "rows": lambda: mean[:1],
            "scalar": lambda: mean[:, 0],
        }[self.returns]()


def tiny_autoencoder(**config):
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(2)
    return diffusers.AutoencoderKL(
        in_channels=1,
        out_channels=1,
        down_block_types=("DownEncoderBlock2D", "DownEncoderBlock2D"),
        up_block_types=("UpDecoderBlock2D", "UpDecoderBlock2D"),
        block_out_channels=(4, 4),
        norm_num_groups=2,
        latent_channels=2,
        sample_size=8,
        **config,
    )


# -- shapes --------------------------------------------------------------------------------------


def test_rows_give_rows_and_images_give_images(X, network):
    encoder = TorchEncoder(network, input_shape=IMAGES)
    rows = encoder.transform(X)
    assert rows.shape == (50, 32)
    assert encoder.latent_shape_ == (2, 4, 4)
    image = encoder(X.reshape(50, *IMAGES))
    assert image.shape == (50, 2, 4, 4)
    assert_array_equal(image.reshape(50, -1), rows)


def test_everything_follows_x(library, X, network):
    device = str(library.device) if library.name.startswith("torch") else None
    for dtype in ("float64", "float32"):
        encoder = TorchEncoder(network, input_shape=IMAGES, device=device)
        Z = encoder.transform(library(X, dtype))
        assert library.owns(Z, dtype)
        with torch.no_grad():
            expected = copy.deepcopy(network).eval()(torch.tensor(X).float().reshape(50, *IMAGES))
        assert_allclose(to_numpy(Z), expected.reshape(50, -1), rtol=1e-3, atol=1e-4)


def test_integers_and_half_precision_are_widened(network):
    pixels = np.arange(128).reshape(2, 64) % 7
    encoder = TorchEncoder(network, input_shape=IMAGES)
    assert encoder(pixels).dtype == np.float64
    assert encoder(torch.tensor(pixels, dtype=torch.bfloat16)).dtype == torch.float32


def test_a_module_in_half_precision_answers_in_the_precision_of_x(X):
    module = nn.Linear(64, 3).to(torch.bfloat16)
    Z = TorchEncoder(module).transform(X.astype(np.float32))
    assert Z.dtype == np.float32
    assert_allclose(Z, TorchEncoder(copy.deepcopy(module).float())(X), rtol=0.05, atol=0.05)
    assert module.weight.dtype == torch.bfloat16


def test_autocast_is_the_lower_precision(X):
    module = nn.Linear(64, 3)
    exact, coarse = TorchEncoder(module)(X), TorchEncoder(module, dtype="bfloat16")(X)
    error = np.abs(exact - coarse).max()
    assert 1e-5 < error < 0.1
    assert_array_equal(coarse, TorchEncoder(module, dtype=torch.bfloat16)(X))


def test_one_number_per_row_is_one_column(X):
    assert TorchEncoder(Variational("scalar"))(X).shape == (50, 1)


def test_functions_and_methods_of_modules_are_encoders(X):
    module = Variational("pair")
    encoder = TorchEncoder(lambda x: module.mean(x))
    with pytest.raises(RuntimeError, match="dtype"):
        encoder(X)  # a bare function has no dtype of its own
    assert_allclose(TorchEncoder(module.mean.forward)(X), TorchEncoder(module.mean)(X))


# -- left as it was ------------------------------------------------------------------------------


def state_of(module):
    return (
        [part.training for part in module.modules()],
        [parameter.requires_grad for parameter in module.parameters()],
        [value.clone() for value in module.state_dict().values()],
        torch.get_rng_state(),
    )


def assert_same_state(one, other):
    assert one[:2] == other[:2]
    for a, b in zip([*one[2], one[3]], [*other[2], other[3]], strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("fails", [False, True])
def test_the_module_is_left_as_it_was(X, network, fails):
    network.train()
    network[1].eval()
    network[0].bias.requires_grad_(False)
    if fails:
        network[3].forward = lambda x: 1 / 0
    before = state_of(network)
    encoder = TorchEncoder(network, input_shape=IMAGES)
    if fails:
        with pytest.raises(ZeroDivisionError):
            encoder(X)
    else:
        encoder(X)
    assert_same_state(before, state_of(network))


def test_it_is_evaluated_in_eval_mode_and_without_gradients(X):
    seen = []

    class Watched(nn.Linear):
        def forward(self, x):
            seen.append((self.training, torch.is_grad_enabled()))
            return super().forward(x)

    Z = TorchEncoder(Watched(64, 2))(torch.tensor(X))
    assert set(seen) == {(False, False)}
    assert not Z.requires_grad
    (Z.clone().requires_grad_() ** 2).sum().backward()  # the answer may enter training


def test_a_module_that_was_in_eval_mode_stays_in_it(X, network):
    network.eval()
    TorchEncoder(network, input_shape=IMAGES)(X)
    assert not any(part.training for part in network.modules())


# -- batches -------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 7, 50, 64])
@pytest.mark.parametrize("posterior", ["mean", "sample"])
def test_batches_change_nothing(X, batch_size, posterior):
    whole = TorchEncoder(Variational("pair"), posterior=posterior, batch_size=50)(X)
    parts = TorchEncoder(Variational("pair"), posterior=posterior, batch_size=batch_size)(X)
    assert_allclose(parts, whole, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, RuntimeError])
def test_batches_are_halved_where_memory_runs_out(X, error):
    sizes = []

    class Hungry(Variational):
        def forward(self, x):
            sizes.append(x.shape[0])
            if x.shape[0] > 10:
                raise error("DefaultCPUAllocator: can't allocate memory")
            return super().forward(x)

    encoder = TorchEncoder(Hungry("pair"), posterior="sample")
    Z = encoder(X)
    assert encoder.batch_size_ == 6
    assert max(sizes[4:]) <= 6
    whole = TorchEncoder(Variational("pair"), posterior="sample")(X)
    assert_allclose(Z, whole, rtol=1e-5, atol=1e-6)


def test_other_errors_are_not_taken_for_memory(X):
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        TorchEncoder(nn.Linear(3, 2))(X)


# -- posteriors ----------------------------------------------------------------------------------


@pytest.mark.parametrize("returns", ["pair", "normal", "independent"])
def test_a_distribution_has_its_mean_and_its_samples(X, returns):
    module = Variational(returns)
    with torch.no_grad():
        x = torch.tensor(X).float()
        mean, std = module.mean(x).numpy(), torch.exp(module.spread(x) / 2).numpy()
    assert_allclose(TorchEncoder(module, posterior="mean")(X), mean, rtol=1e-5)
    Z = TorchEncoder(module, posterior="sample", seed=3)(X)
    eps = (Z - mean) / std
    assert abs(eps.mean()) < 4 / np.sqrt(eps.size)
    assert abs(eps.var() - 1) < 4 * np.sqrt(2 / eps.size)
    assert_array_equal(Z, TorchEncoder(module, posterior="sample", seed=3)(X))
    other = TorchEncoder(module, posterior="sample", seed=4)(X)
    assert not np.any(other == Z)


@pytest.mark.parametrize("returns", ["pair", "normal", "gumbel"])
def test_a_distribution_without_a_choice_is_refused(X, returns):
    with pytest.raises(ValueError, match=r"distribution of latents .* choose posterior='mean' or"):
        TorchEncoder(Variational(returns))(X)


def test_a_posterior_that_is_not_gaussian_has_a_mean_alone(X):
    assert TorchEncoder(Variational("gumbel"), posterior="mean")(X).shape == (50, 3)
    with pytest.raises(TypeError, match="Gumbel is not a diagonal Gaussian"):
        TorchEncoder(Variational("gumbel"), posterior="sample")(X)


def test_a_module_that_draws_by_itself_is_refused(X):
    with pytest.raises(ValueError, match="two different latents for one row"):
        TorchEncoder(Variational("drawn"))(X)


def test_the_first_of_a_tuple_is_the_latent(X):
    Z = TorchEncoder(Variational("first"))(X)
    assert_array_equal(Z, TorchEncoder(Variational("pair"), posterior="mean")(X))


# -- diffusers -----------------------------------------------------------------------------------


def test_an_autoencoder_of_diffusers_is_encoded(X):
    vae = tiny_autoencoder()
    images = torch.tensor(X.reshape(50, *IMAGES), dtype=torch.float32)
    encoder = TorchEncoder(vae, posterior="mean", input_shape=IMAGES)
    with torch.no_grad():
        expected = vae.eval().encode(images).latent_dist
    Z = encoder(X)
    assert encoder.latent_shape_ == expected.mean.shape[1:]
    assert_allclose(Z, expected.mode().reshape(50, -1), rtol=1e-3, atol=1e-5)
    sample = TorchEncoder(vae, posterior="sample", input_shape=IMAGES)(X)
    eps = (sample - Z) / expected.std.reshape(50, -1).numpy()
    assert abs(eps.var() - 1) < 4 * np.sqrt(2 / eps.size)
    with pytest.raises(ValueError, match="AutoencoderKL returned a distribution"):
        TorchEncoder(vae, input_shape=IMAGES)(X)


@pytest.mark.parametrize(
    "config",
    [
        {"scaling_factor": 0.25},
        {"scaling_factor": 0.25, "shift_factor": 0.5},
        {"latents_mean": (0.5, -0.5), "latents_std": (2.0, 4.0), "scaling_factor": 1.0},
    ],
)
def test_scaled_latents_are_those_of_the_pipeline(X, config):
    vae = tiny_autoencoder(**config)
    settings = {"posterior": "mean", "input_shape": IMAGES}
    plain = TorchEncoder(vae, **settings)(X).reshape(50, 2, -1)
    encoder = TorchEncoder(vae, scaled=True, **settings)
    scaled = encoder(X).reshape(50, 2, -1)
    shift = np.broadcast_to(config.get("latents_mean", config.get("shift_factor", 0.0)), 2)
    scale = config["scaling_factor"] / np.broadcast_to(config.get("latents_std", 1.0), 2)
    assert_allclose(scaled, (plain - shift[:, None]) * scale[:, None], rtol=1e-6, atol=1e-8)
    assert_allclose(np.broadcast_to(encoder.normalization_[1], 2), scale)
    back, own = encoder.inverse_transform(encoder(X)), TorchEncoder(vae, **settings)
    assert back.shape == X.shape
    assert_allclose(back, own.inverse_transform(own(X)), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", ["AutoencoderTiny", "VQModel"])
def test_autoencoders_without_a_distribution_need_no_choice(X, kind):
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    if kind == "VQModel":
        model = diffusers.VQModel(
            in_channels=1,
            out_channels=1,
            block_out_channels=(4,),
            latent_channels=2,
            num_vq_embeddings=8,
            norm_num_groups=2,
        )
    else:
        model = diffusers.AutoencoderTiny(
            in_channels=1,
            out_channels=1,
            encoder_block_out_channels=(4, 4),
            decoder_block_out_channels=(4, 4),
            num_encoder_blocks=(1, 1),
            num_decoder_blocks=(1, 1),
            latent_channels=2,
        )
    images = X.reshape(50, *IMAGES)
    Z = TorchEncoder(model)(images)
    with torch.no_grad():
        expected = model.eval().encode(torch.tensor(images).float()).latents
    assert_allclose(Z, expected, rtol=1e-3, atol=1e-5)


def test_statistics_of_other_channels_are_refused(X):
    vae = tiny_autoencoder(latents_mean=(0.0, 0.0, 1.0))
    with pytest.raises(ValueError, match="statistics of 3 channels, but its latents have shape"):
        TorchEncoder(vae, posterior="mean", input_shape=IMAGES, scaled=True)(X)


def test_an_autoencoder_that_normalises_itself_is_not_scaled_again(X):
    kind = type("AutoencoderRAE", (nn.Linear,), {})
    with pytest.raises(ValueError, match="normalises its latents itself: pass scaled=False"):
        TorchEncoder(kind(64, 2), scaled=True)(X)


# -- scikit-learn --------------------------------------------------------------------------------


class Counted(nn.Linear):
    copies = 0

    def __deepcopy__(self, memo):
        type(self).copies += 1
        return self


@few_rows
def test_a_search_copies_no_module(X):
    encoder = TorchEncoder(Counted(64, 3))
    assert clone(encoder) is encoder
    search = GridSearchCV(
        LatentGeometryAuditor(encoder, score_model="gaussian", noise_levels=[1.0]),
        {"encoder": [encoder, PCA(2)], "standardize": [False, True]},
        cv=2,
    ).fit(X)
    assert Counted.copies == 0
    assert np.all(np.isfinite(search.cv_results_["mean_test_score"]))


def test_a_pipeline_ends_the_encoder(X, network):
    encoder = TorchEncoder(network, input_shape=IMAGES)
    pipeline = clone(make_pipeline(encoder, PCA(2)))
    Z = pipeline.fit_transform(X)
    assert pipeline[0] is encoder
    assert_allclose(Z, PCA(2).fit_transform(encoder(X)), atol=1e-6)
    assert encoder.fit(X) is encoder


def test_a_bare_module_is_wrapped_and_audited(X):
    module = nn.Linear(64, 3)
    assert is_torch_encoder(module)
    assert not is_torch_encoder(TorchEncoder(module))
    assert not is_torch_encoder(PCA())
    assert not is_torch_encoder(nn.Linear)
    audit = LatentGeometryAuditor(module, score_model="gaussian", noise_levels=[1.0]).fit(X)
    assert isinstance(audit.encoder_, TorchEncoder)
    assert audit.encoder_.module is module


def test_an_affine_module_is_affine_to_its_own_rounding(X):
    encoder = TorchEncoder(nn.Linear(64, 3))
    Z = encoder(X)
    assert affine_part(encoder, X, Z).verdict == "not affine"  # to that of float64
    assert affine_part(encoder, X, Z, rtol=tolerance_of(encoder)).verdict == "affine"
    assert tolerance_of(make_pipeline(encoder, PCA(2))) == 100 * np.finfo(np.float32).eps
    curved = TorchEncoder(nn.Sequential(encoder.module, nn.Tanh()))
    Z = curved(X)
    assert affine_part(curved, X, Z, rtol=tolerance_of(curved)).verdict == "not affine"


def test_half_precision_decides_nothing(X):
    encoder = TorchEncoder(nn.Linear(64, 3), dtype="bfloat16")
    encoder(X)
    assert tolerance_of(encoder) is None
    assert tolerance_of(PCA(2)) is None


def test_the_audit_of_a_distribution_asks_for_a_choice(X):
    with pytest.raises(ValueError, match="choose posterior='mean' or posterior='sample'"):
        LatentGeometryAuditor(Variational("pair"), score_model="gaussian").fit(X)


@few_rows
def test_an_audit_can_be_pickled(X, network):
    encoder = TorchEncoder(network, input_shape=IMAGES)
    settings = {"score_model": "gaussian", "noise_levels": [1.0]}
    audit = LatentGeometryAuditor(encoder, **settings).fit(X)
    again = pickle.loads(pickle.dumps(audit))
    assert again.score(X) == audit.score(X)


def test_a_repr_names_what_was_chosen(network):
    encoder = TorchEncoder(network, input_shape=IMAGES, posterior="mean")
    assert repr(encoder) == "TorchEncoder(Sequential, posterior='mean', input_shape=(1, 8, 8))"


def test_scales_are_those_of_channels_where_the_shape_is_known(X, network):
    encoder = fitted_encoder(TorchEncoder(network, input_shape=IMAGES), X, None)
    Z = encoder(X) * 3 + 1
    shape = latent_shape_of(make_pipeline(PCA(2), encoder))
    shift, spread = channel_scales(Z, shape)
    report = channel_report(Z.reshape(50, 2, 4, 4))
    assert_allclose(shift.reshape(2, 16), np.broadcast_to(report.mean[:, None], (2, 16)))
    assert_allclose(spread.reshape(2, 16), np.broadcast_to(report.std[:, None], (2, 16)))
    assert_allclose(channel_scales(Z)[1], Z.std(axis=0))
    assert latent_shape_of(PCA(2)) is None


def test_encoders_of_images_are_compared(X, network):
    images = X.reshape(50, *IMAGES)
    settings = {"score_model": "gaussian", "noise_levels": [1.0]}
    encoders = {
        "raw": network,
        "wrapped": TorchEncoder(network),
        "shaped": TorchEncoder(network, input_shape=IMAGES),
        "pca": PCA(3),
        "cached": TorchEncoder(network)(images),
    }
    found = compare_encoders(encoders, images, **settings)
    scores = {record.name: record.diffusability for record in found.records}
    assert scores["raw"] == scores["wrapped"] == scores["shaped"]
    assert_allclose(scores["cached"], scores["raw"], rtol=0.05)  # levels draw other noise
    flat = compare_encoders({"pca": PCA(3), "shaped": encoders["shaped"]}, X, **settings)
    assert flat["shaped"].diffusability == scores["shaped"]
    assert flat["pca"].diffusability == scores["pca"]


def test_the_decoder_of_a_module_reconstructs(X):
    vae = TorchEncoder(tiny_autoencoder(), posterior="mean")
    settings = {"score_model": "gaussian", "noise_levels": [1.0]}
    (record,) = compare_encoders([vae], X.reshape(50, *IMAGES), **settings).records
    assert "inverse_transform" in record.decoder
    assert record.reconstruction_error > 0


def test_cached_latents_of_unlike_channels_are_told(rng):
    Z = rng.normal(size=(60, 2, 2, 2)) * np.asarray([1.0, 20.0])[:, None, None]
    with pytest.warns(UnnormalizedLatentsWarning, match="not balanced"):
        plain = compare_encoders([Z], score_model="gaussian")
    alike = compare_encoders([Z], score_model="gaussian", standardize=True)
    assert plain.records[0].latent_dimension == 8
    assert alike.records[0].report.standardized


# -- decoding ------------------------------------------------------------------------------------


def test_only_what_decodes_can_be_inverted(X):
    assert not hasattr(TorchEncoder(nn.Linear(64, 3)), "inverse_transform")
    encoder = TorchEncoder(tiny_autoencoder(), posterior="mean", input_shape=IMAGES)
    Z = encoder(X)
    images = encoder.inverse_transform(Z.reshape(50, *encoder.latent_shape_))
    assert images.shape == (50, *IMAGES)
    assert_array_equal(images.reshape(50, -1), encoder.inverse_transform(Z))


def test_rows_of_an_unknown_shape_are_not_decoded():
    with pytest.raises(ValueError, match="the shape of a latent is not known yet"):
        TorchEncoder(tiny_autoencoder()).inverse_transform(np.zeros((3, 32)))


# -- refusals ------------------------------------------------------------------------------------


def test_x_elsewhere_than_the_module_is_refused(X):
    # the meta device is another device that every machine has
    with pytest.raises(ValueError, match=r"X lies on cpu, but Linear on meta: move one of them"):
        TorchEncoder(nn.Linear(64, 3, device="meta"))(torch.tensor(X))


def test_a_module_on_two_devices_is_refused(X):
    module = nn.Sequential(nn.Linear(64, 3), nn.Linear(3, 3, device="meta"))
    with pytest.raises(ValueError, match="Sequential lies on cpu and meta: move it to one device"):
        TorchEncoder(module)(X)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_module_moves_to_the_device_and_back(X, network):
    here = TorchEncoder(network, input_shape=IMAGES)(X)
    there = TorchEncoder(network, input_shape=IMAGES, device="auto")(X)
    assert next(network.parameters()).device.type == "cpu"
    assert isinstance(there, np.ndarray)
    assert_allclose(there, here, rtol=1e-3, atol=1e-4)
    moved = TorchEncoder(network.cuda(), input_shape=IMAGES)(torch.tensor(X).cuda())
    assert moved.device.type == "cuda"


def test_a_device_may_be_named(X, network):
    encoder = TorchEncoder(network, input_shape=IMAGES, device="cpu")
    assert_array_equal(encoder(X), TorchEncoder(network, input_shape=IMAGES)(X))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"posterior": "mode"}, "posterior is 'mode': choose 'mean' or 'sample'"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"batch_size": True}, "batch_size is True"),
        ({"seed": -1}, "seed is -1"),
        ({"dtype": "float64"}, "dtype is 'float64': choose 'float16' or 'bfloat16'"),
        ({"method": "embed"}, "method is 'embed', but Linear has no such method"),
        ({"input_shape": (3, 3)}, r"input_shape is \(3, 3\), which is 9 numbers .* 64 features"),
        ({"scaled": True}, "has none of scaling_factor"),
    ],
)
def test_a_parameter_out_of_its_range_is_refused(X, settings, message):
    with pytest.raises(ValueError, match=message):
        TorchEncoder(nn.Linear(64, 3), **settings)(X)


def test_images_of_another_shape_are_refused(X, network):
    with pytest.raises(ValueError, match="leave input_shape out"):
        TorchEncoder(network, input_shape=(1, 4, 16))(X.reshape(50, *IMAGES))


@pytest.mark.parametrize("module", [nn.Linear, "encoder.pt"])
def test_what_is_no_module_is_refused(X, module):
    with pytest.raises(TypeError, match="pass a torch module, or a function of tensors"):
        TorchEncoder(module)(X)


@pytest.mark.parametrize(
    ("returns", "error", "message"),
    [
        ("mapping", TypeError, "returned a dict with 'z': pass a function of tensors"),
        ("none", TypeError, "returned a NoneType: a latent is a tensor"),
        ("rows", ValueError, r"returned shape \(1, 3\) for 50 rows"),
    ],
)
def test_what_is_no_latent_is_refused(X, returns, error, message):
    with pytest.raises(error, match=message):
        TorchEncoder(Variational(returns))(X)


# -- derivatives (their values are tested in test_derivatives.py) --------------------------------


def test_a_jet_leaves_what_transform_leaves(X, network):
    encoder = TorchEncoder(network, input_shape=IMAGES)
    Z = encoder.transform(X)
    other = TorchEncoder(network.train(), input_shape=IMAGES)
    jet = other.jet(X, np.ones((50, 1, 64)), order=1)
    assert other.latent_shape_ == encoder.latent_shape_
    assert_allclose(jet.value, Z, atol=1e-6)
    assert jet.second is None
    assert all(part.training for part in network.modules())
