"""Programs of their own, for what ends an interpreter."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[2]

OPEN = """
    import threading
    from forge3d_core.device.device import assemble
    from forge3d_core.host.driver import HostDriver
    from forge3d_core.host.machine import HostMachine
    from forge3d_core.protocols import KernelSource
    device = assemble(HostDriver(HostMachine()))
    buffer = device.create_buffer(64)
"""


def run_script(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(script)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=9,  # less than drain_timeout: who waits for that fails
        check=False,
    )
