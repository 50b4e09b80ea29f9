//! The protocol within the machine, with a host made of packets: what reaches it, and what the client hears.

use super::*;
use crate::message::Fields;
use onus_core::decision::{Confirmation, Decide, Decision, Effect};
use onus_core::operation::Durability;
use onus_core::time::{Millis, Timestamp};
use onus_core::view::{Scope, SubjectKind, Tier};
use onus_pep::machine::Buffers;
use onus_pep::{Appended, Input, Journal, Limits, Machine, Moment, Output, Record, RecordNo};
use onus_shell::Schemas;
use proptest::prelude::*;

/// Decides by the program: `id` is held, `rm` is refused, and so is whatever can't be known.
struct Pdp;

impl Decide for Pdp {
    fn decide(&self, _: &View, operation: &Operation, _: Timestamp) -> Decision {
        let program = |name: &str| operation.objects.iter().any(|o| o.kind == "program" && o.name == name);
        let mut decision = Decision::deny("the test says so");
        decision.effect = match () {
            () if program("id") => Effect::Hold,
            () if program("rm") || operation.action.ends_with(".opaque") || operation.action == "ssh.agent" => {
                Effect::Deny
            }
            () => Effect::Permit,
        };
        if decision.effect == Effect::Hold {
            decision.confirmation = Some(Confirmation { by: ["bob".to_owned()].into(), within: Millis(1000) });
        }
        decision
    }
}

/// Keeps what is recorded; everything counts at once.
#[derive(Default)]
struct Paper(Vec<String>);

impl Journal for Paper {
    fn append(&mut self, _: RecordNo, record: &Record<'_>, _: Durability) -> Appended {
        let mut line = Vec::new();
        record.encode(&mut line);
        self.0.push(String::from_utf8_lossy(&line).into_owned());
        Appended::Acknowledged
    }
}

fn view() -> Arc<View> {
    Arc::new(View {
        session: "s1".parse().unwrap(),
        epoch: 1,
        as_of: 1,
        subject: "alice".parse().unwrap(),
        subject_kind: SubjectKind::Human,
        teams: Default::default(),
        resource: "web-1".parse().unwrap(),
        service: "shop".parse().unwrap(),
        labels: Default::default(),
        database: String::new(),
        role: "operator".parse().unwrap(),
        grant: "g1".parse().unwrap(),
        purpose: "test".into(),
        scope: Scope::default(),
        opened: Timestamp(0),
        deadline: Timestamp(100_000),
        risk: 0,
        tier: Tier::Mediated,
        policy_version: 1,
        policy_digest: "1".into(),
    })
}

/// A client and a host, with the machine between them.
struct Between {
    machine: Machine<SshProtocol>,
    paper: Paper,
    up: Vec<Vec<u8>>,
    down: Vec<Vec<u8>>,
    /// Seen so far on either side.
    seen: (usize, usize),
    holds: Vec<onus_pep::Ticket>,
    ended: bool,
}

fn split(bytes: &[u8], into: &mut Vec<Vec<u8>>) {
    let mut at = 0;
    while let Some(length) = next(&bytes[at..]).unwrap() {
        into.push(bytes[at + PREFIX..at + length].to_vec());
        at += length;
    }
    assert_eq!(at, bytes.len(), "whole packets only");
}

impl Between {
    fn new() -> Self {
        Self::with(false)
    }

    fn with(raw_shell: bool) -> Self {
        let options = Options {
            subject: "alice".into(),
            resource: "web-1".into(),
            login: "deploy".into(),
            raw_shell,
            record_output: 1000,
            record_input: true,
            marker: "f00d".into(),
            seed: 1,
        };
        let protocol = SshProtocol::new(Arc::new(Shell::new(Arc::new(Schemas::shipped()))), options);
        Self {
            machine: Machine::new(protocol, view(), "{}".into(), Limits::default()),
            paper: Paper::default(),
            up: Vec::new(),
            down: Vec::new(),
            seen: (0, 0),
            holds: Vec::new(),
            ended: false,
        }
    }

