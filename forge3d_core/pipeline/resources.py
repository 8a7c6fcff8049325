"""Named shares of a memory budget, for work that runs side by side."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

import attrs

from forge3d_core.arguments import at_least, integer, shown
from forge3d_core.errors import TooLarge, UsageError
from forge3d_core.pipeline.monitor import AsyncPerformanceMonitor, OperationMetrics
from forge3d_core.presentation import Figures, counted, line
from forge3d_core.units import MIB, format_bytes

DEFAULT_BUDGET_MB = 256


@attrs.frozen
class ResourceStats(Figures):
    """What is allocated now. Names from the async operations guide."""

    used_bytes: int
    used_mb: float
    budget_mb: float
    utilization_percent: float
    active_resources: int

    def __repr__(self) -> str:
        return line(
            f"{self.used_mb:.4g} of {self.budget_mb:.4g} MiB, {self.utilization_percent:.0f} %",
            counted(self.active_resources, "resource"),
        )


class AsyncResourceManager:
    """Keeps named resources within ``memory_budget_mb``; it counts, and allocates nothing itself.

    Thread-safety: any thread. Source: async operations guide, "AsyncResourceManager".
    """

    def __init__(self, memory_budget_mb: float = DEFAULT_BUDGET_MB) -> None:
        self.memory_budget = int(memory_budget_mb * MIB)
        if self.memory_budget < 1:
            raise UsageError(f"memory_budget_mb is a positive number, not {shown(memory_budget_mb)}")
        self._sizes: dict[Hashable, int] = {}
        self._used = 0
        self._changed = threading.Condition(threading.RLock())

    def allocate_resource(self, resource_id: Hashable, size_bytes: int, timeout: float | None = 0.0) -> bool:
        """Take ``size_bytes`` under a name; False where they do not fit, in ``timeout`` seconds (None: ever).

        Raises :class:`UsageError` for a name that is taken, :class:`TooLarge` for more than the budget.
        """
        size = at_least(0, "size_bytes", integer("size_bytes", size_bytes))
        if size > self.memory_budget:
            raise TooLarge(
                f"resource {shown(resource_id)} of {format_bytes(size)} never fits in the budget of "
                f"{format_bytes(self.memory_budget)}"
            )
        with self._changed:
            self._changed.wait_for(lambda: self._used + size <= self.memory_budget, timeout)
            if resource_id in self._sizes:
                raise UsageError(f"resource {shown(resource_id)} is allocated already; deallocate it first")
            if self._used + size > self.memory_budget:
                return False
            self._sizes[resource_id] = size
            self._used += size
            return True

    def deallocate_resource(self, resource_id: Hashable) -> bool:
        """Give a resource back; whether there was one of that name."""
        with self._changed:
            size = self._sizes.pop(resource_id, None)
            if size is None:
                return False
            self._used -= size
            self._changed.notify_all()
            return True

    def cleanup_all(self) -> None:
        """Give everything back."""
        with self._changed:
            self._sizes.clear()
            self._used = 0
            self._changed.notify_all()

    def get_memory_stats(self) -> ResourceStats:
        """Return the figures, all of one instant."""
        with self._changed:
            return ResourceStats(
                used_bytes=self._used,
                used_mb=self._used / MIB,
                budget_mb=self.memory_budget / MIB,
                utilization_percent=100 * self._used / self.memory_budget,
                active_resources=len(self._sizes),
            )

    def __repr__(self) -> str:
        return line(f"resource manager: {repr(self.get_memory_stats())[1:-1]}")


class AsyncOperation:
    """What one operation has allocated; leaving the ``with`` block gives it back, however it is left."""

    def __init__(self, resource_manager: AsyncResourceManager) -> None:
        self._manager = resource_manager
        self._allocated: list[Hashable] = []

    def allocate(self, resource_id: Hashable, size_bytes: int, timeout: float | None = 0.0) -> bool:
        """Allocate for this operation; as :meth:`AsyncResourceManager.allocate_resource`."""
        if not self._manager.allocate_resource(resource_id, size_bytes, timeout):
            return False
        self._allocated.append(resource_id)
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        while self._allocated:
            self._manager.deallocate_resource(self._allocated.pop())


@attrs.frozen(eq=False)
class TaskResult:
    """What became of one task: its result, or the error that it raised."""

    task_id: Hashable
    success: bool
    result: Any = None
    error: Exception | None = None


def create_batch_rendering_pipeline(
    tasks: Iterable[Mapping[str, Any]],
    render: Callable[[Mapping[str, Any]], Any],
    max_workers: int = 4,
    *,
    memory_budget_mb: float = DEFAULT_BUDGET_MB,
) -> tuple[list[TaskResult], dict[str, OperationMetrics]]:
    """Run ``render(task)`` on threads, as many at once as their memory allows; return what became of each.

    A task is a mapping with ``id`` and ``memory_mb`` (default 10). Results are in the order of the tasks; an
    error is one task's alone. The second value has the times, of ``task`` and of each by its id. Source:
    async operations guide, "Batch Rendering Pipeline".
    """
    manager, monitor = AsyncResourceManager(memory_budget_mb), AsyncPerformanceMonitor()

    def run(numbered: tuple[int, Mapping[str, Any]]) -> TaskResult:
        number, task = numbered
        name = task.get("id", number)
        try:
            with AsyncOperation(manager) as operation:
                operation.allocate(("task", number), int(task.get("memory_mb", 10) * MIB), timeout=None)
                with monitor.operation("task"), monitor.operation(f"task_{name}"):
                    return TaskResult(name, True, render(task))
        except Exception as error:
            return TaskResult(name, False, error=error)

    with ThreadPoolExecutor(at_least(1, "max_workers", max_workers), "forge3d-batch") as workers:
        results = list(workers.map(run, enumerate(tasks)))
    return results, monitor.get_summary()
