"""Networks in every convention against the exact score of a mixture that they wear."""

import math
import pickle
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.base import clone

from skfisher import FIRateEstimator, GaussianMixtureScore
from skfisher._backend.arrays import to_numpy
from skfisher.exceptions import UnreliableEstimateWarning
from skfisher.noise import (
    EDM,
    CosineVP,
    DiscreteVE,
    DiscreteVP,
    FlowMatching,
    LinearVP,
    VarianceExploding,
    prediction_from_score,
)
from skfisher.scores.adapters import from_denoiser, from_module

torch = pytest.importorskip("torch")

DDPM = DiscreteVP(np.cumprod(1 - np.linspace(1e-4, 0.02, 1000)))
NCSN = DiscreteVE(np.geomspace(50.0, 0.01, 232))
CONVENTIONS = [
    ("score", VarianceExploding(), "sigma"),
    ("score", LinearVP(), "time"),
    ("score", NCSN, "time"),
    ("epsilon", DDPM, "time"),
    ("epsilon", CosineVP(), "log_sigma"),
    ("epsilon", VarianceExploding(), "time"),
    ("x0", LinearVP(), "time"),
    ("denoiser", VarianceExploding(), "time"),
    ("v", DDPM, "time"),
    ("v", CosineVP(), "time"),
    ("velocity", FlowMatching(), "time"),
    ("velocity", FlowMatching(shift=3.0, time_scale=1000.0), "time"),
    ("velocity_to_data", FlowMatching(data_at=1), "time"),
    ("edm", EDM(sigma_data=0.7), "time"),
    ("v", EDM(sigma_data=0.7), "time"),
]
by_convention = pytest.mark.parametrize(
    ("prediction", "path", "time"), CONVENTIONS, ids=lambda value: repr(value)
)

WEIGHTS = [0.5, 0.3, 0.2]
MEANS = [[1.0, 0.0, -1.0, 0.5], [-1.0, 1.5, 0.0, 0.0], [0.0, -1.0, 1.0, 2.0]]
VARIANCES = [0.05, 0.3, 0.1]


def exact(scale=1.0, shift=0.0):
    """The mixture in units z = scale (y - shift)."""
    means = scale * (np.asarray(MEANS) - shift)
    covariances = np.stack([scale**2 * variance * np.eye(4) for variance in VARIANCES])
    return GaussianMixtureScore(WEIGHTS, means, covariances)


def mixture_score(y, sigma):
    """Score of the mixture in torch."""
    means = y.new_tensor(MEANS)
    spread = y.new_tensor(VARIANCES) + sigma**2
    gaps = means - y[:, None, :]
    logits = y.new_tensor(WEIGHTS).log() - 2 * spread.log() - (gaps**2).sum(2) / (2 * spread)
    return torch.einsum("mk,mkn->mn", logits.softmax(1) / spread, gaps)


class Wearing(torch.nn.Module):
    """A network that predicts exactly, in a convention; it keeps what it was given."""

    def __init__(self, prediction, path, time="time", units=lambda z: z, scale=1.0):
        super().__init__()
        self.prediction, self.path, self.time = prediction, path, time
        self.units, self.scale = units, scale  # from z to y, and dz / dy
        self.dropout = torch.nn.Dropout(0.5)

    def forward(self, x, time):
        assert time.shape == (x.shape[0],)
        told = float(time[0])
        if self.time == "time":
            sigma = self.path.sigma(told)
        else:
            sigma = told if self.time == "sigma" else math.exp(told)
        z = x / self.path.signal(sigma)
        s = mixture_score(self.units(z), sigma / self.scale) / self.scale
        s = self.dropout(s)
        if self.prediction == "score":
            return s / self.path.signal(sigma)
        if isinstance(self.path, EDM):
            unit = self.path.sigma_data
            skip = unit**2 / (sigma**2 + unit**2)
            out = sigma * unit / math.sqrt(sigma**2 + unit**2)
            F = (z + sigma**2 * s - skip * z) / out
            return F if self.prediction == "edm" else -F
        return prediction_from_score(s, z, sigma, self.prediction)


def points(rng, m=6):
    return rng.normal(size=(m, 4)) * 1.5


