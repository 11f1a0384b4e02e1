"""Array libraries, precisions and devices: one sample, the same numbers, in the library of X."""

import os
import subprocess
import sys
from dataclasses import fields, is_dataclass, replace

import numpy as np
import pytest
from libraries import LIBRARIES, supporting
from sklearn.decomposition import PCA

from skfisher import (
    FIRateEstimator,
    FisherInformationEstimator,
    GaussianMixtureScore,
    GaussianScore,
    KernelScore,
    LatentGeometryAuditor,
    compare_encoders,
)
from skfisher._backend.arrays import cast_like, is_numpy, like, take_rows, to_numpy
from skfisher._backend.devices import moved_to, place_of
from skfisher._backend.support import CAPABILITIES, SUPPORT, why_not_here
from skfisher.estimators import _common as common
from skfisher.scores.closed import mixture as mixture_module

ALL = (FisherInformationEstimator, FIRateEstimator, LatentGeometryAuditor)
LEVELS = [0.5, 2.0]
TOLERANCE = {"float64": 1e-10, "float32": 1e-4}

every = pytest.mark.parametrize("Estimator", ALL)
in_every_library = pytest.mark.parametrize(
    "library", supporting("estimators", without=("numpy", "numpy-read-only"))
)
needs_torch = pytest.mark.skipif("torch" not in LIBRARIES, reason="torch is not installed")
pytestmark = [
    # few rows: these tests ask whether numbers agree, not whether they may be believed
    pytest.mark.filterwarnings("ignore::skfisher.exceptions.UnreliableEstimateWarning")
]

MODELS = {
    "given": GaussianScore(np.zeros(3), np.diag([1.0, 4.0, 9.0])),
    "given mixture": GaussianMixtureScore(
        [0.4, 0.6], [[-1.0, 0, 0], [1.0, 0, 0]], np.stack([np.eye(3), np.diag([1.0, 4, 9])])
    ),
    "callable": lambda y, sigma: -y / (4.0 + sigma**2),
}
FAMILIES = ("gaussian", "mixture", "kernel", "auto")


def quick(Estimator, **parameters):
    return Estimator(**({"score_model": "gaussian", "noise_levels": LEVELS} | parameters))


def sample(N=80, n=3, seed=0):
    X = np.random.default_rng(seed).standard_normal((N, n)) * np.arange(1, n + 1)
    return X + 3.0 * (np.arange(N) % 2)[:, None]


def arrays_of(value, name=""):
    """Every array in the fitted attributes of an estimator, however deep, by path."""
    if hasattr(value, "dtype"):
        return {name: value}
    if isinstance(value, dict):
        inner = value.items()
    elif is_dataclass(value):
        inner = ((f.name, getattr(value, f.name)) for f in fields(value))
    else:
        return {}
    return {path: a for key, v in inner for path, a in arrays_of(v, f"{name}.{key}").items()}


def fitted_arrays(estimator):
    public = {k: v for k, v in vars(estimator).items() if k.endswith("_") and k != "encoder_"}
    return arrays_of(public)


def assert_agree(found, expected, rtol):
    """All fitted arrays agree; numbers are judged against the largest of their array."""
    a, b = fitted_arrays(found), fitted_arrays(expected)
    assert a.keys() == b.keys()
    for name, value in b.items():
        value, other = to_numpy(value), to_numpy(a[name])
        if value.dtype.kind != "f":
            np.testing.assert_array_equal(other, value, err_msg=name)
            continue
        finite = np.abs(value[np.isfinite(value)])
        # bounds and residuals may be differences of numbers of order one, and residuals are shares
        # of numbers that may be small
        size = max(finite.max(initial=0.0), 1.0) * (10 if "residual" in name else 1)
        np.testing.assert_allclose(other, value, rtol=rtol, atol=rtol * size, err_msg=name)


def assert_follows(estimator, library, dtype="float64"):
    for name, value in fitted_arrays(estimator).items():
        kind = str(value.dtype).rpartition(".")[2]
        expected = kind if kind in ("bool", "int64") else dtype
        assert library.owns(value, expected), name


# -- one sample in every library -----------------------------------------------------------------


