"""A trace document as a picture and as text. It is drawn with matplotlib, an optional dependency."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from forge3d_core.arguments import shown
from forge3d_core.errors import MissingDependency, UsageError

FIX = "pip install 'forge3d-core[trace]'"
COLOURS = {
    "submit": "#d39e00",
    "wait": "#c9cdd3",
    "copy": "#5b8c5a",
    "transfer": "#3f8fd9",
    "kernel": "#7a4fc0",
    "slot": "#9fb8cf",
}
MEANING = {
    "submit": "call that submits",
    "wait": "thread waits",
    "copy": "host copy",
    "transfer": "device copies",
    "kernel": "device runs a kernel",
    "slot": "block is the device's",
}
MAX_TRACKS = 40
BEHIND = 1_000_000
"""The place of blocks among the rows of a device: behind its lanes."""

LEAST_PIXEL = 1 / 1500


@attrs.define(eq=False)
class Track:
    """One row: spans of (begin, length) in milliseconds, by what they are."""

    name: str
    order: tuple[int, int, str]
    spans: dict[str, list[tuple[float, float]]] = attrs.field(factory=dict)

    def busy(self, window: tuple[float, float], kinds: Iterable[str]) -> float:
        """Return the share of the window in which one of these was under way."""
        start, stop = window
        covered, reached = 0.0, start
        for begun, length in sorted(span for kind in kinds for span in self.spans.get(kind, ())):
            ended = min(begun + length, stop)
            begun = max(begun, reached)
            if ended > begun:
                covered, reached = covered + ended - begun, ended
        return covered / (stop - start) if stop > start else 0.0


def load(path: Path) -> dict[str, Any]:
    """Return the document of a file that a trace saved. Raises :class:`UsageError` for any other."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(document["traceEvents"], list) and document["otherData"]["producer"] == "forge3d":
            return dict(document)
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise UsageError(f"{shown(str(path))} is no trace that forge3d saved: trace.save makes one")


def tracks(document: Mapping[str, Any]) -> list[Track]:
    """Return the rows of a picture: threads of the host, lanes of each device, its blocks."""
    names: dict[tuple[int, int], str] = {}
    rows: dict[tuple[int, object], Track] = {}
    opened: dict[tuple[int, str], float] = {}

    def row(pid: int, key: object, name: str, place: int) -> Track:
        return rows.setdefault((pid, key), Track(name, (pid, place, name)))

    for event in document["traceEvents"]:
        pid, tid, phase = event["pid"], event["tid"], event["ph"]
        if phase == "M" and event["name"] == "thread_name":
            names[pid, tid] = event["args"]["name"]
        elif phase == "X":
            track = row(pid, tid, names.get((pid, tid), str(tid)), tid)
            span = event["ts"] / 1e3, event["dur"] / 1e3
            track.spans.setdefault(event["cat"], []).append(span)
        elif phase == "b":
            opened[pid, event["id"]] = event["ts"] / 1e3
        elif phase == "e":
            begun = opened.pop((pid, event["id"]))
            track = row(pid, event["id"], event["name"], BEHIND)
            track.spans.setdefault("slot", []).append((begun, event["ts"] / 1e3 - begun))
    return sorted(rows.values(), key=lambda track: track.order)


def extent(rows: Sequence[Track]) -> tuple[float, float]:
    """Return when the first span begins and the last one ends, in milliseconds."""
    spans = [span for track in rows for each in track.spans.values() for span in each]
    if not spans:
        return 0.0, 0.0
    return min(begun for begun, _ in spans), max(begun + length for begun, length in spans)


def summary(document: Mapping[str, Any]) -> str:
    """Return the rows in plain text: how much of the time each was busy, and with what."""
    rows = tracks(document)
    window = extent(rows)
    about = document["otherData"]
    lines = [f"trace of {window[1] - window[0]:.3f} ms, {about['dropped']} event(s) dropped"]
    lines += [f"{name}: times by the {_CLOCKS[clock]}" for name, clock in about["clocks"].items()]
    for track in rows:
        parts = [
            f"{100 * track.busy(window, [kind]):.1f} % {kind} ({len(spans)})"
            for kind, spans in sorted(track.spans.items())
        ]
        lines.append(f"  {track.name:<24} {', '.join(parts)}")
    return "\n".join(lines)


_CLOCKS = {
    "device": "device's own timestamps",
    "host": "clock of the threads that run the lanes",
    "observed": "moments at which the host saw work complete",
}


def draw(document: Mapping[str, Any], window: Sequence[float] | None = None) -> bytes:
    """Return a picture as PNG; ``window``: the first and last millisecond that it shows.

    Raises :class:`MissingDependency` without matplotlib, :class:`UsageError` for a window without time.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependency(f"a trace is drawn with matplotlib ({error}); try: {FIX}", fix=FIX) from None
    rows = tracks(document)
    begun, ended = window if window is not None else extent(rows)
    if window is not None and not begun < ended:
        raise UsageError(f"a window is (first, last) in milliseconds, first < last, not {shown(window)}")
    rows = [track for track in rows if any(_within(track, begun, ended))]
    left_out = max(0, len(rows) - MAX_TRACKS)
    rows = rows[:MAX_TRACKS]
    figure = Figure(figsize=(11, 1.3 + 0.36 * max(len(rows), 1)), layout="constrained", dpi=110)
    axes = figure.add_subplot()
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.grid(True, axis="x", color="#e3e6ea", linewidth=0.8)
    axes.set_axisbelow(True)
    kinds: dict[str, Any] = {}
    for place, track in enumerate(rows):
        for kind, spans in track.spans.items():
            bars = [(max(a, begun), min(a + n, ended) - max(a, begun)) for a, n in spans]
            least = (ended - begun) * LEAST_PIXEL
            bars = [(a, max(n, least)) for a, n in bars if n >= 0]
            slim = 0.36 if kind == "wait" else 0.72
            colour = COLOURS[kind]
            kinds[kind] = axes.broken_barh(
                bars, (place - slim / 2, slim), facecolors=colour, edgecolors="white", linewidth=0.4
            )
        busy = track.busy((begun, ended), ("kernel", "transfer", "slot"))
        if busy:
            axes.annotate(
                f"{100 * busy:.0f} %",
                (1.0, place),
                xycoords=("axes fraction", "data"),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                fontsize=8,
                color="#555b63",
            )
    axes.set_yticks(range(len(rows)), [track.name for track in rows], fontsize=8)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(max(len(rows), 1) - 0.5, -0.5)
    axes.set_xlim(begun, ended if ended > begun else begun + 1)
    more = f"; {left_out} more rows left out" if left_out else ""
    axes.set_xlabel(f"ms since the trace began{more}")
    if kinds:
        ordered = [kind for kind in COLOURS if kind in kinds]
        figure.legend(
            [kinds[kind] for kind in ordered],
            [MEANING[kind] for kind in ordered],
            loc="outside upper left",
            ncols=len(ordered),
            frameon=False,
            fontsize=8,
        )
    made = io.BytesIO()
    figure.savefig(made, format="png")
    return made.getvalue()


def _within(track: Track, begun: float, ended: float) -> Iterator[bool]:
    for spans in track.spans.values():
        for start, length in spans:
            yield start <= ended and start + length >= begun
