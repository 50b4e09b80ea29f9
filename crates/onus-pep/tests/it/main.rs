//! The machine against a toy protocol: one frame a line, `+` lines answer, and the first letter says what it is.

use bytes::{Buf, Bytes, BytesMut};
use onus_core::decision::{Confirmation, Decide, Decision, Effect};
use onus_core::operation::{Class, Durability, Operation};
use onus_core::time::{Millis, Timestamp};
use onus_core::view::View;
use onus_pep::*;
use proptest::prelude::*;
use std::cell::Cell;
use std::sync::Arc;

#[derive(Default)]
struct Lines;

impl Protocol for Lines {
    type Kind = ();
    fn client(&mut self, buffer: &mut BytesMut) -> Result<Next<()>, Violation> {
        let Some(end) = buffer.iter().position(|b| *b == b'\n') else { return Ok(Next::More) };
        let bytes = buffer.split_to(end + 1).freeze();
        let op = |class| Some(Operation::new("toy", class));
        let operation = match bytes[0] {
            b'r' | b'h' | b'd' | b't' => op(Class::Read),
            b'w' => op(Class::Write),
            b'.' => None,
            _ => return Err(Violation::new("08P01", "no such letter")),
        };
        let mut frame = Frame::plain(bytes.clone(), ());
        frame.text = bytes.slice(..end);
        frame.statement = operation.map(|mut o| {
            o.facts.insert(String::from_utf8_lossy(&bytes[..1]).into_owned());
            Arc::new(Statement::new(StatementId(u64::from(bytes[0])), vec![o]))
        });
        Ok(Next::Frame(frame))
    }
    fn upstream(&mut self, buffer: &mut BytesMut, _: u64, out: &mut Vec<Reply>) -> Result<(), Violation> {
        out.push(Reply::ToClient(buffer.split().freeze()));
        Ok(())
    }
    fn refuse(&mut self, _: &Frame<()>, _: &Refusal<'_>) -> Replacement {
        Replacement { upstream: b"poison\n", answer: Bytes::new() }
    }
    fn relayed(&mut self, _: &Frame<()>, _: OpNo, _: u64) -> Option<&'static [u8]> {
        None
    }
    fn replaced(&mut self, _: &Frame<()>, _: Replacement, _: OpNo, _: u64) -> Option<Bytes> {
        None
    }
    fn notice(&mut self, _: &str) -> Option<Bytes> {
        None
    }
    fn fatal(&self, _: EndCause, _: Option<&str>, text: &str) -> Option<Bytes> {
        Some(Bytes::copy_from_slice(text.as_bytes()))
    }
    fn digest(&self, frame: &Frame<()>, view: &View) -> Digest {
        let mut digest = [0; 32];
        digest[0] = frame.bytes[1];
        digest[1] = view.policy_version as u8;
        digest
    }
    fn busy(&self) -> bool {
        true
    }
}

/// Decides by the fact, and counts how often it was asked.
#[derive(Default)]
struct Pdp {
    asked: Cell<u32>,
    until: Option<Timestamp>,
    deny_all: bool,
}

impl Decide for Pdp {
    fn decide(&self, _: &View, operation: &Operation, _: Timestamp) -> Decision {
        self.asked.set(self.asked.get() + 1);
        let mut decision = Decision::deny("no");
        decision.valid_until = self.until;
        decision.effect = match operation.facts.first().map(String::as_str) {
            _ if self.deny_all => Effect::Deny,
            Some("h") => Effect::Hold,
            Some("d") => Effect::Deny,
            Some("t") => Effect::Terminate,
            _ => Effect::Permit,
        };
        if decision.effect == Effect::Hold {
            decision.confirmation = Some(Confirmation { by: ["bob".to_owned()].into(), within: Millis(1000) });
        }
        decision
    }
}

/// Acknowledges reads at once, writes when told to.
struct Paper {
    lines: Vec<String>,
    slow: bool,
    fails: bool,
}

impl Journal for Paper {
    fn append(&mut self, no: RecordNo, record: &Record<'_>, durability: Durability) -> Appended {
        if self.fails {
            return Appended::Failed;
        }
        let mut line = Vec::new();
        record.encode(&mut line);
        self.lines.push(String::from_utf8(line).unwrap());
        assert_eq!(no.0 as usize, self.lines.len(), "numbers rise by one");
        if self.slow && durability == Durability::Synced { Appended::Pending } else { Appended::Acknowledged }
    }
}

