"""Images of tangent bases under an encoder, and their singular values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from skfisher._backend.arrays import Array, namespace, row_chunks
from skfisher._backend.krylov import block_krylov
from skfisher._backend.validation import as_sample
from skfisher.geometry.affine import LinearMap
from skfisher.geometry.derivatives import pushforward
from skfisher.geometry.images import (
    as_bases,
    as_double,
    cast_double,
    function_of,
    given_scale,
    image_of,
    only_part,
    own_scale,
    parts_of,
)

__all__ = ["SingularValues", "singular_values"]

_DENSE = 128  # smaller side up to which singular values are taken from the whole matrix


@dataclass(frozen=True, eq=False)
class SingularValues:
    """Singular values of B = Df U at A points.

    Attributes
    ----------
    values : array of shape (A, r)
        Decreasing.
    errors : array of shape (A, r)
        There is a singular value of B this close to each: 0 where B was taken apart as a whole.
    smallest, smallest_error : array of shape (A,)
        The last of the min(k, d) values; NaN where the subspace did not find it.
    method : str
    n_products : int
    """

    values: Array
    errors: Array
    smallest: Array
    smallest_error: Array
    method: str
    n_products: int


def singular_values(
    encode: Any,
    X: Any,
    U: Any,
    *,
    n: int | None = None,
    tol: float = 1e-6,
    random_state: int = 0,
    scale: Any = None,
    container: Callable[[Array], Any] | None = None,
) -> SingularValues:
    """Singular values of Df U, all of them or the largest.

    Parameters
    ----------
    encode, X, U, scale, container
        As in `pushforward`.
    n : int, optional
        How many of the largest values. Default: all where min(k, d) <= 128, otherwise 16.
    tol : float
        Error of the n values, as a share of the largest, at which the iteration stops.
    random_state : int
        Of the start of the iteration.

    Returns
    -------
    SingularValues

    Raises
    ------
    ValueError
        n < 1; an encoder as in `directional_derivatives`.

    Notes
    -----
    B = Df U is formed and taken apart where min(k, d) <= 128, and where the encoder has no
    transposed products. Otherwise block Krylov subspaces, from products with Df and Df^T alone;
    errors are residuals over sqrt(2).

    Examples
    --------
    >>> import numpy as np
    >>> X, U = np.zeros((1, 3)), np.eye(3)[None]
    >>> singular_values(lambda x: x * [1.0, 2.0, 4.0], X, U).values.round(9).tolist()
    [[4.0, 2.0, 1.0]]
    """
    X = as_double(as_sample(X))
    xp = namespace(X)
    U = as_bases(U, X)
    if n is not None and n < 1:
        raise ValueError(f"n is {n}: pass how many singular values are wanted, or None for all.")
    A, _, k = U.shape
    encoder = only_part(encode)
    d = _columns_of(encode, X, container)
    side = min(k, d)
    wanted = min(n or (side if side <= _DENSE else 16), side)
    reason = ""
    if side > _DENSE and wanted < side and _has_both(encoder):
        forward, backward = _products(encoder, X, U)
        try:
            s, errors, last, last_error, products = block_krylov(
                forward, backward, wanted, k, X, n_matrices=A, tol=tol, seed=random_state
            )
        except NotImplementedError as error:
            reason = f" (not block Krylov: {error})"
        else:
            found = last_error <= tol * s[:, 0]
            nan = xp.full_like(last, xp.nan)
            return SingularValues(
                values=s,
                errors=errors,
                smallest=xp.where(found, last, nan),
                smallest_error=xp.where(found, last_error, nan),
                method="block Krylov",
                n_products=products,
            )
    # rows one after another: only the values are kept
    parts = []
    for rows in row_chunks(A, 32.0 * d * k):
        B = pushforward(
            encode,
            X[rows, :],
            U[rows, :, :],
            scale=given_scale(scale, X)[rows] if scale is not None else own_scale(X)[rows],
            container=container,
        )
        parts.append(xp.linalg.svdvals(B))
    s = xp.concat(parts, axis=0)
    return SingularValues(
        values=s[:, :wanted],
        errors=xp.zeros_like(s[:, :wanted]),
        smallest=s[:, side - 1],
        smallest_error=xp.zeros_like(s[:, 0]),
        method=f"all of Df U{reason}",
        n_products=A * min(k, d),
    )


def _columns_of(encode: Any, X: Array, container: Callable[[Array], Any] | None) -> int:
    Z = X[:1, :]
    for i, step in enumerate(parts_of(encode)):
        Z, _ = image_of(function_of(step), Z, X, container if i == 0 else None)
    return int(Z.shape[1])


def _has_both(encoder: Any) -> bool:
    return isinstance(encoder, LinearMap) or (
        hasattr(encoder, "jet") and hasattr(encoder, "pullback")
    )


def _products(
    encoder: Any, X: Array, U: Array
) -> tuple[Callable[[Array], Array], Callable[[Array], Array]]:
    """Q to Df U Q and W to U^T Df^T W."""
    xp = namespace(X)
    if isinstance(encoder, LinearMap):
        matrix, basis = cast_double(encoder.matrix, X), cast_double(encoder.basis, X)

        def along(V: Array) -> Array:
            return xp.matmul(xp.matmul(V, basis), xp.matrix_transpose(matrix))

        def back(W: Array) -> Array:
            return xp.matmul(xp.matmul(W, matrix), xp.matrix_transpose(basis))
    else:
        mode: list[str] = []

        def along(V: Array) -> Array:
            found = encoder.jet(X, V, order=1, mode=mode[0] if mode else None)
            mode.append(found.mode)
            return found.first

        def back(W: Array) -> Array:
            return encoder.pullback(X, W)

    def forward(Q: Array) -> Array:
        V = xp.matrix_transpose(xp.matmul(U, Q))
        return xp.matrix_transpose(along(V))

    def backward(W: Array) -> Array:
        product = back(xp.matrix_transpose(W))
        return xp.matmul(xp.matrix_transpose(U), xp.matrix_transpose(product))

    return forward, backward
