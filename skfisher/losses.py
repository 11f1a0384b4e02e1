"""Differentiable penalties for training an encoder, or a decoder, in torch.

Each is a scalar tensor with gradients to whatever it was computed from, and a deterministic
function of its arguments: directions and posterior samples are drawn by the caller, among them by
`unit_directions`. A `function` maps a batch to a batch row by row, as a module in eval mode or one
without batch normalisation does; its derivatives are taken forward through it, so that gradients
reach its parameters by one backward pass.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

from skfisher._backend.jets import plain_kernels

__all__ = [
    "encoder_curvature_loss",
    "geometry_preserving_loss",
    "isometry_loss",
    "kl_to_standard_normal",
    "tangential_distortion_loss",
    "unit_directions",
]

_RETAINED = 1e-6  # singular values above this share of the largest count, as in the audit
_ORTHONORMAL = 1e-3  # error of a Gram matrix beyond which tangents are no orthonormal ones


def geometry_preserving_loss(x: Any, z: Any, *, distances: Any = None) -> Any:
    """How far a batch's distances are from those of its latents, on a logarithmic scale.

    Parameters
    ----------
    x : tensor of shape (N, ...) or None
        The batch, N >= 2, whose Euclidean distances are to be kept; None where `distances` are
        given.
    z : tensor of shape (N, ...)
        Its latents.
    distances : tensor of shape (N, N), optional
        Between the rows of x, in place of the Euclidean ones: those along the data, say, or some
        that were computed before.

    Returns
    -------
    scalar tensor

    Raises
    ------
    ValueError
        If there are fewer than two rows, or x, z and distances are not of the same rows, or both or
        neither of x and distances are given.

    Notes
    -----
    The mean over all pairs of different rows of

        (log(1 + |z - z'|^2) - log(1 + |x - x'|^2))^2

    as in Lee, Gu, Lerman and others, *Geometry-preserving encoder/decoder in latent generative
    models* (arXiv 2501.09876). It is zero iff z is a rigid image of x, as far as the batch tells.
    The 1 has the unit of x squared: distances well below it count little, those well above it by
    their ratio.

    Examples
    --------
    A segment of length 3 that is shortened to 1:

    >>> import torch
    >>> from skfisher.losses import geometry_preserving_loss
    >>> x = torch.tensor([[0.0, 0.0], [3.0, 0.0]])
    >>> z = torch.tensor([[0.0], [1.0]])
    >>> loss = geometry_preserving_loss(x, z)
    >>> round(loss.item(), 4), round(torch.log(torch.tensor(5.0)).item() ** 2, 4)
    (2.5903, 2.5903)
    """
    import torch

    n = len(z)
    if n < 2:
        raise ValueError(f"z has {n} row(s), and a distance needs two: pass a larger batch.")
    if (x is None) == (distances is None):
        given = "neither" if x is None else "both"
        raise ValueError(f"x and distances: {given} given; pass exactly one of them.")
    first, second = torch.triu_indices(n, n, offset=1, device=z.device)
    if distances is None:
        if len(x) != n:
            raise ValueError(f"x has {len(x)} rows and z has {n}: pass the latents of x.")
        theirs = _squared_distances(x, first, second)
    else:
        if distances.shape != (n, n):
            raise ValueError(
                f"distances has shape {tuple(distances.shape)}, and z has {n} rows: pass ({n}, {n})"
                f" of them."
            )
        theirs = distances[first, second].square()
    ours = _squared_distances(z, first, second)
    return (torch.log1p(ours) - torch.log1p(theirs)).square().mean()


def _squared_distances(x: Any, first: Any, second: Any) -> Any:
    """By differences: exact for near rows, and differentiable as often as one likes."""
    flat = x.flatten(1)
    return (flat[first] - flat[second]).square().sum(1)


def isometry_loss(function: Callable[[Any], Any], x: Any, directions: Any) -> Any:
    """Relative variance of squared stretches: zero iff a local isometry up to one scale.

    Parameters
    ----------
    function : callable
        Tensor (N, ...) to tensor (N, ...), row by row.
    x : tensor of shape (N, ...)
    directions : tensor of the shape of x
        Of unit length, one for each row, uniform among its tangents: see `unit_directions`.

    Returns
    -------
    scalar tensor

    Raises
    ------
    ValueError
        If directions and x differ in shape.

    Notes
    -----
    With Q = |Df(x) u|^2, over the batch,

        E Q^2 / (E Q)^2 - 1.

    In k dimensions its expectation is k E(2 tr G^2 + (tr G)^2) / ((k + 2) (E tr G)^2) - 1, with G =
    Df^T Df on the tangents; a batch of N rows changes it by O(1 / N). It costs one Jacobian-vector
    product per row whatever k is, where `tangential_distortion_loss` takes k. For a linear map with
    singular values (1, 2, 4): 12/35. Neither rotations nor a global scale change it.

    Examples
    --------
    >>> import torch
    >>> from skfisher.losses import isometry_loss, unit_directions
    >>> x = torch.zeros(20_000, 3, dtype=torch.float64)
    >>> u = unit_directions(x, generator=torch.Generator().manual_seed(0))
    >>> isometry_loss(lambda x: 5 * x.flip(1), x, u).item() < 1e-12
    True
    >>> stretched = isometry_loss(lambda x: x * torch.tensor([1.0, 2.0, 4.0]), x, u)
    >>> round(stretched.item(), 2), round(12 / 35, 2)
    (0.34, 0.34)
    """
    _check_directions(x, directions)
    _, first = _pushed(function, x, directions)
    squares = first.flatten(1).square().sum(1)
    return squares.square().mean() / squares.mean().square() - 1


def tangential_distortion_loss(function: Callable[[Any], Any], x: Any, tangents: Any = None) -> Any:
    """Spread of the log singular values along the data: the audit's tangential distortion.

    Parameters
    ----------
    function : callable
        Tensor (N, ...) to tensor (N, ...), row by row.
    x : tensor of shape (N, ...)
    tangents : tensor of shape (N, k, ...), optional
        Orthonormal tangents of the data at each row, in the shape of a row. None takes all
        directions; k of them chosen at random see the distortion within their own span.

    Returns
    -------
    scalar tensor

    Raises
    ------
    ValueError
        If tangents do not go with x, or are not orthonormal, or the function is constant.

    Notes
    -----
    With B = Df U, G = B^T B and c^2 one scale for the batch, log c^2 = E tr log G / rank,

        E |log(G / c^2)|_F^2 / rank,

    over singular values of B above 1e-6 of the largest; those below have no gradient, so a lost
    direction stays lost. Zero iff a local isometry up to one scale. It takes k Jacobian-vector
    products per row.

    Examples
    --------
    >>> import torch
    >>> from skfisher.losses import tangential_distortion_loss
    >>> stretch = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)
    >>> x = torch.zeros(5, 3, dtype=torch.float64)
    >>> round(tangential_distortion_loss(lambda x: x * stretch, x).item(), 2)
    1.28
    """
    import torch

    n, entries = len(x), math.prod(x.shape[1:])
    if tangents is None:
        identity = torch.eye(entries, dtype=x.dtype, device=x.device)
        tangents = identity.reshape(1, entries, *x.shape[1:]).expand(n, entries, *x.shape[1:])
    else:
        _check_tangents(x, tangents)
    k = tangents.shape[1]
    points = x.repeat_interleave(k, dim=0)
    _, first = _pushed(function, points, tangents.reshape(points.shape))
    s = torch.linalg.svdvals(first.reshape(n, k, -1))
    retained = s > _RETAINED * s.detach().max()
    rank = retained.sum(1)
    if not bool(rank.any()):
        raise ValueError(
            "function has no derivative along any tangent: train it on something else first, or "
            "look for a detach in it."
        )
    logs = 2 * torch.log(torch.where(retained, s, torch.ones_like(s)))
    alive = rank > 0
    log_scale = (logs.sum(1)[alive] / rank[alive]).mean()
    off = torch.where(retained, logs - log_scale, torch.zeros_like(s))
    return (off.square().sum(1)[alive] / rank[alive]).mean()


def encoder_curvature_loss(
    function: Callable[[Any], Any], x: Any, directions: Any, accelerations: Any = None
) -> Any:
    """Squared curvature of the images of the data's geodesics: the audit's encoder curvature.

    Parameters
    ----------
    function : callable
        Tensor (N, ...) to tensor (N, ...), row by row; twice differentiable, which a piecewise
        linear network is only in name.
    x : tensor of shape (N, ...)
    directions : tensor of the shape of x
        Of unit length, one for each row, uniform among its tangents: see `unit_directions`.
    accelerations : tensor of the shape of x, optional
        II(u, u), of the data's geodesic that leaves x along u. None for flat data.

    Returns
    -------
    scalar tensor

    Raises
    ------
    ValueError
        If directions or accelerations and x differ in shape.

    Notes
    -----
    With a(u) = D^2 f[u, u] + Df II(u, u),

        E |a(u)|^2 / |Df u|^4,

    in units of one over the latent's squared; times the latent's mean squared radius, tr Cov, it is
    free of scale. A plane rolled on a cylinder of radius r has 3 / (8 r^2), any affine map 0 on
    flat data. It costs about two Jacobian-vector products per row.

    Examples
    --------
    >>> import math
    >>> import torch
    >>> from skfisher.losses import encoder_curvature_loss
    >>> def roll(x, r=2.0):
    ...     angle, height = x[:, 0] / r, x[:, 1]
    ...     return torch.stack([r * angle.cos(), r * angle.sin(), height], dim=1)
    >>> angles = torch.arange(8, dtype=torch.float64) * math.pi / 8
    >>> u = torch.stack([angles.cos(), angles.sin()], dim=1)
    >>> round(encoder_curvature_loss(roll, torch.zeros_like(u), u).item(), 5), 3 / (8 * 2**2)
    (0.09375, 0.09375)
    """
    _check_directions(x, directions)

    def along(y: Any) -> Any:
        return _pushed(function, y, directions)[1]

    first, second = _pushed(along, x, directions)
    if accelerations is not None:
        _check_directions(x, accelerations, "accelerations")
        second = second + _pushed(function, x, accelerations)[1]
    speed = first.flatten(1).square().sum(1)
    return (second.flatten(1).square().sum(1) / speed.square()).mean()


def kl_to_standard_normal(mean: Any, log_variance: Any) -> Any:
    """Kullback-Leibler divergence of diagonal Gaussian posteriors from N(0, I), in nats.

    Parameters
    ----------
    mean, log_variance : tensors of shape (N, ...)
        Of the posterior of each row.

    Returns
    -------
    scalar tensor
        Summed over the entries of a row and averaged over rows.

    Raises
    ------
    ValueError
        If the shapes differ.

    Notes
    -----
    sum (mean^2 + exp(log_variance) - 1 - log_variance) / 2. Its mean over the data is an upper
    bound of the mutual information of data and sampled latent.

    Examples
    --------
    >>> import torch
    >>> from skfisher.losses import kl_to_standard_normal
    >>> kl_to_standard_normal(torch.tensor([[1.0, 2.0]]), torch.zeros(1, 2)).item()
    2.5
    """
    import torch

    if mean.shape != log_variance.shape:
        raise ValueError(
            f"mean has shape {tuple(mean.shape)} and log_variance {tuple(log_variance.shape)}: "
            f"pass both of every entry."
        )
    terms = mean.square() + torch.expm1(log_variance) - log_variance
    return 0.5 * terms.flatten(1).sum(1).mean()


def unit_directions(x: Any, *, tangents: Any = None, generator: Any = None) -> Any:
    """One direction of unit length for each row, uniform among its tangents.

    Parameters
    ----------
    x : tensor of shape (N, ...)
    tangents : tensor of shape (N, k, ...), optional
        Orthonormal tangents of the data at each row; None takes all directions.
    generator : torch.Generator, optional
        On the device of x; None draws from torch's own.

    Returns
    -------
    tensor of the shape of x
        Without gradients.

    Raises
    ------
    ValueError
        If tangents do not go with x or are not orthonormal.

    Examples
    --------
    >>> import torch
    >>> from skfisher.losses import unit_directions
    >>> u = unit_directions(torch.zeros(4, 3, 8, 8), generator=torch.Generator().manual_seed(0))
    >>> u.shape, torch.allclose(u.flatten(1).norm(dim=1), torch.ones(4))
    (torch.Size([4, 3, 8, 8]), True)
    """
    import torch

    if tangents is not None:
        _check_tangents(x, tangents)
    shape = x.shape if tangents is None else tangents.shape[:2]
    draws = torch.randn(shape, generator=generator, dtype=x.dtype, device=x.device)
    draws = draws.flatten(1)
    draws = draws / draws.norm(dim=1, keepdim=True)
    if tangents is None:
        return draws.reshape(x.shape)
    flat = tangents.detach().flatten(2)
    return (draws[:, None, :] @ flat).reshape(x.shape)


def _pushed(function: Callable[[Any], Any], x: Any, v: Any) -> tuple[Any, Any]:
    """f(x) and Df(x) v, row by row."""
    import torch

    with plain_kernels(), warnings.catch_warnings():
        # torch 2.13 compiles some forward derivatives by its deprecated torch.jit.script
        warnings.filterwarnings("ignore", "`torch.jit", DeprecationWarning)
        value, pushed = torch.func.jvp(function, (x,), (v,))
    return value, pushed


def _check_directions(x: Any, directions: Any, name: str = "directions") -> None:
    if directions.shape != x.shape:
        raise ValueError(
            f"{name} has shape {tuple(directions.shape)} and x {tuple(x.shape)}: pass one for each "
            f"row of x, in its shape."
        )


def _check_tangents(x: Any, tangents: Any) -> None:
    import torch

    if tangents.ndim != x.ndim + 1 or tangents.shape[:1] + tangents.shape[2:] != x.shape:
        raise ValueError(
            f"tangents has shape {tuple(tangents.shape)} and x {tuple(x.shape)}: pass (N, k, ...) "
            f"of them, each in the shape of a row of x."
        )
    flat = tangents.detach().flatten(2)
    gram = flat @ flat.transpose(1, 2)
    error = float((gram - torch.eye(flat.shape[1], dtype=x.dtype, device=x.device)).abs().max())
    if not error < _ORTHONORMAL:
        raise ValueError(
            f"tangents are not orthonormal (their inner products are off by {error:.2g}): pass Q "
            f"of torch.linalg.qr of their columns."
        )
