"""Lanes: one stream each. A submission's token is an event behind its commands.

CuPy and PyTorch work on the legacy default stream unless told otherwise. With a device that is adopted the
lanes are blocking streams, which CUDA orders with that one, both ways, in the order of the calls. Otherwise
they are non-blocking: nothing that others do there holds them up.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from typing import Any

import attrs

from forge3d_core.driver import (
    Command,
    Copy,
    Dispatch,
    Download,
    DownloadRows,
    Fill,
    Upload,
    UploadRows,
    poll_until,
)
from forge3d_core.errors import KernelError
from forge3d_core.protocols import Limits
from forge3d_cuda import kernels, memory
from forge3d_cuda.errors import NOT_READY, SUCCESS, lost, translate
from forge3d_cuda.memory import DevicePool
from forge3d_cuda.staging import PinnedFreeList

_BLOCKING = 0  # cudaStreamDefault

_TRANSFERS: dict[type, Callable[[Any, int, Any], None]] = {
    Upload: memory.upload,
    Download: memory.download,
    UploadRows: memory.upload_rows,
    DownloadRows: memory.download_rows,
    Copy: memory.copy,
    Fill: memory.fill,
}


class Token:
    """A submission: its lane, and its event until it is retired."""

    __slots__ = ("event", "lane")

    def __init__(self, lane: Lane, event: int) -> None:
        self.lane = lane
        self.event: int | None = event

    def __del__(self) -> None:
        # Nobody retired it: the device closed or was lost first. Another thread could be asking for
        # this event until the token itself is gone, so close does not destroy it, this does.
        if self.event is not None:
            self.lane.discard(self.event)


@attrs.define(eq=False)
class Lane:
    """A stream, and the newest of the pool's zeroings that it is ordered behind.

    It goes when nobody has the lane any more, as another thread could be asking for it until then.
    """

    name: str
    ptr: int  # the name that CuPy's launch asks a stream for
    _runtime: Any
    gate: int = 0
    _owner: int = attrs.field(factory=os.getpid)

    def discard(self, event: int) -> None:
        """Destroy an event that nobody asks for any more; CUDA lets it finish first."""
        self._destroy(self._runtime.eventDestroy, event)

    def __del__(self) -> None:
        self._destroy(self._runtime.streamDestroy, self.ptr)

    def _destroy(self, destroy: Callable[[int], None], handle: int) -> None:
        if os.getpid() == self._owner:  # a forked child has no device behind its copy
            with contextlib.suppress(Exception):  # lost, or the process ends, and all goes with it
                destroy(handle)


@attrs.frozen(eq=False)
class Orphan:
    """A submission that an interrupt cut short: nobody has its token, so it keeps what it uses itself."""

    token: Token
    commands: tuple[Command, ...]
    shown: tuple[Any, ...]  # arrays over the host blocks that the commands name


@attrs.define(eq=False)
class Lanes:
    """Submits to the streams and answers for the tokens; events are pooled and never destroyed before close.

    Thread-safety: ``submit`` one thread at a time, everything else from any thread; the event list
    is only appended to and popped from, each of which is atomic.
    """

    _runtime: Any
    _pool: DevicePool
    _limits: Limits
    _lanes: dict[str, Lane]
    _events: list[int] = attrs.field(factory=list)
    events_created: int = 0
    _orphans: list[Orphan] = attrs.field(factory=list)

    @classmethod
    def on(cls, runtime: Any, pool: DevicePool, limits: Limits, *, shared: bool = False) -> Lanes:
        """Make one stream for each lane of ``limits`` on the current device; ``shared`` with its owner."""
        flags = _BLOCKING if shared else runtime.streamNonBlocking
        lanes = {name: Lane(name, runtime.streamCreateWithFlags(flags), runtime) for name in limits.lanes}
        made = cls(runtime, pool, limits, lanes)
        PinnedFreeList.of(runtime).watch(made)
        return made

    @property
    def idle(self) -> bool:
        """Whether no lane has work left; asks the device only about what nobody has seen complete."""
        self._retire_orphans()
        return len(self._events) == self.events_created or self._all_done()

    def submit(self, name: str, commands: Sequence[Command], after: Sequence[Token]) -> Token:
        """Enqueue ``commands`` and record an event behind them.

        Launches are checked before anything is enqueued, so what CUDA still refuses is rare. When it
        refuses the first command nothing has happened. When it fails midway, what went before is in flight
        with no event behind it and no memory can be trusted: that is the loss of the device. An interrupt
        (or any other error of Python's) leaves an orphan behind, which later work comes after.
        """
        self._retire_orphans()
        for command in commands:
            if type(command) is Dispatch:
                kernels.check(command, self._limits)
        runtime, lane = self._runtime, self._lanes[name]
        stream = lane.ptr
        event = self._take_event()
        enqueued = 0
        try:
            gate = self._pool.gate
            if lane.gate != gate:
                runtime.streamWaitEvent(stream, self._pool.ready)
                lane.gate = gate
            for token in after:
                pending = token.event  # once: another thread may retire it meanwhile
                if pending is not None and token.lane is not lane:
                    runtime.streamWaitEvent(stream, pending)
            for command in commands:
                if type(command) is Dispatch:
                    kernels.dispatch(lane, command)
                else:
                    _TRANSFERS[type(command)](runtime, stream, command)
                enqueued += 1
            runtime.eventRecord(event, stream)
        except RuntimeError as error:
            doing = f"submitting command {enqueued + 1} of {len(commands)} to lane {name!r}"
            refused = translate(error, doing)
            if enqueued and isinstance(refused, KernelError):  # the launch alone: the device works on
                self._orphan(Token(lane, event), commands)
                raise refused from error
            if enqueued:
                raise lost(error, doing) from error
            self._events.append(event)
            raise translate(error, doing) from error
        except BaseException:
            self._orphan(Token(lane, event), commands)
            raise
        return Token(lane, event)

    def _orphan(self, token: Token, commands: Sequence[Command]) -> None:
        """Keep all memory that ``commands`` name until they have ended, and order every lane behind them."""
        blocks = (getattr(command, "block", None) for command in commands)
        shown = tuple(block.view() for block in blocks if block is not None)
        orphan = Orphan(token, tuple(commands), shown)
        with contextlib.suppress(RuntimeError):  # the device is lost, and the next call says so
            self._runtime.eventRecord(token.event, token.lane.ptr)
        self._orphans.append(orphan)  # not before its event stands for it: other threads look after them
        with contextlib.suppress(RuntimeError):
            for lane in self._lanes.values():
                if lane is not token.lane:
                    self._runtime.streamWaitEvent(lane.ptr, token.event)

    def _retire_orphans(self) -> None:
        for _ in range(len(self._orphans)):
            try:
                orphan = self._orphans.pop(0)
            except IndexError:
                return  # another thread looks after them
            if self._runtime.eventQuery(orphan.token.event) == SUCCESS:
                self.retire(orphan.token)
            else:
                self._orphans.append(orphan)

    def _take_event(self) -> int:
        try:
            return self._events.pop()
        except IndexError:
            pass
        try:
            event = int(self._runtime.eventCreateWithFlags(self._runtime.eventDisableTiming))
        except RuntimeError as error:
            raise translate(error, "creating an event") from error
        self.events_created += 1
        return event

    def query(self, token: Token) -> bool:
        event = token.event
        if event is None:
            return True
        status = self._runtime.eventQuery(event)
        if status == SUCCESS:
            return True
        if status == NOT_READY:
            return False
        raise lost(
            self._runtime.CUDARuntimeError(status), f"running what was submitted to lane {token.lane.name!r}"
        )

    def check(self) -> None:
        """Raise :class:`DeviceLost` after a sticky error, which any stream answers with."""
        for lane in tuple(self._lanes.values())[:1]:
            status = self._runtime.streamQuery(lane.ptr)
            if status not in (SUCCESS, NOT_READY):
                raise lost(self._runtime.CUDARuntimeError(status), "looking whether it is there")

    def retire(self, token: Token) -> None:
        event, token.event = token.event, None
        if event is not None:
            self._events.append(event)

    def drain(self, seconds: float) -> bool:
        """Wait until no stream has work left; a lost device has none."""
        return poll_until(self._all_done, seconds)

    def _all_done(self) -> bool:
        lanes = tuple(self._lanes.values())
        return all(self._runtime.streamQuery(lane.ptr) != NOT_READY for lane in lanes)

    def close(self) -> None:
        """Let go of the streams, and of the pooled events, each of which is destroyed once."""
        self._orphans.clear()
        while self._events:
            event = self._events.pop()
            with contextlib.suppress(RuntimeError):  # a lost device refuses this too
                self._runtime.eventDestroy(event)
        self._lanes.clear()
