"""Traces and Frobenius norms of matrices known by their products, and means with their errors.

One product per probe serves both: with E v v^T = I, E v^T A v = tr A and E |A v|^2 = |A|_F^2
(Hutchinson 1990). Every probe has |v|^2 = n: signs have it already, and a normal draw is scaled to
it, which is free (its length is independent of its direction, so this is the conditional mean
given the direction and never has the larger variance).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral
from typing import Any, TypeAlias

from skfisher._backend.arrays import Array, like, namespace, to_numpy
from skfisher._backend.draws import normal, signs
from skfisher._backend.groups import group_sums
from skfisher._backend.validation import as_groups, as_row_weights

__all__ = [
    "RowTraces",
    "RunningMoments",
    "TraceEstimate",
    "mean_of_traces",
    "pooled",
    "pooled_means",
    "row_traces",
]

Product: TypeAlias = Callable[[Array], Array]
"""Maps (m, n) to (m, n), row i multiplied by its own matrix A_i."""

_KINDS = ("auto", "exact", "rademacher", "gaussian")


@dataclass(frozen=True, eq=False)
class RowTraces:
    """Trace and squared Frobenius norm of one matrix per row.

    Attributes
    ----------
    trace, squared_norm : array of shape (m,)
        tr A_i and |A_i|_F^2, estimated without bias or exact. For A = S + K with S symmetric and
        K antisymmetric, the norm is that of both parts, |S|_F^2 + |K|_F^2.
    trace_variance, squared_norm_variance : array of shape (m,) or None
        Variance of each row's number over the draw of its probes: zero where it is exact, None
        where one probe alone cannot tell. `pooled` does not need it.
    n_products : int
        Matrix-vector products spent: probes (n for exact) times rows.
    kind : str
        "exact", "rademacher" or "gaussian".
    forms : tuple of str
        How the trace ("exact", "probe", "known") and the squared norm ("exact", "probe",
        "centred") were found.
    """

    trace: Array
    squared_norm: Array
    trace_variance: Array | None
    squared_norm_variance: Array | None
    n_products: int
    kind: str
    forms: tuple[str, str]


def row_traces(
    product: Product,
    ref: Array,
    *,
    n_probes: int = 1,
    kind: str = "rademacher",
    seed: int = 0,
    stream: tuple[int, ...] = (),
    start: int = 0,
    known_trace: Any = None,
) -> RowTraces:
    """Trace and squared Frobenius norm of each row's matrix, both from the same products.

    Parameters
    ----------
    product : callable
        Maps probes (m, n) to products (m, n), row i multiplied by its own matrix A_i.
    ref : array of shape (m, n)
        Its shape, library, dtype and device are those of the probes; its values are not used.
    n_probes : int
        Probes per row; of no consequence for "exact".
    kind : {"rademacher", "gaussian", "exact", "auto"}
        Random signs; normal directions of length sqrt(n); the n unit vectors; or "exact" where
        n <= n_probes, so that it costs no more, and "rademacher" otherwise.
    seed, stream : int, tuple of int
        Probe p of row i is drawn at (seed, stream + (p,), start + i). No other draw may use a
        stream that begins with `stream`.
    start : int
        Index of the first row, so that a call in chunks returns the numbers of one call.
    known_trace : array-like of shape (m,), optional
        tr A_i, if it is known from elsewhere. "exact" has no use for it.

    Returns
    -------
    RowTraces

    Raises
    ------
    ValueError
        Unknown `kind`, `n_probes` below 1, `ref` not two-dimensional, a `known_trace` or a
        product of the wrong shape.

    Notes
    -----
    Unbiased for every kind. One Rademacher probe has the variances
    (1/2) sum_{i != j} (A + A^T)_ij^2 for the trace and 2 sum_{i != j} (A^T A)_ij^2 for the norm.

    Control variate. With the exact trace, c = tr A / n and B = A - cI, the cross term vanishes and
    |A|_F^2 = |B|_F^2 + (tr A)^2 / n. Probing B leaves only the variance of B^T B, which is small
    where A is close to a multiple of the identity. With c = v^T A v / n from the *same* probe
    nothing is gained, since |v|^2 = n makes it an identity:
    |Av - cv|^2 + n c^2 = |Av|^2 - 2 c v^T A v + 2 n c^2 = |Av|^2.

    Source: M. F. Hutchinson, Commun. Stat. Simul. Comput. 19 (1990) 433.

    Examples
    --------
    >>> import numpy as np
    >>> A = np.array([[[2.0, 1.0], [1.0, 3.0]]])
    >>> def product(V):
    ...     return (A @ V[:, :, None])[:, :, 0]
    >>> exact = row_traces(product, np.zeros((1, 2)), kind="exact")
    >>> float(exact.trace[0]), float(exact.squared_norm[0]), exact.n_products
    (5.0, 15.0, 2)
    >>> probed = row_traces(product, np.zeros((1, 2)), n_probes=4, known_trace=[5.0])
    >>> float(probed.trace[0]), probed.forms
    (5.0, ('known', 'centred'))
    """
    if kind not in _KINDS:
        raise ValueError(f"kind is {kind!r}: pass one of {', '.join(map(repr, _KINDS))}.")
    if not isinstance(n_probes, Integral) or n_probes < 1:
        raise ValueError(f"n_probes is {n_probes!r}: pass an integer of at least 1.")
    if ref.ndim != 2:
        raise ValueError(f"ref has shape {tuple(ref.shape)}: pass an array of shape (m, n).")
    m, n = ref.shape
    if kind == "auto":
        kind = "exact" if n <= n_probes else "rademacher"
    if kind == "exact":
        return _exact(product, ref)

    xp = namespace(ref)
    tau = None
    if known_trace is not None:
        tau = like(to_numpy(known_trace), ref)
        if tau.shape != (m,):
            raise ValueError(
                f"known_trace has shape {tuple(tau.shape)} but there are {m} rows: pass one trace "
                f"per row."
            )
    traces, norms = [], []
    for probe in range(n_probes):
        v = _probe(kind, seed, (*stream, probe), start, ref)
        av = _checked(product(v), v)
        if tau is None:
            traces.append(xp.vecdot(v, av))
            norms.append(xp.vecdot(av, av))
        else:
            bv = av - (tau / n)[:, None] * v
            norms.append(xp.vecdot(bv, bv) + tau * tau / n)
    squared_norm, squared_norm_variance = _over_probes(norms)
    if tau is None:
        trace, trace_variance = _over_probes(traces)
    else:
        trace, trace_variance = tau, xp.zeros_like(tau)
    return RowTraces(
        trace=trace,
        squared_norm=squared_norm,
        trace_variance=trace_variance,
        squared_norm_variance=squared_norm_variance,
        n_products=m * int(n_probes),
        kind=kind,
        forms=("probe", "probe") if tau is None else ("known", "centred"),
    )


def _exact(product: Product, ref: Array) -> RowTraces:
    xp = namespace(ref)
    m, n = ref.shape
    columns = like(range(n), ref)
    trace = xp.zeros_like(ref[:, 0])
    squared_norm = trace
    for k in range(n):
        v = xp.zeros_like(ref) + xp.astype(columns == k, ref.dtype)
        av = _checked(product(v), v)
        trace = trace + av[:, k]
        squared_norm = squared_norm + xp.sum(av * av, axis=1)
    none = xp.zeros_like(trace)
    return RowTraces(trace, squared_norm, none, none, m * n, "exact", ("exact", "exact"))


def _probe(kind: str, seed: int, stream: tuple[int, ...], start: int, ref: Array) -> Array:
    m, n = ref.shape
    rows = slice(start, start + m)
    if kind == "rademacher":
        return signs(seed, stream, rows, n, ref)
    xp = namespace(ref)
    v = normal(seed, stream, rows, n, ref)
    return v * xp.sqrt(n / xp.sum(v * v, axis=1, keepdims=True))


def _checked(products: Array, probes: Array) -> Array:
    shape = getattr(products, "shape", None)
    if shape != probes.shape:
        seen = f"a {type(products).__name__}" if shape is None else f"shape {tuple(shape)}"
        raise ValueError(
            f"product returned {seen} for probes of shape {tuple(probes.shape)}: return row i's "
            f"matrix times row i of the probes, in the same shape."
        )
    return products


def _over_probes(values: list[Array]) -> tuple[Array, Array | None]:
    if len(values) == 1:
        return values[0], None
    xp = namespace(values[0])
    stacked = xp.stack(values)
    return xp.mean(stacked, axis=0), xp.var(stacked, axis=0, correction=1.0) / len(values)


@dataclass(frozen=True, eq=False)
class RunningMoments:
    """Weighted mean of rows and its covariance, mergeable over batches of rows.

    Made by `RunningMoments.of`; `update` and `merge` return a new one. Rows are independent
    (for groups see `pooled_means`). Means are kept as offsets from a fixed `center`, so that
    batches whose mean is 1e8 times their spread still merge without loss.

    Attributes
    ----------
    weight_sums : tuple of float
        Sum of w, of w^2 and of w^3.
    center : array of shape (q,)
        Origin of the offsets, close to the mean of the first batch.
    offset, square_offset : array of shape (q,)
        Means under the weights w (this one plus `center` is the mean) and under w^2.
    scatter : array of shape (q, q)
        Sum of w^2 (x - nu)(x - nu)^T, nu the mean under w^2.

    Notes
    -----
    Means and scatter merge by the pairwise formula of Chan, Golub and LeVeque (1983),
    "Algorithms for computing the sample variance", Am. Stat. 37, 242.

    Examples
    --------
    >>> import numpy as np
    >>> rows = np.array([[1.0], [2.0], [3.0], [6.0]])
    >>> moments = RunningMoments.of(rows[:2]).update(rows[2:])
    >>> float(moments.mean[0]), round(float(moments.covariance_of_mean[0, 0]), 6)
    (3.0, 1.166667)
    """

    weight_sums: tuple[float, float, float]
    center: Array
    offset: Array
    square_offset: Array
    scatter: Array

    @classmethod
    def of(cls, rows: Array, weights: Any = None) -> RunningMoments:
        """Moments of one batch.

        Parameters
        ----------
        rows : array of shape (m, q)
        weights : array-like of shape (m,), optional
            Non-negative; the batches of one run share their unit.

        Raises
        ------
        ValueError
            `rows` empty or not two-dimensional; weights as `as_row_weights` refuses them.
        """
        rows = _columns(rows)
        return cls._of(rows, _row_weights(weights, rows))

    @classmethod
    def _of(cls, rows: Array, w: Array) -> RunningMoments:
        xp = namespace(rows)
        sums = (float(xp.sum(w)), float(xp.sum(w * w)), float(xp.sum(w * w * w)))
        center = xp.matmul(w, rows) / sums[0]
        x = rows - center
        square_offset = xp.matmul(w * w, x) / sums[1]
        z = w[:, None] * (x - square_offset)
        return cls(
            sums,
            center,
            xp.matmul(w, x) / sums[0],
            square_offset,
            xp.matmul(xp.matrix_transpose(z), z),
        )

    def update(self, rows: Array, weights: Any = None) -> RunningMoments:
        """Return the moments of these rows and a further batch; parameters as for `of`."""
        return self.merge(RunningMoments.of(rows, weights))

    def merge(self, other: RunningMoments) -> RunningMoments:
        """Moments of both sets of rows together."""
        a, b = self.weight_sums, other.weight_sums
        total = (a[0] + b[0], a[1] + b[1], a[2] + b[2])
        shift = other.center - self.center
        gap = shift + other.offset - self.offset
        square_gap = shift + other.square_offset - self.square_offset
        return RunningMoments(
            total,
            self.center,
            self.offset + gap * (b[0] / total[0]),
            self.square_offset + square_gap * (b[1] / total[1]),
            self.scatter + other.scatter + _outer(square_gap) * (a[1] * (b[1] / total[1])),
        )

    @property
    def mean(self) -> Array:
        """Weighted mean, shape (q,)."""
        return self.center + self.offset

    @property
    def covariance_of_mean(self) -> Array:
        """Covariance of the weighted mean, shape (q, q); NaN where one row holds all the weight.

        Sum of w^2 (x - mean)(x - mean)^T over (sum w)^2, made unbiased for rows of equal variance:
        with shares p = w / sum w, residual i has the variance 1 - 2 p_i + sum p^2 of its row, which
        the factor undoes. Equal weights give m / (m - 1).
        """
        s1, s2, s3 = self.weight_sums
        kept = 1.0 + s2 / s1**2 - 2.0 * s3 / (s1 * s2)
        rounding = 32 * namespace(self.scatter).finfo(self.scatter.dtype).eps
        factor = 1.0 / kept if kept > rounding else math.nan
        spread = self.scatter + s2 * _outer(self.square_offset - self.offset)
        return spread * (factor / s1**2)


def pooled_means(rows: Array, weights: Any = None, groups: Any = None) -> tuple[Array, Array]:
    """Means of several columns over rows, and the covariance of these means.

    Parameters
    ----------
    rows : array of shape (m, q)
        One row per independent draw of everything random: data, noise and probes.
    weights : array-like of shape (m,), optional
        Importance weights; their unit is of no consequence. The mean equals that of repeated
        rows, the error does not: a row of weight two is one draw, not two.
    groups : array-like of shape (m,), optional
        Labels of the groups that are independent of one another; rows within one need not be.

    Returns
    -------
    means : array of shape (q,)
    covariance : array of shape (q, q)
        NaN where one row or group holds all the weight.

    Raises
    ------
    ValueError
        `rows` empty or not two-dimensional; weights and groups as `as_row_weights` and
        `as_groups` refuse them.

    Notes
    -----
    The linearised variance of a weighted mean, sum w^2 (x - mean)^2 / (sum w)^2, with the factor
    of `RunningMoments.covariance_of_mean`; with groups, their sums of w (x - mean) take the place
    of the rows' (Liang and Zeger 1986, Biometrika 73, 13), and the factor is G / (G - 1) for
    groups of equal weight. The value has the bias of a ratio, O(1/m), unless weights are fixed;
    the covariance treats them as fixed too.

    Examples
    --------
    >>> import numpy as np
    >>> rows = np.array([[1.0, 0.0], [3.0, 1.0], [5.0, 2.0]])
    >>> means, covariance = pooled_means(rows)
    >>> means.tolist(), np.round(covariance, 3).tolist()
    ([3.0, 1.0], [[1.333, 0.667], [0.667, 0.333]])
    """
    rows = _columns(rows)
    w = _row_weights(weights, rows)
    xp = namespace(rows)
    w = w / xp.max(w)
    codes = as_groups(groups, rows.shape[0])
    if codes is None:
        moments = RunningMoments._of(rows, w)
        return moments.mean, moments.covariance_of_mean
    # a weighted mean of group means under the groups' weights is the mean of all rows, and its
    # residuals times these weights are the groups' sums
    center = xp.matmul(w, rows) / xp.sum(w)
    sums = group_sums(xp.concat([w[:, None] * (rows - center), w[:, None]], axis=1), codes)
    w = sums[:, -1]
    group_means = sums[:, :-1] / xp.where(w > 0, w, xp.ones_like(w))[:, None]
    moments = RunningMoments._of(group_means, w)
    return center + moments.mean, moments.covariance_of_mean


def pooled(values: Array, weights: Any = None, groups: Any = None) -> tuple[float, float]:
    """Mean over rows and its standard error: `pooled_means` for one column.

    The spread over rows contains data, noise and probe variance alike, since every row has its
    own draw of each; the probe variance of `RowTraces` is not added.

    Parameters
    ----------
    values : array of shape (m,)
    weights, groups : array-like of shape (m,), optional
        As for `pooled_means`.

    Returns
    -------
    value, stderr : float

    Raises
    ------
    ValueError
        As `pooled_means`, and `values` not one-dimensional.

    Examples
    --------
    >>> import numpy as np
    >>> value, stderr = pooled(np.array([1.0, 2.0, 3.0, 6.0]))
    >>> value, round(stderr, 6)
    (3.0, 1.080123)
    """
    if values.ndim != 1:
        raise ValueError(
            f"values has shape {tuple(values.shape)}: pass one value per row, or several columns "
            f"to pooled_means."
        )
    means, covariance = pooled_means(values[:, None], weights, groups)
    return float(means[0]), math.sqrt(float(covariance[0, 0]))


@dataclass(frozen=True, eq=False)
class TraceEstimate:
    """Mean trace and mean squared norm over rows, in this order, with their joint error.

    Attributes
    ----------
    value : array of shape (2,)
        E tr A and E |A|_F^2.
    covariance : array of shape (2, 2)
        Of `value`; a sum of both, such as |A|_F^2 - 2 tr A + n = |I - A|_F^2, needs it.
    n_products : int
        Matrix-vector products spent.
    """

    value: Array
    covariance: Array
    n_products: int

    @property
    def stderr(self) -> Array:
        """Standard errors of `value`, shape (2,)."""
        xp = namespace(self.covariance)
        return xp.sqrt(xp.linalg.diagonal(self.covariance))


def mean_of_traces(*traces: RowTraces, weights: Any = None, groups: Any = None) -> TraceEstimate:
    """Mean of traces and squared norms over the rows of one or several chunks.

    Parameters
    ----------
    *traces : RowTraces
        Consecutive chunks of rows.
    weights, groups : array-like of shape (m,), optional
        For the rows of all chunks together, as for `pooled_means`.

    Returns
    -------
    TraceEstimate

    Raises
    ------
    ValueError
        No chunk; otherwise as `pooled_means`.

    Examples
    --------
    >>> import numpy as np
    >>> half = row_traces(lambda V: 0.5 * V, np.zeros((3, 4)))
    >>> estimate = mean_of_traces(half)
    >>> estimate.value.tolist(), estimate.stderr.tolist(), estimate.n_products
    ([2.0, 1.0], [0.0, 0.0], 3)
    """
    if not traces:
        raise ValueError("traces is empty: pass at least one RowTraces.")
    xp = namespace(traces[0].trace)
    rows = xp.stack(
        [xp.concat([r.trace for r in traces]), xp.concat([r.squared_norm for r in traces])], axis=1
    )
    means, covariance = pooled_means(rows, weights, groups)
    return TraceEstimate(means, covariance, sum(r.n_products for r in traces))


def _columns(rows: Array) -> Array:
    xp = namespace(rows)
    if rows.ndim != 2 or rows.shape[0] == 0:
        raise ValueError(
            f"rows has shape {tuple(rows.shape)}: pass shape (m, q) with at least one row."
        )
    return rows if xp.isdtype(rows.dtype, "real floating") else xp.astype(rows, xp.float64)


def _row_weights(weights: Any, rows: Array) -> Array:
    checked = as_row_weights(weights, rows.shape[0])
    if checked is None:
        return namespace(rows).ones_like(rows[:, 0])
    return like(checked, rows)


def _outer(x: Array) -> Array:
    return x[:, None] * x[None, :]
