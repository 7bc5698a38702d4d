"""Write the manual page mailstore(8) from the help of the commands.

``python -m cyrus_sync.mailstore.manual`` rewrites ``docs/man/mailstore.8.md`` of the checkout that it stands
in; ``--check`` only says whether it is in step (exit 1).
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from cyrus_sync.mailstore.cli import parser
from cyrus_sync.mailstore.commands import COMMANDS
from cyrus_sync.mailstore.errors import EXIT_STATUS

MANUAL = Path("docs/man/mailstore.8.md")

_HEAD = """\
# mailstore(8)

## NAME

mailstore - look at, fill, change, check and clean up a mail store

## SYNOPSIS

**mailstore** [**-C** *FILE*] *COMMAND* [*argument* …]

## DESCRIPTION

**mailstore** is the administrator's tool for a mail store of cyrus-sync. Changes are durable when the command
ends, and written to the action log (if `sync_log` is on), so that **sync_client**(8) replicates them.

Mailboxes are named and printed as an administrator of Cyrus knows them: `user/alice` is the INBOX of alice,
`user/alice/Work` a folder of hers, `board/Minutes` a shared mailbox; with `unixhierarchysep: no` a dot stands
for the slash. A domain stands at the userid: `user/joe@example.org/Work` (unless `virtdomains` is `off`); in
the name of a folder an `@` is a character like others. (In cyradm the domain stands at the end of all.)
Letters beyond ASCII may be typed as they are, and are printed in modified UTF-7, as the protocol has them.
USER is a userid (`alice`, `joe@example.org`); where a shared mailbox can be meant too, it is `shared:board`.

What is printed can be typed, and means that mailbox only. What would be taken for something else is printed
with `^` (with `unixhierarchysep: no`, in mailbox names, with `/`) and the hex number of a character:
`user/joe^40example.org` is a user without a domain who has an `@` in his name. `^@` is the `@` of a domain
where a plain one is not. New mailboxes get names that a Cyrus would create; why one is refused is said.

**-C** *FILE*
:   Read this instead of `/etc/imapd.conf`.

**--version**
:   Print the version and end.

## COMMANDS
"""

_TAIL = """\
## EXIT STATUS

{exit_status}

## FILES

`partition-`*name*, *configdirectory*`/store`
:   The store. Its format is described in `docs/store-format.md`.

*configdirectory*`/sync/log`, *configdirectory*`/sync/`*channel*`/log`
:   The action log.

*configdirectory*`/sync_passwd`
:   The passwords (`sync_passwd_file`).

## EXAMPLES

A new user, his old mail, and a password for replication:

    mailstore create user/alice
    mailstore import alice /home/alice/Maildir
    echo s3cret | mailstore passwd replicator

What a mail server does with a message (here an alias of Postfix):

    alice: "|/usr/local/bin/mailstore deliver alice"

Are two servers the same?

    mailstore dump | sha256sum

What alice had, back to a new server; and what she expunged since yesterday, in a folder apart:

    mailstore restore alice --to imap.example.org
    mailstore restore user/alice --as user/alice/Found --expunged --since 1d --to imap.example.org

Every night:

    mailstore expire --retention 14d && mailstore verify

## SEE ALSO

imapd.conf(5), sync_client(8), sync_server(8), sync_reset(8), cyr_synclog(8)
"""


def manual_text() -> str:
    """The whole of ``docs/man/mailstore.8.md``."""
    parts = [_HEAD]
    for name, command in _subparsers().items():
        parts.append(f"\n### {name}\n\n")
        parts.append(f"**mailstore {name}** {_synopsis(command)}\n\n".replace(" \n", "\n"))
        summary, _, more = (command.description or "").strip().partition("\n\n")
        parts.append(f"{_prose(summary[0].upper() + summary[1:])}\n")
        if more:
            parts.append(f"\n{_prose(more)}\n")
        for entry in _arguments(command):
            parts.append(f"\n{entry}\n")
    status = EXIT_STATUS.removeprefix("EXIT STATUS\n")
    entries = [line.strip().partition(" ") for line in status.strip().splitlines()]
    listed = "\n\n".join(f"**{number}**\n:   {text.strip()}." for number, _, text in entries)
    return "".join(parts) + "\n" + _TAIL.format(exit_status=listed)


def _subparsers() -> dict[str, argparse.ArgumentParser]:
    for action in parser(*COMMANDS)._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    raise LookupError("mailstore has no subcommands")


def _shown(command: argparse.ArgumentParser) -> list[argparse.Action]:
    return [action for action in command._actions if not isinstance(action, argparse._HelpAction)]


def _value(action: argparse.Action) -> str:
    if action.choices:
        return "|".join(str(choice) for choice in action.choices)
    return str(action.metavar or action.dest.upper())


def _synopsis(command: argparse.ArgumentParser) -> str:
    words = []
    for action in _shown(command):
        if action.option_strings:
            value = "" if action.nargs == 0 else f" *{_value(action)}*"
            words.append(f"[**{action.option_strings[-1]}**{value}]")
        else:
            name = f"*{_value(action)}*"
            shape = {"?": f"[{name}]", "*": f"[{name} …]", "+": f"{name} …", argparse.REMAINDER: f"[{name}]"}
            words.append(shape.get(str(action.nargs), name))
    return " ".join(words)


def _arguments(command: argparse.ArgumentParser) -> Iterator[str]:
    for action in _shown(command):
        if not action.help and not action.option_strings:
            continue
        if action.option_strings:
            value = "" if action.nargs == 0 else f" *{_value(action)}*"
            head = ", ".join(f"**{option}**{value}" for option in action.option_strings)
        else:
            head = f"*{_value(action)}*"
        text = action.help or f"One of them; default {action.default}"
        yield f"{head}\n:   {_prose(text[0].upper() + text[1:])}."


def _prose(text: str) -> str:
    """Help text as Markdown: flags and stars are no markup."""
    return re.sub(r"([*\\_<])", r"\\\1", text)


def main(argv: Sequence[str] | None = None) -> int:
    """Write or check the page below the current directory."""
    arguments = argparse.ArgumentParser(prog="python -m cyrus_sync.mailstore.manual", description=__doc__)
    arguments.add_argument("--check", action="store_true", help="write nothing, exit 1 if not in step")
    check = arguments.parse_args(argv).check
    text = manual_text()
    if MANUAL.exists() and MANUAL.read_text(encoding="utf-8") == text:
        return 0
    if check:
        print(f"{MANUAL} is not in step with the help of the commands", file=sys.stderr)
        return 1
    MANUAL.parent.mkdir(parents=True, exist_ok=True)
    MANUAL.write_text(text, encoding="utf-8")
    print(f"wrote {MANUAL}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
