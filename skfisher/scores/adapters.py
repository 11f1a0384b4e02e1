"""Networks of any convention as score models, over arrays of any library.

What a network sees and says is brought to (y, sigma) by `skfisher.scores.dressed`; here it meets
arrays, noise levels that it may not know, and the linearisation.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from skfisher._backend.arrays import Array, namespace
from skfisher._backend.linearize import TensorFunction
from skfisher._backend.validation import as_sigma
from skfisher.exceptions import UnreliableEstimateWarning
from skfisher.noise import NoisePath, VarianceExploding
from skfisher.scores.dressed import (
    DressedNetwork,
    check_convention,
    evaluating,
    module_of,
    name_of,
    placed_conditioning,
    plain_call,
)

__all__ = ["AdaptedScore", "from_denoiser", "from_module"]


class AdaptedScore:
    """Score model around a differentiable torch function.

    Built by `from_module`, `from_denoiser` and `from_diffusers`. Points come in as (m, n) arrays of
    any library, or as ``(m, *latent_shape)`` where a shape is known; answers have the shape,
    library, dtype and device of the points, half precision excepted, which is answered in float32.

    Parameters
    ----------
    fn : callable
        ``fn(y, sigma)`` maps a tensor (m, n) to the score there, rows independent of each other.
    module : object
        What is set to eval mode while it is called, if it is a torch module; `name` is its class.
    device, dtype : torch.device, torch.dtype
        In which `fn` computes.
    latent_shape : tuple of int, optional
        Shape of one point, (C, H, W) for images.
    sigma_range : tuple of float
        Noise levels that the network knows, in units of y. A level outside is answered by NaN,
        which marks it in a curve, and warned of once.
    mode, max_rows, autocast, compile
        Of the linearisation, see `from_module`.

    Attributes
    ----------
    name : str
    n_features : int
        Set where `latent_shape` is.
    latent_shape, sigma_range
        As given.
    rescales : bool
        Whether points are brought to the network's own units, so that y is in others.
    """

    n_features: int

    def __init__(
        self,
        fn: Callable[[Any, float], Any],
        module: Any,
        *,
        device: Any,
        dtype: Any,
        latent_shape: tuple[int, ...] | None = None,
        sigma_range: tuple[float, float] = (0.0, math.inf),
        mode: str = "auto",
        max_rows: int | None = None,
        autocast: Any = None,
        compile: bool = False,
    ) -> None:
        self.module = module
        self.name = name_of(module)
        self.latent_shape = latent_shape
        if latent_shape is not None:
            self.n_features = math.prod(latent_shape)
        self.sigma_range = sigma_range
        scale, shift = getattr(fn, "scale", 1.0), getattr(fn, "shift", 0.0)
        self.rescales = scale != 1.0 or not isinstance(shift, (int, float)) or shift != 0.0
        self._warned = False
        self._function = TensorFunction(
            fn,
            device=device,
            dtype=dtype,
            mode=mode,
            max_rows=max_rows,
            autocast=autocast,
            compile=compile,
        )

    @property
    def precision(self) -> float | None:
        """Machine epsilon of the network's numbers."""
        return self._function.precision

    @property
    def linearization(self) -> Any:
        """How Jacobian products are taken, and why so."""
        return self._function.linearization

    def __sklearn_clone__(self) -> AdaptedScore:
        """The model itself: it was trained elsewhere."""
        return self

    def __repr__(self) -> str:
        low, high = self.sigma_range
        shape = "" if self.latent_shape is None else f", latent_shape={self.latent_shape}"
        return f"AdaptedScore({self.name}, sigma from {low:.4g} to {high:.4g}{shape})"

    def __call__(self, y: Array, sigma: float) -> Array:
        """Score at each point, in 1/units of y."""
        return self._run(self._function.value, 1, sigma, y)[0]

    def jvp(self, y: Array, sigma: float, v: Array) -> tuple[Array, Array]:
        """Score and Jacobian products H v (H^T v in reverse mode), each in the shape of `y`."""
        score, product = self._run(self._function.jvp, 2, sigma, y, v)
        return score, product

    def both(self, y: Array, sigma: float, v: Array) -> tuple[Array, Array, Array]:
        """Score, H v and H^T v, which differ by the asymmetry of the network's Jacobian."""
        score, forward, reverse = self._run(self._function.both, 3, sigma, y, v)
        return score, forward, reverse

    def _run(
        self, method: Callable[..., Any], n_results: int, sigma: float, *arrays: Array
    ) -> list[Array]:
        level = as_sigma(sigma)
        shape = tuple(arrays[0].shape)
        rows, *vectors = (self._rows(array) for array in arrays)
        xp = namespace(rows)
        if not self._knows(level):
            return [xp.reshape(xp.full_like(rows, math.nan), shape)] * n_results
        with evaluating(self.module):
            results = method(rows, level, *vectors)
        return [xp.reshape(part, shape) for part in ([results] if n_results == 1 else results)]

    def _rows(self, y: Array) -> Array:
        """`y` as a matrix in single precision or better."""
        xp = namespace(y)
        shape = tuple(y.shape)
        whole = None if self.latent_shape is None else (shape[0], *self.latent_shape)
        if shape != whole and (y.ndim != 2 or (whole and shape[1] != self.n_features)):
            image = ", ".join(map(str, self.latent_shape or ()))
            wanted = f"(m, {self.n_features}) or (m, {image})" if whole else "(m, n)"
            cure = "reshape the points" if whole else "reshape, or pass the adapter a latent_shape"
            raise ValueError(f"y has shape {shape} but {self.name} takes {wanted}: {cure}.")
        if xp.finfo(y.dtype).bits < 32:
            y = xp.astype(y, xp.float32)
        return y if y.ndim == 2 else xp.reshape(y, (shape[0], -1))

    def _knows(self, sigma: float) -> bool:
        low, high = self.sigma_range
        if low * (1 - 1e-12) <= sigma <= high * (1 + 1e-12):
            return True
        if not self._warned:
            self._warned = True
            warnings.warn(
                f"sigma is {sigma:.6g} but {self.name} knows noise from sigma {low:.6g} to "
                f"{high:.6g}: its score there is NaN, which marks the level as not valid. Keep "
                f"noise_levels inside by 0.2 %, a rate looks to both sides of its level.",
                UnreliableEstimateWarning,
                stacklevel=4,
            )
        return False


