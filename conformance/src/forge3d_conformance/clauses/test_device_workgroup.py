"""Workgroups: a dispatch runs every thread that was asked for, or is refused."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import attrs
import numpy as np
import pytest

from forge3d_conformance.bench import Bench
from forge3d_conformance.clauses.lanes import contents
from forge3d_core.errors import KernelError
from forge3d_core.protocols import Device, KernelSource

SIZES = (16, 32, 64, 128)
COUNT = 1009  # a prime: the last group of any size is not full

WGSL = {
    "as it is": ("64", ""),
    "with a suffix": ("64u", ""),
    "in hexadecimal": ("0x40", ""),
    "as a sum": ("16 * 2 + 32", ""),
    "as a constant": ("GROUP", "const GROUP = 64u;"),
    "as an override": ("GROUP", "override GROUP: u32 = 64;"),
}
"""How a shader may say 64: what stands in @workgroup_size, and what it needs at the end of the module."""


def variants(source: KernelSource) -> Iterator[tuple[str, KernelSource]]:
    """Yield the kernel with each size of workgroup, however its source may say that of its own."""
    for size in SIZES:
        for how, (argument, declared) in WGSL.items():
            sources: dict[str, Any] = dict(source.sources)
            if "wgsl" in sources:
                code = re.sub(r"@workgroup_size\(64\)", f"@workgroup_size({argument})", sources["wgsl"])
                sources["wgsl"] = f"{code}\n{declared}\n"
            if "cuda" in sources:  # launches of no more than that
                sources["cuda"] = sources["cuda"].replace("void ", "void __launch_bounds__(64) ", 1)
            yield f"64 {how}, run as {size}", attrs.evolve(source, sources=sources, workgroup=(size, 1, 1))


@pytest.mark.clause("device.workgroup")
def test_every_thread_runs_or_the_kernel_is_refused(bench: Bench) -> None:
    device = bench.open()
    ran = [what for what, source in variants(bench.kernel("increment")) if runs(bench, device, what, source)]
    matching = "64 as it is, run as 64"
    bench.check(matching in ran, f"a kernel whose workgroup is what its source says ({matching}) was refused")


def runs(bench: Bench, device: Device, what: str, source: KernelSource) -> bool:
    """Whether a kernel was taken; if so each of its threads must have run."""
    buffer = device.create_buffer(4 * COUNT)
    try:
        kernel = device.create_kernel(source)
        commands = device.command_list().dispatch(kernel, [buffer], [7, COUNT], threads=COUNT)
        point = device.submit(commands)
    except KernelError:
        return False
    bench.wait(point, f"a dispatch ({what})")
    seen = contents(bench, device, buffer).view(np.uint32)
    bench.check((seen == 7).all(), f"{what}: {np.count_nonzero(seen == 7)} of {COUNT} threads ran")
    return True
