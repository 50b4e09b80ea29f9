//! Real faults, which need the connection's inside to provoke: what each looks like, and that the
//! store is whole afterwards.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use onus_store::{AppendError, Entry, LedgerStore, SignedCheckpoint, Swap, VaultStore};
use tempfile::TempDir;

use std::time::Duration;

use super::*;

const FILE: &str = "onus.db";

fn dir() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join(FILE);
    (dir, path)
}

fn entry(bytes: &[u8]) -> Entry {
    Entry { bytes: bytes.to_vec(), leaf_hash: [7; 32] }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("there").permissions().mode() & 0o777
}

fn overwrite(path: &Path, from: usize, bytes: &[u8]) {
    let mut content = fs::read(path).expect("read");
    content[from..from + bytes.len()].copy_from_slice(bytes);
    fs::write(path, content).expect("write");
}

// The file.

#[test]
fn the_file_and_what_sqlite_puts_beside_it_are_the_owners_only() {
    let (_dir, path) = dir();
    let mut store = SqliteStore::open(&path).expect("create");
    store.append(0, &[entry(b"e")], None).expect("append");
    let beside = |suffix: &str| PathBuf::from(format!("{}{suffix}", path.display()));
    for suffix in ["", "-wal", "-shm"] {
        assert_eq!(mode(&beside(suffix)), 0o600, "{suffix}");
    }
    std::mem::forget(store);
    for suffix in ["", "-wal", "-shm"] {
        let open_to_all = fs::Permissions::from_mode(0o666);
        fs::set_permissions(beside(suffix), open_to_all).expect("chmod");
    }
    let _store = SqliteStore::open(&path).expect("open again");
    for suffix in ["", "-wal", "-shm"] {
        assert_eq!(mode(&beside(suffix)), 0o600, "{suffix}");
    }
}

#[test]
fn the_file_is_the_owners_only_from_its_first_moment() {
    let (_dir, path) = dir();
    open::create_file(&path).expect("create");
    assert_eq!(mode(&path), 0o600);
}

#[test]
fn a_relative_path_is_bound_to_todays_directory() {
    let (_dir, path) = dir();
    let here = std::env::current_dir().expect("a directory");
    let up = "../".repeat(here.components().count() - 1);
    let relative = Path::new(&up).join(path.strip_prefix("/").expect("absolute"));
    let store = SqliteStore::open(&relative).expect("create");
    assert!(store.path.is_absolute(), "{store:?}");
    assert!(path.exists());
}

#[test]
fn settings_are_those_that_durability_rests_on() {
    let (_dir, path) = dir();
    let store = SqliteStore::open(&path).expect("create");
    let number = |sql: &str| -> i64 {
        let value = store.conn.query_row(sql, [], |row| row.get(0));
        value.expect("a number")
    };
    assert_eq!(number("PRAGMA synchronous"), 2);
    assert_eq!(number("PRAGMA foreign_keys"), 1);
    assert_eq!(number("PRAGMA recursive_triggers"), 1);
    assert_eq!(number("PRAGMA secure_delete"), 1);
    assert_eq!(number("PRAGMA trusted_schema"), 0);
    assert_eq!(number("PRAGMA busy_timeout"), 2000);
    assert_eq!(number("PRAGMA application_id"), 0x4f6e_7573);
    assert_eq!(number("PRAGMA user_version"), 1);
    let mode: String = store.conn.query_row("PRAGMA journal_mode", [], |row| row.get(0)).expect("a mode");
    assert_eq!(mode, "wal");
}

#[test]
fn a_link_a_directory_or_a_missing_directory_is_not_opened() {
    let (dir, path) = dir();
    std::os::unix::fs::symlink(dir.path().join("elsewhere.db"), &path).expect("link");
    for result in [
        SqliteStore::open(&path),
        SqliteStore::open_existing(&path),
        SqliteStore::open_read_only(&path),
        SqliteStore::open(dir.path()),
        SqliteStore::open(dir.path().join("none").join(FILE)),
    ] {
        let fault = result.expect_err("not a file");
        assert!(matches!(fault, StoreFault::Open { .. }), "{fault:?}");
    }
    assert!(!dir.path().join("elsewhere.db").exists());
}

#[test]
fn a_lost_store_is_missing_and_not_a_new_one() {
    let (_dir, path) = dir();
    let missing = |result: Result<SqliteStore, StoreFault>| {
        let fault = result.expect_err("nothing there");
        assert!(matches!(fault, StoreFault::Missing { .. }), "{fault:?}");
    };
    missing(SqliteStore::open_existing(&path));
    missing(SqliteStore::open_read_only(&path));
    assert!(!path.exists(), "asking creates nothing");
    fs::write(&path, b"").expect("write");
    missing(SqliteStore::open_existing(&path));
    missing(SqliteStore::open_read_only(&path));
}

