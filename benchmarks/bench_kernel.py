"""Error, time and memory of the kernel score, written as JSON with the environment.

Run with two cores: ``OMP_NUM_THREADS=2 python benchmarks/bench_kernel.py``. Times are medians of
interleaved rounds, by the clock on all threads and by processor time on one; only the second can
be believed when the load average shows other work on the machine.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import mpmath as mp
import numpy as np
import threadpoolctl
from _record import environment, write_json

from skfisher.scores import KernelScore

N_FEATURES = 64


def sample(n_points, dtype, sigma):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n_points, N_FEATURES)).astype(dtype)
    y = X + (sigma * rng.standard_normal(X.shape)).astype(dtype)
    return X, y, rng.standard_normal(X.shape).astype(dtype)


def seconds(run, clock):
    start = clock()
    run()
    return clock() - start


def medians(runs, rounds, clock=time.process_time):
    """Median seconds of every run, interleaved so that all see the same machine."""
    times = [{name: seconds(run, clock) for name, run in runs.items()} for _ in range(rounds)]
    return {name: statistics.median(t[name] for t in times) for name in runs}


def ratios(runs, rounds, clock):
    result = medians(runs, rounds, clock)
    return {
        "load_average": os.getloadavg()[0],
        "seconds": result,
        "ratio_to_bare": {name: result[name] / result["bare"] for name in runs},
        "ratio_to_bare_in_place": {
            name: result[name] / result["bare_in_place"] for name in runs if "bare_in_place" in runs
        },
    }


def exact_values(X, y, t, v):
    """Score, H v, traces and squared norms by definition, in 400 digits."""
    n = len(y)
    p = [mp.exp(-mp.fsum((a - b) ** 2 for a, b in zip(x, y, strict=True)) / 2 / t) for x in X]
    total = mp.fsum(p)
    D = [mp.fsum(w * x[k] for w, x in zip(p, X, strict=True)) / total for k in range(n)]
    e = mp.matrix([[a - d for a, d in zip(x, D, strict=True)] for x in X])
    J = e.T * mp.diag([w / total for w in p]) * e / t
    H = (J - mp.eye(n)) / t
    return {
        "score": [(d - a) / t for d, a in zip(D, y, strict=True)],
        "product": list(H * mp.matrix(v)),
        "hessian_trace": [mp.fsum(H[k, k] for k in range(n))],
        "hessian_squared_norm": [mp.fsum(h**2 for h in H)],
        "denoiser_trace": [mp.fsum(J[k, k] for k in range(n))],
        "denoiser_squared_norm": [mp.fsum(h**2 for h in J)],
    }


def worst_errors():
    """Largest pointwise relative errors over scales, offsets, anisotropy and noise levels."""
    worst = {}
    rng = np.random.default_rng(0)
    cases = [
        (n, scale, offset, condition, noise)
        for n in (1, 4)
        for scale in (1e-6, 1.0, 1e6)
        for offset in (0.0, 1e3)
        for condition in (1.0, 1e8)
        for noise in (1e-3, 1e-2, 0.1, 1.0, 100.0)
    ]
    for n, scale, offset, condition, noise in cases:
        spread = np.logspace(0, -0.5 * np.log10(condition), n)
        X = scale * (rng.standard_normal((15, n)) * spread + offset)
        sigma = noise * np.sqrt(X.var(axis=0).mean())
        y = X[:3] + sigma * rng.standard_normal((3, n))
        v = rng.standard_normal(y.shape)
        model = KernelScore(X)
        found = vars(model.moments(y, sigma)) | {"product": model.jvp(y, sigma, v)[1]}
        for i in range(3):
            points = [[mp.mpf(float(a)) for a in x] for x in X]
            query, along = ([mp.mpf(float(a)) for a in row] for row in (y[i], v[i]))
            for key, exact in exact_values(points, query, mp.mpf(float(sigma)) ** 2, along).items():
                size = mp.sqrt(mp.fsum(a**2 for a in exact))
                values = np.atleast_1d(found[key][i])
                error = mp.sqrt(
                    mp.fsum((float(a) - b) ** 2 for a, b in zip(values, exact, strict=True))
                )
                if size > mp.mpf(10) ** -280:  # smaller ones underflow in double precision
                    worst[key] = max(worst.get(key, 0.0), float(error / size))
    return {"cases": 3 * len(cases), "worst_relative_error": worst}


def times(n_points, dtype, sigma, rounds):
    X, y, v = sample(n_points, dtype, sigma)
    model = KernelScore(X)

    logits, moved = (np.empty((n_points, k), dtype) for k in y.shape)

    def bare():
        np.matmul(y @ X.T, X)

    def bare_in_place():  # into memory that was touched before: no page faults
        np.matmul(np.matmul(y, X.T, out=logits), X, out=moved)

    runs = {
        "bare": bare,
        "bare_in_place": bare_in_place,
        "call": lambda: model(y, sigma),
        "jvp": lambda: model.jvp(y, sigma, v),
        "divergence": lambda: model.divergence(y, sigma),
        "traces": lambda: model.moments(y, sigma, exact_norm=False),
    }
    if n_points > 10000:
        runs = {name: runs[name] for name in ("bare", "call", "jvp")}
    model(y[:256], sigma)
    with threadpoolctl.threadpool_limits(1, user_api="blas"):
        one_thread = ratios(runs, rounds, time.process_time)
    return {
        "points": n_points,
        "queries": n_points,
        "dtype": np.dtype(dtype).name,
        "sigma": sigma,
        "rounds": rounds,
        "clock_all_threads": ratios(runs, rounds, time.perf_counter),
        "processor_time_one_thread": one_thread,
    }


def norm_times():
    """Seconds per query of the exact norms, by noise level."""
    X, y, _ = sample(5000, np.float64, 1.0)
    rows = []
    for sigma in (0.3, 1.0, 2.0):
        near = X + sigma * (y - X)
        model = KernelScore(X)
        spent = seconds(lambda m=model, q=near, s=sigma: m.moments(q[:1000], s), time.process_time)
        rows.append({"sigma": sigma, "points": 5000, "processor_milliseconds_per_query": spent})
    return rows


def linearity():
    X, y, _ = sample(20000, np.float64, 1.0)
    model = KernelScore(X)
    sizes = (5000, 10000, 20000)
    result = medians({str(m): (lambda m=m: model(y[:m], 1.0)) for m in sizes}, 3)
    return {"points": 20000, "seconds": result, "ratio_20k_to_5k": result["20000"] / result["5000"]}


def memory(job):
    """Peak resident memory of a fresh process, in MB; "none" builds the inputs only."""
    command = [sys.executable, __file__, "--memory-job", job]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def memory_job(job):
    X, y, v = sample(20000, np.float64, 1.0)
    model = KernelScore(X)
    if job == "call":
        model(y, 1.0)
    elif job == "jvp":
        model.jvp(y, 1.0, v)
    elif job == "traces":
        model.moments(y, 1.0, clean=X, exact_norm=False)
    elif job == "norms":  # the peak is that of a chunk, and one chunk is below 1,000 queries
        model.moments(y[:1000], 2.0, clean=X[:1000])
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    default = Path(__file__).parent / "results" / "kernel.json"
    parser.add_argument("--out", type=Path, default=default)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--memory-job", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory_job:
        memory_job(arguments.memory_job)
        return
    # before this process grows: on Linux a child starts from its parent's peak
    peaks = {job: memory(job) for job in ("none", "call", "jvp", "traces", "norms")}
    with mp.workdps(400):
        errors = worst_errors()
    result = {
        "environment": environment() | {"load_average": os.getloadavg()},
        "error": errors,
        "time": [
            times(n_points, dtype, sigma, rounds)
            for n_points, sigma, rounds in (
                (5000, 1.0, arguments.rounds),
                (5000, 2.0, arguments.rounds),
                (5000, 0.1, arguments.rounds),
                (20000, 1.0, max(3, arguments.rounds // 3)),
            )
            for dtype in (np.float64, np.float32)
        ],
        "norms": norm_times(),
        "linearity": linearity(),
        "peak_memory_mb": peaks,
    }
    write_json(arguments.out, result)
    print(json.dumps({key: result[key] for key in result if key != "environment"}, indent=2))


if __name__ == "__main__":
    main()
