"""Leaks: of a device that works on and on, and of devices that were lost or closed over unfinished work."""

from __future__ import annotations

import pytest

from forge3d_conformance.bench import Bench
from forge3d_conformance.clauses.counts import COUNTED, MEASURED
from forge3d_conformance.clauses.test_device_process import told

STEADY = """
import json, threading
import numpy as np
from forge3d_conformance.child import bench
from forge3d_conformance.clauses.counts import count, settled
from forge3d_core.errors import FenceTimeout

SIZE = 1 << 18
device = bench.open()
ring = device.staging_ring(ring_count=2, buffer_size=SIZE)
pool = device.readback_pool(max_pending_ops=2, buffer_size=SIZE)
kernel = device.create_kernel(bench.kernel("increment"))
data, lasting = np.ones(SIZE, np.uint8), device.create_buffer(SIZE)
texels = np.ones((5, 9, 4), np.uint8)
native = bench.foreign(device, 4096) if "adopt" in bench.capabilities else None

def round():
    with device.create_buffer(SIZE) as buffer:
        ring.upload(data, buffer)
        called = threading.Event()
        work = device.command_list().dispatch(kernel, [buffer], [1, 64], threads=64).copy(buffer, lasting)
        for lane in bench.lanes:
            device.submit(device.command_list().fill(buffer, 1, nbytes=1), lane=lane)
        device.submit(work).on_done(lambda _point, _error: called.set())
        pool.read(lasting).wait(20)
        with pool.read(buffer).lease(20):
            pass
        assert called.wait(20), "a callback did not come"
    with device.staging_ring(ring_count=1, buffer_size=4096) as other:
        other.upload(data[:100], lasting)
    with device.readback_pool(max_pending_ops=1, buffer_size=4096) as other:
        other.read(lasting, nbytes=100).wait(20)
    device.budget.reserve(4096).release()
    point = device.lanes[bench.lanes[0]].timeline.point
    try:
        point(device.lanes[bench.lanes[0]].timeline.submitted + 1).wait(0.0005)
    except FenceTimeout:
        pass
    pool.read(lasting, nbytes=100).cancel()
    if native is not None:
        with device.adopt(native) as theirs:
            device.submit(device.command_list().fill(theirs, 1))
    if "textures" in bench.capabilities:
        with device.create_texture(9, 5) as texture:
            ring.upload(texels, texture)
            pool.read(texture).wait(20)

def rounds(number):
    for _ in range(number):
        round()
    device.wait_idle(20)

rounds({warm})
first = count(bench)
rounds({rounds} // 2)
middle = count(bench)
rounds({rounds} // 2)
print(json.dumps([first, middle, settled(bench, first)]))
"""

ENDED = """
import json, threading, warnings
warnings.simplefilter("ignore")
from forge3d_conformance.child import bench
from forge3d_conformance.clauses.counts import at_rest
from forge3d_core.errors import ForgeError

SIZE = 1 << 20

def round():
    device = bench.open(drain_timeout=0.05)
    buffer = device.create_buffer(SIZE)
    pool = device.readback_pool(max_pending_ops=1, buffer_size=SIZE)
    for lane in bench.lanes:
        device.submit(device.command_list().fill(buffer, 1), lane=lane)
    pool.read(buffer).wait(20)
    try:
        {end}
    except ForgeError:
        pass
    device.close()
    bench.forget()

for _ in range(3):
    round()
first = at_rest(bench)
for _ in range({rounds}):
    round()
middle = at_rest(bench)
for _ in range({rounds}):
    round()
print(json.dumps([first, middle, at_rest(bench)]))
"""

ENDS = {
    "lost": "bench.lose(device)",
    "lost at work": (
        "with bench.hold(device, bench.lanes[0], 0.2):\n"
        "            device.submit(device.command_list().fill(buffer, 2), lane=bench.lanes[0])\n"
        "            bench.lose(device)"
    ),
    "closed over unfinished work": (
        "with bench.hold(device, bench.lanes[0], 0.2):\n"
        "            device.submit(device.command_list().fill(buffer, 2), lane=bench.lanes[0])\n"
        "            device.close()"
    ),
}

AWAITED, SECONDS = 12, 40.0
"""Submissions of a round that come one after the other, and how long all rounds may take."""

GROWS, EACH = 3 << 20, 16 << 10
"""Bytes by which a process may grow over half of the rounds, and by as many for each of them."""

OBJECTS = 4
"""Blocks of Python's memory that a round may leave behind: a token, an event or a closure is one or more."""


def grown(bench: Bench, counts: list[dict[str, int]], rounds: int, what: str) -> None:
    first, middle, last = counts
    for name in COUNTED:
        bench.check(
            min(middle[name] - first[name], last[name] - middle[name]) <= 0,  # the process may have some more
            f"{rounds} {what} took the {name} from {first[name]} to {middle[name]} and {last[name]}",
        )
    for name in MEASURED:
        halves = middle[name] - first[name], last[name] - middle[name]
        bench.check(
            min(halves) <= GROWS + EACH * rounds // 2,  # a leak goes on growing, a cache does not
            f"{rounds} {what} left {sum(halves) / 2**20:.1f} MiB of {name} behind",
        )


@pytest.mark.clause("device.steady")
def test_a_device_at_work_grows_no_further(bench: Bench) -> None:
    rounds = bench.affordable(bench.scale(60, 1000), AWAITED, SECONDS / 2)
    warm = bench.affordable(200, AWAITED, SECONDS / 2)
    program = STEADY.replace("{warm}", str(warm)).replace("{rounds}", str(rounds))
    counts = told(bench, bench.child(program))
    grown(bench, counts, rounds, "rounds of work on one device")
    first, middle, last = (one["Python objects"] for one in counts)
    least = min(middle - first, last - middle)
    bench.check(
        least <= OBJECTS * rounds // 2,
        f"{rounds} rounds of work on one device left {last - first} blocks of Python's memory behind",
    )


@pytest.mark.clause("device.reopen", requires=("hold", "lose"))
@pytest.mark.parametrize("end", ENDS)
def test_a_device_that_ends_badly_leaves_nothing_behind(bench: Bench, end: str) -> None:
    rounds = bench.scale(6, 100)
    program = ENDED.replace("{end}", ENDS[end]).replace("{rounds}", str(rounds))
    grown(bench, told(bench, bench.child(program)), 2 * rounds, f"devices that were {end}")
