import re
from pathlib import Path

import pytest

from cyrus_sync.common.synclog import cli as synclog
from cyrus_sync.mailstore import reset
from cyrus_sync.mailstore.commands import COMMANDS
from cyrus_sync.mailstore.manual import MANUAL, main, manual_text

ROOT = Path(__file__).parents[2]


def test_the_manual_page_is_in_step_with_the_help() -> None:
    hint = "run: python -m cyrus_sync.mailstore.manual"
    assert (ROOT / MANUAL).read_text(encoding="utf-8") == manual_text(), hint


def test_every_command_has_its_part_and_its_options() -> None:
    text = manual_text()
    for name in COMMANDS:
        assert f"\n### {name}\n\n**mailstore {name}**" in text
    assert "**--retention** *DURATION*" in text
    assert "**65**\n:   " in text


@pytest.mark.parametrize(
    ("page", "parser"), [("cyr_synclog", synclog.parser()), ("sync_reset", reset.parser())]
)
def test_the_other_pages_name_every_option_and_exit_status(page: str, parser: object) -> None:
    text = (ROOT / "docs" / "man" / f"{page}.8.md").read_text(encoding="utf-8")
    for option in re.findall(r"^  (-\w)", parser.format_help(), re.MULTILINE):  # type: ignore[attr-defined]
        assert option == "-h" or f"**{option}**" in text
    for status in re.findall(r"^  (\d+) ", parser.format_help(), re.MULTILINE):  # type: ignore[attr-defined]
        assert f"\n**{status}**\n" in text


def test_check_tells_when_it_is_not_in_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["--check"]) == 1
    assert main([]) == 0
    assert main(["--check"]) == 0
