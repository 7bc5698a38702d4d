"""Both halves of SASL against one another, and the server against what no client should send."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from cyrus_sync.common.errors import AuthenticationFailed, StoreError
from cyrus_sync.common.wire import replies
from cyrus_sync.common.wire.policy import MECHANISMS, SCRAM, Layer, Policy
from cyrus_sync.common.wire.sasl import passwd
from cyrus_sync.common.wire.sasl.client import Credentials, SaslClient
from cyrus_sync.common.wire.sasl.passwd import PasswordFile
from cyrus_sync.common.wire.sasl.server import (
    MAX_LINE,
    Attempt,
    Challenge,
    Failure,
    Outcome,
    SaslServer,
    Success,
)

CLEAR = Layer()
TLS = Layer(256, tls=True, certificate="cyrus")


@pytest.fixture(autouse=True)
def few_rounds(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(passwd, "ITERATIONS", 4096)
    yield


@pytest.fixture
def server(tmp_path: Path) -> SaslServer:
    passwords = PasswordFile(tmp_path / "sync_passwd")
    passwords.set_password("cyrus", "s3cret")
    passwords.set_password("bob", "bobs")
    return SaslServer(
        Policy(allow_plaintext=True), passwords, proxies=frozenset({"cyrus"}), realm="replica.example"
    )


def now(coroutine: Any) -> Any:
    """The result of something that has nothing to wait for."""
    results: list[Any] = []
    Deferred.fromCoroutine(coroutine).addBoth(results.append)
    if hasattr(results[0], "raiseException"):
        results[0].raiseException()
    return results[0]


def converse(server: SaslServer, client: SaslClient, layer: Layer = CLEAR, initial: bool = True) -> Outcome:
    """Let the two talk; the server's last word."""
    attempt = server.attempt(layer)
    first = client.initial
    if initial and first is not None:
        outcome = now(attempt.start(client.mechanism, b64encode(first) or b"="))
    else:
        outcome = now(attempt.start(client.mechanism, None))
        if first is not None:
            assert outcome == Challenge(b"")
            outcome = now(attempt.step(b64encode(first)))
    while isinstance(outcome, Challenge):
        outcome = now(attempt.step(b64encode(client.step(outcome.data))))
    if isinstance(outcome, Success):
        client.finish()
    return outcome


@pytest.mark.covers("Commands of the session", "AUTHENTICATE")
@pytest.mark.parametrize("initial", [True, False], ids=["initial-response", "no-initial-response"])
@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_every_mechanism_logs_in_with_and_without_initial_response(
    server: SaslServer, mechanism: str, initial: bool
) -> None:
    client = SaslClient(mechanism, Credentials("Cyrus", "s3cret"))
    outcome = converse(server, client, TLS, initial)
    assert outcome == Success("cyrus", "cyrus", b"OK Success (tls protection)")


@pytest.mark.covers("Replies of the session", "NO authentication failure")
@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", *SCRAM])
@pytest.mark.parametrize(("user", "password"), [("cyrus", "wrong"), ("nobody", "s3cret"), ("cyrus", "")])
def test_wrong_passwords_and_unknown_users_get_the_same_answer(
    server: SaslServer, mechanism: str, user: str, password: str
) -> None:
    outcome = converse(server, SaslClient(mechanism, Credentials(user, password)))
    assert isinstance(outcome, Failure)
    assert outcome.reply == b"NO authentication failure"
    assert outcome.pause
    assert user in outcome.reason
    assert "s3cret" not in outcome.reason


def test_scram_ends_with_the_servers_proof_as_a_challenge_and_an_empty_line(server: SaslServer) -> None:
    client = SaslClient("SCRAM-SHA-256", Credentials("cyrus", "s3cret"))
    attempt = server.attempt(CLEAR)
    outcome = now(attempt.start("SCRAM-SHA-256", b64encode(client.initial or b"")))
    outcome = now(attempt.step(b64encode(client.step(outcome.data))))
    assert isinstance(outcome, Challenge)
    assert outcome.line.startswith(b"+ ")
    assert b64decode(outcome.line[2:]).startswith(b"v=")
    assert client.step(outcome.data) == b""
    assert isinstance(now(attempt.step(b"")), Success)


def test_a_client_does_not_believe_an_ok_without_the_servers_proof(server: SaslServer) -> None:
    client = SaslClient("SCRAM-SHA-256", Credentials("cyrus", "s3cret"))
    with pytest.raises(AuthenticationFailed, match="has not shown"):
        client.finish()


def test_a_client_does_not_accept_a_wrong_proof(server: SaslServer) -> None:
    client = SaslClient("SCRAM-SHA-1", Credentials("cyrus", "s3cret"))
    attempt = server.attempt(CLEAR)
    outcome = now(attempt.start("SCRAM-SHA-1", b64encode(client.initial or b"")))
    client.step(outcome.data)
    with pytest.raises(AuthenticationFailed):
        client.step(b"v=" + b64encode(b"x" * 20))


def test_a_client_refuses_a_server_that_asks_for_more(server: SaslServer) -> None:
    client = SaslClient("PLAIN", Credentials("cyrus", "s3cret"))
    with pytest.raises(AuthenticationFailed, match="asks for more"):
        client.step(b"password again?")


