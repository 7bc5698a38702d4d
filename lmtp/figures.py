"""The figures of `cyrus-sync lmtp` for Prometheus (`common.metrics`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cyrus_sync.common.config import Config
from cyrus_sync.common.metrics.shared import add_certificates, add_disks, add_far, add_locks, places_of
from cyrus_sync.common.metrics.sheet import Sheet
from cyrus_sync.common.wire.certificates import ends, server_files
from cyrus_sync.lmtp.server import Server
from cyrus_sync.lmtp.service import Service


@dataclass(frozen=True)
class LmtpFigures:
    """Where they come from. `look` is a `common.metrics.exporter.Look`."""

    config: Config
    service: Service
    server: Server
    started: float
    """Unix seconds."""

    def look(self) -> Callable[[Sheet], None]:
        service = self.service
        measures = service.measures
        answered, refused, took = measures.answered.copy(), measures.refused.copy(), measures.took.copy()
        connected = len(self.server.clients.sessions)
        waiting, writes = len(service.deliveries), service.deliveries.writes
        connections, turned_away = measures.connections, measures.turned_away
        messages, octets = measures.messages, measures.octets
        settings = service.tls.settings if service.tls else None

        def fill(sheet: Sheet) -> None:
            gauge, counter = sheet.gauge, sheet.counter
            gauge("lmtp_start_time_seconds", "When the server was started.", self.started)
            gauge("lmtp_connections", "Connections that are open.", connected)
            gauge("lmtp_connections_limit", "How many there may be.", service.most)
            counter("lmtp_connections_total", "Connections that were taken.", connections)
            text = "Connections for which there was no place."
            counter("lmtp_connections_refused_total", text, turned_away)
            counter("lmtp_messages_total", "Messages that came in.", messages)
            counter("lmtp_message_bytes_total", "Octets of these messages.", octets)
            for result in ("delivered", "tempfail", "refused"):
                text = "Recipients of these messages, by what they were answered."
                counter("lmtp_recipients_total", text, answered[result], result=result)
            for code, count in sorted(refused.items()):
                text = "Recipients that were refused before their message came, by code."
                counter("lmtp_recipients_refused_total", text, count, code=str(code))
            counter("lmtp_writes_total", "Transactions of the store, each on disk.", writes)
            gauge("lmtp_owners_waiting", "Owners who are being written to, or wait for it.", waiting)
            text = "From DATA to the last recipient's answer."
            sheet.histogram("lmtp_message_duration_seconds", text, took)
            service.add_figures(sheet)
            add_locks(sheet)
            add_far(sheet, self.config)
            add_disks(sheet, places_of(self.config))
            add_certificates(sheet, ends(server_files(settings)))

        return fill
