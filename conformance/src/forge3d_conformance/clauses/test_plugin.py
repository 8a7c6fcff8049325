"""Plugins: discovered without being run, chosen by what is written down, refused for a reason."""

from __future__ import annotations

import json
from itertools import combinations
from typing import Any

import pytest

from forge3d_conformance.bench import Bench
from forge3d_conformance.clauses.site import CLONE, DEVICELESS, MOVED, FakeSitePackages, site
from forge3d_conformance.subject import normalised
from forge3d_core.protocols import ApiRange, ApiVersion

SOURCES = ("argument", "environment", "project", "user")
"""Where a backend may be named, the strongest first."""

LAZY = """
import json, sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
import forge3d_core, forge3d_conformance.bench
from forge3d_conformance import child
from forge3d_conformance.mutants import mutants
mutants()
known = {name.partition(".")[0] for name in sys.modules}
child.backend
NATIVE = (*EXTENSION_SUFFIXES, ".so", ".dll", ".dylib", ".pyd")

def native(package):
    file = getattr(sys.modules.get(package), "__file__", None)
    if file is None or package in sys.stdlib_module_names:
        return False
    here = Path(file)
    files = here.parent.rglob("*") if here.name == "__init__.py" else [here]
    return any(f.name.endswith(NATIVE) for f in files)

loaded = sorted({name.partition(".")[0] for name in sys.modules} - known)
print(json.dumps([package for package in loaded if native(package)]))
"""


@pytest.mark.clause("plugin.lazy")
def test_importing_the_plugin_loads_no_native_library(bench: Bench) -> None:
    ended = bench.child(LAZY)
    bench.check(ended.status == 0, f"a program that imports the plugin: {ended}")
    loaded = json.loads(ended.stdout.strip().splitlines()[-1])
    bench.check(not loaded, f"importing the plugin loads native code already: {', '.join(loaded)}")


@pytest.mark.clause("plugin.lazy")
def test_discovery_runs_nobody_who_was_not_asked_for(bench: Bench) -> None:
    with site(bench) as here:
        here.install("bystander")
        said = here.forge3d("explain", "--backend", bench.target.spec)
        opens = str(said["opens"])
        bench.check(
            normalised(opens.partition(":")[0]) == bench.target.name
            and opens.partition(":")[2] == bench.target.selector,
            f"explain says that {opens} opens",
        )
        bench.check("bystander" in said["not_asked"], "a plugin that was not asked for is not listed")
        bench.check(not here.ran("forge3d-bystander"), "discovery ran a plugin that nobody asked for")


@pytest.mark.clause("plugin.version")
def test_the_backend_names_itself_and_speaks_the_cores_api(bench: Bench) -> None:
    backend, name = bench.backend, bench.target.name
    bench.check(
        normalised(backend.name) == name,
        f"the entry point is {name!r} and the backend names itself {backend.name!r}",
    )
    spoken = backend.api
    bench.check(isinstance(spoken, ApiRange), f"the plugin API it speaks is {spoken!r}, not an ApiRange")
    bench.check(spoken.oldest <= spoken.newest, f"the range of plugin APIs {spoken} ends before it begins")
    with site(bench) as here:
        here.install("of-tomorrow", MOVED)
        said = here.forge3d("explain", "--backend", "of-tomorrow")
    core = core_range(bench)
    bench.check(spoken.negotiate(core), f"the backend speaks plugin API {spoken}, and the core {core}")
    error = said["error"]
    bench.check(said["opens"] is None and error, "a plugin of an API that no core speaks would open")
    bench.check(error["type"] == "IncompatibleApi", f"another plugin API is called {error['type']}")
    for part in ("97.1", "98.2", str(core)):
        bench.check(part in error["message"], f"the refusal does not name {part}: {error['message']}")


def core_range(bench: Bench) -> ApiRange:
    """Return the plugin APIs that the core speaks, as it says itself."""
    with site(bench) as here:
        said = here.forge3d("backends", FORGE3D_ALLOW=bench.target.name)["api"]
    oldest, _, newest = said.partition(" to ")
    ends = [ApiVersion(*map(int, end.split("."))) for end in (oldest, newest or oldest)]
    return ApiRange(*ends)


