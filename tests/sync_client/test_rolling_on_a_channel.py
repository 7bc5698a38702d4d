"""The rolling loop on a real channel's files, against servers that misbehave at random."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock

from cyrus_sync.common.errors import (
    ConnectionLost,
    MailboxLocked,
    QuietLogout,
    RemoteDenied,
    StoreError,
    SyncChecksum,
)
from cyrus_sync.common.names import Owner
from cyrus_sync.common.synclog.log import SyncLog
from cyrus_sync.sync_client.facts import Settings
from cyrus_sync.sync_client.quarantine import Quarantine
from cyrus_sync.sync_client.rolling import Rolling
from cyrus_sync.sync_client.sources import ChannelSource, owner_of_line
from tests.sync_client.fakes import FakeConnector, advance, blocking

NOW = 1_800_000_000


class Rig:
    """`answers` as in the fakes: by the text of the verb, or one `Answers` for all."""

    def __init__(self, directory: Path, answers: Any, **more: Any) -> None:
        self.clock = Clock()
        self.clock.advance(NOW)
        self.events: list[str] = []
        self.log = SyncLog(directory / "log")
        self.quarantine = Quarantine(directory, self.clock.seconds, owner_of_line)
        self.quarantine.load()
        self.rolling = Rolling(
            clock=self.clock,
            connector=FakeConnector(self.events, answers),
            source=ChannelSource(self.log, self.quarantine),
            settings=Settings(**{"delay": 1, "maxwait": 20, **more}),
            blocking=blocking,
            say=lambda _text: None,
            random=lambda: 0.0,
        )
        self.ended: list[int] = []
        self.rolling.run().addCallback(self.ended.append)

    def write(self, *lines: str) -> None:
        self.log.append([tuple(line.split()) for line in lines], fsync=False)


def test_the_user_on_whom_the_server_dies_is_found_and_set_aside(tmp_path):
    rig = Rig(tmp_path, {"USER u7": ConnectionLost()})
    rig.write(*(f"USER u{i}" for i in range(20)))
    advance(rig.clock, 120)
    done = set(rig.events) & {f"USER u{i}" for i in range(20)}
    assert len(done) == 20
    assert rig.quarantine.owners == {Owner("user", "u7")}
    assert not rig.log.path.exists() and not rig.log.run_path.exists()
    rig.events.clear()
    rig.write("USER u1", "USER u7")
    advance(rig.clock, 5)
    assert rig.events == ["USER u1"], "the others flow"


def test_a_server_that_is_full_puts_nobody_into_quarantine(tmp_path):
    answers: dict[str, Any] = {f"USER u{i}": RemoteDenied("no space") for i in range(20)}
    rig = Rig(tmp_path, answers)
    rig.write(*(f"USER u{i}" for i in range(20)))
    advance(rig.clock, 300)
    assert rig.quarantine.owners == set()
    answers.clear()
    rig.events.clear()
    advance(rig.clock, 30)
    assert set(rig.events) >= {f"USER u{i}" for i in range(20)}
    assert not rig.log.path.exists()


class Answers(dict):
    """Draws an answer for every verb, until the trouble is over; remembers what was done well."""

    def __init__(self, drawn: list[Exception | None]) -> None:
        super().__init__()
        self.drawn = drawn
        self.done: list[str] = []

    def get(self, key: str, default: Any = None) -> Any:
        if key in ("close", "restart", "noop"):
            return None
        answer = self.drawn.pop() if self.drawn else None
        if answer is None:
            self.done.append(key)
        return answer


_trouble = st.sampled_from(
    [None, SyncChecksum(), MailboxLocked(), StoreError(), RemoteDenied(), ConnectionLost(), QuietLogout()]
)
_line = st.sampled_from(
    [
        "USER a",
        "MAILBOX user.a",
        "MAILBOX user.b",
        "RENAME user.a.x user.b.x",
        "META c",
        "SUB c user.c",
        "UNUSER d",
        "USER d",
        "QUOTA user.e",
        "MAILBOX news.x",
        "ANNOTATION user.b",
    ]
)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(_trouble, max_size=60),
    st.lists(st.tuples(st.lists(_line, min_size=1, max_size=4), st.floats(0, 30)), min_size=1, max_size=6),
    st.sampled_from([1, 4, 100]),
)
def test_whatever_happened_every_line_is_done_after_it_was_written(trouble, writing, width):
    with tempfile.TemporaryDirectory() as directory:
        answers = Answers(list(trouble))
        rig = Rig(Path(directory), answers, width=width)
        written: list[tuple[str, int]] = []
        for lines, pause in writing:
            rig.write(*lines)
            written += [(line, len(answers.done)) for line in lines]
            advance(rig.clock, pause, step=1)
        answers.drawn.clear()
        advance(rig.clock, 4000, step=5)
        assert rig.ended == []
        assert not rig.log.path.exists() and not rig.log.run_path.exists()
        assert rig.quarantine.owners == set()
        for line, before in written:
            assert is_done(line, answers.done[before:]), line


def is_done(line: str, done: list[str]) -> bool:
    """Do these verbs see to what the line says?"""
    kind, *args = line.split()
    whole = {event.split()[1] for event in done if event.startswith("USER ")}
    match kind:
        case "MAILBOX" | "RENAME":
            groups = [set(event.split()[1:]) for event in done if event.startswith("MAILBOXES ")]
            owners = {name.split(".")[1] for name in args if name.startswith("user.")}
            return any(set(args) <= group for group in groups) or (bool(owners) and owners <= whole)
        case "QUOTA" | "ANNOTATION":
            return line in done or args[0].split(".")[1] in whole
        case "SUB":
            return line in done or f"META {args[0]}" in done or args[0] in whole
        case "META":
            return line in done or args[0] in whole
        case "USER":
            return line in done or f"UNUSER {args[0]}" in done  # which does all of a user who is there
        case _:
            return line in done
