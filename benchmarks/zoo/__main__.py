"""Run the study in resumable pieces, collect its rows, and judge the candidates.

    python -m benchmarks.zoo run                     # everything that is not done yet
    python -m benchmarks.zoo run --stage encoders --dataset fashion
    python -m benchmarks.zoo status                  # what is done, what it took, what is left
    python -m benchmarks.zoo collect                 # rows into benchmarks/results/zoo, summary
    python -m benchmarks.zoo reduced                 # 8 encoders, one data set, against the rows

Every finished run is a file in the cache folder (SKFISHER_ZOO_CACHE), so a stopped study goes on
where it was; the reduced one has a folder `reduced` of its own there, which may be deleted to have
it run again. Data: see `data.load_images`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path

from benchmarks import _record
from benchmarks.zoo.config import DATASETS, REDUCED
from benchmarks.zoo.data import cache_folder
from benchmarks.zoo.jobs import STAGES, Job, Zoo, stage_jobs
from benchmarks.zoo.rows import KINDS, RowStore, read_rows

RESULTS = Path(__file__).parents[1] / "results" / "zoo"
REDUCED_STAGES = ("floor", "encoders", "small", "candidates", "late", "shipped")
IDLE_SECONDS = 5.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line and do what it says."""
    options = _parser().parse_args(arguments)
    try:
        return {
            "run": _run,
            "work": _work,
            "status": _status,
            "collect": _collect,
            "reduced": _reduced,
        }[options.command](options)
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here")
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.zoo", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("run", "work", "status", "collect", "reduced"):
        command = commands.add_parser(name)
        command.add_argument("--root", type=Path, default=None, help="folder instead of the cache")
        command.add_argument("--device", default="cpu")
        command.add_argument("--workers", type=int, default=os.cpu_count() or 1)
        if name != "reduced":
            command.add_argument("--stage", nargs="+", choices=list(STAGES), default=list(STAGES))
            command.add_argument("--dataset", nargs="+", default=list(DATASETS))
            command.add_argument("--encoder", nargs="+", default=None)
    return parser


def _jobs(options: argparse.Namespace) -> list[Job]:
    """Runs stage by stage; the data sets take turns, so that a first seed is done of both early."""
    names = None if options.encoder is None else tuple(options.encoder)
    return [
        job
        for stage in options.stage
        for turn in zip_longest(*(stage_jobs(stage, d, names) for d in options.dataset))
        for job in turn
        if job is not None
    ]


def _store(options: argparse.Namespace) -> RowStore:
    return RowStore(Path(options.root or cache_folder()) / "study" / "rows")


def _run(options: argparse.Namespace) -> int:
    """Start the workers and wait for them."""
    command = [sys.executable, "-m", "benchmarks.zoo", "work", "--device", options.device]
    command += ["--stage", *options.stage, "--dataset", *options.dataset]
    command += ["--root", str(options.root)] if options.root else []
    command += ["--encoder", *options.encoder] if options.encoder else []
    # one thread each: more would wait for each other
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    workers = [subprocess.Popen(command, env=environment) for _ in range(options.workers)]
    try:
        return max(worker.wait() for worker in workers)
    finally:
        for worker in workers:
            worker.terminate()


def _work(options: argparse.Namespace) -> int:
    """Do one run after the other until none is left that can be done."""
    import torch

    torch.set_num_threads(1)
    store, jobs = _store(options), _jobs(options)
    failed: set[str] = set()
    zoos = {name: Zoo(name, options.root, options.device) for name in options.dataset}
    while True:
        left = [job for job in jobs if not store.has(job.key)]
        wanting = _wanting(left, failed, store)
        pending = [job for job in left if job.key not in failed and job.key not in wanting]
        if not pending:
            break
        worked = False
        for job in pending:
            if not all(store.has(key) for key in job.needs):
                continue
            with store.claim(job.key) as mine:
                if not mine:
                    continue
                worked = True
                start = time.monotonic()
                try:
                    store.write(job.key, job.run(zoos[job.dataset]))
                except Exception:
                    # a failed run is reported, retried by the next command, and stops no other
                    failed.add(job.key)
                    print(f"failed: {job.key}\n{traceback.format_exc()}", file=sys.stderr)
                    continue
            n_left = sum(not store.has(j.key) for j in jobs)
            print(f"{job.key}: {time.monotonic() - start:.0f} s, {n_left} left", flush=True)
        if not worked:  # other workers have what is left, or what it needs
            time.sleep(IDLE_SECONDS)
    for key, needs in sorted(wanting.items()):
        print(f"left undone: {key}, for want of {needs}", file=sys.stderr)
    return 1 if failed or wanting else 0


def _wanting(left: Sequence[Job], failed: set[str], store: RowStore) -> dict[str, str]:
    """Runs that cannot be done here, each with what it needs that failed or is not to be run."""
    within = {job.key for job in left}
    wanting: dict[str, str] = {}
    while True:
        more = {
            job.key: key
            for job in left
            if job.key not in wanting
            for key in job.needs
            if not store.has(key) and (key not in within or key in failed or key in wanting)
        }
        if not more:
            return wanting
        wanting |= more


def _status(options: argparse.Namespace) -> int:
    store = _store(options)
    print(f"{'stage':16}{'data set':14}{'done':>6}{'all':>6}{'s each':>8}{'min left':>10}")
    for stage in options.stage:
        for dataset in options.dataset:
            jobs = stage_jobs(stage, dataset)
            done = [store.read(job.key).get("seconds", 0.0) for job in jobs if store.has(job.key)]
            each = sum(done) / len(done) if done else float("nan")
            left = each * (len(jobs) - len(done)) / 60 / max(options.workers, 1)
            print(f"{stage:16}{dataset:14}{len(done):6}{len(jobs):6}{each:8.0f}{left:10.0f}")
    return 0


def _collect(options: argparse.Namespace) -> int:
    from benchmarks.zoo.study import summarise

    store = _store(options)
    for kind in KINDS:
        rows = store.rows(kind)
        if rows:
            content = {"environment": _record.environment(), "rows": rows}
            _record.write_json(RESULTS / f"{kind}.json", content)
            print(f"{kind}: {len(rows)} rows")
    _record.write_json(RESULTS / "summary.json", summarise(read_rows(RESULTS)))
    return 0


def _reduced(options: argparse.Namespace) -> int:
    """Run eight encoders on one data set apart, and compare with the committed rows."""
    from benchmarks.zoo.study import agreement

    options.root = Path(options.root or cache_folder() / "reduced")
    options.stage, options.dataset = list(REDUCED_STAGES), [DATASETS[0]]
    options.encoder = list(REDUCED)
    start = time.monotonic()
    status = _run(options)
    store = _store(options)
    found = {kind: store.rows(kind) for kind in KINDS}
    _record.write_json(options.root / "reduced.json", found)
    print(agreement(found, read_rows(RESULTS)))
    print(f"{(time.monotonic() - start) / 60:.0f} minutes")
    return status


if __name__ == "__main__":
    sys.exit(main())
