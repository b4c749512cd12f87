"""A pretended accelerator: CPU numbers under another device's name, which counts its traffic.

`install` registers torch's PrivateUse1 backend in Python under the name ``pretended``. Networks,
autograd and every generator then run on ``torch.device("pretended")`` as they would on a GPU:
operators see tensors of that device, tensors of two devices are refused, and whatever makes a
program wait for a real GPU is counted. Arithmetic is that of the CPU, bit for bit.

A backend stays registered as long as the process lives, so tests that use it start one of their
own (`run_alone`).
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch.utils._pytree import tree_flatten, tree_map_only
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "pretended"
ROOT = Path(__file__).parents[2]
OUT_OF_MEMORY = "pretended out of memory. Tried to allocate 2.00 GiB"

aten = torch.ops.aten
_COPIES = {aten._to_copy.default, aten.copy_.default}
_WHERE = {aten.where.self}
"""Numbers of the host beside tensors become tensors there, which are copied to the device."""
_INDEXED = {aten.index.Tensor, aten.index_put_.default, aten.index_put.default}
_SCALARS = {aten._local_scalar_dense.default, aten.is_nonzero.default, aten.equal.default}
_SIZED_BY_DATA = {
    aten.nonzero.default,
    aten.masked_select.default,
    aten._unique2.default,
    aten.unique_dim.default,
    aten.unique_consecutive.default,
    aten.bincount.default,
}
"""Operators whose result's shape is known only when the device has computed it."""


@dataclass
class Traffic:
    """What crossed between host and device.

    Parameters
    ----------
    to_device : int
        Copies from the host to the device.
    waits : int
        Times that the host waited for the device: copies back that are not ``non_blocking``,
        ``.item()``, ``bool(tensor)``, ``nonzero``, indexing with booleans, ``synchronize``.
    from_device : int
        Copies from the device to the host, those without waiting included.
    n_operators : int
        Operators that ran on the device.
    places : Counter
        (kind, file:line, operator) → how often; lines of this project only.
    """

    to_device: int = 0
    waits: int = 0
    from_device: int = 0
    n_operators: int = 0
    places: Counter[tuple[str, str, str]] = field(default_factory=Counter)

    def listed(self) -> str:
        """List where the traffic came from.

        Returns
        -------
        str
            One line a place.
        """
        lines = []
        for (kind, place, operator), times in self.places.most_common():
            lines.append(f"{times} x {kind} at {place} ({operator})")
        return "\n".join(lines)


@dataclass
class _Device:
    traffic: list[Traffic] = field(default_factory=list)
    listeners: list[Callable[[str, Any], None]] = field(default_factory=list)
    late: list[Exception] = field(default_factory=list)
    has_float64: bool = True
    n_free: int | None = None
    libraries: list[Any] = field(default_factory=list)


_DEVICE = _Device()


def _place() -> str:
    """Find the line of this project that asked for an operator."""
    frame = sys._getframe(2)
    while frame is not None:
        path = frame.f_code.co_filename
        if path.startswith(str(ROOT)) and path != __file__ and ".venv" not in path:
            return f"{os.path.relpath(path, ROOT)}:{frame.f_lineno}"
        frame = frame.f_back
    return "elsewhere"


def _count(kind: str, operator: Any) -> None:
    place = _place() if _DEVICE.traffic else ""
    for traffic in _DEVICE.traffic:
        setattr(traffic, kind, getattr(traffic, kind) + 1)
        traffic.places[kind, place, str(operator)] += 1


