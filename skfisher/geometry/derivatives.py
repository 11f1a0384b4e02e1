"""Directional derivatives of any encoder: exact where it can be, by differences elsewhere."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from skfisher._backend.arrays import Array, like, namespace, row_chunks
from skfisher._backend.richardson import line_derivatives
from skfisher._backend.validation import as_sample
from skfisher.geometry.affine import LinearMap
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
from skfisher.geometry.kinks import has_kinks

__all__ = [
    "Derivatives",
    "directional_derivatives",
    "pushforward",
]

_ROUNDINGS = 100.0  # of the dtype, that automatic differentiation may lose
_PROBE = 0.0012345678901234567  # of the scale


@dataclass(frozen=True, eq=False)
class Derivatives:
    """First and second derivatives of an encoder f along p directions at A points.

    Attributes
    ----------
    value : array of shape (A, d)
        f(x).
    first : array of shape (A, p, d)
        Df(x) v.
    second : array of shape (A, p, d) or None
        D^2 f(x)[v, v]; None for order 1.
    first_error, second_error : array of shape (A,)
        Estimated absolute error of the largest entry at each point: 0 for closed forms, 100
        roundings for automatic differentiation, Ridders' estimate for differences (infinite where
        no step gave finite values; the entries are NaN there). Zeros for a `second` of order 1.
    method : str
        How they were taken, per step of a pipeline, with what was tried before in vain.
    n_products : int
        Products taken by automatic differentiation, plus rows encoded for differences.
    kinks : bool
        Whether the second derivative does not explain how the first changes over a finite step, as
        in networks of ReLUs, or is not resolved: `second` then says little about the bending, which
        local fits see. Always False for order 1.
    """

    value: Array
    first: Array
    second: Array | None
    first_error: Array
    second_error: Array
    method: str
    n_products: int
    kinks: bool

    def __repr__(self) -> str:
        A, p, d = self.first.shape
        return f"Derivatives({A} points, {p} directions, {d} columns, method={self.method!r})"


def directional_derivatives(
    encode: Any,
    X: Any,
    V: Any,
    *,
    order: int = 2,
    scale: Any = None,
    container: Callable[[Array], Any] | None = None,
) -> Derivatives:
    """Df(x) v and D^2 f(x)[v, v] of an encoder along directions at points.

    Parameters
    ----------
    encode : object, function or None
        An object with `transform`, `encode` or `__call__`, used in that order; None is the
        identity. Exact derivatives come from `LinearMap`, from encoders with a method `jet`
        (`skfisher.encoders.TorchEncoder`), and from these as steps of a scikit-learn pipeline,
        whose value and derivatives are carried from step to step. All else goes by differences.
    X : array of shape (A, D)
        Points.
    V : array of shape (A, p, D)
        Directions at each point, of any length.
    order : {1, 2}
    scale : float or array of shape (A,), optional
        Length over which differences are taken: the longest step is half of it, the shortest 1/340.
        Default: the RMS scale of the rows that reach the function (root of the mean variance of a
        column). In a pipeline only the first step takes it.
    container : callable, optional
        What an encoder that goes by differences is given rows in, such as a data frame's class.

    Returns
    -------
    Derivatives
        In float64 in the library of X.

    Raises
    ------
    TypeError
        An encoder that cannot be called; a bare torch module.
    ValueError
        Shapes that do not fit, an order other than 1 and 2, a scale that is not positive; an
        encoder that refuses points near the rows of X, or gives no row of numbers per row, or
        whose latents are random.

    Notes
    -----
    Automatic differentiation is nested forward mode, or the next that torch can do with the module;
    `method` names it. Differences are central, over nine steps at once, extrapolated to step zero
    (Ridders 1982); lines that are straight within rounding get an exact zero as second derivative.
    A float64 function that bends over `scale` or so is differentiated to about 1e-11 and 1e-9,
    relative; one that rounds to float32 to about 1e-6 and 1e-5.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.asarray([[0.5], [1.0]])
    >>> found = directional_derivatives(np.sinh, X, 2.0 * np.ones((2, 1, 1)))
    >>> bool(np.all(abs(found.first[:, 0] - 2.0 * np.cosh(X)) < 1e-9))
    True
    >>> bool(np.all(abs(found.second[:, 0] - 4.0 * np.sinh(X)) < 1e-6))
    True
    >>> found.method
    'differences, Richardson'
    """
    X = as_double(as_sample(X))
    xp = namespace(X)
    if order not in (1, 2):
        raise ValueError(f"order is {order!r}: choose 1 or 2.")
    V = as_double(V) if type(V) is type(X) else like(V, X)
    A, D = X.shape
    if V.ndim != 3 or (V.shape[0], V.shape[2]) != (A, D) or V.shape[1] == 0:
        raise ValueError(
            f"V has shape {tuple(V.shape)} for X of shape {(A, D)}: pass (n_rows, n_directions, "
            f"n_features), with at least one direction."
        )
    none = xp.zeros_like(X[:, 0])
    jet = Derivatives(
        value=X,
        first=V,
        second=None,
        first_error=none,
        second_error=none,
        method="",
        n_products=0,
        kinks=False,
    )
    for i, (kind, step) in enumerate(_steps_of(encode)):
        given = given_scale(scale, X) if i == 0 and scale is not None else own_scale(jet.value)
        wrap = container if i == 0 else None
        jet = _chained(jet, kind, step, order, given, wrap)
    second = jet.second
    if order == 2 and second is None:
        second = xp.zeros_like(jet.first)
    return replace(jet, second=second, method=jet.method or "closed form")


def pushforward(
    encode: Any,
    X: Any,
    U: Any,
    *,
    scale: Any = None,
    container: Callable[[Array], Any] | None = None,
) -> Array:
    """Images Df(x) U of tangent bases.

    Parameters
    ----------
    encode, X, scale, container
        As in `directional_derivatives`.
    U : array of shape (A, D, k)
        Columns are directions at each row of X.

    Returns
    -------
    array of shape (A, d, k)
        By k forward products; by d products with the transposed Jacobian where d < k and the
        encoder has them (`pullback`, as `TorchEncoder` has).

    Examples
    --------
    >>> import numpy as np
    >>> X = np.zeros((4, 3))
    >>> U = np.broadcast_to(np.eye(3)[:, :2], (4, 3, 2))
    >>> B = pushforward(lambda x: 2.0 * x, X, U)
    >>> B.shape, bool(np.all(abs(B - 2.0 * U) < 1e-12))
    ((4, 3, 2), True)
    """
    X = as_double(as_sample(X))
    xp = namespace(X)
    U = as_bases(U, X)
    A, D, k = U.shape
    encoder = only_part(encode)
    if encoder is not None and hasattr(encoder, "pullback"):
        d = int(image_of(function_of(encoder), X[:1, :], X)[0].shape[1])
        if d < k:
            parts = []
            try:
                for rows in row_chunks(A, 16.0 * D * (d + k)):
                    n = X[rows, :].shape[0]
                    eye = xp.broadcast_to(_eye(d, X), (n, d, d))
                    parts.append(xp.matmul(encoder.pullback(X[rows, :], eye), U[rows, :, :]))
            except NotImplementedError:
                parts = []
            if parts:
                return xp.concat(parts, axis=0)
    parts = []
    for rows in row_chunks(A, 64.0 * D * k):
        found = directional_derivatives(
            encode,
            X[rows, :],
            xp.matrix_transpose(U[rows, :, :]),
            order=1,
            scale=given_scale(scale, X)[rows] if scale is not None else own_scale(X)[rows],
            container=container,
        )
        parts.append(xp.matrix_transpose(found.first))
    return xp.concat(parts, axis=0)


def _steps_of(encode: Any) -> list[tuple[str, Any]]:
    """The encoder as a chain of steps, ("linear" | "jet" | "rows", step); functions are merged."""
    steps: list[tuple[str, Any]] = []
    for part in parts_of(encode):
        if isinstance(part, LinearMap):
            steps.append(("linear", part))
        elif hasattr(part, "jet"):
            steps.append(("jet", part))
        elif steps and steps[-1][0] == "rows":
            steps[-1] = ("rows", _composed(steps[-1][1], function_of(part)))
        else:
            steps.append(("rows", function_of(part)))
    return steps


def _composed(inner: Callable[[Any], Any], outer: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda rows: outer(inner(rows))


def _chained(
    jet: Derivatives,
    kind: str,
    step: Any,
    order: int,
    scale: Array,
    container: Callable[[Array], Any] | None,
) -> Derivatives:
    """The jet of g(f(x)) from that of f: Dg f', and D^2 g[f', f'] + Dg f''."""
    xp = namespace(jet.first)
    one = _of_step(kind, step, jet.value, jet.first, order, scale, container)
    if not jet.method:
        return one
    n_in = jet.first.shape[2]
    stretch = _stretch(jet.first, one.first) * math.sqrt(n_in)
    first_error = one.first_error + stretch * jet.first_error
    second, second_error = one.second, one.second_error
    products = jet.n_products + one.n_products
    if order == 2:
        # D^2 g[v, v] for v off by e: about 2 |D^2 g[v, v]| |e| / |v|
        length = xp.max(xp.linalg.vector_norm(jet.first, axis=2), axis=1)
        length = xp.where(length > 0, length, xp.ones_like(length))
        size = xp.max(xp.abs(one.second), axis=(1, 2)) if one.second is not None else 0.0 * length
        second_error = second_error + 2.0 * math.sqrt(n_in) * size * jet.first_error / length
        if jet.second is not None:
            bent = _of_step(kind, step, jet.value, jet.second, 1, scale, container)
            second = bent.first if second is None else second + bent.first
            second_error = second_error + bent.first_error + stretch * jet.second_error
            products += bent.n_products
    return replace(
        one,
        second=second,
        first_error=first_error,
        second_error=second_error,
        method=f"{jet.method} -> {one.method}",
        n_products=products,
        kinks=jet.kinks or one.kinks,
    )


