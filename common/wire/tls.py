"""TLS contexts for both ends, and what went wrong with them in plain words.

The server's comes from ``tls_server_cert``/``tls_server_key`` and asks for client certificates where
``tls_client_ca_file`` says whom to trust (SASL EXTERNAL). The client's verifies chain **and** host name
unless ``sync_tls_verify: no``: Cyrus's own client verifies neither, so STARTTLS protects it from nobody
who can answer in the server's place.

Contexts are read completely when they are made: a missing file or a key that does not fit is a
`ConfigError` at start, not a failed handshake at night. `ServerTLS.reload` (SIGHUP) keeps the old
context when the new files are bad.
"""

# ruff: noqa: E402 (the bindings can only be loaded after `with_tls`)

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakKeyDictionary

from cyrus_sync.common.lean import with_tls

with_tls()

from cryptography import x509
from OpenSSL import SSL, crypto
from service_identity import VerificationError
from service_identity.pyopenssl import verify_hostname, verify_ip_address
from twisted.internet.interfaces import (
    IOpenSSLClientConnectionCreator,
    IOpenSSLServerConnectionCreator,
    IProtocol,
    IReactorTime,
)
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from cyrus_sync.common.errors import ConfigError, TLSFailed
from cyrus_sync.common.reactor import Clock
from cyrus_sync.common.wire.tls_settings import ClientTLSSettings, ServerTLSSettings, TLSContext

if TYPE_CHECKING:
    from cyrus_sync.common.config import Config

__all__ = ["ServerTLS", "TLSMemoryBIOFactory", "TLSMemoryBIOProtocol", "client_context", "server_context"]
"""Twisted's own are had from here: this module lets them be loaded (`common.lean`)."""

_SWITCH_OFF = {
    "ssl2": 0,  # gone from OpenSSL; the names are still found in configurations
    "ssl3": SSL.OP_NO_SSLv3,
    "tls1_0": SSL.OP_NO_TLSv1,
    "tls1_1": SSL.OP_NO_TLSv1_1,
    "tls1_2": SSL.OP_NO_TLSv1_2,
    "tls1_3": SSL.OP_NO_TLSv1_3,
}
VERSIONS = tuple(_SWITCH_OFF)
CLIENT_CERTS = ("off", "optional", "require")

_VERDICTS = {
    2: "it was issued by an authority that is not known here",
    7: "its signature is not by the authority that it names",
    9: "it is not yet valid",
    10: "it has expired",
    18: "it is self-signed and not in the list of trusted certificates",
    19: "it was issued by an authority that is not trusted here",
    20: "it was issued by an authority that is not known here",
    21: "it was issued by an authority that is not known here",
    23: "it has been revoked",
    24: "its issuer is not an authority",
    26: "it was not made for this purpose",
    66: "its key is too small",
    67: "its issuer's key is too small",
    68: "its signature algorithm is too weak",
}
_verdicts: WeakKeyDictionary[SSL.Connection, str] = WeakKeyDictionary()
"""What was wrong with the peer's certificate, by connection."""

_REASONS = {
    "wrong version number": "the peer does not speak TLS on this port",
    "record layer failure": "the peer does not speak TLS on this port",
    "packet length too long": "the peer does not speak TLS on this port",
    "http request": "the peer does not speak TLS on this port",
    "unsupported protocol": "no TLS version in common (tls_versions)",
    "no shared cipher": "no cipher in common (tls_ciphers)",
    "unknown ca": "the peer does not know the authority that issued our certificate",
    "certificate required": "the peer demands a client certificate (tls_client_cert)",
    "peer did not return a certificate": "the peer has shown no certificate",
    "bad certificate": "the peer does not accept our certificate",
    "certificate expired": "the peer says that our certificate has expired",
}


# -- the server's end


