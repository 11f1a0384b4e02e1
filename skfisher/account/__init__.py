r"""The Fisher information rate of an encoder's data and latent as an account along the noise.

Around each anchor x_j, with the same rows and the same noise eps, four laws are smoothed: 0 the
flat data v_i (log-map coordinates of the rows about the anchor), 1 the data x_i - x_j, 2 the flat
image B v_i, 3 the latent z_i - z_j. Data live at noise t, latents at t_Z = c^2 t. With C the
covariance of the empirical posterior,

    d_eff = E tr C / t,    rate = E |C|_F^2 / t^2,    t^2 R = rate - 2 d_eff + n,

and the step from channel 0 to channel 3 is split, the same way for all three, into

    data = 1 - 0,    tangential = 2 - 0,    encoder = (3 - 2) - (1 - 0)

and, in t^2 R alone, the constant d - D.
"""

from skfisher.account.along_noise import fisher_rate_account
from skfisher.account.results import (
    CHANNELS,
    QUANTITIES,
    TERMS,
    AccountLimits,
    AccountTerms,
    RateAccount,
    dominant,
    worst_samples,
)

__all__ = [
    "CHANNELS",
    "QUANTITIES",
    "TERMS",
    "AccountLimits",
    "AccountTerms",
    "RateAccount",
    "dominant",
    "fisher_rate_account",
    "worst_samples",
]
