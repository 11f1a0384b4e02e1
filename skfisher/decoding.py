r"""What denoising a latent costs once it is decoded: the posterior covariance in the data's metric.

A generator's error along a latent direction counts by what the decoder g makes of it. To first
order the error that is left at noise t weighs tr(M C), with C the posterior covariance of the
latent and M = Dg^T Dg; here it is measured without derivatives, as E|g(z) - g(D(y))|^2 for the
denoiser D(y) = y + t s(y, sigma) of a score model, on rows that the model was not fitted to.
"""

from __future__ import annotations

import math
import numbers
from dataclasses import dataclass
from typing import Any

from skfisher._backend.arrays import (
    Array,
    cast_like,
    index_like,
    namespace,
    row_chunks,
    take_rows,
)
from skfisher._backend.draws import normal, permutation, seed_of
from skfisher._backend.rows import sorted_index
from skfisher._backend.validation import as_sample
from skfisher.candidates import best_of, candidate_names, fit_candidate
from skfisher.curves import Validity
from skfisher.decoders import as_decoder
from skfisher.evaluation import Evaluation, Noise
from skfisher.noise import (
    check_noise_levels,
    default_noise_levels,
    rms_scale,
    window_weights,
)
from skfisher.samples import Sample, make_sample
from skfisher.scores.fitting import fit_gaussian
from skfisher.scores.kernel import KernelScore
from skfisher.scores.wrap import as_score_model

__all__ = [
    "DecodedError",
    "Denoising",
    "decoded_error",
    "denoise_held_out",
]

N_LEVELS = 11
FAMILIES = ("auto", "gaussian", "mixture", "kernel")
QUANTITIES = ("decoded_error", "linear_error", "nonlinearity", "sensitivity")
LEAST_ROWS = 12
HELD_OUT = 3
"""One row in so many is held out at most."""
MAX_CHOICE_ROWS = 1000
BATCH = 512
_SPLIT, _NOISE = 911, 912  # what a stream of draws is for


