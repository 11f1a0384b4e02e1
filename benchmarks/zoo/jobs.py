"""What a run of each kind does: train an encoder, a generator, measure candidates, the floor."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from benchmarks._record import replacing
from benchmarks.zoo.checkpoints import write_weights
from benchmarks.zoo.config import (
    BUDGETS,
    DISTORTED_BASE,
    ENCODERS,
    EPSILON_RUNS,
    LEARNING_RATES,
    N_GENERATED,
    PROFILED,
    SPATIAL_BUDGETS,
    SPATIAL_RUNS,
    EncoderConfig,
    encoder_named,
)
from benchmarks.zoo.data import ImageSet, cache_folder, load_images, to_float, to_uint8
from benchmarks.zoo.distortions import distorted
from benchmarks.zoo.families import load, train
from benchmarks.zoo.generators import train_generator
from benchmarks.zoo.nvae import NVAE, train_nvae
from benchmarks.zoo.quality import FeatureNetwork, floors, frechet, quality_numbers
from benchmarks.zoo.rows import RowStore

__all__ = ["STAGES", "Job", "Zoo", "reconstruction_numbers", "stage_jobs"]

SEEDS = (0, 1, 2)
SPATIAL_SEEDS = (0, 1)
IMAGES_AT_ONCE = 500


@dataclass(frozen=True, eq=False)
class Latents:
    """Latents of an encoder, centred per entry and divided by one scalar.

    Attributes
    ----------
    train, reference : float32 arrays of shape (N, d)
    centre : float32 array of shape (d,)
    scale : float
        RMS over all entries, of the encoder's own unit.
    """

    train: np.ndarray
    reference: np.ndarray
    centre: np.ndarray
    scale: float


class Zoo:
    """One data set with its encoders, on disk.

    Parameters
    ----------
    dataset : str
    root : Path, optional
        Where weights, latents and rows are kept; None is the cache folder.
    device : str
    """

    def __init__(self, dataset: str, root: Path | None = None, device: str = "cpu") -> None:
        self.dataset = dataset
        self.root = Path(root or cache_folder()) / "study"
        self.device = device
        self.store = RowStore(self.root / "rows")

    @cached_property
    def images(self) -> ImageSet:
        """Its pictures."""
        return load_images(self.dataset)

    @cached_property
    def network(self) -> FeatureNetwork:
        """The fixed feature network."""
        return FeatureNetwork(device=self.device)

    def features(self, part: str) -> np.ndarray:
        """Features of the real images of a part, kept."""
        path = self.root / "features" / self.dataset / f"{part}.npy"
        return _kept(path, lambda: self.network(getattr(self.images, part)))

    def encode(self, autoencoder: torch.nn.Module, images: np.ndarray) -> np.ndarray:
        """Flat latents of images."""
        return self._in_batches(lambda x: autoencoder.encode(to_float(x, self.device)), images)

    def decode(self, autoencoder: torch.nn.Module, Z: np.ndarray, shape: Any) -> np.ndarray:
        """Decoded images, float32, of flat latents in the encoder's own unit."""
        found = self._in_batches(
            lambda z: autoencoder.decode(torch.from_numpy(z).to(self.device).reshape(-1, *shape)), Z
        )
        return found.reshape(len(Z), *self.images.reference.shape[1:])

    def _in_batches(self, function: Callable[[Any], torch.Tensor], rows: np.ndarray) -> np.ndarray:
        parts = []
        with torch.inference_mode():
            for start in range(0, len(rows), IMAGES_AT_ONCE):
                found = function(np.ascontiguousarray(rows[start : start + IMAGES_AT_ONCE]))
                parts.append(found.flatten(1).float().cpu().numpy())
        return np.concatenate(parts)

    def weights(self, config: EncoderConfig) -> Path:
        """File of an encoder's weights."""
        return self.root / "encoders" / self.dataset / config.name / "weights.safetensors"

    def autoencoder(self, config: EncoderConfig) -> torch.nn.Module:
        """A trained encoder with its decoder."""
        if config.distorts:
            base = encoder_named(DISTORTED_BASE)
            made = distorted(config, self.autoencoder(base), self.raw_latents(base, "train"))
        else:
            made = _read_autoencoder(config, self.weights(config), self.images.channels)
        return made.to(self.device).eval().requires_grad_(False)

    def raw_latents(self, config: EncoderConfig, part: str) -> np.ndarray:
        """Flat latents of the images of a part in the encoder's own unit, kept."""
        return _kept(
            self.weights(config).with_name(f"latents-{part}.npy"),
            lambda: self.encode(self.autoencoder(config), getattr(self.images, part)),
        )

    def latents(self, config: EncoderConfig) -> Latents:
        """What is diffused."""
        train, reference = (self.raw_latents(config, part) for part in ("train", "reference"))
        centre = train.mean(axis=0, dtype=np.float64)
        scale = float(np.sqrt(np.mean((train - centre) ** 2)))
        return Latents(
            ((train - centre) / scale).astype(np.float32),
            ((reference - centre) / scale).astype(np.float32),
            centre.astype(np.float32),
            scale,
        )

    def reconstructed_features(self, config: EncoderConfig) -> np.ndarray:
        """Features of the reference images through encoder and decoder, kept."""

        return _kept(
            self.weights(config).with_name("reconstructed.npy"),
            lambda: self.network(to_uint8(self.reconstructed(config, "reference"))),
        )

    def reconstructed(self, config: EncoderConfig, part: str) -> np.ndarray:
        """Images of a part, float32, through encoder and decoder."""
        return self.decoded(config, self.raw_latents(config, part))

    def decoded(self, config: EncoderConfig, Z: np.ndarray) -> np.ndarray:
        """Images, float32, of flat latents in the encoder's own unit."""
        return self.decode(self.autoencoder(config), Z, config.shape)


