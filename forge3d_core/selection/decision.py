"""What would open here, and what decided it: the whole of selection but the opening itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import chain

import attrs

from forge3d_core.config import Choice, Configuration
from forge3d_core.config.source import Source
from forge3d_core.errors import BackendError, NoDevice
from forge3d_core.memory.host_limits import default_limit
from forge3d_core.memory.host_reader import lasting_limits
from forge3d_core.plugins import AUTO, BackendSpec, Policy, Status
from forge3d_core.plugins.registry import IMPORT_TIMEOUT, PROBE_TIMEOUT, Registry
from forge3d_core.printable import escaped
from forge3d_core.protocols import DeviceInfo, DeviceOptions


@attrs.frozen
class Request:
    """What configuration asks for. ``backend`` is the choice that holds, ``overridden`` the weaker ones."""

    backend: Choice
    overridden: tuple[Choice, ...]
    budget: Choice
    drain_timeout: Choice
    tuning: Choice
    policy: Policy
    restrictions: tuple[Choice, ...]  # every source's say on what may load
    import_timeout: float
    probe_timeout: float
    features: tuple[str, ...] = ()
    limits: Mapping[str, int] = attrs.field(factory=dict)

    @classmethod
    def of(cls, configuration: Configuration) -> Request:
        """Read the request out of a configuration."""
        defaults, advice = DeviceOptions(), default_limit(lasting_limits())
        unconfigured = Choice("budget", advice.nbytes, Source("default", advice.reason))
        keys = ("plugins.allow", "plugins.deny", "plugins.autoload")
        return cls(
            backend=configuration.get("backend", BackendSpec(AUTO)),
            overridden=configuration.choices("backend")[1:],
            budget=next(iter(configuration.choices("budget")), unconfigured),
            drain_timeout=configuration.get("drain_timeout", defaults.drain_timeout),
            tuning=configuration.get("tuning", "measured"),
            policy=configuration.policy,
            restrictions=tuple(chain.from_iterable(map(configuration.choices, keys))),
            import_timeout=configuration.get("plugins.import_timeout", IMPORT_TIMEOUT).value,
            probe_timeout=configuration.get("plugins.probe_timeout", PROBE_TIMEOUT).value,
        )

    @property
    def spec(self) -> BackendSpec:
        spec: BackendSpec = self.backend.value
        return spec

    @property
    def options(self) -> DeviceOptions:
        return DeviceOptions(
            budget=self.budget.value,
            drain_timeout=self.drain_timeout.value,
            tuning=self.tuning.value,
            features=self.features,
            limits=self.limits,
        )

    @property
    def named(self) -> bool:
        """Whether somebody asked for the backend by name, rather than a file in the folder."""
        return self.backend.source.origin in ("argument", "environment")


@attrs.frozen
class Decision:
    """The request, the state of every plugin that was looked at, and what came of it.

    ``statuses`` are those that were probed; ``unasked`` the names that nobody asked for,
    whose code has not run. ``ranked`` is what automatic choice would try, best first.
    """

    request: Request
    statuses: tuple[Status, ...]
    unasked: tuple[str, ...] = ()
    ranked: tuple[DeviceInfo, ...] = ()
    chosen: BackendSpec | None = None
    device: DeviceInfo | None = None  # None where only the backend can resolve the selector
    error: BackendError | None = None


def looks(
    registry: Registry,
    request: Request,
    names: Iterable[str],
    *,
    fresh: bool,
    told: Callable[[Status], None] = lambda _status: None,
) -> tuple[Status, ...]:
    """Return the states of plugins as the request's policy and timeouts have them."""
    return registry.statuses(
        names,
        request.policy,
        requested=(request.spec.name,) if request.named else (),
        import_timeout=request.import_timeout,
        probe_timeout=request.probe_timeout,
        fresh=fresh,
        told=told,
    )


def decide(request: Request, registry: Registry, *, fresh: bool = True) -> Decision:
    """Return what would open and why. Probes what it must, loads and opens nothing, raises nothing.

    ``fresh`` off takes what probes found lately.
    """
    names = tuple(registry.candidates())
    if request.spec.automatic:
        return _automatic(request, looks(registry, request, names, fresh=fresh))
    spec = request.spec
    (status,) = looks(registry, request, (spec.name,), fresh=fresh)
    unasked = tuple(name for name in names if name != spec.name)
    # whether a selector fits is the backend's to say, also where no device opens without one
    if status.error is not None and not (spec.selector and status.devices):
        return Decision(request, (status,), unasked, error=status.error)
    return Decision(request, (status,), unasked, chosen=spec, device=_named(status, spec.selector))


def _automatic(request: Request, statuses: tuple[Status, ...]) -> Decision:
    # one entry point, one name: what a probe says of its backend's name does not count
    offers = [(info, status.name) for status in statuses for info in status.devices if not info.caution]
    offers.sort(key=lambda offer: -offer[0].score)  # stable: between equals the name decides
    ranked = tuple(attrs.evolve(info, backend=name) for info, name in offers)
    if not ranked:
        return Decision(request, statuses, error=nothing_opens(statuses))
    best = ranked[0]
    return Decision(
        request, statuses, ranked=ranked, chosen=BackendSpec(best.backend, best.selector), device=best
    )


def nothing_opens(statuses: tuple[Status, ...], refusals: tuple[str, ...] = ()) -> NoDevice:
    """Return the error that says why automatic choice found nothing."""
    states = [f"{status.name}: {status.state.value}" for status in statuses if status.error]
    found = escaped("; ".join((*states, *refusals)) or "no backend is installed")
    return NoDevice(
        f"no backend can open a device here ({found}); `forge3d backends` says why and what would help",
        fix="forge3d backends",
    )


def _named(status: Status, selector: str) -> DeviceInfo | None:
    if not selector:
        return next(info for info in status.devices if not info.caution)
    return next((info for info in status.devices if info.selector == selector), None)
