"""What a device says of itself: its limits, and the selectors of what a probe lists."""

from __future__ import annotations

import pytest

from forge3d_conformance.bench import Bench
from forge3d_conformance.clauses.lanes import fill
from forge3d_conformance.texels import MANDATORY
from forge3d_core.errors import ForgeError, NoDevice, TooLarge, UsageError
from forge3d_core.protocols import LANE_ROLES

ROOM = 64 << 20
"""Bytes that a device under test is asked for at the most, if its limits allow so many."""


@pytest.mark.clause("device.limits")
def test_the_limits_are_those_of_a_device_of_forge3d(bench: Bench) -> None:
    device = bench.open()
    limits = device.limits
    bench.check(limits.max_buffer_size >= 1 << 20, f"buffers are {limits.max_buffer_size} bytes at most")
    for name in ("copy_alignment", "row_pitch_alignment", "staging_alignment"):
        value = getattr(limits, name)
        bench.check(
            0 < value <= 4096 and not value & (value - 1), f"{name} is {value}, no power of two to 4096"
        )
    bench.check(limits.max_group_threads >= 64, f"groups have {limits.max_group_threads} threads at most")
    bench.check(limits.max_groups[0] >= 64, f"max_groups is {limits.max_groups}")
    bench.check(len(set(limits.lanes)) == len(limits.lanes) > 0, f"the lanes are {limits.lanes}")
    for role in LANE_ROLES:
        bench.check(role in device.lanes, f"the device has no lane of the name {role!r}")
        wanted = role if role in limits.lanes else limits.lanes[0]
        name = device.lanes[role].name
        bench.check(name == wanted, f"lane {role!r} is {name!r} and not {wanted!r}")
    if "textures" in bench.capabilities:
        bench.check(limits.max_texture_size >= 64, f"textures have {limits.max_texture_size} texels a side")
        bench.check(MANDATORY in bench.target.formats, f"the device has textures, and not {MANDATORY}")


@pytest.mark.clause("device.limits")
def test_memory_goes_up_to_the_limits_and_no_further(bench: Bench) -> None:
    device = bench.open()
    most = device.limits.max_buffer_size
    before = device.budget.metrics().total_bytes
    with bench.raises(TooLarge, f"a buffer of {most + 1} bytes, one more than max_buffer_size"):
        device.create_buffer(most + 1)
    room = min(most, ROOM)
    try:
        buffer = device.create_buffer(room)
    except ForgeError as error:
        bench.check(False, f"a buffer of {room} bytes, as the limits allow: {type(error).__name__} ({error})")
    with buffer, device.readback_pool(max_pending_ops=1, buffer_size=4096) as pool:
        bench.wait(fill(device, buffer, 7))
        for offset in (0, room // 2, room - 4096):
            seen = pool.read(buffer, offset=offset, nbytes=4096).wait(bench.patience)
            bench.check((seen == 7).all(), f"a buffer of {room} bytes is not filled at {offset}")
    if "textures" in bench.capabilities:
        side = device.limits.max_texture_size
        for width, height in ((side + 1, 1), (1, side + 1)):
            with bench.raises(UsageError, f"a texture of {width} x {height} texels"):
                device.create_texture(width, height)
        for width, height in ((side, 1), (1, side)):
            device.create_texture(width, height).close()
    bench.until(lambda: device.budget.metrics().total_bytes == before, "the return of what was closed")


HOSTILE = (
    "-1",
    "-0",
    "99999",
    "1e0",
    "0 0",
    "no such device",
    "../..",
    "\x00",
    "0" * 400,
    "\u2603",
    "%s",
    "*",
)


@pytest.mark.clause("device.selectors")
def test_every_selector_opens_the_device_that_it_names(bench: Bench) -> None:
    infos = list(bench.backend.probe())
    bench.check(infos, "a backend that opens a device lists none")
    for info in infos:
        what = f"selector {info.selector!r}"
        with bench.backend.open(info.selector) as device:
            seen = device.info
        bench.check(seen.name == info.name, f"{what} names {info.name!r} and opened {seen.name!r}")
        bench.check(seen.selector == info.selector, f"{what} opened a device that says {seen.selector!r}")
        bench.check(seen.limits is not None, f"{what} opened a device without limits")
    names = [info.selector for info in infos]
    bench.check(len(set(names)) == len(names), f"two devices have one selector: {names}")
    with bench.backend.open() as device:
        bench.check(device.info.selector in names, f"without a selector {device.info.selector!r} opened")


@pytest.mark.clause("device.selectors")
def test_what_names_no_device_opens_none(bench: Bench) -> None:
    known = {info.selector for info in bench.backend.probe()}
    for selector in HOSTILE:
        if selector not in known:
            with bench.raises(NoDevice, f"open({selector!r})"):
                bench.backend.open(selector).close()
