"""What the tests of the wire share: a line-based stand-in for the grammar, sockets in memory and on
loopback, a reactor that runs until a Deferred has fired, certificates."""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from cyrus_sync.common.protocol.events import NEED_DATA, ConnectionClosed
from tests.deadlines import scaled


class Lines:
    """Events are the lines of the input. Counts what it was given."""

    def __init__(self) -> None:
        self.data = b""
        self.given = 0
        self.eof = False
        self.largest = 0

    @property
    def buffered(self) -> int:
        return len(self.data)

    def receive_data(self, data: bytes) -> None:
        self.data += data
        self.given += len(data)
        self.largest = max(self.largest, len(data))

    def receive_eof(self) -> None:
        self.eof = True

    def next_event(self) -> Any:
        line, end, rest = self.data.partition(b"\n")
        if end:
            self.data = rest
            return line
        if self.eof:
            return ConnectionClosed(not self.data)
        return NEED_DATA

    def trailing_data(self) -> bytes:
        data, self.data = self.data, b""
        return data


class Recorder:
    """A handler that notes events; `hold` makes it return a Deferred for each event."""

    def __init__(self, hold: bool = False) -> None:
        self.events: list[Any] = []
        self.lost: list[Failure] = []
        self.hold = hold
        self.held: list[Deferred[None]] = []
        self.on_event: Any = None
        self._waiting: list[tuple[Any, Deferred[Any]]] = []

    def event(self, event: Any) -> Deferred[Any] | None:
        self.events.append(event)
        if self.on_event is not None:
            result = self.on_event(event)
            if isinstance(result, Deferred):
                return result
        if self.hold:
            self.held.append(Deferred())
            return self.held[-1]
        return None

    def connection_lost(self, reason: Failure) -> None:
        self.lost.append(reason)


def run(reactor: Any, deferred: Deferred[Any], timeout: float = 10.0) -> Any:
    """Spin `reactor` until `deferred` has fired; its result, or its exception."""
    box: list[Any] = []
    deferred.addBoth(box.append)
    spin(reactor, lambda: bool(box), timeout)
    if isinstance(box[0], Failure):
        box[0].raiseException()
    return box[0]


def spin(reactor: Any, condition: Any, timeout: float = 10.0) -> None:
    """Spin `reactor` until `condition()` is true."""
    began = reactor.seconds()
    while not condition():
        assert reactor.seconds() - began < scaled(timeout), "the condition did not come true in time"
        reactor.iterate(0.01)


def use_for_tls(monkeypatch: pytest.MonkeyPatch, reactor: Any) -> None:
    """Twisted's TLS gathers small writes with the clock of the one global reactor: make it `reactor`'s."""
    monkeypatch.setattr("twisted.protocols.tls._get_default_clock", lambda: reactor)


@dataclass(frozen=True)
class Issued:
    """A certificate and its key, as PEM files."""

    cert: Path
    key: Path
    certificate: x509.Certificate
    private_key: ec.EllipticCurvePrivateKey


def issue(
    directory: Path,
    name: str,
    issuer: Issued | None = None,
    *,
    hosts: tuple[str, ...] = (),
    days: int = 90,
    ca: bool = False,
) -> Issued:
    """A certificate for the common name `name` and for `hosts`, signed by `issuer` or by itself.

    `days` < 0: expired for so long."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=100))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    if hosts:
        names: list[x509.GeneralName] = []
        for host in hosts:
            try:
                names.append(x509.IPAddress(ipaddress.ip_address(host)))
            except ValueError:
                names.append(x509.DNSName(host))
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    certificate = builder.sign(issuer.private_key if issuer else key, hashes.SHA256())
    cert_path, key_path = directory / f"{name}.pem", directory / f"{name}.key"
    cert_path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return Issued(cert_path, key_path, certificate, key)
