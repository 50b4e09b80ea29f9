//! The proxy inside the machine, against a small model of a server.

use super::*;
use crate::message::{message, ready_for_query};
use onus_core::decision::{Confirmation, Decide, Decision, Determining, Effect};
use onus_core::operation::{Class, Durability};
use onus_core::time::{Millis, Timestamp};
use onus_pep::{Appended, Input, Journal, Limits, Machine, Moment, Output, Record, RecordNo};
use proptest::prelude::*;
use std::collections::HashMap;

/// Operations by the text's first word; `set` changes the session.
#[derive(Default)]
struct Words {
    ids: HashMap<String, Arc<StatementInfo>>,
    generation: u64,
}

impl Classify for Words {
    fn classify(&mut self, text: &str) -> Arc<StatementInfo> {
        let word = text.split(' ').next().unwrap_or_default().to_owned();
        let id = self.ids.len() as u64 + 1;
        let make = || {
            let class = if word == "write" { Class::Write } else { Class::Read };
            let mut operation = Operation::new("sql.test", class);
            operation.facts.insert(word.clone());
            let statement = Arc::new(Statement::new(StatementId(id), vec![operation]));
            Arc::new(StatementInfo {
                statement,
                changes_session: word == "set",
                touches_prepared: false,
                effects: [].into(),
            })
        };
        self.ids.entry(word.clone()).or_insert_with(make).clone()
    }
    fn generation(&self) -> u64 {
        self.generation
    }
    fn named(&mut self, _: &str, _: &str) {}
    fn closed(&mut self, _: &str) {}
    fn prepared(&mut self, _: &str) -> Option<Arc<StatementInfo>> {
        None
    }
    fn relayed(&mut self, _: &StatementInfo) {
        self.generation += 1;
    }
    fn settled(&mut self, _: &StatementInfo, _: bool) {}
    fn ready(&mut self, _: u8, _: bool) {}
    fn parameter(&mut self, _: &str, _: &str) {}
    fn opaque(&mut self, why: &str) -> Arc<StatementInfo> {
        let statement = Arc::new(Statement::new(StatementId(0), vec![Operation::opaque("sql.opaque", why)]));
        Arc::new(StatementInfo { statement, changes_session: false, touches_prepared: false, effects: [].into() })
    }
}

struct Pdp;

impl Decide for Pdp {
    fn decide(&self, _: &View, operation: &Operation, _: Timestamp) -> Decision {
        let mut decision = Decision::deny("no policy permits it");
        decision.effect = match operation.facts.first().map(String::as_str) {
            None => Effect::Deny,
            Some("deny") => {
                decision.determining.push(Determining {
                    policy: "no-deny".parse().unwrap(),
                    owner: "dana".parse().unwrap(),
                    why: "it says so".into(),
                });
                Effect::Deny
            }
            Some("hold") => {
                decision.confirmation = Some(Confirmation { by: ["bob".to_owned()].into(), within: Millis(1000) });
                Effect::Hold
            }
            Some(_) => Effect::Permit,
        };
        decision
    }
}

#[derive(Default)]
struct Paper {
    lines: Vec<String>,
    slow: bool,
}

impl Journal for Paper {
    fn append(&mut self, _: RecordNo, record: &Record<'_>, durability: Durability) -> Appended {
        let mut line = Vec::new();
        record.encode(&mut line);
        let value: serde_json::Value = serde_json::from_slice(&line).expect("a record is JSON");
        if value["k"] == "def" {
            serde_json::from_value::<Vec<Operation>>(value["operations"].clone()).expect("operations read back");
            serde_json::from_value::<Decision>(value["decision"].clone()).expect("a decision reads back");
        }
        self.lines.push(String::from_utf8(line).unwrap());
        if self.slow && durability == Durability::Synced { Appended::Pending } else { Appended::Acknowledged }
    }
}

/// A server that knows `begin`, `commit`, `fail`, `copyin` and `onus_refused`; anything else gives two rows.
struct Server {
    seen: Vec<u8>,
    input: BytesMut,
    output: BytesMut,
    skip: bool,
    copying: Option<bool>,
    status: u8,
    statements: HashMap<String, String>,
    portals: HashMap<String, String>,
}

