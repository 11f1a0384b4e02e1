"""Exact scores of Gaussians and Gaussian mixtures, from one eigendecomposition per component.

With S = Q diag(lam) Q^T and t = sigma^2, a Gaussian component of X + sigma eps has the precision
P = Q diag(1 / (lam + t)) Q^T, the score s = -P (y - mean), and I - tP = Q diag(lam / (lam + t)) Q^T
is the Jacobian of its denoiser. Both diagonals are formed as they stand, neither as one minus the
other, so no noise level cancels.
"""

from skfisher.scores.closed.gaussian import GaussianScore
from skfisher.scores.closed.mixture import GaussianMixtureScore

__all__ = ["GaussianMixtureScore", "GaussianScore"]
