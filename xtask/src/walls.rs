//! The dependency rule, from `cargo metadata`: pure crates depend on pure crates and a short list; heavy dependencies sit
//! in leaves; what is for tests never ships.
//!
//! WHEN A TEST HERE FAILS: a dependency is a decision. If it is the right one, it goes into the list with the change
//! that brings it, and into `docs/adr/0012-dependencies.md`.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// Crates that do no I/O, and all that each may use.
const PURE: [(&str, &[&str]); 9] = [
    ("onus-core", &["hex", "serde", "serde_json", "sha2", "thiserror"]),
    ("onus-ledger", &["base64", "ed25519-dalek", "hex", "sha2", "thiserror", "zeroize"]),
    ("onus-journal", &["aes-gcm", "hex", "sha2", "thiserror", "zeroize"]),
    ("onus-pep", &["bytes", "onus-core", "thiserror"]),
    (
        "onus-pg",
        &[
            "base64",
            "bytes",
            "foldhash",
            "hex",
            "hmac",
            "onus-core",
            "onus-pep",
            "pg_query",
            "serde",
            "serde_json",
            "sha2",
            "thiserror",
        ],
    ),
    ("onus-policy", &["cedar-policy", "hex", "onus-core", "serde", "serde_json", "sha2", "thiserror"]),
    ("onus-shell", &["onus-core", "serde", "thiserror", "toml"]),
    ("onus-ssh", &["bytes", "foldhash", "onus-core", "onus-pep", "onus-shell", "onus-terminal", "sha2", "thiserror"]),
    ("onus-terminal", &["serde", "serde_json", "thiserror", "unicode-width"]),
];

/// Crates that do no I/O and yet aren't pure, and why not: what comes out depends on more than what goes in.
const NEARLY_PURE: [(&str, &str, &[&str]); 1] = [(
    "onus-ssh-transport",
    // SSH wants it in every packet's padding and for the keys of every exchange; to hand it in would only move the draw,
    // and a caller that hands in the same bytes twice would break the cipher. So it has no clock, sockets or domain, and
    // its own tests never compare ciphertexts.
    "draws randomness",
    &["aws-lc-rs", "bytes", "ssh-key", "subtle", "thiserror", "zeroize"],
)];

/// Dependencies by crate, without those for tests.
fn shipped() -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1", "--manifest-path"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"))
        .output()
        .expect("cargo runs the tests, so it can be run");
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON");
    let packages = metadata["packages"].as_array().expect("a list of packages");
    packages
        .iter()
        .map(|package| {
            let dependencies = package["dependencies"].as_array().into_iter().flatten();
            let names = dependencies
                .filter(|dependency| dependency["kind"].is_null())
                .filter_map(|dependency| dependency["name"].as_str().map(str::to_owned))
                .collect();
            (package["name"].as_str().expect("a name").to_owned(), names)
        })
        .collect()
}

#[test]
fn pure_crates_use_pure_crates_and_a_short_list() {
    let shipped = shipped();
    let nearly = NEARLY_PURE.map(|(name, _, allowed)| (name, allowed));
    for (name, allowed) in PURE.into_iter().chain(nearly) {
        let used = &shipped[name];
        let beyond: Vec<_> = used.iter().filter(|used| !allowed.contains(&used.as_str())).collect();
        assert!(beyond.is_empty(), "{name} uses {beyond:?}");
    }
}

#[test]
fn only_the_binary_and_its_api_know_the_gateway() {
    for (name, used) in shipped() {
        assert!(
            !used.contains("onus-gateway") || ["onus", "onus-api"].contains(&name.as_str()),
            "{name} depends on the shell"
        );
        assert!(!used.contains("onus-testkit") || name == "xtask", "{name} ships the test kit");
    }
}
