"""Answers on preservation: never contradicted where proved, and right where the model speaks."""

from dataclasses import replace

import numpy as np
import pytest
from exact_curves import curve_of
from hypothesis import given, settings
from hypothesis import strategies as st

from skfisher.curves import gaussian_curve
from skfisher.preservation import (
    curvature_gap,
    largest_curvature,
    largest_distortion,
    preserves_fisher_rate,
)
from skfisher.testing import circle_oracle, sphere_oracle

SIGMA = np.asarray([0.05, 0.3, 1.0, 4.0])
SEEDS = st.integers(0, 2**32 - 1)


def linear_case(rng, k, rank, decades):
    """A covariance, a map that keeps `rank` of k directions with c = 1, its distortion, m and L."""
    Q = np.linalg.qr(rng.normal(size=(k, k)))[0]
    covariance = (Q * 10.0 ** rng.uniform(-1.5, 1.5, size=k)) @ Q.T
    logs = rng.normal(size=rank) * 10.0**-decades
    logs -= logs.mean()
    A = np.exp(logs)[:, None] * np.linalg.qr(rng.normal(size=(k, k)))[0][:rank]
    distortion = np.mean((2 * logs) ** 2)
    return covariance, A @ covariance @ A.T, distortion, np.exp(logs.min()), np.exp(logs.max())


def gap_of(covariance, image, sigma):
    data, latent = gaussian_curve(covariance, sigma), gaussian_curve(image, sigma)
    return (latent.mmse_rate - data.mmse_rate) / covariance.shape[0]


# -- proved --------------------------------------------------------------------------------------


def test_distortion_bounds_the_gap_of_2000_linear_maps_of_gaussians():
    shares, cases = [], set()

    @settings(max_examples=50)
    @given(seed=SEEDS, k=st.integers(1, 5), decades=st.floats(-0.3, 2.0))
    def check(seed, k, decades):
        rng = np.random.default_rng(seed)
        for number in range(50):
            covariance, image, distortion, m, L = linear_case(rng, k, k, decades)
            cases.add((seed, k, decades, number))
            gap = gap_of(covariance, image, SIGMA)
            bound = 4 / 27 * np.sqrt(distortion)
            assert np.all(np.abs(gap) <= bound + 1e-9)
            assert np.all(gap <= 16 / 27 * np.log(L) + 1e-9)
            assert np.all(gap >= 16 / 27 * np.log(m) - 1e-9)
            if k > 1:
                shares.append(np.max(np.abs(gap)) / bound)

    check()
    assert len(cases) >= 2000
    assert len(shares) > 500
    assert max(shares) > 0.5


def test_bound_by_distortion_is_attained_as_the_tolerance_shrinks():
    # one direction at p = 2/3 is stretched, the other, far above the noise, is squeezed
    for epsilon, share in ((0.01, 0.99), (0.001, 0.999)):
        s = np.sqrt(largest_distortion(epsilon))
        covariance = np.diag([2.0, 1e9])
        image = np.diag([2.0 * np.exp(s), 1e9 * np.exp(-s)])
        (gap,) = gap_of(covariance, image, np.ones(1))
        assert share * epsilon < gap <= epsilon


@given(seed=SEEDS, k=st.integers(1, 4), epsilon=st.floats(0.01, 0.3), decades=st.floats(-0.3, 2))
def test_proved_answers_are_never_contradicted(seed, k, epsilon, decades):
    rng = np.random.default_rng(seed)
    for _ in range(10):
        rank = int(rng.integers(1, k + 1))
        covariance, image, distortion, m, L = linear_case(rng, k, rank, decades)
        gap = gap_of(covariance, image, SIGMA)
        facts = {"epsilon": epsilon, "intrinsic_dimension": k, "rank": rank, "c": 1.0}
        facts |= {"affine": True, "gaussian": True}
        curves = {"data": gaussian_curve(covariance, SIGMA), "latent": gaussian_curve(image, SIGMA)}
        by_distortion = {"tangential_distortion": distortion}
        by_constants = {"m": m if rank == k else 0.0, "L": L, "exact_constants": True}
        for known in (by_distortion, by_constants, by_distortion | by_constants):
            alone = preserves_fisher_rate(SIGMA, **facts, **known)
            beside = preserves_fisher_rate(SIGMA, **facts, **known, **curves)
            for found in (alone, beside):
                assert found.predicted_status == "proved"
                low, high = found.predicted_bounds.T
                assert np.all((low - 1e-9 <= gap) & (gap <= high + 1e-9))
                truth = np.where(np.abs(gap) <= epsilon, "yes", "no")
                pairs = zip(found.predicted_answers, truth, strict=True)
                assert all(answer in ("unknown", right) for answer, right in pairs)
            assert set(alone.status) == {"proved"}
            assert alone.answers == alone.predicted_answers
            assert beside.answers == tuple(truth)
            assert set(beside.status) == {"measured"}
            np.testing.assert_allclose(beside.gap, gap)


