"""Options of imapd.conf: a store of many machines."""

from __future__ import annotations

from cyrus_sync.common.config.options.kinds import ENUM, SIZE, STRING, WORDS, Option

TITLE = "The fleet: a store of many machines"
OPTIONS = (
    Option(
        "store",
        ENUM,
        "local",
        "Where mail is kept: in the partitions of this machine (local), or in PostgreSQL and an object store "
        "that many machines share (fleet). moving: some users are in the partitions of this machine, others "
        "in the fleet, and mailstore fleet move-in and move-out take them from the one to the other while "
        "they are in use; docs/fleet.md tells how. In a fleet a partition is a name that replication is "
        "told, and no directory.",
        choices=("local", "moving", "fleet"),
        ours=True,
    ),
    Option(
        "store_journal",
        WORDS,
        None,
        "With store: fleet, the PostgreSQL databases that decide which commits count, as "
        "postgresql://user@host:5432/database. Users are spread over them by their names; the order does not "
        "matter. One that is added gets users by mailstore fleet rebalance. Two hosts of one address "
        "(postgresql://user@one,two/database) are a server and its standby: whichever may be written to is "
        "used.",
        ours=True,
    ),
    Option(
        "store_objects",
        STRING,
        "s3:",
        "With store: fleet, the object store that has the bulk: s3: or s3:BUCKET/PREFIX, as s3_endpoint and "
        "the options beside it say; or file:DIRECTORY, a directory that all machines have mounted.",
        ours=True,
    ),
    Option(
        "store_cache",
        STRING,
        "{configdirectory}/cache",
        "With store: fleet, the directory in which this machine keeps copies of what it works on. It may be "
        "lost at any time. For the user alone as whom the daemons and commands run.",
        ours=True,
    ),
    Option(
        "store_cache_size",
        SIZE,
        "10g",
        "With store: fleet, how much mailstore fleet settle leaves in store_cache: users who were not asked "
        "for the longest time go first.",
        unit="m",
        minimum=0,
        ours=True,
    ),
)
