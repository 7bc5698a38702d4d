"""A second import: what it says without --update, what it does with it, and what it never touches."""

import os
import shutil
from pathlib import Path

import pytest

from cyrus_sync.mailstore.earlier import as_ranges, of_ranges
from cyrus_sync.mailstore.maildir.uidlist import write_uidlist
from tests.mailstore.conftest import Site
from tests.mailstore.test_sources import maildir, put

GUIDS = {"": "a" * 32, ".Work": "b" * 32, ".Old": "c" * 32}


@pytest.fixture
def box(tmp_path: Path) -> Path:
    """A Maildir that Dovecot has served: an INBOX of four messages, two folders."""
    path = tmp_path / "Maildir"
    for number, (name, guid) in enumerate(GUIDS.items()):
        folder = path / name if name else path
        maildir(folder)
        entries = []
        for uid in (3, 5, 8, 13):
            base = f"{uid}.M{uid}P1.h"
            put(folder / "cur" / f"{base}:2,{'S' if uid == 5 else ''}", b"Subject: %d %d\n\n" % (number, uid))
            entries.append((uid, base))
        (folder / "dovecot-uidlist").write_bytes(write_uidlist(1700000000 + number, 21, guid, entries))
    (path / "subscriptions").write_text("V\t2\n\nWork\n")
    return path


@pytest.fixture
def plain(box: Path) -> Path:
    """The same without Dovecot's files."""
    for list_ in box.rglob("dovecot-uidlist"):
        list_.unlink()
    return box


def uids(site: Site, name: str) -> list[int]:
    return [record.uid for record in site.records(name)]


def test_uids_and_uidvalidity_of_a_dovecot_are_kept(site: Site, box: Path) -> None:
    result = site.ok("import", "--create", "alice", str(box))
    assert result.err == ""
    for number, name in enumerate(("user.alice", "user.alice.Work", "user.alice.Old")):
        assert uids(site, name) == [3, 5, 8, 13]
        state = site.mailbox(name)
        assert (state.uidvalidity, state.last_uid) == (1700000000 + number, 20)
    assert [record.flags for record in site.records("user.alice")] == ["", "\\Seen", "", ""]


def test_an_empty_mailbox_that_is_there_takes_them_over_and_a_used_one_does_not(
    site: Site, box: Path
) -> None:
    site.ok("create", "user/alice", "user/alice/Work", "user/alice/Old")
    site.deliver("alice", 1, "-m", "Work")
    before = site.mailbox("user.alice.Work").uidvalidity
    result = site.ok("import", "alice", str(box))
    assert site.mailbox("user.alice").uidvalidity == 1700000000
    assert uids(site, "user.alice") == [3, 5, 8, 13]
    assert site.mailbox("user.alice.Work").uidvalidity == before
    assert uids(site, "user.alice.Work") == [1, 2, 3, 4, 5]
    assert result.err == (
        "mailstore: user.alice.Work: the UIDs of the source are not kept: the mailbox has its own\n"
    )


def test_an_import_in_two_parts_keeps_uids_too(site: Site, box: Path) -> None:
    late = box / "cur" / "8.M8P1.h:2,"
    late.rename(box / "tmp" / "late")
    site.ok("import", "--create", "alice", str(box))
    assert uids(site, "user.alice") == [3, 5, 13]
    (box / "tmp" / "late").rename(late)
    put(box / "new" / "99.new", b"new\n\n")
    result = site.ok("import", "alice", str(box))
    assert result.lines == ["2 messages imported into 3 mailboxes, 11 were there already"]
    # 8 lies below what clients have seen: a message that comes there would never be noticed.
    assert uids(site, "user.alice") == [3, 5, 13, 21, 22]
    assert "user.alice: 1 messages have new UIDs: theirs were taken" in result.err


def change(box: Path) -> None:
    """Flags changed, a message gone, one new, a folder renamed, one gone."""
    (box / "cur" / "3.M3P1.h:2,").rename(box / "cur" / "3.M3P1.h:2,FS")
    (box / "cur" / "5.M5P1.h:2,S").rename(box / "cur" / "5.M5P1.h:2,")
    (box / "cur" / "8.M8P1.h:2,").unlink()
    put(box / "cur" / "30.M1P1.h:2,R", b"new\n\n")
    (box / ".Work").rename(box / ".Project.2026")
    shutil.rmtree(box / ".Old")
    (box / "subscriptions").write_text("V\t2\n\nProject\t2026\n")


