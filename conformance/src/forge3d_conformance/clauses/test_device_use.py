"""A device in use: kernels that do not compile, and many threads at once."""

from __future__ import annotations

import re
import threading

import numpy as np
import pytest

from forge3d_conformance.bench import Bench
from forge3d_conformance.kernels import BROKEN
from forge3d_core.errors import KernelError
from forge3d_core.protocols import Device, KernelSource, Param, ReadbackPool, StagingRing

WORDS = 64


def kernels_work(bench: Bench, device: Device) -> None:
    """Check that the device compiles and runs a good kernel."""
    buffer = device.create_buffer(4 * WORDS)
    kernel = device.create_kernel(bench.kernel("increment"))
    commands = device.command_list().dispatch(kernel, [buffer], [3, WORDS], threads=WORDS)
    bench.wait(device.submit(commands), "a good kernel after a broken one")
    with device.readback_pool(max_pending_ops=1, buffer_size=4096) as pool:
        seen = pool.read(buffer, dtype=np.uint32).wait(bench.patience)
    bench.same(seen, np.full(WORDS, 3, np.uint32), "what a good kernel wrote after a broken one")


@pytest.mark.clause("device.kernel-errors")
def test_a_broken_kernel_says_where(bench: Bench) -> None:
    device = bench.open()
    for language in device.limits.languages:
        code = BROKEN.get(language, "this is no source of any language: undeclared_name")
        source = KernelSource("broken", {language: code})
        for attempt in ("once", "twice"):
            with bench.raises(KernelError, f"compiling broken {language} {attempt}") as caught:
                device.create_kernel(source)
            text = str(caught[0])
            bench.check(
                "broken" in text, f"the error of broken {language} does not name the kernel: {text!r}"
            )
            if language in BROKEN:
                bench.check(
                    "undeclared_name" in text and re.search(r"\d", text),
                    f"the error of broken {language} does not say where: {text!r}",
                )
        kernels_work(bench, device)


@pytest.mark.clause("device.kernel-errors")
def test_a_kernel_in_no_language_of_the_device_names_the_languages(bench: Bench) -> None:
    device = bench.open()
    for sources in ({"klingon": "bIjatlh 'e' yImev"}, {}):
        with bench.raises(KernelError, "a kernel in no language of the device") as caught:
            device.create_kernel(KernelSource("strange", sources))
        text = str(caught[0])
        for language in (*sources, *device.limits.languages[:1]):
            bench.check(language in text, f"the error does not name the language {language!r}: {text!r}")
    kernels_work(bench, device)


@pytest.mark.clause("device.kernel-errors")
def test_wrong_arguments_fail_where_they_are_recorded(bench: Bench) -> None:
    device = bench.open()
    buffer = device.create_buffer(4 * WORDS)
    kernel = device.create_kernel(bench.kernel("increment"))
    bench.check(kernel.language in device.limits.languages, f"a kernel in {kernel.language!r} compiled")
    commands = device.command_list()
    for buffers, params in (([], [1, 1]), ([buffer] * 2, [1, 1]), ([buffer], [1]), ([buffer], [1, 2, 3])):
        with bench.raises(KernelError, f"{len(buffers)} buffers and {len(params)} params for one and two"):
            commands.dispatch(kernel, buffers, params, threads=1)
    for value in (-1, 1 << 32, 0.5):
        with bench.raises(KernelError, f"the param {value} for a u4"):
            commands.dispatch(kernel, [buffer], [value, 1], threads=1)
    bench.check(len(commands) == 0, f"refused dispatches left {len(commands)} commands on the list")
    kernels_work(bench, device)


@pytest.mark.clause("device.kernel-errors")
def test_kernels_of_one_name_are_not_mixed_up(bench: Bench) -> None:
    device = bench.open()
    good = bench.kernel("increment")
    with bench.raises(KernelError, "a broken kernel with the name of a good one"):
        device.create_kernel(
            KernelSource(good.name, dict.fromkeys(device.limits.languages, "fn nonsense(")),
        )
    kernels_work(bench, device)
    changed = KernelSource(good.name, {"klingon": ""}, good.bindings, (*good.params, Param("more")))
    with bench.raises(KernelError, "a kernel with the name of a compiled one and no source"):
        device.create_kernel(changed)


@pytest.mark.clause("device.threads")
def test_threads_lose_no_bytes(bench: Bench) -> None:
    device = bench.open()
    shared = device.staging_ring(ring_count=3, buffer_size=8192)
    pool = device.readback_pool(max_pending_ops=4, buffer_size=4096)
    device.wait_idle(bench.patience)
    before = device.budget.metrics()
    begun = threading.Barrier(4)
    seeds = [int(bench.random.integers(1 << 30)) for _ in range(4)]
    with bench.racing():
        workers = [bench.thread(program, bench, device, shared, pool, begun, seed) for seed in seeds]
        for worker in workers:
            bench.result(worker, "a thread with a program of its own")
    device.wait_idle(bench.patience)
    after = device.budget.metrics()
    for name in ("buffer_count", "host_visible_bytes", "device_local_bytes"):
        was, now = getattr(before, name), getattr(after, name)
        bench.check(now <= was, f"threads that closed all they made changed {name} from {was} to {now}")


def program(
    bench: Bench,
    device: Device,
    shared: StagingRing,
    pool: ReadbackPool,
    begun: threading.Barrier,
    seed: int,
) -> None:
    """Make, write, compute, read and close, and compare with a model of this thread's own."""
    random = np.random.default_rng(seed)
    begun.wait(bench.patience)
    for _ in range(bench.scale(8, 100)):
        nbytes = 4 * int(random.integers(16, 1024))
        data = random.integers(0, 256, nbytes, np.uint8)
        with device.create_buffer(nbytes) as buffer, device.create_buffer(nbytes) as other:
            try:
                shared.upload(data, buffer, timeout=bench.patience)
                kernel = device.create_kernel(bench.kernel("increment"))
                step = int(random.integers(1, 1 << 20))
                commands = device.command_list().copy(buffer, other)
                commands.dispatch(kernel, [other], [step, nbytes // 4], threads=nbytes // 4)
                point = device.submit(commands)
                handles = [pool.read(buffer), pool.read(other)]
                seen, stepped = (handle.wait(bench.patience) for handle in handles)
                point.wait(bench.patience)
            except Exception as error:
                bench.check(False, f"a thread beside others got {type(error).__name__}: {error}")
                raise
            bench.same(seen, data, "what one of several threads uploaded")
            wanted = (data.view(np.uint32) + np.uint32(step)).view(np.uint8)
            bench.same(stepped, wanted, "what one of several threads computed")
        bench.check(point.done, "a point that was waited for is not done")


@pytest.mark.clause("device.threads")
def test_lists_recorded_on_many_threads_are_submitted_on_one(bench: Bench) -> None:
    device = bench.open()
    threads, each = 4, 16
    buffer = device.create_buffer(threads * each)

    def record(first: int) -> object:
        commands = device.command_list()
        for i in range(first, first + each):
            commands.fill(buffer, i + 1, offset=i, nbytes=1)
        return commands

    for _ in range(bench.scale(2, 20)):
        recorded = [bench.thread(record, i * each) for i in range(threads)]
        for future in recorded:
            commands = bench.result(future, "a thread that records")
            device.submit(commands)  # type: ignore[arg-type]
        with device.readback_pool(max_pending_ops=1, buffer_size=4096) as pool:
            seen = pool.read(buffer).wait(bench.patience)
        bench.same(seen, np.arange(1, threads * each + 1, dtype=np.uint8), "lists recorded on many threads")
