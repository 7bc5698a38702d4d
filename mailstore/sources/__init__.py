"""Where mail can be imported from: Maildir++, mbox files, trees of .eml files and of all these.

>>> for message in open_source(Path("~/Maildir").expanduser(), print).messages():    # doctest: +SKIP
...     print(message.folder, len(message.raw))
"""

from __future__ import annotations

from pathlib import Path

from cyrus_sync.mailstore.errors import BadInput, NoInput
from cyrus_sync.mailstore.sources.maildir import MaildirSource, is_maildir
from cyrus_sync.mailstore.sources.mbox import MboxSource, recognise
from cyrus_sync.mailstore.sources.message import Report, Source
from cyrus_sync.mailstore.sources.tree import TreeSource

__all__ = ["Source", "open_source"]


def open_source(path: Path, report: Report) -> Source:
    """The source at `path`, by what is found there. Raises `NoInput`, `BadInput`.

    `report` hears, in a line each, of what cannot be imported.
    """
    try:
        if path.is_dir():
            return MaildirSource(path, report) if is_maildir(path) else TreeSource(path, report)
        found = recognise(path)
        if found.form in ("mbox", "mmdf", "blank"):
            return MboxSource(path, report)
        if path.suffix.lower() in (".eml", ".emlx"):
            return TreeSource(path, report)
    except OSError as error:
        raise NoInput(f"{path}: {error.strerror}") from error
    raise BadInput(
        f"{path}: {found.why or 'neither a Maildir, nor an mbox file, nor a folder of .eml files'}"
    )
