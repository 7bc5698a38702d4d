"""What our sync_client meets only now and then, each for itself, against a real Cyrus."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cyrus_sync.common.names import Owner

from .csync import differences, state_of
from .cyrus import Cyrus
from .fill import message
from .ours import Ours
from .proxy import Proxy

JANUARY = 1704103200


@pytest.fixture(scope="module")
def ours(real_cyrus: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ours]:
    """Our store, and our sync_server to ask what it holds."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / ".cyrus-sync-partition").touch()
    with Ours.installed("master", {"partition-elsewhere": f"{elsewhere}"}) as installation:
        yield installation
        installation.verify()


def replicate(ours: Ours, replica: Cyrus, user: str, extra: dict[str, str] | None = None) -> list[str]:
    """Sync the user and compare everything; the changes that were sent, as lines without messages."""
    sent = said(ours, replica, user, extra)
    assert differences(state_of(ours.csync, user), state_of(replica.csync, user)) == []
    return sent


def said(ours: Ours, replica: Cyrus, user: str, extra: dict[str, str] | None = None) -> list[str]:
    """The changes that a run for the user sends."""
    with Proxy(replica.csync) as proxy:
        ours.sync_client("-u", user, to=proxy.address, extra=extra).check()
        return [line for line in proxy.commands("APPLY ") if not line.startswith("APPLY CAPABILITIES")]


def test_a_large_message_and_a_large_mailbox_go_over(ours: Ours, replica: Cyrus, user: str) -> None:
    inbox, large = f"user.{user}", message("fifty megabytes", 50 << 20)
    with ours.store.write(Owner("user", user)) as box:
        box.create(inbox)
        box.append(inbox, [(large, JANUARY, "")])
        box.create(f"{inbox}.many")
        box.append(f"{inbox}.many", ((message("the one"), JANUARY, "") for _ in range(10_000)))
    sent = replicate(ours, replica, user)
    assert sum(line.startswith("APPLY MAILBOX") for line in sent) >= 3, "ten thousand records go in batches"
    assert said(ours, replica, user) == []
    with replica.imap(user) as imap:
        assert imap.status("INBOX/many")["MESSAGES"] == 10_000
        imap.select()
        (answer,) = imap.ok("UID", "FETCH", "1", "(BODY.PEEK[])")
    assert large in answer


@pytest.mark.every_release
def test_annotations_with_nul_and_a_change_of_seen_alone(ours: Ours, replica: Cyrus, user: str) -> None:
    inbox, nul = f"user.{user}", b"\0begin \0\0 and end\0"
    with ours.store.write(Owner("user", user)) as box:
        box.create(inbox)
        box.append(inbox, [(message("one"), JANUARY, ""), (message("two"), JANUARY, "")])
        box.annotate(inbox, "/comment", user, nul, uid=1)
        box.annotate(inbox, "/comment", "", nul, uid=1)
    replicate(ours, replica, user)
    with ours.store.write(Owner("user", user)) as box:
        box.set_flags(inbox, [1], add=["\\Seen"])
    (sent,) = replicate(ours, replica, user)
    assert "FLAGS (\\Seen)" in sent and "(UID 2 " not in sent
    found = state_of(replica.csync, user)["mailboxes"][inbox]["RECORD"][1]["ANNOTATIONS"]
    assert {(entry, who): value for entry, who, value, _ in found if b"/vendor/" not in entry} == {
        (b"/comment", user.encode()): nul,
        (b"/comment", b""): nul,
    }
    assert said(ours, replica, user) == []


def test_a_partition_that_the_real_server_has_not_is_a_clear_error(
    ours: Ours, replica: Cyrus, user: str
) -> None:
    inbox = f"user.{user}"
    with ours.store.write(Owner("user", user)) as box:
        box.create(inbox, partition="elsewhere")
        box.append(inbox, [(message("on another partition"), JANUARY, "")])
    refused = ours.sync_client("-u", user, to=replica.csync, timeout=30)
    assert refused.status not in (0, -9), refused.describe()
    assert "partition=elsewhere" in refused.err and f"user={user}" in refused.err, refused.describe()
    ours.sync_client("-p", "default", "-u", user, to=replica.csync).check()
    assert list(state_of(replica.csync, user)["mailboxes"][inbox]["RECORD"]) == [1]


