"""Every number that might predict generation, of one encoder: candidates and published rivals.

Curves are measured on rows that are held out, under score models fitted to the other rows
(Gaussian, mixtures, kernel; the best at each noise level on rows of their own). Noise levels run
from 0.05 to 5 times the RMS of the latents; means over them are uniform in log sigma (`_log`) or in
the flow time u = sigma / (s + sigma) (`_flow`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch

from benchmarks.zoo.data import to_uint8
from skfisher.channels import channel_report
from skfisher.conditional import class_conditional_curve
from skfisher.curves import InformationCurve, gaussian_curve, viv_of_gaussian
from skfisher.decoding import DecodedError, Denoising, denoise_held_out, linear_decoder
from skfisher.diagnosis import diagnose
from skfisher.encoders import TorchEncoder
from skfisher.evaluation import curve_of_models
from skfisher.geometry import affine_part, bi_lipschitz, penalties, scale
from skfisher.noise import default_noise_levels
from skfisher.rivals import RIVALS, frechet_distance, rival_metrics
from skfisher.samples import Sample

__all__ = ["CANDIDATES", "Candidate", "candidate_numbers"]

N_LEVELS = 21
GEOMETRY_ROWS = 800
LOCAL_DIMENSION = 10
"""Of the tangent spaces that are fitted to neighbours, the same for every encoder of a data set."""
LOCAL_ROWS, LOCAL_ANCHORS = 2000, 64
METRIC_ANCHORS = 128
PAIRED_ROWS = 5000
PIXEL_ROWS = 400
FEATURE_ROWS = 250
SURROGATE_ROWS = 2000
CURVE_ROWS = 1500
FIT_ROWS = 7000
"""Rows of which some are held out and the others fitted to."""
RIVAL_ROWS = 5000
MISMATCH_ROWS = 3000
N_COMPONENTS = 64  # of pixels, in which images are compared without a feature network

Numbers = dict[str, tuple[float, float | None]]


class Candidate(NamedTuple):
    """What is expected of a number before any generator is trained."""

    higher_is_better: bool
    needs: str  # "latents", "labels", "data", "encoder", "decoder" or "features"
    meaning: str


def _table() -> dict[str, Candidate]:
    table: dict[str, Candidate] = {}

    def add(name: str, better: str, needs: str, meaning: str, *, windows: bool = False) -> None:
        for suffix in ("_log", "_flow") if windows else ("",):
            table[name + suffix] = Candidate(better == "higher", needs, meaning)

    alone = "latents"
    add("fir", "lower", alone, "t^2 R / d, at least (tJ)^2 / d^2", windows=True)
    add("rate", "lower", alone, "MMSE rate per dimension", windows=True)
    add("rate_excess", "higher", alone, "MMSE rate less that of the Gaussian", windows=True)
    add("noise_prediction", "higher", alone, "held-out noise-prediction score", windows=True)
    add("noise_excess", "lower", alone, "the same less that of the Gaussian", windows=True)
    add("nonlinearity", "lower", alone, "(rate - |I + t E H|^2) / d", windows=True)
    add("d_eff", "lower", alone, "effective dimension over d", windows=True)
    add("d_eff_spread", "lower", alone, "spread over log sigma of where d_eff falls")
    add("viv", "lower", alone, "exact VIV per dimension over the RMS")
    add("viv_sum", "lower", alone, "exact VIV, summed over dimensions")
    add("viv_gap", "lower", alone, "Gaussian VIV less exact VIV")
    add("log_condition", "lower", alone, "log ratio of largest to 1 % quantile eigenvalue")
    add("participation", "higher", alone, "participation ratio of the spectrum over d")
    add("entropy_rank", "higher", alone, "exponential entropy of the spectrum over d")
    add("dead_share", "lower", alone, "share of eigenvalues below 1 % of their mean")
    add("kurtosis", "lower", alone, "mean excess kurtosis along principal axes")
    add("dimension", "lower", alone, "d")
    add("log_dimension", "lower", alone, "log d")
    add("sliced_distance", "lower", alone, "sliced distance of mixture samples to held-out rows")
    add("viv_class", "lower", "labels", "exact VIV within classes")
    add("viv_class_gap", "higher", "labels", "exact VIV less that within classes")
    coded = "encoder"
    add("dimensional_compression", "lower", coded, "share of the data's directions that is lost")
    add("tangential_distortion", "lower", coded, "E|log(G/c^2)|^2 / rank, in the hull of the data")
    add("encoder_curvature", "lower", coded, "times the squared radius, in the hull of the data")
    add("curvature_change", "lower", coded, "what the encoder adds to the data's curvature")
    add("data_curvature", "lower", "data", "times the squared radius; the same for all encoders")
    add("tangential_distortion_local", "lower", coded, "in the span of near neighbours")
    add(
        "encoder_curvature_local",
        "lower",
        coded,
        "E|D^2 f[u,u]|^2 / |Df u|^4 in that span, times r^2",
    )
    add("log_distortion", "lower", "data", "log L/m of pairs")
    add("pair_spread", "lower", "data", "log ratio of 95 % to 5 % quantile of stretched distances")
    add("d_eff_mismatch", "lower", "data", "|d_eff of latent - of data| at matched noise, over d")
    add("diagnosis_weight", "lower", coded, "largest weight of a finding")
    for metric, needs in (
        ("linear", "data"), ("encoder", coded), ("pixels", "decoder"), ("features", "features"),
    ):  # fmt: skip
        windows = metric != "features"
        through = {
            "linear": "by the linear decoder of pairs",
            "encoder": "by the root of the mean pseudo-inverse of Df Df^T",
            "pixels": "by the decoder",
            "features": "by decoder and feature network, at three levels",
        }[metric]
        for name in ("decoded_error", "linear_error", "decoded_nonlinearity"):
            add(f"{name}_{metric}", "lower", needs, f"{name} {through}", windows=windows)
        add(f"sensitivity_{metric}", "lower", needs, f"at the smallest noise, {through}")
    add("sensitivity_pixels_mean", "lower", "decoder", "mean over log sigma, by the decoder")
    add("sensitivity_ratio", "lower", "decoder", "by the decoder, over that of the linear one")
    for surrogate in ("gaussian", "mixture"):
        what = f"decoded {surrogate} samples to reconstructions"
        add(f"surrogate_{surrogate}_features", "lower", "features", f"Frechet distance of {what}")
        add(f"surrogate_{surrogate}_pixels", "lower", "decoder", f"the same in pixels, of {what}")
    return table


CANDIDATES: dict[str, Candidate] = _table()


@dataclass(frozen=True, eq=False)
class _Case:
    """One encoder, and what several families of numbers share."""

    images: np.ndarray
    labels: np.ndarray | None
    Z: np.ndarray
    centre: np.ndarray
    scale: float
    autoencoder: torch.nn.Module
    features: Callable[[np.ndarray], np.ndarray]
    reconstructed_features: np.ndarray | None
    latent_shape: tuple[int, ...]
    seed: int
    max_points: int
    device: str
    reasons: dict[str, str] = field(default_factory=dict)  # why a number of a part is missing

    @property
    def d(self) -> int:
        return self.Z.shape[1]

    @cached_property
    def rows(self) -> np.ndarray:
        """Images as flat rows in [-1, 1]."""
        return self.images.reshape(len(self.images), -1).astype(np.float32) / 127.5 - 1

    @cached_property
    def encoder(self) -> TorchEncoder:
        """From flat images to the centred, scaled, flat latents."""
        module = _Centred(self.autoencoder, self.centre, self.scale, self.device)
        return TorchEncoder(module, method="encode", input_shape=self.images.shape[1:])

    @torch.inference_mode()
    def decode(self, Z: Any) -> np.ndarray:
        """Flat images of centred, scaled latents."""
        flat = np.asarray(Z).reshape(len(Z), -1) * self.scale + self.centre
        parts = []
        for start in range(0, len(flat), 256):
            z = torch.as_tensor(flat[start : start + 256], dtype=torch.float32, device=self.device)
            found = self.autoencoder.decode(z.reshape(-1, *self.latent_shape))
            parts.append(found.flatten(1).cpu().numpy())
        return np.concatenate(parts)

    def encoder_of_images(self, images: Any) -> np.ndarray:
        """Latents with their places."""
        flat = np.asarray(images, dtype=np.float32).reshape(len(images), -1)
        return self.encoder.transform(flat).reshape(-1, *self.latent_shape)

    def features_of(self, images: np.ndarray) -> np.ndarray:
        """Features of flat images in [-1, 1]."""
        return self.features(to_uint8(images).reshape(-1, *self.images.shape[1:]))

    @cached_property
    def denoising(self) -> Denoising:
        levels = default_noise_levels(self.Z, N_LEVELS)
        return denoise_held_out(
            self.Z[:FIT_ROWS], noise_levels=levels, max_points=self.max_points, bracket=False,
            random_state=self.seed,
        )  # fmt: skip

    @cached_property
    def curve(self) -> InformationCurve:
        """Of held-out rows; fewer of them in many dimensions."""
        fitted = self.denoising
        n_rows = min(CURVE_ROWS, max(300, CURVE_ROWS * 64**2 // self.d**2))
        return curve_of_models(
            Sample(fitted.rows[:n_rows], None, None), fitted.noise_levels, fitted.models,
            names=fitted.score_models, one_step=True, seed=self.seed, bracket=False,
        ).curve  # fmt: skip

    @cached_property
    def covariance(self) -> np.ndarray:
        return np.atleast_2d(np.cov(self.Z, rowvar=False))

    @cached_property
    def linear(self) -> np.ndarray:
        """The linear decoder of pairs, (d, D)."""
        return linear_decoder(self.Z[:PAIRED_ROWS], self.rows[:PAIRED_ROWS])

    @cached_property
    def mixture(self) -> Any:
        """The mixture that was chosen at most levels, and the Gaussian where none was."""
        fitted = [m for m in self.denoising.models if m.name == "mixture"]
        if not fitted:
            return self.denoising.linear
        return max(fitted, key=lambda m: sum(other is m for other in fitted))

    @cached_property
    def through_linear(self) -> DecodedError:
        # a rotation of the images keeps all distances, in d columns
        axes = np.linalg.qr(self.linear.T)[0]
        return self.denoising.through(self.linear @ axes, levels=_THIN)

    @cached_property
    def through_pixels(self) -> DecodedError:
        return self.denoising.through(self.decode, levels=_THIN, max_points=PIXEL_ROWS)

    @cached_property
    def reconstructed(self) -> np.ndarray:
        """Flat reconstructions of the first rows."""
        return self.decode(self.Z[:SURROGATE_ROWS])


_THIN = tuple(range(0, N_LEVELS, 2))


class _Centred(torch.nn.Module):
    """An autoencoder whose latents are flat, centred and scaled."""

    def __init__(self, module: Any, centre: np.ndarray, scale: float, device: str) -> None:
        super().__init__()
        self.module = module
        self.register_buffer("centre", torch.as_tensor(centre, device=device).float().flatten())
        self.scale = float(scale)

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """Latents (N, d) of images."""
        return (self.module.encode(x).flatten(1) - self.centre) / self.scale


def candidate_numbers(
    *,
    images: np.ndarray,
    Z: np.ndarray,
    autoencoder: torch.nn.Module,
    features: Callable[[np.ndarray], np.ndarray],
    latent_shape: tuple[int, ...],
    centre: np.ndarray | None = None,
    scale: float = 1.0,
    labels: np.ndarray | None = None,
    reconstructed_features: np.ndarray | None = None,
    real_features: np.ndarray | None = None,
    seed: int = 0,
    max_points: int = 2000,
    device: str = "cpu",
) -> dict[str, Any]:
    """Candidates and rivals of one encoder.

    Parameters
    ----------
    images : uint8 array of shape (N, C, 32, 32)
        Reference images.
    Z : float32 array of shape (N, d)
        Their latents, flat, centred and divided by one scalar.
    autoencoder : module with `encode` and `decode`
    features : callable
        uint8 images to (N, q).
    latent_shape : tuple of int
    centre, scale
        Z = (encode(images) - centre) / scale.
    labels : int array of shape (N,), optional
    reconstructed_features, real_features : arrays of shape (N, q), optional
        Of the images through the autoencoder and as they are, where they are known already.
    seed, max_points : int
        At most `max_points` rows are held out of the fits.
    device : str

    Returns
    -------
    dict
        "numbers" and "rivals": name -> {"value", "stderr", "seconds"} and "reason" where the value
        is null. "parts": seconds of each part.
    """
    case = _Case(
        images,
        labels,
        np.asarray(Z, dtype=np.float64),
        np.zeros(Z.shape[1]) if centre is None else np.asarray(centre).reshape(-1),
        float(scale),
        autoencoder,
        features,
        reconstructed_features,
        tuple(latent_shape),
        seed,
        max_points,
        device,
    )
    found: dict[str, dict[str, Any]] = {}
    parts: dict[str, float] = {}
    for part in _PARTS:
        start = time.process_time()
        try:
            numbers, reason = part(case), ""
        except Exception as error:  # one number that fails must not cost the others
            numbers, reason = {}, f"{type(error).__name__}: {error}"
        seconds = parts[part.__name__.strip("_")] = time.process_time() - start
        names = _names_of(part)
        for name in names:
            value, stderr = numbers.get(name, (math.nan, None))
            why = reason or case.reasons.get(name, "not a finite number")
            found[name] = _entry(value, stderr, seconds / len(names), why)
    numbers = {name: found[name] for name in CANDIDATES}
    start = time.process_time()
    rivals = _rivals(case, real_features)
    parts["rivals"] = time.process_time() - start
    return {"numbers": numbers, "rivals": rivals, "parts": parts}


def _entry(value: Any, stderr: Any, seconds: float, reason: str) -> dict[str, Any]:
    """One number as JSON takes it."""
    value = float(value)
    error = None if stderr is None or not math.isfinite(stderr) else float(stderr)
    entry: dict[str, Any] = {"value": value, "stderr": error, "seconds": round(seconds, 3)}
    if not math.isfinite(value):
        entry |= {"value": None, "stderr": None, "reason": reason or f"value is {value}"}
    return entry


def _windows(levels: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Trapezoidal weights of both means; the latents have unit RMS."""
    sigma = np.asarray(levels, dtype=float)
    for suffix, place in (("_log", np.log(sigma)), ("_flow", sigma / (1 + sigma))):
        step = np.diff(place, prepend=place[0], append=place[-1])
        yield suffix, (step[1:] + step[:-1]) / (2 * (place[-1] - place[0]))


