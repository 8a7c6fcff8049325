"""Maps what CUDA raises to forge3d's errors, at this package's edge."""

from __future__ import annotations

from forge3d_core.errors import DeviceLost, ForgeError, KernelError, OutOfDeviceMemory

SUCCESS = 0
OUT_OF_MEMORY = 2
NOT_READY = 600

# cudaError_t and CUresult agree on these numbers.
# Invalid configuration, function or image; too many resources; a cluster that does not fit.
_REFUSED_LAUNCH = frozenset({9, 98, 209, 701, 912})
# Errors after which the context answers every call with the same error.
_STICKY = frozenset(
    {
        4,  # the runtime or the driver is shutting down
        46,  # the device is busy or unavailable
        214,  # uncorrectable ECC error
        220,  # uncorrectable NVLink error
        700,  # illegal address
        702,  # the watchdog ended a kernel
        709,  # the context was destroyed
        710,  # assert in a kernel
        714,  # hardware stack error
        715,  # illegal instruction
        716,  # misaligned address
        717,  # invalid address space
        718,  # invalid program counter
        719,  # launch failure
        721,  # contained error
        999,  # unknown
    }
)


def status_of(error: BaseException) -> int | None:
    """Return the CUDA status that ``error`` carries, or None for an error that is not CUDA's."""
    status = getattr(error, "status", None)
    return status if isinstance(status, int) else None


def translate(error: Exception, doing: str) -> ForgeError:
    """Return the forge3d error for a native ``error`` that was raised while ``doing`` something."""
    if isinstance(error, ForgeError):
        return error
    status = status_of(error)
    if status == OUT_OF_MEMORY:
        return OutOfDeviceMemory(f"{doing}: {error}; close buffers or ask for less")
    if status in _STICKY:
        return lost(error, doing)
    if status in _REFUSED_LAUNCH:
        return KernelError(f"{doing}: {error}; use a smaller workgroup or fewer threads")
    return ForgeError(f"{doing}: {error}; nothing was done")


def lost(error: object, doing: str) -> DeviceLost:
    """Return the error for a device that is of no more use to this process."""
    return DeviceLost(
        f"the CUDA device was lost while {doing}: {error}; its context is of no more use, restart the process"
    )