impl Server {
    fn new() -> Self {
        Self {
            seen: Vec::new(),
            input: BytesMut::new(),
            output: BytesMut::new(),
            skip: false,
            copying: None,
            status: b'I',
            statements: HashMap::new(),
            portals: HashMap::new(),
        }
    }
    fn say(&mut self, kind: u8, body: &[u8]) {
        self.output.extend_from_slice(&message(kind, body));
    }
    fn error(&mut self, code: &str, extended: bool) {
        self.say(b'E', format!("SERROR\0VERROR\0C{code}\0Mserver says no\0\0").as_bytes());
        if self.status == b'T' {
            self.status = b'E';
        }
        self.skip = extended;
    }
    fn run(&mut self, text: &str, extended: bool) -> bool {
        match text.split(' ').next().unwrap_or_default() {
            "begin" => self.status = b'T',
            "commit" => self.status = b'I',
            _ if self.status == b'E' => {
                self.error("25P02", extended);
                return false;
            }
            "fail" => {
                self.error("22012", extended);
                return false;
            }
            "copyin" => {
                self.say(b'G', &[0, 0, 0]);
                self.copying = Some(extended);
                return true;
            }
            _ => {
                if !extended {
                    self.say(b'T', &[0, 0]);
                }
                self.say(b'D', &[0, 0]);
                self.say(b'D', &[0, 0]);
                self.say(b'C', b"SELECT 2\0");
                return true;
            }
        }
        self.say(b'C', b"OK\0");
        true
    }
    fn take(&mut self, bytes: &[u8]) {
        self.seen.extend_from_slice(bytes);
        self.input.extend_from_slice(bytes);
        while let Ok(Some((kind, size))) = head(&self.input) {
            if self.input.len() < size {
                break;
            }
            let m = self.input.split_to(size).freeze();
            let mut body = Body::of_message(&m);
            fn text(body: &mut Body<'_>) -> String {
                String::from_utf8(body.cstr().unwrap_or_default().to_vec()).unwrap()
            }
            if let Some(extended) = self.copying {
                match kind {
                    b'c' => {
                        self.copying = None;
                        self.say(b'C', b"COPY 1\0");
                        if !extended {
                            let status = self.status;
                            self.say(b'Z', &[status]);
                        }
                    }
                    b'f' => {
                        self.copying = None;
                        self.error("57014", extended);
                        if !extended {
                            let status = self.status;
                            self.say(b'Z', &[status]);
                        }
                    }
                    b'd' | b'S' | b'H' => {}
                    _ => panic!("another message in COPY IN"),
                }
                continue;
            }
            if self.skip && kind != b'S' {
                continue;
            }
            match kind {
                b'Q' => {
                    self.portals.clear();
                    let text = text(&mut body);
                    if text == "onus_refused" {
                        self.error("42601", false);
                    } else {
                        self.run(&text, false);
                    }
                    if self.copying.is_none() {
                        self.say(b'Z', &[self.status]);
                    }
                }
                b'P' => {
                    let (name, text) = (text(&mut body), text(&mut body));
                    if text == "onus_refused" || text == "badparse" {
                        self.error("42601", true);
                    } else if !name.is_empty() && self.statements.contains_key(&name) {
                        self.error("42P05", true);
                    } else {
                        self.statements.insert(name, text);
                        self.say(b'1', b"");
                    }
                }
                b'B' => {
                    let (portal, name) = (text(&mut body), text(&mut body));
                    match self.statements.get(&name).cloned() {
                        Some(sql) => {
                            self.portals.insert(portal, sql);
                            self.say(b'2', b"");
                        }
                        None => self.error("26000", true),
                    }
                }
                b'D' => self.say(b'n', b""),
                b'E' => {
                    let sql = self.portals.get(&text(&mut body)).cloned();
                    match sql {
                        Some(sql) => drop(self.run(&sql, true)),
                        None => self.error("34000", true),
                    }
                }
                b'S' => {
                    self.skip = false;
                    if self.status == b'I' {
                        self.portals.clear();
                    }
                    self.say(b'Z', &[self.status]);
                }
                b'C' => {
                    if body.byte() == Ok(b'S') {
                        self.statements.remove(std::str::from_utf8(body.cstr().unwrap()).unwrap());
                    }
                    self.say(b'3', b"");
                }
                _ => {}
            }
        }
    }
}

