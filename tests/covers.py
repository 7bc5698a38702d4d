"""docs/coverage.md: what is promised (tests/promises.yaml), and which tests hold us to it (by their marks).

A test that fails when a promise is broken is marked ``@pytest.mark.covers(SECTION, ENTRY, …)``.
``python -m tests.covers`` rewrites the document; ``--check`` only says whether it is in step (exit 1).
"""

from __future__ import annotations

import argparse
import ast
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

import yaml

ROOT = Path(__file__).parents[1]
PROMISES = ROOT / "tests/promises.yaml"
DOCUMENT = ROOT / "docs/coverage.md"
HINT = "run: python -m tests.covers"

_HEAD = """\
# What is promised, and the tests that hold us to it

Every option, command, configuration key, verb, reply, log line and exit status, each with the tests that fail
without it. This page is made from tests/promises.yaml and the marks on the tests: python -m tests.covers.
"""


class Key(NamedTuple):
    """A promise: its section, and the first of its entries."""

    section: str
    entry: str


@dataclass(frozen=True)
class Promise:
    entries: tuple[str, ...]
    what: str


@dataclass(frozen=True)
class Section:
    title: str
    text: str
    promises: tuple[Promise, ...]


@cache
def sections() -> tuple[Section, ...]:
    """What is promised, in the order of the document."""
    found = yaml.safe_load(PROMISES.read_text(encoding="utf-8"))
    return tuple(
        Section(
            one["section"],
            one.get("text", ""),
            tuple(Promise(tuple(row[:-1]), row[-1]) for row in one.get("promises", [])),
        )
        for one in found
    )


@cache
def marks() -> tuple[tuple[Key, str], ...]:
    """Every mark on a test: what it covers, and the test's name for pytest."""
    return tuple(
        (key, f"{path.relative_to(ROOT)}::{name}")
        for path in sorted((ROOT / "tests").rglob("*.py"))
        for name, key in _marks_in(ast.parse(path.read_text(encoding="utf-8")).body)
    )


def _marks_in(body: Sequence[ast.stmt], within: str = "") -> Iterator[tuple[str, Key]]:
    for node in body:
        if isinstance(node, ast.ClassDef):
            yield from _marks_in(node.body, f"{node.name}::")
        elif isinstance(node, ast.FunctionDef) and node.name.startswith("test"):
            for decorator in node.decorator_list:
                if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "pytest.mark.covers":
                    section, *entries = map(ast.literal_eval, decorator.args)
                    for entry in entries:
                        yield within + node.name, Key(section, entry)


def document() -> str:
    tests: dict[Key, list[str]] = {}
    for key, test in marks():
        tests.setdefault(key, []).append(test)
    lines = [_HEAD]
    for section in sections():
        lines.append(f"## {section.title}\n")
        if section.text:
            lines.append(f"{section.text.strip()}\n")
        for promise in section.promises:
            held_by = sorted(tests.get(Key(section.title, promise.entries[0]), []))
            lines.append(f"- {', '.join(f'`{entry}`' for entry in promise.entries)}: {promise.what}")
            lines += [f"  - `{test}`" for test in held_by]
        if section.promises:
            lines.append("")
    return "\n".join(lines).rstrip("\n") + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    arguments = argparse.ArgumentParser(prog="python -m tests.covers", description=__doc__)
    arguments.add_argument("--check", action="store_true", help="change nothing; exit 1 if it is not in step")
    if arguments.parse_args(argv).check:
        in_step = DOCUMENT.read_text(encoding="utf-8") == document()
        print("in step" if in_step else HINT)
        return 0 if in_step else 1
    DOCUMENT.write_text(document(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
