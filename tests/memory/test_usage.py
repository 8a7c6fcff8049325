"""What memory is for: counts, bytes and peaks by use and by heap, of a device and of the process."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import attrs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forge3d_core import DetailedBudget, global_tracker, register_buffer, register_texture
from forge3d_core.device.device import AssembledDevice
from forge3d_core.errors import BudgetExhausted, OutOfDeviceMemory, UsageError, WrongType
from forge3d_core.memory import process, registered
from forge3d_core.memory.budget import Ledger
from forge3d_core.memory.entry import HEAPS, KINDS, USES, entry_of
from forge3d_core.memory.process import ProcessTracker
from forge3d_core.placement import Fleet
from forge3d_core.protocols import MemoryAmount
from forge3d_core.tiling import process as process_tiles

KIB = 1024
Open = Callable[..., AssembledDevice]


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Devices of other tests are not counted."""
    monkeypatch.setattr(process, "_TRACKER", ProcessTracker())
    monkeypatch.setattr(registered, "_REGISTRY", registered._Registry())


def test_what_a_device_makes_is_told_by_use(open_device: Open) -> None:
    device = open_device()
    assert isinstance(device.budget, DetailedBudget)
    array = device.host_array((2048,), np.float32)
    with (
        device.create_buffer(4 * KIB),
        device.create_texture(32, 32),
        device.staging_ring(ring_count=2, buffer_size=8 * KIB),
        device.readback_pool(max_pending_ops=2, buffer_size=16 * KIB),
    ):
        usage = device.budget.usage()
        assert usage.by_use == {
            "buffer": MemoryAmount(1, 4 * KIB, 4 * KIB),
            "texture": MemoryAmount(1, 4 * KIB, 4 * KIB),
            "staging": MemoryAmount(3, 24 * KIB, 24 * KIB),
            "readback": MemoryAmount(2, 32 * KIB, 32 * KIB),
        }
        assert usage.by_heap == {
            "host_visible": MemoryAmount(5, 56 * KIB, 56 * KIB),
            "device_local": MemoryAmount(2, 8 * KIB, 8 * KIB),
        }
    del array
    after = device.budget.usage()
    assert {one.nbytes for one in (*after.by_use.values(), *after.by_heap.values())} == {0}
    assert after.by_use["readback"].peak_bytes == 32 * KIB
    assert "staging 0 B" in repr(after)


def test_large_uploads_and_reads_are_staging_and_readback(open_device: Open) -> None:
    device = open_device()
    data = np.ones(3 << 20, np.uint8)
    with device.create_buffer(data.nbytes) as buffer, device.staging_ring() as ring:
        with device.readback_pool(max_pending_ops=1, buffer_size=4 * KIB) as pool:
            ring.upload(data, buffer)
            assert (pool.read(buffer).wait() == data).all()
        usage = device.budget.usage()
        assert usage.by_use["readback"].peak_bytes > 4 * KIB
        assert usage.by_use["buffer"].peak_bytes == data.nbytes


@given(
    st.lists(
        st.tuples(
            st.integers(0, 60),
            st.sampled_from(KINDS),
            st.sampled_from(HEAPS),
            st.booleans(),
            st.integers(0, 9),
        ),
        max_size=40,
    )
)
def test_uses_and_heaps_add_up_at_each_step(steps: list[tuple[int, Any, Any, bool, int]]) -> None:
    ledger, held = Ledger(200), []
    peaks = dict.fromkeys((*USES, *HEAPS), 0)
    for nbytes, kind, heap, take, which in steps:
        if take or not held:
            try:
                held.append(ledger.reserve(nbytes, kind=kind, heap=heap))
            except BudgetExhausted:
                continue
        else:
            held.pop(which % len(held)).release()
        usage, metrics = ledger.usage(), ledger.metrics()
        for name, amount in {**usage.by_use, **usage.by_heap}.items():
            mine = [one for one in held if name in (one.kind, one.heap)]
            nbytes = sum(one.nbytes for one in mine)
            peaks[name] = max(peaks[name], nbytes)
            assert amount == MemoryAmount(len(mine), nbytes, peaks[name])
        assert sum(one.nbytes for one in usage.by_use.values()) == metrics.total_bytes
        assert usage.by_heap["host_visible"].peak_bytes == metrics.peak_host_visible_bytes


def test_what_the_driver_refused_is_no_peak_of_its_use(open_device: Open) -> None:
    device = open_device()
    device.native.fail_allocation()
    with pytest.raises(OutOfDeviceMemory):
        device.create_buffer(1 << 20)
    assert device.budget.usage().by_use["buffer"] == MemoryAmount()


def test_the_process_adds_up_its_devices_and_keeps_the_peak(open_device: Open) -> None:
    one, other = open_device(), open_device()
    with (
        one.create_buffer(4 * KIB),
        other.create_buffer(4 * KIB),
        other.staging_ring(ring_count=1, buffer_size=8 * KIB),
        register_texture(16, 16, "rgba8unorm"),
    ):
        usage = global_tracker().usage()
        assert usage.by_use["buffer"] == MemoryAmount(2, 8 * KIB, 8 * KIB)
        assert usage.by_use["texture"] == MemoryAmount(1, KIB, KIB)
        assert usage.by_use["staging"].nbytes == 8 * KIB
    after = global_tracker().usage()
    assert after.by_use["buffer"] == MemoryAmount(0, 0, 8 * KIB)
    assert after.by_heap["device_local"] == MemoryAmount(0, 0, 9 * KIB)
    other.close()
    assert global_tracker().usage().by_use["staging"].peak_bytes == 8 * KIB


