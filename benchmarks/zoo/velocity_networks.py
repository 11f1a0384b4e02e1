"""Networks that a generator trains: an MLP for vectors, diffusers' DiT and U-Net for places.

Each is called as `network(x, u)`, x of shape (N, d) and u of shape (N,) in [0, 1], and returns
(N, d); `build_network` initialises it from a seed and leaves torch's own stream as it was.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.zoo.config import Budget

__all__ = ["KINDS", "MLP", "DiT", "UNet", "build_network"]

KINDS = ("mlp", "dit", "unet")
TIME_FEATURES = 64
TIMESTEPS = 1000.0  # diffusers' embeddings expect times from 0 to 1000
HEAD_WIDTH = 32
TOKENS = 2  # along each side of a DiT's latent


class _Block(nn.Module):
    """h + W2 silu((1 + a(u)) W1 norm(h) + b(u))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.first = nn.Linear(width, width)
        self.time = nn.Linear(TIME_FEATURES, 2 * width)
        self.second = nn.Linear(width, width)

    def forward(self, h: Tensor, time: Tensor) -> Tensor:
        scale, shift = self.time(time).chunk(2, dim=1)
        return h + self.second(functional.silu(self.first(self.norm(h)) * (1 + scale) + shift))


class MLP(nn.Module):
    """Residual blocks of one width; the output is zero before training."""

    def __init__(self, dimension: int, width: int, blocks: int) -> None:
        super().__init__()
        self.enter = nn.Linear(dimension, width)
        self.blocks = nn.ModuleList(_Block(width) for _ in range(blocks))
        self.norm = nn.LayerNorm(width)
        self.leave = nn.Linear(width, dimension)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)
        # from a quarter turn over the whole of [0, 1] to a turn per 0.03
        frequencies = torch.logspace(math.log10(math.pi / 2), math.log10(200), TIME_FEATURES // 2)
        self.register_buffer("frequencies", frequencies, persistent=False)

    def forward(self, x: Tensor, u: Tensor) -> Tensor:
        angle = u[:, None] * self.frequencies
        time = torch.cat([angle.sin(), angle.cos()], dim=1)
        h = self.enter(x)
        for block in self.blocks:
            h = block(h, time)
        return self.leave(self.norm(h))


class DiT(nn.Module):
    """diffusers' DiTTransformer2DModel, unconditional, with 2 x 2 tokens.

    Within 120 s of one core, 4 x 4 tokens of 4 entries (2,000 steps of batch 64, width 64) left a
    Frechet distance of 0.98 to patchwise principal components of Fashion-MNIST, and 2 x 2 tokens
    of 16 (2,500 of batch 128, width 96) one of 0.41; 2,000 samples, with a floor of 0.15.
    """

    def __init__(self, shape: tuple[int, int, int], width: int, blocks: int) -> None:
        super().__init__()
        from diffusers import DiTTransformer2DModel

        self.shape = shape
        self.model = DiTTransformer2DModel(
            num_attention_heads=width // HEAD_WIDTH,
            attention_head_dim=HEAD_WIDTH,
            in_channels=shape[0],
            out_channels=shape[0],
            num_layers=blocks,
            sample_size=shape[1],
            patch_size=shape[1] // TOKENS,
            num_embeds_ada_norm=1,
            norm_num_groups=1,
        )
        # As Peebles and Xie start it (each block the identity, the output zero); diffusers leaves
        # these layers at torch's defaults, since it loads weights.
        for block in self.model.transformer_blocks:
            nn.init.zeros_(block.norm1.linear.weight)
            nn.init.zeros_(block.norm1.linear.bias)
        nn.init.zeros_(self.model.proj_out_2.weight)
        nn.init.zeros_(self.model.proj_out_2.bias)
        # one class, never dropped: in training mode diffusers draws label dropout from the global
        # stream, and nothing else in the network asks for the mode
        self.eval()

    def forward(self, x: Tensor, u: Tensor) -> Tensor:
        labels = torch.zeros(len(x), dtype=torch.long, device=x.device)
        places = x.reshape(-1, *self.shape)
        return self.model(places, timestep=u * TIMESTEPS, class_labels=labels).sample.flatten(1)


class UNet(nn.Module):
    """diffusers' UNet2DModel: two resolutions, `blocks` residual blocks in each."""

    def __init__(self, shape: tuple[int, int, int], width: int, blocks: int) -> None:
        super().__init__()
        from diffusers import UNet2DModel

        self.shape = shape
        self.model = UNet2DModel(
            sample_size=shape[1],
            in_channels=shape[0],
            out_channels=shape[0],
            layers_per_block=blocks,
            block_out_channels=(width, 2 * width),
            down_block_types=("DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D"),
            attention_head_dim=HEAD_WIDTH,
            norm_num_groups=8,
        )
        nn.init.zeros_(self.model.conv_out.weight)
        nn.init.zeros_(self.model.conv_out.bias)

    def forward(self, x: Tensor, u: Tensor) -> Tensor:
        places = x.reshape(-1, *self.shape)
        return self.model(places, u * TIMESTEPS).sample.flatten(1)


def build_network(kind: str, shape: tuple[int, ...], budget: Budget, seed: int) -> nn.Module:
    """The network of this kind and budget for a latent of this shape, initialised from the seed.

    Raises
    ------
    ValueError
        If the kind is unknown, or needs places where the latent has none.
    """
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r}; take one of {KINDS}")
    if kind != "mlp" and (len(shape) != 3 or shape[1] != shape[2] or shape[1] % 4):
        raise ValueError(
            f"kind {kind!r} needs a latent of shape (C, 4 n, 4 n), and shape is {shape}; "
            "take kind='mlp'"
        )
    if kind != "mlp" and budget.width % HEAD_WIDTH:
        raise ValueError(
            f"budget {budget.name!r} has width {budget.width}, and kind {kind!r} needs a multiple "
            f"of {HEAD_WIDTH}"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if kind == "mlp":
            return MLP(math.prod(shape), budget.width, budget.blocks)
        return (DiT if kind == "dit" else UNet)(shape, budget.width, budget.blocks)
