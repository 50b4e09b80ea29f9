use super::*;
use onus_core::event::{Actor, Event};
use onus_core::time::Timestamp;
use onus_ledger::{KeyName, SigningKey};
use onus_store::Entry as Stored;
use onus_store_sql::SqliteStore;

fn signer() -> SigningKey {
    SigningKey::from_seed(KeyName::new("onus.test/ledger").unwrap(), &[7; 32])
}

fn event(n: u64) -> Vec<u8> {
    let event = Event::GatewayStarted { gateway: format!("g{n}"), version: "1".into() };
    codec::encode(&Entry { at: Timestamp(n), by: Actor::Operator, event }).unwrap()
}

/// A data directory with a ledger of `size` entries, signed after each hundred and at the end.
fn data(size: u64) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("keys")).unwrap();
    fs::write(dir.path().join("keys/ledger.vkey"), signer().verifier().to_vkey()).unwrap();
    let mut store = SqliteStore::open(dir.path().join("onus.db")).unwrap();
    grow(&mut store, 0, size);
    dir
}

fn grow(store: &mut SqliteStore, from: u64, size: u64) {
    let (mut tree, mut state) = (Tree::new(), State::default());
    let mut batch = Vec::new();
    for n in 0..size {
        let bytes = event(n);
        tree.append(&bytes);
        state.apply(&codec::decode(&bytes).unwrap());
        if n < from {
            continue;
        }
        batch.push(Stored { leaf_hash: onus_ledger::leaf_hash(&bytes).0, bytes });
        if n + 1 == size || (n + 1) % 100 == 0 {
            let checkpoint = Checkpoint::new(signer().verifier().name().clone(), n + 1, tree.root());
            let note = checkpoint.sign(&signer()).unwrap().note().to_string();
            let signed = onus_store::SignedCheckpoint { size: n + 1, note };
            store.append(n + 1 - batch.len() as u64, &batch, Some(&signed)).unwrap();
            batch.clear();
        }
    }
    store.put_snapshot(size, &state.snapshot()).unwrap();
}

fn run(args: VerifyArgs) -> (u8, String) {
    let mut out = Vec::new();
    let status = verified(&args, &mut out).unwrap();
    (status, String::from_utf8(out).unwrap())
}

fn args(data: Option<&Path>, copy: Option<&Path>, remember: Option<&Path>) -> VerifyArgs {
    let own = |path: Option<&Path>| path.map(Path::to_owned);
    VerifyArgs {
        data: own(data),
        copy: own(copy),
        key: Some(signer().verifier().to_vkey()),
        key_file: None,
        remember: own(remember),
        json: false,
    }
}

#[test]
fn a_ledger_and_its_copy_verify() {
    for size in [1, 256, 300, 600] {
        let data = data(size);
        let (status, text) = run(args(Some(data.path()), None, None));
        assert!(status == 0 && text.starts_with(&format!("the ledger holds: {size} entries")), "{text}");
        let copy = data.path().join("copy");
        assert_eq!(exported(data.path(), &copy), Ok(size));
        assert_eq!(run(args(None, Some(&copy), None)), (0, text));
        assert!(exported(data.path(), &copy).unwrap_err().contains("not empty"));
    }
}

#[test]
fn what_was_done_to_a_copy_is_found_and_named() {
    let data = data(300);
    let copy = data.path().join("copy");
    exported(data.path(), &copy).unwrap();
    let bundle = copy.join("tile/entries/000");
    let good = fs::read(&bundle).unwrap();
    let at = good.windows(5).position(|w| w == b"\"g17\"").unwrap();
    let mut bad = good.clone();
    bad[at + 1] = b'h';
    fs::write(&bundle, &bad).unwrap();
    let (status, text) = run(args(None, Some(&copy), None));
    assert!(
        status == FAILED && text.contains("entry 17 was changed") && text.contains("gateway started gateway=h17"),
        "{text}"
    );
    fs::write(&bundle, &good).unwrap();
    assert_eq!(run(args(None, Some(&copy), None)).0, 0);
    fs::remove_file(copy.join("tile/entries/001.p/44")).unwrap();
    assert_eq!(run(args(None, Some(&copy), None)).0, FAILED);
    let mut other = args(Some(data.path()), None, None);
    other.key = Some(SigningKey::from_seed(KeyName::new("onus.test/ledger").unwrap(), &[8; 32]).verifier().to_vkey());
    assert_eq!(run(other).0, FAILED, "another's key");
}

#[test]
fn a_remembered_checkpoint_catches_a_rollback_across_runs() {
    let (long, short) = (data(300), data(200));
    let file = long.path().join("seen");
    assert_eq!(run(args(Some(short.path()), None, Some(&file))).0, 0);
    let first = fs::read_to_string(&file).unwrap();
    assert_eq!(run(args(Some(long.path()), None, Some(&file))).0, 0, "it grew");
    let second = fs::read_to_string(&file).unwrap();
    assert_ne!(first, second);
    let (status, text) = run(args(Some(short.path()), None, Some(&file)));
    assert!(status == FAILED && text.contains("rolled back from 300"), "{text}");
    assert_eq!(fs::read_to_string(&file).unwrap(), second, "what does not hold is not remembered");
    fs::write(&file, "nothing").unwrap();
    assert_eq!(run(args(Some(long.path()), None, Some(&file))), (FAILED, String::new()), "and not passed over");
}

#[test]
fn a_snapshot_that_is_not_the_fold_is_found() {
    let data = data(10);
    let mut store = SqliteStore::open(data.path().join("onus.db")).unwrap();
    let mut state = State::default();
    state.as_of = 10;
    state.last_at = Timestamp(99);
    store.put_snapshot(10, &state.snapshot()).unwrap();
    let (status, text) = run(args(Some(data.path()), None, None));
    assert!(status == FAILED && text.contains("snapshot of the state after 10 entries"), "{text}");
}

#[test]
fn entries_are_shown_from_anywhere() {
    let data = data(5);
    let mut out = Vec::new();
    let mut args = ShowArgs { data: data.path().to_owned(), from: 3, max: u64::MAX, json: false };
    assert_eq!(shown(&args, &mut out).unwrap(), 0);
    let text = String::from_utf8(out).unwrap();
    assert_eq!(text.lines().count(), 2);
    assert!(text.starts_with("     3  1970-01-01T00:00:00.003Z the operator at the data directory: gateway started gateway=g3 version=1\n"), "{text}");
    args.json = true;
    let mut out = Vec::new();
    shown(&args, &mut out).unwrap();
    let first: Value = serde_json::from_slice(out.split(|b| *b == b'\n').next().unwrap()).unwrap();
    assert_eq!((&first["position"], &first["entry"]["what"]["event"]), (&json!(3), &json!("gateway_started")));
}
