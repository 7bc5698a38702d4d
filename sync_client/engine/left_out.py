"""Scripts that a replica cannot take: each is left out, so that it holds nothing else up.

A real server compiles a Sieve script when it gets the message that holds it, and one that it cannot compile
(an extension that it does not know, say) makes it hang up, without a word. Who is to blame is found in two
steps. All ``#sieve`` mailboxes that were on their way when a connection broke are *suspects*. The next time
a suspect goes alone, one script at a time; the script on which the connection breaks then twice is left out.
It is told of at every run, and remembered in a file until it is replaced: another script is another message.
Who removes the file has everything tried again.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from cyrus_sync.common.files import make_directories, write_over

FILE = "left-out.json"


class LeftOut:
    """What the replica `server` cannot take; kept at `path` (None = as long as this object lives)."""

    def __init__(self, path: Path | None = None, server: str = "") -> None:
        self._path = path
        self._server = server
        self._suspects: set[str] = set()
        self._uids: dict[str, dict[int, str]] = {}
        self._seen: dict[str, tuple[int, ...]] = {}
        self._news = False
        for uniqueid, scripts in self._read().get(server, {}).items():
            self._uids[uniqueid] = {int(uid): name for uid, name in scripts.items()}

    def suspected(self, uniqueid: str) -> bool:
        """True for a mailbox that is to go alone, message by message."""
        return uniqueid in self._suspects

    def of(self, uniqueid: str) -> dict[int, str]:
        """UIDs in the mailbox that are left out, and what the scripts are called."""
        return self._uids.get(uniqueid, {})

    def suspect(self, uniqueid: str) -> None:
        """The connection broke while this mailbox was on its way."""
        self._suspects.add(uniqueid)
        self._news = True

    def again(self, uniqueid: str, uids: Sequence[int]) -> bool:
        """True if the connection broke on these messages alone a second time: lines break, too."""
        if self._seen.get(uniqueid) == tuple(uids):
            return True
        self._seen[uniqueid] = tuple(uids)
        self._news = True
        return False

    def learn(self, uniqueid: str, scripts: dict[int, str]) -> None:
        """The connection broke on these messages alone. Blocks on a disk."""
        self._uids.setdefault(uniqueid, {}).update(scripts)
        self._news = True
        if self._path is None:
            return
        kept = self._read()
        kept.setdefault(self._server, {})[uniqueid] = {str(k): v for k, v in self._uids[uniqueid].items()}
        make_directories(self._path.parent)
        write_over(self._path, json.dumps(kept, indent=1, sort_keys=True).encode(), 0o600)

    def everything(self) -> list[tuple[str, str]]:
        """(server, script) of all that is left out, whichever the server."""
        return [
            (server, script)
            for server, mailboxes in self._read().items()
            for scripts in mailboxes.values()
            for script in scripts.values()
        ]

    def take_news(self) -> bool:
        """True, once, if something was found out: then it is worth trying again at once."""
        news, self._news = self._news, False
        return news

    def _read(self) -> dict[str, dict[str, dict[str, str]]]:
        try:
            found = json.loads(self._path.read_text("utf-8")) if self._path else {}
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}
