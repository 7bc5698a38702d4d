"""When the store was last backed up, for Prometheus: out of the notes of `places`.

``mailstore backup`` is no daemon, so it writes a file for node_exporter when it ends. Times are told as
times, so that the file need not be written while nothing happens.
"""

from __future__ import annotations

from pathlib import Path

from cyrus_sync.common.config import Config
from cyrus_sync.common.metrics.sheet import Sheet, plain_text
from cyrus_sync.mailstore.backup.places import places

NAME = "backup"


def add_backups(sheet: Sheet, configdirectory: Path) -> None:
    """Of every place to which something was backed up. Blocks."""
    for place in places(configdirectory):
        text = "Since when all that was there then can be brought back: a backup of everybody, without fault."
        sheet.gauge("backup_last_success_timestamp_seconds", text, place.everybody, place=place.place)
        text = "When the first backup was made."
        sheet.gauge("backup_first_timestamp_seconds", text, place.first, place=place.place)


def write_backups(config: Config) -> None:
    """The file, where imapd.conf names a directory for such. Raises OSError."""
    said = config.string("sync_metrics_file")
    if said and Path(said).is_dir():
        from cyrus_sync.common.metrics.settings import text_file
        from cyrus_sync.common.metrics.textfile import write_text_file

        sheet = Sheet("mailstore")
        add_backups(sheet, config.configdirectory)
        write_text_file(text_file(Path(said), NAME), plain_text(sheet))
