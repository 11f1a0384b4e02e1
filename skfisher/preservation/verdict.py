"""Whether a latent keeps the data's MMSE rate, by theorem, by measurement or by model."""

from __future__ import annotations

import math
from dataclasses import dataclass

from skfisher._backend.arrays import Array, like
from skfisher.bounds import Hypothesis, isometry_identity
from skfisher.curves import InformationCurve
from skfisher.preservation.limits import (
    Geometry,
    check_dimension,
    check_scale,
    check_tolerance,
    largest_curvature,
    largest_distortion,
)

__all__ = ["Preservation", "preserves_fisher_rate"]

_SAID = {True: "on the caller's word", False: "nothing was said of it"}


@dataclass(frozen=True, eq=False)
class Preservation:
    """Whether the latent keeps the data's MMSE rate to a tolerance, per noise level.

    Attributes
    ----------
    epsilon : float
        Tolerance on |rate_Z(c^2 t) - rate_X(t)| / k.
    intrinsic_dimension, rank : int
        k, and how many of the data's directions the latent keeps.
    c : float
        Scale of the encoder, in z/x.
    noise_levels : array of shape (T,)
        sigma in the data.
    answers : tuple of str
        "yes", "no" or "unknown" per level.
    status : tuple of str
        What each answer rests on: "proved" (a theorem whose hypotheses are met), "measured" (both
        curves) or "model".
    reasons : tuple of str
        Each answer in words.
    gap, gap_stderr : array of shape (T,)
        The measured gap with its sign; NaN without curves.
    measured : bool array of shape (T,)
        Where both curves are valid.
    predicted_bounds : array of shape (T, 2)
        Between which values the geometry puts the gap; NaN where it says nothing.
    predicted_answers : tuple of str
    predicted_status : str
        "proved" or "model".
    largest_distortion : float
        Tangential distortion that alone keeps the tolerance (`largest_distortion`).
    largest_curvature : array of shape (T,)
        |c^2 kappa_Z - kappa_X| that alone keeps it (`largest_curvature`), in 1/x^2.
    checks : tuple of Hypothesis
        What the theorems ask for.
    """

    epsilon: float
    intrinsic_dimension: int
    rank: int
    c: float
    noise_levels: Array
    answers: tuple[str, ...]
    status: tuple[str, ...]
    reasons: tuple[str, ...]
    gap: Array
    gap_stderr: Array
    measured: Array
    predicted_bounds: Array
    predicted_answers: tuple[str, ...]
    predicted_status: str
    largest_distortion: float
    largest_curvature: Array
    checks: tuple[Hypothesis, ...]

    def __repr__(self) -> str:
        tally = ", ".join(
            f"{word} {self.answers.count(word)}" for word in dict.fromkeys(self.answers)
        )
        return f"Preservation(epsilon={self.epsilon:g}: {tally})"