@in_every_library
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("score_model", [*FAMILIES, *MODELS])
def test_every_library_gives_numpys_curve_in_its_own_arrays(library, dtype, score_model):
    X, fresh = sample(), sample(seed=1)
    model = MODELS.get(score_model, score_model)
    expected = FIRateEstimator(model, LEVELS).fit(X)
    found = FIRateEstimator(model, library(LEVELS, dtype)).fit(library(X, dtype))
    assert_follows(found, library, dtype)
    assert found.device_ == place_of(library(X))
    if score_model == "callable" and library.name.startswith("torch"):
        return  # linearised by torch there, and by differences in NumPy: other numbers
    assert_agree(found, expected, TOLERANCE[dtype])
    score = found.score(library(fresh, dtype))
    assert type(score) is float
    assert score == pytest.approx(expected.score(fresh), rel=TOLERANCE[dtype])


@in_every_library
@every
@pytest.mark.parametrize("by", ["sample_weight", "groups"])
def test_weights_and_groups_of_every_library_give_numpys_numbers(library, Estimator, by):
    X, rng = sample(), np.random.default_rng(2)
    values = rng.uniform(0.5, 2.0, 80) if by == "sample_weight" else np.repeat(np.arange(40), 2)
    dtype = "float64" if by == "sample_weight" else "int64"
    expected = quick(Estimator).fit(X, **{by: values})
    found = quick(Estimator).fit(library(X), **{by: library(values, dtype)})
    assert_agree(found, expected, 1e-10)
    # NumPy arrays and lists may come with X of any library
    assert_agree(quick(Estimator).fit(library(X), **{by: values.tolist()}), found, 0.0)


@in_every_library
@pytest.mark.parametrize(("dtype", "standardize"), [("float64", True), ("float32", False)])
def test_every_library_gives_numpys_audit_in_its_own_arrays(library, dtype, standardize):
    def encode(X):
        return X[:, :2] * 2.0

    X, fresh = sample(), sample(seed=1)
    expected = quick(LatentGeometryAuditor, encoder=encode, standardize=standardize).fit(X)
    found = quick(LatentGeometryAuditor, encoder=encode, standardize=standardize)
    found.fit(library(X, dtype))
    assert_follows(found, library, dtype)
    tolerance = TOLERANCE[dtype]
    assert_agree(found, expected, tolerance)
    for name in ("diffusability_", "scale_"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), rel=tolerance)
    assert found.bi_lipschitz_ == pytest.approx(expected.bi_lipschitz_, rel=tolerance)
    assert found.score(library(fresh, dtype)) == pytest.approx(expected.score(fresh), rel=tolerance)


@pytest.mark.parametrize(
    "library", supporting("estimators", without=("numpy", "numpy-read-only", "strict"))
)
def test_encoders_are_ranked_alike_in_every_library(library):
    X, settings = sample(40), {"score_model": "gaussian", "noise_levels": LEVELS}
    encoders = {"two": lambda X: X[:, :2], "all": None}
    cached = {"two": X[:, :2], "all": X}
    in_library = {name: library(Z) for name, Z in cached.items()}
    for known, given in ((encoders, encoders), (cached, in_library)):
        expected = compare_encoders(known, X, **settings)
        found = compare_encoders(given, library(X), **settings)
        assert [r.name for r in found.records] == [r.name for r in expected.records]
        for ours, theirs in zip(found.records, expected.records, strict=True):
            assert ours.diffusability == pytest.approx(theirs.diffusability, rel=1e-10)
            assert ours.reconstruction_error == pytest.approx(
                theirs.reconstruction_error, rel=1e-8, abs=1e-12
            )


@in_every_library
def test_batches_of_every_library_add_up_to_numpys_numbers(library):
    X, model = sample(), MODELS["given"]
    expected = FIRateEstimator(model, LEVELS).partial_fit(X[:30]).partial_fit(X[30:])
    found = FIRateEstimator(model, LEVELS).partial_fit(library(X[:30]))
    assert_agree(found.partial_fit(library(X[30:])), expected, 1e-10)
    assert_follows(found, library)


@in_every_library
@pytest.mark.parametrize("score_model", ["mixture", "kernel"])
def test_chunks_change_nothing_but_rounding_in_any_library(library, score_model, monkeypatch):
    X = library(sample())
    whole = FIRateEstimator(score_model, LEVELS).fit(X)
    monkeypatch.setattr(mixture_module, "_CHUNK_BUDGET", 2**13)
    monkeypatch.setitem(KernelScore.__init__.__kwdefaults__, "memory_budget", 2**15)
    assert_agree(FIRateEstimator(score_model, LEVELS).fit(X), whole, 1e-10)


