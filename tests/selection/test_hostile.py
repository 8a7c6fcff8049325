"""Plugins broken in every way that was thought of: probed apart, they are named and hurt nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import types
from importlib.metadata import EntryPoint

import attrs
import pytest

from forge3d_core.hookspecs import hookimpl
from forge3d_core.plugins import Candidate
from forge3d_core.plugins.answers import decoded, encoded
from forge3d_core.plugins.registry import Registry
from forge3d_core.protocols import DeviceInfo, Limits
from forge3d_core.selection.select import open_device

BASE = """
from forge3d_core.hookspecs import API, hookimpl
from forge3d_core.protocols import ApiRange, ApiVersion, DeviceInfo, Limits
from forge3d_core.host.plugin import HostBackend

def info(**changes):
    return DeviceInfo(**{{"backend": {name!r}, "name": "Bad GPU", "kind": "discrete", "selector": "0",
                         "score": 500, **changes}})

class B:
    name = {name!r}
    api = API
    def probe(self): {probe}
    def open(self, selector="", options=None): {open}
    def adopt(self, native, options=None): raise NotImplementedError
    {members}
{top}
@hookimpl
def forge3d_backend(): return B()
"""


def code(probe="return [info()]", open="return HostBackend().open('')", members="", top=""):
    return lambda name: BASE.format(name=name, probe=probe, open=open, members=members, top=top)


def bare(text):
    return lambda _name: text


def raising(text, top=""):
    return code(f"raise {text}", top=top)


EVIL = "class Evil(Exception):\n    def __str__(self): {body}"
ERROR = "from forge3d_core.errors import {kind}\n"

SOUND = {
    "hook-opened-raises": code(top="@hookimpl\ndef forge3d_device_opened(device): raise KeyboardInterrupt"),
    "hook-wrapper": code(
        top="import pluggy\n@hookimpl(hookwrapper=True)\ndef forge3d_device_closed(info): yield"
    ),
    "name-ansi": code("return [info(name='\\x1b[2J\\x1b]0;title\\x07')]"),
    "name-markup": code("return [info(name='[bold red]x[/] [link=http://x]y[/link]')]"),
    "name-surrogate": code("return [info(name='\\udcff')]"),
    "name-newline": code("return [info(name='GPU\\nhost:0 a line of ours')]"),
    "name-bidi": code("return [info(name='\\u202egnp.exe')]"),
    "prints-much": code(top="print('x' * 5_000_000)"),
    "closes-stdout": code(top="import sys, os\nos.close(1)\nsys.stdout.close()"),
    "closes-stderr": code(top="import os\nos.close(2)"),
    "replaces-stdout": code(
        top="import sys\nclass S:\n    def write(s, x): 1 / 0\n    flush = write\nsys.stdout = S()"
    ),
    "changes-folder": code(top="import os; os.chdir('/')"),
    "clears-path": code(top="import sys; sys.path[:] = []"),
    "ignores-signals": code(
        top="import signal\ntry: signal.signal(2, signal.SIG_IGN)\nexcept ValueError: pass"
    ),
    "warnings-are-errors": code(top="import warnings; warnings.simplefilter('error')"),
    "changes-locale": code(
        top="import locale\ntry: locale.setlocale(locale.LC_ALL, 'de_DE')\nexcept locale.Error: pass"
    ),
    "unsets-environment": code(top="import os; os.environ.clear()"),
    "limits-nothing": code(top="import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (20, 20))"),
    "nondaemon-thread": code(
        top="import threading\nthreading.Thread(target=threading.Event().wait, args=(60,)).start()"
    ),
    "hangs-at-exit": code(top="import atexit, threading\natexit.register(threading.Event().wait, 60)"),
    "patches-json": code(top="import json; json.loads = None"),
    "forks": code(top="import os\nos.fork()"),
    "open-raises-forge-error": code(
        open="from forge3d_core.errors import ForgeError; raise ForgeError('boom')"
    ),
    "open-raises-usage-error": code(
        open="from forge3d_core.errors import UsageError; raise UsageError('bad')"
    ),
    "open-out-of-memory": code(
        open="from forge3d_core.errors import OutOfDeviceMemory; raise OutOfDeviceMemory('none')"
    ),
    "open-times-out": code(open="from forge3d_core.errors import FenceTimeout; raise FenceTimeout('slow')"),
    "open-raises": code(open="raise ValueError('x')"),
    "open-exits": code(open="raise SystemExit(0)"),
    "open-memory-error": code(open="raise MemoryError"),
    "open-evil-text": code(open="raise Evil()", top=EVIL.format(body="raise SystemExit(0)")),
    "open-returns-none": code(open="return None"),
    "open-returns-liar": code(
        open="return L()", top="class L:\n    def __getattr__(s, n): raise SystemExit(0)\n    __repr__ = None"
    ),
}
"""These answer a probe: their state is *available*, whatever opening them does."""

SLOW = {
    "text-hangs": raising("Evil()", EVIL.format(body="\n        import time; time.sleep(100)")),
    "busy-import": bare("while True: pass"),
    "sleeping-import": bare("import time; time.sleep(1000)"),
    "import-deadlock": bare(
        "import threading, importlib\ndef load(): importlib.import_module(__name__ + '.x')\n"
        "t = threading.Thread(target=load)\nt.start(); t.join()"
    ),
    "stopped": bare("import os, signal; os.kill(os.getpid(), signal.SIGSTOP)"),
}
"""These have to be waited for."""

FAILING = {
    "score-text": code("return [info(score='high')]"),
    "score-none": code("return [info(score=None)]"),
    "score-nan": code("return [info(score=float('nan'))]"),
    "name-bytes": code("return [info(name=b'NVIDIA')]"),
    "name-none": code("return [info(name=None)]"),
    "name-endless": code("return [info(name='x' * 10**7)]"),
    "selector-int": code("return [info(selector=0)]"),
    "driver-bytes": code("return [info(driver=b'535')]"),
    "memory-text": code("return [info(memory_bytes='8 GiB')]"),
    "memory-negative": code("return [info(memory_bytes=-1)]"),
    "kind-odd": code("return [info(kind=7)]"),
    "limits-dict": code("return [info(limits={'a': 1})]"),
    "languages-none": code("return [info(limits=Limits(1, languages=None))]"),
    "probe-endless": code("return __import__('itertools').repeat(info())"),
    "probe-none": code("return None"),
    "text-exits": raising("Evil()", EVIL.format(body="raise SystemExit(0)")),
    "text-interrupts": raising("Evil()", EVIL.format(body="raise KeyboardInterrupt")),
    "type-without-name": raising(
        "Evil()",
        "class M(type):\n    __name__ = property(lambda s: 1 / 0)\nclass Evil(Exception, metaclass=M): pass",
    ),
    "import-text-exits": bare("class E(Exception):\n    def __str__(self): raise SystemExit(0)\nraise E()"),
    "import-error-name": bare("e = ImportError('x'); e.name = 5\nraise e"),
    "import-error-command": bare("e = ImportError('x'); e.name = 'x\"; touch pwned; \"'\nraise e"),
    "backend-error-exits": bare(
        ERROR.format(kind="BackendError")
        + "class E(BackendError):\n    def __str__(self): raise SystemExit(0)\nraise E('x')"
    ),
    "backend-error-fix": bare(ERROR.format(kind="PluginFailed") + "raise PluginFailed('x', fix=5)"),
    "api-text": code(members="api = ApiRange('1', '2')"),
    "api-none": code(members="api = ApiRange(None, None)"),
    "recursion": bare("def f(): f()\nf()"),
    "recursion-limit": bare("import sys; sys.setrecursionlimit(5)"),
    "ends-process": bare("import os; os._exit(0)"),
    "kills-process": bare("import os; os.kill(os.getpid(), 9)"),
    "aborts": bare("import os; os.abort()"),
    "crashes": bare("import ctypes; ctypes.string_at(0)"),
    "closes-all": bare("import os; os.closerange(0, 100); raise ValueError"),
    "forged-answer": bare(
        "import os\nfor n in range(3, 20):\n    try: os.write(n, b'[1]\\n')\n    except OSError: pass"
    ),
}
"""These have failed, and say so."""

TOLD_OTHERWISE = {
    "no-args": bare(
        ERROR.format(kind="NoDevice")
        + "class E(NoDevice):\n    def __init__(self): Exception.__init__(self)\nraise E()"
    ),
    "copy-exits": bare(
        ERROR.format(kind="NoDevice")
        + "class E(NoDevice):\n    def __copy__(self): raise SystemExit(3)\n"
        + "    __reduce_ex__ = __copy__\nraise E('x')"
    ),
}
"""These say that there is no device."""

ALL = {**SOUND, **SLOW, **FAILING, **TOLD_OTHERWISE}
HANG = "threading.Event().wait()"
LIMITS = {"FORGE3D_IMPORT_TIMEOUT": "3", "FORGE3D_PROBE_TIMEOUT": "3"}


def install(site, names):
    for name in names:
        site.install(name, ALL[name](name), entry_points=f"[forge3d.backends]\n{name} = {{module}}\n")
    site.install("sound")


@pytest.mark.timeout(300)
def test_backends_tells_each_and_all_the_others_as_they_are(site):
    install(site, ALL)
    done = site.cli("backends", "--json", timeout=200, **LIMITS)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.isascii()
    told = {backend["name"]: backend for backend in json.loads(done.stdout)["backends"]}
    assert {name: told[name]["state"] for name in ("host", "sound")} == dict.fromkeys(
        ("host", "sound"), "available"
    )
    wanted = {
        **dict.fromkeys(SOUND, "available"),
        **dict.fromkeys((*SLOW, *FAILING), "failed to load"),
        **dict.fromkeys(TOLD_OTHERWISE, "unavailable"),
    }
    assert {name: told[name]["state"] for name in wanted} == wanted
    for name in (*SLOW, *FAILING, *TOLD_OTHERWISE):
        assert told[name]["reason"]
        assert told[name]["reason"].isprintable()
    assert "pwned" not in (told["import-error-command"]["fix"] or "")


@pytest.mark.timeout(300)
def test_the_best_of_what_opens_is_opened_past_all_that_does_not(site):
    install(site, [name for name in SOUND if name.startswith("open-")] + ["crashes", "score-text"])
    opens = "import forge3d_core as f\nd = f.open_device(); print(d.info.backend, d.info.name)"
    done = site.run("-c", opens, timeout=200, **LIMITS, FORGE3D_DENY="wgpu,cuda")
    assert done.stdout == "sound tiny 0\n", done.stderr[-2000:]
    again = site.run("-c", opens, timeout=200, **LIMITS, FORGE3D_DENY="wgpu,cuda,sound")
    assert again.stdout.startswith("host "), again.stderr[-2000:]


def test_naming_host_starts_no_process_and_runs_no_plugin(site, monkeypatch):
    install(site, ALL)
    monkeypatch.setattr(
        "forge3d_core.plugins.remote.subprocess.Popen", lambda *_, **__: pytest.fail("started")
    )
    with open_device("host", registry=Registry()) as device:
        assert device.info.backend == "host"
    assert not any(site.ran(name) for name in ALL)


def test_what_is_printed_of_a_plugin_is_printable(site):
    install(site, [name for name in SOUND if name.startswith("name-")])
    said = ""
    for arguments in (("backends",), ("explain",), ("explain", "-b", "name-newline")):
        done = site.cli(*arguments)
        assert done.returncode == 0, done.stderr
        for line in done.stdout.splitlines():
            assert line.isprintable()
            assert not line.startswith("host:0 a line of ours")
        said += done.stdout
    assert r"\x1b[2J\x1b]0;title\x07" in said


def test_only_what_opens_is_loaded_here(site):
    site.install("best", distribution="forge3d-best")
    site.install("other")
    registry = site.registry()
    backend = open_device(registry=registry).info.backend
    assert backend == "best"
    assert [plugin.name for plugin in registry.loaded()] == ["best"]
    assert "forge3d_best_pkg" in sys.modules
    assert "forge3d_other_pkg" not in sys.modules


def test_every_field_of_a_device_crosses_the_border():
    limits = Limits(
        *(1, 2, 3, 4, 5, (6, 7, 8), 9, ("wgsl",), ("upload",), False, True),
        *(("float32-filterable",), ("r32float",), 10, 11, True),
    )
    info = DeviceInfo("one", "n", "cpu", "0", "d", -3, 4, limits, caution="c", fix="f")
    assert None not in attrs.astuple(info, recurse=False)
    assert all(getattr(info, f.name) != f.default for f in attrs.fields(DeviceInfo))
    assert all(getattr(limits, f.name) != f.default for f in attrs.fields(Limits))
    assert decoded(json.dumps(encoded((info,))).encode(), "one") == (info,)


@pytest.mark.skipif(os.name != "posix", reason="signals are sent as POSIX has them")
def test_an_interrupt_ends_the_command_and_the_processes_it_began(site, tmp_path):
    pipe = tmp_path / "pid"
    os.mkfifo(pipe)
    site.install(
        "sleeper", f"import os, threading\nopen({str(pipe)!r}, 'w').write(str(os.getpid()))\n" + HANG
    )
    environment = {**os.environ, "PYTHONPATH": str(site.folder), "FORGE3D_DENY": "wgpu,cuda"}
    command = [sys.executable, "-m", "forge3d_core", "backends"]
    with subprocess.Popen(
        command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE
    ) as running:
        sleeper = int(pipe.read_text())
        running.send_signal(signal.SIGINT)
        running.communicate(timeout=30)
    assert running.returncode == 130
    with pytest.raises(ProcessLookupError):
        os.kill(sleeper, 0)


def test_a_plugin_that_exists_in_memory_only_is_probed_here(site, monkeypatch):
    backend = site.tiny("memory")

    class Hooks:
        @hookimpl
        def forge3d_backend(self):
            return backend

    module = types.ModuleType("in_memory_gpu")
    module.plugin = Hooks()
    monkeypatch.setitem(sys.modules, "in_memory_gpu", module)
    point = EntryPoint("memory", "in_memory_gpu:plugin", "forge3d.backends")
    candidate = Candidate("memory", "memory", "1", point.value, fetch=point.load)
    status = Registry(discovery=lambda: [candidate]).status("memory")
    assert [info.name for info in status.devices] == ["tiny 0", "tiny 1"]


@pytest.mark.parametrize("executable", ["", "/usr/bin/blender"])
def test_where_no_interpreter_can_be_started_plugins_are_probed_here(site, monkeypatch, executable):
    site.install("one")
    monkeypatch.setattr(sys, "executable", executable)
    registry = site.registry()
    assert registry.status("one").state.value == "available"
    assert [plugin.name for plugin in registry.loaded()] == ["one"]
