"""A CUDA runtime that runs nothing, for what no device can be brought to do at the right moment."""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import attrs

from forge3d_cuda.errors import NOT_READY, SUCCESS


@attrs.define(eq=False)
class Runtime:
    """CUDA's runtime as the backend's bookkeeping sees it: hands out handles, notes calls, runs nothing.

    ``pending`` are the events that are not complete; ``during`` what happens, once, as a function is called.
    What a capturing stream is given goes into a graph; one that was broken, or has gone, is refused.
    """

    calls: list[tuple[Any, ...]] = attrs.field(factory=list)
    pending: set[int] = attrs.field(factory=set)
    during: dict[str, Callable[[], object]] = attrs.field(factory=dict)
    _handles: Iterator[int] = attrs.field(factory=lambda: itertools.count(1))
    _free: list[int] = attrs.field(factory=lambda: [0x2000, 0x1000])  # device memory, the next one last
    _host: dict[int, Any] = attrs.field(factory=dict)
    _streams: dict[int, int] = attrs.field(factory=dict)  # of the events that were recorded

    graphs: dict[int, list[tuple[Any, ...]]] = attrs.field(factory=dict)  # the calls of each, and of their
    _capturing: dict[int, list[tuple[Any, ...]]] = attrs.field(factory=dict)  # executable ones; of a stream

    streamNonBlocking = eventDisableTiming = hostAllocPortable = 0
    streamCaptureModeRelaxed = 2
    cudaDevAttrMemoryPoolsSupported = cudaMemPoolAttrReleaseThreshold = 0
    MemPoolProps = staticmethod(lambda *properties: properties)

    def called(self, name: str) -> list[tuple[Any, ...]]:
        """Return the arguments of every call of ``name``."""
        return [arguments for called, *arguments in self.calls if called == name]

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("_"):
            raise AttributeError(name)

        def call(*arguments: Any) -> Any:
            self.calls.append((name, *arguments))
            captured = None if name.startswith("stream") else self._capture_of(name, arguments)
            answer = self._answer(name, arguments)
            self.during.pop(name, lambda: None)()
            if captured is not None:
                captured.append((name, *arguments))
            return answer

        return call

    def _capture_of(self, name: str, arguments: tuple[Any, ...]) -> list[tuple[Any, ...]] | None:
        """Return the calls that the stream of a call has captured so far, if it captures."""
        at = {"launchKernel": 8, "memcpyAsync": 4, "memcpy2DAsync": 7, "memsetAsync": 3, "eventRecord": 1}
        return self._capturing.get(arguments[at[name]]) if name in at else None

    def _answer(self, name: str, arguments: tuple[Any, ...]) -> Any:
        match name:
            case "deviceGetAttribute" | "streamCreateWithFlags" | "eventCreateWithFlags" | "memPoolCreate":
                return next(self._handles)
            case "streamBeginCapture":
                self._capturing[arguments[0]] = []
            case "streamEndCapture":
                if arguments[0] not in self._capturing:
                    raise RuntimeError("no capture")
                graph = next(self._handles)
                self.graphs[graph] = self._capturing.pop(arguments[0])
                return graph
            case "graphInstantiate":
                graph = next(self._handles)
                self.graphs[graph] = self.graphs[arguments[0]]
                return graph
            case "graphLaunch":
                assert arguments[0] in self.graphs
            case "graphDestroy" | "graphExecDestroy":
                del self.graphs[arguments[0]]
            case "streamDestroy":
                assert arguments[0] not in self._capturing
            case "eventQuery":
                return NOT_READY if arguments[0] in self.pending else SUCCESS
            case "memGetInfo":
                return 30 << 30, 80 << 30
            case "getDevice":
                return 0
            case "eventRecord":
                self._streams[arguments[0]] = arguments[1]
            case "streamQuery":
                busy = {self._streams.get(event) for event in self.pending}
                return NOT_READY if arguments[0] in busy else SUCCESS
            case "mallocFromPoolAsync":
                return self._free.pop()
            case "freeAsync":
                self._free.append(arguments[0])
            case "hostAlloc":
                memory = ctypes.create_string_buffer(arguments[0])
                self._host[ctypes.addressof(memory)] = memory
                return ctypes.addressof(memory)
            case "freeHost":
                del self._host[arguments[0]]
        return None


@attrs.define(eq=False)
class Array:
    """As much of a ``cupy.ndarray`` as keeps its memory."""

    shape: tuple[int, ...]
    dtype: Any
    data: Any
