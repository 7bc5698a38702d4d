"""Options of imapd.conf: the mail store."""

from __future__ import annotations

from cyrus_sync.common.config.options.kinds import ENUM, STRING, SWITCH, Option

TITLE = "The mail store"
OPTIONS = (
    Option(
        "configdirectory",
        STRING,
        None,
        "Directory of the server's own state: action logs, caches, sockets. Obligatory, an absolute path. "
        "A value of another option that begins with {configdirectory} has that replaced by it.",
    ),
    Option(
        "defaultpartition",
        STRING,
        None,
        "The partition of new mailboxes. Where it is not set: the one named default, else the first.",
    ),
    Option(
        "servername",
        STRING,
        None,
        "The name by which this server presents itself. Where it is not set: the host's name.",
    ),
    Option(
        "unixhierarchysep",
        SWITCH,
        "yes",
        "Mailbox names that people type and read have / between their levels (user/alice/Work); with no, "
        "a dot (user.alice.Work).",
    ),
    Option(
        "virtdomains",
        ENUM,
        "userid",
        "Whether the @ of a userid in a mailbox name that people type parts a domain off: "
        "user/alice@example.org/Work is a folder of alice in the domain example.org (userid, on), or of the "
        "user whose name has an @ in it (off). Anywhere else an @ is a character like others. "
        "The values of Cyrus; its own default is off, with which such a user can have no mail there.",
        choices=("off", "userid", "on"),
    ),
    Option(
        "defaultdomain",
        STRING,
        "internal",
        "With virtdomains, the domain of users without one: alice@internal is alice.",
    ),
    Option(
        "delete_mode",
        ENUM,
        "delayed",
        "What deleting a mailbox does: delayed renames it below DELETED., where it can be had back until "
        "mailstore expire removes it; immediate removes it at once.",
        choices=("immediate", "delayed"),
    ),
    Option(
        "replicaonly",
        SWITCH,
        "no",
        "This store is a replica, and only replication may change it: sync_server, the import of packets, "
        "what brings damaged messages back, expire. deliver, flag and everything else of mailstore that "
        "changes mail refuses, with the reason, and with exit status 75 so that an MTA tries again. Since "
        "Cyrus 3.12, whose servers refuse in the same way. cyrus-sync promote and demote, and sync_client "
        "--drain, decide otherwise for as long as role.json is in configdirectory.",
    ),
)
