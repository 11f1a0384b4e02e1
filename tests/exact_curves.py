"""Exact information curves of known laws, and the sandwich of a latent with its data."""

from dataclasses import replace

import numpy as np

from skfisher.bounds import fisher_sandwich, information_sandwich, sandwich_levels
from skfisher.curves import gaussian_curve
from skfisher.scores.closed import GaussianMixtureScore

__all__ = ["curve_of", "line_curve", "mapped", "plane_curve", "random_mixture", "sandwich"]


def curve_of(levels, n, d_eff, rate, information=None):
    """An exact curve from d_eff, rate and information; what no bound reads is a Gaussian's."""
    t = levels**2
    J = (n - d_eff) / t
    information = np.zeros_like(t) if information is None else information
    return replace(
        gaussian_curve(np.eye(n), levels),
        fisher_information=J,
        fisher_information_rate=(rate - 2 * d_eff + n) / t**2,
        mmse=t * d_eff,
        mmse_rate=rate,
        effective_dimension=d_eff,
        fisher_information_bounds=np.stack([J, J], axis=1),
        mutual_information=information,
        mutual_information_bounds=np.stack([information, information], axis=1),
    )


def line_curve(x, weights, levels):
    """Exact curve of atoms on a line, by the trapezoidal rule (spectrally accurate)."""
    d_eff, rate, information = [], [], []
    for sigma in levels:
        t = sigma**2
        y = np.arange(x.min() - 9 * sigma, x.max() + 9 * sigma, sigma / 4)
        joint = weights * np.exp(-((y[:, None] - x) ** 2) / (2 * t)) / np.sqrt(2 * np.pi * t)
        p = joint.sum(axis=1)
        posterior = joint / np.maximum(p, 1e-300)[:, None]
        mean = posterior @ x
        variance = np.sum(posterior * (x - mean[:, None]) ** 2, axis=1)
        entropy = -np.sum(p * np.log(np.maximum(p, 1e-300))) * sigma / 4
        d_eff.append(np.sum(p * variance) * sigma / 4 / t)
        rate.append(np.sum(p * variance**2) * sigma / 4 / t**2)
        information.append(entropy - 0.5 * np.log(2 * np.pi * np.e * t))
    return curve_of(levels, 1, np.asarray(d_eff), np.asarray(rate), np.asarray(information))


def plane_curve(law, levels):
    """Exact curve of a mixture in the plane, by the trapezoidal rule."""
    weights, means, covariances = law
    model = GaussianMixtureScore(weights, means, covariances)
    d_eff, rate, information = [], [], []
    for sigma in levels:
        reach = 8 * np.sqrt(sigma**2 + np.linalg.eigvalsh(covariances)[:, -1])[:, None]
        step = np.sqrt(sigma**2 + np.linalg.eigvalsh(covariances).min()) / 2.5
        ends = np.min(means - reach, axis=0), np.max(means + reach, axis=0)
        axes = [np.arange(low, high, step) for low, high in zip(*ends, strict=True)]
        y = np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 2)
        local, log_p = model.moments(y, sigma), model.log_density(y, sigma)
        mass = np.exp(log_p) * step**2
        d_eff.append(mass @ local.denoiser_trace)
        rate.append(mass @ local.denoiser_squared_norm)
        information.append(-mass @ log_p - np.log(2 * np.pi * np.e * sigma**2))
    return curve_of(levels, 2, np.asarray(d_eff), np.asarray(rate), np.asarray(information))


def mapped(law, A):
    weights, means, covariances = law
    return weights, means @ A.T, A @ covariances @ A.T


def random_mixture(rng, K=3):
    roots = rng.normal(size=(K, 2, 2)) * rng.uniform(0.2, 0.8, size=(K, 1, 1))
    covariances = roots @ roots.swapaxes(1, 2) + 0.02 * np.eye(2)
    return rng.dirichlet(np.full(K, 2.0)), rng.normal(size=(K, 2)) * 1.5, covariances


def sandwich(make_data, latent, m, L, **options):
    over_m, over_L = sandwich_levels(latent.noise_levels, m, L)
    data = None if over_m is None else make_data(over_m), make_data(over_L)
    if options.get("quantity") == "mutual_information":
        options.pop("quantity")
        return information_sandwich(latent, *data, m=m, L=L, **options)
    return fisher_sandwich(latent, *data, m=m, L=L, **options)
