"""A device: it owns memory, lanes and a budget, and makes everything else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, Protocol, Self, Unpack, cast, get_args, runtime_checkable

import attrs
from numpy.typing import NDArray

from forge3d_core.arguments import integer, sequence, shown, text, threads
from forge3d_core.deadline import seconds
from forge3d_core.errors import UsageError
from forge3d_core.presentation import Figures, line
from forge3d_core.protocols.budget import BudgetTracker
from forge3d_core.protocols.fence import FencePoint, Timeline
from forge3d_core.protocols.kernel import CommandList, Kernel, KernelSource
from forge3d_core.protocols.memory import Buffer, Texture, TextureFormat
from forge3d_core.protocols.pool import AsyncReadbackConfig, PoolOptions
from forge3d_core.protocols.readback import ReadbackPool
from forge3d_core.protocols.ring import StagingRing
from forge3d_core.units import MIB, format_bytes, parse_bytes

DeviceKind = Literal["discrete", "integrated", "virtual", "cpu", "simulator"]


LANE_ROLES = ("upload", "compute", "download")
"""The names that every device's lanes go by, whatever lanes it has."""


def _lanes(value: Iterable[str]) -> tuple[str, ...]:
    names = tuple(value)
    if not names or not all(isinstance(name, str) and name for name in names):
        raise UsageError(f"lanes are names of one lane or more, not {shown(names)}")
    return names


def _limit(value: int) -> int:
    return integer("a limit", value)


def _groups(value: tuple[int, int, int]) -> tuple[int, int, int]:
    return threads("max_groups", value)


@attrs.frozen
class Limits(Figures):
    """What a device can and cannot do; sizes in bytes.

    The least that a device may have: buffers of 1 MiB, alignments that are powers of two up to 4096, one
    lane, kernels of 64 threads a group and 64 groups in x; and, where it has textures, 64 texels a side.
    """

    max_buffer_size: int = attrs.field(converter=_limit)
    max_texture_size: int = attrs.field(default=16384, converter=_limit)  # texels along a side, in 2-d
    # offsets and sizes that the API copies without help from a kernel
    copy_alignment: int = attrs.field(default=1, converter=_limit)
    # distance between the rows of a texture in a staging block
    row_pitch_alignment: int = attrs.field(default=1, converter=_limit)
    # offset of a slice in its staging block
    staging_alignment: int = attrs.field(default=64, converter=_limit)
    max_groups: tuple[int, int, int] = attrs.field(default=(65535, 65535, 65535), converter=_groups)
    max_group_threads: int = attrs.field(default=1024, converter=_limit)
    languages: tuple[str, ...] = ()  # kernel languages, best first: "host", "wgsl", "cuda"
    lanes: tuple[str, ...] = attrs.field(default=LANE_ROLES, converter=_lanes)  # at least one, of any name
    concurrent_lanes: bool = True  # False: the lanes are logical, one native queue runs them in order
    # whether the device copies from and to host-visible memory while the host has it in use
    mapped_copies: bool = False
    # the API's own names of what the device has besides; empty where the API has no such thing
    features: tuple[str, ...] = ()
    # the formats of WebGPU that textures may have, by name; empty where the device does not tell
    texture_formats: tuple[str, ...] = ()
    max_texture_layers: int = attrs.field(default=1, converter=_limit)  # 1: no layers, and no other levels
    max_texture_depth: int = attrs.field(default=1, converter=_limit)  # along each side of a 3-d texture
    # whether depth and stencil are copied by whole levels, and depth32float only read, as WebGPU has it
    whole_depth_copies: bool = False

    def __repr__(self) -> str:
        return line(
            f"limits: buffers to {format_bytes(self.max_buffer_size)}",
            f"textures to {self.max_texture_size}",
            f"copies by {self.copy_alignment}",
            f"languages {'/'.join(self.languages) or 'none'}",
            f"lanes {'/'.join(self.lanes)}",
        )


@attrs.frozen
class DeviceInfo(Figures):
    """What a probe tells of one device."""

    backend: str
    name: str
    kind: DeviceKind
    selector: str  # what to write after "backend:" to open exactly this one
    driver: str = ""  # the API and driver version
    score: int = 0  # the higher, the better; see docs/decisions on automatic choice
    memory_bytes: int | None = None
    limits: Limits | None = None
    caution: str = ""  # why only a selector that names it opens it; empty: automatic choice may take it
    fix: str | None = None  # the command that would bring what has no such caution

    def __repr__(self) -> str:
        memory = format_bytes(self.memory_bytes) if isinstance(self.memory_bytes, int) else ""
        where = f"device info {self.backend}:{self.selector} {shown(self.name)}"
        return line(where, self.kind, shown(self.driver), memory, f"score {self.score}")


