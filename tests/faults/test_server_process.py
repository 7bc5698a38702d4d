"""sync_server as a process: signals, locks, bad uploads, a full disk, kill -9 in the middle of everything."""

from __future__ import annotations

import fcntl
import os
import random
import resource
import signal
import socket
import ssl
import subprocess
import sys
import termios
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.common.wire.kit import Issued, issue
from tests.deadlines import at_rest, scaled, until
from tests.faults.server import ADMIN, PASSWORD, RunningServer, mailbox, plain, record, upload
from tests.walking import files_below

pytestmark = pytest.mark.fault

KILLS = int(os.environ.get("CYRUS_SYNC_KILLS", "5"))
MESSAGE = b"Subject: one\r\n\r\nhello\r\n"
OTHER = b"Subject: two\r\n\r\nhello again\r\n"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RunningServer]:
    with RunningServer(tmp_path, failed_login_pause=0) as running:
        yield running
        if running.process is not None and running.process.poll() is None:
            running.check_alive()


class Client:
    """A logged-in connection whose answers are read one by one."""

    def __init__(self, server: RunningServer, seconds: float = 20.0) -> None:
        self.line = server.connect(seconds=seconds)
        self.file = self.line.makefile("rb")
        self.line.sendall(plain(ADMIN, PASSWORD))
        self.answer()

    def send(self, command: bytes) -> None:
        self.line.sendall(command + b"\r\n")

    def answer(self) -> bytes:
        """The next line that ends a command, or b"" when the connection is closed."""
        while True:
            line = self.file.readline()
            if not line.startswith(b"* "):
                return line.rstrip(b"\r\n")

    def ask(self, command: bytes) -> bytes:
        self.send(command)
        return self.answer()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
        self.line.close()