def _stretch(given: Array, image: Array) -> Array:
    """Largest factor by which a step stretches the directions at each point."""
    xp = namespace(given)
    before = xp.linalg.vector_norm(given, axis=2)
    after = xp.linalg.vector_norm(image, axis=2)
    ratio = xp.where(before > 0, after, 0.0 * after) / xp.where(before > 0, before, 1.0 + before)
    return xp.max(ratio, axis=1)


def _of_step(
    kind: str,
    step: Any,
    X: Array,
    V: Array,
    order: int,
    scale: Array,
    container: Callable[[Array], Any] | None,
) -> Derivatives:
    if kind == "linear":
        return _of_linear(step, X, V)
    if kind == "rows":
        return _by_differences(step, X, V, order, scale, container, "")
    try:
        found = step.jet(X, V, order=order)
    except NotImplementedError as error:
        reason = f"; exact derivatives failed: {error}"
        return _by_differences(function_of(step), X, V, order, scale, container, reason)
    xp = namespace(X)
    first_error = _ROUNDINGS * found.rounding * xp.max(xp.abs(found.first), axis=(1, 2))
    second_error, kinks, products = 0.0 * first_error, False, int(V.shape[0] * V.shape[1])
    if order == 2:
        second_error = _ROUNDINGS * found.rounding * xp.max(xp.abs(found.second), axis=(1, 2))
        kinks, more = has_kinks(step, found, X, V, scale)
        products += more
    method = found.mode if order == 2 else found.mode.partition(", second by")[0]
    if order == 1:
        method = method.removeprefix("nested ")
    tried = f" (not: {found.failures})" if found.failures else ""
    noted = "; the bending is in kinks that second derivatives do not see" if kinks else ""
    return Derivatives(
        value=found.value,
        first=found.first,
        second=found.second,
        first_error=first_error,
        second_error=second_error,
        method=f"{method}{tried}{noted}",
        n_products=products,
        kinks=kinks,
    )


