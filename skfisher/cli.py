"""The command line: `skfisher demo` and `skfisher curve`."""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import sys
import textwrap
import time
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from skfisher._backend.arrays import Array, namespace
from skfisher._backend.draws import permutation
from skfisher._backend.files import (
    prepare_folder,
    read_array,
    read_labels,
    write_bytes,
    write_json,
)
from skfisher._backend.rows import sorted_index
from skfisher._version import __version__
from skfisher.channels import channel_report, flatten_latents
from skfisher.compare import EncoderComparison, EncoderRecord, compare_encoders
from skfisher.criteria import CRITERIA
from skfisher.crossfit import FAMILIES
from skfisher.curves import InformationCurve
from skfisher.display import ComparisonDisplay, InformationCurveDisplay
from skfisher.display.drawing import with_error
from skfisher.noise import rms_scale

__all__ = ["main"]

_PACKAGES = ("numpy", "scipy", "scikit-learn", "array-api-compat", "joblib", "matplotlib")

# -- the demo's encoders -----------------------------------------------------------------------

PARENT, WARPED = "PCA(16)", "PCA(16), warped"
_STRETCHED, _STRETCH = 4, 3.0  # leading directions, and by how much
_AMPLITUDE, _FREQUENCY = 4.0, 0.5  # of the ridge, in grey levels and radians per grey level
_HIDDEN = (64, 32)  # widths of the network whose features judge the decoded pictures


def _warp(Z: Array) -> Array:
    """The leading directions stretched, and a sine ridge along the first added to the others.

    It loses nothing: `_unwarp` undoes it exactly.
    """
    xp = namespace(Z)
    head, tail = Z[:, :_STRETCHED], Z[:, _STRETCHED:]
    ridge = _AMPLITUDE * xp.sin(_FREQUENCY * Z[:, :1])
    return xp.concat([_STRETCH * head, tail + ridge], axis=1)


def _unwarp(Z: Array) -> Array:
    xp = namespace(Z)
    head, tail = Z[:, :_STRETCHED] / _STRETCH, Z[:, _STRETCHED:]
    return xp.concat([head, tail - _AMPLITUDE * xp.sin(_FREQUENCY * head[:, :1])], axis=1)


def _demo_encoders(seed: int) -> dict[str, Any]:
    from sklearn.decomposition import NMF, PCA
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer
    from sklearn.random_projection import GaussianRandomProjection

    return {
        "PCA(4)": PCA(4, random_state=seed),
        PARENT: PCA(16, random_state=seed),
        "PCA(32)": PCA(32, random_state=seed),
        "PCA(16), whitened": PCA(16, whiten=True, random_state=seed),
        "random proj.(16)": GaussianRandomProjection(16, random_state=seed),
        "NMF(16)": NMF(16, init="nndsvda", max_iter=1000, random_state=seed),
        WARPED: make_pipeline(
            PCA(16, random_state=seed), FunctionTransformer(_warp, inverse_func=_unwarp)
        ),
    }


def _reader_of_digits(X: Array, y: Array, seed: int) -> Callable[[Array], Array]:
    """What a small network, taught to read the digits, sees in pictures: its last hidden layer."""
    from sklearn.neural_network import MLPClassifier

    network = MLPClassifier(_HIDDEN, max_iter=500, random_state=seed).fit(X, y)

    def features(pictures: Array) -> Array:
        seen = pictures
        for weights, offset in zip(network.coefs_[:-1], network.intercepts_[:-1], strict=True):
            seen = (seen @ weights + offset).clip(min=0)
        return seen

    return features


# -- commands ----------------------------------------------------------------------------------


