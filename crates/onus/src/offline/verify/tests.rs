use super::*;
use crate::offline::estate_file::read_texts;
use onus_core::command::{Command, OpenSession, handle};
use onus_core::decision::judge;
use onus_core::event::Actor;
use onus_core::runtime::{Standing, judge_session};
use onus_core::state::State;
use onus_core::time::{Millis, Timestamp};
use onus_core::view::{Scope, Tier};
use onus_gateway::policy::{PolicyTexts, owners};
use onus_journal::Writer;
use onus_ledger::{Checkpoint, KeyName, SigningKey};
use onus_pep::{OpNo, Record};
use onus_store::Entry as Stored;
use onus_store_sql::SqliteStore;
use std::fs;

const MASTER: [u8; 32] = [3; 32];
/// A Wednesday, 12:00 UTC.
const NOON: Timestamp = Timestamp(1_795_003_200_000);

fn id<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().unwrap()
}

fn estate() -> onus_core::estate::Estate {
    let names = ["alice", "bob", "petra", "rita", "ivan", "chris", "olga"];
    let parties: String = names.map(|name| format!("  {name}: {{ name: {name} }}\n")).concat();
    let planes: String = ["lifecycle", "issuance", "elevation", "runtime", "response", "service", "change"]
        .map(|plane| format!("  {plane}: {{ accountable: olga }}\n"))
        .concat();
    let text = format!(
        "parties:\n{parties}teams:\n  data-platform: {{ lead: olga, members: [bob] }}\nplanes:\n{planes}subjects:\n\
         \x20 alice: {{ kind: human, owner: olga, party: alice }}\n  bob: {{ kind: human, owner: olga, party: bob }}\n\
         \x20 root: {{ kind: human, owner: olga, party: chris, administrator: true }}\n\
         services:\n  orders: {{ owner: olga, safe_failure: none }}\n\
         resources:\n  orders-db: {{ service: orders, protocol: postgresql }}\n\
         roles:\n  reader: {{ owner: petra, why: w, resources: [orders-db], max_for: 8h, approvers: [data-platform] }}\n"
    );
    read_texts([("e.yaml", text.as_str())]).unwrap()
}

/// How a session's evidence is falsified by whoever holds every key.
#[derive(Clone, Copy, PartialEq)]
enum Lie {
    None,
    /// What was denied is recorded as permitted.
    Decision,
    /// The view claims a role's higher trust.
    View,
    /// The view claims to be older than the ledger's first entry, where nothing can contradict it.
    Unfolded,
    /// The journal is written anew after it was anchored.
    Rewritten,
    /// The policy's texts are replaced.
    Policy,
}

