"""The replication protocol spoken by hand, to ask any server, real or ours, what it holds.

Written apart from `common.protocol` on purpose: a mistake there must not hide itself here. `state_of`
is the strongest comparison that two servers allow: every mailbox with every record, counter, annotation
and CRC, the quota roots, subscriptions, seen records and scripts.
"""

from __future__ import annotations

import base64
import contextlib
import re
import socket
from types import TracebackType
from typing import Any

from tests.deadlines import scaled

from .cyrus import ADMIN, PASSWORD, Address
from .imap import parse
from .releases import current

_LITERAL_AT_END = re.compile(rb"\{(\d+)\+?\}\r\n\Z")


class NoSuchMailbox(AssertionError):
    """The mailbox that a command names is not, or no longer, there."""


class Csync:
    """A csync session that is logged in as the administrator."""

    def __init__(self, address: Address, sieve_mailbox: bool = True) -> None:
        self.socket = socket.create_connection(address, timeout=scaled(30))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.socket.makefile("rb")
        self.greeting = [self._line()]
        while not self.greeting[-1].startswith(b"* OK"):
            self.greeting.append(self._line())
        word = base64.b64encode(f"\0{ADMIN}\0{PASSWORD}".encode())
        self.ok(b"AUTHENTICATE PLAIN " + word)
        if sieve_mailbox and b"* SIEVE-MAILBOX\r\n" in self.greeting:  # from 3.6 on
            self.ok(b"APPLY CAPABILITIES (SIEVE-MAILBOX)")

    def __enter__(self) -> Csync:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.file.close()
        self.socket.close()

    def _line(self) -> bytes:
        whole = b""
        while True:
            line = self.file.readline()
            assert line, "the csync server closed the connection"
            whole += line
            literal = _LITERAL_AT_END.search(line)
            if not literal:
                return whole
            whole += self.file.read(int(literal[1]))

    def command(self, line: bytes) -> tuple[str, list[bytes]]:
        """Send a command; the final answer and the ``*`` lines before it."""
        self.socket.sendall(line + b"\r\n")
        lines = []
        while (answer := self._line()).startswith(b"* "):
            lines.append(answer)
        return answer.decode().rstrip(), lines

    def ok(self, line: bytes) -> list[bytes]:
        """The ``*`` lines of a command that must succeed."""
        final, lines = self.command(line)
        if final.startswith("NO IMAP_MAILBOX_NONEXISTENT"):
            raise NoSuchMailbox(line[:200], final)
        assert final.startswith("OK"), (line[:200], final)
        return lines

    def get(self, line: str) -> list[tuple[str, Any]]:
        """The answers of a GET as (name, value); a kvlist becomes a dict."""
        found = []
        for answer in self.ok(b"GET " + line.encode()):
            name, *value = _kvlists(parse(answer[2:]))
            found.append((name.decode(), value[0] if value else None))
        return found


def _kvlists(items: list[Any]) -> list[Any]:
    """``%`` followed by a list becomes a dict, all the way down; the first of two equal keys wins."""
    done: list[Any] = []
    i = 0
    while i < len(items):
        item = items[i]
        if item == b"%" and i + 1 < len(items) and isinstance(items[i + 1], list):
            pairs = _kvlists(items[i + 1])
            done.append({k.decode(): v for k, v in reversed(list(zip(pairs[::2], pairs[1::2], strict=True)))})
            i += 2
            continue
        done.append(_kvlists(item) if isinstance(item, list) else item)
        i += 1
    return done


def _named(answers: list[tuple[str, Any]], kind: str) -> list[Any]:
    return [value for name, value in answers if name == kind]


def state_of(address: Address, user: str, expunged: bool = True) -> dict[str, Any]:
    """All that the server at `address` holds of `user`, in one comparable value; `expunged` records too.

    Left out is that in which peers may differ: the modseq of a quota root and QUOTAROOT (informational),
    USERFLAGS (3.6 knows only flags in use), the order of answers. Quotas have their names of 3.6. Where the
    release of the moment keeps scripts in files, they are that, and no mailbox. Where mail changes between
    two questions, they are asked again.
    """
    for _ in range(20):
        with contextlib.suppress(_Changed):
            return _state_of(address, user, expunged)
    raise AssertionError(f"{user} never holds still")


class _Changed(Exception):
    """What was asked first and what was asked then do not fit together."""


