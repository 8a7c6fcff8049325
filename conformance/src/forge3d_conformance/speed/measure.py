"""The measurement: every row that applies to a device, the contestants of one operation side by side."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator, Mapping
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
from forge3d_core.protocols import Device

OURS = "forge3d"
"""Ours as a contestant, also where it is measured beside itself under other conditions."""

Tell = Callable[[str, int], None]


def select_rows(
    backend: str, kind: str, sizes: Iterable[int] = (), operations: Iterable[str] = ()
) -> list[Row]:
    """Return the rows for a device: of ``sizes`` bytes and ``operations`` of ours where those are given."""
    wanted, chosen = set(sizes), set(operations)
    return [
        row
        for row in load_rows(backend)
        if (not row.adapters or kind in row.adapters)
        and (not wanted or row.size in wanted)
        and (not chosen or row.ours in chosen)
    ]


def measure(
    device: Device, rows: Iterable[Row], seconds: float, tell: Tell = lambda _ours, _size: None
) -> SpeedReport:
    """Measure ``rows`` on ``device`` and return all that came of it; see :func:`measurements`."""
    found = list(measurements(device, rows, seconds, tell))
    return SpeedReport(
        backend=device.info.backend,
        adapter=device.info.name,
        driver=device.info.driver,
        version=suite_version(),
        platform=this_platform(),
        seconds_per_row=seconds,
        rows=tuple(each for each in found if isinstance(each, Measured)),
        missing=tuple(each for each in found if isinstance(each, Missing)),
        calls=count_calls(device),
    )


def measurements(
    device: Device, rows: Iterable[Row], seconds: float, tell: Tell = lambda _ours, _size: None
) -> Iterator[Measured | Missing]:
    """Measure ``rows``, small sizes first, about ``seconds`` for each operation and size.

    ``tell`` is called with the operation and its bytes before each. A row that cannot be taken, as its
    peer is not installed, say, is told as missing, with the reason.
    """
    with ExitStack() as stack:
        ours = Ours(device)
        found, absent = find_peers(device.info.backend, device)
        for peer in found.values():
            stack.callback(peer.close)
        peers: Mapping[str, Contestant] = {OURS: ours, **found}
        for (size, operation), group in groupby(sorted(rows, key=_place), key=_place):
            tell(operation, size)
            gc.collect()  # what the runners before held, which may be gigabytes
            present: list[Row] = []
            for row in group:
                if row.peer in peers:
                    present.append(row)
                else:
                    reason = absent.get(row.peer, f"no peer {row.peer!r} for {device.info.backend}")
                    yield Missing(row.ours, row.raw, row.size, reason)
            try:
                yield from _side_by_side(ours, peers, present, seconds)
            except (
                Exception
            ) as error:  # of a library of others as well; the other rows are still worth taking
                reason = f"{type(error).__name__}: {error}"
                yield from (Missing(row.ours, row.raw, row.size, reason) for row in present)


def _place(row: Row) -> tuple[int, str]:
    return row.size, row.ours


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
    return [judge(row, samples, OURS, row.raw) for row in rows]


def judge(row: Row, samples: Samples, ours: str, raw: str) -> Measured:
    """Return what samples named ``ours`` and ``raw`` say of a row."""
    over, under = (ours, raw) if row.better == "lower" else (raw, ours)
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
        ours_seconds=samples.median(ours),
        raw_seconds=samples.median(raw),
        rounds=len(samples.seconds[ours]),
    )
