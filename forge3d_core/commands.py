"""What commands say: the values that a driver's ``submit`` gets, and the memory that they name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, Protocol

import attrs
import numpy as np
from numpy.typing import NDArray

from forge3d_core.formats import TextureShape
from forge3d_core.protocols import Kernel, TextureFormat

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
    """A texture, or a part of one: one level, and of that one layer or all, and one aspect or all.

    Drivers that make plain 2-d textures alone (see :class:`~forge3d_core.driver.ShapedTextures`) may leave
    what comes after ``format``: there it is level 0, layer 0, one slice, and all aspects.
    """

    @property
    def width(self) -> int:
        """Texels across the level."""

    @property
    def height(self) -> int: ...

    @property
    def format(self) -> TextureFormat:
        """The layout of its texels: those of the aspect."""

    @property
    def shape(self) -> TextureShape:
        """The extent of all of the texture."""

    @property
    def whole_format(self) -> TextureFormat:
        """The format of all of the texture, aspects together."""

    @property
    def level(self) -> int: ...

    @property
    def layer(self) -> int:
        """The first of its layers."""

    @property
    def slices(self) -> int:
        """How many layers it has, or how deep its level is."""

    @property
    def aspect(self) -> str:
        """``all``, ``depth`` or ``stencil``."""


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
    ``limits.row_pitch_alignment``. A compressed texture has rows of blocks; the size is in texels all the
    same, and ends with the texture where that ends inside a block. The texels are of ``slices`` slices
    (layers, or planes of a 3-d texture) from ``slice`` on, counted from the first of ``target``; in the
    block the rows of one slice follow those of the one before.
    """

    block: HostBlock
    block_offset: int
    row_pitch: int
    target: TextureMemory
    origin: tuple[int, int]
    size: tuple[int, int]
    slice: int = 0
    slices: int = 1


@attrs.define(eq=False)
class DownloadRows:
    """The other way round."""

    source: TextureMemory
    origin: tuple[int, int]
    size: tuple[int, int]
    block: HostBlock
    block_offset: int
    row_pitch: int
    slice: int = 0
    slices: int = 1


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
