"""The workgroup that the shader declares is the one that the source names, or the kernel is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from forge3d_core.driver import Dispatch
from forge3d_core.errors import KernelError
from forge3d_core.protocols import Binding, KernelSource

COUNT = """
@group(0) @binding(0) var<storage, read_write> out: array<u32>;
{before}
{attributes}
fn main(@builtin(global_invocation_id) id: vec3<u32>) {{ out[id.x] = 1u; }}
{after}
"""


def source(
    attributes: str, before: str = "", after: str = "", workgroup: tuple[int, int, int] = (64, 1, 1)
) -> KernelSource:
    code = COUNT.format(before=before, attributes=attributes, after=after)
    return KernelSource("main", {"wgsl": code}, (Binding("out", "readwrite", "u4"),), (), workgroup)


SIXTY_FOUR = {
    "decimal": ("@compute @workgroup_size(64)", "", ""),
    "suffix": ("@compute @workgroup_size(64u, 1i)", "", ""),
    "hexadecimal": ("@compute @workgroup_size(0x40)", "", ""),
    "sum": ("@compute @workgroup_size(16 * 2 + 32)", "", ""),
    "shift": ("@compute @workgroup_size(1 << 6, 1)", "", ""),
    "const": ("@compute @workgroup_size(N)", "const N = 64u;", ""),
    "declared later": ("@compute @workgroup_size(N)", "", "const N = 32 + M; const M = 32;"),
    "call": ("@compute @workgroup_size(max(64, 2), select(2, 1, true))", "", ""),
    "vector": ("@compute @workgroup_size(S.x, S.y)", "const S = vec2<u32>(64, 1);", ""),
    "override": ("@compute @workgroup_size(N)", "override N: u32 = 64;", ""),
    "override of another": (
        "@compute @workgroup_size(M)",
        "@id(3) override N = 32u; override M = N * 2;",
        "",
    ),
    "order": ("@workgroup_size(64) @compute", "", ""),
    "lines": ("@compute\n@ workgroup_size\n(\n64,\n1,\n)", "", ""),
    "comments": ("@compute /* /* */ @workgroup_size(1) */ @workgroup_size(64) // (1)", "", ""),
    "two entry points": (
        "@compute @workgroup_size(64)",
        "@compute @workgroup_size(8) fn other() {}",
        "@compute @workgroup_size(2) fn main2() {}",
    ),
}


@pytest.mark.parametrize("name", SIXTY_FOUR)
def test_every_way_to_write_the_size_is_understood(rig: Any, name: str) -> None:
    kernel = source(*SIXTY_FOUR[name])
    compiled = rig.kernel(kernel.name, kernel.sources["wgsl"], *kernel.bindings)
    memory = rig.buffer(4000)
    rig.run(Dispatch(compiled, (memory,), (), (1000, 1, 1)))
    assert rig.read(memory).view(np.uint32).sum() == 1000


@pytest.mark.parametrize("name", SIXTY_FOUR)
@pytest.mark.parametrize("workgroup", [(32, 1, 1), (64, 2, 1), (1, 64, 1), (128, 1, 1)])
def test_every_way_to_write_another_size_is_refused(
    rig: Any, name: str, workgroup: tuple[int, int, int]
) -> None:
    with pytest.raises(KernelError, match=r"workgroup=\(.*make them the same"):
        rig.driver.compile(source(*SIXTY_FOUR[name], workgroup=workgroup))


def test_what_cannot_be_taken_apart_is_refused(rig: Any) -> None:
    with pytest.raises(KernelError, match="'const' declarations"):
        rig.driver.compile(source("@compute @workgroup_size(vec2<u32>(64, 1).x, 1)"))


def test_an_override_that_no_pipeline_sets_is_refused(rig: Any) -> None:
    with pytest.raises(KernelError):
        rig.driver.compile(source("@compute @workgroup_size(N)", "override N: u32;"))
