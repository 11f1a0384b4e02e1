"""Largest singular values of many matrices at once from products alone."""

from __future__ import annotations

import math
from collections.abc import Callable

from skfisher._backend.arrays import Array, namespace
from skfisher._backend.draws import normal

__all__ = ["block_krylov"]

_START = 821  # stream of the draws that start the subspace


def block_krylov(
    forward: Callable[[Array], Array],
    backward: Callable[[Array], Array],
    n: int,
    k: int,
    ref: Array,
    *,
    n_matrices: int,
    tol: float,
    seed: int,
) -> tuple[Array, Array, Array, Array, int]:
    """Singular values of B_1 .. B_A, each of shape (d, k), by block Krylov subspaces.

    Parameters
    ----------
    forward, backward : callable
        (A, k, b) to B times it, (A, d, b); and (A, d, b) to B^T times it, (A, k, b).
    n : int
        Values wanted.
    k : int
        Columns of B.
    ref : array
        Its library, dtype and device are those of the computation.
    n_matrices : int
        A.
    tol : float
        Largest error of the n values, as a share of the largest value, at which to stop.
    seed : int

    Returns
    -------
    values, errors : array of shape (A, n)
        Decreasing. Within `errors` of each there is a singular value of B: the residual
        r = B^T u - s v of a Ritz triple (u, s, v) with B v = s u makes an eigenpair of the
        symmetric dilation of B with residual |r| / sqrt(2).
    smallest, smallest_error : array of shape (A,)
        The same for the smallest Ritz value, which is never below the smallest of the k singular
        values.
    products : int
        Products with B and B^T, over all matrices.

    Notes
    -----
    Rayleigh-Ritz over span(Q, B^T B Q, ..., (B^T B)^q Q) with full reorthogonalisation, twice
    (Musco and Musco 2015, arXiv 1504.05477). The subspace ends at dimension k, where it is exact.
    """
    xp = namespace(ref)
    A, products = n_matrices, 0
    block = min(max(n, 2), k)
    start = xp.reshape(normal(seed, (_START,), slice(0, k), block, ref), (1, k, block))
    new = xp.linalg.qr(xp.broadcast_to(start, (A, k, block)))[0]
    basis, image = new, forward(new)
    products += A * block
    while True:
        left, s, right = xp.linalg.svd(image, full_matrices=False)
        v = xp.matmul(basis, xp.matrix_transpose(right))
        # B^T u for the leading triples and for the last one
        count = min(n, s.shape[1])
        some = xp.concat([left[:, :, :count], left[:, :, s.shape[1] - 1 :]], axis=2)
        back = backward(some)
        products += A * (count + 1)
        chosen = xp.concat([s[:, :count], s[:, s.shape[1] - 1 :]], axis=1)
        v = xp.concat([v[:, :, :count], v[:, :, s.shape[1] - 1 : s.shape[1]]], axis=2)
        residual = back - v * chosen[:, None, :]
        errors = xp.linalg.vector_norm(residual, axis=1) / math.sqrt(2.0)
        size = basis.shape[2]
        top = float(xp.max(s[:, 0]))
        done = count == n and bool(xp.all(errors[:, :count] <= tol * s[:, :1]))
        if done or size >= k or top == 0.0:
            break
        new = residual[:, :, :count]
        for _ in range(2):
            new = new - xp.matmul(basis, xp.matmul(xp.matrix_transpose(basis), new))
            new = xp.linalg.qr(new)[0]
        new = new[:, :, : min(count, k - size)]
        basis = xp.concat([basis, new], axis=2)
        image = xp.concat([image, forward(new)], axis=2)
        products += A * new.shape[2]
    values, kept = chosen[:, :count], errors[:, :count]
    return values, kept, chosen[:, count], errors[:, count], products