def test_what_is_left_is_of_the_device_and_of_the_process(open_device: Open) -> None:
    one, other = open_device(budget="64 KiB"), open_device(budget="32 KiB")
    assert [each.budget.available_bytes() for each in (one, other)] == [64 * KIB, 32 * KIB]
    with one.budget.reserve(48 * KIB):
        assert [each.budget.available_bytes() for each in (one, other)] == [16 * KIB, 16 * KIB]
        assert [load.available_bytes for load in Fleet([one, other]).loads()] == [16 * KIB, 16 * KIB]
        with pytest.raises(BudgetExhausted, match="16 KiB"):
            Fleet([one, other]).least_loaded(20 * KIB)
    global_tracker().set_limit(KIB)
    assert one.budget.available_bytes() == KIB


def test_a_plan_keeps_to_what_the_process_has_left(open_device: Open) -> None:
    one, other = open_device(budget="16 MiB"), open_device(budget="16 MiB")
    image = np.arange(2**20, dtype=np.uint32).reshape(1024, 1024)
    with one.budget.reserve(12 << 20):
        found = process_tiles(other, image, lambda commands, a, b, _tile: commands.copy(a, b))
    assert (found == image).all()


@pytest.mark.parametrize("size", [(0, 4), (4, -1), (4, 4, {"layers": 0}), (4, 4, {"mip_levels": 9})])
def test_what_is_no_texture_is_not_registered(size: Any) -> None:
    width, height, *rest = size
    with pytest.raises(UsageError):
        register_texture(width, height, "rgba8unorm", **(rest[0] if rest else {}))
    with pytest.raises(TypeError, match="nothing"):
        register_texture(4, 4, "rgba8unorm", nothing=1)  # type: ignore[call-arg]
    assert global_tracker().get_metrics().texture_count == 0


def test_a_registered_cube_has_all_its_faces() -> None:
    cube = register_texture(16, 16, "rgba8unorm", layers=6, mip_levels=2)
    assert cube.nbytes == 6 * 4 * (16 * 16 + 8 * 8)


def test_a_scope_has_a_name() -> None:
    with pytest.raises(WrongType), global_tracker().scope(3):  # type: ignore[arg-type]
        pass


def test_registered_memory_goes_with_its_owner() -> None:
    class Owner:
        pass

    owner, tracker = Owner(), global_tracker()
    register_buffer("4 KiB", label="theirs", owner=owner)
    handle = register_texture(16, 16, "rgba8unorm", owner=owner)
    assert tracker.get_metrics().total_bytes == 5 * KIB
    handle.release()
    assert tracker.get_metrics().total_bytes == 4 * KIB
    del owner
    gc.collect()
    assert tracker.get_metrics().total_bytes == 0


def test_a_handle_without_an_owner_goes_by_itself() -> None:
    handle = register_buffer("4 KiB")
    assert global_tracker().usage().by_use["buffer"].nbytes == 4 * KIB
    del handle
    assert global_tracker().usage().by_use["buffer"].nbytes == 0


def test_what_can_be_no_owner_and_no_label() -> None:
    with pytest.raises(UsageError, match="weak references"):
        register_buffer(16, owner=3)
    with pytest.raises(WrongType):
        register_buffer(16, label=3)  # type: ignore[arg-type]
    assert global_tracker().get_metrics().total_bytes == 0
    assert attrs.asdict(global_tracker().usage().by_use["buffer"])["count"] == 0


@given(
    st.lists(st.tuples(st.sampled_from(["take", "wait", "grant", "drop"]), st.integers(0, 9)), max_size=40)
)
def test_what_waits_for_the_driver_counts_and_is_a_peak_once_granted(steps: list[tuple[str, int]]) -> None:
    ledger, peaks = Ledger(10**6), dict.fromkeys((*USES, *HEAPS), 0)
    granted: list[Any] = []
    waiting: list[Any] = []
    for step, number in steps:
        kind, heap, nbytes = KINDS[number % 2], HEAPS[number // 2 % 2], 1 + 3 * number
        if step == "take":
            granted.append(ledger.reserve(nbytes, kind=kind, heap=heap))
        elif step == "wait":
            waiting.append(ledger.take(entry_of(nbytes, kind, heap, pending=True)))
        elif step == "grant" and waiting:
            granted.append(waiting.pop(number % len(waiting)))
            granted[-1].grant()
        elif held := granted + waiting:
            one = held[number % len(held)]
            one.release()
            (granted if one in granted else waiting).remove(one)
        amounts = {**ledger.usage().by_use, **ledger.usage().by_heap}
        for name, amount in amounts.items():
            mine = [one for one in granted if name in (one.kind, one.heap)]
            peaks[name] = max(peaks[name], sum(one.nbytes for one in mine))
            mine += [one for one in waiting if name in (one.kind, one.heap)]
            assert amount == MemoryAmount(len(mine), sum(one.nbytes for one in mine), peaks[name])
