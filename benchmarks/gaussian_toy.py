"""The toy experiment: Gaussian data through linear encoders, everything in closed form.

Data N(0, S) in D dimensions, on a subspace of dimension k or of full rank; an encoder z = A x. The
latent is N(0, A S A^T), so `skfisher.gaussian_curve` is the truth in both spaces. Data at noise
sigma are compared with the latent at c sigma, log c the mean log of the singular values that A
keeps on the data's subspace (THEORY.md, section 3).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from skfisher.bounds import (
    Sandwich,
    fisher_sandwich,
    information_sandwich,
    sandwich_levels,
)
from skfisher.curves import InformationCurve, gaussian_curve

__all__ = [
    "LEVELS",
    "ToyEncoder",
    "ToyLaw",
    "compression_share",
    "exact_sandwiches",
    "full_rank_law",
    "subspace_law",
    "toy_encoders",
]

LEVELS = np.geomspace(0.15, 6.0, 6)
"""Noise levels in units of the data, whose axes run from 2 down to 0.5."""
RETAINED = 1e-6


@dataclass(frozen=True)
class ToyLaw:
    """N(0, S) with S = basis diag(variances) basis^T."""

    name: str
    basis: np.ndarray
    variances: np.ndarray

    @property
    def covariance(self) -> np.ndarray:
        """S, of shape (D, D)."""
        return (self.basis * self.variances) @ self.basis.T

    @property
    def n_features(self) -> int:
        """D."""
        return self.basis.shape[0]

    @property
    def rank(self) -> int:
        """k, the dimension of the data's subspace."""
        return self.basis.shape[1]

    def sample(self, n_samples: int, seed: int) -> np.ndarray:
        """Rows of the law."""
        rng = np.random.default_rng(seed)
        return (rng.standard_normal((n_samples, self.rank)) * np.sqrt(self.variances)) @ (
            self.basis.T
        )

    def curve(self, levels: np.ndarray = LEVELS) -> InformationCurve:
        """The exact curve."""
        return gaussian_curve(self.covariance, levels)


@dataclass(frozen=True)
class ToyEncoder:
    """z = A x, for data of one law."""

    name: str
    law: ToyLaw
    matrix: np.ndarray

    @property
    def n_features(self) -> int:
        """d."""
        return self.matrix.shape[0]

    @property
    def singular_values(self) -> np.ndarray:
        """Of A on the data's subspace, k of them, zeros for lost directions."""
        found = np.zeros(self.law.rank)
        on_hull = np.linalg.svd(self.matrix @ self.law.basis, compute_uv=False)
        found[: on_hull.shape[0]] = np.where(on_hull > RETAINED * on_hull[0], on_hull, 0.0)
        return found

    @property
    def rank(self) -> int:
        """Directions of the data that are kept."""
        return int(np.count_nonzero(self.singular_values))

    @property
    def constants(self) -> tuple[float, float]:
        """(m, L), for all pairs of the data's subspace."""
        return float(self.singular_values[-1]), float(self.singular_values[0])

    @property
    def scale(self) -> float:
        """c, the geometric mean of what is kept."""
        kept = self.singular_values[: self.rank]
        return float(np.exp(np.mean(np.log(kept))))

    @property
    def tangential_distortion(self) -> float:
        """Mean of (log(s^2 / c^2))^2 over what is kept."""
        kept = self.singular_values[: self.rank]
        return float(np.mean(np.log((kept / self.scale) ** 2) ** 2))

    @property
    def dimensional_compression(self) -> float:
        """Share of the data's directions that is lost."""
        return 1.0 - self.rank / self.law.rank

    @property
    def covariance(self) -> np.ndarray:
        """Of the latent."""
        return self.matrix @ self.law.covariance @ self.matrix.T

    def __call__(self, X: np.ndarray) -> np.ndarray:
        """Latents of rows."""
        return X @ self.matrix.T

    def curve(self, levels: np.ndarray = LEVELS) -> InformationCurve:
        """The exact curve of the latent at c times the data's `levels`."""
        return gaussian_curve(self.covariance, self.scale * levels)


def subspace_law(n_features: int = 8, rank: int = 4, seed: int = 0) -> ToyLaw:
    """Data on a random subspace, its variances geometric from 4 to 1/4."""
    rng = np.random.default_rng(seed)
    basis = _orthonormal(rng, n_features, rank)
    return ToyLaw(f"{rank} of {n_features}", basis, np.geomspace(4.0, 0.25, rank))


