"""Users who are made with their first message."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cyrus_sync.common.config import Config
from cyrus_sync.common.errors import ConfigError, UnknownFailure
from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores.mailstore import MailWriter
from cyrus_sync.lmtp.autocreate import Autocreate

from .kit import HEADER, MESSAGE, Lmtp, configured

GOOD, UNKNOWN, FULL = "250 2.1.5", "550 5.1.1", "452 4.2.2"
WANTED = ("autocreate_post: yes", "autocreate_quota: 10")
CAROL = Owner("user", "carol")

Serve = Callable[..., Lmtp]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    made: list[Lmtp] = []

    def started(*lines: str) -> Lmtp:
        made.append(Lmtp(tmp_path, *lines))
        return made[-1]

    yield started
    for one in made:
        one.close()


@pytest.mark.covers("imapd.conf", "autocreate_post")
@pytest.mark.covers("imapd.conf", "autocreate_quota")
@pytest.mark.covers("imapd.conf", "autocreate_quota_messages")
@pytest.mark.covers("imapd.conf", "autocreate_inbox_folders")
@pytest.mark.covers("imapd.conf", "autocreate_subscribe_folders")
@pytest.mark.covers("imapd.conf", "autocreate_acl")
def test_a_user_is_made_with_his_first_message(serve: Serve) -> None:
    lmtp = serve(
        *WANTED,
        "autocreate_quota_messages: 20",
        "autocreate_inbox_folders: Junk | Plus|Archive.2026 | a%b | Entw\u00fcrfe",
        "autocreate_subscribe_folders: Plus | Archive.2026 | Nothing",
        "xlist-junk: Junk",
        "autocreate_acl: Plus anyone p",
    )
    client = lmtp.client()
    assert client.deliver(MESSAGE, b"carol+Plus", b"alice", b"carol@x") == [GOOD, GOOD, GOOD]
    with lmtp.store.read(CAROL) as reader:
        boxes = {
            box.name.removeprefix("user.carol"): box for box in reader.mailboxes() if not box.intermediate
        }
        assert set(boxes) == {"", ".Junk", ".Plus", ".Archive.2026", ".Entw&APw-rfe"}
        assert boxes[".Plus"].acl == boxes[""].acl + "anyone\tp\t"
        assert [(one.entry, one.userid, one.value) for one in boxes[".Junk"].annotations] == [
            ("/specialuse", "carol", b"\\Junk")
        ]
        assert sorted(reader.meta(with_sieve=False).subscriptions) == [
            *("user.carol", "user.carol.Archive.2026", "user.carol.Plus")
        ]
        quota = reader.quota("user.carol")
        assert quota is not None and quota.limits == {"STORAGE": 10, "MESSAGE": 20}
    assert len(lmtp.messages("user.carol")) == len(lmtp.messages("user.carol.Plus")) == 1


@pytest.mark.parametrize("lines", [(), WANTED[:1], WANTED[1:], (*WANTED[:1], "autocreate_quota: -1")])
def test_nobody_is_made_where_nobody_asked_for_it(serve: Serve, lines: tuple[str, ...]) -> None:
    assert serve(*lines).client().deliver(MESSAGE, b"carol") == [UNKNOWN]


@pytest.mark.covers("imapd.conf", "autocreate_users")
def test_administrators_and_those_who_are_not_named_are_not_made(serve: Serve) -> None:
    lmtp = serve(*WANTED, "autocreate_users: carol boss", "lmtp_catchall_mailbox: bob")
    client = lmtp.client()
    assert client.deliver(MESSAGE, b"carol", b"dave", b"boss", b"anyone") == [GOOD] * 4
    assert set(lmtp.store.userids()) == {"alice", "bob", "carol"}
    assert len(lmtp.messages("user.bob")) == 3


def test_who_asks_for_an_address_or_is_refused_makes_nobody(serve: Serve) -> None:
    lmtp = serve(*WANTED, "lmtp_strict_quota: yes")
    client = lmtp.client()
    client.say(b"MAIL FROM:<a@b>")
    assert client.say(b"RCPT TO:<carol>").startswith(GOOD)
    client.say(b"RSET")
    assert lmtp.store.userids() == ["alice", "bob"]
    assert client.deliver(HEADER + b"x" * 20_000 + b"\r\n", b"carol") == [FULL]
    assert not lmtp.store.exists(CAROL)


def test_a_user_who_was_deleted_is_made_again_and_has_no_limit_with_0(serve: Serve) -> None:
    lmtp = serve("createonpost: yes", "autocreatequota: 0")
    with lmtp.store.write(Owner("user", "bob")) as writer:
        writer.delete("user.bob")
    assert lmtp.client().deliver(MESSAGE, b"bob") == [GOOD]
    with lmtp.store.read(Owner("user", "bob")) as reader:
        assert reader.quota("user.bob") is None


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("autocreate_acl: Plus", "autocreate_acl: a folder"),
        ("autocreate_acl: Plus anyone LRS", "autocreate_acl: no ACL can give the rights LRS to anyone"),
        ("autocreate_acl: Plus b%b lrs", "autocreate_acl: no ACL"),
        ("autocreate_quota: 5120g", "autocreate_quota: a limit is less than 4294967295"),
        ("autocreate_quota_messages: 4294967295", "autocreate_quota_messages: a limit is less"),
    ],
)
def test_what_no_user_can_be_given_is_told_at_the_start(tmp_path: Path, line: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        lines = (WANTED[0], line, "autocreate_quota: 10")[: 2 if "_quota:" in line else 3]
        Autocreate.from_config(Config.load(configured(tmp_path, *lines), program="lmtp"))


def test_who_cannot_be_made_gets_his_mail_when_he_can(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    lmtp = serve(*WANTED)
    monkeypatch.setattr(Autocreate, "make", _fails)
    assert lmtp.client().deliver(MESSAGE, b"carol", b"alice") == ["451 4.3.0", GOOD]
    assert not lmtp.store.exists(CAROL)
    monkeypatch.undo()
    assert lmtp.client().deliver(MESSAGE, b"carol") == [GOOD]


def _fails(self: Autocreate, writer: MailWriter, inbox: str) -> None:
    writer.create(inbox)
    raise UnknownFailure("no")
