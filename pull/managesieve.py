"""A user's Sieve scripts by ManageSieve (RFC 5804), with the login that reads his mail."""

from __future__ import annotations

import base64
import re
import socket
import ssl
from collections.abc import Callable
from typing import NamedTuple

from cyrus_sync.common.errors import AuthenticationFailed, CannotConnect, TLSFailed
from cyrus_sync.pull.errors import HungUp, Refused, ServerTrouble

LARGEST = 16 << 20
"""Octets of a script."""

_STRING = re.compile(rb'"((?:[^"\\]|\\.)*)"|\{(\d{1,10})\+?\}\r\n\Z')
_WORD = re.compile(rb"[^\s\"]+|\s+")
_STATUS = re.compile(rb"(OK|NO|BYE)\b", re.IGNORECASE)


class Scripts(NamedTuple):
    """Contents by name, and which one is active ("" for none)."""

    contents: dict[str, bytes]
    active: str


class ManageSieve:
    """One connection, on a socket that is made by `connect`; `encrypt` begins TLS after STARTTLS. Raises
    `CannotConnect`, `TLSFailed`, `HungUp`, `ServerTrouble`."""

    def __init__(
        self,
        connect: Callable[[], socket.socket],
        encrypt: Callable[[socket.socket], socket.socket] | None,
    ) -> None:
        try:
            self._socket = connect()
        except OSError as error:
            raise CannotConnect(f"ManageSieve: {error.strerror or error}") from error
        try:
            self._lines = self._socket.makefile("rb")
            self.offered = self._capabilities(self._answer())
            if encrypt is not None:
                self.command(b"STARTTLS")
                self._socket = encrypt(self._socket)
                self._lines = self._socket.makefile("rb")
                self.offered = self._capabilities(self._answer())
        except ssl.SSLError as error:
            self.close()
            raise TLSFailed(f"ManageSieve: {error.reason or error}") from error
        except OSError as error:
            self.close()
            raise CannotConnect(f"ManageSieve: {error.strerror or error}") from error
        except BaseException:
            self.close()
            raise

    def log_in(self, words: tuple[str, str, str]) -> None:
        """SASL PLAIN: whom to act for, who does, and the password. `AuthenticationFailed`."""
        if "PLAIN" not in self.offered.get("SASL", "").upper().split():
            raise AuthenticationFailed("ManageSieve: the server offers no PLAIN")
        answer = base64.b64encode("\0".join(words).encode())
        try:
            self.command(b'AUTHENTICATE "PLAIN" "' + answer + b'"')
        except Refused as error:
            raise AuthenticationFailed(f"ManageSieve: {error.message}") from error

    def scripts(self) -> Scripts:
        """All of them."""
        names: dict[str, bool] = {}
        for words in self.command(b"LISTSCRIPTS"):
            if words and isinstance(words[0], bytes):
                active = len(words) > 1 and words[1].upper() == b"ACTIVE"
                names[words[0].decode("utf-8", "replace")] = active
        contents = {name: self._content(name) for name in names}
        return Scripts(contents, next((name for name, active in names.items() if active), ""))

    def _content(self, name: str) -> bytes:
        literal = name.encode()
        answer = self.command(b"GETSCRIPT {%d+}\r\n%s" % (len(literal), literal))
        return answer[0][0] if answer and answer[0] else b""

    def command(self, line: bytes) -> list[list[bytes]]:
        """The lines before OK, as words. Raises `Refused` for NO."""
        try:
            self._socket.sendall(line + b"\r\n")
            return self._answer()
        except TimeoutError as error:
            raise HungUp("ManageSieve: no answer in time") from error
        except OSError as error:
            raise HungUp(f"ManageSieve: {error.strerror or error}") from error

    def close(self) -> None:
        """Log out, whether it is heard or not."""
        try:
            self._socket.settimeout(2)
            self._socket.sendall(b"LOGOUT\r\n")
        except OSError:
            pass
        self._socket.close()

    def _answer(self) -> list[list[bytes]]:
        found = []
        while True:
            words, line = self._line()
            status = _STATUS.match(line)
            if status is None:
                found.append(words)
            elif status[1].upper() == b"OK":
                return found
            else:
                raise Refused(
                    b" ".join(words[1:] or words).decode("utf-8", "replace")
                    or line.decode("utf-8", "replace")
                )

    def _line(self) -> tuple[list[bytes], bytes]:
        """A line as words, strings without their quotes; and as it came."""
        words: list[bytes] = []
        whole = b""
        while True:
            line = self._lines.readline(LARGEST)
            if not line.endswith(b"\r\n"):
                raise HungUp("ManageSieve: the server has hung up")
            whole += line
            at = 0
            literal = None
            while at < len(line):
                found = _STRING.match(line, at)
                if found is None:
                    word = _WORD.match(line, at)
                    if word is None:
                        raise ServerTrouble(f"ManageSieve: no string: {line[:80]!r}")
                    if word[0].strip():
                        words.append(word[0])
                    at = word.end()
                elif found[2] is not None:
                    literal, at = int(found[2]), len(line)
                else:
                    words.append(re.sub(rb"\\(.)", rb"\1", found[1]))
                    at = found.end()
            if literal is None:
                return words, whole
            if literal > LARGEST:
                raise ServerTrouble(f"ManageSieve: a string of {literal} octets")
            data = self._lines.read(literal)
            if len(data) != literal:
                raise HungUp("ManageSieve: the server has hung up")
            words.append(data)
            whole += b"{}"

    def _capabilities(self, lines: list[list[bytes]]) -> dict[str, str]:
        found = {}
        for words in lines:
            text = [word.decode("utf-8", "replace") for word in words]
            if text:
                found[text[0].upper()] = text[1] if len(text) > 1 else ""
        return found
