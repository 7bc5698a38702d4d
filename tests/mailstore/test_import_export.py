import io
from pathlib import Path

import pytest

from cyrus_sync.common import progress
from cyrus_sync.common.config import Config
from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores import open_store
from cyrus_sync.mailstore import importer
from cyrus_sync.mailstore.cli import main
from cyrus_sync.mailstore.importer import Importer
from cyrus_sync.mailstore.sources import open_source
from tests.mailstore.conftest import Site
from tests.mailstore.test_sources import MBOX, maildir, put


@pytest.fixture
def box(tmp_path: Path) -> Path:
    """A Maildir with folders, flags, a keyword, the same message twice, an empty folder."""
    path = tmp_path / "Maildir"
    maildir(path)
    maildir(path / ".Work.2026")
    maildir(path / ".Empty")
    for number in range(7):
        put(
            path / "cur" / f"{number}.a:2,{'S' if number % 2 else ''}",
            b"Subject: %d\n\n" % number,
            1600000000 + number,
        )
    put(path / "new" / "9.a", b"Subject: 3\n\n")
    put(path / ".Work.2026" / "cur" / "1.a:2,Fa", b"Subject: w\n\n")
    (path / ".Work.2026" / "dovecot-keywords").write_text("0 Later\n")
    (path / "subscriptions").write_text("Work.2026\nEmpty\nNowhere\n")
    return path


@pytest.mark.covers("mailstore: commands and options", "import")
def test_an_import_keeps_folders_flags_dates_and_subscriptions(alice: Site, box: Path) -> None:
    assert alice.ok("import", "alice", str(box)).lines == ["9 messages imported into 3 mailboxes"]
    assert alice.mailboxes("user.alice") == [
        "user.alice",
        "user.alice.Empty",
        "user.alice.Work",
        "user.alice.Work.2026",
    ]
    records = alice.records("user.alice")
    assert [record.internaldate for record in records[:7]] == [1600000000 + number for number in range(7)]
    assert [record.flags for record in records] == ["", "\\Seen", "", "\\Seen", "", "\\Seen", "", ""]
    assert alice.records("user.alice.Work.2026")[0].flags == "\\Flagged Later"
    assert alice.ok("subscribe", "alice").lines == ["user/alice/Empty", "user/alice/Work/2026"]
    log = alice.log()
    assert ("MAILBOX", "user.alice.Work.2026") in log and ("SUB", "alice", "user.alice.Empty") in log


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.covers("mailstore: commands and options", "import --no-progress", "verify --no-progress")
@pytest.mark.parametrize("command", ["import", "verify"])
def test_progress_is_shown_on_a_terminal_unless_it_is_not_wanted(
    alice: Site, box: Path, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "FIRST_SECONDS", 0.0)
    shown = []
    for option in ([], ["--no-progress"]):
        argv = [
            "-C",
            str(alice.conf),
            command,
            *option,
            *(["alice", str(box)] if command == "import" else []),
        ]
        terminal = Terminal()
        assert main(argv, stdout=io.StringIO(), stderr=terminal) == 0
        shown.append(terminal.getvalue())
    named = "mailstore: subscription to Nowhere left out: there is no such folder\n"
    assert ("importing" if command == "import" else "checking") in shown[0].replace(named, "")
    assert not shown[1].replace(named, "")


@pytest.mark.covers("mailstore: commands and options", "import")
def test_importing_again_adds_nothing(alice: Site, box: Path) -> None:
    alice.ok("import", "alice", str(box))
    alice.log()
    result = alice.ok("import", "alice", str(box))
    assert result.lines == ["0 messages imported into 3 mailboxes, 9 were there already"]
    assert len(alice.records("user.alice")) == 8
    assert alice.log() == []


