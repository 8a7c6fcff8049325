"""Plugins that are not trusted: what is forbidden stays out, and what breaks breaks alone."""

from __future__ import annotations

import json

import pytest

from forge3d_conformance.bench import Bench
from forge3d_conformance.clauses.site import CLONE, FakeSitePackages, site

PERMITTING = """
[plugins]
allow = ["marked", "forge3d-marked", {target}]
autoload = true
"""


@pytest.mark.clause("plugin.each-source-permits")
def test_no_source_permits_what_another_forbids(bench: Bench) -> None:
    target = bench.target.name
    forbidding = {
        "autoload off in the environment": {"FORGE3D_AUTOLOAD": "off"},
        "a deny list in the environment": {"FORGE3D_DENY": "marked"},
        "an allow list in the environment": {"FORGE3D_ALLOW": target},
    }
    users = {
        "autoload off in the user's file": "[plugins]\nautoload = false\n",
        "a deny list in the user's file": '[plugins]\ndeny = ["forge3d-marked"]\n',
        "an allow list in the user's file": f'[plugins]\nallow = ["{target}"]\n',
    }
    with site(bench) as here:
        here.install("marked")
        (here.folder / "forge3d.toml").write_text(PERMITTING.format(target=json.dumps(target)), "utf-8")
        here.user_file.parent.mkdir(parents=True, exist_ok=True)
        for way, variables in forbidding.items():
            _stays_out(bench, here, way, variables)
        for way, text in users.items():
            here.user_file.write_text(text, "utf-8")
            _stays_out(bench, here, way, {})
        here.user_file.unlink()
        here.backends()
        bench.check(here.ran("forge3d-marked"), "a plugin that every source permits did not run")


def _stays_out(bench: Bench, here: FakeSitePackages, way: str, variables: dict[str, str]) -> None:
    status = here.backends(**variables)["marked"]
    here.program("attempt()", **variables)
    bench.check(not here.ran("forge3d-marked"), f"{way}, and a project file let the plugin run")
    bench.check(status["state"] == "denied", f"{way}, and a plugin that a file permits is {status['state']}")


COMMAND = CLONE + "\ndef command():\n    print('it ran')\n"


@pytest.mark.clause("plugin.commands-denied")
def test_a_denied_distribution_runs_by_no_command(bench: Bench) -> None:
    with site(bench) as here:
        here.install("marked", COMMAND, command="marked-tool")
        for listed in ("marked", "forge3d-marked"):
            for arguments in (("marked-tool",), ("marked-tool", "--help"), ("--help",), ("explain",)):
                ended = here.run("-m", "forge3d_core", *arguments, FORGE3D_DENY=listed)
                bench.check(
                    not here.ran("forge3d-marked"),
                    f"{listed} is denied, and `forge3d {' '.join(arguments)}` ran its code",
                )
            ended = here.run("-m", "forge3d_core", "marked-tool", FORGE3D_DENY=listed)
            bench.check(
                ended.status not in (0, None) and "deny list" in ended.stderr,
                f"{listed} is denied, and its command: {ended}",
            )
        ended = here.run("-m", "forge3d_core", "marked-tool")
        bench.check("it ran" in ended.stdout, f"a command that nobody keeps out: {ended}")


HARMFUL = {
    "ends": "import os\nos._exit(0)",
    "kills": "import os\nos.kill(os.getpid(), 9)",
    "aborts": "import os\nos.abort()",
    "spins": "while True:\n    pass",
}
MEDDLING = """
import os, signal, sys
os.chdir("/")
sys.path[:] = []
os.close(1)
sys.stdout = None
try:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
except ValueError:
    pass
raise ImportError("and that was all")
"""
UNCHANGED = (
    "(lambda before: [attempt(), before == (os.getcwd(), list(sys.path), signal.getsignal(signal.SIGINT))])"
    "((os.getcwd(), list(sys.path), signal.getsignal(signal.SIGINT)))"
)


@pytest.mark.clause("plugin.crash-isolated")
def test_a_plugin_that_harms_its_process_harms_no_other(bench: Bench) -> None:
    bounds = {"FORGE3D_IMPORT_TIMEOUT": "5"}
    with site(bench) as here:
        for name, code in HARMFUL.items():
            here.install(name, code)
        here.install("meddles", MEDDLING)
        found = here.backends(**bounds)
        mine = found[bench.target.name]
        bench.check(mine["state"] == "available", f"beside plugins that harm their process it is {mine}")
        for name in (*HARMFUL, "meddles"):
            status = found[name]
            bench.check(
                status["state"] == "failed to load" and status["reason"],
                f"a plugin that {name} is {status['state']}: {status['reason']}",
            )
        got, unchanged = here.program(UNCHANGED, **bounds)
        bench.check(got[0] == "opened", f"automatic choice beside plugins that harm their process: {got}")
        bench.check(unchanged, "a plugin that was only probed changed the program's path, folder or signals")
        got = here.open(bench.target.spec)
        bench.check(got[0] == "opened", f"beside plugins that harm their process it does not open: {got}")


@pytest.mark.clause("plugin.own-names")
def test_a_name_of_the_core_cannot_be_taken(bench: Bench) -> None:
    with site(bench) as here:
        here.install("host", "raise ImportError('no host for anybody')", "impostor", command="backends")
        told = here.backends()["host"]
        bench.check(not here.ran("impostor"), "a distribution that offers a name of the core's ran")
        bench.check(told["state"] == "available", f"beside one that offers its name, host is {told}")
        bench.check("impostor" in json.dumps(told), f"nothing is said of who else offers the name: {told}")
        got = here.open("host")
        bench.check(got[0] == "opened", f"beside one that offers its name, host does not open: {got}")
        bench.check(not here.ran("impostor"), "opening host ran another distribution's code")
