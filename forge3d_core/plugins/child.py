"""The process that a plugin is probed in: it takes a request, answers with one line of JSON, and ends.

What the plugin does to this process (its signal handlers, locale, path, streams, threads, its end) ends
with it.
"""

from __future__ import annotations

import json
import os
import signal
from importlib import metadata
from typing import Any

from forge3d_core.hookspecs import ENTRY_POINT_GROUP
from forge3d_core.plugins.answers import encoded
from forge3d_core.plugins.discovery import Candidate
from forge3d_core.plugins.isolation import contained
from forge3d_core.plugins.loading import load

READY = b"ready\n"
ORPHAN_SECONDS = 30

BOOT = """
import json, os, sys
answers = os.dup(1)
os.dup2(2, 1)
request = json.loads(sys.stdin.buffer.read())
sys.path[:] = request["path"]
from forge3d_core.plugins.child import answer
answer(request, answers)
"""
"""The program of the process, for ``python -c``.

Standard output becomes standard error before the plugin runs, so the pipe that answers go to is one that
``print`` and native code do not know.
"""


def request(candidate: Candidate, path: list[str], import_timeout: float, probe_timeout: float) -> bytes:
    """Return what :func:`answer` is to be asked."""
    return json.dumps(
        {
            "path": path,
            "name": candidate.name,
            "distribution": candidate.distribution,
            "version": candidate.version,
            "target": candidate.target,
            "requires": candidate.requires,
            "import_timeout": import_timeout,
            "probe_timeout": probe_timeout,
        }
    ).encode()


def answer(request: dict[str, Any], answers: int) -> None:
    """Load and probe the plugin, write the answer to that descriptor, and end the process."""
    process = os.getpid()
    _be_bounded(request["import_timeout"] + request["probe_timeout"])
    os.write(answers, READY)
    told = _probed(request)
    if os.getpid() == process:  # a fork of the plugin's comes here as well
        with os.fdopen(answers, "wb", closefd=False) as stream:
            stream.write(json.dumps(told).encode() + b"\n")
    os._exit(0)  # no thread, exit handler or destructor of the plugin's can hold it up


def _be_bounded(seconds: float) -> None:
    """Leave no core file, and no process behind when the one that asked is gone."""
    if hasattr(signal, "alarm"):
        signal.alarm(int(min(seconds + ORPHAN_SECONDS, 2**30)))
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (ImportError, OSError, ValueError):
        pass


def _probed(request: dict[str, Any]) -> dict[str, Any]:
    point = metadata.EntryPoint(request["name"], request["target"], ENTRY_POINT_GROUP)
    candidate = Candidate(
        request["name"],
        request["distribution"],
        request["version"],
        request["target"],
        tuple(request["requires"]),
        fetch=point.load,
    )
    try:
        plugin = load(candidate, request["import_timeout"])
        return encoded(plugin.probe(request["probe_timeout"]))
    except BaseException as error:
        return encoded(contained(error, "probing", candidate.name))
