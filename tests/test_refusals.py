"""Input that the estimators refuse: each message names the argument, what came and the cure."""

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.decomposition import PCA

from skfisher import (
    FIRateEstimator,
    FisherInformationEstimator,
    GaussianScore,
    LatentGeometryAuditor,
)

CURVES = (FisherInformationEstimator, FIRateEstimator)
LEVELS = [0.3, 1.0, 3.0]

every = pytest.mark.parametrize("Estimator", [*CURVES, LatentGeometryAuditor])
every_curve = pytest.mark.parametrize("Estimator", CURVES)
unreliable = pytest.mark.filterwarnings("ignore::skfisher.exceptions.UnreliableEstimateWarning")


def quick(Estimator, **parameters):
    return Estimator(**({"score_model": "gaussian", "noise_levels": LEVELS} | parameters))


def sample(N=60, n=3, seed=0):
    return np.random.default_rng(seed).standard_normal((N, n)) * np.arange(1, n + 1)


def with_one(value):
    X = sample()
    X[7, 1] = value
    return X


# -- X -------------------------------------------------------------------------------------------

BAD_SAMPLES = {
    "NaN": (with_one(np.nan), ValueError, r"X contains NaN .* 1 of 60 rows.* row 7: drop"),
    "infinity": (with_one(-np.inf), ValueError, r"X contains NaN or infinity .* row 7: drop"),
    "no rows": (sample()[:0], ValueError, r"X has 0 sample\(s\) \(shape=\(0, 3\)\).*more rows"),
    "no columns": (sample()[:, :0], ValueError, r"X has 0 feature\(s\) \(shape=\(60, 0\)\)"),
    "one row": (sample()[:1], ValueError, r"X has 1 sample\(s\) \(shape=\(1, 3\)\).*more rows"),
    "one distinct row": (np.ones((9, 2)), ValueError, r"one distinct sample .* 9 rows.*two diff"),
    "1-D": (np.arange(9.0), ValueError, r"got 1D array.*X has shape \(9,\).*Reshape"),
    "3-D": (np.ones((4, 2, 2)), ValueError, r"got 3D array.*X has shape \(4, 2, 2\).*X\.reshape"),
    "a number": (3.0, ValueError, r"got 0D array.*X has shape \(\)"),
    "sparse": (sparse.csr_array(sample()), TypeError, r"X is a sparse csr_array.*X\.toarray\(\)"),
    "complex": (sample() + 1j, ValueError, r"Complex data not supported: X has dtype complex128"),
    "dicts": (np.asarray([[{}, 1], [2, 3]], object), TypeError, r"X cannot be read .*OrdinalEnc"),
    "text": (np.asarray([["a"], ["b"]]), ValueError, r"X cannot be read as numbers.*Ordinal"),
    "a frame with text": (
        pd.DataFrame({"a": [1.0, 2.0], "b": ["x", "y"]}),
        ValueError,
        r"X cannot be read as numbers.*OneHotEncoder",
    ),
}  # fmt: skip


@every
@pytest.mark.parametrize("bad", BAD_SAMPLES)
def test_samples_that_cannot_be_measured_are_refused(Estimator, bad):
    X, error, message = BAD_SAMPLES[bad]
    with pytest.raises(error, match=message):
        quick(Estimator).fit(X)


@every
@pytest.mark.parametrize("bad", [name for name in BAD_SAMPLES if "frame" not in name])
def test_samples_that_cannot_be_scored_are_refused(Estimator, bad):
    X, error, message = BAD_SAMPLES[bad]
    n = X.shape[1] if getattr(X, "ndim", 0) == 2 and X.shape[1] else 3
    with pytest.raises(error, match=message):
        quick(Estimator).fit(sample(n=n)).score(X)


@pytest.mark.parametrize(
    "bad",
    [name for name in BAD_SAMPLES if not name.startswith("one")],  # a batch may be a single row
)
def test_batches_that_cannot_be_measured_are_refused(bad):
    X, error, message = BAD_SAMPLES[bad]
    model = GaussianScore(np.zeros(3), np.eye(3))
    with pytest.raises(error, match=message):
        quick(FIRateEstimator, score_model=model).partial_fit(X)


@every
@pytest.mark.parametrize("row", [[2, 0, 0], [2, 2, 2]])
def test_rows_that_weights_leave_alone_are_refused(Estimator, row):
    X = np.asarray([[0.0, 1.0], [1.0, 0.0], [1.0, 0.0]])
    if row[1]:
        X[1:] = X[0]
    with pytest.raises(
        ValueError, match=r"X holds one distinct sample .* 3 rows.* at least two different rows"
    ):
        quick(Estimator).fit(X, sample_weight=row)


