"""What a replica of a family tells Prometheus: how old its news of each sibling is, and what waits.

It is no daemon, so ``multitool`` and ``syncreplica`` write a file for node_exporter when they end. Times are
told as times, so that the file need not be written while nothing happens.
"""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

from cyrus_sync.common.config import Config
from cyrus_sync.common.errors import CyrusSyncError
from cyrus_sync.common.metrics.settings import FILE, text_file
from cyrus_sync.common.metrics.sheet import Sheet
from cyrus_sync.multisite.contacts import read_contacts
from cyrus_sync.multisite.family import Family
from cyrus_sync.multisite.oplog.database import Database
from cyrus_sync.multisite.oplog.epochs import Epochs
from cyrus_sync.multisite.oplog.heard import Hearsay
from cyrus_sync.multisite.oplog.on_the_way import on_the_way
from cyrus_sync.multisite.oplog.operations import Operations, OperationState

NAME = "packets"


def packets_file(config: Config) -> Path | None:
    """Where they are written: a file of their own where imapd.conf names a directory, else None."""
    said = config.string(FILE)
    return text_file(Path(said), NAME) if said and Path(said).is_dir() else None


def add_packets(sheet: Sheet, directory: Path) -> None:
    """Of the replica whose log is in `directory`. Nothing where there is none that can be read. Blocks."""
    with contextlib.suppress(CyrusSyncError, sqlite3.Error):
        family = Family.load(directory)
        with Database(directory, readonly=True) as database:
            _add(sheet, directory, family, database)


def _add(sheet: Sheet, directory: Path, family: Family, database: Database) -> None:
    operations, epochs = Operations(database, family.self_id), Epochs(database)
    heard = Hearsay(database)
    contacts = read_contacts(directory)
    exports = {export.target: export.time for export in epochs.exports()}
    labels = {"family": family.name, "replica": family.myself.name}
    for sibling in family.living():
        if sibling.id == family.self_id:
            continue
        contact, named = contacts.get(sibling.id), {**labels, "sibling": sibling.name}
        text = "When a packet of a sibling was last applied here."
        when = contact.imported if contact else None
        sheet.gauge("packets_last_import_timestamp_seconds", text, when, **named)
        text = "When the last packet that was applied here was written there."
        made = contact.made if contact else None
        sheet.gauge("packets_last_packet_made_timestamp_seconds", text, made, **named)
        text = "When a packet for a sibling was last exported."
        when = exports.get(sibling.id)
        sheet.gauge("packets_last_export_timestamp_seconds", text, when, **named)
        text = "Operations that a sibling has not been told, as far as is known here."
        untold = operations.count_lacking(epochs.row(sibling.id))
        sheet.gauge("packets_untold_operations", text, untold, **named)
        way = on_the_way(epochs, heard, sibling.id, sibling.incarnation)
        text = "Operations that exports have told a sibling, and that it has not shown to have."
        sheet.gauge("packets_on_the_way_operations", text, way.operations, **named)
        text = "When the first packet was exported that a sibling of whom we hear has not shown to have got."
        sheet.gauge("packets_on_the_way_timestamp_seconds", text, way.since if way.heard else None, **named)
    counts = operations.count_pending()
    for state in (OperationState.WAITS, OperationState.BEGUN, OperationState.SET_ASIDE):
        text = "Operations that are here and not carried out: a message is missing, or they failed."
        count = counts.get(state, 0)
        sheet.gauge("packets_pending_operations", text, count, state=state.name.lower(), **labels)
    (wanted,) = database.row("SELECT count(*) FROM wanted")
    text = "Messages that this replica asks its siblings for."
    sheet.gauge("packets_wanted_messages", text, wanted, **labels)
    text = "Whether this replica is being restored, and tells nothing until its siblings have answered."
    sheet.gauge("packets_sealed", text, float(bool(family.restoring)), **labels)
