//! `cargo xtask bench`: what the gateway costs, measured in one run beside PostgreSQL itself, a plain TCP proxy and
//! pgbouncer. Nothing asserts on a number: machines differ, and ratios of one run are what can be compared.

mod bouncer;
mod cold;
mod connecting;
mod copy;
mod field;
mod relay;
mod report;
mod sessions;
mod ssh;
mod ssh_onus;
mod ssh_yard;
mod state;
mod throughput;

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use onus_testkit::pg::Installation;
use onus_testkit::tools::{self, Tool};

use crate::step::{self, Failure};
use field::Field;
use report::Section;

struct Measure {
    name: &'static str,
    run: fn(&mut Field) -> Result<Vec<Section>, Failure>,
}

/// What others may use of the machine before a run counts as disturbed.
const DISTURBED: f64 = 0.1;

/// WHEN ADDING ONE: a module, and a line here. `state` stays last: it makes the ledger big.
const MEASURES: &[Measure] = &[
    Measure { name: "throughput", run: throughput::measure },
    Measure { name: "connecting", run: connecting::measure },
    Measure { name: "copy", run: copy::measure },
    Measure { name: "cold", run: cold::measure },
    Measure { name: "sessions", run: sessions::measure },
    Measure { name: "ssh", run: ssh::measure },
    Measure { name: "state", run: state::measure },
];

/// Runs it.
pub fn task(words: &[String]) -> Result<(), Failure> {
    let mut quick = false;
    let mut only: Vec<String> = Vec::new();
    let mut built: Option<PathBuf> = None;
    let mut openssh_alone = false;
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--quick" => quick = true,
            "--only" => only.push(known(words.next())?),
            // To compare two versions, or to leave the machine's cores to the measurement.
            "--built" => {
                let folder = words.next().ok_or_else(|| Failure::Usage("--built needs a folder".to_owned()))?;
                built = Some(PathBuf::from(folder));
            }
            ssh::WORD => openssh_alone = true,
            relay::WORD => {
                let mut port = || words.next().ok_or_else(|| Failure::Usage("a port is missing".to_owned()));
                return relay::run(port()?, port()?);
            }
            other => return Err(Failure::Usage(format!("`{other}` makes no sense here"))),
        }
    }
    if openssh_alone {
        return ssh::run(quick);
    }
    tools::need(&[
        Tool::Psql,
        Tool::PostgresServer,
        Tool::Pgbench,
        Tool::Pgbouncer,
        Tool::Openssl,
        Tool::C,
        Tool::Libclang,
    ])?;
    let release = match built {
        Some(folder) => folder,
        None => {
            step::run(
                "build",
                step::cargo()
                    .args(["build", "--release", "--package", "onus", "--bin", "onus"])
                    .args(["--example", "fill_ledger"]),
            )?;
            field::target().join("release")
        }
    };
    let installation = Installation::find()?;
    let mut machine = report::machine(&[
        ("PostgreSQL", installation.command("postgres")),
        ("pgbouncer", Command::new(bouncer::program())),
        ("onus", Command::new(release.join("onus"))),
        ("rustc", Command::new("rustc")),
    ]);
    let before = report::busy();
    let mut field = Field::start(&release.join("onus"), &release.join("examples/fill_ledger"), quick)?;
    let mut sections = Vec::new();
    for measure in MEASURES.iter().filter(|measure| only.is_empty() || only.iter().any(|name| name == measure.name)) {
        eprintln!("── {}", measure.name);
        for section in (measure.run)(&mut field)? {
            section.print();
            sections.push(section);
        }
    }
    drop(field);
    // The server's last writes are ours.
    std::thread::sleep(Duration::from_secs(3));
    let after = report::busy();
    let percent = |share: f64| format!("{:.0} %", share * 100.0);
    machine.push(("busy with other things", format!("{} before, {} after", percent(before), percent(after))));
    if before.max(after) > DISTURBED {
        println!("\n! other programs used {} of the machine before and {} after:", percent(before), percent(after));
        println!("! these numbers are disturbed; take them again when it is quiet");
    }
    let mode = if quick { "quick" } else { "full" };
    let json = field::target().join("bench.json");
    report::write_json(&json, &machine, mode, &sections)?;
    println!("\nnumbers: {}", json.display());
    if only.is_empty() {
        let page = step::root().join("docs/performance.md");
        report::write_page(&page, &machine, mode, &sections)?;
        println!("page:    {}", page.display());
    }
    Ok(())
}

fn known(name: Option<&String>) -> Result<String, Failure> {
    let names = || MEASURES.iter().map(|measure| measure.name).collect::<Vec<_>>().join(", ");
    match name {
        Some(name) if MEASURES.iter().any(|measure| measure.name == name) => Ok(name.clone()),
        Some(name) => Err(Failure::Usage(format!("no measure `{name}`; there are {}", names()))),
        None => Err(Failure::Usage(format!("--only needs one of {}", names()))),
    }
}
