"""Options of imapd.conf: sync_server."""

from __future__ import annotations

from cyrus_sync.common.config.options.kinds import DURATION, INTEGER, WORDS, Option

TITLE = "sync_server"
OPTIONS = (
    Option(
        "sync_listen",
        WORDS,
        "*:csync",
        "Where sync_server listens: host:port, [IPv6 address]:port, or the path of a UNIX socket. "
        "* is every address; the port is csync (2005) where it is left out. Who may open a UNIX socket "
        "is an administrator without login.",
        ours=True,
    ),
    Option(
        "admins",
        WORDS,
        None,
        "The userids that may replicate to this server. They should have no mail of their own.",
    ),
    Option(
        "sync_timeout",
        DURATION,
        "30m",
        "A connection on which nothing is read for so long is closed, by either end. At least 3 s. For the"
        " end of an answer that drips a client waits four times as long, and a second a kilobyte.",
        channel=True,
        unit="s",
        minimum=3,
    ),
    Option(
        "sync_max_connections",
        INTEGER,
        "0",
        "How many connections sync_server takes, 0 = as many as it may open files for (the hard limit of "
        "ulimit -n, LimitNOFILE= in the unit file); more than that is never taken. An eighth of them is "
        "kept for UNIX sockets and for addresses from which an administrator has logged in lately.",
        minimum=0,
        ours=True,
    ),
    Option(
        "sync_workers",
        INTEGER,
        "1",
        "Processes of sync_server behind its addresses. One serves one processor; a supervisor gives each "
        "connection to the process that has the fewest of that address. Each process has its part of "
        "sync_max_connections, sync_max_per_address and sync_max_strangers, rounded up, so that they "
        "hold together; attempts to log in are counted by each. Each tells its own metrics: the first at "
        "sync_metrics_listen and in sync_metrics_file, number N at a port N - 1 further (a path with -N "
        "behind it) and in a file with -N in its name.",
        minimum=1,
        maximum=64,
        ours=True,
    ),
    Option(
        "sync_max_per_address",
        INTEGER,
        "64",
        "How many of them one address may have, 0 = all. An IPv6 address counts with its whole /64. Behind "
        "a tunnel all clients are one address.",
        minimum=0,
        ours=True,
    ),
    Option(
        "sync_max_strangers",
        INTEGER,
        "0",
        "How many of them may be of clients that have not logged in as an administrator, 0 = a quarter. "
        "One address, if no administrator has logged in from there lately, may have a quarter of these.",
        minimum=0,
        ours=True,
    ),
)
