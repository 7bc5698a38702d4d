"""A ManageSieve client, as far as tests of replication need one."""

from __future__ import annotations

import base64
import re
import socket
from types import TracebackType

from tests.deadlines import scaled

_LITERAL = re.compile(rb"\{(\d+)\+?\}\r\n\Z")


class ManageSieve:
    """A connection that is logged in as `user`."""

    def __init__(self, host: str, port: int, user: str, authname: str, password: str) -> None:
        self.socket = socket.create_connection((host, port), timeout=scaled(30))
        self.file = self.socket.makefile("rb")
        self._answer()
        word = base64.b64encode(f"{user}\0{authname}\0{password}".encode()).decode()
        self.ok(f'AUTHENTICATE "PLAIN" "{word}"'.encode())

    def __enter__(self) -> ManageSieve:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.file.close()
        self.socket.close()

    def _answer(self) -> tuple[bytes, list[bytes]]:
        lines: list[bytes] = []
        while True:
            line = self.file.readline()
            if not line:
                raise AssertionError("timsieved closed the connection")
            literal = _LITERAL.search(line)
            if literal:
                line += self.file.read(int(literal[1]))
            if line[:3].rstrip().upper() in (b"OK", b"NO") or line.upper().startswith(b"BYE"):
                return line, lines
            lines.append(line)

    def ok(self, command: bytes) -> list[bytes]:
        """The lines before the OK."""
        self.socket.sendall(command + b"\r\n")
        final, lines = self._answer()
        assert final.upper().startswith(b"OK"), (command, final)
        return lines

    def put(self, name: str, script: bytes) -> None:
        self.ok(b'PUTSCRIPT "%s" {%d+}\r\n%s' % (name.encode(), len(script), script))

    def activate(self, name: str) -> None:
        """ "" deactivates whatever is active."""
        self.ok(b'SETACTIVE "%s"' % name.encode())

    def delete(self, name: str) -> None:
        self.ok(b'DELETESCRIPT "%s"' % name.encode())

    def scripts(self) -> dict[str, tuple[bytes, bool]]:
        """Name to (content, is it active)."""
        found = {}
        for line in self.ok(b"LISTSCRIPTS"):
            name = line.split(b'"')[1]
            ((content),) = self.ok(b'GETSCRIPT "%s"' % name)[:1]
            found[name.decode()] = (
                content.partition(b"\r\n")[2],
                b"ACTIVE" in line.rsplit(b'"', 1)[1].upper(),
            )
        return found
