//! The suites that every store passes.

use onus_store::contract;
use onus_store_sql::SqliteStore;

/// An empty store in a directory of its own, as a way to open handles on it.
fn fresh() -> impl Fn() -> SqliteStore {
    let dir = tempfile::tempdir().expect("a directory");
    move || SqliteStore::open(dir.path().join("onus.db")).expect("open")
}

#[test]
fn keeps_the_ledger_contract() {
    contract::ledger_store(fresh);
}

#[test]
fn keeps_the_vault_contract() {
    contract::vault_store(fresh);
}
