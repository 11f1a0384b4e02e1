"""Closed-form score models fitted to a sample: Gaussian, and mixtures of several sizes."""

from __future__ import annotations

from typing import Any

from skfisher._backend.arrays import Array, like, namespace, to_numpy
from skfisher._backend.draws import systematic_counts
from skfisher._backend.threads import single_blas_thread, without_warnings
from skfisher.scores.closed import GaussianMixtureScore, GaussianScore

__all__ = [
    "covariance_eigenvalues",
    "fit_gaussian",
    "fit_mixture",
    "mixture_sizes",
    "sample_moments",
    "shrinkage_intensity",
]

_SIZES = (2, 4, 8, 16, 32, 64)
_NO_VARIANCE = 1e-12  # share of the largest eigenvalue that is rounding, of float32 rows too
_ORTHOGONAL = 1e-4  # share below which directions from products of rows are not at right angles


def fit_gaussian(X: Array, weights: Array | None = None) -> GaussianScore:
    """Gaussian score of the weighted sample moments.

    By maximum likelihood where there are more rows than features. Otherwise the eigenvalues are
    shrunk towards their mean (`shrinkage_intensity`), so that directions in which the sample
    happens not to vary get variance too; the model is `GaussianScore.from_factor`, from the N x N
    products of the rows. Directions in which X cannot vary get none: coordinates that are constant,
    and, where the rows are more than the dimensions they span, everything off their span.

    Parameters
    ----------
    X : array of shape (N, n)
    weights : array of shape (N,) or None
        A row counts as one draw whatever its weight, as `shrinkage_intensity` says.

    Examples
    --------
    >>> import numpy as np
    >>> model = fit_gaussian(np.asarray([[0.0], [2.0]]))
    >>> model(np.asarray([[3.0]]), 1.0)
    array([[-1.]])
    """
    n_rows, n = X.shape
    if n_rows > n:
        return GaussianScore(*sample_moments(X, weights))
    xp = namespace(X)
    mean, centred, w = _centred(X, weights)
    support = xp.max(X, axis=0) > xp.min(X, axis=0)
    width = int(xp.count_nonzero(support))
    rows = xp.where(support[None, :], centred * xp.sqrt(w)[:, None], 0.0)
    gram = rows @ rows.T
    lam, V = xp.linalg.eigh(gram)
    # largest first: orthogonalisation then leaves them as they are
    lam, V = xp.flip(lam), xp.flip(V, axis=1)
    top = float(lam[0])
    rank = int(xp.count_nonzero(lam > _NO_VARIANCE * top)) if top > 0 else 0
    if rank == 0:
        return GaussianScore.from_factor(mean, xp.eye(n, 1), xp.zeros_like(lam[:1]))
    lam = lam[:rank]
    basis = rows.T @ (V[:, :rank] / xp.sqrt(lam))
    if float(lam[-1]) < _ORTHOGONAL * top:
        basis = xp.where(support[:, None], xp.linalg.qr(basis)[0], 0.0)
    rest = 0.0
    if rank == n_rows - 1 and n_rows <= width:
        # |x_k|^2 and x_k^T S x_k times their weights
        squares, forms = xp.linalg.diagonal(gram), xp.sum(gram * gram, axis=1)
        share = shrinkage_intensity(squares / w, forms / w, lam, width, w)
        rest = share * float(xp.sum(lam)) / width
        lam = (1 - share) * lam + rest
    return GaussianScore.from_factor(mean, basis, lam, rest, support)


def shrinkage_intensity(
    squares: Array, forms: Array, eigenvalues: Array, n_features: int, weights: Array
) -> float:
    r"""How far a sample covariance S is to be drawn to a multiple of the identity.

    The share a of least expected squared error of (1 - a) S + a m I, m the mean of the
    eigenvalues: b^2 / d^2 with

    .. math:: b^2 = \sum_k w_k^2 \|x_k x_k^\top - S\|_F^2, \quad d^2 = \|S - m I\|_F^2,

    b^2 at most d^2 (Ledoit and Wolf 2004, "A well-conditioned estimator for large-dimensional
    covariance matrices", section 3.2, w_k = 1/N there). With weights b^2 is the variance of a
    weighted mean of independent rows.

    Parameters
    ----------
    squares, forms : array of shape (N,)
        |x_k|^2 and x_k^T S x_k of the centred rows.
    eigenvalues : array of shape (r,)
        Those of S that are not zero.
    n_features : int
    weights : array of shape (N,)
        Of sum one.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.asarray([[1.0, 1.0], [-1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]])
    >>> shrinkage_intensity(np.full(4, 2.0), np.full(4, 2.0), np.ones(2), 2, np.full(4, 0.25))
    1.0
    """
    xp = namespace(eigenvalues)
    level = float(xp.sum(eigenvalues)) / n_features
    norm = float(xp.sum(eigenvalues**2))
    error = float(xp.sum(weights**2 * (squares**2 - 2 * forms + norm)))
    zeros = n_features - eigenvalues.shape[0]
    spread = float(xp.sum((eigenvalues - level) ** 2)) + zeros * level**2
    return min(max(error, 0.0) / spread, 1.0) if spread > 0 else 1.0


