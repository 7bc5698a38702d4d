"""`Connection`: one conversation with an IMAP server, by Python's imaplib.

imaplib reads lines and literals, counts tags and gathers untagged answers, and does that faster than any
other client that was measured. Added here by the methods that it offers for that (open, read, readline,
send): TLS and UNIX sockets as configured, COMPRESS (RFC 4978), and a bound on memory: once the literals of
one answer take more than `IN_MEMORY` octets, the others of it go into files without a name."""

from __future__ import annotations

import imaplib
import io
import re
import socket
import ssl
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

from cyrus_sync.common.errors import CannotConnect, StoreError, TLSFailed
from cyrus_sync.common.nameless import PIECE, NamelessFile
from cyrus_sync.pull.errors import HungUp, Refused, ServerTrouble

IN_MEMORY = 8 << 20
_ANY_STATE = ("NONAUTH", "AUTH", "SELECTED")
"""For commands that imaplib does not know: it would else take them in the state of the first time only."""

LONGEST_LINE = 64 << 20
"""Octets; a list of the UIDs of some million messages is one line."""

Line = bytes | tuple[bytes, Any]
"""A piece of an untagged answer: text, or text that ends with the length of a literal, and the literal."""


Encrypt = Callable[[socket.socket], socket.socket]


class Large:
    """A literal in a file without a name."""

    def __init__(self, file: NamelessFile, size: int) -> None:
        self.file = file
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.file)


