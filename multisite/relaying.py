"""Questions for messages are passed on. Where packets only go on, from site to site in a ring, nobody who
hears one can answer it, and whoever could does not hear it.

Every packet says which messages its sender lacks (`Header.wanted`). Who hears that, and has not answered it
by a packet of its own, passes it on with the next packet to anybody else (`Header.asking`), with the time of
the question: the latest one counts, also one for nothing. Whoever hears it so answers as if it had been asked
itself, if any packet goes from there to the one who asks.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping

from cyrus_sync.multisite.family import Family
from cyrus_sync.multisite.oplog.log import Log
from cyrus_sync.multisite.packet import Header
from cyrus_sync.multisite.packet.header import Question

MOST = 10_000
"""Messages for which one packet passes questions on."""
_PASSED_ON = "passed on "


def questions(log: Log, family: Family, target: str) -> dict[str, Question]:
    """Replica (id) -> its latest question, as a packet for `target` (id) passes it on: without what it was
    sent from here since."""
    found: dict[str, Question] = {}
    room, given_up = MOST, log.given_up.guids()
    for one in family.living():
        if one.id in (target, log.self_id) or not (asked := log.given_up.asked_at(one.id)):
            continue
        open_ones = log.given_up.lacked_by(one.id).intersection(log.requested(one.id))
        guids = tuple(itertools.islice(sorted(open_ones - given_up), room))
        room -= len(guids)
        found[one.id] = Question(asked, guids)
    return found


def is_new(log: Log, target: str, found: Mapping[str, Question]) -> bool:
    """Whether `target` has not been passed one of these that is not for nothing."""
    passed_on = log.notes.get(_PASSED_ON + target, {})
    return any(one.guids and passed_on.get(replica, 0) < one.time for replica, one in found.items())


def note_passed_on(log: Log, target: str, found: Mapping[str, Question]) -> None:
    """A packet with these is on its way to `target`."""
    if found:
        log.notes.put(_PASSED_ON + target, {replica: one.time for replica, one in found.items()})


def note_questions(log: Log, family: Family, header: Header) -> None:
    """Note what the sender of a packet lacks, and what it has heard of others."""
    asked = log.given_up.asked_at(header.sender)
    if header.created >= asked or asked > log.now():  # later packets came before it, or its clock was wrong
        _note(log, header.sender, Question(header.created, header.wanted))
    living = {one.id for one in family.living()} - {log.self_id, header.sender}
    for replica, question in header.asking.items():
        if replica in living and question.time > log.given_up.asked_at(replica):
            _note(log, replica, question)


def _note(log: Log, replica: str, question: Question) -> None:
    log.given_up.answered(replica, question.guids, question.time)
    if question.guids:
        log.request(replica, question.guids)
