"""The server's half of SASL: what is offered, and one `Attempt` per AUTHENTICATE command.

An attempt takes the client's lines as they come (base64) and gives an outcome for each, later if
somebody has to be asked::

    C: AUTHENTICATE SCRAM-SHA-256 biwsbj1hZG1pbi…     start   -> Challenge
    S: + cj1meWtv…                                            server-first
    C: Yz1iaXdz…                                      step    -> Challenge
    S: + dj02cnJp…                                            server-final: there is no place for it
    C:                                                step    -> Success    in the OK line
    S: OK Success (no protection)

A `Failure` says whether it should be held back (`pause`): always when somebody may be guessing, the same
for users who exist and who do not.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Generator
from dataclasses import field
from typing import TYPE_CHECKING, Any

from scramp import ScramException, ScramMechanism

from cyrus_sync.common.classes import dataclass
from cyrus_sync.common.errors import CyrusSyncError
from cyrus_sync.common.reactor import Reactor
from cyrus_sync.common.wire import replies
from cyrus_sync.common.wire.policy import MECHANISMS, SCRAM, Layer, Policy
from cyrus_sync.common.wire.sasl.passwd import PasswordFile, canonical_user
from cyrus_sync.common.wire.sasl.saslauthd import Saslauthd

if TYPE_CHECKING:
    from cyrus_sync.common.config import Config

MAX_LINE = 21848
"""Longest encoded line (16 KiB of data); SASL messages of ours are far shorter."""


# -- outcomes


@dataclass(frozen=True, slots=True)
class Challenge:
    """More is needed. `line` is what to send, without CRLF."""

    data: bytes

    @property
    def line(self) -> bytes:
        return b"+ " + b64encode(self.data)


@dataclass(frozen=True, slots=True)
class Success:
    """`userid` is who acts from now on, `authid` whose password or certificate it was."""

    userid: str
    authid: str
    reply: bytes


@dataclass(frozen=True, slots=True)
class Failure:
    """`reply` is the answer without CRLF, `reason` is for the log, `pause`: hold the answer back."""

    reply: bytes
    reason: str
    pause: bool = True


Outcome = Challenge | Success | Failure


class Refuse(Exception):
    """Ends an exchange from within a mechanism."""

    def __init__(self, reply: bytes, reason: str, pause: bool = True) -> None:
        super().__init__(reason)
        self.failure = Failure(reply, reason, pause)


# -- the server


@dataclass(frozen=True, slots=True)
class SaslServer:
    """What all attempts share. `checks` are asked in order for PLAIN and LOGIN; `proxies` are the users
    who may act for others (the admins)."""

    policy: Policy
    passwords: PasswordFile | None = None
    saslauthd: Saslauthd | None = None
    checks: tuple[str, ...] = ("auxprop",)
    proxies: frozenset[str] = field(default_factory=frozenset)
    realm: str = ""

    @classmethod
    def from_config(cls, cfg: Config, reactor: Reactor) -> SaslServer:
        """As imapd.conf has it."""
        checks = tuple(cfg.words("sasl_pwcheck_method"))
        return cls(
            policy=Policy.for_server(cfg),
            passwords=PasswordFile(cfg.string("sync_passwd_file") or "") if "auxprop" in checks else None,
            saslauthd=(
                Saslauthd(reactor, cfg.string("sasl_saslauthd_path") or "") if "saslauthd" in checks else None
            ),
            checks=checks,
            proxies=frozenset(canonical_user(user) for user in cfg.words("admins")),
            realm=cfg.servername,
        )

    def mechanisms(self, layer: Layer) -> tuple[str, ...]:
        """What the greeting offers under `layer`."""
        return self.policy.usable(layer)

    def attempt(self, layer: Layer) -> Attempt:
        """For one AUTHENTICATE command."""
        return Attempt(self, layer)

    def canonical(self, user: str) -> str:
        """A userid as the rest of the server knows it: our own realm is left out."""
        user = canonical_user(user)
        return user.removesuffix(f"@{self.realm.lower()}") if self.realm else user

    def may_act_for(self, authid: str, authzid: str) -> bool:
        """RFC 4616: another identity than the one that was proven only for those who may have any."""
        return authzid == authid or authid in self.proxies

    async def check_password(self, user: str, password: str) -> bool:
        """Ask each of `checks` until one knows. One that cannot be asked counts as not knowing, unless
        nobody else knows: then its error is raised."""
        trouble: CyrusSyncError | None = None
        for check in self.checks:
            try:
                if check == "auxprop" and self.passwords and self.passwords.check(user, password):
                    return True
                if check == "saslauthd" and self.saslauthd:
                    name, _, realm = user.partition("@")
                    if await self.saslauthd.check(name, password, realm):
                        return True
            except CyrusSyncError as error:
                trouble = error
        if trouble is not None:
            raise trouble
        return False


Steps = Generator[Any, Any, tuple[str, str]]
"""A mechanism: yields `bytes` (a challenge; is sent the answer) or `_Check` (is sent its result), and
returns (authid, authzid)."""


@dataclass(frozen=True, slots=True)
class _Check:
    user: str
    password: str


class Attempt:
    """One AUTHENTICATE command. Call `start` once, then `step` for each line until it is not a
    `Challenge` that comes back; all are coroutines."""

    def __init__(self, server: SaslServer, layer: Layer) -> None:
        self._server = server
        self._layer = layer
        self._steps: Steps | None = None
        self.mechanism = ""

    async def start(self, mechanism: bytes | str, initial: bytes | None) -> Outcome:
        """`initial` is the word behind the mechanism (``=`` stands for an empty one), None without."""
        name = mechanism.decode("ascii", "replace") if isinstance(mechanism, bytes) else mechanism
        self.mechanism = name.upper()
        if self.mechanism not in MECHANISMS:
            return Failure(replies.NO_MECHANISM, f"mechanism {name[:40]!r} is not known")
        objection = self._server.policy.objection(self.mechanism, self._layer)
        if objection is not None:
            return Failure(objection.reply, f"{self.mechanism} refused: {objection.reason}")
        data: bytes | None = None
        if initial is not None:
            decoded = _decode(b"" if initial == b"=" else initial)
            if isinstance(decoded, Failure):
                return decoded
            data = decoded
        self._steps = _MECHANISMS[self.mechanism](self._server, self._layer, self.mechanism, data)
        return await self._advance(None)

    async def step(self, line: bytes) -> Outcome:
        """The client's answer to a challenge, without CRLF."""
        if self._steps is None:
            return Failure(replies.BAD_PROTOCOL, "the exchange is over")
        if line == b"*":
            self._steps.close()
            self._steps = None
            return Failure(replies.CANCELLED, "cancelled by the client", pause=False)
        decoded = _decode(line)
        if isinstance(decoded, Failure):
            self._steps = None
            return decoded
        return await self._advance(decoded)

    async def _advance(self, answer: bytes | bool | None) -> Outcome:
        steps = self._steps
        if steps is None:
            return Failure(replies.BAD_PROTOCOL, "the exchange is over")
        try:
            wanted = steps.send(answer)
            while isinstance(wanted, _Check):
                right = await self._server.check_password(
                    self._server.canonical(wanted.user), wanted.password
                )
                wanted = steps.send(right)
            return Challenge(wanted)
        except StopIteration as done:
            self._steps = None
            return self._authorize(*done.value)
        except Refuse as refused:
            self._steps = None
            return refused.failure
        except ScramException as error:
            self._steps = None
            return Failure(replies.AUTHENTICATION_FAILURE, f"{self.mechanism}: {error}")
        except CyrusSyncError as error:
            self._steps = None
            return Failure(replies.TEMPORARY_FAILURE, str(error))

    def _authorize(self, authid: str, authzid: str) -> Outcome:
        authid = self._server.canonical(authid)
        userid = self._server.canonical(authzid) or authid
        if not self._server.may_act_for(authid, userid):
            return Failure(replies.AUTHORIZATION_FAILURE, f"{authid} may not act for {userid}")
        return Success(userid, authid, replies.success(self._layer.ssf, self._layer.tls))


