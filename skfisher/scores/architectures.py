"""Networks of learned scores: residual layers beside the Gaussian part that they correct."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from skfisher._backend.arrays import Array, namespace, to_numpy
from skfisher.scores.fitting import shrinkage_intensity

__all__ = ["DenoiserSpec", "make_denoiser"]

_WIDEST_BASIS = 2048  # features beyond which the Gaussian part keeps to the coordinate axes
_EMBEDDING = 64  # units that tell every block the noise level


@dataclass(frozen=True)
class DenoiserSpec:
    """Everything that fixes a denoiser but its numbers.

    Attributes
    ----------
    n_features : int
    latent_shape : tuple of int or None
        (C, H, W) of a row makes the network convolutional.
    basis : bool
        Whether it works in the eigenvectors of the sample's covariance.
    width, n_blocks : int
    dropout : float
    """

    n_features: int
    latent_shape: tuple[int, ...] | None
    basis: bool
    width: int
    n_blocks: int
    dropout: float

    def build(self) -> Any:
        """Score module (m, n), (m, 1) -> (m, n), with fresh weights and moments still to be set."""
        if self.latent_shape is None:
            network = _mlp(self.n_features, self.width, self.n_blocks, self.dropout)
        else:
            network = _conv_network(self.latent_shape, self.width, self.n_blocks, self.dropout)
        return _preconditioned(network, self)


def make_denoiser(
    X: Array,
    latent_shape: tuple[int, ...] | None,
    *,
    width: int | None,
    n_blocks: int,
    dropout: float,
) -> Any:
    """Score module of y and sigma: the Gaussian part of a sample and a network to correct it.

    Parameters
    ----------
    X : array of shape (N, n)
        The sample, for its moments.
    latent_shape : tuple of int or None
        Three axes (C, H, W) make the network convolutional.
    width : int or None
        None grows with the root of the number of features; 48 channels of a convolutional one.
    n_blocks : int
    dropout : float

    Returns
    -------
    torch.nn.Module
        Maps (m, n) and (m, 1) to the score (m, n), that of the Gaussian before it is trained; with
        a method `gaussian_gain` and its `spec`.
    """
    n = X.shape[1]
    shape = latent_shape if latent_shape is not None and len(latent_shape) == 3 else None
    if shape is None:
        mean, basis, lam = _moments(X)
        width = width or min(max(128, 64 * math.ceil(1.05 * math.sqrt(n))), 1024)
    else:
        mean, basis, lam = _channel_moments(X, shape)
        width = width or 48
    denoiser = DenoiserSpec(n, shape, basis is not None, width, n_blocks, dropout).build()
    denoiser.set_moments(mean, basis, lam)
    return denoiser


def _moments(X: Array) -> tuple[Any, Any, Any]:
    """Mean (n,), eigenvectors (n, n) or None, and variances (n,) along them, as NumPy.

    With fewer than ten rows to a feature the eigenvalues are drawn to their mean, as Ledoit and
    Wolf (2004) would: a direction without variance in the sample gets no correction by the network.
    """
    xp = namespace(X)
    n_rows, n = X.shape
    mean = xp.mean(X, axis=0)
    centred = X - mean
    if n > _WIDEST_BASIS:
        lam = xp.mean(centred * centred, axis=0)
        return to_numpy(mean), None, to_numpy(lam)
    covariance = centred.T @ centred / n_rows
    lam, basis = xp.linalg.eigh(covariance)
    lam = xp.clip(lam, 0.0)
    if n_rows < 10 * n:
        squares = xp.sum(centred * centred, axis=1)
        forms = xp.sum((centred @ covariance) * centred, axis=1)
        w = xp.full_like(squares, 1 / n_rows)
        share = shrinkage_intensity(squares, forms, lam, n, w)
        lam = (1 - share) * lam + share * xp.mean(lam)
    else:
        top = float(xp.max(lam))
        lam = xp.where(lam > 1e-12 * top, lam, xp.zeros_like(lam))
    return to_numpy(mean), to_numpy(basis), to_numpy(lam)


def _channel_moments(X: Array, latent_shape: tuple[int, ...]) -> tuple[Any, Any, Any]:
    """Mean and variance of each channel, given to all of its places."""
    xp = namespace(X)
    channels, places = latent_shape[0], math.prod(latent_shape[1:])
    Z = xp.reshape(X, (X.shape[0], channels, places))
    mean = xp.mean(Z, axis=(0, 2))
    lam = xp.mean((Z - mean[:, None]) ** 2, axis=(0, 2))
    spread = [
        to_numpy(xp.reshape(xp.broadcast_to(v[:, None], (channels, places)), (-1,)))
        for v in (mean, lam)
    ]
    return spread[0], None, spread[1]


def _preconditioned(network: Any, spec: DenoiserSpec) -> Any:
    import torch
    from torch import nn

    n = spec.n_features

    class Denoiser(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.spec = spec
            self.network = network
            self.register_buffer("mean", torch.zeros(n))
            self.register_buffer("lam", torch.ones(n))
            self.register_buffer("log_scale", torch.zeros(()))
            self.register_buffer("basis", torch.eye(n) if spec.basis else None)

        def set_moments(self, mean: Any, basis: Any, lam: Any) -> None:
            self.mean.copy_(torch.as_tensor(mean.copy()))
            self.lam.copy_(torch.as_tensor(lam.copy()))
            self.log_scale.fill_(0.5 * math.log(float(lam.mean())))
            if basis is not None:
                self.basis.copy_(torch.as_tensor(basis.copy()))

        def gaussian_gain(self, sigma: Any) -> Any:
            """Denoiser's trace of the Gaussian: its MMSE over sigma^2."""
            return (self.lam / (self.lam + sigma * sigma)).sum(1)

        def forward(self, y: Any, sigma: Any) -> Any:
            u = y - self.mean
            if self.basis is not None:
                u = u @ self.basis
            v = self.lam + sigma * sigma
            correction = self.network(u / v.sqrt(), torch.log(sigma) - self.log_scale)
            s = -u / v + (self.lam / v).sqrt() * correction / sigma
            return s if self.basis is None else s @ self.basis.T

    return Denoiser()


