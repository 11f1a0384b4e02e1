"""The candidates that were made after the first results, as the library measures them."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from benchmarks.zoo.candidates import RESOLUTIONS
from benchmarks.zoo.measures.published import entry
from skfisher import LatentGeometryAuditor
from skfisher.surrogates import FITTED, fit_surrogate, surrogate_distance

__all__ = ["LATE_MEASURES", "late_numbers", "shipped_numbers"]

LATE_ROWS = 2_000


def late_numbers(
    Z: np.ndarray,
    decode: Callable[[np.ndarray], np.ndarray],
    features: Callable[[np.ndarray], np.ndarray],
) -> dict[str, Any]:
    """Frechet distance of decoded mixture samples at each resolution.

    Parameters
    ----------
    Z : array of shape (N, d)
        The first 2,000 rows are fitted to and compared with.
    decode : callable
        Rows of Z to images.
    features : callable
        Images to rows of numbers.

    Returns
    -------
    dict
        "numbers": name -> {"value", "stderr", "seconds"}, each with the surrogate's own time.
    """
    Z = Z[:LATE_ROWS]
    remembered = _remembering(features)
    ways = {
        f"surrogate_resolved_{share}": {"features": remembered, "resolution": share}
        for share in RESOLUTIONS
    }
    return _distances(Z, Z, decode, ways)


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
    ways = {
        "surrogate_shipped": {"features": features},
        "surrogate_shipped_pixels": {"features": None},
    }
    return _distances(Z[: FITTED * points], Z[:points], decode, ways)


LATE_MEASURES = {"late": late_numbers, "shipped": shipped_numbers}
"""The function behind each kind of row."""


def _distances(
    fitted: np.ndarray,
    compared: np.ndarray,
    decode: Callable[[np.ndarray], np.ndarray],
    ways: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """Distances of one surrogate by name of the options, each with the surrogate's own time."""
    start = time.process_time()
    surrogate = fit_surrogate(fitted)
    fitting = time.process_time() - start
    numbers = {}
    for name, options in ways.items():
        start = time.process_time()
        found = surrogate_distance(compared, decode, surrogate=surrogate, **options)
        seconds = fitting + time.process_time() - start
        numbers[name] = entry(found.value, found.stderr, seconds, "")
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
