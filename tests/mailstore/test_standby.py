"""``mailstore export --update``, ``-A`` and ``--follow``: trees in step with the store."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cyrus_sync.common.errors import MailboxLocked, StoreError
from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores import open_store
from cyrus_sync.common.synclog.log import SyncLog
from cyrus_sync.common.synclog.writer import log_path
from cyrus_sync.mailstore.standby.aside import purge
from cyrus_sync.mailstore.standby.command import _channel_of_ours
from cyrus_sync.mailstore.standby.dotlock import dot_locked
from cyrus_sync.mailstore.standby.follower import Follower, Trees
from cyrus_sync.mailstore.standby.ledger import Ledger
from cyrus_sync.mailstore.standby.places import place_of
from cyrus_sync.mailstore.standby.standing import read_standing, told
from cyrus_sync.mailstore.standby.status import LOCK, _is_held
from tests.deadlines import scaled, until
from tests.forking import fork
from tests.mailstore.conftest import MESSAGE, Result, Site
from tests.mailstore.damage import directory_of
from tests.mailstore.trees import stored, tree, writing

CHANNEL = 'sync_log_channels: "" standby\n'


@pytest.fixture
def alice(tmp_path: Path) -> Site:
    """A site with a user alice, her folders Work and Work/2026, mail in two of them, and a tree of it."""
    site = Site(tmp_path, CHANNEL)
    site.ok("create", "user/alice", "user/alice/Work", "user/alice/Work/2026")
    site.deliver("alice", 3)
    site.deliver("alice", 2, "-m", "Work", "-f", "Later", "-f", "\\Seen")
    site.ok("subscribe", "alice", "user/alice/Work")
    step(site)
    return site


def step(site: Site, *options: str) -> Result:
    return site.ok("export", "--update", *options, "alice", str(site.path / "vmail"))


def root(site: Site) -> Path:
    return site.path / "vmail" / "alice"


def files(site: Site, directory: str = "") -> list[Path]:
    return sorted((root(site) / directory / "cur").iterdir())


def contents(site: Site) -> dict[Path, tuple[int, bytes]]:
    """All files of the tree that are Dovecot's."""
    found = (
        path for path in root(site).rglob("*") if path.is_file() and "cyrus-sync-standby" not in path.name
    )
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in found}


def assert_in_step(site: Site) -> None:
    assert tree(root(site)) == stored(site, "alice")


@pytest.mark.covers("mailstore: commands and options", "export --update")
def test_a_tree_has_what_the_store_has_and_follows_it(alice: Site) -> None:
    assert_in_step(alice)
    with writing(alice, "alice") as writer:
        writer.set_flags("user.alice", [2], add=["\\Flagged", "Now"])
        writer.expunge("user.alice", [1])
        writer.copy("user.alice", [3], "user.alice.Work.2026")
        writer.create("user.alice.a^b")
        writer.append("user.alice.a^b", [(MESSAGE, 1_000_000_000, "\\Draft")])
        writer.subscribe("user.alice.a^b")
    step(alice)
    assert_in_step(alice)
    assert "a\\2eb" in (root(alice) / "subscriptions").read_text()


def test_a_change_of_flags_is_a_rename_and_no_other_file_is_written(alice: Site) -> None:
    before = {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in root(alice).rglob("dovecot-*")}
    inodes = {path.stat().st_ino for path in files(alice)}
    with writing(alice, "alice") as writer:
        writer.set_flags("user.alice", [2], add=["\\Flagged"])
    step(alice)
    assert_in_step(alice)
    assert {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in before} == before
    assert {path.stat().st_ino for path in files(alice)} == inodes


def test_new_messages_are_lines_at_the_end_of_the_uidlist(alice: Site) -> None:
    uidlist = root(alice) / "dovecot-uidlist"
    inode, text = uidlist.stat().st_ino, uidlist.read_text()
    alice.deliver("alice", 2)
    step(alice)
    assert uidlist.stat().st_ino == inode
    assert uidlist.read_text().startswith(text)
    assert uidlist.read_text().count("\n") == text.count("\n") + 2
    assert_in_step(alice)


def test_uids_that_were_given_and_are_gone_are_not_given_again(alice: Site) -> None:
    alice.deliver("alice", 1)
    with writing(alice, "alice") as writer:
        writer.expunge("user.alice", [4])
    step(alice)
    assert tree(root(alice))[""].next_uid == 5


