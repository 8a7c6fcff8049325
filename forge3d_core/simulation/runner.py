"""Runs of a program under many seeds, several at once, and which of them failed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

import attrs

from forge3d_core.arguments import at_least
from forge3d_core.errors import PluginFailed, UsageError
from forge3d_core.simulation.plan import PLAIN, Trial

DEFAULT_TIMEOUT = 20.0

ATTEMPTS = 5
"""A program that a race breaks now and then holds in one of so many plain runs."""


@attrs.frozen
class Program:
    """A script and its arguments; ``timeout`` is the seconds that one run may take."""

    path: Path = attrs.field(converter=Path)
    arguments: tuple[str, ...] = ()
    timeout: float = DEFAULT_TIMEOUT

    @path.validator
    def _is_there(self, _attribute: object, value: Path) -> None:
        if not value.is_file():
            raise UsageError(f"{str(value)!r} is no file; give a Python script")


@attrs.frozen
class Outcome:
    """How one run ended. ``why`` is empty where it held."""

    trial: Trial
    code: int | None  # None: it hung, and was stopped
    seconds: float
    stdout: str = attrs.field(repr=False)
    stderr: str = attrs.field(repr=False)

    @property
    def error(self) -> str:
        """The last line that it wrote to standard error."""
        lines = self.stderr.strip().splitlines()
        return lines[-1] if lines else ""

    @property
    def held(self) -> bool:
        """Whether the program bore it: it ended well, or with forge3d's own error for the fault it had."""
        return self.code == 0 or (self.code == 1 and self._expected())

    @property
    def why(self) -> str:
        """Why it did not hold, in a line."""
        if self.held:
            return ""
        if self.code is None:
            return f"it hung, and was stopped after {self.seconds:.0f} s"
        if self.code < 0:
            return f"signal {-self.code} ended it"
        return self.error or f"it ended with {self.code}"

    def _expected(self) -> bool:
        wanted = {"refusals": ("OutOfDeviceMemory",), "losses": ("DeviceLost",), None: ()}[self.trial.fault]
        return any(self.error.startswith((f"forge3d_core.errors.{name}", name)) for name in wanted)


class Runner:
    """Processes that run a program, ``jobs`` at once. Close it, or use it in a ``with`` block."""

    def __init__(self, program: Program, jobs: int | None = None) -> None:
        self.program = program
        self._count = at_least(1, "jobs", jobs or os.cpu_count() or 1)
        self._free: SimpleQueue[subprocess.Popen[str]] = SimpleQueue()
        self._processes: list[subprocess.Popen[str]] = []

    def reference(self) -> Outcome:
        """Run the program without any simulation: what fails each time then is no matter of timing."""
        for _ in range(ATTEMPTS):
            outcome = self.run(Trial(0, PLAIN))
            if outcome.held:
                break
        return outcome

    def run_all(
        self, trials: Iterable[Trial], each: Callable[[Outcome], None], *, enough: int | None = None
    ) -> list[Outcome]:
        """Run ``trials``, call ``each`` as they end, and return those that did not hold, smallest seed first.

        ``enough``: after so many failures no further one begins.
        """
        failures: list[Outcome] = []

        def run(one: Trial) -> None:
            if enough is not None and len(failures) >= enough:
                return
            outcome = self.run(one)
            if not outcome.held:
                failures.append(outcome)
            each(outcome)

        with ThreadPoolExecutor(self._count, "forge3d-simulate") as threads:
            for _ in threads.map(run, trials):
                pass
        return sorted(failures, key=lambda outcome: outcome.trial.seed)

    def run(self, one: Trial) -> Outcome:
        """Run the program once; any thread."""
        process = self._take()
        job = {
            "program": str(self.program.path.resolve()),
            "arguments": list(self.program.arguments),
            "selector": one.selector,
            "timeout": self.program.timeout,
        }
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(job) + "\n")
        process.stdin.flush()
        line = process.stdout.readline()
        if not line:
            raise PluginFailed("the process that runs the program ended by itself", backend="host")
        self._free.put(process)
        answer = json.loads(line)
        return Outcome(one, answer["code"], answer["seconds"], answer["stdout"], answer["stderr"])

    def close(self) -> None:
        """End the processes."""
        for process in self._processes:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.close()
            process.wait()
            process.stdout.close()
        self._processes.clear()

    def __enter__(self) -> Runner:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _take(self) -> subprocess.Popen[str]:
        if self._free.empty() and len(self._processes) < self._count:
            environ = {**os.environ, "PYTHONHASHSEED": "0"}
            command: Sequence[str] = [sys.executable, "-m", "forge3d_core.simulation.child"]
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environ
            )
            self._processes.append(process)
            return process
        return self._free.get()
