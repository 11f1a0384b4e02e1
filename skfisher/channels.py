"""Image-shaped latents: a two-dimensional view of them, and how each channel is normalised.

Latents of shape (N, C, H, W), or (N, C, ...), have their channels first. Their two-dimensional view
has one row per sample and the columns of C, H, W in C order, so the columns of one channel stand
side by side. A diffusion model expects every channel near mean 0 and variance 1; the score on its
own noise grid is blind to one common scale, but not to channels of different scale.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from array_api_compat import is_array_api_obj

from skfisher._backend.arrays import Array, like, namespace, row_chunks, to_numpy
from skfisher._backend.validation import as_sample
from skfisher.exceptions import UnnormalizedLatentsWarning

__all__ = [
    "ChannelLimits",
    "ChannelReport",
    "channel_report",
    "check_latent_shape",
    "flatten_latents",
    "latent_normalization",
    "normalize_latents",
    "per_feature",
    "warn_if_unnormalized",
]

Factors: TypeAlias = float | tuple[float, ...]

_NAMED = 8  # channels that a text lists one by one


@dataclass(frozen=True)
class ChannelLimits:
    """Within which bounds channels count as normalised (model: conventions, not theorems).

    Attributes
    ----------
    mean : float
        Largest |mean|.
    smallest_std, largest_std : float
        Bounds of the standard deviation.
    imbalance : float
        Largest ratio of two channels' standard deviations.
    dead : float
        A channel whose standard deviation is below this share of the largest carries nothing.
    n_errors : float
        A bound is missed by what exceeds this many standard errors.
    """

    mean: float = 0.5
    smallest_std: float = 0.5
    largest_std: float = 2.0
    imbalance: float = 3.0
    dead: float = 1e-3
    n_errors: float = 2.0


@dataclass(frozen=True, eq=False)
class ChannelReport:
    """How each channel of a latent is distributed, and whether it is normalised.

    Attributes
    ----------
    latent_shape : tuple of int
        (C, ...); (n_features,) where every column is a channel of its own.
    n_samples : int
    mean, mean_stderr : array of shape (C,)
        Over samples and positions; samples are independent, the positions of one are not.
    std, std_stderr : array of shape (C,)
        Standard deviation over samples and positions.
    minimum, maximum : array of shape (C,)
    overall_mean, overall_std : float
        Over all entries together.
    rms : float
        Root of the mean square of all entries, 1 for a normalised latent.
    dead : tuple of int
        Channels that are constant, or next to it.
    normalized : bool
        Whether every channel is near mean 0 and variance 1: what a network expects.
    balanced : bool
        Whether no channel is dead and their scales are alike: what a score that is blind to one
        common scale still depends on.
    reasons, imbalances : tuple of str
        Why the latent is not normalised; why it is not balanced.
    shift, scale : array of shape (C,)
        ``(z - shift) * scale`` has mean 0 and variance 1 per channel. The scale of a constant
        channel is 1.
    scaling_factor : float
        1 / overall_std: the one factor that latent diffusion commonly applies.
    limits : ChannelLimits
    """

    latent_shape: tuple[int, ...]
    n_samples: int
    mean: Array
    mean_stderr: Array
    std: Array
    std_stderr: Array
    minimum: Array
    maximum: Array
    overall_mean: float
    overall_std: float
    rms: float
    dead: tuple[int, ...]
    normalized: bool
    balanced: bool
    reasons: tuple[str, ...]
    imbalances: tuple[str, ...]
    shift: Array
    scale: Array
    scaling_factor: float
    limits: ChannelLimits

    def __repr__(self) -> str:
        return (
            f"ChannelReport({self.latent_shape[0]} channels, n_samples={self.n_samples}, "
            f"normalized={self.normalized}, balanced={self.balanced})"
        )

    @property
    def text(self) -> str:
        """The report in words, one line per channel (of at most eight) and one verdict."""
        channels = self.latent_shape[0]
        lines = [
            f"{self.n_samples} latents of shape {self.latent_shape}, RMS {self.rms:.4g}, overall "
            f"mean {self.overall_mean:.4g} and standard deviation {self.overall_std:.4g}"
        ]
        for c in range(min(channels, _NAMED)):
            lines.append(
                f"channel {c}: mean {float(self.mean[c]):.4g} +- {float(self.mean_stderr[c]):.2g}, "
                f"standard deviation {float(self.std[c]):.4g} +- {float(self.std_stderr[c]):.2g}, "
                f"from {float(self.minimum[c]):.4g} to {float(self.maximum[c]):.4g}"
                + (" (dead)" if c in self.dead else "")
            )
        if channels > _NAMED:
            lines.append(f"and {channels - _NAMED} more channels")
        found = list(dict.fromkeys((*self.reasons, *self.imbalances)))
        lines.append("normalized" if not found else "not normalized: " + "; ".join(found))
        return "\n".join(lines)


# -- shapes ------------------------------------------------------------------------------------


def flatten_latents(Z: Any, *, name: str = "X", min_samples: int = 1) -> tuple[Array, Any]:
    """Latents as a matrix with one row per sample, and the shape of one latent.

    Parameters
    ----------
    Z : array-like of shape (n_samples, C, ...) or (n_samples, n_features)
        Of any array library.
    name : str
        How messages call the argument.
    min_samples : int
        The fewest rows accepted.

    Returns
    -------
    rows : array of shape (n_samples, n_features)
        As `as_sample` reads it: float64 for integers, float32 for half precision.
    latent_shape : tuple of int or None
        (C, ...); None where Z was two-dimensional already.

    Raises
    ------
    TypeError, ValueError
        Sparse, complex, empty or not finite input, text, fewer dimensions than two.

    Examples
    --------
    >>> import numpy as np
    >>> rows, shape = flatten_latents(np.zeros((10, 4, 8, 8)))
    >>> rows.shape, shape
    ((10, 256), (4, 8, 8))
    """
    if getattr(Z, "ndim", 2) <= 2 and not isinstance(Z, (list, tuple)):
        return as_sample(Z, name=name, min_samples=min_samples), None
    values = Z if is_array_api_obj(Z) else to_numpy(Z)
    if values.ndim <= 2:
        return as_sample(values, name=name, min_samples=min_samples), None
    shape = tuple(int(size) for size in values.shape)
    flat = namespace(values).reshape(values, (shape[0], math.prod(shape[1:])))
    return as_sample(flat, name=name, min_samples=min_samples), shape[1:]


def check_latent_shape(latent_shape: Any, n_features: int) -> tuple[int, ...]:
    """`latent_shape` as a tuple of positive integers whose product is `n_features`.

    None stands for ``(n_features,)``.

    Raises
    ------
    ValueError
        Not positive integers, or another number of features.

    Examples
    --------
    >>> check_latent_shape([4, 8, 8], 256)
    (4, 8, 8)
    """
    if latent_shape is None:
        return (n_features,)
    try:
        shape = tuple(int(size) for size in latent_shape)
        exact = all(a == b for a, b in zip(shape, latent_shape, strict=True))
    except (TypeError, ValueError):
        shape, exact = (), False
    if not exact or not shape or min(shape) < 1:
        raise ValueError(
            f"latent_shape is {latent_shape!r}: pass positive integers, channels first, such as "
            f"(4, 32, 32)."
        )
    if math.prod(shape) != n_features:
        raise ValueError(
            f"latent_shape is {shape}, which is {math.prod(shape)} numbers per sample, but X has "
            f"{n_features} features: pass the (C, H, W) of one row."
        )
    return shape


def per_feature(values: Array, latent_shape: tuple[int, ...]) -> Array:
    """One value per channel, repeated for each column of the channel in the 2-D view.

    Parameters
    ----------
    values : array of shape (C,)
    latent_shape : tuple of int
        (C, ...).

    Returns
    -------
    array of shape (C * ...,)

    Examples
    --------
    >>> import numpy as np
    >>> per_feature(np.asarray([1.0, 2.0]), (2, 3))
    array([1., 1., 1., 2., 2., 2.])
    """
    xp = namespace(values)
    each = math.prod(latent_shape[1:])
    return xp.reshape(xp.broadcast_to(values[:, None], (latent_shape[0], each)), (-1,))


# -- the report --------------------------------------------------------------------------------


def channel_report(
    Z: Any, latent_shape: Any = None, *, limits: ChannelLimits | None = None
) -> ChannelReport:
    """Mean, scale and range of every channel, with a verdict on their normalisation.

    Parameters
    ----------
    Z : array-like of shape (n_samples, C, ...) or (n_samples, n_features)
    latent_shape : tuple of int, optional
        (C, H, W) of one row where Z is two-dimensional; without it every column is a channel.
    limits : ChannelLimits, optional

    Returns
    -------
    ChannelReport
        Arrays in Z's library, dtype and device.

    Raises
    ------
    ValueError
        `latent_shape` that does not fit Z, fewer than two samples, or what `flatten_latents`
        refuses.

    Notes
    -----
    With m_i the mean of sample i over positions and q_i the mean of (z - mean)^2, the standard
    errors are those of the means of m_i and q_i over N independent samples, and
    se(std) = se(q) / (2 std) (delta method). Their bias is O(1/N).

    Examples
    --------
    >>> import numpy as np
    >>> Z = np.random.default_rng(0).normal(size=(200, 4, 8, 8)) * 5
    >>> report = channel_report(Z)
    >>> report.normalized, report.balanced
    (False, True)
    >>> round(report.scaling_factor, 2)
    0.2
    """
    limits = limits or ChannelLimits()
    rows, own_shape = flatten_latents(Z, name="Z", min_samples=2)
    if own_shape is not None and latent_shape not in (None, own_shape):
        raise ValueError(
            f"latent_shape is {latent_shape!r}, but Z has samples of shape {own_shape}: leave "
            f"latent_shape out."
        )
    shape = check_latent_shape(own_shape or latent_shape, rows.shape[1])
    xp = namespace(rows)
    N, C, each = rows.shape[0], shape[0], math.prod(shape[1:])

    def chunks() -> Any:
        for part in row_chunks(N, 24 * C * each):
            block = xp.reshape(rows[part, :], (-1, C, each))
            yield xp.astype(block, xp.float64)

    # around one sample's mean, so that a large offset costs no digits
    origin = next(chunks())[0, :, :]
    origin = xp.mean(origin, axis=1)[None, :, None]
    m = xp.concat([xp.mean(z - origin, axis=2) for z in chunks()])
    lowest = xp.min(xp.stack([xp.min(xp.min(z, axis=2), axis=0) for z in chunks()]), axis=0)
    highest = xp.max(xp.stack([xp.max(xp.max(z, axis=2), axis=0) for z in chunks()]), axis=0)
    centre = xp.mean(m, axis=0)
    mean = centre + origin[0, :, 0]
    q = xp.concat([xp.mean((z - mean[None, :, None]) ** 2, axis=2) for z in chunks()])
    variance = xp.mean(q, axis=0)
    std = xp.sqrt(variance)
    freedom = max(N - 1, 1)
    mean_error = xp.sqrt(xp.sum((m - centre) ** 2, axis=0) / (freedom * N))
    q_error = xp.sqrt(xp.sum((q - variance) ** 2, axis=0) / (freedom * N))
    epsilon = xp.finfo(rows.dtype).eps
    largest = xp.where(xp.abs(lowest) > xp.abs(highest), xp.abs(lowest), xp.abs(highest))
    constant = std <= epsilon * largest
    safe = xp.where(constant, xp.ones_like(std), std)
    std_error = xp.where(constant, xp.zeros_like(std), q_error / (2 * safe))

    values = [float(v) for v in std]
    top = max(values)
    dead = tuple(c for c in range(C) if bool(constant[c]) or values[c] <= limits.dead * top)
    reasons = _not_normalized(mean, mean_error, std, std_error, dead, limits)
    imbalances = _not_balanced(values, [float(e) for e in std_error], dead, limits)
    overall_mean = float(xp.mean(mean))
    overall = math.sqrt(float(xp.mean(variance + (mean - overall_mean) ** 2)))

    def cast(array: Array) -> Array:
        return xp.astype(array, rows.dtype)

    return ChannelReport(
        latent_shape=shape,
        n_samples=N,
        mean=cast(mean),
        mean_stderr=cast(mean_error),
        std=cast(xp.where(constant, xp.zeros_like(std), std)),
        std_stderr=cast(std_error),
        minimum=cast(lowest),
        maximum=cast(highest),
        overall_mean=overall_mean,
        overall_std=overall,
        rms=math.sqrt(float(xp.mean(variance + mean**2))),
        dead=dead,
        normalized=not reasons and not imbalances,
        balanced=not imbalances,
        reasons=reasons,
        imbalances=imbalances,
        shift=cast(mean),
        scale=cast(1 / safe),
        scaling_factor=1 / overall if overall > 0 else 1.0,
        limits=limits,
    )


def _not_normalized(
    mean: Array,
    mean_error: Array,
    std: Array,
    std_error: Array,
    dead: tuple[int, ...],
    limits: ChannelLimits,
) -> tuple[str, ...]:
    n = limits.n_errors
    off, small, large = [], [], []
    for c in range(mean.shape[0]):
        if abs(float(mean[c])) - n * float(mean_error[c]) > limits.mean:
            off.append(c)
        if c in dead:
            continue
        if float(std[c]) + n * float(std_error[c]) < limits.smallest_std:
            small.append(c)
        if float(std[c]) - n * float(std_error[c]) > limits.largest_std:
            large.append(c)
    found = []
    if off:
        worst = max(off, key=lambda c: abs(float(mean[c])))
        found.append(
            f"mean of {_channels(off)} beyond {limits.mean:g} "
            f"(channel {worst}: {float(mean[worst]):.3g})"
        )
    if small:
        least = min(small, key=lambda c: float(std[c]))
        found.append(
            f"standard deviation of {_channels(small)} below {limits.smallest_std:g} "
            f"(channel {least}: {float(std[least]):.3g})"
        )
    if large:
        most = max(large, key=lambda c: float(std[c]))
        found.append(
            f"standard deviation of {_channels(large)} above {limits.largest_std:g} "
            f"(channel {most}: {float(std[most]):.3g})"
        )
    return tuple(found)


def _not_balanced(
    std: Sequence[float], error: Sequence[float], dead: tuple[int, ...], limits: ChannelLimits
) -> tuple[str, ...]:
    found = []
    if dead:
        found.append(f"{_channels(dead)} dead")
    alive = [c for c in range(len(std)) if c not in dead]
    if len(alive) > 1:
        low, high = min(alive, key=lambda c: std[c]), max(alive, key=lambda c: std[c])
        ratio = std[high] / std[low]
        # relative errors of the two add up in that of their ratio
        allowed = limits.n_errors * math.hypot(error[high] / std[high], error[low] / std[low])
        if ratio * max(1 - allowed, 0.0) > limits.imbalance:
            found.append(
                f"standard deviations {ratio:.3g} times apart (channel {low}: {std[low]:.3g}, "
                f"channel {high}: {std[high]:.3g})"
            )
    return tuple(found)


def _channels(index: Sequence[int]) -> str:
    names = ", ".join(str(c) for c in index[:_NAMED])
    more = f" and {len(index) - _NAMED} more" if len(index) > _NAMED else ""
    return f"channel{'s' if len(index) > 1 else ''} {names}{more}"


# -- normalisation -----------------------------------------------------------------------------


def latent_normalization(config: Any) -> tuple[Factors, Factors]:
    """Shift and scale of a model's latents from its configuration.

    The model sees ``(z - shift) * scale``.

    Parameters
    ----------
    config : mapping or object
        With some of `scaling_factor`, `shift_factor`, `latents_mean`, `latents_std`, as keys or as
        attributes: a dictionary, a configuration, or a model that has a `config` (or holds the
        statistics itself).

    Returns
    -------
    shift, scale : float or tuple of float
        One number, or one per channel.

    Raises
    ------
    ValueError
        None of the four is set, `shift_factor` beside `latents_mean`, or a scale that is not
        positive.

    Notes
    -----
    As the pipelines of diffusers encode: z scaling_factor; (z - shift_factor) scaling_factor; and
    (z - latents_mean) scaling_factor / latents_std, with a scaling_factor of 1 where there is none.

    Examples
    --------
    >>> latent_normalization({"scaling_factor": 0.3611, "shift_factor": 0.1159})
    (0.1159, 0.3611)
    >>> latent_normalization({"latents_mean": [1.0, 2.0], "latents_std": [4.0, 5.0]})
    ((1.0, 2.0), (0.25, 0.2))
    """
    found = {name: _setting(config, name) for name in _SETTINGS}
    factor, shift, mean, std = (found[name] for name in _SETTINGS)
    if all(value is None for value in found.values()):
        raise ValueError(
            f"{type(config).__name__} has none of {', '.join(_SETTINGS)}: pass the configuration "
            f"of the autoencoder, or apply normalize_latents(Z, shift, scale) yourself."
        )
    if shift is not None and mean is not None and _any(shift) and _any(mean):
        raise ValueError(
            f"shift_factor is {shift!r} and latents_mean is {mean!r}: it is not known which of the "
            f"two a pipeline subtracts, apply normalize_latents(Z, shift, scale) yourself."
        )
    factor = 1.0 if factor is None else factor
    if std is not None:
        factor = _ratio(factor, std)
    centre: Factors = shift if mean is None or not _any(mean) else mean
    centre = 0.0 if centre is None else centre
    for value in factor if isinstance(factor, tuple) else (factor,):
        if not (math.isfinite(value) and value > 0):
            raise ValueError(
                f"the scale of the latents is {value}: scaling_factor and latents_std must be "
                f"positive."
            )
    return centre, factor


_SETTINGS = ("scaling_factor", "shift_factor", "latents_mean", "latents_std")


def _setting(config: Any, name: str) -> Any:
    """The setting as a float or a tuple of floats; None where it is not set."""
    value = None
    # a model's own attribute only where its configuration does not know the name: diffusers warns
    # of what it forwards from the one to the other
    for source in (getattr(config, "config", None), config):
        known = name in source if isinstance(source, Mapping) else hasattr(source, name)
        if source is not None and known:
            value = source[name] if isinstance(source, Mapping) else getattr(source, name)
            break
    if value is None:
        return None
    numbers = to_numpy(value).astype("float64").reshape(-1)
    one = not hasattr(value, "__len__") or getattr(value, "ndim", 1) == 0
    return float(numbers[0]) if one else tuple(float(number) for number in numbers)


def _any(values: Factors) -> bool:
    return any(value != 0 for value in (values if isinstance(values, tuple) else (values,)))


def _ratio(factor: Factors, std: Factors) -> Factors:
    tops = factor if isinstance(factor, tuple) else (factor,)
    bottoms = std if isinstance(std, tuple) else (std,)
    size = max(len(tops), len(bottoms))
    tops, bottoms = (part * size if len(part) == 1 else part for part in (tops, bottoms))
    ratios = tuple(a / b if b else math.inf for a, b in zip(tops, bottoms, strict=True))
    return ratios if isinstance(factor, tuple) or isinstance(std, tuple) else ratios[0]


def normalize_latents(Z: Any, shift: Any, scale: Any, latent_shape: Any = None) -> Array:
    """``(Z - shift) * scale``, one shift and scale for all or one per channel.

    Parameters
    ----------
    Z : array-like of shape (n_samples, C, ...) or (n_samples, n_features)
    shift, scale : float, sequence of float or array of shape (C,)
        As `latent_normalization` and `ChannelReport` give them.
    latent_shape : tuple of int, optional
        (C, H, W) of one row where Z is two-dimensional; without it every column is a channel.

    Returns
    -------
    array of the shape of Z

    Raises
    ------
    ValueError
        Another number of channels, a scale that is not positive, or what `flatten_latents` refuses.

    Examples
    --------
    >>> import numpy as np
    >>> normalize_latents(np.asarray([[1.0, 10.0], [3.0, 30.0]]), [2.0, 20.0], [1.0, 0.1])
    array([[-1., -1.],
           [ 1.,  1.]])
    """
    rows, own_shape = flatten_latents(Z, name="Z")
    shape = check_latent_shape(own_shape or latent_shape, rows.shape[1])
    factors = []
    for name, value in (("shift", shift), ("scale", scale)):
        numbers = to_numpy(value).astype("float64").reshape(-1)
        if numbers.shape[0] not in (1, shape[0]):
            raise ValueError(
                f"{name} has {numbers.shape[0]} entries, but the latents have {shape[0]} channels: "
                f"pass one number, or one per channel."
            )
        if name == "scale" and not (numbers > 0).all():
            raise ValueError(f"scale is {value!r}: pass positive factors.")
        column = like(numbers, rows)
        xp = namespace(rows)
        factors.append(per_feature(xp.broadcast_to(column, (shape[0],)), shape))
    result = (rows - factors[0]) * factors[1]
    return result if own_shape is None else xp.reshape(result, (rows.shape[0], *own_shape))


def warn_if_unnormalized(
    Z: Any,
    latent_shape: Any = None,
    *,
    config: Any = None,
    scale_free: bool = False,
    limits: ChannelLimits | None = None,
    stacklevel: int = 2,
) -> ChannelReport:
    """Warn when latents are visibly not normalised, with the factors that would make them so.

    Parameters
    ----------
    Z : array-like of shape (n_samples, C, ...) or (n_samples, n_features)
        As a model is about to see them.
    latent_shape : tuple of int, optional
        (C, H, W) of one row where Z is two-dimensional.
    config : mapping or object, optional
        Where the factors may be found, see `latent_normalization`. Without it, or where it has
        none, those of the sample are named.
    scale_free : bool
        Only dead channels and channels of different scale count: right for whatever measures on
        the noise grid of the latents themselves, to which one common scale is nothing.
    limits : ChannelLimits, optional
    stacklevel : int
        Of the warning; 2 is the caller.

    Returns
    -------
    ChannelReport

    Warns
    -----
    UnnormalizedLatentsWarning

    Raises
    ------
    ValueError
        As `channel_report`.
    """
    report = channel_report(Z, latent_shape, limits=limits)
    if report.balanced if scale_free else report.normalized:
        return report
    found = report.imbalances if scale_free else (*report.reasons, *report.imbalances)
    channels = [c for c in range(report.latent_shape[0]) if c not in report.dead]
    cure = (
        f"normalize_latents(Z, report.shift, report.scale) with report = channel_report(Z), here "
        f"shift {_some(report.shift, channels)} and scale {_some(report.scale, channels)}"
    )
    if config is not None and any(_setting(config, name) is not None for name in _SETTINGS):
        shift, scale = latent_normalization(config)
        cure = (
            f"normalize_latents(Z, *latent_normalization(config)), by whose configuration the "
            f"shift is {_brief(shift)} and the scale {_brief(scale)}"
        )
    warnings.warn(
        f"the latents are not {'balanced' if scale_free else 'normalized'}: {'; '.join(found)}. "
        f"If they are those of a diffusion model, pass {cure}.",
        UnnormalizedLatentsWarning,
        stacklevel=stacklevel,
    )
    return report


def _some(values: Array, channels: Sequence[int]) -> str:
    return _brief(tuple(float(values[c]) for c in channels))


def _brief(values: Factors) -> str:
    if not isinstance(values, tuple):
        return f"{values:.4g}"
    more = ", ..." if len(values) > _NAMED else ""
    return f"({', '.join(f'{value:.4g}' for value in values[:_NAMED])}{more})"
