"""What valid levels promise: errors of J, MMSE, R and the MMSE rate from samples alone.

    python benchmarks/bench_samples.py [--n-samples 5000] [--replications 1] [--only NAME]

Writes benchmarks/results/samples.json, a row for each law, replication and noise level; finished
cases are not run again.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
from _record import environment, write_json
from laws import LAWS

from skfisher import FIRateEstimator
from skfisher.noise import rms_scale

RESULT = Path(__file__).parent / "results" / "samples.json"
QUANTITIES = ("fisher_information", "mmse", "fisher_information_rate", "mmse_rate")


def run(law, n_samples, replication):
    """Rows of one case: a dictionary for each noise level."""
    X = law.sample(n_samples, np.random.default_rng([replication, 7]))
    start = time.perf_counter()
    estimator = FIRateEstimator(random_state=replication).fit(X)
    seconds = time.perf_counter() - start
    curve = estimator.curve_
    levels, t, n = curve.noise_levels, curve.noise_levels**2, law.n_features
    J, R = law.truth(levels)
    truth = {
        "fisher_information": J,
        "mmse": n * t - t**2 * J,
        "fisher_information_rate": R,
        "mmse_rate": n - 2 * t * J + t**2 * R,
    }
    rows = []
    for k in range(len(levels)):
        row = {
            "sigma_over_rms": float(levels[k] / rms_scale(X)),
            "valid": bool(curve.valid[k]),
            "reason": curve.reasons[k],
            "score_model": curve.score_models[k],
            "width": float(np.diff(curve.fisher_information_bounds[k])[0] / J[k]),
            "stein": float(curve.stein_residual[k]),
            "consistency": float(curve.consistency_residual[k]),
            "effective_sample_size": float(curve.effective_sample_size[k]),
        }
        low, high = curve.fisher_information_bounds[k]
        low_error, high_error = curve.fisher_information_bounds_stderr[k]
        row["bracket_holds"] = bool(low - 2 * low_error <= J[k] <= high + 2 * high_error)
        row["ordered"] = bool(
            low - high <= 3 * np.hypot(low_error, high_error) and high <= n / t[k] + 3 * high_error
        )
        for name, true in truth.items():
            row[name] = float(getattr(curve, name)[k] / true[k] - 1)
            row[f"{name}_stderr"] = float(getattr(curve, f"{name}_stderr")[k] / true[k])
        rows.append(row)
    return {
        "law": law.name,
        "n_features": n,
        "n_samples": n_samples,
        "replication": replication,
        "seconds": seconds,
        "levels": rows,
    }


LIMITS = dict(zip(QUANTITIES, (0.03, 0.05, 0.06, 0.08), strict=True))


def summary(cases):
    """Share of valid levels that keep each promise, and of levels that are valid."""
    valid = [row for case in cases for row in case["levels"] if row["valid"]]
    found = {
        f"{name} within {limit:.0%}": float(np.mean([abs(row[name]) <= limit for row in valid]))
        for name, limit in LIMITS.items()
    }
    found["bracket holds the truth within two errors"] = float(
        np.mean([row["bracket_holds"] for row in valid])
    )
    found["widest bracket"] = max(row["width"] for row in valid)
    found["largest standard error"] = {
        name: max(row[f"{name}_stderr"] for row in valid) for name in QUANTITIES
    }
    found["ordered, all levels"] = float(
        np.mean([row["ordered"] for case in cases for row in case["levels"]])
    )
    found["valid levels"] = {
        case["law"]: sum(row["valid"] for row in case["levels"])
        for case in cases
        if case["replication"] == 0
    }
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n-samples", type=int, default=5000)
    parser.add_argument("--replications", type=int, default=1)
    parser.add_argument("--only", default="", help="only laws whose name contains this")
    parser.add_argument("--out", type=Path, default=RESULT)
    arguments = parser.parse_args()
    cases = json.loads(arguments.out.read_text())["cases"] if arguments.out.exists() else []
    done = {(case["law"], case["n_samples"], case["replication"]) for case in cases}
    for replication in range(arguments.replications):
        for law in LAWS:
            key = (law.name, arguments.n_samples, replication)
            if key in done or arguments.only not in law.name:
                continue
            case = run(law, arguments.n_samples, replication)
            cases.append(case)
            n_valid = sum(row["valid"] for row in case["levels"])
            print(f"{law.name:24s} {case['seconds']:6.1f} s  {n_valid:2d} valid", flush=True)
            write_json(
                arguments.out,
                {"environment": environment(), "summary": summary(cases), "cases": cases},
            )
    print(json.dumps(summary(cases), indent=1))


if __name__ == "__main__":
    main()
