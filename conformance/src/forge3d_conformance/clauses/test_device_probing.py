"""Probing: it opens nothing, takes nothing and leaves no trace."""

from __future__ import annotations

from tempfile import TemporaryDirectory

import pytest

from forge3d_conformance.bench import Bench
from forge3d_conformance.clauses.test_device_process import told

TAKEN = 4 << 20
"""Bytes that no one line of a probe may take and keep, but for what it imports."""

PROBE = """
import gc, json, locale, logging, os, random, signal, sys, threading, tracemalloc, warnings
from collections import Counter
from forge3d_conformance.child import ENVIRONMENT, backend
from forge3d_core.protocols import DeviceOptions
import numpy as np

def listed(folder):
    return len(os.listdir(folder)) if os.path.isdir(folder) else 0

def state():
    return {
        "environment": dict(os.environ),
        "working directory": os.getcwd(),
        "signal handlers": {int(s): str(signal.getsignal(s)) for s in signal.valid_signals()},
        "Python threads": sorted(t.name for t in threading.enumerate()),
        "random state": random.getstate()[1][:4],
        "numpy's random state": np.random.get_state()[1][:4].tolist(),
        "numpy's error state": np.geterr(),
        "locale": locale.setlocale(locale.LC_ALL),
        "exception hooks": [str(sys.excepthook), str(threading.excepthook)],
        "module search path": list(sys.path),
        "warning filters": [str(one) for one in warnings.filters],
        "logging": [logging.root.level, [str(one) for one in logging.root.handlers], logging.root.disabled],
        "switch interval": sys.getswitchinterval(),
        "files of the user's home": sorted({*os.listdir(os.environ["HOME"])} - {".cache", ".cupy", ".nv"}),
        "files of the working directory": sorted({*os.listdir()} - {".cache", ".cupy", ".nv"}),
    }

def handles():
    return {"native threads": listed("/proc/self/task"), "open files": listed("/proc/self/fd")}

before, earlier = state(), Counter(map(type, gc.get_objects()))
tracemalloc.start()
devices = [str(info) for info in backend.probe()]
large = [
    str(one) for one in tracemalloc.take_snapshot().statistics("lineno")
    if one.size >= {large} and "importlib" not in one.traceback[0].filename
]
tracemalloc.stop()
after, warm = state(), handles()
again = [[str(info) for info in backend.probe()] for _ in range(3)]
grown = {name: [warm[name], n] for name, n in handles().items() if n > warm[name]}
gc.collect()
later = Counter(map(type, gc.get_objects()))
device = backend.open(json.loads(os.environ[ENVIRONMENT])["spec"].partition(":")[2], DeviceOptions())
native = type(device.native)
# What is of a type of Python's own could be anything.
opened = 0 if native.__module__ == "builtins" else later[native] - earlier[native]
device.close()
print(json.dumps({
    "changed": {
        name: sorted(map(str, {*map(str, after[name])} - {*map(str, before[name])}))
        if isinstance(after[name], list) else str(after[name])[:80]
        for name in before if before[name] != after[name]
    },
    "grown": grown,
    "large": large,
    "opened": [opened, native.__name__],
    "devices": devices,
    "again": again,
}))
"""


@pytest.mark.clause("device.no-side-effects")
def test_a_probe_leaves_no_trace(bench: Bench) -> None:
    with TemporaryDirectory(prefix="forge3d-home-") as home:
        program = f"import os; os.chdir({home!r})\n" + PROBE.replace("{large}", str(TAKEN))
        seen = told(bench, bench.child(program, HOME=home))
    changed = ", ".join(f"{name} ({found})" for name, found in seen["changed"].items())
    bench.check(not changed, f"a probe changed the process: {changed}")
    for name, (was, now) in seen["grown"].items():
        bench.check(False, f"three more probes took {name} from {was} to {now}")
    count, native = seen["opened"]
    bench.check(count <= 0, f"after probing {count} native devices are open, each a {native}")
    bench.check(not seen["large"], f"a probe has taken memory: {'; '.join(seen['large'])}")
    bench.check(seen["devices"], "a probe of a backend that opens lists no device")
    for devices in seen["again"]:
        bench.check(
            devices == seen["devices"], f"probed again it lists {devices}, and before {seen['devices']}"
        )
