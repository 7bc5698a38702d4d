"""A rolling pull's figures for Prometheus: those of any rolling client, and what only a pull has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from cyrus_sync.common.classes import dataclass
from cyrus_sync.common.config import Config
from cyrus_sync.common.metrics.sheet import Sheet
from cyrus_sync.pull.events import Events
from cyrus_sync.pull.sessions import Sessions
from cyrus_sync.pull.watcher import Watcher
from cyrus_sync.sync_client.channel import PULL, channel_directory
from cyrus_sync.sync_client.engine.withheld import Withheld, withheld_path
from cyrus_sync.sync_client.figures import ClientFigures
from cyrus_sync.sync_client.pull_counts import PullCounts
from cyrus_sync.sync_client.pull_polling import Polling
from cyrus_sync.sync_client.rolling import Rolling


@dataclass
class PullFigures:
    """`look` is a `common.metrics.exporter.Look`. "The replica" of its texts is our store here."""

    config: Config
    rolling: Rolling
    log: Path
    sessions: Sessions
    counts: PullCounts
    polling: Polling
    events: Events | None
    watcher: Watcher | None

    def __post_init__(self) -> None:
        directory = channel_directory(self.config, PULL)
        self._client = ClientFigures(
            self.config,
            self.rolling,
            Withheld(withheld_path(directory, self.rolling.connector.server)),
            directory,
            self.log,
            lambda: (self.sessions.use.received, self.sessions.use.sent),
            lambda: [],
            lambda sheet: None,
        )

    def briefly(self) -> Mapping[str, int]:
        """For ``--status``."""
        watcher = self.watcher
        watching = {"users_watched": watcher.watched, "users_polled": watcher.left_out} if watcher else {}
        return {
            "events": sum(self._events().values()),
            **watching,
            "users_to_poll": self.polling.left,
            "pulls": self.counts.pulls,
            "pulls_of_folders": self.counts.alone,
            "imap_connections_made": self.sessions.use.made,
        }

    def _events(self) -> dict[str, int]:
        came = {"http": self.events.taken if self.events is not None else 0}
        if self.watcher is not None:
            came["imap"] = self.watcher.events
        return came

    def look(self) -> Callable[[Sheet], None]:
        client, counts, use = self._client.look(), replace(self.counts), replace(self.sessions.use)
        came, refused = self._events(), self.events.refused if self.events is not None else 0
        to_poll = self.polling.left
        watching = (self.watcher.watched, self.watcher.left_out) if self.watcher is not None else None

        def fill(sheet: Sheet) -> None:
            client(sheet)
            counter = sheet.counter
            text = "Events of the IMAP server, by how they came."
            for way, count in came.items():
                counter("client_events_total", text, count, way=way)
            text = "Requests for imap_events_listen that were no event."
            counter("client_events_refused_total", text, refused)
            if watching is not None:
                text = "Users of whom the server tells what changes (imap_watch_connections)."
                sheet.gauge("client_watched_users", text, watching[0])
                text = "Users for whom there is no such connection."
                sheet.gauge("client_unwatched_users", text, watching[1])
            text = "Users at whom the present poll has not begun to look."
            sheet.gauge("client_users_to_poll", text, to_poll)
            text = "Looks at a user: at single folders, or at the list of all."
            counter("client_pulls_total", text, counts.alone, what="folders")
            counter("client_pulls_total", text, counts.pulls - counts.alone, what="user")
            text = "How sessions at the IMAP server were had."
            for how, count in (("connected", use.made), ("kept", use.again)):
                counter("client_imap_sessions_total", text, count, how=how)
            text = "Messages that were here already and came under another UID."
            counter("client_messages_moved_total", text, counts.moved)
            counter("client_flags_pulled_total", "Messages that got other flags.", counts.flags)
            counter("client_messages_expunged_total", "Messages that were expunged.", counts.expunged)

        return fill
