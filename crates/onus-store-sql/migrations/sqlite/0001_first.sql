-- The ledger. Positions are 0, 1, 2 … without gaps.
CREATE TABLE ledger_entry (
    position  INTEGER PRIMARY KEY CHECK (position >= 0),
    bytes     BLOB NOT NULL,
    leaf_hash BLOB NOT NULL CHECK (length(leaf_hash) = 32)
) STRICT;

CREATE TABLE checkpoint (
    published INTEGER PRIMARY KEY CHECK (published >= 0),
    size      INTEGER NOT NULL CHECK (size >= 0),
    note      TEXT NOT NULL
) STRICT;
CREATE INDEX checkpoint_size ON checkpoint (size);

-- Derived, rebuildable.
CREATE TABLE snapshot (
    size  INTEGER PRIMARY KEY CHECK (size >= 0),
    bytes BLOB NOT NULL
) STRICT;

CREATE TABLE blob (
    digest BLOB PRIMARY KEY CHECK (length(digest) = 32),
    bytes  BLOB NOT NULL
) STRICT;

CREATE TABLE vault (
    kind  TEXT NOT NULL,
    name  TEXT NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (kind, name)
) STRICT, WITHOUT ROWID;

-- Against accidents, not against attackers: whoever can write the file can drop these. The Merkle
-- tree is what shows a change.
CREATE TRIGGER ledger_entry_update BEFORE UPDATE ON ledger_entry
BEGIN SELECT RAISE(ABORT, 'ledger entries are never changed'); END;
CREATE TRIGGER ledger_entry_delete BEFORE DELETE ON ledger_entry
BEGIN SELECT RAISE(ABORT, 'ledger entries are never deleted'); END;
-- Also stops INSERT OR REPLACE, which would not fire the delete trigger by default.
CREATE TRIGGER ledger_entry_insert BEFORE INSERT ON ledger_entry
WHEN NEW.position <> (SELECT coalesce(max(position) + 1, 0) FROM ledger_entry)
BEGIN SELECT RAISE(ABORT, 'ledger entries are only added at the end'); END;

CREATE TRIGGER checkpoint_update BEFORE UPDATE ON checkpoint
BEGIN SELECT RAISE(ABORT, 'checkpoints are never changed'); END;
CREATE TRIGGER checkpoint_delete BEFORE DELETE ON checkpoint
BEGIN SELECT RAISE(ABORT, 'checkpoints are never deleted'); END;
CREATE TRIGGER checkpoint_insert BEFORE INSERT ON checkpoint
WHEN NEW.published <> (SELECT coalesce(max(published) + 1, 0) FROM checkpoint)
  OR NEW.size < (SELECT coalesce(max(size), 0) FROM checkpoint)
BEGIN SELECT RAISE(ABORT, 'checkpoints only grow'); END;

CREATE TRIGGER blob_update BEFORE UPDATE ON blob
BEGIN SELECT RAISE(ABORT, 'blobs are never changed'); END;
CREATE TRIGGER blob_insert BEFORE INSERT ON blob
WHEN EXISTS (SELECT 1 FROM blob WHERE digest = NEW.digest)
BEGIN SELECT RAISE(ABORT, 'blobs are never changed'); END;