def _means(name: str, levels: Any, values: Any, errors: Any = None) -> Numbers:
    """Both means of a curve; errors of levels are taken as going together, from above."""
    return {
        name + suffix: (float(w @ values), None if errors is None else float(w @ errors))
        for suffix, w in _windows(levels)
    }


# -- the latents alone ----------------------------------------------------------------------------


def _spectrum(case: _Case) -> Numbers:
    lam, axes = np.linalg.eigh(case.covariance)
    lam = np.clip(lam, 0.0, None)
    share = lam / lam.sum()
    live = share[share > 0]
    along = case.Z @ axes[:, lam > 1e-10 * lam[-1]]
    along = (along - along.mean(axis=0)) / along.std(axis=0)
    fourth = along**4
    low = max(float(np.quantile(lam, 0.01)), 1e-12 * float(lam[-1]))
    return {
        "log_condition": (math.log(lam[-1] / low), None),
        "participation": (1 / float(np.sum(share**2)) / case.d, None),
        "entropy_rank": (math.exp(-float(np.sum(live * np.log(live)))) / case.d, None),
        "dead_share": (float(np.mean(lam < 0.01 * lam.mean())), None),
        "kurtosis": (
            float(fourth.mean()) - 3,
            float(fourth.mean(axis=1).std()) / math.sqrt(len(fourth)),
        ),
        "dimension": (case.d, None),
        "log_dimension": (math.log(case.d), None),
    }


