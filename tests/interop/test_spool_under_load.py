"""A real master at work, with its housekeeping, and our rolling client beside it: at last nothing differs."""

from __future__ import annotations

import random
import re
import threading
import time
from collections.abc import Iterator

import pytest

from tests.deadlines import scaled, until

from .beside import BesideCyrus
from .csync import differences, state_of
from .fill import message
from .imap import Imap, quote
from .ours import Ours

SECONDS = 8
STEPS = {"append": 9, "store": 6, "expunge": 2, "move": 2, "create": 2, "delete": 1, "note": 1}
"""What is done, and how often."""

HOUSEKEEPING = (
    ("cyr_expire", "-E", "1", "-D", "0", "-X", "0"),
    ("ctl_cyrusdb", "-c"),
    ("reconstruct", "user/one"),
    ("quota", "-f"),
)


@pytest.fixture
def master(real_cyrus: None) -> Iterator[BesideCyrus]:
    with BesideCyrus.running("master", {"maxliteral": "0"}) as cyrus:
        assert isinstance(cyrus, BesideCyrus)
        yield cyrus


class Busy(threading.Thread):
    """Somebody who does all kinds of things to the mail of one user until `end`."""

    def __init__(self, master: BesideCyrus, user: str, end: float) -> None:
        super().__init__()
        self.error: Exception | None = None
        self._master = master
        self._user = user
        self._end = end
        self._chance = random.Random(user)
        self._boxes = ["INBOX"]

    def run(self) -> None:
        try:
            with self._master.imap(self._user) as imap:
                while time.monotonic() < self._end:
                    self._step(imap)
        except Exception as error:
            self.error = error

    def _step(self, imap: Imap) -> None:
        """What the server refuses, because there is no such message for instance, is no matter."""
        chance, box = self._chance, quote(self._chance.choice(self._boxes))
        (what,) = chance.choices(list(STEPS), list(STEPS.values()))
        if what == "append":
            imap.command("APPEND", box, message(f"{chance.random()}", chance.choice((300, 4000, 60_000))))
        elif what == "create":
            name = f"INBOX/b{chance.randrange(1000)}"
            if imap.command("CREATE", quote(name))[0].startswith("OK"):
                self._boxes.append(name)
        elif what == "delete" and len(self._boxes) > 1:
            imap.command("DELETE", quote(self._boxes.pop()))
        elif what == "note":
            imap.command("SETMETADATA", box, '(/shared/comment "words")')
        else:
            imap.command("SELECT", box)
            uid = str(chance.randint(1, 40))
            if what == "store":
                flag = chance.choice(("\\Seen", "\\Flagged", "kw"))
                imap.command("UID", "STORE", uid, "+FLAGS", f"({flag})")
            elif what == "expunge":
                imap.command("UID", "STORE", uid, "+FLAGS", "(\\Deleted)")
                imap.command("EXPUNGE")
            else:
                target = quote(chance.choice(self._boxes))
                imap.command("UID", chance.choice(("MOVE", "COPY")), f"{uid}:*", target)


@pytest.mark.every_release
@pytest.mark.timeout(400)
def test_a_busy_master_and_its_replica_come_to_be_equal(master: BesideCyrus) -> None:
    users = ("one", "two", "three")
    master.create_user(*users)
    with Ours.installed("replica") as ours:
        rolling = master.roll("-d", "1", to=ours.csync)
        busy = [Busy(master, user, time.monotonic() + SECONDS) for user in users]
        for thread in busy:
            thread.start()
        while any(thread.is_alive() for thread in busy):
            for program, *args in HOUSEKEEPING:
                master.tool(program, *args, timeout=120)
            master.deliver(message("by lmtp"), *users)
        for thread in busy:
            thread.join(scaled(60))
        assert [thread.error for thread in busy] == [None] * len(users)
        logs = (master.sync_log, master.sync_log.with_name("log-run"))
        until(lambda: not any(log.exists() for log in logs), "the log is worked off", 60)
        assert rolling.process.poll() is None
        rolling.stop()
        # Who was changed too fast for it may be set aside, for a minute or more.
        master.sync_client("-u", *users, to=ours.csync).check()
        for user in users:
            assert _differences(master, ours, user) == []
        ours.verify()


def _differences(master: BesideCyrus, ours: Ours, user: str) -> list[str]:
    """But for records of messages that are gone: each side forgets those in its own time."""
    here, there = (state_of(side.csync, user, expunged=False) for side in (master, ours))
    return [line for line in differences(here, there) if not re.search("DELETEDMODSEQ|/DELETED[.]", line)]
