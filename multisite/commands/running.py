"""Running a subcommand of multitool: which module its words are for, and what they ask of it."""

from __future__ import annotations

from collections.abc import Sequence

from cyrus_sync.common.commands import Misuse, version_text
from cyrus_sync.common.errors import EX_OK, UsageError
from cyrus_sync.common.one_dash import HELP, VERSION, run_words, wants
from cyrus_sync.multisite.commands import COMMANDS
from cyrus_sync.multisite.commands.context import Context


def run(name: str, words: Sequence[str]) -> int:
    """Run the command of this name; the exit status. Raises what `common.commands` makes a status of."""
    entry = COMMANDS[name]
    try:
        command = entry.chosen(words)
    except UsageError as error:
        grammars = [one.GRAMMAR for one in entry.load()]
        if any(wants(word, HELP) for word in words):
            print("\n\n".join(grammar.help() for grammar in grammars))
            return EX_OK
        if any(wants(word, VERSION) for word in words):
            print(version_text(name))
            return EX_OK
        raise Misuse(str(error), name, "\n".join(grammar.usage() for grammar in grammars)) from None
    return run_words(name, command.GRAMMAR, words, lambda options: command.run(Context(name, options)))