def full_rank_law(n_features: int = 4, seed: int = 0) -> ToyLaw:
    """Data that fill their space."""
    law = subspace_law(n_features, n_features, seed)
    return ToyLaw(f"all of {n_features}", law.basis, law.variances)


def toy_encoders(law: ToyLaw, seed: int = 1) -> list[ToyEncoder]:
    """Each way in which a linear encoder can treat the law's subspace.

    A stretch multiplies the data's own axes by factors of geometric mean 1, the widest axis by the
    largest, so that it adds to the data's own spread; the whitening is the stretch that undoes it.
    """
    rng = np.random.default_rng(seed)
    k, D = law.rank, law.n_features
    onto = law.basis.T
    half = max(1, k // 2)
    found = {
        "isometry": 0.5 * _orthonormal(rng, k, k) @ onto,
        f"drop to {half}": onto[:half],
        "whitening": onto / np.sqrt(law.variances)[:, None],
    }
    for condition in (2, 8, 32):
        factors = np.geomspace(condition**0.5, condition**-0.5, k)
        found[f"stretch {condition}"] = (_orthonormal(rng, k, k) * factors) @ onto
    found["expansion"] = 2.0 * _orthonormal(rng, D + k, D)
    found["random"] = rng.standard_normal((k + 2, D)) / np.sqrt(D)
    return [ToyEncoder(name, law, matrix) for name, matrix in found.items()]


def exact_sandwiches(encoder: ToyEncoder, levels: np.ndarray = LEVELS) -> dict[str, Sandwich]:
    """Every sandwich of a linear encoder of Gaussian data, from closed forms on all sides.

    At c times the data's `levels`. The wide forms say nothing where a direction is lost.
    """
    m, L = encoder.constants
    latent = encoder.curve(levels)
    over_m, over_L = sandwich_levels(latent.noise_levels, m, L)
    at_m = None if over_m is None else encoder.law.curve(over_m)
    at_L = encoder.law.curve(over_L)
    asked = [(name, "tight") for name in ("fisher_information", "fisher_information_rate")]
    asked += [(name, "tight") for name in ("mmse", "mmse_rate")]
    if at_m is not None:
        asked += [(name, "wide") for name in ("fisher_information", "mmse")]
    facts = {"linear": True, "gaussian": True, "exact_constants": True}
    found = {
        f"{name}, {kind}": fisher_sandwich(
            latent, at_m, at_L, m=m, L=L, rank=encoder.law.rank, quantity=name, kind=kind, **facts
        )
        for name, kind in asked
    }
    found["mutual_information"] = information_sandwich(
        latent, at_m, at_L, m=m, L=L, exact_constants=True
    )
    return found


def compression_share(encoder: ToyEncoder, levels: np.ndarray = LEVELS) -> dict[str, np.ndarray]:
    """How much of the change of FI and FIR is the bookkeeping of dimensions.

    t (c^2 J_Z - J_X) = (d - D) + (d_eff_X - d_eff_Z) and, with g = rate - 2 d_eff,
    t^2 (c^4 R_Z - R_X) = (d - D) + (g_Z - g_X): the first term is a constant of the two spaces, the
    second what the encoder does to the law. The share is the first's part in the two sizes.
    """
    data, latent = encoder.law.curve(levels), encoder.curve(levels)
    constant = float(encoder.n_features - encoder.law.n_features)
    of_J = data.effective_dimension - latent.effective_dimension
    of_R = latent.mmse_rate - data.mmse_rate + 2 * of_J
    return {
        "d - D": np.full(len(levels), constant),
        "rest of FI": of_J,
        "rest of FIR": of_R,
        "share of FI": _share(constant, of_J),
        "share of FIR": _share(constant, of_R),
    }


def _share(constant: float, rest: np.ndarray) -> np.ndarray:
    """NaN where neither term is above rounding: nothing has changed."""
    size = abs(constant) + np.abs(rest)
    return np.where(size > 1e-9, abs(constant) / np.where(size > 1e-9, size, 1.0), np.nan)


def _orthonormal(rng: np.random.Generator, n: int, k: int) -> np.ndarray:
    return np.linalg.qr(rng.standard_normal((n, k)))[0]
