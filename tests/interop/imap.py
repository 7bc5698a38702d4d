"""A small IMAP client that says exactly what a test tells it to, and hands back exactly what came.

imaplib hides literals, METADATA and ANNOTATE; here a command is a list of words and literals, an answer
a nested list. Strings sent as ``bytes`` go as non-synchronising literals, ``str`` goes as it stands.
"""

from __future__ import annotations

import base64
import contextlib
import re
import socket
from types import TracebackType
from typing import Any

from tests.deadlines import scaled

_LITERAL_AT_END = re.compile(rb"\{(\d+)\+?\}\r\n\Z")
_TOKEN = re.compile(
    rb'\s*(?:(\()|(\))|"((?:[^"\\]|\\.)*)"|\{(\d+)\+?\}\r\n|([^\s()"]*\[[^\]]*\][^\s()]*|[^\s()"]+))'
)


class ImapError(AssertionError):
    """The server said NO or BAD."""


def quote(name: str) -> str:
    """A mailbox name as a quoted string."""
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


def parse(data: bytes) -> list[Any]:
    """The words of an answer: bytes, None for NIL, lists for parentheses."""
    stack: list[list[Any]] = [[]]
    pos = 0
    end = len(data.rstrip())
    while pos < end:
        found = _TOKEN.match(data, pos)
        assert found, data[pos : pos + 80]
        pos = found.end()
        opened, closed, quoted, literal, word = found.groups()
        if opened:
            stack.append([])
        elif closed:
            done = stack.pop()
            stack[-1].append(done)
        elif quoted is not None:
            stack[-1].append(re.sub(rb"\\(.)", rb"\1", quoted))
        elif literal is not None:
            stack[-1].append(data[pos : pos + int(literal)])
            pos += int(literal)
        else:
            stack[-1].append(None if word == b"NIL" else word)
    return stack[0]


class Imap:
    """A connection that is logged in. `user` is whom we act for, `authname` whose password it is."""

    def __init__(self, host: str, port: int, user: str, authname: str, password: str) -> None:
        self.socket = socket.create_connection((host, port), timeout=scaled(60))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.socket.makefile("rb")
        self.tag = 0
        self._line()
        word = base64.b64encode(f"{user}\0{authname}\0{password}".encode()).decode()
        self.ok("AUTHENTICATE", "PLAIN", word)

    def __enter__(self) -> Imap:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.socket.sendall(b"z LOGOUT\r\n")
        self.file.close()
        self.socket.close()

    def _line(self) -> bytes:
        """One answer, literals included as they came."""
        whole = b""
        while True:
            line = self.file.readline()
            if not line:
                raise ImapError("the server closed the connection")
            whole += line
            literal = _LITERAL_AT_END.search(line)
            if not literal:
                return whole
            whole += self.file.read(int(literal[1]))

    def command(self, *words: str | bytes) -> tuple[str, list[bytes]]:
        """Send a command; its final answer (``OK …``) and the untagged answers before it, unparsed.

        Words are joined by a space, but a closing parenthesis follows directly.
        """
        self.tag += 1
        tag = b"a%d" % self.tag
        line = tag
        for word in words:
            if isinstance(word, str):
                line += (b"" if word.startswith(")") else b" ") + word.encode("latin-1")
            else:
                line += b" {%d+}\r\n" % len(word) + word
        self.socket.sendall(line + b"\r\n")
        untagged: list[bytes] = []
        while True:
            answer = self._line()
            if answer.startswith(tag + b" "):
                return answer[len(tag) + 1 :].decode(errors="replace").strip(), untagged
            untagged.append(answer)

    def ok(self, *words: str | bytes) -> list[bytes]:
        """The untagged answers of a command that must succeed."""
        final, untagged = self.command(*words)
        if not final.startswith("OK"):
            raise ImapError(f"{[w if isinstance(w, str) else w[:60] for w in words[:6]]}: {final}")
        return untagged

    def answers(self, kind: str, *words: str | bytes) -> list[list[Any]]:
        """The parsed untagged answers of one kind, without the star and the kind."""
        found = []
        for line in self.ok(*words):
            parsed = parse(line[2:])
            if parsed and isinstance(parsed[0], bytes) and parsed[0].upper() == kind.encode():
                found.append(parsed[1:])
        return found

    # -- what tests do often

    def select(self, mailbox: str = "INBOX") -> None:
        self.ok("SELECT", quote(mailbox))

    def append(self, mailbox: str, *messages: bytes, flags: str = "", date: str = "") -> None:
        """APPEND; several messages go as one MULTIAPPEND, all with the same flags and date."""
        words: list[str | bytes] = ["APPEND", quote(mailbox)]
        for message in messages:
            words.append(f"({flags})")
            if date:
                words.append(f'"{date}"')
            words.append(message)
        self.ok(*words)

    def store(self, uids: str, change: str, flags: str) -> None:
        """UID STORE in the selected mailbox: `change` is ``+FLAGS``, ``-FLAGS`` or ``FLAGS``."""
        self.ok("UID", "STORE", uids, change, f"({flags})")

    def annotate(self, uids: str, entry: str, attribute: str, value: bytes) -> None:
        """A message annotation in the selected mailbox: `attribute` is ``value.priv`` or ``value.shared``."""
        self.ok("UID", "STORE", uids, "ANNOTATION", f"({entry} ({attribute}", value, "))")

    def set_metadata(self, mailbox: str, entry: str, value: bytes | None) -> None:
        if value is None:
            self.ok("SETMETADATA", quote(mailbox), f"({entry} NIL)")
        else:
            self.ok("SETMETADATA", quote(mailbox), f"({entry}", value, ")")

    def mailboxes(self) -> list[str]:
        """Names that this user can see and select."""
        return sorted(
            name.decode()
            for flags, _, name in self.answers("LIST", "LIST", '""', '"*"')
            if b"\\noselect" not in [f.lower() for f in flags]
        )

    def subscriptions(self) -> list[str]:
        return sorted(name.decode() for _, _, name in self.answers("LSUB", "LSUB", '""', '"*"'))

    def status(self, mailbox: str) -> dict[str, int]:
        """UIDVALIDITY, UIDNEXT, HIGHESTMODSEQ, MESSAGES, UNSEEN."""
        ((_, values),) = self.answers(
            "STATUS", "STATUS", quote(mailbox), "(MESSAGES UNSEEN UIDNEXT UIDVALIDITY HIGHESTMODSEQ)"
        )
        return {values[i].decode().upper(): int(values[i + 1]) for i in range(0, len(values), 2)}
