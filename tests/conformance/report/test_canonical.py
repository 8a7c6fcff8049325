"""One report, one sequence of bytes; any other bytes are no report."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forge3d_conformance.catalogue import Catalogue
from forge3d_conformance.errors import ReportError
from forge3d_conformance.report import ClauseResult, PerfResult, Report, State, dump, parse
from forge3d_conformance.report.canonical import canonical, digest

TEXT = st.text(st.characters(codec="utf-8"), min_size=1)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)


@given(VALUES)
def test_canonical_json_survives_a_round_trip(value: Any) -> None:
    data = canonical(value)
    assert canonical(json.loads(data)) == data


@given(st.dictionaries(TEXT, VALUES, max_size=6), st.randoms())
def test_the_order_of_keys_does_not_matter(document: dict[str, Any], random: Any) -> None:
    shuffled = list(document.items())
    random.shuffle(shuffled)
    assert digest(dict(shuffled)) == digest(document)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, "\ud800", {1, 2}])
def test_what_json_cannot_say_is_refused(value: object) -> None:
    with pytest.raises(ReportError, match="finite numbers and valid text"):
        canonical({"value": value})


@given(data=st.data())
def test_a_report_survives_a_round_trip(
    catalogue: Catalogue,
    run: Callable[..., Report],
    result: Callable[..., ClauseResult],
    speed: Callable[..., PerfResult],
    data: st.DataObject,
) -> None:
    active = st.sampled_from(catalogue.select(status="active", level="core"))
    chosen = data.draw(st.lists(active, unique_by=lambda c: c.id, max_size=5))
    results = {}
    for clause in chosen:
        state = data.draw(st.sampled_from([s for s in State if s is not State.PLANNED]))
        texts = {name: data.draw(TEXT) for name in ("message", "reason", "key", "repro")}
        results[clause.id] = result(clause, state, **texts)
    seconds = st.floats(1e-9, 1e6)
    measured = speed(ours_seconds=data.draw(seconds), raw_seconds=data.draw(seconds))
    report = run(results=results, performance=(measured,))
    written = dump(report)
    assert parse(written) == report
    assert dump(parse(written)) == written


@given(data=st.data())
def test_any_changed_byte_is_noticed(run: Callable[..., Report], data: st.DataObject) -> None:
    written = dump(run())
    position = data.draw(st.integers(0, len(written) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda b: b != written[position]))
    with pytest.raises(ReportError):
        parse(written[:position] + bytes([byte]) + written[position + 1 :])


@given(data=st.data())
def test_any_missing_or_additional_stretch_is_noticed(
    run: Callable[..., Report], data: st.DataObject
) -> None:
    written = dump(run())
    start = data.draw(st.integers(0, len(written)))
    end = data.draw(st.integers(start, len(written)))
    extra = data.draw(st.binary(max_size=8))
    changed = written[:start] + extra + written[end:]
    if changed != written:
        with pytest.raises(ReportError):
            parse(changed)


def _rewritten(report: Report, change: Callable[[dict[str, Any]], object]) -> bytes:
    """A careful forger's report: changed, and with a digest that matches the change."""
    document = json.loads(dump(report))
    change(document)
    document["digest"] = digest(document)
    return canonical(document)


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.update(schema="forge3d-conformance-report/4"),
        lambda d: d.update(schema="forge3d-conformance-report/2"),
        lambda d: d.update(jobs=0),
        lambda d: d.update(capabilities=None),
        lambda d: d.pop("suite_digest"),
        lambda d: d["clauses"][0].pop("retries"),
        lambda d: d.update(extra=1),
        lambda d: d.pop("seed"),
        lambda d: d.update(seed="7"),
        lambda d: d.update(seed=7.0),
        lambda d: d.update(seed=True),
        lambda d: d.update(verdict="fine"),
        lambda d: d.update(clauses=None),
        lambda d: d["clauses"][0].update(tests=[]),
        lambda d: d["clauses"][0].update(tests="test_it"),
        lambda d: d["clauses"][0].update(seconds=0),
        lambda d: d["clauses"][0].update(state="passed"),
        lambda d: d["clauses"][0].update(state="fail"),
        lambda d: d["platform"].update(hostname="mine"),
        lambda d: d["backend"].update(name=None),
    ],
)
def test_wrong_shapes_are_refused_whatever_the_digest(
    run: Callable[..., Report], change: Callable[[dict[str, Any]], object]
) -> None:
    with pytest.raises(ReportError):
        parse(_rewritten(run(), change))


def test_a_digest_of_other_content_is_refused(run: Callable[..., Report]) -> None:
    document = json.loads(dump(run()))
    document["seed"] = 8
    with pytest.raises(ReportError, match="digest does not match"):
        parse(canonical(document))


def test_only_the_canonical_form_is_accepted(run: Callable[..., Report]) -> None:
    written = dump(run())
    document = json.loads(written)
    compact = json.dumps(document, sort_keys=True).encode()
    doubled = written.replace(b'"seed": 7,', b'"seed": 7,\n "seed": 7,')
    for data, why in ((compact, "canonical form"), (doubled, "stands twice"), (written + b" ", "canonical")):
        assert data != written
        with pytest.raises(ReportError, match=why):
            parse(data)


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b"null", b"\xff", b"[" * 100_000, b'{"schema": NaN}'])
def test_what_is_no_report_is_refused(data: bytes) -> None:
    with pytest.raises(ReportError):
        parse(data)


def test_the_digest_covers_every_field(run: Callable[..., Report]) -> None:
    report = run()
    document = json.loads(dump(report))
    whole = digest(document)
    for field in attrs.fields(Report):
        assert digest({**document, field.name: "another"}) != whole, field.name