TuningMode = Literal["measured", "fixed"]


def tuning_mode(value: object) -> TuningMode:
    """Return ``value`` if it is a mode; raises :class:`UsageError` otherwise."""
    for mode in get_args(TuningMode):
        if isinstance(value, str) and value == mode:
            return cast(TuningMode, mode)
    raise UsageError(f"tuning is 'measured' or 'fixed', not {shown(value)}")


def _drain_timeout(value: float) -> float:
    number = seconds(value, "drain_timeout")
    if number < 0:
        raise UsageError(f"drain_timeout is a number of seconds from 0 up, not {value!r}")
    return number


def _features(value: Iterable[str]) -> tuple[str, ...]:
    names = sorted(value) if isinstance(value, (set, frozenset)) else sequence("features", value)
    return tuple(text("a feature", name) for name in names)


def _native_limits(value: Mapping[str, int]) -> Mapping[str, int]:
    if not isinstance(value, Mapping):
        raise UsageError(f"limits are numbers by name, not {shown(value)}")
    return {text("the name of a limit", name): integer("a limit", number) for name, number in value.items()}


@attrs.frozen
class DeviceOptions:
    """What the core asks of every backend when it opens a device; the same keys as in a config file.

    ``budget``: the limit on host-visible memory, 512 MiB by default (source: the memory management
    guide). ``drain_timeout``: seconds that ``close`` lets submitted work end. ``tuning``: how large
    transfers are cut, ``"measured"`` once on each machine, or ``"fixed"``, the same on all of them.
    ``features`` and ``limits``: what the API's own device must have besides, by the API's names; a backend
    whose API knows neither leaves ``Limits.features`` empty, and what asked for some is refused there.
    """

    budget: int = attrs.field(default=512 * MIB, converter=parse_bytes)
    drain_timeout: float = attrs.field(default=10.0, converter=_drain_timeout)
    tuning: TuningMode = attrs.field(default="fixed", converter=tuning_mode)
    features: tuple[str, ...] = attrs.field(default=(), converter=_features)
    limits: Mapping[str, int] = attrs.field(factory=dict, converter=_native_limits)


@runtime_checkable
class Lane(Protocol):
    """An in-order queue of work on the device."""

    @property
    def name(self) -> str:
        """The name that the device lists in its limits."""

    @property
    def timeline(self) -> Timeline:
        """The timeline that grows as this lane's work completes."""


