"""What to type so that both ends are the same again. Each line really mends what it is given for."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator

from cyrus_sync.common.classes import dataclass
from cyrus_sync.common.names import Owner, inbox_of
from cyrus_sync.sync_client.comparing.findings import (
    CHANGED,
    DAMAGED_HERE,
    DAMAGED_THERE,
    HERE,
    ONLY_HERE,
    ONLY_THERE,
    OTHER,
    THERE,
    WITHHELD,
    Advice,
    MailboxFindings,
    OwnerFindings,
)
from cyrus_sync.sync_client.comparing.states import ALONE

_RECORDS = (ONLY_HERE, ONLY_THERE, OTHER, CHANGED)
MOST_NAMES = 50
"""Mailboxes, or messages, that are spoken of in command lines."""
REAL_CLIENT = "/usr/lib/cyrus/bin/sync_client"
"""That of a real Cyrus (Debian's)."""
MBPATH = "/usr/lib/cyrus/bin/mbpath"
"""Tells where a real Cyrus keeps a mailbox."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What the lines are made of. `options`: those of sync_client that say which configuration and server."""

    options: tuple[str, ...]
    here: str
    """This server's name, as the replica knows it."""
    server: str
    """The replica's name."""
    of_cyrus: bool
    """The mail here is that of a real Cyrus: no file of it is changed from here."""
    ours: bool
    """The replica is of this package."""
    external: Callable[[str], str]
    """A mailbox's name as an administrator writes it."""
    settles: bool = False
    """That Cyrus's own csync server settles what both sides have changed (`cyrus_csync`)."""


def advise(findings: OwnerFindings, terms: Terms) -> list[Advice]:
    """The lines, in the order of typing."""
    return list(_advice(findings, terms))


def _advice(findings: OwnerFindings, terms: Terms) -> Iterator[Advice]:
    owner = findings.owner
    boxes = [box for box in findings.mailboxes if not box.equal]
    alone = [box for box in boxes if box.where == THERE and box.note == ALONE]
    if alone:
        yield from _alone(findings, boxes, alone, terms)
    sent = [box for box in boxes if _is_mended_by_sending(box, owner, terms)]
    if sent or findings.others:
        ahead = terms.of_cyrus and not terms.settles and any(_is_ahead(box) for box in boxes)
        yield from _send(findings, sent, terms, ahead)
    yield from _damage(findings, boxes, terms)
    for box in boxes:
        if box.count(WITHHELD) and not terms.of_cyrus:
            uids = ",".join(str(one.uid) for one in box.shown(WITHHELD))
            effect = "gives up what cannot be read here, if nobody has it any more"
            yield Advice(HERE, _line("mailstore", *_configuration(terms), "expunge", box.name, uids), effect)


def _is_mended_by_sending(box: MailboxFindings, owner: Owner, terms: Terms) -> bool:
    if box.where == THERE:
        return box.note != ALONE
    if box.count(DAMAGED_HERE) and not terms.of_cyrus:
        return True  # it is fetched on the way
    if box.count(DAMAGED_THERE) and terms.ours and owner.kind == "user":
        return True
    return box.where == HERE or bool(box.fields) or any(map(box.count, _RECORDS))


def _is_ahead(box: MailboxFindings) -> bool:
    """The replica was changed by itself: what a real Cyrus has cannot be brought together with that."""
    for name in ("highestmodseq", "last_uid", "uidvalidity"):
        here, there = box.fields.get(name, (0, 0))
        if there > here:
            return True
    return bool(box.count(ONLY_THERE) or box.count(OTHER))


def _send(
    findings: OwnerFindings, boxes: list[MailboxFindings], terms: Terms, ahead: bool
) -> Iterator[Advice]:
    """From here; where the replica was changed by itself and nothing can be changed here, from there: that
    client settles what both sides have."""
    where, program, options, effect = HERE, "sync_client", terms.options, "mends it"
    if ahead:
        program = "sync_client" if terms.ours else REAL_CLIENT
        where, options = THERE, ("-S", terms.here)
        effect = f"brings both together, where a csync server listens on {terms.here}"
    if findings.owner.kind == "user":
        yield Advice(where, _line(program, *options, "-u", findings.name), effect)
        return
    names = [box.name for box in boxes] or [_first(findings.owner, terms)]
    for begin in range(0, len(names), MOST_NAMES):
        part = names[begin : begin + MOST_NAMES]
        yield Advice(where, _line(program, *options, "-m", *part), effect)


def _damage(findings: OwnerFindings, boxes: list[MailboxFindings], terms: Terms) -> Iterator[Advice]:
    """What no run of ours mends: messages of a real Cyrus, and of shared mailboxes at a replica."""
    owner, name = findings.owner, findings.name
    if terms.ours and owner.kind != "user" and any(box.count(DAMAGED_THERE) for box in boxes):
        command = _line("mailstore", "repair", "--from-peer", "--server", terms.here, name)
        yield Advice(THERE, command, f"fetches it from here, where a csync server listens on {terms.here}")
    for box in boxes:
        if terms.of_cyrus:
            for one in box.shown(DAMAGED_HERE)[:MOST_NAMES]:
                sound = _printing(box.name, one.uid, ours=terms.ours)
                yield _copied(HERE, terms.server, sound, box.name, one.uid)
        if not terms.ours:
            for one in box.shown(DAMAGED_THERE)[:MOST_NAMES]:
                sound = _printing(box.name, one.uid, ours=not terms.of_cyrus)
                yield _copied(THERE, terms.here, sound, box.name, one.uid)


def _copied(where: str, source: str, printing: str, name: str, uid: int) -> Advice:
    """A message of a real Cyrus's spool, put back from the other host."""
    command = f"ssh {shlex.quote(source)} {shlex.quote(printing)} > {_file(name, uid)}"
    return Advice(where, command, "as the user that Cyrus runs as: puts the message back")


def _printing(name: str, uid: int, *, ours: bool) -> str:
    return _line("mailstore", "show", name, str(uid)) if ours else f"cat {_file(name, uid)}"


def _file(name: str, uid: int) -> str:
    return f'"$({MBPATH} {shlex.quote(name)})/{uid}."'


def _alone(
    findings: OwnerFindings, boxes: list[MailboxFindings], alone: list[MailboxFindings], terms: Terms
) -> Iterator[Advice]:
    """What only the replica has, and nobody ever deleted here."""
    owner, name = findings.owner, findings.name
    everything = all(box.where == THERE for box in boxes) and owner.kind == "user"
    inbox = _first(owner, terms)
    whole = everything and any(box.name == inbox for box in alone)
    names = [box.name for box in alone]
    if terms.ours:
        line = _line("cyrus-sync", "rescue", "--server", terms.here, name)
        yield Advice(THERE, line, f"brings it here, where a csync server listens on {terms.here}")
    else:
        what = ("-u", name) if whole else ("-m", *names)
        yield Advice(THERE, _line(REAL_CLIENT, "-S", terms.here, *what), "brings it here")
    for one in [inbox] if whole else names:
        recursive = ("-r",) if whole else ()
        delete = _line("mailstore", "--even-replica", "delete", *recursive, one)
        yield Advice(THERE, delete if terms.ours else f"cyradm: dm {one}", "is rid of it", otherwise=True)


def _first(owner: Owner, terms: Terms) -> str:
    """The owner's first mailbox."""
    return terms.external(inbox_of(owner.name) if owner.kind == "user" else owner.name)


def _configuration(terms: Terms) -> tuple[str, ...]:
    """``-C FILE`` of the options, which mailstore knows too."""
    return terms.options[:2] if terms.options[:1] == ("-C",) else ()


def _line(*words: str) -> str:
    return shlex.join(words)
