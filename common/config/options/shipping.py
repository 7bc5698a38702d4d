"""Options of imapd.conf: shipping between sites."""

from __future__ import annotations

from cyrus_sync.common.config.options.kinds import DURATION, INTEGER, STRING, SWITCH, WORDS, Option

TITLE = "Shipping between sites"
OPTIONS = (
    Option(
        "multisite_shipping_conf",
        STRING,
        "{configdirectory}/shipping.conf",
        "The file shipping.conf(5) of shipping_server and mkorder. The one of the default need not exist.",
        ours=True,
    ),
    Option(
        "multisite_key_file",
        STRING,
        "{configdirectory}/multisite/family.key",
        "The family key, made by shipping_server -makekey: the same file at all hosts that ship to one "
        "another, mode 0600. Whoever has it can put files into the bays; what is shipped is sealed with it.",
        ours=True,
    ),
    Option(
        "multisite_host",
        WORDS,
        None,
        "The names by which orders and routes know this host; the first is written into orders made here. "
        "Where it is not set: servername and the host's name.",
        ours=True,
    ),
    Option(
        "multisite_listen",
        WORDS,
        "*",
        "Where shipping_server -receiver awaits contact, by UDP and TCP: addresses, with :port behind them "
        "if wanted; * = all addresses. A host with several addresses should name them, so that answers "
        "come from the one that was asked.",
        ours=True,
    ),
    Option(
        "multisite_contact_port",
        INTEGER,
        "3710",
        "The contact port of this host, where multisite_listen has none, and of all others.",
        minimum=1,
        maximum=65535,
        ours=True,
    ),
    Option(
        "multisite_import_on_arrival",
        SWITCH,
        "no",
        "Where shipping.conf(5) has no RECEIPT-HANDLER and this host has a replica: shipping_server runs "
        "syncreplica -import -receive when a packet has come.",
        ours=True,
    ),
    Option(
        "multisite_channel",
        STRING,
        "multisite",
        "The channel of the action log that feeds the operations log of this replica: it has to stand in "
        "sync_log_channels.",
        ours=True,
    ),
    Option(
        "multisite_master_days",
        INTEGER,
        "7",
        "Where operations have waited for the answer of a user's master for so many days, multitool says "
        "how to do without that master (chmaster -force).",
        minimum=1,
        maximum=36500,
        ours=True,
    ),
    Option(
        "multisite_keep",
        DURATION,
        "30d",
        "How long operations stay in the operations log that all replicas are known to have. After that they "
        "are trimmed, like the notes of exports that are as old.",
        unit="d",
        minimum=0,
        ours=True,
    ),
    Option(
        "multisite_keep_unheard",
        DURATION,
        "365d",
        "How long operations stay in the operations log that some replica is not known to have, and lines in "
        "the logs of packets and shipping. A replica that comes back later has to be made anew (multitool "
        "mkreplica -export -replace). 0 = for ever.",
        unit="d",
        minimum=0,
        ours=True,
    ),
    Option(
        "multisite_require_signature",
        SWITCH,
        "no",
        "Apply no packet without a good signature. Otherwise one is required as soon as any replica of the "
        "family has keys, but for replicas that had none yet when this one got its own.",
        ours=True,
    ),
    Option(
        "multisite_seal",
        SWITCH,
        "no",
        "Encrypt packets to the keys of their targets.",
        ours=True,
    ),
    Option(
        "sendmail",
        STRING,
        "/usr/lib/sendmail",
        "The program that sends mail to people, where shipping.conf(5) has no NOTIFICATION-PROGRAM.",
    ),
)