@runtime_checkable
class Device(Protocol):
    """An open device.

    Contract
        Work that is submitted to one lane runs in the order of submission. Between lanes the device
        orders what touches the same memory: a submission that reads a buffer waits for the last
        submission that wrote it, and one that writes waits for all that read or wrote it. ``after``
        adds to that and never takes away, so a program without a single ``after`` is correct and a
        program with them says what the device cannot know.

        Fresh memory is zero. All memory goes through ``budget``. ``close`` is idempotent, wakes
        every waiter with :class:`Closed`, lets submitted work end for a bounded time, and gives back
        all that the device made. After it whatever would make, reserve, record, submit, stage or read
        something, or wait for it, raises :class:`Closed`, on the device and on all that it made; what
        only tells (figures, names, sizes, what is done or closed, what had been read) still tells,
        and closing and releasing do nothing. When the device is
        lost, every present and later wait raises :class:`DeviceLost` within a second, and so does
        every call that would make, record or submit something. In a forked child what raises
        :class:`Closed` after ``close`` raises :class:`Forked`, open or closed.

        Every integer type means its value, here and in all that the device makes: what has an
        ``__index__`` is one, but no bool and no float. A :class:`UsageError` has changed nothing.

    Thread-safety: all methods may be called from any thread at any time.
    """

    @property
    def info(self) -> DeviceInfo:
        """What the device is: backend, name, kind, driver, score."""

    @property
    def limits(self) -> Limits:
        """What it can and cannot do."""

    @property
    def budget(self) -> BudgetTracker:
        """Every byte of it by kind and heap, under a hard limit."""

    @property
    def lanes(self) -> Mapping[str, Lane]:
        """Its lanes by name: those of ``limits.lanes``, and ``upload``, ``compute``, ``download``.

        Of these three, a name that is not in ``limits.lanes`` stands for the first lane there is.
        """

    @property
    def native(self) -> Any:
        """The API's own device (``wgpu.GPUDevice``, ``cupy.cuda.Device``), for interop."""

    @property
    def closed(self) -> bool:
        """Whether it was closed; never blocks."""

    def create_buffer(self, nbytes: int | str, *, label: str = "") -> Buffer:
        """Return ``nbytes`` (from 1) of zeroed device memory.

        Raises :class:`TooLarge` above ``limits.max_buffer_size``, a :class:`BudgetError` when
        refused.
        """

    def create_texture(
        self, width: int, height: int, format: TextureFormat | str = "rgba8unorm", *, label: str = ""
    ) -> Texture:
        """Return a zeroed 2-d texture of ``width`` × ``height`` texels.

        Uploads and reads go by texel, so the format is an uncompressed one, of blocks of (1, 1). A device
        with textures has ``rgba8unorm``; it may lack any other format.
        Raises :class:`UsageError` for any other and for a size beyond ``limits.max_texture_size``, a
        :class:`BudgetError` when refused.
        """

    def create_kernel(self, source: KernelSource) -> Kernel:
        """Compile ``source`` in a language that this device speaks; the result is cached.

        Create kernels before there is work: loading one may wait for kernels that are running (CUDA's
        loader does). Raises :class:`KernelError` with the compiler's lines, or naming the languages on
        both sides.
        """

    def command_list(self, *, label: str = "", reusable: bool = False) -> CommandList:
        """Return an empty list to record on; recording is free of device calls.

        A ``reusable`` one may be submitted many times: for work that repeats, as the commands of a frame do.
        """

    def submit(
        self, commands: CommandList, *, lane: str = "compute", after: Iterable[FencePoint] = ()
    ) -> FencePoint:
        """Submit recorded work and return the point at which it is complete.

        ``after`` names points of any lane of this device that have been submitted; the device, not
        the caller, waits for them. Raises :class:`UsageError` for a point not yet submitted (only
        the host can wait for those) and :class:`ForeignObject` for another device's.
        """

    def staging_ring(
        self, *, ring_count: int = 3, buffer_size: int | str = "1 MiB", lane: str = "upload"
    ) -> StagingRing:
        """Return a ring of ``ring_count`` (1 to 8) blocks of ``buffer_size`` host-visible bytes."""

    def readback_pool(
        self,
        config: AsyncReadbackConfig | None = None,
        *,
        lane: str = "download",
        **changes: Unpack[PoolOptions],
    ) -> ReadbackPool:
        """Return a readback pool; ``changes`` are fields of :class:`AsyncReadbackConfig`.

        Raises :class:`UsageError` for a field that there is not, or a value that it cannot have.
        """

    def adopt(self, native: Any, *, label: str = "") -> Buffer:
        """Wrap native memory of this device as a buffer; closing the buffer leaves it to its owner.

        The same memory adopted twice is one memory to the device, which puts its uses in order. Of
        ranges that overlap in part it knows nothing: put work on those in order with ``after=``.
        """

    def wait_idle(self, timeout: float | None = None) -> None:
        """Wait until everything submitted so far is complete; raises as a point's ``wait`` does."""

    def close(self) -> None:
        """Let submitted work end for ``drain_timeout`` seconds, then give all back; idempotent."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc_info: object) -> None: ...


@runtime_checkable
class AsyncDevice(Device, Protocol):
    """A device that ``async with`` closes: on a thread of its own, which is waited for, cancelled or not.

    Devices that the core assembles are; others need not be.
    """

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *exc_info: object) -> None: ...


@runtime_checkable
class HostArrayDevice(Device, Protocol):
    """A device that gives out arrays in its host-visible memory.

    Devices that the core assembles are; others need not be.
    """

    def host_array(self, shape: int | tuple[int, ...], dtype: Any = "u1") -> NDArray[Any]:
        """Return a zeroed numpy array in host-visible memory (page-locked on CUDA), counted by the budget.

        It is the caller's, and an array like any other. Where ``limits.mapped_copies`` is true, the device
        copies from and to it without another copy by the host: ``ring.upload`` of it, or of a contiguous
        part, reads it, and a read with ``out=`` writes it, until the point that they return is done; until
        then leave it alone. (Uploads of up to 256 KiB are copied at once all the same.) Elsewhere both copy,
        as with any array.

        The memory goes back when no array, view or memoryview refers to it and the device is done with it;
        what outlives the device stays valid. Raises a :class:`BudgetError` when refused,
        :class:`UsageError` for a dtype without a byte layout or a negative extent.
        """
