"""The page of an audit: what was found stands in it, within the width, and gaps are said."""

import math
from dataclasses import replace

import numpy as np
import pytest
from sklearn.decomposition import PCA

from skfisher.estimators import LatentGeometryAuditor
from skfisher.report import audit_text


@pytest.fixture(scope="module")
def X():
    return np.random.default_rng(2).normal(size=(250, 3)) * [2.0, 1.0, 0.5]


@pytest.fixture(scope="module")
def report(X):
    def warped(x):
        return np.stack([x[:, 0], x[:, 1] + np.sin(2 * x[:, 0]), 5 * x[:, 2]], axis=1)

    return LatentGeometryAuditor(
        warped, score_model="gaussian", intrinsic_dimension=3, noise_levels=[0.3, 1.0, 3.0]
    ).fit(X).report_  # fmt: skip


@pytest.fixture(scope="module")
def flat(X):
    audit = LatentGeometryAuditor(PCA(2), score_model="gaussian", noise_levels=[0.3, 1.0])
    return audit.fit(X).report_


def joined(report, width=88):
    return " ".join(audit_text(report, width).split())


def test_the_page_says_score_findings_and_advice(report):
    page = joined(report)
    assert f"{report.diffusability_stderr:.2g}"[:4] in page
    assert "3 features to 3 latent dimensions" in page
    assert report.diagnosis.serious
    for finding in report.diagnosis.serious:
        assert f"{finding.name}, weight {finding.weight:.2f}: {finding.evidence}" in page
        assert finding.advice in page
    slight = [finding for finding in report.diagnosis.findings if not finding.serious]
    assert all(f"{finding.name} {finding.weight:.2f}" in page for finding in slight)


def test_the_page_has_every_penalty_with_its_reason(report, flat):
    for found in (report, flat):
        page = joined(found)
        for name, reason in found.penalties.reasons.items():
            assert name.replace("_", " ") in page
            assert reason.partition(" (k = ")[0] in page
    unknown = replace(flat, penalties=replace(flat.penalties, data_curvature=math.nan))
    assert "data curvature not measured" in joined(unknown)


def test_the_page_says_per_level_whether_the_rate_is_kept(report):
    page = joined(report)
    for answer, status in set(
        zip(report.preservation.answers, report.preservation.status, strict=True)
    ):
        assert f"{answer} ({status})" in page
    assert "Not asked" in joined(replace(report, preservation=None))


def test_the_page_says_which_levels_may_be_believed(report):
    page = joined(report)
    n_valid = sum(not reason for reason in report.latent_curve.reasons)
    assert f"curve of the latent: {n_valid} of 21 levels valid" in page
    wrong = replace(report.data_curve, reasons=("", "too few rows", "too few rows"))
    said = joined(replace(report, data_curve=wrong))
    assert "curve of the data: 1 of 3 levels valid, at noise 0.3 (units of X)" in said
    assert "elsewhere: too few rows" in said


@pytest.mark.parametrize("width", [48, 72, 120])
def test_no_line_is_wider_than_asked(report, flat, width):
    for found in (report, flat):
        lines = audit_text(found, width).splitlines()
        assert max(map(len, lines)) <= width
        assert not any(line != line.rstrip() for line in lines)


def test_a_narrow_page_is_refused(report):
    with pytest.raises(ValueError, match="width is 20: pass 48 or more characters"):
        audit_text(report, 20)


def test_nothing_serious_no_sandwich_and_no_account_are_said(report):
    slight = tuple(replace(f, serious=False) for f in report.diagnosis.findings)
    bare = replace(
        report,
        sandwiches={},
        diagnosis=replace(report.diagnosis, findings=slight),
        penalties=replace(report.penalties, along_noise=None),
    )
    page = joined(bare)
    assert "Nothing serious was found." in page
    assert "None: L is infinite" in page
    assert "account along the noise: none was made" in page