    fn step(&mut self, input: Input<'_>) {
        let moment = Moment { now: Timestamp(10), micros: 0, lease_until: Timestamp(50_000), pdp: &Pdp };
        let mut out = Vec::new();
        self.machine.step(input, &moment, &mut self.paper, &mut out);
        for output in out {
            match output {
                Output::ToUpstream(permitted) => split(permitted.bytes(), &mut self.up),
                Output::ToClient(bytes) => split(&bytes, &mut self.down),
                Output::Hold(ticket) => self.holds.push(ticket),
                Output::End(_) => self.ended = true,
                Output::HoldOver(_) | Output::CancelUpstream => {}
            }
        }
    }

    fn client(&mut self, packet: &Bytes) {
        let Buffers { client, .. } = self.machine.buffers();
        client.extend_from_slice(packet);
        self.step(Input::ClientBytes);
    }

    fn host(&mut self, packet: &Bytes) {
        let Buffers { upstream, .. } = self.machine.buffers();
        upstream.extend_from_slice(packet);
        self.step(Input::UpstreamBytes);
    }

    /// What the host got since it was asked last.
    fn host_heard(&mut self) -> Vec<Vec<u8>> {
        let new = self.up[self.seen.0..].to_vec();
        self.seen.0 = self.up.len();
        new
    }

    fn client_heard(&mut self) -> Vec<Vec<u8>> {
        let new = self.down[self.seen.1..].to_vec();
        self.seen.1 = self.down.len();
        new
    }

    /// The client opens a session channel under this number; ours for it.
    fn open(&mut self, number: u32) -> u32 {
        let packet = Packet::new(number::CHANNEL_OPEN).string("session").number(number).number(1 << 21).number(1 << 15);
        self.client(&packet.done());
        let confirmed = self.client_heard().pop().unwrap();
        assert_eq!(confirmed[0], number::CHANNEL_OPEN_CONFIRMATION);
        let mut fields = Fields(&confirmed[1..]);
        assert_eq!(fields.number(), Some(number));
        fields.number().unwrap()
    }

    /// The host confirms the channel that it was asked for last, under this number.
    fn confirm(&mut self, number: u32) -> u32 {
        let asked = self.host_heard().into_iter().rfind(|packet| packet[0] == number::CHANNEL_OPEN).unwrap();
        let mut fields = Fields(&asked[1..]);
        fields.string();
        let ours = fields.number().unwrap();
        let packet = Packet::of(number::CHANNEL_OPEN_CONFIRMATION, ours).number(number).number(1 << 20).number(1 << 15);
        self.host(&packet.done());
        ours
    }

    fn exec(&mut self, ours: u32, line: &str) {
        self.client(&request(ours, "exec", true).string(line).done());
    }
}

/// The command lines that the host was asked to run.
fn executed(packets: &[Vec<u8>]) -> Vec<String> {
    let mut lines = Vec::new();
    for packet in packets.iter().filter(|packet| packet[0] == number::CHANNEL_REQUEST) {
        let mut fields = Fields(&packet[1..]);
        fields.number();
        if fields.text() == Some("exec") {
            fields.flag();
            lines.push(fields.text().unwrap().to_owned());
        }
    }
    lines
}

fn text(packets: &[Vec<u8>]) -> String {
    packets.iter().map(|packet| String::from_utf8_lossy(packet).into_owned()).collect()
}

#[test]
fn what_is_sent_is_the_canonical_form_and_never_the_clients_text() {
    let mut scene = Between::new();
    let ours = scene.open(7);
    scene.exec(ours, "ls   \"-l\"  /var/'log' # a remark");
    assert!(executed(&scene.host_heard()).is_empty(), "nothing runs before there is a channel for it");
    scene.up.clear();
    scene.seen.0 = 0;
    let mut scene = Between::new();
    let ours = scene.open(7);
    scene.exec(ours, "ls   \"-l\"  /var/'log' # a remark");
    scene.confirm(40);
    let lines = executed(&scene.host_heard());
    assert_eq!(lines.len(), 1);
    assert!(lines[0].starts_with("exec /usr/bin/env -i "), "{}", lines[0]);
    assert!(lines[0].contains("/var/log") && !lines[0].contains("remark"), "{}", lines[0]);
}

