//! Every action that the classifier can name, and the class of each. The Cedar schema is built from this table.

use onus_core::operation::{Class, Operation};

/// The actions, mildest class first. When adding one: add it here only; an action that is not listed cannot be built.
pub const ACTIONS: &[(&str, Class)] = &[
    ("sql.transaction", Class::Session),
    ("sql.set", Class::Session),
    ("sql.show", Class::Session),
    ("sql.fetch", Class::Session),
    ("sql.listen", Class::Session),
    ("sql.deallocate", Class::Session),
    ("sql.discard", Class::Session),
    ("sql.explain", Class::Session),
    ("sql.empty", Class::Session),
    ("sql.select", Class::Read),
    ("sql.copy_out", Class::Read),
    ("sql.insert", Class::Write),
    ("sql.update", Class::Write),
    ("sql.delete", Class::Write),
    ("sql.merge", Class::Write),
    ("sql.truncate", Class::Write),
    ("sql.copy_in", Class::Write),
    ("sql.call_write", Class::Write),
    ("sql.notify", Class::Write),
    ("sql.lock", Class::Write),
    ("sql.refresh", Class::Write),
    ("sql.create", Class::Define),
    ("sql.alter", Class::Define),
    ("sql.drop", Class::Define),
    ("sql.comment", Class::Define),
    ("sql.maintain", Class::Define),
    ("sql.grant", Class::Administer),
    ("sql.revoke", Class::Administer),
    ("sql.role", Class::Administer),
    ("sql.owner", Class::Administer),
    ("sql.system", Class::Administer),
    ("sql.set_role", Class::Administer),
    ("sql.set_sensitive", Class::Administer),
    ("sql.security_label", Class::Administer),
    ("sql.policy", Class::Administer),
    ("sql.signal", Class::Administer),
    ("sql.create_code", Class::Execute),
    ("sql.copy_program", Class::Execute),
    ("sql.copy_file", Class::Execute),
    ("sql.load", Class::Execute),
    ("sql.server_file", Class::Execute),
    ("sql.remote", Class::Execute),
    ("sql.call", Class::Execute),
    ("sql.opaque", Class::Opaque),
];

/// The class of an action; an action outside the table is opaque, so that a slip here can only refuse.
pub fn class_of(action: &str) -> Class {
    ACTIONS.iter().find(|(name, _)| *name == action).map_or(Class::Opaque, |(_, class)| *class)
}

/// An operation that touches nothing yet.
pub(super) fn operation(action: &'static str) -> Operation {
    Operation::new(action, class_of(action))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_ordered_by_class_and_names_nothing_twice() {
        assert!(ACTIONS.windows(2).all(|pair| pair[0].1 <= pair[1].1));
        let names: std::collections::BTreeSet<_> = ACTIONS.iter().map(|(name, _)| name).collect();
        assert_eq!(names.len(), ACTIONS.len());
    }
}
