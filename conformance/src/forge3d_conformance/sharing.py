"""Which process runs which test: pytest's own loop, or workers that take one part after another.

A test marked ``alone`` bounds what a whole process takes, which processes beside it draw out: the run itself
tests it, after its workers have ended. Under a mutant it is shared out like the others.
"""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest

from forge3d_conformance.session import ClauseSession
from forge3d_conformance.trial import ClauseRun
from forge3d_conformance.workers import Claims, sensible_jobs, share_out


@attrs.frozen(eq=False)
class SharedLoop:
    """The plugin object that decides it; ``jobs`` of 0 is as many as suit the device and the tests.

    ``claims`` is the folder by which a worker learns which tests are its own.
    """

    run: ClauseSession
    jobs: int
    claims: Path | None

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> object:
        """Have workers run the tests, or run what is this worker's own; None has pytest run them all."""
        run = self.run
        if session.testsfailed or session.config.option.collectonly:
            return None
        if self.claims is not None:
            _work(session, Claims(self.claims))
            return True
        alone = [item for item in session.items if _alone(item)]
        parts = len({_part(item) for item in session.items if item not in alone})
        jobs = min(self.jobs or sensible_jobs(run.target.info.kind, parts), parts)
        if jobs < 2 or run.level == "perf":  # what is measured is alone on its machine
            return None
        run.jobs = jobs
        arguments = ["--backend", run.target.spec, "--level", run.level, "--clause", run.selection]
        arguments += ["--seed", str(run.seed), *(["--self-test"] if run.self_test else [])]
        arguments += ["--exact", run.exact] if run.exact else []
        events: Path | None = session.config.getoption("--events")
        if unended := [*share_out(arguments, jobs, run.heed, events and events.parent)]:
            run.ended = False
            pytest.exit("; ".join(unended), returncode=pytest.ExitCode.INTERNAL_ERROR)
        session.testsfailed += sum(record.ending == "fail" and not record.mutant for record in run.records)
        for item in alone:
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)
        return True


def _work(session: pytest.Session, claims: Claims) -> None:
    """Run the tests of each part that no other worker has taken."""
    mine: dict[str, bool] = {}
    for item in session.items:
        if _alone(item):
            continue
        part = _part(item)
        if part not in mine:
            mine[part] = claims.take(part)
        if mine[part]:
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)
        if session.shouldstop or session.shouldfail:
            return


def _part(item: pytest.Item) -> str:
    """Return what of a run is one worker's: a test, or all of a mutant, whose first killer is enough."""
    trial = ClauseRun.of(item)
    return trial.mutant.name if trial is not None and trial.mutant is not None else item.nodeid


def _alone(item: pytest.Item) -> bool:
    """Whether the run itself tests this, with no worker beside it."""
    trial = ClauseRun.of(item)
    marker = item.get_closest_marker("clause")
    return trial is not None and trial.mutant is None and bool(marker and marker.kwargs.get("alone"))
