"""Arrays that still show a pool's memory, under a runtime that runs nothing: the pool goes with the last."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from forge3d_cuda.memory import DevicePool

if TYPE_CHECKING:
    from .runtime import Runtime

DESTROY = ["streamDestroy", "eventDestroy", "memPoolDestroy"]


@pytest.fixture
def pool(hollow: Any) -> DevicePool:
    return DevicePool.on(hollow, 0)


def elsewhere(function: Any) -> None:
    thread = threading.Thread(target=function)
    thread.start()
    thread.join()


def destroyed(runtime: Runtime) -> dict[str, list[Any]]:
    return {name: arguments for name in DESTROY if (arguments := runtime.called(name))}


def test_an_address_that_another_thread_gets_at_once_is_still_shown(
    pool: DevicePool, runtime: Runtime
) -> None:
    kept: list[Any] = []
    first = pool.allocate((512,))
    address = first.data.ptr
    runtime.during["freeAsync"] = lambda: elsewhere(lambda: kept.append(pool.allocate((512,))))
    del first
    assert kept[0].data.ptr == address
    pool.close()
    assert destroyed(runtime) == {}
    kept.clear()
    assert len(runtime.called("freeAsync")) == 2
    assert set(destroyed(runtime)) == set(DESTROY)


def test_two_threads_that_drop_the_last_arrays_destroy_each_handle_once_and_as_what_it_is(
    pool: DevicePool, runtime: Runtime
) -> None:
    expected = {
        "streamDestroy": [[pool._stream]],
        "eventDestroy": [[pool.ready]],
        "memPoolDestroy": [[pool._pool]],
    }
    runtime.during["eventDestroy"] = lambda: elsewhere(pool._leave)
    pool.close()
    assert destroyed(runtime) == expected
