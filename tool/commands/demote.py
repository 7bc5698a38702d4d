"""demote: make the store here a replica, for instance of the server that was promoted in its place.

From then on only replication may change it, whatever replicaonly says, and sync_server takes what the new
master sends. It is refused as long as a rolling sync_client works here, which would go on sending, and as
long as the action log names changes that have not gone anywhere: what nobody else has would be overwritten,
or be in the new master's way. Run cyrus-sync rescue first; it brings them to the new master, and lists what
cannot be brought. --force does it all the same, and prints whose changes these are."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

from cyrus_sync.common.config import Config
from cyrus_sync.common.counted import counted
from cyrus_sync.common.errors import EX_FAILURE, EX_OK, ConfigError, StoreError
from cyrus_sync.common.names import Owner
from cyrus_sync.common.role import Role
from cyrus_sync.common.stores import disk, role_of
from cyrus_sync.common.synclog.lines import parse_lines
from cyrus_sync.spool.whose import whose_mail
from cyrus_sync.sync_client.channel import lock_holder
from cyrus_sync.sync_client.sources import owner_of_line

MOST_NAMED = 100


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--force", action="store_true", help="all the same; prints whose changes are lost")


def run(args: argparse.Namespace) -> int:
    cfg = Config.load(args.config, program="mailstore")
    if whose_mail(cfg).is_cyrus:
        raise ConfigError(
            f"{cfg.path}: the mail here is that of a real Cyrus: stop what changes it there (or say"
            " replicaonly: yes, since 3.12), and start its sync_server"
        )
    role = role_of(cfg)
    standing = role.standing()
    if standing is not None and standing.role is Role.REPLICA:
        print(f"this server is a replica already, {standing.words}")
        return EX_OK
    doubts = list(unsent(cfg))
    for doubt in doubts:
        print(doubt)
    if doubts and not args.force:
        print("not demoted: see to that first (cyrus-sync rescue), or say --force")
        return EX_FAILURE
    role.become(Role.REPLICA, "cyrus-sync demote --force" if doubts else "cyrus-sync demote", time.time())
    print(f"{cfg.servername} is a replica now: only replication may change it")
    print("the new master brings it up to date: there, sync_client -A")
    return EX_OK


def unsent(cfg: Config) -> Iterator[str]:
    """What of this server is still to go somewhere, a line for each channel."""
    for channel in dict.fromkeys(["", *cfg.words("sync_log_channels")]):
        directory = cfg.configdirectory / "sync" / channel
        named = f"channel {channel}" if channel else "the channel without a name"
        holder = lock_holder(directory)
        if holder is not None:
            yield f"{named}: a rolling sync_client, process {holder or 'unknown'}, works on it: stop it"
        owners = dict.fromkeys(str(owner) for owner in owners_waiting(directory))
        if owners:
            names = ", ".join(list(owners)[:MOST_NAMED])
            more = f" and {len(owners) - MOST_NAMED} more" if len(owners) > MOST_NAMED else ""
            yield f"{named}: changes of {counted(len(owners), 'owner')} have not gone anywhere: {names}{more}"


def owners_waiting(directory: Path) -> Iterator[Owner]:
    """Whose changes a channel's log, run file and quarantine name."""
    for name in ("log-run", "log", "quarantine.log"):
        try:
            data = (directory / name).read_bytes()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise StoreError(disk.why(error, str(directory / name))) from error
        for line in parse_lines(data):
            if line.args:
                yield owner_of_line((line.type, *line.args))
