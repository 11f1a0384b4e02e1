"""Displays: numbers kept, drawn later; what is not valid or not there is drawn as such."""

import builtins
import io
from dataclasses import replace

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.image import imread
from numpy.testing import assert_allclose
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError

from skfisher.compare import compare_encoders
from skfisher.curves import gaussian_curve
from skfisher.display import ComparisonDisplay, InformationCurveDisplay
from skfisher.estimators import (
    FIRateEstimator,
    FisherInformationEstimator,
    LatentGeometryAuditor,
)


@pytest.fixture(scope="module")
def X():
    return np.random.default_rng(3).normal(size=(200, 3)) * [2.0, 1.0, 0.5]


@pytest.fixture(scope="module")
def curve():
    return gaussian_curve(np.diag([4.0, 1.0, 0.25]), np.geomspace(0.1, 10.0, 9))


@pytest.fixture(scope="module")
def comparison(X):
    encoders = {"two": PCA(2), "twin": PCA(2), "white": PCA(3, whiten=True), "cached": X[:, :1]}
    return compare_encoders(encoders, X, score_model="gaussian", noise_levels=[1.0])


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    pyplot.close("all")


def picture(data):
    return imread(io.BytesIO(data))


def line(ax, label="estimate"):
    return next(drawn for drawn in ax.lines if drawn.get_label() == label)


def labels(ax):
    return set(ax.get_legend_handles_labels()[1])


def test_panels_show_the_dimensionless_forms(curve):
    display = InformationCurveDisplay.from_curve(curve).plot()
    t = curve.noise_levels**2
    forms = (
        t * curve.fisher_information / 3,
        curve.complexity_penalty / 3,
        curve.mmse_rate / 3,
        curve.effective_dimension,
    )
    for ax, values in zip(display.axes_.flat, forms, strict=True):
        assert_allclose(line(ax).get_xdata(), curve.noise_levels)
        assert_allclose(line(ax).get_ydata(), values)
        assert ax.get_xscale() == "log"
        assert ax.get_title(loc="left")
    assert "units of X" in display.axes_[-1, 0].get_xlabel()


def test_bands_are_two_standard_errors(curve):
    noisy = replace(curve, complexity_penalty_stderr=curve.complexity_penalty * 0 + 0.3)
    ax = InformationCurveDisplay.from_curve(noisy).plot().axes_[0, 1]
    (band,) = (c for c in ax.collections if c.get_label() == "± 2 standard errors")
    heights = band.get_paths()[0].vertices[:, 1]
    assert_allclose(heights.max() - (curve.complexity_penalty / 3).max(), 0.2)


def test_levels_that_are_not_valid_are_greyed(curve):
    reasons = ("bracket wide",) * 3 + ("",) * 6
    display = InformationCurveDisplay.from_curve(replace(curve, reasons=reasons)).plot()
    for ax in display.axes_.flat:
        (span,) = (p for p in ax.patches if p.get_label() == "not valid")
        levels = curve.noise_levels
        assert_allclose(span.get_x() + span.get_width(), np.sqrt(levels[2] * levels[3]))
        assert span.get_x() < levels[0]


def test_levels_without_a_number_are_hatched_and_not_bridged(curve):
    holed = np.where([0, 0, 1, 0, 0, 0, 0, 0, 1], np.nan, curve.complexity_penalty)
    reasons = ("", "", "the score is not finite", *("",) * 5, "the score is not finite")
    display = InformationCurveDisplay.from_curve(
        replace(curve, complexity_penalty=holed, reasons=reasons)
    ).plot()
    ax = display.axes_[0, 1]
    hatched = [p for p in ax.patches if p.get_label() == "no number"]
    assert len(hatched) == 2
    assert all(p.get_hatch() for p in hatched)
    assert "not valid" not in labels(ax)
    assert np.isnan(line(ax).get_ydata()).sum() == 2
    assert "no number" in {text.get_text() for text in display.figure_.legends[0].get_texts()}


def test_a_curve_without_rate_has_two_panels(X):
    fitted = FisherInformationEstimator(score_model="gaussian", noise_levels=[0.5, 1.0]).fit(X)
    display = InformationCurveDisplay.from_estimator(fitted).plot()
    assert len(display.axes_.ravel()) == 2
    assert display.title == "FisherInformationEstimator"


def test_a_single_level_can_be_drawn(X):
    fitted = FIRateEstimator(score_model="gaussian", noise_levels=[1.0]).fit(X)
    low, high = InformationCurveDisplay.from_estimator(fitted).plot().axes_[0, 0].get_xlim()
    assert low < 1 < high


def test_an_auditor_shows_its_latent(X):
    audit = LatentGeometryAuditor(PCA(2), score_model="gaussian", noise_levels=[1.0]).fit(X)
    display = InformationCurveDisplay.from_estimator(audit, title="latent")
    assert display.curve is audit.latent_curve_
    assert "units of the latent" in display.plot().axes_[-1, 0].get_xlabel()


def test_scores_are_drawn_with_two_standard_errors_in_rank_order(comparison):
    display = ComparisonDisplay.from_comparison(comparison, title="four").plot()
    scores, errors, _ = display.axes_
    assert [t.get_text() for t in scores.get_yticklabels()] == [r.name for r in comparison.records]
    for bar, record in zip(scores.containers, comparison.records, strict=True):
        _, caps, _ = bar
        half = (caps[1].get_xdata()[0] - caps[0].get_xdata()[0]) / 2
        assert_allclose(half, 2 * record.stderr)
    assert scores.get_ylim()[0] > scores.get_ylim()[1]  # the best on top
    assert "not separated" in scores.get_title(loc="left")
    assert display.figure_.get_suptitle() == "four"
    widths = [bar[0].get_width() for bar in errors.containers]
    assert_allclose(widths, [100 * r.reconstruction_error for r in comparison.records])


