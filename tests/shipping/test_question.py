"""A question to another host is answered to the family alone, once, and to no recording of it."""

from __future__ import annotations

import contextlib
import os
import random
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cyrus_sync.shipping import question
from cyrus_sync.shipping.errors import CannotReach, Refused, ShippingError
from cyrus_sync.shipping.key import proof
from cyrus_sync.shipping.question import LONGEST_ANSWER, LONGEST_QUESTION, ask
from cyrus_sync.shipping.sealing import KeyPair, Opener, Sealer
from tests.deadlines import scaled
from tests.forking import fork
from tests.shipping.conversation import next_line
from tests.shipping.kit import KEY, Host, wait_until
from tests.shipping.listener import relay

Pair = tuple[Host, Host]
Three = tuple[Host, Host, Host]
ROW = b"family: 1\nrow:\n  a: 7\n"


@pytest.fixture
def answering(pair: Pair) -> Iterator[Pair]:
    """Hub has epochs. Whatever the test does, it still answers afterwards."""
    boston, hub = pair
    write_epochs(hub, ROW)
    yield pair
    write_epochs(hub, ROW)
    assert ask(boston.site(), hub.name, "epochs") == ROW


def write_epochs(host: Host, data: bytes) -> None:
    (host.root / "multisite").mkdir(exist_ok=True)
    (host.root / "multisite/epochs.yaml").write_bytes(data)


class Asking:
    """The asker's half, step by step, so that a test can do each of them wrong."""

    def __init__(self, host: Host, key: str = KEY) -> None:
        self.key = bytes.fromhex(key)
        self.pair = KeyPair()
        self.mine = self.pair.public
        self.sock = socket.create_connection((host.name, host.port), timeout=scaled(20))
        self.sent = b""
        self._held = b""
        self._sealer: Sealer | None = None
        self._opener: Opener | None = None

    def __enter__(self) -> Asking:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def send(self, data: bytes) -> None:
        octets = self._sealer.seal(data) if self._sealer else data
        self.send_as_it_is(octets)

    def send_as_it_is(self, octets: bytes) -> None:
        self.sent += octets
        self.sock.sendall(octets)

    def ask(self, key: bytes | None = None) -> None:
        """`key`: with which what follows is sealed, if it is not ours."""
        self.send(f"SHIP2 ASK {self.mine} {proof(self.key, 'ask', self.mine.encode())}\n".encode())
        theirs = self.line().split()[2]
        sending, receiving = self.pair.keys(key or self.key, self.mine, theirs)
        self._sealer, self._opener = Sealer(sending), Opener(receiving)

    def question(self, text: bytes, *, length: int | None = None) -> None:
        self.send(f"QUESTION {len(text) if length is None else length}\n".encode() + text)

    def line(self) -> str:
        """The next line; "" if the connection was closed."""
        line, self._held = next_line(self.sock, self._held, self._opener)
        return line


@pytest.mark.parametrize("what", ["epochs", b"epochs"])
def test_epochs_are_answered_with_the_file(answering: Pair, what: bytes | str) -> None:
    boston, hub = answering
    assert ask(boston.site(), hub.name, what) == ROW
    assert "asked by 127.0.0.1: b'epochs'" in hub.log()


def test_an_answer_may_have_a_mebibyte_and_no_more(answering: Pair) -> None:
    boston, hub = answering
    write_epochs(hub, b"x" * LONGEST_ANSWER)
    assert ask(boston.site(), hub.name, "epochs") == b"x" * LONGEST_ANSWER
    write_epochs(hub, b"x" * (LONGEST_ANSWER + 1))
    with pytest.raises(Refused, match="the answer is longer than 1048576 bytes"):
        ask(boston.site(), hub.name, "epochs")
    write_epochs(hub, b"")
    assert ask(boston.site(), hub.name, "epochs") == b""


def test_a_host_without_the_file_says_so(answering: Pair) -> None:
    boston, hub = answering
    (hub.root / "multisite/epochs.yaml").unlink()
    with pytest.raises(Refused, match="no such answer: this host has not written its epochs yet"):
        ask(boston.site(), hub.name, "epochs")
    (hub.root / "multisite/epochs.yaml").mkdir()
    with pytest.raises(Refused, match="the answer cannot be read: Is a directory"):
        ask(boston.site(), hub.name, "epochs")
    (hub.root / "multisite/epochs.yaml").rmdir()


