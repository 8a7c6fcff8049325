"""The CUDA driver: the core's dozen calls, each on the right device."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import attrs
import numpy as np

from forge3d_core.driver import AdoptedTexture, Command, Direction, poll_until
from forge3d_core.formats import TextureShape, block_rows, row_bytes
from forge3d_core.linear_texture import linear_bytes, shape_of
from forge3d_core.protocols import DeviceInfo, Heap, KernelSource, Limits, TextureFormat
from forge3d_core.units import align_up
from forge3d_cuda import kernels
from forge3d_cuda.current import BoundThreads, OnDevice
from forge3d_cuda.errors import translate
from forge3d_cuda.lanes import Lanes
from forge3d_cuda.memory import GRANULE, DevicePool
from forge3d_cuda.staging import HostBlock, Staging
from forge3d_cuda.submission import Submission

WAIT_PRECISION = 64
"""A wait ends at most this part of it late: a query costs 0.2 µs, a sleep 5 and what it sleeps."""


@attrs.define(eq=False)
class CudaDriver:
    """Implements ``forge3d_core.driver.Driver``; make it with :meth:`open`."""

    info: DeviceInfo
    native: Any  # cupy.cuda.Device
    _cupy: Any
    _runtime: Any
    _pool: DevicePool
    _lanes: Lanes
    _staging: Staging
    _limits: Limits
    _threads: BoundThreads

    @classmethod
    def open(cls, cupy: Any, info: DeviceInfo, limits: Limits, *, shared: bool = False) -> CudaDriver:
        """Open device ``int(info.selector)``, creating its context unless there is one.

        ``shared``: its owner works there too, on the legacy default stream; see :mod:`forge3d_cuda.lanes`.
        """
        runtime, index = cupy.cuda.runtime, int(info.selector)
        try:
            with OnDevice(runtime, index):
                runtime.setDevice(index)  # current already when a thread is new, and with no context yet
                pool = DevicePool.on(cupy, index)
                try:
                    pool.warm_up()
                    lanes = Lanes.on(runtime, pool, limits, shared=shared)
                except BaseException:
                    pool.close()
                    raise
                staging = Staging(runtime, index, lambda: lanes.idle)
                threads = BoundThreads(runtime, index)
                native = cupy.cuda.Device(index)
                return cls(info, native, cupy, runtime, pool, lanes, staging, limits, threads)
        except RuntimeError as error:
            raise translate(error, f"opening CUDA device {index} ({info.name})") from error

    @property
    def measures_transfers(self) -> bool:
        """True: what suits them depends on the link and on the host's memory."""
        return True

    def _current(self) -> OnDevice:
        return OnDevice(self._runtime, self.native.id)

    def footprint(self, nbytes: int, heap: Heap) -> int:
        return Staging.footprint(nbytes) if heap == "host_visible" else align_up(nbytes, GRANULE)

    def allocate_buffer(self, nbytes: int) -> Any:
        with self._current():
            return self._pool.allocate((nbytes,))

    def allocate_texture(self, width: int, height: int, format: TextureFormat) -> Any:
        with self._current():
            return self._pool.allocate((block_rows(height, format), row_bytes(width, format)))

    def allocate_shaped_texture(self, shape: TextureShape, format: TextureFormat) -> Any:
        with self._current():
            return self._pool.allocate((linear_bytes(shape, format),))

    def allocate_block(self, nbytes: int, direction: Direction) -> HostBlock:
        with self._current():
            return self._staging.allocate(nbytes)

    def free(self, native: Any) -> bool:
        """Let go; all memory goes back with the last array over it, which is usually ours.

        Not yet, for a block, while the device is busy: see :class:`Staging`.
        """
        return self._staging.free(native) if isinstance(native, HostBlock) else True

    def memory_info(self) -> tuple[int, int]:
        """Return what ``cudaMemGetInfo`` does: free and total, of the device and all its processes."""
        try:
            with self._current():
                free, total = self._runtime.memGetInfo()
        except RuntimeError as error:
            raise translate(error, "asking for the device's memory") from error
        return int(free), int(total)

    def adopt(self, native: Any) -> tuple[Any, int]:
        with self._current():
            array = self._pool.adopt(native)
        return array, array.size

    def adopt_texture(self, native: Any, format: TextureFormat | None) -> AdoptedTexture | None:
        if format is None:
            return None
        memory, _ = self.adopt(native)
        described = native.__cuda_array_interface__
        itemsize = np.dtype(described["typestr"]).itemsize
        return AdoptedTexture(memory, shape_of(tuple(described["shape"]), itemsize, format), format)

    def compile(self, source: KernelSource) -> tuple[str, Any]:
        with self._current():
            return kernels.LANGUAGE, kernels.compile_source(self._cupy, source, self._limits)

    def release_kernel(self, native: kernels.CompiledKernel) -> None:
        """Unload a kernel."""
        with self._current():
            native.entry.release()

    def push_range(self, name: str) -> None:
        """Begin an NVTX range of the calling thread."""
        self._cupy.cuda.nvtx.RangePush(name)

    def pop_range(self) -> None:
        """End the innermost."""
        self._cupy.cuda.nvtx.RangePop()

    def submit(self, lane: str, commands: Sequence[Command], after: Sequence[Submission]) -> Submission:
        if self._threads.ready():
            return self._lanes.submit(lane, commands, after)
        with self._current():
            self._threads.bind()
            return self._lanes.submit(lane, commands, after)

    def query(self, token: Submission) -> bool:
        return self._lanes.query(token)

    def wait(self, token: Submission, seconds: float) -> bool:
        return poll_until(partial(self._lanes.query, token), seconds, precision=WAIT_PRECISION)

    def check(self) -> None:
        self._lanes.check()

    def retire(self, token: Submission) -> None:
        self._lanes.retire(token)
        self._staging.free_list.trim()

    def close(self, timeout: float) -> bool:
        """Let work end, then give everything back; what arrays still show goes back with the last of them.

        Not yet while our lanes are busy: it would be taken from under their work, or CUDA would wait for it.
        """
        if not self._lanes.drain(timeout):
            return False
        self._lanes.close()
        self._staging.close()
        self._pool.close()
        return True
