"""What an account is made from, checked, in float64, with equal rows merged."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from skfisher._backend.arrays import (
    Array,
    cast_like,
    index_like,
    like,
    namespace,
    take_rows,
    to_numpy,
)
from skfisher._backend.rows import distinct_rows, sum_by_code
from skfisher._backend.validation import as_row_weights, as_sample
from skfisher.geometry.affine import RETAINED, as_latent

__all__ = ["Case", "make_case"]

_SKEW = 1e-4  # largest entry of U^T U - I, for bases from float32


@dataclass(frozen=True, eq=False)
class Case:
    """Checked input in float64, equal rows merged."""

    X: Array  # (N', D') in coordinates of the rows' hull where D > N
    Z: Array
    log_weights: Array
    hull: Array | None  # (D, D'), None where X stands in its own coordinates
    rows: Any  # (A,) rows as given
    places: Any  # (A,) where they stand in X
    mass: Array  # (A,), sums to 1
    U: Array
    II: Array | None
    left: Array  # B = left diag(stretch) right
    stretch: Array
    right: Array
    retained: tuple[int, ...]
    scale: float
    n_features: tuple[int, int]

    def average(self, values: Array) -> tuple[Array, Array]:
        """Mean over anchors, axis 0, and its standard error."""
        xp = namespace(values)
        A = values.shape[0]
        mass = xp.reshape(self.mass, (A, *([1] * (values.ndim - 1))))
        mean = xp.sum(mass * values, axis=0)
        variance = xp.sum((mass * (values - mean[None, ...])) ** 2, axis=0)
        return mean, xp.sqrt(variance * (A / (A - 1)))


def make_case(
    X: Any,
    Z: Any,
    anchors: Any,
    basis: Array,
    pushforward: Array,
    second_form: Array | None,
    scale: float,
    sample_weight: Any,
) -> Case:
    """Check the arguments of `fisher_rate_account`, and bring them to one library and dtype."""
    X = as_sample(X, min_samples=2)
    Z = cast_like(as_latent(X, Z), X)
    xp = namespace(X)
    X, Z = xp.astype(X, xp.float64), xp.astype(Z, xp.float64)
    (N, D), d = X.shape, Z.shape[1]
    rows = _as_anchors(anchors, N)
    A = len(rows)
    shape = tuple(basis.shape)
    if len(shape) != 3 or shape[:2] != (A, D) or not 1 <= shape[2] <= D:
        raise ValueError(
            f"basis has shape {shape}, but there are {A} anchors in {D} dimensions: pass "
            f"orthonormal tangent bases of shape ({A}, {D}, k)."
        )
    k = shape[2]
    U = _stack(basis, "basis", (A, D, k), X)
    B = _stack(pushforward, "pushforward", (A, d, k), X)
    II = None if second_form is None else _stack(second_form, "second_form", (A, D, k, k), X)
    gram = xp.matmul(xp.matrix_transpose(U), U)
    skew = float(xp.max(xp.abs(gram - xp.eye(k, dtype=U.dtype, device=U.device)[None, :, :])))
    if skew > _SKEW:
        raise ValueError(
            f"basis misses orthonormal columns by {skew:.2g}: orthonormalise each basis, for "
            f"instance with a QR decomposition."
        )
    if not (math.isfinite(scale) and scale > 0.0):
        raise ValueError(
            f"scale is {scale}: pass the positive c at which latent and data are compared; an "
            f"encoder that loses every direction has none."
        )
    weights = as_row_weights(sample_weight, N)
    weights = like([1.0] * N, X) if weights is None else like(weights, X)
    mass = xp.take(weights, index_like(rows, X))
    if float(xp.sum(mass)) <= 0.0:
        raise ValueError("sample_weight is zero at every anchor: pass anchors that carry weight.")
    first, place = distinct_rows(xp.concat([X, Z], axis=1))
    merged = like(sum_by_code(weights, place, len(first)), X)
    X, Z = take_rows(X, first), take_rows(Z, first)
    left, stretch, right = xp.linalg.svd(B, full_matrices=False)
    floor = RETAINED * float(xp.max(stretch))
    retained = xp.count_nonzero(stretch > floor, axis=1)
    hull = _thin_hull(X, U)
    return Case(
        X=X if hull is None else xp.matmul(X, hull),
        Z=Z,
        log_weights=xp.log(xp.clip(merged / xp.max(merged), min=1e-300)),
        hull=hull,
        rows=rows,
        places=place[rows],
        mass=mass / xp.sum(mass),
        U=U,
        II=II,
        left=left,
        stretch=stretch,
        right=right,
        retained=tuple(int(r) for r in retained),
        scale=float(scale),
        n_features=(int(D), int(d)),
    )


def _as_anchors(anchors: Any, n_rows: int) -> Any:
    rows = to_numpy(anchors)
    if rows.ndim != 1 or rows.dtype.kind not in "iu" or rows.shape[0] < 2:
        raise ValueError(
            f"anchors has shape {rows.shape} and dtype {rows.dtype}: pass at least two row numbers "
            f"of X, which their own scatter needs."
        )
    if rows.min() < 0 or rows.max() >= n_rows:
        raise ValueError(
            f"anchors ranges from {rows.min()} to {rows.max()}, but X has {n_rows} rows: pass row "
            f"numbers from 0 to {n_rows - 1}."
        )
    return rows


def _stack(values: Array, name: str, shape: tuple[int, ...], X: Array) -> Array:
    """One finite matrix or tensor per anchor, in float64 and where X is."""
    if tuple(values.shape) != shape:
        raise ValueError(
            f"{name} has shape {tuple(values.shape)}: pass shape {shape}, one per anchor."
        )
    xp = namespace(X)
    flat = as_sample(namespace(values).reshape(values, (shape[0], -1)), name=name)
    return xp.reshape(xp.astype(cast_like(flat, X), xp.float64), shape)


def _thin_hull(X: Array, U: Array) -> Array | None:
    """Orthonormal directions of the rows' span where it is thin and holds the tangents."""
    xp = namespace(X)
    N, D = X.shape
    if N >= D:
        return None
    hull = xp.linalg.qr(xp.matrix_transpose(X))[0]
    inside = xp.matmul(xp.matrix_transpose(hull)[None, :, :], U)
    missed = 1.0 - xp.sum(inside**2, axis=1)
    return hull if float(xp.max(missed)) < 1e-10 else None
