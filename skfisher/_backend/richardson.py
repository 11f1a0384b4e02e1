"""First and second derivatives along lines by central differences, extrapolated to step zero."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

from skfisher._backend.arrays import MEMORY_BUDGET, Array, namespace, row_chunks

__all__ = ["LEVELS", "LineDerivatives", "line_derivatives"]

LEVELS = 9
"""Steps that are tried on every line, from `_FIRST` of the scale down to 1/170 of that."""

_RATIO = 1.9  # of one step to the next; not 2, with which all steps can fall on whole periods
_FIRST = 0.5
_ORDERS = 5  # columns of the extrapolation
_AMPLIFIED = 2.0  # rounding of an extrapolated difference over that of its smallest step
_AFFINE = 16.0  # roundings within which a line counts as straight
# RMS change of the second difference from step to step, over all lines: falls by _RATIO^2 or more
# per level for functions with four derivatives, grows by _RATIO^(1/2) where kinks are spread over
# the lines (1 / step each, on a share of lines in proportion to the step), by _RATIO^(3/2) for
# jumps, and by _RATIO^2 for rounding or noise.
_SETTLED = 0.45
_NOISY = 0.85 * _RATIO**2
_VANISHES = 0.01
_NOISE_SHARE = 0.1


@dataclass(frozen=True, eq=False)
class LineDerivatives:
    """Derivatives of a function along one direction per row.

    Attributes
    ----------
    first, second : array of shape (m, d)
        NaN where no step gave finite values.
    first_error, second_error : array of shape (m,)
        Estimated error of the largest entry; infinity where the row is NaN.
    affine : bool
        Whether every line is straight within rounding.
    kinks : bool
        Whether second differences keep changing as the step shrinks, as they do at kinks.
    n_calls : int
        Rows that were evaluated.
    """

    first: Array
    second: Array
    first_error: Array
    second_error: Array
    affine: bool
    kinks: bool
    n_calls: int


def line_derivatives(
    fn: Callable[[Array], Array],
    x: Array,
    value: Array,
    v: Array,
    scale: Array,
    eps: float,
    *,
    memory_budget: int = MEMORY_BUDGET,
) -> LineDerivatives:
    """Derivatives of t -> fn(x + t v) at t = 0 for each row.

    Parameters
    ----------
    fn : callable
        Rows (n, D) to rows (n, d); NaN where it is not defined.
    x, v : array of shape (m, D)
        Points, and directions of length 1 or 0.
    value : array of shape (m, d)
        fn(x).
    scale : array of shape (m,)
        Length that the steps are shares of.
    eps : float
        Relative rounding error of what `fn` returns.

    Notes
    -----
    Ridders' choice: central differences have errors in even powers of the step, which a triangle of
    extrapolations removes one after the other. Of its entries from three steps or more, each row
    takes the one that differs least from its two neighbours of the order below, and from the entry
    of the next smaller step where rounding does not explain that. The estimate is this difference
    plus the rounding, (eps max|f| + eps max|x| |f'|) / step, over all entries of a row.
    """
    xp = namespace(x)
    parts, spread = [], []
    width = x.shape[1] + value.shape[1]
    for rows in row_chunks(x.shape[0], 8.0 * (2 * LEVELS + 2) * 3 * width, memory_budget):
        found = _on_chunk(fn, x[rows, :], value[rows, :], v[rows, :], scale[rows], eps)
        parts.append(found[0])
        spread.append(found[1])
    columns = [xp.concat(list(column)) for column in zip(*parts, strict=True)]
    changes = [
        (math.fsum(c[level][0] for c in spread), math.fsum(c[level][1] for c in spread))
        for level in range(LEVELS)
    ]
    first, second, first_error, second_error, straight = columns
    return LineDerivatives(
        first=first,
        second=second,
        first_error=first_error,
        second_error=second_error,
        affine=bool(xp.all(straight)),
        kinks=_kinked(changes[:-1], *changes[-1]),
        n_calls=2 * LEVELS * int(x.shape[0]),
    )


def _on_chunk(
    fn: Callable[[Array], Array], x: Array, value: Array, v: Array, scale: Array, eps: float
) -> tuple[tuple[Array, ...], list[tuple[float, float]]]:
    """Derivatives, errors and straightness of some lines, and the changes from step to step."""
    xp = namespace(x)
    m = x.shape[0]
    steps = [scale * (_FIRST / _RATIO**j) for j in range(LEVELS)]
    moves = [v * h[:, None] for h in steps]
    image = fn(xp.concat([x + move for move in moves] + [x - move for move in moves]))
    ahead = [image[j * m : (j + 1) * m, :] for j in range(LEVELS)]
    behind = [image[(LEVELS + j) * m : (LEVELS + j + 1) * m, :] for j in range(LEVELS)]
    slopes = [(a - b) / (2.0 * h[:, None]) for a, b, h in zip(ahead, behind, steps, strict=True)]
    bends = [
        ((a - value) + (b - value)) / h[:, None] ** 2
        for a, b, h in zip(ahead, behind, steps, strict=True)
    ]
    size = _largest(value)
    for part in (*ahead, *behind):
        size = xp.maximum(size, _finite(_largest(part), 0.0))
    own = float(xp.finfo(x.dtype).eps)
    slope = _finite(_largest(slopes[-1]), 0.0)
    noise = eps * size + own * _largest(x) * slope
    # zero directions have derivative zero without error
    still = xp.max(xp.abs(v), axis=1) == 0
    noise = xp.where(still, xp.zeros_like(noise), noise)

    first, first_error = _extrapolated(slopes, [noise / h for h in steps])
    second, second_error = _extrapolated(bends, [4.0 * noise / h**2 for h in steps])
    straight = still
    if m:
        flat = [_largest(b) * h**2 <= _AFFINE * noise for b, h in zip(bends, steps, strict=True)]
        same = [
            _largest(s - slopes[0]) * h <= _AFFINE * noise
            for s, h in zip(slopes, steps, strict=True)
        ]
        straight = flat[0]
        for verdict in (*flat[1:], *same):
            straight = xp.logical_and(straight, verdict)
        # a straight line is best measured over its longest step
        kept = straight[:, None]
        first = xp.where(kept, slopes[0], first)
        second = xp.where(kept, xp.zeros_like(second), second)
        first_error = xp.where(straight, noise / steps[0], first_error)
        second_error = xp.where(straight, _AFFINE * noise / steps[0] ** 2, second_error)
    changes = []
    for j in range(LEVELS - 1):
        change = bends[j] - bends[j + 1]
        change = xp.where(xp.isnan(change) | straight[:, None], xp.zeros_like(change), change)
        rounding = xp.where(straight, xp.zeros_like(noise), 4.0 * noise / steps[j + 1] ** 2)
        changes.append((float(xp.sum(change**2)), float(xp.sum(rounding**2)) * value.shape[1]))
    # the last entry: what the shortest step leaves unexplained, and how far the longest goes
    left, gone = change * steps[-1][:, None] ** 2, slopes[0] * steps[0][:, None]
    gone = xp.where(xp.isfinite(gone), gone, xp.zeros_like(gone))
    changes.append((float(xp.sum(left**2)), float(xp.sum(gone**2))))
    return (first, second, first_error, second_error, straight), changes


def _extrapolated(rough: list[Array], noise: list[Array]) -> tuple[Array, Array]:
    """The entry of the triangle with the least estimated error in each row, and that error."""
    xp = namespace(rough[0])
    table: list[list[Array]] = []
    for j, entry in enumerate(rough):
        line = [entry]
        for order in range(1, min(j, _ORDERS) + 1):
            gain = _RATIO ** (2 * order) - 1.0
            line.append(line[-1] + (line[-1] - table[j - 1][order - 1]) / gain)
        table.append(line)
    best, error = xp.nan * rough[0], xp.full_like(noise[0], xp.inf)
    for j in range(2, len(rough)):
        rounding = _AMPLIFIED * noise[j]
        for order in range(1, len(table[j])):
            entry = table[j][order]
            off = xp.maximum(
                _largest(entry - table[j][order - 1]), _largest(entry - table[j - 1][order - 1])
            )
            if j + 1 < len(rough):  # steps that are all too long may agree by accident
                finer = _largest(entry - table[j + 1][order]) - 2.0 * _AMPLIFIED * noise[j + 1]
                off = xp.maximum(off, finer)
            off = _finite(off + rounding, xp.inf)
            better = off < error
            best = xp.where(better[:, None], entry, best)
            error = xp.where(better, off, error)
    return best, error


def _kinked(changes: list[tuple[float, float]], left: float, gone: float) -> bool:
    """Whether second differences do not settle as the step shrinks.

    Takes (square of the change, its expectation from rounding) per pair of steps, the longest
    first; and the squares of the change at the shortest step times its square, which is the noise
    where there is noise, and of how far the function goes over the longest.
    """
    ratios = []
    for (coarse, floor), (fine, next_floor) in itertools.pairwise(changes):
        if coarse <= 100.0 * floor:
            continue
        if fine > 4.0 * next_floor:
            ratios.append(math.sqrt(fine / coarse))
        elif _VANISHES**2 * coarse > next_floor:  # a smooth function's would have left this much
            return True
    if len(ratios) > 2 and min(ratios[-2:]) > _NOISY:  # noise that the dtype does not tell
        while ratios and ratios[-1] > _NOISY:
            ratios.pop()
        ratios = ratios[:-2]  # where it takes over
        if left > _NOISE_SHARE**2 * gone:  # no noise on a function, but the function
            return True
    elif len(ratios) > 2 and all(_settles(ratio) for ratio in ratios[-3:-1]):
        ratios = ratios[:-1]
    return not all(_settles(ratio) for ratio in ratios[-2:])


def _settles(ratio: float) -> bool:
    return _VANISHES < ratio < _SETTLED


def _largest(values: Array) -> Array:
    """Largest entry of each row in absolute value; NaN where there is one."""
    return namespace(values).max(namespace(values).abs(values), axis=1)


def _finite(values: Array, otherwise: float) -> Array:
    xp = namespace(values)
    return xp.where(xp.isfinite(values), values, xp.full_like(values, otherwise))
