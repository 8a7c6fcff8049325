"""What a read does for which no block is idle: wait, raise, or read through a block of its own."""

from __future__ import annotations

from collections.abc import Sequence

from forge3d_core.deadline import Deadline
from forge3d_core.errors import Busy, FenceTimeout
from forge3d_core.protocols import AsyncReadbackConfig
from forge3d_core.readback.blocks import Blocks
from forge3d_core.readback.handle import Handle
from forge3d_core.readback.state import Full, Land, Slot

LOOK_SECONDS = 0.05
"""How often a wait for a block looks up: for a lease or a handle that was dropped, for a loss."""


class Backpressure:
    """The configured policy of a pool, for threads; :mod:`.coroutines` has it for coroutines."""

    def __init__(self, blocks: Blocks, config: AsyncReadbackConfig, lane: str) -> None:
        self.blocks = blocks
        self._config = config
        self._lane = lane

    def try_acquire(self, handles: Sequence[Handle], nbytes: int, step: Land | Full) -> Slot | None:
        """Return the block that is lent, if one is freed without waiting; ``step`` is the first answer."""
        looked = False
        answer: Slot | Land | Full = step
        while not isinstance(answer, Slot):
            if isinstance(answer, Land):
                land(answer.slot)
            elif looked:
                return None
            else:  # only now: to look at all that are pending costs more the more there are
                self.blocks.collect()
                looked = True
            answer = self.blocks.claim(handles, nbytes)
        return answer

    def acquire(self, handles: Sequence[Handle], nbytes: int, step: Land | Full) -> Slot | None:
        """Return the block that is lent under the policy; None means to read without the pool's blocks.

        Raises :class:`Busy`, :class:`FenceTimeout`, or what ended the pool.
        """
        slot = self.try_acquire(handles, nbytes, step)
        if slot is not None or not self.must_wait():
            return slot
        deadline = self.deadline()
        while slot is None:
            self._wait(deadline)
            answer = self.blocks.claim(handles, nbytes)
            slot = answer if isinstance(answer, Slot) else self.try_acquire(handles, nbytes, answer)
        return slot

    def must_wait(self) -> bool:
        """Count a read that finds no block free. Raises :class:`Busy`; False means read without one."""
        with self.blocks.lock:
            self.blocks.state.counts.waits += 1
        if self._config.backpressure == "raise":
            raise Busy(
                f"{self.blocks.state.depth} read(s) are pending, as many as this pool allows; take or cancel "
                "one, raise max_pending_ops, or use backpressure='wait'"
            )
        return self._config.backpressure == "wait"

    def deadline(self) -> Deadline:
        """Return when a wait for a block that begins now ends."""
        return Deadline.after(self._config.timeout)

    def oldest(self) -> Slot | None:
        """Return the block that comes free next, None where all are leased or being submitted."""
        with self.blocks.lock:
            return self.blocks.state.oldest

    def late(self, oldest: Slot | None) -> FenceTimeout:
        """Return what a wait for a block ends with when its time is over."""
        state = self.blocks.state
        return FenceTimeout(
            f"readback pool on lane {self._lane!r}: no block came free in {self._config.timeout} s; "
            f"{state.pending} of {state.depth} reads hold one"
            + ("" if oldest else ", all of them leased: release a lease")
        )

    def _wait(self, deadline: Deadline) -> None:
        """Wait until something may have become free."""
        blocks = self.blocks
        with blocks.lock:
            oldest = blocks.state.oldest
            left = deadline.left(LOOK_SECONDS)
            if left <= 0:
                raise self.late(oldest)
            if oldest is None:
                try:
                    blocks.sleepers += 1
                    blocks.changed.wait(left)
                finally:
                    blocks.sleepers -= 1
                return
        assert oldest.point is not None
        try:
            oldest.point.wait(left)
        except FenceTimeout:
            pass  # the caller looks for a lease that ended, a cancelled read, a close, and the deadline
        except Exception:
            fail_if_lost(oldest)
            raise


def complete(slot: Slot) -> list[Handle]:
    """Return the reads of a block that are complete.

    By now another thread may have moved the bytes out, and the block be a later read's, in flight.
    """
    reads = []
    for read in slot.readers():
        point = getattr(read, "point", None)  # it has none before it is submitted
        if point is not None and point.done:
            reads.append(read)
    return reads


def land(slot: Slot) -> None:
    """Move the bytes of complete reads out of their block."""
    for read in complete(slot):
        read.land()


def fail_if_lost(slot: Slot) -> None:
    """Have the reads of a block fail if their submission did."""
    for read in slot.readers():
        read.fail_if_lost()
