"""The native store fulfils the contract of a mail store."""

from __future__ import annotations

from pathlib import Path

from cyrus_sync.common.stores.mailstore import MailStore
from tests.common.stores.conformance import StoreConformance
from tests.common.stores.tools import Clock, Log, native_store


class TestNativeStore(StoreConformance):
    def make(self, path: Path, log: Log, clock: Clock) -> MailStore:
        return native_store(path, log=log, clock=clock)
