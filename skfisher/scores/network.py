"""Learned scores: a denoiser trained on a sample by denoising score matching."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import monotonic
from typing import Any, ClassVar

from skfisher._backend.arrays import Array, to_numpy
from skfisher._backend.draws import integers, normal, uniform, weighted_integers
from skfisher._backend.files import load_tensors, prepare_folder, save_tensors
from skfisher._backend.linearize import TensorFunction
from skfisher._backend.tensors import to_tensor
from skfisher.scores.architectures import make_denoiser

__all__ = ["NetworkRecipe", "NetworkScore", "TrainingLog", "fit_network"]

_ROWS, _NOISE, _LEVELS, _JUDGE = 51, 52, 53, 54  # what a stream of draws is for
_LEVELS_PER_ROW = 4  # at which each held-out row is judged while training


@dataclass(frozen=True)
class NetworkRecipe:
    """How a denoiser is trained on a sample; pass it as `score_model`, or "network" for this one.

    Parameters
    ----------
    width : int or None
        Units of each layer; channels of a convolutional network. None grows with the root of the
        number of features.
    n_blocks : int
        Residual blocks.
    batch_size : int or None
        None: 256, or 64 for a convolutional network, which learns from every place of a row.
    n_steps : int or None
        Optimiser steps. None: 60 passes over the rows, or 15 for a convolutional network, at least
        300 and at most 6000 steps.
    learning_rate, weight_decay : float
        Of AdamW; the rate rises over the first steps and then falls along a cosine.
    ema : float
        Decay of the running mean of the weights, which is what is kept.
    dropout : float
    held_out : float
        Share of the rows that only judge: when to stop, where the network is better than the best
        closed form, and by which share to trust it.
    patience : int
        Judgements (20 in a full run) without a better score before training stops.
    cross_fit : bool
        False trains one network and evaluates it on the one fold it never saw. True trains one for
        each of the five folds, so that every row is evaluated; five times as long.
    checkpoint : path or None
        Folder in which each training is kept as it goes, in a file named by its rows, weights,
        seed, noise levels and recipe; the same training goes on where it stopped, or is read if
        it had ended.
    device : str or None
        Where to train. None: where X lies.

    Examples
    --------
    >>> from skfisher import FIRateEstimator, NetworkRecipe
    >>> FIRateEstimator(score_model=NetworkRecipe(n_steps=2000))
    FIRateEstimator(score_model=NetworkRecipe(...n_steps=2000, ...))
    """

    width: int | None = None
    n_blocks: int = 3
    batch_size: int | None = None
    n_steps: int | None = None
    learning_rate: float = 1.5e-3
    weight_decay: float = 1e-2
    ema: float = 0.99
    dropout: float = 0.0
    held_out: float = 0.1
    patience: int = 6
    cross_fit: bool = False
    checkpoint: str | Path | None = None
    device: str | None = None

    fits_a_sample: ClassVar[bool] = True

    def __post_init__(self) -> None:
        positive: dict[str, Any] = {
            name: getattr(self, name)
            for name in ("width", "n_blocks", "batch_size", "n_steps", "learning_rate", "patience")
        }
        for name, value in positive.items():
            if value is not None and not value > 0:
                raise ValueError(f"{name} is {value!r}: pass a positive number.")
        for name in ("ema", "dropout", "weight_decay"):
            value = getattr(self, name)
            if not 0 <= value < 1:
                raise ValueError(f"{name} is {value!r}: pass a number in [0, 1).")
        if not 0 < self.held_out <= 0.2:
            raise ValueError(f"held_out is {self.held_out!r}: pass a share in (0, 0.2].")

    def sizes_for(self, n_rows: int, *, convolutional: bool) -> tuple[int, int]:
        """Batch size and optimiser steps for so many rows."""
        batch_size = self.batch_size or (64 if convolutional else 256)
        passes = 15 if convolutional else 60
        return batch_size, self.n_steps or min(max(passes * n_rows // batch_size, 300), 6000)


@dataclass(frozen=True)
class TrainingLog:
    """What happened while a network was trained.

    Attributes
    ----------
    n_steps, best_step : int
        Steps taken, and the step whose weights are kept.
    stopped : str
        Why training ended: "all steps taken", "no better score" or "no gain over closed forms".
    scores : tuple of (int, float)
        Step and mean noise-prediction score on the held-out rows.
    n_parameters : int
    seconds : float
    device : str
    """

    n_steps: int
    best_step: int
    stopped: str
    scores: tuple[tuple[int, float], ...]
    n_parameters: int
    seconds: float
    device: str


class NetworkScore:
    """Score of a trained denoiser.

    The network F corrects the Gaussian denoiser of the sample, in the basis of its covariance: with
    u = Q^T (y - mean), v = lambda + t,

        s = Q (-u / v + sqrt(lambda / v) F(u / sqrt(v), log sigma) / sigma),

    which is Karras et al. (2022), "Elucidating the design space of diffusion-based generative
    models", eq. 7, with a covariance in the place of one variance: F has inputs and targets of unit
    variance in every direction and at every noise level, and none of its parts cancel.

    Made by `fit_network`.

    Attributes
    ----------
    n_features : int
    log : TrainingLog
    """

    name = "network"

    def __init__(self, denoiser: Any, log: TrainingLog, n_features: int) -> None:
        import torch

        self.denoiser = denoiser.eval().requires_grad_(False)
        self.log = log
        self.n_features = n_features
        self.precision: float = torch.finfo(torch.float32).eps
        self._function = TensorFunction(
            lambda y, sigma: denoiser(y, torch.full_like(y[:, :1], sigma)),
            device=torch.device(log.device),
            dtype=torch.float32,
            mode="forward",  # its products, not only their means, are the same in every run
        )

    def __getstate__(self) -> dict[str, Any]:
        numbers = {name: to_numpy(x) for name, x in self.denoiser.state_dict().items()}
        return {"spec": self.denoiser.spec, "numbers": numbers, "log": self.log}

    def __setstate__(self, state: dict[str, Any]) -> None:
        denoiser = state["spec"].build()
        denoiser.load_state_dict({name: to_tensor(x) for name, x in state["numbers"].items()})
        log = replace(state["log"], device="cpu")
        vars(self).update(vars(NetworkScore(denoiser, log, denoiser.spec.n_features)))

    def __sklearn_clone__(self) -> NetworkScore:
        return self

    def __call__(self, y: Array, sigma: float) -> Array:
        """Score at each row of `y`."""
        return self._function.value(y, sigma)

    def jvp(self, y: Array, sigma: float, v: Array) -> tuple[Array, Array]:
        """Score, and its Jacobian (or the transpose of it) times each row of `v`."""
        return self._function.jvp(y, sigma, v)

    def both(self, y: Array, sigma: float, v: Array) -> tuple[Array, Array, Array]:
        """Score, Jacobian product and product of the transpose."""
        return self._function.both(y, sigma, v)

    @property
    def linearization(self) -> Any:
        """How products are taken."""
        return self._function.linearization


def fit_network(
    X: Array,
    held_out: Array,
    noise_range: tuple[float, float],
    recipe: NetworkRecipe | None = None,
    *,
    weights: Array | None = None,
    latent_shape: tuple[int, ...] | None = None,
    seed: int = 0,
    promising: Callable[[NetworkScore], bool] | None = None,
    report: Callable[[str], None] | None = None,
) -> NetworkScore:
    """Train a denoiser on `X` by denoising score matching over a range of noise.

    Parameters
    ----------
    X : array of shape (N, n)
    held_out : array of shape (M, n)
        Rows that judge when to stop.
    noise_range : tuple of float
        Least and largest sigma; training levels are log-uniform between them.
    recipe : NetworkRecipe, optional
    weights : array of shape (N,), optional
        Rows are drawn in proportion.
    latent_shape : tuple of int, optional
        (C, H, W) of a row; three axes get a convolutional network.
    seed : int
        Fixes the first weights and every draw; the same seed on the same device gives the same
        network, also after an interruption.
    promising : callable, optional
        Asked at a quarter and at half of the steps; False ends training.
    report : callable, optional
        Receives a line of progress at each judgement.

    Returns
    -------
    NetworkScore

    Raises
    ------
    ImportError
        torch is not installed.
    ValueError
        A damaged file in the checkpoint folder; the loss is not finite.

    Notes
    -----
    Minimises E|x - D(x + sigma eps)|^2 / (sigma^2 g(sigma)) (Vincent 2011), g being what the
    Gaussian of the same covariance would leave, so that every noise level weighs alike.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.random.default_rng(0).choice([-1.0, 1.0], size=(600, 2))
    >>> recipe = NetworkRecipe(width=32, n_blocks=1, n_steps=100)
    >>> model = fit_network(X[100:], X[:100], (0.1, 2.0), recipe)
    >>> model(np.asarray([[0.9, -1.1]]), 0.2).shape
    (1, 2)
    """
    try:
        import torch
    except ImportError as error:
        raise ImportError(
            'A learned score needs torch: pip install "skfisher[torch]", or choose another '
            "score_model."
        ) from error
    recipe = recipe or NetworkRecipe()
    run = _Training(torch, X, held_out, noise_range, recipe, weights, latent_shape, seed)
    return run.train(promising, report)


class _Training:
    """One training run and what must be kept to go on with it."""

    def __init__(
        self,
        torch: Any,
        X: Array,
        held_out: Array,
        noise_range: tuple[float, float],
        recipe: NetworkRecipe,
        weights: Array | None,
        latent_shape: tuple[int, ...] | None,
        seed: int,
    ) -> None:
        self.torch, self.recipe, self.seed = torch, recipe, seed
        where = recipe.device or (X.device if isinstance(X, torch.Tensor) else "cpu")
        self.device = torch.device(where)
        self.rows = to_tensor(X, self.device, torch.float32)
        self.held_out = to_tensor(held_out, self.device, torch.float32)
        self.low, self.high = (math.log(sigma) for sigma in noise_range)
        self.n_rows, self.n = self.rows.shape
        self.weights = None if weights is None else to_numpy(weights)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.model = make_denoiser(
                X,
                latent_shape,
                width=recipe.width,
                n_blocks=recipe.n_blocks,
                dropout=recipe.dropout,
            ).to(self.device)
        convolutional = self.model.spec.latent_shape is not None
        self.batch_size, self.n_steps = recipe.sizes_for(self.n_rows, convolutional=convolutional)
        self.mean_model = _copy_of(self.model)
        self.best = _copy_of(self.model)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(),
            lr=recipe.learning_rate,
            betas=(0.9, 0.99),
            weight_decay=recipe.weight_decay,
        )
        self.step, self.best_step, self.best_score, self.seconds = 0, 0, -math.inf, 0.0
        self.scores: list[tuple[int, float]] = []
        self.stopped = ""
        self.reference = to_numpy(torch.zeros(1))
        settings = {**asdict(recipe), "checkpoint": None, "device": None}
        content = hashlib.sha256(repr((settings, noise_range, seed, latent_shape)).encode())
        for rows in (self.rows, self.held_out):
            content.update(to_numpy(rows.cpu()).tobytes())
        if self.weights is not None:
            content.update(self.weights.tobytes())
        self.identity = content.hexdigest()

    # -- one run -----------------------------------------------------------------------------------

    def train(
        self,
        promising: Callable[[NetworkScore], bool] | None,
        report: Callable[[str], None] | None,
    ) -> NetworkScore:
        self._resume()
        every = max(self.n_steps // 20, 1)
        asked = {every * 5, every * 10} if promising is not None else set()
        started = monotonic() - self.seconds
        while not self.stopped:
            self._step()
            if self.step % every and self.step < self.n_steps:
                continue
            self.seconds = monotonic() - started
            self._judge()
            if self.step >= self.n_steps:
                self.stopped = "all steps taken"
            elif self.step - self.best_step >= self.recipe.patience * every:
                self.stopped = "no better score"
            elif self.step in asked and promising is not None and not promising(self._result()):
                self.stopped = "no gain over closed forms"
            self._keep()
            if report is not None:
                left = self.seconds / self.step * (self.n_steps - self.step)
                report(
                    f"network: step {self.step} of {self.n_steps}, held-out score "
                    f"{self.scores[-1][1]:.4f}, at most {left:.0f} s left"
                )
        return self._result()

    def _step(self) -> None:
        torch, recipe = self.torch, self.recipe
        b = self.batch_size
        share = self.step / self.n_steps
        warm = min(1.0, (self.step + 1) / min(50, self.n_steps))
        for group in self.optimizer.param_groups:
            group["lr"] = recipe.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * share))
        block = slice(0, b)
        if self.weights is None:
            index = integers(self.seed, (_ROWS, self.step), block, 1, self.n_rows)[:, 0]
        else:
            index = weighted_integers(self.seed, (_ROWS, self.step), b, self.weights)
        x = self.rows[torch.as_tensor(index, device=self.device)]
        # one level in each of b cells of the range, so that every batch sees all of it
        u = uniform(self.seed, (_LEVELS, self.step), block, 1, self.reference)
        cells = torch.arange(b, device=self.device)[:, None]
        u = (to_tensor(u, self.device) + cells) / b
        sigma = torch.exp(self.low + (self.high - self.low) * u)
        eps = normal(self.seed, (_NOISE, self.step), block, self.n, self.reference)
        eps = to_tensor(eps, self.device)
        self.model.train()
        with torch.enable_grad():
            loss = self._loss(self.model, x, eps, sigma)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
        if not math.isfinite(float(loss.detach())):
            raise ValueError(
                f"learning_rate is {recipe.learning_rate}: the loss is {float(loss.detach())} at "
                f"step {self.step}; pass a smaller one in NetworkRecipe(learning_rate=...)."
            )
        self.optimizer.step()
        self.step += 1
        decay = min(recipe.ema, self.step / (9 + self.step))
        with torch.no_grad():
            ours, theirs = list(self.mean_model.parameters()), list(self.model.parameters())
            torch._foreach_lerp_(ours, theirs, 1 - decay)

    def _loss(self, model: Any, x: Any, eps: Any, sigma: Any) -> Any:
        residual = eps + sigma * model(x + sigma * eps, sigma)
        left = model.gaussian_gain(sigma)
        return ((residual * residual).sum(1) / left).mean()

    def _judge(self) -> None:
        """Mean noise-prediction score of the averaged weights on the held-out rows."""
        torch = self.torch
        m = self.held_out.shape[0]
        total = 0.0
        with torch.inference_mode():
            for part in range(_LEVELS_PER_ROW):
                u = (torch.arange(m, device=self.device)[:, None] + 0.5) / m
                u = (u + part / _LEVELS_PER_ROW) % 1.0
                sigma = torch.exp(self.low + (self.high - self.low) * u)
                eps = normal(self.seed, (_JUDGE, part), slice(0, m), self.n, self.reference)
                eps = to_tensor(eps, self.device)
                for sign in (1.0, -1.0):
                    noise = sign * eps
                    s = self.mean_model(self.held_out + sigma * noise, sigma)
                    total += float(((noise + sigma * s) ** 2).mean())
        score = 1 - total / (2 * _LEVELS_PER_ROW)
        self.scores.append((self.step, score))
        if score > self.best_score:
            self.best_score, self.best_step = score, self.step
            self.best.load_state_dict(self.mean_model.state_dict())

    def _result(self) -> NetworkScore:
        log = TrainingLog(
            n_steps=self.step,
            best_step=self.best_step,
            stopped=self.stopped,
            scores=tuple(self.scores),
            n_parameters=sum(p.numel() for p in self.model.parameters()),
            seconds=self.seconds,
            device=str(self.device),
        )
        return NetworkScore(_copy_of(self.best), log, self.n)

    # -- interruptions -----------------------------------------------------------------------------

    @property
    def _file(self) -> Path | None:
        folder = self.recipe.checkpoint
        return None if folder is None else Path(folder) / f"{self.identity[:16]}.pt"

    def _keep(self) -> None:
        path = self._file
        if path is None:
            return
        prepare_folder(path.parent)
        save_tensors(
            path,
            {
                "model": self.model.state_dict(),
                "mean_model": self.mean_model.state_dict(),
                "best": self.best.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "progress": [self.step, self.best_step, self.best_score, self.seconds],
                "scores": self.scores,
                "stopped": self.stopped,
            },
        )

    def _resume(self) -> None:
        path = self._file
        if path is None or not path.exists():
            return
        kept = load_tensors(path, self.device, name="checkpoint")
        for name in ("model", "mean_model", "best", "optimizer"):
            getattr(self, name).load_state_dict(kept[name])
        step, best_step, self.best_score, self.seconds = kept["progress"]
        self.step, self.best_step = int(step), int(best_step)
        self.scores = [(int(at), float(score)) for at, score in kept["scores"]]
        self.stopped = str(kept["stopped"])


def _copy_of(model: Any) -> Any:
    from copy import deepcopy

    return deepcopy(model).eval().requires_grad_(False)
