"""The laws of one sample space along the noise, over every exact score model.

A Gaussian is a mixture of one component, an empirical law one of many without width, so one record
of weights, means and covariances describes them all. In one dimension expectations are exact up to
rounding (the trapezoidal rule, spectrally accurate for analytic integrands that vanish at both
ends); elsewhere they are means of a fixed number of draws, judged by their standard error.

Every law of a score model holds in every array library: the models are asked there, in float64,
and what they answer is judged in NumPy. Laws in expectation hold in float32 too, whose rounding is
far below their standard error.
"""

import math
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from libraries import supporting
from scipy.integrate import quad
from strategies import covariance, gaussians, mixtures, noise_ratios, rotation, scales, seeds

from skfisher._backend.arrays import to_numpy
from skfisher.curves import gaussian_curve
from skfisher.scores import GaussianMixtureScore, GaussianScore, KernelScore
from skfisher.testing import circle_oracle, mixture_1d_oracle

N_DRAWS = 4000
UNSEEN = 1e-3
Z_LIMIT = 6.0  # thousands of scores are drawn in a run, some of them from skew laws

few = settings(max_examples=25)
in_every_library = pytest.mark.usefixtures("asked_in_float64")
in_every_precision = pytest.mark.usefixtures("asked_in_every_precision")


class Asked:
    """A model whose numbers are made by another library from NumPy points, and brought back."""

    def __init__(self, model, library, dtype):
        self.model, self.library, self.dtype = model, library, dtype

    def there(self, points):
        return self.library(points, self.dtype)

    def back(self, answer):
        assert self.library.owns(answer, self.dtype)
        return np.asarray(to_numpy(answer), dtype=float)

    def __call__(self, y, sigma):
        return self.back(self.model(self.there(y), sigma))

    def jvp(self, y, sigma, v):
        return tuple(map(self.back, self.model.jvp(self.there(y), sigma, self.there(v))))

    def divergence(self, y, sigma):
        return tuple(map(self.back, self.model.divergence(self.there(y), sigma)))

    def moments(self, y, sigma, clean=None):
        clean = None if clean is None else self.there(clean)
        local = self.model.moments(self.there(y), sigma, clean)
        found = {f.name: getattr(local, f.name) for f in fields(local)}
        return replace(local, **{k: self.back(v) for k, v in found.items() if v is not None})


@dataclass(frozen=True)
class Law:
    """A law with an exact score: the kind of its model, and its parts as a mixture."""

    kind: str
    weights: np.ndarray
    means: np.ndarray
    covariances: np.ndarray
    asked_in: ClassVar[Any] = None  # library and dtype, from the fixtures below

    @property
    def n(self):
        return self.means.shape[1]

    @property
    def model(self):
        model = self.in_numpy
        return model if self.asked_in is None else Asked(model, *self.asked_in)

    @property
    def in_numpy(self):
        if self.kind == "gaussian":
            return GaussianScore(self.means[0], self.covariances[0])
        if self.kind == "mixture":
            return GaussianMixtureScore(self.weights, self.means, self.covariances)
        return KernelScore(self.means, self.weights)

    @property
    def covariance(self):
        centred = self.means - self.weights @ self.means
        within = np.einsum("k,kij->ij", self.weights, self.covariances)
        return within + (centred * self.weights[:, None]).T @ centred

    @property
    def scale(self):
        return math.sqrt(np.trace(self.covariance) / self.n)

    def draw(self, sigma, seed, m=N_DRAWS):
        """Clean and noisy points and the noise between them."""
        rng = np.random.default_rng(seed)
        k = rng.choice(len(self.weights), m, p=self.weights)
        lam, Q = np.linalg.eigh(self.covariances)
        roots = Q * np.sqrt(np.clip(lam, 0, None))[:, None, :]
        x = self.means[k] + np.einsum("mij,mj->mi", roots[k], rng.standard_normal((m, self.n)))
        eps = rng.standard_normal((m, self.n))
        return x, x + sigma * eps, eps

    def moved(self, A, b):
        """The law of A X + b."""
        return replace(
            self,
            means=self.means @ A.T + b,
            covariances=A @ self.covariances @ A.T,
        )

    def beside(self, other):
        """The law of two independent blocks."""
        pairs = [(i, j) for i in range(len(self.weights)) for j in range(len(other.weights))]
        S = np.zeros((len(pairs), self.n + other.n, self.n + other.n))
        for k, (i, j) in enumerate(pairs):
            S[k, : self.n, : self.n] = self.covariances[i]
            S[k, self.n :, self.n :] = other.covariances[j]
        return Law(
            self.kind,
            np.asarray([self.weights[i] * other.weights[j] for i, j in pairs]),
            np.asarray([[*self.means[i], *other.means[j]] for i, j in pairs]),
            S,
        )


