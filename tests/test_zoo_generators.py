"""Generators of the zoo against latents with closed forms, and resumed against uninterrupted."""

import json
import math
import warnings
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from benchmarks.zoo import generators  # noqa: E402
from benchmarks.zoo.config import Budget  # noqa: E402
from benchmarks.zoo.generators import OBJECTIVES, integrate, train_generator  # noqa: E402
from benchmarks.zoo.velocity_networks import build_network  # noqa: E402

TINY = Budget("tiny", width=32, blocks=1, steps=12, batch=16, learning_rate=1e-3)
VARIANCES = np.array([3.0, 0.5, 0.3, 0.2])
SHAPES = {"mlp": (4,), "dit": (2, 4, 4), "unet": (2, 4, 4)}


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def diffusers():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of packages that diffusers loads
        return pytest.importorskip("diffusers")


@pytest.fixture(params=["mlp", "dit", "unet"])
def kind(request):
    if request.param != "mlp":
        request.getfixturevalue("diffusers")
    return request.param


def scaled(Z):
    Z = Z - Z.mean(0)
    return (Z / np.sqrt(np.mean(Z**2))).astype(np.float32)


def gaussian_latents(n, d=4, seed=0):
    variances = np.resize(VARIANCES, d)
    return scaled(np.random.default_rng(seed).normal(size=(n, d)) * np.sqrt(variances))


def gaussian_prediction(aim, variances):
    """The best prediction for a centred Gaussian with this diagonal covariance."""
    variances = torch.as_tensor(variances)

    def predict(x, u):
        a, b = aim.path(u[:, None])
        total = a * a * variances + b * b
        return (b - a * variances if aim.name == "flow" else b) / total * x

    return predict


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_twenty_midpoint_steps_turn_noise_into_a_gaussian_latent(objective):
    aim = OBJECTIVES[objective]
    variances = np.geomspace(10, 1e-3, 9)
    predict = gaussian_prediction(aim, variances)
    # the path of a Gaussian is linear: one row of ones gives the scale of every direction
    ones = torch.ones(1, 9, dtype=torch.float64)
    scales = integrate(lambda x, u: aim.velocity(predict(x, u), x, u), ones, aim.last, 20)
    np.testing.assert_allclose(scales.numpy()[0] ** 2 / variances, 1.0, atol=0.015)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_midpoint_steps_are_of_second_order_at_least(objective):
    aim = OBJECTIVES[objective]
    predict = gaussian_prediction(aim, VARIANCES)
    ones = torch.ones(1, 4, dtype=torch.float64)

    def carried(steps):
        return integrate(lambda x, u: aim.velocity(predict(x, u), x, u), ones, aim.last, steps)

    exact = carried(1024)
    ratio = (carried(16) - exact).norm() / (carried(32) - exact).norm()
    assert float(ratio) > 3.5


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_velocity_is_the_derivative_of_the_path(objective):
    aim = OBJECTIVES[objective]
    stream = torch.Generator().manual_seed(0)
    x0, noise = torch.randn(2, 5, 3, generator=stream, dtype=torch.float64)
    u = torch.linspace(0.1, 0.9, 5, dtype=torch.float64)
    h = 1e-6
    slope = (aim.noisy(x0, noise, u + h) - aim.noisy(x0, noise, u - h)) / (2 * h)
    velocity = aim.velocity(aim.target(x0, noise), aim.noisy(x0, noise, u), u)
    torch.testing.assert_close(velocity, slope, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_before_training_the_prediction_is_that_of_a_unit_gaussian(objective, kind):
    shape = SHAPES[kind]
    network = build_network(kind, shape, TINY, seed=0)
    aim = OBJECTIVES[objective]
    x = torch.randn(6, math.prod(shape), generator=torch.Generator().manual_seed(1))
    u = torch.linspace(0.05, 0.95, 6)
    with torch.no_grad():
        found = aim.predict(network, x, u)
    torch.testing.assert_close(found, gaussian_prediction(aim, np.ones(1))(x, u).float())


def test_a_network_depends_on_place_and_time_once_its_output_is_not_zero(kind):
    network = build_network(kind, SHAPES[kind], TINY, seed=0)
    stream = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.1 * torch.randn(parameter.shape, generator=stream))
        x = torch.randn(1, math.prod(SHAPES[kind]), generator=stream).repeat(3, 1)
        x[1, 0] += 1
        early, moved, late = network(x, torch.tensor([0.2, 0.2, 0.8]))
    assert float((moved - early).norm()) > 1e-4
    assert float((late - early).norm()) > 1e-4


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_gaussian_latent_is_learnt_up_to_its_closed_form(objective):
    budget = Budget("short", width=32, blocks=1, steps=400, batch=128, learning_rate=1e-2)
    fit = train_generator(gaussian_latents(6000), budget, shape=(4,), seed=0, objective=objective)
    aim, network = fit.objective, fit.network
    variances = (VARIANCES / VARIANCES.mean()).astype(np.float32)
    best = gaussian_prediction(aim, variances)

    def best_network(x, u):  # what is added to the prediction for a unit Gaussian
        return best(x, u) - gaussian_prediction(aim, np.ones(1, dtype=np.float32))(x, u)

    fresh = torch.from_numpy(gaussian_latents(4000, seed=1))
    found = np.array(generators._held_out_losses(aim, network, fresh))
    least = np.array(generators._held_out_losses(aim, best_network, fresh))
    start = np.array(generators._held_out_losses(aim, lambda x, u: 0 * x, fresh))
    # found - least is the squared distance of two predictions, up to a cross term of mean zero
    assert np.all(found > least - 0.01)
    assert np.mean(found - least) < 0.15 * np.mean(start - least)
    sample = fit.sample(4000, seed=1)
    np.testing.assert_allclose(sample.var(0) / variances, 1.0, atol=0.15)
    np.testing.assert_allclose(sample.mean(0), 0.0, atol=0.15)


