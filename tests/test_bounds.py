"""Every sandwich holds where it is proved, fails where it is not, and notices false constants."""

from dataclasses import replace

import numpy as np
import pytest
from exact_curves import line_curve, mapped, plane_curve, random_mixture, sandwich
from hypothesis import given
from hypothesis import strategies as st

from skfisher.bounds import (
    fisher_sandwich,
    information_sandwich,
    isometry_identity,
    sandwich_levels,
)
from skfisher.curves import gaussian_curve
from skfisher.geometry import affine_part, bi_lipschitz

FISHER = ("fisher_information", "fisher_information_rate", "mmse", "mmse_rate")
SIGMA = np.asarray([0.05, 0.3, 1.0, 4.0])
SEEDS = st.integers(0, 2**32 - 1)


def with_errors(curve, share, d_eff_error=0.0, J_bracket=0.0, valid=None):
    """The same curve as if estimated: off by an error of d_eff, with standard errors."""
    t = curve.noise_levels**2
    J = curve.fisher_information - d_eff_error / t
    d_eff = curve.effective_dimension + d_eff_error
    return replace(
        curve,
        fisher_information=J,
        effective_dimension=d_eff,
        effective_dimension_stderr=share * np.abs(d_eff),
        mmse_rate_stderr=share * curve.mmse_rate,
        fisher_information_rate_stderr=share * curve.fisher_information_rate,
        mutual_information_stderr=share * curve.mutual_information,
        fisher_information_bounds=np.stack([J - J_bracket, J + J_bracket], axis=1),
        valid=curve.valid if valid is None else np.asarray(valid),
    )


def test_quadrature_meets_known_answers():
    gaussian = plane_curve((np.ones(1), np.zeros((1, 2)), np.diag([3.0, 1.0])[None]), SIGMA)
    known = gaussian_curve(np.diag([3.0, 1.0]), SIGMA)
    np.testing.assert_allclose(gaussian.mmse_rate, known.mmse_rate, rtol=1e-9)
    np.testing.assert_allclose(gaussian.mutual_information, known.mutual_information, rtol=1e-9)
    two_points = line_curve(np.asarray([-2.5, 2.5]), np.asarray([0.5, 0.5]), np.ones(1))
    assert two_points.fisher_information_rate[0] == pytest.approx(1.178, abs=5e-4)


def test_tight_form_is_false_for_mixtures():
    # two far atoms along the axis that is not stretched: d_eff falls as the noise falls, and the
    # tight form wants d_eff_X(t) <= d_eff_Z(t) <= d_eff_X(t/4), each the sum over both axes
    means, covariances = np.asarray([[-1.0, 0.0], [1.0, 0.0]]), np.diag([0.01, 1.0])
    law = np.asarray([0.5, 0.5]), means, np.stack([covariances] * 2)
    latent = plane_curve(mapped(law, np.diag([1.0, 2.0])), np.asarray([0.6]))
    options = {"m": 1.0, "L": 2.0, "rank": 2, "linear": True, "exact_constants": True}
    for quantity in FISHER:
        found = sandwich(
            lambda s: plane_curve(law, s),
            latent, kind="tight", quantity=quantity, **options,
        )  # fmt: skip
        assert found.status == "diagnostic"
        assert found.verdict == ("violated",)
        assert "the data is Gaussian: not established" in found.hypotheses
    for quantity in ("fisher_information", "mmse"):
        wide = sandwich(
            lambda s: plane_curve(law, s),
            latent, kind="wide", quantity=quantity, **options,
        )  # fmt: skip
        assert (wide.status, wide.verdict) == ("proved", ("holds",))


def test_tight_form_is_false_for_non_linear_maps_of_a_line():
    x, z = np.asarray([0.0, 1.0, 4.0]), np.asarray([0.0, 1.0, 7.0])
    weights = np.full(3, 1 / 3)
    latent = line_curve(z, weights, np.asarray([0.7]))
    found = sandwich(
        lambda s: line_curve(x, weights, s), latent, 1.0, 2.0,
        rank=1, kind="tight", exact_constants=True,
    )  # fmt: skip
    assert (found.status, found.verdict) == ("diagnostic", ("violated",))


