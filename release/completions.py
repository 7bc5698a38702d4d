"""Completions for bash, zsh and fish: those of argparse by shtab, one-dash grammars as argparse has them."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import shtab

from cyrus_sync.common.one_dash import Grammar
from cyrus_sync.common.synclog import cli as cyr_synclog
from cyrus_sync.mailstore import cli as mailstore
from cyrus_sync.mailstore import reset as sync_reset
from cyrus_sync.mailstore.commands import COMMANDS as MAILSTORE
from cyrus_sync.multisite import multitool
from cyrus_sync.multisite.commands import COMMANDS as MULTITOOL
from cyrus_sync.shipping import cli as shipping_server
from cyrus_sync.shipping import mkorder
from cyrus_sync.sync_client import arguments as sync_client
from cyrus_sync.sync_server import cli as sync_server
from cyrus_sync.tool import cli as cyrus_sync
from cyrus_sync.tool.commands import COMMANDS as TOOL

_FILES = {"FILE", "PATH", "file", "path", "order-path", "packet-file"}
_DIRECTORIES = {"DIR", "DIRECTORY", "directory"}


def documents(_root: Path) -> dict[Path, str]:
    """``bash-completion/completions/sync_client`` and the others."""
    found: dict[Path, str] = {}
    for program, parser in parsers().items():
        _say_what_is_a_file(parser)
        bash = shtab.complete(parser, "bash")
        zsh = shtab.complete(parser, "zsh")
        found[Path("bash-completion/completions") / program] = bash
        found[Path("zsh/site-functions") / f"_{program}"] = zsh
        found[Path("fish/vendor_completions.d") / f"{program}.fish"] = "".join(fish(program, parser))
    return found


def parsers() -> dict[str, argparse.ArgumentParser]:
    """The command line of each program."""
    return {
        "sync_client": sync_client.parser(),
        "sync_server": sync_server.parser(),
        "mailstore": mailstore.parser(*MAILSTORE),
        "cyrus-sync": cyrus_sync.parser(*TOOL),
        "cyr_synclog": cyr_synclog.parser(),
        "sync_reset": sync_reset.parser(),
        "shipping_server": one_dash("shipping_server", shipping_server.GRAMMAR),
        "mkorder": one_dash("mkorder", mkorder.GRAMMAR),
        "syncreplica": one_dash("syncreplica", *_grammars("syncreplica")),
        "sync_export_list": one_dash("sync_export_list", *_grammars("sync_export_list")),
        "sync_receive": one_dash("sync_receive", *_grammars("sync_receive")),
        "multitool": _multitool(),
    }


def _grammars(command: str) -> list[Grammar]:
    return [module.GRAMMAR for module in MULTITOOL[command].load()]


def _multitool() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="multitool", add_help=False)
    parser.add_argument("-help", action="store_true", help="the commands")
    parser.add_argument("-version", action="store_true", help="print the version and end")
    commands = parser.add_subparsers(metavar="COMMAND")
    for name, entry in MULTITOOL.items():
        _add(commands.add_parser(name, help=entry.summary, add_help=False), *_grammars(name))
    for name, grammar in (("mkorder", mkorder.GRAMMAR), ("shipping_server", shipping_server.GRAMMAR)):
        _add(commands.add_parser(name, help=multitool.SHIPPING[name], add_help=False), grammar)
    return parser


def one_dash(program: str, *grammars: Grammar) -> argparse.ArgumentParser:
    """Grammars of one command as argparse has them: options in full, operands as files."""
    parser = argparse.ArgumentParser(prog=program, add_help=False)
    _add(parser, *grammars)
    return parser


def _add(parser: argparse.ArgumentParser, *grammars: Grammar) -> None:
    for option in dict.fromkeys(option for grammar in grammars for option in grammar.options):
        spelling = f"-{option.name}"
        if spelling in parser._option_string_actions:
            continue
        if option.argument:
            parser.add_argument(spelling, metavar=option.argument, help=option.help)
        else:
            parser.add_argument(spelling, action="store_true", help=option.help)
    parser.add_argument("operands", metavar="file", nargs="*")


def _say_what_is_a_file(parser: argparse.ArgumentParser) -> None:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                _say_what_is_a_file(command)
        elif action.metavar in _FILES:
            action.complete = shtab.FILE  # type: ignore[attr-defined] # shtab reads it from the action
        elif action.metavar in _DIRECTORIES:
            action.complete = shtab.DIRECTORY  # type: ignore[attr-defined] # as above


# -- fish, which shtab does not know


def fish(program: str, parser: argparse.ArgumentParser) -> Iterator[str]:
    """The lines that teach fish a command line."""
    yield f"# Completions of {program} for fish.\n"
    for action in parser._actions:
        if not isinstance(action, argparse._SubParsersAction):
            continue
        summaries = {choice.dest: choice.help or "" for choice in action._choices_actions}
        yield f"complete -c {program} -f\n"
        for name, command in action.choices.items():
            yield f"complete -c {program} -n __fish_use_subcommand -a {name} -d {_quoted(summaries[name])}\n"
            yield from _options(program, command, f"__fish_seen_subcommand_from {name}")
    yield from _options(program, parser, "")


def _options(program: str, parser: argparse.ArgumentParser, condition: str) -> Iterator[str]:
    for action in parser._actions:
        words = [f"complete -c {program}"]
        if condition:
            words.append(f"-n '{condition}'")
        if not action.option_strings:
            if condition and action.metavar in _FILES | _DIRECTORIES:
                yield " ".join([*words, "-F"]) + "\n"
            continue
        for option in action.option_strings:
            kind = "-l" if option.startswith("--") else "-s" if len(option) == 2 else "-o"
            words.append(f"{kind} {option.lstrip('-')}")
        if action.nargs != 0:
            words.append("-r -F" if action.metavar in _FILES | _DIRECTORIES else "-x")
            if action.choices:
                words.append(f"-a {_quoted(' '.join(map(str, action.choices)))}")
        if action.help and action.help != argparse.SUPPRESS:
            words.append(f"-d {_quoted(action.help.replace('%%', '%'))}")
        yield " ".join(words) + "\n"


def _quoted(text: str) -> str:
    """For fish, where a backslash within single quotes escapes."""
    text = " ".join(text.split()).replace("\\", "\\\\").replace("'", "\\'")
    return f"'{text}'"
