"""setacl: give, change or take rights to a mailbox.

RIGHTS are letters as in imap(4) (lrswipkxtecdan); all, read, post, append, write, delete and none stand
for the usual sets; +x and -x add to and take from what there is. Without IDENTIFIER the rights are
listed."""

from __future__ import annotations

import argparse
import re

from cyrus_sync.common.errors import UsageError
from cyrus_sync.mailstore.context import StoreContext

_LETTERS = "lrswipkxtecdan0123456789"
_WORDS = {
    "all": "lrswipkxtecdan",
    "none": "",
    "read": "lrs",
    "post": "lrsp",
    "append": "lrsip",
    "write": "lrswipkxtecdn",
    "delete": "lrxted",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("mailbox", metavar="MAILBOX")
    parser.add_argument("identifier", metavar="IDENTIFIER", nargs="?", help="userid, anyone, or group:NAME")
    # Everything that is left, as rights such as -x look like an option.
    parser.add_argument("rights", metavar="RIGHTS", nargs=argparse.REMAINDER)


def run(args: argparse.Namespace, context: StoreContext) -> int:
    if args.identifier is None:
        with context.reading(args.mailbox) as (_, mailbox):
            for identifier, rights in entries(mailbox.acl).items():
                context.print(f"{identifier}\t{rights}")
        return 0
    if len(args.rights) != 1:
        raise UsageError("setacl: give RIGHTS, as one word (none takes all away)")
    if not args.identifier or re.search(r"[\t\r\n\0]", args.identifier):
        raise UsageError("setacl: that cannot be an IDENTIFIER")
    with context.writing(args.mailbox) as (writer, mailbox):
        had = entries(mailbox.acl).get(args.identifier, "")
        writer.set_acl(mailbox.name, args.identifier, _rights(args.rights[0], had))
    return 0


def entries(acl: str) -> dict[str, str]:
    """Rights by identifier."""
    parts = acl.split("\t")
    return dict(zip(parts[::2], parts[1::2], strict=False))


def _rights(typed: str, had: str) -> str:
    sign, letters = (typed[0], typed[1:]) if typed[:1] in "+-" and typed else ("", typed)
    letters = _WORDS.get(letters, letters)
    if bad := set(letters) - set(_LETTERS):
        raise UsageError(f"setacl: there is no right '{min(bad)}'")
    wanted = set(had) | set(letters) if sign == "+" else set(had) - set(letters) if sign else set(letters)
    return "".join(letter for letter in _LETTERS if letter in wanted)
