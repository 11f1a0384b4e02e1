"""Stacking a network on closed forms: no worse than they are, and only where it is better."""

import math
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from skfisher import FIRateEstimator, crossfit, evaluation, learned  # noqa: E402
from skfisher.crossfit import cross_fitted_curve  # noqa: E402
from skfisher.exceptions import MissingTorchWarning  # noqa: E402
from skfisher.forms import FORMS  # noqa: E402
from skfisher.learned import LearnedScores, learn_scores  # noqa: E402
from skfisher.samples import Sample, make_sample  # noqa: E402
from skfisher.scores import GaussianScore  # noqa: E402
from skfisher.scores.network import NetworkRecipe, TrainingLog  # noqa: E402
from skfisher.scores.stacked import StackedScore  # noqa: E402
from skfisher.traces import pooled_means  # noqa: E402

LOG = TrainingLog(1, 1, "all steps taken", ((1, 0.0),), 0, 0.0, "cpu")
LEVELS = np.asarray([0.2, 0.5, 2.0])
BRIEF = NetworkRecipe(width=48, n_blocks=2, n_steps=300)
# few rows and levels: these tests ask who sees whom, not whether the numbers may be believed
pytestmark = pytest.mark.filterwarnings("ignore::skfisher.exceptions.UnreliableEstimateWarning")


def ring(N, seed=0):
    """A noisy ring, which a Gaussian does not know."""
    rng = np.random.default_rng(seed)
    angle = rng.uniform(0, 2 * math.pi, N)
    points = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return points + 0.05 * rng.standard_normal((N, 2))


def learn(X, judges, recipe=BRIEF, **options):
    rng = np.random.default_rng(1)
    closed = {"gaussian": GaussianScore(X.mean(0), np.cov(X.T))}
    noise = [rng.standard_normal(judges.shape) for _ in LEVELS]
    return learn_scores(
        X, None, judges, None, closed, noise, [float(s) for s in LEVELS], recipe, **options
    )


# -- stacking ------------------------------------------------------------------------------------


class Linear:
    """s = -a y, whose Jacobian has an antisymmetric part b."""

    n_features = 2

    def __init__(self, a, b=0.0):
        self.matrix = np.asarray([[-a, b], [-b, -a]])

    def __call__(self, y, sigma):
        return y @ self.matrix.T

    def jvp(self, y, sigma, v):
        return self(y, sigma), v @ self.matrix.T

    def both(self, y, sigma, v):
        return *self.jvp(y, sigma, v), v @ self.matrix


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_a_stack_is_the_line_from_the_closed_form_to_the_network(share):
    rng = np.random.default_rng(0)
    y, v = rng.standard_normal((2, 5, 2))
    closed, network = GaussianScore(np.zeros(2), 2 * np.eye(2)), Linear(3.0, 0.5)
    stack = StackedScore(closed, network, share)
    A = (1 - share) * (-np.eye(2) / 3.0) + share * network.matrix
    np.testing.assert_allclose(stack(y, 1.0), y @ A.T, rtol=1e-12)
    np.testing.assert_allclose(stack.jvp(y, 1.0, v)[1], v @ A.T, rtol=1e-12)
    np.testing.assert_allclose(stack.both(y, 1.0, v)[2], v @ A, rtol=1e-12)


def test_the_share_is_the_one_of_least_squares(monkeypatch):
    X = ring(600)
    found = learn(X[200:], X[:200])
    rng = np.random.default_rng(1)
    for k, sigma in enumerate(LEVELS):
        eps = rng.standard_normal((200, 2))

        def loss(share, k=k, sigma=sigma, eps=eps):
            model = found.models[k]
            model = StackedScore(model.closed, model.network, share)
            plus = eps + sigma * model(X[:200] + sigma * eps, sigma)
            minus = sigma * model(X[:200] - sigma * eps, sigma) - eps
            return np.mean(plus**2 + minus**2) / 2

        share = found.models[k].share
        assert 0.0 <= share <= 1.0
        assert loss(share) <= min(loss(0.0), loss(1.0), loss(min(share + 0.05, 1.0)))
        assert loss(0.0) - loss(share) == pytest.approx(found.gain[k], rel=1e-6, abs=1e-9)


def test_a_network_gains_on_a_ring_and_not_on_a_gaussian():
    X = ring(1200)
    found = learn(X[300:], X[:300])
    assert found.better()[:2] == [True, True]
    assert found.gain[1] > 0.05
    normal = np.random.default_rng(0).standard_normal((1200, 2))
    found = learn(normal[300:], normal[:300], give_up=True)
    assert found.better() == [False] * 3
    assert found.log.stopped == "no gain over closed forms"
    assert found.log.n_steps == 75


def test_a_network_that_is_not_finite_takes_no_level(monkeypatch):
    def broken(*args, **kwargs):
        network = Linear(math.nan)
        network.log = None
        return network

    monkeypatch.setattr(learned, "fit_network", broken)
    X = ring(100)
    assert learn(X, X).better(0.0) == [False] * 3


# -- in the curve --------------------------------------------------------------------------------


class Pretender:
    """Stands in for the training of a network and remembers who taught and judged it."""

    def __init__(self, X, better):
        self.rows = {row.tobytes(): i for i, row in enumerate(X)}
        self.better, self.seen = better, []

    def __call__(self, X, weights, judges, judge_weights, closed, noise, levels, recipe, **options):
        self.seen.append([{self.rows[row.tobytes()] for row in rows} for rows in (X, judges)])
        self.closed, self.options = closed, options
        models = tuple(StackedScore(closed["gaussian"], Linear(0.5), 0.5) for _ in levels)
        gains = tuple(1.0 if better else -1.0 for better in self.better)
        return LearnedScores(models, ("gaussian",) * 3, gains, (0.1,) * 3, LOG)


