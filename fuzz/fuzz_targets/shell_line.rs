//! Arbitrary bytes as a shell line: the reader must return, must say of each line what it is or that it can't be known, must say the
//! same twice, and must write nothing into a script that a shell would expand.
#![no_main]

use std::sync::{Arc, LazyLock};

use onus_core::operation::Class;
use onus_shell::{Scene, Schemas, Shell};

static SHELL: LazyLock<Shell> = LazyLock::new(|| Shell::new(Arc::new(Schemas::shipped())));
static SCENE: LazyLock<Scene> = LazyLock::new(|| Scene { cwd: Some("/srv/app".to_owned()), ..Scene::default() });

libfuzzer_sys::fuzz_target!(|line: &[u8]| {
    let reading = SHELL.read(line, &SCENE);
    assert_eq!(reading, SHELL.read(line, &SCENE));
    let opaque = reading.operations.iter().any(|operation| operation.class == Class::Opaque);
    for operation in &reading.operations {
        assert_eq!(operation.class == Class::Opaque, !operation.opaque.is_empty(), "{operation:?}");
    }
    let Some(script) = &reading.script else {
        assert!(opaque, "neither a script nor opaque: {line:?}");
        return;
    };
    assert!(reading.commands.is_empty() || !reading.operations.is_empty(), "commands without operations: {line:?}");
    assert!(!script.chars().any(|c| c.is_control() && c != '\n' && c != '\t'), "control characters: {script:?}");
    // A here-document's body is text as it is.
    if !script.contains("<<") {
        assert_eq!(outside(script), None, "something to expand: {script:?}");
    }
});

/// What a shell would expand outside of single quotes. The reader writes `\'` and `"$HOME"` there, and nothing else of the kind.
fn outside(script: &str) -> Option<&str> {
    let mut rest = script;
    while let Some(at) = rest.find(['\'', '"', '\\', '$', '`']) {
        rest = &rest[at..];
        rest = if let Some(quoted) = rest.strip_prefix('\'') {
            match quoted.split_once('\'') {
                Some((_, after)) => after,
                None => return Some(rest),
            }
        } else {
            match rest.strip_prefix("\\'").or(rest.strip_prefix("\"$HOME\"")) {
                Some(after) => after,
                None => return Some(rest),
            }
        };
    }
    None
}
