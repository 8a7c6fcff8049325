"""What each seed does to a program: the order of completions, delays, and failures on request."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import Literal, get_args

import attrs

from forge3d_core.arguments import at_least, shown
from forge3d_core.errors import UsageError

Fault = Literal["refusals", "losses"]
PLAIN = "host"

MOST_ALLOCATIONS, MOST_SUBMISSIONS = 24, 48
"""Where in a program a refusal or a loss strikes: at one of so many allocations or submissions."""


@attrs.frozen
class Trial:
    """One run of the program. ``selector`` is what its devices open; ``fault`` is what it has to bear."""

    seed: int
    selector: str
    fault: Fault | None = None


def faults_of(names: Iterable[str]) -> tuple[Fault, ...]:
    """Return the faults of those names; raises :class:`UsageError` for another."""
    known = get_args(Fault)
    wrong = [name for name in names if name not in known]
    if wrong:
        raise UsageError(f"no fault {shown(wrong[0])}; there are {', '.join(known)}")
    return tuple(fault for fault in known if fault in names)


def trial(seed: int, faults: Sequence[Fault] = ()) -> Trial:
    """Return what ``seed`` does: the same for the same seed and faults, on any machine.

    Completions come in adversarial order. Every other seed delays copies too, and with ``faults`` two of
    three seeds have one: an allocation is refused, or the device is lost.
    """
    rng = random.Random(at_least(0, "a seed", seed))
    parts = [f"seed={seed}", "chaos=1"]
    if seed % 2:
        parts.append(f"latency={rng.randint(1, 2000)}us")
    fault = rng.choice((None, *faults, *faults)) if faults else None
    if fault == "refusals":
        parts.append(f"oom_at={rng.randint(1, MOST_ALLOCATIONS)}")
    elif fault == "losses":
        parts.append(f"lose_after={rng.randint(1, MOST_SUBMISSIONS)}")
    return Trial(seed, f"host:?{'&'.join(parts)}", fault)
