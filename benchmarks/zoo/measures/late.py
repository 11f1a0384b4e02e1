"""The candidates that were made after the first results, as the library measures them."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.zoo.candidates import RESOLUTIONS
from benchmarks.zoo.measures.published import entry
from skfisher import LatentGeometryAuditor
from skfisher.surrogates import FITTED, fit_surrogate, surrogate_distance

__all__ = ["late_numbers", "shipped_numbers"]


def late_numbers(
    Z: np.ndarray,
    decode: Callable[[np.ndarray], np.ndarray],
    features: Callable[[np.ndarray], np.ndarray],
) -> dict[str, Any]:
    """Frechet distance of decoded mixture samples at each resolution.

    Parameters
    ----------
    Z : array of shape (N, d)
    decode : callable
        Rows of Z to images.
    features : callable
        Images to rows of numbers.

    Returns
    -------
    dict
        "numbers": name -> {"value", "stderr", "seconds"}, each with the surrogate's own time.
    """
    start = time.process_time()
    remembered = _remembering(features)
    surrogate = fit_surrogate(Z)
    fitting = time.process_time() - start
    numbers = {}
    for share in RESOLUTIONS:
        start = time.process_time()
        found = surrogate_distance(
            Z, decode, features=remembered, surrogate=surrogate, resolution=share
        )
        seconds = fitting + time.process_time() - start
        numbers[f"surrogate_resolved_{share}"] = entry(found.value, found.stderr, seconds, "")
    return {"numbers": numbers, "surrogate": surrogate.name}


def shipped_numbers(
    Z: np.ndarray,
    decode: Callable[[np.ndarray], np.ndarray],
    features: Callable[[np.ndarray], np.ndarray],
) -> dict[str, Any]:
    """What the library measures by default, in features and in pixels.

    Parameters
    ----------
    Z : array of shape (N, d)
        At most 10,000 rows are fitted to, and the first 2,000 are compared with.
    decode, features : callable
        As in `late_numbers`.

    Returns
    -------
    dict
        As `late_numbers`.
    """
    points = LatentGeometryAuditor().max_points
    start = time.process_time()
    surrogate = fit_surrogate(Z[: FITTED * points])
    fitting = time.process_time() - start
    numbers = {}
    for suffix, seen in (("", features), ("_pixels", None)):
        start = time.process_time()
        found = surrogate_distance(Z[:points], decode, features=seen, surrogate=surrogate)
        seconds = fitting + time.process_time() - start
        numbers[f"surrogate_shipped{suffix}"] = entry(found.value, found.stderr, seconds, "")
    return {"numbers": numbers, "surrogate": surrogate.name}


def _remembering(features: Callable[[np.ndarray], np.ndarray]) -> Callable[..., np.ndarray]:
    """Features that are not computed twice of the same images: the reconstructions."""
    known: dict[str, np.ndarray] = {}

    def remembered(images: np.ndarray) -> np.ndarray:
        key = hashlib.sha256(images.tobytes()).hexdigest()
        if key not in known:
            known[key] = features(images)
        return known[key]

    return remembered
