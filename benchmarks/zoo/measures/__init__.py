"""Measure every candidate and every published rival of one encoder."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from benchmarks.zoo.candidates import CANDIDATES
from benchmarks.zoo.measures.case import Case, Numbers
from benchmarks.zoo.measures.decoded import (
    encoder_metric,
    feature_metric,
    linear_metric,
    pixel_metric,
    surrogates,
)
from benchmarks.zoo.measures.encoder import geometry, local_geometry, mismatch
from benchmarks.zoo.measures.latents import curves, labelled, nonlinearities, sliced, spectrum
from benchmarks.zoo.measures.published import entry, rivals

__all__ = ["PARTS", "candidate_numbers", "names_of"]

PARTS: Mapping[Callable[[Case], Numbers], str] = {
    spectrum: (
        "log_condition participation entropy_rank dead_share kurtosis dimension log_dimension"
    ),
    curves: (
        "fir rate rate_excess noise_prediction noise_excess d_eff d_eff_spread viv viv_sum viv_gap"
    ),
    nonlinearities: "nonlinearity",
    sliced: "sliced_distance",
    labelled: "viv_class viv_class_gap",
    geometry: (
        "dimensional_compression tangential_distortion encoder_curvature curvature_change "
        "data_curvature log_distortion pair_spread diagnosis_weight"
    ),
    local_geometry: "tangential_distortion_local encoder_curvature_local",
    mismatch: "d_eff_mismatch",
    linear_metric: (
        "decoded_error_linear linear_error_linear decoded_nonlinearity_linear sensitivity_linear"
    ),
    encoder_metric: (
        "decoded_error_encoder linear_error_encoder decoded_nonlinearity_encoder "
        "sensitivity_encoder"
    ),
    pixel_metric: (
        "decoded_error_pixels linear_error_pixels decoded_nonlinearity_pixels sensitivity_pixels "
        "sensitivity_pixels_mean sensitivity_ratio"
    ),
    feature_metric: (
        "decoded_error_features linear_error_features decoded_nonlinearity_features "
        "sensitivity_features"
    ),
    surrogates: (
        "surrogate_gaussian_features surrogate_gaussian_pixels surrogate_mixture_features "
        "surrogate_mixture_pixels"
    ),
}
"""Names that each part measures, without their windows."""


def names_of(part: Callable[[Case], Numbers]) -> list[str]:
    """Names in `CANDIDATES` that a part measures, both windows of those that have them."""
    return [
        name + suffix
        for name in PARTS[part].split()
        for suffix in ("", "_log", "_flow")
        if name + suffix in CANDIDATES
    ]


def candidate_numbers(
    *,
    images: np.ndarray,
    Z: np.ndarray,
    autoencoder: torch.nn.Module,
    features: Callable[[np.ndarray], np.ndarray],
    latent_shape: tuple[int, ...],
    centre: np.ndarray | None = None,
    scale: float = 1.0,
    labels: np.ndarray | None = None,
    reconstructed_features: np.ndarray | None = None,
    real_features: np.ndarray | None = None,
    seed: int = 0,
    max_points: int = 2000,
    device: str = "cpu",
) -> dict[str, Any]:
    """Candidates and rivals of one encoder.

    Parameters
    ----------
    images : uint8 array of shape (N, C, 32, 32)
        Reference images.
    Z : float32 array of shape (N, d)
        Their latents, flat, centred and divided by one scalar.
    autoencoder : module with `encode` and `decode`
    features : callable
        uint8 images to (N, q).
    latent_shape : tuple of int
    centre, scale
        Z = (encode(images) - centre) / scale.
    labels : int array of shape (N,), optional
    reconstructed_features, real_features : arrays of shape (N, q), optional
        Of the images through the autoencoder and as they are, where they are known already.
    seed, max_points : int
        At most `max_points` rows are held out of the fits.
    device : str

    Returns
    -------
    dict
        "numbers" and "rivals": name -> {"value", "stderr", "seconds"} and "reason" where the value
        is null. "parts": seconds of each part.
    """
    case = Case(
        images,
        labels,
        np.asarray(Z, dtype=np.float64),
        np.zeros(Z.shape[1]) if centre is None else np.asarray(centre).reshape(-1),
        float(scale),
        autoencoder,
        features,
        reconstructed_features,
        tuple(latent_shape),
        seed,
        max_points,
        device,
    )
    found: dict[str, dict[str, Any]] = {}
    parts: dict[str, float] = {}
    for part in PARTS:
        start = time.process_time()
        try:
            numbers, reason = part(case), ""
        except Exception as error:  # one number that fails must not cost the others
            numbers, reason = {}, f"{type(error).__name__}: {error}"
        seconds = parts[part.__name__] = time.process_time() - start
        names = names_of(part)
        for name in names:
            value, stderr = numbers.get(name, (math.nan, None))
            why = reason or case.reasons.get(name, "not a finite number")
            found[name] = entry(value, stderr, seconds / len(names), why)
    numbers = {name: found[name] for name in CANDIDATES}
    start = time.process_time()
    published = rivals(case, real_features)
    parts["rivals"] = time.process_time() - start
    return {"numbers": numbers, "rivals": published, "parts": parts}
