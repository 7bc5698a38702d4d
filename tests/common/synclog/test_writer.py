from pathlib import Path

import pytest

from cyrus_sync.common.config import Config
from cyrus_sync.common.synclog.writer import ActionLog, log_path


def config(tmp_path: Path, text: str) -> Config:
    path = tmp_path / "imapd.conf"
    path.write_text(f"configdirectory: {tmp_path}/conf\n{text}")
    return Config.load(path, "mailstore")


def logged(tmp_path: Path) -> list[str]:
    return sorted(str(path.relative_to(tmp_path / "conf")) for path in tmp_path.rglob("log"))


@pytest.mark.covers("imapd.conf", "sync_log")
def test_nothing_is_written_unless_sync_log_is_on(tmp_path: Path) -> None:
    log = ActionLog.from_config(config(tmp_path, "sync_log_channels: north\n"))
    log.write([("USER", "al")])
    assert not log
    assert logged(tmp_path) == []


@pytest.mark.covers("imapd.conf", "sync_log_channels")
def test_without_channels_the_default_one_is_written(tmp_path: Path) -> None:
    ActionLog.from_config(config(tmp_path, "sync_log: yes\n")).write([("USER", "al")])
    assert logged(tmp_path) == ["sync/log"]


@pytest.mark.covers("imapd.conf", "sync_log_channels")
def test_every_line_goes_to_every_channel(tmp_path: Path) -> None:
    log = ActionLog.from_config(config(tmp_path, 'sync_log: 1\nsync_log_channels: "" north south north\n'))
    log.write([("USER", "al"), ("MAILBOX", "user.al")])
    assert logged(tmp_path) == ["sync/log", "sync/north/log", "sync/south/log"]
    for path in tmp_path.rglob("log"):
        assert path.read_bytes() == b"USER al\nMAILBOX user.al\n"


@pytest.mark.covers("imapd.conf", "sync_log_chain")
@pytest.mark.parametrize(
    ("text", "channels"),
    [
        ("", []),
        ("sync_log_chain: yes\n", ["sync/log", "sync/squatter/log"]),
        ("sync_log_unsuppressable_channels: other\n", []),
    ],
)
def test_what_a_master_sent_is_logged_only_for_a_chain(
    tmp_path: Path, text: str, channels: list[str]
) -> None:
    base = 'sync_log: yes\nsync_log_channels: "" squatter\n'
    ActionLog.from_config(config(tmp_path, base + text), replicated=True).write([("USER", "al")])
    expected = channels if channels or "other" in text else ["sync/squatter/log"]
    assert logged(tmp_path) == expected


@pytest.mark.covers("imapd.conf", "sync_log_file")
@pytest.mark.covers("What the manual pages of sync_server and sync_client promise", "66")
def test_sync_log_file_moves_the_log_of_its_own_channel_only(tmp_path: Path) -> None:
    cfg = config(tmp_path, f"sync_log_file: {tmp_path}/a\nnorth_sync_log_file: {tmp_path}/b\n")
    assert log_path(cfg) == tmp_path / "a"
    assert log_path(cfg, "north") == tmp_path / "b"
    assert log_path(cfg, "south") == tmp_path / "conf" / "sync" / "south" / "log"
