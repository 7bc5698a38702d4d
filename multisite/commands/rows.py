"""Rows of the epoch matrix, as people read and type them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from cyrus_sync.common.errors import UsageError
from cyrus_sync.common.numbers import decimal
from cyrus_sync.multisite.family import Family
from cyrus_sync.multisite.oplog.epochs import Row
from cyrus_sync.multisite.packet.values import MAX_OPERATION


def row_lines(family: Family, replica: str, row: Mapping[str, int]) -> Iterator[str]:
    """The row of a replica (by id), an origin a line, by name."""
    known = family.replicas.get(replica)
    host = f" (@ {known.host})" if known and known.host else ""
    removed = ", removed" if known and known.removed else ""
    yield f'Oplog IDs for row "{family.name_of(replica)}"{host}{removed}:'
    for origin in sorted({*row, *(one.id for one in family.living())}, key=family.name_of):
        yield f"oid:{origin}={row.get(origin, 0)} ({family.name_of(origin)})"


def parse_entries(family: Family, words: tuple[str, ...]) -> Row:
    """``boston=950``, ``oid:834d…=950``: origins by id. Raises `UsageError`, `UnknownReplica`."""
    row: Row = {}
    for word in words:
        name, equals, number = word.rpartition("=")
        count = decimal(number, MAX_OPERATION)
        if not equals or count is None:
            raise UsageError(f"{word}: replica=number is needed")
        origin = name.removeprefix("oid:")
        row[origin if origin in family.replicas else family.find(origin).id] = count
    return row
