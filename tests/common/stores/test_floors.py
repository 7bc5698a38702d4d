"""The native store from the inside: imports run one way, from what is done to what it is done with."""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.common.stores.test_face import NATIVE, STORES, imports

HERE = STORES / "native"

FLOORS = (
    *("transaction", "opened", "summaries", "loglines"),
    *("tables", "intake", "verbs", "writer", "changing", "together", "moving", "store", "care"),
)
"""From the bottom; what is named nowhere here (files, locks, the reader) is below all of them."""


def module_of(path: Path) -> str:
    """A module as others import it."""
    parts = path.relative_to(HERE).with_suffix("").parts
    return ".".join([NATIVE, *(part for part in parts if part != "__init__")])


def arrows() -> dict[str, set[str]]:
    """Each module of the native store, and which of the others it imports."""
    paths = {module_of(path): path for path in HERE.rglob("*.py")}
    found = {}
    for module, path in paths.items():
        names = {name if name in paths else name.rpartition(".")[0] for name in imports(path)}
        found[module] = (names & paths.keys()) - {module, NATIVE}
    return found


def floor_of(module: str) -> int:
    """Where a module stands in `FLOORS`, -1 for what is below."""
    part = module.removeprefix(f"{NATIVE}.").partition(".")[0]
    return FLOORS.index(part) if part in FLOORS else -1


def test_no_module_imports_one_that_imports_it():
    try:
        order = list(TopologicalSorter(arrows()).static_order())
    except CycleError as error:
        pytest.fail(f"a circle of imports: {error.args[1]}")
    assert len(order) > 40


def test_nothing_imports_what_is_above_it():
    up = {
        f"{module} imports {other}"
        for module, others in arrows().items()
        for other in others
        if floor_of(other) > floor_of(module)
    }
    assert up == set()


def test_verbs_and_tables_never_open_an_owner():
    below = {name: others for name, others in arrows().items() if floor_of(name) < FLOORS.index("store")}
    assert {name for name, others in below.items() if f"{NATIVE}.store" in others} == set()
