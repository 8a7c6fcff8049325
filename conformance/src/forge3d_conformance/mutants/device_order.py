"""Devices that let work on one lane run ahead of work on another, or of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from forge3d_conformance.mutants.registry import mutant
from forge3d_conformance.mutants.wrap import Layer, unwrap


class Hazards(Layer):
    """Keeps the lists that are recorded, and for each buffer the points that read and wrote it."""

    def __init__(self) -> None:
        super().__init__()
        self.writers: dict[int, tuple[Any, str, Any]] = {}
        self.readers: dict[int, tuple[Any, str, Any]] = {}
        self.keeping: list[Any] = []  # so that no buffer's id is another's

    class Commands(Layer.Commands):
        def __init__(self, layer: Layer, target: Any) -> None:
            super().__init__(layer, target)
            self.reading: list[Any] = []
            self.writing: list[Any] = []
            self.redo: list[Callable[[Any, Callable[[Any], Any]], object]] = []

        def fill(self, target: Any, *args: Any, **kwargs: Any) -> Any:
            self.target.fill(unwrap(target), *args, **kwargs)
            self.writing.append(unwrap(target))
            self.redo.append(lambda commands, stale: commands.fill(unwrap(target), *args, **kwargs))
            return self

        def copy(self, source: Any, target: Any, *args: Any, **kwargs: Any) -> Any:
            self.target.copy(unwrap(source), unwrap(target), *args, **kwargs)
            self.reading.append(unwrap(source))
            self.writing.append(unwrap(target))
            self.redo.append(
                lambda commands, stale: commands.copy(stale(unwrap(source)), unwrap(target), *args, **kwargs)
            )
            return self

    class Device(Layer.Device):
        def submit(self, commands: Any, *, lane: str = "compute", after: Any = ()) -> Any:
            point = self.pass_on(commands, lane, after)
            for touched, kept in (
                (commands.reading, self.layer.readers),  # type: ignore[attr-defined]
                (commands.writing, self.layer.writers),  # type: ignore[attr-defined]
            ):
                for buffer in touched:
                    self.layer.keeping.append(buffer)  # type: ignore[attr-defined]
                    kept[id(buffer)] = (point, lane, buffer)
            return point

        def pass_on(self, commands: Any, lane: str, after: Any) -> Any:
            return self.real.submit(commands, lane=lane, after=after)

        def pending(self, kept: dict[int, tuple[Any, str, Any]], buffer: Any, lane: str) -> bool:
            """Whether another lane still has to read or write the buffer."""
            point, other, _ = kept.get(id(buffer), (None, lane, None))
            return point is not None and other != lane and not point.done


class ReadsStale(Hazards):
    """What is read and pending on another lane is replaced by fresh memory."""

    class Device(Hazards.Device):
        def pass_on(self, commands: Any, lane: str, after: Any) -> Any:
            def stale(buffer: Any) -> Any:
                if self.pending(self.layer.writers, buffer, lane):  # type: ignore[attr-defined]
                    return self.target.create_buffer(buffer.nbytes)
                return buffer

            again = self.target.command_list()
            for record in commands.redo:
                record(again, stale)
            return self.real.submit(again if commands.redo else commands, lane=lane, after=after)


@mutant("device.reader-runs-ahead", breaks="device.order", because="a reader on .* (saw|did not wait)")
class ReaderRunsAhead(ReadsStale):
    """A submission reads what memory showed before a write that another lane has yet to do."""


class OvertakesReaders(Hazards):
    """The point of what writes over something that is yet to be read comes at once."""

    class Device(Hazards.Device):
        def pass_on(self, commands: Any, lane: str, after: Any) -> Any:
            overtakes = any(
                self.pending(self.layer.readers, buffer, lane)  # type: ignore[attr-defined]
                for buffer in commands.writing
            )
            if not overtakes:
                return self.real.submit(commands, lane=lane, after=after)
            aside = self.target.create_buffer(4)
            ahead = self.real.submit(self.target.command_list().fill(aside, 1), lane=lane)
            ahead.wait(1)
            self.real.submit(commands, lane=lane, after=after)
            return ahead


@mutant(
    "device.writer-runs-ahead",
    breaks="device.order",
    because="a writer on .* reads did not wait",
    requires=("concurrent_lanes",),
)
class WriterRunsAhead(OvertakesReaders):
    """A writer waits for the last writer and for no reader."""


class Bindings(Hazards):
    """Keeps what kernels read through bindings that they only read, and of no other reader."""

    class Commands(Hazards.Commands):
        def copy(self, source: Any, target: Any, *args: Any, **kwargs: Any) -> Any:
            self.target.copy(unwrap(source), unwrap(target), *args, **kwargs)
            self.writing.append(unwrap(target))
            self.redo.append(
                lambda commands, stale: commands.copy(unwrap(source), unwrap(target), *args, **kwargs)
            )
            return self

        def dispatch(self, kernel: Any, buffers: Any, *args: Any, **kwargs: Any) -> Any:
            kernel, buffers = unwrap(kernel), unwrap(list(buffers))
            self.target.dispatch(kernel, buffers, *args, **kwargs)
            bound = [
                (buffer, b.access == "read")
                for buffer, b in zip(buffers, kernel.source.bindings, strict=True)
            ]
            self.reading += [buffer for buffer, read_only in bound if read_only]
            self.writing += [buffer for buffer, read_only in bound if not read_only]
            self.redo.append(
                lambda commands, stale: commands.dispatch(
                    kernel,
                    [stale(buffer) if read_only else buffer for buffer, read_only in bound],
                    *args,
                    **kwargs,
                )
            )
            return self


@mutant(
    "device.read-binding-runs-ahead",
    breaks="device.order",
    because="a reading kernel on .* (saw|did not wait)",
)
class ReadBindingRunsAhead(ReadsStale, Bindings):
    """A kernel reads, where it only reads, what memory showed before another lane's write."""


