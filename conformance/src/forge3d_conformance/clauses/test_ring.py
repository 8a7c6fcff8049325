"""The ring itself: where slices lie, what fits, how many blocks there are, and what its figures say."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from forge3d_conformance.bench import Bench
from forge3d_conformance.clauses.ring_model import RingModel
from forge3d_conformance.clauses.staging import BLOCK, landed, pattern, put, take
from forge3d_conformance.waiting import PROMPT
from forge3d_core.errors import FenceTimeout, TooLarge, UsageError
from forge3d_core.protocols import StagingRing, StagingSlice


@pytest.mark.clause("ring.aligned")
@given(data=st.data())
def test_every_slice_starts_aligned_and_has_its_size(bench: Bench, data: st.DataObject) -> None:
    with bench.open() as device:
        alignment = device.limits.staging_alignment
        around = (1, 2, 3, 5, alignment - 1, alignment, alignment + 1, 3 * alignment + 7)
        sizes = data.draw(st.permutations([size for size in around if size]))
        block = max(BLOCK, 16 * alignment)
        ring = device.staging_ring(ring_count=2, buffer_size=block)
        slots = [take(ring, size) for size in sizes]
        for size, slot in zip(sizes, slots, strict=True):
            bench.check(slot.offset % alignment == 0, f"offset {slot.offset} is not aligned to {alignment}")
            bench.check(slot.offset + slot.nbytes <= block, f"a slice ends past its block of {block} bytes")
            seen = slot.nbytes, slot.view.nbytes, slot.array(np.uint8).nbytes
            bench.check(seen == (size,) * 3, f"nbytes, view and array say {seen} where {size} were asked for")


@pytest.mark.clause("ring.disjoint")
def test_live_slices_never_share_a_byte(bench: Bench) -> None:
    class Slices(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.device = bench.open()
            self.ring = self.device.staging_ring(ring_count=3, buffer_size=1000)
            self.target = self.device.create_buffer(64 * 1024)
            self.wanted = np.zeros(self.target.nbytes, np.uint8)
            self.live: list[tuple[StagingSlice, int]] = []
            self.made = self.end = 0

        @rule(nbytes=st.integers(1, 400))
        def write(self, nbytes: int) -> None:
            self.device.wait_idle(bench.patience)  # whether there is room must not hang on the device's pace
            slot = self.ring.allocate(nbytes)
            if slot is not None:
                self.made += 1
                slot.view[:] = pattern(self.made, nbytes)
                self.live.append((slot, self.made))

        @precondition(lambda self: self.live)
        @rule(data=st.data())
        def commit(self, data: st.DataObject) -> None:
            slot, key = self.live.pop(data.draw(st.integers(0, len(self.live) - 1)))
            slot.commit(self.target, self.end)
            self.wanted[self.end : self.end + slot.nbytes] = pattern(key, slot.nbytes)
            self.end += slot.nbytes

        @precondition(lambda self: self.live)
        @rule()
        def release(self) -> None:
            self.live.pop()[0].release()

        @precondition(lambda self: not self.live)
        @rule()
        def advance(self) -> None:
            bench.wait(self.ring.advance())

        @invariant()
        def own_bytes(self) -> None:
            for slot, key in self.live:
                bench.same(slot.view, pattern(key, slot.nbytes), "a live slice shows what others wrote")

        def teardown(self) -> None:
            while self.live:
                self.commit_last()
            bench.wait(self.ring.advance())
            seen = landed(bench, self.device, self.target)
            bench.same(seen, self.wanted, "the device shows bytes of other slices")
            self.device.close()

        def commit_last(self) -> None:
            slot, key = self.live.pop()
            slot.commit(self.target, self.end)
            self.wanted[self.end : self.end + slot.nbytes] = pattern(key, slot.nbytes)
            self.end += slot.nbytes

    bench.machine(Slices)


@pytest.mark.clause("ring.disjoint")
def test_slices_of_several_threads_never_share_a_byte(bench: Bench) -> None:
    threads, each, nbytes = 4, 6, 333
    device = bench.open()
    room = max(512, device.limits.staging_alignment)
    ring = device.staging_ring(ring_count=2, buffer_size=threads * each * room)
    target = device.create_buffer(threads * each * nbytes)
    full = threading.Barrier(threads)

    def work(thread: int) -> None:
        keys = [thread * each + i for i in range(each)]
        slots = []
        for _ in keys:
            full.wait(bench.patience)  # so that all threads allocate at the same moment
            slots.append(take(ring, nbytes))
        for key, slot in zip(keys, slots, strict=True):
            slot.view[:] = pattern(key, nbytes)
        full.wait(bench.patience)
        for key, slot in zip(keys, slots, strict=True):
            bench.same(slot.view, pattern(key, nbytes), "a live slice shows what others wrote")
            slot.commit(target, key * nbytes)

    with bench.racing():
        futures = [bench.thread(lambda thread=thread: work(thread)) for thread in range(threads)]
        for future in futures:
            bench.result(future)
    bench.wait(ring.advance())
    wanted = np.concatenate([pattern(key, nbytes) for key in range(threads * each)])
    bench.same(landed(bench, device, target), wanted, "the device shows bytes of other slices")


@pytest.mark.clause("ring.wraps")
@given(
    ring_count=st.integers(1, 4),
    pieces=st.lists(st.tuples(st.integers(1, 1000), st.integers(0, 200), st.booleans()), max_size=20),
)
def test_a_full_block_is_left_for_the_next(
    bench: Bench, ring_count: int, pieces: list[tuple[int, int, bool]]
) -> None:
    with bench.open() as device:
        ring = device.staging_ring(ring_count=ring_count, buffer_size=1000)
        model = RingModel(ring_count, 1000, device.limits.staging_alignment)
        target = device.create_buffer(1200)
        wanted = np.zeros(target.nbytes, np.uint8)
        for key, (nbytes, offset, advance) in enumerate(pieces):
            place = model.allocate(nbytes)
            if place is None:  # one block: reserve submits it and waits
                model.advance()
                model.complete()
                place = model.allocate(nbytes)
            assert place is not None
            slot = ring.reserve(nbytes, bench.patience)
            bench.check(
                slot.ring_index == place[0],
                f"slice {key} of {nbytes} bytes lies in block ring_index {slot.ring_index}, not {place[0]}",
            )
            slot.view[:] = pattern(key, nbytes)
            slot.commit(target, offset)
            wanted[offset : offset + nbytes] = pattern(key, nbytes)
            model.commit(place[0], nbytes)
            if advance:
                ring.advance(bench.patience)
                model.advance()
            model.complete()  # reserve waits for what the device has not finished
        bench.wait(ring.advance())
        bench.same(landed(bench, device, target), wanted, "what the device holds after wrapping around")


def _fits_and_does_not(bench: Bench, ring: StagingRing, size: int, ask: Callable[..., Any]) -> None:
    for nbytes in (size + 1, size + 3, 2 * size, 1 << 40):
        with bench.raises(TooLarge, f"allocate({nbytes}) of blocks of {size}"):
            ask(ring.allocate, nbytes)
        with bench.raises(TooLarge, f"reserve({nbytes}) of blocks of {size}"):
            ask(ring.reserve, nbytes)


def _full_is_not_too_large(bench: Bench, ring: StagingRing, size: int, ask: Callable[..., Any]) -> None:
    for nbytes in (1, size - 1, size):
        bench.check(ask(ring.allocate, nbytes) is None, f"allocate({nbytes}) of a full ring found room")
        with bench.raises(FenceTimeout, f"reserve({nbytes}) of a full ring"):
            ask(ring.reserve, nbytes, 0)


@pytest.mark.clause("ring.too-large", requires=())
@pytest.mark.parametrize("size", [1000, 1024])
def test_too_large_is_not_full(bench: Bench, size: int) -> None:
    ring = bench.open().staging_ring(ring_count=2, buffer_size=size)
    before, ask = ring.stats(), partial(bench.within, PROMPT, "a request that cannot be served")
    _fits_and_does_not(bench, ring, size, ask)
    bench.check(ring.stats() == before, f"a refusal changed {before} to {ring.stats()}")
    take(ring, size - 1).release()
    ring.advance()
    open_slices = [take(ring, size), take(ring, size)]
    _fits_and_does_not(bench, ring, size, ask)
    _full_is_not_too_large(bench, ring, size, ask)
    for slot in open_slices:
        slot.release()


@pytest.mark.clause("ring.too-large")
def test_too_large_is_not_in_flight(bench: Bench) -> None:
    device = bench.open()
    ring = device.staging_ring(ring_count=2, buffer_size=1000)
    target = device.create_buffer(1000)
    with bench.hold(device, "upload") as hold:
        for key in range(2):
            put(ring, pattern(key, 1000), target)
            ring.advance()
        hold.observe(_fits_and_does_not, bench, ring, 1000, hold.promptly)
        hold.observe(_full_is_not_too_large, bench, ring, 1000, hold.promptly)


@pytest.mark.clause("ring.count")
def test_one_to_eight_blocks(bench: Bench) -> None:
    device = bench.open()
    for count in range(1, 9):
        with device.staging_ring(ring_count=count, buffer_size=512) as ring:
            seen = ring.ring_count, ring.stats().ring_count
            bench.check(seen == (count, count), f"a ring of {count} blocks says it has {seen}")
            slots = [ring.allocate(512) for _ in range(count)]
            bench.check(all(slots), f"{slots.count(None)} of {count} blocks could not be had")
            bench.check(ring.allocate(512) is None, f"a ring of {count} blocks has one block more")
            for slot in slots:
                assert slot is not None
                slot.release()
            ring.advance()
            rounds = 2 * count + 1
            target = device.create_buffer(rounds * 512)
            first = ring.stats().current_ring_index
            for key in range(rounds):
                slot = ring.reserve(512, bench.patience)
                bench.check(
                    slot.ring_index == (first + key) % count,
                    f"slice {key} of a ring of {count} lies in block {slot.ring_index}",
                )
                slot.view[:] = pattern(key, 512)
                slot.commit(target, key * 512)
                point = ring.advance(bench.patience)
            bench.wait(point)
            wanted = np.concatenate([pattern(key, 512) for key in range(rounds)])
            bench.same(landed(bench, device, target), wanted, f"through a ring of {count} blocks")


@pytest.mark.clause("ring.count")
@pytest.mark.parametrize("count", [0, 9, -1, 1000, 1.5, "3", None])
def test_other_counts_are_refused(bench: Bench, count: Any) -> None:
    device = bench.open()
    before = device.budget.metrics()
    with bench.raises(UsageError, f"a ring of {count!r} blocks"):
        device.staging_ring(ring_count=count, buffer_size=64)
    bench.check(device.budget.metrics() == before, f"the refusal of {count!r} blocks left something behind")
