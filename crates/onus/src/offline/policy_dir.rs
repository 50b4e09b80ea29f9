//! A policy set from a directory of `*.cedar` files, as the gateway would load it.
//!
//! Without an estate nobody knows which parties exist. Then whoever is named as owner or confirmer is taken to exist,
//! and the caller must say that this was not checked.

use super::estate_file;
use onus_core::estate::Estate;
use onus_policy::{KnownParties, PolicySet};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// A set that loaded, and whether its owners were checked.
#[derive(Debug)]
pub struct Loaded {
    /// The set.
    pub set: PolicySet,
    /// Whether owners and confirmers were held against an estate.
    pub owners_checked: bool,
}

/// Loads the `*.cedar` files of a directory (not of those below it), named by their file names.
///
/// # Errors
/// Every problem as a line for people.
pub fn load(dir: &Path, estate: Option<&Path>) -> Result<Loaded, Vec<String>> {
    let files = read(dir).map_err(|problem| vec![problem])?;
    let known = match estate {
        Some(estate) => {
            let estate = estate_file::read(estate)
                .map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>())?;
            known(&estate)
        }
        None => named(&files),
    };
    PolicySet::load(&files, &onus_gateway::policy::actions(), &known)
        .map(|set| Loaded { set, owners_checked: estate.is_some() })
        .map_err(|problems| {
            problems
                .iter()
                .map(|problem| match problem.file.is_empty() {
                    true => problem.to_string(),
                    false => format!("{}", dir.join(problem.to_string()).display()),
                })
                .collect()
        })
}

/// The parties and teams that a policy may name: active parties, and all teams.
fn known(estate: &Estate) -> KnownParties {
    KnownParties {
        parties: estate.parties.iter().filter(|(_, party)| party.active).map(|(id, _)| id.to_string()).collect(),
        teams: estate.teams.keys().map(ToString::to_string).collect(),
    }
}

fn read(dir: &Path) -> Result<Vec<(String, String)>, String> {
    let failed = |path: &Path, error: &dyn std::fmt::Display| format!("{}: cannot be read: {error}", path.display());
    let mut paths: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(|e| failed(dir, &e))? {
        let path = entry.map_err(|e| failed(dir, &e))?.path();
        if path.extension().is_some_and(|ending| ending == "cedar") {
            paths.push(path);
        }
    }
    paths.sort();
    if paths.is_empty() {
        // A set without policies denies everything, which nobody means by naming an empty directory.
        return Err(format!("{}: holds no `*.cedar` file; name the directory with the policies", dir.display()));
    }
    let mut files = Vec::new();
    for path in paths {
        let text = std::fs::read_to_string(&path).map_err(|e| failed(&path, &e))?;
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        files.push((name, text));
    }
    Ok(files)
}

/// Whoever `@owner` and `@confirm` name. Only what such an annotation holds counts, so a typo there goes unnoticed
/// (and is said to), while everything else is still validated.
fn named(files: &[(String, String)]) -> KnownParties {
    let mut names = BTreeSet::new();
    for (_, text) in files {
        for annotation in ["@owner", "@confirm"] {
            for (at, _) in text.match_indices(annotation) {
                let rest = text[at + annotation.len()..].trim_start();
                let quoted = rest.strip_prefix('(').map(str::trim_start).and_then(|rest| rest.strip_prefix('"'));
                let Some((value, _)) = quoted.and_then(|rest| rest.split_once('"')) else { continue };
                names.extend(value.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned));
            }
        }
    }
    KnownParties { parties: names.clone(), teams: names }
}
