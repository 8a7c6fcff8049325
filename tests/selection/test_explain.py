"""``forge3d explain``: which backend, and which line said so."""

from __future__ import annotations

import json


def test_the_line_that_decides_and_the_lines_it_overrides(site):
    site.install("one")
    site.install("two")
    (site.folder / "forge3d.toml").write_text('# ours\nbackend = "one:0"\nbudget = "1 MiB"\n', "utf-8")
    user = site.folder / "config" / "forge3d"
    user.mkdir(parents=True)
    (user / "config.toml").write_text('backend = "two"\n', "utf-8")
    done = site.cli("explain", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["opens"] == "one:0"
    assert told["device"]["name"] == "tiny 0"
    assert told["decided_by"]["path"] == str(site.folder / "forge3d.toml")
    assert (told["decided_by"]["line"], told["decided_by"]["text"]) == (2, 'backend = "one:0"')
    assert [(o["origin"], o["value"]) for o in told["overridden"]] == [("user", "two")]
    assert (told["budget"]["value"], told["budget"]["line"]) == (1024**2, 3)
    assert "two" in told["not_asked"]
    assert not site.ran("two")

    shown = site.cli("explain", "--backend", "two:x")
    assert shown.returncode == 0, shown.stderr
    text = " ".join(shown.stdout.split())
    assert "two:x would open, if two resolves the selector 'x'" in text
    assert "decided by argument backend='two:x'" in text
    assert "one:0" in text
    assert all(line == line.rstrip() for line in shown.stdout.splitlines())


def test_automatic_choice_shows_what_it_passed_over(site):
    site.install("gpu")
    site.install("half", "raise RuntimeError('[bold]half[/] done')")
    done = site.cli("explain")
    assert done.returncode == 0, done.stderr
    text = " ".join(done.stdout.split())
    assert text.startswith("gpu:0 would open: tiny 0, simulator")
    assert "nothing names a backend, so the highest score" in text
    assert "half failed to load forge3d-half 1.0" in text
    assert "RuntimeError: [bold]half[/] done" in text
    assert "environment FORGE3D_DENY=wgpu,cuda" in text


def test_nothing_opens_is_exit_1(site):
    done = site.cli("explain", "-b", "nowhere", "--json")
    assert done.returncode == 1
    told = json.loads(done.stdout)
    assert told["opens"] is None
    assert told["error"]["type"] == "UnknownBackend"


def test_a_bad_name_is_exit_2(site):
    done = site.cli("explain", "-b", "host?seed=1")
    assert done.returncode == 2
    assert "did you mean 'host:?seed=1'?" in done.stderr
    assert "Traceback" not in done.stderr