def from_module(
    network: Any,
    *,
    prediction: str,
    path: NoisePath,
    conditioning: Mapping[str, Any] | None = None,
    call: Callable[..., Any] | None = None,
    time: str | Callable[[float], float] = "time",
    integer_time: bool = False,
    time_dtype: Any = None,
    latent_shape: tuple[int, ...] | None = None,
    learned_variance: bool = False,
    scale: float = 1.0,
    shift: Any = 0.0,
    sigma_range: tuple[float, float] | None = None,
    device: Any = None,
    dtype: Any = None,
    mode: str = "auto",
    max_rows: int | None = None,
    autocast: Any = None,
    compile: bool = False,
) -> AdaptedScore:
    """Score model from a torch callable or module in a declared convention.

    Parameters
    ----------
    network : callable
        ``network(x, time, **conditioning)`` with x of shape (m, n), or ``(m, *latent_shape)``, and
        time of shape (m,); returns a tensor of the shape of x, an object with a tensor `sample`, or
        a tuple that starts with one. A module is evaluated in eval mode and left as it was.
    prediction : str
        What it predicts: a kind of `skfisher.noise.score_from_prediction` ("epsilon", "x0",
        "denoiser", "v", "velocity", "velocity_to_data"); "score", the score in the path's own
        variable x; or "edm", the raw output of a network inside EDM's preconditioning, on the path
        `skfisher.noise.EDM` ("v" is there its negative).
    path : NoisePath
        How its x was made from clean points and noise, and what its time means.
    conditioning : mapping, optional
        Keyword arguments of every call. Arrays and tensors in it, also inside dicts and tuples,
        have a leading dimension of 1, which is expanded to the rows at hand: one score model is the
        score under one condition. What is no array is passed as it stands.
    call : callable, optional
        ``call(network, x, time, **conditioning)`` in the place of the plain call, for networks that
        take their arguments otherwise.
    time : {"time", "sigma", "log_sigma"} or callable
        What the network is told: the path's own clock, sigma, its logarithm, or ``time(sigma)``;
        sigma in the network's units.
    integer_time : bool
        The network embeds whole time steps only (a table of embeddings; `path` is a `DiscreteVP` or
        `DiscreteVE`). Between two steps what it says of the noise there is interpolated linearly
        in log sigma, for twice the calls. Without it the time is passed as a real number, which
        sinusoidal embeddings take.
    time_dtype : torch.dtype, optional
        Of the time, by default that of the network.
    latent_shape : tuple of int, optional
        Shape of one point where the network wants other than vectors, (C, H, W) for images.
    learned_variance : bool
        The network returns twice the channels of x, the second half about the variance, which is
        dropped.
    scale, shift : float
        The network's units are z = scale (y - shift). `shift` may be one number per channel. A
        latent as the autoencoder returns it has the `scaling_factor` and `shift_factor` of the
        autoencoder.
    sigma_range : tuple of float, optional
        Noise levels in units of y that the network was trained for, where narrower than the path's.
    device : torch.device or str, optional
        Where its inputs belong, by default where its parameters lie.
    dtype : torch.dtype, optional
        Of its inputs, by default that of its parameters (torch's default without any).
    mode : {"auto", "forward", "reverse", "differences"}
        How Jacobian products are taken.
    max_rows : int, optional
        Most rows in one call.
    autocast : torch.dtype, optional
        Run under automatic mixed precision.
    compile : bool
        Run under `torch.compile`.

    Returns
    -------
    AdaptedScore
        Points, noise levels and scores are in units of y.

    Raises
    ------
    TypeError
        `network` is not callable, `path` is no noise path, or (when called) the network's answer
        holds no tensor.
    ValueError
        A prediction, clock or combination of them that is none; conditioning with one row per
        point; a shape without channels for `shift`; parameters on several devices; or (when
        called) an answer of another shape than x.

    Examples
    --------
    The exact noise of standard normal data on the variance-preserving path, where the score of
    y is -y / (1 + sigma^2):

    >>> import numpy as np
    >>> from skfisher.noise import LinearVP
    >>> def noise(x, time):
    ...     b = (-(time * (0.1 + 9.95 * time)).neg().expm1()).sqrt()
    ...     return b[:, None] * x
    >>> model = from_module(noise, prediction="epsilon", path=LinearVP())
    >>> print(model(np.asarray([[4.0, 0.0]]), 1.0).round(4))
    [[-2. -0.]]
    """
    if not callable(network):
        raise TypeError(f"network is a {type(network).__name__}: pass a torch module or function.")
    check_convention(prediction, path, time, integer_time)
    import torch

    device, dtype = _placement(network, device, dtype)
    scale = as_sigma(scale, name="scale")
    low, high = (sigma / scale for sigma in path.sigma_range)
    if sigma_range is not None:
        low, high = max(low, float(sigma_range[0])), min(high, float(sigma_range[1]))
        if not low < high:
            raise ValueError(
                f"sigma_range is {tuple(sigma_range)} but {type(path).__name__} covers "
                f"{path.sigma_range} in units {scale} times those of y: they do not overlap."
            )
    if latent_shape is not None:
        latent_shape = tuple(int(length) for length in latent_shape)
    dressed = DressedNetwork(
        network=network,
        call=plain_call if call is None else call,
        prediction=prediction,
        path=path,
        time=time,
        integer_time=integer_time,
        latent_shape=latent_shape,
        learned_variance=learned_variance,
        conditioning=placed_conditioning(conditioning or {}, "conditioning", device, dtype),
        dtype=dtype,
        time_dtype=torch.int64 if integer_time else time_dtype or dtype,
        working_dtype=torch.promote_types(dtype, torch.float32),
        scale=scale,
        shift=_shift_of(shift, latent_shape, device, torch.promote_types(dtype, torch.float32)),
    )
    return AdaptedScore(
        dressed,
        network,
        device=device,
        dtype=dtype,
        latent_shape=latent_shape,
        sigma_range=(low, high),
        mode=mode,
        max_rows=max_rows,
        autocast=autocast,
        compile=compile,
    )


