"""Displays of an audit: what is drawn are the report's numbers, and what is not known is said."""

from dataclasses import replace
from io import BytesIO

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.image import imread
from numpy.testing import assert_allclose
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError

from skfisher.display import (
    DiagnosisDisplay,
    PenaltyDisplay,
    SandwichDisplay,
    SpectrumDisplay,
)
from skfisher.display.drawing import with_error
from skfisher.estimators import LatentGeometryAuditor
from skfisher.geometry import affine_part, distance_profile

N_LEVELS = 7
TERMS = ("data", "tangential", "encoder")
DISPLAYS = (PenaltyDisplay, SandwichDisplay, SpectrumDisplay, DiagnosisDisplay)


def shear(x):
    return np.stack([x[:, 0], x[:, 1] + 0.8 * np.sin(2 * x[:, 0]), x[:, 2]], axis=1)


def audit_of(encoder, X, **settings):
    levels = np.geomspace(0.1, 5.0, N_LEVELS)
    return LatentGeometryAuditor(
        encoder, score_model="gaussian", noise_levels=levels, intrinsic_dimension=3, **settings
    ).fit(X)


@pytest.fixture(scope="module")
def X():
    return np.random.default_rng(7).normal(size=(300, 3)) * [1.5, 1.0, 0.7]


@pytest.fixture(scope="module")
def bent(X):
    return audit_of(shear, X)


@pytest.fixture(scope="module")
def flat(X):
    return audit_of(PCA(2), X)


@pytest.fixture(scope="module")
def report(bent):
    return bent.report_


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    pyplot.close("all")


def texts(ax):
    return [text.get_text() for text in ax.texts]


def drawn(ax, label):
    return next(line for line in ax.lines if line.get_label() == label)


# -- the account and the four penalties --------------------------------------------------------


def test_bars_are_the_terms_of_the_account_over_k(report):
    display = PenaltyDisplay.from_report(report).plot()
    account, k = report.penalties.along_noise, report.penalties.intrinsic_dimension
    quantities = ("mmse_rate", "effective_dimension", "complexity_penalty")
    for ax, quantity in zip(display.axes_, quantities, strict=False):
        terms = getattr(account, quantity)
        expected = np.stack([getattr(terms, term) for term in TERMS]) / k
        known = np.isfinite(expected).all(axis=0)
        bars = [p for p in ax.patches if p.get_label().startswith("_") and not p.get_hatch()]
        heights = [bar.get_height() for bar in bars][-3 * known.sum() :]
        assert_allclose(heights, expected[:, known].ravel(), atol=1e-15)
        total = drawn(ax, "their sum: latent less flat data")
        assert_allclose(total.get_xdata(), account.noise_levels[known])
        moved = (terms.channels[:, 3] - terms.channels[:, 0] - terms.dimension) / k
        assert_allclose(total.get_ydata(), moved[known], atol=1e-12)


def test_errors_of_the_terms_are_drawn_twice_their_size(report):
    ax = PenaltyDisplay.from_report(report).plot().axes_[0]
    account, k = report.penalties.along_noise, report.penalties.intrinsic_dimension
    known = np.isfinite(account.mmse_rate.encoder)
    for errors, term in zip(ax.collections, TERMS, strict=True):
        lengths = [np.ptp(path[:, 1]) for path in errors.get_segments()]
        expected = 4 * getattr(account.mmse_rate, f"{term}_stderr")[known] / k
        assert_allclose(lengths, expected, atol=1e-12)


