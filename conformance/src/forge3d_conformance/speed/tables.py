"""The tables of ``docs/performance.md``, made from the results that are committed beside it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from forge3d_conformance.errors import ReportError
from forge3d_conformance.report import Aim
from forge3d_conformance.speed.results import Measured, SpeedReport, read

BEGIN, END = "<!-- tables: begin -->", "<!-- tables: end -->"
RESULTS: Mapping[str, str] = {
    "cuda-h200": "CUDA, one H200",
    "wgpu-h200": "wgpu over Vulkan, one H200",
    "wgpu-llvmpipe": "wgpu on llvmpipe, two cores",
    "host": "host, two cores",
}
"""The results that the document shows, where they are there, and what each is called."""


def with_tables(document: str, folder: Path) -> str:
    """Return the document with its tables made anew from the results in ``folder``.

    Those in ``folder/before`` are of the commit that the redesign began from. Raises :class:`ReportError`
    for a document that does not say where its tables stand.
    """
    head, begin, rest = document.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ReportError(f"the document has no {BEGIN} and {END} for its tables")
    return f"{head}{begin}\n\n" + "\n".join(_tables(folder)) + f"\n{end}{tail}"


def _tables(folder: Path) -> Iterator[str]:
    for name, title in RESULTS.items():
        if (path := folder / f"{name}.json").exists():
            earlier = folder / "before" / path.name
            yield from _table(title, read(path), read(earlier) if earlier.exists() else None)


def _table(title: str, now: SpeedReport, before: SpeedReport | None) -> Iterator[str]:
    ratios = {row.key: row.ratio for row in before.rows} if before else {}
    yield f"### {title}\n"
    aims = Counter(row.aim for row in now.rows if row.aim is not None)
    told = ", ".join(f"{aims[aim]} {aim.value}" for aim in Aim)
    every = f"{now.seconds_per_row:g} s for each operation and size"
    yield f"{sum(aims.values())} targets: {told}. Measured {every}.\n"
    yield "| ours | bytes | beside | before | now | wanted | |\n|---|--:|---|--:|--:|---|---|"
    for row in sorted(now.rows, key=lambda row: (row.clause, row.size, row.ours, row.raw)):
        then = f"{ratios[row.key]:.2f}" if row.key in ratios else ""
        size = f"{row.size:,}" if row.size else ""
        aim = row.aim.value if row.aim else ""
        yield f"| {row.ours} | {size} | {row.raw} | {then} | {row.ratio:.2f} | {_wanted(row)} | {aim} |"
    for missing in now.missing:
        yield f"\nNot taken: {missing.ours} beside {missing.raw}: {missing.reason}"
    yield ""
    counts = {count.operation: count.calls for count in before.calls} if before else {}
    yield "| Python calls for one operation | before | now |\n|---|--:|--:|"
    for count in now.calls:
        yield f"| {count.operation} | {counts.get(count.operation, '')} | {count.calls} |"
    yield ""


def _wanted(row: Measured) -> str:
    if row.target is None:
        return ""
    return f"{'≥' if row.better == 'higher' else '≤'} {row.target:g}"
