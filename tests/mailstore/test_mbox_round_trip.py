"""What `mailstore export --format mbox` writes comes back the same, whatever it is."""

import re
import string
import tempfile
from itertools import pairwise
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from cyrus_sync.common.model import MailboxState, Record
from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores import open_store
from cyrus_sync.mailstore.mbox_names import INDEX, FileNames
from cyrus_sync.mailstore.mboxrd import quoted_pieces, unquoted_pieces
from cyrus_sync.mailstore.sources import open_source
from cyrus_sync.mailstore.sources.content import as_body
from cyrus_sync.mailstore.sources.message import Counters
from cyrus_sync.mailstore.targets.mbox import MboxTarget
from tests.mailstore.conftest import Site
from tests.mailstore.test_import_export import dump_of

WORDS = [
    b"From ",
    b">From ",
    b">",
    b"From bob@example.org Mon Jan  1 10:00:00 2024",
    b"From - Mon Jan  1 10:00:00 2024",
    b"From memory",
    b"\x01\x01\x01\x01",
    b"\n",
    b"\r\n",
    b"\r",
    b"\r\n\r\n",
    b"Subject: x\r\n",
    b"Status: RO\r\n",
    b"Status: RESOLVED\r\n",
    b"X-Status: D\r\n",
    b"X-Keywords: a\r\n",
    b"X-UID: 7\r\n",
    b"X-IMAP: 1 1\r\n",
    b"X-Mozilla-Status: 0009\r\n",
    b"X-Mailstore-Octets: 3\r\n",
    b"Content-Length: 3\r\n",
    b" folded\r\n",
    b"text",
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b" ",
]
RAW = st.lists(st.one_of(st.sampled_from(WORDS), st.binary(max_size=3)), min_size=1, max_size=14)
KEYWORD = st.text(string.ascii_letters + "$!-.", min_size=1, max_size=8).filter(
    lambda word: not word.startswith("\\")
)
FLAGS = st.tuples(
    st.sets(st.sampled_from(["\\Deleted", "\\Answered", "\\Flagged", "\\Draft", "\\Seen"])),
    st.lists(KEYWORD, max_size=3, unique=True),
)
MAIL = st.lists(st.tuples(RAW.map(b"".join), FLAGS, st.integers(1, 2**32 - 1)), max_size=6)


def record(uid: int, flags: str, when: int) -> Record:
    return Record(uid, uid, 1, flags, False, when, 1, bytes(20))


@given(MAIL)
def test_octets_order_flags_and_dates_come_back_from_an_mbox(mail: list[tuple[bytes, tuple, int]]) -> None:
    order = ["\\Deleted", "\\Answered", "\\Flagged", "\\Draft", "\\Seen"]
    wanted = [
        (raw, " ".join(sorted(system, key=order.index) + words), when)
        for raw, (system, words), when in mail
        if raw
    ]
    with tempfile.TemporaryDirectory() as name:
        target = MboxTarget(Path(name))
        target.begin((), MailboxState("u", "user.alice", uidvalidity=5, last_uid=len(wanted) + 1))
        for uid, (raw, flags, when) in enumerate(wanted, 1):
            target.add(record(uid, flags, when), [raw[:3], raw[3:]])
        target.end()
        target.subscribe([])
        heard: list[str] = []
        source = open_source(Path(name), heard.append)
        messages = list(source.messages())
        if wanted:
            assert source.counters(()) == Counters(5, len(wanted) + 2, "")
    assert [(m.raw, m.flags, m.internaldate) for m in messages] == wanted
    assert [m.uid for m in messages] == list(range(1, len(wanted) + 1))
    assert heard == []


@given(RAW.map(b"".join), st.lists(st.integers(0, 60), max_size=6))
def test_quoting_is_the_same_wherever_the_text_is_cut(raw: bytes, cuts: list[int]) -> None:
    def cut(text: bytes) -> list[bytes]:
        places = [0, *sorted(min(place, len(text)) for place in cuts), len(text)]
        return [text[a:b] for a, b in pairwise(places)]

    once = b"".join(quoted_pieces(cut(raw)))
    assert once == re.sub(rb"(?m)^(>*From )", rb">\1", raw)
    assert b"".join(unquoted_pieces(cut(once))) == raw