def _asked(request):
    Law.asked_in = request.param
    yield
    Law.asked_in = None


def _with_dtype(dtype):
    return [
        pytest.param(
            None if p.id == "numpy" and dtype == "float64" else (*p.values, dtype),
            id=f"{p.id}-{dtype}",
            marks=p.marks,
        )
        for p in supporting("functions")
    ]


DOUBLE, SINGLE = _with_dtype("float64"), _with_dtype("float32")
# of the module, as Hypothesis does not renew the fixtures of a test for every example
asked_in_float64 = pytest.fixture(_asked, params=DOUBLE, scope="module", name="asked_in_float64")
asked_in_every_precision = pytest.fixture(
    _asked, params=DOUBLE + SINGLE, scope="module", name="asked_in_every_precision"
)


def law_of(model):
    if isinstance(model, GaussianScore):
        return Law("gaussian", np.ones(1), model.mean[None], model.covariance[None])
    return Law("mixture", model.weights, model.means, model.covariances)


@st.composite
def empirical_laws(draw, max_features=4):
    """Two to twelve points of any weights, RMS scale about 1."""
    n, N = draw(st.integers(1, max_features)), draw(st.integers(2, 12))
    rng = np.random.default_rng(draw(seeds()))
    return Law(
        "kernel", rng.dirichlet(np.full(N, 3.0)), rng.standard_normal((N, n)), np.zeros((N, n, n))
    )


def laws(max_features=4):
    """Every exact score model."""
    return st.one_of(
        gaussians(max_features).map(law_of),
        mixtures(max_features).map(law_of),
        empirical_laws(max_features),
    )


def z_score(values):
    """Mean of dimensionless rows in standard errors.

    What no row has seen cannot enter their scatter: an event of a few in N_DRAWS, as a point
    between two far modes, may hold a share of the mean of order `UNSEEN`.
    """
    error = np.std(values, ddof=1) / math.sqrt(len(values))
    return np.mean(values) / math.hypot(error, UNSEEN)


def in_one_dimension(law, sigma):
    """J, R, E tr C / t, E|C|^2 / t^2 and the entropy of Y, by quadrature of the model's numbers."""
    means, variances = law.means[:, 0], law.covariances[:, 0, 0]
    widths = np.sqrt(variances + sigma**2)
    step = widths.min() / 10
    low, high = (means - 12 * widths).min(), (means + 12 * widths).max()
    y = np.linspace(low, high, math.ceil((high - low) / step))
    logs = (
        np.log(law.weights)[:, None]
        - 0.5 * ((y - means[:, None]) / widths[:, None]) ** 2
        - np.log(widths * math.sqrt(2 * math.pi))[:, None]
    )
    log_density = np.logaddexp.reduce(logs, axis=0)
    mass = np.exp(log_density) * (y[1] - y[0])
    local = law.model.moments(y[:, None], sigma)
    return {
        "J": mass @ local.score[:, 0] ** 2,
        "R": mass @ local.hessian_squared_norm,
        "d_eff": mass @ local.denoiser_trace,
        "rate": mass @ local.denoiser_squared_norm,
        "entropy": -(mass @ np.where(mass > 0, log_density, 0.0)),
    }


def slope_in_t(quantity, sigma):
    """d/dt at t = sigma^2, by central differences of fourth order."""
    t, h = sigma**2, 2e-3 * sigma**2
    at = {k: quantity(math.sqrt(t + k * h)) for k in (-2, -1, 1, 2)}
    return (at[-2] - 8 * at[-1] + 8 * at[1] - at[2]) / (12 * h)