@contextmanager
def locked(server: RunningServer, user: str) -> Iterator[None]:
    """Somebody else holds the lock of a user who exists."""
    lock = next(path for path in files_below(server.spool) if path.parts[-2:] == (user, "lock"))
    with lock.open("rb+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def make(server: RunningServer, *users: str) -> None:
    for user in users:
        name = f"user.{user}".encode()
        heard = server.talk([upload(MESSAGE), mailbox(name, f"{user}0000000000000000id".encode(), [MESSAGE])])
        assert heard == b"OK success\r\nOK success\r\nOK Finished\r\n"


# -- signals


@pytest.mark.covers("Replies of the session", "BYE shutting down")
def test_sigterm_finishes_the_running_command_then_says_bye(server: RunningServer) -> None:
    make(server, "slow")
    with Client(server) as busy, Client(server) as idle:
        with locked(server, "slow"):
            busy.send(b"APPLY SUB %(USERID slow MBOXNAME user.slow)")
            for _ in range(2):  # a turn of the server's loop or two: it has read what was sent before
                assert idle.ask(b"NOOP") == b"OK Noop completed"
            server.signal(signal.SIGTERM)
            assert idle.answer() == b"BYE shutting down"
            assert idle.answer() == b""
            with pytest.raises(OSError, match="refused"):
                server.connect()
        assert busy.answer() == b"OK success"
        assert busy.answer() == b"BYE shutting down"
        assert busy.answer() == b""
    assert server.wait() == 0
    server.start()
    assert b"* LSUB (user.slow)" in server.talk([b"GET USER slow"])


@pytest.mark.covers("Exit statuses", "sync_server 0")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_an_idle_server_at_once_with_status_0(
    server: RunningServer, number: signal.Signals
) -> None:
    begun = time.monotonic()
    server.signal(number)
    assert server.wait() == 0
    assert time.monotonic() - begun < scaled(2.5)


@pytest.mark.covers("Commands of the session", "STARTTLS")
@pytest.mark.covers("Capabilities", "COMPRESS DEFLATE")
def test_sighup_reads_the_certificate_again(tmp_path: Path) -> None:
    first = issue(tmp_path, "first")
    second = issue(tmp_path, "second")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"

    def use(issued: Issued) -> None:
        cert.write_bytes(issued.cert.read_bytes())
        key.write_bytes(issued.key.read_bytes())

    use(first)
    options = {"tls_server_cert": str(cert), "tls_server_key": str(key)}
    with RunningServer(tmp_path / "server", options=options) as server:
        before = shown_certificate(server)
        use(second)
        assert shown_certificate(server) == before
        server.signal(signal.SIGHUP)
        wait_for_log(server, "certificates read again")
        after = shown_certificate(server)
        assert after != before
        cert.write_text("no certificate")
        server.signal(signal.SIGHUP)
        wait_for_log(server, "the certificates in use stay")
        assert shown_certificate(server) == after


def shown_certificate(server: RunningServer) -> bytes:
    """What the server shows after STARTTLS; the greeting comes again, without STARTTLS and COMPRESS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with server.connect() as line:
        read_until(line, b"* OK ")
        line.sendall(b"STARTTLS\r\n")
        read_until(line, b"OK Begin")
        with context.wrap_socket(line) as secure:
            greeting = read_until(secure, b"* OK ")
            assert b"STARTTLS" not in greeting and b"COMPRESS" not in greeting and b"PLAIN" in greeting
            secure.sendall(plain(ADMIN, PASSWORD))
            assert read_until(secure, b"OK ").endswith(b"OK Success (tls protection)\r\n")
            return secure.getpeercert(binary_form=True) or b""


def read_until(line: socket.socket, start: bytes) -> bytes:
    """Up to the end of a line that begins with `start`."""
    heard = b""
    while not (heard.endswith(b"\r\n") and heard.splitlines()[-1].startswith(start)):
        data = line.recv(4096)
        assert data, heard
        heard += data
    return heard


def wait_for_log(server: RunningServer, text: str) -> None:
    until(lambda: text in server.log_tail(400), f"the log says {text}", 10)


# -- the command line


@pytest.mark.covers("sync_server: options", "-h")
@pytest.mark.covers("Exit statuses", "sync_server 64")
@pytest.mark.parametrize("arguments", [["-x"], ["-p", "many"], ["extra"]])
def test_a_command_line_that_makes_no_sense_is_64(arguments: list[str]) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "cyrus_sync.sync_server.cli", *arguments], capture_output=True, check=False
    )
    assert ended.returncode == 64 and b"usage:" in ended.stderr


@pytest.mark.covers("Exit statuses", "sync_server 70")
@pytest.mark.parametrize(
    "text", ["", "configdirectory: /nowhere\nsync_listen: x:y\npartition-default: /nowhere/spool\n"]
)
def test_a_bad_configuration_is_78_and_one_line(tmp_path: Path, text: str) -> None:
    conf = tmp_path / "imapd.conf"
    conf.write_text(text)
    command = [sys.executable, "-m", "cyrus_sync.sync_server.cli", "-C", str(conf)]
    ended = subprocess.run(command, capture_output=True, check=False)
    assert ended.returncode == 78
    assert ended.stderr.startswith(b"sync_server: " + bytes(conf)) and ended.stderr.count(b"\n") == 1


@pytest.mark.covers("Exit statuses", "sync_server 70")
def test_an_address_in_use_is_78(server: RunningServer, tmp_path: Path) -> None:
    conf = tmp_path / "imapd.conf"
    conf.write_text(server.config.read_text())
    command = [sys.executable, "-m", "cyrus_sync.sync_server.cli", "-f", "-v", "-e", "-C", str(conf)]
    ended = subprocess.run(command, capture_output=True, check=False)
    assert ended.returncode == 78
    assert f"cannot listen on 127.0.0.1:{server.port}: Address already in use" in ended.stderr.decode()


@pytest.mark.covers("sync_server: options", "-p")
@pytest.mark.covers("What the manual pages of sync_server and sync_client promise", "55")
def test_an_external_layer_makes_plain_acceptable(tmp_path: Path) -> None:
    with RunningServer(tmp_path, options={"allowplaintext": "no"}, arguments=["-p", "2"]) as server:
        assert b" PLAIN" in read_until(server.connect(), b"* OK ")
    with RunningServer(tmp_path, options={"allowplaintext": "no"}) as server:
        assert b" PLAIN" not in read_until(server.connect(), b"* OK ")


@pytest.mark.covers("imapd.conf", "maxword")
def test_words_strings_and_literals_are_as_long_as_the_configuration_allows(tmp_path: Path) -> None:
    options = {"maxword": "2k", "maxquoted": "3k", "maxliteral": "5k"}
    with RunningServer(tmp_path, options=options) as server:
        for length, form in ((2048, b"%s"), (3072, b'"%s"'), (5120, b"{%d+}\r\n%s")):
            for more in (0, 1):
                word = b"x" * (length + more)
                value = form % ((length + more, word) if b"%d" in form else word)
                heard = server.talk([b"GET MAILBOXES (" + value + b")"])
                assert heard.startswith(b"* Fatal error: " if more else b"OK success\r\n"), (length, heard)


@pytest.mark.covers("imapd.conf", "literalminus")
def test_literalminus_forbids_literals_beyond_4096_bytes(tmp_path: Path) -> None:
    with RunningServer(tmp_path, options={"literalminus": "yes"}) as server:
        for length, answer in ((4096, b"OK success\r\n"), (4097, b"* Fatal error: ")):
            value = b"{%d+}\r\n%s" % (length, b"x" * length)
            assert server.talk([b"GET MAILBOXES (" + value + b")"]).startswith(answer)


def test_it_tells_systemd_when_it_is_ready_and_when_it_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(scaled(10))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        with RunningServer(tmp_path / "server") as server:
            ready = manager.recv(4096)
            assert ready.startswith(b"READY=1\n") and str(server.port).encode() in ready
            assert server.stop() == 0
            assert manager.recv(4096) == b"STOPPING=1"


def test_a_unix_socket_is_for_its_owner_alone_and_a_stale_one_is_replaced(server: RunningServer) -> None:
    assert Path(server.socket_path).stat().st_mode & 0o777 == 0o600
    server.kill()
    assert Path(server.socket_path).is_socket()
    server.start()
    assert server.talk([b"NOOP"]) == b"OK Noop completed\r\nOK Finished\r\n"


# -- locks


@pytest.mark.covers("Codes after NO", "IMAP_MAILBOX_LOCKED")
def test_a_locked_user_is_refused_after_a_while_and_delays_nobody_else(server: RunningServer) -> None:
    make(server, "slow", "quick")
    with Client(server) as first, Client(server) as second, locked(server, "slow"):
        begun = time.monotonic()
        first.send(b"APPLY SUB %(USERID slow MBOXNAME user.slow)")
        assert second.ask(b"APPLY SUB %(USERID quick MBOXNAME user.quick)") == b"OK success"
        assert time.monotonic() - begun < scaled(1), "the quick user waited for the slow one"
        assert first.answer() == b"NO IMAP_MAILBOX_LOCKED Mailbox locked"
        assert 3 < time.monotonic() - begun < scaled(6)
        assert first.ask(b"NOOP") == b"OK Noop completed"


def test_reading_a_locked_user_waits_for_nobody(server: RunningServer) -> None:
    make(server, "slow")
    with Client(server) as client, locked(server, "slow"):
        begun = time.monotonic()
        assert client.ask(b"GET USER slow") == b"OK success"
        assert time.monotonic() - begun < scaled(1)


# -- bad uploads


def unchanged(server: RunningServer, client: Client, command: bytes, reply: bytes) -> None:
    """`command` is refused with `reply`, changes nothing, and the connection goes on."""
    before = server.talk([b"GET USER alice", b"GET FULLMAILBOX user.alice"])
    assert client.ask(command).startswith(reply)
    assert client.ask(b"NOOP") == b"OK Noop completed"
    assert server.talk([b"GET USER alice", b"GET FULLMAILBOX user.alice"]) == before


ID = b"alice0000000000000000id"


def test_a_message_that_does_not_match_its_guid(server: RunningServer) -> None:
    """It may have been longer than it was announced: nothing behind it is believed."""
    make(server, "alice")
    update = mailbox(b"user.alice", ID, [MESSAGE, OTHER], highestmodseq=4)
    before = server.talk([b"GET USER alice", b"GET FULLMAILBOX user.alice"])
    with Client(server) as client:
        lie = upload(OTHER).replace(OTHER, OTHER[::-1])
        assert client.ask(lie) == b"OK success"
        assert client.ask(update) == b"", "the connection ends"
    assert server.talk([b"GET USER alice", b"GET FULLMAILBOX user.alice"]) == before
    with Client(server) as client:
        assert client.ask(upload(OTHER)) == b"OK success"
        assert client.ask(update) == b"OK success"


@pytest.mark.covers("GET, APPLY, RESTORE", "APPLY MAILBOX")
def test_a_record_whose_message_was_never_sent(server: RunningServer) -> None:
    make(server, "alice")
    with Client(server) as client:
        unchanged(server, client, mailbox(b"user.alice", ID, [MESSAGE, OTHER], highestmodseq=4), b"NO ")


@pytest.mark.parametrize("order", [(2, 1), (1, 1), (3, 2)])
def test_records_out_of_order(server: RunningServer, order: tuple[int, int]) -> None:
    make(server, "alice")
    records = b" ".join(record(uid, MESSAGE) for uid in order)
    with Client(server) as client:
        update = mailbox(b"user.alice", ID, [MESSAGE, MESSAGE], records=records, highestmodseq=4)
        unchanged(server, client, update, b"NO IMAP_PROTOCOL_ERROR ")


@pytest.mark.covers("Codes after NO", "IMAP_PARTITION_UNKNOWN")
def test_a_partition_that_is_not_configured(server: RunningServer) -> None:
    make(server, "alice")
    with Client(server) as client:
        unchanged(server, client, upload(OTHER, partition=b"nowhere"), b"NO ")


# -- restore


@pytest.mark.covers("GET, APPLY, RESTORE", "RESTORE MAILBOX")
def test_restore_appends_to_a_mailbox_that_exists_with_new_uids(server: RunningServer) -> None:
    make(server, "alice")
    with Client(server) as client:
        assert client.ask(upload(OTHER)) == b"OK success"
        back = (
            b"RESTORE MAILBOX %(MBOXNAME user.alice RECORD (" + record(1, OTHER, flags=b"\\Flagged") + b"))"
        )
        assert client.ask(back) == b"OK success"
    heard = server.talk([b"GET FULLMAILBOX user.alice"])
    assert b"UNIQUEID " + ID in heard and b" LAST_UID 2 " in heard
    assert b"%(UID 2 " in heard and b"FLAGS (\\Flagged)" in heard


@pytest.mark.covers("GET, APPLY, RESTORE", "RESTORE MAILBOX")
def test_restore_keeps_the_ids_of_a_mailbox_that_it_makes(server: RunningServer) -> None:
    with Client(server) as client:
        assert client.ask(upload(OTHER)) == b"OK success"
        back = (
            b'RESTORE MAILBOX %(MBOXNAME user.alice PARTITION default ACL "alice\tlrs\t" OPTIONS P '
            b"UNIQUEID keptid HIGHESTMODSEQ 77 UIDVALIDITY 1234 RECORD ("
            + record(9, OTHER, modseq=70)
            + b"))"
        )
        assert client.ask(back) == b"OK success"
    heard = server.talk([b"GET FULLMAILBOX user.alice"])
    assert b"UNIQUEID keptid " in heard and b" UIDVALIDITY 1234 " in heard and b" HIGHESTMODSEQ 77 " in heard
    assert b"%(UID 9 MODSEQ 70 " in heard


@pytest.mark.covers("GET, APPLY, RESTORE", "RESTORE MAILBOX")
def test_restore_makes_a_mailbox_with_ids_of_its_own(server: RunningServer) -> None:
    with Client(server) as client:
        assert client.ask(upload(OTHER)) == b"OK success"
        back = (
            b'RESTORE LOCAL_MAILBOX %(MBOXNAME user.alice PARTITION default ACL "alice\tlrs\t" ANNOTATIONS '
            b'(%(ENTRY /comment USERID "" MODSEQ 0 VALUE kept)) RECORD ('
            + record(9, OTHER, modseq=70)
            + b"))"
        )
        assert client.ask(back) == b"OK success"
    heard = server.talk([b"GET FULLMAILBOX user.alice"])
    assert b"%(UID 1 " in heard and b'ACL "alice\tlrs\t"' in heard and b"VALUE kept" in heard


def test_restore_of_a_message_that_was_not_sent_changes_nothing(server: RunningServer) -> None:
    make(server, "alice")
    with Client(server) as client:
        back = b"RESTORE MAILBOX %(MBOXNAME user.alice RECORD (" + record(1, OTHER) + b"))"
        reason = b"NO a message of the backup was not sent, or is not what its GUID says"
        unchanged(server, client, back, reason)


# -- a full disk


@pytest.mark.covers("What a robust server minds", "8")
def test_on_a_full_disk_changes_are_refused_reading_goes_on_and_space_helps(server: RunningServer) -> None:
    make(server, "alice")
    rng = random.Random(7)
    large = [b"Subject: x\r\n\r\n" + rng.randbytes(400_000) for _ in range(30)]
    limit = max(status.st_size for status in files_below(server.base).values()) + 300_000
    with Client(server) as client:
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        answers = [client.ask(upload(*large[at : at + 10])) for at in range(0, 30, 10)]
        update = mailbox(b"user.alice", ID, [MESSAGE, *large], highestmodseq=4)
        answers.append(client.ask(update))
        assert answers[-1].startswith(b"NO "), answers
        assert any(answer.startswith(b"NO ") and b"no room left" in answer for answer in answers), answers
        assert client.ask(b"GET USER alice") == b"OK success"
        assert client.ask(b"GET FULLMAILBOX user.alice") == b"OK success"
        assert b" LAST_UID 1 " in server.talk([b"GET FULLMAILBOX user.alice"])
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        assert client.ask(upload(*large)) == b"OK success"
        assert client.ask(update) == b"OK success"
    assert b" LAST_UID 31 " in server.talk([b"GET FULLMAILBOX user.alice"])


@pytest.mark.covers("What a robust server minds", "8")
def test_a_large_message_on_a_full_disk_is_swallowed_whole(server: RunningServer) -> None:
    make(server, "alice")
    body = b"\r\nAPPLY UNUSER alice\r\n" * 200_000
    with Client(server) as client:
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
        assert client.ask(upload(body)).startswith(b"NO ")
        assert client.ask(b"NOOP") == b"OK Noop completed"
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert b"user.alice" in server.talk([b"GET USER alice"])


# -- long answers


def make_big(server: RunningServer) -> bytes:
    """A mailbox of more records than are answered from memory; its name."""
    count = 12_000
    records = b" ".join(record(uid, MESSAGE) for uid in range(1, count + 1))
    update = mailbox(b"user.big", b"bigid", [MESSAGE] * count, records=records)
    assert server.talk([upload(MESSAGE), update]).startswith(b"OK success\r\nOK success\r\n")
    return b"user.big"


@pytest.fixture
def big(server: RunningServer) -> bytes:
    return make_big(server)


def unread(line: socket.socket) -> int:
    """Octets that have come and wait to be read."""
    return int.from_bytes(fcntl.ioctl(line, termios.FIONREAD, bytes(4)), sys.byteorder)


def test_a_restart_behind_a_long_answer_does_not_cut_it(server: RunningServer, big: bytes) -> None:
    with Client(server) as client:
        client.send(b"GET FULLMAILBOX " + big + b"\r\nRESTART\r\nNOOP")
        at_rest(lambda: unread(client.line), "the line has taken all of the answer that it can hold")
        assert [client.answer() for _ in range(3)] == [b"OK success", b"OK Restarting", b"OK Noop completed"]


@pytest.mark.covers("What a robust server minds", "6")
def test_who_hangs_up_during_a_long_answer_leaves_nothing_open(tmp_path: Path) -> None:
    """Without Python's collector: what a client leaves behind is closed because it is gone, not by luck."""
    with RunningServer(tmp_path, collector=False) as server:
        big = make_big(server)
        server.talk([b"GET USER big"])
        before = others(open_files(server))
        ask = b"GET FULLMAILBOX " + big + b"\r\n"
        for number in range(40):
            line = server.connect()
            line.sendall(plain(ADMIN, PASSWORD) + ask * (1 + number % 3))
            for _ in range(number % 5):
                line.recv(50_000)
            line.close()
        began = time.monotonic()
        # A connection or two may stay for the next reader, known by its -wal. Descriptors of the index
        # itself are nobody's: SQLite keeps those for its next connection while another one is open.
        while (surplus := others(open_files(server)) - before).total() > 2:
            assert time.monotonic() - began < scaled(20), surplus
            time.sleep(0.05)
        assert server.talk([b"GET FULLMAILBOX " + big]).count(b"%(UID ") == 12_000
        server.check_alive()


def others(files: Counter[str]) -> Counter[str]:
    return Counter({name: count for name, count in files.items() if not name.endswith("index.sqlite")})


def open_files(server: RunningServer) -> Counter[str]:
    """What the server has open, by name."""
    found: Counter[str] = Counter()
    for entry in Path(f"/proc/{server.pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            found[str(entry.readlink()).partition(":")[0]] += 1
    return found


# -- kill -9


@pytest.mark.timeout(60 + 10 * KILLS)
def test_killed_at_any_instant_every_acknowledged_change_is_there(server: RunningServer) -> None:
    """A client pipelines messages and mailboxes; the server dies; what was answered OK is found again."""
    rng = random.Random(11)
    acknowledged: dict[bytes, bytes] = {}
    for number in range(KILLS):
        users = (b"user.u%dx%d" % (number, n) for n in range(4))
        names = [name for user in users for name in (user, *(user + b".f%d" % n for n in range(40)))]
        plan = []
        for name in names:
            body = b"Subject: %s\r\n\r\n" % name + rng.randbytes(rng.choice((10, 3000, 60_000)))
            plan.append((name, body))
        done = upload_until_killed(server, plan, after=rng.uniform(0.02, 0.5))
        acknowledged |= dict(plan[:done])
        server.start()
        look_for(server, acknowledged, dict(plan[done:]))
    assert acknowledged


def upload_until_killed(server: RunningServer, plan: list[tuple[bytes, bytes]], after: float) -> int:
    """How many of the mailboxes in `plan` were acknowledged before kill -9."""
    with Client(server) as client:

        def send() -> None:
            try:
                for name, body in plan:
                    client.send(
                        upload(body) + b"\r\n" + mailbox(name, name.replace(b".", b"x") + b"id", [body])
                    )
            except OSError:
                return

        sender = threading.Thread(target=send)
        timer = threading.Timer(after, server.kill)
        sender.start()
        timer.start()
        answers = 0
        try:
            while client.answer() == b"OK success":
                answers += 1
                if answers == 2 * len(plan):
                    break
        except OSError:
            pass
        timer.join()
        sender.join()
        return answers // 2


def look_for(server: RunningServer, acknowledged: dict[bytes, bytes], uncertain: dict[bytes, bytes]) -> None:
    """Everything acknowledged is there with its message; what was under way is there whole or not at all."""
    recent = list(acknowledged.items())[-200:]
    for names, must in ((recent, True), (list(uncertain.items()), False)):
        heard = server.talk([b"GET FULLMAILBOX " + name for name, _ in names])
        answers = heard.split(b"\r\n")[:-2]
        at = 0
        for name, body in names:
            if answers[at].startswith(b"NO IMAP_MAILBOX_NONEXISTENT"):
                assert not must, f"{name!r} was acknowledged and is gone"
                at += 1
                continue
            assert b"MBOXNAME " + name + b" " in answers[at] and record(1, body) in answers[at]
            at += 2
        assert at == len(answers)


@pytest.mark.parametrize("days", [3, -3])
def test_a_certificate_that_ends_is_told_of_at_start_and_at_sighup(tmp_path: Path, days: int) -> None:
    soon = issue(tmp_path, "soon", days=days)
    options = {"tls_server_cert": str(soon.cert), "tls_server_key": str(soon.key)}
    with RunningServer(tmp_path / "server", options=options) as server:
        wait_for_log(
            server, "the certificate CN=soon " + ("expires in 2 days" if days > 0 else "has expired 3")
        )
        issue(tmp_path, "other")
        for suffix in ("pem", "key"):
            (tmp_path / f"other.{suffix}").replace(tmp_path / f"soon.{suffix}")
        server.signal(signal.SIGHUP)
        wait_for_log(server, "certificates read again")
        issue(tmp_path, "soon", days=days + 2 if days > 0 else days - 2)
        server.signal(signal.SIGHUP)
        wait_for_log(
            server, "the certificate CN=soon " + ("expires in 4 days" if days > 0 else "has expired 5 days")
        )
        assert "CN=other" not in server.log.read_text()