def _curves(case: _Case) -> Numbers:
    curve, d = case.curve, case.d
    levels = np.asarray(curve.noise_levels)
    gauss = gaussian_curve(case.covariance, levels)
    floor = np.clip(d - curve.effective_dimension, 0, d) ** 2 / d
    penalty = np.maximum(curve.complexity_penalty, floor) / d
    score, error = curve.noise_prediction_score, curve.noise_prediction_score_stderr
    out: Numbers = {}
    for suffix, w in _windows(levels):
        variance = float(w @ curve.complexity_penalty_covariance @ w) / d**2
        out[f"fir{suffix}"] = (float(w @ penalty), math.sqrt(max(variance, 0.0)))
    out |= _means("rate", levels, curve.mmse_rate / d, curve.mmse_rate_stderr / d)
    excess = (curve.mmse_rate - gauss.mmse_rate) / d
    out |= _means("rate_excess", levels, excess, curve.mmse_rate_stderr / d)
    out |= _means("noise_prediction", levels, score, error)
    out |= _means("noise_excess", levels, score - gauss.noise_prediction_score, error)
    share = curve.effective_dimension / d
    out |= _means("d_eff", levels, share, curve.effective_dimension_stderr / d)
    out["d_eff_spread"] = (_fall_spread(levels, share), None)
    viv = curve.viv
    gaussian = viv_of_gaussian(np.linalg.eigvalsh(case.covariance))
    out["viv"] = (viv, curve.viv_stderr)
    out["viv_sum"] = (viv * d, curve.viv_stderr * d)
    out["viv_gap"] = (gaussian - viv, curve.viv_stderr)
    return out


