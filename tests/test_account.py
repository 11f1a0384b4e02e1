"""The account along the noise: zero for rigid maps, known answers, exact Gaussians, marks."""

import time

import numpy as np
import pytest
from strategies import rotation

from skfisher._backend.moments import SharedRows, covariance_traces, posteriors
from skfisher.account import (
    QUANTITIES,
    TERMS,
    AccountLimits,
    dominant,
    fisher_rate_account,
    inputs,
    worst_samples,
)
from skfisher.account.channels import log_map
from skfisher.testing import assert_close

LIMIT = AccountLimits().effective_sample_size
THREE = ("data", "tangential", "encoder")


def z_score(terms, name, expected):
    return (getattr(terms, name) - expected) / getattr(terms, f"{name}_stderr")


def scale_of(pushforward):
    return float(np.exp(np.mean(np.log(np.linalg.svd(pushforward, compute_uv=False)))))


def linear_case(X, A, n_anchors, **options):
    """The account of z = A x on data that fill their space."""
    n, B = X.shape[1], np.tile(A, (n_anchors, 1, 1))
    return fisher_rate_account(
        X,
        X @ A.T,
        anchors=np.arange(n_anchors),
        basis=np.tile(np.eye(n), (n_anchors, 1, 1)),
        pushforward=B,
        **{"scale": scale_of(A), **options},
    )


def circle_at(angle, where):
    """A unit circle with tangents and second form at some of its points."""
    X = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    U = np.stack([-X[where, 1], X[where, 0]], axis=1)[:, :, None]
    return X, U, -X[where][:, :, None, None]


