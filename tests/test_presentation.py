"""How objects show themselves: a repr in one line at any time, documentation, completion, no pickling."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import attrs
import numpy as np
import pytest

import forge3d_core as forge3d
from forge3d_core import Binding, ForgeError, KernelSource, Param, protocols
from forge3d_core.device.device import AssembledDevice, assemble
from forge3d_core.host.driver import HostDriver
from forge3d_core.host.machine import HostMachine
from forge3d_core.presentation import MAX_LINE, line, table
from tests.fork import complaints_of_a_child

LONG = "a label\n\x1b[31m" * 50
KINDS = {
    "device": protocols.StreamingDevice,
    "lane": protocols.Lane,
    "timeline": protocols.Timeline,
    "point": protocols.FencePoint,
    "buffer": protocols.RecyclableBuffer,
    "texture": protocols.ShapedTexture,
    "kernel": protocols.ClosableKernel,
    "commands": protocols.CommandList,
    "ring": protocols.AsyncRing,
    "slice": protocols.StagingSlice,
    "pool": protocols.BatchingPool,
    "handle": protocols.ReadbackHandle,
    "lease": protocols.Lease,
    "stream": protocols.AsyncReadbackStream,
    "budget": protocols.DetailedBudget,
    "reservation": protocols.Reservation,
}


class Asked(HostDriver):
    """A driver that tells whether it was asked anything."""

    calls = 0

    def query(self, token: Any) -> bool:
        self.calls += 1
        return super().query(token)

    def check(self) -> None:
        self.calls += 1
        super().check()


def objects(device: AssembledDevice) -> dict[str, Any]:
    """Return one of everything that a device makes, with work in flight."""
    buffer = device.create_buffer("1 MiB", label=LONG)
    source = KernelSource("k", {"host": lambda *_: None}, [Binding(LONG)], [Param("n")])
    kernel = device.create_kernel(source)
    commands = device.command_list(label=LONG).dispatch(kernel, [buffer], [1], threads=1)
    ring, pool = device.staging_ring(), device.readback_pool()
    taken = pool.read(buffer, nbytes=4)
    return {
        "device": device,
        "lane": device.lanes["compute"],
        "timeline": device.lanes["compute"].timeline,
        "point": device.submit(commands),
        "buffer": buffer,
        "texture": device.create_texture(8, 8, label=LONG),
        "kernel": kernel,
        "commands": commands,
        "ring": ring,
        "slice": ring.reserve(100),
        "pool": pool,
        "handle": pool.read(buffer),
        "lease": taken.lease(20),
        "stream": pool.stream(buffer),
        "budget": device.budget,
        "reservation": device.budget.reserve(5),
    }


def reached(root: Any) -> Iterator[Any]:
    """Yield all that public attributes lead to from ``root`` without a call."""
    seen: set[int] = set()
    queue = [root]
    while queue:
        one = queue.pop()
        if id(one) in seen or not type(one).__module__.startswith(("forge3d_core", "builtins")):
            continue
        seen.add(id(one))
        if isinstance(one, Mapping):
            queue += one.values()
        if type(one).__module__.startswith("forge3d_core"):
            yield one
            names = [name for name in dir(one) if not name.startswith("_")]
            for name in names:
                try:
                    value = getattr(one, name)
                except ForgeError:
                    continue
                if not callable(value):
                    queue.append(value)


def check(shown: str) -> None:
    assert shown.startswith("<") or "(" in shown
    assert shown.isprintable(), shown
    assert 0 < len(shown) <= MAX_LINE, shown
    assert " object at 0x" not in shown


@pytest.fixture
def device() -> Iterator[AssembledDevice]:
    device = assemble(Asked(HostMachine(), owned=True))
    yield device
    device.close()


@pytest.fixture
def made(device: AssembledDevice) -> Iterator[dict[str, Any]]:
    made = objects(device)
    yield made
    made["lease"].release()
    made["slice"].release()
    made["reservation"].release()


def test_everything_reachable_has_a_repr_in_one_line(made: dict[str, Any]) -> None:
    values = [made["ring"].stats(), made["pool"].stats(), made["budget"].metrics(), made["pool"].config]
    walked = [one for each in (*made.values(), *values) for one in reached(each)]
    assert {type(made[name]) for name in KINDS} <= set(map(type, walked))
    for one in walked:
        check(repr(one))
    assert "host:0" in repr(made["buffer"])
    assert "1 MiB" in repr(made["buffer"])
    assert "3 x 1 MiB" in repr(made["ring"])
    made["point"].wait(20)
    assert repr(made["point"]) == "<point 1 of lane 'compute', done>"


def test_a_repr_asks_no_driver_and_takes_no_lock(device: AssembledDevice, made: dict[str, Any]) -> None:
    driver = device.driver
    assert isinstance(driver, Asked)
    locks = [lock for one in made.values() for lock in locks_of(one)]
    assert len(locks) >= 4
    held, leave, shown = threading.Event(), threading.Event(), threading.Event()

    def hold() -> None:
        for lock in locks:
            lock.acquire()
        held.set()
        leave.wait(20)
        for lock in locks:
            lock.release()

    def show() -> None:
        for one in made.values():
            repr(one)
        shown.set()

    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(20)
    before = driver.calls
    shower = threading.Thread(target=show, daemon=True)
    shower.start()
    in_time = shown.wait(20)
    after = driver.calls
    leave.set()
    holder.join(20)
    shower.join(20)
    assert in_time
    assert after == before


def locks_of(one: Any) -> Iterator[Any]:
    for name in ("_lock", "_state", "_submission"):
        lock = getattr(one, name, None)
        if hasattr(lock, "acquire"):
            yield lock


def test_a_repr_works_when_all_is_over(device: AssembledDevice, made: dict[str, Any]) -> None:
    native = device.native
    native.lose("to see what is shown")
    with pytest.raises(forge3d.DeviceLost):
        device.create_buffer(1)
    for one in made.values():
        check(repr(one))
    assert "lost" in repr(device)
    made["lease"].release()
    made["slice"].release()
    made["reservation"].release()
    device.close()
    for one in made.values():
        check(repr(one))
    assert "closed" in repr(device)
    assert "failed: " in repr(device.lanes["compute"].timeline.point(99))


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_repr_works_in_a_forked_child(made: dict[str, Any]) -> None:
    quiet: list[Callable[[], Any]] = [lambda one=one: check(repr(one)) for one in made.values()]
    locks = [lock for one in made.values() for lock in locks_of(one)]
    assert complaints_of_a_child([], quiet, locks, 20) == []


def test_help_says_what_the_protocols_say(made: dict[str, Any]) -> None:
    for name, protocol in KINDS.items():
        one, kind = made[name], type(made[name])
        assert inspect.getdoc(protocol).splitlines()[0] in inspect.getdoc(kind), name  # type: ignore[union-attr, operator]
        for member in public(protocol):
            told = inspect.getattr_static(kind, member, None)
            if inspect.isfunction(told) or isinstance(told, property):
                documentation = inspect.getdoc(getattr(kind, member))
                assert documentation, f"{name}.{member}"
                assert documentation == inspect.getdoc(getattr(protocol, member)) or told.__doc__
            assert hasattr(one, member) or member == "native"
    assert "limits.max_buffer_size" in (inspect.getdoc(made["device"].create_buffer) or "")


def public(kind: type) -> list[str]:
    return [name for name in dir(kind) if not name.startswith("_")]


def test_completion_lists_what_the_protocols_have(made: dict[str, Any]) -> None:
    for name, protocol in KINDS.items():
        listed = [member for member in dir(made[name]) if not member.startswith("_")]
        assert listed == sorted(public(protocol)), name


def test_nothing_is_pickled_or_copied(made: dict[str, Any]) -> None:
    for name, one in {**made, "native": made["device"].native}.items():
        for act in (pickle.dumps, copy.copy, copy.deepcopy, lambda one: pickle.dumps({"in": [one]}, 5)):
            with pytest.raises(ForgeError, match=r"open a device in each process") as caught:
                act(one)
            assert isinstance(caught.value, TypeError), name


def test_values_travel(made: dict[str, Any]) -> None:
    values = (
        *(made["ring"].stats(), made["pool"].stats(), made["budget"].metrics(), made["pool"].config),
        *(made["device"].info, made["device"].limits, made["texture"].format, Binding("x"), Param("y")),
        *(forge3d.DeviceOptions(budget=3), KernelSource("k", {"wgsl": "..."}, [Binding("x")])),
    )
    for value in values:
        assert pickle.loads(pickle.dumps(value)) == value == copy.deepcopy(value)
        check(repr(value))
        assert str(value).isprintable()


def test_figures_are_told_in_full_by_str_and_in_a_table(made: dict[str, Any]) -> None:
    stats = made["ring"].stats()
    for field in attrs.fields(type(stats)):
        assert f"{field.name}={getattr(stats, field.name)}" in str(stats)
    for one in (made["device"], made["budget"], stats, made["pool"].stats(), made["budget"].metrics()):
        page = one._repr_html_()
        assert page.startswith("<table>")
        assert page.endswith("</table>")
    assert "&lt;b&gt;" in table("<b>", {"<i>": "<script>"})
    assert "<script>" not in table("<b>", {"<i>": "<script>"})
    assert len(line("x" * 999)) == MAX_LINE


def test_memory_is_no_array_and_no_sequence(made: dict[str, Any]) -> None:
    for name in ("buffer", "texture"):
        one = made[name]
        assert bool(one)
        acts: tuple[Callable[[Any], Any], ...] = (
            np.asarray,
            np.array,
            len,
            list,
            iter,
            lambda m: m[0],
            lambda m: m[:],
        )
        for act in (
            *acts,
            lambda m: m[:],
            lambda m: np.asarray(m, "f4"),
            lambda m: np.zeros(3) + m,
            reversed,
            sum,
        ):
            with pytest.raises(forge3d.WrongType, match=r"pool\.read"):
                act(one)
    for name in ("slice", "lease", "handle"):
        with pytest.raises(forge3d.WrongType, match=re.escape(f"write {name}.")):
            np.asarray(made[name])
