"""Training of the zoo's encoders, family by family.

Every loss is a mean squared error per pixel value (images in [-1, 1]) plus the family's own term:

plain         none
vae           kl * KL(posterior, N(0, I)) / D, with D the number of pixel values
geometry      the encoder alone by `skfisher.losses.geometry_preserving_loss`, then frozen, its
              latents centred and scaled, and the decoder alone
denoising     none, with noise on the images (`input_noise`) or on the latents (`latent_noise`,
              a share of their root mean square)
equivariant   equivariance * error of decode(T z) against T x; T: quarter turns, flips, halving
spectral      scale_equivariance * error of decode(z averaged over places) against x averaged
aligned       alignment * (margin loss of the cosine between a linear map of z and the features of
              x + margin loss between the cosines among the z and those among the features)
pca           no training: scikit-learn's PCA, with `whiten` divided by its standard deviations

Families without a prior have no scale of their own: the head is scaled on the first images so that
latents have mean 0 and a root mean square of one over all entries, and GAUGE * (V - 1)^2, V the
variance of a batch averaged over entries, keeps it there. This ties one number only, which is
divided out before a generator sees the latents.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.zoo.checkpoints import Checkpoint, read_checkpoint, write_checkpoint
from benchmarks.zoo.config import EncoderConfig
from benchmarks.zoo.data import to_float
from benchmarks.zoo.networks import Autoencoder, Convolutional, Linear, fan_in_init
from skfisher.losses import geometry_preserving_loss, kl_to_standard_normal

__all__ = ["FAMILIES", "Images", "build", "encode_all", "load", "train"]

FAMILIES = (
    "plain",
    "vae",
    "geometry",
    "denoising",
    "equivariant",
    "aligned",
    "spectral",
    "pca",
)
CLIP = 1.0
GAUGE = 0.01
MARGINS = 0.25, 0.1  # of the aligned family: the cosine's, and that between the cosines
EVERY = 250  # steps from one checkpoint to the next
REPORTED = 100  # steps from one call of `progress` to the next
SMOOTHING = 0.98  # of the losses that are reported
FIRST_IMAGES = 512


class Images(Protocol):
    """What is needed of a set of images: uint8 (N, C, 32, 32)."""

    train: np.ndarray


Progress = Callable[[int, Mapping[str, float]], None]


def build(config: EncoderConfig, channels: int) -> Autoencoder:
    """The untrained autoencoder of a configuration.

    Raises
    ------
    ValueError
        Of a family that is not trained here.
    """
    if config.family == "pca":
        return Linear(channels, config.shape)
    if config.family not in FAMILIES:
        raise ValueError(
            f"family is {config.family!r}, of encoder {config.name!r}: this module trains "
            f"{', '.join(FAMILIES)}."
        )
    return Convolutional(channels, config.shape, stochastic=config.family == "vae")


def train(
    config: EncoderConfig,
    images: Images,
    *,
    seed: int = 0,
    steps: int = 1500,
    batch: int = 96,
    learning_rate: float = 3e-3,
    device: str = "cpu",
    features: np.ndarray | None = None,
    progress: Progress | None = None,
    checkpoint: Path | None = None,
) -> tuple[Autoencoder, dict[str, Any]]:
    """An autoencoder of `config`, in eval mode, and how its training went.

    Parameters
    ----------
    config : EncoderConfig
    images : Images
        Those of `train` are used.
    seed : int
    steps : int
        Of Adam; the geometry family takes as many for its encoder and then for its decoder, each
        about half the work of a joint step.
    batch : int
    learning_rate : float
        The largest, of one cycle.
    device : str
    features : array of shape (N, F), optional
        Of the training images, for the aligned family.
    progress : callable, optional
        Called with the steps done and the losses by name, every hundred steps.
    checkpoint : Path, optional
        A file to resume from where it is there, written every few hundred steps and at the end. An
        interrupted and resumed run gives the same autoencoder as one that was not.

    Returns
    -------
    autoencoder : Autoencoder
    facts : dict
        `losses` by name, means over about the last fifty steps; `seconds` of all its sessions;
        `steps`.
    """
    start = time.perf_counter()
    model = build(config, images.train.shape[1]).to(device)
    if isinstance(model, Linear):
        _fit_pca(model, images.train, bool(config.options.get("whiten")))
        facts = {"losses": {}, "seconds": time.perf_counter() - start, "steps": 0}
        return model.eval(), facts
    assert isinstance(model, Convolutional)
    if config.family == "aligned":
        features = _standardised(features, len(images.train), config)
    else:
        features = None
    run = _Run(config, model, images.train, features, seed, steps, batch, learning_rate)
    facts = run.complete(progress, checkpoint)
    return model.eval(), facts


def load(config: EncoderConfig, path: Path, channels: int) -> Autoencoder:
    """The autoencoder of `config` with the weights of a file, in eval mode.

    Raises
    ------
    ValueError
        Where the weights are those of another configuration.
    """
    model = build(config, channels)
    try:
        model.load_state_dict(load_file(path))
    except RuntimeError as error:
        raise ValueError(
            f"{path} does not hold an encoder {config.name!r} of images with {channels} "
            f"channel(s): train it again, or name the configuration it was trained with."
        ) from error
    return model.eval()


@torch.no_grad()
def encode_all(
    autoencoder: Autoencoder, images: np.ndarray, *, batch: int = 512, device: Any = "cpu"
) -> np.ndarray:
    """Latents (N, *shape), float32, of uint8 images."""
    parts = [
        autoencoder.encode(to_float(images[i : i + batch], device)).cpu().numpy()
        for i in range(0, len(images), batch)
    ]
    return np.concatenate(parts)


def _fit_pca(model: Linear, images: np.ndarray, whiten: bool) -> None:
    from sklearn.decomposition import PCA

    flat = images.reshape(len(images), -1).astype(np.float32)
    flat /= 127.5
    flat -= 1
    pca = PCA(len(model.scales), svd_solver="covariance_eigh").fit(flat)
    model.mean.copy_(torch.from_numpy(pca.mean_))
    model.components.copy_(torch.from_numpy(pca.components_))
    if whiten:
        model.scales.copy_(torch.from_numpy(np.sqrt(pca.explained_variance_)))


def _standardised(features: np.ndarray | None, rows: int, config: EncoderConfig) -> np.ndarray:
    if features is None or len(features) != rows:
        seen = "None" if features is None else f"{len(features)} rows"
        raise ValueError(
            f"features is {seen}, and encoder {config.name!r} is aligned with those of its {rows} "
            f"training images: pass FeatureNetwork()(images.train)."
        )
    centred = np.asarray(features, dtype=np.float32)
    centred = centred - centred.mean(0)
    return centred / np.maximum(centred.std(0), 1e-6)


@dataclass
class _Batch:
    """One step's images, what the loss compares them with, and the draws it may make."""

    x: Tensor
    draws: torch.Generator
    features: Tensor | None = None
    alignment: nn.Module | None = None

    def normal(self, like: Tensor) -> Tensor:
        """Normal draws in the shape of a tensor, the same on every device."""
        return torch.randn(like.shape, generator=self.draws).to(like.device)

    def choice(self, options: int) -> int:
        """A number below `options`."""
        return int(torch.randint(options, (), generator=self.draws))