def _fall_spread(levels: np.ndarray, share: np.ndarray) -> float:
    """Standard deviation of log sigma, weighted by how much of d_eff is lost there."""
    lost = np.clip(-np.diff(share), 0.0, None)
    middle = (np.log(levels[1:]) + np.log(levels[:-1])) / 2
    weight = lost / lost.sum()
    return float(np.sqrt(weight @ (middle - weight @ middle) ** 2))


def _nonlinearities(case: _Case) -> Numbers:
    """rate - |I + t E H|^2, with t E H = sigma E[s eps^T] (Stein) from two halves of the rows."""
    fitted, d = case.denoising, case.d
    n = len(fitted.rows) // 2 * 2
    rate = np.asarray(case.curve.mmse_rate)
    values = []
    for k, sigma in enumerate(map(float, fitted.noise_levels)):
        noisy, denoised, _ = fitted.at(k, slice(0, n))
        eps = (noisy - fitted.rows[:n]) / sigma
        moved = (denoised - noisy) / sigma  # sigma s
        halves = [
            np.eye(d) + moved[half].T @ eps[half] * (2 / n)
            for half in (slice(0, n, 2), slice(1, n, 2))
        ]
        first, second = ((A + A.T) / 2 for A in halves)
        values.append((rate[k] - float(np.sum(first * second))) / d)
    errors = np.asarray(case.curve.mmse_rate_stderr) / d
    return _means("nonlinearity", fitted.noise_levels, np.asarray(values), errors)


