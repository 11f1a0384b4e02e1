"""The exact score of the smoothed empirical law of a set of reference points."""

from __future__ import annotations

from typing import Any

from array_api_compat import device

from skfisher._backend.arrays import MEMORY_BUDGET, Array, like, namespace, row_chunks, to_numpy
from skfisher._backend.posterior import (
    map_chunks,
    n_workers,
    product,
    unnormalised_posterior,
    weigh,
    workspace,
)
from skfisher._backend.validation import as_groups, as_sample, as_sigma
from skfisher.scores.closed.parameters import as_points
from skfisher.scores.contract import LocalMoments
from skfisher.scores.neighbours import (
    Cloud,
    Fields,
    cut_weight,
    dot,
    fields_from_neighbours,
    interleave,
    pick,
)

__all__ = ["KernelScore"]

_TOLERANCE = {64: 1e-12, 32: 3e-4}
"""Rounding error, by bits of the dtype, above which the matrix products give way to differences."""

_GATHER_COST = 8
"""Time of one multiply-add on gathered neighbours, in multiply-adds of a matrix product."""


class KernelScore:
    r"""Exact score of the empirical law of `points` plus Gaussian noise.

    The law at noise level sigma is :math:`\sum_j w_j N(x_j, t I)`, t = sigma^2. With the posterior
    weights :math:`p_j \propto w_j \exp(-|y - x_j|^2 / 2t)`, their mean D and covariance C,

    .. math:: s = (D - y)/t, \quad H = (C/t - I)/t, \quad I + tH = C/t.

    Parameters
    ----------
    points : array-like of shape (N, n)
        Reference points.
    weights : array-like of shape (N,), optional
        Their weights, not negative, of any positive sum; integers equal repetition.
    groups : array-like of shape (N,), optional
        Labels of dependent points: `exclude` then leaves out the whole group of a point.
    truncation : float, optional
        What may be dropped where the posterior is truncated to neighbours, as a share of the
        posterior's weight and of its second moment over t. The default is the machine
        epsilon of the queries' dtype. `truncation_error` states what was dropped.
    memory_budget : int
        Bytes of temporary arrays that one call may hold, besides one row of them.

    Attributes
    ----------
    n_features, n_points : int
        n and N.
    name : str
        "kernel".

    Raises
    ------
    ValueError
        No point, NaN, weights or groups that do not match `points`, or a truncation outside
        [0, 1).

    Notes
    -----
    Rows are evaluated by one of two routes, whose results agree.

    - *Matrix products.* m x N logits from one product, their exponentials, and sums over j from
      a second: 2 N n multiply-adds per query, 4 N n with H v, and N n^2 / 2 more for the norms
      (products with the upper triangles of x_j x_j^T). Rounding costs about
      eps |x| (|x| + |y|) / t, with x and y centred.
    - *Differences.* Where that exceeds 1e-12 (3e-4 in float32), where C is so small that
      subtracting D D^T from the second moment would lose it, or where it is the cheaper route to
      the norms: the K neighbours whose weights matter, as differences from the heaviest of them.
      No quantity is then a difference of larger ones. The cost is N n multiply-adds to find
      them and K n to use them, K n min(K, n) for the norms. The dropped points weigh, together
      and relative to the kept ones, at most `truncation`, also when weighted by squared distance
      over t; where C itself is small the norms take in more neighbours, down to weights that
      underflow.

    Points are centred at their mean before anything else. Rows are processed in chunks, which
    for NumPy are shared out to as many threads as BLAS would use.

    References
    ----------
    H. Robbins (1956), and B. Efron, "Tweedie's Formula and Selection Bias" (2011), for the
    posterior mean; its derivative is the textbook identity for exponential families. The
    framework is that of Gu et al., arXiv 2604.02751.

    Examples
    --------
    >>> import numpy as np
    >>> model = KernelScore([[-1.0], [1.0]])
    >>> y = np.asarray([[0.0], [0.5]])
    >>> model(y, 1.0)  # tanh(y) - y
    array([[ 0.        ],
           [-0.03788284]])
    >>> score, trace = model.divergence(y, 1.0)
    >>> trace  # sech(y)^2 - 1
    array([ 0.        , -0.21355227])
    >>> model(y, 1.0, exclude=[0, -1])
    array([[ 1.        ],
           [-0.03788284]])
    """

    name = "kernel"
    exact_norm_limit = 24  # features above which probes of |H|_F^2 cost less than n^2 / 2 columns

    def __init__(
        self,
        points: Any,
        weights: Any = None,
        groups: Any = None,
        *,
        truncation: float | None = None,
        memory_budget: int = MEMORY_BUDGET,
    ) -> None:
        sample = to_numpy(as_sample(points, name="points"))
        xp = namespace(sample)
        self.n_points, self.n_features = (int(k) for k in sample.shape)
        if truncation is not None and not 0.0 <= truncation < 1.0:
            raise ValueError(
                f"truncation is {truncation}: it is a share of the weight, pass a number in "
                f"[0, 1), or None for the machine epsilon."
            )
        self.truncation, self.memory_budget = truncation, memory_budget
        mass = _as_weights(weights, self.n_points, xp)
        codes = as_groups(groups, self.n_points)
        codes = xp.arange(self.n_points) if codes is None else codes
        # a group is a slice of the stored points; those of weight zero are not stored
        order = xp.argsort(codes, stable=True)
        order = xp.take(order, xp.nonzero(xp.take(mass, order) > 0)[0])
        ends = [
            xp.searchsorted(xp.take(codes, order), codes, side=side) for side in ("left", "right")
        ]
        self._slices = xp.stack(ends, axis=1)
        self._points = xp.take(xp.astype(sample, xp.float64), order, axis=0)
        self._weights = xp.take(mass, order)
        self._mean = xp.matmul(self._weights, self._points)
        self._cast: tuple[Any, Array, Array, Array] | None = None

    def __sklearn_clone__(self) -> KernelScore:
        return self

    def __repr__(self) -> str:
        return f"KernelScore({self.n_points} points, {self.n_features} features)"

    def __call__(self, y: Array, sigma: float, exclude: Any = None) -> Array:
        """Score at each row of `y`.

        Parameters
        ----------
        y : array of shape (m, n)
            Noisy points, of any array library; the result has its dtype and device.
        sigma : float
            Noise standard deviation, in units of the points.
        exclude : integer array-like of shape (m,), optional
            Row of `points` that each query must not see, with its whole group where the model
            has groups; -1 leaves nothing out.

        Returns
        -------
        array of shape (m, n)

        Raises
        ------
        ValueError
            `y` or `exclude` of the wrong shape, indices out of range, or nothing left to see.
        """
        return self._sweep(y, sigma, exclude, "score")["score"]

    def jvp(self, y: Array, sigma: float, v: Array, exclude: Any = None) -> tuple[Array, Array]:
        """Score and H v, each of shape (m, n); `v` has the shape of `y`, the rest as in a call."""
        out = self._sweep(y, sigma, exclude, "score", v=v)
        return out["score"], out["hv"]

    def divergence(self, y: Array, sigma: float, exclude: Any = None) -> tuple[Array, Array]:
        """Score (m, n) and tr H (m,); parameters as in a call."""
        out = self._sweep(y, sigma, exclude, "score")
        return out["score"], (out["trace"] - self.n_features) / sigma / sigma

    def moments(
        self,
        y: Array,
        sigma: float,
        clean: Any = None,
        exclude: Any = None,
        exact_norm: bool = True,
    ) -> LocalMoments:
        """Traces, norms and effective sample size of the posterior at each row of `y`.

        Parameters
        ----------
        y, sigma, exclude
            As in a call.
        clean : array of shape (m, n), optional
            The points that `y` are noisy versions of; with them comes the residual form.
        exact_norm : bool
            False leaves the two squared norms NaN and saves their cost, which dominates.

        Returns
        -------
        LocalMoments
        """
        out = self._sweep(y, sigma, exclude, "norms" if exact_norm else "traces", clean=clean)
        return LocalMoments(
            score=out["score"],
            hessian_trace=(out["trace"] - self.n_features) / sigma / sigma,
            hessian_squared_norm=out["hessian"] / sigma / sigma / sigma / sigma,
            denoiser_trace=out["trace"],
            denoiser_squared_norm=out["denoiser"],
            residual_form=None if clean is None else out["residual"] * sigma * sigma,
            effective_sample_size=out["ess"],
        )

    def truncation_error(self, y: Array, sigma: float, exclude: Any = None) -> Array:
        """Bound on the posterior weight that a call at `y` leaves out, shape (m,).

        Zero where no point was dropped. `moments` drops at most as much, unless it takes
        the differences for their lower cost; that is again at most `truncation`.
        """
        return self._sweep(y, sigma, exclude, "score")["dropped"]

    def _sweep(
        self, y: Array, sigma: float, exclude: Any, want: str, **vectors: Array | None
    ) -> Fields:
        """Every wanted field for every row, in chunks of rows."""
        sigma = as_sigma(sigma)
        xp = as_points(y, "y", self.n_features)
        given = {name: a for name, a in vectors.items() if a is not None}
        for name, a in given.items():
            as_points(a, name, self.n_features, like_rows=y)
        slices = self._left_out(exclude, y.shape[0])
        workers = n_workers(y)
        centre, cloud = self._cloud(y, sigma, self.memory_budget // workers)
        given["y"] = (y - centre) / sigma
        if "clean" in given:
            given["clean"] = (given["clean"] - centre) / sigma
        size = cloud.points.shape[0]
        row_bytes = size * xp.finfo(y.dtype).bits / 8
        # small chunks stay in cache; the norms build a table per chunk and want long ones
        wished = max(4 * 2**20, 8 * size * (1024 if want == "norms" else 128))
        chunks = list(row_chunks(y.shape[0], row_bytes, min(wished, cloud.memory_budget // 4)))
        chunks = chunks or [slice(0, 0)]
        spare = [
            [workspace(chunks[0].stop, size, y) for _ in range(1 + ("v" in given))]
            for _ in range(workers)
        ]

        def evaluate(chunk: slice) -> Fields:
            rows = {name: a[chunk, :] for name, a in given.items()}
            spaces = spare.pop()
            hidden = None if slices is None else slices[chunk, :]
            fields = self._rows(rows, hidden, cloud, want, spaces)
            spare.append(spaces)
            return fields

        pieces = map_chunks(evaluate, chunks, workers)
        return {name: xp.concat([piece[name] for piece in pieces]) for name in pieces[0]}

    def _cloud(self, y: Array, sigma: float, memory_budget: int) -> tuple[Array, Cloud]:
        """The points in the library, dtype and device of `y`, and what one noise level needs."""
        xp = namespace(y)
        kind = (type(y), y.dtype, device(y))
        if self._cast is None or self._cast[0] != kind:
            # the centre is rounded to y's dtype first, so that y and the points lose the same one
            centre = like(self._mean, y)
            log_weights = namespace(self._weights).log(self._weights)
            points = like(self._points - to_numpy(centre), y)
            self._cast = kind, centre, points, like(log_weights, y)
        _, centre, points, log_weights = self._cast
        scaled = points / sigma
        squares = xp.sum(scaled * scaled, axis=1)[:, None]
        dtype = xp.finfo(y.dtype)
        return centre, Cloud(
            points=points,
            log_weights=log_weights,
            logits=xp.concat([scaled, log_weights[:, None] - squares / 2], axis=1),
            sums=xp.concat([scaled, xp.ones_like(squares), squares], axis=1),
            sigma=sigma,
            radius=float(xp.max(squares)) ** 0.5,
            eps=float(dtype.eps),
            tiny=float(dtype.smallest_normal),
            tolerance=_TOLERANCE[int(dtype.bits)],
            truncation=float(dtype.eps) if self.truncation is None else self.truncation,
            memory_budget=memory_budget,
        )

    def _left_out(self, exclude: Any, m: int) -> Any:
        """Per query the slice of stored points that it must not see, shape (m, 2), or None."""
        if exclude is None:
            return None
        rows = to_numpy(exclude)
        xp = namespace(rows)
        if tuple(rows.shape) != (m,) or not xp.isdtype(rows.dtype, "integral"):
            raise ValueError(
                f"exclude has shape {tuple(rows.shape)} and dtype {rows.dtype} but y has {m} "
                f"rows: pass one integer row of points per query, -1 for none."
            )
        if bool(xp.any((rows < -1) | (rows >= self.n_points))):
            raise ValueError(
                f"exclude ranges from {int(xp.min(rows))} to {int(xp.max(rows))}: pass rows of "
                f"points, 0 to {self.n_points - 1}, or -1 for none."
            )
        slices = xp.where((rows >= 0)[:, None], xp.take(self._slices, rows, axis=0), 0)
        if bool(xp.any(slices[:, 1] - slices[:, 0] == self._points.shape[0])):
            raise ValueError(
                f"exclude leaves some query no point to see: the {self._points.shape[0]} points "
                f"of positive weight are all in the excluded point's group. Pass -1 there, or "
                f"build the model with more points or groups."
            )
        return slices

    def _rows(
        self, given: Fields, slices: Any, cloud: Cloud, want: str, spaces: list[Array | None]
    ) -> Fields:
        """One chunk: matrix products where they are exact enough, differences elsewhere.

        The heaviest point a of each row is kept apart: with q the weight of the rest relative to
        it, Z = 1 + q, mu and C' mean and covariance of the rest,
        C = (q / Z) C' + (q / Z^2) (a - mu)(a - mu)^T, which is exact however small q is.
        """
        y = given["y"]
        xp = namespace(y)
        n, size, eps, tolerance = self.n_features, cloud.points.shape[0], cloud.eps, cloud.tolerance
        lifted = xp.concat([y, xp.ones_like(y[:, :1])], axis=1)
        weights, heaviest = unnormalised_posterior(lifted, cloud.logits, slices, spaces[0])
        length = xp.sqrt(dot(y, y))
        share = xp.ones_like(length)
        # |y| stands for |x| here: where noise is small the posterior sits near y
        far = eps * length * xp.where(length < cloud.radius, length, cloud.radius) > tolerance
        if y.shape[0] > 0 and bool(xp.all(far)):
            return fields_from_neighbours(weights, heaviest, given, share, cloud, want)

        a = xp.take(cloud.sums[:, :n], heaviest, axis=0)
        sums = xp.matmul(weights, cloud.sums)
        q = sums[:, n]
        Z = 1 + q
        mean = (a + sums[:, :n]) / Z[:, None]
        rest = sums[:, : n + 2] / xp.where(q > 0, q, 1.0)[:, None]
        mu, second = rest[:, :n], rest[:, n + 1] * q / Z
        outer = xp.sqrt(q)[:, None] / Z[:, None] * (a - mu)
        reach = xp.sqrt(second + dot(a, a) / Z)
        out: Fields = {
            "score": (mean - y) / cloud.sigma,
            "trace": second - q / Z * dot(mu, mu) + dot(outer, outer),
            "dropped": xp.zeros_like(q),
        }
        far = far | (eps * reach * (reach + length) > tolerance)
        if want != "score":
            out["ess"] = Z * Z / (1 + dot(weights, weights))
            out["denoiser"] = out["hessian"] = xp.full_like(q, xp.nan)
            far = far | (eps * second > tolerance * out["trace"])
            far = far | (q < 4e15 * size * cloud.tiny)  # weights near their floor
            share = xp.where(out["trace"] < 1, out["trace"], 1.0)
        if "clean" in given:
            r = (given["clean"] - a) + xp.sqrt(q)[:, None] * outer
            spread = xp.matmul(r, cloud.sums[:, :n].T) - dot(r, mu)[:, None]
            form = dot(weights, spread * spread) / Z + dot(outer, r) ** 2
            out["residual"], squared = form, dot(r, r)
            far = far | (eps * xp.sqrt(second * squared) > tolerance * xp.sqrt(form))
            share = xp.where(form < share * squared, form / xp.where(form > 0, squared, 1.0), share)
        if want == "norms":
            cut = cut_weight(length, share, cloud)[:, None]
            kept = 1 + xp.astype(xp.count_nonzero(weights > cut, axis=1), y.dtype)
            far = far | (_GATHER_COST * kept * xp.where(kept < n, kept, float(n)) < size * n)
        (sparse,), (dense,) = xp.nonzero(far), xp.nonzero(~far)
        parts = []
        if sparse.shape[0] > 0:
            chosen = pick({**given, "w": weights, "h": heaviest, "share": share}, sparse)
            w, h, share = (chosen.pop(name) for name in ("w", "h", "share"))
            parts = [fields_from_neighbours(w, h, chosen, share, cloud, want)]
        if want == "norms" and dense.shape[0] > 0:
            named = {"w": weights, "mu": mu, "outer": outer, "q": q, "Z": Z}
            chosen = pick(named, dense) if parts else named
            out = pick(out, dense) if parts else out
            out["denoiser"], out["hessian"] = self._norms(cloud, **chosen)
        elif parts:
            out = pick(out, dense)
        if "v" in given:
            v = given["v"]
            tilted = weigh(product(v, cloud.sums[:, :n].T, spaces[-1]), weights)
            moved = xp.matmul(tilted, cloud.sums[:, : n + 1])
            along = dot(v, a)[:, None]
            hv = (moved[:, :n] + along * a - mean * (moved[:, n:] + along)) / Z[:, None] - v
            out["hv"] = (xp.take(hv, dense, axis=0) if parts else hv) / cloud.sigma / cloud.sigma
        return interleave([dense, sparse], [out, *parts]) if parts else out

    def _norms(
        self, cloud: Cloud, w: Array, mu: Array, outer: Array, q: Array, Z: Array
    ) -> tuple[Array, Array]:
        """|C/t|_F^2 and |C/t - I|_F^2 from products with the upper triangles of x_j x_j^T."""
        xp = namespace(w)
        n = self.n_features
        pairs = [(a, b) for a in range(n) for b in range(a, n)]
        columns = xp.matrix_transpose(cloud.points) / cloud.sigma
        denoiser, hessian = xp.zeros_like(q), xp.zeros_like(q)
        pair_bytes = 3 * columns.shape[1] * xp.finfo(q.dtype).bits / 8
        for block in row_chunks(len(pairs), pair_bytes, cloud.memory_budget // 4):
            a, b = (xp.asarray(side, device=device(q)) for side in zip(*pairs[block], strict=True))
            table = xp.take(columns, a, axis=0) * xp.take(columns, b, axis=0)
            C = xp.matmul(w, table.T) - q[:, None] * xp.take(mu, a, axis=1) * xp.take(mu, b, axis=1)
            C = C / Z[:, None] + xp.take(outer, a, axis=1) * xp.take(outer, b, axis=1)
            eye = xp.astype(a == b, q.dtype)
            denoiser = denoiser + xp.matmul(C * C, 2 - eye)
            hessian = hessian + xp.matmul((C - eye) ** 2, 2 - eye)
        return denoiser, hessian


def _as_weights(weights: Any, n_points: int, xp: Any) -> Array:
    """Weights that sum to one, float64 on the host."""
    if weights is None:
        return xp.full((n_points,), 1.0 / n_points, dtype=xp.float64)
    mass = xp.astype(to_numpy(weights), xp.float64)
    if tuple(mass.shape) != (n_points,):
        raise ValueError(
            f"weights has shape {tuple(mass.shape)} but points has {n_points} rows: pass one "
            f"weight per point (shape ({n_points},))."
        )
    if not bool(xp.all(xp.isfinite(mass) & (mass >= 0))) or not bool(xp.any(mass > 0)):
        raise ValueError(
            f"weights ranges from {float(xp.min(mass))} to {float(xp.max(mass))}: weights must be "
            f"finite, not negative, and not all zero."
        )
    mass = mass / xp.max(mass)
    return mass / xp.sum(mass)
