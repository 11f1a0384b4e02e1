"""Faults planted in good encoders are named first, and the score falls with those that it sees."""

import math
from itertools import pairwise

import numpy as np
import pytest
from numpy.testing import assert_allclose

from skfisher import LatentGeometryAuditor
from skfisher.diagnosis import FINDINGS, SERIOUS, Diagnosis
from skfisher.estimators._geometry import diagnosis_of, encoder_geometry
from skfisher.geometry import affine_part

K, D, N = 6, 9, 700
SEEN = ["tangential distortion", "dead channels", "unnormalised channels"]


def spread_data(seed):
    """A mixture of scales that fills six of nine dimensions, and the map back to the six.

    It has one mode: two sheets of a latent that is folded across clusters need not meet, and such a
    fold does less harm the more of the data it turns over.
    """
    rng = np.random.default_rng(seed)
    inner = rng.normal(size=(N, K)) * rng.choice([0.6, 1.0, 1.4], size=(N, 1))
    Q = np.linalg.qr(rng.normal(size=(D, D)))[0][:, :K]
    return inner @ Q.T, Q, rng


def turned(rng, n=K):
    return np.linalg.qr(rng.normal(size=(n, n)))[0]


def rigid(Q, rng):
    A = Q @ turned(rng)
    return lambda x: x @ A


def slightly_bent(Q, rng):
    A, C = Q @ turned(rng), 0.3 * rng.normal(size=(K, K)) / math.sqrt(K)
    return lambda x: x @ A + 0.1 * np.tanh(x @ A @ C)


GOOD = {"rigid": rigid, "slightly bent": slightly_bent}


def dropped(rng, Z):
    P = turned(rng)
    return [lambda z, m=m: z @ P[:, m:] for m in (1, 2, 3, 4, 5)]


def mixed(rng, Z):
    S, T = turned(rng), turned(rng)
    return [lambda z, c=c: z @ (S * np.geomspace(1, c, K)) @ T for c in (5, 10, 30, 100, 300)]


def warped(rng, Z):
    # a shear of the first half by the second: injective, without stretch in the mean
    half = K // 2

    def warp(a):
        def f(z):
            return np.concatenate([z[:, :half] + a * np.sin(12 * z[:, half:]), z[:, half:]], axis=1)

        return f

    return [warp(a) for a in (0.02, 0.04, 0.08, 0.15, 0.3)]


def with_dead_channels(rng, Z):
    def dead(m):
        return lambda z: np.concatenate([z, np.full((len(z), m), 0.7)], axis=1)

    return [dead(m) for m in (1, 2, 3, 4, 6)]


def folded(rng, Z):
    def fold(share):
        at = np.quantile(Z[:, 0], share)
        return lambda z: np.concatenate([np.abs(z[:, :1] - at), z[:, 1:]], axis=1)

    return [fold(share) for share in (0.05, 0.1, 0.2, 0.3, 0.5)]


def unnormalised(rng, Z):
    return [lambda z, c=c: z * np.asarray([c, *[1.0] * (K - 1)]) for c in (4, 8, 16, 40, 100)]


FAULTS = {
    "dimensional compression": dropped,
    "tangential distortion": mixed,
    "encoder curvature": warped,
    "dead channels": with_dead_channels,
    "folded space": folded,
    "unnormalised channels": unnormalised,
}


def diagnosed(X, encode):
    """The diagnosis without the curves, which only tell where on the noise axis a fault acts."""
    Z = encode(X)
    geometry = encoder_geometry(
        X,
        Z,
        encode=encode,
        container=None,
        latent_spread=None,
        fit=affine_part(encode, X, Z),
        intrinsic_dimension="auto",
        sample_weight=None,
        noise_levels=np.asarray([1.0]),
        latent_shape=None,
        random_state=0,
    )
    return diagnosis_of(X, Z, geometry, None, None, None)


def cases(fault, good, seed=0):
    X, Q, rng = spread_data(seed)
    base = GOOD[good](Q, rng)
    family = FAULTS[fault](np.random.default_rng(seed + 9), base(X))
    return X, [lambda x, f=f: f(base(x)) for f in family]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_named_first_and_rises_with_its_strength(fault):
    named = []
    for good in GOOD:
        X, encoders = cases(fault, good)
        found = [diagnosed(X, encode) for encode in encoders]
        values = [diagnosis[fault].value for diagnosis in found]
        assert all(b > a for a, b in pairwise(values)), values
        named += [diagnosis.dominant.name if diagnosis.dominant else "" for diagnosis in found]
    # 9 of 10 of each fault is stricter than 54 of 60 of all
    assert named.count(fault) >= 9, named


@pytest.mark.parametrize("good", GOOD)
def test_a_good_encoder_of_even_data_has_no_serious_finding(good):
    X = np.random.default_rng(3).normal(size=(N, K))
    found = diagnosed(X, GOOD[good](np.eye(K), np.random.default_rng(4)))
    assert found.serious == ()
    assert found.dominant is None
    assert found.headline == ""
    assert repr(found) == "Diagnosis(nothing serious)"


@pytest.mark.parametrize(
    "fault", ["tangential distortion", "dead channels", "unnormalised channels"]
)
def test_complexity_falls_with_the_strength_of_a_linear_fault(fault):
    X, encoders = cases(fault, "rigid")
    settings = {"score_model": "gaussian", "noise_levels": [1.0], "criterion": "complexity"}
    audits = [
        LatentGeometryAuditor(f, **settings).fit(X[:400])
        for f in (encoders[0], encoders[2], encoders[4])
    ]
    for one, other in pairwise(audits):
        error = math.hypot(one.report_.diffusability_stderr, other.report_.diffusability_stderr)
        assert one.diffusability_ - other.diffusability_ > 3 * error


