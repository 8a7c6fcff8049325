"""wgpu-py by its own means, on a device of its own of the same adapter."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forge3d_conformance.kernels import INCREMENT
from forge3d_conformance.speed.contestant import Runner, unknown
from forge3d_core.protocols import Device

WORD = 16


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
            "dispatch": self._dispatch,
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

    def _dispatch(self, _nbytes: int) -> Runner:
        module = self._device.create_shader_module(code=INCREMENT.sources["wgsl"])
        pipeline = self._device.create_compute_pipeline(
            layout="auto", compute={"module": module, "entry_point": INCREMENT.name}
        )
        usage = self._wgpu.BufferUsage
        data = self._storage(4096)
        params = self._device.create_buffer(size=8, usage=usage.UNIFORM | usage.COPY_DST)
        self._queue.write_buffer(params, 0, np.array([1, 256], np.uint32))
        entries = [
            {"binding": place, "resource": {"buffer": buffer, "offset": 0, "size": buffer.size}}
            for place, buffer in enumerate((data, params))
        ]
        group = self._device.create_bind_group(layout=pipeline.get_bind_group_layout(0), entries=entries)

        def call() -> None:
            encoder = self._device.create_command_encoder()
            compute = encoder.begin_compute_pass()
            compute.set_pipeline(pipeline)
            compute.set_bind_group(0, group)
            compute.dispatch_workgroups(4)
            compute.end()
            self._queue.submit([encoder.finish()])

        return Runner(call, self._idle)

    def _write_buffer(self, nbytes: int) -> Runner:
        target, data = self._storage(nbytes), _data(nbytes)

        def call() -> None:
            self._queue.write_buffer(target, 0, data)
            self._idle()

        return Runner(call, close=target.destroy)

    def _read_buffer(self, nbytes: int) -> Runner:
        source = self._storage(nbytes)
        return Runner(lambda: self._queue.read_buffer(source), close=source.destroy)

    def _staged_up(self, nbytes: int) -> Runner:
        """What is in mapped memory already, to the device and the memory back."""
        usage = self._wgpu.BufferUsage
        target = self._storage(nbytes)
        staging = self._device.create_buffer(
            size=nbytes, usage=usage.MAP_WRITE | usage.COPY_SRC, mapped_at_creation=True
        )

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


def _data(nbytes: int) -> NDArray[np.uint8]:
    return np.random.default_rng(7).integers(0, 256, nbytes, dtype=np.uint8)


def make(device: Device) -> WgpuPy:
    return WgpuPy(device.native.adapter)