def test_a_client_that_remembers_what_the_real_server_has_sends_the_same(
    ours: Ours, replica: Cyrus, user: str, tmp_path: Path
) -> None:
    inbox, cache = f"user.{user}", {"sync_cache_db_path": str(tmp_path / "cache")}
    with ours.store.write(Owner("user", user)) as box:
        for name in ("", ".a", ".b"):
            box.create(inbox + name)
            box.append(inbox + name, [(message(f"in{name}"), JANUARY, "")])
    replicate(ours, replica, user, cache)
    with ours.store.write(Owner("user", user)) as box:
        box.set_flags(f"{inbox}.a", [1], add=["Work"])
    sent = replicate(ours, replica, user, cache)
    assert [line.split("MBOXNAME ")[1].split()[0] for line in sent] == [f"{inbox}.a"]
    assert said(ours, replica, user, cache) == []


@pytest.mark.every_release
def test_a_real_server_with_conversations_and_an_archive_takes_everything(ours: Ours, user: str) -> None:
    settings = {
        "conversations": "1",
        "archive_enabled": "1",
        "archive_days": "0",
        "archive_maxsize": "1",
        "archivepartition-default": "{root}/archive",
    }
    inbox = f"user.{user}"
    with Cyrus.running("modern", settings) as modern:
        with ours.store.write(Owner("user", user)) as box:
            box.create(inbox)
            box.append(inbox, [(message("one", 40_000), JANUARY, ""), (message("two"), JANUARY, "")])
        ours.sync_client("-u", user, to=modern.csync).check()
        modern.tool("cyr_expire", "-E", "10", "-A", "0").check()
        with ours.store.write(Owner("user", user)) as box:
            box.create(f"{inbox}.copies")
            box.copy(inbox, [1, 2], f"{inbox}.copies")
        with Proxy(modern.csync) as proxy:
            ours.sync_client("-u", user, to=proxy.address).check()
            assert not proxy.commands("APPLY MESSAGE"), (
                "what it has, in the archive or not, is not sent again"
            )
        with modern.imap(user) as imap:
            assert imap.status("INBOX/copies")["MESSAGES"] == 2


@pytest.mark.every_release
def test_a_user_who_is_moved_to_another_partition_is_moved_at_a_real_server(ours: Ours, user: str) -> None:
    inbox, owner = f"user.{user}", Owner("user", user)
    with Cyrus.running("disks", {"partition-elsewhere": "{root}/elsewhere"}) as disks:
        with ours.store.write(owner) as box:
            for name in (inbox, f"{inbox}.a"):
                box.create(name)
                box.append(name, [(message(f"in {name}"), JANUARY, "")])
        replicate(ours, disks, user)
        ours.mailstore("move", user, "elsewhere").check()
        with ours.store.write(owner) as box:
            box.append(inbox, [(message("behind it"), JANUARY, "")])
        done = ours.sync_client("-u", user, to=disks.csync)
        places = {name: one["PARTITION"] for name, one in state_of(disks.csync, user)["mailboxes"].items()}
        assert places[f"{inbox}.a"] == b"elsewhere" and places[inbox] in (b"elsewhere", b"default")
        # 3.12 moves no INBOX: it has everything all the same, and an administrator hears of it.
        left = places[inbox] == b"default"
        assert (done.status, "does not bring" in done.err) == ((1, True) if left else (0, False))
        assert list(state_of(disks.csync, user)["mailboxes"][inbox]["RECORD"]) == [1, 2]
        with disks.imap(user) as imap:
            assert imap.status("INBOX")["MESSAGES"] == 2 and imap.status("INBOX/a")["MESSAGES"] == 1
