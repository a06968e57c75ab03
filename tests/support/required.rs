//! What a test does when a program it needs is not on the machine.

use std::fmt::Display;

/// Says that `what` is missing and how to get it, so that the caller can leave its test.
///
/// # Panics
/// Under `CI=true`: there nothing may be left untested.
pub fn missing(what: &str, mend: &str, error: impl Display) {
    assert!(
        std::env::var("CI").as_deref() != Ok("true"),
        "{what} is needed under CI=true ({error}): {mend}"
    );
    eprintln!("not tested, for want of {what} ({error}): {mend}");
}