def _decode(line: bytes) -> bytes | Failure:
    if len(line) > MAX_LINE:
        return Failure(replies.LINE_TOO_LONG, "line too long")
    try:
        return b64decode(line, validate=True)
    except ValueError:
        return Failure(replies.BAD_PROTOCOL, "not base64")


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise Refuse(replies.BAD_PROTOCOL, "not UTF-8") from None


# -- mechanisms


def _plain(server: SaslServer, layer: Layer, mechanism: str, initial: bytes | None) -> Steps:
    """RFC 4616: [authzid] NUL authcid NUL passwd."""
    data = initial if initial is not None else (yield b"")
    parts = data.split(b"\0")
    if len(parts) != 3 or not parts[1]:
        raise Refuse(replies.BAD_PROTOCOL, "PLAIN message without its two NULs")
    authzid, authid, password = (_text(part) for part in parts)
    if not (yield _Check(authid, password)):
        raise Refuse(replies.AUTHENTICATION_FAILURE, f"wrong password or unknown user {authid!r}")
    return authid, authzid


def _login(server: SaslServer, layer: Layer, mechanism: str, initial: bytes | None) -> Steps:
    """The two questions of draft-murchison-sasl-login; a user in the initial response is taken."""
    authid = _text(initial if initial else (yield b"Username:"))
    password = _text((yield b"Password:"))
    if not authid or "\0" in authid + password:
        raise Refuse(replies.BAD_PROTOCOL, "LOGIN without a user")
    if not (yield _Check(authid, password)):
        raise Refuse(replies.AUTHENTICATION_FAILURE, f"wrong password or unknown user {authid!r}")
    return authid, ""