def test_credentials_do_not_print_the_password() -> None:
    assert "s3cret" not in repr(Credentials("cyrus", "s3cret"))


# -- identities


@pytest.mark.covers("Replies of the session", "NO authorization failure")
@pytest.mark.parametrize(
    ("authid", "password", "authzid", "expected"),
    [
        ("cyrus", "s3cret", "", "cyrus"),
        ("cyrus", "s3cret", "cyrus", "cyrus"),
        ("cyrus", "s3cret", "bob", "bob"),
        ("bob", "bobs", "bob", "bob"),
        ("bob", "bobs", "cyrus", None),
        ("cyrus@replica.example", "s3cret", "", "cyrus"),
        (" CYRUS", "s3cret", "", "cyrus"),
    ],
)
def test_only_an_administrator_may_act_for_somebody_else(
    server: SaslServer, authid: str, password: str, authzid: str, expected: str | None
) -> None:
    message = b"\0".join(each.encode() for each in (authzid, authid, password))
    outcome = now(server.attempt(CLEAR).start("PLAIN", b64encode(message)))
    if expected:
        assert isinstance(outcome, Success)
        assert outcome.userid == expected
    else:
        assert isinstance(outcome, Failure)
        assert outcome.reply == b"NO authorization failure"


def scram_with_authzid(server: SaslServer, authid: str, password: str, authzid: str) -> Outcome:
    """SCRAM by a client that sends an authorization identity, which enters its proof."""
    from scramp import ScramClient
    from scramp.core import Gs2Header

    class WithIdentity(Gs2Header):
        def __str__(self) -> str:
            return f"n,a={authzid},"

    client = ScramClient(["SCRAM-SHA-256"], authid, password)
    client.gs2_header = WithIdentity("n", None)
    attempt = server.attempt(CLEAR)
    outcome = now(attempt.start("SCRAM-SHA-256", b64encode(client.get_client_first().encode())))
    client.set_server_first(outcome.data.decode())
    outcome = now(attempt.step(b64encode(client.get_client_final().encode())))
    if isinstance(outcome, Challenge):
        client.set_server_final(outcome.data.decode())
        outcome = now(attempt.step(b""))
    return outcome


def test_scram_carries_an_authorization_identity_too(server: SaslServer) -> None:
    outcome = scram_with_authzid(server, "cyrus", "s3cret", "bob")
    assert isinstance(outcome, Success)
    assert outcome.userid == "bob"
    refused = scram_with_authzid(server, "bob", "bobs", "cyrus")
    assert isinstance(refused, Failure)
    assert refused.reply == replies.AUTHORIZATION_FAILURE


def test_external_is_who_the_certificate_says_or_whom_he_may_act_for(server: SaslServer) -> None:
    for authzid, certificate, expected in (
        (b"", "cyrus", "cyrus"),
        (b"bob", "cyrus", "bob"),
        (b"bob", "bob", "bob"),
        (b"cyrus", "bob", None),
    ):
        layer = Layer(256, tls=True, certificate=certificate)
        outcome = now(server.attempt(layer).start("EXTERNAL", b64encode(authzid) or b"="))
        assert (outcome.userid if isinstance(outcome, Success) else None) == expected


# -- what no client should send


def refused(attempt: Attempt, *lines: bytes) -> bytes:
    """The reply that ends `AUTHENTICATE lines[0]` when the client goes on with the other lines."""
    words = lines[0].split(b" ")
    outcome = now(attempt.start(words[0], words[1] if len(words) > 1 else None))
    for line in lines[1:]:
        assert isinstance(outcome, Challenge)
        outcome = now(attempt.step(line))
    assert isinstance(outcome, Failure), outcome
    return outcome.reply


