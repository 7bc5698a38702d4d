"""Where folders are of which the server tells something: what was seen of them when they were listed."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import NamedTuple

from cyrus_sync.common.names import Owner, split_userid
from cyrus_sync.pull.folders import Folder


class Place(NamedTuple):
    """A mailbox of our store; where it has no `name`, anything of that user."""

    userid: str
    name: str = ""


class Places:
    """Shared folders, and the names under which a user sees those of others. Safe between threads. Nothing is
    kept: whoever is pulled as a whole tells it again."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._shared: dict[tuple[str, str], str] = {}
        self._seen_by: dict[Owner, str] = {}
        self._others: dict[str, tuple[tuple[str, str], ...]] = {}

    def learn(self, userid: str, shared: Iterable[Folder], others: Iterable[tuple[str, str]]) -> None:
        """What `userid` was shown: shared folders, and the prefixes (with their separators) below which are
        those of other users."""
        domain = split_userid(userid)[1]
        with self._lock:
            for folder in shared:
                self._shared[domain, folder.shown] = folder.name
                self._seen_by[folder.owner] = userid
            self._others[domain] = tuple(others)

    def find(self, userid: str, shown: str) -> Place | None:
        """Where a folder is that `userid` is shown under this name, and that is none of his own."""
        domain = split_userid(userid)[1]
        with self._lock:
            name = self._shared.get((domain, shown))
            if name is not None:
                return Place(userid, name)
            for prefix, separator in self._others.get(domain, ()):
                if prefix and shown.startswith(prefix):
                    login = shown[len(prefix) :].split(separator, 1)[0] if separator else shown[len(prefix) :]
                    return Place(f"{login}@{domain}" if domain and "@" not in login else login)
        return None

    def seen_by(self, owner: Owner) -> str:
        """A user who was shown folders of a shared owner; "" for nobody."""
        with self._lock:
            return self._seen_by.get(owner, "")
