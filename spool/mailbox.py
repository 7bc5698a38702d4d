"""Where the files of one mailbox are."""

from __future__ import annotations

from pathlib import Path

from cyrus_sync.common.classes import dataclass


@dataclass(frozen=True, slots=True)
class MailboxFiles:
    """The paths that the configuration and mailboxes.db give for a mailbox.

    The three files of data about it may lie in a metapartition, each in its own. `archive` is the mailbox's
    directory below the archive partition, None where there is none.
    """

    index: Path
    header: Path
    annotations: Path
    messages: Path
    archive: Path | None = None

    @classmethod
    def below(cls, directory: Path, archive: Path | None = None) -> MailboxFiles:
        """Those of a mailbox that has everything in one directory."""
        return cls(
            directory / "cyrus.index",
            directory / "cyrus.header",
            directory / "cyrus.annotations",
            directory,
            archive,
        )

    def message(self, uid: int, *, archived: bool = False) -> Path:
        """The file of a message."""
        return (self.archive if archived and self.archive else self.messages) / f"{uid}."
