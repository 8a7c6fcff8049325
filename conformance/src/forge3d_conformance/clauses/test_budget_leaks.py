"""Memory that nobody gives back: dropped, or still held when the device closes."""

from __future__ import annotations

import gc
import re
import warnings
from collections.abc import Callable

import pytest

from forge3d_conformance.bench import Bench
from forge3d_conformance.clauses.budget_model import LIMIT, held


@pytest.mark.clause("budget.collected")
def test_what_is_dropped_is_given_back(bench: Bench) -> None:
    device = bench.open(budget=LIMIT)
    empty = held(device.budget.metrics())
    makers: dict[str, Callable[[], object]] = {
        "buffer": lambda: device.create_buffer(5000),
        "ring": lambda: device.staging_ring(ring_count=2, buffer_size=5000),
        "pool": lambda: device.readback_pool(max_pending_ops=2, buffer_size=5000),
        "reservation": lambda: device.budget.reserve(5000),
    }
    if "textures" in bench.capabilities:
        makers["texture"] = lambda: device.create_texture(50, 50)
    for what, make in makers.items():
        owner = make()
        bench.check(device.budget.metrics().total_bytes > empty.total_bytes, f"a {what} takes no memory")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            del owner
            gc.collect()
            bench.until(
                lambda: held(device.budget.metrics()) == empty, f"the return of what a dropped {what} took"
            )


KEPT = 7
BYTES = re.compile(r"\b(3(\.0+)? ?MiB|3145728|3([,_])145\3728)\b")
"""How 3 MiB may be written."""


@pytest.mark.clause("budget.collected")
def test_what_the_program_reserved_and_kept_is_reported_at_close(bench: Bench) -> None:
    device = bench.open(budget=8 * LIMIT)
    tracker = device.budget
    made = [device.create_buffer(4096), device.staging_ring(ring_count=2, buffer_size=4096)]
    kept = [tracker.reserve(400 << 10, heap="device_local")]
    kept += [tracker.reserve(nbytes << 10) for nbytes in (1, 1000, 70, 601, 500, 500)]
    tracker.reserve(4096).release()
    bench.check(len(kept) == KEPT and sum(one.nbytes for one in kept) == 3 << 20, f"these were kept: {kept}")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        device.close()
    told = [str(w.message) for w in caught if issubclass(w.category, ResourceWarning)]
    bench.check(
        any(re.search(rf"\b{KEPT}\b", text) and BYTES.search(text) for text in told),
        f"closing with {KEPT} reservations of 3 MiB held, and {len(made)} things that the device made, "
        f"reported another leak or none: {told}",
    )
    seen = tracker.metrics()
    bench.check(seen.total_bytes == 0, f"{seen.total_bytes} bytes stay reserved after the device closed")
