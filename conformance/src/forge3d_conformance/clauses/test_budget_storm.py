"""The budget under load and under a driver that refuses: not a byte over, not a byte left."""

from __future__ import annotations

import gc
import random
import threading
from typing import Any

import attrs
import numpy as np
import pytest

from forge3d_conformance.bench import Bench
from forge3d_conformance.clauses.budget_model import HEAPS, KINDS, LIMIT, held
from forge3d_core.errors import BudgetExceeded, BudgetExhausted, OutOfDeviceMemory
from forge3d_core.protocols import BudgetMetrics, Device

THREADS = 16
NATIVE = 16
"""One step in so many takes memory of the driver."""


@attrs.define
class _Books:
    """What one thread holds, kept the plain way: the objects and what each adds to the figures."""

    device: Device
    random: random.Random
    live: list[tuple[Any, dict[str, int]]] = attrs.field(factory=list)
    refused: int = 0

    def step(self) -> None:
        dice = self.random
        if self.live and dice.random() < 0.5:
            one, _ = self.live.pop(dice.randrange(len(self.live)))
            one.close() if hasattr(one, "close") else one.release()
            return
        try:
            self.live.append(self._take())
        except (BudgetExhausted, BudgetExceeded):
            self.refused += 1

    def _take(self) -> tuple[Any, dict[str, int]]:
        dice, device = self.random, self.device
        if dice.randrange(NATIVE):
            kind, heap, nbytes = dice.choice(KINDS), dice.choice(HEAPS), dice.randrange(LIMIT // 8)
            one = device.budget.reserve(nbytes, kind=kind, heap=heap)
            return one, {f"{kind}_count": 1, f"{kind}_bytes": nbytes, f"{heap}_bytes": nbytes}
        nbytes = 4096 * dice.randrange(1, 5)
        if dice.randrange(2):
            return device.create_buffer(nbytes), _native(nbytes, "device_local")
        ring = device.staging_ring(ring_count=1, buffer_size=nbytes)
        return ring, _native(nbytes, "host_visible")

    def close(self) -> None:
        while self.live:
            one, _ = self.live.pop()
            one.close() if hasattr(one, "close") else one.release()


def _native(nbytes: int, heap: str) -> dict[str, int]:
    return {"buffer_count": 1, "buffer_bytes": nbytes, f"{heap}_bytes": nbytes}


@pytest.mark.clause("budget.storm")
def test_a_storm_of_threads_under_a_limit_that_moves(bench: Bench) -> None:
    device, steps = bench.open(budget=LIMIT), bench.scale(150, 100_000)
    base, over, ended = held(device.budget.metrics()), list[str](), threading.Event()
    books = [_Books(device, random.Random(f"{bench.seed} {number}")) for number in range(THREADS)]

    def watch() -> None:
        dice = random.Random(bench.seed)
        while not ended.is_set():
            device.budget.set_limit(dice.randrange(LIMIT // 4, LIMIT))
            allowed = 0
            for sample in range(20):
                seen = device.budget.metrics()
                # Above a limit that was lowered use may stay, and fall; it may not rise.
                if sample and seen.host_visible_bytes > max(seen.limit_bytes, allowed):
                    over.append(f"{seen.host_visible_bytes} of {seen.limit_bytes}, {allowed} before")
                allowed = seen.host_visible_bytes

    def work(one: _Books) -> None:
        for _ in range(steps):
            one.step()

    watcher = bench.thread(watch)
    for worker in [bench.thread(work, one) for one in books]:
        worker.result(None if bench.level == "full" else bench.patience)
    ended.set()
    bench.result(watcher, "the thread that samples")
    bench.check(not over, f"use rose above the limit {len(over)} times, first to {(over or [''])[0]}")
    wanted = attrs.asdict(base)
    for one in books:
        for _, adds in one.live:
            for name, amount in adds.items():
                wanted[name] += amount
    wanted["total_bytes"] = wanted["host_visible_bytes"] + wanted["device_local_bytes"]
    _agrees(bench, device, wanted, "while all is held")
    for one in books:
        one.close()
    _agrees(bench, device, attrs.asdict(base), "after all was given back")
    refused = sum(one.refused for one in books)
    seen = device.budget.metrics().refusals
    bench.check(seen == refused, f"{seen} refusals are counted, {refused} were met")


def _agrees(bench: Bench, device: Device, wanted: dict[str, int], when: str) -> None:
    wanted.pop("limit_bytes", None)

    def off() -> dict[str, int]:
        seen = attrs.asdict(held(device.budget.metrics()))
        return {name: seen[name] - value for name, value in wanted.items() if seen[name] != value}

    if off():
        gc.collect()  # what an error's traceback still held
    bench.check(not off(), f"the figures are off by {off()} {when}")


@pytest.mark.clause("budget.every-refusal")
def test_each_native_allocation_refused_in_turn(bench: Bench) -> None:
    device, driver = bench.breakable(budget=4 * LIMIT)
    base = held(device.budget.metrics())
    _workload(bench, device)
    allocations = driver.allocations
    _returns(bench, device, base, "a workload that nothing refused")
    bench.check(allocations >= 4, f"a workload of buffers, ring and pool made {allocations} allocations")
    for number in range(allocations):
        device.budget.reserve(1).release()
        driver.refuse(number)
        try:
            _workload(bench, device)
        except OutOfDeviceMemory:
            pass
        except Exception as error:
            bench.check(False, f"allocation {number} refused: {type(error).__name__} ({error})")
        else:  # it used memory again that an earlier run had left, or has tried again: all it asked for came
            bench.check(driver.allocations <= number, f"allocation {number} was refused and nothing raised")
        driver.refuse(None)
        _returns(bench, device, base, f"allocation {number} was refused")
        _workload(bench, device)
    _returns(bench, device, base, "the last workload")


def _workload(bench: Bench, device: Device) -> None:
    """Take memory of each kind, use it, and give it back, whatever happens."""
    data = np.arange(1024, dtype=np.uint8)
    with device.create_buffer(1024) as buffer, device.create_buffer(4096):
        with device.staging_ring(ring_count=2, buffer_size=4096) as ring:
            ring.upload(data, buffer)
        with device.readback_pool(max_pending_ops=2, buffer_size=4096) as pool:
            seen = pool.read(buffer).wait(bench.patience)
        bench.same(seen, data, "bytes that went up and came back")


def _returns(bench: Bench, device: Device, base: BudgetMetrics, after: str) -> None:
    def back() -> bool:
        gc.collect()
        return held(device.budget.metrics()) == base

    bench.until(back, f"the return of all memory after {after}")
