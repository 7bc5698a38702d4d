"""Statements that are said at every commit: planned once a connection, and said by libpq alone.

A prepared statement is kept in a connection. A pooler that works by transaction may hand the next statement
to another connection than the one that has it. So its name goes by its text, and means nothing else anywhere;
and where a server does not know it, it is said in the usual way, by `database`. That connection prepares none
any more then.
"""

from __future__ import annotations

import hashlib
import select
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from psycopg import DatabaseError, Error, OperationalError, errors, pq

Row = tuple[Any, ...]

_INT8, _TEXT, _BYTEA = 20, 25, 17
_int8 = struct.Struct(">q")

_DUMPED: Mapping[type, tuple[int, Callable[[Any], bytes]]] = {
    int: (_INT8, _int8.pack),
    str: (_TEXT, str.encode),
    bytes: (_BYTEA, bytes),
}
_LOADED: Mapping[int, Callable[[bytes], Any]] = {
    _INT8: lambda data: _int8.unpack(data)[0],
    _TEXT: bytes.decode,
    _BYTEA: bytes,
}
"""By the number of a type (pg_type.h). All of it goes in binary format."""


_NOT_PREPARED = (
    b"26000",  # nobody has prepared it on this connection
    b"42P05",  # somebody else has
    b"0A000",  # the tables have changed since
)
"""What a server says of a statement that it has not carried out, since it was prepared, or not."""


class NoAnswer(OperationalError):
    """None came in time."""


class Statement(NamedTuple):
    """`query` has a ``%s`` for each value: an int, text, or octets. It returns such."""

    query: str
    name: bytes
    numbered: bytes

    @classmethod
    def of(cls, query: str) -> Statement:
        first, *others = query.replace("%b", "%s").split("%s")
        numbered = first + "".join(f"${number}{text}" for number, text in enumerate(others, 1))
        digest = hashlib.sha256(numbered.encode()).hexdigest()
        return cls(query, f"cyrus_sync_{digest[:24]}".encode(), numbered.encode())


class PreparedStatements:
    """Of one connection. For one thread at a time."""

    def __init__(self, pgconn: pq.abc.PGconn) -> None:
        self._pgconn = pgconn
        self._prepared: set[bytes] = set()
        self._given_up = False
        self._patience = 0.0

    def execute(self, statement: Statement, values: Sequence[object], patience: float) -> list[Row] | None:
        """What the statement returns; None where it was not carried out, and is to be said in the usual way.
        `NoAnswer` after `patience` seconds; psycopg.Error."""
        if self._given_up:
            return None
        until, self._patience = time.monotonic() + patience, patience
        pgconn, dumped = self._pgconn, [_DUMPED[type(value)] for value in values]
        if statement.name not in self._prepared:
            pgconn.send_prepare(statement.name, statement.numbered, [number for number, _ in dumped])
            if not self._good(until):
                return None
            self._prepared.add(statement.name)
        octets = [dump(value) for (_, dump), value in zip(dumped, values, strict=True)]
        binary = pq.Format.BINARY
        pgconn.send_query_prepared(statement.name, octets, [binary] * len(octets), binary)
        result = self._good(until)
        return _rows(result) if result is not None else None

    def _good(self, until: float) -> pq.abc.PGresult | None:
        """The answer; None where nothing was carried out for what is in `_NOT_PREPARED`."""
        result = self._answer(until)
        if result.status in (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK):
            return result
        code = result.error_field(pq.DiagnosticField.SQLSTATE) or b""
        if code not in _NOT_PREPARED:
            raise _error(code.decode())(result.error_message.decode("utf-8", "replace"))
        self._given_up = True
        return None

    def _answer(self, until: float) -> pq.abc.PGresult:
        """The last answer to what was sent."""
        pgconn, last = self._pgconn, None
        while pgconn.flush():
            if self._await(select.POLLIN | select.POLLOUT, until) & ~select.POLLOUT:
                pgconn.consume_input()
        while True:
            while pgconn.is_busy():
                self._await(select.POLLIN, until)
                pgconn.consume_input()
            result = pgconn.get_result()
            if result is None:
                break
            last = result
        if last is None:
            raise OperationalError("the connection has ended")
        return last

    def _await(self, what: int, until: float) -> int:
        """What of it has come."""
        poll = select.poll()
        poll.register(self._pgconn.socket, what)
        found = poll.poll(max(until - time.monotonic(), 0) * 1000)
        if not found:
            raise NoAnswer(f"no answer within {self._patience:g} s")
        return found[0][1]


def _error(code: str) -> type[Error]:
    try:
        return errors.lookup(code)
    except KeyError:
        return DatabaseError


def _rows(result: pq.abc.PGresult) -> list[Row]:
    loads = [_LOADED[result.ftype(column)] for column in range(result.nfields)]
    rows = []
    for row in range(result.ntuples):
        found = (result.get_value(row, column) for column in range(len(loads)))
        rows.append(
            tuple(load(data) if data is not None else None for load, data in zip(loads, found, strict=True))
        )
    return rows
