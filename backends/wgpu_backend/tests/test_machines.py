"""Each machine that the tests are to run on has just the adapters that it is said to have."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

MACHINES: dict[str, dict[str, Any]] = tomllib.loads(
    (Path(__file__).parents[3] / "tests" / "machines.toml").read_text()
)
HIDING = {variable for machine in MACHINES.values() for variable in machine["environment"]}

LIST = """
import wgpu.backends.wgpu_native
print(*(adapter.info["backend_type"] for adapter in wgpu.gpu.enumerate_adapters_sync()))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the variables are those of Linux's loaders")
@pytest.mark.skipif(bool(HIDING & {*os.environ}), reason="this run plays one of the machines already")
@pytest.mark.parametrize("name", MACHINES)
def test_a_machine_has_the_adapters_that_it_is_said_to_have(name: str) -> None:
    machine = MACHINES[name]
    done = subprocess.run(
        [sys.executable, "-c", LIST],
        env={**os.environ, **machine["environment"]},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    there = done.stdout.split()
    if not {*machine["adapters"]} <= {*there}:
        missing = f"this machine cannot play {name!r}: it has {there or 'no adapter'}"
        if name in os.environ.get("FORGE3D_REQUIRE", "").split(","):
            pytest.fail(f"FORGE3D_REQUIRE names {name}: {missing}")
        pytest.skip(missing)
    assert {*there} == {*machine["adapters"]}