def test_rigid_maps_of_any_data_keep_the_rate():
    found = preserves_fisher_rate(SIGMA, intrinsic_dimension=2, c=3.0, rigid=True)
    assert set(found.answers) == {"yes"}
    assert set(found.status) == {"proved"}
    np.testing.assert_array_equal(found.predicted_bounds, 0.0)
    same = preserves_fisher_rate(
        SIGMA, intrinsic_dimension=2, c=3.0, m=3.0, L=3.0, exact_constants=True
    )
    assert set(same.status) == {"proved"}
    # constants of sampled pairs, or of tangents, prove nothing
    sampled = preserves_fisher_rate(SIGMA, intrinsic_dimension=2, c=3.0, m=3.0, L=3.0)
    assert set(sampled.status) == {"model"}
    assert set(sampled.answers) == {"unknown"}


def test_lost_directions_count():
    S = np.diag([3.0, 1.0, 0.5, 0.1])
    sigma = np.asarray([1e-3, 100.0])
    data, latent = gaussian_curve(S, sigma), gaussian_curve(S[:3, :3], sigma)
    facts = {"intrinsic_dimension": 4, "rank": 3, "c": 1.0, "affine": True, "gaussian": True}
    facts |= {"tangential_distortion": 0.0}
    found = preserves_fisher_rate(sigma, epsilon=0.1, **facts)
    assert found.answers == ("unknown", "unknown")
    assert np.isnan(found.largest_distortion)
    np.testing.assert_allclose(found.predicted_bounds, [[-0.25, 0.0]] * 2)
    # with the data's rate of nearly four, a latent of three dimensions cannot follow
    known = preserves_fisher_rate(sigma, epsilon=0.1, data=data, latent=latent, **facts)
    assert known.predicted_answers == ("no", "yes")
    assert known.answers == ("no", "yes")
    generous = preserves_fisher_rate(sigma, epsilon=0.3, **facts)
    assert generous.answers == ("yes", "yes")
    assert generous.largest_distortion == pytest.approx((0.05 / (0.75 * 4 / 27)) ** 2)


def test_limits_are_those_of_the_derivation():
    assert largest_distortion(0.05) == pytest.approx((27 * 0.05 / 4) ** 2)
    assert largest_distortion(0.25, lost_share=0.25) == 0.0
    assert np.isnan(largest_distortion(0.2, lost_share=0.25))
    at_limit = preserves_fisher_rate(
        SIGMA, intrinsic_dimension=3, c=1.0, affine=True, gaussian=True,
        tangential_distortion=0.999 * largest_distortion(0.05),
    )  # fmt: skip
    assert set(at_limit.answers) == {"yes"}
    assert at_limit.largest_distortion == largest_distortion(0.05)
    over = preserves_fisher_rate(
        SIGMA, intrinsic_dimension=3, c=1.0, affine=True, gaussian=True,
        tangential_distortion=1.001 * largest_distortion(0.05),
    )  # fmt: skip
    assert set(over.answers) == {"unknown"}


# -- the model of curvature ----------------------------------------------------------------------


def unrolled_gap(tau, radius=1.0, flat_dimensions=0):
    """Gap of the line (and flat directions beside it) that a circle is unrolled to, per k."""
    rate = circle_oracle(radius, np.sqrt(tau) * radius).mmse_rate
    return (1.0 - rate) / (1 + flat_dimensions)


