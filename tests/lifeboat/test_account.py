"""What a user sees: names as the server that is gone had them, and rights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cyrus_sync.common.acl import rights
from cyrus_sync.common.config import Config
from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores import open_store
from cyrus_sync.common.stores.mailstore import MailStore
from cyrus_sync.lifeboat.account import Account, matcher
from cyrus_sync.lifeboat.names import UserNames


@pytest.fixture
def store(tmp_path: Path) -> Iterator[MailStore]:
    config = tmp_path / "imapd.conf"
    config.write_text(f"configdirectory: {tmp_path}/conf\npartition-default: {tmp_path}/mail\n")
    found = open_store(Config.load(config))
    with found.write(Owner("user", "alice")) as writer:
        writer.create("user.alice")
        writer.create("user.alice.Work.2026^a")
        writer.create("user.alice.#calendars", mbtype="c")
        writer.subscribe("user.alice.Work.2026^a")
        writer.subscribe("user.bob.Plans")
    with found.write(Owner("user", "bob")) as writer:
        writer.create("user.bob")
        writer.create("user.bob.Plans", acl="bob\tlrswipkxtecda\talice\tlr\t")
        writer.create("user.bob.Peek", acl="bob\tlrswipkxtecda\talice\tl\t")
    with found.write(Owner("shared", "news")) as writer:
        writer.create("news", acl="anyone\tlr\t")
    yield found
    found.close()


def account(store: MailStore, **settings: bool) -> Account:
    names = UserNames("alice", **settings)  # type: ignore[arg-type] # switches only
    return Account(store, names, lambda: [Owner("shared", "news")])


def test_own_folders_those_of_others_and_shared_ones_are_listed(store: MailStore) -> None:
    shown = {one.shown: one.attributes for one in account(store).listed("*")}
    assert list(shown) == [
        *("INBOX", "Other Users/bob/Peek", "Other Users/bob/Plans", "Shared Folders/news", "Work/2026.a"),
    ]
    assert shown["Other Users/bob/Peek"] == ("\\Noselect", "\\HasNoChildren")


@pytest.mark.covers("imapd.conf", "altnamespace")
def test_without_altnamespace_and_with_dots_names_are_those_of_that_server(store: MailStore) -> None:
    shown = [one.shown for one in account(store, slashes=False, alternative=False).listed("*")]
    assert shown == ["INBOX", "INBOX.Work.2026^a", "news", "user.bob.Peek", "user.bob.Plans"]


def test_a_mailbox_that_may_be_seen_and_not_read_cannot_be_opened(store: MailStore) -> None:
    peek = account(store).find("Other Users/bob/Peek")
    assert peek is not None and not peek.selectable
    assert account(store).find("Other Users/bob") is None
    assert account(store).find("#calendars") is None, "calendars are none of IMAP's affair"


def test_levels_without_a_mailbox_are_told_where_a_pattern_ends_at_them(store: MailStore) -> None:
    assert [one.shown for one in account(store).listed("%")] == [
        *("INBOX", "Other Users", "Shared Folders", "Work"),
    ]
    assert [one.shown for one in account(store).listed("Work")] == []
    assert [one.shown for one in account(store).subscribed("*")] == ["Other Users/bob/Plans", "Work/2026.a"]


@pytest.mark.covers("imapd.conf", "userprefix", "sharedprefix")
def test_prefixes_are_those_of_imapd_conf(tmp_path: Path) -> None:
    conf = tmp_path / "imapd.conf"
    conf.write_text(
        f"configdirectory: {tmp_path}\npartition-default: {tmp_path}\nuserprefix: Others\nsharedprefix: All\n"
    )
    names = UserNames.from_config(Config.load(conf), "alice")
    assert names.prefixes == ("", "Others/", "All/")
    assert names.shown("user.bob.Plans") == "Others/bob/Plans"
    assert names.internal("All/news") == "news"


LEVELS = st.text("abcINBOX. ^", min_size=1, max_size=6).filter(lambda level: level.strip(".^ "))


@given(st.lists(LEVELS, min_size=1, max_size=4), st.booleans(), st.sampled_from(["alice", "bob@example.org"]))
def test_what_is_shown_is_read_as_that_very_mailbox(
    levels: list[str], alternative: bool, userid: str
) -> None:
    names = UserNames(userid, alternative=alternative)
    inner = [level.replace(".", "^") for level in levels]
    domain = "example.org!" if "@" in userid else ""
    for beginning in (["user", userid.partition("@")[0]], ["user", "carl"], []):
        name = domain + ".".join([*beginning, *inner])
        shown = names.shown(name)
        if shown is not None:
            assert names.internal(shown) == name


@pytest.mark.parametrize(
    ("acl", "login", "owner", "expected"),
    [
        ("", "alice", True, "lr"),
        ("bob\tlrs\t", "alice", False, ""),
        ("anyone\tlr\t-alice\tr\t", "alice", False, "l"),
        ("-anyone\tlr\t", "alice", True, "lr"),
        ("alice\tlr", "alice", False, "lr"),
        ("alice", "alice", False, ""),
    ],
)
def test_rights_are_given_taken_and_an_owners_own(acl: str, login: str, owner: bool, expected: str) -> None:
    assert rights(acl, login, owner=owner) == set(expected)


@pytest.mark.timeout(20)
def test_a_pattern_of_wildcards_is_no_work_for_a_day() -> None:
    assert not matcher("*a" * 20 + "b", "/")("a" * 40)
