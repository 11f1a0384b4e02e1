import pickle

import array_api_strict
import mpmath as mp
import numpy as np
import pytest
from hypothesis import given
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.mixture import BayesianGaussianMixture, GaussianMixture
from strategies import covariance, exact_models, mixtures, noise_ratios, rms_scale, rotation, seeds

from skfisher.curves import gaussian_curve
from skfisher.evaluation import rows_under
from skfisher.forms import form_rows
from skfisher.scores.closed import GaussianMixtureScore, GaussianScore
from skfisher.scores.contract import ExactScoreModel
from skfisher.testing import assert_close, check_score_model, mixture_1d_oracle


def exact_moments(weights, means, covariances, y, t, v, clean):
    """Everything the contract asks for at one point, in 60 digits by plain matrix inverses."""
    with mp.workdps(60):
        n, t = len(y), mp.mpf(t)
        y, v, clean = (mp.matrix([mp.mpf(float(c)) for c in a]) for a in (y, v, clean))
        logs, scores, precisions, shrinks = [], [], [], []
        for pi, mu, S in zip(weights, means, covariances, strict=True):
            S = mp.matrix([[mp.mpf(float(c)) for c in row] for row in S])
            P = mp.inverse(S + t * mp.eye(n))
            u = y - mp.matrix([mp.mpf(float(c)) for c in mu])
            scores.append(-P * u)
            precisions.append(P)
            shrinks.append(S * P)
            logs.append(mp.log(mp.mpf(float(pi))) + (mp.log(mp.det(P)) - (u.T * P * u)[0]) / 2)
        top = max(logs)
        w = [mp.exp(x - top) for x in logs]
        mass = sum(w)
        log_density = top + mp.log(mass) - mp.mpf(n) / 2 * mp.log(2 * mp.pi)
        w = [x / mass for x in w]

        def mean(parts):
            total = w[0] * parts[0]
            for a, b in zip(w[1:], parts[1:], strict=True):
                total += a * b
            return total

        s = mean(scores)
        between = mean([(a - s) * (a - s).T for a in scores])
        H = between - mean(precisions)
        D = mean(shrinks) + t * between
        r = clean - y - t * s
        hv = H * v

        def trace(A):
            return mp.fsum(A[i, i] for i in range(n))

        def squared_norm(A):
            return mp.fsum(a**2 for a in A)

        return {
            "score": np.asarray([float(a) for a in s]),
            "product": np.asarray([float(a) for a in hv]),
            "hessian_trace": float(trace(H)),
            "hessian_squared_norm": float(squared_norm(H)),
            "denoiser_trace": float(trace(D)),
            "denoiser_squared_norm": float(squared_norm(D)),
            "residual_form": float((r.T * D * r)[0]),
            "log_density": float(log_density),
        }


def worst_errors(model, parts, scale, noise_ratio, rng):
    """Largest relative error of each quantity at typical points, between components, far out."""
    weights, means, covariances = parts
    K, n = means.shape
    sigma = noise_ratio * scale
    spectra = [np.linalg.eigh(S) for S in covariances]
    roots = [Q * np.sqrt(np.clip(lam, 0.0, None)) for lam, Q in spectra]
    clean = np.stack([means[i % K] + roots[i % K] @ rng.standard_normal(n) for i in range(4)])
    y = clean + sigma * rng.standard_normal((4, n))
    middle = (means[0] + means[-1]) / 2 + sigma * rng.standard_normal(n)
    far = means[0] + 100 * (scale + sigma) * rng.standard_normal((2, n))
    y = np.concatenate([y, middle[None], far])
    clean = np.concatenate([clean, clean[:3]])
    v = rng.standard_normal(y.shape)
    found = vars(model.moments(y, sigma, clean)) | {
        "product": model.jvp(y, sigma, v)[1],
        "log_density": model.log_density(y, sigma),
    }
    np.testing.assert_allclose(model(y, sigma), found["score"], rtol=1e-12)
    np.testing.assert_allclose(model.divergence(y, sigma)[1], found["hessian_trace"], rtol=1e-8)
    errors = {}
    for i in range(len(y)):
        exact = exact_moments(weights, means, covariances, y[i], sigma**2, v[i], clean[i])
        for key, value in exact.items():
            error = np.linalg.norm(found[key][i] - value)
            # what underflows in double precision must come out as zero
            error = error / np.linalg.norm(value) if np.any(value) else error
            errors[key] = max(errors.get(key, 0.0), error)
    return errors


