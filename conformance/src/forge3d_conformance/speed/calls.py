"""Python calls per operation: the measure that no machine blurs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import attrs
import numpy as np

from forge3d_conformance.kernels import INCREMENT
from forge3d_core.protocols import Device

WARM_UP = 8
REPEATS = 5


@attrs.frozen
class CallCount:
    """How many Python functions the calling thread enters for one operation, its wait included.

    ``files``: how many source files those functions lie in.
    """

    operation: str
    calls: int
    files: int


def count_calls(device: Device) -> tuple[CallCount, ...]:
    """Return the counts of five operations in the steady state, the least of some repeats each.

    Waits that find their work done enter fewer functions than those that do not, hence the least.
    """
    with _operations(device) as operations:
        return tuple(_count(name, operation) for name, operation in operations.items())


@contextmanager
def _operations(device: Device) -> Iterator[dict[str, Callable[[], object]]]:
    data = np.ones(4096, np.uint8)
    buffer, kernel = device.create_buffer(4096), device.create_kernel(INCREMENT)
    with device.staging_ring() as ring, device.readback_pool() as pool:

        def stage() -> None:
            ring.reserve(4096).commit(buffer)
            ring.advance().wait()

        def dispatch() -> None:
            commands = device.command_list().dispatch(kernel, [buffer], [1, 256], threads=256)
            device.submit(commands).wait()

        yield {
            "reserve + commit + advance + wait": stage,
            "upload of 4 KiB + wait": lambda: ring.upload(data, buffer).wait(),
            "record + submit + wait, one dispatch": dispatch,
            "read + wait, 4 KiB": lambda: pool.read(buffer).wait(),
            "submit of an empty list + wait": lambda: device.submit(device.command_list()).wait(),
        }
    buffer.close()


def _count(name: str, operation: Callable[[], object]) -> CallCount:
    for _ in range(WARM_UP):
        operation()
    return min((_profile(name, operation) for _ in range(REPEATS)), key=lambda count: count.calls)


def _profile(name: str, operation: Callable[[], object]) -> CallCount:
    calls = 0
    files: set[str] = set()

    def note(frame: FrameType, event: str, _argument: object) -> None:
        nonlocal calls
        if event == "call":
            calls += 1
            files.add(frame.f_code.co_filename)

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        operation()
    finally:
        sys.setprofile(before)
    return CallCount(name, calls - 1, len(files) - 1)  # but for the operation's own frame here