def test_without_update_it_is_said_what_differs_and_nothing_is_doubled(site: Site, box: Path) -> None:
    site.ok("import", "--create", "alice", str(box))
    change(box)
    site.log()
    result = site.run("import", "alice", str(box))
    assert result.status == 1
    assert result.lines == ["5 messages imported into 2 mailboxes, 3 were there already"]
    assert sorted(result.err.splitlines()) == [
        "mailstore: Old: the folder is no longer in the source (import --update follows)",
        "mailstore: Work: the folder is no longer in the source (import --update follows)",
        "mailstore: user.alice: 2 messages have other flags in the source, 1 messages are no longer in the "
        "source (import --update follows)",
    ]
    assert [r.flags for r in site.records("user.alice")] == ["", "\\Seen", "", "", "\\Answered"]


@pytest.mark.covers("mailstore: commands and options", "import --update")
def test_with_update_the_mailboxes_follow(site: Site, box: Path) -> None:
    site.ok("import", "--create", "alice", str(box))
    uniqueid = site.mailbox("user.alice.Work").uniqueid
    change(box)
    site.log()
    result = site.ok("import", "--update", "alice", str(box))
    assert result.lines == [
        "1 message imported into 2 mailboxes, 7 were there already, 2 got other flags, 5 expunged, "
        "1 mailboxes renamed, 1 mailboxes deleted"
    ]
    assert [(r.uid, r.flags) for r in site.records("user.alice")] == [
        (3, "\\Flagged \\Seen"),
        (5, ""),
        (13, ""),
        (21, "\\Answered"),
    ]
    state = site.mailbox("user.alice.Project.2026")
    assert (state.uniqueid, state.uidvalidity) == (uniqueid, 1700000001)
    assert uids(site, "user.alice.Project.2026") == [3, 5, 8, 13]
    live = [name for name in site.mailboxes("user.alice") if not name.startswith("DELETED")]
    assert [name for name in live if name.startswith(("user.alice.Work", "user.alice.Old"))] == []
    assert site.ok("subscribe", "alice").lines == ["user/alice/Project/2026"]
    assert ("MAILBOX", "user.alice") in site.log()
    again = site.ok("import", "--update", "alice", str(box))
    assert again.lines == ["0 messages imported into 2 mailboxes, 8 were there already"]
    assert site.log() == []


def test_a_source_without_guids_follows_by_contents(site: Site, plain: Path) -> None:
    site.ok("import", "--create", "alice", str(plain))
    uniqueid = site.mailbox("user.alice.Work").uniqueid
    (plain / ".Work").rename(plain / ".Project")
    (plain / ".Project" / "cur" / "3.M3P1.h:2,").unlink()
    put(plain / ".Project" / "new" / "40.x", b"new\n\n")
    (plain / ".Empty" / "cur").mkdir(parents=True)
    site.ok("import", "--update", "alice", str(plain))
    assert site.mailbox("user.alice.Project").uniqueid == uniqueid
    assert uids(site, "user.alice.Project") == [2, 3, 4, 5]


def test_folders_that_changed_names_with_one_another_follow(site: Site, box: Path) -> None:
    site.ok("import", "--create", "alice", str(box))
    before = {name: site.mailbox(f"user.alice.{name}").uniqueid for name in ("Work", "Old")}
    (box / ".Work").rename(box / "aside")
    (box / ".Old").rename(box / ".Work")
    (box / "aside").rename(box / ".Old")
    assert "2 mailboxes renamed" in site.ok("import", "--update", "alice", str(box)).out
    assert site.mailbox("user.alice.Work").uniqueid == before["Old"]
    assert site.mailbox("user.alice.Old").uniqueid == before["Work"]
    assert len(site.mailboxes("user.alice")) == 3


def test_what_did_not_come_from_the_source_is_left_alone(site: Site, box: Path) -> None:
    site.ok("import", "--create", "alice", str(box))
    site.deliver("alice", 2)
    site.deliver("alice", 1, "-m", "Old")
    site.ok("create", "user/alice/Mine")
    site.deliver("alice", 1, "-m", "Mine")
    (box / "cur" / "8.M8P1.h:2,").unlink()
    shutil.rmtree(box / ".Old")
    result = site.ok("import", "--update", "alice", str(box))
    assert uids(site, "user.alice") == [3, 5, 13, 21, 22]
    assert uids(site, "user.alice.Old") == [21]
    assert uids(site, "user.alice.Mine") == [1]
    assert "user.alice.Old: gone from the source; 1 messages that are not from there are kept" in result.err


