"""An IMAP server in a test's hands: folders in memory, what capabilities are wanted, every kind of trouble.

It answers what `pull` asks, and no more. `Box` is what it holds; the fields of `FakeImap` are how it behaves.
"""

from __future__ import annotations

import base64
import contextlib
import re
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

FULL = (
    "IMAP4rev1 AUTH=PLAIN ENABLE CONDSTORE QRESYNC ESEARCH LIST-EXTENDED LIST-STATUS SPECIAL-USE NAMESPACE"
    " OBJECTID UNSELECT"
)
PLAIN = "IMAP4rev1 AUTH=PLAIN"
_ids = count(1)


@dataclass
class Mail:
    raw: bytes
    flags: str = ""
    modseq: int = 1
    date: str = "17-Jul-2020 02:44:25 +0000"
    ident: str = ""
    notes: str = ""
    """Its annotations, as FETCH tells them."""

    def __post_init__(self) -> None:
        self.ident = self.ident or f"M{next(_ids)}"


@dataclass
class Box:
    """A folder. `uidnext` may be a lie (`told_uidnext`)."""

    uidvalidity: int = 7
    mails: dict[int, Mail] = field(default_factory=dict)
    modseq: int = 1
    last: int = 0
    gone: dict[int, int] = field(default_factory=dict)
    told_uidnext: int = 0
    ident: str = ""
    flags: str = ""

    def __post_init__(self) -> None:
        self.ident = self.ident or f"F{next(_ids)}"

    def add(self, raw: bytes, flags: str = "", uid: int = 0, ident: str = "") -> int:
        self.modseq += 1
        uid = uid or self.last + 1
        self.last = max(self.last, uid)
        self.mails[uid] = Mail(raw, flags, self.modseq, ident=ident)
        self.mails = dict(sorted(self.mails.items()))
        return uid

    def flag(self, uid: int, flags: str) -> None:
        self.modseq += 1
        self.mails[uid].flags, self.mails[uid].modseq = flags, self.modseq

    def expunge(self, uid: int) -> Mail:
        self.modseq += 1
        self.gone[uid] = self.modseq
        return self.mails.pop(uid)

    @property
    def uidnext(self) -> int:
        return self.told_uidnext or self.last + 1


class FakeImap:
    """A server on a free port of 127.0.0.1, from ``with`` on. `said` are the commands that it heard."""

    def __init__(self, capabilities: str = FULL, context: ssl.SSLContext | None = None) -> None:
        self.capabilities = capabilities
        self.context = context
        self.implicit = False
        self.boxes: dict[str, Box] = {"INBOX": Box()}
        self.subscribed: set[str] = set()
        self.namespace = '(("" "/")) NIL NIL'
        self.bad: dict[int, str] = {}
        """UIDs of messages that are not given, and how: ``NO``, ``drop``, ``nothing``, ``cut``."""
        self.refused: set[str] = set()
        """Folders that cannot be selected."""
        self.holding: dict[str, threading.Event] = {}
        """Folders, and users, that are opened as soon as the event is set."""
        self.locked: set[str] = set()
        """Users who may not log in."""
        self.password: str | None = None
        """The one that is taken; None: any."""
        self.refuses: Callable[[str], bool] = lambda command: False
        """Commands that are answered NO, once somebody is logged in."""
        self.login_answer = "OK logged in"
        self.cut_after: Callable[[], int | None] = lambda: None
        """Asked at each connection: after so many octets that we send it is cut."""
        self.said: list[str] = []
        self.connections = 0
        self.open: set[socket.socket] = set()
        self.talks: list[_Talk] = []
        """Those that are under way."""
        self.notify_answer = ""
        self.identity = "NIL"
        self.tells_at_once = ""
        """Lines in one piece with the answer to NOTIFY or IDLE."""
        self.deaf = False
        """NOOP is not answered."""
        self.port = 0

    def __enter__(self) -> FakeImap:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)

    def is_left(self) -> bool:
        """Whether nobody is connected."""
        return not self.talks

    def count(self, word: str) -> int:
        """How many commands had this word in them."""
        return sum(word in line for line in self.said)

    def _accept(self) -> None:
        threads = []
        with contextlib.suppress(OSError):
            while True:
                line, _ = self._listener.accept()
                self.connections += 1
                line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threads.append(threading.Thread(target=self._serve, args=(line,), daemon=True))
                threads[-1].start()
        for thread in threads:
            thread.join(10)

    def _serve(self, line: socket.socket) -> None:
        self.open.add(line)
        with contextlib.suppress(OSError, ConnectionError, zlib.error), _Talk(self, line) as talk:
            talk.run()
        self.open.discard(line)


