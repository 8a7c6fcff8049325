"""A driver with the few things that the core would put around it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import numpy as np
import pytest

from forge3d_core.driver import Command, Dispatch, Download, Driver, HostBlock, Upload
from forge3d_core.host.driver import HostDriver
from forge3d_core.host.machine import HostMachine
from forge3d_core.host.options import parse_selector
from forge3d_core.host.submission import Submission
from forge3d_core.memory.textures import TextureMemory
from forge3d_core.protocols import Binding, KernelSource, Param, TextureFormat

PATIENCE = 20.0  # seconds; only a failing test waits that long


@attrs.frozen(eq=False)
class Memory:
    native: Any
    nbytes: int


@attrs.frozen(eq=False)
class Compiled:
    source: KernelSource
    language: str
    native: Any


@attrs.define(eq=False)
class Rig:
    """One driver, and bytes in and out of it."""

    driver: HostDriver

    def buffer(self, nbytes: int) -> Memory:
        return Memory(self.driver.allocate_buffer(nbytes), nbytes)

    def image(self, width: int, height: int, format: TextureFormat) -> TextureMemory:
        native = self.driver.allocate_texture(width, height, format)
        return TextureMemory(native, native.nbytes, width, height, format)

    def kernel(
        self,
        function: Callable[..., None],
        bindings: tuple[Binding, ...] = (),
        params: tuple[Param, ...] = (),
    ) -> Compiled:
        source = KernelSource("probe", {"host": function}, bindings, params)
        return Compiled(source, *self.driver.compile(source))

    def call(
        self, lane: str, function: Callable[[], object], after: tuple[Submission, ...] = ()
    ) -> Submission:
        """Submit a kernel without arguments that calls ``function``."""

        def kernel(_threads: tuple[int, int, int]) -> None:
            function()

        return self.driver.submit(lane, [Dispatch(self.kernel(kernel), (), (), (1, 1, 1))], after)

    def upload(self, data: Any) -> tuple[HostBlock, Upload, Memory]:
        array = np.ascontiguousarray(data).reshape(-1).view(np.uint8)
        block, target = self.driver.allocate_block(array.nbytes, "upload"), self.buffer(array.nbytes)
        block.view()[:] = array
        return block, Upload(block, 0, target, 0, array.nbytes), target

    def run(self, *commands: Command, lane: str = "compute") -> None:
        self.finish(self.driver.submit(lane, commands, ()))

    def finish(self, *tokens: Submission) -> None:
        for token in tokens:
            assert self.driver.wait(token, PATIENCE)

    def peek(self, source: Memory) -> np.ndarray[Any, np.dtype[np.uint8]]:
        block = self.driver.allocate_block(source.nbytes + 64, "readback")
        self.run(Download(source, 0, block, 0, source.nbytes), lane="download")
        return block.view()[: source.nbytes].copy()


@pytest.fixture
def make() -> Iterator[Callable[[str], Rig]]:
    """Return a function that opens a rig for a selector; all are closed at the end."""
    rigs: list[Rig] = []

    def open_rig(selector: str = "") -> Rig:
        driver = HostDriver(HostMachine(parse_selector(selector)))
        as_protocol: Driver = driver
        assert as_protocol.info.backend == "host"
        rigs.append(Rig(driver))
        return rigs[-1]

    yield open_rig
    for rig in rigs:
        rig.driver.close(PATIENCE)


@pytest.fixture(params=["", "?seed=7", "?pitch=256&align=4"])
def rig(make: Callable[[str], Rig], request: pytest.FixtureRequest) -> Rig:
    """A rig of each temper: plain, adversarial, and with the alignment of a stricter API."""
    return make(request.param)


_earlier: set[threading.Thread] = set()


@pytest.fixture(autouse=True)
def _note_earlier_threads() -> None:
    """Tell the lanes of this test from those that other tests in this process left to end by themselves."""
    _earlier.clear()
    _earlier.update(threading.enumerate())


def threads_of_lanes() -> set[str]:
    threads = set(threading.enumerate()) - _earlier
    return {thread.name for thread in threads if thread.name.startswith("forge3d-host-")}
