"""Gaussian data through linear encoders: estimates against closed forms, sandwiches, bookkeeping.

    python benchmarks/bench_gaussian_toy.py

The laws and encoders are in benchmarks/gaussian_toy.py. Every space is measured from 5,000 rows of
its own draw: by "gaussian", the right family, on many draws, and on the subspace by "default"
(FIRateEstimator as it comes). Three spaces are measured by "mixture" too, and the data by "kernel",
from 2,000 rows: it is the slowest. Writes benchmarks/results/gaussian_toy.json; finished cases are
not run again. Under 3 minutes on one core.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
from _record import environment, write_json
from gaussian_toy import (
    LEVELS,
    compression_share,
    exact_sandwiches,
    full_rank_law,
    subspace_law,
    toy_encoders,
)

from skfisher import FIRateEstimator, LatentGeometryAuditor
from skfisher.crossfit import cross_fitted_curve
from skfisher.samples import make_sample

RESULT = Path(__file__).parent / "results" / "gaussian_toy.json"
N_SAMPLES, KERNEL_SAMPLES, AUDITED = 5000, 2000, 2500
DRAWS = (15, 5)  # of the right family, for each law
BY_MIXTURE = ("data", "drop to 2", "stretch 8")
AUDITS = ("isometry", "drop to 2", "stretch 8")
QUANTITIES = ("fisher_information", "fisher_information_rate", "mmse", "mmse_rate")
DATA = "data"
LAWS = (subspace_law(), full_rank_law())
TIGHT = 0.01  # slack, as a share of the value, below which a side counts as tight


def spaces_of(law):
    """Encoder and exact curve at the matched levels, by name; the data have no encoder."""
    found = {encoder.name: (encoder, encoder.curve()) for encoder in toy_encoders(law)}
    return {DATA: (None, law.curve())} | found


def plan():
    """(law, space, route, draw) of every case; no two spaces share a draw."""
    first = 0
    for law, draws in zip(LAWS, DRAWS, strict=True):
        for space in spaces_of(law):
            yield from ((law, space, "gaussian", first + draw) for draw in range(draws))
            if law is LAWS[0]:
                yield law, space, "default", first
                if space in BY_MIXTURE:
                    yield law, space, "mixture", first
                if space == DATA:
                    yield law, space, "kernel", first
            first += draws


def measure(law, space, route, draw):
    encode, truth = spaces_of(law)[space]
    n_samples = KERNEL_SAMPLES if route == "kernel" else N_SAMPLES
    X = law.sample(n_samples, draw)
    if encode is not None:
        X = encode(X)
    start = time.process_time()
    if route == "default":
        curve = FIRateEstimator(noise_levels=truth.noise_levels).fit(X).curve_
    else:
        # the bracket costs the most and decides only what is valid: see the default route
        bracket = route == "kernel"
        sample = make_sample(X)
        curve = cross_fitted_curve(
            sample, truth.noise_levels, route, seed=draw, bracket=bracket
        ).curve
    row = {
        "law": law.name,
        "space": space,
        "route": route,
        "draw": draw,
        "n_samples": n_samples,
        "seconds": round(time.process_time() - start, 2),
        "levels": truth.noise_levels.tolist(),
        "valid": [bool(v) for v in curve.valid] if route in ("default", "kernel") else None,
        "score_models": list(curve.score_models),
    }
    for name in QUANTITIES:
        found, error = getattr(curve, name), getattr(curve, f"{name}_stderr")
        exact = getattr(truth, name)
        z = np.round((found - exact) / error, 3).tolist()
        row[name] = {"z": z}
        if route != "gaussian":
            row[name] |= {
                "value": found.tolist(),
                "stderr": error.tolist(),
                "exact": exact.tolist(),
            }
    return row


def audit(law, encoder):
    """What an audit finds from rows beside what is known."""
    start = time.process_time()
    found = LatentGeometryAuditor(
        encoder, score_model="gaussian", noise_levels=LEVELS, max_points=AUDITED
    ).fit(law.sample(AUDITED, 7))
    m, L = encoder.constants
    penalties = found.penalties_
    words = [word for sandwich in found.sandwiches_.values() for word in sandwich.verdict]
    return {
        "law": law.name,
        "encoder": encoder.name,
        "m": found.bi_lipschitz_[0],
        "L": found.bi_lipschitz_[1],
        "off m and L": max(abs(found.bi_lipschitz_[0] - m), abs(found.bi_lipschitz_[1] - L)) / L,
        "off c": abs(found.scale_ / encoder.scale - 1),
        "tangential distortion": penalties.tangential_distortion,
        "off the distortion": abs(penalties.tangential_distortion - encoder.tangential_distortion),
        "dimensional compression": penalties.dimensional_compression,
        "off the compression": abs(
            penalties.dimensional_compression - encoder.dimensional_compression
        ),
        "sandwich levels": len(words),
        "holds": words.count("holds"),
        "within error": words.count("within error"),
        "violated": words.count("violated"),
        "unknown": words.count("unknown"),
        "seconds": round(time.process_time() - start, 2),
    }


def sandwiches(law, encoder):
    """Whether the closed forms keep every sandwich, how tightly, and where."""
    m, L = encoder.constants
    row = {"law": law.name, "encoder": encoder.name, "L / m": L / m if m > 0 else "infinite"}
    levels = np.geomspace(LEVELS[0] / 10, LEVELS[-1] * 10, 61)
    for name, sandwich in exact_sandwiches(encoder, levels).items():
        finite = [
            slack
            for slack in (np.asarray(sandwich.slack_lower), np.asarray(sandwich.slack_upper))
            if np.isfinite(slack).any()
        ]
        # both sides at once: a sandwich is as tight as its wider side
        gap = np.max(finite, axis=0)
        tight = levels[gap < TIGHT]
        row[name] = {
            "status": sandwich.status,
            "holds": bool(np.all(sandwich.holds)),
            # what is left of the difference of two large terms is no slack
            "least slack": _above_rounding(np.min(finite)),
            "widest slack": _above_rounding(np.max(gap)),
            "tight where": _ranges(tight, levels),
        }
    return row


def _above_rounding(slack):
    return float(slack) if abs(slack) > 1e-5 else 0.0


def _ranges(tight, levels):
    if len(tight) == 0:
        return "nowhere"
    if len(tight) == len(levels):
        return "everywhere"
    below, above = [], []
    for sigma in tight:
        (below if sigma < 1 else above).append(sigma)
    parts = []
    if below:
        parts.append(f"up to {max(below):.2g}")
    if above:
        parts.append(f"from {min(above):.2g}")
    return ", ".join(parts)


def bookkeeping(law, encoder, cases):
    """t (c^2 J_Z - J_X) and t^2 (c^4 R_Z - R_X), measured by the default route and exact."""
    c, some = encoder.scale, [0, len(LEVELS) // 2, len(LEVELS) - 1]
    t = LEVELS**2
    split = compression_share(encoder)
    row = {
        "law": law.name,
        "encoder": encoder.name,
        "d - D": encoder.n_features - law.n_features,
        "noise": LEVELS[some].tolist(),
    }
    for name, power, short in (
        ("fisher_information", 1, "FI"),
        ("fisher_information_rate", 2, "FIR"),
    ):
        data, latent = (
            cases[(law.name, space, "default", 0)][name] for space in (DATA, encoder.name)
        )
        ours, theirs = (np.asarray(side["value"]) for side in (latent, data))
        errors = [np.asarray(side["stderr"]) for side in (latent, data)]
        change = t**power * (c ** (2 * power) * ours - theirs)
        stderr = t**power * np.hypot(c ** (2 * power) * errors[0], errors[1])
        exact = split["d - D"] + split[f"rest of {short}"]
        row |= {
            f"change of {short}": change[some].tolist(),
            f"{short} exact": exact[some].tolist(),
            f"{short} z": ((change - exact) / stderr)[some].tolist(),
            f"{short} share": split[f"share of {short}"][some].tolist(),
        }
    return row


def summary(cases):
    """A row for each law, space and route."""
    keys = list(dict.fromkeys((case["law"], case["space"], case["route"]) for case in cases))
    rows = []
    for law, space, route in keys:
        found = [c for c in cases if (c["law"], c["space"], c["route"]) == (law, space, route)]
        valid = np.asarray([c["valid"] or [True] * len(c["levels"]) for c in found])
        row = {
            "law": law,
            "space": space,
            "route": route,
            "draws": len(found),
            "valid levels": f"{valid.sum()} of {valid.size}" if found[0]["valid"] else "not judged",
            "seconds": float(np.mean([c["seconds"] for c in found])),
        }
        for name, short in zip(QUANTITIES, ("J", "R", "mmse", "rate"), strict=True):
            z = np.abs([c[name]["z"] for c in found])[valid]
            row[f"within 1.96, {short}"] = float(np.mean(z <= 1.96)) if z.size else "none valid"
            row[f"largest z, {short}"] = float(z.max()) if z.size else "none valid"
            if route != "gaussian" and z.size:
                row[f"off, {short}"] = float(np.max(_off(found, name)[valid]))
        rows.append(row)
    return rows


def _off(cases, name):
    """Relative errors, of the cases that keep their values."""
    return np.abs([np.divide(c[name]["value"], c[name]["exact"]) - 1 for c in cases])


def verdict(result):
    """What the closed forms and the estimates say of each other, in counts."""
    cases = result["cases"]
    right = [c for c in cases if c["route"] == "gaussian"]
    default = [c for c in cases if c["route"] == "default"]
    exact = [
        side for row in result["sandwiches"] for side in row.values() if isinstance(side, dict)
    ]
    found = {"seconds in all": round(sum(c["seconds"] for c in cases + result["audits"]), 1)}
    for name in QUANTITIES:
        z = np.asarray([c[name]["z"] for c in right])
        found[f"gaussian: mean square z of {name}"] = float(np.mean(z**2))
        found[f"gaussian: share within 1.96 of {name}"] = float(np.mean(np.abs(z) <= 1.96))
        found[f"gaussian: largest z of {name} in {z.size}"] = float(np.abs(z).max())
        of_valid = np.concatenate([np.asarray(c[name]["z"])[c["valid"]] for c in default])
        found[f"default: largest z of {name} at {of_valid.size} valid levels"] = float(
            np.abs(of_valid).max()
        )
        off = np.concatenate([_off([c], name)[0][c["valid"]] for c in default])
        found[f"default: largest relative error of {name} there"] = float(off.max())
    found["exact sandwiches that hold at all levels"] = (
        f"{sum(side['holds'] for side in exact)} of {len(exact)}"
    )
    found["audited sandwich levels violated"] = sum(row["violated"] for row in result["audits"])
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=RESULT)
    arguments = parser.parse_args()
    stored = json.loads(arguments.out.read_text()) if arguments.out.exists() else {}
    cases, audits = stored.get("cases", []), stored.get("audits", [])
    done = {(case["law"], case["space"], case["route"], case["draw"]) for case in cases}
    for law, space, route, draw in plan():
        if (law.name, space, route, draw) not in done:
            cases.append(measure(law, space, route, draw))
            print(law.name, space, route, draw, cases[-1]["seconds"], flush=True)
            if route != "gaussian":
                write_json(
                    arguments.out,
                    {"environment": environment(), "cases": cases, "audits": audits},
                )
    encoders = [(law, encoder) for law in LAWS for encoder in toy_encoders(law)]
    audited = {(row["law"], row["encoder"]) for row in audits}
    for law, encoder in encoders:
        wanted = law is LAWS[0] and encoder.name in AUDITS
        if wanted and (law.name, encoder.name) not in audited:
            audits.append(audit(law, encoder))
            print(json.dumps(audits[-1]), flush=True)
    first = {}
    for case in cases:
        key = (case["law"], case["space"], case["route"])
        first.setdefault((*key, 0), case)
    result = {
        "environment": environment(),
        "cases": cases,
        "audits": audits,
        "summary": summary(cases),
        "sandwiches": [sandwiches(law, encoder) for law, encoder in encoders if law is LAWS[0]],
        "bookkeeping": [
            bookkeeping(law, encoder, first) for law, encoder in encoders if law is LAWS[0]
        ],
    }
    found = verdict(result)
    print(json.dumps(found, indent=1))
    order = ("environment", "verdict", "summary", "bookkeeping", "sandwiches", "audits", "cases")
    result["verdict"] = found
    write_json(arguments.out, {key: result[key] for key in order})


if __name__ == "__main__":
    main()
