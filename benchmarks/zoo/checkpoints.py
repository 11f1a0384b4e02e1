"""Trainings kept between two steps: everything that the next step depends on, of one run only."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from benchmarks._record import replacing

__all__ = ["Checkpoint", "read_checkpoint", "write_checkpoint", "write_weights"]


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A training that was left.

    Attributes
    ----------
    progress : dict
        What `write_checkpoint` was given.
    tensors : dict of str to Tensor
        On the CPU, names as they were written.
    """

    progress: dict[str, Any]
    tensors: dict[str, Tensor]

    def under(self, name: str) -> dict[str, Tensor]:
        """The tensors `name.*`, without that prefix."""
        prefix = f"{name}."
        return {k.removeprefix(prefix): v for k, v in self.tensors.items() if k.startswith(prefix)}

    def restore_optimizer(self, optimizer: torch.optim.Optimizer) -> None:
        """Its moments and settings, for the same parameters in the same order."""
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in self.under("moments").items():
            number, _, key = name.partition(".")
            moments.setdefault(int(number), {})[key] = value
        optimizer.load_state_dict({"state": moments, "param_groups": self.progress["groups"]})


def write_checkpoint(
    path: Path,
    run: Mapping[str, Any],
    *,
    progress: Mapping[str, Any],
    modules: Mapping[str, nn.Module],
    optimizer: torch.optim.Optimizer,
    tensors: Mapping[str, Tensor],
) -> None:
    """Keep a training.

    Parameters
    ----------
    path : Path
    run : mapping
        What makes this run the one it is; another is refused by `read_checkpoint`.
    progress : mapping
        Of numbers and the like, ready for JSON.
    modules : mapping of str to Module
        Written as `name.*`.
    optimizer : Optimizer
    tensors : mapping of str to Tensor
        States of random streams, running means.
    """
    state = optimizer.state_dict()
    kept = dict(tensors)
    for name, module in modules.items():
        kept |= {f"{name}.{key}": value for key, value in module.state_dict().items()}
    for number, moments in state["state"].items():
        kept |= {f"moments.{number}.{key}": value for key, value in moments.items()}
    metadata = {
        "run": json.dumps(run),
        "progress": json.dumps({**progress, "groups": state["param_groups"]}),
    }
    _write(path, kept, metadata)


def read_checkpoint(path: Path, run: Mapping[str, Any]) -> Checkpoint:
    """A training that was kept.

    Raises
    ------
    ValueError
        If it is of another run; it says in what they differ.
    """
    with safe_open(path, framework="pt", device="cpu") as file:
        metadata = file.metadata() or {}
        kept = json.loads(metadata.get("run", "{}"))
        wanted = json.loads(json.dumps(run))  # as it was read: tuples are lists
        differ = sorted(k for k in kept.keys() | wanted.keys() if kept.get(k) != wanted.get(k))
        if differ:
            raise ValueError(
                f"checkpoint {path} is of another run, which differs in {', '.join(differ)}: "
                f"delete it, or pass another path."
            )
        names = file.keys()
        tensors = {name: file.get_tensor(name) for name in names}
    return Checkpoint(json.loads(metadata["progress"]), tensors)


def write_weights(module: nn.Module, path: Path) -> None:
    """Write what `load_file` of safetensors reads, whole or not at all."""
    _write(path, module.state_dict(), {})


def _write(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    with replacing(path) as beside:
        plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
        save_file(plain, beside, metadata)
