"""A whole lifeboat, as mail programs meet it: it is started as a process and spoken to over IMAP."""

from __future__ import annotations

import contextlib
import imaplib
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cyrus_sync.common.config import Config
from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores import open_store
from cyrus_sync.common.stores.mailstore import MailStore
from cyrus_sync.common.wire.sasl.passwd import PasswordFile
from tests.common.wire.kit import issue
from tests.deadlines import scaled

from .corpus import CORPUS, message
from .kit import Afloat, afloat

PASSWORD = 'se"cr\\et'
"""With what IMAP has to quote."""

ALICE = Owner("user", "alice")
LARGE = b"Subject: large\r\n\r\n" + b"0123456789abcdef" * 65536 * 3


@pytest.fixture(scope="module")
def conf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("boat")
    conf = root / "imapd.conf"
    conf.write_text(
        f"configdirectory: {root}/conf\npartition-default: {root}/mail\nallowplaintext: yes\n"
        "admins: boss\nfailedloginpause: 0\nsync_log: no\n"
    )
    passwords = PasswordFile(root / "conf" / "sync_passwd")
    for user in ("alice", "boss"):
        passwords.set_password(user, PASSWORD)
    return conf


@pytest.fixture(scope="module")
def store(conf: Path) -> Iterator[MailStore]:
    """Alice's mail: the corpus in INBOX, one message in Work, a large one in Large, ten in Busy."""
    store = open_store(Config.load(conf))
    with store.write(ALICE) as writer:
        for folder in ("", ".Work", ".Large", ".Busy"):
            writer.create(f"user.alice{folder}")
        writer.append("user.alice", ((one, 1_790_000_000, "\\Seen") for one in CORPUS.values()))
        writer.append("user.alice.Work", [(message("Subject: work\n\nx\n"), 1_790_000_000, "\\Flagged")])
        writer.append("user.alice.Large", [(LARGE, 1_790_000_000, "")])
        writer.append(
            "user.alice.Busy", ((message(f"Subject: {n}\n\n"), 1_790_000_000, "") for n in range(10))
        )
    yield store
    store.close()


@pytest.fixture(scope="module")
def boat(conf: Path, store: MailStore) -> Iterator[Afloat]:
    with afloat(conf) as boat:
        yield boat


@pytest.fixture
def imap(boat: Afloat) -> Iterator[imaplib.IMAP4]:
    imap = imaplib.IMAP4("127.0.0.1", boat.port, timeout=scaled(30))
    imap.login("alice", PASSWORD)
    yield imap
    with contextlib.suppress(imaplib.IMAP4.abort):
        imap.logout()


@pytest.mark.covers("imapd.conf", "lifeboat_listen")
def test_a_user_reads_his_mail_with_the_uids_that_it_had(imap: imaplib.IMAP4) -> None:
    assert imap.select("INBOX", readonly=True) == ("OK", [str(len(CORPUS)).encode()])
    for uid, data in enumerate(CORPUS.values(), 1):
        answer = imap.uid("FETCH", str(uid), "(RFC822)")[1][0]
        assert answer[1] == data


@pytest.mark.parametrize(
    "name", ["STORE", "COPY", "CREATE", "DELETE", "RENAME", "SUBSCRIBE", "EXPUNGE", "SETACL"]
)
def test_every_change_is_refused_as_a_change(imap: imaplib.IMAP4, name: str) -> None:
    imap.select("INBOX", readonly=True)
    imap.send(b"x %b 1 +FLAGS (\\Seen)\r\n" % name.encode())
    assert imap.readline().startswith(b"x NO [READ-ONLY] ")


def test_a_message_is_refused_before_it_is_sent(imap: imaplib.IMAP4) -> None:
    imap.send(b"x APPEND INBOX {900000000}\r\n")
    assert imap.readline().startswith(b"x NO [READ-ONLY] ")
    assert imap.noop()[0] == "OK"


def test_a_large_message_comes_whole_and_in_parts(imap: imaplib.IMAP4) -> None:
    imap.select("Large", readonly=True)
    assert imap.fetch("1", "(UID BODY.PEEK[] FLAGS)")[1][0][1] == LARGE  # type: ignore[index] # imaplib's types
    assert imap.fetch("1", "(BODY[TEXT]<16.4>)")[1][0][1] == b"0123"  # type: ignore[index] # imaplib's types