def _of_linear(step: LinearMap, X: Array, V: Array) -> Derivatives:
    xp = namespace(X)
    basis, matrix = cast_double(step.basis, X), cast_double(step.matrix, X)
    none = xp.zeros_like(X[:, 0])
    return Derivatives(
        value=cast_double(step(X), X),
        first=xp.matmul(xp.matmul(V, basis), xp.matrix_transpose(matrix)),
        second=None,
        first_error=none,
        second_error=none,
        method="closed form",
        n_products=0,
        kinks=False,
    )


def _by_differences(
    call: Callable[[Any], Any],
    X: Array,
    V: Array,
    order: int,
    scale: Array,
    container: Callable[[Array], Any] | None,
    reason: str,
) -> Derivatives:
    """Extrapolated differences; the encoder's dtype and what it rounds to set the rounding."""
    xp = namespace(X)
    A, p, D = V.shape
    value, eps = image_of(call, X, X, container)
    d = value.shape[1]
    length = xp.linalg.vector_norm(V, axis=2, keepdims=True)
    unit = xp.reshape(V / xp.where(length > 0, length, xp.ones_like(length)), (A * p, D))
    at = xp.reshape(xp.broadcast_to(X[:, None, :], (A, p, D)), (A * p, D))
    here = xp.reshape(xp.broadcast_to(value[:, None, :], (A, p, d)), (A * p, d))
    steps = xp.reshape(xp.broadcast_to(scale[:, None], (A, p)), (A * p,))

    def encode(points: Array) -> Array:
        found, _ = image_of(call, points, X, container, finite=False)
        if found.shape[1] != d:
            raise ValueError(f"{found.shape[1]} columns instead of {d}")
        return found

    # the rows themselves may be short numbers; a few points beside them tell what f rounds to
    with suppress(ValueError):
        some = min(16, A * p)
        probes = at[:some, :] + _PROBE * steps[:some, None] * unit[:some, :]
        eps = min(eps, image_of(call, probes, X, container)[1])
    shrunk = ""
    for share in (1.0, 1.0 / 300.0):
        try:
            found = line_derivatives(encode, at, here, unit, share * steps, eps)
            break
        except ValueError as error:
            if share < 1.0:
                raise ValueError(
                    f"the encoder refuses points beside the rows of X ({error}), so that "
                    f"derivatives cannot be taken there: use local fits of the pairs (X, Z), "
                    f"which need no other points, or an encoder defined around the data."
                ) from error
            shrunk = ", short steps as the encoder refuses long ones"
    length = xp.reshape(length, (A, p, 1))
    first = xp.reshape(found.first, (A, p, d)) * length
    second = xp.reshape(found.second, (A, p, d)) * length**2
    length = length[:, :, 0]
    first_error = xp.max(_times(xp.reshape(found.first_error, (A, p)), length), axis=1)
    second_error = xp.max(_times(xp.reshape(found.second_error, (A, p)), length**2), axis=1)
    method = "differences, exact on straight lines" if found.affine else "differences, Richardson"
    kinks = found.kinks and order == 2
    noted = "; second differences do not settle, as at kinks" if kinks else ""
    return Derivatives(
        value=value,
        first=first,
        second=None if order == 1 else second,
        first_error=first_error,
        second_error=second_error if order == 2 else xp.zeros_like(first_error),
        method=f"{method}{shrunk}{noted}{reason}",
        n_products=A + found.n_calls,
        kinks=kinks,
    )


def _times(error: Array, factor: Array) -> Array:
    """The error times `factor`, zero where the factor is, whatever the error."""
    xp = namespace(error)
    return xp.where(factor > 0, xp.where(factor > 0, error, 0.0 * factor) * factor, 0.0 * factor)


def _eye(n: int, X: Array) -> Array:
    return like([[float(i == j) for j in range(n)] for i in range(n)], X)