fn view(epoch: u64, policy: u64) -> Arc<View> {
    use onus_core::view::{Scope, SubjectKind, Tier};
    Arc::new(View {
        session: "s1".parse().unwrap(),
        epoch,
        as_of: 1,
        subject: "alice".parse().unwrap(),
        subject_kind: SubjectKind::Human,
        teams: Default::default(),
        resource: "orders-db".parse().unwrap(),
        service: "orders".parse().unwrap(),
        labels: Default::default(),
        database: "orders".into(),
        role: "reader".parse().unwrap(),
        grant: "g1".parse().unwrap(),
        purpose: "test".into(),
        scope: Scope::default(),
        opened: Timestamp(0),
        deadline: Timestamp(100_000),
        risk: 0,
        tier: Tier::Mediated,
        policy_version: policy,
        policy_digest: policy.to_string(),
    })
}

struct Bench {
    machine: Machine<Lines>,
    pdp: Pdp,
    paper: Paper,
    now: u64,
    lease: u64,
    out: Vec<Output>,
}

impl Bench {
    fn new(slow: bool) -> Self {
        Self {
            machine: Machine::new(Lines, view(1, 1), "{}".into(), Limits::default()),
            pdp: Pdp::default(),
            paper: Paper { lines: Vec::new(), slow, fails: false },
            now: 10,
            lease: 50_000,
            out: Vec::new(),
        }
    }
    fn step(&mut self, input: Input<'_>) {
        let moment = Moment { now: Timestamp(self.now), micros: 0, lease_until: Timestamp(self.lease), pdp: &self.pdp };
        self.machine.step(input, &moment, &mut self.paper, &mut self.out);
    }
    fn client(&mut self, text: &str) {
        self.machine.buffers().client.extend_from_slice(text.as_bytes());
        self.step(Input::ClientBytes);
    }
    fn up(&self) -> String {
        let sent = self.out.iter().filter_map(|o| match o {
            Output::ToUpstream(p) => Some(p.bytes().clone()),
            _ => None,
        });
        String::from_utf8(sent.flatten().collect()).unwrap()
    }
    fn ended(&self) -> Option<EndCause> {
        self.out.iter().find_map(|o| match o {
            Output::End(end) => Some(end.cause),
            _ => None,
        })
    }
    fn ticket(&self) -> Ticket {
        let found = self.out.iter().rev().find_map(|o| match o {
            Output::Hold(t) => Some(t.clone()),
            _ => None,
        });
        found.expect("something is held")
    }
    fn confirm(&mut self) {
        let t = self.ticket();
        self.step(Input::HoldConfirmed { hold: t.hold, digest: t.digest, by: "bob" });
    }
    fn acknowledge(&mut self) {
        self.step(Input::Recorded(RecordNo(u64::MAX)));
    }
}

#[test]
fn a_read_goes_through_in_one_step_and_is_decided_once() {
    let mut b = Bench::new(true);
    b.client("r1\nr2\nr3\n");
    assert_eq!((b.up().as_str(), b.pdp.asked.get()), ("r1\nr2\nr3\n", 1));
    assert_eq!(b.paper.lines.iter().filter(|l| l.contains("\"k\":\"def\"")).count(), 1);
    assert_eq!(b.paper.lines.iter().filter(|l| l.contains("\"k\":\"op\"")).count(), 3);
}

#[test]
fn a_write_waits_for_its_acknowledgement_and_everything_after_it_waits_too() {
    let mut b = Bench::new(true);
    b.client("r1\nw2\nr3\n.4\n");
    assert_eq!(b.up(), "r1\n");
    b.step(Input::Recorded(RecordNo(2)));
    assert_eq!(b.up(), "r1\n", "an acknowledgement of something earlier is none");
    b.acknowledge();
    assert_eq!(b.up(), "r1\nw2\nr3\n.4\n");
}

#[test]
fn an_acknowledgement_from_the_future_acknowledges_nothing_to_come() {
    let mut b = Bench::new(true);
    b.acknowledge();
    b.client("w1\n");
    assert_eq!(b.up(), "");
}