@dataclass(frozen=True, eq=False)
class DecodedError:
    r"""Decoded errors along the noise, as shares of the decoded variance E|g(z) - E g(z)|^2.

    Arrays have one entry per noise level; with y = z + sigma eps and t = sigma^2.

    Attributes
    ----------
    noise_levels : array of shape (T,)
        sigma, in units of Z.
    scale : float
        s, the RMS scale of Z.
    n_samples, n_fitted : int
        Rows that were held out and measured on, and rows that the denoisers were fitted to.
    total_variance : float
        E|g(z) - E g(z)|^2, in squared units of the decoder's output.
    decoded_error : array of shape (T,)
        E|g(z) - g(D(y))|^2, D the denoiser of the score model.
    linear_error : array of shape (T,)
        E|g(z) - g(D_lin(y))|^2, D_lin the best affine denoiser.
    nonlinearity : array of shape (T,)
        E|g(D(y)) - g(D_lin(y))|^2.
    sensitivity : array of shape (T,)
        E|g(z + sigma eps) - g(z)|^2 / (t / s^2): the same at every level for a linear decoder, and
        1 for an orthogonal one.
    decoded_error_covariance, linear_error_covariance : array of shape (T, T)
    nonlinearity_covariance, sensitivity_covariance : array of shape (T, T)
        Of their sampling errors, the levels having their rows in common.
    valid : bool array of shape (T,)
        Where the score model may be believed, by the limits of `skfisher.curves.Validity`.
    reasons : tuple of str
        Per level, why not; empty where it is.
    score_models : tuple of str
        Per level, the score model that was used.
    """

    noise_levels: Array
    scale: float
    n_samples: int
    n_fitted: int
    total_variance: float
    decoded_error: Array
    linear_error: Array
    nonlinearity: Array
    sensitivity: Array
    decoded_error_covariance: Array
    linear_error_covariance: Array
    nonlinearity_covariance: Array
    sensitivity_covariance: Array
    valid: Array
    reasons: tuple[str, ...]
    score_models: tuple[str, ...]

    @property
    def decoded_error_stderr(self) -> Array:
        """Standard errors over rows, shape (T,)."""
        return _roots(self.decoded_error_covariance)

    @property
    def linear_error_stderr(self) -> Array:
        """Standard errors over rows, shape (T,)."""
        return _roots(self.linear_error_covariance)

    @property
    def nonlinearity_stderr(self) -> Array:
        """Standard errors over rows, shape (T,)."""
        return _roots(self.nonlinearity_covariance)

    @property
    def sensitivity_stderr(self) -> Array:
        """Standard errors over rows, shape (T,)."""
        return _roots(self.sensitivity_covariance)

    def mean(self, quantity: str = "decoded_error", over: str = "log") -> tuple[float, float]:
        """Mean of a quantity over the window of noise levels, and its standard error.

        Parameters
        ----------
        quantity : {"decoded_error", "linear_error", "nonlinearity", "sensitivity"}
        over : {"log", "flow"}
            Uniform in log sigma, or in the time u = sigma / (s + sigma) of a linear flow from data
            of scale s to noise of the same scale. By the trapezoidal rule.

        Raises
        ------
        ValueError
            An unknown quantity or window.

        Examples
        --------
        >>> import numpy as np
        >>> Z = np.random.default_rng(0).normal(size=(300, 2))
        >>> found = decoded_error(Z, np.eye(2), score_model="gaussian")
        >>> value, stderr = found.mean("linear_error", over="flow")
        >>> 0.4 < value < 0.6
        True
        """
        if quantity not in QUANTITIES:
            known = ", ".join(map(repr, QUANTITIES))
            raise ValueError(f"quantity is {quantity!r}: it is one of {known}.")
        values, cov = getattr(self, quantity), getattr(self, f"{quantity}_covariance")
        weights = window_weights(self.noise_levels, self.scale, over)
        xp = namespace(values)
        variance = float(weights @ cov @ weights)
        return float(xp.sum(weights * values)), math.sqrt(max(variance, 0.0))

    def __repr__(self) -> str:
        valid = sum(1 for reason in self.reasons if not reason)
        return (
            f"DecodedError({len(self.reasons)} levels, n_samples={self.n_samples}, valid={valid})"
        )