@implementer(IOpenSSLServerConnectionCreator)
class ServerTLS(TLSContext):
    """The server's context; one for all connections."""

    def __init__(self, settings: ServerTLSSettings) -> None:
        self.settings = settings
        self._context = self._make()

    def reload(self) -> None:
        """Read certificates and keys again, for connections that come from now on.

        Raises `ConfigError` when they are bad; the old ones stay in use then.
        """
        self._context = self._make()

    def serverConnectionForTLS(self, tlsProtocol: Any) -> SSL.Connection:
        return SSL.Connection(self._context, None)

    def _make(self) -> SSL.Context:
        ours = self.settings
        context = _context(SSL.TLS_SERVER_METHOD, ours.versions, ours.ciphers)
        if ours.prefer_server_ciphers:
            context.set_options(SSL.OP_CIPHER_SERVER_PREFERENCE)
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        context.set_options(SSL.OP_NO_TICKET)
        _use_certificates(context, ours.certs, ours.keys, "tls_server_cert", "tls_server_key")
        if ours.client_certs != "off" and (ours.client_ca_file or ours.client_ca_dir):
            _trust(context, ours.client_ca_file, ours.client_ca_dir, "tls_client_ca_file")
            if ours.client_ca_file:
                context.load_client_ca(ours.client_ca_file.encode())
            mode = SSL.VERIFY_PEER
            if ours.client_certs == "require":
                mode |= SSL.VERIFY_FAIL_IF_NO_PEER_CERT
            context.set_verify(mode, _remember_verdict)
        elif ours.client_certs == "require":
            raise ConfigError("tls_client_certs: require needs tls_client_ca_file or tls_client_ca_dir")
        return context


def server_context(cfg: Config) -> ServerTLS | None:
    """The server's TLS as imapd.conf has it, None where it has none. Raises `ConfigError`."""
    settings = ServerTLSSettings.from_config(cfg)
    return ServerTLS(settings) if settings else None


# -- the client's end


@implementer(IOpenSSLClientConnectionCreator)
class ClientTLS(TLSContext):
    """The client's context for one host."""

    def __init__(self, settings: ClientTLSSettings, host: str) -> None:
        self.settings = settings
        self.host = host
        self._address = _ip_address(host)
        self._context = context = _context(SSL.TLS_CLIENT_METHOD, settings.versions, settings.ciphers)
        if settings.cert:
            keys = (settings.key,) if settings.key else ()
            _use_certificates(context, (settings.cert,), keys, "tls_client_cert", "tls_client_key")
        if settings.verify:
            if settings.ca_file or settings.ca_dir:
                _trust(context, settings.ca_file, settings.ca_dir, "tls_server_ca_file")
            else:
                context.set_default_verify_paths()
            context.set_verify(SSL.VERIFY_PEER, _remember_verdict)

    def clientConnectionForTLS(self, tlsProtocol: Any) -> SSL.Connection:
        connection = SSL.Connection(self._context, None)
        if self._address is None:
            connection.set_tlsext_host_name(self.host.encode("idna"))
        connection.set_connect_state()
        return connection

    def check_peer(self, handle: SSL.Connection) -> None:
        if not self.settings.verify:
            return
        try:
            if self._address is not None:
                verify_ip_address(handle, self.host)
            else:
                verify_hostname(handle, self.host)
        except VerificationError:
            names = _names(handle.get_peer_certificate())
            raise TLSFailed(
                f"the certificate is not for {self.host} but for {names or 'nobody'}"
                " (sync_tls_verify: no accepts any)"
            ) from None


def client_context(settings: ClientTLSSettings, host: str) -> ClientTLS:
    """The client's TLS towards `host`. Raises `ConfigError`."""
    return ClientTLS(settings, host)


# -- what happened


def handshake_error(reason: Failure, handle: SSL.Connection | None) -> TLSFailed | None:
    """`reason` as a `TLSFailed` if it is an error of TLS, else None."""
    if not reason.check(SSL.Error):
        return None
    verdict = _verdicts.get(handle) if handle is not None else None
    if verdict:
        return TLSFailed(f"the peer's certificate was refused: {verdict}")
    queue = reason.value.args[0] if reason.value and reason.value.args else ()
    words = queue[-1][-1] if isinstance(queue, list) and queue else reason.getErrorMessage()
    for known, plain in _REASONS.items():
        if known in words:
            return TLSFailed(f"TLS handshake failed: {plain}")
    return TLSFailed(f"TLS handshake failed: {words or 'no reason given'}")


