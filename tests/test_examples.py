"""The examples run and assert what they claim; the README's commands and names exist."""

import ast
import re
import runpy
import shlex
import tomllib
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from sklearn.decomposition import PCA

from skfisher import FIRateEstimator, LatentGeometryAuditor

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
QUICK = "plot_own_score_model.py"  # the cheapest; .ci/run runs them all
FENCE = re.compile(r"^```[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)


def readme():
    return (ROOT / "README.md").read_text(encoding="utf-8")


def fenced(word):
    """The one fenced block of the README that holds a word."""
    found = [block.strip() for block in FENCE.findall(readme()) if word in block]
    assert len(found) == 1, f"README.md has {len(found)} fenced blocks with {word!r}"
    return found[0]


def commands(block):
    return [shlex.split(part) for part in re.split(r"&&|\n", block)]


def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def table_attributes():
    """Names with a trailing underscore in the README's table."""
    rows = [line for line in readme().splitlines() if line.startswith("|")]
    return sorted({name for row in rows for name in re.findall(r"`([a-z_]+_)`", row)})


def test_there_are_eleven_examples():
    assert len(EXAMPLES) == 11
    assert QUICK in {path.name for path in EXAMPLES}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_has_a_title_and_ends_in_an_assertion(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    title, underline = ast.get_docstring(tree).splitlines()[:2]
    assert underline == "=" * len(title)
    assert isinstance(tree.body[-1], ast.Assert)


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, marks=[] if path.name == QUICK else pytest.mark.slow, id=path.stem)
        for path in EXAMPLES
    ],
)
def test_an_example_runs(path, monkeypatch, tmp_path):
    pyplot = pytest.importorskip("matplotlib.pyplot")
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.chdir(tmp_path)
    pyplot.switch_backend("Agg")
    try:
        runpy.run_path(str(path), run_name="__main__")
        assert pyplot.get_fignums()
    finally:
        pyplot.close("all")


def test_the_first_command_installs_an_extra_that_exists_and_calls_the_console_script():
    install, call = commands(fenced("skfisher demo"))
    assert install[:3] == ["pip", "install", "-e"]
    (extra,) = re.fullmatch(r"\.\[(\w+)\]", install[3]).groups()
    assert any("matplotlib" in need for need in project()["optional-dependencies"][extra])
    module, function = project()["scripts"][call[0]].split(":")
    assert callable(getattr(import_module(module), function))


def test_the_first_command_names_a_subcommand(capsys):
    _, call = commands(fenced("skfisher demo"))
    main = import_module("skfisher.cli").main
    with pytest.raises(SystemExit) as stop:
        main([*call[1:], "--help"])
    assert stop.value.code == 0
    assert f"skfisher {call[1]}" in capsys.readouterr().out


def test_the_second_command_installs_what_exists_and_calls_pytest():
    install, call = commands(fenced("requirements-dev.txt"))
    assert install[:3] == ["pip", "install", "-r"]
    assert call == ["pytest"]
    needs = (ROOT / install[3]).read_text(encoding="utf-8").split("\n")
    for need in filter(None, needs):
        option, value = need.split(maxsplit=1)
        if option == "-c":
            assert (ROOT / value).is_file()
        else:
            assert option == "-e"
            extras = re.fullmatch(r"\.\[([\w,]+)\]", value).group(1).split(",")
            assert set(extras) <= set(project()["optional-dependencies"])


def test_the_readme_links_to_files_that_exist():
    links = re.findall(r"\]\(([^)#\s]+)\)", readme())
    missing = [
        link for link in links if "://" not in link and not (ROOT / link.split("#")[0]).exists()
    ]
    assert not missing


def test_the_readme_table_names_attributes_that_exist():
    names = table_attributes()
    assert len(names) >= 8
    X = np.random.default_rng(0).normal(size=(60, 3))
    fitted = [
        FIRateEstimator(score_model="gaussian").fit(X),
        LatentGeometryAuditor(PCA(2), score_model="gaussian").fit(X),
    ]
    missing = [name for name in names if not any(hasattr(one, name) for one in fitted)]
    assert not missing


def test_the_readme_script_runs_on_fewer_rows():
    code = fenced("from skfisher import")
    assert "LatentGeometryAuditor" in code
    shorter = code.replace("load_digits().data", "load_digits().data[:200]")
    assert shorter != code
    exec(compile(shorter, "README.md", "exec"), {})


def test_the_api_page_lists_every_public_name():
    text = (ROOT / "docs" / "api.rst").read_text(encoding="utf-8")
    listed, module = {}, None
    for line in text.splitlines():
        if line.startswith(".. currentmodule::"):
            module = line.split()[-1]
        elif re.fullmatch(r"   \w+", line):
            listed.setdefault(module, set()).add(line.strip())
    face = listed.pop("skfisher")
    assert face == set(import_module("skfisher").__all__) - {"__version__"}
    for name, found in listed.items():
        public = set(import_module(name).__all__)
        assert found == public - face, name
    assert len(listed) >= 11