# -- identities ----------------------------------------------------------------------------------


@in_every_precision
@few
@given(law=laws(), ratio=noise_ratios(), seed=seeds())
def test_denoising_residual_is_orthogonal_to_every_field(law, ratio, seed):
    # Tweedie: y + t s is the conditional mean iff x - (y + t s) is orthogonal to functions of y
    sigma = ratio * law.scale
    x, y, _ = law.draw(sigma, seed)
    r = x - (y + sigma**2 * law.model(y, sigma))
    u = (y - y.mean(axis=0)) / y.std(axis=0)
    for g in (np.ones_like(u), u, np.sin(2 * u), np.cos(2 * u)):
        assert abs(z_score(np.sum(r * g, axis=1) / sigma)) < Z_LIMIT


@in_every_library
@few
@given(law=laws(), ratio=noise_ratios(), seed=seeds())
def test_denoiser_jacobian_is_the_posterior_covariance_over_t(law, ratio, seed):
    sigma = ratio * law.scale
    t = sigma**2
    x, y, _ = law.draw(sigma, seed)
    local = law.model.moments(y, sigma, x)
    r = x - (y + t * local.score)
    assert abs(z_score(np.sum(r * r, axis=1) / t - local.denoiser_trace)) < Z_LIMIT
    # E r^T (C/t) r = E tr(C^2)/t
    assert abs(z_score(local.residual_form / t - local.denoiser_squared_norm)) < Z_LIMIT
    v = np.random.default_rng(seed).standard_normal(y.shape)
    along = np.sum(v * (v + t * law.model.jvp(y, sigma, v)[1]), axis=1)
    assert along.min() > -1e-9 * np.max(np.sum(v * v, axis=1))
    assert abs(z_score(np.sum(v * r, axis=1) ** 2 / t - along)) < Z_LIMIT


@in_every_library
@given(law=laws(), ratio=noise_ratios(), seed=seeds())
def test_products_along_the_axes_are_a_symmetric_hessian_with_its_trace_and_norm(law, ratio, seed):
    sigma = ratio * law.scale
    t = sigma**2
    _, y, _ = law.draw(sigma, seed, 20)
    axes = np.broadcast_to(np.eye(law.n)[:, None, :], (law.n, *y.shape))
    tH = t * np.stack([law.model.jvp(y, sigma, v)[1] for v in axes], axis=2)
    local = law.model.moments(y, sigma)
    size = law.n + t * np.sqrt(local.hessian_squared_norm)
    assert np.all(np.abs(tH - tH.swapaxes(1, 2)) < 1e-9 * size[:, None, None])
    np.testing.assert_allclose(law.model(y, sigma), local.score, rtol=1e-9, atol=1e-9 / sigma)
    for trace in (local.hessian_trace, law.model.divergence(y, sigma)[1]):
        assert np.all(np.abs(np.trace(tH, axis1=1, axis2=2) - t * trace) < 1e-9 * size)
    norm = np.sum(tH**2, axis=(1, 2))
    assert np.all(np.abs(norm - t**2 * local.hessian_squared_norm) < 1e-9 * size**2)
    least = np.linalg.eigvalsh(np.eye(law.n) + (tH + tH.swapaxes(1, 2)) / 2)[:, 0]
    assert np.all(least > -1e-9 * size)


@in_every_precision
@few
@given(law=laws(), ratio=noise_ratios(), seed=seeds())
def test_squared_score_and_minus_divergence_have_one_mean(law, ratio, seed):
    sigma = ratio * law.scale
    _, y, eps = law.draw(sigma, seed)
    s, trace = law.model.divergence(y, sigma)
    j = sigma**2 * np.sum(s * s, axis=1)
    assert abs(z_score(j + sigma**2 * trace)) < Z_LIMIT
    assert abs(z_score(j + sigma * np.sum(s * eps, axis=1))) < Z_LIMIT


