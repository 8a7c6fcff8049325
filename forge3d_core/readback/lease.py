"""A lease: the bytes of a read shown in the block itself."""

from __future__ import annotations

from typing import Any, Protocol

from numpy.typing import NDArray

from forge3d_core import protocols
from forge3d_core.errors import StateError
from forge3d_core.memory.views import Loan
from forge3d_core.presentation import line, presents
from forge3d_core.readback.state import Slot


class Lender(Protocol):
    """The blocks of a pool, as far as a lease needs them."""

    def lease_over(self, slot: Slot) -> None: ...


class LeaseHost(Protocol):
    """What a lease needs of its pool, which lives as long: a device that closes ends its pools' leases."""

    @property
    def blocks(self) -> Lender: ...


@presents(protocols.Lease, array="lease.array")
class BlockLease:
    """See :class:`forge3d_core.protocols.Lease`."""

    def __init__(self, array: NDArray[Any], loan: Loan, slot: Slot, pool: LeaseHost) -> None:
        self._array: NDArray[Any] | None = array
        self._loan: Loan | None = loan
        self._slot = slot
        self._pool = pool

    @property
    def array(self) -> NDArray[Any]:
        if self._array is None:
            raise StateError("this lease was released; its memory may hold other bytes by now")
        return self._array

    def __repr__(self) -> str:
        array = self._array
        return line("lease, released" if array is None else f"lease of {array.dtype} {array.shape}")

    def release(self) -> None:
        self._array = None
        loan, self._loan = self._loan, None
        if loan is not None:
            loan.surrender()
            self._pool.blocks.lease_over(self._slot)

    def __enter__(self) -> NDArray[Any]:
        return self.array

    def __exit__(self, *exc_info: object) -> None:
        self.release()


@presents(protocols.Lease, array="lease.array")
class OwnedLease(BlockLease):
    """A lease of a read whose bytes were moved out before: it shows that array and gives nothing back."""

    def __init__(self, array: NDArray[Any]) -> None:
        self._array = array.view()
        self._array.flags.writeable = False
        self._loan = None
