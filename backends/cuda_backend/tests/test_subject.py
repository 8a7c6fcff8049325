"""What the suite is lent: a hold during which nothing that waits for kernels happens by itself."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from forge3d_cuda.subject import Flag, SpinningLane, Stillness


@pytest.fixture(autouse=True)
def collector() -> Iterator[None]:
    enabled = gc.isenabled()
    gc.enable()
    yield
    (gc.enable if enabled else gc.disable)()


def hold(stillness: Stillness) -> SpinningLane:
    flag = Flag(None, np.zeros(1, np.uint32))
    stillness.begin(flag)
    driver: Any = SimpleNamespace(query=lambda _token: False)
    return SpinningLane(driver, None, flag, stillness)


def test_the_collector_is_still_until_the_last_kernel_was_let_go() -> None:
    stillness = Stillness()
    first, second = hold(stillness), hold(stillness)
    assert not gc.isenabled()
    first.release()
    first.release()
    assert not gc.isenabled()
    second.release()
    assert gc.isenabled()


def test_a_collector_that_was_off_stays_off() -> None:
    gc.disable()
    with hold(Stillness()) as spinning:
        assert spinning.held
    assert not spinning.held
    assert not gc.isenabled()