def line_case(rng, monotone):
    """Atoms on a line, a map of them, and its exact constants over all pairs."""
    n = int(rng.integers(3, 25))
    gaps = rng.lognormal(sigma=0.8, size=n) if monotone else rng.uniform(0.5, 1.5, size=n)
    x, z = np.cumsum(np.stack([gaps, gaps * rng.lognormal(sigma=0.5, size=n)]), axis=1) / n * 5
    z = z if monotone else rng.permutation(z)
    found = bi_lipschitz(x[:, None], z[:, None])
    assert found.n_pairs == n * (n - 1) // 2
    return x, z, rng.dirichlet(np.ones(n)), found.m, found.L


@pytest.mark.parametrize(("monotone", "n_cases"), [(True, 120), (False, 60)])
def test_information_sandwich_holds_for_every_map_of_a_line(monotone, n_cases, rng):
    for _ in range(n_cases):
        x, z, weights, m, L = line_case(rng, monotone)
        latent = line_curve(z, weights, np.asarray([0.1, 0.5, 2.0]))
        options = {"quantity": "mutual_information", "exact_constants": True}

        def data(levels, law=(x, weights)):
            return line_curve(*law, levels)

        found = sandwich(data, latent, m, L, **options)
        assert found.status == "proved"
        assert set(found.verdict) == {"holds"}
        # any claim that the map contracts more, or expands more, than it does anywhere is refuted
        small = sandwich(data, latent, 0.0, 0.8 * m, **options)
        large = sandwich(data, latent, 1.2 * L, 1.3 * L, **options)
        for wrong in (small, large):
            informative = latent.mutual_information < 0.95 * -np.sum(weights * np.log(weights))
            assert all(np.asarray(wrong.verdict)[informative] == "violated")
            assert not np.any(wrong.holds[informative])


def test_local_isometry_keeps_neither_information_nor_rate():
    sigma = np.ones(1)
    angle = 0.05 + (np.arange(800) + 0.5) / 800 * (2 * np.pi - 0.1)
    rows = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    law = np.full(800, 1 / 800), rows, np.zeros((800, 2, 2))
    circle = plane_curve(law, sigma)
    unrolled = line_curve(angle, law[0], sigma)
    assert unrolled.mutual_information[0] == pytest.approx(0.6950, abs=1e-4)
    assert circle.mutual_information[0] == pytest.approx(0.4034, abs=1e-4)
    options = {"quantity": "mutual_information"}
    tangents = sandwich(lambda s: plane_curve(law, s), unrolled, 1.0, 1.0, **options)
    assert (tangents.status, tangents.verdict) == ("diagnostic", ("violated",))
    assert tangents.slack_upper[0] == pytest.approx(0.4034 / 0.6950 - 1, abs=1e-3)
    # the chords' L; I_X rises as the noise falls, so what holds for 5 holds for L
    assert bi_lipschitz(rows, angle[:, None], n_pairs=400_000).L > 50
    chords = sandwich(lambda s: plane_curve(law, s), unrolled, 0.0, 5.0, **options)
    assert chords.verdict == ("holds",)
    rate = isometry_identity(unrolled, circle, c=1.0)
    assert (rate.status, rate.verdict) == ("diagnostic", ("violated",))
    assert rate.value[0] == pytest.approx(0.5619, abs=1e-4)
    assert rate.lower[0] == pytest.approx(0.2430, abs=1e-4)


@pytest.mark.parametrize("quantity", FISHER)
@given(seed=SEEDS, c=st.floats(1e-3, 1e3))
def test_isometries_up_to_scale_meet_every_identity(quantity, seed, c):
    rng = np.random.default_rng(seed)
    k, D, d = 3, int(rng.integers(3, 7)), int(rng.integers(3, 7))
    into_X, into_Z = (np.linalg.qr(rng.normal(size=(n, k)))[0] for n in (D, d))
    S = np.diag(rng.uniform(0.1, 10, size=k))
    data = gaussian_curve(into_X @ S @ into_X.T, SIGMA)
    latent = gaussian_curve(c**2 * into_Z @ S @ into_Z.T, c * SIGMA)
    found = isometry_identity(latent, data, c=c, quantity=quantity, rigid=True)
    assert found.status == "proved"
    assert set(found.verdict) == {"holds"}
    # the identities as THEORY.md writes them
    J_gap = c**2 * latent.fisher_information - data.fisher_information
    np.testing.assert_allclose(J_gap, (d - D) / SIGMA**2, rtol=1e-6, atol=1e-8)
    stretched = gaussian_curve(1.1 * c**2 * into_Z @ S @ into_Z.T, c * SIGMA)
    wrong = isometry_identity(stretched, data, c=c, quantity=quantity)
    assert set(wrong.verdict) == {"violated"}


