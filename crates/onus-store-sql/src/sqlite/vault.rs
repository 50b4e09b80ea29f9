//! The vault's port on SQLite.
//!
//! Text is compared in SQLite's BINARY collation, byte by byte. Values come sealed and are
//! neither opened nor shown.

use onus_store::{Part, StoreFault, Swap, VaultStore};
use rusqlite::{Connection, OptionalExtension, params};

use super::SqliteStore;
use super::fault::Attempt;

const PART: Part = Part::Vault;

impl VaultStore for SqliteStore {
    fn put(&mut self, kind: &str, name: &str, value: &[u8]) -> Result<(), StoreFault> {
        let put = self.begin(PART)?;
        let sql = "INSERT INTO vault (kind, name, value) VALUES (?1, ?2, ?3)
                   ON CONFLICT (kind, name) DO UPDATE SET value = excluded.value";
        put.execute(sql, params![kind, name, value]).writing(PART)?;
        put.commit().writing(PART)
    }

    fn fetch(&self, kind: &str, name: &str) -> Result<Option<Vec<u8>>, StoreFault> {
        fetch(&self.conn, kind, name)
    }

    fn remove(&mut self, kind: &str, name: &str) -> Result<bool, StoreFault> {
        let remove = self.begin(PART)?;
        let removed = delete(&remove, kind, name)?;
        remove.commit().writing(PART)?;
        Ok(removed)
    }

    fn names(&self, kind: &str) -> Result<Vec<String>, StoreFault> {
        let sql = "SELECT name FROM vault WHERE kind = ?1 ORDER BY name";
        let mut select = self.conn.prepare_cached(sql).reading(PART)?;
        let names = select.query_map([kind], |row| row.get(0)).reading(PART)?;
        names.map(|name| name.reading(PART)).collect()
    }

    fn take(&mut self, kind: &str, name: &str) -> Result<Option<Vec<u8>>, StoreFault> {
        // Not DELETE … RETURNING by itself: that shows the value before the removal has been
        // committed, and a commit that fails then would go unnoticed.
        let take = self.begin(PART)?;
        let value = fetch(&take, kind, name)?;
        delete(&take, kind, name)?;
        take.commit().writing(PART)?;
        // COMMIT POINT: nobody else gets it.
        Ok(value)
    }

    fn compare_and_swap(
        &mut self,
        kind: &str,
        name: &str,
        expected: Option<&[u8]>,
        new: &[u8],
    ) -> Result<Swap, StoreFault> {
        let swap = self.begin(PART)?;
        let changed = match expected {
            None => {
                let sql = "INSERT INTO vault (kind, name, value) VALUES (?1, ?2, ?3)
                           ON CONFLICT (kind, name) DO NOTHING";
                swap.execute(sql, params![kind, name, new])
            }
            Some(expected) => {
                let sql = "UPDATE vault SET value = ?3
                           WHERE kind = ?1 AND name = ?2 AND value = ?4";
                swap.execute(sql, params![kind, name, new, expected])
            }
        };
        let changed = changed.writing(PART)?;
        swap.commit().writing(PART)?;
        Ok(match changed {
            0 => Swap::Differs,
            _ => Swap::Swapped,
        })
    }
}

fn fetch(conn: &Connection, kind: &str, name: &str) -> Result<Option<Vec<u8>>, StoreFault> {
    let sql = "SELECT value FROM vault WHERE kind = ?1 AND name = ?2";
    let mut select = conn.prepare_cached(sql).reading(PART)?;
    select.query_row([kind, name], |row| row.get(0)).optional().reading(PART)
}

fn delete(conn: &Connection, kind: &str, name: &str) -> Result<bool, StoreFault> {
    let sql = "DELETE FROM vault WHERE kind = ?1 AND name = ?2";
    let deleted = conn.execute(sql, [kind, name]).writing(PART)?;
    Ok(deleted > 0)
}
