"""What a budget says of the reservations that were still held when it closed."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator

import pytest

from forge3d_core.device.device import AssembledDevice
from forge3d_core.memory.budget import Ledger
from forge3d_core.memory.holdings import MAX_TOLD, leaks_told

MIB = 1024**2


@pytest.fixture
def traced() -> Iterator[None]:
    already = tracemalloc.is_tracing()
    if not already:
        tracemalloc.start(8)
    yield
    if not already:
        tracemalloc.stop()


def test_a_leak_is_told_with_bytes_heap_kind_and_age(open_device: Callable[..., AssembledDevice]) -> None:
    device = open_device()
    kept = device.budget.reserve(3 * MIB, kind="texture", heap="device_local")
    with pytest.warns(ResourceWarning, match=r"1 reservation.*3 MiB device_local for a texture, .* s old"):
        device.close()
    assert kept.released


@pytest.mark.usefixtures("traced")
def test_the_line_that_made_it_is_known_while_python_traces() -> None:
    ledger = Ledger(100)
    kept = ledger.reserve(30)
    (leak,) = ledger.close()
    line = test_the_line_that_made_it_is_known_while_python_traces.__code__.co_firstlineno + 3
    assert leak.made_at == f"{__file__}:{line}"
    assert leak.age >= 0
    assert "made at" in leaks_told([leak])
    assert kept.released


def test_what_is_held_is_told_with_label_use_and_age(open_device: Callable[..., AssembledDevice]) -> None:
    device = open_device()
    relief = device.create_buffer(8192, label="relief")
    picture = device.create_texture(32, 32, label="picture")
    lights = device.budget.reserve(100, label="lights")
    ring = device.staging_ring(ring_count=1, buffer_size=4096)
    pool = device.readback_pool(max_pending_ops=1, buffer_size=16384)
    found = [(one.label, one.use, one.heap, one.nbytes) for one in device.budget.holdings()]
    assert found == [
        ("", "readback", "host_visible", 16384),
        ("relief", "buffer", "device_local", 8192),
        ("picture", "texture", "device_local", 4096),
        ("", "staging", "host_visible", 4096),
        ("lights", "buffer", "host_visible", 100),
    ]
    assert all(one.age >= 0 for one in device.budget.holdings())
    for one in (relief, picture, ring, pool):
        one.close()
    with pytest.warns(ResourceWarning, match=r"100 B host_visible for a buffer 'lights', .* s old"):
        device.close()
    assert lights.released
    assert device.budget.holdings() == []


@pytest.mark.usefixtures("traced")
def test_where_a_buffer_was_made_is_the_programs_own_line(
    open_device: Callable[..., AssembledDevice],
) -> None:
    device = open_device()
    kept = device.create_buffer(64)
    (holding,) = device.budget.holdings()
    line = test_where_a_buffer_was_made_is_the_programs_own_line.__code__.co_firstlineno + 5
    assert holding.made_at == f"{__file__}:{line}"
    kept.close()


def test_the_largest_come_first_and_the_rest_are_counted() -> None:
    ledger = Ledger(1000)
    kept = [ledger.reserve(nbytes) for nbytes in range(1, MAX_TOLD + 3)]
    text = leaks_told(ledger.close())
    assert text.startswith(f"{len(kept)} reservation(s) of 28 B")
    assert text.index("7 B ") < text.index("6 B ") < text.index("3 B ")
    assert " 2 B " not in text
    assert text.endswith("and 2 smaller")
