"""What scikit-learn expects of the three estimators, and what its own checks do not look at."""

import pickle
from dataclasses import fields

import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.datasets import make_blobs
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.experimental import enable_halving_search_cv  # noqa: F401 (makes the next import work)
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    HalvingGridSearchCV,
    KFold,
    cross_val_score,
    cross_validate,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from skfisher import (
    FIRateEstimator,
    FisherInformationEstimator,
    GaussianScore,
    LatentGeometryAuditor,
)
from skfisher._backend.arrays import to_numpy

CURVES = (FisherInformationEstimator, FIRateEstimator)
ALL = (*CURVES, LatentGeometryAuditor)
LEVELS = [0.5, 2.0]

every = pytest.mark.parametrize("Estimator", ALL)
every_curve = pytest.mark.parametrize("Estimator", CURVES)
every_family = pytest.mark.parametrize(
    ("Estimator", "score_model"),
    [(Estimator, "gaussian") for Estimator in ALL]
    + [(FIRateEstimator, name) for name in ("mixture", "kernel", "auto")],
)
# few rows, few levels: these tests ask how numbers are passed on, not whether they may be believed
pytestmark = pytest.mark.filterwarnings("ignore::skfisher.exceptions.UnreliableEstimateWarning")


def quick(Estimator, **parameters):
    return Estimator(**({"score_model": "gaussian", "noise_levels": LEVELS} | parameters))


def sample(N=60, n=3, seed=0):
    return np.random.default_rng(seed).standard_normal((N, n)) * np.arange(1, n + 1)


def results(estimator):
    """Every number behind the fitted attributes."""
    curves = ("curve_", "data_curve_", "latent_curve_", "matched_curve_")
    found = {}
    for name in curves:
        curve = getattr(estimator, name, None)
        if curve is not None:
            found |= {f"{name}.{f.name}": getattr(curve, f.name) for f in fields(curve)}
    for name in ("diffusability_", "scale_", "bi_lipschitz_"):
        if hasattr(estimator, name):
            found[name] = getattr(estimator, name)
    return {k: to_numpy(v) if hasattr(v, "dtype") else v for k, v in found.items()}


def assert_same(first, second, **tolerance):
    a, b = results(first), results(second)
    assert a.keys() == b.keys()
    for name, value in a.items():
        if np.asarray(value).dtype.kind in "US":
            assert value == b[name], name
        else:
            np.testing.assert_allclose(
                np.asarray(b[name], float), np.asarray(value, float), err_msg=name,
                **({"rtol": 0.0, "atol": 0.0} | tolerance),
            )  # fmt: skip


# -- scikit-learn's own checks -------------------------------------------------------------------


@parametrize_with_checks([quick(Estimator) for Estimator in ALL])
def test_scikit_learn_checks(estimator, check):
    check(estimator)


@parametrize_with_checks([FIRateEstimator()])
def test_scikit_learn_checks_by_default(estimator, check):
    check(estimator)


@pytest.mark.slow
@parametrize_with_checks([FisherInformationEstimator(), LatentGeometryAuditor()])
def test_scikit_learn_checks_by_default_of_the_others(estimator, check):
    check(estimator)


# -- its blind spots -----------------------------------------------------------------------------


@every
def test_score_before_fit_is_refused(Estimator):
    with pytest.raises(NotFittedError, match="not fitted yet"):
        quick(Estimator).score(sample())


@every_family
def test_refitting_forgets_what_was_fitted_before(Estimator, score_model, home):
    X, fresh = home(sample()), home(sample(seed=2))
    once = quick(Estimator, score_model=score_model).fit(X)
    twice = quick(Estimator, score_model=score_model).fit(home(sample(80, 2, seed=1))).fit(X)
    assert_same(once, twice)
    assert once.score(fresh) == twice.score(fresh)