def test_isometry_identities_hold_for_mixtures_and_both_forms_are_proved(rng):
    law = random_mixture(rng)
    Q = 2.0 * np.linalg.qr(rng.normal(size=(2, 2)))[0]
    latent, data = plane_curve(mapped(law, Q), 2 * SIGMA[1:]), plane_curve(law, SIGMA[1:])
    for quantity in FISHER:
        found = isometry_identity(latent, data, c=2.0, quantity=quantity, rigid=True)
        np.testing.assert_allclose(found.lower, found.value, rtol=1e-4)
        tight = fisher_sandwich(
            latent, data, data, m=2.0, L=2.0, rank=2, quantity=quantity,
            kind="tight", exact_constants=True,
        )  # fmt: skip
        assert tight.status == "proved"
        assert "the encoder is a scaled rigid map (m = L): met" in tight.hypotheses


@pytest.mark.parametrize("quantity", FISHER)
def test_both_sides_are_those_of_the_theory(quantity, rng):
    S, A = np.diag([3.0, 1.0, 0.2, 0.0]), np.diag([1.0, 1.5, 2.0, 1.0])[[2, 0, 1]]
    (m, L), k = (1.0, 2.0), 3
    over_m, over_L = gaussian_curve(S, SIGMA / m), gaussian_curve(S, SIGMA / L)
    latent = gaussian_curve(A @ S @ A.T, SIGMA)

    def reduced(curve):
        u, n = curve.noise_levels**2, curve.n_features
        return {
            "fisher_information": curve.fisher_information - (n - k) / u,
            "fisher_information_rate": curve.fisher_information_rate - (n - k) / u**2,
            "mmse": curve.mmse,
            "mmse_rate": curve.mmse_rate,
        }[quantity]

    power = {"fisher_information": -2, "fisher_information_rate": -4, "mmse": 2, "mmse_rate": 0}
    p = power[quantity]
    first, second = m**p * reduced(over_m), L**p * reduced(over_L)
    lower, upper = (second, first) if p < 0 else (first, second)
    options = {"m": m, "L": L, "rank": k, "quantity": quantity}
    tight = fisher_sandwich(latent, over_m, over_L, kind="tight", **options)
    expected = [lower, reduced(latent), upper]
    np.testing.assert_allclose([tight.lower, tight.value, tight.upper], expected, rtol=1e-7)
    np.testing.assert_allclose(tight.slack_upper, upper / reduced(latent) - 1, atol=1e-6)
    np.testing.assert_allclose(tight.slack_lower, 1 - lower / reduced(latent), atol=1e-6)
    assert np.all(tight.holds)
    if quantity in ("fisher_information", "mmse"):
        wide = fisher_sandwich(latent, over_m, over_L, kind="wide", **options)
        lower, upper = (
            (L**-2 * reduced(over_m), m**-2 * reduced(over_L))
            if p < 0
            else (m**2 * reduced(over_L), L**2 * reduced(over_m))
        )
        np.testing.assert_allclose([wide.lower, wide.upper], [lower, upper], rtol=1e-7)


def test_nothing_cancels_in_large_ambient_dimensions():
    # t^2 R' is 1e-10 of t^2 R: differences of R itself would keep six digits at best
    S = np.zeros((50, 50))
    S[0, 0] = 1.0
    sigma = np.asarray([0.02])
    data = gaussian_curve(S, sigma / 2)
    latent = gaussian_curve(4 * S[:1, :1], sigma)
    found = fisher_sandwich(latent, data, data, m=2.0, L=2.0, rank=1)
    assert found.verdict == ("holds",)
    np.testing.assert_allclose(found.value, 1 / (4 + 4e-4), rtol=1e-11)