def test_what_arrives_is_told_while_the_client_idles(imap: imaplib.IMAP4, store: MailStore) -> None:
    imap.select("Busy", readonly=True)
    imap.send(b"i IDLE\r\n")
    assert imap.readline().startswith(b"+ ")
    with store.write(ALICE) as writer:
        writer.append("user.alice.Busy", [(message("Subject: new\n\n"), 1_790_000_000, "")])
        writer.expunge("user.alice.Busy", [2, 3])
        writer.set_flags("user.alice.Busy", [5], add=["\\Answered"])
    assert [imap.readline() for _ in range(4)] == [
        *(b"* 3 EXPUNGE\r\n", b"* 2 EXPUNGE\r\n", b"* 9 EXISTS\r\n"),
        b"* 3 FETCH (UID 5 FLAGS (\\Recent \\Answered))\r\n",
    ]
    imap.send(b"DONE\r\n")
    assert imap.readline().startswith(b"i OK")
    assert imap.uid("SEARCH", "ALL")[1] == [b"1 4 5 6 7 8 9 10 11"]


def test_a_mailbox_that_goes_away_ends_the_session(
    boat: Afloat, store: MailStore, imap: imaplib.IMAP4
) -> None:
    with store.write(ALICE) as writer:
        writer.create("user.alice.Fleeting")
    imap.select("Fleeting", readonly=True)
    with store.write(ALICE) as writer:
        writer.delete("user.alice.Fleeting", delayed=False)
    imap.send(b"n NOOP\r\n")
    assert imap.readline() == b"* BYE the mailbox is gone\r\n"


def test_only_what_has_changed_is_fetched_with_condstore(imap: imaplib.IMAP4, store: MailStore) -> None:
    with store.read(ALICE) as reader:
        before = reader.highest_modseq()
    with store.write(ALICE) as writer:
        writer.set_flags("user.alice.Work", [1], remove=["\\Flagged"])
        after = writer.highest_modseq()
    imap.select("Work", readonly=True)
    assert imap.fetch("1:*", f"(UID) (CHANGEDSINCE {after})") == ("OK", [None])
    assert imap.fetch("1:*", f"(UID) (CHANGEDSINCE {before})") == (
        "OK",
        [f"1 (UID 1 MODSEQ ({after}))".encode()],
    )


def test_an_administrator_may_read_for_a_user(boat: Afloat) -> None:
    with imaplib.IMAP4("127.0.0.1", boat.port) as imap:
        imap.authenticate("PLAIN", lambda _: b"alice\0boss\0" + PASSWORD.encode())
        assert imap.select("Work", readonly=True)[0] == "OK"


def test_a_wrong_password_is_no_login_and_says_no_more(boat: Afloat) -> None:
    with imaplib.IMAP4("127.0.0.1", boat.port) as imap:
        with pytest.raises(imaplib.IMAP4.error, match="AUTHENTICATIONFAILED"):
            imap.login("alice", "wrong")
        with pytest.raises(imaplib.IMAP4.error, match="AUTHENTICATIONFAILED"):
            imap.authenticate("PLAIN", lambda _: b"boss\0alice\0" + PASSWORD.encode())
        imap.send(b"x SELECT INBOX\r\n")
        assert imap.readline() == b"x BAD Please login first\r\n"


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"x",
        b"x ",
        b"\xff\xfe",
        b"x NOPE",
        b"x FETCH",
        b"x FETCH 0 FLAGS",
        b"x FETCH 1 (BODY[",
        b"x SEARCH ((((",
    ],
)
def test_nonsense_is_answered_and_the_session_goes_on(imap: imaplib.IMAP4, line: bytes) -> None:
    imap.select("INBOX", readonly=True)
    imap.send(line + b"\r\n")
    assert b" BAD " in imap.readline()
    assert imap.noop()[0] == "OK"


def test_a_command_without_end_ends_the_session(boat: Afloat) -> None:
    with socket.create_connection(("127.0.0.1", boat.port), timeout=scaled(30)) as peer:
        peer.recv(1000)
        peer.sendall(b"x LOGIN " + b"a" * 100_000)
        assert b"BYE" in peer.recv(1000)


