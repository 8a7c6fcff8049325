"""Signals: a completion is noted and an interrupt arrives, whenever the one comes upon the other."""

from __future__ import annotations

import signal
import sys
import threading
from typing import Any

import pytest


class Interrupt(BaseException):
    """What a handler may raise anywhere; a KeyboardInterrupt would end the tests where one fails."""


@pytest.mark.skipif(sys.platform == "win32", reason="it has no such signal")
@pytest.mark.parametrize("info", ["mapped", "worked"])
def test_an_interrupt_in_a_callback_reaches_the_caller(backend: Any, info: str) -> None:
    from cffi import FFI
    from wgpu.backends.wgpu_native import ffi

    from forge3d_wgpu.errors import call_all
    from forge3d_wgpu.signals import Signal

    def interrupt(*_args: object) -> None:
        raise Interrupt

    c = FFI()
    c.cdef("int raise(int);")  # Python's own would call the handler itself
    press = getattr(c.dlopen(None), "raise")
    assert threading.current_thread() is threading.main_thread()
    owed, message = Signal.take(), ffi.new("WGPUStringView*")[0]
    callback = getattr(owed, info).callback
    earlier = signal.signal(signal.SIGUSR1, interrupt)
    try:
        with pytest.raises(Interrupt):
            call_all([(press, signal.SIGUSR1), (callback, 1, message, ffi.NULL, ffi.NULL)])
    finally:
        signal.signal(signal.SIGUSR1, earlier)
    assert owed.fired
    assert not owed.failed
    owed.give()


def test_a_signal_serves_again_once_it_has_fired(backend: Any) -> None:
    from forge3d_wgpu.signals import Signal

    first = Signal.take()
    first.give()  # wgpu may still call it
    second = Signal.take()
    assert second is not first
    second.note()
    second.give()
    second.give()
    third, fourth = Signal.take(), Signal.take()
    assert third is second
    assert fourth is not second
    assert not third.fired


def test_any_status_but_success_is_a_failure(backend: Any) -> None:
    from wgpu.backends.wgpu_native import ffi

    from forge3d_wgpu.signals import Signal

    aborted = Signal.take()
    aborted.mapped.callback(4, ffi.new("WGPUStringView*")[0], ffi.NULL, ffi.NULL)
    assert aborted.fired
    assert aborted.failed
