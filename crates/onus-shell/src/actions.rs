//! The actions that a shell line can be: one per class. The Cedar schema is built from this table.

use onus_core::operation::{Class, Operation};

/// The actions, mildest class first. There is no `shell.define`: what makes or removes users, mounts and units is
/// [`Class::Administer`] on a host. When adding one: add it here only.
pub const ACTIONS: &[(&str, Class)] = &[
    ("shell.session", Class::Session),
    ("shell.read", Class::Read),
    ("shell.write", Class::Write),
    ("shell.administer", Class::Administer),
    ("shell.execute", Class::Execute),
    ("shell.opaque", Class::Opaque),
];

/// The action of a class; a class without an action is opaque, so that a slip here can only refuse.
pub fn action_of(class: Class) -> &'static str {
    ACTIONS.iter().find(|(_, known)| *known == class).map_or("shell.opaque", |(action, _)| *action)
}

/// An operation of the class that touches nothing yet.
pub(crate) fn operation(class: Class) -> Operation {
    Operation::new(action_of(class), class)
}

/// Makes the operation at least as severe as `class`.
pub(crate) fn raise(operation: &mut Operation, class: Class) {
    if class > operation.class {
        operation.class = class;
        operation.action = action_of(class).to_owned();
    }
}

/// Makes the operation opaque, with the reason.
pub(crate) fn refuse(operation: &mut Operation, why: String) {
    raise(operation, Class::Opaque);
    operation.opaque.insert(why);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_but_define_has_one_action() {
        for class in Class::ALL {
            let expected = if class == Class::Define { Class::Opaque } else { class };
            assert_eq!(action_of(class), format!("shell.{expected}"));
        }
    }
}
