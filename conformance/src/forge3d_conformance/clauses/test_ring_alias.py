"""What an alias of lent memory reaches once the memory was taken back, of slices and of leases."""

from __future__ import annotations

import pytest

from forge3d_conformance.bench import Bench

# Each kind in turn: the bytes of what was lent are OWN, those that are written late through an alias LATE.
PROGRAM = """
import faulthandler, gc
import numpy as np
from forge3d_conformance.child import bench
from forge3d_conformance.clauses.aliases import KINDS
from forge3d_core.errors import BudgetError, FenceTimeout, Busy, ViewHeld

faulthandler.enable()
OWN, LATE, OTHER, SIZE = 7, 99, 11, 4096
device = bench.open()
target = device.create_buffer(SIZE)

def own(kind, alias, when):
    shown = kind.seen(alias) - {OWN, LATE}
    if shown:
        print(f"bad {kind.name}: {when} it shows {sorted(shown)[:4]}, which are another's bytes")
    kind.write(alias, LATE)

def read():
    if "peek" in bench.capabilities:
        return bench.peek(device, target)
    with device.readback_pool(max_pending_ops=1, buffer_size=SIZE) as pool:
        return pool.read(target).wait(bench.patience)
"""

SLICES = (
    PROGRAM
    + """
for kind in KINDS:
    for end in ("commit", "commit beside a variable", "release"):
        ring = device.staging_ring(ring_count=1, buffer_size=SIZE)
        slot = ring.allocate(SIZE)
        slot.view[:] = OWN
        view = slot.view if "variable" in end else None
        alias = kind.make(slot.view)
        try:
            slot.release() if end == "release" else slot.commit(target)
        except ViewHeld:
            own(kind, alias, "refused")
            del alias
            slot.release()
        else:
            own(kind, alias, f"after {end}")
            try:
                view.base[...] = LATE
            except (AttributeError, TypeError, ValueError):
                pass  # nothing is left below the variable
            point = ring.advance(bench.patience)
            own(kind, alias, f"after {end}, while it is copied,")
            point.wait(bench.patience)
            own(kind, alias, f"after {end}, once complete,")
            if end != "release":
                wrong = np.flatnonzero(read() != OWN)
                if wrong.size:
                    print(f"bad {kind.name}: a write after {end} changed what was committed, at {wrong[0]}")
            try:
                slot = ring.reserve(SIZE, 0.2)
            except (BudgetError, FenceTimeout):
                pass  # refused
            else:
                slot.view[:] = OTHER
                own(kind, alias, f"after {end}, beside the next slice,")
                slot.commit(target)
                own(kind, alias, f"after {end}, beside the next copy,")
                ring.advance(bench.patience).wait(bench.patience)
                wrong = np.flatnonzero(read() != OTHER)
                if wrong.size:
                    print(f"bad {kind.name}: a write after {end} reached another slice, at {wrong[0]}")
        ring.close()
print("end")
"""
)

LEASES = (
    PROGRAM
    + """
def fill(value):
    device.submit(device.command_list().fill(target, value)).wait(bench.patience)

for kind in KINDS:
    with device.readback_pool(max_pending_ops=1, buffer_size=SIZE, timeout=0.2) as pool:
        fill(OWN)
        lease = pool.read(target).lease(bench.patience)
        try:
            alias = kind.make(lease.array)
        except (TypeError, BufferError):
            continue  # it takes no memory that is read-only
        lease.release()
        fill(OTHER)
        for _ in range(2):
            own(kind, alias, "after release")
            try:
                handle = pool.read(target)
            except (BudgetError, FenceTimeout, Busy):
                break  # refused
            with handle.lease(bench.patience) as array:
                own(kind, alias, "beside the next lease")
                if (array != OTHER).any():
                    print(f"bad {kind.name}: a write after release reached another lease")
            del array
    own(kind, alias, "after its pool was closed")
    del alias
print("end")
"""
)

ENDS = (
    PROGRAM
    + """
for end in ("ring and pool", "device", "device first", "dropped"):
    device = bench.open()
    target = device.create_buffer(SIZE)
    device.submit(device.command_list().fill(target, OWN)).wait(bench.patience)
    ring = device.staging_ring(ring_count=2, buffer_size=SIZE)
    pool = device.readback_pool(max_pending_ops=2, buffer_size=SIZE, timeout=0.2)
    kept = []
    for kind in KINDS:
        try:
            slot = ring.reserve(SIZE, 0.2)
        except (BudgetError, FenceTimeout):
            break  # refused: there are enough
        slot.view[:] = OWN
        alias = kind.make(slot.view)
        try:
            slot.commit(target)
        except ViewHeld:
            del alias
            slot.release()
        else:
            kept.append((kind, alias))
        ring.advance(bench.patience).wait(bench.patience)
        try:
            with pool.read(target).lease(bench.patience) as array:
                kept.append((kind, kind.make(array)))
        except (TypeError, BufferError, BudgetError, FenceTimeout, Busy):
            pass
        array = slot = None
    alias = live = lease = None
    try:
        live = ring.reserve(SIZE, 0.2)
        live.view[:] = OWN
        kept.append((KINDS[1], memoryview(live.view)))
        lease = pool.read(target).lease(bench.patience)
        kept.append((KINDS[1], memoryview(lease.array)))
    except (BudgetError, FenceTimeout, Busy):
        pass
    if end == "ring and pool":
        ring.close()
        pool.close()
    if end == "device first":
        device.close()
        ring.close()
        pool.close()
    if end == "device":
        device.close()
    del device, ring, pool, target, live, lease
    gc.collect()
    for kind, alias in kept:
        own(kind, alias, f"after the end ({end})")
    for kind, alias in kept:
        own(kind, alias, f"written after the end ({end})")
    del kind, alias, kept
    gc.collect()
print("end")
"""
)


@pytest.mark.clause("ring.alias")
@pytest.mark.parametrize(
    ("program", "what"),
    [
        pytest.param(SLICES, "slices", id="slices"),
        pytest.param(LEASES, "leases", id="leases"),
        pytest.param(ENDS, "what was closed", id="ends"),
    ],
)
def test_an_alias_reaches_nothing_of_others(bench: Bench, program: str, what: str) -> None:
    ended = bench.child(program)
    bad = [line for line in ended.stdout.splitlines() if line.startswith("bad")]
    bench.check(not bad, "; ".join(line[4:] for line in bad[:3]))
    bench.check(
        ended.status == 0 and ended.stdout.rstrip().endswith("end"),
        f"aliases of {what} ended the process: {ended}",
    )
