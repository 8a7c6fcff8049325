"""By hand on wgpu-py: frames that go up, through a kernel and home, in one command buffer each."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np

from forge3d_conformance.kernels import INCREMENT

FRAMES = 12
DEPTH = 3
GROUP = 64
WIDEST = 65535  # workgroups along one side


class Dispatch:
    """The suite's kernel over the first ``words`` of a buffer, with everything made beforehand."""

    def __init__(self, wgpu: Any, device: Any, memory: Any, words: int) -> None:
        module = device.create_shader_module(code=INCREMENT.sources["wgsl"])
        self._pipeline = device.create_compute_pipeline(
            layout="auto", compute={"module": module, "entry_point": INCREMENT.name}
        )
        usage = wgpu.BufferUsage
        params = device.create_buffer(size=8, usage=usage.UNIFORM | usage.COPY_DST)
        device.queue.write_buffer(params, 0, np.array([1, words], np.uint32))
        entries = [
            {"binding": place, "resource": {"buffer": buffer, "offset": 0, "size": buffer.size}}
            for place, buffer in enumerate((memory, params))
        ]
        layout = self._pipeline.get_bind_group_layout(0)
        self._group = device.create_bind_group(layout=layout, entries=entries)
        self._groups = min(WIDEST, -(-words // GROUP))

    def record(self, encoder: Any, times: int = 1) -> None:
        compute = encoder.begin_compute_pass()
        compute.set_pipeline(self._pipeline)
        compute.set_bind_group(0, self._group)
        for _ in range(times):
            compute.dispatch_workgroups(self._groups)
        compute.end()


@attrs.define(eq=False)
class Place:
    """What one of the frames under way has for itself."""

    memory: Any
    staging: Any
    landing: Any
    dispatch: Dispatch
    _maps: tuple[Any, ...] = ()

    def begin(self, device: Any, queue: Any, nbytes: int) -> None:
        self.staging.unmap()
        encoder = device.create_command_encoder()
        encoder.copy_buffer_to_buffer(self.staging, 0, self.memory, 0, nbytes)
        self.dispatch.record(encoder)
        encoder.copy_buffer_to_buffer(self.memory, 0, self.landing, 0, nbytes)
        queue.submit([encoder.finish()])
        self._maps = (self.staging.map_async("WRITE"), self.landing.map_async("READ_NOSYNC"))

    def land(self) -> None:
        for mapping in self._maps:
            mapping.sync_wait()
        self.landing.unmap()
