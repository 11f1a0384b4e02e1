"""Images of 32 pixels a side: Fashion-MNIST, patches of photographs, a folder of pictures.

The first two come out of Debian packages and need no hub; see `load_images`. What was made of
the files is kept in one .npz for each state of the files, so a second load is a read.
"""

from __future__ import annotations

import gzip
import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks._record import replacing
from benchmarks.zoo.config import IMAGE_SIZE

if TYPE_CHECKING:
    import torch

__all__ = ["ImageSet", "cache_folder", "load_images", "to_float", "to_uint8"]

FASHION = Path("usr/share/datasets/fashion-mnist")
PHOTOGRAPHS = Path("usr/share/backgrounds")
PACKAGES = {"fashion": "dataset-fashion-mnist", "photographs": "lomiri-wallpapers-16.04"}
# Kept outside by name: one of animals and planks, one of saturated colour, one landscape.
OUTSIDE_PICTURES = (
    "Picture_1A_by_freespace.jpg",
    "aitzgorri_by_Aitzol_Berasategi.jpg",
    "friends_by_Aitzol_Berasategi.jpg",
)
TEXTURE = 5.0  # of 255: a patch whose grey values have a smaller standard deviation is left out
SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
REFERENCE_SHARE, OUTSIDE_SHARE = 0.15, 0.05
SEED = 5
LAYOUT = 1  # of the cached files; one more whenever anything here changes what they hold


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images for training, for judging, and from elsewhere.

    Each set is in a seeded random order, so its first rows are a sample of it.

    Attributes
    ----------
    name : str
    train, reference, outside : uint8 arrays of shape (N, C, 32, 32)
        Encoders and generators see `train` alone; generated images are judged by `reference`, of
        the same origin; `outside` has another origin: the test file, or other pictures.
    train_labels, reference_labels : int64 arrays of shape (N,), or None
    """

    name: str
    train: np.ndarray
    train_labels: np.ndarray | None
    reference: np.ndarray
    reference_labels: np.ndarray | None
    outside: np.ndarray

    @property
    def channels(self) -> int:
        """One for grey, three for colour."""
        return self.train.shape[1]


def load_images(name: str, root: str | os.PathLike[str] | None = None) -> ImageSet:
    """A data set, from its files or from what an earlier call made of them.

    Parameters
    ----------
    name : str
        "fashion": Fashion-MNIST padded to 32, 50,000 of its training images to train with and
        10,000 for reference, its test images outside. "photographs": the 32-pixel squares with
        texture, 56,009 of 118,219, of fifteen wallpapers, all but two of them photographs; those
        of three pictures are outside, and every fifth of the others is reference, so a reference
        square has neighbours in training. "folder:PATH": any folder of pictures, FFHQ among them,
        each cropped at its centre and resized; 15 % for reference, 5 % outside.
    root : path, optional
        Where the Debian packages were unpacked, or else the environment's SKFISHER_ZOO_DATA, or
        else "/", where apt installs them. Not read for a folder.

    Raises
    ------
    ValueError
        If the name is not one of these, or a folder holds too few pictures.
    FileNotFoundError
        If files are missing; it says which package holds them.
    """
    if name.startswith("folder:"):
        folder = Path(name.removeprefix("folder:")).expanduser()
        files, read = _pictures(folder), _read_folder
    elif name in PACKAGES:
        root = Path(root or os.environ.get("SKFISHER_ZOO_DATA") or "/")
        files, read = _packaged(name, root), _READERS[name]
    else:
        raise ValueError(
            f"name={name!r} is no data set; it is one of {', '.join(PACKAGES)} or 'folder:PATH'"
        )
    kept = cache_folder() / f"{name.partition(':')[0]}-{_fingerprint(files)}.npz"
    if not kept.exists():
        _write(kept, read(files))
    with np.load(kept, allow_pickle=False) as arrays:
        parts = {key: arrays[key] for key in arrays.files}
    return ImageSet(
        name=name,
        train=parts["train"],
        train_labels=parts.get("train_labels"),
        reference=parts["reference"],
        reference_labels=parts.get("reference_labels"),
        outside=parts["outside"],
    )


def cache_folder() -> Path:
    """Where prepared images are kept: SKFISHER_ZOO_CACHE, or a folder of the user's cache."""
    named = os.environ.get("SKFISHER_ZOO_CACHE")
    return Path(named) if named else Path.home() / ".cache" / "skfisher-zoo"


def to_float(images: np.ndarray, device: str | torch.device = "cpu") -> torch.Tensor:
    """Bytes as float32 in [-1, 1], as networks take them."""
    import torch

    if images.dtype != np.uint8:
        raise ValueError(f"images must be uint8, got {images.dtype}; to_uint8 makes it so")
    # A copy first: torch warns of arrays that cannot be written to.
    return torch.from_numpy(np.array(images)).to(device).float().div_(127.5).sub_(1.0)


def to_uint8(images: Any) -> np.ndarray:
    """Values in [-1, 1], a tensor or an array, as bytes: clipped, then rounded."""
    if hasattr(images, "detach"):
        images = images.detach().cpu().numpy()
    wrong = int(np.size(images) - np.isfinite(images).sum())
    if wrong:
        raise ValueError(
            f"images has {wrong} values that are not finite; what drew them diverged, so draw "
            "again with a smaller learning rate or more sampling steps"
        )
    return np.rint(np.clip((images + 1.0) * 127.5, 0.0, 255.0)).astype(np.uint8)


