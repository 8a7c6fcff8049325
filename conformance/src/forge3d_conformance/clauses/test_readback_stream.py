"""Readback: a reader that wants only the latest frame."""

from __future__ import annotations

import pytest

from forge3d_conformance.bench import Bench
from forge3d_conformance.clauses.sources import all_of, stamp, take
from forge3d_core.errors import Busy, FenceTimeout
from forge3d_core.protocols import ReadbackStream

NBYTES = 700


def frame(bench: Bench, stream: ReadbackStream) -> int | None:
    """Take the latest frame and return its number; a frame that is not of one piece is a violation."""
    seen = stream.latest()
    if seen is None:
        return None
    bench.check(seen.shape == (NBYTES,), f"a frame has shape {seen.shape} where ({NBYTES},) was asked for")
    bench.same(seen, all_of(int(seen[0]), NBYTES), "a frame shows bytes of more than one")
    return int(seen[0])


@pytest.mark.clause("readback.latest")
def test_push_never_blocks_and_gives_up_what_has_no_room(bench: Bench) -> None:
    device = bench.open()
    buffer = device.create_buffer(NBYTES)
    with device.readback_pool(max_pending_ops=2, timeout=bench.patience, buffer_size=4096) as pool:
        stream = pool.stream(buffer)
        with bench.hold(device, "download", 0.8) as hold:

            def produce() -> list[bool]:
                pushed = []
                for number in range(1, 7):
                    stamp(device, buffer, number)
                    pushed.append(stream.push())
                return pushed

            try:
                pushed = hold.promptly(produce)
            except (Busy, FenceTimeout) as error:
                bench.check(False, f"push into a full pool raised {type(error).__name__}: {error}")
            bench.check(pushed == [True] * 2 + [False] * 4, f"pushes into a pool of two returned {pushed}")
            bench.check(hold.promptly(stream.latest) is None, "a frame that the device holds was shown")
            dropped = hold.observe(lambda: stream.dropped_frames)
            bench.check(dropped == 4, f"{dropped} frames are counted as dropped of 4 that had no room")
        device.wait_idle(bench.patience)
        seen = frame(bench, stream)
        bench.check(seen == 2, f"frame {seen} was shown where 2 was the newest that was read")
        bench.check(stream.dropped_frames == 5, f"{stream.dropped_frames} frames of 5 are dropped")


@pytest.mark.clause("readback.latest", requires=())
def test_frames_only_get_newer_and_the_counts_add_up(bench: Bench) -> None:
    device = bench.open()
    buffer = device.create_buffer(NBYTES)
    with device.readback_pool(max_pending_ops=3, buffer_size=4096) as pool:
        stream = pool.stream(buffer)
        bench.check(frame(bench, stream) is None, "a stream without a frame shows one")
        shown, newest, accepted = 0, 0, 0
        frames = bench.scale(60, 250)
        for number in range(1, frames + 1):
            stamp(device, buffer, number)
            if stream.push():
                accepted = number
            if number % 4 == 0 and (seen := frame(bench, stream)) is not None:
                bench.check(seen > newest, f"frame {seen} was shown after frame {newest}")
                bench.check(seen <= number, f"frame {seen} was shown after frame {number} was pushed")
                newest, shown = seen, shown + 1
        device.wait_idle(bench.patience)
        if (seen := frame(bench, stream)) is not None:
            bench.check(seen > newest, f"frame {seen} was shown after frame {newest}")
            newest, shown = seen, shown + 1
        bench.check(newest == accepted, f"the last frame shown is {newest} where {accepted} was the newest")
        bench.check(frame(bench, stream) is None, "a frame was shown twice")
        bench.check(
            shown + stream.dropped_frames == frames,
            f"{shown} frames were shown and {stream.dropped_frames} dropped of {frames} that were pushed",
        )
        counted = pool.stats().dropped_frames
        bench.check(
            counted == stream.dropped_frames,
            f"the pool counts {counted} dropped frames where its stream counts {stream.dropped_frames}",
        )


@pytest.mark.clause("readback.latest", requires=())
def test_a_frame_passed_over_is_dropped(bench: Bench) -> None:
    device = bench.open()
    buffer = device.create_buffer(NBYTES)
    with device.readback_pool(max_pending_ops=4, buffer_size=4096) as pool:
        stream = pool.stream(buffer)
        for number in (1, 2, 3):
            stamp(device, buffer, number)
            bench.check(stream.push(), "a frame was dropped while the pool had room")
        device.wait_idle(bench.patience)
        seen = frame(bench, stream)
        bench.check(seen == 3, f"frame {seen} was shown where 3 was the newest that had landed")
        bench.check(
            stream.dropped_frames == 2, f"{stream.dropped_frames} frames of 2 passed over are dropped"
        )
        bench.check(frame(bench, stream) is None, "a frame was shown twice")


@pytest.mark.clause("readback.latest")
def test_a_closed_stream_gives_its_blocks_back(bench: Bench) -> None:
    device = bench.open()
    buffer = device.create_buffer(NBYTES)
    with device.readback_pool(max_pending_ops=2, backpressure="raise", buffer_size=4096) as pool:
        stream = pool.stream(buffer)
        with bench.hold(device, "download", 0.3) as hold:
            stream.push()
            stream.push()
            hold.promptly(stream.close)
            hold.promptly(stream.close)
        device.wait_idle(bench.patience)
        try:
            handles = [pool.read(buffer) for _ in range(2)]
        except Busy as error:
            bench.check(False, f"a closed stream keeps its blocks: {error}")
        for handle in handles:
            take(bench, handle)