fn view() -> Arc<View> {
    let json = serde_json::json!({
        "session": "s1", "epoch": 1, "as_of": 1, "subject": "alice", "subject_kind": "human", "teams": [],
        "resource": "orders-db", "service": "orders", "labels": [], "database": "orders", "role": "reader",
        "grant": "g1", "purpose": "test", "scope": {}, "opened": 0, "deadline": 100_000, "risk": 0,
        "tier": "mediated", "policy_version": 1, "policy_digest": "aa"
    });
    Arc::new(serde_json::from_value(json).unwrap())
}

struct Bench {
    machine: Machine<PgProtocol<Words>>,
    paper: Paper,
    server: Server,
    client: BytesMut,
    outputs: Vec<Output>,
    held: Option<onus_pep::Ticket>,
    ended: Option<onus_pep::End>,
}

impl Bench {
    fn new() -> Self {
        let protocol = PgProtocol::new(Words::default(), b'I', Options::default());
        Self {
            machine: Machine::new(protocol, view(), "{}".into(), Limits::default()),
            paper: Paper::default(),
            server: Server::new(),
            client: BytesMut::new(),
            outputs: Vec::new(),
            held: None,
            ended: None,
        }
    }
    fn step(&mut self, input: Input<'_>) {
        let moment = Moment { now: Timestamp(10), micros: 0, lease_until: Timestamp(1000), pdp: &Pdp };
        self.machine.step(input, &moment, &mut self.paper, &mut self.outputs);
        for output in std::mem::take(&mut self.outputs) {
            match output {
                Output::ToUpstream(p) => self.server.take(p.bytes()),
                Output::ToClient(b) => self.client.extend_from_slice(&b),
                Output::Hold(t) => self.held = Some(t),
                Output::End(e) => self.ended = Some(e),
                Output::HoldOver(_) | Output::CancelUpstream => {}
            }
        }
    }
    fn send(&mut self, bytes: &[u8]) {
        self.machine.buffers().client.extend_from_slice(bytes);
        self.step(Input::ClientBytes);
    }
    /// Lets the server's answers through, in pieces of at most `piece` bytes.
    fn answer(&mut self, piece: usize) {
        while !self.server.output.is_empty() {
            let n = piece.min(self.server.output.len());
            let bytes = self.server.output.split_to(n);
            self.machine.buffers().upstream.extend_from_slice(&bytes);
            self.step(Input::UpstreamBytes);
        }
    }
    fn talk(&mut self, bytes: &[u8]) -> String {
        self.send(bytes);
        self.answer(usize::MAX);
        self.heard()
    }
    /// What the client got: types, with SQLSTATEs and transaction states.
    fn heard(&self) -> String {
        let mut rest = &self.client[..];
        let mut words = Vec::new();
        while let Some((kind, size)) = head(rest).unwrap() {
            let m = &rest[..size];
            words.push(match kind {
                b'E' => format!("E{}", crate::message::error_fields(m).unwrap().code),
                b'Z' => format!("Z{}", char::from(m[5])),
                _ => char::from(kind).to_string(),
            });
            rest = &rest[size..];
        }
        assert!(rest.is_empty(), "whole messages only");
        words.join(" ")
    }
}

fn q(sql: &str) -> Vec<u8> {
    message(b'Q', &[sql.as_bytes(), b"\0"].concat()).to_vec()
}
fn p(name: &str, sql: &str) -> Vec<u8> {
    message(b'P', format!("{name}\0{sql}\0\0\0").as_bytes()).to_vec()
}
fn b(name: &str) -> Vec<u8> {
    message(b'B', format!("\0{name}\0\0\0\0\x01\0\0\0\x01x\0\0").as_bytes()).to_vec()
}
fn e() -> Vec<u8> {
    message(b'E', b"\0\0\0\0\0").to_vec()
}
fn s() -> Vec<u8> {
    message(b'S', b"").to_vec()
}
/// Parse, bind and run.
fn pbe(sql: &str) -> Vec<u8> {
    [p("", sql), b(""), e()].concat()
}

