"""The buffers of a triple buffer: each goes its round, and is in one hand at a time."""

from __future__ import annotations

import threading
from collections import Counter

import pytest

from forge3d_conformance.bench import Bench
from forge3d_conformance.clauses.lanes import fill
from forge3d_core.pipeline import BufferState, TripleBuffer, TripleSlot

NBYTES = 256
TAKES = ("get_upload_buffer", "get_process_buffer", "get_download_buffer")
WEIGHTS = (0.35, 0.2, 0.2, 0.2, 0.05)
"""How often a walk takes from each state, gives up, and abandons: buffers have to queue."""

STATES = (BufferState.UPLOADING, BufferState.PROCESSING, BufferState.DOWNLOADING)


@pytest.mark.clause("pipeline.states")
def test_buffers_go_their_round_and_no_other_way(bench: Bench) -> None:
    device = bench.open()
    lanes = [device.lanes[role].name for role in ("upload", "compute", "download")]
    with bench.make(TripleBuffer, device, NBYTES) as triple:
        queues: list[list[TripleSlot]] = [[], [], []]  # the model: which is in which state, oldest first
        for _ in range(bench.scale(200, 3000)):
            move = int(bench.random.choice(len(WEIGHTS), p=WEIGHTS))
            what = f"{(*TAKES, 'advance', 'abandon')[move]} with {[len(queue) for queue in queues]} under way"
            if bench.random.integers(2):
                device.wait_idle(bench.patience)  # what was given up is free from now on
            if move < len(TAKES):
                slot = getattr(triple, TAKES[move])()
                wanted = queues[move - 1][0] if move and queues[move - 1] else None
                if move:
                    bench.check(slot is wanted, f"{what} gave {slot!r} and not {wanted!r}")
                else:
                    taken = [each for queue in queues for each in queue]
                    bench.check(
                        all(slot is not each for each in taken), f"{what} gave {slot!r}, which is taken"
                    )
                if slot is None:
                    continue
                if move:
                    queues[move - 1].pop(0)
                queues[move].append(slot)
                bench.check(slot.state is STATES[move], f"{what} left {slot!r}")
                if bench.random.integers(4) == 0:
                    early = getattr(triple, TAKES[move + 1])() if move < 2 else triple.advance()
                    behind = queues[move][0]
                    if behind is slot:
                        bench.check(early is None, f"a buffer that is not submitted went on: {early!r}")
                    elif early is not None:  # the one before it, whose turn it was
                        queues[move].pop(0)
                        if move < 2:
                            queues[move + 1].append(early)
                            early.submitted(fill(device, early.buffer, move, lanes[move + 1]))
                slot.submitted(fill(device, slot.buffer, move, lanes[move]))
            elif move == len(TAKES):
                slot = triple.advance()
                wanted = queues[2].pop(0) if queues[2] else None
                bench.check(slot is wanted, f"{what} gave up {slot!r} and not {wanted!r}")
            elif any(queues):
                queue = next(queue for queue in queues if queue)
                triple.abandon(queue.pop())
            states = Counter(triple.get_states())
            for state, queue in zip(STATES, queues, strict=True):
                most = len(queue) + (len(triple.slots) - sum(map(len, queues)))
                bench.check(len(queue) <= states[state] <= most, f"after {what}: {dict(states)}")
        device.wait_idle(bench.patience)
        free = len(triple.slots) - sum(map(len, queues))
        seen = triple.get_states().count(BufferState.FREE)
        bench.check(seen == free, f"{seen} buffers are free of {free} that were given up")


@pytest.mark.clause("pipeline.states", requires=("hold",))
def test_a_buffer_is_free_when_the_device_is_done_with_it(bench: Bench) -> None:
    device = bench.open()
    role = "download"
    with bench.make(TripleBuffer, device, NBYTES, count=1) as triple:
        with bench.hold(device, role) as hold:
            for take in TAKES:
                slot = getattr(triple, take)()
                bench.check(slot is not None, f"{take} gave none of a triple buffer whose turn it was")
                slot.submitted(fill(device, slot.buffer, 1, device.lanes[role].name))
            triple.advance()
            free = hold.observe(triple.get_upload_buffer)
            bench.check(free is None, "a buffer is free while the device has yet to read it")
            states = hold.observe(triple.get_states)
            bench.check(BufferState.FREE not in states, f"the device works on a buffer that is {states}")
        got = triple.get_upload_buffer(bench.patience)
        bench.check(got is slot, f"once read the buffer does not come back: {got!r}")


@pytest.mark.clause("pipeline.states")
def test_threads_never_have_one_buffer_at_once(bench: Bench) -> None:
    device = bench.open()
    with bench.make(TripleBuffer, device, NBYTES) as triple:
        rounds, hands, lock = bench.scale(60, 2000), Counter[int](), threading.Lock()
        over = threading.Event()

        def stage(take: str, number: int, last: bool) -> int:
            done = idle = 0
            while done < number and not over.is_set():
                slot = getattr(triple, take)()
                if slot is None:
                    idle += 1
                    over.wait(0.0005)
                    continue
                with lock:
                    hands[slot.index] += 1
                    shared = hands[slot.index]
                bench.check(shared == 1, f"buffer {slot.index} is in {shared} hands after {take}")
                point = fill(device, slot.buffer, done % 256, device.lanes["compute"].name)
                with lock:
                    hands[slot.index] -= 1
                slot.submitted(point)
                if last:
                    while triple.advance() is None:
                        over.wait(0.0005)
                done += 1
            return done

        with bench.racing():
            workers = [bench.thread(stage, take, rounds, take == TAKES[2]) for take in TAKES]
            try:
                done = [bench.result(worker, "a stage of a triple buffer") for worker in workers]
            finally:
                over.set()
        bench.check(done == [rounds] * 3, f"{done} rounds of {rounds} came to their end")
