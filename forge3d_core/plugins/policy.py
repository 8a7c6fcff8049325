"""Which plugins may run at all, decided from names alone, before any of their code runs."""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce

import attrs

from forge3d_core.plugins.discovery import Candidate
from forge3d_core.plugins.spec import normalise


def _names(names: Iterable[str]) -> frozenset[str]:
    return frozenset(map(normalise, names))


@attrs.frozen
class Refusal:
    """Why a plugin may not load, and the edit that would let it."""

    reason: str
    fix: str


@attrs.frozen
class Policy:
    """Allow and deny lists of backend or distribution names, and whether plugins load unasked.

    ``allow``: only these may load; None sets no bound, an empty list lets nothing in. ``deny``: these
    may not, whatever the allow list says. ``autoload`` off: only the core's own backends, those on
    the allow list, and one named by an argument or by ``FORGE3D_BACKEND`` may load; a name in a file
    that was merely found in the folder is no such request. A name of a distribution stands for all
    that it offers.
    """

    allow: frozenset[str] | None = attrs.field(default=None, converter=attrs.converters.optional(_names))
    deny: frozenset[str] = attrs.field(default=frozenset(), converter=_names)
    autoload: bool = True

    def __and__(self, other: Policy) -> Policy:
        """Return the policy that forbids whatever either of the two forbids."""
        bounds = [allow for allow in (self.allow, other.allow) if allow is not None]
        allow = reduce(frozenset.intersection, bounds) if bounds else None
        return Policy(allow, self.deny | other.deny, self.autoload and other.autoload)

    def refusal(self, candidate: Candidate, *, requested: bool) -> Refusal | None:
        """Return why ``candidate`` may not load, or None. ``requested``: somebody named it."""
        denied = " and ".join(sorted(self.deny & candidate.identities))
        if denied:
            return Refusal(f"the deny list names {denied}", f"take {denied} off the deny list")
        if self.allow is not None:
            if self.allow & candidate.identities:
                return None
            listed = ", ".join(sorted(self.allow)) or "nothing"
            return Refusal(
                f"the allow list holds {listed} only",
                f"add {candidate.name} to every allow list that applies",
            )
        if not self.autoload and not requested and not candidate.ours:
            return Refusal(
                "autoload is off and neither an allow list nor a request names it",
                f"ask for it by name (FORGE3D_BACKEND={candidate.name}) or put it on an allow list",
            )
        return None
