"""Noise-free score and Hessian of a latent from those of the data, for invertible encoders."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from skfisher._backend.arrays import Array, like, namespace
from skfisher._backend.validation import as_sample
from skfisher.geometry.derivatives import directional_derivatives, pushforward

__all__ = ["ChangeOfVariables", "change_of_variables"]

_MOST = 64  # dimensions: the cost grows as their cube
_SINGULAR = 1e-10  # smallest singular value over the largest
_CHUNK = 64  # rows at a time


@dataclass(frozen=True, eq=False)
class ChangeOfVariables:
    """Score and Hessian of the density of Z = f(X) at the images of rows of X.

    Attributes
    ----------
    score : array of shape (A, D)
        s_Z = grad log p_Z, the sum of the next two.
    tangential_score, injected_score : array of shape (A, D)
        A^T s_X, and -A^T grad l.
    hessian : array of shape (A, D, D)
        H_Z = Hess log p_Z, the sum of the next two.
    tangential_hessian, injected_hessian : array of shape (A, D, D)
        A^T H_X A, and -A^T [Hess l + sum_k (s_Z)_k Hess f_k] A.
    log_det : array of shape (A,)
        l = log|det Df|.
    fisher_information, fisher_information_stderr : float
        Mean of |s_Z|^2 over the rows, in 1/z^2, and its standard error.
    fisher_information_rate, fisher_information_rate_stderr : float
        Mean of |H_Z|_F^2, in 1/z^4.
    flat_fisher_information, flat_fisher_information_stderr : float
        The same of the tangential part alone: what J would be without curvature.
    flat_fisher_information_rate, flat_fisher_information_rate_stderr : float
    method : str
        How derivatives were taken.
    """

    score: Array
    tangential_score: Array
    injected_score: Array
    hessian: Array
    tangential_hessian: Array
    injected_hessian: Array
    log_det: Array
    fisher_information: float
    fisher_information_stderr: float
    fisher_information_rate: float
    fisher_information_rate_stderr: float
    flat_fisher_information: float
    flat_fisher_information_stderr: float
    flat_fisher_information_rate: float
    flat_fisher_information_rate_stderr: float
    method: str

    def __repr__(self) -> str:
        return (
            f"ChangeOfVariables(J={self.fisher_information:.6g}, "
            f"R={self.fisher_information_rate:.6g}, "
            f"without curvature J={self.flat_fisher_information:.6g}, "
            f"R={self.flat_fisher_information_rate:.6g})"
        )


def change_of_variables(
    encode: Any,
    X: Any,
    score: Any,
    hessian: Any,
    *,
    scale: float | None = None,
    container: Callable[[Array], Any] | None = None,
) -> ChangeOfVariables:
    """Noise-free Fisher information of Z = f(X) by the change of variables.

    Parameters
    ----------
    encode : object or function
        f, a diffeomorphism of R^D near the rows; as in `directional_derivatives`.
    X : array of shape (A, D)
        Rows drawn from p_X, for the means; D at most 64.
    score : array of shape (A, D)
        grad log p_X at the rows.
    hessian : array of shape (A, D, D)
        Hess log p_X at the rows.
    scale : float, optional
    container : callable, optional
        As in `directional_derivatives`.

    Returns
    -------
    ChangeOfVariables

    Raises
    ------
    ValueError
        D > 64, d != D, shapes that do not fit, a singular Df, or second derivatives that do not
        exist everywhere (kinks).

    Notes
    -----
    With l = log|det Df| and A = Df^-1: s_Z = A^T (s_X - grad l) and
    H_Z = A^T [H_X - Hess l - sum_k (s_Z)_k Hess f_k] A, from log p_Z(f(x)) = log p_X(x) - l(x)
    differentiated twice. Hess f comes from second directional derivatives along e_i and e_i + e_j
    (polarisation), grad l and Hess l from extrapolated differences of l. Standard errors are those
    of a mean over independent rows; they are NaN for a single one.

    Examples
    --------
    X is standard normal, Z = 2 X: J = 1/4, R = 1/16.

    >>> import numpy as np
    >>> X = np.random.default_rng(0).normal(size=(100, 1))
    >>> found = change_of_variables(lambda x: 2.0 * x, X, -X, -np.ones((100, 1, 1)))
    >>> round(found.fisher_information_rate, 9), bool(found.injected_score.max() < 1e-9)
    (0.0625, True)
    """
    X = as_sample(X)
    xp = namespace(X)
    if X.dtype != xp.float64:
        X = xp.astype(X, xp.float64)
    n_rows, D = X.shape
    if D > _MOST:
        raise ValueError(
            f"X has {D} columns: the change of variables takes third derivatives, whose number "
            f"grows as D^3; it is offered for at most {_MOST} dimensions."
        )
    score, hessian = like(score, X), like(hessian, X)
    if score.shape != (n_rows, D) or hessian.shape != (n_rows, D, D):
        raise ValueError(
            f"score has shape {tuple(score.shape)} and hessian {tuple(hessian.shape)} for X of "
            f"shape {(n_rows, D)}: pass grad log p and Hess log p at the rows of X, of shapes "
            f"{(n_rows, D)} and {(n_rows, D, D)}."
        )
    if scale is None:
        spread = float(xp.sqrt(xp.mean((X - xp.mean(X, axis=0)[None, :]) ** 2)))
        scale = spread or float(xp.sqrt(xp.mean(X**2))) or 1.0
    parts, methods = [], []
    for start in range(0, n_rows, _CHUNK):
        rows = slice(start, min(start + _CHUNK, n_rows))
        columns, method = _on_rows(
            encode, X[rows, :], score[rows, :], hessian[rows, :, :], scale, container
        )
        parts.append(columns)
        methods.append(method)
    flat_s, bent_s, flat_h, bent_h, log_det = (
        xp.concat(list(column)) for column in zip(*parts, strict=True)
    )
    J, J_err = _mean(xp.sum((flat_s + bent_s) ** 2, axis=1))
    R, R_err = _mean(xp.sum((flat_h + bent_h) ** 2, axis=(1, 2)))
    flat_J, flat_J_err = _mean(xp.sum(flat_s**2, axis=1))
    flat_R, flat_R_err = _mean(xp.sum(flat_h**2, axis=(1, 2)))
    return ChangeOfVariables(
        score=flat_s + bent_s,
        tangential_score=flat_s,
        injected_score=bent_s,
        hessian=flat_h + bent_h,
        tangential_hessian=flat_h,
        injected_hessian=bent_h,
        log_det=log_det,
        fisher_information=J,
        fisher_information_stderr=J_err,
        fisher_information_rate=R,
        fisher_information_rate_stderr=R_err,
        flat_fisher_information=flat_J,
        flat_fisher_information_stderr=flat_J_err,
        flat_fisher_information_rate=flat_R,
        flat_fisher_information_rate_stderr=flat_R_err,
        method=" | ".join(dict.fromkeys(methods)),
    )


def _on_rows(
    encode: Any,
    X: Array,
    score: Array,
    hessian: Array,
    scale: float,
    container: Callable[[Array], Any] | None,
) -> tuple[tuple[Array, ...], str]:
    """The two parts of s_Z and H_Z, and l."""
    xp = namespace(X)
    n_rows, D = X.shape
    pairs = [(i, i) for i in range(D)] + [(i, j) for i in range(D) for j in range(i)]
    lines = like([[float(a in pair) for a in range(D)] for pair in pairs], X)
    V = xp.broadcast_to(lines[None, :, :], (n_rows, len(pairs), D))
    found = directional_derivatives(encode, X, V, scale=scale, container=container)
    d = found.value.shape[1]
    if d != D:
        raise ValueError(
            f"the encoder maps {D} columns to {d}: the change of variables needs as many latent "
            f"as data columns."
        )
    if found.kinks:
        raise ValueError(
            "the encoder has kinks or bends over less than the steps tried: the density of its "
            "latents has no Hessian by derivatives; use a smooth activation, or a smaller scale."
        )
    jacobian = xp.matrix_transpose(found.first[:, :D, :])
    singular = xp.linalg.svdvals(jacobian)
    worst = int(xp.argmin(singular[:, D - 1] / xp.max(singular)))
    if float(singular[worst, D - 1]) <= _SINGULAR * float(singular[worst, 0]):
        raise ValueError(
            f"the Jacobian of the encoder is singular at X[{worst}] = "
            f"{[float(value) for value in X[worst, :]][:4]}: only a diffeomorphism has a change "
            f"of variables."
        )
    inverse = xp.linalg.inv(jacobian)
    second = found.second
    assert second is not None
    bends = _symmetric([second[:, i, :] for i in range(len(pairs))], D)

    def log_det(points: Array) -> Array:
        n = points.shape[0]
        eye = xp.broadcast_to(lines[None, :D, :], (n, D, D))
        there = pushforward(encode, points, eye, scale=scale, container=container)
        return xp.linalg.slogdet(there).logabsdet[:, None]

    volume = directional_derivatives(log_det, X, V, scale=scale)
    assert volume.second is not None
    gradient = volume.first[:, :D, 0]
    bent = _symmetric([volume.second[:, i, :] for i in range(len(pairs))], D)[:, :, :, 0]
    back = xp.matrix_transpose(inverse)
    flat_s = _apply(back, score)
    bent_s = -_apply(back, gradient)
    turned = xp.sum(bends * (flat_s + bent_s)[:, None, None, :], axis=3)
    flat_h = xp.matmul(back, xp.matmul(hessian, inverse))
    bent_h = -xp.matmul(back, xp.matmul(bent + turned, inverse))
    return (flat_s, bent_s, flat_h, bent_h, volume.value[:, 0]), found.method


def _symmetric(along: list[Array], D: int) -> Array:
    """Bilinear form (A, D, D, d) from its values (A, d) along e_i, then along e_i + e_j, j < i."""
    xp = namespace(along[0])
    entries: dict[tuple[int, int], Array] = {(i, i): along[i] for i in range(D)}
    at = D
    for i in range(D):
        for j in range(i):
            entries[i, j] = entries[j, i] = 0.5 * (along[at] - along[i] - along[j])
            at += 1
    return xp.stack([xp.stack([entries[i, j] for j in range(D)], axis=1) for i in range(D)], axis=1)


def _apply(matrices: Array, vectors: Array) -> Array:
    return namespace(vectors).matmul(matrices, vectors[:, :, None])[:, :, 0]


def _mean(values: Array) -> tuple[float, float]:
    xp = namespace(values)
    n = values.shape[0]
    mean = xp.mean(values)
    if n < 2:
        return float(mean), math.nan
    variance = float(xp.sum((values - mean) ** 2)) / (n - 1)
    return float(mean), math.sqrt(variance / n)