#[test]
fn a_refused_query_fails_the_transaction_and_the_next_one_works() {
    let mut t = Bench::new();
    assert_eq!(t.talk(&q("deny 1")), "E42501 ZI");
    assert_eq!(t.talk(&q("read 1")), "E42501 ZI T D D C ZI");
    let mut t = Bench::new();
    let all = [q("begin"), q("deny 1"), q("read 1"), q("commit")].concat();
    assert_eq!(t.talk(&all), "C ZT E42501 ZE E25P02 ZE C ZI");
    let text = String::from_utf8_lossy(&t.client).into_owned();
    assert!(text.contains("no-deny") && text.contains("dana") && text.contains("onus request orders-db"), "{text}");
    assert!(!String::from_utf8_lossy(&t.server.seen).contains("deny"), "refused text is never sent");
}

#[test]
fn a_refusal_in_the_middle_of_a_pipeline_with_one_sync_and_with_three() {
    let mut t = Bench::new();
    let one = [pbe("read 1"), pbe("deny 2"), pbe("read 3"), s()].concat();
    assert_eq!(t.talk(&one), "1 2 D D C E42501 ZI");
    let mut t = Bench::new();
    let three = [pbe("read 1"), s(), pbe("deny 2"), s(), pbe("read 3"), s()].concat();
    assert_eq!(t.talk(&three), "1 2 D D C ZI E42501 ZI 1 2 D D C ZI");
    assert!(!String::from_utf8_lossy(&t.server.seen).contains("deny"));
    let denied = t.paper.lines.iter().filter(|l| l.contains("\"text\":\"deny 2\"")).count();
    assert_eq!(denied, 1, "one attempt is one record");
}

#[test]
fn a_refusal_after_a_failure_of_the_group_is_passed_over_like_the_rest() {
    let mut t = Bench::new();
    let all = [pbe("fail 1"), pbe("deny 2"), s(), q("read 3")].concat();
    assert_eq!(t.talk(&all), "1 2 E22012 ZI T D D C ZI");
    assert_eq!(t.ended, None);
}

