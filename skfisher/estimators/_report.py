"""What an audit found, as one frozen record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from skfisher._backend.arrays import Array
from skfisher._backend.files import json_ready
from skfisher.bounds import Sandwich
from skfisher.channels import ChannelReport
from skfisher.curves import InformationCurve
from skfisher.diagnosis import Diagnosis
from skfisher.geometry import (
    BiLipschitz,
    DistanceProfile,
    FoldReport,
    IntrinsicDimension,
    LinearMap,
    Penalties,
    PlateauDimension,
    Scale,
)
from skfisher.preservation import Preservation
from skfisher.ranking import row_influence
from skfisher.surrogates import SurrogateDistance

__all__ = ["AuditReport"]

_SINGLE = {
    "": ("rows", "row_scores", "row_weights"),
    "bi_lipschitz": ("near_pairs", "near_ratios"),
    "penalties": ("pointwise", "anchors", "along_noise"),
    "folds": ("pairs", "anchor_shares"),
    "surrogate": ("row_values",),
    "linear_map": ("matrix", "basis", "origin", "image"),
}
"""Fields of a report that belong to single rows, pairs or anchors."""


@dataclass(frozen=True, eq=False)
class AuditReport:
    """What an audit found, for printing, plotting and saving.

    Attributes
    ----------
    diffusability, diffusability_stderr : float
        By the criterion; higher is better.
    own_stderr : float
        The part of the error that other encoders of the same rows do not share.
    criterion : str
        Of `skfisher.criteria.CRITERIA`.
    surrogate : SurrogateDistance or None
        What stands behind the criterion "surrogate".
    n_samples, n_rows : int
        Rows given, and rows audited (at most `max_points`).
    standardized : bool
        Whether each latent channel was brought to unit variance first.
    random_state : int
    device : str
        Where it was computed.
    linear : str
        Whether the encoder is affine on the data: "affine", "not affine" or "unknown", and why.
        Of an encoder that samples its posterior, the geometry is that of the posterior's means.
    linear_map : LinearMap or None
        The encoder on the hull of the data, where it is affine there.
    data_dimension, latent_dimension : IntrinsicDimension
        Estimates from neighbours; the tangent spaces are those of the data's, unless
        `intrinsic_dimension` was given.
    data_plateau, latent_plateau : PlateauDimension
        d_eff at small noise where it is flat, an independent estimate.
    scale : Scale
    bi_lipschitz : BiLipschitz
    distances : DistanceProfile or None
        |z - z'| / (c |x - x'|) by distance, with the worst pairs; None without a scale.
    penalties : Penalties
    folds : FoldReport or None
        Where the latent lies folded on itself; None for affine encoders of data that fill their
        affine hull, and for unknown derivatives.
    channels : ChannelReport
        How the latent's channels are distributed.
    sandwiches : mapping of str to Sandwich
    preservation : Preservation or None
        Whether the latent keeps the data's MMSE rate, per noise level of the data.
    diagnosis : Diagnosis
        What is wrong, where it shows, and what to change.
    data_curve, latent_curve, matched_curve : InformationCurve
        Of the data; of the latent on its own grid; of the latent at c times the data's noise.
    rows : int array of shape (n_rows,)
        Which rows of X were audited.
    row_scores : array of shape (n_rows,)
        What each of them brings to `diffusability`, which is their mean (weighted; by "complexity"
        but for levels where t^2 R met its lower bound).
    row_weights : array of shape (n_rows,) or None
    influence : array of shape (n_rows,)
        By how much the score would move without each row, to first order.
    """

    diffusability: float
    diffusability_stderr: float
    own_stderr: float
    criterion: str
    surrogate: SurrogateDistance | None
    n_samples: int
    n_rows: int
    standardized: bool
    random_state: int
    device: str
    linear: str
    linear_map: LinearMap | None
    data_dimension: IntrinsicDimension
    latent_dimension: IntrinsicDimension
    data_plateau: PlateauDimension
    latent_plateau: PlateauDimension
    scale: Scale
    bi_lipschitz: BiLipschitz
    distances: DistanceProfile | None
    penalties: Penalties
    folds: FoldReport | None
    channels: ChannelReport
    sandwiches: Mapping[str, Sandwich]
    preservation: Preservation | None
    diagnosis: Diagnosis
    data_curve: InformationCurve
    latent_curve: InformationCurve
    matched_curve: InformationCurve
    rows: Any
    row_scores: Array
    row_weights: Array | None

    @property
    def influence(self) -> Array:
        """By how much the score would move without each row."""
        return row_influence(self.row_scores, self.row_weights)

    def to_dict(self) -> dict[str, Any]:
        """Everything but what belongs to single rows, pairs and anchors, ready for JSON."""
        plain: dict[str, Any] = json_ready(self)
        for where, names in _SINGLE.items():
            part = plain[where] if where else plain
            for name in names:
                if part is not None:
                    part.pop(name, None)
        return plain