def test_a_list_that_is_mostly_of_what_is_gone_is_written_anew(alice: Site) -> None:
    with writing(alice, "alice") as writer:
        writer.append("user.alice", [(MESSAGE + b"%d" % n, 10**9, "") for n in range(150)])
    step(alice)
    with writing(alice, "alice") as writer:
        writer.expunge("user.alice", range(10, 150))
    step(alice)
    assert (root(alice) / "dovecot-uidlist").read_text().count("\n") == 1 + 13
    assert_in_step(alice)


def test_a_message_that_comes_late_has_its_uid_and_indexes_go(alice: Site) -> None:
    name = alice.records("user.alice")[1]
    store = open_store(alice.config())
    with store.read(Owner("user", "alice")) as reader:
        mailbox = reader.mailbox("user.alice")
        assert mailbox is not None
    store.close()
    ledger = Ledger(root(alice))
    folder = ledger.folders()[mailbox.uniqueid]
    with ledger.change():  # as if the message could not have been read when its turn was
        entry = ledger.entry(folder, name.uid)
        assert entry is not None
        ledger.settle(folder, [entry._replace(letters=None)])
        ledger.lack(folder, [name.uid])
    (root(alice) / "cur" / entry.name).unlink()
    ledger.close()
    (root(alice) / "dovecot.index.log").write_bytes(b"knows of next UIDs")
    step(alice)
    assert_in_step(alice)
    assert not (root(alice) / "dovecot.index.log").exists()


def test_a_message_that_cannot_be_read_is_named_and_the_others_are_written(alice: Site) -> None:
    alice.ok("create", "user/alice/New")
    for pack in directory_of(alice, "alice").rglob("*pack*"):
        if pack.is_file():
            os.truncate(pack, 10)
    with writing(alice, "alice") as writer:
        writer.append("user.alice.New", [(MESSAGE + b"sound", 10**9, "")])
        writer.copy("user.alice", [1], "user.alice.New")
    result = alice.run("export", "--update", "alice", str(alice.path / "vmail"))
    assert result.status == 1
    assert "user.alice.New uid 2" in result.err
    assert len(files(alice, ".New")) == 1
    assert tree(root(alice))[".New"].next_uid == 3


def test_more_keywords_than_letters_are_named_and_letters_are_used_again(alice: Site) -> None:
    words = [f"word{number:02}" for number in range(27)]
    with writing(alice, "alice") as writer:
        writer.append("user.alice.Work.2026", [(MESSAGE + w.encode(), 10**9, w) for w in words])
    assert "1 messages have more" in step(alice).err
    assert (root(alice) / ".Work.2026" / "cyrus-sync-keywords").read_text().startswith("word26 :")
    with writing(alice, "alice") as writer:
        writer.expunge("user.alice.Work.2026", [1])
    step(alice)
    step(alice)  # now the letter of word00 is known to be free
    with writing(alice, "alice") as writer:
        writer.set_flags("user.alice.Work.2026", [27], add=["\\Seen"])
    step(alice)
    assert_in_step(alice)
    assert not (root(alice) / ".Work.2026" / "cyrus-sync-keywords").exists()


def test_keywords_that_differ_in_case_alone_are_one_as_dovecot_has_it(alice: Site) -> None:
    with writing(alice, "alice") as writer:
        writer.append("user.alice", [(MESSAGE + b"1", 10**9, "Junk"), (MESSAGE + b"2", 10**9, "junk")])
    step(alice)
    assert (root(alice) / "dovecot-keywords").read_text() == "0 Junk\n"


def test_another_uidvalidity_makes_the_folder_anew(alice: Site) -> None:
    store = open_store(alice.config())
    box = alice.mailbox("user.alice.Work")
    store.rename("user.alice.Work", "user.alice.Jobs", uidvalidity=box.uidvalidity + 5, log=True)
    store.close()
    step(alice)
    assert_in_step(alice)
    assert tree(root(alice))[".Jobs"].uidvalidity == box.uidvalidity + 5


