"""A native device that another program uses as well: our work takes its place among its owner's."""

from __future__ import annotations

import numpy as np
import pytest

from forge3d_conformance.bench import Bench
from forge3d_core.protocols import DeviceOptions

BYTES = 2 << 20  # so many that work on them takes longer than the next call
FRAMES = 12


@pytest.mark.clause("device.adopt-order", requires=("adopt", "enqueue"))
def test_each_read_sees_what_the_owner_wrote_before_it(bench: Bench) -> None:
    owner = bench.open()
    with bench.backend.adopt(owner.native, DeviceOptions()) as device:
        buffer = device.create_buffer(BYTES)
        with device.readback_pool(max_pending_ops=FRAMES, buffer_size=BYTES) as pool:
            reads = []
            for frame in range(1, FRAMES + 1):
                bench.enqueue(device, buffer, frame)
                reads.append(pool.read(buffer))
            for frame, read in enumerate(reads, 1):
                seen = read.wait(bench.patience)
                bench.same(
                    seen, np.full(BYTES, frame, np.uint8), f"the read behind the owner's write {frame}"
                )


@pytest.mark.clause("device.adopt-order", requires=("adopt", "enqueue"))
def test_uploads_and_work_lie_between_the_owners_writes(bench: Bench) -> None:
    owner = bench.open()
    with bench.backend.adopt(owner.native, DeviceOptions()) as device:
        buffer, kept = device.create_buffer(BYTES), [device.create_buffer(BYTES) for _ in range(FRAMES)]
        data = bench.payload(BYTES // 2)
        with device.staging_ring(ring_count=2, buffer_size=BYTES // 8) as ring:
            for frame, copied in enumerate(kept, 1):
                bench.enqueue(device, buffer, frame)
                ring.upload(data, buffer)
                device.submit(device.command_list().copy(buffer, copied))
            bench.enqueue(device, buffer, 0)
        with device.readback_pool(max_pending_ops=1, buffer_size=BYTES) as pool:
            for frame, copied in enumerate(kept, 1):
                wanted = np.full(BYTES, frame, np.uint8)
                wanted[: data.size] = data
                what = f"the copy made between the owner's writes {frame} and {frame % FRAMES + 1}"
                bench.same(pool.read(copied).wait(bench.patience), wanted, what)
            last = pool.read(buffer).wait(bench.patience)
        bench.same(last, np.zeros(BYTES, np.uint8), "memory that the owner wrote last")