def test_an_interrupted_import_goes_on_where_it_was(
    alice: Site, box: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importer, "BATCH_MESSAGES", 3)
    store = open_store(Config.load(alice.conf, "mailstore"))

    class Cut(Exception):
        pass

    def progress(octets: int) -> None:
        raise Cut

    with pytest.raises(Cut):
        Importer(store, "user.alice", progress).run(open_source(box, print))
    store.close()
    assert len(alice.records("user.alice")) == 3
    assert alice.ok("import", "alice", str(box)).lines == [
        "6 messages imported into 3 mailboxes, 3 were there already"
    ]
    assert len(alice.records("user.alice")) == 8


def test_progress_counts_every_octet_of_the_source(alice: Site, box: Path) -> None:
    store = open_store(Config.load(alice.conf, "mailstore"))
    source, seen = open_source(box, print), []
    Importer(store, "user.alice", seen.append).run(source)
    store.close()
    assert sum(seen) == source.size()


@pytest.mark.covers("mailstore: commands and options", "import")
def test_the_target_can_be_a_folder_or_a_shared_mailbox(alice: Site, tmp_path: Path) -> None:
    (tmp_path / "old.mbox").write_bytes(MBOX)
    result = alice.run("import", "alice/Work", str(tmp_path / "old.mbox"))
    assert (result.status, result.lines) == (1, ["3 messages imported into 1 mailbox"])
    assert "message 5 left out" in result.err
    assert len(alice.records("user.alice.Work")) == 3
    assert alice.run("import", "shared:board", str(tmp_path / "old.mbox")).status == 67
    alice.run("import", "--create", "shared:board/2026", str(tmp_path / "old.mbox"))
    assert len(alice.records("board.2026")) == 3
    assert alice.run("import", "user/alice/None", str(tmp_path / "old.mbox")).status == 67


@pytest.mark.covers("mailstore: commands and options", "import --create")
def test_a_user_is_made_only_when_told(site: Site, box: Path) -> None:
    result = site.run("import", "bob", str(box))
    assert result.status == 67
    assert "--create makes one" in result.err
    site.ok("import", "--create", "bob@example.org/Old mail", str(box))
    assert site.mailboxes("example.org!user.bob")[:2] == [
        "example.org!user.bob",
        "example.org!user.bob.Old mail",
    ]


@pytest.mark.covers("Exit statuses", "mailstore 66")
def test_a_source_that_is_not_there_is_exit_66(alice: Site) -> None:
    assert alice.run("import", "alice", "/nowhere/mail").status == 66


# -- export


def dump_of(site: Site, user: str) -> dict[str, list[tuple[object, ...]]]:
    """Everything of a user's messages that must survive a Maildir, by folder."""
    store = open_store(site.config(), readonly=True)
    with store.read(Owner("user", user)) as reader:
        found = {
            mailbox.name.removeprefix(f"user.{user}"): [
                (r.guid, sorted(r.flags.split()), r.internaldate)
                for batch in reader.records(mailbox.uniqueid)
                for r in batch
                if not r.expunged
            ]
            for mailbox in reader.mailboxes()
            if not mailbox.name.endswith("#sieve")
        }
    store.close()
    return found


@pytest.mark.covers("mailstore: commands and options", "export")
@pytest.mark.parametrize("user", ["alice", "bruno"])
def test_a_maildir_that_was_exported_comes_back_the_same(site: Site, user: str) -> None:
    site.ok("sample")
    site.ok("export", user, str(site.path / "out"))
    site.ok("import", "--create", "copy", str(site.path / "out"))
    assert dump_of(site, "copy") == dump_of(site, user)
    names = [name.replace(f"user/{user}", "user/copy") for name in site.ok("subscribe", user).lines]
    assert site.ok("subscribe", "copy").lines == [name for name in names if name.startswith("user/copy")]