def test_names_in_a_circle_change_places_and_nothing_is_copied(alice: Site) -> None:
    inodes = {path.stat().st_ino for path in files(alice, ".Work")}
    store = open_store(alice.config())
    for old, new in (("Work", "x"), ("Work.2026", "Work"), ("x", "Work.2026")):
        store.rename(f"user.alice.{old}", f"user.alice.{new}", log=True)
    store.close()
    step(alice)
    assert_in_step(alice)
    assert {path.stat().st_ino for path in files(alice, ".Work.2026")} == inodes


@pytest.mark.covers("mailstore: commands and options", "export --keep")
def test_folders_that_are_gone_are_kept_aside_for_a_time(alice: Site) -> None:
    alice.ok("delete", "user/alice/Work")
    step(alice)
    assert_in_step(alice)
    (kept,) = (root(alice) / "cyrus-sync-deleted").iterdir()
    assert kept.name.endswith(".Work")
    assert len(list((kept / "cur").iterdir())) == 2
    kept.rename(kept.with_name(f"{int(time.time()) - 8 * 86400}.Work"))
    step(alice)
    assert not list((root(alice) / "cyrus-sync-deleted").iterdir())


def test_the_tree_of_a_user_who_is_gone_is_kept_aside_for_a_time(alice: Site) -> None:
    alice.ok("delete", "user/alice")
    alice.ok("export", "-A", str(alice.path / "vmail"))
    (kept,) = (alice.path / "vmail").iterdir()
    assert kept.name.startswith("alice.deleted-")
    assert len(list((kept / "cur").iterdir())) == 3


# -- what others write


@pytest.mark.covers("mailstore: commands and options", "export --anew")
def test_a_tree_that_was_written_to_is_named_and_nothing_of_it_is_changed(alice: Site) -> None:
    (root(alice) / "new" / "1.a.host").write_bytes(b"Subject: after the fire\n\n")
    flagged = files(alice, ".Work")[0]
    flagged.rename(flagged.with_name(flagged.name + "T"))
    files(alice)[0].unlink()
    alice.deliver("alice", 1)
    before = contents(alice)
    result = alice.run("export", "--update", "alice", str(alice.path / "vmail"))
    assert result.status == 1
    assert "INBOX: messages: 1 new, 1 expunged" in result.err
    assert ".Work: messages: 1 with other flags" in result.err
    assert "--anew" in result.err
    assert contents(alice) == before

    step(alice, "--anew")
    assert_in_step(alice)
    (aside,) = (alice.path / "vmail").glob("alice.written-*")
    assert (aside / "new" / "1.a.host").read_bytes() == b"Subject: after the fire\n\n"
    alice.ok("import", "--create", "copy", str(aside))


def test_what_others_wrote_and_the_store_has_too_is_taken_over(alice: Site) -> None:
    """So is a tree whose ledger is lost, or that was there before us: a master that becomes a standby."""
    (root(alice) / "cyrus-sync-standby.sqlite").unlink()
    message = files(alice)[0]
    message.write_bytes(message.read_bytes().replace(b"\r\n", b"\n"))  # as Dovecot has them
    inode = message.stat().st_ino
    step(alice)
    assert message.stat().st_ino == inode
    assert not list((alice.path / "vmail").glob("alice.written-*"))


def test_folders_of_others_are_named_unless_they_are_empty(alice: Site) -> None:
    for name in (".Drafts", ".Own"):
        for part in ("cur", "new", "tmp"):
            (root(alice) / name / part).mkdir(parents=True)
    alice.ok("create", "user/alice/Drafts")
    step(alice)
    (root(alice) / ".Own" / "cur" / "1.a.h:2,").write_bytes(MESSAGE)
    result = alice.run("export", "--update", "alice", str(alice.path / "vmail"))
    assert result.status == 1
    assert ".Own: a folder that the store has not, messages: 1" in result.err
    step(alice, "--anew")
    assert not (root(alice) / ".Own").exists()
    assert_in_step(alice)


def test_who_is_written_to_stops_nobody_else(alice: Site) -> None:
    alice.ok("create", "user/bruno")
    alice.ok("export", "-A", str(alice.path / "vmail"))
    (root(alice) / "new" / "1.a.host").write_bytes(b"x")
    alice.deliver("bruno", 1)
    result = alice.run("export", "-A", str(alice.path / "vmail"))
    assert result.status == 1
    assert tree(alice.path / "vmail" / "bruno") == stored(alice, "bruno")
    assert "1 user is in step" in result.out


