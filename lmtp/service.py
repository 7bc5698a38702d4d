"""What all connections share: the store, threads, rules, login, certificates, and what is counted."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

from twisted.internet.defer import Deferred

from cyrus_sync.common import __version__
from cyrus_sync.common.config import Config
from cyrus_sync.common.descriptors import share_out
from cyrus_sync.common.errors import CyrusSyncError
from cyrus_sync.common.metrics.sheet import Sheet
from cyrus_sync.common.metrics.tallies import BRIEF, Histogram
from cyrus_sync.common.names import BadName, Owner
from cyrus_sync.common.reactor import Reactor, pause
from cyrus_sync.common.stores import open_kept, role_of
from cyrus_sync.common.stores.mailstore import MailStore
from cyrus_sync.common.stores.threads import ThreadRunner
from cyrus_sync.common.wire.certificates import read_again
from cyrus_sync.common.wire.guessing import Guessing
from cyrus_sync.common.wire.sasl.server import SaslServer
from cyrus_sync.common.wire.tls import ServerTLS, server_context
from cyrus_sync.lmtp.answers import UNKNOWN, Answer, of_error
from cyrus_sync.lmtp.arriving import Arriving, Message
from cyrus_sync.lmtp.autocreate import Autocreate
from cyrus_sync.lmtp.commands import Mail, Rcpt
from cyrus_sync.lmtp.deliveries import Deliveries, Delivery
from cyrus_sync.lmtp.duplicates import Duplicates
from cyrus_sync.lmtp.header import Envelope
from cyrus_sync.lmtp.journal import Entry, Journal
from cyrus_sync.lmtp.placing import Placing, Posting
from cyrus_sync.lmtp.recipients import Addresses, Recipient
from cyrus_sync.lmtp.settings import Settings

log = logging.getLogger("lmtp")


@dataclass(slots=True)
class Measures:
    """Of the whole process; all of it belongs to the reactor's thread."""

    connections: int = 0
    turned_away: int = 0
    messages: int = 0
    octets: int = 0
    answered: Counter[str] = field(default_factory=Counter)
    """Recipients after DATA: ``delivered``, ``tempfail``, ``refused``."""
    refused: Counter[int] = field(default_factory=Counter)
    """Recipients at RCPT, by code."""
    took: Histogram = field(default_factory=lambda: Histogram(BRIEF))
    """Seconds from DATA to the last answer."""

    def arrived(self, octets: int) -> None:
        self.messages += 1
        self.octets += octets