def sample_moments(X: Array, weights: Array | None = None) -> tuple[Array, Array]:
    """Weighted mean (n,) and covariance (n, n), by maximum likelihood (divided by N)."""
    mean, centred, w = _centred(X, weights)
    return mean, centred.T @ (centred * w[:, None])


def covariance_eigenvalues(X: Array, weights: Array | None = None) -> Array:
    """Eigenvalues (n,) of the weighted sample covariance, increasing.

    Those of the smaller of the two products of the centred rows, so that 2,000 rows of 16,384
    features take seconds; the others are zero.
    """
    xp = namespace(X)
    mean, centred, w = _centred(X, weights)
    rows = centred * xp.sqrt(w)[:, None]
    product = rows @ rows.T if X.shape[0] < X.shape[1] else rows.T @ rows
    lam = xp.linalg.eigvalsh(product)
    return xp.concat([xp.zeros_like(mean)[: mean.shape[0] - lam.shape[0]], lam])


def mixture_sizes(n_rows: int, n_features: int) -> tuple[int, ...]:
    """Numbers of components that leave at least three rows to each free parameter's axis.

    A full covariance in n dimensions needs more than n rows; 3 (n + 1) rows to a component keep
    its condition bounded, and the held-out score decides among the sizes that remain.
    """
    return tuple(k for k in _SIZES if 3 * k * (n_features + 1) <= n_rows)


def fit_mixture(
    X: Array,
    n_components: int,
    weights: Array | None = None,
    *,
    seed: int = 0,
    start: GaussianMixtureScore | None = None,
    max_iter: int = 50,
) -> GaussianMixtureScore:
    """Gaussian mixture with full covariances by expectation-maximisation (scikit-learn).

    The sample is brought to unit RMS scale first, so that the regularisation of the covariances,
    1e-6 of the mean variance, does not depend on the unit of X.

    Parameters
    ----------
    X : array of shape (N, n)
    n_components : int
    weights : array of shape (N,) or None
        scikit-learn's mixtures take none; rows are repeated by systematic resampling instead,
        exactly for integer weights.
    seed : int
    start : GaussianMixtureScore or None
        Where the iterations start; otherwise k-means++.
    max_iter : int

    Examples
    --------
    >>> import numpy as np
    >>> X = np.concatenate([np.linspace(-4, -3, 50), np.linspace(3, 4, 50)])[:, None]
    >>> [round(float(m), 3) for m in sorted(fit_mixture(X, 2).means[:, 0])]
    [-3.5, 3.5]
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    if n_components == 1:
        mean, covariance = sample_moments(X, weights)
        return GaussianMixtureScore([1.0], mean[None, :], covariance[None, :, :])
    xp = namespace(X)
    mean, centred, w = _centred(X, weights)
    scale = float(xp.sqrt(xp.sum(w * xp.mean(centred * centred, axis=1))))
    sample = to_numpy(centred / scale)
    if weights is not None:
        sample = sample.repeat(systematic_counts(to_numpy(weights), seed), axis=0)
    options: dict[str, Any] = {"init_params": "k-means++"}
    if start is not None:
        precisions = xp.linalg.inv(like(to_numpy(start.covariances) / scale**2, X))
        options |= {
            "weights_init": to_numpy(start.weights),
            "means_init": to_numpy((start.means - mean) / scale),
            # an inverse is symmetric to rounding only, which scikit-learn does not let pass
            "precisions_init": to_numpy(precisions + xp.matrix_transpose(precisions)) / 2,
        }
    mixture = GaussianMixture(n_components, max_iter=max_iter, random_state=seed, **options)
    # its many small triangular solves run ten times slower when BLAS threads contend for them
    # a mixture short of its optimum is a score model like any other: the held-out score judges
    with without_warnings(ConvergenceWarning), single_blas_thread():
        mixture.fit(sample)
    return GaussianMixtureScore(
        like(mixture.weights_, X),
        like(mixture.means_, X) * scale + mean,
        like(mixture.covariances_, X) * scale**2,
    )


def _centred(X: Array, weights: Array | None) -> tuple[Array, Array, Array]:
    xp = namespace(X)
    w = xp.full_like(X[:, 0], 1 / X.shape[0]) if weights is None else weights
    w = w / xp.sum(w)
    # centring twice: the first mean of a sample far from the origin carries rounding of its offset
    mean = xp.sum(w[:, None] * X, axis=0)
    mean = mean + xp.sum(w[:, None] * (X - mean), axis=0)
    return mean, X - mean, w
