//! A big control state: starting from its snapshot, and deciding under it.

use onus_testkit::proc;
use serde_json::json;

use super::field::{Field, GRANTS, Way};
use super::report::{Section, ratio};
use super::throughput::{Run, pgbench};
use crate::step::Failure;

/// Measures it. The last one: the ledger stays as big.
pub fn measure(field: &mut Field) -> Result<Vec<Section>, Failure> {
    let (subjects, grants, seconds) = if field.quick { (2000, 20_000, "3") } else { (10_000, 100_000, "10") };
    let mut rows = Vec::new();
    let mut row = |field: &Field, holds: &str, started: Option<f64>| -> Result<(f64, f64, u64), Failure> {
        let arguments = ["-c", "16", "-j", "1", "-M", "simple"];
        let only_connect = pgbench(field, Way::Onus, &[&arguments[..], &["-t", "1"]].concat())?;
        let run = pgbench(field, Way::Onus, &[&arguments[..], &["-T", seconds]].concat())?;
        let run = Run { cpu: run.cpu.saturating_sub(only_connect.cpu), ..run };
        let rss = proc::usage(field.rig.serve.pid()).map_or(0, |usage| usage.rss_kib);
        rows.push(vec![
            holds.to_owned(),
            started.map_or_else(|| "–".to_owned(), |seconds| format!("{seconds:.2}")),
            format!("{:.0}", run.tps),
            format!("{:.1}", run.cpu_us()),
            format!("{:.0}", rss as f64 / 1024.0),
        ]);
        Ok((run.tps, run.cpu_us(), rss))
    };
    let small = row(field, &format!("{} grants", GRANTS + 2), None)?;
    eprintln!("── {grants} live grants of {subjects} subjects");
    let filled = field.fill(subjects, grants)?;
    let big = row(field, &filled.holds, Some(filled.started.as_secs_f64()))?;
    Ok(vec![Section {
        name: "state",
        title: "A big control state".to_owned(),
        how: format!(
            "{grants} live grants of {subjects} subjects: the ledger is filled offline through the gateway's own control \
             loop (requests, approvals, every rule; only network and command line left out), and the gateway started on \
             it. Start-up is from the process's start to its being ready, with every leaf's hash checked and the state \
             folded from the newest snapshot. Then `pgbench -S`, 16 clients, simple protocol, {seconds} s; connecting \
             taken off."
        ),
        columns: vec!["state", "start-up s", "tps", "CPU µs/query", "RSS MiB"],
        rows,
        notes: vec![format!("CPU a query under the big state: {} of the small one's", ratio(big.1, small.1))],
        values: json!({
            "subjects": subjects, "grants": grants, "start_up_s": filled.started.as_secs_f64(),
            "small": { "tps": small.0, "cpu_us_per_query": small.1, "rss_kib": small.2 },
            "big": { "tps": big.0, "cpu_us_per_query": big.1, "rss_kib": big.2 },
        }),
    }])
}
