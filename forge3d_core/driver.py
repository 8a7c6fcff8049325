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

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

from forge3d_core.commands import (
    Command,
    Copy,
    Direction,
    Dispatch,
    Download,
    DownloadRows,
    Fill,
    HostBlock,
    Memory,
    PreparedCommands,
    TextureMemory,
    Token,
    Upload,
    UploadRows,
)
from forge3d_core.concurrency.polling import poll_until
from forge3d_core.concurrency.threads import OwnThread, start_thread
from forge3d_core.formats import TextureShape
from forge3d_core.protocols import DeviceInfo, Heap, KernelSource, TextureFormat

__all__ = [
    "AdoptedTexture",
    "Command",
    "Copy",
    "Direction",
    "Dispatch",
    "Download",
    "DownloadRows",
    "Driver",
    "Fill",
    "HostBlock",
    "KernelReleasing",
    "Memory",
    "MemoryReporting",
    "OwnThread",
    "PreparedCommands",
    "Ranges",
    "ShapedTextures",
    "TextureAdopting",
    "TextureMemory",
    "Timing",
    "Token",
    "Upload",
    "UploadRows",
    "poll_until",
    "start_thread",
]


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
class KernelReleasing(Protocol):
    """What a driver may have besides: kernels that go before the device does."""

    def release_kernel(self, native: Any) -> bool | None:
        """Give back what ``compile`` made, which no work uses any more; otherwise as ``free``."""


@runtime_checkable
class MemoryReporting(Protocol):
    """What a driver may have besides: the API's own figures of the device's memory."""

    def memory_info(self) -> tuple[int, int]:
        """Return the bytes of the device that are free, and all of them. Never waits for the device."""


@runtime_checkable
class ShapedTextures(Protocol):
    """What a driver may have besides: textures with levels, layers, depth or samples, and of any format.

    Plain ones come from ``allocate_texture`` all the same.
    """

    def allocate_shaped_texture(self, shape: TextureShape, format: TextureFormat) -> Any:
        """Return a zeroed texture, or raise ``UsageError`` for one that this device lacks."""


@runtime_checkable
class Measurable(Protocol):
    """What a driver of real hardware may say besides: that a measurement of its uploads tells something.

    The core makes a short one before the first large upload of a device whose ``tuning`` is ``"measured"``,
    and keeps what it finds for the machine and the adapter.
    """

    @property
    def measures_transfers(self) -> bool: ...


class AdoptedTexture(NamedTuple):
    """The caller's own texture: what ``Memory.native`` should be for it, and what it is.

    ``writable``: whether copies may bring texels to it.
    """

    native: Any
    shape: TextureShape
    format: TextureFormat
    writable: bool = True


@runtime_checkable
class TextureAdopting(Protocol):
    """What a driver may have besides: textures that the caller made."""

    def adopt_texture(self, native: Any, format: TextureFormat | None) -> AdoptedTexture | None:
        """Return what the caller's object is, or None where it is no texture, and none was asked for.

        ``format`` is what the caller says that it is, who must where the API's object does not. Raises
        ``UsageError`` for a texture of another device, another format or that no copy reads.
        """


@runtime_checkable
class Timing(Protocol):
    """What a driver may have besides: when each submission began and ended, for traces."""

    @property
    def clock(self) -> Literal["device", "host", "observed"]:
        """``"device"`` for timestamps of the device, ``"host"`` where a host thread runs the work.

        ``"observed"`` where this device has no timestamps after all.
        """

    def time_submissions(self, on: bool) -> None:
        """Take the times of what is submitted from now on, or leave off; raises nothing, open or closed."""

    def times(self, token: Token) -> tuple[float, float] | None:
        """Return begin and end, on the clock of ``time.perf_counter``; None where they were not taken.

        Asked once for a token, when it is complete and before it is retired. May wait for microseconds.
        """


@runtime_checkable
class Ranges(Protocol):
    """What a driver may have besides: ranges of the calling thread for the API's own profiler (NVTX)."""

    def push_range(self, name: str) -> None: ...

    def pop_range(self) -> None: ...
