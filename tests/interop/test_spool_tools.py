"""mailstore's ls, dump and verify look into the spool of a real Cyrus of every release while it runs."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.walking import files_below

from .csync import differences, scripts_of, state_of
from .cyrus import Cyrus
from .fill import fill_everything
from .imap import quote
from .ours import BIN, Ours, environment
from .releases import Release
from .running import Finished, finish
from .spools import SETTINGS, change_mailbox, files_of, fill_mailbox
from .view import view

pytestmark = [pytest.mark.interop, pytest.mark.every_release]


@pytest.fixture(scope="module")
def cyrus(real_cyrus: None) -> Iterator[Cyrus]:
    with Cyrus.running("spool", {**SETTINGS, "maxliteral": "0"}) as server:
        yield server


def mailstore(cyrus: Cyrus, *args: str) -> Finished:
    """Our tool with a real Cyrus's imapd.conf."""
    command, *rest = args
    return finish(
        [str(BIN / "mailstore"), "-C", str(cyrus.config), command, "--source", "cyrus", *rest],
        60,
        {"env": environment()},
    )


def state_of_files(root: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path): (status.st_mtime_ns, status.st_size)
        for top in ("spool", "archive", "conf/user", "conf/quota", "conf/lock")
        for path, status in files_below(root / top).items()
    }


@pytest.mark.covers("mailstore: commands and options", "ls --source")
@pytest.mark.covers("mailstore: commands and options", "dump --no-conversations")
def test_a_dump_of_the_spool_is_the_dump_of_its_replica(cyrus: Cyrus, user: str, release: Release) -> None:
    """The C client fills our server: both have the same state, octet for octet. Releases before 3.6 have
    names that exist only because of their children, and their client does not send them."""
    fill_mailbox(cyrus, user, removing_keywords=False)
    other = f"{user}b"
    fill_everything(cyrus, other, f"{user}c")
    with cyrus.imap(other) as imap:
        if release.scripts_are_files:
            imap.ok("CREATE", quote("INBOX/lists/cyrus/deep"))
        imap.ok("CREATE", quote("INBOX/going"))
        imap.ok("DELETE", quote("INBOX/going"))
    users = (user, other, f"{user}c")
    how = ("--no-conversations", "--no-sieve-mailbox")
    with Ours.installed("replica") as ours:
        cyrus.sync_client("-u", *users, to=ours.csync).check()
        theirs = ours.mailstore("dump", *how, *users).check().out
    found = mailstore(cyrus, "dump", *how, "--verify", *users).check()
    ours_of_it = found.out
    if release.scripts_are_files:  # they are messages with us, and count in the quota
        ours_of_it, theirs = (re.sub(r'"used": \{.*?\}', "", text) for text in (ours_of_it, theirs))
    assert ours_of_it.splitlines() == theirs.splitlines()
    assert ours_of_it.count("guid") > 15
    assert not found.err


def test_nothing_is_written_by_looking(cyrus: Cyrus, user: str) -> None:
    fill_mailbox(cyrus, user, removing_keywords=False)
    before = state_of_files(cyrus.root)
    for command in (["ls"], ["ls", user], ["dump", "--verify", user], ["verify", user]):
        mailstore(cyrus, *command).check()
    assert state_of_files(cyrus.root) == before


@pytest.mark.covers("mailstore: commands and options", "ls --source")
def test_ls_counts_what_imap_shows(cyrus: Cyrus, user: str) -> None:
    fill_mailbox(cyrus, user, removing_keywords=False)
    with cyrus.imap(user) as imap:
        status = imap.status("INBOX")
    row = mailstore(cyrus, "ls", user).check().out.split()
    assert row[0] == f"user/{user}"
    assert row[row.index("messages") - 1] == str(status["MESSAGES"])
    assert row[row.index("unseen") - 1] == str(status["UNSEEN"])
    assert any(line.split()[0] == user for line in mailstore(cyrus, "ls").check().out.splitlines())
    unknown = mailstore(cyrus, "ls", "nobody")
    assert unknown.status != 0
    assert "no such user: nobody" in unknown.err


@pytest.mark.covers("mailstore: commands and options", "ls --source")
def test_verify_names_what_is_damaged_and_goes_on(cyrus: Cyrus, user: str) -> None:
    other = f"{user}b"
    for one in (user, other):
        fill_mailbox(cyrus, one, removing_keywords=False)
    change_mailbox(cyrus, user)
    sound = mailstore(cyrus, "verify", user, other).check()
    assert sound.out == "2 owners checked: nothing wrong\n"
    files, others = (files_of(cyrus, f"user/{one}") for one in (user, other))
    message = next(path for path in files.messages.glob("[0-9]*."))
    message.write_bytes(message.read_bytes() + b"x")
    gone = next((files.archive or Path()).glob("[0-9]*."))
    gone.unlink()
    found = mailstore(cyrus, "verify", user, other)
    assert found.status == 1
    assert f"{message}: its SHA-1 is" in found.out
    assert f"{files.messages / gone.name}: there is no such message" in found.out
    assert found.out.count("\n") == 3
    dumped = mailstore(cyrus, "dump", "--format", "json", "--verify", user)
    assert dumped.status == 1
    assert dumped.out.count('"unreadable"') == 2
    content = bytearray(others.index.read_bytes())
    content[300] ^= 1
    others.index.write_bytes(content)
    os.chown(others.index, *(getattr(others.header.stat(), name) for name in ("st_uid", "st_gid")))
    found = mailstore(cyrus, "verify", other, user)
    assert f"{others.index}, offset 272 (version" in found.out or f"{others.index}, offset" in found.out
    assert "checksum is wrong" in found.out
    assert str(message) in found.out
    dumped = mailstore(cyrus, "dump", "--format", "json", user, other)
    assert dumped.status == 1
    owners = json.loads(dumped.out)["owners"]
    assert [owner["user"] for owner in owners] == [user, other]
    assert "checksum is wrong" in json.dumps(owners[1])


@pytest.mark.covers("mailstore: commands and options", "ls --source")
def test_restore_brings_a_user_out_of_the_spool_as_he_is(cyrus: Cyrus, user: str) -> None:
    other = f"{user}b"
    fill_everything(cyrus, user, other)
    with Cyrus.running("target", {"sync_log": "0", "maxliteral": "0"}) as target:
        conf = cyrus.client_config(target.csync, {"sync_allowplaintext": "yes"})
        command = [str(BIN / "mailstore"), "-C", str(conf), "restore", "--source", "cyrus", "--yes", user]
        finish(command, 120, {"env": environment()}).check()
        again = finish(command, 120, {"env": environment()}).check()
        assert again.out.startswith("nothing to do at "), again.out
        found = differences(state_of(cyrus.csync, user), state_of(target.csync, user))
        # conversations are counted here, and not there
        assert [line for line in found if "XCONVMODSEQ" not in line] == []
        assert view(cyrus, user) == view(target, user)
        assert scripts_of(cyrus.csync, user) == scripts_of(target.csync, user)