#[test]
fn a_log_without_its_store_is_kept_for_the_rescuer() {
    let (dir, path) = dir();
    let mut store = SqliteStore::open(&path).expect("create");
    store.append(0, &[entry(b"only in the log")], None).expect("append");
    let wal = dir.path().join("onus.db-wal");
    let log = fs::read(&wal).expect("there is a log");
    assert!(!log.is_empty());
    drop(store);
    for content in [None, Some(b"")] {
        let _ = fs::remove_file(&path);
        if let Some(content) = content {
            fs::write(&path, content).expect("write");
        }
        fs::write(&wal, &log).expect("write");
        let fault = SqliteStore::open(&path).expect_err("its store is gone");
        assert!(matches!(fault, StoreFault::Corrupt { .. }), "{fault:?}");
        assert_eq!(fs::read(&wal).expect("still there"), log);
    }
}

#[test]
fn special_names_are_only_names() {
    let (dir, _) = dir();
    for name in [":memory:", "file:x?mode=memory", "a b%20c"] {
        let path = dir.path().join(name);
        let mut store = SqliteStore::open(&path).expect("create");
        store.append(0, &[entry(b"e")], None).expect("append");
        drop(store);
        let store = SqliteStore::open_existing(&path).expect("it is a file");
        assert_eq!(store.size().expect("size"), 1, "{name}");
    }
}

#[test]
fn a_file_that_was_moved_or_replaced_takes_no_writes() {
    let (dir, path) = dir();
    let mut store = SqliteStore::open(&path).expect("create");
    store.append(0, &[entry(b"e")], None).expect("append");
    let away = dir.path().join("away");
    fs::rename(&path, &away).expect("move");
    let moved = |store: &mut SqliteStore| {
        let lost = store.append(1, &[entry(b"f")], None);
        assert!(matches!(lost, Err(AppendError::Fault(StoreFault::Moved { .. }))), "{lost:?}");
    };
    moved(&mut store);
    fs::write(&path, b"another").expect("write");
    moved(&mut store);
    fs::remove_file(&path).expect("remove");
    fs::rename(&away, &path).expect("move back");
    store.append(1, &[entry(b"f")], None).expect("back in place");
}

// Versions and other programs.

#[test]
fn another_programs_file_is_refused_and_left_alone() {
    for sql in ["CREATE TABLE t (x)", "PRAGMA application_id = 252006674", "PRAGMA user_version = 1"] {
        let (_dir, path) = dir();
        let other = Connection::open(&path).expect("create");
        other.execute_batch("VACUUM").expect("write a header");
        other.execute_batch(sql).expect(sql);
        drop(other);
        let before = fs::read(&path).expect("read");
        for result in [SqliteStore::open(&path), SqliteStore::open_existing(&path), SqliteStore::open_read_only(&path)]
        {
            let fault = result.expect_err("foreign");
            assert!(matches!(fault, StoreFault::Foreign { .. }), "{sql}: {fault:?}");
        }
        assert!(fs::read(&path).expect("read") == before, "{sql}");
    }
}

#[test]
fn a_newer_store_is_refused_and_left_alone() {
    for version in [2, i64::from(i32::MAX), -1] {
        let (_dir, path) = dir();
        let store = SqliteStore::open(&path).expect("create");
        let newer = store.conn.pragma_update(None, "user_version", version);
        newer.expect("set the version");
        drop(store);
        for result in [SqliteStore::open(&path), SqliteStore::open_existing(&path), SqliteStore::open_read_only(&path)]
        {
            let fault = result.expect_err("newer");
            assert!(matches!(fault, StoreFault::Version { found, supported: 1, .. } if found == version), "{fault:?}");
        }
    }
}

// Faults of the disk and of other processes.

#[test]
fn a_locked_store_says_so_and_works_on() {
    let (_dir, path) = dir();
    let mut store = SqliteStore::open(&path).expect("create");
    store.append(0, &[entry(b"e")], None).expect("append");
    let wait = Duration::from_millis(30);
    store.set_busy_timeout(wait).expect("set the timeout");
    let other = Connection::open(&path).expect("open");
    other.execute_batch("BEGIN EXCLUSIVE").expect("lock");

    let start = std::time::Instant::now();
    let locked = store.append(1, &[entry(b"f")], None);
    assert!(matches!(locked, Err(AppendError::Fault(StoreFault::Locked { part: Part::Entries }))), "{locked:?}");
    assert!(start.elapsed() >= wait, "it waits as long as it was told");
    let locked = store.take("k", "n");
    assert!(matches!(locked, Err(StoreFault::Locked { part: Part::Vault })), "{locked:?}");
    assert_eq!(store.size().expect("reading does not wait"), 1);

    other.execute_batch("ROLLBACK").expect("unlock");
    assert_eq!(store.append(1, &[entry(b"f")], None).expect("append"), 2);
}

