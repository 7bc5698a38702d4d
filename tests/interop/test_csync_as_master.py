"""A real Cyrus that is read through its csync server alone (`sync_source: csync`): every release."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from .beside import BesideCyrus
from .csync import differences, scripts_of, state_of
from .fill import SCRIPT, change_everything, fill_everything, message
from .ours import Ours
from .proxy import Proxy
from .sides import OurSide, RealSide, Side, guids, side
from .test_settling import tell_stories


@pytest.fixture
def master(real_cyrus: None) -> Iterator[BesideCyrus]:
    with BesideCyrus.running("master", {"maxliteral": "0"}) as cyrus:
        assert isinstance(cyrus, BesideCyrus)
        cyrus.asks = True
        yield cyrus


@pytest.fixture(params=["real", "ours"])
def replica(request: pytest.FixtureRequest, real_cyrus: None) -> Iterator[Side]:
    with side(request.param, "replica", {"sync_log": "0", "maxliteral": "0"}) as end:
        yield end


def same(master: BesideCyrus, replica: Side, *users: str, expunged: bool = True) -> None:
    """Both ends say the same, and a run for the users has nothing to do."""
    for user in users:
        here, there = (state_of(end.csync, user, expunged=expunged) for end in (master, replica))
        assert differences(here, there) == []
    with Proxy(replica.csync, hide=("COMPRESS",)) as proxy:
        master.sync_client("-u", *users, to=proxy.address).check()
        found = [line for line in proxy.commands("APPLY ") if "CAPABILITIES" not in line]
        assert [line for line in found if not re.search(r"MBOXTYPE e?i ", line)] == []


@pytest.mark.every_release
def test_a_user_with_everything_arrives_and_what_changes_follows(
    master: BesideCyrus, replica: Side, user: str
) -> None:
    other = f"{user}b"
    fill_everything(master, user, other)
    master.sync_client("-u", user, other, to=replica.csync).check()
    same(master, replica, user, other)
    assert scripts_of(replica.csync, user) == {"main": (SCRIPT, True), "spare": (b"keep;\r\n", False)}
    change_everything(master, user, other)
    for _ in range(2):
        if master.sync_log.exists():
            master.follow(replica.csync).check()
    same(master, replica, user, other)


@pytest.mark.every_release
def test_what_both_sides_have_changed_is_settled(master: BesideCyrus, replica: Side, user: str) -> None:
    tell_stories(RealSide(master), replica, user)
    master.sync_client("-u", user, to=replica.csync).check()
    same(master, replica, user, expunged=False)
    assert len(guids(replica, user)[f"user.{user}.many"]) == 5 + 61 + 50


@pytest.mark.covers("imapd.conf", "sync_source")
def test_what_csync_does_not_tell_is_said_in_words(master: BesideCyrus, user: str) -> None:
    master.create_user(user)
    with Ours.installed("replica") as ours:
        everybody = master.sync_client("-A", to=ours.csync)
        assert everybody.status != 0
        assert "does not list its users: name them with sync_client -u" in everybody.err
        away = master.sync_client("-u", user, to=ours.csync, extra={"cyrus_csync": "127.0.0.1:1"})
        assert away.status == 1
        assert "cyrus_csync (127.0.0.1:1): not to be reached: " in away.err
        nowhere = master.sync_client("-u", user, to=ours.csync, extra={"cyrus_csync": ""})
        assert nowhere.status == 78
        assert "cyrus_csync does not say where that server is" in nowhere.err


def test_messages_that_were_expunged_for_good_do_not_come_back(master: BesideCyrus, user: str) -> None:
    with Ours.installed("replica") as ours:
        master.create_user(user)
        with master.imap(user) as imap:
            imap.append("INBOX", message("one"), message("two"), message("three"))
            master.sync_client("-u", user, to=ours.csync).check()
            imap.select("INBOX")
            imap.store("2", "+FLAGS", "\\Deleted")
            imap.ok("UID", "EXPUNGE", "2")
        master.tool("cyr_expire", "-E", "1", "-X", "0").check()
        ran = master.sync_client("-u", user, to=ours.csync)
        assert ran.status == 1, ran.describe()
        assert "csync does not tell whether 1 of these messages were expunged here for good" in ran.err
        assert len(guids(RealSide(master), user)[f"user.{user}"]) == 2
        OurSide(ours).expunge(user, "", 2)
        master.sync_client("-u", user, to=ours.csync).check()
        assert guids(OurSide(ours), user) == guids(RealSide(master), user)
