"""Every form of J and R: its mean under the right model, its error under a wrong one, its share."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import gaussians, mixtures, noise_ratios, rms_scale, seeds

from skfisher.curves import gaussian_curve
from skfisher.forms import (
    EXACT_LIMIT,
    FORMS,
    asymmetry,
    combine,
    form_rows,
    lower_bound,
    stderr_of,
    value_of,
)
from skfisher.scores import GaussianMixtureScore, GaussianScore, KernelScore
from skfisher.scores.wrap import as_score_model
from skfisher.testing import mixture_1d_oracle
from skfisher.traces import pooled_means

E = dict(zip(FORMS, np.eye(len(FORMS)), strict=True))
E["implicit"] = 2 * E["trace"] - E["norm"]
LAW = [0.3, 0.7], [-1.0, 2.0], [0.25, 0.5]
MODEL = GaussianMixtureScore(LAW[0], [[-1.0], [2.0]], [[[0.25]], [[0.5]]])
UNSEEN = 1e-3  # what events of a few in the rows' number may hold of a mean
ONE_STEP = pytest.mark.parametrize("one_step", [True, False])


class Network:
    """A model of which only values and products can be had, as from a network.

    `scale` multiplies its score, a `dtype` rounds it.
    """

    name = "network"

    def __init__(self, model, scale=1.0, dtype=None):
        self.model, self.scale, self.dtype = model, scale, dtype
        self.values = self.products = 0
        if dtype is not None:
            self.precision = float(np.finfo(dtype).eps)

    def __call__(self, y, sigma):
        self.values += len(y)
        if self.dtype is None:
            return self.scale * self.model(y, sigma)
        # as a network does: points, denoiser and score in its own dtype
        y = y.astype(self.dtype)
        denoised = (y + sigma**2 * self.model(y.astype(float), sigma)).astype(self.dtype)
        return ((denoised - y) / self.dtype(sigma**2)).astype(float)

    def jvp(self, y, sigma, v):
        self.products += len(y)
        s, hv = self.model.jvp(y, sigma, v)
        return self.scale * s, self.scale * hv


def draws(model, m, seed, n_draws=1):
    rng = np.random.default_rng(seed)
    x = model.sample(m, seed)
    return x, rng.standard_normal((m, n_draws, x.shape[1]))


def z_scores(values, exact):
    error = np.std(values, axis=0, ddof=1) / math.sqrt(len(values))
    return np.abs(np.mean(values, axis=0) - exact) / np.hypot(error, UNSEEN)


def means_of(j, rho, n):
    """The mean of every form where J is j / t and R is rho / t^2."""
    rate = n - 2 * j + rho
    return dict(zip(FORMS, [j, j, j, j, rho, rate, rho, rate], strict=True))


# -- the right model -----------------------------------------------------------------------------


@pytest.mark.parametrize("form", [*FORMS, "implicit"])
@pytest.mark.parametrize("sigma", [0.1, 0.5, 2.0, 10.0])
def test_form_has_its_stated_mean(form, sigma):
    x, eps = draws(MODEL, 20_000, 1)
    values = form_rows(MODEL, x, eps, sigma).values @ E[form]
    oracle = mixture_1d_oracle(*LAW, [sigma])
    j = sigma**2 * oracle.fisher_information[0]
    rho = sigma**4 * oracle.fisher_information_rate[0]
    exact = {"implicit": j} | means_of(j, rho, 1)
    error = np.std(values, ddof=1) / math.sqrt(len(values))
    assert abs(np.mean(values) - exact[form]) < 4.5 * error + 1e-6 * exact[form]


@settings(max_examples=25)
@given(model=st.one_of(gaussians(), mixtures()), ratio=noise_ratios(), seed=seeds())
def test_forms_of_one_quantity_have_one_mean_in_every_dimension(model, ratio, seed):
    x, eps = draws(model, 4000, seed)
    values = form_rows(model, x, eps, ratio * rms_scale(model)).values
    n = model.n_features
    j = values @ E["implicit"]
    for form in ("trace", "norm", "cross", "denoising"):
        assert z_scores(values @ E[form] - j, 0.0) < 6, form
    rho = values @ E["plug-in rho"]
    assert z_scores(values @ E["path"] - rho, 0.0) < 6
    for form in ("plug-in rate", "residual"):
        assert z_scores(values @ E[form] - (n - 2 * j + rho), 0.0) < 6, form


@pytest.mark.parametrize("sigma", [0.2, 1.0])
def test_forms_of_an_empirical_law_agree_under_its_kernel(sigma):
    rng = np.random.default_rng(0)
    points = rng.standard_normal((30, 2))
    x, eps = points[rng.integers(0, 30, 4000)], rng.standard_normal((4000, 1, 2))
    values = form_rows(KernelScore(points), x, eps, sigma).values
    j, rho = values @ E["trace"], values @ E["plug-in rho"]
    for form, other in {
        "norm": j,
        "denoising": j,
        "path": rho,
        "residual": 2 - 2 * j + rho,
    }.items():
        assert z_scores(values @ E[form] - other, 0.0) < 4.5, form


@pytest.mark.parametrize("kind", ["jvp", "bare"])
def test_probed_forms_have_the_means_of_exact_ones(kind):
    S = np.diag([1.0, 3.0, 0.2])
    model = GaussianScore(np.zeros(3), S)

    class OnlyProducts:
        name = "products"

        def __call__(self, y, sigma):
            return model(y, sigma)

        def jvp(self, y, sigma, v):
            return model.jvp(y, sigma, v)

    given_model = as_score_model(OnlyProducts() if kind == "jvp" else lambda y, s: model(y, s), 3)
    x, eps = draws(model, 4000, 2)
    sigma = 0.8
    forms = form_rows(given_model, x, eps, sigma, n_probes=2)
    truth = gaussian_curve(S, np.asarray([sigma]))
    j, rho = truth.effective_dimension, truth.complexity_penalty
    exact = means_of(3 - j[0], rho[0], 3)
    for form in FORMS:
        assert z_scores(forms.values @ E[form], exact[form]) < 4.5, form
    # two signs of the noise; two probes and one product for the residual each
    assert forms.n_products == 2 * 4000 * (2 + 1)


def test_norms_of_many_features_are_probed_and_their_traces_are_not():
    n = EXACT_LIMIT + 1
    lam = np.linspace(0.1, 3.0, n)
    model = GaussianScore(np.zeros(n), np.diag(lam))
    model.exact_norm_limit = EXACT_LIMIT  # as if its norms were as dear as those of others
    x, eps = draws(model, 2000, 3)
    forms = form_rows(model, x, eps, 1.0)
    truth = gaussian_curve(np.diag(lam), np.asarray([1.0]))
    exact = means_of(truth.fisher_information[0], truth.complexity_penalty[0], n)
    np.testing.assert_allclose(forms.values @ E["trace"], exact["trace"], rtol=1e-10)
    for form in FORMS:
        assert z_scores(forms.values @ E[form], exact[form]) < 4.5, form
    assert np.std(forms.values @ E["plug-in rho"]) > 0
    assert forms.n_products == 2 * 2000 * (1 + 1)


def test_a_row_has_its_forms_whatever_rows_stand_beside_it():
    n = EXACT_LIMIT + 1
    model = GaussianScore(np.zeros(n), np.eye(n))
    x, eps = draws(model, 12, 4, n_draws=2)
    whole = form_rows(model, x, eps, 1.0, stream=(7,)).values
    parts = [
        form_rows(model, x[a:b], eps[a:b], 1.0, stream=(7,), start=a).values
        for a, b in ((0, 5), (5, 12))
    ]
    np.testing.assert_allclose(np.concatenate(parts), whole, rtol=1e-9)


def test_signs_and_draws_of_the_noise_are_averaged():
    x, eps = draws(MODEL, 50, 5, n_draws=2)
    whole = form_rows(MODEL, x, eps, 0.7).values
    np.testing.assert_allclose(form_rows(MODEL, x, -eps, 0.7).values, whole, rtol=1e-12)
    each = [form_rows(MODEL, x, eps[:, [i], :], 0.7).values for i in range(2)]
    np.testing.assert_allclose(np.mean(each, axis=0), whole, rtol=1e-9)


def test_forms_that_were_not_asked_for_are_nan_and_weigh_nothing():
    x, eps = draws(MODEL, 500, 6)
    values = form_rows(MODEL, x, eps, 0.7, with_rate=False).values
    asked = [name in ("trace", "norm", "cross", "denoising") for name in FORMS]
    assert np.all(np.isfinite(values[:, asked]))
    assert np.all(np.isnan(values[:, ~np.asarray(asked)]))
    means, cov = pooled_means(values)
    for one_step in (True, False):
        mixed = combine(means, cov, 1, 500, one_step=one_step, with_rate=False)
        assert math.isfinite(float(value_of(mixed.j, means)))
        assert math.isfinite(stderr_of(mixed.j, cov))
    residual = form_rows(MODEL, x, eps, 0.7, one_step=False).values @ np.abs(E["residual"])
    assert np.all(np.isnan(residual))


def test_models_taken_as_exact_give_j_and_r_for_one_product_a_point():
    model = Network(MODEL)
    x, eps = draws(MODEL, 200, 7)
    for with_rate in (True, False):
        model.values = model.products = 0
        forms = form_rows(model, x, eps, 0.7, one_step=False, with_rate=with_rate)
        assert (model.values, model.products) == (0, 2 * 200)  # two signs of the noise
        assert forms.n_products == 2 * 200
        missing = ["path", "residual"]
        assert np.isnan(forms.values).all(0).tolist() == [name in missing for name in FORMS]
    means, cov = pooled_means(forms.values)
    mixed = combine(means, cov, 1, 200, one_step=False)
    assert mixed.rho @ E["path"] == 0.0
    assert math.isfinite(value_of(mixed.rho, means))
    assert math.isfinite(stderr_of(mixed.rho, cov))
    assert mixed.n_multiples == 4  # of three forms of j, and of the rate's form of rho


def test_fitted_models_that_offer_products_alone_cost_two_and_two_values():
    model = Network(MODEL)
    x, eps = draws(MODEL, 200, 7)
    form_rows(model, x, eps, 0.7, one_step=True)
    assert (model.values, model.products) == (2 * 2 * 200, 2 * 2 * 200)
    model.values = model.products = 0
    form_rows(model, x, eps, 0.7, one_step=True, with_rate=False)
    assert (model.values, model.products) == (0, 2 * 200)


def a_full_rank_mixture(n, k, condition):
    """k components of equal spectrum, each turned its own way, six deviations apart."""
    rng = np.random.default_rng(0)
    spectrum = np.geomspace(1 / condition, 1.0, n)
    turned = [np.linalg.qr(rng.standard_normal((n, n)))[0] for _ in range(k)]
    means = 3 * rng.standard_normal((k, n)) / math.sqrt(n)
    return GaussianMixtureScore(
        rng.dirichlet([5.0] * k), means, [Q * spectrum @ Q.T for Q in turned]
    )


@pytest.mark.parametrize("ratio", [0.1, 0.3, 0.55, 1.0, 1.7, 3.0])
def test_network_in_64_dimensions_gives_r_and_the_rate_to_a_hundredth(ratio):
    model, n, m = a_full_rank_mixture(64, 10, 5.0), 64, 1000
    sigma = ratio * rms_scale(model)
    x, eps = draws(model, m, 1)
    forms = form_rows(Network(model), x, eps, sigma, one_step=False)
    assert forms.n_products <= 2000
    means, cov = pooled_means(forms.values)
    mixed = combine(means, cov, n, m, one_step=False)
    j, rho = value_of(mixed.j, means), value_of(mixed.rho, means) + mixed.rho_constant
    inflate = math.sqrt(m / (m - mixed.n_multiples))
    rho_error = inflate * stderr_of(mixed.rho, cov)
    rate, rate_error = n - 2 * j + rho, inflate * stderr_of(mixed.rho - 2 * mixed.j, cov)
    assert rho_error < 0.01 * rho
    assert rate_error < 0.01 * rate
    x, eps = draws(model, 3000, 2)
    local = model.moments(x + sigma * eps[:, 0, :], sigma)
    for value, error, rows in (
        (rho, rho_error, sigma**4 * local.hessian_squared_norm),
        (rate, rate_error, local.denoiser_squared_norm),
    ):
        spread = math.hypot(error, np.std(rows) / math.sqrt(3000))
        assert abs(value - np.mean(rows)) < 4.5 * spread


@pytest.mark.parametrize(("dtype", "close"), [(np.float32, 1e-3), (np.float16, 0.1)])
def test_path_form_steps_by_the_precision_of_the_model(dtype, close):
    x, eps = draws(MODEL, 4000, 9)
    paths = [
        form_rows(model, x, eps, 0.5).values @ E["path"]
        for model in (Network(MODEL), Network(MODEL, dtype=dtype))
    ]
    assert abs(np.mean(paths[1] - paths[0])) < close * np.mean(paths[0])
    # rounding may not add to the rows' scatter
    assert np.std(paths[1] - paths[0]) < 3 * close * np.std(paths[0])


# -- a wrong model -------------------------------------------------------------------------------


def expected_forms(model, variance, sigma):
    """Means of the forms over X ~ N(0, variance), exactly: they are quadratic in x and eps."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(12)
    weights = weights / weights.sum()
    x, eps = (a.reshape(-1) for a in np.meshgrid(math.sqrt(variance) * nodes, nodes))
    mass = np.outer(weights, weights).reshape(-1)
    return mass @ form_rows(model, x[:, None], eps[:, None, None], sigma).values


