"""Many reads that are not one submission, mix their bytes, or stand and fall together."""

from __future__ import annotations

from typing import Any

import attrs

from forge3d_conformance.mutants.registry import mutant
from forge3d_conformance.mutants.wrap import Layer, unwrap


def one_by_one(pool: Any, reads: Any) -> list[Any]:
    """Start a read for each item."""
    handles = []
    for read in reads:
        source, region = read if isinstance(read, tuple) else (read, {})
        handles.append(pool.read(source, **region))
    return handles


@mutant(
    "readback.many-in-turn",
    breaks="readback.many",
    because="several submissions|Busy",
    requires=("read_many",),
)
class ManyInTurn(Layer):
    """Each of many reads is submitted by itself."""

    class Pool(Layer.Pool):
        def read_many(self, reads: Any, after: Any = ()) -> Any:
            return one_by_one(self.real, reads)


@mutant(
    "readback.many-start-some",
    breaks="readback.many",
    because="that were refused made",
    requires=("read_many",),
)
class ManyStartSome(Layer):
    """What is wrong with one of many reads is found when those before it have started."""

    class Pool(Layer.Pool):
        def read_many(self, reads: Any, after: Any = ()) -> Any:
            try:
                return self.real.read_many(reads, after)
            except ValueError:
                one_by_one(self.real, reads)
                raise


@mutant("readback.many-mixed", breaks="readback.many", because="one of many reads", requires=("read_many",))
class ManyMixed(Layer):
    """The handles come in another order than the reads."""

    class Pool(Layer.Pool):
        def read_many(self, reads: Any, after: Any = ()) -> Any:
            return self.real.read_many(reads, after)[::-1]


@mutant(
    "readback.many-cancelled-at-once",
    breaks="readback.many",
    because="Cancelled",
    requires=("read_many", "hold"),
)
class ManyCancelledAtOnce(Layer):
    """To cancel one of many reads cancels them all."""

    class Pool(Layer.Pool):
        def read_many(self, reads: Any, after: Any = ()) -> Any:
            handles = self.real.read_many(reads, after)
            for handle in handles:
                handle.others = [unwrap(other) for other in handles]
            return handles

    class Handle(Layer.Handle):
        others: Any = ()

        def cancel(self) -> None:
            for other in self.others or [self.target]:
                other.cancel()


@mutant(
    "readback.many-keep-their-block",
    breaks="readback.many",
    because="Busy",
    requires=("read_many",),
)
class ManyKeepTheirBlock(Layer):
    """The block of many reads stays in use when all of them are over."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[Any] = []

    class Pool(Layer.Pool):
        def read_many(self, reads: Any, after: Any = ()) -> Any:
            handles = self.real.read_many([*reads, *reads], after)
            layer: Any = self.layer
            if handles and len(layer.kept) < 8:
                layer.kept += [unwrap(handle).lease(10) for handle in handles[len(handles) // 2 :][:1]]
            return handles[: len(handles) // 2]


@mutant(
    "readback.many-are-one-operation",
    breaks="readback.many",
    because="reads counted",
    requires=("read_many", "hold"),
)
class ManyAreOneOperation(Layer):
    """Many reads are counted as one."""

    class Pool(Layer.Pool):
        extra = 0

        def read_many(self, reads: Any, after: Any = ()) -> Any:
            handles = self.real.read_many(reads, after)
            self.extra += max(0, len(handles) - 1)
            return handles

        def stats(self) -> Any:
            stats = self.target.stats()
            return attrs.evolve(stats, total_operations=stats.total_operations - self.extra)
