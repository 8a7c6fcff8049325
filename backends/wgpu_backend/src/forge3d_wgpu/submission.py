"""Submissions: the tokens that say when work is done."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import attrs
from wgpu.backends.wgpu_native import lib

from forge3d_core.driver import Command
from forge3d_core.errors import ForgeError
from forge3d_wgpu.recording import Recording
from forge3d_wgpu.signals import SUCCESS, Signal

_NO_FAILURE: tuple[list[int], ...] = ([SUCCESS], [])


@attrs.define(eq=False)
class Submission:
    """The token of a submission.

    ``recording`` makes the native command buffer; None once that is submitted, or never will be. Not before
    it is submitted: wgpu-native keeps a command buffer that is finished and not submitted, and its device,
    for good.
    """

    recording: Recording | None
    commands: Sequence[Command]
    queue: deque[Submission]  # the feeder's
    accepted: bool = attrs.field(default=False, init=False)  # the call that made it came to its end
    failure: ForgeError | None = attrs.field(default=None, init=False)
    done: bool = attrs.field(default=False, init=False)
    _statuses: list[list[int]] = attrs.field(factory=list, init=False)  # of the callbacks that wgpu owes it
    _worked: Signal | None = attrs.field(default=None, init=False)
    _launched: list[bool] = attrs.field(factory=list, init=False)

    @property
    def launched(self) -> bool:
        return bool(self._launched)

    @property
    def waiting(self) -> bool:
        return not self._launched and self in self.queue

    @property
    def settled(self) -> bool:
        """Whether every callback has fired; whether it was for the right reason is another question.

        The signals of blocks are used again: ask no more once it was true.
        """
        return bool(self._launched) and all(self._statuses)

    @property
    def failed(self) -> bool:
        """Whether any callback told of anything but success.

        A status that is not there any more was a success: another thread has seen this submission complete,
        and the block serves a newer one. Each comparison is one step of C, in which no status changes.
        """
        return any(statuses not in _NO_FAILURE for statuses in self._statuses)

    def steps(
        self, queue: Any, recording: Recording, submit: Sequence[tuple[Any, ...]]
    ) -> list[tuple[Any, ...]]:
        """Return the calls that launch it, ``submit`` among them: none runs any Python code.

        Blocks are mapped again when the work has ended that names them, so their callbacks tell of that;
        where there is none, the queue's own does.
        """
        launch = (self._launched.append, True)
        blocks = recording.blocks.values()
        if not blocks:
            self._worked = worked = Signal.take()
            self._statuses = [worked.statuses]
            return [launch, *submit, (lib.wgpuQueueOnSubmittedWorkDone, queue, worked.worked[0])]
        statuses, clear, unmap, map_again = [], [], [], []
        for block in blocks:
            statuses.append(block.signal.statuses)
            clear.append(block.clear_step)
            unmap.append(block.unmap_step)
            map_again.append(block.map_step)
        self._statuses = statuses
        return [*clear, launch, *unmap, *submit, *map_again]

    def retire(self) -> None:
        worked, self._worked, self._statuses = self._worked, None, []
        if worked is not None:
            worked.give()
