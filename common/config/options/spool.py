"""Options of imapd.conf: the spool of a real Cyrus."""

from __future__ import annotations

from cyrus_sync.common.config.options.kinds import ENUM, STRING, SWITCH, WORDS, Option

TITLE = "The spool of a real Cyrus"
OPTIONS = (
    Option(
        "sync_source",
        ENUM,
        "auto",
        "Whose mail sync_client replicates, and syncreplica writes into packets: native is the store of "
        "sync_server and mailstore, cyrus the spool of a real Cyrus, which is read beside its daemons and "
        "never written. auto: cyrus where the list of mailboxes of one is there (mboxlist_db_path), else "
        "native. csync: what the server of cyrus_csync tells, whatever its files look like; for sync_client "
        "alone, see there. imap: sync_client without -n pulls the mail of another IMAP server (imap_host) "
        "into our store; to everybody else, and to a channel, that is native.",
        choices=("native", "cyrus", "csync", "imap", "auto"),
        ours=True,
    ),
    Option(
        "cyrus_csync",
        STRING,
        None,
        "The csync server of the Cyrus whose spool is read, as in sync_host: host:port, or the path of a "
        "UNIX socket, with which no login is needed. Where both sides of a replication have changed a "
        "mailbox, that server is asked to make the changes on this side. Where it is not set, such a mailbox "
        "is reported and left as it is.",
        ours=True,
    ),
    Option(
        "cyrus_csync_authname",
        STRING,
        None,
        "The userid to log in with there; it has to stand in admins.",
        ours=True,
    ),
    Option(
        "cyrus_csync_password",
        STRING,
        None,
        "The password to log in with there. Keep a file that holds one from others' eyes.",
        ours=True,
    ),
    Option(
        "cyrus_csync_allowplaintext",
        SWITCH,
        None,
        "Send that password in clear (PLAIN, LOGIN) on a line that nothing protects. Where it is not set: to "
        "localhost and its addresses (127.0.0.1, ::1), else as allowplaintext says.",
        ours=True,
    ),
    Option(
        "cyrus_csync_tls_verify",
        SWITCH,
        "yes",
        "Verify the certificate of that server, and that it is for the name in cyrus_csync.",
        ours=True,
    ),
    Option(
        "mboxlist_db",
        STRING,
        "twoskip",
        "What kind of database mailboxes.db is. The file itself tells that, whatever stands here; only sql "
        "has to be told.",
    ),
    Option(
        "mboxlist_db_path",
        STRING,
        None,
        "The list of mailboxes. Where it is not set: {configdirectory}/mailboxes.db.",
    ),
    Option(
        "conversations",
        SWITCH,
        "no",
        "Whether the server counts conversations: then their modseqs (XCONVMODSEQ) are replicated.",
    ),
    Option(
        "annotation_db_path",
        STRING,
        None,
        "The annotations of mailboxes and of the server. Where it is not set: "
        "{configdirectory}/annotations.db.",
    ),
    Option(
        "quota_db",
        STRING,
        "quotalegacy",
        "Where quota roots are: quotalegacy is a file for each below {configdirectory}/quota, any other kind "
        "a database.",
    ),
    Option(
        "quota_db_path",
        STRING,
        None,
        "That database. Where it is not set: {configdirectory}/quotas.db.",
    ),
    Option("sql_engine", STRING, None, "With a database of the kind sql: only sqlite can be read."),
    Option("sql_database", STRING, None, "The file of SQLite that holds the tables of such databases."),
    Option(
        "hashimapspool",
        SWITCH,
        "no",
        "Mailboxes that are kept by name are spread over directories of one letter.",
    ),
    Option(
        "fulldirhash",
        SWITCH,
        "no",
        "Such letters are made of the whole name, A to W, not of its first letter.",
    ),
    Option(
        "improved_mboxlist_sort",
        SWITCH,
        "no",
        "The order of databases before Cyrus 3.6: a dot comes first.",
    ),
    Option(
        "metapartition_files",
        WORDS,
        '""',
        "Which files about a mailbox are below metapartition-NAME instead of partition-NAME (header, index, "
        "annotations, and others that replication does not read). metadir-header-NAME and metadir-index-NAME "
        "name a directory for one kind alone. Archived messages are below archivepartition-NAME.",
    ),
    Option(
        "deletedprefix",
        STRING,
        "DELETED",
        "Below what name delayed delete puts mailboxes. A spool with another than DELETED is refused.",
    ),
    Option("sievedir", STRING, "/usr/sieve", "Where Sieve scripts are that are files."),
    Option(
        "sieveusehomedir",
        SWITCH,
        "no",
        "They are in the users' home directories. Those are not replicated, by Cyrus itself neither.",
    ),
)
