"""Comparison of encoders: what is ranked, what is told apart, what is lost."""

import json
import math
from dataclasses import FrozenInstanceError

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from sklearn.decomposition import PCA
from sklearn.frozen import FrozenEstimator
from sklearn.preprocessing import FunctionTransformer
from sklearn.random_projection import GaussianRandomProjection

from skfisher.compare import EncoderComparison, compare_encoders
from skfisher.estimators import LatentGeometryAuditor

SEEN = {"score_model": "gaussian", "noise_levels": [0.3, 1.0]}
FAST = SEEN | {"criterion": "complexity"}


@pytest.fixture(scope="module")
def X():
    rng = np.random.default_rng(7)
    return rng.normal(size=(300, 4)) * [3.0, 2.0, 1.0, 0.2] + 5.0


@pytest.fixture(scope="module")
def found(X):
    encoders = {"plain": PCA(3), "white": PCA(3, whiten=True), "latents": PCA(2).fit_transform(X)}
    return compare_encoders(encoders, X, **FAST)


def test_records_are_the_auditor_s(X, found):
    audit = LatentGeometryAuditor(PCA(3), **FAST).fit(X)
    record = found["plain"]
    assert record.diffusability == audit.diffusability_
    assert record.stderr == audit.report_.diffusability_stderr
    assert (record.m, record.L) == audit.bi_lipschitz_
    assert record.scale == audit.scale_
    assert record.latent_dimension == 3
    assert record.valid_share == audit.valid_.mean()
    assert record.penalties["dimensional_compression"] == 0.25
    assert_allclose(record.latent_scale, np.sqrt(PCA(3).fit_transform(X).var(axis=0).mean()))


def test_scores_fall_with_rank(found):
    scores = [record.diffusability for record in found.records]
    assert scores == sorted(scores, reverse=True)
    ranks = [record.rank for record in found.records]
    assert ranks == sorted(ranks)
    assert ranks[0] == 1
    assert ranks[-1] == 3  # both others are better beyond doubt
    assert found.records[0].name == "white"
    assert all(r.rank_interval[0] <= r.rank <= r.rank_interval[1] for r in found.records)


def test_reconstruction_by_pca_loses_the_variance_it_leaves_out(X, found):
    share = 1 - PCA(3).fit(X).explained_variance_ratio_.sum()
    assert_allclose(found["plain"].reconstruction_error, share)
    assert found["plain"].decoder == "inverse_transform"


def test_cached_latents_are_reconstructed_by_an_affine_map(X, found):
    share = 1 - PCA(2).fit(X).explained_variance_ratio_.sum()
    record = found["latents"]
    assert share < record.reconstruction_error < 1.1 * share  # rows that the map has not seen
    assert record.decoder == "cross-validated affine map"


def test_the_encoder_of_cached_latents_is_unknown(found):
    record = found["latents"]
    assert all(map(math.isnan, (record.m, record.L, record.scale, *record.penalties.values())))
    assert record.diffusability == found["latents"].report.diffusability


def test_cached_latents_do_without_x(X):
    Z = PCA(2).fit_transform(X)
    alone = compare_encoders([Z, Z[:100]], score_model="gaussian")
    assert {record.name for record in alone.records} == {"latents-1", "latents-2"}
    assert all(math.isnan(record.reconstruction_error) for record in alone.records)
    assert alone.records[0].decoder == "none: no X"
    assert alone.n_samples is None


def test_a_callable_is_reconstructed_by_an_affine_map(X):
    (record,) = compare_encoders({"first": lambda rows: rows[:, :2]}, X, **FAST).records
    lost = X[:, 2:].var(axis=0).sum() / X.var(axis=0).sum()
    assert_allclose(record.reconstruction_error, lost, rtol=0.05)
    assert record.decoder == "cross-validated affine map"


def test_a_poor_decoder_is_not_held_against_the_encoder(X):
    # its inverse knows nothing of the mean, which is five here
    encoder = GaussianRandomProjection(2, random_state=0)
    (record,) = compare_encoders([encoder], X, **FAST).records
    assert record.reconstruction_error < 1
    assert record.decoder.startswith("cross-validated affine map (inverse_transform: ")