def model_and_parts(rng, n, K, condition, scale, apart, rank=None):
    weights = rng.dirichlet(np.full(K, 3.0))
    means = scale * apart * rng.standard_normal((K, n))
    covariances = scale**2 * np.stack([covariance(rng, n, condition, rank) for _ in range(K)])
    if K == 1:
        return GaussianScore(means[0], covariances[0]), (weights, means, covariances)
    return GaussianMixtureScore(weights, means, covariances), (weights, means, covariances)


NOISE_RATIOS = [1e-3, 0.03, 1.0, 5.0, 100.0]


@pytest.mark.parametrize("noise_ratio", NOISE_RATIOS)
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("condition", [1.0, 1e4, 1e8])
@pytest.mark.parametrize(("K", "apart"), [(1, 3.0), (3, 0.3), (3, 3.0), (2, 1000.0)])
def test_moments_equal_sixty_digit_matrix_algebra(K, apart, condition, scale, noise_ratio):
    rng = np.random.default_rng([K, int(apart), int(condition), int(1e6 * scale)])
    model, parts = model_and_parts(rng, 3, K, condition, scale, apart)
    errors = worst_errors(model, parts, scale, noise_ratio, rng)
    assert max(errors.values()) <= 1e-8, errors


@pytest.mark.parametrize("noise_ratio", NOISE_RATIOS)
@pytest.mark.parametrize("rank", [0, 1, 2])
@pytest.mark.parametrize("K", [1, 3])
def test_moments_of_degenerate_components_equal_sixty_digit_matrix_algebra(K, rank, noise_ratio):
    rng = np.random.default_rng([K, rank])
    model, parts = model_and_parts(rng, 3, K, 10.0, 1.0, 1.0, rank)
    if (K, rank) == (1, 0):  # a single point: I + tH is exactly zero
        moments = model.moments(parts[1], noise_ratio, parts[1])
        assert not moments.denoiser_trace.any()
        assert not moments.denoiser_squared_norm.any()
        return
    errors = worst_errors(model, parts, 1.0, noise_ratio, rng)
    assert max(errors.values()) <= 1e-8, errors


@given(model=exact_models(), ratio=noise_ratios(1e-3, 100.0), seed=seeds())
def test_traces_and_norms_equal_those_of_the_assembled_jacobian(model, ratio, seed):
    rng = np.random.default_rng(seed)
    n, sigma = model.n_features, ratio * rms_scale(model)
    x = model.sample(5, seed)
    y = x + sigma * rng.standard_normal(x.shape)
    H = np.stack([model.jvp(y, sigma, np.tile(e, (5, 1)))[1] for e in np.eye(n)], axis=2)
    D = np.eye(n) + sigma**2 * H
    moments = model.moments(y, sigma, x)
    r = x - y - sigma**2 * moments.score
    size = np.linalg.norm(H, axis=(1, 2))
    near = {"rtol": 1e-6, "atol": 1e-6}
    np.testing.assert_allclose(
        np.trace(H, axis1=1, axis2=2) / size, moments.hessian_trace / size, **near
    )
    np.testing.assert_allclose(moments.hessian_squared_norm, size**2, rtol=1e-6)
    np.testing.assert_allclose(moments.denoiser_trace, np.trace(D, axis1=1, axis2=2), **near)
    np.testing.assert_allclose(moments.denoiser_squared_norm, np.sum(D**2, axis=(1, 2)), **near)
    form = np.einsum("mi,mij,mj->m", r, D, r)
    np.testing.assert_allclose(moments.residual_form, form, rtol=1e-6, atol=1e-6 * np.sum(r**2))


