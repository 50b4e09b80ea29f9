//! The port for small values that change: password hashes, sealed credentials, enrolment codes.
//!
//! Deliberately knows no encryption: a value is sealed by the caller before it comes here, and a
//! store may show it to whoever can read its files. What someone may be held to belongs in the
//! ledger and not here.

use crate::fault::StoreFault;

/// What became of a compare-and-swap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Swap {
    /// The value was as expected and is now the new one.
    Swapped,
    /// The value was not as expected and stays what it is.
    Differs,
}

/// A place that keeps sealed values by kind and name.
///
/// Kinds and names are any strings, told apart byte by byte; they are stored in clear, so a
/// secret must not be one (for a single-use code: its hash). Several handles may be open; each
/// call is atomic among them all and durable when it returns.
pub trait VaultStore: Send {
    /// Keeps a value, in place of any former one.
    fn put(&mut self, kind: &str, name: &str, value: &[u8]) -> Result<(), StoreFault>;

    /// The value, if there is one.
    fn fetch(&self, kind: &str, name: &str) -> Result<Option<Vec<u8>>, StoreFault>;

    /// Removes the value; says whether there was one.
    fn remove(&mut self, kind: &str, name: &str) -> Result<bool, StoreFault>;

    /// The names of one kind, in byte order.
    fn names(&self, kind: &str) -> Result<Vec<String>, StoreFault>;

    /// Removes the value and returns it, in one step: of all who ask, one gets it.
    ///
    /// The value is returned only after its removal is durable, so a single-use code never works
    /// twice. After a fault it may be gone without anybody having had it.
    fn take(&mut self, kind: &str, name: &str) -> Result<Option<Vec<u8>>, StoreFault>;

    /// Keeps `new` if the value is `expected` (`None`: if there is none).
    ///
    /// After a fault, fetch to learn which it was.
    fn compare_and_swap(
        &mut self,
        kind: &str,
        name: &str,
        expected: Option<&[u8]>,
        new: &[u8],
    ) -> Result<Swap, StoreFault>;
}