Losses = dict[str, Tensor]
Loss = Callable[[Convolutional, _Batch, Mapping[str, float]], Losses]


def _gauge(z: Tensor) -> Tensor:
    return GAUGE * ((z - z.mean(0)).square().mean() - 1).square()


def _error(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).square().mean()


def _plain(model: Convolutional, batch: _Batch, options: Mapping[str, float]) -> Losses:
    z = model.encode(batch.x)
    return {"reconstruction": _error(model.decode(z), batch.x), "gauge": _gauge(z)}


def _vae(model: Convolutional, batch: _Batch, options: Mapping[str, float]) -> Losses:
    mean, log_variance = model.moments(batch.x)
    z = mean + torch.exp(0.5 * log_variance) * batch.normal(mean)
    kl = kl_to_standard_normal(mean, log_variance)
    return {
        "reconstruction": _error(model.decode(z), batch.x),
        "kl": options["kl"] * kl / batch.x[0].numel(),
    }


def _denoising(model: Convolutional, batch: _Batch, options: Mapping[str, float]) -> Losses:
    x = batch.x
    if share := options.get("input_noise", 0.0):
        x = x + share * batch.normal(x)
    z = model.encode(x)
    noisy = z
    if share := options.get("latent_noise", 0.0):
        noisy = z + share * z.square().mean().sqrt() * batch.normal(z)
    return {"reconstruction": _error(model.decode(noisy), batch.x), "gauge": _gauge(z)}


