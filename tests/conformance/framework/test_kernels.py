"""A device that speaks none of the suite's languages is lent the suite's kernels in its own."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import attrs
import pytest

from forge3d_conformance.bench import Bench
from forge3d_conformance.clauses.test_device_use import kernels_work
from forge3d_conformance.kernels import INCREMENT, KERNELS
from forge3d_conformance.mutants import Layer
from forge3d_conformance.subject import declared
from forge3d_conformance.target import Target, find_target
from forge3d_core.errors import KernelError, PluginFailed
from forge3d_core.protocols import KernelSource


class SpeaksAcme(Layer):
    """The host backend, whose kernels are written in a language called acme."""

    class Device(Layer.Device):
        def create_kernel(self, source: KernelSource) -> Any:
            spoken = {"host": source.sources["acme"]} if "acme" in source.sources else {}
            return self.real.create_kernel(attrs.evolve(source, sources=spoken))


def acme(**members: Any) -> Target:
    host = find_target("host")
    backend = SpeaksAcme().wrap("Backend", host.backend)
    return attrs.evolve(host, backend=backend, subject=declared(SimpleNamespace(**members), "acme"))


def increment(_threads: tuple[int, int, int], data: Any, step: int, count: int) -> None:
    data[:count] += step


def test_a_kernel_that_the_subject_lends_runs() -> None:
    bench = Bench(acme(kernels={"increment": {"acme": increment}}), "here")
    kernels_work(bench, bench.open())
    bench.close()


def test_without_it_no_kernel_runs() -> None:
    bench = Bench(acme(), "here")
    with pytest.raises(KernelError):
        kernels_work(bench, bench.open())
    bench.close()


def test_the_suites_own_sources_stay_and_so_do_its_other_kernels() -> None:
    kernels = declared(SimpleNamespace(kernels={"increment": {"acme": "source"}}), "acme").kernels
    assert kernels["increment"].sources == {**INCREMENT.sources, "acme": "source"}
    assert kernels["increment"].bindings == INCREMENT.bindings
    assert kernels["mirror"] is KERNELS["mirror"]
    assert "acme" not in INCREMENT.sources


@pytest.mark.parametrize(
    ("lent", "complaint"),
    [
        (
            {"increments": {"acme": "source"}},
            "lends the kernels increments; the suite has increment",
        ),
        ({"increment": {"wgsl": "source"}}, "lends 'increment' in wgsl, which the suite writes itself"),
    ],
)
def test_what_the_suite_has_not_or_has_already_is_refused(lent: Any, complaint: str) -> None:
    with pytest.raises(PluginFailed, match=complaint):
        declared(SimpleNamespace(kernels=lent), "acme")
