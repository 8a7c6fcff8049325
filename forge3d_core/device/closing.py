"""The end of a device: its steps in order, and what they find."""

from __future__ import annotations

import time
import warnings
import weakref
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import partial
from typing import Protocol

import attrs

from forge3d_core.driver import Driver, PreparedCommands
from forge3d_core.errors import Closed
from forge3d_core.foreign import asking
from forge3d_core.lifetime.deferred_close import DeferredClose, close_deferred
from forge3d_core.lifetime.guard import CallGuard
from forge3d_core.lifetime.hold import Users
from forge3d_core.lifetime.life import Life
from forge3d_core.memory.allocator import Allocator
from forge3d_core.memory.budget import Ledger
from forge3d_core.memory.holdings import leaks_told
from forge3d_core.timeline.timeline import Timeline
from forge3d_core.transfer.transfers import Transfers


class Closable(Protocol):
    """What a device has made and ends with it."""

    def abandon(self) -> None: ...


@attrs.define(eq=False)
class Closing:
    """What a device consists of, as its close sees it. The steps of :meth:`steps` are each taken once."""

    name: str
    life: Life
    gate: CallGuard
    budget: Ledger
    allocator: Allocator
    transfers: Transfers
    deferred: DeferredClose
    timelines: Collection[Timeline]
    drain_timeout: float
    lost: Callable[[], bool]
    forget: Callable[[], None]
    children: Users = attrs.field(factory=set, init=False)  # each a Closable
    prepared: weakref.WeakSet[PreparedCommands] = attrs.field(factory=weakref.WeakSet, init=False)
    _remarks: list[str] = attrs.field(factory=list, init=False)  # of what closing found

    def made(self) -> list[Closable]:
        """Return the rings and pools that are not gone. Thread-safety: any thread."""
        found = [reference() for reference in self.children.copy()]
        return [child for child in found if child is not None]

    def steps(self) -> Iterator[Callable[[], object]]:
        """Yield what closing takes, in order; nothing here may hinder what follows it."""
        ended = Closed(f"device {self.name!r} was closed")
        yield partial(self.life.end, ended)
        yield close_deferred
        for timeline in self.timelines:
            yield timeline.poll
            yield partial(timeline.fail, ended)
        yield partial(self.budget.end, ended)
        for child in self.made():
            yield child.abandon
        yield self.transfers.close
        yield self.deferred.note
        yield self.gate.shut
        yield partial(_drop_translations, self.prepared)
        yield self._close_driver
        yield partial(setattr, self.deferred, "ended", True)  # if it was not, cut short
        yield self._close_memory
        yield self._close_budget
        yield self.forget
        yield self._report

    def _close_driver(self) -> None:
        lost = self.lost()
        drain = 0.0 if lost else self.drain_timeout
        started = time.monotonic()
        closed = self.deferred.end(drain)
        late = closed is None and time.monotonic() - started > drain > 0
        if not self.gate.shut(0):
            self._remarks.append("a call had not come out of the driver, which stays open until it has")
        elif not lost and (late or closed is False):
            self._remarks.append(f"work was still in flight after {drain:g} s, and keeps what it uses")

    def _close_memory(self) -> None:
        if shown := self.allocator.close():
            self._remarks.append(
                f"numpy arrays still show {shown} host-visible block(s): drop host arrays, and arrays "
                "derived from slices and leases, before closing"
            )

    def _close_budget(self) -> None:
        try:
            leaks = self.budget.close()
        finally:  # a reservation that is kept must not keep the rest alive
            self.budget.sweep = lambda: None
        if leaks:
            self._remarks.append(leaks_told(leaks))

    def _report(self) -> None:
        if self._remarks:
            text = f"device {self.name!r} closed, and {'; '.join(self._remarks)}"
            warnings.warn(text, ResourceWarning, stacklevel=6)  # where close was called


def close_driver(gate: CallGuard, driver: Driver, timeout: float) -> bool | None:
    """Close a driver that no thread is inside; native code would not survive anything else."""
    with asking("the driver's close"):
        return gate.shut(0) and driver.close(timeout)


def _drop_translations(prepared: Iterable[PreparedCommands]) -> None:
    for commands in prepared:
        commands.translation = None
