"""Runs of the study, from images to rows, on a toy."""

import argparse

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("safetensors")

from benchmarks.zoo import __main__ as command
from benchmarks.zoo import jobs
from benchmarks.zoo.config import BUDGETS, Budget
from benchmarks.zoo.data import ImageSet, to_uint8
from benchmarks.zoo.jobs import Zoo, stage_jobs


class Projection:
    """A fixed linear map in the place of a feature network."""

    def __init__(self, device="cpu"):
        self.map = np.random.default_rng(0).normal(size=(1024, 6)) / 1024

    def __call__(self, images):
        return images.reshape(len(images), -1).astype(np.float64) @ self.map


@pytest.fixture
def zoo(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    tiles = rng.normal(size=(5, 4, 4)).repeat(8, axis=1).repeat(8, axis=2).reshape(5, -1)

    def images(n):
        values = 128 + 30 * rng.normal(size=(n, 5)) @ tiles + 2 * rng.normal(size=(n, 1024))
        return np.clip(values, 0, 255).astype(np.uint8).reshape(n, 1, 32, 32)

    labels = np.zeros(400, dtype=np.int64)
    found = ImageSet("fashion", images(1200), None, images(400), labels, images(100))
    monkeypatch.setattr(jobs, "load_images", lambda name: found)
    monkeypatch.setattr(jobs, "FeatureNetwork", Projection)
    monkeypatch.setattr(jobs, "N_GENERATED", 150)
    tiny = Budget("small", width=32, blocks=1, steps=60, batch=64, learning_rate=3e-3)
    monkeypatch.setitem(BUDGETS, "small", tiny)
    return Zoo("fashion", tmp_path)


def run_of(stage, part):
    return next(job for job in stage_jobs(stage, "fashion") if job.key.endswith(part))


def test_an_encoder_then_a_generator_become_rows(zoo):
    encoder = run_of("encoders", "/pca16")
    row = encoder.run(zoo)
    zoo.store.write(encoder.key, row)
    assert row["reconstruction"] < row["mean_image_error"]
    assert row["dimension"] == 16
    assert 0 < row["reconstruction_stderr"] < row["reconstruction"]
    assert 0 < row["reconstruction_frechet_stderr"] < row["reconstruction_frechet"]
    generator = run_of("small", "pca16/mlp-flow-small-0")
    assert generator.needs == (encoder.key,)
    made = generator.run(zoo)
    named = ("encoder", "generator", "objective", "budget", "seed", "n_images")
    assert [made[key] for key in named] == ["pca16", "mlp", "flow", "small", 0, 150]
    assert np.isfinite([made["frechet_reconstructed"], made["frechet_real"], made["recall"]]).all()


def test_what_is_diffused_is_centred_and_has_one_scale(zoo):
    encoder = run_of("encoders", "/pca16")
    zoo.store.write(encoder.key, encoder.run(zoo))
    config = jobs.encoder_named("pca16")
    latents = zoo.latents(config)
    assert abs(latents.train.mean(axis=0)).max() < 1e-5
    assert np.mean(latents.train.astype(np.float64) ** 2) == pytest.approx(1, abs=1e-5)
    raw = latents.reference * latents.scale + latents.centre
    decoded = zoo.decoded(config, raw)
    again = zoo.encode(zoo.autoencoder(config), to_uint8(decoded))
    # PCA keeps distances: what is left is the rounding of 1,024 pixels to 8 bit
    assert np.linalg.norm(again - raw, axis=1).max() < np.sqrt(1024) / 127.5


def options(tmp_path, stage, encoder):
    return argparse.Namespace(
        root=tmp_path,
        device="cpu",
        workers=1,
        stage=stage.split(),
        dataset=["fashion"],
        encoder=encoder,
    )


def test_a_worker_does_what_is_left_and_says_what_it_cannot(zoo, tmp_path, capfd):
    assert command._work(options(tmp_path, "encoders", ["pca16"])) == 0
    assert command._work(options(tmp_path, "encoders", ["pca16"])) == 0
    assert capfd.readouterr().out.count("encoder/fashion/pca16") == 1
    assert command._work(options(tmp_path, "small", ["ae16"])) == 1
    said = "left undone: generator/fashion/ae16/mlp-flow-small-0, for want of encoder/fashion/ae16"
    assert said in capfd.readouterr().err


def test_what_needs_a_failed_run_is_left_and_the_rest_is_done(zoo, tmp_path, capfd, monkeypatch):
    def broken(config, images, **options):
        if config.name == jobs.DISTORTED_BASE:
            raise FloatingPointError("not finite")
        return whole(config, images, **options)

    whole = jobs.train
    monkeypatch.setattr(jobs, "train", broken)
    names = [jobs.DISTORTED_BASE, "stretch4", "pca16"]
    assert command._work(options(tmp_path, "encoders small", names)) == 1
    said = capfd.readouterr().err
    assert "left undone: encoder/fashion/stretch4, for want of" in said
    assert "left undone: generator/fashion/stretch4/mlp-flow-small-2, for want of" in said
    assert all(zoo.store.has(job.key) for job in stage_jobs("small", "fashion", ("pca16",)))


def test_a_failed_run_stops_no_other_and_is_tried_again(zoo, tmp_path, capfd, monkeypatch):
    def broken(A, B):
        raise FloatingPointError("not finite")

    with monkeypatch.context() as patch:
        patch.setattr(jobs, "frechet", broken)
        assert command._work(options(tmp_path, "encoders", ["pca16", "pca32"])) == 1
    assert capfd.readouterr().err.count("failed: encoder/fashion/pca") == 2
    assert command._work(options(tmp_path, "encoders", ["pca16", "pca32"])) == 0


def test_an_unknown_stage_is_refused():
    with pytest.raises(ValueError, match="stage is 'later': it is one of floor, encoders"):
        stage_jobs("later", "fashion")


def test_the_status_counts_what_is_done(zoo, tmp_path, capsys):
    command._work(options(tmp_path, "encoders", ["pca16"]))
    command._status(options(tmp_path, "encoders", None))
    assert capsys.readouterr().out.splitlines()[-1].split()[:4] == [
        "encoders",
        "fashion",
        "1",
        "47",
    ]


def test_data_sets_take_turns_so_that_seeds_come_after_each_other(tmp_path):
    given = options(tmp_path, "small", ["pca16", "pca32"])
    given.dataset = ["fashion", "photographs"]
    keys = [job.key.removeprefix("generator/") for job in command._jobs(given)]
    assert keys[:4] == [
        f"{dataset}/{name}/mlp-flow-small-0"
        for name in ("pca16", "pca32")
        for dataset in ("fashion", "photographs")
    ]
    assert [key[-1] for key in keys] == [seed for seed in "012" for _ in range(4)]