def test_levels_of_the_account_that_are_not_valid_are_greyed_and_missing_ones_hatched(report):
    account = report.penalties.along_noise
    terms = account.mmse_rate
    gone = np.asarray([True] + [False] * (N_LEVELS - 1))
    holed = replace(
        terms,
        **{name: np.where(gone, np.nan, np.nan_to_num(getattr(terms, name))) for name in TERMS},
    )
    valid = np.asarray([False, False, False] + [True] * (N_LEVELS - 3))
    marked = replace(account, mmse_rate=holed, valid=valid)
    ax = PenaltyDisplay(replace(report.penalties, along_noise=marked)).plot().axes_[0]
    spans = {p.get_label(): p for p in ax.patches if p.get_label() in ("not valid", "no number")}
    levels = account.noise_levels
    assert_allclose(spans["no number"].get_x() + spans["no number"].get_width(),
                    np.sqrt(levels[0] * levels[1]))  # fmt: skip
    assert_allclose(spans["not valid"].get_x() + spans["not valid"].get_width(),
                    np.sqrt(levels[2] * levels[3]))  # fmt: skip
    sum_of_terms = drawn(ax, "their sum: latent less flat data")
    assert len(sum_of_terms.get_xdata()) == N_LEVELS - 1


def test_the_four_penalties_are_said_with_their_errors(report):
    found = report.penalties
    words = texts(PenaltyDisplay.from_report(report).plot().axes_[-1])
    for name in ("tangential_distortion", "encoder_curvature"):
        assert with_error(getattr(found, name), getattr(found, f"{name}_stderr")) in words
    assert any(f"{found.encoder_curvature_scale_free:.3g}" in text for text in words)


def test_a_penalty_that_is_not_known_is_not_measured(flat):
    display = PenaltyDisplay.from_audit(flat).plot()
    assert np.isnan(flat.report_.penalties.data_curvature)
    assert texts(display.axes_[-1]).count("not measured") == 1


def test_without_an_account_the_words_stand_alone(report):
    display = PenaltyDisplay(replace(report.penalties, along_noise=None)).plot()
    assert len(display.axes_) == 1
    assert "encoder curvature" in texts(display.axes_[0])


# -- sandwiches --------------------------------------------------------------------------------

POWERS = {
    "fisher_information": 2,
    "mmse": -2,
    "fisher_information_rate": 4,
    "mmse_rate": 0,
    "mutual_information": 0,
}


def test_sandwiches_are_drawn_without_units_and_with_their_status(report):
    display = SandwichDisplay.from_report(report).plot()
    for ax, (name, sandwich) in zip(display.axes_, report.sandwiches.items(), strict=True):
        form = sandwich.noise_levels ** POWERS[name]
        assert ax.get_title(loc="left").endswith(f"{sandwich.kind}, {sandwich.status}")
        by_label = {c.get_label(): c[0] for c in ax.containers}
        for side in ("lower", "upper"):
            line = by_label[f"{side} bound, ± 2 standard errors"]
            assert_allclose(line.get_ydata(orig=False), getattr(sandwich, side) * form)
        points = [
            (x, y)
            for word in ("holds", "within error", "violated", "unknown")
            for x, y in by_label[f"latent: {word}"].get_xydata()
        ]
        assert_allclose(
            sorted(points), np.stack([sandwich.noise_levels, sandwich.value * form], axis=1)
        )


def test_every_verdict_has_a_look_of_its_own(report):
    sandwich = report.sandwiches["mmse_rate"]
    words = ("holds", "within error", "violated", "unknown")
    verdict = (words + words)[: len(sandwich.verdict)]
    ax = SandwichDisplay({"mmse_rate": replace(sandwich, verdict=verdict)}).plot().axes_[0]
    markers = {c.get_label(): c[0] for c in ax.containers}
    for word in words:
        said = np.asarray([one == word for one in verdict])
        drawn_at = markers[f"latent: {word}"].get_xdata(orig=False)
        assert_allclose(drawn_at, sandwich.noise_levels[said])
    looks = {
        (markers[f"latent: {w}"].get_marker(), markers[f"latent: {w}"].get_color()) for w in words
    }
    assert len(looks) == 4


def test_a_side_that_claims_nothing_is_said(flat):
    display = SandwichDisplay.from_audit(flat).plot()
    assert not np.isfinite(flat.report_.sandwiches["mmse"].lower).any()
    said = dict(zip(flat.report_.sandwiches, map(texts, display.axes_), strict=True))
    assert said["mmse"] == ["no bound is claimed"]
    assert said["mutual_information"] == ["no lower bound is claimed"]