def _read_autoencoder(config: EncoderConfig, path: Path, channels: int) -> torch.nn.Module:
    if config.family != "nvae":
        return load(config, path, channels)
    made = NVAE(config, channels)
    made.load_state_dict(load_file(path))
    return made


def _kept(path: Path, measure: Callable[[], np.ndarray]) -> np.ndarray:
    """A float32 array from a file, measured and written if it is not there."""
    if not path.exists():
        found = measure().astype(np.float32)
        with replacing(path) as beside, beside.open("wb") as file:
            np.save(file, found)
    return np.load(path, allow_pickle=False)


@dataclass(frozen=True)
class Job:
    """One run.

    Attributes
    ----------
    key : str
        Of its row.
    needs : tuple of str
        Rows that must be there first.
    run : callable
        Takes the zoo of its data set and gives the row.
    """

    dataset: str
    key: str
    needs: tuple[str, ...]
    run: Callable[[Zoo], dict[str, Any]]


def _encoder_key(dataset: str, name: str) -> str:
    return f"encoder/{dataset}/{name}"


def _encoder_job(dataset: str, config: EncoderConfig) -> Job:
    def run(zoo: Zoo) -> dict[str, Any]:
        start, path = time.process_time(), zoo.weights(config)
        facts: dict[str, Any] = {}
        if not config.distorts:
            checkpoint = path.with_name("checkpoint.safetensors")
            options = {"seed": 0, "device": zoo.device, "checkpoint": checkpoint}
            if config.family == "aligned":
                options["features"] = zoo.features("train")
            if config.family != "nvae" and dataset in LEARNING_RATES:
                options["learning_rate"] = LEARNING_RATES[dataset]
            trainer = train_nvae if config.family == "nvae" else train
            made, facts = trainer(config, zoo.images, **options)
            write_weights(made, path)
            checkpoint.unlink(missing_ok=True)
        trained = time.process_time() - start
        return _identity(dataset, config, "encoder") | {
            **reconstruction_numbers(zoo, config),
            "latent_scale": zoo.latents(config).scale,
            "facts": facts,
            "seed": 0,
            "training_seconds": trained,
            "seconds": time.process_time() - start,
        }

    needs = (_encoder_key(dataset, DISTORTED_BASE),) if config.distorts else ()
    return Job(dataset, _encoder_key(dataset, config.name), needs, run)


