"""FI, FIR and MMSE rate of data and latents along the noise, at matched scales, as the paper draws.

Gu et al. (arXiv 2604.02751) report that a geometry-preserving encoder keeps the Fisher information
and its rate of the data, and that a VAE and a hierarchical VAE deviate, most in the rate. Here each
space is measured along one grid: the data at sigma, a latent at c sigma, c its scale.

Every space, images of D values or latents of d, is turned into the coordinates of its affine hull
first, by an orthonormal basis from all given rows, which changes no distance between rows: d_eff,
the MMSE and its rate stay, and J and R gain (n - h)/t and (n - h)/t^2 back, n the space's and h the
hull's dimension. From more rows than n the hull is that of the law (up to what the rows never
show), from fewer it is that of the sample, and the row says so. Whether a level is valid is judged
within the hull, so that directions without variance make no number look more certain.

FI and FIR are compared without the bookkeeping of dimensions (THEORY.md, section 3):
t (c^2 J_Z - J_X) - (d - D) = d_eff_X - d_eff_Z and t^2 (c^4 R_Z - R_X) - (d - D). Both are zero for
a scaled isometry, as is rate_Z(c^2 t) - rate_X(t). All three are given as shares of k, the data's
own dimension by `skfisher.geometry.intrinsic_dimension`, which is one number for all encoders.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.interpolate import PchipInterpolator

from benchmarks.zoo.config import encoder_named
from skfisher.crossfit import cross_fitted_curve
from skfisher.geometry import intrinsic_dimension
from skfisher.samples import make_sample

__all__ = [
    "DATA",
    "GAPS",
    "agrees_with_paper",
    "as_array",
    "in_dimensions",
    "one_data_set",
    "profiles",
]

DATA = "data"
GAPS = {"fi_gap": "FI", "fir_gap": "FIR", "rate_gap": "MMSE rate"}
"""Signed differences to the data, as shares of k, and what they are of."""

N_LEVELS, LOWEST, HIGHEST = 13, 0.05, 1.0
"""The grid, in units of sqrt(tr Cov X): the same for data and latents, whatever their dimension."""

FEWEST_LEVELS = 3
N_ERRORS = 2.0
_HULL_RTOL = 1e-10  # of the largest eigenvalue of the covariance, float32 rows and all
_PAIRS = 20_000
_CHUNK = 4096
_FACTORS = 25  # scales that are tried between one step of the grid below and one above


def profiles(
    X: np.ndarray,
    latents: Mapping[str, np.ndarray],
    *,
    max_points: int = 2000,
    seed: int = 0,
    dataset: str = "",
    score_model: Any = "auto",
    noise_levels: Sequence[float] | None = None,
    scales: Mapping[str, float] | None = None,
    reconstructions: Mapping[str, np.ndarray] | None = None,
    k: int | None = None,
    learn: bool = False,
) -> list[dict[str, Any]]:
    """Measure data and latents along the noise.

    Parameters
    ----------
    X : array of shape (N, ...)
        Images, flattened here; all rows give the hull, `max_points` of them are measured.
    latents : mapping of str to array of shape (N, ...)
        By encoder, of the same rows in the same order.
    max_points, seed : int
        Rows measured, drawn at random, the same for all spaces.
    dataset : str
        Put into every row.
    score_model, learn
        As in `skfisher.crossfit.cross_fitted_curve`; without `learn`, "auto" trains no network.
    noise_levels : sequence of float, optional
        sigma in units of X; default 13 geometric levels from 0.05 to 1 times sqrt(tr Cov X).
    scales : mapping of str to float, optional
        c of some encoders, as from the singular values of their Jacobians.
    reconstructions : mapping of str to array of shape (N, ...), optional
        Of some encoders: c is the geometric mean of |z - z'| / |g(z) - g(z')| over random pairs of
        rows, g(z) the reconstruction. Without them g is linear, fitted by least squares. Distances
        of the data themselves would count directions that the latent has lost, and make c too
        small. Exact for scaled isometries, and for PCA.
    k : int, optional
        The data's own dimension, measured by default.

    Returns
    -------
    list of dict
        A row for the data and one for each encoder, with lists along the noise.
    """
    start = time.perf_counter()
    if max_points < 2:
        raise ValueError(f"max_points is {max_points}: pass the rows to measure, 2 or more.")
    scales = dict(scales or {})
    decoded = {name: np.asarray(Y) for name, Y in (reconstructions or {}).items()}
    for argument, given in (("scales", scales), ("reconstructions", decoded)):
        unknown = sorted(set(given) - set(latents))
        if unknown:
            raise ValueError(
                f"{argument} has {unknown}, of which there are no latents: {list(latents)}."
            )
    flat = np.asarray(X).reshape(len(X), -1)
    spaces = {name: np.asarray(Z).reshape(len(Z), -1) for name, Z in latents.items()}
    for argument, given in (("latents", spaces), ("reconstructions", decoded)):
        for name, values in given.items():
            if len(values) != len(flat):
                raise ValueError(
                    f"{argument}[{name!r}] has {len(values)} rows for {len(flat)} rows of X: pass "
                    f"those of the same rows, in their order."
                )
    for name in spaces:
        if name == DATA:
            raise ValueError(f"an encoder is named {DATA!r}: that is the name of the data's row.")
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.permutation(len(flat))[:max_points])
    points, total = _in_hull(flat, chosen)
    if noise_levels is None:
        noise_levels = math.sqrt(total) * np.geomspace(LOWEST, HIGHEST, N_LEVELS)
    levels = np.asarray(noise_levels, dtype=np.float64)
    if k is None:
        k = intrinsic_dimension(points, random_state=seed).k
    options = {"score_model": score_model, "seed": seed, "learn": learn}
    common = {
        "kind": "profile",
        "dataset": dataset,
        "n_points": len(chosen),
        "n_rows": len(flat),
        "k": int(k),
        "seed": seed,
        "noise_levels": levels.tolist(),
    }
    first = common | {"encoder": DATA, "scale": 1.0, "scale_from": "itself"}
    first["hull_is_of_the_law"] = len(flat) > flat.shape[1]
    first |= _measured(points, flat.shape[1], levels, **options)
    first["seconds"] = round(time.perf_counter() - start, 2)
    rows = [first]
    for name, Z in spaces.items():
        start = time.perf_counter()
        n = Z.shape[1]
        Z, of_latent = _in_hull(Z, chosen)
        if name in scales:
            c, rule = float(scales[name]), "given"
        elif name in decoded:
            seen = decoded[name][chosen].reshape(len(chosen), -1).astype(np.float64)
            c, rule = _pair_scale(seen, Z, rng), "pairs of reconstructions"
        else:
            linear = Z @ np.linalg.lstsq(Z - Z.mean(axis=0), points, rcond=None)[0]
            c, rule = _pair_scale(linear, Z, rng), "pairs of linear reconstructions"
        row = common | {
            "encoder": name,
            "scale": c,
            "scale_from": rule,
            "scale_by_pairs_of_data": _pair_scale(points, Z, rng),
            "scale_by_rms": math.sqrt(of_latent / total),
            "hull_is_of_the_law": len(flat) > n,
        }
        at = row["scale"] * levels
        row |= _measured(Z, n, at, **options)
        rows.append(row | _gaps(row, first) | {"seconds": round(time.perf_counter() - start, 2)})
    return rows


def _in_hull(X: np.ndarray, chosen: np.ndarray) -> tuple[np.ndarray, float]:
    """Chosen rows in orthonormal coordinates of the affine hull of all rows, and tr Cov X."""
    chunks = range(0, len(X), _CHUNK)
    mean = sum(X[i : i + _CHUNK].sum(axis=0, dtype=np.float64) for i in chunks) / len(X)
    covariance = np.zeros((X.shape[1], X.shape[1]))
    for i in chunks:
        part = X[i : i + _CHUNK] - mean
        covariance += part.T @ part
    values, vectors = np.linalg.eigh(covariance / len(X))
    if not values[-1] > 0:
        raise ValueError(
            f"a space has {len(X)} equal rows: there is nothing to measure (has it collapsed?)."
        )
    kept = np.flatnonzero(values > _HULL_RTOL * values[-1])[::-1]
    return (X[chosen].astype(np.float64) - mean) @ vectors[:, kept], float(values[kept].sum())


def _pair_scale(X: np.ndarray, Z: np.ndarray, rng: np.random.Generator) -> float:
    """Geometric mean of |z - z'| / |x - x'| over random pairs of distinct rows."""
    i, j = rng.integers(len(X), size=(2, _PAIRS))
    x, z = (np.linalg.norm(V[i] - V[j], axis=1) for V in (X, Z))
    apart = (x > 0) & (z > 0)
    if not apart.any():
        raise ValueError("no pair of rows is apart in both spaces: an encoder has collapsed.")
    return float(np.exp(np.mean(np.log(z[apart] / x[apart]))))


def _measured(
    X: np.ndarray, n: int, levels: np.ndarray, *, score_model: Any, seed: int, learn: bool
) -> dict[str, Any]:
    """Lists along the noise, of rows within their hull in a space of n dimensions."""
    curve = cross_fitted_curve(make_sample(X), levels, score_model, seed=seed, learn=learn).curve
    t, more = levels**2, n - X.shape[1]
    J = curve.fisher_information + more / t
    R = curve.fisher_information_rate + more / t**2
    found = {
        "fisher_information": (J, curve.fisher_information_stderr),
        "fisher_information_rate": (R, curve.fisher_information_rate_stderr),
        "fi": (t * J / n, t * curve.fisher_information_stderr / n),
        "fir": (t**2 * R / n, curve.complexity_penalty_stderr / n),
        "rate": (curve.mmse_rate / n, curve.mmse_rate_stderr / n),
        "effective_dimension": (curve.effective_dimension, curve.effective_dimension_stderr),
    }
    row: dict[str, Any] = {
        "n_features": n,
        "hull": X.shape[1],
        "own_noise_levels": levels.tolist(),
    }
    for name, (value, stderr) in found.items():
        row |= {name: _listed(value), f"{name}_stderr": _listed(stderr)}
    return row | {
        "valid": [bool(v) for v in curve.valid],
        "reasons": list(curve.reasons),
        "score_models": list(curve.score_models),
    }


def _listed(values: Any) -> list[float | None]:
    """None stands for what is not a number, which JSON has not."""
    return [float(v) if math.isfinite(float(v)) else None for v in values]


def as_array(values: Sequence[float | None]) -> np.ndarray:
    """Values of a row of JSON, its gaps as NaN."""
    return np.asarray([math.nan if v is None else v for v in values], dtype=np.float64)


def in_dimensions(row: Mapping[str, Any]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """d_eff, n - t^2 R and the MMSE rate with errors: what an isometry leaves as they are."""
    n = row["n_features"]
    return {
        "fi_gap": (
            as_array(row["effective_dimension"]),
            as_array(row["effective_dimension_stderr"]),
        ),
        "fir_gap": (n - n * as_array(row["fir"]), n * as_array(row["fir_stderr"])),
        "rate_gap": (n * as_array(row["rate"]), n * as_array(row["rate_stderr"])),
    }


def _gaps(row: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, Any]:
    """Latent less data, as shares of k; errors added as if independent, which is too much."""
    found: dict[str, Any] = {}
    ours, theirs, k = in_dimensions(row), in_dimensions(data), row["k"]
    for name in GAPS:
        # for FI and FIR the sign is that of J and R, which fall as these rise
        sign = 1.0 if name == "rate_gap" else -1.0
        gap = sign * (ours[name][0] - theirs[name][0]) / k
        error = np.hypot(ours[name][1], theirs[name][1]) / k
        found |= {name: _listed(gap), f"{name}_stderr": _listed(error)}
    both = np.asarray(row["valid"]) & np.asarray(data["valid"])
    return found | {"gap_valid": [bool(v) for v in both]}


def agrees_with_paper(
    rows: Sequence[Mapping[str, Any]],
    *,
    families: Mapping[str, str] | None = None,
    kept_by: str = "geometry",
    others: Sequence[str] = ("vae", "nvae"),
    every_level: bool = False,
) -> dict[str, Any]:
    """Whether the rows of one data set say what the paper says, and by how many errors.

    An encoder's number is its mean |gap| over the levels at which the data and every encoder are
    valid (or at all levels, on request), with the mean of the errors, which those of all levels
    going one way would give. A statement compares the means of two families, or of two numbers of
    one family; it "agrees" or "disagrees" where the difference exceeds two errors.

    Parameters
    ----------
    rows : sequence of dict
        From `profiles`.
    families : mapping of str to str, optional
        Family of each encoder; default that of the zoo.
    kept_by, others
        The family that should keep the data's curves, and those that should not.
    every_level : bool
        Take levels that are not valid too.

    Returns
    -------
    dict
        "answer", "levels", "encoders" with their numbers, "statements", and "at_best_scale": the
        statements of the MMSE rate where each encoder has the scale that suits it best, which are
        not in the answer and tell what hangs on the rule for c.
    """
    data, encoders = one_data_set(rows)
    family_of = families or {
        row["encoder"]: encoder_named(row["encoder"]).family for row in encoders
    }
    usable = np.isfinite(sum(as_array(row[name]) for row in encoders for name in GAPS))
    if not every_level:
        usable &= np.all([row["gap_valid"] for row in encoders], axis=0)
    at = np.flatnonzero(usable)
    result: dict[str, Any] = {
        "dataset": data["dataset"],
        "levels": [data["noise_levels"][i] for i in at],
        "every_level": every_level,
    }
    if len(at) < FEWEST_LEVELS:
        why = f"{len(at)} noise levels are valid in all spaces, fewer than {FEWEST_LEVELS}"
        nothing = {"encoders": {}, "statements": [], "at_best_scale": []}
        return result | {"answer": "undecided", "why": why} | nothing
    found: dict[str, dict[str, Any]] = {}
    size = float(np.mean(in_dimensions(data)["rate_gap"][0][at])) / data["k"]
    for row in encoders:
        numbers: dict[str, Any] = {"family": family_of[row["encoder"]]}
        for name in GAPS:
            numbers[name] = float(np.mean(np.abs(as_array(row[name])[at])))
            numbers[f"{name}_stderr"] = float(np.mean(as_array(row[f"{name}_stderr"])[at]))
        numbers["rate_gap_of_the_rate"] = numbers["rate_gap"] / size
        numbers |= _moved(row, data, at)
        found[row["encoder"]] = numbers
    statements: list[dict[str, Any]] = []
    at_best: list[dict[str, Any]] = []
    means = {
        name: _family_mean(found, name)
        for name in dict.fromkeys(numbers["family"] for numbers in found.values())
    }
    for other in others:
        if other not in means:
            continue
        if kept_by in means:
            statements += [
                _statement(f"{kept_by} is nearer to the data than {other} in {word}",
                           means[kept_by][name], means[other][name])
                for name, word in GAPS.items()
            ]  # fmt: skip
            if all(math.isfinite(means[one]["best_rate_gap"][0]) for one in (kept_by, other)):
                at_best.append(
                    _statement(
                        f"{kept_by} is nearer to the data than {other} in MMSE rate, each at its "
                        f"best scale",
                        means[kept_by]["best_rate_gap"],
                        means[other]["best_rate_gap"],
                    )
                )
        statements.append(
            _statement(
                f"{other} deviates more in FIR than in FI",
                means[other]["fi_gap"],
                means[other]["fir_gap"],
            )
        )
    answers = [statement["answer"] for statement in statements]
    if "disagrees" in answers:
        answer = "disagrees" if "agrees" not in answers else "agrees in part"
    else:
        answer = "agrees" if answers and set(answers) == {"agrees"} else "undecided"
    return result | {
        "answer": answer,
        "encoders": found,
        "statements": statements,
        "at_best_scale": at_best,
    }


def one_data_set(rows: Sequence[Mapping[str, Any]]) -> tuple[Mapping[str, Any], list]:
    """The row of the data and those of the encoders, all of one data set."""
    names = sorted({row["dataset"] for row in rows})
    data = [row for row in rows if row["encoder"] == DATA]
    encoders = [row for row in rows if row["encoder"] != DATA]
    if len(names) != 1 or len(data) != 1 or not encoders:
        raise ValueError(
            f"rows hold {len(data)} data rows and {len(encoders)} encoders of the data sets "
            f"{names}: pass the rows of one call of profiles."
        )
    return data[0], encoders


def _family_mean(found: Mapping[str, Mapping[str, Any]], family: str) -> dict[str, Any]:
    members = [numbers for numbers in found.values() if numbers["family"] == family]
    return {
        name: tuple(
            float(np.mean(as_array([m[f"{name}{end}"] for m in members])))
            for end in ("", "_stderr")
        )
        for name in (*GAPS, "best_rate_gap")
    }


def _statement(words: str, less: tuple[float, float], more: tuple[float, float]) -> dict[str, Any]:
    """Whether the first number is below the second, by more than two errors."""
    difference, error = more[0] - less[0], math.hypot(less[1], more[1])
    clear = abs(difference) > N_ERRORS * error
    answer = ("agrees" if difference > 0 else "disagrees") if clear else "undecided"
    return {"statement": words, "answer": answer, "difference": difference, "stderr": error}


def _moved(
    row: Mapping[str, Any], data: Mapping[str, Any], at: np.ndarray
) -> dict[str, float | list[float] | None]:
    """The mean |gap| of the MMSE rate at the scale that makes it least, and at the row's own.

    The latent's rate is interpolated between its levels, monotone in log sigma, at scales up to one
    step of the grid from its own, on those levels whose two neighbours are usable too: the same
    levels for every scale, and the same for every encoder.
    """
    ours, theirs = (in_dimensions(one)["rate_gap"] for one in (row, data))
    u = np.log(np.asarray(data["noise_levels"]))
    inner = [i for i in at if i - 1 in at and i + 1 in at]
    nothing = {"best_scale": None, "best_rate_gap": None, "own_rate_gap": None}
    if len(inner) < FEWEST_LEVELS - 1:
        return nothing | {"best_rate_gap_stderr": None}
    step = min(min(u[i + 1] - u[i], u[i] - u[i - 1]) for i in inner)
    rate = PchipInterpolator(u[at], ours[0][at])
    moves = np.linspace(-step, step, _FACTORS)
    gaps = [float(np.mean(np.abs(rate(u[inner] + m) - theirs[0][inner]))) for m in moves]
    least = int(np.argmin(gaps))
    error = float(np.mean(np.hypot(ours[1][inner], theirs[1][inner])))
    return {
        "best_scale": row["scale"] * math.exp(moves[least]),
        "best_rate_gap": gaps[least] / row["k"],
        "best_rate_gap_stderr": error / row["k"],
        "own_rate_gap": gaps[_FACTORS // 2] / row["k"],
    }