def test_first_order_is_exact_for_circles_cylinders_and_bent_sheets():
    tau = np.asarray([1e-4, 3e-4])
    sigma = 2.0 * np.sqrt(tau)
    for flat in (0, 1, 2):
        k = 1 + flat
        # E |II(u,u)|^2 = E u_1^4 / r^2 = 3 / (k (k + 2) r^2)
        kappa = 3 / (k * (k + 2)) / 4
        facts = {"intrinsic_dimension": k, "data_curvature": kappa}
        gap = unrolled_gap(tau, 2.0, flat)
        predicted = curvature_gap(sigma, latent_curvature=0.0, **facts)
        np.testing.assert_allclose(predicted, gap, rtol=6 * tau.max())
        # bent to radius 3 times the scale c = 2 instead
        other = unrolled_gap(4 * tau / 9, 3.0, flat)
        bent = curvature_gap(sigma, latent_curvature=kappa * 4 / 36, c=2.0, **facts)
        np.testing.assert_allclose(bent, gap - other, rtol=1e-2)
    # rolling is unrolling backwards
    rolled = curvature_gap(
        sigma / 2, intrinsic_dimension=2, data_curvature=0.0, latent_curvature=3 / 32, c=2.0
    )
    np.testing.assert_allclose(rolled, -unrolled_gap(tau, 2.0, 1), rtol=2e-3)


def test_effective_dimension_of_a_sphere_has_half_the_second_form_less_the_scalar_curvature():
    # k = 2, r = 1: |II|^2 = 2, Scal = 2, so d_eff = 2 - t and rate = 2 - 2 t to first order
    t = np.asarray([1e-4, 4e-4])
    oracle = sphere_oracle(1.0, np.sqrt(t))
    np.testing.assert_allclose((oracle.effective_dimension - 2) / t, 2 / 2 - 2, rtol=2e-3)
    np.testing.assert_allclose((oracle.mmse_rate - 2) / t, 2 * (2 / 2 - 2), rtol=2e-3)
    # and the circle, with |II|^2 = 1 and no scalar curvature
    oracle = circle_oracle(1.0, np.sqrt(t))
    np.testing.assert_allclose((oracle.effective_dimension - 1) / t, 1 / 2, rtol=2e-3)


@pytest.mark.parametrize("flat", [0, 1, 3])
@pytest.mark.parametrize("reach", [np.nan, 1.0])
@pytest.mark.parametrize("epsilon", [0.001, 0.01, 0.03, 0.1])
def test_model_agrees_with_the_measured_gap_of_unrolled_cylinders(flat, reach, epsilon):
    k = 1 + flat
    tau = np.geomspace(1e-4, 3, 40)
    found = preserves_fisher_rate(
        np.sqrt(tau), epsilon=epsilon, intrinsic_dimension=k, c=1.0, tangential_distortion=0.0,
        data_curvature=3 / (k * (k + 2)), latent_curvature=0.0, reach=reach,
    )  # fmt: skip
    truth = np.where(np.abs(unrolled_gap(tau, 1.0, flat)) <= epsilon, "yes", "no")
    for answer, right, status in zip(found.answers, truth, found.status, strict=True):
        assert answer in ("unknown", right)
        assert status == "model"
    assert found.answers[0] == "yes"
    assert found.answers[-1] == "unknown"
    assert "radius of curvature" in found.reasons[-1]
    assert ("no" in found.answers) == (epsilon < 0.041 / k)
    # the limit on the curvature is where "yes" ends
    limit = largest_curvature(epsilon, np.sqrt(tau), intrinsic_dimension=k, reach=reach)
    np.testing.assert_array_equal(found.largest_curvature, limit)
    within = limit >= 3 / (k * (k + 2))
    assert [answer == "yes" for answer in found.answers] == list(within)


def ridge(a, w, n):
    """A sine ridge with equal steps of arc length over one period, and its arc length."""
    u = np.linspace(0, 2 * np.pi / w, 200_001)
    fine = np.stack([u, a * np.sin(w * u)], axis=1)
    arc = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(fine, axis=0), axis=1))])
    x = np.interp((np.arange(n) + 0.5) / n * arc[-1], arc, u)
    G = 1 + (a * w * np.cos(w * x)) ** 2
    return x, arc[-1], np.mean((a * w**2 * np.sin(w * x)) ** 2 / G**3)


