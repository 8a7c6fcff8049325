"""wgpu-py by its own means, on a device of its own of the same adapter."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from forge3d_conformance.speed.contestant import Runner, unknown
from forge3d_conformance.speed.payload import payload
from forge3d_conformance.speed.peers.wgpu_demo import WgpuDemo
from forge3d_conformance.speed.peers.wgpu_frames import DEPTH, FRAMES, Dispatch, Place
from forge3d_conformance.speed.terrain import blank, check, hills
from forge3d_core.demo import bands
from forge3d_core.protocols import Device

WORD = 16
LIST_LENGTH = 256


class WgpuPy:
    name = "wgpu-py"

    def __init__(self, adapter: Any) -> None:
        self._wgpu: Any = import_module("wgpu")
        limit = adapter.limits["max-buffer-size"]
        self._device = adapter.request_device_sync(required_limits={"max-buffer-size": limit})
        self._queue = self._device.queue
        usage = self._wgpu.BufferUsage
        self._sentinel = self._device.create_buffer(size=WORD, usage=usage.MAP_READ | usage.COPY_DST)
        self._word = self._device.create_buffer(size=WORD, usage=usage.COPY_SRC | usage.COPY_DST)
        self._makers: dict[str, Callable[[int], Runner]] = {
            "dispatch": lambda nbytes: self._dispatch(1),
            "dispatch-list": lambda nbytes: self._dispatch(LIST_LENGTH),
            "submit-poll": self._submit_poll,
            "unmap-copy-submit": self._unmap_copy_submit,
            "frames": self._frames,
            "demo": self._demo,
            "write-buffer": self._write_buffer,
            "read-buffer": self._read_buffer,
            "staged-up": self._staged_up,
            "staged-down": self._staged_down,
            "read-texture": self._read_texture,
        }

    def runner(self, operation: str, nbytes: int) -> Runner:
        if operation not in self._makers:
            raise unknown(self.name, operation)
        return self._makers[operation](nbytes)

    def close(self) -> None:
        self._device.destroy()

    def _idle(self) -> None:
        """Wait for the queue by the map of a sentinel; wgpu-py 0.32's own work-done future is broken."""
        encoder = self._device.create_command_encoder()
        encoder.copy_buffer_to_buffer(self._word, 0, self._sentinel, 0, WORD)
        self._queue.submit([encoder.finish()])
        self._sentinel.map_async("READ_NOSYNC").sync_wait()
        self._sentinel.unmap()

    def _storage(self, nbytes: int) -> Any:
        usage = self._wgpu.BufferUsage
        return self._device.create_buffer(size=nbytes, usage=usage.STORAGE | usage.COPY_DST | usage.COPY_SRC)

    def _dispatch(self, length: int) -> Runner:
        """A pass of so many dispatches in an encoder of its own, submitted."""
        dispatch = Dispatch(self._wgpu, self._device, self._storage(4096), 256)

        def call() -> None:
            encoder = self._device.create_command_encoder()
            dispatch.record(encoder, length)
            self._queue.submit([encoder.finish()])

        return Runner(call, self._idle, length)

    def _submit_poll(self, _nbytes: int) -> Runner:
        def call() -> None:
            self._queue.submit([])
            self._device._poll()  # wgpu-py has no public name for it

        return Runner(call, self._idle)

    def _unmap_copy_submit(self, nbytes: int) -> Runner:
        """The caller's time for what is in mapped memory; that it is mapped again is waited for untimed."""
        target, staging = self._storage(nbytes), self._mapped(nbytes)

        def call() -> None:
            staging.unmap()
            encoder = self._device.create_command_encoder()
            encoder.copy_buffer_to_buffer(staging, 0, target, 0, nbytes)
            self._queue.submit([encoder.finish()])

        return Runner(call, lambda: staging.map_async("WRITE").sync_wait(), close=target.destroy, at_once=1)

    def _frames(self, nbytes: int) -> Runner:
        """Mapped memory up, a kernel, mapped memory down; three frames under way at once."""
        places = [self._place(nbytes) for _ in range(DEPTH)]

        def call() -> None:
            for number in range(FRAMES):
                place = places[number % DEPTH]
                if number >= DEPTH:
                    place.land()
                place.begin(self._device, self._queue, nbytes)
            for place in places:
                place.land()

        return Runner(call, operations=FRAMES)

    def _demo(self, nbytes: int) -> Runner:
        terrain = hills(nbytes)
        plan, picture = list(bands(terrain)), blank(terrain)
        demo = WgpuDemo(self._wgpu, self._device, terrain, plan)
        demo.run(picture)
        check(plan, terrain, picture)
        return Runner(lambda: demo.run(picture), close=demo.close)

    def _place(self, nbytes: int) -> Place:
        usage, memory = self._wgpu.BufferUsage, self._storage(nbytes)
        landing = self._device.create_buffer(size=nbytes, usage=usage.MAP_READ | usage.COPY_DST)
        dispatch = Dispatch(self._wgpu, self._device, memory, nbytes // 4)
        return Place(memory, self._mapped(nbytes), landing, dispatch)

    def _mapped(self, nbytes: int) -> Any:
        usage = self._wgpu.BufferUsage
        return self._device.create_buffer(
            size=nbytes, usage=usage.MAP_WRITE | usage.COPY_SRC, mapped_at_creation=True
        )

    def _write_buffer(self, nbytes: int) -> Runner:
        target, data = self._storage(nbytes), payload(nbytes)

        def call() -> None:
            self._queue.write_buffer(target, 0, data)
            self._idle()

        return Runner(call, close=target.destroy)

    def _read_buffer(self, nbytes: int) -> Runner:
        source = self._storage(nbytes)
        return Runner(lambda: self._queue.read_buffer(source), close=source.destroy)

    def _staged_up(self, nbytes: int) -> Runner:
        """What is in mapped memory already, to the device and the memory back."""
        target, staging = self._storage(nbytes), self._mapped(nbytes)

        def call() -> None:
            staging.unmap()
            encoder = self._device.create_command_encoder()
            encoder.copy_buffer_to_buffer(staging, 0, target, 0, nbytes)
            self._queue.submit([encoder.finish()])
            staging.map_async("WRITE").sync_wait()

        return Runner(call, close=target.destroy)

    def _staged_down(self, nbytes: int) -> Runner:
        """From the device to mapped memory, and no further."""
        usage = self._wgpu.BufferUsage
        source = self._storage(nbytes)
        landing = self._device.create_buffer(size=nbytes, usage=usage.MAP_READ | usage.COPY_DST)

        def call() -> None:
            encoder = self._device.create_command_encoder()
            encoder.copy_buffer_to_buffer(source, 0, landing, 0, nbytes)
            self._queue.submit([encoder.finish()])
            landing.map_async("READ_NOSYNC").sync_wait()
            landing.unmap()

        return Runner(call, close=source.destroy)

    def _read_texture(self, nbytes: int) -> Runner:
        width, height = 1001, nbytes // 4004
        usage = self._wgpu.TextureUsage
        texture = self._device.create_texture(
            size=(width, height, 1), format="rgba8unorm", usage=usage.COPY_SRC | usage.COPY_DST
        )
        place = {"texture": texture, "mip_level": 0, "origin": (0, 0, 0)}
        layout = {"offset": 0, "bytes_per_row": width * 4, "rows_per_image": height}
        size = (width, height, 1)
        return Runner(lambda: self._queue.read_texture(place, layout, size), close=texture.destroy)


def make(device: Device) -> WgpuPy:
    return WgpuPy(device.native.adapter)
