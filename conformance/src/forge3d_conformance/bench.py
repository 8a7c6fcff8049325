"""The bench: what a clause test works with, a fresh one for each test."""

from __future__ import annotations

import asyncio
import sys
import textwrap
import threading
import warnings
import zlib
from collections.abc import Callable, Coroutine, Iterator
from concurrent import futures
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

import attrs
import numpy as np
from numpy.typing import NDArray

from forge3d_conformance import child
from forge3d_conformance.child import Ended
from forge3d_conformance.faulty import FaultyDriver
from forge3d_conformance.holding import Holding
from forge3d_conformance.mutants import Layer, Mutant, unwrap
from forge3d_conformance.mutants.driver.layer import beneath
from forge3d_conformance.subject import Hold
from forge3d_conformance.target import Target
from forge3d_conformance.texels import MANDATORY
from forge3d_conformance.violation import ClauseViolation, Inconclusive, Tardy
from forge3d_conformance.waiting import in_thread, pauses
from forge3d_core import assemble
from forge3d_core.errors import FenceTimeout
from forge3d_core.protocols import Backend, Buffer, Device, DeviceOptions, FencePoint, KernelSource

if TYPE_CHECKING:  # a child's bench, of which a run starts hundreds, reports nothing and searches for nothing
    from hypothesis.stateful import RuleBasedStateMachine

    from forge3d_conformance.catalogue import RunLevel
    from forge3d_conformance.repeat import Example
    from forge3d_conformance.report import PerfResult

WAIT = 20.0
"""Seconds after which what should have come by itself is taken not to come."""

IMPATIENT = 2.0
"""The same under a mutant, where not coming may be the very defect."""

CHILD = 60.0
"""Seconds that a child process gets, mutant or not: an interpreter and a GPU library have to start."""

HELD = 0.5
"""Seconds that a bounded hold should last."""

T = TypeVar("T")
E = TypeVar("E", bound=BaseException)


