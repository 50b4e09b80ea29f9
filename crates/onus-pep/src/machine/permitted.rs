//! Bytes that may go upstream, and the only place that makes them.

use bytes::Bytes;

/// Bytes that may go upstream: they were permitted, and the journal has acknowledged their record; or they are the
/// protocol's own and fixed.
///
/// Only [`crate::Machine`] makes one, so a shell that writes nothing else upstream can't relay what was not decided
/// and recorded:
///
/// ```compile_fail
/// let smuggled = onus_pep::Permitted { bytes: bytes::Bytes::from_static(b"DROP TABLE orders") };
/// ```
/// ```compile_fail
/// let smuggled = onus_pep::Permitted::release(bytes::Bytes::from_static(b"DROP TABLE orders"));
/// ```
#[derive(Debug)]
pub struct Permitted {
    bytes: Bytes,
}

impl Permitted {
    // INVARIANT: called by the machine only, after permit and acknowledgement.
    pub(super) fn release(bytes: Bytes) -> Self {
        Self { bytes }
    }
    pub(super) fn own(bytes: &'static [u8]) -> Self {
        Self { bytes: Bytes::from_static(bytes) }
    }
    /// The bytes, to be written upstream as they are.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }
    /// The bytes, taken out.
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }
}