BAD_WEIGHTS = {
    "short": (np.ones(59), r"sample_weight has shape \(59,\) but X has 60 rows: pass one weight"),
    "negative": (np.linspace(-1, 1, 60), r"sample_weight ranges from -1.* not negative"),
    "NaN": (np.full(60, np.nan), r"sample_weight ranges from nan"),
    "zero": (np.zeros(60), r"sample_weight ranges from 0.0 to 0.0: .* not all zero"),
}


@every
@pytest.mark.parametrize("bad", BAD_WEIGHTS)
def test_weights_that_weigh_nothing_are_refused(Estimator, bad):
    weights, message = BAD_WEIGHTS[bad]
    with pytest.raises(ValueError, match=message):
        quick(Estimator).fit(sample(), sample_weight=weights)
    with pytest.raises(ValueError, match=message):
        quick(Estimator).fit(sample()).score(sample(), sample_weight=weights)


@every
def test_groups_that_group_nothing_are_refused(Estimator):
    with pytest.raises(ValueError, match=r"groups has shape \(59,\) but X has 60 rows"):
        quick(Estimator).fit(sample(), groups=np.arange(59))
    with pytest.raises(ValueError, match=r"groups holds the single label .*groups=None"):
        quick(Estimator).fit(sample(), groups=np.zeros(60))


@every_curve
def test_weights_that_are_text_are_refused(Estimator):
    with pytest.raises((TypeError, ValueError), match="sample_weight"):
        quick(Estimator).fit(sample(), sample_weight=["a"] * 60)


@every_curve
@pytest.mark.parametrize("by", ["weights", "equal rows"])
def test_groups_that_weights_or_equal_rows_leave_alone_are_refused(Estimator, by):
    X, weights = sample(), None
    groups = np.repeat([0, 1], 30)
    if by == "weights":
        weights = np.repeat([0.0, 1.0], 30)
    else:
        X[30:] = X[:30]
    with pytest.raises(ValueError, match=r"groups .*at least two"):
        quick(Estimator).fit(X, sample_weight=weights, groups=groups)


# -- parameters ----------------------------------------------------------------------------------

BAD_LEVELS = {
    "negative": ([-1.0, 1.0], ValueError, r"noise_levels\[0\] is -1.0: .* positive"),
    "zero": ([0.0, 1.0], ValueError, r"noise_levels\[0\] is 0.0: .* positive"),
    "NaN": ([0.5, np.nan], ValueError, r"noise_levels\[1\] is nan: .* finite"),
    "infinite": ([0.5, np.inf], ValueError, r"noise_levels\[1\] is inf: .* finite"),
    "unsorted": ([1.0, 0.5], ValueError, r"noise_levels\[1\] is 0.5 after 1.0: .* sorted"),
    "repeated": ([1.0, 1.0], ValueError, r"noise_levels\[1\] is 1.0 after 1.0: .*numpy.unique"),
    "none": ([], ValueError, r"noise_levels is empty: .* at least one level"),
    "a number": (0.5, ValueError, r"noise_levels has shape \(\): .* \[sigma\]"),
    "a matrix": ([[0.5]], ValueError, r"noise_levels has shape \(1, 1\)"),
    "text": (["a"], TypeError, r"noise_levels is \['a'\]: pass real numbers"),
}


@every
@pytest.mark.parametrize("bad", BAD_LEVELS)
def test_noise_levels_that_are_no_grid_are_refused(Estimator, bad):
    levels, error, message = BAD_LEVELS[bad]
    with pytest.raises(error, match=message):
        quick(Estimator, noise_levels=levels).fit(sample())


@every
@pytest.mark.parametrize("n_probes", [0, -1, 1.5, "one", None])
def test_numbers_of_probes_below_one_are_refused(Estimator, n_probes):
    with pytest.raises(ValueError, match=rf"n_probes is {n_probes!r}: .* 1 or more"):
        quick(Estimator, n_probes=n_probes).fit(sample())


@every
def test_unknown_score_models_are_refused(Estimator):
    with pytest.raises(ValueError, match=r"score_model is 'gauss': choose one of auto, gaussian"):
        quick(Estimator, score_model="gauss").fit(sample())
    with pytest.raises(TypeError, match=r"score_model is a int, which cannot be called: pass"):
        quick(Estimator, score_model=3).fit(sample())


