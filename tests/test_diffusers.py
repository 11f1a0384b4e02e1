"""Networks of diffusers against their schedulers' own noise, and against what they are called with.

Two kinds of network are used: genuine ones with random weights, called by hand as a pipeline calls
them; and ones whose forward returns the exact prediction for a Gaussian law whose mean is told by
the conditioning, from the definition of each prediction.
"""

import math
import warnings
from types import SimpleNamespace

import numpy as np
import pytest

from skfisher._backend.arrays import to_numpy
from skfisher.exceptions import UnreliableEstimateWarning
from skfisher.noise import EDM, DiscreteVP, FlowMatching, VarianceExploding
from skfisher.scores.diffusers import from_diffusers, scheduler_convention

torch = pytest.importorskip("torch")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of packages that diffusers loads
    diffusers = pytest.importorskip("diffusers")
    from diffusers import (
        AutoencoderKL,
        DDIMScheduler,
        DDPMPipeline,
        DDPMScheduler,
        DiTTransformer2DModel,
        EDMEulerScheduler,
        EulerDiscreteScheduler,
        FlowMatchEulerDiscreteScheduler,
        FluxPipeline,
        FluxTransformer2DModel,
        ScoreSdeVeScheduler,
        SD3Transformer2DModel,
        UNet2DConditionModel,
        UNet2DModel,
    )

SHAPE = (2, 8, 8)

# https://github.com/huggingface/diffusers: np.array of tensors in set_timesteps
pytestmark = pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning")


def unet(cls=UNet2DModel, **changes):
    return cls(
        **{
            "sample_size": 8,
            "in_channels": 2,
            "out_channels": 2,
            "block_out_channels": (4, 8),
            "layers_per_block": 1,
            "norm_num_groups": 2,
            "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
            "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
            "attention_head_dim": 4,
        }
        | changes
    )


def conditional_unet(cls=UNet2DConditionModel):
    return unet(
        cls,
        cross_attention_dim=6,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=2,
    )


def dit(cls=DiTTransformer2DModel):
    return cls(
        num_attention_heads=2,
        attention_head_dim=4,
        in_channels=2,
        out_channels=4,
        num_layers=1,
        sample_size=8,
        patch_size=2,
        num_embeds_ada_norm=10,
        norm_num_groups=2,
    )


def sd3(cls=SD3Transformer2DModel):
    return cls(
        sample_size=8,
        patch_size=2,
        in_channels=2,
        out_channels=2,
        num_layers=2,
        attention_head_dim=4,
        num_attention_heads=2,
        joint_attention_dim=6,
        caption_projection_dim=8,
        pooled_projection_dim=5,
        pos_embed_max_size=8,
    )


def flux(cls=FluxTransformer2DModel, guidance_embeds=True):
    return cls(
        in_channels=8,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=6,
        pooled_projection_dim=5,
        axes_dims_rope=(2, 2, 4),
        guidance_embeds=guidance_embeds,
    )


def text(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        "encoder_hidden_states": torch.randn(1, 3, 6, generator=generator),
        "pooled_projections": torch.randn(1, 5, generator=generator),
    }


def words():
    return {"encoder_hidden_states": text()["encoder_hidden_states"]}


def images(rng, m=3):
    return rng.normal(size=(m, *SHAPE))


# -- schedulers --------------------------------------------------------------------------------

# those that hold their input as x0 + sigma eps and scale it before the network sees it
EXPLODING = ("Euler", "Heun", "KDPM2", "LMS", "DPMSolverSDE")
# those that know noise on their sampling grid only
GRIDDED = (*EXPLODING, "DEIS", "DPMSolver", "SASolver", "UniPC")
TABULATED = [
    "CogVideoXDDIMScheduler",
    "DDIMInverseScheduler",
    "DDIMScheduler",
    "DDPMScheduler",
    "DEISMultistepScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "EulerAncestralDiscreteScheduler",
    "EulerDiscreteScheduler",
    "HeunDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "LMSDiscreteScheduler",
    "PNDMScheduler",
    "SASolverScheduler",
    "UnCLIPScheduler",
    "UniPCMultistepScheduler",
]