def test_bounds_far_away_do_not_hide_the_latent(report):
    sandwich = report.sandwiches["mmse_rate"]
    far = replace(sandwich, upper=0 * sandwich.upper + 1e4)
    ax = SandwichDisplay({"mmse_rate": far}).plot().axes_[0]
    assert ax.get_ylim()[1] < 5 * np.abs(sandwich.value).max()
    assert texts(ax) == ["bounds reach 1e+04"]


def test_sandwiches_without_any_number_say_so(report):
    sandwich = report.sandwiches["mmse"]
    nothing = 0 * sandwich.value + np.nan
    empty = replace(sandwich, lower=nothing, value=nothing, upper=nothing)
    assert "neither side nor value" in texts(SandwichDisplay({"mmse": empty}).plot().axes_[0])[0]


def test_a_report_without_sandwiches_is_refused(report):
    with pytest.raises(ValueError, match="there is no sandwich to draw"):
        SandwichDisplay.from_report(replace(report, sandwiches={}))


# -- the spectrum ------------------------------------------------------------------------------


def test_the_spectrum_is_that_of_the_anchors(report):
    ax = SpectrumDisplay.from_report(report).plot().axes_[0]
    s = report.penalties.pointwise.singular_values
    assert_allclose(drawn(ax, f"median of {s.shape[0]} points").get_ydata(), np.median(s, axis=0))
    for bars, (low, high) in zip(ax.collections, ((0, 100), (5, 95), (25, 75)), strict=True):
        ends = [path[:, 1] for path in bars.get_segments()]
        assert_allclose(np.asarray(ends).T, np.percentile(s, [low, high], axis=0))
    assert_allclose(drawn(ax, f"scale $c$ = {report.scale.c:.3g}").get_ydata(), report.scale.c)


