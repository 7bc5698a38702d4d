"""deliver: put one message from standard input into a mailbox, as lmtpd(8) would.

When the command has ended with 0, the message is on disk and in the action log. Line ends become CRLF, a
"From " line of an mbox in front is dropped. The internal date is the present time.

The exit status is made for an MTA, which tries again after 75 and sends the message back after others: 67 if
there is no such user or mailbox, 65 if the message cannot be one, 64 if the command line makes no sense. All
else is 75: over quota, a full disk, a lock, a damaged index, a partition that is not mounted, rights that are
missing, a bad configuration, a mistake of this program."""

from __future__ import annotations

import argparse
import time
import traceback

from common.errors import EX_TEMPFAIL, CyrusSyncError
from common.names import owner_of
from common.stores.mailstore import MailReader
from mailstore.context import Context
from mailstore.errors import BadInput, OverQuota, delivery_status
from mailstore.flags import flag_text
from mailstore.sources.content import to_crlf


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


def run(args: argparse.Namespace, context: Context) -> int:
    try:
        return _deliver(args, context)
    except KeyboardInterrupt:
        context.warn("interrupted")
        return EX_TEMPFAIL
    except (CyrusSyncError, OSError) as error:
        context.warn(str(error))
        return delivery_status(error)
    except Exception as error:  # nobody's mail goes back to its sender for a mistake of ours
        context.warn(f"unexpected {type(error).__name__}: {error}")
        traceback.print_exc(file=context.stderr)
        return delivery_status(error)


def _deliver(args: argparse.Namespace, context: Context) -> int:
    user = context.user(args.user)
    inbox = context.require_user(user)
    name = mailbox_of(args.mailbox, inbox, context)
    raw = context.stdin.read()
    if raw.startswith(b"From "):
        raw = raw.partition(b"\n")[2]
    if not raw:
        raise BadInput("the message is empty")
    if b"\0" in raw:
        raise BadInput("the message has a NUL octet in it")
    raw = to_crlf(raw)
    if args.return_path is not None:
        raw = f"Return-Path: <{args.return_path.strip('<>')}>\r\n".encode() + raw
    flags = flag_text(args.flags)
    with context.write(owner_of(name)) as writer:
        context.require(writer, name)
        if not args.ignore_quota:
            check_quota(writer, name, len(raw), context)
        (uid,) = writer.append(name, [(raw, int(time.time()), flags)])
    context.print(f"{context.external(name)} {uid}")
    return 0


def mailbox_of(typed: str | None, inbox: str, context: Context) -> str:
    """The internal name of MAILBOX, which is below the INBOX unless it begins at the top."""
    if typed is None or typed.upper() == "INBOX":
        return inbox
    names = context.namespace
    if typed.startswith(f"user{names.separator}"):
        return names.internal(typed)
    return names.below(inbox, typed)


def check_quota(reader: MailReader, name: str, octets: int, context: Context) -> None:
    """Raise `OverQuota` if one more message of that size exceeds a limit of the innermost quota root."""
    roots = {quota.root: quota.limits for quota in reader.quotas()}
    root = name
    while root and root not in roots:
        root = root.rpartition(".")[0]
    if not root:
        return
    used = next(usage.used for usage in reader.usage() if usage.root == root)
    storage = roots[root].get("STORAGE")
    if storage is not None and used.get("STORAGE", 0) + octets > storage * 1024:
        raise OverQuota(f"{context.external(root)} is over quota: {storage} KiB")
    messages = roots[root].get("MESSAGE")
    if messages is not None and used.get("MESSAGE", 0) >= messages:
        raise OverQuota(f"{context.external(root)} is over quota: {messages} messages")