def _demo(options: argparse.Namespace) -> int:
    from sklearn.datasets import load_digits

    start = time.perf_counter()
    out = prepare_folder(options.out)
    X, labels = load_digits(return_X_y=True)
    encoders = _demo_encoders(options.seed)
    width = _width()
    _say(
        f"skfisher {__version__}: {len(encoders)} encoders of {X.shape[0]} pictures of digits "
        f"({X.shape[1]} pixels), audited on {min(options.n_points, X.shape[0])} of them",
        width,
    )
    done: list[str] = []

    def progress(record: EncoderRecord) -> None:
        done.append(record.name)
        print(
            f"  {len(done)}/{len(encoders)}  {record.name:<18} {_score(record):<16}"
            f"   {record.seconds:5.1f} s",
            flush=True,
        )
        if options.verbose:
            lost = f"reconstruction by {record.decoder}; encoder {record.report.linear}"
            print(textwrap.indent(textwrap.fill(lost, width - 7), " " * 7), flush=True)

    scale = rms_scale(X)
    comparison = compare_encoders(
        encoders,
        X,
        # data and latent are compared at a few levels, the score has its own 21
        noise_levels=[scale * factor for factor in (0.1, 0.3, 1.0, 3.0)],
        max_points=options.n_points,
        random_state=options.seed,
        n_jobs=options.jobs,
        progress=progress,
        features=_reader_of_digits(X, labels, options.seed),
    )
    print(f"\n{_comparison_table(comparison, width)}\n")
    for note in _demo_notes(comparison):
        _say(f"- {note}", width, hang="  ")
    print()
    seconds = time.perf_counter() - start
    record = {
        "command": "demo",
        "data": "scikit-learn digits",
        "seconds": seconds,
        "environment": _environment(),
        "comparison": comparison.to_dict(),
    }
    title = f"Digits through {len(encoders)} encoders, {options.n_points} points"
    display = ComparisonDisplay.from_comparison(comparison, title=title)
    _write(out, "demo", record, display.to_png)
    print(f"{time.perf_counter() - start:.0f} s")
    return 0


def _comparison_table(comparison: EncoderComparison, width: int) -> str:
    records = comparison.records
    return _table(
        [
            ("rank", [_span(r.rank_interval) for r in records]),
            ("encoder", [r.name for r in records]),
            ("score", [_score(r) for r in records]),
            ("rec.err", [_number(r.reconstruction_error, ".1%") for r in records]),
            ("d", [str(r.latent_dimension) for r in records]),
            ("valid", [f"{r.valid_share:.0%}" for r in records]),
            ("m", [_stretch(r, r.m) for r in records]),
            ("L", [_stretch(r, r.L) for r in records]),
            ("weighs most", [r.diagnosis.partition(":")[0] or "-" for r in records]),
        ],
        width,
        keys=2,
        left=("rank", "encoder", "weighs most"),
    )


def _demo_notes(comparison: EncoderComparison) -> list[str]:
    parent, warped = comparison[PARENT], comparison[WARPED]
    gap = parent.diffusability - warped.diffusability
    names = [record.name for record in comparison.records]
    error = float(comparison.difference_stderr[names.index(PARENT), names.index(WARPED)])
    apart = [" and ".join(run) for run in comparison.not_separated()]
    return [
        f"score: {CRITERIA[comparison.criterion].meaning}, in {_HIDDEN[-1]} features of a network "
        "that reads digits; higher is better. It is blind to lost information: read it beside the "
        "reconstruction error.",
        "+- is one standard error: of the pictures and of the mixture's samples.",
        "valid: share of the noise levels at which the latent's curves in demo.json may be "
        "believed.",
        "rank: 95 % interval over resamples of the pictures, the same for all encoders. "
        + (f"Cannot be separated: {'; '.join(apart)}." if apart else "All rows are separated."),
        "m, L: the least and largest stretch of distances, exact for linear encoders; ~ marks "
        "inner estimates from pairs. m = 0 where a direction of the data is lost.",
        "rec.err: the share of the variance of the pictures that does not come back, by the "
        "encoder's own decoder or the best affine map, whichever loses less.",
        "weighs most: the finding that changes the MMSE rate most, among those that are serious; "
        "see diagnosis_ of an audit for all of them and for what to do.",
        f"{WARPED}: the latent of {PARENT} with {_STRETCHED} directions stretched and a sine ridge "
        f"added. The warp can be undone, so nothing more is lost "
        f"({_number(warped.reconstruction_error, '.1%')}); the score is lower by "
        f"{_plus_minus(gap, error)}.",
    ]


