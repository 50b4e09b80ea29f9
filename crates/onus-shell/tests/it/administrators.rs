//! What administrators type on a host, from `administrators.txt`: every line is known, none needs a policy for opaque ones.

use crate::hostile::{opaque, read};

#[test]
fn administrators_lines_are_known() {
    let text = include_str!("administrators.txt");
    let lines: Vec<&str> = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    let mut unknown = Vec::new();
    for line in &lines {
        let reading = read(line);
        if opaque(&reading) {
            let why: Vec<_> = reading.operations.iter().flat_map(|operation| operation.opaque.clone()).collect();
            unknown.push(format!("{line}: {}", why.join("; ")));
        }
    }
    assert!(unknown.is_empty(), "{} of {} lines: {unknown:#?}", unknown.len(), lines.len());
}