#[test]
fn a_full_disk_says_so_and_leaves_nothing_behind() {
    let (_dir, path) = dir();
    let mut store = SqliteStore::open(&path).expect("create");
    store.append(0, &[entry(b"e")], None).expect("append");
    store.put("k", "n", b"1").expect("put");
    let pages: i64 = store.conn.query_row("PRAGMA page_count", [], |row| row.get(0)).expect("count");
    let limit = |pages: i64| {
        let set = |row: &rusqlite::Row<'_>| row.get::<_, i64>(0);
        let limited = store.conn.pragma_update_and_check(None, "max_page_count", pages, set);
        limited.expect("limit");
    };
    limit(pages + 4);

    // The first entries of the batch find room; they must go with the one that doesn't.
    let batch: Vec<Entry> = (0..10).map(|i| entry(&[i; 4000])).collect();
    let last = SignedCheckpoint { size: 11, note: "eleven".to_owned() };
    let full = store.append(1, &batch, Some(&last));
    assert!(matches!(full, Err(AppendError::Fault(StoreFault::Full { part: Part::Entries }))), "{full:?}");
    let large = vec![0; 100_000];
    let full = store.put_blob([1; 32], &large);
    assert!(matches!(full, Err(StoreFault::Full { part: Part::Blobs })), "{full:?}");
    let full = store.put_snapshot(1, &large);
    assert!(matches!(full, Err(StoreFault::Full { part: Part::Snapshots })), "{full:?}");
    let full = store.put("k", "n", &large);
    assert!(matches!(full, Err(StoreFault::Full { part: Part::Vault })), "{full:?}");
    let full = store.compare_and_swap("k", "n", Some(b"1"), &large);
    assert!(matches!(full, Err(StoreFault::Full { part: Part::Vault })), "{full:?}");

    let beside = SqliteStore::open_read_only(&path).expect("open");
    for store in [&store, &beside] {
        assert_eq!(store.size().expect("size"), 1, "all or nothing");
        assert_eq!(store.checkpoints(0).expect("read"), []);
        assert_eq!(store.blob([1; 32]).expect("read"), None);
        assert_eq!(store.latest_snapshot().expect("read"), None);
        assert_eq!(store.fetch("k", "n").expect("read"), Some(b"1".to_vec()));
    }

    let set = |row: &rusqlite::Row<'_>| row.get::<_, i64>(0);
    let freed = store.conn.pragma_update_and_check(None, "max_page_count", 1_000_000, set);
    freed.expect("limit");
    assert_eq!(store.append(1, &batch, Some(&last)).expect("append"), 11);
}

#[test]
fn garbage_is_damage() {
    let (_dir, path) = dir();
    for garbage in [vec![b'x'; 5000], b"short".to_vec()] {
        fs::write(&path, &garbage).expect("write");
        for result in [SqliteStore::open(&path), SqliteStore::open_existing(&path), SqliteStore::open_read_only(&path)]
        {
            let fault = result.expect_err("garbage");
            assert!(matches!(fault, StoreFault::Corrupt { .. }), "{fault:?}");
        }
        assert_eq!(fs::read(&path).expect("read"), garbage, "left as evidence");
    }
}

#[test]
fn damage_in_the_middle_is_found_when_read() {
    let (_dir, path) = dir();
    let mut store = SqliteStore::open(&path).expect("create");
    let batch: Vec<Entry> = (0..200).map(|i| entry(&[i; 1000])).collect();
    store.append(0, &batch, None).expect("append");
    drop(store);

    let whole = fs::read(&path).expect("read");
    let middle = whole.len() / 2 / 4096 * 4096;
    overwrite(&path, middle, &[0xff; 4096]);
    let store = SqliteStore::open(&path).expect("the header is whole");
    let fault = store.read(0, 1000).expect_err("damaged");
    assert!(matches!(fault, StoreFault::Corrupt { part: Part::Entries, .. }), "{fault:?}");
    drop(store);

    fs::write(&path, &whole[..middle]).expect("cut");
    let result = SqliteStore::open(&path).and_then(|store| store.read(0, 1000));
    let fault = result.expect_err("cut");
    assert!(matches!(fault, StoreFault::Corrupt { .. }), "{fault:?}");
}

