//! What one request says and does: its fields, strictly read, and the operation that they amount to.
//!
//! Strictly: a request that differs in any byte from the form of its kind (a length that doesn't fit, something after
//! the last field, a NUL in a path, a bit that version 3 doesn't know) is malformed, since two readers of it may differ.

use onus_core::operation::{Access, Operation};

use super::actions::operation;
use super::packet::{
    ATTR_EXTENDED, ATTR_PERMISSIONS, ATTR_SIZE, ATTR_TIMES, ATTR_UIDGID, CLOSE, EXTENDED, FSETSTAT, FSTAT, FXF_ALL,
    FXF_APPEND, FXF_CREAT, FXF_EXCL, FXF_READ, FXF_TRUNC, FXF_WRITE, Fields, LSTAT, MKDIR, OPEN, OPENDIR, READ,
    READDIR, READLINK, REALPATH, REMOVE, RENAME, RMDIR, SETSTAT, STAT, SYMLINK,
};
use super::path::{self, Named, excerpt, touch};

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// The greeting.
    Init,
    /// Opens a file.
    Open,
    /// Opens a directory.
    OpenDir,
    /// Closes a handle.
    Close,
    /// Reads from a handle.
    Read,
    /// Writes to a handle.
    Write,
    /// Lists through a handle.
    ReadDir,
    /// Any other request on a handle: attributes, sync, copy.
    OnHandle,
    /// Any other request that names paths, or nothing.
    OnPath,
    /// Not known.
    Opaque,
}

/// A status code of version 3 with which the gateway refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum Status {
    /// `SSH_FX_PERMISSION_DENIED`: policy, or a handle that isn't for that.
    PermissionDenied = 3,
    /// `SSH_FX_FAILURE`: a limit.
    Failure = 4,
    /// `SSH_FX_BAD_MESSAGE`: malformed.
    BadMessage = 5,
    /// `SSH_FX_OP_UNSUPPORTED`: never passed on.
    Unsupported = 8,
}

/// A request that the gateway refuses whatever policy says; it must not go upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forbidden {
    /// The status for the client.
    pub status: Status,
    /// Why, for people.
    pub why: &'static str,
}

impl Forbidden {
    pub(super) const fn new(status: Status, why: &'static str) -> Self {
        Self { status, why }
    }
}

/// How the file was asked to be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Directory,
    File { read: bool, write: bool, append: bool },
}

/// Which reply besides a status belongs to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Status,
    Name,
    Attrs,
    Extended,
    /// Anything but a greeting: it isn't known what was asked.
    Any,
}

/// A request, read. Handles are still the client's word for something.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Asked<'a> {
    Open {
        mode: Mode,
        path: Vec<u8>,
        operation: Operation,
    },
    Close {
        handle: &'a [u8],
    },
    Read {
        handle: &'a [u8],
        offset: u64,
        length: u32,
    },
    ReadDir {
        handle: &'a [u8],
    },
    /// Harmless on any handle.
    Look {
        handle: &'a [u8],
        answer: Answer,
    },
    Sync {
        handle: &'a [u8],
    },
    /// Changes attributes of an open file; the operation lacks its path.
    Attributes {
        handle: &'a [u8],
        operation: Operation,
    },
    Copy {
        from: &'a [u8],
        to: &'a [u8],
    },
    /// Complete in itself.
    Plain {
        operation: Option<Operation>,
        answer: Answer,
    },
    Opaque {
        operation: Operation,
    },
}

const MALFORMED: Forbidden = Forbidden::new(Status::BadMessage, "the request is malformed");

/// Reads a whole request of version 3 other than INIT and WRITE; `body` is what follows its id.
pub(super) fn read(kind: u8, body: &[u8]) -> Result<Asked<'_>, Forbidden> {
    if kind == EXTENDED {
        return extended(body);
    }
    known(kind, &mut Fields::new(body)).ok_or(MALFORMED).and_then(|asked| {
        asked.unwrap_or_else(|| {
            let why = format!("the SFTP request type {kind} is not known");
            Ok(Asked::Opaque { operation: Operation::opaque("file.opaque", why) })
        })
    })
}

/// `None`: malformed; `Some(None)`: no such kind.
type Known<'a> = Option<Option<Result<Asked<'a>, Forbidden>>>;

