-- The index of one owner. docs/store-format.md explains every table; PRAGMA user_version is its number.

CREATE TABLE owner (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    highestmodseq INTEGER NOT NULL DEFAULT 0,
    uidvalidity INTEGER NOT NULL DEFAULT 0,
    known_since INTEGER NOT NULL DEFAULT 0
);

CREATE TABLE mailboxes (
    id INTEGER PRIMARY KEY,
    uniqueid TEXT NOT NULL,
    name TEXT NOT NULL,
    sort TEXT NOT NULL,
    deleted_at INTEGER NOT NULL DEFAULT 0,
    mbtype TEXT NOT NULL DEFAULT '',
    sync_crc INTEGER NOT NULL DEFAULT 0,
    sync_crc_annot INTEGER NOT NULL DEFAULT 12345678,
    last_uid INTEGER NOT NULL DEFAULT 0,
    highestmodseq INTEGER NOT NULL DEFAULT 0,
    recentuid INTEGER NOT NULL DEFAULT 0,
    recenttime INTEGER NOT NULL DEFAULT 0,
    last_appenddate INTEGER NOT NULL DEFAULT 0,
    pop3_last_login INTEGER NOT NULL DEFAULT 0,
    pop3_show_after INTEGER NOT NULL DEFAULT 0,
    xconvmodseq INTEGER NOT NULL DEFAULT 0,
    raclmodseq INTEGER NOT NULL DEFAULT 0,
    usergroups TEXT NOT NULL DEFAULT '',
    uidvalidity INTEGER NOT NULL DEFAULT 0,
    partition TEXT NOT NULL DEFAULT '',
    acl TEXT NOT NULL DEFAULT '',
    options TEXT NOT NULL DEFAULT '',
    quotaroot TEXT NOT NULL DEFAULT '',
    createdmodseq INTEGER NOT NULL DEFAULT 0,
    foldermodseq INTEGER NOT NULL DEFAULT 0,
    deletedmodseq INTEGER NOT NULL DEFAULT 0,
    userflags TEXT NOT NULL DEFAULT '',
    messages INTEGER NOT NULL DEFAULT 0,
    bytes INTEGER NOT NULL DEFAULT 0,
    annotation_bytes INTEGER NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX mailboxes_name ON mailboxes (name) WHERE deleted_at = 0;
CREATE UNIQUE INDEX mailboxes_uniqueid ON mailboxes (uniqueid) WHERE deleted_at = 0;

CREATE TABLE records (
    mailbox INTEGER NOT NULL,
    uid INTEGER NOT NULL,
    modseq INTEGER NOT NULL,
    last_updated INTEGER NOT NULL,
    flags TEXT NOT NULL,
    expunged INTEGER NOT NULL,
    internaldate INTEGER NOT NULL,
    size INTEGER NOT NULL,
    guid BLOB NOT NULL,
    thrid INTEGER NOT NULL,
    savedate INTEGER NOT NULL,
    createdmodseq INTEGER NOT NULL,
    annotations INTEGER NOT NULL DEFAULT 0,
    unlinked INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (mailbox, uid)
) WITHOUT ROWID;
CREATE INDEX records_modseq ON records (mailbox, modseq);

CREATE TABLE annotations (
    mailbox INTEGER NOT NULL,
    uid INTEGER NOT NULL,
    entry TEXT NOT NULL,
    userid TEXT NOT NULL,
    modseq INTEGER NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (mailbox, uid, entry, userid)
) WITHOUT ROWID;

CREATE TABLE messages (
    guid BLOB PRIMARY KEY,
    pack INTEGER NOT NULL,
    offset INTEGER NOT NULL,
    length INTEGER NOT NULL,
    size INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE packs (
    pack INTEGER PRIMARY KEY,
    length INTEGER NOT NULL
);

CREATE TABLE tombstones (
    name TEXT NOT NULL,
    uniqueid TEXT NOT NULL,
    deleted_at INTEGER NOT NULL,
    modseq INTEGER NOT NULL,
    PRIMARY KEY (name, uniqueid)
) WITHOUT ROWID;

CREATE TABLE former_names (
    seq INTEGER PRIMARY KEY,
    uniqueid TEXT NOT NULL,
    name TEXT NOT NULL,
    renamed_at INTEGER NOT NULL
);
CREATE INDEX former_names_uniqueid ON former_names (uniqueid);

CREATE TABLE quotas (
    root TEXT PRIMARY KEY,
    limits TEXT NOT NULL,
    modseq INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE subscriptions (
    mailbox TEXT PRIMARY KEY,
    sort TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE seen (
    uniqueid TEXT PRIMARY KEY,
    lastread INTEGER NOT NULL,
    lastuid INTEGER NOT NULL,
    lastchange INTEGER NOT NULL,
    seenuids TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE history (
    seq INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    was BLOB NOT NULL
);

CREATE TABLE outbox (
    seq INTEGER PRIMARY KEY,
    chained INTEGER NOT NULL,
    line TEXT NOT NULL
);