def reconstruction_numbers(zoo: Zoo, config: EncoderConfig) -> dict[str, float]:
    """Squared error and Frechet distance of a trained encoder's reconstructions, with errors."""
    numbers: dict[str, float] = {}
    for part, name in (("reference", "reconstruction"), ("outside", "reconstruction_outside")):
        images = to_float(getattr(zoo.images, part)).numpy()
        each = np.mean((zoo.reconstructed(config, part) - images) ** 2, axis=(1, 2, 3))
        numbers[name] = float(each.mean())
        numbers[f"{name}_stderr"] = float(each.std(ddof=1)) / math.sqrt(len(each))
    real = to_float(zoo.images.reference).numpy()
    found = frechet(zoo.reconstructed_features(config), zoo.features("reference"))
    return numbers | {
        "mean_image_error": float(np.mean((real - real.mean(axis=0)) ** 2)),
        "reconstruction_frechet": found.value,
        "reconstruction_frechet_stderr": found.stderr,
    }


def _identity(dataset: str, config: EncoderConfig, kind: str) -> dict[str, Any]:
    return {
        "kind": kind,
        "dataset": dataset,
        "encoder": config.name,
        "family": config.family,
        "dimension": config.dimension,
        "shape": list(config.shape),
        "distorts": config.distorts,
    }


def _tell(key: str, step: int, total: int, loss: float) -> None:
    if step * 10 % total < 10 or step == total:
        print(f"  {key}: step {step} of {total}, loss {loss:.4f}", flush=True)


def _generator_job(
    dataset: str, config: EncoderConfig, kind: str, objective: str, budget: str, seed: int
) -> Job:
    key = f"generator/{dataset}/{config.name}/{kind}-{objective}-{budget}-{seed}"

    def run(zoo: Zoo) -> dict[str, Any]:
        start, latents = time.process_time(), zoo.latents(config)
        # an MLP is trained again in less time than a checkpoint is worth
        checkpoint = None if kind == "mlp" else zoo.root / "unfinished" / f"{key}.safetensors"
        made = train_generator(
            latents.train,
            SPATIAL_BUDGETS.get(kind, BUDGETS[budget]),
            kind=kind,
            objective=objective,
            shape=config.shape,
            seed=seed,
            device=zoo.device,
            progress=None if kind == "mlp" else partial(_tell, key),
            checkpoint=checkpoint,
        )
        Z = np.asarray(made.sample(N_GENERATED, seed=seed), dtype=np.float32)
        Z = Z * latents.scale + latents.centre
        generated = zoo.network(to_uint8(zoo.decoded(config, Z)))
        numbers = quality_numbers(
            generated, zoo.reconstructed_features(config), zoo.features("reference")
        )
        if checkpoint is not None:
            checkpoint.unlink(missing_ok=True)
        return (
            _identity(dataset, config, "generator")
            | {"generator": kind, "objective": objective, "budget": budget, "seed": seed}
            | numbers
            | {
                "n_images": N_GENERATED,
                "facts": made.facts,
                "seconds": time.process_time() - start,
            }
        )

    return Job(dataset, key, (_encoder_key(dataset, config.name),), run)


def _candidate_job(dataset: str, config: EncoderConfig) -> Job:
    def run(zoo: Zoo) -> dict[str, Any]:
        from benchmarks.zoo.measures import candidate_numbers

        start, latents = time.process_time(), zoo.latents(config)
        numbers = candidate_numbers(
            images=zoo.images.reference,
            labels=zoo.images.reference_labels,
            Z=latents.reference,
            centre=latents.centre,
            scale=latents.scale,
            autoencoder=zoo.autoencoder(config),
            features=zoo.network,
            reconstructed_features=zoo.reconstructed_features(config),
            real_features=zoo.features("reference"),
            latent_shape=config.shape,
            device=zoo.device,
        )
        seconds = {"seconds": time.process_time() - start}
        return _identity(dataset, config, "candidates") | numbers | seconds

    key = f"candidates/{dataset}/{config.name}"
    return Job(dataset, key, (_encoder_key(dataset, config.name),), run)


