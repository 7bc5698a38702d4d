"""A comparison that was killed goes on where it was, and forgets what proves nothing any more."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from cyrus_sync.common.names import Owner
from cyrus_sync.sync_client.comparing.findings import MailboxFindings, OwnerFindings
from cyrus_sync.sync_client.comparing.progress import TOO_OLD, OtherComparison, Progress

ASKED = {"depth": "crcs", "owners": "all"}


def findings(name: str, *, differs: bool = False) -> OwnerFindings:
    found = OwnerFindings(Owner("user", name), name)
    found.counts.mailboxes = 3
    if differs:
        found.mailboxes.append(MailboxFindings(f"user/{name}", "id", "here"))
    return found


def again(path: Path, **more: Any) -> Progress:
    return Progress(path, more.pop("asked", ASKED), **more)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """An interrupted comparison: two owners are done, one differed, a third was half written."""
    path = tmp_path / "compare.progress"
    progress = again(path)
    progress.add(findings("alice"))
    progress.add(findings("bob", differs=True))
    progress.fail("carol", "cannot be read")
    progress.close()
    with path.open("ab") as file:
        file.write(b'{"owner": "dave", "coun')
    return path


def test_it_goes_on_with_who_is_not_done(path: Path) -> None:
    progress = again(path)
    assert progress.went_on and progress.done == {"alice", "bob", "carol"}
    assert (progress.differing, progress.failed) == (1, 1)
    assert (progress.counts.owners, progress.counts.mailboxes) == (3, 6)
    progress.add(findings("dave", differs=True))
    assert [entry["owner"] for entry in progress.entries()] == ["bob", "carol", "dave"]


@pytest.mark.parametrize("more", [{"anew": True}, {"asked": {"depth": "records"}}])
def test_another_question_begins_at_the_beginning(path: Path, more: dict[str, Any]) -> None:
    progress = again(path, **more)
    assert not progress.went_on and not progress.done and not list(progress.entries())


def test_what_is_a_day_old_proves_nothing(path: Path) -> None:
    then = path.stat().st_mtime - TOO_OLD - 1
    os.utime(path, (then, then))
    assert not again(path).went_on


@pytest.mark.parametrize("content", [b"", b"garbage\n", b'["a"]\n', b'{"asked": 1}\n', b"\x00\n"])
def test_a_damaged_file_is_begun_anew(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "p"
    path.write_bytes(content)
    progress = again(path)
    assert not progress.went_on
    progress.add(findings("alice"))
    progress.close()
    assert again(path).done == {"alice"}


def test_two_at_once_exclude_each_other_and_nothing_is_lost(path: Path) -> None:
    progress = again(path)
    with pytest.raises(OtherComparison):
        again(path)
    progress.close()
    assert again(path).done == {"alice", "bob", "carol"}


def test_a_finished_one_leaves_nothing(path: Path) -> None:
    progress = again(path)
    progress.finish()
    progress.close()
    assert not path.exists()