def _read_fashion(files: Sequence[Path]) -> dict[str, np.ndarray]:
    images, labels, outside, _ = (_idx(path) for path in files)
    images, outside = _padded(images), _padded(outside)
    order = np.random.default_rng(SEED).permutation(len(images))
    train, reference = np.split(order, [len(order) * 5 // 6])
    return {
        "train": images[train],
        "train_labels": labels[train].astype(np.int64),
        "reference": images[reference],
        "reference_labels": labels[reference].astype(np.int64),
        "outside": np.random.default_rng(SEED).permutation(outside),
    }


def _idx(path: Path) -> np.ndarray:
    """The array in an idx file: two zero bytes, 8 for bytes, the number of axes, their lengths."""
    with gzip.open(path) as file:
        content = file.read()
    axes = content[3] if content[:3] == b"\x00\x00\x08" else 0
    shape = tuple(np.frombuffer(content, ">i4", axes, 4).tolist()) if axes else ()
    if not axes or len(content) != 4 + 4 * axes + int(np.prod(shape)):
        raise ValueError(f"{path} is not a whole idx file of bytes; {_unpack('fashion')}")
    return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape)


def _padded(images: np.ndarray) -> np.ndarray:
    margin = (IMAGE_SIZE - images.shape[1]) // 2
    return np.pad(images, ((0, 0), (margin, margin), (margin, margin)))[:, None]


def _read_photographs(files: Sequence[Path]) -> dict[str, np.ndarray]:
    inside, outside = [], []
    for path in files:
        patches = _patches(_opened(path))
        (outside if path.name in OUTSIDE_PICTURES else inside).append(patches)
    rng = np.random.default_rng(SEED)
    kept = np.concatenate(inside)
    fifth = np.arange(len(kept)) % 5 == 4
    return {
        "train": rng.permutation(kept[~fifth]),
        "reference": rng.permutation(kept[fifth]),
        "outside": rng.permutation(np.concatenate(outside)),
    }


def _patches(picture: np.ndarray) -> np.ndarray:
    """The squares of a picture (height, width, 3), side by side, that have texture."""
    down, across = (length // IMAGE_SIZE for length in picture.shape[:2])
    squares = picture[: down * IMAGE_SIZE, : across * IMAGE_SIZE]
    squares = squares.reshape(down, IMAGE_SIZE, across, IMAGE_SIZE, 3).transpose(0, 2, 4, 1, 3)
    squares = squares.reshape(-1, 3, IMAGE_SIZE, IMAGE_SIZE)
    grey = squares.mean(axis=1, dtype=np.float32)
    return squares[grey.std(axis=(1, 2)) >= TEXTURE]


def _read_folder(files: Sequence[Path]) -> dict[str, np.ndarray]:
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        images = np.stack(list(pool.map(_cropped, files)))
    order = np.random.default_rng(SEED).permutation(len(images))
    first, second = (round(len(order) * s) for s in (REFERENCE_SHARE, OUTSIDE_SHARE))
    reference, outside, train = np.split(order, [first, first + second])
    return {"train": images[train], "reference": images[reference], "outside": images[outside]}


def _cropped(path: Path) -> np.ndarray:
    """The largest square about the centre of a picture, resized."""
    return _opened(path, square=IMAGE_SIZE).transpose(2, 0, 1)


def _opened(path: Path, square: int | None = None) -> np.ndarray:
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as file:
            picture = ImageOps.exif_transpose(file).convert("RGB")
    except OSError as error:
        raise ValueError(f"{path} cannot be read as a picture ({error}); replace it") from error
    if square is not None:
        side = min(picture.size)
        left, top = ((length - side) // 2 for length in picture.size)
        # Cropped first: resizing by a box lets what lies outside it in at the edges.
        picture = picture.crop((left, top, left + side, top + side))
        picture = picture.resize((square, square), Image.Resampling.LANCZOS)
    return np.asarray(picture)


def _packaged(name: str, root: Path) -> list[Path]:
    """The files of a package, in the order in which they are read."""
    if name == "fashion":
        kinds = ("images-idx3", "labels-idx1")
        files = [root / FASHION / f"{s}-{k}-ubyte.gz" for s in ("train", "t10k") for k in kinds]
        missing = [path for path in files if not path.is_file()]
    else:
        folder = root / PHOTOGRAPHS
        files = sorted(folder.glob("*_by_*.jpg"))
        names = {path.name for path in files}
        missing = [folder / own for own in OUTSIDE_PICTURES if own not in names]
        if not missing and len(files) == len(OUTSIDE_PICTURES):
            missing = [folder / "*_by_*.jpg"]
    if missing:
        raise FileNotFoundError(
            f"{', '.join(map(str, missing))} not found under root={str(root)!r}; {_unpack(name)}"
        )
    return files


def _unpack(name: str) -> str:
    package = PACKAGES[name]
    return (
        f"get the Debian package with `apt-get download {package} && dpkg-deb -x {package}_*.deb "
        "FOLDER` and give FOLDER as root or in the environment's SKFISHER_ZOO_DATA"
    )


def _pictures(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder; give an existing one after 'folder:'")
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if len(files) < 20:
        raise ValueError(
            f"{folder} has {len(files)} pictures ({', '.join(SUFFIXES)}), too few to set some "
            "apart; give a folder with at least 20"
        )
    return files


def _fingerprint(files: Sequence[Path]) -> str:
    """Changes with the names, sizes and dates of the files, and with the layout of the cache."""
    digest = hashlib.sha256(f"{LAYOUT} {SEED} {TEXTURE}".encode())
    for path in files:
        facts = path.stat()
        digest.update(f"{path.resolve()} {facts.st_size} {facts.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


def _write(path: Path, arrays: dict[str, np.ndarray]) -> None:
    with replacing(path) as beside, beside.open("wb") as file:
        np.savez(file, **arrays)


_READERS: dict[str, Callable[[Sequence[Path]], dict[str, np.ndarray]]] = {
    "fashion": _read_fashion,
    "photographs": _read_photographs,
}