@in_every_precision
@few
@given(law=laws(), ratio=noise_ratios(), seed=seeds())
def test_mmse_is_the_noise_less_what_the_score_knows(law, ratio, seed):
    sigma = ratio * law.scale
    t = sigma**2
    x, y, _ = law.draw(sigma, seed)
    s = law.model(y, sigma)
    error = np.sum((x - y - t * s) ** 2, axis=1)
    assert abs(z_score(error / t - law.n + t * np.sum(s * s, axis=1))) < Z_LIMIT


@in_every_library
@given(law=laws(), ratio=noise_ratios(), seed=seeds())
def test_squared_denoiser_norm_is_gain_plus_penalty_at_every_point(law, ratio, seed):
    sigma = ratio * law.scale
    t = sigma**2
    _, y, _ = law.draw(sigma, seed, 50)
    local = law.model.moments(y, sigma)
    trace, squared = t * local.hessian_trace, t**2 * local.hessian_squared_norm
    size = law.n + squared
    np.testing.assert_allclose(local.denoiser_trace / size, (law.n + trace) / size, atol=1e-9)
    np.testing.assert_allclose(
        local.denoiser_squared_norm / size, (law.n + 2 * trace + squared) / size, atol=1e-9
    )


@in_every_library
@given(law=laws(max_features=1), ratio=noise_ratios())
def test_information_falls_at_the_mean_squared_hessian(law, ratio):
    sigma = ratio * law.scale
    R = -slope_in_t(lambda u: in_one_dimension(law, u)["J"], sigma)
    assert pytest.approx(in_one_dimension(law, sigma)["R"], rel=1e-6) == R


@in_every_library
@given(law=laws(max_features=1), ratio=noise_ratios())
def test_mmse_grows_at_the_mean_squared_denoiser_jacobian(law, ratio):
    sigma = ratio * law.scale
    t = sigma**2
    exact = in_one_dimension(law, sigma)
    rate = slope_in_t(lambda u: u**2 * in_one_dimension(law, u)["d_eff"], sigma)
    # a rate that vanishes as exp(-1/t) bends within the step
    assert abs(rate - exact["rate"]) < 1e-6 * max(exact["rate"], 1e-3)
    whole = 1 - 2 * t * exact["J"] + t**2 * exact["R"]
    assert abs(whole - exact["rate"]) < 1e-9
    assert 1 - t * exact["J"] == pytest.approx(exact["d_eff"], abs=1e-9)


@in_every_library
@few
@given(law=laws(), ratio=noise_ratios(), seed=seeds())
def test_information_falls_along_the_noise_in_every_dimension(law, ratio, seed):
    # pathwise: d/dt of the implicit form -|s|^2 - 2 tr H at x + sigma eps
    sigma = ratio * law.scale
    x, _, eps = law.draw(sigma, seed)

    def implicit(u):
        s, trace = law.model.divergence(x + u * eps, u)
        return -np.sum(s * s, axis=1) - 2 * trace

    fall = -slope_in_t(implicit, sigma)
    squared = law.model.moments(x + sigma * eps, sigma).hessian_squared_norm
    assert abs(z_score(sigma**4 * (fall - squared))) < Z_LIMIT


# -- order ---------------------------------------------------------------------------------------


@in_every_library
@given(law=laws(max_features=1), ratio=noise_ratios(0.05, 20.0))
def test_order_relations_in_one_dimension(law, ratio):
    sigma = ratio * law.scale
    t, variance = sigma**2, float(law.covariance[0, 0])
    at, later = in_one_dimension(law, sigma), in_one_dimension(law, 1.2 * sigma)
    slack = 1 + 1e-9
    assert 1 / (variance + t) <= at["J"] * slack
    assert at["J"] <= slack / t
    assert at["J"] ** 2 <= at["R"] * slack
    assert later["J"] <= at["J"] * slack
    assert t * at["d_eff"] <= 1.2**2 * t * later["d_eff"] * slack + 1e-12 * t
    assert t * at["d_eff"] <= t * variance / (variance + t) * slack
    assert 0 <= at["d_eff"] <= slack


