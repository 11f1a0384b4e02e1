"""Torch modules as encoders: in batches, in eval mode, without gradients, and left as they were."""

from __future__ import annotations

import inspect
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from array_api_compat import device, is_torch_array
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.metaestimators import available_if

from skfisher._backend.arrays import Array, namespace
from skfisher._backend.draws import normal
from skfisher._backend.jets import tensor_jet, tensor_pullback
from skfisher._backend.tensors import from_tensor, to_tensor
from skfisher.channels import check_latent_shape, flatten_latents, latent_normalization, per_feature

__all__ = ["Jet", "TorchEncoder", "is_torch_encoder"]

_POSTERIOR = 801  # stream of the draws from the posterior


def is_torch_encoder(encoder: Any) -> bool:
    """Whether `encoder` takes tensors: a torch module without `transform`, or a method of one."""
    torch = sys.modules.get("torch")
    if torch is None or isinstance(encoder, type):
        return False
    owner = getattr(encoder, "__self__", encoder)
    return isinstance(owner, torch.nn.Module) and not hasattr(encoder, "transform")


def _can_decode(encoder: TorchEncoder) -> bool:
    if hasattr(encoder.module, "decode"):
        return True
    raise AttributeError(
        f"{type(encoder.module).__name__} has no decode: TorchEncoder has inverse_transform only "
        f"where its module has."
    )


