"""Several devices of one backend at once: what they move together, beside one alone and the raw sum."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack

from forge3d_conformance.report import this_platform
from forge3d_conformance.report.build import suite_version
from forge3d_conformance.speed.calls import count_calls
from forge3d_conformance.speed.contestant import Contestant, Runner
from forge3d_conformance.speed.measure import Tell, judge
from forge3d_conformance.speed.ours import Ours
from forge3d_conformance.speed.peers import find_peers
from forge3d_conformance.speed.peers.crew import Crew
from forge3d_conformance.speed.results import Measured, Missing, SpeedReport
from forge3d_conformance.speed.sampling import sample
from forge3d_conformance.speed.targets import Row
from forge3d_core.errors import UsageError
from forge3d_core.protocols import Device

SIZE = 100_000_000

RAW: Mapping[str, Mapping[str, str]] = {
    "cuda": {
        "staged-upload": "cupy/pinned-up",
        "lease": "cupy/pinned-down",
        "duplex": "cupy/pinned-both",
        "upload": "cupy/workers-up",
        "read-into": "cupy/workers-down",
    },
    "wgpu": {"staged-upload": "wgpu-py/staged-up", "lease": "wgpu-py/staged-down"},
    "host": {"staged-upload": "thread/copy", "lease": "thread/copy", "duplex": "thread/both"},
}
"""By backend, what the raw API does on every device at once, where it has such a thing."""

CLAUSES: Mapping[str, str] = {
    "staged-upload": "perf.upload-pinned",
    "lease": "perf.readback-lease",
    "duplex": "perf.duplex",
    "upload": "perf.upload-owned",
    "read-into": "perf.readback-owned",
}
LINKS = ("staged-upload", "lease")
"""Operations that nothing but each device's own link bounds, so that N devices do N times as much."""

SCALED, SUM = 0.9, 0.9


class Team:
    """A thread for each device, on which the runners of that device are made, called and closed.

    ``make`` returns a device's contestant; it is called on that device's thread.
    """

    def __init__(self, devices: Sequence[Device], make: Callable[[Device], Contestant]) -> None:
        self._devices = devices
        self._crew = Crew(len(devices), lambda: None)
        self._members: dict[int, Contestant] = {}
        self._crew.each(lambda place: self._enter(place, make))

    def runner(self, operation: str, nbytes: int) -> Runner:
        """Return what does the operation on every device at once."""
        runners: dict[int, Runner] = {}

        def make(place: int) -> None:
            runners[place] = self._members[place].runner(operation, nbytes)

        self._crew.each(make)
        return Runner(
            lambda: self._crew.each(lambda place: runners[place].call()),
            lambda: self._crew.each(lambda place: runners[place].settle()),
            operations=len(self._devices),
            close=lambda: self._crew.each(lambda place: runners[place].close()),
        )

    def close(self) -> None:
        self._crew.each(lambda place: self._members[place].close())
        self._crew.close()

    def _enter(self, place: int, make: Callable[[Device], Contestant]) -> None:
        device = self._devices[place]
        use = getattr(device.native, "use", None)  # CuPy's: a thread has a current device
        if callable(use):
            use()
        self._members[place] = make(device)


class Match:
    """One device of ours, all of them, and the raw API on all of them. ``stack`` closes what it makes."""

    def __init__(self, devices: Sequence[Device], stack: ExitStack) -> None:
        self._devices, self._stack = devices, stack
        self._alone, self._ours = Ours(devices[0]), Team(devices, Ours)
        self._raw: dict[str, Team] = {}
        stack.callback(self._ours.close)

    def play(self, operation: str, size: int, seconds: float) -> list[Measured]:
        """Return the rows of one operation, on ``size`` bytes for each device."""
        count, clause = len(self._devices), CLAUSES[operation]
        name, single = f"{operation} on {count}", f"forge3d/{operation} on 1"
        scaled = SCALED * count if operation in LINKS else None
        rows = [Row(clause, name, single, size, at_least=scaled)]
        with ExitStack() as stack:
            runners = {name: self._ours.runner(operation, size), single: self._alone.runner(operation, size)}
            raw = RAW.get(self._devices[0].info.backend, {}).get(operation)
            if raw is not None:
                peer, _, call = raw.partition("/")
                runners[f"{raw} on {count}"] = self._peer(peer).runner(call, size)
                rows.append(Row(clause, name, f"{raw} on {count}", size, at_least=SUM))
            for runner in runners.values():
                stack.callback(runner.close)
            samples = sample(runners, seconds)
        return [judge(row, samples, name, row.raw) for row in rows]

    def _peer(self, name: str) -> Team:
        if name not in self._raw:
            self._raw[name] = Team(self._devices, lambda device: _made(name, device))
            self._stack.callback(self._raw[name].close)
        return self._raw[name]


def _made(name: str, device: Device) -> Contestant:
    found, absent = find_peers(device.info.backend, device)
    if name not in found:
        raise UsageError(absent.get(name, f"no peer {name!r} for {device.info.backend}"))
    return found[name]


def measure_together(
    devices: Sequence[Device],
    seconds: float,
    tell: Tell = lambda _ours, _size: None,
    size: int = SIZE,
) -> SpeedReport:
    """Measure the large operations on all ``devices`` at once.

    Beside one device alone the ratio is how many times as much they move together; beside the raw API on
    all of them it is the part of the sum that they reach.
    """
    first = devices[0]
    rows: list[Measured] = []
    missing: list[Missing] = []
    with ExitStack() as stack:
        match = Match(devices, stack)
        for operation in CLAUSES:
            tell(f"{operation} on {len(devices)}", size)
            try:
                rows += match.play(operation, size, seconds)
            except Exception as error:  # of others' libraries, too; the other rows are still worth taking
                missing.append(Missing(operation, "forge3d", size, f"{type(error).__name__}: {error}"))
    return SpeedReport(
        backend=first.info.backend,
        adapter=" + ".join(device.info.name for device in devices),
        driver=first.info.driver,
        version=suite_version(),
        platform=this_platform(),
        seconds_per_row=seconds,
        rows=tuple(rows),
        missing=tuple(missing),
        calls=count_calls(first),
    )