class Service:
    """The server apart from its connections."""

    def __init__(
        self,
        config: Config,
        settings: Settings,
        store: MailStore,
        scratch: Path,
        reactor: Reactor,
        *,
        threads: ThreadRunner,
        sasl: SaslServer,
        tls: ServerTLS | None = None,
        duplicates: Duplicates | None = None,
        add_figures: Callable[[Sheet], None] = lambda _sheet: None,
    ) -> None:
        self.settings = settings
        self.store = store
        self.reactor = reactor
        self.threads = threads
        self.sasl = sasl
        self.tls = tls
        self.measures = Measures()
        self.failed_login_pause = float(config.duration("failedloginpause"))
        self.guessing = Guessing(self.failed_login_pause, reactor.seconds)
        self.most = share_out().connections
        self.banner = f"{config.servername} cyrus-sync LMTP {__version__}"
        self.deliveries = Deliveries(store, threads, duplicates)
        self.refuses_changes = role_of(config).refuses_changes
        self.add_figures = add_figures
        """What the store itself tells Prometheus; blocks."""
        self._scratch = scratch
        self._addresses = Addresses.from_config(config)
        self._placing = Placing.from_config(config)
        self._autocreate = Autocreate.from_config(config)
        self._journal = Journal.from_config(config)
        self._duplicates = duplicates

    @classmethod
    def open(cls, config: Config, settings: Settings, reactor: Reactor) -> Self:
        """As imapd.conf has it; the store is opened for writing. `ConfigError`, `StoreError`."""
        tls = server_context(config)
        sasl = SaslServer.from_config(config, reactor)
        Journal.from_config(config)
        Autocreate.from_config(config)
        store, care = open_kept(config)
        try:
            duplicates = Duplicates(config.configdirectory) if settings.duplicates else None
        except CyrusSyncError:
            store.close()
            raise
        threads = ThreadRunner(reactor, share_out().threads, "lmtp")
        scratch = care.scratch()
        return cls(
            *(config, settings, store, scratch, reactor),
            threads=threads,
            sasl=sasl,
            tls=tls,
            duplicates=duplicates,
            add_figures=care.add_figures,
        )

    def close(self) -> None:
        """After the last connection."""
        self.store.close()
        if self._duplicates is not None:
            self._duplicates.close()

    def reload_certificates(self) -> None:
        """SIGHUP. Bad files leave the certificates in use as they are."""
        if self.tls is not None:
            read_again(self.tls, log)

    # -- recipients

    def look_up(self, wanted: Sequence[Rcpt], mail: Mail) -> Deferred[list[Posting | Answer]]:
        """What becomes of each recipient, as far as that is known before the message is there."""
        return self.threads.run(self._look_up, wanted, mail)

    def _look_up(self, wanted: Sequence[Rcpt], mail: Mail) -> list[Posting | Answer]:
        """In a thread."""
        return [self._look_up_one(rcpt, mail) for rcpt in wanted]

    def _look_up_one(self, rcpt: Rcpt, mail: Mail) -> Posting | Answer:
        try:
            found = self._checked(self._addresses.recipient(rcpt.address), rcpt, mail)
        except BadName:
            found = UNKNOWN
        catchall = self.settings.catchall
        if isinstance(found, Answer) and catchall is not None and found is UNKNOWN:
            found = self._checked(catchall, rcpt, mail)
        return found

    def _checked(self, recipient: Recipient, rcpt: Rcpt, mail: Mail) -> Posting | Answer:
        posting = Posting(recipient, mail.size, mail.login, rcpt.ignore_quota)
        try:
            with self.store.read(recipient.owner) as reader:
                refused = self._placing.at_rcpt(reader, posting)
        except CyrusSyncError as error:
            log.error("RCPT: %s", error.at(user=str(recipient.owner)))
            return of_error(error)
        made = self._autocreate is not None and self._autocreate.may_make(recipient.inbox)
        if refused is UNKNOWN and made:
            return replace(posting, founds=True)
        return posting if refused is None else refused

    # -- messages

    def arriving(self, envelope: Envelope) -> Arriving:
        settings = self.settings
        return Arriving(envelope, settings.rules, settings.most, self.threads, self._scratch)

    async def journalled(self, message: Message, envelope: Envelope, success: Answer) -> Answer:
        """The journal has it when this returns `success`; so it does at once where there is no journal."""
        if self._journal is None:
            return success
        try:
            entry: Entry = await self.threads.run(
                self._journal.entry, message.pieces, envelope, self.now(), success
            )
        except (CyrusSyncError, OSError) as error:
            log.error("journal: %s", error)
            return of_error(error)
        answer = await self.deliveries.deliver(entry)
        return answer if answer.good else Answer(451, "4.3.0", f"cannot be journalled: {answer.text}")

    def deliver(self, message: Message, posting: Posting, success: Answer) -> Deferred[Answer]:
        """Fires with the recipient's answer."""
        actual = replace(posting, octets=message.size)
        return self.deliveries.deliver(
            Delivery(message, actual, self._placing, self._duplicates, success, self._autocreate)
        )

    def now(self) -> float:
        """Unix seconds."""
        return self.reactor.seconds()

    def sleep(self, seconds: float) -> Deferred[None]:
        return pause(self.reactor, seconds)

    # -- what is not done here

    def look_for_scripts(self, stopped: Callable[[], bool], wait: Callable[[], object]) -> list[str]:
        """In a thread: the users who have an active Sieve script, which nobody executes here. `wait` is
        called between two users, until `stopped`."""
        found = []
        for userid in self.store.userids():
            if stopped():
                break
            try:
                with self.store.read(Owner("user", userid)) as reader:
                    if any(script.active for script in reader.sieve_scripts()):
                        found.append(userid)
            except CyrusSyncError as error:
                log.warning("Sieve scripts cannot be looked at: %s", error.at(user=userid))
            wait()
        return found