def _noise_embedding(size: int) -> Any:
    import torch
    from torch import nn

    class NoiseEmbedding(nn.Module):
        """Sines of log sigma at 16 frequencies, and a layer."""

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("frequencies", torch.exp2(torch.linspace(-1.5, 3.5, 16)))
            self.layers = nn.Sequential(
                nn.Linear(32, size), nn.SiLU(), nn.Linear(size, size), nn.SiLU()
            )

        def forward(self, log_sigma: Any) -> Any:
            phase = log_sigma * self.frequencies
            return self.layers(torch.cat([phase.sin(), phase.cos()], dim=-1))

    return NoiseEmbedding()


def _zero(layer: Any) -> Any:
    from torch import nn

    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def _mlp(n: int, width: int, n_blocks: int, dropout: float) -> Any:
    """Residual blocks with layer norms, scaled and shifted by the noise level."""
    from torch import nn
    from torch.nn import functional

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.LayerNorm(width)
            self.first = nn.Linear(width, width)
            self.second = _zero(nn.Linear(width, width))
            self.level = _zero(nn.Linear(_EMBEDDING, 2 * width))

        def forward(self, h: Any, e: Any) -> Any:
            scale, shift = self.level(e).chunk(2, dim=-1)
            inner = functional.silu(self.first(self.norm(h) * (1 + scale) + shift))
            inner = functional.dropout(inner, dropout, self.training)
            return h + self.second(inner)

    class MLP(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = _noise_embedding(_EMBEDDING)
            self.first = nn.Linear(n, width)
            self.blocks = nn.ModuleList(Block() for _ in range(n_blocks))
            self.norm = nn.LayerNorm(width)
            self.last = _zero(nn.Linear(width, n))

        def forward(self, x: Any, log_sigma: Any) -> Any:
            e = self.embedding(log_sigma)
            h = self.first(x)
            for block in self.blocks:
                h = block(h, e)
            return self.last(functional.silu(self.norm(h)))

    return MLP()


def _conv_network(latent_shape: tuple[int, ...], width: int, n_blocks: int, dropout: float) -> Any:
    """Residual convolutions, most of them at half the resolution.

    One resolution is left where a side is odd or short. Half the channels at the finer one make a
    convolution cost the same at both.
    """
    from torch import nn
    from torch.nn import functional

    channels, *sides = latent_shape
    halved = all(side % 2 == 0 and side >= 4 for side in sides)
    narrow = max(width // 2, 1) if halved else width

    class Block(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.norm = nn.GroupNorm(math.gcd(width, 8), width)
            self.first = nn.Conv2d(width, width, 3, padding=1)
            self.second = _zero(nn.Conv2d(width, width, 3, padding=1))
            self.level = _zero(nn.Linear(_EMBEDDING, 2 * width))

        def forward(self, h: Any, e: Any) -> Any:
            scale, shift = self.level(e)[:, :, None, None].chunk(2, dim=1)
            inner = functional.silu(self.first(self.norm(h) * (1 + scale) + shift))
            inner = functional.dropout(inner, dropout, self.training)
            return h + self.second(inner)

    class ConvNetwork(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = _noise_embedding(_EMBEDDING)
            self.first = nn.Conv2d(channels, narrow, 3, padding=1)
            self.fine = Block(narrow)
            if halved:
                self.down = nn.Conv2d(4 * narrow, width, 1)
                self.up = nn.Conv2d(width, 4 * narrow, 1)
                self.finer = Block(narrow)
            self.coarse = nn.ModuleList(Block(width) for _ in range(n_blocks))
            self.norm = nn.GroupNorm(math.gcd(narrow, 8), narrow)
            self.last = _zero(nn.Conv2d(narrow, channels, 3, padding=1))

        def forward(self, x: Any, log_sigma: Any) -> Any:
            e = self.embedding(log_sigma)
            h = self.fine(self.first(x.reshape(-1, *latent_shape)), e)
            low = self.down(functional.pixel_unshuffle(h, 2)) if halved else h
            for block in self.coarse:
                low = block(low, e)
            if halved:
                h = self.finer(h + functional.pixel_shuffle(self.up(low), 2), e)
            else:
                h = low
            return self.last(functional.silu(self.norm(h))).reshape(x.shape)

    return ConvNetwork()
