"""Probing a plugin in a process of its own, so that whatever it does there is done to nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO, Any

from forge3d_core.errors import PluginFailed
from forge3d_core.plugins.answers import decoded
from forge3d_core.plugins.child import BOOT, READY, request
from forge3d_core.plugins.discovery import Candidate
from forge3d_core.plugins.isolation import MAX_SECONDS, Hung
from forge3d_core.printable import escaped
from forge3d_core.protocols import DeviceInfo

START_SECONDS = 60.0
"""How long a fresh interpreter may take until it has imported the core."""

GRACE_SECONDS = 2.0
"""How much later than the process's own time limits it is ended."""

MAX_ANSWER = 4 << 20
LOOK_SECONDS = 0.2  # on Windows a wait does not end for Ctrl-C
INTERPRETERS = ("python", "pypy", "graalpy")


class NoProcess(Exception):
    """No process could be had to probe in; that says nothing about the plugin."""


class RemoteProbe:
    """A plugin being probed in a process that has just been started.

    ``result`` waits for it; ``end`` ends it at any time. Thread-safety: for one thread at a time.
    Raises :class:`NoProcess` where this program has no interpreter that it could start.
    """

    def __init__(self, candidate: Candidate, import_timeout: float, probe_timeout: float) -> None:
        if getattr(sys, "frozen", False) or not _is_interpreter(sys.executable):
            raise NoProcess(sys.executable)
        self.candidate = candidate
        self._seconds = min(import_timeout + probe_timeout + GRACE_SECONDS, MAX_SECONDS)
        self._answer = self._noise = b""
        self._began = False
        self._status: int | None = None
        self._ready, self._ended = threading.Event(), threading.Event()
        options: dict[str, Any] = {"start_new_session": True}
        if os.name == "nt":
            options = {"creationflags": subprocess.CREATE_NO_WINDOW}  # type: ignore[attr-defined]
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", BOOT],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                **options,
            )
        except OSError as error:
            raise NoProcess(str(error)) from error
        stdin, stdout, stderr = self._process.stdin, self._process.stdout, self._process.stderr
        assert stdin is not None
        assert stdout is not None
        assert stderr is not None
        self._readers = [
            threading.Thread(target=read, args=(stream,), name="forge3d probe", daemon=True)
            for read, stream in ((self._read, stdout), (self._hear, stderr))
        ]
        for reader in self._readers:
            reader.start()
        try:
            stdin.write(request(candidate, _path(), import_timeout, probe_timeout))
            stdin.close()
        except OSError:  # it has ended already, which the readers see
            pass

    def result(self) -> tuple[DeviceInfo, ...]:
        """Return the devices that the plugin finds, or raise the :class:`BackendError` that it tells of.

        Raises :class:`NoProcess` when the process ended before the plugin's turn.
        """
        name = self.candidate.name
        try:
            _wait(self._ready, START_SECONDS)
            if not self._began:
                raise NoProcess(f"the process to probe {name} in did not start: {self._last_words()}")
            if not _wait(self._ended, self._seconds):
                raise Hung(
                    f"{name}'s import and probe did not return within {self._seconds:g} s; its process was "
                    "ended",
                    backend=name,
                )
        finally:
            self.end()
        if not self._answer.endswith(b"\n"):
            raise PluginFailed(
                f"{name} ended the process that it was probed in ({self._how()}){self._last_words()}",
                backend=name,
            )
        return decoded(self._answer, name)

    def end(self) -> None:
        """End the process, and what it has begun as long as that is in its group."""
        try:
            if os.name == "posix":
                os.killpg(self._process.pid, signal.SIGKILL)
            else:
                self._process.kill()
        except OSError:
            pass
        self._process.wait()
        for reader, stream in zip(self._readers, (self._process.stdout, self._process.stderr), strict=True):
            reader.join(LOOK_SECONDS)
            if stream is not None and not reader.is_alive():  # else a process that escaped holds the pipe
                stream.close()

    def _read(self, stream: IO[bytes]) -> None:
        try:
            for line in iter(lambda: stream.readline(MAX_ANSWER), b""):
                if line == READY and not self._began:
                    self._began = True
                    self._ready.set()
                else:
                    self._answer = line
                    break
        except (OSError, ValueError):
            pass
        self._status = self._exit_status()
        self._ended.set()
        self._ready.set()

    def _exit_status(self) -> int | None:
        """Return how the process ended by itself, before it is ended for good."""
        try:
            return None if self._answer else self._process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            return None

    def _hear(self, stream: IO[bytes]) -> None:
        """Take what the plugin prints; the end of it may say why the process ended."""
        try:
            while chunk := stream.read1(4096):  # type: ignore[attr-defined]
                self._noise = (self._noise + chunk)[-4096:]
        except (OSError, ValueError):
            pass

    def _how(self) -> str:
        status = self._status
        if status is None:
            return "it closed its pipes"
        if status >= 0:
            return f"exit status {status}"
        try:
            return signal.Signals(-status).name
        except ValueError:
            return f"signal {-status}"

    def _last_words(self) -> str:
        lines = self._noise.decode("utf-8", "replace").strip().splitlines()
        return f"; the last that it said: {escaped(lines[-1], 200)}" if lines else ""


def _wait(event: threading.Event, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        if event.wait(min(left, LOOK_SECONDS)):
            return True
    return event.is_set()


def _is_interpreter(executable: str | None) -> bool:
    """Whether the executable is Python: a program that embeds it would start once more."""
    return bool(executable) and Path(str(executable)).stem.lower().startswith(INTERPRETERS)


def _path() -> list[str]:
    """Return this process's path with the working directory written out, as ``-P`` leaves it out."""
    here: list[str] = []
    for entry in map(str, sys.path):
        try:
            here.append(entry or os.getcwd())
        except OSError:  # it is gone
            pass
    return here
