"""Every way in which a plugin can be broken: it is named, told why, and hides no healthy one."""

from __future__ import annotations

import json

import attrs
import pytest

from forge3d_core.errors import BackendError, PluginFailed
from forge3d_core.plugins import State
from forge3d_core.selection.select import open_device

START = "from {module}.tiny import *\n"


@attrs.frozen
class Broken:
    code: str
    state: State
    reason: str
    requires: tuple[str, ...] = ()
    fix: str | None = None


BROKEN = {
    "import-error": Broken(
        "raise ImportError('half installed')", State.FAILED, "ImportError: half installed"
    ),
    "exit": Broken("raise SystemExit(3)", State.FAILED, "tried to exit the process (SystemExit 3)"),
    "interrupt": Broken("raise KeyboardInterrupt", State.FAILED, "raised KeyboardInterrupt"),
    "syntax": Broken("def plugin(:", State.FAILED, "SyntaxError"),
    "missing": Broken(
        "import no_such_gpu_library.driver",
        State.MISSING_DEPENDENCY,
        "needs no_such_gpu_library",
        requires=("numpy", "no-such-gpu-library-cuda12x>=13; python_version>'3'"),
        fix='pip install "no-such-gpu-library-cuda12x>=13"',
    ),
    "missing-own-module": Broken("import {module}.absent", State.FAILED, "No module named"),
    "missing-at-probe": Broken(
        START + "class Late(TinyBackend):\n"
        "    def probe(self): import no_such_gpu_library\n"
        "plugin = plugin(Late('missing-at-probe'))",
        State.MISSING_DEPENDENCY,
        "needs no_such_gpu_library",
        fix='pip install "no_such_gpu_library"',
    ),
    "says-missing": Broken(
        START + "from forge3d_core.errors import MissingDependency\n"
        "class Says(TinyBackend):\n"
        "    def probe(self): raise MissingDependency('no driver', backend=self.name, fix='get it')\n"
        "plugin = plugin(Says('says-missing'))",
        State.MISSING_DEPENDENCY,
        "no driver",
        fix="get it",
    ),
    "newer-api": Broken(
        START + "from forge3d_core.protocols import ApiRange, ApiVersion\n"
        "api = ApiRange(ApiVersion(9), ApiVersion(9, 4))\n"
        "plugin = plugin(TinyBackend('newer-api', api=api))",
        State.INCOMPATIBLE,
        "speaks plugin API 9.0 to 9.4, this core understands 1.0",
        fix="pip install --upgrade forge3d-core forge3d-newer-api",
    ),
    "older-api": Broken(
        START + "from forge3d_core.protocols import ApiRange, ApiVersion\n"
        "plugin = plugin(TinyBackend('older-api', api=ApiRange(ApiVersion(0, 1), ApiVersion(0, 2))))",
        State.INCOMPATIBLE,
        "speaks plugin API 0.1 to 0.2",
        fix="pip install --upgrade forge3d-older-api",
    ),
    "other-core": Broken(
        "from forge3d_core.hookspecs import a_hook_of_tomorrow", State.INCOMPATIBLE, "another forge3d-core"
    ),
    "hook-raises": Broken(
        "from forge3d_core.hookspecs import hookimpl\n"
        "class plugin:\n"
        "    @staticmethod\n"
        "    @hookimpl\n"
        "    def forge3d_backend(): raise RuntimeError('two\\nlines')",
        State.FAILED,
        "forge3d_backend hook raised RuntimeError: two lines",
    ),
    "hookless": Broken("class plugin: pass", State.FAILED, "has no forge3d_backend hook"),
    "unknown-hook": Broken(
        START + "p = plugin(TinyBackend('unknown-hook'))\n"
        "class plugin(type(p)):\n"
        "    @hookimpl\n"
        "    def forge3d_backnd(self): ...\n"
        "plugin = plugin()",
        State.FAILED,
        "forge3d_backnd",
    ),
    "garbage": Broken(START + "plugin = plugin(42)", State.FAILED, "returned 42, which has no name"),
    "nothing": Broken(START + "plugin = plugin(None)", State.FAILED, "returned None"),
    "api-is-text": Broken(
        START + "plugin = plugin(TinyBackend('api-is-text', api='1.0'))", State.FAILED, "not an ApiRange"
    ),
    "misnamed": Broken(
        START + "plugin = plugin(TinyBackend('other'))", State.FAILED, "backend named 'other'"
    ),
    "attribute-gone": Broken("", State.FAILED, "AttributeError"),
    "probe-raises": Broken(
        START + "class Bad(TinyBackend):\n"
        "    def probe(self): raise RuntimeError('vulkan says no')\n"
        "plugin = plugin(Bad('probe-raises'))",
        State.FAILED,
        "probe-raises's probe raised RuntimeError: vulkan says no",
    ),
    "probe-exits": Broken(
        START + "class Bad(TinyBackend):\n"
        "    def probe(self): raise SystemExit\n"
        "plugin = plugin(Bad('probe-exits'))",
        State.FAILED,
        "tried to exit the process",
    ),
    "probe-garbage": Broken(
        START + "class Bad(TinyBackend):\n"
        "    def probe(self): return ['a gpu']\n"
        "plugin = plugin(Bad('probe-garbage'))",
        State.FAILED,
        "returned 'a gpu' where a DeviceInfo belongs",
    ),
    "no-device": Broken(
        START + "plugin = plugin(TinyBackend('no-device', selectors=()))",
        State.UNAVAILABLE,
        "finds no device",
    ),
}