@mutant(
    "device.read-binding-is-overtaken",
    breaks="device.order",
    because="a writer on .* of what a held kernel on .* did not wait",
    requires=("concurrent_lanes",),
)
class ReadBindingIsOvertaken(OvertakesReaders, Bindings):
    """A writer does not wait for a kernel that only reads."""


@mutant("device.readback-runs-ahead", breaks="device.order", because="a readback of what")
class ReadbackRunsAhead(Hazards):
    """A readback does not wait for the compute lane."""

    class Pool(Layer.Pool):
        def read(self, source: Any, **region: Any) -> Any:
            device = self.layer.lasting("Device")[0]
            if device.pending(self.layer.writers, unwrap(source), "download"):  # type: ignore[attr-defined]
                source = device.target.create_buffer(source.nbytes)
            return self.real.read(source, **region)


@mutant("device.upload-runs-ahead", breaks="device.order", because="an upload to what")
class UploadRunsAhead(Hazards):
    """The point of an upload is done although a reader keeps the memory from being written."""

    class Ring(Layer.Ring):
        def advance(self, timeout: float | None = None) -> Any:
            point = self.real.advance(timeout)
            readers = list(self.layer.readers.values())  # type: ignore[attr-defined]
            waiting = any(lane != "upload" and not reader.done for reader, lane, _ in readers)
            return point.timeline.point(0) if waiting else point


@mutant(
    "device.lane-is-two-queues",
    breaks="device.order",
    because="work on .* (did not wait|ended before)",
    requires=("concurrent_lanes",),
)
class LaneIsTwoQueues(Layer):
    """Every second submission to a lane goes to another queue, to keep the device busy."""

    class Device(Layer.Device):
        turn = 0

        def submit(self, commands: Any, *, lane: str = "compute", after: Any = ()) -> Any:
            self.turn += 1
            other = "compute" if lane == "upload" else "upload"
            queue = other if self.turn % 2 else lane
            return self.real.submit(commands, lane=queue, after=after)
