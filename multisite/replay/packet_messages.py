"""Where the messages of operations are found: in the packet, held in the log, or in the mail store."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from cyrus_sync.common.model import MessageBody
from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores.queries import stage_stored
from cyrus_sync.common.stores.staging import Staging
from cyrus_sync.multisite.mail import SiteMail
from cyrus_sync.multisite.oplog.held import Held, not_stored


class PacketMessages(Staging):
    """The messages of one packet, and behind them those that the log holds."""

    def __init__(self, directory: Path, held: Held) -> None:
        super().__init__(directory)
        self._held = held

    def __contains__(self, guid: object) -> bool:
        return guid in self._messages or guid in self._held

    def is_good(self, guid: bytes) -> bool:
        """Held frames were checked when they came."""
        staged = self._messages.get(guid)
        return staged.good if staged is not None else guid in self._held

    def get(self, guid: bytes) -> MessageBody | None:
        """The message as a zstd frame; None if it is neither in the packet nor held."""
        return super().get(guid) or self._held.get(guid)

    def own(self, guids: Iterable[bytes]) -> Iterator[MessageBody]:
        """Those of these messages that the packet itself brought, undamaged."""
        for guid in guids:
            if guid in self._messages and super().is_good(guid):
                body = super().get(guid)
                if body is not None:
                    yield body

    def hold(self, guids: Iterable[bytes]) -> None:
        """Have the log hold those of these messages that the packet brought."""
        self._held.put(self.own(guids))

    def guids(self) -> list[bytes]:
        """All that the packet brought."""
        return list(self._messages)

    def forget(self, guids: Iterable[bytes]) -> None:
        """Let go of messages that are in the store now."""
        for guid in guids:
            staged = self._messages.pop(guid, None)
            if staged is not None and staged.frame is not None:
                self._in_memory -= len(staged.frame)
        if self._messages:
            self._resident = [guid for guid in self._resident if guid in self._messages]
        else:
            self.clear()

    def lacking(self, store: SiteMail, owners: Iterable[Owner], guids: Sequence[bytes]) -> list[bytes]:
        """Those of these messages that are nowhere: not staged, not held, not stored by any of the owners."""
        return not_stored(store, owners, [guid for guid in guids if not self.is_good(guid)])

    def take_stored(
        self, store: SiteMail, owners: Iterable[Owner], target: Owner, guids: Sequence[bytes]
    ) -> None:
        """Stage those of these messages that `target` lacks and one of `owners` has."""
        missing = self.lacking(store, [target], guids)
        if not missing:
            return
        for owner in owners:
            with store.read(owner) as reader:
                stage_stored(reader, self, "", missing)
            missing = [guid for guid in missing if guid not in self]
            if not missing:
                return
