"""How hypothesis searches at each level and under a mutant."""

from __future__ import annotations

from typing import Any

import hypothesis
from hypothesis import HealthCheck, Phase

_COMMON: dict[str, Any] = {
    "database": None,
    "deadline": None,
    "print_blob": True,
    "phases": tuple(phase for phase in Phase if phase is not Phase.explain),
    "report_multiple_bugs": False,
    "suppress_health_check": list(HealthCheck),
}
_CORE: dict[str, Any] = {"max_examples": 25, "stateful_step_count": 25}


def register() -> None:
    """Register the profiles ``forge3d-core``, ``forge3d-full``, ``forge3d-perf`` and ``forge3d-mutant``."""
    settings = hypothesis.settings
    settings.register_profile("forge3d-core", **_CORE, **_COMMON)
    settings.register_profile("forge3d-perf", **_CORE, **_COMMON)
    settings.register_profile("forge3d-full", max_examples=200, stateful_step_count=50, **_COMMON)
    # As many cases as the backend itself gets at core level: what more would find, a run would not.
    # A mutant's counterexample need not be small.
    settings.register_profile(
        "forge3d-mutant", **_CORE, **{**_COMMON, "phases": (Phase.explicit, Phase.reuse, Phase.generate)}
    )
