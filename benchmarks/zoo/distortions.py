"""A good encoder's latent, distorted on purpose by invertible maps.

The base's latent is flattened, centred per entry and divided by one scalar, the root mean square
over all entries; call the result w, in R^n. The distorted latent is T(w), and `decode` undoes T, so
that a distorted encoder reconstructs as its base does. By option:

condition c     T(w) = Q2 diag(c^(-i / (n - 1)), i = 0 .. n - 1) Q1 w: singular values that fall
                geometrically from 1 to 1 / c.
amplitude a,    (u, v) = Q w in halves; v <- v + (a / f) sin(f B u + p), then
frequency f     u <- u + (a / f) sin(f C v + q). The rows of B and C are orthonormal, so a step's
                slopes reach a and its second derivatives a f: a sets the distortion, f the
                curvature at that distortion, a / f how far points move. Volumes are preserved.
                Inverse: the two steps subtracted, the second first.
dead k          T(w) = (w, e): e is k independent standard normal numbers that `decode` ignores.
                They are a hash of the image's 8-bit pixels: the same image has the same e, any
                other image another, and their derivative in the image is zero.
drop k          the k entries of smallest variance are left out, and `decode` puts their means in
                their places. The only one that loses information.

Rotations Q, directions B and C and phases p and q come from one fixed seed: encoders that differ by
c, or by a and f, differ by nothing else.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from benchmarks.zoo.config import EncoderConfig

__all__ = ["Distorted", "distorted"]

_SEED = 20260402
_KINDS = ({"condition"}, {"amplitude", "frequency"}, {"dead"}, {"drop"})


def distorted(config: EncoderConfig, base: nn.Module, latents_of_base: ArrayLike) -> Distorted:
    """The base with its latent distorted as the options of `config` say.

    latents_of_base : (N, *base.shape) or flat, of the training images, whose centre, scale and
        ranks are taken.
    """
    return Distorted(config, base).measured(latents_of_base)


class Distorted(nn.Module):
    """An autoencoder whose latent is a map of its base's.

    All that it needs is in its state, the base's weights among it: build it on an untrained base
    and load the state, or call `measured`.

    Attributes
    ----------
    shape : tuple of int
        (d,), whatever shape the base's latent has.
    base : torch.nn.Module
    """

    center: Tensor
    scale: Tensor

    def __init__(self, config: EncoderConfig, base: nn.Module) -> None:
        super().__init__()
        self.base, self.shape = base, tuple(config.shape)
        n = math.prod(base.shape)
        self.map = _map_of(config, n)
        if self.shape != (self.map.dimension,):
            raise ValueError(
                f"shape of {config.name!r} is {self.shape}: its options make ({n},) into "
                f"({self.map.dimension},)."
            )
        self.register_buffer("center", torch.zeros(n))
        self.register_buffer("scale", torch.ones(()))

    def measured(self, latents_of_base: ArrayLike) -> Distorted:
        """Take centre, scale and the entries' ranks from the base's latents, and return itself."""
        Z = np.asarray(latents_of_base, dtype=np.float64)
        if len(Z) < 2 or Z.shape[1:] not in (tuple(self.base.shape), (len(self.center),)):
            raise ValueError(
                f"latents_of_base has shape {Z.shape}: pass (N, "
                f"{', '.join(map(str, self.base.shape))}) with N at least 2."
            )
        Z = Z.reshape(len(Z), -1)
        center = Z.mean(0)
        scale = math.sqrt(((Z - center) ** 2).mean())
        if not (math.isfinite(scale) and scale > 0):
            raise ValueError(
                f"latents_of_base has the root mean square {scale} about its mean: pass finite "
                "latents that differ."
            )
        self.center.copy_(torch.from_numpy(center))
        self.scale.fill_(scale)
        self.map.see(torch.from_numpy((Z - center) / scale))
        return self

    def encode(self, x: Tensor) -> Tensor:
        """Distorted latents (N, d)."""
        w = (self.base.encode(x).flatten(1) - self.center) / self.scale
        return self.map(w, x)

    def decode(self, z: Tensor) -> Tensor:
        """The base's images of the latents with the distortion undone."""
        w = self.map.inverse(z)
        return self.base.decode((w * self.scale + self.center).reshape(-1, *self.base.shape))

    def forward(self, x: Tensor) -> Tensor:
        """Reconstruction."""
        return self.decode(self.encode(x))


def _map_of(config: EncoderConfig, n: int) -> _Map:
    options = dict(config.options)
    if set(options) not in _KINDS:
        raise ValueError(
            f"options of {config.name!r} are {options}: pass condition, or amplitude and "
            "frequency, or dead, or drop."
        )
    if "condition" in options:
        return _Stretch(n, options["condition"])
    if "dead" in options:
        return _Dead(n, _count("dead", options["dead"], math.inf))
    if "drop" in options:
        return _Drop(n, _count("drop", options["drop"], n - 1))
    return _Warp(n, options["amplitude"], options["frequency"])


def _count(name: str, value: float, largest: float) -> int:
    if value != int(value) or not 1 <= value <= largest:
        raise ValueError(f"{name} is {value}: pass a whole number from 1 to {largest}.")
    return int(value)


def _rotation(n: int, rng: np.random.Generator) -> np.ndarray:
    """Uniform over the orthogonal matrices: the QR factor of a normal one, signs put right."""
    Q, R = np.linalg.qr(rng.standard_normal((n, n)))
    return Q * np.sign(np.diag(R))


