"""Replay what a program took and gave back, with a pool and without, and draw how much memory lay idle.

``python docs/pool_replay.py record`` shades a hundred terrains of different sizes with the demo and writes
what its device's ledger counted to ``pool-replay.json`` of the suite's ``speed``.
``python docs/pool_replay.py replay [BACKEND] [--picture]`` replays that: a line of figures for each way, and
with ``--picture`` the drawing in ``docs/performance``.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import forge3d_core as forge3d
from forge3d_core.demo import Terrain, shade_terrain
from forge3d_core.memory.budget import Ledger
from forge3d_core.pooling import BufferPool, BufferPoolStats

FOLDER = Path(__file__).parent / "performance"
LOG = Path(__file__).parents[1] / "conformance/src/forge3d_conformance/speed/pool-replay.json"
"""``forge3d bench`` replays it, too."""

ROUNDS = 9
BOUND = "16 MiB"

Event = tuple[int, int]
"""The number of a buffer and its bytes; 0 bytes when it is given back."""


def record(path: Path) -> None:
    """Write what the device memory of a run of the demo over many terrains was."""
    events: list[Event] = []
    numbers: dict[int, int] = {}  # of those held now, by their entry
    count = itertools.count()
    take, release = Ledger.take, Ledger.release

    def taking(ledger: Ledger, entry: Any, timeout: float | None = 0.0) -> Any:
        reservation = take(ledger, entry, timeout)
        if entry.heap == "device_local":
            numbers[id(entry)] = number = next(count)
            events.append((number, entry.nbytes))
        return reservation

    def releasing(ledger: Ledger, entry: Any) -> None:
        if entry.held and id(entry) in numbers:
            events.append((numbers.pop(id(entry)), 0))
        release(ledger, entry)

    draw = np.random.default_rng(5)
    Ledger.take, Ledger.release = taking, releasing  # type: ignore[method-assign,assignment]
    kept: list[forge3d.Buffer] = []
    with forge3d.open_device("host") as device:
        for number in range(100):
            height, width = (4 * int(n) for n in draw.integers(10, 225, 2))
            heights = draw.normal(0, 30, (height, width)).cumsum(0).astype(np.float32)
            picture, _ = shade_terrain(device, Terrain(heights, 80.0, 90.0))
            kept.append(device.create_buffer(picture.nbytes))  # the newest pictures stay on the device
            if number >= 8:
                kept.pop(int(draw.integers(0, 8))).close()
    Ledger.take, Ledger.release = take, release  # type: ignore[method-assign]
    path.write_text(json.dumps(events, separators=(",", ":")) + "\n")
    print(f"{len(events)} events of {next(count)} buffers")


def play(events: list[Event], take: Callable[[int], Any], give: Callable[[Any], None]) -> float:
    """Replay, and return the seconds that it took."""
    held: dict[int, Any] = {}
    began = time.perf_counter()
    for number, nbytes in events:
        if nbytes:
            held[number] = take(nbytes)
        else:
            give(held.pop(number))
    for left in held.values():
        give(left)
    return time.perf_counter() - began


def watch(device: forge3d.Device, events: list[Event], max_idle: str | None) -> list[BufferPoolStats]:
    """Replay with a pool and return its figures after each event."""
    seen: list[BufferPoolStats] = []
    with BufferPool(device, max_idle=max_idle) as pool:
        held: dict[int, Any] = {}
        for number, nbytes in events:
            if nbytes:
                held[number] = pool.acquire(nbytes, overwrite=True)
            else:
                held.pop(number).release()
            seen.append(pool.stats())
        for left in held.values():
            left.release()
    return seen


def draw_picture(free: list[BufferPoolStats], bound: list[BufferPoolStats], path: Path) -> None:
    """Draw what was asked for and what was held, and the fragmentation below."""
    import matplotlib.pyplot as plt

    figure, (above, below) = plt.subplots(2, 1, sharex=True, figsize=(9, 5.5), height_ratios=(3, 2))
    kinds = ((free, "no limit on what is idle", "tab:orange"), (bound, f"max_idle={BOUND}", "tab:purple"))
    for seen, label, color in kinds:
        above.plot([s.bytes_held / 2**20 for s in seen], label=f"held, {label}", color=color)
        below.plot([100 * s.fragmentation for s in seen], color=color)
    above.plot([s.bytes_asked / 2**20 for s in free], label="asked for", color="tab:blue")
    rounding = [100 * s.bytes_wasted / max(1, s.bytes_leased) for s in free]
    below.plot(rounding, color="tab:green", label="of which rounding to size classes")
    above.set_ylabel("MiB")
    above.set_title("Device memory of the demo over 100 terrains, replayed through a pool")
    above.legend(loc="upper left")
    below.set_ylabel("fragmentation, %")
    below.set_xlabel("event (a buffer taken or given back)")
    below.set_ylim(0, 100)
    below.legend(loc=(0.6, 0.12))
    figure.tight_layout()
    figure.savefig(path, dpi=110, metadata={"Software": None})


def replay(backend: str, log: Path, picture: Path | None) -> None:
    """Print the time of a take and a give, with and without a pool, medians of interleaved rounds."""
    events: list[Event] = [(number, nbytes) for number, nbytes in json.loads(log.read_text())]
    with forge3d.open_device(backend) as device:
        pools = {
            "pool, zeroed": BufferPool(device),
            "pool, overwrite": BufferPool(device),
            f"pool, overwrite, max_idle={BOUND}": BufferPool(device, max_idle=BOUND),
        }
        times: dict[str, list[float]] = {"raw": [], **{name: [] for name in pools}}
        for _ in range(ROUNDS):
            times["raw"].append(play(events, device.create_buffer, lambda buffer: buffer.close()))
            device.wait_idle()
            for name, pool in pools.items():
                overwrite = name != "pool, zeroed"

                def take(nbytes: int, pool: BufferPool = pool, overwrite: bool = overwrite) -> Any:
                    return pool.acquire(nbytes, overwrite=overwrite)

                times[name].append(play(events, take, lambda lease: lease.release()))
                device.wait_idle()
        print(f"{device.info.backend}: {device.info.name}, {len(events)} events")
        for name, seconds in times.items():
            micro = 1e6 * statistics.median(seconds) / len(events)
            ratio = statistics.median(a / b for a, b in zip(times["raw"], seconds, strict=True))
            stats = repr(pools[name].stats()) if name in pools else ""
            print(f"  {name}: {micro:.1f} us an event, raw takes {ratio:.2f} x as long  {stats}")
        for pool in pools.values():
            pool.close()
        free, bound = watch(device, events, None), watch(device, events, BOUND)
        for limit, seen in ((None, free), (BOUND, bound)):
            mean = statistics.mean(s.fragmentation for s in seen)
            waste = sum(s.bytes_wasted for s in seen) / sum(s.bytes_leased for s in seen)
            held = max(s.bytes_held for s in seen) / 2**20
            print(
                f"  max_idle={limit}: fragmentation {mean:.0%} (mean), {held:.0f} MiB held at most, ", end=""
            )
            print(f"rounding {waste:.1%} of what is leased")
        if picture is not None:
            draw_picture(free, bound, picture)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("record", "replay"))
    parser.add_argument("backend", nargs="?", default="host")
    parser.add_argument("--log", type=Path, default=LOG)
    parser.add_argument("--picture", action="store_true")
    given = parser.parse_args()
    if given.what == "record":
        record(given.log)
    else:
        replay(given.backend, given.log, FOLDER / "pool-replay.png" if given.picture else None)


if __name__ == "__main__":
    main()
