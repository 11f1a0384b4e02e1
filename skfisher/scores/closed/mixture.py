"""Exact score of a mixture of Gaussians."""

from __future__ import annotations

from typing import Any, NamedTuple

from sklearn.utils.validation import check_is_fitted

from skfisher._backend.arrays import Array, like, namespace, row_chunks
from skfisher._backend.draws import normal, seed_of, uniform
from skfisher._backend.validation import as_sigma
from skfisher.scores.closed.parameters import (
    NORMALS,
    as_count,
    as_parameter,
    as_points,
    log_normaliser,
    spectra,
)
from skfisher.scores.contract import LocalMoments

__all__ = ["GaussianMixtureScore"]

_CHUNK_BUDGET = 4 * 2**20  # bytes: the temporaries of a chunk stay in the cache
_COMPONENTS = 0  # stream of the components drawn in `sample`


class GaussianMixtureScore:
    """Exact score of a mixture of Gaussians of any rank.

    Parameters
    ----------
    weights : array of shape (K,)
        Not negative, of sum 1 (to 1e-5; what is left is divided out). Components of weight zero
        do not enter.
    means : array of shape (K, n)
        In units of X.
    covariances : array of shape (K, n, n)
        Each as for `GaussianScore`.

    Attributes
    ----------
    weights, means, covariances : array
        As given, lists and integers in float64. Spectra are kept in float64 and cast to each
        input's library, dtype and device.
    n_features : int
        n.
    name : str
        "mixture".

    Raises
    ------
    TypeError
        Parameters, or points, that are not real numbers.
    ValueError
        Shapes that do not fit, NaN or infinity, negative weights or weights of another sum, a
        covariance that is not symmetric or has a clearly negative eigenvalue; points of another
        number of columns.

    Notes
    -----
    With responsibilities w_k, component scores s_k and precisions P_k: s = sum w_k s_k,
    H = Cov_w(s_k) - sum w_k P_k, and since the components' posterior means are y + t s_k,
    I + tH = sum w_k (I - t P_k) + t Cov_w(s_k), a sum of positive semi-definite parts. Textbook
    identities (the law of total covariance); the framework is that of Gu et al., arXiv 2604.02751.

    Examples
    --------
    Two points at -2.5 and 2.5, seen half-way between them:

    >>> import numpy as np
    >>> model = GaussianMixtureScore(
    ...     np.asarray([0.5, 0.5]), np.asarray([[-2.5], [2.5]]), np.zeros((2, 1, 1))
    ... )
    >>> score, trace = model.divergence(np.zeros((1, 1)), 1.0)
    >>> trace
    array([5.25])
    """

    name = "mixture"

    def __init__(self, weights: Array, means: Array, covariances: Array) -> None:
        self.weights, pi, _ = as_parameter(weights, "weights", 1)
        self.means, mu, _ = as_parameter(means, "means", 2)
        self.covariances, S, tolerance = as_parameter(covariances, "covariances", 3)
        K, n = mu.shape
        if pi.shape != (K,):
            raise ValueError(
                f"weights has shape {pi.shape} but means has {K} rows: pass one weight per "
                f"component."
            )
        if S.shape != (K, n, n):
            raise ValueError(
                f"covariances has shape {S.shape} but means has shape {mu.shape}: pass covariances "
                f"of shape ({K}, {n}, {n})."
            )
        xp = namespace(pi)
        lowest, total = float(xp.min(pi)), float(xp.sum(pi))
        if lowest < 0 or abs(total - 1) > 1e-5:
            raise ValueError(
                f"weights has the sum {total} and the least entry {lowest}: weights must not be "
                f"negative and must sum to 1 (divide them by their sum)."
            )
        lam, Q = spectra(S, tolerance, "covariances")
        self.n_features = n
        (kept,) = xp.nonzero(pi)
        self._weights = xp.take(pi, kept) / total
        self._means, self._lam, self._Q = (xp.take(a, kept, axis=0) for a in (mu, lam, Q))

    @classmethod
    def from_sklearn(cls, mixture: Any) -> GaussianMixtureScore:
        """Score of a fitted `sklearn.mixture` model.

        Parameters
        ----------
        mixture : GaussianMixture or BayesianGaussianMixture
            Fitted, of any `covariance_type`.

        Returns
        -------
        GaussianMixtureScore

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before `fit`.

        Examples
        --------
        >>> import numpy as np
        >>> from sklearn.mixture import GaussianMixture
        >>> X = np.random.default_rng(0).standard_normal((50, 3))
        >>> mixture = GaussianMixture(2, covariance_type="diag", random_state=0).fit(X)
        >>> GaussianMixtureScore.from_sklearn(mixture)
        GaussianMixtureScore(n_components=2, n_features=3)
        """
        check_is_fitted(mixture, ["weights_", "means_", "covariances_"])
        means, S = mixture.means_, mixture.covariances_
        xp = namespace(means)
        K, n = means.shape
        if mixture.covariance_type == "tied":
            S = xp.broadcast_to(S, (K, n, n))
        elif mixture.covariance_type in ("diag", "spherical"):
            S = xp.broadcast_to(xp.reshape(S, (K, -1, 1)), (K, n, 1)) * xp.eye(
                n, dtype=means.dtype, device=means.device
            )
        return cls(mixture.weights_, means, S)

    def __repr__(self) -> str:
        K, n = self._means.shape
        return f"GaussianMixtureScore(n_components={K}, n_features={n})"

    def __sklearn_clone__(self) -> GaussianMixtureScore:
        return self

    def __call__(self, y: Array, sigma: float) -> Array:
        """Score at each row.

        Parameters
        ----------
        y : array of shape (m, n)
            Noisy points.
        sigma : float
            Noise level, in units of X.

        Returns
        -------
        array of shape (m, n)
            s, in 1/units of X.
        """
        xp = as_points(y, "y", self.n_features)
        level = self._level(y, as_sigma(sigma))
        return xp.concat([self._local(y[rows, :], level)[0] for rows in self._chunks(y)])

    def jvp(self, y: Array, sigma: float, v: Array) -> tuple[Array, Array]:
        """Score and H v, each of shape (m, n); `y`, `v` of shape (m, n), `sigma` in units of X."""
        xp = as_points(y, "y", self.n_features)
        as_points(v, "v", self.n_features, like_rows=y)
        level = self._level(y, as_sigma(sigma))
        precision = like(_from_spectrum(1 / (self._lam + as_sigma(sigma) ** 2), self._Q), y)
        scores, products = [], []
        for rows in self._chunks(y):
            s, w, delta, _ = self._local(y[rows, :], level)
            u = v[rows, :]
            along = xp.sum(delta * u, axis=2, keepdims=True)
            parts = along * delta - xp.matmul(u[None, :, :], precision)
            scores.append(s)
            products.append(xp.sum(w[:, :, None] * parts, axis=0))
        return xp.concat(scores), xp.concat(products)

    def divergence(self, y: Array, sigma: float) -> tuple[Array, Array]:
        """Score (m, n) and tr H (m,) at the rows of `y`; `sigma` in units of X."""
        xp = as_points(y, "y", self.n_features)
        level = self._level(y, as_sigma(sigma))
        precision = 1 / (self._lam + as_sigma(sigma) ** 2)
        traces = like(namespace(precision).sum(precision, axis=1), y)
        scores, divergences = [], []
        for rows in self._chunks(y):
            s, w, delta, _ = self._local(y[rows, :], level)
            scores.append(s)
            divergences.append(
                xp.sum(w * (xp.sum(delta * delta, axis=2) - traces[:, None]), axis=0)
            )
        return xp.concat(scores), xp.concat(divergences)

    def moments(self, y: Array, sigma: float, clean: Array | None = None) -> LocalMoments:
        """Score, traces and norms at each row of `y`.

        Parameters
        ----------
        y : array of shape (m, n)
            Noisy points.
        sigma : float
            Noise level, in units of X.
        clean : array of shape (m, n), optional
            Clean points, for `residual_form`.

        Returns
        -------
        LocalMoments
        """
        xp = as_points(y, "y", self.n_features)
        if clean is not None:
            as_points(clean, "clean", self.n_features, like_rows=y)
        t = as_sigma(sigma) ** 2
        level = self._level(y, as_sigma(sigma))
        total = self._lam + t
        K, n = self._means.shape
        precision, shrink = (
            like(namespace(total).reshape(_from_spectrum(d, self._Q), (K, n * n)), y)
            for d in (1 / total, self._lam / total)
        )
        columns: list[list[Array]] = [[] for _ in range(6)]
        for rows in self._chunks(y, matrices=3):
            s, w, delta, _ = self._local(y[rows, :], level)
            m = s.shape[0]
            # sqrt(w) on both sides makes Cov_w(s_k) = B^T B, one symmetric product per row
            B = xp.permute_dims(xp.sqrt(w)[:, :, None] * delta, (1, 0, 2))
            between = xp.matmul(xp.matrix_transpose(B), B)
            w = xp.matrix_transpose(w)
            H = between - xp.reshape(xp.matmul(w, precision), (m, n, n))
            D = t * between + xp.reshape(xp.matmul(w, shrink), (m, n, n))
            parts = [
                s,
                _trace(H),
                xp.sum(H * H, axis=(1, 2)),
                _trace(D),
                xp.sum(D * D, axis=(1, 2)),
            ]
            if clean is not None:
                r = (clean[rows, :] - (y[rows, :] + t * s))[:, :, None]
                parts.append(xp.sum(r * xp.matmul(D, r), axis=(1, 2)))
            for column, part in zip(columns, parts, strict=False):
                column.append(part)
        return LocalMoments(*(xp.concat(column) for column in columns if column))

    def log_density(self, y: Array, sigma: float) -> Array:
        """Log p_t at each row of `y`, shape (m,); the density is in units of X^-n."""
        xp = as_points(y, "y", self.n_features)
        level = self._level(y, as_sigma(sigma))
        return xp.concat([self._local(y[rows, :], level)[3] for rows in self._chunks(y)])

    def sample(self, n_samples: int, random_state: Any = None) -> Array:
        """Draws of X, shape (n_samples, n), in the library, dtype and device of `means`."""
        rows = slice(0, as_count(n_samples))
        seed = seed_of(random_state)
        z = normal(seed, (NORMALS,), rows, self.n_features, self._means)
        u = uniform(seed, (_COMPONENTS,), rows, 1, self._means)[:, 0]
        xp = namespace(z)
        edges = xp.cumulative_sum(self._weights)[:-1]
        component = xp.searchsorted(edges, u, side="right")
        # rows of one component are brought together, one product each, and put back
        order = xp.argsort(component, stable=True)
        z, component = xp.take(z, order, axis=0), xp.take(component, order)
        roots = self._Q * xp.sqrt(self._lam)[:, None, :]
        parts, start = [], 0
        for k in range(roots.shape[0]):
            stop = start + int(xp.count_nonzero(component == k))
            root = xp.matrix_transpose(roots[k, :, :])
            parts.append(self._means[k, :] + xp.matmul(z[start:stop, :], root))
            start = stop
        return like(xp.take(xp.concat(parts), xp.argsort(order), axis=0), self.means)

    def _level(self, y: Array, sigma: float) -> _Level:
        total = self._lam + sigma**2
        xp = namespace(total)
        return _Level(
            like(self._means, y),
            like(self._Q / xp.sqrt(total)[:, None, :], y),
            like(xp.log(self._weights) + log_normaliser(total), y),
        )

    def _local(self, y: Array, level: _Level) -> tuple[Array, Array, Array, Array]:
        """Score s (m, n), responsibilities w (K, m), s_k - s (K, m, n) and log p_t (m,)."""
        xp = namespace(y)
        z = xp.matmul(y[None, :, :] - level.means[:, None, :], level.whitener)
        logs = level.offsets[:, None] - 0.5 * xp.sum(z * z, axis=2)
        top = xp.max(logs, axis=0)
        w = xp.exp(logs - top)
        mass = xp.sum(w, axis=0)
        w = w / mass
        parts = -xp.matmul(z, xp.matrix_transpose(level.whitener))
        s = xp.sum(w[:, :, None] * parts, axis=0)
        return s, w, parts - s, top + xp.log(mass)

    def _chunks(self, y: Array, matrices: int = 0) -> Any:
        K, n = self._means.shape
        bytes_per_row = 8.0 * (4 * K * n + matrices * n * n)
        # an empty input is one empty chunk: results keep their shapes
        return row_chunks(y.shape[0], bytes_per_row, _CHUNK_BUDGET) if y.shape[0] else [slice(0)]


class _Level(NamedTuple):
    """Components at one noise level, in the library of the points."""

    means: Array  # (K, n)
    whitener: Array  # (K, n, n), Q / sqrt(lam + t)
    offsets: Array  # (K,), log weight + log normaliser


def _trace(A: Array) -> Array:
    return namespace(A).linalg.trace(A)


def _from_spectrum(d: Array, Q: Array) -> Array:
    """Q diag(d) Q^T for K spectra, shape (K, n, n)."""
    xp = namespace(Q)
    return xp.matmul(Q * d[:, None, :], xp.matrix_transpose(Q))
