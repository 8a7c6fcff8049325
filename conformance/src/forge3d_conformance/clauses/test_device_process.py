"""A device in its process: probing, opening often, forking, and the interpreter's end."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from forge3d_conformance.bench import Bench
from forge3d_conformance.child import Ended
from forge3d_conformance.violation import Tardy

EXIT_SECONDS = 2.0
"""What the contract gives the interpreter to end, with work in flight."""

REOPEN = """
import ctypes, gc, json, os, threading, warnings
warnings.simplefilter("ignore", ResourceWarning)
import numpy as np
from forge3d_conformance.child import bench

def listed(folder):
    return len(os.listdir(folder)) if os.path.isdir(folder) else 0

def memory():
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0

def count():
    return {
        "Python threads": threading.active_count(),
        "native threads": listed("/proc/self/task"),
        "open files": listed("/proc/self/fd"),
        "memory": memory(),
        "device memory": bench.memory_in_use(),
    }

SIZE = 1 << 20
data = np.ones(SIZE, np.uint8)

def round():
    with bench.open() as device:
        ring = device.staging_ring(ring_count=2, buffer_size=SIZE)
        pool = device.readback_pool(max_pending_ops=1, buffer_size=SIZE)
        kernel = device.create_kernel(bench.kernel("increment"))
        buffer = device.create_buffer(SIZE)
        ring.upload(data, buffer)
        called = threading.Event()
        work = device.command_list().dispatch(kernel, [buffer], [1, 64], threads=64)
        device.submit(work).on_done(lambda _point, _error: called.set())
        seen = pool.read(buffer).wait(20)
        assert seen[-1] == 1, seen[-1]
        assert called.wait(20), "a callback did not come"
    left = device.budget.metrics().total_bytes
    assert not left, f"{left} bytes stay reserved after a device closed"

def rounds(number):
    for _ in range(number):
        round()
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)  # what is free but kept for the next round is not left behind
    except (OSError, AttributeError, TypeError):
        pass  # another platform, another allocator

