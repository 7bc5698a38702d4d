"""The native store on a home of the fleet fulfils the contract of a mail store."""

from __future__ import annotations

from pathlib import Path

import pytest

from cyrus_sync.common.stores.mailstore import MailStore
from tests.common.stores.conformance import StoreConformance
from tests.common.stores.tools import Clock, Log
from tests.fleet.nodes import Fleet


class TestStoreOfTheFleet(StoreConformance):
    @pytest.fixture(autouse=True)
    def _database(self, database: str) -> None:
        self.url = database

    def make(self, path: Path, log: Log, clock: Clock) -> MailStore:
        return Fleet(path, self.url).node("here", log=log, clock=clock)
