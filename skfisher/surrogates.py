"""Generation without a generator: a fitted mixture is sampled, decoded, and compared.

A diffusion model errs first where a latent is not what simple densities are. A Gaussian mixture
errs there too, is fitted in seconds, and its samples go through the same decoder, so that an error
counts by what the decoder makes of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from array_api_compat import is_array_api_obj

from skfisher._backend.arrays import (
    Array,
    cast_like,
    like,
    namespace,
    row_chunks,
    take_rows,
    to_numpy,
)
from skfisher._backend.draws import normal, permutation, seed_of
from skfisher._backend.validation import as_groups, as_row_weights, as_sample
from skfisher.candidates import best_of, candidate_names, fit_candidate
from skfisher.channels import flatten_latents
from skfisher.decoders import as_decoder
from skfisher.evaluation import Noise
from skfisher.frechet import frechet_of_samples
from skfisher.noise import default_noise_levels, rms_scale
from skfisher.samples import Sample, make_sample

__all__ = [
    "FITTED",
    "RESOLUTION",
    "SURROGATES",
    "Surrogate",
    "SurrogateDistance",
    "fit_surrogate",
    "surrogate_distance",
]

SURROGATES = ("mixture", "gaussian")
FITTED = 5
"""Latents to fit to, for each that is decoded: they cost less, and few in many dimensions make a
poor mixture."""
RESOLUTION = 0.05
"""Share of the RMS scale by which samples are blurred: see `surrogate_distance`."""
LEAST_ROWS = 12
N_LEVELS = 11
JUDGED = 4
"""One row in so many tells which mixture is best, before it is fitted to all of them."""
MAX_JUDGES = 1000
N_AXES = 64
"""Principal axes along which decoded rows are compared where no features are given."""
BATCH = 512
_SPLIT, _DRAWN, _BLUR = 921, 922, 923  # what a stream of draws is for


@dataclass(frozen=True, eq=False)
class Surrogate:
    """A density fitted to latents, of which samples can be drawn.

    Attributes
    ----------
    name : str
        "gaussian" or "mixture-k", with k components.
    model : score model
        With `sample(n, seed)`.
    n_fitted : int
        Rows that it was fitted to.
    """

    name: str
    model: Any
    n_fitted: int


@dataclass(frozen=True, eq=False)
class SurrogateDistance:
    """How far decoded samples of a surrogate are from decoded latents.

    Attributes
    ----------
    value : float
        Squared Frechet distance: of features, in their squared unit, or of decoded rows along their
        first principal axes, as a share of the variance there. Lower is better.
    stderr, sampling_stderr : float
        Of the rows and of the surrogate's samples, which is not fitted again; and of its samples
        alone, the part that no other surrogate shares.
    row_values : array of shape (N,)
        What each row brings to the value: their weighted mean is the value, which moves with their
        weights as that mean does, to first order.
    surrogate : str
        "gaussian" or "mixture-k".
    n_fitted, n_rows, n_generated : int
        Rows that the surrogate was fitted to, distinct rows compared with, and samples drawn.
    n_columns : int
        Features or axes in which they were compared.
    of_features : bool
    reason : str
        Why the value may not be believed; empty where it may: covariances of more columns than rows
        are not determined, and the distance is then mostly that of the samples' own scatter.
    """

    value: float
    stderr: float
    sampling_stderr: float
    row_values: Array
    surrogate: str
    n_fitted: int
    n_rows: int
    n_generated: int
    n_columns: int
    of_features: bool
    reason: str

    def __repr__(self) -> str:
        return (
            f"SurrogateDistance({self.value:.4g} +- {self.stderr:.2g}, "
            f"surrogate={self.surrogate!r}, n_rows={self.n_rows})"
        )


def fit_surrogate(
    Z: Any, family: str = "mixture", *, sample_weight: Any = None, random_state: Any = 0
) -> Surrogate:
    """A Gaussian, or the mixture that denoises held-out rows best, fitted to latents.

    Mixtures of 2 to 64 components with full covariances, as far as the rows allow, are fitted to
    three rows in four; the one with the best noise-prediction score on the others at most of 11
    noise levels is fitted again to all of them. Where the rows allow none, it is the Gaussian.

    Parameters
    ----------
    Z : array-like of shape (N, d)
    family : {"mixture", "gaussian"}
    sample_weight : array-like of shape (N,), default=None
    random_state : int, RandomState, Generator or None

    Returns
    -------
    Surrogate

    Raises
    ------
    ValueError
        An unknown family, or fewer than 12 distinct rows.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> Z = rng.normal(size=(400, 2)) + 8 * rng.integers(2, size=(400, 1))
    >>> found = fit_surrogate(Z)
    >>> found.name, found.model.sample(5, 1).shape
    ('mixture-2', (5, 2))
    """
    if family not in SURROGATES:
        raise ValueError(f"family is {family!r}: it is one of {', '.join(SURROGATES)}.")
    given = as_sample(Z, name="Z", min_samples=LEAST_ROWS)
    sample = _sample(given, sample_weight)
    X, w = sample.X, sample.weights
    n_rows = X.shape[0]
    if n_rows < LEAST_ROWS:
        raise ValueError(
            f"Z holds {n_rows} distinct rows: pass at least {LEAST_ROWS}, to fit a density to."
        )
    seed = seed_of(random_state)
    order = permutation(seed, (_SPLIT,), n_rows)
    n_judges = min(MAX_JUDGES, n_rows // JUDGED)
    judge, teach = order[:n_judges], order[n_judges:]
    names = candidate_names(family, len(teach), X.shape[1], few=False)
    start = None
    if len(names) > 1:
        levels = default_noise_levels(X, N_LEVELS)
        winners, tried = best_of(
            names,
            take_rows(X, teach),
            None if w is None else take_rows(w, teach),
            take_rows(X, judge),
            None if w is None else take_rows(w, judge),
            Noise(X, N_LEVELS, seed).first_of(judge),
            [float(sigma) for sigma in levels],
            seed,
        )
        counted = Counter(winners)
        name = max(names, key=lambda name: counted[name])
        start = tried[name]
    else:
        name = names[0]
    model = fit_candidate(name, X, w, seed, start=start)
    return Surrogate("gaussian" if name == "mixture-1" else name, model, n_rows)


def surrogate_distance(
    Z: Any,
    decode: Any,
    *,
    features: Callable[[Any], Any] | None = None,
    surrogate: str | Surrogate = "mixture",
    n_generated: int | None = None,
    resolution: float = RESOLUTION,
    sample_weight: Any = None,
    groups: Any = None,
    random_state: Any = 0,
) -> SurrogateDistance:
    """Frechet distance of decoded surrogate samples to decoded latents.

    Parameters
    ----------
    Z : array-like of shape (N, d)
        Latents; to compare encoders, of the same rows.
    decode : callable, object with `decode` or `inverse_transform`, or array of shape (d, D)
        Takes rows of Z, in batches and in the library and dtype of Z, to one row (or image) of data
        each; an array A is z A.
    features : callable, optional
        Takes what `decode` returns, in batches, to one row of numbers each: a network that sees
        what you want generated images judged by. None compares decoded rows along their first 64
        principal axes, which saw far less of what generators got wrong (docs, "The evidence").
    surrogate : {"mixture", "gaussian"} or Surrogate
        Fitted to Z, or one that was fitted before.
    n_generated : int, optional
        Samples drawn; None is as many as there are distinct rows.
    resolution : float
        Normal noise of this standard deviation, in units of the RMS scale of Z, is added to the
        samples: a generator with one scale for all directions resolves small ones badly, which a
        mixture does not know. Over the encoders of "The evidence" in the documentation 0.05 orders
        latents better than 0, most of all those of one encoder stretched by different factors.
    sample_weight : array-like of shape (N,), default=None
    groups : array-like of shape (N,), default=None
        Rows of one group enter the error as one.
    random_state : int, RandomState, Generator or None

    Returns
    -------
    SurrogateDistance

    Raises
    ------
    TypeError
        A decoder, or features, that cannot be called.
    ValueError
        As `fit_surrogate`; a negative resolution; a decoder or features that do not return one
        finite row each; a decoder that maps all rows to one point.

    Notes
    -----
    The distance of two equal laws is positive, of order q / N with q the number of columns: compare
    encoders at equal N. It falls to that where the latent is the surrogate's own, whatever the
    decoder, and nothing that the encoder lost is in it.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> one, two = rng.normal(size=(1000, 2)), rng.normal(size=(1000, 2)) ** 3
    >>> simple, heavy = (surrogate_distance(Z, np.eye(2), features=np.square) for Z in (one, two))
    >>> simple.value < 0.1 < heavy.value
    True
    """
    given = as_sample(Z, name="Z", min_samples=LEAST_ROWS)
    seed = seed_of(random_state)
    if isinstance(surrogate, str):
        surrogate = fit_surrogate(
            given, surrogate, sample_weight=sample_weight, random_state=random_state
        )
    if not resolution >= 0:
        raise ValueError(f"resolution is {resolution}: pass a share of the RMS scale, 0 or more.")
    if features is not None and not callable(features):
        raise TypeError(
            f"features is a {type(features).__name__}, which cannot be called: pass a function of "
            f"what decode returns."
        )
    sample = _sample(given, sample_weight, groups)
    rows, w = sample.X, sample.weights
    n_drawn = rows.shape[0] if n_generated is None else int(n_generated)
    drawn = like(surrogate.model.sample(n_drawn, seed + _DRAWN), rows)
    if resolution > 0:
        eps = normal(seed, (_BLUR,), slice(0, n_drawn), rows.shape[1], rows)
        drawn = drawn + resolution * rms_scale(rows, w) * eps
    seen = _seen(decode, features, rows, given[:1, :])
    target, made = (_in_batches(seen, part) for part in (rows, drawn))
    unit = 1.0
    if features is None:
        target, made, unit = _along_axes(target, made, w, seed)
    found = frechet_of_samples(made, target, w, sample.groups)
    brought = (found.value + found.influence_b) / unit
    if sample.place is not None:  # rows of no weight were dropped: what they bring is not asked for
        brought = take_rows(brought, sample.place.clip(min=0))
    fewest, columns = min(rows.shape[0], n_drawn), target.shape[1]
    reason = f"{fewest} rows do not determine a covariance of {columns} columns"
    return SurrogateDistance(
        value=found.value / unit,
        stderr=found.stderr / unit,
        sampling_stderr=found.stderr_a / unit,
        row_values=cast_like(brought, given),
        surrogate=surrogate.name,
        n_fitted=surrogate.n_fitted,
        n_rows=rows.shape[0],
        n_generated=n_drawn,
        n_columns=target.shape[1],
        of_features=features is not None,
        reason=reason if fewest <= columns else "",
    )


def _sample(given: Array, sample_weight: Any, groups: Any = None) -> Sample:
    xp = namespace(given)
    weights = as_row_weights(sample_weight, given.shape[0])
    codes = as_groups(groups, given.shape[0])
    return make_sample(xp.astype(given, xp.float64), weights, codes)


def _seen(
    decode: Any, features: Callable[[Any], Any] | None, work: Array, reference: Array
) -> Callable[[Array], Array]:
    """Decoder and features as one function of rows in float64 to rows in float64."""
    if features is None:
        return as_decoder(decode, work, reference)
    decoded = as_decoder(decode, work, reference, flat=False)
    xp = namespace(work)

    def seen(rows: Array) -> Array:
        values = features(decoded(rows))
        if not is_array_api_obj(values):
            values = to_numpy(values)
        if values.ndim != 2 or values.shape[0] != rows.shape[0]:
            raise ValueError(
                f"features returns shape {tuple(values.shape)} for {rows.shape[0]} decoded rows: "
                f"it must return one row of numbers for each."
            )
        flat, _ = flatten_latents(values, name="features' output")
        return xp.astype(like(flat, work), xp.float64)

    return seen


def _in_batches(function: Callable[[Array], Array], rows: Array) -> Array:
    parts = [function(rows[part, :]) for part in row_chunks(rows.shape[0], 1, BATCH)]
    return namespace(rows).concat(parts)


def _along_axes(
    target: Array, made: Array, weights: Array | None, seed: int
) -> tuple[Array, Array, float]:
    """Both along the first principal axes of the target, and the target's variance there."""
    from sklearn.utils.extmath import randomized_svd

    xp = namespace(target)
    w = xp.full_like(target[:, 0], 1 / target.shape[0]) if weights is None else weights
    w = w / xp.sum(w)
    mean = xp.sum(w[:, None] * target, axis=0)
    centred = target - mean
    keep = min(N_AXES, *target.shape)
    scaled = to_numpy(centred * xp.sqrt(w)[:, None])
    axes = like(randomized_svd(scaled, keep, n_iter=4, random_state=seed)[2].T, target)
    along = centred @ axes
    variance = float(xp.sum(w[:, None] * along**2))
    if variance <= 1e-24 * float(xp.sum(mean * mean)) or variance == 0.0:
        raise ValueError(
            f"decode maps all {target.shape[0]} rows to one point: pass the decoder of these "
            f"latents."
        )
    return along, (made - mean) @ axes, variance
