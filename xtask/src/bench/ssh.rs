//! SSH through the gateway, beside OpenSSH itself and OpenSSH's jump host (`ssh -J`): bulk data, new connections, keys
//! and floods on terminals, idle sessions. All with the client's and the servers' own choice of algorithms.
//!
//! A jump host forwards an encrypted stream that it can't read: what it costs is one end of SSH. A gateway that sees what
//! is done has two ends, so twice a jump host's cost of a megabyte is what to expect of it at the least.

use std::time::{Duration, Instant};

use onus_testkit::pty::{Pty, Size};
use onus_testkit::{ssh_client, tree};
use serde_json::{Value, json};

use super::field::Field;
use super::report::{Section, median, percentile, ratio};
use super::ssh_onus::Before;
use super::ssh_yard::{Live, Route, Yard};
use crate::step::Failure;

/// The word by which the bench measures OpenSSH alone, without building or starting a gateway.
pub const WORD: &str = "--openssh";

const PATIENCE: Duration = Duration::from_secs(60);

/// Measures it.
pub fn measure(field: &mut Field) -> Result<Vec<Section>, Failure> {
    let yard = Yard::start(field.quick)?;
    let before = Before::start(&field.onus, &yard)?;
    let mut routes = yard.routes();
    routes.push(before.route());
    let mut sections = measure_routes(&yard, &routes)?;
    sections.push(recording(&yard, &before)?);
    Ok(sections)
}

/// What a recorded terminal takes on disk.
fn recording(yard: &Yard, before: &Before) -> Result<Section, Failure> {
    let route = before.route();
    let mut table = Table::new();
    let was = before.journal_bytes();
    let mut live = Live::launch(yard, &route, &["-tt"], &format!("cat {}", yard.flood.display()))?;
    live.receive(yard.flood_bytes + yard.flood_lines)?;
    drop(live);
    std::thread::sleep(Duration::from_millis(500));
    let taken = before.journal_bytes() - was;
    let share = taken as f64 / (yard.flood_bytes + yard.flood_lines) as f64;
    table.rows.push(vec!["onus".to_owned(), format!("{:.1} MB", taken as f64 / 1e6), format!("{share:.3}")]);
    table.values.insert("bytes_per_byte".to_owned(), json!(share));
    Ok(Section {
        name: "ssh_recording",
        title: "SSH: what a recorded terminal takes on disk".to_owned(),
        how: "Text like a log's on a terminal, as in the flood; journal bytes, compressed and sealed, by byte shown"
            .to_owned(),
        columns: vec!["way", "journal", "bytes by byte"],
        rows: table.rows,
        notes: Vec::new(),
        values: table.values.into(),
    })
}

/// Measures OpenSSH alone and prints it.
pub fn run(quick: bool) -> Result<(), Failure> {
    let yard = Yard::start(quick)?;
    let routes = yard.routes();
    // One by one, since each takes a while.
    MEASURES.iter().try_for_each(|measure| {
        measure(&yard, &routes)?.print();
        Ok(())
    })
}

/// Measures these routes to the yard's target. The first is what the others are compared with, and the second is what
/// their cost is compared with.
pub fn measure_routes(yard: &Yard, routes: &[Route]) -> Result<Vec<Section>, Failure> {
    MEASURES.iter().map(|measure| measure(yard, routes)).collect()
}

/// Takes one section's numbers over all routes.
type Measure = fn(&Yard, &[Route]) -> Result<Section, Failure>;

/// WHEN ADDING ONE: a line here.
const MEASURES: &[Measure] = &[bulk, connecting, keys, flood, idle];

/// A table with a row for each route, and its numbers.
struct Table {
    rows: Vec<Vec<String>>,
    values: serde_json::Map<String, Value>,
}

/// What moving bytes came to.
struct Moved {
    mb_per_s: f64,
    cpu_ms_per_mb: f64,
    server_ms_per_mb: f64,
}

fn bulk(yard: &Yard, routes: &[Route]) -> Result<Section, Failure> {
    let megabytes = yard.bulk_bytes as f64 / 1e6;
    let rounds = if yard.quick { 1 } else { 3 };
    let mut table = Table::new();
    for (direction, way) in [("down", down as fn(&Yard, &Route) -> Result<Moved, Failure>), ("up", up)] {
        let found = in_turn(yard, routes, rounds, way)?;
        let mut each = serde_json::Map::new();
        for (route, moved) in routes.iter().zip(&found) {
            table.rows.push(moved.row(route, direction, &found));
            each.insert(route.key.to_owned(), moved.value());
        }
        table.values.insert(direction.to_owned(), each.into());
    }
    Ok(Section {
        name: "ssh_bulk",
        title: "SSH: bulk data".to_owned(),
        how: format!(
            "{megabytes:.0} MB that don't compress, down by `ssh host 'cat FILE'` and up by `ssh host 'cat > /dev/null'`, \
             from the command's start to the last byte; the middle one of {rounds}. CPU time of all processes in the middle \
             and, apart from it, of the server."
        ),
        columns: vec!["way", "data", "MB/s", "of direct", "CPU ms/MB", "of the jump host", "server's CPU ms/MB"],
        rows: table.rows,
        notes: vec!["client, middle and server share the cores, so whoever costs less is faster for it".to_owned()],
        values: table.values.into(),
    })
}

