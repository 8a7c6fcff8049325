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


def register() -> None:
    """Register the profiles ``forge3d-core``, ``forge3d-full`` and ``forge3d-mutant``."""
    settings = hypothesis.settings
    settings.register_profile("forge3d-core", max_examples=25, stateful_step_count=25, **_COMMON)
    settings.register_profile("forge3d-full", max_examples=200, stateful_step_count=50, **_COMMON)
    settings.register_profile(  # a mutant's counterexample need not be small
        "forge3d-mutant",
        max_examples=50,
        stateful_step_count=40,
        **{**_COMMON, "phases": (Phase.explicit, Phase.reuse, Phase.generate)},
    )