def ridge_rates(a, w, sigma, rng, n_samples=2500):
    """Rates and standard errors of the endless ridge, from samples over one period of it."""
    x, length, kappa = ridge(a, w, 400)
    period = 2 * np.pi / w
    x = np.concatenate([x + shift * period for shift in range(-2, 3)])
    points = np.stack([x, a * np.sin(w * x)], axis=1)
    found = []
    for s in sigma:
        chosen = points[rng.integers(800, 1200, size=n_samples)]
        y = chosen + s * rng.normal(size=chosen.shape)
        logs = -np.sum((y[:, None] - points) ** 2, axis=2) / (2 * s**2)
        P = np.exp(logs - logs.max(axis=1, keepdims=True))
        P /= P.sum(axis=1, keepdims=True)
        mean = P @ points
        second = [[P @ (points[:, i] * points[:, j]) for i in range(2)] for j in range(2)]
        C = [[second[j][i] - mean[:, i] * mean[:, j] for i in range(2)] for j in range(2)]
        rate = sum(entry**2 for row in C for entry in row) / s**4
        found.append((rate.mean(), rate.std() / np.sqrt(n_samples)))
    rate, stderr = map(np.asarray, zip(*found, strict=True))
    return rate, stderr, kappa, length


def test_model_agrees_with_sine_ridges_unrolled_by_their_arc_length(rng):
    a, w = 0.3, 2.0
    reach = 1 / (a * w**2)  # the radius at the crests
    sigma = np.asarray([0.05, 0.1, 0.15, 0.2])
    rate, stderr, kappa, _ = ridge_rates(a, w, sigma, rng)
    facts = {"intrinsic_dimension": 1, "data_curvature": kappa, "latent_curvature": 0.0}
    first_order = -curvature_gap(sigma, **facts)
    room = 6 * first_order * (sigma / reach) ** 2
    assert np.all(np.abs(rate - 1 - first_order) <= room + 4 * stderr)
    for epsilon in (0.005, 0.02, 0.1):
        found = preserves_fisher_rate(
            sigma, epsilon=epsilon, c=1.0, tangential_distortion=0.0, reach=reach, **facts
        )
        for answer, value, error in zip(found.answers, rate - 1, stderr, strict=True):
            if answer == "yes":
                assert value <= epsilon + 4 * error
            if answer == "no":
                assert value > epsilon - 4 * error
    assert "yes" in found.answers


def test_distortion_and_curvature_add_up_in_the_model():
    options = {"intrinsic_dimension": 2, "c": 1.0, "data_curvature": 0.1, "latent_curvature": 0.1}
    sigma = np.asarray([0.1])
    both = preserves_fisher_rate(sigma, tangential_distortion=0.04, **options)
    flat = preserves_fisher_rate(
        sigma, tangential_distortion=0.04,
        **(options | {"data_curvature": 0.0, "latent_curvature": 0.0}),
    )  # fmt: skip
    np.testing.assert_allclose(flat.predicted_bounds, [[-0.8 / 27, 0.8 / 27]])
    assert both.predicted_bounds[0, 1] > flat.predicted_bounds[0, 1]
    assert set(both.status) == {"model"}


def test_errors_of_the_penalties_leave_room():
    options = {"intrinsic_dimension": 1, "c": 1.0, "latent_curvature": 0.0}
    sigma = np.asarray([0.1])
    exact = preserves_fisher_rate(
        sigma, epsilon=0.012, tangential_distortion=0.0, data_curvature=1.0, **options
    )
    assert exact.answers == ("yes",)
    for rough in (
        {"tangential_distortion": 0.0, "tangential_distortion_stderr": 0.01, "data_curvature": 1.0},
        {"tangential_distortion": 0.0, "data_curvature": 1.0, "data_curvature_stderr": 0.3},
    ):
        found = preserves_fisher_rate(sigma, epsilon=0.012, **rough, **options)
        assert found.answers == ("unknown",)
        width = found.predicted_bounds[0, 1] - found.predicted_bounds[0, 0]
        assert width > exact.predicted_bounds[0, 1] - exact.predicted_bounds[0, 0]