@every_curve
def test_score_model_classes_are_refused(Estimator):
    with pytest.raises(TypeError, match="score_model is the class GaussianScore: pass an instance"):
        quick(Estimator, score_model=GaussianScore).fit(sample())


@every
def test_score_models_of_another_dimension_are_refused(Estimator):
    model = GaussianScore(np.zeros(2), np.eye(2))
    with pytest.raises(ValueError, match=r"built for 2 features but X has 3: pass X in the space"):
        quick(Estimator, score_model=model).fit(sample())


@pytest.mark.parametrize("max_points", [1, 0, 2.5, "all", None])
def test_fewer_than_two_points_to_audit_are_refused(max_points):
    with pytest.raises(ValueError, match=rf"max_points is {max_points!r}: .* 2 or more"):
        quick(LatentGeometryAuditor, max_points=max_points).fit(sample())


@every
def test_devices_that_are_not_there_are_refused(Estimator):
    pytest.importorskip("torch")
    with pytest.raises(ValueError, match=r"device is .cuda:99., which cannot .* device=None"):
        quick(Estimator, device="cuda:99").fit(sample())


# -- what a score model returns ------------------------------------------------------------------


@every
@pytest.mark.parametrize(
    ("wrong", "seen"),
    [
        (lambda y, sigma: y[:, :1], r"\(\d+, 1\)"),
        (lambda y, sigma: y[:-1], r"\(\d+, 3\)"),
        (lambda y, sigma: y[:, 0], r"\(\d+,\)"),
        (lambda y, sigma: 0.0, "float"),
        (lambda y, sigma: None, "NoneType"),
    ],
)
def test_scores_of_the_wrong_shape_are_refused(Estimator, wrong, seen):
    message = rf"score_model returned shape {seen} for y of shape .* one row per row of y"
    with pytest.raises(ValueError, match=message):
        quick(Estimator, score_model=wrong).fit(sample())


@every_curve
def test_complex_scores_are_refused(Estimator):
    with pytest.raises((TypeError, ValueError), match=r"score_model returned .*complex"):
        quick(Estimator, score_model=lambda y, sigma: -1j * y).fit(sample())


def gaussian_score(y, sigma):
    return -y / (np.asarray([1.0, 4.0, 9.0]) + sigma**2)


def failing_below(threshold):
    return lambda y, sigma: gaussian_score(y, sigma) * (1.0 if sigma > threshold else np.nan)


@every
def test_scores_that_are_nowhere_finite_are_refused(Estimator):
    message = "score_model returned NaN or infinity at every noise level: check that it takes"
    with pytest.raises(ValueError, match=message):
        quick(Estimator, score_model=failing_below(np.inf)).fit(sample())


@every_curve
def test_levels_at_which_the_score_is_not_finite_are_marked_and_the_run_goes_on(Estimator):
    X = sample(400)
    part = quick(Estimator, score_model=failing_below(0.5)).fit(X)
    whole = quick(Estimator, score_model=gaussian_score).fit(X)
    assert np.isnan(part.fisher_information_[0])
    assert np.isnan(part.fisher_information_stderr_[0])
    assert not part.valid_[0]
    assert part.curve_.reasons[0] == "the score is not finite"
    # the levels that are left know nothing of the one that failed
    np.testing.assert_array_equal(part.fisher_information_[1:], whole.fisher_information_[1:])
    np.testing.assert_array_equal(part.valid_[1:], whole.valid_[1:])
    assert np.isnan(part.curve_.mutual_information[0])
    for values in (part.curve_.mutual_information, part.curve_.mutual_information_stderr):
        assert np.all(np.isfinite(values[1:]))
    rest = quick(Estimator, score_model=gaussian_score, noise_levels=LEVELS[1:]).fit(X)
    assert rest.curve_.viv == pytest.approx(part.curve_.viv, rel=0.3)
    low, high = part.curve_.viv_bounds
    assert low < part.curve_.viv < high


@unreliable
@every_curve
def test_scores_over_levels_that_failed_rest_on_the_others(Estimator):
    part = quick(Estimator, score_model=failing_below(0.5)).fit(sample(400))
    assert np.isfinite(part.score(sample(400, seed=1)))


# -- what an encoder returns ---------------------------------------------------------------------


class Codes:
    """An encoder that is no scikit-learn transformer."""

    def __init__(self, encode):
        self.encode = encode


