"""The life of a connection: greeting, login, layers, pipelining, the pause, the end."""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections import Counter
from pathlib import Path

import pytest
from twisted.internet.address import IPv4Address

from cyrus_sync.common.errors import MailboxLocked, SyncChecksum
from cyrus_sync.common.model import MailboxState, UserState
from cyrus_sync.common.protocol.dlist import Limits
from cyrus_sync.common.wire.policy import Policy
from cyrus_sync.sync_server.handlers import GRANTED
from cyrus_sync.sync_server.listener import CsyncFactory
from tests.sync_server.conversation import Conversation, Wire

MESSAGE = b"Subject: hello\r\n\r\nNOOP\r\nGET USER nobody\r\n"
GUID = hashlib.sha1(MESSAGE).hexdigest().encode()
UPLOAD = b"APPLY MESSAGE (%%{default %s %d}\r\n%s)\r\n" % (GUID, len(MESSAGE), MESSAGE)


# -- greeting


@pytest.mark.covers("Capabilities", "SASL", "COMPRESS DEFLATE")
def test_the_greeting_is_worded_and_ordered_as_cyrus_has_it(tmp_path: Path) -> None:
    talk = Conversation(tmp_path, login=False, tls=object(), version="3.6.1")
    assert talk.greeting == (
        b"* SASL SCRAM-SHA-256 SCRAM-SHA-1 PLAIN LOGIN\r\n* STARTTLS\r\n* COMPRESS DEFLATE\r\n"
        + b"".join(b"* %s\r\n" % name.encode() for name in GRANTED)
        + b"* OK replica.test Cyrus sync server 3.6.1\r\n"
    )


@pytest.mark.covers("imapd.conf", "tls_server_cert")
@pytest.mark.covers("Capabilities", "STARTTLS")
def test_without_a_certificate_there_is_no_starttls(tmp_path: Path) -> None:
    assert b"STARTTLS" not in Conversation(tmp_path, login=False).greeting


@pytest.mark.covers("Capabilities", "SASL")
def test_without_a_usable_mechanism_there_is_no_sasl_line(tmp_path: Path) -> None:
    talk = Conversation(tmp_path, login=False, policy=Policy(minimum_layer=2))
    assert talk.greeting.startswith(b"* COMPRESS DEFLATE\r\n")


def test_plain_is_not_offered_on_a_bare_line_unless_it_may_be(tmp_path: Path) -> None:
    talk = Conversation(tmp_path, login=False, policy=Policy())
    assert talk.greeting.startswith(b"* SASL SCRAM-SHA-256 SCRAM-SHA-1\r\n")


@pytest.mark.covers("sync_server: options", "-p")
def test_an_external_layer_makes_plain_acceptable(tmp_path: Path) -> None:
    talk = Conversation(tmp_path, login=False, policy=Policy(), external_ssf=256)
    assert b" PLAIN LOGIN\r\n" in talk.greeting
    assert talk.login("repl", "s3cret") == b"OK Success (no protection)\r\n"


def test_a_unix_socket_needs_no_login_and_gets_no_capabilities(tmp_path: Path) -> None:
    talk = Conversation(tmp_path, trusted=True)
    assert talk.greeting.startswith(b"* OK replica.test Cyrus sync server ")
    assert talk.ask(b"GET USER bob") == b"OK success"


# -- login


@pytest.mark.covers("Commands of the session", "AUTHENTICATE")
@pytest.mark.covers("Replies of the session", "OK Success (no protection)")
def test_login_in_two_steps(tmp_path: Path) -> None:
    talk = Conversation(tmp_path, login=False)
    assert talk.ask(b"AUTHENTICATE PLAIN") == b"+ "
    assert talk.ask(base64.b64encode(b"\0repl\0s3cret")) == b"OK Success (no protection)"


@pytest.mark.covers("Replies of the session", "BAD Client canceled authentication")
def test_a_cancelled_login_leaves_the_connection_usable(tmp_path: Path) -> None:
    talk = Conversation(tmp_path, login=False)
    assert talk.ask(b"AUTHENTICATE LOGIN") == b"+ VXNlcm5hbWU6"
    assert talk.ask(b"*") == b"BAD Client canceled authentication"
    assert talk.login("repl", "s3cret").startswith(b"OK")