@given(model=mixtures(), ratio=noise_ratios(), seed=seeds())
def test_score_is_the_gradient_of_the_log_density(model, ratio, seed):
    sigma = ratio * rms_scale(model)
    y = model.sample(4, seed) + sigma
    h = 1e-4 * sigma
    gradient = np.stack(
        [
            (model.log_density(y + h * e, sigma) - model.log_density(y - h * e, sigma)) / (2 * h)
            for e in np.eye(model.n_features)
        ],
        axis=1,
    )
    np.testing.assert_allclose(sigma * model(y, sigma), sigma * gradient, rtol=1e-5, atol=1e-5)


@given(model=mixtures(), ratio=noise_ratios(), seed=seeds())
def test_splitting_a_component_changes_nothing(model, ratio, seed):
    sigma = ratio * rms_scale(model)
    y = model.sample(4, seed) + sigma
    split = GaussianMixtureScore(
        np.concatenate(
            [model.weights[:1] * 0.25, model.weights[:1] * 0.75, model.weights[1:], [0.0]]
        ),
        np.concatenate([model.means[:1], model.means, model.means[:1] + 1]),
        np.concatenate([model.covariances[:1], model.covariances, model.covariances[:1]]),
    )
    one, two = model.moments(y, sigma), split.moments(y, sigma)
    for key in ("score", "hessian_squared_norm", "denoiser_trace", "denoiser_squared_norm"):
        np.testing.assert_allclose(getattr(two, key), getattr(one, key), rtol=1e-9, atol=1e-9)


def test_one_component_equals_a_gaussian(rng):
    model, (_, means, S) = model_and_parts(rng, 5, 1, 1e4, 2.0, 1.0)
    mixture = GaussianMixtureScore([1.0], means, S)
    y, v, clean = rng.standard_normal((3, 7, 5))
    one, two = vars(model.moments(y, 0.3, clean)), vars(mixture.moments(y, 0.3, clean))
    for key in one:
        if one[key] is not None:
            assert_close(two[key], one[key], rtol=1e-9, err_msg=key)
    assert_close(mixture.jvp(y, 0.3, v)[1], model.jvp(y, 0.3, v)[1], rtol=1e-9)
    assert_close(mixture.log_density(y, 0.3), model.log_density(y, 0.3), rtol=1e-12)


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("ratio", [1e-3, 0.1, 1.0, 30.0])
def test_means_of_a_gaussian_by_gauss_hermite_equal_its_curve(n, ratio, rng):
    S = 4.0 * covariance(rng, n, 1e3)
    sigma = 2.0 * ratio
    model = GaussianScore(rng.standard_normal(n), S)
    z, w = np.polynomial.hermite_e.hermegauss(6)
    grid = np.stack(np.meshgrid(*[z] * n), axis=-1).reshape(-1, n)
    w = np.prod(np.stack(np.meshgrid(*[w / w.sum()] * n), axis=-1).reshape(-1, n), axis=1)
    y = model.mean + grid @ np.linalg.cholesky(S + sigma**2 * np.eye(n)).T
    moments = model.moments(y, sigma)
    curve = gaussian_curve(S, np.asarray([sigma]))
    near = {"rtol": 1e-10}
    np.testing.assert_allclose(w @ np.sum(moments.score**2, 1), curve.fisher_information[0], **near)
    np.testing.assert_allclose(-w @ moments.hessian_trace, curve.fisher_information[0], **near)
    np.testing.assert_allclose(
        w @ moments.hessian_squared_norm, curve.fisher_information_rate[0], **near
    )
    np.testing.assert_allclose(sigma**2 * (w @ moments.denoiser_trace), curve.mmse[0], **near)
    np.testing.assert_allclose(w @ moments.denoiser_squared_norm, curve.mmse_rate[0], **near)


