//! The ledger's port on SQLite.
//!
//! Every rule is checked here, under the write lock, and gives its own refusal; the schema's
//! constraints and triggers only catch what should never come so far.

use onus_store::{AppendError, Entry, LedgerStore, Part, SignedCheckpoint, StoreFault};
use rusqlite::{Connection, Error, OptionalExtension, Row, Transaction, params};

use super::SqliteStore;
use super::fault::{Attempt, corrupt};

impl LedgerStore for SqliteStore {
    fn append(
        &mut self,
        expected: u64,
        entries: &[Entry],
        checkpoint: Option<&SignedCheckpoint>,
    ) -> Result<u64, AppendError> {
        let append = self.begin(Part::Entries)?;
        let actual = size(&append)?;
        if expected != actual {
            return Err(AppendError::Conflict { expected, actual });
        }
        let mut position = stored(actual)?;
        {
            let sql = "INSERT INTO ledger_entry (position, bytes, leaf_hash) VALUES (?1, ?2, ?3)";
            let mut insert = append.prepare_cached(sql).writing(Part::Entries)?;
            for entry in entries {
                insert.execute(params![position, entry.bytes, entry.leaf_hash]).writing(Part::Entries)?;
                position += 1;
            }
        }
        let size = actual + entries.len() as u64;
        if let Some(checkpoint) = checkpoint {
            publish(&append, size, checkpoint)?;
        }
        append.commit().writing(Part::Entries)?;
        // COMMIT POINT: entries and checkpoint are durable together.
        Ok(size)
    }

    fn size(&self) -> Result<u64, StoreFault> {
        size(&self.conn)
    }

    fn read(&self, from: u64, max: usize) -> Result<Vec<Entry>, StoreFault> {
        let Ok(mut next) = i64::try_from(from) else {
            return Ok(Vec::new());
        };
        let limit = i64::try_from(max).unwrap_or(i64::MAX);
        let sql = "SELECT position, bytes, leaf_hash FROM ledger_entry
                   WHERE position >= ?1 ORDER BY position LIMIT ?2";
        let mut select = self.conn.prepare_cached(sql).reading(Part::Entries)?;
        let mut rows = select.query([next, limit]).reading(Part::Entries)?;
        let mut entries = Vec::new();
        while let Some(row) = rows.next().reading(Part::Entries)? {
            let (position, entry) = positioned(row).reading(Part::Entries)?;
            if position != next {
                return Err(corrupt(Part::Entries, "an entry is missing"));
            }
            next += 1;
            entries.push(entry);
        }
        Ok(entries)
    }

    fn checkpoints(&self, from_size: u64) -> Result<Vec<SignedCheckpoint>, StoreFault> {
        let Ok(from_size) = i64::try_from(from_size) else {
            return Ok(Vec::new());
        };
        let sql = "SELECT size, note FROM checkpoint WHERE size >= ?1 ORDER BY published";
        let mut select = self.conn.prepare_cached(sql).reading(Part::Checkpoints)?;
        let rows = select.query_map([from_size], signed_checkpoint);
        let rows = rows.reading(Part::Checkpoints)?;
        rows.map(|row| row.reading(Part::Checkpoints)).collect()
    }

    fn put_checkpoint(&mut self, checkpoint: &SignedCheckpoint) -> Result<(), StoreFault> {
        let put = self.begin(Part::Checkpoints)?;
        let size = size(&put)?;
        publish(&put, size, checkpoint)?;
        put.commit().writing(Part::Checkpoints)
    }

    fn put_snapshot(&mut self, size: u64, bytes: &[u8]) -> Result<(), StoreFault> {
        let put = self.begin(Part::Snapshots)?;
        not_ahead(Part::Snapshots, size, self::size(&put)?)?;
        let sql = "INSERT INTO snapshot (size, bytes) VALUES (?1, ?2)
                   ON CONFLICT (size) DO UPDATE SET bytes = excluded.bytes";
        put.execute(sql, params![stored(size)?, bytes]).writing(Part::Snapshots)?;
        let sql = "DELETE FROM snapshot
                   WHERE size NOT IN (SELECT size FROM snapshot ORDER BY size DESC LIMIT 2)";
        put.execute(sql, []).writing(Part::Snapshots)?;
        put.commit().writing(Part::Snapshots)
    }

    fn latest_snapshot(&self) -> Result<Option<(u64, Vec<u8>)>, StoreFault> {
        let sql = "SELECT size, bytes FROM snapshot ORDER BY size DESC LIMIT 1";
        self.conn.query_row(sql, [], |row| Ok((unsigned(row, 0)?, row.get(1)?))).optional().reading(Part::Snapshots)
    }

