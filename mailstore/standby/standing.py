"""How far behind the Maildirs are that a standby Dovecot serves: a file that people and monitoring read.

``standby.json`` beside the action log of the channel, replaced as a whole every few seconds, and told to
Prometheus. Times are in Unix seconds. `status` shows it to people.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from cyrus_sync.common.config import Config
from cyrus_sync.common.metrics.settings import FILE, text_file
from cyrus_sync.common.metrics.sheet import Sheet, plain_text
from cyrus_sync.common.metrics.textfile import write_text_file

_log = logging.getLogger(__name__)

NAME = "standby.json"
WRITE_EVERY = 5.0
"""Seconds between two versions of the file."""

MOST_NAMED = 1000
"""So many of those who are not in step are in the file."""


@dataclass(frozen=True, slots=True)
class NotInStep:
    """An owner who failed: why, how often in a row, since when he is not in step, when he is tried again."""

    kind: str
    name: str
    reason: str
    tries: int
    since: float
    due: float


@dataclass(frozen=True, slots=True)
class Standing:
    """One moment."""

    updated: float
    pid: int
    brought: int
    """Users who were brought in step, since the start; and times that this failed."""
    failures: int
    waiting: int
    """Users who are being looked at, or wait for it."""
    not_in_step: int
    """Users who failed, and are tried again."""
    oldest: float | None
    """Since when something that changed is not in the trees; at least since then. None: all is."""
    swept: float
    """When all users were last looked at; 0.0 for never since the start."""
    sweeping: bool
    directory: str = ""
    """Where the trees are, as it was typed."""
    named: tuple[NotInStep, ...] = ()
    """Who failed, `MOST_NAMED` of them."""

    @classmethod
    def of_json(cls, found: Any) -> Standing:
        """ValueError, TypeError or KeyError for what is none."""
        known = {one.name: found[one.name] for one in fields(cls) if one.name not in ("directory", "named")}
        if not all(isinstance(value, int | float | None) for value in known.values()):
            raise TypeError("not a standing")
        named = tuple(
            NotInStep(
                str(one["kind"]), str(one["name"]), str(one["reason"]), int(one["tries"]),
                float(one["since"]), float(one["due"]),
            )
            for one in found.get("named", ())
        )  # fmt: skip
        return cls(**known, directory=str(found.get("directory", "")), named=named)


def read_standing(path: Path) -> Standing | None:
    """None where there is none that can be read. Blocks."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        return Standing.of_json(json.loads(path.read_bytes()))
    return None


def add_standings(sheet: Sheet, configdirectory: Path) -> None:
    """Those of all channels that somebody follows, or has followed. Blocks."""
    for path in sorted((configdirectory / "sync").glob(f"*/{NAME}")):
        if (found := read_standing(path)) is not None:
            add_standing(sheet, found, path.parent.name)


def add_standing(sheet: Sheet, found: Standing, channel: str) -> None:
    """Of one channel."""
    labels = {"channel": channel}
    text = "When whoever keeps the Maildirs in step last said so."
    sheet.gauge("standby_updated_timestamp_seconds", text, found.updated, **labels)
    age = max(0.0, found.updated - found.oldest) if found.oldest is not None else 0.0
    text = "Age of the oldest change that is not in the Maildirs, when that was said; 0: all are."
    sheet.gauge("standby_oldest_change_age_seconds", text, age, **labels)
    text = "Users who are being brought in step, or wait for it."
    sheet.gauge("standby_users_waiting", text, found.waiting, **labels)
    text = "Users who could not be brought in step, and are tried again."
    sheet.gauge("standby_users_not_in_step", text, found.not_in_step, **labels)
    text = "When all users were last looked at."
    sheet.gauge("standby_last_sweep_timestamp_seconds", text, found.swept or None, **labels)
    text = "Users who were brought in step."
    sheet.counter("standby_brought_total", text, found.brought, **labels)
    text = "Times that a user could not be brought in step."
    sheet.counter("standby_failures_total", text, found.failures, **labels)


@contextmanager
def told(look: Callable[[], Standing], config: Config, directory: Path) -> Iterator[None]:
    """While this lasts the file in `directory`, and that for node_exporter if there is to be one, are written
    anew every few seconds, in a thread, and once more at the end."""
    stop = threading.Event()
    writer = _Writer(look, config, directory)
    thread = threading.Thread(target=writer.run, args=(stop,), name="standing", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        writer.write()


class _Writer:
    def __init__(self, look: Callable[[], Standing], config: Config, directory: Path) -> None:
        self._look = look
        self._path = directory / NAME
        said = config.string(FILE)
        files = Path(said) if said else None
        self._text = text_file(files, "standby", directory.name) if files and files.is_dir() else None
        self._complained = False

    def run(self, stop: threading.Event) -> None:
        while True:
            self.write()
            if stop.wait(WRITE_EVERY):
                return

    def write(self) -> None:
        """Nothing that goes wrong here stops the work."""
        found = self._look()
        try:
            beside = self._path.with_name(f".{NAME}.{os.getpid()}")
            beside.write_text(json.dumps(asdict(found), indent=1) + "\n", "utf-8")
            beside.chmod(0o640)
            beside.replace(self._path)
            if self._text is not None:
                sheet = Sheet("mailstore")
                add_standing(sheet, found, self._path.parent.name)
                write_text_file(self._text, plain_text(sheet))
        except OSError as error:
            if not self._complained:
                _log.error("cannot write %s: %s", error.filename or self._path, error.strerror)
            self._complained = True
        else:
            self._complained = False
