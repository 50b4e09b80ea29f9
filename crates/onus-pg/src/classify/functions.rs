//! What PostgreSQL's built-in functions do, by name.
//!
//! `functions.tsv` is every function of pg_catalog in PostgreSQL 15, made by `functions.sql`; `functions-curated.tsv`
//! says what the volatility does not. Immutable and stable functions, aggregates and window functions only read;
//! a volatile one that is not curated is opaque, and so is a name that is in neither file.
//! Overloads are not told apart: a name does the worst that any function of that name does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

/// What a built-in function does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Builtin {
    Read,
    Fact(&'static str),
    Write,
    Notify,
    Signal,
    File,
    System,
    Maintain,
    Remote,
    Dynamic,
    TsRewrite,
    SetConfig,
    Opaque,
}

static BUILTINS: LazyLock<BTreeMap<&'static str, Builtin>> = LazyLock::new(|| {
    let mut table = BTreeMap::new();
    for line in include_str!("functions.tsv").lines() {
        let mut columns = line.split('\t');
        let (Some(name), Some(volatility), Some(kinds)) = (columns.next(), columns.next(), columns.next()) else {
            continue;
        };
        let reads = !volatility.contains('v') || kinds.chars().all(|kind| kind == 'a' || kind == 'w');
        table.insert(name, if reads { Builtin::Read } else { Builtin::Opaque });
    }
    for line in include_str!("functions-curated.tsv").lines().filter(|line| !line.starts_with('#')) {
        let Some((name, word)) = line.split_once('\t') else { continue };
        let effect = match word {
            "read" => Builtin::Read,
            "write" => Builtin::Write,
            "notify" => Builtin::Notify,
            "signal" => Builtin::Signal,
            "file" => Builtin::File,
            "system" => Builtin::System,
            "maintain" => Builtin::Maintain,
            "remote" => Builtin::Remote,
            "dynamic" => Builtin::Dynamic,
            "ts_rewrite" => Builtin::TsRewrite,
            "set_config" => Builtin::SetConfig,
            other => other.strip_prefix("fact:").map_or(Builtin::Opaque, Builtin::Fact),
        };
        table.insert(name, effect);
    }
    table
});

static RELATIONS: LazyLock<BTreeSet<&'static str>> =
    LazyLock::new(|| include_str!("relations.txt").lines().filter(|line| !line.starts_with('#')).collect());

/// The built-in function of that name in pg_catalog, if there is one.
pub(super) fn builtin(name: &str) -> Option<Builtin> {
    BUILTINS.get(name).copied()
}

static TYPES: LazyLock<BTreeSet<&'static str>> =
    LazyLock::new(|| include_str!("types.txt").lines().filter(|line| !line.starts_with('#')).collect());

/// Whether pg_catalog has a type of that name that is neither an array nor a row type.
pub(super) fn is_system_type(name: &str) -> bool {
    TYPES.contains(name)
}

/// Whether pg_catalog has a table or view of that name.
pub(super) fn is_system_relation(name: &str) -> bool {
    RELATIONS.contains(name)
}

/// Relations of the system catalogue whose contents are secrets, other people's statements, or other tables' values.
pub(super) fn is_sensitive_relation(schema: &str, name: &str) -> bool {
    schema.starts_with("pg_toast")
        || name.starts_with("pg_stat_statements")
        || (schema == "pg_catalog"
            && matches!(
                name,
                "pg_authid"
                    | "pg_shadow"
                    | "pg_largeobject"
                    | "pg_statistic"
                    | "pg_statistic_ext_data"
                    | "pg_stats"
                    | "pg_stats_ext"
                    | "pg_stats_ext_exprs"
                    | "pg_stat_activity"
                    | "pg_user_mapping"
                    | "pg_user_mappings"
                    | "pg_hba_file_rules"
                    | "pg_ident_file_mappings"
                    | "pg_file_settings"
                    | "pg_config"
                    | "pg_subscription"
                    | "pg_foreign_server"
            ))
        || (schema == "information_schema" && name.starts_with("user_mapping"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volatile_function_that_nobody_judged_is_opaque() {
        assert_eq!(builtin("lower"), Some(Builtin::Read));
        assert_eq!(builtin("count"), Some(Builtin::Read));
        assert_eq!(builtin("tsvector_update_trigger"), Some(Builtin::Opaque));
        assert_eq!(builtin("pg_read_file"), Some(Builtin::File));
        assert_eq!(builtin("pg_sleep"), Some(Builtin::Fact("sleep")));
        assert_eq!(builtin("no_such_function"), None);
    }

    #[test]
    fn every_curated_word_is_understood() {
        for line in include_str!("functions-curated.tsv").lines().filter(|line| !line.starts_with('#')) {
            let (name, _) = line.split_once('\t').expect("two columns");
            assert_ne!(builtin(name), Some(Builtin::Opaque), "{line}");
        }
    }
}