@dataclass(frozen=True, eq=False)
class Denoising:
    """Denoisers fitted to some rows of a sample, and the rows that were held out.

    One of these serves any number of decoders, see `through`.

    Attributes
    ----------
    rows : array of shape (M, d)
        Held out, in float64.
    noise_levels : array of shape (T,)
    scale : float
        RMS scale of all rows.
    models : tuple of T score models
    linear : GaussianScore
        Of the mean and covariance of the fitted rows; its denoiser is affine.
    n_fitted : int
    valid : bool array of shape (T,)
    reasons, score_models : tuple of str
    reference : array
        One row as it was given: its library, dtype and device are those of what a decoder gets.
    seed : int
    """

    rows: Array
    noise_levels: Array
    scale: float
    models: tuple[Any, ...]
    linear: Any
    n_fitted: int
    valid: Array
    reasons: tuple[str, ...]
    score_models: tuple[str, ...]
    reference: Array
    seed: int

    def at(self, level: int, rows: slice) -> tuple[Array, Array, Array]:
        """Noisy rows at a level, and what the model's and the affine denoiser make of them.

        Parameters
        ----------
        level : int
            Position in `noise_levels`.
        rows : slice
            Of `rows`, with its start and stop.

        Returns
        -------
        noisy, denoised, linear : arrays of shape (m, d)
        """
        clean, sigma = self.rows[rows, :], float(self.noise_levels[level])
        eps = normal(self.seed, (_NOISE, level), rows, clean.shape[1], clean)
        y = clean + sigma * eps
        t = sigma * sigma
        return y, y + t * self.models[level](y, sigma), y + t * self.linear(y, sigma)

    def through(
        self, decode: Any, *, levels: Any = None, max_points: int | None = None
    ) -> DecodedError:
        """What the denoising costs after a decoder.

        Parameters
        ----------
        decode : callable, object with `decode` or `inverse_transform`, or array of shape (d, D)
            As in `decoded_error`.
        levels : sequence of int, optional
            Positions of the noise levels that are wanted, increasing; None is all of them.
        max_points : int, optional
            At most so many of the held-out rows.

        Returns
        -------
        DecodedError

        Raises
        ------
        TypeError
            A decoder that cannot be called.
        ValueError
            As `decoded_error`.
        """
        chosen = list(range(len(self.models))) if levels is None else [int(k) for k in levels]
        g = as_decoder(decode, self.rows, self.reference)
        n_rows = self.rows.shape[0]
        n_rows = n_rows if max_points is None else min(n_rows, _count(max_points))
        xp = namespace(self.rows)
        batches = list(row_chunks(n_rows, 1, BATCH))
        total: Any = 0.0
        for rows in batches:
            total = total + xp.sum(g(self.rows[rows, :]), axis=0)
        centre = total / n_rows
        spreads: list[Array] = []
        columns: list[list[Array]] = [[] for _ in QUANTITIES]
        for rows in batches:
            clean = g(self.rows[rows, :])
            spreads.append(_squares(clean - centre))
            found: list[list[Array]] = [[] for _ in QUANTITIES]
            for k in chosen:
                noisy, best, line = map(g, self.at(k, rows))
                share = self.scale**2 / float(self.noise_levels[k]) ** 2
                parts = (
                    _squares(clean - best),
                    _squares(clean - line),
                    _squares(best - line),
                    _squares(clean - noisy) * share,
                )
                for column, part in zip(found, parts, strict=True):
                    column.append(part)
            for column, values in zip(columns, found, strict=True):
                column.append(xp.stack(values, axis=1))
        spread = xp.concat(spreads)
        variance = float(xp.mean(spread))
        if variance <= 1e-24 * float(xp.sum(centre * centre)) or variance == 0.0:
            raise ValueError(
                f"decode maps all {n_rows} rows to one point, so that nothing is lost or kept: "
                f"pass the decoder of these latents."
            )
        means, covariances = zip(
            *(_ratios(xp.concat(column), spread, variance) for column in columns), strict=True
        )
        index = index_like(chosen, self.rows)
        valid = xp.asarray([not self.reasons[k] for k in chosen])
        home = self.reference

        def back(values: Array) -> Array:
            return cast_like(values, home)

        return DecodedError(
            back(xp.take(self.noise_levels, index, axis=0)),
            self.scale,
            n_rows,
            self.n_fitted,
            variance,
            **{q: back(mean) for q, mean in zip(QUANTITIES, means, strict=True)},
            **{f"{q}_covariance": back(c) for q, c in zip(QUANTITIES, covariances, strict=True)},
            valid=back(valid),
            reasons=tuple(self.reasons[k] for k in chosen),
            score_models=tuple(self.score_models[k] for k in chosen),
        )


