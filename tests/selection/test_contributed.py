"""Commands of other distributions: run when asked for, and alone in their failures."""

from __future__ import annotations

COMMANDS = """
import typer, sys
from forge3d_core.errors import UsageError

app = typer.Typer(add_completion=False)

@app.command()
def greet(name: str, loud: bool = False) -> None:
    "Greet somebody."
    print(name.upper() if loud else name)

def refuse(why: str = "no") -> None:
    raise UsageError(why)

number = 42
"""
ENTRY_POINTS = """
[forge3d.commands]
greet = {module}:app
refuse = {module}:refuse
number = {module}:number
absent = {module}.absent:app
gone = no_such_module:app
backends = {module}:app
"""


def commands(site):
    site.install("commands", COMMANDS, entry_points=ENTRY_POINTS)


def test_a_command_gets_its_arguments_and_its_help(site):
    commands(site)
    done = site.cli("greet", "world", "--loud")
    assert (done.returncode, done.stdout) == (0, "WORLD\n"), done.stderr
    usage = site.cli("greet", "--help")
    assert "Usage: forge3d greet" in usage.stdout
    assert "Greet somebody." in usage.stdout
    assert site.cli("greet").returncode == 2


def test_help_lists_them_and_imports_none(site):
    commands(site)
    done = site.cli("--help")
    assert done.returncode == 0
    assert "From forge3d-commands 1.0." in done.stdout
    assert not site.ran("commands")


def test_a_broken_one_costs_only_itself(site):
    commands(site)
    for name, reason in (
        ("absent", "raised ModuleNotFoundError"),
        ("gone", "raised ModuleNotFoundError"),
        ("number", "42, no typer.Typer, click command or function"),
    ):
        done = site.cli(name)
        assert done.returncode == 2
        assert done.stderr.startswith("forge3d: ")
        assert reason in done.stderr
        assert "Traceback" not in done.stderr
    assert site.cli("greet", "you").stdout == "you\n"


def test_its_forge3d_errors_are_told_as_ours_are(site):
    commands(site)
    done = site.cli("refuse", "--why", "not today")
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "forge3d: not today\n")


def test_none_replaces_a_command_of_ours(site):
    commands(site)
    assert "every known backend" in " ".join(site.cli("backends", "--help").stdout.split())


def test_two_of_one_name_run_neither(site):
    for distribution in ("twin-one", "twin-two"):
        site.install(
            "twin",
            COMMANDS,
            distribution=distribution,
            entry_points="[forge3d.commands]\ntwin = {module}:app\n",
        )
    done = site.cli("twin", "x")
    assert done.returncode == 2
    assert "twin-one 1.0 and twin-two 1.0 both offer the command 'twin'" in done.stderr
    assert not site.ran("twin")
