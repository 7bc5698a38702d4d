"""What every class of conformance tests needs: a store with a log and a clock, and a replica's INBOX."""

from __future__ import annotations

from pathlib import Path

import pytest

from cyrus_sync.common.model import (
    Record,
)
from cyrus_sync.common.stores.mailstore import MailStore
from tests.common.stores.tools import (
    INBOX,
    Clock,
    Log,
    Stage,
    apply,
    message,
    record_of,
    update_of,
)

ONE, TWO, THREE = message(1), message(2), message(3)


class Conformance:
    """What every class of tests here needs."""

    @pytest.fixture
    def log(self) -> Log:
        return Log()

    @pytest.fixture
    def clock(self) -> Clock:
        return Clock()

    @pytest.fixture
    def store(self, tmp_path: Path, log: Log, clock: Clock):
        store = self.make(tmp_path, log, clock)
        yield store
        store.close()

    def make(self, path: Path, log: Log, clock: Clock) -> MailStore:
        raise AssertionError("a subclass makes its store")

    @pytest.fixture
    def inbox(self, store: MailStore) -> list[Record]:
        """A replica's INBOX with three messages."""
        records = [record_of(ONE, 1), record_of(TWO, 2, flags="\\Seen Work"), record_of(THREE, 3)]
        apply(store, update_of(INBOX, records), Stage(ONE, TWO, THREE))
        return records