class PretendedTensor(torch.Tensor):
    """A tensor of the pretended device; `values` is its CPU tensor."""

    values: torch.Tensor

    @staticmethod
    def __new__(cls, values: torch.Tensor) -> PretendedTensor:
        """Give a CPU tensor the device's name.

        Parameters
        ----------
        values : Tensor
            On the CPU.

        Returns
        -------
        PretendedTensor
            It shares the memory.
        """
        if values.dtype == torch.float64 and not _DEVICE.has_float64:
            raise TypeError(
                f"Cannot convert a {NAME} Tensor to float64 dtype as the {NAME} framework doesn't "
                "support float64. Please use float32 instead."
            )
        tensor = torch.Tensor._make_wrapper_subclass(
            cls,
            values.size(),
            strides=values.stride(),
            storage_offset=values.storage_offset(),
            dtype=values.dtype,
            layout=values.layout,
            device=torch.device(NAME, 0),
        )
        tensor.values = values
        return tensor

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        """Show the values.

        Parameters
        ----------
        tensor_contents : object
            Not used.

        Returns
        -------
        str
            Of the CPU's tensor, with the name of the device.
        """
        return f"PretendedTensor({self.values!r})"

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        """Copy memory and grad, as for tensors of any device.

        Parameters
        ----------
        memo : dict
            Copies made so far.

        Returns
        -------
        Tensor
            A leaf of the same class.
        """
        if id(self) in memo:
            return memo[id(self)]
        with torch.no_grad():
            copied = PretendedTensor(self.values.clone(memory_format=torch.preserve_format))
        result: torch.Tensor = copied
        if isinstance(self, torch.nn.Parameter):
            result = torch.nn.Parameter(copied, requires_grad=self.requires_grad)
        else:
            result.requires_grad_(self.requires_grad)
        memo[id(self)] = result
        return result

    def tolist(self) -> Any:
        """Copy the numbers to the host.

        Returns
        -------
        list or number
            As of any tensor.
        """
        return self.cpu().tolist()

    def numpy(self, *, force: bool = False) -> Any:
        """Refuse to become an array without being copied first, as tensors of a GPU do.

        Parameters
        ----------
        force : bool
            Whether to copy.

        Returns
        -------
        ndarray
            Of the copy.

        Raises
        ------
        TypeError
            Without `force`.
        """
        if not force:
            raise TypeError(
                f"can't convert {NAME}:0 device type tensor to numpy. Use Tensor.cpu() to copy the "
                "tensor to host memory first."
            )
        return self.detach().cpu().numpy()

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Compute an operator on the CPU's tensors; count what crosses, refuse mixtures.

        Parameters
        ----------
        func : OpOverload
            The operator.
        types : sequence of type
            Not used.
        args, kwargs : object
            Its arguments.

        Returns
        -------
        object
            Tensors of the device, or of the host where it was copied there.
        """
        kwargs = kwargs or {}
        _listened(func, args)
        for traffic in _DEVICE.traffic:
            traffic.n_operators += 1
        if func in _COPIES:
            return _copied(func, args, kwargs)
        _refuse_mixtures(func, args, kwargs)
        _count_host(func, args)
        inner_args, inner_kwargs = _values((args, kwargs))
        if "device" in inner_kwargs and inner_kwargs["device"] is not None:
            stays = torch.device(inner_kwargs["device"]).type == NAME
            inner_kwargs["device"] = torch.device("cpu")
            result = func(*inner_args, **inner_kwargs)
            return _wrapped(result) if stays else result
        result = func(*inner_args, **inner_kwargs)
        changed = _changed(func, args, kwargs)
        if changed is not None:
            return changed
        return _wrapped(result)


def _listened(func: Any, args: Any) -> None:
    """Tell the listeners of an operator; their errors end it.

    In a backward pass operators run in a thread of torch, which an error of Python would abort:
    there it is kept until the pass has ended.
    """
    is_backward = isinstance(threading.current_thread(), threading._DummyThread)
    for listener in list(_DEVICE.listeners):
        try:
            listener(str(func), args)
        except Exception as error:
            if not is_backward:
                raise
            _DEVICE.late.append(error)


_engine = torch.autograd._engine_run_backward  # type: ignore[attr-defined]


def _backward(*args: Any, **kwargs: Any) -> Any:
    results = _engine(*args, **kwargs)
    if not _DEVICE.late:
        return results
    first, *_ = _DEVICE.late
    _DEVICE.late.clear()
    raise first


def _values(tree: Any) -> Any:
    return tree_map_only(PretendedTensor, lambda tensor: tensor.values, tree)


def _wrapped(tree: Any) -> Any:
    return tree_map_only(torch.Tensor, PretendedTensor, tree)


def _changed(func: Any, args: Any, kwargs: Any) -> Any:
    """Find the arguments that an operator changed, which are its results."""
    changed = []
    given = dict(kwargs)
    for argument, value in zip(func._schema.arguments, args, strict=False):
        given[argument.name] = value
    for argument in func._schema.arguments:
        alias = argument.alias_info
        if alias is not None and alias.is_write and argument.name in given:
            changed.append(given[argument.name])
    returned = [output for output in func._schema.returns if output.alias_info is not None]
    if not changed or not any(output.alias_info.is_write for output in returned):
        return None if not changed or func._schema.returns else _NOTHING
    return changed[0] if len(func._schema.returns) == 1 else tuple(changed)


_NOTHING = ()


def _refuse_mixtures(func: Any, args: Any, kwargs: Any) -> None:
    """Refuse tensors of the host beside those of the device, as CUDA does.

    Numbers without dimensions may come from the host, and so may indices.
    """
    indices: set[int] = set()
    if func in _INDEXED:
        indices = {id(index) for index in args[1] if index is not None}
    tensors = [leaf for leaf in tree_flatten((args, kwargs))[0] if isinstance(leaf, torch.Tensor)]
    for tensor in tensors:
        if isinstance(tensor, PretendedTensor) or tensor.dim() == 0 or id(tensor) in indices:
            continue
        raise RuntimeError(
            f"Expected all tensors to be on the same device, but found at least two devices, "
            f"{NAME}:0 and {tensor.device}! ({func}, {tuple(tensor.shape)})"
        )


def _count_host(func: Any, args: Any) -> None:
    """Count what the host waits for, and what it hands over beside tensors of the device."""
    if func in _SCALARS or func in _SIZED_BY_DATA:
        _count("waits", func)
    if func in _SCALARS:
        _count("from_device", func)
    if func in _INDEXED:
        _count_indices(func, args[1])
    if func in _WHERE:
        for tensor in args:
            if not isinstance(tensor, PretendedTensor):
                _count("to_device", func)


def _count_indices(func: Any, indices: Any) -> None:
    for index in indices:
        if index is None:
            continue
        if not isinstance(index, PretendedTensor):
            _count("to_device", func)
        if index.dtype in (torch.bool, torch.uint8):
            _count("waits", func)


def _copied(func: Any, args: Any, kwargs: Any) -> Any:
    """Copy within the device, to it, or back."""
    if func is aten.copy_.default:
        target, source, *rest = args
        waits = not (rest[0] if rest else kwargs.get("non_blocking", False))
        _count_copy(func, source, isinstance(target, PretendedTensor), waits)
        func(*_values(args), **kwargs)
        return target
    (source,) = args
    options = dict(kwargs)
    device = options.pop("device", None)
    to_device = isinstance(source, PretendedTensor)
    if device is not None:
        to_device = torch.device(device).type == NAME
    _count_copy(func, source, to_device, not options.get("non_blocking", False))
    values = _values(source)
    result = func(values, **options)
    if result.data_ptr() == values.data_ptr() and result.numel():
        result = result.clone()
    return PretendedTensor(result) if to_device else result


def _count_copy(func: Any, source: torch.Tensor, to_device: bool, waits: bool) -> None:
    from_device = isinstance(source, PretendedTensor)
    if to_device and not from_device:
        _count("to_device", func)
    if from_device and not to_device:
        _count("from_device", func)
        if waits:
            _count("waits", func)


def _cpu_options(dtype: Any, memory_format: Any = None) -> dict[str, Any]:
    options = {"dtype": dtype or torch.get_default_dtype(), "device": "cpu"}
    if memory_format is not None:
        options["memory_format"] = memory_format
    return options


def _empty(
    size: Any,
    dtype: Any = None,
    layout: Any = None,
    device: Any = None,
    pin_memory: Any = None,
    memory_format: Any = None,
) -> PretendedTensor:
    return PretendedTensor(torch.empty(size, **_cpu_options(dtype, memory_format)))


def _empty_strided(
    size: Any,
    stride: Any,
    dtype: Any = None,
    layout: Any = None,
    device: Any = None,
    pin_memory: Any = None,
) -> PretendedTensor:
    return PretendedTensor(torch.empty_strided(size, stride, **_cpu_options(dtype)))


def _copy_from(
    source: torch.Tensor, target: torch.Tensor, non_blocking: bool = False
) -> torch.Tensor:
    return _copied(aten.copy_.default, (target, source, non_blocking), {})


def _module() -> ModuleType:
    """Make ``torch.pretended``, the counterpart of ``torch.cuda``."""
    module = ModuleType(f"torch.{NAME}")
    module.is_available = lambda: True
    module.is_initialized = lambda: True
    module._is_in_bad_fork = lambda: False
    module.current_device = lambda: 0
    module.device_count = lambda: 1
    module.manual_seed_all = lambda seed: None
    module.empty_cache = lambda: None
    module.synchronize = lambda device=None: _count("waits", "synchronize")
    module.get_amp_supported_dtype = lambda: [torch.bfloat16, torch.float16]
    module.mem_get_info = _memory
    return module


def _memory(device: Any = None) -> tuple[int, int]:
    if _DEVICE.n_free is None:
        raise RuntimeError(f"{NAME} does not know its memory")
    return _DEVICE.n_free, _DEVICE.n_free


def install() -> torch.device:
    """Register the device in this process, once.

    Returns
    -------
    torch.device
        ``pretended:0``.
    """
    if not _DEVICE.libraries:
        _setup_privateuseone_for_python_backend(NAME, backend_module=_module())
        kernels_of_device = torch.library.Library("aten", "IMPL")
        kernels = {
            "empty.memory_format": _empty,
            "empty_strided": _empty_strided,
            "_copy_from": _copy_from,
        }
        for name, kernel in kernels.items():
            kernels_of_device.impl(name, kernel, "PrivateUse1")
        fallback = torch.library.Library("_", "IMPL")
        fallback.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
        _DEVICE.libraries = [kernels_of_device, fallback]
        torch.autograd._engine_run_backward = _backward  # type: ignore[attr-defined]
        # `.data = …` exchanges what torch sees, not `values`: modules get new parameters instead
        torch.__future__.set_overwrite_module_params_on_conversion(True)
    return torch.device(NAME, 0)


@contextmanager
def counted() -> Iterator[Traffic]:
    """Count what crosses inside the block.

    Yields
    ------
    Traffic
        Grows while the block runs.
    """
    traffic = Traffic()
    _DEVICE.traffic.append(traffic)
    try:
        yield traffic
    finally:
        _DEVICE.traffic.remove(traffic)


@contextmanager
def listening(listener: Callable[[str, Any], None]) -> Iterator[None]:
    """Tell a function of each operator, before it runs; what it raises is the operator's error.

    Parameters
    ----------
    listener : callable
        Takes the operator's name, as ``aten.convolution.default``, and its arguments.

    Yields
    ------
    None
    """
    _DEVICE.listeners.append(listener)
    try:
        yield
    finally:
        _DEVICE.listeners.remove(listener)


class MemoryRunsOut:
    """A listener that raises torch's error at some calls of an operator.

    Parameters
    ----------
    operator : str
        Part of its name, as ``convolution.default``.
    at : container of int
        Calls that fail, counted from 0.
    above : int
        Only operators whose first argument has more rows than this count.
    within : str
        Only operators that a function of this name asked for, or what it called, count.
    """

    def __init__(self, operator: str, at: Any, above: int = 0, within: str = "") -> None:
        self.operator, self.at, self.above, self.within = operator, at, above, within
        self.calls = self.failures = 0

    def __call__(self, name: str, args: Any) -> None:
        """Count, and fail where it is asked for.

        Parameters
        ----------
        name : str
            Name of an operator.
        args : sequence
            Its arguments.
        """
        if self.operator not in name or (self.within and not _is_within(self.within)):
            return
        if self.above:
            first = args[0] if args else None
            if not isinstance(first, torch.Tensor) or not first.dim() or len(first) <= self.above:
                return
        self.calls += 1
        if self.calls - 1 in self.at:
            self.failures += 1
            raise torch.OutOfMemoryError(OUT_OF_MEMORY)


def _is_within(function: str) -> bool:
    frame = sys._getframe(2)
    while frame is not None:
        if frame.f_code.co_name == function:
            return True
        frame = frame.f_back
    return False


@contextmanager
def without_float64() -> Iterator[None]:
    """Let the device refuse float64 inside the block, as Apple's MPS does.

    Yields
    ------
    None
    """
    _DEVICE.has_float64 = False
    try:
        yield
    finally:
        _DEVICE.has_float64 = True


@contextmanager
def with_memory(n_bytes: int) -> Iterator[None]:
    """Let the device say how much memory it has.

    Parameters
    ----------
    n_bytes : int
        Free bytes, for ``torch.pretended.mem_get_info``.

    Yields
    ------
    None
    """
    _DEVICE.n_free = n_bytes
    try:
        yield
    finally:
        _DEVICE.n_free = None


def run_alone(path: str | os.PathLike[str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a file of tests in a process of its own, where the device may be registered.

    Parameters
    ----------
    path : path-like
        File of tests.
    *arguments : str
        More for pytest.

    Returns
    -------
    CompletedProcess
        Its output is text.
    """
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", "-p", "no:cacheprovider"]
    run = partial(subprocess.run, capture_output=True, text=True, check=False)
    return run([*command, str(path), *arguments], cwd=ROOT)