fn flood(yard: &Yard, routes: &[Route]) -> Result<Section, Failure> {
    let megabytes = yard.flood_bytes as f64 / 1e6;
    let rounds = if yard.quick { 1 } else { 3 };
    let mut table = Table::new();
    let found = in_turn(yard, routes, rounds, flooded)?;
    for (route, moved) in routes.iter().zip(&found) {
        table.rows.push(moved.row(route, "log", &found));
        table.values.insert(route.key.to_owned(), moved.value());
    }
    Ok(Section {
        name: "ssh_flood",
        title: "SSH: a flooded terminal".to_owned(),
        how: format!(
            "`cat` of a log of {megabytes:.0} MB on a PTY (`ssh -tt`), which the server's terminal gives in pieces of a few \
             KiB at the most; the middle one of {rounds}."
        ),
        columns: vec!["way", "data", "MB/s", "of direct", "CPU ms/MB", "of the jump host", "server's CPU ms/MB"],
        rows: table.rows,
        notes: Vec::new(),
        values: table.values.into(),
    })
}

/// Takes each route in turn, so many times, and gives the middle one of each.
fn in_turn(
    yard: &Yard,
    routes: &[Route],
    rounds: usize,
    way: fn(&Yard, &Route) -> Result<Moved, Failure>,
) -> Result<Vec<Moved>, Failure> {
    let mut found: Vec<Vec<Moved>> = routes.iter().map(|_| Vec::new()).collect();
    for _ in 0..rounds {
        for (route, found) in routes.iter().zip(&mut found) {
            yard.settle()?;
            found.push(way(yard, route)?);
        }
    }
    let middle = |runs: &[Moved], of: fn(&Moved) -> f64| median(runs.iter().map(of).collect());
    let middles = found.iter().map(|runs| Moved {
        mb_per_s: middle(runs, |moved| moved.mb_per_s),
        cpu_ms_per_mb: middle(runs, |moved| moved.cpu_ms_per_mb),
        server_ms_per_mb: middle(runs, |moved| moved.server_ms_per_mb),
    });
    Ok(middles.collect())
}

fn down(yard: &Yard, route: &Route) -> Result<Moved, Failure> {
    let command = format!("echo ready; cat '{}'; exec cat >/dev/null", yard.bulk.display());
    let mut live = Live::start(yard, route, &[], &command)?;
    timed(yard, route, yard.bulk_bytes, || live.receive(yard.bulk_bytes))
}

fn up(yard: &Yard, route: &Route) -> Result<Moved, Failure> {
    let command = format!("echo ready; head -c {} >/dev/null; echo done; exec cat >/dev/null", yard.bulk_bytes);
    let mut live = Live::start(yard, route, &[], &command)?;
    timed(yard, route, yard.bulk_bytes, || {
        live.give(&yard.bulk)?;
        live.line("done")
    })
}

fn flooded(yard: &Yard, route: &Route) -> Result<Moved, Failure> {
    // The session goes on, so that its processes can still be asked for their time.
    let command = format!("echo ready; cat '{}'; exec sleep 600", yard.flood.display());
    let mut live = Live::start(yard, route, &["-tt"], &command)?;
    timed(yard, route, yard.flood_bytes, || live.receive(yard.flood_bytes + yard.flood_lines))
}

/// What it took from here to the end of `work`, by clocks that see only what lives before and after it.
fn timed(yard: &Yard, route: &Route, bytes: u64, work: impl FnOnce() -> Result<(), Failure>) -> Result<Moved, Failure> {
    let target = yard.target_pids();
    let (middle, server, begun) = (run_time(&route.middle)?, run_time(&target)?, Instant::now());
    work()?;
    let took = begun.elapsed();
    let spent = |before: Duration, pids: &[u32]| -> Result<f64, Failure> {
        Ok(run_time(pids)?.saturating_sub(before).as_secs_f64() * 1000.0 / (bytes as f64 / 1e6))
    };
    Ok(Moved {
        mb_per_s: bytes as f64 / 1e6 / took.as_secs_f64(),
        cpu_ms_per_mb: spent(middle, &route.middle)?,
        server_ms_per_mb: spent(server, &target)?,
    })
}

