"""The measurement: every row that applies to a device, the contestants of one operation side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from itertools import groupby

from forge3d_conformance.report import this_platform
from forge3d_conformance.report.build import suite_version
from forge3d_conformance.speed.calls import count_calls
from forge3d_conformance.speed.contestant import Contestant, Runner
from forge3d_conformance.speed.ours import Ours
from forge3d_conformance.speed.peers import find_peers
from forge3d_conformance.speed.results import Measured, Missing, SpeedReport
from forge3d_conformance.speed.sampling import Samples, sample
from forge3d_conformance.speed.targets import Row, load_rows
from forge3d_core.errors import ForgeError
from forge3d_core.protocols import Device

OURS = "forge3d"


def select_rows(
    backend: str, kind: str, sizes: Iterable[int] = (), operations: Iterable[str] = ()
) -> list[Row]:
    """Return the rows for a device: of ``sizes`` bytes and ``operations`` of ours where those are given."""
    wanted, chosen = set(sizes), set(operations)
    return [
        row
        for row in load_rows()
        if row.applies(backend, kind)
        and (not wanted or row.size in wanted)
        and (not chosen or row.ours in chosen)
    ]


def measure(
    device: Device,
    rows: Iterable[Row],
    seconds: float,
    tell: Callable[[str, int], None] = lambda _ours, _size: None,
) -> SpeedReport:
    """Measure ``rows`` on ``device``, about ``seconds`` for each operation and size.

    ``tell`` is called with the operation and its bytes before each. A row that cannot be taken, as its
    peer is not installed, say, is told as missing, with the reason.
    """
    measured: list[Measured] = []
    missing: list[Missing] = []
    peers, absent = find_peers(device.info.backend, device)
    try:
        ours = Ours(device)
        for (operation, size), group in groupby(sorted(rows, key=_place), key=_place):
            tell(operation, size)
            for row in (together := list(group)):
                if row.peer not in peers:
                    reason = absent.get(row.peer, f"no peer {row.peer!r} for {row.backend}")
                    missing.append(Missing(row.ours, row.raw, row.size, reason))
            present = [row for row in together if row.peer in peers]
            try:
                measured += _side_by_side(ours, peers, present, seconds)
            except (ForgeError, MemoryError) as error:
                reason = f"{type(error).__name__}: {error}"
                missing += [Missing(row.ours, row.raw, row.size, reason) for row in present]
    finally:
        for peer in peers.values():
            peer.close()
    return SpeedReport(
        backend=device.info.backend,
        adapter=device.info.name,
        driver=device.info.driver,
        version=suite_version(),
        platform=this_platform(),
        seconds_per_row=seconds,
        rows=tuple(measured),
        missing=tuple(missing),
        calls=count_calls(device),
    )


def _place(row: Row) -> tuple[str, int]:
    return row.ours, row.size


def _side_by_side(
    ours: Ours, peers: Mapping[str, Contestant], rows: list[Row], seconds: float
) -> list[Measured]:
    """Time the operation that ``rows`` share beside all the raw ones that they name."""
    if not rows:
        return []
    with ExitStack() as stack:
        runners: dict[str, Runner] = {OURS: ours.runner(rows[0].ours, rows[0].size)}
        stack.callback(runners[OURS].close)
        for row in rows:
            runners[row.raw] = runner = peers[row.peer].runner(row.operation, row.size)
            stack.callback(runner.close)
        samples = sample(runners, seconds)
    return [_judge(row, samples) for row in rows]


def _judge(row: Row, samples: Samples) -> Measured:
    over, under = (OURS, row.raw) if row.better == "lower" else (row.raw, OURS)
    ratio, low, high = samples.ratio(over, under)
    return Measured(
        clause=row.clause,
        ours=row.ours,
        raw=row.raw,
        size=row.size,
        better=row.better,
        ratio=ratio,
        low=low,
        high=high,
        target=row.target,
        ours_seconds=samples.median(OURS),
        raw_seconds=samples.median(row.raw),
        rounds=len(samples.seconds[OURS]),
    )
