"""A report is JSON, and says with its signature who made it and that nobody has changed it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cyrus_sync.common.errors import StoreError
from cyrus_sync.sync_client.comparing.progress import Progress
from cyrus_sync.sync_client.comparing.report import About, document, entry_lines, summary, verdict
from cyrus_sync.sync_client.comparing.signing import KEY_FILE, PUBLIC_FILE, BadReport, Signer, known_key
from tests.sync_client.comparing.test_progress import ASKED, findings

ABOUT = About(
    "master.example", "store", "replica.example", "", ASKED, 1_764_500_000, ("users were not listed",)
)


@pytest.fixture
def progress(tmp_path: Path) -> Progress:
    progress = Progress(tmp_path / "p", ASKED, now=lambda: 1_764_400_000)
    progress.add(findings("alice"))
    progress.add(findings("bob", differs=True))
    progress.fail("zoë", "user.zoë cannot be read")
    return progress


@pytest.fixture
def report(tmp_path: Path, progress: Progress) -> bytes:
    return "".join(document(progress, ABOUT, Signer.of(tmp_path / "sync"))).encode()


def test_the_report_says_when_who_how_much_and_what(report: bytes) -> None:
    found = json.loads(report)
    assert (found["begun"], found["ended"]) == ("2025-11-29T07:06:40Z", "2025-11-30T10:53:20Z")
    assert (found["master"], found["replica"], found["equal"]) == ("master.example", "replica.example", False)
    assert found["counts"]["owners"] == 3 and found["counts"]["mailboxes"] == 6
    assert (found["counts"]["differing"], found["counts"]["failed"]) == (1, 1)
    assert [one["owner"] for one in found["differing"]] == ["bob"]
    assert found["failed"] == [{"owner": "zoë", "error": "user.zoë cannot be read"}]
    assert found["not_looked_at"] == ["users were not listed"]


def test_its_own_server_believes_it_and_so_does_who_has_the_public_key(tmp_path: Path, report: bytes) -> None:
    sync = tmp_path / "sync"
    assert (sync / KEY_FILE).stat().st_mode & 0o777 == 0o600
    public = (sync / PUBLIC_FILE).read_text()
    for key in (
        known_key(sync, None),
        known_key(tmp_path, public),
        known_key(tmp_path, str(sync / PUBLIC_FILE)),
    ):
        said, good = verdict(report, key)
        assert good and said.startswith("GOOD: as it was signed with the key ")


def test_a_changed_report_is_not_believed(tmp_path: Path, report: bytes) -> None:
    key = known_key(tmp_path / "sync", None)
    for old, new in ((b'"equal": false', b'"equal": true '), (b"bob", b"bib"), (b"replica.", b"replika.")):
        said, good = verdict(report.replace(old, new, 1), key)
        assert not good and "changed since it was signed" in said
    for other in (
        b"",
        b"{}",
        json.dumps(json.loads(report)).encode(),
        report + b"x",
        report[: len(report) // 2],
    ):
        assert not verdict(other, key)[1]


def test_anothers_signature_is_not_believed(tmp_path: Path, report: bytes) -> None:
    Signer.of(tmp_path / "other")
    said, good = verdict(report, known_key(tmp_path / "other", None))
    assert not good and "not with" in said
    said, good = verdict(report, known_key(tmp_path / "nowhere", None))
    assert not good and "--key" in said


def test_a_key_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadReport):
        known_key(tmp_path, "no key")


@pytest.mark.parametrize("content", ["", "x", "AAAA"])
def test_a_damaged_or_open_secret_key_is_refused(tmp_path: Path, content: str) -> None:
    Signer.of(tmp_path)
    (tmp_path / KEY_FILE).write_text(content)
    with pytest.raises(StoreError, match="no key of reports"):
        Signer.of(tmp_path)
    (tmp_path / KEY_FILE).chmod(0o644)
    with pytest.raises(StoreError, match="0644 opens the key to others"):
        Signer.of(tmp_path)


def test_a_person_reads_who_differs_in_what(progress: Progress) -> None:
    lines = [line for entry in progress.entries() for line in entry_lines(entry)]
    assert lines == [
        "bob differs:",
        "  user/bob (id) is only here",
        "zoë could not be compared: user.zoë cannot be read",
    ]
    assert list(summary(progress, ABOUT))[-1] == "different: 1 owner; could not be compared: 1"
