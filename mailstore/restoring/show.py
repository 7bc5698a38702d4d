"""A plan in words, a line for each mailbox and each thing that a user has besides."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from cyrus_sync.mailstore.restoring.everybody import Tally
from cyrus_sync.mailstore.restoring.plan import BoxPlan
from cyrus_sync.mailstore.restoring.survey import MetaPlan, RestorePlan


def described(plan: RestorePlan, external: Callable[[str], str]) -> Iterator[str]:
    """What `plan` does, or why a part of it does nothing. `external` makes a mailbox name readable."""
    for box in plan.boxes:
        text = _box(box)
        if text:
            name = external(box.wish.state.name)
            if box.wish.renamed:
                name += f" -> {external(box.wish.target)}"
            yield f"{name}: {text}"
    if plan.meta is not None:
        yield from _meta(plan.meta, external)


def summary(plan: RestorePlan) -> str:
    """The sum of it."""
    boxes = [box for box in plan.boxes if not box.idle]
    messages = sum(box.messages + len(box.additions) for box in boxes)
    octets = sum(box.size + sum(one.size for one in box.additions) for box in boxes)
    return f"{_count(len(boxes), 'mailbox', 'mailboxes')}, {_messages(messages)}, {octets} octets"


def described_sum(tally: Tally, *, dry_run: bool) -> str:
    """What became of everybody."""
    owners, boxes = _count(tally.owners, "owner", "owners"), _count(tally.mailboxes, "mailbox", "mailboxes")
    said = (
        f"{owners} {'to be restored' if dry_run else 'restored'} ({boxes}, {_messages(tally.messages)}, "
        f"{tally.octets} octets), {tally.complete} with nothing to do"
    )
    return f"{said}, {len(tally.failed)} failed" if tally.failed else said


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _messages(number: int) -> str:
    return _count(number, "message", "messages")


def _box(box: BoxPlan) -> str:
    """ "" if there is nothing to say."""
    if box.trouble:
        return f"cannot be restored: {box.trouble}"
    said = []
    if box.create and box.state.intermediate:
        said.append("create the name")
    elif box.create:
        said.append(f"create with {_messages(box.messages)}")
        if box.new_identity:
            said.append("as a copy with a new uniqueid")
    revived = sum(one.revived for one in box.additions)
    added = len(box.additions) - revived
    if added:
        said.append(f"add {_messages(added)}")
    if revived:
        said.append(f"bring back {_count(revived, 'expunged message', 'expunged messages')}")
    if box.annotations and not box.create:
        said.append(f"add {_count(len(box.annotations), 'annotation', 'annotations')}")
    if box.absent:
        said.append(f"{_messages(len(box.absent))} cannot be restored: not stored here")
    return "; ".join(said)


def _meta(meta: MetaPlan, external: Callable[[str], str]) -> Iterator[str]:
    for quota in meta.quotas:
        limits = ", ".join(f"{name} {limit}" for name, limit in quota.limits.items())
        yield f"quota {external(quota.root)}: {limits}"
    for name in meta.subscriptions:
        yield f"{meta.userid}: subscribe to {external(name)}"
    if meta.seen:
        yield f"{meta.userid}: \\Seen state of {_count(len(meta.seen), 'mailbox', 'mailboxes')} of others"
    for script in meta.scripts:
        yield f"{meta.userid}: script {script.filename}"
    if meta.activate:
        yield f"{meta.userid}: activate {meta.activate}"