def test_rank_losing_maps_keep_the_side_of_L():
    S = np.diag([2.0, 1.0])
    latent = gaussian_curve(S[:1, :1], SIGMA)  # the projection on the first axis: k stays 2
    data = gaussian_curve(S, SIGMA)
    facts = {"linear": True, "gaussian": True, "exact_constants": True}
    for quantity in FISHER:
        found = fisher_sandwich(
            latent, None, data, m=0.0, L=1.0, rank=2, quantity=quantity, kind="tight", **facts
        )
        assert found.status == "proved"
        assert set(found.verdict) == {"holds"}
        assert np.all(np.isinf(found.lower)) == (quantity in ("mmse", "mmse_rate"))
        assert np.all(np.isinf(found.upper)) == (quantity not in ("mmse", "mmse_rate"))
    # in its own k = 1 the latent would break the bound that holds with the data's k
    J_own = latent.fisher_information
    assert np.all(J_own < data.fisher_information)
    for quantity in ("fisher_information", "mmse"):
        wide = fisher_sandwich(latent, None, data, m=0.0, L=1.0, rank=2, quantity=quantity, **facts)
        assert set(wide.verdict) == {"unknown"}
        assert wide.status == "diagnostic"
        assert not np.any(wide.holds)
    information = information_sandwich(latent, None, data, m=0.0, L=1.0, exact_constants=True)
    assert set(information.verdict) == {"holds"}


@pytest.mark.parametrize("kind", ["tight", "wide"])
def test_false_constants_are_refuted(kind, rng):
    A = np.diag([1.0, 2.0])
    S = np.diag([3.0, 1.0])
    latent = gaussian_curve(A @ S @ A, SIGMA)
    options = {"rank": 2, "kind": kind, "linear": True, "gaussian": True, "exact_constants": True}
    for m, L in ((1.9, 2.0), (1.0, 1.05)):
        found = sandwich(lambda s: gaussian_curve(S, s), latent, m, L, **options)
        assert "violated" in found.verdict
        assert "violated" in repr(found)


def test_status_is_proved_only_when_every_hypothesis_is_met():
    S, A = np.diag([3.0, 1.0]), np.diag([1.0, 2.0])
    latent = gaussian_curve(A @ S @ A, SIGMA)
    for linear in (False, True):
        for gaussian in (False, True):
            for exact in (False, True):
                facts = {"linear": linear, "gaussian": gaussian, "exact_constants": exact}
                for kind, theorem in (
                    ("wide", linear and exact),
                    ("tight", linear and gaussian and exact),
                ):
                    found = sandwich(
                        lambda s: gaussian_curve(S, s), latent, 1.0, 2.0, rank=2, kind=kind, **facts
                    )
                    assert (found.status == "proved") == theorem
                    open_points = [h for h in found.hypotheses if h.endswith(": not established")]
                    assert (not open_points) == theorem


def test_affine_part_and_sandwich_agree_on_the_projection_of_data(rng):
    X = rng.normal(size=(100, 4))
    linear = affine_part(lambda x: x[:, :2], X).map
    S = np.eye(4)
    found = fisher_sandwich(
        gaussian_curve(S[:2, :2], SIGMA), None, gaussian_curve(S, SIGMA / linear.L),
        m=linear.m, L=linear.L, rank=linear.rank_data, kind="tight",
        linear=True, gaussian=True, exact_constants=linear.exact,
    )  # fmt: skip
    assert found.status == "proved"
    assert np.all(found.holds)


def test_verdicts_respect_errors_brackets_and_validity():
    exact = gaussian_curve(np.diag([2.0, 1.0]), SIGMA)
    options = {"m": 1.0, "L": 1.0, "rank": 2, "kind": "tight"}

    def verdicts(latent, quantity="mmse", data=exact):
        return set(fisher_sandwich(latent, data, data, quantity=quantity, **options).verdict)

    # off by 5 % of d_eff: nine standard errors, or one and a half, or within the bracket
    error = 0.05 * exact.effective_dimension
    assert verdicts(with_errors(exact, 0.005, error)) == {"violated"}
    assert verdicts(with_errors(exact, 0.03, error)) == {"within error"}
    assert verdicts(with_errors(exact, 0.005, error), "fisher_information") == {"violated"}
    t = SIGMA**2
    for quantity in ("mmse", "fisher_information"):
        assert verdicts(with_errors(exact, 0.005, error, error / t), quantity) == {"within error"}
        assert verdicts(with_errors(exact, 0.005, error, 0.1 * error / t), quantity) == {"violated"}
    doubtful = with_errors(exact, 0.0, valid=[True, False, True, False])
    for first, second in ((doubtful, exact), (exact, doubtful)):
        found = fisher_sandwich(first, second, second, **options)
        assert found.verdict == ("holds", "unknown", "holds", "unknown")
        np.testing.assert_array_equal(found.holds, [True, False, True, False])
    nan = replace(exact, effective_dimension=np.full(4, np.nan), valid=np.ones(4, dtype=bool))
    assert verdicts(nan) == {"unknown"}


