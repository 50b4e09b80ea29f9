//! Every action that SSH itself brings, and the class of each. What a command line or a file transfer does is named by
//! [`onus_shell`] and by this crate's transfer modules; [`all`] is the whole table, from which the Cedar schema is made.

use onus_core::operation::{Class, Operation};

/// The connection protocol's own actions. An action that is not listed cannot be built.
pub const ACTIONS: &[(&str, Class)] = &[
    // A variable of the environment, from a short list.
    ("ssh.env", Class::Session),
    // A terminal.
    ("ssh.pty", Class::Session),
    // The governed shell: it runs nothing by itself.
    ("ssh.governed_shell", Class::Session),
    // Something else than a terminal or a command that was started over SSH: an SFTP session. Its requests are decided
    // one by one.
    ("ssh.sftp", Class::Session),
    // A connection to somewhere, made by the resource.
    ("ssh.forward", Class::Execute),
    // A port that the resource listens on for the client.
    ("ssh.forward_listen", Class::Execute),
    // A socket file, in either direction.
    ("ssh.socket", Class::Execute),
    // The client's agent, lent to the resource.
    ("ssh.agent", Class::Execute),
    // The client's display.
    ("ssh.x11", Class::Execute),
    // A raw shell: what is typed into it can be recorded and not decided.
    ("ssh.shell", Class::Opaque),
    // A subsystem that is not parsed.
    ("ssh.subsystem", Class::Opaque),
    // A kind of channel or request that is not known.
    ("ssh.opaque", Class::Opaque),
];

/// All actions that can come up in an SSH session.
pub fn all() -> Vec<(&'static str, Class)> {
    let tables = [ACTIONS, onus_shell::ACTIONS, crate::file_actions()];
    tables.into_iter().flatten().copied().collect()
}

/// An operation that touches nothing yet.
pub(crate) fn operation(action: &'static str) -> Operation {
    let class = ACTIONS.iter().find(|(name, _)| *name == action).map_or(Class::Opaque, |(_, class)| *class);
    Operation::new(action, class)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_action_stands_twice() {
        let mut names: Vec<_> = all().into_iter().map(|(name, _)| name).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