@by_convention
def test_an_exact_score_comes_back_from_every_convention(prediction, path, time, library, rng):
    model = from_module(
        Wearing(prediction, path, time),
        prediction=prediction,
        path=path,
        time=time,
        dtype=torch.float64,
        mode="forward",
    )
    y, v = rng.normal(size=(2, 6, 4))
    for sigma in (0.05, 0.7, 8.0):
        s, hv = model.jvp(library(y), sigma, library(v))
        expected_s, expected_hv = exact().jvp(y, sigma, v)
        assert library.owns(s)
        assert library.owns(hv)
        np.testing.assert_allclose(to_numpy(s), expected_s, rtol=1e-9, atol=1e-10 / sigma)
        np.testing.assert_allclose(to_numpy(hv), expected_hv, rtol=1e-9, atol=1e-10 / sigma**2)
        np.testing.assert_allclose(to_numpy(model(library(y), sigma)), to_numpy(s), rtol=1e-12)


@by_convention
def test_single_precision_keeps_four_digits(prediction, path, time, rng):
    network = Wearing(prediction, path, time)
    model = from_module(network, prediction=prediction, path=path, time=time, mode="reverse")
    y, v = rng.normal(size=(2, 6, 4)).astype("float32")
    for sigma in (0.3, 2.0):
        s, hv = model.jvp(y, sigma, v)
        assert s.dtype == hv.dtype == np.float32
        expected_s, expected_hv = exact().jvp(y.astype("float64"), sigma, v.astype("float64"))
        np.testing.assert_allclose(s, expected_s, rtol=1e-4, atol=1e-4 / sigma)
        np.testing.assert_allclose(hv, expected_hv, rtol=1e-4, atol=1e-4 / sigma**2)


@pytest.mark.parametrize("shift", [0.25, [0.25, -1.0]], ids=["one", "per channel"])
def test_a_network_in_scaled_units_gives_the_score_of_raw_points(shift, rng):
    scale, columns = 0.18, np.repeat(np.broadcast_to(shift, (2,)), 2)
    path = FlowMatching()
    network = Wearing(
        "velocity",
        path,
        units=lambda z: z / scale + z.new_tensor(columns),
        scale=scale,
    )
    model = from_module(
        lambda x, time: network(x.reshape(-1, 4), time).reshape(x.shape),
        prediction="velocity",
        path=path,
        latent_shape=(2, 1, 2),
        scale=scale,
        shift=shift,
        dtype=torch.float64,
    )
    network.eval()
    y, v = rng.normal(size=(2, 5, 4))
    for found, expected in zip(model.jvp(y, 0.7, v), exact().jvp(y, 0.7, v), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-10)


def test_images_are_answered_in_their_shape(library, rng):
    seen = []

    def network(x, time):
        seen.append(tuple(x.shape))
        return -x / (1 + time[:, None, None, None] ** 2)

    model = from_module(
        network, prediction="score", path=VarianceExploding(), latent_shape=(3, 2, 2)
    )
    images = rng.normal(size=(5, 3, 2, 2))
    rows = model(library(images.reshape(5, 12)), 1.0)
    s, hv = model.jvp(library(images), 1.0, library(images))
    assert {shape[1:] for shape in seen} == {(3, 2, 2)}
    assert s.shape == hv.shape == (5, 3, 2, 2)
    assert model.n_features == 12
    np.testing.assert_allclose(to_numpy(s), -images / 2, rtol=1e-6)
    np.testing.assert_allclose(to_numpy(hv), -images / 2, rtol=1e-6)
    np.testing.assert_allclose(to_numpy(rows), -images.reshape(5, 12) / 2, rtol=1e-6)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda out: (out, "more"),
        lambda out: [out],
        lambda out: SimpleNamespace(sample=out),
    ],
    ids=["tuple", "list", "sample"],
)
def test_the_prediction_is_taken_out_of_what_holds_it(wrap, rng):
    model = from_denoiser(lambda y, sigma: wrap(0.5 * y))
    y = rng.normal(size=(3, 2))
    np.testing.assert_allclose(model(y, 2.0), -y / 8, rtol=1e-5)


