"""What a learned score sees beyond the closed forms: latents of two real tokenizers, and digits.

    python benchmarks/bench_latents.py [--latents FOLDER] [--only NAME]

Writes benchmarks/results/latents.json, a row for each space and noise level. The latents,
`latents_vae_f16d32.npy` and `latents_vavae_f16d32.npy` (10,000 x 32), are looked for in FOLDER; a
space whose file is not there is left out. Each channel is standardised. One fifth of the rows is
held out, never trained on, stopped by or chosen with; there the scores are measured.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import time
from pathlib import Path

import numpy as np
from _record import environment, write_json
from sklearn.datasets import load_digits

from skfisher import FIRateEstimator
from skfisher.noise import default_noise_levels

RESULT = Path(__file__).parent / "results" / "latents.json"
LATENTS = Path(__file__).parents[2] / "shared" / "data"
SPACES = ("vae_f16d32", "vavae_f16d32", "digits")
ASKED = (0.1, 0.3, 1.0)  # noise variances in units of the RMS scale


def space(name, folder):
    """Rows, and the score model to fit; None where the file is missing."""
    if name == "digits":
        return load_digits().data, "network"  # too few rows for "auto" to learn from by itself
    path = folder / f"latents_{name}.npy"
    if not path.exists():
        return None
    X = np.load(path, allow_pickle=False).astype(np.float64)
    return (X - X.mean(axis=0)) / X.std(axis=0), "auto"


def run(name, X, score_model):
    """One fit and its rows."""
    rms = math.sqrt(X.var(axis=0).mean())
    asked = rms * np.sqrt(ASKED)
    levels = np.unique(np.concatenate([default_noise_levels(X), asked]))
    start, worked = time.perf_counter(), time.process_time()
    estimator = FIRateEstimator(score_model=score_model, noise_levels=levels).fit(X)
    seconds, worked = time.perf_counter() - start, time.process_time() - worked
    curve = estimator.curve_
    rows = [
        {
            "sigma_over_rms": float(levels[k] / rms),
            "score_model": curve.score_models[k],
            "noise_prediction_score": float(curve.noise_prediction_score[k]),
            "stderr": float(curve.noise_prediction_score_stderr[k]),
            "gain": float(curve.learned_gain[k]),
            "gain_stderr": float(curve.learned_gain_stderr[k]),
            "asymmetry": float(curve.asymmetry[k]),
            "valid": bool(curve.valid[k]),
            "reason": curve.reasons[k],
        }
        for k in range(len(levels))
    ]
    at = {
        f"t = {t:g}": {
            "score": row["noise_prediction_score"],
            "closed forms": row["noise_prediction_score"] - row["gain"],
            "gain": row["gain"],
            "its error": row["gain_stderr"],
        }
        for t, sigma in zip(ASKED, asked, strict=True)
        for row in [rows[int(np.argmin(np.abs(levels - sigma)))]]
    }
    return {
        "space": name,
        "n_samples": len(X),
        "n_features": X.shape[1],
        "score_model": score_model,
        "seconds": seconds,
        "processor_seconds": worked,
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "least_gain": min(row["gain"] for row in rows),
        "learned_levels": sum(row["score_model"] == "network" for row in rows),
        "at": at,
        "levels": rows,
    }


def summary(cases):
    """The figures that the page shows."""
    return {
        case["space"]: {
            "seconds": case["seconds"],
            "peak memory, MB": case["peak_memory_mb"],
            "levels learned": case["learned_levels"],
            "least gain over closed forms": case["least_gain"],
            **case["at"],
        }
        for case in cases
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--latents", type=Path, default=LATENTS, metavar="FOLDER")
    parser.add_argument("--only", default="", help="only spaces whose name contains this")
    parser.add_argument("--out", type=Path, default=RESULT)
    arguments = parser.parse_args()
    cases = json.loads(arguments.out.read_text())["cases"] if arguments.out.exists() else []
    for name in SPACES:
        found = space(name, arguments.latents)
        if arguments.only not in name or found is None:
            continue
        case = run(name, *found)
        cases = [*(other for other in cases if other["space"] != name), case]
        print(json.dumps(summary([case]), indent=1), flush=True)
        content = {"environment": environment(), "summary": summary(cases), "cases": cases}
        write_json(arguments.out, content)


if __name__ == "__main__":
    main()
