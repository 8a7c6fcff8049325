"""Graphs: a list that is submitted many times costs one launch from its second submission on.

The launch of a graph costs less than that of a kernel, so even one command is worth it.

A list is captured on a stream of its own, which takes no part in anything else: an interrupt in the middle
leaves no lane capturing. The capture is relaxed: the garbage collector may free memory in this thread
meanwhile, which CUDA would otherwise refuse.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import attrs

from forge3d_core.driver import Command, PreparedCommands
from forge3d_cuda.handles import Handle
from forge3d_cuda.transfers import Call


@attrs.frozen(eq=False)
class Translation:
    """What a list has become. ``final``: nothing better will be made of it."""

    calls: list[Call]
    graph: Handle | None = None
    final: bool = False


@attrs.frozen(eq=False)
class Graphs:
    """Captures and keeps, in the list itself, what lists become.

    Thread-safety: as ``submit``, one thread at a time.
    """

    _runtime: Any

    def of(
        self, commands: PreparedCommands, translate: Callable[[Sequence[Command]], list[Call]]
    ) -> Translation:
        """Return the translation of ``commands``: plain calls at first, then the launch of a graph.

        CUDA may refuse to capture; then they stay plain calls, which say what is wrong, if anything is.
        """
        made: Translation | None = commands.translation
        if made is None:
            calls = translate(commands)
            made = Translation(calls, final=not calls)
        elif not made.final:
            graph = self._captured(made.calls)
            calls = made.calls if graph is None else [(self._runtime.graphLaunch, (graph.value,))]
            made = Translation(calls, graph, final=True)
        else:
            return made
        commands.translation = made
        return made

    def _captured(self, calls: list[Call]) -> Handle | None:
        runtime = self._runtime
        with contextlib.suppress(RuntimeError):
            stream = Handle(runtime.streamCreateWithFlags(runtime.streamNonBlocking), runtime.streamDestroy)
            try:
                runtime.streamBeginCapture(stream.value, runtime.streamCaptureModeRelaxed)
                for call, arguments in calls:
                    call(*arguments, stream.value)
            except BaseException:  # the stream must not be destroyed while it captures
                with contextlib.suppress(RuntimeError):
                    Handle(runtime.streamEndCapture(stream.value), runtime.graphDestroy)
                raise
            graph = Handle(runtime.streamEndCapture(stream.value), runtime.graphDestroy)
            return Handle(runtime.graphInstantiate(graph.value), runtime.graphExecDestroy)
        return None
