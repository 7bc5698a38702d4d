"""``store: fleet`` in imapd.conf, and ``mailstore fleet``."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from cyrus_sync.common.config import Config
from cyrus_sync.common.errors import EX_CONFIG, EX_TEMPFAIL, ConfigError
from cyrus_sync.common.stores import open_kept
from cyrus_sync.common.stores.native.local_home import LocalHome
from tests.mailstore.conftest import Site

MAIL = b"Subject: %d\r\n\r\nHello.\r\n"


class Node(Site):
    """A machine of the fleet, with partitions of its own too."""

    def __init__(self, path: Path, database: str, objects: Path, store: str = "fleet") -> None:
        path.mkdir(exist_ok=True)
        super().__init__(path, f"store: {store}\nstore_journal: {database}\nstore_objects: file:{objects}\n")

    def deliver(self, *numbers: int) -> None:
        for number in numbers:
            self.ok("deliver", "user/alice", stdin=MAIL % number)

    def messages(self) -> list[str]:
        """A line for each message."""
        return [line.strip() for line in self.ok("dump", "alice").out.splitlines() if "guid" in line]


@pytest.fixture
def here(tmp_path: Path, database: str) -> Node:
    return Node(tmp_path / "here", database, tmp_path / "objects")


@pytest.fixture
def there(tmp_path: Path, database: str) -> Node:
    return Node(tmp_path / "there", database, tmp_path / "objects")


@pytest.mark.covers("imapd.conf", "store")
def test_what_one_machine_makes_another_has(here, there):
    here.ok("create", "user/alice")
    here.deliver(1, 2)
    there.deliver(3)
    assert len(here.messages()) == 3 and here.messages() == there.messages()
    there.ok("verify")
    assert not (here.path / "spool").exists(), "nothing is in a partition"
    there.ok("delete", "user/alice")
    assert here.run("show", "user/alice", "1").status != 0


@pytest.mark.covers("mailstore: commands and options", "fleet")
def test_status_and_settle_tell_what_there_is(here, there):
    here.ok("create", "user/alice")
    here.deliver(1, 2)
    before = json.loads(here.ok("fleet", "status", "--format", "json").out)
    (server,) = before["servers"]
    assert (server["owners"], server["not_settled"]) == (1, 1) and server["commits"] >= 3
    assert before["cache"]["users"] == 1
    assert here.ok("fleet", "settle").out.startswith("settled 0 commits"), "there is not enough yet"
    assert f"settled {server['commits']} commits" in here.ok("fleet", "settle", "--everybody").out
    (server,) = json.loads(there.ok("fleet", "status", "--format", "json").out)["servers"]
    assert (server["not_settled"], server["commits"], server["octets"]) == (0, 0, 0)
    assert "owners 1" in there.ok("fleet", "status").out
    assert len(there.messages()) == 2


@pytest.mark.covers("imapd.conf", "store_cache")
@pytest.mark.covers("A fleet: losing a part of it", "8")
def test_the_cache_is_kept_within_its_size_and_may_be_lost(here):
    here.ok("create", "user/alice")
    here.deliver(1)
    here.conf.write_text(here.conf.read_text() + "store_cache_size: 0\n")
    assert "1 users with" in here.ok("fleet", "settle").out
    assert list((here.path / "conf" / "cache").glob("users/*/*")) == []
    assert len(here.messages()) == 1
    here.deliver(2)
    assert len(here.messages()) == 2


@pytest.mark.covers("mailstore: commands and options", "fleet move-in")
def test_users_move_into_the_fleet_and_out_again_and_are_the_same(tmp_path, database):
    path, objects = tmp_path / "here", tmp_path / "objects"
    node = Node(path, database, objects, store="local")
    node.ok("create", "user/alice")
    node.ok("create", "user/alice/Work")
    node.ok("create", "user/bob")
    node.deliver(1, 2)
    before = node.ok("dump", "--expunged", "alice").out
    refused = node.run("fleet", "move-in", "alice")
    assert refused.status == EX_CONFIG and "store" in refused.err and "moving" in refused.err
    node = Node(path, database, objects, store="moving")
    assert node.run("create", "user/carol").status == EX_TEMPFAIL
    assert "knows of 2 users" in node.ok("fleet", "move-in").out
    moved = node.ok("fleet", "move-in", "alice").out
    assert "alice: " in moved and ".in-fleet-" in moved and "moved 1 of 1" in moved
    assert "alice: is in the fleet already" in node.ok("fleet", "move-in", "alice").out
    assert node.ok("dump", "--expunged", "alice").out == before
    other = Node(tmp_path / "there", database, objects)
    assert other.ok("dump", "--expunged", "alice").out == before
    locked = other.run("deliver", "user/bob", stdin=MAIL % 9)
    assert locked.status == EX_TEMPFAIL and "bob" in locked.err and "and not in the fleet" in locked.err
    assert ": 1 users are in its partitions" in other.ok("fleet", "status").out
    assert node.run("tier", "-A").status == EX_CONFIG and node.run("move", "bob", "default").status != 0
    everybody = node.ok("fleet", "move-in", "--everybody").out
    assert "moved 1 of 1" in everybody and "store: fleet will do" in everybody
    node = Node(path, database, objects)
    assert node.ok("dump", "--expunged", "alice").out == before
    assert node.run("verify").status == 0
    node.deliver(3)
    node.ok("fleet", "settle", "--everybody")
    after = node.ok("dump", "--expunged", "alice").out
    assert node.run("fleet", "move-out", "--everybody").status == EX_CONFIG
    node = Node(path, database, objects, store="moving")
    back = node.ok("fleet", "move-out", "--everybody").out
    assert "moved 2 of 2" in back and "store: local will do" in back
    node = Node(path, database, objects, store="local")
    assert node.ok("dump", "--expunged", "alice").out == after
    assert node.run("verify").status == 0
    (server,) = json.loads(node.ok("fleet", "status", "--format", "json").out)["servers"]
    assert server["owners"] == 0


def test_who_moves_without_what_was_lost_of_him_has_moved_and_is_named(tmp_path, database):
    node = Node(tmp_path / "here", database, tmp_path / "objects", store="local")
    node.ok("create", "user/alice")
    node.deliver(1)
    (pack,) = (tmp_path / "here").rglob("pack-*.zst")
    pack.write_bytes(pack.read_bytes()[:-1])
    node = Node(tmp_path / "here", database, tmp_path / "objects", store="moving")
    moved = node.run("fleet", "move-in", "alice")
    assert moved.status == 1 and "moved 1 of 1" in moved.out
    assert "user=alice" in moved.err and "lost before is lost there: pack-000001.zst octets" in moved.err
    assert "is in the fleet already" in node.ok("fleet", "move-in", "alice").out


def test_a_backup_of_a_fleet_comes_back_into_it(here, there, tmp_path):
    here.ok("create", "user/alice")
    here.deliver(1, 2)
    before = here.ok("dump", "alice").out
    here.ok("backup", f"file:{tmp_path}/backup", "alice")
    here.deliver(3)
    there.ok("backup", f"file:{tmp_path}/backup", "--everybody")
    there.ok("rename", "user/alice", "user/alina")
    here.ok("restore", "--yes", "--from", f"file:{tmp_path}/backup", "alice")
    assert len(there.messages()) == 3 and before.splitlines()[0] in there.ok("dump", "alice").out


def test_a_fleet_whose_postgresql_is_away_defers(tmp_path):
    node = Node(tmp_path / "here", "postgresql://nobody@127.0.0.1:1/none", tmp_path / "objects")
    refused = node.run("deliver", "user/alice", stdin=MAIL % 1)
    assert refused.status == EX_TEMPFAIL and "127.0.0.1:1/none" in refused.err
    assert node.run("fleet", "status").status == EX_TEMPFAIL


def test_a_fleet_without_its_journal_is_an_error_of_the_configuration(tmp_path):
    site = Site(tmp_path, "store: fleet\n")
    refused = site.run("ls")
    assert refused.status == EX_CONFIG and "store_journal" in refused.err


def test_the_order_of_servers_does_not_matter_and_one_that_is_not_named_is_said(tmp_path, postgres):
    one, two = postgres.database(), postgres.database()
    node = Node(tmp_path / "here", f"{one} {two}", tmp_path / "objects")
    for name in ("alice", "bob", "carol", "dora"):
        node.ok("create", f"user/{name}")
    assert len(json.loads(node.ok("fleet", "status", "--format", "json").out)["servers"]) == 2
    turned = Node(tmp_path / "turned", f"{two} {one}", tmp_path / "objects")
    assert turned.ok("ls", "-1").out == node.ok("ls", "-1").out
    fewer = Node(tmp_path / "fewer", one, tmp_path / "objects").run("verify")
    assert fewer.status != 0 and "is not in store_journal of this machine" in fewer.err


def test_a_store_is_local_unless_it_is_said(tmp_path):
    site = Site(tmp_path)
    kept = open_kept(site.config())
    assert isinstance(kept.mail.home, LocalHome)  # type: ignore[attr-defined]
    kept.close()
    site = Site(tmp_path, "store: elsewhere\n")
    with pytest.raises(ConfigError, match="store"):
        open_kept(Config.load(site.conf, "mailstore"))


def test_the_commands_of_the_document_take_a_site_into_a_fleet_and_back(tmp_path, database):
    text = (Path(__file__).parents[2] / "docs" / "fleet.md").read_text()
    before, within, back = re.findall(r"^```sh recipe\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    node = Node(tmp_path / "here", database, tmp_path / "objects", store="local")
    node.ok("create", "user/alice")
    node.deliver(1)
    mail = node.ok("dump", "--expunged", "alice").out
    for store, commands in (("moving", before), ("fleet", within), ("moving", back)):
        node = Node(tmp_path / "here", database, tmp_path / "objects", store=store)
        for line in commands.splitlines():
            program, *words = line.split()
            assert program == "mailstore"
            node.ok(*words)
    node = Node(tmp_path / "here", database, tmp_path / "objects", store="local")
    assert node.ok("dump", "--expunged", "alice").out == mail


@pytest.mark.parametrize("words", [("fleet", "status"), ("verify",)])
def test_who_lacks_the_library_is_told_what_to_install(here, monkeypatch, words):
    for name in [name for name in sys.modules if name.startswith("cyrus_sync.fleet")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    done = here.run(*words)
    assert done.status == EX_CONFIG and "Traceback" not in done.err
    assert f"{sys.executable} -m pip install 'psycopg[binary]>=3.2'" in done.err