COMPONENT = st.text("aAbB.^_~&-/ÄäßẞıI", min_size=1, max_size=6)


@given(st.lists(st.lists(COMPONENT, min_size=1, max_size=3).map(tuple), unique=True))
def test_no_two_mailboxes_share_a_file_whatever_the_file_system_thinks_of_case(
    folders: list[tuple[str, ...]],
) -> None:
    names = FileNames()
    files = [names.file_of(folder) for folder in folders]
    assert len({file.casefold() for file in files}) == len(files)
    assert all(len(part.encode()) < 255 for file in files for part in file.split("/"))


def test_names_that_look_alike_go_to_files_of_their_own_and_come_back(alice: Site) -> None:
    long = "x" * 200
    names = [
        "INBOX",
        "INBOX/inbox",
        "inbox",
        "a_b",
        "a&AC8-b",
        "a/b",
        "a.b",
        "A.b",
        "&AAo-",
        "R&-D",
        long,
        long + "y",
        "Entw&APw-rfe",
        "~2",
        "a~2",
        "mailboxes.tsv",
    ]
    store = open_store(alice.config())
    wanted = {tuple(name.replace(".", "^").split("/")) for name in names} | {("Work",), ("a",)}
    with store.write(Owner("user", "alice")) as writer:  # some of these names come by replication alone
        for folder in sorted(wanted):
            name = ".".join(("user.alice", *folder))
            if writer.mailbox(name) is None:
                writer.create(name)
            writer.append(name, [(f"Subject: {folder}\r\n\r\n".encode(), 1, "")])
        for name in ("user.alice.INBOX", "user.alice.a_b"):
            writer.subscribe(name)
    store.close()
    alice.ok("export", "alice", str(alice.path / "out"), "--format", "mbox")
    files = list((alice.path / "out").rglob("*.mbox"))
    assert len(files) == len(wanted) + 1
    assert (alice.path / "out" / INDEX).read_text().splitlines()[1] == "INBOX.mbox\t"
    heard: list[str] = []
    source = open_source(alice.path / "out", heard.append)
    assert set(source.folders()) == {(), *wanted}
    assert source.subscriptions() == [("INBOX",), ("a_b",)]
    for message in source.messages():
        assert message.raw == f"Subject: {message.folder}\r\n\r\n".encode()
    assert heard == []
    alice.ok("import", "--create", "copy", str(alice.path / "out"))
    assert "user.copy.INBOX.inbox" in alice.mailboxes("user.copy")
    assert alice.ok("subscribe", "copy").lines == ["user/copy/INBOX", "user/copy/a_b"]


def test_everything_that_the_sample_has_comes_back_from_mboxes(site: Site) -> None:
    site.ok("sample")
    for user in ("alice", "bruno"):
        site.ok("export", user, str(site.path / user), "--format", "mbox")
        site.ok("import", "--create", f"{user}2", str(site.path / user))
        assert dump_of(site, f"{user}2") == dump_of(site, user)


def test_a_message_that_would_change_in_an_mbox_is_written_as_it_is(tmp_path: Path) -> None:
    target = MboxTarget(tmp_path)
    target.begin(("x",), MailboxState("u", "user.alice.x"))
    target.add(record(1, "", 1), [b"no end"])
    target.end()
    assert (tmp_path / "x.mbox").read_bytes() == (
        b"From MAILER-DAEMON Thu Jan 01 00:00:01 1970\nX-IMAPbase: 0 0\nX-UID: 1\nStatus: O\n"
        b"X-Mailstore-Octets: 6\nno end\n\n"
    )


def test_pieces_of_a_large_message_are_read_again_and_not_kept() -> None:
    pieces = [b"x" * 700_000, b"y" * 700_000]
    body = as_body(pieces)
    assert not isinstance(body, bytes)
    assert (body.size, body.data) == (1_400_000, pieces)