#[test]
fn a_refusal_is_recorded_and_the_text_stays_here() {
    let mut b = Bench::new(false);
    b.client("d1\nr2\n");
    assert_eq!(b.up(), "poison\nr2\n");
    assert!(b.paper.lines.iter().any(|l| l.contains("\"text\":\"d1\"")));
    assert!(b.paper.lines.iter().any(|l| l.contains("\"effect\":\"deny\"")));
}

#[test]
fn without_a_record_nothing_goes_out_and_the_client_is_told() {
    let mut b = Bench::new(false);
    b.client("r1\n");
    b.paper.fails = true;
    b.client("r2\nr3\n");
    assert_eq!((b.up().as_str(), b.ended()), ("r1\n", Some(EndCause::JournalFailed)));
    assert!(b.out.iter().any(|o| matches!(o, Output::ToClient(t) if t.starts_with(b"the session can't"))));
}

#[test]
fn nothing_goes_out_after_a_kill_whatever_comes_later() {
    for held in [false, true] {
        let mut b = Bench::new(true);
        b.client(if held { "w1\nh2\nr3\n" } else { "w1\nr2\n" });
        b.step(Input::Kill(KillReason { text: "over".into(), by: Some("bob".into()), code: None }));
        assert_eq!(b.ended(), Some(EndCause::Killed));
        let count = b.out.len();
        b.acknowledge();
        if held {
            b.confirm();
        }
        b.client("r9\n");
        b.step(Input::NewView(view(2, 2), "{}".into()));
        b.step(Input::UpstreamBytes);
        assert_eq!((b.out.len(), b.up().as_str()), (count, ""));
        assert!(b.out.iter().any(|o| matches!(o, Output::CancelUpstream)));
    }
}

#[test]
fn a_lapsed_lease_and_a_passed_deadline_end_the_session_before_the_frame_is_looked_at() {
    for (lease, now, cause) in [(20, 20, EndCause::LeaseLapsed), (200_000, 100_000, EndCause::DeadlinePassed)] {
        let mut b = Bench::new(false);
        (b.lease, b.now) = (lease, now - 1);
        b.client("r1\n");
        b.now = now;
        b.client("r2\n");
        assert_eq!((b.up().as_str(), b.ended()), ("r1\n", Some(cause)));
    }
}

#[test]
fn a_lapsed_lease_holds_back_what_was_acknowledged_too_late() {
    let mut b = Bench::new(true);
    b.client("w1\n");
    b.now = b.lease;
    b.acknowledge();
    assert_eq!((b.up().as_str(), b.ended()), ("", Some(EndCause::LeaseLapsed)));
}

#[test]
fn a_new_view_forgets_decisions_and_judges_again_what_waits() {
    let mut b = Bench::new(true);
    b.client("r0\nw1\n");
    b.pdp.deny_all = true;
    b.step(Input::NewView(view(2, 2), "{}".into()));
    b.acknowledge();
    b.client("r2\n");
    assert_eq!(b.up(), "r0\npoison\npoison\n");
    b.step(Input::NewView(view(1, 1), "{}".into()));
    assert_eq!(b.machine.view().epoch, 2, "an older view changes nothing");
}

#[test]
fn an_answer_is_reused_no_longer_than_it_is_valid() {
    let mut b = Bench::new(false);
    b.pdp.until = Some(Timestamp(20));
    b.client("r1\nr2\n");
    assert_eq!(b.pdp.asked.get(), 1);
    b.now = 20;
    b.client("r3\n");
    assert_eq!(b.pdp.asked.get(), 2);
}

#[test]
fn a_held_frame_waits_for_exactly_its_confirmation() {
    let mut b = Bench::new(false);
    b.client("h1\nr2\n");
    let t = b.ticket();
    assert_eq!(b.up(), "");
    b.step(Input::HoldConfirmed { hold: t.hold, digest: [9; 32], by: "bob" });
    b.step(Input::HoldConfirmed { hold: t.hold, digest: t.digest, by: "alice" });
    b.step(Input::HoldConfirmed { hold: OpNo(77), digest: t.digest, by: "bob" });
    assert_eq!(b.up(), "", "another digest, the subject itself, another frame");
    b.confirm();
    assert_eq!(b.up(), "h1\nr2\n");
    assert!(b.paper.lines.iter().any(|l| l.contains("\"k\":\"confirmed\"") && l.contains("bob")));
}

