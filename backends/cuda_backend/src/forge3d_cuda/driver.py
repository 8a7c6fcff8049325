"""The CUDA driver: the core's dozen calls, each on the right device."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from types import TracebackType
from typing import Any

import attrs

from forge3d_core.driver import Command, Direction, poll_until
from forge3d_core.protocols import DeviceInfo, Heap, KernelSource, Limits, TextureFormat
from forge3d_core.units import align_up
from forge3d_cuda import kernels
from forge3d_cuda.errors import translate
from forge3d_cuda.lanes import Lanes, Token
from forge3d_cuda.memory import GRANULE, DevicePool, texture_shape
from forge3d_cuda.staging import HostBlock, Staging


class OnDevice:
    """Makes a device current for a block of code and gives the caller's back, as the thread's own."""

    __slots__ = ("_index", "_previous", "_runtime")

    def __init__(self, runtime: Any, index: int) -> None:
        self._runtime = runtime
        self._index = index

    def __enter__(self) -> None:
        try:
            self._previous = self._runtime.getDevice()
            if self._previous != self._index:
                self._runtime.setDevice(self._index)
        except RuntimeError as error:
            raise translate(error, f"making CUDA device {self._index} current") from error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._previous != self._index:
            try:
                self._runtime.setDevice(self._previous)
            except RuntimeError:
                pass  # the caller's device is lost; its own next call will say so


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

    @classmethod
    def open(cls, cupy: Any, info: DeviceInfo, limits: Limits) -> CudaDriver:
        """Open device ``int(info.selector)``, creating its context if nobody has yet."""
        runtime, index = cupy.cuda.runtime, int(info.selector)
        try:
            with OnDevice(runtime, index):
                runtime.setDevice(index)  # current already when a thread is new, and with no context yet
                pool = DevicePool.on(cupy, index)
                try:
                    pool.warm_up()
                    lanes = Lanes.on(runtime, pool, limits)
                except BaseException:
                    pool.close()
                    raise
                staging = Staging(runtime, lambda: lanes.idle)
                return cls(info, cupy.cuda.Device(index), cupy, runtime, pool, lanes, staging)
        except RuntimeError as error:
            raise translate(error, f"opening CUDA device {index} ({info.name})") from error

    def _current(self) -> OnDevice:
        return OnDevice(self._runtime, self.native.id)

    def footprint(self, nbytes: int, heap: Heap) -> int:
        return Staging.footprint(nbytes) if heap == "host_visible" else align_up(nbytes, GRANULE)

    def allocate_buffer(self, nbytes: int) -> Any:
        with self._current():
            return self._pool.allocate((nbytes,))

    def allocate_texture(self, width: int, height: int, format: TextureFormat) -> Any:
        with self._current():
            return self._pool.allocate(texture_shape(width, height, format))

    def allocate_block(self, nbytes: int, direction: Direction) -> HostBlock:
        with self._current():
            return self._staging.allocate(nbytes)

    def free(self, native: Any) -> bool:
        """Let go; all memory goes back with the last array over it, which is usually ours.

        Not yet, for a block, while the device is busy: see :class:`Staging`.
        """
        return self._staging.free(native) if isinstance(native, HostBlock) else True

    def adopt(self, native: Any) -> tuple[Any, int]:
        with self._current():
            array = self._pool.adopt(native)
        return array, array.size

    def compile(self, source: KernelSource) -> tuple[str, Any]:
        with self._current():
            return kernels.LANGUAGE, kernels.compile_source(self._cupy, source)

    def submit(self, lane: str, commands: Sequence[Command], after: Sequence[Token]) -> Token:
        with self._current():
            return self._lanes.submit(lane, commands, after)

    def query(self, token: Token) -> bool:
        return self._lanes.query(token)

    def wait(self, token: Token, seconds: float) -> bool:
        return poll_until(partial(self._lanes.query, token), seconds)

    def check(self) -> None:
        self._lanes.check()

    def retire(self, token: Token) -> None:
        self._lanes.retire(token)
        self._staging.settle()

    def close(self, timeout: float) -> bool:
        """Let work end, then give everything back; what arrays still show goes back with the last of them.

        Not yet while the device is busy: CUDA would wait for it, however long that takes.
        """
        if not self._lanes.drain(timeout):
            return False
        self._staging.close()
        self._lanes.close()
        self._pool.close()
        return True
