"""What the subject says of wgpu's memory."""

from __future__ import annotations

import gc

from forge3d_core.units import MIB
from forge3d_wgpu.plugin import WgpuBackend
from forge3d_wgpu.subject import WgpuSubject


def test_memory_in_use_rises_with_a_buffer_and_falls_with_its_device(backend: WgpuBackend) -> None:
    subject = WgpuSubject()
    gc.collect()
    before = subject.memory_in_use()
    with backend.open() as device:
        made = [device.create_buffer(4 * MIB), device.create_texture(512, 512)]
        held = subject.memory_in_use() - before
        assert 5 * MIB <= held <= 6 * MIB
    del made, device
    gc.collect()
    assert subject.memory_in_use() <= before
