//! Words that nobody has seen: whatever a policy asks about paths, it is never told that they are known.

use crate::hostile::{opaque, read};
use onus_core::operation::{Access, Class};
use onus_core::path::{ANYWHERE, Reach, ancestors, places};

/// The places that all paths with this access lie in, as a policy sees them (`reads_within`, `writes_within`).
fn within(line: &str, wanted: &[Access]) -> Vec<String> {
    let reading = read(line);
    let paths = reading.operations.iter().flat_map(|operation| &operation.objects);
    let all =
        paths.filter(|object| object.kind == "path" && wanted.contains(&object.access)).map(|o| ancestors(&o.name));
    all.reduce(|all, one| all.intersection(&one).cloned().collect()).unwrap_or_default().into_iter().collect()
}

#[test]
fn an_unknown_path_lies_within_nothing_and_may_lie_anywhere() {
    for line in [
        "xargs rm",
        "xargs rm -f /tmp/x",
        "xargs -I{} cp {} /tmp/x",
        "xargs -I% mv /tmp/% /tmp/y",
        "xargs sudo rm -f /tmp/x",
        "xargs gzip /tmp/x",
        "sudo xargs -0 touch /tmp/x",
        "timeout 5 xargs rm /tmp/x",
        "find /tmp -print0 | xargs -0 rm -rf",
    ] {
        let reading = read(line);
        assert!(!opaque(&reading), "{line}: {reading:?}");
        assert_eq!(within(line, &[Access::Write]), Vec::<String>::new(), "{line}");
        let last = reading.operations.last().unwrap();
        assert!(last.class >= Class::Write && last.has("appended") && last.has("recursive"), "{line}: {last:?}");
        let mut written = last.objects.iter().filter(|o| o.kind == "path" && o.access == Access::Write);
        assert!(written.any(|o| places(&o.name, Reach::Deep).contains(ANYWHERE)), "{line}");
    }
    for line in ["xargs cat", "xargs -I{} cat /tmp/{}", "xargs grep -r x /tmp/y", "xargs sudo ls /tmp", "xargs wc -l"] {
        assert!(!opaque(&read(line)), "{line}");
        assert_eq!(within(line, &[Access::Read]), Vec::<String>::new(), "{line}");
    }
    assert!(within("chmod 600 /tmp/x", &[Access::Administer]).contains(&"/tmp".to_owned()));
    assert!(within("xargs chmod 600 /tmp/x", &[Access::Administer]).is_empty());
}

/// A policy that permits a command by its exact words doesn't permit it with further ones.
#[test]
fn a_command_with_unseen_words_is_another_command() {
    for line in ["xargs rm -f", "xargs sudo rm -f", "xargs -I{} rm -f", "xargs -n 1 rm -f", "sudo xargs rm -f"] {
        for operation in &read(line).operations {
            let command = operation.objects.iter().find(|object| object.kind == "command").unwrap();
            assert!(command.name.starts_with("xargs "), "{line}: {}", command.name);
        }
    }
}

/// `find` may find its start itself.
#[test]
fn a_start_of_find_is_touched_itself() {
    for (line, access) in [
        ("find /etc/passwd -exec rm {} ;", Access::Write),
        ("find /etc/passwd -ok rm {} ;", Access::Write),
        ("find /etc/passwd -exec rm {} +", Access::Write),
        ("find /etc/passwd -delete", Access::Write),
        ("find /tmp /etc/passwd -exec mv {} /srv ;", Access::Write),
        ("find /etc/passwd -exec chmod 666 {} ;", Access::Administer),
        ("find /etc/passwd -exec sudo rm {} ;", Access::Write),
        ("find /etc/passwd -exec cat {} ; -exec sed -i p {} ;", Access::Write),
        ("find /etc/passwd", Access::Read),
    ] {
        let line = &line.replace(';', "\\;");
        let reading = read(line);
        assert!(!opaque(&reading), "{line}: {reading:?}");
        let touched = |name: &str| {
            let mut objects = reading.operations.iter().flat_map(|operation| &operation.objects);
            objects.any(|object| object.kind == "path" && object.access == access && object.name == name)
        };
        assert!(touched("/etc/passwd") && touched("/etc/passwd/**"), "{line}: {:?}", reading.operations);
    }
}