@pytest.mark.parametrize("name", TABULATED)
def test_the_path_of_a_table_is_the_schedulers_own_noise(name, rng):
    scheduler = getattr(diffusers, name)()
    path = scheduler_convention(scheduler).path
    assert isinstance(path, DiscreteVP)
    assert path.time_range == (0.0, 999.0)
    if name.startswith(GRIDDED):
        scheduler.set_timesteps(1000)
    if not hasattr(scheduler, "add_noise"):
        scheduler = DDPMScheduler.from_config(scheduler.config)
    x0, eps = torch.tensor(rng.normal(size=(2, 1, *SHAPE)))
    for step in (1, 150, 700, 990):
        sigma = path.sigma(step)
        noisy = scheduler.add_noise(x0, eps, torch.tensor([step]))
        if name.startswith(EXPLODING):
            scheduler._step_index = None
            noisy = scheduler.scale_model_input(noisy, torch.tensor(float(step)))
        y, _ = path.to_ve(noisy.numpy(), step)
        np.testing.assert_allclose(y, x0 + sigma * eps, rtol=2e-5, atol=2e-5 * (1 + sigma))


@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction"])
@pytest.mark.parametrize("cls", [DDPMScheduler, DDIMScheduler])
def test_predictions_mean_what_the_schedulers_step_makes_of_them(cls, prediction, rng):
    scheduler = cls(prediction_type=prediction, clip_sample=False)
    scheduler.set_timesteps(1000)
    found = from_diffusers(
        exact_network(UNet2DModel, unet), scheduler, conditioning={}, dtype=torch.float64
    )
    model = ExactGaussian(scheduler)
    found.module.exact = model
    y = images(rng)
    step = 400
    path = scheduler_convention(scheduler).path
    sigma = path.sigma(step)
    x = torch.tensor(path.signal(sigma) * y)
    output = found.module(x, torch.full((3,), float(step)), return_dict=False)[0]
    clean = scheduler.step(output, step, x).pred_original_sample
    np.testing.assert_allclose((to_numpy(clean) - y) / sigma**2, found(y, sigma), rtol=2e-5)


def test_the_path_of_flow_matching_is_the_schedulers_own_noise(rng):
    x0, eps = torch.tensor(rng.normal(size=(2, 1, *SHAPE)))
    for scheduler in (
        FlowMatchEulerDiscreteScheduler(),
        FlowMatchEulerDiscreteScheduler(shift=3.0),
        diffusers.FlowMatchHeunDiscreteScheduler(shift=2.0),
    ):
        convention = scheduler_convention(scheduler)
        assert convention.path == FlowMatching(time_scale=1000.0)
        for time in scheduler.timesteps[[0, 100, 500, 999]][1:]:
            scheduler._step_index = None  # one of the two goes by the step it is at
            noisy = scheduler.scale_noise(x0, time[None], eps)
            y, sigma = convention.path.to_ve(noisy.numpy(), float(time))
            np.testing.assert_allclose(y, x0 + sigma * eps, rtol=1e-5, atol=1e-5 * (1 + sigma))


def test_a_multistep_scheduler_may_carry_a_flow(rng):
    scheduler = diffusers.UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
    )
    convention = scheduler_convention(scheduler)
    assert convention.path == FlowMatching(time_scale=1000.0)
    assert convention.prediction == "velocity"


@pytest.mark.parametrize("name", ["EDMEulerScheduler", "EDMDPMSolverMultistepScheduler"])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_preconditioning_is_the_schedulers_own(name, prediction, rng):
    scheduler = getattr(diffusers, name)(sigma_data=0.6, prediction_type=prediction)
    convention = scheduler_convention(scheduler)
    path = convention.path
    assert path == EDM(sigma_data=0.6)
    assert convention.sigma_range == (0.002, 80.0)
    y, F = torch.tensor(rng.normal(size=(2, 3, *SHAPE)))
    for sigma in (0.01, 0.5, 30.0):
        x, time = path.from_ve(y, sigma)
        np.testing.assert_allclose(x, scheduler.precondition_inputs(y, sigma), rtol=1e-12)
        assert time == pytest.approx(float(scheduler.precondition_noise(sigma)), rel=1e-6)
        sign = 1 if convention.prediction == "edm" else -1
        np.testing.assert_allclose(
            path.denoiser(sign * F, y, sigma),
            scheduler.precondition_outputs(y, F, sigma),
            rtol=1e-12,
        )