def _curve(options: argparse.Namespace) -> int:
    from skfisher.estimators import FIRateEstimator

    X, latent_shape = flatten_latents(
        read_array(options.file, options.key), name=str(options.file), min_samples=2
    )
    groups = None if options.groups is None else read_labels(options.groups)
    if groups is not None and groups.shape != (X.shape[0],):
        raise ValueError(
            f"{options.groups} holds labels of shape {groups.shape}, but {options.file} has "
            f"{X.shape[0]} rows: pass one label per row."
        )
    out = prepare_folder(options.out)
    n_rows, width = X.shape[0], _width()
    if n_rows > options.max_points:
        index = sorted_index(permutation(options.seed, (0,), n_rows)[: options.max_points])
        X, groups = X[index], None if groups is None else groups[index]
    estimator = FIRateEstimator(
        score_model=options.score_model,
        noise_levels=options.noise_levels,
        random_state=options.seed,
        latent_shape=latent_shape,
        verbose=options.verbose,
    ).fit(X, groups=groups)
    curve, scale = estimator.curve_, rms_scale(X)
    drawn = "" if X.shape[0] == n_rows else f" (drawn at random from {n_rows})"
    _say(
        f"{options.file}: {X.shape[0]} rows{drawn}, n = {X.shape[1]} features, RMS scale "
        f"{scale:.4g}; sigma in units of X",
        width,
    )
    print(f"\n{_curve_table(curve, scale, width)}\n")
    for note in _curve_notes(curve):
        _say(note, width)
    if latent_shape is not None:
        print()
        for line in channel_report(X, latent_shape).text.splitlines():
            _say(line, width)
    record = {
        "command": "curve",
        "file": str(options.file),
        "key": options.key,
        "n_rows": n_rows,
        "n_rows_used": X.shape[0],
        "rms_scale": scale,
        "score_model": options.score_model,
        "random_state": options.seed,
        "environment": _environment(),
        "curve": curve,
    }
    title = f"{Path(options.file).name}: {X.shape[0]} rows, {X.shape[1]} features"
    display = InformationCurveDisplay.from_curve(curve, title=title)
    _write(out, "curve", record, display.to_png)
    return 0


def _reasons(curve: InformationCurve) -> dict[str, str]:
    """A letter for every reason why levels are not valid, in order of appearance."""
    found = dict.fromkeys(part for reason in curve.reasons if reason for part in reason.split("; "))
    return {reason: chr(ord("a") + k) for k, reason in enumerate(found)}


def _curve_table(curve: InformationCurve, scale: float, width: int) -> str:
    letters = _reasons(curve)
    marks = [
        f"no ({''.join(sorted(letters[part] for part in reason.split('; ')))})" if reason else "yes"
        for reason in curve.reasons
    ]
    sigma = [float(s) for s in curve.noise_levels]

    def error(name: str) -> list[str]:
        values, errors = getattr(curve, name), getattr(curve, f"{name}_stderr")
        return [_number(float(e / abs(v)), ".1%") for v, e in zip(values, errors, strict=True)]

    bounds = curve.fisher_information_bounds
    return _table(
        [
            ("sigma", [_number(s) for s in sigma]),
            ("s/RMS", [_number(s / scale) for s in sigma]),
            ("J", _numbers(curve.fisher_information)),
            ("+-", error("fisher_information")),
            ("lower", _numbers(bounds[:, 0])),
            ("upper", _numbers(bounds[:, 1])),
            ("R", _numbers(curve.fisher_information_rate)),
            ("+-", error("fisher_information_rate")),
            ("MMSE", _numbers(curve.mmse)),
            ("rate", _numbers(curve.mmse_rate)),
            ("d_eff", _numbers(curve.effective_dimension)),
            ("model", list(curve.score_models)),
            ("valid", marks),
        ],
        width,
        keys=1,
        left=("model", "valid"),
    )


def _curve_notes(curve: InformationCurve) -> list[str]:
    notes = [f"({letter}) {reason}" for reason, letter in _reasons(curve).items()]
    low, high = curve.viv_bounds
    return [
        *notes,
        "J in 1/x^2 (+- its standard error; lower and upper: its bracket, whose ends have errors "
        "of their own), R = -dJ/dt in 1/x^4, MMSE in x^2, rate = dMMSE/dt, d_eff = n - t J.",
        f"I(X; Y) at the least noise: {_number(float(curve.mutual_information[0]), '.4g')} nats; "
        f"VIV per dimension: {_number(curve.viv, '.4g')} (tails closed: {_number(low, '.4g')} to "
        f"{_number(high, '.4g')}; Gaussian of the same covariance: "
        f"{_number(curve.viv_gaussian, '.4g')}).",
    ]


# -- output ------------------------------------------------------------------------------------


def _write(out: Path, stem: str, record: dict[str, Any], draw: Callable[[], bytes]) -> None:
    """`stem`.json, and `stem`.png where matplotlib is there."""
    write_json(out / f"{stem}.json", record)
    try:
        write_bytes(out / f"{stem}.png", draw())
    except ImportError as error:
        print(f"wrote {out / stem}.json", flush=True)
        print(f"no picture: {error}", file=sys.stderr)
    else:
        print(f"wrote {out / stem}.json and {out / stem}.png", flush=True)


def _environment() -> dict[str, Any]:
    found: dict[str, str | None] = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return {
        "skfisher": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu_count": os.cpu_count(),
        "packages": found,
    }


def _width() -> int:
    return min(max(shutil.get_terminal_size((100, 24)).columns, 80), 120)


def _say(text: str, width: int, hang: str = "") -> None:
    print(textwrap.fill(text, width, subsequent_indent=hang), flush=True)