def sphere_case(rng, n_rows=400, n_anchors=20):
    """A unit sphere, rotated into five dimensions, with tangents and second form."""
    points = rng.normal(size=(n_rows, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    turn = rotation(rng, 5)[:, :3]
    tangents = np.stack([np.linalg.svd(x[None, :])[2][1:].T for x in points[:n_anchors]])
    U = turn @ tangents
    X = points @ turn.T
    II = -X[:n_anchors, :, None, None] * np.eye(2)
    return X, U, II


def test_a_scaled_rigid_map_of_curved_data_gives_zero_in_every_library(library, rng):
    X, U, II = sphere_case(rng)
    R = 3.0 * np.linalg.qr(rng.normal(size=(7, 5)))[0]
    anchors = np.arange(len(U))
    account = fisher_rate_account(
        library(X),
        library(X @ R.T + 5.0),
        anchors=anchors,
        basis=library(U),
        pushforward=library(R @ U),
        second_form=library(II),
        scale=3.0,
        noise_levels=[0.1, 0.3, 1.0],
    )
    for quantity in QUANTITIES:
        terms = getattr(account, quantity)
        assert library.owns(terms.encoder)
        assert max(abs(float(x)) for x in terms.tangential) < 1e-10
        assert max(abs(float(x)) for x in terms.encoder) < 1e-10
        assert min(abs(float(x)) for x in terms.data) > 1e-4  # the data's own curvature stays
    assert account.complexity_penalty.dimension == 2.0


def test_a_rigid_map_of_flat_data_leaves_no_term_at_all(rng):
    X = rng.normal(size=(500, 3)) @ rotation(rng, 6)[:3]
    U = np.tile(np.linalg.svd(X - X.mean(axis=0))[2][:3].T, (30, 1, 1))
    R = 0.2 * rotation(rng, 6)[:4]
    R = 0.2 * np.linalg.qr((R @ U[0]) / 0.2)[0] @ U[0].T  # rigid on the hull alone
    account = fisher_rate_account(
        X, X @ R.T, anchors=np.arange(30), basis=U, pushforward=R @ U, scale=0.2,
        noise_levels=[0.9, 1.8],
    )  # fmt: skip
    for quantity in QUANTITIES:
        terms = getattr(account, quantity)
        assert np.all(terms.data == 0.0)
        assert np.max(np.abs(terms.tangential)) < 1e-10
        assert np.max(np.abs(terms.encoder)) < 1e-10
        assert np.all(np.isnan(terms.share))
    assert dominant(account) == ("none", "none")
    assert account.complexity_penalty.dimension == -2.0


def test_a_rigid_map_in_many_dimensions_goes_through_gram_matrices_to_the_same_zero(rng):
    X = np.zeros((300, 150))
    X[:, :2] = rng.normal(size=(300, 2))
    X[:, 2] = 0.3 * X[:, 0] ** 2
    turn, other = rotation(rng, 150), rotation(rng, 150)
    U = np.zeros((6, 150, 2))
    slope = 0.6 * X[:6, 0]
    U[:, 0, 0], U[:, 2, 0] = 1 / np.hypot(1, slope), slope / np.hypot(1, slope)
    U[:, 1, 1] = 1.0
    account = fisher_rate_account(
        X @ turn.T, X @ other.T, anchors=np.arange(6), basis=turn @ U, pushforward=other @ U,
        scale=1.0, noise_levels=[0.05, 0.2, 1.0],
    )  # fmt: skip
    for quantity in QUANTITIES:
        terms = getattr(account, quantity)
        assert np.max(np.abs(terms.per_sample[:, :, 1:])) < 1e-10


def test_unrolling_a_circle_moves_half_of_t_from_the_data_to_the_encoder():
    angle = np.linspace(-0.9 * np.pi, 0.9 * np.pi, 1000)
    where = np.flatnonzero(np.abs(angle) < 1.6)
    X, U, II = circle_at(angle, where)
    sigma = np.asarray([0.09, 0.12])
    account = fisher_rate_account(
        X, angle[:, None], anchors=where, basis=U, pushforward=np.ones((len(where), 1, 1)),
        second_form=II, scale=1.0, noise_levels=sigma, n_draws=30,
    )  # fmt: skip
    terms, t = account.effective_dimension, sigma**2
    assert np.all(terms.data_stderr < 0.02 * t)
    # the next order of d_eff - 1 on a circle is t^2
    assert np.all(np.abs(terms.data - t / 2) < 4 * terms.data_stderr + t**2)
    assert np.all(np.abs(terms.encoder + t / 2) < 4 * terms.encoder_stderr + t**2)
    assert np.max(np.abs(terms.tangential)) < 1e-12
    assert_close(terms.channels[:, [0, 2, 3]], np.ones((2, 3)), rtol=1e-9)
    # at first order the rate moves by t and t^2 R not at all
    rate, penalty = account.mmse_rate, account.complexity_penalty
    assert np.all(np.abs(rate.data - t) < 4 * rate.data_stderr + 4 * t**2)
    assert np.all(np.abs(penalty.data) < 4 * penalty.data_stderr + 4 * t**2)
    assert account.valid.all()
    assert set(dominant(account)) <= {"data curvature", "encoder curvature"}


def ellipse_remainder(a, b):
    """What a linear map of a circle leaves in the encoder term of d_eff, in units of t.

    d_eff of a curve with density rho along its length is 1 + t E[kappa^2 / 2 - (log rho)'^2] + ...;
    for the ellipse c^2 (a^4 + 6 a^2 b^2 + b^4) / (16 a^3 b^3) with c = (a + b) / 2.
    """
    return (a + b) ** 2 * (a**4 + 6 * a**2 * b**2 + b**4) / (64 * a**3 * b**3) - 0.5


def test_squeezing_a_circle_to_an_ellipse_leaves_a_remainder_to_the_encoder():
    assert ellipse_remainder(1.0, 1.0) == 0.0
    assert ellipse_remainder(1.45, 1.0) == pytest.approx(0.056, abs=2e-3)
    angle = np.arange(800) / 800 * 2 * np.pi
    X, U, II = circle_at(angle, np.arange(800))
    A = np.diag([1.8, 1.0])
    sigma = np.asarray([0.06])
    account = fisher_rate_account(
        X, X @ A, anchors=np.arange(800), basis=U, pushforward=A @ U, second_form=II,
        scale=scale_of(A @ U), noise_levels=sigma, n_draws=100,
    )  # fmt: skip
    assert account.scale == pytest.approx(1.4, rel=1e-9)
    terms, t = account.effective_dimension, sigma[0] ** 2
    found, error = terms.encoder[0] / t, terms.encoder_stderr[0] / t
    assert error < ellipse_remainder(1.8, 1.0) / 4  # small enough to tell it from nothing
    assert abs(found - ellipse_remainder(1.8, 1.0)) < 4 * error + 10 * t
    assert found > 3 * error
    assert abs(terms.tangential[0]) < 1e-10


def spectrum_sums(values, t):
    share = values / (values + t)
    return np.sum(share), np.sum(share**2)


@pytest.mark.parametrize("n", [2, 3, 4])
def test_channels_agree_with_exact_gaussians_under_linear_maps(n):
    values = np.linspace(1.0, 0.4, n)
    stretch = np.geomspace(0.6, 1.8, n)
    sigma = np.asarray([0.5, 0.8, 1.3])
    d_eff, rate, terms_d, terms_r = [], [], [], []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        X = rng.normal(size=(1500, n)) * np.sqrt(values)
        A = rotation(rng, n + 1)[:, :n] * stretch
        account = linear_case(X, A, 200, noise_levels=sigma, random_state=seed)
        assert account.valid.all()
        for terms in (account.effective_dimension, account.mmse_rate):
            assert np.all(terms.data == 0.0)
            assert np.max(np.abs(terms.encoder)) < 1e-10
        d_eff.append(account.effective_dimension.channels[:, [1, 3]])
        rate.append(account.mmse_rate.channels[:, [1, 3]])
        terms_d.append(account.effective_dimension.tangential)
        terms_r.append(account.mmse_rate.tangential)
    c2 = account.scale**2
    exact = np.asarray(
        [[spectrum_sums(values, t), spectrum_sums(values * stretch**2, c2 * t)] for t in sigma**2]
    )
    for found, expected in (
        (d_eff, exact[:, :, 0]),
        (rate, exact[:, :, 1]),
        (terms_d, exact[:, 1, 0] - exact[:, 0, 0]),
        (terms_r, exact[:, 1, 1] - exact[:, 0, 1]),
    ):
        mean, error = np.mean(found, axis=0), np.std(found, axis=0, ddof=1) / np.sqrt(5)
        # four degrees of freedom; what the posterior's few rows bias is below 1 % of n
        assert np.all(np.abs(mean - expected) < 6 * error + 0.01 * n)


@pytest.mark.parametrize(
    ("n", "n_rows", "sigma"), [(1, 300, 0.18), (2, 500, 0.39), (3, 1500, 0.4), (4, 1500, 0.54)]
)
def test_at_the_limit_few_rows_bias_channels_by_5_percent_and_terms_by_1_percent_of_k(
    n, n_rows, sigma
):
    stretch = np.geomspace(0.5, 2.0, n) if n > 1 else np.asarray([2.0])
    found = []
    for seed in range(8):
        X = np.random.default_rng(seed).normal(size=(n_rows, n))
        account = linear_case(
            X, np.diag(stretch), 150, noise_levels=[sigma], n_draws=4, random_state=seed
        )
        d_eff, rate = account.effective_dimension, account.mmse_rate
        found.append([*d_eff.channels[0, [1, 3]], *rate.channels[0, [1, 3]]])
    ess = float(account.effective_sample_size[0])
    assert LIMIT <= ess < 1.5 * LIMIT  # the experiment is about the limit
    c2 = account.scale**2
    data, latent = spectrum_sums(np.ones(n), sigma**2), spectrum_sums(stretch**2, c2 * sigma**2)
    exact = np.asarray([data[0], latent[0], data[1], latent[1]])
    mean, error = np.mean(found, axis=0), np.std(found, axis=0, ddof=1) / np.sqrt(8)
    assert np.all(np.abs(mean - exact) < np.maximum(0.05 * exact, 2 * error))
    difference = np.asarray(found) @ [[-1, 0], [1, 0], [0, -1], [0, 1]]
    bias = difference.mean(axis=0) - [latent[0] - data[0], latent[1] - data[1]]
    error = difference.std(axis=0, ddof=1) / np.sqrt(8)
    assert np.all(np.abs(bias) < np.maximum(0.01 * n, 2 * error))


def test_below_the_limit_the_bias_is_larger_and_marked():
    X = np.random.default_rng(0).normal(size=(500, 3))
    account = linear_case(X, np.eye(3), 200, noise_levels=[0.25, 0.8])
    exact = np.asarray([spectrum_sums(np.ones(3), t)[0] for t in (0.0625, 0.64)])
    bias = account.effective_dimension.channels[:, 1] / exact - 1
    assert bias[0] < -0.1
    assert list(account.valid) == [False, True]
    assert "rows (median), fewer than 50" in account.reasons[0]
    assert dominant(account) == ("unknown", "none")


def ridge(rng, a, w, n_anchors):
    X = rng.normal(size=(3000, 2))
    Z = np.column_stack([X, a * np.sin(w * X[:, 0])])
    B = np.tile(np.eye(3)[:, :2], (n_anchors, 1, 1))
    B[:, 2, 0] = a * w * np.cos(w * X[:n_anchors, 0])
    return X, Z, B


def test_a_fine_ridge_raises_the_effective_dimension_and_lowers_its_part_of_the_rate(rng):
    X, Z, B = ridge(rng, 0.2, 9.0, 300)
    account = fisher_rate_account(
        X, Z, anchors=np.arange(300), basis=np.tile(np.eye(2), (300, 1, 1)), pushforward=B,
        scale=scale_of(B), noise_levels=[0.22], n_draws=4,
    )  # fmt: skip
    d_eff, penalty = account.effective_dimension, account.complexity_penalty
    assert d_eff.encoder[0] > 0.15 > 10 * d_eff.encoder_stderr[0]
    assert penalty.encoder[0] < -0.25 < -10 * penalty.encoder_stderr[0]
    assert d_eff.channels[0, 1] < 1.95 < 2.0 < d_eff.channels[0, 3]
    assert dominant(account) == dominant(account, "complexity_penalty") == ("encoder curvature",)
    assert abs(account.mmse_rate.encoder[0]) < 0.4 * d_eff.encoder[0]  # the rate alone is blind
    assert np.all(d_eff.data == 0.0)


def test_the_account_adds_up(rng):
    X, U, II = sphere_case(rng)
    Z = np.tanh(X @ rng.normal(size=(5, 3)))
    B = rng.normal(size=(20, 3, 2))
    account = fisher_rate_account(
        X, Z, anchors=np.arange(20), basis=U, pushforward=B, second_form=II, scale=0.7,
        noise_levels=[0.2, 1.0, 3.0],
    )  # fmt: skip
    for quantity in QUANTITIES:
        terms = getattr(account, quantity)
        step = terms.channels[:, 3] - terms.channels[:, 0]
        assert_close(terms.dimension + sum(getattr(terms, x) for x in THREE), step, rtol=1e-12,
                     atol=1e-12)  # fmt: skip
        assert_close(terms.share.sum(axis=1), np.ones(3), rtol=1e-12)
        assert_close(terms.per_sample.mean(axis=0)[:, 2], terms.encoder, rtol=1e-12)
    d_eff, rate = account.effective_dimension.channels, account.mmse_rate.channels
    n = np.asarray([5, 5, 3, 3])
    assert_close(account.complexity_penalty.channels, rate - 2 * d_eff + n, rtol=1e-12)


def test_unit_and_origin_of_either_space_do_not_matter(rng):
    X, Z, B = ridge(rng, 0.3, 3.0, 40)
    X, Z = X[:600], Z[:600]
    U = np.tile(np.eye(2), (40, 1, 1))
    sigma = np.asarray([0.3, 1.0])
    options = {"anchors": np.arange(40), "basis": U}
    first = fisher_rate_account(X, Z, pushforward=B, scale=1.2, noise_levels=sigma, **options)
    other = fisher_rate_account(
        1e3 * X + 50.0, 1e-2 * Z - 3.0, pushforward=1e-5 * B, scale=1.2e-5,
        noise_levels=1e3 * sigma, **options,
    )  # fmt: skip
    for quantity in QUANTITIES:
        one, two = getattr(first, quantity), getattr(other, quantity)
        assert_close(two.per_sample, one.per_sample, rtol=1e-8, atol=1e-9)


def test_rotations_of_either_space_do_not_matter(rng):
    X, Z, B = ridge(rng, 0.3, 3.0, 250)
    sigma = [0.4, 1.0]
    turn, other = rotation(rng, 2), rotation(rng, 3)
    U = np.tile(np.eye(2), (250, 1, 1))
    options = {"anchors": np.arange(250), "scale": 1.2, "noise_levels": sigma, "n_draws": 4}
    first = fisher_rate_account(X, Z, basis=U, pushforward=B, **options)
    turned = fisher_rate_account(
        X @ turn.T, Z @ other.T, basis=turn @ U, pushforward=other @ B, random_state=1, **options
    )
    for quantity in QUANTITIES:
        one, two = getattr(first, quantity), getattr(turned, quantity)
        for name in ("tangential", "encoder"):
            gap = getattr(two, name) - getattr(one, name)
            error = np.hypot(getattr(two, f"{name}_stderr"), getattr(one, f"{name}_stderr"))
            assert np.all(np.abs(gap) < 4 * error)


@pytest.mark.parametrize("n_features", [3, 60, 200])
def test_chunks_and_thin_hulls_change_nothing(rng, monkeypatch, n_features):
    flat = rng.normal(size=(150, 2))
    X = np.column_stack([flat, 0.2 * flat[:, 0] ** 2]) @ rotation(rng, n_features)[:3]
    U = np.tile(np.linalg.qr(X[:30].T)[0][:, :2], (8, 1, 1))
    B = rng.normal(size=(8, 40, 2))
    Z = np.tanh(X @ rng.normal(size=(n_features, 40)))
    options = {
        "anchors": np.arange(8), "basis": U, "pushforward": B, "scale": 1.3,
        "noise_levels": [0.05, 0.3, 1.0, 4.0], "n_draws": 3,
    }  # fmt: skip
    first = fisher_rate_account(X, Z, **options)
    small = fisher_rate_account(X, Z, memory_budget=2**15, **options)
    monkeypatch.setattr(inputs, "_thin_hull", lambda X, U: None)
    whole = fisher_rate_account(X, Z, **options)
    for quantity in QUANTITIES:
        one = getattr(first, quantity).per_sample
        assert_close(getattr(small, quantity).per_sample, one, rtol=1e-10, atol=1e-10)
        assert_close(getattr(whole, quantity).per_sample, one, rtol=1e-10, atol=1e-10)


def test_every_library_gives_the_same_numbers(library, rng):
    X = rng.normal(size=(60, 2)) @ rng.normal(size=(2, 50)) + 0.1 * rng.normal(size=(60, 50))
    U = np.linalg.qr(rng.normal(size=(4, 50, 2)))[0]
    B = rng.normal(size=(4, 40, 2))
    Z = np.tanh(0.2 * X @ rng.normal(size=(50, 40)))
    II = rng.normal(size=(4, 50, 2, 2))
    options = {"scale": 0.8, "noise_levels": [0.3, 3.0], "sample_weight": np.arange(60) + 1.0}
    given = {"basis": U, "pushforward": B, "second_form": II + np.swapaxes(II, 2, 3)}
    here = fisher_rate_account(X, Z, anchors=np.arange(4), **given, **options)
    there = fisher_rate_account(
        library(X), library(Z), anchors=np.arange(4),
        **{name: library(values) for name, values in given.items()}, **options,
    )  # fmt: skip
    assert library.owns(there.effective_sample_size)
    for quantity in QUANTITIES:
        found = getattr(there, quantity).per_sample
        assert library.owns(found)
        expected = library(getattr(here, quantity).per_sample)
        assert_close(found, expected, rtol=1e-9, atol=1e-9)
    assert dominant(there) == dominant(here)
    rows = worst_samples(there, "encoder curvature", n_samples=2)
    assert [
        [int(i) for i in row] for row in worst_samples(here, "encoder curvature", n_samples=2)
    ] == [[int(rows[i, j]) for j in range(2)] for i in range(2)]


def test_every_route_to_the_traces_agrees_with_the_covariance(rng):
    for size, n_rows in ((3, 50), (40, 1000), (70, 90)):
        points = rng.normal(size=(n_rows, size))
        P = posteriors(
            rng.normal(size=(5, n_rows)), np.sum(points**2, axis=1), np.zeros(n_rows),
            np.asarray([0.5, 2.0, 20.0]),
        ).reshape(-1, n_rows)  # fmt: skip
        covariances = [np.cov(points.T, aweights=p, ddof=0) for p in P]
        trace = np.asarray([np.trace(C) for C in covariances])
        squared = np.asarray([np.sum(C**2) for C in covariances])
        for budget in (2**28, 2**14):
            shared = SharedRows(points, budget)
            shared.add(P[:4])
            shared.add(P[4:])
            for found in (covariance_traces(points, P, budget), shared.traces()):
                assert_close(found[0], trace, rtol=1e-9, atol=1e-11)
                assert_close(found[1], squared, rtol=1e-9, atol=1e-11)


def test_log_maps_are_exact_on_spheres_and_to_fourth_order_on_cylinders(rng):
    X, U, II = sphere_case(rng)
    x = X - X[0]
    v, beyond = log_map(x @ U[0], np.sum(x**2, axis=1), II[0])
    assert_close(np.linalg.norm(v, axis=1), np.arccos(np.clip(X @ X[0], -1, 1)), rtol=1e-6,
                 atol=1e-7)  # fmt: skip
    assert not beyond.any()
    errors = []
    for size in (0.2, 0.1):
        angle, height = size * np.cos(0.7), size * np.sin(0.7)
        x = np.asarray([[np.cos(angle) - 1.0, np.sin(angle), height]])
        bend = np.zeros((3, 2, 2))
        bend[0, 0, 0] = -1.0
        v, _ = log_map(x[:, 1:], np.sum(x**2, axis=1), bend)
        errors.append(abs(np.linalg.norm(v) - size))
    assert errors[0] < 1e-5
    assert errors[0] / errors[1] > 25  # the error is of fifth order


def test_noise_beyond_the_chart_is_marked(rng):
    X, U, II = sphere_case(rng)
    options = {"anchors": np.arange(20), "basis": U, "pushforward": U, "scale": 1.0}
    account = fisher_rate_account(
        X, X, second_form=4.0 * II, noise_levels=[0.12, 1.0],
        limits=AccountLimits(effective_sample_size=5.0), **options,
    )  # fmt: skip
    assert list(account.valid) == [True, False]
    assert "lies beyond the chart" in account.reasons[1]


def test_posteriors_on_one_row_give_nan_and_say_why(rng):
    X = rng.normal(size=(100, 3))
    account = linear_case(X, np.eye(3), 50, noise_levels=[1e-3, 1.0])
    assert np.isnan(account.mmse_rate.channels[0]).all()
    assert np.isnan(account.mmse_rate.share[0]).all()
    assert np.isfinite(account.mmse_rate.channels[1]).all()
    assert "rests on one of the 100 distinct rows" in account.reasons[0]


def test_duplicated_rows_are_one_row(rng):
    X = rng.normal(size=(40, 3))
    account = linear_case(np.tile(X, (50, 1)), np.eye(3), 40, noise_levels=[1e-3, 1.0])
    once = linear_case(X, np.eye(3), 40, noise_levels=[1e-3, 1.0])
    assert not account.valid[0]
    assert_close(account.effective_sample_size, once.effective_sample_size, rtol=1e-10)
    assert_close(
        account.mmse_rate.per_sample[:, 1:], once.mmse_rate.per_sample[:, 1:], rtol=1e-10,
        atol=1e-10,
    )  # fmt: skip


def test_integer_weights_are_repetitions(rng):
    X = rng.normal(size=(80, 2))
    A = np.diag([1.0, 3.0])
    weights = np.where(np.arange(80) < 20, 1.0, 3.0)
    weighted = linear_case(X, A, 20, noise_levels=[0.5, 2.0], sample_weight=weights)
    repeated = linear_case(np.concatenate([X, X[20:], X[20:]]), A, 20, noise_levels=[0.5, 2.0])
    assert_close(
        weighted.mmse_rate.per_sample, repeated.mmse_rate.per_sample, rtol=1e-10, atol=1e-10
    )


def test_weights_of_anchors_weigh_their_terms(rng):
    X = rng.normal(size=(60, 2))
    weights = np.where(np.arange(60) < 10, 0.0, 1.0)
    account = linear_case(X, np.diag([1.0, 3.0]), 20, noise_levels=[1.0], sample_weight=weights)
    terms = account.mmse_rate
    assert_close(terms.tangential, terms.per_sample[10:].mean(axis=0)[:, 1], rtol=1e-12)


def test_constant_columns_and_a_lost_direction_are_no_error(rng):
    X = np.column_stack([rng.normal(size=(300, 2)), np.full(300, 7.0)])
    U = np.tile(np.eye(3)[:, :2], (50, 1, 1))
    A = np.asarray([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    account = fisher_rate_account(
        X, X @ A.T, anchors=np.arange(50), basis=U, pushforward=A @ U, scale=1.0,
        noise_levels=[0.7],
    )  # fmt: skip
    assert np.all(account.mmse_rate.data == 0.0)
    assert np.abs(account.mmse_rate.encoder[0]) < 1e-10
    assert account.mmse_rate.tangential[0] < -0.3  # the lost direction's share of the rate
    assert dominant(account) == ("tangential distortion",)


def test_worst_samples_are_those_with_the_largest_terms(rng):
    X, Z, B = ridge(rng, 0.2, 9.0, 100)
    rows = np.arange(100)
    account = fisher_rate_account(
        X, Z, anchors=rows, basis=np.tile(np.eye(2), (100, 1, 1)), pushforward=B,
        scale=scale_of(B), noise_levels=[0.22, 1.0],
    )  # fmt: skip
    worst = worst_samples(account, "encoder curvature", n_samples=3)
    size = np.abs(account.mmse_rate.per_sample[:, :, TERMS.index("encoder curvature")])
    for level in range(2):
        assert set(worst[level]) == set(np.argsort(size[:, level])[-3:])
    assert worst_samples(account, TERMS[0], n_samples=1000).shape == (2, 100)
    with pytest.raises(ValueError, match=r"term is 'warp': pass one of"):
        worst_samples(account, "warp")
    with pytest.raises(ValueError, match=r"quantity is 'mmse': pass one of"):
        dominant(account, "mmse")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"anchors": [0]}, r"anchors has shape \(1,\) .*at least two row numbers"),
        ({"anchors": [0.0, 1.0]}, r"anchors has shape .*dtype float64"),
        ({"anchors": [0, 30]}, r"anchors ranges from 0 to 30, but X has 30 rows"),
        ({"basis": np.ones((2, 3))}, r"basis has shape \(2, 3\), but there are 2 anchors"),
        ({"basis": np.ones((2, 3, 2))}, r"basis misses orthonormal columns by 3"),
        ({"pushforward": np.ones((2, 3, 2))}, r"pushforward has shape \(2, 3, 2\): pass shape"),
        ({"pushforward": np.full((2, 2, 2), np.nan)}, r"pushforward contains NaN .*2 of 2 rows"),
        ({"second_form": np.ones((2, 3, 2))}, r"second_form has shape"),
        ({"scale": float("nan")}, r"scale is nan: pass the positive c"),
        ({"noise_levels": [1.0, 0.5]}, r"noise_levels"),
        ({"n_draws": 0}, r"n_draws is 0: pass a whole number"),
        ({"sample_weight": [0.0, 0.0] + [1.0] * 28}, r"sample_weight is zero at every anchor"),
        ({"Z": np.ones((29, 2))}, r"Z has 29 rows but X has 30"),
    ],
)
def test_what_does_not_fit_is_refused(rng, change, message):
    X = rng.normal(size=(30, 3))
    given = {
        "X": X, "Z": X[:, :2], "anchors": [0, 1], "basis": np.tile(np.eye(3)[:, :2], (2, 1, 1)),
        "pushforward": np.tile(np.eye(2), (2, 1, 1)), "scale": 1.0, "noise_levels": [0.5, 1.0],
    } | change  # fmt: skip
    with pytest.raises(ValueError, match=message):
        fisher_rate_account(given.pop("X"), given.pop("Z"), **given)


@pytest.mark.slow
def test_two_thousand_rows_of_784_features_take_under_ten_seconds(rng):
    X = np.tanh(rng.normal(size=(2000, 16)) @ rng.normal(size=(16, 784)) / 2)
    M = np.linalg.qr(rng.normal(size=(784, 16)))[0]
    Z = np.tanh(0.3 * X @ M)
    U = np.linalg.qr(rng.normal(size=(200, 784, 16)))[0]
    B = np.swapaxes(M * 0.3 * (1 - Z[:200, None, :] ** 2), 1, 2) @ U
    start = time.process_time()
    fisher_rate_account(
        X, Z, anchors=np.arange(200), basis=U, pushforward=B, scale=scale_of(B),
        noise_levels=X.std() * np.geomspace(0.05, 5, 21),
    )  # fmt: skip
    assert time.process_time() - start < 10
