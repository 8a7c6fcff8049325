"""Laying a defect over any backend: proxies for every noun, of which a mutant replaces some.

A :class:`Layer` stands between a test and a real device. It wraps all that the device makes, passes
every call on, and takes its own proxies out of arguments again, so the real backend never meets one.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Coroutine, Iterator, Mapping
from types import MappingProxyType
from typing import Any, ClassVar

import attrs

from forge3d_core.protocols.readback import ReadRequest


def unwrap(value: Any) -> Any:
    """Return ``value`` with every proxy replaced by what it stands for, also inside containers."""
    match value:
        case Proxy():
            return value.target
        case list() | set() | frozenset():
            return type(value)(map(unwrap, value))
        case tuple() if type(value) is tuple:
            return tuple(map(unwrap, value))
        case dict():
            return {key: unwrap(inner) for key, inner in value.items()}
        case Iterator():
            return map(unwrap, value)
        case ReadRequest():
            return attrs.evolve(value, source=unwrap(value.source))
    return value


class Proxy:
    """Stands for ``target``: what a subclass does not define goes there.

    ``NOUNS`` maps the members that lead to another noun to its name. A subclass that overrides a
    method reaches the sound one through ``self.real``. It may keep state on itself.
    """

    NOUNS: ClassVar[Mapping[str, str]] = {}

    def __init__(self, layer: Layer, target: Any) -> None:
        self.layer = layer
        self.target = target

    @property
    def real(self) -> Any:
        """The same object without the defect; its results are still wrapped."""
        return getattr(Layer, self.noun())(self.layer, self.target)

    @classmethod
    def noun(cls) -> str:
        return next(base.__name__ for base in cls.__mro__ if base in vars(Layer).values())

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.target, name)
        noun = self.NOUNS.get(name)
        if name == "native" or not callable(value):
            return self.layer.wrap(noun, value)

        def call(*args: Any, **kwargs: Any) -> Any:
            return self.layer.wrap(noun, value(*unwrap(args), **unwrap(kwargs)))

        return call

    def __eq__(self, other: object) -> bool:
        return bool(self.target == unwrap(other))

    def __hash__(self) -> int:
        return hash(self.target)

    def __len__(self) -> int:
        return len(self.target)

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        return f"<{type(self).__qualname__} over {self.target!r}>"

    def __enter__(self) -> Any:
        entered = self.target.__enter__()
        return self if entered is self.target else entered

    def __exit__(self, *exc_info: object) -> None:
        self.target.__exit__(*exc_info)

    async def __aenter__(self) -> Any:
        entered = await self.target.__aenter__()
        return self if entered is self.target else entered

    async def __aexit__(self, *exc_info: object) -> None:
        await self.target.__aexit__(*exc_info)

    def __await__(self) -> Any:
        return self.target.__await__()


class Layer:
    """One defect over one backend. A mutant subclasses it and replaces nested classes.

    A nested class extends the one of the same name here: ``class Ring(Layer.Ring)``. State that belongs
    to no single object lives on the layer, one of which is made for each test.
    """

    class Backend(Proxy):
        NOUNS: ClassVar = {"open": "Device", "adopt": "Device"}

    class Device(Proxy):
        NOUNS: ClassVar = {
            "budget": "Budget",
            "lanes": "Lane",
            "create_buffer": "Buffer",
            "create_texture": "Texture",
            "create_kernel": "Kernel",
            "command_list": "Commands",
            "submit": "Point",
            "staging_ring": "Ring",
            "readback_pool": "Pool",
            "adopt": "Buffer",
        }

    class Lane(Proxy):
        NOUNS: ClassVar = {"timeline": "Timeline"}

    class Timeline(Proxy):
        NOUNS: ClassVar = {"point": "Point"}

    class Point(Proxy):
        NOUNS: ClassVar = {"timeline": "Timeline"}

        def on_done(self, callback: Callable[[Any, Exception | None], None]) -> None:
            self.target.on_done(lambda point, error: callback(self.layer.wrap("Point", point), error))

    class Buffer(Proxy):
        NOUNS: ClassVar = {"recycle": "Buffer"}

    class Texture(Proxy): ...

    class Kernel(Proxy): ...

    class Commands(Proxy):
        NOUNS: ClassVar = {"copy": "Commands", "fill": "Commands", "dispatch": "Commands"}

    class Ring(Proxy):
        NOUNS: ClassVar = {
            "allocate": "Slice",
            "reserve": "Slice",
            "advance": "Point",
            "upload": "Point",
            "upload_many": "Point",
            "reserve_async": "Slice",
            "advance_async": "Point",
            "upload_async": "Point",
        }

    class Slice(Proxy): ...

    class Pool(Proxy):
        NOUNS: ClassVar = {
            "read": "Handle",
            "read_async": "Handle",
            "read_many": "Handle",
            "read_many_async": "Handle",
            "stream": "Stream",
        }

    class Handle(Proxy):
        NOUNS: ClassVar = {"point": "Point", "lease": "Lease"}

    class Lease(Proxy): ...

    class Stream(Proxy): ...

    class Budget(Proxy):
        NOUNS: ClassVar = {"reserve": "Reservation"}

    class Reservation(Proxy): ...

    LASTING: ClassVar = frozenset({"Backend", "Device", "Lane", "Timeline", "Budget"})
    """Nouns whose proxies live as long as the layer, so that state on them is not lost."""

    SYSTEMS: ClassVar[Mapping[Any, Callable[..., Any]]] = MappingProxyType({})
    """What a test gets that asks the bench to make one of the systems of ``forge3d_core.pipeline``."""

    def __init__(self) -> None:
        self._proxies: weakref.WeakValueDictionary[int, Proxy] = weakref.WeakValueDictionary()
        self._lasting: list[Proxy] = []
        self._lock = threading.RLock()

    def wrap(self, noun: str | None, value: Any) -> Any:
        """Return the proxy of ``value``, the same one as long as it lives; None stays None."""
        if noun is None or value is None or isinstance(value, Proxy):
            return value
        if isinstance(value, Mapping):
            return MappingProxyType({key: self.wrap(noun, inner) for key, inner in value.items()})
        if isinstance(value, list):
            return [self.wrap(noun, inner) for inner in value]
        if isinstance(value, Coroutine):
            return self._later(noun, value)
        with self._lock:
            proxy = self._proxies.get(id(value))
            if proxy is None or proxy.target is not value:
                proxy = getattr(self, noun)(self, value)
                assert isinstance(proxy, Proxy)
                self._proxies[id(value)] = proxy
                if noun in self.LASTING:
                    self._lasting.append(proxy)
        return proxy

    def lasting(self, noun: str) -> list[Any]:
        """Return the proxies of a lasting noun, for a defect that spans two nouns."""
        return [proxy for proxy in self._lasting if proxy.noun() == noun]

    async def _later(self, noun: str, value: Coroutine[Any, Any, Any]) -> Any:
        return self.wrap(noun, await value)