@pytest.mark.parametrize("what", ["family.key", "../family.key", "epochs ", "EPOCHS", b"\0\xff", "x" * 1024])
def test_no_other_question_is_answered(answering: Pair, what: bytes | str) -> None:
    boston, hub = answering
    with pytest.raises(Refused, match="that question is not known here"):
        ask(boston.site(), hub.name, what)


@pytest.mark.parametrize("what", ["", "x" * (LONGEST_QUESTION + 1)])
def test_what_cannot_be_a_question_is_not_asked(answering: Pair, what: str) -> None:
    boston, hub = answering
    with pytest.raises(ShippingError, match="a question has 1 to 1024 bytes"):
        ask(boston.site(), hub.name, what)


def test_nobody_there_is_said_as_such(hosts: Three) -> None:
    boston, hub, _ = hosts
    with pytest.raises(CannotReach, match=r"does not answer: tcp 127.0.0.2 port .*refused"):
        ask(boston.site(), hub.name, "epochs")
    with pytest.raises(CannotReach):
        ask(boston.site(), "no such host", "epochs")


def test_an_asker_with_another_key_hears_that_it_is_another(answering: Pair) -> None:
    boston, hub = answering
    stranger = Host(boston.root.parent / "stranger", "127.0.0.4", hub.port, key="6b" * 32)
    with pytest.raises(Refused, match="the family key is not ours"):
        ask(stranger.site(), hub.name, "epochs")
    with Asking(hub, "6b" * 32) as stranger_asks:
        mine = stranger_asks.mine
        shown = proof(stranger_asks.key, "ask", mine.encode())
        stranger_asks.send(f"SHIP2 ASK {mine} {shown}\n".encode())
        assert stranger_asks.line() == "NO the family key is not ours"
        assert stranger_asks.line() == ""


def test_a_recorded_question_is_not_answered(answering: Pair) -> None:
    _, hub = answering
    with Asking(hub) as asker:
        asker.ask()
        asker.question(b"epochs")
        assert asker.line().startswith("ANSWER")
        recorded = asker.sent
    with Asking(hub) as replay:
        replay.send(recorded)
        assert replay.line().startswith("SHIP2 CHALLENGE")
        assert replay.line() == ""


def test_the_proof_of_another_step_is_none(answering: Pair) -> None:
    _, hub = answering
    with Asking(hub) as asker:
        # That of a first contact does not serve to ask.
        shown = proof(asker.key, "contact", asker.mine.encode())
        asker.send(f"SHIP2 ASK {asker.mine} {shown}\n".encode())
        assert asker.line() == "NO the family key is not ours"
        assert asker.line() == ""


@pytest.mark.parametrize("spoil", ["in clear", "another key", "changed", "twice"])
def test_a_question_that_is_not_sealed_by_its_asker_is_not_answered(answering: Pair, spoil: str) -> None:
    _, hub = answering
    with Asking(hub) as asker:
        asker.ask(b"6" * 32 if spoil == "another key" else None)
        assert asker._sealer is not None
        sealed = asker._sealer.seal(b"QUESTION 6\nepo")
        if spoil == "in clear":
            sealed = b"QUESTION 6\nepochs"
        elif spoil == "changed":
            sealed = sealed[:-1] + bytes([sealed[-1] ^ 1])
        elif spoil == "twice":
            sealed *= 2
        asker.send_as_it_is(sealed + b"\n")
        assert asker.line() == ""


def test_nobody_else_reads_what_is_answered(answering: Pair) -> None:
    boston, hub = answering
    write_epochs(hub, b"secret" * 100)
    with relay(hub) as (host, heard):
        boston.port, port = host.port, boston.port
        boston.configure()
        assert ask(boston.site(), host.name, "epochs") == b"secret" * 100
    boston.port = port
    boston.configure()
    assert b"CHALLENGE" in heard and b"secret" not in heard and b"QUESTION" not in heard


@pytest.mark.parametrize("length", [LONGEST_QUESTION + 1, 10**12, -1])
def test_a_question_that_is_too_long_closes_the_connection(answering: Pair, length: int) -> None:
    _, hub = answering
    with Asking(hub) as asker:
        asker.ask()
        asker.question(b"epochs", length=length)
        assert asker.line() == ""


def test_garbage_in_the_middle_changes_nothing(answering: Pair) -> None:
    _, hub = answering
    chance = random.Random(11)
    for number in range(60):
        with Asking(hub) as asker, contextlib.suppress(OSError):
            if number % 2:
                asker.ask()
            asker.send(chance.randbytes(chance.randrange(1, 3000)))