@pytest.mark.parametrize("cross_fit", [False, True])
@pytest.mark.parametrize("grouped", [False, True])
def test_no_row_is_scored_by_a_network_that_it_taught_or_judged(monkeypatch, cross_fit, grouped):
    X = ring(200)
    groups = np.arange(200) // 4
    pretender = Pretender(X, [True, False, True])
    monkeypatch.setattr(crossfit, "learn_scores", pretender)
    asked, form_rows = [], evaluation.form_rows

    def witnessed(model, x, *args, **kwargs):
        if isinstance(model, StackedScore):
            asked.append({pretender.rows[row.tobytes()] for row in x})
        return form_rows(model, x, *args, **kwargs)

    monkeypatch.setattr(evaluation, "form_rows", witnessed)
    sample = make_sample(X, groups=groups if grouped else None)
    fit = cross_fitted_curve(sample, LEVELS, NetworkRecipe(cross_fit=cross_fit))
    assert len(pretender.seen) == (5 if cross_fit else 1)
    assert len(asked) == 2 * len(pretender.seen)
    of = groups if grouped else np.arange(200)
    for f, (teachers, judges) in enumerate(pretender.seen):
        assert not {of[i] for i in teachers} & {of[i] for i in judges}
        for evaluated in asked[f :: len(pretender.seen)]:
            assert not {of[i] for i in teachers | judges} & {of[i] for i in evaluated}
            assert len(teachers | judges | evaluated) >= 0.9 * len(X)
    assert fit.curve.score_models[0] == fit.curve.score_models[2] == "network"
    assert fit.curve.score_models[1] != "network"
    assert fit.models[0].name == "network"
    if cross_fit:
        assert set.union(*asked) == set(range(200))


def test_forms_of_some_rows_have_their_mean_and_its_covariance():
    rng = np.random.default_rng(0)
    X, weights = rng.standard_normal((60, 2)), rng.uniform(0.5, 2.0, 60)
    index = np.arange(0, 60, 4)
    values = rng.standard_normal((15, len(FORMS)))
    level = evaluation.Level(values, index, 0, None, (None, ""))
    spread = evaluation._on_all_rows(level, Sample(X, weights, None))
    means, cov = pooled_means(spread, weights=weights)
    of_few, cov_of_few = pooled_means(values, weights=weights[index])
    np.testing.assert_allclose(means, of_few, rtol=1e-12)
    # but for the factor of small samples, m / (m - 1), in which the two counts of rows differ
    np.testing.assert_allclose(cov, cov_of_few * (14 / 15) * (60 / 59), rtol=2e-2)


def test_auto_says_once_that_it_leaves_out_the_network_without_torch(monkeypatch):
    monkeypatch.setattr(crossfit, "NETWORK_ROWS", 50)
    monkeypatch.setattr(crossfit, "find_spec", lambda name: None)
    monkeypatch.setattr(crossfit, "_TORCH_MISSED", False)
    sample = make_sample(ring(60))
    with pytest.warns(MissingTorchWarning, match=r'pip install "skfisher\[torch\]"'):
        cross_fitted_curve(sample, LEVELS[:1], "auto")
    fit = cross_fitted_curve(sample, LEVELS[:1], "auto")
    assert fit.curve.score_models[0] != "network"


def test_a_network_without_torch_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match=r'pip install "skfisher\[torch\]"'):
        learn(ring(40), ring(20, seed=1))


def test_auto_learns_only_from_enough_rows_and_where_the_bracket_is_open(monkeypatch):
    X = ring(200)
    pretender = Pretender(X, [True] * 3)
    monkeypatch.setattr(crossfit, "learn_scores", pretender)
    cross_fitted_curve(make_sample(X), LEVELS, "auto")
    assert not pretender.seen
    monkeypatch.setattr(crossfit, "NETWORK_ROWS", 200)
    # at large noise the bracket is closed
    cross_fitted_curve(make_sample(X), np.asarray([2.0, 4.0, 6.0]), "auto")
    assert not pretender.seen
    # and at small noise the smoothed sample shows its points
    fit = cross_fitted_curve(make_sample(X), np.asarray([0.01, 0.02, 2.0]), "auto")
    assert fit.curve.score_models[:2] == ("network",) * 2
    assert fit.curve.score_models[2] != "network"
    assert pretender.options["give_up"]


def test_an_estimator_learns_a_score_by_name_or_recipe_and_scores_new_rows():
    X = ring(600)
    est = FIRateEstimator(score_model=BRIEF, noise_levels=LEVELS).fit(X)
    assert "network" in est.score_model_
    curve = est.curve_
    learned_at = [k for k, name in enumerate(est.score_model_) if name == "network"]
    assert all(curve.linearizations[k] == "forward" for k in learned_at)
    assert all(0 <= curve.asymmetry[k] < 0.2 for k in learned_at)
    closed = FIRateEstimator(score_model="gaussian", noise_levels=LEVELS).fit(X)
    k = learned_at[0]
    assert curve.noise_prediction_score[k] > closed.curve_.noise_prediction_score[k]
    assert math.isfinite(est.score(ring(300, seed=5)))