@every
def test_what_was_fitted_in_one_library_scores_rows_of_another(Estimator):
    X, fresh = sample(), sample(seed=1)
    fitted = quick(Estimator).fit(X)
    expected = fitted.score(fresh)
    for library in (LIBRARIES[name] for name in LIBRARIES if name not in ("numpy", "strict")):
        assert fitted.score(library(fresh)) == pytest.approx(expected, rel=1e-10)
        other = quick(Estimator).fit(library(X))
        assert other.score(fresh) == pytest.approx(expected, rel=1e-10)


# -- precision -----------------------------------------------------------------------------------


@every
@pytest.mark.parametrize("library", supporting("half", without=("numpy-read-only",)))
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_computed_in_double_and_returned_in_single(Estimator, library, dtype):
    if not hasattr(library.xp, dtype):
        assert (library.name, dtype) in {("numpy", "bfloat16"), ("cupy", "bfloat16")}
        return
    X = np.round(4 * sample()) / 4
    X = np.clip(X, -15.75, 15.75)  # exact in the eight bits of bfloat16
    found = quick(Estimator).fit(library(X, dtype))
    assert_follows(found, library, "float32")
    assert_agree(found, quick(Estimator).fit(X.astype(float)), 2e-6)


@every
def test_single_precision_loses_only_the_rounding_of_x(Estimator):
    X = sample()
    rounded = X.astype(np.float32)
    single = quick(Estimator).fit(rounded)
    assert_agree(single, quick(Estimator).fit(rounded.astype(float)), 2e-6)
    assert_agree(single, quick(Estimator).fit(X), TOLERANCE["float32"])


@pytest.mark.skipif("jax" not in LIBRARIES, reason="jax is not installed")
def test_jax_without_double_precision_is_refused():
    import jax

    with jax.enable_x64(False):
        X = LIBRARIES["jax"](sample(), "float32")
        with pytest.raises(ValueError, match=r"X is a jaxlib array of dtype float32 .*enable_x64"):
            quick(FIRateEstimator).fit(X)


# -- kinds of tensors ----------------------------------------------------------------------------


def tensors():
    import torch

    X = torch.asarray(sample())
    return {
        "requires grad": (2 * X.requires_grad_()) / 2,
        "parameter": torch.nn.Parameter(torch.asarray(sample())),
        "transposed": torch.asarray(np.ascontiguousarray(sample().T)).T,
        "strided": torch.asarray(np.repeat(sample(), 2, axis=0))[::2],
    }


@needs_torch
@every
@pytest.mark.parametrize("kind", ["requires grad", "parameter", "transposed", "strided"])
def test_tensors_of_every_kind_are_tensors(Estimator, kind):
    import torch

    found = quick(Estimator).fit(tensors()[kind])
    assert_agree(found, quick(Estimator).fit(sample()), 1e-10)
    assert all(not a.requires_grad and type(a) is torch.Tensor
               for a in fitted_arrays(found).values())  # fmt: skip


@needs_torch
@pytest.mark.parametrize("dtype", ["int8", "int64", "uint8", "bool"])
def test_integers_and_flags_become_double_precision(dtype):
    import torch

    X = np.abs(np.round(sample())) > 1 if dtype == "bool" else np.abs(np.round(sample()))
    X = X + np.zeros(1, bool if dtype == "bool" else float)
    found = quick(FIRateEstimator).fit(torch.asarray(X, dtype=getattr(torch, dtype)))
    assert found.fisher_information_.dtype == torch.float64
    assert_agree(found, quick(FIRateEstimator).fit(X.astype(float)), 1e-10)


@needs_torch
@pytest.mark.filterwarnings("ignore:.*quantize:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*quantiz:UserWarning")
def test_quantized_tensors_become_the_numbers_that_they_stand_for():
    import torch

    X = torch.asarray(np.round(4 * sample()) / 4, dtype=torch.float32)
    coded = torch.quantize_per_tensor(X, 0.25, 0, torch.qint8)
    assert_agree(quick(FIRateEstimator).fit(coded), quick(FIRateEstimator).fit(X), 0.0)


