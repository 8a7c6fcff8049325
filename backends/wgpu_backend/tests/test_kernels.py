"""WGSL kernels: parameters, groups, and errors that say where."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from forge3d_core.driver import Dispatch, Upload
from forge3d_core.errors import KernelError
from forge3d_core.protocols import Binding, KernelSource, Param

SCALE = """
struct Params { count: u32, offset: i32, factor: f32 }
@group(0) @binding(0) var<storage, read> source: array<f32>;
@group(0) @binding(1) var<storage, read_write> result: array<f32>;
@group(0) @binding(2) var<uniform> p: Params;
@compute @workgroup_size(64)
fn scale(@builtin(global_invocation_id) id: vec3<u32>) {
    if (id.x < p.count) { result[id.x] = source[id.x] * p.factor + f32(p.offset); }
}
"""
BINDINGS = (Binding("source", "read", "f4"), Binding("result", "readwrite", "f4"))
PARAMS = (Param("count", "u4"), Param("offset", "i4"), Param("factor", "f4"))

TWICE = """
@group(0) @binding(0) var<storage, read_write> data: array<u32>;
@compute @workgroup_size(64)
fn twice(@builtin(global_invocation_id) id: vec3<u32>) { data[id.x] = data[id.x] * 2u + 1u; }
"""


def test_every_dispatch_of_a_submission_has_its_own_params(rig: Any) -> None:
    kernel = rig.kernel("scale", SCALE, *BINDINGS, *PARAMS)
    count = 100
    source = rig.buffer(4 * count)
    rig.write(source, np.arange(count, dtype=np.float32))
    results = [rig.buffer(4 * count) for _ in range(70)]  # more than one uniform buffer holds
    rig.run(
        *(
            Dispatch(kernel, (source, result), (count - i, -i, i / 2), (count, 1, 1))
            for i, result in enumerate(results)
        )
    )
    for i, result in enumerate(results):
        expected = np.arange(count, dtype=np.float32) * np.float32(i / 2) - i
        expected[count - i :] = 0
        np.testing.assert_array_equal(rig.read(result).view(np.float32), expected)


def test_params_of_submissions_in_flight_are_not_overwritten(rig: Any) -> None:
    kernel = rig.kernel("scale", SCALE, *BINDINGS, *PARAMS)
    source, results = rig.buffer(256), [rig.buffer(256) for _ in range(8)]
    tokens = [rig.submit(rig.long_work())]
    tokens += [
        rig.submit(Dispatch(kernel, (source, result), (64, i, 1.0), (64, 1, 1)))
        for i, result in enumerate(results)
    ]
    for token in tokens:
        rig.finish(token)
    for i, result in enumerate(results):
        np.testing.assert_array_equal(rig.read(result).view(np.float32), np.full(64, i, np.float32))


def test_uniform_buffers_are_reused(rig: Any) -> None:
    kernel = rig.kernel("scale", SCALE, *BINDINGS, *PARAMS)
    source, result = rig.buffer(4), rig.buffer(4)
    for _ in range(5):
        rig.run(Dispatch(kernel, (source, result), (1, 1, 1.0), (1, 1, 1)))
    assert len(rig.driver._arenas.made) == 1


def test_threads_round_up_to_whole_groups(rig: Any) -> None:
    kernel = rig.kernel("twice", TWICE, Binding("data", "readwrite", "u4"))
    data = rig.buffer(4 * 128)
    rig.run(Dispatch(kernel, (data,), (), (65, 1, 1)))
    np.testing.assert_array_equal(rig.read(data).view(np.uint32), np.ones(128, np.uint32))


def test_dispatches_see_each_others_writes(rig: Any) -> None:
    kernel = rig.kernel("twice", TWICE, Binding("data", "readwrite", "u4"))
    data = rig.buffer(256)
    rig.run(*[Dispatch(kernel, (data,), (), (64, 1, 1))] * 5)
    np.testing.assert_array_equal(rig.read(data).view(np.uint32), np.full(64, 31, np.uint32))


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (TWICE.replace("2u", "2.0f"), r"wgsl:4:\d+"),
        (TWICE.replace("data[id.x] *", "nothing *"), "nothing"),
        (TWICE.replace("fn twice", "fn thrice"), "entry point 'twice'"),
        (TWICE.replace("@binding(0)", "@binding(5)"), "binding"),
        (TWICE.replace("(64)", "(128)"), "workgroup"),
        ("\n#version 450\nvoid main() {}", "GLSL; this device speaks wgsl"),
        ("", "entry point 'twice'"),
    ],
)
def test_what_does_not_compile_says_where(rig: Any, code: str, says: str) -> None:
    with pytest.raises(KernelError, match=says):
        rig.kernel("twice", code, Binding("data", "readwrite", "u4"))


def test_a_write_to_a_binding_declared_read_is_refused(rig: Any) -> None:
    with pytest.raises(KernelError, match="binding"):
        rig.kernel("twice", TWICE, Binding("data", "read", "u4"))


def test_a_source_without_wgsl_names_the_languages(rig: Any) -> None:
    with pytest.raises(KernelError, match=r"cuda.*wgsl"):
        rig.driver.compile(KernelSource("k", {"cuda": "..."}))
    with pytest.raises(KernelError, match=r"'wgsl' source, as text"):
        rig.driver.compile(KernelSource("k", {"wgsl": print}))


def test_one_buffer_read_and_written_in_one_dispatch_is_refused(rig: Any) -> None:
    kernel = rig.kernel("scale", SCALE, *BINDINGS, *PARAMS)
    memory = rig.buffer(64)
    with pytest.raises(KernelError, match=r"'source'.*'result'"):
        rig.submit(Dispatch(kernel, (memory, memory), (1, 1, 1.0), (1, 1, 1)))


def test_too_many_groups_name_the_limit(rig: Any) -> None:
    kernel = rig.kernel("twice", TWICE, Binding("data", "readwrite", "u4"))
    most = rig.driver.info.limits.max_groups[0]
    with pytest.raises(KernelError, match=str(most)):
        rig.submit(Dispatch(kernel, (rig.buffer(4),), (), (64 * most + 1, 1, 1)))


def test_a_buffer_beyond_the_binding_limit_names_it(rig: Any) -> None:
    most = rig.driver.native.limits["max-storage-buffer-binding-size"]
    if most >= rig.driver.info.limits.max_buffer_size:
        pytest.skip("this adapter binds buffers of any size that it can allocate")
    kernel = rig.kernel("twice", TWICE, Binding("data", "readwrite", "u4"))
    with pytest.raises(KernelError, match="max-storage-buffer-binding-size"):
        rig.submit(Dispatch(kernel, (rig.buffer(most + 4),), (), (64, 1, 1)))


def test_a_refused_submission_changes_nothing(rig: Any) -> None:
    kernel = rig.kernel("scale", SCALE, *BINDINGS, *PARAMS)
    memory, block = rig.buffer(64), rig.block(np.full(64, 7, np.uint8))
    upload = Upload(block, 0, memory, 0, 64)
    with pytest.raises(KernelError):
        rig.submit(upload, Dispatch(kernel, (memory, memory), (1, 1, 1.0), (1, 1, 1)))
    assert not rig.read(memory).any()
    block.view()[:] = 9
    rig.run(upload)
    np.testing.assert_array_equal(rig.read(memory), np.full(64, 9, np.uint8))