fn connecting(yard: &Yard, routes: &[Route]) -> Result<Section, Failure> {
    let connections = if yard.quick { 15 } else { 60 };
    yard.settle()?;
    let before: Vec<Duration> = routes.iter().map(|route| tree::cpu(&route.middle)).collect();
    let mut times: Vec<Vec<f64>> = routes.iter().map(|_| Vec::new()).collect();
    for _ in 0..connections {
        for (route, times) in routes.iter().zip(&mut times) {
            let mut ssh = yard.ssh(route, &[], "true")?;
            let ran = ssh_client::run_to_end("ssh", &mut ssh, b"", PATIENCE)?;
            times.push(ran.elapsed.as_secs_f64() * 1000.0);
            ran.ok()?;
        }
    }
    yard.settle()?;
    let mut table = Table::new();
    let spent: Vec<f64> = routes
        .iter()
        .zip(before)
        .map(|(route, before)| {
            tree::cpu(&route.middle).saturating_sub(before).as_secs_f64() * 1000.0 / connections as f64
        })
        .collect();
    for times in &mut times {
        times.sort_by(f64::total_cmp);
    }
    let first = times.first().map_or(f64::NAN, |times| percentile(times, 0.5));
    for ((route, times), cpu) in routes.iter().zip(&times).zip(&spent) {
        let (p50, p90) = (percentile(times, 0.5), percentile(times, 0.9));
        table.rows.push(vec![
            route.name.to_owned(),
            format!("{p50:.0}"),
            format!("{p90:.0}"),
            ratio(p50, first),
            route.shown(format!("{cpu:.1}")),
            route.shown(ratio(*cpu, spent.get(1).copied().unwrap_or(f64::NAN))),
        ]);
        table.values.insert(route.key.to_owned(), json!({ "p50_ms": p50, "p90_ms": p90, "cpu_ms": cpu }));
    }
    Ok(Section {
        name: "ssh_connecting",
        title: "SSH: connecting".to_owned(),
        how: format!(
            "`ssh host true`, {connections} times, one after the other, the ways taking turns; from the client's start to \
             its end, and CPU time of all processes in the middle, those that have ended included."
        ),
        columns: vec!["way", "p50 ms", "p90 ms", "of direct", "CPU ms each", "of the jump host"],
        rows: table.rows,
        notes: vec!["a jump host makes the client set up SSH twice, one inside the other".to_owned()],
        values: table.values.into(),
    })
}

fn keys(yard: &Yard, routes: &[Route]) -> Result<Section, Failure> {
    let keys = if yard.quick { 200 } else { 500 };
    yard.settle()?;
    let mut terminals: Vec<(Pty, Vec<f64>)> = Vec::new();
    for route in routes {
        let pty = Pty::spawn("ssh", &mut yard.ssh(route, &["-tt"], "echo ready; exec cat")?, Size::default())?;
        pty.expect("ready\r\n", PATIENCE)?;
        terminals.push((pty, Vec::new()));
    }
    // Whatever each does at its session's start is over by then.
    std::thread::sleep(Duration::from_secs(1));
    let before: Vec<Duration> = routes.iter().map(|route| run_time(&route.middle)).collect::<Result<_, _>>()?;
    for _ in 0..keys {
        for (pty, times) in &mut terminals {
            // A person's keys don't meet each other.
            std::thread::sleep(Duration::from_millis(3));
            let begun = Instant::now();
            pty.send("x")?;
            pty.expect("x", PATIENCE)?;
            times.push(begun.elapsed().as_secs_f64() * 1e6);
        }
    }
    let mut table = Table::new();
    let mut spent = Vec::new();
    for (route, before) in routes.iter().zip(before) {
        spent.push(run_time(&route.middle)?.saturating_sub(before).as_secs_f64() * 1e6 / f64::from(keys));
    }
    let mut first = f64::NAN;
    for ((route, (_, times)), cpu) in routes.iter().zip(&mut terminals).zip(&spent) {
        times.sort_by(f64::total_cmp);
        let (p50, p99) = (percentile(times, 0.5), percentile(times, 0.99));
        first = if first.is_nan() { p50 } else { first };
        table.rows.push(vec![
            route.name.to_owned(),
            format!("{p50:.0}"),
            format!("{p99:.0}"),
            ratio(p50, first),
            route.shown(format!("{cpu:.0}")),
            route.shown(ratio(*cpu, spent.get(1).copied().unwrap_or(f64::NAN))),
        ]);
        table.values.insert(route.key.to_owned(), json!({ "p50_us": p50, "p99_us": p99, "cpu_us_per_key": cpu }));
    }
    Ok(Section {
        name: "ssh_keys",
        title: "SSH: keys on a terminal".to_owned(),
        how: format!(
            "{keys} single keys typed into `cat` on a PTY, 3 ms apart, the ways taking turns; from typing to the echo by the \
             server's terminal."
        ),
        columns: vec!["way", "p50 µs", "p99 µs", "of direct", "CPU µs a key", "of the jump host"],
        rows: table.rows,
        notes: Vec::new(),
        values: table.values.into(),
    })
}