def test_a_mechanism_that_is_not_offered(tmp_path: Path) -> None:
    talk = Conversation(tmp_path, login=False)
    talk.ask(b"AUTHENTICATE CRAM-MD5")
    talk.clock.advance(3)
    assert talk.heard().startswith(b"NO ")


@pytest.mark.covers("imapd.conf", "failedloginpause")
@pytest.mark.parametrize("user", ["repl", "nobody"])
def test_a_failed_login_is_answered_after_the_pause_known_user_or_not(tmp_path: Path, user: str) -> None:
    talk = Conversation(tmp_path, login=False)
    assert talk.login(user, "wrong") == b""
    talk.clock.advance(2.9)
    assert talk.heard() == b""
    talk.clock.advance(0.2)
    assert talk.heard() == b"NO authentication failure\r\n"
    assert talk.login("repl", "s3cret").startswith(b"OK")


def test_the_pause_of_one_connection_delays_no_other(tmp_path: Path) -> None:
    first = Conversation(tmp_path, login=False)
    first.login("repl", "wrong")
    other = Conversation(tmp_path, login=False, service=first.service)
    assert other.login("repl", "s3cret") == b"OK Success (no protection)\r\n"


def test_commands_sent_ahead_of_a_failed_login_wait_for_its_answer(tmp_path: Path) -> None:
    talk = Conversation(tmp_path, login=False)
    assert talk.send(b"AUTHENTICATE PLAIN AHJlcGwAeA==\r\nNOOP\r\n") == b""
    talk.clock.advance(3)
    assert talk.heard() == b"NO authentication failure\r\nOK Noop completed\r\n"


def test_who_does_not_log_in_is_shown_the_door(tmp_path: Path) -> None:
    talk = Conversation(tmp_path, login=False, login_seconds=60)
    for _ in range(5):
        talk.clock.advance(10)
        talk.ask(b"NOOP")
    assert not talk.closed
    talk.clock.advance(10)
    assert talk.closed


@pytest.mark.covers("imapd.conf", "sync_timeout")
def test_who_says_nothing_is_disconnected_after_sync_timeout(tmp_path: Path) -> None:
    talk = Conversation(tmp_path, timeout=100)
    talk.clock.advance(90)
    talk.ask(b"NOOP")
    talk.clock.advance(90)
    assert not talk.closed
    talk.clock.advance(20)
    assert talk.closed


# -- layers


@pytest.mark.covers("Commands of the session", "COMPRESS")
@pytest.mark.covers("Replies of the session", "OK DEFLATE active")
def test_compression_starts_behind_the_answer(tmp_path: Path) -> None:
    talk = Conversation(tmp_path)
    deflater = zlib.compressobj(6, zlib.DEFLATED, -15)
    sent = b"COMPRESS DEFLATE\r\n" + deflater.compress(b"NOOP\r\nCOMPRESS DEFLATE\r\n")
    heard = talk.send(sent + deflater.flush(zlib.Z_SYNC_FLUSH))
    plain, _, packed = heard.partition(b"OK DEFLATE active\r\n")
    assert plain == b"" and packed.endswith(b"\0\0\xff\xff")
    assert zlib.decompressobj(-15).decompress(packed) == (
        b"OK Noop completed\r\nNO Compression already active: DEFLATE\r\n"
    )


@pytest.mark.covers("Replies of the session", "BAD Can't Starttls after authentication")
@pytest.mark.parametrize(
    ("before", "reply"),
    [
        (b"COMPRESS DEFLATE", b"BAD Can't Starttls after Compress"),
        (b"AUTHENTICATE PLAIN AHJlcGwAczNjcmV0", b"BAD Can't Starttls after authentication"),
    ],
)
def test_starttls_comes_first_or_not_at_all(tmp_path: Path, before: bytes, reply: bytes) -> None:
    talk = Conversation(tmp_path, login=False, tls=object())
    talk.ask(before)
    if before.startswith(b"COMPRESS"):
        deflater = zlib.compressobj(6, zlib.DEFLATED, -15)
        packed = talk.send(deflater.compress(b"STARTTLS\r\n") + deflater.flush(zlib.Z_SYNC_FLUSH))
        assert zlib.decompressobj(-15).decompress(packed) == reply + b"\r\n"
    else:
        assert talk.ask(b"STARTTLS") == reply