def preserves_fisher_rate(
    noise_levels: Array,
    *,
    epsilon: float = 0.05,
    intrinsic_dimension: int,
    c: float,
    rank: int | None = None,
    tangential_distortion: float = math.nan,
    tangential_distortion_stderr: float = 0.0,
    data_curvature: float = math.nan,
    data_curvature_stderr: float = 0.0,
    latent_curvature: float = math.nan,
    latent_curvature_stderr: float = 0.0,
    reach: float = math.nan,
    m: float = 0.0,
    L: float = math.inf,
    exact_constants: bool = False,
    affine: bool = False,
    gaussian: bool = False,
    rigid: bool = False,
    data: InformationCurve | None = None,
    latent: InformationCurve | None = None,
    n_stderr: float = 2.0,
) -> Preservation:
    """Whether the latent at c^2 t has the data's MMSE rate at t, to epsilon per dimension.

    Parameters
    ----------
    noise_levels : array of shape (T,)
        sigma in the data.
    epsilon : float
        Tolerance on |rate_Z(c^2 t) - rate_X(t)| / k.
    intrinsic_dimension : int
        k, the data's own dimension: of its affine hull where the encoder is affine and X Gaussian.
    c : float
        Scale of the encoder, in z/x: exp of half the mean log of the retained sigma^2.
    rank : int, optional
        Directions kept; default k. Lost directions count: they take up to (k - rank)/k off the
        gap, all of it where the noise is small.
    tangential_distortion, tangential_distortion_stderr : float
        E |log(G/c^2)|_F^2 / rank and its standard error; NaN where either is not known, here and
        below.
    data_curvature, latent_curvature, data_curvature_stderr, latent_curvature_stderr : float
        E |II(u,u)|^2 of the data (1/x^2) and of its image in the latent (1/z^2): the part of
        E |a(u)|^2 / |Bu|^4 outside the image's tangent space. Not used for affine maps of
        Gaussians, which are flat.
    reach : float
        Of the data, in x; NaN where it is not known, and curvature is then taken to be even, as
        that of the latent always is.
    m, L : float
        Bi-Lipschitz constants in z/x; 0 and inf claim nothing.
    exact_constants, affine, gaussian, rigid : bool
        m and L hold for all pairs; the encoder is affine on the data; X is Gaussian; all distances
        are scaled by c.
    data, latent : InformationCurve, optional
        Of X at `noise_levels` and of Z at c times these.
    n_stderr : float
        Standard errors by which a measured gap, or a measured penalty, must clear a limit.

    Returns
    -------
    Preservation
        With both curves, the measured gap decides: "yes" for |gap| + n_stderr errors <= epsilon,
        "no" for |gap| - n_stderr errors > epsilon. Where they are not valid or cannot tell, a
        theorem decides; a model decides only where nothing valid was measured. Without curves the
        geometry decides: "yes" where the whole interval that it leaves for the gap keeps the
        tolerance, "no" where none of it does. The errors of the two curves are added as if
        independent; common samples make that conservative.

    Raises
    ------
    ValueError
        A number out of range; one curve without the other; curves at other levels.

    Notes
    -----
    Derived in the documentation of `skfisher.preservation`. Distortion and curvature are added, a
    model where both are present. The relative gap of the Fisher information rates is no measure:
    an isometry from three to two dimensions shows -82 %.

    Examples
    --------
    >>> import numpy as np
    >>> sigma = np.asarray([0.1, 1.0])
    >>> found = preserves_fisher_rate(sigma, intrinsic_dimension=3, c=2.0, rigid=True)
    >>> found.answers, found.status
    (('yes', 'yes'), ('proved', 'proved'))
    >>> preserves_fisher_rate(sigma, intrinsic_dimension=1, c=1.0, tangential_distortion=0.0,
    ...                       data_curvature=1.0, latent_curvature=0.0)  # a circle unrolled
    Preservation(epsilon=0.05: yes 1, unknown 1)
    """
    check_tolerance(epsilon)
    c = check_scale(c)
    k = check_dimension(intrinsic_dimension)
    rank = k if rank is None else int(rank)
    if not 0 <= rank <= k:
        raise ValueError(f"rank is {rank}, but intrinsic_dimension is {k}: pass 0 to {k}.")
    rigid = rigid or (exact_constants and rank == k and m > 0 and math.isclose(m, L, rel_tol=1e-8))
    exact = tangential_distortion_stderr == 0.0 and not math.isnan(tangential_distortion)
    flat = affine and gaussian
    proved = rigid or (flat and (exact or exact_constants))
    distortion = _interval(
        "tangential_distortion", tangential_distortion, tangential_distortion_stderr, n_stderr
    )[1]
    # a theorem takes nothing from what is only estimated
    usable = exact_constants or not proved
    geometry = Geometry(
        k=k,
        rank=rank,
        c=c,
        distortion=distortion if exact or not proved else math.nan,
        m=m if usable else 0.0,
        L=L if usable else math.inf,
        data_curvature=_interval("data_curvature", data_curvature, data_curvature_stderr, n_stderr),
        latent_curvature=_interval(
            "latent_curvature", latent_curvature, latent_curvature_stderr, n_stderr
        ),
        reach=reach,
        rigid=rigid,
        flat=flat,
    )
    measured = _measured(data, latent, c, k, noise_levels)
    status = "proved" if proved else "model"
    predictions, found = [], []
    for i in range(noise_levels.shape[0]):
        gap, stderr, data_rate, valid = (values[i] for values in measured)
        low, high, why = geometry.gap(float(noise_levels[i]) ** 2, data_rate)
        reason = why or f"by the geometry the gap lies between {low:.3g} and {high:.3g}"
        predicted = _decide(_least(low, high), max(-low, high), epsilon)
        predictions.append((low, high, predicted))
        spread = n_stderr * stderr
        seen = _decide(max(0.0, abs(gap) - spread), abs(gap) + spread, epsilon)
        words = f"the measured gap is {gap:.3g} with standard error {stderr:.1g}"
        if valid and seen != "unknown":
            if proved and {seen, predicted} == {"yes", "no"}:
                words += f", though {reason}: a hypothesis of the theorem is not met"
            found.append((seen, "measured", words))
        elif valid and not (proved and predicted != "unknown"):
            words += f", too large to tell it from {epsilon:g}"
            found.append(("unknown", "measured", words))
        else:
            found.append((predicted, status, reason))
    answers, statuses, reasons = zip(*found, strict=True)
    limit = largest_distortion(epsilon, lost_share=1.0 - rank / k) if rank else math.nan
    return Preservation(
        epsilon=float(epsilon),
        intrinsic_dimension=k,
        rank=rank,
        c=c,
        noise_levels=noise_levels,
        answers=answers,
        status=statuses,
        reasons=reasons,
        gap=like(measured[0], noise_levels),
        gap_stderr=like(measured[1], noise_levels),
        measured=like([float(flag) for flag in measured[3]], noise_levels) > 0,
        predicted_bounds=like([[low, high] for low, high, _ in predictions], noise_levels),
        predicted_answers=tuple(word for _, _, word in predictions),
        predicted_status=status,
        largest_distortion=limit,
        largest_curvature=largest_curvature(
            epsilon, noise_levels, intrinsic_dimension=k, reach=reach
        ),
        checks=(
            Hypothesis("all distances are scaled by c", rigid, _SAID[rigid]),
            Hypothesis("the encoder is affine on the data", affine, _SAID[affine]),
            Hypothesis("the data is Gaussian", gaussian, _SAID[gaussian]),
            Hypothesis("the tangential distortion is exact", exact, "its standard error is 0"),
            Hypothesis("m and L hold for all pairs", exact_constants, _SAID[exact_constants]),
        ),
    )


