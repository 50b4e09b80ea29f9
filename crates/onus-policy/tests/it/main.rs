//! The policy crate from outside: loading, the default set, cases as data, replay.

mod defaults;
mod loading;
mod replaying;

use onus_core::operation::Class;
use onus_policy::{KnownParties, PolicySet};

/// The tables that the protocols' classifiers have, as data.
fn actions() -> Vec<(&'static str, Class)> {
    include_str!("actions.txt")
        .lines()
        .flat_map(|line| {
            let mut words = line.split_whitespace();
            let class = Class::parse(words.next().unwrap()).unwrap();
            words.map(move |word| (word, class))
        })
        .collect()
}

/// The parties and teams of the example estate.
fn known() -> KnownParties {
    let names = |all: &[&str]| all.iter().map(|name| name.to_string()).collect();
    KnownParties {
        parties: names(&["dana", "ivan", "petra", "rita", "sam", "sven", "olga", "chris", "bob"]),
        teams: names(&["iam", "pam", "detection", "response", "data-platform"]),
    }
}

const ROLES: (&str, &str) = ("roles.cedar", include_str!("../../../../policies/roles.cedar"));
const GUARDS: (&str, &str) = ("guards.cedar", include_str!("../../../../policies/guards.cedar"));
const EVERYTHING: (&str, &str) =
    ("testing/permit-all.cedar", include_str!("../../../../policies/testing/permit-all.cedar"));

fn load(files: &[(&str, &str)]) -> PolicySet {
    PolicySet::load(files, &actions(), &known())
        .unwrap_or_else(|problems| panic!("{}", problems.iter().map(|p| format!("{p}\n")).collect::<String>()))
}
