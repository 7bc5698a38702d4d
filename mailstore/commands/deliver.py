"""deliver: put one message from standard input into a mailbox, as lmtpd(8) would.

When the command has ended with 0, the message is on disk and in the action log. Line ends become CRLF, a
"From " line of an mbox in front is dropped. The internal date is the present time. What is then printed may
be lost (a closed pipe, a full disk): the status stays 0. A large message is read and stored in pieces.

The exit status is made for an MTA, which tries again after 75 and sends the message back after others: 67 if
there is no such user or mailbox, 65 if the message cannot be one, 64 if the command line makes no sense. All
else is 75: over quota, a full disk, a lock, a damaged index, a partition that is not mounted, rights that are
missing, a bad configuration, a mistake of this program."""

from __future__ import annotations

import argparse
import contextlib
import re
import time
import traceback
from itertools import chain

from cyrus_sync.common.commands import disregard_output, reason
from cyrus_sync.common.errors import EX_TEMPFAIL, CyrusSyncError, UsageError
from cyrus_sync.common.names import owner_of
from cyrus_sync.common.stores.mailstore import MailReader
from cyrus_sync.common.stores.quotas import excess
from cyrus_sync.mailstore.arriving import arriving, without_postmark
from cyrus_sync.mailstore.context import StoreContext
from cyrus_sync.mailstore.errors import BadInput, OverQuota, delivery_status
from cyrus_sync.mailstore.flags import flag_text
from cyrus_sync.mailstore.sources.content import Changed, as_body, crlf_pieces

_ADDRESS = re.compile(r"[\x20-\x3b\x3d\x3f-\x7e]{0,900}")
"""Printable ASCII without angle brackets; a line of a header has 998 octets at most (RFC 5322, 2.1.1)."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("user", metavar="USER")
    parser.add_argument(
        "-m",
        "--mailbox",
        metavar="MAILBOX",
        help="below the user's INBOX (Work/2026), or a full name (user/alice/Work); default INBOX",
    )
    parser.add_argument(
        "-f",
        "--flag",
        dest="flags",
        metavar="FLAG",
        action="append",
        default=[],
        help="set this flag or keyword (may be repeated)",
    )
    parser.add_argument("-q", "--ignore-quota", action="store_true", help="deliver even over quota")
    parser.add_argument(
        "-r", "--return-path", metavar="ADDRESS", help="put a Return-Path header field in front"
    )


def run(args: argparse.Namespace, context: StoreContext) -> int:
    try:
        context.check_changes()  # here, so that its failure has the status that an MTA needs, too
        return _deliver(args, context)
    except KeyboardInterrupt:
        context.warn("interrupted")
        return EX_TEMPFAIL
    except (CyrusSyncError, OSError) as error:
        context.warn(reason(error))
        return delivery_status(error)
    except Exception as error:  # nobody's mail goes back to its sender for a mistake of ours
        context.warn(f"unexpected {type(error).__name__}: {error}")
        traceback.print_exc(file=context.stderr)
        return delivery_status(error)


def _deliver(args: argparse.Namespace, context: StoreContext) -> int:
    user = context.user(args.user)
    inbox = context.require_user(user)
    name = mailbox_of(args.mailbox, inbox, context)
    header = b"" if args.return_path is None else _return_path(args.return_path)
    flags = flag_text(args.flags)
    try:
        pieces = arriving(context.stdin, context.care().scratch())
        message = as_body(Changed(pieces, lambda raw: chain([header], crlf_pieces(without_postmark(raw)))))
        size = len(message) if isinstance(message, bytes) else message.size
        if size == len(header):
            raise BadInput("the message is empty")
        with context.write(owner_of(name)) as writer:
            context.require(writer, name)
            if not args.ignore_quota:
                check_quota(writer, name, size, context)
            (uid,) = writer.append(name, [(message, int(time.time()), flags)])
    except CyrusSyncError as error:
        raise error.at(user=context.owner_name(user), mailbox=context.external(name)) from error.__cause__
    # It is done: whoever starts us must not hear that it failed because he does not read what we print.
    disregard_output()
    with contextlib.suppress(OSError, ValueError):
        context.print(f"{context.external(name)} {uid}")
    return 0


def _return_path(typed: str) -> bytes:
    """A Return-Path field. Raises `UsageError` for what is no address, or would be more than one field."""
    address = typed.removeprefix("<").removesuffix(">")
    local, at, domain = address.rpartition("@")
    with contextlib.suppress(UnicodeError):
        domain = domain.encode("idna").decode("ascii") if not domain.isascii() else domain
    address = f"{local}{at}{domain}"
    if not _ADDRESS.fullmatch(address):
        raise UsageError(f"-r: {typed!a} is no address that a Return-Path can hold")
    return f"Return-Path: <{address}>\r\n".encode("ascii")


def mailbox_of(typed: str | None, inbox: str, context: StoreContext) -> str:
    """The internal name of MAILBOX, which is below the INBOX unless it begins at the top."""
    if typed is None or typed.upper() == "INBOX":
        return inbox
    names = context.namespace
    if typed.startswith(f"user{names.separator}"):
        return names.internal(typed)
    return names.below(inbox, typed)


def check_quota(reader: MailReader, name: str, octets: int, context: StoreContext) -> None:
    """Raise `OverQuota` if one more message of that size exceeds a limit of the innermost quota root."""
    root, limit = excess(reader, name, octets=octets, messages=1)
    if root:
        raise OverQuota(f"{context.external(root)} is over quota: {limit}")
