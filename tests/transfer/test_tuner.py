"""Tunings that a device measures or finds kept: once, aside, and never at the cost of an upload."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest

from forge3d_core.device.device import AssembledDevice, assemble
from forge3d_core.errors import DeviceLost, FenceTimeout
from forge3d_core.host.driver import HostDriver
from forge3d_core.host.machine import HostMachine
from forge3d_core.host.options import parse_selector
from forge3d_core.protocols import DeviceOptions
from forge3d_core.transfer import tuner
from forge3d_core.transfer.kept_tuning import FORMAT, find_tuning, keep_tuning, tuning_file
from forge3d_core.transfer.tuning import Tuning, Tunings
from forge3d_core.units import KIB, MIB

UPLOADS = Tuning(share=2 * MIB, smallest=MIB, largest=4 * MIB, helpers=3)
FOUND = Tunings(UPLOADS, Tuning(helpers=2))
DATA = np.arange(2 * MIB, dtype=np.uint8)


class MeasuredDriver(HostDriver):
    """The host's, as a driver of real hardware."""

    measures_transfers = True


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the cache folder of this test."""
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda *_, **__: str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[Tunings]:
    """Return the list of what was measured, each after one upload of the real kind."""
    made: list[Tunings] = []

    def measure(timed: Callable[[Tuning, int], float], start: Tuning, in_time: Callable[[], bool]) -> Tuning:
        assert timed(start, MIB) > 0
        made.append(FOUND)
        return FOUND.upload

    def measure_reads(
        timed: Callable[[Tuning, int], float], start: Tuning, in_time: Callable[[], bool]
    ) -> Tuning:
        assert timed(start, MIB) > 0
        return FOUND.read

    monkeypatch.setattr(tuner, "measure", measure)
    monkeypatch.setattr(tuner, "measure_reads", measure_reads)
    return made


@pytest.fixture
def open_measured() -> Iterator[Callable[..., AssembledDevice]]:
    """Return a function that opens a host device as one of real hardware."""
    opened: list[AssembledDevice] = []

    def make(
        selector: str = "", driver: type[HostDriver] = MeasuredDriver, **options: Any
    ) -> AssembledDevice:
        machine = HostMachine(parse_selector(selector))
        options = {"tuning": "measured", **options}
        opened.append(assemble(driver(machine, selector=selector or "0"), DeviceOptions(**options)))
        return opened[-1]

    yield make
    for device in opened:
        device.close()


def tunings(device: AssembledDevice) -> Tunings:
    """Return what a device goes by."""
    return Tunings(device.transfers.tuning, device.transfers.reading)


def upload(device: AssembledDevice, **options: Any) -> None:
    """Upload what is large, and check that it has arrived."""
    buffer = device.create_buffer(DATA.nbytes)
    with device.staging_ring() as ring:
        ring.upload(DATA, buffer, **options).wait()
    with device.readback_pool() as pool:
        assert np.array_equal(pool.read(buffer).wait(), DATA)
    buffer.close()


def test_the_first_large_upload_is_measured_and_no_other(open_measured, measured) -> None:
    device = open_measured()
    assert (tunings(device), measured) == (Tunings(), [])
    upload(device)
    upload(device)
    assert (tunings(device), measured) == (FOUND, [FOUND])


def test_a_small_upload_is_not_measured(open_measured, measured) -> None:
    device = open_measured()
    with device.staging_ring() as ring:
        ring.upload(DATA[: 64 * KIB], device.create_buffer(64 * KIB)).wait()
    assert measured == []


def test_a_later_process_finds_what_was_measured(open_measured, measured) -> None:
    upload(open_measured())
    later = open_measured()
    assert tunings(later) == FOUND
    upload(later)
    assert measured == [FOUND]


def test_the_real_measurement_ends_with_a_tuning(open_measured, cache) -> None:
    device = open_measured()
    before = device.budget.metrics().device_local_bytes
    upload(device)
    assert device.transfers.tuner is None
    assert find_tuning(device.info) == tunings(device)
    device.allocator.sweep()
    assert device.budget.metrics().device_local_bytes == before


def test_what_measures_nothing(open_measured, measured, open_device, cache) -> None:
    for device in (
        open_measured(driver=HostDriver),
        open_measured(tuning="fixed"),
        open_device(),
        open_measured(budget=16 * MIB),
    ):
        upload(device)
        assert (tunings(device), measured) == (Tunings(), [])
    assert not cache.exists()


def test_an_upload_in_a_hurry_is_not_held_up(open_measured, measured) -> None:
    device = open_measured()
    upload(device, timeout=0.9)
    assert measured == []
    upload(device, timeout=60)
    assert measured == [FOUND]


@pytest.mark.parametrize("error", [FenceTimeout("late"), RuntimeError("anything"), MemoryError()])
def test_a_measurement_that_fails_costs_nothing(open_measured, monkeypatch, cache, error) -> None:
    def measure(*_: Any) -> Tuning:
        raise error

    monkeypatch.setattr(tuner, "measure", measure)
    device = open_measured()
    upload(device)
    upload(device)
    assert tunings(device) == Tunings()
    assert not cache.exists()


def test_an_interrupt_costs_its_own_call_alone(open_measured, monkeypatch) -> None:
    def measure(*_: Any) -> Tuning:
        raise KeyboardInterrupt

    monkeypatch.setattr(tuner, "measure", measure)
    device = open_measured()
    with pytest.raises(KeyboardInterrupt):
        upload(device)
    upload(device)


def test_a_loss_is_for_the_upload_to_tell(open_measured, monkeypatch) -> None:
    device = open_measured()

    def measure(*_: Any) -> Tuning:
        device.life.end(DeviceLost("gone"))
        raise DeviceLost("gone")

    monkeypatch.setattr(tuner, "measure", measure)
    with pytest.raises(DeviceLost):
        upload(device)


def test_a_folder_that_cannot_be_written_to_costs_nothing(open_measured, measured, cache) -> None:
    cache.write_text("a file where the folder would be")
    upload(open_measured())
    assert measured == [FOUND]


def kept(format: int = FORMAT, **changes: Any) -> bytes:
    """Return a file in which some figures of the uploads are others."""
    told = attrs.asdict(FOUND)
    return json.dumps({"format": format, **told, "upload": {**told["upload"], **changes}}).encode()


SPOILT = [
    b"",
    b"[]",
    b"\xff{",
    kept(FORMAT - 1),
    kept(helpers=10**6),
    kept(depth=0),
    kept(largest="8"),
    kept(smallest=8 * MIB),
    kept(more=1),
    json.dumps({"format": FORMAT, "upload": {"helpers": 1}, "read": {}}).encode(),
    json.dumps({"format": FORMAT, "upload": attrs.asdict(UPLOADS)}).encode(),
]


@pytest.mark.parametrize("spoilt", SPOILT)
def test_a_spoilt_file_is_ignored_with_a_word_and_written_anew(
    open_measured, measured, spoilt, caplog
) -> None:
    upload(open_measured())
    device = open_measured()
    path = tuning_file(device.info)
    assert path is not None
    path.write_bytes(spoilt)
    with caplog.at_level("WARNING"):
        again = open_measured()
    assert str(path) in caplog.text
    assert "ignored" in caplog.text
    assert tunings(again) == Tunings()
    upload(again)
    assert (find_tuning(device.info), measured) == (FOUND, [FOUND, FOUND])


def test_where_there_is_no_file_nothing_is_said(open_measured, caplog) -> None:
    open_measured()
    assert not caplog.records


@pytest.mark.parametrize("field", ["name", "driver", "selector", "backend"])
def test_another_adapter_or_driver_has_its_own_file(open_measured, field) -> None:
    info = open_measured().info
    keep_tuning(info, FOUND)
    assert find_tuning(info) == FOUND
    assert find_tuning(attrs.evolve(info, **{field: "another"})) is None
