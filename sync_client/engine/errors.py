"""Errors that stand for several: a run goes on past what fails and says at its end what failed."""

from __future__ import annotations

from collections.abc import Sequence

from cyrus_sync.common.errors import EX_SOFTWARE, CyrusSyncError


class ItemsFailed(CyrusSyncError):
    """Some items of a run failed, the others were done. `failures` = (item, its error), in order."""

    text = "some items failed"

    def __init__(self, failures: Sequence[tuple[str, CyrusSyncError]]) -> None:
        self.failures = list(failures)
        super().__init__("; ".join(f"{item}: {error}" for item, error in self.failures) or self.text)


class EngineFault(CyrusSyncError):
    """Something went wrong in a way that we did not foresee; the log has the traceback."""

    exit_status = EX_SOFTWARE
    text = "internal error"


class FoldersFailed(ItemsFailed):
    """Some mailboxes failed; `failures` names them by mailbox (other items of a user by command and name)."""

    text = "some mailboxes failed"


class UsersFailed(ItemsFailed):
    """Some users (or shared mailboxes) of an all-users run failed."""

    text = "some users failed"