@every_family
def test_integer_weights_equal_repetition(Estimator, score_model, home):
    X = sample()
    weights = np.random.default_rng(1).integers(0, 4, len(X))
    weighted = quick(Estimator, score_model=score_model).fit(
        home(X), sample_weight=home(weights, "int64")
    )
    repeated = quick(Estimator, score_model=score_model).fit(home(X.repeat(weights, axis=0)))
    # the estimators merge equal rows; the auditor's geometry and grids see all of them
    rounding = 1e-9 if Estimator is LatentGeometryAuditor else 0.0
    assert_same(weighted, repeated, rtol=rounding, atol=rounding)
    fresh, w = sample(40, seed=3), np.random.default_rng(4).integers(0, 3, 40)
    of_weights = weighted.score(home(fresh), sample_weight=home(w))
    assert of_weights == pytest.approx(weighted.score(home(fresh.repeat(w, axis=0))), rel=1e-12)


@every
def test_weights_of_zero_remove_their_rows_and_equal_weights_do_nothing(Estimator, home):
    X = sample()
    kept = np.arange(len(X)) % 3 > 0
    rounding = 1e-9 if Estimator is LatentGeometryAuditor else 0.0
    assert_same(
        quick(Estimator).fit(home(X), sample_weight=home(2.5 * kept)),
        quick(Estimator).fit(home(X[kept])),
        rtol=rounding,
        atol=rounding,
    )


@every
def test_weights_have_no_unit(Estimator, home):
    X, w = sample(), np.random.default_rng(0).uniform(0.5, 2.0, 60)
    assert_same(
        quick(Estimator).fit(home(X), sample_weight=home(w)),
        quick(Estimator).fit(home(X), sample_weight=home(1e-3 * w)),
        rtol=1e-9,
        atol=1e-9,
    )


# -- parameters ----------------------------------------------------------------------------------


@every
def test_clones_and_pickles_give_the_same_numbers(Estimator, home):
    X, fresh = home(sample()), home(sample(seed=1))
    fitted = quick(Estimator, random_state=3).fit(X)
    copy = pickle.loads(pickle.dumps(fitted))
    assert_same(fitted, copy)
    assert fitted.score(fresh) == copy.score(fresh)
    assert not hasattr(clone(fitted), "noise_levels_")
    assert_same(fitted, clone(fitted).fit(X))


def test_fitted_models_of_every_kind_survive_pickling():
    for score_model in ("mixture", "kernel", GaussianScore(np.zeros(3), np.eye(3))):
        fitted = quick(FIRateEstimator, score_model=score_model).fit(sample())
        copy = pickle.loads(pickle.dumps(fitted))
        assert fitted.score(sample(seed=1)) == copy.score(sample(seed=1))


def test_parameters_of_the_encoder_are_reached_through_the_auditor():
    audit = quick(LatentGeometryAuditor, encoder=PCA(2))
    assert audit.get_params()["encoder__n_components"] == 2
    audit.set_params(encoder__n_components=1, n_probes=2)
    assert audit.encoder.n_components == 1
    assert audit.n_probes == 2
    assert audit.fit(sample()).latent_curve_.n_features == 1


def test_score_models_are_not_copied_by_clone():
    model = GaussianScore(np.zeros(3), np.eye(3))
    assert clone(quick(FIRateEstimator, score_model=model)).score_model is model


@every
def test_fit_leaves_parameters_and_input_alone(Estimator):
    X, levels = sample(), np.asarray(LEVELS)
    X.flags.writeable = levels.flags.writeable = False
    estimator = quick(Estimator, noise_levels=levels, random_state=np.random.RandomState(0))
    before = estimator.get_params(deep=False)
    estimator.fit(X)
    assert all(estimator.get_params(deep=False)[name] is value for name, value in before.items())


@every
def test_seeds_decide_the_draws(Estimator, home):
    X = home(sample())
    by_state = quick(Estimator, random_state=np.random.RandomState(5)).fit(X)
    assert_same(by_state, quick(Estimator, random_state=np.random.RandomState(5)).fit(X))
    a, b = (results(quick(Estimator, random_state=seed).fit(X)) for seed in (0, 1))
    name = next(name for name in a if name.endswith(".fisher_information_bounds"))
    assert not np.array_equal(a[name], b[name])


