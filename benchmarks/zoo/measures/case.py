"""One encoder with its latents, and what several families of numbers share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch

from benchmarks.zoo.data import to_uint8
from skfisher.curves import InformationCurve
from skfisher.decoders import linear_decoder
from skfisher.decoding import DecodedError, Denoising, denoise_held_out
from skfisher.encoders import TorchEncoder
from skfisher.evaluation import curve_of_models
from skfisher.noise import default_noise_levels, window_weights
from skfisher.samples import Sample

__all__ = ["N_LEVELS", "SURROGATE_ROWS", "THIN", "Case", "Numbers", "means", "principal_axes"]

N_LEVELS = 21
THIN = tuple(range(0, N_LEVELS, 2))
"""Levels at which what is decoded is measured."""
PAIRED_ROWS = 5000
PIXEL_ROWS = 400
SURROGATE_ROWS = 2000
CURVE_ROWS = 1500
FIT_ROWS = 7000
"""Rows of which some are held out and the others fitted to."""
N_COMPONENTS = 64  # of pixels, in which images are compared without a feature network

Numbers = dict[str, tuple[float, float | None]]
"""Name -> value and standard error."""


@dataclass(frozen=True, eq=False)
class Case:
    """One encoder, and what several families of numbers share."""

    images: np.ndarray
    labels: np.ndarray | None
    Z: np.ndarray
    centre: np.ndarray
    scale: float
    autoencoder: torch.nn.Module
    features: Callable[[np.ndarray], np.ndarray]
    reconstructed_features: np.ndarray | None
    latent_shape: tuple[int, ...]
    seed: int
    max_points: int
    device: str
    reasons: dict[str, str] = field(default_factory=dict)  # why a number of a part is missing

    @property
    def d(self) -> int:
        return self.Z.shape[1]

    @cached_property
    def rows(self) -> np.ndarray:
        """Images as flat rows in [-1, 1]."""
        return self.images.reshape(len(self.images), -1).astype(np.float32) / 127.5 - 1

    @cached_property
    def encoder(self) -> TorchEncoder:
        """From flat images to the centred, scaled, flat latents."""
        module = _Centred(self.autoencoder, self.centre, self.scale, self.device)
        return TorchEncoder(module, method="encode", input_shape=self.images.shape[1:])

    @torch.inference_mode()
    def decode(self, Z: Any) -> np.ndarray:
        """Flat images of centred, scaled latents."""
        flat = np.asarray(Z).reshape(len(Z), -1) * self.scale + self.centre
        parts = []
        for start in range(0, len(flat), 256):
            z = torch.as_tensor(flat[start : start + 256], dtype=torch.float32, device=self.device)
            found = self.autoencoder.decode(z.reshape(-1, *self.latent_shape))
            parts.append(found.flatten(1).cpu().numpy())
        return np.concatenate(parts)

    def encoder_of_images(self, images: Any) -> np.ndarray:
        """Latents with their places."""
        flat = np.asarray(images, dtype=np.float32).reshape(len(images), -1)
        return self.encoder.transform(flat).reshape(-1, *self.latent_shape)

    def features_of(self, images: np.ndarray) -> np.ndarray:
        """Features of flat images in [-1, 1]."""
        return self.features(to_uint8(images).reshape(-1, *self.images.shape[1:]))

    @cached_property
    def denoising(self) -> Denoising:
        levels = default_noise_levels(self.Z, N_LEVELS)
        return denoise_held_out(
            self.Z[:FIT_ROWS], noise_levels=levels, max_points=self.max_points, bracket=False,
            random_state=self.seed,
        )  # fmt: skip

    @cached_property
    def curve(self) -> InformationCurve:
        """Of held-out rows; fewer of them in many dimensions."""
        fitted = self.denoising
        n_rows = min(CURVE_ROWS, max(300, CURVE_ROWS * 64**2 // self.d**2))
        return curve_of_models(
            Sample(fitted.rows[:n_rows], None, None), fitted.noise_levels, fitted.models,
            names=fitted.score_models, one_step=True, seed=self.seed, bracket=False,
        ).curve  # fmt: skip

    @cached_property
    def covariance(self) -> np.ndarray:
        return np.atleast_2d(np.cov(self.Z, rowvar=False))

    @cached_property
    def linear(self) -> np.ndarray:
        """The linear decoder of pairs, (d, D)."""
        return linear_decoder(self.Z[:PAIRED_ROWS], self.rows[:PAIRED_ROWS])

    @cached_property
    def gain(self) -> float:
        """The linear decoder's tr(A^T A) s^2 / tr(A^T S A): 1 for an orthogonal one."""
        A = self.linear
        return (
            float(np.sum(A * A))
            / float(np.sum(A * (self.covariance @ A)))
            * (float(np.trace(self.covariance)) / self.d)
        )

    @cached_property
    def mixture(self) -> Any:
        """The mixture that was chosen at most levels, and the Gaussian where none was."""
        fitted = [m for m in self.denoising.models if m.name == "mixture"]
        if not fitted:
            return self.denoising.linear
        return max(fitted, key=lambda m: sum(other is m for other in fitted))

    @cached_property
    def through_linear(self) -> DecodedError:
        # a rotation of the images keeps all distances, in d columns
        axes = np.linalg.qr(self.linear.T)[0]
        return self.denoising.through(self.linear @ axes, levels=THIN)

    @cached_property
    def through_pixels(self) -> DecodedError:
        return self.denoising.through(self.decode, levels=THIN, max_points=PIXEL_ROWS)

    @cached_property
    def reconstructed(self) -> np.ndarray:
        """Flat reconstructions of the first rows."""
        return self.decode(self.Z[:SURROGATE_ROWS])


class _Centred(torch.nn.Module):
    """An autoencoder whose latents are flat, centred and scaled."""

    def __init__(self, module: Any, centre: np.ndarray, scale: float, device: str) -> None:
        super().__init__()
        self.module = module
        self.register_buffer("centre", torch.as_tensor(centre, device=device).float().flatten())
        self.scale = float(scale)

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """Latents (N, d) of images."""
        return (self.module.encode(x).flatten(1) - self.centre) / self.scale


def means(name: str, levels: Any, values: Any, errors: Any = None) -> Numbers:
    """Both means of a curve; errors of levels are taken as going together, from above."""
    found: Numbers = {}
    for over in ("log", "flow"):
        w = window_weights(levels, 1.0, over)  # the latents have unit RMS
        error = None if errors is None else float(w @ errors)
        found[f"{name}_{over}"] = (float(w @ values), error)
    return found


def principal_axes(rows: np.ndarray) -> np.ndarray:
    """The first principal axes of centred rows, as orthonormal columns."""
    from sklearn.utils.extmath import randomized_svd

    keep = min(N_COMPONENTS, *rows.shape)
    return randomized_svd(rows, keep, n_iter=4, random_state=0)[2].T
