"""A run shared out to worker processes: each takes the next part that none has taken."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path

import attrs

from forge3d_conformance.events import Event
from forge3d_conformance.process import SuiteProcess, suite_process

LOOK_SECONDS = 0.05

DEVICE_JOBS = 4
"""Processes at most that share a device which is no processor: each holds memory and queues of it."""

WORTHWHILE = 8
"""Parts of a run for each process: to start one, which collects all tests, takes seconds."""


def sensible_jobs(kind: str, parts: int) -> int:
    """Return how many processes should test so many parts on a device of this kind and this machine."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores if kind == "cpu" else DEVICE_JOBS, cores, max(parts // WORTHWHILE, 1))


@attrs.frozen
class Claims:
    """Parts of a run that one process each takes, noted as files in a folder that all of them see."""

    folder: Path

    def take(self, part: str) -> bool:
        """Whether the part is this process's: the first that asks for it has it."""
        try:
            (self.folder / sha256(part.encode()).hexdigest()).touch(exist_ok=False)
        except FileExistsError:
            return False
        return True


def share_out(
    arguments: Sequence[str], jobs: int, tell: Callable[[Event], None], within: Path | None
) -> Iterator[str]:
    """Run the suite in ``jobs`` processes; ``tell`` gets the events of all. Yield why one came to no end.

    Their files lie in a folder ``within`` the one that the caller's parent removes, should this end early.
    """
    with tempfile.TemporaryDirectory(prefix="forge3d-workers-", dir=within) as folder, ExitStack() as stack:
        claims = Path(folder, "claims")
        claims.mkdir()
        more = [*arguments, "--claims", str(claims)]
        workers = [
            stack.enter_context(suite_process(more, Path(folder), f"-{number}")) for number in range(jobs)
        ]
        try:
            _follow(workers, tell)
        except BaseException:
            for worker in workers:
                worker.process.terminate()
            for worker in workers:
                worker.end(told=True)
            raise
        for worker in workers:
            if worker.last is None:
                tail = worker.output.read_text("utf-8", "replace").splitlines()[-3:]
                yield f"{worker.how()}; its last lines: {' / '.join(tail)}"


def _follow(workers: Sequence[SuiteProcess], tell: Callable[[Event], None]) -> None:
    pause = threading.Event()
    while not all(worker.ended for worker in workers):
        for worker in workers:
            for event in worker.news():
                if event["event"] in ("start", "test"):
                    tell(event)
        pause.wait(LOOK_SECONDS)
