"""The published numbers, of the same encoder."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.zoo.measures.case import SURROGATE_ROWS, Case
from skfisher.rivals import RIVALS, rival_metrics

__all__ = ["entry", "rivals"]

RIVAL_ROWS = 5000


def entry(value: Any, stderr: Any, seconds: float, reason: str) -> dict[str, Any]:
    """One number as JSON takes it."""
    value = float(value)
    error = None if stderr is None or not math.isfinite(stderr) else float(stderr)
    entry: dict[str, Any] = {"value": value, "stderr": error, "seconds": round(seconds, 3)}
    if not math.isfinite(value):
        entry |= {"value": None, "stderr": None, "reason": reason or f"value is {value}"}
    return entry


def rivals(case: Case, real_features: np.ndarray | None) -> dict[str, dict[str, Any]]:
    """Everything of `skfisher.rivals` whose inputs are at hand, and the reconstruction error."""
    n = min(len(case.Z), RIVAL_ROWS)
    few = min(n, SURROGATE_ROWS)
    placed = len(case.latent_shape) == 3
    shape = case.latent_shape if placed else None
    out: dict[str, dict[str, Any]] = {}
    for name, rival in RIVALS.items():
        if not rival.by_default:
            continue
        start = time.process_time()
        given: dict[str, Any] = {"latent_shape": shape, "y": None}
        rows = n
        if case.labels is not None:
            given["y"] = case.labels[:n]
        if name == "equivariance":
            rows = few
            given |= {"images": case.rows[:few].reshape(few, *case.images.shape[1:])}
            given |= {"encoder": case.encoder_of_images} if placed else {}
        if name == "interpolation_distance":
            rows = few
            known = None if real_features is None else real_features[:few]
            given["decoder"] = case.decode
            given["X"] = case.images[:few] if known is None else known
            given["features"] = _either(case)
        if given["y"] is not None:
            given["y"] = given["y"][:rows]
        try:
            metric = rival_metrics(case.Z[:rows], include=[name], random_state=case.seed, **given)[
                name
            ]
            value, stderr, reason = metric.value, metric.stderr, metric.reason
        except Exception as error:  # one number that fails must not cost the others
            value, stderr, reason = math.nan, None, f"{type(error).__name__}: {error}"
        out[name] = entry(value, stderr, time.process_time() - start, reason)
    start = time.process_time()
    errors = np.mean((case.reconstructed - case.rows[: len(case.reconstructed)]) ** 2, axis=1)
    spread = float(errors.std()) / math.sqrt(len(errors))
    out["reconstruction"] = entry(errors.mean(), spread, time.process_time() - start, "")
    return out


def _either(case: Case) -> Callable[[np.ndarray], np.ndarray]:
    """Features of decoded rows, of images, or those that are known already."""

    def features(values: np.ndarray) -> np.ndarray:
        if values.dtype == np.uint8:
            return case.features(values)
        return case.features_of(values) if values.shape[1] == case.rows.shape[1] else values

    return features
