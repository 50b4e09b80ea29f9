//! Small queries from many clients: what the gateway costs per statement, and what is left of the throughput.

use std::time::Duration;

use onus_testkit::run;
use serde_json::json;

use super::field::{Field, Way};
use super::report::{Section, median, ratio};
use crate::step::Failure;

/// How statements are sent.
const MODES: [&str; 2] = ["simple", "prepared"];

const CLIENTS: u32 = 16;

/// One run of pgbench.
pub struct Run {
    /// Transactions a second, connecting left out.
    pub tps: f64,
    /// Transactions in all.
    pub transactions: u64,
    /// CPU time of the process in the middle.
    pub cpu: Duration,
    /// CPU time of the server.
    pub server_cpu: Duration,
}

impl Run {
    /// CPU time of the process in the middle a transaction, in microseconds.
    pub fn cpu_us(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.transactions.max(1) as f64
    }
}

/// Runs pgbench's read-only script this way.
pub fn pgbench(field: &Field, way: Way, arguments: &[&str]) -> Result<Run, Failure> {
    // What sessions leave behind (closing, revoking) belongs to the run before.
    std::thread::sleep(Duration::from_millis(500));
    let (cpu, server) = (field.cpu(way), field.server_cpu());
    let mut command = field.client(way, "pgbench", "reader");
    command.args(["-n", "-S"]).args(arguments);
    let said = run::output(&format!("pgbench, {}", way.name()), &mut command)?;
    std::thread::sleep(Duration::from_millis(500));
    let number = |after: &str| {
        let rest = said.lines().find_map(|line| line.strip_prefix(after))?;
        rest.trim_start_matches([' ', '=', ':']).split([' ', '/']).next()?.parse::<f64>().ok()
    };
    let understood = number("tps").zip(number("number of transactions actually processed"));
    let Some((tps, transactions)) = understood else {
        return Err(Failure::Step(format!("pgbench said something else:\n{said}")));
    };
    Ok(Run {
        tps,
        transactions: transactions as u64,
        cpu: field.cpu(way).saturating_sub(cpu),
        server_cpu: field.server_cpu().saturating_sub(server),
    })
}

/// Measures it.
pub fn measure(field: &mut Field) -> Result<Vec<Section>, Failure> {
    let (seconds, rounds) = if field.quick { ("3", 1) } else { ("10", 3) };
    let clients = CLIENTS.to_string();
    let mut rows = Vec::new();
    let mut values = serde_json::Map::new();
    let mut notes = Vec::new();
    for mode in MODES {
        let mut found: Vec<(Vec<f64>, Vec<f64>)> = vec![Default::default(); Way::ALL.len()];
        for _ in 0..rounds {
            for (way, (tps, cpu)) in Way::ALL.into_iter().zip(&mut found) {
                let arguments = ["-c", &clients, "-j", "1", "-M", mode];
                // Connecting is measured elsewhere: its cost is taken off.
                let only_connect = pgbench(field, way, &[&arguments[..], &["-t", "1"]].concat())?;
                let run = pgbench(field, way, &[&arguments[..], &["-T", seconds]].concat())?;
                let paid = run.cpu.saturating_sub(only_connect.cpu);
                tps.push(run.tps);
                cpu.push(Run { cpu: paid, ..run }.cpu_us());
            }
        }
        let medians: Vec<(f64, f64)> = found.into_iter().map(|(tps, cpu)| (median(tps), median(cpu))).collect();
        let (bouncer_tps, bouncer_cpu) = medians[2];
        for (way, (tps, cpu)) in Way::ALL.into_iter().zip(&medians) {
            let shown = |text: String| if way == Way::Direct { "–".to_owned() } else { text };
            rows.push(vec![
                way.name().to_owned(),
                mode.to_owned(),
                format!("{tps:.0}"),
                ratio(*tps, medians[0].0),
                ratio(*tps, bouncer_tps),
                shown(format!("{cpu:.1}")),
                shown(ratio(*cpu, bouncer_cpu)),
            ]);
        }
        let one = |(tps, cpu): (f64, f64)| json!({ "tps": tps, "cpu_us_per_query": cpu });
        let each = Way::ALL.into_iter().zip(&medians).map(|(way, found)| (way.key().to_owned(), one(*found)));
        values.insert(mode.to_owned(), each.collect::<serde_json::Map<_, _>>().into());
        let (tps, cpu) = medians[3];
        notes.push(format!(
            "{mode}: onus has {} of pgbouncer's throughput for {} of its CPU time; parsing, deciding and recording \
             every statement included",
            ratio(tps, bouncer_tps),
            ratio(cpu, bouncer_cpu),
        ));
    }
    Ok(vec![Section {
        name: "throughput",
        title: "Small queries".to_owned(),
        how: format!(
            "`pgbench -S`, scale 10, {CLIENTS} clients in one thread, {seconds} s a run, median of {rounds}; the ways take \
             turns. TLS 1.3 from the client on every way (with onus also a client certificate and full verification); \
             the hop to the server is plain TCP on loopback, except that through the plain proxy TLS reaches the \
             server. CPU time is user and system time of the process in the middle, a query; that of connecting is \
             taken off."
        ),
        columns: vec!["way", "protocol", "tps", "of direct", "of pgbouncer", "CPU µs/query", "of pgbouncer"],
        rows,
        notes,
        values: values.into(),
    }])
}
