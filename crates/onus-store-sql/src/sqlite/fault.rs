//! SQLite's errors as store faults.
//!
//! SQLite names tables, columns and statements in its texts and never values, so its error may be
//! carried as the cause.

use onus_store::{FaultSource, Part, StoreFault};
use rusqlite::{Error, ErrorCode};

/// Says what was attempted, where an SQLite call may fail.
pub(super) trait Attempt<T> {
    /// It was an attempt to read `part`.
    fn reading(self, part: Part) -> Result<T, StoreFault>;

    /// It was an attempt to write `part`.
    fn writing(self, part: Part) -> Result<T, StoreFault>;

    /// It was an attempt to open the store at `place`.
    fn opening(self, place: &str) -> Result<T, StoreFault>;
}

impl<T> Attempt<T> for Result<T, Error> {
    fn reading(self, part: Part) -> Result<T, StoreFault> {
        self.map_err(|error| named(error, part, |source| StoreFault::Read { part, source }))
    }

    fn writing(self, part: Part) -> Result<T, StoreFault> {
        self.map_err(|error| named(error, part, |source| StoreFault::Write { part, source }))
    }

    fn opening(self, place: &str) -> Result<T, StoreFault> {
        let open = |source| StoreFault::Open { place: place.to_owned(), source };
        self.map_err(|error| named(error, Part::Schema, open))
    }
}

/// Damage that SQLite did not see.
pub(super) fn corrupt(part: Part, found: &str) -> StoreFault {
    let source = found.into();
    StoreFault::Corrupt { part, source }
}

/// A fault with a name of its own where people would act on it, else `otherwise`.
fn named(error: Error, part: Part, otherwise: impl FnOnce(FaultSource) -> StoreFault) -> StoreFault {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreFault::Locked { part },
        Some(ErrorCode::DiskFull) => StoreFault::Full { part },
        Some(ErrorCode::ReadOnly) => StoreFault::ReadOnly { part },
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            let source = error.into();
            StoreFault::Corrupt { part, source }
        }
        Some(_) => otherwise(error.into()),
        // A column that holds what this store never writes there.
        None if matches!(
            error,
            Error::FromSqlConversionFailure(..)
                | Error::IntegralValueOutOfRange(..)
                | Error::InvalidColumnType(..)
                | Error::Utf8Error(..)
        ) =>
        {
            let source = error.into();
            StoreFault::Corrupt { part, source }
        }
        None => otherwise(error.into()),
    }
}