# -- names and dtypes of X -----------------------------------------------------------------------


@every
def test_frames_give_their_names_and_the_numbers_of_their_arrays(Estimator):
    frame = pd.DataFrame(sample(), columns=["a", "b", "c"])
    named = quick(Estimator).fit(frame)
    assert list(named.feature_names_in_) == ["a", "b", "c"]
    assert_same(named, quick(Estimator).fit(frame.to_numpy()))
    assert isinstance(named.score(frame), float)
    assert not hasattr(quick(Estimator).fit(frame.to_numpy()), "feature_names_in_")


def test_frames_pass_through_a_fitted_encoder_without_a_warning():
    frame = pd.DataFrame(sample(), columns=["a", "b", "c"])
    audit = quick(LatentGeometryAuditor, encoder=PCA(2)).fit(frame)
    assert_same(audit, quick(LatentGeometryAuditor, encoder=PCA(2)).fit(frame.to_numpy()))
    assert isinstance(audit.score(frame), float)


@every
def test_other_features_at_score_are_refused(Estimator):
    frame = pd.DataFrame(sample(), columns=["a", "b", "c"])
    fitted = quick(Estimator).fit(frame)
    with pytest.raises(ValueError, match="feature names should match"):
        fitted.score(frame.rename(columns={"c": "d"}))
    with pytest.raises(ValueError, match="feature names should match"):
        fitted.score(frame[["b", "a", "c"]])
    with pytest.raises(ValueError, match=r"X has 2 features, but .* is expecting 3 features"):
        quick(Estimator).fit(sample()).score(sample(n=2))


@every_curve
def test_single_precision_in_single_precision_out(Estimator, home):
    X = sample().astype(np.float32)
    single = quick(Estimator).fit(home(X, "float32"))
    double = quick(Estimator).fit(home(X.astype(float)))
    for name, value in results(single).items():
        if isinstance(value, np.ndarray) and value.dtype != bool:
            assert value.dtype == np.float32, name
    assert home.owns(single.fisher_information_, "float32")
    # computed in double precision, rounded at the end
    assert_same(double, single, rtol=2e-6, atol=2e-6)


@every
@pytest.mark.parametrize(
    "same",
    [
        lambda X: X.tolist(),
        lambda X: X.astype(int),
        lambda X: X.astype(np.int8),
        lambda X: X.astype(object),
        lambda X: np.asfortranarray(X),
        lambda X: np.vstack([X, X])[: len(X)],
        lambda X: pd.DataFrame(X).convert_dtypes(),
    ],
    ids=["list", "int", "int8", "object", "fortran", "view", "nullable"],
)
def test_numbers_are_numbers_in_every_container(Estimator, same):
    X = np.round(3 * sample())
    assert_same(quick(Estimator).fit(X), quick(Estimator).fit(same(X)), rtol=1e-12, atol=1e-12)


@every
@pytest.mark.parametrize("rows", [[[{}, 1.0], [1.0, 2.0]], [["a", "b"], ["c", "d"]]])
def test_what_is_no_number_is_refused(Estimator, rows):
    with pytest.raises((TypeError, ValueError), match=r"X cannot be read as numbers .* OrdinalEnc"):
        quick(Estimator).fit(np.asarray(rows, dtype=object))


# -- searches ------------------------------------------------------------------------------------


def clouds():
    return make_blobs(120, 4, centers=3, random_state=0)[0]


@every
def test_cross_validation_scores_held_out_rows(Estimator):
    X = clouds()
    scores = cross_val_score(quick(Estimator), X, cv=3)
    assert scores.shape == (3,)
    assert np.all(np.isfinite(scores))
    train, test = next(iter(KFold(3).split(X)))
    assert scores[0] == quick(Estimator).fit(X[train]).score(X[test])


def test_a_grid_search_runs_over_a_pipeline_in_two_processes():
    steps = make_pipeline(StandardScaler(), PCA(), quick(FIRateEstimator))
    search = GridSearchCV(steps, {"pca__n_components": [1, 2, 4]}, cv=3, n_jobs=2).fit(clouds())
    scores = search.cv_results_["mean_test_score"]
    assert np.all(np.isfinite(scores))
    assert len(set(scores)) == 3
    assert search.best_estimator_.score(clouds()) < 0