BAD_CODES = {
    "rows": (lambda X: X[:-1], r"encoder returned 59 rows for 60 rows of X: .* one latent per row"),
    "NaN": (lambda X: X * np.nan, r"the encoder's output contains NaN or infinity in 60 of 60"),
    "a scalar": (lambda X: 1.0, r"encoder returned a float for X of shape \(60, 3\): it must map"),
    "0-D": (lambda X: np.asarray(1.0), r"encoder returned shape \(\) for X of shape \(60, 3\)"),
    "nothing": (lambda X: None, r"encoder returned a NoneType for X of shape \(60, 3\)"),
    "1-D": (lambda X: X[:, 0], r"encoder returned shape \(60,\) for X .*Z\.reshape\(len\(Z\)"),
    "3-D": (lambda X: X[:, :, None], r"encoder returned shape \(60, 3, 1\).*Z\.reshape"),
    "no columns": (lambda X: X[:, :0], r"the encoder's output has 0 feature\(s\)"),
    "one point": (lambda X: 0 * X, r"encoder maps all 60 audited rows to one point: .*collapsed"),
}  # fmt: skip


@pytest.mark.parametrize("bad", BAD_CODES)
@pytest.mark.parametrize("wrap", [lambda f: f, Codes], ids=["function", "object"])
def test_codes_that_are_no_latents_are_refused(bad, wrap):
    encode, message = BAD_CODES[bad]
    with pytest.raises(ValueError, match=message):
        quick(LatentGeometryAuditor, encoder=wrap(encode)).fit(sample())


def test_sparse_codes_are_refused():
    with pytest.raises(TypeError, match=r"the encoder's output is a sparse csr_array"):
        quick(LatentGeometryAuditor, encoder=lambda X: sparse.csr_array(X)).fit(sample())


def test_codes_that_fail_at_score_are_refused():
    audit = quick(LatentGeometryAuditor, encoder=lambda X: X[:-1] if len(X) == 40 else X)
    with pytest.raises(ValueError, match=r"encoder returned 39 rows for 40 rows of X"):
        audit.fit(sample()).score(sample(40))


def test_encoders_that_cannot_encode_are_refused():
    with pytest.raises(TypeError, match=r"encoder is the class PCA: pass an instance, PCA\(...\)"):
        quick(LatentGeometryAuditor, encoder=PCA).fit(sample())
    with pytest.raises(TypeError, match=r"encoder is a object without transform, encode or __call"):
        quick(LatentGeometryAuditor, encoder=object()).fit(sample())


# -- handled, not refused ------------------------------------------------------------------------


@every_curve
@pytest.mark.parametrize("score_model", ["gaussian", "mixture", "kernel", "auto"])
def test_a_constant_feature_adds_its_known_terms(Estimator, score_model):
    X = sample(300, 2)
    plain = quick(Estimator, score_model=score_model).fit(X)
    with_constant = quick(Estimator, score_model=score_model).fit(
        np.c_[X[:, :1], np.full(300, 7.3), X[:, 1:]]
    )
    t = np.square(LEVELS)
    curves = plain.curve_, with_constant.curve_
    terms = {"fisher_information": 1 / t, "effective_dimension": 0.0, "mmse": 0.0}
    if Estimator is FIRateEstimator:
        terms |= {"fisher_information_rate": 1 / t**2, "mmse_rate": 0.0, "complexity_penalty": 1.0}
    for name, term in terms.items():
        before, after = (getattr(curve, name) for curve in curves)
        error = np.hypot(*(getattr(curve, f"{name}_stderr") for curve in curves))
        # the two runs draw other noise; fitted mixtures differ beside it
        assert np.all(np.abs(after - before - term) < 4 * error + 0.05 * np.abs(before)), name
    assert np.all(np.isfinite(with_constant.fisher_information_bounds_))
    assert np.isfinite(with_constant.curve_.viv)


@unreliable
@pytest.mark.parametrize("standardize", [False, True])
def test_a_constant_channel_of_the_latent_is_audited(standardize):
    audit = quick(
        LatentGeometryAuditor,
        encoder=lambda X: np.c_[X, np.full(len(X), 2.0)],
        standardize=standardize,
    ).fit(sample(200))
    assert np.all(np.isfinite(audit.latent_curve_.complexity_penalty))
    assert audit.bi_lipschitz_ == pytest.approx((1.0, 1.0)) or standardize
    assert np.isfinite(audit.score(sample(100, seed=1)))


@every
def test_ten_rows_are_measured_and_marked(Estimator):
    fitted = Estimator().fit(sample(10, 2))
    assert not np.any(fitted.valid_)
