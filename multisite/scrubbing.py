"""The scrubber: letting go of what the operations log, the notes of exports and the logs hold of long ago.

An operation that all replicas have proved to have (`multisite.oplog.heard`) stays for ``multisite_keep``; one
that some replica is not known to have, for ``multisite_keep_unheard``. After that a replica that still lacks
it cannot be sent it any more: it is told, and made anew from a snapshot (`multisite.snapshot`).

These operations stay, however old: the last of each origin, since the next one names its link; those that
wait or are set aside; and those that a master has not answered, since the next master will have to.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from cyrus_sync.common.errors import CyrusSyncError, StoreCorrupt
from cyrus_sync.common.files import private
from cyrus_sync.common.names import Owner
from cyrus_sync.common.numbers import decimal
from cyrus_sync.multisite.errors import MultisiteError
from cyrus_sync.multisite.family import Family
from cyrus_sync.multisite.forgetting import forget_given
from cyrus_sync.multisite.member import Member
from cyrus_sync.multisite.oplog.apply_command import parse
from cyrus_sync.multisite.oplog.clashes import forget_settled
from cyrus_sync.multisite.oplog.epochs import Row
from cyrus_sync.multisite.oplog.given import Given
from cyrus_sync.multisite.oplog.held import not_stored
from cyrus_sync.multisite.oplog.masters import Master
from cyrus_sync.multisite.oplog.operations import LogEntry, owner_text
from cyrus_sync.multisite.oplog.trimmed import EarlierWord

DUE = 86400
"""Seconds after which it is time to scrub again."""

AT_ONCE = 2000
"""Operations in one transaction."""

LOGS = ("multisite_log", "shipping_server_log")
"""Logs of lines that begin with the time. Of the commands that timers run there are logs of single runs."""
RUN_LOGS = ("sync_export_list-", "sync_receive-")

_SCRUBBED = "scrubbed"


@dataclass(frozen=True, slots=True)
class Ages:
    """Seconds for which operations stay that everybody is known to have (`keep`), and others (`unheard`; 0 =
    for ever)."""

    keep: int
    unheard: int

    @classmethod
    def of(cls, member: Member) -> Ages:
        """What imapd.conf says."""
        config = member.config
        return cls(config.duration("multisite_keep"), config.duration("multisite_keep_unheard"))


@dataclass(slots=True)
class Scrubbed:
    """What is let go: operations by origin (id), notes of exports, lines and files of logs. `unheard`: the
    replicas (ids) that are not known to have all of the operations that are gone."""

    operations: dict[str, int] = field(default_factory=dict)
    exports: int = 0
    lines: int = 0
    files: int = 0
    unheard: set[str] = field(default_factory=set)


def scrub_if_due(member: Member) -> None:
    """Scrub, unless that was done within a day. To be called at the end of what is done anyway."""
    last = member.log.notes.get(_SCRUBBED)
    if last is None:
        # The first day: whoever has just upgraded may want to look at the options.
        member.log.notes.put(_SCRUBBED, member.log.now())
    elif not last <= member.log.now() < last + DUE and not member.sealed:
        scrub(member, Ages.of(member))


def scrub(member: Member, ages: Ages, *, dry: bool = False) -> Scrubbed:
    """Let go of what is older than `ages`; `dry`: only say what would be. Nothing goes while this replica is
    being restored. Raises what the store and the disk raise."""
    done, log = Scrubbed(), member.log
    if member.sealed:
        return done
    now, shown = log.now(), shown_rows(member)
    for origin, number in sorted(_frontiers(member, ages, shown).items()):
        trim = _Trim(member, origin, number)
        if count := trim.count() if dry else trim.run():
            done.operations[origin] = count
        done.unheard |= {one for one, row in shown.items() if row.get(origin, 0) < number}
    before = now - ages.keep
    done.exports = log.epochs.count_exports(before) if dry else log.epochs.forget_exports(before)
    if ages.unheard:
        _scrub_logs(member.config.configdirectory / "log", now - ages.unheard, done, dry=dry)
    if not dry:
        with log.db.transaction():
            forget_settled(log)
            if ages.unheard:
                log.given_up.forget(now - ages.unheard)
            with contextlib.suppress(CyrusSyncError):  # what cannot be read may be there
                forget_given(member)
        log.notes.put(_SCRUBBED, now)
        log.db.shrink()
    return done


def remake(family: Family, replica: str) -> str:
    """What is typed here for a replica (id) that lacks trimmed operations."""
    return f"multitool mkreplica -export -replace -out PATH {family.name_of(replica)}"


# -- up to where


def _frontiers(member: Member, ages: Ages, shown: Mapping[str, Row]) -> dict[str, int]:
    """Origin (id) -> up to which number its operations may go: they are old enough, and everybody has them
    (`shown_rows`) or they are older still."""
    log = member.log
    following, mine = log.now() + 1, log.epochs.row(log.self_id)
    found: dict[str, int] = {}
    for origin, last in mine.items():
        everybody = min((row.get(origin, 0) for row in shown.values()), default=last)
        number = log.operations.last_before(origin, following - ages.keep, everybody)
        if ages.unheard:
            number = max(number, log.operations.last_before(origin, following - ages.unheard, last))
        number = min(number, last - 1)
        if number > 0:
            found[origin] = number
    return found


def shown_rows(member: Member) -> dict[str, Row]:
    """Sibling (id) -> what it has proved to have since its last restore."""
    found: dict[str, Row] = {}
    of_all = member.log.heard.all()
    for one in member.family.living():
        if one.id != member.log.self_id:
            heard = of_all.get(one.id)
            is_of_now = heard is not None and heard.incarnation >= one.incarnation
            found[one.id] = heard.row if heard is not None and is_of_now else {}
    return found


# -- operations


class _Trim:
    """Trims the operations of one origin up to a number."""

    def __init__(self, member: Member, origin: str, number: int) -> None:
        self._member = member
        self._log = member.log
        self._origin = origin
        self._number = number
        self._given = Given(member.log.db)
        self._masters: dict[Owner, Master | None] = {}
        self._settled: dict[Owner, dict[str, int]] = {}

    def count(self) -> int:
        """How many there are."""
        return sum(self._may_go(entry) for entry in self._old())

    def run(self) -> int:
        """Let go of them; how many."""
        count = 0
        for group in _grouped(self._old()):
            with self._log.db.transaction():
                gone = [entry for entry in group if self._may_go(entry)]
                self._remember_words(gone)
                self._remember_given(gone)
                self._log.operations.remove(gone)
            count += len(gone)
        # An export that is refused for lack of operations is better than one that lacks them.
        self._log.trimmed.raise_to(self._origin, self._number)
        return count

    def _old(self) -> Iterator[LogEntry]:
        return self._log.operations.done_up_to(self._origin, self._number)

    def _may_go(self, entry: LogEntry) -> bool:
        """Whether nobody's answer to an operation is awaited (as `multisite.oplog.unanswered` has it)."""
        master = self._master(entry.owner)
        if master is None or "reign" not in entry.attributes or entry.origin == master.replica:
            return True
        if "settled" in entry.attributes:
            return (decimal(entry.attributes["reign"].partition(":")[0]) or 0) < master.version
        if entry.owner not in self._settled:
            self._settled[entry.owner] = self._log.masters.settled(entry.owner)
        return entry.id <= self._settled[entry.owner].get(entry.origin, 0)

    def _master(self, owner: Owner) -> Master | None:
        if owner not in self._masters:
            self._masters[owner] = self._log.masters.of(owner)
        return self._masters[owner]

    def _remember_words(self, gone: Sequence[LogEntry]) -> None:
        """What masters have told of messages, as the base of what others change."""
        words: dict[str, EarlierWord] = {}
        for entry in gone:
            master, uniqueid = self._master(entry.owner), entry.attributes.get("uniqueid", "")
            # Where others had changed it meanwhile, the mailbox has stayed, whoever has it now.
            if entry.verb == "UNMAILBOX" and self._log.shadows.get(uniqueid) is None:
                words.pop(uniqueid, None)
                self._log.trimmed.drop_earlier(uniqueid)
            if entry.verb != "MAILBOX" or master is None or not _is_word(entry, master):
                continue
            try:
                said = parse(entry.line)
            except MultisiteError:
                continue
            word = words.get(uniqueid) or self._log.trimmed.earlier(uniqueid)
            if word is None or word.reign != master.reign:
                word = EarlierWord(master.reign, 0, said.update.state)
            word.take(said.update.state, said.records)
            words[uniqueid] = word
        for uniqueid, word in words.items():
            self._log.trimmed.put_earlier(uniqueid, word)

    def _remember_given(self, gone: Sequence[LogEntry]) -> None:
        """Messages that are still here are not to be brought again."""
        brought: dict[Owner, list[bytes]] = {}
        for entry in gone:
            if entry.guids:
                brought.setdefault(entry.owner, []).extend(self._log.operations.introduced_by(entry))
        for owner, guids in brought.items():
            try:
                missing = set(not_stored(self._member.store, self._log.places(owner), guids))
            except StoreCorrupt:
                missing = set()
            self._given.add(owner_text(owner), [guid for guid in guids if guid not in missing])