BROKEN = {
    "raises": ("raise ImportError('half installed')", "failed to load"),
    "exits": ("raise SystemExit(3)", "failed to load"),
    "prints": ("print('hello')\nraise ValueError('and goodbye')", "failed to load"),
    "lacks": ("import no_such_gpu_library", "missing dependency"),
    "hangs": ("import threading\nthreading.Event().wait(60)", "failed to load"),
    "hookless": ("plugin = object()", "failed to load"),
    "deviceless": (DEVICELESS, "unavailable"),
    "of-tomorrow": (MOVED, "incompatible API version"),
    "badly-probed": (
        CLONE + "class Bad(Clone):\n    def probe(self): raise SystemExit(4)\nClone = Bad\n",
        "failed to load",
    ),
}
"""Every way in which a plugin can be broken, and the state it should be in."""


@pytest.mark.clause("plugin.isolated")
def test_broken_plugins_disturb_nobody(bench: Bench) -> None:
    with site(bench) as here:
        for name, (code, _) in BROKEN.items():
            here.install(name, code)
        found = here.backends(FORGE3D_IMPORT_TIMEOUT="3")
        mine = found[bench.target.name]
        bench.check(mine["state"] == "available", f"beside broken plugins the backend is {mine}")
        for name, (_, state) in BROKEN.items():
            status = found[name]
            bench.check(status["state"] == state, f"a plugin that {name} is {status['state']}, not {state}")
            bench.check(status["reason"], f"a plugin that {name} has no reason")
        opened = here.open(bench.target.spec)
        bench.check(opened[0] == "opened", f"beside broken plugins the backend does not open: {opened}")


def say(here: FakeSitePackages, source: str, name: str) -> tuple[str | None, dict[str, str]]:
    """Name a backend in one source; return the argument and the environment that this takes."""
    if source == "argument":
        return name, {}
    if source == "environment":
        return None, {"FORGE3D_BACKEND": name}
    file = here.folder / "forge3d.toml" if source == "project" else here.user_file
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f'\nbackend = "{name}"\n', "utf-8")
    return None, {}


def unsay(here: FakeSitePackages) -> None:
    for file in (here.folder / "forge3d.toml", here.user_file):
        file.unlink(missing_ok=True)


def explain(here: FakeSitePackages, argument: str | None, variables: dict[str, str]) -> Any:
    return here.forge3d("explain", *(["--backend", argument] if argument else []), **variables)


@pytest.mark.clause("plugin.precedence")
def test_the_stronger_source_wins(bench: Bench) -> None:
    with site(bench) as here:
        here.install("other")
        for stronger, weaker in combinations(SOURCES, 2):
            for winner, loser in (("other", bench.target.name), (bench.target.name, "other")):
                argument, variables = say(here, stronger, winner)
                weak_argument, weak = say(here, weaker, loser)
                said = explain(here, argument or weak_argument, {**weak, **variables})
                unsay(here)
                bench.check(
                    said["opens"] == winner and said["decided_by"]["origin"] == stronger,
                    f"{stronger} says {winner}, {weaker} says {loser}, and {said['opens']} would open, "
                    f"decided by {said['decided_by']['origin']}",
                )
                bench.check(
                    [choice["origin"] for choice in said["overridden"]] == [weaker],
                    f"{weaker} is overridden and explain says {said['overridden']}",
                )
        said = explain(here, None, {})
        bench.check(
            said["decided_by"]["origin"] == "default", f"nobody named a backend: {said['decided_by']}"
        )


@pytest.mark.clause("plugin.no-fallback")
def test_an_explicit_choice_opens_that_or_nothing(bench: Bench) -> None:
    wanted = {"no-such-backend": "UnknownBackend", "raises": "PluginFailed", "deviceless": "NoDevice"}
    with site(bench) as here:
        here.install("other")
        here.install("raises", BROKEN["raises"][0])
        here.install("deviceless", DEVICELESS)
        for source in SOURCES:
            for name, kind in wanted.items():
                argument, variables = say(here, source, name)
                got = here.open(argument, **variables)
                said = explain(here, argument, variables)
                unsay(here)
                bench.check(got[0] == kind, f"{source} says {name}, and open_device gave {got}, not {kind}")
                bench.check(name in got[1], f"the refusal of {name} does not name it: {got[1]}")
                bench.check(said["opens"] is None, f"{source} says {name}, and {said['opens']} would open")
        bench.check(not here.opened("forge3d-other"), "another backend was opened instead")


