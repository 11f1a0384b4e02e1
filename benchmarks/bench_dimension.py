"""Effective dimension of noise-free manifolds between four point spacings and a tenth of the reach.

    python benchmarks/bench_dimension.py

The spacing of N points on a manifold of dimension k is (volume / N)^(1/k). Writes
benchmarks/results/dimension.json; finished cases are not run again.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from _record import environment, write_json

from skfisher import FisherInformationEstimator
from skfisher.evaluation import curve_of_models
from skfisher.samples import make_sample
from skfisher.scores import KernelScore
from skfisher.testing import circle_oracle, sphere_oracle

RESULT = Path(__file__).parent / "results" / "dimension.json"
INNER, OUTER = 1.5 * np.pi, 4.5 * np.pi  # turns of the roll r = angle
HEIGHT = 8.0


def circle(size, rng):
    angle = rng.uniform(0, 2 * np.pi, size)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def sphere(size, rng):
    x = rng.standard_normal((size, 3))
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def roll(size, rng):
    """Uniform by area, so that one spacing describes it."""
    angle = np.linspace(INNER, OUTER, 100_001)
    length = np.concatenate([[0], np.cumsum(np.hypot(angle[1:], 1) * np.diff(angle))])
    u = np.interp(rng.uniform(0, length[-1], size), length, angle)
    return np.stack([u * np.cos(u), u * np.sin(u), rng.uniform(0, HEIGHT, size)], axis=1)


def area_of_roll():
    angle = np.linspace(INNER, OUTER, 100_001)
    return HEIGHT * np.sum(np.hypot(angle[1:], 1) * np.diff(angle))


CASES = {
    # name: (sampler, points, dimension, volume, reach, oracle, levels)
    "circle": (circle, 5000, 1, 2 * np.pi, 1.0, circle_oracle, 4),
    "sphere": (sphere, 40_000, 2, 4 * np.pi, 1.0, sphere_oracle, 4),
    "roll": (roll, 140_000, 2, area_of_roll(), np.pi, None, 1),  # half the gap between turns
}


def run(name):
    sampler, size, k, volume, reach, oracle, n_levels = CASES[name]
    low, high = 4 * (volume / size) ** (1 / k), reach / 10
    levels = np.geomspace(low, high, n_levels)
    rng = np.random.default_rng(0)
    X = sampler(size, rng)
    if size <= 50_000:
        curve = FisherInformationEstimator("kernel", noise_levels=levels).fit(X).curve_
    else:  # the kernel of all points, evaluated on fresh ones instead of leaving each out in turn
        fresh = make_sample(sampler(3000, rng))
        models, names = [KernelScore(X)] * n_levels, ["kernel"] * n_levels
        curve = curve_of_models(
            fresh, levels, models, names=names, one_step=True, with_rate=False, bracket=False
        ).curve
    found = curve.effective_dimension
    row = {
        "case": name,
        "n_samples": size,
        "dimension": k,
        "levels": levels.tolist(),
        "effective_dimension": found.tolist(),
        "stderr": curve.effective_dimension_stderr.tolist(),
        "valid": curve.valid.tolist(),
        "off the dimension": (found / k - 1).tolist(),
    }
    if oracle is not None:
        truth = np.asarray(oracle(1.0, levels).effective_dimension)
        row["off the quadrature"] = (found / truth - 1).tolist()
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=RESULT)
    arguments = parser.parse_args()
    rows = json.loads(arguments.out.read_text())["rows"] if arguments.out.exists() else []
    for name in [name for name in CASES if name not in {row["case"] for row in rows}]:
        rows.append(run(name))
        print(json.dumps(rows[-1]), flush=True)
        write_json(arguments.out, {"environment": environment(), "rows": rows})


if __name__ == "__main__":
    main()
