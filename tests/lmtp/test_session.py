"""What a mail server is answered, and what the store has then."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cyrus_sync.common.names import Owner
from cyrus_sync.common.role import Role, RoleOf
from cyrus_sync.common.stores.native.verbs import messages
from cyrus_sync.common.wire.guessing import FREE, Guessing
from cyrus_sync.common.wire.sasl.passwd import PasswordFile
from cyrus_sync.lmtp import deliveries
from cyrus_sync.lmtp.octets import MAX_LINE
from cyrus_sync.lmtp.session import _MOST_ERRORS

from .kit import ALICE, BOB, HEADER, MESSAGE, Lmtp, code

GOOD, UNKNOWN, FORBIDDEN, FULL = "250 2.1.5", "550 5.1.1", "550 5.7.1", "452 4.2.2"

Serve = Callable[..., Lmtp]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """A server with lines of imapd.conf."""
    made: list[Lmtp] = []

    def started(*lines: str) -> Lmtp:
        made.append(Lmtp(tmp_path, *lines))
        return made[-1]

    yield started
    for one in made:
        one.close()


def bodies(lmtp: Lmtp, name: str) -> list[bytes]:
    """What stands behind what is put in front of each message."""
    return [
        re.sub(rb"\AReturn-Path: [^\n]*\nReceived: [^\n]*\n(?:\t[^\n]*\n)*", b"", one)
        for one in lmtp.messages(name)
    ]


# -- recipients and answers


def test_each_recipient_has_his_answer_in_the_order_of_the_recipients(serve: Serve) -> None:
    lmtp = serve()
    client = lmtp.client()
    assert client.deliver(MESSAGE, b"nobody", b"alice", b"bob@anywhere", b"Alice") == [
        UNKNOWN,
        GOOD,
        GOOD,
        GOOD,
    ]
    assert bodies(lmtp, "user.alice") == [MESSAGE, MESSAGE]
    assert bodies(lmtp, "user.bob") == [MESSAGE]
    assert lmtp.messages("user.alice")[0] == lmtp.messages("user.bob")[0]


def test_commands_that_come_together_are_answered_in_their_order(serve: Serve) -> None:
    lmtp = serve()
    client = lmtp.client()
    client.send(
        b"MAIL FROM:<>\r\nRCPT TO:<alice>\r\nRCPT TO:<nobody>\r\nrcpt to:<bob>\r\nRCPT TO:bob\r\nDATA\r\n"
        + MESSAGE
        + b".\r\nMAIL FROM:<joe@x>\r\nRCPT TO:<bob>\r\nDATA\r\n"
        + MESSAGE
        + b".\r\nQUIT\r\n"
    )
    assert [code(one) for one in client.answers(13)] == [
        *("250 2.1.0", GOOD, UNKNOWN, GOOD, "501 5.5.4", "354 go", GOOD, GOOD),
        *("250 2.1.0", GOOD, "354 go", GOOD, "221 2.0.0"),
    ]


@pytest.mark.parametrize(
    ("command", "status"),
    [
        (b"EHLO x", "500 5.5.2"),
        (b"HELO x", "500 5.5.2"),
        (b"LHLO", "500 5.5.2"),
        (b"", "500 5.5.2"),
        (b"\xff\xfe\x00", "500 5.5.2"),
        (b"NOOP", "250 2.0.0"),
        (b"VRFY alice", "252 2.3.3"),
        (b"RCPT TO:<alice>", "503 5.5.1"),
        (b"DATA", "503 5.5.1"),
        (b"MAIL FROM:alice", "501 5.5.4"),
        (b"STARTTLS", "500 5.5.2"),
        (b"AUTH PLAIN", "503 5.5.0"),
        (b"x" * 30_000, "500 5.5.2"),
    ],
)
def test_what_is_no_command_now_is_said_to_be_none(serve: Serve, command: bytes, status: str) -> None:
    client = serve().client()
    assert code(client.say(command)) == status
    assert client.say(b"NOOP") == "250 2.0.0 ok"


def test_a_message_is_announced_once_and_forgotten_by_rset(serve: Serve) -> None:
    client = serve().client()
    assert client.say(b"MAIL FROM:<a@b>") == "250 2.1.0 ok"
    assert code(client.say(b"MAIL FROM:<a@b>")) == "503 5.5.1"
    assert client.say(b"RSET").startswith("250 2.0.0")
    assert client.say(b"MAIL FROM:<a@b>") == "250 2.1.0 ok"
    assert client.say(b"LHLO again").startswith("250-here.example")
    assert code(client.say(b"RCPT TO:<alice>")) == "503 5.5.1"


def test_a_client_that_makes_nothing_but_errors_is_sent_away(serve: Serve) -> None:
    client = serve().client()
    client.send(b"nonsense\r\n" * (_MOST_ERRORS + 1))
    assert code(client.answers(_MOST_ERRORS + 1)[-1]) == "421 4.7.0"
    assert client.disconnected


# -- folders


def test_a_folder_takes_mail_where_anyone_may_post_and_else_the_inbox_does(serve: Serve) -> None:
    lmtp = serve()
    lmtp.make("user.alice.Open", "alice\tlrswip\tanyone\tp\t")
    lmtp.make("user.alice.Closed", "alice\tlrswip\t")
    client = lmtp.client()
    for folder in (b"Open", b"Closed", b"Gone", b"open", b"a%b^^"):
        assert client.deliver(HEADER + folder + b"\r\n", b"alice+" + folder) == [GOOD]
    assert bodies(lmtp, "user.alice.Open") == [HEADER + b"Open\r\n"]
    assert [one.removeprefix(HEADER) for one in bodies(lmtp, "user.alice")] == [
        *(b"Closed\r\n", b"Gone\r\n", b"open\r\n", b"a%b^^\r\n")
    ]


def test_who_has_submitted_a_message_may_post_where_he_has_the_right(serve: Serve) -> None:
    lmtp = serve()
    lmtp.make("projects", "joe\tlp\tanyone\tl\t")
    client = lmtp.client()
    assert client.deliver(MESSAGE, b"+projects") == [FORBIDDEN]
    assert client.deliver(MESSAGE, b"+projects", sender=b"<joe@x> AUTH=joe") == [GOOD]
    assert bodies(lmtp, "projects") == [MESSAGE]


@pytest.mark.covers("imapd.conf", "lmtp_fuzzy_mailbox_match")
def test_the_nearest_folder_is_taken_where_that_is_wanted(serve: Serve) -> None:
    lmtp = serve("lmtp_fuzzy_mailbox_match: yes")
    for name in ("user.alice.Big_News", "user.alice.Big_News.2026"):
        lmtp.make(name, "anyone\tp\t")
    client = lmtp.client()
    for address in (b"alice+big-news", b"alice+BIG NEWS/2025", b"alice+none"):
        assert client.deliver(MESSAGE, b'"' + address + b'"@x') == [GOOD]
    assert len(lmtp.messages("user.alice.Big_News")) == 2
    assert len(lmtp.messages("user.alice")) == 1


@pytest.mark.covers("imapd.conf", "postuser")
def test_shared_mailboxes_have_an_address_and_nothing_to_fall_back_on(serve: Serve) -> None:
    lmtp = serve("postuser: bb")
    lmtp.make("projects", "anyone\tlp\t")
    lmtp.make("seen", "anyone\tl\t")
    lmtp.make("hidden", "")
    client = lmtp.client()
    answers = client.deliver(
        MESSAGE, b"bb+seen", b"bb+hidden", b"bb+gone", b"bb", b"bb+user/alice", b"bb+projects"
    )
    assert answers == [FORBIDDEN, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, GOOD]


@pytest.mark.covers("imapd.conf", "lmtp_catchall_mailbox")
def test_who_is_nobody_here_goes_to_the_catchall(serve: Serve) -> None:
    lmtp = serve("lmtp_catchall_mailbox: bob")
    assert lmtp.client().deliver(MESSAGE, b"nobody@x", b"a/b", b"alice") == [GOOD, GOOD, GOOD]
    assert (len(lmtp.messages("user.bob")), len(lmtp.messages("user.alice"))) == (2, 1)


# -- quotas and sizes


def limit(lmtp: Lmtp, **limits: int) -> None:
    with lmtp.store.write(ALICE) as writer:
        writer.set_quota("user.alice", limits)


@pytest.mark.covers("imapd.conf", "lmtp_over_quota_perm_failure")
@pytest.mark.parametrize(("line", "answer"), [("no", FULL), ("yes", "552 5.2.2")])
def test_one_message_may_exceed_a_quota_and_the_next_is_refused(serve: Serve, line: str, answer: str) -> None:
    lmtp = serve(f"lmtp_over_quota_perm_failure: {line}")
    limit(lmtp, STORAGE=1)
    client = lmtp.client()
    assert client.deliver(HEADER + b"x" * 2000 + b"\r\n", b"alice") == [GOOD]
    assert client.deliver(MESSAGE, b"alice", b"bob") == [answer, GOOD]
    assert client.deliver(MESSAGE, b"alice> IGNOREQUOTA") == [GOOD]


def test_a_quota_of_messages_counts_them(serve: Serve) -> None:
    lmtp = serve()
    limit(lmtp, MESSAGE=1)
    client = lmtp.client()
    assert [client.deliver(MESSAGE, b"alice")[0] for _ in range(3)] == [GOOD, GOOD, FULL]


@pytest.mark.covers("imapd.conf", "lmtp_strict_quota")
def test_where_quotas_are_strict_no_message_exceeds_one(serve: Serve) -> None:
    lmtp = serve("lmtp_strict_quota: yes")
    limit(lmtp, STORAGE=1)
    client = lmtp.client()
    assert client.deliver(HEADER + b"x" * 2000 + b"\r\n", b"alice", b"bob") == [FULL, GOOD]
    assert client.say(b"MAIL FROM:<a@b> SIZE=2000").startswith("250")
    assert code(client.say(b"RCPT TO:<alice>")) == FULL


@pytest.mark.covers("imapd.conf", "maxmessagesize")
def test_a_message_that_is_too_large_is_refused_for_each_recipient(serve: Serve) -> None:
    lmtp = serve("maxmessagesize: 20000")
    client = lmtp.client()
    assert "\n250-SIZE 20000" in client.offered.replace("\r", "")
    assert code(client.say(b"MAIL FROM:<a@b> SIZE=20001")) == "552 5.2.3"
    assert client.deliver(HEADER + b"x" * 25_000 + b"\r\n", b"alice", b"bob") == ["552 5.2.3"] * 2
    assert client.deliver(MESSAGE, b"alice") == [GOOD]
    assert bodies(lmtp, "user.alice") == [MESSAGE]


def test_a_large_message_is_stored_whole(serve: Serve) -> None:
    lmtp = serve("lmtp_journal: journal")
    large = HEADER + b"".join(b"%d %s\r\n" % (n, b"y" * (n % 900)) for n in range(9000))
    assert lmtp.client().deliver(large, b"alice", b"bob") == [GOOD, GOOD]
    assert bodies(lmtp, "user.alice") == bodies(lmtp, "user.bob") == [large]
    assert lmtp.messages("journal")[0].endswith(lmtp.messages("user.alice")[0])


@pytest.mark.parametrize(
    "message", [b"Sub\0ject: x\r\n\r\nx\r\n", HEADER + b"a\0b\r\n", b"no header\r\n\r\nx\r\n"]
)
def test_what_cannot_be_a_message_is_refused_and_the_next_is_taken(serve: Serve, message: bytes) -> None:
    lmtp = serve()
    client = lmtp.client()
    assert client.deliver(message, b"alice", b"bob") == ["554 5.6.0"] * 2
    assert client.deliver(MESSAGE, b"alice") == [GOOD]
    assert bodies(lmtp, "user.alice") == [MESSAGE]


@pytest.mark.parametrize(
    ("message", "front", "end"),
    [
        (b"", b"Message-ID", b"+0000\r\n"),
        (b"\r\n", b"Message-ID", b"+0000\r\n\r\n"),
        (b"From: x\r\n", b"From: x\r\nMessage-ID", b"+0000\r\n"),
        (b"\r\nbody\r\n", b"Message-ID", b"+0000\r\n\r\nbody\r\n"),
    ],
)
def test_a_message_with_hardly_anything_in_it_is_one(
    serve: Serve, message: bytes, front: bytes, end: bytes
) -> None:
    lmtp = serve()
    assert lmtp.client().deliver(message, b"alice") == [GOOD]
    (kept,) = bodies(lmtp, "user.alice")
    assert kept.startswith(front + b": <cyrus-sync-lmtp-")
    assert kept.endswith(end)


# -- what fails


def test_a_delivery_that_fails_is_to_be_tried_again_and_harms_no_other(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    lmtp = serve()
    monkeypatch.setattr(deliveries, "LOCK_SECONDS", 0.0)
    client = lmtp.client()
    with lmtp.store.write(BOB):
        assert client.deliver(MESSAGE, b"bob", b"alice") == ["451 4.3.0", GOOD]
    assert bodies(lmtp, "user.alice") == [MESSAGE]
    assert client.deliver(MESSAGE, b"bob") == [GOOD]


def test_a_mistake_of_ours_sends_no_mail_back(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    lmtp = serve()

    def broken(*_: object, **__: object) -> None:
        raise ValueError("a mistake")

    monkeypatch.setattr(messages, "_keep", broken)
    assert lmtp.client().deliver(MESSAGE, b"alice") == ["451 4.3.0"]


def test_a_store_that_is_no_master_takes_no_mail_until_it_is(serve: Serve, tmp_path: Path) -> None:
    client = serve().client()
    role = RoleOf(tmp_path / "conf", replicaonly=False, conf="imapd.conf")
    role.become(Role.REPLICA, "a test", 0)
    assert code(client.say(b"MAIL FROM:<a@b>")) == "451 4.3.2"
    role.become(Role.MASTER, "a test", 0)
    assert client.deliver(MESSAGE, b"alice") == [GOOD]
    role.become(Role.DRAINING, "a test", 0)
    assert code(client.say(b"MAIL FROM:<a@b>")) == "451 4.3.2"


def test_a_store_that_becomes_a_replica_in_between_takes_no_mail(serve: Serve, tmp_path: Path) -> None:
    client = serve().client()
    client.say(b"MAIL FROM:<a@b>")
    client.say(b"RCPT TO:<alice>")
    RoleOf(tmp_path / "conf", replicaonly=False, conf="").become(Role.REPLICA, "a test", 0)
    client.say(b"DATA")
    client.send(MESSAGE + b".\r\n")
    assert code(client.answers(1)[0]) == "451 4.3.2"


def test_deliveries_that_wait_for_one_owner_share_a_write(serve: Serve) -> None:
    lmtp = serve()
    clients = [lmtp.client() for _ in range(20)]
    for client in clients:
        client.send(b"MAIL FROM:<a@b>\r\nRCPT TO:<alice>\r\nDATA\r\n")
        client.answers(3)
    before = lmtp.service.deliveries.writes
    for client in clients:
        client.send(MESSAGE + b".\r\n")
    assert {code(client.answers(1)[0]) for client in clients} == {GOOD}
    assert len(lmtp.messages("user.alice")) == 20
    assert lmtp.service.deliveries.writes - before < 10


# -- duplicates and the journal


@pytest.mark.covers("imapd.conf", "duplicatesuppression")
def test_duplicates_are_kept_out_only_where_that_is_wanted(serve: Serve) -> None:
    lmtp = serve("duplicatesuppression: yes")
    client = lmtp.client()
    assert client.deliver(MESSAGE, b"alice", b"alice") == [GOOD, GOOD]
    assert client.deliver(MESSAGE, b"alice", b"bob") == [GOOD, GOOD]
    assert client.deliver(MESSAGE.replace(b"<1@x>", b"<2@x>"), b"alice") == [GOOD]
    assert len(lmtp.messages("user.alice")) == 2
    assert len(lmtp.messages("user.bob")) == 1


@pytest.mark.covers("imapd.conf", "lmtp_journal")
def test_the_journal_has_each_message_once_with_its_envelope(serve: Serve) -> None:
    lmtp = serve("lmtp_journal: journal/%Y")
    client = lmtp.client()
    client.deliver(MESSAGE, b"nobody", b"alice", b"bob+Folder@x", sender=b"<>")
    with lmtp.store.read(Owner("shared", "journal")) as reader:
        names = [box.name for box in reader.mailboxes()]
        assert {box.acl for box in reader.mailboxes()} == {""}
    assert names[0] == "journal"
    (entry,) = lmtp.messages(names[1])
    front = b"X-Envelope-From: <>\r\nX-Envelope-To: <alice>,\r\n\t<bob+Folder@x>\r\n"
    assert (
        entry == front + b"X-Envelope-Client: there.example ([127.0.0.1])\r\n" + lmtp.messages("user.bob")[0]
    )


def test_the_journal_may_be_a_users(serve: Serve) -> None:
    lmtp = serve("lmtp_journal: user/keeper/%Y-%m")
    assert lmtp.client().deliver(MESSAGE, b"alice") == [GOOD]
    with lmtp.store.read(Owner("user", "keeper")) as reader:
        assert len(reader.mailboxes()) == 2


def test_nothing_is_delivered_that_is_not_in_the_journal(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    lmtp = serve("lmtp_journal: journal")
    client = lmtp.client()
    client.deliver(MESSAGE, b"alice")
    monkeypatch.setattr(deliveries, "LOCK_SECONDS", 0.0)
    with lmtp.store.write(Owner("shared", "journal")):
        assert client.deliver(MESSAGE, b"alice", b"bob") == ["451 4.3.0"] * 2
    assert len(lmtp.messages("user.alice")) == 1
    assert lmtp.messages("user.bob") == []


# -- who may deliver


@pytest.mark.covers("imapd.conf", "soft_noauth", "lmtp_trusted")
def test_who_is_not_trusted_has_to_log_in_as_one_of_the_admins(serve: Serve, tmp_path: Path) -> None:
    lmtp = serve("soft_noauth: no", "lmtp_trusted: 192.0.2.0/24")
    passwords = PasswordFile(tmp_path / "conf" / "sync_passwd")
    for user in ("boss", "alice"):
        passwords.set_password(user, "secret")
    client = lmtp.client("198.51.100.7")
    assert "AUTH " in client.offered
    assert code(client.say(b"MAIL FROM:<a@b>")) == "530 5.7.0"
    assert code(client.say(b"AUTH PLAIN " + base64.b64encode(b"\0alice\0secret"))) == "535 5.7.8"
    assert code(client.say(b"AUTH PLAIN " + base64.b64encode(b"\0boss\0wrong"))) == "535 5.7.8"
    assert client.say(b"AUTH PLAIN").startswith("334")
    assert code(client.say(base64.b64encode(b"\0boss\0secret"))) == "235 2.7.0"
    assert client.deliver(MESSAGE, b"alice") == [GOOD]
    for trusted in ("192.0.2.9", "::ffff:192.0.2.9", None):
        near = lmtp.client(trusted)
        assert "AUTH" not in near.offered
        assert near.deliver(MESSAGE, b"alice") == [GOOD]


def test_who_cancels_a_login_or_is_no_administrator_has_guessed_nothing(serve: Serve, tmp_path: Path) -> None:
    lmtp = serve()
    passwords = PasswordFile(tmp_path / "conf" / "sync_passwd")
    for user in ("boss", "alice"):
        passwords.set_password(user, "secret")
    lmtp.service.guessing = Guessing(1000.0, lmtp.reactor.seconds)
    for _ in range(2):
        client = lmtp.client("198.51.100.7")
        for _ in range(3):
            assert code(client.say(b"AUTH PLAIN " + base64.b64encode(b"\0alice\0secret"))) == "535 5.7.8"
    client = lmtp.client("198.51.100.7")
    for _ in range(2 * FREE):
        assert client.say(b"AUTH PLAIN").startswith("334")
        assert code(client.say(b"*")) == "501 5.7.0"
    assert code(client.say(b"AUTH PLAIN " + base64.b64encode(b"\0boss\0secret"))) == "235 2.7.0"


def test_a_line_that_is_too_long_ends_a_login_and_nothing_else(serve: Serve) -> None:
    lmtp = serve()
    lmtp.service.guessing = Guessing(1000.0, lmtp.reactor.seconds)
    client = lmtp.client("198.51.100.7")
    for _ in range(2 * FREE):
        assert client.say(b"AUTH PLAIN").startswith("334")
        assert code(client.say(b"x" * (MAX_LINE + 1))) == "500 5.5.2"
    assert code(client.say(b"NOOP")) == "250 2.0.0"


def test_a_login_that_is_missing_may_be_an_error_that_passes(serve: Serve) -> None:
    client = serve().client("198.51.100.7")
    assert code(client.say(b"MAIL FROM:<a@b>")) == "430 4.7.0"


# -- Sieve


def test_whose_script_is_not_executed_is_found_out(serve: Serve) -> None:
    lmtp = serve()
    with lmtp.store.write(BOB) as writer:
        writer.put_script("main", b"keep;\r\n")
        writer.activate_script("main")
    with lmtp.store.write(ALICE) as writer:
        writer.put_script("idle", b"keep;\r\n")
    assert lmtp.service.look_for_scripts(lambda: False, lambda: None) == ["bob"]


def test_a_client_that_goes_in_the_midst_of_a_message_leaves_nothing(serve: Serve) -> None:
    lmtp = serve()
    client = lmtp.client()
    client.say(b"MAIL FROM:<a@b>")
    client.say(b"RCPT TO:<alice>")
    client.say(b"DATA")
    client.send(MESSAGE)
    client.connection.connectionLost()
    assert lmtp.clients.sessions == {}
    assert lmtp.client().deliver(HEADER + b"next\r\n", b"alice") == [GOOD]
    assert bodies(lmtp, "user.alice") == [HEADER + b"next\r\n"]


def test_more_connections_than_fit_are_turned_away(serve: Serve) -> None:
    lmtp = serve()
    lmtp.client()
    lmtp.service.most = 1
    with pytest.raises(AssertionError, match="421"):
        lmtp.client()
    assert len(lmtp.clients.sessions) == 1
