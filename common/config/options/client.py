"""Options of imapd.conf: sync_client."""

from __future__ import annotations

from cyrus_sync.common.config.options.kinds import DURATION, INTEGER, STRING, SWITCH, WORDS, Option

TITLE = "sync_client"
OPTIONS = (
    Option(
        "sync_host",
        STRING,
        None,
        "The replica: a host name, with :port and /tls (TLS from the first byte) or /noauth behind it if "
        "wanted, or the path of a UNIX socket.",
        channel=True,
    ),
    Option(
        "sync_port",
        STRING,
        "csync",
        "Port of the replica, as a number or a service name; csync is 2005.",
        channel=True,
    ),
    Option("sync_authname", STRING, None, "The userid to log in with.", channel=True),
    Option(
        "sync_realm",
        STRING,
        None,
        "The SASL realm, for mechanisms that have realms (GSSAPI, DIGEST-MD5). Those that sync_client "
        "speaks have none: where the replica wants one, write it into sync_authname (user@realm).",
        channel=True,
    ),
    Option(
        "sync_password",
        STRING,
        None,
        "The password to log in with. Keep a file that holds one from others' eyes.",
        channel=True,
    ),
    Option(
        "sync_compress",
        SWITCH,
        "no",
        "Ask the replica for deflate compression, as sync_client -z does.",
        channel=True,
        ours=True,
    ),
    Option(
        "sync_try_imap",
        SWITCH,
        "no",
        "Whether to try an imapd with the capability X-REPLICATION first, at sync_port (if that is not set: "
        "at the port imap), and csync only where there is none. Cyrus's own sync_client does so unless told "
        "otherwise; ours does so only if told, and not with a UNIX socket, /noauth or "
        "--require-compression.",
        channel=True,
    ),
    Option(
        "sync_repeat_interval",
        DURATION,
        "3s",
        "Least time between the starts of two rolling runs; what is logged in between is merged. "
        "sync_client -d overrides it.",
        channel=True,
        minimum=0,
    ),
    Option(
        "sync_reconnect_maxwait",
        DURATION,
        "20m",
        "Longest wait between two attempts to connect in rolling mode; the first is 15 s, each next twice "
        "as long. 0 = no bound.",
        channel=True,
    ),
    Option(
        "sync_shutdown_file",
        STRING,
        None,
        "When this file appears, a rolling sync_client finishes its run, removes the file and stops.",
        channel=True,
    ),
    Option(
        "sync_cache_db_path",
        STRING,
        None,
        "File in which rolling runs remember the state of the replica, so as not to ask for it. Every "
        "replica needs its own. Not set = off.",
        channel=True,
    ),
    Option(
        "sync_cache_db",
        STRING,
        None,
        "Accepted for the sake of Cyrus's own sync_client, which has a choice of formats for the file of "
        "sync_cache_db_path. Ours has one.",
    ),
    Option(
        "sync_batchsize",
        INTEGER,
        "8192",
        "Most messages of a mailbox that go over in one step. 0 = no bound.",
        channel=True,
        minimum=0,
    ),
    Option(
        "sync_bandwidth",
        WORDS,
        "0",
        "How many octets a second sync_client sends on a connection, 0 = as many as go; k, m and g may "
        "follow. For a part of the day (local time) another: 2m 08:00-18:00=500k. What is small does not "
        "wait for its turn, and counts for what is large.",
        channel=True,
        ours=True,
    ),
    Option(
        "sync_jobs",
        INTEGER,
        "1",
        "Processes of sync_client -A, and of -u with several users; each has a part of them, and its own "
        "connection. One uses one processor of this machine, and of the replica, if that has sync_workers.",
        channel=True,
        minimum=1,
        maximum=64,
        ours=True,
    ),
    Option(
        "client_timeout",
        DURATION,
        "10s",
        "Time limit for connecting, greeting and login.",
        minimum=1,
    ),
    Option(
        "client_bind",
        SWITCH,
        "no",
        "Connect from the address of client_bind_name (where that is not set, of servername).",
    ),
    Option("client_bind_name", STRING, None, "Name or address to connect from."),
    Option(
        "force_sasl_client_mech",
        WORDS,
        None,
        "Log in with one of these SASL mechanisms only. <host>_mechs does the same for one host "
        "(its name up to the first dot).",
    ),
)
