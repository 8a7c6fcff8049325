"""Submitting kernels, and asking whether they are done."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from forge3d_conformance.speed.contestant import Runner
from forge3d_conformance.speed.ours.operands import Maker, Operands

LIST_LENGTH = 256


def _submit(on: Operands, _nbytes: int) -> Runner:
    device, kernel, buffer = on.device, on.kernel, on.buffer()

    def call() -> None:
        device.submit(device.command_list().dispatch(kernel, [buffer], [1, 256], threads=256))

    return Runner(call, on.idle)


def _submit_list(on: Operands, _nbytes: int) -> Runner:
    device, kernel, buffer = on.device, on.kernel, on.buffer()

    def call() -> None:
        commands = device.command_list()
        for _ in range(LIST_LENGTH):
            commands.dispatch(kernel, [buffer], [1, 256], threads=256)
        device.submit(commands)

    return Runner(call, on.idle, LIST_LENGTH)


def _submit_again(length: int, on: Operands, _nbytes: int) -> Runner:
    """A list recorded once and submitted many times, as that of a frame is."""
    device, kernel, buffer = on.device, on.kernel, on.buffer()
    commands = device.command_list(reusable=True)
    for _ in range(length):
        commands.dispatch(kernel, [buffer], [1, 256], threads=256)
    return Runner(lambda: device.submit(commands), on.idle, length)


def _submit_empty(on: Operands, _nbytes: int) -> Runner:
    device = on.device
    return Runner(lambda: device.submit(device.command_list()).wait())


def _signal_query(on: Operands, _nbytes: int) -> Runner:
    """A point made and asked once: what a fence costs beside the work that it stands for."""
    device = on.device
    return Runner(lambda: device.submit(device.command_list()).done, on.idle)


def _passed_point(on: Operands, _nbytes: int) -> Runner:
    point = on.device.submit(on.device.command_list().fill(on.buffer()))
    point.wait()
    return Runner(lambda: point.done)


SUBMITTING: Mapping[str, Maker] = {
    "submit": _submit,
    "submit-list": _submit_list,
    "submit-again": partial(_submit_again, 1),
    "submit-list-again": partial(_submit_again, LIST_LENGTH),
    "submit-empty": _submit_empty,
    "signal-query": _signal_query,
    "passed-point": _passed_point,
}
