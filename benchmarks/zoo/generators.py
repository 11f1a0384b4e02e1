"""Generators in a latent space: flow matching and epsilon prediction, trained within a budget.

    generator = train_generator(Z, BUDGETS["small"], shape=(32,), seed=0)
    generator.sample(5000, seed=1)     # (5000, 32)
    generator.facts                    # seconds, steps, losses: ready for JSON

Time u runs from 0, the latent, to 1, noise.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.zoo.checkpoints import read_checkpoint, write_checkpoint
from benchmarks.zoo.config import Budget
from benchmarks.zoo.velocity_networks import build_network

__all__ = ["OBJECTIVES", "Generator", "Objective", "integrate", "train_generator"]

HELD_OUT = 2_048
LEVELS = tuple(round(0.05 + 0.1 * k, 2) for k in range(10))
EMA_DECAY = 0.999
LOSS_DECAY = 0.99
SAMPLE_ROWS = 1_024
CHECKPOINT_SECONDS = 20.0
_PROGRESS = ("step", "loss", "seconds", "cpu_seconds")

Progress = Callable[[int, int, float], None]
Velocity = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Objective:
    """What is regressed, along which path, and what velocity dx/du follows from it.

    x_u = a(u) x_0 + b(u) eps. The prediction is c(u) x_u + network(x_u, u), where c(u) x_u is the
    best prediction of a Gaussian latent with covariance I, which is what centring and one scale
    make of the simplest latent; so the network learns what differs from that, and noise need not
    pass through its layers.
    """

    name: str
    last: float  # the largest u, where sampling starts

    def path(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """a(u) and b(u)."""
        if self.name == "flow":
            return 1 - u, u
        return torch.cos(math.pi / 2 * u), torch.sin(math.pi / 2 * u)

    def noisy(self, x0: Tensor, noise: Tensor, u: Tensor) -> Tensor:
        """x_u, with u of shape (N,)."""
        a, b = self.path(u[:, None])
        return a * x0 + b * noise

    def target(self, x0: Tensor, noise: Tensor) -> Tensor:
        """What the prediction is compared with."""
        return noise - x0 if self.name == "flow" else noise

    def predict(self, network: nn.Module, x: Tensor, u: Tensor) -> Tensor:
        """The prediction at x_u."""
        a, b = self.path(u[:, None])
        skip = (b - a) / (a * a + b * b) if self.name == "flow" else b
        return skip * x + network(x, u)

    def velocity(self, prediction: Tensor, x: Tensor, u: Tensor) -> Tensor:
        """dx/du of the deterministic path.

        For epsilon this is DDIM's own equation in the angle pi u / 2:
        -b x_0 + a eps with x_0 = (x - b eps) / a, times pi / 2.
        """
        if self.name == "flow":
            return prediction
        a, b = self.path(u[:, None])
        return math.pi / 2 * (prediction - b * x) / a


# The cosine path of epsilon prediction ends where a = 0.031: at a = 0 the equation of its path
# divides by zero, and noise is told from noised data no longer.
OBJECTIVES = {"flow": Objective("flow", last=1.0), "epsilon": Objective("epsilon", last=0.98)}


def integrate(velocity: Velocity, x: Tensor, last: float, steps: int) -> Tensor:
    """x carried from u = last to u = 0 by midpoint steps, two evaluations each.

    The times are last * s^2 with s uniform: a direction of scale r turns from noise to data
    around u = r, so small scales need short steps near zero.
    """
    times = (last * np.linspace(1.0, 0.0, steps + 1) ** 2).tolist()
    for start, end in itertools.pairwise(times):
        half = (end - start) / 2
        at = torch.full((len(x),), start, dtype=x.dtype, device=x.device)
        middle = x + half * velocity(x, at)
        x = x + 2 * half * velocity(middle, at + half)
    return x


@dataclass(frozen=True)
class Generator:
    """A trained generator: its averaged network and the facts of its training."""

    network: nn.Module
    objective: Objective
    dimension: int
    device: str
    facts: dict[str, Any]

    @torch.no_grad()
    def sample(self, n: int, seed: int, steps: int = 20) -> NDArray[np.float32]:
        """n latents, (n, d), in the units of the training latents; 2 `steps` evaluations each."""
        stream = torch.Generator(self.device).manual_seed(seed)
        x = torch.randn(n, self.dimension, generator=stream, device=self.device)

        def velocity(x: Tensor, u: Tensor) -> Tensor:
            return self.objective.velocity(self.objective.predict(self.network, x, u), x, u)

        parts = [
            integrate(velocity, part, self.objective.last, steps) for part in x.split(SAMPLE_ROWS)
        ]
        return torch.cat(parts).cpu().numpy()


def _check_latents(Z: NDArray[np.float32], shape: tuple[int, ...]) -> None:
    if Z.ndim != 2 or Z.shape[1] != math.prod(shape) or len(Z) < 100:
        raise ValueError(
            f"Z has shape {Z.shape}; flatten at least 100 latents of shape {shape} to (N, d)"
        )
    if not np.isfinite(Z).all():
        raise ValueError("Z has entries that are not finite; drop those rows or mend the encoder")
    rms, mean = float(np.sqrt(np.mean(np.square(Z)))), float(np.abs(Z.mean(0)).max())
    if abs(rms - 1) > 0.05 or mean > 0.05 * max(1.0, float(Z.std(0).max())):
        raise ValueError(
            f"Z has RMS {rms:.3g} and an entry of mean {mean:.3g}; centre each entry, then divide "
            "all by the one RMS"
        )


def _learning_rate(step: int, budget: Budget) -> float:
    """Linear warm-up over a twentieth of the steps, then half a cosine to zero."""
    warm = max(1, budget.steps // 20)
    if step < warm:
        return budget.learning_rate * (step + 1) / warm
    share = (step - warm) / max(1, budget.steps - warm)
    return budget.learning_rate * 0.5 * (1 + math.cos(math.pi * share))


@dataclass
class _Training:
    """What a checkpoint holds."""

    network: nn.Module
    average: nn.Module
    optimizer: torch.optim.Adam
    stream: torch.Generator
    run: dict[str, Any]  # which run this is: a checkpoint of another is refused
    step: int = 0
    loss: float = math.nan
    seconds: float = 0.0
    cpu_seconds: float = 0.0

    def save(self, path: Path) -> None:
        """Keep everything that the next step depends on."""
        write_checkpoint(
            path,
            self.run,
            progress={name: getattr(self, name) for name in _PROGRESS},
            modules={"network": self.network, "average": self.average},
            optimizer=self.optimizer,
            tensors={"stream": self.stream.get_state()},
        )

    def restore(self, path: Path) -> None:
        """Go on where `save` stopped.

        Raises
        ------
        ValueError
            If the checkpoint is of another run.
        """
        saved = read_checkpoint(path, self.run)
        self.network.load_state_dict(saved.under("network"))
        self.average.load_state_dict(saved.under("average"))
        saved.restore_optimizer(self.optimizer)
        self.stream.set_state(saved.tensors["stream"])
        for name in _PROGRESS:
            setattr(self, name, saved.progress[name])


def _held_out_losses(objective: Objective, network: nn.Module, held: Tensor) -> list[float]:
    """Mean squared error per entry at each of LEVELS, with the same noise for every latent."""
    stream = torch.Generator(held.device).manual_seed(20_260_101)
    losses = []
    with torch.no_grad():
        for level in LEVELS:
            noise = torch.randn(held.shape, generator=stream, device=held.device)
            u = torch.full((len(held),), level * objective.last, device=held.device)
            x = objective.noisy(held, noise, u)
            prediction = torch.cat(
                [
                    objective.predict(network, rows, times)
                    for rows, times in zip(x.split(SAMPLE_ROWS), u.split(SAMPLE_ROWS), strict=True)
                ]
            )
            error = prediction - objective.target(held, noise)
            losses.append(float(error.square().mean()))
    return losses


def train_generator(
    Z: NDArray[np.float32],
    budget: Budget,
    *,
    kind: str = "mlp",
    objective: str = "flow",
    shape: tuple[int, ...],
    seed: int,
    device: str = "cpu",
    progress: Progress | None = None,
    checkpoint: Path | None = None,
) -> Generator:
    """Trains a generator on latents that are centred and have RMS one.

    Parameters
    ----------
    Z : array of shape (N, d)
        A tenth of the rows, 2,048 at most, is held out for `held_out_loss`.
    budget : Budget
        `width` and `blocks` of the network: residual blocks of an MLP, layers of a DiT, residual
        blocks per resolution of a U-Net.
    kind : {"mlp", "dit", "unet"}
    objective : {"flow", "epsilon"}
    shape : tuple of int
        Of one latent; its product is d.
    seed : int
        Of the weights, the rows held out and everything drawn.
    device : str
    progress : callable, optional
        Called as `progress(step, total, loss)` about a hundred times.
    checkpoint : Path, optional
        Where the state is kept, and from where an interrupted run goes on to the same weights.

    Returns
    -------
    Generator

    Raises
    ------
    ValueError
        If Z, kind, objective or checkpoint do not fit.
    FloatingPointError
        If the loss ceases to be finite.
    """
    if objective not in OBJECTIVES:
        raise ValueError(f"objective is {objective!r}; take one of {tuple(OBJECTIVES)}")
    Z = np.ascontiguousarray(Z, dtype=np.float32)
    _check_latents(Z, shape)
    aim = OBJECTIVES[objective]
    rows = np.random.default_rng(seed).permutation(len(Z))
    n_held = min(HELD_OUT, len(Z) // 10)
    held = torch.from_numpy(Z[rows[:n_held]]).to(device)
    latents = torch.from_numpy(Z[rows[n_held:]]).to(device)

    network = build_network(kind, shape, budget, seed).to(device)
    average = build_network(kind, shape, budget, seed).to(device)
    parameters = list(network.parameters())
    averaged = list(average.parameters())
    identity = {
        "kind": kind,
        "objective": objective,
        "shape": list(shape),
        "seed": seed,
        **asdict(budget),
        "latents": hashlib.sha256(Z.tobytes()).hexdigest()[:16],
    }
    training = _Training(
        network,
        average,
        torch.optim.Adam(parameters, lr=budget.learning_rate, fused=True),
        torch.Generator(device).manual_seed(seed),
        identity,
    )
    if checkpoint is not None and checkpoint.exists():
        training.restore(checkpoint)

    wall, cpu = time.perf_counter(), time.process_time()
    before, cpu_before = training.seconds, training.cpu_seconds
    saved = wall
    report = max(1, budget.steps // 100)
    # one draw of u in each of `batch` equal parts of [0, last]
    strata = torch.arange(budget.batch, device=device)
    while training.step < budget.steps:
        stream = training.stream
        chosen = torch.randint(len(latents), (budget.batch,), generator=stream, device=device)
        x0 = latents[chosen]
        noise = torch.randn(x0.shape, generator=stream, device=device)
        within = torch.rand(budget.batch, generator=stream, device=device)
        u = (strata + within) * (aim.last / budget.batch)
        error = aim.predict(network, aim.noisy(x0, noise, u), u) - aim.target(x0, noise)
        loss = error.square().mean()
        for group in training.optimizer.param_groups:
            group["lr"] = _learning_rate(training.step, budget)
        training.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        training.optimizer.step()
        training.step += 1
        decay = min(EMA_DECAY, training.step / (training.step + 10))
        with torch.no_grad():
            torch._foreach_lerp_(averaged, parameters, 1 - decay)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise FloatingPointError(
                f"the loss is {value} at step {training.step} of {budget.steps}; "
                f"lower learning_rate ({budget.learning_rate}) of budget {budget.name!r}"
            )
        first = math.isnan(training.loss)
        training.loss = (
            value if first else training.loss + (1 - LOSS_DECAY) * (value - training.loss)
        )
        now = time.perf_counter()
        training.seconds = before + now - wall
        training.cpu_seconds = cpu_before + time.process_time() - cpu
        last = training.step == budget.steps
        if checkpoint is not None and (last or now - saved > CHECKPOINT_SECONDS):
            training.save(checkpoint)
            saved = now
        if progress is not None and (last or training.step % report == 0):
            progress(training.step, budget.steps, training.loss)

    average.eval()
    losses = _held_out_losses(aim, average, held)
    facts = {
        "kind": kind,
        "objective": objective,
        "budget": asdict(budget),
        "seed": seed,
        "parameters": sum(p.numel() for p in parameters),
        "rows": len(latents),
        "steps": training.step,
        "seconds": round(training.seconds, 3),
        "cpu_seconds": round(training.cpu_seconds, 3),
        "loss": training.loss,
        "held_out_loss": float(np.mean(losses)),
        "held_out_levels": [level * aim.last for level in LEVELS],
        "held_out_losses": losses,
    }
    return Generator(average, aim, Z.shape[1], device, facts)