def test_a_decoder_of_another_shape_is_passed_over(X):
    encoder = FunctionTransformer(lambda rows: rows[:, :2])  # whose inverse is the identity
    (record,) = compare_encoders([encoder], X, **FAST).records
    assert record.decoder.endswith("(inverse_transform does not return the shape of X)")
    assert 0 < record.reconstruction_error < 1


def test_the_identity_loses_nothing(X):
    (record,) = compare_encoders([None], X, **FAST).records
    assert (record.name, record.reconstruction_error, record.decoder) == (
        "identity",
        0.0,
        "identity",
    )


def test_few_rows_have_no_affine_reconstruction(X):
    (record,) = compare_encoders({"first": lambda rows: rows[:, :2]}, X[:9], **FAST).records
    assert math.isnan(record.reconstruction_error)
    assert record.decoder == "none: fewer than 10 rows"


def test_names_are_made_unique(X):
    encoders = [PCA(2), PCA(3), FrozenEstimator(PCA(2).fit(X)), X]
    found = compare_encoders(encoders, X, **FAST)
    assert {r.name for r in found.records} == {"PCA-1", "PCA-2", "FrozenEstimator", "latents"}


def test_equal_encoders_are_not_separated_and_share_their_ranks(X):
    found = compare_encoders({"a": PCA(3), "b": PCA(3), "c": PCA(3, whiten=True)}, X, **FAST)
    white, first, second = found.records
    assert white.name == "c"
    assert white.rank_interval == (1, 1)
    assert white.separated_from_next
    assert first.rank_interval == second.rank_interval == (2, 3)
    assert not first.separated_from_next
    assert second.separated_from_next  # nothing comes after it
    assert found.not_separated() == (("a", "b"),)


def test_separation_is_a_win_in_nearly_all_resamples(found):
    win = found.win_probability
    for k, record in enumerate(found.records[:-1]):
        assert record.separated_from_next == (win[k, k + 1] >= 0.975)
    for k, record in enumerate(found.records):
        assert record.rank == 1 + sum(win[:, k] >= 0.975)


def test_encoders_on_the_same_rows_are_told_apart_by_their_difference(X):
    # nearly the same latent, so that nearly all of the error is shared
    encoders = {"a": lambda rows: rows[:, :3], "b": lambda rows: rows[:, :3] * [1.0, 1.0, 0.9]}
    found = compare_encoders(encoders, X, **FAST)
    first, second = found.records
    alone = math.hypot(first.stderr, second.stderr)
    assert first.name == "a"
    assert found.difference_stderr[0, 1] < 0.3 * alone
    assert first.separated_from_next
    assert first.diffusability - second.diffusability < 2 * alone
    rows = [record.report.row_scores for record in found.records]
    exact = np.std(rows[0] - rows[1]) / math.sqrt(len(X))
    assert_allclose(found.difference_stderr[0, 1], exact, rtol=0.05)


def test_cached_latents_of_other_rows_are_resampled_by_themselves(X):
    Z = X[:, :3]
    encoders = {"a": Z, "b": Z * [1.0, 1.0, 0.9]}
    together = compare_encoders(encoders, score_model="gaussian")
    apart = compare_encoders(encoders, score_model="gaussian", paired=False)
    errors = [record.stderr for record in apart.records]
    assert_allclose(apart.difference_stderr[0, 1], math.hypot(*errors), rtol=1e-6)
    assert together.difference_stderr[0, 1] < 0.3 * apart.difference_stderr[0, 1]
    shorter = compare_encoders({"a": Z, "b": Z[:200]}, score_model="gaussian")
    errors = [record.stderr for record in shorter.records]
    assert_allclose(shorter.difference_stderr[0, 1], math.hypot(*errors), rtol=1e-6)


def test_rows_given_twice_tell_no_more(X):
    encoders = {"plain": PCA(3), "white": PCA(3, whiten=True)}
    once = compare_encoders(encoders, X[:150], **FAST)
    twice = compare_encoders(encoders, np.repeat(X[:150], 2, axis=0), **FAST)
    assert_allclose(twice.difference_stderr, once.difference_stderr, rtol=1e-3, atol=1e-12)


