"""The command line: what it prints and writes, and one line for everything it refuses."""

import builtins
import json
import os
import pickle
import re
import resource
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

import skfisher
from skfisher._backend.files import json_ready, read_array, write_bytes, write_json
from skfisher.cli import PARENT, WARPED, _demo_encoders, _table, _unwarp, _warp, main
from skfisher.compare import EncoderComparison

RUN = [sys.executable, "-c", "import sys; from skfisher.cli import main; sys.exit(main())"]
COMPARISON_HEADERS = ["rank", "encoder", "score", "rec.err", "d", "valid", "m", "L"]
CURVE_HEADERS = ["sigma", "s/RMS", "J", "+-", "lower", "upper", "R", "+-", "MMSE", "rate"]
CURVE_HEADERS += ["d_eff", "model", "valid"]


@pytest.fixture(scope="module")
def X():
    return np.random.default_rng(5).normal(size=(120, 3)) * [2.0, 1.0, 0.5]


@pytest.fixture
def npy(tmp_path, X):
    np.save(tmp_path / "x.npy", X)
    return tmp_path / "x.npy"


@pytest.fixture
def without_matplotlib(monkeypatch):
    real = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name.split(".")[0] == "matplotlib":
            raise ImportError(f"No module named {name!r}")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)


def curve(path, out, *more):
    levels = ["--noise-levels", "0.5", "1", "2"]
    return main(
        ["curve", str(path), "--score-model", "gaussian", "--out", str(out), *levels, *more]
    )


def is_picture(path):
    image = imread(path)
    return image.ndim == 3 and image.std() > 0.05


# -- demo --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """Exit code, standard output and folder of a small demo."""
    out = tmp_path_factory.mktemp("demo") / "made" / "here"
    with pytest.MonkeyPatch.context() as patch:
        lines = []
        patch.setattr(builtins, "print", lambda *a, **k: lines.append(" ".join(map(str, a))))
        patch.setenv("COLUMNS", "90")
        code = main(["demo", "--out", str(out), "--n-points", "600", "--jobs", "1", "--verbose"])
    return code, "\n".join(lines), out


def test_demo_ranks_the_warped_encoder_below_its_parent_beyond_error(demo):
    record = json.loads((demo[2] / "demo.json").read_text())
    rows = {row["name"]: row for row in record["comparison"]["records"]}
    assert len(rows) >= 6
    parent, warped = rows[PARENT], rows[WARPED]
    names = list(rows)
    errors = record["comparison"]["difference_stderr"]
    error = errors[names.index(PARENT)][names.index(WARPED)]
    assert parent["diffusability"] - warped["diffusability"] > 4 * error
    assert warped["rank_interval"][0] > parent["rank_interval"][1]
    # nothing was lost with it
    assert np.isclose(parent["reconstruction_error"], warped["reconstruction_error"])


def test_demo_tells_what_it_found(demo):
    code, text, out = demo
    assert code == 0
    encoders = _demo_encoders(0)
    for k, name in enumerate(encoders):
        assert re.search(
            rf"{k + 1}/{len(encoders)}  {re.escape(name)} +-\d+(\.\d+)? \+- \d+(\.\d+)? ", text
        )
    table = next(part for part in text.split("\n\n") if part.strip().startswith("rank"))
    assert table.split("\n")[0].split() == COMPARISON_HEADERS
    assert len(table.strip().splitlines()) == 2 + len(encoders)
    for words in ("minus the Frechet distance", "blind to lost information", "separated", "valid"):
        assert words in " ".join(text.split())
    assert "reconstruction by inverse_transform" in text
    assert all(len(row) <= 90 for row in text.splitlines() if str(out) not in row)
    assert f"wrote {out / 'demo.json'} and {out / 'demo.png'}" in text


def test_demo_writes_curves_environment_and_a_picture(demo):
    out = demo[2]
    record = json.loads((out / "demo.json").read_text())
    assert record["comparison"]["random_state"] == 0
    assert record["environment"]["skfisher"] == skfisher.__version__
    assert record["environment"]["packages"]["numpy"] == version("numpy")
    for row in record["comparison"]["records"]:
        assert len(row["report"]["latent_curve"]["complexity_penalty"]) == 21
        assert len(row["report"]["data_curve"]["noise_levels"]) == 4
    assert is_picture(out / "demo.png")
    assert sorted(os.listdir(out)) == ["demo.json", "demo.png"]