def z_scores(model, sigma, truth, seed, n_samples=20_000):
    """How many standard errors the Monte-Carlo means lie from J, R, mmse and rate."""
    t = sigma**2
    x = model.sample(n_samples, seed)
    y = x + sigma * np.random.default_rng(seed + 1).standard_normal(x.shape)
    moments = model.moments(y, sigma)
    residual = x - y - t * moments.score
    draws = {
        "J by norm": (np.sum(moments.score**2, axis=1), truth.fisher_information),
        "J by trace": (-moments.hessian_trace, truth.fisher_information),
        "R": (moments.hessian_squared_norm, truth.fisher_information_rate),
        "mmse": (t * moments.denoiser_trace, truth.mmse),
        "mmse by error": (np.sum(residual**2, axis=1), truth.mmse),
        "rate": (moments.denoiser_squared_norm, truth.mmse_rate),
    }
    z = {}
    for key, (values, exact) in draws.items():
        # far modes are bridged by draws too rare to be seen, hence the floor
        error = np.std(values, ddof=1) / np.sqrt(n_samples) + 1e-8 * exact[0]
        z[key] = abs(np.mean(values) - exact[0]) / error
    return z


@pytest.mark.parametrize("sigma", [0.05, 0.5, 2.0, 10.0])
def test_monte_carlo_means_of_a_gaussian_equal_its_curve(sigma, rng):
    S = covariance(rng, 6, 1e4)
    z = z_scores(GaussianScore(np.ones(6), S), sigma, gaussian_curve(S, np.asarray([sigma])), 5)
    assert max(z.values()) <= 4.0, z


@pytest.mark.parametrize("sigma", [0.05, 0.3, 1.0, 5.0])
@pytest.mark.parametrize(
    ("weights", "means", "variances"),
    [
        ([0.5, 0.5], [-2.5, 2.5], [1e-2, 1e-2]),
        ([0.2, 0.5, 0.3], [-1.0, 0.0, 2.0], [0.5, 0.01, 0.0]),
        ([0.9, 0.1], [0.0, 0.0], [1.0, 25.0]),
    ],
)
def test_monte_carlo_means_of_a_mixture_equal_quadrature(weights, means, variances, sigma):
    model = GaussianMixtureScore(
        weights, np.asarray(means)[:, None], np.asarray(variances)[:, None, None]
    )
    z = z_scores(model, sigma, mixture_1d_oracle(weights, means, variances, [sigma]), 11)
    assert max(z.values()) <= 4.0, z


@pytest.mark.parametrize("make", ["gaussian", "mixture"])
def test_exact_models_pass_every_law_of_a_score(make, rng):
    model, parts = model_and_parts(rng, 3, 1 if make == "gaussian" else 3, 1e3, 1e3, 2.0)

    def rescaled(a):
        w, mu, S = parts[0], a * parts[1], a**2 * parts[2]
        return GaussianScore(mu[0], S[0]) if make == "gaussian" else GaussianMixtureScore(w, mu, S)

    report = check_score_model(model, model.sample(2000, 3), rescaled=rescaled)
    assert any(check.law.startswith("scale law") for check in report.checks)
    assert model.name == make
    assert isinstance(model, ExactScoreModel)


@pytest.fixture(params=["gaussian", "mixture"])
def small_model(request, rng):
    return model_and_parts(rng, 3, 1 if request.param == "gaussian" else 2, 10.0, 1.0, 1.0)[0]


