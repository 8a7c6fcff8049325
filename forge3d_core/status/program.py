"""A program that is run to be looked at: a process, and the board that it and its children tell on."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Self

from forge3d_core.errors import UsageError
from forge3d_core.status.board import VARIABLE, Board

GRACE_SECONDS = 10.0
"""How long a program that was interrupted may take to end."""


class Watching:
    """Runs ``script`` as ``python script`` would, in the caller's terminal, and has it tell what it holds.

    What it prints goes to ``output``, a file descriptor, or comes out of ``lines`` where that is None. Use it
    in a ``with`` block, which ends the program if it still runs.
    """

    def __init__(self, script: Path, arguments: Sequence[str], output: int | None) -> None:
        if not script.is_file():
            raise UsageError(f"{str(script)!r} is no file; give a Python script")
        self._folder = tempfile.TemporaryDirectory(prefix="forge3d-top-")  # the user's alone: mode 0700
        self.board = Board(Path(self._folder.name), False)
        unbuffered = ["-u"] if output is None else []  # what it prints is shown as it comes
        self._process = subprocess.Popen(
            [sys.executable, *unbuffered, str(script), *arguments],
            env={**os.environ, VARIABLE: self._folder.name},
            stdout=subprocess.PIPE if output is None else output,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )

    @property
    def lines(self) -> IO[str]:
        """What it prints, both streams together, until it has ended."""
        assert self._process.stdout is not None
        return self._process.stdout

    def wait(self, seconds: float | None = None) -> int | None:
        """Return the exit status as a shell has it, None if it still runs after so many seconds."""
        try:
            code = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
        return code if code >= 0 else 128 - code

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        try:
            if kind is KeyboardInterrupt:  # which the terminal sent to the program as well
                self.wait(GRACE_SECONDS)
            if self._process.poll() is None:
                self._process.send_signal(signal.SIGTERM)
                if self.wait(GRACE_SECONDS) is None:
                    self._process.kill()
                    self._process.wait()
        finally:
            if self._process.stdout is not None:
                self._process.stdout.close()
            with contextlib.suppress(OSError):  # a child of the program may be just telling
                self._folder.cleanup()
