"""Folds: different parts of the data that lie on top of each other in the latent.

A projection maps different points to one latent as well, but its derivative says so: it kills the
difference. A fold does not show in any one derivative. It shows between two anchors that are near
in the latent: where B U^T = Q S W^T is the singular value decomposition of the derivative in the
ambient space (W (D, r) the directions of the data that are kept, Q (d, r) their images),

    reversal: det(W'^T W) det(Q'^T Q) < 0: going back to the data from the one and forward to the
              other reflects the latent. Along a path without a fold the sign cannot change.
    wrap:     both derivatives predict the same displacement, several times what is there, and the
              data is as far apart as that. (A shear of high frequency predicts too much as well,
              but between rows that are near.)

Where the latent has more dimensions than the data, a steep wave turns the image over without a
fold. There a pair counts instead as

    overlap:  the rows are several times farther apart than derivatives bring to so small a distance
              in the latent, |x' - x| > 4 |z' - z| / s, s the smallest singular value that 95 % of
              the anchors exceed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from skfisher._backend.arrays import Array, index_like, like, namespace, row_chunks, take_rows
from skfisher._backend.draws import seed_of
from skfisher._backend.neighbourhoods import nearest_rows
from skfisher._backend.pairs import near_pairs, pair_mean, row_shares
from skfisher._backend.rows import distinct_rows
from skfisher._backend.validation import as_sample
from skfisher.geometry.affine import RETAINED, as_latent, hull_dimension
from skfisher.geometry.distances import pair_distances, quantiles_of

__all__ = ["FoldReport", "fold_share"]

_ALIGNED = 0.3
"""Least cosine between the kept directions (and between their images) of a pair that is judged."""

_FAR = 4.0
"""A wrap is predicted this many times farther than it is, and than latent neighbours are."""

_AGREEMENT = 0.25
"""Largest difference of the two predictions of a wrap, as a share of the smaller."""

_FEWEST = 20
"""Fewest pairs that can be judged."""


@dataclass(frozen=True, eq=False)
class FoldReport:
    """How much of a latent lies folded on itself, from pairs of anchors that are near in it.

    Attributes
    ----------
    share, stderr : float
        Share of the judged pairs across which the latent is folded, and its standard error, in
        which pairs that share an anchor are dependent. 2 p (1 - p) where two sheets with shares p
        and 1 - p of the data lie on each other, so at most 1/2 for one even fold. NaN, with the
        reason, where fewer than 20 pairs can be judged.
    reversed_share, wrapped_share : float
        Its parts: pairs across which orientation changes; pairs whose two derivatives agree on a
        displacement several times larger than the real one, between rows as far apart, or that
        overlap where the latent has more dimensions than the data.
    n_pairs, n_skipped : int
        Pairs judged, and pairs that were not: different ranks, or kept directions more than about
        70 degrees apart, where no sign can be compared.
    pairs : array of shape (P, 2)
        Row numbers of X of the folded pairs, by increasing latent distance.
    anchor_shares : array of shape (A,)
        Per anchor, the share of its judged pairs that are folded; NaN where it has none.
    reason : str
        Why the share is NaN; empty otherwise.
    """

    share: float
    stderr: float
    reversed_share: float
    wrapped_share: float
    n_pairs: int
    n_skipped: int
    pairs: Array
    anchor_shares: Array
    reason: str

    def __repr__(self) -> str:
        return f"FoldReport(share={self.share:.3g} +- {self.stderr:.2g}, n_pairs={self.n_pairs})"


def fold_share(
    X: Any,
    Z: Any,
    basis: Array,
    pushforward: Array,
    *,
    anchors: Any = None,
    n_neighbors: int = 5,
    random_state: Any = 0,
) -> FoldReport:
    """Share of near pairs of a latent across which it is folded.

    Parameters
    ----------
    X, Z : arrays of shape (N, D), (N, d)
    basis : array of shape (A, D, k)
        Orthonormal tangent bases U of the data at the anchors.
    pushforward : array of shape (A, d, k)
        B = Df U there.
    anchors : integer vector of length A, optional
        Row numbers of X; None where every row is an anchor.
    n_neighbors : int
        Latent neighbours per anchor, among the anchors.
    random_state : None, int, RandomState or Generator
        Chooses the queries where there are more than 20,000 pairs.

    Returns
    -------
    FoldReport
        Where the latent has no more dimensions than the data, reversals need no dense sample: they
        are told from derivatives alone. Overlaps, and wraps (the same orientation on both sheets),
        need latent neighbours that are near, which means few dimensions. Lost directions,
        saturation and high-frequency shears are no folds. An encoder that keeps fewer directions
        than the data has, and other ones from place to place, may be folded along those it keeps.

    Raises
    ------
    ValueError
        Shapes that do not belong together; anchors out of range.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.random.default_rng(0).normal(size=(300, 3))
    >>> Z = np.concatenate([np.abs(X[:, :1]), X[:, 1:]], axis=1)
    >>> basis = np.tile(np.eye(3), (300, 1, 1))
    >>> derivative = basis.copy()
    >>> derivative[:, 0, 0] = np.sign(X[:, 0])
    >>> bool(0.4 < fold_share(X, Z, basis, derivative).share < 0.6)
    True
    """
    X = as_sample(X)
    Z = as_latent(X, Z)
    xp = namespace(X)
    rows = list(range(X.shape[0])) if anchors is None else [int(i) for i in anchors]
    _check_shapes(X, Z, basis, pushforward, rows)
    X_A, Z_A = take_rows(X, rows), take_rows(Z, rows)
    empty = index_like([[0, 0]], X)[:0, :]
    unknown = like([math.nan] * len(rows), X)

    def refused(reason: str, n_skipped: int) -> FoldReport:
        nan = math.nan
        return FoldReport(nan, nan, nan, nan, 0, n_skipped, empty, unknown, reason)

    if len(rows) < 2:
        return refused("a single anchor has no neighbour", 0)
    Q, S, V = xp.linalg.svd(pushforward, full_matrices=False)
    largest = float(xp.max(S))
    if largest <= 0:
        return refused("every direction is lost: there is no latent to fold", 0)
    kept = xp.astype(RETAINED * largest < S, S.dtype)
    n_kept = float(xp.sum(kept))
    c = math.exp(float(xp.sum(kept * xp.log(xp.where(kept > 0, S, xp.ones_like(S))))) / n_kept)
    most = int(xp.max(xp.sum(kept, axis=1)))
    if hull_dimension(Z) > most:
        return _overlaps(X, Z, rows, S, kept, n_neighbors, refused)
    W = xp.matmul(basis, xp.matrix_transpose(V))

    host_pairs = near_pairs(seed_of(random_state), Z_A, n_neighbors, 20_000)
    pairs = index_like(host_pairs, X)
    signs, cosines, predictions, differences = [], [], [], []
    width = basis.shape[1] + pushforward.shape[1] + 4 * S.shape[1]
    for chunk in row_chunks(pairs.shape[0], 32.0 * width * S.shape[1]):
        i, j = pairs[chunk, 0], pairs[chunk, 1]
        sign, cosine = _orientation(W, Q, kept, i, j)
        signs.append(sign)
        cosines.append(cosine)
        step = xp.take(X_A, j, axis=0) - xp.take(X_A, i, axis=0)
        first, second = (_predicted(basis, pushforward, at, step) for at in (i, j))
        norms = [xp.linalg.vector_norm(b, axis=1) for b in (first, second)]
        # in units of the latent, the step itself bounds what counts as far
        norms.append(c * xp.linalg.vector_norm(step, axis=1))
        predictions.append(xp.min(xp.stack(norms), axis=0))
        differences.append(xp.linalg.vector_norm(first - second, axis=1))
    sign, cosine = xp.concat(signs), xp.concat(cosines)
    predicted, disagreement = xp.concat(predictions), xp.concat(differences)
    judged = cosine > _ALIGNED
    n_judged = int(xp.sum(xp.astype(judged, xp.int64)))
    n_skipped = int(pairs.shape[0]) - n_judged
    if n_judged < _FEWEST:
        return refused(
            f"{n_judged} of {pairs.shape[0]} pairs of latent neighbours keep directions near "
            f"enough to compare, fewer than {_FEWEST}: give more anchors, or tangent spaces of "
            f"the data's own dimension",
            n_skipped,
        )
    distance = pair_distances(Z_A, pairs)
    typical = float(quantiles_of(distance, (0.5,))[0])
    floor = xp.where(distance > typical, distance, xp.full_like(distance, typical))
    reversed_ = sign < 0
    # both ends agree on a step that is not there, by more than what neighbours are apart
    wrapped = (
        (sign > 0)
        & (distance <= 2.0 * typical)
        & (predicted > _FAR * floor)
        & (disagreement <= _AGREEMENT * predicted)
    )
    at = xp.nonzero(judged)[0]
    known = host_pairs[[int(p) for p in at], :]
    flags = [xp.astype(xp.take(flag, at, axis=0), X.dtype) for flag in (reversed_, wrapped)]
    folded = flags[0] + flags[1]
    share, stderr = pair_mean(folded, known)
    where = xp.nonzero(judged & (reversed_ | wrapped))[0]
    order = xp.argsort(xp.take(distance, where, axis=0))
    at_rows = xp.take(pairs, xp.take(where, order, axis=0), axis=0)
    names = index_like(rows, X)
    named = [xp.take(names, at_rows[:, side], axis=0) for side in (0, 1)]
    return FoldReport(
        share=share,
        stderr=stderr,
        reversed_share=float(xp.mean(flags[0])),
        wrapped_share=float(xp.mean(flags[1])),
        n_pairs=n_judged,
        n_skipped=n_skipped,
        pairs=xp.stack(named, axis=1),
        anchor_shares=like(row_shares(folded, known, len(rows)), X),
        reason="",
    )


def _overlaps(
    X: Array,
    Z: Array,
    rows: list[int],
    S: Array,
    kept: Array,
    n_neighbors: int,
    refused: Callable[[str, int], FoldReport],
) -> FoldReport:
    """Pairs of an anchor and a row that the derivative cannot have brought together."""
    xp = namespace(X)
    # an anchor that loses a direction brings rows together that are as far apart as they like
    whole = xp.all(kept > 0, axis=1)
    judged = [a for a in range(len(rows)) if bool(whole[a])]
    first, place = distinct_rows(Z)
    count = min(n_neighbors, len(first) - 1)
    skipped = (len(rows) - len(judged)) * count
    if len(judged) * count < _FEWEST:
        return refused(
            f"{len(judged)} of {len(rows)} anchors keep every direction, and have {count} latent "
            f"neighbours each: fewer than {_FEWEST} pairs can be judged",
            skipped,
        )
    queries = place[[rows[a] for a in judged]]
    _, found = nearest_rows(take_rows(Z, first), queries, count)
    host_pairs = [
        [rows[a], int(first[j])] for a, others in zip(judged, found, strict=True) for j in others
    ]
    pairs = index_like(host_pairs, X)
    least = float(quantiles_of(xp.min(take_rows(S, judged), axis=1), (0.05,))[0])
    apart, near = pair_distances(X, pairs), pair_distances(Z, pairs)
    overlap = apart * least > _FAR * near
    folded = xp.astype(overlap, X.dtype)
    share, stderr = pair_mean(folded, pairs)
    at = xp.nonzero(overlap)[0]
    at = xp.take(at, xp.argsort(xp.take(near, at, axis=0)), axis=0)
    per_anchor = xp.mean(xp.reshape(folded, (len(judged), count)), axis=1)
    shares = {a: float(per_anchor[i]) for i, a in enumerate(judged)}
    return FoldReport(
        share=share,
        stderr=stderr,
        reversed_share=0.0,
        wrapped_share=share,
        n_pairs=len(host_pairs),
        n_skipped=skipped,
        pairs=xp.take(pairs, at, axis=0),
        anchor_shares=like([shares.get(a, math.nan) for a in range(len(rows))], X),
        reason="",
    )


def _orientation(W: Array, Q: Array, kept: Array, i: Array, j: Array) -> tuple[Array, Array]:
    """Sign of the transport from latent to data to latent, and the least cosine it rests on."""
    xp = namespace(W)
    r = kept.shape[1]
    first, second = xp.take(kept, i, axis=0), xp.take(kept, j, axis=0)
    both = first[:, :, None] * second[:, None, :]
    # directions that neither keeps stand for themselves; where the ranks differ the cosine is 0
    identity = like([[float(a == b) for a in range(r)] for b in range(r)], W)
    rest = identity[None, :, :] * (1.0 - first)[:, :, None]
    sign = xp.ones_like(first[:, 0])
    cosine = xp.ones_like(sign)
    for frame in (W, Q):
        gram = xp.matmul(xp.matrix_transpose(xp.take(frame, i, axis=0)), xp.take(frame, j, axis=0))
        gram = gram * both + rest
        sign = sign * xp.sign(xp.linalg.det(gram))
        least = xp.linalg.svdvals(gram)[:, -1]
        cosine = xp.where(least < cosine, least, cosine)
    same = xp.all(first == second, axis=1)
    some = xp.any(first > 0, axis=1)
    return sign, xp.where(same & some, cosine, xp.zeros_like(cosine))


def _predicted(basis: Array, pushforward: Array, at: Array, step: Array) -> Array:
    """B U^T step at the anchors `at`, one step each: (P, d)."""
    xp = namespace(basis)
    along = xp.matmul(xp.matrix_transpose(xp.take(basis, at, axis=0)), step[:, :, None])
    return xp.matmul(xp.take(pushforward, at, axis=0), along)[:, :, 0]


def _check_shapes(X: Array, Z: Array, basis: Array, pushforward: Array, rows: list[int]) -> None:
    shapes = tuple(basis.shape), tuple(pushforward.shape)
    k = shapes[0][-1]
    wanted = (len(rows), int(X.shape[1]), k), (len(rows), int(Z.shape[1]), k)
    if shapes != wanted:
        raise ValueError(
            f"basis has shape {shapes[0]} and pushforward {shapes[1]}, but {len(rows)} anchors of "
            f"X {tuple(X.shape)} and Z {tuple(Z.shape)} need (A, D, k) and (A, d, k): pass the "
            f"tangent bases and derivatives at the anchors, in their order."
        )
    if min(rows) < 0 or max(rows) >= X.shape[0]:
        raise ValueError(
            f"anchors run from {min(rows)} to {max(rows)}, but X has {X.shape[0]} rows: pass row "
            f"numbers of X."
        )