@in_every_library
@few
@given(law=laws(), ratio=noise_ratios(), seed=seeds())
def test_order_relations_in_every_dimension(law, ratio, seed):
    sigma, n = ratio * law.scale, law.n
    t = sigma**2
    x, y, eps = law.draw(sigma, seed)
    local = law.model.moments(y, sigma)
    j, rho = n - local.denoiser_trace, t**2 * local.hessian_squared_norm
    gaussian = gaussian_curve(law.covariance, np.asarray([sigma]))
    assert z_score(j - t * gaussian.fisher_information[0]) > -Z_LIMIT
    assert z_score(n - j) > -Z_LIMIT
    later = law.model.moments(x + 1.2 * sigma * eps, 1.2 * sigma)
    assert z_score(t * (local.hessian_trace - later.hessian_trace)) < Z_LIMIT
    assert z_score(1.2**2 * later.denoiser_trace - local.denoiser_trace) > -Z_LIMIT
    # Jensen and Cauchy-Schwarz hold for the means of any rows, so also for these
    assert np.mean(j) ** 2 / n <= np.mean(rho) * (1 + 1e-9)
    assert np.all(local.denoiser_trace >= -1e-9 * n)
    smallest = 1e-200  # what underflows is no counterexample
    assert np.all(
        local.denoiser_trace**2 <= n * local.denoiser_squared_norm * (1 + 1e-9) + smallest
    )


@in_every_library
@pytest.mark.parametrize("kind", ["mixture", "kernel"])
def test_rate_of_two_points_exceeds_that_of_pure_noise(kind):
    law = Law(kind, np.full(2, 0.5), np.asarray([[-2.5], [2.5]]), np.zeros((2, 1, 1)))
    assert in_one_dimension(law, 1.0)["R"] == pytest.approx(1.178, abs=5e-4)


# -- invariance ----------------------------------------------------------------------------------


def assert_moments_scale(a, b, score, factor):
    """Moments `b` are those of `a` with its score mapped by `score`, in a unit `factor` larger."""
    expected = score(a.score) / factor
    np.testing.assert_allclose(
        b.score, expected, rtol=1e-6, atol=1e-9 * (np.max(np.abs(expected)) or 1.0)
    )
    for power, name in ((2, "hessian_trace"), (4, "hessian_squared_norm")):
        expected = getattr(a, name) / factor**power
        np.testing.assert_allclose(
            getattr(b, name), expected, rtol=1e-6, atol=1e-9 * np.max(np.abs(expected))
        )
    for name in ("denoiser_trace", "denoiser_squared_norm"):
        np.testing.assert_allclose(getattr(b, name), getattr(a, name), rtol=1e-6, atol=1e-9)


@in_every_library
@given(law=laws(), ratio=noise_ratios(), a=scales(), seed=seeds())
def test_units_change_information_by_their_square_and_its_rate_by_their_fourth_power(
    law, ratio, a, seed
):
    sigma = ratio * law.scale
    _, y, _ = law.draw(sigma, seed, 20)
    scaled = law.moved(a * np.eye(law.n), 0.0).model.moments(a * y, a * sigma)
    assert_moments_scale(law.model.moments(y, sigma), scaled, lambda s: s, a)


@in_every_library
@given(law=laws(), ratio=noise_ratios(), far=st.floats(0.0, 1e3), seed=seeds())
def test_rotation_and_translation_change_nothing(law, ratio, far, seed):
    sigma = ratio * law.scale
    _, y, _ = law.draw(sigma, seed, 20)
    rng = np.random.default_rng(seed)
    Q, b = rotation(rng, law.n), far * law.scale * rng.standard_normal(law.n)
    moved = law.moved(Q, b).model.moments(y @ Q.T + b, sigma)
    assert_moments_scale(law.model.moments(y, sigma), moved, lambda s: s @ Q.T, 1.0)


