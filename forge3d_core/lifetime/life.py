"""Whether a device, and what was made from it, can be used: one attribute."""

from __future__ import annotations

from forge3d_core.errors import Closed, DeviceLost, copy_exception
from forge3d_core.forking import renew_in_child
from forge3d_core.lifetime.hold import Users, note


class Life:
    """``ended`` is None while its owner can be used, then the reason why not.

    A loss, a close or a fork changes it, each once, so a call asks by reading one attribute and
    raises a :func:`copy_exception` of what it finds. A close replaces a loss, and a fork replaces both.
    What ends a life ends those below it, for the same reason.

    Thread-safety: any thread. An interrupted :meth:`end` may be called again.
    """

    __slots__ = ("__weakref__", "_below", "_forked", "ended")

    def __init__(self, forked: Exception) -> None:
        self.ended: Exception | None = None
        self._forked = forked
        self._below: Users = set()
        renew_in_child(self)

    def below(self) -> Life:
        """Return a life that ends with this one, or before it."""
        child = Life(self._forked)
        note(self._below, child)
        child.ended = self.ended  # after the note: one of the two has seen an end in the meantime
        return child

    def end(self, reason: Exception) -> None:
        """End for ``reason``, unless it has ended: the first stays, but that a close replaces a loss."""
        if self.ended is None or (isinstance(self.ended, DeviceLost) and isinstance(reason, Closed)):
            self._end(reason)

    def check(self) -> None:
        """Raise the reason if it has ended."""
        if self.ended is not None:
            raise copy_exception(self.ended)

    def renew(self) -> None:
        """End in a forked child, where every device is the parent's."""
        self._end(self._forked)

    def _end(self, reason: Exception) -> None:
        self.ended = reason
        for reference in self._below.copy():
            child: Life | None = reference()
            if child is not None:
                child._end(reason)
