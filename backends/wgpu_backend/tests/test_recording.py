"""Recordings: a list that comes many times is translated once, and keeps no memory that is freed."""

from __future__ import annotations

from collections import Counter
from typing import Any

from forge3d_core.driver import Fill, PreparedCommands


def test_a_list_that_comes_many_times_is_translated_once(
    native_calls: Counter[str], counted: Any, python_calls: Any
) -> None:
    rig, commands = counted, counted.commands()
    frame = PreparedCommands([commands.add(1), commands.add(2)])
    other = [commands.add(3)]
    rig.finish(rig.driver.submit("compute", frame, ()))
    translation = frame.translation
    rig.finish(rig.driver.submit("compute", frame, ()))  # the parameters of `other` do not displace its own
    for _ in range(3):
        native_calls.clear()
        token, calls = python_calls(lambda: rig.driver.submit("compute", frame, ()))
        rig.finish(token)
        assert native_calls["wgpuQueueWriteBuffer"] == native_calls["wgpuDeviceCreateBindGroup"] == 0
        assert calls <= 60  # each native call counts as one here
        rig.run(*other)
    assert frame.translation is translation
    value = 0
    for step in [1, 2, 1, 2, *[1, 2, 3] * 3]:
        value = (value * 3 + step) % 2**32
    assert rig.read(commands.data).view("u4")[:16].tolist() == [value] * 16


def test_a_prepared_list_lets_go_of_memory_that_is_freed(rig: Any) -> None:
    import wgpu

    def buffers() -> int:
        count: int = wgpu.diagnostics.wgpu_native_counts.get_dict()["Buffer"]["count"]
        return count

    commands, other = rig.commands(), rig.buffer(64)
    frame = PreparedCommands([commands.add(1), Fill(other, 0, 64, 3)])
    rig.finish(rig.driver.submit("compute", frame, ()))
    assert not frame.translation.dropped
    before = buffers()
    rig.driver.free(other.native)
    assert frame.translation.dropped
    rig.run(Fill(commands.data, 0, 64, 0))  # wgpu frees behind the next submission
    assert buffers() < before
