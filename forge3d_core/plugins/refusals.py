"""The errors that say why a backend cannot be had, and what would help."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Iterable

from forge3d_core.errors import BackendDenied, BackendError, NoDevice, PluginFailed, UnknownBackend
from forge3d_core.plugins.discovery import Candidate
from forge3d_core.plugins.own import BACKENDS, installing
from forge3d_core.plugins.policy import Refusal
from forge3d_core.plugins.spec import normalise
from forge3d_core.printable import shown
from forge3d_core.protocols import DeviceInfo


def unknown(name: str, known: Iterable[str]) -> UnknownBackend:
    """Return the error for a name that nothing installed offers, with the nearest name or what to install."""
    known = sorted(known)
    near = difflib.get_close_matches(name, {*known, *BACKENDS}, n=1)
    fix = installing(BACKENDS[name].distribution) if name in BACKENDS else None
    if fix:
        advice = f"try: {fix}"
    elif near:
        advice = f"did you mean {near[0]!r}?"
    else:
        advice = "`forge3d backends` lists what can be had"
    installed = ", ".join(known) or "none"
    return UnknownBackend(
        f"no installed distribution offers a backend {shown(name)} (installed: {installed}); {advice}",
        backend=name,
        fix=fix,
    )


def denied(candidate: Candidate, refusal: Refusal) -> BackendDenied:
    """Return the error for a candidate that the policy refuses."""
    return BackendDenied(
        f"backend {candidate.name!r} ({candidate}) is not loaded: {refusal.reason}; `forge3d explain` "
        f"shows which line says so; try: {refusal.fix}",
        backend=candidate.name,
        fix=refusal.fix,
    )


def collision(name: str, rivals: list[Candidate]) -> PluginFailed:
    """Return the error for a name that several distributions offer."""
    culprit = rivals[-1].distribution
    if len({normalise(rival.distribution) for rival in rivals}) == 1:
        offers = " and ".join(f"{rival} ({rival.target}, in {rival.location})" for rival in rivals)
        return PluginFailed(
            f"{len(rivals)} distributions of the same name offer a backend {name!r}, so none is loaded: "
            f"{offers}; only one can be the real one: take the other's folder away",
            backend=name,
        )
    return PluginFailed(
        f"{len(rivals)} distributions offer a backend {name!r}, so none is loaded: "
        f"{' and '.join(map(str, rivals))}; uninstall one, or deny one by its distribution's name "
        f"(FORGE3D_DENY={normalise(culprit)}); try: pip uninstall {culprit}",
        backend=name,
        fix=f"pip uninstall {culprit}",
    )


def only_when_named(name: str, devices: tuple[DeviceInfo, ...]) -> NoDevice:
    """Return the error where no device opens unless its selector names it."""
    there = ", ".join(
        f"{name}:{info.selector} ({', '.join(filter(None, (info.name, info.driver)))})" for info in devices
    )
    caution, fix = devices[0].caution, devices[0].fix
    text = f"{name} finds only {there}: {caution}" + (f"; try: {fix}" if fix else "")
    return NoDevice(text, backend=name, fix=fix)


def afresh(error: BackendError) -> BackendError:
    """Return a copy to raise: one instance raised on many threads would share a traceback."""
    fresh = copy.copy(error)
    fresh.__cause__ = error.__cause__
    return fresh
