"""From the device to the host."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from forge3d_conformance.speed.contestant import Runner
from forge3d_conformance.speed.ours.operands import Maker, Operands
from forge3d_core.protocols.readback import ReadRequest

IN_FLIGHT = 512
TASKS = 50


def _read(on: Operands, nbytes: int) -> Runner:
    source, pool = on.buffer(nbytes), on.pool()
    return Runner(lambda: pool.read(source).wait())


def _read_into(on: Operands, nbytes: int) -> Runner:
    source, pool, out = on.buffer(nbytes), on.pool(), np.zeros(nbytes, np.uint8)
    return Runner(lambda: pool.read(source, out=out).wait())


def _read_many(flying: int, on: Operands, nbytes: int) -> Runner:
    source, pool = on.buffer(nbytes), on.pool(flying, nbytes)

    def call() -> None:
        for handle in [pool.read(source) for _ in range(flying)]:
            handle.wait()

    return Runner(call, operations=flying)


def _read_batch(flying: int, on: Operands, nbytes: int) -> Runner:
    """The same reads in one call of the pool's."""
    source = on.buffer(nbytes)
    pool: Any = on.pool(flying, nbytes)
    reads = [ReadRequest(source)] * flying

    def call() -> None:
        for handle in pool.read_many(reads):
            handle.wait()

    return Runner(call, operations=flying)


def _read_asyncio(on: Operands, nbytes: int) -> Runner:
    source, pool = on.buffer(nbytes), on.pool(IN_FLIGHT, nbytes)
    loop = asyncio.new_event_loop()
    on.stack.callback(loop.close)

    async def many() -> None:
        await asyncio.gather(*[pool.read(source) for _ in range(IN_FLIGHT)])

    return Runner(lambda: loop.run_until_complete(many()), operations=IN_FLIGHT)


def _read_among(live: int, on: Operands, nbytes: int) -> Runner:
    """One read after the other, while ``live`` others have landed and not been taken."""
    source, pool = on.buffer(nbytes), on.pool(live + 4, nbytes)
    held = [pool.read(source) for _ in range(live)]
    on.idle()
    on.stack.callback(held.clear)
    return Runner(lambda: pool.read(source).wait())


def _loop_stall(on: Operands, nbytes: int) -> Runner:
    """The longest that the event loop stands still while many tasks read ``nbytes`` each."""
    source, pool = on.buffer(nbytes), on.pool(8, nbytes)
    loop = asyncio.new_event_loop()
    on.stack.callback(loop.close)

    async def one() -> None:
        await (await pool.read_async(source))

    async def stall() -> float:
        longest, last = 0.0, time.perf_counter()
        tasks = asyncio.gather(*(one() for _ in range(TASKS)))
        while not tasks.done():
            await asyncio.sleep(0)
            now = time.perf_counter()
            longest, last = max(longest, now - last), now
        await tasks
        return longest

    return Runner(lambda: loop.run_until_complete(stall()), own_clock=True)


def _lease(on: Operands, nbytes: int) -> Runner:
    source, pool = on.buffer(nbytes), on.pool(2, nbytes)
    return Runner(lambda: pool.read(source).lease().release())


def _texture(on: Operands, nbytes: int) -> Runner:
    """A texture whose rows need padding on every API: 4 × 1001 bytes each."""
    texture, pool = on.device.create_texture(1001, nbytes // 4004), on.pool()
    on.stack.callback(texture.close)
    return Runner(lambda: pool.read(texture).wait())


READING: Mapping[str, Maker] = {
    "read": _read,
    "read-into": _read_into,
    "read-many-8": partial(_read_many, 8),
    "read-many-64": partial(_read_many, 64),
    "read-many": partial(_read_many, IN_FLIGHT),
    "read-batch-8": partial(_read_batch, 8),
    "read-batch-64": partial(_read_batch, 64),
    "read-batch": partial(_read_batch, IN_FLIGHT),
    "read-asyncio": _read_asyncio,
    "read-among-100": partial(_read_among, 100),
    "read-among-10000": partial(_read_among, 10_000),
    "loop-stall": _loop_stall,
    "lease": _lease,
    "texture": _texture,
}
