"""Numbers that may stand behind `diffusability_`: one value per latent, higher is better.

Which one to take was decided by an experiment: see "The evidence" in the documentation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from skfisher._backend.arrays import Array, index_like, namespace
from skfisher.curves import mean_complexity, viv_weights
from skfisher.evaluation import CurveFit
from skfisher.surrogates import SurrogateDistance

__all__ = [
    "CRITERIA",
    "Criterion",
    "Diffusability",
    "by_curve",
    "by_surrogate",
    "resolve_criterion",
]


class Criterion(NamedTuple):
    """What a criterion is and what it needs beside the latents."""

    needs: str
    meaning: str
    label: str  # of an axis


CRITERIA: Mapping[str, Criterion] = {
    "surrogate": Criterion(
        "a decoder and, to predict well, features",
        "minus the Frechet distance of decoded samples of a mixture to decoded latents",
        r"$-$ Fréchet distance of decoded mixture samples",
    ),
    "viv": Criterion(
        "",
        "minus the velocity irreducible variance, summed over dimensions, over the RMS scale",
        r"$-$ VIV over all dimensions / RMS scale",
    ),
    "complexity": Criterion(
        "",
        "minus the mean of t^2 R / d over noise levels of 0.05 to 5 times the latent's RMS scale",
        r"$-$ mean of $t^2R/d$",
    ),
}
"""Numbers that `criterion` may name; "auto" chooses among them, see `resolve_criterion`."""


@dataclass(frozen=True, eq=False)
class Diffusability:
    """The value of a criterion.

    Attributes
    ----------
    criterion : str
        Of `CRITERIA`.
    value, stderr : float
        Higher is better.
    own_stderr : float
        The part of the error that two latents of the same rows do not share.
    row_values : array of shape (N,)
        What each row brings: the value moves with the rows' weights as their weighted mean does.
    surrogate : SurrogateDistance or None
        What stands behind "surrogate".
    """

    criterion: str
    value: float
    stderr: float
    row_values: Array
    own_stderr: float = 0.0
    surrogate: SurrogateDistance | None = None


def resolve_criterion(criterion: Any, *, features: Any = None) -> str:
    """The criterion that is meant; "auto" is "surrogate" with features, else "complexity".

    It depends on nothing that one encoder has and another lacks, so that encoders are compared by
    one number.

    Raises
    ------
    ValueError
        An unknown criterion, or features for one that does not look at them.

    Examples
    --------
    >>> resolve_criterion("auto"), resolve_criterion("auto", features=abs)
    ('complexity', 'surrogate')
    """
    if criterion == "auto":
        return "complexity" if features is None else "surrogate"
    if not isinstance(criterion, str) or criterion not in CRITERIA:
        known = ", ".join(map(repr, ("auto", *CRITERIA)))
        raise ValueError(f"criterion is {criterion!r}: it is one of {known}.")
    if features is not None and criterion != "surrogate":
        raise ValueError(
            f"features were given, which criterion={criterion!r} does not look at: pass "
            f"criterion='surrogate', or no features."
        )
    return criterion


def by_curve(criterion: str, fit: CurveFit, scale: float) -> Diffusability:
    """Value of "complexity" or "viv" from a curve that has its rows.

    Parameters
    ----------
    criterion : {"complexity", "viv"}
    fit : CurveFit
        Of the latent: on its own grid, for "complexity".
    scale : float
        RMS scale of the latent, the unit of the VIV.
    """
    curve, n = fit.curve, fit.curve.n_features
    xp = namespace(curve.noise_levels)
    of_rows = fit.row_penalties if criterion == "complexity" else fit.row_effective_dimensions
    values = curve.complexity_penalty if criterion == "complexity" else curve.effective_dimension
    finite = [k for k, value in enumerate(values) if math.isfinite(float(value))]
    index = index_like(finite, curve.noise_levels)
    brought = xp.take(of_rows, index, axis=1)
    if criterion == "complexity":
        score, error = mean_complexity(curve)
        return Diffusability(criterion, -score, error, -xp.mean(brought, axis=1) / n)
    levels = xp.take(curve.noise_levels, index, axis=0)
    weights = viv_weights(levels, n) * (n / scale)
    inside = float(xp.sum(weights * xp.take(curve.effective_dimension, index, axis=0)))
    value = -curve.viv * n / scale
    # beyond the grid it is closed by numbers of the whole sample
    rows = value + inside - brought @ weights
    return Diffusability(criterion, value, curve.viv_stderr * n / scale, rows)


def by_surrogate(distance: SurrogateDistance) -> Diffusability:
    """Value of "surrogate" from a distance that was measured."""
    return Diffusability(
        "surrogate",
        -distance.value,
        distance.stderr,
        -distance.row_values,
        distance.sampling_stderr,
        distance,
    )