# -- crashes

_EVENTS = {"os.rename", "os.remove", "os.utime", "open", "os.mkdir", "os.link", "os.listdir", "os.chmod"}


def _dies_at(site: Site, number: int) -> bool:
    """Whether a step was killed at its `number`-th act on the tree."""

    def job() -> int:
        count = 0

        def hook(event: str, arguments: tuple[object, ...]) -> None:
            nonlocal count
            if event in _EVENTS and arguments and "/vmail/" in str(arguments[0]):
                count += 1
                if count == number:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)
        step(site)
        return 0

    return os.waitstatus_to_exitcode(os.waitpid(fork(job), 0)[1]) != 0


@pytest.mark.covers("mailstore: commands and options", "export --update")
@pytest.mark.parametrize("first", [1, 4])
def test_a_step_that_was_killed_anywhere_is_done_again_without_harm(alice: Site, first: int) -> None:
    number, turn = first, 0
    while number < 60:
        turn += 1
        with writing(alice, "alice") as writer:
            live = writer.live_uids(alice.mailbox("user.alice").uniqueid)
            writer.append("user.alice", [(MESSAGE + b"%d %d" % (turn, first), 10**9 + turn, f"k{turn}")])
            writer.set_flags(
                "user.alice", live[:1], add=["\\Flagged"] if turn % 2 else [], remove=["\\Flagged"]
            )
            writer.expunge("user.alice", live[1:2])
            writer.copy("user.alice", live[-1:], "user.alice.Work")
            writer.create(f"user.alice.n{turn}")
        if not _dies_at(alice, number):
            break
        if turn % 2:  # and what was half done has changed again since
            with writing(alice, "alice") as writer:
                writer.set_flags("user.alice", live, add=["\\Answered", "late"])
        step(alice)
        assert_in_step(alice)
        number += 6
    assert turn > 3


# -- locks


def test_a_lock_of_dovecot_is_waited_for_and_one_of_the_dead_is_broken(tmp_path: Path) -> None:
    lock = tmp_path / "x.lock"
    lock.write_text(f"{os.getppid()}:{os.uname().nodename}")
    with pytest.raises(MailboxLocked, match=str(os.getppid())), dot_locked(tmp_path / "x", 0.05):
        pass
    gone = subprocess.Popen(["true"])
    gone.wait()
    lock.write_text(f"{gone.pid}:{os.uname().nodename}")
    os.utime(lock, (1, 1))
    began = time.monotonic()
    with dot_locked(tmp_path / "x"):  # its age is also that of its inode
        assert lock.read_text() == f"{os.getpid()}:{os.uname().nodename}"
    assert time.monotonic() - began > 1.5
    assert not lock.exists()


# -- following


def follower(site: Site, directory: str = "") -> Follower:
    store = open_store(site.config(), readonly=True)
    trees = Trees(store, lambda owner: site.path / "vmail" / owner.name, 86400, lambda _owner, _text: None)
    log = SyncLog(log_path(site.config(), "standby"))
    everybody = lambda: [Owner("user", "alice"), Owner("user", "bruno")]  # noqa: E731
    pool = ThreadPoolExecutor(2)
    return Follower(trees, log, everybody, lambda owner: owner.kind == "user", pool, directory=directory)


def test_who_is_named_in_the_log_is_followed_and_a_failure_is_tried_again(alice: Site) -> None:
    alice.ok("create", "user/bruno")
    one = follower(alice)
    clock = [time.time()]
    one.trees.clock = lambda: clock[0]
    thread = threading.Thread(target=one.run)
    thread.start()
    try:
        until((alice.path / "vmail" / "bruno" / "cur").is_dir, "all are looked at first")
        until(lambda: not (alice.path / "conf/sync/standby/log-run").exists(), "the log is done")
        (root(alice) / "cur" / "1.x.h:2,").write_bytes(b"x")
        alice.deliver("alice", 1)
        alice.deliver("bruno", 1)
        until(lambda: len(list((alice.path / "vmail/bruno/cur").iterdir())) == 1, "bruno is followed")
        until(lambda: Owner("user", "alice") in one.troubles, "alice is in trouble")
        until(lambda: one.standing().waiting == 0, "nobody is looked at")
        standing = one.standing()
        assert standing.not_in_step == 1 and standing.failures >= 1 and standing.brought >= 3
        assert standing.swept and standing.oldest is not None and standing.oldest <= clock[0]
        (root(alice) / "cur" / "1.x.h:2,").unlink()
        clock[0] += 3600
        until(lambda: not one.troubles, "alice is tried again")
        assert_in_step(alice)
        until(lambda: not (alice.path / "conf/sync/standby/log-run").exists(), "the log is done")
        until(lambda: one.standing().oldest is None, "all is written")
    finally:
        one.stop.set()
        thread.join()
        one.pool.shutdown()
        one.trees.store.close()


