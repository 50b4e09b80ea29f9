//! Tests that follow a request from the first word to the last, on one small estate.

use crate::accountability::findings::{Case, Part, Used, findings};
use crate::codec;
use crate::command::{Command, OpenSession, handle};
use crate::decision::Effect;
use crate::estate::*;
use crate::event::*;
use crate::ids::*;
use crate::refusal::Refusal;
use crate::runtime::{Standing, judge_session, touched_by};
use crate::state::State;
use crate::time::{Millis, Timestamp};
use crate::view::{Scope, SubjectKind, Tier};
use std::collections::{BTreeMap, BTreeSet};

/// A ledger in memory: every command goes the whole way through wire form and fold.
struct World {
    state: State,
    entries: Vec<Entry>,
    now: Timestamp,
}

fn id<T: std::str::FromStr>(text: &str) -> T
where
    T::Err: std::fmt::Debug,
{
    text.parse().expect("a test's id is well formed")
}

fn party(name: &str) -> Party {
    Party { name: name.into(), contact: None, active: true }
}

fn human(owner: &str, party: Option<&str>, administrator: bool) -> Subject {
    Subject { kind: SubjectKind::Human, owner: id(owner), party: party.map(id), administrator }
}

fn estate() -> Estate {
    let mut estate = Estate::default();
    for name in ["alice", "bob", "petra", "dana", "ivan", "rita", "sam", "chris", "olga"] {
        estate.parties.insert(id(name), party(name));
    }
    let dba = Team { lead: id("bob"), members: [id("olga"), id("alice")].into() };
    estate.teams.insert(id("data-platform"), dba);
    for (plane, owner) in [
        (Plane::Lifecycle, "dana"),
        (Plane::Issuance, "ivan"),
        (Plane::Elevation, "petra"),
        (Plane::Runtime, "rita"),
        (Plane::Response, "sam"),
        (Plane::Service, "olga"),
        (Plane::Change, "chris"),
    ] {
        estate.planes.insert(plane, PlaneOwner { accountable: id(owner), responsible: BTreeSet::new() });
    }
    estate.subjects.insert(id("alice"), human("dana", Some("alice"), false));
    estate.subjects.insert(id("bob"), human("dana", Some("bob"), false));
    estate.subjects.insert(id("root"), human("dana", Some("chris"), true));
    estate.subjects.insert(id("sam"), human("dana", Some("sam"), false));
    let bot = Subject { kind: SubjectKind::Workload, owner: id("bob"), party: None, administrator: false };
    estate.subjects.insert(id("batch"), bot);
    estate.services.insert(
        id("orders"),
        Service { owner: id("olga"), dependents: BTreeSet::new(), safe_failure: "orders queue".into() },
    );
    estate.resources.insert(
        id("orders-db"),
        Resource {
            service: id("orders"),
            owner: None,
            protocol: "postgresql".into(),
            labels: BTreeSet::new(),
            settings: BTreeMap::new(),
        },
    );
    estate.roles.insert(
        id("reader"),
        Role {
            owner: id("petra"),
            why: "read orders".into(),
            resources: [id("orders-db")].into(),
            scope: Scope::default(),
            max_for: Millis(3_600_000),
            approvers: ["data-platform".to_owned()].into(),
            approvals: 1,
            member_of: BTreeSet::new(),
            login: None,
            shell: Terminal::Governed,
            watchers: BTreeSet::new(),
        },
    );
    estate
}

impl World {
    fn new() -> Self {
        let mut world = Self { state: State::default(), entries: Vec::new(), now: Timestamp(1_000_000) };
        world.must(Command::ApplyEstate { wanted: Box::new(estate()) }, &Actor::Operator);
        let policies = [(id("reader"), id("petra"))].into();
        let set = Command::ActivatePolicy { digest: "d1".into(), blob: "b1".into(), policies };
        world.must(set, &subject("root"));
        for name in ["alice", "bob", "batch"] {
            world.must(
                Command::EnrollKey { subject: id(name), key: format!("key-{name}") },
                &Actor::Gateway("g".into()),
            );
        }
        world
    }

    fn give(&mut self, command: Command, by: &Actor) -> Result<Vec<Event>, Refusal> {
        let events = handle(&self.state, command, by, self.now)?;
        for event in &events {
            let entry = Entry { at: self.now, by: by.clone(), event: event.clone() };
            let entry = codec::decode(&codec::encode(&entry).expect("fits")).expect("reads back");
            assert_eq!(entry.event, *event, "an event survives its wire form");
            self.state.apply(&entry);
            self.entries.push(entry);
        }
        self.now = self.now.plus(Millis(10));
        Ok(events)
    }

