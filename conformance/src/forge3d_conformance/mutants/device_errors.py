"""Devices that do not know what to make of an error that is not forge3d's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from forge3d_conformance.mutants.registry import mutant
from forge3d_conformance.mutants.wrap import Layer
from forge3d_core.errors import ForgeError


def foreign(error: Exception | None) -> Exception | None:
    """Return the error of somebody else's that is behind ``error``, if there is one."""
    cause = error.__cause__ if error is not None else None
    return cause if isinstance(cause, Exception) and not isinstance(cause, ForgeError) else None


@mutant(
    "device.foreign-error-escapes",
    breaks="device.foreign-error",
    because="LookupError.*instead of ForgeError",
)
class ForeignErrorEscapes(Layer):
    """A wait raises whatever the driver raised."""

    class Point(Layer.Point):
        def wait(self, timeout: float | None = None) -> None:
            try:
                self.target.wait(timeout)
            except ForgeError as error:
                if (cause := foreign(error)) is None:
                    raise
                raise cause from None


@mutant("device.foreign-error-hides-its-cause", breaks="device.foreign-error", because="does not name it")
class ForeignErrorHidesItsCause(Layer):
    """A wait says that something failed, and not what."""

    class Point(Layer.Point):
        def wait(self, timeout: float | None = None) -> None:
            try:
                self.target.wait(timeout)
            except ForgeError as error:
                if foreign(error) is None:
                    raise
                raise ForgeError("the lane failed") from None


@mutant(
    "device.foreign-error-strands-callbacks", breaks="device.foreign-error", because="callback.*did not come"
)
class ForeignErrorStrandsCallbacks(Layer):
    """The thread that calls back dies of an error that is not forge3d's."""

    class Point(Layer.Point):
        def on_done(self, callback: Callable[[Any, Exception | None], None]) -> None:
            self.real.on_done(lambda point, error: None if foreign(error) else callback(point, error))


@mutant("device.foreign-error-is-no-failure", breaks="device.foreign-error", because="failure is None")
class ForeignErrorIsNoFailure(Layer):
    """A lane that met an error that is not forge3d's says that nothing has failed."""

    class Timeline(Layer.Timeline):
        @property
        def failure(self) -> Exception | None:
            failure: Exception | None = self.target.failure
            return None if foreign(failure) else failure


@mutant(
    "device.foreign-error-comes-out-of-close",
    breaks="device.foreign-error",
    because="close raised LookupError",
)
class ForeignErrorComesOutOfClose(Layer):
    """close asks the driver once more, and raises what that raises."""

    class Device(Layer.Device):
        def close(self) -> None:
            self.target.close()
            for lane in self.target.lanes.values():
                if (cause := foreign(lane.timeline.failure)) is not None:
                    raise cause