def test_complexity_falls_with_the_strength_of_a_warp():
    # two dimensions: a score model can see the warp there
    rng = np.random.default_rng(1)
    X = rng.normal(size=(1000, 2))
    scores, errors = [], []
    for a in (0.0, 1.5, 3.0):
        Z = np.stack([X[:, 0], X[:, 1] + a * np.sin(3 * X[:, 0])], axis=1)
        audit = LatentGeometryAuditor(score_model="mixture", criterion="complexity").fit(Z)
        scores.append(audit.diffusability_)
        errors.append(audit.report_.diffusability_stderr)
    for k in (0, 1):
        assert scores[k] - scores[k + 1] > 3 * math.hypot(errors[k], errors[k + 1])


def test_the_viv_is_largest_for_a_white_gaussian_and_so_rewards_stretch_and_warp():
    # what "How to choose" warns of: its unit is the scale, and every structure makes it smaller
    X = np.random.default_rng(1).normal(size=(1000, 2))
    warped = np.stack([X[:, 0], X[:, 1] + 3 * np.sin(3 * X[:, 0])], axis=1)
    white, *others = (
        LatentGeometryAuditor(score_model="mixture", criterion="viv").fit(Z)
        for Z in (X, X * [4.0, 1.0], warped)
    )
    for other in others:
        errors = white.report_.diffusability_stderr, other.report_.diffusability_stderr
        assert other.diffusability_ - white.diffusability_ > 3 * math.hypot(*errors)


def test_standardising_takes_an_unnormalised_channel_away():
    X, encoders = cases("unnormalised channels", "rigid")
    settings = {"score_model": "gaussian", "noise_levels": [1.0], "criterion": "complexity"}
    raw = LatentGeometryAuditor(encoders[3], **settings).fit(X[:400])
    even = LatentGeometryAuditor(encoders[3], standardize=True, **settings).fit(X[:400])
    assert raw.diagnosis_.dominant.name == "unnormalised channels"
    assert even.diagnosis_["unnormalised channels"].value < 1e-12
    assert even.diffusability_ > raw.diffusability_ + 0.2


def test_a_rigid_encoder_of_curved_data_adds_no_curvature():
    rng = np.random.default_rng(0)
    angle, height = rng.uniform(0, 2 * np.pi, N), rng.uniform(-2, 2, N)
    X = np.stack([np.cos(angle), np.sin(angle), height], axis=1)
    found = diagnosed(X, lambda x: 3.0 * x @ turned(np.random.default_rng(5), 3))
    assert found["encoder curvature"].weight < 1e-3
    assert not found["encoder curvature"].serious
    assert found["data curvature"].serious


def test_findings_tell_samples_channels_noise_and_advice():
    X, encoders = cases("encoder curvature", "rigid")
    audit = LatentGeometryAuditor(encoders[4], score_model="gaussian", max_points=400).fit(X)
    finding = audit.diagnosis_.dominant
    assert finding is audit.diagnosis_["encoder curvature"]
    assert finding.weight >= SERIOUS
    assert set(finding.samples) <= set(audit.report_.rows.tolist())
    assert "smoother" in finding.advice
    low, high = finding.noise_range
    assert audit.data_curve_.noise_levels[0] <= low <= high <= audit.data_curve_.noise_levels[-1]
    assert {f.name for f in audit.diagnosis_.findings} <= set(FINDINGS)
    assert audit.report_.diagnosis is audit.diagnosis_
    channel = cases("unnormalised channels", "rigid")[1][4]
    audit = LatentGeometryAuditor(channel, score_model="gaussian", noise_levels=[1.0]).fit(X[:300])
    assert audit.diagnosis_.dominant.channels == (0,)
    with pytest.raises(KeyError, match="no finding 'beauty' among"):
        audit.diagnosis_["beauty"]


def test_directions_are_those_that_were_stretched_and_bent():
    X = np.random.default_rng(0).normal(size=(400, 3))
    Q = turned(np.random.default_rng(1), 3)
    found = diagnosed(X, lambda x: (x * [9.0, 2.0, 1.0]) @ Q)["tangential distortion"]
    assert_allclose(np.abs(found.directions @ Q.T), np.eye(3)[[0, 2]], atol=1e-6)
    shear = diagnosed(X, lambda x: (x + np.sin(3 * x[:, ::-1]) * [0.0, 0.0, 0.4]) @ Q)
    bent = shear["encoder curvature"]
    assert_allclose(np.abs(bent.directions @ Q.T), np.eye(3)[[2]], atol=1e-6)


def test_weights_follow_their_definition():
    # one lost direction of three, variances 4, 1 and 1; sigma^2 = 0.09 * 2
    X = np.random.default_rng(0).normal(size=(4000, 3))
    X = (X - X.mean(axis=0)) / X.std(axis=0) * [2.0, 1.0, 1.0]
    found = diagnosed(X, lambda x: x[:, 1:])
    lost = found["dimensional compression"]
    assert isinstance(found, Diagnosis)
    assert_allclose(lost.value, 1 / 3)
    assert_allclose(found.reference_noise, 0.3 * math.sqrt(2))
    assert_allclose(lost.weight, (4 / 4.18) ** 2 / 3, rtol=1e-3)
    assert "66.7% of its variance" in lost.evidence
