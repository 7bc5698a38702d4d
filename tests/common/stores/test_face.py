"""What the rest of the house knows of the store: its contracts and who opens it, not what it is made of."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import cyrus_sync.common.stores
from cyrus_sync.common.config import Config
from cyrus_sync.common.stores import open_kept, open_store

STORES = Path(cyrus_sync.common.stores.__file__).resolve().parent
ROOT = STORES.parents[1]
NATIVE = "cyrus_sync.common.stores.native"


def modules(*, below: Path) -> Iterator[Path]:
    """Every module of the project, links and tests apart."""
    for path in sorted(below.rglob("*.py")):
        parts = path.relative_to(ROOT).parts
        if parts[0] in ("tests", "cyrus_sync", "build") or any(part.startswith(".") for part in parts):
            continue
        yield path


def imports(path: Path) -> Iterator[str]:
    """The full names that a module imports, inside of functions too."""
    package = ["cyrus_sync", *path.relative_to(ROOT).parent.parts]
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*above, *filter(None, [node.module])])
            yield from (f"{module}.{alias.name}" for alias in node.names)


def of_native(path: Path) -> list[str]:
    return [name for name in imports(path) if name == NATIVE or name.startswith(f"{NATIVE}.")]


def test_nobody_outside_of_the_store_imports_what_it_is_made_of():
    """The fleet is a home for its owners, and tiering moves their packs: parts of it."""
    inside = {STORES, ROOT / "fleet", ROOT / "tiering"}
    found = {
        str(path.relative_to(ROOT)): names
        for path in modules(below=ROOT)
        if not inside.intersection(path.parents) and (names := of_native(path))
    }
    assert found == {}


def test_which_store_there_is_is_chosen_in_one_place():
    assert [path.name for path in sorted(STORES.glob("*.py")) if of_native(path)] == ["__init__.py"]


def test_the_walk_sees_an_import_however_it_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    path = tmp_path / "common" / "stores" / "probe.py"
    path.parent.mkdir(parents=True)
    for text in (
        "import cyrus_sync.common.stores.native.store",
        "from cyrus_sync.common.stores import native",
        "from cyrus_sync.common.stores.native import schema",
        "from .native.store import NativeStore",
        "from . import native",
        "def late():\n    from ..stores.native import store",
    ):
        path.write_text(text)
        assert of_native(path), text
    path.write_text("from cyrus_sync.common.stores import open_store\nfrom . import mailstore")
    assert not of_native(path)


def test_a_store_and_its_care_are_opened_without_making_anything(tmp_path):
    conf = tmp_path / "imapd.conf"
    conf.write_text(f"configdirectory: {tmp_path}/conf\npartition-default: {tmp_path}/mail\n")
    kept = open_kept(Config.load(conf, "mailstore"))
    kept.care.check()
    assert kept.care.everybody() == list(kept.mail.owners()) == []
    assert list(kept.care.problems()) == []
    kept.close()
    open_store(Config.load(conf, "mailstore"), readonly=True).close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["imapd.conf"]


def test_uploads_are_staged_on_the_disk_of_the_default_partition(tmp_path):
    conf = tmp_path / "imapd.conf"
    conf.write_text(
        f"configdirectory: {tmp_path}/conf\ndefaultpartition: ssd\n"
        f"partition-disk: {tmp_path}/disk\npartition-ssd: {tmp_path}/ssd\n"
    )
    kept = open_kept(Config.load(conf, "sync_server"))
    path = kept.care.staging()
    assert path.is_dir() and path.parent == tmp_path / "ssd"
    kept.close()
