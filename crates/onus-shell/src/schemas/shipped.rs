//! The schema files that ship with the crate. When adding a file: add it here; a test loads all of them together.

/// Name and text of every shipped file.
pub(super) const FILES: &[(&str, &str)] = &[
    ("archives.toml", include_str!("../../schemas/archives.toml")),
    ("builtins.toml", include_str!("../../schemas/builtins.toml")),
    ("cloud.toml", include_str!("../../schemas/cloud.toml")),
    ("containers.toml", include_str!("../../schemas/containers.toml")),
    ("databases.toml", include_str!("../../schemas/databases.toml")),
    ("files.toml", include_str!("../../schemas/files.toml")),
    ("interactive.toml", include_str!("../../schemas/interactive.toml")),
    ("network.toml", include_str!("../../schemas/network.toml")),
    ("packages.toml", include_str!("../../schemas/packages.toml")),
    ("process.toml", include_str!("../../schemas/process.toml")),
    ("services.toml", include_str!("../../schemas/services.toml")),
    ("storage.toml", include_str!("../../schemas/storage.toml")),
    ("system.toml", include_str!("../../schemas/system.toml")),
    ("text.toml", include_str!("../../schemas/text.toml")),
    ("tools.toml", include_str!("../../schemas/tools.toml")),
    ("users.toml", include_str!("../../schemas/users.toml")),
    ("vcs.toml", include_str!("../../schemas/vcs.toml")),
    ("wrappers.toml", include_str!("../../schemas/wrappers.toml")),
];