#[test]
fn a_refused_command_reaches_no_host_and_says_why_with_status_126() {
    let mut scene = Between::new();
    let ours = scene.open(7);
    scene.exec(ours, "rm -rf /srv");
    scene.confirm(40);
    let up = scene.host_heard();
    assert!(executed(&up).is_empty(), "{up:?}");
    assert_eq!(up.last().map(|packet| packet[0]), Some(number::CHANNEL_CLOSE), "the host's channel is closed again");
    let down = scene.client_heard();
    let kinds: Vec<u8> = down.iter().map(|packet| packet[0]).collect();
    let data = number::CHANNEL_EXTENDED_DATA;
    let (request, eof, close) = (number::CHANNEL_REQUEST, number::CHANNEL_EOF, number::CHANNEL_CLOSE);
    assert_eq!(kinds, [number::CHANNEL_SUCCESS, data, request, eof, close]);
    assert!(text(&down).contains("the test says so"));
    assert!(down[2].ends_with(&126u32.to_be_bytes()));
    assert!(scene.paper.0.iter().any(|line| line.contains("\"k\":\"op\"") && line.contains("rm -rf /srv")));
}

/// A transfer's paths are named from the home directory: whatever moves it elsewhere makes it another line.
#[test]
fn a_transfer_is_known_by_its_own_protocol_only_where_nothing_comes_before_it() {
    let runs = |line: &str| {
        let mut scene = Between::new();
        let ours = scene.open(7);
        scene.exec(ours, line);
        scene.confirm(40);
        executed(&scene.host_heard()).len()
    };
    assert_eq!(runs("scp -f notes"), 1);
    for line in [
        "cd /etc && scp -f shadow",
        "cd /etc; scp -f shadow",
        "cd /etc && git-upload-pack repo",
        "{ cd /etc; scp -f shadow; }",
        "(cd /etc; scp -f shadow)",
        "X=1; cd /etc; /usr/lib/openssh/sftp-server",
    ] {
        assert_eq!(runs(line), 0, "{line}");
    }
}

#[test]
fn a_held_command_holds_up_its_own_channel_only() {
    let mut scene = Between::new();
    let first = scene.open(1);
    scene.exec(first, "id");
    scene.confirm(41);
    assert!(executed(&scene.host_heard()).is_empty());
    assert_eq!(scene.holds.len(), 1);
    let second = scene.open(2);
    scene.exec(second, "uptime");
    scene.confirm(42);
    assert_eq!(executed(&scene.host_heard()).len(), 1, "the other channel goes on");
    let (hold, digest) = (scene.holds[0].hold, scene.holds[0].digest);
    scene.step(Input::HoldConfirmed { hold, digest, by: "bob" });
    let lines = executed(&scene.host_heard());
    assert!(lines.len() == 1 && lines[0].contains("'id'") || lines[0].ends_with("id'"), "{lines:?}");
}

#[test]
fn a_frozen_session_takes_in_nothing_until_it_thaws() {
    let mut scene = Between::new();
    let ours = scene.open(1);
    scene.step(Input::Frozen(true));
    scene.exec(ours, "uptime");
    assert!(scene.host_heard().is_empty());
    scene.step(Input::Frozen(false));
    scene.confirm(41);
    assert_eq!(executed(&scene.host_heard()).len(), 1);
}

#[test]
fn variables_that_change_what_programs_do_are_not_set_and_the_rest_is_pinned() {
    let mut scene = Between::new();
    let ours = scene.open(1);
    for (name, value) in [("LD_PRELOAD", "/tmp/x.so"), ("BASH_ENV", "/tmp/x"), ("LC_ALL", "C.UTF-8")] {
        scene.client(&request(ours, "env", false).string(name).string(value).done());
    }
    scene.exec(ours, "uptime");
    scene.confirm(41);
    let sent = text(&scene.host_heard());
    assert!(!sent.contains("LD_PRELOAD") && !sent.contains("BASH_ENV"), "{sent}");
    assert!(sent.contains("LC_ALL=C.UTF-8"), "{sent}");
}

