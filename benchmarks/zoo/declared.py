"""What was announced of every number before the runs: its direction, and what it needs."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from skfisher.rivals import RIVALS

__all__ = [
    "FROM_ENCODER_ROWS",
    "LEVELS",
    "Declared",
    "declared_numbers",
    "level_of",
    "oriented",
    "rival_numbers",
]

LEVELS = ("latents", "encoder", "decoder", "features")
"""What a number needs, each level with all before it; "encoder" stands for data, labels and it."""

_LEVEL_OF_INPUT = {
    "latents": 0,
    "positions": 0,
    "labels": 1,
    "y": 1,
    "data": 1,
    "images": 1,
    "encoder": 1,
    "decoder": 2,
    "features": 3,
}
_RIVAL_DIRECTIONS: dict[str, bool | None] = {
    "gaussian_viv": False,
    "gaussian_viv_channel": False,
    "gaussian_viv_raw": False,
    "gaussian_viv_by_class": False,
    "kronecker_viv": False,
    "kronecker_viv_by_class": False,
    "sec_0.25": False,
    "sec_0.5": False,
    "lds": True,
    "cds": True,
    "uniformity_gini": False,
    "uniformity_cv": False,
    "uniformity_entropy": True,
    "uniformity_tsne": True,
    "hypersphere_uniformity": False,
    "two_nn_dimension": None,
    "mle_dimension": None,
    "gmm_likelihood": True,
    "neighbour_consistency": True,
    "equivariance": False,
    "interpolation_distance": False,
}
FROM_ENCODER_ROWS = {
    "reconstruction": ("decoder", "mean squared error of reference images, on [-1, 1]"),
    "reconstruction_frechet": ("features", "Frechet distance of reconstructed to real images"),
}
"""Rivals that no candidate row holds: the smaller, the better."""


class Declared(NamedTuple):
    """A number as it was announced before the runs.

    `higher_is_better` is None where nobody said so; `needs` is one of `LEVELS`.
    """

    name: str
    kind: str  # "candidate", "rival", "choice" or "left out"
    higher_is_better: bool | None
    needs: str
    meaning: str = ""
    late: bool = False  # made after the first results


def level_of(needs: Any) -> str:
    """The level of what a number needs: a name of an input or several.

    Raises
    ------
    ValueError
        If an input is not known.
    """
    given = [needs] if isinstance(needs, str) else list(needs)
    given = [part.strip() for name in given for part in name.replace(" or ", ",").split(",")]
    unknown = [name for name in given if name not in _LEVEL_OF_INPUT]
    if unknown:
        raise ValueError(f"needs names {unknown[0]!r}: there are {', '.join(_LEVEL_OF_INPUT)}.")
    return LEVELS[max((_LEVEL_OF_INPUT[name] for name in given), default=0)]


def rival_numbers() -> dict[str, Declared]:
    """The rivals with the direction of the literature, and what every encoder row holds."""
    found = {}
    for name, direction in _RIVAL_DIRECTIONS.items():
        # what transforms images and encodes them again needs the encoder
        needs = level_of([n for n in RIVALS[name].needs if n != "X or images"])
        found[name] = Declared(name, "rival", direction, needs)
    for name, (needs, meaning) in FROM_ENCODER_ROWS.items():
        found[name] = Declared(name, "rival", False, needs, meaning)
    return found


def declared_numbers() -> dict[str, Declared]:
    """Candidates of the tables `CANDIDATES` and `LATE`, and rivals."""
    from benchmarks.zoo.candidates import CANDIDATES, LATE

    found = {
        name: Declared(
            name,
            "candidate",
            candidate.higher_is_better,
            level_of(candidate.needs),
            candidate.meaning,
            candidate.late,
        )
        for name, candidate in (CANDIDATES | LATE).items()
    }
    return rival_numbers() | found


def oriented(values: np.ndarray, declared: Declared) -> np.ndarray:
    """Larger is better, as declared; unchanged where no direction was."""
    return -values if declared.higher_is_better is False else values
