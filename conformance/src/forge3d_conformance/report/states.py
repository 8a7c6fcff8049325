"""What can have become of a clause, of a mutant, of a speed target, and of a run."""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """What became of one clause. Every clause of the catalogue has exactly one."""

    PASS = "pass"
    FAIL = "fail"
    UNSUPPORTED = "unsupported"  # for good, with a reason: the device or platform lacks what it needs
    KNOWN_FAILURE = "known_failure"  # declared, keyed on backend, adapter and driver
    UNEXPECTED_PASS = "unexpected_pass"  # declared as a known failure, yet passed: counts as a failure
    INCONCLUSIVE = "inconclusive"
    NOT_RUN = "not_run"
    PLANNED = "planned"

    @property
    def failing(self) -> bool:
        return self in (State.FAIL, State.UNEXPECTED_PASS)

    @property
    def tested(self) -> bool:
        """Whether a test of it ran to its end."""
        return self.failing or self in (State.PASS, State.KNOWN_FAILURE, State.INCONCLUSIVE)


class Outcome(StrEnum):
    """What became of one mutant. Killed means: failed by its own clause's test, for that reason."""

    KILLED = "killed"
    SURVIVED = "survived"
    NOT_APPLICABLE = "not_applicable"  # what it breaks cannot be seen here, for want of a capability
    NOT_RUN = "not_run"


class Aim(StrEnum):
    """Whether a speed target was reached, with confidence."""

    MET = "met"
    MISSED = "missed"
    INCONCLUSIVE = "inconclusive"


class Phase(StrEnum):
    """A report is written when a run begins, so that a run that is killed leaves no other behind."""

    RUNNING = "running"
    FINISHED = "finished"


class Verdict(StrEnum):
    """What a run proves."""

    CONFORMANT = "conformant"
    NONCONFORMANT = "nonconformant"
    INCOMPLETE = "incomplete"  # nothing failed, and not everything that must be tested was