def _equivariant(model: Convolutional, batch: _Batch, options: Mapping[str, float]) -> Losses:
    z = model.encode(batch.x)
    half = len(z) // 2 or 1
    moved, target = z[:half], batch.x[:half]
    element = 1 + batch.choice(7)  # of the square's eight symmetries, the identity left out
    if halved := batch.choice(2) == 1 and min(model.shape[1:]) >= 4:
        element = batch.choice(8)
    moved, target = (_symmetry(t, element) for t in (moved, target))
    if halved:
        moved, target = (functional.avg_pool2d(t, 2) for t in (moved, target))
    return {
        "reconstruction": _error(model.decode(z), batch.x),
        "equivariance": options["equivariance"] * _error(model.decode(moved), target),
        "gauge": _gauge(z),
    }


def _symmetry(x: Tensor, element: int) -> Tensor:
    turned = torch.rot90(x, element % 4, dims=(-2, -1))
    return turned.flip(-1) if element >= 4 else turned


def _spectral(model: Convolutional, batch: _Batch, options: Mapping[str, float]) -> Losses:
    z = model.encode(batch.x)
    factors = [f for f in (2, 4) if min(model.shape[1:]) // f >= 2]
    factor = factors[batch.choice(len(factors))]
    small, target = (functional.avg_pool2d(t, factor) for t in (z, batch.x))
    error = _error(model.decode(small), target)
    return {
        "reconstruction": _error(model.decode(z), batch.x),
        "scale_equivariance": options["scale_equivariance"] * error,
        "gauge": _gauge(z),
    }


def _aligned(model: Convolutional, batch: _Batch, options: Mapping[str, float]) -> Losses:
    z = model.encode(batch.x)
    flat, features = z.flatten(1), batch.features
    cosine = functional.cosine_similarity(batch.alignment(flat), features)
    ours, theirs = (functional.normalize(t) @ functional.normalize(t).T for t in (flat, features))
    marginal = functional.relu(1 - MARGINS[0] - cosine).mean()
    between = functional.relu((ours - theirs).abs() - MARGINS[1]).mean()
    return {
        "reconstruction": _error(model.decode(z), batch.x),
        "alignment": options["alignment"] * (marginal + between),
        "gauge": _gauge(z),
    }


def _geometry(model: Convolutional, batch: _Batch, options: Mapping[str, float]) -> Losses:
    flat = batch.x.flatten(1)
    distances = torch.cdist(flat, flat)
    return {"geometry": geometry_preserving_loss(None, model.encode(batch.x), distances=distances)}


def _decoder(model: Convolutional, batch: _Batch, options: Mapping[str, float]) -> Losses:
    with torch.no_grad():
        z = model.encode(batch.x)
    return {"reconstruction": _error(model.decode(z), batch.x)}


_LOSSES = {
    "plain": _plain,
    "vae": _vae,
    "denoising": _denoising,
    "equivariant": _equivariant,
    "spectral": _spectral,
    "aligned": _aligned,
}


class _Run:
    """A training that can be left at any checkpoint and taken up again."""

    def __init__(
        self,
        config: EncoderConfig,
        model: Convolutional,
        images: np.ndarray,
        features: np.ndarray | None,
        seed: int,
        steps: int,
        batch: int,
        learning_rate: float,
    ) -> None:
        self.config, self.model, self.images, self.features = config, model, images, features
        self.steps, self.batch, self.learning_rate = steps, batch, learning_rate
        self.device = model.scale.device
        self.draws = torch.Generator().manual_seed(seed)
        self.alignment: nn.Module | None = None
        if features is not None:
            self.alignment = nn.Linear(config.dimension, features.shape[1]).to(self.device)
        self.losses: dict[str, float] = {}
        self.seconds, self.done = 0.0, 0
        # what a checkpoint must agree with to be taken up
        self.identity = {
            "encoder": config.name,
            "family": config.family,
            "shape": list(config.shape),
            "options": dict(config.options),
            "seed": seed,
            "steps": steps,
            "batch": batch,
            "learning_rate": learning_rate,
            "images": list(images.shape),
        }

    @property
    def modules(self) -> nn.ModuleDict:
        """Everything with weights."""
        parts = {"model": self.model}
        return nn.ModuleDict(parts | ({"alignment": self.alignment} if self.alignment else {}))

    def stages(self) -> list[tuple[list[nn.Parameter], Loss]]:
        """Parameters that are trained together, and by what."""
        if self.config.family == "geometry":
            encoder, decoder = self.model.encoder_parameters(), self.model.decoder_parameters()
            return [(encoder, _geometry), (decoder, _decoder)]
        return [(list(self.modules.parameters()), _LOSSES[self.config.family])]

    def complete(self, progress: Progress | None, checkpoint: Path | None) -> dict[str, Any]:
        """Train to the end from where the checkpoint is, or from the start."""
        saved: Checkpoint | None = None
        if checkpoint is not None and checkpoint.exists():
            saved = self._resume(checkpoint)
        else:
            self._start()
        before, start = self.seconds, time.perf_counter()
        for stage, (parameters, loss) in enumerate(self.stages()):
            first = self.done - stage * self.steps
            if first >= self.steps:
                continue
            if first == 0 and stage == 1:
                self._fix_latents()
            optimiser = torch.optim.Adam(parameters, lr=self.learning_rate)
            schedule = torch.optim.lr_scheduler.OneCycleLR(
                optimiser, self.learning_rate, total_steps=self.steps, cycle_momentum=False
            )
            if first > 0 and saved is not None:
                saved.restore_optimizer(optimiser)
                schedule.load_state_dict(saved.progress["schedule"])
            for _ in range(first, self.steps):
                self._step(parameters, loss, optimiser)
                schedule.step()
                self.done += 1
                self.seconds = before + time.perf_counter() - start
                last = self.done % self.steps == 0
                if checkpoint is not None and (last or self.done % EVERY == 0):
                    self._store(checkpoint, optimiser, schedule)
                if progress is not None and (last or self.done % REPORTED == 0):
                    progress(self.done, self.losses)
        return {"losses": self.losses, "seconds": self.seconds, "steps": self.done}

    def _start(self) -> None:
        fan_in_init(self.modules, self.draws)
        x = to_float(self.images[self._rows(FIRST_IMAGES)], self.device)
        rms = 1.0
        if self.config.family == "geometry":  # as far from each other as the images are
            rms = float((x - x.mean(0)).square().sum() / len(x) / self.config.dimension) ** 0.5
        self.model.calibrate(x, rms)

    def _rows(self, n: int) -> np.ndarray:
        return torch.randint(len(self.images), (n,), generator=self.draws).numpy()

    def _fix_latents(self) -> None:
        z = encode_all(self.model, self.images, device=self.device).astype(np.float64)
        mean = z.mean(0)
        scale = np.sqrt(np.mean((z - mean) ** 2))
        self.model.shift.copy_(torch.from_numpy(mean))
        self.model.scale.fill_(float(scale))

    def _step(
        self, parameters: list[nn.Parameter], loss: Loss, optimiser: torch.optim.Adam
    ) -> None:
        rows = self._rows(self.batch)
        batch = _Batch(to_float(self.images[rows], self.device), self.draws)
        if self.features is not None:
            batch.features = torch.from_numpy(self.features[rows]).to(self.device)
            batch.alignment = self.alignment
        terms = loss(self.model, batch, self.config.options)
        total = torch.stack(list(terms.values())).sum()
        optimiser.zero_grad()
        total.backward()
        nn.utils.clip_grad_norm_(parameters, CLIP, error_if_nonfinite=True)
        optimiser.step()
        for name, term in terms.items():
            value = float(term.detach())
            old = self.losses.get(name, value)
            self.losses[name] = SMOOTHING * old + (1 - SMOOTHING) * value

    def _store(self, path: Path, optimiser: torch.optim.Adam, schedule: Any) -> None:
        write_checkpoint(
            path,
            self.identity,
            progress={
                "schedule": schedule.state_dict(),
                "losses": self.losses,
                "seconds": self.seconds,
                "done": self.done,
            },
            modules={"weights": self.modules},
            optimizer=optimiser,
            tensors={"draws": self.draws.get_state()},
        )

    def _resume(self, path: Path) -> Checkpoint:
        saved = read_checkpoint(path, self.identity)
        self.modules.load_state_dict(saved.under("weights"))
        self.draws.set_state(saved.tensors["draws"])
        self.losses, self.seconds, self.done = (
            saved.progress[k] for k in ("losses", "seconds", "done")
        )
        return saved
