"""Options of imapd.conf: another IMAP server, whose mail is pulled."""

from __future__ import annotations

from cyrus_sync.common.config.options.kinds import DURATION, ENUM, INTEGER, STRING, SWITCH, WORDS, Option

TITLE = "An IMAP server whose mail is pulled"
OPTIONS = (
    Option(
        "imap_host",
        STRING,
        None,
        "With sync_source: imap, the host of the IMAP server whose mail is pulled into our store: a name, an "
        "address, or the path of a UNIX socket.",
        ours=True,
    ),
    Option(
        "imap_port",
        INTEGER,
        None,
        "Its port. Where it is not set: 993 with imap_tls: tls, else 143.",
        minimum=1,
        maximum=65535,
        ours=True,
    ),
    Option(
        "imap_tls",
        ENUM,
        "auto",
        "How the line to it is protected. tls: from the beginning; starttls: by that command, and nothing "
        "is said without it; no: not at all. auto: tls at port 993, else no to this machine itself and "
        "starttls to any other. Its certificate is verified with the authorities of tls_server_ca_file and "
        "tls_server_ca_dir, else with those of the system.",
        choices=("auto", "tls", "starttls", "no"),
        ours=True,
    ),
    Option(
        "imap_tls_verify",
        SWITCH,
        "yes",
        "Verify the certificate of that server, and that it is for the name in imap_host.",
        ours=True,
    ),
    Option(
        "imap_master_user",
        STRING,
        None,
        "Who may read everybody's mail there, and logs in with imap_password: by SASL PLAIN, in which he "
        "says for whom he acts (a master user of Dovecot, an admin or proxyserver of Cyrus). With %u in it, "
        "it is the login name once the user stands there: %u*master.",
        ours=True,
    ),
    Option(
        "imap_password",
        STRING,
        None,
        "The password of imap_master_user. Keep a file that holds one from others' eyes.",
        ours=True,
    ),
    Option(
        "imap_passwords",
        STRING,
        None,
        "Where there is no master user, a file with a line user:password for each user that is pulled.",
        ours=True,
    ),
    Option(
        "imap_users",
        WORDS,
        None,
        "Whom sync_client -A pulls: names; patterns like *@example.org, for which names of imap_passwords "
        "and of users in our store are looked through; the path of a file with a name a line; or, behind a "
        "|, a command that prints them (|doveadm user '*'). Where it is not set: all of imap_passwords, and "
        "all of whom our store has mail.",
        ours=True,
    ),
    Option(
        "imap_poll",
        DURATION,
        "1d",
        "How often sync_client -r looks at everybody, whatever events say; also when it starts. With events "
        "it is the net; without them, how late a change may be here.",
        unit="s",
        minimum=1,
        ours=True,
    ),
    Option(
        "imap_events_listen",
        WORDS,
        None,
        "Where sync_client -r takes events by HTTP: a port of the loopback interface, host:port, [IPv6 "
        "address]:port, or the path of a UNIX socket. Dovecot sends them by event_exporter with http-post "
        "(sync_client(8)). Nobody logs in there: who can reach it can "
        "have users looked at, no more. Not set = nowhere.",
        ours=True,
    ),
    Option(
        "imap_watch_connections",
        INTEGER,
        "0",
        "For so many users sync_client -r keeps a connection on which the server itself tells what changes: "
        "by NOTIFY, where it offers that, else of the INBOX alone by IDLE. For sites without events by HTTP; "
        "users who find no place are named, and polled. The server has a process for each of them.",
        minimum=0,
        maximum=60000,
        ours=True,
    ),
    Option(
        "imap_connections",
        INTEGER,
        "4",
        "So many users are pulled at once, on a connection each. sync_client -r keeps so many open at most.",
        minimum=1,
        maximum=1000,
        ours=True,
    ),
    Option(
        "imap_shared_user",
        STRING,
        None,
        "The user who sees all shared and public folders: they are pulled by his login alone, and what is "
        "deleted there is deleted here. Where it is not set they are pulled by whoever sees them first, and "
        "nothing is deleted: another user may just not see it.",
        ours=True,
    ),
    Option(
        "imap_sieve_port",
        INTEGER,
        "4190",
        "The port at which ManageSieve gives users' scripts, with the same login; 0: none.",
        minimum=0,
        maximum=65535,
        ours=True,
    ),
)