def _external(server: SaslServer, layer: Layer, mechanism: str, initial: bytes | None) -> Steps:
    """RFC 4422, appendix A: the message is the authorization identity, or nothing."""
    authzid = _text(initial if initial is not None else (yield b""))
    if layer.certificate is None or "\0" in authzid:
        raise Refuse(replies.BAD_PROTOCOL, "EXTERNAL without a certificate, or with a NUL")
    return layer.certificate, authzid


class _GivenHeader:
    """The client's GS2 header as it came: it enters the proof, authorization identity included."""

    def __init__(self, header: str) -> None:
        self._header = header.encode()

    def make_cbind_input(self, _: object) -> bytes:
        return self._header


def _scram(server: SaslServer, layer: Layer, mechanism: str, initial: bytes | None) -> Steps:
    """RFC 5802 and 7677, without channel binding."""
    passwords = server.passwords
    if passwords is None:
        raise Refuse(replies.NO_MECHANISM, "SCRAM without a password file")
    first = _text(initial if initial else (yield b""))
    header, authzid, bare = _split_client_first(first)
    name = ""

    def lookup(user: str) -> tuple[bytes, bytes, bytes, int]:
        nonlocal name
        name = user
        found = passwords.verifier(server.canonical(user), mechanism)
        return found.salt, found.stored_key, found.server_key, found.iterations

    exchange = ScramMechanism(mechanism).make_server(lookup)
    exchange.set_client_first(f"{header.partition(',')[0]},,{bare}")
    exchange.gs2_header = _GivenHeader(header)
    final = _text((yield exchange.get_server_first().encode()))
    try:
        exchange.set_client_final(final)
    except ScramException as error:
        raise Refuse(
            replies.AUTHENTICATION_FAILURE, f"wrong password or unknown user {name!r}: {error}"
        ) from None
    if (yield exchange.get_server_final().encode()):
        raise Refuse(replies.BAD_PROTOCOL, "an answer to the end of SCRAM must be empty")
    return name, authzid


def _split_client_first(first: str) -> tuple[str, str, str]:
    """(GS2 header with its commas, authorization identity, client-first-message-bare)."""
    parts = first.split(",", 2)
    if len(parts) != 3 or (parts[1] and not parts[1].startswith("a=")):
        raise Refuse(replies.BAD_PROTOCOL, "malformed first message of SCRAM")
    authzid = parts[1][2:].replace("=2C", ",").replace("=3D", "=")
    return f"{parts[0]},{parts[1]},", authzid, parts[2]


_MECHANISMS = {
    "PLAIN": _plain,
    "LOGIN": _login,
    "EXTERNAL": _external,
    **dict.fromkeys(SCRAM, _scram),
}
