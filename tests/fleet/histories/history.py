"""One history: what clients asked for and were told, and whether it goes together (`Complaint`).

Every client has messages of its own, so the number of a message's mark is a register with one writer.
Whatever was answered with a UID has to be there under that UID, once, for everybody who begins to read later;
what was not answered may be there, once. A mark may not be older than the last one that was answered. A
reader that can do without PostgreSQL (it is away) may be behind, but never goes back.
"""

from __future__ import annotations

import random
import threading
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

from tests.common.stores.tools import guid_of
from tests.fleet.histories.node import MARK, text
from tests.fleet.histories.parts import NoAnswer, NodeProcess, Parts

USERS = 3
CLIENTS = 5
LARGE = 300_000
"""Octets of a message that goes into an object by itself."""


class Complaint(AssertionError):
    """What was told does not go together."""


def described(answered: int, asked: int, reads: int, troubles: int) -> str:
    return f"{answered} of {asked} messages answered, {reads} reads, {troubles} troubles"


@dataclass
class Message:
    """A message that a client has asked for. `uid` None: nobody knows whether it is there."""

    user: str
    number: int
    size: int
    asked: float
    answered: float = float("inf")
    uid: int | None = None
    refused: bool = False
    """It was said that nothing was done."""
    marks: list[tuple[int, float]] = field(default_factory=list)
    """Those that were answered, and when."""
    tried: list[int] = field(default_factory=list)

    @cached_property
    def guid(self) -> str:
        return guid_of(text(self.number, self.size)).hex()


@dataclass
class Seen:
    """What a reader was told."""

    node: NodeProcess
    user: str
    begun: float
    ended: float
    told: dict[str, Any]
    behind: bool
    """The node may have answered without PostgreSQL."""


class Numbers(Protocol):
    def __call__(self) -> int: ...


