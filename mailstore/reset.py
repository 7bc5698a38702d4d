"""sync_reset(8): wipe users from this store, without a line in the action log.

For a replica whose copy of a user is to be made anew. What was wiped can be brought back with
``mailstore undelete`` until ``mailstore expire`` has been there. Of a user whose index is damaged, what is
left is set aside in the directory above; one who is lost is forgotten.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Sequence

from cyrus_sync.common.commands import Parser, add_version, complain, run_command
from cyrus_sync.common.config import DEFAULT_PATH, Config
from cyrus_sync.common.errors import EX_FAILURE, EX_OK, EX_TEMPFAIL, CyrusSyncError, UsageError
from cyrus_sync.common.names import Owner
from cyrus_sync.common.namespace import Namespace
from cyrus_sync.common.stores import KeptStore, open_kept
from cyrus_sync.mailstore.context import LOCK_SECONDS

EXIT_STATUS = """\
EXIT STATUS
  0   every user is gone
  1   there is no user of that name; all others are gone
  64  the command line makes no sense, or -f is missing
  75  a user is locked, or the store could not be written; all others are gone
  78  the configuration is bad
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    found = Parser(
        prog="sync_reset",
        description="Remove users with all their mailboxes (deleted ones too), subscriptions, seen state, "
        "Sieve scripts and quotas from this store, and log nothing of it: a replica that follows this "
        "server keeps them. Made for a replica whose copy is to be filled anew. A user whose index is "
        "damaged is set aside with all files; one of whom nothing is left is forgotten.",
        epilog=EXIT_STATUS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    found.add_argument("-C", dest="config", metavar="FILE", default=DEFAULT_PATH, help="imapd.conf to read")
    add_version(found)
    found.add_argument("-v", dest="verbose", action="store_true", help="name each user that was removed")
    found.add_argument("-f", dest="force", action="store_true", help="obligatory: yes, remove them")
    found.add_argument("-L", dest="local", action="store_true", help="local only (as it is anyway)")
    found.add_argument("users", metavar="USER", nargs="+")
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit status."""
    return run_command("sync_reset", _run, argv)


def _run(words: list[str]) -> int:
    args = parser().parse_args(words)
    if not args.force:
        raise UsageError("nothing was removed: -f is obligatory")
    config = Config.load(args.config, "sync_reset")
    names = Namespace.from_config(config)
    users = [Owner("user", names.userid(user)) for user in args.users]
    with contextlib.closing(open_kept(config, log=False)) as kept:
        return _reset_all(kept, users, names, args.verbose)


def _reset_all(kept: KeptStore, users: Sequence[Owner], names: Namespace, verbose: bool) -> int:
    """Remove all of them; the exit status. Trouble with one is said and keeps nobody else."""
    status = EX_OK
    for owner in users:
        try:
            done = _reset(kept, owner)
        except CyrusSyncError as error:
            complain("sync_reset", str(error))
            status = EX_TEMPFAIL
            continue
        if not done:
            complain("sync_reset", f"no such user: {names.owner_name(owner)}")
            status = status or EX_FAILURE
            continue
        if verbose:
            print(f"{names.user(owner.name)}: {done}")
    return status


def _reset(kept: KeptStore, owner: Owner) -> str:
    """Remove one user; what was done, "" if there is no such user."""
    store, care = kept
    if care.is_unusable(owner):
        aside = care.give_up(owner)
        if not aside:
            return "was lost, and is forgotten"
        return f"the index was damaged; what is left is set aside as {', '.join(map(str, aside))}"
    if not store.exists(owner):
        return ""
    with store.write(owner, create=False, timeout=LOCK_SECONDS) as writer:
        writer.apply_unuser()
        for mailbox in writer.mailboxes():
            writer.apply_unmailbox(mailbox.name)
    return "removed"


if __name__ == "__main__":
    sys.exit(main())
