"""Lists that are submitted many times, on a device: what a graph runs is what plain calls run."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from forge3d_core.driver import Copy, Dispatch, Fill, PreparedCommands
from forge3d_core.protocols import Binding, KernelSource, Param

if TYPE_CHECKING:
    from conftest import Bench, CallGuard, Region

ADD = KernelSource(
    "add",
    {
        "cuda": 'extern "C" __global__ void add(const unsigned* a, unsigned* b, unsigned n, int c)'
        "{ unsigned i = blockIdx.x * blockDim.x + threadIdx.x; if (i < n) b[i] += a[i] + c; }"
    },
    [Binding("a", "read", "u4"), Binding("b", "readwrite", "u4")],
    [Param("n", "u4"), Param("c", "i4")],
    (64, 1, 1),
)
COUNT = 100


def frame(bench: Bench) -> tuple[PreparedCommands, Region, Region]:
    """Return a list that adds its input twice and 7 and 5 to 0x01010101, and what it works on."""
    source, scratch, target = (bench.buffer(4 * COUNT) for _ in range(3))
    program = bench.program(ADD)
    commands = PreparedCommands(
        [
            Fill(scratch, 0, 4 * COUNT, 1),
            Dispatch(program, (source, scratch), (COUNT, 7), (COUNT, 1, 1)),
            Dispatch(program, (source, scratch), (COUNT, 5), (COUNT, 1, 1)),
            Copy(scratch, 0, target, 0, 4 * COUNT),
        ]
    )
    return commands, source, target


def expected(values: NDArray[np.uint32]) -> NDArray[np.uint32]:
    return 2 * values + np.uint32(0x01010101 + 12)


def test_every_submission_works_on_what_is_there_then(bench: Bench) -> None:
    commands, source, target = frame(bench)
    for turn, lane in enumerate(("compute", "compute", "upload", "compute", "download")):
        values = np.arange(COUNT, dtype=np.uint32) * (turn + 1)
        bench.write(source, values.tobytes())
        token = bench.driver.submit(lane, commands, ())
        bench.finish(token)
        bench.driver.retire(token)
        assert (commands.translation.graph is None) == (turn == 0)
        got = np.frombuffer(bench.read(target), np.uint32)
        np.testing.assert_array_equal(got, expected(values))


def test_a_graph_waits_for_its_lane_and_outlives_its_list(bench: Bench, gate: CallGuard) -> None:
    commands, source, target = frame(bench)
    bench.write(source, np.full(COUNT, 3, np.uint32).tobytes())
    for _ in range(2):
        token = bench.driver.submit("compute", commands, ())
        bench.finish(token)
        bench.driver.retire(token)
    assert commands.translation.graph is not None
    bench.run(Fill(target, 0, 4 * COUNT, 0))
    held = gate.hold("compute")
    first, second = (bench.driver.submit("compute", commands, ()) for _ in range(2))
    elsewhere = bench.driver.submit("upload", commands, [second])
    kept = [*commands]  # the memory, which the core keeps while it is used
    commands.translation = None
    del commands
    gc.collect()
    assert not any(map(bench.driver.query, (held, first, second, elsewhere)))
    gate.open()
    for token in (first, second, elsewhere):
        bench.finish(token)
        bench.driver.retire(token)
    got = np.frombuffer(bench.read(target), np.uint32)
    np.testing.assert_array_equal(got, expected(np.full(COUNT, 3, np.uint32)))
    assert len(kept) == 4
