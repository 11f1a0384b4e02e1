import importlib.util
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from skfisher._backend.arrays import is_numpy, like, namespace, row_chunks, to_numpy
from skfisher._backend.validation import as_groups, as_row_weights, as_sample, as_sigma

needs_torch = pytest.mark.skipif(not importlib.util.find_spec("torch"), reason="needs torch")

# ---- arrays


def test_to_numpy_and_like_are_inverse(library, rng):
    values = rng.normal(size=(4, 3))
    array = library(values)
    back = to_numpy(array)
    assert is_numpy(back)
    np.testing.assert_array_equal(back, values)
    again = like(back, array)
    assert library.owns(again)
    assert bool(library.xp.all(again == array))


def test_like_takes_the_dtype_of_the_reference(library):
    assert library.owns(like([1, 2], library([0.0], "float32")), "float32")


def test_namespace_computes_where_the_array_lives(library):
    x = library([[3.0, 4.0]])
    assert library.owns(namespace(x).sum(x, axis=1))
    assert is_numpy(x) == library.name.startswith("numpy")


def test_to_numpy_of_numpy_is_the_array_itself(rng):
    x = rng.normal(size=3)
    assert to_numpy(x) is x


@needs_torch
def test_to_numpy_drops_gradient_history():
    import torch

    x = torch.ones(3, requires_grad=True)
    np.testing.assert_array_equal(to_numpy(2 * x), [2.0, 2.0, 2.0])


@given(st.integers(0, 300), st.floats(0.0, 1e4), st.integers(1, 10**5))
def test_chunks_cover_every_row_once_within_the_budget(n_rows, bytes_per_row, budget):
    chunks = list(row_chunks(n_rows, bytes_per_row, budget))
    assert [row for chunk in chunks for row in range(n_rows)[chunk]] == list(range(n_rows))
    sizes = [chunk.stop - chunk.start for chunk in chunks]
    assert all(size == 1 or size * bytes_per_row <= budget for size in sizes)


# ---- samples


def test_a_sample_stays_in_its_library(library, rng):
    X = library(rng.normal(size=(5, 2)))
    out = as_sample(X)
    assert library.owns(out)
    np.testing.assert_array_equal(to_numpy(out), to_numpy(X))


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [("float64", "float64"), ("float32", "float32"), ("int64", "float64"), ("bool", "float64")],
)
def test_numbers_become_floating_point(library, dtype, expected):
    if library.name.startswith("strict") and dtype == "bool":
        X = library([[1, 0], [0, 1]]) == 1.0
    else:
        X = library([[1, 0], [0, 1]], dtype)
    out = as_sample(X)
    assert library.owns(out, expected)
    np.testing.assert_array_equal(to_numpy(out), np.eye(2))


def test_half_precision_is_computed_in_single():
    assert as_sample(np.eye(2, dtype=np.float16)).dtype == np.float32


@needs_torch
def test_torch_half_precision_and_gradients():
    import torch

    assert as_sample(torch.eye(2, dtype=torch.bfloat16)).dtype == torch.float32
    assert not as_sample(torch.eye(2, requires_grad=True)).requires_grad


@pytest.mark.parametrize(
    "X",
    [
        [[1, 2.5], [0, -1]],
        pd.DataFrame({"a": [1.0, 0.0], "b": [2.5, -1.0]}),
        np.array([[1, 2.5], [0, -1]], dtype=object),
        np.asfortranarray([[1, 2.5], [0, -1]]),
    ],
    ids=["list", "frame", "object", "fortran"],
)
def test_what_scikit_learn_takes_is_taken(X):
    out = as_sample(X)
    assert out.dtype == np.float64
    np.testing.assert_array_equal(out, [[1, 2.5], [0, -1]])


def test_infinite_and_missing_values_are_counted(library):
    X = library([[1.0, 2.0], [math.nan, 0.0], [0.0, math.inf], [3.0, 4.0]])
    with pytest.raises(ValueError, match=r"Z contains NaN or infinity in 2 of 4 rows.* row 1: dro"):
        as_sample(X, name="Z")


