"""The posterior of a kernel score from differences to the neighbours that carry its weight."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from array_api_compat import device

from skfisher._backend.arrays import Array, namespace, to_numpy

__all__ = ["Cloud", "Fields", "cut_weight", "dot", "fields_from_neighbours", "interleave", "pick"]

_SHALLOW = 1e-3
"""tr(I + tH), or a residual form over |r|^2, below which more neighbours are taken in."""

Fields = dict[str, Array]
"""Named values with one row per query."""


class Cloud(NamedTuple):
    """Reference points as the queries of one noise level need them."""

    points: Array  # (N, n), centred, in units of X
    log_weights: Array  # (N,)
    logits: Array  # (N, n + 1): times (y, 1) gives log w_j - |y - x_j|^2 / 2t + |y|^2 / 2t
    sums: Array  # (N, n + 2): x_j, 1, |x_j|^2 in units of sigma
    sigma: float
    radius: float  # largest |x_j|, in units of sigma
    eps: float
    tiny: float  # smallest normal number
    tolerance: float  # rounding error at which matrix products give way to differences
    truncation: float  # share that may be dropped
    memory_budget: int


def cut_weight(length: Array, share: Array, cloud: Cloud) -> Array:
    """Weight, relative to the heaviest of its row, at which a point may be dropped.

    N points below truncation / (N (1 + (2 radius / sigma)^2)) carry at most `truncation` of
    the weight and of the second moment over t; where that moment is only a small `share` of
    one, the cut follows it. The rounding of the logits is allowed for.
    """
    xp = namespace(length)
    slack = 4 * cloud.eps * cloud.radius * (cloud.radius + length)
    cut = cloud.truncation / cloud.points.shape[0] / (1 + 4 * cloud.radius**2) * xp.exp(-slack)
    cut = xp.where(share < _SHALLOW, share * cut, cut)
    floor = 4e3 * cloud.tiny  # above the smallest weight there is, of points beyond reach
    # logits as wrong as this choose no neighbours: keep all points that are not left out
    return xp.where(slack > 40, 0.0, xp.where(cut > floor, cut, floor))


def fields_from_neighbours(
    weights: Array,
    heaviest: Array,
    given: Fields,
    share: Array,
    cloud: Cloud,
    want: str,
) -> Fields:
    """The wanted fields from differences to the points heavier than the cut."""
    xp = namespace(weights)
    n, size = cloud.points.shape[1], weights.shape[1]
    cut = cut_weight(xp.sqrt(dot(given["y"], given["y"])), share, cloud)
    keep = ~(weights <= cut[:, None])
    counts = xp.count_nonzero(keep, axis=1)
    columns = xp.nonzero(xp.reshape(keep, (-1,)))[0] % size
    columns = xp.concat([columns, xp.zeros_like(heaviest[:1])])  # the last is padding
    starts = xp.cumulative_sum(counts) - counts
    order = xp.argsort(counts)
    parts = []
    numbers = cloud.memory_budget / 8 / xp.finfo(cut.dtype).bits
    for run in _runs(to_numpy(xp.take(counts, order)).tolist(), n, numbers):
        rows = order[run]
        begin, count, first = (xp.take(k, rows)[:, None] for k in (starts, counts, heaviest))
        slot = xp.arange(int(xp.max(count)), device=device(weights))[None, :]
        place = xp.where(slot < count, begin + slot, columns.shape[0] - 1)
        index = xp.reshape(xp.take(columns, xp.reshape(place, (-1,))), place.shape)
        index = xp.concat([first, index], axis=1)
        flat = xp.reshape(index, (-1,))
        u = xp.reshape(xp.take(cloud.points, flat, axis=0), (*index.shape, n))
        anchor = u[:, 0, :]
        u = (u - anchor[:, None, :]) / cloud.sigma
        log_weights = xp.reshape(xp.take(cloud.log_weights, flat), index.shape)
        real = xp.concat([xp.ones_like(first, dtype=xp.bool), slot < count], axis=1)
        local = pick(given, rows)
        for name in {"y", "clean"} & set(local):
            local[name] = local[name] - anchor / cloud.sigma
        log_weights = xp.where(real, log_weights, -xp.inf)
        parts.append(_from_differences(u, log_weights, local, cloud.sigma, want))
    out = pick({k: xp.concat([p[k] for p in parts]) for k in parts[0]}, xp.argsort(order))
    dropped = xp.astype(size - 1 - counts, cut.dtype)
    out["dropped"] = xp.where(dropped > 0, dropped * cut, 0.0)
    # what is small against t, or along r, must be exact against its own size
    found = out.pop("share")
    again = (found < _SHALLOW) & (found < share / 2) & (counts < size - 1)
    (rows,), (done,) = xp.nonzero(again), xp.nonzero(~again)
    if want == "score" or rows.shape[0] == 0:
        return out
    chosen = pick({**given, "w": weights, "h": heaviest}, rows)
    deeper = fields_from_neighbours(
        chosen.pop("w"), chosen.pop("h"), chosen, xp.take(found, rows), cloud, want
    )
    return interleave([done, rows], [pick(out, done), deeper])


def _from_differences(
    u: Array, log_weights: Array, given: Fields, sigma: float, want: str
) -> Fields:
    """Fields from neighbours u (m, K, n) and queries, all relative to one point per query.

    Every sum over the posterior is one of positive semi-definite terms in e_j = u_j - E u.
    """
    xp = namespace(u)
    y = given["y"]
    logits = log_weights + _apply(u, y) - dot(u, u) / 2
    p = xp.exp(logits - xp.max(logits, axis=1, keepdims=True))
    p = p / xp.sum(p, axis=1, keepdims=True)
    mean = xp.matmul(p[:, None, :], u)[:, 0, :]
    e = u - mean[:, None, :]
    trace = dot(p, dot(e, e))
    out = {"score": (mean - y) / sigma, "trace": trace, "share": trace}
    if "v" in given:
        hv = xp.matmul((p * _apply(e, given["v"]))[:, None, :], e)[:, 0, :] - given["v"]
        out["hv"] = hv / sigma / sigma
    if want == "score":
        return out
    out["ess"] = 1 / dot(p, p)
    out["denoiser"] = out["hessian"] = xp.full_like(trace, xp.nan)
    if "clean" in given:
        r = given["clean"] - mean
        form, squared = dot(p, _apply(e, r) ** 2), dot(r, r)
        out["residual"] = form
        out["share"] = xp.where(
            form < trace * squared, form / xp.where(squared > 0, squared, 1.0), trace
        )
    if want == "norms":
        K, n = u.shape[1:]
        if n >= 2 * K:  # C has rank below n/2, so that |C/t - I|^2 >= n/2 loses no digit here
            gram = xp.matmul(e, xp.matrix_transpose(e))
            out["denoiser"] = dot(p, _apply(gram * gram, p))
            out["hessian"] = n - 2 * trace + out["denoiser"]
        else:
            C = xp.matmul(xp.matrix_transpose(e), p[:, :, None] * e)
            shifted = C - xp.eye(n, dtype=C.dtype, device=device(C))
            out["denoiser"] = xp.sum(C * C, axis=(1, 2))
            out["hessian"] = xp.sum(shifted * shifted, axis=(1, 2))
    return out


def dot(a: Array, b: Array) -> Array:
    """Inner products along the last axis."""
    return namespace(a).vecdot(a, b)


def _apply(matrices: Array, vectors: Array) -> Array:
    """(m, k, n) times (m, n), shape (m, k)."""
    return namespace(matrices).matmul(matrices, vectors[:, :, None])[:, :, 0]


def pick(fields: Fields, rows: Array) -> Fields:
    """The chosen rows of every field."""
    xp = namespace(rows)
    return {name: xp.take(a, rows, axis=0) for name, a in fields.items()}


def interleave(rows: list[Array], parts: list[Fields]) -> Fields:
    """Fields of disjoint sets of rows, put back in the order of the rows."""
    xp = namespace(rows[0])
    shared = {name: xp.concat([p[name] for p in parts]) for name in parts[0] if name in parts[1]}
    return pick(shared, xp.argsort(xp.concat(rows)))


def _runs(counts: list[int], n: int, numbers: float) -> Iterator[slice]:
    """Slices over rows of increasing `counts`, at most doubling within one, of bounded size."""
    start = 0
    while start < len(counts):
        stop = start + 1
        while stop < len(counts) and counts[stop] <= 2 * counts[start] + 8:
            k = counts[stop]
            if (stop + 1 - start) * (4 * k * n + min(k, n) ** 2) > numbers:
                break
            stop += 1
        yield slice(start, stop)
        start = stop
