"""The tree as an argument: imports go down, one door to the array libraries, a light import."""

import ast
import graphlib
import statistics
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import skfisher

ROOT = Path(skfisher.__file__).parent

# A module imports from its own row and from rows above it.
ROWS = [
    "_version",
    "exceptions",
    "_backend",
    "noise",
    "channels",
    "samples",
    "scores",
    "traces",
    "forms",
    "curves",
    "assembly",
    "evaluation",
    "candidates",
    "learned",
    "crossfit",
    "conditional",
    "decoders",
    "decoding",
    "frechet",
    "surrogates",
    "criteria",
    "geometry",
    "account",
    "bounds",
    "preservation",
    "diagnosis",
    "ranking",
    "encoders",
    "estimators",
    "functional",
    "rivals",
    "compare",
    "prediction",
    "losses",
    "display",
    "report",
    "cli",
    "__main__",
]
# Shipped oracles: they may see everything up to the curves, and only the public face sees them.
ASIDE = {"testing": "curves"}
# The public face is above all rows; nothing in the package imports it.
FACE = "skfisher"
FACES = ("__init__", "__main__")  # files that offer what they import

TORCH_TOO = {
    "skfisher.scores.network",
    "skfisher.scores.adapters",
    "skfisher.scores.architectures",
    "skfisher.scores.diffusers",
    "skfisher.encoders",
    "skfisher.losses",
}
HEAVY = {
    "torch",
    "matplotlib",
    "pandas",
    "sklearn.cluster",
    "sklearn.mixture",
    "sklearn.neighbors",
}
IMPORT_BUDGET = 0.3  # seconds beyond `import sklearn`


def name_of(path):
    parts = ("skfisher", *path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in sorted(ROOT.rglob("*.py"))}
by_module = pytest.mark.parametrize("module", MODULES)


@cache
def tree(module):
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


@cache
def imports(module):
    """Every module that `module` imports anywhere, functions included."""
    found = set()
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} line {node.lineno}: import by the absolute name"
            inner = {f"{node.module}.{alias.name}" for alias in node.names} & MODULES.keys()
            found |= inner or {node.module}
    return frozenset(found)


def row(module):
    return module.split(".")[1] if "." in module else FACE


def rank(name):
    return len(ROWS) if name == FACE else ROWS.index(name)


def may_import(importer, imported):
    if imported == FACE:
        return importer == FACE
    if imported in ASIDE:
        return importer in (imported, FACE)
    return rank(imported) <= rank(ASIDE.get(importer, importer))


def test_imports_only_go_down():
    wrong = [
        f"{module} imports {target}"
        for module in MODULES
        for target in imports(module)
        if target.split(".")[0] == FACE and not may_import(row(module), row(target))
    ]
    assert not wrong


def test_the_rule_itself_tells_up_from_down():
    assert may_import("curves", "noise")
    assert may_import("testing", "scores")
    assert not may_import("noise", "curves")
    assert not may_import("testing", "geometry")
    assert not may_import("cli", "testing")
    assert not may_import("cli", FACE)


def test_every_module_has_its_row():
    assert {row(module) for module in MODULES} <= {*ROWS, *ASIDE, FACE}


def test_no_import_cycles():
    graph = {module: imports(module) & MODULES.keys() for module in MODULES}
    tuple(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError, naming the cycle


@by_module
def test_all_names_what_the_module_defines(module):
    body = tree(module).body
    if all(isinstance(node, ast.Expr) for node in body):
        return  # a bare package with nothing to export
    exported, defined, public = [], set(), set()
    # names that a lazy face imports for type checkers only are names that it offers
    guarded = [inner for node in body if isinstance(node, ast.If) for inner in node.body]
    for node in [*body, *guarded]:
        match node:
            case ast.Assign(targets=[ast.Name("__all__")]):
                exported.append(ast.literal_eval(node.value))
            case ast.Assign(targets=targets):
                defined.update(
                    n.id for t in targets for n in ast.walk(t) if isinstance(n, ast.Name)
                )
            case ast.AnnAssign(target=ast.Name(name)):
                defined.add(name)
            case ast.FunctionDef(name) | ast.ClassDef(name):
                public.add(name)
            case ast.ImportFrom(names=names) if MODULES[module].stem in FACES:
                defined.update(alias.asname or alias.name for alias in names)
    assert len(exported) == 1, f"{module} needs one literal __all__"
    (names,) = map(set, exported)
    assert len(names) == len(exported[0])
    assert names <= defined | public
    assert {name for name in public if not name.startswith("_")} <= names


@by_module
def test_only_the_backend_names_an_array_library(module):
    libraries = {target.split(".")[0] for target in imports(module)} & {"numpy", "torch"}
    if row(module) == "_backend":
        allowed = {"numpy", "torch"}
    else:
        allowed = {"torch"} if module in TORCH_TOO else set()
    assert libraries <= allowed


def loaded_by(package):
    """Processor seconds until `package` is imported in a new process, and what that loads."""
    code = f"import sys, time, {package}; print(time.process_time(), *sys.modules)"
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT.parent)
    seconds, *modules = run.stdout.split()
    return float(seconds), set(modules)


def test_import_leaves_heavy_packages_alone():
    # what scikit-learn loads by itself is not ours to leave
    (_, ours), (_, theirs) = loaded_by("skfisher"), loaded_by("sklearn")
    assert not (ours - theirs) & HEAVY


def test_import_costs_little_beyond_scikit_learn():
    # in turns, so that a load on the machine falls on both
    pairs = [(loaded_by("skfisher")[0], loaded_by("sklearn")[0]) for _ in range(5)]
    ours, theirs = map(statistics.median, zip(*pairs, strict=True))
    assert ours - theirs <= IMPORT_BUDGET, f"{ours:.2f} s, scikit-learn alone {theirs:.2f} s"
