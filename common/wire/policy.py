"""Which SASL mechanisms may be used on which line: the one place that decides it, for both ends.

*SSF* is the strength of the layer that protects the line, in bits: 0 nothing, 1 integrity only, more
privacy. It comes from TLS (the cipher's bits) or is stated from outside (``sync_server -p ssf``: stunnel,
ssh). None of our mechanisms brings a layer of its own, therefore:

======================  ==========================================================================
``sasl_minimum_layer``  the layer that is there must be this strong, or nothing may be used
``sasl_maximum_layer``  bounds what a mechanism may *add*: refuses nothing here
``tls_required``        nothing before TLS (or an external layer)
``allowplaintext: no``  PLAIN and LOGIN only under a layer of SSF 2 or more
======================  ==========================================================================

EXTERNAL needs an identity that is proven already: a verified client certificate.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address
from typing import TYPE_CHECKING, NamedTuple, Protocol

from cyrus_sync.common.classes import dataclass
from cyrus_sync.common.wire import replies

if TYPE_CHECKING:
    from cyrus_sync.common.config import Config

MECHANISMS = ("EXTERNAL", "SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN", "LOGIN")
"""What we can do, strongest first."""

SCRAM = ("SCRAM-SHA-256", "SCRAM-SHA-1")
PLAINTEXT = ("PLAIN", "LOGIN")
PRIVACY = 2
"""The least SSF that hides what is sent."""


class Protected(Protocol):
    """A connection, as far as its protection is concerned."""

    tls: bool

    @property
    def ssf(self) -> int: ...

    @property
    def peer_certificate(self) -> object: ...


@dataclass(frozen=True, slots=True)
class Layer:
    """What protects a line. `certificate` is the identity that a verified client certificate proves."""

    ssf: int = 0
    tls: bool = False
    certificate: str | None = None

    @classmethod
    def of(cls, proto: Protected, external_ssf: int = 0) -> Layer:
        """The layer of a connection; `external_ssf` counts where it is the stronger one."""
        return cls(max(proto.ssf, external_ssf), proto.tls, certificate_user(proto.peer_certificate))

    def __str__(self) -> str:
        if not self.ssf:
            return "none"
        return f"{'TLS' if self.tls else 'external'}, {self.ssf} bits"


def certificate_user(certificate: object) -> str | None:
    """The userid of a verified client certificate: its subject's common name, in lower case."""
    if certificate is None:
        return None
    from cryptography import x509  # slow to load

    subject: x509.Name = certificate.to_cryptography().subject  # type: ignore[attr-defined] # Twisted's interface lacks it
    names = subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return str(names[-1].value).lower() if names else None


def is_loopback(host: str) -> bool:
    """Whether `host`, as an option has it, is this machine itself whatever a name server says."""
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


class Objection(NamedTuple):
    """Why a mechanism may not be used: libsasl's answer (without CRLF), and in plain words."""

    reply: bytes
    reason: str


@dataclass(frozen=True, slots=True)
class Policy:
    """The settings of one end."""

    allow_plaintext: bool = False
    minimum_layer: int = 0
    maximum_layer: int = 256
    tls_required: bool = False
    mechanisms: tuple[str, ...] = MECHANISMS

    @classmethod
    def for_server(cls, cfg: Config) -> Policy:
        """What `sync_server` offers. SCRAM needs verifiers, which only our own file has."""
        listed = {word.upper() for word in cfg.words("sasl_mech_list")} or set(MECHANISMS)
        if "auxprop" not in cfg.words("sasl_pwcheck_method"):
            listed -= set(SCRAM)
        return cls(
            allow_plaintext=cfg.switch("allowplaintext"),
            minimum_layer=cfg.integer("sasl_minimum_layer"),
            maximum_layer=cfg.integer("sasl_maximum_layer"),
            tls_required=cfg.switch("tls_required"),
            mechanisms=tuple(mech for mech in MECHANISMS if mech in listed),
        )

    @classmethod
    def for_client(cls, cfg: Config, channel: str | None, host: str) -> Policy:
        """What `sync_client` uses. ``sync_allowplaintext`` speaks for it alone, else ``allowplaintext``."""
        own = cfg.is_set("sync_allowplaintext", channel)
        plaintext = cfg.switch("sync_allowplaintext" if own else "allowplaintext", channel)
        return cls._of_client(cfg, host, plaintext)

    @classmethod
    def for_own_server(cls, cfg: Config, host: str) -> Policy:
        """What is used towards the csync server of the master itself. Nobody but root listens on a line that
        does not leave the machine."""
        own = cfg.is_set("cyrus_csync_allowplaintext")
        plaintext = cfg.switch("cyrus_csync_allowplaintext" if own else "allowplaintext")
        return cls._of_client(cfg, host, plaintext or (not own and is_loopback(host)))

    @classmethod
    def _of_client(cls, cfg: Config, host: str, plaintext: bool) -> Policy:
        wanted = (cfg.host_string(host, "mechs") or "").split() or cfg.words("force_sasl_client_mech")
        listed = {word.upper() for word in wanted} or set(MECHANISMS)
        return cls(
            allow_plaintext=plaintext,
            minimum_layer=cfg.integer("sasl_minimum_layer"),
            maximum_layer=cfg.integer("sasl_maximum_layer"),
            tls_required=cfg.switch("tls_required"),
            mechanisms=tuple(mech for mech in MECHANISMS if mech in listed),
        )

    def usable(self, layer: Layer) -> tuple[str, ...]:
        """The mechanisms that may be used under `layer`, strongest first."""
        return tuple(mech for mech in self.mechanisms if self.objection(mech, layer) is None)

    def objection(self, mechanism: str, layer: Layer) -> Objection | None:
        """Why `mechanism` may not be used under `layer`; None if it may."""
        if mechanism not in self.mechanisms:
            return Objection(replies.NO_MECHANISM, "not among the mechanisms that the configuration lists")
        if layer.ssf < self.minimum_layer:
            return Objection(
                replies.TOO_WEAK,
                f"sasl_minimum_layer is {self.minimum_layer} and the layer in force has {layer.ssf}",
            )
        if self.tls_required and layer.ssf < PRIVACY:
            return Objection(replies.NEEDS_ENCRYPTION, "tls_required is set and there is no TLS")
        if mechanism in PLAINTEXT and not self.allow_plaintext and layer.ssf < PRIVACY:
            return Objection(
                replies.NEEDS_ENCRYPTION,
                "it would send the password in clear, which allowplaintext does not permit",
            )
        if mechanism == "EXTERNAL" and layer.certificate is None:
            return Objection(replies.NO_MECHANISM, "there is no client certificate")
        return None


def common(offered: Sequence[str], usable: Sequence[str]) -> list[str]:
    """The mechanisms of `usable` that are `offered`, in the order of `usable`."""
    words = {word.upper() for word in offered}
    return [mech for mech in usable if mech in words]