def _number(value: float, form: str = ".3g") -> str:
    return "-" if value != value else format(value, form)


def _numbers(values: Array) -> list[str]:
    return [_number(float(value)) for value in values]


def _score(record: EncoderRecord) -> str:
    return _plus_minus(record.diffusability, record.stderr)


def _plus_minus(value: float, stderr: float) -> str:
    return with_error(value, stderr).replace("\N{PLUS-MINUS SIGN}", "+-")


def _stretch(record: EncoderRecord, value: float) -> str:
    return _number(value) if record.report.bi_lipschitz.exact else f"~{_number(value)}"


def _span(interval: tuple[int, int]) -> str:
    low, high = interval
    return str(low) if low == high else f"{low}-{high}"


def _table(
    columns: Sequence[tuple[str, Sequence[str]]], width: int, *, keys: int, left: Sequence[str]
) -> str:
    """Columns of text; those that do not fit follow below, with the first `keys` repeated."""
    blocks = []
    for header, cells in columns:
        size = max(map(len, (header, *cells)))
        pad = str.ljust if header in left else str.rjust
        blocks.append([pad(cell, size) for cell in (header, *cells)])
    repeated, rest = blocks[:keys], blocks[keys:]
    tables: list[str] = []
    while rest:
        shown = list(repeated)
        used = sum(len(column[0]) + 2 for column in shown) - 2
        while rest and (len(shown) == keys or used + 2 + len(rest[0][0]) <= width):
            used += 2 + len(rest[0][0])
            shown.append(rest.pop(0))
        lines = ["  ".join(cells).rstrip() for cells in zip(*shown, strict=True)]
        tables.append("\n".join([lines[0], "-" * used, *lines[1:]]))
    return "\n\n".join(tables)


# -- arguments ---------------------------------------------------------------------------------


def _at_least(least: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"{value} is less than {least}")
        return value

    number.__name__ = "integer"  # argparse names the type in its message
    return number


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="skfisher",
        description="Fisher information of samples and latent spaces along Gaussian noise.",
    )
    parser.add_argument("--version", action="version", version=f"skfisher {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    demo = commands.add_parser("demo", help="audit seven encoders of scikit-learn's digits")
    demo.set_defaults(run=_demo)
    demo.add_argument("--out", default="skfisher-demo", help="folder for demo.json and demo.png")
    demo.add_argument(
        "--n-points", type=_at_least(50), default=1000, help="rows to audit (%(default)s)"
    )
    demo.add_argument(
        "--jobs",
        type=_at_least(1),
        default=min(2, os.cpu_count() or 1),
        help="encoders audited at a time (%(default)s)",
    )

    curve = commands.add_parser("curve", help="information curves of the rows of a file")
    curve.set_defaults(run=_curve)
    curve.add_argument(
        "file",
        type=Path,
        metavar="FILE",
        help="one row a sample: .npy or .npz (N x n or N x C x H x W), or .csv",
    )
    curve.add_argument("--key", help="which array of an .npz archive")
    curve.add_argument("--score-model", choices=FAMILIES, default="auto", help="(%(default)s)")
    curve.add_argument(
        "--noise-levels",
        type=float,
        nargs="+",
        metavar="SIGMA",
        help="increasing, in units of X (21 levels, 0.05 to 5 times the RMS scale)",
    )
    curve.add_argument("--groups", type=Path, help="file with one label per row: dependent rows")
    curve.add_argument(
        "--out", default="skfisher-curve", help="folder for curve.json and curve.png"
    )
    curve.add_argument(
        "--max-points",
        type=_at_least(2),
        default=5000,
        help="at most so many rows, drawn at random (%(default)s)",
    )
    for command in (demo, curve):
        command.add_argument("--seed", type=_at_least(0), default=0, help="(%(default)s)")
        command.add_argument(
            "--verbose", action="store_true", help="say more, and where an error comes from"
        )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Parameters
    ----------
    argv : sequence of str, default=None
        Arguments after the program's name; None takes those of the process.

    Returns
    -------
    int
        0; 2 for input that cannot be used or output that cannot be written, with one line on
        standard error; 130 after an interrupt.

    Raises
    ------
    SystemExit
        From argparse: 0 after help or version, 2 for arguments that it cannot read.
    OSError, TypeError, ValueError
        What would be the one line, with ``--verbose``.
    """
    options = _parser().parse_args(argv)
    try:
        code: int = options.run(options)
    except KeyboardInterrupt:
        print("skfisher: interrupted", file=sys.stderr)
        return 130
    except (OSError, TypeError, ValueError) as error:
        if options.verbose:
            raise
        print(f"skfisher: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return code