def _is_word(entry: LogEntry, master: Master) -> bool:
    return entry.origin == master.replica and entry.attributes.get("reign") == master.reign


def _grouped(entries: Iterator[LogEntry]) -> Iterator[list[LogEntry]]:
    while group := list(itertools.islice(entries, AT_ONCE)):
        yield group


# -- logs


def _scrub_logs(directory: Path, before: int, done: Scrubbed, *, dry: bool) -> None:
    """Lines that are older, and the logs of runs that were."""
    for name in LOGS:
        done.lines += _scrub_log(directory / name, before, dry=dry)
    for path in sorted(directory.glob("*.log")) if directory.is_dir() else ():
        if path.name.startswith(RUN_LOGS) and path.stat().st_mtime < before:
            done.files += 1
            if not dry:
                path.unlink(missing_ok=True)


def _scrub_log(path: Path, before: int, *, dry: bool) -> int:
    """Cut the lines off the beginning of a log that are older; how many. Whoever appends to it opens it for
    each line, so hardly any is written to the old file after it was copied."""
    try:
        log = path.open("rb")
    except OSError:
        return 0
    with log:
        lines = cut = 0
        for line in log:
            when = _time_of(line)
            if when is not None and when >= before:
                break
            lines, cut = lines + 1, cut + len(line)
        if not lines or dry:
            return lines
        log.seek(cut)
        new = path.with_name(f"{path.name}.new")
        found = os.fstat(log.fileno())
        with open(new, "wb", opener=private) as kept:
            os.fchmod(kept.fileno(), stat.S_IMODE(found.st_mode))
            if os.geteuid() == 0:
                os.fchown(kept.fileno(), found.st_uid, found.st_gid)
            shutil.copyfileobj(log, kept)
            kept.flush()
            new.replace(path)
            shutil.copyfileobj(log, kept)  # what has been appended meanwhile
    return lines


def _time_of(line: bytes) -> float | None:
    """When a line was written; None for one that does not say."""
    try:
        return datetime.strptime(line[:24].decode("ascii"), "%Y-%m-%dT%H:%M:%S%z").timestamp()
    except ValueError:
        return None
