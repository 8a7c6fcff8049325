"""The loops by hand that forge3d is measured beside do the work: over a runtime of numpy, no GPU needed."""

from __future__ import annotations

import ctypes
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from forge3d_conformance.speed.payload import payload
from forge3d_conformance.speed.peers.crew import Crew
from forge3d_conformance.speed.peers.cuda_frames import FRAMES, CudaFrames
from forge3d_conformance.speed.peers.cuda_workers import CHUNK, CudaWorkers
from forge3d_conformance.speed.peers.host_thread import HostThread


class Stream:
    ptr = 0

    def __init__(self, non_blocking: bool = False) -> None: ...

    def synchronize(self) -> None: ...

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *exc_info: object) -> None: ...


class Memory(np.ndarray[Any, Any]):
    """An array that has its address where CuPy's have it."""

    @property
    def data(self) -> Any:  # type: ignore[override]
        return SimpleNamespace(ptr=self.ctypes.data)


class Runtime:
    def __init__(self) -> None:
        self.events: set[int] = set()

    def getDevice(self) -> int:
        return 0

    def setDevice(self, _device: int) -> None: ...

    def eventCreateWithFlags(self, _flags: int) -> int:
        self.events.add(event := len(self.events) + 1)
        return event

    def eventDestroy(self, event: int) -> None:
        self.events.remove(event)

    def eventSynchronize(self, event: int) -> None:
        assert event in self.events

    def eventRecord(self, event: int, _stream: int) -> None:
        assert event in self.events

    def streamWaitEvent(self, _stream: int, event: int, _flags: int) -> None:
        assert event in self.events

    def memcpyAsync(self, target: int, source: int, nbytes: int, _kind: int, _stream: int) -> None:
        ctypes.memmove(target, source, nbytes)


class Kernel:
    def __init__(self, _code: str, _name: str) -> None: ...

    def __call__(self, _grid: tuple[int], _group: tuple[int], arguments: tuple[Any, ...]) -> None:
        memory, step, count = arguments
        memory[: int(count)] += step


@pytest.fixture
def cupy() -> Any:
    cuda = SimpleNamespace(
        runtime=Runtime(), Stream=Stream, alloc_pinned_memory=lambda nbytes: np.zeros(nbytes, np.uint8)
    )
    zeros = lambda shape, dtype: np.zeros(shape, dtype).view(Memory)  # noqa: E731
    return SimpleNamespace(cuda=cuda, zeros=zeros, RawKernel=Kernel)


@pytest.mark.parametrize("nbytes", [1, CHUNK, 5 * CHUNK + 17])
def test_workers_carry_every_byte_both_ways(cupy: Any, nbytes: int) -> None:
    data, device, home = payload(nbytes), np.zeros(nbytes, np.uint8), np.zeros(nbytes, np.uint8)
    workers = CudaWorkers(cupy)
    workers.up(device.ctypes.data, data)
    assert (device == data).all()
    workers.down(device.ctypes.data, home)
    assert (home == data).all()
    workers.close()
    assert not cupy.cuda.runtime.events


def test_frames_go_up_through_the_kernel_and_home(cupy: Any) -> None:
    frames = CudaFrames(cupy, 4096)
    frames.run()
    assert len(frames._places) < FRAMES
    for place in frames._places:
        assert (place.target.view(np.uint32) == place.source.view(np.uint32) + 1).all()
    frames.close()
    assert not cupy.cuda.runtime.events


def test_an_error_on_a_thread_of_the_crew_is_told() -> None:
    crew = Crew(2, lambda: None)

    def fail(index: int) -> None:
        raise ZeroDivisionError(str(index))

    with pytest.raises(ZeroDivisionError):
        crew.each(fail)
    crew.each(lambda _index: None)
    crew.close()


@pytest.mark.parametrize("operation", ["launch", "hand-copy", "copy", "both", "mark", "frames", "demo"])
def test_a_thread_does_what_it_is_handed(operation: str) -> None:
    thread = HostThread()
    runner = thread.runner(operation, 4096)
    runner.call()
    runner.settle()
    runner.close()
    thread.close()
