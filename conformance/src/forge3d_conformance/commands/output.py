"""Where results go: standard output, for people or for machines."""

from __future__ import annotations

import json
import sys
from typing import Any

from rich.console import Console


def console() -> Console:
    return Console(highlight=False)


def complain(message: str) -> None:
    """Write an error to standard error as it stands, unwrapped."""
    Console(stderr=True, highlight=False, markup=False, soft_wrap=True).print(message)


def write_json(data: Any) -> None:
    """Write ``data`` as indented JSON, never wrapped or coloured."""
    sys.stdout.write(json.dumps(data, indent=2, ensure_ascii=False) + "\n")