@in_every_library
@pytest.mark.parametrize("kind", ["gaussian", "mixture", "kernel"])
@given(seed=seeds(), ratio=noise_ratios())
@few
def test_independent_blocks_add(kind, seed, ratio):
    rng = np.random.default_rng(seed)

    def block(n):
        K = 1 if kind == "gaussian" else 3
        S = np.stack([covariance(rng, n, 10.0) for _ in range(K)]) * (kind != "kernel")
        return Law(kind, rng.dirichlet(np.full(K, 3.0)), rng.standard_normal((K, n)), S)

    left, right = block(1), block(2)
    y = rng.standard_normal((20, 3))
    whole = left.beside(right).model.moments(y, ratio)
    parts = left.model.moments(y[:, :1], ratio), right.model.moments(y[:, 1:], ratio)
    np.testing.assert_allclose(
        whole.score, np.hstack([p.score for p in parts]), rtol=1e-8, atol=1e-8
    )
    for name in ("hessian_trace", "hessian_squared_norm", "denoiser_trace"):
        total = getattr(parts[0], name) + getattr(parts[1], name)
        size = 1 + np.max(np.abs(total))
        np.testing.assert_allclose(getattr(whole, name), total, rtol=1e-8, atol=1e-9 * size)


@in_every_library
def test_the_three_models_agree_where_their_laws_do(rng):
    points = rng.standard_normal((5, 2))
    law = Law("kernel", rng.dirichlet(np.ones(5)), points, np.zeros((5, 2, 2)))
    _, y, _ = law.draw(0.4, 0, 30)
    as_mixture = replace(law, kind="mixture").model.moments(y, 0.4)
    assert_moments_scale(as_mixture, law.model.moments(y, 0.4), lambda s: s, 1.0)
    S = covariance(rng, 2, 10.0)
    one = Law("gaussian", np.ones(1), points[:1], S[None])
    as_mixture = replace(one, kind="mixture").model.moments(y, 0.4)
    assert_moments_scale(as_mixture, one.model.moments(y, 0.4), lambda s: s, 1.0)


# -- integrals along the noise -------------------------------------------------------------------


def along_noise(integrand, scale):
    """Integral over sigma in (0, inf) of a function that varies over `scale`, in log sigma."""
    u = np.linspace(math.log(1e-9 * scale), math.log(1e9 * scale), 4001)
    sigma = np.exp(u)
    return np.sum(integrand(sigma) * sigma) * (u[1] - u[0])


@given(model=gaussians(min_rank=1))
def test_velocity_irreducible_variance_of_a_gaussian(model):
    lam = np.clip(np.linalg.eigvalsh(model.covariance), 0, None)
    n, scale = len(lam), math.sqrt(lam.mean())
    d_eff = along_noise(
        lambda sigma: gaussian_curve(model.covariance, sigma).effective_dimension / n, scale
    )
    # rounding of rank-deficient covariances leaves eigenvalues of order eps
    assert d_eff == pytest.approx(math.pi / 2 * np.mean(np.sqrt(lam)), rel=1e-5)


@pytest.mark.parametrize("a", [1e-3, 1.0, 50.0])
@pytest.mark.parametrize(
    ("weights", "means", "variances"),
    [
        ([0.5, 0.5], [-1.0, 1.0], [0.1, 0.1]),
        ([0.2, 0.5, 0.3], [-1.0, 0.1, 2.0], [0.5, 0.01, 0.1]),
    ],
)
def test_velocity_irreducible_variance_is_at_most_the_gaussians_and_scales_with_x(
    weights, means, variances, a
):
    def viv(factor):
        scaled = [factor * m for m in means], [factor**2 * v for v in variances]

        def inside(u):
            sigma = factor * math.exp(u)
            return mixture_1d_oracle(weights, *scaled, [sigma]).effective_dimension[0] * sigma

        body = quad(inside, math.log(1e-4), math.log(1e4), limit=200, epsrel=1e-7)[0]
        # below: d_eff is 1; above: variance / sigma^2
        return body + 1e-4 * factor + variance * factor / 1e4

    mean = np.dot(weights, means)
    variance = np.dot(weights, np.square(means) + variances) - mean**2
    assert viv(a) == pytest.approx(a * viv(1.0), rel=1e-6)
    assert viv(a) < math.pi / 2 * a * math.sqrt(variance)


