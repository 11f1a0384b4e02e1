"""What only a GPU can show: agreement with the host, where results lie, memory, time."""

import statistics
import time

import numpy as np
import pytest
from libraries import LIBRARIES

from skfisher import FIRateEstimator, KernelScore, LatentGeometryAuditor
from skfisher._backend.arrays import is_numpy, to_numpy
from skfisher._backend.linearize import TensorFunction
from skfisher._backend.support import SUPPORT, why_not_here

(CUDA,) = (support for support in SUPPORT if support.name == "torch-cuda")
pytestmark = [
    pytest.mark.skipif(bool(why_not_here(CUDA)), reason=why_not_here(CUDA) or "there is one"),
    pytest.mark.filterwarnings("ignore::skfisher.exceptions.UnreliableEstimateWarning"),
]
LEVELS = [0.3, 1.0, 3.0]
NAMES = ("fisher_information", "fisher_information_rate", "mmse_rate", "fisher_information_bounds")


def sample(N=400, n=8, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((N, n)) * np.linspace(0.5, 2.0, n) + 4.0 * rng.integers(0, 2, (N, 1))


def on_the_gpu(X):
    return LIBRARIES["torch-cuda"](X)


def assert_curves_agree(found, expected, rtol=1e-10):
    for name in NAMES:
        value = to_numpy(getattr(expected, name))
        np.testing.assert_allclose(
            to_numpy(getattr(found, name)), value, rtol=rtol, atol=rtol * np.max(np.abs(value)),
            err_msg=name,
        )  # fmt: skip


def seconds(work, repeats=3):
    """Median time of a call that waits for the device, after one that warms up."""
    import torch

    def once():
        torch.cuda.synchronize()
        start = time.perf_counter()
        work()
        torch.cuda.synchronize()
        return time.perf_counter() - start

    once()
    return statistics.median(once() for _ in range(repeats))


# -- agreement -----------------------------------------------------------------------------------


@pytest.mark.parametrize("score_model", ["gaussian", "mixture", "kernel", "auto"])
def test_curves_of_the_gpu_are_those_of_the_host(score_model):
    X, fresh = sample(), sample(seed=1)
    expected = FIRateEstimator(score_model, LEVELS).fit(X)
    found = FIRateEstimator(score_model, LEVELS).fit(on_the_gpu(X))
    assert LIBRARIES["torch-cuda"].owns(found.fisher_information_)
    assert found.device_ == "cuda:0"
    assert found.score_model_ == expected.score_model_
    assert_curves_agree(found.curve_, expected.curve_)
    assert found.score(on_the_gpu(fresh)) == pytest.approx(expected.score(fresh), rel=1e-10)


@pytest.mark.parametrize("device", ["cuda", "cuda:0", "auto"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_numpy_input_computed_on_the_gpu_comes_back_in_numpy(device, dtype):
    X = sample().astype(dtype)
    expected = FIRateEstimator("kernel", LEVELS).fit(X)
    found = FIRateEstimator("kernel", LEVELS, device=device).fit(X)
    assert found.device_ == "cuda:0"
    assert is_numpy(found.fisher_information_)
    assert found.fisher_information_.dtype == dtype
    assert_curves_agree(found.curve_, expected.curve_, 1e-10 if dtype == "float64" else 2e-6)


def test_audits_of_the_gpu_are_those_of_the_host():
    def encode(X):
        return X[:, :4] * 2.0

    settings = {"score_model": "gaussian", "noise_levels": LEVELS}
    expected = LatentGeometryAuditor(encode, **settings).fit(sample())
    for audit in (
        LatentGeometryAuditor(encode, **settings).fit(on_the_gpu(sample())),
        LatentGeometryAuditor(encode, device="cuda", **settings).fit(sample()),
    ):
        assert audit.diffusability_ == pytest.approx(expected.diffusability_, rel=1e-10)
        assert_curves_agree(audit.latent_curve_, expected.latent_curve_)
        assert audit.report_.device == "cuda:0"


def test_numbers_of_the_kernel_agree_point_by_point():
    X, y = sample(1000), sample(200, seed=2)
    host, gpu = KernelScore(X), KernelScore(on_the_gpu(X))
    for sigma in (0.05, 1.0):
        ours, theirs = gpu.moments(on_the_gpu(y), sigma), host.moments(y, sigma)
        for name in ("score", "hessian_trace", "hessian_squared_norm"):
            value = getattr(theirs, name)
            np.testing.assert_allclose(
                to_numpy(getattr(ours, name)), value, rtol=1e-9, atol=1e-9 * np.max(np.abs(value))
            )


# -- refusals ------------------------------------------------------------------------------------


def test_host_tensors_beside_rows_on_the_gpu_are_refused():
    import torch

    X = on_the_gpu(sample())
    with pytest.raises(ValueError, match=r"sample_weight is on cpu but X is on cuda:0: move it to"):
        FIRateEstimator("gaussian", LEVELS).fit(X, sample_weight=torch.ones(400))
    with pytest.raises(ValueError, match="the encoder's output is on cpu but X is on cuda:0"):
        LatentGeometryAuditor(lambda X: X.cpu(), score_model="gaussian").fit(X)


def test_a_gpu_that_is_not_there_is_refused():
    message = r"device is 'cuda:99', which cannot be used here \(.*CUDA devices that torch sees: "
    with pytest.raises(ValueError, match=message):
        FIRateEstimator("gaussian", LEVELS, device="cuda:99").fit(sample())


def test_host_tensors_are_not_moved_behind_the_users_back():
    import torch

    with pytest.raises(ValueError, match=r"device is 'cuda' but X is a torch array on cpu: only"):
        FIRateEstimator("gaussian", LEVELS, device="cuda").fit(torch.asarray(sample()))


# -- memory --------------------------------------------------------------------------------------


def test_rows_are_halved_until_they_fit_the_memory():
    import torch

    def wide(y, sigma):  # two hundred times as many numbers as it is given
        return torch.sum(torch.sin(y[:, :, None] * torch.ones(200, device=y.device)), dim=2) / sigma

    y, rows = on_the_gpu(sample(20_000, 64)), 20_000
    expected = TensorFunction(wide, max_rows=500).value(y, 1.0)
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    allowed = torch.cuda.memory_allocated() + 512 * 2**20  # one call on all rows asks for 4 GB
    torch.cuda.set_per_process_memory_fraction(min(1.0, allowed / total))
    try:
        found = TensorFunction(wide, max_rows=rows).value(y, 1.0)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0.0)


def test_the_kernel_keeps_to_its_memory_budget():
    import torch

    X, budget = on_the_gpu(sample(5000, 16)), 64 * 2**20
    model = KernelScore(X, memory_budget=budget)
    model(X[:10, :], 1.0)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    model(X, 1.0)
    assert torch.cuda.max_memory_allocated() - before < 2 * budget


# -- time ----------------------------------------------------------------------------------------


def test_time_against_the_host_and_against_the_bare_products(capsys):
    import torch

    X = sample(5000, 64)
    x = on_the_gpu(X)
    host, gpu = KernelScore(X), KernelScore(x)
    slow, fast = seconds(lambda: host(X, 2.0)), seconds(lambda: gpu(x, 2.0))
    bare = seconds(lambda: torch.exp(x @ x.T) @ x)
    fit = {
        name: seconds(lambda data=data: FIRateEstimator("kernel", LEVELS).fit(data), repeats=1)
        for name, data in (("host", X), ("gpu", x))
    }
    flops = 4.0 * X.shape[0] ** 2 * X.shape[1] / fast
    with capsys.disabled():
        print(
            f"\n{torch.cuda.get_device_name(0)}: kernel score of 5,000 x 64 in float64 "
            f"{1e3 * fast:.1f} ms, host {1e3 * slow:.0f} ms; {flops / 1e12:.2f} TFLOP/s, "
            f"{fast / bare:.1f} times the bare products; fit {fit['gpu']:.2f} s, "
            f"host {fit['host']:.2f} s"
        )
    assert_curves = to_numpy(gpu(x, 2.0)), host(X, 2.0)
    np.testing.assert_allclose(*assert_curves, rtol=1e-9, atol=1e-9)
