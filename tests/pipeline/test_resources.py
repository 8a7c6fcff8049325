"""Named shares of a budget, and batches that run within one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest

from forge3d_core.errors import TooLarge, UsageError
from forge3d_core.pipeline.resources import (
    AsyncOperation,
    AsyncResourceManager,
    create_batch_rendering_pipeline,
)

MIB = 1024**2


def test_within_the_budget_and_not_past_it() -> None:
    manager = AsyncResourceManager(memory_budget_mb=4)
    assert manager.allocate_resource("a", 3 * MIB)
    assert not manager.allocate_resource("b", 2 * MIB)
    stats = manager.get_memory_stats()
    assert (stats.used_bytes, stats.used_mb, stats.budget_mb) == (3 * MIB, 3, 4)
    assert (stats.utilization_percent, stats.active_resources) == (75, 1)
    assert manager.deallocate_resource("a")
    assert not manager.deallocate_resource("a")
    assert manager.allocate_resource("b", 4 * MIB)
    manager.cleanup_all()
    assert manager.get_memory_stats().active_resources == 0


def test_an_operation_gives_back_what_it_took() -> None:
    manager = AsyncResourceManager(1)

    def fail() -> None:
        with AsyncOperation(manager) as operation:
            assert operation.allocate("a", MIB)
            assert not operation.allocate("b", 1)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert manager.get_memory_stats().used_bytes == 0


def test_who_waits_gets_it(background: Callable[..., Future[Any]], patience: float) -> None:
    manager = AsyncResourceManager(1)
    manager.allocate_resource("a", MIB)
    waiting = background(manager.allocate_resource, "b", MIB, None)
    assert not manager.allocate_resource("c", MIB, timeout=0.01)
    manager.deallocate_resource("a")
    assert waiting.result(patience)


def test_wrong_use() -> None:
    manager = AsyncResourceManager(1)
    manager.allocate_resource("a", 1)
    with pytest.raises(UsageError, match="already"):
        manager.allocate_resource("a", 1)
    with pytest.raises(TooLarge):
        manager.allocate_resource("b", MIB + 1)
    with pytest.raises(UsageError):
        manager.allocate_resource("b", -1)
    with pytest.raises(UsageError):
        AsyncResourceManager(0)


def test_a_batch_in_the_order_of_its_tasks_and_within_its_memory() -> None:
    running, most, lock = 0, 0, threading.Lock()

    def render(task: Any) -> int:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        if task["id"] == 5:
            raise ArithmeticError("five")
        with lock:
            running -= 1
        return int(task["id"]) ** 2

    tasks = [{"id": number, "memory_mb": 100} for number in range(12)]
    results, times = create_batch_rendering_pipeline(tasks, render, max_workers=6, memory_budget_mb=256)
    assert [result.task_id for result in results] == list(range(12))
    assert [result.result for result in results if result.success] == [n * n for n in range(12) if n != 5]
    assert isinstance(results[5].error, ArithmeticError)
    assert most <= 3  # two at once, and the one that failed is counted as running still
    assert times["task"].count == 12
    assert times["task_3"].count == 1
    assert not create_batch_rendering_pipeline([{"id": 1, "memory_mb": 300}], render)[0][0].success