@pytest.mark.covers("Replies of the session", "BAD Already did a successful Starttls")
def test_starttls_happens_once(tmp_path: Path) -> None:
    talk = Conversation(tmp_path, login=False, tls=object())
    talk.proto.tls = True
    assert talk.ask(b"STARTTLS") == b"BAD Already did a successful Starttls"


@pytest.mark.covers("Replies of the session", "BAD Missing required argument to X")
def test_starttls_takes_no_argument(tmp_path: Path) -> None:
    talk = Conversation(tmp_path, login=False, tls=object())
    assert talk.ask(b"STARTTLS x") == b"BAD Unexpected extra arguments to Starttls"


@pytest.mark.covers("Commands of the session", "STARTTLS")
@pytest.mark.covers("Replies of the session", "OK Begin TLS negotiation now")
def test_a_command_in_clear_ahead_of_the_handshake_ends_the_connection(tmp_path: Path) -> None:
    talk = Conversation(tmp_path, login=False, tls=object())
    heard = talk.send(b"STARTTLS\r\nAUTHENTICATE PLAIN AHJlcGwAczNjcmV0\r\n")
    assert heard == b"OK Begin TLS negotiation now\r\n" and talk.closed


def test_so_does_one_that_came_in_a_piece_of_its_own_while_we_were_busy(tmp_path: Path) -> None:
    talk = Conversation(tmp_path, login=False, tls=object())
    assert talk.login("repl", "wrong") == b""
    assert talk.send(b"STARTTLS\r\n") == b""
    assert talk.send(b"AUTHENTICATE PLAIN AHJlcGwAczNjcmV0\r\n") == b""
    talk.clock.advance(3)
    heard = talk.heard()
    assert heard == b"NO authentication failure\r\nOK Begin TLS negotiation now\r\n" and talk.closed
    assert not hasattr(talk.wire, "tls_context") and not talk.session.userid


# -- a client that takes us for an IMAP server


@pytest.mark.covers("Replies of the session", "X BAD this is csync")
def test_an_imap_greeting_is_answered_with_its_tag_so_that_nobody_waits(tmp_path: Path) -> None:
    talk = Conversation(tmp_path, login=False)
    assert talk.ask(b"C01 CAPABILITY") == b"C01 BAD this is csync"
    assert talk.ask(b"Q01 LOGOUT").startswith(b"Q01 OK") and talk.closed


# -- commands side by side


def test_verbs_are_called_in_order_before_the_first_is_answered(tmp_path: Path) -> None:
    talk = Conversation(tmp_path)
    talk.replica.hold = True
    assert talk.send(b"APPLY UNMAILBOX user.a\r\nAPPLY UNMAILBOX user.b\r\nAPPLY UNUSER c\r\n") == b""
    assert [event[:2] for event in talk.replica.events] == [
        ("unmailbox", "user.a"),
        ("unmailbox", "user.b"),
        ("unuser", "c"),
    ]
    talk.replica.release()
    assert talk.heard() == b"OK success\r\n"
    talk.replica.release()
    talk.replica.release()
    assert talk.heard() == b"OK success\r\nOK success\r\n"


@pytest.mark.covers("What a robust server minds", "9")
def test_answers_of_one_turn_are_one_write(tmp_path: Path) -> None:
    talk = Conversation(tmp_path)
    talk.wire.writes = 0
    talk.send(b"APPLY UNMAILBOX user.a\r\n" * 20)
    assert talk.wire.writes == 1


def test_a_session_command_that_changes_the_line_waits_for_the_answers_before_it(tmp_path: Path) -> None:
    talk = Conversation(tmp_path)
    talk.replica.hold = True
    assert talk.send(b"APPLY UNUSER c\r\nCOMPRESS DEFLATE\r\n") == b""
    talk.replica.release()
    assert talk.heard() == b"OK success\r\nOK DEFLATE active\r\n"


def test_no_more_commands_are_read_while_too_many_are_under_way(tmp_path: Path) -> None:
    talk = Conversation(tmp_path)
    talk.replica.hold = True
    talk.send(b"APPLY UNMAILBOX user.a\r\n" * 1000)
    assert len(talk.replica.events) == 128
    talk.replica.release()
    talk.heard()
    assert len(talk.replica.events) == 129


