"""Ctrl-C, hundreds of times or at every moment: afterwards ring, pool and device work, and threads start."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

HERE = Path(__file__).parent

STORM = """
    import random, signal, sys
    import numpy as np
    import forge3d_core as forge3d

    interrupts, wanted = 0, 300
    draw = random.Random(int(sys.argv[1]))
    device = forge3d.open_device("host")
    buffer, data = device.create_buffer(1 << 16), np.arange(1 << 16, dtype=np.uint8)
    ring, pool = device.staging_ring(buffer_size=1 << 14), device.readback_pool()

    def interrupt(*_):
        raise KeyboardInterrupt

    def work():
        # It comes again: one that falls into a finalizer Python itself swallows.
        signal.setitimer(signal.ITIMER_REAL, draw.uniform(2e-4, 2e-3), 0.02)
        while True:
            ring.upload(data, buffer)
            pool.read(buffer).wait()

    signal.signal(signal.SIGALRM, interrupt)
    while interrupts < wanted:
        try:
            work()
        except KeyboardInterrupt:
            signal.setitimer(signal.ITIMER_REAL, 0)
            interrupts += 1
    for _ in range(8):
        ring.upload(data, buffer, timeout=20)
        assert (pool.read(buffer).wait(20) == data).all()
    device.close()
    print("whole")
"""


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs POSIX interval timers")
@pytest.mark.parametrize("seed", range(3))
def test_a_storm_of_interrupts_leaves_everything_whole(seed: int) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(STORM), str(seed)], capture_output=True, text=True, timeout=120
    )
    assert ended.stdout.strip() == "whole", ended.stderr
    assert ended.returncode == 0


# A process of its own: an interrupt may leave a thread that never gets to its start, or its name behind.
STARTS = """
    import threading
    from forge3d_core import driver
    from interrupts import interrupters, while_handling

    def start():
        driver.start_thread(threading.Thread(target=str, daemon=True))

    for call in (start, lambda: while_handling(start)):
        for interrupter in interrupters(driver, threading):
            interrupter.run(call)
    print("interrupts, and nothing else")
"""


def test_an_interrupt_anywhere_in_the_start_of_a_thread_is_an_interrupt() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(STARTS)], capture_output=True, text=True, timeout=120, cwd=HERE
    )
    assert ended.stdout.strip() == "interrupts, and nothing else", ended.stderr
