-- The registry of a home. Addresses are 16 octets in network order, times are seconds since 1970.
-- Rows of entities, names, keys and both logs stay for ever: that is what keeps an address from being given out twice.

CREATE TABLE home (
    id             INTEGER PRIMARY KEY CHECK (id = 1),
    prefix         BLOB    NOT NULL CHECK (length(prefix) = 16),          -- a /48
    domain         TEXT,
    infrastructure BLOB    NOT NULL CHECK (length(infrastructure) = 16),
    created        INTEGER NOT NULL
) STRICT;

CREATE TRIGGER home_fixed BEFORE UPDATE ON home
BEGIN SELECT raise(ABORT, 'a home never changes'); END;
CREATE TRIGGER home_kept BEFORE DELETE ON home
BEGIN SELECT raise(ABORT, 'a home is never removed'); END;

-- Random octets that have to survive a restart, such as the key of quick crash detection tokens (RFC 6290).
CREATE TABLE secret (
    name  TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT;

-- The next number of each kind: of users and nodes in the home (parent 0), of devices in their user, of services in
-- the node whose /64 they are numbered in.
CREATE TABLE counter (
    kind   TEXT    NOT NULL CHECK (kind IN ('user', 'device', 'service', 'node')),
    parent INTEGER NOT NULL,
    next   INTEGER NOT NULL,
    PRIMARY KEY (kind, parent)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER counter_grows BEFORE UPDATE ON counter
WHEN new.next < old.next OR new.kind <> old.kind OR new.parent <> old.parent
BEGIN SELECT raise(ABORT, 'numbers are never used again'); END;
CREATE TRIGGER counter_kept BEFORE DELETE ON counter
BEGIN SELECT raise(ABORT, 'numbers are never used again'); END;

CREATE TABLE entity (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    kind    TEXT    NOT NULL CHECK (kind IN ('user', 'device', 'service', 'node')),
    number  INTEGER NOT NULL,
    address BLOB    NOT NULL UNIQUE CHECK (length(address) = 16),
    owner   INTEGER REFERENCES entity (id),   -- a device's user; the node in whose /64 a service is numbered
    node    INTEGER REFERENCES entity (id),   -- where a service runs
    created INTEGER NOT NULL,
    removed INTEGER,                          -- a tombstone, when it is there
    CHECK ((kind IN ('device', 'service')) = (owner IS NOT NULL)),
    CHECK ((kind = 'service') = (node IS NOT NULL))
) STRICT;

CREATE UNIQUE INDEX entity_number ON entity (kind, ifnull(owner, 0), number);
CREATE INDEX entity_owner ON entity (owner) WHERE owner IS NOT NULL;
CREATE INDEX entity_node ON entity (node) WHERE node IS NOT NULL;

CREATE TRIGGER entity_fixed BEFORE UPDATE OF id, kind, number, address, owner, created ON entity
BEGIN SELECT raise(ABORT, 'an entity keeps its address for ever'); END;
CREATE TRIGGER entity_buried BEFORE UPDATE ON entity WHEN old.removed IS NOT NULL
BEGIN SELECT raise(ABORT, 'a removed entity never comes back'); END;
CREATE TRIGGER entity_kept BEFORE DELETE ON entity
BEGIN SELECT raise(ABORT, 'an address is never given out twice'); END;

-- Names and keys with their history: the one without an end is the present one.
CREATE TABLE name (
    id     INTEGER PRIMARY KEY,
    entity INTEGER NOT NULL REFERENCES entity (id),
    name   TEXT    NOT NULL,
    since  INTEGER NOT NULL,
    until  INTEGER
) STRICT;

CREATE UNIQUE INDEX name_taken ON name (name) WHERE until IS NULL;
CREATE UNIQUE INDEX name_present ON name (entity) WHERE until IS NULL;
CREATE INDEX name_entity ON name (entity);
CREATE TRIGGER name_kept BEFORE DELETE ON name
BEGIN SELECT raise(ABORT, 'the history of names is kept'); END;

CREATE TABLE key (
    id     INTEGER PRIMARY KEY,
    entity INTEGER NOT NULL REFERENCES entity (id),
    key    BLOB    NOT NULL CHECK (length(key) = 32),
    since  INTEGER NOT NULL,
    until  INTEGER,
    reason TEXT CHECK (reason IN ('replaced', 'removed', 'revoked')),
    CHECK ((until IS NULL) = (reason IS NULL))
) STRICT;

CREATE UNIQUE INDEX key_present ON key (entity) WHERE until IS NULL;
CREATE INDEX key_key ON key (key);
CREATE INDEX key_entity ON key (entity);
CREATE TRIGGER key_kept BEFORE DELETE ON key
BEGIN SELECT raise(ABORT, 'the history of keys is kept'); END;

-- Which device holds a user's floating address.
CREATE TABLE floating (
    user   INTEGER PRIMARY KEY REFERENCES entity (id),
    device INTEGER NOT NULL UNIQUE REFERENCES entity (id),
    since  INTEGER NOT NULL
) STRICT;

CREATE VIEW entity_now AS
SELECT e.id, e.kind,
       (SELECT name FROM name WHERE entity = e.id ORDER BY id DESC LIMIT 1) AS name,
       e.number, e.address, e.owner,
       (SELECT name FROM name WHERE entity = e.owner ORDER BY id DESC LIMIT 1) AS owner_name,
       e.node,
       (SELECT name FROM name WHERE entity = e.node ORDER BY id DESC LIMIT 1) AS node_name,
       (SELECT key FROM key WHERE entity = e.id AND until IS NULL) AS key,
       f.device AS holder,
       (SELECT name FROM name WHERE entity = f.device ORDER BY id DESC LIMIT 1) AS holder_name,
       e.created, e.removed
FROM entity e LEFT JOIN floating f ON f.user = e.id;

-- One-time codes. Neither a code nor its lookup id is here: only a digest of the lookup id, and the PSK covered with a
-- pad that only the lookup id gives.
CREATE TABLE invitation (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    lookup  BLOB    NOT NULL UNIQUE CHECK (length(lookup) = 32),
    psk     BLOB CHECK (length(psk) = 32),
    entity  INTEGER NOT NULL REFERENCES entity (id),   -- the user who gets a device, the node or service that gets a key
    label   TEXT,                                      -- the name of the device, if it was chosen already
    created INTEGER NOT NULL,
    expires INTEGER NOT NULL,
    state   TEXT    NOT NULL CHECK (state IN ('open', 'spent', 'withdrawn', 'expired')),
    spent   INTEGER,
    key     BLOB CHECK (length(key) = 32),             -- the key that spent it
    joined  INTEGER REFERENCES entity (id),
    answer  BLOB,                                      -- the certificate, for the same key's next try
    CHECK ((state = 'spent') = (spent IS NOT NULL AND key IS NOT NULL AND joined IS NOT NULL))
) STRICT;

CREATE TRIGGER invitation_once BEFORE UPDATE OF state ON invitation
WHEN old.state <> 'open' AND new.state <> old.state
BEGIN SELECT raise(ABORT, 'a code works once'); END;

-- Requests to join without a code.
CREATE TABLE pending (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    key     BLOB    NOT NULL UNIQUE CHECK (length(key) = 32),
    wanted  TEXT    NOT NULL,                          -- as whom
    label   TEXT,                                      -- what the machine calls itself
    source  BLOB    NOT NULL CHECK (length(source) = 4),
    created INTEGER NOT NULL,
    expires INTEGER NOT NULL,
    state   TEXT    NOT NULL CHECK (state IN ('waiting', 'accepted', 'refused')),
    joined  INTEGER REFERENCES entity (id),
    answer  BLOB,
    CHECK ((state = 'accepted') = (joined IS NOT NULL))
) STRICT;

CREATE INDEX pending_created ON pending (created);

CREATE TABLE binding (
    prefix   BLOB    NOT NULL CHECK (length(prefix) = 16),
    length   INTEGER NOT NULL CHECK (length BETWEEN 48 AND 128),
    address  BLOB    NOT NULL CHECK (length(address) = 4),
    port     INTEGER NOT NULL CHECK (port BETWEEN 0 AND 65535),
    sequence INTEGER NOT NULL CHECK (sequence BETWEEN 0 AND 65535),
    ends     INTEGER NOT NULL,
    PRIMARY KEY (prefix, length)
) STRICT, WITHOUT ROWID;

-- Where this home went, signed by its root; the highest generation counts.
CREATE TABLE redirect (
    generation INTEGER PRIMARY KEY,
    at         INTEGER NOT NULL,
    locators   TEXT    NOT NULL,
    document   BLOB    NOT NULL
) STRICT;

CREATE TABLE audit (
    id      INTEGER PRIMARY KEY,
    at      INTEGER NOT NULL,
    who     TEXT    NOT NULL,
    verb    TEXT    NOT NULL,
    subject TEXT    NOT NULL,
    detail  TEXT    NOT NULL
) STRICT;

CREATE TRIGGER audit_fixed BEFORE UPDATE ON audit
BEGIN SELECT raise(ABORT, 'the audit log is only appended to'); END;
CREATE TRIGGER audit_kept BEFORE DELETE ON audit
BEGIN SELECT raise(ABORT, 'the audit log is only appended to'); END;

-- What was certified, chained: hash = SHA-256(prev | row), so that a home cannot take back what it once showed.
CREATE TABLE issued (
    sequence    INTEGER PRIMARY KEY,
    at          INTEGER NOT NULL,
    address     BLOB    NOT NULL CHECK (length(address) = 16),
    name        TEXT    NOT NULL,
    kind        TEXT    NOT NULL,
    key         BLOB    NOT NULL CHECK (length(key) = 32),
    serial      TEXT    NOT NULL,
    not_before  INTEGER NOT NULL,
    not_after   INTEGER NOT NULL,
    certificate BLOB    NOT NULL CHECK (length(certificate) = 32),   -- SHA-256 of the DER
    prev        BLOB    NOT NULL CHECK (length(prev) = 32),
    hash        BLOB    NOT NULL CHECK (length(hash) = 32)
) STRICT;

CREATE TRIGGER issued_fixed BEFORE UPDATE ON issued
BEGIN SELECT raise(ABORT, 'the log of certificates is only appended to'); END;
CREATE TRIGGER issued_kept BEFORE DELETE ON issued
BEGIN SELECT raise(ABORT, 'the log of certificates is only appended to'); END;
