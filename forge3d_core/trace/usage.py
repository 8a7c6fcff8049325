"""How busy a device was, from the times of its submissions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import attrs

from forge3d_core.trace.events import Submission


@attrs.frozen
class Usage:
    """The share of the time in which each lane worked, and in which kernels ran; from 0 to 1.

    ``kernels`` is None, with a ``reason``, where the device does not tell when its work began and ended.
    """

    lanes: dict[str, float]
    kernels: float | None
    reason: str = ""


def usage(submissions: Sequence[Submission], begun: float | None = None, ended: float | None = None) -> Usage:
    """Return how busy a device was between the first begin and the last end, or between two moments."""
    timed = [one for one in submissions if one.begun is not None and one.ended is not None]
    if not timed:
        return Usage({}, None, "no submission has ended whose times the device tells")
    untold = [one for one in submissions if one.begun is None and one.seen is not None and not one.error]
    if untold:
        return Usage({}, None, f"{len(untold)} submission(s) ended of which the device tells no times")
    start = min(_told(one)[0] for one in timed) if begun is None else begun
    stop = max(_told(one)[1] for one in timed) if ended is None else ended
    if stop <= start:
        return Usage({}, None, "no time has passed")
    lanes = sorted({one.lane for one in timed})
    return Usage(
        {lane: _share((_told(one) for one in timed if one.lane == lane), start, stop) for lane in lanes},
        _share((_told(one) for one in timed if one.kernels), start, stop),
    )


def _told(one: Submission) -> tuple[float, float]:
    assert one.begun is not None
    assert one.ended is not None
    return one.begun, one.ended


def _share(times: Iterable[tuple[float, float]], start: float, stop: float) -> float:
    busy, reached = 0.0, start
    for begun, ended in sorted(times):
        begun, ended = max(begun, reached), min(ended, stop)
        if ended > begun:
            busy += ended - begun
            reached = ended
    return busy / (stop - start)
