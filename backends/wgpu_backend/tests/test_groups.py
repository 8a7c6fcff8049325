"""Bind groups: they serve again, and keep no memory that is freed or its owner's."""

from __future__ import annotations

from collections import Counter
from typing import Any

from forge3d_core.driver import Fill


def test_a_bind_group_serves_again_and_goes_with_its_memory(native_calls: Counter[str], counted: Any) -> None:
    rig, commands = counted, counted.commands()
    first, second = rig.buffer(64), rig.buffer(64)
    for memory in (first, second, first, second):
        rig.run(Fill(memory, 0, 64, 3))
    native_calls.clear()
    rig.run(Fill(first, 0, 64, 4), Fill(second, 1, 3, 4), commands.add(1))
    rig.run(Fill(first, 7, 5, 4))
    assert native_calls["wgpuDeviceCreateBindGroup"] <= 1  # of the kernel, which is new
    native_calls.clear()
    rig.driver.free(first.native)
    assert native_calls["wgpuBufferRelease"] == 1
    kept = rig.driver._groups._kept
    assert kept
    assert not any(first.native is part.buffer for key in kept for part in key[1:])


def test_no_bind_group_keeps_memory_that_was_adopted(rig: Any) -> None:
    import wgpu

    usage = wgpu.BufferUsage.STORAGE | wgpu.BufferUsage.COPY_SRC | wgpu.BufferUsage.COPY_DST
    mine = rig.driver.native.create_buffer(size=64, usage=usage)
    memory = type(rig.buffer(4))(rig.driver.adopt(mine)[0], 64)
    rig.run(Fill(memory, 0, 64, 3))
    rig.run(Fill(memory, 0, 64, 4))
    assert (rig.read(memory) == 4).all()
    assert not rig.driver._groups._kept
