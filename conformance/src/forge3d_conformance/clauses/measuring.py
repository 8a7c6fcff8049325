"""How a perf clause is judged: the rows of its clause, each beside the raw API in this process."""

from __future__ import annotations

from collections.abc import Iterable

from forge3d_conformance.bench import Bench
from forge3d_conformance.report import Aim
from forge3d_conformance.speed.measure import measurements, select_rows
from forge3d_conformance.speed.results import Measured, Missing
from forge3d_conformance.violation import ClauseViolation, Inconclusive

SECONDS = 1.0
"""For each operation and size."""

BUDGET = "4 GiB"


def hold_to_targets(bench: Bench, clause: str) -> None:
    """Measure every row of ``clause`` that has a target: a violation where one is missed.

    *Inconclusive* where an interval lies on both sides of its target, where there is no target for this
    device, and where the raw figures cannot be taken. Under a mutant the first row that is missed decides.
    """
    device = bench.open(budget=BUDGET)
    info = device.info
    rows = [
        row for row in select_rows(info.backend, info.kind) if row.clause == clause and row.target is not None
    ]
    if not rows:
        raise Inconclusive(f"no target is set for {clause} on a {info.kind} adapter of {info.backend}")
    hold_to(bench, measurements(device, rows, 0.0 if bench.mutant else SECONDS))


def hold_to(bench: Bench, results: Iterable[Measured | Missing]) -> None:
    """Take results as they come, and judge them: see :func:`hold_to_targets`."""
    missed: list[str] = []
    doubtful: list[str] = []
    for found in results:
        if isinstance(found, Missing):
            doubtful.append(f"{found.ours} could not be measured beside {found.raw}: {found.reason}")
            continue
        bench.examples += found.rounds
        bench.performance.append(found.judged)
        if found.aim is Aim.MISSED:
            missed.append(told(found))
        elif found.aim is Aim.INCONCLUSIVE:
            doubtful.append(told(found))
        if missed and bench.mutant:
            break
    if missed:
        raise ClauseViolation("; ".join(missed))
    if doubtful:
        raise Inconclusive("; ".join(doubtful))


def told(result: Measured) -> str:
    """Say what was seen: the ratio with its interval, and what was wanted."""
    size = f" of {result.size:,} bytes" if result.size else ""
    measure, bound = ("costs", "at most") if result.better == "lower" else ("is", "at least")
    return (
        f"{result.ours}{size} {measure} {result.ratio:.3g} of {result.raw} "
        f"({result.low:.3g} to {result.high:.3g}), wanted {bound} {result.target:g}"
    )
