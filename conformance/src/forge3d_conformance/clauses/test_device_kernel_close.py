"""Kernels that are given back before their device closes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from forge3d_conformance.bench import Bench
from forge3d_conformance.clauses.lanes import contents
from forge3d_core.errors import Closed
from forge3d_core.protocols import Buffer, CommandList, Device

WORDS = 64


def _adding(device: Device, kernel: Any, buffer: Buffer, **options: Any) -> CommandList:
    return device.command_list(**options).dispatch(kernel, [buffer], [3, WORDS], threads=WORDS)


def _shows(bench: Bench, device: Device, buffer: Buffer, value: int, what: str) -> None:
    bench.same(contents(bench, device, buffer).view(np.uint32), np.full(WORDS, value, np.uint32), what)


@pytest.mark.clause("device.kernel-close")
def test_what_runs_it_ends_and_nothing_runs_it_anew(bench: Bench) -> None:
    device = bench.open()
    kernel: Any = device.create_kernel(bench.kernel("increment"))
    other = device.create_kernel(bench.kernel("mirror"))
    buffer, copied = device.create_buffer(4 * WORDS), device.create_buffer(4 * WORDS)
    late = _adding(device, kernel, buffer)
    with bench.hold(device):
        for _ in range(3):
            device.submit(_adding(device, kernel, buffer))
        kernel.close()
        kernel.close()
        bench.check(kernel.closed, "a kernel that was closed does not say so")
        with bench.raises(Closed, "recording a dispatch of a closed kernel"):
            _adding(device, kernel, buffer)
        with bench.raises(Closed, "submitting a list with a closed kernel"):
            device.submit(late)
    _shows(bench, device, buffer, 9, "what was submitted before its kernel was closed")
    device.submit(device.command_list().dispatch(other, [buffer, copied], [WORDS], threads=WORDS))
    _shows(bench, device, copied, 9, "another kernel")


@pytest.mark.clause("device.kernel-close")
def test_its_source_is_compiled_again(bench: Bench) -> None:
    device = bench.open()
    source = bench.kernel("increment")
    buffer = device.create_buffer(4 * WORDS)
    for times in range(1, 4):
        with device.create_kernel(source) as kernel:  # type: ignore[attr-defined]
            bench.check(not kernel.closed, f"kernel {times} of one source is closed from the start")
            device.submit(_adding(device, kernel, buffer))
        _shows(bench, device, buffer, 3 * times, f"kernel {times} of one source")


@pytest.mark.clause("device.kernel-close", requires=("reusable_lists",))
def test_a_list_that_ran_it_before_is_refused(bench: Bench) -> None:
    device = bench.open()
    kernel: Any = device.create_kernel(bench.kernel("increment"))
    buffer = device.create_buffer(4 * WORDS)
    commands = _adding(device, kernel, buffer, reusable=True)
    for _ in range(3):
        device.submit(commands)
    kernel.close()
    with bench.raises(Closed, "submitting again a list whose kernel was closed"):
        device.submit(commands)
    _shows(bench, device, buffer, 9, "a list that was submitted before its kernel was closed")
