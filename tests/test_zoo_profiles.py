"""Profiles of data and latents along the noise, and what they say of the paper's claim."""

import json

import numpy as np
import pytest

from benchmarks.zoo.profile_figures import draw_profiles
from benchmarks.zoo.profiles import DATA, GAPS, agrees_with_paper, profiles
from skfisher import gaussian_curve

pytest.importorskip("matplotlib")
N, FEW = 1500, 400
SIGMA = np.geomspace(1.4, 4.5, 4)
FAMILIES = {"rigid": "geometry", "stretched": "vae", "dropped": "nvae"}


@pytest.fixture(scope="module")
def images():
    """Three clusters of 2 x 3 images on a three-dimensional subspace."""
    rng = np.random.default_rng(0)
    centres = np.asarray([[3.0, 0.0, 0.0], [-2.0, 2.0, 0.0], [-1.0, -2.0, 1.0]])
    points = centres[rng.integers(3, size=N)] + rng.standard_normal((N, 3)) * [1.0, 0.7, 0.5]
    basis = np.linalg.qr(rng.standard_normal((6, 3)))[0]
    return points, basis, (points @ basis.T + 5.0).reshape(N, 2, 3)


@pytest.fixture(scope="module")
def rows(images):
    points, _, X = images
    into = np.linalg.qr(np.random.default_rng(1).standard_normal((4, 3)))[0]
    latents = {
        "rigid": 0.5 * points @ into.T - 1.0,
        "stretched": points * np.asarray([3.0, 1.0, 0.3]),
        "dropped": points[:, :2] * [2.0, 1.0],
    }
    return profiles(X, latents, score_model="mixture", dataset="clusters", noise_levels=SIGMA)


def by_name(rows):
    return {row["encoder"]: row for row in rows}


def worst(row, name):
    gap, error = np.asarray(row[name]), np.asarray(row[f"{name}_stderr"])
    return np.max(np.abs(gap / error)[row["gap_valid"]])


def test_rows_are_json_with_one_entry_per_level(rows):
    assert [row["encoder"] for row in rows] == [DATA, *FAMILIES]
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows
    levels = len(rows[0]["noise_levels"])
    for row in rows:
        assert row["kind"] == "profile"
        assert row["dataset"] == "clusters"
        assert row["n_points"] == N
        assert {len(v) for v in row.values() if isinstance(v, list)} == {levels}


def test_the_hull_takes_nothing_from_the_data(rows, images):
    _, basis, X = images
    X, data = X[:FEW], rows[0]
    assert (data["hull"], data["n_features"], data["k"]) == (3, 6, 3)
    assert data["hull_is_of_the_law"]
    t, n = SIGMA**2, data["n_features"]
    turned = X.reshape(FEW, 6) @ basis
    flat, same = profiles(turned, {"same": X}, score_model="gaussian", noise_levels=SIGMA, k=3)
    assert same["scale"] == pytest.approx(1.0)
    for name in GAPS:
        # the same numbers but for the noise drawn, as the hull's axes have no signs
        assert np.all(np.abs(same[name]) < same[f"{name}_stderr"])
    J, R = (np.asarray(same[name]) for name in ("fisher_information", "fisher_information_rate"))
    assert (same["n_features"], flat["n_features"], flat["hull"]) == (6, 3, 3)
    np.testing.assert_allclose(J, np.asarray(flat["fisher_information"]) + 3 / t, rtol=0.01)
    np.testing.assert_allclose(R, np.asarray(flat["fisher_information_rate"]) + 3 / t**2, rtol=0.02)
    J, R = (np.asarray(data[name]) for name in ("fisher_information", "fisher_information_rate"))
    np.testing.assert_allclose(n - t * J, data["effective_dimension"], atol=1e-9)
    rate = n - 2 * t * J + t**2 * R
    np.testing.assert_allclose(rate / n, data["rate"], atol=1e-9)


def test_a_gaussian_has_its_closed_form():
    rng = np.random.default_rng(3)
    A = rng.standard_normal((2, 5))
    X = rng.standard_normal((2 * FEW, 2)) @ A
    (data,) = profiles(X, {}, score_model="gaussian", k=2)
    assert len(data["noise_levels"]) == 13
    truth = gaussian_curve(A.T @ A, np.asarray(data["noise_levels"]))
    for name in ("fisher_information", "fisher_information_rate", "effective_dimension"):
        z = (np.asarray(data[name]) - getattr(truth, name)) / np.asarray(data[f"{name}_stderr"])
        assert np.max(np.abs(z)) < 4


def test_an_isometric_map_has_no_gap(rows):
    row = by_name(rows)["rigid"]
    assert row["scale"] == pytest.approx(0.5, rel=1e-9)
    assert row["scale_by_rms"] == pytest.approx(0.5, rel=1e-9)
    assert sum(row["gap_valid"]) >= 3
    for name in GAPS:
        assert worst(row, name) < 3


@pytest.mark.parametrize("name", ["stretched", "dropped"])
def test_what_is_no_isometry_has_a_gap(rows, name):
    assert worst(by_name(rows)[name], "rate_gap") > 5


