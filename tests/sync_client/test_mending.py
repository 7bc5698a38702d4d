"""The rolling client comes back to damage by itself."""

from __future__ import annotations

import json
from pathlib import Path

from cyrus_sync.common.stores.master import NativeMaster
from cyrus_sync.common.stores.native.layout import pack_name
from cyrus_sync.common.synclog.log import SyncLog
from cyrus_sync.sync_client import mending
from cyrus_sync.sync_client.engine.withheld import Withheld, withheld_path
from tests.common.stores.test_healing import directory, readable, spoil
from tests.deadlines import until
from tests.sync_client.engine.world import ALICE, INBOX, Clock, deliver, guid_of, make_store
from tests.sync_client.real import Pair


def test_who_is_marked_is_done_again_and_what_can_be_read_again_goes_over(tmp_path: Path) -> None:
    store = make_store(tmp_path, Clock())
    with store.write(ALICE) as writer:
        uniqueid = writer.create(INBOX).uniqueid
    deliver(store, INBOX, "one", "two")
    log, withheld = SyncLog(tmp_path / "log"), Withheld(None)
    mending.look_again(NativeMaster(store), withheld, log)
    assert not log.path.exists(), "nothing is damaged"
    pack = directory(store) / pack_name(1)
    kept = pack.read_bytes()
    spoil(store, "two")
    assert readable(store) == {"one"}
    mending.look_again(NativeMaster(store), withheld, log)
    assert log.path.read_text() == "USER alice\n"
    log.path.unlink()
    withheld.put(uniqueid, INBOX, {2: guid_of("two")})
    mending.look_again(NativeMaster(store), withheld, log)
    assert not log.path.exists(), "the replica has it not, and it cannot be read: nothing to be done"
    pack.write_bytes(kept)
    mending.look_again(NativeMaster(store), withheld, log)
    assert log.path.read_text() == f"MAILBOX {INBOX}\n"


def test_a_rolling_client_heals_what_verify_has_found(pair: Pair) -> None:
    pair.master.create("alice")
    pair.master.deliver("alice", "one")
    pair.master.deliver("alice", "two")
    assert pair.run("-u", "alice").process.returncode == 0
    (pack,) = (pair.master.root / "mail").rglob("pack-000001.zst")
    data = bytearray(pack.read_bytes())
    data[-6] ^= 0x41
    pack.write_bytes(data)
    with pair.master.store.read(ALICE) as reader:
        (box,) = reader.mailboxes()
        guids = {record.guid for batch in reader.records(box.uniqueid) for record in batch}
        assert len(reader.unsound(guids)) == 1
    assert json.loads(pair.run("--status", "--format", "json").out)["damaged_owners"] == 1
    pair.rolling()

    def healed() -> bool:
        with pair.master.store.read(ALICE) as reader:
            return not reader.unsound(guids)

    until(healed, "the message is sound again")


def test_what_is_withheld_stands_in_the_status(pair: Pair) -> None:
    pair.master.create("alice")
    pair.master.deliver("alice", "one")
    Withheld(withheld_path(pair.master.directory(), "x")).put("id", "user.alice", {1: bytes(20)})
    said = json.loads(pair.run("--status", "--format", "json").out)
    assert said["withheld_messages"] == 1
    assert any("1 messages cannot be read here" in reason for reason in said["reasons"])
