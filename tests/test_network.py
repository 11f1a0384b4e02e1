"""Learned scores: what they learn, that a seed fixes them, and that training survives a stop."""

import math
import pickle

import numpy as np
import pytest
from sklearn.base import clone

torch = pytest.importorskip("torch", reason="torch is not installed")

from skfisher.scores import GaussianMixtureScore, GaussianScore  # noqa: E402
from skfisher.scores.network import NetworkRecipe, fit_network  # noqa: E402

SMALL = NetworkRecipe(width=48, n_blocks=2, n_steps=300)
BRIEF = NetworkRecipe(width=16, n_blocks=1, n_steps=40, batch_size=32)
RANGE = (0.1, 3.0)
TWO_POINTS = GaussianMixtureScore([0.5, 0.5], [[-1.0, 0.0], [1.0, 0.0]], np.full((2, 2, 2), 0.01)
                                  * np.eye(2))  # fmt: skip


def two_modes(N=700, seed=0):
    rng = np.random.default_rng(seed)
    return 0.1 * rng.standard_normal((N, 2)) + rng.choice([-1.0, 1.0], (N, 1)) * [1.0, 0.0]


def fitted(recipe=BRIEF, X=None, seed=0, **options):
    X = two_modes() if X is None else X
    return fit_network(X[100:], X[:100], RANGE, recipe, seed=seed, **options)


def noise_prediction_score(model, X, sigma, seed=1):
    eps = np.random.default_rng(seed).standard_normal(X.shape)
    plus, minus = model(X + sigma * eps, sigma), model(X - sigma * eps, sigma)
    rows = ((eps + sigma * plus) ** 2 + (eps - sigma * minus) ** 2).mean(1) / 2
    return 1 - rows.mean(), rows.std() / math.sqrt(len(rows))


# -- what it learns ------------------------------------------------------------------------------


def test_before_any_step_it_is_the_gaussian_of_the_sample():
    X = two_modes()
    model = fitted(NetworkRecipe(width=16, n_steps=1, learning_rate=1e-12), X)
    mean, S = X[100:].mean(0), np.cov(X[100:].T, bias=True)
    y = np.random.default_rng(1).standard_normal((20, 2))
    v = np.random.default_rng(2).standard_normal((20, 2))
    for sigma in (0.1, 1.0):
        s, hv = model.jvp(y, sigma, v)
        expected = GaussianScore(mean, S).jvp(y, sigma, v)
        np.testing.assert_allclose(s, expected[0], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(hv, expected[1], rtol=1e-4, atol=1e-5)


def test_it_learns_two_modes_that_a_gaussian_cannot_tell():
    model, X = fitted(SMALL), two_modes(2000, seed=5)
    gaussian = GaussianScore(X.mean(0), np.cov(X.T))
    for sigma in (0.2, 0.5):
        learned, error = noise_prediction_score(model, X, sigma)
        exact, _ = noise_prediction_score(TWO_POINTS, X, sigma)
        assert learned > noise_prediction_score(gaussian, X, sigma)[0] + 0.1
        assert exact - 0.03 - 3 * error < learned < exact + 3 * error


def test_a_row_without_weight_is_not_learned_from():
    X = two_modes()
    left = X[:, 0] < 0
    weights = np.where(left, 1.0, 0.0)[100:]
    model = fitted(SMALL, X, weights=weights)
    # half way to the mode that has no weight, the score leads back
    y = np.asarray([[0.5, 0.0]])
    assert model(y, 0.5)[0, 0] < 0.0 < fitted(SMALL, X)(y, 0.5)[0, 0]


def test_a_unit_of_X_changes_nothing_but_the_unit_of_the_score():
    X, c = two_modes(), 1e3
    y = np.random.default_rng(1).standard_normal((10, 2))
    one = fit_network(X[100:], X[:100], RANGE, BRIEF)(y, 0.5)
    other = fit_network(c * X[100:], c * X[:100], (c * RANGE[0], c * RANGE[1]), BRIEF)
    np.testing.assert_allclose(c * other(c * y, c * 0.5), one, rtol=2e-3, atol=2e-3)


def test_latents_of_an_image_shape_get_convolutions_that_see_their_neighbours():
    rng = np.random.default_rng(0)
    coarse = rng.standard_normal((500, 2, 2, 2)).repeat(2, axis=2).repeat(2, axis=3)
    X = (np.sign(coarse) + 0.05 * rng.standard_normal(coarse.shape)).reshape(500, -1)
    recipe = NetworkRecipe(width=16, n_blocks=1, n_steps=150, batch_size=64)
    model = fitted(recipe, X, latent_shape=(2, 4, 4))
    channelwise = GaussianScore(np.zeros(32), np.eye(32))
    learned, _ = noise_prediction_score(model, X[:100], 1.0)
    assert learned > noise_prediction_score(channelwise, X[:100], 1.0)[0] + 0.1
    assert any(isinstance(layer, torch.nn.Conv2d) for layer in model.denoiser.modules())


def test_products_are_derivatives():
    model = fitted(SMALL)
    rng = np.random.default_rng(2)
    y, v = rng.standard_normal((2, 30, 2))
    s, hv = model.jvp(y, 0.5, v)
    np.testing.assert_allclose(s, model(y, 0.5), rtol=1e-5, atol=1e-5)
    step = 1e-2
    slope = (model(y + step * v, 0.5) - model(y - step * v, 0.5)) / (2 * step)
    np.testing.assert_allclose(hv, slope, atol=2e-2 * np.abs(slope).max())
    _, forward, transposed = model.both(y, 0.5, v)
    np.testing.assert_allclose(forward, hv, rtol=1e-4, atol=1e-4)
    inner = (v * forward).sum(1), (v * transposed).sum(1)
    np.testing.assert_allclose(*inner, rtol=1e-3, atol=1e-3)


# -- a seed, a stop ------------------------------------------------------------------------------


def test_a_seed_fixes_the_network_and_leaves_the_global_one_alone():
    y = np.ones((3, 2))
    state = torch.random.get_rng_state()
    first, again, other = fitted(), fitted(), fitted(seed=1)
    assert torch.equal(torch.random.get_rng_state(), state)
    np.testing.assert_array_equal(first(y, 0.5), again(y, 0.5))
    assert np.abs(first(y, 0.5) - other(y, 0.5)).max() > 1e-4


@pytest.mark.parametrize("stop_after", [1, 11])
def test_training_goes_on_where_it_was_interrupted(tmp_path, stop_after):
    lines = []

    def interrupt(line):
        lines.append(line)
        if len(lines) == stop_after:
            raise KeyboardInterrupt

    recipe = NetworkRecipe(**{**vars(BRIEF), "checkpoint": tmp_path / "kept"})
    with pytest.raises(KeyboardInterrupt):
        fitted(recipe, report=interrupt)
    assert f"step {2 * stop_after} of 40" in lines[-1]
    assert [file.suffix for file in (tmp_path / "kept").iterdir()] == [".pt"]
    resumed = []
    model = fitted(recipe, report=resumed.append)
    assert len(lines) + len(resumed) == 20
    whole = fitted()
    y = np.random.default_rng(0).standard_normal((5, 2))
    np.testing.assert_array_equal(model(y, 0.5), whole(y, 0.5))
    assert model.log.scores == whole.log.scores


def test_a_training_that_has_ended_is_read_and_another_one_is_kept_beside_it(tmp_path):
    recipe = NetworkRecipe(**{**vars(BRIEF), "checkpoint": tmp_path})
    first, lines = fitted(recipe), []
    again = fitted(recipe, report=lines.append)
    assert not lines
    assert again.log == first.log
    y = np.ones((2, 2))
    np.testing.assert_array_equal(again(y, 0.5), first(y, 0.5))
    stopped = fitted(recipe, seed=3, promising=lambda network: False)
    assert fitted(recipe, seed=3).log == stopped.log
    fitted(recipe, X=two_modes(seed=1))
    fitted(recipe, weights=np.linspace(1.0, 2.0, 600))
    assert len(list(tmp_path.iterdir())) == 4


def test_a_damaged_checkpoint_is_refused(tmp_path):
    recipe = NetworkRecipe(**{**vars(BRIEF), "checkpoint": tmp_path})
    fitted(recipe)
    (path,) = tmp_path.iterdir()
    for content in (b"", path.read_bytes()[:1000], pickle.dumps({"stopped": "x"})):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"checkpoint .* cannot be read"):
            fitted(recipe)


