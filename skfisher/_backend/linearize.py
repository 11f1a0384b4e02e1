"""Value and Jacobian-vector product of a function written in torch."""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from numbers import Integral
from typing import Any

from skfisher._backend.arrays import MEMORY_BUDGET, Array
from skfisher._backend.differences import central_jvp
from skfisher._backend.tensors import from_tensor, to_tensor

__all__ = [
    "MODES",
    "Linearization",
    "TensorFunction",
    "forward_kernels",
    "in_short",
    "is_out_of_memory",
]

MODES = ("auto", "forward", "reverse", "differences")
"""How `TensorFunction` may be asked to take products."""

_MATH = "forward, math attention"
_TRIAL_ROWS = 2
_WELL_MEASURED = 0.05  # seconds of one evaluation that tell the speed of a mode well enough
_TIE = 1.1  # how much slower forward mode, which gives A v itself, may be and still be taken
_GROSS = 0.1  # relative disagreement with differences that no rounding explains


@dataclass(frozen=True, eq=False)
class Linearization:
    """How a `TensorFunction` takes its products, and why.

    Attributes
    ----------
    mode : str
        "forward", "forward, math attention", "reverse" or "differences".
    reason : str
        Why this mode and, where torch.compile was asked for in vain, why not that.
    seconds_per_product : mapping of str to float
        For each mode that was timed: seconds for one row's value and product.
    failures : mapping of str to str
        For each mode that was tried and fell out: why.
    compiled : bool
        Whether the function runs through torch.compile.
    """

    mode: str
    reason: str
    seconds_per_product: Mapping[str, float]
    failures: Mapping[str, str]
    compiled: bool


