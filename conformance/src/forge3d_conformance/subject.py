"""What a backend lends the suite: ways to hold, look at, lose and press its devices.

A backend opts in with an entry point of the group ``forge3d.conformance`` that has its own name and
leads to a class or factory taking nothing. It need not import this suite: any object with the members
it wants will do, and what it lacks the default stands in for.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from fnmatch import fnmatchcase
from importlib.metadata import entry_points
from typing import Any, Protocol

import attrs

from forge3d_conformance.catalogue import load
from forge3d_conformance.kernels import translated
from forge3d_core.errors import PluginFailed
from forge3d_core.protocols import Buffer, Device, DeviceInfo, KernelSource

ENTRY_POINT_GROUP = "forge3d.conformance"

UNRELATED = ("anything at all", "Else: 7\n")
"""Texts with little in common: a pattern that is found in each of them says nothing."""

KINDS = ("ClauseViolation", "Tardy", "AssertionError", "DriverError", "FenceTimeout", "DeviceLost")
"""What failures are called: a pattern that finds one of these in front of any text says nothing either."""


class Hold(AbstractContextManager["Hold"], Protocol):
    """A lane kept from completing anything that is submitted from now on.

    On entry, or before, the hold is in force. Leaving releases it. ``bounded`` may be left out and is then
    False: the hold lasts until it is released, or until an escape that no test should come near. Where one
    of those ends by itself, a call has waited for it that must not wait, or it never held: the test fails.
    """

    bounded: bool  # True where nothing can stop what keeps the lane, so that it has to end by itself

    @property
    def held(self) -> bool:
        """True only while the lane certainly still holds; it turns False by itself when the hold ends."""

    def release(self) -> None:
        """Let go, once or more often."""


class Subject(Protocol):
    """The members that a backend's object may have; every one is optional.

    ``capabilities`` says which of the methods work: ``hold``, ``peek`` (with ``poke``), ``lose``,
    ``adopt`` (``foreign``), ``enqueue``, ``host_pressure`` (``fail_next_allocation``). A capability that is
    named must be used: a run in which its tests do not run fails.

    ``unsupported`` holds (clause glob, reason): a better reason than *not lent* for a clause that lacks
    one of its capabilities. It excuses nothing else. ``known_failures`` holds (clause glob, regex on the
    adapter's name, regex on its driver, regex on ``ErrorType: message`` of the failure, reason). Both are
    plain data.

    ``kernels`` holds the suite's kernels in a language that the suite does not write (it has
    ``wgsl``, ``cuda`` and ``host``): for each of :mod:`forge3d_conformance.kernels` a mapping from the
    language to the source, as in ``KernelSource.sources``. A device that speaks none of the suite's
    languages needs ``increment`` and ``mirror``; without ``scalars``, ``grid``, ``decrement`` and
    ``weave`` parts of ``device.dispatch`` are not tested. ``fail``, a kernel that fails while it runs,
    only host callables can be, and what a backend lends.
    """

    capabilities: Collection[str]
    unsupported: Collection[tuple[str, str]]
    known_failures: Collection[tuple[str, str, str, str, str]]
    kernels: Mapping[str, Mapping[str, Any]]

    def hold(self, device: Device, lane: str, seconds: float) -> Hold:
        """Hold ``lane``; where a hold must be bounded it lasts ``seconds`` at least, if it can."""

    def peek(self, device: Device, buffer: Buffer, offset: int, nbytes: int) -> bytes:
        """Return what device memory holds this instant, by a path that shares nothing with rings and pools.

        It must not wait for work that a held lane has yet to do, where the API allows that.
        """

    def poke(self, device: Device, buffer: Buffer, offset: int, data: bytes) -> None:
        """Change device memory by the same kind of path; done when it returns."""

    def lose(self, device: Device) -> None:
        """Make the device be lost."""

    def foreign(self, device: Device, nbytes: int) -> Any:
        """Return zeroed native memory of the device's API, made without forge3d, for ``adopt``."""

    def enqueue(self, device: Device, buffer: Buffer, value: int) -> None:
        """Fill a buffer with a byte by the API's own call, in its own queue; do not wait for anything."""

    def fail_next_allocation(self, device: Device) -> None:
        """Make the driver refuse the next host-visible allocation for want of memory."""

    def memory_in_use(self) -> int:
        """Return the bytes of device memory that this process holds now, with any device open or none.

        Not to be declared: where it is missing, only the process's own memory is looked at for leaks.
        """


@attrs.frozen(eq=False)
class DefaultSubject:
    """Of a backend that lends nothing."""

    capabilities: frozenset[str] = frozenset()
    unsupported: tuple[tuple[str, str], ...] = ()
    known_failures: tuple[tuple[str, str, str, str, str], ...] = ()


NEEDS = {
    "hold": ("hold",),
    "peek": ("peek", "poke"),
    "lose": ("lose",),
    "adopt": ("foreign",),
    "enqueue": ("enqueue",),
    "host_pressure": ("fail_next_allocation",),
}
"""The methods that stand behind each capability that a subject may declare."""

INDISPENSABLE = {
    "hold": "a gate on the host, a kernel that spins on a flag, or one that is busy for a given time",
    "peek": "copy memory out, and in for poke, with the raw API",
}
"""What every GPU API can do, and how. A backend that does not lend it has not been shown to keep its word.

All other capabilities are the device's, the API's or the platform's to have or to lack.
"""