def decoded_error(
    Z: Any,
    decode: Any,
    *,
    score_model: Any = "auto",
    noise_levels: Any = None,
    max_points: int = 2000,
    bracket: bool = True,
    validity: Validity | None = None,
    random_state: Any = 0,
) -> DecodedError:
    r"""What denoising a latent costs after decoding, as a share of the decoded variance.

    Parameters
    ----------
    Z : array-like of shape (N, d)
        Latents.
    decode : callable, object with `decode` or `inverse_transform`, or array of shape (d, D)
        g: takes rows of Z, in batches and in the library and dtype of Z, to one row (or image) of
        data each; an array A is g(z) = z A.
    score_model : {"auto", "gaussian", "mixture", "kernel"} or score model
        A family is fitted to the rows that are not held out, and the best of its members chosen at
        every noise level on rows of their own ("auto" trains no network). A score model is used as
        it stands.
    noise_levels : array-like of shape (T,), default=None
        In units of Z. None: 11 geometric levels from 0.05 to 5 times the RMS scale of Z.
    max_points : int
        At most so many rows are held out and measured on, and at most a third of them.
    bracket : bool
        Whether the upper bound on the Fisher information, quadratic in the rows, is wanted for the
        verdict on validity.
    validity : Validity, default=None
        When a level may be believed.
    random_state : int, RandomState, Generator or None

    Returns
    -------
    DecodedError

    Raises
    ------
    TypeError
        A decoder, or a score model, that cannot be called.
    ValueError
        Fewer than 12 distinct rows, an unknown score model, a decoder of another number of latent
        dimensions, or one that does not return one finite row per latent, or that is constant.

    Notes
    -----
    With y = z + sigma eps and D(y) = y + t s(y, sigma), E|z - D(y)|^2 is the MMSE where s is the
    score, and exceeds it by t^2 E|s_theta - s|^2 elsewhere. Through g it is, to first order in what
    is left of the error, E tr(M C): C the posterior covariance of z and M = Dg^T Dg the pull-back
    metric of the decoder. For z ~ N(m, S) and g(z) = z A + b it is
    tr(A^T C A) / tr(A^T S A) with C = t S (S + t I)^-1 exactly, D is D_lin, and the nonlinearity
    is 0. No number changes if Z and sigma are multiplied by one factor that g divides out, or if
    the decoded rows are scaled, shifted or turned. The errors are those of ratios of means over the
    held-out rows, given the fitted models.

    Examples
    --------
    >>> import numpy as np
    >>> Z = np.random.default_rng(0).normal(size=(3000, 2)) * [2.0, 1.0]
    >>> found = decoded_error(Z, np.eye(2), score_model="gaussian", noise_levels=[1.0])
    >>> exact = (4 / 5 + 1 / 2) / (4 + 1)
    >>> bool(abs(found.decoded_error[0] - exact) < 4 * found.decoded_error_stderr[0])
    True
    """
    fitted = denoise_held_out(
        Z,
        score_model=score_model,
        noise_levels=noise_levels,
        max_points=max_points,
        bracket=bracket,
        validity=validity,
        random_state=random_state,
    )
    return fitted.through(decode)


