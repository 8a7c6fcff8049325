"""Cores that trust too much: a file that undoes what was forbidden, code that runs before it is judged."""

from __future__ import annotations

from forge3d_conformance.mutants.plugin import Tampered
from forge3d_conformance.mutants.registry import mutant


@mutant(
    "plugin.file-overrules",
    breaks="plugin.each-source-permits",
    because="autoload off in the environment, and a project file let the plugin run",
)
class FileOverrules(Tampered):
    """Where a project file has an allow list, what the environment forbids counts no more."""

    program = """
import os, pathlib
file = pathlib.Path("forge3d.toml")
if file.exists() and "allow" in file.read_text():
    for name in ("FORGE3D_AUTOLOAD", "FORGE3D_DENY", "FORGE3D_ALLOW"):
        os.environ.pop(name, None)
"""


@mutant(
    "plugin.commands-unjudged",
    breaks="plugin.commands-denied",
    because="marked is denied, and `forge3d marked-tool` ran its code",
)
class CommandsUnjudged(Tampered):
    """Commands are imported when the command line begins, whoever brings them."""

    program = """
from importlib.metadata import entry_points
for point in entry_points(group="forge3d.commands"):
    if point.name == "marked-tool":
        point.load()
"""


@mutant("plugin.probes-at-home", breaks="plugin.crash-isolated", because="--json wrote no JSON")
class ProbesAtHome(Tampered):
    """Plugins that were not asked for are imported by the program itself."""

    program = """
from importlib.metadata import entry_points
for point in entry_points(group="forge3d.backends"):
    try:
        point.load()
    except BaseException:
        pass
"""


@mutant("plugin.name-taken", breaks="plugin.own-names", because="offers a name of the core's ran")
class NameTaken(Tampered):
    """Of two that offer one name the stranger is loaded."""

    program = """
from importlib.metadata import EntryPoint, entry_points
load = EntryPoint.load

def the_other(self):
    for other in entry_points(group=self.group):
        if other.name == self.name and other.value != self.value:
            return load(other)
    return load(self)

EntryPoint.load = the_other
"""
