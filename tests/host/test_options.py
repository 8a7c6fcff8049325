"""The grammar of the host backend's selectors."""

from __future__ import annotations

from typing import Any

import pytest

from forge3d_core.errors import NoDevice, UsageError
from forge3d_core.host.options import HostOptions, parse_duration, parse_selector


@pytest.mark.parametrize("selector", ["", "0", "?", "0?"])
def test_plain_selectors(selector: str) -> None:
    assert parse_selector(selector) == HostOptions()
    assert not parse_selector(selector).simulated


def test_every_key() -> None:
    options = parse_selector(
        "0?seed=42&chaos=0&link=2GB/s&latency=50us&lose_after=100&oom_at=5&pitch=256&align=4"
        "&lanes=upload,compute,download,second"
    )
    assert options == HostOptions(
        seed=42,
        chaos=False,
        link=2 * 10**9,
        latency=50e-6,
        lose_after=100,
        oom_at=5,
        pitch=256,
        align=4,
        lanes=("upload", "compute", "download", "second"),
    )
    assert options.simulated


@pytest.mark.parametrize(
    ("selector", "chaos"), [("?seed=1", True), ("?chaos=1", True), ("?seed=1&chaos=off", False), ("", False)]
)
def test_a_seed_means_chaos_unless_told_otherwise(selector: str, chaos: bool) -> None:
    assert parse_selector(selector).chaos is chaos


@pytest.mark.parametrize(
    ("text", "seconds"), [("50us", 50e-6), ("2 ms", 2e-3), ("1.5s", 1.5), ("7ns", 7e-9), (0.25, 0.25)]
)
def test_durations(text: float | str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("selector", "message"),
    [
        ("?sed=1", "no option 'sed'.*did you mean 'seed'"),
        ("?zzz=1", "the keys are seed, chaos, link"),
        ("?seed=x", "option 'seed'.*'x' is not a whole number"),
        ("?seed=1&seed=2", "'seed' stands twice"),
        ("?seed", "not key=value"),
        ("?seed=", "option 'seed'"),
        ("?chaos=maybe", "'maybe' is not a switch"),
        ("?link=fast", "option 'link'.*'fast' is not a size"),
        ("?link=0", "option 'link'.*0 is too small; the least is 1"),
        ("?latency=5", "option 'latency'.*not a duration"),
        ("?lose_after=0", "0 is too small"),
        ("?oom_at=-1", "-1 is too small"),
        ("?pitch=100", "100 is not a power of two"),
        ("?align=0", "0 is not a power of two"),
        ("?lanes=upload,compute", "download is missing"),
        ("?lanes=upload,compute,download,upload", "not different identifiers"),
        ("?lanes=upload,compute,download,", "not different identifiers"),
    ],
)
def test_what_is_wrong_is_named(selector: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_selector(selector)


@pytest.mark.parametrize("selector", ["1", "seed=42", "gpu?seed=1"])
def test_there_is_one_device(selector: str) -> None:
    with pytest.raises(NoDevice, match="only '0'"):
        parse_selector(selector)


@pytest.mark.parametrize("latency", [float("nan"), True, None, -1])
def test_a_latency_is_a_number_of_seconds_from_nought(latency: Any) -> None:
    with pytest.raises(UsageError):
        HostOptions(latency=latency)
