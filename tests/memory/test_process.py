"""All devices of a process under one limit, and what they hold together."""

from __future__ import annotations

import gc
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest

import forge3d_core
from forge3d_core import (
    benchmark_memory_patterns,
    check_memory_health,
    global_tracker,
    profile_memory_usage,
    register_buffer,
    register_texture,
)
from forge3d_core.device.device import AssembledDevice
from forge3d_core.errors import BudgetExceeded, BudgetExhausted, UsageError
from forge3d_core.memory import process, registered
from forge3d_core.memory.budget import Ledger
from forge3d_core.memory.process import ProcessTracker
from tests.fork import complaints_of_a_child

MIB = 1024**2
Open = Callable[..., AssembledDevice]


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Devices of other tests are not counted."""
    monkeypatch.setattr(process, "_TRACKER", ProcessTracker())
    monkeypatch.setattr(registered, "_REGISTRY", registered._Registry())


def test_two_devices_share_what_one_may_have(open_device: Open) -> None:
    one, other = open_device(budget="64 MiB"), open_device(budget="64 MiB")
    assert global_tracker().limit == 64 * MIB
    held = one.budget.reserve(40 * MIB)
    with pytest.raises(BudgetExhausted, match="this process"):
        other.budget.reserve(40 * MIB)
    with pytest.raises(BudgetExhausted, match="this process"):
        other.budget.check(40 * MIB)
    with other.budget.reserve(24 * MIB):
        assert global_tracker().get_metrics().available_bytes == 0
    held.release()
    other.budget.reserve(40 * MIB).release()


def test_the_limit_is_the_largest_budget_or_what_is_said(open_device: Open) -> None:
    tracker = global_tracker()
    assert tracker.limit == 512 * MIB
    small, large = open_device(budget="8 MiB"), open_device(budget="32 MiB")
    assert tracker.limit == 32 * MIB
    large.close()
    assert tracker.limit == 8 * MIB
    tracker.set_limit("4 MiB")
    with pytest.raises(BudgetExceeded, match="set_limit"):
        small.budget.reserve(6 * MIB)
    assert tracker.get_metrics().refusals == 1
    tracker.set_limit(None)
    small.budget.reserve(6 * MIB).release()


def test_who_waits_gets_what_another_device_gives_back(
    open_device: Open, background: Callable[..., Future[Any]], patience: float
) -> None:
    one, other = open_device(budget="8 MiB"), open_device(budget="8 MiB")
    held = one.budget.reserve(8 * MIB)
    waiting = background(other.budget.reserve, 8 * MIB, timeout=patience)
    held.release()
    waiting.result(patience).release()


def test_caches_of_other_devices_are_given_back_before_a_refusal(open_device: Open) -> None:
    one, other = open_device(budget="8 MiB"), open_device(budget="8 MiB")
    with one.readback_pool(max_pending_ops=2, buffer_size="3 MiB") as pool:
        assert pool.stats().blocks == 2
        other.budget.reserve(7 * MIB).release()
        assert pool.stats().blocks == 0


def test_at_no_instant_more_than_the_limit(background: Callable[..., Future[Any]], patience: float) -> None:
    tracker = ProcessTracker()
    ledgers = [Ledger(1000, process=tracker) for _ in range(3)]
    over, stop = [], threading.Event()

    def watch() -> None:
        while not stop.is_set():
            total = sum(ledger.now.host_visible_bytes for ledger in ledgers)
            if total > 3000:  # figures of several instants; each ledger alone is exact
                over.append(total)

    def work(seed: int) -> None:
        for step in range(400):
            ledger = ledgers[(seed + step) % 3]
            try:
                with ledger.reserve(100 + 37 * ((seed * step) % 9)):
                    with tracker.lock:
                        held = sum(each.now.host_visible_bytes for each in ledgers)
                    assert held <= 1000
            except BudgetExhausted:
                pass

    watcher = background(watch)
    for future in [background(work, seed) for seed in range(4)]:
        future.result(patience)
    stop.set()
    watcher.result(patience)
    assert not over
    assert tracker.get_metrics().total_bytes == 0
    assert 0 < tracker.get_metrics().peak_host_visible_bytes <= 1000


def test_the_figures_are_those_of_all_devices(open_device: Open) -> None:
    one, other = open_device(), open_device()
    buffer, texture = one.create_buffer(1000), other.create_texture(16, 16)
    with other.staging_ring(ring_count=2, buffer_size=4096):
        metrics = global_tracker().get_metrics()
        assert (metrics.buffer_count, metrics.texture_count, metrics.devices) == (3, 1, 2)
        assert metrics.texture_bytes == texture.nbytes
        assert metrics.host_visible_bytes == 8192
        assert metrics.total_bytes == metrics.buffer_bytes + metrics.texture_bytes
        assert metrics.within_budget
        assert "host-visible" in repr(global_tracker())
    buffer.close()
    texture.close()
    assert global_tracker().get_metrics().total_bytes == 0
    assert global_tracker().get_metrics().peak_bytes >= metrics.total_bytes


def test_memory_that_others_made_is_counted_and_goes_with_its_handle(open_device: Open) -> None:
    device = open_device(budget="8 MiB")
    handle = register_buffer("5 MiB", is_host_visible=True)
    picture = register_texture(512, 256, "bc3-rgba-unorm")
    metrics = global_tracker().get_metrics()
    assert (metrics.host_visible_bytes, metrics.texture_bytes, metrics.devices) == (5 * MIB, 512 * 256, 1)
    with pytest.raises(BudgetExhausted):
        device.budget.reserve(4 * MIB)
    del handle
    gc.collect()
    device.budget.reserve(4 * MIB).release()
    picture.release()
    assert global_tracker().get_metrics().total_bytes == 0
    with pytest.raises(UsageError):
        register_texture(4, 4, "rgb8")


def test_scopes_nest_and_see_peaks(open_device: Open) -> None:
    device = open_device()
    with global_tracker().scope("outer") as outer:
        with global_tracker().scope("tile") as inner:
            device.create_buffer(4 * MIB).close()
            kept = device.create_buffer(MIB)
        assert (inner.growth, inner.peak_bytes) == (MIB, 4 * MIB)
        with device.staging_ring(ring_count=1, buffer_size=2 * MIB):
            pass
    assert outer.growth == MIB
    assert outer.peak_bytes == 4 * MIB
    assert outer.peak_host_visible_bytes == 2 * MIB
    assert inner.peak_host_visible_bytes == 0
    kept.close()


def test_health_warns_past_75_and_90_percent(open_device: Open) -> None:
    budget = open_device(budget=1000).budget
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with budget.reserve(750):
            assert check_memory_health().host_visible_bytes == 750
    with budget.reserve(751), pytest.warns(ResourceWarning, match="high.*75%"):
        check_memory_health()
    with budget.reserve(901), pytest.warns(ResourceWarning, match="critical.*90%"):
        check_memory_health()


def test_a_profile_of_a_call(open_device: Open) -> None:
    device = open_device()

    def work(nbytes: int) -> Any:
        device.create_buffer(2 * nbytes).close()
        return device.create_buffer(nbytes)

    profile = profile_memory_usage(work, MIB)
    assert profile.function == "work"
    assert (profile.buffer_growth, profile.texture_growth, profile.peak_bytes) == (MIB, 0, 2 * MIB)
    assert profile.duration > 0
    profile.result.close()


def test_anew_against_again(open_device: Open) -> None:
    device, made, used = open_device(), [], []

    def create() -> Any:
        made.append(device.create_buffer(64))
        return made[-1]

    figures = benchmark_memory_patterns(create, used.append, rounds=4)
    assert (figures.rounds, len(made), len(used)) == (4, 5, 8)
    assert all(buffer.closed for buffer in made)
    assert figures.speedup == pytest.approx(figures.create_destroy / figures.reuse)


def test_a_forked_child_begins_with_nothing(open_device: Open, patience: float) -> None:
    device = open_device()
    buffer = device.create_buffer(MIB)

    def begins_with_nothing() -> None:
        assert global_tracker().get_metrics().total_bytes == 0
        register_buffer(100).release()
        forge3d_core.open_device("host").close()

    locks = [global_tracker().lock]
    assert not complaints_of_a_child([], [begins_with_nothing], locks, patience)
    buffer.close()
