"""A device that several threads close at once."""

from __future__ import annotations

import warnings

import pytest

from forge3d_conformance.bench import Bench
from forge3d_core.protocols import Device

BYTES = 4096
DRAIN = 0.8
"""Seconds that the first close gives held work, and the others have to wait for it."""


@pytest.mark.clause("device.closed", requires=("hold",))
def test_a_close_beside_another_ends_when_the_device_is_closed(bench: Bench) -> None:
    device = bench.open(drain_timeout=DRAIN)
    buffer = device.create_buffer(BYTES)
    with bench.hold(device, "compute", 4 * DRAIN), warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # that work was given up, as it was
        device.submit(device.command_list().fill(buffer, 1))
        first = bench.thread(device.close)
        bench.until(lambda: device.closed, "a device that is being closed says that it is")
        others = [bench.thread(closed, device) for _ in range(3)]
        for left in (closed(device), *(bench.result(one, "a close beside another") for one in others)):
            bench.check(not left, f"a second close came back before the first had given back {left} bytes")
        bench.result(first, "a close")


def closed(device: Device) -> int:
    """Close, and return what is charged when that has returned."""
    device.close()
    return device.budget.metrics().total_bytes
