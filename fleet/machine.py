"""A machine whose users go from its partitions into a fleet, or back: what it calls itself, and how far it
is.

Both stand below configdirectory, beside the registry. ``machine`` is the word, which no other machine has
(imapd.conf may be the same on all). ``moving`` is there from when the users of this machine begin to be
registered in the fleet until nobody is there any more: as long as it is, nobody new is made in a partition,
not by a process of ``store: local`` either (`native.local_home`).
"""

from __future__ import annotations

import secrets
from pathlib import Path

from cyrus_sync.common.files import make_directories, write_over
from cyrus_sync.common.stores.native.layout import TO_FLEET, Layout
from cyrus_sync.common.stores.native.locks import FileLock

_WORD = "machine"
_READY = b"ready\n"


class Machine:
    """This one."""

    def __init__(self, notes: Path, servername: str = "localhost") -> None:
        self._notes = notes
        self._servername = servername
        self._word = ""

    @property
    def word(self) -> str:
        """What it calls itself: its name for people, a space, and a random number; "" before it has users in
        a fleet."""
        if not self._word:
            try:
                self._word = (self._notes / _WORD).read_text(encoding="utf-8").strip()
            except FileNotFoundError:
                return ""
        return self._word

    @property
    def ready(self) -> bool:
        """Whether the fleet knows of everybody who is here."""
        try:
            return (self._notes / TO_FLEET).read_bytes() == _READY
        except FileNotFoundError:
            return False

    def begin(self, layout: Layout) -> bool:
        """Nobody is made in a partition from here on. Who is being made just then is not there yet. Whether
        it was otherwise before."""
        make_directories(self._notes)
        with FileLock(layout.home / "create.lock", timeout=10):
            if not self.word:
                word = f"{'-'.join(self._servername.split()) or 'localhost'} {secrets.token_hex(8)}\n"
                write_over(self._notes / _WORD, word.encode())
            began = not (self._notes / TO_FLEET).exists()
            if not self.ready:
                write_over(self._notes / TO_FLEET, b"begun\n")
            return began

    def set_ready(self) -> None:
        """The fleet knows of everybody."""
        write_over(self._notes / TO_FLEET, _READY)

    def end(self) -> None:
        """Nobody of this machine is in the fleet any more: it is a machine like any other."""
        (self._notes / TO_FLEET).unlink(missing_ok=True)
