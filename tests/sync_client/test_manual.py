"""The manual page says what the command does: every option, every file, every exit status."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from cyrus_sync.common.errors import UsageError
from cyrus_sync.sync_client.arguments import parse, parser

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/man/sync_client.8.md").read_text()
OPTIONS = [option for action in parser()._actions for option in action.option_strings]
EXAMPLES = re.findall(r"^sync_client (?!- ).*$", PAGE, re.MULTILINE)


@pytest.mark.parametrize("option", [o for o in OPTIONS if o not in ("-h", "--help")])
def test_every_option_is_in_the_manual_page(option):
    assert f"**{option}**" in PAGE


def test_the_manual_page_knows_no_option_that_does_not_exist():
    named = set(re.findall(r"^\*\*(--?[\w-]+)\*\*", PAGE, re.MULTILINE))
    assert named <= set(OPTIONS)


def test_there_are_examples():
    assert len(EXAMPLES) >= 5


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_is_a_command_line_that_makes_sense(example):
    try:
        parse(shlex.split(example)[1:])
    except UsageError as error:
        pytest.fail(f"{example}: {error}")


@pytest.mark.parametrize("status", ["0", "1", "64", "70", "75", "78"])
def test_every_exit_status_is_explained(status):
    assert re.search(rf"^\| {status} \|", PAGE, re.MULTILINE)


def test_the_unit_runs_a_command_line_that_makes_sense():
    unit = (ROOT / "etc/sync_client@.service").read_text()
    (command,) = re.findall(r"^ExecStart=/usr/local/bin/sync_client (.*)$", unit, re.MULTILINE)
    assert parse(shlex.split(command.replace("%i", "north"))).foreground
    assert "Type=notify" in unit and "SuccessExitStatus=75" in unit
