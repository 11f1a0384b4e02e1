"""Networks and schedulers of diffusers as score models.

A scheduler's configuration says how the network's input was made noisy, what it is told of the time
and what it predicts; its sampling grid (shifts, Karras steps, offsets) says nothing about the
network. The network's configuration says the shape of its input.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from skfisher._backend.arrays import to_numpy
from skfisher.channels import latent_normalization
from skfisher.noise import EDM, DiscreteVP, FlowMatching, NoisePath, VarianceExploding
from skfisher.scores.adapters import AdaptedScore, from_module

__all__ = ["SchedulerConvention", "from_diffusers", "scheduler_convention"]

_TABULATED = (
    "CogVideoXDDIMScheduler",
    "CogVideoXDPMScheduler",
    "DDIMInverseScheduler",
    "DDIMParallelScheduler",
    "DDIMScheduler",
    "DDPMParallelScheduler",
    "DDPMScheduler",
    "DEISMultistepScheduler",
    "DPMSolverMultistepInverseScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSDEScheduler",
    "DPMSolverSinglestepScheduler",
    "EulerAncestralDiscreteScheduler",
    "EulerDiscreteScheduler",
    "HeunDiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "LMSDiscreteScheduler",
    "PNDMScheduler",
    "SASolverScheduler",
    "UnCLIPScheduler",
    "UniPCMultistepScheduler",
)
_FLOW = ("FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler")
_PRECONDITIONED = ("EDMEulerScheduler", "EDMDPMSolverMultistepScheduler")
_EXPLODING = ("ScoreSdeVeScheduler",)

_PREDICTIONS = {
    "epsilon": "epsilon",
    "sample": "x0",
    "v_prediction": "v",
    "flow_prediction": "velocity",
}

# how a network calls its noisy input, and what it cannot do without
_INPUTS = {
    "UNet2DModel": ("sample", ()),
    "UNet2DConditionModel": ("sample", ("encoder_hidden_states",)),
    "DiTTransformer2DModel": ("hidden_states", ("class_labels",)),
    "SD3Transformer2DModel": ("hidden_states", ("encoder_hidden_states", "pooled_projections")),
    "FluxTransformer2DModel": ("hidden_states", ("encoder_hidden_states", "pooled_projections")),
}


@dataclass(frozen=True)
class SchedulerConvention:
    """What a scheduler says of the network that it was made for.

    Attributes
    ----------
    path : NoisePath
        How the network's input was made noisy, and its clock.
    prediction : str
        What it predicts, as for `skfisher.scores.adapters.from_module`.
    sigma_range : tuple of float
        Noise levels that it was trained for, in units of its input's clean part.
    """

    path: NoisePath
    prediction: str
    sigma_range: tuple[float, float]


def scheduler_convention(scheduler: Any) -> SchedulerConvention:
    """Path, prediction and range of noise levels of a diffusers scheduler.

    Parameters
    ----------
    scheduler : object
        One of diffusers' schedulers with a table of `alphas_cumprod`, with EDM's preconditioning,
        of flow matching, or `ScoreSdeVeScheduler`.

    Raises
    ------
    ValueError
        Another scheduler, or an option of it that cannot be mapped.

    Notes
    -----
    Last steps without any signal (schedules of zero terminal SNR) have no finite sigma and are left
    out of the path.
    """
    names = _classes(scheduler)
    kind = _option(scheduler, "prediction_type", "epsilon")
    if names & {*_FLOW}:
        if _option(scheduler, "invert_sigmas", False):
            raise ValueError(
                f"{type(scheduler).__name__} has invert_sigmas=True, whose clock is not known: "
                f"pass the network to from_module with path=FlowMatching(data_at=1, "
                f"time_scale=...) if that is its time."
            )
        path: NoisePath = FlowMatching(time_scale=float(scheduler.config.num_train_timesteps))
        return SchedulerConvention(path, "velocity", path.sigma_range)
    if names & {*_EXPLODING}:
        return SchedulerConvention(VarianceExploding(), "score", _sigmas(scheduler))
    if names & {*_PRECONDITIONED}:
        predictions = {"epsilon": "edm", "v_prediction": "v"}
        path = EDM(float(scheduler.config.sigma_data))
        return SchedulerConvention(path, _mapped(scheduler, kind, predictions), _sigmas(scheduler))
    if not names & {*_TABULATED}:
        raise ValueError(
            f"scheduler is a {type(scheduler).__name__}, of which it is not known how it makes "
            f"noise: pass the scheduler that the network was trained with, or the network to "
            f"from_module with its prediction and a path of skfisher.noise."
        )
    prediction = _mapped(scheduler, kind, _PREDICTIONS)
    if _option(scheduler, "use_flow_sigmas", False):
        path = FlowMatching(time_scale=float(scheduler.config.num_train_timesteps))
        return SchedulerConvention(path, prediction, path.sigma_range)
    if prediction == "velocity":
        raise ValueError(
            f"{type(scheduler).__name__} has prediction_type='flow_prediction' without "
            f"use_flow_sigmas=True: a velocity belongs to a straight path, pass a scheduler with "
            f"both or a FlowMatchEulerDiscreteScheduler."
        )
    table = [float(value) for value in to_numpy(scheduler.alphas_cumprod)]
    while table and table[-1] <= 0.0:
        table.pop()
    path = DiscreteVP(table)
    if prediction == "v" and _option(scheduler, "timestep_type", "discrete") == "continuous":
        low, high = path.sigma_range
        low = _option(scheduler, "sigma_min", None) or low
        high = _option(scheduler, "sigma_max", None) or high
        return SchedulerConvention(EDM(1.0), "v", (float(low), float(high)))
    return SchedulerConvention(path, prediction, path.sigma_range)


def from_diffusers(
    model: Any,
    scheduler: Any = None,
    *,
    conditioning: Mapping[str, Any] | None = None,
    latent_shape: tuple[int, ...] | None = None,
    vae: Any = None,
    sigma_range: tuple[float, float] | None = None,
    **options: Any,
) -> AdaptedScore:
    """Score model from a network of diffusers and its scheduler.

    Parameters
    ----------
    model : module or pipeline
        UNet2DModel, UNet2DConditionModel, DiTTransformer2DModel, SD3Transformer2DModel or
        FluxTransformer2DModel, or a pipeline that holds one as `unet` or `transformer`.
    scheduler : object, optional
        See `scheduler_convention`; that of the pipeline by default.
    conditioning : mapping, optional
        Keyword arguments of the network with a leading dimension of 1: `encoder_hidden_states`,
        `added_cond_kwargs`, `class_labels`, `pooled_projections`. For FLUX its `guidance` as a
        number where the model was distilled with one; ids of texts and patches are made here.
    latent_shape : tuple of int, optional
        (C, H, W) of one latent, by default from the network's configuration. FLUX names none, and
        its latent is the unpacked one, of a quarter of its channels and even H and W.
    vae : object, optional
        Autoencoder (or its configuration) where points are latents as it encodes them; they are
        then shifted and scaled as its configuration says. Without it they are in the network's own
        units.
    sigma_range : tuple of float, optional
        Noise levels in units of the points, by default those of the scheduler.
    **options
        `device`, `dtype`, `mode`, `max_rows`, `autocast`, `compile`, as for `from_module`.

    Returns
    -------
    AdaptedScore
        The score under the given condition, without classifier-free guidance. What a
        guidance-distilled network predicts is no posterior mean, and its curve only a description.

    Raises
    ------
    TypeError
        No scheduler.
    ValueError
        A network or scheduler that is not known, conditioning that the network needs, a shape it
        cannot take, channels that are scaled differently, or as `from_module`.
    """
    if any(hasattr(model, name) for name in ("unet", "transformer")) and hasattr(
        model, "scheduler"
    ):
        scheduler = model.scheduler if scheduler is None else scheduler
        model = getattr(model, "unet", None) or model.transformer
    if scheduler is None:
        raise TypeError(
            f"scheduler is None: {type(model).__name__} does not say how its input was made noisy, "
            f"pass the scheduler it was trained with."
        )
    network = getattr(model, "_orig_mod", model)
    (known,) = [name for name in _INPUTS if name in _classes(network)] or [""]
    if not known:
        raise ValueError(
            f"model is a {type(model).__name__}, of which it is not known how it is called: pass "
            f"it to from_module with a `call`, the prediction and "
            f"path=scheduler_convention(scheduler).path."
        )
    conditioning = dict(conditioning or {})
    _check_conditioning(network, known, conditioning)
    shape, doubled = _shapes(network, known, latent_shape)
    convention = scheduler_convention(scheduler)
    shift, scale = (0.0, 1.0) if vae is None else _latent_units(vae)
    if sigma_range is None:
        sigma_range = convention.sigma_range[0] / scale, convention.sigma_range[1] / scale
    import torch

    own = options.get("dtype") or model.dtype
    argument = _INPUTS[known][0]
    if known == "FluxTransformer2DModel":
        steps = float(scheduler.config.num_train_timesteps)
        call: Any = _PackedCall(steps)
    else:
        call = _KeywordCall(argument)
    return from_module(
        model,
        prediction=convention.prediction,
        path=convention.path,
        conditioning=conditioning,
        call=call,
        integer_time=_option(network, "time_embedding_type", "") == "learned",
        time_dtype=torch.promote_types(own, torch.float32),
        latent_shape=shape,
        learned_variance=doubled,
        shift=shift,
        scale=scale,
        sigma_range=sigma_range,
        **options,
    )


@dataclass(frozen=True)
class _KeywordCall:
    """Call of a network whose noisy input has the name `argument`."""

    argument: str

    def __call__(self, network: Any, x: Any, time: Any, **conditioning: Any) -> Any:
        arguments = {self.argument: x, "timestep": time, "return_dict": False}
        return network(**arguments, **conditioning)


@dataclass(frozen=True)
class _PackedCall:
    """Call of a FLUX transformer: patches of 2 x 2 in a row, ids of their places, time in [0, 1].

    A latent (C, H, W) becomes (H/2 W/2, 4C), the entries of a patch in the order channel, row,
    column; the ids of a patch are (0, row, column), those of a text token are zero.
    """

    steps: float

    def __call__(self, network: Any, x: Any, time: Any, **conditioning: Any) -> Any:
        m, C, H, W = x.shape
        h, w = H // 2, W // 2
        packed = x.reshape(m, C, h, 2, w, 2).permute(0, 2, 4, 1, 3, 5).reshape(m, h * w, 4 * C)
        places = [[0.0, float(i), float(j)] for i in range(h) for j in range(w)]
        tokens = conditioning["encoder_hidden_states"].shape[1]
        guidance = conditioning.pop("guidance", None)
        if guidance is not None:
            guidance = time.new_full((m,), float(guidance))
        (output,) = network(
            hidden_states=packed,
            timestep=time / self.steps,
            guidance=guidance,
            img_ids=x.new_tensor(places),
            txt_ids=x.new_zeros((tokens, 3)),
            return_dict=False,
            **conditioning,
        )
        return output.reshape(m, h, w, C, 2, 2).permute(0, 3, 1, 4, 2, 5).reshape(m, C, H, W)


def _check_conditioning(network: Any, known: str, conditioning: Mapping[str, Any]) -> None:
    needed = [*_INPUTS[known][1]]
    classes = ("num_class_embeds", "class_embed_type")
    if known.startswith("UNet") and any(_option(network, name, None) for name in classes):
        needed.append("class_labels")
    if known == "FluxTransformer2DModel" and _option(network, "guidance_embeds", False):
        needed.append("guidance")
    missing = [name for name in needed if conditioning.get(name) is None]
    if missing:
        raise ValueError(
            f"conditioning lacks {', '.join(map(repr, missing))}, which {known} needs: pass "
            f"conditioning={{{missing[0]!r}: ...}} with a leading dimension of 1 (for the "
            f"unconditional score, the embedding of the empty prompt or the null class)."
        )


def _shapes(
    network: Any, known: str, latent_shape: tuple[int, ...] | None
) -> tuple[tuple[int, ...], bool]:
    """Shape of one latent, and whether the network doubles its channels."""
    packing = 4 if known == "FluxTransformer2DModel" else 1
    channels = int(network.config.in_channels)
    out = _option(network, "out_channels", None) or channels
    if out not in (channels, 2 * channels) or channels % packing:
        raise ValueError(
            f"{known} takes {channels} channels and returns {out}: a prediction has the channels "
            f"of the latent (or twice as many with a learned variance), pass the network to "
            f"from_module with a `call` that supplies the others."
        )
    size = _option(network, "sample_size", None)
    if latent_shape is None:
        if size is None:
            raise ValueError(
                f"latent_shape is None and the configuration of {known} has no sample_size: pass "
                f"latent_shape=({channels // packing}, H, W)."
            )
        edges = (size, size) if isinstance(size, int) else tuple(size)
        latent_shape = (channels, *edges)
    odd = packing > 1 and any(edge % 2 for edge in latent_shape[1:])
    if len(latent_shape) != 3 or latent_shape[0] * packing != channels or odd:
        raise ValueError(
            f"latent_shape is {tuple(latent_shape)} but {known} takes ({channels // packing}, H, W)"
            f"{' with even H and W' if packing > 1 else ''}: pass the shape of one latent."
        )
    return tuple(latent_shape), out == 2 * channels


def _latent_units(vae: Any) -> tuple[Any, float]:
    """Shift (one number or one per channel) and the one scale of an autoencoder's latents."""
    shift, scale = latent_normalization(getattr(vae, "config", vae))
    scales = scale if isinstance(scale, tuple) else (scale,)
    if max(scales) > min(scales) * (1 + 1e-6):
        raise ValueError(
            f"latents_std of the autoencoder scales channels differently, by {min(scales):.4g} to "
            f"{max(scales):.4g}: white noise in the network's units is not white in those of the "
            f"latents. Leave vae out and pass normalize_latents(X, *latent_normalization(vae)), "
            f"which standardises X per channel first."
        )
    return shift, scales[0]


def _mapped(scheduler: Any, kind: str, predictions: Mapping[str, str]) -> str:
    if kind not in predictions:
        raise ValueError(
            f"{type(scheduler).__name__} has prediction_type={kind!r}, which cannot be mapped: "
            f"known are {', '.join(map(repr, predictions))}."
        )
    return predictions[kind]


def _sigmas(scheduler: Any) -> tuple[float, float]:
    return float(scheduler.config.sigma_min), float(scheduler.config.sigma_max)


def _classes(value: Any) -> set[str]:
    return {kind.__name__ for kind in type(value).__mro__}


def _option(holder: Any, name: str, default: Any) -> Any:
    config = getattr(holder, "config", {})
    value = config.get(name) if isinstance(config, Mapping) else getattr(config, name, None)
    return default if value is None else value
