"""Inequalities between the curves of data and latent, each with hypotheses, slack and verdict.

A latent at noise t is compared with the data at t / m^2 and t / L^2, where m and L are the
bi-Lipschitz constants of the encoder. Every quantity is put together from d_eff = n - tJ and the
MMSE rate, which are free of the dimension n of the space they are measured in: with k the dimension
of the *data's* affine hull, in both spaces,

    J'(t) = J - (n - k)/t = (k - d_eff)/t,    R'(t) = R - (n - k)/t^2 = (rate - 2 d_eff + k)/t^2,

so nothing cancels against (n - k)/t. Substituting, each side of the tight form is the data's own
d_eff and rate written at the latent's t, and the wide form is the tight one with its two sides
exchanged and stretched by L^2 / m^2.
"""

from skfisher.bounds.sandwiches import (
    fisher_sandwich,
    information_sandwich,
    isometry_identity,
    sandwich_levels,
)
from skfisher.bounds.verdicts import Hypothesis, Sandwich

__all__ = [
    "Hypothesis",
    "Sandwich",
    "fisher_sandwich",
    "information_sandwich",
    "isometry_identity",
    "sandwich_levels",
]
