"""A device closed while it works, under a runtime that runs nothing: all goes back, and not before."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import pytest

from forge3d_core import open_device
from forge3d_core.device import assemble
from forge3d_core.protocols import DeviceOptions

if TYPE_CHECKING:
    from forge3d_cuda.driver import CudaDriver

    from .runtime import Runtime

GIVING_BACK = ["freeAsync", "freeHost", "streamDestroy", "eventDestroy", "memPoolDestroy"]


def given_back(runtime: Runtime) -> dict[str, int]:
    gc.collect()
    return {name: len(runtime.called(name)) for name in GIVING_BACK}


def test_what_its_work_may_use_goes_back_when_it_has_ended(
    hollow_driver: CudaDriver, runtime: Runtime
) -> None:
    device = assemble(hollow_driver, DeviceOptions(drain_timeout=0.0))
    buffer, ring = device.create_buffer(512), device.staging_ring(ring_count=1, buffer_size=8192)
    ring.upload(bytes(512), buffer)
    runtime.pending.add(runtime.called("eventRecord")[-1][0])
    with pytest.warns(ResourceWarning, match="in flight after 0 s, and keeps what it uses"):
        device.close()
    del device, buffer, ring
    kept = given_back(runtime)
    kept.pop("eventDestroy")  # of a token that was dropped: CUDA lets its work finish first
    assert set(kept.values()) == {0}
    runtime.pending.clear()
    open_device("host").close()
    created = {name: len(runtime.called(name)) for name in ("streamCreateWithFlags", "eventCreateWithFlags")}
    assert given_back(runtime) == {
        "freeAsync": len(runtime.called("mallocFromPoolAsync")),
        "freeHost": len(runtime.called("hostAlloc")),
        "streamDestroy": created["streamCreateWithFlags"],
        "eventDestroy": created["eventCreateWithFlags"],
        "memPoolDestroy": 1,
    }
