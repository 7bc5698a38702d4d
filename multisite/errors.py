"""What can go wrong between the replicas of a family."""

from __future__ import annotations

from cyrus_sync.common.errors import EX_CONFIG, EX_TEMPFAIL, CyrusSyncError


class MultisiteError(CyrusSyncError):
    """The family, a replica or a packet is not as it should be."""

    text = "multisite error"


class NoFamily(MultisiteError):
    """This server belongs to no family yet."""

    exit_status = EX_CONFIG
    text = "this server is no replica of a family yet (multitool mkfamily, or mkreplica -import)"


class UnknownReplica(MultisiteError):
    """Nobody in the family has this name or id."""

    text = "no such replica"


class SiteLocked(MultisiteError):
    """Another export, import or multitool is at work."""

    exit_status = EX_TEMPFAIL
    text = "another multisite command is at work here"


class SiteSealed(MultisiteError):
    """This replica was restored from a backup and lacks what it did since then (restorereplica)."""

    exit_status = EX_TEMPFAIL
    text = "this replica is being restored and takes restoration updates only"


class WentBack(MultisiteError):
    """This replica, or a part of it, is older than it was: it was restored from a backup, and nobody has said
    ``restorereplica``. The message is how that was noticed."""

    def __init__(self, how: str) -> None:
        super().__init__(
            f"{how}: this server was restored from a backup. Nothing is told and nothing taken in before"
            " multitool restorereplica (or restorereplica -override, to go on as it is)"
        )


class NotApplied(MultisiteError):
    """A packet was not applied, for now or for good. The message is the reason."""

    text = "was not applied"


class UnknownSender(NotApplied):
    """The sender of the packet is not known here. The packet may be tried again after other packets."""


class Forked(NotApplied):
    """The packet has other operations of some origin than this log. `ours`: the origin is this replica."""

    def __init__(self, text: str, *, ours: bool) -> None:
        self.ours = ours
        super().__init__(text)


class TooLate(MultisiteError):
    """A replica lacks operations that have been trimmed: it has to be made anew from a snapshot."""


class BadOperation(MultisiteError):
    """An operation makes no sense, or its origin may not say it. It is set aside."""

    text = "an operation makes no sense"


class NotMaster(MultisiteError):
    """Another replica is the master of what is to be changed."""

    text = "this replica is not the master"


class OnlyRead(MultisiteError):
    """What a packet brings would have to be written into the spool of a real Cyrus."""

    text = (
        "the mail of this site is the spool of a real Cyrus, which is only read: name its own csync server in"
        " cyrus_csync"
    )


class CannotBeSaid(MultisiteError):
    """What a packet brings cannot be said to a real Cyrus. The message says what."""

    text = "a csync server cannot be told this"


class OtherMail(MultisiteError):
    """The log speaks of other mail than that which the configuration names now."""

    exit_status = EX_CONFIG


class MessagesMissing(MultisiteError):
    """An operation needs messages that are neither here nor in the packet. `guids` names them."""

    text = "messages are missing"

    def __init__(self, guids: tuple[bytes, ...]) -> None:
        self.guids = guids
        named = ", ".join(guid.hex() for guid in guids[:5]) + (", …" if len(guids) > 5 else "")
        super().__init__(f"{len(guids)} message(s) are missing: {named}")