    fn must(&mut self, command: Command, by: &Actor) -> Vec<Event> {
        self.give(command, by).expect("this command is in order")
    }

    fn request(&mut self, who: &str) -> Result<Vec<Event>, Refusal> {
        let asked = Command::RequestAccess {
            id: id("R-1"),
            resource: id("orders-db"),
            role: id("reader"),
            purpose: "INC-42: find the stuck order".into(),
            scope: Scope::default(),
            lasts: Millis(1_800_000),
        };
        self.give(asked, &subject(who))
    }

    fn approve(&mut self, who: &str) -> Result<Vec<Event>, Refusal> {
        self.give(Command::ApproveRequest { request: id("R-1"), grant: id("G-1") }, &subject(who))
    }

    fn open(&mut self, who: &str) -> Result<Vec<Event>, Refusal> {
        let open = OpenSession {
            id: id("S-1"),
            subject: id(who),
            resource: id("orders-db"),
            role: None,
            database: "app".into(),
            key: format!("key-{who}"),
            source: "127.0.0.1:5".into(),
            gateway: "g".into(),
            tier: Tier::Sealed,
        };
        self.give(Command::OpenSession(Box::new(open)), &Actor::Gateway("g".into()))
    }

    fn granted() -> Self {
        let mut world = Self::new();
        world.request("alice").expect("in order");
        world.approve("bob").expect("in order");
        world
    }

    fn in_session() -> Self {
        let mut world = Self::granted();
        world.open("alice").expect("in order");
        world
    }

    fn stands(&self) -> Standing {
        judge_session(&self.state, &self.state.sessions[&id::<SessionId>("S-1")])
    }
}

fn subject(name: &str) -> Actor {
    Actor::Subject(id(name))
}

#[test]
fn request_approval_grant_session() {
    let world = World::in_session();
    assert!(matches!(world.stands(), Standing::Live(view) if view.purpose.contains("INC-42")));
    assert_eq!(world.state.sessions.len(), 1);
}

#[test]
fn nobody_approves_their_own_not_even_through_a_team_or_a_workload_of_theirs() {
    let mut world = World::new();
    world.request("alice").expect("in order");
    // Alice is in the approving team, and still may not.
    assert!(matches!(world.approve("alice"), Err(Refusal::SelfApproval { .. })));
    assert!(matches!(world.approve("root"), Err(Refusal::NotAnApprover { .. })), "administrators included");
    let mut world = World::new();
    world.request("batch").expect("in order");
    // Bob answers for the workload that asks.
    assert!(matches!(world.approve("bob"), Err(Refusal::SelfApproval { .. })));
}

#[test]
fn whoever_gave_out_a_code_is_not_approved_by_the_key_that_came_of_it() {
    let mut world = World::new();
    // Root keeps the code meant for Bob, and enrols a key of its own as Bob.
    world.must(Command::EnrollKey { subject: id("bob"), key: "roots-own".into() }, &subject("root"));
    world.request("root").expect("in order");
    assert!(matches!(world.approve("bob"), Err(Refusal::NotIndependent { .. })));
    let mut world = World::new();
    world.must(Command::EnrollKey { subject: id("bob"), key: "bobs".into() }, &subject("root"));
    world.request("alice").expect("in order");
    world.approve("bob").expect("for anybody else Bob is Bob");
}

#[test]
fn two_human_subjects_of_one_person_are_not_an_estate() {
    let mut double = estate();
    double.subjects.insert(id("alice-admin"), human("dana", Some("alice"), false));
    assert!(double.problems().iter().any(|p| p.text.contains("one person, one human subject")));
}

