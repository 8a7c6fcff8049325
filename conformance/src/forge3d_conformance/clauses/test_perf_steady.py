"""What does not grow: memory in the steady state, and the cost of an operation with how many went before."""

from __future__ import annotations

import gc
import time
import tracemalloc

import pytest

from forge3d_conformance.bench import Bench
from forge3d_conformance.clauses.measuring import SECONDS, hold_to
from forge3d_conformance.speed.measure import judge
from forge3d_conformance.speed.ours import Ours
from forge3d_conformance.speed.results import Measured
from forge3d_conformance.speed.sampling import sample
from forge3d_conformance.speed.targets import Row
from forge3d_core.protocols import Device

ROUNDING = 1.0625
"""Of what is asked for, how much may be held: alignment is a sixteenth at most."""

WARM_UP = 64
OPERATIONS = 512
PYTHON_BYTES = 64 * 1024
"""What the interpreter itself may keep meanwhile: caches of its own, and a few objects that wait for it."""

FEW, MANY = 10_000, 1_000_000
AGEING_SECONDS = 20.0
TOGETHER = 256
FLAT = 1.1
AGEING = ("submit-empty", "upload", "read")


@pytest.mark.clause("perf.memory")
@pytest.mark.parametrize("nbytes", [100_000, 1_000_001, 5_000_000])
def test_a_ring_and_a_pool_hold_what_they_were_asked_for(bench: Bench, nbytes: int) -> None:
    device = bench.open()
    target = device.create_buffer(nbytes)

    def held(before: int) -> int:
        return device.budget.metrics().host_visible_bytes - before

    before = device.budget.metrics().host_visible_bytes
    with device.staging_ring(ring_count=3, buffer_size=nbytes) as ring:
        for _ in range(6):
            ring.reserve(nbytes).commit(target)
            bench.wait(ring.advance())
        bench.check(
            held(before) <= 3 * nbytes * ROUNDING, f"a ring of 3 x {nbytes} bytes holds {held(before)}"
        )
    bench.until(lambda: not held(before), "what a closed ring held")
    with device.readback_pool(max_pending_ops=4, buffer_size=nbytes) as pool:
        for handle in [pool.read(target) for _ in range(4)]:
            handle.lease(bench.patience).release()
        bench.check(
            held(before) <= 4 * nbytes * ROUNDING, f"a pool of 4 x {nbytes} bytes holds {held(before)}"
        )


@pytest.mark.clause("perf.memory")
def test_the_steady_state_allocates_nothing(bench: Bench) -> None:
    device = bench.open()
    kernel = device.create_kernel(bench.kernel("increment"))
    buffer, data = device.create_buffer(4096), bench.payload(4096)
    with device.staging_ring() as ring, device.readback_pool() as pool:

        def run(operations: int) -> None:
            for _ in range(operations):
                ring.upload(data, buffer)
                device.submit(device.command_list().dispatch(kernel, [buffer], [1, 256], threads=256))
                pool.read(buffer).wait(bench.patience)
            device.wait_idle(bench.patience)

        run(WARM_UP)
        tracemalloc.start()
        try:
            run(WARM_UP)
            gc.collect()
            earlier, blocks = device.budget.metrics(), pool.stats().block_allocations
            python, _ = tracemalloc.get_traced_memory()
            run(OPERATIONS)
            gc.collect()
            grown = tracemalloc.get_traced_memory()[0] - python
        finally:
            tracemalloc.stop()
        later = device.budget.metrics()
        bench.check(
            pool.stats().block_allocations == blocks,
            f"{pool.stats().block_allocations - blocks} blocks were allocated in the steady state",
        )
        for kept in ("peak_bytes", "total_bytes", "host_visible_bytes"):
            rise = getattr(later, kept) - getattr(earlier, kept)
            bench.check(rise == 0, f"{kept} rose by {rise} in the steady state")
        bench.check(
            grown <= PYTHON_BYTES,
            f"{OPERATIONS} operations in the steady state left {grown} bytes of objects",
        )


def _age(bench: Bench, device: Device) -> int:
    """Submit a million times, or for twenty seconds, and return how often."""
    most = FEW if bench.mutant else MANY
    ending = time.monotonic() + AGEING_SECONDS
    done = 0
    while done < most and (done < FEW or time.monotonic() < ending):
        for _ in range(TOGETHER):
            point = device.submit(device.command_list())
        bench.wait(point)
        done += TOGETHER
    return done


@pytest.mark.clause("perf.growth")
@pytest.mark.timeout(280)
def test_an_operation_costs_the_same_after_many(bench: Bench) -> None:
    young, old = bench.open(), bench.open()
    done = _age(bench, old)
    bench.examples += done
    hold_to(bench, (_beside_fresh(bench, young, old, operation, done) for operation in AGEING))


def _beside_fresh(bench: Bench, young: Device, old: Device, operation: str, done: int) -> Measured:
    runners = {"old": Ours(old).runner(operation, 4096), "young": Ours(young).runner(operation, 4096)}
    try:
        samples = sample(runners, 0.0 if bench.mutant else SECONDS)
    finally:
        for runner in runners.values():
            runner.close()
    row = Row("perf.growth", f"{operation} after {done:,}", "forge3d/on a fresh device", 4096, at_most=FLAT)
    return judge(row, samples, "old", "young")