def test_continuous_time_of_a_velocity_is_edms(rng):
    scheduler = EulerDiscreteScheduler(
        prediction_type="v_prediction",
        timestep_type="continuous",
        sigma_min=0.002,
        sigma_max=700.0,
    )
    convention = scheduler_convention(scheduler)
    assert (convention.path, convention.prediction) == (EDM(sigma_data=1.0), "v")
    assert convention.sigma_range == (0.002, 700.0)
    scheduler.set_timesteps(10)
    for time, sigma in zip(scheduler.timesteps, scheduler.sigmas, strict=False):
        assert convention.path.time(float(sigma)) == pytest.approx(float(time), rel=1e-5)


def test_score_networks_are_told_sigma():
    convention = scheduler_convention(ScoreSdeVeScheduler(sigma_max=50.0))
    assert convention.path == VarianceExploding()
    assert (convention.prediction, convention.sigma_range) == ("score", (0.01, 50.0))


def test_steps_without_signal_are_left_out():
    scheduler = DDIMScheduler(rescale_betas_zero_snr=True, prediction_type="v_prediction")
    assert float(scheduler.alphas_cumprod[-1]) <= 0.0
    path = scheduler_convention(scheduler).path
    assert path.time_range[1] < 999.0
    assert math.isfinite(path.sigma_range[1])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: diffusers.LCMScheduler(), "scheduler is a LCMScheduler, .* from_module"),
        (lambda: diffusers.IPNDMScheduler(), "scheduler is a IPNDMScheduler"),
        (lambda: object(), "scheduler is a object"),
        (
            lambda: FlowMatchEulerDiscreteScheduler(invert_sigmas=True),
            r"invert_sigmas=True, .* path=FlowMatching\(data_at=1",
        ),
        (
            lambda: diffusers.DPMSolverMultistepScheduler(prediction_type="flow_prediction"),
            "'flow_prediction' without use_flow_sigmas=True",
        ),
        (
            lambda: DDPMScheduler(prediction_type="noise"),
            "prediction_type='noise', which cannot be mapped: known are 'epsilon', 'sample'",
        ),
        (
            lambda: EDMEulerScheduler(prediction_type="sample"),
            "prediction_type='sample', which cannot be mapped: known are 'epsilon', 'v_pred",
        ),
    ],
)
def test_schedulers_that_cannot_be_mapped_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        scheduler_convention(make())


# -- exact networks ----------------------------------------------------------------------------

VARIANCE = 0.3


class ExactGaussian:
    """What a network of a scheduler has to predict of N(mean, VARIANCE I), by definition."""

    def __init__(self, scheduler):
        self.scheduler = scheduler

    def coefficients(self, told):
        config = self.scheduler.config
        if "shift" in config:
            return 1 - told / 1000, told / 1000
        if "sigma_data" in config:
            sigma = math.exp(4 * told)
            return (a := 1 / math.hypot(sigma, config.sigma_data)), sigma * a
        if "sampling_eps" in config:
            return 1.0, told
        variance = float(self.scheduler.alphas_cumprod[round(told)])
        assert told == pytest.approx(round(told), abs=1e-6)
        return math.sqrt(variance), math.sqrt(1 - variance)

    def __call__(self, x, told, mean):
        a, b = self.coefficients(told)
        gain = VARIANCE * a / (VARIANCE * a * a + b * b)
        x0 = mean + gain * (x - a * mean)
        eps = (x - a * x0) / b
        config = self.scheduler.config
        if "shift" in config:
            return eps - x0
        if "sigma_data" in config:
            y, sigma = x / a, b / a
            skip = config.sigma_data**2 * a * a
            return (x0 - skip * y) / (sigma * config.sigma_data * a)
        if "sampling_eps" in config:
            return -eps / b
        return {"epsilon": eps, "sample": x0, "v_prediction": a * eps - b * x0}[
            config.prediction_type
        ]