class Connection(imaplib.IMAP4):
    """A connection, from `connect` to `close`. `command` raises `Refused` for NO and BAD, `HungUp` when the
    line ends, `ServerTrouble` for what is no IMAP. For one thread at a time."""

    def __init__(
        self,
        connect: Callable[[], socket.socket],
        directory: Path,
        compressible: bool,
        encrypt: Encrypt | None,
    ) -> None:
        """`connect` makes the socket, encrypted where TLS comes first; `encrypt` does so after STARTTLS.
        Large literals lie in `directory`. Raises `CannotConnect`, `TLSFailed`."""
        self._connect_socket = connect
        self._directory = directory
        self._in_memory = 0
        self.inflate: Any = None
        self._deflate: Any = None
        self.offered: frozenset[str] = frozenset()
        self.compressible = compressible
        self.octets = 0
        """Of literals; those on the line are `received` and `sent`."""
        self.received = self.sent = 0
        with self._trouble(connecting=True):
            super().__init__()
            self.is_readonly = True
        self.offered = frozenset(str(word).upper() for word in self.capabilities)
        if encrypt is not None:
            try:
                with self._trouble(connecting=True):
                    self._begin_tls(encrypt)
                self.look_at_capabilities()
            except BaseException:
                self.shutdown()
                raise

    # -- what imaplib lets others do

    def open(self, host: str = "", port: int = 0, timeout: float | None = None) -> None:
        del host, port, timeout
        self.sock = self._connect_socket()
        self._incoming = io.BufferedReader(_Incoming(self), 1 << 16)

    def readline(self) -> bytes:
        line = self._incoming.readline(LONGEST_LINE + 1)
        if len(line) > LONGEST_LINE:
            raise self.error(f"a line of more than {LONGEST_LINE} octets")
        return line

    def read(self, size: int) -> Any:
        self.octets += size
        if self._in_memory + size <= IN_MEMORY:
            self._in_memory += size
            data = self._incoming.read(size)
            if len(data) != size:
                raise self.abort("the connection ended within a literal")
            return data
        return Large(NamelessFile.filled(self._directory, self._pieces(size)), size)

    def _pieces(self, size: int) -> Iterator[bytes]:
        while size:
            piece = self._incoming.read(min(size, PIECE))
            if not piece:
                raise self.abort("the connection ended within a literal")
            size -= len(piece)
            yield piece

    def send(self, data: Any) -> None:
        if self._deflate is not None:
            data = self._deflate.compress(data) + self._deflate.flush(zlib.Z_SYNC_FLUSH)
        self.sent += len(data)
        self.sock.sendall(data)

    def shutdown(self) -> None:
        if hasattr(self, "sock"):
            self.sock.close()

    # -- what we ask of it

    def command(self, name: str, *words: bytes) -> dict[str, list[Line]]:
        """Untagged answers by their names, after OK. Those that came unasked before are among them."""
        self._in_memory = 0
        imaplib.Commands.setdefault(name, _ANY_STATE)
        with self._trouble(
            f"{name} {words[0].decode('ascii', 'replace') if words and name == 'UID' else ''}"
        ):
            status, text = self.xatom(name, *cast("tuple[str, ...]", words))
        answers = self.untagged_responses
        self.untagged_responses = {}
        if status != "OK":
            raise Refused(_words(text)).at(command=name)
        if name == "EXAMINE":
            self.state = "SELECTED"  # for imaplib, which lets nobody search or fetch before
        return answers

    def look_at_capabilities(self) -> None:
        """What is offered may change with TLS, and with a login, after which most servers tell it unasked."""
        lines = self.untagged_responses.pop("CAPABILITY", None) or self.command("CAPABILITY")["CAPABILITY"]
        words = (
            b" ".join(line for line in lines if isinstance(line, bytes)).decode("ascii", "replace").upper()
        )
        self.offered = frozenset(words.split())

    def compress(self) -> None:
        """Deflate both directions from now on, where the server offers that and the line is no local one."""
        if self.compressible and "COMPRESS=DEFLATE" in self.offered:
            self.command("COMPRESS", b"DEFLATE")
            self.inflate = zlib.decompressobj(-15)
            self._deflate = zlib.compressobj(6, zlib.DEFLATED, -15)

    def close_now(self) -> None:
        """Say goodbye, and do not mind whether it is heard."""
        with suppress(imaplib.IMAP4.error, OSError, ValueError):
            self.sock.settimeout(2)
            self.logout()
        with suppress(OSError):
            self.shutdown()

    def released(self) -> tuple[socket.socket, bytes]:
        """The socket, which does not block any more, and what had come on it already. The connection is of no
        more use; the socket is yours."""
        self.sock.setblocking(False)
        rest = b""
        with suppress(OSError):  # nothing has come
            rest = self._incoming.peek()
        return self.sock, rest

    def leave(self) -> None:
        """Say goodbye, and go."""
        with suppress(imaplib.IMAP4.error, OSError, ValueError):
            self.sock.settimeout(2)
            self.send(b"bye LOGOUT\r\n")
        with suppress(OSError):
            self.shutdown()

    def _begin_tls(self, encrypt: Encrypt) -> None:
        status, text = self.xatom("STARTTLS")
        if status != "OK":
            raise TLSFailed(f"the server does not begin TLS: {_words(text)}")
        self.sock = encrypt(self.sock)
        self._incoming = io.BufferedReader(_Incoming(self), 1 << 16)
        self.untagged_responses = {}  # what was said in clear is forgotten

    @contextmanager
    def _trouble(self, command: str = "", *, connecting: bool = False) -> Iterator[None]:
        try:
            yield
        except self.abort as error:
            raise HungUp(_reason(error)).at(command=command.strip()) from error
        except self.error as error:
            if connecting:
                raise CannotConnect(f"that is no IMAP server: {error}") from error
            raise Refused(_reason(error)).at(command=command.strip()) from error
        except ssl.SSLCertVerificationError as error:
            raise TLSFailed(f"the server's certificate does not verify: {error.verify_message}") from error
        except ssl.SSLError as error:
            raise (TLSFailed if connecting else HungUp)(f"TLS: {error.reason or error}") from error
        except TimeoutError as error:
            raise (CannotConnect if connecting else HungUp)("no answer in time").at(
                command=command.strip()
            ) from error
        except OSError as error:
            if error.filename is not None:  # a large literal's file
                raise StoreError(f"cannot keep a large message: {error}") from error
            kind = CannotConnect if connecting else HungUp
            raise kind(error.strerror or str(error)).at(command=command.strip()) from error
        except (ValueError, zlib.error) as error:
            raise ServerTrouble(f"that is no IMAP: {error}").at(command=command.strip()) from error


class _Incoming(io.RawIOBase):
    """What comes from the socket, inflated if that was agreed."""

    def __init__(self, connection: Connection) -> None:
        super().__init__()
        self._connection = connection
        self._waiting = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        connection = self._connection
        inflate = connection.inflate
        if inflate is None:
            count = connection.sock.recv_into(buffer)
            connection.received += count
            return count
        while not self._waiting:
            data = inflate.unconsumed_tail
            if not data:
                data = connection.sock.recv(1 << 16)
                connection.received += len(data)
            if not data:
                return 0
            self._waiting = inflate.decompress(data, 1 << 20)
        count = min(len(buffer), len(self._waiting))
        buffer[:count] = self._waiting[:count]
        self._waiting = self._waiting[count:]
        return count


def _words(text: list[Any]) -> str:
    return (
        " ".join(part.decode("utf-8", "replace") for part in text if isinstance(part, bytes))
        or "it says no more"
    )


def _reason(error: Exception) -> str:
    """What a server said, out of an error of imaplib's."""
    found = re.search(r"(?:BAD|NO) \[b?'(.*)'\]\Z", str(error))
    return found[1] if found else str(error)