@attrs.frozen
class KnownFailure:
    """A failure that is declared beforehand: of these clauses, on this adapter and driver, for this reason.

    ``because`` must match ``ErrorType: message``, as a mutant's must, so that it excuses no other failure.
    """

    clause: str
    adapter: re.Pattern[str]
    driver: re.Pattern[str]
    because: re.Pattern[str]
    reason: str

    def concerns(self, clause: str, info: DeviceInfo) -> bool:
        return bool(
            fnmatchcase(clause, self.clause)
            and self.adapter.search(info.name)
            and self.driver.search(info.driver)
        )

    def excuses(self, message: str | None) -> bool:
        return bool(self.because.search(message or ""))


def excuse(known: Sequence[KnownFailure], message: str | None) -> str | None:
    """Return the declared reason of a failure with that message; None if nothing excuses it."""
    return next((failure.reason for failure in known if failure.excuses(message)), None)


@attrs.frozen(eq=False)
class Declared:
    """A subject, checked, with its data in one shape; ``lent`` is the backend's own object."""

    lent: Any
    capabilities: frozenset[str]
    unsupported: tuple[tuple[str, str], ...]
    known_failures: tuple[KnownFailure, ...]
    kernels: Mapping[str, KernelSource]

    def why_unsupported(self, clause: str) -> str | None:
        """Return the declared reason why this backend cannot keep the clause, if there is one."""
        return next((reason for glob, reason in self.unsupported if fnmatchcase(clause, glob)), None)

    def known(self, clause: str, info: DeviceInfo) -> tuple[KnownFailure, ...]:
        """Return the failures of the clause that are declared for this adapter and driver."""
        return tuple(failure for failure in self.known_failures if failure.concerns(clause, info))


def declared(lent: Any, name: str) -> Declared:
    """Check what a backend lends; raises :class:`PluginFailed` naming what is wrong with it."""
    capabilities = frozenset(getattr(lent, "capabilities", ()))
    strangers = capabilities - NEEDS.keys()
    if strangers:
        raise PluginFailed(
            f"the conformance subject of {name!r} declares {', '.join(sorted(strangers))}; a subject may "
            f"declare {', '.join(NEEDS)}",
            backend=name,
        )
    for capability in sorted(capabilities):
        for method in NEEDS[capability]:
            if not callable(getattr(lent, method, None)):
                raise PluginFailed(
                    f"the conformance subject of {name!r} declares {capability!r} and has no method {method}",
                    backend=name,
                )
    unsupported = tuple(_unsupported(name, row) for row in _rows(name, lent, "unsupported"))
    known = tuple(_known_failure(name, row) for row in _rows(name, lent, "known_failures"))
    excused = (*unsupported, *((failure.clause, failure.reason) for failure in known))
    for clause, reason in excused:
        if not reason.strip():
            raise PluginFailed(
                f"the conformance subject of {name!r} excuses {clause!r} without a reason", backend=name
            )
        if not load().select(clause):
            raise PluginFailed(
                f"the conformance subject of {name!r} excuses {clause!r}, which is no clause of the "
                "catalogue and matches none; see docs/guarantees.md",
                backend=name,
            )
    return Declared(lent, capabilities, unsupported, known, translated(getattr(lent, "kernels", {}), name))


def _rows(name: str, lent: Any, member: str) -> list[tuple[Any, ...]]:
    rows = getattr(lent, member, ())
    if isinstance(rows, str) or any(isinstance(row, str) for row in rows):
        raise PluginFailed(
            f"{member} of the conformance subject of {name!r} is a sequence of rows, each a tuple, not "
            f"{rows!r}; a single row needs a comma behind it: ((...),)",
            backend=name,
        )
    return [tuple(row) for row in rows]


def _unsupported(name: str, row: tuple[Any, ...]) -> tuple[str, str]:
    if len(row) != 2:
        raise PluginFailed(
            f"the conformance subject of {name!r} declares unsupported what is not (clause glob, reason): "
            f"{row!r}",
            backend=name,
        )
    return str(row[0]), str(row[1])


def _known_failure(name: str, row: tuple[Any, ...]) -> KnownFailure:
    try:
        clause, adapter, driver, because, reason = map(str, row)
        patterns = {text: re.compile(text, re.DOTALL) for text in (adapter, driver, because)}
    except (ValueError, re.error) as error:
        raise PluginFailed(
            f"the conformance subject of {name!r} declares a known failure that is not (clause glob, regex "
            f"on the adapter, regex on its driver, regex on the failure, reason): {row!r}: {error}",
            backend=name,
        ) from error
    for text, pattern in patterns.items():
        kinds = ("", *(f"{kind}: " for kind in KINDS))
        if any(all(pattern.search(kind + other) for other in UNRELATED) for kind in kinds):
            raise PluginFailed(
                f"the conformance subject of {name!r} declares a known failure of {clause!r} by the pattern "
                f"{text!r}, which matches anything, or any failure of a kind; say which adapter, which "
                "driver and which failure",
                backend=name,
            )
    return KnownFailure(clause, patterns[adapter], patterns[driver], patterns[because], reason)


def normalised(name: str) -> str:
    """Return a name of a backend or a distribution as the core compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def find_subject(name: str, distribution: str) -> Declared:
    """Return what the backend ``name`` lends; a backend without the entry point lends nothing.

    Only the ``distribution`` that offers the backend can lend it anything: no other's code is loaded.
    """
    points = [
        point
        for point in entry_points(group=ENTRY_POINT_GROUP)
        if normalised(point.name) == normalised(name)
        and point.dist is not None
        and normalised(point.dist.name) == normalised(distribution)
    ]
    if not points:
        return declared(DefaultSubject(), name)
    try:
        lent = points[0].load()
        lent = lent() if callable(lent) else lent
    except Exception as error:
        raise PluginFailed(
            f"the conformance subject of {name!r} ({points[0].value}) does not load: "
            f"{type(error).__name__}: {error}",
            backend=name,
        ) from error
    return declared(lent, name)
