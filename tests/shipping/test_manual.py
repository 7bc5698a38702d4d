"""The manual pages say what the commands do: every option, every entry, every exit status."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from cyrus_sync.common.one_dash import Grammar
from cyrus_sync.shipping import cli, mkorder
from cyrus_sync.shipping.conf import KEYWORDS, parse_conf

MAN = Path(__file__).parents[2] / "docs/man"
PAGES = {
    "shipping_server": ((MAN / "shipping_server.8.md").read_text(), cli.GRAMMAR),
    "mkorder": ((MAN / "mkorder.8.md").read_text(), mkorder.GRAMMAR),
}
CONF = (MAN / "shipping.conf.5.md").read_text()


def written(spelling: str) -> str:
    """An option as the page has it: **-scl**/**ass**."""
    head, slash, rest = spelling.partition("/")
    return f"**-{head}**/**{rest}**" if slash else f"**-{head}**"


@pytest.mark.parametrize("page", PAGES)
def test_every_option_is_in_the_page_and_no_other(page: str) -> None:
    text, grammar = PAGES[page]
    options = text.partition("## OPTIONS")[2].partition("## EXIT STATUS")[0]
    named = set(re.findall(r"\*\*-[\w]+\*\*(?:/\*\*\w+\*\*)?(?= \*|\n|,)", options))
    known = {written(option.spelling) for option in grammar.options}
    assert known <= named
    full = {f"**-{option.name}**" for option in grammar.options}
    assert named <= known | full


@pytest.mark.parametrize(
    ("page", "example"),
    [
        (page, line.strip())
        for page, (text, _) in PAGES.items()
        for line in text.partition("## EXAMPLES")[2].splitlines()
        if line.startswith("    ")
    ],
)
def test_every_example_is_a_command_line_that_makes_sense(page: str, example: str) -> None:
    grammar: Grammar = PAGES[page][1]
    words = shlex.split(example)
    assert words[0] == page
    parsed = grammar.parse(words[1:])
    if page == "mkorder":
        mkorder._check(parsed)


@pytest.mark.parametrize("status", ["0", "1", "64", "75", "78"])
@pytest.mark.parametrize("page", PAGES)
def test_every_exit_status_is_explained(page: str, status: str) -> None:
    text, grammar = PAGES[page]
    assert re.search(rf"^\| {status} \|", text, re.MULTILINE)
    assert re.search(rf"^  {status}\s", grammar.help(), re.MULTILINE)


@pytest.mark.parametrize("keyword", KEYWORDS)
def test_every_entry_of_shipping_conf_is_explained(keyword: str) -> None:
    assert f"`{keyword}` " in CONF


def test_the_example_of_shipping_conf_is_valid() -> None:
    example = CONF.partition("## EXAMPLE")[2].partition("## SEE")[0]
    assert parse_conf(example, Path("example")).downhost_timeout == 1800


@pytest.mark.parametrize("name", ["cli", "mkorder"])
def test_the_commands_explain_themselves(name: str) -> None:
    module = f"cyrus_sync.shipping.{name}"
    done = subprocess.run([sys.executable, "-m", module, "-help"], check=True, capture_output=True, text=True)
    assert done.stdout.startswith("usage: ") and "exit status:" in done.stdout and not done.stderr


def test_the_unit_runs_a_command_line_that_makes_sense() -> None:
    unit = (MAN.parents[1] / "etc/shipping_server.service").read_text()
    (command,) = re.findall(r"^ExecStart=/usr/local/bin/shipping_server (.*)$", unit, re.MULTILINE)
    assert "receiver" in cli.GRAMMAR.parse(shlex.split(command))
    assert "Type=notify" in unit