# -- refusals ------------------------------------------------------------------------------------


@needs_torch
@every
def test_tensors_without_dense_real_numbers_are_refused(Estimator):
    import torch

    X = torch.asarray(sample())
    for sparse in (X.to_sparse(), X.to_sparse_coo()):
        with pytest.raises(TypeError, match=r"X is a sparse tensor \(torch.sparse_coo\).*to_dense"):
            quick(Estimator).fit(sparse)
    with pytest.raises(ValueError, match=r"Complex data not supported: X has dtype torch.complex1"):
        quick(Estimator).fit(X + 1j)
    with pytest.raises(ValueError, match="X is on the device 'meta', which holds no numbers: load"):
        quick(Estimator).fit(X.to("meta"))


def on_two_devices():
    return LIBRARIES["strict"], LIBRARIES["strict-device1"]


@every
@pytest.mark.parametrize("argument", ["sample_weight", "groups", "noise_levels"])
@pytest.mark.parametrize("swapped", [False, True])
def test_arguments_on_another_device_than_x_are_refused(Estimator, argument, swapped):
    host, device = on_two_devices()[:: -1 if swapped else 1]
    values, dtype = {
        "sample_weight": (np.ones(80), "float64"),
        "groups": (np.repeat(np.arange(40), 2), "int64"),
        "noise_levels": (LEVELS, "float64"),
    }[argument]
    places = ("cpu", "device1") if swapped else ("device1", "cpu")
    message = rf"{argument} is on {places[1]} but X is on {places[0]}: move it .* NumPy array"
    given = {argument: host(values, dtype)}
    parameters = given if argument == "noise_levels" else {}
    with pytest.raises(ValueError, match=message):
        quick(Estimator, **parameters).fit(device(sample()), **({} if parameters else given))


@every
def test_weights_on_another_device_than_the_scored_rows_are_refused(Estimator):
    host, device = on_two_devices()
    fitted = quick(Estimator).fit(device(sample()))
    with pytest.raises(ValueError, match="sample_weight is on cpu but X is on device1"):
        fitted.score(device(sample()), sample_weight=host(np.ones(80)))


def test_batches_with_weights_on_another_device_are_refused():
    host, device = on_two_devices()
    with pytest.raises(ValueError, match="sample_weight is on device1 but X is on cpu"):
        quick(FIRateEstimator, score_model=MODELS["given"]).partial_fit(
            host(sample()), sample_weight=device(np.ones(80))
        )


def test_latents_on_another_device_than_x_are_refused():
    host, device = on_two_devices()
    audit = quick(LatentGeometryAuditor, encoder=lambda X: host(sample()))
    with pytest.raises(ValueError, match=r"the encoder's output is on cpu but X is on device1"):
        audit.fit(device(sample()))


def test_latents_of_another_library_on_the_host_follow_x():
    strict = LIBRARIES["strict"]
    audit = quick(LatentGeometryAuditor, encoder=lambda X: strict(to_numpy(X)))
    own = quick(LatentGeometryAuditor, encoder=lambda X: X)
    assert_agree(audit.fit(sample()), own.fit(sample()), 1e-10)
    assert is_numpy(audit.latent_curve_.fisher_information)


# -- the device argument -------------------------------------------------------------------------


@needs_torch
@every
@pytest.mark.parametrize("score_model", [*FAMILIES, "given"])
def test_numpy_input_computed_in_torch_comes_back_in_numpy(Estimator, score_model):
    if Estimator is LatentGeometryAuditor and score_model in ("mixture", "auto"):
        score_model = "kernel"
    model = MODELS.get(score_model, score_model)
    X, fresh = sample(), sample(seed=1)
    expected = quick(Estimator, score_model=model).fit(X)
    found = quick(Estimator, score_model=model, device="cpu").fit(X)
    assert found.device_ == "cpu"
    assert_follows(found, LIBRARIES["numpy"])
    assert_agree(found, expected, 1e-10)
    assert found.score(fresh) == pytest.approx(expected.score(fresh), rel=1e-10)
    single = quick(Estimator, score_model=model, device="cpu").fit(X.astype(np.float32))
    assert_follows(single, LIBRARIES["numpy"], "float32")