class History:
    """Users that nobody else has, clients, and what they were told."""

    def __init__(self, parts: Parts, seed: int, numbers: Numbers) -> None:
        self._parts = parts
        self._seed = seed
        self._numbers = numbers
        self.users = [f"u{seed}x{number}" for number in range(USERS)]
        self.messages: list[Message] = []
        self.seen: list[Seen] = []
        self.troubles: list[str] = []
        self._lock = threading.Lock()
        self._stop = threading.Event()

    @property
    def counts(self) -> tuple[int, int, int, int]:
        """Messages that were answered, that were asked for, reads, troubles."""
        answered = sum(one.uid is not None for one in self.messages)
        return answered, len(self.messages), len(self.seen), len(self.troubles)

    def __str__(self) -> str:
        return described(*self.counts)

    # -- what happens

    def run(self, troubles: Iterable[str]) -> None:
        """Clients are at work while one trouble after the other (`parts.TROUBLES`) comes and goes."""
        dice = random.Random(self._seed)
        clients = [
            threading.Thread(target=self._client, args=(random.Random(dice.random()),))
            for _ in range(CLIENTS)
        ]
        for client in clients:
            client.start()
        try:
            for trouble in troubles:
                time.sleep(dice.uniform(0, 0.3))
                self.troubles.append(self._parts.trouble(trouble, dice))
        finally:
            self._stop.set()
            for client in clients:
                client.join()

    def _client(self, dice: random.Random) -> None:
        mine: list[Message] = []
        while not self._stop.is_set():
            node = dice.choice(self._parts.nodes)
            done = [one for one in mine if one.uid is not None]
            try:
                match dice.choice(("append", "append", "mark", "mark", "read", "read")):
                    case "append":
                        size = LARGE if dice.random() < 0.05 else 0
                        mine.append(self._append(node, dice.choice(self.users), size))
                    case "mark" if done:
                        self._mark(node, dice.choice(done[-5:]))
                    case _:
                        self._read(node, dice.choice(self.users))
            except NoAnswer:
                time.sleep(0.05)

    def _append(self, node: NodeProcess, user: str, size: int) -> Message:
        made = Message(user, self._numbers(), size, time.monotonic())
        with self._lock:
            self.messages.append(made)
        answer = node.ask(do="append", user=user, number=made.number, size=size)
        made.answered, made.uid = time.monotonic(), answer.get("uid")
        made.refused = answer.get("kind") == "overtaken"
        return made

    def _mark(self, node: NodeProcess, one: Message) -> None:
        number = (one.tried[-1] if one.tried else 0) + 1
        before = list(one.tried)
        one.tried.append(number)
        answer = node.ask(do="mark", user=one.user, uid=one.uid, number=number, before=before)
        if "error" not in answer:
            one.marks.append((number, time.monotonic()))

    def _read(self, node: NodeProcess, user: str) -> None:
        begun = time.monotonic()
        told = node.ask(do="read", user=user, bodies=False)
        if "error" not in told:
            behind = self._parts.was_disturbed(node, begun)
            with self._lock:
                self.seen.append(Seen(node, user, begun, time.monotonic(), told, behind))

    # -- whether it goes together

    def check(self) -> None:
        """When nothing is wrong any more. Raises `Complaint`."""
        for seen in self.seen:
            self._check_read(seen)
        self._check_order()
        for user in self.users:
            self._check_end(user)

    def _check_read(self, seen: Seen) -> None:
        there = {guid: (uid, flags) for uid, guid, flags, _ in seen.told["messages"]}
        where = f"a read of {seen.user} at {seen.node.directory.name}"
        if len(there) != len(seen.told["messages"]):
            raise Complaint(f"{where}: a message is there twice")
        self._check_sums(seen.told, where)
        if seen.behind:
            return
        for one in self.messages:
            if one.user != seen.user or one.uid is None or one.answered >= seen.begun:
                continue
            if one.guid not in there:
                raise Complaint(f"{where} does not have message {one.number}, which was answered before")
            uid, flags = there[one.guid]
            if uid != one.uid:
                raise Complaint(f"{where}: message {one.number} has UID {uid}, and was answered {one.uid}")
            least = max((number for number, when in one.marks if when < seen.begun), default=0)
            self._check_mark(one, flags, least, where)

    @staticmethod
    def _check_sums(told: dict[str, Any], where: str) -> None:
        uids = [uid for uid, *_ in told["messages"]]
        if uids != sorted(set(uids)):
            raise Complaint(f"{where}: UIDs {uids}")
        if uids and told["last_uid"] < uids[-1]:
            raise Complaint(f"{where}: last_uid {told['last_uid']} is below UID {uids[-1]}")
        if "crc" in told and told["crc"][0] != told["crc"][1]:
            raise Complaint(f"{where}: the kept CRC is not that of the records: {told['crc']}")

    @staticmethod
    def _check_mark(one: Message, flags: str, least: int, where: str) -> None:
        marks = [int(flag[len(MARK) :]) for flag in flags.split() if flag.startswith(MARK)]
        if len(marks) > 1 or (marks and marks[0] not in one.tried):
            raise Complaint(f"{where}: message {one.number} has marks {marks}")
        if (marks[0] if marks else 0) < least:
            raise Complaint(f"{where}: message {one.number} has mark {marks}, after {least} was answered")

    def _check_order(self) -> None:
        """No node goes back, whatever it may answer without PostgreSQL."""
        by_node: dict[tuple[str, str], list[Seen]] = defaultdict(list)
        for seen in self.seen:
            by_node[seen.node.directory.name, seen.user].append(seen)
        for (node, user), reads in by_node.items():
            reads.sort(key=lambda one: one.begun)
            for later in reads:
                before = [one for one in reads if one.ended < later.begun]
                most = max((one.told["highestmodseq"] for one in before), default=0)
                if later.told["highestmodseq"] < most:
                    raise Complaint(f"{node} told {user}'s modseq {most}, and then less: {later.told}")

    def _check_end(self, user: str) -> None:
        told = [self._at_last(node, user) for node in self._parts.nodes]
        if any(one != told[0] for one in told):
            raise Complaint(f"the nodes do not agree on {user}: {told}")
        by_guid = {guid: (uid, flags) for uid, guid, flags, _ in told[0]["messages"]}
        if len(by_guid) != len(told[0]["messages"]):
            raise Complaint(f"{user} has a message twice at the end")
        self._check_sums(told[0], f"the end of {user}")
        asked = {one.guid: one for one in self.messages if one.user == user}
        if strange := set(by_guid) - set(asked):
            raise Complaint(f"{user} has messages for which nobody has asked: {strange}")
        for guid, one in asked.items():
            if guid not in by_guid:
                if one.uid is not None:
                    raise Complaint(f"message {one.number} of {user} was answered, and is lost")
                continue
            if one.refused:
                raise Complaint(f"message {one.number} of {user} was refused as overtaken, and is there")
            uid, flags = by_guid[guid]
            if one.uid is not None and uid != one.uid:
                raise Complaint(f"message {one.number} of {user} has UID {uid}, and was answered {one.uid}")
            self._check_mark(one, flags, one.marks[-1][0] if one.marks else 0, f"the end of {user}")

    @staticmethod
    def _at_last(node: NodeProcess, user: str) -> dict[str, Any]:
        told = node.ask(do="read", user=user, bodies=True)
        if "error" in told:
            raise Complaint(f"{node.directory.name} cannot read {user} at the end: {told['error']}")
        return told
