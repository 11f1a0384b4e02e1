"""Directional derivatives of a torch function of rows: exact where torch can, and how it did."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

from skfisher._backend.arrays import MEMORY_BUDGET
from skfisher._backend.linearize import forward_kernels, in_short, is_out_of_memory
from skfisher._backend.richardson import line_derivatives

__all__ = ["JET_MODES", "TensorJet", "plain_kernels", "spread_of", "tensor_jet", "tensor_pullback"]

_PLAIN = "plain kernels"
JET_MODES = (
    "nested forward mode",
    "nested forward mode, plain kernels",
    "nested reverse mode",
    "nested reverse mode, plain kernels",
    "forward mode, second by differences of the first",
    "forward mode, plain kernels, second by differences of the first",
    "reverse mode, second by differences of the first",
    "reverse mode, plain kernels, second by differences of the first",
)
"""Ways to a second directional derivative; a first one is taken by the first step of each.

Plain kernels: attention, and activations whose own derivatives torch cannot differentiate forward,
from elementary functions.
"""

_TRIAL_LINES = 2
_GROSS = 0.1  # relative disagreement with differences that no rounding explains
_MAX_LINES = 16384


@dataclass(frozen=True, eq=False)
class TensorJet:
    """Value and derivatives of a torch function along p directions at A points.

    Attributes
    ----------
    value : tensor of shape (A, d)
    first, second : tensor of shape (A, p, d)
        Df(x) v and D^2 f(x)[v, v]; `second` is None for order 1.
    mode : str
        One of `JET_MODES`.
    failures : str
        What was tried before and fell out, and why.
    """

    value: Any
    first: Any
    second: Any
    mode: str
    failures: str


def tensor_jet(
    fn: Callable[[Any], Any], x: Any, v: Any, *, order: int = 2, mode: str | None = None
) -> TensorJet:
    """Value, Df v and D^2 f[v, v] of a function of rows, written in torch.

    Parameters
    ----------
    fn : callable
        Tensor (m, D) to tensor (m, d), row by row.
    x : tensor of shape (A, D)
    v : tensor of shape (A, p, D)
    order : {1, 2}
    mode : str, optional
        One of `JET_MODES`. None tries them in turn on two lines and takes the first that works and
        whose first derivative agrees with differences.

    Raises
    ------
    NotImplementedError
        None works; the message says why.

    Notes
    -----
    Points and directions are batched as rows of one evaluation, as many as fit the memory, halved
    where it runs out. Parameters and their `requires_grad` are not touched.
    """
    import torch

    A, p, D = v.shape
    x, v = _plain(x), _plain(v)
    lines = v.reshape(A * p, D)
    failures: dict[str, str] = {}
    with torch.inference_mode(False), warnings.catch_warnings():
        # torch 2.13 compiles some forward derivatives by its deprecated torch.jit.script
        warnings.filterwarnings("ignore", "`torch.jit", DeprecationWarning)
        if mode is None:
            mode = _choose(fn, x, lines, p, order, failures)
        take = partial(_take, fn, mode, order, spread_of(x))
        at = torch.arange(A * p, device=x.device)
        size = _fitting_lines(fn, x, reverse="reverse" in mode)
        parts = _in_chunks(lambda rows: take(x[at[rows] // p], lines[rows]), A * p, size)
    value, first = (torch.cat([part[i] for part in parts]) for i in (0, 1))
    second = torch.cat([part[2] for part in parts]) if order == 2 else None
    d = first.shape[1]
    return TensorJet(
        value=value.reshape(A, p, d)[:, 0, :],
        first=first.reshape(A, p, d),
        second=None if second is None else second.reshape(A, p, d),
        mode=mode,
        failures=_reasons(failures),
    )


def tensor_pullback(fn: Callable[[Any], Any], x: Any, w: Any) -> Any:
    """Df(x)^T w for w of shape (A, p, d), by reverse mode: (A, p, D).

    Raises
    ------
    NotImplementedError
        Reverse mode does not work with the function, or disagrees with differences.
    """
    import torch

    A, p, d = w.shape
    x, w = _plain(x), _plain(w)
    flat = w.reshape(A * p, d)
    with torch.inference_mode(False):
        at = torch.arange(A * p, device=x.device)
        try:
            trial = slice(0, min(_TRIAL_LINES, A * p))
            here, there = x[at[trial] // p], flat[trial]
            back = _vector_jacobian(fn, here, there)
            first, error = _differences(fn, here, _along_the_rows(back, here), spread_of(x))
        except Exception as error:  # the value exists, so this is the mode's doing
            raise NotImplementedError(f"reverse mode: {in_short(error)}") from error
        found = torch.sum(back * _along_the_rows(back, here), dim=1)
        sought = torch.sum(there * first, dim=1)
        off = (found - sought).abs() - d * error * there.abs().amax(dim=1)
        if bool((off > _GROSS * (found.abs() + sought.abs())).any()):
            raise NotImplementedError("reverse mode: differs from differences")
        size = _fitting_lines(fn, x, reverse=True)
        parts = _in_chunks(
            lambda rows: (_vector_jacobian(fn, x[at[rows] // p], flat[rows]),), A * p, size
        )
    return torch.cat([part for (part,) in parts]).reshape(A, p, x.shape[1])


def spread_of(x: Any) -> float:
    """RMS scale of the rows: the root of the mean variance of a column, or of the mean square."""
    import torch

    wide = x.to(torch.float64)
    spread = float((wide - wide.mean(dim=0)).square().mean().sqrt())
    return spread or float(wide.square().mean().sqrt()) or 1.0


# -- modes ---------------------------------------------------------------------------------------


def _take(
    fn: Callable[[Any], Any], mode: str, order: int, scale: float, x: Any, v: Any
) -> tuple[Any, ...]:
    """Value, first and second derivative along each row of v."""
    import torch

    kernels = plain_kernels() if _PLAIN in mode else nullcontext()
    once = partial(_first_by_reverse if "reverse" in mode else _first_by_forward, fn)
    nested = mode.startswith("nested")
    grad = torch.enable_grad() if "reverse" in mode else torch.no_grad()
    with kernels, grad:
        if order == 1 or not nested:
            value, first = once(x, v)
            second = None
            if order == 2:
                second = _second_by_differences(once, x, v, scale)
        elif "reverse" in mode:
            value, first, second = _second_by_reverse(fn, x, v)
        else:
            value, first, second = _second_by_forward(fn, x, v)
    return tuple(None if part is None else part.detach() for part in (value, first, second))


def _first_by_forward(fn: Callable[[Any], Any], x: Any, v: Any) -> tuple[Any, Any]:
    import torch

    return torch.func.jvp(fn, (x,), (v,))


def _second_by_forward(fn: Callable[[Any], Any], x: Any, v: Any) -> tuple[Any, Any, Any]:
    import torch

    (value, first), (_, second) = torch.func.jvp(
        lambda y: torch.func.jvp(fn, (y,), (v,)), (x,), (v,)
    )
    return value, first, second


def _first_by_reverse(fn: Callable[[Any], Any], x: Any, v: Any) -> tuple[Any, Any]:
    t = x.new_zeros(x.shape[0], 1).requires_grad_(True)
    value = fn(x + t * v)
    return value, _along(value, t)


def _second_by_reverse(fn: Callable[[Any], Any], x: Any, v: Any) -> tuple[Any, Any, Any]:
    t = x.new_zeros(x.shape[0], 1).requires_grad_(True)
    value = fn(x + t * v)
    first = _along(value, t)
    return value, first, _along(first, t)


def _along(value: Any, t: Any) -> Any:
    """Derivative of each row of `value` by t: the gradient in u of <u, dvalue/dt>."""
    import torch

    if not value.requires_grad:
        return torch.zeros_like(value)
    u = torch.ones_like(value, requires_grad=True)
    (g,) = torch.autograd.grad(value, t, u, create_graph=True, allow_unused=True)
    if g is None or not g.requires_grad:
        return torch.zeros_like(value)
    (slope,) = torch.autograd.grad(g.sum(), u, create_graph=True, allow_unused=True)
    return torch.zeros_like(value) if slope is None else slope


def _second_by_differences(
    once: Callable[[Any, Any], tuple[Any, Any]], x: Any, v: Any, scale: float
) -> Any:
    """d/dt Df(x + t v) v by extrapolated central differences of exact products."""
    import torch

    length = torch.linalg.vector_norm(v, dim=1, keepdim=True)
    unit = v / torch.where(length > 0, length, torch.ones_like(length))

    def slope(points: Any) -> Any:
        along = unit.repeat(points.shape[0] // x.shape[0], 1)
        return once(points.to(x.dtype), along)[1].detach().to(torch.float64)

    wide = x.to(torch.float64)
    found = line_derivatives(
        slope,
        wide,
        slope(x),
        unit.to(torch.float64),
        wide.new_full((x.shape[0],), scale),
        float(torch.finfo(x.dtype).eps),
        memory_budget=2**62,  # the caller has cut the rows
    )
    return (found.first * length**2).to(x.dtype)


def _vector_jacobian(fn: Callable[[Any], Any], x: Any, w: Any) -> Any:
    import torch

    with torch.enable_grad():
        leaf = x.detach().clone().requires_grad_(True)
        value = fn(leaf)
        if not value.requires_grad:
            raise RuntimeError("the encoder is cut from its input")
        (product,) = torch.autograd.grad(value, leaf, w)
    return product.detach()


@contextmanager
def plain_kernels() -> Iterator[None]:
    """Elementary functions in the place of kernels whose derivative has no forward mode.

    In torch 2.13 these are silu, mish, glu and hardsigmoid, beside attention and group_norm.
    """
    import torch

    functional = torch.nn.functional

    def glu(x: Any, dim: int = -1) -> Any:
        value, gate = x.chunk(2, dim=dim)
        return value * torch.sigmoid(gate)

    def replaced(plain: Callable[[Any], Any]) -> Callable[..., Any]:
        def call(x: Any, inplace: bool = False) -> Any:
            return x.copy_(plain(x)) if inplace else plain(x)

        return call

    plain = {
        functional.silu: replaced(lambda x: x * torch.sigmoid(x)),
        functional.mish: replaced(lambda x: x * torch.tanh(functional.softplus(x))),
        functional.hardsigmoid: replaced(lambda x: torch.clamp(x / 6.0 + 0.5, 0.0, 1.0)),
        functional.glu: glu,
    }

    class Elementary(torch.overrides.TorchFunctionMode):
        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            return plain.get(func, func)(*args, **(kwargs or {}))

    with forward_kernels(), Elementary():
        yield


# -- the choice of a mode --------------------------------------------------------------------------


def _choose(
    fn: Callable[[Any], Any], x: Any, lines: Any, p: int, order: int, failures: dict[str, str]
) -> str:
    import torch

    moving = torch.nonzero(lines.abs().amax(dim=1) > 0).reshape(-1)[:_TRIAL_LINES]
    moving = moving if len(moving) else torch.arange(min(1, len(lines)), device=x.device)
    here, v = x[moving // p], lines[moving]
    scale = spread_of(x)
    expected, error = _differences(fn, here, v, scale)
    for mode in JET_MODES if order == 2 else JET_MODES[:4]:
        try:
            first = _take(fn, mode, order, scale, here, v)[1]
        except Exception as failure:  # the value exists, so this is the mode's doing
            failures[mode] = in_short(failure)
            continue
        off = (first.to(torch.float64) - expected).abs().amax(dim=1) - error
        size = first.abs().amax(dim=1) + expected.abs().amax(dim=1)
        if bool((off <= _GROSS * size).all()) or bool(torch.isnan(expected).any()):
            return mode
        share = float((off / size).max())
        failures[mode] = f"differs from differences by {share:.0%}, as if part of it were cut"
    raise NotImplementedError(_reasons(failures))


def _reasons(failures: dict[str, str]) -> str:
    """What fell out and why, once per reason."""
    by_reason: dict[str, list[str]] = {}
    for mode, why in failures.items():
        names = by_reason.setdefault(why, [])
        name = mode.partition(",")[0]
        if name not in names:
            names.append(name)
    return "; ".join(f"{', '.join(names)}: {why}" for why, names in by_reason.items())


def _differences(fn: Callable[[Any], Any], x: Any, v: Any, scale: float) -> tuple[Any, Any]:
    """Derivative along each row of v by differences, and its estimated error, in float64."""
    import torch

    def value(points: Any) -> Any:
        with torch.no_grad():
            return fn(points.to(x.dtype)).to(torch.float64)

    wide, along = x.to(torch.float64), v.to(torch.float64)
    length = torch.linalg.vector_norm(along, dim=1)
    unit = along / torch.where(length > 0, length, torch.ones_like(length))[:, None]
    found = line_derivatives(
        value,
        wide,
        value(x),
        unit,
        torch.full_like(length, scale),
        float(torch.finfo(x.dtype).eps),
    )
    return found.first * length[:, None], found.first_error * length


def _along_the_rows(v: Any, x: Any) -> Any:
    """v, or the first coordinate where it is zero."""
    import torch

    zero = v.abs().amax(dim=1, keepdim=True) == 0
    axis = torch.zeros_like(x)
    axis[:, 0] = 1.0
    return torch.where(zero, axis, v)


# -- memory ----------------------------------------------------------------------------------------


def _in_chunks(
    work: Callable[[slice], tuple[Any, ...]], n_lines: int, size: int
) -> list[tuple[Any, ...]]:
    """`work` over slices of lines, halved when memory runs out."""
    import torch

    parts, start = [], 0
    while start < n_lines:
        stop, full = min(start + size, n_lines), False
        try:
            parts.append(work(slice(start, stop)))
        except RuntimeError as error:
            full = stop - start > 1 and is_out_of_memory(error)
            if not full:
                raise
        if full:  # outside of the handler, which holds the tensors of its frames
            size = (stop - start) // 2
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        else:
            start = stop
    return parts


def _fitting_lines(fn: Callable[[Any], Any], x: Any, *, reverse: bool) -> int:
    """Lines whose evaluation fits the memory, from the tensors that one row makes.

    Forward mode holds the tensors of a few operations at a time, four numbers for each; reverse
    mode holds all of them, several times where it is nested.
    """
    import torch

    with _sizes() as sizes, torch.no_grad():
        fn(x[:1])
    held = 8 * sum(sizes) if reverse else 16 * max(sizes, default=0)
    held = max(held, 64 * x.shape[1] * x.element_size())
    memory = MEMORY_BUDGET
    if x.device.type == "cuda":
        memory = torch.cuda.mem_get_info(x.device)[0] // 2
    return int(min(max(1, memory // held), _MAX_LINES))


@contextmanager
def _sizes() -> Iterator[list[int]]:
    """Bytes of every tensor made inside."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    sizes: list[int] = []

    class Measuring(TorchDispatchMode):
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            out = func(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor):
                sizes.append(out.numel() * out.element_size())
            return out

    with Measuring():
        yield sizes


def _plain(x: Any) -> Any:
    x = x.detach()
    return x.clone() if x.is_inference() else x
