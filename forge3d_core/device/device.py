"""The assembled device: the shared algorithms over one driver."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import warnings
import weakref
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, Self, Unpack

import attrs
from numpy.typing import NDArray

from forge3d_core import arguments, protocols
from forge3d_core.arguments import integer, keywords, shown
from forge3d_core.device.closing import Closing, close_driver
from forge3d_core.device.commands import RecordedCommands
from forge3d_core.device.kernels import CompiledKernel, Kernels
from forge3d_core.device.lane import DeviceLane, lanes_by_name
from forge3d_core.device.submission import NO_POINTS, Submitter, unknown_lane
from forge3d_core.device.textures import Textures
from forge3d_core.driver import Driver, PreparedCommands
from forge3d_core.errors import (
    Closed,
    DeviceLost,
    ForeignObject,
    Forked,
    UsageError,
    WrongType,
    copy_exception,
)
from forge3d_core.foreign import asking
from forge3d_core.lifetime.async_with import AsyncWith
from forge3d_core.lifetime.deferred_close import DeferredClose, close_deferred, keep_at_exit
from forge3d_core.lifetime.guard import CallGuard
from forge3d_core.lifetime.hold import note
from forge3d_core.lifetime.life import Life
from forge3d_core.lifetime.teardown import PATIENCE, Teardown, close_elsewhere
from forge3d_core.memory.allocator import Allocator
from forge3d_core.memory.budget import Ledger
from forge3d_core.memory.process import global_tracker
from forge3d_core.memory.resources import DeviceBuffer
from forge3d_core.memory.textures import DeviceTexture
from forge3d_core.pipeline.stream import Streaming
from forge3d_core.presentation import line, presents, table
from forge3d_core.protocols import (
    AsyncReadbackConfig,
    DeviceInfo,
    DeviceOptions,
    FencePoint,
    KernelSource,
    Limits,
    PoolOptions,
    TextureExtent,
    TextureFormat,
)
from forge3d_core.readback.pool import Pool
from forge3d_core.ring.ring import Ring
from forge3d_core.timeline.points import wait_all
from forge3d_core.timeline.timeline import Point, Timeline
from forge3d_core.trace import Tap, Traceable
from forge3d_core.transfer.copying import HostCopier
from forge3d_core.transfer.transfers import Transfers
from forge3d_core.units import parse_bytes


def assemble(driver: Driver, options: DeviceOptions | None = None) -> AssembledDevice:
    """Return a device over ``driver``: rings, pools, fences, ordering and budget are the core's.

    If it raises, the driver has been closed, or will be as soon as its work has ended.
    """
    try:
        close_deferred()
        return AssembledDevice(driver, options or DeviceOptions())
    except BaseException:
        DeferredClose(driver.info.name, driver.close).end(0.0)
        raise


@presents(protocols.StreamingDevice)
class AssembledDevice(AsyncWith, Traceable, Streaming):
    """See :class:`forge3d_core.protocols.Device`."""

    def __init__(self, driver: Driver, options: DeviceOptions) -> None:
        info = driver.info
        if info.limits is None:
            raise UsageError(f"the driver of {info.backend!r} opened a device without limits")
        self.info: DeviceInfo = info
        self.limits: Limits = info.limits
        self.budget = Ledger(options.budget, process=global_tracker())
        self._gate = CallGuard()
        self.allocator = Allocator(driver, self.budget, self._gate)
        self._textures = Textures(self.limits, self.allocator, self._gate)
        self.copier = HostCopier(gate=self._gate)
        self.transfers = Transfers(self.allocator, self.limits, self._gate)
        self._driver = driver
        self._options = options
        self._pid = os.getpid()
        self.life = Life(
            Forked(
                f"device {info.name!r} was opened by process {self._pid}; GPU state does not survive a fork; "
                "open a device in the child, or start workers with the 'spawn' method"
            )
        )
        self._timelines = {
            name: Timeline(name, driver, self._failed, self._check_driver) for name in self.limits.lanes
        }
        self._lanes = lanes_by_name(self._timelines)
        self.lanes: Mapping[str, DeviceLane] = MappingProxyType(self._lanes)
        self._kernels = Kernels(driver, self._gate, self.limits, self.allocator)
        by_name = {name: lane.timeline for name, lane in self._lanes.items()}
        submitter = Submitter(driver, self.life, self._gate, self.allocator, by_name, self._notice_loss)
        self.submit_commands, self.submit_parts = submitter.submit, submitter.submit_parts
        self.tap = Tap(driver, submitter, self._timelines)
        closing = partial(close_driver, self._gate, driver)
        self._deferred = DeferredClose(info.name, closing, self.allocator.holdings)
        self._lost: Exception | None = None
        self.transfers.tune(driver, options, self._timelines.values())
        self._closing = Closing(
            name=info.name,
            life=self.life,
            gate=self._gate,
            budget=self.budget,
            allocator=self.allocator,
            transfers=self.transfers,
            deferred=self._deferred,
            timelines=self._timelines.values(),
            drain_timeout=options.drain_timeout,
            lost=lambda: self._lost is not None,
            forget=self._kernels.forget,
        )
        self.made = self._closing.made
        self._state = threading.RLock()
        self._ending = Teardown()
        self._closed = False  # last: from now on there is something to close
        # The ledger must not keep the device alive: it catches up through the allocator alone.
        self.budget.sweep = self.allocator.sweep
        # In a garbage cycle every finalizer runs before one of them can save anything. With a root of its
        # own the driver is never part of the device's cycle: its native objects stay for close to release.
        weakref.finalize(self, _let_go, driver).atexit = False
        keep_at_exit(self)

    @property
    def native(self) -> Any:
        return self._driver.native

    @property
    def driver(self) -> Driver:
        """The driver underneath, for the backend's own tests."""
        return self._driver

    @property
    def closed(self) -> bool:
        return self._closed

    def create_buffer(self, nbytes: int | str, *, label: str = "") -> DeviceBuffer:
        self.check()
        size = parse_bytes(nbytes)
        if size < 1:
            raise UsageError("a buffer has at least 1 byte")
        arguments.text("label", label)
        with self._noticing_loss():
            owned = self.allocator.buffer(size, label)
        return DeviceBuffer(self, self.allocator, owned, size, label)

    def create_texture(
        self,
        width: int,
        height: int,
        format: TextureFormat | str = "rgba8unorm",
        *,
        label: str = "",
        **extent: Unpack[TextureExtent],
    ) -> DeviceTexture:
        self.check()
        with self._noticing_loss():
            return self._textures.make(self, (width, height), format, label, **extent)

    def create_kernel(self, source: KernelSource) -> CompiledKernel:
        self.check()
        with self._noticing_loss():
            return self._kernels.of(source, self)

    def command_list(self, *, label: str = "", reusable: bool = False) -> RecordedCommands:
        if (ended := self.life.ended) is not None:
            raise copy_exception(ended)
        if type(label) is not str:
            arguments.text("label", label)
        if reusable is False:
            return RecordedCommands(self, label)
        commands = PreparedCommands()
        if arguments.flag("reusable", reusable):
            with self._state:
                self._closing.prepared.add(commands)
        return RecordedCommands(self, label, bool(reusable), commands)

    def submit(
        self,
        commands: protocols.CommandList,
        *,
        lane: str = "compute",
        after: Iterable[FencePoint] = NO_POINTS,
    ) -> FencePoint:
        if (ended := self.life.ended) is not None:
            raise copy_exception(ended)
        if not isinstance(commands, RecordedCommands) or commands.owner is not self:
            raise ForeignObject(f"{commands!r} was not made by this device's command_list")
        return commands.submit(self.submit_commands, lane, after)

    def staging_ring(
        self, *, ring_count: int = 3, buffer_size: int | str = "1 MiB", lane: str = "upload"
    ) -> Ring:
        self.check()
        lane = self._lane(lane).name
        with self._noticing_loss():
            ring = Ring(self, ring_count, parse_bytes(buffer_size), lane)
        note(self._closing.children, ring)
        return ring

    def readback_pool(
        self,
        config: AsyncReadbackConfig | None = None,
        *,
        lane: str = "download",
        **changes: Unpack[PoolOptions],
    ) -> Pool:
        self.check()
        lane = self._lane(lane).name
        if config is not None and not isinstance(config, AsyncReadbackConfig):
            raise WrongType(f"a pool's config is an AsyncReadbackConfig, not {shown(config)}")
        keywords("readback_pool", changes, PoolOptions.__annotations__)
        wanted = attrs.evolve(config or AsyncReadbackConfig(), **changes)
        with self._noticing_loss():
            pool = Pool(self, wanted, lane)
        note(self._closing.children, pool)
        return pool

    def host_array(self, shape: int | tuple[int, ...], dtype: Any = "u1") -> NDArray[Any]:
        self.check()
        with self._noticing_loss():
            return self.transfers.host_arrays.make(shape, dtype)

    def adopt(self, native: Any, *, label: str = "", format: TextureFormat | str | None = None) -> Any:
        self.check()
        arguments.text("label", label)
        if (texture := self._textures.adopt(self, native, format, label)) is not None:
            return texture
        with self._gate.passing(), asking("the driver's adopt"):
            memory, nbytes = self._driver.adopt(native)
            nbytes = integer("the size of adopted memory", nbytes)
        return DeviceBuffer(self, self.allocator, self.allocator.adopted(memory, nbytes), nbytes, label)

    def wait_idle(self, timeout: float | None = None) -> None:
        self.check()
        wait_all([timeline.point(timeline.submitted) for timeline in self._timelines.values()], timeout)
        self.allocator.sweep()

    def idle_point(self, lane: str) -> Point:
        """Return a point of ``lane`` that has always been complete."""
        return self._lane(lane).timeline.point(0)

    def check(self) -> None:
        """Raise :class:`Forked`, :class:`Closed` or :class:`DeviceLost` unless the device can be used."""
        self.life.check()

    def close(self) -> None:
        if self._pid != os.getpid():
            return  # the parent's to close; a child has neither the threads nor the GPU state
        with self._state:
            if not self._closed:
                ending = Teardown(deque(self._closing.steps()), PATIENCE + self._options.drain_timeout)
                self._ending, self._closed = ending, True
        self._ending.run()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __del__(self) -> None:
        if not hasattr(self, "_closed") or self._pid != os.getpid() or sys.is_finalizing():
            return  # in an interpreter that ends, the lanes' threads, which a close waits for, are gone
        if self._closed and self._ending.over:
            return
        if not self._closed:
            with contextlib.suppress(Exception):
                warnings.warn(f"device {self.info.name!r} was never closed", ResourceWarning, 2, self)
        if not close_elsewhere(self.close, f"device {self.info.name!r}"):
            self._deferred.note()
            self._deferred.ended = True

    def __repr__(self) -> str:
        state = "closed" if self._closed else "lost" if self._lost else "open"
        return line(f"device {self.info.backend}:{self.info.selector} {shown(self.info.name)} {state}")

    def _repr_html_(self) -> str:
        info, budget = self.info, self.budget
        rows = {lane.name: lane.timeline.counts for lane in self._lanes.values()}
        about = {"name": info.name, "kind": info.kind, "driver": info.driver, "budget": repr(budget)[1:-1]}
        return table(repr(self)[1:-1], {**about, **{f"lane {name}": counts for name, counts in rows.items()}})

    def _lane(self, name: str) -> DeviceLane:
        try:
            return self._lanes[name]
        except (KeyError, TypeError):
            raise unknown_lane(name, self._lanes) from None

    @contextlib.contextmanager
    def _noticing_loss(self) -> Iterator[None]:
        try:
            yield
        except DeviceLost as error:
            self._notice_loss(error)
            raise

    def _notice_loss(self, error: Exception) -> None:
        if isinstance(error, DeviceLost):
            self._failed(DeviceLost(*error.args))  # what is kept is not what now travels through frames

    def _check_driver(self) -> None:
        """Raise :class:`DeviceLost` if the driver knows of a loss."""
        try:
            with self._gate.passing():
                self._driver.check()
        except Closed:
            pass  # the close tells every lane

    def _failed(self, error: Exception) -> None:
        """Tell every lane of a loss; any other failure is its own lane's alone."""
        if isinstance(error, DeviceLost) and self._lost is None:
            self._lost = error
            self.life.end(error)
            for timeline in self._timelines.values():
                timeline.fail(error)


def _let_go(_driver: Driver) -> None:
    """Do nothing: what calls this has kept the driver until now."""