rounds({warm})
first = count()
rounds({rounds} // 2)
middle = count()
rounds({rounds} // 2)
pause = threading.Event()
for _ in range(40):  # what ends by itself may take a moment
    last = count()
    if all(last[name] <= first[name] for name in first if "memory" not in name):
        break
    pause.wait(0.05)
print(json.dumps([first, middle, last]))
"""

OPEN_THREADS = """
import json, os, threading
from forge3d_conformance.child import ENVIRONMENT, backend
from forge3d_core.protocols import DeviceOptions
import numpy as np

selector = json.loads(os.environ[ENVIRONMENT])["spec"].partition(":")[2]
meet, complaints = threading.Barrier({threads}), []

def used(device, number):
    ring = device.staging_ring(ring_count=1, buffer_size=4096)
    pool = device.readback_pool(max_pending_ops=1, buffer_size=4096)
    buffer = device.create_buffer(4096)
    ring.upload(np.full(4096, number, np.uint8), buffer)
    seen = pool.read(buffer).wait(20)
    assert (seen == number).all(), f"it read {seen} and not {number}"

def round(number):
    meet.wait(60)
    backend.probe()
    device = backend.open(selector, DeviceOptions())
    meet.wait(60)
    if number % 2:  # these close while the others' devices are open
        used(device, number)
        device.close()
    meet.wait(60)
    if not number % 2:
        used(device, number)
        device.close()

def work(number):
    try:
        for _ in range({rounds}):
            round(number)
    except threading.BrokenBarrierError:
        pass  # another one's complaint
    except BaseException as error:
        complaints.append(f"{type(error).__name__}: {error}")
        meet.abort()

threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range({threads})]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(json.dumps(complaints))
"""

FORK = """
import json, os, signal, sys, threading, time, warnings
warnings.simplefilter("ignore")
import numpy as np
from forge3d_conformance.child import bench
from forge3d_conformance.clauses.belongings import belongings
from forge3d_core.errors import Forked

device = bench.open()
made = belongings(bench, device)
calls = made.calls(bench) | made.budgeting()
stop = threading.Event()

def work():  # so that locks may be held at the fork
    while not stop.is_set():
        device.submit(device.command_list().fill(made.other, 1)).wait(20)

def attempt():
    said = []
    for name, call in calls.items():
        started = time.monotonic()
        try:
            call()
            said.append([name, "nothing was raised"])
        except Forked as error:
            if str(os.getppid()) not in str(error):
                said.append([name, f"Forked does not name the parent process: {error}"])
        except BaseException as error:
            said.append([name, f"{type(error).__name__} ({error}) instead of Forked"])
        if time.monotonic() - started > 1:
            said.append([name, "it did not come at once"])
    for thing in (made.buffer, made.ring, made.pool, device):
        try:
            thing.close()
        except Forked:
            pass
    return said

def forked():
    sink, source = os.pipe()
    child = os.fork()
    if not child:
        os.close(sink)
        signal.alarm(20)
        try:
            os.write(source, json.dumps(attempt()).encode())
        finally:
            os._exit(0)
    os.close(source)
    deadline, pause, status = time.monotonic() + 6, threading.Event(), None
    while status is None:
        ended, status = os.waitpid(child, os.WNOHANG)
        if not ended:
            status = None
            if time.monotonic() > deadline:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                os.close(sink)
                return "it hung and was killed"
            pause.wait(0.005)
    with os.fdopen(sink, "rb") as said:
        text = said.read()
    return json.loads(text) if text and not status else f"it ended with wait status {status}"

answers = [forked()]
worker = threading.Thread(target=work, daemon=True)
worker.start()
for _ in range({forks}):
    if answers[-1] != []:
        break
    answers.append(forked())
stop.set()
worker.join(20)
made.slot.release()
data = np.arange(256, dtype=np.uint8)
made.uploads.upload(data, made.buffer)
intact = bool((made.pool.read(made.buffer).wait(20) == data).all())
device.close()
print(json.dumps({"answers": answers, "intact": intact, "working": not worker.is_alive()}))
"""

EXIT = """
import gc, sys, threading, time
import numpy as np
from forge3d_conformance.child import bench

device = bench.open()
buffer = device.create_buffer(4096)
ring = device.staging_ring(ring_count=2, buffer_size=4096)
pool = device.readback_pool(max_pending_ops=2, buffer_size=4096)
gc.collect()  # an earlier device's memory: to free it may wait for a kernel that runs
# Half a second where nothing can stop it: a process ends only when its kernels have ended.
hold = bench.hold(device, "compute", 0.5) if "hold" in bench.capabilities else None
slot = ring.allocate(16)
point = device.submit(device.command_list().fill(buffer, 1))
point.on_done(lambda _point, _error: None)
read = pool.read(buffer)
future = device.lanes["download"].timeline.point(99)
{waiting}
print("the program ends here", file=sys.stderr, flush=True)
print(time.monotonic(), flush=True)
{end}
"""

WAITING = """
for what in (point.wait, future.wait, read.wait):
    threading.Thread(target=what, daemon=True).start()
"""


def told(bench: Bench, ended: Ended) -> Any:
    """Return what a child printed last, as JSON; a violation when it did not get so far."""
    bench.check(ended.status == 0 and ended.stdout.strip(), f"a program that should just run: {ended}")
    return json.loads(ended.stdout.strip().splitlines()[-1])


STEADY, EACH = 3 << 20, 16 << 10
"""Bytes by which a process may grow over half of the rounds, and by as many for each of them."""


@pytest.mark.clause("device.reopen")
def test_opening_often_leaves_nothing_behind(bench: Bench) -> None:
    rounds = bench.scale(12, 1000)
    program = REOPEN.replace("{warm}", str(bench.scale(4, 20))).replace("{rounds}", str(rounds))
    first, middle, last = told(bench, bench.child(program))
    for name in ("Python threads", "native threads", "open files"):
        bench.check(
            last[name] <= first[name],
            f"{rounds} opens and closes took the {name} from {first[name]} to {last[name]}",
        )
    for name in ("memory", "device memory"):
        grown = middle[name] - first[name], last[name] - middle[name]
        bench.check(
            min(grown) <= STEADY + EACH * rounds // 2,  # a leak goes on growing, a cache does not
            f"{rounds} opens and closes of 4 MiB each left {sum(grown) / 2**20:.1f} MiB of {name} behind",
        )


@pytest.mark.clause("device.open-threads")
def test_threads_open_and_close_beside_each_other(bench: Bench) -> None:
    program = OPEN_THREADS.replace("{threads}", "4").replace("{rounds}", str(bench.scale(3, 25)))
    complaints = told(bench, bench.child(program))
    bench.check(not complaints, f"threads that opened and closed beside each other: {'; '.join(complaints)}")


@pytest.mark.clause("device.fork")
def test_a_forked_child_is_told_so_and_the_parent_goes_on(bench: Bench) -> None:
    seen = told(bench, bench.child(FORK.replace("{forks}", str(bench.scale(3, 20)))))
    for answer in seen["answers"]:
        bench.check(not isinstance(answer, str), f"a forked child did not do what it should: {answer}")
        bench.check(not answer, f"in a forked child: {'; '.join(': '.join(pair) for pair in answer)}")
    bench.check(seen["intact"], "after a fork the parent's uploads and reads are not what they were")
    bench.check(seen["working"], "after a fork a thread of the parent is stuck")


@pytest.mark.clause("device.exit", alone=True)
def test_the_interpreter_ends_with_work_in_flight(bench: Bench) -> None:
    # Threads that wait keep what they wait for; where none does, the interpreter destroys it on its way out.
    ends = [
        ("", "", 0),
        (WAITING, "raise ZeroDivisionError('in the middle of it')", 1),
        (WAITING, "raise SystemExit(3)", 3),
    ]
    for waiting, end, status in ends[: bench.scale(2, 3)]:
        ends_well(bench, waiting, end, status)


def ends_well(bench: Bench, waiting: str, end: str, status: int) -> None:
    ended = bench.child(EXIT.replace("{waiting}", waiting).replace("{end}", end))
    now = time.monotonic()
    bench.check(
        ended.status == status, f"a program that ends with status {status} in the middle of work: {ended}"
    )
    said = ended.stderr.partition("the program ends here")[2]  # a library may say what it likes before
    lines = [line for line in said.splitlines() if line.strip()]
    if "ZeroDivisionError" in end:
        bench.check(
            lines and "ZeroDivisionError" in lines[-1], f"the program's own traceback is lost: {ended}"
        )
        lines = [] if lines[0].startswith("Traceback") else lines
    stray = [line for line in lines if not ("ResourceWarning" in line or line.startswith("  "))]
    bench.check(not stray, f"an exit with work in flight wrote to standard error: {stray[:3]}")
    late = now - float(ended.stdout.split()[0])
    if late > EXIT_SECONDS:
        raise Tardy(f"the interpreter ended {late:.1f} s after the program, not within {EXIT_SECONDS:g} s")