def test_a_failure_in_the_middle_keeps_the_answers_in_step(tmp_path: Path) -> None:
    talk = Conversation(tmp_path)
    talk.replica.failures["unmailbox"] = [MailboxLocked()]
    heard = talk.send(b"NOOP\r\nAPPLY UNMAILBOX user.a\r\nAPPLY UNMAILBOX user.b\r\n")
    assert heard == b"OK Noop completed\r\nNO IMAP_MAILBOX_LOCKED Mailbox locked\r\nOK success\r\n"


def test_a_long_answer_is_sent_in_pieces_while_the_peer_reads(tmp_path: Path) -> None:
    talk = Conversation(tmp_path)
    boxes = tuple(MailboxState(f"id{n}", f"user.bob.box{n}", partition="default") for n in range(3000))
    talk.replica.answers["get_user"] = UserState(mailboxes=boxes)
    heard = talk.send(b"GET USER bob\r\nNOOP\r\n")
    lines = heard.split(b"\r\n")
    assert len(lines) == 3003 and lines[-3:] == [b"OK success", b"OK Noop completed", b""]
    assert talk.wire.writes > 2


# -- the delay for those who run against a wall


def test_the_third_identical_failure_is_answered_late_and_only_that(tmp_path: Path) -> None:
    talk = Conversation(tmp_path)
    talk.replica.failures["unmailbox"] = [SyncChecksum() for _ in range(4)]
    refusal = b"NO IMAP_SYNC_CHECKSUM Checksum Failure\r\n"
    assert talk.send(b"APPLY UNMAILBOX user.a\r\n") == refusal
    assert talk.send(b"APPLY UNMAILBOX user.a\r\n") == refusal
    assert talk.send(b"APPLY UNMAILBOX user.a\r\n") == b""
    other = Conversation(tmp_path, service=talk.service)
    assert other.ask(b"NOOP") == b"OK Noop completed"
    talk.clock.advance(0.5)
    assert talk.heard() == refusal


def test_the_delay_remembers_a_client_that_reconnects(tmp_path: Path) -> None:
    talk = Conversation(tmp_path)
    for _ in range(2):
        talk.replica.failures["unmailbox"] = [SyncChecksum()]
        talk.ask(b"APPLY UNMAILBOX user.a")
    again = Conversation(tmp_path, service=talk.service)
    again.replica.failures["unmailbox"] = [SyncChecksum()]
    assert again.send(b"APPLY UNMAILBOX user.a\r\n") == b""


def test_one_bad_mailbox_slows_no_other_and_no_other_client(tmp_path: Path) -> None:
    talk = Conversation(tmp_path)
    refusal = b"NO IMAP_SYNC_CHECKSUM Checksum Failure\r\n"
    talk.replica.failures = {"unmailbox": [SyncChecksum() for _ in range(9)], "unuser": [SyncChecksum()]}
    for _ in range(2):
        talk.send(b"APPLY UNMAILBOX user.a\r\n")
    assert talk.send(b"APPLY UNMAILBOX user.b\r\n") == refusal, "another mailbox"
    assert talk.send(b"APPLY UNUSER a\r\n") == refusal, "another command"
    talk.replica.failures["unmailbox"][0] = MailboxLocked()
    assert talk.send(b"APPLY UNMAILBOX user.a\r\n").startswith(b"NO IMAP_MAILBOX_LOCKED"), "another reason"
    other = Conversation(tmp_path, login=False, service=talk.service, replica=talk.replica)
    other.session.client = "192.0.2.9:1"
    other.login("repl", "s3cret")
    assert other.send(b"APPLY UNMAILBOX user.a\r\n") == refusal, "another address"
    assert talk.send(b"APPLY UNMAILBOX user.a\r\n") == b"", "the same again"


# -- the end


@pytest.mark.covers("Commands of the session", "EXIT")
def test_exit_answers_what_is_under_way_first(tmp_path: Path) -> None:
    talk = Conversation(tmp_path)
    talk.replica.hold = True
    assert talk.send(b"APPLY UNUSER c\r\nEXIT\r\n") == b""
    talk.replica.release()
    assert talk.heard() == b"OK success\r\nOK Finished\r\n"
    assert talk.closed


def test_nothing_is_carried_out_behind_exit(tmp_path: Path) -> None:
    talk = Conversation(tmp_path)
    talk.send(b"EXIT\r\nAPPLY UNUSER c\r\n")
    assert talk.replica.events == []


