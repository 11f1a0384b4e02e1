"""What is run: encoders in families, generators with their budgets, seeds, and the two halves."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = [
    "BUDGETS",
    "DATASETS",
    "DISTORTED_BASE",
    "ENCODERS",
    "EPSILON_RUNS",
    "IMAGE_SIZE",
    "LEARNING_RATES",
    "N_GENERATED",
    "PROFILED",
    "REDUCED",
    "SPATIAL_BUDGETS",
    "SPATIAL_RUNS",
    "Budget",
    "EncoderConfig",
    "encoder_named",
]

DATASETS = ("fashion", "photographs")
IMAGE_SIZE = 32
N_GENERATED = 2_500
DISTORTED_BASE = "vae32-w0.005"
LEARNING_RATES = {"fashion": 1e-2}
"""Of the encoders' training, where it is not the default of `families.train`."""


@dataclass(frozen=True)
class EncoderConfig:
    """One encoder of the zoo.

    Attributes
    ----------
    name, family : str
    shape : tuple of int
        Of the latent: (d,) or (C, H, W).
    options : mapping of str to float
        Of the family's training or distortion.
    """

    name: str
    family: str
    shape: tuple[int, ...]
    options: Mapping[str, float] = field(default_factory=dict)

    @property
    def dimension(self) -> int:
        """Entries of the latent."""
        return math.prod(self.shape)

    @property
    def distorts(self) -> bool:
        """Whether it is another encoder's latent, distorted on purpose."""
        return self.family == "distortion"

    @property
    def spatial(self) -> bool:
        """Whether the latent has places."""
        return len(self.shape) == 3


def _family(family: str, *members: tuple[str, tuple[int, ...], dict[str, float]]) -> list:
    return [EncoderConfig(name, family, shape, options) for name, shape, options in members]


ENCODERS: tuple[EncoderConfig, ...] = tuple(
    _family(
        "pca",
        ("pca16", (16,), {}),
        ("pca32", (32,), {}),
        ("pca64", (64,), {}),
        ("pca256", (256,), {}),
        ("pca32-white", (32,), {"whiten": 1.0}),
    )
    + _family(
        "plain",
        ("ae16", (16,), {}),
        ("ae32", (32,), {}),
        ("ae64", (64,), {}),
        ("ae-2x4x4", (2, 4, 4), {}),
        ("ae-4x4x4", (4, 4, 4), {}),
        ("ae-4x8x8", (4, 8, 8), {}),
    )
    + _family(
        "vae",
        ("vae32-w0.001", (32,), {"kl": 0.001}),
        ("vae32-w0.005", (32,), {"kl": 0.005}),
        ("vae32-w0.02", (32,), {"kl": 0.02}),
        ("vae32-w0.08", (32,), {"kl": 0.08}),
        ("vae64-w0.005", (64,), {"kl": 0.005}),
        ("vae-4x4x4-w0.001", (4, 4, 4), {"kl": 0.001}),
        ("vae-4x4x4-w0.02", (4, 4, 4), {"kl": 0.02}),
    )
    + _family(
        "geometry",
        ("gpe16", (16,), {}),
        ("gpe32", (32,), {}),
        ("gpe64", (64,), {}),
        ("gpe-4x4x4", (4, 4, 4), {}),
    )
    + _family(
        "nvae",
        ("nvae-6x4x4", (6, 4, 4), {"kl": 0.005, "groups": 3}),
        ("nvae-6x4x4-w0.02", (6, 4, 4), {"kl": 0.02, "groups": 3}),
        ("nvae-two-scales", (96,), {"kl": 0.005, "groups": 2, "scales": 2}),
    )
    + _family(
        "denoising",
        ("dae32", (32,), {"input_noise": 0.3}),
        ("dae-4x4x4", (4, 4, 4), {"input_noise": 0.3}),
        ("latent-dae32", (32,), {"latent_noise": 0.5}),
        ("latent-dae-4x4x4", (4, 4, 4), {"latent_noise": 0.5}),
    )
    + _family(
        "equivariant",
        ("eq-2x4x4", (2, 4, 4), {"equivariance": 0.5}),
        ("eq-4x4x4", (4, 4, 4), {"equivariance": 0.5}),
        ("eq-4x8x8", (4, 8, 8), {"equivariance": 0.5}),
    )
    + _family(
        "aligned",
        ("align32", (32,), {"alignment": 0.1}),
        ("align64", (64,), {"alignment": 0.1}),
        ("align-4x4x4", (4, 4, 4), {"alignment": 0.1}),
    )
    + _family(
        "spectral",
        ("spectral-2x4x4", (2, 4, 4), {"scale_equivariance": 0.25}),
        ("spectral-4x4x4", (4, 4, 4), {"scale_equivariance": 0.25}),
        ("spectral-4x8x8", (4, 8, 8), {"scale_equivariance": 0.25}),
    )
    + _family(
        "distortion",
        ("stretch4", (32,), {"condition": 4.0}),
        ("stretch16", (32,), {"condition": 16.0}),
        ("stretch64", (32,), {"condition": 64.0}),
        ("warp-weak-slow", (32,), {"amplitude": 1.0, "frequency": 1.0}),
        ("warp-strong-slow", (32,), {"amplitude": 2.0, "frequency": 1.0}),
        ("warp-weak-fast", (32,), {"amplitude": 1.0, "frequency": 4.0}),
        ("warp-strong-fast", (32,), {"amplitude": 2.0, "frequency": 4.0}),
        ("dead16", (48,), {"dead": 16}),
        ("drop8", (24,), {"drop": 8}),
    )
)
REDUCED = (
    "pca32",
    "ae32",
    "ae-4x4x4",
    "vae32-w0.005",
    "vae32-w0.08",
    "gpe32",
    "stretch16",
    "warp-strong-fast",
)


def encoder_named(name: str) -> EncoderConfig:
    """The encoder of this name.

    Raises
    ------
    KeyError
        If there is none.
    """
    for config in ENCODERS:
        if config.name == name:
            return config
    raise KeyError(f"encoder {name!r} is not in the zoo; it has {[c.name for c in ENCODERS]}")


@dataclass(frozen=True)
class Budget:
    """What a generator may spend."""

    name: str
    width: int
    blocks: int
    steps: int
    batch: int
    learning_rate: float


BUDGETS = {
    "small": Budget("small", width=128, blocks=2, steps=2_000, batch=256, learning_rate=3e-3),
    "large": Budget("large", width=256, blocks=3, steps=3_500, batch=256, learning_rate=2e-3),
}
SPATIAL_BUDGETS = {
    "dit": Budget("large", width=96, blocks=3, steps=2_500, batch=128, learning_rate=2e-3),
    "unet": Budget("large", width=32, blocks=1, steps=2_000, batch=64, learning_rate=4e-3),
}

SPATIAL_RUNS = (
    "ae-2x4x4",
    "ae-4x4x4",
    "ae-4x8x8",
    "vae-4x4x4-w0.001",
    "vae-4x4x4-w0.02",
    "gpe-4x4x4",
    "nvae-6x4x4",
    "dae-4x4x4",
    "eq-4x4x4",
    "eq-4x8x8",
    "align-4x4x4",
    "spectral-4x4x4",
)
EPSILON_RUNS = (
    "pca32",
    "ae32",
    "ae-4x4x4",
    "vae32-w0.001",
    "vae32-w0.02",
    "gpe32",
    "dae32",
    "align32",
    "stretch16",
    "warp-strong-fast",
)
PROFILED = ("gpe32", "vae32-w0.005", "vae32-w0.02", "nvae-6x4x4")
