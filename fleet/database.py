"""PostgreSQL servers as a node uses them: a few connections each, single statements, and a time limit.

Every statement is a transaction of its own, and nothing has to be remembered in a connection (`prepared`). So
a pooler that works by transaction may stand between, and a server may be replaced by its standby at any time.
A server that does not answer, or is a standby that may not be written to, is *away* (`errors.Away`). After
the first one who waited in vain nobody waits for it, until it answers again (`rest`).
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from typing import Any

import psycopg
from psycopg import errors, waiting

from cyrus_sync.common.stores.native.rows import storable
from cyrus_sync.fleet.errors import Away
from cyrus_sync.fleet.prepared import NoAnswer, PreparedStatements, Statement
from cyrus_sync.fleet.rest import Rest

Row = tuple[Any, ...]

PATIENCE = 10.0
"""Seconds in which a statement has to be answered."""

_CONNECTING = 5
_LONG = 0.5
"""Who has waited for so many seconds, and in vain, is the last one who does."""
_MOST = 16
"""Connections of a process to one server."""

_AWAY = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    errors.ReadOnlySqlTransaction,
    errors.IdleInTransactionSessionTimeout,
)


OCTETS_AT_ONCE = 4 * 1024 * 1024
"""Of rows of the journal that are fetched together; one of them may have as many as `outgoing.MOST`."""


class Lost(Away):
    """The connection died while a statement was under way: it may have been carried out."""


class Silent(Lost):
    """No answer came in time. There is no use in asking once more at once."""


class _Line(psycopg.Connection[Row]):
    """A connection that does not wait for ever: a server that was stopped, or cut off, is no error of
    TCP's."""

    _statements: PreparedStatements | None = None

    def prepared(self, statement: Statement, values: Sequence[object]) -> list[Row] | None:
        """`PreparedStatements.execute`."""
        if self._statements is None:
            self._statements = PreparedStatements(self.pgconn)
        return self._statements.execute(statement, values, PATIENCE)

    def wait(self, gen: Any, *arguments: Any, **more: Any) -> Any:
        return super().wait(_within(gen, time.monotonic() + PATIENCE), *arguments, **more)


def _within(work: Generator[Any, Any, Any], deadline: float) -> Generator[Any, Any, Any]:
    """What `work` does, given up after the deadline."""
    try:
        state = next(work)
        while True:
            ready = yield state
            if ready == waiting.Ready.NONE and time.monotonic() > deadline:
                raise NoAnswer(f"no answer within {PATIENCE:g} s")
            state = work.send(ready)
    except StopIteration as done:
        return done.value


class Server:
    """One PostgreSQL server. Safe for several threads. Connections are made when they are used."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.failures = 0
        """How often it was away when something was asked of it."""
        self._idle: list[_Line] = []
        self._lock = threading.Lock()
        self._free = threading.BoundedSemaphore(_MOST)
        self._rest = Rest(self._answers)

    @property
    def name(self) -> str:
        """Host, port and database, without a password."""
        known: Mapping[str, Any] = psycopg.conninfo.conninfo_to_dict(self.url)
        return f"{known.get('host', '')}:{known.get('port', 5432)}/{known.get('dbname', '')}"

    def ask(self, query: str | Statement, *values: object) -> list[Row]:
        """A statement that may be carried out twice: it changes nothing, or nothing more the second time.
        It is asked once more where a connection had died meanwhile. Raises `Away`, psycopg.Error."""
        try:
            return self.run(lambda line: _fetch(line, query, values))
        except Silent:
            raise
        except Lost:
            return self.run(lambda line: _fetch(line, query, values))

    def tell(self, query: str | Statement, *values: object) -> list[Row]:
        """One statement that may not be carried out twice; what it returns. `Lost`: it may have been carried
        out. Else raises as `ask`."""
        return self.run(lambda line: _fetch(line, query, values))

    def run(self, work: Callable[[_Line], list[Row]]) -> list[Row]:
        """`work` on a connection that nobody else has. Raises `Away`, `Lost`, psycopg.Error."""
        try:
            return self._run(work)
        except Away:
            self.failures += 1
            raise

    def _run(self, work: Callable[[_Line], list[Row]]) -> list[Row]:
        with self._line() as line:
            try:
                return work(line)
            except _AWAY as error:
                self._drop_all(line)
                text = f"PostgreSQL at {self.name}: {_text(error)}"
                if isinstance(error, NoAnswer):
                    self._rest.begin(text)
                    raise Silent(text) from error
                raise Lost(text) from error

    @contextlib.contextmanager
    def _line(self) -> Iterator[_Line]:
        if not self._free.acquire(timeout=PATIENCE):
            raise Away(f"PostgreSQL at {self.name}: all {_MOST} connections are in use")
        try:
            line = self._take()
            try:
                yield line
            finally:
                with self._lock:
                    keep = line.pgconn.transaction_status == psycopg.pq.TransactionStatus.IDLE
                    if keep:
                        self._idle.append(line)
                if not keep:
                    line.close()
        finally:
            self._free.release()

    def _take(self) -> _Line:
        with self._lock:
            if self._idle:
                return self._idle.pop()
        if reason := self._rest.reason:
            raise Away(reason)
        begun = time.monotonic()
        try:
            return self._connect()
        except psycopg.Error as error:
            text = f"PostgreSQL at {self.name}: {_text(error)}"
            if time.monotonic() - begun > _LONG:
                self._rest.begin(text)
            raise Away(text) from error

    def _connect(self) -> _Line:
        return _Line.connect(
            self.url, autocommit=True, prepare_threshold=None, connect_timeout=_CONNECTING,
            target_session_attrs="read-write", application_name="cyrus-sync",
        )  # fmt: skip

    def _answers(self) -> bool:
        """Whether it can be had again."""
        try:
            self._connect().close()
        except psycopg.Error:
            return False
        return True

    def _drop_all(self, line: _Line) -> None:
        """A server that has ended one connection has ended the others too."""
        line.close()
        self._close_idle()

    def close(self) -> None:
        """Nobody uses it any more."""
        self._rest.close()
        self._close_idle()

    def _close_idle(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for line in idle:
            line.close()


def in_part(columns: str, rows: str) -> str:
    """A query for `columns` of the first of these rows of the journal, which are in order: as many as have
    `OCTETS_AT_ONCE` of data together, and one at least."""
    return (
        f"SELECT {columns} FROM (SELECT *, sum(octet_length(data)) OVER (ORDER BY seq) - octet_length(data)"
        f" AS before FROM ({rows}) AS some_rows) AS summed WHERE before < {OCTETS_AT_ONCE} ORDER BY seq"
    )


def fits(text: str) -> bool:
    """Whether PostgreSQL could have stored it."""
    return storable(text) and "\0" not in text


def _fetch(line: _Line, query: str | Statement, values: Sequence[object]) -> list[Row]:
    if isinstance(query, Statement):
        rows = line.prepared(query, values)
        if rows is not None:
            return rows
        query = query.query
    cursor = line.cursor(binary=True)
    cursor.execute(query.encode(), values or None)
    return cursor.fetchall() if cursor.description else []


def _text(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