def _late_job(dataset: str, config: EncoderConfig, kind: str) -> Job:
    def run(zoo: Zoo) -> dict[str, Any]:
        from benchmarks.zoo.measures.late import LATE_MEASURES

        start, latents = time.process_time(), zoo.latents(config)
        autoencoder = zoo.autoencoder(config)

        def decode(Z: np.ndarray) -> np.ndarray:
            own = Z * latents.scale + latents.centre
            return to_uint8(zoo.decode(autoencoder, own, config.shape))

        found = LATE_MEASURES[kind](latents.reference, decode, zoo.network)
        seconds = {"seconds": time.process_time() - start}
        return _identity(dataset, config, kind) | found | seconds

    key = f"{kind}/{dataset}/{config.name}"
    return Job(dataset, key, (_encoder_key(dataset, config.name),), run)


def _floor_job(dataset: str) -> Job:
    def run(zoo: Zoo) -> dict[str, Any]:
        real = zoo.features("reference")
        return {"kind": "floor", "dataset": dataset} | floors(real, N_GENERATED)

    return Job(dataset, f"floor/{dataset}", (), run)


def _profile_job(dataset: str) -> Job:
    configs = [encoder_named(name) for name in PROFILED]

    def run(zoo: Zoo) -> dict[str, Any]:
        from benchmarks.zoo.profiles import agrees_with_paper, profiles

        start = time.process_time()
        latents = {config.name: zoo.latents(config) for config in configs}
        decoded = {config.name: zoo.reconstructed(config, "reference") for config in configs}
        rows = profiles(
            to_float(zoo.images.reference).numpy(),
            {name: found.reference for name, found in latents.items()},
            reconstructions=decoded,
            dataset=dataset,
        )
        return {
            "kind": "profile",
            "dataset": dataset,
            "profiles": rows,
            "verdict": agrees_with_paper(rows),
            "seconds": time.process_time() - start,
        }

    return Job(
        dataset, f"profile/{dataset}", tuple(_encoder_key(dataset, n) for n in PROFILED), run
    )


def _encoders(names: tuple[str, ...] | None) -> Iterator[EncoderConfig]:
    return (c for c in ENCODERS if names is None or c.name in names)


def _flows(dataset: str, names: Any, budget: str) -> list[Job]:
    return [
        _generator_job(dataset, config, "mlp", "flow", budget, seed)
        for seed in SEEDS
        for config in _encoders(names)
    ]


def _spatial(dataset: str, names: Any, only: str) -> list[Job]:
    return [
        _generator_job(dataset, config, kind, "flow", "large", seed)
        for seed in SPATIAL_SEEDS
        for config in _encoders(SPATIAL_RUNS)
        for kind in ("dit", "unet")
        if dataset == only and (names is None or config.name in names)
    ]


STAGES: dict[str, Callable[[str, Any], list[Job]]] = {
    "floor": lambda dataset, names: [_floor_job(dataset)],
    "encoders": lambda dataset, names: [_encoder_job(dataset, c) for c in _encoders(names)],
    "small": lambda dataset, names: _flows(dataset, names, "small"),
    "candidates": lambda dataset, names: [_candidate_job(dataset, c) for c in _encoders(names)],
    "late": lambda dataset, names: [_late_job(dataset, c, "late") for c in _encoders(names)],
    "shipped": lambda dataset, names: [_late_job(dataset, c, "shipped") for c in _encoders(names)],
    "profiles": lambda dataset, names: [_profile_job(dataset)],
    "large": lambda dataset, names: _flows(dataset, names, "large"),
    "epsilon": lambda dataset, names: [
        _generator_job(dataset, config, "mlp", "epsilon", "small", seed)
        for seed in SEEDS
        for config in _encoders(EPSILON_RUNS)
        if dataset == "fashion" and (names is None or config.name in names)
    ],
    "spatial": lambda dataset, names: _spatial(dataset, names, "photographs"),
    "spatial-fashion": lambda dataset, names: _spatial(dataset, names, "fashion"),
}
"""Runs of each stage, in the order in which they are best done."""


def stage_jobs(stage: str, dataset: str, names: tuple[str, ...] | None = None) -> list[Job]:
    """Runs of one stage on one data set.

    Raises
    ------
    ValueError
        If there is no such stage.
    """
    if stage not in STAGES:
        raise ValueError(f"stage is {stage!r}: it is one of {', '.join(STAGES)}.")
    return STAGES[stage](dataset, names)
