"""How this replica stands with its siblings, for people and for monitoring: who is behind, and what waits.

Everything is as it is known here. A sibling's row is belief until it sends a packet, so *to send* counts
what no export has told yet, and *on the way* what exports have told and the sibling has not shown to have: a
packet that was lost is among that. *Lacking* counts what a sibling is known to have and this replica has not.
Times are Unix seconds, ages seconds.

The judgement fits Nagios: exit status 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from cyrus_sync.common.config import Config
from cyrus_sync.common.namespace import Namespace
from cyrus_sync.common.synclog.writer import log_path
from cyrus_sync.multisite.contacts import SHOW_EVERY, read_contacts
from cyrus_sync.multisite.family import Family, Replica
from cyrus_sync.multisite.oplog.epochs import merged
from cyrus_sync.multisite.oplog.log import Log
from cyrus_sync.multisite.oplog.on_the_way import on_the_way
from cyrus_sync.multisite.oplog.operations import OperationState
from cyrus_sync.multisite.oplog.stuck import stuck
from cyrus_sync.multisite.oplog.unanswered import unanswered
from cyrus_sync.multisite.packet import PacketError, PacketReader
from cyrus_sync.shipping.errors import BadOrder
from cyrus_sync.shipping.names import ORDER_PREFIX
from cyrus_sync.shipping.order import Order
from cyrus_sync.shipping.site import Site

OK, WARNING, CRITICAL, UNKNOWN = range(4)
WORDS = ("OK", "WARNING", "CRITICAL", "UNKNOWN")

NAMED = 5
"""Owners whose operations wait for messages that a judgement names."""
MOST_FILES = 5000
"""Files of a bay that are looked into."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Age in seconds of what a sibling has not been told, or since a sibling was heard of, that is a warning
    or critical. `expiry`: seconds before an order expires. `master`: seconds after which it is said how to
    do without a master that does not answer. `show_every`: seconds after which even a sibling that has
    nothing to tell shows what it has."""

    warning: int
    critical: int
    expiry: int = 86400
    master: int = 7 * 86400
    show_every: int = SHOW_EVERY


@dataclass(slots=True)
class Sibling:
    """One sibling. A time is None where there has been nothing."""

    name: str
    sent: int | None
    """When the last packet for it was written."""
    received: int | None
    """When its last packet was applied here, …"""
    made: int | None
    """… and written there."""
    to_send: int
    """Operations that no export has told it."""
    to_send_since: int | None
    on_the_way: int
    """Operations that exports have told it, and that it has not shown to have."""
    on_the_way_since: int | None
    """When the first of those packets was written."""
    lacking: int
    """Operations that it is known to have and this replica has not."""
    packets: int = 0
    """Its packets that wait in the bays here."""
    heard: bool = True
    """Whether anything was ever heard of it, by itself or by others."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """Operations on an owner that wait for the master, both as people read and type them; the oldest `since`
    then."""

    owner: str
    master: str
    operations: int
    since: int


@dataclass(frozen=True, slots=True)
class WaitingHere:
    """Operations on an owner (as people read it) that wait for messages, or behind what is set aside; `why`
    says which. The oldest `since` then."""

    owner: str
    why: str
    operations: int
    since: int


@dataclass(slots=True)
class Bays:
    """What lies in the bays of this host. `troubled`: orders that failed at least once, have expired or
    cannot be read."""

    packets: int = 0
    """Packets that have come and are not applied."""
    orders: int = 0
    troubled: int = 0
    returned: int = 0
    """Files that came home undelivered."""
    next_expiry: int | None = None
    """When the first order expires."""


@dataclass(slots=True)
class Health:
    """All of it."""

    family: str
    replica: str
    now: int
    sealed: bool
    unrecorded: int
    """Lines of the action log that are not in the operations log yet."""
    siblings: list[Sibling]
    waiting: list[Waiting]
    waiting_here: list[WaitingHere]
    pending: dict[str, int]
    """Operations that wait for a message, were begun, or are set aside, by state."""
    wanted: int
    """Messages that this replica asks for."""
    bays: Bays
    reasons: list[str] = field(default_factory=list)
    exit_status: int = OK

    @property
    def result(self) -> str:
        return WORDS[self.exit_status]

    def age(self, since: int | None) -> int | None:
        """Seconds since then."""
        return None if since is None else max(0, self.now - since)


def look(config: Config, family: Family, log: Log, site: Site, thresholds: Thresholds) -> Health:
    """Everything, judged. Blocks. Raises what the log raises."""
    bays, arrived = _bays(site, log.now())
    log_lines = _lines(log_path(config, config.string("multisite_channel") or "multisite"))
    pending = log.operations.count_pending()
    owner_name = Namespace.from_config(config).owner_name
    found = Health(
        family=family.name,
        replica=family.myself.name,
        now=log.now(),
        sealed=bool(family.restoring),
        unrecorded=log_lines,
        siblings=[
            _sibling(config, family, log, one, arrived) for one in family.living() if one.id != log.self_id
        ],
        waiting=[
            Waiting(owner_name(one.owner), family.name_of(one.master), one.operations, one.since)
            for one in unanswered(log, sealed=bool(family.restoring))
        ],
        waiting_here=[
            WaitingHere(owner_name(one.owner), one.why, one.waiting, one.since)
            for one in stuck(log)
            if one.waiting
        ],
        pending={state.name.lower(): pending.get(state, 0) for state in OperationState if state},
        wanted=len(log.wanted(1 << 30)),
        bays=bays,
    )
    reasons = list(_judge(found, thresholds))
    found.reasons = [text for _, text in sorted(reasons, key=lambda one: -one[0])]
    found.exit_status = max((level for level, _ in reasons), default=OK)
    return found


def _sibling(
    config: Config, family: Family, log: Log, one: Replica, arrived: dict[str, list[dict[str, int]]]
) -> Sibling:
    row, mine = log.epochs.row(one.id), log.epochs.row(log.self_id)
    contact = read_contacts(config.configdirectory / "multisite").get(one.id)
    exports = log.epochs.exports(one.id)
    waiting = arrived.get(one.id, [])
    way = on_the_way(log.epochs, log.heard, one.id, one.incarnation)
    known = row
    for other in waiting:
        known = merged(known, other)
    return Sibling(
        name=one.name,
        sent=exports[-1].time if exports else None,
        received=contact.imported if contact else None,
        made=contact.made if contact else None,
        to_send=0 if family.restoring else log.operations.count_lacking(row),
        to_send_since=None if family.restoring else log.operations.oldest_lacking(row),
        on_the_way=way.operations,
        on_the_way_since=way.since,
        lacking=sum(max(0, number - mine.get(origin, 0)) for origin, number in known.items()),
        packets=len(waiting),
        heard=way.heard,
    )


def _lines(path: Path) -> int:
    """Lines of a channel, in its log and in what was claimed of it."""
    count = 0
    for one in (path, path.with_name(f"{path.name}-run")):
        with contextlib.suppress(OSError):
            count += one.read_bytes().count(b"\n")
    return count


def _bays(site: Site, now: int) -> tuple[Bays, dict[str, list[dict[str, int]]]]:
    """What lies in the bays; and the rows in the headers of the packets that wait, by sender."""
    bays, arrived = Bays(), dict[str, list[dict[str, int]]]()
    homes = {bay.path for name in ("-default", *site.conf.return_bays) for bay in site.return_bays(name)}
    for bay in site.all_bays():
        for path in _files(bay.incoming):
            if bay.path in homes:
                bays.returned += not path.name.startswith(ORDER_PREFIX)
                continue
            with contextlib.suppress(PacketError, OSError), PacketReader(path) as packet:
                bays.packets += 1
                arrived.setdefault(packet.header.sender, []).append(dict(packet.header.row))
        for path in [*_files(bay.incoming), *_files(bay.outgoing)]:
            if path.name.startswith(ORDER_PREFIX):
                _order(bays, path, now)
    return bays, arrived


def _order(bays: Bays, path: Path, now: int) -> None:
    bays.orders += 1
    try:
        order = Order.load(path)
    except FileNotFoundError:
        bays.orders -= 1
        return
    except (BadOrder, OSError):
        bays.troubled += 1
        return
    bays.troubled += bool(order.failures) or order.expired(now)
    if order.expires:
        bays.next_expiry = min(order.expires, bays.next_expiry or order.expires)


def _files(directory: Path) -> list[Path]:
    try:
        there = sorted(path for path in directory.iterdir() if path.is_file() and not path.is_symlink())
    except OSError:
        return []
    return there[:MOST_FILES]


# -- judging


def _judge(found: Health, thresholds: Thresholds) -> Iterator[tuple[int, str]]:
    def level(age: int | None) -> int:
        if age is None or age < thresholds.warning:
            return OK
        return CRITICAL if age >= thresholds.critical else WARNING

    for one in found.siblings:
        age = found.age(one.to_send_since)
        if age is None and found.unrecorded:
            # What no export has recorded yet is younger than the last export.
            age = found.age(one.sent)
        if bad := level(age):
            count = f"{one.to_send} operations" if one.to_send else "changes"
            yield bad, f"{one.name} has not been told {count}, the oldest of {ago(age)}"
        # Who has nothing to tell shows only now and then what has come.
        quiet = max(0, (found.age(one.on_the_way_since) or 0) - thresholds.show_every)
        if one.heard and (bad := level(quiet)):
            text = f"{one.name} has not shown to have {one.on_the_way} operations of packets for it"
            yield bad, f"{text}, the first of {ago(found.age(one.on_the_way_since))}"
        if bad := level(found.age(one.received)):
            yield bad, f"nothing has come from {one.name} for {span(found.age(one.received))}"
        if one.lacking:
            text = f"{one.name} has {one.lacking} operations that are not here"
            yield (WARNING if one.packets == 0 else OK), text
    for waiting in found.waiting:
        age = found.age(waiting.since)
        if bad := level(age):
            yield (
                WARNING,
                f"{wait_text(waiting)}, the oldest for {span(age)}{_way_out(found, waiting, thresholds)}",
            )
    if found.pending["set_aside"]:
        yield WARNING, f"{found.pending['set_aside']} operations are set aside (multitool setaside)"
    for stopped in found.waiting_here[:NAMED]:
        yield WARNING, here_text(stopped)
    if found.waiting_here[NAMED:]:
        yield WARNING, f"operations on {len(found.waiting_here) - NAMED} others wait for messages, too"
    if found.sealed:
        yield WARNING, "this replica is being restored (multitool lsrestore)"
    if found.bays.troubled:
        yield WARNING, f"{found.bays.troubled} shipping orders fail, have expired or cannot be read"
    if found.bays.returned:
        yield WARNING, f"{found.bays.returned} files came back undelivered"
    soon = found.bays.next_expiry
    if soon is not None and found.now < soon <= found.now + thresholds.expiry:
        yield WARNING, f"a shipping order expires in {span(soon - found.now)}"


def wait_text(waiting: Waiting) -> str:
    """What waits for whom."""
    return f"{_wait(waiting.operations, waiting.owner)} for {waiting.master}"


def here_text(waiting: WaitingHere) -> str:
    """What waits for what."""
    return f"{_wait(waiting.operations, waiting.owner)} {waiting.why}"


def _wait(operations: int, owner: str) -> str:
    return f"{operations} operations on {owner} wait" if operations > 1 else f"1 operation on {owner} waits"


def _way_out(found: Health, waiting: Waiting, thresholds: Thresholds) -> str:
    if (found.age(waiting.since) or 0) < thresholds.master or found.sealed:
        return ""
    return f"; {do_without(waiting, found.replica)}"


def do_without(waiting: Waiting, here: str) -> str:
    """What can be typed at the replica `here` where a master has not answered for long."""
    return f"if {waiting.master} is lost for good: multitool chmaster -force {here} {waiting.owner}"


def span(seconds: int | None) -> str:
    """A time for people.

    >>> [span(n) for n in (59, 7000, 200000)]
    ['59 s', '116 min', '55 h']
    >>> span(2000000)
    '23 days'
    """
    if seconds is None:
        return "-"
    for unit, name in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= unit * (3 if unit > 3600 else 2):
            return f"{seconds // unit} {name}"
    return f"{seconds} s"


def ago(seconds: int | None) -> str:
    """A moment for people."""
    return f"{span(seconds)} ago"