def test_two_sources_of_one_mailbox_do_not_touch_each_other_s_mail(
    site: Site, box: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    put(maildir(other) / "cur" / "1.a:2,", b"other\n\n")
    site.ok("import", "--create", "alice", str(box))
    site.ok("import", "alice", str(other))
    assert site.ok("import", "--update", "alice", str(box)).err == ""
    assert len(site.records("user.alice")) == 5
    (other / "cur" / "1.a:2,").unlink()
    site.ok("import", "--update", "alice", str(other))
    assert uids(site, "user.alice") == [3, 5, 8, 13]


def test_a_source_that_cannot_be_read_in_full_loses_nothing(site: Site, box: Path) -> None:
    site.ok("import", "--create", "alice", str(box))
    (box / "cur" / "8.M8P1.h:2,").unlink()
    (box / "cur" / "8.M8P1.h:2,").symlink_to("/nowhere/out")
    shutil.rmtree(box / ".Old")
    (box / ".Old").symlink_to("/nowhere/out")
    result = site.run("import", "--update", "alice", str(box))
    assert result.status == 1
    assert uids(site, "user.alice") == [3, 5, 8, 13]
    assert uids(site, "user.alice.Old") == [3, 5, 8, 13]
    assert "user.alice: 1 messages are kept: not all of the folder could be read" in result.err
    assert "1 folders are kept: not all of the source could be read" in result.err


def test_a_message_that_came_back_at_the_source_has_its_new_uid(site: Site, box: Path) -> None:
    site.ok("import", "--create", "alice", str(box))
    (box / "cur" / "8.M8P1.h:2,").rename(box / "cur" / "50.M8P1.h:2,F")
    text = (box / "dovecot-uidlist").read_text().replace("8 :8.M8P1.h\n", "") + "21 :50.M8P1.h\n"
    (box / "dovecot-uidlist").write_text(text)
    site.ok("import", "--update", "alice", str(box))
    assert [(r.uid, r.flags) for r in site.records("user.alice")] == [
        (3, ""),
        (5, "\\Seen"),
        (13, ""),
        (21, "\\Flagged"),
    ]


def test_the_same_message_twice_stays_twice(site: Site, box: Path) -> None:
    put(box / "cur" / "60.a:2,F", b"twice\n\n")
    put(box / "cur" / "61.a:2,", b"twice\n\n")
    site.ok("import", "--create", "alice", str(box))
    (box / "cur" / "60.a:2,F").unlink()
    site.ok("import", "--update", "alice", str(box))
    assert len([r for r in site.records("user.alice") if r.uid > 13]) == 1


def test_an_mbox_is_followed_as_well(site: Site, tmp_path: Path) -> None:
    message = "From x Mon Jan  1 10:00:00 2024\nStatus: {}\nSubject: {}\n\nx\n\n"
    path = tmp_path / "box"
    path.write_text("".join(message.format("O", number) for number in range(4)))
    site.ok("import", "--create", "alice", str(path))
    path.write_text(message.format("RO", 0) + message.format("O", 2) + message.format("O", 7))
    assert site.run("import", "alice/", str(path)).status != 0
    result = site.ok("import", "--update", "alice", str(path))
    assert result.lines == [
        "1 message imported into 1 mailbox, 2 were there already, 1 got other flags, 2 expunged"
    ]
    assert [(r.uid, r.flags) for r in site.records("user.alice")] == [(1, "\\Seen"), (3, ""), (5, "")]


def test_a_damaged_memory_harms_nothing(site: Site, box: Path) -> None:
    site.ok("import", "--create", "alice", str(box))
    (memory,) = (site.path / "conf" / "imports").iterdir()
    assert memory.stat().st_mode & 0o077 == 0 or memory.parent.stat().st_mode & 0o077 == 0
    memory.write_text('{"format": 1, "sources": [{"guid": "", "path": ""')
    (box / "cur" / "8.M8P1.h:2,").unlink()
    result = site.ok("import", "--update", "alice", str(box))
    assert "is damaged" in result.err
    assert uids(site, "user.alice") == [3, 5, 8, 13]
    (box / "cur" / "13.M13P1.h:2,").unlink()
    site.ok("import", "--update", "alice", str(box))
    assert uids(site, "user.alice") == [3, 5, 8]


@pytest.mark.parametrize("name", [".Hey!you", "." + "x" * 254])
def test_one_bad_folder_does_not_end_an_import(site: Site, box: Path, name: str) -> None:
    put(box / name / "cur" / "1.a:2,", b"bad\n\n")
    deep = box
    for _ in range(4):
        deep /= "d" * 200
    put(deep / "cur" / "1.a:2,", b"deep\n\n")
    result = site.run("import", "--create", "alice", str(box))
    assert len(site.records("user.alice.Work")) == len(site.records("user.alice")) == 4
    assert result.status == 1
    assert "folder left out" in result.err
    assert os.listdir(box / name / "cur")  # noqa: PTH208 # names only


def test_sets_of_uids_are_written_as_imap_writes_them() -> None:
    assert as_ranges([]) == ""
    assert of_ranges("1:3,9") == {1, 2, 3, 9}
    assert of_ranges("") == set()
    for bad in ("x", "1:2:3", "²", "1:"):
        with pytest.raises(ValueError):
            of_ranges(bad)
