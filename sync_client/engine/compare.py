"""Are two mailboxes the same? The questions of an incremental update, without any effect.

Both sides' states are compared field by field; records are only compared through the two CRCs. A zero
CRC means "not known" and agrees with everything, as do counters that an old replica does not report.
"""

from __future__ import annotations

from dataclasses import replace

from cyrus_sync.common.identity import annotation_values
from cyrus_sync.common.model import MailboxState, Quota

CRC_FIELDS = ("sync_crc", "sync_crc_annot")

_ALWAYS = (
    "last_uid",
    "highestmodseq",
    "uidvalidity",
    "recentuid",
    "recenttime",
    "pop3_last_login",
    "pop3_show_after",
    "acl",
)
_LEGACY_QUOTA_NAMES = {"ANNOTATION-STORAGE": "X-ANNOTATION-STORAGE", "MAILBOX": "X-NUM-FOLDERS"}


def crc_agrees(one: int | None, other: int | None) -> bool:
    """True unless both are known and differ."""
    return not one or not other or one == other


def crcs_agree(local: MailboxState, remote: MailboxState) -> bool:
    """The records of both are the same, as far as the CRCs tell."""
    return crc_agrees(local.sync_crc, remote.sync_crc) and crc_agrees(
        local.sync_crc_annot, remote.sync_crc_annot
    )


def mailbox_kind(mbtype: str) -> str:
    """Type letters without what is local: plain e-mail is "", the storage layout flag is dropped."""
    return mbtype.replace("e", "").replace("l", "")


def option_letters(options: str) -> frozenset[str]:
    """The options that replication knows of."""
    return frozenset(options) & frozenset("PSDA")


def mailbox_annotations(state: MailboxState) -> list[tuple[str, str, bytes]]:
    """The annotations of a mailbox without their modseqs; an empty one is none."""
    return annotation_values(note for note in state.annotations if note.value)


def differences(local: MailboxState, remote: MailboxState) -> list[str]:
    """The fields by which a replica's mailbox differs from the master's; none = nothing to do.

    Name and partition are not looked at: they are a matter of renaming.
    """
    found = [name for name in _ALWAYS if getattr(local, name) != getattr(remote, name)]
    if mailbox_kind(local.mbtype) != mailbox_kind(remote.mbtype):
        found.append("mbtype")
    if option_letters(local.options) != option_letters(remote.options):
        found.append("options")
    if remote.foldermodseq and local.foldermodseq != remote.foldermodseq:
        found.append("foldermodseq")
    for name in ("raclmodseq", "xconvmodseq"):
        ours, theirs = getattr(local, name), getattr(remote, name)
        if ours and theirs and ours != theirs:
            found.append(name)
    if mailbox_annotations(local) != mailbox_annotations(remote):
        found.append("annotations")
    found.extend(name for name in CRC_FIELDS if not crc_agrees(getattr(local, name), getattr(remote, name)))
    return found


def only_crcs(fields: list[str]) -> bool:
    """True if it could be the sums alone: recalculated ones may agree."""
    return bool(fields) and all(name in CRC_FIELDS for name in fields)


def intermediate_done(local: MailboxState, remote: MailboxState | None) -> bool:
    """An intermediate name needs no sending. The replica shows its modseq as FOLDERMODSEQ."""
    return (
        remote is not None
        and remote.intermediate
        and remote.name == local.name
        and remote.foldermodseq == local.highestmodseq
    )


def counters_to_adopt(local: MailboxState, remote: MailboxState) -> dict[str, int]:
    """Counters that are higher on the replica and are raised on the master before an update.

    XCONVMODSEQ only where conversations are counted here: the replica takes no lower one.
    """
    names = ("uidvalidity", "foldermodseq", "raclmodseq", *(("xconvmodseq",) if local.xconvmodseq else ()))
    return {name: getattr(remote, name) for name in names if getattr(remote, name) > getattr(local, name)}


def told(local: MailboxState, remote: MailboxState) -> MailboxState:
    """What a replica is told of a master that takes no changes: where only the bookkeeping of folders, rights
    and conversations is ahead there, it is not contradicted. UIDVALIDITY stays the master's."""
    return replace(
        local,
        foldermodseq=max(local.foldermodseq, remote.foldermodseq),
        raclmodseq=max(local.raclmodseq, remote.raclmodseq),
        xconvmodseq=max(local.xconvmodseq, remote.xconvmodseq),
    )


def quota_limits(quota: Quota) -> dict[str, int]:
    """Limits by the older resource names."""
    return {_LEGACY_QUOTA_NAMES.get(name, name): limit for name, limit in quota.limits.items()}


def same_limits(one: Quota, other: Quota) -> bool:
    """True if no APPLY QUOTA is needed. Usage and MODSEQ are each side's own business."""
    return quota_limits(one) == quota_limits(other)
