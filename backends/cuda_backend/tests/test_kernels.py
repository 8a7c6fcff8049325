"""Kernels on a device: arguments, grids, compiler errors, first launches beside running work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from forge3d_core.driver import Dispatch
from forge3d_core.errors import KernelError
from forge3d_core.protocols import Binding, KernelSource, Param

if TYPE_CHECKING:
    from conftest import Bench, CallGuard

SCALE = """
extern "C" __global__ void scale(
    const float* source, float* target, unsigned int count, int shift, float factor) {
    unsigned int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) target[i] = source[i] * factor + shift;
}
"""
MARK = """
extern "C" __global__ void mark(unsigned int* out) {
    unsigned int x = blockIdx.x * blockDim.x + threadIdx.x;
    unsigned int y = blockIdx.y * blockDim.y + threadIdx.y;
    unsigned int z = blockIdx.z * blockDim.z + threadIdx.z;
    if (x < 5 && y < 3 && z < 2) out[(z * 3 + y) * 5 + x] = x + 10 * y + 100 * z;
}
"""


def scale() -> KernelSource:
    bindings = [Binding("source", "read", "f4"), Binding("target", "write", "f4")]
    params = [Param("count", "u4"), Param("shift", "i4"), Param("factor", "f4")]
    return KernelSource("scale", {"cuda": SCALE}, bindings, params, (128, 1, 1))


def broken(name: str, code: str, **fields: Any) -> KernelSource:
    return KernelSource(name, {"cuda": code}, **fields)


@pytest.mark.parametrize("count", [1, 127, 128, 100_001])
def test_buffers_and_scalars_arrive(bench: Bench, count: int) -> None:
    values = np.arange(count, dtype=np.float32)
    source, target = bench.buffer(values.nbytes), bench.buffer(values.nbytes + 4)
    bench.write(source, values.tobytes())
    bench.run(Dispatch(bench.program(scale()), (source, target), (count, -3, 0.5), (count, 1, 1)))
    got = np.frombuffer(bench.read(target), np.float32)
    np.testing.assert_array_equal(got[:-1], values * np.float32(0.5) - 3)
    assert got[-1] == 0


def test_scalars_at_their_limits(bench: Bench) -> None:
    code = (
        'extern "C" __global__ void keep(unsigned int* o, unsigned int u, int i, float f)'
        "{ o[0] = u; o[1] = (unsigned int) i; o[2] = __float_as_uint(f); }"
    )
    params = [Param("u", "u4"), Param("i", "i4"), Param("f", "f4")]
    program = bench.program(KernelSource("keep", {"cuda": code}, [Binding("o", "write", "u4")], params))
    out = bench.buffer(12)
    bench.run(Dispatch(program, (out,), (2**32 - 1, -(2**31), 1.5), (1, 1, 1)))
    words = np.frombuffer(bench.read(out), np.uint32)
    assert words.tolist() == [2**32 - 1, 2**31, int(np.float32(1.5).view(np.uint32))]


def test_three_dimensions(bench: Bench) -> None:
    source = KernelSource("mark", {"cuda": MARK}, [Binding("out", "write", "u4")], (), (4, 2, 1))
    out = bench.buffer(30 * 4)
    bench.run(Dispatch(bench.program(source), (out,), (), (5, 3, 2)))
    z, y, x = np.indices((2, 3, 5))
    np.testing.assert_array_equal(
        np.frombuffer(bench.read(out), np.uint32), (x + 10 * y + 100 * z).ravel().astype(np.uint32)
    )


def test_a_compiler_error_says_where(bench: Bench) -> None:
    code = '\n\nextern "C" __global__ void bad(float* a) {\n  a[0] = nowhere;\n}\n'
    with pytest.raises(KernelError, match=r'bad\(4\): error: identifier "nowhere" is undefined'):
        bench.program(broken("bad", code))


def test_a_missing_entry_point_is_named(bench: Bench) -> None:
    with pytest.raises(KernelError, match=r"no such entry point; declare extern .* void absent"):
        bench.program(broken("absent", 'extern "C" __global__ void present() {}'))


def test_a_workgroup_that_cannot_be_launched_is_refused_when_compiled(bench: Bench) -> None:
    with pytest.raises(KernelError, match="make it smaller"):
        bench.program(broken("idle", 'extern "C" __global__ void idle() {}', workgroup=(1024, 2, 1)))


def test_another_language_is_named(bench: Bench) -> None:
    with pytest.raises(KernelError, match="has sources for wgsl and this device speaks cuda"):
        bench.program(KernelSource("other", {"wgsl": "@compute"}))


def test_too_many_workgroups_are_refused_before_anything_runs(bench: Bench) -> None:
    program = bench.program(broken("idle", 'extern "C" __global__ void idle() {}', workgroup=(1, 1, 1)))
    with pytest.raises(KernelError, match="use larger workgroups"):
        bench.driver.submit("compute", [Dispatch(program, (), (), (1, 65536, 1))], ())
    bench.run(Dispatch(program, (), (), (1, 65535, 1)))


def test_a_misaligned_adopted_array_is_refused_and_the_device_lives(cupy: Any, bench: Bench) -> None:
    native, nbytes = bench.driver.adopt(cupy.zeros(65, np.uint8)[1:])
    region, program = bench.region(native, nbytes), bench.program(scale())
    with pytest.raises(KernelError, match="aligned"):
        bench.driver.submit("compute", [Dispatch(program, (region, region), (1, 0, 1.0), (1, 1, 1))], ())
    bench.run()


def test_a_first_launch_does_not_wait_for_running_kernels(bench: Bench, gate: CallGuard) -> None:
    source, target = bench.buffer(4), bench.buffer(4)
    program = bench.program(scale())
    held = gate.hold("upload")
    bench.run(Dispatch(program, (source, target), (1, 7, 1.0), (1, 1, 1)))
    assert np.frombuffer(bench.read(target), np.float32) == 7
    assert not bench.driver.query(held)
