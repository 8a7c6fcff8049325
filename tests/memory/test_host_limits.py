"""The limit that is real: what the system's files say, and what follows from it."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest

import forge3d_core as forge3d
from forge3d_core.memory.host_limits import (
    GUIDES_LIMIT,
    LEAST,
    WSL2_LIMIT,
    HostLimits,
    default_limit,
    fitting_limit,
)
from forge3d_core.memory.host_reader import read_limits
from forge3d_core.protocols import DeviceInfo
from forge3d_core.units import GIB, MIB

MEMINFO = "MemTotal:       {} kB\nMemFree:   1 kB\nMemAvailable:   {} kB\nHugePages_Total:   0\n"
LIMITS = "Limit   Soft Limit  Hard Limit  Units\nMax locked memory         {}              8388608   bytes\n"
ROOMY = HostLimits(total_bytes=64 * GIB, available_bytes=60 * GIB)


class Machine:
    """A file system of a machine of 64 GiB, as far as is read of it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.has("proc/meminfo", MEMINFO.format(64 << 20, 60 << 20))
        self.has("proc/self/cgroup", "0::/\n")
        self.has("proc/self/status", "Name: python\nCapEff:\t0000000000000000\n")
        self.has("proc/self/limits", LIMITS.format("unlimited"))
        self.has("proc/sys/kernel/osrelease", "6.8.0-31-generic\n")
        self.has(
            "proc/pressure/memory", "some avg10=3.00 avg60=0.00 avg300=0.00 total=1\nfull avg10=0.00 total=0"
        )

    def has(self, path: str, text: str) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def read(self) -> HostLimits:
        return read_limits(self.root)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_a_machine_without_limits(machine: Machine) -> None:
    assert machine.read() == ROOMY
    assert default_limit(machine.read()).nbytes == GUIDES_LIMIT
    assert default_limit(machine.read()).reason == ""


def test_a_system_that_says_nothing(tmp_path: Path) -> None:
    assert read_limits(tmp_path) == HostLimits()
    assert default_limit(HostLimits()).nbytes == GUIDES_LIMIT


def test_files_that_say_nonsense(machine: Machine) -> None:
    for path in [file for file in machine.root.rglob("*") if file.is_file()]:
        path.write_bytes(
            b"full\xff avg10=\nMemTotal: x\n0::/\n:memory:/..\nCapEff: zz\nMax locked memory\n0::\n"
        )
    assert machine.read() == HostLimits()


def test_a_group_of_version_two_and_its_parents(machine: Machine) -> None:
    machine.has("proc/self/cgroup", "0::/user/job\n")
    machine.has("sys/fs/cgroup/user/job/memory.max", "max\n")
    machine.has("sys/fs/cgroup/user/memory.max", f"{600 * MIB}\n")
    machine.has("sys/fs/cgroup/user/memory.current", f"{500 * MIB}\n")
    machine.has("sys/fs/cgroup/user/memory.stat", f"anon 5\ninactive_file {100 * MIB}\n")
    found = machine.read()
    assert (found.container_bytes, found.container_left_bytes) == (600 * MIB, 200 * MIB)
    assert default_limit(found).nbytes == 300 * MIB
    assert "container" in default_limit(found).reason


def test_groups_of_version_one_seen_from_inside(machine: Machine) -> None:
    machine.has("proc/self/cgroup", "9:cpu,cpuacct:/x\n4:memory:/docker/0123\n0::/\n")
    machine.has("sys/fs/cgroup/memory/memory.limit_in_bytes", f"{256 * MIB}\n")
    machine.has("sys/fs/cgroup/memory/memory.usage_in_bytes", f"{100 * MIB}\n")
    assert machine.read().container_bytes == 256 * MIB
    assert machine.read().container_left_bytes == 156 * MIB
    machine.has("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n")  # no limit
    assert machine.read().container_bytes is None


def test_memory_that_may_be_locked(machine: Machine) -> None:
    machine.has("proc/self/limits", LIMITS.format(65536))
    assert machine.read().locked_bytes == 65536
    machine.has("proc/self/status", "CapEff:\t0000000000004000\n")  # CAP_IPC_LOCK
    assert machine.read().locked_bytes is None


def test_wsl2(machine: Machine) -> None:
    machine.has("proc/sys/kernel/osrelease", "5.15.146.1-microsoft-standard-WSL2\n")
    advice = default_limit(machine.read())
    assert advice.nbytes == WSL2_LIMIT < GUIDES_LIMIT
    assert "WSL2" in advice.reason


def test_a_small_machine() -> None:
    assert default_limit(HostLimits(total_bytes=1 * GIB)).nbytes == 256 * MIB
    assert default_limit(HostLimits(total_bytes=1 * MIB)).nbytes == LEAST


@pytest.mark.parametrize(
    ("kind", "name", "wanted"),
    [
        ("discrete", "NVIDIA H200", 1 * GIB),
        ("discrete", "AMD Radeon", 512 * MIB),
        ("integrated", "Intel UHD", 256 * MIB),
        ("cpu", "llvmpipe", GUIDES_LIMIT),
    ],
)
def test_a_devices_class(kind: str, name: str, wanted: int) -> None:
    info = DeviceInfo("wgpu", name, kind, "0")  # type: ignore[arg-type]
    assert fitting_limit(ROOMY, info).nbytes == wanted
    assert fitting_limit(attrs.evolve(ROOMY, container_bytes=100 * MIB), info).nbytes == 50 * MIB


def test_what_is_left_and_pressure() -> None:
    info = DeviceInfo("wgpu", "NVIDIA H200", "discrete", "0")
    scarce = attrs.evolve(ROOMY, available_bytes=300 * MIB)
    assert fitting_limit(scarce, info).nbytes == 150 * MIB
    assert fitting_limit(scarce, info, held=100 * MIB).nbytes == 200 * MIB
    pressed = attrs.evolve(ROOMY, pressure=12.5)
    assert fitting_limit(pressed, info).nbytes == GUIDES_LIMIT // 2
    assert "12 %" in fitting_limit(pressed, info).reason
    assert default_limit(pressed).nbytes == GUIDES_LIMIT  # which does not depend on the moment


def test_a_device_is_fitted_up_and_down(monkeypatch: pytest.MonkeyPatch) -> None:
    now = ROOMY
    monkeypatch.setattr("forge3d_core.memory.fitting.read_limits", lambda: now)
    with forge3d.open_device("host", budget="8 MiB") as device:
        assert forge3d.fit_budget(device).nbytes == device.budget.limit == GUIDES_LIMIT
        with device.budget.reserve(300 * MIB):
            now = attrs.evolve(ROOMY, container_bytes=100 * MIB)
            assert forge3d.fit_budget(device).nbytes == device.budget.limit == 50 * MIB
            with pytest.raises(forge3d.BudgetError):
                device.budget.reserve(1)
    with pytest.raises(forge3d.Closed):
        forge3d.fit_budget(device)


def test_explain_says_why_the_default_is_lower(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from forge3d_core.config import configuration
    from forge3d_core.selection.decision import Request

    low = attrs.evolve(ROOMY, wsl2=True)
    monkeypatch.setattr("forge3d_core.selection.decision.lasting_limits", lambda: low)
    chosen = Request.of(configuration(environ={}, directory=Path("/"))).budget
    assert chosen.value == WSL2_LIMIT
    assert str(chosen.source).startswith("default WSL2")
    given = Request.of(configuration(environ={}, budget="1 GiB")).budget
    assert (given.value, given.source.origin) == (1 * GIB, "argument")