def test_a_score_far_below_the_others_leaves_them_room(comparison):
    ax = ComparisonDisplay.from_comparison(comparison).plot().axes_[0]
    assert ax.get_xscale() == "linear"
    assert "logarithmic" not in ax.get_xlabel()
    sizes = [-3.0, -4.0, -5.0, -150.0]
    far = [
        replace(r, diffusability=v, stderr=0.1 * abs(v))
        for r, v in zip(comparison.records, sizes, strict=True)
    ]
    ax = ComparisonDisplay.from_comparison(replace(comparison, records=far)).plot().axes_[0]
    places = [
        float(ax.transAxes.inverted().transform(ax.transData.transform((v, 0)))[0]) for v in sizes
    ]
    assert places[0] - places[2] > 0.1 * (places[0] - places[3])
    assert "logarithmic below \N{MINUS SIGN}1" in ax.get_xlabel()


def test_an_unknown_reconstruction_error_is_said(X):
    alone = compare_encoders([X[:, :2]], score_model="gaussian")
    display = ComparisonDisplay.from_comparison(alone).plot()
    assert [text.get_text() for text in display.axes_[1].texts] == ["unknown"]


def test_rank_intervals_stand_beside_the_scores(comparison):
    low, high = 1, 3
    first = replace(comparison.records[0], rank_interval=(low, high))
    second = replace(comparison.records[1], rank_interval=(2, 2))
    found = replace(comparison, records=(first, second, *comparison.records[2:]))
    ax = ComparisonDisplay.from_comparison(found).plot().axes_[0]
    said = {text.xy[1]: text.get_text() for text in ax.texts if text.get_text() != "rank"}
    assert said[0] == "1\N{EN DASH}3"
    assert said[1] == "2"
    assert len(said) == len(found.records)


def test_the_matrix_holds_the_win_probabilities(comparison):
    display = ComparisonDisplay.from_comparison(comparison, matrix=True).plot()
    assert len(display.axes_) == 4
    ax = display.axes_[2]
    n = len(comparison.records)
    shown = np.ma.filled(ax.images[0].get_array(), np.nan)
    off = ~np.eye(n, dtype=bool)
    assert_allclose(shown[off], comparison.win_probability[off])
    assert np.isnan(np.diag(shown)).all()
    words = {(int(t.get_position()[1]), int(t.get_position()[0])): t.get_text() for t in ax.texts}
    assert words[0, n - 1] == f"{100 * comparison.win_probability[0, n - 1]:.0f}"
    assert len(words) == n * (n - 1)
    assert ax.get_ylim() == display.axes_[0].get_ylim()  # a row is the encoder beside it


def test_curves_are_solid_only_where_valid(comparison):
    record = comparison.records[0]
    reasons = ("wide",) * 5 + ("",) * 16
    curve = replace(record.report.latent_curve, reasons=reasons)
    marked = replace(record, report=replace(record.report, latent_curve=curve))
    display = ComparisonDisplay.from_comparison(replace(comparison, records=(marked,))).plot()
    ax = display.axes_[2]
    dashed, solid = (drawn for drawn in ax.lines if len(drawn.get_xdata()))
    assert dashed.is_dashed()
    assert not solid.is_dashed()
    assert_allclose(dashed.get_xdata()[[0, -1]], [0.05, 5.0])
    assert_allclose(solid.get_xdata(), dashed.get_xdata()[5:])
    assert_allclose(dashed.get_ydata(), curve.complexity_penalty / curve.n_features)
    assert "not valid" in labels(ax)


def test_every_encoder_looks_different(comparison):
    display = ComparisonDisplay(comparison)
    looks = [tuple(display._look(k).values()) for k in range(49)]
    assert len(set(looks)) == 49


def test_pictures_are_pictures_and_leave_pyplot_alone(curve, comparison):
    for display in (
        InformationCurveDisplay.from_curve(curve),
        ComparisonDisplay.from_comparison(comparison),
        ComparisonDisplay.from_comparison(comparison, matrix=True),
    ):
        image = picture(display.to_png(dpi=60))
        assert image.std() > 0.05
        assert not pyplot.get_fignums()


def test_another_number_of_axes_is_refused(curve, comparison):
    _, axes = pyplot.subplots(1, 2)
    with pytest.raises(ValueError, match="axes holds 2 axes for 4 panels: pass one for each"):
        InformationCurveDisplay.from_curve(curve).plot(axes)
    with pytest.raises(ValueError, match="axes holds 2 axes for 3 panels: pass one for each"):
        ComparisonDisplay.from_comparison(comparison).plot(axes)


def test_an_estimator_that_is_not_fitted_is_refused():
    with pytest.raises(NotFittedError, match="not fitted yet"):
        InformationCurveDisplay.from_estimator(FIRateEstimator())


@pytest.fixture
def without_matplotlib(monkeypatch):
    real = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name.split(".")[0] == "matplotlib":
            raise ImportError(f"No module named {name!r}")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)


def test_without_matplotlib_the_extra_is_named(curve, comparison, without_matplotlib):
    for display in (
        InformationCurveDisplay.from_curve(curve),
        ComparisonDisplay.from_comparison(comparison),
    ):
        for draw in (display.plot, display.to_png):
            with pytest.raises(ImportError, match=r'pip install "skfisher\[plot\]"'):
                draw()
