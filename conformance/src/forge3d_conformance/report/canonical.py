"""One report, one sequence of bytes: canonical JSON with a digest.

Keys sorted, UTF-8, one indentation, no NaN, a newline at the end. The digest is the SHA-256 of these
bytes without the digest's own field. It shows damage and careless editing; it is not a signature, and
whoever edits a report can also compute it. What a forger cannot change without being noticed is what
follows from the catalogue and from the results: see :mod:`forge3d_conformance.verify`.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, NoReturn

import cattrs

from forge3d_conformance.errors import ReportError
from forge3d_conformance.report.report import SCHEMA, Report

_converter = cattrs.Converter(forbid_extra_keys=True)


def canonical(document: Any) -> bytes:
    """Return the one form in which ``document`` is written; raises :class:`ReportError` for NaN."""
    try:
        text = json.dumps(document, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False)
        return text.encode("utf-8") + b"\n"
    except (ValueError, TypeError, RecursionError) as error:
        raise ReportError(f"a report holds finite numbers and valid text only: {error}") from error


def digest(document: dict[str, Any]) -> str:
    """Return the digest of a document, whether or not it carries one."""
    body = {key: value for key, value in document.items() if key != "digest"}
    return "sha256:" + hashlib.sha256(canonical(body)).hexdigest()


def digest_of(report: Report) -> str:
    return digest(_document(report))


def dump(report: Report) -> bytes:
    """Return a report as canonical JSON with its digest."""
    document = _document(report)
    return canonical({**document, "digest": digest(document)})


def _document(report: Report) -> dict[str, Any]:
    document: dict[str, Any] = _converter.unstructure(report)
    return document


def parse(data: bytes) -> Report:
    """Return the report that ``data`` is.

    Raises :class:`ReportError` for anything else: not JSON, another schema, a wrong digest, a missing
    or strange field, or any form but the canonical one.
    """
    document = _decode(data)
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        found = document.get("schema") if isinstance(document, dict) else type(document).__name__
        raise ReportError(f"not a report of schema {SCHEMA} (found {found!r})")
    claimed, actual = document.pop("digest", None), digest(document)
    if claimed != actual:
        raise ReportError(f"the digest does not match: the report says {claimed}, its content gives {actual}")
    try:
        report = _converter.structure(document, Report)
    except Exception as error:
        raise ReportError(f"not a valid report: {'; '.join(cattrs.transform_error(error))}") from error
    if dump(report) != data:
        raise ReportError("not in canonical form: the file was reformatted, or a value has the wrong type")
    return report


def _decode(data: bytes) -> Any:
    try:
        return json.loads(data.decode("utf-8"), parse_constant=_no_constant, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise ReportError(f"not canonical JSON: {error}") from error


def _no_constant(name: str) -> NoReturn:
    raise ReportError(f"a report holds no {name}")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise ReportError("a key stands twice in one object")
    return document
