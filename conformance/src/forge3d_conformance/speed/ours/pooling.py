"""The device memory of a real program, taken and given back again with a pool and without.

``pool-replay.json`` is what the ledger of a device counted while the demo shaded a hundred terrains of
different sizes (``docs/pool_replay.py`` recorded it): the number of a buffer and its bytes, 0 when it goes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import cache, partial
from importlib.resources import files
from typing import Any

from forge3d_conformance.speed.contestant import Runner
from forge3d_conformance.speed.ours.operands import Maker, Operands
from forge3d_core.pooling import BufferPool

Events = tuple[tuple[int, int], ...]


@cache
def load_events() -> Events:
    text = files("forge3d_conformance.speed").joinpath("pool-replay.json").read_text("utf-8")
    return tuple((number, nbytes) for number, nbytes in json.loads(text))


def play(events: Events, take: Callable[[int], Any], give: Callable[[Any], object]) -> None:
    """Take and give back what ``events`` say, and at the end what they left."""
    held: dict[int, Any] = {}
    for number, nbytes in events:
        if nbytes:
            held[number] = take(nbytes)
        else:
            give(held.pop(number))
    for left in held.values():
        give(left)


def _pool_replay(overwrite: bool, on: Operands, _nbytes: int) -> Runner:
    pool, events = on.stack.enter_context(BufferPool(on.device)), load_events()
    take = partial(pool.acquire, overwrite=overwrite)
    return Runner(lambda: play(events, take, lambda lease: lease.release()), on.idle, len(events))


def _buffer_replay(on: Operands, _nbytes: int) -> Runner:
    events = load_events()
    take = on.device.create_buffer
    return Runner(lambda: play(events, take, lambda buffer: buffer.close()), on.idle, len(events))


POOLING: Mapping[str, Maker] = {
    "pool-replay": partial(_pool_replay, True),
    "pool-replay-zeroed": partial(_pool_replay, False),
    "buffer-replay": _buffer_replay,
}