def test_a_hundred_thousand_messages_open_at_once(
    tmp_path: Path, conf: Path, store: MailStore, boat: Afloat
) -> None:
    bob = Owner("user", "bob")
    with store.write(bob) as writer:
        writer.create("user.bob")
        writer.append("user.bob", ((b"Subject: %d\r\n\r\n" % n, 1_790_000_000, "") for n in range(100_000)))
    with imaplib.IMAP4("127.0.0.1", boat.port) as imap:
        imap.authenticate("PLAIN", lambda _: b"bob\0boss\0" + PASSWORD.encode())
        imap.select("INBOX", readonly=True)
        began = time.monotonic()
        assert imap.select("INBOX", readonly=True)[1] == [b"100000"]
        assert time.monotonic() - began < scaled(0.3)
        assert imap.uid("FETCH", "99999:*", "(FLAGS)")[1][-1] == b"100000 (UID 100000 FLAGS (\\Recent))"


@pytest.mark.skipif(shutil.which("mbsync") is None, reason="isync is not installed")
def test_mbsync_copies_everything_down_and_pushes_nothing(boat: Afloat, tmp_path: Path) -> None:
    config = tmp_path / "mbsyncrc"
    config.write_text(
        f'IMAPStore boat\nHost 127.0.0.1\nPort {boat.port}\nUser alice\nPassCmd "cat {tmp_path}/secret"\n'
        "SSLType None\nAuthMechs LOGIN\n\n"
        f"MaildirStore here\nPath {tmp_path}/mail/\nInbox {tmp_path}/mail/INBOX\nSubFolders Verbatim\n\n"
        "Channel all\nFar :boat:\nNear :here:\nPatterns INBOX Work Large\nCreate Near\nSync Pull\n"
        f"SyncState {tmp_path}/state/\n"
    )
    (tmp_path / "secret").write_text(PASSWORD)
    (tmp_path / "mail").mkdir()
    (tmp_path / "state").mkdir()
    command = ["mbsync", "-c", str(config), "all"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=scaled(60), check=False)
    assert done.returncode == 0, done.stderr
    found = sorted(path.read_bytes() for path in (tmp_path / "mail" / "INBOX").glob("*/*"))
    assert len(found) == len(CORPUS)
    assert len(list((tmp_path / "mail" / "Large").glob("*/*"))) == 1


@pytest.mark.skipif(shutil.which("fetchmail") is None, reason="fetchmail is not installed")
def test_fetchmail_takes_messages_and_leaves_them(boat: Afloat, tmp_path: Path) -> None:
    config = tmp_path / "fetchmailrc"
    config.write_text(
        f"poll 127.0.0.1 protocol IMAP port {boat.port} auth password user alice password 'se\"cr\\\\et'"
        f" folder Work keep fetchall mda \"cat >> {tmp_path}/got\" sslproto ''\n"
    )
    config.chmod(0o600)
    files = ["-f", str(config), "-i", f"{tmp_path}/ids", "--pidfile", f"{tmp_path}/pid"]
    done = subprocess.run(
        ["fetchmail", "--nosyslog", *files],
        capture_output=True,
        text=True,
        timeout=scaled(60),
        check=False,
        env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
    )
    assert (tmp_path / "got").exists(), done.stderr + done.stdout
    assert b"Subject: work" in (tmp_path / "got").read_bytes()


@pytest.mark.covers("imapd.conf", "lifeboat_tls_listen")
def test_tls_is_begun_or_there_from_the_beginning(conf: Path, store: MailStore, tmp_path: Path) -> None:
    issued = issue(tmp_path, "boat", ca=True)
    own = tmp_path / "imapd.conf"
    own.write_text(conf.read_text().replace("allowplaintext: yes", "allowplaintext: no"))
    context = ssl.create_default_context(cafile=str(issued.cert))
    context.check_hostname = False
    with afloat(own, f"tls_server_cert: {issued.cert}", f"tls_server_key: {issued.key}") as boat:
        with imaplib.IMAP4("127.0.0.1", boat.port) as imap:
            assert "LOGINDISABLED" in imap.capabilities
            with pytest.raises(imaplib.IMAP4.error, match="PRIVACYREQUIRED"):
                imap.login("alice", PASSWORD)
            imap.starttls(context)
            imap.login("alice", PASSWORD)
        with imaplib.IMAP4_SSL("127.0.0.1", boat.tls, ssl_context=context) as imap:
            imap.login("alice", PASSWORD)
            assert imap.select("Work", readonly=True)[0] == "OK"
