"""Results of runs: one JSON file each, claimed by one process at a time, collected at the end."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks._record import replacing

__all__ = ["KINDS", "RowStore", "read_rows"]

KINDS = ("encoder", "generator", "candidates", "late", "shipped", "floor", "profile")
"""Of rows, each with a folder of its own and, once collected, a file."""


class RowStore:
    """Rows under a folder, by kind and key.

    A row is whole or absent. `claim` keeps two processes from the same run; the claim of a process
    that has died is taken over.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root)

    def path(self, key: str) -> Path:
        """File of the row `kind/part/part`."""
        return self.root / f"{key}.json"

    def has(self, key: str) -> bool:
        """Whether the run is done."""
        return self.path(key).exists()

    def read(self, key: str) -> dict[str, Any]:
        """The row."""
        return json.loads(self.path(key).read_text())

    def write(self, key: str, row: dict[str, Any]) -> None:
        """Keep a finished run."""
        with replacing(self.path(key)) as beside:
            beside.write_text(json.dumps(row) + "\n")

    @contextmanager
    def claim(self, key: str) -> Iterator[bool]:
        """Yield whether this process may do the run; give the claim back at the end."""
        lock = self.path(key).with_suffix(".claim")
        lock.parent.mkdir(parents=True, exist_ok=True)
        mine = not self.has(key) and self._take(lock)
        try:
            yield mine
        finally:
            if mine:
                lock.unlink(missing_ok=True)

    def _take(self, lock: Path) -> bool:
        # linking a whole file into place is atomic, and fails where the name is taken
        own = lock.with_suffix(f".{os.getpid()}.pid")
        own.write_text(str(os.getpid()))
        try:
            for _ in range(2):
                try:
                    os.link(own, lock)
                    return True
                except FileExistsError:
                    if _alive(lock):
                        return False
                    lock.unlink(missing_ok=True)
            return False
        finally:
            own.unlink()

    def rows(self, kind: str) -> list[dict[str, Any]]:
        """All finished runs of a kind, by key."""
        return [json.loads(p.read_text()) for p in sorted((self.root / kind).rglob("*.json"))]


def _alive(lock: Path) -> bool:
    try:
        os.kill(int(lock.read_text()), 0)
    except (FileNotFoundError, ProcessLookupError, ValueError):
        return False
    except PermissionError:
        return True
    return True


def read_rows(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Committed rows by kind, from `<kind>.json` in a folder; kinds without a file are empty."""
    found = {}
    for kind in KINDS:
        path = Path(folder) / f"{kind}.json"
        found[kind] = json.loads(path.read_text())["rows"] if path.exists() else []
    return found
