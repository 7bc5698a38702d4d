"""The two ends of a pair, real or ours, behind one shape, so that every workload runs on every pair."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Protocol

from cyrus_sync.common.names import Owner, inbox_of
from tests.interop.csync import Csync
from tests.interop.cyrus import Address, Cyrus
from tests.interop.imap import quote
from tests.interop.ours import BIN, Ours, environment
from tests.interop.releases import PROGRAMS
from tests.interop.running import identity

_LOT = 250
"""Messages to a MULTIAPPEND, or to a transaction of our store."""


class End(Protocol):
    """An installation that can be either end. Folder "" is the INBOX."""

    kind: str

    def fill(self, user: str, folder: str, messages: Iterable[bytes]) -> int:
        """Create user and folder where they lack and append; the octets appended."""

    def flag(self, user: str, folder: str, uids: Sequence[int], flag: str) -> None: ...

    def client(self, args: Sequence[str], to: Address, *, deflate: bool) -> list[str]:
        """The command line of a sync_client."""

    @property
    def identity(self) -> dict[str, Any]:
        """What `subprocess` needs to run that command as the right user."""

    @property
    def server(self) -> int:
        """Process id of the tree that answers."""

    @property
    def address(self) -> Address: ...


class RealEnd:
    """A real Cyrus."""

    kind = "real"

    def __init__(self, cyrus: Cyrus) -> None:
        self.cyrus = cyrus
        self._known: set[tuple[str, str]] = set()

    @property
    def identity(self) -> dict[str, Any]:
        return identity()

    @property
    def server(self) -> int:
        assert self.cyrus.master is not None
        return self.cyrus.master.pid

    @property
    def address(self) -> Address:
        return self.cyrus.csync

    def fill(self, user: str, folder: str, messages: Iterable[bytes]) -> int:
        if (user, "") not in self._known:
            self.cyrus.create_user(user)
            self._known.add((user, ""))
        octets = 0
        with self.cyrus.imap(user) as imap:
            name = f"INBOX/{folder}" if folder else "INBOX"
            if (user, folder) not in self._known:
                imap.ok("CREATE", quote(name))
                self._known.add((user, folder))
            source = iter(messages)
            while lot := list(islice(source, _LOT)):
                imap.append(name, *lot, flags="\\Seen")
                octets += sum(map(len, lot))
        return octets

    def flag(self, user: str, folder: str, uids: Sequence[int], flag: str) -> None:
        with self.cyrus.imap(user) as imap:
            imap.select(f"INBOX/{folder}" if folder else "INBOX")
            imap.store(",".join(map(str, uids)), "+FLAGS.SILENT", flag)

    def client(self, args: Sequence[str], to: Address, *, deflate: bool) -> list[str]:
        conf = self.cyrus.client_config(to)
        return [str(PROGRAMS / "sync_client"), "-C", str(conf), *(["-z"] if deflate else []), "-o", *args]


class SpoolEnd(RealEnd):
    """A real Cyrus whose spool our sync_client reads, beside the daemons."""

    kind = "spool"

    @property
    def identity(self) -> dict[str, Any]:
        """The user cyrus may not reach our programs here: the client runs as who runs the bench."""
        return {}

    def client(self, args: Sequence[str], to: Address, *, deflate: bool) -> list[str]:
        conf = self.cyrus.client_config(to, {"sync_allowplaintext": "yes"})
        conf.chmod(0o600)  # there is a password in it
        return [str(BIN / "sync_client"), "-C", str(conf), *(["-z"] if deflate else []), "-o", *args]


class OurEnd:
    """An installation of ours."""

    kind = "ours"
    identity: ClassVar[dict[str, Any]] = {}

    def __init__(self, ours: Ours) -> None:
        self.ours = ours

    @property
    def server(self) -> int:
        assert self.ours.server is not None
        return self.ours.server.pid

    @property
    def address(self) -> Address:
        return self.ours.csync

    def fill(self, user: str, folder: str, messages: Iterable[bytes]) -> int:
        octets, now = 0, int(time.time())
        owner, source = Owner("user", user), iter(messages)
        name = inbox_of(user) + (f".{folder}" if folder else "")
        with self.ours.store.write(owner) as box:
            for wanted in (inbox_of(user), name):
                if box.mailbox(wanted) is None:
                    box.create(wanted)
        while lot := list(islice(source, _LOT)):
            with self.ours.store.write(owner) as box:
                box.append(name, [(raw, now, "\\Seen") for raw in lot])
            octets += sum(map(len, lot))
        return octets

    def flag(self, user: str, folder: str, uids: Sequence[int], flag: str) -> None:
        with self.ours.store.write(Owner("user", user)) as box:
            box.set_flags(inbox_of(user) + (f".{folder}" if folder else ""), uids, add=[flag])

    def client(self, args: Sequence[str], to: Address, *, deflate: bool) -> list[str]:
        conf = self.ours.client_config(to)
        return [str(BIN / "sync_client"), "-C", str(conf), *(["-z"] if deflate else []), "-o", *args]


@contextmanager
def end(kind: str, name: str, ground: Path) -> Iterator[End]:
    """A started installation of that kind on that ground; ended and removed afterwards."""
    root = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=ground))
    root.chmod(0o755)
    if kind in ("real", "spool"):
        with Cyrus.running(name, ground=root) as cyrus:
            yield RealEnd(cyrus) if kind == "real" else SpoolEnd(cyrus)
    else:
        # The real server is set up for PLAIN alone: a login by SCRAM must not count as slowness.
        with Ours.installed(name, {"sasl_mech_list": "PLAIN"}, ground=root) as ours:
            yield OurEnd(ours)


def last_uids(address: Address, names: Sequence[str]) -> int:
    """The sum of LAST_UID of these mailboxes at a server: how many messages have arrived."""
    with Csync(address) as csync:
        answers = csync.get(f"MAILBOXES ({' '.join(names)})")
    return sum(int(value["LAST_UID"]) for kind, value in answers if kind == "MAILBOX")


def rolling(end: End, to: Address, delay: int, deflate: bool) -> subprocess.Popen[bytes]:
    """A rolling client in the foreground; the caller ends it by its process id."""
    command = end.client(["-R", "-d", str(delay)], to, deflate=deflate)
    command.remove("-o")
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        env=environment(),
        **end.identity,
    )
