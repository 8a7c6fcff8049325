"""Every error that forge3d raises, in one tree.

::

    ForgeError
    ├── ConfigError (ValueError)            a configuration source is wrong; names the file and the key
    ├── BackendError                        a backend cannot be had
    │   ├── UnknownBackend (LookupError)    no plugin of that name is installed
    │   ├── BackendDenied                   a deny list, an allow list or autoload=off keeps it out
    │   ├── MissingDependency (ImportError) the plugin needs a library that is not installed
    │   ├── IncompatibleApi                 the plugin speaks another plugin API
    │   ├── PluginFailed                    importing, registering or probing the plugin failed
    │   └── NoDevice                        the plugin works, the machine has no such device
    ├── UsageError (ValueError)             an argument is wrong; nothing has changed
    │   ├── OutOfRange                      a region does not lie inside the memory it names
    │   ├── TooLarge                        can never fit, however long one waits
    │   ├── ForeignObject                   an object of another device was passed
    │   └── WrongType (TypeError)           an argument, or a use of an object, is of the wrong kind
    ├── StateError (RuntimeError)           right call, wrong moment; nothing has changed
    │   ├── Closed                          used after close
    │   ├── SliceSpent                      a staging slice was used after commit or release
    │   ├── SliceOutstanding                a staging block still has slices that nobody committed
    │   ├── ViewHeld                        a view of host-visible memory outlives its slice or lease
    │   ├── Cancelled                       the readback was cancelled
    │   └── Forked                          the device belongs to the parent of this process
    ├── BudgetError (MemoryError)           memory was refused
    │   ├── BudgetExceeded                  more than the limit itself: can never succeed
    │   ├── BudgetExhausted                 would fit if others gave back
    │   └── OutOfDeviceMemory               the budget agreed, the driver had none
    │       └── OutOfHostMemory             and what it lacked was host memory that the device can reach
    ├── Busy                                too many operations are pending and the policy says raise
    ├── FenceTimeout (TimeoutError)         the wait ended before the work did
    ├── KernelError                         a kernel failed to compile or to run; says where
    ├── DriverError                         a driver raised what is none of these; that is its cause
    └── DeviceLost                          the device is gone, and with it all that was in flight

A built-in exception is a second base wherever a caller would expect one. Every message says what
happened, with figures, and what to do next.
"""

from __future__ import annotations

from typing import Self


class ForgeError(Exception):
    """The root of everything that forge3d raises on purpose."""


class ConfigError(ForgeError, ValueError):
    """A configuration source is wrong; the message names the source and the nearest valid key."""


class BackendError(ForgeError):
    """A backend cannot be had.

    ``backend`` is its name and ``fix`` the exact command or edit that would mend it, where one is
    known.
    """

    def __init__(self, message: str, *, backend: str = "", fix: str | None = None) -> None:
        super().__init__(message)
        self.backend = backend
        self.fix = fix


class UnknownBackend(BackendError, LookupError):
    """No installed distribution offers a backend of that name."""

    def __str__(self) -> str:  # LookupError would not quote the message, KeyError would
        return str(self.args[0])


class BackendDenied(BackendError):
    """The backend is installed, and configuration keeps it from being loaded."""


class MissingDependency(BackendError, ImportError):
    """The plugin needs a library that is not installed or cannot be imported."""

    def __init__(self, message: str, *, backend: str = "", fix: str | None = None) -> None:
        BackendError.__init__(self, message, backend=backend, fix=fix)
        self.msg = message


class IncompatibleApi(BackendError):
    """The plugin's range of plugin API versions and ours do not meet."""


class PluginFailed(BackendError):
    """Importing, registering or probing the plugin failed, hung or tried to end the process."""


class NoDevice(BackendError):
    """The plugin works, and this machine has no device that it can open (or not the one asked for)."""


class UsageError(ForgeError, ValueError):
    """An argument is wrong; nothing has changed."""


class OutOfRange(UsageError):
    """A region does not lie inside the memory it names."""


class TooLarge(UsageError):
    """A request can never fit, however long one waits; full for now is not this error."""


class ForeignObject(UsageError):
    """An object that belongs to another device (or to none) was passed."""


class WrongType(UsageError, TypeError):
    """Something of the wrong kind was passed, or an object was used as what it is not."""


class StateError(ForgeError, RuntimeError):
    """The call is right and the moment is wrong; nothing has changed."""


class Closed(StateError):
    """The object, or the device that made it, has been closed."""


class SliceSpent(StateError):
    """A staging slice was used after it was committed or released."""


class SliceOutstanding(StateError):
    """A staging block still holds slices that were neither committed nor released."""


class ViewHeld(StateError):
    """An array over host-visible memory is still alive and would outlive what it shows."""


class Cancelled(StateError):
    """The readback was cancelled before its bytes were taken."""


class Forked(StateError):
    """The device was opened by the parent of this process; GPU state does not survive a fork."""


class BudgetError(ForgeError, MemoryError):
    """Memory was refused; the refusal left no trace."""

    def __new__(cls, *args: object) -> Self:
        # ``MemoryError.__new__``, which would be found first, refuses every class but its own.
        return Exception.__new__(cls, *args)


class BudgetExceeded(BudgetError):
    """The request is larger than the limit itself and can never succeed under it."""


class BudgetExhausted(BudgetError):
    """The request would fit if memory that others hold were given back."""


class OutOfDeviceMemory(BudgetError):
    """The budget agreed and the driver had no memory left."""


class OutOfHostMemory(OutOfDeviceMemory):
    """The budget agreed and the driver got no more host memory that the device can reach.

    Page-locked memory has limits of its own, in containers, under WSL2 and by ``ulimit -l``; device memory
    may be free meanwhile.
    """


class Busy(ForgeError):
    """Too many operations are pending, and the configured policy is to raise."""


class FenceTimeout(ForgeError, TimeoutError):
    """A wait ended before the work did; the message names the lane and what is outstanding."""


class KernelError(ForgeError):
    """A kernel failed to compile, was given wrong arguments, or failed while it ran."""


class DriverError(ForgeError):
    """A driver raised what is no error of forge3d's; that is the cause. The lane it comes from fails."""


class DeviceLost(ForgeError):
    """The device is gone. Every present and later wait raises this, and nothing is recycled."""


def copy_exception(error: Exception) -> Exception:
    """Return a fresh exception like ``error``: one instance raised on many threads shares a traceback.

    Cause, attributes and notes are those of ``error``.
    """
    try:
        fresh = type(error)(*error.args)
    except Exception:  # a plugin's own, which is made of something else than its args
        return error
    fresh.__dict__.update(error.__dict__)
    if notes := getattr(error, "__notes__", None):
        fresh.__notes__ = [*notes]
    fresh.__cause__ = error.__cause__
    return fresh


again = copy_exception
"""The name of :func:`copy_exception` in plugin API 1.0, which drivers import."""
