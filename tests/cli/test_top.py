"""``forge3d top``: the devices of a program and of its children, and of programs that were asked to tell."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HEAD = "import os, sys, time\nimport numpy as np\nimport forge3d_core as forge3d\n"

STREAMS = """
with forge3d.open_device("host", budget="64 MiB") as device, device.staging_ring(ring_count=2) as ring:
    with device.create_buffer(4096) as buffer, device.readback_pool(buffer_size=4096) as pool:
        ring.upload(np.ones(4096, "u1"), buffer).wait(10)
        print("read", pool.read(buffer).wait(10).sum(), *sys.argv[1:])
"""

WAITS = """
device = forge3d.open_device("host", budget="32 MiB")
ring = device.staging_ring(ring_count=2, buffer_size="1 MiB")
buffer = device.create_buffer("3 MiB", label="kept")
print("ready", flush=True)
sys.stdin.read()
"""


def script(folder: Path, body: str) -> Path:
    path = folder / "program.py"
    path.write_text(HEAD + body)
    return path


def top(*arguments: object, runtime: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "forge3d_core", "top", *map(str, arguments)]
    environ = {**os.environ, "FORGE3D_TOP": ""}
    if runtime is not None:
        environ["XDG_RUNTIME_DIR"] = str(runtime)
    return subprocess.run(
        command, capture_output=True, encoding="utf-8", timeout=120, check=False, env=environ
    )


def told(done: subprocess.CompletedProcess[str]) -> Any:
    return json.loads(done.stdout)


def test_a_program_and_its_device(tmp_path: Path) -> None:
    done = top("--once", "--json", script(tmp_path, STREAMS), "--json", "a b")
    assert done.returncode == 0
    assert "read 4096 --json a b" in done.stderr
    assert told(done)["exit"] == 0
    (process,) = told(done)["processes"]
    assert process["program"] == "program.py"
    assert process["ended"]
    (device,) = process["devices"]
    assert device["address"].startswith("host")
    assert not device["open"]
    assert device["host_visible_bytes"] == 0
    assert 2 << 20 <= device["peak_host_visible_bytes"] <= device["limit_bytes"] == 64 << 20


def test_without_json_it_is_lines(tmp_path: Path) -> None:
    done = top(script(tmp_path, STREAMS))
    assert done.returncode == 0
    first, device, *rows = done.stdout.splitlines()
    assert first.startswith("program.py (process ")
    assert device.strip().startswith("host")
    assert rows[0].strip().startswith("host-visible: 0 B of 64 MiB, at most ")


def test_a_program_that_raises(tmp_path: Path) -> None:
    done = top("--json", script(tmp_path, "device = forge3d.open_device('host')\nraise SystemExit(7)"))
    assert done.returncode == 7 == told(done)["exit"]
    (process,) = told(done)["processes"]
    assert process["devices"][0]["open"]  # the interpreter ends with it as it is
    done = top("--json", script(tmp_path, "raise ValueError('so')"))
    assert done.returncode == 1
    assert "ValueError: so" in done.stderr
    assert told(done)["processes"] == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has neither fork nor signals")
def test_a_program_that_a_signal_ends(tmp_path: Path) -> None:
    done = top("--json", script(tmp_path, "forge3d.open_device('host'); os.kill(os.getpid(), 9)"))
    assert done.returncode == 128 + 9
    (process,) = told(done)["processes"]
    assert not process["ended"]


def test_a_program_without_a_device(tmp_path: Path) -> None:
    done = top(script(tmp_path, "print('nothing')"))
    assert done.returncode == 0
    assert done.stdout == "the program opened no device\n"
    assert "nothing" in done.stderr


def test_two_devices_and_those_that_closed_long_ago(tmp_path: Path) -> None:
    body = """
for _ in range(12):
    forge3d.open_device("host").close()
one, two = forge3d.open_device("host", budget="8 MiB"), forge3d.open_device("host", budget="4 MiB")
kept = two.create_texture(16, 16)
"""
    (process,) = told(top("--json", script(tmp_path, body)))["processes"]
    devices = process["devices"]
    assert [device["limit_bytes"] for device in devices if device["open"]] == [8 << 20, 4 << 20]
    assert devices[-1]["texture_count"] == 1
    assert process["closed_devices"] == 12
    assert len(devices) == 8 + 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows does not fork")
def test_a_program_that_forks(tmp_path: Path) -> None:
    body = """
device = forge3d.open_device("host", budget="8 MiB")
if os.fork() == 0:
    mine = forge3d.open_device("host", budget="4 MiB")
    sys.exit()
os.wait()
"""
    processes = told(top("--json", script(tmp_path, body)))["processes"]
    assert sorted(p["devices"][0]["limit_bytes"] for p in processes) == [4 << 20, 8 << 20]
    assert all(len(p["devices"]) == 1 for p in processes)


def test_a_process_that_tells_is_seen_while_it_runs(tmp_path: Path) -> None:
    environ = {**os.environ, "FORGE3D_TOP": "1", "XDG_RUNTIME_DIR": str(tmp_path)}
    command = [sys.executable, str(script(tmp_path, WAITS))]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environ
    ) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "ready\n"
        while True:  # until it tells of the buffer
            done = top("--once", "--json", "--pid", running.pid, runtime=tmp_path)
            assert done.returncode == 0, done.stderr
            (process,) = told(done)["processes"]
            (device,) = process["devices"]
            if device["buffer_count"]:
                break
        assert process["pid"] == running.pid
        assert device["device_local_bytes"] >= 3 << 20
        (ring,) = device["rings"]
        assert (ring["ring_count"], ring["buffer_size"], ring["bytes_in_flight"]) == (2, 1 << 20, 0)
        assert top("--pid", running.pid + 1, runtime=tmp_path).returncode == 1
        running.communicate("")
    done = top(runtime=tmp_path)
    assert done.returncode == 1
    assert "FORGE3D_TOP=1" in done.stderr
    (folder,) = tmp_path.glob("forge3d-top-*")
    assert list(folder.iterdir()) == []


def test_nothing_is_told_unless_asked_for(tmp_path: Path) -> None:
    environ = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)}
    environ.pop("FORGE3D_TOP", None)
    body = "import threading\nforge3d.open_device('host'); print(*(t.name for t in threading.enumerate()))"
    command = [sys.executable, str(script(tmp_path, body))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, env=environ)
    assert "forge3d-top" not in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["program.py"]


def test_what_cannot_be_asked(tmp_path: Path) -> None:
    assert top("--pid", 1, script(tmp_path, "")).returncode == 2
    done = top(tmp_path / "none.py")
    assert done.returncode == 2
    assert done.stderr.startswith("forge3d: ")


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="Windows has no terminals of this kind")
def test_bars_on_a_terminal(tmp_path: Path) -> None:
    master, slave = os.openpty()
    command = [sys.executable, "-m", "forge3d_core", "top", str(script(tmp_path, STREAMS))]
    environ = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=slave, env=environ) as running:
        os.close(slave)
        seen = b""
        try:
            while piece := os.read(master, 65536):
                seen += piece
        except OSError:  # its other end is closed
            pass
        os.close(master)
    assert running.returncode == 0
    text = seen.decode()
    assert "read 4096" in text
    assert "━" in text
    assert "host-visible" in text
