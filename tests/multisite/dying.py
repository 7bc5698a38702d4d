"""Sudden death of whoever writes to the operations log or to the mail store."""

from __future__ import annotations

from cyrus_sync.multisite.oplog.database import Database


class Killed(BaseException):
    """The process died here."""


class dying:
    """Within it the process dies, so to speak, at the n-th write to the log or end of a store transaction."""

    def __init__(self, after: int) -> None:
        self._left = after
        self._execute = Database.execute
        self._commit = Database.commit

    def __enter__(self) -> None:
        def count() -> None:
            self._left -= 1
            if self._left == 0:
                raise Killed

        execute, commit = self._execute, self._commit

        def dying_execute(db: Database, statement: str, values: object = ()) -> object:
            if statement.startswith(("INSERT", "DELETE", "UPDATE")):
                count()
            return execute(db, statement, values)  # type: ignore[arg-type]

        def dying_commit(db: Database) -> None:
            count()
            commit(db)

        Database.execute = dying_execute  # type: ignore[method-assign,assignment]
        Database.commit = dying_commit  # type: ignore[method-assign,assignment]

    def __exit__(self, *_: object) -> None:
        Database.execute = self._execute  # type: ignore[method-assign]
        Database.commit = self._commit  # type: ignore[method-assign]