def _measured(
    data: InformationCurve | None,
    latent: InformationCurve | None,
    c: float,
    k: int,
    noise_levels: Array,
) -> tuple[list[float], list[float], list[float], list[bool]]:
    """Gap, its standard error, the data's rate where it is exact, validity; per level."""
    n_levels = noise_levels.shape[0]
    nan = [math.nan] * n_levels
    if data is None and latent is None:
        return nan, nan, nan, [False] * n_levels
    if data is None or latent is None:
        given = "data" if latent is None else "latent"
        raise ValueError(
            f"only the curve of {given} was given: pass data at noise_levels and latent at c times "
            f"these, or neither."
        )
    if data.noise_levels.shape != noise_levels.shape or any(
        abs(float(a) - float(b)) > 1e-6 * float(b)
        for a, b in zip(data.noise_levels, noise_levels, strict=True)
    ):
        raise ValueError(
            f"data has {data.noise_levels.shape[0]} noise levels from "
            f"{float(data.noise_levels[0]):g} to {float(data.noise_levels[-1]):g}, but "
            f"noise_levels has {n_levels} from {float(noise_levels[0]):g} to "
            f"{float(noise_levels[-1]):g}: compute the curve at these levels."
        )
    pair = isometry_identity(latent, data, c=c)
    gap = [(float(z) - float(x)) / k for z, x in zip(pair.value, pair.lower, strict=True)]
    errors = zip(pair.value_stderr, pair.lower_stderr, strict=True)
    stderr = [math.hypot(float(a), float(b)) / k for a, b in errors]
    valid = [
        bool(latent.valid[i]) and bool(data.valid[i]) and math.isfinite(gap[i] + stderr[i])
        for i in range(n_levels)
    ]
    rates = [
        float(pair.lower[i]) if float(pair.lower_stderr[i]) == 0.0 and valid[i] else math.nan
        for i in range(n_levels)
    ]
    return gap, stderr, rates, valid


def _decide(least: float, most: float, epsilon: float) -> str:
    """Whether |gap|, between `least` and `most`, is within the tolerance; NaN decides nothing."""
    if most <= epsilon:
        return "yes"
    return "no" if least > epsilon else "unknown"


def _least(low: float, high: float) -> float:
    """Least absolute value between two ends."""
    return max(low, -high, 0.0) if low <= high else math.nan


def _interval(name: str, value: float, stderr: float, n_stderr: float) -> tuple[float, float]:
    """A penalty with the room that its error leaves, from 0; NaN where either is not known."""
    value, stderr = float(value), float(stderr)
    if math.isnan(value) or math.isnan(stderr):
        return math.nan, math.nan
    # an estimate with its noise taken off may fall below 0, an exact penalty may not
    if math.isinf(value) or stderr < 0 or (value < 0 and stderr == 0):
        raise ValueError(
            f"{name} is {value} with standard error {stderr}: pass a finite value (NaN where it is "
            f"not known), from 0 where it is exact, and an error from 0."
        )
    room = n_stderr * stderr
    return max(0.0, value - room), max(0.0, value + room)
