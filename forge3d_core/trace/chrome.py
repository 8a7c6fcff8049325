"""A trace as Chrome's trace events, which Perfetto (ui.perfetto.dev) and ``chrome://tracing`` show.

The process is pid 1, with a track for each of its threads: calls that submit, waits, host copies. A device is
a process of its own, with a track for each lane and an asynchronous one for each host block that the device
has. Arrows lead from a call that submits to the work, and from the work to a wait for it. Times are
microseconds since the trace began.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import attrs

from forge3d_core.trace.events import HostCopy, Submission, Thread, Wait
from forge3d_core.units import format_bytes

HOST = 1
"""The pid of this process; devices have numbers from 2."""

Event = dict[str, Any]


@attrs.frozen
class Device:
    """A device as the document names it."""

    name: str
    lanes: tuple[str, ...]


@attrs.frozen
class Recording:
    """All that a document is made of."""

    begun: float
    ended: float
    devices: Mapping[int, Device]
    submissions: list[Submission]
    waits: list[Wait]
    copies: list[HostCopy]
    about: Mapping[str, Any] = attrs.field(factory=dict)


@attrs.define
class _Span:
    """Where the work of a submission is drawn; ``open`` where it had not ended."""

    begun: float
    ended: float
    open: bool


def document(recording: Recording) -> dict[str, Any]:
    """Return the trace as the value that a JSON file has."""
    names = _Names(recording)
    spans = _spans(recording)
    events = [*_host_events(recording, names), *_device_events(recording, names, spans)]
    events += [*_flows(recording, names, spans)]
    events.sort(key=lambda event: (event["ts"], -event.get("dur", 0.0)))
    return {
        "traceEvents": [*names.metadata(), *events],
        "displayTimeUnit": "ms",
        "otherData": dict(recording.about),
    }


class _Names:
    """Numbers for tracks, and the metadata events that name them."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._threads: dict[Thread, int] = {}
        self._lanes: dict[tuple[int, str], int] = {}
        for number, device in recording.devices.items():
            for lane in device.lanes:
                self.lane(number, lane)

    def thread(self, thread: Thread) -> int:
        return self._threads.setdefault(thread, len(self._threads) + 1)

    def lane(self, device: int, lane: str) -> int:
        return self._lanes.setdefault((device, lane), len(self._lanes) + 1)

    def ts(self, moment: float) -> float:
        return round(1e6 * (moment - self._recording.begun), 3)

    def dur(self, begun: float, ended: float) -> float:
        return max(0.0, round(self.ts(ended) - self.ts(begun), 3))

    def metadata(self) -> Iterator[Event]:
        yield _metadata("process_name", HOST, 0, name="host")
        for number, one in self._recording.devices.items():
            yield _metadata("process_name", number, 0, name=one.name)
            yield _metadata("process_sort_index", number, 0, sort_index=number)
        for thread, tid in self._threads.items():
            yield _metadata("thread_name", HOST, tid, name=thread.name)
        for (device, lane), tid in self._lanes.items():
            yield _metadata("thread_name", device, tid, name=f"lane {lane}")


def _metadata(kind: str, pid: int, tid: int, **args: Any) -> Event:
    return {"ph": "M", "name": kind, "pid": pid, "tid": tid, "ts": 0, "args": args}


def _complete(name: str, category: str, track: tuple[int, int], ts: float, dur: float) -> Event:
    return {"ph": "X", "name": name, "cat": category, "pid": track[0], "tid": track[1], "ts": ts, "dur": dur}


def _spans(recording: Recording) -> dict[int, _Span]:
    """Return by the id of each submission when the device worked on it.

    Where only its completion was observed, it can have begun at the earliest when all before it on its lane,
    and all that it came after, had ended.
    """
    spans: dict[int, _Span] = {}
    lanes: dict[tuple[int, str], float] = {}
    ends: dict[tuple[int, str, int], float] = {}
    for one in recording.submissions:
        if one.error:
            continue
        key = one.device, one.lane
        before = lanes.get(key, 0.0)
        over = one.seen is not None and one.seen <= recording.ended
        if over and one.begun is not None and one.ended is not None:
            begun = max(one.begun, before)
            ended = max(one.ended, begun)
        else:
            waited = (ends.get((one.device, lane, value), 0.0) for lane, value in one.after)
            begun = max(one.called, before, *waited)
            ended = max(begun, one.seen if over and one.seen is not None else recording.ended)
        spans[id(one)] = _Span(begun, ended, not over)
        lanes[key] = ends[(*key, one.value)] = ended
    return spans


