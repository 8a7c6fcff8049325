"""The hooks that hear of devices."""

from __future__ import annotations

from forge3d_core.hookspecs import hookimpl
from forge3d_core.selection.select import open_device

from .conftest import registry_of


def test_lifecycle_hooks_hear_of_every_device_and_cannot_spoil_it(site, caplog):
    heard = []

    class Listener:
        @hookimpl
        def forge3d_backend(self):
            return site.tiny("listener")

        @hookimpl
        def forge3d_device_opened(self, device):
            heard.append(("opened", device.info.backend))

        @hookimpl
        def forge3d_device_closed(self, info):
            heard.append(("closed", info.backend))

    class Spoiler:
        @hookimpl
        def forge3d_backend(self):
            return site.tiny("spoiler")

        @hookimpl
        def forge3d_device_opened(self, device):
            raise RuntimeError("spoilt")

    registry = registry_of(lambda_device(site))
    registry.register(Spoiler(), "spoiler")
    registry.register(Listener(), "listener")
    registry.load("spoiler")
    registry.load("listener")
    device = open_device("one", registry=registry)
    assert heard == [("opened", "one")]
    assert "spoiler's forge3d_device_opened hook failed: RuntimeError: spoilt" in caplog.text
    device.close()
    assert heard == [("opened", "one"), ("closed", "one")]


def lambda_device(site):
    """Return a backend whose device settles its timeline's points when it closes."""

    class Timeline:
        def __init__(self):
            self.watchers = []

        def point(self, value):
            point = type("Point", (), {"value": value})()
            point.on_done = lambda callback: self.watchers.append(lambda: callback(point, None))
            return point

    backend = site.tiny("one")
    open_silent = backend.open

    def open_(selector="", options=None):
        device = open_silent(selector, options)
        timeline = Timeline()
        device.lanes = {"upload": type("Lane", (), {"timeline": timeline})()}
        device.close = lambda: [settle() for settle in timeline.watchers]
        return device

    backend.open = open_
    return backend