def outputs(model, y, v, clean):
    moments = vars(model.moments(y, 0.4, clean))
    return {
        "call": model(y, 0.4),
        "jvp": model.jvp(y, 0.4, v)[1],
        "divergence": model.divergence(y, 0.4)[1],
        "log_density": model.log_density(y, 0.4),
        **{key: value for key, value in moments.items() if value is not None},
    }


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_every_library_agrees_with_numpy_in_its_own_dtype(library, dtype, small_model, rng):
    points = rng.standard_normal((3, 6, 3))
    expected = outputs(small_model, *points)
    found = outputs(small_model, *(library(a, dtype) for a in points))
    for key, value in found.items():
        assert library.owns(value, dtype), key
        desired = library(expected[key], dtype)
        near = 1e-12 if dtype == "float64" else 2e-5
        assert_close(value, desired, rtol=near, atol=near, err_msg=key)


def test_parameters_of_every_library_give_the_same_model(library, rng):
    _, (w, mu, S) = model_and_parts(rng, 3, 2, 10.0, 1.0, 1.0)
    y = rng.standard_normal((4, 3))
    for own, plain in (
        (GaussianScore(library(mu[0]), library(S[0])), GaussianScore(mu[0], S[0])),
        (
            GaussianMixtureScore(library(w), library(mu), library(S)),
            GaussianMixtureScore(w, mu, S),
        ),
    ):
        assert_close(own.jvp(y, 0.4, y)[1], plain.jvp(y, 0.4, y)[1], rtol=1e-13)
        draws = own.sample(5, 0)
        assert library.owns(draws)
        assert_close(draws, library(plain.sample(5, 0)), rtol=1e-13)


def factor_model(rng, n=6, r=3, rest=0.3, constant=0, scale=1.0):
    """A Gaussian with one variance off a subspace, and some coordinates without any."""
    basis = np.zeros((n, r))
    basis[: n - constant] = rotation(rng, n - constant)[:, :r]
    mean, variances = scale * rng.standard_normal(n), scale**2 * rng.uniform(0.01, 3.0, r)
    support = np.arange(n) < n - constant
    return GaussianScore.from_factor(mean, basis, variances, scale**2 * rest, support)


FACTORS = [
    {},
    {"n": 40, "r": 7},
    {"rest": 0.0},
    {"rest": 5.0},  # above the variances along the basis
    {"r": 5},
    {"r": 6},
    {"constant": 2},
    {"constant": 3, "rest": 0.0},
]


@pytest.mark.parametrize("sigma", [0.03, 0.4, 5.0])
@pytest.mark.parametrize("options", FACTORS, ids=str)
def test_a_factored_gaussian_equals_the_dense_one(options, sigma, rng):
    model = factor_model(rng, **options)
    dense = GaussianScore(model.mean, model.covariance)
    y, v, clean = rng.standard_normal((3, 9, model.n_features))
    found, expected = (
        {
            "call": m(y, sigma),
            "jvp": m.jvp(y, sigma, v)[1],
            "divergence": m.divergence(y, sigma)[1],
            "log_density": m.log_density(y, sigma),
            **{k: a for k, a in vars(m.moments(y, sigma, clean)).items() if a is not None},
        }
        for m in (model, dense)
    )
    assert found.keys() == expected.keys()
    for key, value in found.items():
        size = np.max(np.abs(expected[key]))
        np.testing.assert_allclose(value, expected[key], rtol=0, atol=1e-10 * size, err_msg=key)


@pytest.mark.parametrize("options", [*FACTORS, None], ids=str)
def test_forms_do_not_depend_on_the_axes(options, rng):
    dense = options is None
    model = small_dense(rng) if dense else factor_model(rng, **options)
    n = model.n_features
    x = model.sample(8, 0)
    x[4:] += rng.standard_normal((4, n))  # off the support, too
    eps = rng.standard_normal((8, 1, n))
    for sigma in (0.05, 2.0):
        turned = rows_under(model, x, eps, sigma)
        plain = form_rows(model, x, eps, sigma)
        np.testing.assert_allclose(turned.values, plain.values, rtol=1e-7, atol=1e-8 * n)
        assert turned.n_products == plain.n_products


def small_dense(rng):
    return GaussianScore(rng.standard_normal(5), covariance(rng, 5, 1e3))


