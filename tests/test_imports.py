"""Which way imports go: as ARCHITECTURE.md's table says, and never in a circle."""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

HERE = Path(__file__).parent.parent
PACKAGE = "cyrus_sync."
ROOMS = (
    *("common", "spool", "csync", "sync_client", "sync_server", "mailstore", "shipping", "multisite"),
    *("fleet", "lifeboat", "lmtp", "objects", "pull", "tiering", "tool", "web"),
)


@cache
def modules() -> Mapping[str, Path]:
    """Every module of the product by name, without the package's."""
    found = {}
    for room in ROOMS:
        for path in (HERE / room).rglob("*.py"):
            parts = path.relative_to(HERE).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def imports() -> Mapping[str, frozenset[str]]:
    """What each module imports of the product, for types and within functions, too."""
    return {name: frozenset(_imports_of(name, path)) for name, path in modules().items()}


def _imports_of(name: str, path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            named = [(alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name} imports relatively"
            named = [(node.module or "", alias.name) for alias in node.names]
        else:
            continue
        for module, inside in named:
            if module.startswith(PACKAGE) or module == PACKAGE.rstrip("."):
                one = f"{module}.{inside}".removeprefix(PACKAGE)
                yield one if one in modules() else module.removeprefix(PACKAGE)


def circles(arrows: Mapping[str, frozenset[str]]) -> list[list[str]]:
    """Modules from each of which one comes to each other one of them (Tarjan)."""
    numbers: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def visit(name: str) -> None:
        numbers[name] = low[name] = len(numbers)
        stack.append(name)
        for other in sorted(arrows.get(name, ())):
            if other not in numbers:
                visit(other)
            if other in stack:
                low[name] = min(low[name], low[other])
        if low[name] == numbers[name]:
            circle = stack[stack.index(name) :]
            del stack[stack.index(name) :]
            if len(circle) > 1:
                found.append(sorted(circle))

    for name in sorted(arrows):
        if name not in numbers:
            visit(name)
    return found


def test_no_module_comes_back_to_itself() -> None:
    assert circles(imports()) == []


# -- rooms


def table() -> dict[str, set[str]]:
    """Each room of the product, and the rooms that it imports, by dotted name. "common/" is its top level."""
    text = (HERE / "ARCHITECTURE.md").read_text("utf-8")
    rows = re.findall(r"^\| `([a-z_/]+)/`(?: top level)? \|.*\| (.*) \|$", text, re.MULTILINE)
    rooms = {room.replace("/", "."): cell for room, cell in rows if room.partition("/")[0] in ROOMS}
    found = {}
    for room, cell in rooms.items():
        named = re.findall(r"`([a-z_/]+)`", re.sub(r"\([^)]*\)", "", cell))
        found[room] = set().union(*(_meant(one, room, rooms) for one in named))
        if cell.startswith("top level"):
            found[room].add("common")
    return found


def _meant(word: str, room: str, rooms: Collection[str]) -> set[str]:
    """The rooms that a word of the last column stands for: one by its last part, or all of `common`."""
    if word == "common":
        return {one for one in rooms if one.partition(".")[0] == "common"}
    word = word.replace("/", ".")
    found = {one for one in rooms if one == word or one.endswith(f".{word}")}
    assert len(found) == 1, f"{room} imports {word}: {sorted(found)}"
    return found


def room_of(module: str, rooms: Collection[str]) -> str:
    """The innermost room that the module is in."""
    return max((one for one in rooms if module == one or module.startswith(f"{one}.")), key=len)


def test_arrows_between_rooms_run_as_the_table_says() -> None:
    rooms = table()
    assert set(ROOMS) <= set(rooms), "every folder has its row"
    used: dict[str, set[str]] = {room: set() for room in rooms}
    against = []
    for module, others in imports().items():
        room = room_of(module, rooms)
        for other in others:
            there = room_of(other, rooms)
            if there != room:
                used[room].add(there)
                if there not in rooms[room]:
                    against.append(f"{module} -> {other}")
    assert against == []
    for room, allowed in rooms.items():
        beyond = {one for one in allowed - used[room] if one.partition(".")[0] != "common"}
        assert not beyond, f"{room} does not import {beyond}, as the table says"


@pytest.mark.parametrize(
    "text", ["a = 1", "import cyrus_sync.spool.trouble", "from cyrus_sync.spool import trouble"]
)
def test_the_walk_sees_every_way_to_write_an_import(tmp_path: Path, text: str) -> None:
    path = tmp_path / "probe.py"
    path.write_text(f"def late():\n    {text}\n")
    assert set(_imports_of("probe", path)) == ({"spool.trouble"} if "trouble" in text else set())


def test_a_circle_is_found_however_long_it_is() -> None:
    arrows = {"a": frozenset({"b"}), "b": frozenset({"c", "d"}), "c": frozenset({"a"}), "d": frozenset[str]()}
    assert circles(arrows) == [["a", "b", "c"]]
