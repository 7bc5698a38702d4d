"""A real Cyrus whose spool our sync_client reads, towards a real replica and towards ours: every release."""

from __future__ import annotations

import random
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cyrus_sync.common.config import Config
from cyrus_sync.spool.server import Server
from tests.deadlines import until

from .beside import BesideCyrus
from .csync import differences, scripts_of, state_of
from .cyrus import Cyrus, follow_log
from .fill import FOLDERS, SCRIPT, change_everything, fill_everything, message
from .ours import Ours, environment
from .proxy import Proxy
from .releases import SAME_FILES
from .running import finish
from .sides import OurSide, RealSide
from .view import view

Replica = Cyrus | Ours


@pytest.fixture(scope="session")
def master(real_cyrus: None) -> Iterator[BesideCyrus]:
    """Shared by tests; each uses users of its own."""
    with BesideCyrus.running("master", {"maxliteral": "0"}) as cyrus:
        assert isinstance(cyrus, BesideCyrus)
        yield cyrus


@pytest.fixture
def fresh_master(real_cyrus: None) -> Iterator[BesideCyrus]:
    with BesideCyrus.running("master", {"maxliteral": "0"}) as cyrus:
        assert isinstance(cyrus, BesideCyrus)
        yield cyrus


@pytest.fixture(scope="session", params=["real", "ours"])
def target(request: pytest.FixtureRequest, real_cyrus: None) -> Iterator[Replica]:
    """What is replicated to."""
    if request.param == "real":
        with Cyrus.running("replica", {"sync_log": "0", "maxliteral": "0"}) as cyrus:
            yield cyrus
    else:
        with Ours.installed("replica", {"maxliteral": "0"}) as ours:
            yield ours
            ours.verify()


def same(master: Cyrus, target: Replica, *users: str) -> None:
    """Both ends say the same, and a run for the users has nothing to do."""
    for user in users:
        assert differences(state_of(master.csync, user), state_of(target.csync, user)) == []
    with Proxy(target.csync, hide=("COMPRESS",)) as proxy:
        master.sync_client("-u", *users, to=proxy.address).check()
        found = [line for line in proxy.commands("APPLY ") if "CAPABILITIES" not in line]
        # To clients of old releases no server says which intermediate names it has.
        assert [line for line in found if not re.search(r"MBOXTYPE e?i ", line)] == []


@pytest.mark.every_release
@pytest.mark.covers("imapd.conf", "sync_source")
def test_a_user_with_everything_arrives(master: BesideCyrus, target: Replica, user: str) -> None:
    other = f"{user}b"
    fill_everything(master, user, other)
    first = master.sync_client("-v", "-u", user, other, to=target.csync).check()
    assert f"MAILBOX user.{user}.lists" in first.out
    same(master, target, user, other)
    assert scripts_of(target.csync, user) == {"main": (SCRIPT, True), "spare": (b"keep;\r\n", False)}
    if isinstance(target, Cyrus):
        seen, there = view(master, user), view(target, user)
        assert seen == there
        assert len(seen.mailboxes) >= len(FOLDERS)


@pytest.mark.every_release
def test_what_the_daemons_log_is_enough(fresh_master: BesideCyrus, target: Replica, user: str) -> None:
    master, other = fresh_master, f"{user}b"
    fill_everything(master, user, other)
    follow_log(master, target.csync)
    same(master, target, user, other)
    change_everything(master, user, other)
    follow_log(master, target.csync)
    same(master, target, user, other)


@pytest.mark.every_release(without=SAME_FILES)
def test_a_user_is_deleted_and_a_mailbox_too(fresh_master: BesideCyrus, target: Replica, user: str) -> None:
    master = fresh_master
    master.create_user(user, f"{user}x")
    with master.imap(user) as imap:
        imap.ok("CREATE", "INBOX/folder")
        imap.append("INBOX/folder", message("inside"))
        imap.ok("CREATE", "INBOX/other")
    follow_log(master, target.csync)
    with master.imap(user) as imap:
        imap.ok("DELETE", "INBOX/folder")
    with master.imap() as admin:
        admin.ok("SETACL", f"user/{user}x", "cyrus", "lrswipkxtecda")
        admin.ok("DELETE", f"user/{user}x")
    follow_log(master, target.csync)
    same(master, target, user)
    left = state_of(target.csync, f"{user}x")["mailboxes"]
    assert not [name for name in left if not name.startswith("DELETED")]


