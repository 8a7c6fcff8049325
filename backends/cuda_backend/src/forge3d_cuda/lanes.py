"""Lanes: one stream each. A submission's token is an event behind its commands.

CuPy and PyTorch work on the legacy default stream unless told otherwise. With a device that is adopted the
lanes are blocking streams, which CUDA orders with that one, both ways, in the order of the calls. Otherwise
they are non-blocking: nothing that others do there holds them up.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import attrs

from forge3d_core.driver import Command, Dispatch, PreparedCommands, poll_until
from forge3d_core.errors import KernelError
from forge3d_core.protocols import Limits
from forge3d_cuda.errors import NOT_READY, SUCCESS, lost, translate
from forge3d_cuda.graphs import Graphs
from forge3d_cuda.handles import Handle
from forge3d_cuda.kernels import dispatch
from forge3d_cuda.memory import DevicePool
from forge3d_cuda.staging import PinnedFreeList
from forge3d_cuda.submission import Lane, Orphan, Submission
from forge3d_cuda.transfers import Call, Transfers

_BLOCKING = 0  # cudaStreamDefault


@attrs.define(eq=False)
class Lanes:
    """Submits to the streams and answers for the tokens; events are pooled and never destroyed before close.

    Thread-safety: ``submit`` one thread at a time, everything else from any thread; the event list
    is only appended to and popped from, each of which is atomic.
    """

    _runtime: Any
    _pool: DevicePool
    _lanes: dict[str, Lane]
    _translations: dict[type, Callable[[Any], Call]]
    _graphs: Graphs
    _events: list[Handle] = attrs.field(factory=list)
    events_created: int = 0
    _orphans: list[Orphan] = attrs.field(factory=list)

    @classmethod
    def on(cls, runtime: Any, pool: DevicePool, limits: Limits, *, shared: bool = False) -> Lanes:
        """Make one stream for each lane of ``limits`` on the current device; ``shared`` with its owner."""
        flags = _BLOCKING if shared else runtime.streamNonBlocking
        lanes = {
            name: Lane(name, Handle(runtime.streamCreateWithFlags(flags), runtime.streamDestroy))
            for name in limits.lanes
        }
        translations = {**Transfers.on(runtime).table, Dispatch: dispatch}
        made = cls(runtime, pool, lanes, translations, Graphs(runtime))
        PinnedFreeList.of(runtime).watch(made)
        return made

    @property
    def idle(self) -> bool:
        """Whether no lane has work left; asks the device only about what no query has seen complete."""
        self._retire_orphans()
        return len(self._events) == self.events_created or self._all_done()

    def submit(self, name: str, commands: Sequence[Command], after: Sequence[Submission]) -> Submission:
        """Enqueue ``commands`` and record an event behind them.

        Commands are translated, and launches checked, before anything is enqueued, so what CUDA still
        refuses is rare. When it refuses the first command nothing has happened. When it fails midway, what
        went before is in flight with no event behind it and no memory can be trusted: that is the loss of
        the device. An interrupt (or any other error of Python's) leaves an orphan behind, which later work
        comes after.
        """
        if self._orphans:
            self._retire_orphans()
        lane, graph = self._lanes[name], None
        if type(commands) is PreparedCommands:
            translation = self._graphs.of(commands, self._translate)
            calls, graph = translation.calls, translation.graph
        else:
            calls = self._translate(commands)
        event = self._events.pop() if self._events else self._new_event()  # only this thread takes one
        stream = lane.stream.value
        enqueued = 0
        try:
            if lane.gate != self._pool.gate or after:
                self._order(lane, after)
            for call, arguments in calls:
                call(*arguments, stream)
                enqueued += 1
            self._runtime.eventRecord(event.value, stream)
        except RuntimeError as error:
            doing = f"submitting command {enqueued + 1} of {len(calls)} to lane {name!r}"
            refused = translate(error, doing)
            if enqueued and isinstance(refused, KernelError):  # the launch alone: the device works on
                self._orphan(lane, event, commands, graph)
                raise refused from error
            if enqueued:
                raise lost(error, doing) from error
            self._events.append(event)
            raise refused from error
        except BaseException:
            self._orphan(lane, event, commands, graph)
            raise
        return Submission(lane, event, graph)

    def _translate(self, commands: Sequence[Command]) -> list[Call]:
        translations = self._translations
        return [translations[type(command)](command) for command in commands]

    def _order(self, lane: Lane, after: Sequence[Submission]) -> None:
        """Order ``lane`` behind the newest zeroing and ``after``, where it is not yet."""
        wait, stream, gate = self._runtime.streamWaitEvent, lane.stream.value, self._pool.gate
        if lane.gate != gate:
            wait(stream, self._pool.ready)
            lane.gate = gate
        for submission in after:
            other, event = submission.lane, submission.event  # once: another thread may retire it meanwhile
            if event is None or other is lane or lane.behind.get(other.name, 0) >= submission.number:
                continue
            wait(stream, event.value)
            lane.behind[other.name] = submission.number

    def _orphan(self, lane: Lane, event: Handle, commands: Sequence[Command], graph: Handle | None) -> None:
        """Keep all memory that ``commands`` name until they have ended, and order every lane behind them."""
        blocks = (getattr(command, "block", None) for command in commands)
        shown = [block.view() for block in blocks if block is not None]
        orphan = Orphan(event, (*commands, *shown, graph))
        with contextlib.suppress(RuntimeError):  # the device is lost, and the next call says so
            self._runtime.eventRecord(event.value, lane.stream.value)
        self._orphans.append(orphan)  # not before its event stands for it: other threads look after them
        with contextlib.suppress(RuntimeError):
            for other in self._lanes.values():
                if other is not lane:
                    self._runtime.streamWaitEvent(other.stream.value, event.value)

    def _retire_orphans(self) -> None:
        for _ in range(len(self._orphans)):
            try:
                orphan = self._orphans.pop(0)
            except IndexError:
                return  # another thread looks after them
            if self._runtime.eventQuery(orphan.event.value) == SUCCESS:
                self._events.append(orphan.event)
            else:
                self._orphans.append(orphan)

    def _new_event(self) -> Handle:
        try:
            event = self._runtime.eventCreateWithFlags(self._runtime.eventDisableTiming)
        except RuntimeError as error:
            raise translate(error, "creating an event") from error
        self.events_created += 1
        return Handle(event, self._runtime.eventDestroy)

    def query(self, token: Submission) -> bool:
        event = token.event
        if event is None:
            return True
        status = self._runtime.eventQuery(event.value)
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
            status = self._runtime.streamQuery(lane.stream.value)
            if status not in (SUCCESS, NOT_READY):
                raise lost(self._runtime.CUDARuntimeError(status), "looking whether it is there")

    def retire(self, token: Submission) -> None:
        event, token.event, token.graph = token.event, None, None
        if event is not None:
            self._events.append(event)

    def drain(self, seconds: float) -> bool:
        """Wait until no stream has work left; a lost device has none."""
        return poll_until(self._all_done, seconds)

    def _all_done(self) -> bool:
        lanes = tuple(self._lanes.values())
        return all(self._runtime.streamQuery(lane.stream.value) != NOT_READY for lane in lanes)

    def close(self) -> None:
        """Let go of the streams and of the pooled events; those that a token still has go with it."""
        self._orphans.clear()
        self._events.clear()
        self._lanes.clear()
