"""Configuration: who wins, which line said so, and what a wrong source says."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forge3d_core.config import configuration
from forge3d_core.errors import ConfigError, UsageError
from forge3d_core.plugins import BackendSpec, Candidate, Policy
from forge3d_core.units import MIB

ORIGINS = ("argument", "environment", "project", "user")


def gather(folder, *, environ=None, **arguments):
    return configuration(
        directory=folder, environ=environ or {}, user_file=folder / "user" / "config.toml", **arguments
    )


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


@given(st.dictionaries(st.sampled_from(ORIGINS), st.sampled_from(["wgpu", "cuda:1", "host"])))
def test_the_first_source_with_a_say_wins(tmp_path_factory, says):
    folder = tmp_path_factory.mktemp("here")
    for origin, name in (("project", "forge3d.toml"), ("user", "user/config.toml")):
        if origin in says:
            write(folder / name, f'backend = "{says[origin]}"\n')
    environ = {"FORGE3D_BACKEND": says["environment"]} if "environment" in says else {}
    choices = gather(folder, environ=environ, backend=says.get("argument")).choices("backend")
    expected = [(origin, says[origin]) for origin in ORIGINS if origin in says]
    assert [(c.source.origin, str(c.value)) for c in choices] == expected


def test_without_a_word_the_default_holds(tmp_path):
    choice = gather(tmp_path).get("budget", 7)
    assert (choice.value, choice.source.origin) == (7, "default")


def test_all_keys_of_a_file(tmp_path):
    write(
        tmp_path / "forge3d.toml",
        'backend = "WGPU:llvmpipe"\nbudget = "64 MiB"\ndrain_timeout = 3\ntuning = "fixed"\n'
        '\n[plugins]\nallow = ["wgpu"]\n'
        'deny = ["cuda"]\nautoload = false\nimport_timeout = 1.5\nprobe_timeout = 2\n',
    )
    settings = gather(tmp_path).layers[-1].settings
    assert settings.backend == BackendSpec("wgpu", "llvmpipe")
    assert settings.budget == 64 * MIB
    assert settings.drain_timeout == 3.0
    assert settings.tuning == "fixed"
    assert settings.plugins.policy == Policy(allow=["wgpu"], deny=["cuda"], autoload=False)
    assert (settings.plugins.import_timeout, settings.plugins.probe_timeout) == (1.5, 2.0)


def test_all_variables():
    settings = (
        configuration(
            environ={
                "FORGE3D_BACKEND": "cuda:1",
                "FORGE3D_BUDGET": "1 GiB",
                "FORGE3D_DRAIN_TIMEOUT": "0",
                "FORGE3D_TUNING": "measured",
                "FORGE3D_ALLOW": "cuda, host,",
                "FORGE3D_DENY": "wgpu",
                "FORGE3D_AUTOLOAD": "0",
                "FORGE3D_PROBE_TIMEOUT": "2.5",
                "FORGE3D_IMPORT_TIMEOUT": " ",
            }
        )
        .layers[1]
        .settings
    )
    assert settings.backend == BackendSpec("cuda", "1")
    assert (settings.budget, settings.drain_timeout, settings.tuning) == (1024 * MIB, 0.0, "measured")
    assert settings.plugins.policy == Policy(allow=["cuda", "host"], deny=["wgpu"], autoload=False)
    assert (settings.plugins.probe_timeout, settings.plugins.import_timeout) == (2.5, None)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('backend = "host"', 1),
        ('# backend = "cuda"\n\n  backend="host"  # why', 3),
        ('"backend" = "host"', 1),
        ("[plugins]\ndeny = []\n# [tool]\n", None),
    ],
)
def test_a_value_remembers_its_line(tmp_path, text, line):
    path = write(tmp_path / "forge3d.toml", text)
    choices = gather(tmp_path).choices("backend")
    assert [c.source.line for c in choices] == ([line] if line else [])
    if line:
        assert choices[0].source.path == path
        assert choices[0].source.text == text.splitlines()[line - 1].strip()
        assert str(choices[0].source) == f"{path}:{line}: {choices[0].source.text}"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('[plugins]\ndeny = ["x"]', 2),
        ('budget = 1\nplugins.deny = ["x"]', 2),
        ('plugins = { deny = ["x"] }', 1),
        ('[ plugins ]\n"deny" = [\n "x",\n]', 2),
    ],
)
def test_a_nested_value_remembers_its_line(tmp_path, text, line):
    write(tmp_path / "forge3d.toml", text)
    (choice,) = gather(tmp_path).choices("plugins.deny")
    assert (choice.value, choice.source.line) == (("x",), line)


def test_the_nearest_project_file_counts_alone(tmp_path):
    write(tmp_path / "forge3d.toml", 'backend = "far"\nbudget = 1\n')
    write(tmp_path / "a" / "pyproject.toml", '[project]\nname = "x"\n[tool.forge3d]\nbackend = "near"\n')
    write(tmp_path / "a" / "b" / "pyproject.toml", '[tool.other]\nx = "forge3d"\n')
    (tmp_path / "a" / "b" / "c").mkdir()
    found = gather(tmp_path / "a" / "b" / "c")
    assert [str(c.source) for c in found.choices("backend")] == [
        f'{tmp_path / "a" / "pyproject.toml"}:4: backend = "near"'
    ]
    assert found.choices("budget") == ()


def test_forge3d_toml_wins_over_pyproject_beside_it(tmp_path):
    write(tmp_path / "pyproject.toml", '[tool.forge3d]\nbackend = "other"\n')
    write(tmp_path / "forge3d.toml", 'backend = "this"\n')
    assert [str(c.value) for c in gather(tmp_path).choices("backend")] == ["this"]


def test_a_broken_pyproject_of_somebody_else_is_not_ours_to_judge(tmp_path):
    write(tmp_path / "pyproject.toml", "[tool.black\n")
    assert gather(tmp_path).choices("backend") == ()


def test_a_byte_order_mark_is_no_key(tmp_path):
    write(tmp_path / "forge3d.toml", '\ufeffbackend = "host"\n')
    assert gather(tmp_path).get("backend").source.line == 1


def test_restrictions_of_all_sources_add_up(tmp_path):
    write(tmp_path / "forge3d.toml", '[plugins]\nallow = ["a", "b"]\nautoload = true\n')
    write(
        tmp_path / "user" / "config.toml", '[plugins]\nallow = ["b", "c"]\ndeny = ["x"]\nautoload = false\n'
    )
    policy = gather(tmp_path, environ={"FORGE3D_DENY": "y"}).policy
    lets = {
        name: policy.refusal(Candidate(name, f"forge3d-{name}", "1", f"{name}:x"), requested=False) is None
        for name in "abcxy"
    }
    assert lets == {"a": False, "b": True, "c": False, "x": False, "y": False}


def test_a_file_cannot_permit_what_another_source_forbids(tmp_path):
    write(tmp_path / "forge3d.toml", '[plugins]\nallow = ["evil", "host"]\nautoload = true\n')
    evil = Candidate("evil", "evil", "1", "evil:x")
    for environ in ({"FORGE3D_AUTOLOAD": "off"}, {"FORGE3D_ALLOW": "host"}, {"FORGE3D_DENY": "evil"}):
        assert gather(tmp_path, environ=environ).policy.refusal(evil, requested=False)
    write(tmp_path / "user" / "config.toml", "[plugins]\nautoload = false\n")
    assert gather(tmp_path).policy.refusal(evil, requested=False)
    assert gather(tmp_path).policy.refusal(evil, requested=True) is None  # a person named it


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bugdet = 1", "forge3d.toml:1: unknown key 'bugdet'; did you mean 'budget'?"),
        (
            "\nzzz = 1",
            "forge3d.toml:2: unknown key 'zzz'; valid keys: backend, budget, drain_timeout, tuning, plugins",
        ),
        ("[plugins]\ndenny = []", "forge3d.toml:2: unknown key 'plugins.denny'; did you mean 'deny'?"),
        ("[plugin]\ndeny = []", "forge3d.toml:1: unknown key 'plugin'; did you mean 'plugins'?"),
        ('budget = "lots"', "forge3d.toml:1: budget: 'lots' is not a size"),
        ("budget = -1", "forge3d.toml:1: budget: a size is a number of bytes from 0 up, not -1"),
        ("budget = 1.5", "forge3d.toml:1: budget: a size is an int or text"),
        ("backend = 3", "forge3d.toml:1: backend: a backend is named by text"),
        ('backend = ""', "forge3d.toml:1: backend: '' does not name a backend"),
        ('backend = "host?seed=1"', "did you mean 'host:?seed=1'?"),
        ('tuning = "fast"', "tuning: tuning is 'measured' or 'fixed', not 'fast'"),
        ("tuning = 1", "tuning: tuning is 'measured' or 'fixed', not 1"),
        ('drain_timeout = "soon"', "drain_timeout: a time is a number of seconds"),
        ("drain_timeout = -1", "drain_timeout: a time is a number of seconds from 0 to"),
        ("drain_timeout = inf", "drain_timeout: a time is a number"),
        ("drain_timeout = true", "drain_timeout: a time is a number"),
        ("plugins = 3", "forge3d.toml:1: plugins: it is a table of keys, not 3"),
        ('[plugins]\nautoload = "no"', "plugins.autoload: write true or false, not 'no'"),
        ('[plugins]\n\ndeny = "cuda"', "forge3d.toml:3: plugins.deny: a list of names"),
        ("[plugins]\nallow = [1]", "plugins.allow: a list of names"),
        ("backend = \n", "forge3d.toml: not valid TOML: Invalid value (at line 1, column"),
    ],
)
def test_a_wrong_file_is_told_by_file_line_and_key(tmp_path, text, message):
    write(tmp_path / "forge3d.toml", text)
    with pytest.raises(ConfigError) as error:
        gather(tmp_path)
    assert message in str(error.value)
    assert str(tmp_path) in str(error.value)
    assert isinstance(error.value, ValueError)


def test_a_wrong_table_in_pyproject_is_told_too(tmp_path):
    write(tmp_path / "pyproject.toml", "[tool.forge3d]\nbakend = 1\n")
    with pytest.raises(ConfigError, match=r"pyproject\.toml:2: unknown key 'bakend'; did you mean 'backend'"):
        gather(tmp_path)
    write(tmp_path / "pyproject.toml", "[tool]\nforge3d = 1\n")
    with pytest.raises(ConfigError, match=r"pyproject\.toml:2.*is a table of keys, not 1"):
        gather(tmp_path)


@pytest.mark.parametrize("where", ["forge3d.toml", "user/config.toml"])
def test_a_file_that_is_not_utf8_says_so(tmp_path, where):
    write(tmp_path / where, "").write_bytes(b'backend = "\xff"')
    with pytest.raises(ConfigError, match="byte 11 is not UTF-8"):
        gather(tmp_path)


def test_a_file_that_cannot_be_read_says_so(tmp_path):
    (tmp_path / "forge3d.toml").symlink_to("forge3d.toml")
    with pytest.raises(ConfigError, match=r"forge3d\.toml: cannot be read: Too many levels"):
        gather(tmp_path)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("FORGE3D_BACKEND", "::"),
        ("FORGE3D_BUDGET", "much"),
        ("FORGE3D_AUTOLOAD", "perhaps"),
        ("FORGE3D_DRAIN_TIMEOUT", "long"),
    ],
)
def test_a_wrong_variable_is_named(tmp_path, variable, value):
    with pytest.raises(ConfigError, match=variable):
        gather(tmp_path, environ={variable: value})


def test_a_wrong_argument_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="'lots' is not a size"):
        gather(tmp_path, budget="lots")


@pytest.mark.skipif(
    sys.platform != "linux", reason="the folder is the platform's; this is where Linux has it"
)
def test_the_users_file_lies_in_the_platforms_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    write(tmp_path / "forge3d" / "config.toml", 'backend = "mine"\n')
    (tmp_path / "work").mkdir()
    choice = configuration(directory=tmp_path / "work", environ={}).get("backend")
    assert (str(choice.value), choice.source.origin) == ("mine", "user")
