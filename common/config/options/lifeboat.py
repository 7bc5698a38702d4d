"""Options of imapd.conf: the lifeboat."""

from __future__ import annotations

from cyrus_sync.common.config.options.kinds import STRING, SWITCH, WORDS, Option

TITLE = "The lifeboat: a store read over IMAP"
OPTIONS = (
    Option(
        "lifeboat_listen",
        WORDS,
        "*:imap",
        "Where cyrus-sync imap listens: host:port, [IPv6 address]:port, or the path of a UNIX socket. The "
        "port is imap (143) where it is left out.",
        ours=True,
    ),
    Option(
        "lifeboat_tls_listen",
        WORDS,
        "*:imaps",
        "The same for IMAP that begins with TLS, port imaps (993); without tls_server_cert there is none.",
        ours=True,
    ),
    Option(
        "altnamespace",
        SWITCH,
        "yes",
        "A user's folders stand beside his INBOX; with no, below it (INBOX/Work). As it was on the server "
        "that the lifeboat stands in for.",
    ),
    Option(
        "userprefix",
        STRING,
        "Other Users",
        "With altnamespace, the name below which mailboxes of other users are shown.",
    ),
    Option(
        "sharedprefix",
        STRING,
        "Shared Folders",
        "With altnamespace, the name below which shared mailboxes are shown.",
    ),
)
