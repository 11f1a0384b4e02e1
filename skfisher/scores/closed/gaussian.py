"""Exact score of a Gaussian."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from skfisher._backend.arrays import Array, like, namespace, to_numpy
from skfisher._backend.draws import normal, seed_of
from skfisher._backend.validation import as_sigma
from skfisher.scores.closed.parameters import (
    NORMALS,
    as_count,
    as_parameter,
    as_points,
    spectra,
)
from skfisher.scores.contract import LocalMoments

__all__ = ["GaussianScore"]

_PROBE = 2  # stream of the draw that tries a basis


class GaussianScore:
    """Exact score of a Gaussian of any rank.

    Parameters
    ----------
    mean : array of shape (n,)
        In units of X.
    covariance : array of shape (n, n)
        Symmetric and positive semi-definite; zero eigenvalues are allowed, and negative ones of
        the size of rounding are set to zero.

    Attributes
    ----------
    mean, covariance : array
        As given, lists and integers in float64; `covariance` of a model made by `from_factor` is
        assembled when it is asked for. The spectrum is kept in float64 and cast to each input's
        library, dtype and device.
    n_features : int
        n.
    name : str
        "gaussian".

    Raises
    ------
    TypeError
        Parameters, or points, that are not real numbers.
    ValueError
        Shapes that do not fit, NaN or infinity, a covariance that is not symmetric or has a
        clearly negative eigenvalue; points of another number of columns.

    Notes
    -----
    s = -(S + tI)^-1 (y - mean), H = -(S + tI)^-1; textbook identities.

    Examples
    --------
    >>> import numpy as np
    >>> model = GaussianScore(np.zeros(2), np.diag([3.0, 1.0]))
    >>> model(np.asarray([[4.0, 2.0]]), 1.0)
    array([[-1., -1.]])
    >>> model.moments(np.asarray([[4.0, 2.0]]), 1.0).hessian_trace
    array([-0.75])
    """

    name = "gaussian"
    exact_norm_limit = math.inf  # its norms are sums over the spectrum

    def __init__(self, mean: Array, covariance: Array) -> None:
        self.mean, mu, _ = as_parameter(mean, "mean", 1)
        self.covariance, S, tolerance = as_parameter(covariance, "covariance", 2)
        n = mu.shape[0]
        if S.shape != (n, n):
            raise ValueError(
                f"covariance has shape {S.shape} but mean has {n} entries: pass a covariance of "
                f"shape ({n}, {n})."
            )
        lam, Q = spectra(S[None, :, :], tolerance, "covariance")
        self.n_features = n
        self._mean, self._lam, self._Q = mu, lam[0, :], Q[0, :, :]
        # variance of each coordinate off the columns of Q; None where these span everything
        self._rest: Array | None = None
        # the spectrum with multiplicities
        self._values, self._counts = self._lam, namespace(mu).ones_like(self._lam)

    @classmethod
    def from_factor(
        cls,
        mean: Array,
        basis: Array,
        variances: Array,
        rest: float = 0.0,
        support: Array | None = None,
    ) -> GaussianScore:
        """Gaussian with one variance off a subspace, at a cost of m n r for m points.

        The covariance is ``basis diag(variances) basis^T + rest (I - basis basis^T)``, and no
        matrix of shape (n, n) is formed.

        Parameters
        ----------
        mean : array of shape (n,)
            In units of X.
        basis : array of shape (n, r)
            Orthonormal columns.
        variances : array of shape (r,)
            Along the columns; not negative.
        rest : float
            Variance in every direction orthogonal to them; not negative.
        support : bool array of shape (n,), optional
            False marks the coordinates in which X is constant: they get no variance, and `basis`
            is zero there.

        Raises
        ------
        ValueError
            Shapes that do not fit, NaN or infinity, columns that are not orthonormal, a negative
            variance, or a basis that leaves the support.

        Examples
        --------
        >>> import numpy as np
        >>> model = GaussianScore.from_factor(np.zeros(3), np.eye(3)[:, :1], [3.0], rest=1.0)
        >>> model(np.asarray([[4.0, 2.0, 6.0]]), 1.0)
        array([[-1., -1., -3.]])
        >>> model.covariance
        array([[3., 0., 0.],
               [0., 1., 0.],
               [0., 0., 1.]])
        """
        self = cls.__new__(cls)
        self.mean, mu, _ = as_parameter(mean, "mean", 1)
        _, Q, tolerance = as_parameter(basis, "basis", 2)
        _, lam, _ = as_parameter(variances, "variances", 1)
        n, r = mu.shape[0], lam.shape[0]
        if Q.shape != (n, r) or r > n:
            raise ValueError(
                f"basis has shape {Q.shape}, mean has {n} entries and variances {r}: pass a basis "
                f"of shape ({n}, r) with one variance for each of its at most {n} columns."
            )
        xp = namespace(mu)
        probe = normal(0, (_PROBE,), slice(0, 1), r, mu)[0, :]
        skew = float(xp.max(xp.abs(xp.matmul(Q.T, xp.matmul(Q, probe)) - probe)))
        if not skew <= tolerance * n:
            raise ValueError(
                f"basis has columns that are not orthonormal (basis.T @ basis moves a normal draw "
                f"by {skew:.3g}): pass the Q of a QR decomposition."
            )
        if not (math.isfinite(rest) and rest >= 0 and float(xp.min(lam)) >= 0):
            raise ValueError(
                f"variances has the least entry {float(xp.min(lam))} and rest is {rest}: pass "
                f"finite variances that are not negative."
            )
        inside = xp.ones_like(mu) if support is None else xp.astype(_flags(support, n), xp.float64)
        if bool(xp.any((inside == 0) & xp.any(Q != 0, axis=1))):
            raise ValueError(
                "support leaves out coordinates in which basis is not zero: pass a basis that is "
                "zero where support is False."
            )
        # without variance there, off the basis and off the support are one and the same
        wide = int(xp.sum(inside)) if rest > 0 else n
        self.n_features = n
        self._mean, self._lam, self._Q = mu, lam, Q
        self._rest = float(rest) * inside
        self._values = xp.concat([lam, xp.asarray([float(rest), 0.0])])
        self._counts = xp.concat(
            [xp.ones_like(lam), xp.asarray([float(wide - r), float(n - wide)])]
        )
        return self

    @cached_property
    def covariance(self) -> Array:
        """Covariance, shape (n, n), in the library, dtype and device of `mean`."""
        xp = namespace(self._mean)
        S = xp.matmul(self._Q * self._lam, self._Q.T)
        if self._rest is not None:
            root = xp.sqrt(self._rest)[:, None] * self._Q
            S = S + xp.eye(self.n_features) * self._rest - xp.matmul(root, root.T)
        return like(S, self.mean)

    def __repr__(self) -> str:
        return f"GaussianScore(n_features={self.n_features})"

    def __sklearn_clone__(self) -> GaussianScore:
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
        as_points(y, "y", self.n_features)
        return -self._solve(y - like(self._mean, y), sigma)

    def jvp(self, y: Array, sigma: float, v: Array) -> tuple[Array, Array]:
        """Score and H v, each of shape (m, n); `y`, `v` of shape (m, n), `sigma` in units of X."""
        s = self(y, sigma)
        as_points(v, "v", self.n_features, like_rows=y)
        return s, -self._solve(v, sigma)

    def divergence(self, y: Array, sigma: float) -> tuple[Array, Array]:
        """Score (m, n) and tr H (m,) at the rows of `y`; `sigma` in units of X."""
        s = self(y, sigma)
        return s, _everywhere(-_sum(1 / (self._values + as_sigma(sigma) ** 2), self._counts), y)

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
        s = self(y, sigma)
        t = as_sigma(sigma) ** 2
        residual_form = None
        if clean is not None:
            as_points(clean, "clean", self.n_features, like_rows=y)
            along, off = self._parts(clean - (y + t * s))
            residual_form = _squares(along, like(self._lam / (self._lam + t), y))
            if self._rest is not None:
                shares = like(self._rest / (self._rest + t), y)
                residual_form = residual_form + _squares(off, shares)
        return _moments(s, self._values, self._counts, t, residual_form)

    def log_density(self, y: Array, sigma: float) -> Array:
        """Log p_t at each row of `y`, shape (m,); the density is in units of X^-n."""
        as_points(y, "y", self.n_features)
        t = as_sigma(sigma) ** 2
        along, off = self._parts(y - like(self._mean, y))
        form = _squares(along / like(self._lam + t, y) ** 0.5)
        if self._rest is not None:
            form = form + _squares(off / like(self._rest + t, y) ** 0.5)
        xp = namespace(self._values)
        return -0.5 * (_sum(xp.log(2 * math.pi * (self._values + t)), self._counts) + form)

    def sample(self, n_samples: int, random_state: Any = None) -> Array:
        """Draws of X, shape (n_samples, n), in the library, dtype and device of `mean`."""
        rows = slice(0, as_count(n_samples))
        z = normal(seed_of(random_state), (NORMALS,), rows, self.n_features, self._mean)
        xp = namespace(z)
        if self._rest is None:
            x = xp.matmul(z, xp.matrix_transpose(self._Q * xp.sqrt(self._lam)))
        else:
            along, off = self._parts(z)
            x = xp.matmul(along * xp.sqrt(self._lam), self._Q.T) + off * xp.sqrt(self._rest)
        return like(self._mean + x, self.mean)

    def in_own_axes(self, x: Array, eps: Array) -> tuple[Any, Array, Array]:
        """An equal model along the coordinate axes, and clean points and noise turned to fit it.

        Every inner product of scores, points (less the mean) and noise stays as it is, at r
        columns or few more, so that all that depends on these alone costs one projection for any
        number of noise levels, signs and derivatives. Off the basis the model is isotropic, and
        what counts there of one point and its noise lies in a plane.

        Parameters
        ----------
        x : array of shape (m, n)
            Clean points.
        eps : array of shape (m, p, n)
            Noise.

        Returns
        -------
        model : object
            With `divergence` and `moments` as this one has.
        x, eps : array of shape (m, q), (m, p, q)
        """
        as_points(x, "x", self.n_features)
        m, p, n = eps.shape
        if self._rest is not None and p > 1:
            return self, x, eps
        xp = namespace(x)
        along, off = self._parts(x - like(self._mean, x))
        noise = xp.matmul(xp.reshape(eps, (m * p, n)), like(self._Q, x))
        variances = self._lam
        if self._rest is not None:
            noises, points, more = [noise], [along], [self._lam]
            live = like(self._rest == self._values[-2], x)
            taken = xp.sum(noise * noise, axis=1)
            for k, inside in ((-2, live), (-1, 1 - live)):
                u, e = off * inside, eps[:, 0, :] * inside
                length, square = xp.sqrt(xp.sum(u * u, axis=1)), xp.sum(e * e, axis=1) - taken
                taken = xp.zeros_like(taken)
                if self._counts[k] == 0:
                    continue
                reach = xp.sqrt(xp.where(square > 0, square, 0.0))
                # of a point in the span u is rounding, in any direction
                first = xp.sum(u * e, axis=1) / xp.where(length > 0, length, 1.0)
                first = xp.clip(first, -reach, reach)
                second = xp.sqrt(reach * reach - first * first)
                points.append(xp.stack([length, xp.zeros_like(length)], axis=1))
                noises.append(xp.stack([first, second], axis=1))
                more.append(self._values[k] * namespace(self._lam).ones(2))
            along, noise = xp.concat(points, axis=1), xp.concat(noises, axis=1)
            variances = namespace(self._lam).concat(more)
        model = _DiagonalGaussian(variances, self._values, self._counts)
        return model, along, xp.reshape(noise, (m, p, noise.shape[1]))

    def _solve(self, u: Array, sigma: float) -> Array:
        """(S + tI)^-1 at each row of `u`."""
        xp = namespace(u)
        t = as_sigma(sigma) ** 2
        Q, total = like(self._Q, u), like(self._lam + t, u)
        along = xp.matmul(u, Q)
        if self._rest is None:
            return xp.matmul(along / total, xp.matrix_transpose(Q))
        # the columns of Q lie where rest has its largest value, so both parts commute
        rest = float(namespace(self._rest).max(self._rest))
        change = like((rest - self._lam) / (self._lam + t) / (rest + t), u)
        return u / like(self._rest + t, u) + xp.matmul(along * change, xp.matrix_transpose(Q))

    def _parts(self, u: Array) -> tuple[Array, Array | None]:
        """Coordinates of each row along the columns of Q, and what is orthogonal to them."""
        xp = namespace(u)
        Q = like(self._Q, u)
        along = xp.matmul(u, Q)
        if self._rest is None:
            return along, None
        return along, u - xp.matmul(along, xp.matrix_transpose(Q))


@dataclass(frozen=True, eq=False)
class _DiagonalGaussian:
    """Score of a centred Gaussian whose columns are independent.

    `values` and `counts` are the spectrum, where the columns stand for more dimensions than they
    are.
    """

    variances: Array
    values: Array
    counts: Array

    exact_norm_limit: ClassVar[float] = math.inf

    def __call__(self, y: Array, sigma: float) -> Array:
        return -y / like(self.variances + sigma * sigma, y)

    def divergence(self, y: Array, sigma: float) -> tuple[Array, Array]:
        trace = _sum(1 / (self.values + sigma * sigma), self.counts)
        return self(y, sigma), _everywhere(-trace, y)

    def moments(self, y: Array, sigma: float, clean: Array | None = None) -> LocalMoments:
        s, t = self(y, sigma), sigma * sigma
        form = None
        if clean is not None:
            shares = like(self.variances / (self.variances + t), y)
            form = _squares(clean - (y + t * s), shares)
        return _moments(s, self.values, self.counts, t, form)


def _moments(
    s: Array, values: Array, counts: Array, t: float, residual_form: Array | None
) -> LocalMoments:
    precision, shrink = 1 / (values + t), values / (values + t)
    return LocalMoments(
        score=s,
        hessian_trace=_everywhere(-_sum(precision, counts), s),
        hessian_squared_norm=_everywhere(_sum(precision**2, counts), s),
        denoiser_trace=_everywhere(_sum(shrink, counts), s),
        denoiser_squared_norm=_everywhere(_sum(shrink**2, counts), s),
        residual_form=residual_form,
    )


def _sum(values: Array, counts: Array) -> float:
    """Sum of a function of the spectrum."""
    return float(namespace(values).sum(values * counts))


def _squares(x: Array, weights: Any = 1.0) -> Array:
    return namespace(x).sum(x * x * weights, axis=1)


def _flags(support: Any, n: int) -> Array:
    flags = to_numpy(support)
    if flags.shape != (n,) or not namespace(flags).isdtype(flags.dtype, "bool"):
        raise ValueError(
            f"support has shape {flags.shape} and dtype {flags.dtype}: pass {n} booleans."
        )
    return flags


def _everywhere(value: Any, y: Array) -> Array:
    """One number at every row of `y`."""
    return namespace(y).full_like(y[:, 0], float(value))
