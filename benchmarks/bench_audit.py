"""Time and memory of an audit, of a ranking, and of their parts.

    python benchmarks/bench_audit.py [--latents A.npy B.npy]

Cases: an audit of 10,000 rows of 784 features through a torch encoder with 16 outputs, and a
ranking of two sets of 10,000 x 32 cached latents (two mixtures, or the first 10,000 rows of two
.npy files), all with default settings. Each runs in a process of its own, so that its peak memory
is its own; the parts are timed within. Writes benchmarks/results/audit.json. Needs torch.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
from _record import environment, write_json

RESULT = Path(__file__).parent / "results" / "audit.json"
N_ROWS, N_FEATURES, N_LATENT = 10_000, 784, 16


def timed_parts(names):
    """Seconds spent in some functions of the auditor, by their names there."""
    from skfisher.estimators import _auditor

    spent = Counter()

    def watch(name):
        function = getattr(_auditor, name)

        def watched(*args, **options):
            start = time.perf_counter()
            try:
                return function(*args, **options)
            finally:
                spent[name] += time.perf_counter() - start

        setattr(_auditor, name, watched)

    for name in names:
        watch(name)
    return spent


def audit():
    import torch

    from skfisher import LatentGeometryAuditor, TorchEncoder

    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(12, N_FEATURES)) / np.sqrt(12)
    X = np.tanh(rng.normal(size=(N_ROWS, 12)) @ mixing)
    X = (X + 0.05 * rng.normal(size=X.shape)).astype(np.float32)
    torch.manual_seed(0)
    encoder = torch.nn.Sequential(
        torch.nn.Linear(N_FEATURES, 128), torch.nn.SiLU(), torch.nn.Linear(128, N_LATENT)
    )
    spent = timed_parts(["affine_part", "encoder_geometry", "fit_curve"])
    start = time.perf_counter()
    found = LatentGeometryAuditor(TorchEncoder(encoder)).fit(X)
    return {
        "seconds": time.perf_counter() - start,
        "seconds_in": dict(spent),
        "score": found.diffusability_,
        "stderr": found.report_.diffusability_stderr,
        "weighs_most": getattr(found.diagnosis_.dominant, "name", "nothing"),
    }


def rank(paths):
    from skfisher import compare_encoders

    if paths:
        sets = {Path(p).stem: np.load(p, allow_pickle=False)[:N_ROWS] for p in paths}
        sets = {name: Z.reshape(len(Z), -1) for name, Z in sets.items()}
    else:
        rng = np.random.default_rng(0)
        centres = rng.normal(size=(10, 32))
        which = rng.integers(0, 10, N_ROWS)
        base = 0.5 * rng.normal(size=(N_ROWS, 32)) + centres[which]
        sets = {"even": base, "uneven": base * np.geomspace(1, 4, 32)}
    spent = timed_parts(["affine_part", "encoder_geometry", "fit_curve"])
    start = time.perf_counter()
    found = compare_encoders(sets)
    return {
        "seconds": time.perf_counter() - start,
        "seconds_in": dict(spent),
        "first": found.records[0].name,
        "scores": [record.diffusability for record in found.records],
        "stderr": [record.stderr for record in found.records],
        "win_probability": float(found.win_probability[0, 1]),
        "difference_stderr": float(found.difference_stderr[0, 1]),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", choices=["audit", "rank"], help="run one, and print it")
    parser.add_argument("--latents", nargs=2, metavar="FILE", default=[])
    options = parser.parse_args()
    if options.case:
        content = audit() if options.case == "audit" else rank(options.latents)
        content["peak_MB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
        print(json.dumps(content))
        return
    results = {}
    for case in ("audit", "rank"):
        command = [sys.executable, __file__, "--case", case]
        if options.latents:
            command += ["--latents", *options.latents]
        run = subprocess.run(command, capture_output=True, text=True, check=True)
        results[case] = json.loads(run.stdout.splitlines()[-1])
        print(case, f"{results[case]['seconds']:.1f} s, {results[case]['peak_MB']:.0f} MB")
    write_json(RESULT, {"environment": environment()} | results)


if __name__ == "__main__":
    main()