def denoise_held_out(
    Z: Any,
    *,
    score_model: Any = "auto",
    noise_levels: Any = None,
    max_points: int = 2000,
    bracket: bool = True,
    validity: Validity | None = None,
    random_state: Any = 0,
) -> Denoising:
    """Denoisers of a latent, fitted once for any number of decoders; see `decoded_error`.

    Parameters
    ----------
    Z, score_model, noise_levels, max_points, bracket, validity, random_state
        As in `decoded_error`.

    Returns
    -------
    Denoising

    Raises
    ------
    TypeError, ValueError
        As `decoded_error`.

    Examples
    --------
    >>> import numpy as np
    >>> Z = np.random.default_rng(0).normal(size=(300, 3))
    >>> fitted = denoise_held_out(Z, score_model="gaussian")
    >>> whole, first = fitted.through(np.eye(3)), fitted.through(np.eye(3)[:, :1], levels=[0, 5])
    >>> whole.n_samples, whole.decoded_error.shape, first.decoded_error.shape
    (100, (11,), (2,))
    """
    given = as_sample(Z, name="Z", min_samples=LEAST_ROWS)
    held_out = _count(max_points)
    _check_score_model(score_model)
    seed = seed_of(random_state)
    xp = namespace(given)
    sample = make_sample(xp.astype(given, xp.float64))
    X = sample.X
    n_rows = X.shape[0]
    if n_rows < LEAST_ROWS:
        raise ValueError(
            f"Z holds {n_rows} distinct rows: pass at least {LEAST_ROWS}, to fit a denoiser on "
            f"some and to measure it on others."
        )
    scale = rms_scale(X, sample.weights)
    if noise_levels is None:
        levels = default_noise_levels(X, N_LEVELS, scale=scale)
    else:
        levels = check_noise_levels(noise_levels, X)
    sigmas = [float(sigma) for sigma in levels]
    order = permutation(seed, (_SPLIT,), n_rows)
    n_held = min(held_out, n_rows // HELD_OUT)
    held, rest = order[:n_held], order[n_held:]
    noise = Noise(X, len(sigmas), seed)
    models, names = _models(score_model, sample, rest, noise, sigmas, seed)
    index = sorted_index(held)
    given_model = not isinstance(score_model, str)
    kernel = KernelScore(X, sample.weights) if bracket else None
    evaluation = Evaluation(sample, levels, noise, 1, seed, False, kernel, None)
    evaluated = evaluation.levels([[(index, model)] for model in models], one_step=not given_model)
    curve = evaluation.curve(
        evaluated,
        names,
        validity or Validity(),
        one_step=not given_model,
        with_rate=False,
        models=models if given_model else (),
    )
    return Denoising(
        take_rows(X, held),
        levels,
        scale,
        tuple(models),
        fit_gaussian(take_rows(X, rest), _weights(sample, rest)),
        len(rest),
        curve.valid,
        curve.reasons,
        tuple(names),
        given[:1, :],
        seed,
    )


def _models(
    score_model: Any, sample: Sample, rest: Any, noise: Noise, sigmas: list[float], seed: int
) -> tuple[list[Any], list[str]]:
    """Per level the best model of a family fitted to the rows `rest`, and its name."""
    X = sample.X
    if not isinstance(score_model, str):
        model = as_score_model(score_model, X.shape[1])
        return [model] * len(sigmas), [model.name] * len(sigmas)
    n_judges = min(MAX_CHOICE_ROWS, len(rest) // 4)
    judge, teach = rest[:n_judges], rest[n_judges:]
    names = candidate_names(score_model, len(teach), X.shape[1], few=len(rest) < 20)
    tried: dict[str, Any] = {}
    choice = [names[0]] * len(sigmas)
    if len(names) > 1:
        choice, tried = best_of(
            names,
            take_rows(X, teach),
            _weights(sample, teach),
            take_rows(X, judge),
            _weights(sample, judge),
            noise.first_of(judge),
            sigmas,
            seed,
        )
    fitted = {
        name: fit_candidate(
            name, take_rows(X, rest), _weights(sample, rest), seed, start=tried.get(name)
        )
        for name in sorted(set(choice))
    }
    return [fitted[name] for name in choice], choice


def _weights(sample: Sample, rows: Any) -> Array | None:
    return None if sample.weights is None else take_rows(sample.weights, rows)


def _check_score_model(score_model: Any) -> None:
    if isinstance(score_model, str):
        if score_model not in FAMILIES:
            raise ValueError(
                f"score_model is {score_model!r}: choose one of {', '.join(FAMILIES)}, or pass a "
                f"score model called as model(y, sigma)."
            )
    elif not callable(score_model):
        raise TypeError(
            f"score_model is a {type(score_model).__name__}, which cannot be called: pass one of "
            f"{', '.join(FAMILIES)}, or a score model called as model(y, sigma)."
        )


def _count(max_points: Any) -> int:
    if not isinstance(max_points, numbers.Integral) or max_points < 2:
        raise ValueError(
            f"max_points is {max_points!r}: pass the most rows to measure on, 2 or more."
        )
    return int(max_points)


def _ratios(values: Array, spread: Array, variance: float) -> tuple[Array, Array]:
    """Means of the columns over the mean spread, and the covariance of these ratios."""
    xp = namespace(values)
    n_rows = values.shape[0]
    means = xp.mean(values, axis=0) / variance
    influence = (values - means[None, :] * spread[:, None]) / variance
    return means, xp.matmul(influence.T, influence) / (n_rows * (n_rows - 1))


def _squares(rows: Array) -> Array:
    return namespace(rows).sum(rows * rows, axis=1)


def _roots(covariance: Array) -> Array:
    xp = namespace(covariance)
    return xp.sqrt(xp.clip(xp.linalg.diagonal(covariance), 0.0))