ORDERS = {
    "trace": 1,
    "norm": 1,
    "cross": 1,
    "plug-in rho": 1,
    "plug-in rate": 1,
    "implicit": 2,
    "denoising": 2,
    "path": 2,
    "residual": 2,
}


@pytest.mark.parametrize("form", ORDERS)
@pytest.mark.parametrize("sigma", [0.5, 2.0])
@pytest.mark.parametrize("wrong", ["width", "place"])
def test_form_errs_by_its_stated_power_of_the_models_error(form, sigma, wrong):
    variance = 1.5

    def error(h):
        S = variance * (1 + h) if wrong == "width" else variance
        model = GaussianScore(np.asarray([h if wrong == "place" else 0.0]), np.asarray([[S]]))
        truth = gaussian_curve(np.asarray([[variance]]), np.asarray([sigma]))
        j, rho = sigma**2 * truth.fisher_information[0], truth.complexity_penalty[0]
        exact = {"implicit": j} | means_of(j, rho, 1)
        return expected_forms(model, variance, sigma) @ E[form] - exact[form]

    # halving h divides the error by 2 or by 4, up to terms of the next order
    large, small = error(0.02), error(0.01)
    if wrong == "place" and form not in ("norm", "implicit", "denoising", "path", "residual"):
        assert abs(large) < 1e-12  # a shift leaves the Hessian as it is
        return
    order = 2 if wrong == "place" else ORDERS[form]
    assert large / small == pytest.approx(2**order, rel=0.05)
    if form in ("implicit", "denoising"):
        assert large < 0


