"""Errors that stand for several: a run goes on past what fails and says at its end what failed."""

from __future__ import annotations

from collections.abc import Sequence

from cyrus_sync.common.errors import EX_SOFTWARE, CyrusSyncError, MailboxMoved, SnapshotLost, SyncChanged


class ItemsFailed(CyrusSyncError):
    """Some items of a run failed, the others were done. `failures` = (item, its error), in order."""

    text = "some items failed"

    def __init__(self, failures: Sequence[tuple[str, CyrusSyncError]]) -> None:
        self.failures = list(failures)
        super().__init__("; ".join(f"{item}: {error}" for item, error in self.failures) or self.text)


class NeverStill(SyncChanged):
    """The master changed faster than we followed. Nothing is wrong, and it passes."""

    text = "the master kept changing"


class MovedMeanwhile(MailboxMoved):
    """The master gave a mailbox another name, id or partition while it was being done."""

    text = "Mailbox was changed under another name, id or partition during the run"


def passes(error: BaseException) -> bool:
    """Whether all of it is that the master was too busy: it will work as soon as there is a quiet second."""
    if isinstance(error, ItemsFailed):
        return bool(error.failures) and all(passes(single) for _, single in error.failures)
    return isinstance(error, (NeverStill, MovedMeanwhile, SnapshotLost))


class GaveWay(CyrusSyncError):
    """There is more to send, and others wait: it goes on in the next run, from where the replica is now."""

    text = "others come first"


class EngineFault(CyrusSyncError):
    """Something went wrong in a way that we did not foresee; the log has the traceback."""

    exit_status = EX_SOFTWARE
    text = "internal error"


class OwnersTrouble(CyrusSyncError):
    """An owner could not be done, and that says nothing of the other end: it serves others."""

    text = "it is this owner's trouble alone"


class LeftOut(ItemsFailed):
    """All that could be done for an owner was done, and these items of his could not: nothing bigger is left
    to try, and it says nothing of the other end."""

    text = "some items were left out"


class FoldersFailed(ItemsFailed):
    """Some mailboxes failed; `failures` names them by mailbox (other items of a user by command and name)."""

    text = "some mailboxes failed"


class UsersFailed(ItemsFailed):
    """Some users (or shared mailboxes) of an all-users run failed."""

    text = "some users failed"
