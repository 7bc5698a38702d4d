"""import: put mail from a Maildir, an mbox file or a tree of .eml files into a mailbox and its folders.

A tree may hold .eml and .emlx files (Apple Mail, with its flags), MH folders, Maildirs, mbox and MMDF files;
what else is in it is counted and named. In an mbox a message begins at a line "From sender date" in any
form that mail programs write; a Content-Length is believed where it ends at such a line. One ">" is
taken from lines ">From " (mboxrd; files in the older ways, mboxo and mboxcl, cannot tell a ">" that was
theirs from one that was the message's). What Thunderbird has marked as deleted is left out.

TARGET is USER or USER/MAILBOX (shared:NAME for a shared mailbox); folders of the source are made below
it. Flags, keywords and internal dates are kept. Messages that the mailbox has already are passed over,
so an import that was interrupted can be run again. Line ends become CRLF, except in a file whose first
line ends in CRLF: that is taken as it is. A message that has to be left out is named on standard error,
and the exit status is then 1.

A Maildir that Dovecot or Courier has served keeps its UIDs and UIDVALIDITY in mailboxes that hold nothing
yet, so that clients notice nothing.

A later import of the same source says what differs since the last one: flags, messages and folders that are
gone (exit status 1). With --update it follows: flags become those of the source, messages that came from
it and are gone there are expunged, folders that were renamed there are renamed, those that are gone
deleted (unexpunge and undelete bring them back). What did not come from the source is left alone."""

from __future__ import annotations

import argparse
from pathlib import Path

from cyrus_sync.common.counted import counted, mailboxes
from cyrus_sync.common.names import inbox_of, is_inbox, owner_of
from cyrus_sync.mailstore.context import StoreContext
from cyrus_sync.mailstore.earlier import Earlier, EarlierImports
from cyrus_sync.mailstore.errors import NoSuchMailbox, NoSuchUser
from cyrus_sync.mailstore.importer import Imported, Importer
from cyrus_sync.mailstore.sources import open_source


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("target", metavar="TARGET")
    parser.add_argument("path", metavar="PATH", type=Path)
    parser.add_argument("--create", action="store_true", help="make the user or mailbox if it does not exist")
    parser.add_argument("--update", action="store_true", help="follow what has changed in the source since")
    parser.add_argument(
        "--no-progress",
        action="store_true",
        help="no progress line (there is none where standard error is no terminal)",
    )


def run(args: argparse.Namespace, context: StoreContext) -> int:
    target = target_of(args.target, context)
    problems: dict[str, None] = {}

    def report(problem: str) -> None:
        if problem not in problems:  # a source may have to be read twice
            problems[problem] = None
            context.warn(problem)

    source = open_source(args.path, report)
    _check_target(target, args.create, context)
    title = f"importing {args.path.name}"
    with context.progress(title, total=source.size(), unit="octets", silent=args.no_progress) as meter:
        inbox = source.counters(())
        memory = EarlierImports(
            context.config.configdirectory, target, args.path, inbox.guid if inbox else ""
        )
        earlier = _load(memory, context)
        importer = Importer(
            context.store(),
            target,
            meter.advance,
            report=report,
            notice=context.warn,
            earlier=earlier,
            update=args.update,
        )
        done = importer.run(source)
    memory.save(earlier)
    for wanted, name in done.renamed.items():
        level = wanted.rpartition(".")[2]
        context.warn(f"{context.external(name)}: a Cyrus would create no mailbox called {level}")
    if done.redated:
        context.warn(
            f"{done.redated} messages have dates outside of 1970 to 2106, which Cyrus cannot keep: "
            "they got the nearest that it can"
        )
    context.print(_summary(done))
    return 1 if problems else 0


def _load(memory: EarlierImports, context: StoreContext) -> Earlier:
    try:
        return memory.load()
    except ValueError as error:
        context.warn(f"{memory.path} is damaged ({error}): what earlier imports brought is not known")
        return Earlier()


def _summary(done: Imported) -> str:
    text = f"{counted(done.messages, 'message')} imported into {mailboxes(len(done.mailboxes))}"
    counts = {
        "were there already": done.present,
        "got other flags": done.changed,
        "expunged": done.expunged,
        "mailboxes renamed": done.moved,
        "mailboxes deleted": done.deleted,
    }
    return text + "".join(f", {count} {what}" for what, count in counts.items() if count)


def target_of(typed: str, context: StoreContext) -> str:
    """The internal name of TARGET."""
    names = context.namespace
    if typed.startswith("shared:"):
        return names.internal(typed.removeprefix("shared:"))
    if typed.startswith(f"user{names.separator}"):
        return names.internal(typed)
    userid, slash, below = typed.partition("/")
    name = inbox_of(names.userid(userid))
    return names.below(name, below) if slash else name


def _check_target(target: str, create: bool, context: StoreContext) -> None:
    owner = owner_of(target)
    with context.store(readonly=True).read(owner) as reader:
        missing = [] if reader.mailbox(target) else [target]
        if owner.kind == "user" and not is_inbox(target) and not reader.mailbox(inbox_of(owner.name)):
            missing.insert(0, inbox_of(owner.name))
    if not missing:
        return
    if not create:
        if owner.kind == "user" and is_inbox(missing[0]):
            raise NoSuchUser(f"no such user: {context.owner_name(owner)} (--create makes one)")
        raise NoSuchMailbox(f"no such mailbox: {context.external(target)} (--create makes one)")
    for name in missing:
        context.new_name(name)
    with context.write(owner) as writer:
        for name in missing:
            writer.create(name)
