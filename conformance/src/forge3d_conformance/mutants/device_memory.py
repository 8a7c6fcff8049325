"""Devices whose memory is not as fresh, or not as much the owner's, as it should be."""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np

from forge3d_conformance.mutants.registry import mutant
from forge3d_conformance.mutants.wrap import Layer


def soil(device: Any, buffer: Any, offset: int = 0) -> None:
    """Leave somebody's old bytes in a buffer."""
    device.submit(device.command_list().fill(buffer, 0xEE, offset=offset)).wait(5)


@mutant("device.memory-recycled-as-it-is", breaks="device.zeroed", because="a fresh buffer")
class MemoryRecycledAsItIs(Layer):
    """Memory given back is given out again with the old bytes in it."""

    class Device(Layer.Device):
        made = 0

        def create_buffer(self, nbytes: Any, *, label: str = "") -> Any:
            buffer = self.real.create_buffer(nbytes, label=label)
            self.made += 1
            if self.made > 8:  # the first ones come fresh from the driver
                soil(self.target, buffer.target)
            return buffer


@mutant(
    "device.collected-memory-is-dirty",
    breaks="device.zeroed",
    because="fresh bytes after others were dropped",
)
class CollectedMemoryIsDirty(Layer):
    """Memory of a buffer that was dropped, not closed, is given out again with the old bytes in it."""

    def __init__(self) -> None:
        super().__init__()
        self.dropped: list[int] = []

    class Device(Layer.Device):
        def create_buffer(self, nbytes: Any, *, label: str = "") -> Any:
            buffer = self.real.create_buffer(nbytes, label=label)
            dropped = self.layer.dropped  # type: ignore[attr-defined]
            if nbytes in dropped:
                dropped.remove(nbytes)
                soil(self.target, buffer.target)
            return buffer

    class Buffer(Layer.Buffer):
        def __init__(self, layer: Layer, target: Any) -> None:
            super().__init__(layer, target)
            self.drop = weakref.finalize(self, layer.dropped.append, target.nbytes)  # type: ignore[attr-defined]

        def close(self) -> None:
            self.drop.detach()
            self.target.close()

        def __exit__(self, *exc_info: object) -> None:
            self.close()


@mutant("device.last-bytes-not-zeroed", breaks="device.zeroed", because="a fresh buffer of (3|1021) bytes")
class LastBytesNotZeroed(Layer):
    """Zeroing stops at the last whole word."""

    class Device(Layer.Device):
        def create_buffer(self, nbytes: Any, *, label: str = "") -> Any:
            buffer = self.real.create_buffer(nbytes, label=label)
            if buffer.nbytes > 1 and buffer.nbytes % 4:
                soil(self.target, buffer.target, buffer.nbytes // 4 * 4)
            return buffer


@mutant(
    "device.texture-not-zeroed", breaks="device.zeroed", because="a fresh texture", requires=("textures",)
)
class TextureNotZeroed(Layer):
    """Textures come as the driver gives them."""

    class Device(Layer.Device):
        def create_texture(self, width: int, height: int, *args: Any, **kwargs: Any) -> Any:
            texture = self.real.create_texture(width, height, *args, **kwargs)
            if not args and not kwargs:
                with self.target.staging_ring(ring_count=1, buffer_size=1 << 16) as ring:
                    ring.upload(np.full((height, width, 4), 0xEE, np.uint8), texture.target).wait(5)
            return texture


@mutant("device.zeroed-too-late", breaks="device.zeroed", because="as soon as made")
class ZeroedTooLate(Layer):
    """Fresh memory is zeroed on the compute lane, and the first upload does not wait for that."""

    class Ring(Layer.Ring):
        def upload(self, data: Any, target: Any, *args: Any, **kwargs: Any) -> Any:
            point = self.real.upload(data, target, *args, **kwargs)
            if hasattr(target.target, "width"):
                return point
            device = self.layer.lasting("Device")[0].target
            device.submit(device.command_list().fill(target.target, 0)).wait(5)
            return point


@mutant("device.adopt-copies", breaks="device.adopt", because="the native memory after an upload")
class AdoptCopies(Layer):
    """Adopting makes memory of our own with the same bytes."""

    class Device(Layer.Device):
        def adopt(self, native: Any, *, label: str = "") -> Any:
            theirs = self.target.adopt(native, label=label)
            ours = self.real.create_buffer(theirs.nbytes)
            self.target.submit(self.target.command_list().copy(theirs, ours.target)).wait(5)
            return ours


@mutant("device.adopt-closes-the-owner", breaks="device.adopt", because="does not work after its wrapper")
class AdoptClosesTheOwner(Layer):
    """Closing an adopted device closes the native one under its owner's hands."""

    class Backend(Layer.Backend):
        def adopt(self, native: Any, *args: Any) -> Any:
            device = self.real.adopt(native, *args)
            device.adopted = True
            return device

    class Device(Layer.Device):
        adopted = False

        def close(self) -> None:
            self.target.close()
            if self.adopted:
                for other in self.layer.lasting("Device"):
                    other.target.close()

        def __exit__(self, *exc_info: object) -> None:
            self.close()


@mutant("device.adopt-takes-anything", breaks="device.adopt", because="nothing was raised")
class AdoptTakesAnything(Layer):
    """What is no memory of the device is taken for some."""

    class Device(Layer.Device):
        def adopt(self, native: Any, *, label: str = "") -> Any:
            if isinstance(native, (str, int)) or native is None or type(native) is object:
                return self.real.create_buffer(16, label=label)
            return self.real.adopt(native, label=label)
