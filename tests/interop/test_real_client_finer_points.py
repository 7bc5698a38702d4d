"""What a site's own sync_client meets only now and then, each for itself, against our sync_server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .csync import differences, state_of
from .cyrus import Cyrus
from .fill import message
from .judge import Server, server_under_test
from .ours import Ours
from .proxy import Proxy


@pytest.fixture(scope="module")
def server(real_cyrus: None) -> Iterator[Server]:
    """The replica, shared by the tests of this module."""
    with server_under_test("replica", {"maxliteral": "0"}) as replica:
        yield replica


def same(master: Cyrus, server: Server, user: str) -> None:
    here, there = state_of(master.csync, user), state_of(server.csync, user)
    assert differences(here, there) == []


def said(master: Cyrus, server: Server, user: str, extra: dict[str, str] | None = None) -> list[str]:
    """The changes that a run for `user` sends, as lines without messages."""
    with Proxy(server.csync, hide=("COMPRESS",)) as proxy:
        master.sync_client("-u", user, to=proxy.address, extra=extra).check()
        return [line for line in proxy.commands("APPLY ") if not line.startswith("APPLY CAPABILITIES")]


def test_a_client_that_remembers_what_we_had_finds_it_still_so(
    master: Cyrus, server: Server, user: str
) -> None:
    """With sync_cache_db_path it trusts its own notes of our CRCs, and asks no more."""
    cache = {"sync_cache_db_path": str(master.root / f"{user}.cache")}
    master.create_user(user)
    with master.imap(user) as imap:
        for folder in ("a", "b"):
            imap.ok("CREATE", f"INBOX/{folder}")
        imap.append("INBOX/a", message("one"), message("two"))
        for end in (1, 2):
            said(master, server, user, cache)
            same(master, server, user)
            imap.select("INBOX/a")
            imap.store("1", "+FLAGS", f"Round{end}")
        sent = said(master, server, user, cache)
        assert [line.split("MBOXNAME ")[1].split()[0] for line in sent] == [f"user.{user}.a"]
    assert said(master, server, user, cache) == []
    same(master, server, user)


def test_annotations_with_nul_are_private_or_shared(master: Cyrus, server: Server, user: str) -> None:
    nul = b"\0begin, \0\0 middle and end\0"
    master.create_user(user)
    with master.imap(user) as imap:
        imap.append("INBOX", message("one"))
        imap.select()
        imap.annotate("1", "/comment", "value.priv", nul)
        imap.annotate("1", "/comment", "value.shared", nul[::-1])
        imap.annotate("1", "/altsubject", "value.priv", b"\0")
    said(master, server, user)
    same(master, server, user)
    record = state_of(server.csync, user)["mailboxes"][f"user.{user}"]["RECORD"][1]
    assert {(e, who): value for e, who, value, _ in record["ANNOTATIONS"] if b"/vendor/" not in e} == {
        (b"/comment", user.encode()): nul,
        (b"/comment", b""): nul[::-1],
        (b"/altsubject", user.encode()): b"\0",
    }
    assert said(master, server, user) == []


def test_seen_alone_is_carried_for_the_owner_and_for_others(master: Cyrus, server: Server, user: str) -> None:
    other = f"{user}b"
    master.create_user(user, other)
    with master.imap(user) as imap, master.imap(other) as reader:
        imap.append("INBOX", message("one"), message("two"), message("three"))
        imap.ok("SETACL", "INBOX", other, "lrs")
        for name in (user, other):
            said(master, server, name)
        imap.select()
        imap.store("1:2", "+FLAGS", "\\Seen")
        (sent,) = said(master, server, user)
        assert sent.startswith("APPLY MAILBOX") and "(UID 3 " not in sent and "FLAGS (\\Seen)" in sent
        same(master, server, user)
        imap.store("2", "-FLAGS", "\\Seen")
        said(master, server, user)
        same(master, server, user)
        reader.select(f"user/{user}")
        reader.store("3", "+FLAGS", "\\Seen")
        reader.ok("UNSELECT")
        (sent,) = said(master, server, other)
        assert sent.startswith("APPLY SEEN") and "SEENUIDS 3" in sent
    same(master, server, other)
    said(master, server, user)  # his mailbox was opened: its RECENTTIME may be new
    assert said(master, server, user) == said(master, server, other) == []


def test_copies_on_a_master_that_archives_are_not_sent_again(server: Server, user: str) -> None:
    settings = {
        "archive_enabled": "1",
        "archive_days": "0",
        "archive_maxsize": "1",
        "archivepartition-default": "{root}/archive",
    }
    with Cyrus.running("archiving", settings) as master:
        master.create_user(user)
        with master.imap(user) as imap:
            imap.ok("CREATE", "INBOX/copies")
            imap.append("INBOX", message("large", 40_000), message("small"))
            master.tool("cyr_expire", "-E", "10", "-A", "0").check()
            said(master, server, user)
            same(master, server, user)
            imap.select()
            imap.ok("UID", "COPY", "1:2", "INBOX/copies")
            imap.ok("UID", "MOVE", "2", "INBOX/copies")
        assert not [line for line in said(master, server, user) if line.startswith("APPLY MESSAGE")]
        same(master, server, user)
        assert said(master, server, user) == []


def test_a_partition_that_we_have_not_is_named_in_our_answer(server: Server, user: str) -> None:
    if isinstance(server, Cyrus):
        pytest.skip("a real server ends with an assertion")
    assert isinstance(server, Ours)
    with Cyrus.running("elsewhere", {"defaultpartition": "fast", "partition-fast": "{root}/fast"}) as master:
        master.create_user(user)
        with master.imap(user) as imap:
            imap.append("INBOX", message("on another partition"))
        with Proxy(server.csync, hide=("COMPRESS",)) as proxy:
            assert master.sync_client("-u", user, to=proxy.address).status != 0
            answers = [line for talk in proxy.conversations for line in talk.answers()]
        assert [line for line in answers if line.startswith("NO ") and "artition" in line], answers
        assert "fast" in server.log.read_text()
    assert state_of(server.csync, user)["mailboxes"] == {}


def test_files_of_a_user_whom_cyrus_has_moved_to_another_partition_move_here_too(
    real_cyrus: None, user: str
) -> None:
    disk = {"partition-fast": "{root}/fast"}
    with Ours.installed("disks", {}, serving=False) as ours:
        text = f"{ours.config.read_text()}partition-fast: {ours.root}/fast\n"
        ours.config.write_text(text)
        ours.start()
        with Cyrus.running("moving", disk) as master:
            master.create_user(user)
            with master.imap(user) as imap:
                imap.append("INBOX", message("before"))
            same_after(master, ours, user)
            with master.imap() as admin:
                admin.ok("RENAME", f"user/{user}", f"user/{user}", "fast")
            same_after(master, ours, user)
        (found,) = ours.root.glob(f"*/users/*/{user}")
        assert found.is_relative_to(ours.root / "fast")
        ours.verify(user)


def same_after(master: Cyrus, ours: Ours, user: str) -> None:
    master.sync_client("-u", user, to=ours.csync).check()
    same(master, ours, user)
