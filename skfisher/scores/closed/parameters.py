"""Parameters of Gaussians, and the points that they are asked about, checked and taken apart."""

from __future__ import annotations

import math
from typing import Any

from skfisher._backend.arrays import Array, namespace, to_numpy

__all__ = ["NORMALS", "as_count", "as_parameter", "as_points", "log_normaliser", "spectra"]

NORMALS = 1
"""Stream of the normal draws in `sample`."""


def as_parameter(values: Any, name: str, ndim: int) -> tuple[Array, Array, float]:
    """`values` as floating-point array, on the host in float64, and the root of its precision."""
    try:
        host = to_numpy(values)
    except ValueError as error:
        raise ValueError(
            f"{name} cannot be read as an array ({error}): pass rows of equal length."
        ) from error
    xp = namespace(host)
    if not xp.isdtype(host.dtype, ("real floating", "integral", "bool")):
        raise TypeError(f"{name} has dtype {host.dtype}: pass real numbers.")
    if host.ndim != ndim or 0 in host.shape:
        raise ValueError(
            f"{name} has shape {host.shape}: pass a non-empty array of {ndim} dimension(s)."
        )
    if not bool(xp.all(xp.isfinite(host))):
        raise ValueError(f"{name} contains NaN or infinity: fit or clean the parameters before.")
    exact = xp.astype(host, xp.float64)
    if not xp.isdtype(host.dtype, "real floating"):
        host = values = exact
    given = exact if isinstance(values, (list, tuple)) else values
    return given, exact, math.sqrt(float(xp.finfo(host.dtype).eps))


def spectra(S: Array, tolerance: float, name: str) -> tuple[Array, Array]:
    """Eigenvalues (K, n), rounding below zero removed, and eigenvectors of K covariances."""
    xp = namespace(S)
    lam, Q = xp.linalg.eigh((S + xp.matrix_transpose(S)) / 2)
    for k in range(S.shape[0]):
        which = name if name == "covariance" else f"{name}[{k}]"
        skew = float(xp.max(xp.abs(S[k, :, :] - S[k, :, :].T)))
        if skew > tolerance * float(xp.max(xp.abs(S[k, :, :]))):
            raise ValueError(
                f"{which} is not symmetric (it differs from its transpose by {skew:.3g}): pass "
                f"(S + S.T) / 2 if that is what was meant."
            )
        if float(lam[k, 0]) < -tolerance * float(xp.max(xp.abs(lam[k, :]))):
            raise ValueError(
                f"{which} has the negative eigenvalue {float(lam[k, 0]):.3g}: a covariance is "
                f"positive semi-definite; clip its spectrum or estimate it again."
            )
    return xp.where(lam > 0, lam, xp.zeros_like(lam)), Q


def as_points(y: Any, name: str, n: int, like_rows: Array | None = None) -> Any:
    """Namespace of `y`, once it is known to be points that the model takes."""
    try:
        xp = namespace(y)
    except TypeError as error:
        raise TypeError(
            f"{name} is a {type(y).__name__}: pass an array of shape (m, {n})."
        ) from error
    if y.ndim != 2 or y.shape[1] != n:
        raise ValueError(
            f"{name} has shape {tuple(y.shape)}, the model was built for {n} features: pass an "
            f"array of shape (m, {n})."
        )
    if not xp.isdtype(y.dtype, "real floating"):
        raise TypeError(f"{name} has dtype {y.dtype}: cast it to float32 or float64.")
    if like_rows is not None and y.shape != like_rows.shape:
        raise ValueError(
            f"{name} has shape {tuple(y.shape)} but y has shape {tuple(like_rows.shape)}: pass one "
            f"row per row of y."
        )
    return xp


def as_count(n_samples: int) -> int:
    """`n_samples`, once it is known to be positive."""
    if n_samples < 1:
        raise ValueError(f"n_samples is {n_samples}: draw at least one.")
    return int(n_samples)


def log_normaliser(total: Array) -> Array:
    """Log of the normal densities' constants from the eigenvalues (K, n) of the covariances."""
    xp = namespace(total)
    return -0.5 * xp.sum(xp.log(2 * math.pi * total), axis=-1)