    fn discard_snapshot(&mut self, size: u64) -> Result<bool, StoreFault> {
        let discard = self.begin(Part::Snapshots)?;
        let Ok(size) = i64::try_from(size) else {
            return Ok(false);
        };
        let sql = "DELETE FROM snapshot WHERE size = ?1";
        let discarded = discard.execute(sql, [size]).writing(Part::Snapshots)?;
        discard.commit().writing(Part::Snapshots)?;
        Ok(discarded > 0)
    }

    fn put_blob(&mut self, digest: [u8; 32], bytes: &[u8]) -> Result<(), StoreFault> {
        let put = self.begin(Part::Blobs)?;
        match blob(&put, digest)? {
            Some(kept) if kept == bytes => return Ok(()),
            Some(_) => return Err(StoreFault::BlobDiffers { digest }),
            None => {}
        }
        let sql = "INSERT INTO blob (digest, bytes) VALUES (?1, ?2)";
        put.execute(sql, params![digest, bytes]).writing(Part::Blobs)?;
        put.commit().writing(Part::Blobs)
    }

    fn blob(&self, digest: [u8; 32]) -> Result<Option<Vec<u8>>, StoreFault> {
        blob(&self.conn, digest)
    }
}

/// The number of entries. Takes the last position's word for it; reading finds a gap.
fn size(conn: &Connection) -> Result<u64, StoreFault> {
    let sql = "SELECT max(position) FROM ledger_entry";
    let mut select = conn.prepare_cached(sql).reading(Part::Entries)?;
    let last: Option<i64> = select.query_row([], |row| row.get(0)).reading(Part::Entries)?;
    let Some(last) = last else {
        return Ok(0);
    };
    match u64::try_from(last) {
        Ok(last) => Ok(last + 1),
        Err(_) => Err(corrupt(Part::Entries, "an entry at a negative position")),
    }
}

/// Adds a checkpoint to a ledger of `size` entries, unless it is the newest already.
fn publish(put: &Transaction<'_>, size: u64, checkpoint: &SignedCheckpoint) -> Result<(), StoreFault> {
    not_ahead(Part::Checkpoints, checkpoint.size, size)?;
    let sql = "SELECT size, note, published FROM checkpoint ORDER BY published DESC LIMIT 1";
    let mut select = put.prepare_cached(sql).reading(Part::Checkpoints)?;
    let newest: Option<(SignedCheckpoint, i64)> =
        select.query_row([], |row| Ok((signed_checkpoint(row)?, row.get(2)?))).optional().reading(Part::Checkpoints)?;
    let published = match newest {
        None => 0,
        Some((newest, _)) if newest == *checkpoint => return Ok(()),
        Some((newest, _)) if newest.size > checkpoint.size => {
            return Err(StoreFault::CheckpointBehind { offered: checkpoint.size, newest: newest.size });
        }
        Some((_, published)) => published + 1,
    };
    let sql = "INSERT INTO checkpoint (published, size, note) VALUES (?1, ?2, ?3)";
    let mut insert = put.prepare_cached(sql).writing(Part::Checkpoints)?;
    insert.execute(params![published, stored(checkpoint.size)?, checkpoint.note]).writing(Part::Checkpoints)?;
    Ok(())
}

fn not_ahead(part: Part, offered: u64, size: u64) -> Result<(), StoreFault> {
    if offered <= size {
        return Ok(());
    }
    Err(StoreFault::AheadOfLedger { part, offered, size })
}

fn blob(conn: &Connection, digest: [u8; 32]) -> Result<Option<Vec<u8>>, StoreFault> {
    let sql = "SELECT bytes FROM blob WHERE digest = ?1";
    let mut select = conn.prepare_cached(sql).reading(Part::Blobs)?;
    select.query_row([digest], |row| row.get(0)).optional().reading(Part::Blobs)
}

fn positioned(row: &Row<'_>) -> rusqlite::Result<(i64, Entry)> {
    let (bytes, leaf_hash) = (row.get(1)?, row.get(2)?);
    Ok((row.get(0)?, Entry { bytes, leaf_hash }))
}

fn signed_checkpoint(row: &Row<'_>) -> rusqlite::Result<SignedCheckpoint> {
    let (size, note) = (unsigned(row, 0)?, row.get(1)?);
    Ok(SignedCheckpoint { size, note })
}

/// A size as it comes out of SQLite, which knows no unsigned integers.
fn unsigned(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    let value: i64 = row.get(column)?;
    u64::try_from(value).map_err(|_| Error::IntegralValueOutOfRange(column, value))
}

/// A size as SQLite holds it.
fn stored(size: u64) -> Result<i64, StoreFault> {
    i64::try_from(size).map_err(|_| StoreFault::TooLarge { size })
}
