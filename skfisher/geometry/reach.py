"""Reach of data: how far from them their nearest point is still one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from skfisher._backend.arrays import namespace
from skfisher._backend.validation import as_sample
from skfisher.geometry.fits import LocalFit, mean_bend

__all__ = [
    "Reach",
    "reach_estimate",
]

_ABOVE_NOISE = 10.0  # distance from a tangent plane, over that of noise, that tells reach


@dataclass(frozen=True)
class Reach:
    """An upper estimate of the reach: no ball of a larger radius rolls along the data.

    Attributes
    ----------
    value : float
        Least |q - p|^2 / (2 dist(q - p, T_p)) over anchors p and rows q, in units of X.
    pair : tuple of int
        Rows p and q where it is attained; (-1, -1) for none.
    n_pairs : int
    reason : str
    """

    value: float
    pair: tuple[int, int]
    n_pairs: int
    reason: str


def reach_estimate(X: Any, fit: LocalFit) -> Reach:
    """Upper estimate of the reach after Aamari et al., over pairs of anchors and rows.

    Parameters
    ----------
    X : array of shape (N, D)
    fit : LocalFit

    Returns
    -------
    Reach
        NaN where the fit was not measurable.

    Notes
    -----
    The reach of a closed set is the infimum of |q - p|^2 / (2 dist(q - p, T_p)) over its pairs
    (Federer 1959; Aamari, Kim, Chazal, Michel, Rinaldo, Wasserman, EJS 2019), so any sample of
    pairs gives an upper estimate. Pairs nearer than the fits' radius, and those less than ten times
    the noise away from the tangent plane, tell noise. They are replaced by the fits: there the
    quotient tends to 1 / |II(u, u)|, of which the root mean square over anchors and u is taken.
    Noise may lower the least of many pairs by some tenth.
    """
    X = as_sample(X)
    xp = namespace(X)
    if not fit.measurable:
        return Reach(math.nan, (-1, -1), 0, fit.reason)
    bend = mean_bend(fit.second_form, fit.second_form_noise)
    noise = fit.normal_noise
    near = fit.radius
    best, pair, n_pairs = math.inf, (-1, -1), 0
    X = X - xp.mean(X, axis=0)[None, :]
    rows = [int(i) for i in fit.anchors]
    centres = xp.take(X, fit.anchors, axis=0) + fit.offset
    norms, products = xp.sum(X**2, axis=1), xp.matmul(X, xp.matrix_transpose(centres))
    for place, anchor in enumerate(rows):
        # far pairs: what cancels here is rounding beside them
        c, U = centres[place : place + 1, :], fit.basis[place, :, :]
        squares = norms - 2.0 * products[:, place] + xp.sum(c**2)
        along = xp.sum((xp.matmul(X, U) - xp.matmul(c, U)) ** 2, axis=1)
        away = squares - along - noise**2
        counted = (squares > near**2) & (away > (_ABOVE_NOISE * noise) ** 2)
        counted = counted & (away > 1e-12 * squares)
        away = xp.sqrt(xp.where(counted, away, 1.0 + 0.0 * away))
        quotient = xp.where(counted, squares / (2.0 * away), math.inf + 0.0 * squares)
        n_pairs += int(xp.sum(xp.astype(counted, xp.int64)))
        row = int(xp.argmin(quotient))
        if float(quotient[row]) < best:
            best, pair = float(quotient[row]), (anchor, row)
    reason = f"upper estimate: the least of {n_pairs} pairs farther apart than {near:.3g}"
    if bend > 0 and 1.0 / bend < best:
        best, pair = 1.0 / bend, (-1, -1)
        reason = f"upper estimate: one over the root mean square curvature, below {n_pairs} pairs"
    return Reach(best, pair, n_pairs, reason)
