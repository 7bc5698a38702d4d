"""Whether the partitions are there: a disk that is not mounted looks like an empty one.

A partition in which anything was ever stored has the file ``.cyrus-sync-partition``, and
``<home>/partitions.json`` says so apart from it. Where the second speaks of a partition and the first is
missing, the disk is away: nobody may then make owners on what is underneath, nor take those who are on it
for people who never were. A store from before these files gets them when it is first written to, if it
holds anybody.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable

from cyrus_sync.common.commands import reason
from cyrus_sync.common.errors import StoreError
from cyrus_sync.common.files import make_directories, write_over
from cyrus_sync.common.stores.native.layout import Layout

MARKER = ".cyrus-sync-partition"
GENERATION = ".cyrus-sync-generation"
KNOWN = "partitions.json"

_TEXT = """\
This directory is a partition of a cyrus-sync mail store. As long as this file is missing, the partition
is taken for a disk that is not mounted, and nothing is stored in it.
"""


class PartitionAway(StoreError):
    """A partition that has been in use is not where the configuration says. Mounting it again heals that."""

    text = "a partition is not there"


class Partitions:
    """The partitions of a store. Safe for several threads; a writer's calls are made under the store's lock
    for new owners."""

    def __init__(self, layout: Layout, *, readonly: bool, is_anybody_known: Callable[[], bool]) -> None:
        """`is_anybody_known`: whether the registry names any owner."""
        self._layout = layout
        self._readonly = readonly
        self._is_anybody_known = is_anybody_known
        self._lock = threading.Lock()
        self._adopted = False

    def away(self) -> dict[str, str]:
        """The partitions that are not there, and why one must think so, in a sentence."""
        found = {name: self._trouble(name) for name in self._layout.partitions}
        return {name: text for name, text in found.items() if text}

    def check(self) -> None:
        """Raises `PartitionAway` unless all partitions are there. For daemons at their start, and before a
        new owner is made: the owner might be on the one that is away."""
        away = self.away()
        if away:
            raise PartitionAway("; ".join(away.values()))

    def adopt(self) -> None:
        """Mark the partitions of a store that is older than the markers. Once a process; never fails."""
        if self._adopted or self._readonly:
            return
        self._adopted = True
        with contextlib.suppress(OSError):
            for name, root in self._layout.partitions.items():
                if (root / MARKER).exists() or name in self._known():
                    continue
                if self._layout.is_inhabited(name):
                    self.mark(name)

    def check_marked(self, name: str) -> None:
        """Raises `PartitionAway` where nothing was ever stored in a partition: for who brings much to a disk
        that may not be mounted."""
        root = self._layout.partitions[name]
        if not (root / MARKER).exists():
            raise PartitionAway(
                f"partition {name}: {root} has no file {MARKER}: is it mounted? If it is the right one, and"
                f" new: mkdir -p {root} && touch {root / MARKER}"
            )

    def mark(self, name: str) -> None:
        """The partition is in use from now on. Raises OSError."""
        root = self._layout.partitions[name]
        marker = root / MARKER
        if not marker.exists():
            make_directories(root, 0o700)
            write_over(marker, _TEXT.encode(), 0o644)
        self._note(name)

    # -- what is to be restored along with a partition

    def generations(self) -> dict[str, str]:
        """The text in each partition in use, "" where there is none. Raises `StoreError`."""
        found = {}
        for name in self._in_use():
            path = self._layout.partitions[name] / GENERATION
            try:
                found[name] = path.read_text(encoding="utf-8")
            except FileNotFoundError:
                found[name] = ""
            except (OSError, UnicodeDecodeError) as error:
                raise StoreError(f"{path} cannot be read: {reason(error, path)}") from error
        return found

    def put_generation(self, text: str) -> None:
        """Write the text into each partition in use. Raises `StoreError`."""
        for name in self._in_use():
            path = self._layout.partitions[name] / GENERATION
            try:
                write_over(path, text.encode(), 0o600)
            except OSError as error:
                raise StoreError(f"{path} cannot be written: {reason(error, path)}") from error

    def _in_use(self) -> list[str]:
        return [name for name, root in self._layout.partitions.items() if (root / MARKER).exists()]

    # -- one partition

    def _trouble(self, name: str) -> str:
        root = self._layout.partitions[name]
        marker = root / MARKER
        try:
            # Looked for again last: the first owner may come in between, with the marker, and so be known.
            if marker.exists() or not self._is_missed(name) or marker.exists():
                return ""
        except OSError as error:
            return f"partition {name}: {root}: {error.strerror}"
        state = f"has no file {MARKER}" if root.is_dir() else "is no directory"
        return (
            f"partition {name}: {root} {state}: is it mounted? Nothing is stored in it until it is back;"
            f" if it is the right one (restored from a backup, say): touch {root / MARKER}"
        )

    def _is_missed(self, name: str) -> bool:
        """Whether anything should be in a partition without a marker. Of a store that is older than the
        markers that is known only where nobody at all is left of those in the registry."""
        if known := self._known():
            return name in known
        return not any(map(self._layout.is_inhabited, self._layout.partitions)) and self._is_anybody_known()

    # -- what is known apart from the partitions

    def _known(self) -> list[str]:
        """The partitions that are in use."""
        try:
            found = json.loads((self._layout.home / KNOWN).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return []
        return found if isinstance(found, list) else []

    def _note(self, name: str) -> None:
        with self._lock:
            known = self._known()
            if name not in known:
                make_directories(self._layout.home)
                text = json.dumps(sorted([*known, name])) + "\n"
                write_over(self._layout.home / KNOWN, text.encode())
