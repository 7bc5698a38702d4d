"""`Session`: one user logged in at the server, with what the server can do for us; it comes back after it was
cut."""

from __future__ import annotations

import functools
import imaplib
import socket
import ssl
import time
from dataclasses import replace
from pathlib import Path

from cyrus_sync.common.errors import AuthenticationFailed, CannotConnect
from cyrus_sync.pull.answers import octets, parsed
from cyrus_sync.pull.connection import Connection, Encrypt, Line
from cyrus_sync.pull.errors import HungUp, Refused, ServerTrouble
from cyrus_sync.pull.managesieve import ManageSieve, Scripts
from cyrus_sync.pull.settings import ImapSettings

_LATER = ("[UNAVAILABLE]", "[INUSE]", "[LIMIT]", "[SERVERBUG]", "[CONTACTADMIN]")
"""Answers to a login that say nothing about the password (RFC 5530)."""

_MOST_CUTS = 40
"""So often a conversation is taken up again."""


class Session:
    """`command` is the connection's. After `HungUp` `again` connects anew; what was open is closed then."""

    def __init__(
        self,
        settings: ImapSettings,
        login: str,
        password: str,
        directory: Path,
        *,
        waiting: bool = False,
    ) -> None:
        """Connects and logs in; `waiting`: for little else than hearing of changes, so nothing is compressed.
        Raises `CannotConnect`, `TLSFailed`; `AuthenticationFailed` where this user is refused;
        `ServerTrouble` where the server can let nobody in just now."""
        self._settings = settings
        self._login = login
        self._password = password
        self._directory = directory
        self._waiting = waiting
        self._cuts = 0
        self._octets = 0
        self._traffic = 0, 0
        self.prefixes: object = None
        """What `Lister` remembers of NAMESPACE."""
        self._begin()

    def _begin(self) -> None:
        settings = self._settings
        encrypt = _encrypt_of(settings)
        self.connection = Connection(
            functools.partial(_connected, settings, encrypt if settings.tls == "tls" else None),
            self._directory,
            compressible=not settings.local and not self._waiting,
            encrypt=encrypt if settings.tls == "starttls" else None,
        )
        try:
            self._log_in()
            self._agree()
        except BaseException:
            self.connection.close_now()
            raise

    def command(self, name: str, *words: bytes) -> dict[str, list[Line]]:
        """Untagged answers, after OK. Raises what `Connection.command` does."""
        return self.connection.command(name, *words)

    def again(self) -> None:
        """Connect anew. Raises what the beginning does, and `HungUp` where that was needed too often."""
        self._cuts += 1
        self._octets += self.connection.octets
        received, sent = self._traffic
        self._traffic = received - self.connection.received, sent - self.connection.sent
        self.connection.close_now()
        if self._cuts > _MOST_CUTS:
            raise HungUp(f"the IMAP server has hung up {self._cuts} times")
        for wait in (0.1, 0.3, 1, 2, None):
            try:
                self._begin()
                return
            except AuthenticationFailed:
                raise
            except (CannotConnect, HungUp) as error:
                if wait is None:
                    raise HungUp(f"the IMAP server has hung up, and then: {error.message}") from error
                time.sleep(wait)  # it may be starting again

    @property
    def octets(self) -> int:
        """How many octets of literals came."""
        return self._octets + self.connection.octets

    def traffic(self) -> tuple[int, int]:
        """Octets that came and went on the line, since they were asked for the last time."""
        before, self._traffic = self._traffic, (self.connection.received, self.connection.sent)
        received, sent = self._traffic
        return received - before[0], sent - before[1]

    def close(self) -> None:
        """Log out."""
        self.connection.close_now()

    # -- one pull after the other

    def is_of(self, login: str, password: str) -> bool:
        """Whether this user is logged in, with this password."""
        return (self._login, self._password) == (login, password)

    def rest(self) -> bool:
        """Nothing is open any more, so that what comes unasked is of no folder; False where the server cannot
        do that."""
        self._cuts = 0
        if self.connection.state == "SELECTED":
            if not self.offers("UNSELECT"):
                return False
            self.command("UNSELECT")
            self.connection.state = "AUTH"
        return True

    def leave(self) -> None:
        """Log out, and wait for nothing."""
        self.connection.leave()

    # -- logging in

    def _log_in(self) -> None:
        connection = self.connection
        if connection.state != "AUTH":
            try:
                self._prove(connection)
            except imaplib.IMAP4.abort as error:
                raise HungUp(f"the server hung up at the login: {error}") from error
            except imaplib.IMAP4.error as error:
                text = str(error).removeprefix("b'").rstrip("'")
                kind = ServerTrouble if any(code in text for code in _LATER) else AuthenticationFailed
                raise kind(f"login of {self._login} refused: {text}").at(user=self._login) from error
            except OSError as error:
                raise HungUp(f"the server hung up at the login: {error}") from error
        connection.look_at_capabilities()
        connection.untagged_responses = {}

    def _prove(self, connection: Connection) -> None:
        words = plain_words(self._settings, self._login, self._password)
        if "AUTH=PLAIN" in connection.offered:
            connection.authenticate("PLAIN", lambda _: "\0".join(words).encode())
        elif words[0]:
            raise AuthenticationFailed(
                "the server offers no AUTH=PLAIN, by which imap_master_user could act for others"
            )
        elif "LOGINDISABLED" in connection.offered:
            raise AuthenticationFailed("the server takes no password on a line without TLS (imap_tls)")
        else:
            connection.login(*words[1:])

    # -- what the server can do

    def _agree(self) -> None:
        connection, offered = self.connection, self.connection.offered
        connection.compress()
        wanted = [word for word in ("QRESYNC", "UTF8=ACCEPT") if word in offered and "ENABLE" in offered]
        enabled: set[str] = set()
        if wanted:
            answers = connection.command("ENABLE", *(word.encode() for word in wanted)).get("ENABLED", [])
            told = b" ".join(line for line in answers if isinstance(line, bytes)).decode("ascii", "replace")
            enabled = set(told.upper().split())
        self.qresync = "QRESYNC" in enabled
        self.condstore = self.qresync or "CONDSTORE" in offered
        self.utf8 = "UTF8=ACCEPT" in enabled
        self.folder_item = self.message_item = b""
        self.names_when_open = self.is_dovecot = False
        if "OBJECTID" in offered:
            self.message_item = b"EMAILID"
            self.names_when_open = "X-REPLICATION" in offered  # STATUS of a Cyrus 3.6 tells freed memory
            self.folder_item = b"" if self.names_when_open else b"MAILBOXID"
        elif self._says_dovecot():
            self.is_dovecot = True
            self.folder_item = self.message_item = b"X-GUID"
            self.is_dovecot = True
        elif "X-GM-EXT-1" in offered:
            self.message_item = b"X-GM-MSGID"

    def offers(self, *words: str) -> bool:
        """Whether all these capabilities are offered."""
        return self.connection.offered.issuperset(words)

    def _says_dovecot(self) -> bool:
        """Whether the items by which Dovecot names contents may be asked for (it does not offer them)."""
        if not self.offers("ID"):
            return False
        try:
            answers = self.command("ID", b"NIL").get("ID", [])
        except Refused:
            return False
        for fields, *_ in parsed(answers):
            words = [octets(word).lower() for word in fields or ()]
            return b"dovecot" in words[1::2]
        return False