def _sliced(case: _Case) -> Numbers:
    """Mean over directions of the squared distance of quantiles, over the variance; its root."""
    held = case.denoising.rows
    made = np.asarray(case.mixture.sample(len(held), case.seed))
    turns = np.random.default_rng(case.seed).normal(size=(case.d, 256))
    turns /= np.linalg.norm(turns, axis=0)
    gap = np.sort(held @ turns, axis=0) - np.sort(made @ turns, axis=0)
    by_turn = np.mean(gap**2, axis=0)
    value = math.sqrt(float(by_turn.mean()))
    return {"sliced_distance": (value, float(by_turn.std()) / 16 / (2 * value))}


def _labelled(case: _Case) -> Numbers:
    if case.labels is None:
        raise ValueError("not given: labels")
    n = min(len(case.Z), 6000 if case.d <= 64 else 3000)
    levels = default_noise_levels(case.Z, 11)
    few = 4 * case.d  # a mixture of classes this small would not be told from its Gaussian
    family = "mixture" if n / len(np.unique(case.labels)) > few else "gaussian"
    found = class_conditional_curve(
        case.Z[:n], case.labels[:n], score_model=family, noise_levels=levels,
        random_state=case.seed, with_rate=False, bracket=False, unconditional=False,
    ).curve  # fmt: skip
    error = found.viv_stderr
    gap = case.curve.viv - found.viv
    return {
        "viv_class": (found.viv, error),
        "viv_class_gap": (gap, math.hypot(error, case.curve.viv_stderr)),
    }


# -- data and encoder -----------------------------------------------------------------------------


def _geometry(case: _Case) -> Numbers:
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


def _local_geometry(case: _Case) -> Numbers:
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


def _mismatch(case: _Case) -> Numbers:
    """d_eff of the latent against that of the data's first components, at equal share of RMS."""
    n = min(len(case.Z), MISMATCH_ROWS)
    X = case.rows[:n].astype(np.float64)
    axes = _axes(X - X.mean(axis=0))
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
    return {"d_eff_mismatch": (_means("", shares, gap)["_log"][0], None)}


def _d_eff(fitted: Denoising) -> np.ndarray:
    """mmse / t on held-out rows."""
    out = []
    for k, sigma in enumerate(map(float, fitted.noise_levels)):
        _, denoised, _ = fitted.at(k, slice(0, len(fitted.rows)))
        out.append(float(np.mean(np.sum((fitted.rows - denoised) ** 2, axis=1))) / sigma**2)
    return np.asarray(out)