#[test]
fn no_purpose_no_deadline_no_owner_no_grant() {
    let mut world = World::new();
    let asked = |purpose: &str, lasts| Command::RequestAccess {
        id: id("R-1"),
        resource: id("orders-db"),
        role: id("reader"),
        purpose: purpose.into(),
        scope: Scope::default(),
        lasts,
    };
    assert!(matches!(world.give(asked(" ", Millis(1)), &subject("alice")), Err(Refusal::PurposeMissing(_))));
    assert!(matches!(world.give(asked("INC-42", Millis(0)), &subject("alice")), Err(Refusal::DurationMissing)));
    assert!(matches!(world.give(asked("INC-42", Millis(u64::MAX)), &subject("alice")), Err(Refusal::TooLong { .. })));
    world.must(Command::RecordLeaver { party: id("sam"), reason: "left".into() }, &subject("root"));
    match world.request("alice") {
        Err(Refusal::OwnersMissing { gaps }) => assert!(gaps[0].contains("response plane"), "{gaps:?}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_owner_who_leaves_between_approval_and_use_means_no_session() {
    let mut world = World::granted();
    world.must(Command::RecordLeaver { party: id("olga"), reason: "left".into() }, &subject("root"));
    assert!(matches!(world.open("alice"), Err(Refusal::OwnersMissing { .. })));
}

#[test]
fn what_made_a_session_legitimate_ending_ends_it() {
    let end = |command: Command| {
        let mut world = World::in_session();
        let touched: Vec<_> = {
            let events = handle(&world.state, command.clone(), &subject("root"), world.now).expect("in order");
            events.iter().flat_map(|event| touched_by(&world.state, event)).collect()
        };
        assert!(touched.contains(&id("S-1")), "{command:?} must make the session be judged again");
        world.must(command, &subject("root"));
        match world.stands() {
            Standing::Ended(reason) => reason,
            Standing::Live(_) => panic!("it lives on"),
        }
    };
    let why = || "because".to_owned();
    assert_eq!(end(Command::RevokeGrant { grant: id("G-1"), reason: why() }), EndReason::GrantRevoked);
    assert_eq!(end(Command::DisableSubject { subject: id("alice"), reason: why() }), EndReason::SubjectDisabled);
    assert!(matches!(end(Command::RecordLeaver { party: id("petra"), reason: why() }), EndReason::OwnerMissing { .. }));
    let mut without = estate();
    without.roles.clear();
    assert!(matches!(end(Command::ApplyEstate { wanted: Box::new(without) }), EndReason::Withdrawn { .. }));
}

#[test]
fn a_key_that_was_not_enrolled_opens_nothing() {
    let mut world = World::granted();
    let open = OpenSession {
        id: id("S-1"),
        subject: id("alice"),
        resource: id("orders-db"),
        role: None,
        database: "app".into(),
        key: "key-bob".into(),
        source: String::new(),
        gateway: "g".into(),
        tier: Tier::Mediated,
    };
    let open = Command::OpenSession(Box::new(open));
    assert!(matches!(world.give(open, &Actor::Gateway("g".into())), Err(Refusal::KeyNotEnrolled(_))));
}

#[test]
fn a_clock_set_back_revives_nothing() {
    let mut world = World::granted();
    world.now = Timestamp(1_000_000 + 1_800_000 + 1000);
    world.must(Command::EnrollKey { subject: id("bob"), key: "later".into() }, &Actor::Gateway("g".into()));
    world.now = Timestamp(1_000_500);
    assert!(matches!(world.open("alice"), Err(Refusal::GrantEnded { .. })));
}

#[test]
fn snapshot_and_fold_agree_byte_for_byte() {
    let world = World::in_session();
    for cut in 0..=world.entries.len() {
        let mut front = State::default();
        world.entries[..cut].iter().for_each(|entry| front.apply(entry));
        let mut back = State::from_snapshot(&front.snapshot()).expect("reads back");
        world.entries[cut..].iter().for_each(|entry| back.apply(entry));
        assert_eq!(back.snapshot(), world.state.snapshot());
        assert_eq!(back, world.state, "the index too");
    }
}

#[test]
fn a_hold_is_confirmed_by_somebody_named_who_is_not_the_asker() {
    let mut world = World::in_session();
    let hold = Hold {
        id: id("H-1"),
        session: id("S-1"),
        subject: id("alice"),
        digest: "x".into(),
        policy_digest: "d1".into(),
        policies: vec![id("reader")],
        by: ["data-platform".to_owned()].into(),
        at: world.now,
        expires: world.now.plus(Millis(60_000)),
    };
    world.must(Command::OpenHold(Box::new(hold)), &Actor::Gateway("g".into()));
    let confirm = || Command::ConfirmHold { hold: id("H-1") };
    assert!(matches!(world.give(confirm(), &subject("alice")), Err(Refusal::SelfConfirmation { .. })));
    assert!(matches!(world.give(confirm(), &subject("sam")), Err(Refusal::NotAConfirmer { .. })));
    world.must(confirm(), &subject("bob"));
    assert!(matches!(world.give(confirm(), &subject("bob")), Err(Refusal::UnknownHold(_))), "once only");
}

#[test]
fn a_kill_needs_standing_and_a_reason() {
    let mut world = World::in_session();
    let kill = |reason: &str| Command::Kill { target: KillTarget::Session(id("S-1")), reason: reason.into() };
    assert!(matches!(world.give(kill("drift"), &subject("bob")), Err(Refusal::NotAllowed { .. })));
    assert!(matches!(world.give(kill(" "), &subject("sam")), Err(Refusal::ReasonMissing)));
    world.must(kill("drift"), &subject("sam"));
}

#[test]
fn who_names_the_actor_the_role_owner_the_policy_owner_and_the_approver() {
    let mut world = World::in_session();
    world.must(Command::Kill { target: KillTarget::Session(id("S-1")), reason: "drift".into() }, &subject("sam"));
    let closed = Command::CloseSession {
        session: id("S-1"),
        reason: EndReason::Killed { by: "sam".into(), reason: "drift".into() },
        totals: SessionTotals::default(),
    };
    world.must(closed, &Actor::Gateway("g".into()));
    let used = Used {
        determined: [((Effect::Permit, id("reader")), 3)].into(),
        operations: [(Effect::Permit, 3)].into(),
        confirmed_by: BTreeSet::new(),
    };
    let timed = |world: &mut World, us: u64| {
        let times = KillTimes {
            cancelled_us: Some(500),
            client_closed_us: Some(us),
            upstream_closed_us: Some(us),
            credential_revoked_us: Some(us),
        };
        let done = Command::CompleteKill { session: id("S-1"), ordered: world.now, times };
        world.must(done, &Actor::Gateway("g".into()));
    };
    timed(&mut world, 2_500_000);
    let case = Case::of(&id("S-1"), &world.entries, used.clone()).expect("it opened");
    let said: Vec<_> = findings(&case).into_iter().map(|f| (f.rule, f.part, f.who.unwrap_or_default())).collect();
    let expect = |rule: &str, part, who: &str| {
        assert!(said.contains(&(rule.to_owned(), part, who.to_owned())), "{rule} {part:?} {who} in {said:?}");
    };
    expect("permitted-abuse", Part::Responsible, "alice");
    expect("permitted-abuse", Part::Accountable, "petra");
    expect("permitted-abuse", Part::Accountable, "bob");
    expect("slow-kill", Part::Accountable, "sam");
    // Whoever owns the role later does not change the answer about then.
    let mut later = estate();
    later.roles.get_mut(&id::<RoleId>("reader")).expect("there").owner = id("ivan");
    world.must(Command::ApplyEstate { wanted: Box::new(later) }, &subject("root"));
    let case = Case::of(&id("S-1"), &world.entries, used).expect("it opened");
    assert!(findings(&case).iter().all(|f| f.who.as_deref() != Some("ivan")));
}

fn watch(session: &str) -> Command {
    Command::BeginWatch { session: id(session) }
}

/// A session of Alice's under a role that Bob's team must watch.
fn watched_world() -> World {
    let mut world = World::in_session();
    let mut wanted = estate();
    wanted.roles.get_mut(&id::<RoleId>("reader")).expect("there").watchers = ["data-platform".to_owned()].into();
    world.must(Command::ApplyEstate { wanted: Box::new(wanted) }, &subject("root"));
    world
}

#[test]
fn a_role_that_demands_a_watcher_counts_only_an_independent_one_who_is_named() {
    let session: SessionId = id("S-1");
    assert!(!World::in_session().state.needs_watch(&session));
    let mut world = watched_world();
    assert!(world.state.needs_watch(&session) && !world.state.is_watched(&session));
    // Alice is in the team that watches, and is the one who is watched.
    assert!(matches!(world.give(watch("S-1"), &subject("alice")), Err(Refusal::SelfWatch { .. })));
    assert!(matches!(world.give(watch("S-1"), &subject("nobody")), Err(Refusal::UnknownSubject(_))));
    assert!(matches!(world.give(watch("S-1"), &subject("batch")), Err(Refusal::NotAWatcher { .. })));
    assert!(matches!(world.give(watch("S-9"), &subject("bob")), Err(Refusal::UnknownSession(_))));
    // Sam responds: he may look on, and that is not what the role asks for.
    world.must(watch("S-1"), &subject("sam"));
    assert!(!world.state.is_watched(&session));
    world.must(watch("S-1"), &subject("bob"));
    assert!(world.state.is_watched(&session));
    assert!(matches!(world.give(watch("S-1"), &subject("bob")), Err(Refusal::NothingToDo)));
    let end =
        |who: &str, reason: &str| Command::EndWatch { session: id("S-1"), subject: id(who), reason: reason.into() };
    assert!(matches!(world.give(end("bob", "x"), &subject("alice")), Err(Refusal::NotAllowed { .. })));
    let ended = world.must(end("bob", "went home"), &subject("bob"));
    assert_eq!(touched_by(&world.state, &ended[0]), std::slice::from_ref(&session), "its task is told");
    assert!(!world.state.is_watched(&session), "Sam alone does not count");
}

#[test]
fn a_watcher_who_is_disabled_leaves_or_was_let_in_by_the_watched_does_not_count() {
    let session: SessionId = id("S-1");
    let mut world = watched_world();
    world.must(watch("S-1"), &subject("bob"));
    let disable = Command::DisableSubject { subject: id("bob"), reason: "lost laptop".into() };
    let events = handle(&world.state, disable.clone(), &subject("root"), world.now).expect("in order");
    assert_eq!(touched_by(&world.state, &events[0]), std::slice::from_ref(&session));
    world.must(disable, &subject("root"));
    assert!(!world.state.is_watched(&session));
    let mut world = watched_world();
    world.must(watch("S-1"), &subject("bob"));
    world.must(Command::RecordLeaver { party: id("bob"), reason: "left".into() }, &subject("root"));
    assert!(!world.state.is_watched(&session));
    let mut world = watched_world();
    world.must(Command::EnrollKey { subject: id("bob"), key: "alices".into() }, &subject("alice"));
    assert!(matches!(world.give(watch("S-1"), &subject("bob")), Err(Refusal::NotIndependent { .. })));
}

#[test]
fn a_watch_ends_with_its_session_and_survives_a_snapshot() {
    let mut world = watched_world();
    world.must(watch("S-1"), &subject("bob"));
    let back = State::from_snapshot(&world.state.snapshot()).expect("reads back");
    assert!(back.is_watched(&id("S-1")));
    let close =
        Command::CloseSession { session: id("S-1"), reason: EndReason::ClientClosed, totals: SessionTotals::default() };
    world.must(close, &Actor::Gateway("g".into()));
    assert!(world.state.watches.is_empty() && !world.state.needs_watch(&id("S-1")));
    let late = Event::WatchBegan { session: id("S-1"), subject: id("bob"), party: None };
    world.state.apply(&Entry { at: world.now, by: subject("bob"), event: late });
    assert!(world.state.watches.is_empty());
}

#[test]
fn a_session_with_the_hosts_own_shell_is_observed_whatever_the_gateway_claims() {
    let mut world = World::new();
    let mut wanted = estate();
    wanted.roles.get_mut(&id::<RoleId>("reader")).expect("there").shell = Terminal::Raw;
    world.must(Command::ApplyEstate { wanted: Box::new(wanted) }, &subject("root"));
    world.request("alice").expect("in order");
    world.approve("bob").expect("in order");
    world.open("alice").expect("in order");
    assert_eq!(world.state.sessions[&id::<SessionId>("S-1")].tier, Tier::Observed);
    assert_eq!(World::in_session().state.sessions[&id::<SessionId>("S-1")].tier, Tier::Sealed);
}

#[test]
fn only_a_gateway_says_what_key_a_host_showed() {
    let mut world = World::new();
    let note = |resource: &str| Command::NoteHostKey {
        resource: id(resource),
        session: None,
        expected: vec!["SHA256:a".into()],
        seen: "SHA256:b".into(),
    };
    assert!(matches!(world.give(note("orders-db"), &subject("root")), Err(Refusal::NotAllowed { .. })));
    assert!(matches!(world.give(note("x"), &Actor::Gateway("g".into())), Err(Refusal::UnknownResource(_))));
    world.must(note("orders-db"), &Actor::Gateway("g".into()));
}

#[test]
fn a_role_without_the_new_fields_is_written_as_it_always_was() {
    let role = &estate().roles[&id::<RoleId>("reader")];
    let json = serde_json::to_value(role).expect("plain data");
    for field in ["login", "shell", "watchers"] {
        assert!(json.get(field).is_none(), "{field} would change every old estate's difference");
    }
    let mut wanted = estate();
    let role = wanted.roles.get_mut(&id::<RoleId>("reader")).expect("there");
    role.login = Some("-oProxyCommand=x".into());
    role.watchers = ["ghosts".to_owned()].into();
    role.scope.paths = ["/var/log/".to_owned(), "/var/log".to_owned()].into();
    let fields: Vec<_> = wanted.problems().into_iter().map(|p| (p.field, p.value.unwrap_or_default())).collect();
    let wrong = [("watchers", "ghosts"), ("login", "-oProxyCommand=x"), ("scope", "/var/log/")];
    assert_eq!(fields, wrong.map(|(field, value)| (field, value.to_owned())));
}
