"""Drivers that do not wait for what they are told to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from forge3d_conformance.mutants.driver.layer import MutantDriver, driver_mutant
from forge3d_core.driver import Dispatch, Download, DownloadRows, Upload, UploadRows

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


@driver_mutant("after-done-is-all", breaks="fence.cross-lane", because=LATE, requires=LANES)
class AfterDoneIsAll(ForgetsTokens):
    """As soon as one of several tokens is complete none is waited for."""

    def kept(self, after: Sequence[Any]) -> Sequence[Any]:
        return () if any(self.driver.query(token) for token in after) else after


@driver_mutant(
    "lanes-are-one", breaks="ring.no-head-of-line", because="came to a stop|did not", requires=LANES
)
class LanesAreOne(MutantDriver):
    """Says that its lanes run side by side, and has one queue for them."""

    newest: Any = None

    def submit(self, lane: str, commands: Sequence[Any], after: Sequence[Any]) -> Any:
        before = [] if self.newest is None else [self.newest]
        self.newest = self.driver.submit(lane, commands, [*after, *before])
        return self.newest


@driver_mutant(
    "runs-elsewhere", breaks="fence.not-early", because="was to write while that was held", requires=LANES
)
class RunsElsewhere(MutantDriver):
    """Work runs on whatever lane is free, and is told of by the lane that was asked for."""

    def submit(self, lane: str, commands: Sequence[Any], after: Sequence[Any]) -> Any:
        lanes = self.driver.info.limits.lanes
        other = lanes[(lanes.index(lane) + 1) % len(lanes)]
        return self.driver.submit(lane, (), [self.driver.submit(other, commands, after)])


KINDS: dict[str, tuple[type, tuple[str, ...]]] = {
    "upload": (Upload, ()),
    "upload-rows": (UploadRows, ("textures",)),
    "download": (Download, ()),
    "download-rows": (DownloadRows, ("textures",)),
    "dispatch": (Dispatch, ()),
}


def _forgetting(name: str, kind: type, requires: tuple[str, ...]) -> None:
    class Forgetting(MutantDriver):
        def submit(self, lane: str, commands: Sequence[Any], after: Sequence[Any]) -> Any:
            forgets = any(isinstance(command, kind) for command in commands)
            return self.driver.submit(lane, commands, () if forgets else after)

    Forgetting.__doc__ = f"A submission with a {kind.__name__} waits for no other lane."
    Forgetting.__name__ = Forgetting.__qualname__ = f"Forgetting[{name}]"
    because = "did not wait|saw|written|uploaded"
    driver_mutant(f"after-{name}", breaks="device.order", because=because, requires=(*LANES, *requires))(
        Forgetting
    )


for _name, (_kind, _requires) in KINDS.items():
    _forgetting(_name, _kind, _requires)