def from_denoiser(
    denoiser: Any,
    *,
    sigma_range: tuple[float, float] | None = None,
    **options: Any,
) -> AdaptedScore:
    """Score model from a denoiser D(y, sigma), as EDM and k-diffusion write them.

    Parameters
    ----------
    denoiser : callable
        ``denoiser(y, sigma, **conditioning)`` with sigma of shape (m,) returns the mean of the
        clean point given y = x0 + sigma eps, preconditioning included.
    sigma_range : tuple of float, optional
        Noise levels it was trained for, by default its attributes `sigma_min` and `sigma_max`
        where it has them.
    **options
        `conditioning`, `latent_shape`, `scale`, `mode` and so on, as for `from_module`.

    Returns
    -------
    AdaptedScore

    Raises
    ------
    TypeError, ValueError
        As `from_module` does.

    Examples
    --------
    >>> import numpy as np
    >>> model = from_denoiser(lambda y, sigma: y / (1 + sigma[:, None] ** 2))
    >>> print(model(np.asarray([[4.0]]), 1.0))
    [[-2.]]
    """
    if sigma_range is None and hasattr(denoiser, "sigma_min") and hasattr(denoiser, "sigma_max"):
        sigma_range = float(denoiser.sigma_min), float(denoiser.sigma_max)
    return from_module(
        denoiser,
        prediction="denoiser",
        path=VarianceExploding(),
        sigma_range=sigma_range,
        **options,
    )