def test_what_is_learned_of_the_variance_is_dropped(rng):
    def network(x, time):
        return torch.cat([0.5 * x, torch.full_like(x, torch.nan)], dim=1)

    options = {"prediction": "epsilon", "path": LinearVP(), "latent_shape": (2, 3, 1)}
    y = rng.normal(size=(3, 6))
    found = from_module(network, **options, learned_variance=True)(y, 1.0)
    np.testing.assert_allclose(found, -0.5 * y / math.sqrt(2), rtol=1e-5)
    with pytest.raises(ValueError, match=r"returned shape \(3, 4, 3, 1\) .* learned_variance=True"):
        from_module(network, **options)(y, 1.0)


def test_conditions_are_spread_over_the_rows(rng):
    seen = {}

    def network(x, time, **conditioning):
        seen.update(conditioning)
        return conditioning["text"].mean(dim=(1, 2))[:, None] * x

    model = from_module(
        network,
        prediction="epsilon",
        path=LinearVP(),
        conditioning={
            "text": np.full((1, 3, 2), 2.0),
            "nested": {"ids": torch.tensor([[7, 8]]), "name": "a"},
            "pair": (torch.ones(1), torch.tensor(3.0)),
            "flag": True,
            "nothing": None,
        },
    )
    y = rng.normal(size=(5, 4))
    np.testing.assert_allclose(model(y, 1.0), -2 * y / math.sqrt(2), rtol=1e-5)
    assert seen["text"].shape == (5, 3, 2)
    assert seen["text"].dtype == torch.float32
    assert seen["nested"]["ids"].tolist() == [[7, 8]] * 5
    assert seen["nested"]["ids"].dtype == torch.int64
    assert seen["nested"]["name"] == "a"
    assert seen["pair"][0].shape == (5,)
    assert seen["pair"][1].shape == ()
    assert seen["flag"] is True
    assert seen["nothing"] is None


def test_a_call_of_ones_own_takes_the_place_of_the_plain_one(rng):
    class Odd(torch.nn.Module):
        def forward(self, noise, label, image):
            return {"out": label * image / noise.reshape(-1, 1)}

    model = from_module(
        Odd(),
        prediction="epsilon",
        path=VarianceExploding(),
        call=lambda net, x, time, label: net(noise=time, label=label, image=x)["out"],
        conditioning={"label": torch.tensor([[3.0]])},
    )
    y = rng.normal(size=(5, 4))
    np.testing.assert_allclose(model(y, 2.0), -3 * y / 4, rtol=1e-5)


def test_time_may_be_any_function_of_sigma(rng):
    model = from_module(
        lambda x, time: time[:, None] * x,
        prediction="epsilon",
        path=VarianceExploding(),
        time=lambda sigma: 10 * sigma,
    )
    y = rng.normal(size=(5, 4))
    np.testing.assert_allclose(model(y, 2.0), -10 * y, rtol=1e-6)


# -- whole steps -------------------------------------------------------------------------------


def in_whole_steps(path, told):
    """A network that embeds whole steps only, and the model made of it."""
    network = Wearing("epsilon", path).eval()

    def whole(x, time):
        assert time.dtype == torch.int64
        told.append(int(time[0]))
        return network(x, time)

    return from_module(
        whole,
        prediction="epsilon",
        path=path,
        integer_time=True,
        dtype=torch.float64,
        mode="forward",
    )


@pytest.mark.parametrize("path", [DDPM, NCSN], ids=repr)
def test_a_network_of_whole_steps_is_asked_at_its_steps(path, rng):
    told = []
    model = in_whole_steps(path, told)
    y = rng.normal(size=(5, 4))
    sigma = path.sigma(120)
    np.testing.assert_allclose(model(y, sigma), exact()(y, sigma), rtol=1e-9)
    assert set(told) == {120}
    model(y, path.sigma(120.4))
    assert set(told) == {120, 121}
    for sigma in path.sigma_range:
        np.testing.assert_allclose(model(y, sigma), exact()(y, sigma), rtol=1e-9)