@given(model=gaussians(), ratio=noise_ratios())
def test_information_of_a_gaussian_is_half_the_integral_of_its_effective_dimension(model, ratio):
    scale = math.sqrt(np.trace(model.covariance) / model.n_features)
    start = ratio * scale

    def d_eff(u):
        return gaussian_curve(model.covariance, np.asarray([start * math.exp(u)]))

    # 1/2 d log t = d log sigma
    integral = quad(lambda u: d_eff(u).effective_dimension[0], 0, 25, epsabs=1e-10, limit=200)[0]
    assert integral == pytest.approx(d_eff(0.0).mutual_information[0], rel=1e-6)


@in_every_library
@few
@given(law=laws(max_features=1), ratio=noise_ratios(0.1, 2.0))
def test_information_is_the_entropy_of_y_less_that_of_the_noise(law, ratio):
    def information(sigma):
        noise = 0.5 * math.log(2 * math.pi * math.e * sigma**2)
        return in_one_dimension(law, sigma)["entropy"] - noise

    sigma = ratio * law.scale
    # dI/dt = -d_eff / (2 t)
    slope = slope_in_t(information, sigma)
    d_eff = in_one_dimension(law, sigma)["d_eff"]
    assert slope * sigma**2 == pytest.approx(-d_eff / 2, rel=1e-5, abs=1e-9)


@in_every_library
def test_information_about_two_points_tends_to_one_bit():
    law = Law("kernel", np.full(2, 0.5), np.asarray([[-1.0], [1.0]]), np.zeros((2, 1, 1)))
    noise = 0.5 * math.log(2 * math.pi * math.e * 0.1**2)
    assert in_one_dimension(law, 0.1)["entropy"] - noise == pytest.approx(math.log(2), rel=1e-9)


# -- the circle ----------------------------------------------------------------------------------


def on_a_circle(radius, sigma, n_points=720):
    """J and R of many points on a circle: they see no angle where sigma spans their spacing."""
    angles = 2 * math.pi * np.arange(n_points) / n_points
    model = KernelScore(radius * np.stack([np.cos(angles), np.sin(angles)], axis=1))
    nodes, weights = np.polynomial.legendre.leggauss(300)
    low, high = max(radius - 10 * sigma, 0.0), radius + 10 * sigma
    rho = (low + high) / 2 + (high - low) / 2 * nodes
    gaps = (rho[:, None] - radius * np.cos(angles)) ** 2 + (radius * np.sin(angles)) ** 2
    density = np.mean(np.exp(-gaps / (2 * sigma**2)), axis=1) / sigma**2 * rho
    mass = density * weights * (high - low) / 2
    local = model.moments(np.stack([rho, np.zeros_like(rho)], axis=1), sigma)
    assert mass.sum() == pytest.approx(1.0, abs=1e-9)
    return mass @ np.sum(local.score**2, axis=1), mass @ local.hessian_squared_norm


@in_every_library
@pytest.mark.parametrize("radius", [0.01, 3.0])
def test_circle_has_its_expansion_at_small_noise(radius):
    def error(ratio):
        J, R = on_a_circle(radius, ratio * radius)
        t = (ratio * radius) ** 2
        return (
            (J - 1 / t + 1 / (2 * radius**2)) * radius**2,
            (R - 1 / t**2 - 5 / (4 * radius**4)) * radius**4,
        )

    (J_near, R_near), (J_far, R_far) = error(0.07), error(0.14)
    # the rest is of order t: four times as large at twice the noise
    assert J_far / J_near == pytest.approx(4, rel=0.15)
    assert R_far / R_near == pytest.approx(4, rel=0.25)
    assert abs(J_near) < 0.01
    assert abs(R_near) < 0.1


@in_every_library
@pytest.mark.parametrize("sigma", [0.1, 0.4])
def test_circle_equals_its_quadrature(sigma):
    oracle = circle_oracle(1.0, [sigma])
    J, R = on_a_circle(1.0, sigma)
    assert pytest.approx(oracle.fisher_information[0], rel=1e-7) == J
    assert pytest.approx(oracle.fisher_information_rate[0], rel=1e-7) == R