@pytest.mark.covers("mailstore: commands and options", "export")
def test_an_mbox_export_holds_text_and_flags(alice: Site) -> None:
    raw = b"Subject: x\r\n\r\nFrom here\r\n>From there\r\n"
    alice.ok("create", "user/alice/\u00dcber", "user/alice/Work/Sub.dot")
    alice.ok(
        "deliver", "alice", "-m", "Work/Sub.dot", "-f", "\\Seen", "-f", "\\Flagged", "-f", "Later", stdin=raw
    )
    assert alice.ok("export", "alice", str(alice.path / "out"), "--format", "mbox").lines == [
        f"1 message of 4 mailboxes written to {alice.path}/out"
    ]
    text = (alice.path / "out" / "Work.sbd" / "Sub.dot.mbox").read_bytes()
    assert text.startswith(b"From MAILER-DAEMON ")
    assert text.partition(b"\n")[2] == (
        b"X-IMAPbase: %d 1\nX-UID: 1\nStatus: RO\nX-Status: F\nX-Keywords: Later\n"
        b"Subject: x\n\n>From here\n>>From there\n\n" % alice.mailbox("user.alice.Work.Sub^dot").uidvalidity
    )
    assert (alice.path / "out" / "\u00dcber.mbox").read_bytes() == b""
    alice.ok("import", "--create", "copy", str(alice.path / "out"))
    (record,) = alice.records("user.copy.Work.Sub^dot")
    assert record.guid == alice.records("user.alice.Work.Sub^dot")[0].guid
    assert record.flags == "\\Flagged \\Seen Later"


def test_export_writes_only_into_an_empty_directory(alice: Site) -> None:
    (alice.path / "out").mkdir()
    (alice.path / "out" / "x").touch()
    assert alice.run("export", "alice", str(alice.path / "out")).status == 65
    assert alice.run("export", "bob", str(alice.path / "new")).status == 67
    assert not (alice.path / "new").exists()


@pytest.mark.covers("Exit statuses", "mailstore 1")
def test_a_message_that_is_missing_is_named_and_the_rest_is_written(alice: Site) -> None:
    alice.deliver("alice", 3)
    store = open_store(alice.config())
    with store.transaction(Owner("user", "alice")) as transaction:
        transaction.change()
        guid = alice.records("user.alice")[1].guid
        transaction.db.execute("DELETE FROM messages WHERE guid = ?", (guid,))
    store.close()
    result = alice.run("export", "alice", str(alice.path / "out"))
    assert result.status == 1
    assert "uid 2: the message is missing" in result.err
    assert len(list((alice.path / "out" / "cur").iterdir())) == 2


def test_an_export_gives_all_that_is_sound_and_names_the_rest(alice: Site, tmp_path: Path) -> None:
    alice.deliver("alice", 5)
    (pack,) = (tmp_path / "spool").rglob("pack-000001.zst")
    data = bytearray(pack.read_bytes())
    data[len(data) // 2] ^= 0xFF
    pack.write_bytes(data)
    done = alice.run("export", "alice", str(tmp_path / "out"))
    assert done.status == 1 and "4 messages of 2 mailboxes written" in done.out
    assert done.err.count("cannot be read") == 1 and "user.alice uid" in done.err


def test_dates_that_no_cyrus_can_keep_become_the_nearest_and_are_said_once(
    alice: Site, tmp_path: Path
) -> None:
    maildir(tmp_path / "md")
    for number, when in enumerate([-5, 0, 1, 2**32 - 1, 2**32, 2**33]):
        put(tmp_path / "md" / "cur" / f"{number}.a:2,", b"Subject: %d\n\n" % number, when)
    kept = [int((tmp_path / "md" / "cur" / f"{n}.a:2,").stat().st_mtime) for n in range(6)]
    result = alice.run("import", "alice", str(tmp_path / "md"))
    dates = [record.internaldate for record in alice.records("user.alice")]
    assert dates == [min(max(when, 1), 2**32 - 1) for when in kept]
    changed = sum(date != when for date, when in zip(dates, kept, strict=True))
    assert result.err.count("outside of 1970 to 2106") == 1
    assert f"{changed} messages have dates" in result.err
