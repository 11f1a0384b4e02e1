"""A network of any convention as a function of tensors that gives the score of y.

A network is told a point x = a z of its noising path and the path's time, with z in the network's
own units z = scale (y - shift), and what it predicts is brought back: its score at z by the
convention of the prediction, and by the chain rule s(y) = scale s(z).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from array_api_compat import is_array_api_obj, is_torch_array

from skfisher._backend.tensors import to_tensor
from skfisher.noise import EDM, DiscreteVE, DiscreteVP, NoisePath, score_from_prediction

__all__ = [
    "CLOCKS",
    "PREDICTIONS",
    "DressedNetwork",
    "check_convention",
    "evaluating",
    "module_of",
    "name_of",
    "placed_conditioning",
    "plain_call",
]

PREDICTIONS = (
    "score",
    "epsilon",
    "x0",
    "denoiser",
    "v",
    "velocity",
    "velocity_to_data",
    "edm",
)
"""What a network may predict: the kinds of `skfisher.noise.score_from_prediction`, where "score"
is the score in the path's own variable x, and "edm", the raw output F of a network inside EDM's
preconditioning (on the path `skfisher.noise.EDM`, where "v" is -F)."""

CLOCKS = ("time", "sigma", "log_sigma")
"""What a network may be told of the noise, other than by a function of sigma."""


@dataclass(frozen=True, eq=False)
class DressedNetwork:
    """Score of y as a function of tensors: a network with its convention taken off.

    Attributes
    ----------
    network, call, prediction, path, time, integer_time, latent_shape, learned_variance, scale
        See `skfisher.scores.adapters.from_module`.
    conditioning : mapping
        Tensors of one row on the network's device.
    dtype, time_dtype, working_dtype : torch.dtype
        Of x, of the time, and of everything around the network.
    shift : float or tensor of shape (n,)
    """

    network: Any
    call: Callable[..., Any]
    prediction: str
    path: NoisePath
    time: str | Callable[[float], float]
    integer_time: bool
    latent_shape: tuple[int, ...] | None
    learned_variance: bool
    conditioning: Mapping[str, Any]
    dtype: Any
    time_dtype: Any
    working_dtype: Any
    scale: float
    shift: Any

    def __call__(self, y: Any, sigma: float) -> Any:
        """Score at each row of a tensor (m, n), in 1/units of y."""
        z, level = self.scale * (y.to(self.working_dtype) - self.shift), self.scale * sigma
        if not self.integer_time:
            return self.scale * self._score(z, level, self._clock(level))
        # the noise that is predicted, -sigma s, hardly changes from step to step
        time = self.path.time(level)
        steps = sorted({math.floor(time + 1e-9), math.ceil(time - 1e-9)})
        sigmas = [self.path.sigma(step) for step in steps]
        noises = [s * self._score(z, s, k) for s, k in zip(sigmas, steps, strict=True)]
        if len(steps) == 1:
            return self.scale / level * noises[0]
        share = math.log(level / sigmas[0]) / math.log(sigmas[1] / sigmas[0])
        return self.scale / level * ((1 - share) * noises[0] + share * noises[1])

    def _clock(self, sigma: float) -> float:
        if callable(self.time):
            return float(self.time(sigma))
        if self.time == "time":
            return self.path.time(sigma)
        return sigma if self.time == "sigma" else math.log(sigma)

    def _score(self, z: Any, sigma: float, time: float) -> Any:
        output = self._output(self.path.signal(sigma) * z, time)
        if self.prediction == "score":
            return self.path.score_to_ve(output, sigma)
        kind = self.prediction
        if isinstance(self.path, EDM) and kind in ("edm", "v"):
            sign = 1.0 if kind == "edm" else -1.0
            output, kind = self.path.denoiser(sign * output, z, sigma), "denoiser"
        return score_from_prediction(output, z, sigma, kind)

    def _output(self, x: Any, time: float) -> Any:
        """The network's output at rows `x`, as rows in the dtype of `x`."""
        m = x.shape[0]
        shaped = x.to(self.dtype).reshape(m, *(self.latent_shape or x.shape[1:]))
        times = x.new_full((m,), time, dtype=self.time_dtype)
        conditions = {name: _expanded(value, m) for name, value in self.conditioning.items()}
        output = _tensor_of(self.call(self.network, shaped, times, **conditions))
        found, wanted = tuple(output.shape), tuple(shaped.shape)
        doubled = found == (m, 2 * wanted[1], *wanted[2:])
        if doubled and self.learned_variance:
            output = output[:, : wanted[1]]
        elif found != wanted:
            cure = (
                "pass learned_variance=True if the second half of them is about the variance"
                if doubled
                else "a prediction has the shape of its input, pass a `call` that returns it"
            )
            raise ValueError(
                f"{name_of(self.network)} returned shape {found} for x of shape {wanted}: {cure}."
            )
        return output.reshape(m, -1).to(x.dtype)


