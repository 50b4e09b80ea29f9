//! Waiting for something outside this process, by looking again and again. Deliberately no events, no back-off tuning:
//! tests wait for milliseconds, and a fixed short pause keeps their timing readable.

use std::time::{Duration, Instant};

use crate::KitError;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(10);

/// Looks until `look` gives something, at most for `patience`; it looks at least once.
///
/// `what` completes the sentence "… did not happen" of the error.
pub fn until<T>(patience: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> Result<T, KitError> {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return Ok(found);
        }
        if start.elapsed() >= patience {
            return Err(KitError::TimedOut { what: what.to_owned(), waited: patience, seen: String::new() });
        }
        std::thread::sleep(PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_until_there_is_something() {
        let mut looks = 0;
        let found = until(Duration::from_secs(5), "the third look", || {
            looks += 1;
            (looks == 3).then_some("here")
        });
        assert_eq!(found.unwrap(), "here");
        assert_eq!(looks, 3);
    }

    #[test]
    fn gives_up_and_says_what_for() {
        let err = until(Duration::ZERO, "the impossible", || None::<()>).unwrap_err();
        assert!(err.to_string().contains("the impossible did not happen"), "{err}");
    }
}