def test_the_verdict_is_computed_from_the_rows(rows):
    found = agrees_with_paper(rows, families=FAMILIES)
    numbers = found["encoders"]
    assert found["levels"]
    assert numbers["rigid"]["rate_gap"] < 3 * numbers["rigid"]["rate_gap_stderr"]
    assert numbers["rigid"]["rate_gap"] < numbers["stretched"]["rate_gap"]
    assert numbers["rigid"]["best_scale"] == pytest.approx(0.5, rel=0.05)
    for name in FAMILIES:
        assert numbers[name]["best_rate_gap"] <= numbers[name]["own_rate_gap"]
    answers = [s["answer"] for s in found["at_best_scale"]]
    assert len(answers) == 2
    assert answers[0] == "agrees"
    assert "disagrees" not in answers
    nearer = [s for s in found["statements"] if "nearer" in s["statement"]]
    assert len(nearer) == 6
    assert {s["answer"] for s in nearer if "MMSE" in s["statement"]} == {"agrees"}
    # the same rows with the names exchanged say the opposite
    swapped = {"rigid": "vae", "stretched": "geometry", "dropped": "geometry"}
    opposite = agrees_with_paper(rows, families=swapped)
    rate = [s["answer"] for s in opposite["statements"] if "MMSE" in s["statement"]]
    assert rate == ["disagrees"]
    assert found["answer"] == "agrees"
    assert opposite["answer"] == "disagrees"


def test_lost_directions_do_not_shrink_the_scale():
    rng = np.random.default_rng(5)
    X = rng.standard_normal((2 * FEW, 6)) * [3.0, 2.0, 1.0, 1.0, 1.0, 1.0]
    kept = np.where(np.arange(6) < 2, X, 0.0)  # what a decoder would give back
    options = {"score_model": "gaussian", "k": 6, "noise_levels": [2.0]}
    _, linear = profiles(X, {"two": 0.5 * X[:, :2]}, **options)
    _, decoded = profiles(X, {"two": 0.5 * X[:, :2]}, reconstructions={"two": kept}, **options)
    assert linear["scale"] == pytest.approx(0.5, rel=0.02)
    assert decoded["scale"] == pytest.approx(0.5, rel=1e-9)
    assert decoded["scale_from"] == "pairs of reconstructions"
    assert linear["scale_by_pairs_of_data"] < 0.45


def test_too_few_common_levels_decide_nothing(rows):
    silent = [row | {"gap_valid": [False] * len(row["noise_levels"])} for row in rows[1:]]
    found = agrees_with_paper([rows[0], *silent], families=FAMILIES)
    assert found["answer"] == "undecided"
    assert "0 noise levels" in found["why"]
    assert agrees_with_paper([rows[0], *silent], families=FAMILIES, every_level=True)["statements"]


def test_a_wrong_scale_is_told_from_the_best_one(images):
    points, X = images[0][:FEW], images[2][:FEW]
    wrong = float(SIGMA[1] / SIGMA[0])  # a step
    rows = profiles(
        X, {"rigid": points}, score_model="gaussian", noise_levels=SIGMA, k=3,
        scales={"rigid": wrong},
    )  # fmt: skip
    found = agrees_with_paper(rows, families={"rigid": "vae"}, every_level=True)
    found = found["encoders"]["rigid"]
    assert found["best_scale"] == pytest.approx(1.0, abs=0.03)
    assert found["best_rate_gap"] < 0.1 * found["own_rate_gap"]
    assert rows[1]["scale_from"] == "given"
    assert rows[1]["scale_by_pairs_of_data"] == pytest.approx(1.0)


@pytest.mark.parametrize("per_dimension", [False, True])
def test_the_picture_has_three_panels_with_hollow_invalid_levels(rows, per_dimension):
    figure = draw_profiles(rows, per_dimension=per_dimension)
    assert len(figure.axes) == 3
    for ax in figure.axes:
        marks = [line for line in ax.lines if line.get_marker() not in ("None", None, "")]
        hollow = sum(len(x.get_xdata()) for x in marks if x.get_markerfacecolor() == "white")
        assert hollow == sum(not v for row in rows for v in row["valid"])
    figure.canvas.draw()


def test_what_cannot_be_compared_is_refused(rows, images):
    _, _, X = images
    with pytest.raises(ValueError, match=r"latents\['a'\] has 3 rows for 1500 rows of X"):
        profiles(X, {"a": np.zeros((3, 2))})
    with pytest.raises(ValueError, match=r"scales has .'b'., of which there are no latents"):
        profiles(X, {"a": X}, scales={"b": 1.0})
    with pytest.raises(ValueError, match=r"reconstructions\['a'\] has 3 rows for 1500 rows of X"):
        profiles(X, {"a": X}, reconstructions={"a": X[:3]})
    with pytest.raises(ValueError, match="an encoder is named 'data'"):
        profiles(X, {"data": X})
    with pytest.raises(ValueError, match="max_points is 1: pass the rows to measure"):
        profiles(X, {"a": X}, max_points=1)
    with pytest.raises(ValueError, match="a space has 1500 equal rows"):
        profiles(np.ones((N, 4)), {"a": X})
    lonely = np.zeros((N, 2))
    lonely[0] = 1.0  # a row that is not among the 40
    with pytest.raises(ValueError, match="no pair of rows is apart in both spaces"):
        profiles(
            X, {"a": lonely}, score_model="gaussian", k=3, noise_levels=[2.0, 3.0], max_points=40
        )
    with pytest.raises(ValueError, match="rows hold 0 data rows and 3 encoders"):
        agrees_with_paper(rows[1:], families=FAMILIES)
    with pytest.raises(ValueError, match=r"of the data sets .'clusters', 'others'."):
        draw_profiles([*rows, rows[1] | {"dataset": "others"}])
