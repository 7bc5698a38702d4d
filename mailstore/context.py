"""What every subcommand gets: the configuration, the store, the three streams, and names.

Names are typed and printed in the form of an administrator (``user/alice/Work`` with unixhierarchysep);
inside they are internal ones (``user.alice.Work``). Letters beyond ASCII may be typed as they are.
"""

from __future__ import annotations

import logging
import re
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, BinaryIO, TextIO

from cyrus_sync.common.config import Config
from cyrus_sync.common.errors import ReplicaOnly, UsageError
from cyrus_sync.common.model import MailboxState
from cyrus_sync.common.names import (
    SERVER,
    BadName,
    Owner,
    in_domain,
    inbox_of,
    is_inbox,
    owner_of,
    owner_user,
)
from cyrus_sync.common.namespace import Namespace
from cyrus_sync.common.newnames import check_new_name
from cyrus_sync.common.progress import Meter, make_way, progress
from cyrus_sync.common.stores import KeptStore, open_kept, role_of
from cyrus_sync.common.stores.care import PastStore, StoreCare
from cyrus_sync.common.stores.mailstore import MailReader, MailStore, MailWriter, OwnerReader
from cyrus_sync.common.synclog.writer import ActionLog
from cyrus_sync.common.syslog import SyslogHandler
from cyrus_sync.mailstore.errors import NoSuchMailbox, NoSuchUser
from cyrus_sync.mailstore.moments import moment_of, shown
from cyrus_sync.mailstore.source import CYRUS, Source

if TYPE_CHECKING:
    from cyrus_sync.spool.master import SpoolMaster

LOCK_SECONDS = 60.0
_RANGE = re.compile(r"([0-9]{1,10}|\*)(?::([0-9]{1,10}|\*))?")


