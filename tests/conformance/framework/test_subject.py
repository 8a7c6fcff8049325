"""What a backend may lend, and what it may not claim."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from forge3d_conformance.catalogue import Catalogue
from forge3d_conformance.subject import INDISPENSABLE, NEEDS, declared, excuse, find_subject
from forge3d_conformance.target import find_target
from forge3d_core.errors import NoDevice, PluginFailed, UnknownBackend
from forge3d_core.protocols import DeviceInfo

INFO = DeviceInfo("host", "numpy 2", "cpu", "0", "driver 7")


def test_a_backend_without_a_subject_lends_nothing() -> None:
    assert find_subject("nobody", "nothing").capabilities == frozenset()


def test_the_host_lends_everything() -> None:
    assert find_subject("host", "forge3d-core").capabilities == {
        "hold",
        "peek",
        "lose",
        "adopt",
        "host_pressure",
    }


@pytest.mark.parametrize(
    ("members", "complaint"),
    [
        ({"capabilities": {"hodl"}}, "declares hodl"),
        ({"capabilities": {"hold"}}, "no method hold"),
        ({"capabilities": {"peek"}, "peek": print}, "no method poke"),
        ({"unsupported": [("fence.*", " ")]}, "without a reason"),
        ({"unsupported": ("device.lost", "it cannot be")}, "a single row needs a comma"),
        ({"unsupported": [("device.lost",)]}, "what is not"),
        ({"unsupported": [("device.lots", "it cannot be")]}, "no clause of the catalogue"),
        ({"known_failures": ("fence.*", "numpy", "7", "late", "we know")}, "a single row needs a comma"),
    ],
)
def test_false_claims_are_refused(members: dict[str, Any], complaint: str) -> None:
    with pytest.raises(PluginFailed, match=complaint):
        declared(SimpleNamespace(**members), "crooked")


@pytest.mark.parametrize(
    ("failure", "complaint"),
    [
        (("ring.*", "numpy", "7", "we know"), "that is not"),
        (("ring.*", "", "7", "late", "we know"), "'', which matches anything"),
        (("ring.*", "numpy", ".*", "late", "we know"), r"'\.\*', which matches anything"),
        (("ring.*", "numpy", "7", "(late)?", "we know"), "matches anything"),
        (("ring.*", "numpy", "7", ".+", "we know"), "matches anything"),
        (("ring.*", r"\w", "7", "late", "we know"), "matches anything"),
        (("ring.*", "numpy", "(7", "late", "we know"), "that is not"),
        (("ring.*", "numpy", "7", "late", ""), "without a reason"),
        (("rings.*", "numpy", "7", "late", "we know"), "no clause of the catalogue"),
    ],
)
def test_an_excuse_for_everything_is_refused(failure: tuple[str, ...], complaint: str) -> None:
    with pytest.raises(PluginFailed, match=complaint):
        declared(SimpleNamespace(known_failures=[failure]), "crooked")


def test_known_failures_are_keyed_on_adapter_and_driver_and_on_what_was_seen() -> None:
    subject = declared(SimpleNamespace(known_failures=[("fence.*", "numpy", "7$", "late", "it leaks")]), "x")
    known = subject.known("fence.truth", INFO)
    assert excuse(known, "ClauseViolation: it came late") == "it leaks"
    assert excuse(known, "ClauseViolation: it never came") is None
    assert subject.known("ring.wraps", INFO) == ()
    assert subject.known("fence.truth", DeviceInfo("host", "other", "cpu", "0", "driver 7")) == ()
    assert subject.known("fence.truth", DeviceInfo("host", "numpy", "cpu", "0", "driver 8")) == ()


def test_a_device_without_a_driver_can_have_known_failures() -> None:
    subject = declared(SimpleNamespace(known_failures=[("fence.*", "numpy", "^$", "late", "it leaks")]), "x")
    assert subject.known("fence.truth", DeviceInfo("host", "numpy", "cpu", "0"))
    assert not subject.known("fence.truth", INFO)


def test_what_is_indispensable_can_be_lent(catalogue: Catalogue) -> None:
    assert INDISPENSABLE.keys() <= NEEDS.keys() & catalogue.capabilities.keys()


def test_a_target_is_found_by_name_and_selector() -> None:
    target = find_target("host:?pitch=256")
    assert (target.name, target.selector) == ("host", "?pitch=256")
    assert target.limits.row_pitch_alignment == 256
    assert {"hold", "textures", "concurrent_lanes"} <= target.capabilities


def test_an_unknown_backend_names_those_there_are() -> None:
    with pytest.raises(UnknownBackend, match="host"):
        find_target("hots")


def test_an_unknown_device_is_not_replaced() -> None:
    with pytest.raises(NoDevice, match="no device '7'"):
        find_target("host:7")
