"""Velocity irreducible variance of Gaussian latents: of a full covariance and of a Kronecker one.

For linear interpolation between N(0, I) and N(m, S) at uniform time, E|v - E[v | x_t]|^2 per
dimension is (pi/2) mean sqrt(lambda) over the eigenvalues of S (arXiv 2606.03578; THEORY.md
section 1).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from array_api_compat import device

from skfisher._backend.arrays import Array, namespace, row_chunks, take_rows
from skfisher._backend.labels import rows_by_code
from skfisher.rivals.metric import (
    Latents,
    Metric,
    channel_of,
    missing,
    read_labels,
    read_latents,
    spatial_shape,
)

__all__ = ["KroneckerFactors", "gaussian_viv", "kronecker_factors", "kronecker_viv"]

PAPER = "arXiv 2606.03578"

_ROUNDS, _TOLERANCE = 50, 1e-10
_NULL = 1e-12
"""Eigenvalues below this share of the largest belong to directions that do not vary."""


class KroneckerFactors(NamedTuple):
    """Factors of a covariance S = channel (x) spatial of rows that hold channels first.

    Attributes
    ----------
    channel : array of shape (C, C)
        Of trace C.
    spatial : array of shape (S, S)
        Carries the scale: the trace of the product is that of the sample covariance.
    rounds : int
        Alternations until the factors changed by less than 1e-10.
    converged : bool
    """

    channel: Array
    spatial: Array
    rounds: int
    converged: bool


class _Part(NamedTuple):
    value: float
    influence: Array  # (N,), of mean zero: value of a sample with row n's weight raised, per weight
    bias: float
    settings: dict[str, Any]


def gaussian_viv(
    Z: Any,
    *,
    latent_shape: Any = None,
    y: Any = None,
    standardize: str = "rms",
    correct_bias: bool = True,
) -> Metric:
    """Velocity irreducible variance per dimension of a Gaussian with the covariance of the latents.

    Parameters
    ----------
    Z : array-like of shape (N, d) or (N, C, ...)
    latent_shape : tuple of int, optional
        For ``standardize="channel"`` of flat rows.
    y : labels of shape (N,), optional
        With labels the covariance is that within each class and the value averages over the
        classes, by their share of the rows.
    standardize : {"rms", "none", "channel"}
        As published it follows "channel"; "none" carries the unit of Z.
    correct_bias : bool
        Subtract the bias of the sample eigenvalues, to first order in d / N for Gaussian rows.

    Returns
    -------
    Metric
        Lower is better. NaN where rows do not outnumber dimensions (in a class).

    Notes
    -----
    Scale-equivariant, invariant under rotation and translation with "rms" and "none". The standard
    error is that of the influence function, standardisation included:
    sum_i ((v_i.z)^2 - lambda_i) / (2 sqrt(lambda_i)). To second order in the eigenvalues the bias
    of sum sqrt(lambda) is -1/(4N) sum_ij sqrt(l_i l_j) / (sqrt(l_i) + sqrt(l_j)) - 1/(8N) sum
    sqrt(l_i): a share d / 8N of it for a flat spectrum. What was subtracted stands in
    ``settings["bias"]``.

    Examples
    --------
    >>> import numpy as np
    >>> Z = np.random.default_rng(0).standard_normal((2000, 4))
    >>> metric = gaussian_viv(Z)
    >>> abs(metric.value - np.pi / 2) < 4 * metric.stderr + 0.01
    True
    """
    latents = read_latents(Z, latent_shape, standardize=standardize)
    return _viv("gaussian_viv", latents, y, correct_bias, _gaussian_part)


def kronecker_viv(
    Z: Any,
    *,
    latent_shape: Any = None,
    y: Any = None,
    standardize: str = "channel",
    correct_bias: bool = True,
) -> Metric:
    """Velocity irreducible variance per dimension with a covariance channel (x) spatial.

    Parameters
    ----------
    Z : array-like of shape (N, C, H, W), (N, C, L) or (N, d)
    latent_shape : tuple of int, optional
        (C, H, W) or (C, L) where Z is flat.
    y, standardize, correct_bias
        As in `gaussian_viv`; published with labels and "channel".

    Returns
    -------
    Metric
        Lower is better. NaN where the rows (of a class) do not determine the factors.

    Raises
    ------
    ValueError
        No positions.

    Notes
    -----
    Maximum likelihood by flip-flop (Dutilleul, J. Stat. Comput. Simul. 1999), the product scaled to
    the trace of the sample covariance; d eigenvalues are products of C and S. Against the full
    covariance the product misses what is not separable: the two agree only for a Kronecker
    covariance, and the standard error (influence function) and the bias are those of one.
    """
    latents = read_latents(Z, latent_shape, standardize=standardize)
    spatial_shape(latents.shape, "kronecker_viv")
    return _viv("kronecker_viv", latents, y, correct_bias, _kronecker_part)


def kronecker_factors(Z: Any, *, latent_shape: Any = None) -> KroneckerFactors:
    """Channel and spatial factor of the latents' covariance, by flip-flop maximum likelihood.

    Parameters
    ----------
    Z : array-like of shape (N, C, H, W), (N, C, L) or (N, d)
    latent_shape : tuple of int, optional

    Returns
    -------
    KroneckerFactors

    Raises
    ------
    ValueError
        No positions, constant latents, or too few rows.
    """
    latents = read_latents(Z, latent_shape)
    n_channels = spatial_shape(latents.shape, "kronecker_factors")[0]
    reason = latents.reason or _too_few_for_factors(latents.rows, n_channels)
    if reason:
        raise ValueError(f"Z does not determine the factors: {reason}.")
    xp = namespace(latents.rows)
    centred = latents.rows - xp.mean(latents.rows, axis=0, keepdims=True)
    return _flip_flop(centred, n_channels)


def _viv(name: str, latents: Latents, y: Any, correct_bias: bool, part: Any) -> Metric:
    rows = latents.rows
    settings = {**latents.settings, "classes": 1, "bias_corrected": correct_bias}
    metric = Metric(name, math.nan, math.nan, False, rows.shape[0], PAPER, settings)
    if latents.reason:
        return missing(metric, latents.reason)
    xp = namespace(rows)
    scales = _log_scale_influence(rows, latents)
    if y is None:
        members = [range(rows.shape[0])]
    else:
        members = rows_by_code(read_labels(y, latents))
        settings["classes"] = len(members)
    n_rows = rows.shape[0]
    value = bias = 0.0
    drift = xp.zeros_like(rows[0, :])
    own = []
    for member in members:
        block = rows if y is None else take_rows(rows, member)
        share = len(member) / n_rows
        centred = block - xp.mean(block, axis=0, keepdims=True)
        found, slope, why = part(centred, latents)
        if why:
            label = "" if y is None else "in the smallest classes "
            return missing(metric, f"{label}{why}")
        value += share * found.value
        bias += share * found.bias
        drift = drift + share * slope
        own.append(found.influence + found.value)
        settings.update(found.settings)
    # every row's own influence in its class, its class's share, and its part in the common scales
    order = [row for member in members for row in member]
    influence = xp.concat(own) - value
    if scales is not None:
        influence = influence - take_rows(scales @ drift, order)
    noise = float(xp.sum(influence**2)) / (n_rows - 1) / n_rows
    settings["bias"] = bias if correct_bias else 0.0
    if correct_bias:
        value -= bias
    return Metric(name, value, math.sqrt(noise), False, n_rows, PAPER, settings)


def _log_scale_influence(rows: Array, latents: Latents) -> Array | None:
    """Influence of each row on log(scale^2) of every coordinate per row, (N, d)."""
    kind = latents.settings["standardize"]
    if kind == "none":
        return None
    xp = namespace(rows)
    if kind == "rms":
        centred = rows - xp.mean(rows, axis=0, keepdims=True)
        power = xp.mean(centred**2, axis=1, keepdims=True)
        return xp.broadcast_to(power - xp.mean(power), rows.shape)
    size = channel_of(rows.shape[1], latents.shape)
    cells = xp.reshape(rows, (rows.shape[0], rows.shape[1] // size, size))
    power = xp.mean(cells**2, axis=2, keepdims=True)
    power = xp.broadcast_to(power - xp.mean(power, axis=0, keepdims=True), cells.shape)
    return xp.reshape(power, rows.shape)


def _gaussian_part(centred: Array, latents: Latents) -> tuple[_Part | None, Any, str]:
    """VIV of one class, and its derivative along log(scale^2) of every coordinate."""
    xp = namespace(centred)
    n_rows, d = centred.shape
    if n_rows <= d:
        return None, None, f"{n_rows} rows do not determine a covariance of {d} dimensions"
    factor = math.pi / 2 / d
    values, vectors = xp.linalg.eigh(centred.T @ centred / (n_rows - 1))
    live = values > _NULL * xp.max(values)
    root = xp.where(live, xp.sqrt(xp.where(live, values, xp.ones_like(values))), 0.0 * values)
    inverse = xp.where(live, 1.0 / xp.where(live, root, xp.ones_like(root)), 0.0 * root)
    influence = factor * ((centred @ vectors) ** 2 @ inverse - xp.sum(root)) / 2
    influence = influence - xp.mean(influence)
    # Cov -> D Cov D with D = diag(exp(-s/2)): d sum sqrt(lambda) = -1/2 sum_j s_j (sqrt Cov)_jj
    slope = factor * xp.sum(vectors**2 * root[None, :], axis=1) / 2
    part = _Part(factor * float(xp.sum(root)), influence, factor * _root_bias(root, n_rows - 1), {})
    return part, slope, ""


def _root_bias(root: Array, dof: float) -> float:
    """Bias of the sum of the roots of sample eigenvalues, to second order; Gaussian rows."""
    xp = namespace(root)
    total = root[:, None] + root[None, :]
    safe = xp.where(total > 0, total, xp.ones_like(total))
    pairs = float(xp.sum(root[:, None] * root[None, :] / safe))
    return -(pairs / 4 + float(xp.sum(root)) / 8) / dof


def _too_few_for_factors(rows: Array, n_channels: int) -> str:
    n_rows, d = rows.shape
    positions = d // n_channels
    needed = max(4, math.ceil(n_channels / positions + positions / n_channels) + 2)
    if n_rows < needed:
        return f"{n_rows} rows, {needed} needed for factors of {n_channels} and {positions}"
    return ""


def _kronecker_part(centred: Array, latents: Latents) -> tuple[_Part | None, Any, str]:
    xp = namespace(centred)
    n_rows, d = centred.shape
    n_channels = spatial_shape(latents.shape, "kronecker_viv")[0]
    positions = d // n_channels
    reason = _too_few_for_factors(centred, n_channels)
    if reason:
        return None, None, reason
    fit = _flip_flop(centred, n_channels)
    if not fit.converged:
        return None, None, f"the factors did not settle in {_ROUNDS} rounds"
    a, u = xp.linalg.eigh(fit.channel)
    b, w = xp.linalg.eigh(fit.spatial)
    a, b = (xp.where(e > _NULL * xp.max(e), e, 0.0 * e) for e in (a, b))
    root_a, root_b = xp.sqrt(a), xp.sqrt(b)
    sum_a, sum_b = float(xp.sum(root_a)), float(xp.sum(root_b))
    value = math.pi / 2 / d * sum_a * sum_b
    # V = sqrt(tau) sum sqrt(a) / sqrt(sum a) * sum sqrt(b) / sqrt(sum b), scale-free in a and b.
    # A row moves a_i by a_i (|row i of the whitened latent|^2 / S) up to a common factor.
    share_a = root_a / (2 * sum_a) - a / (2 * xp.sum(a))
    share_b = root_b / (2 * sum_b) - b / (2 * xp.sum(b))
    tau = float(xp.sum(centred**2)) / n_rows
    weigh_a = _safe_ratio(share_a, a) / positions
    weigh_b = _safe_ratio(share_b, b) / n_channels
    alive_a, alive_b = _safe_ratio(xp.ones_like(a), a), _safe_ratio(xp.ones_like(b), b)
    parts = []
    for chunk in row_chunks(n_rows, 32 * d):
        cells = xp.reshape(centred[chunk, :], (-1, n_channels, positions))
        power = xp.matmul(xp.matmul(u.T, cells), w) ** 2
        moved = xp.sum(power * (weigh_a[:, None] * alive_b[None, :]), axis=(1, 2))
        moved = moved + xp.sum(power * (alive_a[:, None] * weigh_b[None, :]), axis=(1, 2))
        parts.append(moved + xp.sum(cells**2, axis=(1, 2)) / (2 * tau))
    relative = xp.concat(parts)
    influence = value * (relative - xp.mean(relative))
    # along log(scale^2) of a channel: d a_i = -a_i sum_c u_ci^2 s_c, d tau = -sum_c s_c var_c
    in_channel = xp.sum(u**2 * share_a[None, :], axis=1)
    in_power = xp.sum(xp.reshape(centred**2, (n_rows, n_channels, positions)), axis=(0, 2))
    slope = value * (in_channel + in_power / (2 * n_rows * tau))
    slope = xp.reshape(xp.broadcast_to(slope[:, None] / positions, (n_channels, positions)), (d,))
    bias = value * (
        _root_bias(root_a, (n_rows - 1) * positions) / sum_a
        + _root_bias(root_b, (n_rows - 1) * n_channels) / sum_b
    )
    return _Part(value, influence, bias, {"rounds": fit.rounds}), slope, ""


def _safe_ratio(top: Array, bottom: Array) -> Array:
    """`top` over `bottom`, 0 where that is 0."""
    xp = namespace(top)
    live = bottom > 0
    return xp.where(live, top / xp.where(live, bottom, xp.ones_like(bottom)), 0.0 * top)


def _flip_flop(centred: Array, n_channels: int) -> KroneckerFactors:
    xp = namespace(centred)
    n_rows, d = centred.shape
    positions = d // n_channels
    cells = xp.reshape(centred, (n_rows, n_channels, positions))
    eye = xp.eye(positions, dtype=centred.dtype, device=device(centred))
    inverse = eye
    channel = spatial = eye
    converged, rounds = False, 0
    previous = None
    while rounds < _ROUNDS and not converged:
        rounds += 1
        channel = _moment(cells, inverse, False) / (n_rows * positions)
        channel = channel * (n_channels / xp.linalg.trace(channel))
        spatial = _moment(cells, _pseudo_inverse(channel), True) / (n_rows * n_channels)
        inverse = _pseudo_inverse(spatial)
        if previous is not None:
            change = xp.max(xp.abs(channel - previous))
            converged = float(change) <= _TOLERANCE * float(xp.max(xp.abs(channel)))
        previous = channel
    total = float(xp.sum(centred**2)) / (n_rows - 1)
    spatial = spatial * (total / n_channels / float(xp.linalg.trace(spatial)))
    return KroneckerFactors(channel, spatial, rounds, converged)


def _moment(cells: Array, inverse: Array, spatial: bool) -> Array:
    """sum_n Z_n P Z_n' over the rows, or sum_n Z_n' P Z_n for the spatial factor."""
    xp = namespace(cells)
    n_rows, n_channels, positions = cells.shape
    side = positions if spatial else n_channels
    out = xp.zeros((side, side), dtype=cells.dtype, device=device(cells))
    for chunk in row_chunks(n_rows, 32 * n_channels * positions):
        block = cells[chunk, :, :]
        if spatial:
            left = xp.reshape(block, (-1, positions))
            right = xp.reshape(xp.matmul(inverse, block), (-1, positions))
        else:
            turned = xp.permute_dims(block, (0, 2, 1))
            left = xp.reshape(turned, (-1, n_channels))
            right = xp.reshape(
                xp.permute_dims(xp.matmul(block, inverse), (0, 2, 1)), (-1, n_channels)
            )
        out = out + left.T @ right
    return (out + out.T) / 2


def _pseudo_inverse(matrix: Array) -> Array:
    xp = namespace(matrix)
    values, vectors = xp.linalg.eigh(matrix)
    kept = xp.where(values > _NULL * xp.max(values), values, 0.0 * values)
    return (vectors * _safe_ratio(xp.ones_like(kept), kept)[None, :]) @ vectors.T