def test_a_grid_search_trains_the_encoder_of_the_auditor_inside_the_fold():
    audit = quick(LatentGeometryAuditor, encoder=PCA())
    grid = {"encoder__n_components": [1, 2]}
    alone = GridSearchCV(audit, grid, cv=3).fit(clouds())
    shared = GridSearchCV(audit, grid, cv=3, n_jobs=2).fit(clouds())
    scores = alone.cv_results_["mean_test_score"]
    assert np.all(np.isfinite(scores))
    np.testing.assert_array_equal(scores, shared.cv_results_["mean_test_score"])
    best = alone.best_estimator_
    assert best.encoder_.n_components_ == alone.best_params_["encoder__n_components"]


def test_a_halving_search_runs():
    search = HalvingGridSearchCV(
        quick(FIRateEstimator), {"score_model": ["gaussian", "mixture"]}, cv=2, random_state=0
    ).fit(clouds())
    assert np.all(np.isfinite(search.cv_results_["mean_test_score"]))
    assert search.best_params_["score_model"] in ("gaussian", "mixture")


def test_an_encoder_is_trained_inside_the_fold_and_the_one_given_is_not():
    X, encoder = clouds(), PCA(2)
    audit = quick(LatentGeometryAuditor, encoder=encoder)
    folds = cross_validate(audit, X, cv=3, return_estimator=True)["estimator"]
    for (train, _), fitted in zip(KFold(3).split(X), folds, strict=True):
        np.testing.assert_allclose(fitted.encoder_.mean_, X[train].mean(axis=0))
    assert not hasattr(encoder, "mean_")


def test_a_frozen_encoder_is_not_refitted():
    X = clouds()
    encoder = PCA(2).fit(X[:50])
    mean = encoder.mean_.copy()
    audit = quick(LatentGeometryAuditor, encoder=FrozenEstimator(encoder)).fit(X[50:])
    np.testing.assert_array_equal(encoder.mean_, mean)
    by_function = quick(LatentGeometryAuditor, encoder=encoder.transform).fit(X[50:])
    assert_same(audit, by_function)


def test_labels_reach_the_encoder():
    class NeedsLabels(TransformerMixin, BaseEstimator):
        def fit(self, X, y):
            self.centre_ = X[y == 1].mean(axis=0)
            return self

        def transform(self, X):
            return X - self.centre_

    X = clouds()
    y = (X[:, 0] > 0).astype(int)
    audit = quick(LatentGeometryAuditor, encoder=NeedsLabels()).fit(X, y)
    np.testing.assert_allclose(audit.encoder_.centre_, X[y == 1].mean(axis=0))


@every
def test_groups_pass_through_a_pipeline(Estimator):
    X, groups = clouds(), np.repeat(np.arange(40), 3)
    name = Estimator.__name__.lower()
    steps = make_pipeline(StandardScaler(), quick(Estimator)).fit(X, **{f"{name}__groups": groups})
    direct = quick(Estimator).fit(StandardScaler().fit_transform(X), groups=groups)
    assert_same(steps[-1], direct)
    assert not np.array_equal(
        results(direct)[next(k for k in results(direct) if k.endswith("information_stderr"))],
        results(quick(Estimator).fit(StandardScaler().fit_transform(X)))[
            next(k for k in results(direct) if k.endswith("information_stderr"))
        ],
    )