fn known<'a>(kind: u8, fields: &mut Fields<'a>) -> Known<'a> {
    let asked = match kind {
        OPEN => {
            let (path, flags, attributes) = (fields.path()?, fields.u32()?, Attributes::read(fields)?);
            fields.end()?;
            return Some(Some(open(path, flags, attributes)));
        }
        OPENDIR => {
            let path = fields.path()?;
            let operation = on("file.list", Access::Read, path);
            Asked::Open { mode: Mode::Directory, path: path.to_vec(), operation }
        }
        CLOSE => Asked::Close { handle: fields.handle()? },
        READ => Asked::Read { handle: fields.handle()?, offset: fields.u64()?, length: fields.u32()? },
        READDIR => Asked::ReadDir { handle: fields.handle()? },
        FSTAT => Asked::Look { handle: fields.handle()?, answer: Answer::Attrs },
        FSETSTAT => {
            let handle = fields.handle()?;
            let mut operation = operation("file.set_attributes");
            Attributes::read(fields)?.state(&mut operation);
            Asked::Attributes { handle, operation }
        }
        STAT => plain(on("file.stat", Access::Read, fields.path()?), Answer::Attrs),
        LSTAT => {
            let mut operation = on("file.stat", Access::Read, fields.path()?);
            operation.facts.insert("no-follow".to_owned());
            plain(operation, Answer::Attrs)
        }
        READLINK | REALPATH => plain(on("file.stat", Access::Read, fields.path()?), Answer::Name),
        SETSTAT => set_attributes(fields)?,
        REMOVE => plain(on("file.remove", Access::Write, fields.path()?), Answer::Status),
        RMDIR => {
            let mut operation = on("file.remove", Access::Write, fields.path()?);
            operation.facts.insert("directory".to_owned());
            plain(operation, Answer::Status)
        }
        MKDIR => {
            let mut operation = on("file.make_directory", Access::Write, fields.path()?);
            Attributes::read(fields)?.state_of_new(&mut operation);
            plain(operation, Answer::Status)
        }
        RENAME => plain(two("file.rename", fields.path()?, fields.path()?), Answer::Status),
        SYMLINK => {
            // OpenSSH's order, which is not the draft's: what the link says, then where it is.
            let (target, link) = (fields.path()?, fields.path()?);
            let mut operation = on("file.link", Access::Write, link);
            operation.facts.insert("symlink".to_owned());
            touch(&mut operation, Access::Write, beside(link, target));
            plain(operation, Answer::Status)
        }
        _ => return Some(None),
    };
    fields.end()?;
    Some(Some(Ok(asked)))
}

/// The requests that OpenSSH added. When adding one: say here which operation it is.
fn extended(body: &[u8]) -> Result<Asked<'_>, Forbidden> {
    let mut fields = Fields::new(body);
    let name = fields.string().ok_or(MALFORMED)?;
    match name {
        // Later versions give the same bytes other meanings, and this is how a client asks for one.
        b"version-select" => Err(Forbidden::new(Status::Unsupported, "only version 3 of SFTP is spoken here")),
        _ => match openssh(name, &mut fields) {
            Some(Some(asked)) => fields.end().map(|()| asked).ok_or(MALFORMED),
            Some(None) => {
                let why = format!("the SFTP extension `{}` is not known", excerpt(name));
                Ok(Asked::Opaque { operation: Operation::opaque("file.opaque", why) })
            }
            None => Err(MALFORMED),
        },
    }
}

fn openssh<'a>(name: &[u8], fields: &mut Fields<'a>) -> Option<Option<Asked<'a>>> {
    Some(Some(match name {
        b"posix-rename@openssh.com" => {
            let mut operation = two("file.rename", fields.path()?, fields.path()?);
            operation.facts.insert("overwrite".to_owned());
            plain(operation, Answer::Status)
        }
        b"hardlink@openssh.com" => {
            let mut operation = two("file.link", fields.path()?, fields.path()?);
            operation.facts.insert("hardlink".to_owned());
            plain(operation, Answer::Status)
        }
        b"statvfs@openssh.com" => plain(on("file.stat", Access::Read, fields.path()?), Answer::Extended),
        b"fstatvfs@openssh.com" => Asked::Look { handle: fields.handle()?, answer: Answer::Extended },
        b"fsync@openssh.com" => Asked::Sync { handle: fields.handle()? },
        b"lsetstat@openssh.com" => {
            let mut asked = set_attributes(fields)?;
            if let Asked::Plain { operation: Some(operation), .. } = &mut asked {
                operation.facts.insert("no-follow".to_owned());
            }
            asked
        }
        b"limits@openssh.com" => Asked::Plain { operation: None, answer: Answer::Extended },
        b"expand-path@openssh.com" => {
            plain(named("file.stat", Access::Read, path::name_with_tilde(fields.path()?)), Answer::Name)
        }
        b"home-directory" => {
            let home = [b"~", fields.path().filter(|user| !user.contains(&b'/'))?].concat();
            plain(named("file.stat", Access::Read, path::name_with_tilde(&home)), Answer::Name)
        }
        b"users-groups-by-id@openssh.com" => {
            let (users, groups) = (fields.string()?, fields.string()?);
            if users.len() % 4 != 0 || groups.len() % 4 != 0 {
                return None;
            }
            let mut operation = operation("file.stat");
            operation.facts.insert("account-names".to_owned());
            plain(operation, Answer::Extended)
        }
        b"copy-data" => {
            let (from, _, _) = (fields.handle()?, fields.u64()?, fields.u64()?);
            let (to, _) = (fields.handle()?, fields.u64()?);
            Asked::Copy { from, to }
        }
        _ => return Some(None),
    }))
}

