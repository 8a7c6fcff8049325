"""Aliases of lent memory that other libraries, threads and tasks have; those of numpy are ring.alias."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from forge3d_core import Device, ViewHeld

SIZE = 4096


def _frombuffer(array: Any) -> Any:
    return pytest.importorskip("PIL.Image").frombuffer("L", (64, 64), array, "raw", "L", 0, 1)


def _fromarray(array: Any) -> Any:
    return pytest.importorskip("PIL.Image").fromarray(array)


def _tensor(array: Any) -> Any:
    return pytest.importorskip("torch").from_numpy(array)


def _arrow(array: Any) -> Any:
    return pytest.importorskip("pyarrow").py_buffer(array)


@pytest.mark.parametrize("make", [_frombuffer, _fromarray, _tensor, _arrow])
def test_another_librarys_alias_shows_its_own_slice_for_good(
    device: Device, make: Callable[[Any], Any]
) -> None:
    target = device.create_buffer(SIZE)
    with device.staging_ring(ring_count=1, buffer_size=SIZE) as ring:
        slot = ring.reserve(SIZE)
        slot.view[:] = 7
        alias = make(slot.array("u1", (64, 64)))
        try:
            slot.commit(target)
        except ViewHeld:
            return
        for value in (11, 12):
            ring.advance().wait(20)
            slot = ring.reserve(SIZE)
            slot.view[:] = value
            assert (np.asarray(alias) == 7).all()
            slot.commit(target)
    assert (np.asarray(alias) == 7).all()


@pytest.fixture
def home(device: Device) -> Iterator[Callable[[Any], Any]]:
    with device.readback_pool(max_pending_ops=1, buffer_size=SIZE) as pool:
        yield lambda target: pool.read(target).wait(20)


def test_a_task_and_a_thread_that_have_one_reach_no_other_slice(
    device: Device, home: Callable[[Any], Any], background: Callable[..., Any], patience: float
) -> None:
    """They write on while later slices are written and copied."""
    target, over, begun = device.create_buffer(SIZE), threading.Event(), threading.Event()

    def scribble(alias: memoryview) -> None:
        while not over.is_set():
            alias[:] = bytes([99]) * SIZE
            begun.set()

    async def scribble_in_turns(alias: memoryview) -> None:
        while True:
            alias[:] = bytes([98]) * SIZE
            await asyncio.sleep(0)

    async def stage() -> None:
        with device.staging_ring(ring_count=1, buffer_size=SIZE) as ring:
            slot = ring.reserve(SIZE)
            task = asyncio.create_task(scribble_in_turns(slot.view.data))
            slot.commit(target)
            ring.advance().wait(patience)
            slot = ring.reserve(SIZE, patience)
            writing = background(scribble, slot.view.data)
            assert begun.wait(patience)
            slot.commit(target)
            ring.advance().wait(patience)
            for value in range(1, 9):
                slot = ring.reserve(SIZE, patience)
                slot.view[:] = value
                await asyncio.sleep(0)
                slot.commit(target)
                await asyncio.sleep(0)
                ring.advance().wait(patience)
                assert (home(target) == value).all()
            task.cancel()
            over.set()
            writing.result(patience)

    try:
        asyncio.run(stage())
    finally:
        over.set()
