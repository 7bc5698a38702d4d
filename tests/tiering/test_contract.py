"""The contract of a store holds where every pack is in an object store."""

from __future__ import annotations

from pathlib import Path

from cyrus_sync.common.stores.mailstore import MailStore
from cyrus_sync.common.stores.native.store import NativeStore
from tests.common.stores.conformance import StoreConformance
from tests.common.stores.conformance_nodes import append
from tests.common.stores.tools import ALICE, Clock, Log, bodies_in
from tests.tiering.far_store import FarHome


class TestFarStore(StoreConformance):
    def make(self, path: Path, log: Log, clock: Clock) -> MailStore:
        return NativeStore(FarHome(path), action_log=log, clock=clock)


def test_a_store_of_that_kind_has_no_pack_on_this_machine(tmp_path: Path) -> None:
    store = NativeStore(FarHome(tmp_path), clock=Clock())
    for number in range(1, 4):
        append(store, number)
    directory = store.directory_of(ALICE)
    assert directory is not None
    assert sorted(path.name for path in directory.glob("pack-*")) == [
        f"pack-00000{number}.far" for number in range(1, 4)
    ]
    assert len(bodies_in(store)) == 3
    store.close()
