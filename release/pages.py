"""Manual pages in roff, from those in Markdown, by pandoc."""

from __future__ import annotations

import re
from pathlib import Path

import pypandoc

_TABLE = re.compile(r"(?:^\|.*\|\n)+", re.MULTILINE)
_CELL = re.compile(r"(?<!\\)\|")


def documents(root: Path) -> dict[Path, str]:
    """``man/man8/sync_client.8`` and the others."""
    return {
        Path(f"man/man{page.stem[-1]}") / page.stem: roff(page.read_text(encoding="utf-8"))
        for page in sorted((root / "docs/man").glob("*.md"))
    }


def roff(markdown: str) -> str:
    """A page of ``docs/man`` as man(1) reads it."""
    return str(
        pypandoc.convert_text(
            _TABLE.sub(lambda table: _listed(table[0]), markdown),
            to="man",
            format="markdown-smart",
            extra_args=["--standalone", "--shift-heading-level-by=-1", "--metadata=footer:cyrus-sync"],
        )
    )


def _listed(table: str) -> str:
    """A table as a list of definitions, its first column being defined: a terminal is narrow."""
    head, _, *rows = ([cell.strip() for cell in _CELL.split(line)[1:-1]] for line in table.splitlines())
    entries = []
    for first, *others in rows:
        said = [
            text if number == 0 else f"{title[0].upper()}{title[1:]}: {text}"
            for number, (title, text) in enumerate(zip(head[1:], others, strict=True))
            if text
        ]
        entries.append(f"{first}\n:   " + "\n\n    ".join(said) + "\n")
    return "\n".join(entries)