def test_samples_of_a_factored_gaussian_have_its_moments(rng):
    model = factor_model(rng, constant=1)
    x = model.sample(40_000, 1)
    products = (x - model.mean)[:, :, None] * (x - model.mean)[:, None, :]
    for values, exact in ((x, model.mean), (products, model.covariance)):
        error = values.std(0) / np.sqrt(len(x)) + 1e-9  # the last coordinate is constant
        assert np.max(np.abs(values.mean(0) - exact) / error) <= 4.0


def test_factored_gaussians_pass_every_law_of_a_score(rng):
    model = factor_model(rng)
    variances = model._lam

    def rescaled(a):
        return GaussianScore.from_factor(
            a * model.mean, model._Q, a**2 * variances, a**2 * 0.3, np.ones(6, bool)
        )

    check_score_model(model, model.sample(2000, 3), rescaled=rescaled)
    assert isinstance(model, ExactScoreModel)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_factored_gaussians_work_in_every_library(library, dtype, rng):
    model = factor_model(rng, constant=1)
    points = rng.standard_normal((3, 4, 6))
    expected = outputs(model, *points)
    for key, value in outputs(model, *(library(a, dtype) for a in points)).items():
        assert library.owns(value, dtype), key
        near = 1e-12 if dtype == "float64" else 1e-4
        assert_close(value, library(expected[key], dtype), rtol=near, atol=near, err_msg=key)
    x, eps = (library(a, dtype) for a in (points[0], points[1][:, None, :]))
    turned = rows_under(model, x, eps, 0.4).values
    assert library.owns(turned, dtype)


def test_a_factored_gaussian_forms_no_square_matrix(rng):
    n = 200_000
    basis = np.zeros((n, 2))
    basis[:2] = np.eye(2)
    model = GaussianScore.from_factor(np.zeros(n), basis, [2.0, 3.0], 0.5)
    y = rng.standard_normal((2, n))
    trace = model.moments(y, 1.0, y).denoiser_trace
    np.testing.assert_allclose(trace, 2 / 3 + 3 / 4 + (n - 2) / 3)
    assert np.all(np.isfinite(model.log_density(y, 1.0)))
    assert "covariance" not in vars(model)
    assert "covariance" not in vars(pickle.loads(pickle.dumps(model)))


def test_dense_gaussians_keep_their_covariance_in_a_pickle(rng):
    model = small_dense(rng)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.covariance, model.covariance)
    np.testing.assert_array_equal(again(np.ones((1, 5)), 1.0), model(np.ones((1, 5)), 1.0))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"basis": np.eye(2)}, r"basis has shape \(2, 2\), mean has 3 entries and variances 2"),
        ({"basis": np.eye(3)}, r"basis has shape \(3, 3\), mean has 3 entries and variances 2"),
        ({"basis": 2 * np.eye(3)[:, :2]}, "basis has columns that are not orthonormal"),
        ({"variances": [1.0, -1.0]}, "variances has the least entry -1.0 and rest is 0.5"),
        ({"rest": -0.5}, "variances has the least entry 1.0 and rest is -0.5"),
        ({"rest": np.nan}, "rest is nan"),
        ({"support": [1, 1, 0]}, r"support has shape \(3,\) and dtype int64: pass 3 booleans"),
        ({"support": [True, True]}, r"support has shape \(2,\) and dtype bool: pass 3 booleans"),
        ({"support": [True, False, True]}, "support leaves out coordinates in which basis is not"),
    ],
)
def test_factored_gaussians_refuse(change, message):
    given = {"basis": np.eye(3)[:, :2], "variances": [1.0, 2.0], "rest": 0.5} | change
    with pytest.raises(ValueError, match=message):
        GaussianScore.from_factor(np.zeros(3), **given)