@pytest.mark.covers("Replies of the session", "BYE shutting down")
def test_a_stop_says_bye_to_an_idle_client(tmp_path: Path) -> None:
    talk = Conversation(tmp_path)
    talk.session.stop()
    assert talk.heard() == b"BYE shutting down\r\n" and talk.closed


def test_a_stop_finishes_what_was_read_and_reads_no_more(tmp_path: Path) -> None:
    talk = Conversation(tmp_path)
    talk.replica.hold = True
    talk.send(b"APPLY UNUSER c\r\n")
    talk.session.stop()
    assert talk.send(b"APPLY UNUSER d\r\n") == b""
    talk.replica.release()
    assert talk.heard() == b"OK success\r\nBYE shutting down\r\n"
    assert [event[1] for event in talk.replica.events] == ["c"]


def test_a_disconnect_clears_the_staging_area_at_once(tmp_path: Path) -> None:
    talk = Conversation(tmp_path)
    talk.send(UPLOAD[:-30])
    talk.hang_up()
    assert talk.replica.closed and talk.service.sessions == set()


@pytest.mark.covers("Commands of the session", "RESTART")
def test_restart_clears_the_staging_area(tmp_path: Path) -> None:
    talk = Conversation(tmp_path)
    assert talk.send(UPLOAD + b"RESTART\r\n") == b"OK success\r\nOK Restarting\r\n"
    assert talk.replica.events == [("message", [len(MESSAGE)]), ("restart",)]


def test_a_half_closed_connection_still_gets_its_answers(tmp_path: Path) -> None:
    talk = Conversation(tmp_path)
    talk.replica.hold = True
    talk.send(b"APPLY UNUSER c\r\n")
    talk.proto.readConnectionLost()
    assert not talk.closed
    talk.replica.release()
    assert talk.heard() == b"OK success\r\n" and talk.closed


# -- literals of refused commands are passed over


@pytest.mark.parametrize("who", ["stranger", "denied", "admin, unknown command"])
def test_the_inside_of_a_message_is_never_a_command(tmp_path: Path, who: str) -> None:
    talk = Conversation(tmp_path, login=False)
    upload = UPLOAD
    if who == "denied":
        talk.login("alice", "secret")
    elif who.startswith("admin"):
        talk.login("repl", "s3cret")
        upload = UPLOAD.replace(b"APPLY MESSAGE", b"APPLY NONSENSE")
    heard = talk.send(upload + b"COMPRESS marker\r\n")
    expected = {
        "stranger": b"NO Please authenticate first\r\nNO Unknown compression algorithm: marker\r\n",
        "denied": b"NO Permission denied\r\nNO Permission denied\r\n",
    }.get(who, b"NO IMAP_PROTOCOL_ERROR Protocol error\r\nNO Unknown compression algorithm: marker\r\n")
    assert heard == expected
    assert talk.replica.events == []


@pytest.mark.covers(
    "Replies of the session",
    "* Fatal error: message does not match its GUID, cannot tell content from commands",
)
@pytest.mark.parametrize("apart", [False, True])
def test_behind_a_message_that_is_not_what_its_guid_says_nothing_is_carried_out(
    tmp_path: Path, apart: bool
) -> None:
    """Its size may have been announced too small: this is how the rest of it may look."""
    talk = Conversation(tmp_path)
    text = MESSAGE + b")\r\nAPPLY UNUSER alice\r\n"
    guid = hashlib.sha1(text).hexdigest().encode()
    sent = b"APPLY MESSAGE (%%{default %s %d}\r\n%s)\r\n" % (guid, len(MESSAGE), text)
    heard = b"".join(talk.send(sent[n : n + 1]) for n in range(len(sent))) if apart else talk.send(sent)
    assert heard.splitlines() == [
        b"OK success",
        b"* Fatal error: message does not match its GUID, cannot tell content from commands",
    ]
    assert talk.closed and [event[0] for event in talk.replica.events] == ["message"]


@pytest.mark.covers("Replies of the session", "* Fatal error: X")
def test_beyond_a_limit_the_connection_ends(tmp_path: Path) -> None:
    talk = Conversation(tmp_path, limits=Limits(max_literal=1000))
    talk.send(b"APPLY SIEVE %(USERID bob FILENAME a.script LAST_UPDATE 1 CONTENT {2000+}\r\n")
    assert talk.closed and talk.replica.events == []