def test_the_warp_can_be_undone():
    Z = np.random.default_rng(0).normal(size=(50, 16)) * 10
    np.testing.assert_allclose(_unwarp(_warp(Z)), Z, atol=1e-12)
    assert not np.allclose(_warp(Z)[:, 4:], Z[:, 4:], atol=1)


@pytest.mark.slow
def test_demo_runs_in_a_minute_on_two_cores(tmp_path):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run = subprocess.run(
        [*RUN, "demo"], cwd=tmp_path, capture_output=True, text=True, check=True, env=environment()
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # processor time, not wall time: the machine may be shared
    used = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    assert used < 2 * 60
    assert run.stderr == ""
    folder = tmp_path / "skfisher-demo"
    rows = json.loads((folder / "demo.json").read_text())["comparison"]["records"]
    names = [row["name"] for row in rows]
    assert names.index(WARPED) > names.index(PARENT)
    assert is_picture(folder / "demo.png")


def environment():
    root = str(Path(skfisher.__file__).parents[1])
    path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    return os.environ | {"PYTHONPATH": path, "COLUMNS": "80"}


# -- curve -------------------------------------------------------------------------------------


def test_curve_prints_the_table_and_writes_json_and_picture(npy, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert curve(npy, tmp_path / "out") == 0
    text = capsys.readouterr().out
    assert "120 rows, n = 3 features" in text
    (header,) = (row for row in text.splitlines() if row.strip().startswith("sigma"))
    assert header.split() == CURVE_HEADERS
    assert "VIV per dimension" in text
    record = json.loads((tmp_path / "out" / "curve.json").read_text())
    assert record["curve"]["noise_levels"] == [0.5, 1.0, 2.0]
    assert record["curve"]["score_models"] == ["gaussian"] * 3
    assert record["n_rows"] == record["n_rows_used"] == 120
    assert is_picture(tmp_path / "out" / "curve.png")


def test_a_narrow_terminal_gets_all_columns_in_two_tables(npy, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    curve(npy, tmp_path / "out")
    rows = capsys.readouterr().out.splitlines()
    headers = [row.split() for row in rows if row.strip().startswith("sigma ")]
    assert len(headers) == 2
    assert "valid" in headers[1]
    assert all(len(row) <= 80 for row in rows if str(tmp_path) not in row)


def test_image_shaped_latents_are_read_as_rows_and_their_channels_told(tmp_path, X, capsys):
    rows = np.repeat(X[:, :2], 2, axis=1) * [1.0, 1.0, 9.0, 9.0]
    np.save(tmp_path / "flat.npy", rows)
    np.save(tmp_path / "latents.npy", rows.reshape(len(X), 2, 1, 2))
    options = ["--score-model", "gaussian", "--noise-levels", "1", "2", "--out"]
    printed = {}
    for name in ("flat", "latents"):
        main(["curve", str(tmp_path / f"{name}.npy"), *options, str(tmp_path / name)])
        printed[name] = capsys.readouterr().out
    curves = [json.loads((tmp_path / name / "curve.json").read_text())["curve"] for name in printed]
    assert curves[0]["fisher_information"] == curves[1]["fisher_information"]
    assert f"{len(X)} latents of shape (2, 1, 2)" in printed["latents"]
    assert "channel 1: mean" in printed["latents"]
    assert "channel" not in printed["flat"]


def test_levels_that_are_not_valid_say_why(tmp_path, X, capsys):
    np.save(tmp_path / "few.npy", X[:20])
    curve(tmp_path / "few.npy", tmp_path / "out")
    text = capsys.readouterr().out
    assert re.search(r"no \([a-z]+\)", text)
    assert re.search(r"^\(a\) \w+", text, re.MULTILINE)


def test_every_kind_of_file_gives_the_same_curve(tmp_path, X, npy):
    np.savez(tmp_path / "one.npz", a=X)
    np.savez(tmp_path / "two.npz", a=X, b=X[:3])
    np.savetxt(tmp_path / "bare.csv", X, delimiter=",", fmt="%.18e")
    np.savetxt(tmp_path / "names.csv", X, delimiter=";", fmt="%.18e", header="p;q;r", comments="")
    found = []
    for name, more in (
        ("x.npy", []),
        ("one.npz", []),
        ("two.npz", ["--key", "a"]),
        ("bare.csv", []),
        ("names.csv", []),
    ):
        assert curve(tmp_path / name, tmp_path / "out", *more) == 0
        found.append(json.loads((tmp_path / "out" / "curve.json").read_text())["curve"])
    assert all(one == found[0] for one in found)


def test_groups_come_from_a_file(npy, tmp_path):
    plain = tmp_path / "plain"
    assert curve(npy, plain) == 0
    labels = np.repeat(np.arange(30), 4)
    (tmp_path / "groups.txt").write_text("\n".join(f"picture {k}" for k in labels))
    np.save(tmp_path / "groups.npy", labels)
    found = []
    for name in ("groups.txt", "groups.npy"):
        assert curve(npy, tmp_path / "out", "--groups", str(tmp_path / name)) == 0
        found.append(json.loads((tmp_path / "out" / "curve.json").read_text())["curve"])
    errors = [one["mmse_stderr"] for one in found]
    np.testing.assert_allclose(errors[0], errors[1], rtol=0.5)
    assert errors[0] != json.loads((plain / "curve.json").read_text())["curve"]["mmse_stderr"]


def test_many_rows_are_sampled_and_that_is_said(npy, tmp_path, capsys):
    assert curve(npy, tmp_path / "out", "--max-points", "50") == 0
    assert "50 rows (drawn at random from 120)" in " ".join(capsys.readouterr().out.split())
    record = json.loads((tmp_path / "out" / "curve.json").read_text())
    assert (record["n_rows"], record["n_rows_used"]) == (120, 50)


def test_without_matplotlib_the_json_is_written(npy, tmp_path, capsys, without_matplotlib):
    assert curve(npy, tmp_path / "out") == 0
    assert os.listdir(tmp_path / "out") == ["curve.json"]
    assert 'pip install "skfisher[plot]"' in capsys.readouterr().err


def test_version(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out == f"skfisher {skfisher.__version__}\n"


def test_output_is_plain_ascii_in_a_plain_terminal(npy, tmp_path):
    run = subprocess.run(
        [*RUN, "curve", str(npy), "--score-model", "gaussian", "--noise-levels", "1"],
        cwd=tmp_path,
        env=environment() | {"PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=True,
    )
    assert run.stdout.isascii()
    assert run.stderr == b""
    assert (tmp_path / "skfisher-curve" / "curve.png").exists()


# -- refusals ----------------------------------------------------------------------------------


def spoil(folder, name, X):
    """A file that cannot be used, and arguments beside it."""
    path = folder / name
    if name == "truncated.npy":
        np.save(path, X)
        path.write_bytes(path.read_bytes()[:-100])
    elif name == "header.npy":
        np.save(path, X)
        path.write_bytes(path.read_bytes()[:20])
    elif name == "objects.npy":
        np.save(path, np.array([[1, "a"]], dtype=object), allow_pickle=True)
    elif name == "pickle.npy":
        path.write_bytes(pickle.dumps(X))
    elif name == "empty.npy" or name == "empty.csv":
        path.touch()
    elif name == "x.txt":
        path.write_text("1,2\n3,4\n")
    elif name in ("two.npz", "key.npz"):
        np.savez(path, a=X, b=X)
    elif name == "truncated.npz":
        np.savez(path, a=X)
        path.write_bytes(path.read_bytes()[:-100])
    elif name == "damaged.npz":
        np.savez(path, a=X)
        data = bytearray(path.read_bytes())
        data[300:400] = bytes(100)
        path.write_bytes(bytes(data))
    elif name == "objects.npz":
        np.savez(path, a=np.array([None, 1], dtype=object))
    elif name == "text.csv":
        path.write_text("a,b\n1,2\n3,x\n")
    elif name == "ragged.csv":
        path.write_text("1,2\n3\n")
    elif name == "gap.csv":
        path.write_text("1,2\n3,\n")
    elif name == "names.csv":
        path.write_text("a,b\n")
    elif name == "binary.csv":
        path.write_bytes(b"\xff\xfe\x80\x81,1\n")
    elif name == "nan.npy":
        np.save(path, np.where(np.arange(len(X))[:, None] == 7, np.nan, X))
    elif name == "complex.npy":
        np.save(path, X + 1j)
    elif name == "vector.npy":
        np.save(path, X[:, 0])
    elif name == "words.npy":
        np.save(path, np.array([["a", "b"], ["c", "d"]]))
    elif name == "one.npy":
        np.save(path, X[:1])
    elif name == "equal.npy":
        np.save(path, X[[0, 0, 0]])
    elif name == "folder.npy":
        path.mkdir()
    return path


REFUSED = {
    "missing.npy": r"missing\.npy is not there: pass a \.npy, \.npz or \.csv file",
    "folder.npy": r"folder\.npy is a folder",
    "truncated.npy": r"truncated\.npy is truncated or damaged \(.+\): write it again",
    "header.npy": r"header\.npy is truncated or damaged",
    "objects.npy": r"holds pickled objects, which are never read because reading them can run code",
    "pickle.npy": r"pickle\.npy is not a \.npy file: it is empty, damaged, or a pickle",
    "empty.npy": r"empty\.npy is not a \.npy file: it is empty",
    "x.txt": r"has the suffix '\.txt': \.npy, \.npz and \.csv are read",
    "two.npz": r"two\.npz holds several arrays; choose one of a, b with --key",
    "truncated.npz": r"truncated\.npz is not an \.npz archive: it is truncated or damaged",
    "damaged.npz": r"damaged\.npz is truncated or damaged",
    "objects.npz": r"objects\.npz holds pickled objects",
    "text.csv": r"text\.csv cannot be read as numbers \(.*'x'.*\): keep numeric columns only",
    "ragged.csv": r"ragged\.csv cannot be read as numbers \(the number of columns changed",
    "gap.csv": r"gap\.csv cannot be read as numbers .* a number in every cell",
    "empty.csv": r"empty\.csv is empty: pass a file with one row per sample",
    "names.csv": r"names\.csv holds a line of names and no rows",
    "binary.csv": r"binary\.csv is not UTF-8 text",
    "nan.npy": r"nan\.npy contains NaN or infinity in 1 of 120 rows, the first of them row 7: drop",
    "complex.npy": r"Complex data not supported: .*complex\.npy has dtype complex128",
    "vector.npy": r"Expected 2D array, got 1D array instead: .*vector\.npy has shape \(120,\)",
    "words.npy": r"words\.npy cannot be read as numbers",
    "one.npy": r"one\.npy has 1 sample\(s\)",
    "equal.npy": r"one distinct sample",
}


def one_line(capsys):
    captured = capsys.readouterr()
    assert captured.err.startswith("skfisher: ")
    assert captured.err.count("\n") == 1
    return captured.err


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_that_cannot_be_used_is_refused_in_one_line(name, tmp_path, X, capsys):
    assert curve(spoil(tmp_path, name, X), tmp_path / "out") == 2
    assert re.search(REFUSED[name], one_line(capsys), re.IGNORECASE)
    assert not (tmp_path / "out" / "curve.json").exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--key", "a"], r"key is 'a' but .*x\.npy is no \.npz archive: leave the key out"),
        (["--noise-levels", "2", "1"], "noise_levels"),
        (["--noise-levels", "0"], "noise_levels"),
        (["--groups", "nowhere.txt"], r"nowhere\.txt is not there: pass a file with one label per"),
    ],
)
def test_arguments_that_do_not_fit_are_refused_in_one_line(more, message, npy, tmp_path, capsys):
    assert curve(npy, tmp_path / "out", *more) == 2
    assert re.search(message, one_line(capsys))


def test_an_unknown_key_is_refused_with_the_known_ones(tmp_path, X, capsys):
    assert curve(spoil(tmp_path, "key.npz", X), tmp_path / "out", "--key", "c") == 2
    assert "holds no array 'c'; choose one of a, b with --key" in one_line(capsys)


def test_another_number_of_labels_is_refused(npy, tmp_path, capsys):
    (tmp_path / "groups.txt").write_text("a\nb\n")
    assert curve(npy, tmp_path / "out", "--groups", str(tmp_path / "groups.txt")) == 2
    assert "holds labels of shape (2,), but" in one_line(capsys)


@pytest.mark.parametrize("command", ["demo", "curve"])
def test_a_folder_that_cannot_be_written_is_refused_before_the_work(
    command, npy, tmp_path, capsys, monkeypatch
):
    def work(*args, **kwargs):
        raise AssertionError("the long computation began")

    monkeypatch.setattr("skfisher.cli.compare_encoders", work)
    monkeypatch.setattr("skfisher.estimators.FIRateEstimator.fit", work)
    (tmp_path / "file").touch()
    arguments = ["demo"] if command == "demo" else ["curve", str(npy)]
    for out in ("file", "file/below"):
        assert main([*arguments, "--out", str(tmp_path / out)]) == 2
        assert re.search(
            r"the output folder .* cannot be written \(.+\): pass another with --out",
            one_line(capsys),
        )


def test_a_folder_without_leave_to_write_is_refused(npy, tmp_path, capsys, monkeypatch):
    def denied(self, data):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "write_bytes", denied)
    assert curve(npy, tmp_path / "out") == 2
    assert "cannot be written (Permission denied)" in one_line(capsys)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required"),
        (["sing"], "invalid choice: 'sing'"),
        (["demo", "--n-points", "3"], "3 is less than 50"),
        (["demo", "--seed", "x"], "invalid integer value: 'x'"),
        (["curve", "x.npy", "--score-model", "oracle"], "invalid choice: 'oracle'"),
    ],
)
def test_arguments_that_cannot_be_read_exit_with_two(arguments, message, capsys):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert message in capsys.readouterr().err


