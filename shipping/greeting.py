"""The greeting, with which two hosts prove to one another that they have the family key.

Lines end in LF; C and S are public keys that the two sides have made for this connection
(`cyrus_sync.shipping.sealing`):

    client                                   server
    SHIP2 HELLO <C>
                                             SHIP2 CHALLENGE <S> <layer> <proof "server" C S layer>
    SHIP2 PROOF <proof "client" C S layer>
                                             WAIT …  (others are being served; repeated)
                                             READY     or     NO <reason>

After READY nothing more is said in clear. The layer is ``sealed`` with the keys that the two have agreed on,
or ``tls`` where the server has a certificate (`tls_server_cert` of imapd.conf). Whoever has not the family
key learns a public key that is worth nothing, and cannot have the two settle on another layer. Further proofs
on a TLS connection have in them what only its two ends know, so that nobody stands between these either.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cyrus_sync.common.wire.tls_settings import ServerTLSSettings
from cyrus_sync.shipping.call import Conversation
from cyrus_sync.shipping.contact import OTHER_KEY, refusal
from cyrus_sync.shipping.errors import Broken, Refused
from cyrus_sync.shipping.key import proof, proves
from cyrus_sync.shipping.sealing import KeyPair
from cyrus_sync.shipping.site import Site

if TYPE_CHECKING:
    from cyrus_sync.shipping.talk import Talk

VERSION = "SHIP2"
SEALED, TLS = "sealed", "tls"
NO_KEY = "does not have our family key"
_EXPORTED = b"EXPORTER-cyrus-sync-shipping"
_LONGEST = 200


@dataclass(frozen=True, slots=True)
class Proofs:
    """The proofs of one connection. `binding`: what only the ends of its TLS layer know."""

    key: bytes
    client: str
    server: str
    binding: bytes = b""

    def make(self, label: str, said: bytes = b"") -> str:
        return proof(self.key, label, *self._parts(said))

    def hold(self, shown: str, label: str, said: bytes = b"") -> bool:
        return proves(self.key, shown, label, *self._parts(said))

    def _parts(self, said: bytes) -> tuple[bytes, ...]:
        return self.client.encode(), self.server.encode(), self.binding, said


@dataclass(frozen=True, slots=True)
class Greeted:
    """What the two have agreed on. `keys`: for what the client says, and for what the server says."""

    proofs: Proofs
    layer: str
    keys: tuple[bytes, bytes]

    def sealed(self, talk: Conversation, *, client: bool) -> None:
        """Seal what is said from now on."""
        sending, receiving = self.keys if client else self.keys[::-1]
        talk.seal(sending, receiving)


# -- the client's half


async def greet(talk: Conversation, site: Site, host: str) -> Greeted:
    """Go as far as READY with `host`. `Refused` if it is not of the family, or says no."""
    pair = KeyPair()
    talk.say(f"{VERSION} HELLO {pair.public}")
    try:
        words = (await talk.line(_LONGEST)).split()
    except Broken as error:
        raise Broken(f"{error} (an older release there does not encrypt)") from None
    if len(words) != 5 or words[:2] != [VERSION, "CHALLENGE"] or words[2] == pair.public:
        raise Refused(f"{host}: what answers there is no shipping_server")
    proofs, layer = Proofs(site.key, pair.public, words[2]), words[3]
    if layer not in (SEALED, TLS) or not proofs.hold(words[4], "server", layer.encode()):
        raise Refused(f"{host} does not have our family key; nothing was sent")
    greeted = Greeted(proofs, layer, pair.keys(site.key, pair.public, words[2]))
    talk.say(f"{VERSION} PROOF {proofs.make('client', layer.encode())}")
    while (line := await talk.line()) != "READY":
        word, _, rest = line.partition(" ")
        if word == "NO":
            raise refusal(host, rest)
        if word != "WAIT":
            raise Refused(f"{host}: what answers there is no shipping_server")
    return greeted


async def start_tls(talk: Talk, site: Site, host: str, greeted: Greeted) -> Proofs:
    """Put the client's TLS layer on; the proofs for what follows."""
    from cyrus_sync.common.wire.tls import client_context

    await talk.start_tls(client_context(site.client_tls(host), host), client=True)
    return replace(greeted.proofs, binding=talk.exported(_EXPORTED))


# -- the server's half


async def challenge(talk: Talk, site: Site, line: str) -> Greeted | None:
    """Answer HELLO; None if the other side has not proved itself."""
    words = line.split()
    if len(words) != 3 or words[:2] != [VERSION, "HELLO"] or len(words[2]) != 64:
        if words[:2] == ["SHIP1", "HELLO"]:
            site.log.error(f"a sender at {talk.peer} is of an older release, which does not encrypt; refused")
        return None
    pair, layer = KeyPair(), TLS if site.server_tls else SEALED
    proofs = Proofs(site.key, words[2], pair.public)
    talk.say(f"{VERSION} CHALLENGE {pair.public} {layer} {proofs.make('server', layer.encode())}")
    words = (await talk.line(_LONGEST)).split()
    if len(words) != 3 or words[:2] != [VERSION, "PROOF"]:
        return None
    if not proofs.hold(words[2], "client", layer.encode()):
        site.log.error(f"a sender at {talk.peer} {NO_KEY}; nothing was taken")
        talk.say(f"NO {OTHER_KEY}")
        return None
    return Greeted(proofs, layer, pair.keys(site.key, proofs.client, proofs.server))


async def encrypt_as_server(talk: Talk, tls: ServerTLSSettings | None, greeted: Greeted) -> Proofs:
    """Say READY and put the server's layer on; the proofs for what follows."""
    talk.say("READY")
    if greeted.layer == SEALED or tls is None:
        greeted.sealed(talk, client=False)
        return greeted.proofs
    from cyrus_sync.common.wire.tls import ServerTLS

    await talk.start_tls(ServerTLS(tls), client=False)
    return replace(greeted.proofs, binding=talk.exported(_EXPORTED))