#[test]
fn every_run_is_recorded_with_its_parameters_and_its_outcome() {
    let mut t = Bench::new();
    t.talk(&[pbe("read 1"), s(), pbe("fail 2"), s()].concat());
    let log = t.paper.lines.join("\n");
    assert!(log.contains(r#""stage":"run","bytes":10,"text":"read 1","params":["x"]"#), "{log}");
    assert!(log.contains(r#""tag":"SELECT 2","rows":2"#), "{log}");
    assert!(log.contains(r#""code":"22012","message":"server says no""#), "{log}");
}

#[test]
fn a_held_run_waits_and_goes_on_and_a_notice_needs_no_answer() {
    let mut t = Bench::new();
    assert_eq!(t.talk(&[pbe("hold 1"), s()].concat()), "1 2");
    let ticket = t.held.clone().unwrap();
    t.step(Input::Notice("it waits"));
    t.step(Input::HoldConfirmed { hold: ticket.hold, digest: ticket.digest, by: "bob" });
    t.answer(usize::MAX);
    assert_eq!(t.heard(), "1 2 N D D C ZI");
}

#[test]
fn a_confirmation_binds_to_the_parameters() {
    let digest = |value: &str| {
        let mut t = Bench::new();
        let bind = message(b'B', format!("\0\0\0\0\0\x01\0\0\0\x01{value}\0\0").as_bytes());
        t.send(&[p("", "hold 1"), bind.to_vec(), e(), s()].concat());
        t.held.expect("held").digest
    };
    assert_eq!(digest("a"), digest("a"));
    assert_ne!(digest("a"), digest("b"));
}

#[test]
fn a_failed_parse_leaves_no_wrong_meaning_behind() {
    let mut t = Bench::new();
    t.talk(&[p("a", "deny-not 1"), s()].concat());
    // The server keeps the first `a`; what runs must be judged as that, even when it was all sent at once.
    let all = [p("a", "deny 2"), s(), p("a", "read 3"), s(), b("a"), e(), s()].concat();
    t.talk(&all);
    let runs: Vec<_> = t.paper.lines.iter().filter(|l| l.contains("\"stage\":\"run\"")).collect();
    assert!(runs.len() == 1 && runs[0].contains("deny-not 1"), "{runs:?}");
}

#[test]
fn what_was_never_prepared_is_opaque_and_refused() {
    let mut t = Bench::new();
    assert_eq!(t.talk(&[b("ghost"), e(), s()].concat()), "E26000 ZI");
    assert!(t.paper.lines.iter().any(|l| l.contains("no such prepared statement")));
}

#[test]
fn function_calls_and_wrong_utf8_are_refused_and_unknown_messages_end_it() {
    let mut t = Bench::new();
    assert_eq!(t.talk(&message(b'F', &[0; 10])), "E42501 ZI");
    assert_eq!(t.talk(&message(b'Q', b"read \xff\0")), "E42501 ZI E22021 ZI");
    assert_eq!(t.talk(&[message(b'P', b"\0read \xff\0\0\0").to_vec(), s()].concat()), "E42501 ZI E22021 ZI E22021 ZI");
    for wrong in [&b"p\0\0\0\x05a"[..], b"Q\0\0\0\x03", b"Q\0\0\0\x07a\0b", b"Q\0\0\0\x06ab", b"y\0\0\0\x04"] {
        let mut t = Bench::new();
        t.send(wrong);
        assert!(t.ended.is_some() && t.server.seen.is_empty(), "{wrong:?}");
    }
}

#[test]
fn copy_in_with_syncs_before_and_after_the_servers_word() {
    let data = message(b'd', b"row\n").to_vec();
    let done = message(b'c', b"").to_vec();
    let mut t = Bench::new();
    assert_eq!(t.talk(&q("copyin")), "G");
    assert_eq!(t.talk(&[data.clone(), done.clone()].concat()), "G C ZI");
    // All at once: the first Sync is ignored by the server.
    let mut t = Bench::new();
    let all = [pbe("copyin"), s(), data.clone(), data.clone(), done.clone(), s(), q("read 1")].concat();
    assert_eq!(t.talk(&all), "1 2 G C ZI T D D C ZI");
    // Step by step.
    let mut t = Bench::new();
    t.talk(&[pbe("copyin"), message(b'H', b"").to_vec()].concat());
    t.talk(&[s(), data.clone()].concat());
    assert_eq!(t.talk(&[done, s(), q("read 1")].concat()), "1 2 G C ZI T D D C ZI");
    // A failed one, with the client still sending.
    let mut t = Bench::new();
    t.talk(&q("copyin"));
    let fail = message(b'f', b"no\0").to_vec();
    assert_eq!(t.talk(&[fail, data, q("read 1")].concat()), "G E57014 ZI T D D C ZI");
    // Anything else is a violation.
    let mut t = Bench::new();
    t.talk(&q("copyin"));
    t.send(&q("read 1"));
    assert!(t.ended.is_some());
}

#[test]
fn copy_data_in_pieces_is_passed_on_as_it_comes() {
    let mut t = Bench::new();
    t.talk(&q("copyin"));
    let before = t.server.seen.len();
    let data = message(b'd', &[7; 1000]);
    t.send(&data[..300]);
    assert_eq!(t.server.seen.len(), before + 300);
    t.send(&data[300..]);
    assert_eq!(&t.server.seen[before..], &data[..]);
}

#[test]
fn a_server_that_takes_the_stand_in_for_a_statement_is_not_believed() {
    let mut t = Bench::new();
    t.send(&q("deny 1"));
    t.server.output.clear();
    t.server.output.extend_from_slice(&ready_for_query(b'I'));
    t.answer(usize::MAX);
    assert_eq!(t.ended.map(|e| e.cause), Some(EndCause::UpstreamViolation));
}

#[test]
fn a_write_that_waits_for_its_record_lets_nothing_overtake_it_and_a_kill_releases_nothing() {
    let mut t = Bench::new();
    t.paper.slow = true;
    t.send(&[q("write 1"), q("read 2")].concat());
    assert!(t.server.seen.is_empty());
    t.step(Input::Recorded(RecordNo(u64::MAX)));
    assert_eq!(t.server.seen, [q("write 1"), q("read 2")].concat());
    t.send(&q("write 3"));
    t.step(Input::Kill(onus_pep::KillReason { text: "over".into(), by: None, code: None }));
    t.step(Input::Recorded(RecordNo(u64::MAX)));
    assert!(!String::from_utf8_lossy(&t.server.seen).contains("write 3"));
    assert!(t.heard().ends_with("E57P01"));
}

#[test]
fn the_last_word_is_not_put_into_the_middle_of_a_row() {
    let mut t = Bench::new();
    t.send(&q("read 1"));
    let row = message(b'D', &[0; 100]);
    t.server.output = BytesMut::from(&row[..50]);
    t.answer(usize::MAX);
    t.step(Input::Notice("wait"));
    t.step(Input::Kill(onus_pep::KillReason { text: "over".into(), by: None, code: None }));
    assert_eq!(t.client[..], row[..50]);
}

#[test]
fn the_servers_own_last_word_stays_the_last() {
    let mut t = Bench::new();
    t.server.say(b'E', b"SFATAL\0VFATAL\0C57P01\0Mterminating connection\0\0");
    t.answer(usize::MAX);
    t.step(Input::UpstreamClosed);
    assert_eq!(t.heard(), "E57P01");

    let mut t = Bench::new();
    t.server.say(b'E', b"SERROR\0VERROR\0C22012\0Mno last word\0\0");
    t.answer(usize::MAX);
    t.step(Input::UpstreamClosed);
    assert_eq!(t.heard(), "E22012 E08006");
}

/// Encodes every record, as a shell would, and forgets it.
struct Bin(Vec<u8>);

impl Journal for Bin {
    fn append(&mut self, _: RecordNo, record: &Record<'_>, _: Durability) -> Appended {
        self.0.clear();
        record.encode(&mut self.0);
        Appended::Acknowledged
    }
}

/// Prints what one round trip costs the machine: `cargo test --release … cost -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement, not a check"]
fn cost_of_a_round_trip() {
    use crate::classifier::{SqlClassifier, TextCache};
    use crate::classify::Environment;
    let rounds = 200_000u32;
    let extended = [pbe("select 1 from orders where id = $1"), s()].concat();
    let answer = [
        message(b'1', b""),
        message(b'2', b""),
        message(b'D', &[0; 60]),
        message(b'C', b"SELECT 1\0"),
        ready_for_query(b'I'),
    ];
    let simple_answer = [message(b'T', &[0; 40])].into_iter().chain(answer[2..].iter().cloned());
    let simple_answer = simple_answer.collect::<Vec<_>>().concat();
    for (name, bytes, answer) in [
        ("simple", q("select abalance from pgbench_accounts where aid = 12345"), simple_answer),
        ("extended", extended, answer.concat()),
    ] {
        let classifier = SqlClassifier::new(Arc::new(TextCache::new(1, 1 << 24)), Environment::assumed());
        let protocol = PgProtocol::new(classifier, b'I', Options::default());
        let mut machine = Machine::new(protocol, view(), "{}".into(), Limits::default());
        let (mut bin, mut out) = (Bin(Vec::new()), Vec::new());
        let begun = std::time::Instant::now();
        for _ in 0..rounds {
            let moment = Moment { now: Timestamp(10), micros: 0, lease_until: Timestamp(1000), pdp: &AllowAll };
            machine.buffers().client.extend_from_slice(&bytes);
            machine.step(Input::ClientBytes, &moment, &mut bin, &mut out);
            machine.buffers().upstream.extend_from_slice(&answer);
            machine.step(Input::UpstreamBytes, &moment, &mut bin, &mut out);
            assert!(out.len() >= 2);
            out.clear();
        }
        println!("{name}: {:.2} µs", begun.elapsed().as_secs_f64() * 1e6 / f64::from(rounds));
    }
}

struct AllowAll;

impl Decide for AllowAll {
    fn decide(&self, _: &View, _: &Operation, _: Timestamp) -> Decision {
        Decision {
            effect: Effect::Permit,
            determining: Vec::new(),
            reasons: Vec::new(),
            confirmation: None,
            valid_until: None,
        }
    }
}

fn piece() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(q("read 1")),
        Just(q("deny 1")),
        Just(q("fail 1")),
        Just(q("begin")),
        Just(q("commit")),
        Just(q("write 1")),
        Just(q("set 1")),
        Just(pbe("read 2")),
        Just(pbe("deny 2")),
        Just(pbe("fail 2")),
        Just(pbe("set 2")),
        Just(p("a", "read 3")),
        Just(p("a", "badparse")),
        Just([b("a"), e()].concat()),
        Just(s()),
        Just(message(b'D', b"P\0").to_vec()),
        Just(message(b'C', b"Sa\0").to_vec()),
        Just(message(b'H', b"").to_vec()),
    ]
}

/// The texts of the operations, in order.
fn texts(lines: &[String]) -> Vec<String> {
    let text = |l: &String| l.split("\"text\":").nth(1).map(str::to_owned);
    lines.iter().filter(|l| l.contains("\"k\":\"op\"")).filter_map(text).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Cut anywhere, both ways: the client hears the same, the server sees the same, the records are the same. Where
    /// the server's failure is known before the rest of the group came, the rest is not even recorded.
    #[test]
    fn any_chunking_gives_the_same(
        pieces in proptest::collection::vec(piece(), 0..25),
        cuts in proptest::collection::vec(1usize..30, 1..60),
        back in 1usize..20,
    ) {
        let bytes = [pieces.concat(), s()].concat();
        let mut whole = Bench::new();
        whole.talk(&bytes);
        prop_assert_eq!(&whole.ended, &None);
        prop_assert!(!String::from_utf8_lossy(&whole.server.seen).contains("deny"));
        for early in [false, true] {
            let mut cut = Bench::new();
            let mut rest = &bytes[..];
            let mut lengths = cuts.iter().cycle();
            while !rest.is_empty() {
                let n = (*lengths.next().unwrap()).min(rest.len());
                cut.send(&rest[..n]);
                if early {
                    cut.answer(back);
                }
                rest = &rest[n..];
            }
            cut.answer(if early { back } else { usize::MAX });
            prop_assert_eq!(cut.heard(), whole.heard());
            prop_assert_eq!(&cut.client, &whole.client);
            if early {
                let mut all = texts(&whole.paper.lines).into_iter();
                prop_assert!(texts(&cut.paper.lines).iter().all(|t| all.any(|a| a == *t)));
            } else {
                prop_assert_eq!(&cut.server.seen, &whole.server.seen);
                prop_assert_eq!(texts(&cut.paper.lines), texts(&whole.paper.lines));
            }
        }
    }

    /// Whatever either side sends, nothing panics; and of statements only recorded ones reach the server.
    #[test]
    fn rubbish_never_panics(
        pieces in proptest::collection::vec(prop_oneof![piece(), proptest::collection::vec(any::<u8>(), 0..40)], 0..12),
        server in proptest::collection::vec(any::<u8>(), 0..200),
        flip in any::<prop::sample::Index>(),
        value in any::<u8>(),
    ) {
        let mut bytes = pieces.concat();
        if !bytes.is_empty() {
            let at = flip.index(bytes.len());
            bytes[at] = value;
        }
        crate::frame::fuzz_frames(&bytes);
        let protocol = PgProtocol::new(Words::default(), b'I', Options::default());
        let mut machine = Machine::new(protocol, view(), "{}".into(), Limits::default());
        let (mut paper, mut out) = (Paper::default(), Vec::new());
        let moment = Moment { now: Timestamp(10), micros: 0, lease_until: Timestamp(1000), pdp: &Pdp };
        machine.buffers().client.extend_from_slice(&bytes);
        machine.step(Input::ClientBytes, &moment, &mut paper, &mut out);
        machine.buffers().upstream.extend_from_slice(&server);
        machine.step(Input::UpstreamBytes, &moment, &mut paper, &mut out);
        let sent: Vec<u8> = out.iter().filter_map(|o| match o {
            Output::ToUpstream(p) => Some(p.bytes().to_vec()),
            _ => None,
        }).flatten().collect();
        let mut rest = &sent[..];
        let mut queries = 0;
        while let Ok(Some((kind, size))) = head(rest) {
            let Some((m, after)) = rest.split_at_checked(size) else { break };
            queries += usize::from(matches!(kind, b'Q' | b'P' | b'E') && m != refusal::POISON_QUERY && m != refusal::POISON_PARSE);
            rest = after;
        }
        prop_assert!(paper.lines.iter().filter(|l| l.contains("\"k\":\"op\"")).count() >= queries);
    }
}