def _state_of(address: Address, user: str, expunged: bool) -> dict[str, Any]:
    files = current().scripts_are_files
    with Csync(address, sieve_mailbox=not files) as csync:
        answers = csync.get(f"USER {user}")
        state: dict[str, Any] = {"mailboxes": {}}
        for header in _named(answers, "MAILBOX"):
            name = header["MBOXNAME"].decode()
            if files and name == f"user.{user}.#sieve":
                continue
            if b"i" in header.get("MBOXTYPE", b""):
                state["mailboxes"][name] = {"MBOXTYPE": header["MBOXTYPE"], "UNIQUEID": header["UNIQUEID"]}
                continue
            try:
                ((_, full),) = csync.get(f"FULLMAILBOX {_astring(name)}")
            except NoSuchMailbox as gone:  # deleted or renamed since it was listed
                raise _Changed from gone
            if any(full[key] != header[key] for key in ("SYNC_CRC", "HIGHESTMODSEQ", "LAST_UID")):
                raise _Changed
            state["mailboxes"][name] = _comparable_mailbox(full, expunged)
        if files:
            state["scripts"] = _scripts(csync, user, _named(answers, "SIEVE"))
        state["quota"] = {
            q["ROOT"]: {_QUOTA_NAMES.get(k, k): v for k, v in q.items() if k != "MODSEQ"}
            for q in _named(answers, "QUOTA")
        }
        state["subscriptions"] = sorted(n for lsub in _named(answers, "LSUB") for n in lsub)
        state["seen"] = {
            s["UNIQUEID"]: (s["LASTUID"], s["SEENUIDS"], s["LASTREAD"], s["LASTCHANGE"])
            for s in _named(answers, "SEEN")
        }
        return state


def scripts_of(address: Address, user: str) -> dict[str, tuple[bytes, bool]]:
    """Sieve scripts as the SIEVE commands see them: name to (content, is it active)."""
    with Csync(address, sieve_mailbox=False) as csync:
        return _scripts(csync, user, _named(csync.get(f"META {user}"), "SIEVE"))


def _scripts(csync: Csync, user: str, lines: list[Any]) -> dict[str, tuple[bytes, bool]]:
    active = {line["FILENAME"].decode() for line in lines if line.get("ISACTIVE", b"0") == b"1"}
    found = {}
    for line in lines:
        name = line["FILENAME"].decode()
        if name.endswith(".script"):
            stem = name.removesuffix(".script")
            ((_, got),) = csync.get(f"FETCH_SIEVE %(USERID {user} FILENAME {_astring(name)})")
            found[stem] = (got["CONTENT"], f"{stem}.bc" in active)
    return found


def _astring(name: str) -> str:
    return name if re.fullmatch(r'[^\s(){%*\\"]+', name) else f'"{name}"'


_QUOTA_NAMES = {"MAILBOX": "X-NUM-FOLDERS", "ANNOTATION-STORAGE": "X-ANNOTATION-STORAGE"}
"""From 3.10 on, and before."""

_NOT_COMPARED = ("QUOTAROOT", "USERFLAGS", "RECORD", "ANNOTATIONS")


def _comparable_mailbox(full: dict[str, Any], expunged: bool) -> dict[str, Any]:
    mailbox = {k: v for k, v in full.items() if k not in _NOT_COMPARED}
    mailbox["ANNOTATIONS"] = sorted(
        (a["ENTRY"], a["USERID"] or b"", a["VALUE"]) for a in full.get("ANNOTATIONS", [])
    )
    records = {}
    for record in full["RECORD"]:
        if not expunged and b"\\Expunged" in record["FLAGS"]:
            continue
        plain = {k: v for k, v in record.items() if k not in ("FLAGS", "ANNOTATIONS")}
        plain["FLAGS"] = frozenset(record["FLAGS"])
        plain["ANNOTATIONS"] = sorted(
            (a["ENTRY"], a["USERID"] or b"", a["VALUE"], a.get("MODSEQ"))
            for a in record.get("ANNOTATIONS", [])
        )
        records[int(record["UID"])] = plain
    mailbox["RECORD"] = records
    return mailbox


def differences(one: Any, two: Any, path: str = "") -> list[str]:
    """Where two states differ, a line each, for an assertion that can be read."""
    if isinstance(one, dict) and isinstance(two, dict):
        found = []
        for key in sorted(one.keys() | two.keys(), key=str):
            name = key.decode() if isinstance(key, bytes) else str(key)
            if key not in one or key not in two:
                found.append(f"{path}/{name}: only in the {'second' if key in two else 'first'}")
            else:
                found += differences(one[key], two[key], f"{path}/{name}")
        return found
    return [] if one == two else [f"{path}: {str(one)[:200]} / {str(two)[:200]}"]
