//! A new connection for each query: what admission costs, and apart from it what the session's own database role costs.

use serde_json::json;

use super::field::{DB, Field, Way};
use super::report::{Section, ratio};
use super::throughput::pgbench;
use crate::step::{Failure, seconds};
use onus_testkit::run;
use std::time::Duration;

/// Measures it.
pub fn measure(field: &mut Field) -> Result<Vec<Section>, Failure> {
    let long = if field.quick { "3" } else { "10" };
    let mut rows = Vec::new();
    let mut values = serde_json::Map::new();
    let mut runs = Vec::new();
    for way in Way::ALL {
        runs.push((way, pgbench(field, way, &["-C", "-c", "2", "-j", "1", "-T", long])?));
    }
    let bouncer = runs[2].1.cpu_us();
    for (way, run) in &runs {
        let server_us = run.server_cpu.as_secs_f64() * 1e6 / run.transactions.max(1) as f64;
        let shown = |text: String| if *way == Way::Direct { "–".to_owned() } else { text };
        rows.push(vec![
            way.name().to_owned(),
            format!("{:.0}", run.tps),
            shown(format!("{:.2}", run.cpu_us() / 1000.0)),
            shown(ratio(run.cpu_us(), bouncer)),
            format!("{:.2}", server_us / 1000.0),
        ]);
        let one = json!({
            "connections_per_s": run.tps,
            "cpu_us_per_connection": run.cpu_us(),
            "server_cpu_us_per_connection": server_us,
        });
        values.insert(way.key().to_owned(), one);
    }
    let role = roles(field)?;
    let notes = vec![
        "an onus connection is a ledger entry with its signed checkpoint on disk, a role made and dropped, and a log-in"
            .to_owned(),
        "pgbouncer keeps its connections to the server; the others make one each time".to_owned(),
        format!(
            "the role alone, by psql on the server itself: made in {:.2} ms and dropped in {:.2} ms, {:.2} ms of the \
             server's CPU time for both",
            role.create_ms, role.drop_ms, role.server_cpu_ms
        ),
    ];
    values.insert(
        "role".to_owned(),
        json!({ "create_ms": role.create_ms, "drop_ms": role.drop_ms, "server_cpu_ms": role.server_cpu_ms }),
    );
    Ok(vec![Section {
        name: "connecting",
        title: "Connecting".to_owned(),
        how: format!(
            "`pgbench -C -S` with 2 clients in one thread for {}: every query on a connection of its own. \
             `fsync` is on. A password is proven by SCRAM on both hops through pgbouncer; onus proves a key instead.",
            seconds(Duration::from_secs(long.parse().unwrap_or(0)))
        ),
        columns: vec!["way", "connections/s", "CPU ms each", "of pgbouncer", "server's CPU ms each"],
        rows,
        notes,
        values: values.into(),
    }])
}

struct Role {
    create_ms: f64,
    drop_ms: f64,
    server_cpu_ms: f64,
}

/// What making and dropping a session's role costs on the server, without the gateway.
fn roles(field: &Field) -> Result<Role, Failure> {
    const ROUNDS: u32 = 200;
    let verifier = "SCRAM-SHA-256$1:AAAAAAAAAAAAAAAAAAAAAA==$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:\
                    AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let timed = |sql: &dyn Fn(u32) -> String| -> Result<f64, Failure> {
        let script: String = (0..ROUNDS).map(|number| sql(number) + ";\n").collect();
        let mut psql = field.rig.cluster.installation().command("psql");
        psql.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", "-"]).envs(field.rig.cluster.env(DB));
        let begun = std::time::Instant::now();
        run::output_of_input("psql", &mut psql, &script)?;
        Ok(begun.elapsed().as_secs_f64() * 1000.0 / f64::from(ROUNDS))
    };
    let before = field.server_cpu();
    let create_ms = timed(&|number| {
        format!(
            "CREATE ROLE bench_{number} LOGIN INHERIT CONNECTION LIMIT 1 PASSWORD '{verifier}' \
             VALID UNTIL '2999-01-01' IN ROLE app_reader"
        )
    })?;
    let drop_ms = timed(&|number| format!("DROP ROLE bench_{number}"))?;
    let spent = field.server_cpu().saturating_sub(before);
    Ok(Role { create_ms, drop_ms, server_cpu_ms: spent.as_secs_f64() * 1000.0 / f64::from(ROUNDS) })
}
