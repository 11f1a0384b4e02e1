"""Numbers of one encoder: all are there or say why not, and known latents have known ones."""

import json
import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

# ruff: noqa: E402 - torch is an extra, and the zoo is built on it
from benchmarks.zoo import measures
from benchmarks.zoo.candidates import CANDIDATES, LATE, RESOLUTIONS
from benchmarks.zoo.measures import (
    PARTS,
    candidate_numbers,
    decoded,
    encoder,
    latents,
    names_of,
    published,
)
from benchmarks.zoo.measures import case as shared
from benchmarks.zoo.measures.late import late_numbers, shipped_numbers
from skfisher import LatentGeometryAuditor
from skfisher.surrogates import fit_surrogate, surrogate_distance

N, D_ROWS = 500, 1024
SMALL = {
    "GEOMETRY_ROWS": 150,
    "LOCAL_ROWS": 300,
    "LOCAL_ANCHORS": 6,
    "METRIC_ANCHORS": 6,
    "PIXEL_ROWS": 60,
    "FEATURE_ROWS": 40,
    "SURROGATE_ROWS": 200,
    "CURVE_ROWS": 150,
    "RIVAL_ROWS": 300,
    "MISMATCH_ROWS": 300,
    "N_LEVELS": 15,
    "THIN": (0, 4, 8, 12, 14),
}


class Rotation(torch.nn.Module):
    """Orthonormal images of a latent of the given shape, times a scalar, and their inverse."""

    def __init__(self, shape, factor=1.0):
        super().__init__()
        self.shape, self.factor = shape, factor
        axes = np.random.default_rng(7).normal(size=(D_ROWS, math.prod(shape)))
        self.axes = torch.nn.Parameter(torch.as_tensor(np.linalg.qr(axes)[0]).float())

    def encode(self, x):
        """Latents of images."""
        return (x.flatten(1) @ self.axes * self.factor).reshape(-1, *self.shape)

    def decode(self, z):
        """Images of latents."""
        return (z.flatten(1) / self.factor @ self.axes.T).reshape(-1, 1, 32, 32)


def features(images):
    A = np.random.default_rng(5).normal(size=(D_ROWS, 6)) / 32
    return np.tanh((images.reshape(len(images), -1) / 127.5 - 1) @ A)


def case(shape=(4,), factor=1.0, law="gaussian", **changed):
    rng = np.random.default_rng(1)
    d = math.prod(shape)
    Z = rng.normal(size=(N, d))
    if law == "modes":
        Z = 0.15 * Z + rng.choice([-1.0, 1.0], size=(N, 1)) * np.ones(d)
    module = Rotation(shape, factor)
    # 8 bit leave of such faint images little: they are made strong
    latents = torch.as_tensor(Z * 3 * factor).float().reshape(-1, *shape)
    with torch.no_grad():
        x = module.decode(latents).numpy()
    images = np.rint(np.clip((x + 1) * 127.5, 0, 255)).astype(np.uint8)
    with torch.no_grad():
        Z = module.encode(torch.as_tensor(images).float() / 127.5 - 1).flatten(1).numpy()
    centre = Z.mean(axis=0)
    scale = float(np.sqrt(np.mean((Z - centre) ** 2)))
    given = {
        "images": images,
        "Z": (Z - centre) / scale,
        "centre": centre,
        "scale": scale,
        "autoencoder": module,
        "features": features,
        "latent_shape": shape,
        "labels": np.arange(N) % 3,
        "max_points": 150,
    }
    return given | changed


def make_small(patch):
    for module in (shared, latents, encoder, decoded, published):
        for name in SMALL.keys() & vars(module).keys():
            patch.setattr(module, name, SMALL[name])


@pytest.fixture(autouse=True)
def small(monkeypatch):
    torch.set_num_threads(1)
    make_small(monkeypatch)


@pytest.fixture(scope="module")
def found():
    with pytest.MonkeyPatch.context() as patch:
        make_small(patch)
        yield candidate_numbers(**case())


def values_of(found):
    return {name: entry["value"] for name, entry in found["numbers"].items()}


def test_every_candidate_has_a_value_or_a_reason(found):
    assert list(found["numbers"]) == list(CANDIDATES)
    for kind in ("numbers", "rivals"):
        for name, entry in found[kind].items():
            assert set(entry) >= {"value", "stderr", "seconds"}, name
            assert (entry["value"] is None) == ("reason" in entry), name
    json.dumps(found, allow_nan=False)


def test_nearly_all_of_them_have_values(found):
    missing = {name for name, entry in found["numbers"].items() if entry["value"] is None}
    assert missing <= {"data_curvature"}
    absent = {name: e["reason"] for name, e in found["rivals"].items() if e["value"] is None}
    assert all(reason.startswith("not given") for reason in absent.values()), absent


def test_parts_and_table_name_the_same_numbers():
    named = [name for part in PARTS for name in names_of(part)]
    assert sorted(named) == sorted(CANDIDATES)
    needs = {"latents", "labels", "data", "encoder", "decoder", "features"}
    assert {candidate.needs for candidate in CANDIDATES.values()} == needs
    assert all(candidate.meaning for candidate in CANDIDATES.values())


def test_a_gaussian_latent_has_nothing_that_a_linear_map_does_not_learn(found):
    numbers = found["numbers"]
    for name in ("rate_excess_log", "nonlinearity_log", "noise_excess_log", "viv_gap"):
        assert abs(numbers[name]["value"]) < 4 * numbers[name]["stderr"] + 0.03, name
    assert abs(numbers["viv"]["value"] - math.pi / 2) < 4 * numbers["viv"]["stderr"] + 0.03


