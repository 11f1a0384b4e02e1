"""Noise conventions, all mapped to (y, sigma) at the border, and grids of noise levels.

Inside the package there is one convention, variance exploding: y = x0 + sigma eps. A noising path
x = a x0 + b eps is brought to it by y = x / a and sigma = b / a, so that a path is known by its
signal a as a function of sigma and by its clock, time against sigma. A network's output is a
combination c_x x0 + c_e eps of the two posterior means, so that a kind of prediction is known by
(c_x, c_e).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from skfisher._backend.arrays import Array, like, namespace, row_chunks, to_numpy
from skfisher._backend.validation import as_row_weights, as_sample, as_sigma

__all__ = [
    "EDM",
    "CosineVP",
    "DiscreteVE",
    "DiscreteVP",
    "FlowMatching",
    "LinearVP",
    "NoisePath",
    "VarianceExploding",
    "check_noise_levels",
    "default_noise_levels",
    "prediction_from_score",
    "rms_scale",
    "score_from_prediction",
    "window_weights",
]


class NoisePath(ABC):
    """A noising path x = a x0 + b eps with its clock.

    Attributes
    ----------
    time_range : tuple of float
        Time at the clean end and at the noisy end, in this order.
    sigma_range : tuple of float
        Noise levels sigma = b / a at these two ends. An end of sigma 0 or infinity is excluded.
    """

    @property
    @abstractmethod
    def time_range(self) -> tuple[float, float]:
        """Time at the clean end and at the noisy end."""

    @property
    @abstractmethod
    def sigma_range(self) -> tuple[float, float]:
        """Noise level at the clean end and at the noisy end."""

    @abstractmethod
    def signal(self, sigma: float) -> float:
        """Signal coefficient a at noise level `sigma`; b is ``sigma * a``."""

    @abstractmethod
    def _sigma(self, time: float) -> float: ...

    @abstractmethod
    def _time(self, sigma: float) -> float: ...

    @abstractmethod
    def _slope(self, time: float) -> float: ...

    def sigma(self, time: float) -> float:
        """Noise level at `time`.

        Raises
        ------
        ValueError
            `time` outside the path, or at an end where sigma is 0 or infinite.
        """
        return self._sigma(self._inside(time))

    def dsigma_dtime(self, time: float) -> float:
        """Derivative of `sigma` at `time`; raises as `sigma` does."""
        return self._slope(self._inside(time))

    def time(self, sigma: float) -> float:
        """Time at noise level `sigma`, the inverse of `sigma`.

        Raises
        ------
        ValueError
            `sigma` not finite and positive, or outside the path.
        """
        value = as_sigma(sigma)
        low, high = self.sigma_range
        # the ends themselves come back from sigma(time) with a rounding error
        if not low * (1 - 1e-12) <= value <= high * (1 + 1e-12):
            raise ValueError(
                f"sigma is {value}: {type(self).__name__} covers sigma from {low} to {high}, clip "
                f"the noise levels to this range."
            )
        return self._time(min(max(value, low), high))

    def to_ve(self, x: Array, time: float) -> tuple[Array, float]:
        """Point `x` of the path at `time` as (y, sigma) with y = x / a.

        Parameters
        ----------
        x : array
            a x0 + b eps, any shape.
        time : float
            In this path's clock.

        Returns
        -------
        y : array
            x0 + sigma eps, shape of `x`, in units of x0.
        sigma : float
        """
        sigma = self.sigma(time)
        return x / self.signal(sigma), sigma

    def from_ve(self, y: Array, sigma: float) -> tuple[Array, float]:
        """Point (y, sigma) as (x, time), the inverse of `to_ve`."""
        time = self.time(sigma)
        return self.signal(sigma) * y, time

    def score_to_ve(self, score: Array, sigma: float) -> Array:
        """Score in y from the score in x: the chain rule for x = a y gives a s(x)."""
        return self.signal(as_sigma(sigma)) * score

    def score_from_ve(self, score: Array, sigma: float) -> Array:
        """Score in x from the score in y, the inverse of `score_to_ve`."""
        return score / self.signal(as_sigma(sigma))

    def _inside(self, time: float) -> float:
        value = float(time)
        (clean, noisy), (low, high) = self.time_range, self.sigma_range
        excluded = (low == 0.0 and value == clean) or (math.isinf(high) and value == noisy)
        if excluded or not min(clean, noisy) <= value <= max(clean, noisy):
            raise ValueError(
                f"time is {value}: {type(self).__name__} runs from time {clean} (sigma {low}) to "
                f"time {noisy} (sigma {high}), pass a time between them, not an end where sigma "
                f"is 0 or infinite."
            )
        return value


@dataclass(frozen=True)
class VarianceExploding(NoisePath):
    """Path x = x0 + sigma eps whose time is sigma itself.

    EDM uses this path (Karras et al., arXiv 2206.00364); its denoiser is the prediction "denoiser".

    Examples
    --------
    >>> VarianceExploding().to_ve(3.0, 0.5)
    (3.0, 0.5)
    """

    @property
    def time_range(self) -> tuple[float, float]:
        """Time at the clean end and at the noisy end."""
        return 0.0, math.inf

    @property
    def sigma_range(self) -> tuple[float, float]:
        """Noise level at the clean end and at the noisy end."""
        return 0.0, math.inf

    def signal(self, sigma: float) -> float:
        """Signal coefficient, 1."""
        return 1.0

    def _sigma(self, time: float) -> float:
        return time

    def _time(self, sigma: float) -> float:
        return sigma

    def _slope(self, time: float) -> float:
        return 1.0


class _VariancePreserving(NoisePath):
    """Paths with a^2 + b^2 = 1."""

    def signal(self, sigma: float) -> float:
        """Signal coefficient a = (1 + sigma^2)^(-1/2)."""
        return 1.0 / math.hypot(1.0, sigma)


@dataclass(frozen=True)
class LinearVP(_VariancePreserving):
    """Variance-preserving path with a noise rate beta that grows linearly with time.

    Parameters
    ----------
    beta_min, beta_max : float
        Rate at time 0 and at time 1.

    Notes
    -----
    With B(u) the integral of beta up to time u, a = exp(-B / 2) and hence sigma^2 = expm1(B).
    Source: Song et al., arXiv 2011.13456.

    Examples
    --------
    >>> path = LinearVP()
    >>> path.time(path.sigma(0.25))
    0.25
    """

    beta_min: float = 0.1
    beta_max: float = 20.0

    def __post_init__(self) -> None:
        if not 0.0 < self.beta_min <= self.beta_max < math.inf:
            raise ValueError(
                f"beta_min is {self.beta_min} and beta_max is {self.beta_max}: pass "
                f"0 < beta_min <= beta_max."
            )

    @property
    def time_range(self) -> tuple[float, float]:
        """Time at the clean end and at the noisy end."""
        return 0.0, 1.0

    @property
    def sigma_range(self) -> tuple[float, float]:
        """Noise level at the clean end and at the noisy end."""
        return 0.0, self._sigma(1.0)

    def _sigma(self, time: float) -> float:
        return math.sqrt(math.expm1(time * (self.beta_min + 0.5 * time * self._growth)))

    def _time(self, sigma: float) -> float:
        B = math.log1p(sigma**2)
        return 2.0 * B / (self.beta_min + math.sqrt(self.beta_min**2 + 2.0 * self._growth * B))

    def _slope(self, time: float) -> float:
        sigma = self._sigma(time)
        return (self.beta_min + time * self._growth) * (1.0 + sigma**2) / (2.0 * sigma)

    @property
    def _growth(self) -> float:
        return self.beta_max - self.beta_min


@dataclass(frozen=True)
class CosineVP(_VariancePreserving):
    """Variance-preserving path whose signal follows a cosine of time.

    Parameters
    ----------
    offset : float
        Keeps the first steps from being too small.

    Notes
    -----
    a = cos(phi) / cos(phi_0) with phi = (u + offset) / (1 + offset) * pi / 2 and phi_0 its value
    at u = 0. Source: Nichol and Dhariwal, arXiv 2102.09672.

    Examples
    --------
    >>> round(CosineVP().sigma(0.5), 6)
    1.01239
    """

    offset: float = 0.008

    def __post_init__(self) -> None:
        if not 0.0 <= self.offset < math.inf:
            raise ValueError(f"offset is {self.offset}: pass a small number, not negative.")

    @property
    def time_range(self) -> tuple[float, float]:
        """Time at the clean end and at the noisy end."""
        return 0.0, 1.0

    @property
    def sigma_range(self) -> tuple[float, float]:
        """Noise level at the clean end and at the noisy end."""
        return 0.0, math.inf

    # cos^2(phi_0) - cos^2(phi) = sin(phi - phi_0) sin(phi + phi_0), and likewise for the
    # difference of tangents: no cancellation at the clean end. Near the noisy end cos(phi) is
    # taken as the sine of what is left to pi / 2.

    def _sigma(self, time: float) -> float:
        turn, left = time * self._speed, (1.0 - time) * self._speed
        return math.sqrt(math.sin(turn) * math.sin(turn + 2.0 * self._start)) / math.sin(left)

    def _time(self, sigma: float) -> float:
        sine, cosine = math.sin(self._start), math.cos(self._start)
        tangent = math.hypot(sigma, sine) / cosine
        difference = sigma / (math.hypot(sigma, sine) + sine) * sigma / cosine
        return math.atan(difference / (1.0 + tangent * sine / cosine)) / self._speed

    def _slope(self, time: float) -> float:
        sigma, turn, left = self._sigma(time), time * self._speed, (1.0 - time) * self._speed
        tangent = math.sin(turn + self._start) / math.sin(left)
        return (1.0 / sigma + sigma) * tangent * self._speed

    @property
    def _speed(self) -> float:
        return 0.5 * math.pi / (1.0 + self.offset)

    @property
    def _start(self) -> float:
        return self.offset * self._speed


class _Tabulated(NoisePath):
    """Paths given by a table of noise levels at the times 0, 1, ..., n_steps - 1.

    Between the steps log sigma is interpolated by a monotone cubic (PCHIP), which is continuously
    differentiable and meets the table at its steps.
    """

    @property
    @abstractmethod
    def _log_sigmas(self) -> list[float]:
        """Log of the noise level at each step, strictly increasing or strictly decreasing."""

    @property
    def time_range(self) -> tuple[float, float]:
        """Time at the clean end and at the noisy end."""
        last = len(self._log_sigmas) - 1.0
        return (0.0, last) if self._rises else (last, 0.0)

    @property
    def sigma_range(self) -> tuple[float, float]:
        """Noise level at the clean end and at the noisy end."""
        clean, noisy = self.time_range
        return self._sigma(clean), self._sigma(noisy)

    def _sigma(self, time: float) -> float:
        return math.exp(self._curve(time))

    def _time(self, sigma: float) -> float:
        from scipy.optimize import brentq

        target = math.log(sigma)
        table = self._log_sigmas if self._rises else self._log_sigmas[::-1]
        step = bisect_right(table, target) - 1
        step = min(max(step, 0), len(table) - 2)
        if target <= table[step]:
            return self._clock(step)
        if target >= table[step + 1]:
            return self._clock(step + 1)
        ends = sorted((self._clock(step), self._clock(step + 1)))
        return float(brentq(lambda u: float(self._curve(u)) - target, *ends, xtol=1e-15))

    def _slope(self, time: float) -> float:
        return self._sigma(time) * float(self._curve(time, 1))

    def _clock(self, place: int) -> float:
        """Time of the step that is at `place` from the clean end."""
        return float(place if self._rises else len(self._log_sigmas) - 1 - place)

    @property
    def _rises(self) -> bool:
        return self._log_sigmas[0] < self._log_sigmas[-1]

    @cached_property
    def _curve(self) -> Any:
        from scipy.interpolate import PchipInterpolator

        return PchipInterpolator(range(len(self._log_sigmas)), self._log_sigmas)


@dataclass(frozen=True)
class DiscreteVP(_Tabulated, _VariancePreserving):
    """Variance-preserving path given by its table of cumulative signal variances.

    Parameters
    ----------
    alphas_cumprod : array-like of shape (n_steps,)
        a^2 at times 0, 1, ..., n_steps - 1, strictly decreasing inside (0, 1); the name is that
        of most diffusion schedulers.

    Notes
    -----
    Between the steps log sigma is interpolated by a monotone cubic (PCHIP), which is continuously
    differentiable and meets the table at its steps.

    Examples
    --------
    >>> path = DiscreteVP([0.8, 0.5, 0.2])
    >>> path.sigma(1), path.sigma(2), path.time(0.5)
    (1.0, 2.0, 0.0)
    """

    alphas_cumprod: Any = field(repr=False)

    def __post_init__(self) -> None:
        values = _table(self.alphas_cumprod, "alphas_cumprod")
        for k, value in enumerate(values):
            if not 0.0 < value < (values[k - 1] if k else 1.0):
                raise ValueError(
                    f"alphas_cumprod[{k}] is {value}: the table must decrease strictly inside "
                    f"(0, 1), drop the steps without signal or without noise."
                )
        object.__setattr__(self, "alphas_cumprod", values)

    @cached_property
    def _log_sigmas(self) -> list[float]:
        return [0.5 * (math.log1p(-value) - math.log(value)) for value in self.alphas_cumprod]


@dataclass(frozen=True)
class DiscreteVE(_Tabulated, VarianceExploding):
    """Path x = x0 + sigma eps whose time counts the rows of a table of noise levels.

    Parameters
    ----------
    sigmas : array-like of shape (n_steps,)
        Noise levels at times 0, 1, ..., n_steps - 1, positive and strictly increasing or strictly
        decreasing: noise-conditional score networks count from the largest.

    Notes
    -----
    Between the steps log sigma is interpolated as in `DiscreteVP`. Source: Song and Ermon,
    arXiv 1907.05600.

    Examples
    --------
    >>> path = DiscreteVE([10.0, 1.0, 0.1])
    >>> path.time(1.0), path.time_range
    (1.0, (2.0, 0.0))
    """

    sigmas: Any = field(repr=False)

    def __post_init__(self) -> None:
        values = _table(self.sigmas, "sigmas")
        for k, value in enumerate(values):
            as_sigma(value, name=f"sigmas[{k}]")
            if k > 0 and not (value - values[k - 1]) * (values[1] - values[0]) > 0:
                raise ValueError(
                    f"sigmas[{k}] is {value} after {values[k - 1]}: noise levels that do not go "
                    f"one way have no clock, pass the table in the order of the network's time "
                    f"and without repetition."
                )
        object.__setattr__(self, "sigmas", values)

    @cached_property
    def _log_sigmas(self) -> list[float]:
        return [math.log(value) for value in self.sigmas]


def _table(values: Any, name: str) -> tuple[float, ...]:
    table = to_numpy(values)
    if table.ndim != 1 or table.shape[0] < 2:
        raise ValueError(f"{name} has shape {table.shape}: pass one value per step, at least two.")
    return tuple(float(value) for value in table)


@dataclass(frozen=True)
class EDM(NoisePath):
    """What an EDM-preconditioned network sees: x = y / sqrt(sigma^2 + sigma_data^2).

    Parameters
    ----------
    sigma_data : float
        Standard deviation of the data that the network was built for, in units of x0.

    Notes
    -----
    The clock is log(sigma) / 4. The raw output F of the network gives the denoiser
    D = c_skip y + c_out F, see `denoiser`. Source: Karras et al., arXiv 2206.00364, table 1.

    Examples
    --------
    >>> x, time = EDM(sigma_data=0.6).from_ve(3.0, 0.8)
    >>> round(x, 12), round(time, 6)
    (3.0, -0.055786)
    """

    sigma_data: float = 0.5

    def __post_init__(self) -> None:
        as_sigma(self.sigma_data, name="sigma_data")

    @property
    def time_range(self) -> tuple[float, float]:
        """Time at the clean end and at the noisy end."""
        return -math.inf, math.inf

    @property
    def sigma_range(self) -> tuple[float, float]:
        """Noise level at the clean end and at the noisy end."""
        return 0.0, math.inf

    def signal(self, sigma: float) -> float:
        """Signal coefficient a = (sigma^2 + sigma_data^2)^(-1/2)."""
        return 1.0 / math.hypot(sigma, self.sigma_data)

    def denoiser(self, output: Array, y: Array, sigma: float) -> Array:
        """Denoiser D = c_skip y + c_out F from the network's raw output F.

        With c_skip = sigma_data^2 / (sigma^2 + sigma_data^2) and c_out = a sigma sigma_data.

        Parameters
        ----------
        output, y : array of shape (m, n)
            F, and the noisy point in units of x0.
        sigma : float

        Returns
        -------
        array of shape (m, n)
            In units of x0.

        Examples
        --------
        >>> EDM(sigma_data=1.0).denoiser(0.0, 4.0, 1.0)
        2.0
        """
        sigma, unit = as_sigma(sigma), self.sigma_data
        skip = unit**2 / (sigma**2 + unit**2)
        return skip * y + self.signal(sigma) * sigma * unit * output

    def _sigma(self, time: float) -> float:
        return math.exp(4.0 * time)

    def _time(self, sigma: float) -> float:
        return 0.25 * math.log(sigma)

    def _slope(self, time: float) -> float:
        return 4.0 * math.exp(4.0 * time)


@dataclass(frozen=True)
class FlowMatching(NoisePath):
    """Straight path between data and noise, in either direction of time.

    Parameters
    ----------
    data_at : {0, 1}
        Time of the clean end. 0: x = (1 - u) x0 + u eps, whose velocity eps - x0 is the prediction
        "velocity". 1: x = u x0 + (1 - u) eps, whose velocity x0 - eps is "velocity_to_data".
    shift : float
        Of a clock that is shifted against u: where the clock stands at a share w of noise, u is at
        shift w / (1 + (shift - 1) w), so that sigma = shift w / (1 - w). Leave it at 1 where the
        network is told u itself, as the flow transformers of diffusers are: their schedulers'
        `shift` only chooses where sampling stops.
    time_scale : float
        Time at the end u = 1, 1000 where the network counts steps.

    Notes
    -----
    Source: Lipman et al., arXiv 2210.02747; Liu et al., arXiv 2209.03003; for the shift Esser et
    al., arXiv 2403.03206.

    Examples
    --------
    >>> FlowMatching().sigma(0.25), FlowMatching(data_at=1).sigma(0.75)
    (0.3333333333333333, 0.3333333333333333)
    >>> FlowMatching(time_scale=1000.0).time(1.0), FlowMatching(shift=3.0).sigma(0.25)
    (500.0, 1.0)
    """

    data_at: int = 0
    shift: float = 1.0
    time_scale: float = 1.0

    def __post_init__(self) -> None:
        if self.data_at not in (0, 1):
            raise ValueError(
                f"data_at is {self.data_at!r}: pass 0 where time 0 is clean, 1 where time 1 is."
            )
        for name in ("shift", "time_scale"):
            value = float(getattr(self, name))
            if not 0.0 < value < math.inf:
                raise ValueError(f"{name} is {value}: pass a finite positive number.")

    @property
    def time_range(self) -> tuple[float, float]:
        """Time at the clean end and at the noisy end."""
        end = float(self.time_scale)
        return (end, 0.0) if self.data_at else (0.0, end)

    @property
    def sigma_range(self) -> tuple[float, float]:
        """Noise level at the clean end and at the noisy end."""
        return 0.0, math.inf

    def signal(self, sigma: float) -> float:
        """Signal coefficient a = 1 / (1 + sigma)."""
        return 1.0 / (1.0 + sigma)

    def _sigma(self, time: float) -> float:
        left = self.time_scale - time
        return self.shift * (left / time if self.data_at else time / left)

    def _time(self, sigma: float) -> float:
        return self.time_scale * (self.shift if self.data_at else sigma) / (self.shift + sigma)

    def _slope(self, time: float) -> float:
        speed = self.shift * self.time_scale
        return -speed / time**2 if self.data_at else speed / (self.time_scale - time) ** 2


# weights of x0 and eps in what a network says of a noisy point
_WEIGHTS: dict[str, Callable[[float], tuple[float, float]]] = {
    "score": lambda sigma: (0.0, -1.0 / sigma),
    "epsilon": lambda sigma: (0.0, 1.0),
    "x0": lambda sigma: (1.0, 0.0),
    "denoiser": lambda sigma: (1.0, 0.0),
    # v = a eps - b x0 on the variance-preserving path
    "v": lambda sigma: (-sigma / math.hypot(1.0, sigma), 1.0 / math.hypot(1.0, sigma)),
    "velocity": lambda sigma: (-1.0, 1.0),
    "velocity_to_data": lambda sigma: (1.0, -1.0),
}


def score_from_prediction(prediction: Array, y: Array, sigma: float, kind: str) -> Array:
    """Score of y = x0 + sigma eps from what a network predicted there.

    Parameters
    ----------
    prediction, y : array of shape (m, n)
        The network's output, and its input brought to (y, sigma) by `NoisePath.to_ve`.
    sigma : float
        Noise level, in units of x0.
    kind : {"score", "epsilon", "x0", "denoiser", "v", "velocity", "velocity_to_data"}
        ``v = a eps - b x0`` with a^2 + b^2 = 1; ``velocity = eps - x0`` and
        ``velocity_to_data = x0 - eps``; ``denoiser`` is EDM's name for ``x0``; ``score`` is the
        score in y (see `NoisePath.score_to_ve` for a score in x).

    Returns
    -------
    array of shape (m, n)
        s, in 1/units of x0.

    Raises
    ------
    ValueError
        Unknown `kind`, or `sigma` not finite and positive.

    Notes
    -----
    The posterior means are x0 = y + t s (Tweedie) and eps = -sigma s with t = sigma^2, so a
    prediction c_x x0 + c_e eps equals c_x y + (c_x t - c_e sigma) s, which is solved for s. The map
    is linear in (prediction, y): applied to a Jacobian-vector product of the network with respect
    to y, along v in the place of `y`, it gives H v.

    Examples
    --------
    The noise in y = 3 around x0 = 1 is predicted as 4 at sigma = 0.5:

    >>> score_from_prediction(4.0, 3.0, 0.5, "epsilon")
    -8.0
    >>> score_from_prediction(1.0, 3.0, 0.5, "denoiser")
    -8.0
    """
    along_y, along_score = _coefficients(kind, sigma)
    return (prediction - along_y * y) / along_score


def prediction_from_score(score: Array, y: Array, sigma: float, kind: str) -> Array:
    """What a network of this kind would predict at y, given the score.

    The inverse of `score_from_prediction`, with its parameters, errors and conventions.

    Parameters
    ----------
    score, y : array of shape (m, n)
        Score of y = x0 + sigma eps at `y`.
    sigma : float
        Noise level, in units of x0.
    kind : str
        As for `score_from_prediction`.

    Returns
    -------
    array of shape (m, n)

    Raises
    ------
    ValueError
        Unknown `kind`, or `sigma` not finite and positive.

    Examples
    --------
    >>> prediction_from_score(-8.0, 3.0, 0.5, "velocity")
    3.0
    """
    along_y, along_score = _coefficients(kind, sigma)
    return along_y * y + along_score * score


def _coefficients(kind: str, sigma: float) -> tuple[float, float]:
    if kind not in _WEIGHTS:
        raise ValueError(f"kind is {kind!r}: pass one of {', '.join(map(repr, _WEIGHTS))}.")
    sigma = as_sigma(sigma)
    of_x0, of_eps = _WEIGHTS[kind](sigma)
    return of_x0, of_x0 * sigma**2 - of_eps * sigma


def rms_scale(X: Array, sample_weight: Any = None) -> float:
    """Root of the mean per-coordinate variance of a sample.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        The sample; constant features count with variance zero.
    sample_weight : array-like of shape (n_samples,), optional
        An integer weight equals so many repetitions.

    Returns
    -------
    float
        In units of X.

    Raises
    ------
    ValueError
        All rows (of positive weight) are equal, or `X` or `sample_weight` is not usable.

    Examples
    --------
    >>> rms_scale([[0.0, 5.0], [2.0, 5.0]])
    0.7071067811865476
    """
    X = as_sample(X)
    xp = namespace(X)
    weights = as_row_weights(sample_weight, X.shape[0])
    first = 0 if weights is None else int(weights.argmax())
    w = like([1.0] * X.shape[0] if weights is None else weights / weights.max(), X)[:, None]

    # deviations from a row, not from zero: exact under large offsets, and zero where X is constant
    def chunks() -> Iterator[tuple[Array, Array]]:
        for rows in row_chunks(X.shape[0], 32 * X.shape[1]):
            d = X[rows, :] - X[first : first + 1, :]
            yield w[rows, :], xp.where(w[rows, :] > 0, d, xp.zeros_like(d))

    spread = max(float(xp.max(xp.abs(d))) for _, d in chunks())
    if spread == 0.0:
        raise ValueError(
            f"X holds one distinct sample in its {X.shape[0]} rows: its scale is zero, pass at "
            f"least two different rows."
        )
    total = float(xp.sum(w, dtype=xp.float64))
    sums = [xp.sum(part * (d / spread), axis=0, dtype=xp.float64) for part, d in chunks()]
    centre = xp.astype(sum(sums[1:], sums[0]) / total, X.dtype)
    squares = (part * (d / spread - centre) ** 2 for part, d in chunks())
    variance = sum(float(xp.sum(q, dtype=xp.float64)) for q in squares) / (total * X.shape[1])
    return spread * math.sqrt(variance)


def default_noise_levels(
    X: Array,
    n_levels: int = 21,
    low: float = 0.05,
    high: float = 5.0,
    *,
    scale: float | None = None,
    sample_weight: Any = None,
) -> Array:
    """Geometric grid of noise levels from the scale of a sample.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        The sample; library, dtype and device of the grid are its own.
    n_levels : int
        Number of levels, at least 2.
    low, high : float
        First and last level over the scale.
    scale : float, optional
        Taken instead of ``rms_scale(X, sample_weight)``.
    sample_weight : array-like of shape (n_samples,), optional
        Weights for the scale.

    Returns
    -------
    array of shape (n_levels,)
        sigma, increasing, in units of X.

    Raises
    ------
    ValueError
        Fewer than two levels, not 0 < low < high, `scale` not positive, or as `rms_scale` does.

    Examples
    --------
    >>> default_noise_levels([[0.0], [2.0]], n_levels=3, low=0.01, high=1.0)
    array([0.01, 0.1 , 1.  ])
    """
    if n_levels < 2:
        raise ValueError(
            f"n_levels is {n_levels}: a geometric grid has at least 2 levels, pass a single one "
            f"as noise_levels=[sigma]."
        )
    if not 0.0 < low < high < math.inf:
        raise ValueError(f"low is {low} and high is {high}: pass 0 < low < high.")
    X = as_sample(X)
    unit = rms_scale(X, sample_weight) if scale is None else as_sigma(scale, name="scale")
    ratio = (high / low) ** (1.0 / (n_levels - 1))
    return like([unit * low * ratio**k for k in range(n_levels)], X)


def window_weights(noise_levels: Array, scale: float, over: str = "log") -> Array:
    """Weights of a mean over noise levels, by the trapezoidal rule.

    Parameters
    ----------
    noise_levels : array of shape (T,)
        sigma, increasing.
    scale : float
        s, the RMS scale of the data, in the unit of sigma.
    over : {"log", "flow"}
        Uniform in log sigma, or in the time u = sigma / (s + sigma) of a linear flow from data of
        scale s to noise of the same scale.

    Returns
    -------
    array of shape (T,)
        Positive, with sum 1.

    Raises
    ------
    ValueError
        An unknown window.

    Examples
    --------
    >>> import numpy as np
    >>> window_weights(np.asarray([0.1, 1.0, 10.0]), 1.0)
    array([0.25, 0.5 , 0.25])
    """
    sigmas = [float(sigma) for sigma in noise_levels]
    if over == "log":
        places = [math.log(sigma) for sigma in sigmas]
    elif over == "flow":
        places = [sigma / (scale + sigma) for sigma in sigmas]
    else:
        raise ValueError(f"over is {over!r}: it is 'log' (uniform in log sigma) or 'flow'.")
    if len(places) == 1:
        return like([1.0], noise_levels)
    ends = [places[0], *places, places[-1]]
    width = 2 * (places[-1] - places[0])
    steps = zip(ends, ends[2:], strict=False)
    return like([(after - before) / width for before, after in steps], noise_levels)


def check_noise_levels(noise_levels: Any, reference: Array | None = None) -> Array:
    """`noise_levels` as an increasing vector of positive numbers, or an error that says why not.

    Parameters
    ----------
    noise_levels : array-like of shape (T,)
        sigma, standard deviations in units of X.
    reference : array, optional
        Its library, dtype and device are those of the result; NumPy float64 without it.

    Returns
    -------
    array of shape (T,)

    Raises
    ------
    TypeError
        Values that are not real numbers.
    ValueError
        Empty, not one-dimensional, or a level that is NaN, infinite, zero, negative, or not above
        the level before it.

    Examples
    --------
    >>> check_noise_levels([0.1, 1])
    array([0.1, 1. ])
    """
    values = to_numpy(noise_levels)
    if values.dtype.kind not in "iuf":
        raise TypeError(
            f"noise_levels is {noise_levels!r}: pass real numbers, or None for the default grid."
        )
    if values.ndim != 1:
        raise ValueError(
            f"noise_levels has shape {values.shape}: pass a one-dimensional sequence, a single "
            f"level as [sigma]."
        )
    if values.shape[0] == 0:
        raise ValueError(
            "noise_levels is empty: pass at least one level, or None for the default grid."
        )
    levels = values.astype("float64") if reference is None else like(values, reference)
    sigmas = [float(level) for level in levels]
    for k, sigma in enumerate(sigmas):
        as_sigma(sigma, name=f"noise_levels[{k}]")
        if k and sigma <= sigmas[k - 1]:
            raise ValueError(
                f"noise_levels[{k}] is {sigma} after {sigmas[k - 1]}: levels must increase "
                f"strictly, pass them sorted and without repetition (numpy.unique does both)."
            )
    return levels
