"""A configuration with a password that everybody may read is warned about, and works."""

from __future__ import annotations

from pathlib import Path

import pytest

from cyrus_sync.common.config import Config


@pytest.mark.parametrize("key", ["sync_password", "north_sync_password"])
def test_a_password_that_everybody_may_read_is_warned_about_once(
    tmp_path: Path, key: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "imapd.conf"
    path.write_text(f"configdirectory: {tmp_path}\n{key}: secret\n")
    path.chmod(0o644)
    for _ in range(2):
        assert Config.load(path, "sync_client")
    assert capsys.readouterr().err == (f"sync_client: warning: {path}: everybody may read {key}; chmod o-r\n")


@pytest.mark.parametrize(("mode", "text"), [(0o640, "sync_password: x"), (0o644, "servername: a.example")])
def test_a_file_that_only_a_group_may_read_or_without_a_password_is_not(
    tmp_path: Path, mode: int, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "imapd.conf"
    path.write_text(f"configdirectory: {tmp_path}\n{text}\n")
    path.chmod(mode)
    Config.load(path, "sync_client")
    assert capsys.readouterr().err == ""
