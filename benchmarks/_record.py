"""How every benchmark records what it measured."""

from __future__ import annotations

import datetime
import json
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import scipy
import sklearn

import skfisher


def environment() -> dict[str, str | int]:
    """Versions and machine."""
    return {
        "date": datetime.date.today().isoformat(),
        "python": platform.python_version(),
        "skfisher": skfisher.__version__,
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "scikit-learn": sklearn.__version__,
        "machine": platform.machine(),
        "processors": os.cpu_count() or 0,
        "threads": os.environ.get("OMP_NUM_THREADS", "all"),
    }


def write_json(path: Path, content: object) -> None:
    """Write a file whole or not at all: an interruption leaves the old one."""
    with replacing(path) as beside:
        beside.write_text(json.dumps(content, indent=1) + "\n")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file to write beside `path`, which takes its place at the end, or goes if that fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield beside
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
