"""Laws that the score of every noisy sample obeys."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from skfisher._backend.arrays import Array, namespace
from skfisher._backend.differences import central_jvp, central_step
from skfisher._backend.draws import normal, seed_of, signs
from skfisher._backend.validation import as_sample, as_sigma

__all__ = ["ScoreModelCheck", "ScoreModelReport", "check_score_model"]

_NOISE, _SIGNS, _DIRECTIONS, _MOVES = 0, 1, 2, 3  # streams of the draws
_Z_LIMIT = 4.0


@dataclass(frozen=True, eq=False)
class ScoreModelCheck:
    """One law at one noise level.

    Attributes
    ----------
    law : str
        Which law.
    noise_level : float
        sigma, in units of X.
    value, limit : float
        How far the law is missed, and how far it may be: relative errors, or |z| for laws of the
        mean over noisy data.
    """

    law: str
    noise_level: float
    value: float
    limit: float

    @property
    def passed(self) -> bool:
        """Whether the value is within its limit; NaN is not."""
        return self.value <= self.limit

    def __str__(self) -> str:
        verdict = "ok    " if self.passed else "FAILED"
        return (
            f"{verdict} {self.law} at sigma={self.noise_level:.4g}: {self.value:.3g} "
            f"(limit {self.limit:.3g})"
        )


@dataclass(frozen=True, eq=False)
class ScoreModelReport:
    """What `check_score_model` found.

    Attributes
    ----------
    checks : tuple of ScoreModelCheck
        Every law at every noise level.
    """

    checks: tuple[ScoreModelCheck, ...]

    @property
    def failures(self) -> tuple[ScoreModelCheck, ...]:
        """The checks that failed."""
        return tuple(check for check in self.checks if not check.passed)

    @property
    def passed(self) -> bool:
        """Whether every law holds."""
        return not self.failures

    def __str__(self) -> str:
        return "\n".join(str(check) for check in self.checks)


def check_score_model(
    model: Any,
    X: Any,
    noise_levels: Sequence[float] | None = None,
    *,
    random_state: Any = 0,
    n_probes: int = 32,
    n_points: int = 32,
    rescaled: Callable[[float], Any] | None = None,
    raise_on_failure: bool = True,
) -> ScoreModelReport:
    """Check that a model is the score of X + sigma eps, by laws that every such score obeys.

    Parameters
    ----------
    model : callable
        ``model(y, sigma) -> s``, with ``jvp``, ``divergence`` and ``moments`` of
        `skfisher.scores.contract` where it has them; what it has is checked. Without ``jvp`` it is
        linearised by central differences.
    X : array-like of shape (n_samples, n_features)
        Independent clean samples of the law whose score the model claims to be. The laws of the
        mean use all rows.
    noise_levels : sequence of float, optional
        sigma, in units of X; by default 5 geometric levels from 0.05 to 5 times the RMS scale.
    random_state : int, RandomState, Generator or None
        For noise and probes.
    n_probes : int
        Directions per point for the laws of the Jacobian: all axes where n_features is not larger
        (and then traces and moments are checked too), otherwise random orthonormal ones.
    n_points : int
        Noisy points for the laws of the Jacobian, spread over X.
    rescaled : callable, optional
        Maps a factor a to the model of aX, for the scale law.
    raise_on_failure : bool
        False returns the report whatever it says.

    Returns
    -------
    ScoreModelReport

    Raises
    ------
    AssertionError
        A law fails; the message gives law, noise level, value and limit of each that does.

    Notes
    -----
    At single points, as relative errors: output shape, dtype and finiteness; jvp's value against
    the call; symmetry of H; jvp against central differences; I + tH = Cov(X | Y) / t positive
    semi-definite; tr H and the moments against the assembled Jacobian;
    s_aX(ay, a sigma) = s(y, sigma) / a.

    In the mean over Y = X + sigma eps, as |z| up to 4: Stein's identity E|s|^2 = -E tr H, and
    E <s(Y) + eps/sigma, g(Y)> = 0, which for every field g says that the model predicts the mean
    of the noise. Stein's identity is the case g = s of it; any Gaussian score with the data's mean
    and covariance satisfies it, whatever the data, and a wrong covariance hides from it in the
    noise at large sigma. The linear field sees a wrong covariance there, the sine and cosine
    fields see wrong shapes. Finitely many fields cannot prove a score right.

    Textbook identities (Stein, Tweedie); the framework is that of Gu et al., arXiv 2604.02751.

    Examples
    --------
    >>> import numpy as np
    >>> from skfisher.scores.closed import GaussianScore
    >>> model = GaussianScore(np.zeros(2), np.diag([3.0, 1.0]))
    >>> check_score_model(model, model.sample(500, random_state=0)).passed
    True
    >>> report = check_score_model(
    ...     lambda y, sigma: 2 * model(y, sigma), model.sample(500, 0), raise_on_failure=False
    ... )
    >>> report.failures[0].law
    "Stein's identity"
    """
    X = as_sample(X, min_samples=2)
    seed = seed_of(random_state)
    if noise_levels is None:
        xp = namespace(X)
        rms = math.sqrt(float(xp.mean(xp.var(X, axis=0))))
        noise_levels = [0.05 * rms * 100 ** (i / 4) for i in range(5)]
    checks: list[ScoreModelCheck] = []
    for level, sigma in enumerate(as_sigma(s, name="noise_levels") for s in noise_levels):
        run = _Run(model, X, sigma, seed, level, n_probes, n_points)
        found = list(_outputs(run))
        if all(value <= limit for _, value, limit in found):
            for laws in (_pointwise(run), _means(run), _scale(run, rescaled)):
                found.extend(laws)
        checks.extend(ScoreModelCheck(law, sigma, value, limit) for law, value, limit in found)
    report = ScoreModelReport(tuple(checks))
    if raise_on_failure and not report.passed:
        raise AssertionError(
            f"{len(report.failures)} of {len(checks)} checks failed for {model!r}:\n"
            + "\n".join(str(check) for check in report.failures)
        )
    return report


_Laws = Iterator[tuple[str, float, float]]  # law, value, limit


class _Run:
    """One model at one noise level: noisy data, and the points where its Jacobian is taken."""

    def __init__(
        self,
        model: Any,
        X: Array,
        sigma: float,
        seed: int,
        level: int,
        n_probes: int,
        n_points: int,
    ) -> None:
        N, n = X.shape
        xp = namespace(X)
        everything = slice(0, N)
        self.model, self.sigma, self.xp = model, sigma, xp
        self.eps = normal(seed, (_NOISE, level), everything, n, X)
        self.signs = signs(seed, (_SIGNS, level), everything, n, X)
        self.y = X + sigma * self.eps
        stride = max(1, N // n_points)
        self.clean = X[: stride * n_points : stride, :]
        self.points = self.y[: stride * n_points : stride, :]
        p = slice(0, self.points.shape[0])
        self.moves = normal(seed, (_MOVES, level), p, n, X)
        if n <= n_probes:
            self.basis = xp.eye(n, dtype=X.dtype, device=X.device)
        else:
            draws = normal(seed, (_DIRECTIONS, level), slice(0, n_probes), n, X)
            self.basis = xp.linalg.qr(draws.T)[0].T
        self.full = n <= n_probes
        self.exact_jvp = hasattr(model, "jvp")
        single = xp.finfo(X.dtype).bits <= 32
        # rounding, and what central differences add to it
        self.rounding = 1e-3 if single else 1e-7
        self.differences = 3e-2 if single else 1e-4
        self.limit = self.rounding if self.exact_jvp else self.differences

    def jvp(self, y: Array, v: Array) -> tuple[Array, Array]:
        if self.exact_jvp:
            return self.model.jvp(y, self.sigma, v)
        return self.central_jvp(y, v)

    def central_jvp(self, y: Array, v: Array) -> tuple[Array, Array]:
        step = central_step(y) * self.sigma
        return central_jvp(lambda x: self.model(x, self.sigma), y, v, step)

    def jacobian(self) -> Array:
        """B H B^T at each point for the rows B of the basis, shape (p, k, k)."""
        xp, columns = self.xp, []
        for i in range(self.basis.shape[0]):
            v = xp.zeros_like(self.points) + self.basis[i, :]
            columns.append(xp.matmul(self.jvp(self.points, v)[1], self.basis.T))
        return xp.stack(columns, axis=2)

    def miss(self, actual: Array, desired: Array) -> float:
        """Largest error over rows, relative to the row and to the root mean square of all."""
        xp = self.xp
        rows = (actual.shape[0], -1)
        error, size = (
            xp.linalg.vector_norm(xp.reshape(a, rows), axis=1) for a in (actual - desired, desired)
        )
        top = float(xp.max(size))
        if top == 0.0:
            return float(xp.max(error))
        typical = top * float(xp.mean((size / top) ** 2)) ** 0.5
        return float(xp.max(error / (size + typical)))


def _outputs(run: _Run) -> _Laws:
    y, sigma, xp = run.points, run.sigma, run.xp
    outputs = {"call": (run.model(y, sigma), y.shape)}
    if run.exact_jvp:
        s, hv = run.model.jvp(y, sigma, run.moves)
        outputs |= {"jvp, score": (s, y.shape), "jvp, product": (hv, y.shape)}
    if hasattr(run.model, "divergence"):
        s, trace = run.model.divergence(y, sigma)
        outputs |= {"divergence, score": (s, y.shape), "divergence": (trace, y.shape[:1])}
    if hasattr(run.model, "moments"):
        moments = vars(run.model.moments(y, sigma, run.clean))
        outputs |= {
            f"moments, {key}": (value, y.shape if key == "score" else y.shape[:1])
            for key, value in moments.items()
            if value is not None
        }
    for name, (value, shape) in outputs.items():
        # dtypes of two libraries must not be compared
        kept = (
            type(value) is type(y) and tuple(value.shape) == tuple(shape) and value.dtype == y.dtype
        )
        yield f"shape and dtype of {name}", float(not kept), 0.0
        if not kept and name == "call":
            return
        if kept:
            yield f"finite {name}", 1.0 - float(xp.all(xp.isfinite(value))), 0.0
            if name.endswith("score"):
                yield f"{name} equals call", run.miss(value, outputs["call"][0]), run.rounding


def _pointwise(run: _Run) -> _Laws:
    y, sigma, xp = run.points, run.sigma, run.xp
    t = sigma**2
    if run.exact_jvp:
        _, hv = run.model.jvp(y, sigma, run.moves)
        yield "finite differences", run.miss(hv, run.central_jvp(y, run.moves)[1]), run.differences
    G = run.jacobian()
    yield "symmetry of H", run.miss(G, xp.matrix_transpose(G)), run.limit
    identity = xp.eye(G.shape[1], dtype=G.dtype, device=G.device)
    denoiser = identity + t * (G + xp.matrix_transpose(G)) / 2
    lam = xp.linalg.eigvalsh(denoiser)
    least = float(xp.max(-lam[:, 0] / xp.maximum(xp.max(lam, axis=1), xp.ones_like(lam[:, 0]))))
    yield "I + tH positive semi-definite", max(0.0, least), run.limit
    if not run.full:
        return
    trace = xp.linalg.trace(G)
    squares = xp.sum(G * G, axis=(1, 2))
    scale = float(xp.mean(squares)) ** 0.5 or 1.0

    def offset(actual: Array) -> float:
        return float(xp.max(xp.abs(actual - trace))) / scale

    if hasattr(run.model, "divergence"):
        yield "divergence equals tr H", offset(run.model.divergence(y, sigma)[1]), run.limit
    if hasattr(run.model, "moments"):
        moments = run.model.moments(y, sigma, run.clean)
        r = (run.clean - (y + t * moments.score))[:, :, None]
        form = xp.sum(r * xp.matmul(denoiser, r), axis=(1, 2))
        yield "moments, tr H", offset(moments.hessian_trace), run.limit
        yield "moments, |H|^2", run.miss(moments.hessian_squared_norm, squares), run.limit
        # I + tH assembled from H cancels where it is small: its errors are those of the identity
        n = y.shape[1]
        gap = xp.abs(moments.denoiser_trace - xp.linalg.trace(denoiser)) / (n + t * scale)
        yield "moments, tr(I + tH)", float(xp.max(gap)), run.limit
        norm = xp.sum(denoiser * denoiser, axis=(1, 2))
        gap = xp.abs(moments.denoiser_squared_norm - norm) / (n + norm)
        yield "moments, |I + tH|^2", float(xp.max(gap)), run.limit
        gap = xp.abs(moments.residual_form - form) / (xp.sum(r * r, axis=(1, 2)) + xp.abs(form))
        yield "moments, residual form", float(xp.max(gap)), run.limit


def _means(run: _Run) -> _Laws:
    y, sigma, xp = run.y, run.sigma, run.xp
    if hasattr(run.model, "divergence"):
        s, trace = run.model.divergence(y, sigma)
    else:
        s, hv = run.jvp(y, run.signs)
        trace = xp.sum(run.signs * hv, axis=1)
    yield "Stein's identity", _z(xp.sum(s * s, axis=1) + trace), _Z_LIMIT
    residual = s + run.eps / sigma
    z = (y - xp.mean(y, axis=0)) / xp.std(y, axis=0)
    fields = {"linear": z, "sine": xp.sin(2 * z), "cosine": xp.cos(2 * z)}
    for name, g in fields.items():
        value = _z(xp.sum(residual * g, axis=1))
        yield f"denoising residual, {name} field", value, _Z_LIMIT


def _scale(run: _Run, rescaled: Callable[[float], Any] | None) -> _Laws:
    if rescaled is None:
        return
    for a in (1e-2, 3.0):
        s = rescaled(a)(a * run.points, a * run.sigma)
        yield f"scale law, a={a:g}", run.miss(a * s, run.model(run.points, run.sigma)), run.rounding


def _z(values: Array) -> float:
    """|mean| in units of its standard error."""
    xp = namespace(values)
    mean = abs(float(xp.mean(values)))
    error = float(xp.std(values, correction=1)) / math.sqrt(values.shape[0])
    # a law that holds row by row leaves only rounding
    rounding = float(xp.finfo(values.dtype).eps) * float(xp.max(xp.abs(values)))
    return mean / max(error, rounding) if max(error, rounding) > 0 else 0.0