def test_single_precision_parameters_may_be_indefinite_by_their_rounding(rng):
    S = covariance(rng, 6, 10.0, rank=2).astype(np.float32)
    assert np.linalg.eigvalsh(S.astype(float))[0] < 0
    moments = GaussianScore(np.zeros(6, np.float32), S).moments(np.ones((1, 6)), 1e-3)
    assert moments.denoiser_trace[0] <= 6.0
    assert GaussianScore(np.zeros(6, np.float32), S).sample(3, 0).dtype == np.float32


def test_integer_parameters_are_floats():
    model = GaussianMixtureScore([1], [[0, 0]], [[[1, 0], [0, 1]]])
    assert model.sample(2, 0).dtype == np.float64
    assert GaussianScore(np.zeros(2, int), np.eye(2, dtype=int)).sample(2, 0).dtype == np.float64


def test_chunks_change_nothing(monkeypatch, rng):
    model, _ = model_and_parts(rng, 3, 4, 10.0, 1.0, 1.0)
    y, v, clean = rng.standard_normal((3, 50, 3))
    whole = outputs(model, y, v, clean)
    monkeypatch.setattr("skfisher.scores.closed.mixture._CHUNK_BUDGET", 7 * 1000)
    for key, value in outputs(model, y, v, clean).items():
        assert_close(value, whole[key], rtol=1e-12, err_msg=key)


def test_no_rows_give_no_rows(small_model):
    y = np.zeros((0, 3))
    assert small_model.jvp(y, 1.0, y)[1].shape == (0, 3)
    assert small_model.moments(y, 1.0, y).residual_form.shape == (0,)


def test_samples_have_the_moments_of_the_model(rng):
    model, (w, mu, S) = model_and_parts(rng, 2, 3, 10.0, 1.0, 2.0)
    x = model.sample(40_000, 1)
    mean = w @ mu
    second = np.einsum("k,kij->ij", w, S + mu[:, :, None] * mu[:, None, :])
    products = x[:, :, None] * x[:, None, :]
    for values, exact in ((x, mean), (products, second)):
        z = (values.mean(0) - exact) / (values.std(0) / np.sqrt(len(x)))
        assert np.max(np.abs(z)) <= 4.0
    np.testing.assert_array_equal(model.sample(10, 1), model.sample(10, 1))


@pytest.mark.parametrize("estimator", [GaussianMixture, BayesianGaussianMixture])
@pytest.mark.parametrize("covariance_type", ["full", "tied", "diag", "spherical"])
def test_from_sklearn_keeps_the_density(estimator, covariance_type, rng):
    X = rng.standard_normal((200, 3)) @ np.diag([1.0, 2.0, 3.0]) + 5 * rng.integers(
        2, size=(200, 1)
    )
    mixture = estimator(n_components=2, covariance_type=covariance_type, random_state=0).fit(X)
    model = GaussianMixtureScore.from_sklearn(mixture)
    # GaussianMixture scores X itself: no noise is the limit of little noise
    if estimator is GaussianMixture:
        np.testing.assert_allclose(
            model.log_density(X, 1e-7), mixture.score_samples(X), rtol=1e-9, atol=1e-9
        )
    full = {
        "full": lambda P: P,
        "tied": lambda P: [P, P],
        "diag": lambda P: [np.diag(p) for p in P],
        "spherical": lambda P: [p * np.eye(3) for p in P],
    }
    precisions = np.asarray(full[covariance_type](mixture.precisions_))
    np.testing.assert_allclose(model.covariances @ precisions, [np.eye(3)] * 2, atol=1e-9)
    np.testing.assert_allclose(model.means, mixture.means_)


def test_from_sklearn_refuses_an_unfitted_mixture():
    with pytest.raises(NotFittedError, match="not fitted yet"):
        GaussianMixtureScore.from_sklearn(GaussianMixture(2))


def test_models_name_their_size(small_model):
    assert "n_features=3" in repr(small_model)
    assert clone(small_model) is small_model


INDEFINITE = [[1.0, 2.0], [2.0, 1.0]]


