"""A child that is forked while other threads of its parent are at work in what the process has one of."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import forge3d_core as forge3d
from forge3d_core import forking
from forge3d_core.plugins.registry import REGISTRY, Registry

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def in_child(call: Callable[[], object], patience: float) -> object:
    """Return what ``call`` returns in a forked child."""
    context = multiprocessing.get_context("fork")
    receiving, sending = context.Pipe(duplex=False)
    child = context.Process(target=lambda: sending.send(call()), daemon=True)
    child.start()
    try:
        assert receiving.poll(patience), "the child hangs"
        return receiving.recv()
    finally:
        child.terminate()
        child.join()


def opened() -> str:
    with forge3d.open_device("host") as device:
        return device.info.backend


def test_while_the_plugins_are_looked_for(
    background: Callable[..., Any], patience: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, leave = threading.Event(), threading.Event()
    found = tuple(REGISTRY.discovery())
    parent = os.getpid()
    registry = Registry(
        lambda: ((entered.set(), leave.wait(patience)) if os.getpid() == parent else None, found)[1]
    )
    looking = background(registry.candidates)
    assert entered.wait(patience)
    assert "host" in in_child(lambda: sorted(registry.candidates()), patience)
    leave.set()
    assert "host" in looking.result(patience)


def test_while_a_plugin_is_loaded(background: Callable[..., Any], patience: float) -> None:
    entered, leave = threading.Event(), threading.Event()
    parent = os.getpid()

    class Slow:
        @forge3d.hookimpl
        def forge3d_backend(self) -> Any:
            if os.getpid() == parent:
                entered.set()
                leave.wait(patience)
            return forge3d.load_backend("host").backend

    registry = Registry()
    registry.register(Slow(), "host-too")
    loading = background(lambda: registry.status("host-too"))
    assert entered.wait(patience)
    said = in_child(lambda: str(registry.status("host-too").reason), patience)
    assert "named 'host'" in str(said)  # it was loaded, and it is not what it says
    assert in_child(opened, patience) == "host"
    leave.set()
    loading.result(patience)


def test_while_a_module_is_imported(
    background: Callable[..., Any], patience: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "slow_to_import.py").write_text(
        "import os, test_forking_gate as gate\n"
        "if os.getpid() == gate.parent:\n    gate.entered.set()\n    gate.leave.wait(20)\nwhole = True\n",
        "utf-8",
    )
    gate: Any = type(sys)("test_forking_gate")
    gate.parent, gate.entered, gate.leave = os.getpid(), threading.Event(), threading.Event()
    monkeypatch.setitem(sys.modules, "test_forking_gate", gate)
    monkeypatch.syspath_prepend(tmp_path)
    importing = background(lambda: __import__("slow_to_import").whole)
    assert gate.entered.wait(patience)
    assert in_child(lambda: __import__("slow_to_import").whole, patience) is True
    gate.leave.set()
    assert importing.result(patience) is True
    monkeypatch.delitem(sys.modules, "slow_to_import")


def test_who_is_gone_is_not_renewed() -> None:
    class Owner:
        def renew(self) -> None:
            raise AssertionError("of an object that is gone")

    before = len(forking._owners)
    owner = Owner()
    forking.renew_in_child(owner)
    assert len(forking._owners) == before + 1
    del owner
    assert len(forking._owners) == before
