//! Bulk data: COPY out and in, where what counts is the cost of a megabyte and that memory stays flat.

use std::fs;

use onus_testkit::{proc, run};
use serde_json::json;

use super::field::{DB, Field, Way};
use super::report::{Section, ratio};
use crate::step::Failure;

/// How often the table is copied in one session.
fn times(quick: bool) -> usize {
    if quick { 1 } else { 5 }
}

/// Rows of about a hundred bytes: a hundred megabytes.
const ROWS: usize = 1_000_000;

/// Measures it.
pub fn measure(field: &mut Field) -> Result<Vec<Section>, Failure> {
    let sql = format!(
        "DROP TABLE IF EXISTS public.bulk; CREATE UNLOGGED TABLE public.bulk (id int, body text); \
         INSERT INTO public.bulk SELECT i, repeat(md5(i::text), 3) FROM generate_series(1, {ROWS}) i; \
         GRANT SELECT ON public.bulk TO app_reader, app_writer"
    );
    field.rig.cluster.psql(DB, &sql)?;
    // Sessions know the catalogue as it was a few seconds ago.
    std::thread::sleep(std::time::Duration::from_secs(6));
    let file = field.rig.path("bulk.copy");
    let copy = format!("\\copy (select * from public.bulk) to '{}'", file.display());
    run::output("psql", field.client(Way::Direct, "psql", "reader").args(["-X", "-q", "-c", &copy]))?;
    let megabytes = fs::metadata(&file).map_or(0, |found| found.len()) as f64 * times(field.quick) as f64 / 1e6;
    let mut rows = Vec::new();
    let mut values = serde_json::Map::new();
    for (name, key, role, copy) in [
        ("out", "out", "reader", "\\copy (select * from public.bulk) to /dev/null".to_owned()),
        ("in", "in", "writer", format!("\\copy public.sink from '{}'", file.display())),
    ] {
        let mut found = Vec::new();
        for way in Way::ALL {
            field.rig.cluster.psql(DB, "TRUNCATE public.sink; CHECKPOINT")?;
            found.push((way, one(field, way, role, &copy, megabytes)?));
        }
        let of_bouncer = found[2].1.cpu_ms_per_mb;
        let mut each = serde_json::Map::new();
        for (way, found) in found {
            let shown = |text: String| if way == Way::Direct { "–".to_owned() } else { text };
            rows.push(vec![
                way.name().to_owned(),
                name.to_owned(),
                format!("{:.0}", found.mb_per_s),
                shown(format!("{:.2}", found.cpu_ms_per_mb)),
                shown(ratio(found.cpu_ms_per_mb, of_bouncer)),
                shown(format!("{:.1}", found.peak_mib)),
                shown(format!("{:+.1}", found.grown_mib)),
            ]);
            let one = json!({
                "mb_per_s": found.mb_per_s,
                "cpu_ms_per_mb": found.cpu_ms_per_mb,
                "peak_rss_mib": found.peak_mib,
                "rss_growth_mib": found.grown_mib,
            });
            each.insert(way.key().to_owned(), one);
        }
        values.insert(key.to_owned(), each.into());
    }
    // A hundred megabytes that nobody needs any more.
    let _ = fs::remove_file(&file);
    field.rig.cluster.psql(DB, "TRUNCATE public.sink")?;
    Ok(vec![Section {
        name: "copy",
        title: "Bulk data".to_owned(),
        how: format!(
            "{megabytes:.0} MB by `psql -c '\\copy …'`, rows of about 100 bytes, to `/dev/null` and into an unlogged \
             table. Peak memory is that of the process in the middle while it lasts; beside it, how far that is above \
             what the process had before."
        ),
        columns: vec!["way", "direction", "MB/s", "CPU ms/MB", "of pgbouncer", "peak RSS MiB", "above before"],
        rows,
        notes: Vec::new(),
        values: values.into(),
    }])
}

struct Copied {
    mb_per_s: f64,
    cpu_ms_per_mb: f64,
    peak_mib: f64,
    grown_mib: f64,
}

fn one(field: &Field, way: Way, role: &str, copy: &str, megabytes: f64) -> Result<Copied, Failure> {
    let middle = field.middle(way);
    if let Some(pid) = middle {
        // Begins a new peak (proc(5)); without the right to, the peak of the whole life is shown.
        let _ = fs::write(format!("/proc/{pid}/clear_refs"), "5");
    }
    let before = middle.and_then(proc::usage);
    let mut psql = field.client(way, "psql", role);
    psql.args(["-X", "-q", "-v", "ON_ERROR_STOP=1"]);
    for _ in 0..times(field.quick) {
        psql.args(["-c", copy]);
    }
    let begun = std::time::Instant::now();
    run::output(&format!("psql, {}", way.name()), &mut psql)?;
    let took = begun.elapsed().as_secs_f64();
    let after = middle.and_then(proc::usage);
    let spent = after.zip(before).map_or(f64::NAN, |(after, before)| (after.cpu - before.cpu).as_secs_f64());
    let mib = |kib: u64| kib as f64 / 1024.0;
    Ok(Copied {
        mb_per_s: megabytes / took,
        cpu_ms_per_mb: spent * 1000.0 / megabytes,
        peak_mib: after.map_or(f64::NAN, |after| mib(after.peak_rss_kib)),
        grown_mib: after.zip(before).map_or(f64::NAN, |(a, b)| mib(a.peak_rss_kib) - mib(b.rss_kib)),
    })
}