@pytest.mark.every_release(without=SAME_FILES)
def test_shared_mailboxes_and_all_users_at_once(fresh_master: BesideCyrus, user: str) -> None:
    master = fresh_master
    master.create_user(user, f"{user}b")
    with master.imap() as admin:
        admin.ok("CREATE", "shared")
        admin.ok("SETACL", "shared", "anyone", "lrsip")
    with master.imap(user) as imap:
        imap.append("shared", message("for all"))
    with Ours.installed("replica") as ours, Cyrus.running("replica", {"sync_log": "0"}) as real:
        for target in (ours, real):
            ran = master.sync_client("-v", "-A", to=target.csync).check()
            assert "MAILBOX shared" in ran.out
            same(master, target, user, f"{user}b")
            again = master.sync_client("-v", "-A", to=target.csync).check()
            assert "MAILBOX " not in again.out
        ours.verify()


@pytest.mark.every_release(without=SAME_FILES)
def test_the_rolling_client_follows_while_mail_arrives(
    fresh_master: BesideCyrus, target: Replica, user: str
) -> None:
    master = fresh_master
    master.create_user(user)
    rolling = master.roll("-d", "1", to=target.csync)
    for number in range(20):
        master.deliver(message(f"number {number}"), user)
        with master.imap(user) as imap:
            imap.select("INBOX")
            imap.store("1", "+FLAGS", f"kw{number % 5}")
    until(lambda: len(_records(target, user)) == 20, "all messages arrive", 30)
    until(lambda: not _logged(master), "the log is worked off", 30)
    same(master, target, user)
    assert rolling.process.poll() is None
    rolling.stop()


def _records(target: Replica, user: str) -> dict[int, object]:
    mailbox = state_of(target.csync, user)["mailboxes"].get(f"user.{user}", {})
    found: dict[int, object] = mailbox.get("RECORD", {})
    return found


def _logged(master: Cyrus) -> bool:
    return master.sync_log.exists() or master.sync_log.with_name("log-run").exists()


@pytest.mark.every_release(without=SAME_FILES)
def test_the_clients_take_turns_while_mail_arrives(
    fresh_master: BesideCyrus, target: Replica, user: str
) -> None:
    """Cyrus's own, ours, and its own again: what one has not done the next one does."""
    master = fresh_master
    master.create_user(user)
    for turn in range(4):
        master.deliver(message(f"turn {turn}"), user)
        with master.imap(user) as imap:
            imap.ok("CREATE", f"INBOX/f{turn}")
            imap.append(f"INBOX/f{turn}", message(f"in folder {turn}"))
        ran = master.own_follow(target.csync) if turn % 2 == 0 else master.follow(target.csync)
        assert ran.status == 0, ran.describe()
        master.deliver(message(f"after turn {turn}"), user)
    follow_log(master, target.csync)
    same(master, target, user)
    assert len(_records(target, user)) == 8


@pytest.mark.every_release(without=SAME_FILES)
@pytest.mark.covers("imapd.conf", "conversations")
def test_what_conversations_count_goes_to_a_replica_as_by_cyrus_s_own_client(
    real_cyrus: None, user: str
) -> None:
    """A real replica and ours have the same numbers, and a flag, which changes them alone, goes on."""
    with (
        BesideCyrus.running("master", {"maxliteral": "0", "conversations": "yes"}) as master,
        Cyrus.running("replica", {"sync_log": "0", "maxliteral": "0", "conversations": "yes"}) as real,
        Ours.installed("replica") as ours,
    ):
        assert isinstance(master, BesideCyrus)
        master.create_user(user)
        with master.imap(user) as imap:
            imap.ok("CREATE", "INBOX/Other")
            first = message("first")
            for box in ("INBOX", "INBOX/Other"):
                imap.append(box, first, message(f"alone in {box}"))
            for _ in range(2):
                for replica in (real, ours):
                    master.sync_client("-u", user, to=replica.csync).check()
                    same(master, replica, user)
                imap.select("INBOX")
                imap.store("1", "+FLAGS", "\\Seen")
        said = state_of(master.csync, user)["mailboxes"]
        assert all(int(box["XCONVMODSEQ"]) > 0 for box in said.values() if "UIDVALIDITY" in box), said


def test_beside_cyrus_s_own_client_ours_does_not_roll_and_status_says_so(
    fresh_master: BesideCyrus, target: Replica
) -> None:
    theirs = super(BesideCyrus, fresh_master).roll(to=target.csync)
    ours = fresh_master.sync_client("-R", to=target.csync)
    assert ours.status == 75, ours.describe()
    assert f"Cyrus's own sync_client (process {theirs.process.pid}: " in ours.err
    status = finish([*fresh_master._client(target.csync, None), "--status"], 60, {"env": environment()})
    assert status.status != 0 and f"process {theirs.process.pid}" in status.out, status.describe()
    theirs.stop()
    assert fresh_master.follow(target.csync).status == 0