def mean_over_mixture(model, sigma, size=80):
    """Means of the forms over X of the law `LAW`, by quadrature."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(size)
    weights = weights / weights.sum()
    x = np.concatenate([m + math.sqrt(v) * nodes for m, v in zip(*LAW[1:], strict=True)])
    mass = np.concatenate([p * weights for p in LAW[0]])
    x, eps = (a.reshape(-1) for a in np.meshgrid(x, nodes, indexing="ij"))
    mass = np.outer(mass, weights).reshape(-1)
    return mass @ form_rows(model, x[:, None], eps[:, None, None], sigma).values


@pytest.mark.parametrize("form", ["path", "implicit", "denoising", "trace", "norm"])
@pytest.mark.parametrize("sigma", [0.5, 2.0])
def test_forms_of_a_network_err_by_their_stated_power_of_a_wrong_scale(form, sigma):
    exact = mean_over_mixture(Network(MODEL), sigma) @ E[form]
    # its score is one or two hundredths too small
    large, small = (
        mean_over_mixture(Network(MODEL, scale=1 - h), sigma) @ E[form] - exact
        for h in (0.02, 0.01)
    )
    first = form in ("trace", "norm")
    assert large / small == pytest.approx(2 if first else 4, rel=0.05)


@pytest.mark.parametrize("h", [-0.3, 0.5])
@pytest.mark.parametrize("sigma", [0.5, 2.0])
def test_lower_forms_fall_short_by_the_models_squared_error(h, sigma):
    variance, t = 1.5, sigma**2
    wrong = variance * (1 + h)
    means = expected_forms(GaussianScore(np.zeros(1), np.asarray([[wrong]])), variance, sigma)
    # E|s_theta - s|^2 with both linear in y
    deficit = t * (1 / (wrong + t) - 1 / (variance + t)) ** 2 * (variance + t)
    for form in ("implicit", "denoising"):
        assert means @ E[form] == pytest.approx(t / (variance + t) - deficit, rel=1e-9)
    assert means @ E["cross"] == pytest.approx(means @ E["trace"], rel=1e-9)


# -- the combination -----------------------------------------------------------------------------


def a_covariance(seed, scale=1e-3):
    A = np.random.default_rng(seed).standard_normal((len(FORMS), len(FORMS) + 2))
    # columns of very different size, as at small noise
    spread = 10 ** np.random.default_rng(seed + 1).uniform(-2, 1, len(FORMS))
    return scale * (A * spread[:, None]) @ (A * spread[:, None]).T


@ONE_STEP
@given(seed=seeds(), n=st.integers(1, 8), j=st.floats(0.1, 1.0), excess=st.floats(0.0, 2.0))
def test_combination_keeps_the_means_of_its_forms(one_step, seed, n, j, excess):
    rho = j**2 + excess  # Jensen; at j = 1 without excess the rate is zero
    means = np.asarray([means_of(n * j, n * rho, n)[name] for name in FORMS])
    mixed = combine(means, a_covariance(seed), n, 500.0, one_step=one_step)
    size = 1 + np.abs(mixed.rho).sum() * n
    assert abs(mixed.j @ means - n * j) < 1e-9 * size
    assert abs(mixed.rho @ means + mixed.rho_constant - n * rho) < 1e-9 * size


@ONE_STEP
@given(seed=seeds())
def test_combination_errs_no_more_than_its_best_form(one_step, seed):
    means = np.asarray([means_of(1.0, 0.5, 2)[name] for name in FORMS])
    cov = a_covariance(seed)
    mixed = combine(means, cov, 2, 500.0, one_step=one_step)
    names = ("implicit", "denoising") if one_step else ("trace", "norm", "cross")
    assert stderr_of(mixed.j, cov) <= min(stderr_of(E[name], cov) for name in names) * (1 + 1e-9)

    def relative(rho):
        at = dict(zip(FORMS, means, strict=True))
        return (stderr_of(rho, cov) / at["plug-in rho"]) ** 2 + (
            stderr_of(rho - 2 * mixed.j, cov) / at["plug-in rate"]
        ) ** 2

    starts = (
        [E["path"], E["residual"] + 2 * mixed.j]
        if one_step
        else [E["plug-in rho"], E["path"], E["plug-in rate"] + 2 * mixed.j]
    )
    assert relative(mixed.rho) <= min(map(relative, starts)) * (1 + 1e-9)


def test_fitted_models_enter_by_second_order_forms_alone():
    means = np.asarray([means_of(1.0, 0.5, 2)[name] for name in FORMS])
    for seed in range(20):
        mixed = combine(means, a_covariance(seed), 2, 500.0, one_step=True)
        for rows in (mixed.j, mixed.rho):
            # trace and norm only as 2 trace - norm
            assert rows @ E["trace"] == pytest.approx(-2 * (rows @ E["norm"]), abs=1e-12)
            for name in ("cross", "plug-in rho", "plug-in rate"):
                assert rows @ E[name] == 0.0


def test_combination_names_the_shares_of_its_forms():
    means = np.asarray([means_of(1.0, 0.5, 2)[name] for name in FORMS])
    cov = np.diag([1.0, 1.0, 1.0, 5.0, 1.0, 1.0, 1.0, 1.0]) * 1e-4
    # implicit 2 trace - norm has variance 5 and denoising 5, independently: half and half
    assert combine(means, cov, 2, 1e9, one_step=True).text == "0.50 implicit + 0.50 denoising"
    cov[0, 0] = 0.0
    assert combine(means, cov, 2, 1e9, one_step=False).text == "1.00 trace"


def test_lower_bound_takes_the_better_of_its_forms():
    means = np.asarray([means_of(1.0, 0.5, 2)[name] for name in FORMS])
    cov = np.diag([1e-4] * len(FORMS))
    cov[FORMS.index("denoising"), FORMS.index("denoising")] = 1.0
    value, error, shares = lower_bound(means, cov, 1e6)
    assert value == pytest.approx(1.0)
    assert error == pytest.approx(math.sqrt(5e-4), rel=1e-3)
    assert shares @ E["denoising"] == pytest.approx(5e-4, rel=0.01)


@pytest.mark.parametrize(
    ("sigma", "best", "other"), [(0.03, "implicit", "denoising"), (20.0, "denoising", "implicit")]
)
def test_forms_of_least_error_change_with_the_noise_and_the_combination_follows(sigma, best, other):
    x, eps = draws(MODEL, 4000, 8)
    means, cov = pooled_means(form_rows(MODEL, x, eps, sigma).values)
    mixed = combine(means, cov, 1, 4000, one_step=True)
    assert stderr_of(mixed.j, cov) <= stderr_of(E[best], cov) * (1 + 1e-9)
    assert 10 * stderr_of(E[best], cov) < stderr_of(E[other], cov)


# -- the asymmetry -------------------------------------------------------------------------------


class Linear:
    """A score whose Jacobian is one matrix everywhere."""

    def __init__(self, H):
        self.H = H

    def both(self, y, sigma, v):
        return y @ self.H.T, v @ self.H.T, v @ self.H


def test_asymmetry_is_the_antisymmetric_share_of_the_jacobian():
    rng = np.random.default_rng(0)
    S, K = rng.standard_normal((2, 5, 5))
    S, K = S + S.T, K - K.T
    x, eps = rng.standard_normal((400, 5)), rng.standard_normal((400, 1, 5))
    found = asymmetry(Linear(S + 0.3 * K), x, eps, 0.7, max_rows=400)
    exact = 0.09 * np.sum(K**2) / (np.sum(S**2) + 0.09 * np.sum(K**2))
    assert abs(found.share - exact) < 4.5 * found.stderr
    assert 0 < found.stderr < 0.1 * exact
    assert found.n_rows == 400
    assert asymmetry(Linear(S), x, eps, 0.7).share == pytest.approx(0.0, abs=1e-28)
    assert asymmetry(Linear(K), x, eps, 0.7).share == pytest.approx(1.0)
    assert asymmetry(Linear(0 * S), x, eps, 0.7).share == 0.0


def test_asymmetry_is_measured_on_few_rows_and_where_it_can_be():
    x, eps = np.zeros((500, 2)), np.ones((500, 1, 2))
    assert asymmetry(Linear(np.eye(2)), x, eps, 0.7).n_rows == 128

    class Backwards(Linear):
        def both(self, y, sigma, v):
            raise NotImplementedError("no reverse mode")

    for model in (Backwards(np.eye(2)), MODEL):
        found = asymmetry(model, x, eps, 0.7)
        assert math.isnan(found.share)
        assert found.n_rows == 0
