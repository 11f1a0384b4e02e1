"""Numbers of data and encoder: penalties, distances of pairs, curves of data and latent."""

from __future__ import annotations

import math

import numpy as np

from benchmarks.zoo.measures.case import Case, Numbers, means, principal_axes
from skfisher.channels import channel_report
from skfisher.decoding import Denoising, denoise_held_out
from skfisher.diagnosis import diagnose
from skfisher.geometry import affine_part, bi_lipschitz, penalties, scale
from skfisher.noise import default_noise_levels

__all__ = ["geometry", "local_geometry", "mismatch"]

GEOMETRY_ROWS = 800
LOCAL_DIMENSION = 10
"""Of the tangent spaces that are fitted to neighbours, the same for every encoder of a data set."""
LOCAL_ROWS, LOCAL_ANCHORS = 2000, 64
MISMATCH_ROWS = 3000


def geometry(case: Case) -> Numbers:
    n = min(len(case.Z), GEOMETRY_ROWS)
    X, Z = case.rows[:n].astype(np.float64), case.Z[:n]
    fit = affine_part(case.encoder.transform, X, Z, random_state=case.seed, rtol=1e-4)
    radius_x, radius_z = float(np.sum(X.var(axis=0))), float(np.sum(Z.var(axis=0)))
    hull = penalties(
        X, Z, encode=case.encoder, linear=fit.map, pointwise=True, max_anchors=32,
        random_state=case.seed,
    )  # fmt: skip
    out: Numbers = {}
    for name, unit in (
        ("dimensional_compression", 1.0),
        ("tangential_distortion", 1.0),
        ("encoder_curvature", radius_z),
        ("curvature_change", radius_x),
        ("data_curvature", radius_x),
    ):
        out[name] = (getattr(hull, name) * unit, getattr(hull, f"{name}_stderr") * unit)
        case.reasons[name] = hull.reasons.get(name, "a part of it is not known")
    point = hull.pointwise
    values = None if point is None else point.singular_values
    lipschitz = bi_lipschitz(
        X, Z, linear=fit.map, singular_values=values, random_state=case.seed,
        intrinsic_dimension=hull.intrinsic_dimension,
    )  # fmt: skip
    verdict = diagnose(
        X, Z, penalties=hull, channels=channel_report(Z, case.latent_shape),
        scale=scale(lipschitz, linear=fit.map, singular_values=values).c,
        pushforward=None if point is None else point.pushforward,
        anchors=None if point is None else point.anchors,
    )  # fmt: skip
    weights = [f.weight for f in verdict.findings if f.name != "data curvature"]
    out["diagnosis_weight"] = (max(weights, default=math.nan), None)
    ratios = _pair_ratios(X, Z, case.seed)
    low, high = np.quantile(ratios, [0.05, 0.95])
    out["log_distortion"] = (math.log(ratios.max() / max(ratios.min(), 1e-12)), None)
    out["pair_spread"] = (math.log(high / low), None)
    return out


def local_geometry(case: Case) -> Numbers:
    """In the span of neighbours, whose curvature is left out: too few rows would tell it."""
    n = min(len(case.Z), LOCAL_ROWS)
    X = case.rows[:n].astype(np.float64)
    rng = np.random.default_rng(case.seed)
    logs, bends = [], []
    radius = float(np.sum(case.Z.var(axis=0)))
    for i in rng.choice(n, size=min(LOCAL_ANCHORS, n), replace=False):
        near = np.argsort(np.sum((X - X[i]) ** 2, axis=1))[1 : 2 * LOCAL_DIMENSION + 1]
        basis = np.linalg.svd(X[near] - X[i], full_matrices=False)[2][:LOCAL_DIMENSION]
        turn = np.linalg.qr(rng.normal(size=(LOCAL_DIMENSION, LOCAL_DIMENSION)))[0]
        basis = turn @ basis
        jet = case.encoder.jet(X[i : i + 1].astype(np.float32), basis[None].astype(np.float32))
        first, second = (np.asarray(a, dtype=np.float64)[0] for a in (jet.first, jet.second))
        logs.append(np.log(np.clip(np.linalg.eigvalsh(first @ first.T), 1e-12, None)))
        bends.append(np.mean(np.sum(second**2, axis=1) / np.sum(first**2, axis=1) ** 2) * radius)
    values = np.mean((np.asarray(logs) - np.mean(logs)) ** 2, axis=1)
    return {
        "tangential_distortion_local": _row_mean(values),
        "encoder_curvature_local": _row_mean(np.asarray(bends)),
    }


def _row_mean(values: np.ndarray) -> tuple[float, float]:
    return float(values.mean()), float(values.std(ddof=1)) / math.sqrt(len(values))


def _pair_ratios(X: np.ndarray, Z: np.ndarray, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    i, j = rng.integers(len(X), size=(2, 20_000))
    i, j = i[i != j], j[i != j]
    apart = np.linalg.norm(X[i] - X[j], axis=1)
    kept = apart > 0
    return np.linalg.norm(Z[i[kept]] - Z[j[kept]], axis=1) / apart[kept]


def mismatch(case: Case) -> Numbers:
    """d_eff of the latent against that of the data's first components, at equal share of RMS."""
    n = min(len(case.Z), MISMATCH_ROWS)
    X = case.rows[:n].astype(np.float64)
    axes = principal_axes(X - X.mean(axis=0))
    shares = default_noise_levels(case.Z, 11)
    # matched where a unit of data noise is stretched as the data are: equal total variance
    c = math.sqrt(float(np.sum(case.Z.var(axis=0))) / float(np.sum(X.var(axis=0))))
    data = denoise_held_out(
        X @ axes, score_model="mixture", noise_levels=shares / c, max_points=600, bracket=False,
        random_state=case.seed,
    )  # fmt: skip
    of_data = _d_eff(data)
    curve = case.curve
    of_latent = np.interp(np.log(shares), np.log(curve.noise_levels), curve.effective_dimension)
    gap = np.abs(of_latent - of_data) / case.d
    return {"d_eff_mismatch": (means("gap", shares, gap)["gap_log"][0], None)}


def _d_eff(fitted: Denoising) -> np.ndarray:
    """mmse / t on held-out rows."""
    out = []
    for k, sigma in enumerate(map(float, fitted.noise_levels)):
        _, denoised, _ = fitted.at(k, slice(0, len(fitted.rows)))
        out.append(float(np.mean(np.sum((fitted.rows - denoised) ** 2, axis=1))) / sigma**2)
    return np.asarray(out)
