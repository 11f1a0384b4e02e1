"""Do the standard errors tell the truth? Coverage of J and R over replications.

    python benchmarks/bench_coverage.py [--replications 1000]

Two routes: a given exact mixture, and a Gaussian fitted to Gaussian data, whose errors must contain
the fit's. Writes benchmarks/results/coverage.json; finished cases are not run again.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from _record import environment, write_json

from skfisher.crossfit import cross_fitted_curve
from skfisher.curves import gaussian_curve
from skfisher.evaluation import curve_of_models
from skfisher.samples import make_sample
from skfisher.scores import GaussianMixtureScore
from skfisher.testing import mixture_1d_oracle

RESULT = Path(__file__).parent / "results" / "coverage.json"
LEVELS = np.asarray([0.3, 1.0, 3.0])
WEIGHTS, MEANS, VARIANCES = [0.3, 0.7], [-1.5, 1.0], [0.4, 1.2]
AXES = np.asarray([2.0, 1.0, 0.5])


def given_mixture(n_samples, seed):
    """One-dimensional mixture, its own score given."""
    model = GaussianMixtureScore(
        WEIGHTS, np.asarray(MEANS)[:, None], np.asarray(VARIANCES)[:, None, None]
    )
    sample = make_sample(model.sample(n_samples, random_state=seed))
    return curve_of_models(
        sample,
        LEVELS,
        [model] * 3,
        names=["exact"] * 3,
        one_step=False,
        seed=seed,
        bracket=False,
    ).curve


def fitted_gaussian(n_samples, seed):
    """Three-dimensional Gaussian, the score of a Gaussian fitted to it."""
    X = np.random.default_rng(seed).standard_normal((n_samples, 3)) * np.sqrt(AXES)
    return cross_fitted_curve(make_sample(X), LEVELS, "gaussian", seed=seed, bracket=False).curve


def truth_of(case):
    if case is fitted_gaussian:
        return gaussian_curve(np.diag(AXES), LEVELS)
    return mixture_1d_oracle(WEIGHTS, MEANS, VARIANCES, LEVELS)


def run(case, n_samples, replications):
    truth = truth_of(case)
    z = {"fisher_information": [], "fisher_information_rate": []}
    for seed in range(replications):
        curve = case(n_samples, seed)
        for name, values in z.items():
            error = getattr(curve, name) - np.asarray(getattr(truth, name))
            values.append(error / getattr(curve, f"{name}_stderr"))
    row = {"case": case.__name__, "n_samples": n_samples, "replications": replications}
    for name, values in z.items():
        values = np.abs(values)
        row[name] = {
            "levels": LEVELS.tolist(),
            "within 1.96 errors": np.mean(values <= 1.96, axis=0).tolist(),
            "within 4 errors": np.mean(values <= 4, axis=0).tolist(),
        }
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--replications", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=RESULT)
    arguments = parser.parse_args()
    rows = json.loads(arguments.out.read_text())["rows"] if arguments.out.exists() else []
    done = {(row["case"], row["n_samples"], row["replications"]) for row in rows}
    for case in (given_mixture, fitted_gaussian):
        for n_samples in (500, 5000):
            if (case.__name__, n_samples, arguments.replications) not in done:
                rows.append(run(case, n_samples, arguments.replications))
                print(json.dumps(rows[-1]), flush=True)
                write_json(arguments.out, {"environment": environment(), "rows": rows})


if __name__ == "__main__":
    main()