def _host_events(recording: Recording, names: _Names) -> Iterator[Event]:
    for one in recording.submissions:
        track, name = (HOST, names.thread(one.thread)), f"submit {one.lane} #{one.value}"
        event = _complete(name, "submit", track, names.ts(one.called), names.dur(one.called, one.returned))
        yield {**event, "args": {"what": one.what, "bytes": one.nbytes, "raised": one.error}}
    for wait in recording.waits:
        track, name = (HOST, names.thread(wait.thread)), f"wait {wait.lane} #{wait.value}"
        event = _complete(name, "wait", track, names.ts(wait.begun), names.dur(wait.begun, wait.ended))
        yield {**event, "args": {"raised": wait.error}}
    for copy in recording.copies:
        track = HOST, names.thread(copy.thread)
        ts, dur = names.ts(copy.begun), names.dur(copy.begun, copy.ended)
        event = _complete(f"copy {format_bytes(copy.nbytes)}", "copy", track, ts, dur)
        yield {**event, "args": {"bytes": copy.nbytes}}


def _device_events(recording: Recording, names: _Names, spans: Mapping[int, _Span]) -> Iterator[Event]:
    blocks: dict[tuple[int, str, int], list[_Span]] = {}
    for one in recording.submissions:
        if (span := spans.get(id(one))) is None:
            continue
        track = one.device, names.lane(one.device, one.lane)
        ts, dur = names.ts(span.begun), names.dur(span.begun, span.ended)
        event = _complete(f"#{one.value} {one.what}", "kernel" if one.kernels else "transfer", track, ts, dur)
        after = [f"{lane} #{value}" for lane, value in one.after]
        yield {
            **event,
            "args": {
                "value": one.value,
                "bytes": one.nbytes,
                "clock": one.clock if one.begun is not None else "observed",
                "after": after,
                "in flight when the trace ended": span.open,
            },
        }
        if one.seen is not None and not span.open:
            fence = f"fence {one.lane} #{one.value}"
            yield {
                "ph": "i",
                "s": "t",
                "name": fence,
                "cat": "fence",
                "pid": one.device,
                "tid": track[1],
                "ts": names.ts(max(one.seen, span.ended)),
            }
        for direction, number in one.blocks:
            blocks.setdefault((one.device, direction, number), []).append(
                _Span(one.called, span.ended, False)
            )
    for (device, direction, number), flights in blocks.items():
        yield from _slot(names, device, f"{direction} block {number}", flights)


def _slot(names: _Names, device: int, name: str, flights: list[_Span]) -> Iterator[Event]:
    """Yield a block's times with the device: from the call that submits to the end of the work."""
    for flight in _merged(flights):
        event = {"name": name, "cat": "slot", "id": name, "pid": device, "tid": 0}
        yield {"ph": "b", **event, "ts": names.ts(flight.begun)}
        yield {"ph": "e", **event, "ts": names.ts(flight.ended)}


def _merged(flights: Iterable[_Span]) -> list[_Span]:
    merged: list[_Span] = []
    for flight in sorted(flights, key=lambda one: one.begun):
        if merged and flight.begun <= merged[-1].ended:
            merged[-1].ended = max(merged[-1].ended, flight.ended)
        else:
            merged.append(_Span(flight.begun, flight.ended, False))
    return merged


def _flows(recording: Recording, names: _Names, spans: Mapping[int, _Span]) -> Iterator[Event]:
    waited: dict[tuple[int, str, int], list[Wait]] = {}
    for wait in recording.waits:
        if not wait.error:
            waited.setdefault((wait.device, wait.lane, wait.value), []).append(wait)
    for one in recording.submissions:
        if (span := spans.get(id(one))) is None:
            continue
        arrow = {"name": "submission", "cat": "flow", "id": f"{one.device} {one.lane} {one.value}"}
        lane = {"pid": one.device, "tid": names.lane(one.device, one.lane)}
        yield {"ph": "s", **arrow, "pid": HOST, "tid": names.thread(one.thread), "ts": names.ts(one.called)}
        yield {"ph": "f", "bp": "e", **arrow, **lane, "ts": names.ts(max(span.begun, one.called))}
        for number, wait in enumerate(waited.get((one.device, one.lane, one.value), ())):
            arrow = {**arrow, "name": "wait", "id": f"{arrow['id']} wait {number}"}
            yield {"ph": "s", **arrow, **lane, "ts": names.ts(span.begun)}
            ends = max(wait.ended, span.begun)
            tid = names.thread(wait.thread)
            yield {"ph": "f", "bp": "e", **arrow, "pid": HOST, "tid": tid, "ts": names.ts(ends)}