def test_an_asker_that_says_nothing_more_is_shown_the_door(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    boston, hub = pair
    hub.stop()
    monkeypatch.setattr("cyrus_sync.shipping.service.HANDSHAKE", 0.2)
    hub.start()
    write_epochs(hub, ROW)
    with Asking(hub) as slow, Asking(hub) as slower:
        slow.ask()
        slower.ask()
        slower.send(b"QUES")
        assert ask(boston.site(), hub.name, "epochs") == ROW
        assert slow.line() == slower.line() == ""


def test_an_asker_that_does_not_read_its_answer_holds_up_nobody(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    boston, hub = pair
    hub.stop()
    monkeypatch.setattr(question, "PATIENCE", 0.3)
    hub.start()
    write_epochs(hub, b"x" * LONGEST_ANSWER)
    descriptors = Path(f"/proc/{hub.pid}/fd")
    before = len(list(descriptors.iterdir()))
    with contextlib.ExitStack() as stack:
        for _ in range(5):
            slow = stack.enter_context(Asking(hub))
            slow.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            slow.ask()
            slow.question(b"epochs")
        write_epochs(hub, ROW)
        assert ask(boston.site(), hub.name, "epochs") == ROW
        wait_until(lambda: len(list(descriptors.iterdir())) == before)


Answerer = Callable[[socket.socket, str], None]


@contextlib.contextmanager
def impostor(host: Host, answers: Answerer) -> Iterator[int]:
    """Somebody answers in the place of a host; the process."""
    with socket.create_server((host.name, host.port)) as listener:

        def serve() -> int:
            sock, _ = listener.accept()
            with sock, contextlib.suppress(OSError):
                answers(sock, sock.recv(300).decode().split()[2])
            return 0

        pid = fork(serve)
    try:
        yield pid
    finally:
        os.waitpid(pid, 0)


def family_answerer(length: int, said: bytes, *, word: str = "ANSWER", sealed: bool = True) -> Answerer:
    """One with the key, that answers so. `sealed`: with that key."""

    def answers(sock: socket.socket, mine: str) -> None:
        key, pair = bytes.fromhex(KEY), KeyPair()
        shown = proof(key, "answerer", mine.encode(), pair.public.encode())
        sock.sendall(f"SHIP2 CHALLENGE {pair.public} {shown}\n".encode())
        sock.recv(1000)
        _, sending = pair.keys(key if sealed else b"6" * 32, mine, pair.public)
        sock.sendall(Sealer(sending).seal(f"{word} {length}\n".encode() + said))

    return answers


def stranger_answerer(sock: socket.socket, mine: str) -> None:
    sock.sendall(f"SHIP2 CHALLENGE {'b' * 64} {'0' * 64}\n".encode())
    assert sock.recv(1000) == b"", "nothing is said to a stranger"


def echo(sock: socket.socket, mine: str) -> None:
    sock.sendall(f"SHIP2 CHALLENGE {mine} {'0' * 64}\n".encode())


def endless_line(sock: socket.socket, mine: str) -> None:
    while True:
        sock.sendall(b"x" * 10_000)


@pytest.mark.parametrize(
    "answers",
    [
        stranger_answerer,
        echo,
        endless_line,
        family_answerer(LONGEST_ANSWER + 1, b""),
        family_answerer(10**11, b""),
        family_answerer(5, b"abc"),
        family_answerer(3, b"abc", sealed=False),
        family_answerer(3, b"abc", word="WHAT"),
        lambda sock, mine: sock.sendall(b"\0\xff\n"),
        lambda sock, mine: None,
    ],
)
def test_an_answer_without_its_proof_is_not_believed(hosts: Three, answers: Answerer) -> None:
    boston, hub, _ = hosts
    with (
        impostor(hub, answers),
        pytest.raises(CannotReach, match=r"no valid answer|reset"),
    ):
        ask(boston.site(), hub.name, "epochs")


def test_an_answerer_that_goes_on_slowly_for_ever_is_left(
    hosts: Three, monkeypatch: pytest.MonkeyPatch
) -> None:
    boston, hub, _ = hosts
    monkeypatch.setattr(question, "PATIENCE", 0.2)

    def drip(sock: socket.socket, mine: str) -> None:
        sock.settimeout(0.01)
        while True:
            with contextlib.suppress(TimeoutError):
                if not sock.recv(100):
                    return
            sock.sendall(b"S")

    with impostor(hub, drip), pytest.raises(CannotReach, match=r"timed out|no valid answer"):
        ask(boston.site(), hub.name, "epochs")
