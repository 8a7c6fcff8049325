"""A process that runs a program many times: it imports once, and forks for each run.

It reads jobs from standard input, a line of JSON each, and answers with a line each. No thread runs in it, so
that forking is safe; where a system cannot fork, each run is a process of its own.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import runpy
import select
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from typing import Any

from forge3d_core.selection.select import load_backend
from forge3d_core.selection.simulated import simulated

KEPT = 4000
"""Characters of what a run printed that are kept: the last."""


def main() -> None:
    """Serve jobs until standard input ends; with arguments, run one job in this very process."""
    if len(sys.argv) > 1:
        os._exit(_run(json.loads(sys.argv[1])))
    warm_up()
    for line in sys.stdin:
        answer = _serve(json.loads(line))
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def warm_up() -> None:
    """Import what every run needs, once."""
    load_backend("host")
    importlib.import_module("forge3d_core.pipeline")


def _serve(job: dict[str, Any]) -> dict[str, Any]:
    begun = time.monotonic()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        run = _forked if hasattr(os, "fork") else _spawned
        code = run(job, out.fileno(), err.fileno())
        return {
            "code": code,  # None: it was stopped, as its time was over
            "seconds": time.monotonic() - begun,
            "stdout": _tail(out),
            "stderr": _tail(err),
        }


def _forked(job: dict[str, Any], out: int, err: int) -> int | None:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setpgid(0, 0)
            os.dup2(out, 1)
            os.dup2(err, 2)
            with open(os.devnull, "rb") as nothing:
                os.dup2(nothing.fileno(), 0)
            code = _run(job)
        finally:
            os._exit(code)
    deadline = time.monotonic() + job["timeout"]
    while (left := deadline - time.monotonic()) > 0:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        select.select([], [], [], min(0.005, left))
    for stop in (os.killpg, os.kill):
        with contextlib.suppress(OSError):
            stop(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def _spawned(job: dict[str, Any], out: int, err: int) -> int | None:
    command = [sys.executable, "-m", "forge3d_core.simulation.child", json.dumps(job)]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, timeout=job["timeout"], check=False
        )
    except subprocess.TimeoutExpired:
        return None
    return done.returncode


def _run(job: dict[str, Any]) -> int:
    """Run the program as ``python program.py`` would, and return its exit status."""
    sys.argv = [job["program"], *job["arguments"]]
    sys.path[0] = os.path.dirname(os.path.abspath(job["program"]))
    code = 0
    try:
        with simulated(job["selector"]):
            runpy.run_path(job["program"], run_name="__main__")
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else 1 if leaving.code else 0
        if code and not isinstance(leaving.code, int):
            print(leaving.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        code = 1
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    return code


def _tail(file: Any) -> str:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - KEPT))
    return str(file.read().decode("utf-8", "replace"))


if __name__ == "__main__":
    main()
