"""The host machine: the native device that the driver drives, with a simulator's controls on it."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import attrs
import numpy as np
from numpy.typing import NDArray

from forge3d_core.arguments import at_least
from forge3d_core.driver import Command
from forge3d_core.errors import Closed, DeviceLost, OutOfDeviceMemory, UsageError, copy_exception
from forge3d_core.host.adversary import AdversarialLanes
from forge3d_core.host.chaos import Decision, Faults
from forge3d_core.host.execution import Executor, Link
from forge3d_core.host.lanes import Hold, Lanes
from forge3d_core.host.options import HostOptions
from forge3d_core.host.submission import Submission
from forge3d_core.presentation import line, no_copy
from forge3d_core.units import format_bytes


@attrs.define(eq=False)
class HostMachine:
    """Memory and lanes of this process, behaving as ``options`` say.

    ``device.native`` of a host device is one of these. A program may make its own, adopt it as one or
    several devices, and close it itself. Threads start with the first submission to their lane.

    Thread-safety: all methods may be called from any thread.
    """

    options: HostOptions = attrs.field(factory=HostOptions)
    _halt: threading.Event = attrs.field(init=False, factory=threading.Event)
    _lanes: Lanes = attrs.field(init=False)
    _faults: Faults = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        options = self.options
        executor = Executor(Link(options.link, options.latency, self._halt), options.align)
        self._lanes = (
            AdversarialLanes(options.lanes, executor.run, options.seed or 0)
            if options.chaos
            else Lanes(options.lanes, executor.run)
        )
        self._faults = Faults(options.lose_after)
        if options.oom_at is not None:
            self._faults.fail_allocation(options.oom_at)

    __reduce_ex__ = no_copy

    def __repr__(self) -> str:
        simulated = "simulated" if self.options.simulated else ""
        return line(f"host machine with lanes {'/'.join(self.options.lanes)}", simulated)

    def zeros(self, shape: int | tuple[int, ...]) -> NDArray[np.uint8]:
        """Return zeroed memory, or raise :class:`OutOfDeviceMemory`."""
        self.check()
        number, refused = self._faults.allocation()
        if refused:
            if isinstance(self._lanes, AdversarialLanes):
                self._lanes.note("refuse", number)
        else:
            try:
                return np.zeros(shape, np.uint8)
            except MemoryError:
                pass
        size = format_bytes(int(np.prod(shape, dtype=object)))
        cause = "was refused as configured" if refused else "is more than this process can have"
        raise OutOfDeviceMemory(f"allocation {number}, of {size}, {cause}; free buffers or ask for less")

    def submit(self, lane: str, commands: Sequence[Command], after: Sequence[Submission]) -> Submission:
        submission = self._lanes.submit(lane, commands, after)
        if submission.number == self._faults.lose_after:
            self.lose(f"lose_after={submission.number}")
        return submission

    def hold(self, lane: str) -> Hold:
        """Close a gate before ``lane``: nothing new starts there until the hold is released."""
        if lane not in self._lanes.names:
            raise UsageError(f"there is no lane {lane!r}; there are {', '.join(self._lanes.names)}")
        return self._lanes.hold(lane)

    def lose(self, reason: str) -> None:
        """Lose the device, as a driver reset would: all that is outstanding fails."""
        self._lanes.end(DeviceLost(f"the host device was lost ({reason}); open a new one"))
        self._halt.set()

    def fail_allocation(self, nth: int = 1) -> None:
        """Refuse the ``nth`` allocation from now; 1 is the next."""
        self._faults.fail_allocation(at_least(1, "the number of an allocation", nth))

    def trace(self) -> tuple[Decision, ...]:
        """Return what the adversary has decided, oldest first, the last 100 000; empty without chaos."""
        return self._lanes.trace() if isinstance(self._lanes, AdversarialLanes) else ()

    def close(self, timeout: float = 10.0) -> None:
        """Open every gate, let queued work end for up to ``timeout`` seconds, and end the threads."""
        closed = Closed(f"the host device was closed; this submission had not run after {timeout:g} s")
        self._lanes.close(timeout, closed, self._halt)

    def check(self) -> None:
        """Raise :class:`DeviceLost` after a loss."""
        error = self._lanes.ended
        if isinstance(error, DeviceLost):
            raise copy_exception(error)