@pytest.mark.covers("imapd.conf", "sync_max_connections")
@pytest.mark.covers("Replies of the session", "* BYE X, try again later")
def test_too_many_connections_are_turned_away(tmp_path: Path) -> None:
    talk = Conversation(tmp_path, login=False, max_connections=1)
    wire = come_in(talk, "192.0.2.1")
    assert wire.value() == b"* BYE too many connections, try again later\r\n" and wire.disconnecting
    assert not talk.closed


def come_in(talk: Conversation, host: str) -> Wire:
    """A connection through the listener's factory."""
    address = IPv4Address("TCP", host, 40112)
    proto = CsyncFactory(talk.service).buildProtocol(address)
    wire = Wire()
    wire.peerAddr = address
    assert proto is not None
    proto.makeConnection(wire)
    return wire


@pytest.mark.covers("Replies of the session", "* BYE X, try again later")
def test_a_stranger_who_does_nothing_gives_way_when_places_are_short(tmp_path: Path) -> None:
    talk = Conversation(tmp_path, login=False, max_connections=8)
    come_in(talk, "192.0.2.1")
    talk.clock.advance(9.9)
    assert not talk.closed
    talk.clock.advance(0.1)
    assert talk.heard() == (
        b"* BYE others wait for the place, and nobody has logged in here, try again later\r\n"
    )
    assert talk.closed


def test_a_stranger_who_does_nothing_has_a_minute_where_there_is_room(tmp_path: Path) -> None:
    talk = Conversation(tmp_path, login=False, max_connections=100)
    idle = come_in(talk, "192.0.2.1")
    talk.clock.advance(59)
    assert not idle.disconnecting
    talk.clock.advance(1)
    assert idle.disconnecting


def test_whoever_has_logged_in_keeps_the_place_and_finds_one_again(tmp_path: Path) -> None:
    talk = Conversation(tmp_path, max_connections=8)
    strangers = [come_in(talk, f"192.0.2.{n}") for n in range(20)]
    talk.clock.advance(30)
    assert not talk.closed
    talk.hang_up()
    strangers = [come_in(talk, f"192.0.3.{n}") for n in range(20)]
    assert any(wire.disconnecting for wire in strangers)
    again = come_in(talk, "192.168.1.1")
    assert not again.disconnecting and again.value().endswith(b"Cyrus sync server cyrus-sync\r\n")


def test_a_peer_that_does_not_take_its_leave_is_cut_off(tmp_path: Path) -> None:
    talk = Conversation(tmp_path, login=False)
    talk.session.give_way("others wait")
    assert talk.heard() == b"* BYE others wait, try again later\r\n" and not talk.wire.aborted
    talk.clock.advance(1)
    assert talk.wire.aborted


# -- guessing


@pytest.mark.covers("Replies of the session", "NO too many failed logins, try again later")
def test_guessing_is_slowed_however_many_connections_it_uses(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    talk = Conversation(tmp_path, login=False)
    guesses = []
    for _ in range(30):
        one = Conversation(tmp_path, login=False, service=talk.service)
        one.login("repl", "wrong")
        guesses.append(one)
    talk.clock.advance(3)
    heard = Counter(one.heard() for one in guesses)
    assert heard[b"NO authentication failure\r\n"] == 5
    assert heard[b"NO too many failed logins, try again later\r\n"] >= 22
    right = Conversation(tmp_path, login=False, service=talk.service)
    assert right.login("repl", "s3cret") == b""
    talk.clock.advance(60)
    heard_later = Counter(one.heard() for one in guesses)
    assert heard_later[b"NO authentication failure\r\n"] <= 3
    assert "not checked" in caplog.text


def test_the_guesses_of_one_address_delay_nobody_elsewhere(tmp_path: Path) -> None:
    talk = Conversation(tmp_path, login=False)
    for _ in range(30):
        talk.service.guessing.begin("192.0.2.66")
    assert talk.login("repl", "s3cret") == b"OK Success (no protection)\r\n"


def test_an_administrator_s_login_forgives_what_went_wrong_before(tmp_path: Path) -> None:
    talk = Conversation(tmp_path, login=False)
    for _ in range(4):
        talk.login("repl", "wrong")
        talk.clock.advance(3)
        talk.heard()
    assert talk.login("repl", "s3cret") == b"OK Success (no protection)\r\n"
    assert len(talk.service.guessing) == 0