class TensorFunction:
    """Value of a function written in torch, and products with its Jacobian A.

    Parameters
    ----------
    fn : callable
        ``fn(y, sigma)`` maps a tensor (m, n) and a float to a tensor (m, n), row by row.
    device : torch device or str, optional
        Where `fn` computes; None is where `y` lies, the host for libraries other than torch.
    dtype : torch dtype, optional
        In which `fn` computes; None is that of `y`, float32 for shorter ones.
    mode : {"auto", "forward", "reverse", "differences"}
        "forward" gives A v from dual numbers, at about the cost of two evaluations; "reverse"
        gives A^T v in its place from one evaluation and its backward pass; "differences" gives
        A v from three evaluations without gradients. "auto" tries the first two on two rows when
        the first product is asked for, compares them with differences, times those that work
        and takes the faster (ties to forward), or differences where none works.
    max_rows : int, optional
        Rows in one evaluation. None finds a number that fits the memory. Either is halved when
        the device runs out of memory.
    autocast : torch dtype, optional
        Run `fn` under torch.autocast in this dtype; differences do without it.
    compile : bool
        Run `fn` through torch.compile, or as it stands where that fails, with a warning.

    Raises
    ------
    ValueError
        Unknown `mode`, or `max_rows` not a positive integer.

    Notes
    -----
    A and A^T have the same trace, norm and quadratic forms, so either product serves for these.
    Since speed decides between them, two runs in mode "auto" may take different ones; where A is
    not symmetric, estimates from the same probes then differ by what the antisymmetric part
    contributes to them. Any other `mode` fixes the choice.

    Attention kernels without forward mode (flash and memory-efficient ones, also the CPU's) give
    way to the plain one while a product is taken: mode "forward, math attention".

    Results never require gradients, and parameters keep their `requires_grad`.

    Examples
    --------
    >>> import numpy as np
    >>> cubes = TensorFunction(lambda y, sigma: y**3 / sigma, mode="forward")
    >>> value, product = cubes.jvp(np.asarray([[2.0, 3.0]]), 2.0, np.asarray([[1.0, 0.0]]))
    >>> value.tolist(), product.tolist(), cubes.linearization.mode
    ([[4.0, 13.5]], [[6.0, 0.0]], 'forward')
    """

    def __init__(
        self,
        fn: Callable[[Any, float], Any],
        *,
        device: Any = None,
        dtype: Any = None,
        mode: str = "auto",
        max_rows: int | None = None,
        autocast: Any = None,
        compile: bool = False,
    ) -> None:
        if mode not in MODES:
            raise ValueError(f"mode is {mode!r}: choose one of {', '.join(map(repr, MODES))}.")
        if max_rows is not None and (not isinstance(max_rows, Integral) or max_rows < 1):
            raise ValueError(
                f"max_rows is {max_rows!r}: pass a positive integer, or None to fit the memory."
            )
        self.fn = fn
        self.device = device
        self.dtype = dtype
        self.mode = mode
        self.max_rows = max_rows
        self.autocast = autocast
        self.compile = compile
        self._rows: int | None = max_rows
        self._linearization: Linearization | None = None
        self._forward_of_both = ""
        self._compiled: Any = None
        self._not_compiled = "" if compile else "not asked for"

    def __getstate__(self) -> dict[str, Any]:
        # what torch.compile returns cannot be pickled; it is made again when called for
        return self.__dict__ | {"_compiled": None}

    @property
    def linearization(self) -> Linearization | None:
        """How products are taken; None before the first of them."""
        return self._linearization

    @property
    def precision(self) -> float | None:
        """Machine epsilon of the numbers that `fn` computes with; None if it is that of `y`."""
        import torch

        dtype = self.autocast or self.dtype
        return None if dtype is None else float(torch.finfo(dtype).eps)

    def value(self, y: Array, sigma: float) -> Array:
        """fn(y, sigma), in the library, dtype and device of `y`."""
        (tensor,) = self._tensors(sigma, y)
        (s,) = self._in_chunks(lambda y: (self._value(y, sigma),), tensor)
        return from_tensor(s, y)

    def jvp(self, y: Array, sigma: float, v: Array) -> tuple[Array, Array]:
        """Value and A v, or in reverse mode A^T v, for each row.

        Parameters
        ----------
        y, v : array of shape (m, n)
        sigma : float

        Raises
        ------
        RuntimeError
            The mode asked for does not work with this function.

        Warns
        -----
        UserWarning
            Once, where a mode was tried and fell out.
        """
        points, probes = self._tensors(sigma, y, v)
        if self._linearization is None:
            self._linearization = self._choose(points, sigma, probes)
        product = self._product(self._linearization.mode)
        s, hv = self._in_chunks(partial(product, sigma), points, probes)
        return from_tensor(s, y), from_tensor(hv, y)

    def both(self, y: Array, sigma: float, v: Array) -> tuple[Array, Array, Array]:
        """Value, A v and A^T v for each row.

        A v is taken in forward mode, or by differences where that does not work.

        Raises
        ------
        NotImplementedError
            Reverse mode does not work with this function.
        """
        points, probes = self._tensors(sigma, y, v)
        if not self._forward_of_both:
            found, failures = self._capable(("forward", "reverse"), points, sigma, probes)
            if "reverse" not in found:
                raise NotImplementedError(
                    f"A^T v needs reverse mode, which does not work here ({failures['reverse']}): "
                    f"pass a score that torch can differentiate."
                )
            self._forward_of_both = (*found, "differences")[found.index("reverse") == 0]
        forward = self._product(self._forward_of_both)
        s, hv, transposed = self._in_chunks(
            lambda y, v: (*forward(sigma, y, v), self._reverse(sigma, y, v)[1]), points, probes
        )
        return from_tensor(s, y), from_tensor(hv, y), from_tensor(transposed, y)

    # -- one chunk, in every mode ------------------------------------------------------------------

    def _product(self, mode: str) -> Callable[[float, Any, Any], tuple[Any, Any]]:
        return {
            "forward": self._forward,
            _MATH: self._forward_with_math_attention,
            "reverse": self._reverse,
            "differences": self._differences,
        }[mode]

    def _evaluate(self, y: Any, sigma: float, autocast: bool = True) -> Any:
        """`fn` in its own dtype, its result in that of `y`."""
        import torch

        if self._compiled is None and not self._not_compiled:
            self._compiled = torch.compile(self.fn)
        own = self.dtype or y.dtype
        mixed = (
            torch.autocast(y.device.type, dtype=self.autocast, enabled=autocast)
            if self.autocast
            else nullcontext()
        )
        with mixed:
            s = (self._compiled or self.fn)(y.clone() if own == y.dtype else y.to(own), sigma)
        if not isinstance(s, torch.Tensor):
            s = to_tensor(s, y.device)
        if s.shape != y.shape:
            raise ValueError(
                f"the score has shape {tuple(s.shape)} for y of shape {tuple(y.shape)} at sigma "
                f"{sigma:.6g}: it needs one row per row of y and one column per feature."
            )
        return s.to(y.dtype)

    def _value(self, y: Any, sigma: float) -> Any:
        import torch

        with torch.no_grad():
            return self._evaluate(y, sigma)

    def _forward(self, sigma: float, y: Any, v: Any) -> tuple[Any, Any]:
        import torch
        from torch.autograd import forward_ad

        with torch.inference_mode(False), torch.no_grad(), forward_ad.dual_level():
            s, hv = forward_ad.unpack_dual(self._evaluate(forward_ad.make_dual(y, v), sigma))
        if hv is None:
            raise RuntimeError("the score is cut from y")
        return s, hv

    def _forward_with_math_attention(self, sigma: float, y: Any, v: Any) -> tuple[Any, Any]:
        with forward_kernels():
            return self._forward(sigma, y, v)

    def _reverse(self, sigma: float, y: Any, v: Any) -> tuple[Any, Any]:
        import torch

        with torch.inference_mode(False), torch.enable_grad():
            leaf = y.detach().requires_grad_(True)
            s = self._evaluate(leaf, sigma)
            if not s.requires_grad:
                raise RuntimeError("the score is cut from y")
            (product,) = torch.autograd.grad(s, leaf, v)
        return s.detach(), product

    def _differences(self, sigma: float, y: Any, v: Any) -> tuple[Any, Any]:
        import torch

        # a probe goes sigma in each coordinate, hence sigma sqrt(n), before the score has bent
        eps = float(torch.finfo(self.dtype or y.dtype).eps)
        step = sigma * eps ** (1 / 3) * max(y.shape[1], 1) ** 0.5
        with torch.no_grad():
            return central_jvp(lambda y: self._evaluate(y, sigma, autocast=False), y, v, step)

    # -- the choice of a mode ----------------------------------------------------------------------

    def _choose(self, y: Any, sigma: float, v: Any) -> Linearization:
        if self.mode == "differences":
            return self._record("differences", "asked for", {}, {})
        asked = MODES[1:3] if self.mode == "auto" else (self.mode,)
        found, failures = self._capable(asked, y, sigma, v)
        if not found and self._compiled is not None:
            self._compiled, self._not_compiled = None, next(iter(failures.values()))
            self._warn_not_compiled()
            found, failures = self._capable(asked, y, sigma, v)
        fell_out = "; ".join(f"{mode}: {why}" for mode, why in failures.items())
        if self.mode != "auto":
            if not found:
                raise RuntimeError(
                    f"mode is {self.mode!r}, which does not work with this score ({fell_out}): "
                    f"pass mode='auto'."
                )
            record = self._record(found[0], "asked for", {}, failures)
        elif not found:
            record = self._record("differences", "the only mode that works", {}, failures)
        elif len(found) == 1:
            record = self._record(found[0], "the only exact mode that works", {}, failures)
        else:
            seconds = self._seconds(found, y, sigma, v)
            forward, reverse = found
            quick = forward if seconds[forward] <= _TIE * seconds[reverse] else reverse
            record = self._record(quick, "the fastest", seconds, failures)
        if failures:
            warnings.warn(
                f"Products with the Jacobian of the score are taken in mode {record.mode!r} "
                f"({record.reason}), for these do not work with it: {fell_out}. Give mode to "
                f"choose without this trial.",
                stacklevel=3,
            )
        return record

    def _record(
        self, mode: str, reason: str, seconds: dict[str, float], failures: dict[str, str]
    ) -> Linearization:
        if self.compile and self._not_compiled:
            reason += f"; not compiled: {self._not_compiled}"
        return Linearization(mode, reason, seconds, failures, not self._not_compiled)

    def _capable(
        self, modes: Sequence[str], y: Any, sigma: float, v: Any
    ) -> tuple[list[str], dict[str, str]]:
        """Those of `modes` that work on two rows, and why the others do not."""
        y, v = y[:_TRIAL_ROWS], v[:_TRIAL_ROWS]
        expected = self._differences(sigma, y, v)[1]
        found, failures = [], {}
        for mode in modes:
            for variant in (mode, _MATH) if mode == "forward" else (mode,):
                try:
                    with warnings.catch_warnings():
                        # torch 2.13 compiles some forward derivatives by its deprecated
                        # torch.jit.script when the first of them is taken
                        warnings.filterwarnings("ignore", "`torch.jit", DeprecationWarning)
                        failure = self._disagreement(variant, y, sigma, v, expected)
                except Exception as error:  # the value exists, so this is the mode's doing
                    failure = in_short(error)
                if not failure:
                    found.append(variant)
                    break
                failures[variant] = failure
        return found, failures

    def _disagreement(self, mode: str, y: Any, sigma: float, v: Any, expected: Any) -> str:
        """How the products of a mode differ from those by differences, if grossly."""
        import torch

        if mode == "reverse":  # <A^T u, v> against <u, A v> at u = A v
            product = self._reverse(sigma, y, expected)[1]
            found, sought = torch.sum(product * v), torch.sum(expected * expected)
        else:
            found, sought = self._product(mode)(sigma, y, v)[1], expected
        if torch.finfo(self.dtype or y.dtype).bits < 32:
            return ""  # differences are too coarse to tell
        off = float(torch.linalg.vector_norm(found - sought))
        size = float(torch.linalg.vector_norm(found) + torch.linalg.vector_norm(sought))
        if off > _GROSS * size:
            return f"differs from differences by {off / size:.0%}, as if part of the score were cut"
        return ""

    def _seconds(self, modes: Sequence[str], y: Any, sigma: float, v: Any) -> dict[str, float]:
        """Seconds per row of each mode, the median of three calls on a chunk of realistic size."""
        rows = min(_TRIAL_ROWS, y.shape[0])
        full = min(y.shape[0], self._rows or y.shape[0])
        while rows < full and _clock(partial(self._value, y[:rows], sigma), y) < _WELL_MEASURED:
            rows = min(2 * rows, full)

        def call(mode: str) -> float:
            work = partial(self._product(mode), sigma)
            return _clock(lambda: self._in_chunks(work, y[:rows], v[:rows]), y)

        times: dict[str, list[float]] = {mode: [] for mode in modes}
        for _ in range(4):  # in turns, so that a load on the machine falls on all; one to warm up
            for mode in modes:
                times[mode].append(call(mode))
        return {mode: statistics.median(calls[1:]) / rows for mode, calls in times.items()}

    # -- memory ------------------------------------------------------------------------------------

    def _tensors(self, sigma: float, *arrays: Array) -> list[Any]:
        """Arrays as tensors for `fn`, at least in float32; before the first, find the chunk."""
        import torch

        with torch.inference_mode(False):
            tensors = []
            for x in arrays:
                tensor = to_tensor(x, self.device, None)
                own = self.dtype or tensor.dtype
                tensor = tensor.to(torch.promote_types(own, torch.float32))
                tensors.append(tensor.clone() if tensor.is_inference() else tensor)
            if not self._not_compiled and self._compiled is None:
                self._try_to_compile(tensors[0][:_TRIAL_ROWS], sigma)
            if self._rows is None and tensors[0].shape[0] > 1:
                self._rows = self._fitting_rows(tensors[0], sigma)
        return tensors

    def _in_chunks(self, work: Callable[..., tuple[Any, ...]], *tensors: Any) -> tuple[Any, ...]:
        """Columns of `work` over chunks of rows, halved when memory runs out."""
        import torch

        parts: list[tuple[Any, ...]] = []
        size, start = tensors[0].shape[0], 0
        while start < size or not parts:
            stop = size if self._rows is None else min(start + self._rows, size)
            full = False
            try:
                parts.append(work(*(x[start:stop] for x in tensors)))
            except RuntimeError as error:
                full = stop - start > 1 and is_out_of_memory(error)
                if not full:
                    raise
            if full:  # outside of the handler, which holds the tensors of its frames
                self._rows = (stop - start) // 2
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()
            else:
                start = stop
        if len(parts) == 1:
            return parts[0]
        return tuple(torch.cat(column) for column in zip(*parts, strict=True))

    def _fitting_rows(self, y: Any, sigma: float) -> int:
        """Rows whose graph takes half of the memory there is, from what a further row adds."""
        import torch

        try:
            saved = [self._saved_bytes(torch.cat([y[:1]] * k), sigma) for k in (1, 3)]
        except Exception:  # a score that torch cannot differentiate keeps little
            saved = [0, 0]
        per_row = max((saved[1] - saved[0]) // 2, 64 * y.shape[1] * y.element_size())
        memory = torch.cuda.mem_get_info(y.device)[0] if y.device.type == "cuda" else MEMORY_BUDGET
        return max(1, int(memory // (2 * per_row)))

    def _saved_bytes(self, y: Any, sigma: float) -> int:
        import torch

        held: dict[int, int] = {}

        def pack(x: Any) -> Any:
            held[x.data_ptr()] = x.numel() * x.element_size()
            return x

        hooks = torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x)
        with torch.enable_grad(), hooks:
            kept = self._evaluate(y.detach().requires_grad_(True), sigma)
        del kept
        return sum(held.values())

    # -- compilation -------------------------------------------------------------------------------

    def _try_to_compile(self, y: Any, sigma: float) -> None:
        try:
            self._value(y, sigma)
        except Exception as error:  # compilers raise errors of their own
            self._compiled = None
            self._not_compiled = in_short(error)
            self._value(y, sigma)  # an error of the score's own comes out here
            self._warn_not_compiled()

    def _warn_not_compiled(self) -> None:
        warnings.warn(
            f"torch.compile fails on the score ({self._not_compiled}): it runs uncompiled. Pass "
            f"compile=False to leave it so.",
            stacklevel=4,
        )


@contextmanager
def forward_kernels() -> Iterator[None]:
    """Kernels that have forward mode in the place of those that do not.

    Attention by the plain kernel, and group_norm on contiguous input: its forward derivative takes
    a view of the input that others do not have.
    """
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    class Contiguous(torch.overrides.TorchFunctionMode):
        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            if func is torch.nn.functional.group_norm:
                args = (args[0].clone(memory_format=torch.contiguous_format), *args[1:])
            return func(*args, **(kwargs or {}))

    with ExitStack() as stack:
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        stack.enter_context(Contiguous())
        yield


def in_short(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:160].rstrip('.')}"


def is_out_of_memory(error: RuntimeError) -> bool:
    import torch

    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)


def _clock(work: Callable[[], Any], y: Any) -> float:
    """Seconds of `work`, what the device still has to do included."""
    import torch

    cuda = y.device.type == "cuda"
    if cuda:
        torch.cuda.synchronize(y.device)
    start = time.perf_counter()
    work()
    if cuda:
        torch.cuda.synchronize(y.device)
    return time.perf_counter() - start