def test_verbose_shows_where_an_error_comes_from(npy, tmp_path):
    with pytest.raises(ValueError, match="noise_levels"):
        curve(npy, tmp_path / "out", "--verbose", "--noise-levels", "2", "1")


def test_an_interrupt_exits_with_130(npy, tmp_path, capsys, monkeypatch):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("skfisher.estimators.FIRateEstimator.fit", interrupt)
    assert curve(npy, tmp_path / "out") == 130
    assert one_line(capsys) == "skfisher: interrupted\n"


# -- files and tables --------------------------------------------------------------------------


def test_a_pickle_is_never_loaded(tmp_path):
    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "sprung",))

    trapped = np.empty((1, 1), dtype=object)
    trapped[0, 0] = Trap()
    np.save(tmp_path / "trap.npy", trapped, allow_pickle=True)
    np.savez(tmp_path / "trap.npz", a=trapped)
    (tmp_path / "bare.npy").write_bytes(pickle.dumps(Trap()))
    for name in ("trap.npy", "trap.npz", "bare.npy"):
        with pytest.raises(ValueError, match="pickle"):
            read_array(tmp_path / name)
    assert not (tmp_path / "sprung").exists()


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    write_json(tmp_path / "a.json", {"x": 1})

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_bytes(tmp_path / "a.json", b"half")
    assert os.listdir(tmp_path) == ["a.json"]
    assert json.loads((tmp_path / "a.json").read_text()) == {"x": 1}


def test_json_holds_every_plain_value_and_refuses_the_rest():
    given = {"a": np.float32(0.5), "b": (True, None), "c": [np.nan, -np.inf], 4: np.arange(2)}
    plain = json_ready(given)
    assert plain == {"a": 0.5, "b": [True, None], "c": [None, "-inf"], "4": [0, 1]}
    assert float(plain["c"][1]) == -np.inf
    with pytest.raises(TypeError, match="a set has no form in JSON: pass numbers, text or arrays"):
        json_ready({1})


def test_a_table_repeats_its_keys_and_loses_no_column():
    columns = [("key", ["a", "b"]), *((f"column{k}", ["1", "22"]) for k in range(6))]
    text = _table(columns, 40, keys=1, left=("key",))
    assert all(len(row) <= 40 for row in text.splitlines())
    assert re.findall(r"column\d", text) == [f"column{k}" for k in range(6)]
    assert text.count("key") == text.count("\n\n") + 1 == 2


def test_the_comparison_type_is_what_the_demo_writes(demo):
    record = json.loads((demo[2] / "demo.json").read_text())["comparison"]
    assert set(record) == {*EncoderComparison.__dataclass_fields__, "not_separated"}
