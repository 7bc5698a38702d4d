"""Our LMTP answers what the real lmtpd answers, and stores what that stores."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from cyrus_sync.common.names import Owner
from tests.lmtp.kit import BOB, HEADER, MESSAGE, Client, Lmtp, code

from .cyrus import Cyrus
from .imap import Imap, parse

SETTINGS = {
    "duplicatesuppression": "no",
    "munge8bit": "no",
    "maxmessagesize": "20000",
    "autocreate_post": "yes",
    "autocreate_quota": "100",
    "autocreate_quota_messages": "50",
    "autocreate_inbox_folders": "Junk | Plus|Archive | Archive.2026 | a%b",
    "autocreate_subscribe_folders": "Plus | Archive.2026 | Nothing",
    "autocreate_acl": "Plus anyone p",
    "autocreate_users": "carol",
    "xlist-junk": "Junk",
}
ACLS = {"user/alice/Open": "p", "user/alice/Closed": None, "shared": "l", "shared/in": "lp", "hidden": ""}
FRONT = re.compile(rb"\AReturn-Path: ([^\r]*)\r\nReceived: [^\r]*\r\n(?:\t[^\r]*\r\n)*")
ADDED = re.compile(rb"^X-(?:Cyrus-Session-Id|Sieve): [^\r]*\r\n", re.MULTILINE)
MADE = re.compile(
    rb"^(Message-ID: <)(?:cmu-lmtpd|cyrus-sync-lmtp)[^\r]*|^(Date: )\w{3}, [^\r]*", re.MULTILINE
)


class RealClient:
    """The same as a `Client`, of a real lmtpd."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self._file = self._socket.makefile("rb")
        self.answer()
        self.say(b"LHLO there.example")

    def answer(self) -> str:
        lines = []
        while not lines or lines[-1][3:4] == b"-":
            lines.append(self._file.readline())
        return b"".join(lines).decode().removesuffix("\r\n")

    def say(self, line: bytes) -> str:
        self._socket.sendall(line + b"\r\n")
        return self.answer()

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def close(self) -> None:
        self._file.close()
        self._socket.close()


class Both(NamedTuple):
    real: RealClient
    ours: Client
    cyrus: Cyrus
    lmtp: Lmtp

    def same(self, line: bytes) -> str:
        """What both say to a command: code and enhanced status."""
        theirs, mine = code(self.real.say(line)), code(self.ours.say(line))
        assert mine == theirs, line
        return mine

    def same_delivery(self, sent: bytes, *recipients: bytes) -> list[str]:
        """What both say to a message, as it stands on the wire, to each recipient."""
        self.same(b"MAIL FROM:<joe@example.org>")
        taken = sum(self.same(b"RCPT TO:<" + one + b">").startswith("250") for one in recipients)
        self.same(b"DATA")
        self.real.send(sent + b".\r\n")
        self.ours.send(sent + b".\r\n")
        theirs = [code(self.real.answer()) for _ in range(taken)]
        assert [code(one) for one in self.ours.answers(taken)] == theirs
        return theirs


@pytest.fixture(scope="module")
def cyrus() -> Iterator[Cyrus]:
    with Cyrus.running("lmtp", SETTINGS) as cyrus:
        cyrus.create_user("alice", "bob")
        with cyrus.imap() as admin:
            for name, rights in ACLS.items():
                admin.ok("CREATE", name)
                if rights:
                    admin.ok("SETACL", name, "anyone", rights)
                elif rights == "":
                    admin.command("DELETEACL", name, "anyone")
            admin.ok("SETQUOTA", "user/bob", "(STORAGE 1)")
        yield cyrus


@pytest.fixture
def both(cyrus: Cyrus, tmp_path: Path) -> Iterator[Both]:
    lmtp = Lmtp(tmp_path, *(f"{name}: {value}" for name, value in SETTINGS.items()))
    for name, rights in ACLS.items():
        lmtp.make(name.replace("/", "."), f"anyone\t{rights}\t" if rights else "")
    with lmtp.store.write(BOB) as writer:
        writer.set_quota("user.bob", {"STORAGE": 1})
    real = RealClient(cyrus.ports["lmtp"])
    yield Both(real, lmtp.client(), cyrus, lmtp)
    real.close()
    lmtp.close()


COMMANDS = (
    *(b"EHLO x", b"HELO x", b"NOOP", b"VRFY alice", b"HELP", b"", b"RCPT TO:<alice>", b"DATA"),
    *(b"MAIL FROM:a@b", b"MAIL FROM: <a@b>", b"MAIL FROM:<a@b> SIZE=", b"MAIL FROM:<a@b> SIZE=99999"),
    *(b"MAIL FROM:<a@b> BODY=BINARYMIME", b"MAIL FROM:<a> "),
    *(b"MAIL FROM:<a@[192.0.2.1]> BODY=8BITMIME SIZE=100 AUTH=<>", b"MAIL FROM:<a@b>", b"DATA"),
    *(b"RCPT TO:" + path for path in (
        *(b"<alice>", b"<ALICE@anywhere>", b"alice", b"<nobody@x>", b"<>", b"<alice+Open@x>"),
        *(b"<+shared/in@x>", b"<+shared.in@x>", b"<+shared@x>", b"<+hidden@x>", b"<+gone>", b"<alice+Gone>"),
        *(b"<alice> IGNOREQUOTA", b"<alice> NOTIFY=NEVER", b"<@a,@b:alice@x>", b"<al ice>", b"<alic\xe9@x>"),
        *(b"<alice", b"<postmaster>", b"<a..b@x>", b"<bob> ignorequota"),
    )),
    *(b"RSET", b"DATA"),
)  # fmt: skip


