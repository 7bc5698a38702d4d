"""A real master at work, with its housekeeping, and our rolling client beside it: at last nothing differs."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import pytest

from tests.deadlines import scaled, until

from .beside import BesideCyrus
from .busy import Busy, housekeeping
from .csync import differences, state_of
from .fill import message
from .ours import Ours

SECONDS = 8


@pytest.fixture
def master(real_cyrus: None) -> Iterator[BesideCyrus]:
    with BesideCyrus.running("master", {"maxliteral": "0"}) as cyrus:
        assert isinstance(cyrus, BesideCyrus)
        yield cyrus


@pytest.mark.every_release
@pytest.mark.timeout(400)
def test_a_busy_master_and_its_replica_come_to_be_equal(master: BesideCyrus) -> None:
    users = ("one", "two", "three")
    master.create_user(*users)
    with Ours.installed("replica") as ours:
        rolling = master.roll("-d", "1", to=ours.csync)
        end = time.monotonic() + SECONDS
        busy = [Busy(master, user, lambda: time.monotonic() >= end) for user in users]
        for thread in busy:
            thread.start()
        while any(thread.is_alive() for thread in busy):
            for program, *args in housekeeping(["one"], master.release):
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
