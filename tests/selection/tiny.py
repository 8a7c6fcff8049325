"""A whole backend that inherits nothing and whose devices do nothing.

It is copied into the throw-away distributions that the tests of selection install.
"""

from forge3d_core.hookspecs import API, hookimpl
from forge3d_core.protocols import DeviceInfo, DeviceOptions

SILENT = (
    "limits budget lanes native create_buffer create_texture create_kernel command_list submit "
    "staging_ring readback_pool adopt wait_idle __enter__ __exit__"
)


def silent(*_args, **_kwargs):
    return None


class TinyDevice:
    def __init__(self, info, options, native=None):
        self.info = info
        self.options = options
        self.closed = False
        for member in SILENT.split():
            setattr(self, member, silent)
        self.lanes = {}
        self.native = native

    def close(self):
        self.closed = True


class TinyBackend:
    def __init__(self, name, score=1000, api=API, selectors=("0", "1")):
        self.name = name
        self.score = score
        self.api = api
        self.selectors = selectors
        self.opened = []

    def probe(self):
        return [self.info(selector, self.score - i) for i, selector in enumerate(self.selectors)]

    def info(self, selector, score=0):
        return DeviceInfo(self.name, f"tiny {selector}", "simulator", selector, score=score)

    def open(self, selector="", options=None):
        self.opened.append(selector)
        return TinyDevice(self.info(selector), options or DeviceOptions())

    def adopt(self, native, options=None):
        return TinyDevice(self.info("adopted"), options or DeviceOptions(), native)


def plugin(backend):
    class Plugin:
        @hookimpl
        def forge3d_backend(self):
            return backend

    return Plugin()
