"""What mutants of the readback pool have in common: each read knows what was asked, and may land altered."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from forge3d_conformance.mutants.wrap import Layer

WHILE = 3.0
"""Seconds that a call waits which should not wait: longer than any clause allows."""


class Noted(Layer):
    """Each pool knows its device, and each handle its pool and what was asked of it."""

    class Device(Layer.Device):
        def readback_pool(self, *args: Any, **kwargs: Any) -> Any:
            pool = self.real.readback_pool(*args, **kwargs)
            pool.device = self
            return pool

    class Pool(Layer.Pool):
        device: Any
        started = 0

        def read(self, source: Any, **region: Any) -> Any:
            handle = self.real.read(source, **region)
            return self.noted(handle, source, region)

        def noted(self, handle: Any, source: Any, region: dict[str, Any]) -> Any:
            handle.pool, handle.source, handle.region = self, source, region
            handle.index = self.started
            self.started += 1
            return handle

    class Handle(Layer.Handle):
        pool: Any
        source: Any
        region: dict[str, Any]
        index: int

        @property
        def superseded(self) -> bool:
            """Whether the pool has needed this read's block since."""
            return bool(self.pool.started - self.index > self.pool.target.config.max_pending_ops)


class Altered(Noted):
    """The array of each read is what :meth:`alter` makes of the true one, once."""

    def alter(self, handle: Any, array: NDArray[Any]) -> NDArray[Any]:
        """Return what the handle shows instead of ``array``; here no other."""
        return array

    class Handle(Noted.Handle):
        altered: NDArray[Any] | None = None

        def show(self, array: NDArray[Any]) -> NDArray[Any]:
            if self.altered is None:
                self.altered = self.layer.alter(self, array)  # type: ignore[attr-defined]
            return self.altered

        def wait(self, timeout: float | None = None) -> NDArray[Any]:
            return self.show(self.target.wait(timeout))

        def try_get(self) -> NDArray[Any] | None:
            array = self.target.try_get()
            return None if array is None else self.show(array)

        def __await__(self) -> Any:
            return self.show((yield from self.target.__await__()))


def peer(pool: Any, **changes: Any) -> Any:
    """Return another pool of the same device, bare."""
    return pool.device.target.readback_pool(pool.target.config, **changes)