fn idle(yard: &Yard, routes: &[Route]) -> Result<Section, Failure> {
    /// How many connect at the same time.
    const TOGETHER: usize = 5;
    let sessions = if yard.quick { 40 } else { 200 };
    let mut table = Table::new();
    for route in routes {
        let open = |count: usize| -> Result<Vec<Live>, Failure> {
            let mut open = Vec::new();
            while open.len() < count {
                let mut some = (0..TOGETHER.min(count - open.len()))
                    .map(|_| Live::launch(yard, route, &["-tt"], "echo ready; exec cat"))
                    .collect::<Result<Vec<_>, _>>()?;
                some.iter_mut().try_for_each(|live| live.line("ready"))?;
                open.append(&mut some);
            }
            Ok(open)
        };
        // What the first sessions set up for all stays out of the difference.
        drop(open(4)?);
        yard.settle()?;
        let before = tree::memory(&route.middle);
        let begun = Instant::now();
        let held = open(sessions)?;
        let took = begun.elapsed();
        std::thread::sleep(Duration::from_secs(2));
        let after = tree::memory(&route.middle);
        drop(held);
        yard.settle()?;
        let each = |after: u64, before: u64| (after as f64 - before as f64) / sessions as f64;
        let (pss, rss) = (each(after.pss_kib, before.pss_kib), each(after.rss_kib, before.rss_kib));
        let processes = each(after.processes, before.processes);
        table.rows.push(vec![
            route.name.to_owned(),
            sessions.to_string(),
            route.shown(format!("{pss:.0}")),
            route.shown(format!("{rss:.0}")),
            route.shown(format!("{processes:.1}")),
            format!("{:.1}", took.as_secs_f64()),
        ]);
        let value = json!({
            "sessions": sessions, "pss_kib_per_session": pss, "rss_kib_per_session": rss,
            "processes_per_session": processes, "opened_in_s": took.as_secs_f64(),
        });
        table.values.insert(route.key.to_owned(), value);
    }
    Ok(Section {
        name: "ssh_idle",
        title: "SSH: idle sessions".to_owned(),
        how: format!(
            "{sessions} connections with a PTY each, opened {TOGETHER} at a time and left alone; memory of all processes in \
             the middle, after less before. PSS counts a page that several processes share once, RSS for each of them."
        ),
        columns: vec![
            "way",
            "sessions",
            "PSS KiB a session",
            "RSS KiB a session",
            "processes a session",
            "opened in s",
        ],
        rows: table.rows,
        notes: Vec::new(),
        values: table.values.into(),
    })
}

impl Table {
    fn new() -> Self {
        Self { rows: Vec::new(), values: serde_json::Map::new() }
    }
}

impl Moved {
    fn row(&self, route: &Route, data: &str, all: &[Self]) -> Vec<String> {
        let of = |number: usize, of: fn(&Self) -> f64| all.get(number).map_or(f64::NAN, of);
        vec![
            route.name.to_owned(),
            data.to_owned(),
            format!("{:.0}", self.mb_per_s),
            ratio(self.mb_per_s, of(0, |moved| moved.mb_per_s)),
            route.shown(format!("{:.2}", self.cpu_ms_per_mb)),
            route.shown(ratio(self.cpu_ms_per_mb, of(1, |moved| moved.cpu_ms_per_mb))),
            format!("{:.2}", self.server_ms_per_mb),
        ]
    }

    fn value(&self) -> Value {
        json!({
            "mb_per_s": self.mb_per_s,
            "cpu_ms_per_mb": self.cpu_ms_per_mb,
            "server_cpu_ms_per_mb": self.server_ms_per_mb,
        })
    }
}

fn run_time(pids: &[u32]) -> Result<Duration, Failure> {
    tree::run_time(pids)
        .ok_or_else(|| Failure::Step("the kernel doesn't tell threads' run time (schedstat)".to_owned()))
}
