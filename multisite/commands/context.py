"""What every subcommand gets: options, configuration, this replica, shipping, and where to say what."""

from __future__ import annotations

import contextlib
import sqlite3
import sys
from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

from cyrus_sync.common.commands import complain
from cyrus_sync.common.config import DEFAULT_PATH, Config
from cyrus_sync.common.errors import StoreError, UsageError
from cyrus_sync.common.numbers import decimal
from cyrus_sync.common.one_dash import ABOUT_ITSELF, Option, Parsed
from cyrus_sync.common.printable import printable
from cyrus_sync.common.progress import make_way
from cyrus_sync.multisite.errors import MultisiteError
from cyrus_sync.multisite.family import Family, Replica
from cyrus_sync.multisite.mail import SiteMail
from cyrus_sync.multisite.member import Member, directory_of
from cyrus_sync.multisite.opening import look_at_mail
from cyrus_sync.multisite.oplog.log import Log
from cyrus_sync.shipping.log import ShippingLog
from cyrus_sync.shipping.site import Site

LOCK_SECONDS = 10.0
"""How long a command waits for another one to end, if it is not told."""

LOG = "multisite_log"
"""In ``log/`` below the configuration directory: what was exported, applied, refused, renamed."""

COMMON_OPTIONS = (
    Option("lockw/ait", "minutes", "how long to wait while another command is at work here (10 seconds)"),
    Option("v/erbose", "", f"say on stderr what otherwise stands in {LOG} only"),
    Option("C", "file", f"imapd.conf to read ({DEFAULT_PATH})"),
    *ABOUT_ITSELF,
)
"""Of every command."""

EXIT_STATUS = """\
exit status:
  0   done (also: there was nothing to do)
  1   not done, or not all of it; the reason was printed
  64  the command line makes no sense
  70  the mail store or the operations log is damaged
  75  another command is at work here, or a file, a directory or the store cannot be used now
  78  imapd.conf or shipping.conf has a bad value, or this server is no replica of a family"""


class View(NamedTuple):
    """This replica, for reading."""

    family: Family
    log: Log
    store: SiteMail


class Context:
    """One run of one command. Nothing is read before it is asked for."""

    def __init__(self, program: str, options: Parsed) -> None:
        self.program = program
        self.options = options

    @cached_property
    def config(self) -> Config:
        """What imapd.conf says. Raises `ConfigError`."""
        return Config.load(self.options.text("C") or DEFAULT_PATH, program=self.program)

    @property
    def family(self) -> Family:
        """The family as its file says now. Raises `NoFamily`."""
        return Family.load(directory_of(self.config))

    @cached_property
    def site(self) -> Site:
        """This host's shipping."""
        return Site.from_config(self.config, program=self.program)

    @cached_property
    def log(self) -> ShippingLog:
        """Where the command writes what it did (`LOG`)."""
        return ShippingLog(self.config.configdirectory / "log" / LOG, program=self.program)

    @property
    def wait(self) -> float:
        """Seconds to wait for the lock."""
        minutes = self.options.text("lockwait")
        if minutes is None:
            return LOCK_SECONDS
        number = decimal(minutes, 999_999)
        if number is None:
            raise UsageError(f"-lockwait {minutes}: a number of minutes is needed")
        return number * 60.0

    @contextlib.contextmanager
    def member(self, *, went_back: bool = False) -> Iterator[Member]:
        """This replica, locked. `went_back`: even if it is older than it was (`Member.open`)."""
        with Member.open(self.config, wait=self.wait, warn=self.warn, went_back=went_back) as member:
            member.tell = self.log.info
            yield member

    @contextlib.contextmanager
    def look(self) -> Iterator[View]:
        """This replica as it is, whoever is at work on it."""
        with self.look_at_log() as (family, log), contextlib.closing(look_at_mail(self.config)) as store:
            yield View(family, log, store)

    @contextlib.contextmanager
    def look_at_log(self) -> Iterator[tuple[Family, Log]]:
        """The same without the mail."""
        directory = directory_of(self.config)
        family = Family.load(directory)
        with Log(directory, family.self_id) as log:
            try:
                yield family, log
            except sqlite3.Error as error:
                raise StoreError(f"cannot use the operations log {log.db.path}: {error}") from error

    def named(self, family: Family) -> tuple[list[Replica], bool]:
        """The replicas that the operands name, and whether all are known; one that is not is named."""
        found = []
        for selector in self.options.operands:
            try:
                found.append(family.find(selector))
            except MultisiteError as error:
                self.complain(str(error))
        return found, len(found) == len(self.options.operands)

    # -- saying

    def print(self, text: str = "") -> None:
        """A line of the result."""
        make_way()
        print(printable(text, lines=True), flush=True)

    def complain(self, text: str) -> None:
        """A line for whoever runs the command, which does not belong to the result."""
        complain(self.program, text)

    def warn(self, text: str) -> None:
        """What must be seen and is remembered. A warning that says from whom it comes is printed as it is."""
        self.log.info(text)
        make_way()
        if text.startswith("multitool: "):
            print(printable(text, lines=True), file=sys.stderr, flush=True)
        else:
            self.complain(text)

    def notice(self, text: str) -> None:
        """What one may want to know afterwards."""
        self.log.info(text)
        if "verbose" in self.options:
            self.complain(text)


def others(member: Member, selectors: tuple[str, ...]) -> list[Replica]:
    """The replicas that selectors name, each once; naming this one raises `UsageError`."""
    found = [member.family.find(selector) for selector in selectors]
    for one in found:
        if one.id == member.family.self_id:
            raise UsageError(f"{one.name} is this replica itself")
    return list({one.id: one for one in found}.values())
