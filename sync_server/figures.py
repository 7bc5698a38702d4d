"""A server's figures for Prometheus (`common.metrics`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from cyrus_sync.common.classes import dataclass
from cyrus_sync.common.config import Config
from cyrus_sync.common.metrics.shared import add_certificates, add_disks, add_far, add_locks, places_of
from cyrus_sync.common.metrics.sheet import Sheet
from cyrus_sync.common.wire.certificates import ends, server_files
from cyrus_sync.sync_server.measures import Measures
from cyrus_sync.sync_server.service import Service


@dataclass(frozen=True)
class ServerFigures:
    """Where they come from. `look` is a `common.metrics.exporter.Look`."""

    config: Config
    service: Service
    started: float
    """Unix seconds."""

    def look(self) -> Callable[[Sheet], None]:
        service = self.service
        measures = _copied(service.measures)
        sessions = list(service.sessions)
        received = measures.received + sum(one.proto.bytes_read for one in sessions)
        sent = measures.sent + sum(one.proto.bytes_written for one in sessions)
        staged = [one.staged for one in sessions]
        places, strangers, most = len(service.places), service.places.strangers, service.places.most
        settings = service.tls_context.settings if service.tls_context else None

        def fill(sheet: Sheet) -> None:
            gauge, counter = sheet.gauge, sheet.counter
            gauge("server_start_time_seconds", "When the server was started.", self.started)
            text = "Connections that are open."
            gauge("server_connections", text, places - strangers, state="logged_in")
            gauge("server_connections", text, strangers, state="not_logged_in")
            gauge("server_connections_limit", "How many there may be.", most.connections)
            counter("server_connections_total", "Connections that got a place.", measures.accepted)
            text = "Connections for which there was no place."
            counter("server_connections_refused_total", text, measures.turned_away)
            for result in ("ok", "failed", "denied", "not_checked"):
                counter("server_logins_total", "Logins.", measures.logins[result], result=result)
            text = "From a command's last octet to its answer."
            for command, spent in sorted(measures.commands.items()):
                sheet.histogram("server_command_duration_seconds", text, spent, command=command)
            for (command, code), count in sorted(measures.replies.items()):
                counter("server_replies_total", "Answers, by code.", count, command=command, code=code)
            counter("server_messages_received_total", "Messages that were sent here.", measures.messages)
            text = "Octets of these messages, as they were sent (compressed, where both ends are ours)."
            counter("server_message_bytes_received_total", text, measures.message_bytes)
            for way, octets in (("received", received), ("sent", sent)):
                counter("server_wire_bytes_total", "Octets on the line.", octets, direction=way)
            text = "Messages that have come and are not in a mailbox yet."
            gauge("server_staged_messages", text, sum(messages for messages, _, _ in staged))
            text = "Octets of these messages, compressed."
            gauge("server_staged_bytes", text, sum(octets for _, octets, _ in staged), place="memory")
            gauge("server_staged_bytes", text, sum(octets for _, _, octets in staged), place="disk")
            service.add_figures(sheet)
            add_locks(sheet)
            add_far(sheet, self.config)
            add_disks(sheet, places_of(self.config))
            add_certificates(sheet, ends(server_files(settings)))

        return fill


def _copied(measures: Measures) -> Measures:
    return replace(
        measures,
        logins=measures.logins.copy(),
        commands={command: spent.copy() for command, spent in measures.commands.items()},
        replies=measures.replies.copy(),
    )
