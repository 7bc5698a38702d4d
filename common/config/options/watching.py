"""Options of imapd.conf: being watched."""

from __future__ import annotations

from cyrus_sync.common.config.options.kinds import STRING, WORDS, Option

TITLE = "Being watched"
OPTIONS = (
    Option(
        "sync_metrics_listen",
        WORDS,
        None,
        "Where a daemon (rolling sync_client, sync_server, cyrus-sync lmtp, shipping_server -receiver) tells "
        "Prometheus its figures, under /metrics: a port of the loopback interface (9788), host:port, "
        "[IPv6 address]:port, or the path of a UNIX socket. Nobody logs in there; no user or mailbox is "
        "named. Each program and each channel needs one of its own: sync_server_sync_metrics_listen, "
        "<channel>_sync_metrics_listen. "
        "Not set = nowhere. An address that cannot be had is tried again every minute; replication goes on.",
        channel=True,
        ours=True,
    ),
    Option(
        "sync_web_listen",
        WORDS,
        "127.0.0.1:9780",
        "Where cyrus-sync web shows its page: a port of the loopback interface, host:port,"
        " [IPv6 address]:port, or the path of a UNIX socket. Addresses that other hosts can reach take TLS"
        " (tls_server_cert) and the login of an administrator (admins, sync_passwd_file).",
        ours=True,
    ),
    Option(
        "sync_metrics_file",
        STRING,
        None,
        "The same figures as a file, for the textfile collector of Prometheus's node_exporter: written anew "
        "every 15 seconds. Of a directory that is there each program and channel gets a file of its own "
        "(cyrus_sync_client-north.prom), and multitool and syncreplica write one, too, when they end. "
        "Everybody may read it. Not set = none.",
        channel=True,
        ours=True,
    ),
)
