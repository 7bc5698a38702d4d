"""Our client, given the recorded answers of a real server, says what the real client said, byte for byte.

The master is a copy of the real one, made of what the real client sent; each conversation is played with
the master as it was then. Nothing differs. (Those of 3.2 and 3.12 say other words for the same: the one sends
scripts as files, the other asks a second time.)
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cyrus_sync.common.stores.master import NativeMaster
from cyrus_sync.common.wire.replica import WireReplica
from cyrus_sync.sync_client.engine import Engine, Options
from tests.sync_client.engine.golden import RecordedServer, act_out, commands, replies
from tests.sync_client.engine.lines import InlineThreads
from tests.sync_client.engine.world import World, finish

EARLIER = {
    "02-first-user": [],
    "03-nothing-changed": ["02-first-user"],
    "04-other-user-seen": ["02-first-user"],
    "05-mailbox-mode": ["02-first-user"],
    "06-incremental": ["02-first-user"],
    "07-meta-changes": ["02-first-user", "06-incremental"],
    "11-rolling": ["02-first-user", "06-incremental", "07-meta-changes"],
    "19-shared-mailbox": [],
    "25-rolling-sieve-quota-seen": ["02-first-user", "06-incremental", "07-meta-changes"],
    "38-conversations": [],
    "3.10/02-nothing-changed": ["3.10/01-first-users"],
    "3.10/03-incremental": ["3.10/01-first-users"],
    "3.10/04-meta-changes": ["3.10/01-first-users", "3.10/03-incremental"],
}
"""Which conversations filled the master before each one."""


async def _rolling(engine: Engine) -> None:
    await engine.mailboxes(["user.alice", "user.alice.roll"])
    await engine.sub("alice", "user.alice.roll")


async def _rolling_more(engine: Engine) -> None:
    await engine.mailboxes(["user.alice.#sieve", "user.alice.lists"])
    await engine.mailboxes(["user.dan"])
    await engine.quota("user.alice")
    await engine.seen("dan", "9rrl3b30ribz5yz83zse56n0")


RUNS: dict[str, Callable[[Engine], object]] = {
    "02-first-user": lambda engine: engine.user("alice"),
    "03-nothing-changed": lambda engine: engine.user("alice"),
    "04-other-user-seen": lambda engine: engine.user("bob"),
    "05-mailbox-mode": lambda engine: engine.mailboxes(["user.alice.lists"]),
    "06-incremental": lambda engine: engine.user("alice"),
    "07-meta-changes": lambda engine: engine.user("alice"),
    "11-rolling": _rolling,
    "19-shared-mailbox": lambda engine: engine.mailboxes(["shared"]),
    "25-rolling-sieve-quota-seen": _rolling_more,
    "38-conversations": lambda engine: engine.user("jane"),
    "3.10/02-nothing-changed": lambda engine: engine.user("alice"),
    "3.10/03-incremental": lambda engine: engine.user("alice"),
    "3.10/04-meta-changes": lambda engine: engine.user("alice"),
}


@pytest.mark.covers("What the manual pages of sync_server and sync_client promise", "56")
@pytest.mark.parametrize("name", EARLIER)
def test_a_recorded_run_is_repeated(name: str, tmp_path: Path) -> None:
    world = World(tmp_path)
    for conversation in [*EARLIER[name], name]:
        act_out(commands(conversation), world.store_replica())
    server = RecordedServer(replies(name))
    replica = WireReplica(server)
    replica.capabilities = frozenset({"SIEVE-MAILBOX"})
    options = Options(restart_after_group="rolling" in name)
    finish(RUNS[name](Engine(NativeMaster(world.replica), replica, InlineThreads(), options)))  # type: ignore[arg-type]
    assert server.heard == commands(name)
    world.close()