@pytest.mark.parametrize("kind", [DiscreteVE, DiscreteVP])
def test_interpolation_between_whole_steps_is_of_second_order(kind, rng):
    y, v = rng.normal(size=(2, 5, 4))
    expected = exact().jvp(y, 0.6, v)
    errors = []
    for step in (0.04, 0.02):
        sigmas = 0.6 * np.exp(step * (np.arange(22) - 10.5))  # 0.6 midway between two of them
        path = kind(sigmas if kind is DiscreteVE else 1 / (1 + sigmas**2))
        found = in_whole_steps(path, []).jvp(y, 0.6, v)
        errors.append([np.abs(a - b).max() for a, b in zip(found, expected, strict=True)])
    np.testing.assert_allclose(np.divide(*errors), 4.0, rtol=0.02)


# -- noise that the network does not know -------------------------------------------------------


def test_a_level_outside_the_path_is_nan_and_warned_of_once(library, rng):
    model = from_module(Wearing("epsilon", DDPM), prediction="epsilon", path=DDPM)
    y = library(points(rng))
    message = r"sigma is 500 but Wearing knows noise from sigma 0\.010.* to 157.*: .* not valid"
    with pytest.warns(UnreliableEstimateWarning, match=message):
        s = model(y, 500.0)
    for part in (s, model(y, 500.0), *model.jvp(y, 1e-3, y)):  # a second warning would be an error
        assert library.owns(part)
        assert np.isnan(to_numpy(part)).all()
    assert np.isfinite(to_numpy(model(y, 1.0))).all()


def test_the_range_is_in_units_of_the_points():
    model = from_module(
        Wearing("epsilon", DDPM),
        prediction="epsilon",
        path=DDPM,
        scale=0.1,
        sigma_range=(0.0, 100.0),
    )
    assert model.sigma_range == (DDPM.sigma_range[0] / 0.1, 100.0)
    assert repr(model) == "AdaptedScore(Wearing, sigma from 0.1 to 100)"


def test_a_curve_goes_on_where_the_network_ends(rng):
    exact_model = exact()
    X = np.asarray(MEANS)[rng.choice(3, size=400, p=WEIGHTS)]
    X = X + rng.normal(size=X.shape) * np.sqrt(np.mean(VARIANCES))
    model = from_module(
        Wearing("v", DDPM),
        prediction="v",
        path=DDPM,
        sigma_range=(0.2, 10.0),
        dtype=torch.float64,
    )
    levels = [0.1, 0.5, 2.0, 20.0]
    with pytest.warns(UnreliableEstimateWarning, match="sigma is 0.1 but Wearing knows"):
        found = FIRateEstimator(score_model=model, noise_levels=levels).fit(X)
    expected = FIRateEstimator(score_model=exact_model, noise_levels=levels).fit(X)
    assert found.curve_.reasons[0] == found.curve_.reasons[3] == "the score is not finite"
    assert np.isnan(found.fisher_information_[[0, 3]]).all()
    J, error = found.fisher_information_, found.fisher_information_stderr_
    error = np.hypot(error, expected.fisher_information_stderr_)
    assert np.all(np.abs(J - expected.fisher_information_)[1:3] < 4 * error[1:3])


# -- the network's state ------------------------------------------------------------------------


def test_a_network_is_evaluated_in_eval_mode_and_left_as_it_was(rng):
    network = torch.nn.Sequential(
        torch.nn.Linear(4, 8), torch.nn.Dropout(0.5), torch.nn.Tanh(), torch.nn.Linear(8, 4)
    )
    network.train()
    network[0].eval()
    network[3].weight.requires_grad_(False)
    before = [(part.training, *(p.requires_grad for p in part.parameters())) for part in network]
    model = from_module(
        network,
        prediction="epsilon",
        path=LinearVP(),
        call=lambda net, x, time: net(x),
    )
    y, v = rng.normal(size=(2, 5, 4))
    first, second = model.jvp(y, 1.0, v), model.jvp(y, 1.0, v)
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)
    after = [(part.training, *(p.requires_grad for p in part.parameters())) for part in network]
    assert after == before
    assert all(p.grad is None for p in network.parameters())

    def fails(net, x, time):
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        from_module(network, prediction="epsilon", path=LinearVP(), call=fails)(y, 1.0)
    assert network.training