def _axes(rows: np.ndarray) -> np.ndarray:
    """The first principal axes of centred rows, as orthonormal columns."""
    from sklearn.utils.extmath import randomized_svd

    keep = min(N_COMPONENTS, *rows.shape)
    return randomized_svd(rows, keep, n_iter=4, random_state=0)[2].T


# -- in the data's metric -------------------------------------------------------------------------


def _decoded(found: DecodedError, metric: str) -> Numbers:
    out: Numbers = {}
    for name, quantity in (
        ("decoded_error", "decoded_error"),
        ("linear_error", "linear_error"),
        ("decoded_nonlinearity", "nonlinearity"),
    ):
        for over in ("log", "flow"):
            out[f"{name}_{metric}_{over}"] = found.mean(quantity, over)
    first = float(found.sensitivity[0]), float(found.sensitivity_stderr[0])
    return out | {f"sensitivity_{metric}": first}


def _linear_metric(case: _Case) -> Numbers:
    """The sensitivity is the amplification tr(B^T B) s^2 / tr(B^T S B), without an error."""
    out = _decoded(case.through_linear, "linear")
    A = case.linear
    gain = float(np.sum(A * A)) / float(np.sum(A * (case.covariance @ A)))
    gain *= float(np.trace(case.covariance)) / case.d
    return out | {"sensitivity_linear": (gain, None)}


def _encoder_metric(case: _Case) -> Numbers:
    n = min(METRIC_ANCHORS, len(case.Z))
    eye = np.broadcast_to(np.eye(case.d), (n, case.d, case.d)).astype(np.float32)
    D = np.asarray(case.encoder.pullback(case.rows[:n], eye), dtype=np.float64)  # (n, d, D)
    metrics = np.linalg.pinv(D @ D.transpose(0, 2, 1), rcond=1e-6, hermitian=True)
    lam, axes = np.linalg.eigh(metrics.mean(axis=0))
    root = axes * np.sqrt(np.clip(lam, 0.0, None))
    return _decoded(case.denoising.through(root, levels=_THIN), "encoder")


def _pixel_metric(case: _Case) -> Numbers:
    found = case.through_pixels
    out = _decoded(found, "pixels")
    out["sensitivity_pixels_mean"] = found.mean("sensitivity")
    A = case.linear
    gain = float(np.sum(A * A)) / float(np.sum(A * (case.covariance @ A)))
    gain *= float(np.trace(case.covariance)) / case.d
    value, error = out["sensitivity_pixels"]
    return out | {"sensitivity_ratio": (value / gain, None if error is None else error / gain)}


