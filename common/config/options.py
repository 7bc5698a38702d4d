"""Every option of imapd.conf that any of our programs reads, declared once.

`common.config.config` takes types and defaults from here, ``etc/imapd.conf.example`` and the manual page
imapd.conf(5) are written from here (``python -m cyrus_sync.common.config.documents``). An option that is
missing here cannot be read. Defaults are written as in the file; None = not set.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """The type of a value; `common.config.values` reads them."""

    STRING = "string"
    SWITCH = "switch"
    INTEGER = "number"
    DURATION = "duration"
    SIZE = "size"
    ENUM = "choice"
    WORDS = "words"


@dataclass(frozen=True, slots=True)
class Option:
    """`channel`: may be given as ``<channel>_<name>``. `unit`: of a number without one (d h m s, or
    b k m g). `minimum`, `maximum`: in seconds, bytes or as is. `ours`: a real Cyrus has no such option."""

    name: str
    kind: Kind
    default: str | None
    section: str
    doc: str
    channel: bool = False
    unit: str = ""
    choices: tuple[str, ...] = ()
    minimum: int | None = None
    maximum: int | None = None
    old_names: tuple[str, ...] = ()
    ours: bool = False


_STRING, _SWITCH, _INTEGER, _DURATION, _SIZE, _ENUM, _WORDS = Kind
_STORE = "The mail store"
_LOG = "The action log"
_CLIENT = "sync_client"
_SERVER = "sync_server"
_LOGIN = "Authentication and security layers"
_TLS = "TLS"
_LIMITS = "Limits"
_SHIPPING = "Shipping between sites"
_SYSLOG = "Logging"
_METRICS = "Being watched"
_SPOOL = "The spool of a real Cyrus"
_LIFEBOAT = "The lifeboat: a store read over IMAP"
_OBJECTS = "Object stores (S3)"
SECTIONS = (
    *(_STORE, _SPOOL, _LOG, _CLIENT, _SERVER, _LIFEBOAT, _LOGIN, _TLS, _LIMITS, _SHIPPING, _SYSLOG),
    _METRICS,
    _OBJECTS,
)

_DECLARED = (
    Option(
        "configdirectory",
        _STRING,
        None,
        _STORE,
        "Directory of the server's own state: action logs, caches, sockets. Obligatory, an absolute path. "
        "A value of another option that begins with {configdirectory} has that replaced by it.",
    ),
    Option(
        "defaultpartition",
        _STRING,
        None,
        _STORE,
        "The partition of new mailboxes. Where it is not set: the one named default, else the first.",
    ),
    Option(
        "servername",
        _STRING,
        None,
        _STORE,
        "The name by which this server presents itself. Where it is not set: the host's name.",
    ),
    Option(
        "unixhierarchysep",
        _SWITCH,
        "yes",
        _STORE,
        "Mailbox names that people type and read have / between their levels (user/alice/Work); with no, "
        "a dot (user.alice.Work).",
    ),
    Option(
        "virtdomains",
        _ENUM,
        "userid",
        _STORE,
        "Whether the @ of a userid in a mailbox name that people type parts a domain off: "
        "user/alice@example.org/Work is a folder of alice in the domain example.org (userid, on), or of the "
        "user whose name has an @ in it (off). Anywhere else an @ is a character like others. "
        "The values of Cyrus; its own default is off, with which such a user can have no mail there.",
        choices=("off", "userid", "on"),
    ),
    Option(
        "defaultdomain",
        _STRING,
        "internal",
        _STORE,
        "With virtdomains, the domain of users without one: alice@internal is alice.",
    ),
    Option(
        "delete_mode",
        _ENUM,
        "delayed",
        _STORE,
        "What deleting a mailbox does: delayed renames it below DELETED., where it can be had back until "
        "mailstore expire removes it; immediate removes it at once.",
        choices=("immediate", "delayed"),
    ),
    Option(
        "replicaonly",
        _SWITCH,
        "no",
        _STORE,
        "This store is a replica, and only replication may change it: sync_server, the import of packets, "
        "what brings damaged messages back, expire. deliver, flag and everything else of mailstore that "
        "changes mail refuses, with the reason, and with exit status 75 so that an MTA tries again. Since "
        "Cyrus 3.12, whose servers refuse in the same way. cyrus-sync promote and demote, and sync_client "
        "--drain, decide otherwise for as long as role.json is in configdirectory.",
    ),
    Option(
        "lifeboat_listen",
        _WORDS,
        "*:imap",
        _LIFEBOAT,
        "Where cyrus-sync imap listens: host:port, [IPv6 address]:port, or the path of a UNIX socket. The "
        "port is imap (143) where it is left out.",
        ours=True,
    ),
    Option(
        "lifeboat_tls_listen",
        _WORDS,
        "*:imaps",
        _LIFEBOAT,
        "The same for IMAP that begins with TLS, port imaps (993); without tls_server_cert there is none.",
        ours=True,
    ),
    Option(
        "altnamespace",
        _SWITCH,
        "yes",
        _LIFEBOAT,
        "A user's folders stand beside his INBOX; with no, below it (INBOX/Work). As it was on the server "
        "that the lifeboat stands in for.",
    ),
    Option(
        "userprefix",
        _STRING,
        "Other Users",
        _LIFEBOAT,
        "With altnamespace, the name below which mailboxes of other users are shown.",
    ),
    Option(
        "sharedprefix",
        _STRING,
        "Shared Folders",
        _LIFEBOAT,
        "With altnamespace, the name below which shared mailboxes are shown.",
    ),
    Option(
        "sync_source",
        _ENUM,
        "auto",
        _SPOOL,
        "Whose mail sync_client replicates, and syncreplica writes into packets: native is the store of "
        "sync_server and mailstore, cyrus the spool of a real Cyrus, which is read beside its daemons and "
        "never written. auto: cyrus where the list of mailboxes of one is there (mboxlist_db_path), else "
        "native. csync: what the server of cyrus_csync tells, whatever its files look like; for sync_client "
        "alone, see there.",
        choices=("native", "cyrus", "csync", "auto"),
        ours=True,
    ),
    Option(
        "cyrus_csync",
        _STRING,
        None,
        _SPOOL,
        "The csync server of the Cyrus whose spool is read, as in sync_host: host:port, or the path of a "
        "UNIX socket, with which no login is needed. Where both sides of a replication have changed a "
        "mailbox, that server is asked to make the changes on this side. Where it is not set, such a mailbox "
        "is reported and left as it is.",
        ours=True,
    ),
    Option(
        "cyrus_csync_authname",
        _STRING,
        None,
        _SPOOL,
        "The userid to log in with there; it has to stand in admins.",
        ours=True,
    ),
    Option(
        "cyrus_csync_password",
        _STRING,
        None,
        _SPOOL,
        "The password to log in with there. Keep a file that holds one from others' eyes.",
        ours=True,
    ),
    Option(
        "cyrus_csync_allowplaintext",
        _SWITCH,
        None,
        _SPOOL,
        "Send that password in clear (PLAIN, LOGIN) on a line that nothing protects. Where it is not set: to "
        "localhost and its addresses (127.0.0.1, ::1), else as allowplaintext says.",
        ours=True,
    ),
    Option(
        "cyrus_csync_tls_verify",
        _SWITCH,
        "yes",
        _SPOOL,
        "Verify the certificate of that server, and that it is for the name in cyrus_csync.",
        ours=True,
    ),
    Option(
        "mboxlist_db",
        _STRING,
        "twoskip",
        _SPOOL,
        "What kind of database mailboxes.db is. The file itself tells that, whatever stands here; only sql "
        "has to be told.",
    ),
    Option(
        "mboxlist_db_path",
        _STRING,
        None,
        _SPOOL,
        "The list of mailboxes. Where it is not set: {configdirectory}/mailboxes.db.",
    ),
    Option(
        "conversations",
        _SWITCH,
        "no",
        _SPOOL,
        "Whether the server counts conversations: then their modseqs (XCONVMODSEQ) are replicated.",
    ),
    Option(
        "annotation_db_path",
        _STRING,
        None,
        _SPOOL,
        "The annotations of mailboxes and of the server. Where it is not set: "
        "{configdirectory}/annotations.db.",
    ),
    Option(
        "quota_db",
        _STRING,
        "quotalegacy",
        _SPOOL,
        "Where quota roots are: quotalegacy is a file for each below {configdirectory}/quota, any other kind "
        "a database.",
    ),
    Option(
        "quota_db_path",
        _STRING,
        None,
        _SPOOL,
        "That database. Where it is not set: {configdirectory}/quotas.db.",
    ),
    Option("sql_engine", _STRING, None, _SPOOL, "With a database of the kind sql: only sqlite can be read."),
    Option(
        "sql_database", _STRING, None, _SPOOL, "The file of SQLite that holds the tables of such databases."
    ),
    Option(
        "hashimapspool",
        _SWITCH,
        "no",
        _SPOOL,
        "Mailboxes that are kept by name are spread over directories of one letter.",
    ),
    Option(
        "fulldirhash",
        _SWITCH,
        "no",
        _SPOOL,
        "Such letters are made of the whole name, A to W, not of its first letter.",
    ),
    Option(
        "improved_mboxlist_sort",
        _SWITCH,
        "no",
        _SPOOL,
        "The order of databases before Cyrus 3.6: a dot comes first.",
    ),
    Option(
        "metapartition_files",
        _WORDS,
        '""',
        _SPOOL,
        "Which files about a mailbox are below metapartition-NAME instead of partition-NAME (header, index, "
        "annotations, and others that replication does not read). metadir-header-NAME and metadir-index-NAME "
        "name a directory for one kind alone. Archived messages are below archivepartition-NAME.",
    ),
    Option(
        "deletedprefix",
        _STRING,
        "DELETED",
        _SPOOL,
        "Below what name delayed delete puts mailboxes. A spool with another than DELETED is refused.",
    ),
    Option("sievedir", _STRING, "/usr/sieve", _SPOOL, "Where Sieve scripts are that are files."),
    Option(
        "sieveusehomedir",
        _SWITCH,
        "no",
        _SPOOL,
        "They are in the users' home directories. Those are not replicated, by Cyrus itself neither.",
    ),
    Option(
        "sync_log",
        _SWITCH,
        "no",
        _LOG,
        "Write the action log, from which sync_client -r works.",
    ),
    Option(
        "sync_log_channels",
        _WORDS,
        '""',
        _LOG,
        "The channels that get every line of the action log, one for each replica. "
        'Two quotes ("") stand for the default channel, which has no name.',
    ),
    Option(
        "sync_log_file",
        _STRING,
        None,
        _LOG,
        "The file of the action log. Where it is not set: {configdirectory}/sync/log, for a channel "
        "{configdirectory}/sync/<channel>/log.",
        channel=True,
        ours=True,
    ),
    Option(
        "sync_log_chain",
        _SWITCH,
        "no",
        _LOG,
        "Log on a replica what sync_server applies, so that a third server can replicate from it.",
    ),
    Option(
        "sync_log_unsuppressable_channels",
        _WORDS,
        "squatter",
        _LOG,
        "Channels of sync_log_channels that get what sync_server applies even without sync_log_chain.",
    ),
    Option(
        "sync_rightnow_channel",
        _STRING,
        None,
        _LOG,
        'Channel whose replica has every change before the one who made it is answered; "" is the default '
        "channel. What cannot be replicated at once goes to that channel's log, for a rolling sync_client.",
    ),
    Option(
        "sync_host",
        _STRING,
        None,
        _CLIENT,
        "The replica: a host name, with :port and /tls (TLS from the first byte) or /noauth behind it if "
        "wanted, or the path of a UNIX socket.",
        channel=True,
    ),
    Option(
        "sync_port",
        _STRING,
        "csync",
        _CLIENT,
        "Port of the replica, as a number or a service name; csync is 2005.",
        channel=True,
    ),
    Option("sync_authname", _STRING, None, _CLIENT, "The userid to log in with.", channel=True),
    Option(
        "sync_realm",
        _STRING,
        None,
        _CLIENT,
        "The SASL realm, for mechanisms that have realms (GSSAPI, DIGEST-MD5). Those that sync_client "
        "speaks have none: where the replica wants one, write it into sync_authname (user@realm).",
        channel=True,
    ),
    Option(
        "sync_password",
        _STRING,
        None,
        _CLIENT,
        "The password to log in with. Keep a file that holds one from others' eyes.",
        channel=True,
    ),
    Option(
        "sync_compress",
        _SWITCH,
        "no",
        _CLIENT,
        "Ask the replica for deflate compression, as sync_client -z does.",
        channel=True,
        ours=True,
    ),
    Option(
        "sync_try_imap",
        _SWITCH,
        "no",
        _CLIENT,
        "Whether to try an imapd with the capability X-REPLICATION first, at sync_port (if that is not set: "
        "at the port imap), and csync only where there is none. Cyrus's own sync_client does so unless told "
        "otherwise; ours does so only if told, and not with a UNIX socket, /noauth or "
        "--require-compression.",
        channel=True,
    ),
    Option(
        "sync_repeat_interval",
        _DURATION,
        "3s",
        _CLIENT,
        "Least time between the starts of two rolling runs; what is logged in between is merged. "
        "sync_client -d overrides it.",
        channel=True,
        minimum=0,
    ),
    Option(
        "sync_reconnect_maxwait",
        _DURATION,
        "20m",
        _CLIENT,
        "Longest wait between two attempts to connect in rolling mode; the first is 15 s, each next twice "
        "as long. 0 = no bound.",
        channel=True,
    ),
    Option(
        "sync_shutdown_file",
        _STRING,
        None,
        _CLIENT,
        "When this file appears, a rolling sync_client finishes its run, removes the file and stops.",
        channel=True,
    ),
    Option(
        "sync_cache_db_path",
        _STRING,
        None,
        _CLIENT,
        "File in which rolling runs remember the state of the replica, so as not to ask for it. Every "
        "replica needs its own. Not set = off.",
        channel=True,
    ),
    Option(
        "sync_cache_db",
        _STRING,
        None,
        _CLIENT,
        "Accepted for the sake of Cyrus's own sync_client, which has a choice of formats for the file of "
        "sync_cache_db_path. Ours has one.",
    ),
    Option(
        "sync_batchsize",
        _INTEGER,
        "8192",
        _CLIENT,
        "Most messages of a mailbox that go over in one step. 0 = no bound.",
        channel=True,
        minimum=0,
    ),
    Option(
        "sync_bandwidth",
        _WORDS,
        "0",
        _CLIENT,
        "How many octets a second sync_client sends on a connection, 0 = as many as go; k, m and g may "
        "follow. For a part of the day (local time) another: 2m 08:00-18:00=500k. What is small does not "
        "wait for its turn, and counts for what is large.",
        channel=True,
        ours=True,
    ),
    Option(
        "sync_jobs",
        _INTEGER,
        "1",
        _CLIENT,
        "Processes of sync_client -A, and of -u with several users; each has a part of them, and its own "
        "connection. One uses one processor of this machine, and of the replica, if that has sync_workers.",
        channel=True,
        minimum=1,
        maximum=64,
        ours=True,
    ),
    Option(
        "client_timeout",
        _DURATION,
        "10s",
        _CLIENT,
        "Time limit for connecting, greeting and login.",
        minimum=1,
    ),
    Option(
        "client_bind",
        _SWITCH,
        "no",
        _CLIENT,
        "Connect from the address of client_bind_name (where that is not set, of servername).",
    ),
    Option("client_bind_name", _STRING, None, _CLIENT, "Name or address to connect from."),
    Option(
        "force_sasl_client_mech",
        _WORDS,
        None,
        _CLIENT,
        "Log in with one of these SASL mechanisms only. <host>_mechs does the same for one host "
        "(its name up to the first dot).",
    ),
    Option(
        "sync_listen",
        _WORDS,
        "*:csync",
        _SERVER,
        "Where sync_server listens: host:port, [IPv6 address]:port, or the path of a UNIX socket. "
        "* is every address; the port is csync (2005) where it is left out. Who may open a UNIX socket "
        "is an administrator without login.",
        ours=True,
    ),
    Option(
        "admins",
        _WORDS,
        None,
        _SERVER,
        "The userids that may replicate to this server. They should have no mail of their own.",
    ),
    Option(
        "sync_timeout",
        _DURATION,
        "30m",
        _SERVER,
        "A connection on which nothing is read for so long is closed, by either end. At least 3 s. For the"
        " end of an answer that drips a client waits four times as long, and a second a kilobyte.",
        channel=True,
        unit="s",
        minimum=3,
    ),
    Option(
        "sync_max_connections",
        _INTEGER,
        "0",
        _SERVER,
        "How many connections sync_server takes, 0 = as many as it may open files for (the hard limit of "
        "ulimit -n, LimitNOFILE= in the unit file); more than that is never taken. An eighth of them is "
        "kept for UNIX sockets and for addresses from which an administrator has logged in lately.",
        minimum=0,
        ours=True,
    ),
    Option(
        "sync_workers",
        _INTEGER,
        "1",
        _SERVER,
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
        _INTEGER,
        "64",
        _SERVER,
        "How many of them one address may have, 0 = all. An IPv6 address counts with its whole /64. Behind "
        "a tunnel all clients are one address.",
        minimum=0,
        ours=True,
    ),
    Option(
        "sync_max_strangers",
        _INTEGER,
        "0",
        _SERVER,
        "How many of them may be of clients that have not logged in as an administrator, 0 = a quarter. "
        "One address, if no administrator has logged in from there lately, may have a quarter of these.",
        minimum=0,
        ours=True,
    ),
    Option(
        "sasl_mech_list",
        _WORDS,
        None,
        _LOGIN,
        "The SASL mechanisms that sync_server may offer (PLAIN, LOGIN, SCRAM-SHA-256, SCRAM-SHA-1, "
        "EXTERNAL; others are passed over). Not set = all of them.",
    ),
    Option(
        "sasl_pwcheck_method",
        _WORDS,
        "auxprop",
        _LOGIN,
        "Who checks passwords, in this order: auxprop is the file of sync_passwd_file, saslauthd the "
        "daemon saslauthd(8), which can check PLAIN and LOGIN only.",
        choices=("auxprop", "saslauthd"),
    ),
    Option(
        "sasl_saslauthd_path",
        _STRING,
        "/var/run/saslauthd/mux",
        _LOGIN,
        "The socket of saslauthd(8).",
    ),
    Option(
        "sync_passwd_file",
        _STRING,
        "{configdirectory}/sync_passwd",
        _LOGIN,
        "The password file that mailstore passwd writes. It holds SCRAM verifiers, no passwords.",
        ours=True,
    ),
    Option(
        "allowplaintext",
        _SWITCH,
        "no",
        _LOGIN,
        "Offer and accept PLAIN and LOGIN on a line that nothing protects.",
    ),
    Option(
        "sync_allowplaintext",
        _SWITCH,
        None,
        _LOGIN,
        "Let sync_client send its password in clear (PLAIN, LOGIN) on a line that nothing protects. Where "
        "it is not set, allowplaintext says so for sync_client too.",
        channel=True,
        ours=True,
    ),
    Option(
        "sasl_minimum_layer",
        _INTEGER,
        "0",
        _LOGIN,
        "The least strength, in bits, of the layer below a login: 0 none, 1 integrity, more privacy. "
        "sync_server offers nothing below it; sync_client starts TLS to reach it, or does not log in.",
        minimum=0,
    ),
    Option(
        "sasl_maximum_layer",
        _INTEGER,
        "256",
        _LOGIN,
        "The greatest strength, in bits, that a SASL mechanism may add as a layer of its own.",
        minimum=0,
    ),
    Option(
        "failedloginpause",
        _DURATION,
        "3s",
        _LOGIN,
        "How long the answer to a failed login is held back. From the fifth attempt of an address without "
        "success on, so long passes between two attempts that are looked at, then ever longer, up to 30 s. "
        "0 = guessing is not slowed.",
        minimum=0,
    ),
    Option(
        "tls_server_cert",
        _STRING,
        None,
        _TLS,
        "The certificate of sync_server with its chain, PEM. Without it there is no STARTTLS. Files for "
        "shipping_server -receiver come under TLS with it, else sealed with the family key.",
        old_names=("tls_cert_file",),
    ),
    Option(
        "tls_server_key",
        _STRING,
        None,
        _TLS,
        "Private key of tls_server_cert. Where it is not set: in the same file.",
        old_names=("tls_key_file",),
    ),
    Option(
        "tls_client_ca_file",
        _STRING,
        None,
        _TLS,
        "Authorities whose certificates sync_server accepts from clients (SASL EXTERNAL).",
        old_names=("tls_ca_file",),
    ),
    Option(
        "tls_client_ca_dir",
        _STRING,
        None,
        _TLS,
        "The same as a directory with hashed names.",
        old_names=("tls_ca_path",),
    ),
    Option(
        "tls_client_certs",
        _ENUM,
        "optional",
        _TLS,
        "Whether sync_server asks for a client's certificate (optional), insists on it (require), or "
        "does neither (off).",
        choices=("off", "optional", "require"),
    ),
    Option(
        "tls_required",
        _SWITCH,
        "no",
        _TLS,
        "No login without TLS (or a layer that sync_server -p states): sync_server offers no mechanism "
        "before STARTTLS, sync_client starts TLS first.",
    ),
    Option(
        "tls_server_ca_file",
        _STRING,
        None,
        _TLS,
        "Authorities by which sync_client verifies the replica. Where neither this nor "
        "tls_server_ca_dir is set: those of the system.",
    ),
    Option(
        "tls_server_ca_dir",
        _STRING,
        None,
        _TLS,
        "The same as a directory with hashed names.",
    ),
    Option(
        "tls_client_cert",
        _STRING,
        None,
        _TLS,
        "The certificate that sync_client shows to the replica, PEM; with one, it starts TLS wherever that "
        "is offered, and logs in with EXTERNAL if it can. <host>_client_cert does the same for one host "
        "(its name up to the first dot).",
    ),
    Option(
        "tls_client_key",
        _STRING,
        None,
        _TLS,
        "Private key of tls_client_cert (<host>_client_key of <host>_client_cert).",
    ),
    Option(
        "sync_tls_verify",
        _SWITCH,
        "yes",
        _TLS,
        "sync_client verifies the replica's certificate and that it is for the name in sync_host. With no, "
        "TLS keeps out those who listen, but not those who can answer in the replica's place.",
        channel=True,
        ours=True,
    ),
    Option(
        "tls_versions",
        _WORDS,
        "tls1_2 tls1_3",
        _TLS,
        "The versions of TLS to use.",
        choices=("ssl2", "ssl3", "tls1_0", "tls1_1", "tls1_2", "tls1_3"),
    ),
    Option(
        "tls_ciphers",
        _STRING,
        "DEFAULT",
        _TLS,
        "The ciphers to allow up to TLS 1.2, as ciphers(1) writes them.",
        old_names=("tls_cipher_list",),
    ),
    Option(
        "tls_prefer_server_ciphers",
        _SWITCH,
        "no",
        _TLS,
        "The server's order of ciphers counts, not the client's.",
    ),
    Option(
        "maxword",
        _SIZE,
        "128k",
        _LIMITS,
        "Longest bare word that sync_server reads; a longer one ends the connection.",
        minimum=1024,
    ),
    Option("maxquoted", _SIZE, "128k", _LIMITS, "Longest quoted string; likewise.", minimum=1024),
    Option(
        "maxliteral",
        _SIZE,
        "128k",
        _LIMITS,
        "Longest literal; likewise. Messages are no literals and have no limit. 0 = no limit.",
        minimum=0,
    ),
    Option("literalminus", _SWITCH, "no", _LIMITS, "No literal longer than 4096 bytes."),
    Option(
        "multisite_shipping_conf",
        _STRING,
        "{configdirectory}/shipping.conf",
        _SHIPPING,
        "The file shipping.conf(5) of shipping_server and mkorder. The one of the default need not exist.",
        ours=True,
    ),
    Option(
        "multisite_key_file",
        _STRING,
        "{configdirectory}/multisite/family.key",
        _SHIPPING,
        "The family key, made by shipping_server -makekey: the same file at all hosts that ship to one "
        "another, mode 0600. Whoever has it can put files into the bays; what is shipped is sealed with it.",
        ours=True,
    ),
    Option(
        "multisite_host",
        _WORDS,
        None,
        _SHIPPING,
        "The names by which orders and routes know this host; the first is written into orders made here. "
        "Where it is not set: servername and the host's name.",
        ours=True,
    ),
    Option(
        "multisite_listen",
        _WORDS,
        "*",
        _SHIPPING,
        "Where shipping_server -receiver awaits contact, by UDP and TCP: addresses, with :port behind them "
        "if wanted; * = all addresses. A host with several addresses should name them, so that answers "
        "come from the one that was asked.",
        ours=True,
    ),
    Option(
        "multisite_contact_port",
        _INTEGER,
        "3710",
        _SHIPPING,
        "The contact port of this host, where multisite_listen has none, and of all others.",
        minimum=1,
        maximum=65535,
        ours=True,
    ),
    Option(
        "multisite_import_on_arrival",
        _SWITCH,
        "no",
        _SHIPPING,
        "Where shipping.conf(5) has no RECEIPT-HANDLER and this host has a replica: shipping_server runs "
        "syncreplica -import -receive when a packet has come.",
        ours=True,
    ),
    Option(
        "multisite_channel",
        _STRING,
        "multisite",
        _SHIPPING,
        "The channel of the action log that feeds the operations log of this replica: it has to stand in "
        "sync_log_channels.",
        ours=True,
    ),
    Option(
        "multisite_master_days",
        _INTEGER,
        "7",
        _SHIPPING,
        "Where operations have waited for the answer of a user's master for so many days, multitool says "
        "how to do without that master (chmaster -force).",
        minimum=1,
        maximum=36500,
        ours=True,
    ),
    Option(
        "multisite_require_signature",
        _SWITCH,
        "no",
        _SHIPPING,
        "Apply no packet without a good signature. Otherwise one is required as soon as any replica of the "
        "family has keys, but for replicas that had none yet when this one got its own.",
        ours=True,
    ),
    Option(
        "multisite_seal",
        _SWITCH,
        "no",
        _SHIPPING,
        "Encrypt packets to the keys of their targets.",
        ours=True,
    ),
    Option(
        "sendmail",
        _STRING,
        "/usr/lib/sendmail",
        _SHIPPING,
        "The program that sends mail to people, where shipping.conf(5) has no NOTIFICATION-PROGRAM.",
    ),
    Option(
        "syslog_facility",
        _STRING,
        None,
        _SYSLOG,
        "Facility of syslog messages (mail, daemon, local0 to local7). Where it is not set: mail.",
    ),
    Option(
        "syslog_prefix",
        _STRING,
        None,
        _SYSLOG,
        "Put in front of the program's name in syslog, with a slash.",
    ),
    Option(
        "sync_metrics_listen",
        _WORDS,
        None,
        _METRICS,
        "Where a daemon (rolling sync_client, sync_server, shipping_server -receiver) tells Prometheus its "
        "figures, under /metrics: a port of the loopback interface (9788), host:port, [IPv6 address]:port, "
        "or the path of a UNIX socket. Nobody logs in there; no user or mailbox is named. Each program and "
        "each channel needs one of its own: sync_server_sync_metrics_listen, <channel>_sync_metrics_listen. "
        "Not set = nowhere. An address that cannot be had is tried again every minute; replication goes on.",
        channel=True,
        ours=True,
    ),
    Option(
        "sync_web_listen",
        _WORDS,
        "127.0.0.1:9780",
        _METRICS,
        "Where cyrus-sync web shows its page: a port of the loopback interface, host:port,"
        " [IPv6 address]:port, or the path of a UNIX socket. Addresses that other hosts can reach take TLS"
        " (tls_server_cert) and the login of an administrator (admins, sync_passwd_file).",
        ours=True,
    ),
    Option(
        "sync_metrics_file",
        _STRING,
        None,
        _METRICS,
        "The same figures as a file, for the textfile collector of Prometheus's node_exporter: written anew "
        "every 15 seconds. Of a directory that is there each program and channel gets a file of its own "
        "(cyrus_sync_client-north.prom), and multitool and syncreplica write one, too, when they end. "
        "Everybody may read it. Not set = none.",
        channel=True,
        ours=True,
    ),
    Option(
        "s3_endpoint",
        _STRING,
        None,
        _OBJECTS,
        "The address of the S3 server, as https://s3.example.org or http://10.0.0.5:8333. Not set = "
        "Amazon's, of the s3_region.",
        ours=True,
    ),
    Option(
        "s3_bucket",
        _STRING,
        None,
        _OBJECTS,
        "The bucket that s3: means where a command is not told another one.",
        ours=True,
    ),
    Option(
        "s3_region",
        _STRING,
        "us-east-1",
        _OBJECTS,
        "The region of the bucket. A server of one's own has none, and takes the default.",
        ours=True,
    ),
    Option(
        "s3_access_key",
        _STRING,
        None,
        _OBJECTS,
        "The access key. Without it: AWS_ACCESS_KEY_ID and its companions in the environment, else the "
        "file ~/.aws/credentials of the user who runs the command (AWS_SHARED_CREDENTIALS_FILE, "
        "AWS_PROFILE), else the role of the machine.",
        ours=True,
    ),
    Option(
        "s3_secret_key",
        _STRING,
        None,
        _OBJECTS,
        "The secret that belongs to s3_access_key. Whoever may read this file has it.",
        ours=True,
    ),
    Option(
        "s3_prefix",
        _STRING,
        None,
        _OBJECTS,
        "A folder in the bucket, in which everything is kept: one for each server, where several share a "
        "bucket.",
        ours=True,
    ),
    Option(
        "s3_encrypt",
        _STRING,
        None,
        _OBJECTS,
        "A file with a key of 64 hexadecimal digits (openssl rand -hex 32), not readable by everybody. "
        "With it, objects are encrypted before they leave this machine, in file: targets too, and only "
        "who has the key can read them: keep a copy of it elsewhere. Names (which say userids), sizes and "
        "times of objects are not hidden.",
        ours=True,
    ),
)

OPTIONS: dict[str, Option] = {option.name: option for option in _DECLARED}

HOST_OPTIONS = ("mechs", "client_cert", "client_key")
"""What may be set for one host as ``<shorthost>_<name>``."""
