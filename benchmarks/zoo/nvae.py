"""A small hierarchical variational autoencoder: top-down groups with residual-normal posteriors.

After Vahdat and Kautz (2020), "NVAE: a deep hierarchical variational autoencoder", scaled to images
of 32 pixels and one core, so without batch normalisation, squeeze-and-excitation or flows.

Group l has the prior N(mu_l, sigma_l^2), computed from the state h of the top-down path (the first
group's is standard normal), and the posterior N(mu_l + d mu_l, (sigma_l d sigma_l)^2), whose
residual is computed from h and from the bottom-up features of the image. Means and logarithms of
standard deviations pass the soft clamp 5 tanh(x / 5); a cell is h + 0.1 F(h).

The latent that is diffused is absolute: z_1 is the posterior mean of the first group, z_2 that of
the second with z_1 in the place of its sample, and so on; `decode` runs the top-down path on it.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.zoo.checkpoints import read_checkpoint, write_checkpoint
from benchmarks.zoo.config import IMAGE_SIZE, EncoderConfig

__all__ = ["NVAE", "balance", "residual_normal_kl", "soft_clamp", "train_nvae"]

_PATCH = 4
_WIDTHS = {8: 32, 4: 64}  # channels of the state at 8 x 8 and at 4 x 4 places
_LEARNING_RATE = 3e-3
_RISE = 0.15  # share of the steps in which the learning rate rises
_WARM_UP = 0.3  # share of the steps in which the weight of the divergence rises
_SPECTRAL_WEIGHT = 1e-5  # of the sum of the largest singular values of all convolutions
_CLIP = 1.0
_EVERY = 100  # steps from one checkpoint to the next
_MEMORY = 0.98  # of the running means of the losses


def soft_clamp(x: Tensor) -> Tensor:
    """5 tanh(x / 5): the identity near 0, within (-5, 5) everywhere."""
    return 5.0 * torch.tanh(x / 5.0)


def residual_normal_kl(
    mean: Tensor, log_sd: Tensor, prior_mean: Tensor, prior_log_sd: Tensor
) -> Tensor:
    """Divergence of N(mean, sd^2) from N(prior mean, prior sd^2), summed over all but the rows.

    With the residuals d mu = mean - prior mean and log d sigma = log sd - prior log sd it is
    (d mu^2 / prior sd^2 + d sigma^2) / 2 - log d sigma - 1 / 2 per entry.
    """
    shift = (mean - prior_mean) * torch.exp(-prior_log_sd)
    log_ratio = log_sd - prior_log_sd
    return (0.5 * (shift**2 + torch.exp(2 * log_ratio)) - log_ratio - 0.5).flatten(1).sum(1)


def balance(divergences: Tensor, sizes: Tensor) -> Tensor:
    """Weights of the groups, of mean 1, in proportion to the divergence per entry of each.

    A group that carries little is taxed little, so that it learns to carry something while the
    weight of the divergence rises.
    """
    per_entry = divergences.detach() / sizes + 1e-6
    return per_entry / per_entry.mean()


def group_shapes(config: EncoderConfig) -> tuple[tuple[int, int, int], ...]:
    """The shape (C, H, W) of each group, from the top down."""
    groups, scales = int(config.options.get("groups", 1)), int(config.options.get("scales", 1))
    if scales == 1:
        if len(config.shape) != 3 or config.shape[1:] != (4, 4) or config.shape[0] % groups:
            raise ValueError(
                f"shape is {config.shape} for {groups} groups on one scale: pass (C, 4, 4) with C "
                "a multiple of groups."
            )
        return ((config.shape[0] // groups, 4, 4),) * groups
    shapes = ((2, 4, 4),) * (groups // 2) + ((1, 8, 8),) * (groups // 2)
    if scales != 2 or groups % 2 or config.shape != (sum(map(math.prod, shapes)),):
        raise ValueError(
            f"shape is {config.shape} for {groups} groups on {scales} scales: pass scales 1 or 2, "
            "and on 2 scales an even number of groups and shape (48 * groups,)."
        )
    return shapes


def _convolution(inputs: int, outputs: int, size: int, *, gain: float = 1.0, stride: int = 1):
    layer = nn.Conv2d(inputs, outputs, size, stride, padding=0 if size == stride else size // 2)
    nn.init.normal_(layer.weight, std=gain / math.sqrt(inputs * size * size))
    nn.init.zeros_(layer.bias)
    return layer


class _Cell(nn.Module):
    """h + 0.1 F(h), F of two 3 x 3 convolutions."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = _convolution(width, width, 3, gain=math.sqrt(2))
        self.second = _convolution(width, width, 3, gain=math.sqrt(2))

    def forward(self, h: Tensor) -> Tensor:
        return h + 0.1 * self.second(functional.silu(self.first(functional.silu(h))))