def test_standard_errors_carry_the_units_of_their_side():
    exact = gaussian_curve(np.diag([2.0, 1.0]), SIGMA / 2)
    data = with_errors(exact, 0.01)
    latent = gaussian_curve(4 * np.diag([2.0, 1.0]), SIGMA)
    t = SIGMA**2
    expected = {
        "fisher_information": 0.01 * exact.effective_dimension / t,
        "mmse": 0.01 * exact.effective_dimension * t,
        "mmse_rate": 0.01 * exact.mmse_rate,
        "fisher_information_rate": 0.01 * exact.fisher_information_rate / 16,
    }
    for quantity, stderr in expected.items():
        found = fisher_sandwich(
            latent, data, data, m=2.0, L=2.0, rank=2, quantity=quantity, kind="tight"
        )
        np.testing.assert_allclose(found.lower_stderr, stderr)
        np.testing.assert_allclose(found.upper_stderr, stderr)
        np.testing.assert_allclose(found.value_stderr, 0)
        assert set(found.verdict) == {"within error"}


def test_information_verdict_respects_its_bracket():
    exact = gaussian_curve(np.diag([2.0, 1.0]), SIGMA)
    less = 0.9 * exact.mutual_information
    ends = np.stack([less, exact.mutual_information], axis=1)
    shut = np.stack([less, less], axis=1)
    data = replace(exact, mutual_information=less, mutual_information_bounds=shut)
    options = {"m": 1.0, "L": 1.0}
    assert set(information_sandwich(exact, data, data, **options).verdict) == {"violated"}
    data = replace(data, mutual_information_bounds=ends)
    assert set(information_sandwich(exact, data, data, **options).verdict) == {"within error"}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_every_library_gives_the_same_sandwich(library, dtype):
    def curve(scale, factor):
        return gaussian_curve(
            library(scale * np.diag([2.0, 1.0]), dtype), library(factor * SIGMA, dtype)
        )

    found = fisher_sandwich(
        curve(4.0, 1.0), curve(1.0, 1.0), curve(1.0, 0.25), m=1.0, L=4.0, rank=2
    )
    assert library.owns(found.slack_lower, dtype)
    assert library.owns(found.upper, dtype)
    assert set(found.verdict) == {"holds"}
    assert found.holds.shape == (4,)


def test_bad_input_is_refused_with_a_cure():
    curve = gaussian_curve(np.eye(2), SIGMA)
    good = {"m": 1.0, "L": 1.0, "rank": 2}
    for m, L in ((2.0, 1.0), (-1.0, 1.0), (0.0, 0.0), (0.0, np.inf), (np.nan, 1.0)):
        with pytest.raises(ValueError, match=rf"m is {m} and L is {L}: bi-Lipschitz constants"):
            sandwich_levels(SIGMA, m, L)
    with pytest.raises(ValueError, match="quantity is 'viv': pass one of 'fisher_information'"):
        fisher_sandwich(curve, curve, curve, quantity="viv", **good)
    with pytest.raises(ValueError, match="kind is 'narrow': pass one of 'wide', 'tight'"):
        fisher_sandwich(curve, curve, curve, kind="narrow", **good)
    with pytest.raises(ValueError, match="no wide form is known: pass kind='tight'"):
        fisher_sandwich(curve, curve, curve, quantity="mmse_rate", **good)
    with pytest.raises(ValueError, match="rank is 3, but the data has 2 features"):
        fisher_sandwich(curve, curve, curve, m=1.0, L=1.0, rank=3)
    with pytest.raises(ValueError, match=r"data_over_L has 4 noise levels from 0.05 to 4, but "):
        fisher_sandwich(curve, curve, curve, m=1.0, L=2.0, rank=2)
    with pytest.raises(ValueError, match=r"data_over_m .* sigma / m with m = 0.5 runs over 4"):
        information_sandwich(curve, curve, curve, m=0.5, L=1.0)
    with pytest.raises(ValueError, match=r"data_over_m is None, but m = 0.5 is positive"):
        information_sandwich(curve, None, curve, m=0.5, L=1.0)
    with pytest.raises(ValueError, match=r"data has 4 noise levels .* sigma / c with c = 2"):
        isometry_identity(curve, curve, c=2.0)
    with pytest.raises(ValueError, match=r"c is 0.0: the scale of an encoder is finite"):
        isometry_identity(curve, curve, c=0.0)
