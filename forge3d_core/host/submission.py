"""A submission to a lane of the host machine; it is also the driver's token."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from forge3d_core.driver import Command
from forge3d_core.host.latch import Latch


@attrs.define
class Fate:
    """What chaos drew for a submission when it came in, and how far it has gone.

    Of all that could happen next the least rank happens. ``push`` is how many things happen before
    the call to submit returns.
    """

    start_rank: float
    land_rank: float
    push: int
    started: bool = False
    landed: bool = False


@attrs.define(eq=False)
class Submission(Latch):
    """Commands on their way through a lane.

    ``ran`` says that the memory shows its writes; the latch is open once it has landed, that is, once the
    host may know. Guarded by the lock of the lanes, except the latch, and ``error``, which never changes once
    that is open.
    """

    lane: str
    number: int
    commands: Sequence[Command]
    after: Sequence[Submission]
    ran: bool = False
    error: Exception | None = None
    retired: bool = False
    times: tuple[float, float] | None = None  # begin and end, where they are taken
    fate: Fate | None = None

    def let_go(self) -> None:
        """Drop what only running needs, so that a kept token keeps no memory and no other token."""
        self.commands = ()
        self.after = ()
