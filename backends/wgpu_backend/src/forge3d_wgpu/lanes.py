"""Submission: three logical lanes over wgpu's one queue, and the tokens that say when it is done.

WebGPU has one queue and runs it in order, so a lane is a name and ``after`` is always satisfied.

A token is complete when the map callbacks of the blocks that the submission names have fired, or where it
names none the queue's work-done callback, on a device that is not lost: destroying a device fires them too.

Nothing here ever waits in the driver. A blocking ``wgpuDevicePoll`` holds the lock that ``submit``
needs for as long as it waits, and wgpu-py's own ``map_async`` polls that way on a thread of its own.
Waiting is asking again, with growing pauses (:func:`forge3d_core.driver.poll_until`).

Adapters that are CPUs
    wgpu-native orders submissions by binary semaphores, and Mesa's lavapipe, which emulates those,
    blocks ``vkQueueSubmit`` until the *previous* submission has run. There (``one_at_a_time``) a
    submission that meets a busy queue is handed to a feeder thread, which submits it when the queue is
    empty and goes away when nothing is left. Where the device's owner uses the queue as well (``in_order``),
    ``submit`` waits for the feeder.

OpenGL
    A submission runs its work before it returns. There (``deferred``) the feeder makes every submission.

Interrupts
    The calls that launch a submission are one step (:func:`forge3d_wgpu.errors.call_all`). One that was cut
    short before or behind it is not ``accepted``: no caller has its token, so the next that wants one of its
    blocks waits for it.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import attrs
from wgpu.backends.wgpu_native import ffi, lib

from forge3d_core.driver import Command, OwnThread, poll_until, start_thread
from forge3d_core.errors import DriverError, ForgeError
from forge3d_wgpu.errors import LOSSES, NativeErrors, call_all, device_lost, is_alive
from forge3d_wgpu.guard import Guard, natives
from forge3d_wgpu.recording import Recording
from forge3d_wgpu.submission import Submission

FEEDER_LEASH_SECONDS = 0.25
"""How long the feeder waits before it looks whether it should stop."""

CHECKUP_SECONDS = 0.1
"""How often a wait makes sure that the device is still there."""

_COMMAND_BUFFERS = ffi.typeof("WGPUCommandBuffer[1]")


@attrs.define(eq=False)
class Lanes:
    """The queue of one device.

    ``in_order``: the device's owner uses the queue, too, so work has its place there when ``submit`` returns.

    Thread-safety: ``submit`` one thread at a time, the rest any thread.
    """

    device: Any
    one_at_a_time: bool
    in_order: bool = False
    guard: Guard = attrs.field(factory=Guard)
    deferred: bool = False
    _native: threading.Lock = attrs.field(factory=threading.Lock)  # polls and submissions
    _lost: ForgeError | None = attrs.field(default=None, init=False)
    _newest: deque[Submission] = attrs.field(factory=lambda: deque(maxlen=1), init=False)  # of the queue
    _queued: deque[Submission] = attrs.field(factory=deque, init=False)  # for the feeder
    _feeder: threading.Thread | None = attrs.field(default=None, init=False)
    _launching: Submission | None = attrs.field(default=None, init=False)  # by the feeder, first of its queue
    _closing: bool = attrs.field(default=False, init=False)
    _order: threading.Lock = attrs.field(factory=threading.Lock, init=False)  # of submissions
    _buffers: Any = attrs.field(factory=partial(ffi.new, _COMMAND_BUFFERS), init=False)
    _checked: float = attrs.field(factory=time.monotonic, init=False)
    _losses: int = attrs.field(factory=lambda: LOSSES.count, init=False)

    def submit(self, recording: Recording, commands: Sequence[Command]) -> Submission:
        """Submit what was recorded, now or when the queue is free; waits only if ``in_order``."""
        submission = Submission(recording, commands, self._queued)
        for block in recording.blocks.values():
            block.claim(submission)
        with self._order:
            if self.deferred or self._feeder is not None or (self.one_at_a_time and not self.idle):
                if self._feeder is None:
                    self._start_feeder()
                self._queued.append(submission)
            else:
                self._launch(submission)
        if self.in_order and submission in self._queued:
            poll_until(lambda: submission not in self._queued, math.inf)
        submission.accepted = True
        return submission

    def flush(self) -> None:
        """Wait until all that was submitted has its place in the queue."""
        poll_until(lambda: not self._queued, math.inf)

    def query(self, submission: Submission) -> bool:
        """Whether the submission is complete. Raises what made it fail, or :class:`DeviceLost`."""
        if submission.done:
            return True
        settled = submission.settled
        if not settled:
            self.poll()
            settled = submission.settled
        if submission.failure is not None:
            raise submission.failure
        failed = settled and submission.failed
        if submission.done:  # another thread saw it, and its blocks may be in use again by now
            return True  # type: ignore[unreachable]  # mypy knows of one thread
        self.check_up(at_once=failed)
        if not settled:
            return False
        if failed:
            raise ForgeError("wgpu did not give a host-visible block back after a submission")
        submission.done = True
        return True

    def wait(self, submission: Submission, seconds: float) -> bool:
        return poll_until(partial(self.query, submission), seconds)

    def poll(self) -> None:
        """Let wgpu fire the callbacks that are due. One thread at a time is enough; seldom does one wait."""
        if not self._native.locked():
            with self._native:
                self._poll()

    def settle(self, condition: Callable[[], bool]) -> None:
        """Wait for what a callback of wgpu's will bring about."""

        def settled() -> bool:
            self.poll()
            self.check_up()
            return condition()

        poll_until(settled, math.inf)

    def check(self) -> None:
        """Raise :class:`DeviceLost` if the device is known to be lost."""
        if self._lost is None and self.guard.lost:
            self._lost = device_lost("its owner destroyed it")
        if self._lost is not None:
            raise device_lost("see the first error") from self._lost

    def drain(self, timeout: float) -> bool:
        """Let what was submitted end; whether it did. Nothing is submitted afterwards."""
        try:
            poll_until(self._idle, timeout)
        except ForgeError:
            pass  # lost: what still runs there ends when it likes
        finally:
            self._closing = True
            with self._order:
                for submission in self._queued:
                    if submission is not self._launching:  # it is kept by its token, what it names is not
                        submission.recording = None
                self._queued.clear()
        feeder = self._feeder
        if feeder is not None and feeder is not threading.current_thread():
            # To submit takes no time, or (deferred) as long as the work, which has had its time.
            poll_until(
                lambda: not feeder.is_alive() or (self.deferred and self._launching is not None), math.inf
            )
        return self.idle

    def _idle(self) -> bool:
        self.check_up()
        with self._order:
            return not self._queued and self.idle

    @property
    def idle(self) -> bool:
        """Whether the queue has nothing left to run."""
        if self._launching is not None:
            return False
        for newest in tuple(self._newest):
            if not newest.settled:
                self.poll()
                return newest.settled
        return True

    def _launch(self, submission: Submission) -> None:
        recording = submission.recording
        assert recording is not None
        with self._native, self.guard.lock:
            # wgpu-native ends the process when a submission names a lost device, memory that was destroyed
            # or a mapped buffer.
            if self.guard.tampered:
                self.guard.check(natives(submission.commands))
            self.check_up()
            with NativeErrors("submitting", recording.kind) as errors:
                commands = recording.encode(self.device)
                if errors.message is not None:  # it ends the process, too, when it is given what it refused
                    lib.wgpuCommandBufferRelease(commands)
                    errors.check()
                self._submit(submission, recording, commands)
            if self.guard.doomed:
                self.guard.carry_out()
        submission.recording = None
        submission.commands = ()

    def _submit(self, submission: Submission, recording: Recording, commands: Any) -> None:
        queue = self.device.queue._internal
        writes = recording.params.writes()
        submit: list[tuple[Any, ...]] = []
        for arena, data in writes:
            submit.append(arena.write_step(queue, data))
        if commands is not None:
            self._buffers[0] = commands
            submit.append((lib.wgpuQueueSubmit, queue, 1, self._buffers))
            submit.append((lib.wgpuCommandBufferRelease, commands))
        call_all([(self._newest.append, submission), *submission.steps(queue, recording, submit)])
        for arena, data in writes:
            arena.note(data)

    def _start_feeder(self) -> None:
        """Have a feeder, once it has started: one that is not noted ends by itself."""
        feeder = OwnThread(target=self._feed, name="forge3d-wgpu-feed", daemon=True)
        try:
            start_thread(feeder)
        except RuntimeError as error:
            raise ForgeError(
                f"the queue is busy, and no thread can start that would submit behind it ({error}); "
                "nothing was submitted: let other threads end first"
            ) from error
        self._feeder = feeder

    def _feed(self) -> None:
        try:
            while not self._closing:
                with self._order:
                    if self._feeder is not threading.current_thread():
                        return
                    if not self._queued:
                        self._feeder = None
                        return
                    if self.idle:
                        self._launching = self._queued[0]
                if self._launching is not None:
                    self._launch_queued(self._launching)
                    with self._order:
                        if self._queued:  # not before: its caller may look for it there
                            self._queued.popleft()
                        self._launching = None
                    continue
                poll_until(lambda: self._closing or self.idle, FEEDER_LEASH_SECONDS)
                self.check_up()
        except BaseException as error:  # whatever it is, who waits for what is queued has to hear of it
            failure = _failure(error)
            with self._order:
                for submission in self._queued:
                    submission.failure = failure
                self._queued.clear()
                self._feeder = self._launching = None

    def _launch_queued(self, submission: Submission) -> None:
        try:
            self._launch(submission)
        except BaseException as error:  # the call that made it returned long ago
            submission.failure = _failure(error)

    def _poll(self) -> None:
        internal = self.device._internal  # once: the device may be given back meanwhile
        if internal is not None:
            lib.wgpuDevicePoll(internal, False, ffi.NULL)

    def check_up(self, *, at_once: bool = False) -> None:
        """Raise :class:`DeviceLost` if the device went away without a word; looks now and then.

        A look takes two native calls, so no submission has one of its own.
        """
        now = time.monotonic()
        if now - self._checked >= CHECKUP_SECONDS or LOSSES.count != self._losses or at_once:
            self._checked, self._losses = now, LOSSES.count
            if self._lost is None and not is_alive(self.device):
                self._lost = device_lost("found while it was used")
        if self._lost is not None or self.guard.lost:
            self.check()


def _failure(error: BaseException) -> ForgeError:
    """Return what a submission fails with that the feeder met ``error`` on."""
    if isinstance(error, ForgeError):
        return error
    failure = DriverError(f"queued work could not be submitted: {error!r}; open the device again")
    failure.__cause__ = error
    return failure