def test_an_orthonormal_decoder_changes_no_error(found):
    value = values_of(found)
    for name in ("sensitivity_linear", "sensitivity_pixels", "sensitivity_ratio"):
        error = found["numbers"][name]["stderr"] or 0.0
        assert abs(value[name] - 1) < 4 * error + 0.02, name
    for over in ("log", "flow"):
        one = value[f"decoded_error_linear_{over}"]
        assert value[f"decoded_error_encoder_{over}"] == pytest.approx(one, rel=0.02)
        pixels = found["numbers"][f"decoded_error_pixels_{over}"]
        assert abs(pixels["value"] - one) < 4 * pixels["stderr"]
    assert value["tangential_distortion"] == pytest.approx(0.0, abs=1e-4)
    assert value["encoder_curvature"] == pytest.approx(0.0, abs=1e-4)
    assert value["encoder_curvature_local"] == pytest.approx(0.0, abs=1e-6)
    assert value["dimension"] == 4


def test_the_unit_of_the_encoder_changes_nothing(found):
    other = values_of(candidate_numbers(**case(factor=8.0)))
    for name, value in values_of(found).items():
        if value is not None:
            assert other[name] == pytest.approx(value, rel=0.02, abs=1e-3), name


def test_two_modes_are_told_from_a_gaussian():
    given = shared.Case(**_fields(case(law="modes")))
    numbers = latents.curves(given) | latents.nonlinearities(given)
    assert numbers["viv_gap"][0] > 5 * numbers["viv_gap"][1]
    assert numbers["noise_excess_log"][0] > 5 * numbers["noise_excess_log"][1]
    assert numbers["nonlinearity_log"][0] > 3 * numbers["nonlinearity_log"][1]
    assert latents.sliced(given)["sliced_distance"][0] < 0.3


def _fields(given):
    given = dict(given)
    return given | {
        "Z": given["Z"].astype(np.float64),
        "reconstructed_features": None,
        "seed": 0,
        "device": "cpu",
    }


def test_what_is_not_given_is_named():
    given = shared.Case(**_fields(case(labels=None)))
    with pytest.raises(ValueError, match="not given: labels"):
        latents.labelled(given)


def test_a_part_that_fails_costs_only_its_own_numbers(monkeypatch):
    monkeypatch.setattr(
        measures, "PARTS",
        {part: PARTS[part] for part in (latents.spectrum, decoded.surrogates)},
    )  # fmt: skip
    names = [name for part in measures.PARTS for name in names_of(part)]
    monkeypatch.setattr(measures, "CANDIDATES", {name: CANDIDATES[name] for name in names})

    def broken(images):
        raise RuntimeError("out of colours")

    found = candidate_numbers(**case(features=broken))
    assert found["numbers"]["participation"]["value"] is not None
    entry = found["numbers"]["surrogate_gaussian_features"]
    assert entry["value"] is None
    assert entry["reason"] == "RuntimeError: out of colours"
    assert "out of colours" in found["rivals"]["interpolation_distance"]["reason"]


def test_latents_with_places_have_the_rivals_that_need_them():
    given = shared.Case(**_fields(case(shape=(1, 2, 2))))
    found = published.rivals(given, features(given.images))
    for name in ("kronecker_viv", "equivariance", "interpolation_distance", "reconstruction"):
        assert found[name]["value"] is not None, (name, found[name])


def test_the_late_candidates_are_those_of_the_library():
    given = case(law="modes")

    @torch.inference_mode()
    def decode(Z):
        own = torch.as_tensor(Z * given["scale"] + given["centre"]).float()
        return given["autoencoder"].decode(own)

    def of_tensors(x):
        return features((x.clamp(-1, 1).numpy() + 1) * 127.5)

    counted = []

    def hashed(x):
        counted.append(len(x))
        return of_tensors(x)

    Z = given["Z"].astype(np.float32)
    found = late_numbers(Z, lambda z: decode(z).numpy(), lambda x: hashed(torch.as_tensor(x)))
    assert list(found["numbers"]) == [f"surrogate_resolved_{share}" for share in RESOLUTIONS]
    assert sum(counted) == 4 * N  # the reconstructions once, and samples at three resolutions
    values = [entry["value"] for entry in found["numbers"].values()]
    own = surrogate_distance(Z, decode, features=of_tensors, resolution=0.0)
    assert values[0] == pytest.approx(own.value, rel=1e-6)
    assert found["surrogate"] == own.surrogate
    assert values[2] > values[0]


def test_what_the_library_ships_is_what_the_auditor_measures():
    X = np.random.default_rng(0).normal(size=(2500, 3)) ** 3
    found = shipped_numbers(X, lambda z: z, np.abs)
    assert {*LATE} == {*late_numbers(X[:200], lambda z: z, np.abs)["numbers"], *found["numbers"]}
    surrogate = fit_surrogate(X)
    for name, seen in (("surrogate_shipped", np.abs), ("surrogate_shipped_pixels", None)):
        own = surrogate_distance(X[:2000], lambda z: z, features=seen, surrogate=surrogate)
        assert found["numbers"][name]["value"] == pytest.approx(own.value, rel=1e-12)
    audit = LatentGeometryAuditor(
        None, decoder=lambda z: z, features=np.abs, noise_levels=[1.0], score_model="gaussian"
    ).fit(X)
    used = audit.report_.surrogate
    assert (used.n_fitted, used.n_rows, used.surrogate) == (2500, 2000, found["surrogate"])
    error = math.hypot(used.stderr, found["numbers"]["surrogate_shipped"]["stderr"])
    assert abs(used.value - found["numbers"]["surrogate_shipped"]["value"]) < 4 * error