@needs_torch
def test_score_models_are_called_where_it_is_computed_and_encoders_with_what_they_know():
    import torch

    seen = []

    def model(y, sigma):
        seen.append(type(y))
        return -y / (4.0 + sigma**2)

    audit = quick(LatentGeometryAuditor, encoder=PCA(2), score_model=model, device="cpu")
    audit.fit(sample())  # PCA itself would take a tensor for an array
    assert set(seen) == {torch.Tensor}
    assert type(audit.encoder_.mean_) is np.ndarray
    assert audit.report_.device == "cpu"
    assert np.isfinite(audit.score(sample(seed=1)))


@needs_torch
def test_batches_are_computed_on_the_device_too():
    X, model = sample(), MODELS["given"]
    expected = FIRateEstimator(model, LEVELS).partial_fit(X[:30]).partial_fit(X[30:])
    found = FIRateEstimator(model, LEVELS, device="cpu").partial_fit(X[:30]).partial_fit(X[30:])
    assert_agree(found, expected, 1e-10)
    assert_follows(found, LIBRARIES["numpy"])


@needs_torch
def test_auto_is_cuda_where_there_is_one_and_nothing_moves_otherwise(monkeypatch):
    import torch

    X = sample()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert moved_to("auto", X) is X
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for name in {"torch", "strict-device1"} & LIBRARIES.keys():
        x = LIBRARIES[name](X)
        assert moved_to("auto", x) is x