fn data(lie: Lie) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let key = SigningKey::from_seed(KeyName::new("onus.test/ledger").unwrap(), &[7; 32]);
    fs::create_dir(dir.path().join("keys")).unwrap();
    fs::write(dir.path().join("keys/ledger.vkey"), key.verifier().to_vkey()).unwrap();
    fs::write(dir.path().join("keys/journal.key"), hex::encode(MASTER)).unwrap();

    let (mut state, mut tree, mut stored) = (State::default(), Tree::new(), Vec::new());
    let mut give = |state: &mut State, command: Command, by: Actor| {
        for event in handle(state, command, &by, NOON).unwrap() {
            let entry = Entry { at: NOON, by: by.clone(), event };
            let bytes = codec::encode(&entry).unwrap();
            state.apply(&entry);
            tree.append(&bytes);
            stored.push(Stored { leaf_hash: leaf_hash(&bytes).0, bytes });
        }
    };
    give(&mut state, Command::ApplyEstate { wanted: Box::new(estate()) }, Actor::Operator);
    let policies = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = ["guards.cedar", "roles.cedar"]
        .map(|name| (name.to_owned(), fs::read_to_string(policies.join("../../policies").join(name)).unwrap()));
    let texts = PolicyTexts { files: files.into(), ..PolicyTexts::default() }.known_to(&state);
    let set = texts.load().unwrap();
    let activate = Command::ActivatePolicy {
        digest: set.digest().into(),
        blob: hex::encode(texts.digest()),
        policies: owners(&set),
    };
    give(&mut state, activate, Actor::Subject(id("root")));
    give(&mut state, Command::EnrollKey { subject: id("alice"), key: "k".into() }, Actor::Gateway("g".into()));
    let asked = Command::RequestAccess {
        id: id("R-1"),
        resource: id("orders-db"),
        role: id("reader"),
        purpose: "why not".into(),
        scope: Scope::default(),
        lasts: Millis(3_600_000),
    };
    give(&mut state, asked, Actor::Subject(id("alice")));
    give(&mut state, Command::ApproveRequest { request: id("R-1"), grant: id("G-1") }, Actor::Subject(id("bob")));
    let open = OpenSession {
        id: id("S-1"),
        subject: id("alice"),
        resource: id("orders-db"),
        role: None,
        database: "app".into(),
        key: "k".into(),
        source: "127.0.0.1:5".into(),
        gateway: "g".into(),
        tier: Tier::Mediated,
    };
    give(&mut state, Command::OpenSession(Box::new(open)), Actor::Gateway("g".into()));

    let Standing::Live(mut view) = judge_session(&state, &state.sessions[&id("S-1")]) else { panic!("it is live") };
    if lie == Lie::View {
        view.tier = Tier::Sealed;
    }
    if lie == Lie::Unfolded {
        (view.tier, view.as_of) = (Tier::Sealed, 0);
    }
    let write = |more: &str| {
        let mut bytes = Vec::new();
        let mut writer = Writer::start(SessionKey::derive(&MASTER, "S-1"), "S-1", NOON.0, &mut bytes).unwrap();
        let mut record = |record: Record<'_>| {
            let mut payload = Vec::new();
            record.encode(&mut payload);
            writer.append(NOON.0, &payload, &mut bytes).unwrap();
        };
        record(Record::View { epoch: view.epoch, json: &serde_json::to_string(&view).unwrap() });
        for (def, sql) in [(1, "SELECT 1 FROM orders"), (2, "DROP TABLE orders"), (3, more)] {
            let operations = crate::offline::explain::operations_of(sql);
            let mut decision = judge(&set, &view, &operations, NOON);
            if lie == Lie::Decision && def == 2 {
                decision = judge(&set, &view, &crate::offline::explain::operations_of("SELECT 1"), NOON);
            }
            record(Record::Def {
                def,
                epoch: view.epoch,
                at: NOON,
                forbidden: None,
                operations: &operations,
                decision: &decision,
            });
            let text = sql.as_bytes();
            record(Record::Op { op: OpNo(def), def, at: NOON, stage: "run", bytes: 9, text, params: &[] });
        }
        (bytes, writer.anchor())
    };
    let (mut bytes, anchor) = write("BEGIN");
    let anchored =
        Command::AnchorJournal { session: id("S-1"), records: anchor.seq, head: anchor.head.to_hex(), closed: true };
    give(&mut state, anchored, Actor::Gateway("g".into()));
    if lie == Lie::Rewritten {
        bytes = write("COMMIT").0;
    }
    let journal = dir.path().join("journals/S-1");
    fs::create_dir_all(&journal).unwrap();
    fs::write(journal.join("000000.onusj"), bytes).unwrap();

    let mut store = SqliteStore::open(dir.path().join("onus.db")).unwrap();
    let size = stored.len() as u64;
    let note = Checkpoint::new(key.verifier().name().clone(), size, tree.root()).sign(&key).unwrap().note().to_string();
    store.append(0, &stored, Some(&onus_store::SignedCheckpoint { size, note })).unwrap();
    let blob = if lie == Lie::Policy { b"{\"files\":{}}".to_vec() } else { texts.to_bytes() };
    store.put_blob(texts.digest(), &blob).unwrap();
    dir
}

fn check(lie: Lie) -> (u8, String) {
    let dir = data(lie);
    let args = VerifyArgs { session: id("S-1"), data: dir.path().to_owned(), key: None, key_file: None, json: false };
    let mut out = Vec::new();
    let status = told(&args, &mut out).unwrap();
    (status, String::from_utf8(out).unwrap())
}

#[test]
fn an_honest_session_holds() {
    let (status, text) = check(Lie::None);
    assert_eq!(
        (status, text.as_str()),
        (
            0,
            "7 records, 1 anchors (1 proven to be in the signed ledger, the last after record 7), closed\n\
             1 views folded again, 3 decisions asked for again, 3 operations\nsession S-1 holds\n"
        )
    );
}

#[test]
fn no_lie_holds_even_with_every_key() {
    for (lie, found) in [
        (Lie::Decision, "decision 2: it was permit, and comes out as deny"),
        (Lie::View, "the recorded view of epoch "),
        (Lie::Unfolded, "1 views are recorded, and the ledger could be folded to 0 of them"),
        (Lie::Rewritten, "the journal was rewritten"),
        (Lie::Policy, "policy version 1: its texts"),
    ] {
        let (status, text) = check(lie);
        assert!(status == FAILED && text.contains(found) && text.ends_with("session S-1 does NOT hold\n"), "{text}");
    }
}

#[test]
fn a_session_id_is_no_path() {
    let dir = tempfile::tempdir().unwrap();
    for wrong in ["..", ".", "../keys", "a/../../keys", "/etc"] {
        assert!(segments(dir.path(), &id(wrong)).unwrap_err().contains("is not the name"), "{wrong}");
    }
}
