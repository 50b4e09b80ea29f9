//! Which settings a session may change without any bearing on what its statements mean or may do.

/// Settings that only shape formats, limits, waiting and planning. Everything else, custom settings (with a dot)
/// included because row-level policies read them, is sensitive. When adding one: it must not change how text is
/// lexed, how names are resolved, who the session is, what is checked, or what the server logs.
const HARMLESS: &[&str] = &[
    "application_name",
    "array_nulls",
    "bytea_output",
    "client_connection_check_interval",
    "client_min_messages",
    "commit_delay",
    "commit_siblings",
    "constraint_exclusion",
    "cpu_index_tuple_cost",
    "cpu_operator_cost",
    "cpu_tuple_cost",
    "cursor_tuple_fraction",
    "datestyle",
    "default_statistics_target",
    "default_text_search_config",
    "default_transaction_deferrable",
    "default_transaction_isolation",
    "effective_cache_size",
    "effective_io_concurrency",
    "escape_string_warning",
    "extra_float_digits",
    "from_collapse_limit",
    "geqo",
    "geqo_effort",
    "geqo_generations",
    "geqo_pool_size",
    "geqo_seed",
    "geqo_selection_bias",
    "geqo_threshold",
    "gin_fuzzy_search_limit",
    "hash_mem_multiplier",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
    "intervalstyle",
    "jit",
    "jit_above_cost",
    "jit_inline_above_cost",
    "jit_optimize_above_cost",
    "join_collapse_limit",
    "lc_messages",
    "lc_monetary",
    "lc_numeric",
    "lc_time",
    "lock_timeout",
    "maintenance_work_mem",
    "max_parallel_maintenance_workers",
    "max_parallel_workers",
    "max_parallel_workers_per_gather",
    "min_parallel_index_scan_size",
    "min_parallel_table_scan_size",
    "parallel_leader_participation",
    "parallel_setup_cost",
    "parallel_tuple_cost",
    "plan_cache_mode",
    "quote_all_identifiers",
    "random_page_cost",
    "recursive_worktable_factor",
    "seq_page_cost",
    "statement_timeout",
    "synchronize_seqscans",
    "tcp_keepalives_count",
    "tcp_keepalives_idle",
    "tcp_keepalives_interval",
    "tcp_user_timeout",
    "temp_buffers",
    "timezone",
    "timezone_abbreviations",
    "transaction_deferrable",
    "transaction_isolation",
    "transaction_timeout",
    "work_mem",
    "xmlbinary",
    "xmloption",
];

/// How a setting bears on the classifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Setting {
    /// Shapes formats, limits, waiting or planning only.
    Harmless,
    /// Says who the session acts as.
    Role,
    /// Says how names are resolved.
    SearchPath,
    /// Says how text is lexed.
    Lexing,
    /// Anything else.
    Sensitive,
}

/// Judges a setting by its name, which the server reads without regard to case.
pub(super) fn setting(name: &str) -> Setting {
    match name {
        "role" | "session_authorization" => Setting::Role,
        "search_path" => Setting::SearchPath,
        "standard_conforming_strings" | "client_encoding" | "backslash_quote" => Setting::Lexing,
        _ if HARMLESS.binary_search(&name).is_ok() || (name.starts_with("enable_") && !name.contains('.')) => {
            Setting::Harmless
        }
        _ => Setting::Sensitive,
    }
}

/// Reads a search path as `set_config` and start-up options spell it; `None` when it can't be read with certainty.
pub fn parse_search_path(text: &str) -> Option<Vec<String>> {
    let mut path = Vec::new();
    let mut rest = text.trim();
    if rest.is_empty() {
        return Some(path);
    }
    loop {
        let (name, after) = if let Some(quoted) = rest.strip_prefix('"') {
            let end = quoted.find('"')?;
            let after = &quoted[end + 1..];
            if end == 0 || after.starts_with('"') {
                return None;
            }
            (quoted[..end].to_owned(), after.trim_start())
        } else {
            let end = rest.find([',', ' ', '\t', '\n', '\r']).unwrap_or(rest.len());
            let word = &rest[..end];
            let plain = word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'$');
            if word.is_empty() || !plain || word.as_bytes()[0].is_ascii_digit() {
                return None;
            }
            (word.to_ascii_lowercase(), rest[end..].trim_start())
        };
        if name.len() >= 64 {
            return None;
        }
        path.push(name);
        if after.is_empty() {
            return Some(path);
        }
        rest = after.strip_prefix(',')?.trim_start();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_sorted_for_its_search() {
        assert!(HARMLESS.windows(2).all(|pair| pair[0] < pair[1]));
    }

    #[test]
    fn whatever_bears_on_meaning_or_checks_is_not_harmless() {
        for name in [
            "search_path",
            "role",
            "row_security",
            "session_replication_role",
            "app.tenant",
            "default_transaction_read_only",
            "standard_conforming_strings",
            "enable_x.y",
        ] {
            assert_ne!(setting(name), Setting::Harmless, "{name}");
        }
        assert_eq!(setting("work_mem"), Setting::Harmless);
    }

    #[test]
    fn a_path_is_read_like_the_server_reads_it_or_not_at_all() {
        assert_eq!(parse_search_path("A, \"B c\" ,d"), Some(vec!["a".into(), "B c".into(), "d".into()]));
        assert_eq!(parse_search_path(""), Some(vec![]));
        assert_eq!(parse_search_path("a,,b"), None);
        assert_eq!(parse_search_path("a b"), None);
        assert_eq!(parse_search_path("\"a\"\"b\""), None);
    }
}