@pytest.mark.parametrize(
    ("mean", "S", "error", "message"),
    [
        ([0.0, 0.0], np.eye(3), ValueError, r"covariance has shape \(3, 3\) but mean has 2"),
        ([[0.0]], [[1.0]], ValueError, r"mean has shape \(1, 1\): pass .* 1 dimension"),
        ([], [[1.0]], ValueError, r"mean has shape \(0,\): pass a non-empty"),
        ([0.0, np.nan], np.eye(2), ValueError, "mean contains NaN or infinity"),
        ([0.0], [[np.inf]], ValueError, "covariance contains NaN or infinity"),
        ([0.0, 0.0], INDEFINITE, ValueError, "covariance has the negative eigenvalue -1"),
        ([0.0, 0.0], [[1.0, 0.5], [0.4, 1.0]], ValueError, "covariance is not symmetric .* 0.1"),
        ([0.0, 0.0], [[1.0], [0.4, 1.0]], ValueError, "covariance cannot be read as an array"),
        ([1j], [[1.0]], TypeError, "mean has dtype complex128: pass real numbers"),
        (["a"], [[1.0]], TypeError, "mean has dtype <U1: pass real numbers"),
    ],
)
def test_gaussian_refuses(mean, S, error, message):
    with pytest.raises(error, match=message):
        GaussianScore(mean, S)


@pytest.mark.parametrize(
    ("weights", "means", "S", "message"),
    [
        ([1.0], [[0.0], [1.0]], np.ones((2, 1, 1)), r"weights has shape \(1,\) but means has 2"),
        ([0.5, 0.5], [[0.0], [1.0]], np.ones((2, 1)), r"covariances has shape \(2, 1\): pass"),
        ([0.5, 0.5], [[0.0], [1.0]], np.ones((2, 2, 2)), "pass covariances of shape"),
        ([1.5, -0.5], [[0.0], [1.0]], np.ones((2, 1, 1)), "the least entry -0.5"),
        ([0.5, 0.6], [[0.0], [1.0]], np.ones((2, 1, 1)), "weights has the sum 1.1"),
        ([0.5, np.nan], [[0.0], [1.0]], np.ones((2, 1, 1)), "weights contains NaN"),
        ([0.5, 0.5], [[0.0, 0], [1, 0]], [np.eye(2), INDEFINITE], r"covariances\[1\] has the neg"),
    ],
)
def test_mixture_refuses(weights, means, S, message):
    with pytest.raises(ValueError, match=message):
        GaussianMixtureScore(weights, means, S)


def test_points_that_do_not_fit_are_refused(small_model):
    y = np.zeros((4, 3))
    with pytest.raises(ValueError, match=r"y has shape \(4, 2\), the model was built for 3 feat"):
        small_model(y[:, :2], 1.0)
    with pytest.raises(ValueError, match=r"y has shape \(3,\), the model was built for 3 features"):
        small_model.divergence(y[0], 1.0)
    with pytest.raises(ValueError, match=r"v has shape \(2, 3\) but y has shape \(4, 3\)"):
        small_model.jvp(y, 1.0, y[:2])
    with pytest.raises(ValueError, match=r"clean has shape \(2, 3\) but y has shape \(4, 3\)"):
        small_model.moments(y, 1.0, y[:2])
    with pytest.raises(TypeError, match="y is a list: pass an array"):
        small_model([[0.0, 0.0, 0.0]], 1.0)
    with pytest.raises(TypeError, match="y has dtype int64: cast it"):
        small_model.log_density(y.astype(np.int64), 1.0)
    with pytest.raises(ValueError, match=r"sigma is 0\.0"):
        small_model(y, 0.0)
    with pytest.raises(ValueError, match="n_samples is 0: draw at least one"):
        small_model.sample(0)


def test_strict_arrays_pass_the_check_of_a_score_model(small_model):
    X = array_api_strict.asarray(small_model.sample(400, 0))
    assert check_score_model(small_model, X, [0.3, 2.0]).passed
