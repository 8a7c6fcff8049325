"""How a readback pool behaves, and what it tells of itself."""

from __future__ import annotations

from typing import Literal, TypedDict

import attrs

from forge3d_core import arguments
from forge3d_core.arguments import one_of
from forge3d_core.deadline import seconds
from forge3d_core.errors import UsageError
from forge3d_core.presentation import Figures, counted, line
from forge3d_core.units import format_bytes, parse_bytes

Backpressure = Literal["wait", "raise", "degrade"]

MoveReason = Literal["trial", "rose", "did-not-rise", "did-not-fall", "fell", "load-changed"]


def _double_buffered(value: bool) -> bool:
    return arguments.flag("double_buffered", value)


def _pre_allocate(value: bool) -> bool:
    return arguments.flag("pre_allocate", value)


def _max_pending_ops(value: int) -> int:
    return arguments.at_least(1, "max_pending_ops", value)


def _adaptive(value: bool) -> bool:
    return arguments.flag("adaptive", value)


def _min_pending_ops(value: int) -> int:
    return arguments.at_least(1, "min_pending_ops", value)


def _buffer_size(value: int | str) -> int:
    return arguments.at_least(1, "buffer_size", parse_bytes(value))


def _timeout(value: float | None) -> float | None:
    return None if value is None else seconds(value)


@attrs.frozen(repr=False)
class AsyncReadbackConfig:
    """How a readback pool behaves. Source of the first three: the async readback guide.

    ``double_buffered``: several blocks, so that one read is in flight while another is taken;
    without it one block serves all reads in turn. ``pre_allocate``: allocate blocks of
    ``buffer_size`` when the pool is made rather than when first needed. ``max_pending_ops``: reads
    that hold a block at any one time. ``backpressure``: what a read beyond that does: *wait* until
    the oldest has landed, *raise* :class:`Busy`, or *degrade* to a synchronous read. ``timeout``:
    seconds that *wait* waits. ``adaptive``: the number of reads that hold a block follows the measured
    throughput, from ``min_pending_ops`` to ``max_pending_ops``, with *wait* and several blocks; what it is,
    and why it moved, is in ``stats``. Pools of other makers may leave it at ``max_pending_ops``. Raises
    :class:`UsageError`.
    """

    double_buffered: bool = attrs.field(default=True, converter=_double_buffered)
    pre_allocate: bool = attrs.field(default=True, converter=_pre_allocate)
    max_pending_ops: int = attrs.field(default=4, converter=_max_pending_ops)
    backpressure: Backpressure = attrs.field(default="wait", validator=one_of("wait", "raise", "degrade"))
    buffer_size: int = attrs.field(default=1024**2, converter=_buffer_size)
    timeout: float | None = attrs.field(default=30.0, converter=_timeout)
    adaptive: bool = attrs.field(default=False, converter=_adaptive)
    min_pending_ops: int = attrs.field(default=1, converter=_min_pending_ops)

    def __repr__(self) -> str:
        guides = ("double_buffered", "pre_allocate", "max_pending_ops")
        shown = [
            f"{field.name}={getattr(self, field.name)!r}"
            for field in attrs.fields(type(self))
            if field.name in guides or getattr(self, field.name) != field.default
        ]
        return f"{type(self).__name__}({', '.join(shown)})"

    def __attrs_post_init__(self) -> None:
        if not self.adaptive:
            return
        if self.min_pending_ops > self.max_pending_ops:
            raise UsageError(
                f"min_pending_ops is {self.min_pending_ops}, more than max_pending_ops, "
                f"{self.max_pending_ops}: an adaptive pool stays between the two"
            )
        if self.backpressure != "wait" or not self.double_buffered:
            given = "double_buffered=False" if self.backpressure == "wait" else repr(self.backpressure)
            raise UsageError(
                f"adaptive=True with {given}: it follows the reads that wait for one of several blocks; it "
                "goes with backpressure='wait' and double_buffered=True"
            )


class PoolOptions(TypedDict, total=False):
    """The fields of :class:`AsyncReadbackConfig`, as keywords of ``readback_pool``."""

    double_buffered: bool
    pre_allocate: bool
    max_pending_ops: int
    backpressure: Backpressure
    buffer_size: int | str
    timeout: float | None
    adaptive: bool
    min_pending_ops: int


@attrs.frozen
class ConcurrencyMove(Figures):
    """Why an adaptive pool lets more reads hold a block, or fewer; ``str`` says it in words.

    ``reason`` is what the throughput did with ``before`` in flight. *trial*: it was steady, and another
    number is tried. *rose*: a step up brought more, and the next one is taken. *did-not-rise*: it brought
    nothing, and is taken back. *did-not-fall*: fewer were as fast, and the next step down is taken. *fell*:
    they were not, and the step is taken back. *load-changed*: it rose or fell by itself; more are tried.
    """

    at: float  # time.perf_counter()
    before: int
    after: int
    throughput_bytes_per_sec: float  # with `before` in flight
    reason: MoveReason

    def __repr__(self) -> str:
        return line(
            f"{self.before} to {self.after} reads in flight",
            f"{format_bytes(round(self.throughput_bytes_per_sec))}/s",
            self.reason,
        )

    def __str__(self) -> str:
        said = {
            "trial": "it was steady",
            "rose": "which was more than before",
            "did-not-rise": "which was no more than before",
            "did-not-fall": "which was no less than before",
            "fell": "which was less than before",
            "load-changed": "which was another load than before",
        }[self.reason]
        rate = f"{format_bytes(round(self.throughput_bytes_per_sec))}/s"
        return f"from {self.before} to {self.after} reads in flight: {rate} with {self.before}, {said}"


@attrs.frozen
class ReadbackStats(Figures):
    """A snapshot of a pool; counts since it was made. Names from the async readback guide."""

    total_operations: int
    completed_operations: int  # whose bytes have landed
    pending_operations: int  # that hold a block now
    cancelled_operations: int  # cancelled, or dropped before their bytes were taken
    failed_operations: int
    dropped_frames: int  # by a streaming reader that wanted only the latest
    average_time_ms: float  # from read to landing, completed operations only
    bytes_read: int
    block_allocations: int  # host blocks taken from the device; flat in the steady state
    blocks: int  # host blocks held now
    block_bytes: int
    waits: int  # reads that had to wait, raise or degrade for want of a block
    pending_limit: int = 0  # how many may hold a block now; 0 where the pool does not say
    moves: tuple[ConcurrencyMove, ...] = ()  # of an adaptive pool: the last that it made, the oldest first

    def __repr__(self) -> str:
        return line(
            f"readback stats: {counted(self.total_operations, 'read')}",
            f"{self.pending_operations} pending",
            f"{self.cancelled_operations} cancelled",
            f"{self.failed_operations} failed",
            f"{self.dropped_frames} dropped",
            f"{self.average_time_ms:.3g} ms each",
            f"{format_bytes(self.bytes_read)} in all",
            f"{counted(self.blocks, 'block')} of {format_bytes(self.block_bytes)}",
            counted(self.waits, "wait"),
        )