def plain_call(network: Any, x: Any, time: Any, **conditioning: Any) -> Any:
    """``network(x, time, **conditioning)``."""
    return network(x, time, **conditioning)


def check_convention(prediction: str, path: Any, time: Any, integer_time: bool) -> None:
    """Refuse a convention that is not declared, or none.

    Raises
    ------
    TypeError, ValueError
        See `skfisher.scores.adapters.from_module`.
    """
    if prediction not in PREDICTIONS:
        raise ValueError(
            f"prediction is {prediction!r}: a network does not say what it predicts, declare one "
            f"of {', '.join(map(repr, PREDICTIONS))}."
        )
    if not isinstance(path, NoisePath):
        raise TypeError(
            f"path is {path!r}: a network does not say how its input was made noisy, declare it by "
            f"a path of skfisher.noise, such as LinearVP(), DiscreteVP(alphas_cumprod) or "
            f"FlowMatching()."
        )
    if prediction == "edm" and not isinstance(path, EDM):
        raise ValueError(
            f"prediction is 'edm' but path is {path!r}: the output of a preconditioned network "
            f"needs its sigma_data, pass path=EDM(sigma_data)."
        )
    if not callable(time) and time not in CLOCKS:
        raise ValueError(
            f"time is {time!r}: pass one of {', '.join(map(repr, CLOCKS))}, or a function of sigma."
        )
    if integer_time and not (isinstance(path, (DiscreteVP, DiscreteVE)) and time == "time"):
        raise ValueError(
            f"integer_time is True but path is {path!r} and time is {time!r}: whole steps belong "
            f"to a table, pass DiscreteVP(alphas_cumprod) or DiscreteVE(sigmas) and time='time'."
        )


def placed_conditioning(value: Any, name: str, device: Any, dtype: Any) -> Any:
    """Conditioning with its arrays as tensors of one row, on the network's device.

    Raises
    ------
    ValueError
        An array whose leading dimension is not 1.
    """
    if isinstance(value, Mapping):
        return {
            key: placed_conditioning(part, f"{name}[{key!r}]", device, dtype)
            for key, part in value.items()
        }
    if isinstance(value, (tuple, list)):
        parts = enumerate(value)
        return type(value)(
            placed_conditioning(part, f"{name}[{k}]", device, dtype) for k, part in parts
        )
    if not is_array_api_obj(value):
        return value
    tensor = to_tensor(value, device=device)
    if tensor.ndim and tensor.shape[0] != 1:
        raise ValueError(
            f"{name} has shape {tuple(tensor.shape)}: a score model is the score under one "
            f"condition, pass a leading dimension of 1 and make one model per condition; what has "
            f"no dimension of rows belongs into `call`."
        )
    return tensor.to(dtype) if tensor.is_floating_point() else tensor


def _expanded(value: Any, m: int) -> Any:
    """Conditioning with one row for each of m points."""
    if isinstance(value, Mapping):
        return {key: _expanded(part, m) for key, part in value.items()}
    if isinstance(value, (tuple, list)):
        return type(value)(_expanded(part, m) for part in value)
    if is_torch_array(value) and value.ndim:
        return value.expand(m, *value.shape[1:])
    return value


def _tensor_of(output: Any) -> Any:
    if not is_torch_array(output):
        if hasattr(output, "sample"):
            output = output.sample
        elif isinstance(output, (tuple, list)) and output:
            output = output[0]
    if not is_torch_array(output):
        raise TypeError(
            f"the network returned a {type(output).__name__}: it has to return a tensor, an object "
            f"with a tensor `sample`, or a tuple that starts with one; pass a `call` that does."
        )
    return output


def module_of(network: Any) -> Any:
    """The torch module behind a callable, if that shows; else None."""
    if isinstance(network, functools.partial):
        return module_of(network.func)
    for candidate in (network, getattr(network, "__self__", None)):
        if hasattr(candidate, "parameters") and hasattr(candidate, "modules"):
            return candidate
    return None


def name_of(network: Any) -> str:
    """Class of a module (inside the wrapper of `torch.compile`), name of a function."""
    module = module_of(network)
    inner = getattr(network if module is None else module, "_orig_mod", module)
    return (
        type(inner).__name__
        if inner is not None
        else getattr(network, "__name__", type(network).__name__)
    )


@contextmanager
def evaluating(network: Any) -> Iterator[None]:
    """A network in eval mode; the flags of all its parts are restored afterwards."""
    module = module_of(network)
    training = [] if module is None else [part for part in module.modules() if part.training]
    for part in training:
        part.training = False
    try:
        yield
    finally:
        for part in training:
            part.training = True
