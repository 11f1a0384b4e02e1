"""Numbers in the metric of the data: what is denoised, or drawn from a surrogate, is decoded."""

from __future__ import annotations

import numpy as np

from benchmarks.zoo.measures.case import (
    N_LEVELS,
    SURROGATE_ROWS,
    THIN,
    Case,
    Numbers,
    principal_axes,
)
from skfisher.decoding import DecodedError
from skfisher.frechet import frechet_distance

__all__ = ["encoder_metric", "feature_metric", "linear_metric", "pixel_metric", "surrogates"]

METRIC_ANCHORS = 128
FEATURE_ROWS = 250


def _decoded(found: DecodedError, metric: str) -> Numbers:
    out: Numbers = {}
    for name, quantity in (
        ("decoded_error", "decoded_error"),
        ("linear_error", "linear_error"),
        ("decoded_nonlinearity", "nonlinearity"),
    ):
        for over in ("log", "flow"):
            out[f"{name}_{metric}_{over}"] = found.mean(quantity, over)
    first = float(found.sensitivity[0]), float(found.sensitivity_stderr[0])
    return out | {f"sensitivity_{metric}": first}


def linear_metric(case: Case) -> Numbers:
    """The sensitivity is the linear decoder's gain, without an error."""
    return _decoded(case.through_linear, "linear") | {"sensitivity_linear": (case.gain, None)}


def encoder_metric(case: Case) -> Numbers:
    n = min(METRIC_ANCHORS, len(case.Z))
    eye = np.broadcast_to(np.eye(case.d), (n, case.d, case.d)).astype(np.float32)
    D = np.asarray(case.encoder.pullback(case.rows[:n], eye), dtype=np.float64)  # (n, d, D)
    metrics = np.linalg.pinv(D @ D.transpose(0, 2, 1), rcond=1e-6, hermitian=True)
    lam, axes = np.linalg.eigh(metrics.mean(axis=0))
    root = axes * np.sqrt(np.clip(lam, 0.0, None))
    return _decoded(case.denoising.through(root, levels=THIN), "encoder")


def pixel_metric(case: Case) -> Numbers:
    found = case.through_pixels
    out = _decoded(found, "pixels")
    out["sensitivity_pixels_mean"] = found.mean("sensitivity")
    value, error = found.sensitivity[0], found.sensitivity_stderr[0]
    return out | {"sensitivity_ratio": (float(value) / case.gain, float(error) / case.gain)}


def feature_metric(case: Case) -> Numbers:
    levels = (2, N_LEVELS // 2 - 1, 14)  # 0.08, 0.4 and 1.3 RMS
    found = case.denoising.through(
        lambda z: case.features_of(case.decode(z)), levels=levels, max_points=FEATURE_ROWS
    )
    out: Numbers = {}
    for name, quantity in (
        ("decoded_error_features", "decoded_error"),
        ("linear_error_features", "linear_error"),
        ("decoded_nonlinearity_features", "nonlinearity"),
    ):
        out[name] = found.mean(quantity)
    first = float(found.sensitivity[0]), float(found.sensitivity_stderr[0])
    return out | {"sensitivity_features": first}


def surrogates(case: Case) -> Numbers:
    """Frechet distances of decoded samples to reconstructions; in pixels, along the latter's first
    principal axes and over their variance there.
    """
    n = min(SURROGATE_ROWS, len(case.Z))
    images = case.reconstructed[:n].astype(np.float64)
    mean = images.mean(axis=0)
    axes = principal_axes(images - mean)
    flat = (images - mean) @ axes
    known = case.reconstructed_features
    target = (case.features_of(images) if known is None else known[:n]).astype(np.float64)
    out: Numbers = {}
    for name, model in (("gaussian", case.denoising.linear), ("mixture", case.mixture)):
        made = case.decode(np.asarray(model.sample(n, case.seed + 1)))
        value, error = frechet_distance((made - mean) @ axes, flat)
        total = float(np.sum(flat.var(axis=0)))
        out[f"surrogate_{name}_pixels"] = (value / total, error / total)
        out[f"surrogate_{name}_features"] = frechet_distance(
            case.features_of(made).astype(np.float64), target
        )
    return out
