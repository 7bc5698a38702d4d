"""A tree of directories with ``.eml`` files, Maildirs and mbox files in it: directories become folders.

Thunderbird's ``Name.sbd`` directories hold the folders below ``Name``. The internal date of an ``.eml``
file is that of its first Received field, else its Date, else the file's time of modification.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from common.errors import ReplyError
from mailstore.errors import BadInput
from mailstore.sources.content import stored_form
from mailstore.sources.maildir import MaildirSource, is_maildir
from mailstore.sources.mbox import MboxSource, is_mbox
from mailstore.sources.message import (
    Counters,
    Heard,
    Report,
    Source,
    SourceMessage,
    component,
    date_of,
    from_top,
    header_of,
    is_gone,
    record_flags,
    status_flags,
)


class TreeSource:
    """Everything below `path` (or one .eml file)."""

    def __init__(self, path: Path, report: Report) -> None:
        self.path = path
        self._report = self._heard = Heard(report)
        self._files: list[tuple[tuple[str, ...], Path]] = []
        self._boxes: list[tuple[tuple[str, ...], Source]] = []
        if path.is_dir():
            self._walk(path, ())
        else:
            self._files.append(((), path))
        if not self._files and not self._boxes:
            raise BadInput(f"{path}: no .eml file, Maildir or mbox is in it")

    def size(self) -> int:
        files = sum(path.stat().st_size for _, path in self._files)
        return files + sum(box.size() for _, box in self._boxes)

    def folders(self) -> list[tuple[str, ...]]:
        inside = [folder + below for folder, box in self._boxes for below in box.folders()]
        return list(dict.fromkeys([*(folder for folder, _ in self._files), *inside]))

    def subscriptions(self) -> list[tuple[str, ...]]:
        return [folder + below for folder, box in self._boxes for below in box.subscriptions()]

    def counters(self, folder: tuple[str, ...]) -> Counters | None:
        for above, box in self._boxes:
            if folder[: len(above)] == above:
                found = box.counters(folder[len(above) :])
                if found is not None:
                    return found
        return None

    def is_whole(self, folder: tuple[str, ...] | None) -> bool:
        """Nothing was left out at all: a directory that could not be read has hidden who knows what."""
        return not self._heard.anything

    def messages(self) -> Iterator[SourceMessage]:
        for folder, path in self._files:
            yield from self._message(folder, path)
        for folder, box in self._boxes:
            for message in box.messages():
                yield message._replace(folder=folder + message.folder)

    def _walk(self, directory: Path, folder: tuple[str, ...]) -> None:
        entries = sorted(entry for entry in directory.iterdir() if not entry.name.startswith("."))
        for entry in entries:
            if entry.is_file() and entry.suffix.lower() == ".eml":
                self._files.append((folder, entry))
        for entry in entries:
            if entry.is_dir() and not entry.is_symlink():
                self._directory(entry, folder)
            elif entry.is_file() and entry.suffix.lower() not in (".eml", ".msf") and self._holds_mbox(entry):
                below = self._below(folder, entry.stem if entry.suffix.lower() == ".mbox" else entry.name)
                if below is not None:
                    self._boxes.append((below, MboxSource(entry, self._report)))

    def _directory(self, entry: Path, folder: tuple[str, ...]) -> None:
        below = self._below(folder, entry.name.removesuffix(".sbd"))
        if below is None:
            return
        if is_maildir(entry):
            self._boxes.append((below, MaildirSource(entry, self._report)))
        else:
            self._walk(entry, below)

    def _holds_mbox(self, path: Path) -> bool:
        try:
            return path.stat().st_size > 0 and is_mbox(path)
        except OSError as error:
            self._report(f"{path}: left out: {error.strerror}")
            return False

    def _below(self, folder: tuple[str, ...], name: str) -> tuple[str, ...] | None:
        try:
            return from_top((*folder, component(name)))
        except ReplyError as error:
            self._report(f"{name}: folder left out: {error}")
            return None

    def _message(self, folder: tuple[str, ...], path: Path) -> Iterator[SourceMessage]:
        try:
            raw = path.read_bytes()
            modified = int(path.stat().st_mtime)
        except OSError as error:
            self._report(f"{path}: left out: {error.strerror}")
            return
        if not raw.strip():
            self._report(f"{path}: left out: it is empty")
            return
        header = header_of(raw)
        if not is_gone(header):
            when = date_of(header) or max(modified, 1)
            flags = record_flags(status_flags(header))
            yield SourceMessage(folder, stored_form(raw), when, flags, len(raw))
