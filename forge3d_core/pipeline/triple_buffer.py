"""Triple buffering: one buffer is filled, one worked on, one read, and they change places."""

from __future__ import annotations

import enum
import threading
from collections import deque
from typing import Self

import attrs

from forge3d_core.arguments import at_least
from forge3d_core.deadline import Deadline
from forge3d_core.errors import Closed, FenceTimeout
from forge3d_core.presentation import line
from forge3d_core.protocols import Buffer, Device, FencePoint
from forge3d_core.units import format_bytes, parse_bytes

DEFAULT_COUNT = 3


class BufferState(enum.Enum):
    """Where a buffer is in its round: Free → Uploading → Processing → Downloading → Free."""

    FREE = "free"
    UPLOADING = "uploading"
    PROCESSING = "processing"
    DOWNLOADING = "downloading"


NEXT = {
    BufferState.FREE: BufferState.UPLOADING,
    BufferState.UPLOADING: BufferState.PROCESSING,
    BufferState.PROCESSING: BufferState.DOWNLOADING,
    BufferState.DOWNLOADING: BufferState.FREE,
}


@attrs.define(eq=False)
class TripleSlot:
    """One buffer of a :class:`TripleBuffer`, in the hands of the stage that took it.

    The stage submits its work on ``buffer`` and says so with :meth:`submitted`; from then on the next stage
    may take the buffer. The device puts the two in order, as they share memory.
    """

    index: int
    buffer: Buffer
    state: BufferState = BufferState.FREE
    point: FencePoint | None = None  # of the newest work on it
    ready: bool = True  # whether the stage that has it has submitted its work

    def submitted(self, point: FencePoint) -> None:
        """Note that the work of the stage that has this buffer is submitted, and done at ``point``."""
        self.point = point
        self.ready = True  # last: another thread takes the buffer as soon as it sees this

    def __repr__(self) -> str:
        return line(f"slot {self.index} of a triple buffer", self.state.value)


class TripleBuffer:
    """``count`` buffers of ``nbytes`` that go Free → Uploading → Processing → Downloading → Free.

    A buffer moves on when its next stage takes it, in the order in which buffers were filled, and not before
    the stage that has it has called :meth:`TripleSlot.submitted`. It is free again when :meth:`advance` has
    given it up and the device is done with it: *free* is what the host sees.

    Thread-safety: any thread takes, submits and advances; each transition is one step under a lock. Nothing
    waits for the device under it. Source: async pipeline guide, "TripleBuffer".
    """

    def __init__(
        self, device: Device, nbytes: int | str, *, count: int = DEFAULT_COUNT, label: str = ""
    ) -> None:
        self.nbytes = parse_bytes(nbytes)
        self._lock = threading.RLock()
        self._closed = False
        self._free: deque[TripleSlot] = deque()
        self._filled: deque[TripleSlot] = deque()  # uploading, oldest first
        self._worked: deque[TripleSlot] = deque()  # processing
        self._read: deque[TripleSlot] = deque()  # downloading
        self._leaving: deque[TripleSlot] = (
            deque()
        )  # given up by advance, and perhaps still read by the device
        self.slots: tuple[TripleSlot, ...] = ()
        try:
            for index in range(at_least(1, "count", count)):
                name = f"{label or 'triple buffer'} {index}"
                self.slots += (TripleSlot(index, device.create_buffer(self.nbytes, label=name)),)
        except BaseException:
            self.close()
            raise
        self._free.extend(self.slots)

    def size(self) -> int:
        """Return the bytes of each buffer."""
        return self.nbytes

    def get_upload_buffer(self, timeout: float | None = 0.0) -> TripleSlot | None:
        """Take the buffer that has been free longest, Free → Uploading; None if none is.

        Waits for up to ``timeout`` seconds (None: for ever) for one that :meth:`advance` has given up. Raises
        what made its work fail, and :class:`Closed`.
        """
        deadline = Deadline.after(timeout)
        while True:
            with self._lock:
                self._check()
                self._reclaim()
                if self._free:
                    slot = self._free.popleft()
                    slot.ready, slot.point, slot.state = False, None, BufferState.UPLOADING
                    self._filled.append(slot)
                    return slot
                leaving = self._leaving[0].point if self._leaving else None
            if leaving is None or not deadline.left():
                return None
            try:
                leaving.wait(deadline.timeout)
            except FenceTimeout:
                return None

    def get_process_buffer(self) -> TripleSlot | None:
        """Take the buffer that was filled first, Uploading → Processing; None if none is submitted."""
        return self._take(self._filled, self._worked)

    def get_download_buffer(self) -> TripleSlot | None:
        """Take the buffer that was worked on first, Processing → Downloading; None if none is submitted."""
        return self._take(self._worked, self._read)

    def advance(self) -> TripleSlot | None:
        """Give up the buffer that was read first, Downloading → Free once the device is done with it.

        Returns it, or None if no download is submitted.
        """
        with self._lock:
            self._check()
            if not self._read or not self._read[0].ready:
                return None
            slot = self._read.popleft()
            self._leaving.append(slot)
            self._reclaim()
            return slot

    def abandon(self, slot: TripleSlot) -> None:
        """Give up a buffer whose stage failed: it is free once the device is done with it; idempotent.

        What earlier stages submitted on it stays in order, as the device sees to it.
        """
        with self._lock:
            for line_ in (self._filled, self._worked, self._read):
                if slot in line_:
                    line_.remove(slot)
                    slot.ready = True
                    self._leaving.append(slot)
            self._reclaim()

    def get_states(self) -> tuple[BufferState, ...]:
        """Return the state of each buffer, all of one instant."""
        with self._lock:
            self._reclaim()
            return tuple(slot.state for slot in self.slots)

    def close(self) -> None:
        """Close the buffers, which go back when the device is done with them; idempotent."""
        with self._lock:
            self._closed = True
            for waiting in (self._free, self._filled, self._worked, self._read, self._leaving):
                waiting.clear()
        for slot in self.slots:
            slot.buffer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        states = ", ".join(slot.state.value for slot in self.slots)
        return line(f"triple buffer of {len(self.slots)} x {format_bytes(self.nbytes)}", states)

    def _take(self, source: deque[TripleSlot], target: deque[TripleSlot]) -> TripleSlot | None:
        with self._lock:
            self._check()
            if not source or not source[0].ready:
                return None
            slot = source.popleft()
            slot.ready, slot.state = False, NEXT[slot.state]
            target.append(slot)
            return slot

    def _reclaim(self) -> None:
        """Free what the device is done with; the lock is held."""
        for slot in tuple(self._leaving):
            if slot.point is None or slot.point.done:
                self._leaving.remove(slot)
                slot.state = BufferState.FREE
                self._free.append(slot)

    def _check(self) -> None:
        if self._closed:
            raise Closed("this triple buffer was closed; make another")