class _Map(nn.Module, ABC):
    """w -> T(w), given the image too, and back; float32, its constants made in float64."""

    dimension: int

    def see(self, w: Tensor) -> None:
        """Take what the map needs from the base's latents, standardised; most need nothing."""

    @abstractmethod
    def inverse(self, z: Tensor) -> Tensor:
        """T undone."""

    def _keep(self, **arrays: np.ndarray) -> None:
        for name, array in arrays.items():
            self.register_buffer(name, torch.from_numpy(array.astype(np.float32)))


class _Stretch(_Map):
    matrix: Tensor
    back: Tensor

    def __init__(self, n: int, condition: float) -> None:
        super().__init__()
        if not 1 <= condition < math.inf:
            raise ValueError(f"condition is {condition}: pass a number of at least 1.")
        rng = np.random.default_rng([_SEED, 1])
        first, second = _rotation(n, rng), _rotation(n, rng)
        scales = condition ** -(np.arange(n) / max(n - 1, 1))
        self.dimension = n
        self._keep(matrix=second @ (scales[:, None] * first), back=(first.T / scales) @ second.T)

    def forward(self, w: Tensor, x: Tensor) -> Tensor:
        return w @ self.matrix.T

    def inverse(self, z: Tensor) -> Tensor:
        return z @ self.back.T


class _Warp(_Map):
    rotation: Tensor
    first: Tensor
    first_phase: Tensor
    second: Tensor
    second_phase: Tensor

    def __init__(self, n: int, amplitude: float, frequency: float) -> None:
        super().__init__()
        if not 0 <= amplitude < math.inf:
            raise ValueError(f"amplitude is {amplitude}: pass a number of at least 0.")
        if not 0 < frequency < math.inf:
            raise ValueError(f"frequency is {frequency}: pass a number above 0.")
        if n % 2:
            raise ValueError(f"the base has {n} entries: a warp needs an even number of them.")
        rng = np.random.default_rng([_SEED, 2])
        self.dimension, self.amplitude, self.frequency = n, amplitude, frequency
        self._keep(
            rotation=_rotation(n, rng),
            first=_rotation(n // 2, rng),
            second=_rotation(n // 2, rng),
            first_phase=rng.uniform(0, 2 * np.pi, n // 2),
            second_phase=rng.uniform(0, 2 * np.pi, n // 2),
        )

    def _wave(self, half: Tensor, directions: Tensor, phase: Tensor) -> Tensor:
        sine = torch.sin(self.frequency * half @ directions.T + phase)
        return self.amplitude / self.frequency * sine

    def forward(self, w: Tensor, x: Tensor) -> Tensor:
        u, v = (w @ self.rotation.T).chunk(2, 1)
        v = v + self._wave(u, self.first, self.first_phase)
        u = u + self._wave(v, self.second, self.second_phase)
        return torch.cat([u, v], 1)

    def inverse(self, z: Tensor) -> Tensor:
        u, v = z.chunk(2, 1)
        u = u - self._wave(v, self.second, self.second_phase)
        v = v - self._wave(u, self.first, self.first_phase)
        return torch.cat([u, v], 1) @ self.rotation


class _Dead(_Map):
    def __init__(self, n: int, count: int) -> None:
        super().__init__()
        self.live, self.count, self.dimension = n, count, n + count

    def forward(self, w: Tensor, x: Tensor) -> Tensor:
        return torch.cat([w, _normals_of(x, self.count).to(w.dtype)], 1)

    def inverse(self, z: Tensor) -> Tensor:
        return z[:, : self.live]


class _Drop(_Map):
    kept: Tensor

    def __init__(self, n: int, count: int) -> None:
        super().__init__()
        self.entries, self.dimension = n, n - count
        self.register_buffer("kept", torch.arange(self.dimension))

    def see(self, w: Tensor) -> None:
        order = torch.argsort(w.var(0), descending=True, stable=True)
        self.kept.copy_(order[: self.dimension].sort().values)

    def forward(self, w: Tensor, x: Tensor) -> Tensor:
        return w[:, self.kept]

    def inverse(self, z: Tensor) -> Tensor:
        # the means of centred entries are zero
        return z.new_zeros(len(z), self.entries).index_copy(1, self.kept, z)


# Arithmetic of int64 wraps modulo 2^64. The constants are those of the splitmix64 generator
# (Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators"), as signed numbers.
_GOLDEN = 0x9E3779B97F4A7C15 - 2**64
_MIX = (0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64)


def _shifted(h: Tensor, bits: int) -> Tensor:
    """Logical shift to the right; torch's own repeats the sign."""
    return (h >> bits) & ((1 << (64 - bits)) - 1)


def _mixed(h: Tensor) -> Tensor:
    h = (h ^ _shifted(h, 30)) * _MIX[0]
    h = (h ^ _shifted(h, 27)) * _MIX[1]
    return h ^ _shifted(h, 31)


def _normals_of(x: Tensor, count: int) -> Tensor:
    """`count` standard normal numbers for each image, by a hash of its 8-bit pixels (float32).

    Integers until the last step: the batch and the device change nothing but rounding.
    """
    levels = torch.round((x.detach().flatten(1) + 1) * 127.5).to(torch.int64)
    rng = np.random.default_rng([_SEED, 3])
    factors = rng.integers(-(2**63), 2**63 - 1, levels.shape[1], dtype=np.int64, endpoint=True) | 1
    seeds = _mixed((levels * torch.from_numpy(factors).to(x.device)).sum(1))
    numbers = torch.arange(1, count + 1, device=x.device) * _GOLDEN
    bits = _shifted(_mixed(seeds[:, None] + numbers), 11)
    uniform = (bits.to(torch.float64) + 0.5) * 2.0**-53
    return torch.special.ndtri(uniform).to(torch.float32)
