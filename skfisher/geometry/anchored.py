"""What is measured at anchors: tangents, fits, the encoder's derivatives, and their penalties."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from skfisher._backend.arrays import Array, index_like, like, namespace, take_rows
from skfisher.geometry.affine import RETAINED, LinearMap
from skfisher.geometry.averages import (
    form_from_directions,
    polarisation_directions,
    random_tangents,
)
from skfisher.geometry.derivatives import directional_derivatives, pushforward
from skfisher.geometry.fits import LocalFit, fit_encoder, fit_second_form
from skfisher.geometry.pointwise import (
    PointwiseGeometry,
    bending_average,
    lost_directions_of,
    pointwise_geometry,
)
from skfisher.geometry.reach import reach_estimate
from skfisher.geometry.tangents import TangentSpaces, tangent_spaces

__all__ = ["Anchored", "measure"]

_WHOLE_FORM = 8  # largest k for which second derivatives are taken as a whole form
_DIRECTIONS = 8  # random tangents for larger k
_DRAWS = 4  # of the fits' errors, which are pushed through the encoder too
_PRODUCTS = 25_000  # derivatives along basis vectors that are taken, about, at most
_FEWEST = 16  # anchors


@dataclass(frozen=True, eq=False)
class Anchored:
    """Penalties measured at anchors.

    Attributes
    ----------
    anchors : integer array of shape (A,)
    means : mapping of str to tuple of float
        Value and standard error of what was measured.
    geometry : PointwiseGeometry or None
        None where the encoder could not be measured.
    reach : float
    lost_directions : array of shape (q, D) or None
    reasons : mapping of str to str
    """

    anchors: Array
    means: Mapping[str, tuple[float, float]]
    geometry: PointwiseGeometry | None
    reach: float
    lost_directions: Array | None
    reasons: Mapping[str, str]


@dataclass(frozen=True, eq=False)
class _Images:
    """Df V and D^2 f[V, V] of some directions, and their errors; `kinks` as for `Derivatives`."""

    first: Array
    second: Array | None
    first_error: Array
    second_error: Array
    kinks: bool
    method: str


def measure(
    X: Array,
    Z: Array,
    k: int,
    *,
    encode: Any = None,
    linear: LinearMap | None = None,
    latent_spread: Any = None,
    container: Callable[[Array], Any] | None = None,
    max_anchors: int = 128,
    seed: int = 0,
) -> Anchored:
    """Penalties at anchors, from derivatives where there are any, otherwise from local fits.

    Parameters
    ----------
    X, Z : arrays of shape (N, D), (N, d), in float64
    k : int
        Dimension of the tangent spaces.
    encode, linear, latent_spread, container, max_anchors
        As for `skfisher.geometry.penalties`.
    seed : int

    Returns
    -------
    Anchored
    """
    n_anchors = min(max_anchors, max(_FEWEST, _PRODUCTS // k))
    spaces = tangent_spaces(X, k, max_anchors=n_anchors, random_state=seed)
    reasons: dict[str, str] = {}
    means: dict[str, tuple[float, float]] = {}
    fit: LocalFit | None = None
    reach = math.inf
    if spaces.exact:
        reasons["data_curvature"] = "0: data that fill their affine hull are flat"
        means["data_curvature"] = (0.0, 0.0)
    else:
        fit = fit_second_form(X, spaces.basis, spaces.anchors, n_draws=_DRAWS, random_state=seed)
        estimate = reach_estimate(X, fit)
        reach = estimate.value
        word = "" if fit.measurable else "not measured: "
        reasons["data_curvature"] = f"{word}{fit.reason}; reach: {estimate.reason}"
        if fit.measurable:
            means["data_curvature"] = bending_average(
                fit.second_form, fit.second_form_noise, fit.n_independent, fit.bending_bias
            )
    geometry, why = None, ""
    if linear is not None or encode is not None:
        try:
            geometry = _by_derivatives(
                X,
                encode if linear is None else linear,
                None if linear is not None else latent_spread,
                container,
                spaces,
                fit,
                seed,
                reasons,
            )
        except (TypeError, ValueError) as error:
            why = f"; no derivatives: {error}"
    by_pairs = None
    if geometry is None or not math.isfinite(geometry.means["encoder_curvature"][0]):
        by_pairs = _by_pairs(X, Z, spaces, fit, seed, why, reasons, geometry)
    if geometry is None:
        geometry = by_pairs
    elif by_pairs is not None:
        names = ("encoder_curvature", "encoder_curvature_inside", "encoder_curvature_outside")
        geometry = replace(
            geometry,
            means={**geometry.means, **{name: by_pairs.means[name] for name in names}},
            **{name: getattr(by_pairs, name) for name in names},
        )
    lost = None
    if geometry is not None:
        means = {**means, **geometry.means}
        U = spaces.basis[:1, :, :] if fit is None else fit.basis
        lost, _ = lost_directions_of(U, geometry.pushforward, geometry.rank, X)
    return Anchored(spaces.anchors, means, geometry, reach, lost, reasons)


def _by_derivatives(
    X: Array,
    encode: Any,
    latent_spread: Any,
    container: Callable[[Array], Any] | None,
    spaces: TangentSpaces,
    fit: LocalFit | None,
    seed: int,
    reasons: dict[str, str],
) -> PointwiseGeometry:
    xp = namespace(X)
    x = take_rows(X, spaces.anchors)
    U = spaces.basis if fit is None else fit.basis
    A, _, k = U.shape

    def images(V: Array, order: int) -> _Images:
        found = directional_derivatives(encode, x, V, order=order, container=container)
        _refuse_unknown(found.first, found.second)
        spread = 1.0 if latent_spread is None else like(latent_spread, x)
        least = 1.0 if latent_spread is None else float(xp.min(like(latent_spread, x)))
        return _Images(
            found.first / spread,
            None if found.second is None else found.second / spread,
            found.first_error / least,
            found.second_error / least,
            found.kinks,
            found.method,
        )

    common: dict[str, Any] = {
        "anchors": spaces.anchors,
        "basis": None if fit is None else U,
        "flat": fit is None,
    }
    measurable = fit is None or fit.measurable
    if fit is not None and fit.measurable:
        common |= {
            "second_form": fit.second_form,
            "second_form_noise": fit.second_form_noise,
            "n_independent": fit.n_independent,
            "data_bias": fit.bending_bias,
        }
    where = f"at {A} rows"
    if k <= _WHOLE_FORM:
        along = images(xp.matmul(polarisation_directions(k, x), xp.matrix_transpose(U)), 2)
        B = xp.matrix_transpose(along.first[:, :k, :])
        how = f"derivatives of the encoder ({along.method}) {where}"
        _say(reasons, how, along.kinks, measurable, fit)
        if along.kinks or not measurable or along.second is None:
            return pointwise_geometry(B, **common, pushforward_error=along.first_error)
        a, error = form_from_directions(along.second, k), along.second_error
        noise: dict[str, Any] = {}
        if fit is not None:
            a, error, noise = _across(images, fit, a, error)
        return pointwise_geometry(
            B,
            **common,
            **noise,
            acceleration=a,
            pushforward_error=along.first_error,
            acceleration_error=error,
        )
    if latent_spread is None:
        B = pushforward(encode, x, U, container=container)
    else:
        B = pushforward(encode, x, U, container=container) / like(latent_spread, x)[None, :, None]
    _refuse_unknown(B, None)
    if fit is not None:
        how = f"derivatives of the encoder {where}"
        _say(reasons, how, False, False, fit)
        return pointwise_geometry(B, **common)
    # uniform among the retained: a uniform direction, projected and brought back to length one
    _, s, Rt = xp.linalg.svd(B, full_matrices=False)
    kept = Rt * xp.astype(s > RETAINED * xp.max(s), s.dtype)[:, :, None]
    w = random_tangents(A, _DIRECTIONS, k, x, random_state=seed)
    w = xp.matmul(xp.matmul(w, xp.matrix_transpose(kept)), kept)
    length = xp.linalg.vector_norm(w, axis=2, keepdims=True)
    w = w / xp.where(length > 0, length, 1.0 + 0.0 * length)
    along = images(xp.matmul(w, xp.matrix_transpose(U)), 2)
    how = f"derivatives of the encoder ({along.method}) {where}"
    _say(reasons, how, along.kinks, True, fit)
    reasons["encoder_curvature"] += f", along {_DIRECTIONS} random tangents each"
    if along.kinks or along.second is None:
        return pointwise_geometry(B, **common, pushforward_error=along.first_error)
    return pointwise_geometry(
        B,
        **common,
        directions=w,
        second=along.second,
        pushforward_error=along.first_error,
        acceleration_error=along.second_error,
    )


def _refuse_unknown(first: Array, second: Array | None) -> None:
    """Refuse derivatives that are not finite at some rows."""
    for values in (first, second):
        if values is None:
            continue
        xp, A = namespace(values), values.shape[0]
        known = xp.all(xp.isfinite(xp.reshape(values, (A, -1))), axis=1)
        if not bool(xp.all(known)):
            bad = A - int(xp.sum(xp.astype(known, xp.int64)))
            raise ValueError(
                f"they are not finite at {bad} of {A} rows, at which or beside which the encoder "
                f"is not defined"
            )


def _across(
    images: Callable[[Array, int], _Images], fit: LocalFit, form: Array, error: Array
) -> tuple[Array, Array, dict[str, Any]]:
    """D^2 f + Df II, its error, and the draws of what the fit's own errors make of B and of it."""
    xp = namespace(form)
    A, D, k, _ = fit.second_form.shape
    upper = [p * k + q for p in range(k) for q in range(p, k)]
    place = {pair: i for i, pair in enumerate(upper)}
    whole = [place[min(p, q) * k + max(p, q)] for p in range(k) for q in range(k)]
    n_draws, size = min(_DRAWS, fit.basis_noise.shape[0]), len(upper)
    some, every = index_like(upper, form), index_like(whole, form)

    def entries(second_form: Array) -> Array:
        return xp.take(xp.reshape(second_form, (A, D, k * k)), some, axis=2)

    groups = [entries(fit.second_form)]
    for b in range(n_draws):
        groups += [fit.basis_noise[b, ...], entries(fit.second_form_noise[b, ...])]
    found = images(xp.matrix_transpose(xp.concat(groups, axis=2)), 1)
    image = xp.matrix_transpose(found.first)
    d = image.shape[1]

    def form_at(at: int) -> Array:
        return xp.reshape(xp.take(image[:, :, at : at + size], every, axis=2), (A, d, k, k))

    bent, at, of_B, of_a = form_at(0), size, [], []
    for _ in range(n_draws):
        of_B.append(image[:, :, at : at + k])
        of_a.append(form_at(at + k))
        at += k + size
    # the truncation of II reaches the acceleration as its image does
    bend, moved = float(xp.sum(fit.second_form**2)), float(xp.sum(bent**2))
    if bend > 0 and math.isfinite(fit.bending_bias):
        rms = math.sqrt(bend / A)
        error = error + math.sqrt(moved / bend / d) * fit.bending_bias / (2.0 * rms)
    noise = {
        "pushforward_noise": xp.stack(of_B),
        "acceleration_noise": xp.stack(of_a),
        "basis_noise": fit.basis_noise[:n_draws, ...],
    }
    return form + bent, error + found.first_error, noise