PRINTING = """
import os, sys
print("printed on import")
os.write(1, b"written on import\\n")
from {module}.tiny import *
class Talker(TinyBackend):
    def probe(self):
        print("printed in probe")
        os.system("echo said by a child")
        return super().probe()
plugin = plugin(Talker({name!r}))
import atexit; atexit.register(print, "printed at exit")
"""
HANGS_ON_IMPORT = "import threading; threading.Event().wait()"
HANGS_ON_PROBE = """
import threading
from {module}.tiny import *
class Sleeper(TinyBackend):
    def probe(self): threading.Event().wait()
plugin = plugin(Sleeper({name!r}))
"""


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_plugin_has_a_state_a_reason_and_a_fix(site, name):
    broken = BROKEN[name]
    site.install(name, broken.code, requires=broken.requires)
    site.install("sound")
    registry = site.registry()
    status = registry.status(name)
    assert status.state is broken.state
    assert broken.reason in status.reason
    assert "\n" not in status.reason
    if broken.fix:
        assert status.fix == broken.fix
        assert broken.fix not in status.reason  # it is told once
    assert registry.status("sound").state is State.AVAILABLE
    with pytest.raises(BackendError):
        raise status.error


def test_automatic_choice_passes_over_every_broken_plugin(site):
    for name, broken in BROKEN.items():
        site.install(name, broken.code)
    site.install("sound")
    assert open_device(registry=site.registry()).info.backend == "sound"


def test_an_explicit_broken_choice_does_not_fall_back(site):
    site.install("exit", BROKEN["exit"].code)
    site.install("sound")
    registry = site.registry()
    with pytest.raises(PluginFailed, match="SystemExit 3"):
        open_device("exit", registry=registry)
    assert not site.ran("sound")


def test_backends_says_what_is_wrong_with_each(site):
    for name, broken in BROKEN.items():
        site.install(name, broken.code, requires=broken.requires)
    site.install("talker", PRINTING)
    site.install("import-hangs", HANGS_ON_IMPORT)
    site.install("probe-hangs", HANGS_ON_PROBE)
    site.install("twin", distribution="twin-one")
    site.install("twin", distribution="twin-two")
    site.install("sound")

    done = site.cli("backends", "--json", FORGE3D_IMPORT_TIMEOUT="3", FORGE3D_PROBE_TIMEOUT="3")
    assert done.returncode == 0, done.stderr
    told = {backend["name"]: backend for backend in json.loads(done.stdout)["backends"]}
    for name, broken in BROKEN.items():
        assert told[name]["state"] == broken.state.value, told[name]
        assert broken.reason in told[name]["reason"]
    for name in ("talker", "sound"):
        assert told[name]["state"] == "available"
        assert [device["selector"] for device in told[name]["devices"]] == ["0", "1"]
    for name, doing in (("import-hangs", "importing"), ("probe-hangs", "probe")):
        assert told[name]["state"] == "failed to load"
        assert doing in told[name]["reason"]
        assert "did not return within 3 s" in told[name]["reason"]
    assert told["twin"]["state"] == "failed to load"
    assert "twin-one 1.0" in told["twin"]["reason"]
    assert "twin-two 1.0" in told["twin"]["reason"]
    assert not site.ran("twin")
    for text in ("printed on import", "written on import", "printed in probe", "said by a child", "at exit"):
        assert text not in done.stdout + done.stderr  # it was said in another process


def test_what_hung_once_is_not_waited_for_again(site):
    site.install("probe-hangs", HANGS_ON_PROBE)
    code = (
        "from forge3d_core.plugins.registry import REGISTRY as r, PERMISSIVE\n"
        "import threading\n"
        "first = r.status('probe-hangs', probe_timeout=0.1)\n"
        "sleepers = threading.active_count()\n"
        "second = r.status('probe-hangs', probe_timeout=3600)\n"
        "print(first.reason == second.reason, threading.active_count() == sleepers, r.loaded())\n"
    )
    done = site.run("-c", code)
    assert done.stdout == "True True ()\n", done.stderr


def test_an_interpreter_with_a_hung_plugin_exits(site):
    site.install("import-hangs", HANGS_ON_IMPORT)
    done = site.cli("explain", "-b", "import-hangs", FORGE3D_IMPORT_TIMEOUT="0.1")
    assert done.returncode == 1
    assert "did not return within 0.1 s" in " ".join(done.stdout.split())