class StoreContext:
    """One run of ``mailstore``. The configuration is read, and the store opened, when first asked for."""

    def __init__(
        self,
        config_path: str,
        *,
        program: str = "mailstore",
        even_replica: bool = False,
        stdin: BinaryIO | None = None,
        stdout: TextIO | None = None,
        stderr: TextIO | None = None,
    ) -> None:
        """`even_replica`: changes are made also where only replication may make them."""
        self._config_path = config_path
        self._even_replica = even_replica
        self._program = program
        self.stdin = stdin or sys.stdin.buffer
        self.stdout = stdout or sys.stdout
        self.stderr = stderr or sys.stderr
        self._stores: dict[bool, KeptStore] = {}
        self._pasts: list[PastStore] = []

    @cached_property
    def config(self) -> Config:
        return Config.load(self._config_path, self._program)

    @cached_property
    def action_log(self) -> ActionLog:
        """For what is logged apart from a writer's own lines."""
        return ActionLog.from_config(self.config)

    def store(self, *, readonly: bool = False) -> MailStore:
        """The store; opened once for each kind of access."""
        return self._kept(readonly).mail

    @cached_property
    def spool(self) -> SpoolMaster:
        """The spool of a real Cyrus."""
        from cyrus_sync.spool.master import SpoolMaster
        from cyrus_sync.spool.server import Server

        return SpoolMaster(Server.from_config(self.config))

    def source(self, kind: str) -> Source:
        """What ``--source`` names."""
        return self.spool if kind == CYRUS else self.store(readonly=True)

    def giver(self, kind: str) -> Source:
        """The same, for who asks for messages by GUID."""
        return self.spool.by_guid() if kind == CYRUS else self.store(readonly=True)

    def as_of(self, typed: str | None, source: str, command: str) -> PastStore | None:
        """The store at the time that ``--as-of`` names, None where it is not given. Raises `UsageError`."""
        if typed is None:
            return None
        if source == CYRUS:
            raise UsageError(f"{command}: --as-of is of our own store: a Cyrus keeps no history")
        now = time.time()
        moment = moment_of(typed, now, option=f"{command}: --as-of", end=True)
        if moment_of(typed, now, option=f"{command}: --as-of") > now:
            raise UsageError(f"{command}: --as-of: {shown(moment)} is in the future")
        moment = min(moment, int(now))
        past = self.care(readonly=True).as_of(moment)
        self._pasts.append(past)
        return past

    def care(self, *, readonly: bool = False) -> StoreCare:
        """What is asked of the store besides its mail."""
        return self._kept(readonly).care

    def _kept(self, readonly: bool) -> KeptStore:
        if readonly not in self._stores:
            self._stores[readonly] = open_kept(self.config, readonly=readonly, replicating=self._even_replica)
        return self._stores[readonly]

    def read_instead(self, kept: KeptStore) -> None:
        """From now on mail is read from another store; changes are made in this one."""
        if True in self._stores:
            self._stores.pop(True).close()
        self._stores[True] = kept

    def check_changes(self) -> None:
        """Raises `ReplicaOnly` where only replication may change mail: at once, and not in the middle."""
        if not self._even_replica and (reason := role_of(self.config).refuses_changes()):
            raise ReplicaOnly(reason)

    def close(self) -> None:
        spool = self.__dict__.pop("spool", None)
        if spool is not None:
            spool.close()
        while self._pasts:
            self._pasts.pop().close()
        while self._stores:
            self._stores.popitem()[1].close()

    # -- output

    def progress(
        self, title: str, *, total: float | None = None, unit: str = "messages", silent: bool = False
    ) -> AbstractContextManager[Meter]:
        """How far long work has come: on a terminal behind standard error, else once a minute in syslog."""
        return progress(title, stream=self.stderr, log=self._log, total=total, unit=unit, silent=silent)

    def _log(self, text: str) -> None:
        """A line for syslog, if there is one."""
        facility = self.config.string("syslog_facility") or "mail"
        handler = SyslogHandler(self._program, facility, otherwise="")
        handler.handle(logging.LogRecord(self._program, logging.INFO, "", 0, text, (), None))
        handler.close()

    def print(self, text: str = "") -> None:
        make_way()
        print(text, file=self.stdout)

    def write_bytes(self, data: bytes) -> None:
        """Octets to standard output, untouched."""
        self.stdout.flush()
        buffer = getattr(self.stdout, "buffer", None)
        if buffer is None:
            self.stdout.write(data.decode("utf-8", "surrogateescape"))
        else:
            buffer.write(data)
            buffer.flush()

    def warn(self, text: str) -> None:
        """A line for the administrator that does not belong to the result."""
        make_way()
        print(f"mailstore: {text}", file=self.stderr)

    # -- names

    @cached_property
    def namespace(self) -> Namespace:
        return Namespace.from_config(self.config)

    def internal(self, typed: str) -> str:
        """The internal name of what was typed; raises `BadName`."""
        return self.namespace.internal(typed)

    def new_mailbox(self, typed: str) -> str:
        """The internal name of what is to be made; raises `BadName` for what no Cyrus would create."""
        return self.new_name(self.internal(typed))

    def new_name(self, name: str) -> str:
        """The internal `name` if something new may be called so; else raises `BadName`."""
        return check_new_name(name, domains=self.config.string("virtdomains") != "off")

    def external(self, name: str) -> str:
        return self.namespace.external(name)

    def user(self, typed: str) -> Owner:
        """The user of ``alice`` or ``user/alice``; raises `BadName`."""
        owner = self.owner(typed)
        if owner.kind != "user":
            raise BadName(f"{typed} is no user")
        return owner

    def owner(self, typed: str) -> Owner:
        """As `user`; ``shared:NAME`` is a shared top-level mailbox."""
        return self.namespace.owner(typed)

    def is_user(self, typed: str) -> bool:
        """Whether a name is a user's, and not that of one mailbox. Where dots part levels, a userid may have
        them too: then it is a mailbox's unless it begins like a userid alone."""
        separator = self.namespace.separator
        if typed.startswith(("shared:", f"user{separator}", f"DELETED{separator}")):
            return False
        return separator not in typed or separator == "."

    def owner_name(self, owner: Owner) -> str:
        """What is printed for an owner, and may be typed."""
        return self.namespace.owner_name(owner) if owner != SERVER else "the server itself"

    # -- reading and writing one mailbox

    @contextmanager
    def reading(self, typed: str) -> Iterator[tuple[MailReader, MailboxState]]:
        """The owner's snapshot and the mailbox that was named; raises `NoSuchMailbox`."""
        name = self.internal(typed)
        with self.store(readonly=True).read(owner_of(name)) as reader:
            yield reader, self.require(reader, name)

    @contextmanager
    def reading_from(self, source: Source, typed: str) -> Iterator[tuple[OwnerReader, MailboxState]]:
        """The same of another source of mail."""
        name = self.internal(typed)
        with source.read(owner_of(name)) as reader:
            yield reader, self.require(reader, name)

    @contextmanager
    def writing(self, typed: str) -> Iterator[tuple[MailWriter, MailboxState]]:
        """The owner's lock and the mailbox that was named; raises `NoSuchMailbox`."""
        name = self.internal(typed)
        with self.write(owner_of(name)) as writer:
            yield writer, self.require(writer, name)

    def write(self, owner: Owner) -> AbstractContextManager[MailWriter]:
        """The lock of `owner`; waits up to a minute, as a person is watching."""
        return self.store().write(owner, timeout=LOCK_SECONDS)

    def require(self, reader: OwnerReader, name: str) -> MailboxState:
        """The mailbox; raises `NoSuchMailbox`."""
        found = reader.mailbox(name)
        if found is None or found.tombstone:
            raise NoSuchMailbox(f"no such mailbox: {self.external(name)}{self._domain_hint(name)}")
        return found

    def _domain_hint(self, name: str) -> str:
        """For who writes the domain at the end, as cyradm has it."""
        above, _, domain = name.rpartition("@")
        if not above or "." in domain or is_inbox(name) or owner_user(name) != owner_user(above):
            return ""
        meant = in_domain(domain.replace("^", "."), above)
        return f" (a domain stands at the userid: {self.external(meant)})"

    def require_user(self, owner: Owner, name: str = "") -> str:
        """The internal name of the user's INBOX; raises `NoSuchUser`. `name` is what is wanted of his."""
        inbox = inbox_of(owner.name)
        with self.store(readonly=True).read(owner) as reader:
            if reader.mailbox(inbox) is None:
                hint = self._domain_hint(name)
                raise NoSuchUser(f"no such user: {self.owner_name(owner)}{hint}").at(user=owner.name)
        return inbox


def parse_uids(typed: str, last_uid: int) -> list[range]:
    """``1:5,9,12:*`` as ranges of UIDs; ``*`` is `last_uid`. Raises `UsageError`."""
    ranges = []
    for part in typed.split(","):
        found = _RANGE.fullmatch(part.strip())
        if not found:
            raise UsageError(f"'{typed}' is not a list of UIDs such as 1:5,9,12:*")
        ends = [last_uid if end == "*" else int(end) for end in (found[1], found[2] or found[1])]
        ranges.append(range(min(ends), max(ends) + 1))
    return ranges
