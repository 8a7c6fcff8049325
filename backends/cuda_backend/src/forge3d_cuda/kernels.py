"""Kernels: CUDA C++ through NVRTC, and the launch of what it makes."""

from __future__ import annotations

import ctypes
import re
import struct
from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np

from forge3d_core.driver import Dispatch
from forge3d_core.errors import KernelError
from forge3d_core.protocols import KernelSource, Limits
from forge3d_cuda.errors import status_of, translate
from forge3d_cuda.transfers import Call

LANGUAGE = "cuda"
OPTIONS = ("--std=c++17",)
_MAX_WORKGROUP = (1024, 1024, 64)  # of every CUDA device there is
_CLUSTER = (11, 12, 13)  # CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_WIDTH, _HEIGHT and _DEPTH
_NOT_FOUND = 500
_NO_CLUSTER = (0, 0, 0)
_LOCATION = re.compile(r"^(\S*\.cu|default_program)?(?=\(\d+\): )", re.MULTILINE)  # NVRTC's name for it
_POINTER, _SLOT = "Q", 8
_SCALARS = {"u4": "I4x", "i4": "i4x", "f4": "f4x"}  # a slot each


class Entry:
    """A loaded function, and the memory that a launch takes its arguments from.

    A slot for each argument, and before them a list of where they are. CUDA copies them during the call and
    submissions come one at a time, so one memory serves every launch.
    """

    __slots__ = ("_address", "_function", "_launch", "_memory", "_pack", "_ptr", "_start")

    def __init__(self, cupy: Any, function: Any, pointers: int, scalars: Sequence[str]) -> None:
        count = pointers + len(scalars)
        layout = "=" + _POINTER * pointers + "".join(_SCALARS[name] for name in scalars)
        self._function = function  # a cupy.cuda.Function, which keeps the module loaded
        self._ptr = function.ptr
        self._launch = cupy.cuda.driver.launchKernel
        self._pack = struct.Struct(layout).pack_into
        self._memory = (ctypes.c_uint64 * (2 * count))()
        self._start = _SLOT * count
        self._address = ctypes.addressof(self._memory)
        for index in range(count):
            self._memory[index] = self._address + self._start + _SLOT * index

    def release(self) -> None:
        """Let go of the function, and of its module, which CUDA unloads unless another has it."""
        self._function = None

    def launch(
        self,
        grid: tuple[int, int, int],
        workgroup: tuple[int, int, int],
        values: Sequence[float],
        stream: int,
    ) -> None:
        x, y, z = grid
        width, height, depth = workgroup
        self._pack(self._memory, self._start, *values)
        self._launch(self._ptr, x, y, z, width, height, depth, 0, stream, self._address, 0)


@attrs.frozen(eq=False)
class CompiledKernel:
    """A loaded kernel and what a launch needs to know of it."""

    entry: Entry = attrs.field(repr=False)
    name: str
    workgroup: tuple[int, int, int]
    alignments: tuple[int, ...] = attrs.field(repr=False)
    max_groups: tuple[int, int, int] = attrs.field(repr=False)
    # workgroups that run together, in each dimension; 0: as they come
    cluster: tuple[int, ...] = attrs.field(default=_NO_CLUSTER, repr=False)
    low_bits: int = attrs.field(init=False, repr=False)  # those that an aligned address lacks

    @low_bits.default
    def _of_the_alignments(self) -> int:
        return max(self.alignments, default=1) - 1

    def check(self, grid: tuple[int, int, int], addresses: Sequence[int]) -> None:
        """Raise ``KernelError`` for a launch that CUDA would refuse or that would take the device down."""
        if any(n > most for n, most in zip(grid, self.max_groups, strict=True)):
            raise KernelError(
                f"kernel {self.name!r}: {_times(grid)} workgroups are more than the device's "
                f"{_times(self.max_groups)}; dispatch fewer threads or use larger workgroups"
            )
        if any(size and n % size for n, size in zip(grid, self.cluster, strict=True)):
            raise KernelError(
                f"kernel {self.name!r}: {_times(grid)} workgroups are no whole clusters of "
                f"{_times(self.cluster)}, as its __cluster_dims__ wants them; dispatch a multiple"
            )
        for address, alignment in zip(addresses, self.alignments, strict=True):
            if address % alignment:
                raise KernelError(
                    f"kernel {self.name!r}: an adopted buffer starts at {address:#x}, which is "
                    f"not aligned to its elements of {alignment} bytes; adopt an aligned array"
                )


