"""The bounded log of one trace."""

from __future__ import annotations

import attrs

from forge3d_core.trace.events import HostCopy, Kept, Submission, Wait


@attrs.define(eq=False)
class Log:
    """The newest events of each kind. Any thread adds."""

    most: int
    submissions: Kept[Submission] = attrs.field(init=False)
    waits: Kept[Wait] = attrs.field(init=False)
    copies: Kept[HostCopy] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget what there is."""
        self.submissions, self.waits, self.copies = Kept(self.most), Kept(self.most), Kept(self.most)

    @property
    def dropped(self) -> int:
        """How many events were dropped, the oldest first."""
        return self.submissions.all()[1] + self.waits.all()[1] + self.copies.all()[1]