fn open(path: &[u8], flags: u32, attributes: Attributes) -> Result<Asked<'_>, Forbidden> {
    if flags & !FXF_ALL != 0 {
        return Err(Forbidden::new(
            Status::Unsupported,
            "the open asks for something that version 3 of SFTP doesn't know",
        ));
    }
    // Without READ and WRITE, OpenSSH opens for reading, and Linux truncates even then.
    let write = flags & FXF_WRITE != 0;
    let read = flags & FXF_READ != 0 || !write;
    let changes = flags & (FXF_WRITE | FXF_APPEND | FXF_CREAT | FXF_TRUNC) != 0;
    let mut operation = operation(if changes { "file.write" } else { "file.read" });
    if changes {
        touch(&mut operation, Access::Write, path::name(path));
    }
    if read {
        touch(&mut operation, Access::Read, path::name(path));
    }
    for (flag, fact) in [(FXF_APPEND, "append"), (FXF_CREAT, "creat"), (FXF_TRUNC, "trunc"), (FXF_EXCL, "excl")] {
        if flags & flag != 0 {
            operation.facts.insert(fact.to_owned());
        }
    }
    if flags & FXF_CREAT != 0 {
        attributes.state_of_new(&mut operation);
    }
    let mode = Mode::File { read, write, append: flags & FXF_APPEND != 0 };
    Ok(Asked::Open { mode, path: path.to_vec(), operation })
}

fn set_attributes<'a>(fields: &mut Fields<'_>) -> Option<Asked<'a>> {
    let mut operation = on("file.set_attributes", Access::Write, fields.path()?);
    Attributes::read(fields)?.state(&mut operation);
    Some(plain(operation, Answer::Status))
}

fn plain<'a>(operation: Operation, answer: Answer) -> Asked<'a> {
    Asked::Plain { operation: Some(operation), answer }
}

fn on(action: &'static str, access: Access, path: &[u8]) -> Operation {
    named(action, access, path::name(path))
}

fn two(action: &'static str, one: &[u8], other: &[u8]) -> Operation {
    let mut operation = on(action, Access::Write, one);
    touch(&mut operation, Access::Write, path::name(other));
    operation
}

fn named(action: &'static str, access: Access, named: Named) -> Operation {
    let mut operation = operation(action);
    touch(&mut operation, access, named);
    operation
}

/// What a symbolic link at `link` that says `target` points to.
fn beside(link: &[u8], target: &[u8]) -> Named {
    if target.first() == Some(&b'/') {
        return path::name(target);
    }
    let trimmed = link.iter().rposition(|&byte| byte != b'/').map_or(&link[..0], |last| &link[..=last]);
    let directory = trimmed.iter().rposition(|&byte| byte == b'/').map_or(&link[..0], |slash| &link[..=slash]);
    path::name(&[directory, target].concat())
}

/// The attributes that a request sets.
#[derive(Debug, Clone, Copy)]
struct Attributes {
    flags: u32,
    permissions: u32,
}

impl Attributes {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let flags = fields.u32()?;
        if flags & !(ATTR_SIZE | ATTR_UIDGID | ATTR_PERMISSIONS | ATTR_TIMES | ATTR_EXTENDED) != 0 {
            return None;
        }
        let mut attributes = Self { flags, permissions: 0 };
        if flags & ATTR_SIZE != 0 {
            fields.u64()?;
        }
        if flags & ATTR_UIDGID != 0 {
            fields.u64()?;
        }
        if flags & ATTR_PERMISSIONS != 0 {
            attributes.permissions = fields.u32()?;
        }
        if flags & ATTR_TIMES != 0 {
            fields.u64()?;
        }
        if flags & ATTR_EXTENDED != 0 {
            for _ in 0..fields.u32()? {
                fields.string()?;
                fields.string()?;
            }
        }
        Some(attributes)
    }

    /// States what is changed.
    fn state(self, operation: &mut Operation) {
        if self.flags & ATTR_PERMISSIONS != 0 {
            operation.facts.insert("chmod".to_owned());
        }
        self.state_of_new(operation);
    }

    /// States what is set on something new; to have permissions is nothing special then.
    fn state_of_new(self, operation: &mut Operation) {
        let flags = [(ATTR_SIZE, "size"), (ATTR_UIDGID, "chown"), (ATTR_TIMES, "times"), (ATTR_EXTENDED, "extended")];
        for (flag, fact) in flags {
            if self.flags & flag != 0 {
                operation.facts.insert(fact.to_owned());
            }
        }
        // Of user or group: either gives the file's identity to whoever runs it.
        if self.permissions & 0o6000 != 0 {
            operation.facts.insert("setuid".to_owned());
        }
    }
}
