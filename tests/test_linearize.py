"""Products with a Jacobian: every mode one derivative, whatever the chunk and the dtype."""

import pickle
import time
import warnings

import numpy as np
import pytest

from skfisher._backend import linearize
from skfisher._backend.linearize import TensorFunction
from skfisher.forms import combine, form_rows
from skfisher.scores.wrap import as_score_model
from skfisher.traces import pooled_means

torch = pytest.importorskip("torch")

N = 6
EXACT_MODES = ("forward", "reverse")
ALL_MODES = (*EXACT_MODES, "differences")
SILENT = pytest.mark.filterwarnings("ignore:Products with the Jacobian:UserWarning")


def points(m=7, n=N, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((m, n)), np.sign(rng.standard_normal((m, n)))


def a_network(seed=0, n=N, dtype=None):
    generator = torch.Generator().manual_seed(seed)
    net = torch.nn.Sequential(torch.nn.Linear(n, 16), torch.nn.SiLU(), torch.nn.Linear(16, n))
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) / 3)
    return net.to(dtype or torch.float64)


def a_score(net):
    return lambda y, sigma: net(y / (1 + sigma)) / sigma


def a_gradient_field(seed=0):
    """The gradient of a sum of softplus ridges, whose Jacobian is symmetric."""
    W = torch.randn(16, N, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return lambda y, sigma: torch.sigmoid(y @ W.T / sigma) @ W


def jacobian(fn, y, sigma):
    rows = [
        torch.func.jacrev(lambda x: fn(x[None], sigma)[0])(torch.as_tensor(row)).detach().numpy()
        for row in y
    ]
    return np.stack(rows)


def attention(y, sigma):
    q = y.reshape(-1, 1, 3, 2)
    mixed = torch.nn.functional.scaled_dot_product_attention(q, q, q)
    return mixed.reshape(-1, 6) / sigma


# -- the derivative ------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ALL_MODES)
def test_each_mode_gives_its_product_with_the_jacobian(mode):
    fn, (y, v) = a_score(a_network()), points()
    s, product = TensorFunction(fn, mode=mode).jvp(y, 0.7, v)
    A = jacobian(fn, y, 0.7)
    expected = np.einsum("mji,mj->mi" if mode == "reverse" else "mij,mj->mi", A, v)
    tolerance = 1e-12 if mode in EXACT_MODES else 1e-7
    np.testing.assert_allclose(product, expected, rtol=0, atol=tolerance * np.abs(expected).max())
    np.testing.assert_allclose(s, fn(torch.as_tensor(y), 0.7).detach().numpy(), rtol=1e-14)


def test_modes_agree_on_a_gradient_field():
    fn, (y, v) = a_gradient_field(), points()
    products = {mode: TensorFunction(fn, mode=mode).jvp(y, 0.7, v)[1] for mode in ALL_MODES}
    size = np.abs(products["forward"]).max()
    np.testing.assert_allclose(products["reverse"], products["forward"], atol=1e-12 * size)
    np.testing.assert_allclose(products["differences"], products["forward"], atol=1e-7 * size)


def test_reverse_mode_is_the_transpose_of_forward_mode():
    fn, (y, v) = a_score(a_network()), points()
    u = points(seed=1)[1]
    forward = TensorFunction(fn, mode="forward").jvp(y, 0.7, v)[1]
    reverse = TensorFunction(fn, mode="reverse").jvp(y, 0.7, u)[1]
    np.testing.assert_allclose(np.sum(u * forward, 1), np.sum(v * reverse, 1), rtol=1e-12)


def test_both_gives_the_product_and_the_transposed_one():
    fn, (y, v) = a_score(a_network()), points()
    s, forward, reverse = TensorFunction(fn).both(y, 0.7, v)
    for mode, product in (("forward", forward), ("reverse", reverse)):
        value, expected = TensorFunction(fn, mode=mode).jvp(y, 0.7, v)
        np.testing.assert_array_equal(product, expected)
        np.testing.assert_allclose(s, value, rtol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_differences_step_by_the_precision_of_the_network(dtype):
    (y, v), eps = points(), torch.finfo(dtype).eps
    exact = TensorFunction(a_score(a_network()), mode="forward").jvp(y, 0.7, v)[1]
    net = a_network(dtype=dtype)
    found = TensorFunction(a_score(net), dtype=dtype, mode="differences").jvp(y, 0.7, v)[1]
    # eps^(2/3) of lengths that are a few times sigma or its inverse
    assert np.linalg.norm(found - exact) < 10 * eps ** (2 / 3) * np.linalg.norm(exact)


@pytest.mark.parametrize("mode", ALL_MODES)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_answers_come_in_the_library_dtype_and_device_of_the_points(library, mode, dtype):
    y, v = points()
    exact = TensorFunction(a_score(a_network()), mode=mode).jvp(y, 0.7, v)
    f = TensorFunction(a_score(a_network()), device="cpu", dtype=torch.float64, mode=mode)
    answers = (f.value(library(y, dtype), 0.7), *f.jvp(library(y, dtype), 0.7, library(v, dtype)))
    for answer, expected in zip(answers, (exact[0], *exact), strict=True):
        assert library.owns(answer, dtype)
        tensor = torch.from_dlpack(answer) if library.name.startswith("strict") else answer
        close = 1e-5 if dtype == "float32" else 1e-12
        np.testing.assert_allclose(np.asarray(tensor), expected, rtol=0, atol=close * 10)


# -- the choice ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "mode"),
    [((1.05, 1.0), "forward"), ((1.5, 1.0), "reverse"), ((1.0, 2.0), "forward")],
)
def test_auto_takes_the_faster_mode_and_forward_where_they_tie(monkeypatch, seconds, mode):
    timed = dict(zip(EXACT_MODES, seconds, strict=True))
    monkeypatch.setattr(TensorFunction, "_seconds", lambda self, modes, *rest: timed)
    f = TensorFunction(a_score(a_network()))
    assert f.linearization is None
    y, v = points()
    f.jvp(y, 0.7, v)
    assert f.linearization.mode == mode
    assert f.linearization.seconds_per_product == timed
    assert not f.linearization.failures
    assert "fastest" in f.linearization.reason


def test_auto_measures_the_speed_of_what_works():
    f = TensorFunction(a_score(a_network()))
    f.jvp(*points()[:1], 0.7, points()[1])
    seconds = f.linearization.seconds_per_product
    assert set(seconds) == set(EXACT_MODES)
    assert all(value > 0 for value in seconds.values())


def test_a_mode_that_was_asked_for_is_taken_without_timing():
    y, v = points()
    for mode in ALL_MODES:
        f = TensorFunction(a_score(a_network()), mode=mode)
        f.jvp(y, 0.7, v)
        assert f.linearization.mode == mode
        assert f.linearization.reason == "asked for"
        assert not f.linearization.seconds_per_product


def test_attention_without_forward_mode_is_replaced_and_said_once():
    y, v = points()
    f = TensorFunction(attention, mode="forward")
    with pytest.warns(UserWarning, match=r"'forward, math attention'.*forward: NotImplemented"):
        _, product = f.jvp(y, 0.7, v)
    assert "flash" in f.linearization.failures["forward"]
    expected = TensorFunction(attention, mode="differences").jvp(y, 0.7, v)[1]
    np.testing.assert_allclose(product, expected, atol=1e-7)
    f.jvp(y, 0.7, v)  # without a further warning


def test_group_norm_of_transposed_input_has_a_forward_mode():
    norm = torch.nn.GroupNorm(1, 3, dtype=torch.float64)

    def fn(y, sigma):
        z = attention(y, sigma).reshape(-1, 2, 3).transpose(1, 2).reshape(-1, 3, 2, 1)
        return norm(z.transpose(1, 2).reshape(-1, 2, 3).transpose(1, 2)).reshape(-1, 6)

    y, v = points()
    with pytest.warns(UserWarning, match="math attention"):
        _, product = TensorFunction(fn, mode="forward").jvp(y, 0.7, v)
    expected = TensorFunction(fn, mode="differences").jvp(y, 0.7, v)[1]
    np.testing.assert_allclose(product, expected, atol=1e-7)


def without_gradients(fn):
    return lambda y, sigma: torch.no_grad()(fn)(y, sigma)


def half_cut(fn):
    return lambda y, sigma: fn(y, sigma) + fn(y.detach(), sigma)


def through_numpy(fn):
    return lambda y, sigma: torch.from_numpy(np.sin(y.numpy(force=False)))


CUT = [
    # dressed score, mode that is left, mode that fell out, why
    (without_gradients, "forward", "reverse", "the score is cut from y"),
    (half_cut, "differences", "forward", "differs from differences by"),
    (half_cut, "differences", "reverse", "differs from differences by"),
    (through_numpy, "differences", "reverse", "requires grad"),
    (lambda fn: torch.inference_mode()(fn), "differences", "forward", "the score is cut from y"),
]


@pytest.mark.parametrize(("dress", "left", "fell_out", "why"), CUT)
def test_a_mode_that_the_score_is_cut_for_gives_way_with_a_message(dress, left, fell_out, why):
    fn, (y, v) = dress(a_score(a_network())), points()
    f = TensorFunction(fn)
    with pytest.warns(UserWarning, match="these do not work with it") as caught:
        _, product = f.jvp(y, 0.7, v)
    assert len(caught) == 1
    assert f.linearization.mode == left
    assert why in f.linearization.failures[fell_out]
    expected = TensorFunction(fn, mode="differences").jvp(y, 0.7, v)[1]
    np.testing.assert_allclose(product, expected, atol=1e-6)


@pytest.mark.parametrize("mode", EXACT_MODES)
def test_a_mode_that_does_not_work_is_refused_where_it_was_asked_for(mode):
    y, v = points()
    f = TensorFunction(half_cut(a_score(a_network())), mode=mode)
    with pytest.raises(RuntimeError, match=rf"mode is '{mode}', which does not work.*mode='auto'"):
        f.jvp(y, 0.7, v)


def test_transposed_products_are_refused_without_reverse_mode():
    y, v = points()
    f = TensorFunction(without_gradients(a_score(a_network())))
    with pytest.raises(
        NotImplementedError, match=r"A\^T v needs reverse mode.*pass a score that torch"
    ):
        f.both(y, 0.7, v)


def test_a_score_of_the_wrong_shape_is_refused():
    y, v = points()
    f = TensorFunction(lambda y, sigma: y[:, :2])
    for call in (lambda: f.value(y, 0.7), lambda: f.jvp(y, 0.7, v)):
        with pytest.raises(ValueError, match=r"shape \(\d, 2\) for y of shape \(\d, 6\)"):
            call()


@pytest.mark.parametrize("bad", [0, -3, 2.5])
def test_parameters_are_checked(bad):
    with pytest.raises(ValueError, match="mode is 'sideways': choose one of 'auto'"):
        TensorFunction(abs, mode="sideways")
    with pytest.raises(ValueError, match=f"max_rows is {bad}: pass a positive integer"):
        TensorFunction(abs, max_rows=bad)


def test_nan_from_the_network_is_returned():
    y, v = points()
    for f in (TensorFunction(lambda y, sigma: y * float("nan"), mode=mode) for mode in ALL_MODES):
        s, product = f.jvp(y, 0.7, v)
        assert np.isnan(s).all()
        assert np.isnan(product).all()


# -- memory --------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ALL_MODES)
@pytest.mark.parametrize("max_rows", [1, 3, 7, 100])
def test_rows_have_their_answer_whatever_the_chunk(mode, max_rows):
    fn, (y, v) = a_score(a_network()), points()
    whole = TensorFunction(fn, mode=mode).jvp(y, 0.7, v)
    chunked = TensorFunction(fn, mode=mode, max_rows=max_rows).jvp(y, 0.7, v)
    tolerance = 1e-13 if mode in EXACT_MODES else 1e-8
    for a, b in zip(whole, chunked, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * np.abs(a).max())


def test_chunks_fit_the_memory(monkeypatch):
    sizes = []

    def fn(y, sigma):
        sizes.append(y.shape[0])
        wide = torch.tanh(y.repeat(1, 100))
        return (wide * wide).reshape(-1, 100, N).mean(1)

    # tanh keeps its result and the product keeps it twice, as one tensor: 600 numbers of 8 bytes
    monkeypatch.setattr(linearize, "MEMORY_BUDGET", 2 * 10 * 600 * 8)
    y, v = points(64)
    TensorFunction(fn, mode="reverse").jvp(y, 0.7, v)
    assert max(sizes) == 10
    assert sizes.count(10) >= 6


@pytest.mark.parametrize("mode", ALL_MODES)
def test_chunks_are_halved_when_memory_runs_out(mode):
    fn, (y, v), sizes = a_score(a_network()), points(40), []

    def narrow(y, sigma):
        sizes.append(y.shape[0])
        if y.shape[0] > 6:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return fn(y, sigma)

    whole = TensorFunction(fn, mode=mode)
    f = TensorFunction(narrow, mode=mode)
    for _ in range(2):
        np.testing.assert_allclose(f.jvp(y, 0.7, v)[1], whole.jvp(y, 0.7, v)[1], atol=1e-7)
    assert [size for size in sizes if size > 6] == [40, 20, 10]  # and never again
    np.testing.assert_allclose(f.value(y, 0.7), whole.value(y, 0.7), rtol=1e-12)


def test_a_row_that_does_not_fit_is_an_error():
    def nothing_fits(y, sigma):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    with pytest.raises(torch.OutOfMemoryError):
        TensorFunction(nothing_fits).value(points()[0], 0.7)


def test_no_rows_have_no_answers():
    y = np.zeros((0, N))
    s, product = TensorFunction(a_score(a_network()), mode="forward").jvp(y, 0.7, y)
    assert s.shape == product.shape == (0, N)


# -- the module, its numbers and its compilation -------------------------------------------------


@SILENT
@pytest.mark.parametrize("mode", ["auto", *ALL_MODES])
@pytest.mark.parametrize("trainable", [True, False])
def test_modules_are_left_as_they_were(mode, trainable):
    net = a_network().requires_grad_(trainable)
    y, v = (torch.as_tensor(a) for a in points())
    y.requires_grad_()
    kept = y.detach().clone()

    def in_place(y, sigma):
        y /= 1 + sigma
        return net(y) / sigma

    f = TensorFunction(in_place, mode=mode)
    answers = (f.value(y, 0.7), *f.jvp(y, 0.7, v), *f.both(y, 0.7, v))
    assert not any(answer.requires_grad for answer in answers)
    assert all(p.requires_grad == trainable and p.grad is None for p in net.parameters())
    assert y.grad is None
    assert torch.equal(y, kept)


def test_callers_in_inference_mode_get_products():
    fn, (y, v) = a_score(a_network()), points()
    for mode in EXACT_MODES:
        expected = TensorFunction(fn, mode=mode).jvp(y, 0.7, v)[1]
        with torch.inference_mode():
            tensors = (torch.as_tensor(a).clone() for a in (y, v))
            y_here, v_here = tensors
            product = TensorFunction(fn, mode=mode).jvp(y_here, 0.7, v_here)[1]
        np.testing.assert_allclose(product.numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("mode", ALL_MODES)
def test_autocast_computes_short_and_answers_long(mode):
    net, seen = a_network(dtype=torch.float32), []
    net[0].register_forward_hook(lambda *call: seen.append(call[2].dtype))
    y, v = (a.astype("float32") for a in points())
    f = TensorFunction(a_score(net), dtype=torch.float32, mode=mode, autocast=torch.bfloat16)
    answers = (f.value(y, 0.7), *f.jvp(y, 0.7, v))
    assert torch.bfloat16 in seen
    assert f.precision == torch.finfo(torch.bfloat16).eps
    exact = TensorFunction(a_score(net), mode=mode).jvp(y, 0.7, v)
    for answer, expected in zip(answers, (exact[0], *exact), strict=True):
        assert answer.dtype == np.float32
        assert np.linalg.norm(answer - expected) < 0.03 * np.linalg.norm(expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("mode", EXACT_MODES)
def test_half_precision_networks_answer_in_the_precision_of_the_points(dtype, mode):
    y, v = points()
    f = TensorFunction(a_score(a_network(dtype=dtype)), dtype=dtype, mode=mode)
    s, product = f.jvp(y, 0.7, v)
    assert s.dtype == product.dtype == np.float64
    assert f.precision == torch.finfo(dtype).eps
    expected = TensorFunction(a_score(a_network()), mode=mode).jvp(y, 0.7, v)[1]
    assert np.linalg.norm(product - expected) < 0.03 * np.linalg.norm(expected)


def test_precision_is_that_of_the_points_unless_it_is_given():
    assert TensorFunction(abs).precision is None
    assert TensorFunction(abs, dtype=torch.float32).precision == np.finfo("float32").eps


@pytest.mark.parametrize("mode", ALL_MODES)
def test_compilation_that_fails_is_said_and_done_without(monkeypatch, mode):
    def broken(fn):
        def raises(y, sigma):
            raise RuntimeError("no compiler here\nand more")

        return raises

    monkeypatch.setattr(torch, "compile", broken)
    y, v = points()
    f = TensorFunction(a_score(a_network()), mode=mode, compile=True)
    with pytest.warns(UserWarning, match=r"torch.compile fails .*no compiler here\): it runs"):
        s = f.value(y, 0.7)
    expected = TensorFunction(a_score(a_network()), mode=mode).jvp(y, 0.7, v)
    found = f.jvp(y, 0.7, v)
    np.testing.assert_array_equal(s, expected[0])
    np.testing.assert_array_equal(found[1], expected[1])
    assert not f.linearization.compiled
    assert "not compiled: RuntimeError: no compiler here" in f.linearization.reason


def test_compilation_that_breaks_every_mode_is_given_up(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda fn: half_cut(lambda y, s: fn(y, s) / 2))
    y, v = points()
    f = TensorFunction(a_score(a_network()), mode="reverse", compile=True)
    with pytest.warns(UserWarning, match="torch.compile fails on the score"):
        _, product = f.jvp(y, 0.7, v)
    expected = TensorFunction(a_score(a_network()), mode="reverse").jvp(y, 0.7, v)[1]
    np.testing.assert_allclose(product, expected, rtol=1e-12)
    assert not f.linearization.compiled


def test_an_error_of_the_scores_own_is_not_laid_on_the_compiler(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda fn: fn)

    def fails(y, sigma):
        raise KeyError("label")

    with pytest.raises(KeyError, match="label"):
        TensorFunction(fails, compile=True).value(points()[0], 0.7)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("mode", ["reverse", "differences"])
def test_compiled_scores_have_the_same_products(mode):
    y, v = points()
    f = TensorFunction(a_score(a_network()), mode=mode, compile=True)
    expected = TensorFunction(a_score(a_network()), mode=mode).jvp(y, 0.7, v)[1]
    np.testing.assert_allclose(f.jvp(y, 0.7, v)[1], expected, atol=1e-7)
    assert f.linearization.compiled


def test_pickled_functions_keep_their_choice():
    y, v = points()
    f = TensorFunction(attention, mode="reverse")
    expected = f.jvp(y, 0.7, v)[1]
    copy = pickle.loads(pickle.dumps(f))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(copy.jvp(y, 0.7, v)[1], expected)
    assert copy.linearization.mode == "reverse"


# -- a user's own callable -----------------------------------------------------------------------


def test_bare_callables_on_tensors_are_differentiated_exactly():
    net, (y, v) = a_network(), points()
    y, v = torch.as_tensor(y), torch.as_tensor(v)
    model = as_score_model(a_score(net), N)
    s, product = model.jvp(y, 0.7, v)
    mode = model.linearization.mode
    assert mode in EXACT_MODES
    expected = TensorFunction(a_score(net), mode=mode).jvp(y, 0.7, v)
    torch.testing.assert_close(product, expected[1], rtol=1e-12, atol=1e-14)
    assert not any(answer.requires_grad for answer in (model(y, 0.7), s, product))


def test_bare_callables_on_other_arrays_are_differenced():
    model = as_score_model(lambda y, sigma: np.sin(y) / sigma, N)
    y, v = points()
    np.testing.assert_allclose(model.jvp(y, 0.7, v)[1], np.cos(y) * v / 0.7, rtol=1e-7)
    assert model.linearization is None


def test_bare_callables_that_torch_cannot_differentiate_are_differenced_with_a_message():
    model = as_score_model(through_numpy(None), N)
    y, v = (torch.as_tensor(a) for a in points())
    with pytest.warns(UserWarning, match="in mode 'differences'"):
        _, product = model.jvp(y, 0.7, v)
    torch.testing.assert_close(product, torch.cos(y) * v, rtol=1e-7, atol=1e-9)


def test_modules_without_a_convention_are_refused():
    with pytest.raises(TypeError, match=r"module Sequential, which does not say.*from_module\("):
        as_score_model(a_network(), N)


def test_modules_with_products_of_their_own_are_taken():
    class Declared(torch.nn.Module):
        name = "declared"

        def forward(self, y, sigma):
            return -y

        def jvp(self, y, sigma, v):
            return -y, -v

    y, v = points()
    np.testing.assert_array_equal(as_score_model(Declared(), N).jvp(y, 0.7, v)[1], -v)


# -- the cost ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_j_and_r_cost_little_more_than_a_bare_loop_of_their_products():
    n, m, sigma = 64, 1000, 0.5
    layers = [torch.nn.Linear(n, 768), torch.nn.SiLU()]
    for _ in range(2):
        layers += [torch.nn.Linear(768, 768), torch.nn.SiLU()]
    net = torch.nn.Sequential(*layers, torch.nn.Linear(768, n))
    x, v = points(m, n)
    eps = points(m, n, seed=1)[0]
    y = torch.as_tensor(np.concatenate([x + sigma * eps, x - sigma * eps]), dtype=torch.float32)
    v = torch.as_tensor(np.concatenate([v, v]), dtype=torch.float32)
    f = TensorFunction(a_score(net), dtype=torch.float32, mode="reverse", max_rows=m)

    class Score:
        name = "network"
        jvp = f.jvp

    def ours():
        means, cov = pooled_means(form_rows(Score, x, eps[:, None], sigma, one_step=False).values)
        combine(means, cov, n, m, one_step=False)

    def bare():
        for rows in (slice(0, m), slice(m, 2 * m)):
            leaf = y[rows].clone().requires_grad_(True)
            s = a_score(net)(leaf, sigma)
            (product,) = torch.autograd.grad(s, leaf, v[rows])
            [(a * b).sum().item() for a, b in ((s, s), (product, v[rows]), (product, product))]

    def seconds(work):
        start = time.process_time()
        work()
        return time.process_time() - start

    ours(), bare()
    ratios = [seconds(ours) / seconds(bare) for _ in range(15)]
    assert np.median(ratios) <= 1.15, ratios
