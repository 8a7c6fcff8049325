"""Textures, and their parts: what uploads, reads, copies and kernels name."""

from __future__ import annotations

from typing import Any, NamedTuple, SupportsIndex

import attrs
from numpy.typing import NDArray

from forge3d_core import protocols
from forge3d_core.arguments import integer, sequence, shown
from forge3d_core.errors import OutOfRange, UsageError
from forge3d_core.formats import (
    ASPECTS,
    FORMATS,
    UNCOPYABLE,
    TextureShape,
    check_texels,
    is_depth_stencil,
    texture_bytes,
)
from forge3d_core.memory.allocator import Allocator, Owned
from forge3d_core.memory.resources import READ, DeviceMemory
from forge3d_core.presentation import named, presents
from forge3d_core.protocols import TextureFormat

Triple = tuple[int, int, int]


@attrs.frozen(eq=False)
class TextureMemory:
    """A texture, or a part of one, as commands name it."""

    native: Any
    nbytes: int
    width: int
    height: int
    format: TextureFormat
    shape: TextureShape = attrs.field(
        default=attrs.Factory(lambda self: TextureShape(self.width, self.height), takes_self=True)
    )
    whole_format: TextureFormat = attrs.field(
        default=attrs.Factory(lambda self: self.format, takes_self=True)
    )
    level: int = 0
    layer: int = 0
    slices: int = 1
    aspect: str = "all"
    one_layer: bool = False

    @classmethod
    def of(cls, native: Any, shape: TextureShape, format: TextureFormat) -> TextureMemory:
        """Return all of a texture: its largest level, and all layers."""
        nbytes, slices = shape.nbytes(format), shape.layers * shape.depth
        return cls(native, nbytes, shape.width, shape.height, format, shape, format, slices=slices)

    @property
    def sliced(self) -> bool:
        """Whether it is an image for each layer, or plane of a 3-d texture, where other textures are one."""
        return self.shape.depth > 1 or (self.shape.layers > 1 and not self.one_layer)

    @property
    def depth(self) -> int:
        return self.shape.level(self.level)[2]

    def part(self, level: int, layer: int | None, aspect: str) -> TextureMemory:
        """Return one level, one layer of it or all, and one aspect."""
        width, height, depth = self.shape.level(level)
        format = self.format if aspect == "all" else FORMATS[ASPECTS[self.format.name][aspect]]
        slices = depth * (self.shape.layers if layer is None else 1)
        return TextureMemory(
            self.native,
            texture_bytes(width, height, format) * slices,
            width,
            height,
            format,
            self.shape,
            self.whole_format,
            level,
            layer or 0,
            slices,
            aspect,
            layer is not None,
        )


class Copies(NamedTuple):
    """What copies do with a texture: depth by whole levels, as WebGPU has it, and whether they write it."""

    whole_depth: bool = False
    writable: bool = True


