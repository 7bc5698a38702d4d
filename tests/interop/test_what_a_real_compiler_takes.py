"""Who puts a script into a store is warned of it just when a real Cyrus cannot compile it."""

from __future__ import annotations

import pytest

from cyrus_sync.common.sieve_dialect import EXTENSIONS, why_not_compiled

from .cyrus import Cyrus
from .sieve_table import BAD, GOOD

NOT_THERE = (
    "extlists",
    "spamtest",
    "virustest",
    "mime",
    "foreverypart",
    "imapsieve",
    "convert",
    "processcalendar",
)
"""Extensions of RFCs, or of later releases."""


def compiles(cyrus: Cyrus, script: str) -> bool:
    source = cyrus.root / "script"
    source.write_text(script, "utf-8", newline="")
    source.chmod(0o644)
    compiled = cyrus.root / "spool" / "compiled"
    ran = cyrus.tool("sievec", str(source), str(compiled))
    assert ran.status == 0 or "line" in ran.err, ran.describe()
    return ran.status == 0


@pytest.mark.parametrize("script", GOOD)
def test_what_it_compiles_is_not_warned_of(replica: Cyrus, script: str) -> None:
    assert compiles(replica, script)
    assert why_not_compiled(script.encode()) == ""


@pytest.mark.parametrize("script", BAD)
def test_what_it_does_not_compile_is_warned_of(replica: Cyrus, script: str) -> None:
    assert not compiles(replica, script)
    assert why_not_compiled(script.encode()).startswith("line 1: ")


@pytest.mark.parametrize("extension", [*sorted(EXTENSIONS), *NOT_THERE])
def test_we_know_its_extensions(replica: Cyrus, extension: str) -> None:
    script = f'require "{extension}"; keep;'
    assert compiles(replica, script) == (why_not_compiled(script.encode()) == "")