@pytest.mark.covers(
    "Replies of the session",
    "BAD Client canceled authentication",
    "NO authentication failure",
    "NO no mechanism available",
)
@pytest.mark.parametrize(
    ("lines", "reply"),
    [
        ([b"FOO"], replies.NO_MECHANISM),
        ([b"\xff\xff"], replies.NO_MECHANISM),
        ([b"EXTERNAL ="], replies.NO_MECHANISM),
        ([b"PLAIN", b"*"], replies.CANCELLED),
        ([b"LOGIN", b"Y3lydXM=", b"*"], replies.CANCELLED),
        ([b"PLAIN !!!"], replies.BAD_PROTOCOL),
        ([b"PLAIN ="], replies.BAD_PROTOCOL),
        ([b"PLAIN", b""], replies.BAD_PROTOCOL),
        ([b"PLAIN", b"AGN5cnVz"], replies.BAD_PROTOCOL),
        ([b"PLAIN", b64encode(b"\0cyrus\0s3cret\0")], replies.BAD_PROTOCOL),
        ([b"PLAIN", b64encode(b"\0\xff\0s3cret")], replies.BAD_PROTOCOL),
        ([b"PLAIN", b64encode(b"\0\0s3cret")], replies.BAD_PROTOCOL),
        ([b"PLAIN", b"A" * (MAX_LINE + 4)], replies.LINE_TOO_LONG),
        ([b"PLAIN " + b"A" * (MAX_LINE + 4)], replies.LINE_TOO_LONG),
        ([b"LOGIN", b"", b""], replies.BAD_PROTOCOL),
        ([b"LOGIN", b"Y3lydXM=", b64encode(b"a\0b")], replies.BAD_PROTOCOL),
        ([b"SCRAM-SHA-256", b""], replies.BAD_PROTOCOL),
        ([b"SCRAM-SHA-256", b64encode(b"n,,n=cyrus")], replies.AUTHENTICATION_FAILURE),
        ([b"SCRAM-SHA-256", b64encode(b"p=tls-unique,,n=cyrus,r=abc")], replies.AUTHENTICATION_FAILURE),
        ([b"SCRAM-SHA-256", b64encode(b"n,x=1,n=cyrus,r=abc")], replies.BAD_PROTOCOL),
        (
            [b"SCRAM-SHA-256", b64encode(b"n,,n=cyrus,r=abc"), b64encode(b"c=biws,r=abc")],
            replies.AUTHENTICATION_FAILURE,
        ),
        ([b"SCRAM-SHA-256", b64encode(b"n,,n=cyrus,r=abc"), b""], replies.AUTHENTICATION_FAILURE),
    ],
)
def test_nonsense_is_refused_in_the_words_of_cyrus(
    server: SaslServer, lines: list[bytes], reply: bytes
) -> None:
    assert refused(server.attempt(CLEAR), *lines) == reply


def test_only_a_cancelled_attempt_is_answered_without_pause(server: SaslServer) -> None:
    attempt = server.attempt(CLEAR)
    now(attempt.start("PLAIN", None))
    assert now(attempt.step(b"*")).pause is False


def test_an_attempt_that_is_over_takes_no_more_lines(server: SaslServer) -> None:
    attempt = server.attempt(CLEAR)
    assert isinstance(now(attempt.start("PLAIN", b64encode(b"\0cyrus\0s3cret"))), Success)
    outcome = now(attempt.step(b64encode(b"\0cyrus\0s3cret")))
    assert isinstance(outcome, Failure)


def test_plain_is_refused_on_a_bare_line_where_it_is_not_allowed(server: SaslServer) -> None:
    strict = SaslServer(Policy(), server.passwords)
    message = b64encode(b"\0cyrus\0s3cret")
    assert refused(strict.attempt(CLEAR), b"PLAIN " + message) == replies.NEEDS_ENCRYPTION
    assert isinstance(now(strict.attempt(Layer(2)).start("PLAIN", message)), Success)


def test_a_password_file_that_cannot_be_read_is_a_failure_without_details(server: SaslServer) -> None:
    assert server.passwords is not None
    server.passwords.path.write_text("nonsense here\n")
    for mechanism in ("PLAIN", "SCRAM-SHA-256"):
        outcome = converse(server, SaslClient(mechanism, Credentials("cyrus", "s3cret")))
        assert isinstance(outcome, Failure)
        assert outcome.reply in (b"NO generic failure", b"NO authentication failure")
        assert b"sync_passwd" not in outcome.reply


# -- several who check passwords


class Daemon:
    """Stands for saslauthd."""

    def __init__(self, known: dict[tuple[str, str], str], broken: bool = False) -> None:
        self.known = known
        self.broken = broken

    async def check(self, user: str, password: str, realm: str = "") -> bool:
        if self.broken:
            raise StoreError("saslauthd does not answer")
        return self.known.get((user, realm)) == password


@pytest.mark.covers("imapd.conf", "sasl_pwcheck_method")
@pytest.mark.parametrize(
    ("user", "password", "reply"),
    [
        ("cyrus", "s3cret", b"OK Success (no protection)"),
        ("eve", "eves", b"OK Success (no protection)"),
        ("eve@elsewhere", "there", b"OK Success (no protection)"),
        ("eve", "there", replies.AUTHENTICATION_FAILURE),
    ],
)
def test_checks_are_asked_in_order_until_one_knows(
    server: SaslServer, user: str, password: str, reply: bytes
) -> None:
    daemon: Any = Daemon({("eve", ""): "eves", ("eve", "elsewhere"): "there"})
    both = SaslServer(server.policy, server.passwords, daemon, ("auxprop", "saslauthd"))
    assert converse(both, SaslClient("PLAIN", Credentials(user, password))).reply == reply  # type: ignore[union-attr]


@pytest.mark.covers("Replies of the session", "NO generic failure")
def test_a_check_that_cannot_be_asked_is_not_a_wrong_password(server: SaslServer) -> None:
    daemon: Any = Daemon({}, broken=True)
    both = SaslServer(server.policy, server.passwords, daemon, ("saslauthd", "auxprop"))
    good = converse(both, SaslClient("PLAIN", Credentials("cyrus", "s3cret")))
    assert isinstance(good, Success)
    bad = converse(both, SaslClient("PLAIN", Credentials("cyrus", "wrong")))
    assert isinstance(bad, Failure)
    assert bad.reply == replies.TEMPORARY_FAILURE