#[test]
fn what_triggers_forbid_does_not_happen() {
    let (_dir, path) = dir();
    let mut store = SqliteStore::open(&path).expect("create");
    let two = SignedCheckpoint { size: 2, note: "two".to_owned() };
    let both = [entry(b"a"), entry(b"b")];
    store.append(0, &both, Some(&two)).expect("append");
    store.put_blob([1; 32], b"b").expect("put");
    // By another program, without this one's settings.
    let other = Connection::open(&path).expect("open");
    for (sql, why) in [
        ("UPDATE ledger_entry SET bytes = x'00'", "never changed"),
        ("UPDATE ledger_entry SET position = position + 2", "never changed"),
        ("DELETE FROM ledger_entry WHERE position = 1", "never deleted"),
        ("DELETE FROM ledger_entry", "never deleted"),
        ("INSERT OR REPLACE INTO ledger_entry VALUES (1, x'00', zeroblob(32))", "at the end"),
        ("INSERT INTO ledger_entry VALUES (3, x'00', zeroblob(32))", "at the end"),
        ("UPDATE checkpoint SET note = ''", "never changed"),
        ("DELETE FROM checkpoint", "never deleted"),
        ("INSERT INTO checkpoint VALUES (1, 1, '')", "only grow"),
        ("REPLACE INTO checkpoint VALUES (0, 2, '')", "only grow"),
        ("UPDATE blob SET bytes = x'00'", "never changed"),
        ("REPLACE INTO blob SELECT digest, x'00' FROM blob", "never changed"),
    ] {
        let refused = other.execute(sql, []).expect_err(sql).to_string();
        assert!(refused.contains(why), "{sql}: {refused}");
    }
    assert_eq!(store.read(0, 9).expect("read"), both);
    assert_eq!(store.checkpoints(0).expect("read"), [two]);
}

#[test]
fn an_entry_taken_out_by_force_is_missed() {
    let (_dir, path) = dir();
    let mut store = SqliteStore::open(&path).expect("create");
    let batch = [entry(b"a"), entry(b"b"), entry(b"c")];
    store.append(0, &batch, None).expect("append");
    let other = Connection::open(&path).expect("open");
    let force = "DROP TRIGGER ledger_entry_delete; DELETE FROM ledger_entry WHERE position = 1";
    other.execute_batch(force).expect("nothing stops it");
    for from in [0, 1] {
        let fault = store.read(from, 9).expect_err("one is missing");
        assert!(matches!(fault, StoreFault::Corrupt { part: Part::Entries, .. }), "{fault:?}");
    }
}

// Reading only.

#[test]
fn reading_only_sees_everything_and_writes_nothing() {
    let (_dir, path) = dir();
    let mut writer = SqliteStore::open(&path).expect("create");
    writer.append(0, &[entry(b"a")], None).expect("append");
    let mut reader = SqliteStore::open_read_only(&path).expect("open");
    writer.append(1, &[entry(b"b")], None).expect("append");
    assert_eq!(reader.size().expect("size"), 2, "beside a running server");

    let checkpoint = SignedCheckpoint { size: 2, note: String::new() };
    // Those that would change nothing, too: a reader is never told that a write went well.
    let append = reader.append(2, &[], None);
    assert!(matches!(append, Err(AppendError::Fault(StoreFault::ReadOnly { .. }))), "{append:?}");
    let refused = [
        reader.put_checkpoint(&checkpoint),
        reader.put_snapshot(1, b""),
        reader.discard_snapshot(1).map(drop),
        reader.put_blob([1; 32], b""),
        reader.put("k", "n", b""),
        reader.remove("k", "n").map(drop),
        reader.take("k", "n").map(drop),
        reader.compare_and_swap("k", "n", None, b"").map(|_: Swap| ()),
    ];
    for result in refused {
        let fault = result.expect_err("reading only");
        assert!(matches!(fault, StoreFault::ReadOnly { .. }), "{fault:?}");
    }
}

#[test]
fn a_copy_can_be_read_while_the_server_runs() {
    let (dir, path) = dir();
    let mut writer = SqliteStore::open(&path).expect("create");
    writer.append(0, &[entry(b"a")], None).expect("append");
    let copy = dir.path().join("copy.db");
    let vacuum = writer.conn.execute("VACUUM INTO ?1", [copy.to_str()]);
    vacuum.expect("copy");
    let reader = SqliteStore::open_read_only(&copy).expect("open");
    writer.append(1, &[entry(b"b")], None).expect("append");
    assert_eq!(reader.read(0, 9).expect("read"), [entry(b"a")]);
}

#[test]
fn what_was_removed_is_wiped_from_the_file() {
    let (_dir, path) = dir();
    let mut store = SqliteStore::open(&path).expect("create");
    let secret = b"sealed but still better gone";
    store.put("k", "n", secret).expect("put");
    let find = |content: &[u8]| content.windows(secret.len()).any(|part| part == secret);
    store.take("k", "n").expect("take");
    drop(store);
    assert!(!find(&fs::read(&path).expect("read")));
}
