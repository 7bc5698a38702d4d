"""Every option, key, verb, reply and status that there is is promised, and each promise has its tests."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator

import pytest

from cyrus_sync.common import errors
from cyrus_sync.common.config.options import HOST_OPTIONS, OPTIONS, shipping
from cyrus_sync.common.errors import REPLY_ERRORS, CyrusSyncError
from cyrus_sync.common.judgement import CRITICAL, OK, UNKNOWN, WARNING
from cyrus_sync.common.names import BadName
from cyrus_sync.common.protocol.commands import COMMANDS, SESSION_VERBS
from cyrus_sync.common.synclog import cli as cyr_synclog
from cyrus_sync.common.synclog.lines import ARGUMENTS
from cyrus_sync.common.wire import replies as sasl_replies
from cyrus_sync.mailstore import cli as mailstore
from cyrus_sync.mailstore import reset
from cyrus_sync.mailstore.commands import COMMANDS as MAILSTORE_COMMANDS
from cyrus_sync.sync_client import arguments as sync_client
from cyrus_sync.sync_server import cli as sync_server
from cyrus_sync.sync_server import handlers, replies
from cyrus_sync.tool import cli as tool
from tests import covers

SHIPPING = {option.name for option in shipping.OPTIONS}
"""Its programs have a list of their own, tests/shipping/test_checklist.py."""


# -- what there is


def options(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Its options; those of a subcommand, and its actions, behind their command's name."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, command in action.choices.items():
                yield name
                yield from (
                    f"{name} {option}" for option in options(command) if option not in ("-h", "--help")
                )
        elif action.option_strings:
            yield from action.option_strings
        elif action.choices:
            yield from action.choices


def statuses(program: str, text: str) -> Iterator[str]:
    """The numbers of the paragraph on exit statuses at the end of a program's help."""
    paragraph = re.split(r"exit status:?\n", text, flags=re.IGNORECASE)[1].split("\n\n")[0]
    return (f"{program} {number}" for number in re.findall(r"(?:^|\s)\s(\d+)  ", paragraph))


def texts_of(module: object) -> Iterator[str]:
    return (value.decode() for value in vars(module).values() if isinstance(value, bytes))


ROLES = ("promote", "demote", "rescue")
"""Of the subcommands of cyrus-sync those that change who is the master."""


def wanted() -> dict[str, set[str]]:
    """By section what must stand there, from the tables that the programs work by."""
    return {
        "sync_client: options": set(options(sync_client.parser())),
        "sync_server: options": set(options(sync_server.parser())),
        "cyr_synclog: options": set(options(cyr_synclog.parser())),
        "sync_reset: options": set(options(reset.parser())),
        "mailstore: commands and options": set(options(mailstore.parser(*MAILSTORE_COMMANDS))),
        "cyrus-sync: commands and options": {
            entry for entry in options(tool.parser(*ROLES)) if entry.partition(" ")[0] in ROLES
        },
        "imapd.conf": {
            *(name for name, option in OPTIONS.items() if name not in SHIPPING),
            *(f"<host>_{name}" for name in HOST_OPTIONS),
            *("partition-<name>", "<channel>_<key>", "<program>_<key>", "@include"),
        },
        "Commands of the session": set(SESSION_VERBS),
        "Capabilities": {"SASL", "STARTTLS", "COMPRESS DEFLATE", "REPLICATION-ARCHIVE", *handlers.GRANTED},
        "GET, APPLY, RESTORE": {command.title for command in COMMANDS.values()}
        | {f"{command.verb} LOCAL_{command.name}" for command in COMMANDS.values() if command.local},
        "Codes after NO": {*REPLY_ERRORS, BadName.code, "Unknown error"},
        "Replies of the session": {
            *texts_of(replies),
            *texts_of(sasl_replies),
            *(sasl_replies.success(ssf, bool(ssf)).decode() for ssf in (0, 256)),
            replies.unknown_compression(b"X").decode(),
            replies.missing_argument("X").decode(),
            replies.extra_arguments("X").decode(),
            replies.unparsable("X").decode(),
            replies.not_imap(b"X").decode(),
            replies.fatal("X").decode(),
            replies.bye("X").decode(),
        },
        "Other errors": {
            name
            for name, error in vars(errors).items()
            if isinstance(error, type)
            and issubclass(error, CyrusSyncError)
            and error not in REPLY_ERRORS.values()
        },
        "Lines of the action log": set(ARGUMENTS),
        "Exit statuses": {
            *statuses("sync_client", sync_client.EPILOG),
            *(f"sync_client --status {status}" for status in (OK, WARNING, CRITICAL, UNKNOWN)),
            *statuses("sync_server", sync_server.parser().format_help()),
            *statuses("mailstore", mailstore.parser().format_help()),
            *statuses("cyr_synclog", cyr_synclog.EXIT_STATUS),
            *statuses("sync_reset", reset.EXIT_STATUS),
        },
        "What the manual pages of sync_server and sync_client promise": {str(n) for n in range(54, 69)},
        "What a robust server minds": {str(n) for n in range(1, 13)},
        "Old mail in an object store: what is lost when": {str(n) for n in range(1, 8)},
        "Two hosts, as an administrator types it": {"two hosts", "another host"},
        "A fleet: losing a part of it": {str(n) for n in range(1, 13)},
        "Replication by packets: the acceptance list": {str(n) for n in range(1, 54)},
    }


PROMISED = {section.title: section.promises for section in covers.sections() if section.promises}
KEYS = {covers.Key(title, promise.entries[0]) for title, promises in PROMISED.items() for promise in promises}


# -- the tests


@pytest.mark.parametrize("section", wanted())
def test_everything_that_there_is_is_promised_and_nothing_else(section: str) -> None:
    there = [entry for promise in PROMISED[section] for entry in promise.entries]
    assert len(there) == len(set(there)), "twice"
    assert set(there) == wanted()[section]


def test_every_section_is_compared() -> None:
    assert set(PROMISED) == set(wanted())


def test_every_promise_has_a_test() -> None:
    assert KEYS - {key for key, _ in covers.marks()} == set()


def test_every_mark_names_a_promise() -> None:
    assert [(key, test) for key, test in covers.marks() if key not in KEYS] == []


def test_the_document_is_in_step() -> None:
    assert covers.DOCUMENT.read_text(encoding="utf-8") == covers.document(), covers.HINT