def out_of_order(*_: object) -> bytes:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


@pytest.mark.parametrize("what", ["SyncLog._claim", "ClaimedLog.read", "ClaimedLog.finish"])
def test_a_log_that_fails_for_a_time_lets_nobody_out(
    alice: Site, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    alice.ok("create", "user/bruno")
    monkeypatch.setattr("cyrus_sync.mailstore.standby.follower.FIRST_PAUSE", 0.01)
    one, told = follower(alice), list[str]()
    one.status = told.append
    thread = threading.Thread(target=one.run)
    try:
        with monkeypatch.context() as failing:
            failing.setattr(f"cyrus_sync.common.synclog.log.{what}", out_of_order)
            thread.start()
            until(lambda: len(told) > 2 or not thread.is_alive(), "it tries again")
            assert thread.is_alive()
            assert all("Input/output error" in text for text in told)
        until(lambda: told[-1] == "all in step", "all are looked at")
        assert (alice.path / "vmail" / "bruno" / "cur").is_dir()
    finally:
        one.stop.set()
        thread.join()
        one.pool.shutdown()
        one.trees.store.close()


@pytest.mark.covers("mailstore: commands and options", "export --follow")
@pytest.mark.covers("mailstore: commands and options", "export -j")
def test_the_command_follows_until_a_signal(alice: Site) -> None:
    command = [
        sys.executable,
        "-c",
        "import sys; from cyrus_sync.mailstore.cli import main; sys.exit(main())",
    ]
    (alice.path / "node").mkdir()
    with alice.conf.open("a") as conf:
        conf.write(f"sync_metrics_file: {alice.path}/node\n")
    words = ["-C", str(alice.conf), "export", "--follow", "-e", "-v", "-j", "2", str(alice.path / "vmail/%u")]
    process = subprocess.Popen([*command, *words], stderr=subprocess.PIPE)
    try:
        alice.deliver("alice", 1)
        until(lambda: len(files(alice)) == 4, "the message is there")
        second = subprocess.run([*command, *words], capture_output=True, check=False, timeout=scaled(20))
        assert second.returncode == 75
        assert b"another mailstore export --follow works on" in second.stderr
        process.terminate()
        assert process.wait(scaled(10)) == 0
    finally:
        process.kill()
        process.communicate()
    assert_in_step(alice)
    told = (alice.path / "node/cyrus_sync_standby-standby.prom").read_text()
    assert 'cyrus_sync_standby_oldest_change_age_seconds{channel="standby"} 0.0' in told
    assert "alice" not in told
    found = read_standing(alice.path / "conf/sync/standby/standby.json")
    assert found is not None and found.brought >= 1 and found.oldest is None


def test_who_asks_for_the_status_keeps_nobody_from_following(tmp_path: Path) -> None:
    asked = os.open(tmp_path / LOCK, os.O_RDWR | os.O_CREAT)
    fcntl.flock(asked, fcntl.LOCK_SH)
    assert not _is_held(tmp_path / LOCK), "another who asks is nobody who follows"
    threading.Timer(0.1, os.close, (asked,)).start()
    with _channel_of_ours(tmp_path):
        assert _is_held(tmp_path / LOCK)


@pytest.mark.covers("mailstore: commands and options", "export --status")
def test_the_status_says_who_is_not_in_step_and_why_fit_for_nagios(alice: Site) -> None:
    def status(*words: str) -> tuple[int, str, list[list[str]]]:
        done = alice.run("export", "--status", *words)
        rows = [re.split("  +", line) for line in done.lines if "  " in line][1:]
        return done.status, done.lines[0], rows

    assert status() == (
        3,
        "STANDBY UNKNOWN - nothing has followed the channel standby: mailstore export --follow does",
        [],
    )
    alice.ok("create", "user/bruno")
    one, config = follower(alice, str(alice.path / "vmail")), alice.config()
    directory = log_path(config, "standby").parent

    def write() -> None:
        with told(one.standing, config, directory):
            """Once at its end at the latest."""

    with _channel_of_ours(directory):
        write()
        assert "not all users were looked at yet" in status()[1]
        worker = threading.Thread(target=one.run)
        worker.start()
        until(
            lambda: one.standing().swept and not one.log.path.exists(),
            "all are looked at, and the log is done",
        )
        one.stop.set()
        worker.join()
        write()
        assert status()[:2] == (0, "STANDBY OK - all are in step")
        assert status("alice", "bruno")[2] == [
            ["alice", "in step", "0 of 3 mailboxes", "-", "-", "-", "-"],
            ["bruno", "in step", "0 of 1 mailboxes", "-", "-", "-", "-"],
        ]
        alice.deliver("alice", 1)
        patient = ("--warning", "1h", "--critical", "2h")
        assert status("alice", *patient)[:2] == (0, "STANDBY OK - alice is behind"), "for a moment"
        assert status("--warning", "0", "--critical", "1h", "alice")[:2] == (
            1,
            "STANDBY WARNING - alice is behind",
        )
        assert status("--critical", "0")[0] == 2
        assert status("alice")[2][0][:3] == ["alice", "behind", "1 of 3 mailboxes"]
        assert status("carol")[:2] == (3, "STANDBY UNKNOWN - carol is not here")
        one._failed(Owner("user", "alice"), StoreError("somebody has written"))
        write()
        number, line, (row,) = status(*patient)
        assert (number, line) == (1, "STANDBY WARNING - 1 user is not in step")
        assert row[:3] == ["alice", "not in step", "-"] and row[4] == "1" and row[6] == "somebody has written"
        (user,) = json.loads(alice.run("export", "--status", "--format", "json", "alice").out)["users"]
        assert (user["state"], user["behind"], user["tries"]) == ("not in step", ["user.alice"], 1)
    assert status()[0] == 2 and "no mailstore export --follow is running" in status()[1]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--status", "--update", "alice", "x"], "--status takes USERs"),
        (["--status", "--warning", "soon"], "--warning: 'soon' is not a duration"),
        (["--format", "json", "alice", "x"], "is of --status"),
        ([], "DIR is lacking"),
        (["--follow", "--anew", "x"], "--anew is not for --follow"),
        (["-A", "alice", "x"], "-A goes with DIR alone"),
        (["--update", "x"], "takes USERs"),
        (["-A", "x/%d"], "would have one tree"),
        (["-A", "x/%h"], "%h is none of"),
        (["-A", "--format", "mbox", "x"], "are Maildirs"),
        (["x"], "USER DIR"),
    ],
)
def test_command_lines_without_a_meaning_are_refused(alice: Site, words: list[str], said: str) -> None:
    result = alice.run("export", *words)
    assert result.status == 64
    assert said in result.err


def test_a_channel_that_nobody_logs_for_is_refused(alice: Site) -> None:
    result = alice.run("export", "--follow", "-n", "other", str(alice.path / "vmail"))
    assert result.status == 78
    assert "sync_log_channels" in result.err


def test_trees_are_where_a_pattern_of_dovecot_says() -> None:
    assert place_of("/v/%d/%n/Maildir", "al@x.org") == Path("/v/x.org/al/Maildir")
    assert place_of("/v", "al@x.org") == Path("/v/al@x.org")
    assert place_of("/v/100%%", "al@x.org") == Path("/v/100%/al@x.org"), "that tells nobody apart"
    with pytest.raises(Exception, match="no directory"):
        place_of("/v/%u", "..")
    with pytest.raises(Exception, match="no directory"):
        place_of("/v/%%", "..")


def test_what_is_put_aside_is_removed_by_the_name_of_its_owner_and_no_pattern(tmp_path: Path) -> None:
    own, others = tmp_path / "a[lx].deleted-1", tmp_path / "al.deleted-1"
    own.mkdir()
    others.mkdir()
    purge(tmp_path / "a[lx]", now=1000, keep=10)
    assert not own.exists()
    assert others.exists()