@attrs.define(eq=False, repr=False)
class Bench:
    """Opens devices of the backend under test and closes them; lends what its subject lends.

    Under self-test ``backend`` and every device have the mutant's defect; the subject always gets the
    real objects. ``patience`` bounds every wait for what must come at last; what must come at once or
    soon after its timeout is asked through :meth:`within`. ``performance`` takes what perf clauses measure.
    """

    target: Target
    name: str
    level: RunLevel = "core"
    seed: int = 0
    mutant: Mutant | None = None
    patience: float = attrs.field(default=attrs.Factory(lambda s: IMPATIENT if s.mutant else WAIT, True))
    performance: list[PerfResult] = attrs.field(factory=list)
    example: Example | None = None
    examples: int = 0
    cuts: list[str] = attrs.field(factory=list)
    layer: Layer | None = attrs.field(init=False)
    backend: Backend = attrs.field(init=False)
    random: np.random.Generator = attrs.field(init=False)
    _open: list[Device] = attrs.field(init=False, factory=list)
    _lost: list[Device] = attrs.field(init=False, factory=list)
    _holds: ExitStack = attrs.field(init=False, factory=ExitStack)

    def __attrs_post_init__(self) -> None:
        self.layer = self.mutant.layer() if self.mutant else None
        self.backend = self.layer.wrap("Backend", self.target.backend) if self.layer else self.target.backend
        self.random = np.random.default_rng((self.seed, zlib.crc32(self.name.encode())))

    def __repr__(self) -> str:
        return f"<bench of {self.target.spec}>"

    def _repr_pretty_(self, printer: Any, _cycle: bool) -> None:
        """Be as short in the failing cases that hypothesis prints."""
        printer.text(repr(self))

    @property
    def capabilities(self) -> frozenset[str]:
        return self.target.capabilities

    @property
    def lanes(self) -> tuple[str, ...]:
        """The lanes that the device has, each under its own name."""
        return self.target.limits.lanes

    def formats(self, *wanted: str) -> tuple[str, ...]:
        """Return which of these formats the device has textures of, or the one that each has."""
        return tuple(name for name in wanted if name in self.target.formats) or (MANDATORY,)

    def open(self, **options: Any) -> Device:
        """Open the device under test; ``options`` are fields of ``DeviceOptions``. Closed after the test."""
        device = self.backend.open(self.target.selector, DeviceOptions(**options))
        real = cast(Device, unwrap(device))
        self._open = [earlier for earlier in self._open if not earlier.closed]
        self._open.append(real)
        return device

    def breakable(self, **options: Any) -> tuple[Device, FaultyDriver]:
        """Open a device over the driver of the one under test, and return what breaks the driver, too."""
        inner = unwrap(self.open())
        driver = FaultyDriver(inner.driver, inner)
        device: Device = assemble(cast(Any, driver), DeviceOptions(**options))
        self._open.append(device)
        return (self.layer.wrap("Device", device) if self.layer else device), driver

    def hold(self, device: Device, lane: str = "compute", seconds: float = HELD) -> Holding:
        """Keep ``lane`` from completing what is submitted from now on; released after the test at last."""
        real = unwrap(device)
        hold: Hold = self.target.subject.lent.hold(beneath(real), real.lanes[lane].name, seconds)
        self._holds.callback(hold.release)
        hold.__enter__()
        return Holding(lane, seconds, hold, lambda: real.closed or real in self._lost)

    def peek(
        self, device: Device, buffer: Buffer, offset: int = 0, nbytes: int | None = None
    ) -> NDArray[np.uint8]:
        """Return bytes of device memory by the subject's own path."""
        nbytes = buffer.nbytes - offset if nbytes is None else nbytes
        data = self.target.subject.lent.peek(_lent(device), unwrap(buffer), offset, nbytes)
        return np.frombuffer(bytes(data), np.uint8)

    def poke(self, device: Device, buffer: Buffer, data: NDArray[Any], offset: int = 0) -> None:
        """Change bytes of device memory by the subject's own path."""
        self.target.subject.lent.poke(_lent(device), unwrap(buffer), offset, data.tobytes())

    def enqueue(self, device: Device, buffer: Buffer, value: int) -> None:
        """Fill a buffer as the native device's owner would, in its own queue and without waiting."""
        self.target.subject.lent.enqueue(_lent(device), unwrap(buffer), value)

    def lose(self, device: Device) -> None:
        """Make the device be lost."""
        self._lost.append(unwrap(device))
        self.target.subject.lent.lose(_lent(device))

    def foreign(self, device: Device, nbytes: int) -> Any:
        """Return native memory of the device's API that forge3d did not make."""
        return self.target.subject.lent.foreign(_lent(device), nbytes)

    def fail_next_allocation(self, device: Device) -> None:
        """Make the driver refuse the next host-visible allocation."""
        self.target.subject.lent.fail_next_allocation(_lent(device))

    def memory_in_use(self) -> int:
        """Return the bytes of device memory that this process holds, 0 where the subject cannot tell."""
        return self.target.subject.lent.memory_in_use() if "memory" in self.capabilities else 0

    def make(self, system: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Return one of the systems of ``forge3d_core.pipeline``, or what a mutant has instead of it."""
        made: Callable[..., T] = self.layer.SYSTEMS.get(system, system) if self.layer else system
        return made(*args, **kwargs)

    def payload(self, nbytes: int) -> NDArray[np.uint8]:
        """Return random bytes, the same for the same test and seed."""
        return self.random.integers(0, 256, nbytes, np.uint8)

    def kernel(self, name: Literal["increment", "mirror"] | str) -> KernelSource:
        """Return one of the suite's kernels; see :mod:`forge3d_conformance.kernels`."""
        return self.target.subject.kernels[name]

    def scale(self, core: T, full: T) -> T:
        """Return how much to try at this level; under a mutant as little as at core level."""
        return full if self.level == "full" and self.mutant is None else core

    def affordable(self, rounds: int, submissions: int, seconds: float) -> int:
        """Return as many of ``rounds`` as a device of this pace does in that time, and note what is left out.

        ``submissions`` are those of a round that wait for one another.
        """
        pace = self.target.pace * submissions
        fitting = rounds if rounds * pace <= seconds else max(2, int(seconds / pace))
        if fitting < rounds:
            self.cuts.append(f"{fitting} of {rounds} rounds, as a submission takes {self.target.pace:.3f} s")
        return fitting

    def check(self, condition: object, message: str) -> None:
        """Raise :class:`ClauseViolation` unless ``condition``; the message says what was seen."""
        self.examples += 1
        if not condition:
            raise ClauseViolation(message)

    def same(self, seen: NDArray[Any], wanted: NDArray[Any], what: str) -> None:
        """Compare bytes and say where the first difference is."""
        seen, wanted = np.asarray(seen), np.asarray(wanted)
        self.check(
            seen.shape == wanted.shape, f"{what}: shape {seen.shape} where {wanted.shape} was expected"
        )
        differ = np.flatnonzero((seen != wanted).reshape(-1))
        if differ.size:
            at = int(differ[0])
            raise ClauseViolation(
                f"{what}: {differ.size} of {seen.size} values differ, the first at {at}: "
                f"{seen.reshape(-1)[at]} where {wanted.reshape(-1)[at]} was expected"
            )

    @contextmanager
    def raises(self, kind: type[E] | tuple[type[E], ...], what: str) -> Iterator[list[E]]:
        """Expect an error of ``kind`` in the block; the list then holds it. Anything else is a violation."""
        caught: list[E] = []
        names = " or ".join(k.__name__ for k in (kind if isinstance(kind, tuple) else (kind,)))
        self.examples += 1
        try:
            yield caught
        except kind as error:
            caught.append(error)
        except (ClauseViolation, Inconclusive):
            raise
        except Exception as error:
            raise ClauseViolation(f"{what}: {type(error).__name__} ({error}) instead of {names}") from error
        else:
            raise ClauseViolation(f"{what}: nothing was raised where {names} was expected")

    def wait(self, point: FencePoint, what: str = "submitted work") -> None:
        """Wait for a point that must come; a violation when it does not."""
        try:
            point.wait(self.patience)
        except FenceTimeout as error:
            raise ClauseViolation(f"{what} did not complete within {self.patience:g} s: {error}") from error

    def thread(self, work: Callable[..., T], *args: Any) -> Future[T]:
        """Call ``work`` on a daemon thread of its own; take its result with :meth:`result`."""
        return in_thread(work, *args)

    def result(self, future: Future[T], what: str = "a thread") -> T:
        """Return what the thread returned or raise what it raised; a violation when it hangs."""
        try:
            return future.result(self.patience)
        except FutureTimeout:
            if future.done():
                raise
            raise ClauseViolation(f"{what} did not come back within {self.patience:g} s") from None

    def within(self, seconds: float, what: str, call: Callable[..., T], *args: Any) -> T:
        """Return what ``call`` returns or raise what it raises; :class:`Tardy` if it takes over ``seconds``.

        For every bound that a clause itself sets: ``bench.within(PROMPT, "allocate on a full ring",
        ring.allocate, 64)`` for what must come at once, ``bench.within(0.1 + PROMPT, "reserve(64, 0.1)",
        ring.reserve, 64, 0.1)`` for what must end soon after its timeout. The bound is the same under a
        mutant, so that a defect is judged exactly as a backend with that defect would be; ``patience``, which
        is not, is for what must come at last. The call runs on a thread of its own, so that one that never
        returns is a violation too. Where the answer depends on a hold, ask
        ``hold.observe(bench.within, 0.1 + PROMPT, "wait(0.1)", point.wait, 0.1)``.
        """
        future = in_thread(call, *args)
        if not futures.wait([future], seconds).done:
            raise Tardy(f"{what} did not come back within {seconds:g} s")
        return future.result()

    def until(self, condition: Callable[[], object], what: str) -> None:
        """Wait for a condition that must come true by itself; a violation when it does not."""
        woken = threading.Event()
        for pause in pauses(self.patience):
            if condition():
                return
            woken.wait(pause)
        self.check(condition(), f"{what} did not come within {self.patience:g} s")

    @contextmanager
    def racing(self) -> Iterator[None]:
        """Have the interpreter switch threads as often as it can, so that what may race does."""
        usual = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        try:
            yield
        finally:
            sys.setswitchinterval(usual)

    def run(self, coroutine: Coroutine[Any, Any, T], what: str = "a coroutine") -> T:
        """Run a coroutine to its end; a violation when it hangs."""

        async def bounded() -> T:
            try:
                return await asyncio.wait_for(coroutine, self.patience)
            except FenceTimeout:
                raise
            except TimeoutError:
                raise ClauseViolation(f"{what} did not end within {self.patience:g} s") from None

        return asyncio.run(bounded())

    def machine(self, factory: Callable[[], RuleBasedStateMachine], **settings: Any) -> None:
        """Run a hypothesis state machine with this run's seed and level, but for ``settings``."""
        import hypothesis
        from hypothesis.stateful import run_state_machine_as_test

        hypothesis.seed(self.seed)(factory)
        if self.example is not None:
            self.example.impose(factory)
        run_state_machine_as_test(cast(Any, factory), settings=hypothesis.settings(**settings))

    def child(self, source: str, **environment: str) -> Ended:
        """Run a program in a fresh interpreter; see :mod:`forge3d_conformance.child`."""
        settings = {
            "spec": self.target.spec,
            "name": self.name,
            "level": self.level,
            "seed": self.seed,
            "mutant": (self.mutant.name, self.mutant.layer.__module__) if self.mutant else None,
        }
        return child.run(textwrap.dedent(source), settings, CHILD, environment)

    def forget(self) -> None:
        """Drop what is known of holds that are over and of devices that were lost."""
        self._holds.close()
        self._lost.clear()

    def renew(self) -> None:
        """Close everything and start over, for another attempt; what this one left in flight is no matter."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            self.close()
        self.performance.clear()
        self.cuts.clear()
        self.__attrs_post_init__()

    def close(self) -> None:
        """Let go of every lane and close every device; called after the test."""
        self._holds.close()
        while self._open:
            self._open.pop().close()


def _lent(device: Device) -> Device:
    """Return the backend's own device, without a defect, for its subject."""
    return cast(Device, beneath(unwrap(device)))