def test_training_stops_when_it_is_not_promising_and_when_the_score_no_longer_rises():
    asked = []

    def promising(network):
        asked.append(noise_prediction_score(network, two_modes(50), 0.5)[0])
        return len(asked) < 2

    log = fitted(promising=promising).log
    assert (log.stopped, log.n_steps, len(asked)) == ("no gain over closed forms", 20, 2)
    # nothing is to be learned about a Gaussian: the score falls as the network learns the rows
    X = np.random.default_rng(0).standard_normal((140, 2))
    recipe = NetworkRecipe(width=64, n_steps=400, batch_size=40, patience=2, learning_rate=1e-2)
    log = fitted(recipe, X).log
    assert log.stopped == "no better score"
    assert log.best_step < log.n_steps < 400


# -- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 0}, "width is 0: pass a positive number"),
        ({"n_steps": -1}, "n_steps is -1"),
        ({"ema": 1.0}, r"ema is 1.0: pass a number in \[0, 1\)"),
        ({"held_out": 0.7}, r"held_out is 0.7: pass a share in \(0, 0.2\]"),
    ],
)
def test_an_impossible_recipe_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        NetworkRecipe(**options)


def test_a_loss_that_leaves_the_numbers_is_refused():
    with pytest.raises(ValueError, match=r"learning_rate is 1e\+30: the loss is"):
        fitted(NetworkRecipe(width=16, n_steps=50, learning_rate=1e30))


def test_a_recipe_and_a_score_are_cloned_as_they_are():
    recipe = NetworkRecipe(n_steps=5)
    assert clone(recipe, safe=False) == recipe
    model = fitted()
    assert clone(model) is model
    y = np.ones((1, 2))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model))(y, 0.5), model(y, 0.5))


def test_nothing_that_comes_back_remembers_gradients():
    model = fitted()
    y = torch.ones((3, 2), dtype=torch.float64, requires_grad=True)
    for array in (model(y, 0.5), *model.jvp(y, 0.5, y), *model.both(y, 0.5, y)):
        assert array.dtype == torch.float64
        assert not array.requires_grad
    assert not any(p.requires_grad for p in model.denoiser.parameters())