def test_missing_values_of_a_frame_are_found():
    with pytest.raises(ValueError, match="X contains NaN or infinity in 1 of 2 rows"):
        as_sample(pd.DataFrame({"a": pd.array([1, None], dtype="Int64")}))


@pytest.mark.parametrize("shape", [(), (3,), (2, 3, 4)])
def test_samples_are_two_dimensional(library, shape):
    message = rf"Expected 2D array, got {len(shape)}D array instead: X has shape .*Reshape your"
    with pytest.raises(ValueError, match=message):
        as_sample(library(np.ones(shape)))


def test_samples_have_columns_and_rows(library):
    with pytest.raises(ValueError, match=r"X has 0 feature\(s\) \(shape=\(3, 0\)\)"):
        as_sample(library(np.ones((3, 0))))
    with pytest.raises(ValueError, match=r"X has 0 sample\(s\) .* minimum of 1 is required: pass"):
        as_sample(library(np.ones((0, 3))))
    with pytest.raises(ValueError, match=r"X has 1 sample\(s\) .* minimum of 2 is required"):
        as_sample(library(np.ones((1, 3))), min_samples=2)


@pytest.mark.parametrize("kind", [sparse.csr_matrix, sparse.coo_array])
def test_sparse_samples_are_refused(kind):
    with pytest.raises(TypeError, match=r"X is a sparse .* of shape \(2, 2\).*X\.toarray\(\)"):
        as_sample(kind(np.eye(2)))


def test_complex_samples_are_refused(library):
    with pytest.raises(ValueError, match=r"Complex data not supported: X .*Stack its real"):
        as_sample(library(np.eye(2), "complex128"))


@pytest.mark.parametrize(
    "X", [[["a", "b"]], np.array([[{}, 1]], dtype=object), pd.DataFrame({"a": ["x", "y"]})]
)
def test_text_and_objects_are_refused(X):
    with pytest.raises((TypeError, ValueError), match=r"Z cannot be read as numbers .*OneHotEnc"):
        as_sample(X, name="Z")


# ---- weights, groups, noise levels


def test_weights_become_a_vector(library):
    assert as_row_weights(None, 3) is None
    np.testing.assert_array_equal(as_row_weights(2, 3), [2.0, 2.0, 2.0])
    out = as_row_weights(library([0.0, 1.0, 2.0]), 3)
    assert is_numpy(out)
    np.testing.assert_array_equal(out, [0.0, 1.0, 2.0])


@pytest.mark.parametrize("weights", [[1.0, 2.0], [[1.0], [1.0], [1.0]]])
def test_weights_belong_to_rows(weights):
    with pytest.raises(ValueError, match=r"sample_weight has shape .* but X has 3 rows: pass one"):
        as_row_weights(weights, 3)


@pytest.mark.parametrize("weights", [[1.0, math.nan], [1.0, math.inf], [1.0, -1.0], [0.0, 0.0]])
def test_weights_are_finite_and_not_negative(weights):
    with pytest.raises(ValueError, match=r"sample_weight ranges from .*: weights must be finite"):
        as_row_weights(weights, 2)


def test_groups_become_codes(library):
    assert as_groups(None, 3) is None
    np.testing.assert_array_equal(as_groups(["b", "a", "b"], 3), [1, 0, 1])
    np.testing.assert_array_equal(as_groups(library([7, 7, 3], "int64"), 3), [1, 1, 0])


def test_groups_belong_to_rows_and_differ():
    with pytest.raises(ValueError, match=r"groups has shape \(2,\) but X has 3 rows: pass one"):
        as_groups([1, 2], 3)
    with pytest.raises(ValueError, match=r"groups holds the single label .*5.*pass at least two"):
        as_groups([5, 5, 5], 3)


def test_a_noise_level_is_a_python_float(library):
    for value in (2, np.float32(2.0), library(2.0)):
        assert type(as_sigma(value)) is float
        assert as_sigma(value) == 2.0


@pytest.mark.parametrize("sigma", [0.0, -1.0, math.nan, math.inf])
def test_noise_levels_are_finite_and_positive(sigma):
    with pytest.raises(ValueError, match=rf"level is {sigma}: a noise level is a finite positive"):
        as_sigma(sigma, name="level")
