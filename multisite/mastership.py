"""Handing an owner over to another master, and taking over from one that is lost.

The master itself says `hand_over`. The new master goes on from all that the old one has, so the old one's
mailboxes become the base of later changes there. Changes that others make meanwhile are arbitrated by the new
master when they reach it.

Another replica says `take_over`, because the master will not speak any more. The new master tells everything
anew, and arbitrates what others had said and the old one had not answered. Should the old one turn out to be
alive, what it said since is arbitrated like anybody's.
"""

from __future__ import annotations

from collections.abc import Callable

from cyrus_sync.common.names import Owner
from cyrus_sync.multisite.errors import MultisiteError, NotMaster
from cyrus_sync.multisite.family import Replica
from cyrus_sync.multisite.member import Member
from cyrus_sync.multisite.oplog.log import Log
from cyrus_sync.multisite.oplog.masters import Base, Master
from cyrus_sync.multisite.working import Work


def hand_over(member: Member, owner: Owner, to: Replica) -> None:
    """Make `to` the master of an owner whose master is here. Raises `NotMaster` where the master is another
    replica, `MultisiteError` for an owner without a master, and what capturing raises."""
    log = member.log
    homes = _recorded_homes(member, owner)
    here = {home: master for home, master in homes.items() if master.replica == log.self_id}
    if not here:
        names = dict.fromkeys(member.family.name_of(master.replica) for master in homes.values())
        raise NotMaster(f"the master of {owner} is {' and '.join(names)}")
    if to.id != log.self_id:
        with log.db.transaction():
            for home, master in here.items():
                _hand_over(log, home, Master(master.version + 1, to.id))


def _hand_over(log: Log, owner: Owner, master: Master) -> None:
    for state in log.shadows.at_home(owner):
        told = log.masters.base(state.uniqueid).told_id
        base = Base(state.highestmodseq, state.last_uid, told, state.highestmodseq)
        log.masters.put_base(state.uniqueid, base)
    log.proclaim(owner, master)


def take_over(member: Member, owner: Owner, to: Replica, notice: Callable[[str], None]) -> None:
    """Make `to` the master of an owner, although the master does not say so. Raises `MultisiteError` for an
    owner without a master, and what capturing and the store raise."""
    log = member.log
    for home, master in _recorded_homes(member, owner).items():
        said = Master(master.version + 1, to.id)
        if master.replica == log.self_id and to.id != log.self_id:
            with log.db.transaction():
                _hand_over(log, home, said)
        elif master.replica != to.id:
            _claim(member, home, said, notice)


def _recorded_homes(member: Member, owner: Owner) -> dict[Owner, Master]:
    """The homes of an owner with their masters (`Log.homes`), after what was changed here has been recorded.
    Raises `MultisiteError` if there are none."""
    for error in member.capture.owners([owner]).values():
        raise error
    homes = member.log.homes(owner)
    if not homes:
        raise MultisiteError(f"{owner} has no master: nobody has changed anything")
    return homes


def _claim(member: Member, owner: Owner, said: Master, notice: Callable[[str], None]) -> None:
    """Do without a packet what an import does when it meets a claim."""
    log, work = member.log, Work(member, notice)
    with log.db.transaction(), work.replay() as (context, replay):
        log.proclaim(owner, said)
        if said.replica == log.self_id:
            replay.promoted(owner)
        work.commit(context, replay)
    work.afterwards()