def test_bending_of_the_latent_counts_where_the_reach_of_flat_data_is_infinite():
    # a plane rolled to radius 1 in the latent: the gap is that of unrolling with the other sign
    tau = np.geomspace(1e-4, 3, 40)
    truth = np.where(np.abs(unrolled_gap(tau, 1.0, 1)) <= 0.02, "yes", "no")
    for reach in (np.inf, np.nan):
        found = preserves_fisher_rate(
            np.sqrt(tau), epsilon=0.02, intrinsic_dimension=2, c=1.0, tangential_distortion=0.0,
            data_curvature=0.0, latent_curvature=3 / 8, reach=reach,
        )  # fmt: skip
        assert {"yes", "unknown"} <= set(found.answers)
        pairs = zip(found.answers, truth, strict=True)
        assert all(answer in ("unknown", right) for answer, right in pairs)


def test_estimates_below_zero_are_zero_with_room():
    options = {"intrinsic_dimension": 1, "c": 1.0, "tangential_distortion": 0.0}
    sigma = np.asarray([0.1])
    found = preserves_fisher_rate(
        sigma, data_curvature=-0.1, data_curvature_stderr=0.1, latent_curvature=0.0, **options
    )
    assert found.answers == ("yes",)
    assert found.predicted_bounds[0, 0] == pytest.approx(-0.1 * 0.01, rel=0.1)
    unknown = preserves_fisher_rate(
        sigma, data_curvature=0.1, data_curvature_stderr=np.nan, latent_curvature=0.0, **options
    )
    assert unknown.answers == ("unknown",)


def test_what_is_not_known_is_not_answered():
    options = {"intrinsic_dimension": 2, "c": 1.0}
    nothing = preserves_fisher_rate(SIGMA, **options)
    assert set(nothing.answers) == {"unknown"}
    assert "curvature of the data or of the latent is not known" in nothing.reasons[0]
    assert np.all(np.isnan(nothing.predicted_bounds))
    flat = preserves_fisher_rate(SIGMA, data_curvature=0.0, latent_curvature=0.0, **options)
    assert "tangential distortion is not known" in flat.reasons[0]
    assert set(flat.answers) == {"unknown"}
    # an estimate of the distortion makes no theorem
    rough = preserves_fisher_rate(
        SIGMA, tangential_distortion=1e-4, tangential_distortion_stderr=1e-5,
        affine=True, gaussian=True, **options,
    )  # fmt: skip
    assert (set(rough.answers), set(rough.status)) == ({"yes"}, {"model"})
    met = {check.statement: check.met for check in rough.checks}
    assert not met["the tangential distortion is exact"]
    assert met["the data is Gaussian"]


# -- measured ------------------------------------------------------------------------------------


def curves(rate_data, rate_latent, stderr, valid=True):
    n = len(SIGMA)
    pair = [
        curve_of(SIGMA, 2, np.full(n, 1.0), np.full(n, rate)) for rate in (rate_data, rate_latent)
    ]
    return {
        name: replace(curve, mmse_rate_stderr=np.full(n, stderr), valid=np.full(n, valid))
        for name, curve in zip(("data", "latent"), pair, strict=True)
    }


def test_measured_gap_decides_by_two_standard_errors():
    options = {"intrinsic_dimension": 2, "c": 1.0, "epsilon": 0.05}
    for gap, stderr, answer in (
        (0.04, 0.001, "yes"), (-0.04, 0.001, "yes"), (0.04, 0.02, "unknown"),
        (0.06, 0.001, "no"), (-0.06, 0.001, "no"), (0.06, 0.02, "unknown"),
    ):  # fmt: skip
        found = preserves_fisher_rate(SIGMA, **curves(1.5, 1.5 + 2 * gap, stderr), **options)
        assert set(found.answers) == {answer}
        assert set(found.status) == {"measured"}
        np.testing.assert_allclose(found.gap, gap)
        np.testing.assert_allclose(found.gap_stderr, stderr / np.sqrt(2))
        assert "measured gap" in found.reasons[0]
        assert answer in repr(found)


