"""Loading one plugin: import it, register its hooks, ask for its backend, check what comes back."""

from __future__ import annotations

import logging
import re
from typing import Any

import attrs
import pluggy

from forge3d_core import hookspecs
from forge3d_core.errors import BackendError, IncompatibleApi, MissingDependency, PluginFailed
from forge3d_core.plugins.devices import checked_devices
from forge3d_core.plugins.discovery import OWN_PACKAGE, Candidate
from forge3d_core.plugins.isolation import contained, isolated
from forge3d_core.plugins.own import installing
from forge3d_core.plugins.spec import is_name, normalise
from forge3d_core.presentation import line
from forge3d_core.printable import described, shown
from forge3d_core.protocols import ApiRange, ApiVersion, Backend, DeviceInfo

_log = logging.getLogger("forge3d")
BACKEND_MEMBERS = ("name", "api", "probe", "open", "adopt")
HOOK_SECONDS = 5.0
"""After this long a lifecycle hook is left to itself."""

_REQUIREMENT = re.compile(r"[A-Za-z0-9._-]+(?:\[[A-Za-z0-9._, -]+\])?[ A-Za-z0-9.,!+*<>=~_-]*")


@attrs.frozen(eq=False)
class Plugin:
    """A loaded plugin. ``hooks`` call this plugin only, so no plugin's hook can stop another's."""

    candidate: Candidate
    backend: Backend
    hooks: Any

    def __repr__(self) -> str:
        return line(f"plugin {shown(self.name)} of {self.candidate.distribution} {self.candidate.version}")

    @property
    def name(self) -> str:
        return self.candidate.name

    def probe(self, seconds: float) -> tuple[DeviceInfo, ...]:
        """Return the devices it finds; raises a :class:`BackendError` for whatever else happens."""
        return isolated(self._devices, seconds, f"{self.name}'s probe", backend=self.name)

    def _devices(self) -> tuple[DeviceInfo, ...]:
        try:
            return checked_devices(self.backend.probe(), self.name)
        except ImportError as error:
            raise import_failure(self.candidate, error, f"{self.name}'s probe") from error

    def implements(self, hook: str) -> bool:
        return bool(getattr(self.hooks, hook).get_hookimpls())

    def notify(self, hook: str, **arguments: Any) -> None:
        """Call a lifecycle hook, for a bounded time; what it raises is logged and goes no further."""
        if not self.implements(hook):
            return
        doing = f"{self.name}'s {hook} hook"
        try:
            isolated(lambda: getattr(self.hooks, hook)(**arguments), HOOK_SECONDS, doing, backend=self.name)
        except BackendError as error:
            _log.warning("%s", str(error).replace(" hook raised ", " hook failed: "))


def load(candidate: Candidate, seconds: float) -> Plugin:
    """Return the plugin, loaded; raises the :class:`BackendError` that tells why it cannot be."""
    doing = f"importing {candidate.name} from {candidate}"
    return isolated(lambda: _load(candidate, doing), seconds, doing, backend=candidate.name)


def _load(candidate: Candidate, doing: str) -> Plugin:
    try:
        module = candidate.fetch()
    except ImportError as error:
        raise import_failure(candidate, error, doing) from error
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    try:
        manager.register(module, candidate.name)
        manager.check_pending()
    except Exception as error:
        raise PluginFailed(
            f"{candidate} does not fit the hooks of {OWN_PACKAGE}: {described(error)}", backend=candidate.name
        ) from error
    if not manager.hook.forge3d_backend.get_hookimpls():
        raise PluginFailed(
            f"{candidate.target} has no forge3d_backend hook; decorate one with @hookimpl",
            backend=candidate.name,
        )
    try:
        answers = manager.hook.forge3d_backend()
    except ImportError as error:
        raise import_failure(candidate, error, f"{candidate.name}'s forge3d_backend hook") from error
    except BaseException as error:
        raise contained(error, f"{candidate.name}'s forge3d_backend hook", candidate.name) from error
    return Plugin(candidate, _checked(candidate, answers[0] if answers else None), manager.hook)


def _checked(candidate: Candidate, backend: Any) -> Backend:
    missing = [m for m in BACKEND_MEMBERS if not hasattr(backend, m)]
    if missing:
        problem = f"returned {shown(backend)}, which has no {', '.join(missing)}"
    else:
        api, name = backend.api, backend.name  # once each: a property may answer otherwise the next time
        if not _is_range(api):
            problem = f"returned a backend whose api is {shown(api)}, not an ApiRange of ApiVersions"
        elif not isinstance(name, str) or normalise(name) != candidate.name:
            problem = f"returned a backend named {shown(name)}, the entry point says {candidate.name!r}"
        elif hookspecs.API.negotiate(api) is None:
            raise _other_api(candidate, f"speaks plugin API {api}", api)
        else:
            return backend  # type: ignore[no-any-return]
    raise PluginFailed(f"{candidate.name}'s forge3d_backend hook {problem}", backend=candidate.name)


def _is_range(api: Any) -> bool:
    ends = (api.oldest, api.newest) if isinstance(api, ApiRange) else ()
    return bool(ends) and all(
        isinstance(end, ApiVersion) and isinstance(end.major, int) and isinstance(end.minor, int)
        for end in ends
    )


def import_failure(candidate: Candidate, error: ImportError, doing: str) -> BackendError:
    """Return what an ``ImportError`` in a plugin's code means.

    A module that is not the plugin's own is a missing dependency; a name that the core does not have
    means that the plugin was written for another core; anything else is the plugin's own fault.
    """
    if isinstance(error, BackendError):
        return contained(error, doing, candidate.name)
    name = error.name if isinstance(error.name, str) else ""
    package = name.partition(".")[0]
    if package == OWN_PACKAGE and not candidate.ours:
        return _other_api(candidate, f"was written for another forge3d-core ({described(error)})", None)
    if package != candidate.package and is_name(package):
        fix = f'pip install "{requirement(candidate, package)}"'
        message = (
            f"{candidate.name} needs {package}, which cannot be imported ({described(error)}); try: {fix}"
        )
        return MissingDependency(message, backend=candidate.name, fix=fix)
    message = f"{doing} raised {described(error)}"
    return PluginFailed(message, backend=candidate.name, fix=reinstall(candidate))


def requirement(candidate: Candidate, package: str) -> str:
    """Return what to ask pip for to get ``package``: the plugin's own requirement where it states one."""
    for text in candidate.requires:
        plain = text.partition(";")[0].strip()
        name = re.match(r"[A-Za-z0-9._-]+", plain)
        if name and (normalise(name[0]) + "-").startswith(normalise(package) + "-"):
            return plain if _REQUIREMENT.fullmatch(plain) else package  # it goes into a command
    return package


def reinstall(candidate: Candidate) -> str | None:
    """Return the command that installs the candidate's distribution afresh."""
    if not candidate.version or not is_name(candidate.distribution):
        return None
    return installing(candidate.distribution).replace("pip install", "pip install --force-reinstall", 1)


def _other_api(candidate: Candidate, what: str, theirs: ApiRange | None) -> IncompatibleApi:
    older = theirs is not None and theirs.newest < hookspecs.API.oldest
    upgrade = candidate.distribution if older else f"forge3d-core {candidate.distribution}"
    fix = f"pip install --upgrade {upgrade}" if is_name(candidate.distribution) else None
    advice = f"; try: {fix}" if fix else ""
    message = f"{candidate} {what}, this core understands {hookspecs.API}{advice}"
    return IncompatibleApi(message, backend=candidate.name, fix=fix)