def test_more_budget_finds_more_of_the_latent():
    generator = np.random.default_rng(0)
    corners = generator.choice([-1.0, 1.0], size=(4000, 2))
    Z = scaled(corners + 0.1 * generator.normal(size=corners.shape))
    small = Budget("less", width=8, blocks=1, steps=60, batch=64, learning_rate=1e-2)
    large = Budget("more", width=64, blocks=2, steps=500, batch=128, learning_rate=5e-3)
    fits = [train_generator(Z, budget, shape=(2,), seed=0) for budget in (small, large)]
    losses = [fit.facts["held_out_loss"] for fit in fits]
    assert losses[1] < 0.95 * losses[0]
    # between the modes lies 0.5 % of the latent's mass at most
    between = [np.mean(np.abs(fit.sample(2000, seed=1)) < 0.5) for fit in fits]
    assert between[1] < 0.06 < between[0]


def test_an_interrupted_run_resumes_to_the_same_weights(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(generators, "CHECKPOINT_SECONDS", 0.0)
    d = math.prod(SHAPES[kind])
    Z = gaussian_latents(200, d)
    path = tmp_path / "run.safetensors"

    def stop(step, total, loss):
        if step == 7:
            raise KeyboardInterrupt

    def run(**how):
        return train_generator(Z, TINY, kind=kind, shape=SHAPES[kind], seed=3, **how)

    with pytest.raises(KeyboardInterrupt):
        run(checkpoint=path, progress=stop)
    steps = []
    resumed = run(checkpoint=path, progress=lambda step, total, loss: steps.append(step))
    whole = run()
    assert steps[0] == 8
    for a, b in zip(resumed.network.parameters(), whole.network.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    assert resumed.facts["loss"] == whole.facts["loss"]
    assert resumed.facts["held_out_losses"] == whole.facts["held_out_losses"]
    assert [file.name for file in tmp_path.iterdir()] == ["run.safetensors"]


def test_a_finished_run_is_read_from_its_checkpoint(tmp_path):
    Z = gaussian_latents(200)
    path = tmp_path / "folder" / "run.safetensors"
    first = train_generator(Z, TINY, shape=(4,), seed=3, checkpoint=path)
    steps = []
    again = train_generator(
        Z, TINY, shape=(4,), seed=3, checkpoint=path, progress=lambda *told: steps.append(told)
    )
    assert steps == []
    assert again.facts == first.facts
    np.testing.assert_array_equal(again.sample(10, seed=0), first.sample(10, seed=0))


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    Z = gaussian_latents(200)
    path = tmp_path / "run.safetensors"
    train_generator(Z, TINY, shape=(4,), seed=3, checkpoint=path)
    for name, other in (
        ("seed", {"seed": 4}),
        ("objective", {"objective": "epsilon"}),
        ("latents", {"Z": Z[:-1]}),
        ("steps", {"budget": replace(TINY, steps=13)}),
    ):
        how = {"Z": Z, "budget": TINY, "seed": 3, "shape": (4,), **other}
        with pytest.raises(ValueError, match=f"another run, which differs in {name}: delete it"):
            train_generator(checkpoint=path, **how)


def test_a_seed_fixes_the_run_and_leaves_the_global_stream(kind):
    d = math.prod(SHAPES[kind])
    Z = gaussian_latents(200, d)
    runs = []
    for start in (5, 6):
        torch.manual_seed(start)
        state = torch.get_rng_state()
        fit = train_generator(Z, TINY, kind=kind, shape=SHAPES[kind], seed=3)
        runs.append(fit.sample(8, seed=1, steps=2))
        assert torch.equal(torch.get_rng_state(), state)
    np.testing.assert_array_equal(*runs)
    other = train_generator(Z, TINY, kind=kind, shape=SHAPES[kind], seed=4)
    assert np.abs(other.sample(8, seed=1, steps=2) - runs[0]).max() > 1e-6


def test_samples_depend_on_their_seed_and_not_on_their_batches(monkeypatch):
    fit = train_generator(gaussian_latents(200), TINY, shape=(4,), seed=0)
    one = fit.sample(50, seed=1)
    monkeypatch.setattr(generators, "SAMPLE_ROWS", 7)
    np.testing.assert_allclose(fit.sample(50, seed=1), one, atol=1e-5)
    assert one.shape == (50, 4)
    assert one.dtype == np.float32
    assert np.abs(fit.sample(50, seed=2) - one).max() > 0.1


def test_the_facts_are_json_and_progress_ends_at_the_last_step():
    told = []
    fit = train_generator(
        gaussian_latents(200), TINY, shape=(4,), seed=0, progress=lambda *step: told.append(step)
    )
    assert told[-1] == (TINY.steps, TINY.steps, fit.facts["loss"])
    assert json.loads(json.dumps(fit.facts)) == fit.facts
    assert fit.facts["rows"] == 180
    assert fit.facts["held_out_loss"] == pytest.approx(np.mean(fit.facts["held_out_losses"]))


def test_the_learning_rate_rises_then_falls_to_zero():
    budget = replace(TINY, steps=1000)
    rates = [generators._learning_rate(step, budget) for step in range(1001)]
    assert np.argmax(rates) in (49, 50)
    assert max(rates) == budget.learning_rate
    assert rates[0] > 0
    assert rates[1000] == pytest.approx(0, abs=1e-12)
    assert np.all(np.diff(rates[50:]) < 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shape": (5,)}, r"Z has shape \(200, 4\); flatten .* \(5,\)"),
        ({"Z": gaussian_latents(20)}, "at least 100 latents"),
        ({"Z": gaussian_latents(200) * np.float32("nan")}, "not finite; drop"),
        ({"Z": gaussian_latents(200) * 2}, "Z has RMS 2 .* centre each entry"),
        (
            {"Z": gaussian_latents(200) + np.float32(0.3)},
            "an entry of mean 0.3.* centre each entry",
        ),
        ({"kind": "cnn"}, "kind is 'cnn'; take one of"),
        ({"objective": "score"}, "objective is 'score'; take one of"),
        ({"kind": "dit"}, r"shape is \(4,\); take kind='mlp'"),
        ({"kind": "unet", "shape": (4, 1, 1)}, r"\(C, 4 n, 4 n\), and shape is \(4, 1, 1\)"),
        (
            {"kind": "dit", "shape": (1, 4, 4), "Z": gaussian_latents(200, 16), "width": 40},
            "budget 'tiny' has width 40, .* a multiple of 32",
        ),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    how = {"Z": gaussian_latents(200), "shape": (4,), "seed": 0, **change}
    budget = replace(TINY, width=how.pop("width", TINY.width))
    with pytest.raises(ValueError, match=message):
        train_generator(how.pop("Z"), budget, **how)


def test_a_loss_that_ceases_to_be_finite_is_an_error():
    budget = replace(TINY, steps=100, learning_rate=1e30)
    with pytest.raises(FloatingPointError, match=r"at step \d+ of 100; lower learning_rate"):
        train_generator(gaussian_latents(200), budget, shape=(4,), seed=0)
