from pathlib import Path

import pytest

from cyrus_sync.common.config import Config
from cyrus_sync.common.config.documents import EXAMPLE, MANUAL, example_text, main, manual_text
from cyrus_sync.common.config.options import OPTIONS, THEMES

ROOT = Path(__file__).parents[3]


def test_the_example_and_the_manual_page_are_in_step_with_the_table() -> None:
    hint = "run: python -m cyrus_sync.common.config.documents"
    assert (ROOT / EXAMPLE).read_text(encoding="utf-8") == example_text(), hint
    assert (ROOT / MANUAL).read_text(encoding="utf-8") == manual_text(), hint


def test_no_option_stands_in_two_themes() -> None:
    assert sum(len(theme.options) for theme in THEMES) == len(OPTIONS)


def test_every_option_stands_in_both() -> None:
    example, manual = example_text(), manual_text()
    for option in OPTIONS.values():
        assert f"{option.name}: " in example
        assert f"\n`{option.name}` (" in manual


def test_the_example_can_be_used_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "imapd.conf"
    path.write_text(example_text())
    assert Config.load(path).defaultpartition == "default"


def test_the_example_with_all_its_defaults_set_means_the_same(tmp_path: Path) -> None:
    path = tmp_path / "imapd.conf"
    lines = [line for line in example_text().splitlines() if not line.endswith("<not set>")]
    path.write_text(
        "\n".join(
            line.removeprefix("#") if line[:1] == "#" and line[1:2].isalpha() else line for line in lines
        )
    )
    cfg = Config.load(path)
    assert cfg.is_set("sync_timeout") and cfg.duration("sync_timeout") == 1800


def test_check_tells_what_is_not_in_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["--check"]) == 1
    assert "etc/imapd.conf.example is not in step" in capsys.readouterr().err
    assert main([]) == 0
    assert main(["--check"]) == 0


ROOMS = (
    *("common", "spool", "csync", "sync_client", "sync_server", "mailstore", "shipping", "multisite"),
    *("fleet", "lifeboat", "lmtp", "objects", "pull", "tiering", "tool", "web"),
)


@pytest.mark.covers("imapd.conf", "sync_realm")
def test_every_option_that_is_declared_is_read_by_a_program() -> None:
    sources = "".join(
        path.read_text(encoding="utf-8")
        for package in ROOMS
        for path in (ROOT / package).rglob("*.py")
        if path.parent.name != "options"
    )
    without_effect = {"sync_realm", "sync_cache_db"}
    for name in OPTIONS:
        assert (f'"{name}"' in sources) != (name in without_effect), name
