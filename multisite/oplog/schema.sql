-- The operations log of a replica of the family, and what it believes of the others.
-- Replica ids are 32 hexadecimal digits; times are Unix seconds; GUIDs are the 20 bytes of a SHA-1.

CREATE TABLE operations (
    seq INTEGER PRIMARY KEY,            -- the order in which this replica learned of it; causal
    origin TEXT NOT NULL,               -- the replica where it was made, and …
    id INTEGER NOT NULL,                -- … its number there, from 1 without gaps
    time INTEGER NOT NULL,
    owner TEXT NOT NULL,                -- "user:alice", "shared:projects", "server:", "family:"
    attributes TEXT NOT NULL,           -- JSON object of strings
    line BLOB NOT NULL,                 -- the csync command with its CRLF, as a zstd frame
    guids BLOB NOT NULL DEFAULT x'',    -- messages that its new records need, 20 bytes each
    octets INTEGER NOT NULL DEFAULT 0,  -- how many bytes these messages have together
    state INTEGER NOT NULL DEFAULT 0,   -- 0 done, 1 waits (a message is missing), 2 begun, 3 set aside
    reason TEXT NOT NULL DEFAULT '',    -- why it is set aside
    UNIQUE (origin, id)
);
CREATE INDEX operations_of_owner ON operations (owner, seq);
CREATE INDEX operations_on_mailbox ON operations (json_extract(attributes, '$.uniqueid'), seq);
CREATE INDEX operations_pending ON operations (owner, seq) WHERE state;

-- The epoch matrix. The row of this replica is fact, the others are beliefs.
CREATE TABLE epochs (
    replica TEXT NOT NULL,
    origin TEXT NOT NULL,
    id INTEGER NOT NULL,
    PRIMARY KEY (replica, origin)
) WITHOUT ROWID;

-- What was believed of a target before an export (export_sync records).
CREATE TABLE exports (
    number INTEGER PRIMARY KEY,
    time INTEGER NOT NULL,
    target TEXT NOT NULL,
    row TEXT NOT NULL,                  -- JSON object: origin -> id
    packet TEXT NOT NULL,
    comment TEXT NOT NULL
);

-- What each replica has proved to have, in its incarnation.
CREATE TABLE heard (
    replica TEXT NOT NULL,
    incarnation INTEGER NOT NULL,
    origin TEXT NOT NULL,
    id INTEGER NOT NULL,
    PRIMARY KEY (replica, origin)
) WITHOUT ROWID;

-- Up to which number the operations of an origin were trimmed.
CREATE TABLE trimmed (
    origin TEXT PRIMARY KEY,
    id INTEGER NOT NULL
) WITHOUT ROWID;

-- Messages that trimmed operations brought: 8 octets of a hash of owner and GUID.
CREATE TABLE given (mark INTEGER PRIMARY KEY);

-- What the master of a mailbox told in trimmed operations.
CREATE TABLE earlier (
    uniqueid TEXT PRIMARY KEY,
    word TEXT NOT NULL                  -- JSON
) WITHOUT ROWID;

-- Which operation brought a message into the log first: who has that one has the message.
CREATE TABLE introduced (
    owner TEXT NOT NULL,
    guid BLOB NOT NULL,
    seq INTEGER NOT NULL,
    PRIMARY KEY (owner, guid)
) WITHOUT ROWID;

CREATE INDEX introduced_by_guid ON introduced (guid);

-- Messages of operations that are not applied here: to be passed on, or waited for.
CREATE TABLE held (
    guid BLOB PRIMARY KEY,
    size INTEGER NOT NULL,
    frame BLOB NOT NULL
);

-- Messages that this replica lacks and asks for, and those that others have asked us for.
CREATE TABLE wanted (guid BLOB PRIMARY KEY, owner TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE requests (
    target TEXT NOT NULL,
    guid BLOB NOT NULL,
    PRIMARY KEY (target, guid)
) WITHOUT ROWID;

-- Whose word counts for an owner. The higher version wins, then the lower replica id.
CREATE TABLE masters (
    owner TEXT PRIMARY KEY,
    version INTEGER NOT NULL,
    replica TEXT NOT NULL
) WITHOUT ROWID;

-- Per owner and origin: the last operation that the master's state, as it is known here, contains.
CREATE TABLE settled (
    owner TEXT NOT NULL,
    origin TEXT NOT NULL,
    id INTEGER NOT NULL,
    PRIMARY KEY (owner, origin)
) WITHOUT ROWID;

-- The state of the store as the log tells it: what the engine compares with.
CREATE TABLE shadows (
    uniqueid TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    name TEXT NOT NULL,
    state TEXT NOT NULL                 -- JSON of a MailboxState, annotations apart
) WITHOUT ROWID;
CREATE INDEX shadows_of_owner ON shadows (owner);
CREATE INDEX shadows_by_name ON shadows (name);

CREATE TABLE shadow_items (
    owner TEXT NOT NULL,
    kind TEXT NOT NULL,                 -- sub, seen, quota, sieve, annotation
    key TEXT NOT NULL,
    value TEXT NOT NULL,                -- JSON
    PRIMARY KEY (owner, kind, key)
) WITHOUT ROWID;

-- Per mailbox of another master: the master's state on which ours is built, and how far our own changes
-- since then are in the log.
CREATE TABLE bases (
    uniqueid TEXT PRIMARY KEY,
    modseq INTEGER NOT NULL DEFAULT 0,
    last_uid INTEGER NOT NULL DEFAULT 0,
    told_id INTEGER NOT NULL DEFAULT 0,
    told_modseq INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;

-- Per mailbox mastered here: up to which modseq all its changes since a base came from one other replica.
CREATE TABLE followed (
    uniqueid TEXT PRIMARY KEY,
    origin TEXT NOT NULL,
    modseq INTEGER NOT NULL
) WITHOUT ROWID;

-- Who made a mailbox, and the name it should have where another one has that name here.
CREATE TABLE objects (
    uniqueid TEXT PRIMARY KEY,
    owner TEXT NOT NULL,                -- its home, in which it was made: that owner's master is its own
    creator TEXT NOT NULL,
    wanted TEXT NOT NULL DEFAULT '',    -- internal name; '' = it has the name that it should have
    local TEXT NOT NULL DEFAULT ''      -- the generated name that it got instead
) WITHOUT ROWID;
CREATE INDEX objects_of_owner ON objects (owner);
CREATE INDEX objects_by_wanted ON objects (wanted) WHERE wanted <> '';

-- What this replica has to remember of itself: the generation of its log, and what a restore has found.
CREATE TABLE notes (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL                 -- JSON
) WITHOUT ROWID;
