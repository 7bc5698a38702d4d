"""Kinds of damage to one owner, bob, of a store with alice, bob and carol."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores import open_store
from tests.mailstore.conftest import MESSAGE, Site

USERS = ("alice", "bob", "carol")


def inhabited(site: Site) -> Site:
    """Three users with a folder and two messages each."""
    for user in USERS:
        site.ok("create", f"user/{user}", f"user/{user}/Work")
        for number in range(2):
            site.ok("deliver", user, stdin=MESSAGE + b"%s %d\r\n" % (user.encode(), number))
    site.log()
    return site


def directory_of(site: Site, user: str) -> Path:
    store = open_store(site.config(), readonly=True)
    try:
        found = store.directory_of(Owner("user", user))
        assert found is not None
        return found
    finally:
        store.close()


def _index(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def damage(directory: Path) -> None:
        path = directory / "index.sqlite"
        path.write_bytes(change(path.read_bytes()))

    return damage


def _pack(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def damage(directory: Path) -> None:
        path = directory / "pack-000001.zst"
        path.write_bytes(change(path.read_bytes()))

    return damage


def _index_is_a_directory(directory: Path) -> None:
    (directory / "index.sqlite").unlink()
    (directory / "index.sqlite").mkdir()


def _directory_is_a_file(directory: Path) -> None:
    shutil.rmtree(directory)
    directory.write_text("what is this?")


class Damage(NamedTuple):
    """What is done to bob's directory; `index` = nothing of his index can be read then."""

    do: Callable[[Path], object]
    index: bool = True


KINDS = {
    "an index of garbage": Damage(_index(lambda data: b"\x93" * len(data))),
    "an index cut short": Damage(_index(lambda data: data[: len(data) // 2 + 100])),
    "an index of zeros": Damage(_index(lambda data: bytes(len(data)))),
    "an empty index": Damage(_index(lambda data: b"")),
    "all pages but the first zeroed": Damage(_index(lambda data: data[:4096] + bytes(len(data) - 4096))),
    "no index": Damage(lambda directory: (directory / "index.sqlite").unlink()),
    "an index that is a directory": Damage(_index_is_a_directory),
    "a dangling link as index": Damage(
        lambda directory: (
            (directory / "index.sqlite").rename(directory / "elsewhere")
            and (directory / "index.sqlite").symlink_to("nowhere")
        )
    ),
    "no directory": Damage(shutil.rmtree),
    "a directory that is a file": Damage(_directory_is_a_file),
    "a pack that is gone": Damage(lambda directory: (directory / "pack-000001.zst").unlink(), index=False),
    "a pack of garbage": Damage(_pack(lambda data: b"\x93" * len(data)), index=False),
    "an empty pack": Damage(_pack(lambda data: b""), index=False),
}