@pytest.mark.every_release(without=("3.2", *SAME_FILES))  # the client is ours
def test_a_client_that_is_killed_again_and_again_loses_nothing(
    fresh_master: BesideCyrus, target: Replica, user: str
) -> None:
    master, chance = fresh_master, random.Random(5)
    master.create_user(user)
    for number in range(6):
        master.deliver(message(f"mail {number}", 30_000), user)
        rolling = master.roll("-d", "1", to=target.csync)
        time.sleep(chance.random() * 1.5)
        rolling.process.send_signal(signal.SIGKILL)
        rolling.process.wait()
    follow_log(master, target.csync)
    same(master, target, user)
    assert len(_records(target, user)) == 6


@pytest.mark.every_release(without=SAME_FILES)
def test_a_damaged_mailbox_is_named_and_all_others_go_on(
    fresh_master: BesideCyrus, target: Replica, user: str
) -> None:
    master, other = fresh_master, f"{user}b"
    master.create_user(user, other)
    with master.imap(user) as imap:
        imap.ok("CREATE", "INBOX/broken")
        imap.ok("CREATE", "INBOX/sound")
        imap.append("INBOX/broken", message("lost"))
        imap.append("INBOX/sound", message("kept"))
    master.deliver(message("for the other"), other)
    index = _index_of(master, user, "broken")
    octets = bytearray(index.read_bytes())
    octets[-20] ^= 0x55
    index.write_bytes(octets)
    ran = master.sync_client("-u", user, other, to=target.csync)
    assert ran.status == 1
    assert f"user.{user}.broken" in ran.err
    assert str(index) in ran.err
    there = state_of(target.csync, user)["mailboxes"]
    assert there[f"user.{user}.sound"]["RECORD"]
    assert f"user.{user}.broken" not in there
    assert len(_records(target, other)) == 1


def _index_of(master: Cyrus, user: str, folder: str) -> Path:
    server = Server.from_config(Config.load(master.config))
    entry = server.mailboxes.entry(f"user.{user}.{folder}")
    assert entry is not None
    return server.files(entry).index


@pytest.mark.every_release(without=("3.2",))  # there all scripts are files
def test_scripts_that_an_upgrade_left_as_files_are_named(fresh_master: BesideCyrus, user: str) -> None:
    master = fresh_master
    master.create_user(user)
    server = Server.from_config(Config.load(master.config))
    directory = server.paths.sieve(user, server.inbox_id(user))
    assert directory is not None
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "old.script").write_bytes(b"keep;\r\n")
    with Ours.installed("replica") as ours:
        ran = master.sync_client("-u", user, to=ours.csync)
    assert ran.status == 1
    assert f"the Sieve scripts of {user} are files of an older release" in ran.err


@pytest.mark.every_release(without=("3.2", "3.10", "3.12"))  # they keep no trace of what is deleted for good
def test_a_mailbox_that_was_deleted_for_good_goes_although_its_name_is_anothers(
    fresh_master: BesideCyrus, target: Replica, user: str
) -> None:
    master = fresh_master
    master.create_user(user)
    with master.imap(user) as imap:
        imap.ok("CREATE", "INBOX/again")
        imap.append("INBOX/again", message("first life"))
        master.sync_client("-u", user, to=target.csync).check()
        imap.ok("DELETE", "INBOX/again")
        master.tool("cyr_expire", "-E", "1", "-D", "0").check()
        imap.ok("CREATE", "INBOX/again")
        imap.append("INBOX/again", message("second life"))
    master.sync_client("-u", user, to=target.csync).check()
    same(master, target, user)


@pytest.mark.every_release(without=SAME_FILES)
def test_where_both_sides_changed_the_mailbox_is_reported_and_others_go_on(
    fresh_master: BesideCyrus, target: Replica, user: str
) -> None:
    master = fresh_master
    master.create_user(user)
    with master.imap(user) as imap:
        imap.ok("CREATE", "INBOX/both")
        imap.ok("CREATE", "INBOX/fine")
        imap.append("INBOX/both", message("one"))
    master.sync_client("-u", user, to=target.csync).check()
    there = RealSide(target) if isinstance(target, Cyrus) else OurSide(target)
    there.flag(user, "both", 1, "\\Flagged")
    there.append(user, "both", message("only there"))
    with master.imap(user) as imap:
        imap.append("INBOX/both", message("two"))
        imap.append("INBOX/fine", message("three"))
    ran = master.sync_client("-u", user, to=target.csync)
    assert ran.status == 1, ran.describe()
    assert f"user.{user}.both" in ran.err
    assert "cyrus_csync" in ran.err
    assert "-O" in ran.err
    assert state_of(target.csync, user)["mailboxes"][f"user.{user}.fine"]["RECORD"]
