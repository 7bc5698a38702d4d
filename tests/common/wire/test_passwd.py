"""The password file: verifiers only, replaced as a whole, and no telling who exists."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cyrus_sync.common.errors import StoreCorrupt, StoreError, UsageError
from cyrus_sync.common.wire.sasl import passwd
from cyrus_sync.common.wire.sasl.passwd import PasswordFile, Verifier, check_same_everywhere


@pytest.fixture(autouse=True)
def few_rounds(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(passwd, "ITERATIONS", 4096)
    yield


@pytest.fixture
def file(tmp_path: Path) -> PasswordFile:
    return PasswordFile(tmp_path / "conf" / "sync_passwd")


def test_the_right_password_is_right_and_any_other_is_wrong(file: PasswordFile) -> None:
    file.set_password("admin", "s3cret")
    assert file.check("admin", "s3cret")
    assert file.check(" ADMIN ", "s3cret")
    assert not file.check("admin", "s3cret ")
    assert not file.check("admin", "")
    assert not file.check("nobody", "s3cret")


def test_a_password_that_saslprep_forbids_is_wrong_rather_than_an_error(file: PasswordFile) -> None:
    file.set_password("admin", "s3cret")
    assert not file.check("admin", "s3cret\x07")
    with pytest.raises(UsageError):
        file.set_password("admin", "\x07")


def test_passwords_of_many_scripts_work(file: PasswordFile) -> None:
    file.set_password("admin", "pâsswörd Ⅸ")
    assert file.check("admin", "pâsswörd IX"), "SASLprep folds compatible characters"


def test_the_file_holds_no_password_and_is_for_its_owner_alone(file: PasswordFile) -> None:
    file.set_password("admin", "s3cret")
    assert b"s3cret" not in file.path.read_bytes()
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert sorted(p.name for p in file.path.parent.iterdir()) == ["sync_passwd", "sync_passwd.lock"]


def test_a_change_by_another_process_is_seen_at_once(file: PasswordFile) -> None:
    file.set_password("admin", "one")
    assert file.check("admin", "one")
    PasswordFile(file.path).set_password("admin", "two")
    assert file.check("admin", "two")
    assert not file.check("admin", "one")
    assert PasswordFile(file.path).remove("admin")
    assert not file.check("admin", "two")
    assert not PasswordFile(file.path).remove("admin")


def test_users_are_listed_and_others_stay_when_one_changes(file: PasswordFile) -> None:
    assert file.users() == []
    for user in ("zoe", "adam"):
        file.set_password(user, user)
    file.set_password("zoe", "new")
    assert file.users() == ["adam", "zoe"]
    assert file.check("adam", "adam")


def test_many_writers_at_once_lose_no_user(file: PasswordFile) -> None:
    def write(n: int) -> None:
        PasswordFile(file.path).set_password(f"user{n}", f"pw{n}")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(24)))
    assert len(file.users()) == 24


def test_a_user_who_does_not_exist_has_a_verifier_that_stays_the_same(file: PasswordFile) -> None:
    file.set_password("admin", "s3cret")
    decoy = file.verifier("nobody", "SCRAM-SHA-256")
    assert decoy == PasswordFile(file.path).verifier("NOBODY", "SCRAM-SHA-256")
    assert decoy.salt != file.verifier("somebody", "SCRAM-SHA-256").salt
    real = file.verifier("admin", "SCRAM-SHA-256")
    assert (len(decoy.salt), decoy.iterations, len(decoy.stored_key), len(decoy.server_key)) == (
        len(real.salt),
        real.iterations,
        len(real.stored_key),
        len(real.server_key),
    )
    file.set_password("other", "x")
    assert file.verifier("nobody", "SCRAM-SHA-256") == decoy


@pytest.mark.parametrize("user", ["", " ", "a b", "*decoy", "#x", "a\nb", "x" * 491])
def test_names_that_would_break_the_file_are_refused(file: PasswordFile, user: str) -> None:
    with pytest.raises(UsageError):
        file.set_password(user, "s3cret")


def test_an_empty_password_is_refused(file: PasswordFile) -> None:
    with pytest.raises(UsageError):
        file.set_password("admin", "")


@pytest.mark.parametrize(
    "line",
    [
        "admin plain",
        "admin SCRAM-SHA-256$4096:x$y:z",
        "*decoy ###",
        "*decoy",
        "admin SCRAM-MD5$1:YQ==$YQ==:YQ==",
    ],
)
def test_a_damaged_file_is_named_with_its_line(file: PasswordFile, line: str) -> None:
    file.path.parent.mkdir()
    file.path.write_text(f"# comment\n\n{line}\n")
    with pytest.raises(StoreCorrupt, match="sync_passwd:3"):
        file.check("admin", "x")


def test_a_file_that_cannot_be_written_is_left_as_it_was(
    file: PasswordFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.set_password("admin", "one")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="No space left"):
        file.set_password("admin", "two")
    monkeypatch.undo()
    assert PasswordFile(file.path).check("admin", "one")
    assert sorted(p.name for p in file.path.parent.iterdir()) == ["sync_passwd", "sync_passwd.lock"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_root_writes_belongs_to_the_owner_of_the_directory_and_of_the_old_file(
    file: PasswordFile,
) -> None:
    file.path.parent.mkdir()
    os.chown(file.path.parent, 1234, 5678)
    file.set_password("admin", "one")
    assert (file.path.stat().st_uid, file.path.stat().st_gid) == (1234, 5678)
    os.chown(file.path, 1235, 5679)
    file.set_password("admin", "two")
    assert (file.path.stat().st_uid, file.path.stat().st_gid) == (1235, 5679)


@pytest.mark.parametrize("password", ["\ufb01sh", "\u00aa\u00bd", "a\u00a0b", "so\u00adft"])
def test_a_password_that_saslprep_changes_is_not_the_same_everywhere(password: str) -> None:
    with pytest.raises(UsageError, match="SASLprep"):
        check_same_everywhere(password, "repl")
    check_same_everywhere("pä ßwörd", "repl")


def test_the_right_password_is_worked_out_once_and_a_wrong_one_every_time(
    file: PasswordFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.set_password("admin", "one")
    worked_out = []
    real = Verifier.of

    def of(*words: object) -> Verifier:
        worked_out.append(words)
        return real(*words)  # type: ignore[arg-type]

    monkeypatch.setattr(Verifier, "of", of)
    assert [file.check("admin", "one") for _ in range(3)] == [True] * 3
    assert len(worked_out) == 1
    assert [file.check("admin", "two") for _ in range(3)] == [False] * 3
    assert [file.check("nobody", "one") for _ in range(3)] == [False] * 3
    assert len(worked_out) == 7
    PasswordFile(file.path).set_password("admin", "two")
    assert (file.check("admin", "one"), file.check("admin", "two")) == (False, True)
