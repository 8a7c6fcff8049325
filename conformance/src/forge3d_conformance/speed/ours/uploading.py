"""From the host to the device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from forge3d_conformance.speed.contestant import Runner
from forge3d_conformance.speed.ours.operands import Maker, Operands
from forge3d_conformance.speed.payload import payload

BATCH = 64


def _stage(on: Operands, nbytes: int) -> Runner:
    """The caller's time for a slice that is full already, of a ring whose blocks have its size."""
    target, ring = on.buffer(nbytes), on.ring(buffer_size=nbytes)

    def call() -> None:
        ring.reserve(nbytes).commit(target)
        ring.advance()

    return Runner(call, on.idle, at_once=1)


def _staged_upload(on: Operands, nbytes: int) -> Runner:
    """The same to its end: what is in host-visible memory already, on the device."""
    target, ring = on.buffer(nbytes), on.ring(buffer_size=nbytes)

    def call() -> None:
        ring.reserve(nbytes).commit(target)
        ring.advance().wait()

    return Runner(call)


def _upload(on: Operands, nbytes: int) -> Runner:
    target, data, ring = on.buffer(nbytes), payload(nbytes), on.ring()
    return Runner(lambda: ring.upload(data, target).wait())


def _upload_batch(on: Operands, nbytes: int) -> Runner:
    """Many slices under one ``advance``, each filled by the caller."""
    target, data = on.buffer(nbytes * BATCH), payload(nbytes)
    ring = on.ring(buffer_size=max(nbytes * BATCH, 1 << 20))

    def call() -> None:
        for place in range(BATCH):
            slot = ring.reserve(nbytes)
            slot.view[:] = data
            slot.commit(target, place * nbytes)
        ring.advance().wait()

    return Runner(call, operations=BATCH)


def _upload_many(on: Operands, nbytes: int) -> Runner:
    """Many arrays in one call of the ring's."""
    target, data = on.buffer(nbytes * BATCH), payload(nbytes)
    ring: Any = on.ring()
    uploads = [(data, target, place * nbytes) for place in range(BATCH)]
    return Runner(lambda: ring.upload_many(uploads).wait(), operations=BATCH)


UPLOADING: Mapping[str, Maker] = {
    "stage": _stage,
    "staged-upload": _staged_upload,
    "upload": _upload,
    "upload-batch": _upload_batch,
    "upload-many": _upload_many,
}
