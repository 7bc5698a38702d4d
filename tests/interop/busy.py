"""People at work with their mail on a real Cyrus, and how long it kept them waiting."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from .cyrus import Cyrus
from .fill import message
from .imap import Imap, quote

STEPS = {"append": 9, "store": 6, "expunge": 2, "move": 2, "create": 2, "delete": 1, "note": 1}
"""What is done, and how often."""

WITH_RENAMES = {**STEPS, "rename": 2}
STORM = {**STEPS, "create": 6, "rename": 40}
MOST_BOXES = 12
MOST_AT_ONCE = 20
"""Messages that are moved or copied. All of a mailbox, again and again, make a million in half an hour."""


class Timings:
    """How long which kind of thing took, and when that was (``time.monotonic``)."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, float, float]] = []
        """What, when it began, seconds."""

    @contextmanager
    def of(self, what: str) -> Iterator[None]:
        begun = time.monotonic()
        yield
        self.taken.append((what, begun, time.monotonic() - begun))


class Busy(threading.Thread):
    """Somebody who does all kinds of things to the mail of one user until `ends` says so.

    `pause`: seconds between two of them, about.
    """

    def __init__(
        self,
        master: Cyrus,
        user: str,
        ends: Callable[[], bool],
        *,
        steps: Mapping[str, int] = STEPS,
        pause: float = 0.0,
        timings: Timings | None = None,
    ) -> None:
        super().__init__(name=f"busy with {user}")
        self.error: Exception | None = None
        self._master = master
        self._user = user
        self._ends = ends
        self._steps = steps
        self._pause = pause
        self._timings = timings or Timings()
        self._chance = random.Random(user)
        self._boxes = ["INBOX"]

    def run(self) -> None:
        try:
            with self._master.imap(self._user) as imap:
                while not self._ends():
                    self._step(imap)
                    if self._pause:
                        time.sleep(self._chance.uniform(0, 2 * self._pause))
        except Exception as error:
            self.error = error

    def _step(self, imap: Imap) -> None:
        """What the server refuses, because there is no such message for instance, is no matter."""
        chance, box = self._chance, quote(self._chance.choice(self._boxes))
        (what,) = chance.choices(list(self._steps), list(self._steps.values()))
        if what == "append":
            text = message(f"{chance.random()}", chance.choice((300, 4000, 60_000)))
            with self._timings.of("APPEND"):
                imap.command("APPEND", box, text)
        elif what == "create":
            name = self._new_name()
            if len(self._boxes) < MOST_BOXES and imap.command("CREATE", quote(name))[0].startswith("OK"):
                self._boxes.append(name)
        elif what == "rename":
            self._rename(imap)
        elif what == "delete":
            if len(self._boxes) > 1:
                imap.command("DELETE", quote(self._boxes.pop()))
        elif what == "note":
            imap.command("SETMETADATA", box, '(/shared/comment "words")')
        else:
            imap.command("SELECT", box)
            number = chance.randint(1, 40)
            uid, some = str(number), f"{number}:{number + MOST_AT_ONCE}"
            if what == "store":
                flag = chance.choice(("\\Seen", "\\Flagged", "kw"))
                with self._timings.of("STORE"):
                    imap.command("UID", "STORE", uid, "+FLAGS", f"({flag})")
            elif what == "expunge":
                imap.command("UID", "STORE", uid, "+FLAGS", "(\\Deleted)")
                imap.command("EXPUNGE")
            else:
                target = quote(chance.choice(self._boxes))
                imap.command("UID", chance.choice(("MOVE", "COPY")), some, target)

    def _new_name(self) -> str:
        above = self._chance.choice(self._boxes) if self._chance.random() < 0.2 else "INBOX"
        return f"{above}/b{self._chance.randrange(1000)}"

    def _rename(self, imap: Imap) -> None:
        """A box, with all that is below it, goes elsewhere."""
        if len(self._boxes) < 2:
            return
        old, new = self._chance.choice(self._boxes[1:]), self._new_name()
        if imap.command("RENAME", quote(old), quote(new))[0].startswith("OK"):
            self._boxes = [
                new + box[len(old) :] if box == old or box.startswith(f"{old}/") else box
                for box in self._boxes
            ]


class Post(threading.Thread):
    """Deliveries by LMTP to these users until `ends` says so, one every `pause` seconds."""

    def __init__(
        self, master: Cyrus, users: list[str], ends: Callable[[], bool], pause: float, timings: Timings
    ) -> None:
        super().__init__(name="post")
        self.error: Exception | None = None
        self._master, self._users, self._ends = master, users, ends
        self._pause, self._timings = pause, timings

    def run(self) -> None:
        chance, number = random.Random(1), 0
        try:
            while not self._ends():
                number += 1
                with self._timings.of("delivery"):
                    self._master.deliver(message(f"by lmtp {number}"), chance.choice(self._users))
                time.sleep(self._pause)
        except Exception as error:
            self.error = error


def housekeeping(users: list[str], release: object = None) -> tuple[tuple[str, ...], ...]:
    """Commands of Cyrus that an administrator has run by the clock; for `users` where they take names.

    3.12 leaves no trace of a mailbox that is deleted for good. Where our client has not heard of it before,
    the replica keeps it, and it is named: so deleted ones stay there for a day."""
    return (
        ("cyr_expire", "-E", "1", "-D", "1" if str(release) == "3.12" else "0", "-X", "0"),
        ("ctl_cyrusdb", "-c"),
        *(("reconstruct", f"user/{user}") for user in users[:1]),
        ("squatter", "-r", "user"),
        ("quota", "-f"),
    )


class Housekeeper(threading.Thread):
    """Runs them in turn until `ends` says so, one every `pause` seconds."""

    def __init__(self, master: Cyrus, users: list[str], ends: Callable[[], bool], pause: float) -> None:
        super().__init__(name="housekeeper")
        self.said: list[str] = []
        """What they complained of."""
        self._master, self._users, self._ends, self._pause = master, users, ends, pause

    def run(self) -> None:
        while not self._ends():
            for program, *args in housekeeping(self._users, self._master.release):
                with contextlib.suppress(AssertionError):
                    ran = self._master.tool(program, *args, timeout=120)
                    if ran.status:
                        self.said.append(f"{program}: {ran.status}: {ran.err.strip()[-300:]}")
                if self._ends():
                    break
                time.sleep(self._pause)
