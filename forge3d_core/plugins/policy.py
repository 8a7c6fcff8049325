"""Which plugins may run at all, decided from names alone, before any of their code runs."""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from forge3d_core.plugins.discovery import Candidate
from forge3d_core.plugins.spec import listed_name


def _names(names: Iterable[str]) -> frozenset[str]:
    return frozenset(map(listed_name, names))


@attrs.frozen
class Refusal:
    """Why a plugin may not load, and the edit that would let it."""

    reason: str
    fix: str


@attrs.frozen
class Policy:
    """What one source, or several joined with ``&``, let load.

    ``allow``: only these may load; None sets no bound, an empty list lets nothing in. ``deny``: these
    may not, whatever the allow list says. ``autoload`` off: only the core's own backends, those on
    this source's allow list, and one named by an argument or by ``FORGE3D_BACKEND`` may load; a name in a
    file that was merely found in the folder is no such request. A name of a distribution stands for all
    that it offers. ``others``: the policies of other sources; a plugin loads when each by itself permits
    it, so no source can permit what another forbids. Raises :class:`UsageError` for an entry that can
    never be a name.
    """

    allow: frozenset[str] | None = attrs.field(default=None, converter=attrs.converters.optional(_names))
    deny: frozenset[str] = attrs.field(default=frozenset(), converter=_names)
    autoload: bool = True
    others: tuple[Policy, ...] = ()

    def __and__(self, other: Policy) -> Policy:
        """Return the policy that permits what both permit."""
        known = (self, *self.others)
        more = (attrs.evolve(other, others=()), *other.others)
        added = tuple(p for p in more if p != PERMISSIVE and all(not p._same(k) for k in known))
        return attrs.evolve(self, others=(*self.others, *added))

    def _same(self, other: Policy) -> bool:
        return attrs.evolve(self, others=()) == attrs.evolve(other, others=())

    @property
    def without_allow_lists(self) -> Policy:
        """The same policy as far as it denies."""
        others = tuple(attrs.evolve(policy, allow=None) for policy in self.others)
        return attrs.evolve(self, allow=None, others=others)

    def refusal(self, candidate: Candidate, *, requested: bool) -> Refusal | None:
        """Return why ``candidate`` may not load, or None. ``requested``: an argument or the environment
        names it."""
        refusals = (policy._refusal(candidate, requested) for policy in (self, *self.others))
        return next((refusal for refusal in refusals if refusal), None)

    def _refusal(self, candidate: Candidate, requested: bool) -> Refusal | None:
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
                "autoload is off and neither an allow list beside it nor a request names it",
                f"ask for it by name (FORGE3D_BACKEND={candidate.name}) or put it on an allow list of the "
                "source that switches autoload off",
            )
        return None


PERMISSIVE = Policy()
