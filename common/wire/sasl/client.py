"""The client's half of SASL: which mechanism, and its messages.

The strongest mechanism that both ends have and that may be used on the line as it is: EXTERNAL (with a
certificate), SCRAM-SHA-256, SCRAM-SHA-1, PLAIN, LOGIN. A password never goes out in clear on a line that
nothing protects unless the configuration says so; with SCRAM the server has to prove that it knows the
password too, or its OK is not believed.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence

from cyrus_sync.common.classes import dataclass
from cyrus_sync.common.errors import AuthenticationFailed
from cyrus_sync.common.wire.policy import MECHANISMS, SCRAM, Layer, Policy, common


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who we are. None of our mechanisms has a place for a realm; a user's may be part of `authname`."""

    authname: str | None = None
    password: str | None = None
    options: str = "sync"
    """What the options that say so begin with."""

    @property
    def user(self) -> str:
        return self.authname or ""

    def __repr__(self) -> str:
        return f"Credentials({self.user!r})"


def choose(
    offered: Sequence[str], policy: Policy, layer: Layer, credentials: Credentials, *, with_certificate: bool
) -> str | None:
    """The mechanism to use on the line as it is, None if there is none.

    `with_certificate`: our TLS context shows a client certificate."""
    ours = Layer(layer.ssf, layer.tls, "ours" if with_certificate and layer.tls else None)
    for mechanism in common(offered, policy.usable(ours)):
        if mechanism == "EXTERNAL" or (credentials.authname and credentials.password is not None):
            return mechanism
    return None


def why_not(
    offered: Sequence[str], policy: Policy, layer: Layer, credentials: Credentials, *, with_certificate: bool
) -> str:
    """For people: why `choose` found nothing."""
    if not offered:
        return f"the server offers no mechanism (layer in force: {layer})"
    if not (credentials.authname and credentials.password is not None) and not with_certificate:
        return f"{credentials.options}_authname and {credentials.options}_password are not set"
    ours = Layer(layer.ssf, layer.tls, "ours" if with_certificate and layer.tls else None)
    words = [word.upper() for word in offered]
    objections = {mech: policy.objection(mech, ours) for mech in MECHANISMS if mech in words}
    reasons = [f"{mech}: {objection.reason}" for mech, objection in objections.items() if objection]
    unknown = [word for word in words if word not in MECHANISMS]
    if unknown:
        reasons.append(f"{' '.join(unknown)}: not known here")
    return f"no usable mechanism (layer in force: {layer}); " + "; ".join(reasons)


class SaslClient:
    """One exchange with one mechanism. `initial` goes behind AUTHENTICATE; `step` answers a challenge;
    `finish` must be called when the server says OK."""

    def __init__(self, mechanism: str, credentials: Credentials) -> None:
        self.mechanism = mechanism
        self._proven = mechanism not in SCRAM
        self._prepared = (credentials.user, credentials.password or "")
        self._steps = self._messages(credentials)
        self.initial: bytes | None = next(self._steps)

    def step(self, challenge: bytes) -> bytes:
        """The answer to `challenge` (both without base64). Raises `AuthenticationFailed`."""
        try:
            answer = self._steps.send(challenge)
        except StopIteration:
            raise AuthenticationFailed("the server asks for more than the mechanism has") from None
        except UnicodeDecodeError as error:
            raise AuthenticationFailed(f"the server's answer is not acceptable: {error}") from None
        return answer or b""

    def finish(self) -> None:
        """Raises `AuthenticationFailed` when the server has not proven what it had to."""
        if not self._proven:
            raise AuthenticationFailed("the server says OK but has not shown that it knows the password")

    def misgiving(self) -> str:
        """Why the password may be right and be refused all the same, "" if nothing speaks for that."""
        if self.mechanism not in SCRAM:
            return ""
        from scramp import ScramException
        from scramp.core import saslprep

        try:
            if all(saslprep(text) == text for text in self._prepared):
                return ""
        except ScramException:
            return ""
        return (
            " (SCRAM prepares user name and password, which changes these; a real Cyrus does not do so:"
            " choose others, or PLAIN over TLS)"
        )

    def _messages(self, credentials: Credentials) -> Generator[bytes | None, bytes, None]:
        user, password = credentials.user, credentials.password or ""
        if self.mechanism == "EXTERNAL":
            yield b""
        elif self.mechanism == "PLAIN":
            yield b"\0" + user.encode() + b"\0" + password.encode()
        elif self.mechanism == "LOGIN":
            yield None
            yield user.encode()
            yield password.encode()
        else:
            yield from self._scram(user, password)

    def _scram(self, user: str, password: str) -> Generator[bytes | None, bytes, None]:
        from scramp import ScramClient, ScramException  # slow to load, and PLAIN does without

        try:
            exchange = ScramClient([self.mechanism], user, password)
        except ScramException as error:
            raise AuthenticationFailed(f"user name or password cannot be used with SCRAM: {error}") from None
        first = yield exchange.get_client_first().encode()
        try:
            exchange.set_server_first(first.decode())
            final = yield exchange.get_client_final().encode()
            exchange.set_server_final(final.decode())
        except ScramException as error:
            raise AuthenticationFailed(f"the server's answer is not acceptable: {error}") from None
        self._proven = True
        yield b""
