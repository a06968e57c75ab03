//! Ends of tries that wait for the next commit. They come by the ten thousand a second, and waking the committer for
//! each would cost more than all else it does for them: so only the first one wakes it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::store::{NewAttempt, Settle};

/// Settled deliveries in one commit; past it they wait no longer.
pub const SETTLES_MAX: usize = 2048;

/// What the next commit settles.
#[derive(Debug, Default)]
pub struct Settled {
    /// Moves of deliveries.
    pub settles: Vec<Settle>,
    /// The tries that led to them, for the log.
    pub attempts: Vec<NewAttempt>,
}

/// The ends that wait.
#[derive(Debug, Default)]
pub struct Settles(Mutex<Settled>);

impl Settles {
    fn lock(&self) -> MutexGuard<'_, Settled> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds one; returns whether the committer has to hear of it.
    pub fn add(&self, settle: Settle, attempt: Option<NewAttempt>) -> bool {
        let mut waiting = self.lock();
        waiting.settles.push(settle);
        waiting.attempts.extend(attempt);
        waiting.settles.len() == 1 || waiting.settles.len() == SETTLES_MAX
    }

    /// How many deliveries they settle.
    pub fn len(&self) -> usize {
        self.lock().settles.len()
    }

    /// All of them, for a commit. The next ones find as much room as these have taken.
    pub fn take(&self) -> Settled {
        let room = self.len();
        let next = Settled {
            settles: Vec::with_capacity(room),
            attempts: Vec::with_capacity(room),
        };
        std::mem::replace(&mut *self.lock(), next)
    }
}
