"""docs/security.md names tests that are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TABLE = (ROOT / "docs/security.md").read_text(encoding="utf-8")


def named() -> list[tuple[str, str]]:
    """File and function of each test that the tables name; "" for the function where a file is meant."""
    found: list[tuple[str, str]] = []
    file = ""
    for path, function in re.findall(r"`(tests/[\w/.]+|…)(?:::(\w+))?`", TABLE):
        file = file if path == "…" else path
        found.append((file, function))
    return found


def test_each_promise_has_its_test() -> None:
    rows = [row for row in TABLE.splitlines() if row.startswith("| ") and not row.startswith("| promise")]
    assert len(rows) > 30 and all("`tests/" in row or "`…::" in row for row in rows)


@pytest.mark.parametrize(("path", "function"), named())
def test_a_test_that_is_named_is_there(path: str, function: str) -> None:
    text = (ROOT / path).read_text(encoding="utf-8")
    assert re.search(rf"^def {function}\(", text, re.MULTILINE) if function else "def test_" in text
