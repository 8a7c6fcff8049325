"""The device: one machine, three names for its one queue, and what they have to wait for."""

from __future__ import annotations

import os
import sys
import threading
import warnings
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from types import MappingProxyType
from typing import Any

import attrs
import numpy as np

from forge3d_core.errors import (
    Closed,
    DeviceLost,
    ForeignObject,
    Forked,
    OutOfDeviceMemory,
    TooLarge,
    UsageError,
)
from forge3d_core.protocols import AsyncReadbackConfig, DeviceOptions, KernelSource
from stranger.budget import Budget, size_of
from stranger.clock import Deadline
from stranger.commands import CommandList, Kernel, compile_kernel
from stranger.given import whole
from stranger.machine import Machine
from stranger.memory import Buffer, Memory, Store, Texture, format_named
from stranger.plugin import INFO, LIMITS
from stranger.readback import Pool
from stranger.ring import Ring
from stranger.shield import shielded
from stranger.timeline import Point, Timeline, as_kernel_error, fresh


@attrs.frozen(eq=False)
class Lane:
    name: str
    timeline: Timeline


@shielded
class StrangerDevice:
    info, limits = INFO, LIMITS
    ring_type, pool_type = Ring, Pool

    def __init__(self, machine: Machine | None, options: DeviceOptions) -> None:
        self.machine = machine or Machine()
        self.closed = False
        self.collected: deque[Store] = deque()  # left by the garbage collector
        self.budget = Budget(options.budget, _settler(self))
        self.lanes = MappingProxyType({name: Lane(name, Timeline(name)) for name in LIMITS.lanes})
        self._deferred: deque[tuple[Any, list[Point]]] = deque()
        self.refuse_next = False  # the next block is refused, as a driver might
        self._options = options
        self._owns_machine = machine is None
        self._pid = os.getpid()
        self._submission = threading.Lock()
        self._closing = threading.Lock()
        self._reservations: set[Any] = set()
        self._children: weakref.WeakSet[Any] = weakref.WeakSet()
        self._kernels: list[Kernel] = []
        self.machine.devices.add(self)

    @property
    def native(self) -> Machine:
        self.check()
        return self.machine

    def check(self) -> None:
        if self._pid != os.getpid():
            raise Forked(f"this device belongs to process {self._pid}; open another in the child")
        if self.closed:
            raise Closed("the device was closed")
        if self.machine.lost is not None:
            raise fresh(self.machine.lost)

    def create_buffer(self, nbytes: int | str, *, label: str = "") -> Buffer:
        self.check()
        size = size_of(nbytes)
        if size < 1:
            raise UsageError("a buffer has at least 1 byte")
        if size > LIMITS.max_buffer_size:
            raise TooLarge(f"{size} bytes are more than the {LIMITS.max_buffer_size} of the largest buffer")
        store = self.take(size, "buffer", "device_local")
        return Buffer(self, store, size, label)

    def create_texture(
        self, width: int, height: int, format: Any = "rgba8unorm", *, label: str = ""
    ) -> Texture:
        self.check()
        most = LIMITS.max_texture_size
        width, height = whole(width, "width"), whole(height, "height")
        if not all(1 <= n <= most for n in (width, height)):
            raise UsageError(f"a texture is 1 to {most} texels wide and high, not {width!r} x {height!r}")
        layout = format_named(format)
        store = self.take(width * height * layout.block_bytes, "texture", "device_local")
        store.data = store.data.reshape(height, -1)
        return Texture(self, store, width, height, layout, label)

    def create_kernel(self, source: KernelSource) -> Kernel:
        self.check()
        for kernel in list(self._kernels):
            if kernel.source == source:
                return kernel
        kernel = compile_kernel(self, source)
        self._kernels.append(kernel)
        return kernel

    def command_list(self, *, label: str = "") -> CommandList:
        self.check()
        return CommandList(self, label)

    def submit(self, commands: Any, *, lane: str = "compute", after: Iterable[Point] = ()) -> Point:
        self.check()
        if not isinstance(commands, CommandList) or commands.device is not self:
            raise ForeignObject(f"{commands!r} is not a command list of this device")
        commands._takes(*commands.reads, *commands.writes)
        point: Point = self.run(lane, commands.work, commands.reads, commands.writes, after)
        commands.submitted = True
        return point

    def staging_ring(
        self, *, ring_count: int = 3, buffer_size: int | str = "1 MiB", lane: str = "upload"
    ) -> Ring:
        self.check()
        self._timeline(lane)
        ring = self.ring_type(self, ring_count, size_of(buffer_size), lane)
        self._children.add(ring)
        return ring

    def readback_pool(
        self, config: AsyncReadbackConfig | None = None, *, lane: str = "download", **changes: Any
    ) -> Pool:
        self.check()
        self._timeline(lane)
        try:
            config = attrs.evolve(config or AsyncReadbackConfig(), **changes)
        except (TypeError, ValueError) as error:
            raise UsageError(f"readback_pool: {error}") from None
        pool = self.pool_type(self, config, lane)
        self._children.add(pool)
        return pool

    def adopt(self, native: Any, *, label: str = "") -> Buffer:
        self.check()
        if not isinstance(native, np.ndarray) or not (native.flags.c_contiguous and native.flags.writeable):
            raise UsageError("stranger adopts writable, C-contiguous numpy arrays")
        return Buffer(self, Store(native.reshape(-1).view(np.uint8)), native.nbytes, label)

    def wait_idle(self, timeout: float | None = None) -> None:
        self.check()
        deadline = Deadline(timeout)
        for lane in self.lanes.values():
            lane.timeline.wait(lane.timeline.submitted, deadline.timeout)

    def close(self) -> None:
        if self._pid != os.getpid():
            return
        with self._closing:
            if self.closed:
                return
            with self._submission:
                self.closed = True
            self._fail(closed := Closed("the device was closed"))
            self.budget.refuse(closed)
            for child in list(self._children):
                child.abandon()
            if not self.machine.drain(self._options.drain_timeout):
                warnings.warn("work was still in flight when the device closed", ResourceWarning, 2)
            if self._owns_machine:
                self.machine.end()
            for reservation in list(self._reservations):
                reservation.release()
            leaked, nbytes = self.budget.end()
            if leaked:
                warnings.warn(
                    f"{leaked} reservation(s) of {nbytes} bytes were not released; use with blocks",
                    ResourceWarning,
                    2,
                )
            self._kernels.clear()

    def __enter__(self) -> StrangerDevice:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def __del__(self) -> None:
        if sys.is_finalizing():
            return  # the machine's thread is gone, and nobody could wait for it
        if not getattr(self, "closed", True) and self._pid == os.getpid():
            warnings.warn("a stranger's device was never closed", ResourceWarning, 2, self)
            self.close()

    # what rings, pools and lists ask for

    def run(
        self,
        lane: str,
        work: Sequence[Callable[[], None]],
        reads: Iterable[Memory],
        writes: Iterable[Memory],
        after: Iterable[Point] = (),
    ) -> Point:
        """Queue ``work``. One queue in order needs no dependencies, except to know what has failed."""
        self.check()
        timeline = self._timeline(lane)
        explicit = list(after)
        own = [one.timeline for one in self.lanes.values()]
        for point in explicit:
            if point.timeline not in own:
                raise ForeignObject(f"point {point.value} is of another device; wait for it on the host")
            if point.value > point.timeline.submitted:
                raise UsageError(f"point {point.value} of lane {point.timeline.name!r} is not submitted yet")
        reading, writing = [m.store for m in reads], [m.store for m in writes]
        with self._submission:
            self.check()
            behind = [p for store in reading if (p := store.writer)]
            behind += [p for store in writing for p in store.users()]
            behind += explicit
            for dependency in behind:
                if not dependency.done and dependency.timeline.failure is not None:
                    raise fresh(dependency.timeline.failure)
            waits = [p for p in behind if not p.done]
            point = timeline.next(lambda p: self.machine.put(lambda: self.carry_out(p, waits, work)))
            for store in reading:
                store.readers[lane] = point
            for store in writing:
                store.writer, store.readers = point, {}
        return point

    def carry_out(self, point: Point, behind: list[Point], steps: Sequence[Callable[[], None]]) -> None:
        """Run one submission on the machine's thread."""
        failed = next((p.timeline.failure for p in behind if not p.done and p.timeline.failure), None)
        failed = point.timeline.failure or failed
        try:
            if failed is None:
                for step in steps:
                    step()
        except Exception as error:
            failed = as_kernel_error(error, f"submission {point.value} on lane {point.timeline.name!r}")
        if failed is None:
            point.timeline.complete(point.value)
        else:
            point.timeline.fail(failed)

    def take(self, nbytes: int, kind: str, heap: str) -> Store:
        """Return zeroed memory within the budget."""
        reservation = self.budget.reserve(nbytes, kind=kind, heap=heap, promised=True)
        try:
            if heap == "host_visible" and self.refuse_next:
                self.refuse_next = False
                raise MemoryError("asked by the conformance suite")
            data = np.zeros(nbytes, np.uint8)
        except MemoryError as error:
            reservation.release()
            raise OutOfDeviceMemory(f"no memory for {nbytes} bytes: {error}") from None
        self.budget.count_peaks()
        self._reservations.add(reservation)
        return Store(data, reservation)

    def give_back(self, reservation: Any, users: list[Point]) -> None:
        """Release as soon as the device is done with it; after a loss, when the device closes."""
        if reservation is not None:
            self._deferred.append((reservation, users))
            self.settle()

    def settle(self) -> None:
        """Give back what was collected or closed and is no longer in use; the budget calls it first."""
        while self.collected:
            store = self.collected.popleft()
            if store.reservation is not None:
                self._deferred.append((store.reservation, store.users()))
        for _ in range(len(self._deferred)):  # a deque, for several threads may be here
            try:
                reservation, users = self._deferred.popleft()
            except IndexError:
                return
            if all(map(_over, users)):
                self._reservations.discard(reservation)
                reservation.release()
            else:
                self._deferred.append((reservation, users))

    def lost(self, error: DeviceLost) -> None:
        self._fail(error)
        for child in list(self._children):
            child.wake()

    def idle_point(self, lane: str) -> Point:
        return self.lanes[lane].timeline.point(0)

    def _timeline(self, lane: str) -> Timeline:
        if lane not in self.lanes:
            raise UsageError(f"no lane {lane!r}; there are {', '.join(self.lanes)}")
        return self.lanes[lane].timeline

    def _fail(self, error: Exception) -> None:
        for lane in self.lanes.values():
            lane.timeline.fail(error)


def _settler(device: StrangerDevice) -> Callable[[], None]:
    """Return what gives collected memory back, without keeping the device alive."""
    reference = weakref.ref(device)

    def settle() -> None:
        alive = reference()
        if alive is not None:
            alive.settle()

    return settle


def _over(point: Point) -> bool:
    """Whether the machine no longer works on it; after a loss nobody can tell."""
    failure = point.timeline.failure
    return point.done or (failure is not None and not isinstance(failure, DeviceLost))