def test_asymmetry_is_the_difference_of_both_products(rng):
    A = rng.normal(size=(4, 4))
    matrix = torch.tensor(A)
    model = from_module(
        lambda x, time: x @ matrix.T,
        prediction="score",
        path=VarianceExploding(),
        dtype=torch.float64,
    )
    y, v = rng.normal(size=(2, 5, 4))
    s, hv, htv = model.both(y, 1.0, v)
    np.testing.assert_allclose(s, y @ A.T, rtol=1e-12)
    np.testing.assert_allclose(hv, v @ A.T, rtol=1e-12)
    np.testing.assert_allclose(htv, v @ A, rtol=1e-12)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_answered_in_single(dtype, rng):
    half = getattr(torch, dtype)
    network = torch.nn.Linear(4, 4, bias=False).to(half)
    torch.nn.init.eye_(network.weight)
    seen = []

    def call(net, x, time):
        seen.append((x.dtype, time.dtype))
        return net(x)

    model = from_module(network, prediction="epsilon", path=LinearVP(), call=call)
    y = torch.tensor(rng.normal(size=(5, 4)))
    s, hv = model.jvp(y.to(half), 1.0, y.to(half))
    assert s.dtype == hv.dtype == torch.float32
    assert model(y, 1.0).dtype == torch.float64
    assert set(seen) == {(half, half)}
    assert model.precision == torch.finfo(half).eps
    np.testing.assert_allclose(s.double(), -y / math.sqrt(2), rtol=0.02)
    np.testing.assert_allclose(hv.double(), -y / math.sqrt(2), rtol=0.02)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")
def test_a_network_on_a_gpu_answers_where_the_points_are(rng):
    network = Wearing("v", DDPM)
    network.weight = torch.nn.Parameter(torch.ones(1, dtype=torch.float64))
    y, v = rng.normal(size=(2, 6, 4))
    expected = exact().jvp(y, 0.7, v)
    model = from_module(network.to("cuda"), prediction="v", path=DDPM)
    for found in (model.jvp(y, 0.7, v), model.jvp(torch.tensor(y), 0.7, torch.tensor(v))):
        for a, b in zip(found, expected, strict=True):
            assert not isinstance(a, torch.Tensor) or a.device.type == "cpu"
            np.testing.assert_allclose(to_numpy(a), b, rtol=1e-9, atol=1e-10)


def test_a_clone_is_the_model_itself_and_a_copy_answers_alike(rng):
    model = from_module(torch.nn.Bilinear(4, 1, 4), prediction="v", path=DDPM, call=_bilinear)
    assert clone(model) is model
    y = rng.normal(size=(3, 4))
    copy = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(copy(y, 1.0), model(y, 1.0))


def _bilinear(network, x, time):
    return network(x, time[:, None])


# -- denoisers ---------------------------------------------------------------------------------


class Denoiser(torch.nn.Module):
    """EDM's interface: (y, sigma) to the mean of the clean point."""

    sigma_min = 0.02
    sigma_max = torch.tensor(80.0)

    def forward(self, y, sigma, **conditioning):
        assert sigma.shape == (y.shape[0],)
        t = float(sigma[0]) ** 2
        return y + t * mixture_score(y, math.sqrt(t))


def test_a_denoiser_gives_its_score(library, rng):
    model = from_denoiser(Denoiser(), dtype=torch.float64)
    assert model.sigma_range == (0.02, 80.0)
    y, v = rng.normal(size=(2, 6, 4))
    for sigma in (0.03, 1.0, 30.0):
        found = model.jvp(library(y), sigma, library(v))
        for a, b, power in zip(found, exact().jvp(y, sigma, v), (1, 2), strict=True):
            np.testing.assert_allclose(to_numpy(a), b, rtol=1e-8, atol=1e-10 / sigma**power)


def test_a_denoiser_around_a_network_keeps_the_range_it_is_given():
    model = from_denoiser(Denoiser(), sigma_range=(0.5, 2.0), latent_shape=(1, 2, 2))
    assert model.sigma_range == (0.5, 2.0)
    assert model.latent_shape == (1, 2, 2)


# -- refusals ----------------------------------------------------------------------------------


def refused(**changes):
    options = {"network": torch.nn.Identity(), "prediction": "epsilon", "path": LinearVP()}
    options |= changes
    return from_module(options.pop("network"), **options)


