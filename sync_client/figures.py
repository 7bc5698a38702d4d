"""A rolling client's figures for Prometheus (`common.metrics`), each with the label ``channel``."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from cyrus_sync.common.classes import dataclass
from cyrus_sync.common.config import Config
from cyrus_sync.common.metrics.shared import add_certificates, add_disks, add_far, add_locks, places_of
from cyrus_sync.common.metrics.sheet import Sheet
from cyrus_sync.common.wire.certificates import CertificateFile, ends
from cyrus_sync.sync_client.engine.withheld import Withheld
from cyrus_sync.sync_client.machine import RollingState
from cyrus_sync.sync_client.measures import Measures
from cyrus_sync.sync_client.rolling import Rolling

DEFAULT_CHANNEL = "(default)"
"""The channel without a name. No other can be called so."""


def channel_label(channel: str) -> str:
    return channel or DEFAULT_CHANNEL


class GrowingFile:
    """Lines of a file that grows: what was counted once is not read again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._inode = 0
        self._octets = 0
        self._lines = 0

    def look(self) -> tuple[int, int]:
        """Its lines and octets now; nothing where there is no file. Blocks."""
        try:
            with self._path.open("rb") as file:
                about = os.fstat(file.fileno())
                if about.st_ino != self._inode or about.st_size < self._octets:
                    self._inode, self._octets, self._lines = about.st_ino, 0, 0
                file.seek(self._octets)
                while block := file.read(1 << 20):
                    self._octets += len(block)
                    self._lines += block.count(b"\n")
        except OSError:
            self._inode = self._octets = self._lines = 0
        return self._lines, self._octets


@dataclass
class ClientFigures:
    """Where the figures of one client come from. `look` is a `common.metrics.exporter.Look`."""

    config: Config
    rolling: Rolling
    withheld: Withheld
    directory: Path
    log: Path
    traffic: Callable[[], tuple[int, int]]
    certificates: Callable[[], Sequence[CertificateFile]]
    master: Callable[[Sheet], None]
    """Adds what the master itself tells."""

    def __post_init__(self) -> None:
        self._log = GrowingFile(self.log)
        self._run = GrowingFile(self.log.with_name(f"{self.log.name}-run"))
        self._kept = GrowingFile(self.directory / "quarantine.log")

    def look(self) -> Callable[[Sheet], None]:
        rolling = self.rolling
        now = rolling.clock.seconds()
        facts, state, queue = replace(rolling.facts), rolling.state, rolling.queue
        set_aside, server = rolling.source.set_aside, rolling.connector.server
        measures, traffic = _copied(rolling.measures), self.traffic()

        def fill(sheet: Sheet) -> None:
            gauge, counter = sheet.gauge, sheet.counter
            gauge("client_info", "Where the channel leads.", 1, server=server)
            for one in RollingState:
                text = "1 for the state in which the client is."
                gauge("client_state", text, float(one is state), state=one.name.lower())
            text = "Whether there is a connection to the replica."
            gauge("client_connected", text, float(facts.connected is not None))
            gauge("client_start_time_seconds", "When the client was started.", facts.started or None)
            age = 0.0 if facts.oldest_change is None else max(0.0, now - facts.oldest_change)
            text = "Age of the oldest change that is not on the replica yet; 0: all are."
            gauge("client_oldest_change_age_seconds", text, age)
            text = "When a run last brought everything over."
            gauge("client_last_success_timestamp_seconds", text, facts.last_success)
            gauge("client_last_run_timestamp_seconds", "When a run last began.", facts.last_run)
            gauge("client_items_under_way", "Items of the present run that are not finished.", queue)
            gauge("client_set_aside", "Users and shared mailboxes that are left out for now.", set_aside)
            self._add_log(sheet)
            counter("client_messages_sent_total", "Messages that the replica has taken.", facts.messages)
            counter("client_message_bytes_sent_total", "Octets of these messages.", facts.bytes)
            counter("client_items_total", "Items of work that were done.", facts.items)
            counter("client_connections_total", "Connections that were made.", measures.connected)
            text = "Tries to connect that failed."
            counter("client_connection_failures_total", text, measures.not_connected)
            for way, octets in zip(("received", "sent"), traffic, strict=True):
                counter("client_wire_bytes_total", "Octets on the line.", octets, direction=way)
            text = "Replies of the replica to our commands."
            for (command, code), count in sorted(measures.replies.items()):
                counter("client_replies_total", text, count, command=command, code=code)
            text = "Items that could not be done, and connections that broke, by what was wrong."
            for code, count in sorted(measures.failures.items()):
                counter("client_failures_total", text, count, code=code)
            sheet.histogram("client_run_duration_seconds", "What a run takes.", measures.runs)
            text = "From the oldest change of a run until all of it was on the replica."
            sheet.histogram("client_cycle_latency_seconds", text, measures.latency)
            self.master(sheet)
            add_locks(sheet)
            add_far(sheet, self.config)
            add_disks(sheet, places_of(self.config))
            add_certificates(sheet, ends(self.certificates()))

        return fill

    def _add_log(self, sheet: Sheet) -> None:
        (new, new_octets), (taken, taken_octets) = self._log.look(), self._run.look()
        text = "Lines of the action log that wait, or are being worked on."
        sheet.gauge("client_log_lines", text, new + taken)
        sheet.gauge("client_log_bytes", "Octets of these lines.", new_octets + taken_octets)
        text = "Lines of those who are set aside."
        sheet.gauge("client_set_aside_lines", text, self._kept.look()[0])
        text = "Messages that cannot be read here, and are not on the replica."
        held = sum(len(entry.messages) for entry in self.withheld.entries())
        sheet.gauge("client_withheld_messages", text, held)


def _copied(measures: Measures) -> Measures:
    return replace(
        measures,
        replies=measures.replies.copy(),
        failures=measures.failures.copy(),
        runs=measures.runs.copy(),
        latency=measures.latency.copy(),
    )