def test_every_command_has_the_same_answer(both: Both) -> None:
    for command in COMMANDS:
        if both.same(command)[0] == "5" and command.startswith(b"MAIL"):
            both.same(b"RSET")  # a real one takes the address and then refuses the parameters


MESSAGES = {
    "plain": MESSAGE,
    "nothing": b"",
    "a line": b"\r\n",
    "no body": b"From: x\r\n",
    "no header": b"hello world\r\n\r\nx\r\n",
    "folded nothing": b" fold\r\nFrom: x\r\n\r\nx\r\n",
    "no identity": b"Message-ID:\r\n\r\nx\r\n",
    "paths": b"Message-ID: <2@x>\r\nReturn-Path: <a>\r\nreturn-path : <b>\r\n c\r\nReturn-PathX: 3\r\n\r\n",
    "NUL": HEADER + b"a\0b\r\n",
    "NUL in the header": b"Sub\0ject: x\r\n\r\nx\r\n",
    "line ends": HEADER + b"bare\nlf\rcr\r\r\nx\r\n..dot\r\n",
    "8 bits": HEADER + b"\xe9\xff\r\n",
    "8 bits in the header": b"Subject: \xe9\r\nMessage-Id: <4@x>\r\n\r\nx\r\n",
    "blanks": b"From : x\r\nTo:\r\n\ty\r\n\r\nx\r\n",
}


def test_every_message_is_taken_or_refused_and_stored_alike(both: Both) -> None:
    assert stored(both, "INBOX") == []
    for name, sent in MESSAGES.items():
        assert both.same_delivery(sent, b"alice"), name
    theirs, ours = stored(both, "INBOX"), both.lmtp.messages("user.alice")
    assert [shown(one) for one in ours] == [shown(one) for one in theirs]
    assert len(ours) == 9


def test_folders_and_shared_mailboxes_take_the_same_mail(both: Both) -> None:
    for folder in (b"Open", b"Closed", b"Gone"):
        assert both.same_delivery(HEADER + folder + b"\r\n", b"alice+" + folder, b"+shared/in", b"+hidden")
    for name in ("Open", "Closed"):
        theirs, ours = stored(both, f"INBOX/{name}"), both.lmtp.messages(f"user.alice.{name}")
        assert [shown(one) for one in ours] == [shown(one) for one in theirs]


def test_a_quota_refuses_the_same_mail(both: Both) -> None:
    large = HEADER + b"y" * 1500 + b"\r\n"
    said = [both.same_delivery(large, b"bob", b"alice") for _ in range(2)]
    assert said == [["250 2.1.5"] * 2, ["250 2.1.5"]]


def test_a_message_that_is_too_large_is_refused_with_the_same_words(both: Both) -> None:
    assert both.same_delivery(HEADER + b"x" * 25_000 + b"\r\n", b"alice") == ["552 5.2.3"]
    both.same(b"RSET")


def test_a_user_who_is_made_by_his_first_message_is_the_same(both: Both) -> None:
    assert both.same_delivery(MESSAGE, b"carol+Plus", b"nobody", b"carol") == ["250 2.1.5"] * 2
    with both.lmtp.store.read(Owner("user", "carol")) as reader:
        boxes = {box.name: box for box in reader.mailboxes() if not box.intermediate}
        subscribed = reader.meta(with_sieve=False).subscriptions
        quota = reader.quota("user.carol")
    with both.cyrus.imap() as admin:
        names = [parse(line)[-1].decode() for line in admin.ok("LIST", '""', '"user/carol*"')]
        assert {name.replace("/", ".") for name in names} == set(boxes)
        for name in names:
            who = parse(admin.ok("GETACL", name)[0])[3:]
            acl = "".join(f"{word.decode()}\t" for word in who)
            assert boxes[name.replace("/", ".")].acl == acl, name
        (line,) = admin.ok("GETQUOTA", "user/carol")
        told = parse(line)[3]
    assert quota is not None
    assert quota.limits == {told[at].decode(): int(told[at + 2]) for at in range(0, len(told), 3)}
    with both.cyrus.imap("carol") as carol:
        lines = [parse(line) for line in carol.ok("LIST", '""', '"*"', "RETURN", "(SUBSCRIBED SPECIAL-USE)")]
    theirs = {words[-1].decode(): {flag.lower() for flag in words[2]} for words in lines}

    def ours(name: str) -> str:
        return "user.carol" + ("" if name == "INBOX" else "." + name.replace("/", ".").removeprefix("INBOX."))

    assert {ours(name) for name, flags in theirs.items() if b"\\subscribed" in flags} == set(subscribed)
    assert {ours(name) for name, flags in theirs.items() if b"\\junk" in flags} == {
        name for name, box in boxes.items() if any(one.value == b"\\Junk" for one in box.annotations)
    }


def stored(both: Both, folder: str) -> list[bytes]:
    """The messages of a folder of alice's at the real one."""
    with both.cyrus.imap("alice") as imap:
        return read_all(imap, folder)


def read_all(imap: Imap, folder: str) -> list[bytes]:
    if b"* 0 EXISTS" in [line.strip() for line in imap.ok("SELECT", folder)]:
        return []
    found = []
    for line in imap.ok("FETCH", "1:*", "(BODY.PEEK[])"):
        head = re.match(rb"\* \d+ FETCH \(BODY\[\] \{(\d+)\}\r\n", line)
        if head is not None:
            found.append(line[head.end() : head.end() + int(head[1])])
    return found


def shown(message: bytes) -> bytes:
    """Without what names the server, the time and the session."""
    front = FRONT.match(message)
    assert front is not None
    return front[1] + MADE.sub(rb"\1\2", ADDED.sub(b"", message[front.end() :]))