def test_model_answers_where_the_curves_are_not_valid():
    flat = {"tangential_distortion": 0.0, "data_curvature": 0.0, "latent_curvature": 0.0}
    options = {"intrinsic_dimension": 2, "c": 1.0} | flat
    invalid = preserves_fisher_rate(SIGMA, **curves(1.5, 1.0, 0.001, valid=False), **options)
    assert (set(invalid.answers), set(invalid.status)) == ({"yes"}, {"model"})
    assert not np.any(invalid.measured)
    # a valid measurement outweighs the model even where it cannot tell
    wide = preserves_fisher_rate(SIGMA, **curves(1.5, 1.5, 1.0), **options)
    assert (set(wide.answers), set(wide.status)) == ({"unknown"}, {"measured"})
    assert set(wide.predicted_answers) == {"yes"}
    # a theorem does not give way to it
    proved = preserves_fisher_rate(
        SIGMA, **curves(1.5, 1.5, 1.0), intrinsic_dimension=2, c=1.0, rigid=True
    )
    assert (set(proved.answers), set(proved.status)) == ({"yes"}, {"proved"})


def test_measurement_that_contradicts_a_theorem_says_so():
    found = preserves_fisher_rate(
        SIGMA, **curves(1.5, 1.0, 0.001), intrinsic_dimension=2, c=1.0, rigid=True
    )
    assert set(found.answers) == {"no"}
    assert all("a hypothesis of the theorem is not met" in reason for reason in found.reasons)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_every_library_gives_the_same_answers(library, dtype):
    sigma = library(SIGMA, dtype)
    found = preserves_fisher_rate(
        sigma, intrinsic_dimension=2, c=1.0, tangential_distortion=0.01,
        data_curvature=0.3, latent_curvature=0.0,
    )  # fmt: skip
    expected = preserves_fisher_rate(
        SIGMA, intrinsic_dimension=2, c=1.0, tangential_distortion=0.01,
        data_curvature=0.3, latent_curvature=0.0,
    )  # fmt: skip
    assert found.answers == expected.answers
    for name in ("gap", "predicted_bounds", "largest_curvature"):
        assert library.owns(getattr(found, name), dtype)
    np.testing.assert_allclose(
        [float(x) for x in found.predicted_bounds[0, :]], expected.predicted_bounds[0], rtol=1e-5
    )
    gap = curvature_gap(sigma, intrinsic_dimension=2, data_curvature=1.0, latent_curvature=0.0)
    assert library.owns(gap, dtype)


def test_bad_input_is_refused_with_a_cure():
    good = {"intrinsic_dimension": 2, "c": 1.0}
    for epsilon in (0.0, -1.0, np.inf, np.nan):
        with pytest.raises(ValueError, match=f"epsilon is {epsilon}: pass a positive tolerance"):
            preserves_fisher_rate(SIGMA, epsilon=epsilon, **good)
    with pytest.raises(ValueError, match=r"c is 0.0: the scale of an encoder is finite and pos"):
        preserves_fisher_rate(SIGMA, intrinsic_dimension=2, c=0.0)
    with pytest.raises(ValueError, match="intrinsic_dimension is 0: pass 1 or more"):
        preserves_fisher_rate(SIGMA, intrinsic_dimension=0, c=1.0)
    with pytest.raises(ValueError, match="rank is 3, but intrinsic_dimension is 2: pass 0 to 2"):
        preserves_fisher_rate(SIGMA, rank=3, **good)
    with pytest.raises(ValueError, match=r"data_curvature is -1.0 with standard error 0.0: pass"):
        preserves_fisher_rate(SIGMA, data_curvature=-1.0, **good)
    with pytest.raises(ValueError, match=r"tangential_distortion is inf with standard error"):
        preserves_fisher_rate(SIGMA, tangential_distortion=np.inf, **good)
    curve = gaussian_curve(np.eye(2), SIGMA)
    with pytest.raises(ValueError, match="only the curve of latent was given: pass data at"):
        preserves_fisher_rate(SIGMA, latent=curve, **good)
    with pytest.raises(ValueError, match=r"data has 4 noise levels from 0.05 to 4, but noise_lev"):
        preserves_fisher_rate(2 * SIGMA, data=curve, latent=curve, **good)
    with pytest.raises(ValueError, match=r"data has 4 noise levels .* sigma / c with c = 2"):
        preserves_fisher_rate(SIGMA, data=curve, latent=curve, intrinsic_dimension=2, c=2.0)
    with pytest.raises(ValueError, match=r"lost_share is 1.0: pass the share 1 - rank / k"):
        largest_distortion(0.1, lost_share=1.0)
