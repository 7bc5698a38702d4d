"""export: write a user's mail as a Maildir++ or as mbox files, or keep Maildirs in step for a Dovecot.

export USER DIR writes once, into a DIR that is empty or does not exist. maildir: as Dovecot keeps it, with
UIDs and UIDVALIDITY in dovecot-uidlist, so that clients of a Dovecot notice nothing; octet for octet as
stored, flags in the file names, keywords in dovecot-keywords (26 a folder, further ones in our own
cyrus-sync-keywords), internal dates as times of modification, subscriptions in the file "subscriptions". A
dot inside a name is written \\2e, as Dovecot's plugin listescape has it. mailstore import reads all of it
back. mbox: one file a mailbox, in mboxrd with LF line ends, flags in Status, X-Status and X-Keywords, UIDs
in X-UID; the list mailboxes.tsv says which file is which mailbox, and what is subscribed to. A message
whose octets an mbox cannot say (bare line feeds, no line end at its end, fields of those names) stands as
it is behind X-Mailstore-Octets. mailstore import brings back the same octets, order, UIDs, flags and dates.

export --follow DIR keeps a Maildir++ of every user in step with the store, so that a standby Dovecot can
serve them when the master is gone (docs/dovecot.md): first all of them, then whom the action log names, and
once a day all again. It goes on until a signal; SIGHUP has it look at everybody now. The log is that of the
channel "standby" (sync_log_channels). DIR may have %u, %n and %d in it, as Dovecot's mail_location; otherwise
the trees are DIR/%u. --update (USERs) and -A (all) do it once. Dovecot may run meanwhile: its own locks are
taken. A Maildir in which somebody else has written (users, after a failover) is named and not changed; --anew
then puts what the store has not into DIR.written-TIME, and goes on. Folders and users that the store has no
longer are put aside, and removed after --keep. The exit status is 1 if not all are in step.

export --status says how --follow fares, and who is not in step, why, since when and when it is tried again;
with USERs, whether each of them is in step, mailbox by mailbox. Its first line and its exit status are those
of a Nagios plug-in: 0 all is well, 1 somebody is not in step or a change waits for longer than --warning, 2
nothing follows the channel or a change waits for longer than --critical, 3 nothing ever has."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from cyrus_sync.common.counted import counted, mailboxes
from cyrus_sync.common.daemon import add_log_arguments, log_as_told
from cyrus_sync.common.errors import UsageError
from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores.mailstore import MailReader
from cyrus_sync.mailstore.context import StoreContext
from cyrus_sync.mailstore.errors import BadInput, NoSuchUser
from cyrus_sync.mailstore.standby import command as standby
from cyrus_sync.mailstore.targets.maildir import MaildirTarget
from cyrus_sync.mailstore.targets.mbox import MboxTarget
from cyrus_sync.mailstore.targets.walk import Target, export_owner

_TARGETS: dict[str, Callable[[Path, Callable[[str], None]], Target]] = {
    "maildir": MaildirTarget,
    "mbox": lambda path, notice: MboxTarget(path),
}


_FORMS = ("text", "json")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("users", metavar="USER", nargs="*", help="or shared:NAME")
    parser.add_argument(
        "directory", metavar="DIR", nargs="?", help="where to; with %%u, %%n, %%d for trees in step"
    )
    parser.add_argument(
        "--format", choices=(*_TARGETS, *_FORMS), help="default maildir; of --status: text (default) or json"
    )
    standby.add_arguments(parser)
    add_log_arguments(parser)


def run(args: argparse.Namespace, context: StoreContext) -> int:
    words = [*args.users, *filter(None, [args.directory])]
    if args.status:
        if args.update or args.everybody or args.follow or args.anew or args.format in _TARGETS:
            raise UsageError("export: --status takes USERs, -n, --format text or json, and nothing else")
        return standby.show_status(args, words, context)
    if args.format in _FORMS:
        raise UsageError(f"export: --format {args.format} is of --status")
    if not words:
        raise UsageError("export: where to? DIR is lacking")
    args.users, args.directory = words[:-1], words[-1]
    args.format = args.format or "maildir"
    if args.update or args.everybody or args.follow:
        if args.format != "maildir":
            raise UsageError("export: what is kept in step are Maildirs")
        if args.follow:
            log_as_told("mailstore", args, context.config)
        return standby.run(args, context)
    if len(args.users) != 1 or args.anew:
        raise UsageError("export: USER DIR, or one of --update, -A, --follow")
    return _write(args.users[0], Path(args.directory), args.format, context)


def _write(user: str, directory: Path, form: str, context: StoreContext) -> int:
    """One user, into an empty directory."""
    owner: Owner = context.owner(user)
    store = context.store(readonly=True)
    if not store.exists(owner):
        raise NoSuchUser(f"no such user: {user}")
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise BadInput(f"{directory} is there and not an empty directory")
    directory.mkdir(parents=True, exist_ok=True)
    target: Target = _TARGETS[form](directory, context.warn)
    reader: MailReader
    with store.read(owner) as reader:
        stats = context.care(readonly=True).stats(owner)
        total = stats.messages if stats else None
        with context.progress(f"exporting {user}", total=total) as meter:
            done = export_owner(reader, target, context.warn, meter)
    context.print(
        f"{counted(done.messages, 'message')} of {mailboxes(done.mailboxes)} written to {directory}"
    )
    return 1 if done.missing else 0
