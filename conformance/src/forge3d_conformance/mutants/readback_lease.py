"""Leases that do not last, last too long, or show the wrong thing."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forge3d_conformance.mutants.landing import Noted
from forge3d_conformance.mutants.registry import mutant
from forge3d_conformance.mutants.wrap import Layer
from forge3d_core.errors import StateError


class Counterfeit:
    """A lease over a copy, which a defect may write into."""

    def __init__(self, true: Any) -> None:
        self.true = true
        self.memory = true.array.copy()
        self.shown = self.memory.view()
        self.shown.flags.writeable = False
        self.released = False

    @property
    def array(self) -> NDArray[Any]:
        if self.released:
            raise StateError("released")
        shown: NDArray[Any] = self.shown
        return shown

    def scribble(self) -> None:
        self.memory.reshape(-1).view(np.uint8)[:] = 0xDD

    def release(self) -> None:
        self.released = True
        self.true.release()

    def __enter__(self) -> NDArray[Any]:
        return self.array

    def __exit__(self, *exc_info: object) -> None:
        self.release()


@mutant("readback.lease-is-reused", breaks="readback.lease", because="a leased array, ")
class LeaseIsReused(Noted):
    """A leased block counts as free: the read after the next is written into it."""

    class Pool(Noted.Pool):
        lease: Any = None

        def read(self, source: Any, **region: Any) -> Any:
            handle = super().read(source, **region)
            if self.lease is not None and handle.index % 3 == 2:
                self.lease.scribble()
            return handle

    class Handle(Noted.Handle):
        def lease(self, timeout: float | None = None) -> Any:
            self.pool.lease = Counterfeit(self.target.lease(timeout))
            return self.pool.lease


@mutant(
    "readback.lease-blocks-nobody", breaks="readback.lease", because="nothing was raised where FenceTimeout"
)
class LeaseBlocksNobody(Noted):
    """A lease gives its block back when it is taken, and shows a copy."""

    class Handle(Noted.Handle):
        def lease(self, timeout: float | None = None) -> Any:
            lease = Counterfeit(self.target.lease(timeout))
            lease.true.release()
            return lease


@mutant("readback.lease-is-writable", breaks="readback.lease", because="is writable")
class LeaseIsWritable(Layer):
    """A leased array can be written."""

    class Lease(Layer.Lease):
        def __init__(self, layer: Layer, target: Any) -> None:
            super().__init__(layer, target)
            self.open = target.array.copy()

        @property
        def array(self) -> Any:
            _ = self.target.array
            return self.open


@mutant(
    "readback.released-still-shows", breaks="readback.lease", because="nothing was raised where StateError"
)
class ReleasedStillShows(Layer):
    """A released lease goes on showing its array."""

    class Lease(Layer.Lease):
        last: Any = None

        @property
        def array(self) -> Any:
            with suppress(StateError):
                self.last = self.target.array.copy()
                self.last.flags.writeable = False
            return self.last


class Forgetful(Counterfeit):
    """One whose memory is written again as soon as it is released."""

    def release(self) -> None:
        self.scribble()
        super().release()


@mutant("readback.derived-is-forgotten", breaks="readback.lease", because="derived from a lease")
class DerivedIsForgotten(Layer):
    """A released block is used again though an array derived from the lease still shows it."""

    class Handle(Layer.Handle):
        def lease(self, timeout: float | None = None) -> Any:
            return Forgetful(self.target.lease(timeout))


@mutant("readback.close-ends-leases", breaks="readback.lease", because="whose pool was closed")
class CloseEndsLeases(Noted):
    """Closing a pool frees the blocks that leases show."""

    class Pool(Noted.Pool):
        lease: Any = None

        def close(self) -> None:
            self.target.close()
            if self.lease is not None:
                self.lease.scribble()

    class Handle(Noted.Handle):
        def lease(self, timeout: float | None = None) -> Any:
            self.pool.lease = Counterfeit(self.target.lease(timeout))
            return self.pool.lease


@mutant("readback.released-stays-leased", breaks="readback.lease", because="after the leases were released")
class ReleasedStaysLeased(Layer):
    """A released block does not come back."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[Any] = []

    class Lease(Layer.Lease):
        released = False

        @property
        def array(self) -> Any:
            if self.released:
                raise StateError("released")
            return self.target.array

        def release(self) -> None:
            layer: Any = self.layer
            self.released = True
            layer.kept.append(self.target)


@mutant("readback.no-lease-after-wait", breaks="readback.lease", because="a lease after wait raised")
class NoLeaseAfterWait(Layer):
    """A read that was taken cannot be leased."""

    class Handle(Layer.Handle):
        taken = False

        def wait(self, timeout: float | None = None) -> Any:
            array = self.target.wait(timeout)
            self.taken = True
            return array

        def lease(self, timeout: float | None = None) -> Any:
            if self.taken:
                raise StateError("the bytes were taken already")
            return self.real.lease(timeout)
