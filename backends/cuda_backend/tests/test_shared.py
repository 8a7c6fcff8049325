"""Work beside the device's owner, and launches that CUDA refuses, under a runtime that runs nothing."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from forge3d_core.driver import Dispatch, Fill
from forge3d_core.errors import DeviceLost, KernelError
from forge3d_core.protocols import Limits
from forge3d_core.units import GIB
from forge3d_cuda import kernels
from forge3d_cuda.kernels import CompiledKernel, Entry
from forge3d_cuda.lanes import Lanes

if TYPE_CHECKING:
    from forge3d_cuda.driver import CudaDriver

    from .runtime import Runtime

NBYTES = 4096
LIMITS = Limits(max_buffer_size=GIB, max_groups=(1 << 16, 1 << 16, 1 << 16))


class NativeError(RuntimeError):
    def __init__(self, status: int) -> None:
        super().__init__(f"status {status}")
        self.status = status


@attrs.frozen(eq=False)
class Region:
    native: Any
    nbytes: int = NBYTES


def compiled(cupy: Any, cluster: tuple[int, ...] = (0, 0, 0)) -> Any:
    entry = Entry(cupy, SimpleNamespace(ptr=7), 0, [])
    return SimpleNamespace(native=CompiledKernel(entry, "f", (64, 1, 1), (), LIMITS.max_groups, cluster))


def test_streams_shared_with_the_owner_are_ordered_with_the_legacy_stream(
    hollow_driver: CudaDriver, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(runtime), "streamNonBlocking", 1)
    for shared in (False, True):
        Lanes.on(runtime, hollow_driver._pool, LIMITS, shared=shared)
        made = runtime.called("streamCreateWithFlags")[-len(LIMITS.lanes) :]
        assert made == [[0 if shared else 1]] * len(LIMITS.lanes)


@pytest.mark.parametrize(
    ("threads", "whole"), [((1, 1, 1), False), ((128, 1, 1), True), ((192, 2, 1), False)]
)
def test_what_is_no_whole_cluster_is_refused_before_it_is_launched(
    hollow: Any, threads: tuple[int, int, int], whole: bool
) -> None:
    command = Dispatch(compiled(hollow, (2, 1, 1)), (), (), threads)
    if whole:
        kernels.dispatch(command)
        return
    with pytest.raises(KernelError, match="no whole clusters of 2 × 1 × 1"):
        kernels.dispatch(command)


def test_a_driver_from_before_clusters_has_none() -> None:
    def unknown(_attribute: int, _function: int) -> int:
        raise NativeError(1)

    function = SimpleNamespace(ptr=7)
    for answer, cluster in ((unknown, (0, 0, 0)), (lambda attribute, _function: attribute, (11, 12, 13))):
        driver = SimpleNamespace(funcGetAttribute=answer)
        cupy = SimpleNamespace(cuda=SimpleNamespace(driver=driver))
        assert kernels._cluster_of(cupy, function) == cluster


@pytest.mark.parametrize(("status", "kind"), [(9, KernelError), (701, KernelError), (1, DeviceLost)])
def test_a_refused_launch_behind_other_commands_is_no_loss(
    hollow: Any, hollow_driver: CudaDriver, runtime: Runtime, status: int, kind: type[Exception]
) -> None:
    def refuse() -> None:
        raise NativeError(status)

    runtime.during["launchKernel"] = refuse
    buffer = Region(hollow_driver.allocate_buffer(NBYTES))
    commands = [Fill(buffer, 0, NBYTES, 1), Dispatch(compiled(hollow), (), (), (64, 1, 1))]
    with pytest.raises(kind):
        hollow_driver._lanes.submit("compute", commands, ())
    orphans = hollow_driver._lanes._orphans
    assert len(orphans) == (kind is KernelError)  # it keeps what the fill uses, and all lanes behind it
    if orphans:
        event = orphans[0].event.value
        waiting = [arguments for arguments in runtime.called("streamWaitEvent") if arguments[1] == event]
        assert len(waiting) == len(hollow_driver.info.limits.lanes) - 1