class _Group(nn.Module):
    """One group of latents: its prior, its posterior, and its way into the state."""

    def __init__(self, shape: tuple[int, int, int], *, first: bool) -> None:
        super().__init__()
        channels, width = shape[0], _WIDTHS[shape[1]]
        self.shape = shape
        self.prior = None if first else _convolution(width, 2 * channels, 1, gain=0.1)
        self.look = _convolution(2 * width, width, 1)
        self.posterior = _convolution(width, 2 * channels, 3)
        self.enter = _convolution(channels, width, 3)
        self.cell = _Cell(width)

    def parameters_of(self, h: Tensor, features: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Mean and log standard deviation of the posterior, then of the prior."""
        look = self.look(torch.cat([features, h], 1))
        step_mean, step_log_sd = self.posterior(functional.silu(look)).chunk(2, 1)
        if self.prior is None:
            mean, log_sd = torch.zeros_like(step_mean), torch.zeros_like(step_mean)
        else:
            mean, log_sd = self.prior(functional.silu(h)).chunk(2, 1)
        return (
            soft_clamp(mean + step_mean),
            soft_clamp(log_sd + step_log_sd),
            soft_clamp(mean),
            soft_clamp(log_sd),
        )

    def forward(self, h: Tensor, z: Tensor) -> Tensor:
        return self.cell(h + self.enter(z))


class NVAE(nn.Module):
    """The autoencoder of a configuration; its weights are drawn, not trained.

    Attributes
    ----------
    shape : tuple of int
        Of the latent: groups on one scale are concatenated along the channels, groups on two
        scales are flattened one after the other.
    group_shapes : tuple of (C, H, W)
        From the top down.
    """

    def __init__(self, config: EncoderConfig, channels: int) -> None:
        super().__init__()
        self.shape = tuple(config.shape)
        self.group_shapes = group_shapes(config)
        fine, coarse = _WIDTHS[8], _WIDTHS[4]
        self.patches = _convolution(channels, fine, _PATCH, stride=_PATCH)
        self.fine_cell = _Cell(fine)
        self.down = _convolution(fine, coarse, 3, stride=2)
        self.coarse_cell = _Cell(coarse)
        self.top = nn.Parameter(torch.randn(1, coarse, 4, 4))
        self.groups = nn.ModuleList(
            _Group(shape, first=number == 0) for number, shape in enumerate(self.group_shapes)
        )
        self.up = _convolution(coarse, 4 * fine, 1)
        self.last_cell = _Cell(fine)
        self.pixels = _convolution(fine, channels * _PATCH**2, 3)

    def forward(
        self, x: Tensor, noise: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Reconstruction, latent, and per group and row the divergence and the latent's entries.

        noise : standard normal (N, d) by which the posteriors are sampled; None takes the means.
        """
        features = self._features(x)
        draws = None if noise is None else self._split_flat(noise)
        h, z, divergences = self._start(len(x)), [], []
        for number, group in enumerate(self.groups):
            h = self._at_size(h, group.shape[1])
            mean, log_sd, *prior = group.parameters_of(h, features[group.shape[1]])
            divergences.append(residual_normal_kl(mean, log_sd, *prior))
            z.append(mean if draws is None else mean + torch.exp(log_sd) * draws[number])
            h = group(h, z[-1])
        return self._pixels(h), self._joined(z), torch.stack(divergences, 1)

    def encode(self, x: Tensor) -> Tensor:
        """Posterior means (N, *shape), each group's with those above it put in for samples."""
        return self.forward(x)[1]

    def decode(self, z: Tensor) -> Tensor:
        """The images of given groups; the priors play no part."""
        h = self._start(len(z))
        for group, part in zip(self.groups, self._split(z), strict=True):
            h = group(self._at_size(h, group.shape[1]), part)
        return self._pixels(h)

    def _features(self, x: Tensor) -> dict[int, Tensor]:
        fine = self.fine_cell(self.patches(x))
        return {8: fine, 4: self.coarse_cell(self.down(functional.silu(fine)))}

    def _start(self, rows: int) -> Tensor:
        return self.top.expand(rows, -1, -1, -1)

    def _at_size(self, h: Tensor, size: int) -> Tensor:
        return (
            h if h.shape[-1] == size else functional.pixel_shuffle(self.up(functional.silu(h)), 2)
        )

    def _pixels(self, h: Tensor) -> Tensor:
        h = self.last_cell(self._at_size(h, 8))
        return functional.pixel_shuffle(self.pixels(functional.silu(h)), _PATCH)

    def _joined(self, z: list[Tensor]) -> Tensor:
        if len(self.shape) == 3:
            return torch.cat(z, 1)
        return torch.cat([part.flatten(1) for part in z], 1)

    def _split(self, z: Tensor) -> list[Tensor]:
        if len(self.shape) == 3:
            return list(z.split([shape[0] for shape in self.group_shapes], 1))
        return self._split_flat(z)

    def _split_flat(self, z: Tensor) -> list[Tensor]:
        parts = z.split([math.prod(shape) for shape in self.group_shapes], 1)
        return [
            part.reshape(-1, *shape) for part, shape in zip(parts, self.group_shapes, strict=True)
        ]


class SpectralPenalty:
    """Sum of the largest singular values of all convolutions, by power iteration.

    A kernel is the matrix (outputs, inputs * places). The vectors of the last call start the next,
    so one iteration per step follows the weights.
    """

    def __init__(self, model: nn.Module, generator: torch.Generator) -> None:
        self.weights = [m.weight for m in model.modules() if isinstance(m, nn.Conv2d)]
        self.vectors = [
            functional.normalize(torch.randn(len(W), generator=generator), dim=0).to(W.device)
            for W in self.weights
        ]

    def __call__(self, iterations: int = 1) -> Tensor:
        total = torch.zeros((), device=self.weights[0].device)
        for number, weight in enumerate(self.weights):
            W = weight.flatten(1)
            with torch.no_grad():
                u = self.vectors[number]
                for _ in range(iterations):
                    v = functional.normalize(u @ W, dim=0)
                    u = functional.normalize(W @ v, dim=0)
                self.vectors[number] = u
            total = total + u @ W @ v
        return total


def train_nvae(
    config: EncoderConfig,
    images: Any,
    *,
    seed: int = 0,
    steps: int = 1500,
    batch: int = 96,
    device: str = "cpu",
    progress: Callable[[int, dict[str, float]], None] | None = None,
    checkpoint: str | Path | None = None,
) -> tuple[NVAE, dict[str, Any]]:
    """Train on `images.train` (uint8) and give the autoencoder and what its training came to.

    The loss is the mean squared error per pixel value + w KL / D + the spectral penalty, w the
    option `kl` and D the number of pixel values. Over the first 30 % of the steps w rises from 0
    and the groups are balanced; after that each counts once, and without the penalty D / w times
    the loss is, up to a constant, the evidence bound for normal pixels of variance w / 2.

    progress : called with the step and the running losses every 100 steps.
    checkpoint : a file, written every 100 steps, from which an interrupted run goes on to the same
        result; a run that had ended is read from it.
    """
    if "kl" not in config.options:
        raise ValueError(f"options of {config.name!r} are {dict(config.options)}: name `kl`.")
    train = images.train
    if train.dtype != "uint8" or train.ndim != 4 or train.shape[2:] != (IMAGE_SIZE,) * 2:
        raise ValueError(
            f"images.train is {train.dtype} of shape {train.shape}: pass uint8 "
            f"(N, C, {IMAGE_SIZE}, {IMAGE_SIZE})."
        )
    run = _Run(config, images, seed=seed, steps=steps, batch=batch, device=device)
    path = None if checkpoint is None else Path(checkpoint)
    if path is not None and path.exists():
        run.read(path)
    while run.step < steps:
        run.advance(min(steps, run.step - run.step % _EVERY + _EVERY))
        if path is not None:
            run.write(path)
        if progress is not None:
            progress(run.step, run.losses())
    run.model.eval().requires_grad_(False)
    parameters = sum(weight.numel() for weight in run.model.parameters())
    return run.model, {
        "losses": run.losses(),
        "seconds": run.seconds,
        "steps": run.step,
        "parameters": parameters,
    }


class _Run:
    """A training that can be stopped between two steps and taken up again."""

    def __init__(
        self,
        config: EncoderConfig,
        images: Any,
        *,
        seed: int,
        steps: int,
        batch: int,
        device: str,
    ) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.model = NVAE(config, images.train.shape[1])
        self.model.to(device).train()
        self.generator = torch.Generator().manual_seed(seed + 1)
        self.penalty = SpectralPenalty(self.model, self.generator)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=_LEARNING_RATE)
        self.train = images.train
        self.sizes = torch.tensor(
            [float(math.prod(shape)) for shape in self.model.group_shapes], device=device
        )
        self.weight = float(config.options["kl"])
        self.steps, self.batch, self.device = steps, batch, device
        self.step, self.seconds = 0, 0.0
        names = [f"kl_group_{number + 1}" for number in range(len(self.sizes))]
        self.names = ("reconstruction", "kl", "spectral", *names)
        self.means = torch.zeros(len(self.names), dtype=torch.float64)
        self.identity = {
            "encoder": config.name,
            "shape": list(config.shape),
            "options": dict(config.options),
            "images": hashlib.sha256(images.train.tobytes()).hexdigest()[:16],
            "seed": seed,
            "steps": steps,
            "batch": batch,
        }

    def advance(self, until: int) -> None:
        """Take steps up to this number."""
        started = time.perf_counter()
        while self.step < until:
            self._step()
        self.seconds += time.perf_counter() - started

    def _step(self) -> None:
        share = self.step / self.steps
        for group in self.optimizer.param_groups:
            group["lr"] = _LEARNING_RATE * _one_cycle(share)
        rows = torch.randint(len(self.train), (self.batch,), generator=self.generator)
        x = torch.from_numpy(self.train[rows.numpy()]).to(self.device).float() / 127.5 - 1
        noise = torch.randn(self.batch, int(self.sizes.sum()), generator=self.generator)
        output, _, divergences = self.model(x, noise.to(self.device))
        reconstruction = functional.mse_loss(output, x)
        each = divergences.mean(0)
        warmth = min(1.0, share / _WARM_UP)
        weights = balance(each, self.sizes) if warmth < 1 else torch.ones_like(each)
        spectral = self.penalty()
        loss = (
            reconstruction
            + self.weight * warmth * (weights * each).sum() / x[0].numel()
            + _SPECTRAL_WEIGHT * spectral
        )
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), _CLIP)
        self.optimizer.step()
        self.step += 1
        seen = torch.stack([reconstruction, each.sum(), spectral, *each]).detach()
        self.means = _MEMORY * self.means + (1 - _MEMORY) * seen.to("cpu", torch.float64)

    def losses(self) -> dict[str, float]:
        """Running means of the losses: error per pixel value, divergences in nats per image."""
        means = self.means / (1 - _MEMORY**self.step)
        return dict(zip(self.names, means.tolist(), strict=True))

    def write(self, path: Path) -> None:
        """Keep everything that the next step depends on."""
        tensors = {f"vector.{n}": value for n, value in enumerate(self.penalty.vectors)}
        write_checkpoint(
            path,
            self.identity,
            progress={"step": self.step, "seconds": self.seconds},
            modules={"model": self.model},
            optimizer=self.optimizer,
            tensors=tensors | {"generator": self.generator.get_state(), "means": self.means},
        )

    def read(self, path: Path) -> None:
        """Take up the run that was kept."""
        saved = read_checkpoint(path, self.identity)
        self.model.load_state_dict(saved.under("model"))
        saved.restore_optimizer(self.optimizer)
        vectors = saved.under("vector")
        self.penalty.vectors = [vectors[str(n)].to(self.device) for n in range(len(vectors))]
        self.generator.set_state(saved.tensors["generator"])
        self.means = saved.tensors["means"]
        self.step, self.seconds = saved.progress["step"], saved.progress["seconds"]


def _one_cycle(share: float) -> float:
    """Learning rate relative to its largest: a cosine up from 1/25, then one down to 0."""
    if share < _RISE:
        return 1 / 25 + (1 - 1 / 25) * (1 - math.cos(math.pi * share / _RISE)) / 2
    return (1 + math.cos(math.pi * (share - _RISE) / (1 - _RISE))) / 2
