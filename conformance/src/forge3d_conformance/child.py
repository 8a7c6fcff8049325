"""Programs that a clause test runs in a fresh interpreter, over the same backend with the same defect.

The parent's :meth:`Bench.child` sets the environment; ``from forge3d_conformance.child import bench`` in the
program reads it. The bench is closed by nobody: what happens at the end is often what is tested. To make a
bench opens a device; a program about what comes before that imports ``backend`` instead.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import Any

import attrs

from forge3d_conformance.lifeline import end_with, lifeline

ENVIRONMENT = "FORGE3D_CONFORMANCE_BENCH"


@attrs.frozen
class Ended:
    """How a child process ended; ``status`` is None where it had to be killed."""

    status: int | None
    stdout: str
    stderr: str
    seconds: float

    def __str__(self) -> str:
        how = "was killed" if self.status is None else f"ended with status {self.status}"
        return f"the child {how} after {self.seconds:.1f} s; it said {(self.stderr or self.stdout)[-500:]!r}"


def run(source: str, settings: dict[str, Any], patience: float, environment: dict[str, str]) -> Ended:
    """Run ``source`` with ``python -c`` for at most ``patience`` seconds, and no longer than this process."""
    started = time.perf_counter()
    status: int | None = None
    with (
        lifeline() as held,
        subprocess.Popen(
            [sys.executable, "-P", "-c", source],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment, ENVIRONMENT: json.dumps({**settings, "lifeline": held})},
            pass_fds=held,
        ) as process,
    ):
        try:
            stdout, stderr = process.communicate(timeout=patience)
            status = process.returncode
        except subprocess.TimeoutExpired:
            process.kill()
            stdout, stderr = process.communicate()
        except BaseException:
            process.kill()
            raise
    return Ended(status, stdout, stderr, time.perf_counter() - started)


def __getattr__(name: str) -> Any:
    if name not in ("bench", "backend"):
        raise AttributeError(name)
    from forge3d_conformance.bench import Bench
    from forge3d_conformance.mutants import named
    from forge3d_conformance.target import find_backend, find_target

    settings = json.loads(os.environ[ENVIRONMENT])
    for end in settings["lifeline"]:
        end_with(end)
    mutant = named(*settings["mutant"]) if settings["mutant"] else None
    if name == "backend":
        found = find_backend(settings["spec"])
        return mutant.layer().wrap("Backend", found) if mutant else found
    made = globals()["bench"] = Bench(
        find_target(settings["spec"]), settings["name"], settings["level"], settings["seed"], mutant
    )
    return made
