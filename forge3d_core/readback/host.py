"""What a read knows of the pool around it, and how far it has come."""

from __future__ import annotations

import enum
from typing import Any, Protocol

from forge3d_core.lifetime.life import Life
from forge3d_core.readback.lease import BlockLease, Lender
from forge3d_core.readback.results import Results
from forge3d_core.readback.state import Slot
from forge3d_core.transfer.copying import HostCopier
from forge3d_core.transfer.transfers import Transfers


class HandleBlocks(Lender, Protocol):
    """The blocks of a pool, which a read tells what becomes of it, once or again."""

    def landed(self, handle: Any, slot: Slot) -> None: ...

    def leased_out(self, handle: Any, slot: Slot, lease: BlockLease | None = None) -> None: ...

    def cancelled(self, handle: Any, slot: Slot) -> None: ...

    def failed(self, handle: Any, slot: Slot) -> None: ...


class HandleHost(Protocol):
    """What a read needs of its pool, which lives as long."""

    life: Life
    copier: HostCopier
    transfers: Transfers
    results: Results

    @property
    def blocks(self) -> HandleBlocks: ...


class ReadState(enum.Enum):
    """How far a read has come."""

    FLYING = "flying"  # has a block, bytes perhaps there already
    LANDED = "landed"  # bytes are in the result array
    LEASED = "leased"  # a lease has the block, or had it and was released
    CANCELLED = "cancelled"  # the device may still write the block
    FAILED = "failed"  # its submission did, or moving the bytes out of the block
