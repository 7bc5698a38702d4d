"""What is changed at a site becomes operations: who is compared, what is told, and what a failure leaves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cyrus_sync.common.errors import CyrusSyncError
from cyrus_sync.common.model import Seen
from cyrus_sync.common.names import SERVER, Owner, owner_of
from cyrus_sync.common.synclog.lines import parse_lines
from cyrus_sync.multisite.capture import Capture, owners_of
from cyrus_sync.multisite.member import Member
from cyrus_sync.multisite.oplog.apply_command import parse
from cyrus_sync.multisite.oplog.operations import LogEntry
from cyrus_sync.multisite.recorder import Recorder
from tests.multisite.mail import (
    BOB,
    append,
    create,
    delete,
    expunge,
    flag,
    guid_of,
    message,
    operations,
    rename,
    say,
    state,
)
from tests.multisite.world import Site, family_of


@pytest.fixture
def boston(tmp_path: Path) -> Site:
    """Alone; Bob has an INBOX with one message, which is in the log."""
    (site,) = family_of(tmp_path, "boston")
    create(site, "user.bob")
    append(site, "user.bob", message("first"))
    operations(site)
    return site


@pytest.fixture
def member(boston: Site) -> Iterator[Member]:
    with boston.member() as member:
        yield member


def news(site: Site, owner: Owner = BOB) -> list[LogEntry]:
    """What a capture adds to the log of an owner."""
    with site.member() as member:
        before = len(list(member.log.operations.of_owner(owner)))
        assert member.record() == []
        return list(member.log.operations.of_owner(owner))[before:]


def verbs(entries: list[LogEntry]) -> list[str]:
    return [entry.verb for entry in entries]


def test_nothing_changed_is_nothing_told(boston: Site) -> None:
    assert news(boston) == []
    with boston.member() as member:
        before = member.log.operations.last(member.log.self_id)
        assert member.capture.everything() == []
        assert member.log.operations.last(member.log.self_id) == before


def test_a_new_message_is_one_record_and_its_guid(boston: Site) -> None:
    append(boston, "user.bob", message("second"))
    (told,) = news(boston)
    said = parse(told.line)
    assert told.verb == "MAILBOX" and told.guids == (guid_of(message("second")),)
    assert [record.uid for record in said.records] == [2] and said.update.since is not None
    assert told.octets == len(message("second"))
    assert told.attributes["uniqueid"] == said.update.state.uniqueid
    assert told.attributes["creator"] == told.origin


@pytest.mark.parametrize("change", ["flag", "expunge"])
def test_a_change_of_a_record_brings_no_message(boston: Site, change: str) -> None:
    if change == "flag":
        flag(boston, "user.bob", 1, "\\Seen")
    else:
        expunge(boston, "user.bob", 1)
    (told,) = news(boston)
    assert told.guids == () and told.attributes["changed"] == ""
    (record,) = parse(told.line).records
    assert (record.flags, record.expunged) == (("\\Seen", False) if change == "flag" else ("", True))


def test_changed_header_fields_are_named(boston: Site) -> None:
    with boston.store() as store, store.write(BOB) as writer:
        writer.set_acl("user.bob", "zoe", "lr")
        writer.annotate("user.bob", "/comment", "", b"x")
    attributes = [entry.attributes.get("changed", "") for entry in news(boston) if entry.verb == "MAILBOX"]
    assert "acl" in ",".join(attributes)


def test_renames_and_deletions_name_the_mailbox_by_its_identity(boston: Site) -> None:
    create(boston, "user.bob.Work")
    uniqueid = state(boston, "user.bob.Work").uniqueid
    news(boston)
    rename(boston, "user.bob.Work", "user.bob.Play")
    told = news(boston)
    assert verbs(told)[0] == "RENAME" and told[0].attributes["uniqueid"] == uniqueid
    delete(boston, "user.bob.Play")
    (gone,) = news(boston)
    assert (gone.verb, gone.attributes["uniqueid"]) == ("UNMAILBOX", uniqueid)


def test_a_user_who_is_gone_is_told_mailbox_by_mailbox(boston: Site) -> None:
    create(boston, "user.bob.Work")
    news(boston)
    delete(boston, "user.bob")
    assert verbs(news(boston)) == ["UNMAILBOX", "UNMAILBOX", "UNUSER"]


def test_what_is_set_aside_is_renamed_and_its_removal_told(boston: Site) -> None:
    create(boston, "user.bob.Work")
    news(boston)
    delete(boston, "user.bob.Work", delayed=True)
    assert verbs(news(boston))[0] == "RENAME"
    (aside,) = [name for name in boston.guids("bob") if name.startswith("DELETED.")]
    delete(boston, aside)
    assert verbs(news(boston)) == ["UNMAILBOX"]


def test_what_else_a_user_has(boston: Site) -> None:
    with boston.store() as store, store.write(BOB) as writer:
        writer.subscribe("user.bob", True)
        writer.set_quota("user.bob", {"STORAGE": 1000})
        writer.set_seen(Seen("f" * 24, 1, 2, 3, "1:2"))
        writer.put_script("main", b"keep;\r\n")
        writer.activate_script("main")
    told = set(verbs(news(boston)))
    assert told >= {"SUB", "QUOTA", "SEEN", "SIEVE", "ACTIVATE_SIEVE"}
    with boston.store() as store, store.write(BOB) as writer:
        writer.subscribe("user.bob", False)
        writer.set_quota("user.bob", None)
        writer.activate_script(None)
        writer.delete_script("main")
    told = set(verbs(news(boston)))
    assert told >= {"UNSUB", "UNQUOTA", "UNSIEVE"}
    assert news(boston) == []


def test_annotations_of_the_server_belong_to_nobody(boston: Site) -> None:
    with boston.store() as store, store.write(SERVER) as writer:
        writer.annotate("", "/motd", "", b"hello")
    assert verbs(news(boston, SERVER)) == ["MASTER", "ANNOTATION"]
    with boston.store() as store, store.write(SERVER) as writer:
        writer.annotate("", "/motd", "", None)
    assert verbs(news(boston, SERVER)) == ["UNANNOTATION"]


def test_a_shared_mailbox_has_an_owner_of_its_own(boston: Site) -> None:
    owner = Owner("shared", "projects")
    create(boston, "projects", "projects.one")
    assert verbs(news(boston, owner))[0] == "MASTER"
    delete(boston, "projects.one")
    assert verbs(news(boston, owner)) == ["UNMAILBOX"]


def test_the_first_change_of_an_owner_claims_him(boston: Site) -> None:
    create(boston, "user.eve")
    told = operations(boston, Owner("user", "eve"))
    assert verbs(told)[:2] == ["MASTER", "MAILBOX"]


def test_many_records_are_several_operations_of_bounded_size(
    boston: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cyrus_sync.multisite.capture.RECORDS", 10)
    append(boston, "user.bob", *(message(number) for number in range(35)))
    told = news(boston)
    assert len(told) >= 4 and max(len(entry.guids) for entry in told) == 10
    assert sum(len(entry.guids) for entry in told) == 35
    assert [parse(entry.line).update.partial for entry in told] == [True] * (len(told) - 1) + [False]


def test_one_owners_failure_stops_nobody_and_is_tried_again(
    boston: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(boston, "user.bob", message("second"))
    create(boston, "user.eve")
    original = Capture._owner

    async def refuse(self: Capture, owner: Owner) -> None:
        if owner == BOB:
            raise CyrusSyncError("no")
        await original(self, owner)

    with monkeypatch.context() as patched:
        patched.setattr(Capture, "_owner", refuse)
        with boston.member() as member:
            (failure,) = member.record()
        assert failure.address["user"] == "bob"
    assert operations(boston, Owner("user", "eve"))
    assert len(operations(boston)) > 2
    assert any(guid_of(message("second")) in entry.guids for entry in operations(boston))


def test_a_sealed_site_records_nothing_and_keeps_the_lines(boston: Site) -> None:
    append(boston, "user.bob", message("second"))
    with boston.member() as member:
        before = member.log.operations.last(member.log.self_id)
        member.capture.sealed = True
        assert member.record() == [] == member.capture.everything()
        assert member.log.operations.last(member.log.self_id) == before
    assert verbs(news(boston)) == ["MAILBOX"]


def test_changes_of_before_the_channel_are_found_by_comparing_everything(boston: Site) -> None:
    say(boston, "sync_log_channels: other")
    path = boston.directory / "imapd.conf"
    path.write_text(path.read_text().replace("sync_log_channels: multisite\n", ""))
    append(boston, "user.bob", message("unlogged"))
    assert news(boston) == []
    with boston.member() as member:
        assert member.capture.everything() == []
    assert any(guid_of(message("unlogged")) in entry.guids for entry in operations(boston))


@pytest.mark.parametrize(
    ("line", "owners"),
    [
        (b"MAILBOX user.bob\n", {BOB}),
        (b"APPEND user.bob.Work\n", {BOB}),
        (b"RENAME user.bob.x user.eve.x\n", {BOB, Owner("user", "eve")}),
        (b"SEEN bob projects\n", {BOB}),
        (b"UNUSER bob\n", {BOB}),
        (b"MAILBOX projects.one\n", {Owner("shared", "projects")}),
        (b'ANNOTATION ""\n', {SERVER}),
        (b"MAILBOX DELETED.user.bob.6B013001\n", {BOB}),
        (b"USER ../x\n", set()),
    ],
)
def test_a_line_says_whose_data_changed(line: bytes, owners: set[Owner]) -> None:
    (parsed,) = parse_lines(line, lambda *_: None)
    assert owners_of(parsed) == owners


def test_the_recorder_says_what_the_log_says(boston: Site, member: Member) -> None:
    recorder = Recorder(member.log)
    found: list[object] = []
    recorder.get_mailboxes(["user.bob", "user.nobody"]).addCallback(found.append)
    recorder.get_quota("user.bob").addCallback(found.append)
    recorder.reserve("default", ["user.bob"], [b"g" * 20]).addCallback(found.append)
    (mailboxes, quota, missing) = found
    assert [one.name for one in mailboxes] == ["user.bob"]  # type: ignore[attr-defined]
    assert (quota, missing) == (None, [])
    assert owner_of("user.bob") == BOB and recorder.recorded == 0
    failures: list[object] = []
    recorder.rename("user.nobody", "user.x", "").addErrback(failures.append)
    recorder.unmailbox("user.nobody").addErrback(failures.append)
    recorder.get_full_mailbox("user.bob").addErrback(failures.append)
    assert len(failures) == 3