def test_groups_and_weights_are_routed_to_the_folds_that_need_them():
    X, groups = clouds(), np.repeat(np.arange(40), 3)
    w = np.random.default_rng(0).uniform(0.5, 2.0, len(X))
    with sklearn.config_context(enable_metadata_routing=True):
        estimator = (
            quick(FIRateEstimator)
            .set_fit_request(groups=True, sample_weight=True)
            .set_score_request(sample_weight=True)
        )
        found = cross_validate(
            make_pipeline(StandardScaler().set_fit_request(sample_weight=False), estimator),
            X,
            cv=GroupKFold(3),
            params={"groups": groups, "sample_weight": w},
            return_indices=True,
        )
    train, test = found["indices"]["train"][0], found["indices"]["test"][0]
    assert not set(groups[train]) & set(groups[test])
    scaler = StandardScaler().fit(X[train])
    by_hand = quick(FIRateEstimator).fit(
        scaler.transform(X[train]), sample_weight=w[train], groups=groups[train]
    )
    expected = by_hand.score(scaler.transform(X[test]), sample_weight=w[test])
    assert found["test_score"][0] == expected


# -- batches -------------------------------------------------------------------------------------

MODEL = GaussianScore(np.zeros(3), np.diag([1.0, 4.0, 9.0]))
# the upper bound needs all rows at once, and what rests on it
NOT_IN_BATCHES = ("fisher_information_bounds", "effective_sample_size", "valid", "reasons")


def test_partial_fit_is_offered_only_where_batches_add_up():
    assert not hasattr(FIRateEstimator(), "partial_fit")
    assert not hasattr(FIRateEstimator(score_model=MODEL), "partial_fit")
    assert not hasattr(FIRateEstimator(noise_levels=LEVELS), "partial_fit")
    assert hasattr(FIRateEstimator(score_model=MODEL, noise_levels=LEVELS), "partial_fit")
    with pytest.raises(AttributeError) as refusal:
        FIRateEstimator().partial_fit(sample())
    # scikit-learn says that there is none, and the cause says why
    message = "no partial_fit with score_model='auto', noise_levels=None and class_conditional=F"
    assert message in str(refusal.value.__cause__)


@every_curve
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_batches_add_up_to_one_fit(Estimator, weighted, offset, home):
    X = sample(200) + offset
    w = np.random.default_rng(1).uniform(0.1, 2.0, 200) if weighted else None
    model = GaussianScore(np.full(3, offset), MODEL.covariance)
    whole = quick(Estimator, score_model=model).fit(home(X), sample_weight=w)
    batches = quick(Estimator, score_model=model)
    for rows in (slice(0, 1), slice(1, 90), slice(90, 200)):
        batches.partial_fit(home(X[rows]), sample_weight=None if w is None else w[rows])
    a, b = results(whole), results(batches)
    for name, value in a.items():
        field = name.removeprefix("curve_.")
        if field.startswith(NOT_IN_BATCHES):
            continue
        if np.asarray(value).dtype.kind == "f":
            np.testing.assert_allclose(b[name], value, rtol=1e-9, atol=1e-9, err_msg=name)
        else:
            assert b[name] == value, name
    lower = a["curve_.fisher_information_bounds"][:, 0]
    np.testing.assert_allclose(b["curve_.fisher_information_bounds"][:, 0], lower, rtol=1e-9)
    assert np.all(np.isnan(b["curve_.fisher_information_bounds"][:, 1]))


def test_fit_forgets_the_batches_and_batches_forget_the_fit():
    estimator = quick(FIRateEstimator, score_model=MODEL).fit(sample(50, seed=1))
    estimator.partial_fit(sample())
    assert estimator.curve_.n_samples == 60
    alone = quick(FIRateEstimator, score_model=MODEL).partial_fit(sample())
    assert_same(alone, estimator)
    assert_same(quick(FIRateEstimator, score_model=MODEL).fit(sample()), estimator.fit(sample()))


def test_batches_of_other_features_are_refused():
    estimator = quick(FIRateEstimator, score_model=MODEL).partial_fit(sample())
    with pytest.raises(ValueError, match="X has 2 features, but FIRateEstimator is expecting 3"):
        estimator.partial_fit(sample(n=2))


def test_batches_can_be_scored():
    estimator = quick(FIRateEstimator, score_model=MODEL).partial_fit(sample(300))
    whole = quick(FIRateEstimator, score_model=MODEL).fit(sample(300))
    assert estimator.score(sample(100, seed=1)) == whole.score(sample(100, seed=1))
