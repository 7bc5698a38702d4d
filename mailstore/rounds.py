"""Going through many owners or mailboxes: trouble with one is named, and the others are dealt with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from cyrus_sync.common.errors import EX_FAILURE, EX_OK, CyrusSyncError, StoreError
from cyrus_sync.common.names import Owner
from cyrus_sync.mailstore.context import StoreContext
from cyrus_sync.mailstore.errors import NoSuchUser
from cyrus_sync.mailstore.source import Source

T = TypeVar("T")


class Rounds:
    """One run of a command over its items. `status` is the exit status: 1 if it was done in part, that of
    the first failure if nothing was done."""

    def __init__(self, context: StoreContext) -> None:
        self._context = context
        self._done = 0
        self._failed = 0
        self._first = EX_OK

    def owners(self, typed: Sequence[str], store: Source) -> Iterator[Owner]:
        """Those that were named; all of the store if none was. A name that nobody has counts as failed; who
        cannot be read is among them, so that the work on him says why."""
        if not typed:
            yield from store.owners()
        for name in typed:
            try:
                owner = self._context.owner(name)
                if not _may_exist(store, owner):
                    raise NoSuchUser(f"no such user: {name}")
            except CyrusSyncError as error:
                self.failed(name, error)
            else:
                yield owner

    def watched(self, title: str, owners: Iterable[T], *, silent: bool = False) -> Iterator[T]:
        """`owners` one by one, while it is shown how far that is."""
        everybody = list(owners)
        context = self._context
        with context.progress(title, total=len(everybody), unit="owners", silent=silent) as meter:
            for one in everybody:
                meter.at(context.owner_name(one) if isinstance(one, Owner) else one)
                yield one
                meter.advance()

    @contextmanager
    def one(self, name: object) -> Iterator[None]:
        """Work on one item, called `name`. What goes wrong is said and counted, and goes no further."""
        try:
            yield
        except CyrusSyncError as error:
            self.failed(name, error)
        else:
            self.done()

    @contextmanager
    def naming(self, name: object) -> Iterator[None]:
        """As `one`, for looking up who is meant: what goes well does not count yet."""
        try:
            yield
        except CyrusSyncError as error:
            self.failed(name, error)

    def done(self, items: int = 1) -> None:
        """Count what was dealt with."""
        self._done += items

    def failed(self, name: object, error: CyrusSyncError) -> None:
        """Say and count that `name` could not be dealt with."""
        text = str(error)
        said = self._context.owner_name(name) if isinstance(name, Owner) else str(name)
        self._context.warn(text if said in text else f"{said}: {text}")
        self._failed += 1
        self._first = self._first or error.exit_status

    @property
    def count(self) -> int:
        """How many were dealt with."""
        return self._done

    @property
    def status(self) -> int:
        if not self._failed:
            return EX_OK
        return EX_FAILURE if self._done else self._first


def _may_exist(store: Source, owner: Owner) -> bool:
    try:
        return store.exists(owner)
    except StoreError:
        return True
