//! `cargo xtask setup`: what building and testing need beyond Rust. Deliberately only what can't be fetched by cargo, and
//! nothing that is there already.

use onus_testkit::ssh_tools::Program;
use onus_testkit::tools::{self, Tool};
use onus_testkit::{drivers, drivers::DriverError};

use crate::step::Failure;

/// Without these nothing can be built, or the tests mean little.
const REQUIRED: &[Tool] = &[
    Tool::C,
    // The bindings of pg_query are made while it is built.
    Tool::Libclang,
    Tool::Openssl,
    Tool::PostgresServer,
    Tool::Psql,
    Tool::Pgbench,
    Tool::Ssh(Program::Sshd),
    Tool::Ssh(Program::Ssh),
    Tool::Ssh(Program::Scp),
    Tool::Ssh(Program::Sftp),
    Tool::Ssh(Program::SshKeygen),
    Tool::Ssh(Program::Git),
];
/// Tests that need these say that they skip.
const OPTIONAL: &[Tool] =
    &[Tool::Node, Tool::Python, Tool::Ssh(Program::Rsync), Tool::Ssh(Program::Ansible), Tool::Ssh(Program::SshAudit)];
/// Only for comparison in benches.
const BENCH: &[Tool] = &[Tool::Pgbouncer];

/// The task.
pub fn task(words: &[String]) -> Result<(), Failure> {
    let bench = match words {
        [] => false,
        [word] if word == "--bench" => true,
        _ => return Err(Failure::Usage(format!("can't understand `{}`", words.join(" ")))),
    };
    all()?;
    if bench {
        tools::need(BENCH)?;
    }
    eprintln!("setup: everything is there");
    Ok(())
}

/// Everything but what only benches need.
pub fn all() -> Result<(), Failure> {
    tools::need(REQUIRED)?;
    if let Err(missing) = tools::need(OPTIONAL) {
        eprintln!("{missing}\ntests that need them will say that they skip");
    }
    // Now rather than within the first test that wants them, whose time they would spoil.
    skippable(drivers::python().map(drop))?;
    skippable(drivers::node().map(drop))
}

fn skippable(result: Result<(), DriverError>) -> Result<(), Failure> {
    match result {
        Ok(()) => Ok(()),
        Err(DriverError::Fault(err)) => Err(Failure::Kit(err)),
        Err(skip @ (DriverError::Offline { .. } | DriverError::NoInterpreter(_))) => {
            eprintln!("{skip}");
            Ok(())
        }
    }
}