def test_directions_lost_at_some_points_are_marked_with_their_share(report):
    point = report.penalties.pointwise
    s = point.singular_values.copy()
    s[: s.shape[0] // 2, 2] = 0.0
    lost = replace(report.penalties, pointwise=replace(point, singular_values=s))
    ax = SpectrumDisplay.from_report(replace(report, penalties=lost)).plot().axes_[0]
    assert_allclose(drawn(ax, "lost (share of points)").get_xdata(), [3])
    assert texts(ax) == ["50%"]
    kept = s[s.shape[0] // 2 :, 2]
    assert_allclose(drawn(ax, f"median of {len(s)} points").get_ydata()[2], np.median(kept))


def test_an_affine_encoder_shows_its_one_spectrum_and_what_it_loses(flat, X):
    ax = SpectrumDisplay.from_audit(flat, X).plot().axes_[0]
    values = affine_part(None, X, flat.encoder_.transform(X)).map.singular_values
    kept = drawn(ax, "the affine map").get_ydata()
    assert_allclose(kept[:2], values[:2])
    assert np.isnan(kept[2])
    assert_allclose(drawn(ax, "lost (share of points)").get_xdata(), [3])


def test_an_affine_encoder_has_the_spectrum_of_its_matrix(flat):
    display = SpectrumDisplay.from_audit(flat)
    assert_allclose(display.singular_values[0], flat.report_.linear_map.singular_values)


def test_without_derivatives_the_spectrum_is_not_known(flat):
    unknown = SpectrumDisplay.from_report(replace(flat.report_, linear_map=None)).plot()
    assert "not known" in texts(unknown.axes_[0])[0]


def test_the_profile_by_distance_is_drawn_where_rows_are_given(bent, X):
    report = bent.report_
    ax = SpectrumDisplay.from_audit(bent, X).plot().axes_[1]
    profile = distance_profile(X, shear(X), c=report.scale.c, random_state=report.random_state)
    line = drawn(ax, "median")
    assert_allclose(line.get_xdata(), np.sqrt(profile.edges[:-1] * profile.edges[1:]))
    assert_allclose(line.get_ydata(), profile.quantiles[:, 3])


def test_without_rows_the_quantiles_of_pairs_are_drawn(report):
    ax = SpectrumDisplay.from_report(report).plot().axes_[1]
    found = report.bi_lipschitz
    medians = [line.get_xdata()[0] for line in ax.lines if line.get_marker() == "o"]
    kinds = (found.near_quantiles, found.latent_near_quantiles, found.far_quantiles)
    assert_allclose(medians, [quantiles[4] for quantiles in kinds])


def test_other_rows_than_those_audited_are_refused(bent, X):
    with pytest.raises(ValueError, match="X has 10 rows, but the audit was fitted on 300"):
        SpectrumDisplay.from_audit(bent, X[:10])
    with pytest.raises(ValueError, match="only X was given: pass rows and their latents"):
        SpectrumDisplay.from_report(bent.report_, X)


# -- the diagnosis -----------------------------------------------------------------------------


def test_bars_are_the_weights_of_the_findings_in_their_order(report):
    weights, ranges = DiagnosisDisplay.from_report(report).plot().axes_
    findings = report.diagnosis.findings
    assert_allclose([bar.get_width() for bar in weights.patches], [f.weight for f in findings])
    assert [t.get_text() for t in weights.get_yticklabels()] == [f.name for f in findings]
    colours = {
        (f.serious, bar.get_facecolor()) for f, bar in zip(findings, weights.patches, strict=True)
    }
    assert len(colours) == len({f.serious for f in findings}) == 2
    for finding in findings:
        assert finding.evidence in texts(weights)
    spans = [tuple(line.get_xdata()) for line in ranges.lines if line.get_marker() == "o"]
    assert spans == [f.noise_range for f in findings if f.noise_range is not None]


def test_what_could_not_be_weighed_is_listed(flat):
    display = DiagnosisDisplay.from_audit(flat).plot()
    said = display.figure_.get_supxlabel()
    for unknown in flat.report_.diagnosis.unknown:
        assert f"not weighed: {unknown[:40]}" in said


def test_a_diagnosis_without_findings_is_an_empty_picture_that_says_so(report):
    nothing = replace(report.diagnosis, findings=(), unknown=())
    assert texts(DiagnosisDisplay(nothing).plot().axes_[0]) == ["nothing could be weighed"]


# -- all of them -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", DISPLAYS)
def test_pictures_are_pictures_and_leave_pyplot_alone(kind, bent, flat):
    for audit in (bent, flat):
        image = imread(BytesIO(kind.from_audit(audit, title="one").to_png(dpi=50)))
        assert image.std() > 0.05
    assert not pyplot.get_fignums()


@pytest.mark.parametrize("kind", DISPLAYS)
def test_another_number_of_axes_is_refused(kind, report):
    _, axes = pyplot.subplots(1, 3)
    with pytest.raises(ValueError, match=r"axes holds 3 axes for \d panels: pass one for each"):
        kind.from_report(report).plot(axes)


@pytest.mark.parametrize("kind", DISPLAYS)
def test_given_axes_are_drawn_into(kind, report):
    display = kind.from_report(report)
    figure = pyplot.figure(layout="constrained")
    axes = figure.subplots(1, display._n_panels(), squeeze=False)[0]
    assert display.plot(axes).figure_ is figure
    assert all(ax.get_title(loc="left") or ax.texts for ax in axes)


@pytest.mark.parametrize("kind", DISPLAYS)
def test_an_auditor_that_is_not_fitted_is_refused(kind):
    with pytest.raises(NotFittedError, match="not fitted yet"):
        kind.from_audit(LatentGeometryAuditor())


def test_numbers_in_words_carry_their_errors():
    assert with_error(0.0, 0.0) == "0 ± 0"
    assert with_error(5e-31, 0.0) == "0 ± 0"
    assert with_error(0.427, 1.2e-17) == "0.427 ± 0"
    assert with_error(float("inf"), 1.0) == "infinite"
    assert with_error(2.5e-9, 1e-10) == "2.5e-09 ± 1e-10"