@presents(protocols.ShapedTexture, array=READ)
class DeviceTexture(DeviceMemory):
    """See :class:`forge3d_core.protocols.ShapedTexture`."""

    def __init__(
        self,
        owner: object,
        allocator: Allocator,
        owned: Owned,
        memory: TextureMemory,
        label: str,
        *,
        copies: Copies,
    ) -> None:
        super().__init__(owner, allocator, owned, label)
        self._allocator = allocator
        self.copies = copies
        self.memory = memory
        self.width, self.height, self.nbytes = memory.width, memory.height, memory.nbytes
        self.format = memory.format

    @property
    def depth(self) -> int:
        return self.memory.depth

    @property
    def layers(self) -> int:
        return 1 if self.memory.one_layer else self.memory.shape.layers

    @property
    def mip_levels(self) -> int:
        return self.memory.shape.mip_levels

    @property
    def samples(self) -> int:
        return self.memory.shape.samples

    @property
    def whole_copies(self) -> bool:
        """Whether copies cover a whole level of it, and all of each slice that they touch."""
        return self.copies.whole_depth and is_depth_stencil(self.format)

    def view(self, *, level: int = 0, layer: int | None = None, aspect: str = "all") -> TextureView:
        self.check()
        shape = self.memory.shape
        level = integer("level", level)
        shape.level(level)  # which raises
        if layer is not None:
            layer = integer("layer", layer)
            if shape.depth > 1:
                raise UsageError("a 3-d texture has no layers; take texels of it: origin=(x, y, z), size=")
            if not 0 <= layer < shape.layers:
                raise UsageError(f"{self!r} has layers 0 to {shape.layers - 1}, not {shown(layer)}")
        aspects = ("all", *ASPECTS.get(self.format.name, ()))
        if aspect not in aspects:
            raise UsageError(
                f"an aspect of {self.format.name} is {' or '.join(aspects)}, not {shown(aspect)}"
            )
        return TextureView(self, self.memory.part(level, layer, aspect))

    def box(self, origin: Any, size: Any) -> tuple[Triple, Triple]:
        """Return origin and size (default: the rest) in Python ints, slices last.

        Raises :class:`OutOfRange` unless the texels lie inside, :class:`UsageError` for other than two or
        three whole numbers, and for parts of blocks.
        """
        x, y, z = self._triple("origin", origin, 0)
        memory = self.memory
        rest = memory.width - x, memory.height - y, memory.slices - z
        w, h, d = rest if size is None else self._triple("size", size, 1)
        if min(x, y, z, w, h, d) < 0 or w > rest[0] or h > rest[1] or d > rest[2]:
            deep = memory.sliced or d != 1 or z != 0
            raise OutOfRange(
                f"{'x'.join(map(shown, (w, h, d) if deep else (w, h)))} texels at "
                f"({', '.join(map(shown, (x, y, z) if deep else (x, y)))}) do not lie inside {self!r}"
            )
        across, down = self.format.block
        if x % across or y % down or (w % across and w != rest[0]) or (h % down and h != rest[1]):
            raise UsageError(
                f"{self.format.name} is copied by blocks of {across}x{down} texels: {w}x{h} texels at "
                f"({x}, {y}) are parts of some"
            )
        return (x, y, z), (w, h, d)

    def goal(self, array: NDArray[Any], origin: Any) -> tuple[Triple, Triple]:
        """Return where an upload of ``array`` to ``origin`` goes, and its size.

        Raises :class:`UsageError` for an array that is no texels of this format or that no copy brings here.
        """
        sliced, (across, down) = self.memory.sliced, self.format.block
        check_texels(array, self.format, sliced=sliced)
        *slices, rows, columns = array.shape[: 3 if sliced else 2]
        x, y, z = self._triple("origin", origin, 0)
        # The last block of a level may reach beyond it.
        width = self._texels(columns, across, self.width - x)
        height = self._texels(rows, down, self.height - y)
        place, size = self.box((x, y, z), (width, height, *(slices or (1,))))
        if array.size:
            self.writable(place, size)
        return place, size

    def _texels(self, blocks: int, unit: int, rest: int) -> int:
        texels = blocks * unit
        return rest if 0 < rest < texels < rest + unit else texels

    def readable(self, origin: Triple, size: Triple) -> None:
        """Raise :class:`UsageError` for texels that no copy takes from it."""
        self._copyable("read")
        self._covered("read", origin, size)

    def writable(self, origin: Triple, size: Triple) -> None:
        """Raise :class:`UsageError` for texels that no copy brings to it."""
        self._copyable("upload")
        if not self.copies.writable:
            raise UsageError(
                f"{self!r} was adopted, and no copy may write it: its owner made it without COPY_DST"
            )
        if self.whole_copies and self.format.name == "depth32float":
            raise UsageError(
                "WebGPU copies depth32float to the host and never to the device, so this one is only read; "
                "render to it, or take depth16unorm or r32float"
            )
        self._covered("upload", origin, size)

    def _triple(self, what: str, value: Any, third: int) -> Triple:
        """Return three whole numbers, of which the last may be left out, and says nothing without slices."""
        if type(value) is tuple and len(value) == 2 and type(value[0]) is int and type(value[1]) is int:
            return value[0], value[1], third
        numbers: tuple[SupportsIndex, ...] = sequence(what, value)
        if len(numbers) == 3:
            x, y, z = (integer(what, number) for number in numbers)
            if self.memory.sliced or z == third:
                return x, y, z
        if len(numbers) != 2:
            wanted = "three whole numbers such as (0, 0, 0)" if self.memory.sliced else "two such as (0, 0)"
            raise UsageError(f"{what} of {self!r} is {wanted}, not {shown(value)}")
        return integer(what, numbers[0]), integer(what, numbers[1]), third

    def _copyable(self, verb: str) -> None:
        if self.format.name in UNCOPYABLE:
            apart = ASPECTS.get(self.format.name, {})
            copied = [repr(aspect) for aspect, name in apart.items() if name not in UNCOPYABLE]
            advice = (
                f"{verb} an aspect by itself: .view(aspect={' or '.join(copied)})"
                if copied
                else "take depth32float, depth16unorm or r32float"
            )
            raise UsageError(f"the texels of {self.format.name} have no layout that copies see; {advice}")
        if self.samples > 1:
            raise UsageError(
                f"{self!r} has {self.samples} samples a texel, which no copy moves; resolve it to a texture "
                "of one, and copy that"
            )

    def _covered(self, verb: str, origin: Triple, size: Triple) -> None:
        if self.whole_copies and (*origin[:2], *size[:2]) != (0, 0, self.width, self.height):
            raise UsageError(
                f"this API copies {self.format.name} by whole levels: {verb} all {self.width}x{self.height} "
                "texels of one or more slices"
            )

    def __repr__(self) -> str:
        memory = self.memory
        extent = f"{self.width}x{self.height}" + (f"x{memory.slices}" if memory.sliced else "")
        levels = f" of {self.mip_levels} levels" if self.mip_levels > 1 else ""
        return self._line(named("texture", self.label), f"of {extent} {self.format.name}{levels}")


@presents(protocols.ShapedTexture, array=READ)
class TextureView(DeviceTexture):
    """A part of a texture, which is closed when that is, and gives no memory back."""

    def __init__(self, whole: DeviceTexture, memory: TextureMemory) -> None:
        self._whole, self._open = whole, True
        owned = whole.owned
        if owned is None:
            whole.check()
            raise AssertionError("a closed texture")  # check has raised
        super().__init__(whole.owner, whole._allocator, owned, memory, whole.label, copies=whole.copies)

    @property
    def owned(self) -> Owned | None:
        return self._whole.owned if self._open else None

    @owned.setter
    def owned(self, owned: Owned | None) -> None:
        self._open = self._open and owned is not None

    @property
    def mip_levels(self) -> int:
        return 1

    def view(self, *, level: int = 0, layer: int | None = None, aspect: str = "all") -> TextureView:
        self.check()
        raise UsageError("this is a part of a texture already; take the part that you want of all of it")

    def close(self) -> None:
        self._open = False