#[test]
fn the_host_may_open_nothing_that_nobody_asked_for() {
    let mut scene = Between::new();
    for kind in ["forwarded-tcpip", "auth-agent@openssh.com", "x11", "session"] {
        let open = Packet::new(number::CHANNEL_OPEN).string(kind).number(9).number(1000).number(1000);
        scene.host(&open.string("h").number(1).string("o").number(2).done());
        let answer = scene.host_heard();
        assert_eq!(answer[0][0], number::CHANNEL_OPEN_FAILURE, "{kind}");
        assert!(scene.client_heard().is_empty(), "{kind}");
    }
}

#[test]
fn a_lent_agent_is_asked_for_first() {
    let mut scene = Between::new();
    let ours = scene.open(1);
    scene.client(&request(ours, "auth-agent-req@openssh.com", true).done());
    assert!(scene.client_heard().iter().any(|packet| packet[0] == number::CHANNEL_FAILURE));
    scene.exec(ours, "uptime");
    scene.confirm(41);
    assert!(!text(&scene.host_heard()).contains("auth-agent"));
}

#[test]
fn numbers_are_translated_and_windows_passed_on() {
    let mut scene = Between::new();
    let ours = scene.open(7);
    scene.exec(ours, "uptime");
    scene.confirm(40);
    scene.host_heard();
    scene.client_heard();
    scene.host(&data(ours, b"up 3 days\n", 1 << 15));
    let got = scene.client_heard();
    let mut fields = Fields(&got[0][1..]);
    assert_eq!((fields.number(), fields.string()), (Some(7), Some(&b"up 3 days\n"[..])));
    scene.client(&data(ours, b"typed", 1 << 15));
    let got = scene.host_heard();
    let mut fields = Fields(&got[0][1..]);
    assert_eq!((fields.number(), fields.string()), (Some(40), Some(&b"typed"[..])));
    scene.client(&Packet::of(number::CHANNEL_WINDOW_ADJUST, ours).number(5000).done());
    let got = scene.host_heard();
    assert_eq!(got[0], Packet::of(number::CHANNEL_WINDOW_ADJUST, 40).number(5000).done()[PREFIX..]);
}

#[test]
fn the_governed_shell_runs_a_line_only_after_its_decision_and_keeps_the_directory() {
    let mut scene = Between::new();
    let ours = scene.open(7);
    let pty = request(ours, "pty-req", true).string("xterm").number(80).number(24).number(0).number(0).string("");
    scene.client(&pty.done());
    scene.client(&request(ours, "shell", true).done());
    assert!(scene.host_heard().is_empty(), "the host knows nothing of it");
    assert!(text(&scene.client_heard()).contains("deploy@web-1:~$ "));
    scene.client(&data(ours, b"rm -rf /srv\r", 1 << 15));
    scene.confirm(40);
    assert!(executed(&scene.host_heard()).is_empty());
    assert!(text(&scene.client_heard()).contains("the test says so"), "said in place");
    scene.client(&data(ours, b"cd /var/log\r", 1 << 15));
    let inner = scene.confirm(41);
    assert_eq!(executed(&scene.host_heard()).len(), 1);
    scene.host(&error_data(inner, b"f00dp4242\n\nf00dd/var/log\n", 1 << 15));
    scene.host(&message::exit_status(inner, 0));
    scene.host(&bare(number::CHANNEL_CLOSE, inner));
    let shown = text(&scene.client_heard());
    assert!(shown.contains("deploy@web-1:/var/log$ "), "{shown}");
    assert!(!shown.contains("f00d"), "the mark is the gateway's own affair: {shown}");
    scene.client(&data(ours, b"uptime\r", 1 << 15));
    scene.confirm(42);
    let lines = executed(&scene.host_heard());
    assert!(lines[0].contains("/var/log"), "{lines:?}");
}

