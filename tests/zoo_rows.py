"""Rows of a study whose truth is known, for the tests of its statistics and of its page."""

from __future__ import annotations

import math

import numpy as np

from benchmarks.zoo.config import DATASETS, ENCODERS, EPSILON_RUNS, SPATIAL_RUNS, encoder_named
from benchmarks.zoo.declared import Declared, rival_numbers

DECLARED = {
    d.name: d
    for d in (
        Declared("truth", "candidate", False, "features", "the difficulty itself"),
        Declared("first_half", "candidate", False, "latents", "one of its two parts"),
        Declared("second_half", "candidate", True, "latents", "the other part, turned round"),
        Declared("wrong_way", "candidate", True, "encoder", "the difficulty, announced wrongly"),
        Declared("chance", "candidate", True, "decoder", "nothing"),
        Declared("dimension", "candidate", False, "latents", "entries"),
        Declared("unannounced", "candidate", None, "latents", "the difficulty, without direction"),
        Declared(
            "hindsight", "candidate", False, "latents", "the difficulty, seen late", late=True
        ),
    )
}
DECLARED |= {n: rival_numbers()[n] for n in ("gaussian_viv", "two_nn_dimension", "reconstruction")}

FEW = tuple(
    encoder_named(name)
    for name in (
        *("pca16", "pca32", "pca64", "ae16", "ae32", "ae64", "vae32-w0.001", "vae32-w0.02"),
        *("vae64-w0.005", "gpe16", "gpe32", "gpe64", "dae32", "latent-dae32", "dae-4x4x4"),
        *("align32", "align64", "stretch4", "stretch16", "drop8"),
    )
)
"""Encoders enough for the statistics, and few enough for a quick test."""


def difficulty(rng, encoders=ENCODERS, family_effect=0.5):
    """Two parts per encoder, each with an effect of its family."""
    families = sorted({c.family for c in encoders})
    effects = dict(zip(families, rng.standard_normal((len(families), 2)), strict=True))
    return {c.name: family_effect * effects[c.family] + rng.standard_normal(2) for c in encoders}


def study_rows(
    *,
    seed=0,
    encoders=ENCODERS,
    datasets=DATASETS,
    budgets=("small", "large"),
    seeds=3,
    seed_noise=0.1,
    own_noise=0.1,
    more=True,
    family_effect=0.5,
):
    """Rows by kind: log Frechet = sum of both parts + `own_noise` per setting + seed noise."""
    rng = np.random.default_rng(seed)
    parts = difficulty(rng, encoders, family_effect)
    found = {
        "encoder": [],
        "generator": [],
        "candidates": [],
        "late": [],
        "shipped": [],
        "floor": [],
    }
    plan = [("mlp", "flow", budget, seeds, None) for budget in budgets]
    if more:
        plan += [
            ("mlp", "epsilon", "small", seeds, EPSILON_RUNS),
            ("dit", "flow", "large", 2, SPATIAL_RUNS),
            ("unet", "flow", "large", 2, SPATIAL_RUNS),
        ]
    for dataset in datasets:
        found["floor"].append(
            {"kind": "floor", "dataset": dataset, "n": 2500, "mean": 0.4, "spread": 0.02}
        )
        for config in encoders:
            total = float(parts[config.name].sum())
            same = {
                "dataset": dataset,
                "encoder": config.name,
                "family": config.family,
                "dimension": config.dimension,
                "shape": list(config.shape),
                "distorts": config.distorts,
            }
            error = 0.02 * math.exp(0.5 * rng.standard_normal())
            found["encoder"].append(
                same
                | {
                    "kind": "encoder",
                    "reconstruction": error,
                    "reconstruction_frechet": 10 * error,
                    "mean_image_error": 0.3,
                    "facts": {"loss": 0.1},
                    "seed": 0,
                    "seconds": 100.0,
                }
            )
            numbers = {
                "truth": total + 0.1 * rng.standard_normal(),
                "first_half": parts[config.name][0],
                "second_half": -parts[config.name][1],
                "wrong_way": total,
                "chance": rng.standard_normal(),
                "unannounced": total,
                "dimension": config.dimension,
            }
            rivals = {
                "gaussian_viv": 1.3 + 0.1 * total + 0.3 * rng.standard_normal(),
                "two_nn_dimension": 10 - total + 2 * rng.standard_normal(),
            }
            found["candidates"].append(
                same
                | {
                    "kind": "candidates",
                    **{
                        part: {
                            name: {"value": float(v), "stderr": 0.05, "seconds": 1.5}
                            for name, v in of.items()
                        }
                        for part, of in (("numbers", numbers), ("rivals", rivals))
                    },
                }
            )
            late = {"hindsight": {"value": total, "stderr": 0.05, "seconds": 1.5}}
            found["late"].append(same | {"kind": "late", "numbers": late})
            found["shipped"].append(same | {"kind": "shipped", "numbers": {}})
            for generator, objective, budget, count, names in plan:
                if names is not None and config.name not in names:
                    continue
                base = total + own_noise * rng.standard_normal() - 0.5 * (budget == "large")
                for s in range(count):
                    value = math.exp(1.0 + base + seed_noise * rng.standard_normal())
                    found["generator"].append(
                        same
                        | {
                            "kind": "generator",
                            "generator": generator,
                            "objective": objective,
                            "budget": budget,
                            "seed": s,
                            "frechet_reconstructed": value,
                            "frechet_reconstructed_stderr": 0.05 * value,
                            "frechet_real": value + 5 * error,
                            "precision": 1 / (1 + value),
                            "n_images": 2500,
                            "seconds": 40.0,
                        }
                    )
    return found