def test_auto_is_where_x_lies_without_torch(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    X = sample()
    assert moved_to("auto", X) is X
    with pytest.raises(ImportError, match=r"device is 'cuda', which needs torch: pip install "):
        moved_to("cuda", X)


@needs_torch
def test_devices_that_cannot_be_used_are_refused():
    import torch

    X = sample()
    with pytest.raises(ValueError, match=r"device is 'meta', which cannot be used here \(it holds"):
        moved_to("meta", X)
    with pytest.raises(ValueError, match=r"device is 'cuda:99', which cannot be used .*torch sees"):
        moved_to("cuda:99", X)
    with pytest.raises(ValueError, match=r"device is 'gpu', which torch does not know: pass 'cpu'"):
        moved_to("gpu", X)
    with pytest.raises(TypeError, match=r"device is 3: pass None, 'auto', or a torch device"):
        moved_to(3, X)
    assert moved_to(torch.device("cpu"), X).device.type == "cpu"
    tensor = torch.asarray(X)
    assert moved_to("cpu", tensor) is tensor


@needs_torch
@every
def test_only_numpy_input_is_moved(Estimator):
    X = LIBRARIES["strict-device1"](sample())
    message = r"device is 'cpu' but X is a array_api_strict array on device1: only NumPy input"
    with pytest.raises(ValueError, match=message):
        quick(Estimator, device="cpu").fit(X)


# -- shapes --------------------------------------------------------------------------------------


@every
def test_pictures_are_refused_with_the_shape_to_pass(Estimator):
    X = np.zeros((10, 2, 3, 4))
    message = r"got 4D array.*X has shape \(10, 2, 3, 4\)\. Reshape .*latent_shape=\(2, 3, 4\)"
    with pytest.raises(ValueError, match=message):
        quick(Estimator).fit(X)


@every
def test_latent_shapes_of_another_number_of_features_are_refused(Estimator):
    X = sample(n=6)
    shaped, plain = quick(Estimator, latent_shape=(1, 2, 3)).fit(X), quick(Estimator).fit(X)
    if hasattr(shaped, "report_"):  # whose channels are those of the shape
        shaped.report_ = replace(shaped.report_, channels=plain.report_.channels)
    assert_agree(shaped, plain, 0.0)
    with pytest.raises(ValueError, match=r"latent_shape is \(2, 2\), .* 4 numbers .* X has 6 feat"):
        quick(Estimator, latent_shape=(2, 2)).fit(X)


class Recipe:
    """What tells how a network is to be fitted: no model, and no name."""

    fits_a_sample = True


@pytest.fixture
def asked(monkeypatch):
    """Every call of the cross-fit: the number of features, score model, shape and verbosity."""
    calls, fit = [], common.cross_fitted_curve

    def recorded(sample, levels, score_model, *, latent_shape, verbose, **options):
        calls.append((sample.X.shape[1], score_model, latent_shape, verbose))
        return fit(sample, levels, "gaussian", **options)

    monkeypatch.setattr(common, "cross_fitted_curve", recorded)
    return calls


@pytest.mark.parametrize("Estimator", ALL[:2])
@pytest.mark.parametrize("score_model", ["network", Recipe()], ids=["name", "recipe"])
def test_recipes_shapes_and_verbosity_reach_the_cross_fit(Estimator, score_model, asked):
    estimator = quick(Estimator, score_model=score_model, latent_shape=[1, 2, 3], verbose=True)
    estimator.fit(sample(n=6))
    assert asked == [(6, score_model, (1, 2, 3), True)]
    assert not hasattr(estimator, "partial_fit")
    with pytest.raises(TypeError, match=r"score_model is the class Recipe: pass an instance"):
        quick(Estimator, score_model=Recipe).fit(sample())


def test_the_shape_of_an_audit_is_that_of_the_latent(asked):
    class Encoder:
        latent_shape_ = (2, 1, 2)

        def transform(self, X):
            return X[:, :4]

    X = sample(n=6)
    for shape, encoder, expected in (
        (None, Encoder(), (2, 1, 2)),
        ((1, 2, 2), Encoder(), (1, 2, 2)),
        ((1, 2, 3), None, (1, 2, 3)),
        (None, PCA(4), None),
    ):
        asked.clear()
        quick(LatentGeometryAuditor, encoder=encoder, latent_shape=shape).fit(X)
        # the identity has one space, whose curve is measured once
        assert [call[2] for call in asked] == ([expected, None] if encoder else [expected])
    with pytest.raises(ValueError, match=r"latent_shape is \(1, 2, 3\).* has 4 features"):
        quick(LatentGeometryAuditor, encoder=Encoder(), latent_shape=(1, 2, 3)).fit(X)


# -- the table -----------------------------------------------------------------------------------


def test_the_table_names_every_capability_once():
    assert len({support.name for support in SUPPORT}) == len(SUPPORT)
    for support in SUPPORT:
        assert support.capabilities.keys() == CAPABILITIES.keys()
        assert support.tested in ("always", "where installed", "where present")
        assert bool(why_not_here(support)) != (support.name in LIBRARIES)
    assert {"numpy", "strict", "strict-device1"} <= LIBRARIES.keys()


@in_every_library
def test_arrays_are_cast_to_library_device_and_precision_of_another(library):
    reference = library([0.0], "float32")
    assert library.owns(cast_like(np.asarray([1.5]), reference), "float32")
    flags = cast_like(np.asarray([True, False]), reference)
    assert to_numpy(flags).tolist() == [True, False]
    assert library.owns(cast_like(np.asarray([3, 1]), reference), "int64")
    x = library([[1.0], [2.0], [3.0]])
    assert cast_like(x, x) is x
    assert to_numpy(take_rows(x, np.asarray([2, 0]))).tolist() == [[3.0], [1.0]]
    read_only = np.asarray([1.0, 2.0])
    read_only.flags.writeable = False
    assert to_numpy(like(read_only, x)).tolist() == [1.0, 2.0]


# -- a process that nobody has prepared ----------------------------------------------------------

UNPREPARED = """
import numpy as np, torch
from skfisher import FIRateEstimator, LatentGeometryAuditor

X = np.random.default_rng(0).standard_normal((40, 2))
for Estimator in (FIRateEstimator, LatentGeometryAuditor):
    args = {"score_model": "kernel", "noise_levels": [0.5, 2.0]}
    found = Estimator(**args).fit(torch.asarray(X))
    expected = Estimator(**args).fit(X)
    curve = found.curve_ if hasattr(found, "curve_") else found.latent_curve_
    known = expected.curve_ if hasattr(expected, "curve_") else expected.latent_curve_
    assert type(curve.fisher_information) is torch.Tensor
    gap = curve.fisher_information.numpy() / known.fisher_information - 1
    assert abs(gap).max() < 1e-10, gap
print("same")
"""


@needs_torch
def test_tensors_are_taken_without_scipys_switch_and_without_dispatch():
    environment = {k: v for k, v in os.environ.items() if k != "SCIPY_ARRAY_API"}
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    run = subprocess.run(
        [sys.executable, "-c", UNPREPARED],
        capture_output=True, text=True, check=False, env=environment, cwd=root,
    )  # fmt: skip
    assert run.stdout.strip() == "same", run.stderr
