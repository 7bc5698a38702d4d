"""What TLS needs to know at each end, and what a connection asks of it.

Apart from `common.wire.tls`, because OpenSSL's bindings and what belongs to them take a fifth of a second
to load: a command that connects in clear, or prints its help, does without.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cyrus_sync.common.classes import dataclass

if TYPE_CHECKING:
    from cyrus_sync.common.config import Config

DISABLED = "disabled"
"""The value by which imapd.conf says that there is no certificate."""

DEFAULT_VERSIONS = ("tls1_2", "tls1_3")


class TLSContext:
    """What `CsyncProtocol.start_tls` takes: makes connections, and looks at the peer afterwards."""

    def check_peer(self, handle: Any) -> None:
        """Called when the handshake is done, before any data counts. Raises `TLSFailed`."""


@dataclass(frozen=True, slots=True)
class ServerTLSSettings:
    """What a server's TLS needs to know. `certs` and `keys` are paired (an RSA and an EC one, say)."""

    certs: tuple[str, ...]
    keys: tuple[str, ...] = ()
    client_certs: str = "optional"
    client_ca_file: str | None = None
    client_ca_dir: str | None = None
    versions: tuple[str, ...] = DEFAULT_VERSIONS
    ciphers: str = "DEFAULT"
    prefer_server_ciphers: bool = False

    @classmethod
    def from_config(cls, cfg: Config) -> ServerTLSSettings | None:
        """From imapd.conf; None where TLS is not configured."""
        cert = cfg.string("tls_server_cert")
        if not cert or cert == DISABLED:
            return None
        return cls(
            certs=_paths(cert),
            keys=_paths(cfg.string("tls_server_key") or ""),
            client_certs=cfg.string("tls_client_certs") or "optional",
            client_ca_file=cfg.string("tls_client_ca_file"),
            client_ca_dir=cfg.string("tls_client_ca_dir"),
            versions=tuple(cfg.words("tls_versions")) or DEFAULT_VERSIONS,
            ciphers=cfg.string("tls_ciphers") or "DEFAULT",
            prefer_server_ciphers=cfg.switch("tls_prefer_server_ciphers"),
        )


@dataclass(frozen=True, slots=True)
class ClientTLSSettings:
    """What a client's TLS needs to know. Without `ca_file` and `ca_dir`: the system's authorities."""

    verify: bool = True
    ca_file: str | None = None
    ca_dir: str | None = None
    cert: str | None = None
    key: str | None = None
    versions: tuple[str, ...] = DEFAULT_VERSIONS
    ciphers: str = "DEFAULT"

    @classmethod
    def from_config(
        cls, cfg: Config, channel: str | None, host: str, *, verify: str = "sync_tls_verify"
    ) -> ClientTLSSettings:
        """From imapd.conf. ``<shorthost>_client_cert`` goes before ``tls_client_cert``; `verify` is the
        option that says whether the server's is verified."""
        cert, key = cfg.host_string(host, "client_cert"), cfg.host_string(host, "client_key")
        if not cert:
            cert, key = cfg.string("tls_client_cert"), key or cfg.string("tls_client_key")
        return cls(
            verify=cfg.switch(verify, channel),
            ca_file=cfg.string("tls_server_ca_file"),
            ca_dir=cfg.string("tls_server_ca_dir"),
            cert=None if cert == DISABLED else cert,
            key=None if key == DISABLED else key,
            versions=tuple(cfg.words("tls_versions")) or DEFAULT_VERSIONS,
            ciphers=cfg.string("tls_ciphers") or "DEFAULT",
        )


def _paths(value: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in value.split(",") if part.strip())
