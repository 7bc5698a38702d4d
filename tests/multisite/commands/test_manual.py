"""The manual pages say what the commands do: options, exit statuses; and examples that make sense."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from cyrus_sync.common.one_dash import Grammar, Option
from cyrus_sync.multisite.commands import COMMANDS, status
from cyrus_sync.multisite.commands.context import COMMON_OPTIONS, EXIT_STATUS
from cyrus_sync.multisite.multitool import SHIPPING

MAN = Path(__file__).parents[3] / "docs/man"
SYNCREPLICA = (MAN / "syncreplica.8.md").read_text()
PAGES = {
    name: (MAN / f"{name}.8.md").read_text() for name in ("syncreplica", "sync_export_list", "sync_receive")
}
"""Commands that have a page of their own."""

MULTITOOL = (MAN / "multitool.8.md").read_text()
OPTION = re.compile(r"\*\*-\w+\*\*(?:/\*\*\w+\*\*)?")


def written(option: Option) -> str:
    """An option as the pages have it: **-scl**/**ass**."""
    head, slash, rest = option.spelling.partition("/")
    return f"**-{head}**/**{rest}**" if slash else f"**-{head}**"


def grammars(command: str) -> list[Grammar]:
    return [one.GRAMMAR for one in COMMANDS[command].load()]


def section(command: str) -> str:
    """What the page of multitool says of a command."""
    found = re.search(rf"^### {command}\n(.*?)(?=^##)", MULTITOOL, re.MULTILINE | re.DOTALL)
    assert found, command
    return found[1]


@pytest.mark.parametrize("command", [name for name in COMMANDS if name not in PAGES])
def test_every_option_of_a_command_is_in_its_section_and_no_other(command: str) -> None:
    known = {written(option) for grammar in grammars(command) for option in grammar.options}
    common = {written(option) for option in COMMON_OPTIONS}
    named = set(OPTION.findall(section(command)))
    assert known - common <= named
    others = {f"**-{option.name}**" for name in COMMANDS for g in grammars(name) for option in g.options}
    assert named <= known | others
    assert f"**multitool {command}" in section(command)


def test_every_common_option_is_explained_once_for_all() -> None:
    head = MULTITOOL.partition("## COMMANDS")[0]
    assert {written(option) for option in COMMON_OPTIONS} == set(OPTION.findall(head))


@pytest.mark.parametrize("command", PAGES)
def test_every_option_of_a_command_with_a_page_is_in_it_and_no_other(command: str) -> None:
    page = PAGES[command]
    options = page.partition("## OPTIONS")[2].partition("## OUTPUT")[0].partition("## EXIT STATUS")[0]
    heads = "\n".join(re.findall(r"^\*\*-.*", options, re.MULTILINE))
    known = {written(option) for grammar in grammars(command) for option in grammar.options}
    assert set(OPTION.findall(heads)) == known
    synopsis = page.partition("## SYNOPSIS")[2].partition("## DESCRIPTION")[0]
    assert set(OPTION.findall(synopsis)) <= known


def test_every_command_has_a_section_and_a_summary() -> None:
    commands = MULTITOOL.partition("## COMMANDS")[2].partition("## EXIT STATUS")[0]
    assert set(re.findall(r"^### (\w+)$", commands, re.MULTILINE)) == {*COMMANDS, *SHIPPING}
    assert all(entry.summary for entry in COMMANDS.values())


@pytest.mark.parametrize("page", [SYNCREPLICA, MULTITOOL])
def test_every_exit_status_is_explained(page: str) -> None:
    table = page.partition("## EXIT STATUS")[2].partition("## FILES")[0]
    assert re.findall(r"^\| (\d+) \|", table, re.MULTILINE) == re.findall(
        r"^  (\d+) ", EXIT_STATUS, re.MULTILINE
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_every_help_has_the_exit_statuses(command: str) -> None:
    for grammar in grammars(command):
        assert EXIT_STATUS in grammar.help() or status.EXIT_STATUS in grammar.help()


@pytest.mark.parametrize(
    "example",
    [
        line.strip()
        for page in (SYNCREPLICA, MULTITOOL)
        for line in page.partition("## EXAMPLES")[2].splitlines()
        if line.startswith("    ")
    ],
)
def test_every_example_is_a_command_line_that_makes_sense(example: str) -> None:
    words = shlex.split(example)
    name = words.pop(0)
    command = name if name == "syncreplica" else words.pop(0)
    assert name in ("syncreplica", "multitool")
    parsed = COMMANDS[command].chosen(words).GRAMMAR.parse(words)
    assert (
        parsed.operands
        or command in ("conflicts", "status", "lshistory", "dumpoplog")
        or "receive" in parsed
        or "all" in parsed
    )


@pytest.mark.parametrize("line", ["Generating synchronization packet", "- shipping order file is"])
def test_the_lines_that_are_printed_are_in_the_page(line: str) -> None:
    source = "".join(path.read_text() for path in (MAN.parents[1] / "multisite/commands").glob("*.py"))
    assert f"    {line} PATH" in SYNCREPLICA and line in source


@pytest.mark.parametrize("command", COMMANDS)
def test_the_commands_explain_themselves(command: str) -> None:
    module = "cyrus_sync.multisite.multitool"
    done = subprocess.run(
        [sys.executable, "-m", module, command, "-help"],
        check=True,
        capture_output=True,
        text=True,
        cwd=MAN.parents[1],
    )
    assert done.stdout.startswith("usage: ") and "exit status:" in done.stdout and not done.stderr
