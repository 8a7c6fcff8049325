"""What a call takes in memory, and what making anew costs against using again."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Generic, ParamSpec, Protocol, TypeVar

import attrs

from forge3d_core.arguments import at_least
from forge3d_core.memory.process import ProcessMetrics, global_tracker
from forge3d_core.presentation import Figures, line
from forge3d_core.units import format_bytes

P = ParamSpec("P")
R = TypeVar("R")


@attrs.frozen(eq=False)
class MemoryProfile(Generic[R]):
    """One call: what it returned, how long it took, and what the process held before, at most, and after."""

    function: str
    result: R = attrs.field(repr=False)
    duration: float  # seconds
    before: ProcessMetrics
    after: ProcessMetrics
    peak_bytes: int
    peak_host_visible_bytes: int

    @property
    def buffer_growth(self) -> int:
        """Bytes of buffers that are held after the call and were not before."""
        return self.after.buffer_bytes - self.before.buffer_bytes

    @property
    def texture_growth(self) -> int:
        """Bytes of textures, likewise."""
        return self.after.texture_bytes - self.before.texture_bytes

    def __repr__(self) -> str:
        return line(
            f"{self.function}: {self.duration:.3g} s",
            f"buffers grew by {format_bytes(self.buffer_growth)}",
            f"textures by {format_bytes(self.texture_growth)}",
            f"peak {format_bytes(self.peak_bytes)}",
        )


def profile_memory_usage(func: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> MemoryProfile[R]:
    """Call ``func`` and return what it took. Source: the memory management guide."""
    name = getattr(func, "__name__", type(func).__name__)
    begun = time.perf_counter()
    with global_tracker().scope(name) as scope:
        result = func(*args, **kwargs)
    duration = time.perf_counter() - begun
    assert scope.after is not None
    return MemoryProfile(
        name, result, duration, scope.before, scope.after, scope.peak_bytes, scope.peak_host_visible_bytes
    )


class Closable(Protocol):
    """What can be closed: a ring, a pool, a buffer, a renderer."""

    def close(self) -> None: ...


@attrs.frozen
class PatternBenchmark(Figures):
    """Seconds for ``rounds`` uses of something made anew each time, and of one that is used again."""

    rounds: int
    create_destroy: float
    reuse: float
    speedup: float

    def __repr__(self) -> str:
        return line(f"reuse is {self.speedup:.3g} x as fast as making anew, over {self.rounds} rounds")


def benchmark_memory_patterns(
    create: Callable[[], Closable], use: Callable[[Any], object], rounds: int = 10
) -> PatternBenchmark:
    """Compare ``create``, ``use`` and close, ``rounds`` times, with one that is made once and used again."""
    count = at_least(1, "rounds", rounds)
    begun = time.perf_counter()
    for _ in range(count):
        one = create()
        try:
            use(one)
        finally:
            one.close()
    middle = time.perf_counter()
    kept = create()
    try:
        for _ in range(count):
            use(kept)
    finally:
        kept.close()
    ended = time.perf_counter()
    anew, again = middle - begun, ended - middle
    return PatternBenchmark(count, anew, again, anew / again if again else float("inf"))
