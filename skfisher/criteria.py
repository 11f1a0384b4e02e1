"""Numbers that may stand behind `diffusability_`: one value per latent, higher is better.

Which one to take was decided by an experiment: see "The evidence" in the documentation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from skfisher._backend.arrays import Array, index_like, like, namespace
from skfisher._backend.rows import error_of_mean
from skfisher.curves import mean_complexity, viv_weights
from skfisher.evaluation import CurveFit
from skfisher.surrogates import SurrogateDistance

__all__ = [
    "CRITERIA",
    "Criterion",
    "Diffusability",
    "by_curve",
    "by_surrogate",
    "in_own_scale",
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
    beyond : float
        Of "viv", the part of minus the value that lies beyond the grid, where d_eff goes with the
        variance.
    """

    criterion: str
    value: float
    stderr: float
    row_values: Array
    own_stderr: float = 0.0
    surrogate: SurrogateDistance | None = None
    beyond: float = 0.0


def resolve_criterion(criterion: Any, *, features: Any = None) -> str:
    """The criterion that is meant; "auto" is "surrogate" with features, else "viv".

    It depends on nothing that one encoder has and another lacks, so that encoders are compared by
    one number.

    Raises
    ------
    ValueError
        An unknown criterion, or features for one that does not look at them.

    Examples
    --------
    >>> resolve_criterion("auto"), resolve_criterion("auto", features=abs)
    ('viv', 'surrogate')
    """
    if criterion == "auto":
        return "viv" if features is None else "surrogate"
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
    rows = value + inside - brought @ weights
    # beyond the grid it is closed by the variances of the whole sample
    beyond = -value - inside
    return Diffusability(criterion, value, curve.viv_stderr * n / scale, rows, beyond=beyond)


def in_own_scale(found: Diffusability, Z: Array, weights: Any, groups: Any) -> Diffusability:
    """The VIV's rows and error, with what each row does to the scale that is its unit.

    A row far out raises the VIV and the scale alike, so that most of the VIV's own error cancels;
    beyond the grid it raises the VIV as it raises the squared scale.

    Parameters
    ----------
    found : Diffusability
        By "viv", with one of `row_values` for each row of Z.
    Z : array of shape (N, d)
    weights, groups : array of shape (N,) or None
    """
    xp = namespace(Z)
    w = xp.ones_like(Z[:, 0]) if weights is None else like(weights, Z)
    w = w / xp.sum(w)
    far = xp.sum((Z - xp.sum(w[:, None] * Z, axis=0)) ** 2, axis=1)
    share = far / xp.sum(w * far)  # of the squared scale, of mean one
    moved = (found.value / 2 + found.beyond) * like(1 - share, found.row_values)
    rows = found.row_values + moved
    before, after = (error_of_mean(v, weights, groups) for v in (found.row_values, rows))
    stderr = found.stderr * after / before if before > 0 else found.stderr
    return replace(found, row_values=rows, stderr=stderr)


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