class _Cut(ConnectionError):
    pass


class _Talk:
    """One conversation."""

    def __init__(self, server: FakeImap, line: socket.socket) -> None:
        self.server = server
        self.line = line
        self.left = server.cut_after()
        self.box: Box | None = None
        self.user = ""
        self.inflate: zlib._Decompress | None = None
        self.deflate: zlib._Compress | None = None
        self.waiting = b""

    def __enter__(self) -> _Talk:
        self.server.talks.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        self.server.talks.remove(self)
        self.line.close()

    def send(self, data: bytes) -> None:
        if self.deflate is not None:
            data = self.deflate.compress(data) + self.deflate.flush(zlib.Z_SYNC_FLUSH)
        if self.left is not None:
            if len(data) >= self.left:
                self.line.sendall(data[: self.left])
                raise _Cut()
            self.left -= len(data)
        self.line.sendall(data)

    def readline(self) -> bytes:
        while b"\r\n" not in self.waiting:
            data = self.line.recv(4096)
            if not data:
                raise _Cut()
            self.waiting += self.inflate.decompress(data) if self.inflate else data
        line, _, self.waiting = self.waiting.partition(b"\r\n")
        return line

    def untagged(self, text: str) -> None:
        self.send(f"* {text}\r\n".encode())

    def run(self) -> None:
        if self.server.implicit and self.server.context:
            self.line = self.server.context.wrap_socket(self.line, server_side=True)
        self.untagged("OK ready")
        while True:
            tag, _, rest = self.readline().decode().partition(" ")
            self.server.said.append(rest)
            name, _, words = rest.partition(" ")
            if name == "UID":
                name, _, words = words.partition(" ")
                name = f"uid_{name}"
            if self.user and name != "LOGOUT" and self.server.refuses(rest):
                self.send(f"{tag} NO [SERVERBUG] Internal error occurred\r\n".encode())
                continue
            answer = getattr(self, f"do_{name.lower()}")(words)
            more = self.server.tells_at_once if name == "NOTIFY" and not answer else ""
            self.send(f"{tag} {answer or 'OK done'}\r\n{more}".encode())
            if name == "LOGOUT":
                return
            if name == "STARTTLS" and self.server.context:
                self.line = self.server.context.wrap_socket(self.line, server_side=True)
            if name == "COMPRESS":
                self.inflate = zlib.decompressobj(-15)
                self.deflate = zlib.compressobj(6, zlib.DEFLATED, -15)

    # -- commands

    def do_capability(self, words: str) -> None:
        self.untagged(f"CAPABILITY {self.server.capabilities}")

    def do_starttls(self, words: str) -> str:
        return "" if self.has("STARTTLS") else "BAD what is that?"

    def do_compress(self, words: str) -> None: ...

    def do_logout(self, words: str) -> None:
        self.untagged("BYE")

    def do_enable(self, words: str) -> None:
        self.untagged(f"ENABLED {words}")

    def do_authenticate(self, words: str) -> str:
        self.send(b"+ \r\n")
        acts_for, proves, password = base64.b64decode(self.readline()).decode().split("\0")
        self.user = acts_for or proves
        if self.user in self.server.locked or self.server.password not in (None, password):
            return "NO [AUTHENTICATIONFAILED] Authentication failed."
        return self.server.login_answer

    def do_notify(self, words: str) -> str:
        if "SubscriptionChange" in words:
            return "NO [BADEVENT (MessageNew)] not that"
        return self.server.notify_answer

    def do_id(self, words: str) -> None:
        self.untagged(f"ID {self.server.identity}")

    def do_idle(self, words: str) -> str:
        self.send(b"+ idling\r\n" + self.server.tells_at_once.encode())
        self.server.said.append(self.readline().decode())
        return ""

    def do_noop(self, words: str) -> None:
        while self.server.deaf:
            time.sleep(0.01)

    def do_unselect(self, words: str) -> None:
        self.box = None

    def do_login(self, words: str) -> str:
        return self.server.login_answer

    def do_namespace(self, words: str) -> None:
        self.untagged(f"NAMESPACE {self.server.namespace}")

    def do_list(self, words: str) -> None:
        for name, box in self.server.boxes.items():
            attributes = box.flags
            if "RETURN" in words and name in self.server.subscribed:
                attributes += " \\Subscribed"
            self.untagged(f'LIST ({attributes.strip()}) "/" "{name}"')
            if "STATUS" in words and "\\Noselect" not in box.flags:
                self.status(name, box)

    def do_lsub(self, words: str) -> None:
        for name in self.server.subscribed:
            self.untagged(f'LSUB () "/" "{name}"')

    def do_status(self, words: str) -> str:
        name = words.split('"')[1]
        if name not in self.server.boxes:
            return "NO [NONEXISTENT] none"
        self.status(name, self.server.boxes[name])
        return ""

    def has(self, word: str) -> bool:
        return word in self.server.capabilities.split()

    def status(self, name: str, box: Box) -> None:
        items = f"MESSAGES {len(box.mails)} UIDNEXT {box.uidnext} UIDVALIDITY {box.uidvalidity}"
        items += f" HIGHESTMODSEQ {box.modseq}" if self.has("CONDSTORE") else ""
        items += f" MAILBOXID ({box.ident})" if self.has("OBJECTID") else ""
        self.untagged(f'STATUS "{name}" ({items})')

    def do_examine(self, words: str) -> str:
        name = words.split('"')[1]
        for held in {name, self.user} & self.server.holding.keys():
            self.server.holding[held].wait(60)
        if name in self.server.refused:
            return "NO [SERVERBUG] this folder is broken"
        box = self.server.boxes.get(name)
        if box is None:
            return "NO [NONEXISTENT] none"
        self.box = box
        self.untagged(f"{len(box.mails)} EXISTS")
        for code in (
            f"UIDVALIDITY {box.uidvalidity}",
            f"UIDNEXT {box.uidnext}",
            f"HIGHESTMODSEQ {box.modseq}",
        ):
            if self.has("CONDSTORE") or "MODSEQ" not in code:
                self.untagged(f"OK [{code}] fine")
        since = re.search(r"QRESYNC \((\d+) (\d+)\)", words)
        if since and int(since[1]) == box.uidvalidity:
            gone = [str(uid) for uid, modseq in box.gone.items() if modseq > int(since[2])]
            if gone:
                self.untagged(f"VANISHED (EARLIER) {','.join(gone)}")
            self.fetch(lambda uid, mail: mail.modseq > int(since[2]), "UID FLAGS MODSEQ")
        return "OK [READ-ONLY] open"

    def do_uid_search(self, words: str) -> None:
        assert self.box is not None
        wanted = re.search(r"UID (\S+)", words)
        found = [str(uid) for uid in self.box.mails if not wanted or _within(uid, wanted[1], self.box)]
        if "RETURN" in words:
            self.untagged(f'ESEARCH (TAG "x") UID{" ALL " + ",".join(found) if found else ""}')
        else:
            self.untagged(f"SEARCH {' '.join(found)}".strip())

    def do_uid_fetch(self, words: str) -> str:
        assert self.box is not None
        box = self.box
        uids, _, items = words.partition(" ")
        since = re.search(r"CHANGEDSINCE (\d+)", items)
        bodies = "BODY.PEEK" in items
        for uid in box.mails:
            if bodies and _within(uid, uids, box) and self.server.bad.get(uid) == "NO":
                return "NO [SERVERBUG] it cannot be read"
        self.fetch(
            lambda uid, mail: _within(uid, uids, box) and (not since or mail.modseq > int(since[1])), items
        )
        return ""

    def fetch(self, wanted: Callable[[int, Mail], bool], items: str) -> None:
        assert self.box is not None
        for number, (uid, mail) in enumerate(self.box.mails.items(), 1):
            if not wanted(uid, mail):
                continue
            how = self.server.bad.get(uid) if "BODY.PEEK" in items else None
            if how == "nothing":
                continue
            if how == "drop":
                raise _Cut()
            told = [f"UID {uid}"]
            told += [f"FLAGS ({mail.flags})"] if "FLAGS" in items else []
            told += [f"MODSEQ ({mail.modseq})"] if "MODSEQ" in items else []
            told += [f'INTERNALDATE "{mail.date}"'] if "INTERNALDATE" in items else []
            told += [f"RFC822.SIZE {len(mail.raw)}"] if "SIZE" in items else []
            told += [f"EMAILID ({mail.ident})"] if "EMAILID" in items else []
            told += [f"ANNOTATION ({mail.notes})"] if "ANNOTATION" in items else []
            head = f"* {number} FETCH ({' '.join(told)}".encode()
            if "BODY.PEEK[]" in items:
                raw = mail.raw
                head += b" BODY[] {%d}\r\n" % len(raw)
                if how == "cut":
                    self.send(head + raw[: len(raw) // 2])
                    raise _Cut()
                self.send(head + raw + b")\r\n")
            else:
                self.send(head + b")\r\n")


def _within(uid: int, text: str, box: Box) -> bool:
    for part in text.split(","):
        first, _, last = part.partition(":")
        ends = [max(box.mails, default=0) if end == "*" else int(end) for end in (first, last or first)]
        if min(ends) <= uid <= max(ends):
            return True
    return False
