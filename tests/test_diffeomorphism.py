"""The noise-free change of variables against densities known in closed form."""

import mpmath
import numpy as np
import pytest
from numpy.testing import assert_allclose

from skfisher._backend.arrays import to_numpy
from skfisher.geometry.diffeomorphism import change_of_variables

TORCH, NUMPY = 1e-6, 1e-3  # tolerances, of exact derivatives and of differences


@pytest.fixture
def torch():
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    return torch


def kinds(torch, on_numpy, on_torch):
    from skfisher.encoders import TorchEncoder

    return (on_numpy, NUMPY), (TorchEncoder(on_torch), TORCH)


def standard_normal(rng, n, D):
    X = rng.normal(size=(n, D))
    return X, -X, np.broadcast_to(-np.eye(D), (n, D, D))


def by_mpmath(inverse, slope, z):
    """Score and its derivative at z of a standard normal pushed along a line, by mpmath."""
    mpmath.mp.dps = 40

    def log_density(z):
        x = inverse(z)
        return -(x**2) / 2 - mpmath.log(slope(x))

    return [float(mpmath.diff(log_density, z, n)) for n in (1, 2)]


@pytest.mark.parametrize("name", ["sinh", "wave"])
def test_maps_of_the_line(torch, rng, name):
    X, score, hessian = standard_normal(rng, 12, 1)
    a, w = 0.6, 1.5
    if name == "sinh":
        functions = np.sinh, torch.sinh
        inverse, slope = mpmath.asinh, mpmath.cosh
    else:
        functions = (
            lambda x: x + a * np.sin(w * x) / w,
            lambda x: x + a * torch.sin(w * x) / w,
        )

        def inverse(z):
            return mpmath.findroot(lambda x: x + a * mpmath.sin(w * x) / w - z, z)

        def slope(x):
            return 1 + a * mpmath.cos(w * x)

    expected = np.asarray([by_mpmath(inverse, slope, float(z)) for z in functions[0](X)[:, 0]])
    for encode, tol in kinds(torch, *functions):
        found = change_of_variables(encode, X, score, hessian)
        assert_allclose(found.score[:, 0], expected[:, 0], rtol=tol, atol=tol)
        assert_allclose(found.hessian[:, 0, 0], expected[:, 1], rtol=tol, atol=tol)


def test_a_shear_of_the_plane(torch, rng):
    a, w = 0.5, 2.0
    X, score, hessian = standard_normal(rng, 40, 2)

    def on_numpy(X):
        return np.stack([X[:, 0], X[:, 1] + a * np.sin(w * X[:, 0])], axis=1)

    def on_torch(X):
        return torch.stack([X[:, 0], X[:, 1] + a * torch.sin(w * X[:, 0])], dim=1)

    # p_Z(z) = phi(z_1) phi(r), r = z_2 - a sin(w z_1)
    z, r = X[:, 0], X[:, 1]
    g, gg = a * w * np.cos(w * z), -a * w**2 * np.sin(w * z)
    s = np.stack([-z + r * g, -r], axis=1)
    H = np.stack([np.stack([-1 - g**2 + r * gg, g]), np.stack([g, -np.ones(40)])])
    for encode, tol in kinds(torch, on_numpy, on_torch):
        found = change_of_variables(encode, X, score, hessian)
        assert_allclose(found.score, s, rtol=tol, atol=tol)
        assert_allclose(found.hessian, np.moveaxis(H, 2, 0), rtol=tol, atol=tol)
        # it keeps volume, so curvature enters the Hessian alone
        assert_allclose(found.log_det, np.zeros(40), atol=tol)
        assert_allclose(found.injected_score, np.zeros((40, 2)), atol=tol)
        assert abs(found.injected_hessian).max() > 0.1
        J = np.sum(s**2, axis=1)
        assert found.fisher_information == pytest.approx(J.mean(), rel=tol)
        assert found.fisher_information_stderr == pytest.approx(J.std(ddof=1) / 40**0.5, rel=tol)


def test_affine_maps_inject_nothing(torch, rng):
    X, score, hessian = standard_normal(rng, 30, 3)
    A = np.asarray([[2.0, 0.3, 0.0], [0.0, 1.0, -0.4], [0.1, 0.0, 0.5]])
    back = np.linalg.inv(A)
    for encode, tol in kinds(torch, lambda X: X @ A.T + 3.0, lambda X: X @ torch.tensor(A).T + 3.0):
        found = change_of_variables(encode, X, score, hessian)
        assert_allclose(found.score, score @ back, atol=tol)
        assert_allclose(found.hessian, np.broadcast_to(-back.T @ back, (30, 3, 3)), atol=tol)
        assert_allclose(found.injected_hessian, np.zeros((30, 3, 3)), atol=tol)
        assert found.flat_fisher_information_rate == pytest.approx(
            found.fisher_information_rate, rel=tol
        )
        assert_allclose(found.log_det, np.full(30, np.log(abs(np.linalg.det(A)))), rtol=1e-9)


def test_the_parts_add_up_and_undoing_the_map_returns_the_data(torch, rng):
    X, score, hessian = standard_normal(rng, 20, 2)

    def bend(x):
        return torch.stack([torch.sinh(x[:, 0]), x[:, 1] + 0.3 * x[:, 0] ** 2], dim=1)

    def unbend(z):
        x = torch.asinh(z[:, 0])
        return torch.stack([x, z[:, 1] - 0.3 * x**2], dim=1)

    (_, _), (there, _) = kinds(torch, None, bend)
    (_, _), (back, _) = kinds(torch, None, unbend)
    found = change_of_variables(there, X, score, hessian)
    assert_allclose(found.score, found.tangential_score + found.injected_score)
    assert_allclose(found.hessian, found.tangential_hessian + found.injected_hessian)
    again = change_of_variables(back, there.transform(X), found.score, found.hessian)
    assert_allclose(again.score, score, atol=1e-8)
    assert_allclose(again.hessian, hessian, atol=1e-7)
    assert_allclose(again.log_det, -found.log_det, atol=1e-12)


def test_every_library(library, rng):
    X, score, hessian = standard_normal(rng, 6, 1)
    found = change_of_variables(
        lambda x: library.xp.sinh(x), library(X), library(score), library(hessian)
    )
    z, q = np.sinh(X), np.cosh(X) ** 2
    assert library.owns(found.score)
    assert library.owns(found.hessian)
    assert_allclose(to_numpy(found.score), -X / np.sqrt(q) - z / q, atol=1e-6)


def test_one_row_has_no_standard_error():
    one = np.ones((1, 1))
    found = change_of_variables(np.sinh, one, -one, -np.ones((1, 1, 1)))
    assert np.isnan(found.fisher_information_stderr)
    assert np.isfinite(found.fisher_information)


def test_refusals(rng):
    X, score, hessian = standard_normal(rng, 5, 2)
    with pytest.raises(ValueError, match="X has 65 columns"):
        change_of_variables(np.sinh, *standard_normal(rng, 3, 65))
    with pytest.raises(ValueError, match=r"hessian \(5, 2\)"):
        change_of_variables(np.sinh, X, score, score)
    with pytest.raises(ValueError, match="maps 2 columns to 1"):
        change_of_variables(lambda X: X[:, :1], X, score, hessian)
    with pytest.raises(ValueError, match=r"singular at X\[\d\]"):
        change_of_variables(lambda X: X @ np.ones((2, 2)), X, score, hessian)
    with pytest.raises(ValueError, match="kinks"):
        change_of_variables(lambda X: X + 0.5 * abs(X), X, score, hessian)