def _feature_metric(case: _Case) -> Numbers:
    levels = (2, N_LEVELS // 2 - 1, 14)  # 0.08, 0.4 and 1.3 RMS
    found = case.denoising.through(
        lambda z: case.features_of(case.decode(z)), levels=levels, max_points=FEATURE_ROWS
    )
    out: Numbers = {}
    for name, quantity in (
        ("decoded_error_features", "decoded_error"),
        ("linear_error_features", "linear_error"),
        ("decoded_nonlinearity_features", "nonlinearity"),
    ):
        out[name] = found.mean(quantity)
    first = float(found.sensitivity[0]), float(found.sensitivity_stderr[0])
    return out | {"sensitivity_features": first}


# -- generation without a generator ---------------------------------------------------------------


def _surrogates(case: _Case) -> Numbers:
    """Frechet distances of decoded samples to reconstructions, over the trace of the latter."""
    n = min(SURROGATE_ROWS, len(case.Z))
    images = case.reconstructed[:n].astype(np.float64)
    mean = images.mean(axis=0)
    axes = _axes(images - mean)
    flat = (images - mean) @ axes
    known = case.reconstructed_features
    target = (case.features_of(images) if known is None else known[:n]).astype(np.float64)
    out: Numbers = {}
    for name, model in (("gaussian", case.denoising.linear), ("mixture", case.mixture)):
        made = case.decode(np.asarray(model.sample(n, case.seed + 1)))
        value, error = frechet_distance((made - mean) @ axes, flat)
        total = float(np.sum(flat.var(axis=0)))
        out[f"surrogate_{name}_pixels"] = (value / total, error / total)
        out[f"surrogate_{name}_features"] = frechet_distance(
            case.features_of(made).astype(np.float64), target
        )
    return out


_PARTS: Mapping[Callable[[_Case], Numbers], str] = {
    _spectrum: (
        "log_condition participation entropy_rank dead_share kurtosis dimension log_dimension"
    ),
    _curves: (
        "fir rate rate_excess noise_prediction noise_excess d_eff d_eff_spread viv viv_sum viv_gap"
    ),
    _nonlinearities: "nonlinearity",
    _sliced: "sliced_distance",
    _labelled: "viv_class viv_class_gap",
    _geometry: (
        "dimensional_compression tangential_distortion encoder_curvature curvature_change "
        "data_curvature log_distortion pair_spread diagnosis_weight"
    ),
    _local_geometry: "tangential_distortion_local encoder_curvature_local",
    _mismatch: "d_eff_mismatch",
    _linear_metric: (
        "decoded_error_linear linear_error_linear decoded_nonlinearity_linear sensitivity_linear"
    ),
    _encoder_metric: (
        "decoded_error_encoder linear_error_encoder decoded_nonlinearity_encoder "
        "sensitivity_encoder"
    ),
    _pixel_metric: (
        "decoded_error_pixels linear_error_pixels decoded_nonlinearity_pixels sensitivity_pixels "
        "sensitivity_pixels_mean sensitivity_ratio"
    ),
    _feature_metric: (
        "decoded_error_features linear_error_features decoded_nonlinearity_features "
        "sensitivity_features"
    ),
    _surrogates: (
        "surrogate_gaussian_features surrogate_gaussian_pixels surrogate_mixture_features "
        "surrogate_mixture_pixels"
    ),
}
"""Names that each part measures, without their windows."""


def _names_of(part: Callable[[_Case], Numbers]) -> list[str]:
    """Names in `CANDIDATES` that a part measures, both windows of those that have them."""
    return [
        name + suffix
        for name in _PARTS[part].split()
        for suffix in ("", "_log", "_flow")
        if name + suffix in CANDIDATES
    ]


# -- rivals ---------------------------------------------------------------------------------------


def _rivals(case: _Case, real_features: np.ndarray | None) -> dict[str, dict[str, Any]]:
    """Everything of `skfisher.rivals` whose inputs are at hand, and the reconstruction error."""
    n = min(len(case.Z), RIVAL_ROWS)
    few = min(n, SURROGATE_ROWS)
    placed = len(case.latent_shape) == 3
    shape = case.latent_shape if placed else None
    out: dict[str, dict[str, Any]] = {}
    for name, rival in RIVALS.items():
        if not rival.by_default:
            continue
        start = time.process_time()
        given: dict[str, Any] = {"latent_shape": shape, "y": None}
        rows = n
        if case.labels is not None:
            given["y"] = case.labels[:n]
        if name == "equivariance":
            rows = few
            given |= {"images": case.rows[:few].reshape(few, *case.images.shape[1:])}
            given |= {"encoder": case.encoder_of_images} if placed else {}
        if name == "interpolation_distance":
            rows = few
            known = None if real_features is None else real_features[:few]
            given["decoder"] = case.decode
            given["X"] = case.images[:few] if known is None else known
            given["features"] = _either(case)
        if given["y"] is not None:
            given["y"] = given["y"][:rows]
        try:
            metric = rival_metrics(case.Z[:rows], include=[name], random_state=case.seed, **given)[
                name
            ]
            value, stderr, reason = metric.value, metric.stderr, metric.reason
        except Exception as error:  # one number that fails must not cost the others
            value, stderr, reason = math.nan, None, f"{type(error).__name__}: {error}"
        out[name] = _entry(value, stderr, time.process_time() - start, reason)
    start = time.process_time()
    errors = np.mean((case.reconstructed - case.rows[: len(case.reconstructed)]) ** 2, axis=1)
    spread = float(errors.std()) / math.sqrt(len(errors))
    out["reconstruction"] = _entry(errors.mean(), spread, time.process_time() - start, "")
    return out


def _either(case: _Case) -> Callable[[np.ndarray], np.ndarray]:
    """Features of decoded rows, of images, or those that are known already."""

    def features(values: np.ndarray) -> np.ndarray:
        if values.dtype == np.uint8:
            return case.features(values)
        return case.features_of(values) if values.shape[1] == case.rows.shape[1] else values

    return features
