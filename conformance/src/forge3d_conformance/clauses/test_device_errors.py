"""Errors out of a driver that are none of forge3d's."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from forge3d_conformance.bench import Bench
from forge3d_conformance.clauses.lanes import asleep, fill, unsubmitted
from forge3d_conformance.clauses.sources import take
from forge3d_conformance.faulty import CALLS
from forge3d_core.errors import ForgeError

BYTES = 256


@pytest.mark.clause("device.foreign-error")
def test_whatever_a_driver_raises_settles_every_waiter(bench: Bench) -> None:
    for call in CALLS:
        device, driver = bench.breakable(drain_timeout=0.1)
        ours, others = device.create_buffer(BYTES), device.create_buffer(BYTES)
        timeline, pool = device.lanes["compute"].timeline, device.readback_pool(buffer_size=BYTES)
        past = fill(device, ours, 1)
        bench.wait(past)
        error, what = LookupError("a driver's own fault"), f"after {call} raised a LookupError"
        point, told = unsubmitted(device, "compute", 3), list[Exception | None]()
        driver.fail(call, timeline.name, error)
        point.on_done(lambda _point, failure, told=told: told.append(failure))  # type: ignore[misc]
        waiting = [bench.thread(point.wait, bench.patience), bench.thread(asleep, bench, point)]
        if call == "submit":
            with bench.raises(ForgeError, f"a submission {what}"):
                fill(device, ours, 2)
        elif call != "check":
            fill(device, ours, 2)
        for waiter in waiting:
            with bench.raises(ForgeError, f"a wait {what}") as caught:
                bench.result(waiter, f"a wait {what}")
            bench.check(caught[0].__cause__ is error, f"a wait {what} does not name it: {caught[0]!r}")
        bench.until(lambda told=told: told, f"the callback of a point {what}")  # type: ignore[misc]
        bench.check(isinstance(told[0], ForgeError), f"{what} a callback was given {told[0]!r}")
        failure = timeline.failure
        bench.check(isinstance(failure, ForgeError), f"{what} the lane's failure is {failure!r}")
        bench.check(past.done, f"what was complete is not any more {what}")
        for again in (point, unsubmitted(device)):
            with bench.raises(ForgeError, f"a later wait {what}"):
                again.wait(bench.patience)
        if device.lanes["download"].timeline is not timeline:
            read = take(bench, pool.read(others))
            bench.same(read, np.zeros(BYTES, np.uint8), f"a read of other memory {what}")
        bench.check(pool.stats().pending_operations == 0, f"reads are pending {what}")
        bench.check(device.budget.metrics().total_bytes > 0, f"memory that is held is not charged {what}")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ResourceWarning)
                device.close()
        except Exception as raised:
            bench.check(False, f"close raised {raised!r} {what}")
        left = device.budget.metrics().total_bytes
        bench.check(left == 0, f"{left} bytes are charged after close, {what}")
        with bench.raises(ForgeError, f"a wait after close, {what}"):
            point.wait(bench.patience)
