"""Uploads of any size: small ones through a ring's blocks, large ones through the device's staging chunks."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Protocol

from numpy.typing import NDArray

from forge3d_core.arguments import integer
from forge3d_core.deadline import Deadline
from forge3d_core.driver import Command, Upload, UploadRows
from forge3d_core.errors import UsageError
from forge3d_core.formats import row_bytes
from forge3d_core.lifetime.life import Life
from forge3d_core.memory.allocator import Allocation
from forge3d_core.memory.resources import DeviceBuffer
from forge3d_core.memory.textures import DeviceTexture, Triple
from forge3d_core.protocols import FencePoint, Limits
from forge3d_core.ring.slice import Slice
from forge3d_core.transfer.source import Run, Runs, Tile, Tiles
from forge3d_core.transfer.transfers import Transfers
from forge3d_core.transfer.upload import Flight, Goal

Cut = Callable[[int], Runs] | Callable[[int], Tiles]


class UploadHost(Protocol):
    """What an upload needs of its ring."""

    limits: Limits
    buffer_size: int
    lane: str
    life: Life

    def check_target(self, target: DeviceBuffer | DeviceTexture) -> None: ...

    def reserve_until(self, nbytes: int, deadline: Deadline) -> Slice: ...

    def submit(self, deadline: Deadline) -> FencePoint: ...


class UploadDevice(Protocol):
    """What an upload needs of its device."""

    transfers: Transfers

    def submit_commands(
        self, lane: str, commands: list[Command], reads: list[Allocation], writes: list[Allocation]
    ) -> FencePoint: ...


class Plan(NamedTuple):
    """How an array may get to its target: in slices, in chunks, or from where it is."""

    cut: Cut
    bulk: Cut
    in_place: tuple[Command, Allocation] | None
    whole: bool = False  # in no more than one part, so in the ring's blocks


def upload(
    ring: UploadHost,
    host: UploadDevice,
    array: NDArray[Any],
    target: DeviceBuffer | DeviceTexture,
    place: tuple[int, Triple],
    deadline: Deadline,
) -> list[Flight]:
    """Stage all of ``array`` for ``target`` at ``place``: an offset, and an origin for a texture.

    Return what was submitted behind all that the ring had taken before. Empty: it is in the ring's blocks,
    the last of which is left for the caller to submit.
    """
    plan = plan_upload(ring, host, array, target, place)
    if plan.in_place is not None:
        ring.submit(deadline)
        command, source = plan.in_place
        point = host.submit_commands(ring.lane, [command], [source], [target.allocation])
        return [Flight(point, array.nbytes)]
    if array.nbytes >= host.transfers.tuning.threshold and not plan.whole:
        ring.submit(deadline)
        goal = Goal(host.submit_commands, ring.lane, target.allocation, ring.life.check, deadline)
        if (flights := host.transfers.upload(array.nbytes, plan.bulk, goal)) is not None:
            return flights
    if array.size:
        parts = plan.cut(ring.buffer_size)
        for number in range(len(parts)):
            _stage(ring, parts.part(number), target, deadline)
    return []


def plan_upload(
    ring: UploadHost,
    host: UploadDevice,
    array: NDArray[Any],
    target: DeviceBuffer | DeviceTexture,
    place: tuple[int, Triple],
) -> Plan:
    """Return the ways of ``array`` to ``target``, or raise why there is none."""
    ring.check_target(target)
    if isinstance(target, DeviceTexture):
        cut, bulk = _texels(ring, array, target, *place)
    else:
        cut, bulk = _bytes(ring, array, target, place[0])
    found = host.transfers.host_arrays.find(array)
    command = None if found is None else _in_place(ring, array, target, place, found)
    whole = isinstance(target, DeviceTexture) and target.whole_copies
    return Plan(cut, bulk, None if found is None or command is None else (command, found[0]), whole)


def commit_part(slot: Slice, part: Run | Tile, target: DeviceBuffer | DeviceTexture) -> None:
    """Commit a slice that a part was copied to."""
    if isinstance(part, Tile):
        assert isinstance(target, DeviceTexture)
        slot.commit_rows(target, origin=part.origin, size=(*part.size, 1), row_pitch=part.pitch)
    else:
        assert isinstance(target, DeviceBuffer)
        slot.commit(target, part.offset + part.start)


def _bytes(ring: UploadHost, array: NDArray[Any], target: DeviceBuffer, offset: int) -> tuple[Cut, Cut]:
    """Return how a ring's blocks, and chunks, get the bytes: chunks as the target's alignment wants them."""
    offset = integer("offset", offset)
    target.region(offset, array.nbytes)
    cut = partial(Runs.cut, array, target.memory, offset)
    return cut, partial(cut, alignment=ring.limits.copy_alignment)


def _texels(
    ring: UploadHost, array: NDArray[Any], target: DeviceTexture, offset: int, origin: Triple
) -> tuple[Cut, Cut]:
    if integer("offset", offset):
        raise UsageError("a texture takes origin=(x, y) in texels, not a byte offset")
    origin, _ = target.goal(array, origin)
    alignment, images = ring.limits.row_pitch_alignment, array if target.memory.sliced else array[None]
    cut = partial(Tiles.cut, images, target.memory, origin, alignment=alignment, whole=target.whole_copies)
    return cut, cut


def _in_place(
    ring: UploadHost,
    array: NDArray[Any],
    target: DeviceBuffer | DeviceTexture,
    place: tuple[int, Triple],
    found: tuple[Allocation, int],
) -> Command | None:
    """Return the copy from where ``array`` is, in memory of the device's, or None where rows lie wrongly."""
    allocation, start = found
    if not isinstance(target, DeviceTexture):
        return Upload(allocation.native, start, target.memory, place[0], array.nbytes)
    (x, y, z), (width, height, slices) = target.goal(array, place[1])
    pitch = row_bytes(width, target.format)
    if pitch % ring.limits.row_pitch_alignment or start % ring.limits.staging_alignment or not array.size:
        return None
    return UploadRows(allocation.native, start, pitch, target.memory, (x, y), (width, height), z, slices)


def _stage(
    ring: UploadHost, part: Run | Tile, target: DeviceBuffer | DeviceTexture, deadline: Deadline
) -> None:
    """Stage a part in a slice of the ring; the device starts with the block once it is full."""
    slot = ring.reserve_until(part.room, deadline)
    try:
        slot.fill(part.fill)
        commit_part(slot, part, target)
    except BaseException:  # an error that the caller keeps would keep the slice, and it the ring
        slot.revoke()
        raise
    if part.room == ring.buffer_size:
        ring.submit(deadline)  # let the device start while the host copies on