def plain_words(settings: ImapSettings, login: str, password: str) -> tuple[str, str, str]:
    """What SASL PLAIN says: whom to act for ("" for nobody else), who does, and the password."""
    if settings.master and "%u" in settings.master:
        return "", settings.master.replace("%u", login), password
    if settings.master:
        return login, settings.master, password
    return "", login, password


def sieve_of(settings: ImapSettings, login: str, password: str) -> Scripts:
    """The user's scripts, as ManageSieve tells them. Raises what `ManageSieve` does."""
    clear = replace(settings, port=settings.sieve_port)
    line = ManageSieve(functools.partial(_connected, clear, None), _encrypt_of(settings))
    try:
        line.log_in(plain_words(settings, login, password))
        return line.scripts()
    finally:
        line.close()


def _connected(settings: ImapSettings, encrypt: Encrypt | None) -> socket.socket:
    if settings.host.startswith("/"):
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        made.settimeout(settings.timeout)
        try:
            made.connect(settings.host)
        except OSError:
            made.close()
            raise
        return made
    made = socket.create_connection((settings.host, settings.port), timeout=settings.timeout)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if encrypt is None:
        return made
    try:
        return encrypt(made)
    except OSError:
        made.close()
        raise


def _encrypt_of(settings: ImapSettings) -> Encrypt | None:
    """What begins TLS on a socket, None where there is none."""
    if settings.tls == "no":
        return None
    files = settings.ca_file, settings.ca_dir
    usual = ssl.get_default_verify_paths()
    looked_at = files if any(files) else (usual.cafile, usual.capath)
    context = _context(*files, settings.verify, tuple(_version(path) for path in looked_at))
    return functools.partial(context.wrap_socket, server_hostname=settings.host)


def _version(path: str | None) -> tuple[int, ...]:
    """What changes with a file, or with what lies in a directory. One that is not there is told of later."""
    try:
        there = Path(path).stat() if path else None
    except OSError:
        there = None
    return (there.st_ino, there.st_mtime_ns, there.st_size) if there is not None else ()


@functools.lru_cache(maxsize=4)
def _context(
    ca_file: str | None, ca_dir: str | None, verify: bool, versions: tuple[tuple[int, ...], ...]
) -> ssl.SSLContext:
    """Reading all authorities of a system takes 16 ms, and each session needs them: they are read once in
    each of their `versions`."""
    del versions
    context = ssl.create_default_context(cafile=ca_file, capath=ca_dir)
    # As everywhere else here: from 3.13 on Python would refuse what an administrator's own authority makes.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