@pytest.mark.clause("plugin.deny-before-import")
def test_a_plugin_that_is_kept_out_never_runs(bench: Bench) -> None:
    ways = {
        "denied by name": {"FORGE3D_DENY": "marked"},
        "denied by distribution": {"FORGE3D_DENY": "forge3d-marked"},
        "not on the allow list": {"FORGE3D_ALLOW": bench.target.name},
        "not asked for with autoload off": {"FORGE3D_AUTOLOAD": "off"},
    }
    with site(bench) as here:
        here.install("marked")
        for way, variables in ways.items():
            status = here.backends(**variables)["marked"]
            bench.check(status["state"] == "denied", f"a plugin {way} is {status['state']}")
            bench.check(status["fix"], f"a plugin {way} is not told how to be let in")
            if "AUTOLOAD" not in "".join(variables):
                got = here.open("marked", **variables)
                bench.check(got[0] == "BackendDenied", f"a plugin {way} gave {got} when asked for by name")
            bench.check(not here.ran("forge3d-marked"), f"a plugin {way} ran")
        here.backends()
        bench.check(here.ran("forge3d-marked"), "a plugin that nobody keeps out did not run")


@pytest.mark.clause("plugin.no-collision")
def test_two_of_one_name_are_both_reported_and_neither_runs(bench: Bench) -> None:
    for first, second in (("aaa", "zzz"), ("zzz", "aaa")):
        with site(bench) as here:
            here.install("twin", distribution=first)
            here.install("twin", distribution=second)
            status = here.backends()["twin"]
            bench.check(status["state"] == "failed to load", f"two plugins of one name are {status['state']}")
            named = {distribution["name"] for distribution in status["distributions"]}
            bench.check(named == {"aaa", "zzz"}, f"of two distributions of one name these are told: {named}")
            bench.check(
                "aaa" in status["reason"] and "zzz" in status["reason"] and status["fix"],
                f"the reason does not name both, or how to mend it: {status}",
            )
            got = here.open("twin")
            bench.check(got[0] == "PluginFailed", f"one of two plugins of a name was opened: {got}")
            bench.check(not (here.ran("aaa") or here.ran("zzz")), "one of two plugins of a name ran")
    with site(bench) as here:
        here.install(bench.target.name, distribution="impostor")
        told = here.backends()[bench.target.name]
        bench.check("impostor" in json.dumps(told), f"an impostor is not told of: {told}")
        got = here.open(bench.target.name)  # a name that the core ships is not contested at all
        refused = got[0] == "PluginFailed" and "impostor" in got[1]
        bench.check(refused or got[0] == "opened", f"beside an impostor: {got}")
        bench.check(not here.ran("impostor"), "an impostor ran")


@pytest.mark.clause("plugin.explains")
def test_the_explanation_is_what_then_opens(bench: Bench) -> None:
    with site(bench) as here:
        here.install("other")
        for source in SOURCES:
            argument, variables = say(here, source, "other")
            said = explain(here, argument, variables)
            here.forget()
            got = here.open(argument, **variables)
            decided = said["decided_by"]
            bench.check(
                said["opens"] == "other" and got[0] == "opened" and here.opened("forge3d-other"),
                f"{source} says other, explain says {said['opens']}, and open_device gave {got}",
            )
            bench.check(decided["origin"] == source, f"{source} decided and explain says {decided}")
            if source in ("project", "user"):
                file = here.folder / "forge3d.toml" if source == "project" else here.user_file
                bench.check(
                    decided["line"] == 2 and str(decided["path"]).endswith(file.name),
                    f"line 2 of {file.name} decided and explain says {decided}",
                )
            unsay(here)
        here.install("lacks", BROKEN["lacks"][0])
        said = explain(here, None, {})
        states = {candidate["name"]: candidate for candidate in said["candidates"]}
        bench.check(states["lacks"]["state"] == "missing dependency", f"explain says {states['lacks']}")
        bench.check("no_such_gpu_library" in (states["lacks"]["fix"] or ""), f"no fix: {states['lacks']}")
        here.forget()
        got = here.open()
        bench.check(got[0] == "opened", f"explain says that {said['opens']} opens, and it gave {got}")
        if said["device"]:
            bench.check(
                got[1] == said["device"]["name"], f"explain says {said['device']['name']}, open {got[1]}"
            )
