"""Whose packets are believed.

=========================================  ==========================================================
the sender's keys are known                signed with them, or with keys that follow from them
not known, and the sender is *awaited*     the first keys that it shows are taken; unsigned until then
not known, and this replica has no keys    the same: an old family, see ``multitool keys -new``
not known, and this replica has keys       refused
the sender is not in the family file       refused if anybody has keys; the packet waits until a replica
                                           tells of its sender
=========================================  ==========================================================
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

from cyrus_sync.multisite.errors import NotApplied, UnknownSender
from cyrus_sync.multisite.family import Family
from cyrus_sync.multisite.packet import Header, PacketForged, PublicKeys
from cyrus_sync.multisite.packet.succession import Succession


@dataclass(frozen=True, slots=True)
class Verdict:
    """`keys`: with which a packet has to be signed, None for none. `history`: the keys of its sender that are
    known once the signature has been verified."""

    keys: PublicKeys | None
    history: Succession | None


def judge(family: Family, header: Header, *, unsigned: bool) -> Verdict:
    """How far the sender of a packet is believed. `unsigned`: whether a family without keys may go on
    unsigned.

    Raises `UnknownSender`; `NotApplied` where the sender's keys have to be compared first; `PacketForged` for
    keys that do not follow from those known here."""
    sender = family.replicas.get(header.sender)
    shown = Succession.parse(header.keys) if header.keys else None
    if sender is None:
        if family.has_keys or not unsigned:
            raise UnknownSender(f"its sender {header.sender_name} ({header.sender}) is not known here (yet)")
        return Verdict(None, None)
    known = sender.key_history
    if known is not None:
        return _known(family, header, known, shown)
    if sender.id not in family.awaited and family.myself.keys:
        raise NotApplied(
            f"the keys of {sender.name} are not known here: compare its fingerprint (multitool keys, there),"
            f" then multitool chreplica -key TEXT {sender.name}"
        )
    if shown is not None:
        return Verdict(shown.current, shown)
    if not unsigned:
        raise NotApplied(f"the keys of {sender.name} are not known here")
    return Verdict(None, None)


def _known(family: Family, header: Header, known: Succession, shown: Succession | None) -> Verdict:
    sender = family.replicas[header.sender]
    if shown is None or shown == known:
        return Verdict(known.current, known)
    if shown.continues(known, family.id, sender.id):
        return Verdict(shown.current, shown)
    if known.continues(shown, family.id, sender.id):
        replaced = next(after for link, after in pairwise(known.links) if link.keys == shown.current)
        # A packet that was under way when its sender changed its keys is still good. The keys of a birth
        # travelled in a creation packet: they sign nothing but the keys that follow.
        if replaced.first > 1 and header.row.get(sender.id, 0) < replaced.first:
            return Verdict(shown.current, known)
    raise PacketForged(
        f"it shows keys of {sender.name} that do not follow from those that are known here: forged, or"
        f" {sender.name} has lost its keys and made new ones (multitool chreplica -key)"
    )


def learn(family: Family, sender: str, history: Succession | None, warn: Callable[[str], None]) -> Family:
    """The family with what a verified packet has shown of its sender's keys. `warn` hears of first keys."""
    one = family.replicas.get(sender)
    if one is None or history is None or one.key_history == history:
        return family
    if not one.keys:
        warn(
            f"the keys of {one.name} were not known, and those of its packet are taken; compare with"
            f" multitool keys there: {history.current.fingerprint()}"
        )
    family = replace(family, awaited=family.awaited - {sender})
    return family.with_replica(one.with_keys(history))