def _by_pairs(
    X: Array,
    Z: Array,
    spaces: TangentSpaces,
    fit: LocalFit | None,
    seed: int,
    why: str,
    reasons: dict[str, str],
    known: PointwiseGeometry | None,
) -> PointwiseGeometry | None:
    """The same from pairs; None, with the reason, where there are too few rows."""
    U = spaces.basis if fit is None else fit.basis
    curved = fit is not None and fit.measurable
    form = fit.second_form if fit is not None and curved else None
    if fit is not None and not curved:
        why = f"; {fit.reason}{why}"
    pairs = fit_encoder(X, Z, spaces.anchors, U, form, n_draws=_DRAWS, random_state=seed)
    names = ["encoder_curvature"]
    if known is None:
        names += ["dimensional_compression", "tangential_distortion"]
    if not pairs.measurable:
        for name in names:
            if name != "dimensional_compression":
                reasons[name] = f"not measured: {pairs.reason}{why}"
        return None
    for name in names:
        reasons[name] = f"{pairs.reason} at {pairs.anchors.shape[0]} rows{why}"
    return pointwise_geometry(
        pairs.pushforward,
        anchors=spaces.anchors,
        acceleration=pairs.acceleration,
        second_form=form,
        basis=None if fit is None else U,
        pushforward_noise=pairs.pushforward_noise,
        acceleration_noise=pairs.acceleration_noise,
        second_form_noise=fit.second_form_noise if fit is not None and curved else None,
        n_independent=min(pairs.n_independent, math.inf if fit is None else fit.n_independent),
        data_bias=0.0 if fit is None else fit.bending_bias,
        encoder_bias=pairs.bending_bias,
        flat=fit is None,
    )


def _say(
    reasons: dict[str, str], how: str, kinks: bool, measurable: bool, fit: LocalFit | None
) -> None:
    reasons["dimensional_compression"] = reasons["tangential_distortion"] = how
    reasons["encoder_curvature"] = how
    if kinks:
        reasons["encoder_curvature"] = f"not measured: the encoder has kinks; {how}"
    elif not measurable and fit is not None:
        reasons["encoder_curvature"] = f"not measured: needs the data's curvature; {fit.reason}"
