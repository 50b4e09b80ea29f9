//! The numbers of SFTP version 3 (draft-ietf-secsh-filexfer-02) and its elementary fields.

/// The longest packet that OpenSSH's server takes (`SFTP_MAX_MSG_LENGTH`), without its length field.
pub(super) const MAX_REQUEST: usize = 256 * 1024;
/// The longest packet taken from an upstream; only its head is ever held, so this merely catches nonsense.
pub(super) const MAX_REPLY: usize = 16 * 1024 * 1024;
/// The longest handle that the draft allows.
pub(super) const MAX_HANDLE: usize = 256;
/// The longest path taken: Linux' `PATH_MAX` without its NUL.
pub(super) const MAX_PATH: usize = 4095;

pub(super) const INIT: u8 = 1;
pub(super) const VERSION: u8 = 2;
pub(super) const OPEN: u8 = 3;
pub(super) const CLOSE: u8 = 4;
pub(super) const READ: u8 = 5;
pub(super) const WRITE: u8 = 6;
pub(super) const LSTAT: u8 = 7;
pub(super) const FSTAT: u8 = 8;
pub(super) const SETSTAT: u8 = 9;
pub(super) const FSETSTAT: u8 = 10;
pub(super) const OPENDIR: u8 = 11;
pub(super) const READDIR: u8 = 12;
pub(super) const REMOVE: u8 = 13;
pub(super) const MKDIR: u8 = 14;
pub(super) const RMDIR: u8 = 15;
pub(super) const REALPATH: u8 = 16;
pub(super) const STAT: u8 = 17;
pub(super) const RENAME: u8 = 18;
pub(super) const READLINK: u8 = 19;
pub(super) const SYMLINK: u8 = 20;
pub(super) const STATUS: u8 = 101;
pub(super) const HANDLE: u8 = 102;
pub(super) const DATA: u8 = 103;
pub(super) const NAME: u8 = 104;
pub(super) const ATTRS: u8 = 105;
pub(super) const EXTENDED: u8 = 200;
pub(super) const EXTENDED_REPLY: u8 = 201;

pub(super) const FX_OK: u32 = 0;
pub(super) const FX_EOF: u32 = 1;

pub(super) const FXF_READ: u32 = 1;
pub(super) const FXF_WRITE: u32 = 2;
pub(super) const FXF_APPEND: u32 = 4;
pub(super) const FXF_CREAT: u32 = 8;
pub(super) const FXF_TRUNC: u32 = 16;
pub(super) const FXF_EXCL: u32 = 32;
pub(super) const FXF_ALL: u32 = 63;

pub(super) const ATTR_SIZE: u32 = 1;
pub(super) const ATTR_UIDGID: u32 = 2;
pub(super) const ATTR_PERMISSIONS: u32 = 4;
pub(super) const ATTR_TIMES: u32 = 8;
pub(super) const ATTR_EXTENDED: u32 = 0x8000_0000;

/// The fields of a packet, read from the front.
pub(super) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(super) fn new(rest: &'a [u8]) -> Self {
        Self { rest }
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(taken)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        Some(u64::from_be_bytes(self.take(8)?.try_into().ok()?))
    }

    pub(super) fn string(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.u32()?).ok()?;
        self.take(length)
    }

    /// A path. A NUL would end it early for the other side, so there may be none, not even at the end.
    pub(super) fn path(&mut self) -> Option<&'a [u8]> {
        self.string().filter(|path| path.len() <= MAX_PATH && !path.contains(&0))
    }

    pub(super) fn handle(&mut self) -> Option<&'a [u8]> {
        self.string().filter(|handle| handle.len() <= MAX_HANDLE)
    }

    /// Nothing is left: what follows a request's last field may mean something to somebody.
    pub(super) fn end(&self) -> Option<()> {
        self.rest.is_empty().then_some(())
    }
}

/// The big-endian number at the place.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}