#[test]
fn a_hold_that_expires_or_is_declined_is_refused_and_a_late_confirmation_changes_nothing() {
    for expires in [true, false] {
        let mut b = Bench::new(false);
        b.client("h1\nr2\n");
        if expires {
            b.now += 1000;
            b.step(Input::Tick);
        } else {
            b.step(Input::HoldRefused { hold: OpNo(1), by: "bob", reason: "no" });
        }
        b.confirm();
        assert_eq!(b.up(), "poison\nr2\n");
    }
}

#[test]
fn a_hold_does_not_outlive_the_policy_that_held_it() {
    let mut b = Bench::new(false);
    b.client("h1\n");
    b.step(Input::NewView(view(2, 1), "{}".into()));
    b.confirm();
    assert_eq!(b.up(), "h1\n", "the same policy: the same hold");
    b.client("h2\n");
    b.step(Input::NewView(view(3, 2), "{}".into()));
    b.confirm();
    assert_eq!(b.up(), "h1\npoison\n", "another policy");
}

#[test]
fn terminate_ends_and_violations_end() {
    let mut b = Bench::new(false);
    b.client("r1\nt2\nr3\n");
    assert_eq!((b.up().as_str(), b.ended()), ("r1\n", Some(EndCause::Terminated)));
    let mut b = Bench::new(false);
    b.client("r1\n?\n");
    assert_eq!(b.ended(), Some(EndCause::ClientViolation));
}

#[test]
fn a_client_that_leaves_gets_its_permitted_frames_out_but_no_held_one() {
    let mut b = Bench::new(true);
    b.client("w1\n");
    b.step(Input::ClientClosed);
    assert_eq!(b.ended(), None);
    b.acknowledge();
    assert_eq!((b.up().as_str(), b.ended()), ("w1\n", Some(EndCause::ClientLeft)));
    let mut b = Bench::new(true);
    b.client("h1\n");
    b.step(Input::ClientClosed);
    assert_eq!((b.up().as_str(), b.ended()), ("", Some(EndCause::ClientLeft)));
}

#[test]
fn a_client_is_not_read_without_bound_while_something_waits() {
    let mut b = Bench::new(false);
    b.client("h1\n");
    assert!(b.machine.wants_client());
    b.client(&"r2\n".repeat(100_000));
    assert!(!b.machine.wants_client() && b.machine.wants_upstream());
    b.confirm();
    assert!(b.machine.wants_client());
}

#[test]
fn another_sessions_view_ends_this_one() {
    let mut b = Bench::new(false);
    let mut other = View::clone(&view(2, 1));
    other.session = "s2".parse().unwrap();
    b.step(Input::NewView(Arc::new(other), "{}".into()));
    assert_eq!(b.ended(), Some(EndCause::Broken));
}

proptest! {
    /// However the bytes are cut and whenever acknowledgements come: the same bytes go up, in order, and each has its
    /// record before it.
    #[test]
    fn any_chunking_gives_the_same_and_all_of_it_recorded(
        lines in proptest::collection::vec(prop_oneof!["r[0-9]\n", "w[0-9]\n", "d[0-9]\n", "\\.\n"], 0..20),
        cuts in proptest::collection::vec((1usize..7, any::<bool>()), 0..40),
        slow in any::<bool>(),
    ) {
        let text = lines.concat();
        let expected: String = lines.iter().map(|l| if l.starts_with('d') { "poison\n" } else { l }).collect();
        let mut b = Bench::new(slow);
        let mut rest = Bytes::from(text);
        for (cut, ack) in cuts {
            let piece = rest.split_to(cut.min(rest.len()));
            b.client(std::str::from_utf8(&piece).unwrap());
            prop_assert!(expected.starts_with(&b.up()));
            if ack { b.acknowledge(); }
        }
        b.client(std::str::from_utf8(rest.chunk()).unwrap());
        b.acknowledge();
        prop_assert_eq!(b.up(), expected);
        let ops = b.paper.lines.iter().filter(|l| l.contains("\"k\":\"op\"")).count();
        prop_assert_eq!(ops, lines.iter().filter(|l| !l.starts_with('.')).count());
    }
}
