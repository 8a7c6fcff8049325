"""What a run leaves behind: canonical JSON with a digest, JUnit XML and a page for people."""

from forge3d_conformance.report.build import begin, finish, suite_version
from forge3d_conformance.report.canonical import dump, parse
from forge3d_conformance.report.environment import BackendIdentity, Platform, this_platform
from forge3d_conformance.report.report import Report, tally
from forge3d_conformance.report.results import ClauseResult, MutantResult, PerfResult
from forge3d_conformance.report.score import Score, scores
from forge3d_conformance.report.states import Aim, Outcome, Phase, State, Verdict
from forge3d_conformance.report.store import publish, read
from forge3d_conformance.report.verdict import Judgement, judge, unlent

__all__ = [
    "Aim",
    "BackendIdentity",
    "ClauseResult",
    "Judgement",
    "MutantResult",
    "Outcome",
    "PerfResult",
    "Phase",
    "Platform",
    "Report",
    "Score",
    "State",
    "Verdict",
    "begin",
    "dump",
    "finish",
    "judge",
    "parse",
    "publish",
    "read",
    "scores",
    "suite_version",
    "tally",
    "this_platform",
    "unlent",
]