def exact_network(cls, make):
    """A network of a class of diffusers with a forward of our own, `exact` at the mean told."""

    class Exact(cls):
        def mean_told(self, conditioning):
            parts = [value.double() for value in conditioning.values() if value is not None]
            assert all(part.shape[0] == self.rows for part in parts)
            return sum((part.reshape(self.rows, -1).mean(1) for part in parts), torch.zeros(()))

        def predict(self, x, time, conditioning):
            self.rows = x.shape[0]
            assert time.shape == (self.rows,)
            mean = self.mean_told(conditioning).reshape(-1, 1, 1, 1)
            return self.exact(x, float(time[0]), mean)

    if cls is DiTTransformer2DModel:

        class Network(Exact):
            def forward(self, hidden_states, timestep=None, class_labels=None, return_dict=True):
                out = self.predict(hidden_states, timestep, {"labels": class_labels})
                return (torch.cat([out, 1e9 * out], dim=1),)

    elif cls is FluxTransformer2DModel:

        class Network(Exact):
            def forward(
                self,
                hidden_states,
                encoder_hidden_states,
                pooled_projections,
                timestep,
                img_ids,
                txt_ids,
                guidance,
                return_dict=True,
            ):
                assert hidden_states.shape[1:] == (16, 8)
                assert guidance.tolist() == [3.5] * len(hidden_states)
                assert txt_ids.shape == (3, 3)
                assert not txt_ids.any()
                expected = FluxPipeline._prepare_latent_image_ids(1, 4, 4, "cpu", img_ids.dtype)
                torch.testing.assert_close(img_ids, expected)
                x = FluxPipeline._unpack_latents(hidden_states, 8, 8, 1)
                told = {"text": encoder_hidden_states, "pooled": pooled_projections}
                out = self.predict(x, 1000 * timestep, told)
                return (FluxPipeline._pack_latents(out, len(x), 2, 8, 8),)

    elif cls is SD3Transformer2DModel:

        class Network(Exact):
            def forward(
                self,
                hidden_states,
                encoder_hidden_states=None,
                pooled_projections=None,
                timestep=None,
                return_dict=True,
            ):
                told = {"text": encoder_hidden_states, "pooled": pooled_projections}
                return (self.predict(hidden_states, timestep, told),)

    elif cls is UNet2DConditionModel:

        class Network(Exact):
            def forward(
                self,
                sample,
                timestep,
                encoder_hidden_states,
                added_cond_kwargs=None,
                return_dict=True,
            ):
                told = {"text": encoder_hidden_states, **(added_cond_kwargs or {})}
                return (self.predict(sample, timestep, told),)

    else:

        class Network(Exact):
            def forward(self, sample, timestep, class_labels=None, return_dict=True):
                return (self.predict(sample, timestep, {"labels": class_labels}),)

    return make(Network)