def _times(numbers: Sequence[int]) -> str:
    return " × ".join(map(str, numbers))


def compile_source(cupy: Any, source: KernelSource, limits: Limits) -> CompiledKernel:
    """Compile and load ``source`` on the current device, which has ``limits``.

    Raises ``KernelError`` with NVRTC's lines, numbered as in the source.
    """
    code = source.sources.get(LANGUAGE)
    if not isinstance(code, str):
        raise KernelError(
            f"kernel {source.name!r} has sources for {', '.join(sorted(source.sources)) or 'no language'} "
            f"and this device speaks {LANGUAGE}; add a {LANGUAGE!r} source, as text"
        )
    try:
        kernel = cupy.RawModule(code=code, options=OPTIONS).get_function(source.name)
        function = kernel.kernel
        # CUDA loads lazily, and loading in the middle of a launch waits for kernels that are running.
        # Asking for an attribute loads now.
        most = int(kernel.max_threads_per_block)
    except cupy.cuda.compiler.CompileException as error:
        log = _LOCATION.sub(source.name, str(error)).strip()
        raise KernelError(f"kernel {source.name!r} does not compile as {LANGUAGE}:\n{log}") from error
    except (RuntimeError, ImportError, OSError) as error:
        raise _unloadable(source.name, error) from error
    _check_workgroup(source, most)
    return CompiledKernel(
        entry=Entry(cupy, function, len(source.bindings), [param.dtype for param in source.params]),
        name=source.name,
        workgroup=source.workgroup,
        alignments=tuple(np.dtype(binding.dtype).itemsize for binding in source.bindings),
        max_groups=limits.max_groups,
        cluster=_cluster_of(cupy, function),
    )


def _cluster_of(cupy: Any, function: Any) -> tuple[int, ...]:
    """Return what ``__cluster_dims__`` says of a kernel."""
    driver = cupy.cuda.driver
    try:
        cluster = tuple(int(driver.funcGetAttribute(attribute, function.ptr)) for attribute in _CLUSTER)
    except RuntimeError:
        return _NO_CLUSTER  # a driver from before clusters, which knows no such attribute
    return cluster if any(cluster) else _NO_CLUSTER


def _unloadable(name: str, error: Exception) -> Exception:
    status = status_of(error)
    if status == _NOT_FOUND:
        return KernelError(
            f"kernel {name!r}: its {LANGUAGE} source has no such entry point; "
            f'declare extern "C" __global__ void {name}(...)'
        )
    if status is not None:
        return translate(error, f"loading kernel {name!r}")
    if isinstance(error, OSError) and error.errno is not None:
        return KernelError(
            f"kernel {name!r} cannot be cached: {error}; set CUPY_CACHE_DIR to a writable folder or "
            "CUPY_CACHE_IN_MEMORY=1"
        )
    return KernelError(
        f"kernel {name!r} cannot be compiled, NVRTC is not usable: {error}; "
        "pip install 'cuda-toolkit[cudart,nvrtc]==13.*', or 12.* beside cupy-cuda12x"
    )


def _check_workgroup(source: KernelSource, most: int) -> None:
    x, y, z = source.workgroup
    if x * y * z > most or any(n > limit for n, limit in zip((x, y, z), _MAX_WORKGROUP, strict=True)):
        raise KernelError(
            f"kernel {source.name!r}: a workgroup of {x} × {y} × {z} threads is more than it can be launched "
            f"with ({most} in all, {_times(_MAX_WORKGROUP)} at most); make it smaller"
        )


def dispatch(command: Dispatch) -> Call:
    """Return the launch that ``command`` is; raises ``KernelError`` for one that cannot be."""
    kernel: CompiledKernel = command.kernel.native
    x, y, z = command.threads
    width, height, depth = kernel.workgroup
    x, y, z = grid = -(-x // width), -(-y // height), -(-z // depth)
    most_x, most_y, most_z = kernel.max_groups
    bits, addresses = 0, []
    for memory in command.buffers:
        address = memory.native.data.ptr
        bits |= address
        addresses.append(address)
    too_many = x > most_x or y > most_y or z > most_z
    if too_many or bits & kernel.low_bits or kernel.cluster is not _NO_CLUSTER:
        kernel.check(grid, addresses)
    return kernel.entry.launch, (grid, kernel.workgroup, (*addresses, *command.params))