def on_two_devices():
    network = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    network[1].to("meta")
    return network


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"network": 3}, TypeError, "network is a int: pass a torch module or function"),
        ({"prediction": None}, ValueError, "prediction is None: .* declare one of 'score'"),
        ({"prediction": "eps"}, ValueError, "prediction is 'eps': .* 'epsilon', 'x0'"),
        ({"path": None}, TypeError, r"path is None: .* declare it by a path .* LinearVP\(\)"),
        ({"prediction": "edm"}, ValueError, r"'edm' but path is LinearVP.* path=EDM\(sigma_data\)"),
        ({"time": "steps"}, ValueError, "time is 'steps': pass one of 'time', 'sigma'"),
        ({"integer_time": True}, ValueError, r"integer_time is True but path is LinearVP.* table"),
        (
            {"integer_time": True, "path": DDPM, "time": "sigma"},
            ValueError,
            "and time is 'sigma': whole steps belong to a table",
        ),
        ({"network": on_two_devices()}, ValueError, r"Sequential lie on cpu, meta: .* device="),
        ({"network": torch.nn.Linear(2, 2, device="meta")}, ValueError, "Linear lie on meta"),
        ({"dtype": torch.int32}, ValueError, r"dtype is torch\.int32: pass a real floating"),
        ({"dtype": torch.complex64}, ValueError, r"dtype is torch\.complex64: pass a real"),
        ({"scale": 0.0}, ValueError, r"scale is 0\.0: .* finite positive"),
        ({"shift": math.nan}, ValueError, "shift is nan: pass finite numbers"),
        ({"shift": [1.0, 2.0]}, ValueError, r"shift has shape \(2,\) but latent_shape is None"),
        (
            {"shift": [1.0, 2.0], "latent_shape": (3, 1, 1)},
            ValueError,
            r"shift has shape \(2,\) but latent_shape is \(3, 1, 1\): .* one per channel",
        ),
        ({"path": DDPM, "sigma_range": (200.0, 300.0)}, ValueError, "they do not overlap"),
        (
            {"conditioning": {"a": {"b": np.zeros((7, 2))}}},
            ValueError,
            r"conditioning\['a'\]\['b'\] has shape \(7, 2\): .* under one condition",
        ),
        ({"mode": "sideways"}, ValueError, "mode is 'sideways': choose one of"),
    ],
)
def test_a_convention_that_is_none_is_refused(changes, error, message):
    with pytest.raises(error, match=message):
        refused(**changes)


@pytest.mark.parametrize(
    ("network", "error", "message"),
    [
        (lambda x, time: "out", TypeError, "the network returned a str: .* tensor"),
        (lambda x, time: (), TypeError, "the network returned a tuple"),
        (lambda x, time: x[:, :2], ValueError, r"<lambda> returned shape \(3, 2\) for x of .*call"),
        (lambda x, time: x.sum(), ValueError, r"returned shape \(\) for x of shape \(3, 4\)"),
    ],
)
def test_an_answer_that_is_no_prediction_is_refused(network, error, message):
    with pytest.raises(error, match=message):
        refused(network=network)(np.zeros((3, 4)), 1.0)


@pytest.mark.parametrize(
    ("shape", "latent_shape", "message"),
    [
        ((3, 2, 2), None, r"y has shape \(3, 2, 2\) but Identity takes \(m, n\): .* latent_shape"),
        ((3, 5), (1, 2, 2), r"takes \(m, 4\) or \(m, 1, 2, 2\): reshape the points"),
        ((3, 2, 2, 1), (1, 2, 2), r"y has shape \(3, 2, 2, 1\)"),
    ],
)
def test_points_of_another_shape_are_refused(shape, latent_shape, message):
    with pytest.raises(ValueError, match=message):
        refused(latent_shape=latent_shape)(np.zeros(shape), 1.0)


def test_a_network_that_moves_its_data_itself_is_taken_with_a_device(rng):
    model = refused(network=on_two_devices(), device="cpu", call=lambda net, x, time: net[0](x))
    assert model(rng.normal(size=(3, 2)), 1.0).shape == (3, 2)


def test_no_warning_comes_from_levels_inside(rng):
    model = from_module(Wearing("epsilon", DDPM), prediction="epsilon", path=DDPM)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for sigma in DDPM.sigma_range:
            assert np.isfinite(model(points(rng), sigma)).all()
