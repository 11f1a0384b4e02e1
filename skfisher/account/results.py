"""What an account along the noise says, and the words for it."""

from __future__ import annotations

from dataclasses import dataclass

from skfisher._backend.arrays import Array, namespace

__all__ = [
    "CHANNELS",
    "QUANTITIES",
    "ROUNDING",
    "TERMS",
    "AccountLimits",
    "AccountTerms",
    "RateAccount",
    "dominant",
    "worst_samples",
]

CHANNELS = ("flat data", "data", "flat image", "latent")
"""The four smoothed laws, in the order of the last axis of `AccountTerms.channels`."""

TERMS = ("data curvature", "tangential distortion", "encoder curvature")
"""What the three terms measure, in the order of the last axis of `share` and `per_sample`."""

QUANTITIES = ("effective_dimension", "mmse_rate", "complexity_penalty")
"""What is split: d_eff, the MMSE rate, and t^2 R; fields of `RateAccount`."""

ROUNDING = 1e-9
"""Terms below count as zero."""


@dataclass(frozen=True)
class AccountLimits:
    """When a level of an account may be believed.

    Attributes
    ----------
    effective_sample_size : float
        Smallest median number of rows on which the posteriors of every channel rest. 50 keeps
        d_eff within 5 % of itself, and the terms within 1 % of k.
    off_chart : float
        Largest share of the flat data's posterior on rows farther away than the curvature at the
        anchor allows, where log-map coordinates mean nothing.
    """

    effective_sample_size: float = 50.0
    off_chart: float = 0.05


@dataclass(frozen=True, eq=False)
class AccountTerms:
    """One quantity of an account: four channels, and what leads from the first to the last.

    Attributes
    ----------
    channels, channels_stderr : array of shape (T, 4)
        Flat data, data, flat image, latent.
    dimension : float
        d - D in t^2 R, 0 otherwise: a constant, not evidence.
    data, tangential, encoder : array of shape (T,)
        ``channels[:, 3] - channels[:, 0] = dimension + data + tangential + encoder``, and
        ``tangential + encoder`` leads from data to latent.
    data_stderr, tangential_stderr, encoder_stderr : array of shape (T,)
        Over anchors and noise draws, which all channels share. Levels share the draws too, so
        their errors are correlated; the sampling error of the N rows themselves is not in them.
        Too large where the anchors cover the data evenly, as all rows of a grid do.
    share : array of shape (T, 3)
        Of each term in the sum of the three absolute values; NaN where all are zero to rounding.
    per_sample : array of shape (A, T, 3)
        The terms at each anchor, averaged over its draws.
    """

    channels: Array
    channels_stderr: Array
    dimension: float
    data: Array
    data_stderr: Array
    tangential: Array
    tangential_stderr: Array
    encoder: Array
    encoder_stderr: Array
    share: Array
    per_sample: Array


@dataclass(frozen=True, eq=False)
class RateAccount:
    """The telescoping account of d_eff, the MMSE rate and t^2 R from flat data to latent.

    Attributes
    ----------
    noise_levels : array of shape (T,)
        sigma of the data, in units of X; the latent is at `scale` times sigma.
    scale : float
        c, in z/x.
    effective_dimension, mmse_rate, complexity_penalty : AccountTerms
        d_eff, rate and t^2 R. The sign of a term of t^2 R alone is no verdict: read all three.
    effective_sample_size : array of shape (T,)
        Median number of rows under the posteriors, of the channel where it is smallest.
    valid : bool array of shape (T,)
    reasons : tuple of str
        Why a level is not valid; empty where it is. NaN stands where posteriors rest on one row.
    anchors : integer array of shape (A,)
        Rows of X, in the order of `per_sample`.
    n_draws : int
        Noise draws per anchor.
    limits : AccountLimits
    """

    noise_levels: Array
    scale: float
    effective_dimension: AccountTerms
    mmse_rate: AccountTerms
    complexity_penalty: AccountTerms
    effective_sample_size: Array
    valid: Array
    reasons: tuple[str, ...]
    anchors: Array
    n_draws: int
    limits: AccountLimits

    def __repr__(self) -> str:
        n_valid = sum(not reason for reason in self.reasons)
        return (
            f"RateAccount({self.anchors.shape[0]} anchors, {len(self.reasons)} noise levels, "
            f"{n_valid} of them valid)"
        )


def dominant(
    account: RateAccount, quantity: str | None = None, *, n_stderr: float = 2.0
) -> tuple[str, ...]:
    """Name the largest term of an account at every noise level.

    Parameters
    ----------
    account : RateAccount
    quantity : {"effective_dimension", "mmse_rate", "complexity_penalty"}, optional
        Default whichever of the three a term moves most. One alone is blind: t^2 R to the first
        order of curvature, the MMSE rate to a fine ridge, whose parts of d_eff and t^2 R cancel.
    n_stderr : float
        Standard errors that a term must exceed.

    Returns
    -------
    tuple of str
        Per level one of `TERMS`, by absolute value; "none" where all are within their errors of
        zero, "unknown" where the level is not valid.

    Raises
    ------
    ValueError
        Another quantity.
    """
    read = [
        _of_quantity(account, name) for name in (QUANTITIES if quantity is None else [quantity])
    ]
    words = []
    for level, reason in enumerate(account.reasons):
        found = [(ROUNDING, "none")]
        for terms in read:
            values = (terms.data, terms.tangential, terms.encoder)
            errors = (terms.data_stderr, terms.tangential_stderr, terms.encoder_stderr)
            for name, value, error in zip(TERMS, values, errors, strict=True):
                if abs(float(value[level])) > n_stderr * float(error[level]):
                    found.append((abs(float(value[level])), name))
        words.append("unknown" if reason else max(found)[1])
    return tuple(words)


def worst_samples(
    account: RateAccount, term: str, quantity: str = "mmse_rate", *, n_samples: int = 5
) -> Array:
    """Name the anchors with the largest value of a term, per noise level.

    Parameters
    ----------
    account : RateAccount
    term : str
        One of `TERMS`.
    quantity : {"mmse_rate", "effective_dimension", "complexity_penalty"}
    n_samples : int
        At most so many; no more than there are anchors.

    Returns
    -------
    integer array of shape (T, n_samples)
        Rows of X, the largest absolute value first. Each value carries the noise of its draws: a
        ranking of samples asks for many of them.

    Raises
    ------
    ValueError
        Another term or quantity.
    """
    terms = _of_quantity(account, quantity)
    if term not in TERMS:
        raise ValueError(f"term is {term!r}: pass one of {TERMS}.")
    xp = namespace(terms.per_sample)
    size = xp.abs(terms.per_sample[:, :, TERMS.index(term)])
    order = xp.argsort(xp.matrix_transpose(size), axis=1, descending=True)
    order = order[:, : int(n_samples)]
    return xp.reshape(xp.take(account.anchors, xp.reshape(order, (-1,))), order.shape)


def _of_quantity(account: RateAccount, quantity: str) -> AccountTerms:
    if quantity not in QUANTITIES:
        raise ValueError(f"quantity is {quantity!r}: pass one of {QUANTITIES}.")
    terms: AccountTerms = getattr(account, quantity)
    return terms