def test_a_latent_of_few_distinct_points_is_not_told_apart_by_its_repetitions(X):
    # what it scores rests on the noise of eight points
    encoders = {"signs": lambda rows: np.sign(rows[:, :3] - 5.0), "parent": lambda rows: rows}
    found = compare_encoders(encoders, X, **FAST)
    assert found.difference_stderr[0, 1] > 0.8 * found["signs"].stderr > 0


def test_a_stretched_latent_ranks_below_its_parent_as_in_closed_form():
    X = np.random.default_rng(0).normal(size=(1000, 3))
    found = compare_encoders(
        {"stretched": lambda rows: rows * [5.0, 1.0, 1.0], "parent": lambda rows: rows}, X, **FAST
    )
    assert [record.name for record in found.records] == ["parent", "stretched"]
    t = np.geomspace(0.05, 5.0, 21)[:, None] ** 2
    for name, lam in (("parent", np.ones(3)), ("stretched", np.array([25.0, 1.0, 1.0]))):
        lam = lam / lam.mean()
        exact = -np.mean((t / (lam + t)) ** 2)
        assert abs(found[name].diffusability - exact) < 4 * found[name].stderr


def test_the_same_seed_gives_the_same_numbers_alone_and_in_company(X, found):
    alone = compare_encoders({"plain": PCA(3)}, X, **FAST)["plain"]
    assert alone.diffusability == found["plain"].diffusability
    assert alone.reconstruction_error == found["plain"].reconstruction_error


def test_workers_change_nothing(X, found):
    shared = compare_encoders({"plain": PCA(3), "other": PCA(2)}, X, n_jobs=2, **FAST)
    assert_allclose(shared["plain"].diffusability, found["plain"].diffusability, rtol=1e-10)


def test_progress_hears_of_every_encoder_in_order(X):
    heard = []
    compare_encoders([PCA(2), PCA(1)], X, progress=lambda r: heard.append(r.name), **FAST)
    assert heard == ["PCA-1", "PCA-2"]


def test_settings_reach_the_auditor_and_the_comparison(X):
    found = compare_encoders([PCA(2)], X, max_points=100, standardize=True, random_state=3, **FAST)
    (record,) = found.records
    assert record.report.n_rows == 100
    assert record.report.standardized
    assert (found.random_state, found.max_points, found.standardize) == (3, 100, True)
    assert (found.n_samples, found.score_model) == (300, "gaussian")
    assert_allclose(record.latent_scale, 1.0)


def test_a_data_frame_is_encoded_as_a_data_frame(X, found):
    frame = pd.DataFrame(X, columns=list("abcd"))
    (record,) = compare_encoders([PCA(3)], frame, **FAST).records
    assert_allclose(record.diffusability, found["plain"].diffusability)
    assert_allclose(record.reconstruction_error, found["plain"].reconstruction_error)


def test_to_dict_is_strict_json_with_curves_and_none_for_nan(found):
    plain = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert [r["name"] for r in plain["records"]] == [r.name for r in found.records]
    latents = next(r for r in plain["records"] if r["name"] == "latents")
    assert latents["m"] is None
    assert latents["penalties"]["data_curvature"] is None
    curve = plain["records"][0]["report"]["latent_curve"]
    assert curve["mmse"] == found.records[0].report.latent_curve.mmse.tolist()
    assert len(curve["complexity_penalty_covariance"]) == 21
    assert "near_pairs" not in plain["records"][0]["report"]["bi_lipschitz"]


def test_results_are_frozen_and_print(found):
    assert isinstance(found, EncoderComparison)
    with pytest.raises(FrozenInstanceError):
        found.records = ()
    with pytest.raises(FrozenInstanceError):
        found.records[0].rank = 9
    assert repr(found).startswith("EncoderComparison(3 encoders")
    assert "'white', rank=1" in repr(found)
    with pytest.raises(KeyError, match=r"no encoder 'x' among white"):
        found["x"]


