"""Evidence as it may be published."""

from __future__ import annotations

import platform

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forge3d_conformance.report.redact import redact


@pytest.mark.parametrize(
    ("text", "published"),
    [
        ("/home/ada/project/ring.py:218: in test", "…/ring.py:218: in test"),
        ('File "/usr/lib/python3.11/threading.py", line 3', 'File "…/threading.py", line 3'),
        (r"C:\Users\Ada Lovelace\x\ring.py:3", "…/ring.py:3"),
        ("see ~/secret/plan.txt", "see …/plan.txt"),
        ("file:///home/ada/a.py", "…/a.py"),
        ("16.5 GB/s, 3/4, and/or, fence.*", "16.5 GB/s, 3/4, and/or, fence.*"),
        ("https://example.org/a/b.html", "https://example.org/a/b.html"),
        ("\x1b[31mred\x1b[0m\x00\x07", "red"),
        ("a\r\nb\tc", "a\nb\tc"),
        ("\ud800", "\\ud800"),
        ("\x00\x01", "(nothing legible)"),
    ],
)
def test_what_is_left(text: str, published: str) -> None:
    assert redact(text) == published


def test_the_host_name_is_taken_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "node", lambda: "adas-laptop")
    assert redact("connect to adas-laptop failed") == "connect to host failed"
    monkeypatch.setattr(platform, "node", lambda: "localhost")
    assert redact("localhost") == "localhost"


@given(st.text(min_size=1))
def test_redacting_twice_changes_nothing_more(text: str) -> None:
    once = redact(text)
    assert once
    assert redact(once) == once
    once.encode("utf-8")
