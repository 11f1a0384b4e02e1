"""Small convolutional autoencoders of 32 x 32 images, with a vector or places for a latent.

The encoder cuts an image into 4 x 4 patches, one convolution each, and works at 8 x 8 places; for
vectors and latents of 4 x 4 places it then halves the places once more. The decoder mirrors it.
Without normalisation layers the rows of a batch do not see each other, and SiLU leaves the maps
smooth, so Jacobians and second derivatives of encoders mean what they should.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.zoo.config import IMAGE_SIZE

__all__ = [
    "Autoencoder",
    "Convolutional",
    "Linear",
    "ResidualBlock",
    "fan_in_init",
]

PATCH = 4
FINE, COARSE = 32, 64  # channels at 8 x 8 and at 4 x 4 places
RESIDUAL_START = 0.5  # gain of a residual branch: a stack of blocks starts about as wide as one
OUTPUT_START = 0.1  # of the last layer's weights, beside the images' mean
LOG_VARIANCE_START, LOG_VARIANCE_RANGE = -4.0, (-14.0, 4.0)


class Autoencoder(nn.Module, ABC):
    """What the zoo takes for an encoder: `encode`, deterministic, `decode`, and the `shape`.

    Attributes
    ----------
    shape : tuple of int
        Of one latent: (d,) or (C, H, W).
    """

    shape: tuple[int, ...]

    @abstractmethod
    def encode(self, x: Tensor) -> Tensor:
        """Latents (N, *shape) of images (N, C, 32, 32) in [-1, 1]."""

    @abstractmethod
    def decode(self, z: Tensor) -> Tensor:
        """Images of latents, not clipped."""

    def forward(self, x: Tensor) -> Tensor:
        """The reconstruction."""
        return self.decode(self.encode(x))


@torch.no_grad()
def fan_in_init(module: nn.Module, draws: torch.Generator) -> None:
    """Normal weights of variance 1 / fan-in and no bias, in every layer of `module`."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            weight = torch.randn(layer.weight.shape, generator=draws)
            layer.weight.copy_(weight / math.sqrt(layer.weight[0].numel()))
            layer.bias.zero_()


