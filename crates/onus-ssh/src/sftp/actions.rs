//! Every action that a file transfer can name, and the class of each, for SFTP, scp, rsync and git alike.

use onus_core::operation::{Class, Operation};

/// The actions, mildest class first. When adding one: add it here only; an action that is not listed is opaque.
pub const ACTIONS: &[(&str, Class)] = &[
    ("file.list", Class::Read),
    ("file.stat", Class::Read),
    ("file.read", Class::Read),
    ("file.write", Class::Write),
    ("file.remove", Class::Write),
    ("file.rename", Class::Write),
    ("file.make_directory", Class::Write),
    ("file.link", Class::Write),
    ("file.set_attributes", Class::Write),
    ("file.opaque", Class::Opaque),
];

/// The class of an action; an action outside the table is opaque, so that a slip here can only refuse.
pub fn class_of(action: &str) -> Class {
    ACTIONS.iter().find(|(name, _)| *name == action).map_or(Class::Opaque, |(_, class)| *class)
}

/// An operation that touches nothing yet.
pub(crate) fn operation(action: &'static str) -> Operation {
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

    #[test]
    fn what_is_not_listed_is_opaque() {
        assert_eq!(class_of("file.everything"), Class::Opaque);
    }
}