def _remember_verdict(conn: SSL.Connection, cert: crypto.X509, error: int, depth: int, ok: int) -> bool:
    if not ok:
        shown = cert.to_cryptography()
        what = "certificate" if depth == 0 else "certificate of its authority"
        why = _VERDICTS.get(error, f"OpenSSL says no (verify error {error})")
        if error == 9:
            why += f" (from {shown.not_valid_before_utc:%Y-%m-%d})"
        elif error == 10:
            why += f" (on {shown.not_valid_after_utc:%Y-%m-%d})"
        _verdicts[conn] = f"{what} {shown.subject.rfc4514_string() or 'without a name'}: {why}"
    return bool(ok)


def _names(cert: crypto.X509 | None) -> str:
    """The host names and addresses that a certificate is for."""
    if cert is None:
        return ""
    try:
        extension = cert.to_cryptography().extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (x509.ExtensionNotFound, ValueError):
        return cert.to_cryptography().subject.rfc4514_string()
    return ", ".join(str(name.value) for name in extension.value)


# -- making contexts


def _context(method: int, versions: Sequence[str], ciphers: str) -> SSL.Context:
    context = SSL.Context(method)
    context.set_options(SSL.OP_NO_COMPRESSION)
    unknown = [each for each in versions if each not in _SWITCH_OFF]
    if unknown:
        raise ConfigError(f"tls_versions: unknown version {unknown[0]} (known: {' '.join(VERSIONS)})")
    for version, off in _SWITCH_OFF.items():
        if version not in versions:
            context.set_options(off)
    try:
        context.set_cipher_list(ciphers.encode())
    except SSL.Error:
        raise ConfigError(f"tls_ciphers: no usable cipher in {ciphers!r}") from None
    return context


def _use_certificates(
    context: SSL.Context, certs: Sequence[str], keys: Sequence[str], cert_key: str, key_key: str
) -> None:
    if keys and len(keys) != len(certs):
        raise ConfigError(f"{key_key}: {len(keys)} keys for {len(certs)} certificates")
    for cert, key in zip(certs, keys or certs, strict=True):
        for name, path in ((cert_key, cert), (key_key, key)):
            try:
                Path(path).read_bytes()
            except OSError as error:
                raise ConfigError(f"{name}: {path}: {error.strerror}") from None
        try:
            context.use_certificate_chain_file(cert)
        except SSL.Error:
            raise ConfigError(f"{cert_key}: {cert}: no usable certificate (PEM) in it") from None
        try:
            context.use_privatekey_file(key)
            context.check_privatekey()
        except SSL.Error:
            raise ConfigError(f"{key_key}: {key}: no private key (PEM) that fits {cert}") from None


def _trust(context: SSL.Context, ca_file: str | None, ca_dir: str | None, key: str) -> None:
    for path in (ca_file, ca_dir):
        if path and not Path(path).exists():
            raise ConfigError(f"{key}: {path}: No such file or directory")
    try:
        context.load_verify_locations(ca_file, ca_dir)
    except SSL.Error:
        raise ConfigError(f"{key}: {ca_file or ca_dir}: no certificate (PEM) in it") from None


def _ip_address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def layer_upon(
    below: Any, protocol: IProtocol, context: TLSContext, *, client: bool, clock: Clock
) -> TLSMemoryBIOProtocol:
    """The transport that `protocol` has from now on: TLS upon its transport `below`. The handshake begins."""
    factory = TLSMemoryBIOFactory(cast(Any, context), client, cast(Any, None), cast(IReactorTime, clock))
    layer: TLSMemoryBIOProtocol = cast(Any, factory.protocol)(factory, protocol, False)
    below.protocol = layer
    layer.makeConnection(below)
    return layer