class ResidualBlock(nn.Module):
    """x + conv(silu(conv(silu(x)))), which begins near the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        self.gain = nn.Parameter(torch.tensor(RESIDUAL_START))

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        inner = self.second(functional.silu(self.first(functional.silu(x))))
        return x + self.gain * inner


class _Head(nn.Module):
    """Features at 4 x 4 or 8 x 8 places to the numbers of a latent."""

    def __init__(self, shape: tuple[int, ...], width: int, copies: int) -> None:
        super().__init__()
        self.shape = shape
        if len(shape) == 3:
            self.layer: nn.Module = nn.Conv2d(width, copies * shape[0], 1)
        else:
            self.layer = nn.Linear(width * 16, copies * shape[0])

    def forward(self, features: Tensor) -> Tensor:
        """(N, copies * C, H, W) or (N, copies * d)."""
        features = functional.silu(features)
        return self.layer(features if len(self.shape) == 3 else features.flatten(1))


class _Tail(nn.Module):
    """The numbers of a latent to features at 4 x 4 or 8 x 8 places."""

    def __init__(self, shape: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.width = width
        self.layer: nn.Module = (
            nn.Conv2d(shape[0], width, 1) if len(shape) == 3 else nn.Linear(shape[0], width * 16)
        )

    def forward(self, z: Tensor) -> Tensor:
        """(N, width, H, W)."""
        features = self.layer(z)
        return features if z.ndim == 4 else features.reshape(-1, self.width, 4, 4)


class Convolutional(Autoencoder):
    """Patches, residual blocks and a head; a mean and a log-variance where it is `stochastic`.

    Parameters
    ----------
    channels : int
        Of the images.
    shape : tuple of int
        (d,), (C, 4, 4) or (C, 8, 8).
    stochastic : bool
        Whether the head also gives log-variances; `encode` is the mean all the same.
    """

    def __init__(self, channels: int, shape: tuple[int, ...], *, stochastic: bool = False) -> None:
        super().__init__()
        if not (len(shape) == 1 or (len(shape) == 3 and shape[1:] in ((4, 4), (8, 8)))):
            raise ValueError(
                f"shape is {shape}: latents of these networks are (d,), (C, 4, 4) or (C, 8, 8)."
            )
        self.shape = tuple(shape)
        self.stochastic = stochastic
        coarse = shape[1:] != (8, 8)
        width = COARSE if coarse else FINE
        down: list[nn.Module] = [nn.Conv2d(channels, FINE, PATCH, stride=PATCH)]
        up: list[nn.Module] = [ResidualBlock(FINE), nn.SiLU()]
        up += [nn.Conv2d(FINE, channels * PATCH**2, 3, padding=1), nn.PixelShuffle(PATCH)]
        down.append(ResidualBlock(FINE))
        if coarse:
            down += [nn.Conv2d(FINE, COARSE, 2, stride=2), ResidualBlock(COARSE)]
            grow = [nn.Conv2d(COARSE, 4 * FINE, 1), nn.PixelShuffle(2)]
            up = [ResidualBlock(COARSE), *grow, *up]
        else:
            down.append(ResidualBlock(FINE))
            up = [ResidualBlock(FINE), *up]
        self.down, self.up = nn.Sequential(*down), nn.Sequential(*up)
        self.head = _Head(self.shape, width, 1 + stochastic)
        self.tail = _Tail(self.shape, width)
        # the affine gauge of a latent that is fixed before its decoder is trained
        self.register_buffer("shift", torch.zeros(self.shape))
        self.register_buffer("scale", torch.ones(()))

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of the latent's posterior, (N, *shape) each."""
        if not self.stochastic:
            raise ValueError("this autoencoder has no posterior: build it with stochastic=True.")
        mean, log_variance = self.head(self.down(x)).chunk(2, dim=1)
        log_variance = (log_variance + LOG_VARIANCE_START).clamp(*LOG_VARIANCE_RANGE)
        return mean, log_variance

    def encode(self, x: Tensor) -> Tensor:
        """Latents (N, *shape): the posterior's mean where there is one."""
        if self.stochastic:
            return self.moments(x)[0]
        return (self.head(self.down(x)) - self.shift) / self.scale

    def decode(self, z: Tensor) -> Tensor:
        """Images; of latents with other places (C, h, w), images of 32 h / H times 32 w / W."""
        return self.up(self.tail(z))

    @torch.no_grad()
    def calibrate(self, x: Tensor, rms: float) -> None:
        """Latents of `x` with mean 0 per entry or channel and this RMS; decoded, near its mean."""
        z = self.head(self.down(x))[:, : self.shape[0]]
        mean = z.mean((0, 2, 3) if z.ndim == 4 else 0, keepdim=True)
        factor = rms / (z - mean).square().mean().sqrt()
        layer = self.head.layer
        bias = layer.bias[: self.shape[0]]
        layer.weight[: self.shape[0]] *= factor
        bias.copy_(factor * (bias - mean.flatten()))
        last = self.up[-2]
        last.weight *= OUTPUT_START
        last.bias.copy_(functional.pixel_unshuffle(x, PATCH).mean((0, 2, 3)))

    def encoder_parameters(self) -> list[nn.Parameter]:
        """What `encode` is made of."""
        return [*self.down.parameters(), *self.head.parameters()]

    def decoder_parameters(self) -> list[nn.Parameter]:
        """What `decode` is made of."""
        return [*self.tail.parameters(), *self.up.parameters()]


class Linear(Autoencoder):
    """z = (x - mean) W^T / scale and its pseudo-inverse, for W with orthonormal rows.

    Parameters
    ----------
    channels : int
    shape : tuple of int
    """

    def __init__(self, channels: int, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape, self.channels = tuple(shape), channels
        pixels, entries = channels * IMAGE_SIZE**2, math.prod(shape)
        self.register_buffer("mean", torch.zeros(pixels))
        self.register_buffer("components", torch.zeros(entries, pixels))
        self.register_buffer("scales", torch.ones(entries))

    def encode(self, x: Tensor) -> Tensor:
        """Coordinates along the components."""
        z = (x.flatten(1) - self.mean) @ self.components.T / self.scales
        return z.reshape(-1, *self.shape)

    def decode(self, z: Tensor) -> Tensor:
        """The point of the components' span."""
        x = (z.flatten(1) * self.scales) @ self.components + self.mean
        return x.reshape(-1, self.channels, IMAGE_SIZE, IMAGE_SIZE)
