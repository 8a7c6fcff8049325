"""Kernels: CUDA C++ through NVRTC, and the launch of what it makes."""

from __future__ import annotations

import re
from typing import Any

import attrs
import numpy as np

from forge3d_core.driver import Dispatch
from forge3d_core.errors import KernelError
from forge3d_core.protocols import KernelSource, Limits
from forge3d_cuda.errors import status_of, translate

LANGUAGE = "cuda"
OPTIONS = ("--std=c++17",)
_MAX_WORKGROUP = (1024, 1024, 64)  # of every CUDA device there is
_CLUSTER = (11, 12, 13)  # CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_WIDTH, _HEIGHT and _DEPTH
_NOT_FOUND = 500
_LOCATION = re.compile(
    r"^(\S*\.cu|default_program)?(?=\(\d+\): )", re.MULTILINE
)  # no file that anybody wrote
_SCALARS: dict[str, Any] = {"u4": np.uint32, "i4": np.int32, "f4": np.float32}


@attrs.frozen(eq=False)
class CompiledKernel:
    """A loaded kernel and what a launch needs to know of it."""

    function: Any = attrs.field(repr=False)  # cupy.cuda.Function
    name: str
    workgroup: tuple[int, int, int]
    alignments: tuple[int, ...] = attrs.field(repr=False)
    scalars: tuple[Any, ...] = attrs.field(repr=False)
    # workgroups that run together, in each dimension; 0: as they come
    cluster: tuple[int, ...] = attrs.field(default=(0, 0, 0), repr=False)

    def grid(self, threads: tuple[int, int, int]) -> tuple[int, int, int]:
        x, y, z = (-(-count // size) for count, size in zip(threads, self.workgroup, strict=True))
        return x, y, z


def compile_source(cupy: Any, source: KernelSource) -> CompiledKernel:
    """Compile and load ``source`` on the current device.

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
        function=function,
        name=source.name,
        workgroup=source.workgroup,
        alignments=tuple(np.dtype(binding.dtype).itemsize for binding in source.bindings),
        scalars=tuple(_SCALARS[param.dtype] for param in source.params),
        cluster=_cluster_of(cupy, function),
    )


def _cluster_of(cupy: Any, function: Any) -> tuple[int, ...]:
    """Return what ``__cluster_dims__`` says of a kernel."""
    driver = cupy.cuda.driver
    try:
        return tuple(int(driver.funcGetAttribute(attribute, function.ptr)) for attribute in _CLUSTER)
    except RuntimeError:
        return 0, 0, 0  # a driver from before clusters, which knows no such attribute


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
            f"with ({most} in all, {' × '.join(map(str, _MAX_WORKGROUP))} at most); make it smaller"
        )


def check(command: Dispatch, limits: Limits) -> None:
    """Raise ``KernelError`` for a launch that CUDA would refuse or that would take the device down."""
    kernel: CompiledKernel = command.kernel.native
    grid = kernel.grid(command.threads)
    if any(n > limit for n, limit in zip(grid, limits.max_groups, strict=True)):
        raise KernelError(
            f"kernel {kernel.name!r}: {' × '.join(map(str, grid))} workgroups are more than the device's "
            f"{' × '.join(map(str, limits.max_groups))}; dispatch fewer threads or use larger workgroups"
        )
    if any(size and n % size for n, size in zip(grid, kernel.cluster, strict=True)):
        raise KernelError(
            f"kernel {kernel.name!r}: {' × '.join(map(str, grid))} workgroups are no whole clusters of "
            f"{' × '.join(map(str, kernel.cluster))}, as its __cluster_dims__ wants them; dispatch a multiple"
        )
    for memory, alignment in zip(command.buffers, kernel.alignments, strict=True):
        if memory.native.data.ptr % alignment:
            raise KernelError(
                f"kernel {kernel.name!r}: an adopted buffer starts at {memory.native.data.ptr:#x}, which is "
                f"not aligned to its elements of {alignment} bytes; adopt an aligned array"
            )


def dispatch(lane: Any, command: Dispatch) -> None:
    """Launch on ``lane``, of which CuPy only asks the stream as ``ptr``."""
    kernel: CompiledKernel = command.kernel.native
    scalars = [scalar(value) for scalar, value in zip(kernel.scalars, command.params, strict=True)]
    arguments = (*(memory.native for memory in command.buffers), *scalars)
    kernel.function(kernel.grid(command.threads), kernel.workgroup, arguments, 0, lane)