#[test]
fn a_held_line_can_be_taken_back() {
    let mut scene = Between::new();
    let ours = scene.open(7);
    let pty = request(ours, "pty-req", true).string("xterm").number(80).number(24).number(0).number(0).string("");
    scene.client(&pty.done());
    scene.client(&request(ours, "shell", true).done());
    scene.client(&data(ours, b"id\r", 1 << 15));
    scene.confirm(40);
    assert_eq!(scene.holds.len(), 1);
    scene.client(&data(ours, b"\x03", 1 << 15));
    assert!(text(&scene.client_heard()).contains("taken back"));
    let (hold, digest) = (scene.holds[0].hold, scene.holds[0].digest);
    scene.step(Input::HoldConfirmed { hold, digest, by: "bob" });
    assert!(executed(&scene.host_heard()).is_empty(), "a confirmation that comes too late confirms nothing");
    scene.client(&data(ours, b"uptime\r", 1 << 15));
    scene.confirm(41);
    assert_eq!(executed(&scene.host_heard()).len(), 1);
}

#[test]
fn the_governed_shell_never_sends_more_than_the_client_allows() {
    let mut scene = Between::new();
    let open = Packet::new(number::CHANNEL_OPEN).string("session").number(7).number(3000).number(1 << 15);
    scene.client(&open.done());
    let ours = 0;
    let pty = request(ours, "pty-req", false).string("xterm").number(80).number(24).number(0).number(0).string("");
    scene.client(&pty.done());
    scene.client(&request(ours, "shell", false).done());
    scene.client(&data(ours, b"uptime\r", 1 << 15));
    let inner = scene.confirm(40);
    scene.host_heard();
    for _ in 0..10 {
        scene.host(&data(inner, &[b'x'; 1000], 1 << 15));
    }
    let shown = |scene: &Between| -> usize {
        let data = scene.down.iter().filter(|packet| packet[0] == number::CHANNEL_DATA);
        data.map(|packet| packet.len() - 9).sum()
    };
    assert_eq!(shown(&scene), 3000);
    // What the client took is granted again; what waits is not.
    let granted: u32 = scene
        .host_heard()
        .iter()
        .filter(|packet| packet[0] == number::CHANNEL_WINDOW_ADJUST)
        .map(|packet| u32::from_be_bytes(packet[5..9].try_into().unwrap()))
        .sum();
    assert!(granted < 3000, "{granted}");
    scene.client(&Packet::of(number::CHANNEL_WINDOW_ADJUST, ours).number(50_000).done());
    assert!(shown(&scene) > 10_000);
    assert_eq!(scene.host_heard().pop().map(|packet| packet[0]), Some(number::CHANNEL_WINDOW_ADJUST));
}

#[test]
fn what_a_terminal_shows_is_recorded_before_it_is_shown() {
    let mut scene = Between::with(true);
    let ours = scene.open(7);
    let pty = request(ours, "pty-req", true).string("xterm").number(80).number(24).number(0).number(0).string("");
    scene.client(&pty.done());
    // The PDP of these tests refuses only what ends in `.opaque`.
    scene.client(&request(ours, "shell", true).done());
    scene.confirm(40);
    scene.host(&data(ours, b"welcome", 1 << 15));
    assert!(scene.paper.0.iter().any(|line| line.contains("\"s\":\"o\",\"n\":7}\nwelcome")), "{:?}", scene.paper.0);
}

#[test]
fn the_word_about_the_process_group_is_the_gateways_own_and_signals_go_there() {
    let mut scene = Between::new();
    let ours = scene.open(7);
    scene.exec(ours, "uptime");
    scene.confirm(40);
    scene.host_heard();
    scene.client_heard();
    // Torn anywhere, and behind what a login shell has to say.
    for piece in ["/etc/bash.bashrc: odd\nf0", "0dp42", "42\nup", " 3 days"] {
        scene.host(&error_data(ours, piece.as_bytes(), 1 << 15));
    }
    let said = text(&scene.client_heard());
    assert!(said.contains("odd\nup") && said.contains(" 3 days") && !said.contains("f00d"), "{said}");
    assert_eq!(scene.machine.protocol().running()[0].group, Some(4242));
    scene.client(&request(ours, "signal", false).string("INT").done());
    scene.confirm(41);
    assert_eq!(executed(&scene.host_heard()), ["exec /bin/sh -c 'kill -s INT -- -4242'"]);
    scene.client(&request(ours, "signal", false).string("INT; reboot").done());
    assert!(scene.host_heard().is_empty());
}

