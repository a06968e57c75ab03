//! The only file that asks what time it is.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::domain::time::{Now, Timestamp};

/// The machine's clock. Cheap to copy; every copy counts from the same start.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started: Instant,
}

impl Clock {
    /// A clock whose monotonic time starts at zero now.
    #[must_use]
    pub fn start() -> Self {
        Self {
            started: Instant::now(),
        }
    }

    /// Both times at once.
    #[must_use]
    pub fn now(&self) -> Now {
        Now {
            wall: Self::wall(),
            mono_ms: u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
        }
    }

    /// The wall clock in nanoseconds since 1970, for traces.
    #[must_use]
    pub fn wall_ns() -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }

    /// The wall clock; an instant before 1970 counts as 1970.
    #[must_use]
    pub fn wall() -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}
