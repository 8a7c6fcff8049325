"""The thin driver: all that a backend author implements to get rings, fences, pools and budgets.

:func:`forge3d_core.device.assemble` puts the shared algorithms over a driver and returns a
:class:`~forge3d_core.protocols.Device`. The driver does what its API does differently and nothing
else: it takes memory, runs commands on lanes, and says when a submission is complete.

What the core promises a driver
    * ``submit`` is never called by two threads at once; every other method may be.
    * No lock that a caller could wait on is held during ``wait``.
    * Arguments have been checked: numbers are Python ints, ranges lie inside their memory, objects
      belong to this device, memory has been granted by the budget, and nothing is freed while a
      submission uses it.
    * ``retire`` is called once for each token, after its ``query`` or ``wait`` said True.

What a driver promises the core
    * Native errors become forge3d errors at its own edge: ``DeviceLost``, ``OutOfDeviceMemory``,
      ``KernelError``; nothing native leaks out. What does all the same becomes a ``DriverError``: of the
      caller, where it came out of a call that one caller made, and of the lane, for good, where it came
      out of ``submit``, ``query``, ``wait``, ``retire`` or ``check``.
    * A failed call has changed nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal, Protocol, runtime_checkable

import attrs
import numpy as np
from numpy.typing import NDArray

from forge3d_core.concurrency.polling import poll_until
from forge3d_core.concurrency.threads import OwnThread, start_thread
from forge3d_core.protocols import DeviceInfo, Heap, Kernel, KernelSource, TextureFormat

__all__ = [
    "Command",
    "Copy",
    "Direction",
    "Dispatch",
    "Download",
    "DownloadRows",
    "Driver",
    "Fill",
    "HostBlock",
    "Memory",
    "MemoryReporting",
    "OwnThread",
    "PreparedCommands",
    "TextureMemory",
    "Token",
    "Upload",
    "UploadRows",
    "poll_until",
    "start_thread",
]

Direction = Literal["upload", "readback"]
Token = Any  # whatever the driver makes of a submission


class HostBlock(Protocol):
    """Host-visible memory that the device copies from (upload) or to (readback)."""

    @property
    def nbytes(self) -> int: ...

    def view(self) -> NDArray[np.uint8]:
        """Return all of it as a 1-d array over the memory itself.

        Called only when no submission that names the block is outstanding. An upload block's view is
        writable. The core takes its views back before a ``submit`` that names the block. What it cannot
        take back is an alias that numpy does not count, so memory that an array from here still shows,
        derived or not, stays until that array is gone, whether the block is submitted, freed or the
        driver closed; bytes that such an alias reads or writes meanwhile are nobody's.

        With ``limits.mapped_copies`` the driver lets the host and the device use a block at once: then a
        view is asked for, and kept, whatever is outstanding, and one thread reads the bytes that have come
        while the device copies others. Uploads and readbacks may name any block then.
        """


class Memory(Protocol):
    """A core buffer or texture, as commands name it; ``native`` is what the driver allocated."""

    @property
    def native(self) -> Any: ...

    @property
    def nbytes(self) -> int: ...


class TextureMemory(Memory, Protocol):
    @property
    def width(self) -> int: ...

    @property
    def height(self) -> int: ...

    @property
    def format(self) -> TextureFormat: ...


# Commands are values that a driver leaves as they are. They are not frozen, since then they take five times
# as long to make: 1 us on the path of every slice.


@attrs.define(eq=False)
class Upload:
    """Copy bytes from an upload block to a buffer; any offsets and sizes."""

    block: HostBlock
    block_offset: int
    target: Memory
    offset: int
    nbytes: int


@attrs.define(eq=False)
class Download:
    """Copy bytes from a buffer to a readback block.

    ``block_offset`` and ``offset`` agree modulo ``limits.copy_alignment``, and the block has room to
    round both ends outwards to that alignment: a driver may copy the wider range.
    """

    source: Memory
    offset: int
    block: HostBlock
    block_offset: int
    nbytes: int


@attrs.define(eq=False)
class UploadRows:
    """Copy ``size`` (width, height) texels to a texture at ``origin`` (x, y).

    ``block_offset`` is a multiple of ``limits.staging_alignment``, ``row_pitch`` of
    ``limits.row_pitch_alignment``.
    """

    block: HostBlock
    block_offset: int
    row_pitch: int
    target: TextureMemory
    origin: tuple[int, int]
    size: tuple[int, int]


@attrs.define(eq=False)
class DownloadRows:
    """The other way round."""

    source: TextureMemory
    origin: tuple[int, int]
    size: tuple[int, int]
    block: HostBlock
    block_offset: int
    row_pitch: int


@attrs.define(eq=False)
class Copy:
    """Copy bytes between two buffers (or disjoint parts of one); any offsets and sizes."""

    source: Memory
    source_offset: int
    target: Memory
    target_offset: int
    nbytes: int


@attrs.define(eq=False)
class Fill:
    """Set bytes of a buffer to ``value`` (0 to 255); any offset and size."""

    target: Memory
    offset: int
    nbytes: int
    value: int


@attrs.define(eq=False)
class Dispatch:
    """Run a kernel over ``threads`` (x, y, z), each at least 1; the driver rounds up to workgroups.

    ``params`` are Python ints and floats in the order of ``kernel.source.params``, in range.
    """

    kernel: Kernel
    buffers: tuple[Memory, ...]
    params: tuple[int | float, ...]
    threads: tuple[int, int, int]


Command = Upload | Download | UploadRows | DownloadRows | Copy | Fill | Dispatch


class PreparedCommands(list[Command]):
    """The commands of a list that is submitted many times: what ``submit`` gets in place of plain ones.

    They never change after their first submission, nor does the native memory that they name, so a driver
    may keep in ``translation`` what it made of them: a graph, a bundle of encoded commands. A driver that
    knows nothing of it runs the commands as any others.

    ``translation`` is None at first. It is read and set inside ``submit`` alone, so by one thread at a time;
    set it last, in one assignment, when all of it is made. It may depend on the lane, and then says for which
    one it was made. It is dropped with the list, on any thread, and when the device closes, before the
    driver's ``close``; work may be in flight then, so the token of a submission keeps what that needs.
    """

    __slots__ = ("__weakref__", "translation")
    __hash__ = object.__hash__  # type: ignore[assignment]  # a list is itself alone
    __eq__ = object.__eq__

    def __init__(self, commands: Iterable[Command] = ()) -> None:
        super().__init__(commands)
        self.translation: Any = None


class Driver(Protocol):
    """What a backend implements."""

    @property
    def info(self) -> DeviceInfo:
        """The device, with its limits filled in."""

    @property
    def native(self) -> Any: ...

    def footprint(self, nbytes: int, heap: Heap) -> int:
        """Return the bytes that an allocation of ``nbytes`` really takes, rounding included."""

    def allocate_buffer(self, nbytes: int) -> Any:
        """Return zeroed device memory (zero as any later submission sees it)."""

    def allocate_texture(self, width: int, height: int, format: TextureFormat) -> Any:
        """Return a zeroed texture, or raise ``UsageError`` for a format that this device lacks."""

    def allocate_block(self, nbytes: int, direction: Direction) -> HostBlock:
        """Return zeroed host-visible memory, accessible to the host at once."""

    def free(self, native: Any) -> bool | None:
        """Give back what one of the three made. Never raises, and never waits for the device.

        False means "not yet", and that nothing has changed: the API would wait for the device now,
        say. Then the memory stays charged to the budget, and the core asks again, or hands out a block
        once more, for the same size and direction. Asked again as well after an interrupt. Anything
        else means that the memory is gone.
        """

    def adopt(self, native: Any) -> tuple[Any, int]:
        """Return what ``Memory.native`` should be for the caller's own object, and its bytes.

        Raises ``UsageError`` for anything that is not memory of this device.
        """

    def compile(self, source: KernelSource) -> tuple[str, Any]:
        """Compile for the best language that ``source`` has and this device speaks.

        Return the language and what ``Kernel.native`` should be. Called once for each source.
        """

    def submit(self, lane: str, commands: Sequence[Command], after: Sequence[Token]) -> Token:
        """Run ``commands`` in order on ``lane``, after what was submitted there and after the tokens.

        Never waits for the device. When the token is complete the commands' writes are visible and
        every host block they name is accessible to the host again. Tokens in ``after`` may be
        complete, even retired. ``commands`` are :class:`PreparedCommands` where they come many times.
        """

    def query(self, token: Token) -> bool:
        """Whether the submission is complete, without blocking; True for a retired token.

        Raises what made the submission fail.
        """

    def wait(self, token: Token, seconds: float) -> bool:
        """Like ``query``, waiting up to ``seconds`` without burning a core; see :func:`poll_until`.

        Asks first, and returns at once if the submission is complete. Another thread may retire the token
        meanwhile.
        """

    def check(self) -> None:
        """Raise ``DeviceLost`` if the device is known to be lost. Never blocks.

        Asked now and then while somebody waits and nothing is in flight that could bring the news.
        """

    def retire(self, token: Token) -> None:
        """Take back what the token holds (an event for the pool, say)."""

    def close(self, timeout: float) -> bool | None:
        """Let submitted work end for up to ``timeout`` seconds, then give everything back.

        False means "not yet": work is still in flight, and to give back what it uses would wait for it, or
        take it from under it. Nothing is submitted any more, and the core keeps all memory. It asks again
        with a timeout of 0, which must not wait, when a device is opened or closed or has no memory left; and
        after an interrupt or an error, even one that came as the last thing was given back. Anything else
        means that the driver is closed. A native device that was adopted stays open.
        """


@runtime_checkable
class MemoryReporting(Protocol):
    """What a driver may have besides: the API's own figures of the device's memory."""

    def memory_info(self) -> tuple[int, int]:
        """Return the bytes of the device that are free, and all of them. Never waits for the device."""
