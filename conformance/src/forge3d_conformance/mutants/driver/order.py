"""Drivers that do not wait for what they are told to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from forge3d_conformance.mutants.driver.layer import MutantDriver, driver_mutant

LANES = ("concurrent_lanes",)
LATE = "did not wait|before|was expected"


class ForgetsTokens(MutantDriver):
    """Waits for those tokens alone that ``kept`` returns."""

    def kept(self, after: Sequence[Any]) -> Sequence[Any]:
        return after

    def submit(self, lane: str, commands: Sequence[Any], after: Sequence[Any]) -> Any:
        return self.driver.submit(lane, commands, self.kept(after))


@driver_mutant("after-last", breaks="fence.cross-lane", because=LATE, requires=LANES)
class AfterLast(ForgetsTokens):
    """Of several tokens only the last is waited for."""

    def kept(self, after: Sequence[Any]) -> Sequence[Any]:
        return after[-1:]


@driver_mutant("after-first", breaks="fence.cross-lane", because=LATE, requires=LANES)
class AfterFirst(ForgetsTokens):
    """Of several tokens only the first is waited for."""

    def kept(self, after: Sequence[Any]) -> Sequence[Any]:
        return after[:1]


@driver_mutant("after-none-when-empty", breaks="fence.cross-lane", because=LATE, requires=LANES)
class AfterNoneWhenEmpty(ForgetsTokens):
    """A submission without commands waits for nothing."""

    def submit(self, lane: str, commands: Sequence[Any], after: Sequence[Any]) -> Any:
        return self.driver.submit(lane, commands, after if commands else ())


@driver_mutant("after-none", breaks="device.order", because="did not wait|saw", requires=LANES)
class AfterNone(ForgetsTokens):
    """Lanes wait for no other lane."""

    def kept(self, after: Sequence[Any]) -> Sequence[Any]:
        return ()
