"""How every benchmark records what it measured."""

from __future__ import annotations

import datetime
import json
import os
import platform
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
    """Write beside the file, then rename, so that an interruption leaves the old one whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".part")
    beside.write_text(json.dumps(content, indent=1) + "\n")
    os.replace(beside, path)
