"""Cross-fitting: who sees whom, bounds that hold on average, intervals that cover."""

import math

import numpy as np
import pytest

from skfisher import candidates, crossfit, evaluation
from skfisher.crossfit import cross_fitted_curve
from skfisher.curves import gaussian_curve
from skfisher.evaluation import curve_of_models
from skfisher.samples import make_sample
from skfisher.scores import GaussianMixtureScore, KernelScore
from skfisher.testing import mixture_1d_oracle

LEVELS = np.asarray([0.3, 1.0, 3.0])
LAW = [0.4, 0.6], [-1.5, 1.5], [0.25, 0.5]
MIXTURE = GaussianMixtureScore(LAW[0], [[-1.5], [1.5]], [[[0.25]], [[0.5]]])
COVERED = (0.93, 0.97)

with_groups = pytest.mark.parametrize("grouped", [False, True])


def two_modes(N=120, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((N, 2)) + rng.integers(0, 2, (N, 1)) * [4, 0]


# -- the sample ----------------------------------------------------------------------------------


def test_equal_rows_are_merged_and_their_weights_added():
    X = np.asarray([[1.0, 0.0], [2.0, 0.0], [1.0, -0.0], [3.0, 0.0], [2.0, 0.0]])
    sample = make_sample(X)
    np.testing.assert_array_equal(sample.X, X[[0, 1, 3]])
    np.testing.assert_array_equal(sample.weights, [2, 2, 1])
    weighted = make_sample(X, np.asarray([0.5, 0.0, 0.25, 1.0, 0.0]), np.asarray([4, 3, 4, 2, 3]))
    np.testing.assert_array_equal(weighted.X, X[[0, 3]])
    np.testing.assert_array_equal(weighted.weights, [0.75, 1.0])
    np.testing.assert_array_equal(weighted.groups, [1, 0])


def test_distinct_rows_of_equal_weight_have_no_weights():
    X = two_modes(5)
    assert make_sample(X).weights is None
    assert make_sample(X, np.full(5, 3.0)).weights is None
    assert make_sample(X.repeat(2, axis=0)).weights is None


def test_one_distinct_row_has_no_scale():
    with pytest.raises(ValueError, match=r"X holds one distinct sample of positive weight in 4"):
        make_sample(np.ones((4, 2)))


# -- who sees whom -------------------------------------------------------------------------------


class Witness:
    """Records the rows that each model was fitted on and the rows that it was asked about."""

    def __init__(self, monkeypatch, X):
        self.rows = {row.tobytes(): i for i, row in enumerate(X)}
        self.fitted, self.asked = [], []  # keeps the models alive, so that no identity returns
        fit, rows_under = candidates.fit_candidate, evaluation.rows_under

        def witnessed_fit(name, x, *args, **kwargs):
            model = fit(name, x, *args, **kwargs)
            self.fitted.append((model, set(self.numbers(x))))
            return model

        def witnessed_rows_under(model, x, *args, one_step, **kwargs):
            self.asked.append((model, self.numbers(x), one_step))
            return rows_under(model, x, *args, one_step=one_step, **kwargs)

        for module in (candidates, crossfit):
            monkeypatch.setattr(module, "fit_candidate", witnessed_fit)
        for module in (candidates, evaluation):
            monkeypatch.setattr(module, "rows_under", witnessed_rows_under)

    def numbers(self, x):
        return [self.rows[np.ascontiguousarray(row).tobytes()] for row in x]

    def seen_by(self, model):
        return next((seen for known, seen in self.fitted if known is model), None)


@pytest.mark.parametrize("score_model", ["gaussian", "mixture", "auto"])
@with_groups
def test_no_row_is_scored_or_judged_by_a_model_that_saw_it_or_its_group(
    monkeypatch, score_model, grouped
):
    X = two_modes()
    groups = np.arange(120) // 4 if grouped else np.arange(120)
    witness = Witness(monkeypatch, X)
    sample = make_sample(X, groups=groups if grouped else None)
    cross_fitted_curve(sample, LEVELS, score_model)
    evaluated = np.zeros(120)
    for model, asked, one_step in witness.asked:
        seen = witness.seen_by(model)
        if seen is not None:
            assert not {groups[i] for i in seen} & {groups[i] for i in asked}
        if one_step:
            evaluated[asked] += 1
    # and every row is evaluated once at every level
    np.testing.assert_array_equal(evaluated, len(LEVELS))


@with_groups
def test_no_row_takes_part_in_the_choice_of_the_model_that_scores_it(monkeypatch, grouped):
    X = two_modes()
    groups = np.arange(120) // 4 if grouped else np.arange(120)
    chosen, choose = [], crossfit.best_of
    witness = Witness(monkeypatch, X)

    def witnessed_choice(names, teach, weights, judge, *args):
        teachers, judges = witness.numbers(teach), witness.numbers(judge)
        chosen.append({groups[i] for i in (*teachers, *judges)})
        assert not {groups[i] for i in teachers} & {groups[i] for i in judges}
        return choose(names, teach, weights, judge, *args)

    monkeypatch.setattr(crossfit, "best_of", witnessed_choice)
    cross_fitted_curve(make_sample(X, groups=groups if grouped else None), LEVELS, "mixture")
    assert len(chosen) == crossfit.N_FOLDS
    everyone = set(groups)
    for _, asked, one_step in witness.asked:
        if one_step:
            fold = {groups[i] for i in asked}
            # the only choice that did not know the fold is the one that was made for it
            assert sum(not fold & known for known in chosen) == 1
            assert next(known for known in chosen if not fold & known) == everyone - fold


@with_groups
def test_the_kernel_sees_all_rows_but_the_one_asked_about_and_its_group(grouped):
    X = two_modes(40)
    groups = np.arange(40) // 4 if grouped else np.arange(40)
    kernel = KernelScore(X, groups=groups if grouped else None)
    y = X[[3, 17, 3, 17]] + 0.1
    alone = candidates.LeaveOneOut(kernel, np.asarray([3, 17]))
    for i, row in enumerate((3, 17, 3, 17)):
        others = KernelScore(X[groups != groups[row]])
        np.testing.assert_allclose(alone(y, 0.5)[i], others(y[[i]], 0.5)[0], rtol=1e-9)
        trace = alone.divergence(y, 0.5)[1][i]
        assert trace == pytest.approx(others.divergence(y[[i]], 0.5)[1][0], rel=1e-9)
        local = alone.moments(y, 0.5, y - 0.1).residual_form[i]
        expected = others.moments(y[[i]], 0.5, y[[i]] - 0.1).residual_form[0]
        assert local == pytest.approx(expected, rel=1e-7)


def test_an_outlier_does_not_explain_itself():
    # a mixture or kernel that saw the outlier would put a component on it
    X = np.vstack([two_modes(100), [[50.0, 50.0]]])
    for score_model in ("mixture", "kernel"):
        curve = cross_fitted_curve(make_sample(X), LEVELS, score_model).curve
        # at distance 50 the error of the noise's prediction is (50 / sigma)^2 or so, over 101 rows
        assert curve.noise_prediction_score[0] < -1.0


@with_groups
def test_folds_are_whole_groups_and_all_of_them(grouped):
    groups = np.random.default_rng(0).integers(0, 11, 100) if grouped else None
    order = np.random.default_rng(1).permutation(11 if grouped else 100)
    folds = crossfit.deal_folds(order, groups, 5)
    np.testing.assert_array_equal(np.sort(np.concatenate(folds)), np.arange(100))
    if grouped:
        of_fold = [set(groups[fold]) for fold in folds]
        assert sum(map(len, of_fold)) == len(set(groups))
    else:
        assert {len(fold) for fold in folds} == {20}


def test_models_that_stand_behind_the_curve_are_its_winners_on_all_rows():
    fit = cross_fitted_curve(make_sample(two_modes()), LEVELS, "auto")
    for model, name in zip(fit.models, fit.curve.score_models, strict=True):
        assert model.name == name.split("-")[0]
    assert fit.one_step
    gaussian = cross_fitted_curve(make_sample(two_modes()), LEVELS, "gaussian").models[0]
    np.testing.assert_allclose(gaussian.mean, two_modes().mean(axis=0))


def test_the_choice_finds_the_law():
    gaussian = np.random.default_rng(0).standard_normal((600, 2))
    chosen = cross_fitted_curve(make_sample(gaussian), LEVELS, "auto").curve.score_models
    assert chosen[0] == "gaussian"  # at much noise all are as good
    chosen = cross_fitted_curve(make_sample(two_modes(600)), LEVELS, "auto").curve.score_models
    assert chosen[0].startswith("mixture")
    angles = np.random.default_rng(0).uniform(0, 2 * math.pi, 600)
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    chosen = cross_fitted_curve(make_sample(circle), LEVELS[:1], "auto").curve.score_models
    assert "gaussian" not in chosen


# -- bounds on average ---------------------------------------------------------------------------


def averaged(run, n_runs):
    """Mean over replications and its standard error, for several numbers each."""
    values = np.asarray([run(seed) for seed in range(n_runs)])
    return values.mean(axis=0), values.std(axis=0, ddof=1) / math.sqrt(n_runs)


@pytest.mark.parametrize("score_model", ["gaussian", "kernel", "auto"])
def test_bounds_hold_on_average_over_small_samples(score_model):
    truth = mixture_1d_oracle(*LAW, LEVELS).fisher_information

    def run(seed):
        sample = make_sample(MIXTURE.sample(30, seed))
        curve = cross_fitted_curve(sample, LEVELS, score_model, seed=seed, with_rate=False).curve
        return curve.fisher_information_bounds

    mean, error = averaged(run, 60)
    assert np.all(mean[:, 0] - truth < 4 * error[:, 0])
    assert np.all(truth - mean[:, 1] < 4 * error[:, 1])
    assert np.all(mean[:, 0] < mean[:, 1])


def test_lower_bound_falls_short_by_the_squared_error_of_a_given_model():
    # a Gaussian score of a two-mode law: the deficit is E|s_theta - s|^2
    wrong = GaussianMixtureScore([1.0], [[0.3]], [[[2.6]]])
    sample = make_sample(MIXTURE.sample(20_000, 1))
    curve = curve_of_models(
        sample, LEVELS, [wrong] * 3, names=["wrong"] * 3, one_step=True, bracket=False
    ).curve
    rng = np.random.default_rng(2)
    for k, sigma in enumerate(LEVELS):
        y = sample.X + sigma * rng.standard_normal(sample.X.shape)
        gaps = np.sum((wrong(y, sigma) - MIXTURE(y, sigma)) ** 2, axis=1)
        expected = mixture_1d_oracle(*LAW, [sigma]).fisher_information[0] - gaps.mean()
        error = math.hypot(
            curve.fisher_information_bounds_stderr[k, 0], gaps.std() / math.sqrt(len(gaps))
        )
        assert abs(curve.fisher_information_bounds[k, 0] - expected) < 4 * error


# -- coverage ------------------------------------------------------------------------------------


def coverage(run, truth, n_runs):
    """Share of replications whose 95 % interval contains the truth, for J and R at each level."""
    hits = []
    for seed in range(n_runs):
        curve = run(seed)
        hits.append(
            [
                np.abs(getattr(curve, name) - getattr(truth, name))
                < 1.96 * getattr(curve, f"{name}_stderr")
                for name in ("fisher_information", "fisher_information_rate")
            ]
        )
    return np.mean(hits, axis=0)


def assert_covers(share, n_runs):
    # the limits over 1000 replications; wider by the error of the share over fewer
    slack = 2.5 * math.sqrt(0.95 * 0.05) * (1 / math.sqrt(n_runs) - 1 / math.sqrt(1000))
    assert np.all(share >= COVERED[0] - slack), share
    assert np.all(share <= COVERED[1] + slack), share


def of_given_mixture(N, one_step):
    def run(seed):
        return curve_of_models(
            make_sample(MIXTURE.sample(N, 10_000 + seed)),
            LEVELS,
            [MIXTURE] * 3,
            names=["mixture"] * 3,
            one_step=one_step,
            seed=seed,
            bracket=False,
        ).curve

    return run


@pytest.mark.parametrize("one_step", [False, True])
def test_intervals_of_a_given_mixture_cover(one_step):
    share = coverage(of_given_mixture(500, one_step), mixture_1d_oracle(*LAW, LEVELS), 200)
    assert_covers(share, 200)


@pytest.mark.slow
@pytest.mark.parametrize("one_step", [False, True])
@pytest.mark.parametrize("N", [500, 5000])
def test_intervals_of_a_given_mixture_cover_within_two_per_cent(N, one_step):
    share = coverage(of_given_mixture(N, one_step), mixture_1d_oracle(*LAW, LEVELS), 1000)
    assert_covers(share, 1000)


def of_fitted_gaussian(N, S):
    root = np.sqrt(np.diag(S))

    def run(seed):
        X = np.random.default_rng(20_000 + seed).standard_normal((N, len(root))) * root
        return cross_fitted_curve(
            make_sample(X), LEVELS, "gaussian", seed=seed, bracket=False
        ).curve

    return run


@pytest.mark.parametrize("S", [np.eye(1), np.diag([1.0, 4.0])], ids=["1-d", "2-d"])
def test_intervals_of_a_fitted_gaussian_cover(S):
    # the plug-in trace is the same at every row, and would claim no error at all
    share = coverage(of_fitted_gaussian(500, S), gaussian_curve(S, LEVELS), 150)
    assert_covers(share, 150)


@pytest.mark.slow
@pytest.mark.parametrize("N", [500, 5000])
def test_intervals_of_a_fitted_gaussian_cover_within_two_per_cent(N):
    S = np.diag([1.0, 4.0])
    share = coverage(of_fitted_gaussian(N, S), gaussian_curve(S, LEVELS), 1000)
    assert_covers(share, 1000)


@pytest.mark.slow
def test_intervals_of_dependent_rows_cover_where_their_groups_are_told():
    S = np.diag([1.0, 4.0])

    def run(seed):
        rng = np.random.default_rng(30_000 + seed)
        groups = np.repeat(np.arange(200), 4)
        # rows of a group share three quarters of their variance
        X = math.sqrt(0.75) * rng.standard_normal((200, 2))[groups]
        X = (X + math.sqrt(0.25) * rng.standard_normal((800, 2))) * [1, 2]
        return cross_fitted_curve(
            make_sample(X, groups=groups), LEVELS, "gaussian", seed=seed, bracket=False
        ).curve

    assert_covers(coverage(run, gaussian_curve(S, LEVELS), 400), 400)


def test_rows_of_different_folds_have_different_probes(monkeypatch):
    streams, rows_under = [], evaluation.rows_under

    def witnessed(*args, stream, **kwargs):
        streams.append(stream)
        return rows_under(*args, stream=stream, **kwargs)

    monkeypatch.setattr(evaluation, "rows_under", witnessed)
    sample = make_sample(np.random.default_rng(0).standard_normal((60, 70)))
    cross_fitted_curve(sample, LEVELS[:1], "gaussian", bracket=False)
    assert len(streams) == len(set(streams)) == crossfit.N_FOLDS