/// A client's packets, mostly well-formed.
fn packets() -> impl Strategy<Value = Vec<u8>> {
    let channel = 0u32..4;
    let line = prop_oneof![Just("uptime"), Just("id"), Just("rm x"), Just("$(x)"), Just("ls /tmp")];
    prop_oneof![
        (0u32..9).prop_map(|n| {
            Packet::new(number::CHANNEL_OPEN).string("session").number(n).number(100_000).number(32_768).done().to_vec()
        }),
        (channel.clone(), line).prop_map(|(c, line)| request(c, "exec", true).string(line).done().to_vec()),
        channel.clone().prop_map(|c| request(c, "shell", true).done().to_vec()),
        channel.clone().prop_map(|c| request(c, "subsystem", true).string("sftp").done().to_vec()),
        channel.clone().prop_map(|c| bare(number::CHANNEL_EOF, c).to_vec()),
        channel.clone().prop_map(|c| bare(number::CHANNEL_CLOSE, c).to_vec()),
        (channel.clone(), proptest::collection::vec(any::<u8>(), 0..40)).prop_map(|(c, bytes)| data(
            c,
            &bytes,
            1 << 15
        )
        .to_vec()),
        (channel, any::<u32>())
            .prop_map(|(c, n)| Packet::of(number::CHANNEL_WINDOW_ADJUST, c).number(n).done().to_vec()),
        proptest::collection::vec(any::<u8>(), 1..60)
            .prop_map(|bytes| { [(bytes.len() as u32).to_be_bytes().to_vec(), bytes].concat() }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever the two sides say, nothing panics, and no command line reaches the host but canonical ones of permitted
    /// programs.
    #[test]
    fn nothing_that_is_not_permitted_reaches_the_host(sides in proptest::collection::vec((any::<bool>(), packets()), 0..40)) {
        let mut scene = Between::new();
        for (from_host, bytes) in sides {
            let bytes = Bytes::from(bytes);
            if from_host { scene.host(&bytes) } else { scene.client(&bytes) }
            // A host that confirms whatever it is asked for.
            for packet in scene.host_heard() {
                if packet[0] == number::CHANNEL_OPEN {
                    let mut fields = Fields(&packet[1..]);
                    fields.string();
                    let ours = fields.number().unwrap();
                    let confirm = Packet::of(number::CHANNEL_OPEN_CONFIRMATION, ours).number(ours + 100);
                    scene.host(&confirm.number(1000).number(1000).done());
                }
            }
        }
        for line in executed(&scene.up) {
            prop_assert!(line.starts_with("exec /usr/bin/env -i ") || line.starts_with("exec /bin/sh -c 'kill -"), "{line}");
            prop_assert!(line.contains("uptime") || line.contains("/tmp") || line.contains("kill -"), "{line}");
        }
    }

    /// The same bytes in any pieces come to the same.
    #[test]
    fn any_chunking_gives_the_same(
        all in proptest::collection::vec(packets(), 1..12),
        cuts in proptest::collection::vec(1usize..9, 1..40),
    ) {
        let bytes = all.concat();
        let (mut whole, mut torn) = (Between::new(), Between::new());
        whole.client(&Bytes::from(bytes.clone()));
        let (mut rest, mut cuts) = (bytes.as_slice(), cuts.into_iter().cycle());
        while !rest.is_empty() && !torn.ended {
            let n = cuts.next().unwrap().min(rest.len());
            torn.client(&Bytes::copy_from_slice(&rest[..n]));
            rest = &rest[n..];
        }
        prop_assert_eq!(&whole.up, &torn.up);
        prop_assert_eq!(&whole.down, &torn.down);
        prop_assert_eq!(whole.ended, torn.ended);
    }
}