@pytest.mark.parametrize(
    ("encoders", "rows", "error", "message"),
    [
        ({}, True, ValueError, "encoders is empty: pass at least one"),
        (PCA(2), True, TypeError, "encoders is a PCA: pass a dictionary of names"),
        (np.ones((3, 2)), True, TypeError, "encoders is a ndarray: pass a dictionary"),
        ([PCA(2)], False, ValueError, r"X is None, but encoders\['PCA'\] is a PCA: pass the data"),
        ([np.ones((3, 2))], True, ValueError, r"shape \(3, 2\), but X has 300 rows: pass one"),
        ({"five": 5}, True, TypeError, r"encoders\['five'\]: encoder is a int without transform"),
        ({"flat": lambda r: r[:, 0]}, True, ValueError, r"encoders\['flat'\]: encoder returned"),
        ({"big": PCA(9)}, True, ValueError, r"encoders\['big'\]: n_components=9 must be"),
    ],
)
def test_what_cannot_be_compared_is_refused(X, encoders, rows, error, message):
    with pytest.raises(error, match=message):
        compare_encoders(encoders, X if rows else None, **FAST)


def test_resamples_that_resolve_nothing_are_refused_before_an_audit_is_made(X):
    with pytest.raises(ValueError, match=r"n_resamples is 10: .* 40 or more"):
        compare_encoders([lambda rows: 1 / 0], X, n_resamples=10, **FAST)


def test_with_features_encoders_are_compared_by_decoded_samples(X):
    def squares(rows):
        return (rows - 5.0) ** 2

    encoders = {"plain": PCA(3), "pair": PCA(2), "latents": PCA(2).fit_transform(X)}
    decoders = {"latents": PCA(2).fit(X)}
    found = compare_encoders(encoders, X, features=squares, decoders=decoders, **SEEN)
    assert found.criterion == "surrogate"
    assert found["pair"].diffusability == pytest.approx(found["latents"].diffusability, rel=1e-9)
    assert found.to_dict()["criterion"] == "surrogate"
    # both draw samples of their own, and the audit cannot know that these are the same
    k, i = ([r.name for r in found.records].index(name) for name in ("pair", "latents"))
    own = found["pair"].report.own_stderr
    assert found.difference_stderr[k, i] == pytest.approx(np.sqrt(2) * own, rel=1e-6)
    with pytest.raises(ValueError, match=r"encoders\['latents'\]: .* cannot decode: pass decoder="):
        compare_encoders(encoders, X, features=squares, **SEEN)
    with pytest.raises(ValueError, match="decoders names pca, which no encoder is called"):
        compare_encoders(encoders, X, features=squares, decoders={"pca": PCA(2)}, **SEEN)


def test_torch_autoencoders_of_images_are_compared_by_a_network():
    torch = pytest.importorskip("torch")

    class Autoencoder(torch.nn.Module):
        def __init__(self, seed, bend):
            super().__init__()
            generator = torch.Generator().manual_seed(seed)
            axes = torch.linalg.qr(torch.randn(16, 3, generator=generator))[0]
            self.axes, self.bend = torch.nn.Parameter(axes), bend

        def encode(self, x):
            z = x.flatten(1) @ self.axes
            return torch.cat([z[:, :2], z[:, 2:] + self.bend * torch.sin(4 * z[:, :1])], dim=1)

        def decode(self, z):
            last = z[:, 2:] - self.bend * torch.sin(4 * z[:, :1])
            return (torch.cat([z[:, :2], last], dim=1) @ self.axes.T).reshape(-1, 1, 4, 4)

    class Network(torch.nn.Module):
        def forward(self, images):
            assert images.shape[1:] == (1, 4, 4)
            return images.abs().flatten(1)

    images = np.random.default_rng(0).normal(size=(300, 1, 4, 4)).astype(np.float32)
    encoders = {"flat": Autoencoder(0, 0.0), "bent": Autoencoder(0, 2.0)}
    found = compare_encoders(encoders, images, features=Network(), **SEEN)
    assert [record.name for record in found.records] == ["flat", "bent"]
    assert found.records[0].separated_from_next
    assert found["flat"].report.surrogate.n_columns == 16