CASES = {
    "unet": (UNet2DModel, unet, {}, DDPMScheduler()),
    "unet, x0": (UNet2DModel, unet, {}, DDPMScheduler(prediction_type="sample")),
    "unet, score": (UNet2DModel, unet, {}, ScoreSdeVeScheduler()),
    "unet, edm": (UNet2DModel, unet, {}, EDMEulerScheduler()),
    "conditional unet": (
        UNet2DConditionModel,
        conditional_unet,
        words() | {"added_cond_kwargs": {"text_embeds": torch.full((1, 5), 2.0)}},
        DDIMScheduler(prediction_type="v_prediction"),
    ),
    "conditional unet, euler": (
        UNet2DConditionModel,
        conditional_unet,
        words(),
        EulerDiscreteScheduler(beta_schedule="scaled_linear"),
    ),
    "dit": (DiTTransformer2DModel, dit, {"class_labels": torch.tensor([3])}, DDIMScheduler()),
    "sd3": (SD3Transformer2DModel, sd3, text(), FlowMatchEulerDiscreteScheduler(shift=3.0)),
    "flux": (
        FluxTransformer2DModel,
        flux,
        text() | {"guidance": 3.5},
        FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
    ),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_an_exact_score_comes_back_from_every_network(case, kind, rng):
    cls, make, conditioning, scheduler = CASES[case]
    network = exact_network(cls, make)
    network.exact = ExactGaussian(scheduler)
    model = from_diffusers(
        network,
        scheduler,
        conditioning=conditioning,
        latent_shape=SHAPE if case == "flux" else None,
        dtype=torch.float64,
        mode="forward",
    )
    assert model.latent_shape == SHAPE
    leaves = [
        value
        for part in conditioning.values()
        for value in (part.values() if isinstance(part, dict) else [part])
    ]
    mean = sum(float(v.double().mean()) for v in leaves if isinstance(v, torch.Tensor))
    y, v = images(rng), images(rng)
    path = scheduler_convention(scheduler).path
    for sigma in (path.sigma(150), path.sigma(800)) if isinstance(path, DiscreteVP) else (0.1, 3.0):
        expected = (mean - y) / (VARIANCE + sigma**2), -v / (VARIANCE + sigma**2)
        cast = torch.tensor if kind == "torch" else np.asarray
        for a, b in zip(model.jvp(cast(y), sigma, cast(v)), expected, strict=True):
            assert type(a) is type(cast(y))
            np.testing.assert_allclose(to_numpy(a), b, rtol=1e-8, atol=1e-10)


# -- genuine networks --------------------------------------------------------------------------

GENUINE = {
    "unet": (unet, {}, DDPMScheduler()),
    "score unet": (lambda: unet(time_embedding_type="fourier"), {}, ScoreSdeVeScheduler()),
    "unet with classes": (
        lambda: unet(num_class_embeds=4),
        {"class_labels": torch.tensor([2])},
        DDPMScheduler(),
    ),
    "conditional unet": (conditional_unet, words(), DDIMScheduler(prediction_type="v_prediction")),
    "dit": (dit, {"class_labels": torch.tensor([3])}, DDIMScheduler()),
    "sd3": (sd3, text(), FlowMatchEulerDiscreteScheduler(shift=3.0)),
    "flux": (flux, text() | {"guidance": 3.5}, FlowMatchEulerDiscreteScheduler()),
}


def genuine(case, seed=0):
    make, conditioning, scheduler = GENUINE[case]
    torch.manual_seed(seed)
    network = make().double()
    for parameter in network.parameters():  # some are zero at the start
        torch.nn.init.normal_(parameter, std=0.2)
    return network, conditioning, scheduler


@pytest.mark.parametrize("case", GENUINE)
def test_forward_and_reverse_products_of_a_network_are_transposed(case, rng):
    network, conditioning, scheduler = genuine(case)
    network.train()
    wanted = [p.requires_grad for p in network.parameters()]
    model = from_diffusers(network, scheduler, conditioning=conditioning, latent_shape=SHAPE)
    y, v = images(rng), images(rng)
    s, hv, htv = model.both(y, 0.8, v)
    assert s.shape == (3, *SHAPE)
    assert np.linalg.norm(hv) > 1e-3
    np.testing.assert_allclose((v * hv).sum((1, 2, 3)), (v * htv).sum((1, 2, 3)), rtol=1e-6)
    assert network.training
    assert [p.requires_grad for p in network.parameters()] == wanted
    assert all(p.grad is None for p in network.parameters())
    # rows do not see each other, and the Jacobian is that of the score
    np.testing.assert_allclose(model(y[:1], 0.8), s[:1], rtol=1e-8, atol=1e-10)
    step = 1e-3  # rotary embeddings are applied in single precision
    difference = (model(y + step * v, 0.8) - model(y - step * v, 0.8)) / (2 * step)
    np.testing.assert_allclose(hv, difference, rtol=1e-3, atol=1e-3 * np.abs(hv).max())


def test_a_unet_is_called_as_its_pipeline_calls_it(rng):
    network, _, scheduler = genuine("unet")
    pipeline = DDPMPipeline(network, scheduler)
    model = from_diffusers(pipeline)
    x0, eps = torch.tensor(images(rng)), torch.tensor(images(rng))
    step = torch.tensor([300] * 3)
    noisy = scheduler.add_noise(x0, eps, step)
    sigma = scheduler_convention(scheduler).path.sigma(300)
    with torch.no_grad():
        expected = -network.eval()(noisy, 300).sample / sigma
    np.testing.assert_allclose(model(x0 + sigma * eps, sigma), expected, rtol=1e-4, atol=1e-6)


def test_a_flow_transformer_is_called_as_its_pipeline_calls_it(rng):
    network, conditioning, scheduler = genuine("flux")
    model = from_diffusers(network, scheduler, conditioning=conditioning, latent_shape=SHAPE)
    x0, eps = torch.tensor(images(rng)), torch.tensor(images(rng))
    u = 0.25
    x = (1 - u) * x0 + u * eps
    with torch.no_grad():
        packed = network(
            hidden_states=FluxPipeline._pack_latents(x, 3, *SHAPE),
            encoder_hidden_states=conditioning["encoder_hidden_states"].double().expand(3, 3, 6),
            pooled_projections=conditioning["pooled_projections"].double().expand(3, 5),
            timestep=torch.full((3,), u),
            guidance=torch.full((3,), 3.5),
            img_ids=FluxPipeline._prepare_latent_image_ids(1, 4, 4, "cpu", torch.float64),
            txt_ids=torch.zeros(3, 3, dtype=torch.float64),
        ).sample
    velocity = FluxPipeline._unpack_latents(packed, 8, 8, 1)
    denoised = x - u * velocity
    sigma = u / (1 - u)
    y = x / (1 - u)
    np.testing.assert_allclose(model(y, sigma), (denoised - y) / sigma**2, rtol=1e-6, atol=1e-8)


def test_attention_without_forward_mode_is_found_out_before_the_run(rng):
    network, conditioning, scheduler = genuine("dit")
    model = from_diffusers(network, scheduler, conditioning=conditioning)
    y, v = images(rng), images(rng)
    with pytest.warns(UserWarning, match=r"Products with the Jacobian .* forward AD with"):
        s, hv = model.jvp(y, 1.0, v)
    assert model.linearization.mode in ("forward, math attention", "reverse")
    assert np.isfinite(s).all()
    assert np.isfinite(hv).all()


def test_half_precision_networks_keep_their_time_in_single(rng):
    network, conditioning, scheduler = genuine("sd3")
    y = images(rng).astype("float32")
    expected = from_diffusers(network, scheduler, conditioning=conditioning)(y, 1.0)
    half = from_diffusers(network.to(torch.bfloat16), scheduler, conditioning=conditioning)
    found = half(y, 1.0)
    assert found.dtype == np.float32
    assert np.linalg.norm(found - expected) < 0.05 * np.linalg.norm(expected)
    assert half.precision == torch.finfo(torch.bfloat16).eps


def test_a_table_of_time_embeddings_is_asked_for_whole_steps_only(rng):
    network = unet(time_embedding_type="learned", num_train_timesteps=1000)
    told = []
    network.time_proj.register_forward_pre_hook(lambda module, inputs: told.append(inputs[0]))
    model = from_diffusers(network, DDPMScheduler(), mode="reverse")
    y = images(rng)
    assert np.isfinite(model(y, 0.777)).all()
    assert {time.dtype for time in told} == {torch.int64}


def test_levels_that_the_scheduler_has_no_step_for_are_nan(rng):
    model = from_diffusers(unet(), DDPMScheduler())
    with pytest.warns(UnreliableEstimateWarning, match="UNet2DModel knows noise from sigma 0.010"):
        assert np.isnan(model(images(rng), 1e-3)).all()


# -- units of latents --------------------------------------------------------------------------


def autoencoder(**config):
    return AutoencoderKL(
        block_out_channels=(4,), norm_num_groups=2, latent_channels=2, sample_size=8, **config
    )


@pytest.mark.parametrize(
    ("config", "shift", "scale"),
    [
        ({"scaling_factor": 0.36, "shift_factor": 0.12}, 0.12, 0.36),
        ({"scaling_factor": 0.18}, 0.0, 0.18),
        (
            {"scaling_factor": 0.5, "latents_mean": [1.0, -1.0], "latents_std": [2.0, 2.0]},
            np.array([1.0, -1.0])[:, None, None],
            0.25,
        ),
    ],
)
def test_latents_as_encoded_are_brought_to_the_networks_units(config, shift, scale, rng):
    network, conditioning, scheduler = genuine("sd3")
    own = from_diffusers(network, scheduler, conditioning=conditioning)
    raw = from_diffusers(network, scheduler, conditioning=conditioning, vae=autoencoder(**config))
    y = images(rng)
    expected = scale * own(scale * (y - shift), scale * 0.9)
    np.testing.assert_allclose(raw(y, 0.9), expected, rtol=1e-8, atol=1e-10)


def test_the_range_of_noise_is_in_units_of_the_encoded_latents():
    model = from_diffusers(unet(), DDPMScheduler(), vae=autoencoder(scaling_factor=0.1))
    own = scheduler_convention(DDPMScheduler()).sigma_range
    np.testing.assert_allclose(model.sigma_range, np.asarray(own) / 0.1, rtol=1e-12)


def test_channels_scaled_differently_are_refused():
    vae = autoencoder(latents_mean=[0.0, 0.0], latents_std=[1.0, 2.0])
    with pytest.raises(ValueError, match=r"scales channels differently, .* Leave vae out"):
        from_diffusers(unet(), DDPMScheduler(), vae=vae)


# -- refusals ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: from_diffusers(unet()), TypeError, "scheduler is None: UNet2DModel does not say"),
        (
            lambda: from_diffusers(torch.nn.Identity(), DDPMScheduler()),
            ValueError,
            "model is a Identity, .* from_module with a `call`",
        ),
        (
            lambda: from_diffusers(conditional_unet(), DDPMScheduler()),
            ValueError,
            "conditioning lacks 'encoder_hidden_states', which UNet2DConditionModel needs",
        ),
        (
            lambda: from_diffusers(unet(num_class_embeds=4), DDPMScheduler()),
            ValueError,
            "conditioning lacks 'class_labels', which UNet2DModel needs",
        ),
        (
            lambda: from_diffusers(
                flux(),
                FlowMatchEulerDiscreteScheduler(),
                conditioning=text(),
                latent_shape=SHAPE,
            ),
            ValueError,
            "conditioning lacks 'guidance'",
        ),
        (
            lambda: from_diffusers(
                flux(guidance_embeds=False), FlowMatchEulerDiscreteScheduler(), conditioning=text()
            ),
            ValueError,
            r"has no sample_size: pass latent_shape=\(2, H, W\)",
        ),
        (
            lambda: from_diffusers(
                flux(guidance_embeds=False),
                FlowMatchEulerDiscreteScheduler(),
                conditioning=text(),
                latent_shape=(2, 7, 8),
            ),
            ValueError,
            r"latent_shape is \(2, 7, 8\) but Flux.* takes \(2, H, W\) with even H and W",
        ),
        (
            lambda: from_diffusers(unet(), DDPMScheduler(), latent_shape=(4, 8, 8)),
            ValueError,
            r"latent_shape is \(4, 8, 8\) but UNet2DModel takes \(2, H, W\): pass",
        ),
        (
            lambda: from_diffusers(unet(in_channels=9), DDPMScheduler()),
            ValueError,
            "UNet2DModel takes 9 channels and returns 2: .* supplies the others",
        ),
        (
            lambda: from_diffusers(
                dit(), DDIMScheduler(), conditioning={"class_labels": torch.tensor([1, 2])}
            ),
            ValueError,
            r"conditioning\['class_labels'\] has shape \(2,\): .* one condition",
        ),
    ],
)
def test_what_is_not_known_of_a_network_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_a_pipeline_is_its_network_and_scheduler(rng):
    network, conditioning, scheduler = genuine("sd3")
    pipeline = SimpleNamespace(transformer=network, scheduler=scheduler)
    y = images(rng)
    np.testing.assert_array_equal(
        from_diffusers(pipeline, conditioning=conditioning)(y, 1.0),
        from_diffusers(network, scheduler, conditioning=conditioning)(y, 1.0),
    )