class TorchEncoder(TransformerMixin, BaseEstimator):
    """A torch module as an encoder of the rows of X, used as it stands.

    It is evaluated in batches, in eval mode and without gradients. The training flag of every
    submodule, the device and torch's random state are afterwards what they were, after an exception
    too; parameters, buffers and their `requires_grad` are not touched.

    Parameters
    ----------
    module : torch.nn.Module or callable
        An autoencoder of diffusers, any module, a bound method of one, or a function of tensors.
    method : str, default=None
        What to call: None is "encode" where the module has it, otherwise its forward.
    posterior : {"mean", "sample"}, default=None
        What to take where the module returns a distribution; it has to be chosen then. A pair of
        equal shapes is a mean and a log-variance. Samples are drawn by skfisher from `seed`: row i
        of a call has the same noise whatever the size of a batch.
    input_shape : tuple of int, default=None
        (C, H, W) in which the module is given each row of a two-dimensional X; None gives rows as
        they are.
    batch_size : int, default=64
        Rows at a time; halved where memory runs out.
    device : str or torch.device, default=None
        Where to evaluate; the module is moved there for the call. "auto" is CUDA where there is
        one. None is where the module lies, and then a tensor X has to lie there too.
    dtype : {"float16", "bfloat16"}, default=None
        Autocast to this precision; None computes in the module's own.
    scaled : bool, default=False
        Apply the module's `scaling_factor`, `shift_factor`, `latents_mean` and `latents_std` as its
        pipeline does: ``(z - shift) * scale``, see `skfisher.channels.latent_normalization`.
    seed : int, default=0
        Of the posterior samples.

    Attributes
    ----------
    latent_shape_ : tuple of int
        (C, H, W) or (d,): of one latent, after the first call.
    batch_size_ : int
        Rows at a time that memory allowed in the last call.
    rounding_ : float
        Relative rounding error of the dtype in which the last call was computed.
    normalization_ : tuple
        (shift, scale) that were applied; (0.0, 1.0) without `scaled`.

    Notes
    -----
    `sklearn.base.clone` returns the encoder itself, so neither a search nor a pipeline copies the
    module; `fit` does nothing. A search over its own parameters would set them in the one object:
    search over several encoders instead (``{"encoder": [TorchEncoder(a), TorchEncoder(b)]}``).

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from skfisher.encoders import TorchEncoder
    >>> convolution = torch.nn.Conv2d(1, 2, kernel_size=2, stride=2)
    >>> encoder = TorchEncoder(convolution, input_shape=(1, 8, 8))
    >>> encoder.transform(np.zeros((10, 64))).shape, encoder.latent_shape_
    ((10, 32), (2, 4, 4))
    >>> encoder(np.zeros((10, 1, 8, 8))).shape
    (10, 2, 4, 4)
    """

    def __init__(
        self,
        module: Any,
        *,
        method: str | None = None,
        posterior: str | None = None,
        input_shape: tuple[int, ...] | None = None,
        batch_size: int = 64,
        device: Any = None,
        dtype: Any = None,
        scaled: bool = False,
        seed: int = 0,
    ) -> None:
        self.module = module
        self.method = method
        self.posterior = posterior
        self.input_shape = input_shape
        self.batch_size = batch_size
        self.device = device
        self.dtype = dtype
        self.scaled = scaled
        self.seed = seed

    def __sklearn_clone__(self) -> TorchEncoder:
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __repr__(self) -> str:
        signature = inspect.signature(type(self)).parameters
        given = [
            f"{name}={getattr(self, name)!r}"
            for name, parameter in signature.items()
            if name != "module" and getattr(self, name) != parameter.default
        ]
        return f"TorchEncoder({', '.join([_name_of(self.module), *given])})"

    def fit(self, X: Any = None, y: Any = None) -> TorchEncoder:
        """Return the encoder: the module is used as it stands."""
        return self

    def transform(self, X: Any) -> Array:
        """Latents of the rows of X.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, C, ...)
            Of any array library.

        Returns
        -------
        array of shape (n_samples, n_latent) or (n_samples, C, ...)
            Two-dimensional where X is; in X's library, device and dtype, float32 at least.

        Raises
        ------
        TypeError
            A module that cannot be called; an output that is no latent.
        ValueError
            A parameter out of its range, an `input_shape` that does not fit X, X on another device
            than the module, an output that is a distribution without `posterior`, that is not one
            latent per row, or that is not the same twice.
        """
        rows, own_shape = flatten_latents(X)
        given = self._given_shape(rows.shape[1], own_shape)
        self._check_parameters()
        function, owner = self._function(self.method or _default_method(self.module))

        def encode(batch: Any, start: int) -> Any:
            inputs = batch.reshape(batch.shape[0], *given)
            if start == 0:
                self._refuse_its_own_draws(function, inputs[:1])
            return self._latent(function(inputs), batch.shape[0], start)

        Z = self._in_batches(encode, rows, owner)
        self.latent_shape_ = tuple(int(size) for size in Z.shape[1:])
        xp = namespace(rows)
        latent = from_tensor(Z.reshape(Z.shape[0], -1), rows)
        self.normalization_: tuple[Any, Any] = (0.0, 1.0)
        if self.scaled:
            self.normalization_ = self._factors()
            latent = (latent - self._column(0, latent)) * self._column(1, latent)
        if own_shape is None:
            return latent
        return xp.reshape(latent, (rows.shape[0], *self.latent_shape_))

    def __call__(self, X: Any) -> Array:
        """The same as `transform`."""
        return self.transform(X)

    @available_if(_can_decode)
    def inverse_transform(self, Z: Any) -> Array:
        """Data from latents, by the module's `decode`; `scaled` latents are scaled back first.

        Parameters
        ----------
        Z : array-like of shape (n_samples, n_latent) or (n_samples, C, ...)

        Returns
        -------
        array of shape (n_samples, n_features) or (n_samples, C, ...)
            Two-dimensional where Z is.

        Raises
        ------
        ValueError
            Two-dimensional Z before the first `transform`, which tells their shape.
        """
        rows, own_shape = flatten_latents(Z, name="Z")
        shape = own_shape or getattr(self, "latent_shape_", None)
        if shape is None:
            raise ValueError(
                "Z is two-dimensional and the shape of a latent is not known yet: call transform "
                "first, or pass Z as (n_samples, C, H, W)."
            )
        check_latent_shape(shape, rows.shape[1])
        self._check_parameters()
        self.latent_shape_ = shape
        if self.scaled:
            self.normalization_ = self._factors()
            rows = rows / self._column(1, rows) + self._column(0, rows)
        function, owner = self._function("decode")

        def decode(batch: Any, _: int) -> Any:
            found = function(batch.reshape(batch.shape[0], *shape))
            if isinstance(found, (tuple, list)):
                found = found[0]
            found = getattr(found, "sample", found)
            return self._checked(found, batch.shape[0])

        data = self._in_batches(decode, rows, owner)
        back = from_tensor(data.reshape(data.shape[0], -1), rows)
        return back if own_shape is None else namespace(back).reshape(back, tuple(data.shape))

    # -- derivatives ---------------------------------------------------------------------------

    def jet(self, X: Any, V: Any, *, order: int = 2, mode: str | None = None) -> Jet:
        """Latents of rows and their directional derivatives, exact in the module's precision.

        Parameters
        ----------
        X : array of shape (A, D)
        V : array of shape (A, p, D)
            Directions at each row.
        order : {1, 2}
        mode : str, optional
            One that an earlier call has found; None tries what works.

        Returns
        -------
        Jet

        Raises
        ------
        ValueError
            Random latents (`posterior="sample"`, or a module that draws by itself), an order other
            than 1 and 2, shapes that do not fit.
        NotImplementedError
            No mode of torch's automatic differentiation works with the module.

        Notes
        -----
        Autocast (`dtype`) is left out: derivatives in half precision are noise.
        """
        if order not in (1, 2):
            raise ValueError(f"order is {order!r}: choose 1 or 2.")
        with self._differentiable(X) as (fn, x, rows):
            v = to_tensor(V, x.device, x.dtype)
            if v.ndim != 3 or (v.shape[0], v.shape[2]) != tuple(x.shape) or v.shape[1] == 0:
                raise ValueError(
                    f"V has shape {tuple(v.shape)} for X of shape {tuple(x.shape)}: pass "
                    f"(n_rows, n_directions, n_features), with at least one direction."
                )
            found = tensor_jet(fn, x, v, order=order, mode=mode)
        shift, scale = self._affine_of(rows)
        value = from_tensor(found.value, rows)
        first = from_tensor(found.first, rows)
        second = None if found.second is None else from_tensor(found.second, rows)
        return Jet(
            value=(value - shift) * scale,
            first=first * scale,
            second=None if second is None else second * scale,
            mode=found.mode,
            failures=found.failures,
            rounding=float(_finfo(x).eps),
        )

    def pullback(self, X: Any, W: Any) -> Array:
        """Products Df(x)^T w of the transposed Jacobian, by reverse mode.

        Parameters
        ----------
        X : array of shape (A, D)
        W : array of shape (A, p, d)

        Returns
        -------
        array of shape (A, p, D)

        Raises
        ------
        ValueError
            As for `jet`.
        NotImplementedError
            Reverse mode does not work with the module.
        """
        with self._differentiable(X) as (fn, x, rows):
            weights = W * self._affine_of(rows)[1]
            product = tensor_pullback(fn, x, to_tensor(weights, x.device, x.dtype))
        return from_tensor(product, rows)

    @contextmanager
    def _differentiable(self, X: Any) -> Iterator[tuple[Callable[[Any], Any], Any, Array]]:
        """The latent as a function of flat rows, these rows as a tensor, and as they came."""
        rows, own_shape = flatten_latents(X)
        if own_shape is not None:
            raise ValueError(
                f"X has samples of shape {own_shape}: derivatives are taken along rows, pass X as "
                f"(n_samples, n_features) and the shape as input_shape."
            )
        if self.posterior == "sample":
            raise ValueError(
                "posterior is 'sample', but random latents have no derivatives: pass "
                "posterior='mean'."
            )
        self._check_parameters()
        given = self._given_shape(rows.shape[1], None)
        function, owner = self._function(self.method or _default_method(self.module))
        home, own_dtype = _whereabouts(owner)
        place = self._place(rows, home)

        def fn(points: Any) -> Any:
            found = self._latent(function(points.reshape(-1, *given)), points.shape[0], 0)
            self.latent_shape_ = tuple(int(size) for size in found.shape[1:])
            return found.reshape(found.shape[0], -1)

        with _inference_off(), _as_it_was(owner, home, place), _own_random_state(self.seed):
            x = to_tensor(rows, place, own_dtype)
            with _no_grad():
                self._refuse_its_own_draws(function, x[:1].reshape(1, *given))
                fn(x[:1])
            self.normalization_ = self._factors() if self.scaled else (0.0, 1.0)
            yield fn, x, rows

    def _affine_of(self, rows: Array) -> tuple[Any, Any]:
        """Shift and scale of the flat latents; plain numbers without `scaled`."""
        if not self.scaled:
            return 0.0, 1.0
        return self._column(0, rows), self._column(1, rows)

    # -- parameters ----------------------------------------------------------------------------

    def _check_parameters(self) -> None:
        if isinstance(self.module, type) or not callable(self.module):
            kind = self.module if isinstance(self.module, type) else type(self.module)
            raise TypeError(
                f"module is {'the class' if kind is self.module else 'a'} {kind.__name__}: pass a "
                f"torch module, or a function of tensors."
            )
        if self.posterior not in (None, "mean", "sample"):
            raise ValueError(f"posterior is {self.posterior!r}: choose 'mean' or 'sample'.")
        size = self.batch_size
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            raise ValueError(f"batch_size is {size!r}: pass the rows to take at a time, 1 or more.")
        if not isinstance(self.seed, int) or self.seed < 0:
            raise ValueError(f"seed is {self.seed!r}: pass an integer, 0 or more.")
        if self.dtype is not None and str(self.dtype).split(".")[-1] not in _HALVES:
            raise ValueError(
                f"dtype is {self.dtype!r}: choose {' or '.join(map(repr, _HALVES))} for autocast, "
                f"or None for the module's own precision, which module.to(dtype) changes."
            )

    def _given_shape(self, n_features: int, own_shape: tuple[int, ...] | None) -> tuple[int, ...]:
        """The shape in which the module sees one row."""
        wanted = None if self.input_shape is None else tuple(self.input_shape)
        if own_shape is not None:
            if wanted not in (None, own_shape):
                raise ValueError(
                    f"input_shape is {wanted}, but X has samples of shape {own_shape}: leave "
                    f"input_shape out, or pass X as rows."
                )
            return own_shape
        if wanted is not None and math.prod(wanted) != n_features:
            raise ValueError(
                f"input_shape is {wanted}, which is {math.prod(wanted)} numbers per sample, but X "
                f"has {n_features} features: pass the (C, H, W) of one row."
            )
        return (n_features,) if wanted is None else wanted

    def _function(self, method: str | None) -> tuple[Callable[..., Any], Any]:
        """What to call, and the module (or None) whose state is at stake."""
        import torch

        owner = getattr(self.module, "__self__", self.module)
        owner = owner if isinstance(owner, torch.nn.Module) else None
        if method is None:
            return self.module, owner
        function = getattr(self.module, method, None)
        if not callable(function):
            raise ValueError(
                f"method is {method!r}, but {_name_of(self.module)} has no such method: pass the "
                f"name of one that takes a batch of tensors."
            )
        return function, owner

    def _factors(self) -> tuple[Any, Any]:
        if type(self.module).__name__ == "AutoencoderRAE":
            raise ValueError(
                "scaled is True, but AutoencoderRAE.encode normalises its latents itself: pass "
                "scaled=False."
            )
        return latent_normalization(self.module)

    def _column(self, which: int, reference: Array) -> Array:
        """Shift (0) or scale (1) of every column of the flattened latents."""
        factor = self.normalization_[which]
        xp = namespace(reference)
        values = factor if isinstance(factor, tuple) else (factor,) * self.latent_shape_[0]
        if len(values) != self.latent_shape_[0]:
            raise ValueError(
                f"the configuration of {_name_of(self.module)} has statistics of {len(values)} "
                f"channels, but its latents have shape {self.latent_shape_}: pass scaled=False "
                f"and apply skfisher.channels.normalize_latents."
            )
        column = xp.asarray(values, dtype=reference.dtype, device=device(reference))
        return per_feature(column, self.latent_shape_)

    # -- evaluation ----------------------------------------------------------------------------

    def _in_batches(self, function: Callable[[Any, int], Any], rows: Array, owner: Any) -> Any:
        """`function(batch, start)` of all rows, on the module's device and in its dtype."""
        import torch

        home, own_dtype = _whereabouts(owner)
        place = self._place(rows, home)
        target = rows.device if is_torch_array(rows) else torch.device("cpu")
        half = None if self.dtype is None else getattr(torch, str(self.dtype).split(".")[-1])
        cast = nullcontext() if half is None else torch.autocast(place.type, dtype=half)
        size, done, parts = self.batch_size, 0, []
        with torch.no_grad(), cast, _as_it_was(owner, home, place), _own_random_state(self.seed):
            while done < rows.shape[0]:
                try:
                    stop = min(done + size, rows.shape[0])
                    batch = to_tensor(rows[done:stop, :], place, own_dtype)
                    found = function(batch, done)
                except RuntimeError as error:
                    if size == 1 or not _out_of_memory(error):
                        raise
                    size = max(1, (stop - done) // 2)
                    _empty_cache(place)
                    continue
                parts.append(found.to(target, torch.promote_types(found.dtype, torch.float32)))
                done = stop
        self.batch_size_ = size
        self.rounding_ = float(torch.finfo(half or own_dtype or parts[0].dtype).eps)
        return torch.cat(parts)

    def _place(self, rows: Array, home: Any) -> Any:
        import torch

        if self.device is not None:
            name = self.device
            if name == "auto":
                name = "cuda" if torch.cuda.is_available() else home or "cpu"
            return torch.device(name)
        if not is_torch_array(rows):
            return torch.device("cpu") if home is None else home
        if home is not None and home != rows.device:
            raise ValueError(
                f"X lies on {rows.device}, but {_name_of(self.module)} on {home}: move one of them "
                f"(X.to({str(home)!r})), or pass device={str(home)!r} to move batches there."
            )
        return rows.device

    def _refuse_its_own_draws(self, function: Callable[..., Any], row: Any) -> None:
        """A module that samples by itself gives a row other latents at each call."""
        import torch

        if self.posterior == "sample":
            return
        one, other = (self._latent(function(row), 1, 0).to(torch.float64) for _ in range(2))
        # kernels may sum in another order from call to call: rounding of the coarsest precision
        if bool((one - other).abs().max() > 1e-2 * one.abs().max()):
            raise ValueError(
                f"{_name_of(self.module)} returned two different latents for one row: it draws "
                f"them itself. Pass method= of one that returns the distribution or its mean, and "
                f"choose posterior='mean' or 'sample'."
            )

    def _latent(self, output: Any, n_rows: int, start: int) -> Any:
        """The latent in whatever the module returned."""
        found = self._unwrapped(output)
        if not _is_distribution(found):
            return self._checked(found, n_rows)
        if self.posterior is None:
            raise ValueError(
                f"{_name_of(self.module)} returned a distribution of latents "
                f"({type(found).__name__}): choose posterior='mean' or posterior='sample' of "
                f"TorchEncoder({_name_of(self.module)}, posterior=...)."
            )
        # a point mass, diffusers' IdentityDistribution among them, has a mode alone
        mean = self._checked(found.mean if hasattr(found, "mean") else found.mode(), n_rows)
        if self.posterior == "mean" or not hasattr(found, "mean"):
            return mean
        import torch

        rows, count = slice(start, start + n_rows), mean.numel() // n_rows
        eps = normal(self.seed, (_POSTERIOR,), rows, count, torch.empty(0, dtype=torch.float64))
        wide = mean.to(torch.promote_types(mean.dtype, torch.float32))
        return wide + _spread(found).to(wide) * eps.reshape(mean.shape).to(wide)

    def _unwrapped(self, output: Any) -> Any:
        """The tensor or distribution inside the containers in which modules return it."""
        import torch

        for name in ("latent_dist", "latents", "latent"):
            if getattr(output, name, None) is not None:
                return getattr(output, name)
        if isinstance(output, Mapping):
            tensors = [key for key in output if isinstance(output[key], torch.Tensor)]
            raise TypeError(
                f"{_name_of(self.module)} returned a {type(output).__name__} with "
                f"{', '.join(map(repr, tensors)) or 'no tensors'}: pass a function of tensors that "
                f"picks the latent, such as TorchEncoder(lambda x: module(x)[key])."
            )
        if isinstance(output, (tuple, list)) and output:
            pair = len(output) == 2 and all(isinstance(part, torch.Tensor) for part in output)
            if pair and output[0].shape == output[1].shape:
                return _Pair(*output)
            return self._unwrapped(output[0])
        return output

    def _checked(self, found: Any, n_rows: int) -> Any:
        """A tensor with one row per row given, at least one entry each."""
        import torch

        if not isinstance(found, torch.Tensor):
            raise TypeError(
                f"{_name_of(self.module)} returned a {type(found).__name__}: a latent is a tensor, "
                f"a distribution, or a structure with latent_dist, latents or latent; pass method= "
                f"or a function of tensors that returns it."
            )
        if found.ndim < 1 or found.shape[0] != n_rows:
            raise ValueError(
                f"{_name_of(self.module)} returned shape {tuple(found.shape)} for {n_rows} rows: "
                f"it must return one latent per row, in their order."
            )
        return found.reshape(n_rows, 1) if found.ndim == 1 else found


_HALVES = ("float16", "bfloat16")


@dataclass(frozen=True, eq=False)
class Jet:
    """Latents and their directional derivatives.

    Attributes
    ----------
    value : array of shape (A, d)
    first, second : array of shape (A, p, d)
        Df(x) v and D^2 f(x)[v, v]; `second` is None for order 1.
    mode : str
        How they were taken.
    failures : str
        What was tried before that and fell out, and why.
    rounding : float
        Relative rounding error of the dtype in which they were computed.
    """

    value: Array
    first: Array
    second: Array | None
    mode: str
    failures: str
    rounding: float


class _Pair:
    """A mean and a log-variance, which encoders of the plain sort return as a tuple."""

    def __init__(self, mean: Any, log_variance: Any) -> None:
        self.mean = mean
        self.log_variance = log_variance


def _default_method(module: Any) -> str | None:
    return "encode" if callable(getattr(module, "encode", None)) else None


def _name_of(module: Any) -> str:
    owner = getattr(module, "__self__", None)
    name = getattr(module, "__name__", None)
    if owner is not None and name is not None:
        return f"{type(owner).__name__}.{name}"
    return str(name or type(module).__name__)


def _is_distribution(found: Any) -> bool:
    import torch

    if isinstance(found, (torch.Tensor, type(None))):
        return False
    return isinstance(found, _Pair) or (
        callable(getattr(found, "sample", None))
        and (hasattr(found, "mean") or callable(getattr(found, "mode", None)))
    )


def _spread(found: Any) -> Any:
    """Standard deviations of a diagonal Gaussian."""
    import torch

    if isinstance(found, _Pair):
        return torch.exp(found.log_variance / 2)
    if isinstance(getattr(found, "std", None), torch.Tensor):
        return found.std
    inner = found
    while isinstance(inner, torch.distributions.Independent):
        inner = inner.base_dist
    if isinstance(inner, torch.distributions.Normal):
        return inner.stddev
    raise TypeError(
        f"posterior is 'sample', but a {type(found).__name__} is not a diagonal Gaussian: pass "
        f"posterior='mean', or a function of tensors that returns the latent."
    )


def _whereabouts(owner: Any) -> tuple[Any, Any]:
    """Device and floating-point dtype of a module's parameters and buffers."""
    if owner is None:
        return None, None
    tensors = [*owner.parameters(), *owner.buffers()]
    devices = sorted({str(tensor.device) for tensor in tensors})
    if len(devices) > 1:
        raise ValueError(
            f"{type(owner).__name__} lies on {' and '.join(devices)}: move it to one device with "
            f"module.to(device)."
        )
    dtypes = [tensor.dtype for tensor in tensors if tensor.is_floating_point()]
    return (tensors[0].device if tensors else None), (dtypes[0] if dtypes else None)


@contextmanager
def _as_it_was(owner: Any, home: Any, place: Any) -> Iterator[None]:
    """The module in eval mode on `place`; every training flag and the device restored."""
    if owner is None:
        yield
        return
    flags = [(part, part.training) for part in owner.modules()]
    moved = home is not None and home != place
    try:
        owner.eval()
        if moved:
            owner.to(place)
        yield
    finally:
        if moved:
            owner.to(home)
        for part, training in flags:
            part.training = training


@contextmanager
def _own_random_state(seed: int) -> Iterator[None]:
    """What a module draws by itself comes from the seed, and torch's own state is kept."""
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def _inference_off() -> Any:
    import torch

    return torch.inference_mode(False)


def _no_grad() -> Any:
    import torch

    return torch.no_grad()


def _finfo(x: Any) -> Any:
    import torch

    return torch.finfo(x.dtype)


def _out_of_memory(error: RuntimeError) -> bool:
    import torch

    # the CPU's allocator raises a plain RuntimeError, and says so in these words
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _empty_cache(place: Any) -> None:
    import torch

    if place.type == "cuda":
        torch.cuda.empty_cache()
