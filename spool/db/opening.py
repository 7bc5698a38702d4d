"""Which format a database has, and opening it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from cyrus_sync.common.errors import StoreError
from cyrus_sync.spool.db import chain, flat, skiplist, twom, twoskip
from cyrus_sync.spool.db.chain import ChainDatabase, Format
from cyrus_sync.spool.db.database import Database, Order, mailbox_order, raw_order, signed_order
from cyrus_sync.spool.db.flat import Flat
from cyrus_sync.spool.db.mapped import Data
from cyrus_sync.spool.db.skiplist import Skiplist
from cyrus_sync.spool.db.twom import Twom
from cyrus_sync.spool.db.twoskip import Twoskip
from cyrus_sync.spool.trouble import WITHOUT_FILES, cannot_read

_MARK = 16
"""Octets by which a format is known."""


class Empty:
    """A `Database` with nothing in it: a file of no octets, which every kind takes for one."""

    kind = "empty"

    def __init__(self, path: Path) -> None:
        self.path = path

    def get(self, key: bytes) -> bytes | None:
        del key
        return None

    def items(self, prefix: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        del prefix
        yield from ()

    def is_current(self) -> bool:
        return False

    def close(self) -> None:
        """There is nothing to close."""


def open_database(path: Path, order: Order = raw_order) -> Database:
    """The database in the file `path`, whatever kind is configured for it.

    `order` is `mailbox_order` where a Cyrus before 3.6 sorts so. Raises FileNotFoundError where there is
    none, `StoreError` where it cannot be read or is of a kind that is not known.
    """
    try:
        with path.open("rb") as file:
            mark = file.read(_MARK)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise cannot_read(path, error) from error
    if not mark:
        return Empty(path)
    form = _FORMS.get(_kind(mark, path))
    if form is not None:
        return ChainDatabase(path, form, order)
    if _kind(mark, path) == Skiplist.kind:
        return Skiplist(path, mailbox_order if order is mailbox_order else signed_order)
    return Flat(path)


def items_of(data: Data, path: Path) -> Iterator[tuple[bytes, bytes]]:
    """The entries of a database, of which `data` is all. `path` is named in the `SpoolDamaged` of a bad one;
    `StoreError` for one of a kind that is not known."""
    if not len(data):
        return iter(())
    kind = _kind(data[:_MARK], path)
    form = _FORMS.get(kind)
    if form is not None:
        return chain.items_of(data, path, form)
    return skiplist.items_of(data, path) if kind == Skiplist.kind else flat.items_of(data, path)


_FORMS: dict[str, Format] = {form.name: form for form in (Twoskip(), Twom())}
_MAGIC = {Twoskip.name: twoskip.MAGIC, Twom.name: twom.MAGIC, Skiplist.kind: skiplist.MAGIC}


def _kind(mark: bytes, path: Path) -> str:
    """By the first octets of a file that has any."""
    for kind, magic in _MAGIC.items():
        if magic.startswith(mark):
            return kind
    if mark.startswith(b"\xa1\x02\x8b\x0d"):
        kind = f"a database of a kind that is not known here: {mark[4:]!r}"
        raise StoreError(f"{path}: {kind} ({WITHOUT_FILES})")
    return Flat.kind