def _shift_of(shift: Any, latent_shape: tuple[int, ...] | None, device: Any, dtype: Any) -> Any:
    """`shift` as a number, or one for each coordinate from one for each channel."""
    import torch

    values = torch.as_tensor(shift, dtype=dtype, device=device)
    if not bool(torch.isfinite(values).all()):
        raise ValueError(f"shift is {shift}: pass finite numbers in units of y.")
    if values.ndim == 0:
        return float(values)
    if latent_shape is None or values.shape != latent_shape[:1]:
        raise ValueError(
            f"shift has shape {tuple(values.shape)} but latent_shape is {latent_shape}: pass one "
            f"number, or one per channel."
        )
    return values.repeat_interleave(math.prod(latent_shape[1:]))


def _placement(network: Any, device: Any, dtype: Any) -> tuple[Any, Any]:
    """Device and dtype of a network's inputs."""
    import torch

    module = module_of(network)
    held = [] if module is None else [*module.parameters(), *module.buffers()]
    if device is None:
        devices = sorted({str(tensor.device) for tensor in held})
        if len(devices) > 1 or devices == ["meta"]:
            raise ValueError(
                f"the parameters of {type(module).__name__} lie on {', '.join(devices)}: move it "
                f"to one device with .to(device), or, if it moves its data between them by itself, "
                f"pass device= where its input belongs."
            )
        device = held[0].device if held else "cpu"
    if dtype is None:
        floating = [tensor.dtype for tensor in held if tensor.is_floating_point()]
        own = getattr(module, "dtype", None)
        dtype = own if isinstance(own, torch.dtype) else (*floating, torch.get_default_dtype())[0]
    if not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise ValueError(f"dtype is {dtype}: pass a real floating dtype of torch.")
    return torch.device(device), dtype
