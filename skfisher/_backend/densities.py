"""Densities of points on the host: kernel estimates in the plane, Gaussian mixtures."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from skfisher._backend.arrays import Array, to_numpy

__all__ = [
    "embed_by_tsne",
    "mixture_log_likelihoods",
    "pair_potential",
    "plane_densities",
    "unevenness",
]

_BLOCK = 2**22


def embed_by_tsne(points: Array, seed: int) -> Any:
    """Two coordinates per row, by t-SNE with its usual perplexity 30 from a PCA start."""
    from sklearn.manifold import TSNE

    host = np.asarray(to_numpy(points), dtype=np.float64)
    perplexity = min(30.0, (len(host) - 1) / 3)
    return TSNE(2, perplexity=perplexity, init="pca", random_state=seed).fit_transform(host)


def plane_densities(points: Any, weights: Any) -> Any:
    """Kernel density at every point for each row of `weights`: (B, N).

    Whitened coordinates, Gaussian kernel, bandwidth N^(-1/6) (Scott's rule in the plane). A
    point's own kernel is part of its density. Whitening and bandwidth are those of all points.
    """
    host = np.asarray(to_numpy(points), dtype=np.float64)
    centred = host - host.mean(axis=0)
    cov = centred.T @ centred / (len(host) - 1)
    flat = np.linalg.solve(np.linalg.cholesky(cov), centred.T).T
    width = len(host) ** (-1.0 / 6.0)
    square = (flat**2).sum(axis=1)
    parts = []
    step = max(1, _BLOCK // len(host))
    for start in range(0, len(host), step):
        block = slice(start, start + step)
        gap = square[block, None] + square[None, :] - 2 * flat[block] @ flat.T
        parts.append(np.exp(-np.maximum(gap, 0.0) / (2 * width**2)) @ weights.T)
    return np.concatenate(parts).T


def unevenness(density: Any, weights: Any) -> dict[str, Any]:
    """Coefficient of variation, Gini coefficient and normalised entropy of densities at points.

    Parameters
    ----------
    density, weights : arrays of shape (B, N)

    Returns
    -------
    dict of str to vector of length B
    """
    share = weights / weights.sum(axis=1, keepdims=True)
    mean = (share * density).sum(axis=1, keepdims=True)
    ratio = density / mean
    order = np.argsort(density, axis=1, kind="stable")
    sorted_share = np.take_along_axis(share, order, axis=1)
    part = sorted_share * np.take_along_axis(ratio, order, axis=1)
    lorenz = np.cumsum(part, axis=1) - part / 2
    count = weights.sum(axis=1)
    log = np.log(np.where(ratio > 0, ratio, 1.0))  # x log x tends to 0
    return {
        "density_cv": np.sqrt((share * (ratio - 1) ** 2).sum(axis=1)),
        "gini": 1 - 2 * (sorted_share * lorenz).sum(axis=1),
        "normalized_entropy": 1 - (share * ratio * log).sum(axis=1) / np.log(count),
    }


def mixture_log_likelihoods(
    points: Array, n_components: Sequence[int], n_folds: int, seed: int
) -> tuple[Any, int]:
    """Held-out log-likelihood of every row under mixtures of several sizes, (len, N).

    Returns
    -------
    log_likelihoods : array
        Of the fold that a row was left out of.
    n_open : int
        Fits that stopped at 100 rounds of EM without settling.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    host = np.asarray(to_numpy(points), dtype=np.float64)
    n_rows = len(host)
    fold = np.random.default_rng(seed).permutation(n_rows) % n_folds
    out = np.empty((len(n_components), n_rows))
    n_open = 0
    floor = 1e-6 * float(host.var(axis=0).mean())
    for row, size in enumerate(n_components):
        for k in range(n_folds):
            model = GaussianMixture(size, reg_covar=floor, random_state=seed, tol=1e-3)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                model.fit(host[fold != k])
            n_open += not model.converged_
            out[row, fold == k] = model.score_samples(host[fold == k])
    return out, n_open


def pair_potential(points: Array, t: float) -> tuple[float, float]:
    """Logarithm of the mean of exp(-t |u - v|^2) over pairs of rows, and its U-statistic error."""
    host = np.asarray(to_numpy(points), dtype=np.float64)
    n_rows = len(host)
    square = (host**2).sum(axis=1)
    own = np.empty(n_rows)
    step = max(1, _BLOCK // n_rows)
    for start in range(0, n_rows, step):
        block = slice(start, start + step)
        gap = square[block, None] + square[None, :] - 2 * host[block] @ host.T
        own[block] = np.exp(-t * np.maximum(gap, 0.0)).sum(axis=1)
    own = (own - 1.0) / (n_rows - 1)
    mean = float(own.mean())
    stderr = 2 * float(own.std(ddof=1)) / math.sqrt(n_rows)
    return math.log(mean), stderr / mean
