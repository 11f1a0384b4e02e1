"""Arrays read from files that are never trusted, results written whole or not at all."""

from __future__ import annotations

import io
import json
import math
import os
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
from array_api_compat import is_array_api_obj

from skfisher._backend.arrays import to_numpy

__all__ = [
    "json_ready",
    "load_tensors",
    "prepare_folder",
    "read_array",
    "read_labels",
    "save_tensors",
    "write_bytes",
    "write_json",
]

_MAGIC = b"\x93NUMPY"
_DELIMITERS = ",;\t"


def read_array(path: str | os.PathLike[str], key: str | None = None) -> Any:
    """Numbers from a .npy, .npz or .csv file, as a NumPy array.

    Parameters
    ----------
    path : path
        In a .csv file the columns are separated by commas, semicolons or tabs; a first line of
        names is skipped.
    key : str, optional
        Which array of an .npz archive to take; needed where it holds several.

    Raises
    ------
    OSError
        No such file, or one that cannot be opened.
    ValueError
        Another suffix; a file that is empty, truncated or damaged; pickled objects, which are never
        read; text; an archive of several arrays without `key`, or without that key.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "is not there"
        raise FileNotFoundError(f"{path} {what}: pass a .npy, .npz or .csv file.")
    if key is not None and suffix != ".npz":
        raise ValueError(f"key is {key!r} but {path} is no .npz archive: leave the key out.")
    if suffix == ".npy":
        return _read_npy(path)
    if suffix == ".npz":
        return _read_npz(path, key)
    if suffix == ".csv":
        return _read_csv(path)
    raise ValueError(
        f"{path} has the suffix {path.suffix!r}: .npy, .npz and .csv are read. Save the array with "
        f"numpy.save."
    )


def read_labels(path: str | os.PathLike[str]) -> Any:
    """One label per row, from a .npy file or from the lines of a text file."""
    path = Path(path)
    if path.suffix.lower() == ".npy":
        return read_array(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there: pass a file with one label per row.")
    return np.asarray(_text(path).splitlines())


def _read_npy(path: Path) -> Any:
    with path.open("rb") as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            raise ValueError(
                f"{path} is not a .npy file: it is empty, damaged, or a pickle, which is never "
                f"read because reading it can run code. Save the array with numpy.save."
            )
    return _load(path, lambda: np.load(path, allow_pickle=False))


def _read_npz(path: Path, key: str | None) -> Any:
    if not zipfile.is_zipfile(path):
        raise ValueError(
            f"{path} is not an .npz archive: it is truncated or damaged. Write it again with "
            f"numpy.savez."
        )
    with np.load(path, allow_pickle=False) as archive:
        names = list(archive.files)
        if key is None and len(names) == 1:
            key = names[0]
        if key not in names:
            asked = "several arrays" if key is None else f"no array {key!r}"
            raise ValueError(
                f"{path} holds {asked}; choose one of {', '.join(names) or 'none'} with --key."
            )
        return _load(path, lambda: archive[key])


def _load(path: Path, read: Any) -> Any:
    try:
        values = read()
    except (EOFError, OSError, ValueError, zipfile.BadZipFile) as error:
        if "allow_pickle" in str(error):
            raise ValueError(
                f"{path} holds pickled objects, which are never read because reading them can run "
                f"code: save plain numbers, numpy.asarray(X, dtype=float)."
            ) from error
        raise ValueError(
            f"{path} is truncated or damaged ({_first_line(error)}): write it again."
        ) from error
    if not isinstance(values, np.ndarray):
        raise ValueError(f"{path} holds raw bytes and no array: save the array with numpy.savez.")
    return values


def _read_csv(path: Path) -> Any:
    lines = [line for line in _text(path).splitlines() if line.split("#")[0].strip()]
    if not lines:
        raise ValueError(f"{path} is empty: pass a file with one row per sample.")
    delimiter = max(_DELIMITERS, key=lines[0].count)
    if not any(_is_number(cell) for cell in lines[0].split(delimiter)):
        lines = lines[1:]
    if not lines:
        raise ValueError(f"{path} holds a line of names and no rows: pass one row per sample.")
    try:
        return np.loadtxt(lines, delimiter=delimiter, ndmin=2)
    except ValueError as error:
        raise ValueError(
            f"{path} cannot be read as numbers ({_first_line(error).rstrip('.')}; rows are counted "
            f"after the line of names): keep numeric columns only, and a number in every cell."
        ) from error


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not UTF-8 text ({error.reason}): is it a .csv file?"
        ) from error


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__).split("; use `usecols`")[0]


def prepare_folder(path: str | os.PathLike[str]) -> Path:
    """The folder, made where it is missing, after a trial that a file can be written into it.

    Raises
    ------
    OSError
        It cannot be made or written.
    """
    folder = Path(path)
    trial = folder / f".skfisher-{os.getpid()}.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        trial.write_bytes(b"")
        trial.unlink()
    except OSError as error:
        raise OSError(
            f"the output folder {folder} cannot be written ({error.strerror}): pass another with "
            f"--out."
        ) from error
    return folder


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file whole or not at all: beside its place first, then moved there."""
    path = Path(path)
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with beside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write `json_ready(value)` as strict JSON, whole or not at all."""
    text = json.dumps(json_ready(value), indent=1, allow_nan=False)
    write_bytes(path, (text + "\n").encode())


def json_ready(value: Any) -> Any:
    """`value` in what JSON holds.

    Arrays become lists, dataclasses and mappings dictionaries, NaN None, and infinities the strings
    "inf" and "-inf", which Python's `float` reads.

    Examples
    --------
    >>> json_ready({"x": np.asarray([1.0, np.nan]), "L": float("inf")})
    {'x': [1.0, None], 'L': 'inf'}
    """
    if isinstance(value, np.generic):
        return json_ready(value.item())
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        if math.isnan(value):
            return None
        return value if math.isfinite(value) else str(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: json_ready(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(name): json_ready(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_ready(item) for item in value]
    if is_array_api_obj(value):
        return json_ready(to_numpy(value).tolist())
    raise TypeError(f"a {type(value).__name__} has no form in JSON: pass numbers, text or arrays.")


def save_tensors(path: str | os.PathLike[str], values: Mapping[str, Any]) -> None:
    """Tensors, numbers, strings and containers of them into one file, whole or not at all."""
    import torch

    buffer = io.BytesIO()
    torch.save(dict(values), buffer)
    write_bytes(path, buffer.getvalue())


def load_tensors(path: str | os.PathLike[str], device: Any, *, name: str) -> dict[str, Any]:
    """What `save_tensors` wrote, read without executing anything in the file.

    Raises
    ------
    ValueError
        Not such a file, named by the argument `name`.
    """
    import pickle

    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of other formats, refused below
            values = torch.load(path, map_location=device, weights_only=True)
    except (EOFError, RuntimeError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{name} {str(path)!r} cannot be read ({type(error).__name__}): it is damaged or was "
            f"not written by this program. Pass another path, or delete the file."
        ) from error
    if not isinstance(values, dict):
        raise ValueError(
            f"{name} {str(path)!r} holds a {type(values).__name__}: it was not written by this "
            f"program. Pass another path."
        )
    return values
